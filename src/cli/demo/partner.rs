//! A small SIP partner, shaped like a Microsoft Access Edge: a mutual-TLS listener, a connection of its own to the edge, and no more of SIP
//! than the demo needs. Takes what its user wants to say, reports every message that it has written or read.

use super::seen::{Peer, Seen, What};
use super::stage::Reports;
use crate::io::tls::provider;
use crate::wire::sip::compose::{Request, Response};
use crate::wire::sip::dialog::contact_uri;
use crate::wire::sip::header::Name;
use crate::wire::sip::{Frame, Framer, Message, Method};
use bytes::Bytes;
use rand::RngExt as _;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

/// A message's head, and its body.
const HEAD_BYTES: usize = 65_536;
const BODY_BYTES: usize = 65_536;

/// The partner.
pub struct Partner {
    desk: Arc<Desk>,
    connector: TlsConnector,
    /// Where it listens.
    pub at: SocketAddr,
    link: Option<mpsc::UnboundedSender<Bytes>>,
    /// CSeq of its NOTIFYs.
    notified: u32,
}

/// What its connections share.
struct Desk {
    who: Peer,
    /// Its edge's host name.
    host: String,
    port: u16,
    /// Call-IDs of the dialogs that its users have begun.
    dialogs: Mutex<BTreeSet<String>>,
    reports: Reports,
}

impl Partner {
    /// Listens on loopback with `NAME.pem` and `NAME.key` of the folder, trusting its `ca.pem`.
    pub async fn start(who: Peer, host: &str, folder: &Path, name: &str, reports: Reports) -> Result<Self, String> {
        let (server, client) = tls(folder, name).map_err(|error| format!("TLS of {host}: {error}"))?;
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(|error| format!("{host}: {error}"))?;
        let at = listener.local_addr().map_err(|error| format!("{host}: {error}"))?;
        let desk = Arc::new(Desk {
            who,
            host: host.to_owned(),
            port: at.port(),
            dialogs: Mutex::new(BTreeSet::new()),
            reports,
        });
        let acceptor = TlsAcceptor::from(server);
        tokio::spawn(accept(Arc::clone(&desk), listener, acceptor));
        Ok(Self { desk, connector: TlsConnector::from(client), at, link: None, notified: 0 })
    }

    /// Connects to the edge, which must prove to be `name`.
    pub async fn dial(&mut self, edge: SocketAddr, name: &str) -> Result<(), String> {
        let words = |error: &dyn std::fmt::Display| format!("{} cannot connect to the edge: {error}", self.desk.host);
        let socket = TcpStream::connect(edge).await.map_err(|error| words(&error))?;
        let server = ServerName::try_from(name.to_owned()).map_err(|error| words(&error))?;
        let stream = self.connector.connect(server, socket).await.map_err(|error| words(&error))?;
        let version = stream.get_ref().1.protocol_version().map(|version| format!("{version:?}")).unwrap_or_default();
        let shown =
            format!("{} connects with its certificate; {version}, the edge proves to be {name}", self.desk.host);
        let (link, orders) = mpsc::unbounded_channel();
        let desk = Arc::clone(&self.desk);
        desk.report(true, What::Link(shown));
        tokio::spawn(desk.serve(stream.into(), orders));
        self.link = Some(link);
        Ok(())
    }

