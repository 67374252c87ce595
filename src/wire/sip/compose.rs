//! Printing what fedgate itself originates. `rsip`'s types are the model, the printer is ours (own reason phrases, bytes as body).
//!
//! [`Request::model`] and [`Response::model`] build the `rsip` value; what its closed enums can't hold (BENOTIFY, a URI with headers) is
//! printed from our own parts, by the same printer.

use super::header::Name;
use super::message::{Message, Method};
use super::uri::{Scheme, Uri};
use bytes::Bytes;
use std::borrow::Cow;

/// A response to a request: Via rows, From, To, Call-ID, CSeq and, for a dialog-making 1xx/2xx, Record-Route rows are copied byte for byte
/// (RFC 3261 §8.2.6, §12.1.1), folded ones on one line; works on a malformed request as far as its rows go.
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
    /// Further headers, printed as given, but CR, LF and NUL in a value become spaces; Content-Length is ours.
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
    /// Headers in printing order, as in [`Response`]; Content-Length is added.
    pub headers: &'a [(&'static str, String)],
    /// Content type and body.
    pub body: Option<(&'a str, &'a [u8])>,
}

/// A header row on its way out: text of ours, or bytes of the request that is answered.
type Row<'a> = (&'a str, Cow<'a, [u8]>);

impl Response<'_> {
    /// The bytes.
    pub fn print(&self) -> Bytes {
        match self.model() {
            Some(model) => {
                let rows: Vec<(String, String)> = model.headers.iter().map(split_model_header).collect();
                let rows = rows.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
                print(&format!("SIP/2.0 {}", status_line(&model.status_code)), rows, &model.body)
            }
            None => {
                let rows = self.rows();
                let start = format!("SIP/2.0 {} {}", self.status, self.phrase());
                print(
                    &start,
                    rows.iter().map(|(name, value)| (*name, value.as_ref())),
                    self.body.map_or(&[], |(_, body)| body),
                )
            }
        }
    }

    /// The response as `rsip` models it; `None` when a copied row isn't text.
    pub fn model(&self) -> Option<rsip::Response> {
        Some(rsip::Response {
            // Own phrase: `rsip` prints its variant's name instead.
            status_code: rsip::StatusCode::Other(self.status, self.phrase().into_owned()),
            version: rsip::Version::V2,
            headers: model_headers(&self.rows())?,
            body: self.body.map_or(Vec::new(), |(_, body)| body.to_vec()),
        })
    }

    fn phrase(&self) -> Cow<'_, str> {
        match self.reason {
            Some(reason) => clean_text(reason),
            None => Cow::Borrowed(reason_phrase(self.status)),
        }
    }

    fn rows(&self) -> Vec<Row<'_>> {
        let mut rows = Vec::new();
        self.copy(Name::Via, usize::MAX, &mut rows);
        if self.record_route {
            self.copy(Name::RecordRoute, usize::MAX, &mut rows);
        }
        // A request with two of these is refused; the answer itself must not be malformed too.
        self.copy(Name::From, 1, &mut rows);
        self.copy(Name::To, 1, &mut rows);
        if let (Some(tag), Some((_, to)), true) =
            (self.to_tag, rows.last_mut(), self.request_has_to() && self.status != 100)
        {
            add_tag(to, tag);
        }
        self.copy(Name::CallId, 1, &mut rows);
        self.copy(Name::CSeq, 1, &mut rows);
        if self.status == 100 {
            // RFC 3261 §8.2.6.1.
            rows.extend(self.request.rows_named("Timestamp").map(|value| ("Timestamp", clean(value.as_bytes()))));
        }
        add_own(self.headers, self.body, &mut rows);
        rows
    }

    fn request_has_to(&self) -> bool {
        self.request.all_rows().any(|row| row.id == Name::To)
    }

    fn copy<'a>(&'a self, name: Name, most: usize, rows: &mut Vec<Row<'a>>) {
        let found = self.request.all_rows().filter(|row| row.id == name).take(most);
        rows.extend(found.map(|row| (name.as_str(), clean(row.text.map_or(row.raw, str::as_bytes)))));
    }
}

