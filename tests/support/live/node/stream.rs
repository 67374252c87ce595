//! The node's streams: those of the edge, and its own.

use super::super::edge::Net;
use super::super::{LOCAL, PARTNER};
use super::{House, Letter};
use bytes::Bytes;
use fedgate::wire::xmpp::{
    Child, Dialback, Element, Features, Frame, Framer, NS_SERVER, Outcome, Question, Scope, StreamError, StreamHeader,
};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::OwnedReadHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

/// XEP-0198.
const NS_SM: &str = "urn:xmpp:sm:3";
/// Between tries to reach the edge.
const AGAIN: Duration = Duration::from_millis(20);
/// For negotiation.
const NEGOTIATION: Duration = Duration::from_secs(10);
/// Stanzas written at once.
const BATCH: usize = 256;

/// Streams of the edge.
pub(super) async fn accept(house: Arc<House>, listener: TcpListener) {
    while let Ok((socket, _)) = listener.accept().await {
        let _ = socket.set_nodelay(true);
        let house = Arc::clone(&house);
        let generation = house.book.generation();
        tokio::spawn(async move {
            if let Err(error) = receive(&house, generation, socket).await {
                house.book.complain(|| format!("a stream of the edge: {error}"));
            }
        });
    }
}

/// A stream of the edge; an error is what no death of it explains.
async fn receive(house: &House, generation: u32, socket: TcpStream) -> Result<(), String> {
    let (read, mut write) = socket.into_split();
    let mut reader = Reader::new(read);
    let Some(header) = reader.header().await? else { return Ok(()) };
    let id = format!("n{generation}-{}", {
        let mut state = house.state();
        state.streams += 1;
        state.streams
    });
    let own = StreamHeader {
        from: Some(LOCAL.to_owned()),
        to: header.from,
        id: Some(id),
        version: Some("1.0".to_owned()),
        ..StreamHeader::server()
    };
    let features = Features { dialback: Some(true), ..Features::default() };
    let hello = format!("{}{}", own.print(), features.to_element().print_on_stream());
    if write.write_all(hello.as_bytes()).await.is_err() {
        return Ok(());
    }
    while let Some(frame) = reader.frame().await? {
        let Frame::Element(raw) = frame else { continue };
        match reader.child(raw)? {
            Child::Stanza(stanza) => house.take(generation, &stanza),
            // verify = "network" on our side too: whoever reaches us is the edge.
            Child::Dialback(question) if matches!(question.outcome, Outcome::Key(_)) => {
                let valid = question.answer(Outcome::Valid).to_element().print_on_stream();
                if write.write_all(valid.as_bytes()).await.is_err() {
                    return Ok(());
                }
            }
            Child::Error(StreamError::SystemShutdown, _) => return Ok(()),
            Child::Error(error, text) => return Err(format!("{error}: {}", text.unwrap_or_default())),
            _ => {}
        }
    }
    Ok(())
}

