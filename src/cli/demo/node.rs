//! A small XMPP server with one user, as the inside has one: server-to-server streams over TCP with dialback (RFC 6120, XEP-0220).
//!
//! It takes the edge for the servers of every other domain, and believes it no more than another: each stream is proven both ways by
//! dialback. Takes what its user does, reports every stanza and dialback element that it has written or read.

use super::seen::{Peer, Seen, What};
use super::stage::Reports;
use crate::gate::translate::composing::ChatState;
use crate::wire::xmpp::stanza::{self, Condition, ErrorType, Stanza, StanzaError};
use crate::wire::xmpp::stream::STREAM_END;
use crate::wire::xmpp::{
    Child, Dialback, Element, Features, Frame, Framer, Kind, NS_SERVER, Outcome, Question, Scope, StreamError,
    StreamHeader,
};
use aws_lc_rs::hmac;
use rand::RngExt as _;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// One stanza.
const STANZA_BYTES: usize = 65_536;
/// For a dialback question of ours.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// The node.
pub struct Node {
    house: Arc<House>,
    letters: mpsc::UnboundedSender<Element>,
    /// Where it listens.
    pub at: SocketAddr,
}

/// What its streams share.
struct House {
    domain: String,
    user: String,
    secret: hmac::Key,
    /// Where the servers of all other domains are: the edge's inside listener.
    edge: OnceLock<SocketAddr>,
    roster: Mutex<Roster>,
    reports: Reports,
}

/// Who may see the user, and what there is to see.
#[derive(Default)]
struct Roster {
    watchers: BTreeSet<String>,
    show: Option<Shown>,
}

#[derive(Clone)]
struct Shown {
    show: Option<String>,
    status: Option<String>,
}

impl Node {
    /// Listens on loopback for `user@domain`.
    pub async fn start(user: &str, domain: &str, reports: Reports) -> Result<Self, String> {
        let words = |error: std::io::Error| format!("the node of {domain}: {error}");
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(words)?;
        let at = listener.local_addr().map_err(words)?;
        let house = Arc::new(House {
            domain: domain.to_owned(),
            user: format!("{user}@{domain}"),
            secret: hmac::Key::new(hmac::HMAC_SHA256, &rand::random::<[u8; 32]>()),
            edge: OnceLock::new(),
            roster: Mutex::default(),
            reports,
        });
        let (letters, to_send) = mpsc::unbounded_channel();
        tokio::spawn(accept(Arc::clone(&house), letters.clone(), listener));
        tokio::spawn(send_all(Arc::clone(&house), to_send));
        Ok(Self { house, letters, at })
    }

    /// Tells it where the edge's inside listener is.
    pub fn meet(&self, edge: SocketAddr) {
        let _ = self.house.edge.set(edge);
    }

    /// Its user lets a watcher see her (RFC 6121 §3.1.5).
    pub fn approve(&self, watcher: &str) {
        self.house.roster().watchers.insert(watcher.to_owned());
        let _ = self.letters.send(stanza::presence(&self.house.user, watcher, Some("subscribed")));
    }

    /// Its user asks to see a contact (RFC 6121 §3.1.2).
    pub fn ask(&self, contact: &str) {
        let _ = self.letters.send(stanza::presence(&self.house.user, contact, Some("subscribe")).attr("id", &token()));
    }

    /// Its user's client says how she is in a chat (XEP-0085).
    pub fn chat_state(&self, to: &str, state: ChatState) {
        let message = Element::new("message", NS_SERVER).attr("type", "chat").attr("id", &token());
        let message = message.attr("from", &self.house.user_with_resource()).attr("to", to);
        let _ = self.letters.send(message.child(state.element()));
    }

    /// Its user's client shows something: every watcher is told (RFC 6121 §4.4.2).
    pub fn show(&self, show: Option<&str>, status: Option<&str>) {
        let shown = Shown { show: show.map(str::to_owned), status: status.map(str::to_owned) };
        let mut roster = self.house.roster();
        for watcher in &roster.watchers {
            let _ = self.letters.send(self.house.presence(watcher, &shown));
        }
        roster.show = Some(shown);
    }

