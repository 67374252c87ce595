//! A received SIP message: spans over its bytes, so that what nobody changes leaves byte for byte.
//!
//! [`Message::parse`] takes one whole message and indexes it; [`Message::check`] says whether it may be acted on.

use super::check;
use super::header::{self, Name, Via};
use super::index::{Head, RowSpan, StartLine};
use super::lines::Lines;
use super::span::Span;
use super::uri::{NameAddr, Uri};
use bytes::Bytes;
use std::fmt;
use std::sync::Arc;

/// A received message, indexed. Cloning is cheap (the bytes are shared).
#[derive(Debug, Clone)]
pub struct Message {
    bytes: Bytes,
    head: Arc<Head>,
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

/// One header row as it came, for who passes it on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row<'a> {
    /// Which header.
    pub id: Name,
    /// The name as written.
    pub name: &'a str,
    /// The value as written, without white space around it; a folded one still holds its line ends.
    pub raw: &'a [u8],
    /// The value as text, unfolded; `None` if it isn't UTF-8.
    pub text: Option<&'a str>,
}

impl Message {
    /// Indexes one whole message (head and body, nothing more). Lenient: [`Self::check`] judges. Fails only when nothing could be
    /// done with the outcome: no start line, a status that isn't one, more rows than [`crate::wire::limits::SIP_HEADERS`].
    pub fn parse(bytes: Bytes) -> Result<Self, Fault> {
        let head = Head::index(&bytes, &Lines::of(&bytes));
        match head.unusable {
            Some(fault) => Err(fault),
            None => Ok(Self::assemble(bytes, head)),
        }
    }

    /// From bytes and the index made of them.
    pub(super) fn assemble(bytes: Bytes, head: Arc<Head>) -> Self {
        Self { bytes, head }
    }

    pub(super) fn head(&self) -> &Head {
        &self.head
    }

