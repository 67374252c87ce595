//! Builds everything once, runs it, drains it.

use crate::config;
use crate::gate::partner::{HostPort, LocalIdentity, Node};
use crate::gate::{Gate, Time};
use crate::io::admin::socket::SocketFile;
use crate::io::core::Core;
use crate::io::edge::{Arrival, Live};
use crate::io::issuer::Authority;
use crate::io::listen::{self, Doorstep, Kind};
use crate::io::resolve::{Resolver, our_address_towards};
use crate::io::settings::Listeners;
use crate::io::store::{Embedded, Store};
use crate::io::telemetry::Telemetry;
use crate::io::{self, Clock, Edge, Phase};
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;

pub use crate::io::settings::{Load, Loaded};

/// How often quiet address blocks are forgotten.
const SWEEP: Duration = Duration::from_secs(10);

/// A running edge.
pub struct Running {
    edge: Arc<Edge>,
    core: JoinHandle<()>,
    /// Where it listens, ports filled in.
    pub listening: Vec<(Kind, SocketAddr)>,
    /// Where the admin listener is.
    pub admin: Option<SocketAddr>,
    /// Goes with us, so that who asks finds nobody.
    socket: Option<SocketFile>,
}

impl Running {
    /// Stops taking sessions, settles what is under way, closes.
    pub async fn drain(&self) {
        let _ = self.edge.tell(Arrival::Drain { last: false }).await;
    }
    /// Reads the configuration again; an invalid one changes nothing.
    pub async fn reload(&self) -> Result<(), String> {
        self.edge.reload().await
    }
    /// Until it has stopped.
    pub async fn wait(self) {
        let _ = self.core.await;
        self.edge.telemetry.finish();
        if let Some(keeper) = self.edge.keeper.get()
            && let Err(error) = keeper.stop().await
        {
            tracing::error!(error, "stopping without the last of the state written");
        }
        // Last: who waits for our end, looks here.
        drop(self.socket);
    }
    /// The first address of a listener of this kind.
    pub fn address(&self, kind: Kind) -> Option<SocketAddr> {
        self.listening.iter().find(|(other, _)| *other == kind).map(|(_, at)| *at)
    }
    /// What it records.
    pub fn telemetry(&self) -> &Telemetry {
        &self.edge.telemetry
    }
}

/// Starts an edge on the current runtime. `load` is for reloads.
pub async fn start(mut loaded: Loaded, load: Option<Load>) -> Result<Running, String> {
    let clock = Clock::start();
    loaded.tell();
    let store = open(loaded.io.state.as_deref())?;
    let labels = loaded.io.labels();
    let telemetry = Telemetry::start(clock, loaded.io.audit.clone(), labels)?;
    loaded.io.describe(&telemetry);
    let listeners = listen::bind(&loaded.io.listeners)?;
    let ports = FreePorts::of(&listeners);
    ports.name(&mut loaded.gate.identities, &mut loaded.gate.nodes);
    let load = load.map(|load| -> Load {
        Arc::new(move || {
            let mut loaded = load()?;
            ports.name(&mut loaded.gate.identities, &mut loaded.gate.nodes);
            Ok(loaded)
        })
    });
    let admin = loaded.io.admin.listen.map(io::admin::bind).transpose()?;
    let socket = match &loaded.io.admin.socket {
        Some(path) => Some(io::admin::socket::bind(path).await.map_err(|error| format!("[admin] socket {error}"))?),
        None => None,
    };
    let (edge, arrivals, gone) = Edge::new(clock, Live::build(loaded.io)?, telemetry);
    let gate = Gate::new(loaded.gate, rand::random(), clock.now());
    let core = Core::new(Arc::clone(&edge), gate, store, load)?;

    let mut listening = Vec::new();
    let doorstep = Arc::new(Doorstep::default());
    for (kind, listener) in listeners {
        let at = listener.local_addr().map_err(|error| error.to_string())?;
        listening.push((kind, at));
        tokio::spawn(listen::serve(Arc::clone(&edge), Arc::clone(&doorstep), kind, listener));
    }
    let admin = match admin {
        Some(listener) => {
            let at = listener.local_addr().map_err(|error| error.to_string())?;
            tokio::spawn(io::admin::serve(Arc::clone(&edge), listener));
            Some(at)
        }
        None => None,
    };
    let socket = socket.map(|(listener, file)| {
        tokio::spawn(io::admin::serve_socket(Arc::clone(&edge), listener));
        file
    });
    tokio::spawn(async move {
        let mut tick = tokio::time::interval(SWEEP);
        loop {
            tick.tick().await;
            doorstep.sweep();
        }
    });
    let core = tokio::spawn(core.run(arrivals, gone));
    edge.phase.send_replace(Phase::Ready);
    Ok(Running { edge, core, listening, admin, socket })
}

