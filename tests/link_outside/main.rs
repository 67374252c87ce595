//! Streams from and to partners' XMPP servers: who is believed, by what, and who is not.

#[allow(dead_code)] // not all of it is needed here
#[path = "../support/pki.rs"]
mod pki;
#[path = "../support/xmpp.rs"]
mod support;

mod accepted;
mod acknowledged;
mod both_ways;
mod certificates;
mod ladder;
mod opened;
mod properties;
mod samples;
mod spoofing;
mod stand;
mod time;
