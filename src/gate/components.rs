//! Component streams (XEP-0114): unlike every other hop they are up before anybody needs them, since what users write waits at no server for
//! a component that is not there.

use super::Gate;
use super::exchange::{HopId, Output};
use super::limits;
use super::links::{Far, Link};
use super::partner::{LinkId, Node, Side};
use super::reject::{Reason, Reject};
use super::route::HopKey;
use super::route::hop::Attempt;
use super::session::Deadline;
use super::settings::Settings;
use super::time::Time;
use crate::wire::address::{Domain, Jid};
use crate::wire::xmpp::{Kind, Stanza};
use std::net::SocketAddr;

/// Every component stream that the settings want.
fn wanted(settings: &Settings) -> Vec<HopKey> {
    settings.nodes.iter().flat_map(of_node).collect()
}

fn of_node(node: &Node) -> impl Iterator<Item = HopKey> {
    let domains = node.component.iter().flat_map(|component| &component.domains);
    domains.map(|domain| HopKey::Component { node: node.name.clone(), domain: domain.clone() })
}

/// Whether the settings want this component stream.
pub(super) fn is_wanted(settings: &Settings, name: &str, domain: &Domain) -> bool {
    settings.nodes.iter().any(|node| node.name == name && node.component.is_some() && node.is_open_to(domain))
}

/// Whether a node counts as up before anything is known of it.
pub(super) fn is_up_at_first(node: &Node) -> bool {
    node.component.is_none()
}

impl Gate {
    /// Connects what is wanted and not there.
    pub(super) fn attach_all(&mut self, now: Time) {
        for key in wanted(&self.settings) {
            self.attach(now, &key);
        }
    }

    /// The time of a component stream has come: to be connected again, or to be ended.
    pub(super) fn component_due(&mut self, now: Time, key: &HopKey) {
        let HopKey::Component { node, domain } = key else { return };
        if is_wanted(&self.settings, node, domain) {
            self.attach(now, key);
            return;
        }
        for link in self.hops.links_where(|other| other == key) {
            self.outputs.push_back(Output::Close { link, error: None });
        }
    }

    /// Connects a component stream; not before its back-off has passed.
    pub(super) fn attach(&mut self, now: Time, key: &HopKey) {
        let HopKey::Component { node, domain } = key else { return };
        if !is_wanted(&self.settings, node, domain) {
            return;
        }
        match self.hops.attempt(now, key) {
            Attempt::Going => {}
            Attempt::Wait(at) => {
                let (mut turn, _) = self.turn(now);
                // Not all edges and all streams at once.
                let at = turn.jittered(at.since(now));
                turn.deadlines.set(Deadline::Component(key.clone()), at);
            }
            Attempt::Connect(hop) => {
                if let Some(target) = self.target(now, key) {
                    self.outputs.push_back(Output::Connect { hop, target });
                }
            }
        }
    }

    /// A component stream is accepted; whether it is still wanted.
    pub(super) fn attached(
        &mut self,
        now: Time,
        (link, peer): (LinkId, SocketAddr),
        hop: Option<HopId>,
        node: String,
        domain: Domain,
    ) -> bool {
        if !is_wanted(&self.settings, &node, &domain) {
            self.outputs.push_back(Output::Close { link, error: None });
            if let Some(hop) = hop {
                let detail = format!("node {node} is not to be attached to as {domain} any more");
                self.hop_failed(now, hop, Reject::new(Reason::NoNode, detail));
            }
            return false;
        }
        self.links.insert(link, Link { side: Side::Inside, peer, door: None, far: Far::Component { node, domain } });
        true
    }

    /// A component stream ended: the outcomes on their way back are lost with it.
    pub(super) fn detached(&mut self, now: Time, node: &str, domain: &Domain) {
        let locals = self.settings.nodes.iter().find(|n| n.name == node).map(|n| n.domains.clone()).unwrap_or_default();
        for local in locals {
            let (mut turn, sessions) = self.turn(now);
            let lost = sessions.barriers.answers_lost(&mut turn, &(domain.clone(), local), Some(node));
            self.lost(now, lost, "the stream ended before the outcome was known");
        }
        self.node_is(node);
        self.attach(now, &HopKey::Component { node: node.into(), domain: domain.clone() });
    }

    /// New settings. Streams to nodes that are gone or moved, or share another secret with us, end at once. One under a name that is no longer
    /// wanted stays until the errors of what was under way have gone through it: nobody else could hand them over.
    pub(super) fn components_reloaded(&mut self, now: Time, before: &Settings) {
        let moved = |name: &str| {
            let find = |settings: &Settings| {
                let node = settings.nodes.iter().find(|node| node.name == name)?;
                Some((node.address.clone(), node.component.as_ref()?.secret.clone()))
            };
            find(before) != find(&self.settings)
        };
        for link in self.hops.links_where(|key| matches!(key, HopKey::Component { node, .. } if moved(node))) {
            self.outputs.push_back(Output::Close { link, error: None });
        }
        let wanted = wanted(&self.settings);
        for key in self::wanted(before).into_iter().filter(|key| !wanted.contains(key)) {
            self.deadlines.set(Deadline::Component(key), now + limits::COMPONENT_LINGERS);
        }
        for key in wanted {
            self.attach(now, &key);
        }
        for node in self.nodes_up.keys().cloned().collect::<Vec<_>>() {
            self.node_is(&node);
        }
    }

    /// Whether all that is wanted of a node is up; `None`: it is no component's server.
    pub(super) fn is_attached(&self, name: &str) -> Option<bool> {
        let node = self.settings.nodes.iter().find(|node| node.name == name)?;
        node.component.as_ref()?;
        Some(of_node(node).all(|key| self.hops.is_up(&key)))
    }

    /// A server hands its components whatever anybody in the world sends them. Who is none of the node's is told so, and gets no further.
    pub(super) fn refuse_foreign(&mut self, now: Time, node: &str, from: &Jid, to: &Jid, stanza: &Stanza) {
        let detail = format!("{} is not among the `domains` of node {node}", from.bare.domain());
        let reject = Reject::new(Reason::Unproven, detail);
        let facts = self.facts_of_stanza(from, to, stanza);
        let (mut turn, _) = self.turn(now);
        let id = turn.refused(&reject, &facts);
        let asks = stanza.kind != Kind::Presence || stanza.type_.as_deref() == Some("subscribe");
        if let Some(reply) = stanza.error_reply(&reject.stanza_error(id)).filter(|_| asks) {
            self.say_back(Some(node), from, to, crate::gate::Lane::Free, &reply);
        }
    }
}
