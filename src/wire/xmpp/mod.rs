//! XMPP on the wire (RFC 6120): framing a stream into elements, a small element tree, stanzas, stream-level elements.

pub mod element;
pub mod framer;
mod lexis;
pub mod negotiation;
mod parse;
pub mod stanza;
pub mod stream;

pub use element::{Element, Scope};
pub use framer::{Frame, Framer};
pub use negotiation::{Child, Dialback, Features, Management, Outcome, Question};
pub use stanza::{Condition, ErrorType, Kind, Stanza, StanzaError};
pub use stream::{StreamError, StreamHeader};

/// `jabber:server`
pub const NS_SERVER: &str = "jabber:server";
/// `jabber:component:accept`
pub const NS_COMPONENT: &str = "jabber:component:accept";
/// `http://etherx.jabber.org/streams`
pub const NS_STREAMS: &str = "http://etherx.jabber.org/streams";
/// `jabber:server:dialback`
pub const NS_DIALBACK: &str = "jabber:server:dialback";
/// The stream feature that announces dialback (XEP-0220 §2.4.2).
pub const NS_DIALBACK_FEATURE: &str = "urn:xmpp:features:dialback";
/// Stanza error conditions.
pub const NS_STANZA_ERRORS: &str = "urn:ietf:params:xml:ns:xmpp-stanzas";
/// Stream error conditions.
pub const NS_STREAM_ERRORS: &str = "urn:ietf:params:xml:ns:xmpp-streams";
/// Application-specific error conditions (`stanza-too-big`).
pub const NS_ERRORS: &str = "urn:xmpp:errors";
/// STARTTLS.
pub const NS_TLS: &str = "urn:ietf:params:xml:ns:xmpp-tls";
/// SASL.
pub const NS_SASL: &str = "urn:ietf:params:xml:ns:xmpp-sasl";
/// Stream limits (XEP-0478).
pub const NS_LIMITS: &str = "urn:xmpp:stream-limits:0";
/// Stream management (XEP-0198).
pub const NS_SM: &str = "urn:xmpp:sm:3";
/// Streams that carry stanzas both ways, as a feature (XEP-0288).
pub const NS_BIDI_FEATURE: &str = "urn:xmpp:features:bidi";
/// The same, asked for.
pub const NS_BIDI: &str = "urn:xmpp:bidi";
/// XEP-0199.
pub const NS_PING: &str = "urn:xmpp:ping";
/// The namespace of `xml:lang`.
pub const NS_XML: &str = "http://www.w3.org/XML/1998/namespace";
