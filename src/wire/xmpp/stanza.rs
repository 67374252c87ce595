//! Stanzas: message, presence, iq (RFC 6120 §8), their errors, and the ones fedgate writes.

use super::element::{Element, Scope};
use super::stream::StreamError;
use super::{NS_PING, NS_SERVER, NS_STANZA_ERRORS};
use crate::wire::address::{BadAddress, Domain, Jid};
use bytes::Bytes;
use memchr::memmem;
use std::cell::OnceCell;
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
    /// The element alone; what is in it is read when somebody asks.
    root: Element,
    tree: OnceCell<Element>,
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
    /// The whole tree, read at the first call. Who only asks for an attribute has [`Stanza::attr`].
    pub fn element(&self) -> &Element {
        // It was checked by the same rules.
        self.tree.get_or_init(|| Element::parse(&self.raw, &self.root.ns).unwrap_or_else(|_| self.root.clone()))
    }

    /// An attribute's value.
    pub fn attr(&self, name: &str) -> Option<&str> {
        self.root.get_attr(name)
    }

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
            true => Element::check(&raw, ns),
            false => Err(StreamError::BadNamespacePrefix),
        };
        let (root, raw, tree) = match alone {
            Err(StreamError::BadNamespacePrefix) => {
                let element = Element::parse_in(&raw, scope)?;
                let raw = Bytes::from(element.print(ns));
                (element.alone(), raw, OnceCell::from(element))
            }
            alone => (alone?, raw, OnceCell::new()),
        };
        let kind = match root.name.as_str() {
            "message" if root.ns == ns => Kind::Message,
            "presence" if root.ns == ns => Kind::Presence,
            "iq" if root.ns == ns => Kind::Iq,
            _ => {
                return match tree.into_inner() {
                    Some(element) => Ok(Err(element)),
                    None => Element::parse(&raw, ns).map(Err),
                };
            }
        };
        let jid = |name| root.get_attr(name).map(Jid::parse).transpose();
        let attr = |name| root.get_attr(name).map(str::to_owned);
        Ok(Ok(Self { kind, from: jid("from"), to: jid("to"), id: attr("id"), type_: attr("type"), raw, root, tree }))
    }

    /// The same stanza for streams of another content namespace (RFC 6120 §4.8.3).
    pub fn moved(mut self, from: &str, to: &str) -> Self {
        if declares_namespaces(&self.raw) {
            let mut element = self.element().clone();
            element.move_namespace(from, to);
            self.raw = Bytes::from(element.print(to));
            self.root = element.alone();
            self.tree = OnceCell::from(element);
        } else {
            self.root.move_namespace(from, to);
            self.tree = OnceCell::new();
        }
        self
    }

    /// The error reply to this stanza (RFC 6120 §8.3.1): same kind and id, from and to swapped, no payload echoed. `None` if this is itself
    /// an error or an iq result, or if there is nobody to answer or to answer as.
    pub fn error_reply(&self, error: &StanzaError) -> Option<Element> {
        let (from, to) = self.reply_addresses()?;
        match (self.kind, self.type_.as_deref()) {
            (_, Some("error")) | (Kind::Iq, Some("result")) => None,
            _ => Some(
                Element::new(self.kind.as_str(), &self.root.ns)
                    .attr("from", &from)
                    .attr("to", to)
                    .attr("type", "error")
                    .attr_if("id", self.id.as_deref())
                    .child(error.to_element(&self.root.ns)),
            ),
        }
    }

    /// The empty result of an iq get or set (RFC 6120 §8.2.3); `None` for anything else.
    pub fn iq_result(&self) -> Option<Element> {
        let (from, to) = self.reply_addresses()?;
        match (self.kind, self.type_.as_deref()) {
            (Kind::Iq, Some("get" | "set")) => {
                let result = Element::new("iq", &self.root.ns).attr("from", &from).attr("to", to);
                Some(result.attr("type", "result").attr_if("id", self.id.as_deref()))
            }
            _ => None,
        }
    }

    /// Who answers and who is answered. A malformed `to` can't be a `from`: its domain answers instead.
    fn reply_addresses(&self) -> Option<(String, &str)> {
        let to = self.root.get_attr("from").filter(|_| self.from.is_ok())?;
        let from = self.root.get_attr("to")?;
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
        let error = self.element().find("error", &self.root.ns).map(StanzaError::from_element);
        Some(error.unwrap_or_else(|| StanzaError::new(Condition::UndefinedCondition, ErrorType::Cancel)))
    }

    /// Whether this is an XEP-0199 ping to be answered.
    pub fn is_ping(&self) -> bool {
        self.kind == Kind::Iq && self.type_.as_deref() == Some("get") && self.element().find("ping", NS_PING).is_some()
    }
}

