//! Accepting connections: who may connect at all is settled before a byte is read.

use super::edge::{Edge, Phase};
use super::link::{sip, xmpp};
use super::places::{Block, Place, Places, block};
use super::settings::Listeners;
use super::telemetry::Count;
use crate::gate::partner::{Protocol, Side};
use crate::gate::peer::nodes;
use crate::gate::reject::{Reason, Reject};
use crate::wire::proxy::{self, Origin, Progress};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use socket2::{Domain, SockRef, Socket, TcpKeepalive, Type};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1_024;
/// Connections of load balancers that may wait for their PROXY header.
const BALANCED: usize = 1_024;
/// New outside connections a second from one address block (/24, /64), and how many at once.
const RATE: NonZeroU32 = NonZeroU32::new(50).unwrap();
const BURST: NonZeroU32 = NonZeroU32::new(200).unwrap();
/// Address blocks that are remembered; beyond, only those already known get in until old ones are forgotten.
const BLOCKS: usize = 65_536;

/// What is spoken on a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `[outside] sip`, and the `public_port`s of nodes
    OutsideSip,
    /// `[outside] xmpp`
    OutsideXmpp,
    /// `[outside] xmpps`
    OutsideXmpps,
    /// `[inside] sip`, `tcp:`
    InsideSipTcp,
    /// `[inside] sip`, `tls:`
    InsideSipTls,
    /// `[inside] xmpp`
    InsideXmpp,
}

impl Kind {
    /// Its side.
    pub fn side(self) -> Side {
        match self {
            Kind::OutsideSip | Kind::OutsideXmpp | Kind::OutsideXmpps => Side::Outside,
            Kind::InsideSipTcp | Kind::InsideSipTls | Kind::InsideXmpp => Side::Inside,
        }
    }
    /// Its protocol.
    pub fn protocol(self) -> Protocol {
        match self {
            Kind::OutsideSip | Kind::InsideSipTcp | Kind::InsideSipTls => Protocol::Sip,
            Kind::OutsideXmpp | Kind::OutsideXmpps | Kind::InsideXmpp => Protocol::Xmpp,
        }
    }
}

/// Opens every listener, or says which one could not be and why.
pub fn bind(listeners: &Listeners) -> Result<Vec<(Kind, TcpListener)>, String> {
    let of = |kind: Kind, addresses: &[SocketAddr]| addresses.iter().map(|at| (kind, *at)).collect::<Vec<_>>();
    let mut all = of(Kind::OutsideSip, &listeners.outside_sip);
    all.extend(of(Kind::OutsideSip, &listeners.doors));
    all.extend(of(Kind::OutsideXmpp, &listeners.outside_xmpp));
    all.extend(of(Kind::OutsideXmpps, &listeners.outside_xmpps));
    all.extend(of(Kind::InsideSipTcp, &listeners.inside_sip_tcp));
    all.extend(of(Kind::InsideSipTls, &listeners.inside_sip_tls));
    all.extend(of(Kind::InsideXmpp, &listeners.inside_xmpp));
    let addresses: Vec<SocketAddr> = all.iter().map(|(_, at)| *at).collect();
    all.into_iter()
        .map(|(kind, at)| {
            let listener = open(at, &addresses).map_err(|error| format!("cannot listen on {at}: {error}"))?;
            Ok((kind, listener))
        })
        .collect()
}

/// `[::]` takes IPv4 too, unless an IPv4 listener has the same port.
pub(super) fn open(at: SocketAddr, all: &[SocketAddr]) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(at), Type::STREAM, None)?;
    if at.is_ipv6() {
        // Port 0 is a different port each time.
        let shared = at.port() != 0 && all.iter().any(|other| other.is_ipv4() && other.port() == at.port());
        socket.set_only_v6(shared || !at.ip().is_unspecified())?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&at.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Small messages go out at once, dead peers are noticed.
pub(super) fn tune(socket: &TcpStream) {
    let _ = socket.set_nodelay(true);
    let keepalive = TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(15));
    let _ = SockRef::from(socket).set_tcp_keepalive(&keepalive);
}

/// What stands before the outside listeners; one for all of them.
pub struct Doorstep {
    blocks: DefaultKeyedRateLimiter<Block>,
    sip: Places,
    xmpp: Places,
    /// Of load balancers, whose client is not known yet.
    behind_balancers: Arc<Semaphore>,
}

