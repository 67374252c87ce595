//! Dialogs between SIP and SIP that were seen to be made: counted for the partner's budget and the gauge, and for peers that ignore
//! Record-Route the only way to know whose a request inside one is.
//!
//! COMPAT(aol): the gateway sends what is inside a dialog to our public address without a Route; it is matched by Call-ID and tags.

use super::Way;
use crate::gate::border::mask::Dialog;
use crate::gate::limits;
use crate::gate::partner::{Action, Profile, Side};
use crate::gate::session::table::{digest, fingerprint};
use crate::gate::time::Time;
use crate::wire::address::Domain;
use crate::wire::sip::header::{self, Name, SubscriptionState};
use crate::wire::sip::{Host, Message, Method};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// The dialogs.
#[derive(Debug, Default)]
pub struct Dialogs {
    table: BTreeMap<u64, Seen>,
    ends: BTreeSet<(Time, u64)>,
    /// By partner label: subscriptions, IM sessions and calls.
    counts: BTreeMap<Arc<str>, (u64, u64)>,
    /// Labels and nodes, each once.
    names: BTreeSet<Arc<str>>,
}

/// A dialog that was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The partner entry's label.
    label: Arc<str>,
    /// The node that owns it.
    pub node: Arc<str>,
    /// Who opened it, and as what.
    pub dialog: Dialog,
    /// What the node must see again of a peer that leaves it out.
    pub inside: Option<Box<Inside>>,
    ends: Time,
}

/// Where requests inside a dialog go behind the node's link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inside {
    /// The remote target: the inside Contact's URI.
    pub target: String,
    /// The node's route set, in order.
    pub routes: Vec<String>,
    /// Call-ID as the partner writes it.
    call_id: u64,
}

