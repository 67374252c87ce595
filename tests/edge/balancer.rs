//! Behind a load balancer that says by the PROXY protocol who connected.

use crate::world::{PATIENCE, World, ask, change, message};
use proxy_header::{Protocol, ProxiedAddress, ProxyHeader};
use rustls::pki_types::ServerName;
use rustls::version::TLS13;
use serde_json::Value;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::client::TlsStream;

/// 127.0.0.9 is a balancer, 127.0.0.1 is not, and the partner may come from 192.0.2.0/24 only.
async fn world() -> World {
    World::start_with(|base| {
        change(base, "world.toml", "[inside]", "proxy_protocol_from = [\"127.0.0.9\"]\n[inside]");
        change(base, "policies/10.toml", "profile = \"lync\"", "profile = \"lync\"\nnetworks = [\"192.0.2.0/24\"]");
    })
    .await
}

/// A PROXY header of version 2 that names this client.
fn header(client: &str) -> Vec<u8> {
    let source: SocketAddr = client.parse().unwrap();
    let destination = SocketAddr::new(if source.is_ipv4() { [192, 0, 2, 1].into() } else { source.ip() }, 5061);
    let mut bytes = Vec::new();
    let address = ProxiedAddress { protocol: Protocol::Stream, source, destination };
    ProxyHeader::with_address(address).encode_v2(&mut bytes).unwrap();
    bytes
}

impl World {
    async fn socket(&self, from: &str, first: &[u8]) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::new(from.parse().unwrap(), 0)).unwrap();
        let mut socket = socket.connect(self.sip()).await.unwrap();
        socket.write_all(first).await.unwrap();
        socket
    }

    async fn through(&self, from: &str, first: &[u8]) -> std::io::Result<TlsStream<TcpStream>> {
        let client = self.client(Some(self.pki("pki", "partner")), &[&TLS13]);
        let socket = self.socket(from, first).await;
        let name = ServerName::try_from("sip.corp.example").unwrap();
        tokio::time::timeout(PATIENCE, client.connect(name, socket)).await.expect("an end of the handshake")
    }

    async fn links(&self, outcome: &str) -> u64 {
        let (_, metrics) = self.http("GET /metrics").await;
        let name = format!("fedgate_links_opened_total{{outcome=\"{outcome}\",protocol=\"sip\",side=\"outside\"}} ");
        metrics.lines().find_map(|line| line.strip_prefix(&name)).map_or(0, |count| count.parse().unwrap())
    }
}

/// The edge closes without a word.
async fn is_closed(mut socket: TcpStream, what: &str) {
    let mut byte = [0];
    let end = tokio::time::timeout(PATIENCE, socket.read(&mut byte)).await.unwrap_or_else(|_| panic!("{what}: closed"));
    assert!(matches!(end, Ok(0) | Err(_)), "{what}: {end:?}");
}

#[tokio::test]
async fn the_client_that_the_header_names_is_whom_policy_sees() {
    let world = world().await;
    for (i, client) in ["192.0.2.7:40001", "[::ffff:192.0.2.8]:40001"].into_iter().enumerate() {
        let mut stream = world.through("127.0.0.9", &header(client)).await.unwrap();
        let answer = ask(&mut stream, &message(&format!("in{i}"), "juliet@lync.example", "alice@corp.example")).await;
        assert!(answer.starts_with("SIP/2.0 503 "), "past `networks`, to a node that is not there: {answer}");
    }
    for (i, client) in ["198.51.100.7:40001", "[2001:db8::7]:40001"].into_iter().enumerate() {
        let mut stream = world.through("127.0.0.9", &header(client)).await.unwrap();
        let answer = ask(&mut stream, &message(&format!("out{i}"), "juliet@lync.example", "alice@corp.example")).await;
        assert!(answer.contains("not-allowed"), "{client}: {answer}");
    }
    let refused = |all: &[Value]| all.iter().filter(|decision| decision["reason"] == "not-allowed").count();
    let decisions = world.decisions_when(|all| refused(all) == 2).await;
    assert!(decisions[0]["because"].as_str().unwrap().contains("2001:db8::7"), "{decisions:?}");
    assert!(decisions[1]["because"].as_str().unwrap().contains("198.51.100.7"), "{decisions:?}");
}

#[tokio::test]
async fn a_balancer_must_send_a_header_and_nobody_else_may() {
    let world = world().await;
    let client = header("192.0.2.7:40001");
    assert!(world.through("127.0.0.9", b"").await.is_err(), "TLS at once, from a balancer");
    assert!(world.through("127.0.0.9", b"PROXY TCP4 192.0.2.7 192.0.2.1 40001 5061\r\n").await.is_err(), "version 1");
    assert!(world.through("127.0.0.1", &client).await.is_err(), "from who is no balancer");
    assert!(world.through("127.0.0.1", b"").await.is_ok(), "who is no balancer comes as he is");

    is_closed(world.socket("127.0.0.9", &[&client[..13], &[0, 0, 0]].concat()).await, "no address").await;
    is_closed(world.socket("127.0.0.9", &[&client[..14], &[0xff, 0xff]].concat()).await, "too long").await;
    let mut half = world.socket("127.0.0.9", &client[..20]).await;
    half.shutdown().await.unwrap();
    is_closed(half, "half of one").await;
}

#[tokio::test]
async fn a_header_must_come_in_time() {
    let world = World::start_with(|base| {
        change(base, "world.toml", "[inside]", "proxy_protocol_from = [\"127.0.0.0/8\"]\n[inside]");
        change(base, "world.toml", "[admin]", "[limits]\nhandshake = \"200ms\"\n[admin]");
    })
    .await;
    let socket = world.socket("127.0.0.1", &header("192.0.2.7:40001")[..15]).await;
    is_closed(socket, "the rest never comes").await;
    assert_eq!(world.links("failed").await, 1);
}

#[tokio::test]
async fn a_look_at_our_health_is_nothing_to_speak_of() {
    let world = world().await;
    let mut local = Vec::new();
    ProxyHeader::with_local().encode_v2(&mut local).unwrap();
    is_closed(world.socket("127.0.0.9", &local).await, "LOCAL").await;
    let mut bare = world.socket("127.0.0.9", b"").await;
    bare.shutdown().await.unwrap();
    is_closed(bare, "a bare connection").await;
    assert_eq!((world.links("failed").await, world.links("refused").await), (0, 0));
}

#[tokio::test]
async fn clients_are_limited_by_their_own_addresses() {
    let world = world().await;
    for i in 0..400 {
        drop(world.socket("127.0.0.9", &header(&format!("198.51.100.{}:40001", i % 250))).await);
    }
    let mut tries = 0;
    while world.links("limited").await == 0 {
        tries += 1;
        assert!(tries < 100, "one block of addresses is limited");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(
        world.through("127.0.0.9", &header("192.0.2.7:40001")).await.is_ok(),
        "the others behind the balancer are not"
    );
}

#[tokio::test]
async fn who_is_a_balancer_counts_from_the_next_reload() {
    let world = World::start().await;
    let client = header("192.0.2.7:40001");
    assert!(world.through("127.0.0.9", &client).await.is_err());
    change(world.dir.path(), "world.toml", "[inside]", "proxy_protocol_from = [\"127.0.0.9/32\"]\n[inside]");
    world.edge.reload().await.unwrap();
    assert!(world.through("127.0.0.9", &client).await.is_ok());
}
