//! XMPP on the wire (RFC 6120): framing a stream into elements, a small element tree, stanzas, stream-level elements.

pub mod element;
pub mod framer;
pub mod stanza;
pub mod stream;

pub use element::Element;
pub use framer::{Frame, Framer};
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
/// Stanza error conditions.
pub const NS_STANZA_ERRORS: &str = "urn:ietf:params:xml:ns:xmpp-stanzas";
/// Stream error conditions.
pub const NS_STREAM_ERRORS: &str = "urn:ietf:params:xml:ns:xmpp-streams";
/// STARTTLS.
pub const NS_TLS: &str = "urn:ietf:params:xml:ns:xmpp-tls";
/// SASL.
pub const NS_SASL: &str = "urn:ietf:params:xml:ns:xmpp-sasl";
/// XEP-0199.
pub const NS_PING: &str = "urn:xmpp:ping";
