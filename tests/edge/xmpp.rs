//! Partners' XMPP servers that connect: by STARTTLS and by direct TLS, and those that only pretend.

use crate::world::{PATIENCE, World, change};
use fedgate::io::listen::Kind;
use fedgate::wire::certificate::Chain;
use rustls::version::{TLS12, TLS13};
use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

pub const PARTNER: &str = "xmpp.example";
pub const ENTRY: &str = "[[partner]]\ndomain = \"xmpp.example\"\nprotocol = \"xmpp\"\n";

/// A stream of ours to the edge, or of the edge to us.
pub struct Stream<S> {
    pub io: S,
    heard: String,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Stream<S> {
    pub fn new(io: S) -> Self {
        Self { io, heard: String::new() }
    }

    pub async fn say(&mut self, text: &str) {
        self.io.write_all(text.as_bytes()).await.unwrap();
        self.io.flush().await.unwrap();
    }

    /// Reads up to and with this text; gives all that came.
    pub async fn hear(&mut self, until: &str) -> String {
        let read = async {
            let mut buffer = [0; 4_096];
            loop {
                if let Some(at) = self.heard.find(until) {
                    let rest = self.heard.split_off(at + until.len());
                    return std::mem::replace(&mut self.heard, rest);
                }
                match self.io.read(&mut buffer).await {
                    Ok(n) if n > 0 => self.heard.push_str(std::str::from_utf8(&buffer[..n]).unwrap()),
                    ended => panic!("{ended:?} instead of {until}, behind {:?}", self.heard),
                }
            }
        };
        tokio::time::timeout(PATIENCE, read).await.unwrap_or_else(|_| panic!("no {until} in time"))
    }

    /// Reads to the end.
    pub async fn end(&mut self) -> String {
        let mut rest = Vec::new();
        let _ = tokio::time::timeout(PATIENCE, self.io.read_to_end(&mut rest)).await.expect("an end in time");
        format!("{}{}", self.heard, String::from_utf8_lossy(&rest))
    }

    /// Opens the stream; gives the edge's header and features.
    pub async fn open(&mut self, from: &str, to: &str) -> String {
        self.say(&header(from, to)).await;
        self.hear("</stream:features>").await
    }

    /// Authenticates by the certificate that was shown (XEP-0178).
    pub async fn authenticate(&mut self, from: &str, to: &str) {
        let features = self.open(from, to).await;
        assert!(features.contains("EXTERNAL"), "{features}");
        self.say("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'>=</auth>").await;
        self.hear("<success").await;
        self.hear(">").await;
        self.open(from, to).await;
    }
}

pub fn header(from: &str, to: &str) -> String {
    format!(
        "<?xml version='1.0'?><stream:stream xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams' \
         xmlns:db='jabber:server:dialback' from='{from}' to='{to}' version='1.0'>"
    )
}

/// STARTTLS on a stream whose features were heard.
pub async fn start_tls(mut stream: Stream<TcpStream>, tls: &TlsConnector, name: &str) -> Stream<TlsStream<TcpStream>> {
    stream.say("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>").await;
    stream.hear("<proceed").await;
    stream.hear(">").await;
    Stream::new(tls.connect(name.to_owned().try_into().unwrap(), stream.io).await.unwrap())
}

/// The DNS names that the other end has shown.
fn shown(stream: &TlsStream<TcpStream>) -> Vec<String> {
    let der = stream.get_ref().1.peer_certificates().unwrap().iter().map(|der| der.clone().into_owned()).collect();
    Chain::parse(der).unwrap().names.dns
}

async fn world(entry: &str) -> World {
    World::start_with(|base| {
        change(base, "world.toml", "xmpp = []", "xmpp = [\"127.0.0.2:2\"]\nxmpps = [\"127.0.0.2:3\"]");
        std::fs::write(base.join("policies/20.toml"), entry).unwrap();
    })
    .await
}

impl World {
    fn xmpp(&self) -> SocketAddr {
        self.edge.address(Kind::OutsideXmpp).unwrap()
    }

