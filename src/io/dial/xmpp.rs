//! XMPP streams that we open: to partners' servers (RFC 6120 §3.2, XEP-0368), to nodes, and to have dialback keys verified.
//!
//! A server that answers is not yet the partner's: what counts is that its stream gets as far as proof. So each candidate's stream is
//! negotiated, and the next is tried when it ends before.

use super::race::{interleave, race};
use super::{Candidate, DIAL, Failure, LEAST, LOOKUP, addresses, share};
use crate::gate::HopId;
use crate::gate::link::{Aim, Verdict, VerifyRequest, XmppLink};
use crate::gate::partner::{HostPort, Node, NodeProtocol, Protocol, Side, TlsMode};
use crate::io::edge::Edge;
use crate::io::link::xmpp::{ClientTls, Start, Unproven, run};
use crate::io::link::{self, Stream};
use crate::io::resolve::{self, NotFound};
use crate::io::settings::Srv;
use crate::wire::address::Domain;
use crate::wire::certificate::Chain;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout, timeout_at};

/// Servers listen here where no SRV record says otherwise (RFC 6120 §3.2.2).
const PORT: u16 = 5269;
/// For a key to be verified.
const VERIFY: Duration = Duration::from_secs(20);
/// For a server that has answered, while there are others: it may have a key verified before it says yes.
const NEGOTIATE: Duration = Duration::from_secs(5);

/// Which stream the gate wants.
pub(super) struct Partner {
    /// The domain to be found.
    pub find: Domain,
    /// What the administrator typed instead.
    pub next_hop: Option<HostPort>,
    /// Ours.
    pub from: Domain,
    /// The partner's.
    pub to: Domain,
    /// Whose certificate we show.
    pub identity: usize,
}

/// Where a domain's server may be.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Way {
    at: Candidate,
    /// TLS from the first byte (XEP-0368), else STARTTLS.
    direct: bool,
}

/// A connection, before its stream.
struct Ready {
    side: Side,
    stream: Stream,
    at: SocketAddr,
    /// The chain, when TLS came first.
    direct: Option<Option<Arc<Chain>>>,
}

pub(super) async fn to_partner(edge: &Arc<Edge>, hop: HopId, partner: Partner) -> Result<(), Failure> {
    let give_up = Instant::now() + DIAL;
    let Partner { find, next_hop, from, to, identity } = partner;
    let mut failure = Failure::default();
    let ways = ways(edge, &find, &to, next_hop, &mut failure.attempts).await?;
    let errand = Errand::Open { hop, from: &from, to: &to };
    each(edge, &ways, errand, identity, (give_up, failure)).await.map(drop)
}

/// What a stream to a partner's server is opened for.
#[derive(Clone, Copy)]
enum Errand<'a> {
    /// To send on.
    Open { hop: HopId, from: &'a Domain, to: &'a Domain },
    /// To have a key verified.
    Ask(&'a VerifyRequest),
}

impl Errand<'_> {
    /// The domain whose server it is to be.
    fn name(&self) -> &Domain {
        match self {
            Errand::Open { to, .. } => to,
            Errand::Ask(request) => &request.originating,
        }
    }

    /// Gives the answer, if one was asked for.
    async fn run(
        self,
        edge: &Arc<Edge>,
        way: &Way,
        (ready, tls): (Ready, ClientTls),
        by: Instant,
    ) -> Result<Option<Verdict>, Unproven> {
        match self {
            Errand::Ask(request) => ask(edge, request, ready, tls, by).await.map(Some),
            Errand::Open { hop, from, to } => {
                let aim = Aim::Partner { host: way.at.name(), typed: way.at.typed };
                let (settings, from, to) = (edge.live.load().xmpp(), from.clone(), to.clone());
                let (is_direct, now) = (ready.direct.is_some(), edge.clock.now());
                let machine = XmppLink::open(settings, aim, from, to, is_direct, rand::random(), now);
                stand(edge, machine, ready, (hop, Some(tls)), by).await.map(|()| None)
            }
        }
    }
}

