//! The inside: for fedgate an XMPP node, known by its network; for the others a component (XEP-0114), which is how they hand stanzas on.

use super::book::Book;
use super::text::{Finder, LOCAL, PARTNER};
use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use fedgate::wire::xmpp::{
    Child, Dialback, Features, Frame, Framer, NS_SERVER, Outcome, Question, Scope, StreamHeader,
};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc;

/// Where it is, and connects from.
pub const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 7));
/// What a component and its server share.
pub const SECRET: &str = "the-component-secret";
/// For a negotiation.
const PATIENCE: Duration = Duration::from_secs(10);

/// One inside; each box has its own.
pub struct Inside {
    /// The node's listener.
    pub at: SocketAddr,
    book: Rc<Book>,
    /// What the node writes on its own stream.
    answers: mpsc::UnboundedSender<String>,
    to_write: std::cell::RefCell<Option<mpsc::UnboundedReceiver<String>>>,
}

impl Inside {
    /// Listens.
    pub async fn listen(book: Rc<Book>) -> Rc<Self> {
        let listener = TcpListener::bind((ADDRESS, 0)).await.expect("a free port");
        let (answers, to_write) = mpsc::unbounded_channel();
        let at = listener.local_addr().expect("an address");
        let inside = Rc::new(Self { at, book, answers, to_write: Some(to_write).into() });
        let this = Rc::clone(&inside);
        tokio::task::spawn_local(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let this = Rc::clone(&this);
                tokio::task::spawn_local(async move {
                    if let Err(why) = this.take(socket).await {
                        this.book.fail(format!("the node's stream from the edge: {why}"));
                    }
                });
            }
        });
        inside
    }

    /// A stream of the edge: messages are told, pings answered.
    async fn take(&self, socket: TcpStream) -> Result<(), String> {
        let mut stream = Stream::new(socket);
        let Some(Frame::Header(header)) = stream.frame().await? else { return Ok(()) };
        stream.scope = header.scope.clone();
        let own = StreamHeader { from: Some(LOCAL.to_owned()), to: header.from, id: Some("n".to_owned()), ..hello() };
        let features = Features { dialback: Some(true), ..Features::default() };
        stream.write(&format!("{}{}", own.print(), features.to_element().print_on_stream())).await?;
        let mut finder = Finder::default();
        while let Some(frame) = stream.frame().await? {
            let Frame::Element(raw) = frame else { continue };
            if raw.starts_with(b"<message") {
                finder.read(&raw, |number| self.book.seen(number));
                continue;
            }
            match Child::parse(raw, &stream.scope, NS_SERVER).map_err(|error| error.to_string())? {
                Child::Stanza(stanza) if stanza.is_ping() => {
                    if let Some(reply) = stanza.iq_result() {
                        let _ = self.answers.send(reply.print(NS_SERVER));
                    }
                }
                // Whoever reaches us is the edge.
                Child::Dialback(question) if matches!(question.outcome, Outcome::Key(_)) => {
                    let valid = question.answer(Outcome::Valid).to_element().print_on_stream();
                    stream.write(&valid).await?;
                }
                Child::Error(error, text) => return Err(format!("{error}: {}", text.unwrap_or_default())),
                _ => {}
            }
        }
        Ok(())
    }

    /// The node's own stream to the edge, for its answers.
    pub async fn dial(&self, edge: SocketAddr) -> Result<(), String> {
        let said = |error: std::io::Error| format!("the node cannot connect to {edge}: {error}");
        let socket = TcpSocket::new_v4().map_err(said)?;
        socket.bind(SocketAddr::new(ADDRESS, 0)).map_err(said)?;
        let mut stream = Stream::new(socket.connect(edge).await.map_err(said)?);
        let header = StreamHeader { from: Some(LOCAL.to_owned()), to: Some(PARTNER.to_owned()), ..hello() };
        let key = Dialback {
            question: Question::Result,
            from: Some(LOCAL.to_owned()),
            to: Some(PARTNER.to_owned()),
            id: None,
            outcome: Outcome::Key("known by its network".to_owned()),
        };
        stream.write(&format!("{}{}", header.print(), key.to_element().print_on_stream())).await?;
        let proven = async {
            loop {
                match stream.frame().await? {
                    Some(Frame::Header(header)) => stream.scope = header.scope.clone(),
                    Some(Frame::Element(raw)) => {
                        let child = Child::parse(raw, &stream.scope, NS_SERVER).map_err(|error| error.to_string())?;
                        match child {
                            Child::Dialback(answer) if answer.outcome == Outcome::Valid => return Ok(()),
                            Child::Features(_) => {}
                            other => return Err(format!("the edge answers the node by {other:?}")),
                        }
                    }
                    other => return Err(format!("the edge answers the node by {other:?}")),
                }
            }
        };
        tokio::time::timeout(PATIENCE, proven).await.map_err(|_| "the edge does not answer the node".to_owned())??;
        let mut to_write = self.to_write.borrow_mut().take().ok_or("one stream only")?;
        let book = Rc::clone(&self.book);
        let Stream { mut write, mut read, .. } = stream;
        tokio::task::spawn_local(async move {
            let mut bytes = Vec::new();
            loop {
                bytes.clear();
                tokio::select! {
                    Some(answer) = to_write.recv() => {
                        if write.write_all(answer.as_bytes()).await.is_err() {
                            return book.fail("the node's own stream takes nothing".to_owned());
                        }
                    }
                    read = read.read_buf(&mut bytes) => if !matches!(read, Ok(1..)) {
                        return book.fail("the node's own stream has ended".to_owned());
                    },
                }
            }
        });
        Ok(())
    }

    /// As a component of a server: messages are told.
    pub async fn attach(&self, server: SocketAddr) -> Result<(), String> {
        let said = |error: std::io::Error| format!("the component cannot connect to {server}: {error}");
        let mut socket = TcpStream::connect(server).await.map_err(said)?;
        socket.set_nodelay(true).map_err(said)?;
        let header = format!(
            "<?xml version='1.0'?><stream:stream xmlns='jabber:component:accept' \
             xmlns:stream='http://etherx.jabber.org/streams' to='{LOCAL}'>"
        );
        socket.write_all(header.as_bytes()).await.map_err(said)?;
        let greeting = read_until(&mut socket, "id=").await?;
        // XEP-0114 §3.
        let (_, rest) = greeting.split_once("id=").ok_or("no id")?;
        let id = rest.get(1..).and_then(|rest| rest.split(['\'', '"']).next()).ok_or("no id")?;
        let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, format!("{id}{SECRET}").as_bytes());
        let hash: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        socket.write_all(format!("<handshake>{hash}</handshake>").as_bytes()).await.map_err(said)?;
        read_until(&mut socket, "<handshake").await?;
        let book = Rc::clone(&self.book);
        tokio::task::spawn_local(async move {
            let mut finder = Finder::default();
            let mut bytes = Vec::with_capacity(65_536);
            loop {
                bytes.clear();
                match socket.read_buf(&mut bytes).await {
                    Ok(1..) => finder.read(&bytes, |number| book.seen(number)),
                    end => return book.fail(format!("the component's stream has ended: {end:?}")),
                }
            }
        });
        Ok(())
    }
}

