//! The partner's server: opens streams, sends over them, keeps time.

use super::book::{Book, How};
use super::text;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::cell::{Cell, RefCell};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf, split};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{Notify, mpsc};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Streams.
pub const STREAMS: usize = 4;
/// Messages at once on each that the inside has not seen, when saturated.
pub const IN_FLIGHT: usize = 16;
/// Messages a second on all of them together, when paced.
pub const PACE: u32 = 1_000;
/// Sessions being set up at once.
pub const AT_ONCE: usize = 4;
/// Where the partner's server is.
const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 9));
/// For one load, and for one session.
const PATIENCE: Duration = Duration::from_secs(120);

/// A stream that is proven.
pub type Session = TlsStream<TcpStream>;

/// One partner; each box has its own.
pub struct Partner {
    /// Its certificate.
    pub config: Arc<ClientConfig>,
    streams: Rc<[Rc<Out>]>,
}

/// What waits to be written on a stream.
#[derive(Default)]
struct Out {
    bytes: RefCell<Vec<u8>>,
    more: Notify,
}

impl Out {
    fn write(&self, number: u64) {
        text::write(number, &mut self.bytes.borrow_mut());
        self.more.notify_one();
    }
}

impl Partner {
    /// Opens its streams.
    pub async fn open(to: SocketAddr, config: &Arc<ClientConfig>, book: Rc<Book>) -> Result<Self, String> {
        let mut streams = Vec::new();
        for _ in 0..STREAMS {
            let session = session(ADDRESS, to, config).await.map_err(|why| format!("a stream to {to}: {why}"))?;
            let (read, write) = split(session);
            let out = Rc::new(Out::default());
            tokio::task::spawn_local(write_all(Rc::clone(&out), write));
            tokio::task::spawn_local(listen(read, Rc::clone(&book)));
            streams.push(out);
        }
        Ok(Self { config: Arc::clone(config), streams: streams.into() })
    }

    /// Runs one load to its end: latencies, one for each; or what went wrong.
    pub async fn run(&self, book: &Rc<Book>, how: How, many: usize) -> Result<Vec<Duration>, String> {
        let next = {
            let (book, streams) = (Rc::downgrade(book), Rc::clone(&self.streams));
            move |stream: usize, due: Instant| {
                if let Some(number) = book.upgrade().and_then(|book| book.send(stream, due)) {
                    streams[stream].write(number);
                }
            }
        };
        let ended = match how {
            How::Saturated => {
                let refill = next.clone();
                book.begin(many, Some(Box::new(move |stream| refill(stream, Instant::now()))));
                (0..STREAMS * IN_FLIGHT).for_each(|at| next(at % STREAMS, Instant::now()));
                tokio::time::timeout(PATIENCE, book.ended.notified()).await
            }
            How::Paced => {
                book.begin(many, None);
                tokio::time::timeout(PATIENCE, async {
                    pace(many, next).await;
                    book.ended.notified().await;
                })
                .await
            }
        };
        let result = book.end();
        match ended {
            Ok(()) => result,
            Err(_) => Err(format!("after {PATIENCE:?}: {}", result.err().unwrap_or_default())),
        }
    }
}

/// Tells each message when it is due. A thread wakes more exactly than the runtime's timers, which go by milliseconds.
async fn pace(many: usize, send: impl Fn(usize, Instant)) {
    let (tick, mut ticks) = mpsc::unbounded_channel();
    let start = Instant::now() + Duration::from_millis(5);
    let due = move |at: usize| start + Duration::from_secs(1) / PACE * at as u32;
    std::thread::spawn(move || {
        for at in 0..many {
            std::thread::sleep(due(at).saturating_duration_since(Instant::now()));
            if tick.send(at).is_err() {
                return;
            }
        }
    });
    while let Some(at) = ticks.recv().await {
        send(at % STREAMS, due(at));
    }
}

async fn write_all(out: Rc<Out>, mut stream: WriteHalf<Session>) {
    loop {
        out.more.notified().await;
        let bytes = std::mem::take(&mut *out.bytes.borrow_mut());
        let written = async {
            stream.write_all(&bytes).await?;
            stream.flush().await
        };
        // The reading half says why.
        if written.await.is_err() {
            return;
        }
    }
}

/// Nothing is said to us but why it ends.
async fn listen(mut stream: ReadHalf<Session>, book: Rc<Book>) {
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        match stream.read_buf(&mut bytes).await {
            Ok(1..) => {
                let text = String::from_utf8_lossy(&bytes);
                if text.contains("error") || text.contains("</stream:stream>") {
                    book.fail(format!("the box said to the partner {text}"));
                }
            }
            end => return book.fail(format!("a stream of the partner's has ended: {end:?}")),
        }
    }
}