/// Its own stream, made again whenever it ends.
pub(super) async fn dial(house: Arc<House>, net: Net, mut letters: mpsc::UnboundedReceiver<Letter>) {
    loop {
        if let Ok(Ok(socket)) = tokio::time::timeout(NEGOTIATION, TcpStream::connect(net.inside())).await {
            let _ = socket.set_nodelay(true);
            if let Err(error) = send_all(&house, socket, &mut letters).await {
                house.book.complain(|| format!("the stream to the edge: {error}"));
            }
            house.cut();
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Negotiates, then writes what there is; an error is what no death of the edge explains.
async fn send_all(
    house: &House,
    socket: TcpStream,
    letters: &mut mpsc::UnboundedReceiver<Letter>,
) -> Result<(), String> {
    let (read, mut write) = socket.into_split();
    let mut reader = Reader::new(read);
    let header = StreamHeader {
        from: Some(LOCAL.to_owned()),
        to: Some(PARTNER.to_owned()),
        version: Some("1.0".to_owned()),
        ..StreamHeader::server()
    };
    let key = Dialback {
        question: Question::Result,
        from: Some(LOCAL.to_owned()),
        to: Some(PARTNER.to_owned()),
        id: None,
        outcome: Outcome::Key("known by its network".to_owned()),
    };
    let hello = format!("{}{}", header.print(), key.to_element().print_on_stream());
    if write.write_all(hello.as_bytes()).await.is_err() || reader.header().await?.is_none() {
        return Ok(());
    }
    loop {
        let Some(Frame::Element(raw)) = reader.frame().await? else { return Ok(()) };
        match reader.child(raw)? {
            Child::Dialback(answer) if answer.outcome == Outcome::Valid => break,
            Child::Dialback(answer) => return Err(format!("dialback: {:?}", answer.outcome)),
            Child::Error(error, text) => return Err(format!("{error}: {}", text.unwrap_or_default())),
            _ => {}
        }
    }
    // No features come behind dialback, so nothing offers it (XEP-0198 §2).
    if write.write_all(format!("<enable xmlns='{NS_SM}'/>").as_bytes()).await.is_err() {
        return Ok(());
    }
    match reader.frame().await? {
        Some(Frame::Element(raw)) if raw.starts_with(b"<enabled") => {}
        Some(other) => return Err(format!("<enable/> was answered by {other:?}")),
        None => return Ok(()),
    }
    let mut batch = Vec::with_capacity(BATCH);
    let mut text = String::new();
    loop {
        tokio::select! {
            n = letters.recv_many(&mut batch, BATCH) => {
                if n == 0 {
                    return Ok(());
                }
                text.clear();
                {
                    let mut state = house.state();
                    for letter in batch.drain(..) {
                        state.count += 1;
                        let count = state.count;
                        state.written.push_back((count, letter.what));
                        text.push_str(&letter.text);
                    }
                }
                text.push_str(&format!("<r xmlns='{NS_SM}'/>"));
                if write.write_all(text.as_bytes()).await.is_err() {
                    // What the edge acknowledged before it died still counts.
                    while let Ok(Some(frame)) = reader.frame().await {
                        house.on_frame(frame);
                    }
                    return Ok(());
                }
            }
            frame = reader.frame() => match frame? {
                Some(Frame::Element(raw)) if raw.starts_with(b"<stream:error") => {
                    return match reader.child(raw)? {
                        Child::Error(StreamError::SystemShutdown, _) => Ok(()),
                        other => Err(format!("{other:?}")),
                    };
                }
                Some(frame) => house.on_frame(frame),
                None => return Ok(()),
            },
        }
    }
}

impl House {
    /// `<a/>` (XEP-0198 §4) on its own stream; there is nothing else to expect.
    fn on_frame(&self, frame: Frame) {
        let Frame::Element(raw) = frame else { return };
        if !raw.starts_with(b"<a ") {
            return;
        }
        let count = Element::parse(&raw, NS_SERVER).ok().and_then(|a| a.get_attr("h")?.parse::<u64>().ok());
        let sent = self.state().count;
        match count {
            Some(count) if count <= sent => self.acknowledged(count),
            other => self.book.complain(|| format!("an acknowledgement of {other:?}, which is more than was sent")),
        }
    }
}

/// The reading half of a stream.
struct Reader {
    read: OwnedReadHalf,
    framer: Framer,
    scope: Scope,
}

impl Reader {
    fn new(read: OwnedReadHalf) -> Self {
        Self { read, framer: Framer::new(262_144), scope: Scope::of(NS_SERVER) }
    }

    /// `None`: its end, whoever made it. Dropping the future loses nothing.
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

    async fn header(&mut self) -> Result<Option<StreamHeader>, String> {
        match self.frame().await? {
            Some(Frame::Header(header)) => {
                self.scope = header.scope.clone();
                Ok(Some(header))
            }
            Some(_) => Err("no stream header".to_owned()),
            None => Ok(None),
        }
    }

    fn child(&self, raw: Bytes) -> Result<Child, String> {
        Child::parse(raw, &self.scope, NS_SERVER).map_err(|error| error.to_string())
    }
}
