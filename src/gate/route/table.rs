//! Which node serves a local user.

use crate::gate::partner::{Node, NodeProtocol};
use crate::gate::reject::{Reason, Reject};
use crate::gate::settings::Settings;
use crate::wire::address::{Address, Domain};
use wildmatch::WildMatch;

/// The routing node for a local address: the first of [`order`].
pub fn node_for<'a>(settings: &'a Settings, to: &Address) -> Result<&'a Node, Reject> {
    let mut serving = settings.nodes.iter().filter(|node| node.routing && serves(node, to));
    match (serving.next(), serving.next()) {
        // Often there is but one.
        (Some(only), None) => Ok(only),
        _ => choose(settings, to, |_| true),
    }
}

/// As [`node_for`], among the nodes that can be reached in this partner domain's name.
pub fn node_between<'a>(settings: &'a Settings, partner: &Domain, to: &Address) -> Result<&'a Node, Reject> {
    let node = choose(settings, to, |node| node.protocol != NodeProtocol::Sip && node.is_open_to(partner));
    node.map_err(|reject| match node_for(settings, to) {
        Ok(Node { name, protocol: NodeProtocol::Sip, .. }) => {
            let detail = format!("node {name} serves {to} over SIP: only what stays SIP goes there");
            Reject::new(Reason::NoNode, detail)
        }
        Ok(node) => Reject::new(
            Reason::NoNode,
            format!("node {} serves {to}, but we are not attached to it as {partner}: its `components`", node.name),
        ),
        Err(_) => reject,
    })
}

fn choose<'a>(settings: &'a Settings, to: &Address, fits: impl Fn(&Node) -> bool) -> Result<&'a Node, Reject> {
    order(settings, to, fits).first().copied().ok_or_else(|| nobody_serves(to))
}

/// The routing nodes for a local address that `fit`, in the order in which to try them: lowest priority first; among equals by a draw that
/// falls the same way for the same user each time, weighted, so that sessions of one user meet, and that moves nobody else's when a node goes.
pub fn order<'a>(settings: &'a Settings, to: &Address, fits: impl Fn(&Node) -> bool) -> Vec<&'a Node> {
    let mut serving: Vec<&Node> =
        settings.nodes.iter().filter(|node| node.routing && serves(node, to) && fits(node)).collect();
    if serving.len() > 1 {
        let user = hash(to.local().unwrap_or_default());
        let lot = |node: &Node| {
            // Rendezvous: each node draws for the user, the weight stretches what it draws.
            let drawn = mix(hash(&node.name) ^ user) >> 11;
            let fraction = (drawn as f64 + 0.5) / (1_u64 << 53) as f64;
            -fraction.ln() / f64::from(node.weight.max(1))
        };
        serving.sort_by(|a, b| a.priority.cmp(&b.priority).then_with(|| lot(a).total_cmp(&lot(b))));
    }
    serving
}

/// No node takes this user, however well they are.
pub fn nobody_serves(to: &Address) -> Reject {
    let detail = format!(
        "no [[node]] with role = \"routing\" serves {to}; add its domain to a node's `domains` or widen `users`"
    );
    Reject::new(Reason::NoNode, detail)
}

/// Whether a node serves an address: its domain, and one of its `users` globs.
pub fn serves(node: &Node, to: &Address) -> bool {
    node.domains.contains(to.domain())
        && match to.local() {
            None => true,
            Some(local) => {
                node.users.iter().any(|glob| glob == "*" || WildMatch::new_case_insensitive(glob).matches(local))
            }
        }
}

/// FNV-1a: stable across runs and machines, which the standard library's hasher does not promise.
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}

/// Spreads what FNV leaves close together (the finalizer of MurmurHash3).
fn mix(mut h: u64) -> u64 {
    h ^= h >> 33;
    h = h.wrapping_mul(0xff51_afd7_ed55_8ccd);
    h ^= h >> 33;
    h = h.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    h ^ (h >> 33)
}
