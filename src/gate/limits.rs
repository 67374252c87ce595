//! Every bound of the two machines, in one place: queues, tables, frames, depths and waits.

use std::time::Duration;

/// The shape of XML, which `wire` must know by itself.
pub use crate::wire::xmpp::{XML_ATTRIBUTES, XML_DEPTH, XML_NAMESPACES};

/// Start line and headers of a SIP message when the configuration says nothing, in bytes.
pub const SIP_HEAD_BYTES: usize = 65_536;
/// One stanza after proof when the configuration says nothing, in bytes.
pub const STANZA_BYTES: usize = 262_144;
/// One stream element before proof, in bytes.
pub const STANZA_BYTES_BEFORE_PROOF: usize = 10_000;
/// Elements accepted before proof.
pub const ELEMENTS_BEFORE_PROOF: usize = 32;
/// Pairs of domains that one accepted XMPP stream may have proven or under way.
pub const PAIRS_PER_STREAM: usize = 256;
/// How long a stream opened to have a dialback key verified may take.
pub const VERIFY_WITHIN: Duration = Duration::from_secs(10);
/// How long the peer may take to answer `</stream:stream>` (RFC 6120 §4.4).
pub const STREAM_END_WITHIN: Duration = Duration::from_secs(5);
/// White space is sent on a proven stream after this much silence of ours (RFC 6120 §4.6.1).
pub const STREAM_KEEPALIVE: Duration = Duration::from_secs(300);
/// Header rows of one SIP message.
pub const SIP_HEADERS: usize = 512;
/// RFC 3261 §17.1.1.1: estimate of the round trip.
pub const T1: Duration = Duration::from_millis(500);
/// RFC 3261 §17.1.2.2: longest retransmission interval; Timer E reaches it after 3.5 s.
pub const T2: Duration = Duration::from_secs(4);
/// RFC 4320 §4.1: when a non-INVITE request without a final answer gets its 100.
pub const TRYING_AFTER: Duration = Duration::from_millis(3_500);
/// RFC 4320 §4.2: a non-INVITE request is answered before this, or not at all.
pub const SETTLE_WITHIN: Duration = Duration::from_secs(28);
/// RFC 3261 §17.1.2.2: Timer F, 64·T1.
pub const TIMER_F: Duration = Duration::from_secs(32);

/// Bounds that the configuration sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Start line and headers.
    pub sip_head_bytes: usize,
    /// One stanza, after proof.
    pub stanza_bytes: usize,
    /// TLS handshake.
    pub handshake: Duration,
    /// From accept to proven.
    pub negotiation: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            sip_head_bytes: SIP_HEAD_BYTES,
            stanza_bytes: STANZA_BYTES,
            handshake: Duration::from_secs(10),
            negotiation: Duration::from_secs(30),
        }
    }
}
