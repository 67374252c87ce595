//! Cuts a TLS or TCP byte stream into SIP messages (RFC 3261 §18.3) and keepalives (RFC 5626 §4.4.1).
//!
//! What a head means is decided by the index alone, so that framing and meaning can't differ. Where they could (a bare LF, a doubtful
//! Content-Length) nothing behind the head is read.

use super::header::Name;
use super::index::{BARE_LF, Head, start_kind};
use super::lines::Lines;
use super::message::{Fault, Message};
use super::params;
use bytes::{Buf, Bytes, BytesMut};
use std::sync::Arc;

/// What a byte stream holds next.
#[derive(Debug, Clone)]
pub enum Frame {
    /// A whole message whose head could be indexed. Not yet judged: see [`Message::check`].
    Message(Message),
    /// CRLFCRLF: a keepalive ping (RFC 5626 §4.4.1).
    Ping,
    /// Something that can't be a message.
    Bad {
        /// As much as could be indexed, when a response can be built from it: a request that has a Via.
        message: Option<Message>,
        /// What is wrong.
        fault: Fault,
        /// Framing is lost: nothing after this can be read; close after answering.
        fatal: bool,
    },
}

/// An incremental framer with bounds.
#[derive(Debug)]
pub struct Framer {
    buffer: BytesMut,
    head_bytes_max: usize,
    body_bytes_max: usize,
    state: State,
    /// Of the head that is being read.
    lines: Lines,
}

/// Where in the stream the buffer begins.
#[derive(Debug)]
enum State {
    /// Between messages; whether a CRLF was just seen.
    Between { crlf: bool },
    /// At a start line; whether it was read and is SIP.
    Head { is_sip: bool },
    /// At a start line whose head is known; the message is `total` bytes.
    Body { head: Arc<Head>, total: usize },
    /// In a body nobody wants.
    Skip { left: usize },
    /// Behind a fatal fault.
    Lost,
}

const BETWEEN: State = State::Between { crlf: false };

impl Framer {
    /// `head_bytes_max`: start line and headers; `body_bytes_max`: Content-Length beyond it is [`Fault::BodyTooLarge`]; a body
    /// up to 8 times that is skipped so the link can go on, beyond that the fault is fatal.
    pub fn new(head_bytes_max: usize, body_bytes_max: usize) -> Self {
        Self { buffer: BytesMut::new(), head_bytes_max, body_bytes_max, state: BETWEEN, lines: Lines::default() }
    }
    /// Where the reader puts bytes (`read_buf`).
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }
    /// The next frame, if a whole one is there. Never looks at a byte twice; call until `None`.
    #[allow(clippy::should_implement_trait)] // `None` is "not yet", not the end
    pub fn next(&mut self) -> Option<Frame> {
        loop {
            match &mut self.state {
                State::Between { crlf } => match self.buffer.as_ref() {
                    [] | [b'\r'] => return None,
                    // RFC 3261 §7.5: CRLFs before a start line mean nothing; RFC 5626 §4.4.1: two of them ask for one back.
                    [b'\r', b'\n', ..] => {
                        let second = *crlf;
                        *crlf = !second;
                        self.buffer.advance(2);
                        if second {
                            return Some(Frame::Ping);
                        }
                    }
                    [b'\n', ..] => return self.lose(None, Fault::Malformed(BARE_LF)),
                    [first, ..] if params::is_token_byte(*first) => {
                        self.state = State::Head { is_sip: false };
                        self.lines.clear();
                    }
                    _ => return self.lose(None, Fault::Malformed(NOT_SIP)),
                },
                State::Head { .. } => match self.seek_head_end()? {
                    Ok(length) => {
                        if let Some(frame) = self.enter_body(length) {
                            return Some(frame);
                        }
                    }
                    Err(frame) => return Some(frame),
                },
                State::Body { total, .. } => {
                    if self.buffer.len() < *total {
                        return None;
                    }
                    let total = *total;
                    let State::Body { head, .. } = std::mem::replace(&mut self.state, BETWEEN) else { return None };
                    let bytes = self.buffer.split_to(total).freeze();
                    return Some(match head.unusable {
                        Some(fault) => Frame::Bad { message: None, fault, fatal: false },
                        None => Frame::Message(Message::assemble(bytes, head)),
                    });
                }
                State::Skip { left } => {
                    let skipped = self.buffer.len().min(*left);
                    self.buffer.advance(skipped);
                    *left -= skipped;
                    if *left > 0 {
                        return None;
                    }
                    self.state = BETWEEN;
                }
                State::Lost => {
                    self.buffer.clear();
                    return None;
                }
            }
        }
    }

    /// Goes on to the empty line, from where the last call stopped. `None`: it isn't there yet.
    fn seek_head_end(&mut self) -> Option<Result<usize, Frame>> {
        let State::Head { is_sip } = &mut self.state else { return None };
        let within = self.buffer.get(..self.buffer.len().min(self.head_bytes_max)).unwrap_or_default();
        let length = self.lines.seek(within);
        if let Some(end) = self.lines.first().filter(|_| !*is_sip) {
            let text = within.get(..end).unwrap_or_default();
            if start_kind(text.strip_suffix(b"\r").unwrap_or(text)).is_none() {
                return self.lose(None, Fault::Malformed(NOT_SIP)).map(Err);
            }
            *is_sip = true;
        }
        if let Some(length) = length {
            return Some(Ok(length));
        }
        if within.len() < self.head_bytes_max {
            return None;
        }
        let lines = self.buffer.split_to(self.lines.length()).freeze();
        let head = Head::index(&lines, &self.lines);
        self.lose(answerable(lines, head), Fault::HeadTooLarge).map(Err)
    }

    /// Decides from a whole head where the message ends. A frame comes back when that is already known to be no message.
    fn enter_body(&mut self, length: usize) -> Option<Frame> {
        let head = Head::index(self.buffer.get(..length)?, &self.lines);
        let fault = if head.unusable == Some(Fault::HeadTooLarge) {
            Some(Fault::HeadTooLarge)
        } else if self.lines.has_bare_lf() {
            Some(Fault::Malformed(BARE_LF))
        } else {
            None
        };
        let body = match (fault, content_length(&head, &self.buffer)) {
            (Some(fault), _) | (None, Err(fault)) => {
                let lines = self.buffer.split_to(length).freeze();
                return self.lose(answerable(lines, head), fault);
            }
            (None, Ok(body)) => body,
        };
        if body <= self.body_bytes_max {
            self.state = State::Body { head, total: length + body };
            return None;
        }
        let lines = self.buffer.split_to(length).freeze();
        let message = answerable(lines, head);
        if body > self.body_bytes_max.saturating_mul(8) {
            return self.lose(message, Fault::BodyTooLarge);
        }
        self.state = State::Skip { left: body };
        Some(Frame::Bad { message, fault: Fault::BodyTooLarge, fatal: false })
    }

    fn lose(&mut self, message: Option<Message>, fault: Fault) -> Option<Frame> {
        self.state = State::Lost;
        self.buffer.clear();
        Some(Frame::Bad { message, fault, fatal: true })
    }
}

