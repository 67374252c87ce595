//! A partner's edge that ours connects to: shows a certificate, answers 200 to every request, remembers what came on which connection.

use crate::world::{PATIENCE, World, ask};
use bytes::BytesMut;
use fedgate::wire::certificate::Chain;
use fedgate::wire::sip::header::Name;
use fedgate::wire::sip::{Frame, Framer, Message};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{broadcast, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::client::TlsStream;

/// A request that the edge sent.
#[derive(Debug)]
pub struct Seen {
    /// On which of the partner's connections, from 0.
    pub connection: usize,
    /// The names in the certificate that the edge showed.
    pub shown: Vec<String>,
    /// The name that it asked for.
    pub sni: Option<String>,
    /// First line.
    pub line: String,
}

pub struct Partner {
    pub port: u16,
    accepted: Arc<AtomicUsize>,
    seen: mpsc::UnboundedReceiver<Seen>,
    ended: mpsc::UnboundedReceiver<usize>,
    says: broadcast::Sender<String>,
    heard: mpsc::UnboundedReceiver<String>,
}

impl Partner {
    /// Listens, and trusts `pki/ca.pem`.
    pub async fn start(
        world: &World,
        at: &str,
        shows: (PathBuf, PathBuf),
        versions: &[&'static SupportedProtocolVersion],
    ) -> Self {
        let listener = std::net::TcpListener::bind(at).unwrap();
        Self::on(listener, world.dir.path(), shows, versions)
    }

    /// As [`Partner::start`], before there is an edge of this folder.
    pub fn on(
        listener: std::net::TcpListener,
        base: &Path,
        shows: (PathBuf, PathBuf),
        versions: &[&'static SupportedProtocolVersion],
    ) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(base.join("pki/ca.pem")).unwrap()).unwrap();
        let provider = fedgate::io::tls::provider();
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(
                CertificateDer::pem_file_iter(shows.0).unwrap().map(Result::unwrap).collect(),
                PrivateKeyDer::from_pem_file(shows.1).unwrap(),
            )
            .unwrap();
        listener.set_nonblocking(true).unwrap();
        let listener = TcpListener::from_std(listener).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (to_seen, seen) = mpsc::unbounded_channel();
        let (to_ended, ended) = mpsc::unbounded_channel();
        let (to_heard, heard) = mpsc::unbounded_channel();
        let says = broadcast::Sender::new(16);
        let accepted = Arc::new(AtomicUsize::new(0));
        let (count, speak) = (Arc::clone(&accepted), says.clone());
        tokio::spawn(async move {
            let acceptor = TlsAcceptor::from(Arc::new(config));
            while let Ok((socket, _)) = listener.accept().await {
                let connection = count.fetch_add(1, Ordering::SeqCst);
                let (acceptor, seen, ended, heard) =
                    (acceptor.clone(), to_seen.clone(), to_ended.clone(), to_heard.clone());
                let says = speak.subscribe();
                tokio::spawn(async move {
                    if let Ok(stream) = acceptor.accept(socket).await {
                        serve(stream, connection, &seen, says, &heard).await;
                    }
                    let _ = ended.send(connection);
                });
            }
        });
        Self { port, accepted, seen, ended, says, heard }
    }

    /// The next request of the edge.
    pub async fn next(&mut self) -> Seen {
        let patience = PATIENCE * 3;
        tokio::time::timeout(patience, self.seen.recv()).await.expect("a request in time").unwrap()
    }

    /// The next request that begins so.
    pub async fn request(&mut self, begins: &str) -> Seen {
        loop {
            let seen = self.next().await;
            if seen.line.starts_with(begins) {
                return seen;
            }
        }
    }

    /// Which connection ended next.
    pub async fn ended(&mut self) -> usize {
        tokio::time::timeout(PATIENCE, self.ended.recv()).await.expect("an end in time").unwrap()
    }

    /// Sends a request on every connection that the edge has made, and gives the head of the first final answer.
    pub async fn say(&mut self, request: String) -> String {
        self.says.send(request).unwrap();
        loop {
            let answer = tokio::time::timeout(PATIENCE, self.heard.recv()).await.expect("an answer in time").unwrap();
            if !answer.starts_with("SIP/2.0 1") {
                return answer;
            }
        }
    }

    /// How many connections there were.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

async fn serve(
    mut stream: tokio_rustls::server::TlsStream<TcpStream>,
    connection: usize,
    seen: &mpsc::UnboundedSender<Seen>,
    mut says: broadcast::Receiver<String>,
    heard: &mpsc::UnboundedSender<String>,
) {
    let session = stream.get_ref().1;
    let der = session.peer_certificates().unwrap().iter().map(|der| der.clone().into_owned()).collect();
    let (shown, sni) = (Chain::parse(der).unwrap().names.dns, session.server_name().map(str::to_owned));
    let mut framer = Framer::new(65_536, 65_536);
    loop {
        while let Some(frame) = framer.next() {
            let Frame::Message(message) = frame else { continue };
            if !message.is_request() {
                let _ = heard.send(head(&message));
                continue;
            }
            stream.write_all(&answer(&message)).await.unwrap();
            stream.flush().await.unwrap();
            let line = head(&message).lines().next().unwrap().to_owned();
            let _ = seen.send(Seen { connection, shown: shown.clone(), sni: sni.clone(), line });
        }
        let buffer: &mut BytesMut = framer.buffer();
        tokio::select! {
            read = stream.read_buf(buffer) => if !matches!(read, Ok(n) if n > 0) { return },
            Ok(request) = says.recv() => {
                stream.write_all(request.as_bytes()).await.unwrap();
                stream.flush().await.unwrap();
            }
        }
    }
}

fn head(message: &Message) -> String {
    String::from_utf8_lossy(message.bytes()).split("\r\n\r\n").next().unwrap_or_default().to_owned()
}

fn answer(request: &Message) -> Vec<u8> {
    let mut text = "SIP/2.0 200 OK\r\n".to_owned();
    for name in [Name::Via, Name::From, Name::To, Name::CallId, Name::CSeq] {
        for value in request.rows(name) {
            text.push_str(&format!("{}: {value}\r\n", name.as_str()));
        }
    }
    text.push_str("Content-Length: 0\r\n\r\n");
    text.into_bytes()
}

/// Takes connections and says nothing on them.
pub async fn mute(at: &str) -> u16 {
    let listener = TcpListener::bind(at).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((socket, _)) = listener.accept().await {
            kept.push(socket);
        }
    });
    port
}

