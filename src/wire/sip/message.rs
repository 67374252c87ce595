//! A received SIP message: spans over its bytes, so that what nobody changes leaves byte for byte.

use super::header::Name;
use super::uri::NameAddr;
use bytes::Bytes;
use std::fmt;

/// A received message, indexed. Cloning is cheap (the bytes are shared).
#[derive(Debug, Clone)]
pub struct Message {
    // bytes, start line spans, header spans (name id, name span, value span), body range: the implementer's
    bytes: Bytes,
}

/// A request method. Case-sensitive (RFC 3261 §7.1).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Method {
    Invite,
    Ack,
    Bye,
    Cancel,
    Register,
    Options,
    Info,
    Prack,
    Update,
    Subscribe,
    Notify,
    Refer,
    Message,
    Publish,
    /// COMPAT(lync): a NOTIFY that is never answered (MS-SIP §3.5).
    Benotify,
    /// COMPAT(lync): MS-SIPCOMP.
    Negotiate,
    /// COMPAT(lync).
    Service,
    /// Anything else, as written.
    Other(Box<str>),
}

/// A start line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start<'a> {
    /// `METHOD uri SIP/2.0`
    Request {
        /// The method.
        method: &'a Method,
        /// The Request-URI as written.
        uri: &'a str,
    },
    /// `SIP/2.0 status reason`
    Response {
        /// 100 to 699.
        status: u16,
        /// The reason phrase.
        reason: &'a str,
    },
}

/// What is wrong with a message, named for the answer it gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// 400: cannot be understood; the text says what.
    #[error("{0}")]
    Malformed(&'static str),
    /// 505.
    #[error("SIP version is not 2.0")]
    Version,
    /// 416: the Request-URI's scheme is not one we route.
    #[error("unknown URI scheme")]
    Scheme,
    /// 513: head or header count beyond the bound.
    #[error("header section too large")]
    HeadTooLarge,
    /// 413: body beyond the bound.
    #[error("body too large")]
    BodyTooLarge,
}

impl Message {
    /// Indexes one whole message (head and body, nothing more). Lenient: [`Self::check`] judges.
    pub fn parse(bytes: Bytes) -> Result<Self, Fault> {
        todo!()
    }
    /// Judges what every element must understand (RFC 3261 §16.3 step 1, §8.1.1): exactly one well-formed From, To, Call-ID, CSeq
    /// (number below 2^31, method equal to the request's), at least one Via, Max-Forwards (0..=255 if present, at most one), UTF-8, no
    /// NUL or bare CR/LF in values, a Request-URI that parses, From/To URIs that parse; Contact and Record-Route/Route values that parse if
    /// present; Content-Type that parses if there is a body.
    pub fn check(&self) -> Result<(), Fault> {
        todo!()
    }
    /// The start line.
    pub fn start(&self) -> Start<'_> {
        todo!()
    }
    /// The method of a request; of a response, the CSeq's.
    pub fn method(&self) -> Option<&Method> {
        todo!()
    }
    /// The first value of a header row, unfolded text as written; compact forms are found by their long name.
    pub fn header(&self, name: Name) -> Option<&str> {
        todo!()
    }
    /// All rows of a header, in order, as written (comma-joined rows stay joined).
    pub fn rows(&self, name: Name) -> impl Iterator<Item = &str> {
        std::iter::empty()
    }
    /// All values of a list header, rows split at commas outside quotes and angle brackets.
    pub fn values(&self, name: Name) -> impl Iterator<Item = &str> {
        std::iter::empty()
    }
    /// A header we have no [`Name`] for, case-insensitive.
    pub fn header_named(&self, name: &str) -> Option<&str> {
        todo!()
    }
    /// From, when it parses.
    pub fn from(&self) -> Option<NameAddr<'_>> {
        todo!()
    }
    /// To, when it parses.
    pub fn to(&self) -> Option<NameAddr<'_>> {
        todo!()
    }
    /// The From tag.
    pub fn from_tag(&self) -> Option<&str> {
        todo!()
    }
    /// The To tag.
    pub fn to_tag(&self) -> Option<&str> {
        todo!()
    }
    /// Call-ID.
    pub fn call_id(&self) -> Option<&str> {
        todo!()
    }
    /// CSeq number and method.
    pub fn cseq(&self) -> Option<(u32, Method)> {
        todo!()
    }
    /// The branch parameter of the top Via.
    pub fn branch(&self) -> Option<&str> {
        todo!()
    }
    /// The body.
    pub fn body(&self) -> &[u8] {
        todo!()
    }
    /// The whole message as received.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        todo!()
    }
}
