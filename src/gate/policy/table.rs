//! The policy in force: partner entries, rules, the default; and the one function that decides.
//!
//! Takes a [`Question`], gives a [`Permit`] or a [`Reject`], and in either case what settled it. Everything is refused that no entry,
//! or stranger profile, names: an empty table refuses everything.

use crate::gate::partner::{Action, Budget, DomainPattern, HostPort, Partner, PartnerId, Profile, Protocol, Side};
use crate::gate::policy::glob::AddressGlob;
use crate::gate::policy::partners::Partners;
use crate::gate::reject::{Reason, Reject};
use crate::wire::address::{Address, Domain};
use std::net::IpAddr;

/// The policy in force.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// Grows by one with each reload.
    pub version: u64,
    /// Entries.
    pub partners: Partners,
    /// In file and line order.
    pub rules: Vec<Rule>,
    /// What unlisted but proven domains may do; `None` = refuse them.
    pub stranger: Option<Stranger>,
    /// Domains that are ours.
    pub local_domains: Vec<Domain>,
}

/// A `[[rule]]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rule {
    /// Its name, for people here; never sent.
    pub name: String,
    /// Where it is written.
    pub origin: String,
    /// Glob over `user@domain`, JID form.
    pub from: AddressGlob,
    /// Glob over `user@domain`, JID form.
    pub to: AddressGlob,
    /// Which actions it speaks of; empty = all.
    pub actions: Vec<Action>,
    /// What it says.
    pub answer: Answer,
}

/// The stranger profile.
#[derive(Clone, PartialEq, Debug)]
pub struct Stranger {
    /// What may be done.
    pub allow: Vec<Action>,
    /// Shared by all strangers.
    pub limits: Budget,
}

/// What a rule answers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Answer {
    /// Widens the entry's actions; never a stranger's.
    Allow,
    /// Narrows them.
    Refuse,
    /// Accept, then always show offline. Speaks of [`Action::Subscribe`] alone.
    Polite,
}

/// What is asked of policy. The domain on the outside is already proven (inbound) or to be reached (outbound).
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// Who asks.
    pub from: &'a Address,
    /// Whom.
    pub to: &'a Address,
    /// What.
    pub action: Action,
    /// Where `from` is.
    pub side: Side,
    /// The protocol of the outside half.
    pub protocol: Protocol,
    /// Where the outside peer connects from; `None` when outbound or hypothetical.
    pub peer_ip: Option<IpAddr>,
}

/// A decision to forward. Made only by [`Table::decide`]; private fields.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Permit {
    partner: Option<PartnerId>,
    from: Address,
    to: Address,
    action: Action,
    side: Side,
    polite: bool,
    policy_version: u64,
}

/// What settled a decision, for `explain`, the log and the audit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Because {
    /// `to` (inbound) or `from` (outbound) is not one of ours, or both are.
    NotOurs,
    /// No entry and `unlisted = "refuse"`.
    Unlisted,
    /// The entry's (or stranger profile's) direction.
    Direction(PartnerId),
    /// The entry's networks.
    Network(PartnerId),
    /// The entry's `allow`, either way.
    Actions(PartnerId),
    /// The stranger profile, either way.
    Stranger,
    /// A rule, by index.
    Rule(usize),
}

impl Table {
    /// The entry for a domain: exact beats wildcard, longest wildcard wins; an entry's `also` counts as exact after its own `domain`s.
    pub fn partner_for(&self, domain: &Domain, protocol: Protocol) -> Option<PartnerId> {
        self.partners.entry_for(domain, protocol)
    }

    /// The entry to use for an outbound request: the one entry, or of two protocols the preferred one.
    ///
    /// Without a preference the entry that names the domain more closely, then the one written first.
    pub fn partner_towards(&self, domain: &Domain) -> Option<PartnerId> {
        let rank = |id: &PartnerId| {
            let entry = self.partner(*id);
            let closeness = match &entry.domain {
                DomainPattern::Exact(exact) if exact == domain => usize::MAX,
                _ if entry.also.contains(domain) => usize::MAX - 1,
                DomainPattern::Under(parent) => parent.as_str().len(),
                DomainPattern::Exact(_) => 0,
            };
            (entry.prefer, closeness, std::cmp::Reverse(id.0))
        };
        [Protocol::Sip, Protocol::Xmpp].into_iter().filter_map(|p| self.partner_for(domain, p)).max_by_key(rank)
    }

    /// Which domain is to be found to reach a partner's domain over a protocol, and the next hop that was typed instead; `None`: it is not federated with.
    pub fn way_to(&self, domain: &Domain, protocol: Protocol) -> Option<(Domain, Option<HostPort>)> {
        match self.partner_for(domain, protocol).map(|id| self.partner(id)) {
            // A clearing house: its further domains are reached through it.
            Some(Partner { domain: DomainPattern::Exact(own), also, next_hop, .. }) if also.contains(domain) => {
                Some((own.clone(), next_hop.clone()))
            }
            Some(partner) => Some((domain.clone(), partner.next_hop.clone())),
            // A stranger's own requests are answered.
            None => self.stranger.is_some().then(|| (domain.clone(), None)),
        }
    }