/// What is kept of earlier runs. A store that can't be used stops the start: without it, what was promised would be broken in silence.
fn open(state: Option<&Path>) -> Result<Option<Box<dyn Store>>, String> {
    let Some(path) = state else { return Ok(None) };
    let is_new = path.try_exists().is_ok_and(|exists| !exists);
    let store = Embedded::open(path).map_err(|error| format!("[state] {error}"))?;
    if is_new {
        // Right at a first start; else the folder is not mounted, or the path another.
        let path = path.display();
        tracing::warn!("no state store at {path}: a new one is made; what an edge kept elsewhere is not known to it");
    }
    Ok(Some(Box::new(store)))
}

/// What listeners with port 0, which take whatever port is free, came to: what we write of ourselves must name that one.
#[derive(Clone, Debug)]
struct FreePorts {
    /// The first of `[outside] sip`.
    outside: Option<u16>,
    /// Those of `[inside] sip`, and whether they speak TLS.
    inside: Vec<(bool, SocketAddr)>,
}

impl FreePorts {
    fn of(listeners: &[(Kind, tokio::net::TcpListener)]) -> Self {
        let of_kind = |wanted: Kind| {
            let of_kind = listeners.iter().filter(move |(kind, _)| *kind == wanted);
            of_kind.filter_map(|(_, listener)| listener.local_addr().ok())
        };
        let inside = of_kind(Kind::InsideSipTcp).map(|at| (false, at));
        Self {
            outside: of_kind(Kind::OutsideSip).next().map(|at| at.port()),
            inside: inside.chain(of_kind(Kind::InsideSipTls).map(|at| (true, at))).collect(),
        }
    }

    /// For Via, Contact and Record-Route.
    fn name(&self, identities: &mut [LocalIdentity], nodes: &mut [Node]) {
        if let Some(port) = self.outside {
            for identity in identities.iter_mut().filter(|identity| identity.sip_port == 0) {
                identity.sip_port = port;
            }
        }
        for facing in nodes.iter_mut().filter_map(|node| node.facing.as_mut()).filter(|facing| facing.at.port == 0) {
            let host = facing.at.host.parse::<IpAddr>();
            let is_it = |at: &SocketAddr| at.ip().is_unspecified() || host.as_ref() == Ok(&at.ip());
            if let Some((_, at)) = self.inside.iter().find(|(tls, at)| *tls == facing.tls && is_it(at)) {
                facing.at.port = at.port();
            }
        }
    }
}