/// A port of this address that nobody listens on.
pub async fn closed(at: &str) -> u16 {
    TcpListener::bind(at).await.unwrap().local_addr().unwrap().port()
}

impl World {
    /// Has a partner's user subscribe on this connection; the edge then has a NOTIFY to send to the partner.
    pub async fn subscribe(&self, stream: &mut TlsStream<TcpStream>, id: &str, from: &str, to: &str) {
        let request = format!(
            "SUBSCRIBE sip:{to} SIP/2.0\r\nVia: SIP/2.0/TLS sip.lync.example:5061;branch=z9hG4bK{id}\r\n\
             Max-Forwards: 70\r\nFrom: <sip:{from}>;tag=a1\r\nTo: <sip:{to}>\r\nCall-ID: {id}@lync.example\r\n\
             CSeq: 1 SUBSCRIBE\r\nContact: <sip:{from}>\r\nEvent: presence\r\nAccept: application/pidf+xml\r\n\
             Expires: 3600\r\nContent-Length: 0\r\n\r\n"
        );
        let answer = ask(stream, &request).await;
        assert!(answer.starts_with("SIP/2.0 200 "), "{answer}");
    }

    /// As [`World::subscribe`], on a connection of its own that is closed again.
    pub async fn provoke(&self, id: &str, from: &str, to: &str) {
        self.provoke_at(&self.sip().ip().to_string(), id, from, to).await;
    }

    /// As [`World::provoke`], at this address of the edge.
    pub async fn provoke_at(&self, host: &str, id: &str, from: &str, to: &str) {
        let client = self.client(Some(self.pki("pki", "partner")), &[&rustls::version::TLS13]);
        let socket = TcpStream::connect(format!("{host}:{}", self.sip().port())).await.unwrap();
        let name = ServerName::try_from("sip.corp.example").unwrap();
        let mut stream = client.connect(name, socket).await.unwrap();
        self.subscribe(&mut stream, id, from, to).await;
    }

    /// Attempts of ours to reach partners that failed, once there are so many.
    pub async fn failed_attempts(&self, at_least: u64) -> u64 {
        const NAME: &str = "fedgate_links_opened_total{outcome=\"failed\",protocol=\"sip\",side=\"outside\"} ";
        for _ in 0..600 {
            let (_, metrics) = self.http("GET /metrics").await;
            let count = metrics.lines().find_map(|line| line.strip_prefix(NAME)).map_or(0, |n| n.parse().unwrap());
            if count >= at_least {
                return count;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("no {at_least} failures");
    }
}
