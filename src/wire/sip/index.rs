//! The index of a message's head: where each thing stands. One pass, no judgement beyond what keeps rows apart.

use super::header::{Name, Via, list};
use super::lines::Lines;
use super::message::{Fault, Method};
use super::params;
use super::plain;
use super::span::{AddressSpan, Span, UriSpan, ViaSpan, span_in};
use super::uri::Uri;
use crate::wire::limits::SIP_HEADERS;
use smallvec::SmallVec;
use std::sync::Arc;

/// A start line.
#[derive(Debug)]
pub(super) enum StartLine {
    Request { method: Method, uri: Span },
    Response { status: u16, reason: Span },
}

impl ViaSpan {
    /// Of the first Via row's value.
    fn of(row: &str) -> Option<Self> {
        if let Some((parts, params)) = plain::via(row) {
            let branch = params.first.map(|branch| branch.of(row)).filter(|branch| !branch.is_empty());
            let branch = branch.map(|branch| span_in(row, branch));
            return Some(Self { value: Span::new(0, params.end), branch, is_sound: true, parts: Some(parts) });
        }
        let (place, top) = list(row).enumerate().find(|(_, value)| !value.is_empty())?;
        let via = Via::parse(top);
        let branch = match &via {
            Ok(via) => via.branch(),
            // Whoever sent it is answered all the same.
            Err(_) => params::cut(top, b';').and_then(|(_, params)| params::find(params, "branch")),
        };
        let branch = branch.filter(|branch| !branch.is_empty()).map(|branch| span_in(row, branch));
        Some(Self { value: span_in(row, top), branch, is_sound: place == 0 && via.is_ok(), parts: None })
    }
}

/// A header row.
#[derive(Debug)]
pub(super) struct RowSpan {
    pub(super) id: Name,
    /// Which of the folded values is its, counted from 1; 0: it isn't folded (RFC 3261 §7.3.1).
    folded: u16,
    /// Which of the addresses that were read are its: from where, and how many.
    addresses: (u8, u8),
    /// Where it and its name begin, the name's end, the value's range without white space around it, and where its lines end.
    start: u32,
    name_end: u32,
    value: Span,
    end: u32,
}

impl RowSpan {
    #[inline]
    pub(super) fn name(&self) -> Span {
        Span { start: self.start, end: self.name_end }
    }

    /// Its value, without white space around it; a folded one with its line ends.
    pub(super) fn raw<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        self.value.of(bytes)
    }

    /// Its lines, from the name's first byte, with their line ends.
    #[inline]
    pub(super) fn lines(&self) -> Span {
        Span { start: self.start, end: self.end }
    }
}

/// The index.
#[derive(Debug)]
pub(super) struct Head {
    /// The whole of it, if it is UTF-8: what is asked for is asked for many times, and so need not be looked through each time.
    text: Option<Box<str>>,
    pub(super) start: StartLine,
    /// Bytes of the start line with its line end.
    pub(super) start_length: usize,
    pub(super) rows: Vec<RowSpan>,
    /// Of the folded rows: the value on one line, or `None` if it isn't UTF-8.
    folded: Vec<Option<Box<str>>>,
    /// The values of Contact, Route and Record-Route rows.
    addresses: Addresses,
    /// Bytes of the head with its closing empty line.
    pub(super) length: usize,
    /// The first CSeq row, if it parses.
    pub(super) cseq: Option<(u32, Method)>,
    /// The first thing that is wrong with the lines themselves.
    pub(super) fault: Option<Fault>,
    /// Nothing can be done with this message, not even answer it.
    pub(super) unusable: Option<Fault>,
    /// Which headers there are, and which of them more than once: bits by [`Name`].
    pub(super) seen: u64,
    pub(super) again: u64,
    /// By [`Name`]: which row is the first of it, if there is one; from [`u8::MAX`] on, not before that.
    firsts: [u8; NAMES],
    /// The first From and To, if they parse.
    pub(super) from: Option<AddressSpan>,
    pub(super) to: Option<AddressSpan>,
    /// The Request-URI, if it parses.
    pub(super) target: Option<UriSpan>,
    /// The top Via value.
    pub(super) top_via: Option<ViaSpan>,
    /// Whether it is UTF-8 and no control character stands in it but line ends and tabs.
    pub(super) is_clean: bool,
}

