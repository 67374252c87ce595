//! Connections that we open: to partners, to nodes, and to have dialback keys verified. Every address is tried, and a failure names each of
//! them with what it said. Here those over SIP; over XMPP in [`xmpp`].

mod race;
mod xmpp;

pub use xmpp::verify;

use super::edge::Edge;
use super::link::{self, Stream, sip};
use super::resolve::NotFound;
use super::settings::Srv;
use super::tls::Refusal;
use crate::gate::partner::{HostPort, Identity, LinkId, Protocol, Side, TrustId};
use crate::gate::peer::{Facts, Opened, attribute, nodes};
use crate::gate::{HopId, Input, Target};
use crate::wire::address::Domain;
use crate::wire::certificate::Chain;
use rustls::ClientConfig;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};

/// For one address to answer.
const CONNECT: Duration = Duration::from_secs(5);
/// For a hop as a whole, so that its waiting requests are answered in time (RFC 4320). Each address gets its share, however the others hang.
const DIAL: Duration = Duration::from_secs(20);
/// The least share: nobody finishes a handshake in less.
const LEAST: Duration = Duration::from_secs(1);
/// For a name to be found before which nothing can be tried.
const LOOKUP: Duration = Duration::from_secs(4);
/// SIP over TLS where no SRV record says otherwise (RFC 3261 §19.1.2).
const SIPS: u16 = 5061;

/// Where to try, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Candidate {
    host: String,
    port: u16,
    typed: bool,
}

impl Candidate {
    /// Its host, if that is a name.
    fn name(&self) -> Option<String> {
        self.host.parse::<IpAddr>().is_err().then(|| self.host.clone())
    }
}

/// Why a hop came to nothing.
#[derive(Debug, Default)]
struct Failure {
    attempts: Vec<String>,
    /// Whether somebody was there who is not the partner.
    unproven: bool,
}

impl From<String> for Failure {
    fn from(cause: String) -> Self {
        Self { attempts: vec![cause], unproven: false }
    }
}

/// Opens what the gate asked for, or tells it why not.
pub async fn dial(edge: Arc<Edge>, hop: HopId, target: Target) {
    let outcome = match target {
        Target::SipPartner { domain, next_hop, identity, avoid } => {
            to_sip_partner(&edge, hop, &domain, next_hop, (identity, &avoid)).await
        }
        Target::SipNode { node: _, address: HostPort { host, port }, tls_name } => {
            let candidates = [Candidate { host, port, typed: true }];
            let far = Far::Node { tls_name: tls_name.as_deref() };
            to_sip(&edge, hop, &candidates, far, &[], Instant::now() + DIAL).await
        }
        Target::XmppPartner { find, next_hop, from, to, identity } => {
            xmpp::to_partner(&edge, hop, xmpp::Partner { find, next_hop, from, to, identity }).await
        }
        Target::XmppNode { node, address, from, to } => xmpp::to_node(&edge, hop, node, address, (from, to)).await,
        Target::XmppComponent { node, address, domain } => {
            xmpp::to_component_port(&edge, hop, node, address, domain).await
        }
    };
    if let Err(Failure { attempts, unproven }) = outcome {
        let _ = edge.input(Input::Unreachable { hop, cause: attempts.join("; "), unproven }).await;
    }
}

async fn to_sip_partner(
    edge: &Arc<Edge>,
    hop: HopId,
    domain: &Domain,
    next_hop: Option<HostPort>,
    (identity, avoid): (usize, &[SocketAddr]),
) -> Result<(), Failure> {
    let give_up = Instant::now() + DIAL;
    let candidates = sip_candidates(edge, domain, next_hop).await?;
    to_sip(edge, hop, &candidates, Far::Partner { domain, identity }, avoid, give_up).await
}

/// Whom a SIP connection is to reach.
#[derive(Clone, Copy, Debug)]
enum Far<'a> {
    /// A partner, for its domain, in the name of an identity of ours.
    Partner { domain: &'a Domain, identity: usize },
    /// An inside node whose certificate must carry this name; `None`: in the clear.
    Node { tls_name: Option<&'a str> },
}

impl Far<'_> {
    fn side(self) -> Side {
        match self {
            Far::Partner { .. } => Side::Outside,
            Far::Node { .. } => Side::Inside,
        }
    }
}

