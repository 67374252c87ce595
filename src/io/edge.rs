//! What every task of io shares: the settings in force, the clock, telemetry, and the way to the gate.

use super::asking::Asking;
use super::clock::Clock;
use super::keeper::{Keeper, Word};
use super::orders::{self, Handle, Orders};
use super::resolve::Resolver;
use super::settings::Settings;
use super::telemetry::Telemetry;
use super::tls::Tls;
use crate::gate::partner::{LinkId, Protocol, Side};
use crate::gate::reject::{DecisionId, Reject};
use crate::gate::{Input, Snapshot, Time};
use crate::wire::sip;
use arc_swap::{ArcSwap, ArcSwapOption};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot, watch};

/// Inputs that may wait for the gate; beyond, links stop reading.
pub const INBOX: usize = 4_096;
/// The settings in force and what is built from them.
pub struct Live {
    /// As configured.
    pub settings: Settings,
    /// TLS configurations.
    pub tls: Tls,
    /// Name resolution.
    pub resolver: Resolver,
}

/// Shared by all tasks of io.
pub struct Edge {
    /// The gate's clock.
    pub clock: Clock,
    /// The settings in force.
    pub live: ArcSwap<Live>,
    /// Where events go.
    pub telemetry: Arc<Telemetry>,
    /// Starting, ready, draining.
    pub phase: watch::Sender<Phase>,
    /// What outlives this run, if anything does.
    pub keeper: OnceLock<Keeper>,
    /// Why nothing can be written down now.
    pub store_trouble: ArcSwapOption<String>,
    /// Dialback keys that are being verified.
    pub asking: Asking,
    inbox: mpsc::Sender<Arrival>,
    links: AtomicU64,
    alive: Mutex<Option<mpsc::Sender<()>>>,
}

/// Where in its life the edge is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Records are being restored, listeners opened.
    Starting,
    /// Taking connections.
    Ready,
    /// Refusing new ones, settling what is under way.
    Draining,
}

/// What reaches the loop.
pub enum Arrival {
    /// For the gate.
    Input(Box<Input>),
    /// For the gate: a whole SIP message, when its last byte was read. Most arrivals are, and it is small, so that it needs no box.
    Sip(LinkId, Time, sip::Message),
    /// A link exists; comes before its first input.
    Linked(LinkId, Handle),
    /// The admin listener asks for the gate's state.
    Snapshot(oneshot::Sender<Snapshot>),
    /// SIGHUP, or the admin listener; the answer is the error's text.
    Reload(oneshot::Sender<Result<(), String>>),
    /// New settings were read, or could not be.
    Loaded(Box<Result<super::settings::Loaded, String>>, oneshot::Sender<Result<(), String>>),
    /// SIGTERM, SIGINT, or the admin listener.
    Drain {
        /// Nobody goes on from what was kept.
        last: bool,
    },
    /// The store's thread.
    Stored(Word),
}

/// The loop is gone: the edge is stopping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopped;

impl Live {
    /// Builds what the settings ask for.
    pub fn build(settings: Settings) -> Result<Self, String> {
        Ok(Self { tls: Tls::build(&settings)?, resolver: Resolver::new(settings.dns.clone()), settings })
    }

    /// What stream negotiation needs.
    pub fn xmpp(&self) -> Arc<crate::gate::link::Settings> {
        Arc::clone(&self.settings.xmpp)
    }
}

impl Edge {
    /// With the receiver that the loop reads and the one that ends when the last link is gone.
    pub fn new(
        clock: Clock,
        live: Live,
        telemetry: Arc<Telemetry>,
    ) -> (Arc<Self>, mpsc::Receiver<Arrival>, mpsc::Receiver<()>) {
        let (inbox, arrivals) = mpsc::channel(INBOX);
        let (alive, gone) = mpsc::channel(1);
        let edge = Self {
            clock,
            live: ArcSwap::from_pointee(live),
            telemetry,
            phase: watch::Sender::new(Phase::Starting),
            keeper: OnceLock::new(),
            store_trouble: ArcSwapOption::empty(),
            asking: Asking::default(),
            inbox,
            links: AtomicU64::new(1),
            alive: Mutex::new(Some(alive)),
        };
        (Arc::new(edge), arrivals, gone)
    }

    /// To the loop; waits while it is busy, which is how a link stops reading.
    pub async fn tell(&self, arrival: Arrival) -> Result<(), Stopped> {
        self.inbox.send(arrival).await.map_err(|_| Stopped)
    }

