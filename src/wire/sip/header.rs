//! Header names we look at, and values with a grammar of their own.

/// A header field name (RFC 3261 §7.3; compact forms §7.3.3). One variant for each header fedgate reads or writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Name {
    Accept,
    Allow,
    AllowEvents,
    CallId,
    Contact,
    ContentEncoding,
    ContentLanguage,
    ContentLength,
    ContentType,
    CSeq,
    Event,
    Expires,
    From,
    InReplyTo,
    MaxForwards,
    MinExpires,
    ProxyRequire,
    RecordRoute,
    Require,
    RetryAfter,
    Route,
    Server,
    Subject,
    SubscriptionState,
    Supported,
    To,
    Unsupported,
    UserAgent,
    Via,
    Warning,
    PAssertedIdentity,
    Other,
}

/// A parsed media type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaType<'a> {
    /// `text/plain`, lower case.
    pub essence: String,
    /// Parameters as written.
    pub params: &'a str,
}

/// A Subscription-State value (RFC 6665 §8.2.3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscriptionState {
    /// active, pending, terminated, or an extension, lower case.
    pub state: String,
    /// The reason, lower case.
    pub reason: Option<String>,
    /// Seconds.
    pub expires: Option<u32>,
    /// Seconds.
    pub retry_after: Option<u32>,
}

impl<'a> MediaType<'a> {
    /// Parses a Content-Type or one Accept value.
    pub fn parse(text: &'a str) -> Option<Self> {
        todo!()
    }
    /// A parameter's value, unquoted.
    pub fn param(&self, name: &str) -> Option<&'a str> {
        todo!()
    }
}

impl SubscriptionState {
    /// Parses the header's value.
    pub fn parse(text: &str) -> Option<Self> {
        todo!()
    }
}
