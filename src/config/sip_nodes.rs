//! What a `[[node]]` with `protocol = "sip"` has: TLS towards it, which XMPP nodes know too, a port of its own outside, and the listener of
//! ours that it sees.

use crate::config::document::{Place, Section, Value};
use crate::config::edge::{Inside, Outside, SipListener};
use crate::gate::partner::{HostPort, Node, NodeProof, NodeProtocol, TlsMode};
use crate::wire::address::Domain;
use std::net::{IpAddr, SocketAddr};

/// What is around the nodes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Around<'a> {
    /// `[outside]`
    pub outside: &'a Outside,
    /// `[inside]`
    pub inside: &'a Inside,
    /// Whether `[inside] trust` names anything.
    pub trusts: bool,
}

/// The keys read here.
#[derive(Debug, Default)]
pub(super) struct Keys {
    /// See [`Node::tls_name`].
    pub tls_name: Option<String>,
    /// See [`Node::public_port`].
    pub public_port: u16,
}

const TLS_NAME: &str = "write tls = { name = \"imp-1.corp.example\" }, a DNS name that stands in its certificate";
const TRUST: &str = "write [inside] trust = [\"certs/inside-ca.pem\"], the authority of the nodes' certificates";

/// Reads `tls` and `public_port`.
pub(super) fn read(
    section: &mut Section<'_>,
    protocol: Option<NodeProtocol>,
    address: Option<&HostPort>,
    around: Around<'_>,
) -> Keys {
    let tls = section.take("tls");
    let tls_name = tls.as_ref().and_then(|value| read_tls(value, address));
    if let (Some(value), Some(_), Some(NodeProtocol::XmppComponent)) = (&tls, &tls_name, protocol) {
        value.place().error("a component's stream has no TLS (XEP-0114)", "remove it");
    }
    if let (Some(value), Some(_), Some(NodeProtocol::Xmpp)) = (&tls, &tls_name, protocol)
        && around.inside.tls == TlsMode::Off
    {
        let mend = "write [inside] tls = \"optional\" or \"required\", or remove it";
        value.place().warn("[inside] tls = \"off\": the node never shows its certificate", mend);
    }
    // An XMPP node is believed by its certificate where `verify` says so.
    if let (Some(value), Some(name), false, Some(NodeProtocol::Sip)) = (&tls, &tls_name, around.trusts, protocol) {
        value.place().error(format!("there is no [inside] trust to which the certificate of {name} could lead"), TRUST);
    }
    let door = section.take("public_port");
    let public_port = door.as_ref().and_then(|value| value.number(0..65_536));
    let public_port = public_port.and_then(|port| u16::try_from(port).ok()).unwrap_or(0);
    if let (Some(value), true) = (door, public_port != 0 && around.outside.sip.is_empty()) {
        let mend = "write [outside] sip = [\"[::]:5061\"], or public_port = 0";
        value.place().error("public_port is a port on the addresses of [outside] sip, and there are none", mend);
    }
    Keys { tls_name, public_port }
}

/// `false`, `true` (the host of `address`), or `{ name = "…" }`.
fn read_tls(value: &Value<'_>, address: Option<&HostPort>) -> Option<String> {
    if value.is_flag() {
        let host = &address.filter(|_| value.flag() == Some(true))?.host;
        if host.parse::<IpAddr>().is_ok() {
            value.place().error(format!("the name of its certificate can't be {host}: that is an address"), TLS_NAME);
            return None;
        }
        return Some(host.clone());
    }
    if !value.is_table() {
        value.place().error("is neither true, false nor a name", TLS_NAME);
        return None;
    }
    let mut section = value.section("node.tls");
    let name = section.demand("name", TLS_NAME).and_then(|value| value.read(TLS_NAME, Domain::parse));
    section.finish();
    name.map(|name| name.as_str().to_owned())
}

/// Checks what is demanded of a node that connects to us.
pub(super) fn check_verify(place: &Place<'_>, node: &Node, around: Around<'_>) {
    if node.verify != NodeProof::Certificate {
        return;
    }
    if !around.trusts {
        let what = "there is no [inside] trust to which the node's certificate could lead";
        place.error(what, format!("{TRUST}, or verify = \"network\""));
    }
    if !around.inside.sip.iter().any(|listener| listener.tls) {
        place.error(
            "no listener of [inside] sip speaks TLS: the node can show its certificate nowhere",
            "write [inside] sip = [\"tls:127.0.0.1:5063\"], or verify = \"network\"",
        );
    }
    if crate::gate::peer::nodes::certificate_name(node).is_none() {
        place.error("nothing says which name the node's certificate carries: its address is no name", TLS_NAME);
    }
}

