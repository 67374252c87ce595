//! The partner's connections: those of the edge, and its own.

use super::super::edge::Net;
use super::Desk;
use bytes::{Bytes, BytesMut};
use fedgate::io::tls::provider;
use fedgate::wire::sip::{Frame, Framer};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

/// Between tries to reach the edge.
const AGAIN: Duration = Duration::from_millis(20);
/// Requests written at once.
const BATCH: usize = 256;

/// Connections of the edge.
pub(super) async fn accept(desk: Arc<Desk>, listener: TcpListener, acceptor: TlsAcceptor) {
    while let Ok((socket, _)) = listener.accept().await {
        let (desk, acceptor) = (Arc::clone(&desk), acceptor.clone());
        let generation = desk.book.generation();
        let _ = socket.set_nodelay(true);
        tokio::spawn(async move {
            if let Ok(stream) = acceptor.accept(socket).await {
                let (nobody, mut none) = mpsc::unbounded_channel();
                serve(&desk, generation, stream.into(), &mut none).await;
                drop(nobody);
                desk.edge_cut(generation);
            }
        });
    }
}

/// Its own connection, made again whenever it ends.
pub(super) async fn dial(
    desk: Arc<Desk>,
    net: Net,
    connector: TlsConnector,
    mut orders: mpsc::UnboundedReceiver<(Option<u64>, Bytes)>,
) {
    let name = ServerName::try_from("sip.corp.example").expect("a name");
    loop {
        let connect = async {
            let socket = TcpStream::connect(net.outside()).await.ok()?;
            let _ = socket.set_nodelay(true);
            connector.connect(name.clone(), socket).await.ok()
        };
        // A process that is just being killed may take the connection and never answer.
        if let Ok(Some(stream)) = tokio::time::timeout(Duration::from_secs(10), connect).await {
            let generation = desk.book.generation();
            serve(&desk, generation, stream.into(), &mut orders).await;
            desk.cut(generation);
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Writes what it is given, reads and answers what comes, until either end closes.
async fn serve(
    desk: &Desk,
    generation: u32,
    stream: TlsStream<TcpStream>,
    orders: &mut mpsc::UnboundedReceiver<(Option<u64>, Bytes)>,
) {
    let mut framer = Framer::new(65_536, 65_536);
    let (mut read, mut write) = tokio::io::split(stream);
    let mut out = BytesMut::new();
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        tokio::select! {
            n = orders.recv_many(&mut batch, BATCH) => {
                if n == 0 {
                    break;
                }
                let mut state = desk.state();
                for (branch, bytes) in batch.drain(..) {
                    if let Some(open) = branch.and_then(|branch| state.open.get_mut(&branch)) {
                        open.written = Some(generation);
                    }
                    out.extend_from_slice(&bytes);
                }
            }
            got = read.read_buf(framer.buffer()) => {
                if !matches!(got, Ok(1..)) {
                    break;
                }
                while let Some(frame) = framer.next() {
                    match frame {
                        Frame::Message(message) => desk.take(generation, &message, &mut out),
                        // RFC 5626 §4.4.1.
                        Frame::Ping => out.extend_from_slice(b"\r\n"),
                        Frame::Bad { fault, .. } => desk.book.complain(|| format!("what is no SIP: {fault}")),
                    }
                }
            }
        }
        if !out.is_empty() && (write.write_all(&out.split()).await.is_err() || write.flush().await.is_err()) {
            // What the edge said before it died still counts.
            while let Ok(1..) = read.read_buf(framer.buffer()).await {}
            while let Some(frame) = framer.next() {
                if let Frame::Message(message) = frame {
                    desk.take(generation, &message, &mut out);
                }
            }
            break;
        }
    }
}

pub(super) fn tls(certs: &Path) -> (Arc<ServerConfig>, Arc<ClientConfig>) {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(certs.join("ca.pem")).expect("an authority")).expect("an authority");
    let roots = Arc::new(roots);
    let chain = vec![CertificateDer::from_pem_file(certs.join("partner.pem")).expect("a certificate")];
    let key = || PrivateKeyDer::from_pem_file(certs.join("partner.key")).expect("a key");
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), provider()).build().expect("a verifier");
    let server = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain.clone(), key())
        .expect("a certificate");
    let client = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key())
        .expect("a certificate");
    (Arc::new(server), Arc::new(client))
}