/// A printed stanza for streams of another content namespace (RFC 6120 §4.8.3).
pub fn moved(printed: Bytes, from: &str, to: &str) -> Result<Bytes, StreamError> {
    if !declares_namespaces(&printed) {
        return Ok(printed);
    }
    let mut element = Element::parse(&printed, from)?;
    element.move_namespace(from, to);
    Ok(Bytes::from(element.print(to)))
}

/// Whether a text can hold namespace declarations. Without one all of it is in its stream's namespace, whichever that is.
fn declares_namespaces(text: &[u8]) -> bool {
    memmem::find(text, b"xmlns").is_some()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::xmpp::NS_COMPONENT;

    fn stanza(text: &str) -> Stanza {
        Stanza::parse(Bytes::copy_from_slice(text.as_bytes()), NS_SERVER).unwrap().unwrap()
    }

    #[test]
    fn stanzas_are_told_by_name_and_namespace() {
        for (text, kind) in [
            ("<message/>", Some(Kind::Message)),
            ("<presence/>", Some(Kind::Presence)),
            ("<iq/>", Some(Kind::Iq)),
            ("<message xmlns='jabber:client'/>", None),
            ("<x:message xmlns:x='jabber:server'/>", Some(Kind::Message)),
            ("<msg/>", None),
        ] {
            let read = Stanza::parse(Bytes::from_static(text.as_bytes()), NS_SERVER).unwrap();
            assert_eq!(read.map(|stanza| stanza.kind), kind, "{text}");
        }
    }

    #[test]
    fn what_leans_on_the_header_is_printed_anew() {
        let scope = Scope { default_ns: NS_SERVER.into(), prefixes: vec![("x".into(), "urn:x".into())] };
        let raw = |text: &'static str| {
            Stanza::parse_in(Bytes::from_static(text.as_bytes()), &scope, NS_SERVER).unwrap().unwrap().raw
        };
        assert_eq!(raw("<iq  id=\"1\" />"), "<iq  id=\"1\" />");
        assert_eq!(raw("<iq id=\"1\"><x:a/></iq>"), "<iq id='1'><a xmlns='urn:x'/></iq>");
    }

    #[test]
    fn errors_are_answered_to_nobody() {
        let error = StanzaError::new(Condition::ItemNotFound, ErrorType::Cancel);
        let reply = |text: &str| stanza(text).error_reply(&error).map(|e| e.print(NS_SERVER));
        assert_eq!(
            reply("<message from='a@b.c/d' to='e@f.g' id='1' type='chat'><body>x</body></message>").unwrap(),
            "<message from='e@f.g' to='a@b.c/d' type='error' id='1'><error type='cancel'>\
             <item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></message>"
        );
        assert_eq!(reply("<message from='a@b.c' to='e@f.g' type='error'/>"), None);
        assert_eq!(reply("<iq from='a@b.c' to='e@f.g' type='result'/>"), None);
        assert_eq!(reply("<message to='e@f.g'/>"), None);
        assert_eq!(reply("<message from='@' to='e@f.g'/>"), None);
        assert_eq!(stanza("<presence from='a@b.c' to='e@f.g' type='get'/>").iq_result(), None);
    }

    #[test]
    fn stanzas_move_between_kinds_of_streams() {
        let cases = [
            // Nothing to say about namespaces: byte for byte.
            ("<message  to=\"a@b.c\"><body>1</body></message>", "<message  to=\"a@b.c\"><body>1</body></message>"),
            ("<iq id='1'><ping xmlns='urn:xmpp:ping'/></iq>", "<iq id='1'><ping xmlns='urn:xmpp:ping'/></iq>"),
            // What names the old one is moved too, whether it is written with or without prefix.
            ("<message xmlns='jabber:server'><body>1</body></message>", "<message><body>1</body></message>"),
            ("<s:message xmlns:s='jabber:server'><s:body/></s:message>", "<message><body/></message>"),
            (
                "<message><x xmlns='urn:x'><body xmlns='jabber&#58;server'>jabber:server</body></x></message>",
                "<message><x xmlns='urn:x'><body xmlns='jabber:component:accept'>jabber:server</body></x></message>",
            ),
            // Any other namespace stays.
            (
                "<message><x xmlns='urn:x'><message xmlns='jabber:client'/></x></message>",
                "<message><x xmlns='urn:x'><message xmlns='jabber:client'/></x></message>",
            ),
        ];
        for (server, component) in cases {
            let there = moved(Bytes::from_static(server.as_bytes()), NS_SERVER, NS_COMPONENT).unwrap();
            assert_eq!(there, component);
            let back = moved(there.clone(), NS_COMPONENT, NS_SERVER).unwrap();
            assert_eq!(Element::parse(&back, NS_SERVER), Element::parse(server.as_bytes(), NS_SERVER), "{server}");
            let read = Stanza::parse(there, NS_COMPONENT).unwrap().unwrap().moved(NS_COMPONENT, NS_SERVER);
            assert_eq!(Ok(read.element()), Element::parse(server.as_bytes(), NS_SERVER).as_ref());
            assert_eq!(Element::parse(&read.raw, NS_SERVER).as_ref(), Ok(read.element()));
        }
    }

    #[test]
    fn conditions_and_errors_survive_printing() {
        for condition in Condition::ALL {
            assert_eq!(Condition::from_name(condition.as_str()), condition);
            for type_ in ["auth", "cancel", "continue", "modify", "wait"] {
                let type_ = ErrorType::from_name(type_);
                let moved = matches!(condition, Condition::Gone | Condition::Redirect);
                let address = moved.then(|| "xmpp:new@b.c".to_owned());
                let error = StanzaError { condition, type_, text: Some("why & how".into()), address };
                let element = Element::parse(error.to_element(NS_SERVER).print(NS_SERVER).as_bytes(), NS_SERVER);
                assert_eq!(StanzaError::from_element(&element.unwrap()), error);
            }
        }
        assert_eq!(Condition::from_name("payment-required"), Condition::UndefinedCondition);
    }

    #[test]
    fn an_error_without_an_error_is_still_one() {
        assert_eq!(stanza("<message type='error'/>").error().unwrap().condition, Condition::UndefinedCondition);
        assert_eq!(stanza("<message><error/></message>").error(), None);
    }

    #[test]
    fn what_fedgate_writes_reads_back() {
        let ping = ping("b.c", "f.g", "p1");
        let read = stanza(&ping.print_on_stream());
        assert!(read.is_ping());
        assert_eq!(*read.element(), ping);
        assert_eq!(
            message("a@b.c", "e@f.g", "chat", "1 < 2").print(NS_SERVER),
            "<message from='a@b.c' to='e@f.g' type='chat'><body>1 &lt; 2</body></message>"
        );
        assert_eq!(presence("a@b.c", "e@f.g", None).print(NS_SERVER), "<presence from='a@b.c' to='e@f.g'/>");
    }
}
