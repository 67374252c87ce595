//! An XMPP watcher of a SIP presentity (RFC 8048 §5): the user's roster entry is the authorisation, a SIP subscription of our own follows it.
//!
//! Each local watcher has a dialog of its own, also for the same contact: the partner may authorise them differently. Nothing is told while
//! the subscription is pending; the first active NOTIFY is the `subscribed`. What passes by itself is tried again; only a refusal ends it.
//!
//! A contact always waits for something: an answer, a NOTIFY, an expiry or another try. One that waits for nothing is forgotten.

mod kept;
mod leg;
mod read;
mod telling;

pub use self::kept::KeptContact;

use self::leg::Leg;
use super::dialog::Dialog;
use super::rounds::{Round, Rounds};
use super::table::{Counts, Pair, Row, Table};
use super::transaction::{Clients, Ended, Purpose, Sent};
use super::{Step, Turn, partner_hop};
use crate::gate::border::aol;
use crate::gate::event::{Event, Outcome, Settled};
use crate::gate::lane::Lane;
use crate::gate::limits;
use crate::gate::partner::{Action, Profile, Protocol, Side};
use crate::gate::policy::{Permit, Question};
use crate::gate::record::RecordId;
use crate::gate::reject::{Reason, Reject};
use crate::gate::route::table;
use crate::gate::time::Time;
use crate::gate::translate::error;
use crate::wire::address::Address;
use crate::wire::pidf::Document;
use crate::wire::sip::header::{Name, SubscriptionState, delta_seconds};
use crate::wire::sip::{Message, Method};
use crate::wire::xmpp::{Element, NS_SERVER};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Watcher (ours) and presentity (the partner's).
pub type ContactKey = Pair;

/// All contacts.
#[derive(Debug, Default)]
pub struct Contacts {
    table: Table<Contact>,
    rounds: Rounds,
    /// We stop for good: nothing is begun any more.
    leaving: bool,
}

/// How watcher and contact stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Standing {
    /// The partner has not said yes.
    Pending,
    /// The watcher was told `subscribed`, or its server says so.
    Granted,
    /// The watcher unsubscribed, or may no longer watch; the partner is being told.
    Leaving,
    /// It was told `unsubscribed`: the last NOTIFY, or word that this did not reach the node, may still come.
    Over,
}

