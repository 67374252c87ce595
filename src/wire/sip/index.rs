//! The index of a message's head: where each thing stands. One pass, no judgement beyond what keeps rows apart.

use super::header::{Name, Via, list};
use super::message::{Fault, Method};
use super::params;
use super::uri::{Host, NameAddr, Scheme, Uri};
use crate::wire::limits::SIP_HEADERS;
use std::net::{Ipv4Addr, Ipv6Addr};

/// A range of the message's bytes. No head is longer than its numbers reach, and many of them are kept for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Span {
    start: u32,
    end: u32,
}

impl Span {
    fn new(start: usize, end: usize) -> Self {
        let number = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        Self { start: number(start), end: number(end) }
    }

    pub(super) fn range(self) -> std::ops::Range<usize> {
        self.start as usize..self.end as usize
    }

    pub(super) fn of(self, bytes: &[u8]) -> &[u8] {
        bytes.get(self.range()).unwrap_or_default()
    }
}

/// A start line.
#[derive(Debug)]
pub(super) enum StartLine {
    Request { method: Method, uri: Span },
    Response { status: u16, reason: Span },
}

/// Where the parts of a URI stand in a text.
#[derive(Debug, Clone, Copy)]
pub(super) struct UriSpan {
    text: Span,
    scheme: Scheme<'static>,
    user: Option<Span>,
    host: HostSpan,
    port: Option<u16>,
    params: Span,
    headers: Span,
}

/// Where the parts of an address stand in its row's value: what From and To say is asked many times of each message.
#[derive(Debug, Clone, Copy)]
pub(super) struct AddressSpan {
    display: Span,
    uri: UriSpan,
    params: Span,
    tag: Option<Span>,
    /// How many there are.
    tags: usize,
}

#[derive(Debug, Clone, Copy)]
enum HostSpan {
    Name(Span),
    V4(Ipv4Addr),
    V6(Ipv6Addr),
}

impl UriSpan {
    /// Of a URI that is a part of `whole`; `None`: it is read anew each time, which is so for odd ones alone.
    fn of(whole: &str, uri: &Uri<'_>) -> Option<Self> {
        let at = |part: &str| span_in(whole, part);
        let scheme = match uri.scheme {
            Scheme::Sip => Scheme::Sip,
            Scheme::Sips => Scheme::Sips,
            Scheme::Im => Scheme::Im,
            Scheme::Pres => Scheme::Pres,
            Scheme::Tel => Scheme::Tel,
            Scheme::Other(_) => return None,
        };
        let host = match uri.host {
            Host::Name(name) => HostSpan::Name(at(name)),
            Host::V4(address) => HostSpan::V4(address),
            Host::V6(address) => HostSpan::V6(address),
        };
        let (text, user, params, headers) = (at(uri.text), uri.user.map(at), at(uri.params), at(uri.headers));
        Some(Self { text, scheme, user, host, port: uri.port, params, headers })
    }

    /// The URI, of the same text.
    pub(super) fn read<'a>(&self, whole: &'a str) -> Uri<'a> {
        let text = |span: Span| whole.get(span.range()).unwrap_or_default();
        let host = match self.host {
            HostSpan::Name(name) => Host::Name(text(name)),
            HostSpan::V4(address) => Host::V4(address),
            HostSpan::V6(address) => Host::V6(address),
        };
        Uri {
            text: text(self.text),
            scheme: self.scheme,
            user: self.user.map(text),
            host,
            port: self.port,
            params: text(self.params),
            headers: text(self.headers),
        }
    }
}

impl AddressSpan {
    /// Of a row's value.
    fn of(value: &str) -> Option<Self> {
        let address = NameAddr::parse(value).ok()?;
        let at = |part: &str| span_in(value, part);
        let (display, params) = (at(address.display), at(address.params));
        let (tag, tags) = params::find_and_count(address.params, "tag");
        Some(Self { display, uri: UriSpan::of(value, &address.uri)?, params, tag: tag.map(at), tags })
    }

    /// The address, of the same value.
    pub(super) fn read<'a>(&self, value: &'a str) -> NameAddr<'a> {
        let text = |span: Span| value.get(span.range()).unwrap_or_default();
        NameAddr { display: text(self.display), uri: self.uri.read(value), params: text(self.params) }
    }

    /// How many tags it has.
    pub(super) fn tags(&self) -> usize {
        self.tags
    }

    /// Its tag.
    pub(super) fn tag<'a>(&self, value: &'a str) -> Option<&'a str> {
        self.tag.and_then(|tag| value.get(tag.range()))
    }
}