/// Runs an edge until SIGTERM or SIGINT; SIGHUP reloads.
pub fn run(load: Load) -> Result<(), String> {
    // What is decided is decided by one task: with more workers than half of the cores, messages are only handed around between them.
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut builder = match cores / 2 {
        // One worker is no more than this thread, which then needs no locks and nobody to hand work to.
        0 | 1 => tokio::runtime::Builder::new_current_thread(),
        workers => {
            let mut builder = tokio::runtime::Builder::new_multi_thread();
            builder.worker_threads(workers);
            builder
        }
    };
    let runtime = builder.enable_all().build().map_err(|error| format!("no runtime: {error}"))?;
    let outcome = runtime.block_on(async {
        let first = Arc::clone(&load);
        let loaded = tokio::task::spawn_blocking(move || first())
            .await
            .map_err(|_| "reading the configuration panicked".to_owned())??;
        io::telemetry::log::start(loaded.io.log_json);
        let mut hangup = listen_for(SignalKind::hangup())?;
        let mut terminate = listen_for(SignalKind::terminate())?;
        let mut interrupt = listen_for(SignalKind::interrupt())?;
        let running = start(loaded, Some(load)).await?;
        for (kind, at) in &running.listening {
            tracing::info!(side = kind.side().as_str(), protocol = kind.protocol().as_str(), %at, "listening");
        }
        if let Some(at) = running.admin {
            tracing::info!(%at, "admin listener: http://{at}/");
        }
        if let Some(socket) = &running.socket {
            tracing::info!("admin socket: {}", socket.path().display());
        }
        let edge = Arc::clone(&running.edge);
        let signals = tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = hangup.recv() => {
                        // Success and failure are logged where they happen.
                        let _ = edge.reload().await;
                    }
                    _ = terminate.recv() => { let _ = edge.tell(Arrival::Drain { last: false }).await; }
                    _ = interrupt.recv() => { let _ = edge.tell(Arrival::Drain { last: false }).await; }
                }
            }
        });
        running.wait().await;
        signals.abort();
        Ok(())
    });
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
}

fn listen_for(kind: SignalKind) -> Result<tokio::signal::unix::Signal, String> {
    signal(kind).map_err(|error| format!("signals: {error}"))
}

/// Reads a configuration file, each time it is called; the policy's version grows with each success. To be called on a thread that may block.
pub fn loader(path: PathBuf) -> Load {
    let version = AtomicU64::new(1);
    Arc::new(move || {
        let now = Time::default() + SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let policy_version = version.load(Ordering::Relaxed);
        let report = config::load(&path, config::Options { policy_version, ..config::Options::start(now) });
        let lines = |severity| {
            let problems = report.problems.iter().filter(move |problem| problem.severity == severity);
            problems.map(ToString::to_string).collect::<Vec<_>>()
        };
        let notices = lines(config::Severity::Warning);
        let errors = lines(config::Severity::Error).join("\n");
        let Some(read) = report.loaded else { return Err(errors) };
        version.fetch_add(1, Ordering::Relaxed);
        Ok(Loaded::new(read, notices))
    })
}

