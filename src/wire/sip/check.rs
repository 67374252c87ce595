//! The judgement of a message: what every element must understand before it acts (RFC 3261 §16.3 step 1, §8.1.1).

use super::header::{self, MediaType, Name, Via};
use super::message::{Fault, Message, Start};
use super::params;
use super::place::at;
use super::uri::{NameAddr, Scheme, Uri};

/// The verdict, the first fault in the order: lines, start line, characters, counts, values.
pub(super) fn check(message: &Message) -> Result<(), Fault> {
    if let Some(fault) = message.head().fault {
        return Err(fault);
    }
    if let Start::Request { uri, .. } = message.start() {
        check_request_uri(message, uri)?;
    }
    check_characters(message)?;
    check_counts(message)?;
    check_values(message)?;
    check_body(message)
}

fn require(ok: bool, what: &'static str) -> Result<(), Fault> {
    if ok { Ok(()) } else { Err(Fault::Malformed(what)) }
}

fn check_request_uri(message: &Message, text: &str) -> Result<(), Fault> {
    let uri = match message.request_uri() {
        Some(uri) => uri,
        None => Uri::parse(text).map_err(|fault| at(Name::Other, fault))?,
    };
    match uri.scheme {
        Scheme::Sip | Scheme::Sips | Scheme::Im | Scheme::Pres => {}
        // A number names no domain to federate with.
        Scheme::Tel | Scheme::Other(_) => return Err(Fault::Scheme),
    }
    // RFC 3261 §19.1.1, table 1: neither is allowed here, and a URI with headers asks us to build a request.
    require(uri.headers.is_empty(), "Request-URI has URI headers")?;
    require(uri.params.is_empty() || uri.param("method").is_none(), "Request-URI has a method parameter")
}

fn check_characters(message: &Message) -> Result<(), Fault> {
    if message.head().is_clean {
        return Ok(());
    }
    for row in message.all_rows() {
        let Some(text) = row.text else { return Err(Fault::Malformed("a header value is not UTF-8")) };
        require(!has_raw_control(text), "a header value holds NUL, a bare CR or another control character")?;
    }
    Ok(())
}

/// Whether there is a control character other than HTAB that isn't the second half of a quoted-pair (RFC 3261 §25.1).
fn has_raw_control(text: &str) -> bool {
    if !text.bytes().any(|byte| byte.is_ascii_control() && byte != b'\t') {
        return false;
    }
    let mut quoted = false;
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => quoted = !quoted,
            b'\\' if quoted => {
                if matches!(bytes.next(), Some(b'\r' | b'\n') | None) {
                    return true;
                }
            }
            b'\t' => {}
            _ if byte.is_ascii_control() => return true,
            _ => {}
        }
    }
    // A quote that never closes quotes nothing.
    quoted
}

/// Headers of which two would be two answers to one question.
const SINGLE: [(Name, &str); 12] = [
    (Name::From, "more than one From"),
    (Name::To, "more than one To"),
    (Name::CallId, "more than one Call-ID"),
    (Name::CSeq, "more than one CSeq"),
    (Name::MaxForwards, "more than one Max-Forwards"),
    (Name::ContentLength, "more than one Content-Length"),
    (Name::ContentType, "more than one Content-Type"),
    (Name::Event, "more than one Event"),
    (Name::Expires, "more than one Expires"),
    (Name::MinExpires, "more than one Min-Expires"),
    (Name::RetryAfter, "more than one Retry-After"),
    (Name::SubscriptionState, "more than one Subscription-State"),
];

fn check_counts(message: &Message) -> Result<(), Fault> {
    let head = message.head();
    for (name, what) in SINGLE {
        require(!head.has_two(name), what)?;
    }
    require(head.has(Name::Via), "Via is missing")?;
    require(head.has(Name::From), "From is missing")?;
    require(head.has(Name::To), "To is missing")?;
    require(head.has(Name::CallId), "Call-ID is missing")?;
    require(head.has(Name::CSeq), "CSeq is missing")
}