impl ViaSpan {
    /// Of the first Via row's value.
    fn of(row: &str) -> Option<Self> {
        let (place, top) = list(row).enumerate().find(|(_, value)| !value.is_empty())?;
        let via = Via::parse_with_branch(top);
        let branch = match &via {
            Ok((_, branch)) => *branch,
            // Whoever sent it is answered all the same.
            Err(_) => params::cut(top, b';').and_then(|(_, params)| params::find(params, "branch")),
        };
        let branch = branch.filter(|branch| !branch.is_empty()).map(|branch| span_in(row, branch));
        Some(Self { value: span_in(row, top), branch, is_sound: place == 0 && via.is_ok() })
    }
}

/// Where a part of a text stands in it; of a text that is no part (an empty one that stands nowhere), nothing at its start.
fn span_in(whole: &str, part: &str) -> Span {
    let start = (part.as_ptr() as usize).wrapping_sub(whole.as_ptr() as usize);
    if start.checked_add(part.len()).is_some_and(|end| end <= whole.len()) {
        Span::new(start, start + part.len())
    } else {
        Span::default()
    }
}

/// A header row.
#[derive(Debug)]
pub(super) struct RowSpan {
    pub(super) id: Name,
    pub(super) name: Span,
    /// Its lines, from the name's first byte, with their line ends.
    pub(super) lines: Span,
    /// Without white space around it.
    pub(super) value: Span,
    /// Of a folded row (RFC 3261 §7.3.1): the value on one line, or `None` if it isn't UTF-8.
    pub(super) unfolded: Option<Option<Box<str>>>,
}

/// Where the top Via stands in the first Via row's value.
#[derive(Debug, Clone, Copy)]
pub(super) struct ViaSpan {
    pub(super) value: Span,
    pub(super) branch: Option<Span>,
    /// Whether it is the row's first value, and parses.
    pub(super) is_sound: bool,
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
    /// By [`Name`]: which row is the first of it, if there is one.
    firsts: [u16; NAMES],
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
    fn of(bytes: &[u8], start: usize, end: usize) -> Self {
        let crlf = end > start && bytes.get(end - 1) == Some(&b'\r');
        Self { text: Span::new(start, if crlf { end - 1 } else { end }), next: end + 1, crlf }
    }
}

