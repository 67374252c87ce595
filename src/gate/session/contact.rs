//! An XMPP watcher of a SIP presentity (RFC 8048 §5): the user's roster entry is the authorisation, a SIP subscription of our own follows it.
//!
//! Each local watcher has a dialog of its own, also for the same contact: the partner may authorise them differently. Nothing is told while
//! the subscription is pending; the first active NOTIFY is the `subscribed`. What passes by itself is tried again; only a refusal ends it.

use super::dialog::Dialog;
use super::transaction::{Clients, Ended, Purpose, Sent};
use super::{Deadline, Parcel, Passage, Step, Turn, partner_hop};
use crate::gate::Path;
use crate::gate::border::aol;
use crate::gate::event::{Event, Outcome, Settled};
use crate::gate::limits;
use crate::gate::partner::{Action, Profile, Protocol, Side};
use crate::gate::policy::{Permit, Question};
use crate::gate::record::{Kept, Record, RecordId};
use crate::gate::reject::{Reason, Reject};
use crate::gate::route::{HopKey, table};
use crate::gate::time::Time;
use crate::gate::translate::{error, presence};
use crate::wire::address::{Address, Jid};
use crate::wire::pidf::{BadDocument, Document};
use crate::wire::sip::header::{MediaType, Name, SubscriptionState, delta_seconds};
use crate::wire::sip::{Message, Method};
use crate::wire::xmpp::{Element, NS_SERVER};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// Watcher (ours) and presentity (the partner's).
pub type ContactKey = (Address, Address);

/// All contacts.
#[derive(Debug, Default)]
pub struct Contacts {
    table: BTreeMap<ContactKey, Contact>,
    /// Legs by our tag.
    tags: BTreeMap<String, ContactKey>,
}

#[derive(Debug)]
struct Contact {
    node: String,
    seen_by: Profile,
    partner: String,
    of: Profile,
    /// The watcher was told `subscribed`.
    granted: bool,
    /// The watcher unsubscribed; only the end is awaited.
    leaving: bool,
    /// It was told `unsubscribed`.
    farewell: bool,
    leg: Option<Leg>,
    /// The last presence told, to tell it again to who asks.
    shown: Option<Element>,
    /// When to subscribe anew, and how often that came to nothing.
    retry_at: Option<Time>,
    failures: u32,
    /// When the node last spoke for the watcher: for who never comes online nothing is refreshed.
    seen_at: Time,
}

/// Our subscription (RFC 6665 §4.1).
#[derive(Debug)]
struct Leg {
    dialog: Dialog,
    /// Their tag is known.
    confirmed: bool,
    in_flight: bool,
    /// The Expires we ask for.
    ask: Duration,
    expires_at: Time,
    refresh_at: Option<Time>,
    /// RFC 6665 §4.1.2.4 Timer N: the first NOTIFY comes before this.
    notify_by: Option<Time>,
    began_at: Time,
}

/// What is kept of a contact.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct KeptContact {
    watcher: String,
    presentity: String,
    granted: bool,
    leg: Option<KeptLeg>,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
struct KeptLeg {
    dialog: Dialog,
    expires_at_unix_nanos: u64,
}

/// Who serves the two ends.
#[derive(Debug, Clone, Copy)]
pub struct Ends<'a> {
    /// The watcher's node.
    pub node: &'a str,
    /// Its users' dialect.
    pub seen_by: Profile,
    /// The partner's label.
    pub partner: &'a str,
    /// Its dialect.
    pub of: Profile,
}