/// Tries every address of every candidate, each for its share of the time; those to be avoided last.
async fn to_sip(
    edge: &Arc<Edge>,
    hop: HopId,
    candidates: &[Candidate],
    far: Far<'_>,
    avoid: &[SocketAddr],
    give_up: Instant,
) -> Result<(), Failure> {
    let mut failure = Failure::default();
    let not_tried = |what: &str| format!("{what}: not tried, {DIAL:?} are over");
    let mut avoided = Vec::new();
    let mut known = 0;
    for (index, candidate) in candidates.iter().enumerate() {
        if Instant::now() >= give_up {
            failure.attempts.push(not_tried(&candidate.host));
            continue;
        }
        let by = share(give_up, candidates.len() - index);
        let found = timeout_at(by, addresses(edge, candidate, &mut failure.attempts)).await;
        let addresses = found.unwrap_or_else(|_| {
            failure.attempts.push(format!("DNS {}: no answer in time", candidate.host));
            Vec::new()
        });
        known += addresses.len();
        let others = known > 1 || index + 1 < candidates.len();
        for (index, address) in addresses.iter().enumerate() {
            let at = SocketAddr::new(*address, candidate.port);
            if avoid.contains(&at) {
                avoided.push((at, candidate));
                continue;
            }
            let by = share(by, addresses.len() - index).min(give_up);
            if Instant::now() >= give_up {
                failure.attempts.push(not_tried(&format!("{} {at}", candidate.host)));
                continue;
            }
            if reached(edge, hop, (at, candidate, others), far, by, &mut failure).await {
                return Ok(());
            }
        }
    }
    for (index, (at, candidate)) in avoided.iter().enumerate() {
        let by = share(give_up, avoided.len() - index);
        if reached(edge, hop, (*at, candidate, known > 1), far, by, &mut failure).await {
            return Ok(());
        }
    }
    Err(failure)
}

/// Tries one address; a link that came of it runs.
async fn reached(
    edge: &Arc<Edge>,
    hop: HopId,
    (at, candidate, others): (SocketAddr, &Candidate, bool),
    far: Far<'_>,
    by: Instant,
    failure: &mut Failure,
) -> bool {
    let attempt = timeout_at(by, try_sip(edge, at, candidate, far)).await;
    match attempt.unwrap_or_else(|_| Err(("no handshake in its share of the time".to_owned(), false))) {
        Ok((stream, chain)) => {
            let dialled = candidate.name().map(|host| (host, candidate.typed));
            let start = sip::Start {
                side: far.side(),
                peer: at,
                hop: Some(hop),
                door: None,
                dialled,
                others,
                chain,
                permit: None,
            };
            tokio::spawn(sip::run(Arc::clone(edge), stream, start));
            true
        }
        Err((cause, unproven)) => {
            failure.attempts.push(format!("{} {at}: {cause}", candidate.host));
            failure.unproven |= unproven;
            false
        }
    }
}

/// Until when the next of so many may take: what they leave unused is for those after them.
fn share(end: Instant, left: usize) -> Instant {
    let now = Instant::now();
    let left = u32::try_from(left).unwrap_or(u32::MAX).max(1);
    now + (end.saturating_duration_since(now) / left).max(LEAST)
}

/// Connects, and judges whom; the error is for people, with whether the other end failed to prove itself.
async fn try_sip(
    edge: &Arc<Edge>,
    at: SocketAddr,
    candidate: &Candidate,
    far: Far<'_>,
) -> Result<(Stream, Option<Arc<Chain>>), (String, bool)> {
    match far {
        Far::Partner { domain, identity } => try_partner(edge, at, candidate, domain, identity).await,
        Far::Node { tls_name: Some(name) } => try_node(edge, at, name).await,
        Far::Node { tls_name: None } => {
            let socket = connect(at).await.map_err(|cause| (cause, false))?;
            Ok((Stream::Plain(socket), None))
        }
    }
}

/// To a node over TLS: it is the host of that name, by `[inside] trust`, or nobody.
async fn try_node(
    edge: &Arc<Edge>,
    at: SocketAddr,
    name: &str,
) -> Result<(Stream, Option<Arc<Chain>>), (String, bool)> {
    let live = edge.live.load_full();
    let socket = connect(at).await.map_err(|cause| (cause, false))?;
    let (config, refusal) = live.tls.to_sip_node().map_err(|cause| (cause, false))?;
    let (mut stream, chain) = shake(edge, socket, config, &refusal, name).await?;
    let verdict = match &chain {
        Some(chain) => nodes::speaks_as(chain, &live.settings.inside_trust, name, edge.clock.now()),
        None => Err("it showed no certificate".to_owned()),
    };
    match verdict {
        Ok(()) => Ok((stream, chain)),
        Err(cause) => {
            tokio::spawn(timeout_at(Instant::now() + LEAST, async move { stream.shutdown().await }));
            Err((cause, true))
        }
    }
}

