//! A socket under TLS. A session asks it for 4,096 bytes at a time, also where a record of four times as many waits: it reads what is there, and
//! gives it out from memory.

use super::conduit::SCRATCH;
use bytes::{Buf as _, BytesMut};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::coop::poll_proceed;

/// The socket, and what was read from it and not yet asked for: nothing, while the connection is idle.
pub struct Ahead {
    socket: TcpStream,
    rest: BytesMut,
}

impl Ahead {
    /// Nothing has been read from it yet.
    pub fn new(socket: TcpStream) -> Self {
        Self { socket, rest: BytesMut::new() }
    }

    /// The socket; what it says next need not be what is asked for next.
    pub fn socket(&self) -> &TcpStream {
        &self.socket
    }

    fn give(&mut self, buffer: &mut ReadBuf<'_>) {
        let given = self.rest.len().min(buffer.remaining());
        buffer.put_slice(self.rest.get(..given).unwrap_or_default());
        self.rest.advance(given);
        if self.rest.is_empty() {
            self.rest = BytesMut::new();
        }
    }
}

impl AsyncRead for Ahead {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.rest.is_empty() {
            return SCRATCH.with_borrow_mut(|scratch| {
                let mut all = ReadBuf::new(scratch);
                ready!(Pin::new(&mut this.socket).poll_read(cx, &mut all))?;
                let (now, rest) = all.filled().split_at(all.filled().len().min(buffer.remaining()));
                buffer.put_slice(now);
                this.rest.extend_from_slice(rest);
                Poll::Ready(Ok(()))
            });
        }
        // As a read of the socket does: who has much here lets the others have their turn.
        let coop = ready!(poll_proceed(cx));
        coop.made_progress();
        this.give(buffer);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Ahead {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().socket).poll_write(cx, bytes)
    }
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().socket).poll_write_vectored(cx, parts)
    }
    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(cx)
    }
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn gives_out_all_in_order_whatever_is_asked_for() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let mut ahead = Ahead::new(listener.accept().await.unwrap().0);
        let sent: Vec<u8> = (0..100_000_u32).flat_map(u32::to_be_bytes).collect();
        let written = tokio::spawn({
            let sent = sent.clone();
            async move {
                peer.write_all(&sent).await.unwrap();
                peer.shutdown().await.unwrap();
            }
        });
        let mut read = Vec::new();
        for size in [1, 4_096, 7, 60_000].into_iter().cycle() {
            let mut part = vec![0; size];
            match ahead.read(&mut part).await.unwrap() {
                0 => break,
                n => read.extend_from_slice(&part[..n]),
            }
        }
        written.await.unwrap();
        assert!(read == sent);
        assert_eq!(ahead.rest.capacity(), 0, "an idle connection holds nothing");
    }

    #[tokio::test]
    async fn what_comes_from_memory_is_no_free_turn() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let mut ahead = Ahead::new(listener.accept().await.unwrap().0);
        let mut all = [1; 10_000];
        peer.write_all(&all).await.unwrap();
        while ahead.socket.peek(&mut all).await.unwrap() < all.len() {
            tokio::task::yield_now().await;
        }
        tokio::task::yield_now().await;
        let mut at_once = 0;
        std::future::poll_fn(|cx| {
            let mut byte = [0];
            while Pin::new(&mut ahead).poll_read(cx, &mut ReadBuf::new(&mut byte)).is_ready() && at_once < all.len() {
                at_once += 1;
            }
            Poll::Ready(())
        })
        .await;
        assert!(at_once < 1_000, "{at_once} reads, and nobody else had a turn");
        let mut rest = vec![0; all.len() - at_once];
        ahead.read_exact(&mut rest).await.unwrap();
    }
}
