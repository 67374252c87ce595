//! Stanzas: message, presence, iq (RFC 6120 §8), their errors, and the ones fedgate writes.

use super::element::{Element, Scope};
use super::stream::StreamError;
use super::{NS_PING, NS_SERVER, NS_STANZA_ERRORS};
use crate::wire::address::{BadAddress, Domain, Jid};
use bytes::Bytes;
use std::fmt::Display;

/// The three stanza kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Kind {
    Message,
    Presence,
    Iq,
}

/// A received stanza. `raw` is kept so that an untouched one can be relayed byte for byte.
///
/// A stanza that leans on prefixes declared in its stream's header means nothing on another stream: its `raw` is printed anew.
#[derive(Debug, Clone)]
pub struct Stanza {
    /// As received; whole in itself on a stream with the same default namespace.
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

impl Kind {
    /// The element name.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Message => "message",
            Kind::Presence => "presence",
            Kind::Iq => "iq",
        }
    }
}

impl Stanza {
    /// Reads a stream child. `Ok(None)`: well-formed but not a stanza of `default_ns`.
    pub fn parse(raw: Bytes, default_ns: &str) -> Result<Option<Self>, StreamError> {
        Self::parse_in(raw, &Scope::of(default_ns), default_ns)
    }

    /// As [`Stanza::parse`], where the header declared prefixes too; `ns` is the stanzas' namespace (RFC 6120 §4.8.2).
    pub fn parse_in(raw: Bytes, scope: &Scope, ns: &str) -> Result<Option<Self>, StreamError> {
        Ok(Self::read(raw, scope, ns)?.ok())
    }

    /// A stanza, or else the element.
    pub(super) fn read(raw: Bytes, scope: &Scope, ns: &str) -> Result<Result<Self, Element>, StreamError> {
        // With no prefix from outside, the bytes mean the same on any stream of this namespace.
        let alone = match scope.default_ns == ns {
            true => Element::parse(&raw, ns),
            false => Err(StreamError::BadNamespacePrefix),
        };
        let (element, raw) = match alone {
            Err(StreamError::BadNamespacePrefix) => {
                let element = Element::parse_in(&raw, scope)?;
                let raw = Bytes::from(element.print(ns));
                (element, raw)
            }
            alone => (alone?, raw),
        };
        let kind = match element.name.as_str() {
            _ if element.ns != ns => return Ok(Err(element)),
            "message" => Kind::Message,
            "presence" => Kind::Presence,
            "iq" => Kind::Iq,
            _ => return Ok(Err(element)),
        };
        let jid = |name| element.get_attr(name).map(Jid::parse).transpose();
        let attr = |name| element.get_attr(name).map(str::to_owned);
        Ok(Ok(Self { kind, from: jid("from"), to: jid("to"), id: attr("id"), type_: attr("type"), raw, element }))
    }

    /// The error reply to this stanza (RFC 6120 §8.3.1): same kind and id, from and to swapped, no payload echoed. `None` if this is itself
    /// an error or an iq result, or if there is nobody to answer or to answer as.
    pub fn error_reply(&self, error: &StanzaError) -> Option<Element> {
        let (from, to) = self.reply_addresses()?;
        match (self.kind, self.type_.as_deref()) {
            (_, Some("error")) | (Kind::Iq, Some("result")) => None,
            _ => Some(
                Element::new(self.kind.as_str(), &self.element.ns)
                    .attr("from", &from)
                    .attr("to", to)
                    .attr("type", "error")
                    .attr_if("id", self.id.as_deref())
                    .child(error.to_element(&self.element.ns)),
            ),
        }
    }

    /// The empty result of an iq get or set (RFC 6120 §8.2.3); `None` for anything else.
    pub fn iq_result(&self) -> Option<Element> {
        let (from, to) = self.reply_addresses()?;
        match (self.kind, self.type_.as_deref()) {
            (Kind::Iq, Some("get" | "set")) => {
                let result = Element::new("iq", &self.element.ns).attr("from", &from).attr("to", to);
                Some(result.attr("type", "result").attr_if("id", self.id.as_deref()))
            }
            _ => None,
        }
    }

    /// Who answers and who is answered. A malformed `to` can't be a `from`: its domain answers instead.
    fn reply_addresses(&self) -> Option<(String, &str)> {
        let to = self.element.get_attr("from").filter(|_| self.from.is_ok())?;
        let from = self.element.get_attr("to")?;
        if self.to.is_ok() {
            return Some((from.to_owned(), to));
        }
        let bare = from.split_once('/').map_or(from, |(bare, _)| bare);
        let domain = bare.rsplit_once('@').map_or(bare, |(_, domain)| domain);
        Some((Domain::parse(domain).ok()?.to_unicode(), to))
    }

    /// The error this stanza carries, if its type is `error`.
    pub fn error(&self) -> Option<StanzaError> {
        if self.type_.as_deref() != Some("error") {
            return None;
        }
        let error = self.element.find("error", &self.element.ns).map(StanzaError::from_element);
        Some(error.unwrap_or_else(|| StanzaError::new(Condition::UndefinedCondition, ErrorType::Cancel)))
    }

    /// Whether this is an XEP-0199 ping to be answered.
    pub fn is_ping(&self) -> bool {
        self.kind == Kind::Iq && self.type_.as_deref() == Some("get") && self.element.find("ping", NS_PING).is_some()
    }
}

/// `<message/>` with a body (RFC 6121 §5.2); add what else it carries.
pub fn message(from: impl Display, to: impl Display, type_: &str, body: &str) -> Element {
    let message = Element::new("message", NS_SERVER).attr("from", &from.to_string()).attr("to", &to.to_string());
    message.attr("type", type_).child(Element::new("body", NS_SERVER).text(body))
}