/// The listener of ours that a node sees: of its own kind, if there is one, and one that it can reach, as far as addresses tell.
pub(super) fn facing(place: &Place<'_>, node: &Node, inside: &Inside) -> Option<SipListener> {
    let Some(first) = inside.sip.first() else {
        place.error(
            "there is no [inside] sip, so the node can't reach us",
            "write [inside] sip = [\"tcp:127.0.0.1:5062\"], an address of ours that it reaches",
        );
        return None;
    };
    let wants_tls = node.tls_name.is_some();
    let is_kin = |listener: &&SipListener| listener.tls == wants_tls;
    let kin = inside.sip.iter().find(is_kin).unwrap_or(first).tls;
    let mut alike = inside.sip.iter().filter(|listener| listener.tls == kin);
    let Ok(host) = node.address.host.parse::<IpAddr>() else {
        return alike.next().copied();
    };
    let reached = alike.clone().find(|listener| reaches(host, listener.at.ip()));
    if reached.is_none() {
        let words: Vec<String> = alike.clone().map(|listener| listener.at.to_string()).collect();
        let scheme = if kin { "tls" } else { "tcp" };
        place.warn(
            format!("the node is at {host}, from where {} can't be reached", words.join(", ")),
            format!("write an address of ours that it reaches: [inside] sip = [\"{scheme}:ADDRESS:PORT\"]"),
        );
    }
    reached.or_else(|| alike.next()).copied()
}

/// Whether a node at `host` can reach a listener at `ours`: loopback only from here, an address only by its own family.
fn reaches(host: IpAddr, ours: IpAddr) -> bool {
    let takes_both = ours.is_ipv6() && ours.is_unspecified();
    let same_family = host.is_ipv4() == ours.is_ipv4() || takes_both;
    same_family && (ours.is_unspecified() || host.is_loopback() || !ours.is_loopback())
}

/// Checks two nodes against each other.
pub(super) fn check_pair(place: &Place<'_>, node: &Node, other: &Node) {
    if node.public_port != 0 && node.public_port == other.public_port {
        let what = format!("public_port {} is that of {} already", node.public_port, other.name);
        place.error(what, "give each its own port");
    }
    let are_sip = [node, other].iter().all(|node| node.protocol == NodeProtocol::Sip);
    let by_certificate = [node, other].iter().all(|node| node.verify == NodeProof::Certificate)
        && crate::gate::peer::nodes::certificate_name(node) != crate::gate::peer::nodes::certificate_name(other);
    if are_sip && !by_certificate && share_sources(node, other) {
        place.warn(
            format!(
                "{} may connect from the same addresses: the two are told apart by the port of their Via only",
                other.name
            ),
            "give each an address of its own, or see that each writes the port of its `address` into its Via",
        );
    }
}

/// Nodes whose hosts are yet to be resolved have no sources so far: these are compared by name.
fn share_sources(node: &Node, other: &Node) -> bool {
    let unresolved = node.sources.is_empty() && other.sources.is_empty() && node.address.host == other.address.host;
    let meet = |a: &ipnet::IpNet| other.sources.iter().any(|b| a.contains(b) || b.contains(a));
    unresolved || node.sources.iter().any(meet)
}

/// Which listener of ours is at this address: a node there would be ourselves.
pub(super) fn own_listener(at: SocketAddr, around: Around<'_>) -> Option<&'static str> {
    let is_at = |listener: &SocketAddr| {
        let same_host = listener.ip() == at.ip() || (listener.ip().is_unspecified() && at.ip().is_loopback());
        listener.port() == at.port() && same_host
    };
    if around.inside.xmpp.iter().any(is_at) {
        return Some("[inside] xmpp");
    }
    if around.inside.sip.iter().any(|listener| is_at(&listener.at)) {
        return Some("[inside] sip");
    }
    around.outside.all().find(|(_, at)| is_at(at)).map(|(key, _)| key)
}