    /// Its user writes a message.
    pub fn message(&self, to: &str, text: &str) {
        let from = self.house.user_with_resource();
        let _ = self.letters.send(stanza::message(from, to, "chat", text).attr("id", &token()));
    }
}

impl House {
    fn report(&self, sent: bool, what: What) {
        let _ = self.reports.send(Seen { by: Peer::Node, sent, what });
    }

    fn roster(&self) -> std::sync::MutexGuard<'_, Roster> {
        self.roster.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn user_with_resource(&self) -> String {
        format!("{}/balcony", self.user)
    }

    fn presence(&self, watcher: &str, shown: &Shown) -> Element {
        let text = |name: &str, text: &Option<String>| text.as_ref().map(|t| Element::new(name, NS_SERVER).text(t));
        [text("show", &shown.show), text("status", &shown.status)]
            .into_iter()
            .flatten()
            .fold(stanza::presence(self.user_with_resource(), watcher, None), Element::child)
    }

    /// A key that only we can make (XEP-0185).
    fn key(&self, receiving: &str, originating: &str, id: &str) -> String {
        let tag = hmac::sign(&self.secret, format!("{receiving} {originating} {id}").as_bytes());
        tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// A stream of ours to the server of `domain`, up to its features; and its id.
    async fn open(&self, domain: &str) -> Result<(Stream, String), String> {
        let edge = *self.edge.get().ok_or("nobody has told the node where the edge is")?;
        let socket = TcpStream::connect(edge).await.map_err(|error| error.to_string())?;
        let mut stream = Stream::new(socket);
        let header = StreamHeader {
            from: Some(self.domain.clone()),
            to: Some(domain.to_owned()),
            version: Some("1.0".to_owned()),
            ..StreamHeader::server()
        };
        stream.write(&header.print()).await?;
        let id = stream.header().await?.id.ok_or("a stream without an id")?;
        match stream.next().await? {
            Some(Child::Features(features)) if features.dialback.is_some() => Ok((stream, id)),
            other => Err(format!("features with dialback were expected, not {other:?}")),
        }
    }

    /// Puts a dialback question on a stream of ours, and waits for its answer.
    async fn ask(&self, stream: &mut Stream, question: Dialback) -> Result<Outcome, String> {
        stream.write(&question.to_element().print_on_stream()).await?;
        self.report(true, What::Dialback(question.clone()));
        let answer = timeout(ANSWER_WITHIN, async {
            loop {
                match stream.next().await? {
                    Some(Child::Dialback(answer))
                        if answer.question == question.question
                            && answer.from == question.to
                            && answer.to == question.from
                            && answer.id == question.id =>
                    {
                        return Ok(answer);
                    }
                    Some(Child::Error(error, text)) => return Err(format!("{error} {}", text.unwrap_or_default())),
                    Some(_) => {}
                    None => return Err("the stream ended".to_owned()),
                }
            }
        });
        let answer = answer.await.map_err(|_| "no answer".to_owned())??;
        self.report(false, What::Dialback(answer.clone()));
        Ok(answer.outcome)
    }

    /// A stream on which we may send to `domain` (XEP-0220 §2.1).
    async fn stream_to(&self, domain: &str) -> Result<Stream, String> {
        let (mut stream, id) = self.open(domain).await?;
        let question = Dialback {
            question: Question::Result,
            from: Some(self.domain.clone()),
            to: Some(domain.to_owned()),
            id: None,
            outcome: Outcome::Key(self.key(domain, &self.domain, &id)),
        };
        match self.ask(&mut stream, question).await? {
            Outcome::Valid => Ok(stream),
            other => Err(format!("our dialback key was answered by {other:?}")),
        }
    }

    /// Asks the server of `domain` whether a key on stream `id` is its own (XEP-0220 §2.3).
    async fn vouches(&self, domain: &str, id: &str, key: String) -> Result<bool, String> {
        let (mut stream, _) = self.open(domain).await?;
        let question = Dialback {
            question: Question::Verify,
            from: Some(self.domain.clone()),
            to: Some(domain.to_owned()),
            id: Some(id.to_owned()),
            outcome: Outcome::Key(key),
        };
        let outcome = self.ask(&mut stream, question).await?;
        stream.end().await;
        Ok(outcome == Outcome::Valid)
    }

    /// A stream of the edge's.
    async fn receive(&self, letters: &mpsc::UnboundedSender<Element>, socket: TcpStream) -> Result<(), String> {
        let mut stream = Stream::new(socket);
        let header = stream.header().await?;
        let id = token();
        let own = StreamHeader {
            from: Some(self.domain.clone()),
            to: header.from,
            id: Some(id.clone()),
            version: Some("1.0".to_owned()),
            ..StreamHeader::server()
        };
        let features = Features { dialback: Some(true), ..Features::default() };
        stream.write(&format!("{}{}", own.print(), features.to_element().print_on_stream())).await?;
        let mut proven = BTreeSet::new();
        while let Some(child) = stream.next().await? {
            match child {
                Child::Dialback(question) => {
                    self.report(false, What::Dialback(question.clone()));
                    let Some(outcome) = self.judge(&question, &id).await else { continue };
                    if let (Question::Result, Outcome::Valid, Some(from)) =
                        (question.question, &outcome, &question.from)
                    {
                        proven.insert(from.clone());
                    }
                    let answer = question.answer(outcome);
                    stream.write(&answer.to_element().print_on_stream()).await?;
                    self.report(true, What::Dialback(answer));
                }
                Child::Stanza(stanza) => {
                    let from = stanza.from.as_ref().ok().and_then(Option::as_ref);
                    if !from.is_some_and(|from| proven.contains(from.bare.domain().as_str())) {
                        let error = StreamError::NotAuthorized.to_element(Some("that domain is not proven here"));
                        stream.write(&error.print_on_stream()).await?;
                        break;
                    }
                    self.report(false, What::Stanza(stanza.element().clone()));
                    self.deliver(letters, &stanza);
                }
                Child::Error(..) => break,
                _ => {}
            }
        }
        stream.end().await;
        Ok(())
    }

    /// The answer to a dialback question on stream `id`; `None`: it was none.
    async fn judge(&self, question: &Dialback, id: &str) -> Option<Outcome> {
        let (Outcome::Key(key), Some(from)) = (&question.outcome, &question.from) else { return None };
        let is_valid = match question.question {
            // Whoever wants to send for a domain: that domain's server knows.
            Question::Result => match self.vouches(from, id, key.clone()).await {
                Ok(vouches) => vouches,
                Err(error) => {
                    self.report(false, What::Link(format!("no word of {from} on its key: {error}")));
                    false
                }
            },
            // Whether we gave a key out.
            Question::Verify => {
                let stream_id = question.id.as_deref().unwrap_or_default();
                question.to.as_deref() == Some(self.domain.as_str()) && *key == self.key(from, &self.domain, stream_id)
            }
        };
        Some(if is_valid { Outcome::Valid } else { Outcome::Invalid })
    }

    /// What a server does with a stanza by itself; all else is the user's.
    fn deliver(&self, letters: &mpsc::UnboundedSender<Element>, stanza: &Stanza) {
        let reply = match (stanza.kind, stanza.type_.as_deref()) {
            (Kind::Iq, _) if stanza.is_ping() => stanza.iq_result(),
            (Kind::Iq, Some("get" | "set")) => {
                stanza.error_reply(&StanzaError::new(Condition::ServiceUnavailable, ErrorType::Cancel))
            }
            (Kind::Presence, Some("probe")) => self.answer_to_probe(stanza),
            _ => None,
        };
        if let Some(reply) = reply {
            let _ = letters.send(reply);
        }
    }

    /// RFC 6121 §4.3.2.
    fn answer_to_probe(&self, probe: &Stanza) -> Option<Element> {
        let watcher = probe.from.as_ref().ok()?.as_ref()?.bare.to_string();
        let roster = self.roster();
        match &roster.show {
            _ if !roster.watchers.contains(&watcher) => {
                Some(stanza::presence(&self.user, &watcher, Some("unsubscribed")))
            }
            Some(shown) => Some(self.presence(&watcher, shown)),
            None => Some(stanza::presence(&self.user, &watcher, Some("unavailable"))),
        }
    }
}

/// Streams from the edge.
async fn accept(house: Arc<House>, letters: mpsc::UnboundedSender<Element>, listener: TcpListener) {
    while let Ok((socket, _)) = listener.accept().await {
        let (house, letters) = (Arc::clone(&house), letters.clone());
        tokio::spawn(async move {
            if let Err(error) = house.receive(&letters, socket).await {
                house.report(false, What::Link(format!("a stream that failed: {error}")));
            }
        });
    }
}

/// Sends stanzas in order, each on the stream to its domain, which is opened for the first.
async fn send_all(house: Arc<House>, mut letters: mpsc::UnboundedReceiver<Element>) {
    let mut streams: BTreeMap<String, Stream> = BTreeMap::new();
    while let Some(stanza) = letters.recv().await {
        let to = stanza.get_attr("to").unwrap_or_default();
        let domain = to.split('/').next().unwrap_or_default().rsplit('@').next().unwrap_or_default().to_owned();
        let mut stream = match streams.remove(&domain) {
            Some(stream) => stream,
            None => match house.stream_to(&domain).await {
                Ok(stream) => stream,
                Err(error) => {
                    house.report(true, What::Link(format!("nothing to {domain}: {error}")));
                    continue;
                }
            },
        };
        if stream.write(&stanza.print(NS_SERVER)).await.is_ok() {
            house.report(true, What::Stanza(stanza));
            streams.insert(domain, stream);
        }
    }
}

/// A stream on a socket.
struct Stream {
    socket: TcpStream,
    framer: Framer,
    scope: Scope,
}

impl Stream {
    fn new(socket: TcpStream) -> Self {
        let _ = socket.set_nodelay(true);
        Self { socket, framer: Framer::new(STANZA_BYTES), scope: Scope::of(NS_SERVER) }
    }