    /// Sends the SUBSCRIBE of a watcher, as it leaves a Lync front end through its edge; gives its Call-ID.
    pub fn subscribe(&self, watcher: &str, presentity: &str) -> String {
        let call_id = token();
        let (host, port) = (&self.desk.host, self.desk.port);
        // RFC 6665 §4.1.2.4: no Expires means the package's default.
        let mut headers = vec![("Record-Route", format!("<sip:{host}:{port};transport=tls;lr;ms-key-info=AAEAAWQ5>"))];
        headers.extend(self.head(watcher, presentity, &call_id, "SUBSCRIBE"));
        headers.extend([
            ("Contact", format!("<sip:{watcher};opaque=user:epid:Zk3dSampleGruuValue0AA;gruu>")),
            ("User-Agent", "UCCAPI/4.0.7577.0 OC/4.0.7577.0 (Microsoft Lync 2010)".to_owned()),
            ("Event", "presence".to_owned()),
            (
                "Accept",
                "application/msrtc-event-categories+xml, application/xpidf+xml, text/xml+msrtc.pidf, \
                 application/pidf+xml, application/rlmi+xml, multipart/related"
                    .to_owned(),
            ),
            ("Supported", "com.microsoft.autoextend, ms-benotify, ms-piggyback-first-notify".to_owned()),
            ("Proxy-Require", "ms-benotify".to_owned()),
        ]);
        let categories = format!(
            "<batchSub xmlns=\"http://schemas.microsoft.com/2006/01/sip/batch-subscribe\" uri=\"sip:{watcher}\" name=\"\">\
             <action name=\"subscribe\" id=\"51820077\"><adhocList><resource uri=\"sip:{presentity}\"/></adhocList>\
             <categoryList xmlns=\"http://schemas.microsoft.com/2006/09/sip/categorylist\"><category name=\"note\"/>\
             <category name=\"state\"/></categoryList></action></batchSub>"
        );
        self.desk.dialogs.lock().unwrap_or_else(PoisonError::into_inner).insert(call_id.clone());
        self.send(&Request {
            method: Method::Subscribe,
            uri: &format!("sip:{presentity}"),
            headers: &headers,
            body: Some(("application/msrtc-adrl-categorylist+xml", categories.as_bytes())),
        });
        call_id
    }

    /// Sends a MESSAGE; gives its Call-ID.
    pub fn message(&self, from: &str, to: &str, text: &str) -> String {
        let call_id = token();
        self.send(&Request {
            method: Method::Message,
            uri: &format!("sip:{to}"),
            headers: &self.head(from, to, &call_id, "MESSAGE"),
            body: Some(("text/plain; charset=UTF-8", text.as_bytes())),
        });
        call_id
    }

    /// Sends a NOTIFY in the dialog that a SUBSCRIBE of the edge's has made (RFC 6665 §4.2.2).
    pub fn notify(&mut self, subscribe: &Message, state: &str, document: Option<&str>) {
        let header = |name| subscribe.header(name).unwrap_or_default().to_owned();
        let (host, port) = (&self.desk.host, self.desk.port);
        let call_id = header(Name::CallId);
        self.notified += 1;
        let headers = [
            ("Via", format!("SIP/2.0/TLS {host}:{port};branch=z9hG4bK{}", token())),
            ("Max-Forwards", "68".to_owned()),
            ("From", format!("{};tag={}", header(Name::To), tag_of(&call_id))),
            ("To", header(Name::From)),
            ("Call-ID", call_id),
            ("CSeq", format!("{} NOTIFY", self.notified)),
            ("Contact", self.desk.contact()),
            ("Event", "presence".to_owned()),
            ("Subscription-State", state.to_owned()),
        ];
        let uri = contact_uri(subscribe).map(|contact| contact.text.to_owned()).unwrap_or_default();
        let body = document.map(|document| ("application/pidf+xml", document.as_bytes()));
        self.send(&Request { method: Method::Notify, uri: &uri, headers: &headers, body });
    }

    /// What RFC 3261 §8.1.1 demands of a request outside of a dialog.
    fn head(&self, from: &str, to: &str, call_id: &str, method: &str) -> Vec<(&'static str, String)> {
        let (host, port) = (&self.desk.host, self.desk.port);
        vec![
            ("Via", format!("SIP/2.0/TLS {host}:{port};branch=z9hG4bK{}", token())),
            ("Max-Forwards", "67".to_owned()),
            ("From", format!("<sip:{from}>;tag={};epid={}", token(), token())),
            ("To", format!("<sip:{to}>")),
            ("Call-ID", call_id.to_owned()),
            ("CSeq", format!("1 {method}")),
        ]
    }

    /// Without a connection nothing is sent, and nobody will have seen it.
    fn send(&self, request: &Request<'_>) {
        if let Some(link) = &self.link {
            let _ = link.send(request.print());
        }
    }
}

impl Desk {
    fn report(&self, sent: bool, what: What) {
        let _ = self.reports.send(Seen { by: self.who, sent, what });
    }

