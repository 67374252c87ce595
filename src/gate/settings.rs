//! What the gate needs of the configuration, built whole by `config` and swapped whole on reload.

use crate::gate::limits::Limits;
use crate::gate::partner::{HostPort, LocalIdentity, Node, NodeProtocol, Presence, Protocol};
use crate::gate::peer::{TrustSet, TrustSets};
use crate::gate::policy::Table;
use crate::wire::address::Domain;
use ipnet::IpNet;
use std::sync::Arc;
use std::time::Duration;

/// The gate's settings.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Who we are; the first is the default.
    pub identities: Vec<LocalIdentity>,
    /// The policy in force.
    pub policy: Arc<Table>,
    /// Whom chains must lead to.
    pub trust: Arc<TrustSets>,
    /// The inside; [`crate::gate::NodeId`] indexes it.
    pub nodes: Vec<Node>,
    /// `[presence]`.
    pub presence: Presence,
    /// `[chat] idle`: an IM session without traffic ends after this long.
    pub chat_idle: Duration,
    /// `[state] secrets`, current first: what masks the inside is derived from them.
    pub secrets: Vec<Vec<u8>>,
    /// `[inside] networks`: their addresses are not named outside.
    pub inside_networks: Vec<IpNet>,
    /// Whom the chains of inside nodes must lead to: `[inside] trust`.
    pub inside_trust: Arc<TrustSet>,
    /// Bounds.
    pub limits: Limits,
}

impl Settings {
    /// Whether any node inside speaks SIP.
    pub fn has_sip_nodes(&self) -> bool {
        self.nodes.iter().any(|node| node.protocol == NodeProtocol::Sip)
    }

    /// Index of the identity that speaks for a local domain.
    pub fn identity_for(&self, domain: &Domain) -> usize {
        self.identities.iter().position(|i| i.domains.contains(domain)).unwrap_or(0)
    }

    /// Which domain is to be found to reach a partner's domain over a protocol, and the next hop that was typed instead; `None`: it is not federated with.
    pub fn way_to(&self, domain: &Domain, protocol: Protocol) -> Option<(Domain, Option<HostPort>)> {
        self.policy.way_to(domain, protocol)
    }
}