/// One physical line of a head.
struct Line {
    /// Without its line end.
    text: Span,
    /// Where the next one starts.
    next: usize,
    /// Whether it ended in CRLF.
    crlf: bool,
}

impl Line {
    /// From `start` to the line feed at `end`.
    #[inline]
    fn of(bytes: &[u8], start: usize, end: u32) -> Self {
        let end = end as usize;
        let crlf = end > start && bytes.get(end - 1) == Some(&b'\r');
        Self { text: Span::new(start, if crlf { end - 1 } else { end }), next: end + 1, crlf }
    }
}

/// Of nothing yet.
const EMPTY: Head = Head {
    text: None,
    start: StartLine::Response { status: 0, reason: Span { start: 0, end: 0 } },
    start_length: 0,
    rows: Vec::new(),
    folded: Vec::new(),
    addresses: SmallVec::new_const(),
    length: 0,
    cseq: None,
    fault: None,
    unusable: None,
    seen: 0,
    again: 0,
    firsts: [0; NAMES],
    from: None,
    to: None,
    target: None,
    top_via: None,
    is_clean: false,
};

impl Head {
    /// Indexes the head that `bytes` begin with. Goes as far as complete lines go: without the empty line the head is all of them,
    /// and that is a fault. `lines`: all of them as far as the head goes.
    pub(super) fn index(bytes: &[u8], lines: &Lines) -> Arc<Self> {
        let mut head = Arc::new(EMPTY);
        // Filled where it will stay.
        if let Some(head) = Arc::get_mut(&mut head) {
            head.fill(bytes, lines);
        }
        head
    }

    fn fill(&mut self, bytes: &[u8], lines: &Lines) {
        let mut ends = lines.ends.iter().copied();
        let Some(first) = ends.next().map(|end| Line::of(bytes, 0, end)) else {
            self.fail(Fault::Malformed("start line is not ended by CRLF"));
            self.unusable = self.fault;
            return;
        };
        self.rows = Vec::with_capacity(ends.len().saturating_sub(1).min(SIP_HEADERS));
        self.take_start(bytes, &first, lines);
        self.length = first.next;
        self.start_length = first.next;
        let mut at = first.next;
        loop {
            let Some(line) = ends.next().map(|end| Line::of(bytes, at, end)) else {
                self.fail(Fault::Malformed("header section is not ended by an empty line"));
                break;
            };
            at = line.next;
            self.length = at;
            if !line.crlf {
                self.fail(Fault::Malformed(BARE_LF));
            }
            if line.text.start == line.text.end {
                break;
            }
            if !self.take_row(bytes, &line) {
                self.fail(Fault::HeadTooLarge);
                self.unusable = Some(Fault::HeadTooLarge);
                break;
            }
        }
        self.text = std::str::from_utf8(bytes.get(..self.length).unwrap_or_default()).ok().map(Box::from);
        self.is_clean = lines.are_clean() && self.text.is_some();
        if !self.folded.is_empty() {
            self.unfold(bytes);
        }
        self.read_values(bytes);
    }

    /// What is asked of nearly every message.
    fn read_values(&mut self, bytes: &[u8]) {
        self.from = self.first_text(Name::From, bytes).and_then(whole_address);
        self.to = self.first_text(Name::To, bytes).and_then(whole_address);
        let target = match &self.start {
            StartLine::Request { uri, .. } => self.text(*uri, bytes).and_then(|text| match plain::uri(text, 0) {
                Some((uri, end)) if end == text.len() => Some(uri),
                _ => UriSpan::find(text, &Uri::parse(text).ok()?),
            }),
            StartLine::Response { .. } => None,
        };
        let top_via = self.first_text(Name::Via, bytes).and_then(ViaSpan::of);
        let cseq = self.first_text(Name::CSeq, bytes).and_then(parse_cseq);
        (self.target, self.top_via, self.cseq) = (target, top_via, cseq);
        if self.seen & LISTED != 0 {
            self.read_lists(bytes);
        }
    }

    /// What Contact, Route and Record-Route say is asked by each who looks at the route.
    fn read_lists(&mut self, bytes: &[u8]) {
        let mut found = SmallVec::new();
        for index in 0..self.rows.len() {
            let start = found.len();
            let Some(row) = self.rows.get(index).filter(|row| bit(row.id) & LISTED != 0) else { continue };
            let Some(text) = self.row_text(row, bytes) else { continue };
            if read_list(text, &mut found).is_none() {
                found.truncate(start);
            }
            if let Some(row) = self.rows.get_mut(index) {
                row.addresses = (start as u8, (found.len() - start) as u8);
            }
        }
        self.addresses = found;
    }

