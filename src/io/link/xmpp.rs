//! An XMPP connection: drives the pure [`XmppLink`] with a socket, TLS in mid-stream, timers, and verify connections of its own.

use super::conduit::{Conduit, Progress, Stream};
use crate::gate::link::{LinkInput, LinkOutput, Verdict, VerifyRequest, XmppLink};
use crate::gate::partner::{LinkId, Protocol, Side};
use crate::gate::{HopId, Incoming, Input, Proof, Proven};
use crate::io::dial;
use crate::io::edge::{Edge, Stopped};
use crate::io::orders::{Order, Orders};
use crate::io::places::{Place, Said, lost};
use crate::io::telemetry::Count;
use crate::wire::address::Domain;
use crate::wire::certificate::Chain;
use rustls::ClientConfig;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// Verify connections that one stream may have under way; a further key is answered with an error.
const VERIFYING: usize = 8;
/// After this, negotiation is over whatever the machine thinks: its own deadline comes first.
const GRACE: Duration = Duration::from_secs(10);

/// How a stream began. `direct`: the peer's chain, when TLS came before the stream (XEP-0368).
pub enum Start {
    /// The peer connected to us.
    Accepted {
        /// One of the places for unproven connections.
        permit: Option<Place>,
        /// See above.
        direct: Option<Option<Arc<Chain>>>,
    },
    /// We connected for the gate.
    Opened {
        /// The gate's name for it.
        hop: HopId,
        /// How we do STARTTLS; `None`: as a component, there is none.
        tls: Option<ClientTls>,
        /// See above.
        direct: Option<Option<Arc<Chain>>>,
        /// Hears once whether it came to a proof. When nobody listens any more, it is ended in the place of the first proof.
        said: oneshot::Sender<Result<(), Unproven>>,
    },
    /// We connected to have a key verified.
    Verify {
        /// How we do STARTTLS.
        tls: ClientTls,
        /// See above.
        direct: Option<Option<Arc<Chain>>>,
    },
}

/// How we do TLS on a stream that we opened.
#[derive(Clone, Debug)]
pub struct ClientTls {
    /// SNI.
    pub name: String,
    /// Shows whose certificate we show.
    pub config: Arc<ClientConfig>,
}

/// A stream of ours that ended before its proof.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unproven {
    /// Why.
    pub cause: String,
    /// Whether somebody was there who did not prove to be whom we wanted.
    pub by_another: bool,
}

/// How a stream ended.
pub struct End {
    /// Why.
    pub cause: String,
    /// The answer, if it was a verify stream that got one.
    pub verdict: Option<Verdict>,
}

/// An accepted connection.
pub async fn accept(
    edge: Arc<Edge>,
    socket: TcpStream,
    side: Side,
    peer: SocketAddr,
    mut permit: Option<Place>,
    direct_tls: bool,
) {
    let Some(_alive) = edge.alive() else { return };
    let live = edge.live.load_full();
    let (stream, direct) = if direct_tls {
        let begun = Instant::now();
        // Boxed, as what is needed once is not to be carried along by each stream for life.
        let within = live.settings.limits.handshake;
        match Box::pin(super::accept_unproven(socket, live.tls.direct(), within, &mut permit)).await {
            Ok((stream, chain)) => {
                edge.telemetry.metrics.handshake(begun.elapsed());
                (stream, Some(chain))
            }
            Err(failure @ super::TlsFailure::NoPlace) => {
                edge.telemetry.metrics.link(side, Protocol::Xmpp, Count::Limited);
                tracing::debug!(%peer, "handshake failed: {failure}");
                return;
            }
            Err(failure) => {
                edge.telemetry.metrics.link(side, Protocol::Xmpp, Count::Failed);
                // As over SIP: who can't agree on TLS with us never hears why.
                tracing::info!(%peer, "handshake failed: {failure}");
                return;
            }
        }
    } else {
        (Stream::Plain(socket), None)
    };
    let machine = XmppLink::accept(Arc::clone(&live.settings.xmpp), side, peer.ip(), rand::random(), edge.clock.now());
    drop(live);
    run(edge, machine, stream, side, peer, Start::Accepted { permit, direct }).await;
}

