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
        let lines = row.lines().range();
        self.keep_bytes(lines.start, lines.end);
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
    let count = if message.head().has_two(name) { usize::MAX } else { 1 };
    for row in message.head().rows_since(name).iter().filter(|row| row.id == name).take(count) {
        let lines = row.lines().of(message.bytes());
        // A message whose lines are at fault is copied by its values.
        if message.head().fault.is_none() {
            out.extend_from_slice(lines);
        } else if let Some(value) = message.head().row_text(row, message.bytes()) {
            write_row(out, name.as_str(), &[value]);
        }
    }
}

fn write_row(out: &mut Vec<u8>, name: &str, parts: &[&str]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    let start = out.len();
    for part in parts {
        out.extend_from_slice(part.as_bytes());
    }
    // No value may end its line: what could becomes a space.
    let ends_line = |byte: u8| matches!(byte, b'\r' | b'\n' | 0);
    if let Some(written) = out.get_mut(start..)
        // Without a branch, so that many bytes are looked at together.
        && written.iter().fold(false, |ends, byte| ends | ends_line(*byte))
    {
        written.iter_mut().filter(|byte| ends_line(**byte)).for_each(|byte| *byte = b' ');
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::sip::Start;

    const SENT: &str = "MESSAGE sip:a@b SIP/2.0\r\nv : SIP/2.0/TLS h;branch=z9hG4bK1\r\nX-Fold:  a\r\n\t b\r\nl:2\r\nFrom: <sip:x@y>;tag=1\r\n\
        Route: <sip:r;lr>\r\nt:<sip:a@b>\r\nCall-ID: 1\r\nCSeq: 5 MESSAGE\r\n\r\nhi";

    fn message(text: &str) -> Message {
        Message::parse(Bytes::from(text.to_owned())).unwrap()
    }

    fn keep_all(w: &mut Rewrite<'_>, message: &Message) {
        message.row_names().for_each(|(index, _)| w.keep(index));
    }

    fn text(bytes: Bytes) -> String {
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[test]
    fn a_message_nobody_edits_is_the_message() {
        let sent = message(SENT);
        let mut w = Rewrite::of(&sent, None).unwrap();
        w.keep_start();
        keep_all(&mut w, &sent);
        assert_eq!(text(w.finish()), SENT);
    }

    #[test]
    fn rows_are_added_dropped_and_replaced_in_place() {
        let sent = message(SENT);
        let mut w = Rewrite::of(&sent, Some(b"longer")).unwrap();
        w.request_line("sip:c@d e");
        w.row("Via", &["SIP/2.0/TLS ", "us"]);
        for (index, name) in sent.row_names() {
            match name {
                Name::Route => {}
                Name::To => w.replace(index, &["<sip:c@d>", ";tag=2"]),
                _ => w.keep(index),
            }
        }
        let expected = "MESSAGE sip:c@d%20e SIP/2.0\r\nVia: SIP/2.0/TLS us\r\nv : SIP/2.0/TLS h;branch=z9hG4bK1\r\n\
            X-Fold:  a\r\n\t b\r\nl: 6\r\nFrom: <sip:x@y>;tag=1\r\nt: <sip:c@d>;tag=2\r\nCall-ID: 1\r\nCSeq: 5 MESSAGE\r\n\r\nlonger";
        assert_eq!(text(w.finish()), expected);
    }

    #[test]
    fn no_value_makes_a_line_of_its_own() {
        let sent = message(SENT);
        let mut w = Rewrite::of(&sent, None).unwrap();
        w.status_line(200, "OK\r\nX-Evil: 0");
        w.row("Via", &["a\r\nX-Evil: 1", "\nX-Evil: 2\0"]);
        w.replace(1, &["\r\n\r\nX-Evil: 3"]);
        let written = message(&text(w.finish()));
        assert_eq!(written.header_named("X-Evil"), None);
        assert_eq!((written.row_names().count(), written.body()), (3, &b"hi"[..]));
    }

    #[test]
    fn lines_at_fault_are_not_passed_on() {
        let bare = message(&SENT.replace("t:<sip:a@b>\r\n", "t:<sip:a@b>\n"));
        assert!(Rewrite::of(&bare, None).is_err());
        assert!(!text(cancel(&bare)).replace("\r\n", "").contains('\n'));
    }

    #[test]
    fn a_message_without_length_gets_one() {
        let sent = message(&SENT.replace("l:2\r\n", ""));
        let mut w = Rewrite::of(&sent, None).unwrap();
        w.keep_start();
        keep_all(&mut w, &sent);
        assert_eq!(message(&text(w.finish())).header(Name::ContentLength), Some("2"));
    }

    #[test]
    fn cancel_and_ack_copy_what_identifies_the_transaction() {
        let sent = message(SENT);
        let cancel = message(&text(cancel(&sent)));
        cancel.check().unwrap();
        assert_eq!(cancel.start(), Start::Request { method: &super::super::Method::Cancel, uri: "sip:a@b" });
        assert_eq!((cancel.branch(), cancel.header(Name::Route)), (Some("z9hG4bK1"), Some("<sip:r;lr>")));
        let answered = message("SIP/2.0 486 Busy\r\nTo: <sip:a@b>;tag=9\r\n\r\n");
        let ack = message(&text(ack(&sent, &answered)));
        ack.check().unwrap();
        assert_eq!((ack.to_tag(), ack.cseq().map(|(number, _)| number)), (Some("9"), Some(5)));
    }
}
