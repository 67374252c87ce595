//! The connections that may carry messages, and what each has proven.

use crate::gate::limits;
use crate::gate::partner::{LinkId, PartnerId, Protocol, Side};
use crate::gate::peer::{self, Claim, Evidence, Facts, Opened};
use crate::gate::reject::{Reason, Reject};
use crate::gate::settings::Settings;
use crate::gate::time::Time;
use crate::wire::address::Domain;
use crate::wire::certificate::Chain;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

/// All links.
#[derive(Debug, Default)]
pub struct Links {
    table: BTreeMap<LinkId, Link>,
    /// Listed partners that have just proven themselves, and until when the certificate lasts.
    shown: Vec<(PartnerId, Time)>,
}

/// One link.
#[derive(Debug)]
pub struct Link {
    /// Its side.
    pub side: Side,
    /// The other end.
    pub peer: SocketAddr,
    /// The node on whose `public_port` it came in.
    pub door: Option<String>,
    /// What is at the other end.
    pub far: Far,
}

/// What is at a link's other end.
#[derive(Debug)]
pub enum Far {
    /// A SIP partner: its chain, who opened the connection, and what it was found to speak for under which policy.
    Sip {
        /// The certificate chain.
        chain: Option<Arc<Chain>>,
        /// Which end opened it.
        opened: Opened,
        /// Found out before.
        claims: BTreeMap<Domain, (u64, Result<Claim, Reject>)>,
    },
    /// An inside SIP node; of several behind one address, those it may be.
    SipNode {
        /// Their names.
        nodes: Vec<String>,
        /// The certificate chain, if over TLS.
        chain: Option<Arc<Chain>>,
        /// Whether we opened the connection.
        ours: bool,
    },
    /// An inside XMPP node, and the pairs of domains its stream may carry.
    XmppNode {
        /// The node's name.
        node: String,
        /// Sending and receiving domain.
        pairs: BTreeSet<(Domain, Domain)>,
        /// Whether we opened the stream: then we send on it, else we receive.
        ours: bool,
        /// Whether stanzas flow the other way, too (XEP-0288).
        both_ways: bool,
        /// Whether the other end acknowledges what we send (XEP-0198).
        managed: bool,
    },
    /// A partner's XMPP server.
    XmppPartner {
        /// A domain of the partner's and one of ours, and what was shown for the former.
        pairs: BTreeMap<(Domain, Domain), Evidence>,
        /// Whether we opened the stream: then we send on it, else we receive.
        ours: bool,
        /// Whether stanzas flow the other way, too (XEP-0288).
        both_ways: bool,
        /// Whether the other end acknowledges what we send (XEP-0198).
        managed: bool,
        /// What it was found to speak for before.
        claims: BTreeMap<Domain, (u64, Result<Claim, Reject>)>,
    },
    /// A component stream of ours: between one partner domain and all domains of a node.
    Component {
        /// The node's name.
        node: String,
        /// The partner domain.
        domain: Domain,
    },
}

impl Links {
    /// Adds or replaces a link.
    pub fn insert(&mut self, id: LinkId, link: Link) {
        self.table.insert(id, link);
    }

    /// A link.
    pub fn get(&self, id: LinkId) -> Option<&Link> {
        self.table.get(&id)
    }

    /// A link, to change.
    pub fn get_mut(&mut self, id: LinkId) -> Option<&mut Link> {
        self.table.get_mut(&id)
    }

    /// Takes a link out.
    pub fn remove(&mut self, id: LinkId) -> Option<Link> {
        self.table.remove(&id)
    }

