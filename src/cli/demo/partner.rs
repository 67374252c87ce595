//! A small SIP partner, shaped like a Microsoft Access Edge: a mutual-TLS listener, a connection of its own to the edge, and no more of SIP
//! than the demo needs. Takes what its user wants to say, reports every message that it has written or read.

use super::dialog::{Dialog, contact};
use super::seen::{Peer, Seen, What};
use super::stage::Reports;
use crate::io::tls::provider;
use crate::wire::sip::compose::{Request, Response};
use crate::wire::sip::header::Name;
use crate::wire::sip::{Frame, Framer, Message, Method, Start};
use bytes::Bytes;
use rand::RngExt as _;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use std::collections::{BTreeMap, BTreeSet};
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
}

/// What its connections share.
struct Desk {
    who: Peer,
    /// Its edge's host name.
    host: String,
    port: u16,
    /// By Call-ID.
    dialogs: Mutex<Dialogs>,
    reports: Reports,
}

/// What its users and the edge's have with each other.
#[derive(Default)]
struct Dialogs {
    /// Begun by its users: a NOTIFY may come before the answer (RFC 6665 §4.4.1).
    begun: BTreeSet<String>,
    /// Those that there are, whoever began them.
    made: BTreeMap<String, Dialog>,
}

impl Partner {
    /// Listens on loopback with `NAME.pem` and `NAME.key` of the folder, trusting its `ca.pem`.
    pub async fn start(who: Peer, host: &str, folder: &Path, name: &str, reports: Reports) -> Result<Self, String> {
        let (server, client) = tls(folder, name).map_err(|error| format!("TLS of {host}: {error}"))?;
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(|error| format!("{host}: {error}"))?;
        let at = listener.local_addr().map_err(|error| format!("{host}: {error}"))?;
        let desk = Arc::new(Desk { who, host: host.to_owned(), port: at.port(), dialogs: Mutex::default(), reports });
        let acceptor = TlsAcceptor::from(server);
        tokio::spawn(accept(Arc::clone(&desk), listener, acceptor));
        Ok(Self { desk, connector: TlsConnector::from(client), at, link: None })
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
        // RFC 6665 §4.1.2.4: no Expires means the package's default.
        let mut headers = vec![self.record_route()];
        headers.extend(self.head(watcher, presentity, &call_id, "SUBSCRIBE"));
        headers.extend([
            ("Contact", contact(&format!("sip:{watcher}"))),
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
        self.desk.dialogs().begun.insert(call_id.clone());
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

    /// Sends the INVITE of an IM session, as it leaves a Lync front end through its edge; gives its Call-ID. Its 200 gets the ACK at once.
    pub fn invite(&self, from: &str, to: &str) -> String {
        let call_id = token();
        let mut headers = vec![self.record_route()];
        headers.extend(self.head(from, to, &call_id, "INVITE"));
        headers.extend([
            ("Contact", contact(&format!("sip:{from}"))),
            ("User-Agent", "UCCAPI/4.0.7577.0 OC/4.0.7577.0 (Microsoft Lync 2010)".to_owned()),
            ("Ms-Conversation-ID", token()),
            ("Roster-Manager", format!("sip:{from}")),
            ("EndPoints", format!("<sip:{from}>, <sip:{to}>")),
            ("Supported", "ms-dialog-route-set-update, timer, ms-sender, com.microsoft.rtc-multiparty".to_owned()),
            ("Allow", ALLOW.to_owned()),
            ("ms-keep-alive", "UAC;hop-hop=yes".to_owned()),
        ]);
        self.desk.dialogs().begun.insert(call_id.clone());
        let offer = session("null");
        self.send(&Request {
            method: Method::Invite,
            uri: &format!("sip:{to}"),
            headers: &headers,
            body: Some(("application/sdp", offer.as_bytes())),
        });
        call_id
    }

    /// Its user types in a session (COMPAT(lync): KeyboardActivity).
    pub fn types(&self, call_id: &str) {
        let body =
            "<?xml version=\"1.0\"?>\r\n<KeyboardActivity>\r\n  <status status=\"type\" />\r\n</KeyboardActivity>\r\n";
        self.send_within(call_id, Method::Info, &[], Some(("application/xml", body.as_bytes())));
    }

    /// Its user writes in a session.
    pub fn write(&self, call_id: &str, text: &str) {
        self.send_within(call_id, Method::Message, &[], Some(("text/plain; charset=UTF-8", text.as_bytes())));
    }

    /// Its user closes a session.
    pub fn leave(&self, call_id: &str) {
        self.send_within(call_id, Method::Bye, &[], None);
        self.desk.dialogs().made.remove(call_id);
    }

    /// Notifies whoever subscribed with this Call-ID: of the subscription's state, and of what the presentity shows.
    pub fn notify(&self, call_id: &str, state: &str, document: Option<&str>) {
        let headers = [("Event", "presence".to_owned()), ("Subscription-State", state.to_owned())];
        let body = document.map(|document| ("application/pidf+xml", document.as_bytes()));
        self.send_within(call_id, Method::Notify, &headers, body);
    }

    fn send_within(
        &self,
        call_id: &str,
        method: Method,
        headers: &[(&'static str, String)],
        body: Option<(&str, &[u8])>,
    ) {
        let bytes = self.desk.within(call_id, method, headers, body);
        if let (Some(link), Some(bytes)) = (&self.link, bytes) {
            let _ = link.send(bytes);
        }
    }

    fn record_route(&self) -> (&'static str, String) {
        let (host, port) = (&self.desk.host, self.desk.port);
        ("Record-Route", format!("<sip:{host}:{port};transport=tls;lr;ms-key-info=AAEAAWQ5>"))
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

    fn dialogs(&self) -> std::sync::MutexGuard<'_, Dialogs> {
        self.dialogs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request inside a dialog; `None`: there is no such dialog.
    fn within(
        &self,
        call_id: &str,
        method: Method,
        headers: &[(&'static str, String)],
        body: Option<(&str, &[u8])>,
    ) -> Option<Bytes> {
        let via = format!("SIP/2.0/TLS {}:{};branch=z9hG4bK{}", self.host, self.port, token());
        let mut dialogs = self.dialogs();
        Some(dialogs.made.get_mut(call_id)?.request(via, method, headers, body))
    }

    fn answer(&self, message: &Message) -> Option<Bytes> {
        if message.is_request() { self.answer_request(message) } else { self.acknowledge(message) }
    }

    /// What a response asks for: the ACK of a 2xx (RFC 3261 §13.2.2.4).
    fn acknowledge(&self, response: &Message) -> Option<Bytes> {
        let Start::Response { status: 200..=299, .. } = response.start() else { return None };
        if response.method() != Some(&Method::Invite) {
            return None;
        }
        let dialog = Dialog::begun(response)?;
        let call_id = dialog.call_id.clone();
        // The same 2xx may come again: it makes no other dialog.
        self.dialogs().made.entry(call_id.clone()).or_insert(dialog);
        self.within(&call_id, Method::Ack, &[], None)
    }

    fn answer_request(&self, request: &Message) -> Option<Bytes> {
        let tag = token();
        let call_id = request.call_id()?;
        let mut dialogs = self.dialogs();
        let is_inside = request.to_tag().is_some();
        let is_known = dialogs.made.contains_key(call_id) || dialogs.begun.contains(call_id);
        let mut headers = Vec::new();
        let mut body = None;
        let status = match request.method()? {
            Method::Ack | Method::Benotify => return None,
            Method::Options => 200,
            Method::Message if !is_inside => 200,
            method @ (Method::Invite | Method::Subscribe) if !is_inside => {
                let user = request.to()?.uri.text.to_owned();
                dialogs.made.insert(call_id.to_owned(), Dialog::joined(request, &tag)?);
                headers.push(("Contact", contact(&user)));
                if *method == Method::Invite {
                    headers.push(("Allow", ALLOW.to_owned()));
                    body = Some(session(&user));
                }
                200
            }
            _ if !is_known => 481,
            Method::Bye => {
                dialogs.made.remove(call_id);
                200
            }
            Method::Notify | Method::Message | Method::Info | Method::Subscribe => 200,
            _ => {
                headers.push(("Allow", ALLOW.to_owned()));
                405
            }
        };
        if request.method() == Some(&Method::Subscribe) && status == 200 {
            // RFC 6665 §4.2.1.1: what is granted.
            headers.push(("Expires", request.header(Name::Expires).unwrap_or("3600").to_owned()));
        }
        let body = body.as_ref().map(|body| ("application/sdp", body.as_bytes()));
        let to_tag = request.header(Name::To).map(|_| tag.as_str());
        Some(Response { request, status, reason: None, to_tag, record_route: true, headers: &headers, body }.print())
    }
}

/// What it takes.
const ALLOW: &str = "INVITE, BYE, ACK, INFO, MESSAGE, NOTIFY, SUBSCRIBE, OPTIONS";

/// An IM session as Microsoft's clients offer and accept it.
fn session(uri: &str) -> String {
    format!(
        "v=0\r\no=- 0 0 IN IP4 10.20.31.5\r\ns=session\r\nc=IN IP4 10.20.31.5\r\nt=0 0\r\nm=message 5060 sip {uri}\r\n\
         a=accept-types:text/plain multipart/alternative image/gif text/rtf text/html application/x-ms-ink \
         application/ms-imdn+xml text/x-msmsgsinvite\r\n"
    )
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

/// For tags, branches and Call-IDs.
fn token() -> String {
    format!("{:016x}", rand::rng().random::<u64>())
}