    /// Whether an entry's partner may connect from there, whatever it says.
    pub fn takes_from(&self, id: PartnerId, ip: IpAddr) -> Result<(), Reject> {
        connects_from(self.partner(id), ip)
    }

    /// An entry.
    pub fn partner(&self, id: PartnerId) -> &Partner {
        &self.partners[id.0 as usize]
    }

    /// Decides, and says what settled it.
    pub fn decide(&self, question: Question<'_>) -> (Result<Permit, Reject>, Because) {
        match self.weigh(&question) {
            Ok((partner, polite, because)) => {
                let permit = Permit {
                    partner,
                    from: question.from.clone(),
                    to: question.to.clone(),
                    action: question.action,
                    side: question.side,
                    polite,
                    policy_version: self.version,
                };
                (Ok(permit), because)
            }
            Err((reject, because)) => (Err(reject), because),
        }
    }

    /// Whether a domain is ours.
    pub fn is_local(&self, domain: &Domain) -> bool {
        self.local_domains.contains(domain)
    }

    /// The stages in the contract's order: local, entry, direction, networks, then `allow` with the first matching rule.
    fn weigh(&self, question: &Question<'_>) -> Result<(Option<PartnerId>, bool, Because), (Reject, Because)> {
        self.check_local(question)?;
        let Some(id) = self.partner_for(question.remote(), question.protocol) else {
            return self.weigh_stranger(question).map(|(polite, because)| (None, polite, because));
        };
        let entry = self.partner(id);
        check_direction(entry, question).map_err(|reject| (reject, Because::Direction(id)))?;
        check_networks(entry, question).map_err(|reject| (reject, Because::Network(id)))?;
        match self.matching_rule(question) {
            Some((index, rule)) => match rule.answer {
                Answer::Allow => Ok((Some(id), false, Because::Rule(index))),
                Answer::Polite => Ok((Some(id), true, Because::Rule(index))),
                Answer::Refuse => Err((refused_by(rule), Because::Rule(index))),
            },
            None if entry.allow.contains(&question.action) => Ok((Some(id), false, Because::Actions(id))),
            None => {
                let Partner { origin, label, allow, .. } = entry;
                let detail = format!(
                    "{origin} allows {label} {}; add \"{}\" to its allow, or a [[rule]] that allows it",
                    list(allow),
                    question.action.as_str()
                );
                Err((Reject::new(Reason::NotAllowed, detail), Because::Actions(id)))
            }
        }
    }

    /// One end must be ours and the other must not be: we are nobody's relay, and nobody outside speaks for us.
    fn check_local(&self, question: &Question<'_>) -> Result<(), (Reject, Because)> {
        let (local, remote) = (question.local(), question.remote());
        let reject = match question.side {
            Side::Outside if !self.is_local(local) => {
                let detail = format!("{local} is not in the domains of any [[identity]]; we relay for nobody else");
                Reject::new(Reason::RelayDenied, detail)
            }
            Side::Outside if self.is_local(remote) => {
                Reject::new(Reason::Unproven, format!("{remote} is ours; nobody outside can prove it"))
            }
            Side::Inside if !self.is_local(local) => {
                let detail =
                    format!("a node sends as {local}, which is not in the domains of any [[identity]]; add it there");
                Reject::new(Reason::RelayDenied, detail)
            }
            Side::Inside if self.is_local(remote) => {
                let detail = format!("{remote} is ours; the nodes carry between local domains, not the edge");
                Reject::new(Reason::RelayDenied, detail)
            }
            _ => return Ok(()),
        };
        Err((reject, Because::NotOurs))
    }

    /// Whether a rule refuses this, whatever else would.
    pub fn refused_by_rule(&self, question: Question<'_>) -> Result<(), Reject> {
        match self.matching_rule(&question) {
            Some((_, rule)) if rule.answer == Answer::Refuse => Err(refused_by(rule)),
            _ => Ok(()),
        }
    }

    /// An unlisted domain: the stranger profile, if there is one. A stranger must start (open federation is inbound first), and rules
    /// narrow only: no `answer = "allow"` reaches beyond listed partners.
    fn weigh_stranger(&self, question: &Question<'_>) -> Result<(bool, Because), (Reject, Because)> {
        let remote = question.remote();
        let Some(stranger) = &self.stranger else {
            let protocol = question.protocol.as_str();
            let detail = match self.partner_for(remote, question.protocol.other()) {
                Some(id) => format!(
                    "{} lists {remote} for {} only; add a [[partner]] with protocol = \"{protocol}\"",
                    self.partner(id).origin,
                    question.protocol.other().as_str()
                ),
                None => format!("no [[partner]] has domain = \"{remote}\" and protocol = \"{protocol}\""),
            };
            return Err((Reject::new(Reason::UnlistedDomain, detail), Because::Unlisted));
        };
        let refuse = |detail: String| Err((Reject::new(Reason::NotAllowed, detail), Because::Stranger));
        if question.side == Side::Inside {
            return refuse(format!("{remote} is a stranger, and strangers must start; add a [[partner]] for it"));
        }
        if !stranger.allow.contains(&question.action) {
            return refuse(format!(
                "[stranger] allows {}; add \"{}\" to its allow, or a [[partner]] for {remote}",
                list(&stranger.allow),
                question.action.as_str()
            ));
        }
        match self.matching_rule(question) {
            Some((index, rule)) => match rule.answer {
                Answer::Allow => Ok((false, Because::Stranger)),
                Answer::Polite => Ok((true, Because::Rule(index))),
                Answer::Refuse => Err((refused_by(rule), Because::Rule(index))),
            },
            None => Ok((false, Because::Stranger)),
        }
    }

