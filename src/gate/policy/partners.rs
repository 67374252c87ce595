//! The partner entries, and which of them is a domain's, found without looking at all of them: some federations list thousands.

use crate::gate::partner::{DomainPattern, Partner, PartnerId, Protocol};
use crate::wire::address::Domain;
use std::collections::BTreeMap;
use std::ops::Deref;

/// The entries, in file order; [`PartnerId`] indexes them.
#[derive(Clone, Debug, Default)]
pub struct Partners {
    entries: Vec<Partner>,
    sip: Index,
    xmpp: Index,
}

/// Of one protocol: by domain, the first entry that speaks of it so.
#[derive(Clone, Debug, Default)]
struct Index {
    exact: BTreeMap<Domain, PartnerId>,
    also: BTreeMap<Domain, PartnerId>,
    under: BTreeMap<Domain, PartnerId>,
}

impl From<Vec<Partner>> for Partners {
    fn from(entries: Vec<Partner>) -> Self {
        let (mut sip, mut xmpp) = (Index::default(), Index::default());
        for (number, entry) in (0..).zip(&entries) {
            let index = match entry.protocol {
                Protocol::Sip => &mut sip,
                Protocol::Xmpp => &mut xmpp,
            };
            let (named, domain) = match &entry.domain {
                DomainPattern::Exact(domain) => (&mut index.exact, domain),
                DomainPattern::Under(parent) => (&mut index.under, parent),
            };
            named.entry(domain.clone()).or_insert(PartnerId(number));
            for domain in &entry.also {
                index.also.entry(domain.clone()).or_insert(PartnerId(number));
            }
        }
        Self { entries, sip, xmpp }
    }
}

impl FromIterator<Partner> for Partners {
    fn from_iter<I: IntoIterator<Item = Partner>>(entries: I) -> Self {
        Vec::from_iter(entries).into()
    }
}

impl Partners {
    /// Changes the entries.
    pub fn change(&mut self, change: impl FnOnce(&mut Vec<Partner>)) {
        let mut entries = std::mem::take(&mut self.entries);
        change(&mut entries);
        *self = entries.into();
    }

    /// The entry for a domain: exact beats wildcard, longest wildcard wins; an entry's `also` counts as exact after its own `domain`s.
    pub fn entry_for(&self, domain: &Domain, protocol: Protocol) -> Option<PartnerId> {
        let index = match protocol {
            Protocol::Sip => &self.sip,
            Protocol::Xmpp => &self.xmpp,
        };
        let named = index.exact.get(domain).or_else(|| index.also.get(domain));
        named.or_else(|| parents(domain.as_str()).find_map(|parent| index.under.get(parent))).copied()
    }
}

/// What a domain is under, the longest first.
fn parents(domain: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(domain.split_once('.'), |(_, parent)| parent.split_once('.')).map(|(_, parent)| parent)
}

impl Deref for Partners {
    type Target = [Partner];

    fn deref(&self) -> &[Partner] {
        &self.entries
    }
}

impl<'a> IntoIterator for &'a Partners {
    type Item = &'a Partner;
    type IntoIter = std::slice::Iter<'a, Partner>;

    fn into_iter(self) -> Self::IntoIter {
        self.entries.iter()
    }
}
