//! SIP nodes: the inside listeners, and the ports outside that are a node's own.

use crate::partner::{Partner, closed};
use crate::world::{PATIENCE, World, ask, change, message};
use fedgate::io::listen::Kind;
use fedgate::wire::certificate::Chain;
use proxy_header::ProxyHeader;
use rustls::client::ResolvesClientCert;
use rustls::pki_types::ServerName;
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, SignatureScheme};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// A SIP node at 127.0.0.5 beside the XMPP node, with these keys.
fn with_node(base: &Path, keys: &str) {
    let listeners = "sip = [\"tcp:127.0.0.3:2\", \"tls:127.0.0.3:3\"]\ntrust = [\"pki/ca.pem\"]\n";
    change(base, "world.toml", "sip = []\n", listeners);
    let node = format!(
        "[[node]]\nname = \"imp-2\"\nprotocol = \"sip\"\naddress = \"127.0.0.5:9\"\ndomains = [\"corp.example\"]\npriority = 1\n{keys}\n[dns]\n"
    );
    change(base, "world.toml", "[dns]\n", &node);
}

async fn world(keys: &str) -> World {
    World::start_with(|base| with_node(base, keys)).await
}

async fn from(ip: &str, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(ip.parse().unwrap(), 0)).unwrap();
    socket.connect(to).await.unwrap()
}

/// A SIP server over TLS that holds the certificate of other.example, in the place of the node at this address.
fn serve(base: &Path, ip: &str) -> Partner {
    let listener = TcpListener::bind(format!("{ip}:0")).unwrap();
    let shows = (base.join("pki/other.pem"), base.join("pki/other.key"));
    let server = Partner::on(listener, base, shows, &[&TLS12, &TLS13]);
    change(base, "world.toml", &format!("{ip}:9"), &format!("{ip}:{}", server.port));
    server
}

/// Whether whoever is there answers a ping (RFC 5626 §4.4.1).
async fn pongs(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> bool {
    if stream.write_all(b"\r\n\r\n").await.is_err() || stream.flush().await.is_err() {
        return false;
    }
    let mut pong = [0; 2];
    let read = tokio::time::timeout(PATIENCE, stream.read_exact(&mut pong)).await.expect("a pong, or an end");
    read.is_ok() && &pong == b"\r\n"
}

impl World {
    async fn as_node(&self, shows: Option<&str>, sni: &'static str) -> TlsStream<TcpStream> {
        let client = self.client(shows.map(|name| self.pki("pki", name)), &[&TLS12, &TLS13]);
        let socket = from("127.0.0.5", self.edge.address(Kind::InsideSipTls).unwrap()).await;
        client.connect(ServerName::try_from(sni).unwrap(), socket).await.unwrap()
    }

    async fn at_door(&self, port: u16, shows: Option<&str>, first: &[u8]) -> std::io::Result<TlsStream<TcpStream>> {
        let client = self.client(shows.map(|name| self.pki("pki", name)), &[&TLS12]);
        let mut socket = from("127.0.0.1", SocketAddr::new(self.sip().ip(), port)).await;
        socket.write_all(first).await?;
        let name = ServerName::try_from("sip.corp.example").unwrap();
        tokio::time::timeout(PATIENCE, client.connect(name, socket)).await.expect("an end of the handshake")
    }
}

#[tokio::test]
async fn whoever_is_no_sip_node_may_not_connect() {
    let world = world("").await;
    let tcp = world.edge.address(Kind::InsideSipTcp).unwrap();
    assert!(pongs(&mut from("127.0.0.5", tcp).await).await, "the node");
    // An XMPP node's address is within [inside] networks, too.
    for (i, kind) in [Kind::InsideSipTcp, Kind::InsideSipTls].into_iter().enumerate() {
        assert!(!pongs(&mut from("127.0.0.1", world.edge.address(kind).unwrap()).await).await, "{kind:?}");
        let decisions = world.decisions_when(|all| all.len() > i).await;
        assert_eq!((decisions.len(), &decisions[0]["reason"]), (i + 1, &"unproven".into()));
        let because = decisions[0]["because"].as_str().unwrap();
        assert!(because.contains("127.0.0.1") && because.contains("`sources` of its [[node]]"), "{because}");
    }
}

#[tokio::test]
async fn who_is_a_node_counts_from_the_next_reload() {
    let world = world("").await;
    let tcp = world.edge.address(Kind::InsideSipTcp).unwrap();
    assert!(!pongs(&mut from("127.0.0.6", tcp).await).await);
    change(world.dir.path(), "world.toml", "priority = 1\n", "priority = 1\nsources = [\"127.0.0.6\"]\n");
    world.edge.reload().await.unwrap();
    assert!(pongs(&mut from("127.0.0.6", tcp).await).await);
    assert!(!pongs(&mut from("127.0.0.5", tcp).await).await, "what is written replaces the host of `address`");
}

#[tokio::test]
async fn tls_inside_takes_any_certificate_or_none() {
    let world = world("").await;
    for (shows, sni, carries) in [
        (None, "sip.corp.example", "corp.example"),
        (Some("other"), "sip.second.example", "second.example"),
        (Some("partner"), "unknown.example", "corp.example"),
    ] {
        let mut stream = world.as_node(shows, sni).await;
        assert!(pongs(&mut stream).await, "{shows:?}");
        let der = stream.get_ref().1.peer_certificates().unwrap().iter().map(|der| der.clone().into_owned()).collect();
        let chain = Chain::parse(der).unwrap();
        assert!(chain.names.dns.iter().any(|name| name == carries), "{sni}: {}", chain.names);
    }
}

/// Notes that it was asked for a certificate, and has none.
#[derive(Debug, Default)]
struct Asked(AtomicBool);

impl ResolvesClientCert for Asked {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.store(true, Ordering::SeqCst);
        None
    }
    fn has_certs(&self) -> bool {
        true
    }
}

