//! Stream-level elements: header, features, STARTTLS, SASL, dialback, stream errors (RFC 6120 §4–6, XEP-0220).

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
    /// The default namespace.
    pub default_ns: String,
    /// Whether the dialback namespace is declared (XEP-0220 §2.2).
    pub dialback: bool,
}

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