    /// A part of the head; `None` if it isn't UTF-8.
    #[inline]
    pub(super) fn text<'a>(&'a self, part: Span, bytes: &'a [u8]) -> Option<&'a str> {
        match &self.text {
            Some(text) => text.get(part.range()),
            None => std::str::from_utf8(part.of(bytes)).ok(),
        }
    }

    /// A row's value on one line; `None` if it isn't UTF-8.
    #[inline]
    pub(super) fn row_text<'a>(&'a self, row: &'a RowSpan, bytes: &'a [u8]) -> Option<&'a str> {
        match usize::from(row.folded).checked_sub(1) {
            Some(folded) => self.folded.get(folded)?.as_deref(),
            None => self.text(row.value, bytes),
        }
    }

    /// What was read of a row's values, all of them; none: it wasn't, or one of them doesn't parse.
    #[inline]
    pub(super) fn row_addresses(&self, row: &RowSpan) -> &[AddressSpan] {
        let (start, count) = (usize::from(row.addresses.0), usize::from(row.addresses.1));
        self.addresses.get(start..start + count).unwrap_or_default()
    }

    #[inline]
    fn first_text<'a>(&'a self, name: Name, bytes: &'a [u8]) -> Option<&'a str> {
        self.row_text(self.first(name)?, bytes)
    }

    #[inline]
    pub(super) fn first(&self, name: Name) -> Option<&RowSpan> {
        if !self.has(name) {
            return None;
        }
        let first = usize::from(self.firsts[name as usize]);
        self.rows
            .get(first)
            .filter(|row| row.id == name)
            .or_else(|| self.rows_since(name).iter().find(|row| row.id == name))
    }

    /// The rows from the first of this name.
    #[inline]
    pub(super) fn rows_since(&self, name: Name) -> &[RowSpan] {
        if !self.has(name) {
            return &[];
        }
        self.rows.get(usize::from(self.firsts[name as usize])..).unwrap_or_default()
    }

    /// Whether there is a row of this name.
    #[inline]
    pub(super) fn has(&self, name: Name) -> bool {
        self.seen & bit(name) != 0
    }

    /// Whether there are two.
    #[inline]
    pub(super) fn has_two(&self, name: Name) -> bool {
        self.again & bit(name) != 0
    }

    fn fail(&mut self, fault: Fault) {
        self.fault.get_or_insert(fault);
    }

    /// `Method SP Request-URI SP SIP-Version` or `SIP-Version SP Status-Code SP Reason-Phrase` (RFC 3261 §7.1, §7.2).
    fn take_start(&mut self, bytes: &[u8], line: &Line, lines: &Lines) {
        if !line.crlf {
            self.fail(Fault::Malformed(BARE_LF));
        }
        let std::ops::Range { start, end } = line.text.range();
        let text = line.text.of(bytes);
        match start_kind(text) {
            None => {
                self.fail(Fault::Malformed("start line is neither a SIP request nor a SIP response"));
                self.unusable = self.fault;
            }
            Some(Kind::Response) => {
                let first = memchr::memchr(b' ', text).unwrap_or(text.len());
                if !text.get(..first).is_some_and(is_version_2) {
                    self.fail(Fault::Version);
                }
                let rest = text.get(first + 1..).unwrap_or_default();
                let second = memchr::memchr(b' ', rest).unwrap_or(rest.len());
                let status = match rest.get(..second) {
                    Some([a @ b'0'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9']) => {
                        Some([a, b, c].into_iter().fold(0, |status, digit| status * 10 + u16::from(digit - b'0')))
                    }
                    _ => None,
                };
                match status {
                    Some(status @ 100..=699) => {
                        let reason = Span::new((start + first + second + 2).min(end), end);
                        if std::str::from_utf8(reason.of(bytes)).is_err() {
                            self.fail(Fault::Malformed("reason phrase is not UTF-8"));
                        }
                        self.start = StartLine::Response { status, reason };
                    }
                    _ => {
                        self.fail(Fault::Malformed("status code is not a number from 100 to 699"));
                        self.unusable = self.fault;
                    }
                }
            }
            Some(Kind::Request) if let Some((method, uri)) = plain_request(text) => {
                self.start = StartLine::Request {
                    method: Method::parse(method),
                    uri: Span::new(start + uri.start, start + uri.end),
                };
            }
            Some(Kind::Request) => {
                // Outermost spaces, so that a line with too many still yields a method for the answer.
                let method_end = memchr::memchr(b' ', text).unwrap_or(text.len());
                let last = memchr::memrchr(b' ', trim_end(text)).unwrap_or(text.len());
                let uri = Span::new(start + (method_end + 1).min(last), start + last);
                let method = String::from_utf8_lossy(text.get(..method_end).unwrap_or_default());
                if !params::is_token(&method) {
                    self.fail(Fault::Malformed("method is not a token"));
                }
                if !text.get(last + 1..).is_some_and(|version| is_version_2(trim_end(version))) {
                    self.fail(Fault::Version);
                }
                if text.last() == Some(&b' ')
                    || uri.of(bytes).is_empty()
                    || memchr::memchr(b' ', uri.of(bytes)).is_some()
                {
                    self.fail(Fault::Malformed("start line is not method, URI and version with one space between"));
                }
                self.start = StartLine::Request { method: Method::parse(&method), uri };
            }
        }
        if !lines.are_bare() && text.iter().any(u8::is_ascii_control) {
            self.fail(Fault::Malformed("start line holds a control character"));
        }
    }

    /// A row or the continuation of one. `false`: one too many.
    fn take_row(&mut self, bytes: &[u8], &Line { text: line, next, .. }: &Line) -> bool {
        let (text, start) = (line.of(bytes), line.range().start);
        if text.first().is_some_and(|byte| b" \t".contains(byte)) {
            match self.rows.last_mut() {
                // A line of white space alone looks like the end of the head to some.
                _ if trim_end(text).is_empty() => self.fail(Fault::Malformed("a header line holds white space alone")),
                Some(row) => {
                    row.value = Span::new(row.value.range().start, start + trim_end(text).len());
                    row.end = Span::new(0, next).end;
                    if row.folded == 0 {
                        self.folded.push(None);
                        row.folded = self.folded.len() as u16;
                    }
                }
                None => self.fail(Fault::Malformed("the first header line begins with white space")),
            }
            return true;
        }
        if self.rows.len() >= SIP_HEADERS {
            return false;
        }
        let name_end = params::run(text, params::TOKEN);
        // RFC 3261 §25.1 HCOLON: white space may stand before the colon, but no other.
        let colon = skip_space(text, name_end);
        if name_end == 0 || text.get(colon) != Some(&b':') {
            self.fail(Fault::Malformed(match memchr::memchr(b':', text) {
                Some(_) => "a header name is not a token",
                None => "a header line has no colon",
            }));
            return true;
        }
        let id = Name::of(text.get(..name_end).unwrap_or_default());
        if self.has(id) {
            self.again |= bit(id);
        } else {
            self.seen |= bit(id);
            self.firsts[id as usize] = u8::try_from(self.rows.len()).unwrap_or(u8::MAX);
        }
        let end = trim_end(text).len().max(colon + 1);
        let value = Span::new(start + skip_space(text, colon + 1).min(end), start + end);
        let (name, lines) = (Span::new(start, start + name_end), Span::new(start, next));
        self.rows.push(RowSpan {
            id,
            folded: 0,
            addresses: (0, 0),
            start: name.start,
            name_end: name.end,
            value,
            end: lines.end,
        });
        true
    }

    /// Makes the one-line text of folded rows, now that their ends are known.
    fn unfold(&mut self, bytes: &[u8]) {
        for row in self.rows.iter_mut().filter(|row| row.folded > 0) {
            // The value may begin on a later line than its name: `To:` CRLF SP `<sip:…>`.
            let raw = row.value.of(bytes);
            let mut rest = raw;
            while let [b' ' | b'\t' | b'\n', tail @ ..] | [b'\r', b'\n', tail @ ..] = rest {
                rest = tail;
            }
            let value = row.value.range();
            row.value = Span::new(value.start + raw.len() - rest.len(), value.end);
            if let Some(text) = self.folded.get_mut(usize::from(row.folded) - 1) {
                *text = std::str::from_utf8(row.value.of(bytes)).ok().map(unfolded);
            }
        }
    }
}