/// Sessions that were set up.
pub struct Sessions {
    /// How long each took, from the connection to the features behind SASL.
    pub latencies: Vec<Duration>,
    /// Those that were kept.
    pub open: Vec<Session>,
}

/// Sets up so many, a few at once, and closes each again unless they are to be kept.
pub async fn sessions(to: SocketAddr, config: &Arc<ClientConfig>, many: usize, keep: bool) -> Result<Sessions, String> {
    let next = Rc::new(Cell::new(0));
    let workers: Vec<_> = (0..AT_ONCE)
        .map(|_| {
            let (next, config) = (Rc::clone(&next), Arc::clone(config));
            tokio::task::spawn_local(async move {
                let mut sessions = Sessions { latencies: Vec::new(), open: Vec::new() };
                while next.get() < many {
                    let at = next.get();
                    next.set(at + 1);
                    // Each from another /24: an edge may well bound how many connections a second it takes from one.
                    let from = Ipv4Addr::new(127, 64 + (at / 250 % 128) as u8, (at % 250) as u8, 9);
                    let begun = Instant::now();
                    let session = session(from.into(), to, &config).await?;
                    sessions.latencies.push(begun.elapsed());
                    match keep {
                        true => sessions.open.push(session),
                        false => close(vec![session]).await,
                    }
                }
                Ok::<_, String>(sessions)
            })
        })
        .collect();
    let mut all = Sessions { latencies: Vec::new(), open: Vec::new() };
    for worker in workers {
        let sessions = worker.await.expect("a worker").map_err(|why| format!("a session set-up failed: {why}"))?;
        all.latencies.extend(sessions.latencies);
        all.open.extend(sessions.open);
    }
    Ok(all)
}

/// Ends streams in good order (RFC 6120 §4.4).
pub async fn close(sessions: Vec<Session>) {
    for mut session in sessions {
        let end = async {
            session.write_all(b"</stream:stream>").await?;
            session.shutdown().await?;
            session.read_to_end(&mut Vec::new()).await
        };
        // How it ends is the box's affair.
        let _ = tokio::time::timeout(Duration::from_secs(5), end).await;
    }
}

/// STARTTLS and SASL EXTERNAL (XEP-0178), until stanzas may flow.
async fn session(from: IpAddr, to: SocketAddr, config: &Arc<ClientConfig>) -> Result<Session, String> {
    tokio::time::timeout(PATIENCE, negotiate(from, to, config))
        .await
        .map_err(|_| format!("nothing for {PATIENCE:?}"))?
}

async fn negotiate(from: IpAddr, to: SocketAddr, config: &Arc<ClientConfig>) -> Result<Session, String> {
    let said = |error: std::io::Error| error.to_string();
    let socket = TcpSocket::new_v4().map_err(said)?;
    socket.bind(SocketAddr::new(from, 0)).map_err(said)?;
    let mut socket = socket.connect(to).await.map_err(said)?;
    socket.set_nodelay(true).map_err(said)?;
    ask(&mut socket, &header(), "</stream:features>").await?;
    ask(&mut socket, "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>", "<proceed").await?;
    let name = ServerName::try_from(text::LOCAL).expect("a name");
    let mut stream = TlsConnector::from(Arc::clone(config)).connect(name, socket).await.map_err(said)?;
    let features = ask(&mut stream, &header(), "</stream:features>").await?;
    if !features.contains("EXTERNAL") {
        return Err(format!("no SASL EXTERNAL in {features}"));
    }
    let auth = "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'>=</auth>";
    ask(&mut stream, auth, "<success").await?;
    ask(&mut stream, &header(), "</stream:features>").await?;
    Ok(stream)
}

fn header() -> String {
    format!(
        "<?xml version='1.0'?><stream:stream xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams' \
         xmlns:db='jabber:server:dialback' from='{}' to='{}' version='1.0'>",
        text::PARTNER,
        text::LOCAL
    )
}

/// Writes, and reads until an answer has these words; empty features count as the end of features.
async fn ask(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), words: &str, until: &str) -> Result<String, String> {
    let said = |error: std::io::Error| error.to_string();
    stream.write_all(words.as_bytes()).await.map_err(said)?;
    stream.flush().await.map_err(said)?;
    let mut bytes = Vec::with_capacity(4_096);
    loop {
        if stream.read_buf(&mut bytes).await.map_err(said)? == 0 {
            return Err(format!("it ended, with {}", String::from_utf8_lossy(&bytes)));
        }
        let text = String::from_utf8_lossy(&bytes);
        let is_empty = until == "</stream:features>" && text.contains("<stream:features/>");
        // `<proceed/>` and `<success/>` are whole when their `>` is there.
        if is_empty || text.find(until).is_some_and(|place| text[place..].contains('>')) {
            return Ok(text.into_owned());
        }
    }
}
