//! A SIP connection: framing, keepalives (RFC 5626 §3.5.1, §4.4.1), back-pressure. Takes orders from the loop, gives it messages.

use super::conduit::{Conduit, Progress, Stream};
use crate::gate::partner::{Protocol, Side};
use crate::gate::{HopId, Incoming, Input, Proof, Proven};
use crate::io::edge::{Edge, Stopped};
use crate::io::orders::Order;
use crate::io::places::Place;
use crate::io::telemetry::Count;
use crate::wire::certificate::Chain;
use crate::wire::sip::{Frame, Framer};
use rand::RngExt as _;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// RFC 5626 §4.4.1: between 95 and 120 seconds over connection-oriented transports, drawn anew each time.
const KEEPALIVE: std::ops::Range<u64> = 95..120;
/// How long a link whose framing is lost waits for the gate to answer and close.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// What is known of a connection when its handshake is done.
pub struct Start {
    /// Its side.
    pub side: Side,
    /// The other end.
    pub peer: SocketAddr,
    /// Set when we dialled for the gate.
    pub hop: Option<HopId>,
    /// The node on whose `public_port` it came in.
    pub door: Option<String>,
    /// The host name we dialled and whether it was typed.
    pub dialled: Option<(String, bool)>,
    /// Whether there were other addresses to dial.
    pub others: bool,
    /// The peer's chain.
    pub chain: Option<Arc<Chain>>,
    /// One of the places for unproven connections; given back once the gate knows.
    pub permit: Option<Place>,
}

/// Runs the link to its end.
pub async fn run(edge: Arc<Edge>, stream: Stream, start: Start) {
    let Some(_alive) = edge.alive() else { return };
    let Ok((link, mut orders)) = edge.link().await else { return };
    let Start { side, peer, hop, door, dialled, others, chain, permit } = start;
    let mut is_fresh = hop.is_some();
    let proven = Proven { link, side, peer, hop, door, proof: Proof::Sip { chain, dialled, others } };
    if edge.input(Input::Proven(Box::new(proven))).await.is_err() {
        return;
    }
    drop(permit);

    let mut framer = {
        let live = edge.live.load();
        let limits = &live.settings.limits;
        let body = live.settings.policy.partners.iter().map(|partner| partner.limits.body_bytes).max();
        Framer::new(limits.sip_head_bytes, body.unwrap_or(0).max(limits.stanza_bytes))
    };
    let mut conduit = Conduit::new(Arc::clone(&edge), stream);
    let mut reading = true;
    let mut given_up_at = None::<Instant>;
    let mut interval = keepalive_interval();
    let mut keepalive = Instant::now() + interval;

    let mut alarm = pin!(sleep_until(keepalive));

    let cause = 'link: loop {
        match frames(&edge, link, &mut framer, &mut conduit, &mut reading).await {
            Ok(()) => {}
            Err(Stopped) => break "the edge is stopping".to_owned(),
        }
        if !reading && given_up_at.is_none() {
            given_up_at = Some(Instant::now() + LAST_WORDS);
        }
        let deadline =
            [Some(keepalive), conduit.stalls_at(), given_up_at].into_iter().flatten().min().unwrap_or(keepalive);
        // The alarm is set anew only when it is too late, or has rung: setting it costs, and most of the time it is only put off.
        if alarm.deadline() > deadline || alarm.is_elapsed() {
            alarm.as_mut().reset(deadline);
        }
        let has_room = conduit.has_room();
        // Who asks and reads no answers is not heard any further.
        let input = (reading && !orders.queue.is_long()).then(|| framer.buffer());
        tokio::select! {
            progress = conduit.drive(input) => match progress {
                Ok(Progress::Eof) => break "the peer closed the connection".to_owned(),
                Ok(progress) => {
                    if progress == Progress::Wrote && std::mem::take(&mut is_fresh) {
                        conduit.hasten();
                    }
                    keepalive = conduit.moved() + interval;
                }
                Err(error) => break super::cause(&error),
            },
            first = orders.queue.next(), if has_room => {
                // One TLS record and one system call for all that is there.
                let mut order = first;
                if let Some(order) = &order {
                    conduit.make_room(order.weight() + orders.queue.weight());
                }
                loop {
                    match order {
                        Some(Order::Send { bytes, transit, .. }) => conduit.push(&bytes, transit),
                        Some(Order::Close(_)) => {
                            conduit.close().await;
                            closed(&edge, link, "closed here".to_owned()).await;
                            return;
                        }
                        None => break 'link "the edge is stopping".to_owned(),
                    }
                    order = if conduit.has_room() { orders.queue.next_now() } else { None };
                    if order.is_none() {
                        break;
                    }
                }
            }
            Ok(cause) = &mut orders.kill => {
                closed(&edge, link, cause).await;
                return;
            }
            () = alarm.as_mut() => {
                let now = Instant::now();
                if conduit.stalls_at().is_some_and(|at| at <= now) {
                    closed(&edge, link, "the peer takes no bytes".to_owned()).await;
                    return;
                }
                if given_up_at.is_some_and(|at| at <= now) {
                    break "its byte stream can't be read as SIP".to_owned();
                }
                if keepalive <= now {
                    // A ping without demanding its pong: RFC 5626 §3.5.1 was not negotiated.
                    conduit.push(b"\r\n\r\n", None);
                    interval = keepalive_interval();
                    keepalive = now + interval;
                }
            }
        }
    };
    conduit.close().await;
    closed(&edge, link, cause).await;
}

