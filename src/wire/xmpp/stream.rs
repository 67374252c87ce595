//! The stream itself: its header and its errors (RFC 6120 §4).

use super::element::{Element, Scope, write_attribute};
use super::{NS_DIALBACK, NS_ERRORS, NS_SERVER, NS_STREAM_ERRORS, NS_STREAMS, parse};

/// A stream header (RFC 6120 §4.7). Addresses are text: judging them is the link's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StreamHeader {
    /// from
    pub from: Option<String>,
    /// to
    pub to: Option<String>,
    /// id
    pub id: Option<String>,
    /// version, as written; absent on pre-1.0 streams.
    pub version: Option<String>,
    /// xml:lang
    pub lang: Option<String>,
    /// The default namespace, and the prefixes declared, `stream` and `db` perhaps among them: in force for all children.
    pub scope: Scope,
    /// Whether the dialback namespace is declared (XEP-0220 §2.2).
    pub dialback: bool,
}

/// What a `version` says (RFC 6120 §4.7.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// 1.0 or later: features follow.
    One,
    /// Absent, or 0.x: no features, dialback at once.
    Legacy,
}

impl StreamHeader {
    /// A header of a server stream.
    pub fn server() -> Self {
        Self { scope: Scope::of(NS_SERVER), dialback: true, ..Self::default() }
    }

    /// Reads a start tag; also its name as written, which the end tag must repeat.
    pub fn parse(tag: &[u8]) -> Result<(Self, String), StreamError> {
        let (name, element, scope) = parse::header(tag)?;
        // RFC 6120 §4.9.3.10, §4.9.3.1.
        if element.ns != NS_STREAMS {
            return Err(StreamError::InvalidNamespace);
        }
        if element.name != "stream" {
            return Err(StreamError::BadFormat);
        }
        let attr = |name| element.get_attr(name).map(str::to_owned);
        let header = Self {
            from: attr("from"),
            to: attr("to"),
            id: attr("id"),
            version: attr("version"),
            lang: attr("xml:lang"),
            dialback: scope.declares(NS_DIALBACK),
            scope,
        };
        Ok((header, name))
    }

    /// `<?xml …?><stream:stream …>` with the default namespace and the prefixes `stream` and (if `dialback`) `db`; other prefixes are
    /// not written.
    pub fn print(&self) -> String {
        let mut out = String::from("<?xml version='1.0'?><stream:stream");
        write_attribute(&mut out, "xmlns", &self.scope.default_ns);
        write_attribute(&mut out, "xmlns:stream", NS_STREAMS);
        if self.dialback {
            write_attribute(&mut out, "xmlns:db", NS_DIALBACK);
        }
        let attributes = [
            ("id", &self.id),
            ("from", &self.from),
            ("to", &self.to),
            ("version", &self.version),
            ("xml:lang", &self.lang),
        ];
        for (name, value) in attributes {
            if let Some(value) = value {
                write_attribute(&mut out, name, value);
            }
        }
        out.push('>');
        out
    }

    /// The version's meaning; `Err` if it is not `major.minor`.
    pub fn version(&self) -> Result<Version, StreamError> {
        let Some(version) = &self.version else { return Ok(Version::Legacy) };
        let (major, minor) = version.trim().split_once('.').ok_or(StreamError::UnsupportedVersion)?;
        let number = |text: &str| text.parse::<u32>().map_err(|_| StreamError::UnsupportedVersion);
        number(minor)?;
        Ok(if number(major)? >= 1 { Version::One } else { Version::Legacy })
    }
}

/// `</stream:stream>`
pub const STREAM_END: &str = "</stream:stream>";

/// Stream error conditions (RFC 6120 §4.9.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum StreamError {
    #[error("bad-format")]
    BadFormat,
    #[error("bad-namespace-prefix")]
    BadNamespacePrefix,
    #[error("conflict")]
    Conflict,
    #[error("connection-timeout")]
    ConnectionTimeout,
    #[error("host-gone")]
    HostGone,
    #[error("host-unknown")]
    HostUnknown,
    #[error("improper-addressing")]
    ImproperAddressing,
    #[error("internal-server-error")]
    InternalServerError,
    #[error("invalid-from")]
    InvalidFrom,
    #[error("invalid-namespace")]
    InvalidNamespace,
    #[error("invalid-xml")]
    InvalidXml,
    #[error("not-authorized")]
    NotAuthorized,
    #[error("not-well-formed")]
    NotWellFormed,
    #[error("policy-violation")]
    PolicyViolation,
    /// policy-violation with `<stanza-too-big xmlns='urn:xmpp:errors'/>`.
    #[error("policy-violation")]
    StanzaTooBig,
    #[error("remote-connection-failed")]
    RemoteConnectionFailed,
    #[error("reset")]
    Reset,
    #[error("resource-constraint")]
    ResourceConstraint,
    #[error("restricted-xml")]
    RestrictedXml,
    #[error("see-other-host")]
    SeeOtherHost,
    #[error("system-shutdown")]
    SystemShutdown,
    #[error("undefined-condition")]
    UndefinedCondition,
    #[error("unsupported-encoding")]
    UnsupportedEncoding,
    #[error("unsupported-feature")]
    UnsupportedFeature,
    #[error("unsupported-stanza-type")]
    UnsupportedStanzaType,
    #[error("unsupported-version")]
    UnsupportedVersion,
}