    /// Whether the far end of an outside link speaks for `from`; found out once for each link, domain and policy.
    pub fn claim(&mut self, settings: &Settings, id: LinkId, from: &Domain, now: Time) -> Result<Claim, Reject> {
        let unproven = |what: String| Err(Reject::new(Reason::Unproven, what));
        let version = settings.policy.version;
        let far = self.table.get_mut(&id).map(|link| &mut link.far);
        if let Some(Far::Sip { claims, .. } | Far::XmppPartner { claims, .. }) = &far
            && let Some((known, found)) = claims.get(from)
            && *known == version
            && found.as_ref().is_ok_and(|claim| claim.expires().is_none_or(|end| end > now))
        {
            return found.clone();
        }
        let mut claims_max = limits::CLAIMS_PER_LINK;
        let (facts, claims) = match far {
            Some(Far::Sip { chain, opened, claims }) => (Facts::Sip { chain: chain.as_deref(), opened }, claims),
            Some(Far::XmppPartner { pairs, claims, .. }) => {
                // As many as it has proven: none is forgotten only to be judged again at its next stanza.
                claims_max = claims_max.max(pairs.len());
                match pairs.iter().find(|((remote, _), _)| remote == from) {
                    Some((_, evidence)) => (Facts::Xmpp(evidence), claims),
                    None => return unproven(format!("{from} is not proven on this stream")),
                }
            }
            _ => return unproven("the link is gone, or no partner's".to_owned()),
        };
        let found = peer::attribute(id, facts, from, &settings.policy, &settings.trust, now);
        if claims.len() >= claims_max {
            claims.clear();
        }
        let is_first = claims.insert(from.clone(), (version, found.clone())).is_none();
        let claim = found?;
        if is_first {
            if let Err(reject) = self.check_count(settings, &claim) {
                if let Some(Far::Sip { claims, .. } | Far::XmppPartner { claims, .. }) =
                    self.table.get_mut(&id).map(|link| &mut link.far)
                {
                    claims.remove(from);
                }
                return Err(reject);
            }
            if let Some(partner) = claim.partner() {
                self.shown.extend(claim.expires().map(|end| (partner, end)));
            }
        }
        Ok(claim)
    }

    /// The certificates by which partners have proven themselves since the last time.
    pub fn take_shown(&mut self) -> Vec<(PartnerId, Time)> {
        std::mem::take(&mut self.shown)
    }

    /// How many links there are of each kind.
    pub fn counted(&self) -> BTreeMap<(Side, Protocol), u64> {
        let mut counted = BTreeMap::new();
        for link in self.table.values() {
            *counted.entry((link.side, link.protocol())).or_insert(0) += 1;
        }
        counted
    }

    /// Every link.
    pub fn iter(&self) -> impl Iterator<Item = (LinkId, &Link)> {
        self.table.iter().map(|(id, link)| (*id, link))
    }

    /// Whether whoever has just claimed a domain has no more connections than it may have.
    fn check_count(&self, settings: &Settings, claim: &Claim) -> Result<(), Reject> {
        let is_whose = |other: &Claim| other.partner() == claim.partner();
        let (is_beyond, detail) = match (claim.partner(), &settings.policy.stranger) {
            (Some(partner), _) => {
                let links_max = settings.policy.partner(partner).limits.links as usize;
                let count = self.speaking_for(is_whose).count();
                (count > links_max, format!("{count} links of one partner; its limits.links is {links_max}"))
            }
            (None, Some(stranger)) => {
                let links_max = stranger.limits.links as usize;
                let count = self.speaking_for(|other| is_whose(other) && other.domain() == claim.domain()).count();
                match self.speaking_for(is_whose).count() > limits::STRANGER_LINKS {
                    true => (true, format!("more than {} links of strangers", limits::STRANGER_LINKS)),
                    false => {
                        let detail =
                            format!("{count} links of one stranger; limits.links of [stranger] is {links_max}");
                        (count > links_max, detail)
                    }
                }
            }
            (None, None) => return Ok(()),
        };
        if is_beyond { Err(Reject::new(Reason::RateLimited, detail)) } else { Ok(()) }
    }

    /// Links that their peers opened, and that were found to speak for such a domain.
    fn speaking_for(&self, such: impl Fn(&Claim) -> bool) -> impl Iterator<Item = &Link> {
        self.table.values().filter(move |link| match &link.far {
            Far::Sip { claims, opened: Opened::ByPeer, .. } | Far::XmppPartner { claims, ours: false, .. } => {
                claims.values().any(|(_, found)| found.as_ref().is_ok_and(&such))
            }
            _ => false,
        })
    }
}

impl Link {
    /// Whether the other end acknowledges what we send (XEP-0198).
    pub fn is_managed(&self) -> bool {
        matches!(self.far, Far::XmppNode { managed: true, .. } | Far::XmppPartner { managed: true, .. })
    }

    /// Its protocol.
    pub fn protocol(&self) -> Protocol {
        match self.far {
            Far::Sip { .. } | Far::SipNode { .. } => Protocol::Sip,
            Far::XmppNode { .. } | Far::XmppPartner { .. } | Far::Component { .. } => Protocol::Xmpp,
        }
    }
}
