//! Cuts a TLS or TCP byte stream into SIP messages (RFC 3261 §18.3) and keepalives (RFC 5626 §4.4.1).

use super::message::{Fault, Message};
use bytes::BytesMut;

/// What a byte stream holds next.
#[derive(Debug, Clone)]
pub enum Frame {
    /// A whole message whose head could be indexed. Not yet judged: see [`Message::check`].
    Message(Message),
    /// CRLFCRLF: a keepalive ping (RFC 5626 §4.4.1).
    Ping,
    /// Something that can't be a message.
    Bad {
        /// As much as could be indexed, when a response can be built from it (it has a Via).
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
    // scan state is the implementer's
}

impl Framer {
    /// `head_bytes_max`: start line and headers; `body_bytes_max`: Content-Length beyond it is [`Fault::BodyTooLarge`]; a body
    /// up to 8 times that is skipped so the link can go on, beyond that the fault is fatal.
    pub fn new(head_bytes_max: usize, body_bytes_max: usize) -> Self {
        todo!()
    }
    /// Where the reader puts bytes (`read_buf`).
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }
    /// The next frame, if a whole one is there. Never looks at a byte twice; call until `None`.
    pub fn next(&mut self) -> Option<Frame> {
        todo!()
    }
}
