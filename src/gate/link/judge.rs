//! Who may prove what on an accepted stream: one set of questions, answered for the outside by the partners' entries and for the inside by the
//! nodes'.

use super::Settings;
use super::{node, partner};
use crate::gate::Other;
use crate::gate::partner::{Side, TlsMode};
use crate::gate::reject::{Reason, Reject};
use crate::gate::time::Time;
use crate::wire::address::Domain;
use crate::wire::certificate::Chain;
use crate::wire::xmpp::Condition;
use std::net::IpAddr;
use std::sync::Arc;

/// What the connection under a stream has shown of its other end.
#[derive(Debug, Clone, Default)]
pub(super) struct Shown {
    /// Whether it is encrypted.
    pub tls: bool,
    /// The certificate chain, if one was shown.
    pub chain: Option<Arc<Chain>>,
    /// What it says for the domain of a partner that connected, until that is proven: asked several times on the way there, and each path
    /// validation costs about as much as the rest of a negotiation.
    pub judged: Option<Judged>,
}

/// What a chain says for one domain.
#[derive(Debug, Clone)]
pub(super) struct Judged {
    pub domain: Domain,
    /// Until when it proves it; or why not.
    pub verdict: Result<Option<Time>, Reject>,
}

impl Judged {
    /// Whether that is known for this domain, now.
    pub fn holds(&self, domain: &Domain, now: Time) -> bool {
        self.domain == *domain && !matches!(self.verdict, Ok(Some(end)) if end <= now)
    }
}

/// The other end, known.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub other: Other,
    /// When the certificate behind it ends.
    pub expires: Option<Time>,
}

/// What is made of a peer that wants to send for a domain.
#[derive(Debug)]
pub(super) enum Ruling {
    /// Its address or its certificate says enough.
    Believe(Known),
    /// The domain's own server is asked.
    Ask(Other),
}

/// It may not, and how that is said.
#[derive(Debug)]
pub(super) struct Refusal {
    pub reject: Reject,
    /// As the answer to a dialback question (XEP-0220 §2.4).
    pub condition: Condition,
    /// Whether it is for who asks, not for what is asked: such a peer has no business on the stream.
    pub personal: bool,
}

impl Refusal {
    pub fn of_question(reject: Reject, condition: Condition) -> Self {
        Self { reject, condition, personal: false }
    }
}

/// Whether TLS is demanded of who says it speaks for `from`, or has not said for whom it speaks.
pub(super) fn tls_mode(side: Side, settings: &Settings, from: Option<&Domain>) -> TlsMode {
    match side {
        Side::Inside => settings.inside_tls,
        Side::Outside => partner::tls_mode(&settings.policy, from),
    }
}

/// Whether a peer at that address may say that it speaks for `from`.
pub(super) fn judge_from(side: Side, settings: &Settings, from: &Domain, peer: IpAddr) -> Result<(), Reject> {
    match side {
        Side::Inside => node::serving(&settings.nodes, from, peer).map(|_| ()),
        Side::Outside => partner::admit(&settings.policy, from, peer).map(|_| ()),
    }
}

/// Whether stanzas for `to` may come to us: from the inside, to somewhere we federate with; from the outside, to a domain of ours.
pub(super) fn judge_to(side: Side, settings: &Settings, to: &Domain) -> Result<(), Reject> {
    match side {
        Side::Inside => node::judge_to(&settings.policy, to),
        Side::Outside if settings.policy.is_local(to) => Ok(()),
        Side::Outside => {
            let detail = format!("{to} is not in the domains of any [[identity]]; we relay for nobody else");
            Err(Reject::new(Reason::RelayDenied, detail))
        }
    }
}

/// What is made of a peer that wants to send for `from` and shows a dialback key, perhaps an empty one.
pub(super) fn judge_proof(
    side: Side,
    settings: &Settings,
    from: &Domain,
    key: &str,
    peer: IpAddr,
    shown: &Shown,
    now: Time,
) -> Result<Ruling, Refusal> {
    let other = match side {
        Side::Inside => node::judge_proof(settings, from, peer, shown, now)?,
        Side::Outside => partner::judge_proof(settings, from, peer, shown, now)?,
    };
    match other {
        Ruling::Ask(_) if key.is_empty() => {
            let reject = Reject::new(Reason::Unproven, "an empty dialback key");
            Err(Refusal::of_question(reject, Condition::NotAcceptable))
        }
        ruling => Ok(ruling),
    }
}