impl Contacts {
    /// `subscribe` from a user; also `probe` (`is_probe`), which a server sends only for who is authorised already.
    pub fn subscribe(
        &mut self,
        turn: &mut Turn<'_>,
        clients: &mut Clients,
        permit: &Permit,
        ends: Ends<'_>,
        is_probe: bool,
    ) -> Result<(), Reject> {
        let key = (permit.from().clone(), permit.to().clone());
        // What the partner can't spell is refused now, not at the first SUBSCRIBE.
        aol::outward(ends.of, &key.1)?;
        if self.table.len() >= limits::SUBSCRIPTIONS && !self.table.contains_key(&key) {
            return Err(Reject::new(Reason::Overloaded, format!("{} contacts are watched", limits::SUBSCRIPTIONS)));
        }
        let contact = self.table.entry(key.clone()).or_insert_with(|| Contact {
            node: ends.node.to_owned(),
            seen_by: ends.seen_by,
            partner: ends.partner.to_owned(),
            of: ends.of,
            granted: is_probe,
            leaving: false,
            farewell: false,
            leg: None,
            shown: None,
            retry_at: Some(turn.now),
            failures: 0,
            seen_at: turn.now,
        });
        contact.seen_at = turn.now;
        if contact.leaving {
            // Back before the end was heard: begin anew.
            contact.leaving = false;
            contact.farewell = false;
            contact.granted = is_probe;
            contact.retry_at = Some(turn.now);
            if let Some(leg) = contact.leg.take() {
                self.tags.remove(&leg.dialog.local_tag);
            }
        }
        let (granted, shown) = (contact.granted, contact.shown.clone());
        if contact.leg.is_none() && is_probe {
            contact.retry_at = Some(contact.retry_at.map_or(turn.now, |at| at.min(turn.now)));
        }
        self.keep(turn, &key);
        if granted && !is_probe {
            self.say(turn, &key, Element::new("presence", NS_SERVER).attr("type", "subscribed"), true, None);
        }
        if let Some(shown) = shown {
            self.say(turn, &key, shown, false, None);
        }
        self.due(turn, clients, &key);
        Ok(())
    }

    /// `unsubscribe` from a user.
    pub fn unsubscribe(&mut self, turn: &mut Turn<'_>, clients: &mut Clients, key: &ContactKey) {
        let Some(contact) = self.table.get_mut(key) else { return };
        contact.leaving = true;
        contact.retry_at = None;
        match &mut contact.leg {
            Some(leg) if leg.confirmed => {
                leg.ask = Duration::ZERO;
                if !leg.in_flight {
                    self.send(turn, clients, key);
                }
                self.keep(turn, key);
            }
            _ => self.left(turn, key),
        }
    }

    /// The node spoke for the watcher.
    pub fn seen(&mut self, now: Time, key: &ContactKey) {
        if let Some(contact) = self.table.get_mut(key) {
            contact.seen_at = now;
        }
    }

    /// The addresses of a dialog, by our tag.
    pub fn of_dialog(&self, local_tag: &str) -> Option<&ContactKey> {
        self.tags.get(local_tag)
    }

    /// A NOTIFY inside one of our dialogs: its status. `None`: no such dialog (481).
    pub fn notify(
        &mut self,
        turn: &mut Turn<'_>,
        clients: &mut Clients,
        request: &Message,
        at: Time,
    ) -> Option<Result<(), Reject>> {
        let key = self.tags.get(request.to_tag()?)?.clone();
        let contact = self.table.get_mut(&key)?;
        let leg = contact.leg.as_mut().filter(|leg| leg.dialog.call_id == request.call_id().unwrap_or_default())?;
        if leg.confirmed {
            // RFC 6665 §4.5.1: of forked subscriptions presence keeps one.
            if !leg.dialog.is_of(request) {
                return None;
            }
        } else if leg.dialog.confirm(request).is_ok() {
            leg.confirmed = true;
        }
        Some(self.read_notify(turn, clients, &key, request, at))
    }