    /// Once the metrics have this line.
    pub async fn measures(&self, line: &str) {
        let mut metrics = String::new();
        for _ in 0..200 {
            metrics = self.http("GET /metrics").await.1;
            if metrics.lines().any(|found| found == line) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("no {line}\n{metrics}");
    }

    /// A partner's server that has come by STARTTLS and proven itself.
    pub async fn good_partner(&self) -> Stream<TlsStream<TcpStream>> {
        let tls = self.client(Some(self.pki("pki", "xmpp")), &[&TLS12, &TLS13]);
        let mut plain = Stream::new(TcpStream::connect(self.xmpp()).await.unwrap());
        let features = plain.open(PARTNER, "corp.example").await;
        assert!(features.contains("<starttls") && features.contains("<required"), "{features}");
        let mut stream = start_tls(plain, &tls, "corp.example").await;
        stream.authenticate(PARTNER, "corp.example").await;
        stream
    }
}

#[tokio::test]
async fn a_partner_comes_by_starttls_or_by_direct_tls() {
    let world = world(ENTRY).await;
    let by_starttls = world.good_partner().await;
    assert!(shown(&by_starttls.io).contains(&"corp.example".to_owned()));
    world.measures("fedgate_links{protocol=\"xmpp\",side=\"outside\"} 1").await;

    let tls = world.client(Some(world.pki("pki", "xmpp")), &[&TLS13]);
    let socket = TcpStream::connect(world.edge.address(Kind::OutsideXmpps).unwrap()).await.unwrap();
    let mut config = (**tls.config()).clone();
    config.alpn_protocols = vec![b"xmpp-server".to_vec()];
    let tls = TlsConnector::from(std::sync::Arc::new(config));
    let direct = tls.connect("second.example".try_into().unwrap(), socket).await.unwrap();
    assert_eq!(direct.get_ref().1.alpn_protocol(), Some(&b"xmpp-server"[..]));
    assert!(shown(&direct).contains(&"second.example".to_owned()), "by SNI");
    let mut direct = Stream::new(direct);
    direct.authenticate(PARTNER, "second.example").await;
    world.measures("fedgate_links{protocol=\"xmpp\",side=\"outside\"} 2").await;
    world.measures("fedgate_links_opened_total{outcome=\"opened\",protocol=\"xmpp\",side=\"outside\"} 2").await;
    let (_, metrics) = world.http("GET /metrics").await;
    assert!(
        metrics.contains("fedgate_partner_certificate_expiry_timestamp_seconds{partner=\"xmpp.example\"}"),
        "{metrics}"
    );

    drop((by_starttls, direct));
    world.measures("fedgate_links{protocol=\"xmpp\",side=\"outside\"} 0").await;
}

#[tokio::test]
async fn who_asks_for_no_certificate_by_name_is_shown_that_of_whom_he_wants() {
    let world = world(ENTRY).await;
    let tls = world.client(Some(world.pki("pki", "xmpp")), &[&TLS13]);
    let mut config = (**tls.config()).clone();
    config.enable_sni = false;
    let tls = TlsConnector::from(std::sync::Arc::new(config));
    for domain in ["corp.example", "second.example"] {
        let mut plain = Stream::new(TcpStream::connect(world.xmpp()).await.unwrap());
        plain.open(PARTNER, domain).await;
        let stream = start_tls(plain, &tls, domain).await;
        assert!(shown(&stream.io).contains(&domain.to_owned()), "{domain}");
    }
}

#[tokio::test]
async fn who_is_nobody_or_somebody_else_hears_so_and_is_no_link() {
    let world = world(ENTRY).await;
    let mut stranger = Stream::new(TcpStream::connect(world.xmpp()).await.unwrap());
    stranger.say(&header("unknown.example", "corp.example")).await;
    let words = stranger.end().await;
    assert!(words.contains("<policy-violation") && words.contains("unlisted-domain"), "{words}");

    let tls = world.client(Some(world.pki("pki", "other")), &[&TLS13]);
    let mut plain = Stream::new(TcpStream::connect(world.xmpp()).await.unwrap());
    plain.open(PARTNER, "corp.example").await;
    let mut other = start_tls(plain, &tls, "corp.example").await;
    let features = other.open(PARTNER, "corp.example").await;
    assert!(!features.contains("EXTERNAL"), "{features}");
    other.say(&format!("<db:result from='{PARTNER}' to='corp.example'>key</db:result>")).await;
    let words = other.end().await;
    assert!(words.contains("not-authorized") && words.contains("unproven"), "{words}");
    let decisions = world.decisions_when(|all| all.len() >= 2).await;
    assert!(decisions.iter().any(|decision| decision["reason"] == "unproven"), "{decisions:#?}");
    world.measures("fedgate_links_opened_total{outcome=\"refused\",protocol=\"xmpp\",side=\"outside\"} 2").await;
    let (_, metrics) = world.http("GET /metrics").await;
    assert!(!metrics.contains("fedgate_links{protocol=\"xmpp\",side=\"outside\"} 1"), "{metrics}");
}

/// A connection from an address block of its own.
pub async fn from_block(number: usize, to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    let [high, low] = u16::try_from(number).unwrap().to_be_bytes();
    socket.bind(SocketAddr::from(([127, 100 + high, low, 1], 0)))?;
    socket.connect(to).await
}

#[tokio::test]
async fn who_says_little_for_long_is_cut_and_holds_up_nobody() {
    let world = World::start_with(|base| {
        change(base, "world.toml", "xmpp = []", "xmpp = [\"127.0.0.2:2\"]");
        change(base, "world.toml", "[admin]", "[limits]\nnegotiation = \"3s\"\n[admin]");
        std::fs::write(base.join("policies/20.toml"), ENTRY).unwrap();
    })
    .await;
    let begun = Instant::now();
    let slow: Vec<_> = (0..20)
        .map(|number| {
            let at = world.xmpp();
            tokio::spawn(async move {
                let mut stream = from_block(number, at).await.unwrap();
                let words = header(PARTNER, "corp.example");
                let mut bytes = words.bytes();
                let mut buffer = [0; 1_024];
                loop {
                    // A byte a second; half of them say nothing at all.
                    let byte = bytes.next().filter(|_| number % 2 == 0);
                    if let Some(byte) = byte
                        && stream.write_all(&[byte]).await.is_err()
                    {
                        return begun.elapsed();
                    }
                    let wait = Duration::from_secs(if byte.is_some() { 1 } else { 30 });
                    match tokio::time::timeout(wait, stream.read(&mut buffer)).await {
                        Ok(Ok(n)) if n > 0 => {}
                        Ok(_) => return begun.elapsed(),
                        Err(_) => assert!(begun.elapsed() < Duration::from_secs(20), "never cut"),
                    }
                }
            })
        })
        .collect();
    let good = world.good_partner().await;
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    for slow in slow {
        let cut = slow.await.unwrap();
        assert!((Duration::from_secs(3)..Duration::from_secs(10)).contains(&cut), "{cut:?}");
    }
    world.measures("fedgate_links{protocol=\"xmpp\",side=\"outside\"} 1").await;
    drop(good);
}

/// As many as a process of this test may have open; what is bounded is bounded at 10,000 as well.
#[tokio::test]
async fn connections_that_prove_nothing_are_bounded_and_leave_room_for_sip() {
    let world = world(ENTRY).await;
    let mut held = Vec::new();
    // Of one address block, few; of many blocks, no more than there are places.
    for number in 0..300 {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from(([127, 99, 0, (number % 250 + 1) as u8], 0))).unwrap();
        held.push(socket.connect(world.xmpp()).await.unwrap());
    }
    let mut refused = 0;
    for stream in &mut held {
        let mut byte = [0];
        let read = tokio::time::timeout(Duration::from_millis(20), stream.read(&mut byte)).await;
        refused += usize::from(read.is_ok());
    }
    assert!((1..=100).contains(&refused), "{refused} of 300 new ones of one block in no time");
    let good = world.good_partner().await;
    let client = world.client(Some(world.pki("pki", "partner")), &[&TLS13]);
    world.connect(&client, "sip.corp.example").await.unwrap();
    drop(good);
}

/// Places for who has proven nothing are few, and none is kept by saying nothing.
#[tokio::test]
async fn who_says_nothing_makes_room_for_a_partner() {
    const MANY: usize = 1_100;
    // Both ends of each are this process's.
    let (limit, pid) = (format!("--nofile={}:", 3 * MANY), std::process::id().to_string());
    if !Command::new("prlimit").args(["--pid", &pid, &limit]).status().is_ok_and(|status| status.success()) {
        eprintln!("left out: who_says_nothing_makes_room_for_a_partner: no right to {MANY} open connections");
        return;
    }
    for kind in [Kind::OutsideXmpp, Kind::OutsideXmpps, Kind::OutsideSip] {
        let (world, over) = (world(ENTRY).await, if kind == Kind::OutsideSip { "sip" } else { "xmpp" });
        let at = world.edge.address(kind).unwrap();
        let mut idle = Vec::new();
        for number in 0..MANY {
            idle.push(from_block(number, at).await.unwrap());
            if number % 32 == 0 {
                // All are to be accepted, none to wait in the listener's queue.
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        for _ in 0..3 {
            let good = world.good_partner().await;
            let client = world.client(Some(world.pki("pki", "partner")), &[&TLS13]);
            let mut lync = world.connect(&client, "sip.corp.example").await.unwrap();
            lync.write_all(b"\r\n\r\n").await.unwrap();
            assert_eq!(lync.read_u8().await.unwrap(), b'\r', "it is heard");
            drop(good);
        }
        let mut closed = 0;
        for (number, stream) in idle.iter_mut().enumerate() {
            let mut byte = [0];
            match tokio::time::timeout(
                Duration::from_millis(if number < 50 { 1_000 } else { 1 }),
                stream.read(&mut byte),
            )
            .await
            {
                Ok(read) => {
                    assert!(!read.is_ok_and(|n| n > 0), "nothing is said to it");
                    closed += 1;
                }
                Err(_) => assert!(number >= 50, "the oldest make room, not number {number} over {kind:?}"),
            }
        }
        assert!((50..200).contains(&closed), "{closed} of {MANY} over {over}");
        let (_, metrics) = world.http("GET /metrics").await;
        let limited =
            format!("fedgate_links_opened_total{{outcome=\"limited\",protocol=\"{over}\",side=\"outside\"}} {closed}");
        assert!(metrics.contains(&limited), "{limited}\n{metrics}");
    }
}