#[derive(Debug, Serialize, Deserialize)]
struct Contact {
    node: String,
    seen_by: Profile,
    partner: String,
    of: Profile,
    standing: Standing,
    /// Not known to have reached the node: `subscribed` goes before the next state.
    unannounced: bool,
    leg: Option<Leg>,
    /// The last presence told, as printed, to tell it again to who asks.
    shown: Option<String>,
    /// When to subscribe anew (of one that is over: when to forget it), and how often that came to nothing.
    retry_at: Option<Time>,
    failures: u32,
    /// Not before this (RFC 6665 §4.1.3 retry-after, RFC 3261 §20.33).
    hold_until: Time,
    /// When the last try was made without a pause: one that ends as soon as it began is not begun in a circle.
    hurried_at: Option<Time>,
    /// When the node last spoke for the watcher: for who never comes online nothing is refreshed.
    seen_at: Time,
    /// When all is told again to a node that could not be reached, and how often that came to nothing.
    tell_at: Option<Time>,
    tell_failures: u32,
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
        if self.table.len() >= limits::SUBSCRIPTIONS && !self.table.contains(&key) {
            return Err(Reject::new(Reason::Overloaded, format!("{} contacts are watched", limits::SUBSCRIPTIONS)));
        }
        let standing = if is_probe { Standing::Granted } else { Standing::Pending };
        if !self.table.contains(&key) {
            self.table.insert(&key, Contact::new(turn.now, ends, standing, Some(turn.now)));
        }
        let Some(contact) = self.table.get_mut(&key) else {
            return Err(Reject::new(Reason::Overloaded, "no room for another contact"));
        };
        contact.seen_at = turn.now;
        match contact.standing {
            // Its server has not heard that it is over, or will in a moment.
            Standing::Over | Standing::Leaving if is_probe => {
                self.tell(turn, &key);
                return Ok(());
            }
            // Back before the end was heard: begin anew.
            Standing::Over | Standing::Leaving => {
                *contact = Contact::new(turn.now, ends, standing, Some(turn.now));
            }
            Standing::Pending | Standing::Granted => {
                if contact.leg.is_none() && contact.retry_at != Some(turn.now) && contact.may_hurry(turn.now) {
                    contact.retry_at = Some(turn.now);
                }
            }
        }
        self.keep(turn, &key);
        if !is_probe {
            self.tell_subscribed(turn, &key);
        }
        self.tell_again(turn, &key);
        self.go_on(turn, clients, &key);
        Ok(())
    }

    /// `unsubscribe` from a user.
    pub fn unsubscribe(&mut self, turn: &mut Turn<'_>, clients: &mut Clients, key: &ContactKey) {
        let Some(contact) = self.table.get_mut(key) else {
            // One that was not resumed may still be kept.
            turn.step(Step::Forget { lane: Lane::of(key), id: record_id(key) });
            return;
        };
        if matches!(contact.standing, Standing::Leaving | Standing::Over) {
            return;
        }
        contact.standing = Standing::Leaving;
        contact.retry_at = None;
        // Whatever becomes of the end, a restart must not bring it back.
        turn.step(Step::Forget { lane: Lane::of(key), id: record_id(key) });
        match &mut contact.leg {
            Some(leg) if leg.confirmed => {
                leg.ask = Duration::ZERO;
                // What is under way is answered first.
                if leg.in_flight.is_none() {
                    self.send(turn, clients, key);
                }
            }
            _ => self.left(turn, key),
        }
    }

    /// The node spoke for the watcher.
    pub fn seen(&mut self, now: Time, key: &ContactKey) {
        if let Some(contact) = self.table.get_mut(key) {
            contact.seen_at = now;
            contact.tell_failures = 0;
        }
    }

    /// Whether these two are watcher and contact already.
    pub fn knows(&self, watcher: &Address, presentity: &Address) -> bool {
        self.table.contains(&(watcher.clone(), presentity.clone()))
    }

    /// We stop for good: every subscription of ours is ended, and its watcher shown nobody. Who is authorised stays so: whoever goes on from
    /// what was kept subscribes anew.
    pub fn leave_all(&mut self, turn: &mut Turn<'_>) {
        self.leaving = true;
        self.rounds.begin(turn, Round::Leave);
    }

    /// Whether some are still to be left.
    pub fn is_leaving(&self) -> bool {
        self.rounds.has(&Round::Leave)
    }

    fn leave(&mut self, turn: &mut Turn<'_>, clients: &mut Clients, key: &ContactKey) {
        let Some(contact) = self.table.get_mut(key) else { return };
        contact.retry_at = None;
        let is_granted = contact.standing == Standing::Granted;
        // One whose end was begun by an answer is on its way already.
        if let Some(leg) = contact.leg.as_mut().filter(|leg| leg.confirmed && !leg.ask.is_zero()) {
            leg.ask = Duration::ZERO;
            let is_idle = leg.in_flight.is_none();
            self.keep(turn, key);
            if is_idle {
                self.send(turn, clients, key);
            }
        }
        if is_granted {
            self.show(turn, key, None, turn.now);
        }
        self.arm(turn, key);
    }

    /// The addresses of a dialog, by our tag.
    pub fn of_dialog(&mut self, local_tag: &str) -> Option<ContactKey> {
        self.table.tagged(local_tag)
    }

    /// A NOTIFY inside one of our dialogs: its status. `None`: no such dialog or package (481).
    pub fn notify(
        &mut self,
        turn: &mut Turn<'_>,
        clients: &mut Clients,
        request: &Message,
        at: Time,
    ) -> Option<Result<(), Reject>> {
        let key = self.table.tagged(request.to_tag()?)?;
        let contact = self.table.get_mut(&key)?;
        let leg = contact.leg.as_mut().filter(|leg| leg.dialog.call_id == request.call_id().unwrap_or_default())?;
        // RFC 6665 §8.2.1: it is matched by its package too.
        if !read::is_presence(request) {
            return None;
        }
        // RFC 6665 §4.5.1: of forked subscriptions presence keeps one.
        if leg.confirmed && !leg.dialog.is_of(request) {
            return None;
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
        let state = read::state(request)
            .ok_or_else(|| Reject::new(Reason::Malformed, "a NOTIFY without Subscription-State"))?;
        let document = read::document(request)?;
        let Some(contact) = self.table.get_mut(key) else { return Ok(()) };
        let Some(leg) = contact.leg.as_mut() else { return Ok(()) };
        let is_first = !leg.confirmed;
        if is_first {
            leg.dialog.confirm(request)?;
            leg.confirmed = true;
        }
        // Who is told 200 may rely on the dialog, and on where its next request goes.
        let must_keep = leg.dialog.follow(request)? || is_first;
        turn.step(Step::Event(Event::Settled(Settled {
            partner: contact.partner.as_str().into(),
            side: Side::Outside,
            protocol: Protocol::Sip,
            action: Action::Presence,
            outcome: Outcome::Delivered,
        })));
        self.heard(turn, key, (&state, document.as_ref(), at), must_keep);
        self.go_on(turn, clients, key);
        Ok(())
    }

    /// What a NOTIFY says. `must_keep`: its dialog is new, or has another target.
    fn heard(
        &mut self,
        turn: &mut Turn<'_>,
        key: &ContactKey,
        (state, document, at): (&SubscriptionState, Option<&Document>, Time),
        must_keep: bool,
    ) {
        if self.leaving {
            if state.state == "terminated" {
                self.drop_leg(turn, key);
            }
            return;
        }
        let Some(contact) = self.table.get_mut(key) else { return };
        let Some(leg) = contact.leg.as_mut() else { return };
        let standing = contact.standing;
        // One that crossed the end is not the last.
        if !matches!(standing, Standing::Leaving | Standing::Over) {
            leg.notify_by = None;
        }
        match state.state.as_str() {
            "terminated" => {
                if standing == Standing::Granted && document.is_some() {
                    self.show(turn, key, document, at);
                }
                self.terminated(turn, key, state);
            }
            // RFC 8048 §5.2.1: nothing is told while pending.
            "pending" => {
                leg.granted_for(turn.now, state.expires);
                contact.failures = 0;
                if must_keep {
                    self.keep(turn, key);
                }
            }
            _ => {
                leg.granted_for(turn.now, state.expires);
                contact.failures = 0;
                // The round that says so of every contact may not have come to this one yet.
                let is_node_lost = self.rounds.has(&Round::NodeLost(contact.node.clone()));
                let was_unannounced = std::mem::take(&mut contact.unannounced) || is_node_lost;
                if standing == Standing::Pending {
                    contact.standing = Standing::Granted;
                }
                if must_keep || standing == Standing::Pending {
                    self.keep(turn, key);
                }
                if was_unannounced || standing == Standing::Pending {
                    self.tell_subscribed(turn, key);
                }
                if matches!(standing, Standing::Pending | Standing::Granted) {
                    self.show(turn, key, document, at);
                }
            }
        }
    }

    /// The subscription is over by the notifier's word (RFC 6665 §4.1.3).
    fn terminated(&mut self, turn: &mut Turn<'_>, key: &ContactKey, state: &SubscriptionState) {
        self.drop_leg(turn, key);
        let Some(contact) = self.table.get_mut(key) else { return };
        match contact.standing {
            Standing::Leaving => return self.left(turn, key),
            Standing::Over => return self.forget(turn, key),
            Standing::Pending | Standing::Granted => {}
        }
        let told = state.retry_after.map(|seconds| Duration::from_secs(u64::from(seconds)));
        match state.reason.as_deref() {
            Some("rejected") => self.refused(turn, key),
            // Not to be tried again by us; its server may, when the watcher comes online.
            Some("noresource" | "invariant") => {
                contact.retry_at = None;
                self.lose_sight(turn, key);
                self.forget(turn, key);
            }
            Some("deactivated" | "timeout") => self.hurry(turn, key, None),
            Some("giveup") if told.is_none() => self.try_again(turn, key, Some(limits::CONTACT_AGAIN)),
            _ => self.try_again(turn, key, told),
        }
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
        let asked = leg.in_flight.take();
        if self.leaving {
            // What was under way is answered: now the end.
            if leg.confirmed && asked.is_some_and(|asked| !asked.is_zero()) {
                leg.ask = Duration::ZERO;
                self.send(turn, clients, key);
            }
            return;
        }
        match contact.standing {
            // What was under way when the watcher left is answered: now the end.
            Standing::Leaving if leg.confirmed && asked.is_some_and(|asked| !asked.is_zero()) => {
                return self.send(turn, clients, key);
            }
            // Whatever the answer: it is over for the watcher.
            Standing::Leaving => return self.left(turn, key),
            Standing::Over => return,
            Standing::Pending | Standing::Granted => {}
        }
        // A refresh of something that works; the first SUBSCRIBE of one that worked before counts too.
        let worked = contact.standing == Standing::Granted;
        let is_refresh = leg.confirmed;
        let told = match ended {
            Ended::Answered(_, response) => read::retry_after(response),
            _ => None,
        };
        match ended {
            Ended::Answered(status @ 200..=299, response) => {
                if !leg.confirmed && leg.dialog.confirm(response).is_ok() {
                    leg.confirmed = true;
                }
                let granted = response.header(Name::Expires).and_then(delta_seconds);
                let seconds = granted.unwrap_or(u32::try_from(leg.ask.as_secs()).unwrap_or(u32::MAX));
                leg.granted_for(turn.now, Some(seconds));
                // RFC 6665 §4.1.2.1: 204 says that no NOTIFY comes.
                if *status == 204 {
                    leg.notify_by = None;
                }
                // COMPAT(lync): the first NOTIFY inside the answer (ms-piggyback-first-notify, which we do not ask for).
                let piggyback = read::piggyback(response).filter(|_| leg.confirmed);
                if let Some((number, _, _)) = &piggyback {
                    leg.dialog.follow_to(*number);
                }
                self.keep(turn, key);
                if let Some((_, state, document)) = piggyback {
                    self.heard(turn, key, (&state, Some(&document), turn.now), false);
                }
            }
            Ended::Answered(423, response) => {
                let least = response.header(Name::MinExpires).and_then(delta_seconds).map(u64::from).unwrap_or(3600);
                let least = Duration::from_secs(least);
                if least > leg.ask && least <= limits::EXPIRES_MOST {
                    leg.ask = least;
                    self.send(turn, clients, key);
                } else {
                    self.failed(turn, key, told);
                }
            }
            // RFC 8048 §5.2.1: a final refusal ends the authorisation. COMPAT(lync): of what worked, or with ms-diagnostics 10xx
            // (the route, not the user), it is a passing state of their edge.
            Ended::Answered(403 | 489 | 603, response) if !worked && !read::is_edge_trouble(response) => {
                self.refused(turn, key)
            }
            // There is no such user: the watcher is told why.
            Ended::Answered(status @ (404 | 410 | 484 | 485 | 604), response) if !worked && !is_refresh => {
                let error = error::to_xmpp(*status, response.reason_phrase(), None);
                let told = Element::new("presence", NS_SERVER).attr("type", "error").child(error.to_element(NS_SERVER));
                self.say(turn, key, told, true, None);
                self.forget(turn, key);
            }
            // RFC 6665 §4.1.2.2: the dialog is dead; begin another.
            Ended::Answered(404 | 405 | 410 | 416 | 480..=485 | 489 | 501 | 604, _) => {
                self.drop_leg(turn, key);
                if is_refresh {
                    self.hurry(turn, key, told);
                } else {
                    self.try_again(turn, key, told);
                }
            }
            _ => self.failed(turn, key, told),
        }
        self.go_on(turn, clients, key);
    }

    /// RFC 6665 §4.1.2.2: any other failure leaves the subscription until it would have expired.
    fn failed(&mut self, turn: &mut Turn<'_>, key: &ContactKey, told: Option<Duration>) {
        match self.table.get_mut(key).and_then(|contact| contact.leg.as_mut()) {
            // Nothing was refreshed, so no NOTIFY is due either.
            Some(leg) if leg.confirmed => leg.notify_by = None,
            _ => self.drop_leg(turn, key),
        }
        self.try_again(turn, key, told);
    }

    /// When [`due`](Self::due) has something to do.
    pub fn next_due(&self) -> Option<Time> {
        self.table.next_due()
    }

    /// Something of one contact is due: a refresh, an expiry, Timer N, another try, its state told again.
    pub fn due(&mut self, turn: &mut Turn<'_>, clients: &mut Clients) {
        let Some(key) = &self.table.pop_due(turn.now) else { return };
        if self.table.get(key).is_some_and(|contact| contact.tell_at.is_some_and(|at| at <= turn.now)) {
            self.tell(turn, key);
        }
        self.go_on(turn, clients, key);
    }

    /// Does what its time has come for.
    fn go_on(&mut self, turn: &mut Turn<'_>, clients: &mut Clients, key: &ContactKey) {
        let Some(contact) = self.table.get_mut(key) else { return };
        if self.leaving {
            return self.arm(turn, key);
        }
        if contact.standing == Standing::Over {
            match contact.retry_at {
                Some(at) if at > turn.now => self.arm(turn, key),
                _ => self.forget(turn, key),
            }
            return;
        }
        let is_present = turn.now.since(contact.seen_at) < limits::CONTACT_REFRESHED_FOR;
        if let Some(leg) = &mut contact.leg {
            // What may have waited for the store was not asked yet.
            if leg.notify_by.is_some_and(|at| at <= turn.now && turn.writing.held_since(at - limits::TIMER_F)) {
                leg.notify_by = Some(turn.now + limits::TIMER_F);
            }
            let is_unheard = leg.notify_by.is_some_and(|at| at <= turn.now);
            if is_unheard || (leg.confirmed && leg.expires_at <= turn.now) {
                // RFC 6665 §4.1.2.4: without a NOTIFY in time it has failed, refreshed or new.
                let was_confirmed = leg.confirmed;
                self.drop_leg(turn, key);
                if self.table.get(key).is_some_and(|contact| contact.standing == Standing::Leaving) {
                    return self.left(turn, key);
                }
                if was_confirmed {
                    self.hurry(turn, key, None);
                } else {
                    self.try_again(turn, key, None);
                }
            } else if leg.refresh_at.is_some_and(|at| at <= turn.now) && leg.in_flight.is_none() {
                leg.refresh_at = None;
                if is_present {
                    self.send(turn, clients, key);
                }
            }
        }
        let Some(contact) = self.table.get_mut(key) else { return };
        if contact.retry_at.is_some_and(|at| at <= turn.now) {
            contact.retry_at = None;
            match &contact.leg {
                Some(leg) if leg.in_flight.is_some() => {}
                Some(_) => self.send(turn, clients, key),
                None if is_present => self.begin(turn, clients, key),
                // Away for days: its server speaks up when the watcher comes back, and it begins anew.
                None => {
                    self.lose_sight(turn, key);
                    return self.forget(turn, key);
                }
            }
        }
        self.arm(turn, key);
    }

    /// Settings changed: every contact is decided again.
    pub fn reloaded(&mut self, turn: &mut Turn<'_>) {
        self.rounds.begin(turn, Round::Decide);
    }

    /// A node's stream was lost, and perhaps what was last told on it: told again soon.
    pub fn node_restarted(&mut self, turn: &mut Turn<'_>, node: &str) {
        self.rounds.begin(turn, Round::NodeLost(node.to_owned()));
    }

    /// The next slice of what is done to all contacts.
    pub fn go_round(&mut self, turn: &mut Turn<'_>, clients: &mut Clients) {
        let Some((round, keys)) = self.rounds.next(turn, &mut self.table) else { return };
        for key in keys {
            match &round {
                Round::Decide => self.decide_again(turn, clients, &key),
                Round::NodeLost(node) => self.tell_soon(turn, &key, node),
                Round::Leave => self.leave(turn, clients, &key),
            }
        }
    }

    /// Who may no longer watch is told offline, and the partner that we stopped.
    fn decide_again(&mut self, turn: &mut Turn<'_>, clients: &mut Clients, key: &ContactKey) {
        let Some(contact) = self.table.get_mut(key) else { return };
        // The watcher may have moved to another node: it is the one to tell from now on.
        if let Ok(node) = table::node_between(turn.settings, key.1.domain(), &key.0)
            && node.name != contact.node
        {
            contact.node = node.name.to_string();
            contact.seen_by = node.profile;
            contact.tell_at = Some(turn.now);
            self.arm(turn, key);
        }
        let Some(contact) = self.table.get_mut(key) else { return };
        if let Some(id) = turn.settings.policy.partner_for(key.1.domain(), Protocol::Sip) {
            let partner = turn.settings.policy.partner(id);
            contact.partner = partner.label.to_string();
            contact.of = partner.profile;
        }
        let question = Question {
            from: &key.0,
            to: &key.1,
            action: Action::Subscribe,
            side: Side::Inside,
            protocol: Protocol::Sip,
            peer_ip: None,
        };
        if turn.settings.policy.decide(question).0.is_err() {
            if contact.standing == Standing::Granted {
                self.show(turn, key, None, turn.now);
            }
            self.unsubscribe(turn, clients, key);
        }
    }

    fn tell_soon(&mut self, turn: &mut Turn<'_>, key: &ContactKey, node: &str) {
        if self.table.get(key).is_none_or(|contact| contact.node != node) {
            return;
        }
        let at = turn.jittered(limits::PROBE_AFTER_NODE_LOSS);
        let Some(contact) = self.table.get_mut(key) else { return };
        contact.unannounced = true;
        contact.tell_at = Some(at);
        self.arm(turn, key);
    }

    /// Our subscriptions: (partner, state, how many).
    pub fn counts(&self) -> Counts {
        self.table.counts()
    }

    /// Begins a dialog: new Call-ID, new tag.
    fn begin(&mut self, turn: &mut Turn<'_>, clients: &mut Clients, key: &ContactKey) {
        let Some(contact) = self.table.get_mut(key) else { return };
        let Ok(theirs) = aol::outward(contact.of, &key.1) else { return };
        let (call_id, local_tag) = (turn.token(), turn.token());
        let dialog = Dialog::as_uac(call_id, local_tag, &key.0.to_sip(), &theirs.to_sip());
        contact.leg = Some(Leg::new(dialog, turn.settings.presence.expires, turn.now));
        self.send(turn, clients, key);
    }

    /// Sends the leg's SUBSCRIBE: the first, a refresh, or the end.
    fn send(&mut self, turn: &mut Turn<'_>, clients: &mut Clients, key: &ContactKey) {
        let Some(contact) = self.table.get_mut(key) else { return };
        let Some(leg) = &mut contact.leg else { return };
        leg.in_flight = Some(leg.ask);
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
        // Moved into the block of CSeq that is not kept yet: kept before it is used.
        if request.mark_moved {
            self.keep(turn, key);
        }
        let hop = partner_hop(turn.settings, key.1.domain(), key.0.domain());
        let purpose = Purpose::Subscribe(key.clone(), tag);
        let sent = Sent {
            branch,
            method: Method::Subscribe,
            purpose,
            bytes: request.bytes,
            transit: None,
            lane: Lane::of(key),
        };
        clients.send(turn, hop, sent);
        self.arm(turn, key);
    }

    /// The dialog is no more, after a restart either.
    fn drop_leg(&mut self, turn: &mut Turn<'_>, key: &ContactKey) {
        let leg = self.table.get_mut(key).and_then(|contact| contact.leg.take());
        if leg.is_some_and(|leg| leg.confirmed) {
            self.keep(turn, key);
        }
    }

    /// Another try, at once if the last such is long ago.
    fn hurry(&mut self, turn: &mut Turn<'_>, key: &ContactKey, told: Option<Duration>) {
        let Some(contact) = self.table.get_mut(key) else { return };
        if told.is_none() && contact.may_hurry(turn.now) {
            contact.retry_at = Some(turn.now);
        } else {
            self.try_again(turn, key, told);
        }
    }

    /// Another try after a pause that grows, or after what the partner told.
    fn try_again(&mut self, turn: &mut Turn<'_>, key: &ContactKey, told: Option<Duration>) {
        let Some(contact) = self.table.get_mut(key) else { return };
        contact.failures = contact.failures.saturating_add(1);
        let wait = limits::CONTACT_AGAIN_FIRST * (1 << contact.failures.min(6).saturating_sub(1));
        let at = turn.jittered(wait.min(limits::CONTACT_AGAIN));
        if let Some(told) = told {
            contact.hold_until = turn.now + told.min(limits::CONTACT_AGAIN_MOST);
        }
        // Theirs, or ours if it is longer by its first step alone.
        contact.retry_at = Some(match told {
            Some(_) => contact.hold_until.max(turn.now + limits::CONTACT_AGAIN_FIRST),
            None => at.max(contact.hold_until),
        });
        if told.is_some() {
            self.keep(turn, key);
        }
        self.lose_sight(turn, key);
    }

    /// The partner refuses for good.
    fn refused(&mut self, turn: &mut Turn<'_>, key: &ContactKey) {
        self.drop_leg(turn, key);
        let Some(contact) = self.table.get_mut(key) else { return };
        contact.standing = Standing::Over;
        contact.shown = None;
        contact.retry_at = Some(turn.now + limits::CONTACT_OVER);
        self.keep_refusal(turn, key);
        self.say_type(turn, key, "unsubscribed");
        self.arm(turn, key);
    }

    /// The watcher left and the partner knows.
    fn left(&mut self, turn: &mut Turn<'_>, key: &ContactKey) {
        let Some(contact) = self.table.get_mut(key) else { return };
        contact.standing = Standing::Over;
        contact.shown = None;
        // The last NOTIFY is still to come; until then its dialog is known.
        contact.retry_at = contact.leg.as_ref().filter(|leg| leg.confirmed).and_then(|leg| leg.notify_by);
        let is_done = contact.retry_at.is_none_or(|at| at <= turn.now);
        self.say_type(turn, key, "unsubscribed");
        if is_done {
            self.forget(turn, key);
        } else {
            self.arm(turn, key);
        }
    }

    fn forget(&mut self, turn: &mut Turn<'_>, key: &ContactKey) {
        self.table.remove(key);
        turn.step(Step::Forget { lane: Lane::of(key), id: record_id(key) });
    }

    fn arm(&mut self, turn: &mut Turn<'_>, key: &ContactKey) {
        let Some(contact) = self.table.get(key) else { return };
        let leg = contact.leg.iter().flat_map(|leg| {
            let refresh = leg.refresh_at.filter(|_| leg.in_flight.is_none());
            [refresh, leg.notify_by, leg.confirmed.then_some(leg.expires_at)].into_iter().flatten()
        });
        let leg = leg.filter(|_| contact.standing != Standing::Over);
        // Who leaves for good only tells.
        let at = leg.chain(contact.retry_at).filter(|_| !self.leaving).chain(contact.tell_at).min();
        let at = at.map(|at| at.max(turn.now));
        self.table.arm(key, at);
    }
}

