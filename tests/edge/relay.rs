//! Stanzas between a partner's XMPP server and a node's, across the whole edge: each end is met on streams of its own, over real sockets.

use crate::partner::closed;
use crate::world::{PATIENCE, World, change};
use crate::xmpp::{ENTRY, PARTNER, Stream, header};
use fedgate::io::listen::Kind;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::version::TLS13;
use rustls::{RootCertStore, ServerConfig};
use std::path::Path;
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;

const OURS: &str = "corp.example";
const BEGIN_TLS: &str = "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'><required/></starttls>";
const EXTERNAL: &str =
    "<mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>EXTERNAL</mechanism></mechanisms>";

/// A header that answers, and these features.
fn answer(from: &str, to: &str, features: &str) -> String {
    let header = header(from, to).replace(" version='1.0'>", " id='s1' version='1.0'>");
    format!("{header}<stream:features>{features}</stream:features>")
}

/// What the partner's server shows; it trusts `pki/ca.pem`.
fn partners_tls(base: &Path) -> ServerConfig {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(base.join("pki/ca.pem")).unwrap()).unwrap();
    let provider = fedgate::io::tls::provider();
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(
            CertificateDer::pem_file_iter(base.join("pki/xmpp.pem")).unwrap().map(Result::unwrap).collect(),
            PrivateKeyDer::from_pem_file(base.join("pki/xmpp.key")).unwrap(),
        )
        .unwrap();
    config.alpn_protocols = vec![b"xmpp-server".to_vec()];
    config
}

/// Takes a stream of the edge as the partner's server, authenticates it, and gives what it hears up to this.
async fn partner_hears(listener: TcpListener, tls: ServerConfig, is_direct: bool, until: &'static str) -> String {
    let (socket, _) = listener.accept().await.unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let mut stream = if is_direct {
        Stream::new(acceptor.accept(socket).await.unwrap())
    } else {
        let mut plain = Stream::new(socket);
        plain.hear("version='1.0'>").await;
        plain.say(&answer(PARTNER, OURS, BEGIN_TLS)).await;
        plain.hear("<starttls").await;
        plain.hear(">").await;
        plain.say("<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>").await;
        Stream::new(acceptor.accept(plain.io).await.unwrap())
    };
    assert_eq!(stream.io.get_ref().1.server_name(), Some(PARTNER));
    let alpn = stream.io.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
    assert_eq!(alpn, is_direct.then(|| b"xmpp-server".to_vec()), "XEP-0368 §3");
    stream.hear("version='1.0'>").await;
    stream.say(&answer(PARTNER, OURS, EXTERNAL)).await;
    stream.hear("</auth>").await;
    stream.say("<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>").await;
    stream.hear("version='1.0'>").await;
    stream.say(&answer(PARTNER, OURS, "")).await;
    stream.hear(until).await
}

/// The node of an edge, and where partners' servers are.
async fn world(node: u16, records: &str) -> World {
    World::start_with(|base| {
        change(base, "world.toml", "127.0.0.1:9\"\ndomains", &format!("127.0.0.1:{node}\"\ndomains"));
        change(base, "world.toml", "[inside]\n", "[inside]\ntls = \"off\"\n");
        change(base, "world.toml", "xmpp = []", "xmpp = [\"127.0.0.2:2\"]\nxmpps = [\"127.0.0.2:3\"]");
        change(base, "world.toml", "[state]", &format!("[dns.records]\n{records}\n[state]"));
        std::fs::write(base.join("policies/20.toml"), ENTRY).unwrap();
    })
    .await
}

/// A stream of the node's own, on which it may send to the partner.
async fn of_the_node(world: &World) -> Stream<TcpStream> {
    let mut node = Stream::new(TcpStream::connect(world.edge.address(Kind::InsideXmpp).unwrap()).await.unwrap());
    node.open(OURS, PARTNER).await;
    node.say(&format!("<db:result from='{OURS}' to='{PARTNER}'>known by its network</db:result>")).await;
    let verdict = node.hear("/>").await;
    assert!(verdict.contains("type='valid'") || verdict.contains("type=\"valid\""), "{verdict}");
    node
}