    /// Writes what it is given, reads and answers what comes, until either end closes.
    async fn serve(self: Arc<Self>, stream: TlsStream<TcpStream>, mut orders: mpsc::UnboundedReceiver<Bytes>) {
        let mut framer = Framer::new(HEAD_BYTES, BODY_BYTES);
        let (mut read, mut write) = tokio::io::split(stream);
        loop {
            let outgoing = tokio::select! {
                order = orders.recv() => match order {
                    Some(bytes) => vec![bytes],
                    None => break,
                },
                read = read.read_buf(framer.buffer()) => match read {
                    Ok(1..) => self.take(&mut framer),
                    Ok(0) | Err(_) => break,
                },
            };
            for bytes in outgoing {
                if write.write_all(&bytes).await.is_err() || write.flush().await.is_err() {
                    return;
                }
                // Told only now that it is written.
                if let Ok(message) = Message::parse(bytes) {
                    self.report(true, What::Sip(message));
                }
            }
        }
        let _ = write.shutdown().await;
    }

    /// Reports every whole message; gives the answers.
    fn take(&self, framer: &mut Framer) -> Vec<Bytes> {
        let mut answers = Vec::new();
        while let Some(frame) = framer.next() {
            match frame {
                Frame::Message(message) => {
                    self.report(false, What::Sip(message.clone()));
                    answers.extend(self.answer(&message));
                }
                // RFC 5626 §4.4.1.
                Frame::Ping => answers.push(Bytes::from_static(b"\r\n")),
                Frame::Bad { fault, .. } => self.report(false, What::Link(format!("what is no SIP: {fault}"))),
            }
        }
        answers
    }

    fn contact(&self) -> String {
        format!("<sip:{}:{};transport=tls>", self.host, self.port)
    }

    fn answer(&self, request: &Message) -> Option<Bytes> {
        if !request.is_request() {
            return None;
        }
        let known = |call_id| self.dialogs.lock().unwrap_or_else(PoisonError::into_inner).contains(call_id);
        let status = match request.method()? {
            Method::Ack | Method::Benotify => return None,
            Method::Notify if !request.call_id().is_some_and(known) => 481,
            Method::Notify | Method::Message | Method::Options | Method::Subscribe => 200,
            _ => 405,
        };
        let is_subscribe = request.method() == Some(&Method::Subscribe);
        let allow = [("Allow", "MESSAGE, NOTIFY, OPTIONS, SUBSCRIBE".to_owned())];
        let expires = request.header(Name::Expires).unwrap_or("3600").to_owned();
        let granted = [("Expires", expires), ("Contact", self.contact())];
        let headers: &[_] = match status {
            405 => &allow,
            _ if is_subscribe => &granted,
            _ => &[],
        };
        let tag = if is_subscribe { tag_of(request.call_id()?) } else { token() };
        let to_tag = request.header(Name::To).map(|_| tag.as_str());
        let answer = Response { request, status, reason: None, to_tag, record_route: false, headers, body: None };
        Some(answer.print())
    }
}

/// Links from the edge.
async fn accept(desk: Arc<Desk>, listener: TcpListener, acceptor: TlsAcceptor) {
    while let Ok((socket, _)) = listener.accept().await {
        let (desk, acceptor) = (Arc::clone(&desk), acceptor.clone());
        tokio::spawn(async move {
            match acceptor.accept(socket).await {
                Ok(stream) => {
                    // On a link of the edge's there is nothing but answers to write.
                    let (_keep, orders) = mpsc::unbounded_channel();
                    desk.serve(stream.into(), orders).await;
                }
                Err(error) => desk.report(false, What::Link(format!("a connection that failed: {error}"))),
            }
        });
    }
}

type Configs = (Arc<ServerConfig>, Arc<ClientConfig>);

fn tls(folder: &Path, name: &str) -> Result<Configs, Box<dyn std::error::Error>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(folder.join("ca.pem"))?)?;
    let roots = Arc::new(roots);
    let chain = vec![CertificateDer::from_pem_file(folder.join(format!("{name}.pem")))?];
    let key = || PrivateKeyDer::from_pem_file(folder.join(format!("{name}.key")));
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), provider()).build()?;
    let server = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain.clone(), key()?)?;
    let client = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key()?)?;
    Ok((Arc::new(server), Arc::new(client)))
}

/// Our tag in a dialog that the edge begins: the answer and the NOTIFYs must have the same.
fn tag_of(call_id: &str) -> String {
    call_id.chars().filter(char::is_ascii_alphanumeric).take(16).collect()
}

/// For tags, branches and Call-IDs.
fn token() -> String {
    format!("{:016x}", rand::rng().random::<u64>())
}