/// Runs a stream to its end.
pub fn run(
    edge: Arc<Edge>,
    machine: XmppLink,
    stream: Stream,
    side: Side,
    peer: SocketAddr,
    start: Start,
) -> impl Future<Output = End> + Send {
    let (hop, permit, tls, direct, said) = match start {
        Start::Accepted { permit, direct } => (None, permit, None, direct, None),
        Start::Opened { hop, tls, direct, said } => (Some(hop), None, tls, direct, Some(said)),
        Start::Verify { tls, direct } => (None, None, Some(tls), direct, None),
    };
    // Boxed: a future has room for each place that its parts pass through, and thousands of these may be idle.
    let mut task = Box::new(Task {
        conduit: Some(Conduit::new(Arc::clone(&edge), stream)),
        edge,
        machine,
        side,
        peer,
        hop,
        permit,
        is_verify: hop.is_none() && tls.is_some(),
        tls,
        said,
        unproven: false,
        link: None,
        verifying: JoinSet::new(),
        verdict: None,
    });
    if let Some(chain) = direct {
        task.machine.handle_input(task.edge.clock.now(), LinkInput::TlsEstablished(chain));
    }
    async move {
        let cause = task.turn().await.unwrap_or_else(|Stopped| "the edge is stopping".to_owned());
        Box::pin(task.end(cause)).await
    }
}

struct Task {
    edge: Arc<Edge>,
    machine: XmppLink,
    conduit: Option<Conduit>,
    side: Side,
    peer: SocketAddr,
    hop: Option<HopId>,
    permit: Option<Place>,
    /// Opened to have a key verified.
    is_verify: bool,
    tls: Option<ClientTls>,
    /// Until the first proof, or the end.
    said: Option<oneshot::Sender<Result<(), Unproven>>>,
    /// Whether somebody was there who did not prove to be whom we wanted.
    unproven: bool,
    link: Option<(LinkId, Orders)>,
    /// Ends with the stream.
    verifying: JoinSet<(VerifyRequest, Verdict)>,
    verdict: Option<Verdict>,
}

impl Task {
    /// Goes on until the stream ends; gives the cause.
    async fn turn(&mut self) -> Result<String, Stopped> {
        let negotiation = self.edge.live.load().settings.limits.negotiation + GRACE;
        let unproven_until = Instant::now() + negotiation;
        let mut eof = false;
        loop {
            while let Some(output) = self.machine.poll_output() {
                if let Some(cause) = self.take(output).await? {
                    return Ok(cause);
                }
            }
            let Some(conduit) = self.conduit.as_mut() else { return Ok("the socket is gone".to_owned()) };
            let clock = self.edge.clock;
            let timer = self.machine.poll_timeout().map(|at| clock.instant(at));
            let stall = conduit.stalls_at();
            let proof = self.link.is_none().then_some(unproven_until);
            let deadline = [timer, stall, proof].into_iter().flatten().min();
            let idle = Instant::now() + Duration::from_secs(3_600);
            let has_room = conduit.has_room() && self.machine.has_room();
            // Who asks and reads no answers is not heard any further.
            let is_heard = !eof && !self.link.as_ref().is_some_and(|(_, orders)| orders.queue.is_long());
            let input = if is_heard { Some(self.machine.buffer()) } else { None };
            let event = tokio::select! {
                progress = conduit.drive(input) => match progress {
                    Ok(Progress::Read) => {
                        super::says(&mut self.permit, Said::Something);
                        LinkInput::Readable
                    }
                    Ok(Progress::Wrote) => continue,
                    Ok(Progress::Eof) => { eof = true; LinkInput::Eof }
                    Err(error) => return Ok(super::cause(&error)),
                },
                order = next_order(&mut self.link, has_room) => match order {
                    Next::Order(Order::Send { bytes, transit, receipt }) => {
                        if let Some((received, path)) = transit {
                            // The machine may hold a stanza back until TLS and proof are done; what counts is when it was handed over.
                            self.edge.telemetry.metrics.transit(path, clock.now().since(received));
                        }
                        LinkInput::Send(bytes, receipt)
                    }
                    Next::Order(Order::Close(error)) => LinkInput::Close(error),
                    Next::Killed(cause) => { self.conduit = None; return Ok(cause) }
                    Next::Stopping => return Err(Stopped),
                },
                Some(verified) = self.verifying.join_next() => match verified {
                    Ok((request, verdict)) => LinkInput::Verified(request, verdict),
                    // It has panicked: the question stays open until negotiation is over.
                    Err(_) => continue,
                },
                () = lost(&mut self.permit) => {
                    self.conduit = None;
                    return Ok(super::TlsFailure::NoPlace.to_string());
                }
                () = sleep_until(deadline.unwrap_or(idle)) => {
                    let now = Instant::now();
                    if stall.is_some_and(|at| at <= now) {
                        self.conduit = None;
                        return Ok("the peer takes no bytes".to_owned());
                    }
                    if proof.is_some_and(|at| at <= now) {
                        return Ok(format!("nothing was proven within {negotiation:?}"));
                    }
                    LinkInput::Timeout
                }
            };
            self.machine.handle_input(clock.now(), event);
        }
    }

