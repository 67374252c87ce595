//! Cuts a byte stream into a stream header, elements and the stream's end, refusing what RFC 6120 §11.1 forbids.

use super::stream::{StreamError, StreamHeader};
use bytes::{Bytes, BytesMut};

/// What the stream holds next.
#[derive(Debug, Clone)]
pub enum Frame {
    /// `<stream:stream …>`
    Header(StreamHeader),
    /// One whole child of the stream, as received; well-formed, depth and size within bounds.
    Element(Bytes),
    /// `</stream:stream>`
    End,
}

/// An incremental framer with bounds. After an error nothing more can be read.
#[derive(Debug)]
pub struct Framer {
    buffer: BytesMut,
    // scan state is the implementer's
}

impl Framer {
    /// `element_bytes_max`: one child of the stream, or the header.
    pub fn new(element_bytes_max: usize) -> Self {
        todo!()
    }
    /// Raises the bound once the peer is proven.
    pub fn set_element_bytes_max(&mut self, bytes: usize) {
        todo!()
    }
    /// Forgets the stream so that a new header is expected (RFC 6120 §4.3.3), keeping the bound. Returns how many bytes were already
    /// buffered: pipelined before TLS they must be refused by the caller.
    pub fn restart(&mut self) -> usize {
        todo!()
    }
    /// Where the reader puts bytes.
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }
    /// The next frame, if a whole one is there. Never looks at a byte twice; call until `None`.
    pub fn next(&mut self) -> Result<Option<Frame>, StreamError> {
        todo!()
    }
}