/// Tries every address of every way until one of them was it.
async fn each(
    edge: &Arc<Edge>,
    ways: &[Way],
    errand: Errand<'_>,
    identity: usize,
    (give_up, mut failure): (Instant, Failure),
) -> Result<Option<Verdict>, Failure> {
    for (index, way) in ways.iter().enumerate() {
        let host = &way.at.host;
        if Instant::now() >= give_up {
            failure.attempts.push(format!("{host}: not tried, the time is over"));
            continue;
        }
        let by = share(give_up, ways.len() - index).min(give_up);
        let found = timeout_at(by, addresses(edge, &way.at, &mut failure.attempts)).await;
        let found = found.unwrap_or_else(|_| {
            failure.attempts.push(format!("DNS {host}: no answer in time"));
            Vec::new()
        });
        let mut left = interleave(found, way.at.port);
        left.retain(|at| {
            let is_ours = is_inside(edge, *at);
            if is_ours {
                failure
                    .attempts
                    .push(format!("{host} {at}: that is our own [inside] listener, and no partner's server"));
            }
            !is_ours
        });
        while let Some((socket, at)) =
            race(host, &mut left, by.max(Instant::now() + LEAST), &mut failure.attempts).await
        {
            let is_last = index + 1 == ways.len() && left.is_empty();
            let by = if is_last { give_up } else { give_up.min(Instant::now() + NEGOTIATE) };
            let prepared = timeout_at(by, prepare(edge, socket, at, way, errand.name(), identity)).await;
            let said = match prepared.unwrap_or_else(|_| Err("no handshake in its share of the time".to_owned())) {
                Ok(ready) => errand.run(edge, way, ready, by).await,
                Err(cause) => Err(Unproven { cause, by_another: false }),
            };
            match said {
                Ok(outcome) => return Ok(outcome),
                Err(Unproven { cause, by_another }) => {
                    failure.attempts.push(format!("{host} {at}: {cause}"));
                    failure.unproven |= by_another;
                }
            }
            if Instant::now() >= give_up {
                failure.attempts.extend(left.drain(..).map(|at| format!("{host} {at}: not tried, the time is over")));
            }
        }
    }
    Err(failure)
}

/// Whether one of our inside listeners is there. A partner whose records lead there would have us take our own stream for a node's, if we are
/// among the node's `sources`: then what is for the partner goes round until its budget is spent.
fn is_inside(edge: &Edge, at: SocketAddr) -> bool {
    let ip = at.ip().to_canonical();
    let is_here = |own: IpAddr| match own.is_unspecified() {
        true => resolve::our_address_towards(at).is_ok_and(|own| own.to_canonical() == ip),
        false => own.to_canonical() == ip,
    };
    let live = edge.live.load();
    live.settings.listeners.inside().any(|own| own.port() == at.port() && is_here(own.ip()))
}

/// TLS first, where it is direct.
async fn prepare(
    edge: &Arc<Edge>,
    socket: TcpStream,
    at: SocketAddr,
    way: &Way,
    name: &Domain,
    identity: usize,
) -> Result<(Ready, ClientTls), String> {
    let live = edge.live.load_full();
    // RFC 6120 §13.7.2.1, XEP-0368 §3: the domain is asked for, wherever DNS led.
    let tls = ClientTls { name: name.as_str().to_owned(), config: live.tls.to_xmpp_partner(identity, way.direct)? };
    if !way.direct {
        return Ok((Ready { side: Side::Outside, stream: Stream::Plain(socket), at, direct: None }, tls));
    }
    let begun = Instant::now();
    let within = live.settings.limits.handshake;
    let shaken = link::connect(socket, Arc::clone(&tls.config), &tls.name, within).await;
    let (stream, chain) = shaken.map_err(|failure| failure.to_string())?;
    edge.telemetry.metrics.handshake(begun.elapsed());
    Ok((Ready { side: Side::Outside, stream, at, direct: Some(chain) }, tls))
}

