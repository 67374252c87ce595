//! `[[node]]`: the presence servers inside. Takes the sections and the local domains, gives the nodes and which names are yet to be resolved.

use crate::config::Context;
use crate::config::components::{self, Wish};
use crate::config::document::{Place, Section, Value};
use crate::config::edge::{SipListener, read_domains, read_network};
use crate::config::sip_nodes::{self, Around};
use crate::config::{scalar, version};
use crate::gate::partner::{Facing, HostPort, Node, NodeId, NodeProof, NodeProtocol, Profile, TlsMode};
use crate::wire::address::Domain;
use ipnet::IpNet;
use std::net::{IpAddr, SocketAddr};

/// A node whose connections come from the host of its `address`, which is a name: its addresses are to be put into its `sources`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unresolved {
    /// The node.
    pub node: NodeId,
    /// The name.
    pub host: String,
}

/// A SIP node that sees a listener of ours on all addresses: which of them it reaches is to be found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unfaced {
    /// The node.
    pub node: NodeId,
    /// The listener.
    pub listener: SipListener,
}

/// What the `[[node]]`s say.
#[derive(Debug, Default)]
pub(super) struct Read<'s> {
    pub nodes: Vec<Node>,
    pub unresolved: Vec<Unresolved>,
    pub unfaced: Vec<Unfaced>,
    pub wishes: Vec<Wish<'s>>,
}

/// Reads the `[[node]]`s.
pub(super) fn read<'s>(
    context: &Context<'_>,
    sections: Vec<Section<'s>>,
    local: &[Domain],
    around: Around<'_>,
) -> Read<'s> {
    let mut found = Read::default();
    for section in sections {
        let place = section.place().clone();
        let index = found.nodes.len();
        let Some((mut node, resolve, wish)) = read_one(context, section, index, local, around) else { continue };
        found.wishes.extend(wish);
        let id = NodeId(u32::try_from(index).unwrap_or(u32::MAX));
        found.unresolved.extend(resolve.map(|host| Unresolved { node: id, host }));
        if node.protocol == NodeProtocol::Xmpp {
            check_verify(&place, &node, around);
        }
        if node.protocol == NodeProtocol::Sip {
            sip_nodes::check_verify(&place, &node, around);
            match sip_nodes::facing(&place, &node, around.inside) {
                Some(listener) if listener.at.ip().is_unspecified() => {
                    found.unfaced.push(Unfaced { node: id, listener })
                }
                listener => node.facing = listener.map(|listener| facing(listener, listener.at.ip())),
            }
        }
        for other in &found.nodes {
            check_overlap(&place, &node, other);
            sip_nodes::check_pair(&place, &node, other);
        }
        found.nodes.push(node);
    }
    found
}

/// A listener of ours as seen at this address.
pub(super) fn facing(listener: SipListener, ip: IpAddr) -> Facing {
    Facing { at: HostPort { host: ip.to_string(), port: listener.at.port() }, tls: listener.tls }
}

fn read_one<'s>(
    context: &Context<'_>,
    mut section: Section<'s>,
    index: usize,
    local: &[Domain],
    around: Around<'_>,
) -> Option<(Node, Option<String>, Option<Wish<'s>>)> {
    let place = section.place().clone();
    let name = section.demand("name", "write name = \"imp-1\", for logs and metrics").and_then(|value| {
        value.read("use letters, digits, - and _", |text| {
            let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            if !text.is_empty() && text.chars().all(fits) { Ok(text.to_owned()) } else { Err("not a name for a node") }
        })
    });
    let protocol = section.demand("protocol", "write protocol = \"xmpp\" or \"sip\"").and_then(|value| {
        value.word(&[NodeProtocol::Sip, NodeProtocol::Xmpp, NodeProtocol::XmppComponent], NodeProtocol::as_str)
    });
    let is_sip = protocol == Some(NodeProtocol::Sip);
    if protocol.is_some() && !is_sip {
        section.refuse_absent(version::XMPP_NODE);
    }
    let address = section
        .demand("address", "write address = \"host:port\", where the node listens")
        .and_then(|value| value.read("write host:port or [v6]:port", scalar::host_port));
    if let (Some(value), Some(address)) = (section.take("address"), &address) {
        check_own_listener(&value, address, around);
    }
    let wish = components::read(context, &mut section, protocol, index);
    let keys = sip_nodes::read(&mut section, protocol, address.as_ref(), around);
    let proofs: &[NodeProof] = if is_sip {
        &[NodeProof::Network, NodeProof::Certificate]
    } else {
        &[NodeProof::Network, NodeProof::Certificate, NodeProof::Dialback]
    };
    let verify =
        section.take("verify").and_then(|value| value.word(proofs, NodeProof::as_str)).unwrap_or(NodeProof::Network);
    let sources = section.take("sources").map(|value| value.list_of(read_network)).unwrap_or_default();
    let domains =
        section.demand("domains", "write domains = [\"your.domain\"]").map(|value| read_node_domains(&value, local));
    let users = section.take("users").map(|value| {
        let users = value.list_of(|item| item.read("write a glob like \"*\" or \"sales-*\"", scalar::user_glob));
        if users.is_empty() {
            value.place().error("the node takes no users", "write users = [\"*\"]");
        }
        users
    });
    let routing = section
        .take("role")
        .and_then(|value| value.word(&[true, false], |routing| if routing { "routing" } else { "member" }));
    let priority = section.take("priority").and_then(|value| value.number(0..65_536));
    let weight = section.take("weight").and_then(|value| value.number(0..65_536));
    let written = section.take("profile");
    let profile = written.as_ref().and_then(|value| value.word(&[Profile::Generic, Profile::Jabber], Profile::as_str));
    if let (Some(value), true, Some(Profile::Jabber)) = (written, is_sip, profile) {
        value.place().warn("says nothing here: what a SIP node gets and sends is not translated", "remove it");
    }
    section.finish();

    let (name, protocol, address) = (name?, protocol?, address?);
    let (sources, resolve) = match protocol {
        // It never connects to us.
        NodeProtocol::XmppComponent => (Vec::new(), None),
        _ if sources.is_empty() => host_sources(&address.host),
        _ => (sources, None),
    };
    if wish.is_some() {
        components::check_network(&place, &address.host);
    }
    for source in
        sources.iter().filter(|source| !around.inside.networks.iter().any(|network| network.contains(*source)))
    {
        let what = format!("{name} connects from {source}, which [inside] networks do not let in");
        place.warn(what, format!("add {source} to [inside] networks"));
    }
    let short = |number: Option<u64>, default| number.and_then(|number| u16::try_from(number).ok()).unwrap_or(default);
    let node = Node {
        name: name.into(),
        protocol,
        address,
        tls_name: keys.tls_name,
        verify,
        sources,
        domains: domains.unwrap_or_default(),
        users: users.unwrap_or_else(|| vec!["*".to_owned()]),
        routing: routing.unwrap_or(true),
        priority: short(priority, 0),
        weight: short(weight, 1),
        public_port: keys.public_port,
        facing: None,
        profile: profile.unwrap_or(Profile::Generic),
        // Follows when the policies are known.
        component: None,
    };
    Some((node, resolve, wish))
}

