//! The index of a message's head: where each thing stands. One pass, no judgement beyond what keeps rows apart.

use super::header::Name;
use super::message::{Fault, Method};
use super::params::{self, LWS};
use crate::wire::limits::SIP_HEADERS;

/// A range of the message's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Span {
    start: usize,
    end: usize,
}

impl Span {
    /// Both ends.
    pub(super) fn ends(self) -> (usize, usize) {
        (self.start, self.end)
    }

    pub(super) fn of(self, bytes: &[u8]) -> &[u8] {
        bytes.get(self.start..self.end).unwrap_or_default()
    }
}

/// A start line.
#[derive(Debug)]
pub(super) enum StartLine {
    Request { method: Method, uri: Span },
    Response { status: u16, reason: Span },
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

/// The index.
#[derive(Debug)]
pub(super) struct Head {
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
    fn at(bytes: &[u8], start: usize) -> Option<Self> {
        let rest = bytes.get(start..)?;
        let end = start + memchr::memchr(b'\n', rest)?;
        let crlf = end > start && bytes.get(end - 1) == Some(&b'\r');
        Some(Self { text: Span { start, end: if crlf { end - 1 } else { end } }, next: end + 1, crlf })
    }
}

impl Head {
    /// Indexes the head that `bytes` begin with. Goes as far as complete lines go: without the empty line the head is all of them,
    /// and that is a fault.
    pub(super) fn index(bytes: &[u8]) -> Self {
        let nothing = StartLine::Response { status: 0, reason: Span::default() };
        let mut head = Head {
            start: nothing,
            start_length: 0,
            rows: Vec::new(),
            length: 0,
            cseq: None,
            fault: None,
            unusable: None,
        };
        let Some(first) = Line::at(bytes, 0) else {
            head.fail(Fault::Malformed("start line is not ended by CRLF"));
            head.unusable = head.fault;
            return head;
        };
        head.take_start(bytes, &first);
        head.length = first.next;
        head.start_length = first.next;
        let mut at = first.next;
        loop {
            let Some(line) = Line::at(bytes, at) else {
                head.fail(Fault::Malformed("header section is not ended by an empty line"));
                break;
            };
            at = line.next;
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
        head.unfold(bytes);
        head.cseq = head.first(Name::CSeq).and_then(|row| parse_cseq(row.text(bytes)?));
        head
    }

    pub(super) fn first(&self, name: Name) -> Option<&RowSpan> {
        self.rows.iter().find(|row| row.id == name)
    }

    fn fail(&mut self, fault: Fault) {
        self.fault.get_or_insert(fault);
    }

    /// `Method SP Request-URI SP SIP-Version` or `SIP-Version SP Status-Code SP Reason-Phrase` (RFC 3261 §7.1, §7.2).
    fn take_start(&mut self, bytes: &[u8], line: &Line) {
        if !line.crlf {
            self.fail(Fault::Malformed(BARE_LF));
        }
        let Span { start, end } = line.text;
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
                        let reason = Span { start: (start + first + second + 2).min(end), end };
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
                let uri = Span { start: start + (method_end + 1).min(last), end: start + last };
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
        let text = line.of(bytes);
        if text.first().is_some_and(|byte| b" \t".contains(byte)) {
            match self.rows.last_mut() {
                // A line of white space alone looks like the end of the head to some.
                _ if trim_end(text).is_empty() => self.fail(Fault::Malformed("a header line holds white space alone")),
                Some(row) => {
                    row.value.end = line.start + trim_end(text).len();
                    row.lines.end = next;
                    row.unfolded = Some(None);
                }
                None => self.fail(Fault::Malformed("the first header line begins with white space")),
            }
            return true;
        }
        if self.rows.len() >= SIP_HEADERS {
            return false;
        }
        let Some(colon) = memchr::memchr(b':', text) else {
            self.fail(Fault::Malformed("a header line has no colon"));
            return true;
        };
        // RFC 3261 §25.1 HCOLON: white space may stand before the colon, but no other.
        let name = text.get(..colon).unwrap_or_default();
        let name = trim_end(name);
        let Some(name_text) = std::str::from_utf8(name).ok().filter(|name| params::is_token(name)) else {
            self.fail(Fault::Malformed("a header name is not a token"));
            return true;
        };
        let value = text.get(colon + 1..).unwrap_or_default();
        let trimmed = trim_end(value);
        let before = trimmed.iter().position(|byte| !b" \t".contains(byte)).unwrap_or(trimmed.len());
        let value_start = line.start + colon + 1 + before;
        self.rows.push(RowSpan {
            id: Name::parse(name_text),
            name: Span { start: line.start, end: line.start + name.len() },
            lines: Span { start: line.start, end: next },
            value: Span { start: value_start, end: line.start + colon + 1 + trimmed.len() },
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
            row.value.start += raw.len() - rest.len();
            row.unfolded = Some(std::str::from_utf8(row.value.of(bytes)).ok().map(unfolded));
        }
    }
}

impl RowSpan {
    pub(super) fn text<'a>(&'a self, bytes: &'a [u8]) -> Option<&'a str> {
        match &self.unfolded {
            Some(text) => text.as_deref(),
            None => std::str::from_utf8(self.value.of(bytes)).ok(),
        }
    }
}

fn trim_end(text: &[u8]) -> &[u8] {
    let length = text.iter().rposition(|byte| !b" \t".contains(byte)).map_or(0, |last| last + 1);
    text.get(..length).unwrap_or_default()
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
    let (number, method) = text.split_once(LWS)?;
    let number: u32 = params::digits(number)?.parse().ok()?;
    let method = method.trim_matches(LWS);
    (number < 1 << 31 && params::is_token(method)).then(|| (number, Method::parse(method)))
}