impl Loaded {
    /// Looks up the nodes' addresses and hands each layer its part. Blocks.
    pub fn new(mut read: config::Loaded, mut notices: Vec<String>) -> Self {
        let dns = dns(&read.edge.dns);
        let resolver = Resolver::new(dns.clone());
        let runtime = Handle::try_current().ok();
        let addresses = |host: &str| match (host.parse(), &runtime) {
            (Ok(ip), _) => Ok(vec![ip]),
            (_, Some(runtime)) => runtime.block_on(resolver.addresses(host)).map_err(|error| error.to_string()),
            (_, None) => Err(format!("{host} is not looked up here")),
        };
        for node in std::mem::take(&mut read.unresolved) {
            match addresses(&node.host) {
                Ok(addresses) => read.resolve(node.node, &addresses),
                Err(error) => notices.push(format!(
                    "node {}: {error}; it can't be told from others when it connects until a reload finds it, or write its `sources`",
                    node.host
                )),
            }
        }
        for unfaced in std::mem::take(&mut read.unfaced) {
            let Some(node) = read.gate.nodes.get(unfaced.node.0 as usize) else { continue };
            let (name, HostPort { host, port }) = (node.name.clone(), node.address.clone());
            match addresses(&host).and_then(|found| our_address(&found, port, unfaced.listener.at.ip())) {
                Ok(ip) => read.face(&unfaced, ip),
                Err(error) => notices.push(format!(
                    "node {name}: which address of ours it reaches can't be told ({error}), so nothing is carried over SIP to or from it until \
                     a reload finds it, or write the address in [inside] sip"
                )),
            }
        }
        let config::Edge { identities, tls_minimum, outside, inside, issuer, admin, log, state, .. } = read.edge;
        let io = io::Settings {
            listeners: Listeners {
                doors: doors(&outside.sip, &read.gate.nodes),
                outside_sip: outside.sip,
                inside_sip_tcp: inside
                    .sip
                    .iter()
                    .filter(|listener| !listener.tls)
                    .map(|listener| listener.at)
                    .collect(),
                inside_sip_tls: inside.sip.iter().filter(|listener| listener.tls).map(|listener| listener.at).collect(),
                inside_xmpp: inside.xmpp,
                outside_xmpp: outside.xmpp,
                outside_xmpps: outside.xmpps,
            },
            inside_networks: inside.networks,
            proxy_protocol_from: outside.proxy_protocol_from,
            identities: identities
                .into_iter()
                .map(|identity| io::settings::Identity {
                    hostname: identity.local.hostname,
                    domains: identity.local.domains,
                    key: identity.material.certified,
                })
                .collect(),
            tls13_only: tls_minimum == config::edge::TlsVersion::V1_3,
            trust: Arc::clone(&read.gate.trust),
            inside_trust: Arc::clone(&read.gate.inside_trust),
            issuer: issuer.map(|config::material::Authority { chain, issuer }| Arc::new(Authority { chain, issuer })),
            policy: Arc::clone(&read.gate.policy),
            nodes: read.gate.nodes.clone(),
            dns,
            admin: io::settings::Admin { listen: admin.listen, socket: admin.socket, token: admin.token },
            log_json: log.format == config::edge::LogFormat::Json,
            audit: log.audit,
            state: match state {
                config::edge::State::Memory => None,
                config::edge::State::Embedded { path } => Some(path),
            },
            limits: read.gate.limits,
            xmpp: Arc::new(read.link),
        };
        Self { io, gate: read.gate, notices }
    }
}

/// Every `public_port` on every address of `[outside] sip`.
fn doors(outside: &[SocketAddr], nodes: &[Node]) -> Vec<SocketAddr> {
    let addresses: BTreeSet<IpAddr> = outside.iter().map(SocketAddr::ip).collect();
    let ports = nodes.iter().map(|node| node.public_port).filter(|port| *port != 0);
    ports.flat_map(|port| addresses.iter().map(move |ip| SocketAddr::new(*ip, port))).collect()
}

/// Our address as whoever is at one of these sees it, where it reaches a listener on all addresses of the family of `listener` (`[::]`: both).
fn our_address(far: &[IpAddr], port: u16, listener: IpAddr) -> Result<IpAddr, String> {
    let mut error = "it has no address of the listener's family".to_owned();
    for ip in far.iter().filter(|ip| listener.is_ipv6() || ip.is_ipv4()) {
        match our_address_towards(SocketAddr::new(*ip, port)) {
            Ok(ours) => return Ok(ours),
            Err(failed) => error = format!("{ip}: {failed}"),
        }
    }
    Err(error)
}