/// Of a row's whole value.
fn whole_address(value: &str) -> Option<AddressSpan> {
    match plain::address(value, 0) {
        Some(found) if found.end() == value.len() => Some(found),
        _ => AddressSpan::find(value, value),
    }
}

/// Reads the addresses of a row's value into `found`; `None`: one doesn't parse, or there are too many.
pub(super) fn read_list(row: &str, found: &mut Addresses) -> Option<()> {
    let mut at = 0;
    loop {
        at += row.get(at..)?.bytes().take_while(|byte| params::is_space(*byte)).count();
        let Some(address) = plain::address(row, at) else { break };
        at = address.end();
        push(found, address)?;
        match row.as_bytes().get(at) {
            None => return Some(()),
            Some(_) => at += 1,
        }
    }
    list(row.get(at..)?).try_for_each(|value| push(found, AddressSpan::find(row, value)?))
}

fn push(found: &mut Addresses, address: AddressSpan) -> Option<()> {
    (found.len() < ADDRESSES).then(|| found.push(address))
}

/// Headers whose addresses are read with the rest.
const LISTED: u64 = bit(Name::Contact) | bit(Name::Route) | bit(Name::RecordRoute);

/// How many of their addresses are kept: most messages have a few, and one full of them is not to cost many times its bytes.
const ADDRESSES: usize = 64;