impl Dialogs {
    /// A 2xx made, refreshed or ended a dialog, whose Call-ID the partner writes so. `is_ours` tells our own Record-Route by its host.
    pub fn answered(
        &mut self,
        now: Time,
        way: &Way,
        request: &Message,
        response: &Message,
        outside_call_id: Option<&str>,
        is_ours: &dyn Fn(Host<'_>) -> bool,
    ) {
        let Some(method @ (Method::Invite | Method::Subscribe | Method::Refer)) = request.method() else {
            if request.method() == Some(&Method::Bye) {
                self.remove(key(&way.partner, request.from_tag(), request.to_tag()));
            }
            return;
        };
        let expires = response.header(Name::Expires).or_else(|| request.header(Name::Expires));
        let expires = expires.and_then(header::delta_seconds);
        let key = key(&way.partner, request.from_tag(), response.to_tag());
        let lasts = match (method, expires) {
            // RFC 6665 §4.4.1: it ends with the NOTIFY that follows, which needs it still.
            (Method::Subscribe, Some(0)) => limits::TIMER_F,
            (Method::Subscribe, Some(seconds)) => {
                Duration::from_secs(u64::from(seconds)).min(limits::EXPIRES_MOST) + limits::RELAYED_DIALOG_GRACE
            }
            _ => limits::RELAYED_DIALOG_IDLE,
        };
        // The node's own words: of its request, or of its answer.
        let from_inside = match way.side {
            Side::Inside => request,
            Side::Outside => response,
        };
        let inside = match (way.profile, outside_call_id) {
            (Profile::Aol, Some(call_id)) => inside_of(way.side, from_inside, call_id, is_ours),
            _ => None,
        };
        // One that begins is not there yet.
        let known = if request.to_tag().is_some() { self.remove(key) } else { None };
        // Those that nothing ends in time leave room for the others; they are only counted.
        let others = self.counts.get(way.label.as_str()).map_or(0, |(_, others)| *others);
        let is_bounded = matches!(way.dialog.action, Action::Subscribe | Action::Presence);
        if self.is_full() || (!is_bounded && others >= u64::from(limits::CHATS_PER_PARTNER)) {
            return;
        }
        let seen = Seen {
            label: self.named(&way.label),
            node: self.named(&way.node),
            dialog: way.dialog,
            inside: inside.map(Box::new).or(known.and_then(|known| known.inside)),
            ends: now + lasts,
        };
        self.insert(key, seen);
    }

    /// A NOTIFY passed: `terminated` ends its subscription.
    pub fn notified(&mut self, partner: &Domain, notify: &Message) {
        // Most say that it goes on.
        let state = notify.header(Name::SubscriptionState).filter(|state| !state.starts_with("active"));
        if state.and_then(SubscriptionState::parse).is_some_and(|state| state.state == "terminated") {
            self.remove(key(partner, notify.from_tag(), notify.to_tag()));
        }
    }

    /// A NOTIFY was answered with 481: its subscription is over (RFC 6665 §4.2.2).
    pub fn unknown(&mut self, partner: &Domain, notify: &Message) {
        self.remove(key(partner, notify.from_tag(), notify.to_tag()));
    }

    /// The dialog that a request without our Route is inside of.
    pub fn of(&self, partner: &Domain, request: &Message) -> Option<&Seen> {
        let seen = self.table.get(&key(partner, request.from_tag(), request.to_tag()))?;
        let call_id = fingerprint(request.call_id().unwrap_or_default());
        seen.inside.as_ref().is_none_or(|inside| inside.call_id == call_id).then_some(seen)
    }

    /// Whether no further one can be remembered.
    pub fn is_full(&self) -> bool {
        self.table.len() >= limits::RELAYED_DIALOGS
    }

    /// Live subscriptions of a partner.
    pub fn subscriptions(&self, label: &str) -> u64 {
        self.counts.get(label).map_or(0, |(subscriptions, _)| *subscriptions)
    }

    /// By partner label: subscriptions, and other dialogs.
    pub fn counted(&self) -> impl Iterator<Item = (&str, u64, u64)> {
        self.counts.iter().map(|(label, (subscriptions, others))| (&**label, *subscriptions, *others))
    }

    /// When the next one is over.
    pub fn next_due(&self) -> Option<Time> {
        self.ends.first().map(|(at, _)| *at)
    }

    /// Forgets those whose time is over.
    pub fn expire(&mut self, now: Time) {
        while let Some((at, key)) = self.ends.first().copied()
            && at <= now
        {
            self.remove(key);
        }
    }

    fn named(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.names.get(name) {
            return Arc::clone(known);
        }
        let name = Arc::from(name);
        self.names.insert(Arc::clone(&name));
        name
    }

    fn insert(&mut self, key: u64, seen: Seen) {
        match self.counts.get_mut(&seen.label) {
            Some(counts) => *count_of(counts, seen.dialog.action) += 1,
            None => *count_of(self.counts.entry(Arc::clone(&seen.label)).or_default(), seen.dialog.action) += 1,
        }
        self.ends.insert((seen.ends, key));
        // Its 2xx may have come twice.
        if let Some(before) = self.table.insert(key, seen) {
            self.uncount(key, &before);
        }
    }

    fn remove(&mut self, key: u64) -> Option<Seen> {
        let seen = self.table.remove(&key)?;
        self.uncount(key, &seen);
        Some(seen)
    }

    fn uncount(&mut self, key: u64, seen: &Seen) {
        // What was put in its place may end at the same moment.
        if self.table.get(&key).is_none_or(|now| now.ends != seen.ends) {
            self.ends.remove(&(seen.ends, key));
        }
        if let Some(counts) = self.counts.get_mut(&seen.label) {
            *count_of(counts, seen.dialog.action) -= 1;
            if *counts == (0, 0) {
                self.counts.remove(&seen.label);
            }
        }
    }
}

fn count_of(counts: &mut (u64, u64), action: Action) -> &mut u64 {
    match action {
        Action::Subscribe | Action::Presence => &mut counts.0,
        _ => &mut counts.1,
    }
}

/// The same from either side: who is From in one request is To in the other.
fn key(partner: &Domain, one: Option<&str>, other: Option<&str>) -> u64 {
    let (one, other) = (one.unwrap_or_default(), other.unwrap_or_default());
    digest(&[], &[partner.as_str(), one.min(other), one.max(other)])
}

/// RFC 3261 §12.1: of a request as it stands, of a response reversed, as the far side would have it; behind our own.
fn inside_of(side: Side, message: &Message, call_id: &str, is_ours: &dyn Fn(Host<'_>) -> bool) -> Option<Inside> {
    let contact = message.addresses(Name::Contact).next()?.1.ok()?;
    let rows = message.addresses(Name::RecordRoute).filter_map(|(_, route)| route.ok());
    let theirs = rows.take_while(|route| !is_ours(route.uri.host));
    let mut routes: Vec<String> = theirs.map(|route| format!("<{}>", route.uri.text)).take(limits::ROUTES).collect();
    if side == Side::Outside {
        routes.reverse();
    }
    Some(Inside { target: contact.uri.text.to_owned(), routes, call_id: fingerprint(call_id) })
}
