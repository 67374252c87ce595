//! What io needs of the configuration, built whole by `config` and swapped whole on reload.

use super::issuer::Authority;
use super::telemetry::Telemetry;
use crate::gate;
use crate::gate::limits::Limits;
use crate::gate::link;
use crate::gate::partner::Node;
use crate::gate::peer::{TrustSet, TrustSets};
use crate::gate::policy::Table;
use crate::wire::address::Domain;
use crate::wire::certificate::Chain;
use ipnet::IpNet;
use rustls::sign::CertifiedKey;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The settings of everything that touches the world.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where we listen. Read at start only: new addresses need a restart.
    pub listeners: Listeners,
    /// `[inside] networks`: only these may connect to the inside listeners.
    pub inside_networks: Vec<IpNet>,
    /// `[outside] proxy_protocol_from`: whose connections to the outside listeners begin with a PROXY header.
    pub proxy_protocol_from: Vec<IpNet>,
    /// Whose certificates we show; the same order as the gate's identities, the first is the default.
    pub identities: Vec<Identity>,
    /// `[tls] minimum`: TLS 1.3 only.
    pub tls13_only: bool,
    /// Whom chains of SIP partners must lead to.
    pub trust: Arc<TrustSets>,
    /// `[inside] trust`: whom chains of SIP nodes that we dial must lead to.
    pub inside_trust: Arc<TrustSet>,
    /// `[inside] issuer`: makes certificates in partners' names, for nodes.
    pub issuer: Option<Arc<Authority>>,
    /// Partner entries: their trust when we dial them, their labels.
    pub policy: Arc<Table>,
    /// The inside.
    pub nodes: Vec<Node>,
    /// `[dns]`.
    pub dns: Dns,
    /// `[admin]`. Where it listens is read at start only.
    pub admin: Admin,
    /// `[log] format = "json"`. Read at start only.
    pub log_json: bool,
    /// `[log] audit`; `None` = off. Read at start only.
    pub audit: Option<PathBuf>,
    /// The state store's file; `None`: nothing outlives the process.
    pub state: Option<PathBuf>,
    /// Bounds.
    pub limits: Limits,
    /// For XMPP stream negotiation.
    pub xmpp: Arc<link::Settings>,
}

/// Addresses to listen on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listeners {
    /// `[outside] sip`: TLS, always.
    pub outside_sip: Vec<SocketAddr>,
    /// The `public_port`s of nodes on the addresses of `[outside] sip`.
    pub doors: Vec<SocketAddr>,
    /// `[outside] xmpp`: STARTTLS.
    pub outside_xmpp: Vec<SocketAddr>,
    /// `[outside] xmpps`: direct TLS (XEP-0368).
    pub outside_xmpps: Vec<SocketAddr>,
    /// `[inside] sip = ["tcp:…"]`.
    pub inside_sip_tcp: Vec<SocketAddr>,
    /// `[inside] sip = ["tls:…"]`.
    pub inside_sip_tls: Vec<SocketAddr>,
    /// `[inside] xmpp`.
    pub inside_xmpp: Vec<SocketAddr>,
}

impl Listeners {
    /// Those of the inside.
    pub fn inside(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        self.inside_sip_tcp.iter().chain(&self.inside_sip_tls).chain(&self.inside_xmpp).copied()
    }
}

/// A certificate and its key, checked to belong together.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Chosen by this SNI…
    pub hostname: String,
    /// …or one of these.
    pub domains: Vec<Domain>,
    /// Chain and key.
    pub key: Arc<CertifiedKey>,
}

/// Name resolution.
#[derive(Clone, Debug, Default)]
pub struct Dns {
    /// `[dns] servers`; empty = the system's resolver.
    pub servers: Vec<SocketAddr>,
    /// Static SRV answers by lower-case owner name (`_sipfederationtls._tcp.lync.example`), tried first.
    pub srv: BTreeMap<String, Vec<Srv>>,
    /// Static addresses by lower-case host name, tried first.
    pub hosts: BTreeMap<String, Vec<IpAddr>>,
}

/// One SRV answer (RFC 2782).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Srv {
    /// Host name.
    pub target: String,
    /// Port.
    pub port: u16,
    /// Lower first.
    pub priority: u16,
    /// Share among equals.
    pub weight: u16,
}

/// The admin listener.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Admin {
    /// Over TCP; `None` = not.
    pub listen: Option<SocketAddr>,
    /// On a unix socket; `None` = not.
    pub socket: Option<PathBuf>,
    /// Empty = none.
    pub token: String,
}

/// Settings of both layers, read from one configuration.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// For [`crate::io`].
    pub io: Settings,
    /// For [`crate::gate`].
    pub gate: gate::settings::Settings,
    /// Sentences for the log: warnings of the configuration, nodes whose addresses could not be found.
    pub notices: Vec<String>,
}

/// Reads the configuration again; the error is for people, with all problems.
pub type Load = Arc<dyn Fn() -> Result<Loaded, String> + Send + Sync>;

impl Settings {
    /// The partner entries' labels, as metrics know them.
    pub fn labels(&self) -> Vec<String> {
        self.policy.partners.iter().map(|partner| partner.label.to_string()).collect()
    }

    /// The node whose `public_port` this is.
    pub fn door(&self, port: u16) -> Option<String> {
        let of_node = self.nodes.iter().find(|node| node.public_port == port && port != 0);
        of_node.map(|node| node.name.to_string())
    }

    /// Tells telemetry what the settings name.
    pub fn describe(&self, telemetry: &Telemetry) {
        telemetry.metrics.set_partners(self.labels());
        let expiries = self.identities.iter().filter_map(|identity| {
            let chain = Chain::parse(identity.key.cert.clone()).ok()?;
            Some((identity.hostname.clone(), chain.not_after))
        });
        telemetry.metrics.set_identities(expiries);
    }
}

impl Admin {
    /// Where it listens, without what may change under it.
    pub fn places(&self) -> (Option<SocketAddr>, Option<&Path>) {
        (self.listen, self.socket.as_deref())
    }
}

impl Loaded {
    /// Logs what the operator should look at.
    pub fn tell(&self) {
        for notice in &self.notices {
            tracing::warn!("{notice}");
        }
    }
}