    fn read_notify(
        &mut self,
        turn: &mut Turn<'_>,
        clients: &mut Clients,
        key: &ContactKey,
        request: &Message,
        at: Time,
    ) -> Result<(), Reject> {
        let state = request
            .header(Name::SubscriptionState)
            .and_then(SubscriptionState::parse)
            .ok_or_else(|| Reject::new(Reason::Malformed, "a NOTIFY without Subscription-State"))?;
        let document = read_document(request)?;
        let Some(contact) = self.table.get_mut(key) else { return Ok(()) };
        let Some(leg) = contact.leg.as_mut() else { return Ok(()) };
        leg.dialog.follow(request)?;
        leg.notify_by = None;
        contact.failures = 0;
        let partner = contact.partner.clone();
        let settled = Settled {
            partner,
            side: Side::Outside,
            protocol: Protocol::Sip,
            action: Action::Presence,
            outcome: Outcome::Delivered,
        };
        turn.step(Step::Event(Event::Settled(settled)));
        match state.state.as_str() {
            "terminated" => {
                if contact.granted && !contact.leaving && document.is_some() {
                    self.show(turn, key, document.as_ref(), at);
                }
                self.terminated(turn, key, &state);
            }
            // RFC 8048 §5.2.1: nothing is told while pending.
            "pending" => leg.granted_for(turn.now, state.expires),
            _ => {
                leg.granted_for(turn.now, state.expires);
                if contact.leaving {
                    return Ok(());
                }
                if !std::mem::replace(&mut contact.granted, true) {
                    self.keep(turn, key);
                    self.say(turn, key, Element::new("presence", NS_SERVER).attr("type", "subscribed"), true, None);
                }
                self.show(turn, key, document.as_ref(), at);
            }
        }
        self.due(turn, clients, key);
        Ok(())
    }

    /// The subscription is over by the notifier's word (RFC 6665 §4.1.3).
    fn terminated(&mut self, turn: &mut Turn<'_>, key: &ContactKey, state: &SubscriptionState) {
        let Some(contact) = self.table.get_mut(key) else { return };
        let Some(leg) = contact.leg.take() else { return };
        self.tags.remove(&leg.dialog.local_tag);
        if contact.leaving {
            self.left(turn, key);
            return;
        }
        // One that ends as soon as it began must not be begun in a circle.
        let was_short = turn.now.since(leg.began_at) < limits::CONTACT_AGAIN_FIRST;
        let told = state.retry_after.map(|seconds| Duration::from_secs(u64::from(seconds)));
        let again = |least: Duration| told.unwrap_or(Duration::ZERO).max(least).min(limits::CONTACT_AGAIN_MOST);
        let pause = match state.reason.as_deref() {
            Some("rejected") => {
                self.refused(turn, key);
                return;
            }
            Some("noresource" | "invariant") => None,
            Some("deactivated" | "timeout") if !was_short => Some(Duration::ZERO),
            Some("giveup") => Some(again(limits::CONTACT_AGAIN)),
            _ => Some(again(limits::CONTACT_AGAIN_FIRST)),
        };
        contact.retry_at = pause.map(|pause| turn.now + pause);
        if pause.is_none() && contact.granted {
            self.show(turn, key, None, turn.now);
        }
        self.keep(turn, key);
    }