fn dns(read: &config::edge::Dns) -> io::settings::Dns {
    let srv = |service: &config::edge::Service| io::settings::Srv {
        target: service.target.clone(),
        port: service.port,
        priority: service.priority,
        weight: service.weight,
    };
    io::settings::Dns {
        servers: read.servers.clone(),
        srv: read.srv.iter().map(|(name, services)| (name.clone(), services.iter().map(srv).collect())).collect(),
        hosts: read.hosts.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::partner::Facing;

    #[tokio::test]
    async fn any_free_port_is_named_by_what_it_became() {
        let listener = listen::bind(&Listeners {
            inside_xmpp: vec!["127.0.0.1:0".parse().unwrap()],
            outside_sip: vec!["127.0.0.1:0".parse().unwrap()],
            ..Listeners::default()
        })
        .unwrap();
        let identity = |sip_port| LocalIdentity { hostname: "sip.corp.example".into(), sip_port, domains: Vec::new() };
        let mut identities = [identity(0), identity(5061)];
        FreePorts::of(&listener).name(&mut identities, &mut []);
        let outside = listener.iter().find(|(kind, _)| *kind == Kind::OutsideSip).unwrap();
        assert_eq!(identities[0].sip_port, outside.1.local_addr().unwrap().port());
        assert_eq!(identities[1].sip_port, 5061, "what was written stands");
    }

    #[tokio::test]
    async fn what_a_node_sees_of_a_free_port_is_what_it_became() {
        let listeners = listen::bind(&Listeners {
            inside_sip_tcp: vec!["127.0.0.2:0".parse().unwrap(), "127.0.0.3:0".parse().unwrap()],
            inside_sip_tls: vec!["0.0.0.0:0".parse().unwrap()],
            ..Listeners::default()
        })
        .unwrap();
        let ports: Vec<u16> = listeners.iter().map(|(_, listener)| listener.local_addr().unwrap().port()).collect();
        let node = |host: &str, port: u16, tls: bool| Node {
            facing: Some(Facing { at: HostPort { host: host.to_owned(), port }, tls }),
            ..sip_node("127.0.0.1:5070", 0)
        };
        let mut nodes = [node("127.0.0.3", 0, false), node("127.0.0.9", 0, true), node("127.0.0.3", 5062, false)];
        FreePorts::of(&listeners).name(&mut [], &mut nodes);
        let seen = nodes.map(|node| node.facing.unwrap().at.port);
        assert_eq!(seen, [ports[1], ports[2], 5062]);
    }

    /// A SIP node as written.
    fn sip_node(address: &str, public_port: u16) -> Node {
        let (host, port) = address.rsplit_once(':').unwrap();
        Node {
            name: format!("imp-{public_port}").into(),
            protocol: crate::gate::partner::NodeProtocol::Sip,
            address: HostPort { host: host.to_owned(), port: port.parse().unwrap() },
            tls_name: None,
            verify: crate::gate::partner::NodeProof::Network,
            sources: Vec::new(),
            domains: Vec::new(),
            users: vec!["*".to_owned()],
            routing: true,
            priority: 0,
            weight: 1,
            public_port,
            facing: None,
            profile: crate::gate::partner::Profile::Generic,
            component: None,
        }
    }

    #[test]
    fn a_door_stands_on_every_outside_address_once() {
        let outside = ["192.0.2.1:5061", "192.0.2.1:5062", "[2001:db8::1]:5061"].map(|at| at.parse().unwrap());
        let nodes = [sip_node("127.0.0.1:1", 0), sip_node("127.0.0.1:2", 5071), sip_node("127.0.0.1:3", 5072)];
        let expected = ["192.0.2.1:5071", "[2001:db8::1]:5071", "192.0.2.1:5072", "[2001:db8::1]:5072"];
        assert_eq!(doors(&outside, &nodes), expected.map(|at| at.parse().unwrap()));
    }

    #[test]
    fn our_address_is_the_one_on_the_way_there() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(our_address(&[ip("127.0.0.1")], 5070, ip("0.0.0.0")), Ok(ip("127.0.0.1")));
        assert_eq!(our_address(&[ip("::1"), ip("127.0.0.1")], 5070, ip("0.0.0.0")), Ok(ip("127.0.0.1")), "its family");
        assert!(our_address(&[ip("::1")], 5070, ip("0.0.0.0")).is_err());
        assert!(our_address(&[], 5070, ip("::")).is_err());
    }
}
