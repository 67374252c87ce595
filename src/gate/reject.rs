//! Every refusal: one row of the contract's table for each reason, answered in one place.

use crate::wire::address::BadAddress;
use crate::wire::sip::Fault;
use crate::wire::xmpp::{Condition, ErrorType, StanzaError, StreamError};
use std::fmt;

/// Names one decision, in the reply, the log, the audit and the status page. Ten characters of Crockford base32.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DecisionId([u8; 10]);

/// Why something was refused. The label is the metric's and stands in every answer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Reason {
    /// No partner entry.
    UnlistedDomain,
    /// The peer has not proven the domain it speaks for.
    Unproven,
    /// Direction, action or network.
    NotAllowed,
    /// A rule refuses.
    Rule,
    /// A budget is spent.
    RateLimited,
    /// Body, header or stanza bound.
    TooLarge,
    /// Cannot be understood.
    Malformed,
    /// Method, media, type, extension.
    Unsupported,
    /// An address with two readings.
    AmbiguousAddress,
    /// The node says so.
    UnknownUser,
    /// Not for one of our domains, or a route through us to elsewhere.
    RelayDenied,
    /// Loop or hop limit.
    Loop,
    /// No inside node can take it.
    NoNode,
    /// Our own bound.
    Overloaded,
    /// The next hop did not answer.
    Timeout,
    /// It may or may not have arrived.
    Uncertain,
}

/// A refusal: the reason, and the SIP status where its row offers several.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reject {
    /// The table's row.
    pub reason: Reason,
    /// The SIP status to answer.
    pub status: u16,
    /// What an operator reads in the log and audit; names things of the inside, so it never leaves.
    pub detail: String,
    /// Headers the status demands (`Allow`, `Accept`, `Unsupported`, `Retry-After`, …).
    pub headers: Vec<(&'static str, String)>,
}

impl Reason {
    /// All, in the table's order.
    pub const ALL: [Reason; 16] = [
        Reason::UnlistedDomain,
        Reason::Unproven,
        Reason::NotAllowed,
        Reason::Rule,
        Reason::RateLimited,
        Reason::TooLarge,
        Reason::Malformed,
        Reason::Unsupported,
        Reason::AmbiguousAddress,
        Reason::UnknownUser,
        Reason::RelayDenied,
        Reason::Loop,
        Reason::NoNode,
        Reason::Overloaded,
        Reason::Timeout,
        Reason::Uncertain,
    ];

    /// The label.
    pub fn as_str(self) -> &'static str {
        self.row().0
    }

    /// One row of the contract's table: label, usual SIP status, XMPP condition, its type, what a person reads.
    fn row(self) -> (&'static str, u16, Condition, ErrorType, &'static str) {
        use Condition as C;
        use ErrorType::{Cancel, Modify, Wait};
        match self {
            Reason::UnlistedDomain => {
                ("unlisted-domain", 403, C::PolicyViolation, Cancel, "no federation with this domain")
            }
            Reason::Unproven => ("unproven", 403, C::NotAuthorized, Cancel, "the domain is not proven"),
            Reason::NotAllowed => ("not-allowed", 403, C::PolicyViolation, Cancel, "not allowed between these domains"),
            Reason::Rule => ("rule", 403, C::PolicyViolation, Cancel, "refused by policy"),
            Reason::RateLimited => ("rate-limited", 503, C::ResourceConstraint, Wait, "too much at once"),
            Reason::TooLarge => ("too-large", 413, C::PolicyViolation, Modify, "too large"),
            Reason::Malformed => ("malformed", 400, C::BadRequest, Modify, "cannot be understood"),
            Reason::Unsupported => ("unsupported", 501, C::FeatureNotImplemented, Cancel, "not supported here"),
            Reason::AmbiguousAddress => {
                ("ambiguous-address", 485, C::JidMalformed, Modify, "the address has two readings")
            }
            Reason::UnknownUser => ("unknown-user", 404, C::ItemNotFound, Cancel, "no such user"),
            Reason::RelayDenied => ("relay-denied", 403, C::ItemNotFound, Cancel, "not for a domain served here"),
            Reason::Loop => ("loop", 482, C::UndefinedCondition, Cancel, "loop"),
            Reason::NoNode => ("no-node", 503, C::RecipientUnavailable, Wait, "no server can take it now"),
            Reason::Overloaded => ("overloaded", 503, C::ResourceConstraint, Wait, "overloaded"),
            Reason::Timeout => ("timeout", 504, C::RemoteServerTimeout, Wait, "the next hop did not answer"),
            Reason::Uncertain => ("uncertain", 504, C::RemoteServerTimeout, Wait, "it may or may not have arrived"),
        }
    }

    /// The stream error for a refusal that concerns the whole stream.
    pub fn stream_error(self) -> StreamError {
        match self {
            Reason::Unproven => StreamError::NotAuthorized,
            Reason::RelayDenied => StreamError::HostUnknown,
            Reason::Malformed => StreamError::NotWellFormed,
            Reason::Overloaded | Reason::RateLimited | Reason::NoNode => StreamError::ResourceConstraint,
            Reason::TooLarge => StreamError::StanzaTooBig,
            _ => StreamError::PolicyViolation,
        }
    }
}

impl Reject {
    /// With the row's usual status.
    pub fn new(reason: Reason, detail: impl Into<String>) -> Self {
        let headers = match reason {
            // RFC 3261 §20.33: tell when to come back, so that the partner's whole edge is not marked down.
            Reason::RateLimited | Reason::NoNode | Reason::Overloaded => {
                vec![("Retry-After", "30".to_owned())]
            }
            _ => Vec::new(),
        };
        Self { reason, status: reason.row().1, detail: detail.into(), headers }
    }

    /// With another status of the same row.
    pub fn with_status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    /// With a header that the status demands.
    pub fn with_header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// The Warning value of a SIP answer.
    pub fn warning(&self, hostname: &str, id: DecisionId) -> String {
        format!("399 {hostname} \"{}\"", self.text(id))
    }

    /// What every answer says: never a rule's name, an address or a node of the inside.
    pub fn text(&self, id: DecisionId) -> String {
        let (label, _, _, _, words) = self.reason.row();
        format!("fedgate {id} {label} {words}")
    }

    /// The stanza error of an XMPP answer.
    pub fn stanza_error(&self, id: DecisionId) -> StanzaError {
        let (_, _, condition, type_, _) = self.reason.row();
        StanzaError { condition, type_, text: Some(self.text(id)), address: None }
    }
}

impl From<BadAddress> for Reject {
    fn from(bad: BadAddress) -> Self {
        Reject::new(Reason::Malformed, bad.to_string())
    }
}

impl From<Fault> for Reject {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Malformed(what) => Reject::new(Reason::Malformed, what),
            Fault::Version => Reject::new(Reason::Malformed, fault.to_string()).with_status(505),
            Fault::Scheme => Reject::new(Reason::Unsupported, fault.to_string()).with_status(416),
            Fault::HeadTooLarge => Reject::new(Reason::TooLarge, fault.to_string()).with_status(513),
            Fault::BodyTooLarge => Reject::new(Reason::TooLarge, fault.to_string()),
        }
    }
}

impl DecisionId {
    /// From 50 random bits.
    pub fn from_bits(mut bits: u64) -> Self {
        const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
        let mut text = [0u8; 10];
        for c in &mut text {
            *c = ALPHABET[(bits & 31) as usize];
            bits >>= 5;
        }
        Self(text)
    }
    /// The ten characters.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Display for DecisionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
impl fmt::Debug for DecisionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