    /// Closes the connection, and tells who has to know.
    async fn end(mut self, cause: String) -> End {
        if let Some(conduit) = self.conduit.take() {
            match self.permit {
                // It holds its place for as long as its socket, or the sockets of those we refused would be without number.
                Some(_) => tokio::select! {
                    () = conduit.close_wholly() => {}
                    () = lost(&mut self.permit) => {}
                },
                None => conduit.close().await,
            }
        }
        let peer = self.peer;
        match (&self.link, self.said.take()) {
            (Some((link, _)), _) => {
                let _ = self.edge.input(Input::Closed { link: *link, cause: cause.clone() }).await;
            }
            (None, Some(said)) => {
                let _ = said.send(Err(Unproven { cause: cause.clone(), by_another: self.unproven }));
            }
            // Whoever asked hears the verdict.
            (None, None) if self.is_verify => {}
            (None, None) if self.permit.as_ref().is_some_and(Place::is_lost) => {
                self.edge.telemetry.metrics.link(self.side, Protocol::Xmpp, Count::Limited);
                tracing::debug!(%peer, cause, "stream ended before proof");
            }
            (None, None) => {
                self.edge.telemetry.metrics.link(self.side, Protocol::Xmpp, Count::Failed);
                match self.side {
                    // New connections are limited by address block.
                    Side::Outside => tracing::info!(%peer, cause, "stream ended before proof"),
                    Side::Inside => tracing::debug!(%peer, cause, "stream ended before proof"),
                }
            }
        }
        End { cause, verdict: self.verdict }
    }

    /// Does what the machine wants; gives the cause when that was to close.
    async fn take(&mut self, output: LinkOutput) -> Result<Option<String>, Stopped> {
        match output {
            LinkOutput::Write(bytes) => {
                let Some(conduit) = self.conduit.as_mut() else { return Ok(Some("the socket is gone".to_owned())) };
                conduit.push(&bytes, None);
                if !conduit.has_room() {
                    match tokio::time::timeout(super::STALL, conduit.flush()).await {
                        Ok(Ok(())) => {}
                        Ok(Err(error)) => return Ok(Some(super::cause(&error))),
                        Err(_) => {
                            self.conduit = None;
                            return Ok(Some("the peer takes no bytes".to_owned()));
                        }
                    }
                }
            }
            LinkOutput::StartTls { of } => return Ok(Box::pin(self.start_tls(of.as_ref())).await.err()),
            LinkOutput::Proven { from, to, ours, both_ways, managed, other } => {
                return self.proven(Proof::Xmpp { from, to, ours, both_ways, managed, other }).await;
            }
            LinkOutput::Attached { node, domain } => return self.proven(Proof::XmppComponent { node, domain }).await,
            LinkOutput::Stanza(stanza) => {
                if let Some((link, _)) = &self.link {
                    let message = Incoming::Stanza(stanza);
                    self.edge.input(Input::Received { link: *link, at: self.edge.clock.now(), message }).await?;
                }
            }
            LinkOutput::AckAsked { handled } => {
                if let Some((link, _)) = &self.link {
                    self.edge.input(Input::AckAsked { link: *link, handled }).await?;
                }
            }
            LinkOutput::Taken(receipts) => {
                if let Some((link, _)) = &self.link {
                    self.edge.input(Input::Taken { link: *link, receipts }).await?;
                }
            }
            LinkOutput::Verify(request) => self.verify(request),
            LinkOutput::VerifyDone(_, verdict) => self.verdict = Some(verdict),
            LinkOutput::Refused { domain, reject, id } => {
                self.edge.refused(self.side, Protocol::Xmpp, self.peer, domain, reject, Some(id)).await;
            }
            LinkOutput::Close { cause, unproven } => {
                self.unproven = unproven;
                return Ok(Some(cause));
            }
        }
        Ok(None)
    }

