//! Which node serves a local user.

use crate::gate::partner::Node;
use crate::gate::reject::{Reason, Reject};
use crate::gate::settings::Settings;
use crate::wire::address::{Address, Domain};
use wildmatch::WildMatch;

/// The routing node for a local address: lowest priority first; among equals the same one for the same user (a hash of the local part,
/// weighted), so that sessions of one user meet.
pub fn node_for<'a>(settings: &'a Settings, to: &Address) -> Result<&'a Node, Reject> {
    choose(settings, to, |_| true)
}

/// As [`node_for`], among the nodes that can be reached in this partner domain's name.
pub fn node_between<'a>(settings: &'a Settings, partner: &Domain, to: &Address) -> Result<&'a Node, Reject> {
    let node = choose(settings, to, |node| node.is_open_to(partner));
    node.map_err(|reject| match node_for(settings, to) {
        Ok(node) => Reject::new(
            Reason::NoNode,
            format!("node {} serves {to}, but we are not attached to it as {partner}: its `components`", node.name),
        ),
        Err(_) => reject,
    })
}

fn choose<'a>(settings: &'a Settings, to: &Address, fits: impl Fn(&Node) -> bool) -> Result<&'a Node, Reject> {
    let serving: Vec<&Node> =
        settings.nodes.iter().filter(|node| node.routing && serves(node, to) && fits(node)).collect();
    let Some(first) = serving.iter().map(|node| node.priority).min() else {
        return Err(Reject::new(
            Reason::NoNode,
            format!(
                "no [[node]] with role = \"routing\" serves {to}; add its domain to a node's `domains` or widen `users`"
            ),
        ));
    };
    let equals: Vec<&Node> = serving.into_iter().filter(|node| node.priority == first).collect();
    let total: u64 = equals.iter().map(|node| u64::from(node.weight.max(1))).sum();
    let mut point = hash(to.local().unwrap_or_default()) % total.max(1);
    for node in &equals {
        let weight = u64::from(node.weight.max(1));
        if point < weight {
            return Ok(node);
        }
        point -= weight;
    }
    Err(Reject::new(Reason::NoNode, format!("no [[node]] serves {to}")))
}

/// Whether a node serves an address: its domain, and one of its `users` globs.
pub fn serves(node: &Node, to: &Address) -> bool {
    node.domains.contains(to.domain())
        && match to.local() {
            None => true,
            Some(local) => node.users.iter().any(|glob| WildMatch::new_case_insensitive(glob).matches(local)),
        }
}

/// FNV-1a: stable across runs and machines, which the standard library's hasher does not promise.
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}
