//! SIP as the partner writes it: answers, and the pieces of requests.

use bytes::BytesMut;
use fedgate::wire::sip::Message;
use fedgate::wire::sip::header::Name;
use std::fmt::Write as _;

/// Puts an answer behind what waits to be written. `to_tag` is for a To without one; `more`: whole header lines; `body`: type and text.
pub fn answer(
    out: &mut BytesMut,
    request: &Message,
    status: u16,
    to_tag: Option<&str>,
    more: &str,
    body: Option<(&str, &str)>,
) {
    let reason = match status {
        200 => "OK",
        481 => "Call/Transaction Does Not Exist",
        _ => "Answer",
    };
    let _ = write!(out, "SIP/2.0 {status} {reason}\r\n");
    for via in request.rows(Name::Via) {
        let _ = write!(out, "Via: {via}\r\n");
    }
    for route in request.rows(Name::RecordRoute) {
        let _ = write!(out, "Record-Route: {route}\r\n");
    }
    for (name, header) in [("From", Name::From), ("To", Name::To), ("Call-ID", Name::CallId), ("CSeq", Name::CSeq)] {
        let _ = write!(out, "{name}: {}", request.header(header).unwrap_or_default());
        if let (Name::To, Some(tag)) = (header, to_tag.filter(|_| request.to_tag().is_none())) {
            let _ = write!(out, ";tag={tag}");
        }
        let _ = out.write_str("\r\n");
    }
    let _ = out.write_str(more);
    end(out, body);
}

/// Content type, length, and the body.
pub fn end(out: &mut BytesMut, body: Option<(&str, &str)>) {
    match body {
        Some((kind, text)) => {
            let _ = write!(out, "Content-Type: {kind}\r\nContent-Length: {}\r\n\r\n{text}", text.len());
        }
        None => {
            let _ = out.write_str("Content-Length: 0\r\n\r\n");
        }
    }
}

/// What an IM session offers or answers, as Microsoft's clients do.
pub const SDP: &str = "v=0\r\no=- 0 0 IN IP4 10.20.31.5\r\ns=session\r\nc=IN IP4 10.20.31.5\r\nt=0 0\r\n\
    m=message 5060 sip null\r\na=accept-types:text/plain multipart/alternative\r\n";