    /// From the first proof on, the loop knows the link. Gives a cause to end it, if nobody waits for it any more.
    async fn proven(&mut self, proof: Proof) -> Result<Option<String>, Stopped> {
        if self.said.take().is_some_and(|said| said.send(Ok(())).is_err()) {
            return Ok(Some("it was proven too late".to_owned()));
        }
        let link = match &self.link {
            Some((link, _)) => *link,
            None => {
                let (link, orders) = self.edge.link().await?;
                self.link = Some((link, orders));
                self.permit = None;
                link
            }
        };
        let proven = Proven { link, side: self.side, peer: self.peer, hop: self.hop, door: None, proof };
        self.edge.input(Input::Proven(Box::new(proven))).await?;
        Ok(None)
    }

    /// TLS in mid-stream, in the name of `of` where the client asks for none: everything written goes out in the clear first (RFC 6120 §5.4.2.3).
    async fn start_tls(&mut self, of: Option<&Domain>) -> Result<(), String> {
        let mut conduit = self.conduit.take().ok_or("the socket is gone")?;
        let live = self.edge.live.load_full();
        let within = live.settings.limits.handshake;
        tokio::time::timeout(within, conduit.flush())
            .await
            .map_err(|_| "the peer takes no bytes".to_owned())?
            .map_err(|error| super::cause(&error))?;
        let socket = conduit.into_socket().ok_or("TLS over TLS")?;
        let begun = Instant::now();
        let (stream, chain) = match (self.tls.take(), self.side) {
            (Some(tls), _) => super::connect(socket, tls.config, &tls.name, within).await,
            (None, Side::Outside) => {
                super::accept_unproven(socket, live.tls.streams(of), within, &mut self.permit).await
            }
            (None, Side::Inside) => super::accept(socket, live.tls.inside_streams(of), within).await,
        }
        .map_err(|failure| failure.to_string())?;
        self.edge.telemetry.metrics.handshake(begun.elapsed());
        self.conduit = Some(Conduit::new(Arc::clone(&self.edge), stream));
        self.machine.handle_input(self.edge.clock.now(), LinkInput::TlsEstablished(chain));
        Ok(())
    }

    /// XEP-0220 §2.3: on a connection of its own.
    fn verify(&mut self, request: VerifyRequest) {
        let leave = match self.side {
            Side::Outside => self.edge.asking.leave(&request.originating).map(Some),
            // Who is inside asks our own nodes.
            Side::Inside => Some(None),
        };
        let Some(leave) = leave.filter(|_| self.verifying.len() < VERIFYING) else {
            self.machine.handle_input(self.edge.clock.now(), LinkInput::Verified(request, Verdict::Error));
            return;
        };
        let (edge, side) = (Arc::clone(&self.edge), self.side);
        self.verifying.spawn(async move {
            let _leave = leave;
            let verdict = dial::verify(edge, side, request.clone()).await;
            (request, verdict)
        });
    }
}

enum Next {
    Order(Order),
    Killed(String),
    Stopping,
}

