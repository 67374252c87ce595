//! `[inside] issuer`: a node that insists on a certificate of the domain it talks to gets one.

use crate::partner::closed;
use crate::world::{PATIENCE, World, ask, change, message};
use crate::xmpp::{PARTNER, Stream, header, start_tls};
use fedgate::cli::certs::{self, Spec};
use fedgate::io::listen::Kind;
use fedgate::wire::certificate::Chain;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use std::path::Path;
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

const NODE: Spec<'static> = Spec { name: "node", common_name: "corp.example", dns: &["corp.example"] };

/// An edge whose node listens on this port, with an authority of its own inside.
async fn world(node: u16) -> World {
    World::start_with(|base| {
        certs::make(&base.join("inside"), &[NODE]).unwrap();
        change(base, "world.toml", "127.0.0.1:9\"\ndomains", &format!("127.0.0.1:{node}\"\ndomains"));
        let issuer = "issuer = { certificate = \"inside/ca.pem\", key = \"inside/ca.key\" }";
        change(base, "world.toml", "[inside]\n", &format!("[inside]\n{issuer}\ntls = \"required\"\n"));
    })
    .await
}

fn roots(base: &Path) -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(base.join("inside/ca.pem")).unwrap()).unwrap();
    Arc::new(roots)
}

#[tokio::test]
async fn a_node_that_verifies_us_finds_the_partners_domain() {
    let world = world(closed("127.0.0.1:0").await).await;
    // As Prosody with s2s_secure_auth: by the library's own verifier.
    let verifying = |sni: bool| {
        let builder = ClientConfig::builder_with_provider(fedgate::io::tls::provider());
        let builder = builder.with_protocol_versions(&[&TLS13]).unwrap();
        let mut config = builder.with_root_certificates(roots(world.dir.path())).with_no_client_auth();
        config.enable_sni = sni;
        TlsConnector::from(Arc::new(config))
    };
    for (domain, sni) in [("lync.example", true), ("lync.example", false), ("other.example", true)] {
        let mut plain = Stream::new(TcpStream::connect(world.edge.address(Kind::InsideXmpp).unwrap()).await.unwrap());
        plain.open("corp.example", domain).await;
        let mut stream = start_tls(plain, &verifying(sni), domain).await;
        let features = stream.open("corp.example", domain).await;
        assert!(features.contains("EXTERNAL"), "{features}");
    }
    // Who is no partner has no certificate here.
    let mut plain = Stream::new(TcpStream::connect(world.edge.address(Kind::InsideXmpp).unwrap()).await.unwrap());
    plain.open("corp.example", "lync.example").await;
    plain.say("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>").await;
    plain.hear("<proceed").await;
    plain.hear(">").await;
    let error = verifying(true).connect("unknown.example".try_into().unwrap(), plain.io).await.unwrap_err();
    assert!(error.to_string().contains("certificate"), "{error}");
    assert_ne!(PARTNER, "unknown.example");
}

#[tokio::test]
async fn on_our_streams_to_a_node_we_show_the_senders_domain() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let world = world(listener.local_addr().unwrap().port()).await;
    let base = world.dir.path().join("inside");
    let provider = fedgate::io::tls::provider();
    let verifier = WebPkiClientVerifier::builder_with_provider(roots(world.dir.path()), Arc::clone(&provider));
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(
            CertificateDer::pem_file_iter(base.join("node.pem")).unwrap().map(Result::unwrap).collect(),
            PrivateKeyDer::from_pem_file(base.join("node.key")).unwrap(),
        )
        .unwrap();
    let node = tokio::spawn(async move {
        let (socket, _) = listener.accept().await.unwrap();
        let mut plain = Stream::new(socket);
        plain.hear("to='corp.example'").await;
        let features = "<stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'><required/></starttls></stream:features>";
        let own = header("corp.example", "lync.example").replace(" version='1.0'>", " id='n1' version='1.0'>");
        plain.say(&format!("{own}{features}")).await;
        plain.hear("<starttls").await;
        plain.say("<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>").await;
        let stream = TlsAcceptor::from(Arc::new(config)).accept(plain.io).await.unwrap();
        let der = stream.get_ref().1.peer_certificates().unwrap().iter().map(|der| der.clone().into_owned()).collect();
        Chain::parse(der).unwrap().names
    });
    let client = world.client(Some(world.pki("pki", "partner")), &[&TLS13]);
    let mut partner = world.connect(&client, "sip.corp.example").await.unwrap();
    let request = message("1", "romeo@lync.example", "alice@corp.example");
    let asked = tokio::spawn(async move { ask(&mut partner, &request).await });
    let names = tokio::time::timeout(PATIENCE, node).await.unwrap().unwrap();
    assert_eq!((names.dns, names.xmpp), (vec!["lync.example".to_owned()], vec![]));
    asked.abort();
}