const NOT_SIP: &str = "what came is not SIP";

/// RFC 3261 §18.3, §20.14: on a stream exactly one, digits only. Two equal ones are refused as well: who writes two may have had two
/// authors.
fn content_length(head: &Head, bytes: &[u8]) -> Result<usize, Fault> {
    let mut rows = head.rows_since(Name::ContentLength).iter().filter(|row| row.id == Name::ContentLength);
    let Some(row) = rows.next() else { return Err(Fault::Malformed("Content-Length is missing on a stream")) };
    if rows.next().is_some() {
        return Err(Fault::Malformed("more than one Content-Length"));
    }
    match head.row_text(row, bytes).and_then(params::digits) {
        // Beyond usize it is beyond every bound.
        Some(text) => Ok(text.parse().unwrap_or(usize::MAX)),
        None => Err(Fault::Malformed("Content-Length is not a number")),
    }
}

/// A message to answer, of the head alone: a request that says whom to answer.
fn answerable(lines: Bytes, head: Arc<Head>) -> Option<Message> {
    let lines = lines.slice(..head.length.min(lines.len()));
    let message = Message::assemble(lines, head);
    let has_via = message.rows(Name::Via).next().is_some();
    (message.is_request() && has_via).then_some(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Linear time: whatever was looked at is behind `scanned`, and never before it again.
    #[test]
    fn no_byte_is_looked_at_twice() {
        let head = format!("MESSAGE sip:a@b SIP/2.0\r\nX: {}\r\nContent-Length: 3\r\n\r\n", "a".repeat(500));
        let mut framer = Framer::new(4_096, 4_096);
        for (at, byte) in head.bytes().enumerate() {
            framer.buffer().extend_from_slice(&[byte]);
            assert!(framer.next().is_none());
            match framer.state {
                State::Head { .. } => assert_eq!(framer.lines.scanned(), at + 1),
                State::Body { total, .. } => assert_eq!((at + 1, total), (head.len(), head.len() + 3)),
                ref other => panic!("{other:?}"),
            }
        }
        framer.buffer().extend_from_slice(b"abc");
        assert!(matches!(framer.next(), Some(Frame::Message(message)) if message.body() == b"abc"));
        assert!(framer.next().is_none() && matches!(framer.state, State::Between { crlf: false }));
    }
}