    /// A SUBSCRIBE of ours ended.
    pub fn answered(
        &mut self,
        turn: &mut Turn<'_>,
        clients: &mut Clients,
        key: &ContactKey,
        tag: &str,
        ended: &Ended<'_>,
    ) {
        let Some(contact) = self.table.get_mut(key) else { return };
        let Some(leg) = contact.leg.as_mut().filter(|leg| leg.dialog.local_tag == tag) else { return };
        leg.in_flight = false;
        if contact.leaving {
            // Whatever the answer: it is over for the watcher.
            if leg.ask.is_zero() || !leg.confirmed {
                self.left(turn, key);
            } else {
                leg.ask = Duration::ZERO;
                self.send(turn, clients, key);
            }
            return;
        }
        // A refresh of something that works; the first SUBSCRIBE of one that worked before counts too.
        let worked = contact.granted;
        match ended {
            Ended::Answered(200..=299, response) => {
                if !leg.confirmed && leg.dialog.confirm(response).is_ok() {
                    leg.confirmed = true;
                }
                let granted = response.header(Name::Expires).and_then(delta_seconds);
                let seconds = granted.unwrap_or(u32::try_from(leg.ask.as_secs()).unwrap_or(u32::MAX));
                leg.granted_for(turn.now, Some(seconds));
                contact.failures = 0;
                self.keep(turn, key);
            }
            Ended::Answered(423, response) => {
                let least = response.header(Name::MinExpires).and_then(delta_seconds).map(u64::from).unwrap_or(3600);
                let least = Duration::from_secs(least);
                if least <= leg.ask || least > limits::EXPIRES_MOST {
                    self.try_again(turn, key);
                } else {
                    leg.ask = least;
                    self.send(turn, clients, key);
                }
            }
            // RFC 8048 §5.2.1: a final refusal ends the authorisation. COMPAT(lync): of what worked, or with ms-diagnostics 10xx
            // (the route, not the user), it is a passing state of their edge.
            Ended::Answered(403 | 489 | 603, response) if !worked && !is_edge_trouble(response) => {
                self.refused(turn, key)
            }
            // There is no such user: the watcher is told why.
            Ended::Answered(status @ (404 | 410 | 484 | 485 | 604), response) if !worked => {
                let error = error::to_xmpp(*status, response.reason_phrase(), None);
                let told = Element::new("presence", NS_SERVER).attr("type", "error").child(error.to_element(NS_SERVER));
                self.say(turn, key, told, true, None);
                self.forget(turn, key);
            }
            // RFC 6665 §4.1.2.2: the dialog is dead; begin another.
            Ended::Answered(404 | 405 | 410 | 416 | 480..=485 | 489 | 501 | 604, _) => {
                let was_confirmed = leg.confirmed;
                self.drop_leg(key);
                self.try_again(turn, key);
                if was_confirmed
                    && let Some(contact) = self.table.get_mut(key)
                    && contact.failures == 1
                {
                    contact.retry_at = Some(turn.now);
                }
            }
            _ => {
                // RFC 6665 §4.1.2.2: any other failure leaves the subscription until it would have expired.
                if !leg.confirmed {
                    self.drop_leg(key);
                }
                self.try_again(turn, key);
            }
        }
        self.due(turn, clients, key);
    }

    /// Something of this contact is due.
    pub fn due(&mut self, turn: &mut Turn<'_>, clients: &mut Clients, key: &ContactKey) {
        let Some(contact) = self.table.get_mut(key) else { return };
        let is_present = turn.now.since(contact.seen_at) < limits::CONTACT_REFRESHED_FOR;
        if let Some(leg) = &mut contact.leg {
            let is_unheard = leg.notify_by.is_some_and(|at| at <= turn.now);
            if is_unheard || (leg.confirmed && leg.expires_at <= turn.now) {
                self.drop_leg(key);
                if self.table.get(key).is_some_and(|contact| contact.leaving) {
                    self.left(turn, key);
                    return;
                }
                if let Some(contact) = self.table.get_mut(key)
                    && contact.granted
                {
                    // What was shown is no longer known.
                    self.show(turn, key, None, turn.now);
                }
                self.try_again(turn, key);
            } else if leg.refresh_at.is_some_and(|at| at <= turn.now) && !leg.in_flight {
                leg.refresh_at = None;
                if is_present {
                    self.send(turn, clients, key);
                }
            }
        }
        let Some(contact) = self.table.get_mut(key) else { return };
        if contact.retry_at.is_some_and(|at| at <= turn.now) {
            contact.retry_at = None;
            match &mut contact.leg {
                Some(leg) if leg.in_flight => {}
                Some(_) => self.send(turn, clients, key),
                None if is_present => self.begin(turn, clients, key),
                None => {}
            }
        }
        self.arm(turn, key);
    }

    /// Settings changed: who may no longer watch is told offline, and the partner that we stopped.
    pub fn reloaded(&mut self, turn: &mut Turn<'_>, clients: &mut Clients) {
        let keys: Vec<ContactKey> = self.table.keys().cloned().collect();
        for key in keys {
            let question = Question {
                from: &key.0,
                to: &key.1,
                action: Action::Subscribe,
                side: Side::Inside,
                protocol: Protocol::Sip,
                peer_ip: None,
            };
            if turn.settings.policy.decide(question).0.is_err() {
                self.show(turn, &key, None, turn.now);
                self.unsubscribe(turn, clients, &key);
            }
        }
    }

    /// A node's stream was lost: its users' servers may have lost what was told.
    pub fn tell_again(&mut self, turn: &mut Turn<'_>, key: &ContactKey) {
        if let Some(shown) = self.table.get(key).and_then(|contact| contact.shown.clone()) {
            self.say(turn, key, shown, false, None);
        }
    }