impl StreamError {
    /// All, `StanzaTooBig` behind the condition that it refines.
    pub const ALL: [StreamError; 26] = [
        StreamError::BadFormat,
        StreamError::BadNamespacePrefix,
        StreamError::Conflict,
        StreamError::ConnectionTimeout,
        StreamError::HostGone,
        StreamError::HostUnknown,
        StreamError::ImproperAddressing,
        StreamError::InternalServerError,
        StreamError::InvalidFrom,
        StreamError::InvalidNamespace,
        StreamError::InvalidXml,
        StreamError::NotAuthorized,
        StreamError::NotWellFormed,
        StreamError::PolicyViolation,
        StreamError::StanzaTooBig,
        StreamError::RemoteConnectionFailed,
        StreamError::Reset,
        StreamError::ResourceConstraint,
        StreamError::RestrictedXml,
        StreamError::SeeOtherHost,
        StreamError::SystemShutdown,
        StreamError::UndefinedCondition,
        StreamError::UnsupportedEncoding,
        StreamError::UnsupportedFeature,
        StreamError::UnsupportedStanzaType,
        StreamError::UnsupportedVersion,
    ];

    /// `<stream:error>` with this condition and perhaps a text.
    pub fn to_element(self, text: Option<&str>) -> Element {
        let mut error = Element::new("error", NS_STREAMS).child(Element::new(&self.to_string(), NS_STREAM_ERRORS));
        if let Some(text) = text.filter(|text| !text.is_empty()) {
            error = error.child(Element::new("text", NS_STREAM_ERRORS).attr("xml:lang", "en").text(text));
        }
        if self == StreamError::StanzaTooBig {
            error = error.child(Element::new("stanza-too-big", NS_ERRORS));
        }
        error
    }

    /// Reads `<stream:error>`: the condition, unknown ones as undefined-condition, and what it says to people: its text, or the address
    /// of see-other-host.
    pub fn from_element(error: &Element) -> (Self, Option<String>) {
        let condition = error.elements().find(|e| e.ns == NS_STREAM_ERRORS && e.name != "text");
        let known = condition.and_then(|e| Self::ALL.into_iter().find(|known| known.to_string() == e.name));
        let known = match known {
            Some(StreamError::PolicyViolation) if error.find("stanza-too-big", NS_ERRORS).is_some() => {
                StreamError::StanzaTooBig
            }
            known => known.unwrap_or(StreamError::UndefinedCondition),
        };
        let text = error.find("text", NS_STREAM_ERRORS).or(condition).map(Element::content);
        (known, text.filter(|text| !text.is_empty()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_survive_printing() {
        let header = StreamHeader {
            from: Some("a'b".into()),
            to: Some("c.d".into()),
            id: Some("<1>".into()),
            version: Some("1.0".into()),
            lang: Some("en".into()),
            ..StreamHeader::server()
        };
        let text = header.print();
        let tag = text.strip_prefix("<?xml version='1.0'?>").unwrap();
        let (read, name) = StreamHeader::parse(tag.as_bytes()).unwrap();
        assert_eq!(name, "stream:stream");
        assert_eq!(read.scope.default_ns, NS_SERVER);
        assert_eq!(StreamHeader { scope: header.scope.clone(), ..read }, header);
    }

    #[test]
    fn any_prefix_will_do() {
        let tag = "<s:stream xmlns:s='http://etherx.jabber.org/streams' xmlns:x='jabber:server:dialback' xmlns='jabber:server'>";
        let (read, name) = StreamHeader::parse(tag.as_bytes()).unwrap();
        assert_eq!(name, "s:stream");
        assert!(read.dialback && read.scope.declares(NS_SERVER));
        let tag = "<stream xmlns='http://etherx.jabber.org/streams'>";
        let (read, _) = StreamHeader::parse(tag.as_bytes()).unwrap();
        assert!(!read.dialback && !read.scope.declares(NS_SERVER));
    }

    #[test]
    fn versions() {
        let version =
            |text: Option<&str>| StreamHeader { version: text.map(str::to_owned), ..StreamHeader::default() }.version();
        assert_eq!(version(None), Ok(Version::Legacy));
        assert_eq!(version(Some("0.9")), Ok(Version::Legacy));
        assert_eq!(version(Some("1.0")), Ok(Version::One));
        assert_eq!(version(Some("2.10")), Ok(Version::One));
        for bad in ["", "1", "1.", ".0", "a.b", "-1.0", "1.0.0"] {
            assert_eq!(version(Some(bad)), Err(StreamError::UnsupportedVersion), "{bad}");
        }
    }

    #[test]
    fn errors_survive_printing() {
        for error in StreamError::ALL {
            let text = error.to_element(Some("why")).print(NS_SERVER);
            let element = Element::parse(text.as_bytes(), NS_SERVER).unwrap();
            assert_eq!(StreamError::from_element(&element), (error, Some("why".to_owned())));
            assert_eq!(StreamError::from_element(&error.to_element(None)), (error, None));
        }
    }
}
