//! An edge of corp.example with a Lync partner, on free ports, and clients that connect to it.

use fedgate::app::{self, Loaded, Running};
use fedgate::cli::certs::{self, Spec};
use fedgate::config::{self, Options};
use fedgate::gate::Time;
use fedgate::io::listen::Kind;
use rcgen::{CertificateParams, DnType, Issuer, KeyPair, KeyUsagePurpose};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme, SupportedProtocolVersion};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

pub const PATIENCE: Duration = Duration::from_secs(10);

pub struct World {
    pub dir: TempDir,
    pub edge: Running,
}

const PEERS: [Spec<'static>; 6] = [
    Spec { name: "edge", common_name: "sip.corp.example", dns: &["sip.corp.example", "corp.example"] },
    Spec { name: "second", common_name: "sip.second.example", dns: &["sip.second.example", "second.example"] },
    Spec { name: "partner", common_name: "sip.lync.example", dns: &["sip.lync.example"] },
    Spec {
        name: "both",
        common_name: "sip.corp.example",
        dns: &["sip.corp.example", "corp.example", "new.corp.example"],
    },
    Spec { name: "xmpp", common_name: "xmpp.example", dns: &["xmpp.example"] },
    Spec { name: "other", common_name: "other.example", dns: &["other.example"] },
];

const CONFIG: &str = r#"
[edge]
policies = "policies"
[[identity]]
hostname = "sip.corp.example"
domains = ["corp.example"]
certificate = "pki/edge.pem"
key = "pki/edge.key"
[[identity]]
hostname = "sip.second.example"
domains = ["second.example"]
certificate = "pki/second.pem"
key = "pki/second.key"
[tls]
trust = ["pki/ca.pem"]
[outside]
sip = ["127.0.0.2:1"]
xmpp = []
[inside]
sip = []
xmpp = ["127.0.0.3:1"]
networks = ["127.0.0.0/8"]
[[node]]
name = "imp-1"
protocol = "xmpp"
address = "127.0.0.1:9"
domains = ["corp.example", "second.example"]
[dns]
servers = ["127.0.0.1:9"]
[state]
engine = "memory"
secrets = ["0123456789abcdef0123456789abcdef"]
[admin]
listen = "127.0.0.1:1"
token = "sesame"
socket = "admin.sock"
[log]
audit = "audit.jsonl"
"#;

const POLICY: &str = r#"
[[partner]]
domain = "lync.example"
protocol = "sip"
profile = "lync"
chat = "page"
[[partner]]
domain = "other.example"
protocol = "sip"
chat = "page"
"#;

impl World {
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// After `prepare` has changed what is in the folder.
    pub async fn start_with(prepare: impl FnOnce(&Path)) -> Self {
        let dir = folder();
        prepare(dir.path());
        let edge = start_in(dir.path()).await.unwrap();
        Self { dir, edge }
    }

    pub fn sip(&self) -> SocketAddr {
        self.edge.address(Kind::OutsideSip).unwrap()
    }

    pub fn pki(&self, folder: &str, name: &str) -> (PathBuf, PathBuf) {
        let base = self.dir.path().join(folder);
        (base.join(format!("{name}.pem")), base.join(format!("{name}.key")))
    }

    /// A client that shows this certificate.
    pub fn client(
        &self,
        shows: Option<(PathBuf, PathBuf)>,
        versions: &[&'static SupportedProtocolVersion],
    ) -> TlsConnector {
        Self::client_showing(shows, versions)
    }

    /// The same, of no world.
    pub fn client_showing(
        shows: Option<(PathBuf, PathBuf)>,
        versions: &[&'static SupportedProtocolVersion],
    ) -> TlsConnector {
        let builder = ClientConfig::builder_with_provider(fedgate::io::tls::provider())
            .with_protocol_versions(versions)
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyServer));
        let config = match shows {
            Some((certificate, key)) => builder
                .with_client_auth_cert(
                    CertificateDer::pem_file_iter(certificate).unwrap().map(Result::unwrap).collect(),
                    PrivateKeyDer::from_pem_file(key).unwrap(),
                )
                .unwrap(),
            None => builder.with_no_client_auth(),
        };
        TlsConnector::from(Arc::new(config))
    }

    pub async fn connect(&self, client: &TlsConnector, sni: &'static str) -> std::io::Result<TlsStream<TcpStream>> {
        let socket = TcpStream::connect(self.sip()).await.unwrap();
        client.connect(ServerName::try_from(sni).unwrap(), socket).await
    }
}

