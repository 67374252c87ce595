//! Where to: the node for a local user, and the hops that lead to nodes and partners.

pub mod health;
pub mod hop;
pub mod table;

pub use hop::{HopKey, Hops};

use crate::gate::settings::Settings;
use crate::wire::address::Domain;

/// The hop to a node for what goes from a partner domain to a local domain: a stream for the two, or the component stream of the partner domain.
pub fn node_hop(settings: &Settings, node: &str, partner: &Domain, local: &Domain) -> HopKey {
    let is_component = settings.nodes.iter().any(|n| n.name == node && n.component.is_some());
    match is_component {
        true => HopKey::Component { node: node.into(), domain: partner.clone() },
        false => HopKey::Node { node: node.into(), from: partner.clone(), to: local.clone() },
    }
}