/// Runs a stream; returns once it is proven, or has ended before, or the time is over: then it never will be.
async fn stand(
    edge: &Arc<Edge>,
    machine: XmppLink,
    ready: Ready,
    (hop, tls): (HopId, Option<ClientTls>),
    by: Instant,
) -> Result<(), Unproven> {
    let side = ready.side;
    let (said, mut outcome) = oneshot::channel();
    let start = Start::Opened { hop, tls, direct: ready.direct, said };
    let edge = Arc::clone(edge);
    let task = tokio::spawn(async move {
        let Some(_alive) = edge.alive() else { return };
        run(edge, machine, ready.stream, side, ready.at, start).await;
    });
    let ended = || Err(Unproven { cause: "the edge is stopping".to_owned(), by_another: false });
    match timeout_at(by, &mut outcome).await {
        Ok(outcome) => outcome.unwrap_or_else(|_| ended()),
        Err(_) => {
            // It may have been proven just now; from here on it can't be.
            outcome.close();
            outcome.try_recv().unwrap_or_else(|_| {
                task.abort();
                Err(Unproven { cause: "nothing was proven in its share of the time".to_owned(), by_another: false })
            })
        }
    }
}

/// `next_hop`, with STARTTLS; else both SRV names, mixed (XEP-0368 §3); else the domain's own addresses (RFC 6120 §3.2.2), unless it says that there
/// is no such service.
async fn ways(
    edge: &Edge,
    find: &Domain,
    to: &Domain,
    next_hop: Option<HostPort>,
    attempts: &mut Vec<String>,
) -> Result<Vec<Way>, String> {
    if let Some(HostPort { host, port }) = next_hop {
        return Ok(vec![Way { at: Candidate { host, port, typed: true }, direct: false }]);
    }
    let live = edge.live.load_full();
    let names = [format!("_xmpp-server._tcp.{find}"), format!("_xmpps-server._tcp.{find}")];
    let look = async |name: &str| match timeout(LOOKUP, live.resolver.services(name)).await {
        Ok(found) => found,
        Err(_) => Err(NotFound::Failed(format!("DNS {name}: no answer within {LOOKUP:?}"))),
    };
    // A partner that may not use TLS is not asked for it.
    let entry = live.settings.policy.partner_for(to, Protocol::Xmpp).map(|id| live.settings.policy.partner(id).tls);
    let (starttls, direct) = match entry {
        Some(TlsMode::Off) => (look(&names[0]).await, Ok(Vec::new())),
        _ => tokio::join!(look(&names[0]), look(&names[1])),
    };
    let tagged = |found: &Result<Vec<Srv>, NotFound>, direct: bool| {
        let records = found.as_ref().map(Vec::as_slice).unwrap_or_default();
        records.iter().map(|record| (record.clone(), direct)).collect::<Vec<_>>()
    };
    let mixed = resolve::order([tagged(&starttls, false), tagged(&direct, true)].concat(), |(record, _)| record);
    if !mixed.is_empty() {
        // What was found is tried; what could not be asked is told, should that come to nothing.
        attempts.extend([&starttls, &direct].into_iter().filter_map(|found| match found {
            Err(NotFound::Failed(error)) => Some(error.clone()),
            Ok(_) | Err(NotFound::NotOffered(_)) => None,
        }));
        let way = |(record, direct)| Way { at: super::candidate(record), direct };
        return Ok(mixed.into_iter().map(way).collect());
    }
    match (starttls, direct) {
        // Nothing was said of STARTTLS: that there is no direct TLS rules nothing else out.
        (Ok(_), Ok(_) | Err(NotFound::NotOffered(_))) => {}
        (Err(error), Ok(_) | Err(NotFound::NotOffered(_))) | (_, Err(error)) => return Err(error.to_string()),
    }
    match timeout(LOOKUP, live.resolver.addresses(find.as_str())).await {
        Ok(Ok(_)) => {
            let at = Candidate { host: find.as_str().to_owned(), port: PORT, typed: false };
            Ok(vec![Way { at, direct: false }])
        }
        Ok(Err(error)) => {
            Err(format!("DNS has neither {} nor {}, and {error}; set next_hop to reach it without", names[0], names[1]))
        }
        Err(_) => Err(format!("DNS {find}: no answer within {LOOKUP:?}")),
    }
}