fn check_values(message: &Message) -> Result<(), Fault> {
    check_vias(message)?;
    for name in [Name::From, Name::To] {
        let found = if name == Name::From { &message.head().from } else { &message.head().to };
        let (tags, is_empty) = match found {
            Some(found) => (found.tags.into(), found.tag.is_some_and(|tag| tag.is_empty())),
            None => {
                let params = message.address(name).map_err(|fault| at(name, fault))?.params;
                let (tag, tags) = params::find_and_count(params, "tag");
                (tags, tag == Some(""))
            }
        };
        require(tags <= 1, "From or To has two tags")?;
        require(!is_empty, "From or To has an empty tag")?;
    }
    require(message.call_id().is_some_and(is_call_id), "Call-ID is not word@word")?;
    let Some((_, method)) = &message.head().cseq else {
        return Err(Fault::Malformed("CSeq is not a number below 2^31 and a method"));
    };
    // RFC 3261 §8.1.1.5.
    require(message.method() == Some(method), "CSeq method is not the request's method")?;
    if let Some(hops) = message.header(Name::MaxForwards) {
        let hops = params::digits(hops).and_then(|hops| hops.parse::<u8>().ok());
        require(hops.is_some(), "Max-Forwards is not a number from 0 to 255")?;
    }
    for name in [Name::Contact, Name::RecordRoute, Name::Route].into_iter().filter(|name| message.head().has(*name)) {
        for row in message.head().rows_since(name).iter().filter(|row| row.id == name) {
            if !message.head().row_addresses(row).is_empty() {
                continue;
            }
            let Some(row) = message.head().row_text(row, message.bytes()) else { continue };
            // RFC 3261 §20.10: `*` stands alone.
            if name == Name::Contact && row == "*" {
                continue;
            }
            for value in header::list(row) {
                NameAddr::parse(value).map_err(|fault| at(name, fault))?;
            }
        }
    }
    Ok(())
}

/// The top Via leads the answer back, so it must parse. Those below are others' concern: they only have to be there.
fn check_vias(message: &Message) -> Result<(), Fault> {
    let is_there = |value: &str| !value.is_empty();
    let mut rows = message.rows(Name::Via);
    let first = rows.next().unwrap_or_default();
    let are_there = match message.head().top_via.as_ref().filter(|via| via.is_sound) {
        Some(top) => {
            let below = params::trim(first.get(top.value.range().end..).unwrap_or_default());
            below.strip_prefix(',').is_none_or(|below| header::list(below).all(is_there))
        }
        None => {
            let mut values = header::list(first);
            Via::parse(values.next().unwrap_or_default()).map_err(|fault| at(Name::Via, fault))?;
            values.all(is_there)
        }
    };
    require(are_there && rows.all(|row| header::list(row).all(is_there)), "a Via row holds an empty value")
}

/// `word [ "@" word ]` (RFC 3261 §25.1).
fn is_call_id(text: &str) -> bool {
    let bytes = text.as_bytes();
    let one = params::run(bytes, params::WORD);
    match bytes.get(one) {
        None => one > 0,
        Some(b'@') => one > 0 && one + 1 < bytes.len() && params::run_from(bytes, one + 1, params::WORD) == bytes.len(),
        Some(_) => false,
    }
}

fn check_body(message: &Message) -> Result<(), Fault> {
    let body = message.body();
    if let Some(length) = message.header(Name::ContentLength) {
        let length = params::digits(length).and_then(|length| length.parse::<usize>().ok());
        require(length.is_some(), "Content-Length is not a number")?;
        require(length == Some(body.len()), "Content-Length is not the length of the body")?;
    }
    match message.header(Name::ContentType) {
        // RFC 3261 §20.15.
        None => require(body.is_empty(), "Content-Type is missing, but there is a body"),
        Some(_) if body.is_empty() => Ok(()),
        Some(kind) => require(MediaType::is_one(kind), "Content-Type is not type/subtype"),
    }
}