/// Hands on every whole frame.
async fn frames(
    edge: &Edge,
    link: crate::gate::LinkId,
    framer: &mut Framer,
    conduit: &mut Conduit,
    reading: &mut bool,
) -> Result<(), Stopped> {
    // All that is whole now was so with the last byte read.
    let at = edge.clock.at(conduit.moved());
    while *reading {
        let message = match framer.next() {
            Some(Frame::Message(message)) => {
                edge.sip(link, at, message).await?;
                continue;
            }
            Some(Frame::Ping) => {
                // A flood of pings is answered only as fast as the answers are taken.
                if conduit.has_room() {
                    conduit.push(b"\r\n", None);
                }
                continue;
            }
            Some(Frame::Bad { message, fault, fatal }) => {
                *reading = !fatal;
                Incoming::BadSip { message, fault, fatal }
            }
            None => return Ok(()),
        };
        edge.input(Input::Received { link, at, message }).await?;
    }
    Ok(())
}

fn keepalive_interval() -> Duration {
    Duration::from_secs(rand::rng().random_range(KEEPALIVE))
}

async fn closed(edge: &Edge, link: crate::gate::LinkId, cause: String) {
    let _ = edge.input(Input::Closed { link, cause }).await;
}

/// An accepted connection on `[outside] sip`, or on the `public_port` of the node `door`: mutual TLS first.
pub async fn accept_outside(
    edge: Arc<Edge>,
    socket: tokio::net::TcpStream,
    peer: SocketAddr,
    door: Option<String>,
    permit: Place,
) {
    use crate::gate::reject::{Reason, Reject};
    let live = edge.live.load_full();
    let within = live.settings.limits.handshake;
    let (config, refusal) = match live.tls.outside_sip() {
        Ok(config) => config,
        Err(error) => {
            tracing::error!(%error, "no TLS configuration");
            return;
        }
    };
    let begun = Instant::now();
    let mut permit = Some(permit);
    match super::accept_unproven(socket, config, within, &mut permit).await {
        Ok((stream, chain)) => {
            edge.telemetry.metrics.handshake(begun.elapsed());
            let start =
                Start { side: Side::Outside, peer, hop: None, door, dialled: None, others: false, chain, permit };
            run(edge, stream, start).await;
        }
        Err(failure @ super::TlsFailure::NoPlace) => {
            edge.telemetry.metrics.link(Side::Outside, Protocol::Sip, Count::Limited);
            tracing::debug!(%peer, "handshake failed: {failure}");
        }
        Err(failure) => {
            let detail = match (refusal.take(), &failure) {
                (Some(words), _) => Some(words),
                (None, super::TlsFailure::NoCertificate) => {
                    Some("the peer showed no certificate; a SIP partner must (RFC 5922 §7.4)".to_owned())
                }
                _ => None,
            };
            match detail {
                Some(detail) => {
                    let reject = Reject::new(Reason::Unproven, detail);
                    edge.refused(Side::Outside, Protocol::Sip, peer, None, reject, None).await;
                }
                None => {
                    edge.telemetry.metrics.link(Side::Outside, Protocol::Sip, Count::Failed);
                    // Who can't agree on TLS with us never hears why: the log must say it. New connections are limited by address block.
                    let hint = match failure {
                        super::TlsFailure::NoTls => "; a load balancer belongs into [outside] proxy_protocol_from",
                        _ => "",
                    };
                    tracing::info!(%peer, "handshake failed: {failure}{hint}");
                }
            }
        }
    }
}

/// An accepted connection on `[inside] sip`, in the clear or under TLS; its address was checked.
pub async fn accept_inside(edge: Arc<Edge>, socket: tokio::net::TcpStream, peer: SocketAddr, tls: bool) {
    let (stream, chain) = if tls {
        let live = edge.live.load_full();
        let begun = Instant::now();
        match super::accept(socket, live.tls.streams(None), live.settings.limits.handshake).await {
            Ok(accepted) => {
                edge.telemetry.metrics.handshake(begun.elapsed());
                accepted
            }
            Err(failure) => {
                edge.telemetry.metrics.link(Side::Inside, Protocol::Sip, Count::Failed);
                tracing::warn!(%peer, %failure, "handshake of a node failed");
                return;
            }
        }
    } else {
        (Stream::Plain(socket), None)
    };
    let start =
        Start { side: Side::Inside, peer, hop: None, door: None, dialled: None, others: false, chain, permit: None };
    run(edge, stream, start).await;
}
