//! What reaches the gate and what it wants done: the only words the two machines and io share.

use super::event::{Event, Settled};
use super::lane::Lane;
use super::partner::{HostPort, LinkId, Protocol, Side};
use super::peer::Evidence;
use super::record::{Record, RecordId};
use super::time::Time;
use super::{reject, settings};
use crate::wire::address::Domain;
use crate::wire::certificate::Chain;
use crate::wire::sip;
use crate::wire::xmpp::{Stanza, StreamError};
use bytes::Bytes;
use std::net::SocketAddr;
use std::sync::Arc;

/// What reaches the gate.
#[derive(Debug)]
pub enum Input {
    /// A connection is ready for messages, or has proven one more pair of domains (XMPP).
    Proven(Box<Proven>),
    /// A whole message came in.
    Received {
        /// On which link.
        link: LinkId,
        /// When its last byte was read.
        at: Time,
        /// What.
        message: Incoming,
    },
    /// A node wants to hear that its stanzas are handled (XEP-0198 §4): all that came on this link before this input.
    AckAsked {
        /// On which link.
        link: LinkId,
        /// How many they are, modulo 2³².
        handled: u32,
    },
    /// The other end has taken what was sent with these receipts (XEP-0198 §4).
    Taken {
        /// On which link.
        link: LinkId,
        /// In the order of sending.
        receipts: Vec<u64>,
    },
    /// A connection ended, whoever ended it. The last input of a link.
    Closed {
        /// Which.
        link: LinkId,
        /// Why, for people.
        cause: String,
    },
    /// [`Output::Connect`] came to nothing.
    Unreachable {
        /// What was to be reached.
        hop: HopId,
        /// Why, for people: every address tried and what it said.
        cause: String,
        /// Whether somebody was there who did not prove to be the partner.
        unproven: bool,
    },
    /// A connection was refused before any message: TLS or stream negotiation failed for a reason of ours.
    Refused {
        /// Where it was accepted.
        side: Side,
        /// Of which protocol.
        protocol: Protocol,
        /// The other end.
        peer: SocketAddr,
        /// The domain it spoke for, if known by then.
        domain: Option<String>,
        /// The refusal.
        reject: reject::Reject,
        /// Its ID, when the link already told the peer one.
        id: Option<reject::DecisionId>,
    },
    /// A record kept before the restart. All of them come before anything else.
    Restored(Record),
    /// New settings; taken whole.
    Reload(Box<settings::Settings>),
    /// Stop: refuse new sessions, end IM sessions, settle what is under way. [`Gate::is_drained`] says when it is done.
    Drain {
        /// Nobody goes on from what was kept: every subscription is ended too, so that its watcher comes back at once.
        last: bool,
    },
    /// The time of [`Gate::poll_timeout`] has come.
    Timeout,
    /// What is to be kept can't be (why), or can again: until then no session begins.
    StoreTrouble(Option<String>),
}

/// A message as a link hands it on.
#[derive(Debug)]
#[allow(clippy::large_enum_variant)] // moved once; a box would be an allocation a message
pub enum Incoming {
    /// A SIP message, framed but not yet checked.
    Sip(sip::Message),
    /// Bytes that can't be a SIP message.
    BadSip {
        /// As far as it could be read.
        message: Option<sip::Message>,
        /// What is wrong.
        fault: sip::Fault,
        /// The link can read nothing further.
        fatal: bool,
    },
    /// A stanza.
    Stanza(Stanza),
}

/// What a link has proven.
#[derive(Debug)]
pub struct Proven {
    /// The link.
    pub link: LinkId,
    /// Its side.
    pub side: Side,
    /// The other end's address.
    pub peer: SocketAddr,
    /// Set when this link is the outcome of [`Output::Connect`].
    pub hop: Option<HopId>,
    /// The node on whose `public_port` it came in.
    pub door: Option<String>,
    /// How.
    pub proof: Proof,
}

/// The facts of a proof.
#[derive(Debug)]
pub enum Proof {
    /// A SIP connection: over TLS with this chain, or (inside only) in the clear.
    Sip {
        /// The peer's certificate chain.
        chain: Option<Arc<Chain>>,
        /// The host name we connected to, when it was us and it was a name; and whether an administrator typed it.
        dialled: Option<(String, bool)>,
        /// Whether there are other addresses that we could have connected to.
        others: bool,
    },
    /// An XMPP stream that may now carry stanzas from `from` to `to`. Stream negotiation has judged the proof by its settings.
    Xmpp {
        /// Sending domain of stanzas on this stream.
        from: Domain,
        /// Receiving domain.
        to: Domain,
        /// Whether we opened the stream (then we send on it, else we receive).
        ours: bool,
        /// Whether stanzas flow the other way, too (XEP-0288).
        both_ways: bool,
        /// Whether the other end acknowledges what we send ([`Input::Taken`], XEP-0198).
        managed: bool,
        /// Who is at the other end.
        other: Other,
    },
    /// A component stream of ours (XEP-0114): stanzas both ways between the partner domain and every domain of the node.
    XmppComponent {
        /// The node's name.
        node: String,
        /// The partner domain.
        domain: Domain,
    },
}

