//! A message that leaves as it came but for some edits: in one pass over its rows, into one buffer.
//!
//! Takes a received [`Message`] and, in the order in which they are to stand, its start line and rows: kept, replaced, or new ones. A row
//! that is kept leaves byte for byte, its folds and its spelling with it; a row that nobody keeps is gone. Whatever a value holds, it
//! stays on its line.

use super::header::Name;
use super::message::{Fault, Message};
use bytes::Bytes;

/// What edits usually add: two Record-Routes, a Via, a masked Contact.
const ROOM: usize = 768;

/// A message being written.
#[derive(Debug)]
pub struct Rewrite<'m> {
    message: &'m Message,
    /// Instead of the received one.
    body: Option<&'m [u8]>,
    out: Vec<u8>,
    /// What of the received bytes is kept and not yet copied: neighbours leave in one piece.
    run: (usize, usize),
    has_length: bool,
}

impl<'m> Rewrite<'m> {
    /// Of a message whose lines are well-formed, perhaps with another body. [`Fault`]: what [`Message::check`] says of the lines.
    pub fn of(message: &'m Message, body: Option<&'m [u8]>) -> Result<Self, Fault> {
        if let Some(fault) = message.head().fault {
            return Err(fault);
        }
        let room = message.bytes().len() + body.map_or(0, <[u8]>::len) + ROOM;
        Ok(Self { message, body, out: Vec::with_capacity(room), run: (0, 0), has_length: false })
    }

    /// The start line as received.
    pub fn keep_start(&mut self) {
        self.keep_bytes(0, self.message.head().start_length);
    }

    /// A request line: the received method, this URI. A character that would end the word is escaped (RFC 3261 §19.1.2).
    pub fn request_line(&mut self, uri: &str) {
        self.flush();
        self.out.extend_from_slice(self.message.method().map_or("", |method| method.as_str()).as_bytes());
        self.out.push(b' ');
        self.out.extend_from_slice(super::compose::clean_word(uri).as_bytes());
        self.out.extend_from_slice(b" SIP/2.0\r\n");
    }

    /// A status line.
    pub fn status_line(&mut self, status: u16, reason: &str) {
        self.flush();
        self.out.extend_from_slice(format!("SIP/2.0 {status} ").as_bytes());
        self.out.extend(reason.bytes().map(|byte| if matches!(byte, b'\r' | b'\n' | 0) { b' ' } else { byte }));
        self.out.extend_from_slice(b"\r\n");
    }

    /// A new row; its value is the parts, one behind the other.
    pub fn row(&mut self, name: &str, parts: &[&str]) {
        self.flush();
        write_row(&mut self.out, name, parts);
    }

    /// A received row, byte for byte; Content-Length becomes the new body's.
    pub fn keep(&mut self, index: usize) {
        let Some(row) = self.message.head().rows.get(index) else { return };
        if row.id == Name::ContentLength {
            self.has_length = true;
            if let Some(body) = self.body {
                return self.replace(index, &[&body.len().to_string()]);
            }
        }
        let (start, end) = row.lines.ends();
        self.keep_bytes(start, end);
    }

    /// A received row's name as written, with another value.
    pub fn replace(&mut self, index: usize, parts: &[&str]) {
        self.flush();
        write_row(&mut self.out, self.message.row_name(index).unwrap_or_default(), parts);
    }

    /// All rows of a header of another message, byte for byte.
    pub fn copy(&mut self, other: &Message, name: Name) {
        self.flush();
        copy_rows(&mut self.out, other, name);
    }

    /// The message. One that came without Content-Length gets it: streams need it (RFC 3261 §18.3).
    pub fn finish(mut self) -> Bytes {
        self.flush();
        let body = self.body.unwrap_or(self.message.body());
        if !self.has_length {
            write_row(&mut self.out, Name::ContentLength.as_str(), &[&body.len().to_string()]);
        }
        self.out.extend_from_slice(b"\r\n");
        self.out.extend_from_slice(body);
        self.out.into()
    }

    fn keep_bytes(&mut self, start: usize, end: usize) {
        if self.run.1 == start {
            self.run.1 = end;
        } else {
            self.flush();
            self.run = (start, end);
        }
    }

    fn flush(&mut self) {
        let (start, end) = std::mem::take(&mut self.run);
        self.out.extend_from_slice(self.message.bytes().get(start..end).unwrap_or_default());
    }
}

/// CANCEL of a request that was sent: its Request-URI, top Via, Route, From, To, Call-ID and CSeq number (RFC 3261 §9.1).
pub fn cancel(sent: &Message) -> Bytes {
    hop_request(sent, sent, "CANCEL")
}

/// ACK to a final answer that isn't 2xx, for the hop that gave it: as CANCEL, but To is the answer's (RFC 3261 §17.1.1.3).
pub fn ack(sent: &Message, response: &Message) -> Bytes {
    hop_request(sent, response, "ACK")
}

fn hop_request(sent: &Message, to: &Message, method: &str) -> Bytes {
    let uri = match sent.start() {
        super::Start::Request { uri, .. } => uri,
        super::Start::Response { .. } => "",
    };
    let mut out = Vec::with_capacity(ROOM);
    for part in [method, " ", uri, " SIP/2.0\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
    if let Some(via) = sent.values(Name::Via).next() {
        write_row(&mut out, Name::Via.as_str(), &[via]);
    }
    write_row(&mut out, Name::MaxForwards.as_str(), &["70"]);
    copy_rows(&mut out, sent, Name::Route);
    copy_rows(&mut out, sent, Name::From);
    copy_rows(&mut out, to, Name::To);
    copy_rows(&mut out, sent, Name::CallId);
    let number = sent.cseq().map_or(0, |(number, _)| number);
    write_row(&mut out, Name::CSeq.as_str(), &[&number.to_string(), " ", method]);
    write_row(&mut out, Name::ContentLength.as_str(), &["0"]);
    out.extend_from_slice(b"\r\n");
    out.into()
}

fn copy_rows(out: &mut Vec<u8>, message: &Message, name: Name) {
    for row in message.head().rows.iter().filter(|row| row.id == name) {
        let lines = row.lines.of(message.bytes());
        // A message whose lines are at fault is copied by its values.
        if message.head().fault.is_none() {
            out.extend_from_slice(lines);
        } else if let Some(value) = row.text(message.bytes()) {
            write_row(out, name.as_str(), &[value]);
        }
    }
}

fn write_row(out: &mut Vec<u8>, name: &str, parts: &[&str]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    for part in parts {
        let start = out.len();
        out.extend_from_slice(part.as_bytes());
        // No value may end its line: what could becomes a space.
        if memchr::memchr3(b'\r', b'\n', 0, part.as_bytes()).is_some()
            && let Some(written) = out.get_mut(start..)
        {
            written.iter_mut().filter(|byte| matches!(**byte, b'\r' | b'\n' | 0)).for_each(|byte| *byte = b' ');
        }
    }
    out.extend_from_slice(b"\r\n");
}
