//! `components` and `secret` of a `[[node]]`: as which partner domains we attach to an XMPP server (XEP-0114). Read with the node, judged when
//! the policies are known.

use crate::config::Context;
use crate::config::document::{Place, Section};
use crate::config::{material, scalar};
use crate::gate::partner::{Component, DomainPattern, Node, NodeProtocol, Protocol, Secret};
use crate::gate::policy::Table;
use crate::wire::address::Domain;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// What a node's section says of it.
#[derive(Debug)]
pub(super) struct Wish<'s> {
    node: usize,
    place: Place<'s>,
    /// Empty: every exact SIP partner.
    listed: Vec<(Place<'s>, DomainPattern)>,
    /// `None`: reported already.
    secret: Option<Secret>,
}

const ATTACH_BY_STREAMS: &str =
    "attach the node with protocol = \"xmpp\", or list in `components` the names it is to have";

/// Reads the two keys; `None` for a node of another protocol, which may not have them.
pub(super) fn read<'s>(
    context: &Context<'_>,
    section: &mut Section<'s>,
    protocol: Option<NodeProtocol>,
    node: usize,
) -> Option<Wish<'s>> {
    let place = section.place().clone();
    let components = section.take("components");
    if protocol != Some(NodeProtocol::XmppComponent) {
        let secret = section.take("secret");
        let written = components.filter(|value| !value.list().is_empty()).into_iter().chain(secret);
        for value in written.filter(|_| protocol.is_some()) {
            value.place().error("only a node with protocol = \"xmpp-component\" has it", "remove it");
        }
        return None;
    }
    let listed = components.map(|value| {
        value.list_of(|item| {
            let pattern = item.read("write a partner's domain like \"lync.example\"", scalar::domain_pattern)?;
            Some((item.place().clone(), pattern))
        })
    });
    let mend = "write secret = \"env:NAME\", \"file:PATH\" or the text itself: what the server has for its components";
    let secret = section.demand("secret", mend).and_then(|value| {
        let secret = material::written_secret(context.files, value.place(), value.text()?)?;
        if secret.is_empty() {
            value.place().error("the secret is empty", mend);
            return None;
        }
        Some(Secret(secret))
    });
    for key in ["verify", "sources"] {
        if let Some(value) = section.take(key) {
            value.place().warn("says nothing here: we connect to the node, it never connects to us", "remove it");
        }
    }
    Some(Wish { node, place, listed: listed.unwrap_or_default(), secret })
}

/// XEP-0114 knows no TLS.
pub(super) fn check_network(place: &Place<'_>, host: &str) {
    if host.parse::<IpAddr>().is_ok_and(|ip| !ip.to_canonical().is_loopback()) {
        place.warn(
            format!("a component's stream has no TLS: everything to and from {host} crosses the network in the clear"),
            "run the edge beside the server, or lead the stream through a tunnel",
        );
    }
}

/// Gives each node its component; what can't be served is reported.
pub(super) fn attach(nodes: &mut [Node], wishes: Vec<Wish<'_>>, table: &Table) {
    for wish in wishes {
        let domains = match wish.listed.is_empty() {
            true => every_partner(&wish, table),
            false => those_listed(&wish, table),
        };
        let Some(node) = nodes.get(wish.node) else { continue };
        let others = nodes.iter().filter(|other| other.name != node.name && other.address == node.address);
        for other in others {
            let taken = other.component.iter().flat_map(|component| &component.domains);
            for domain in taken.filter(|domain| domains.contains(domain)) {
                wish.place.error(
                    format!(
                        "{} is attached to the same server as {domain} already: it takes one stream of a name",
                        other.name
                    ),
                    "write one [[node]] with all its domains and users, or divide the names by `components`",
                );
            }
        }
        if let (Some(node), Some(secret)) = (nodes.get_mut(wish.node), wish.secret) {
            node.component = Some(Component { domains, secret });
        }
    }
}

/// Every domain that a SIP entry names exactly.
fn exact_partners(table: &Table) -> BTreeSet<Domain> {
    let entries = table.partners.iter().filter(|entry| entry.protocol == Protocol::Sip);
    let names = entries.flat_map(|entry| {
        let own = match &entry.domain {
            DomainPattern::Exact(domain) => Some(domain.clone()),
            DomainPattern::Under(_) => None,
        };
        entry.also.iter().cloned().chain(own)
    });
    names.collect()
}

/// What no component can be attached as, since it has no one name.
fn nameless(table: &Table) -> Vec<String> {
    let entries = table.partners.iter().filter(|entry| entry.protocol == Protocol::Sip);
    let wildcards = entries.filter(|entry| matches!(entry.domain, DomainPattern::Under(_)));
    let strangers = table.stranger.as_ref().map(|_| "[default] unlisted = \"stranger\"".to_owned());
    wildcards.map(|entry| format!("{} ({})", entry.label, entry.origin)).chain(strangers).collect()
}

fn every_partner(wish: &Wish<'_>, table: &Table) -> Vec<Domain> {
    for entry in nameless(table) {
        wish.place.error(
            format!("a component has one name, and {entry} speaks of many: its domains can't reach this node's users"),
            ATTACH_BY_STREAMS,
        );
    }
    let domains = exact_partners(table);
    if domains.is_empty() {
        wish.place.warn("no SIP partner has a name to attach as", "write a [[partner]] entry with protocol = \"sip\"");
    }
    domains.into_iter().collect()
}

fn those_listed(wish: &Wish<'_>, table: &Table) -> Vec<Domain> {
    let mut domains = BTreeSet::new();
    for (place, pattern) in &wish.listed {
        match pattern {
            DomainPattern::Under(_) => {
                place.error(
                    format!("a component has one name, and {pattern} is many"),
                    "list its subdomains, or attach the node with protocol = \"xmpp\"",
                );
            }
            DomainPattern::Exact(domain) if table.is_local(domain) => {
                place.error(format!("{domain} is a local domain"), "list the partners' domains; `domains` has ours");
            }
            DomainPattern::Exact(domain) if table.partner_towards(domain).is_none() => {
                place.error(
                    format!("no entry of the policies speaks of {domain}: nothing could be carried"),
                    "write a [[partner]] entry for it, or remove it",
                );
            }
            DomainPattern::Exact(domain) => {
                domains.insert(domain.clone());
            }
        }
    }
    let left_out = exact_partners(table).into_iter().filter(|domain| !domains.contains(domain));
    for entry in left_out.map(|domain| domain.to_string()).chain(nameless(table)) {
        wish.place.warn(
            format!(
                "{entry} is not among its `components`: what comes from there for its users is refused with no-node"
            ),
            "add the domain, or have a rule refuse it",
        );
    }
    domains.into_iter().collect()
}