impl Default for Doorstep {
    fn default() -> Self {
        Self {
            blocks: RateLimiter::keyed(Quota::per_second(RATE).allow_burst(BURST)),
            sip: Places::default(),
            xmpp: Places::default(),
            behind_balancers: Arc::new(Semaphore::new(BALANCED)),
        }
    }
}

impl Doorstep {
    /// Whether one more connection from this address may come in now.
    fn admits(&self, peer: IpAddr) -> bool {
        if self.blocks.len() >= BLOCKS {
            self.blocks.retain_recent();
            if self.blocks.len() >= BLOCKS {
                return false;
            }
        }
        self.blocks.check_key(&block(peer)).is_ok()
    }

    /// A place for a connection from this address; `None`: it may not come in now.
    fn place(&self, protocol: Protocol, peer: IpAddr) -> Option<Place> {
        let of_protocol = match protocol {
            Protocol::Sip => &self.sip,
            Protocol::Xmpp => &self.xmpp,
        };
        self.admits(peer).then(|| of_protocol.take(peer))
    }

    /// Forgets blocks that have been quiet; to be called now and then.
    pub fn sweep(&self) {
        self.blocks.retain_recent();
        self.blocks.shrink_to_fit();
    }
}

/// Accepts until the edge drains.
pub async fn serve(edge: Arc<Edge>, doorstep: Arc<Doorstep>, kind: Kind, listener: TcpListener) {
    let mut phase = edge.phase.subscribe();
    let port = listener.local_addr().map_or(0, |at| at.port());
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = phase.wait_for(|phase| *phase == Phase::Draining) => return,
        };
        match accepted {
            Ok((socket, peer)) => {
                let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
                tune(&socket);
                welcome(&edge, &doorstep, (kind, port), socket, peer);
            }
            // Out of file descriptors, or a connection that was gone before it was accepted: neither ends the listener.
            Err(error) => {
                tracing::warn!(%error, "accept failed");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// `port` is the listener's.
fn welcome(edge: &Arc<Edge>, doorstep: &Arc<Doorstep>, (kind, port): (Kind, u16), socket: TcpStream, peer: SocketAddr) {
    let (side, protocol) = (kind.side(), kind.protocol());
    let edge = Arc::clone(edge);
    if side == Side::Inside {
        let inside = edge.live.load().settings.inside_networks.iter().any(|network| network.contains(&peer.ip()));
        if !inside {
            let detail = format!("{} is in none of [inside] networks; add its network if it is a node", peer.ip());
            let reject = Reject::new(Reason::NotAllowed, detail);
            tokio::spawn(async move { edge.refused(side, protocol, peer, None, reject, None).await });
            return;
        }
        match kind {
            Kind::InsideXmpp => drop(tokio::spawn(xmpp::accept(edge, socket, side, peer, None, false))),
            _ if edge.live.load().settings.nodes.iter().any(|node| nodes::connects_from(node, peer.ip())) => {
                drop(tokio::spawn(sip::accept_inside(edge, socket, peer, kind == Kind::InsideSipTls)));
            }
            _ => {
                let reject = nodes::not_a_source(peer.ip());
                tokio::spawn(async move { edge.refused(side, protocol, peer, None, reject, None).await });
            }
        }
        return;
    }
    let is_balancer = {
        let live = edge.live.load();
        live.settings.proxy_protocol_from.iter().any(|network| network.contains(&peer.ip()))
    };
    if !is_balancer {
        return match doorstep.place(protocol, peer.ip()) {
            Some(place) => come_in(edge, (kind, port), socket, peer, place),
            None => limited(&edge, kind, peer),
        };
    }
    // A balancer's address says nothing of who comes through it.
    let Ok(waiting) = Arc::clone(&doorstep.behind_balancers).try_acquire_owned() else {
        return limited(&edge, kind, peer);
    };
    let doorstep = Arc::clone(doorstep);
    tokio::spawn(async move {
        let _waiting = waiting;
        let mut socket = socket;
        let within = edge.live.load().settings.limits.handshake;
        let origin = tokio::time::timeout(within, origin(&mut socket)).await;
        match origin.unwrap_or_else(|_| Err(format!("no PROXY header came within {within:?}"))) {
            Ok(Some(client)) => {
                tracing::debug!(balancer = %peer, %client, "through a load balancer");
                match doorstep.place(protocol, client.ip()) {
                    Some(place) => come_in(edge, (kind, port), socket, client, place),
                    None => limited(&edge, kind, client),
                }
            }
            Ok(None) => tracing::debug!(balancer = %peer, "a load balancer looked whether we are well"),
            Err(error) => {
                edge.telemetry.metrics.link(side, protocol, Count::Failed);
                tracing::warn!(balancer = %peer, error, "closed: [outside] proxy_protocol_from demands a PROXY header of it");
            }
        }
    });
}

/// Of a connection for which there is no place.
fn limited(edge: &Edge, kind: Kind, peer: SocketAddr) {
    // Not an event each: whoever floods us would flood the log.
    edge.telemetry.metrics.link(kind.side(), kind.protocol(), Count::Limited);
    tracing::debug!(%peer, "dropped: too many new connections");
}

/// From here on it is the outside peer's connection.
fn come_in(edge: Arc<Edge>, (kind, port): (Kind, u16), socket: TcpStream, peer: SocketAddr, permit: Place) {
    match kind {
        Kind::OutsideXmpp | Kind::OutsideXmpps => {
            let direct = kind == Kind::OutsideXmpps;
            tokio::spawn(xmpp::accept(edge, socket, Side::Outside, peer, Some(permit), direct));
        }
        _ => {
            // By the settings in force: a reload may give the port to another node.
            let door = edge.live.load().settings.door(port);
            tokio::spawn(sip::accept_outside(edge, socket, peer, door, permit));
        }
    }
}

/// The client for which a load balancer connected; `None`: nobody, it only looks whether we are there. Reads no byte beyond the header.
async fn origin(socket: &mut TcpStream) -> Result<Option<SocketAddr>, String> {
    let (mut header, mut filled) = ([0; proxy::HEADER_MAX], 0);
    loop {
        let wanted = match proxy::read(header.get(..filled).unwrap_or_default()).map_err(|fault| fault.to_string())? {
            Progress::Whole(Origin::Client(client)) => return Ok(Some(client)),
            Progress::Whole(Origin::Balancer) => return Ok(None),
            Progress::More(wanted) => wanted,
        };
        let room = header.get_mut(filled..filled + wanted).ok_or("the PROXY header is too long")?;
        match socket.read(room).await {
            Ok(0) if filled == 0 => return Ok(None),
            Ok(0) => return Err("the connection ended within the PROXY header".to_owned()),
            Ok(n) => filled += n,
            Err(error) => return Err(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_block_cannot_shut_out_another() {
        let doorstep = Doorstep::default();
        let noisy: IpAddr = "192.0.2.7".parse().unwrap();
        let admitted = (0..1_000).filter(|_| doorstep.admits(noisy)).count();
        assert!((200..400).contains(&admitted), "{admitted}");
        assert!(!doorstep.admits("192.0.2.200".parse().unwrap()), "the same /24");
        assert!(!doorstep.admits("::ffff:192.0.2.9".parse().unwrap()), "the same /24, mapped");
        assert!(doorstep.admits("192.0.3.7".parse().unwrap()));
        assert!(doorstep.admits("2001:db8::1".parse().unwrap()));
        assert_eq!(block("2001:db8::1".parse().unwrap()), block("2001:db8::ffff:2".parse().unwrap()));
        assert_ne!(block("2001:db8::1".parse().unwrap()), block("2001:db8:0:1::1".parse().unwrap()));
    }

    #[tokio::test]
    async fn both_families_share_a_port() {
        let probe = open("127.0.0.1:0".parse().unwrap(), &[]).unwrap();
        let port = probe.local_addr().unwrap().port();
        drop(probe);
        let addresses = [SocketAddr::from(([0, 0, 0, 0], port)), format!("[::]:{port}").parse().unwrap()];
        let listeners = Listeners { outside_sip: addresses.to_vec(), ..Listeners::default() };
        match bind(&listeners) {
            Ok(bound) => assert_eq!(bound.len(), 2),
            // A machine without IPv6 can't be asked.
            Err(error) => assert!(error.contains("[::]"), "{error}"),
        }
    }
}