impl Request<'_> {
    /// The bytes.
    pub fn print(&self) -> Bytes {
        match self.model() {
            Some(model) => {
                let rows: Vec<(String, String)> = model.headers.iter().map(split_model_header).collect();
                let rows = rows.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
                print(&format!("{} {} SIP/2.0", model.method, model.uri), rows, &model.body)
            }
            None => {
                let start = format!("{} {} SIP/2.0", clean_word(self.method.as_str()), clean_word(self.uri));
                let rows = self.rows();
                print(
                    &start,
                    rows.iter().map(|(name, value)| (*name, value.as_ref())),
                    self.body.map_or(&[], |(_, body)| body),
                )
            }
        }
    }

    /// The request as `rsip` models it; `None` when it has no such method, or its URI would not print byte for byte.
    pub fn model(&self) -> Option<rsip::Request> {
        let uri = model_uri(&Uri::parse(self.uri).ok()?)?;
        if uri.to_string() != self.uri {
            return None;
        }
        let headers = model_headers(&self.rows())?;
        let body = self.body.map_or(Vec::new(), |(_, body)| body.to_vec());
        Some(rsip::Request { method: model_method(&self.method)?, uri, version: rsip::Version::V2, headers, body })
    }

    fn rows(&self) -> Vec<Row<'_>> {
        let mut rows = Vec::new();
        add_own(self.headers, self.body, &mut rows);
        rows
    }
}

/// The rows that are ours; Content-Length is the printer's.
fn add_own<'a>(headers: &'a [(&'static str, String)], body: Option<(&'a str, &'a [u8])>, rows: &mut Vec<Row<'a>>) {
    let own = headers.iter().filter(|(name, _)| Name::parse(name) != Name::ContentLength);
    rows.extend(own.map(|(name, value)| (*name, clean(value.as_bytes()))));
    if let Some((kind, _)) = body {
        rows.push((Name::ContentType.as_str(), clean(kind.as_bytes())));
    }
}

/// The one printer: start line, rows, Content-Length, body.
fn print<'a>(start: &str, rows: impl Iterator<Item = (&'a str, &'a [u8])>, body: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(512 + body.len());
    out.extend_from_slice(start.as_bytes());
    out.extend_from_slice(b"\r\n");
    for (name, value) in rows {
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes());
    out.extend_from_slice(body);
    out.into()
}

/// RFC 3261 §8.2.6.2: a To without tag gets ours.
fn add_tag(to: &mut Cow<'_, [u8]>, tag: &str) {
    let text = String::from_utf8_lossy(to);
    let has_tag = match super::uri::NameAddr::parse(&text) {
        Ok(address) => address.tag().is_some(),
        // Answering a To nobody can read: no second tag if that looks like one.
        Err(_) => text.to_ascii_lowercase().contains(";tag="),
    };
    if !has_tag {
        let to = to.to_mut();
        to.extend_from_slice(b";tag=");
        to.extend_from_slice(&clean(tag.as_bytes()));
    }
}

/// No value may end its line: what could becomes a space.
fn clean(value: &[u8]) -> Cow<'_, [u8]> {
    let breaks = |byte: &u8| matches!(byte, b'\r' | b'\n' | 0);
    if value.iter().any(breaks) {
        Cow::Owned(value.iter().map(|byte| if breaks(byte) { b' ' } else { *byte }).collect())
    } else {
        Cow::Borrowed(value)
    }
}

fn clean_text(text: &str) -> Cow<'_, str> {
    if text.contains(['\r', '\n', '\0']) {
        Cow::Owned(text.replace(['\r', '\n', '\0'], " "))
    } else {
        Cow::Borrowed(text)
    }
}

/// A word of the start line holds neither white space nor control characters: they are escaped (RFC 3261 §19.1.2).
pub(super) fn clean_word(text: &str) -> Cow<'_, str> {
    const BREAKS: &percent_encoding::AsciiSet = &percent_encoding::CONTROLS.add(b' ');
    if text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Cow::Borrowed(text);
    }
    percent_encoding::utf8_percent_encode(text, BREAKS).into()
}