async fn read_until(socket: &mut TcpStream, words: &str) -> Result<String, String> {
    let mut bytes = Vec::new();
    let all = async {
        loop {
            let length = socket.read_buf(&mut bytes).await.map_err(|error| error.to_string())?;
            let text = String::from_utf8_lossy(&bytes);
            if text.find(words).is_some_and(|place| text[place..].contains('>')) {
                return Ok(text.into_owned());
            }
            if length == 0 {
                return Err(format!("the component's server ended the stream: {text}"));
            }
        }
    };
    tokio::time::timeout(PATIENCE, all).await.map_err(|_| "the component's server does not answer".to_owned())?
}

fn hello() -> StreamHeader {
    StreamHeader { version: Some("1.0".to_owned()), ..StreamHeader::server() }
}

/// A stream of the node.
struct Stream {
    read: OwnedReadHalf,
    write: OwnedWriteHalf,
    framer: Framer,
    scope: Scope,
}

impl Stream {
    fn new(socket: TcpStream) -> Self {
        let _ = socket.set_nodelay(true);
        let (read, write) = socket.into_split();
        Self { read, write, framer: Framer::new(262_144), scope: Scope::of(NS_SERVER) }
    }

    /// `None`: its end.
    async fn frame(&mut self) -> Result<Option<Frame>, String> {
        loop {
            match self.framer.next().map_err(|error| error.to_string())? {
                Some(Frame::End) => return Ok(None),
                Some(frame) => return Ok(Some(frame)),
                None => {}
            }
            if !matches!(self.read.read_buf(self.framer.buffer()).await, Ok(1..)) {
                return Ok(None);
            }
        }
    }

    async fn write(&mut self, text: &str) -> Result<(), String> {
        self.write.write_all(text.as_bytes()).await.map_err(|error| error.to_string())
    }
}