    /// Judges what every element must understand (RFC 3261 §16.3 step 1, §8.1.1): exactly one well-formed From, To, Call-ID, CSeq
    /// (number below 2^31, method equal to the request's), at least one Via, Max-Forwards (0..=255 if present, at most one), UTF-8, no
    /// NUL or bare CR/LF in values, a Request-URI that parses, From/To URIs that parse; Contact and Record-Route/Route values that parse if
    /// present; Content-Type that parses if there is a body. Control characters pass only as a quoted-pair (RFC 3261 §25.1).
    pub fn check(&self) -> Result<(), Fault> {
        check::check(self)
    }
    /// The start line.
    pub fn start(&self) -> Start<'_> {
        match &self.head.start {
            StartLine::Request { method, uri } => {
                Start::Request { method, uri: self.text_of(*uri).unwrap_or_default() }
            }
            StartLine::Response { status, reason } => {
                Start::Response { status: *status, reason: self.text_of(*reason).unwrap_or_default() }
            }
        }
    }
    /// The reason phrase of a response; empty for a request.
    pub fn reason_phrase(&self) -> &str {
        match self.start() {
            Start::Response { reason, .. } => reason,
            Start::Request { .. } => "",
        }
    }
    /// Whether this is a request.
    pub fn is_request(&self) -> bool {
        matches!(self.head.start, StartLine::Request { .. })
    }
    /// The method of a request; of a response, the CSeq's.
    pub fn method(&self) -> Option<&Method> {
        match &self.head.start {
            StartLine::Request { method, .. } => Some(method),
            StartLine::Response { .. } => self.head.cseq.as_ref().map(|(_, method)| method),
        }
    }
    /// The first value of a header row, unfolded text as written; compact forms are found by their long name.
    pub fn header(&self, name: Name) -> Option<&str> {
        match self.head.row_text(self.head.first(name)?, &self.bytes) {
            Some(text) => Some(text),
            None => self.rows(name).next(),
        }
    }
    /// All rows of a header, in order, as written (comma-joined rows stay joined). Rows that aren't UTF-8 are left out.
    pub fn rows(&self, name: Name) -> impl Iterator<Item = &str> {
        let rows = self.head.rows_since(name).iter().filter(move |row| row.id == name);
        rows.filter_map(|row| self.head.row_text(row, &self.bytes))
    }
    /// All values of a list header, rows split at commas outside quotes and angle brackets; empty ones are left out.
    pub fn values(&self, name: Name) -> impl Iterator<Item = &str> {
        self.rows(name).flat_map(header::list).filter(|value| !value.is_empty())
    }
    /// The values of a header that holds addresses, as [`Self::values`] has them, each with the address that it is. Those of Contact, Route and
    /// Record-Route were read when the message was.
    pub fn addresses(&self, name: Name) -> impl Iterator<Item = (&str, Result<NameAddr<'_>, Fault>)> {
        self.head.rows_since(name).iter().filter(move |row| row.id == name).flat_map(|row| self.addresses_of(row))
    }
    /// As [`Self::addresses`], of one row by its number.
    pub fn row_addresses(&self, index: usize) -> impl Iterator<Item = (&str, Result<NameAddr<'_>, Fault>)> {
        self.head.rows.get(index).into_iter().flat_map(|row| self.addresses_of(row))
    }
    fn addresses_of<'a>(&'a self, row: &'a RowSpan) -> impl Iterator<Item = (&'a str, Result<NameAddr<'a>, Fault>)> {
        let text = self.head.row_text(row, &self.bytes).unwrap_or_default();
        let read = self.head.row_addresses(row);
        let unread = read.is_empty().then(|| header::list(text).filter(|value| !value.is_empty()));
        let unread = unread.into_iter().flatten().map(|value| (value, NameAddr::parse(value)));
        read.iter().map(|found| (found.value.of(text), Ok(found.read(text)))).chain(unread)
    }
    /// A header we have no [`Name`] for, case-insensitive; compact and long form are one.
    pub fn header_named(&self, name: &str) -> Option<&str> {
        self.rows_named(name).next()
    }
    /// All rows of such a header, in order.
    pub fn rows_named(&self, name: &str) -> impl Iterator<Item = &str> {
        let id = Name::parse(name);
        let wanted = move |row: &Row<'_>| row.id == id && (id != Name::Other || header::same(row.name, name));
        self.all_rows().filter(wanted).filter_map(|row| row.text)
    }
    /// Every header row in order, with its bytes: what a relay copies.
    pub fn all_rows(&self) -> impl Iterator<Item = Row<'_>> {
        self.head.rows.iter().map(|row| Row {
            id: row.id,
            name: self.text_of(row.name()).unwrap_or_default(),
            raw: row.raw(&self.bytes),
            text: self.head.row_text(row, &self.bytes),
        })
    }
    /// Which header each row is, in order: the number is [`Self::row_text`]'s.
    pub fn row_names(&self) -> impl Iterator<Item = (usize, Name)> {
        self.head.rows.iter().map(|row| row.id).enumerate()
    }
    /// A row's name as written, by its number.
    pub fn row_name(&self, index: usize) -> Option<&str> {
        self.text_of(self.head.rows.get(index)?.name())
    }
    /// A row's value, unfolded, by its number; `None` if it isn't UTF-8.
    pub fn row_text(&self, index: usize) -> Option<&str> {
        self.head.row_text(self.head.rows.get(index)?, &self.bytes)
    }
    /// From, when it parses.
    pub fn from(&self) -> Option<NameAddr<'_>> {
        self.address(Name::From).ok()
    }
    /// To, when it parses.
    pub fn to(&self) -> Option<NameAddr<'_>> {
        self.address(Name::To).ok()
    }
    /// The From tag.
    pub fn from_tag(&self) -> Option<&str> {
        match &self.head.from {
            Some(found) => Some(found.tag?.of(self.header(Name::From)?)),
            None => self.from()?.tag(),
        }
    }
    /// The To tag.
    pub fn to_tag(&self) -> Option<&str> {
        match &self.head.to {
            Some(found) => Some(found.tag?.of(self.header(Name::To)?)),
            None => self.to()?.tag(),
        }
    }
    /// From or To, read when the message was indexed; or why it can't be.
    pub(super) fn address(&self, name: Name) -> Result<NameAddr<'_>, Fault> {
        let value = self.header(name).unwrap_or_default();
        let found = if name == Name::From { &self.head.from } else { &self.head.to };
        found.as_ref().map_or_else(|| NameAddr::parse(value), |found| Ok(found.read(value)))
    }
    /// Call-ID.
    pub fn call_id(&self) -> Option<&str> {
        self.header(Name::CallId)
    }
    /// CSeq number and method.
    pub fn cseq(&self) -> Option<(u32, Method)> {
        self.head.cseq.clone()
    }
    /// CSeq number.
    pub fn cseq_number(&self) -> Option<u32> {
        self.head.cseq.as_ref().map(|(number, _)| *number)
    }
    /// A copy that pins no read buffer: for what outlives the input.
    pub fn detached(&self) -> Self {
        Self { bytes: Bytes::copy_from_slice(&self.bytes), head: Arc::clone(&self.head) }
    }
    /// The Request-URI, when it parses.
    pub fn request_uri(&self) -> Option<Uri<'_>> {
        match (self.start(), &self.head.target) {
            (Start::Request { uri, .. }, Some(found)) => Some(found.read(uri)),
            (Start::Request { uri, .. }, None) => Uri::parse(uri).ok(),
            (Start::Response { .. }, _) => None,
        }
    }
    /// The top Via as written.
    pub fn top_via_text(&self) -> Option<&str> {
        self.header(Name::Via)?.get(self.head.top_via.as_ref()?.value.range())
    }
    /// The top Via, when it parses: where the response goes, and the transaction.
    pub fn top_via(&self) -> Option<Via<'_>> {
        let found = self.head.top_via.as_ref()?;
        match &found.parts {
            Some(parts) => Some(parts.read(self.header(Name::Via)?)),
            None => Via::parse(self.top_via_text()?).ok(),
        }
    }
    /// The branch parameter of the top Via.
    pub fn branch(&self) -> Option<&str> {
        self.header(Name::Via)?.get(self.head.top_via.as_ref()?.branch?.range())
    }
    /// The body.
    pub fn body(&self) -> &[u8] {
        self.bytes.get(self.head.length..).unwrap_or_default()
    }
    /// The whole message as received.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    fn text_of(&self, span: Span) -> Option<&str> {
        self.head.text(span, &self.bytes)
    }
}

