//! What the partners' entries make of the other end of an outside stream: the ladder of proofs, as [`peer::judge_stream`] climbs it.

use super::Settings;
use super::judge::{Judged, Known, Refusal, Ruling, Shown};
use crate::gate::Other;
use crate::gate::partner::{Partner, Proof, Protocol, TlsMode};
use crate::gate::peer::{self, Evidence, Opened};
use crate::gate::policy::Table;
use crate::gate::reject::{Reason, Reject};
use crate::gate::time::Time;
use crate::wire::address::Domain;
use crate::wire::xmpp::Condition;
use std::net::IpAddr;

/// What is demanded of a domain: its entry, or for a stranger the strictest.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms<'a> {
    entry: Option<&'a Partner>,
}

impl Terms<'_> {
    pub fn tls(&self) -> TlsMode {
        self.entry.map_or(TlsMode::Required, |entry| entry.tls)
    }

    fn lists(&self, rung: Proof) -> bool {
        self.entry.map_or(rung == Proof::Certificate, |entry| entry.proof.contains(&rung))
    }

    /// Where this is written, for people.
    pub fn origin(&self) -> String {
        self.entry.map_or_else(|| "[stranger]".to_owned(), |entry| format!("the [[partner]] at {}", entry.origin))
    }
}

/// What is demanded of a domain. Fails for one of ours and for one that is not listed.
pub(super) fn terms<'a>(policy: &'a Table, domain: &Domain) -> Result<Terms<'a>, Reject> {
    let entry = peer::entry(policy, domain, Protocol::Xmpp)?.map(|id| policy.partner(id));
    Ok(Terms { entry })
}

/// The same for a peer that connects from `peer`: it may have to come from networks of its own.
pub(super) fn admit<'a>(policy: &'a Table, domain: &Domain, peer: IpAddr) -> Result<Terms<'a>, Reject> {
    let terms = terms(policy, domain)?;
    // A dual-stack listener shows IPv4 peers as ::ffff:a.b.c.d.
    let peer = peer.to_canonical();
    match terms.entry {
        Some(entry) if !entry.networks.is_empty() && !entry.networks.iter().any(|net| net.contains(&peer)) => {
            let Partner { origin, label, .. } = entry;
            let detail = format!("{origin} has networks without {peer}; add it to let {label} connect from there");
            Err(Reject::new(Reason::NotAllowed, detail))
        }
        _ => Ok(terms),
    }
}

/// Whether TLS is demanded of who says it speaks for `from`. Of who does not say, it is, unless there is a partner who may do without.
pub(super) fn tls_mode(policy: &Table, from: Option<&Domain>) -> TlsMode {
    match from {
        // Who is refused is refused for a better reason.
        Some(from) => terms(policy, from).map_or(TlsMode::Required, |terms| terms.tls()),
        None => {
            let lax = |entry: &Partner| entry.protocol == Protocol::Xmpp && entry.tls != TlsMode::Required;
            if policy.partners.iter().any(lax) { TlsMode::Optional } else { TlsMode::Required }
        }
    }
}

/// What the entry makes of a peer that connected and wants to send for `from`.
pub(super) fn judge_proof(
    settings: &Settings,
    from: &Domain,
    peer: IpAddr,
    shown: &Shown,
    now: Time,
) -> Result<Ruling, Refusal> {
    let personal = |reject: Reject, condition| Refusal { reject, condition, personal: true };
    let terms = admit(&settings.policy, from, peer).map_err(|reject| match reject.reason {
        Reason::Unproven => personal(reject, Condition::NotAuthorized),
        _ => personal(reject, Condition::PolicyViolation),
    })?;
    if terms.tls() == TlsMode::Required && !shown.tls {
        return Err(Refusal::of_question(tls_required(from, &terms), Condition::PolicyViolation));
    }
    match climb(settings, &terms, from, shown, &Opened::ByPeer, now) {
        // XEP-0344: over TLS, a certificate that proves the domain is believed without asking back.
        Ok(known) if known.by(Proof::Certificate) => Ok(Ruling::Believe(known)),
        Ok(known) => Ok(Ruling::Ask(known.other)),
        Err(reject) => Err(personal(reject, Condition::NotAuthorized)),
    }
}

/// Finds out what the certificate of a peer that connected says for `from`, once for what is asked until it is proven.
pub(super) fn judge_certificate(settings: &Settings, from: &Domain, shown: &mut Shown, now: Time) {
    if shown.chain.is_some() && !shown.judged.as_ref().is_some_and(|judged| judged.holds(from, now)) {
        let (tls, chain) = (shown.tls, shown.chain.clone());
        let evidence = Evidence { tls, chain, by: Proof::Certificate, opened: Opened::ByPeer };
        let verdict = peer::judge_stream(&evidence, from, &settings.policy, &settings.trust, now);
        shown.judged = Some(Judged { domain: from.clone(), verdict });
    }
}

/// What the entry makes of the server that we reached for `domain`. Where the ladder ends in dialback, having reached it by the domain's own
/// records says enough: dialback knows no more of the server that it asks.
pub(super) fn recognise(
    settings: &Settings,
    domain: &Domain,
    shown: &Shown,
    opened: &Opened,
    now: Time,
) -> Result<Known, Reject> {
    let terms = terms(&settings.policy, domain)?;
    climb(settings, &terms, domain, shown, opened, now)
}

/// The first rung that holds. The reject is that of the strongest rung listed: it says what is wrong with the certificate.
fn climb(
    settings: &Settings,
    terms: &Terms<'_>,
    domain: &Domain,
    shown: &Shown,
    opened: &Opened,
    now: Time,
) -> Result<Known, Reject> {
    let on = |by| {
        let evidence = Evidence { tls: shown.tls, chain: shown.chain.clone(), by, opened: opened.clone() };
        let is_judged = by == Proof::Certificate && *opened == Opened::ByPeer;
        let expires = match shown.judged.as_ref().filter(|judged| is_judged && judged.holds(domain, now)) {
            Some(judged) => judged.verdict.clone()?,
            None => peer::judge_stream(&evidence, domain, &settings.policy, &settings.trust, now)?,
        };
        Ok(Known { other: Other::Partner(evidence), expires })
    };
    match on(Proof::Certificate) {
        Err(_) if terms.lists(Proof::Dialback) => on(Proof::Dialback),
        known => known,
    }
}

/// For a stream without TLS of a domain that must use it.
pub(super) fn tls_required(from: &Domain, terms: &Terms<'_>) -> Reject {
    let detail = format!("{from} does not use TLS, but {} demands it (tls = \"required\")", terms.origin());
    Reject::new(Reason::NotAllowed, detail)
}

impl Known {
    fn by(&self, rung: Proof) -> bool {
        matches!(&self.other, Other::Partner(evidence) if evidence.by == rung)
    }
}