    /// Presence could not be handed to the node: tell it again later.
    pub fn say_later(&mut self, turn: &mut Turn<'_>, key: &ContactKey) {
        if self.table.contains_key(key) {
            let at = turn.jittered(limits::ASK_AGAIN_FIRST);
            turn.deadlines.set(Deadline::Tell(key.clone()), at);
        }
    }

    /// Tells the watcher everything again: that it is subscribed, and what is shown.
    pub fn tell(&mut self, turn: &mut Turn<'_>, key: &ContactKey) {
        if self.table.get(key).is_some_and(|contact| contact.granted && !contact.leaving) {
            self.say(turn, key, Element::new("presence", NS_SERVER).attr("type", "subscribed"), true, None);
        }
        self.tell_again(turn, key);
    }

    /// Contacts whose watchers a node serves.
    pub fn of_node(&self, node: &str) -> Vec<ContactKey> {
        self.table.iter().filter(|(_, contact)| contact.node == node).map(|(key, _)| key.clone()).collect()
    }

    /// Takes a kept contact back after a restart. `false`: no longer possible.
    pub fn restore(&mut self, turn: &mut Turn<'_>, kept: KeptContact) -> bool {
        let (Ok(watcher), Ok(presentity)) = (Jid::parse(&kept.watcher), Jid::parse(&kept.presentity)) else {
            return false;
        };
        let key = (watcher.bare, presentity.bare);
        let Some(id) = turn.settings.policy.partner_for(key.1.domain(), Protocol::Sip) else { return false };
        let partner = turn.settings.policy.partner(id);
        let Ok(node) = table::node_for(turn.settings, &key.0) else { return false };
        let ends = (node.name.clone(), node.profile, partner.label.clone(), partner.profile);
        let at = turn.jittered(limits::ASK_AFTER_RESTART);
        let leg = kept.leg.map(|mut kept| {
            kept.dialog.resume();
            Leg {
                dialog: kept.dialog,
                confirmed: true,
                in_flight: false,
                ask: turn.settings.presence.expires,
                expires_at: Time::from_unix_nanos(kept.expires_at_unix_nanos),
                // A refresh brings a NOTIFY, and so the state that was lost.
                refresh_at: Some(at),
                notify_by: None,
                began_at: turn.now,
            }
        });
        if let Some(leg) = &leg {
            self.tags.insert(leg.dialog.local_tag.clone(), key.clone());
        }
        let contact = Contact {
            node: ends.0,
            seen_by: ends.1,
            partner: ends.2,
            of: ends.3,
            granted: kept.granted,
            leaving: false,
            farewell: false,
            retry_at: leg.is_none().then_some(at),
            leg,
            shown: None,
            failures: 0,
            seen_at: turn.now,
        };
        self.table.insert(key.clone(), contact);
        self.keep(turn, &key);
        self.arm(turn, &key);
        true
    }

    /// Our subscriptions: (partner, state, how many).
    pub fn counted(&self) -> BTreeMap<(String, &'static str), u64> {
        let mut counted = BTreeMap::new();
        for contact in self.table.values().filter(|contact| contact.leg.is_some()) {
            let state = if contact.granted { "active" } else { "pending" };
            *counted.entry((contact.partner.clone(), state)).or_insert(0) += 1;
        }
        counted
    }

    /// Begins a dialog: new Call-ID, new tag.
    fn begin(&mut self, turn: &mut Turn<'_>, clients: &mut Clients, key: &ContactKey) {
        let Some(contact) = self.table.get_mut(key) else { return };
        let Ok(theirs) = aol::outward(contact.of, &key.1) else { return };
        let (call_id, local_tag) = (turn.token(), turn.token());
        let dialog = Dialog::as_uac(call_id, local_tag.clone(), &key.0.to_sip(), &theirs.to_sip());
        contact.leg = Some(Leg {
            dialog,
            confirmed: false,
            in_flight: false,
            ask: turn.settings.presence.expires,
            expires_at: turn.now + turn.settings.presence.expires,
            refresh_at: None,
            notify_by: None,
            began_at: turn.now,
        });
        self.tags.insert(local_tag, key.clone());
        self.send(turn, clients, key);
    }