/// With room for as many as most have.
pub(super) type Addresses = SmallVec<[AddressSpan; 2]>;

const _: () = assert!(ADDRESSES <= u8::MAX as usize);

/// There are fewer names than bits.
const fn bit(name: Name) -> u64 {
    1 << (name as u32)
}

const _: () = assert!((Name::Other as u32) < 64);

/// How many names there are: [`Name::Other`] is the last.
const NAMES: usize = Name::Other as usize + 1;

const _: () = assert!(SIP_HEADERS <= u16::MAX as usize);

/// Behind the blanks and tabs that stand there.
#[inline]
fn skip_space(text: &[u8], at: usize) -> usize {
    let mut at = at;
    while let Some(b' ' | b'\t') = text.get(at) {
        at += 1;
    }
    at
}

fn trim_end(text: &[u8]) -> &[u8] {
    let mut text = text;
    while let [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

pub(super) const BARE_LF: &str = "a header line is ended by a bare LF, not CRLF";

/// Each line end with the white space around it becomes one space (RFC 3261 §7.3.1).
fn unfolded(text: &str) -> Box<str> {
    let lines = text.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line));
    let mut out = String::with_capacity(text.len());
    for line in lines {
        if !out.is_empty() {
            out.push(' ');
        }
        let line = if out.is_empty() { line } else { line.trim_start_matches([' ', '\t']) };
        out.push_str(line.trim_end_matches([' ', '\t']));
    }
    out.into()
}

/// What a start line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Request,
    Response,
}

/// Tells a SIP start line from garbage: a response begins with `SIP/`, a request ends in `SIP/…`.
pub(super) fn start_kind(line: &[u8]) -> Option<Kind> {
    if line.get(..4).is_some_and(|start| start.eq_ignore_ascii_case(b"SIP/")) {
        return Some(Kind::Response);
    }
    let line = trim_end(line);
    let last = line.get(memchr::memrchr(b' ', line)? + 1..)?;
    last.get(..4).is_some_and(|start| start.eq_ignore_ascii_case(b"SIP/")).then_some(Kind::Request)
}

/// Method and URI of a request line, if it is as it should be.
fn plain_request(line: &[u8]) -> Option<(&str, std::ops::Range<usize>)> {
    let line = line.strip_suffix(b" SIP/2.0")?;
    let method = params::run(line, params::TOKEN);
    let uri = line.get(method..)?.strip_prefix(b" ").filter(|uri| !uri.is_empty() && !uri.contains(&b' '))?;
    let text = std::str::from_utf8(line.get(..method)?).ok().filter(|method| !method.is_empty())?;
    Some((text, line.len() - uri.len()..line.len()))
}

/// RFC 3261 §7.1: the version string is case-insensitive.
fn is_version_2(text: &[u8]) -> bool {
    text.eq_ignore_ascii_case(b"SIP/2.0")
}

/// `1*DIGIT LWS Method`, below 2^31 (RFC 3261 §8.1.1.5).
fn parse_cseq(text: &str) -> Option<(u32, Method)> {
    let (number, method) = params::cut_where(text, params::is_space)?;
    let number: u32 = params::digits(number)?.parse().ok()?;
    let method = params::trim(method);
    (number < 1 << 31 && params::is_token(method)).then(|| (number, Method::parse(method)))
}