impl Head {
    /// Indexes the head that `bytes` begin with. Goes as far as complete lines go: without the empty line the head is all of them,
    /// and that is a fault. `ends`: where line feeds are, all of them as far as the head goes.
    pub(super) fn index(bytes: &[u8], mut ends: impl Iterator<Item = usize>) -> Self {
        let nothing = StartLine::Response { status: 0, reason: Span::default() };
        let mut head = Head {
            text: None,
            start: nothing,
            start_length: 0,
            rows: Vec::with_capacity(ROWS),
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
        let Some(first) = ends.next().map(|end| Line::of(bytes, 0, end)) else {
            head.fail(Fault::Malformed("start line is not ended by CRLF"));
            head.unusable = head.fault;
            return head;
        };
        head.take_start(bytes, &first);
        head.length = first.next;
        head.start_length = first.next;
        let mut at = first.next;
        // Carriage returns that end a line.
        let mut returns = usize::from(first.crlf);
        loop {
            let Some(line) = ends.next().map(|end| Line::of(bytes, at, end)) else {
                head.fail(Fault::Malformed("header section is not ended by an empty line"));
                break;
            };
            at = line.next;
            returns += usize::from(line.crlf);
            head.length = at;
            if !line.crlf {
                head.fail(Fault::Malformed(BARE_LF));
            }
            if line.text.start == line.text.end {
                break;
            }
            if !head.take_row(bytes, &line) {
                head.fail(Fault::HeadTooLarge);
                head.unusable = Some(Fault::HeadTooLarge);
                break;
            }
        }
        let lines = bytes.get(..head.length).unwrap_or_default();
        head.text = std::str::from_utf8(lines).ok().map(Box::from);
        // Without a branch, so that many bytes are looked at together.
        let is_odd = |byte: u8| (byte < b' ') & (byte != b'\r') & (byte != b'\n') & (byte != b'\t') | (byte == 0x7f);
        let odd = lines.iter().fold(0, |odd, byte| odd | u8::from(is_odd(*byte)));
        let all_returns = memchr::memchr_iter(b'\r', lines).count();
        head.is_clean = odd == 0 && all_returns == returns && head.text.is_some();
        head.unfold(bytes);
        head.read_values(bytes);
        head
    }

    /// What is asked of nearly every message.
    fn read_values(&mut self, bytes: &[u8]) {
        let address = |name| self.first_text(name, bytes).and_then(AddressSpan::of);
        let (from, to) = (address(Name::From), address(Name::To));
        let target = match &self.start {
            StartLine::Request { uri, .. } => {
                self.text(*uri, bytes).and_then(|text| UriSpan::of(text, &Uri::parse(text).ok()?))
            }
            StartLine::Response { .. } => None,
        };
        let top_via = self.first_text(Name::Via, bytes).and_then(ViaSpan::of);
        let cseq = self.first_text(Name::CSeq, bytes).and_then(parse_cseq);
        (self.from, self.to, self.target, self.top_via, self.cseq) = (from, to, target, top_via, cseq);
    }

    /// A part of the head; `None` if it isn't UTF-8.
    pub(super) fn text<'a>(&'a self, part: Span, bytes: &'a [u8]) -> Option<&'a str> {
        match &self.text {
            Some(text) => text.get(part.range()),
            None => std::str::from_utf8(part.of(bytes)).ok(),
        }
    }

    /// A row's value on one line; `None` if it isn't UTF-8.
    pub(super) fn row_text<'a>(&'a self, row: &'a RowSpan, bytes: &'a [u8]) -> Option<&'a str> {
        match &row.unfolded {
            Some(text) => text.as_deref(),
            None => self.text(row.value, bytes),
        }
    }

    fn first_text<'a>(&'a self, name: Name, bytes: &'a [u8]) -> Option<&'a str> {
        self.row_text(self.first(name)?, bytes)
    }

    pub(super) fn first(&self, name: Name) -> Option<&RowSpan> {
        self.rows_since(name).first()
    }

    /// The rows from the first of this name.
    pub(super) fn rows_since(&self, name: Name) -> &[RowSpan] {
        if !self.has(name) {
            return &[];
        }
        self.rows.get(usize::from(self.firsts[name as usize])..).unwrap_or_default()
    }

    /// Whether there is a row of this name.
    pub(super) fn has(&self, name: Name) -> bool {
        self.seen & bit(name) != 0
    }

    /// Whether there are two.
    pub(super) fn has_two(&self, name: Name) -> bool {
        self.again & bit(name) != 0
    }

    fn fail(&mut self, fault: Fault) {
        self.fault.get_or_insert(fault);
    }

    /// `Method SP Request-URI SP SIP-Version` or `SIP-Version SP Status-Code SP Reason-Phrase` (RFC 3261 §7.1, §7.2).
    fn take_start(&mut self, bytes: &[u8], line: &Line) {
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
                let status = std::str::from_utf8(rest.get(..second).unwrap_or_default()).ok();
                let status = status
                    .filter(|status| status.len() == 3)
                    .and_then(params::digits)
                    .and_then(|status| status.parse().ok());
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
        if text.iter().any(|byte| byte.is_ascii_control()) {
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
                    row.lines = Span::new(row.lines.range().start, next);
                    row.unfolded = Some(None);
                }
                None => self.fail(Fault::Malformed("the first header line begins with white space")),
            }
            return true;
        }
        if self.rows.len() >= SIP_HEADERS {
            return false;
        }
        let (name, behind) = text.split_at_checked(params::run(text, &params::TOKEN)).unwrap_or_default();
        // RFC 3261 §25.1 HCOLON: white space may stand before the colon, but no other.
        let space = behind.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
        let colon = name.len() + space;
        if name.is_empty() || text.get(colon) != Some(&b':') {
            self.fail(Fault::Malformed(match memchr::memchr(b':', text) {
                Some(_) => "a header name is not a token",
                None => "a header line has no colon",
            }));
            return true;
        }
        let value = text.get(colon + 1..).unwrap_or_default();
        let trimmed = trim_end(value);
        let before = trimmed.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
        let value_start = start + colon + 1 + before;
        let id = Name::of(name);
        if self.has(id) {
            self.again |= bit(id);
        } else {
            self.seen |= bit(id);
            self.firsts[id as usize] = u16::try_from(self.rows.len()).unwrap_or_default();
        }
        self.rows.push(RowSpan {
            id,
            name: Span::new(start, start + name.len()),
            lines: Span::new(start, next),
            value: Span::new(value_start, start + colon + 1 + trimmed.len()),
            unfolded: None,
        });
        true
    }

    /// Makes the one-line text of folded rows, now that their ends are known.
    fn unfold(&mut self, bytes: &[u8]) {
        for row in self.rows.iter_mut().filter(|row| row.unfolded.is_some()) {
            // The value may begin on a later line than its name: `To:` CRLF SP `<sip:…>`.
            let raw = row.value.of(bytes);
            let mut rest = raw;
            while let [b' ' | b'\t' | b'\n', tail @ ..] | [b'\r', b'\n', tail @ ..] = rest {
                rest = tail;
            }
            let value = row.value.range();
            row.value = Span::new(value.start + raw.len() - rest.len(), value.end);
            row.unfolded = Some(std::str::from_utf8(row.value.of(bytes)).ok().map(unfolded));
        }
    }
}

/// Rows for which there is room from the beginning: most messages have fewer.
const ROWS: usize = 16;

/// There are fewer names than bits.
const fn bit(name: Name) -> u64 {
    1 << (name as u32)
}

const _: () = assert!((Name::Other as u32) < 64);

/// How many names there are: [`Name::Other`] is the last.
const NAMES: usize = Name::Other as usize + 1;

const _: () = assert!(SIP_HEADERS <= u16::MAX as usize);

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
