//! A socket, plain or TLS, that is read and written at the same time by one task, with a bounded write buffer.

use super::ahead::Ahead;
use super::{OUT_BYTES, STALL};
use crate::gate::{Path, Time};
use crate::io::edge::Edge;
use bytes::BytesMut;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncBufRead, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsStream;

/// Bytes asked of the socket at a time: a TLS record of the largest, and what has begun to come behind it.
const READ: usize = 20_480;
/// What the largest TLS record holds (RFC 8446 §5.1): once there is as much, it is worked on before more is taken.
const RECORD: usize = 16_384;

thread_local! {
    /// Where they are read to, before they are put into the connection's own buffer: so one that is idle needs none.
    pub(super) static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ].into_boxed_slice());
}

/// How long a closed connection is still emptied.
const LINGER: Duration = Duration::from_secs(2);

/// A connection.
pub enum Stream {
    /// In the clear.
    Plain(TcpStream),
    /// Under TLS.
    Tls(Box<TlsStream<Ahead>>),
}

/// What [`Conduit::drive`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Bytes were put into the input buffer.
    Read,
    /// The peer closed its half.
    Eof,
    /// Bytes were written.
    Wrote,
}

/// A stream and what waits to be written to it.
pub struct Conduit {
    edge: Arc<Edge>,
    stream: Stream,
    /// What reading came to, behind what was read.
    failed: Option<io::Error>,
    out: BytesMut,
    flushed: bool,
    queued: u64,
    written: u64,
    marks: VecDeque<(u64, Time, Path)>,
    moved: Instant,
    /// When the peer last took something, or was first given something to take.
    took: Instant,
}

impl Conduit {
    /// Around a stream.
    pub fn new(edge: Arc<Edge>, stream: Stream) -> Self {
        Self {
            edge,
            stream,
            failed: None,
            out: BytesMut::new(),
            flushed: true,
            queued: 0,
            written: 0,
            marks: VecDeque::new(),
            moved: Instant::now(),
            took: Instant::now(),
        }
    }

    /// Room for so many more bytes, at once; more than may wait is not made.
    pub fn make_room(&mut self, bytes: usize) {
        self.out.reserve(bytes.min(OUT_BYTES.saturating_sub(self.out.len())));
    }

    /// Puts bytes behind those that wait.
    pub fn push(&mut self, bytes: &[u8], transit: Option<(Time, Path)>) {
        if self.is_flushed() {
            self.moved = Instant::now();
            self.took = self.moved;
        }
        self.out.extend_from_slice(bytes);
        self.queued += bytes.len() as u64;
        if let Some((received, path)) = transit {
            self.marks.push_back((self.queued, received, path));
        }
    }

    /// Whether further orders may be taken.
    pub fn has_room(&self) -> bool {
        self.out.len() < OUT_BYTES
    }

    /// When the peer counts as gone because it takes nothing, whatever it says meanwhile.
    pub fn stalls_at(&self) -> Option<Instant> {
        (!self.is_flushed()).then(|| self.took + STALL)
    }

    /// Whether nothing waits to be written.
    pub fn is_flushed(&self) -> bool {
        self.out.is_empty() && self.flushed
    }

    /// When bytes last moved either way.
    pub fn moved(&self) -> Instant {
        self.moved
    }

    /// Has what comes next acknowledged at once.
    ///
    /// COMPAT(kamailio): behind a handshake its session tickets and its first answer are two small segments, and Nagle's algorithm holds the second back
    /// until the first is acknowledged, which we would do 40 ms later: the NOTIFY of a dialog, on another connection, then overtakes the 200 that makes
    /// it. The system goes back to its own ways by itself; where it knows no such thing, nothing is lost but those 40 ms.
    pub fn hasten(&self) {
        #[cfg(target_os = "linux")]
        {
            let socket = match &self.stream {
                Stream::Plain(socket) => socket,
                Stream::Tls(stream) => stream.get_ref().0.socket(),
            };
            let _ = socket.set_quickack(true);
        }
    }