fn host_sources(host: &str) -> (Vec<IpNet>, Option<String>) {
    match host.parse::<IpAddr>() {
        Ok(ip) => (vec![IpNet::from(ip)], None),
        Err(_) => (Vec::new(), Some(host.to_owned())),
    }
}

fn read_node_domains(value: &Value<'_>, local: &[Domain]) -> Vec<Domain> {
    let domains = read_domains(value);
    if domains.is_empty() {
        value.place().error("the node serves no domain", "write domains = [\"your.domain\"]");
    }
    for (place, domain) in domains.iter().filter(|(_, domain)| !local.contains(domain)) {
        place.error(format!("{domain} is not a local domain"), "add it to the domains of an [[identity]]");
    }
    domains.into_iter().map(|(_, domain)| domain).collect()
}

/// Checks what is demanded of an XMPP node that connects to us.
fn check_verify(place: &Place<'_>, node: &Node, around: Around<'_>) {
    if node.verify != NodeProof::Certificate {
        return;
    }
    if !around.trusts {
        place.error(
            "there is no [inside] trust to which the node's certificate could lead",
            "write [inside] trust = [\"certs/inside-ca.pem\"], the authority of the nodes' certificates, or verify = \"network\" or \"dialback\"",
        );
    }
    if around.inside.tls == TlsMode::Off {
        place.error(
            "[inside] tls = \"off\": the node can show its certificate nowhere",
            "write [inside] tls = \"required\", or verify = \"network\" or \"dialback\"",
        );
    }
}

/// A node at our own listener is a loop.
fn check_own_listener(value: &Value<'_>, address: &HostPort, around: Around<'_>) {
    let Ok(ip) = address.host.parse::<IpAddr>() else { return };
    let address = SocketAddr::new(ip, address.port);
    if let Some(listener) = sip_nodes::own_listener(address, around) {
        let mend = "write where the node listens; if it does listen there, give that listener of ours another address";
        value.place().error(format!("{address} is our own {listener}"), mend);
    }
}

/// Two nodes may share domains and users (then they share the load), but not half of them.
fn check_overlap(place: &Place<'_>, node: &Node, other: &Node) {
    if node.name == other.name {
        place.error(format!("two nodes are named {}", node.name), "give each its own name");
    }
    let are_components = [node, other].iter().all(|node| node.protocol == NodeProtocol::XmppComponent);
    if node.address == other.address && !are_components {
        let (host, port) = (&node.address.host, node.address.port);
        place.error(
            format!("{} is at {host}:{port} too", other.name),
            "write one [[node]] with all its domains and users",
        );
        return;
    }
    let shared = node.domains.iter().find(|domain| other.domains.contains(domain));
    let ranks_alike = node.routing && other.routing && node.priority == other.priority;
    // Nodes of one kind with the same users share the load; a user is either on SIP or on XMPP.
    let is_sip = |node: &Node| node.protocol == NodeProtocol::Sip;
    let divides = node.users != other.users || is_sip(node) != is_sip(other);
    if let (Some(domain), true, true) = (shared, ranks_alike, divides) {
        let meet = node.users.iter().find_map(|mine| {
            other.users.iter().find(|theirs| scalar::globs_meet(mine, theirs)).map(|theirs| (mine, theirs))
        });
        if let Some((mine, theirs)) = meet {
            place.warn(
                format!(
                    "users = \"{mine}\" overlaps \"{theirs}\" of {} at {domain}: either may get the same user",
                    other.name
                ),
                "give the node that is to be asked first a lower priority, or globs that share nobody",
            );
        }
    }
}