/// `<presence/>` (RFC 6121 §4.7.1); no type means available.
pub fn presence(from: impl Display, to: impl Display, type_: Option<&str>) -> Element {
    let presence = Element::new("presence", NS_SERVER).attr("from", &from.to_string()).attr("to", &to.to_string());
    presence.attr_if("type", type_)
}

/// An iq around a payload (RFC 6120 §8.2.3).
pub fn iq(from: impl Display, to: impl Display, type_: &str, id: &str, payload: Element) -> Element {
    let iq = Element::new("iq", NS_SERVER).attr("from", &from.to_string()).attr("to", &to.to_string());
    iq.attr("type", type_).attr("id", id).child(payload)
}

/// An XEP-0199 ping.
pub fn ping(from: impl Display, to: impl Display, id: &str) -> Element {
    iq(from, to, "get", id, Element::new("ping", NS_PING))
}

impl Condition {
    /// All, in the order of RFC 6120 §8.3.3.
    pub const ALL: [Condition; 22] = [
        Condition::BadRequest,
        Condition::Conflict,
        Condition::FeatureNotImplemented,
        Condition::Forbidden,
        Condition::Gone,
        Condition::InternalServerError,
        Condition::ItemNotFound,
        Condition::JidMalformed,
        Condition::NotAcceptable,
        Condition::NotAllowed,
        Condition::NotAuthorized,
        Condition::PolicyViolation,
        Condition::RecipientUnavailable,
        Condition::Redirect,
        Condition::RegistrationRequired,
        Condition::RemoteServerNotFound,
        Condition::RemoteServerTimeout,
        Condition::ResourceConstraint,
        Condition::ServiceUnavailable,
        Condition::SubscriptionRequired,
        Condition::UndefinedCondition,
        Condition::UnexpectedRequest,
    ];

    /// The element name.
    pub fn as_str(self) -> &'static str {
        match self {
            Condition::BadRequest => "bad-request",
            Condition::Conflict => "conflict",
            Condition::FeatureNotImplemented => "feature-not-implemented",
            Condition::Forbidden => "forbidden",
            Condition::Gone => "gone",
            Condition::InternalServerError => "internal-server-error",
            Condition::ItemNotFound => "item-not-found",
            Condition::JidMalformed => "jid-malformed",
            Condition::NotAcceptable => "not-acceptable",
            Condition::NotAllowed => "not-allowed",
            Condition::NotAuthorized => "not-authorized",
            Condition::PolicyViolation => "policy-violation",
            Condition::RecipientUnavailable => "recipient-unavailable",
            Condition::Redirect => "redirect",
            Condition::RegistrationRequired => "registration-required",
            Condition::RemoteServerNotFound => "remote-server-not-found",
            Condition::RemoteServerTimeout => "remote-server-timeout",
            Condition::ResourceConstraint => "resource-constraint",
            Condition::ServiceUnavailable => "service-unavailable",
            Condition::SubscriptionRequired => "subscription-required",
            Condition::UndefinedCondition => "undefined-condition",
            Condition::UnexpectedRequest => "unexpected-request",
        }
    }
    /// From an element name; unknown ones read as undefined-condition.
    pub fn from_name(name: &str) -> Self {
        Self::ALL.into_iter().find(|c| c.as_str() == name).unwrap_or(Condition::UndefinedCondition)
    }
}

impl ErrorType {
    /// The attribute's value.
    pub fn as_str(self) -> &'static str {
        match self {
            ErrorType::Auth => "auth",
            ErrorType::Cancel => "cancel",
            ErrorType::Continue => "continue",
            ErrorType::Modify => "modify",
            ErrorType::Wait => "wait",
        }
    }
    /// From the attribute's value; anything unknown is not worth retrying.
    pub fn from_name(name: &str) -> Self {
        match name {
            "auth" => ErrorType::Auth,
            "continue" => ErrorType::Continue,
            "modify" => ErrorType::Modify,
            "wait" => ErrorType::Wait,
            _ => ErrorType::Cancel,
        }
    }
}

impl StanzaError {
    /// Without text.
    pub fn new(condition: Condition, type_: ErrorType) -> Self {
        Self { condition, type_, text: None, address: None }
    }
    /// `<error type='…'>…</error>` in the stanza's namespace.
    pub fn to_element(&self, stanza_ns: &str) -> Element {
        let mut condition = Element::new(self.condition.as_str(), NS_STANZA_ERRORS);
        if let Some(address) = self.address.as_deref() {
            condition = condition.text(address);
        }
        let error = Element::new("error", stanza_ns).attr("type", self.type_.as_str()).child(condition);
        match self.text.as_deref().filter(|text| !text.is_empty()) {
            Some(text) => error.child(Element::new("text", NS_STANZA_ERRORS).attr("xml:lang", "en").text(text)),
            None => error,
        }
    }
    /// Reads an `<error/>` element.
    pub fn from_element(element: &Element) -> Self {
        let condition = element.elements().find(|e| e.ns == NS_STANZA_ERRORS && e.name != "text");
        let text = element.find("text", NS_STANZA_ERRORS).map(Element::content);
        Self {
            condition: condition.map_or(Condition::UndefinedCondition, |e| Condition::from_name(&e.name)),
            type_: ErrorType::from_name(element.get_attr("type").unwrap_or_default()),
            text: text.filter(|text| !text.is_empty()),
            // RFC 6120 §8.3.3.5, §8.3.3.14: only these two carry an address.
            address: condition
                .filter(|e| matches!(e.name.as_str(), "gone" | "redirect"))
                .map(|e| e.content().trim().to_owned())
                .filter(|address| !address.is_empty()),
        }
    }
}
