//! fedgate between real peers: inside a Prosody or an ejabberd with slixmpp clients, or Kamailios with baresips; outside a Microsoft-shaped SIP
//! partner, a Kamailio with a baresip behind it, or a Prosody or an ejabberd, over mutual TLS.
//!
//! Each test raises a stand of its own on loopback addresses of its own (see [`stand`]), drives both ends, and reads
//! fedgate's answers, log, audit and admin listener. What the stand needs (Prosody, ejabberd, dnsmasq, slixmpp, openssl, Kamailio, baresip, sipsak, a release build
//! of fedgate) may be absent: the test then says on one line what is missing and passes, unless `FEDGATE_REQUIRE_PEERS` is set.
//! `tests/run` installs and builds everything first.

mod acknowledged;
mod client;
mod component;
mod desk;
mod fedgate;
mod kamailio;
mod messages;
mod operation;
mod partner;
mod peers;
mod phone;
mod pki;
mod presence;
mod process;
mod prosody;
mod refusals;
mod relay;
mod relay_nodes;
mod relay_stand;
mod resolver;
mod restart;
mod server;
mod sessions;
mod sip_client;
mod stand;
mod xmpp;
mod xmpp_failures;
mod xmpp_hostile;
mod xmpp_server;
mod xmpp_stand;
mod xmpp_stream;