pub(super) async fn to_node(
    edge: &Arc<Edge>,
    hop: HopId,
    node: String,
    address: HostPort,
    (from, to): (Domain, Domain),
) -> Result<(), Failure> {
    let give_up = Instant::now() + DIAL;
    let (socket, at) = connect_to(edge, address, give_up).await?;
    let live = edge.live.load_full();
    let tls = ClientTls { name: tls_name(&live.settings.nodes, &node, &to), config: live.tls.to_xmpp_node(&from)? };
    let settings = live.xmpp();
    drop(live);
    let machine = XmppLink::open(settings, Aim::Node(node), from, to, false, rand::random(), edge.clock.now());
    let ready = Ready { side: Side::Inside, stream: Stream::Plain(socket), at, direct: None };
    proven_or_named(at, stand(edge, machine, ready, (hop, Some(tls)), by_itself(edge)).await)
}

/// XEP-0114: in the clear, as its servers have it.
pub(super) async fn to_component_port(
    edge: &Arc<Edge>,
    hop: HopId,
    node: String,
    address: HostPort,
    domain: Domain,
) -> Result<(), Failure> {
    let live = edge.live.load_full();
    let of_node = live.settings.nodes.iter().find(|other| other.name == node);
    let Some(component) = of_node.and_then(|node| node.component.as_ref()) else {
        return Err(Failure::from(format!("node {node} takes no components any more")));
    };
    let (secret, settings) = (component.secret.clone(), live.xmpp());
    drop(live);
    let (socket, at) = connect_to(edge, address, Instant::now() + DIAL).await?;
    let machine = XmppLink::component(settings, node, domain, secret, rand::random(), edge.clock.now());
    let ready = Ready { side: Side::Inside, stream: Stream::Plain(socket), at, direct: None };
    proven_or_named(at, stand(edge, machine, ready, (hop, None), by_itself(edge)).await)
}

/// There is one place where a node can be: its stream has all the time that negotiation may take, and ends it by itself.
fn by_itself(edge: &Edge) -> Instant {
    Instant::now() + edge.live.load().settings.limits.negotiation * 2
}

fn proven_or_named(at: SocketAddr, outcome: Result<(), Unproven>) -> Result<(), Failure> {
    outcome.map_err(|Unproven { cause, by_another }| Failure {
        attempts: vec![format!("{at}: {cause}")],
        unproven: by_another,
    })
}

/// The first address of a node that answers.
async fn connect_to(
    edge: &Edge,
    HostPort { host, port }: HostPort,
    by: Instant,
) -> Result<(TcpStream, SocketAddr), Failure> {
    let candidate = Candidate { host, port, typed: true };
    let mut failure = Failure::default();
    let mut found = interleave(addresses(edge, &candidate, &mut failure.attempts).await, port);
    race(&candidate.host, &mut found, by, &mut failure.attempts).await.ok_or(failure)
}

/// The name that a node's certificate carries: typed, else the domain it serves.
fn tls_name(nodes: &[Node], node: &str, domain: &Domain) -> String {
    let typed = nodes.iter().find(|other| other.name == node).and_then(|node| node.tls_name.clone());
    typed.unwrap_or_else(|| domain.as_str().to_owned())
}

/// Asks the authoritative server of the originating domain whether a key is its own: an inside node of that domain, or (outside) the server
/// of the partner's entry, else that DNS names (XEP-0220 §2.3).
pub async fn verify(edge: Arc<Edge>, side: Side, request: VerifyRequest) -> Verdict {
    let asked = async {
        match side {
            Side::Inside => ask_node(&edge, &request).await,
            Side::Outside => ask_partner(&edge, &request).await,
        }
    };
    let outcome = timeout(VERIFY + LEAST, asked).await;
    let outcome = outcome.unwrap_or_else(|_| Err(Failure::from(format!("no answer within {VERIFY:?}"))));
    outcome.unwrap_or_else(|Failure { attempts, .. }| {
        let cause = attempts.join("; ");
        tracing::warn!(originating = %request.originating, receiving = %request.receiving, cause, "dialback key could not be verified");
        Verdict::Error
    })
}