/// The loop's next word to this link; never, while the loop does not know it. What needs room waits for it; the end does not.
async fn next_order(link: &mut Option<(LinkId, Orders)>, has_room: bool) -> Next {
    let Some((_, orders)) = link else { return std::future::pending().await };
    tokio::select! {
        Ok(cause) = &mut orders.kill => Next::Killed(cause),
        order = orders.queue.next(), if has_room => order.map_or(Next::Stopping, Next::Order),
        else => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::limits::UNACKED_PER_STREAM;
    use crate::gate::link::Aim;
    use crate::io::edge::{Arrival, for_tests};
    use crate::io::settings::Dns;
    use bytes::Bytes;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    /// A server that says each of these when it has heard what comes before it.
    async fn server(mut socket: TcpStream, script: &[(&str, &str)]) -> TcpStream {
        let (mut heard, mut buffer) = (String::new(), [0; 4_096]);
        for (until, says) in script {
            while !heard.contains(until) {
                let n = socket.read(&mut buffer).await.unwrap();
                assert_ne!(n, 0, "{heard}");
                heard.push_str(std::str::from_utf8(&buffer[..n]).unwrap());
            }
            heard.clear();
            socket.write_all(says.as_bytes()).await.unwrap();
        }
        socket
    }

    #[tokio::test]
    async fn who_was_refused_holds_his_place_until_he_is_gone() {
        let (edge, _arrivals, _gone) = for_tests(Dns::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let places = crate::io::places::Places::default();
        let mut peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (socket, at) = listener.accept().await.unwrap();
        let place = Some(places.take(at.ip()));
        let task = tokio::spawn(accept(edge, socket, Side::Outside, at, place, false));
        peer.write_all(b"<stream:stream xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams' from='a.example' to='b.example' version='1.0'>")
            .await
            .unwrap();
        let mut said = String::new();
        peer.read_to_string(&mut said).await.unwrap();
        assert!(said.ends_with("</stream:stream>"), "{said}");
        assert_eq!(places.taken(), 1, "its socket is open");
        drop(peer);
        tokio::time::timeout(Duration::from_secs(1), task).await.unwrap().unwrap();
        assert_eq!(places.taken(), 0);
    }

    #[tokio::test]
    async fn who_acknowledges_nothing_can_be_ended_at_once() {
        const HEADER: &str = "<stream:stream xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams' id='1' version='1.0'>";
        let external = format!(
            "{HEADER}<stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>EXTERNAL</mechanism></mechanisms></stream:features>"
        );
        let managed = format!("{HEADER}<stream:features><sm xmlns='urn:xmpp:sm:3'/></stream:features>");
        let (edge, mut arrivals, _gone) = for_tests(Dns::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (other, peer) = listener.accept().await.unwrap();
        let [ours, theirs] = ["far.example", "corp.example"].map(|name| Domain::parse(name).unwrap());
        let (settings, now) = (edge.live.load().xmpp(), edge.clock.now());
        let machine = XmppLink::open(settings, Aim::Node("imp-1".to_owned()), ours, theirs, true, [1; 32], now);
        let (said, _outcome) = oneshot::channel();
        let start = Start::Opened { hop: HopId(7), tls: None, direct: Some(None), said };
        tokio::spawn(run(edge, machine, Stream::Plain(socket), Side::Inside, peer, start));
        let script = [
            ("version='1.0'>", external.as_str()),
            ("</auth>", "<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>"),
            ("version='1.0'>", &managed),
            ("<enable", "<enabled xmlns='urn:xmpp:sm:3'/>"),
        ];
        let mut other = server(other, &script).await;
        let Some(Arrival::Linked(_, handle)) = arrivals.recv().await else { panic!("no link") };
        assert!(matches!(arrivals.recv().await, Some(Arrival::Input(input)) if matches!(*input, Input::Proven(_))));
        for receipt in 0..UNACKED_PER_STREAM as u64 + 1 {
            let bytes = Bytes::from(format!("<message id='{receipt}'/>"));
            handle.give(Order::Send { bytes, transit: None, receipt: Some(receipt) }).unwrap();
        }
        // All that may be under way.
        let (last, mut buffer, mut heard) = (format!("id='{}'", UNACKED_PER_STREAM - 1), [0; 4_096], String::new());
        while !heard.contains(&last) {
            let n = other.read(&mut buffer).await.unwrap();
            heard.push_str(std::str::from_utf8(&buffer[..n]).unwrap());
            heard.drain(..heard.len().saturating_sub(8_192));
        }
        handle.kill("enough".to_owned());
        let ended = tokio::time::timeout(Duration::from_secs(5), arrivals.recv()).await.expect("it hears");
        let Some(Arrival::Input(input)) = ended else { panic!("not told") };
        assert!(matches!(&*input, Input::Closed { cause, .. } if cause == "enough"), "{input:?}");
    }
}
