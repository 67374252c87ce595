//! A connection of the load's own: messages in, and an outgoing buffer that is written once for all that came of one read.

use super::text::{self, Message};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::Notify;

/// Where to put what shall be sent.
#[derive(Default)]
pub struct Link {
    out: RefCell<Vec<u8>>,
    wake: Notify,
    /// The other side has closed.
    is_over: Cell<bool>,
}

/// Who reads it.
pub type Reader = Rc<dyn Fn(&Rc<Link>, &Message<'_>)>;

impl Link {
    /// Adds to what shall be sent.
    pub fn write(&self, make: impl FnOnce(&mut Vec<u8>)) {
        make(&mut self.out.borrow_mut());
        self.wake.notify_one();
    }
}

/// Reads and writes until the connection ends.
pub fn run(stream: impl AsyncRead + AsyncWrite + 'static, reader: Reader) -> Rc<Link> {
    let (mut from, mut to) = tokio::io::split(stream);
    let link = Rc::new(Link::default());
    let out = Rc::clone(&link);
    tokio::task::spawn_local(async move {
        let mut going = Vec::new();
        loop {
            out.wake.notified().await;
            going.clear();
            std::mem::swap(&mut going, &mut *out.out.borrow_mut());
            let written = to.write_all(&going).await.is_ok() && to.flush().await.is_ok();
            if out.is_over.get() || !written {
                let _ = to.shutdown().await;
                return;
            }
        }
    });
    let link_in = Rc::clone(&link);
    tokio::task::spawn_local(async move {
        let mut held: Vec<u8> = Vec::with_capacity(65_536);
        while matches!(from.read_buf(&mut held).await, Ok(1..)) {
            let mut used = 0;
            while let Some(length) = text::frame(&held[used..]) {
                if let Some(message) = Message::parse(&held[used..used + length]) {
                    reader(&link_in, &message);
                }
                used += length;
            }
            held.drain(..used);
        }
        // What hangs on it is found missing by whoever counts.
        link_in.is_over.set(true);
        link_in.wake.notify_one();
    });
    link
}