/// The first node of the domain that has an answer.
async fn ask_node(edge: &Arc<Edge>, request: &VerifyRequest) -> Result<Verdict, Failure> {
    let give_up = Instant::now() + VERIFY;
    let domain = &request.originating;
    let live = edge.live.load_full();
    let of_domain = |node: &&Node| node.protocol == NodeProtocol::Xmpp && node.domains.contains(domain);
    let mut nodes: Vec<&Node> = live.settings.nodes.iter().filter(of_domain).collect();
    nodes.sort_by_key(|node| node.priority);
    if nodes.is_empty() {
        return Err(Failure::from(format!("no XMPP node serves {domain}")));
    }
    let mut failure = Failure::default();
    for (index, node) in nodes.iter().enumerate() {
        let by = share(give_up, nodes.len() - index).min(give_up);
        let (socket, at) = match connect_to(edge, node.address.clone(), by).await {
            Ok(reached) => reached,
            Err(Failure { attempts, .. }) => {
                failure.attempts.extend(attempts);
                continue;
            }
        };
        let name = tls_name(&live.settings.nodes, &node.name, domain);
        let tls = ClientTls { name, config: live.tls.to_xmpp_node(&request.receiving)? };
        let ready = Ready { side: Side::Inside, stream: Stream::Plain(socket), at, direct: None };
        match ask(edge, request, ready, tls, by).await {
            Ok(verdict) => return Ok(verdict),
            Err(Unproven { cause, .. }) => failure.attempts.push(format!("{at}: {cause}")),
        }
    }
    Err(failure)
}

async fn ask_partner(edge: &Arc<Edge>, request: &VerifyRequest) -> Result<Verdict, Failure> {
    let give_up = Instant::now() + VERIFY;
    let domain = &request.originating;
    let live = edge.live.load_full();
    let Some((find, next_hop)) = live.settings.policy.way_to(domain, Protocol::Xmpp) else {
        return Err(Failure::from(format!("{domain} is no partner")));
    };
    let identity = live.settings.identities.iter().position(|own| own.domains.contains(&request.receiving));
    drop(live);
    let mut failure = Failure::default();
    let ways = ways(edge, &find, domain, next_hop, &mut failure.attempts).await?;
    let answer = each(edge, &ways, Errand::Ask(request), identity.unwrap_or(0), (give_up, failure)).await?;
    Ok(answer.unwrap_or(Verdict::Error))
}

/// Puts the question on a stream of its own. An answer that is none (`type='error'`) leaves it to be put elsewhere.
async fn ask(
    edge: &Arc<Edge>,
    request: &VerifyRequest,
    ready: Ready,
    tls: ClientTls,
    by: Instant,
) -> Result<Verdict, Unproven> {
    let settings = edge.live.load().xmpp();
    let is_direct = ready.direct.is_some();
    let machine = XmppLink::verify(settings, ready.side, request.clone(), is_direct, rand::random(), edge.clock.now());
    let start = Start::Verify { tls, direct: ready.direct };
    let end = timeout_at(by, run(Arc::clone(edge), machine, ready.stream, ready.side, ready.at, start)).await;
    let unproven = |cause| Err(Unproven { cause, by_another: false });
    match end {
        Ok(end) => match end.verdict {
            Some(verdict @ (Verdict::Valid | Verdict::Invalid)) => Ok(verdict),
            Some(Verdict::Error) | None => unproven(end.cause),
        },
        Err(_) => unproven("no answer in its share of the time".to_owned()),
    }
}

#[cfg(test)]
mod tests;