    /// Sends the leg's SUBSCRIBE: the first, a refresh, or the end.
    fn send(&mut self, turn: &mut Turn<'_>, clients: &mut Clients, key: &ContactKey) {
        let Some(contact) = self.table.get_mut(key) else { return };
        let Some(leg) = &mut contact.leg else { return };
        leg.in_flight = true;
        leg.notify_by = Some(turn.now + limits::TIMER_F);
        let branch = turn.branch();
        let identity = &turn.settings.identities[turn.settings.identity_for(key.0.domain())];
        let headers = vec![
            ("Event", "presence".to_owned()),
            // COMPAT(lync): the notifier picks categories over PIDF if both are offered.
            ("Accept", "application/pidf+xml".to_owned()),
            ("Expires", leg.ask.as_secs().to_string()),
        ];
        let request = leg.dialog.request(Method::Subscribe, &branch, identity, headers, None);
        let tag = leg.dialog.local_tag.clone();
        if request.mark_moved {
            self.keep(turn, key);
        }
        let hop = partner_hop(turn.settings, key.1.domain(), key.0.domain());
        let purpose = Purpose::Subscribe(key.clone(), tag);
        let sent = Sent { branch, method: Method::Subscribe, purpose, bytes: request.bytes, transit: None };
        clients.send(turn, hop, sent);
        self.arm(turn, key);
    }

    fn drop_leg(&mut self, key: &ContactKey) {
        if let Some(leg) = self.table.get_mut(key).and_then(|contact| contact.leg.take()) {
            self.tags.remove(&leg.dialog.local_tag);
        }
    }

    fn try_again(&mut self, turn: &mut Turn<'_>, key: &ContactKey) {
        let Some(contact) = self.table.get_mut(key) else { return };
        contact.failures = contact.failures.saturating_add(1);
        let wait = limits::CONTACT_AGAIN_FIRST * (1 << contact.failures.min(6).saturating_sub(1));
        contact.retry_at = Some(turn.jittered(wait.min(limits::CONTACT_AGAIN)));
    }

    /// The partner refuses for good.
    fn refused(&mut self, turn: &mut Turn<'_>, key: &ContactKey) {
        self.say(turn, key, Element::new("presence", NS_SERVER).attr("type", "unsubscribed"), true, None);
        self.forget(turn, key);
    }

    /// The watcher left and the partner knows.
    fn left(&mut self, turn: &mut Turn<'_>, key: &ContactKey) {
        let Some(contact) = self.table.get_mut(key) else { return };
        if !std::mem::replace(&mut contact.farewell, true) {
            contact.shown = None;
            self.say(turn, key, Element::new("presence", NS_SERVER).attr("type", "unsubscribed"), true, None);
        }
        let leg = self.table.get(key).and_then(|contact| contact.leg.as_ref());
        if leg.is_some_and(|leg| leg.confirmed && leg.notify_by.is_some_and(|at| at > turn.now)) {
            // The last NOTIFY is still to come; until then its dialog is known.
            turn.step(Step::Forget(record_id(key)));
            self.arm(turn, key);
        } else {
            self.forget(turn, key);
        }
    }

    fn forget(&mut self, turn: &mut Turn<'_>, key: &ContactKey) {
        self.drop_leg(key);
        self.table.remove(key);
        turn.deadlines.cancel(&Deadline::Contact(key.clone()));
        turn.deadlines.cancel(&Deadline::Tell(key.clone()));
        turn.step(Step::Forget(record_id(key)));
    }

    fn show(&mut self, turn: &mut Turn<'_>, key: &ContactKey, document: Option<&Document>, at: Time) {
        let Some(contact) = self.table.get_mut(key) else { return };
        let shown = presence::to_stanza(document, contact.of, contact.seen_by);
        if contact.shown.as_ref() == Some(&shown) {
            return;
        }
        contact.shown = Some(shown.clone());
        self.say(turn, key, shown, false, Some((at, Path::SipXmpp)));
    }

