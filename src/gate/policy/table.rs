//! The policy in force: partner entries, rules, the default; and the one function that decides.

use crate::gate::partner::{Action, Budget, Partner, PartnerId, Profile, Protocol, Side};
use crate::gate::reject::Reject;
use crate::wire::address::{Address, Domain};
use std::net::IpAddr;

/// The policy in force.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// Grows by one with each reload.
    pub version: u64,
    /// Entries; [`PartnerId`] indexes them.
    pub partners: Vec<Partner>,
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
    pub from: String,
    /// Glob over `user@domain`, JID form.
    pub to: String,
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
    /// Widens the entry's actions.
    Allow,
    /// Narrows them.
    Refuse,
    /// Accept, then always show offline.
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
        todo!()
    }
    /// The entry to use for an outbound request: the one entry, or of two protocols the preferred one.
    pub fn partner_towards(&self, domain: &Domain) -> Option<PartnerId> {
        todo!()
    }
    /// An entry.
    pub fn partner(&self, id: PartnerId) -> &Partner {
        &self.partners[id.0 as usize]
    }
    /// Decides, and says what settled it.
    pub fn decide(&self, question: Question<'_>) -> (Result<Permit, Reject>, Because) {
        todo!()
    }
    /// Whether a domain is ours.
    pub fn is_local(&self, domain: &Domain) -> bool {
        self.local_domains.contains(domain)
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