    /// As [`tell`](Self::tell), from a thread of its own.
    pub fn tell_blocking(&self, arrival: Arrival) -> Result<(), Stopped> {
        self.inbox.blocking_send(arrival).map_err(|_| Stopped)
    }

    /// To the gate.
    pub async fn input(&self, input: Input) -> Result<(), Stopped> {
        self.tell(Arrival::Input(Box::new(input))).await
    }

    /// A SIP message to the gate; waits as [`tell`](Self::tell) does.
    pub async fn sip(&self, link: LinkId, at: Time, message: sip::Message) -> Result<(), Stopped> {
        // As waiting would: a link that brings much lets the others have their turn.
        tokio::task::consume_budget().await;
        match self.inbox.try_send(Arrival::Sip(link, at, message)) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(arrival)) => self.tell(arrival).await,
            Err(TrySendError::Closed(_)) => Err(Stopped),
        }
    }

    /// Makes a link known to the loop.
    pub async fn link(&self) -> Result<(LinkId, Orders), Stopped> {
        let link = LinkId(self.links.fetch_add(1, Ordering::Relaxed));
        let (handle, orders) = orders::pair();
        self.tell(Arrival::Linked(link, handle)).await?;
        Ok((link, orders))
    }

    /// A connection refused before any message, for a reason of ours.
    pub async fn refused(
        &self,
        side: Side,
        protocol: Protocol,
        peer: SocketAddr,
        domain: Option<String>,
        reject: Reject,
        id: Option<DecisionId>,
    ) {
        self.telemetry.metrics.link(side, protocol, super::telemetry::Count::Refused);
        let _ = self.input(Input::Refused { side, protocol, peer, domain, reject, id }).await;
    }

    /// Held by every link task, so that stopping can wait for the last.
    pub fn alive(&self) -> Option<mpsc::Sender<()>> {
        self.alive.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// No new link counts as alive; those that are, hold their own.
    pub fn forget_alive(&self) {
        drop(self.alive.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    /// The gate's state, if the loop answers soon.
    pub async fn snapshot(&self) -> Option<Snapshot> {
        let (ask, answer) = oneshot::channel();
        let asked = async {
            self.tell(Arrival::Snapshot(ask)).await.ok()?;
            answer.await.ok()
        };
        tokio::time::timeout(std::time::Duration::from_secs(2), asked).await.ok().flatten()
    }

    /// Reads the configuration again.
    pub async fn reload(&self) -> Result<(), String> {
        let (ask, answer) = oneshot::channel();
        self.tell(Arrival::Reload(ask)).await.map_err(|_| "stopping".to_owned())?;
        answer.await.unwrap_or_else(|_| Err("stopping".to_owned()))
    }
}

/// An edge without listeners, for tests of what hangs on one.
#[cfg(test)]
pub(super) fn for_tests(dns: super::settings::Dns) -> (Arc<Edge>, mpsc::Receiver<Arrival>, mpsc::Receiver<()>) {
    use super::settings::{Identity, Listeners};
    use crate::gate::partner::TlsMode;
    use rustls::pki_types::PrivateKeyDer;

    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["sip.corp.example".to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap().der().clone();
    let der = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let key = rustls::sign::CertifiedKey::from_der(vec![certificate], der, &super::tls::provider()).unwrap();
    let policy = Arc::new(crate::gate::policy::Table::default());
    let limits = crate::gate::limits::Limits::default();
    let settings = Settings {
        listeners: Listeners::default(),
        inside_networks: Vec::new(),
        proxy_protocol_from: Vec::new(),
        identities: vec![Identity { hostname: "sip.corp.example".to_owned(), domains: Vec::new(), key: Arc::new(key) }],
        tls13_only: false,
        trust: Arc::default(),
        inside_trust: Arc::default(),
        issuer: None,
        policy: Arc::clone(&policy),
        nodes: Vec::new(),
        dns,
        admin: super::settings::Admin::default(),
        log_json: false,
        audit: None,
        state: None,
        limits,
        xmpp: Arc::new(crate::gate::link::Settings {
            policy,
            nodes: Vec::new(),
            trust: Arc::default(),
            inside_trust: Arc::default(),
            inside_tls: TlsMode::Off,
            secrets: vec![vec![0; 32]],
            limits,
        }),
    };
    let clock = Clock::start();
    let telemetry = Telemetry::start(clock, None, Vec::new()).unwrap();
    Edge::new(clock, Live::build(settings).unwrap(), telemetry)
}