    /// The first rule that speaks of this question.
    fn matching_rule(&self, question: &Question<'_>) -> Option<(usize, &Rule)> {
        self.rules.iter().enumerate().find(|(_, rule)| rule.speaks_of(question))
    }
}

impl Rule {
    /// Whether actions and both globs match.
    pub fn speaks_of(&self, question: &Question<'_>) -> bool {
        let named = match self.answer {
            // Showing offline is an answer to a subscription and to nothing else.
            Answer::Polite => question.action == Action::Subscribe,
            Answer::Allow | Answer::Refuse => true,
        };
        named
            && (self.actions.is_empty() || self.actions.contains(&question.action))
            && self.from.matches(question.from)
            && self.to.matches(question.to)
    }
}

impl Answer {
    /// All.
    pub const ALL: &'static [Answer] = &[Answer::Allow, Answer::Refuse, Answer::Polite];
    /// The word that configuration uses.
    pub const fn as_str(self) -> &'static str {
        match self {
            Answer::Allow => "allow",
            Answer::Refuse => "refuse",
            Answer::Polite => "polite",
        }
    }
}

impl<'a> Question<'a> {
    /// The domain on the inside.
    pub fn local(&self) -> &'a Domain {
        match self.side {
            Side::Outside => self.to.domain(),
            Side::Inside => self.from.domain(),
        }
    }

    /// The domain on the outside.
    pub fn remote(&self) -> &'a Domain {
        match self.side {
            Side::Outside => self.from.domain(),
            Side::Inside => self.to.domain(),
        }
    }
}

fn check_direction(entry: &Partner, question: &Question<'_>) -> Result<(), Reject> {
    let Partner { origin, label, .. } = entry;
    if entry.direction.lets(question.side) {
        return Ok(());
    }
    let direction = entry.direction.as_str();
    let detail = match question.side {
        Side::Inside => {
            format!("{origin} has direction = \"{direction}\"; set \"both\" to let us start towards {label}")
        }
        Side::Outside => format!("{origin} has direction = \"{direction}\"; set \"both\" to let {label} start"),
    };
    Err(Reject::new(Reason::NotAllowed, detail))
}

fn check_networks(entry: &Partner, question: &Question<'_>) -> Result<(), Reject> {
    match question.peer_ip.filter(|_| question.side == Side::Outside) {
        Some(ip) => connects_from(entry, ip),
        None => Ok(()),
    }
}

fn connects_from(entry: &Partner, ip: IpAddr) -> Result<(), Reject> {
    if entry.networks.is_empty() {
        return Ok(());
    }
    // A dual-stack listener shows IPv4 peers as ::ffff:a.b.c.d.
    let ip = ip.to_canonical();
    if entry.networks.iter().any(|network| network.contains(&ip)) {
        return Ok(());
    }
    let detail =
        format!("{} has networks without {ip}; add it to let {} connect from there", entry.origin, entry.label);
    Err(Reject::new(Reason::NotAllowed, detail))
}

fn refused_by(rule: &Rule) -> Reject {
    Reject::new(Reason::Rule, format!("{} rule \"{}\" refuses; narrow its from, to or do", rule.origin, rule.name))
}

fn list(actions: &[Action]) -> String {
    match actions {
        [] => "nothing".to_owned(),
        _ => actions.iter().map(|action| action.as_str()).collect::<Vec<_>>().join(", "),
    }
}

impl Permit {
    /// The partner on the outside; `None` for a stranger.
    pub fn partner(&self) -> Option<PartnerId> {
        self.partner
    }
    /// Who.
    pub fn from(&self) -> &Address {
        &self.from
    }
    /// To whom.
    pub fn to(&self) -> &Address {
        &self.to
    }
    /// What.
    pub fn action(&self) -> Action {
        self.action
    }
    /// Where `from` is.
    pub fn side(&self) -> Side {
        self.side
    }
    /// Accept, then always show offline.
    pub fn is_polite(&self) -> bool {
        self.polite
    }
    /// The policy it was decided by.
    pub fn policy_version(&self) -> u64 {
        self.policy_version
    }
}

/// The profile a stranger is spoken to with.
pub const STRANGER_PROFILE: Profile = Profile::Generic;