#[tokio::test]
async fn tls_inside_asks_for_a_certificate() {
    let world = world("").await;
    let asked = Arc::new(Asked::default());
    let mut config = ClientConfig::clone(world.client(None, &[&TLS12, &TLS13]).config());
    config.client_auth_cert_resolver = Arc::<Asked>::clone(&asked);
    let socket = from("127.0.0.5", world.edge.address(Kind::InsideSipTls).unwrap()).await;
    let name = ServerName::try_from("sip.corp.example").unwrap();
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, socket).await.unwrap();
    assert!(pongs(&mut stream).await);
    assert!(asked.0.load(Ordering::SeqCst));
}

#[tokio::test]
async fn a_nodes_own_port_outside_demands_what_the_others_demand() {
    let port = closed("127.0.0.2:0").await;
    let world = World::start_with(|base| {
        with_node(base, &format!("public_port = {port}"));
        change(base, "world.toml", "[inside]", "proxy_protocol_from = [\"127.0.0.9\"]\n[inside]");
    })
    .await;
    assert_ne!(world.sip().port(), port, "the first is the common one");
    let mut partner = world.at_door(port, Some("partner"), b"").await.unwrap();
    assert!(pongs(&mut partner).await);
    assert!(world.at_door(port, None, b"").await.is_err(), "no certificate");
    let mut header = Vec::new();
    ProxyHeader::with_local().encode_v2(&mut header).unwrap();
    assert!(world.at_door(port, Some("partner"), &header).await.is_err(), "a header from who is no balancer");
    let mut balancer = from("127.0.0.9", SocketAddr::new(world.sip().ip(), port)).await;
    balancer.write_all(&header).await.unwrap();
    let mut byte = [0];
    let end = tokio::time::timeout(PATIENCE, balancer.read(&mut byte)).await.expect("an end");
    assert!(matches!(end, Ok(0) | Err(_)), "LOCAL is closed without a word, so the header was read: {end:?}");
    assert!(world.decisions().await[0]["because"].as_str().unwrap().contains("no certificate"));
}

#[tokio::test]
async fn a_node_over_tls_is_asked_how_it_is() {
    let mut node = None;
    let world = World::start_with(|base| {
        with_node(base, "tls = { name = \"other.example\" }");
        node = Some(serve(base, "127.0.0.5"));
    })
    .await;
    let seen = node.unwrap().request("OPTIONS sip:127.0.0.5:").await;
    assert_eq!(seen.sni.as_deref(), Some("other.example"));
    assert!(seen.shown.contains(&"corp.example".to_owned()), "the first identity's certificate: {seen:?}");
    drop(world);
}

/// The XMPP node behind all others, so that every user is on SIP.
fn all_on_sip(base: &Path) {
    change(base, "world.toml", "name = \"imp-1\"\n", "name = \"imp-1\"\npriority = 9\n");
}

#[tokio::test]
async fn a_node_over_tls_gets_what_a_partner_sends() {
    for (name, status) in [("other.example", "SIP/2.0 200 "), ("another.example", "SIP/2.0 503 ")] {
        let mut node = None;
        let world = World::start_with(|base| {
            with_node(base, &format!("tls = {{ name = \"{name}\" }}"));
            all_on_sip(base);
            node = Some(serve(base, "127.0.0.5"));
        })
        .await;
        let client = world.client(Some(world.pki("pki", "partner")), &[&TLS13]);
        let mut stream = world.connect(&client, "sip.corp.example").await.unwrap();
        let answer = ask(&mut stream, &message("tls", "juliet@lync.example", "alice@corp.example")).await;
        assert!(answer.starts_with(status), "{name}: {answer}");
        assert!(!answer.contains("imp-2") && !answer.contains("127.0.0.5"), "{answer}");
        if name == "other.example" {
            node.unwrap().request("MESSAGE sip:alice@corp.example").await;
        }
    }
}

#[tokio::test]
async fn a_port_of_its_own_leads_to_its_node() {
    let port = closed("127.0.0.2:0").await;
    let mut nodes = None;
    let world = World::start_with(|base| {
        let tls = "tls = { name = \"other.example\" }";
        let third = "[[node]]\nname = \"imp-3\"\nprotocol = \"sip\"\naddress = \"127.0.0.6:9\"\ndomains = [\"corp.example\"]\npriority = 2";
        with_node(base, &format!("{tls}\n{third}\npublic_port = {port}\n{tls}"));
        all_on_sip(base);
        nodes = Some((serve(base, "127.0.0.5"), serve(base, "127.0.0.6")));
    })
    .await;
    let (mut first, mut second) = nodes.unwrap();
    for (i, (port, node)) in [(world.sip().port(), &mut first), (port, &mut second)].into_iter().enumerate() {
        let mut stream = world.at_door(port, Some("partner"), b"").await.unwrap();
        let answer = ask(&mut stream, &message(&format!("d{i}"), "juliet@lync.example", "alice@corp.example")).await;
        assert!(answer.starts_with("SIP/2.0 200 "), "{answer}");
        node.request("MESSAGE sip:alice@corp.example").await;
    }
}