    /// Writes what waits and reads into `input` (`None`: does not read), whichever can be done. Dropping the future loses nothing.
    pub async fn drive(&mut self, mut input: Option<&mut BytesMut>) -> io::Result<Progress> {
        poll_fn(|cx| {
            let before = self.written;
            while !self.out.is_empty() {
                match pin!(self.stream.write_buf(&mut self.out)).poll(cx) {
                    Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    Poll::Ready(Ok(n)) => {
                        self.written += n as u64;
                        self.flushed = false;
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => break,
                }
            }
            if self.written > before {
                self.moved = Instant::now();
                self.took = self.moved;
            }
            if self.out.is_empty() && !self.flushed {
                match Pin::new(&mut self.stream).poll_flush(cx) {
                    Poll::Ready(Ok(())) => {
                        self.flushed = true;
                        if self.written == before {
                            self.moved = Instant::now();
                            self.took = self.moved;
                        }
                        self.settle();
                        return Poll::Ready(Ok(Progress::Wrote));
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => {}
                }
            }
            self.settle();
            if let Some(input) = input.as_deref_mut() {
                match self.read(cx, input) {
                    Poll::Ready(Ok(0)) => return Poll::Ready(Ok(Progress::Eof)),
                    Poll::Ready(Ok(_)) => {
                        self.moved = Instant::now();
                        return Poll::Ready(Ok(Progress::Read));
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => {}
                }
            }
            if self.written > before {
                return Poll::Ready(Ok(Progress::Wrote));
            }
            if self.out.is_empty() {
                // Nothing to do: thousands of such connections hold nothing.
                self.out = BytesMut::new();
            }
            Poll::Pending
        })
        .await
    }

    /// Reads what there is, until it is about [`RECORD`] bytes.
    fn read(&mut self, cx: &mut Context<'_>, input: &mut BytesMut) -> Poll<io::Result<usize>> {
        let mut take = |bytes: &[u8]| {
            if input.is_empty() {
                // What it pointed into belongs to the messages that were cut from it.
                *input = BytesMut::new();
            }
            input.extend_from_slice(bytes);
        };
        match &mut self.stream {
            Stream::Plain(socket) => SCRATCH.with_borrow_mut(|scratch| {
                let mut buffer = ReadBuf::new(scratch);
                ready!(Pin::new(socket).poll_read(cx, &mut buffer))?;
                take(buffer.filled());
                Poll::Ready(Ok(buffer.filled().len()))
            }),
            Stream::Tls(tls) => {
                if let Some(error) = self.failed.take() {
                    return Poll::Ready(Err(error));
                }
                let mut taken = 0;
                // A record at a time, and many may be there.
                while taken < RECORD {
                    match Pin::new(&mut *tls).poll_fill_buf(cx) {
                        Poll::Ready(Ok([])) => break,
                        Poll::Ready(Ok(bytes)) => {
                            let read = bytes.len();
                            take(bytes);
                            Pin::new(&mut *tls).consume(read);
                            taken += read;
                        }
                        Poll::Ready(Err(error)) if taken > 0 => {
                            // It is said once; what came before it is read first.
                            self.failed = Some(error);
                            break;
                        }
                        Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                        Poll::Pending if taken > 0 => break,
                        Poll::Pending => return Poll::Pending,
                    }
                }
                Poll::Ready(Ok(taken))
            }
        }
    }

    /// Writes out all that waits.
    pub async fn flush(&mut self) -> io::Result<()> {
        while !self.is_flushed() {
            self.drive(None).await?;
        }
        Ok(())
    }

    /// Writes out what waits and says goodbye (TLS close_notify, FIN), within [`STALL`].
    ///
    /// What the peer still sends is then read and dropped for a moment: closing a socket with unread bytes resets the connection, and the reset may
    /// overtake our last answer.
    pub async fn close(self) {
        if let Some(rest) = self.goodbye().await {
            tokio::spawn(rest);
        }
    }

    /// As [`close`](Self::close), to the end of that moment.
    pub async fn close_wholly(self) {
        if let Some(rest) = self.goodbye().await {
            rest.await;
        }
    }

    async fn goodbye(mut self) -> Option<impl Future<Output = ()> + Send + 'static> {
        let goodbye = async {
            self.flush().await?;
            self.stream.shutdown().await
        };
        let said = tokio::time::timeout(STALL, goodbye).await;
        let mut stream = self.stream;
        let rest = async move {
            let mut scrap = [0; 4_096];
            let emptied = async { while matches!(stream.read(&mut scrap).await, Ok(n) if n > 0) {} };
            let _ = tokio::time::timeout(LINGER, emptied).await;
        };
        matches!(said, Ok(Ok(()))).then_some(rest)
    }

    /// The bare socket, for a TLS handshake in mid-stream; `None` if it is under TLS already.
    pub fn into_socket(self) -> Option<TcpStream> {
        match self.stream {
            Stream::Plain(socket) => Some(socket),
            Stream::Tls(_) => None,
        }
    }

    /// What has been written is on its way since bytes last moved.
    fn settle(&mut self) {
        let now = self.edge.clock.at(self.moved);
        while let Some(&(end, received, path)) = self.marks.front()
            && end <= self.written
        {
            self.marks.pop_front();
            self.edge.telemetry.metrics.transit(path, now.since(received));
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(socket) => Pin::new(socket).poll_read(cx, buffer),
            Stream::Tls(tls) => Pin::new(tls).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(socket) => Pin::new(socket).poll_write(cx, bytes),
            Stream::Tls(tls) => Pin::new(tls).poll_write(cx, bytes),
        }
    }
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(socket) => Pin::new(socket).poll_flush(cx),
            Stream::Tls(tls) => Pin::new(tls).poll_flush(cx),
        }
    }
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
            Stream::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::edge::for_tests;
    use crate::io::settings::Dns;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn who_takes_nothing_stalls_whatever_he_says() {
        let (edge, _arrivals, _gone) = for_tests(Dns::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let mut conduit = Conduit::new(edge, Stream::Plain(listener.accept().await.unwrap().0));
        assert_eq!(conduit.stalls_at(), None);
        conduit.push(&vec![0; 64 * 1024 * 1024], None);
        let mut input = BytesMut::new();
        // What fits on the way.
        while tokio::time::timeout(Duration::from_millis(100), conduit.drive(Some(&mut input))).await.is_ok() {}
        let stalls_at = conduit.stalls_at();
        assert!(stalls_at.is_some());
        peer.write_all(b" ").await.unwrap();
        assert_eq!(conduit.drive(Some(&mut input)).await.unwrap(), Progress::Read);
        conduit.push(b"more", None);
        assert_eq!(conduit.stalls_at(), stalls_at);
        assert!(conduit.moved() + STALL > stalls_at.unwrap());
    }

    #[tokio::test]
    async fn under_tls_all_is_read_and_then_how_it_ended() {
        const WITHIN: Duration = Duration::from_secs(10);
        let sizes = [1, 20_480, 3, 16_384, 100_000, 7, 1, 1, 4_096, 20_481];
        let parts: Vec<Vec<u8>> = (0..100).zip(sizes.into_iter().cycle()).map(|(n, size)| vec![n; size]).collect();
        for is_said in [true, false] {
            let (edge, _arrivals, _gone) = for_tests(Dns::default());
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let socket = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let live = edge.live.load_full();
            let (config, parts_sent) = (live.tls.to_xmpp_partner(0, false).unwrap(), parts.clone());
            let peer = tokio::spawn(async move {
                let (mut peer, _) = crate::io::link::connect(socket, config, "sip.corp.example", WITHIN).await.unwrap();
                for (number, part) in parts_sent.iter().enumerate() {
                    peer.write_all(part).await.unwrap();
                    peer.flush().await.unwrap();
                    if number % 17 == 0 {
                        tokio::time::sleep(Duration::from_millis(3)).await;
                    }
                }
                if is_said {
                    peer.shutdown().await.unwrap();
                }
                // Its half of the connection ends without a reset, which would overtake what was sent.
                let Stream::Tls(tls) = peer else { panic!("not under TLS") };
                let TlsStream::Client(tls) = *tls else { panic!("a server") };
                let mut socket = tls.into_inner().0;
                socket.shutdown().await.unwrap();
                let mut scrap = [0; 100];
                while matches!(socket.read(&mut scrap).await, Ok(n) if n > 0) {}
            });
            let socket = listener.accept().await.unwrap().0;
            let (stream, _) = crate::io::link::accept(socket, live.tls.streams(None), WITHIN).await.unwrap();
            let mut conduit = Conduit::new(Arc::clone(&edge), stream);
            let mut input = BytesMut::new();
            let mut turns = 0_u32..;
            let end = loop {
                // Now and then nothing is read for a moment.
                if turns.next().is_some_and(|turn| turn % 5 == 4) {
                    conduit.push(b"x", None);
                    conduit.flush().await.unwrap();
                }
                let progress = tokio::time::timeout(WITHIN, conduit.drive(Some(&mut input))).await;
                match progress.expect("what was read ahead is given out") {
                    Ok(Progress::Eof) => break Ok(()),
                    Ok(_) => {}
                    Err(error) => break Err(error.kind()),
                }
            };
            assert_eq!(end, if is_said { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof) });
            assert!(input == parts.concat(), "{} bytes were read", input.len());
            conduit.close_wholly().await;
            peer.await.unwrap();
        }
    }
}