impl Contact {
    fn new(now: Time, ends: Ends<'_>, standing: Standing, retry_at: Option<Time>) -> Self {
        Self {
            node: ends.node.to_owned(),
            seen_by: ends.seen_by,
            partner: ends.partner.to_owned(),
            of: ends.of,
            standing,
            unannounced: false,
            leg: None,
            shown: None,
            retry_at,
            failures: 0,
            hold_until: now,
            hurried_at: None,
            seen_at: now,
            tell_at: None,
            tell_failures: 0,
        }
    }

    /// Whether a try without a pause is due; it counts as made.
    fn may_hurry(&mut self, now: Time) -> bool {
        let may =
            self.hold_until <= now && self.hurried_at.is_none_or(|at| now.since(at) >= limits::CONTACT_AGAIN_FIRST);
        if may {
            self.hurried_at = Some(now);
        }
        may
    }
}

impl Row for Contact {
    fn counts(&self) -> (&str, &'static str, u64) {
        let state = if self.standing == Standing::Pending { "pending" } else { "active" };
        (&self.partner, state, u64::from(self.leg.is_some()))
    }

    fn tags(&self) -> impl Iterator<Item = &str> {
        self.leg.iter().map(|leg| leg.dialog.local_tag.as_str())
    }
}

fn record_id(key: &ContactKey) -> RecordId {
    RecordId(format!("contact {} {}", key.0, key.1))
}