    /// Presence from the contact to the watcher: authorisation from the bare address, state from the one resource it has.
    fn say(&mut self, turn: &mut Turn<'_>, key: &ContactKey, said: Element, bare: bool, transit: Option<(Time, Path)>) {
        let Some(contact) = self.table.get(key) else { return };
        let from = if bare { key.1.to_jid() } else { format!("{}/{RESOURCE}", key.1.to_jid()) };
        let stanza = said.attr("from", &from).attr("to", &key.0.to_jid());
        let hop = HopKey::Node { node: contact.node.clone(), from: key.1.domain().clone(), to: key.0.domain().clone() };
        let bytes = Bytes::from(stanza.print(NS_SERVER));
        turn.step(Step::Pass { hop, parcel: Parcel { bytes, passage: Passage::Contact(key.clone()), transit } });
    }

    fn keep(&mut self, turn: &mut Turn<'_>, key: &ContactKey) {
        let Some(contact) = self.table.get(key) else { return };
        let leg = contact
            .leg
            .as_ref()
            .filter(|leg| leg.confirmed)
            .map(|leg| KeptLeg { dialog: leg.dialog.clone(), expires_at_unix_nanos: leg.expires_at.unix_nanos() });
        let kept = KeptContact { watcher: key.0.to_jid(), presentity: key.1.to_jid(), granted: contact.granted, leg };
        turn.step(Step::Keep(Record { id: record_id(key), kept: Kept::Contact(kept) }));
    }

    fn arm(&mut self, turn: &mut Turn<'_>, key: &ContactKey) {
        let Some(contact) = self.table.get(key) else { return };
        let leg = contact.leg.iter().flat_map(|leg| {
            let refresh = leg.refresh_at.filter(|_| !leg.in_flight);
            [refresh, leg.notify_by, leg.confirmed.then_some(leg.expires_at)].into_iter().flatten()
        });
        match leg.chain(contact.retry_at).min() {
            Some(at) => turn.deadlines.set(Deadline::Contact(key.clone()), at.max(turn.now)),
            None => turn.deadlines.cancel(&Deadline::Contact(key.clone())),
        }
    }
}

/// SIP devices are not shown apart to XMPP, so a contact has one resource; presence comes from a full JID (RFC 6121 §4.2).
const RESOURCE: &str = "sip";

impl Leg {
    /// Granted for so long from now; refreshed after five sixths of it.
    fn granted_for(&mut self, now: Time, seconds: Option<u32>) {
        let Some(seconds) = seconds else { return };
        let granted = Duration::from_secs(u64::from(seconds)).min(limits::EXPIRES_MOST);
        self.expires_at = now + granted;
        self.refresh_at = Some(now + granted * 5 / 6);
    }
}

/// The presence document of a NOTIFY, if it has a body.
fn read_document(request: &Message) -> Result<Option<Document>, Reject> {
    if request.body().is_empty() {
        return Ok(None);
    }
    let unsupported = || {
        Reject::new(Reason::Unsupported, "a NOTIFY body that is no presence document")
            .with_status(415)
            .with_header("Accept", "application/pidf+xml")
    };
    let type_ = request.header(Name::ContentType).and_then(MediaType::parse).ok_or_else(unsupported)?;
    match Document::parse_as(&type_.essence, request.body()) {
        Ok(document) => Ok(Some(document)),
        Err(BadDocument::Vocabulary) => Err(unsupported()),
        Err(bad) => Err(Reject::new(Reason::Malformed, format!("the presence document: {bad}"))),
    }
}

/// COMPAT(lync): ms-diagnostics 1000 to 1099 speak of the edge's routes and certificates, not of the user.
fn is_edge_trouble(response: &Message) -> bool {
    ["ms-diagnostics", "ms-diagnostics-public"].iter().any(|name| {
        response.rows_named(name).any(|row| {
            row.split(';')
                .next()
                .and_then(|id| id.trim().parse::<u32>().ok())
                .is_some_and(|id| (1000..1100).contains(&id))
        })
    })
}

fn record_id(key: &ContactKey) -> RecordId {
    RecordId(format!("contact {} {}", key.0, key.1))
}
