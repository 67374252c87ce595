//! Which node of ours is at the other end of an inside stream, and how it is known.

use super::Settings;
use super::judge::{Known, Refusal, Ruling, Shown};
use crate::gate::Other;
use crate::gate::partner::{Node, NodeProof, NodeProtocol, Protocol};
use crate::gate::peer::nodes::speaks_as;
use crate::gate::policy::Table;
use crate::gate::reject::{Reason, Reject};
use crate::gate::time::Time;
use crate::wire::address::Domain;
use crate::wire::xmpp::Condition;
use std::net::IpAddr;

/// The XMPP node that serves a domain from this address.
pub(super) fn serving<'n>(nodes: &'n [Node], domain: &Domain, peer: IpAddr) -> Result<&'n Node, Reject> {
    let peer = peer.to_canonical();
    let mut serving =
        nodes.iter().filter(|n| n.protocol == NodeProtocol::Xmpp && n.domains.contains(domain)).peekable();
    if serving.peek().is_none() {
        return Err(Reject::new(Reason::Unproven, format!("no XMPP [[node]] serves {domain}")));
    }
    serving.find(|node| node.sources.iter().any(|source| source.contains(&peer))).ok_or_else(|| {
        let detail = format!("{peer} is not among the sources of a [[node]] that serves {domain}");
        Reject::new(Reason::Unproven, detail)
    })
}

/// Whether `to` is somewhere we federate with.
pub(super) fn judge_to(policy: &Table, to: &Domain) -> Result<(), Reject> {
    if policy.is_local(to) {
        return Err(Reject::new(Reason::RelayDenied, format!("{to} is ours: its node is to be reached directly")));
    }
    let listed = |protocol| policy.partner_for(to, protocol).is_some();
    if listed(Protocol::Sip) || listed(Protocol::Xmpp) || policy.stranger.is_some() {
        return Ok(());
    }
    Err(Reject::new(Reason::UnlistedDomain, format!("no partner entry for {to}")))
}

/// What the node's `verify` makes of it.
pub(super) fn judge_proof(
    settings: &Settings,
    from: &Domain,
    peer: IpAddr,
    shown: &Shown,
    now: Time,
) -> Result<Ruling, Refusal> {
    let unproven = |reject| Refusal::of_question(reject, Condition::NotAuthorized);
    let node = serving(&settings.nodes, from, peer).map_err(unproven)?;
    let other = Other::Node(node.name.to_string());
    match node.verify {
        NodeProof::Network => Ok(Ruling::Believe(Known { other, expires: None })),
        NodeProof::Dialback => Ok(Ruling::Ask(other)),
        NodeProof::Certificate => {
            let expires = show_certificate(settings, node, from, shown, now)
                .map_err(|why| unproven(Reject::new(Reason::Unproven, format!("node {}: {why}", node.name))))?;
            Ok(Ruling::Believe(Known { other, expires: Some(expires) }))
        }
    }
}

/// Whether the node's certificate carries its name (as typed, else the domain it speaks for), and until when.
fn show_certificate(settings: &Settings, node: &Node, from: &Domain, shown: &Shown, now: Time) -> Result<Time, String> {
    let chain = shown.chain.as_deref().filter(|_| shown.tls).ok_or(
        "it showed no certificate, which verify = \"certificate\" demands: it must use TLS and show one (Prosody and ejabberd show the one of \
         their server-to-server port)",
    )?;
    let name = node.tls_name.as_deref().unwrap_or(from.as_str());
    speaks_as(chain, &settings.inside_trust, name, now)?;
    Ok(Time::from_unix_seconds(chain.not_after))
}