/// The authority of a folder of certificates, to sign more.
pub fn authority(base: &Path, folder: &str) -> Issuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "fedgate example CA");
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = std::fs::read_to_string(base.join(folder).join("ca.key")).unwrap();
    Issuer::new(params, KeyPair::from_pem(&key).unwrap())
}

/// Puts `after` in the place of `before` in a file of the folder: `world.toml`, `policies/10.toml`.
pub fn change(base: &Path, file: &str, before: &str, after: &str) {
    let path = base.join(file);
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains(before), "{file} has no {before}");
    std::fs::write(path, text.replacen(before, after, 1)).unwrap();
}

/// Certificates, policies and the configuration of [`start_in`]; for the program, [`written`] makes another.
pub fn folder() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    certs::make(&dir.path().join("pki"), &PEERS).unwrap();
    certs::make(&dir.path().join("foreign"), &[PEERS[2]]).unwrap();
    std::fs::create_dir(dir.path().join("policies")).unwrap();
    std::fs::write(dir.path().join("policies/10.toml"), POLICY).unwrap();
    std::fs::write(dir.path().join("world.toml"), CONFIG).unwrap();
    dir
}

/// An edge of such a folder, in this process.
pub async fn start_in(base: &Path) -> Result<Running, String> {
    let base = base.to_owned();
    let loaded = read(&base).unwrap();
    let load: app::Load = Arc::new(move || read(&base));
    app::start(loaded, Some(load)).await
}

/// Writes the configuration for the program, with these lines for `[admin]`.
pub fn written(base: &Path, admin: &str) -> PathBuf {
    let (before, after) = CONFIG.split_once("listen = \"127.0.0.1:1\"").unwrap();
    let (_, after) = after.split_once("[log]").unwrap();
    let text = format!("{before}{admin}\n[log]{after}").replace("127.0.0.2:1\"", "127.0.0.2:0\"");
    let path = base.join("fedgate.toml");
    std::fs::write(&path, text.replace("127.0.0.3:1\"", "127.0.0.3:0\"")).unwrap();
    path
}

fn read(base: &Path) -> Result<Loaded, String> {
    let now = Time::default() + SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let report = config::load(&base.join("world.toml"), Options::check(now));
    let read =
        report.into_result().map_err(|problems| problems.iter().map(|p| format!("{p}\n")).collect::<String>())?;
    let mut loaded = Loaded::new(read, Vec::new());
    // Free ports are what only a test wants: the configuration has none.
    let listeners = &mut loaded.io.listeners;
    let inside =
        listeners.inside_xmpp.iter_mut().chain(&mut listeners.inside_sip_tcp).chain(&mut listeners.inside_sip_tls);
    let over_xmpp = listeners.outside_xmpp.iter_mut().chain(&mut listeners.outside_xmpps);
    for at in listeners.outside_sip.iter_mut().chain(inside).chain(over_xmpp) {
        at.set_port(0);
    }
    if let Some(listen) = &mut loaded.io.admin.listen {
        listen.set_port(0);
    }
    Ok(loaded)
}

/// A MESSAGE from an address of a partner.
pub fn message(branch: &str, from: &str, to: &str) -> String {
    format!(
        "MESSAGE sip:{to} SIP/2.0\r\nVia: SIP/2.0/TLS sip.lync.example:5061;branch=z9hG4bK{branch}\r\n\
         Max-Forwards: 70\r\nFrom: <sip:{from}>;tag=a1\r\nTo: <sip:{to}>\r\nCall-ID: {branch}@lync.example\r\n\
         CSeq: 1 MESSAGE\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nHello"
    )
}

/// Sends a request and reads the head of its final answer.
pub async fn ask(stream: &mut TlsStream<TcpStream>, request: &str) -> String {
    stream.write_all(request.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    let mut text = String::new();
    let mut buffer = [0; 4096];
    loop {
        let n =
            tokio::time::timeout(Duration::from_secs(40), stream.read(&mut buffer)).await.expect("an answer").unwrap();
        assert_ne!(n, 0, "closed after {text:?}");
        text.push_str(std::str::from_utf8(&buffer[..n]).unwrap());
        while text.starts_with("SIP/2.0 1") {
            match text.split_once("\r\n\r\n") {
                Some((_, rest)) => text = rest.to_owned(),
                None => break,
            }
        }
        if text.contains("\r\n\r\n") && !text.starts_with("SIP/2.0 1") {
            return text;
        }
    }
}

/// Shows itself to whoever; the server's certificate is for the test to look at.
#[derive(Debug)]
struct AnyServer;

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }
    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        fedgate::io::tls::provider().signature_verification_algorithms.supported_schemes()
    }
}