fn model_headers(rows: &[Row<'_>]) -> Option<rsip::Headers> {
    let mut headers = rsip::Headers::default();
    for (name, value) in rows {
        headers.push(rsip::Header::Other((*name).to_owned(), std::str::from_utf8(value).ok()?.to_owned()));
    }
    Some(headers)
}

/// Name and value of a model's row.
fn split_model_header(header: &rsip::Header) -> (String, String) {
    match header {
        rsip::Header::Other(name, value) => (name.clone(), value.clone()),
        typed => {
            let text = typed.to_string();
            let (name, value) = text.split_once(": ").unwrap_or((&text, ""));
            (name.to_owned(), value.to_owned())
        }
    }
}

fn status_line(status: &rsip::StatusCode) -> String {
    match status {
        rsip::StatusCode::Other(code, reason) => format!("{code} {reason}"),
        known => format!("{} {}", known.code(), reason_phrase(known.code())),
    }
}

fn model_method(method: &Method) -> Option<rsip::Method> {
    Some(match method {
        Method::Invite => rsip::Method::Invite,
        Method::Ack => rsip::Method::Ack,
        Method::Bye => rsip::Method::Bye,
        Method::Cancel => rsip::Method::Cancel,
        Method::Register => rsip::Method::Register,
        Method::Options => rsip::Method::Options,
        Method::Info => rsip::Method::Info,
        Method::Prack => rsip::Method::PRack,
        Method::Update => rsip::Method::Update,
        Method::Subscribe => rsip::Method::Subscribe,
        Method::Notify => rsip::Method::Notify,
        Method::Refer => rsip::Method::Refer,
        Method::Message => rsip::Method::Message,
        Method::Publish => rsip::Method::Publish,
        Method::Benotify | Method::Negotiate | Method::Service | Method::Other(_) => return None,
    })
}

/// `rsip`'s form of a URI of ours. Every parameter is `Other` and the host is `Domain`: its own types change the spelling
/// (`transport=TLS`, IPv6 without brackets).
fn model_uri(uri: &Uri<'_>) -> Option<rsip::Uri> {
    use rsip::common::uri::param::{OtherParam, OtherParamValue};
    let (prefix, scheme) = match uri.scheme {
        Scheme::Sip => ("sip:", rsip::Scheme::Sip),
        Scheme::Sips => ("sips:", rsip::Scheme::Sips),
        _ => return None,
    };
    let rest = uri.text.strip_prefix(prefix)?;
    let (userinfo, rest) = match rest.split_once('@') {
        Some((userinfo, rest)) => (Some(userinfo), rest),
        None => (None, rest),
    };
    let auth = userinfo.map(|userinfo| match userinfo.split_once(':') {
        Some((user, password)) => rsip::Auth { user: user.into(), password: Some(password.into()) },
        None => rsip::Auth { user: userinfo.into(), password: None },
    });
    let hostport = rest.split([';', '?']).next().unwrap_or_default();
    let params = uri.params.split(';').filter(|param| !param.is_empty()).map(|param| match param.split_once('=') {
        Some((name, value)) => rsip::Param::Other(OtherParam::new(name), Some(OtherParamValue::new(value))),
        None => rsip::Param::Other(OtherParam::new(param), None),
    });
    Some(rsip::Uri {
        scheme: Some(scheme),
        auth,
        host_with_port: rsip::HostWithPort { host: rsip::Host::Domain(rsip::Domain::new(hostport)), port: None },
        params: params.collect(),
        headers: Vec::new(),
    })
}

/// The registered reason phrase of a status (RFC 3261 §21 and the registry); of one that isn't, its class in words.
pub fn reason_phrase(status: u16) -> &'static str {
    match status {
        100 => "Trying",
        180 => "Ringing",
        181 => "Call Is Being Forwarded",
        182 => "Queued",
        183 => "Session Progress",
        199 => "Early Dialog Terminated",
        200 => "OK",
        202 => "Accepted",
        204 => "No Notification",
        300 => "Multiple Choices",
        301 => "Moved Permanently",
        302 => "Moved Temporarily",
        305 => "Use Proxy",
        380 => "Alternative Service",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        407 => "Proxy Authentication Required",
        408 => "Request Timeout",
        410 => "Gone",
        412 => "Conditional Request Failed",
        413 => "Request Entity Too Large",
        414 => "Request-URI Too Long",
        415 => "Unsupported Media Type",
        416 => "Unsupported URI Scheme",
        417 => "Unknown Resource-Priority",
        420 => "Bad Extension",
        421 => "Extension Required",
        422 => "Session Interval Too Small",
        423 => "Interval Too Brief",
        424 => "Bad Location Information",
        425 => "Bad Alert Message",
        428 => "Use Identity Header",
        429 => "Provide Referrer Identity",
        430 => "Flow Failed",
        433 => "Anonymity Disallowed",
        436 => "Bad Identity Info",
        437 => "Unsupported Credential",
        438 => "Invalid Identity Header",
        439 => "First Hop Lacks Outbound Support",
        440 => "Max-Breadth Exceeded",
        469 => "Bad Info Package",
        470 => "Consent Needed",
        480 => "Temporarily Unavailable",
        481 => "Call/Transaction Does Not Exist",
        482 => "Loop Detected",
        483 => "Too Many Hops",
        484 => "Address Incomplete",
        485 => "Ambiguous",
        486 => "Busy Here",
        487 => "Request Terminated",
        488 => "Not Acceptable Here",
        489 => "Bad Event",
        491 => "Request Pending",
        493 => "Undecipherable",
        494 => "Security Agreement Required",
        500 => "Server Internal Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Server Time-out",
        505 => "Version Not Supported",
        513 => "Message Too Large",
        555 => "Push Notification Service Not Supported",
        580 => "Precondition Failure",
        600 => "Busy Everywhere",
        603 => "Decline",
        604 => "Does Not Exist Anywhere",
        606 => "Not Acceptable",
        607 => "Unwanted",
        608 => "Rejected",
        _ => match status / 100 {
            1 => "Provisional",
            2 => "Success",
            3 => "Redirection",
            4 => "Request Failure",
            5 => "Server Failure",
            _ => "Global Failure",
        },
    }
}
