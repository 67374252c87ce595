//! Who says so? From what a link has proven to the domains it speaks for (RFC 5922, RFC 6120 §13.7, Microsoft's rule).
//!
//! Takes the facts of a connection (certificate chain, dialback) and the domain of a message as received; gives a [`Claim`] or the
//! refusal. Nothing here rewrites an address: identity is proven on what was written.

mod names;
pub mod nodes;
pub mod trust;

pub use nodes::node_of;
pub use trust::{TrustSet, TrustSets, Untrusted, Use};

use crate::gate::partner::{DomainPattern, Identity, LinkId, Partner, PartnerId, Proof, Protocol, TlsMode, TrustId};
use crate::gate::policy::Table;
use crate::gate::reject::{Reason, Reject};
use crate::gate::time::Time;
use crate::wire::address::Domain;
use crate::wire::certificate::Chain;
use std::sync::Arc;

/// Which end opened the connection: RFC 5922 judges the two differently.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opened {
    /// The peer connected to us.
    ByPeer,
    /// We connected to reach `domain`; SRV (or `next_hop`) led us to `host`.
    ByUs {
        /// The domain we wanted.
        domain: Domain,
        /// The host name we connected to, if a name.
        host: Option<String>,
        /// Whether an administrator typed the host (`next_hop`).
        typed: bool,
    },
}

/// What a connection has shown of its other end.
#[derive(Clone, Copy, Debug)]
pub enum Facts<'a> {
    /// A SIP connection from or to the outside.
    Sip {
        /// The peer's certificate chain.
        chain: Option<&'a Chain>,
        /// Which end opened it.
        opened: &'a Opened,
    },
    /// An XMPP stream from or to the outside, and what it has shown for the domain in question.
    Xmpp(&'a Evidence),
}

/// What the other end of an XMPP stream has shown for one domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// Whether the connection is encrypted.
    pub tls: bool,
    /// The certificate chain, if it showed one.
    pub chain: Option<Arc<Chain>>,
    /// Which rung of the ladder it took: its certificate, or the word of the domain's own server.
    pub by: Proof,
    /// Which end opened the stream.
    pub opened: Opened,
}

/// A proven right to speak for a domain. Made only by [`attribute`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Claim {
    partner: Option<PartnerId>,
    link: LinkId,
    domain: Domain,
    protocol: Protocol,
    expires: Option<Time>,
}

impl Claim {
    /// The partner entry; `None` for a stranger.
    pub fn partner(&self) -> Option<PartnerId> {
        self.partner
    }
    /// The link that proved it.
    pub fn link(&self) -> LinkId {
        self.link
    }
    /// The domain.
    pub fn domain(&self) -> &Domain {
        &self.domain
    }
    /// The link's protocol.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }
    /// When the certificate behind it ends; the claim is void from then on.
    pub fn expires(&self) -> Option<Time> {
        self.expires
    }
}

/// Whether the other end of `link` speaks for `from`, the domain of a message as received from the outside.
///
/// On SIP this costs a path validation; whoever asks for every message keeps the claim by link, domain and policy version.
pub fn attribute(
    link: LinkId,
    facts: Facts<'_>,
    from: &Domain,
    policy: &Table,
    trust: &TrustSets,
    now: Time,
) -> Result<Claim, Reject> {
    let (protocol, expires) = match facts {
        Facts::Xmpp(evidence) => (Protocol::Xmpp, judge_stream(evidence, from, policy, trust, now)?),
        Facts::Sip { chain, opened } => {
            let partner = entry(policy, from, Protocol::Sip)?;
            let Some(chain) = chain else {
                return Err(Reject::new(Reason::Unproven, "the peer showed no certificate; a SIP partner must"));
            };
            match partner {
                Some(id) => speaks_for(chain, trust, policy.partner(id), from, opened, now)?,
                None => stranger_speaks_for(chain, trust, Protocol::Sip, from, now)?,
            }
            (Protocol::Sip, Some(Time::from_unix_seconds(chain.not_after)))
        }
    };
    let partner = policy.partner_for(from, protocol);
    Ok(Claim { partner, link, domain: from.clone(), protocol, expires })
}

/// The entry for a domain of the outside; `None` for a stranger where there may be strangers.
///
/// Fails for a domain of ours, which nobody outside can prove, and for one that no entry names.
pub fn entry(policy: &Table, from: &Domain, protocol: Protocol) -> Result<Option<PartnerId>, Reject> {
    if policy.is_local(from) {
        return Err(Reject::new(
            Reason::Unproven,
            format!(
                "{from} is ours: nobody outside can prove it; a local user's message must come in on an [inside] listener"
            ),
        ));
    }
    let partner = policy.partner_for(from, protocol);
    if partner.is_none() && policy.stranger.is_none() {
        return Err(Reject::new(
            Reason::UnlistedDomain,
            format!("no [[partner]] entry for {from} over {}; add one to federate with it", protocol_name(protocol)),
        ));
    }
    Ok(partner)
}

/// What [`attribute`] asks of an XMPP stream, for one that is still negotiated: until when what it has shown for `domain` holds.
pub fn judge_stream(
    evidence: &Evidence,
    domain: &Domain,
    policy: &Table,
    trust: &TrustSets,
    now: Time,
) -> Result<Option<Time>, Reject> {
    let partner = entry(policy, domain, Protocol::Xmpp)?;
    stream_speaks_for(evidence, trust, partner.map(|id| policy.partner(id)), domain, now)
}