/// A handshake as client; a refusal of ours counts as the other end's failure to prove itself.
async fn shake(
    edge: &Edge,
    socket: TcpStream,
    config: Arc<ClientConfig>,
    refusal: &Refusal,
    name: &str,
) -> Result<(Stream, Option<Arc<Chain>>), (String, bool)> {
    let begun = Instant::now();
    let within = edge.live.load().settings.limits.handshake;
    match link::connect(socket, config, name, within).await {
        Ok(done) => {
            edge.telemetry.metrics.handshake(begun.elapsed());
            Ok(done)
        }
        Err(failure) => Err(refusal.take().map_or_else(|| (failure.to_string(), false), |words| (words, true))),
    }
}

/// Connects, and judges whom: one target that is not the partner is no reason to leave the others out.
async fn try_partner(
    edge: &Arc<Edge>,
    at: SocketAddr,
    candidate: &Candidate,
    domain: &Domain,
    identity: usize,
) -> Result<(Stream, Option<Arc<Chain>>), (String, bool)> {
    let live = edge.live.load_full();
    let policy = &live.settings.policy;
    let partner = policy.partner_for(domain, Protocol::Sip).map(|id| policy.partner(id));
    let trust = partner.map_or(TrustId(0), |partner| partner.trust);
    // RFC 5922 §7.8: SNI asks for the domain's certificate; whoever is known by its host's name is asked by that.
    let by_domain = partner.is_none_or(|partner| partner.identity == Identity::Domain);
    let host = candidate.name();
    let name = host.as_deref().filter(|_| !by_domain).unwrap_or(domain.as_str());

    let socket = connect(at).await.map_err(|cause| (cause, false))?;
    let (config, refusal) = live.tls.to_sip_partner(identity, trust).map_err(|cause| (cause, false))?;
    let (mut stream, chain) = shake(edge, socket, config, &refusal, name).await?;
    // The gate judges by the same, again, before it sends a byte.
    let opened = Opened::ByUs { domain: domain.clone(), host, typed: candidate.typed };
    let facts = Facts::Sip { chain: chain.as_deref(), opened: &opened };
    let no_link = LinkId(0);
    match attribute(no_link, facts, domain, policy, &live.settings.trust, edge.clock.now()) {
        Ok(_) => Ok((stream, chain)),
        Err(reject) => {
            tokio::spawn(timeout_at(Instant::now() + LEAST, async move { stream.shutdown().await }));
            Err((reject.detail, true))
        }
    }
}

/// `next_hop`; else Microsoft's SRV name, else RFC 3263's for TLS, else the domain's own addresses (RFC 3263 §4.2). Static records come first
/// in all of them. A name that decidedly offers no service (RFC 2782) leaves the next SRV name to be asked, but no guess.
async fn sip_candidates(edge: &Edge, domain: &Domain, next_hop: Option<HostPort>) -> Result<Vec<Candidate>, String> {
    if let Some(HostPort { host, port }) = next_hop {
        return Ok(vec![Candidate { host, port, typed: true }]);
    }
    let live = edge.live.load_full();
    let names = [format!("_sipfederationtls._tcp.{domain}"), format!("_sips._tcp.{domain}")];
    let mut not_offered = None;
    for name in &names {
        match timeout(LOOKUP, live.resolver.srv(name)).await {
            Ok(Ok(found)) if found.is_empty() => {}
            Ok(Ok(found)) => return Ok(found.into_iter().map(candidate).collect()),
            Ok(Err(error @ NotFound::NotOffered(_))) => not_offered = Some(error.to_string()),
            Ok(Err(error)) => return Err(error.to_string()),
            Err(_) => return Err(format!("DNS {name}: no answer within {LOOKUP:?}")),
        }
    }
    if let Some(error) = not_offered {
        return Err(error);
    }
    match timeout(LOOKUP, live.resolver.addresses(domain.as_str())).await {
        Ok(Ok(_)) => Ok(vec![Candidate { host: domain.as_str().to_owned(), port: SIPS, typed: false }]),
        Ok(Err(error)) => {
            Err(format!("DNS has neither {} nor {}, and {error}; set next_hop to reach it without", names[0], names[1]))
        }
        Err(_) => Err(format!("DNS {domain}: no answer within {LOOKUP:?}")),
    }
}

fn candidate(srv: Srv) -> Candidate {
    Candidate { host: srv.target, port: srv.port, typed: false }
}