#[tokio::test]
async fn what_a_partner_sends_reaches_the_node() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let world = world(listener.local_addr().unwrap().port(), "").await;
    let (heard, at_the_node) = oneshot::channel();
    tokio::spawn(async move {
        let (socket, _) = listener.accept().await.unwrap();
        let mut stream = Stream::new(socket);
        stream.hear("version='1.0'>").await;
        stream.say(&answer(OURS, PARTNER, "<dialback xmlns='urn:xmpp:features:dialback'/>")).await;
        stream.hear("</db:result>").await;
        stream.say(&format!("<db:result from='{OURS}' to='{PARTNER}' type='valid'/>")).await;
        let _ = heard.send(stream.hear("</message>").await);
        std::future::pending::<()>().await;
    });
    let mut partner = world.good_partner().await;
    let message = "<message from='romeo@xmpp.example/orchard' to='alice@corp.example' id='m1' type='chat'><body>Hi</body></message>";
    partner.say(message).await;
    let words = tokio::time::timeout(PATIENCE, at_the_node).await.unwrap().unwrap();
    assert!(words.ends_with(message), "byte for byte: {words}");
}

#[tokio::test]
async fn what_a_node_sends_reaches_the_partner_wherever_its_server_is() {
    for is_direct in [false, true] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (good, closed) = (listener.local_addr().unwrap().port(), closed("127.0.0.1:0").await);
        let [first, second] =
            if is_direct { ["_xmpp-server", "_xmpps-server"] } else { ["_xmpps-server", "_xmpp-server"] };
        let world = world(
            9,
            &format!(
                "\"{first}._tcp.xmpp.example\" = [{{ target = \"a.xmpp.example\", port = {closed}, priority = 1 }}]\n\
                 \"{second}._tcp.xmpp.example\" = [{{ target = \"b.xmpp.example\", port = {good}, priority = 2 }}]\n\
                 \"a.xmpp.example\" = [\"127.0.0.1\"]\n\"b.xmpp.example\" = [\"127.0.0.1\"]\n"
            ),
        )
        .await;
        let tls = partners_tls(world.dir.path());
        let partner = tokio::spawn(partner_hears(listener, tls, is_direct, "</message>"));
        let mut node = of_the_node(&world).await;
        let message = "<message from='alice@corp.example/desk' to='romeo@xmpp.example' id='m2' type='chat'><body>Ho</body></message>";
        node.say(message).await;
        let words = tokio::time::timeout(PATIENCE, partner).await.unwrap().unwrap();
        assert!(words.ends_with(message), "byte for byte: {words}");
        world.measures("fedgate_links_opened_total{outcome=\"opened\",protocol=\"xmpp\",side=\"outside\"} 1").await;
    }
}

#[tokio::test]
async fn who_writes_to_a_partner_that_is_not_there_hears_so() {
    let closed = closed("127.0.0.1:0").await;
    let records = format!(
        "\"_xmpp-server._tcp.xmpp.example\" = [{{ target = \"a.xmpp.example\", port = {closed} }}]\n\"a.xmpp.example\" = [\"127.0.0.1\"]\n\
         \"_xmpps-server._tcp.xmpp.example\" = [{{ target = \".\", port = 1 }}]\n"
    );
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let world = world(listener.local_addr().unwrap().port(), &records).await;
    let bounced = tokio::spawn(async move {
        let (socket, _) = listener.accept().await.unwrap();
        let mut stream = Stream::new(socket);
        stream.hear("version='1.0'>").await;
        stream.say(&answer(OURS, PARTNER, "<dialback xmlns='urn:xmpp:features:dialback'/>")).await;
        stream.hear("</db:result>").await;
        stream.say(&format!("<db:result from='{OURS}' to='{PARTNER}' type='valid'/>")).await;
        stream.hear("</message>").await
    });
    let mut node = of_the_node(&world).await;
    node.say(
        "<message from='alice@corp.example/desk' to='romeo@xmpp.example' id='m3' type='chat'><body>Ho</body></message>",
    )
    .await;
    let words = tokio::time::timeout(PATIENCE, bounced).await.unwrap().unwrap();
    assert!(words.contains("m3") && words.contains("remote-server-"), "{words}");
    world.measures("fedgate_links_opened_total{outcome=\"failed\",protocol=\"xmpp\",side=\"outside\"} 1").await;
}