/// Whether what a stream has shown for `domain` is what the entry, or for a stranger the RFC, demands; until when it holds.
///
/// The ladder: a rung counts only if the entry lists it, and nothing that the peer does makes another rung count.
fn stream_speaks_for(
    evidence: &Evidence,
    trust: &TrustSets,
    partner: Option<&Partner>,
    domain: &Domain,
    now: Time,
) -> Result<Option<Time>, Reject> {
    let ladder = partner.map_or(&[Proof::Certificate][..], |partner| &partner.proof);
    if !evidence.tls && partner.is_none_or(|partner| partner.tls == TlsMode::Required) {
        return Err(Reject::new(
            Reason::Unproven,
            format!("the stream is not encrypted; {domain} must use TLS (tls = \"required\")"),
        ));
    }
    if !ladder.contains(&evidence.by) {
        let detail = format!(
            "{domain} is proven by {}, which its entry does not accept; its proof is [{}]",
            evidence.by.as_str(),
            list(ladder.iter().map(|rung| rung.as_str()))
        );
        return Err(Reject::new(Reason::Unproven, detail));
    }
    match (evidence.by, &evidence.chain) {
        (Proof::Dialback, _) => Ok(None),
        (Proof::Certificate, None) => Err(Reject::new(Reason::Unproven, "the peer showed no certificate")),
        (Proof::Certificate, Some(chain)) => {
            match partner {
                Some(partner) => speaks_for(chain, trust, partner, domain, &evidence.opened, now)?,
                None => stranger_speaks_for(chain, trust, Protocol::Xmpp, domain, now)?,
            }
            Ok(Some(Time::from_unix_seconds(chain.not_after)))
        }
    }
}

/// Judges whether the holder of `chain` speaks for `domain` as `partner`'s entry demands: path to the partner's trust, validity, EKU,
/// revocation, then names. The reject's detail says what is wrong with which name and how to mend it.
pub fn speaks_for(
    chain: &Chain,
    trust: &TrustSets,
    partner: &Partner,
    domain: &Domain,
    opened: &Opened,
    now: Time,
) -> Result<(), Reject> {
    // Whom we connected to, and why, says something of the entry for which we did, and nothing of another's domain.
    let opened = match opened {
        Opened::ByUs { domain: wanted, .. } if !(partner.domain.matches(wanted) || partner.also.contains(wanted)) => {
            &Opened::ByPeer
        }
        opened => opened,
    };
    let usage = if partner.client_eku && *opened == Opened::ByPeer { Use::Client } else { Use::Any };
    leads_to(chain, trust, partner.trust, usage, now).map_err(|why| {
        let mend = match why {
            Untrusted::UnknownIssuer(_) => {
                format!("; add the authority to trust of the [[partner]] at {} or to [tls] trust", partner.origin)
            }
            Untrusted::Usage if usage == Use::Client => {
                format!("; the [[partner]] at {} demands clientAuth, set eku = \"any\" to do without", partner.origin)
            }
            Untrusted::Expired => "; the partner must renew it".to_owned(),
            _ => String::new(),
        };
        untrusted(chain, &why, &mend)
    })?;
    let refusal = match names::prove(&chain.names, partner.protocol, &partner.identity, domain, opened) {
        Ok(()) => return Ok(()),
        Err(refusal) => refusal,
    };
    // A clearing house proves its own domain and speaks for those its entry lists under `also`.
    if partner.also.contains(domain)
        && let DomainPattern::Exact(own) = &partner.domain
        && names::prove(&chain.names, partner.protocol, &partner.identity, own, opened).is_ok()
    {
        return Ok(());
    }
    Err(Reject::new(Reason::Unproven, format!("{refusal} ([[partner]] at {})", partner.origin)))
}

/// A stranger must prove its domain by the RFCs' own rules and the common trust.
fn stranger_speaks_for(
    chain: &Chain,
    trust: &TrustSets,
    protocol: Protocol,
    domain: &Domain,
    now: Time,
) -> Result<(), Reject> {
    leads_to(chain, trust, TrustId(0), Use::Any, now).map_err(|why| untrusted(chain, &why, ""))?;
    names::prove(&chain.names, protocol, &Identity::Domain, domain, &Opened::ByPeer)
        .map_err(|refusal| Reject::new(Reason::Unproven, refusal))
}

fn leads_to(chain: &Chain, trust: &TrustSets, id: TrustId, usage: Use, now: Time) -> Result<(), Untrusted> {
    match trust.get(id) {
        Some(set) => set.verify(chain, usage, now),
        None => Err(Untrusted::Other("no authority is trusted here: [tls] trust is empty".to_owned())),
    }
}

fn untrusted(chain: &Chain, why: &Untrusted, mend: &str) -> Reject {
    let fingerprint = chain.fingerprint.get(..16).unwrap_or_default();
    Reject::new(
        Reason::Unproven,
        format!("the peer's certificate ({}; sha256 {fingerprint}…) does not count: {why}{mend}", chain.names),
    )
}

fn protocol_name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Sip => "SIP",
        Protocol::Xmpp => "XMPP",
    }
}

fn list<'a>(items: impl Iterator<Item = &'a str>) -> String {
    let items: Vec<_> = items.take(8).collect();
    if items.is_empty() { "nothing".to_owned() } else { items.join(", ") }
}

#[cfg(test)]
mod tests;