async fn addresses(edge: &Edge, candidate: &Candidate, attempts: &mut Vec<String>) -> Vec<IpAddr> {
    match edge.live.load_full().resolver.addresses(&candidate.host).await {
        Ok(addresses) => addresses,
        Err(error) => {
            attempts.push(error.to_string());
            Vec::new()
        }
    }
}

async fn connect(at: SocketAddr) -> Result<TcpStream, String> {
    match timeout(CONNECT, TcpStream::connect(at)).await {
        Ok(Ok(socket)) => {
            super::listen::tune(&socket);
            Ok(socket)
        }
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {CONNECT:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::edge::{Arrival, for_tests};
    use crate::io::settings::Dns;
    use tokio::net::TcpListener;

    /// What the gate is told when a partner is not reached, and whether somebody else was there.
    async fn failure(dns: Dns, next_hop: Option<HostPort>) -> (String, bool) {
        let (edge, mut arrivals, _gone) = for_tests(dns);
        let domain = Domain::parse("lync.example").unwrap();
        dial(edge, HopId(7), Target::SipPartner { domain, next_hop, identity: 0, avoid: Vec::new() }).await;
        match arrivals.recv().await {
            Some(Arrival::Input(input)) => match *input {
                Input::Unreachable { hop: HopId(7), cause, unproven } => (cause, unproven),
                other => panic!("{other:?}"),
            },
            _ => panic!("no input"),
        }
    }

    fn srv(target: &str, port: u16, priority: u16) -> Srv {
        Srv { target: target.to_owned(), port, priority, weight: 0 }
    }

    #[tokio::test]
    async fn a_failure_names_every_address_and_what_it_said() {
        // A port that nobody listens on, and one whose owner speaks no TLS.
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mute_port = mute.local_addr().unwrap().port();
        tokio::spawn(async move { while mute.accept().await.is_ok() {} });
        let mut dns = Dns { servers: vec!["127.0.0.1:1".parse().unwrap()], ..Dns::default() };
        dns.srv.insert(
            "_sipfederationtls._tcp.lync.example".to_owned(),
            vec![srv("second.lync.example", mute_port, 20), srv("first.lync.example", closed, 10)],
        );
        let here = "127.0.0.1".parse().unwrap();
        dns.hosts.insert("first.lync.example".to_owned(), vec!["127.0.0.2".parse().unwrap(), here]);
        dns.hosts.insert("second.lync.example".to_owned(), vec![here]);
        let (cause, unproven) = failure(dns, None).await;
        assert!(!unproven, "nobody was there to prove anything");
        let parts: Vec<&str> = cause.split("; ").collect();
        assert_eq!(parts.len(), 3, "{cause}");
        assert!(parts[0].starts_with(&format!("first.lync.example 127.0.0.2:{closed}: ")), "{cause}");
        assert!(parts[1].starts_with(&format!("first.lync.example 127.0.0.1:{closed}: ")), "{cause}");
        assert!(parts[1].contains("refused"), "{cause}");
        assert!(parts[2].starts_with(&format!("second.lync.example 127.0.0.1:{mute_port}: TLS")), "{cause}");
    }

    #[tokio::test]
    async fn a_typed_next_hop_asks_no_dns() {
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        let next_hop = HostPort { host: "127.0.0.1".to_owned(), port: closed };
        let dns = Dns { servers: vec!["127.0.0.1:1".parse().unwrap()], ..Dns::default() };
        let (cause, _) = failure(dns, Some(next_hop)).await;
        assert!(cause.starts_with(&format!("127.0.0.1 127.0.0.1:{closed}: ")) && !cause.contains("DNS"), "{cause}");
    }

    #[tokio::test]
    async fn an_untrusted_certificate_is_named() {
        use tokio_rustls::TlsAcceptor;
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = server.local_addr().unwrap().port();
        let (other, _arrivals, _gone) = for_tests(Dns::default());
        tokio::spawn(async move {
            while let Ok((socket, _)) = server.accept().await {
                let _ = TlsAcceptor::from(other.live.load().tls.streams(None)).accept(socket).await;
            }
        });
        let (cause, unproven) = failure(Dns::default(), Some(HostPort { host: "127.0.0.1".to_owned(), port })).await;
        assert!(unproven, "somebody was");
        assert!(cause.contains("the peer's certificate (sip.corp.example;"), "{cause}");
        assert!(cause.contains("[tls] trust is empty"), "{cause}");
    }

    /// What the gate is told of a SIP node that is dialled, by an edge that trusts `trusted` inside.
    async fn node(dns: Dns, trusted: Option<&Edge>, host: &str, port: u16, name: Option<&str>) -> Input {
        let (edge, mut arrivals, _gone) = for_tests(dns);
        if let Some(trusted) = trusted {
            let mut settings = edge.live.load().settings.clone();
            let anchors = &trusted.live.load().settings.identities[0].key.cert.clone();
            settings.inside_trust = Arc::new(crate::gate::peer::TrustSet::new(anchors, &[]).unwrap());
            edge.live.store(Arc::new(crate::io::edge::Live::build(settings).unwrap()));
        }
        let address = HostPort { host: host.to_owned(), port };
        let target = Target::SipNode { node: "imp-1".to_owned(), address, tls_name: name.map(str::to_owned) };
        dial(edge, HopId(7), target).await;
        loop {
            match arrivals.recv().await.expect("an input") {
                Arrival::Input(input) => return *input,
                Arrival::Linked(..) => {}
                _ => panic!("nothing else comes"),
            }
        }
    }

    /// Takes connections as the holder of the certificate for sip.corp.example that an edge for tests has.
    async fn holder() -> (Arc<Edge>, u16) {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = server.local_addr().unwrap().port();
        let (edge, _arrivals, _gone) = for_tests(Dns::default());
        let config = edge.live.load().tls.streams(None);
        tokio::spawn(async move {
            while let Ok((socket, _)) = server.accept().await {
                let _ = tokio_rustls::TlsAcceptor::from(Arc::clone(&config)).accept(socket).await;
            }
        });
        (edge, port)
    }

    fn proven(input: Input) -> (Side, SocketAddr, bool) {
        match input {
            Input::Proven(proven) => {
                let crate::gate::Proof::Sip { chain, .. } = proven.proof else { panic!("not over SIP") };
                assert_eq!((proven.hop, proven.door), (Some(HopId(7)), None));
                (proven.side, proven.peer, chain.is_some())
            }
            other => panic!("{other:?}"),
        }
    }

    fn unreachable(input: Input) -> (String, bool) {
        match input {
            Input::Unreachable { hop: HopId(7), cause, unproven } => (cause, unproven),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_node_in_the_clear_is_reached_at_any_of_its_addresses() {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = server.local_addr().unwrap();
        let mut dns = Dns::default();
        let addresses = ["127.0.0.2".parse().unwrap(), at.ip()];
        dns.hosts.insert("imp.corp.example".to_owned(), addresses.to_vec());
        let input = node(dns.clone(), None, "imp.corp.example", at.port(), None).await;
        assert_eq!(proven(input), (Side::Inside, at, false));
        drop(server);
        let (cause, unproven) = unreachable(node(dns, None, "imp.corp.example", at.port(), None).await);
        assert!(!unproven, "nobody was there to prove anything");
        let parts: Vec<&str> = cause.split("; ").collect();
        assert_eq!(parts.len(), 2, "{cause}");
        for (part, ip) in parts.iter().zip(addresses) {
            assert!(part.starts_with(&format!("imp.corp.example {ip}:{}: ", at.port())), "{cause}");
        }
    }

    #[tokio::test]
    async fn a_node_over_tls_is_the_host_of_its_name() {
        let (holder, port) = holder().await;
        let dns = Dns::default;
        for name in ["sip.corp.example", "SIP.corp.example"] {
            let input = node(dns(), Some(&holder), "127.0.0.1", port, Some(name)).await;
            let (side, at, has_chain) = proven(input);
            assert_eq!((side, at.port(), has_chain), (Side::Inside, port, true), "{name}");
        }
        for name in ["imp.corp.example", "corp.example"] {
            let (cause, unproven) = unreachable(node(dns(), Some(&holder), "127.0.0.1", port, Some(name)).await);
            assert!(unproven && cause.contains(&format!("does not carry the DNS name {name}")), "{cause}");
        }
    }

    #[tokio::test]
    async fn a_node_over_tls_counts_by_inside_trust_alone() {
        let (holder, port) = holder().await;
        let name = Some("sip.corp.example");
        let (cause, unproven) = unreachable(node(Dns::default(), None, "127.0.0.1", port, name).await);
        assert!(unproven && cause.contains("[inside] trust is empty"), "{cause}");
        let (another, _arrivals, _gone) = for_tests(Dns::default());
        let (cause, unproven) = unreachable(node(Dns::default(), Some(&another), "127.0.0.1", port, name).await);
        assert!(unproven && cause.contains("does not count"), "{cause}");
        drop(holder);
    }
}
