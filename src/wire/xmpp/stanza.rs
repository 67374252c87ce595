//! Stanzas: message, presence, iq (RFC 6120 §8), their errors, and the ones fedgate writes.

use super::element::Element;
use super::stream::StreamError;
use crate::wire::address::{BadAddress, Jid};
use bytes::Bytes;

/// The three stanza kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Kind {
    Message,
    Presence,
    Iq,
}

/// A received stanza. `raw` is kept so that an untouched one can be relayed byte for byte.
#[derive(Debug, Clone)]
pub struct Stanza {
    /// As received.
    pub raw: Bytes,
    /// Which of the three.
    pub kind: Kind,
    /// From; `Err` if present and not a JID; `Ok(None)` if absent.
    pub from: Result<Option<Jid>, BadAddress>,
    /// To.
    pub to: Result<Option<Jid>, BadAddress>,
    /// The id as written.
    pub id: Option<String>,
    /// The `type` attribute as written.
    pub type_: Option<String>,
    /// The whole tree.
    pub element: Element,
}

/// A stanza error's type (RFC 6120 §8.3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum ErrorType {
    Auth,
    Cancel,
    Continue,
    Modify,
    Wait,
}

/// A defined condition (RFC 6120 §8.3.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Condition {
    BadRequest,
    Conflict,
    FeatureNotImplemented,
    Forbidden,
    Gone,
    InternalServerError,
    ItemNotFound,
    JidMalformed,
    NotAcceptable,
    NotAllowed,
    NotAuthorized,
    PolicyViolation,
    RecipientUnavailable,
    Redirect,
    RegistrationRequired,
    RemoteServerNotFound,
    RemoteServerTimeout,
    ResourceConstraint,
    ServiceUnavailable,
    SubscriptionRequired,
    UndefinedCondition,
    UnexpectedRequest,
}

/// A stanza error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StanzaError {
    /// The condition.
    pub condition: Condition,
    /// Its type.
    pub type_: ErrorType,
    /// `<text/>`.
    pub text: Option<String>,
    /// The new address in `<gone/>` or `<redirect/>`.
    pub address: Option<String>,
}

impl Stanza {
    /// Reads a stream child. `Ok(None)`: well-formed but not a stanza of `default_ns`.
    pub fn parse(raw: Bytes, default_ns: &str) -> Result<Option<Self>, StreamError> {
        todo!()
    }
    /// The error reply to this stanza (RFC 6120 §8.3.1): same kind and id, from and to swapped, no payload echoed. `None` if this is itself
    /// an error or an iq result.
    pub fn error_reply(&self, error: &StanzaError) -> Option<Element> {
        todo!()
    }
    /// The error this stanza carries, if its type is `error`.
    pub fn error(&self) -> Option<StanzaError> {
        todo!()
    }
}

impl Condition {
    /// The element name.
    pub fn as_str(self) -> &'static str {
        todo!()
    }
    /// From an element name; unknown ones read as undefined-condition.
    pub fn from_name(name: &str) -> Self {
        todo!()
    }
}

impl StanzaError {
    /// `<error type='…'>…</error>` in the stanza's namespace.
    pub fn to_element(&self, stanza_ns: &str) -> Element {
        todo!()
    }
    /// Reads an `<error/>` element.
    pub fn from_element(element: &Element) -> Self {
        todo!()
    }
}