impl Method {
    /// From its text: whole and case-sensitive, so `message` is not MESSAGE.
    pub fn parse(text: &str) -> Self {
        match text {
            "INVITE" => Method::Invite,
            "ACK" => Method::Ack,
            "BYE" => Method::Bye,
            "CANCEL" => Method::Cancel,
            "REGISTER" => Method::Register,
            "OPTIONS" => Method::Options,
            "INFO" => Method::Info,
            "PRACK" => Method::Prack,
            "UPDATE" => Method::Update,
            "SUBSCRIBE" => Method::Subscribe,
            "NOTIFY" => Method::Notify,
            "REFER" => Method::Refer,
            "MESSAGE" => Method::Message,
            "PUBLISH" => Method::Publish,
            "BENOTIFY" => Method::Benotify,
            "NEGOTIATE" => Method::Negotiate,
            "SERVICE" => Method::Service,
            _ => Method::Other(text.into()),
        }
    }
    /// Its text.
    pub fn as_str(&self) -> &str {
        match self {
            Method::Other(text) => text,
            Method::Invite => "INVITE",
            Method::Ack => "ACK",
            Method::Bye => "BYE",
            Method::Cancel => "CANCEL",
            Method::Register => "REGISTER",
            Method::Options => "OPTIONS",
            Method::Info => "INFO",
            Method::Prack => "PRACK",
            Method::Update => "UPDATE",
            Method::Subscribe => "SUBSCRIBE",
            Method::Notify => "NOTIFY",
            Method::Refer => "REFER",
            Method::Message => "MESSAGE",
            Method::Publish => "PUBLISH",
            Method::Benotify => "BENOTIFY",
            Method::Negotiate => "NEGOTIATE",
            Method::Service => "SERVICE",
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
