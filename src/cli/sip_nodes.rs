//! What `fedgate check` says of SIP nodes, and what their own configuration needs.

use crate::config::Loaded;
use crate::gate::NodeId;
use crate::gate::partner::{HostPort, Node, NodeProof, NodeProtocol};
use crate::gate::peer::nodes::certificate_name;
use serde_json::{Value, json};
use std::fmt::Write;

/// The SIP nodes and their index.
fn all(loaded: &Loaded) -> impl Iterator<Item = (usize, &Node)> {
    loaded.gate.nodes.iter().enumerate().filter(|(_, node)| node.protocol == NodeProtocol::Sip)
}

/// For people; empty without SIP nodes.
pub(super) fn text(loaded: &Loaded) -> String {
    let mut text = String::new();
    for (index, node) in all(loaded) {
        if text.is_empty() {
            text.push_str("\nSIP nodes\n");
        }
        let _ = writeln!(text, "  {} at {}", node.name, show(&node.address));
        for (key, value) in lines(loaded, index, node) {
            let _ = writeln!(text, "    {key:<11} {value}");
        }
    }
    text
}

/// For programs.
pub(super) fn json(loaded: &Loaded) -> Vec<Value> {
    let each = |(index, node): (usize, &Node)| {
        json!({
            "node": node.name,
            "address": show(&node.address),
            "settings": lines(loaded, index, node)
                .into_iter()
                .map(|(key, value)| (key.to_owned(), Value::from(value)))
                .collect::<serde_json::Map<_, _>>(),
        })
    };
    all(loaded).map(each).collect()
}

fn lines(loaded: &Loaded, index: usize, node: &Node) -> Vec<(&'static str, String)> {
    let domains: Vec<&str> = node.domains.iter().map(|domain| domain.as_str()).collect();
    let mut lines = vec![
        ("domains", domains.join(", ")),
        ("users", node.users.join(", ")),
        (
            "sessions",
            match node.routing {
                true => format!("new ones, priority {}, weight {}", node.priority, node.weight),
                false => "only its own".to_owned(),
            },
        ),
        (
            "tls",
            match &node.tls_name {
                Some(name) => format!("its certificate names {name}, by [inside] trust"),
                None => "none".to_owned(),
            },
        ),
        ("known by", known_by(loaded, index, node)),
        ("reaches us", reaches(loaded, index, node)),
    ];
    if node.public_port != 0 {
        lines.push(("public_port", format!("{} on the addresses of [outside] sip", node.public_port)));
    }
    lines
}

fn known_by(loaded: &Loaded, index: usize, node: &Node) -> String {
    let unresolved = loaded.unresolved.iter().find(|unresolved| is_at(unresolved.node, index));
    let addresses = match unresolved {
        Some(unresolved) => format!("the addresses of {}", unresolved.host),
        None => node.sources.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    };
    match (node.verify, certificate_name(node)) {
        (NodeProof::Certificate, Some(name)) => format!("{addresses}, and a certificate that names {name}"),
        _ => addresses,
    }
}

/// What the node is to have for its way to partners.
fn reaches(loaded: &Loaded, index: usize, node: &Node) -> String {
    let uri = |at: &str, tls: bool| match tls {
        true => format!("<sip:{at};transport=tls>, as its outbound proxy for partners"),
        false => format!("<sip:{at};transport=tcp>, as its outbound proxy for partners"),
    };
    match (&node.facing, loaded.unfaced.iter().find(|unfaced| is_at(unfaced.node, index))) {
        (Some(facing), _) => uri(&show(&facing.at), facing.tls),
        (None, Some(unfaced)) => {
            let listener = unfaced.listener;
            uri(&format!("ADDRESS:{}", listener.at.port()), listener.tls)
                + " (ADDRESS is the edge's on the way to the node; found at the start)"
        }
        (None, None) => "nowhere".to_owned(),
    }
}

fn is_at(node: NodeId, index: usize) -> bool {
    usize::try_from(node.0) == Ok(index)
}

/// `host:port`, `[v6]:port`.
fn show(HostPort { host, port }: &HostPort) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}