/// Who is at the other end of an XMPP stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Other {
    /// An inside node, by its name.
    Node(String),
    /// A partner's server, and what it has shown for the domain it speaks for.
    Partner(Evidence),
}

/// Something the gate wants connected: one for each (partner, identity), SIP node, (node, pair of domains), (node, component domain) or pair of a
/// local and a partner's domain.
/// Chosen by the gate.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct HopId(pub u64);

/// Where [`Output::Connect`] leads.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Target {
    /// A SIP partner over mutual TLS: `next_hop`, or static records and SRV `_sipfederationtls._tcp`, `_sips._tcp` of `domain`, its addresses.
    SipPartner {
        /// The partner's domain, to be found.
        domain: Domain,
        /// What the administrator typed instead.
        next_hop: Option<HostPort>,
        /// Index of the identity whose certificate we show.
        identity: usize,
        /// Addresses to be tried last: they said lately that they can't, or nothing at all.
        avoid: Vec<SocketAddr>,
    },
    /// A SIP connection to an inside node.
    SipNode {
        /// The node's name.
        node: String,
        /// Where it listens.
        address: HostPort,
        /// The name its certificate must carry; `None`: in the clear.
        tls_name: Option<String>,
    },
    /// An XMPP stream to an inside node, in the name of a partner domain.
    XmppNode {
        /// The node's name.
        node: String,
        /// Where it listens.
        address: HostPort,
        /// The partner domain we speak for.
        from: Domain,
        /// The local domain.
        to: Domain,
    },
    /// An XMPP stream to a partner's server: `next_hop`, or static records and SRV `_xmpps-server._tcp`, `_xmpp-server._tcp` of `find`, its addresses.
    XmppPartner {
        /// The domain to be found: the partner's own, where a clearing house is the way to `to`.
        find: Domain,
        /// What the administrator typed instead.
        next_hop: Option<HostPort>,
        /// The local domain we speak for.
        from: Domain,
        /// The partner's domain.
        to: Domain,
        /// Index of the identity whose certificate we show.
        identity: usize,
    },
    /// A component stream to an inside node, as a partner domain (XEP-0114).
    XmppComponent {
        /// The node's name.
        node: String,
        /// Where it accepts components.
        address: HostPort,
        /// The partner domain.
        domain: Domain,
    },
}

/// What the gate wants done.
#[derive(Debug)]
pub enum Output {
    /// Write these bytes, whole and in order.
    Send {
        /// On which link.
        link: LinkId,
        /// One message or stanza.
        bytes: Bytes,
        /// When the message this carries on was received whole, and which way it goes: for `transit_seconds`.
        transit: Option<(Time, Path)>,
        /// What it waits for.
        lane: Lane,
        /// Comes back in [`Input::Taken`] when the other end has acknowledged it, where it does so.
        receipt: Option<u64>,
    },
    /// Open a connection; answered by [`Input::Proven`] with this hop, or [`Input::Unreachable`].
    Connect {
        /// Its name in the answer.
        hop: HopId,
        /// Where to.
        target: Target,
    },
    /// End a link after what was sent is flushed; answered by [`Input::Closed`].
    Close {
        /// Which.
        link: LinkId,
        /// The stream error to send first (XMPP) and its text.
        error: Option<(StreamError, String)>,
    },
    /// Remember; a barrier: later sends of its lane wait until it is committed.
    Keep {
        /// Whose sends wait.
        lane: Lane,
        /// What.
        record: Box<Record>,
    },
    /// No longer remember; what acknowledges the end waits for it in its lane.
    Forget {
        /// See [`Output::Send`].
        lane: Lane,
        /// Which.
        id: RecordId,
    },
    /// A message or request has ended: the event that comes with each, and so without a box.
    Settled(Settled),
    /// Something happened; log line, metric and audit are derived from it.
    Event(Box<Event>),
}

/// Which way a message crosses.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[allow(missing_docs)]
pub enum Path {
    SipSip,
    XmppXmpp,
    SipXmpp,
    XmppSip,
}