    async fn write(&mut self, text: &str) -> Result<(), String> {
        self.socket.write_all(text.as_bytes()).await.map_err(|error| error.to_string())
    }

    async fn frame(&mut self) -> Result<Frame, String> {
        loop {
            if let Some(frame) = self.framer.next().map_err(|error| error.to_string())? {
                return Ok(frame);
            }
            let read = self.socket.read_buf(self.framer.buffer()).await.map_err(|error| error.to_string())?;
            if read == 0 {
                return Ok(Frame::End);
            }
        }
    }

    async fn header(&mut self) -> Result<StreamHeader, String> {
        match self.frame().await? {
            Frame::Header(header) => {
                self.scope = header.scope.clone();
                Ok(header)
            }
            _ => Err("no stream header".to_owned()),
        }
    }

    /// `None`: its end.
    async fn next(&mut self) -> Result<Option<Child>, String> {
        match self.frame().await? {
            Frame::Element(raw) => {
                Child::parse(raw, &self.scope, NS_SERVER).map(Some).map_err(|error| error.to_string())
            }
            Frame::Header(_) => Err("a second header".to_owned()),
            Frame::End => Ok(None),
        }
    }

    async fn end(&mut self) {
        if self.write(STREAM_END).await.is_ok() {
            let _ = self.socket.shutdown().await;
        }
    }
}

/// For ids.
fn token() -> String {
    format!("{:016x}", rand::rng().random::<u64>())
}
