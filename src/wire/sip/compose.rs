//! Printing what fedgate itself originates. `rsip`'s types are the model, the printer is ours (own reason phrases, bytes as body).

use super::message::{Message, Method};
use bytes::Bytes;

/// A response to a request: Via rows, From, To, Call-ID, CSeq and, for a dialog-making 1xx/2xx, Record-Route rows are copied byte for byte
/// (RFC 3261 §8.2.6, §12.1.1); works on a malformed request as far as its rows go.
pub struct Response<'a> {
    /// What is answered.
    pub request: &'a Message,
    /// 100 to 699.
    pub status: u16,
    /// `None`: the registered phrase.
    pub reason: Option<&'a str>,
    /// Added to To if it has none (RFC 3261 §8.2.6.2; not on 100).
    pub to_tag: Option<&'a str>,
    /// Whether Record-Route is copied.
    pub record_route: bool,
    /// Further headers, printed as given. Values with CR, LF or NUL are refused by debug assertion and stripped.
    pub headers: &'a [(&'static str, String)],
    /// Content type and body.
    pub body: Option<(&'a str, &'a [u8])>,
}

/// A request that fedgate originates.
pub struct Request<'a> {
    /// The method.
    pub method: Method,
    /// Request-URI, byte for byte.
    pub uri: &'a str,
    /// Headers in printing order; Content-Length is added.
    pub headers: &'a [(&'static str, String)],
    /// Content type and body.
    pub body: Option<(&'a str, &'a [u8])>,
}

impl Response<'_> {
    /// The bytes.
    pub fn print(&self) -> Bytes {
        todo!()
    }
}

impl Request<'_> {
    /// The bytes.
    pub fn print(&self) -> Bytes {
        todo!()
    }
}

/// The registered reason phrase of a status (RFC 3261 §21 and the registry).
pub fn reason_phrase(status: u16) -> &'static str {
    todo!()
}
