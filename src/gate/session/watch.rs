//! A SIP watcher of an XMPP presentity (RFC 8048 §6): one authorisation for the pair, one subscription for each of the watcher's dialogs.
//!
//! XMPP's authorisation is permanent until cancelled, SIP's subscription lasts as long as it is refreshed; the two are never conflated:
//! a subscription that ends leaves the authorisation alone.

use super::dialog::{Dialog, contact_of};
use super::rounds::{Round, Rounds};
use super::table::{Counts, Pair, Row, Table};
use super::transaction::{Clients, Ended, Purpose, Sent};
use super::{Parcel, Passage, Step, Turn, partner_hop};
use crate::gate::Path;
use crate::gate::event::{Event, Outcome, Settled};
use crate::gate::lane::Lane;
use crate::gate::limits;
use crate::gate::partner::{Action, Node, Profile, Protocol, Side};
use crate::gate::policy::table::STRANGER_PROFILE;
use crate::gate::policy::{Permit, Question};
use crate::gate::record::{Kept, Record, RecordId, Restored};
use crate::gate::reject::{Reason, Reject};
use crate::gate::route::{node_hop, table};
use crate::gate::time::Time;
use crate::gate::translate::presence::{self, Shown};
use crate::wire::address::Address;
use crate::wire::sip::header::Name;
use crate::wire::sip::{Message, Method};
use crate::wire::xmpp::{Element, NS_SERVER, Stanza};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// Watcher and presentity.
pub type WatchKey = Pair;

/// All watches.
#[derive(Debug, Default)]
pub struct Watches {
    table: Table<Watch>,
    rounds: Rounds,
}

/// What the presentity's server has said of the watcher.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Standing {
    /// Asked, no answer yet.
    Asked,
    /// `subscribed`.
    Granted,
    /// `unsubscribed`, but shown as offline; she may change her mind.
    Declined,
    /// A rule says so: shown as offline, whatever she says.
    Polite,
}

#[derive(Debug, Serialize, Deserialize)]
struct Watch {
    partner: String,
    seen_by: Profile,
    node: String,
    of: Profile,
    standing: Standing,
    /// What each resource shows; only this watcher is told (RFC 8048 §9: it may differ from watcher to watcher).
    resources: BTreeMap<String, Shown>,
    /// Whether the presentity's server has said anything since it granted.
    known: bool,
    subscribers: Vec<Subscriber>,
    /// When to ask the presentity's server (again), and how often that failed.
    ask_at: Option<Time>,
    asks_failed: u32,
    /// When the last stanza that changed the state was received.
    changed_at: Option<Time>,
}

/// One of the watcher's dialogs.
#[derive(Debug, Serialize, Deserialize)]
struct Subscriber {
    dialog: Dialog,
    event_id: Option<String>,
    expires_at: Time,
    /// Sent and not yet answered.
    in_flight: bool,
    /// When the next NOTIFY may leave; `None` = nothing to tell.
    due: Option<Time>,
    last_sent: Option<Time>,
    failures: u32,
    /// The last NOTIFY's reason, once it must end.
    ending: Option<Ending>,
}

/// How a subscription ends (RFC 6665 §4.1.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ending {
    /// Expired, or the watcher unsubscribed.
    Timeout,
    /// The user or policy refuses.
    Rejected,
    /// There is no such presentity.
    NoResource,
    /// We stop; come back at once.
    Deactivated,
}

/// What is kept of a watch.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct KeptWatch {
    watcher: String,
    presentity: String,
    standing: Standing,
    dialogs: Vec<KeptDialog>,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
struct KeptDialog {
    dialog: Dialog,
    event_id: Option<String>,
    expires_at_unix_nanos: u64,
}

impl KeptDialog {
    fn expires_at(&self) -> Time {
        Time::from_unix_nanos(self.expires_at_unix_nanos)
    }
}

/// The answer to a SUBSCRIBE that was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// For To.
    pub local_tag: String,
    /// What was granted.
    pub expires: Duration,
}

/// What a SUBSCRIBE asks for, read once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Zero: end it, or fetch once.
    pub expires: Duration,
    /// The Event's id parameter.
    pub event_id: Option<String>,
}

impl Watches {
    /// A SUBSCRIBE that makes a dialog.
    pub fn subscribe(
        &mut self,
        turn: &mut Turn<'_>,
        permit: &Permit,
        request: &Message,
        asked: Asked,
        partner: (&str, Profile, u32),
    ) -> Result<Taken, Reject> {
        let (label, seen_by, subscriptions_max) = partner;
        let key = (permit.from().clone(), permit.to().clone());
        if self.table.count_of(label) >= u64::from(subscriptions_max) {
            return Err(Reject::new(
                Reason::RateLimited,
                format!("{label} holds {subscriptions_max} subscriptions, its limits.subscriptions; raise it or wait"),
            ));
        }
        if self.table.count() >= limits::SUBSCRIPTIONS as u64 {
            return Err(Reject::new(Reason::Overloaded, format!("{} subscriptions are live", limits::SUBSCRIPTIONS)));
        }
        let node = table::node_between(turn.settings, key.0.domain(), permit.to())?;
        let local_tag = turn.token();
        let dialog = Dialog::from_request(request, local_tag.clone())?;
        if !self.table.contains(&key) {
            let standing = if permit.is_polite() { Standing::Polite } else { Standing::Asked };
            self.table.insert(&key, Watch::new((label, seen_by), node, standing));
        }
        let Some(watch) = self.table.get_mut(&key) else {
            return Err(Reject::new(Reason::Overloaded, "no room for another subscription"));
        };
        if watch.subscribers.len() >= limits::DIALOGS_PER_WATCH {
            return Err(Reject::new(
                Reason::Overloaded,
                format!("{} already has {} dialogs with {}", key.0, limits::DIALOGS_PER_WATCH, key.1),
            ));
        }
        watch.subscribers.push(Subscriber {
            dialog,
            event_id: asked.event_id,
            expires_at: turn.now + asked.expires,
            in_flight: false,
            // RFC 6665 §4.2.1.2: a NOTIFY at once.
            due: Some(turn.now),
            last_sent: None,
            failures: 0,
            ending: None,
        });
        // A second dialog of a watcher who is still waiting asks again: the presentity's server may have forgotten.
        match watch.standing {
            Standing::Asked => watch.ask_at = Some(turn.now),
            // Joins one whose last dialogs were ending: nobody was asked for them any more.
            Standing::Granted if !watch.known => {
                watch.ask_at.get_or_insert(turn.now);
            }
            _ => {}
        }
        self.keep(turn, &key);
        self.arm(turn, &key);
        Ok(Taken { local_tag, expires: asked.expires })
    }

    /// A SUBSCRIBE inside a dialog: refresh, or end with Expires 0. `None`: no such dialog (481).
    pub fn refresh(
        &mut self,
        turn: &mut Turn<'_>,
        permit: &Permit,
        request: &Message,
        expires: Duration,
    ) -> Option<Result<Taken, Reject>> {
        let key = self.table.tagged(request.to_tag()?)?;
        // The dialog's own addresses were decided on, not what this request claims.
        if key.0 != *permit.from() {
            return None;
        }
        let watch = self.table.get_mut(&key)?;
        let subscriber = watch.subscribers.iter_mut().find(|s| s.dialog.is_of(request) && s.ending.is_none())?;
        if let Err(reject) = subscriber.dialog.follow(request) {
            return Some(Err(reject));
        }
        subscriber.due = Some(turn.now);
        subscriber.failures = 0;
        if expires.is_zero() {
            // RFC 8048 §6.2.3: closed, terminated;reason=timeout.
            subscriber.ending = Some(Ending::Timeout);
        } else {
            subscriber.expires_at = turn.now + expires;
            if watch.standing == Standing::Asked {
                watch.ask_at = Some(turn.now);
            }
        }
        let local_tag = subscriber.dialog.local_tag.clone();
        // Who refreshes or leaves is answered though nothing can be written now: a crash then only makes the end come sooner, or again.
        let lane = if turn.writing.is_in_trouble() { Lane::Free } else { Lane::of(&key) };
        self.keep_in(turn, &key, lane);
        self.arm(turn, &key);
        Some(Ok(Taken { local_tag, expires }))
    }

    /// The addresses a dialog was decided on, by our tag.
    pub fn of_dialog(&mut self, local_tag: &str) -> Option<WatchKey> {
        self.table.tagged(local_tag)
    }

    /// Whether somebody watches.
    pub fn knows(&self, key: &WatchKey) -> bool {
        self.table.contains(key)
    }

    /// Presence from the presentity's server to a watcher. `false`: nobody watches.
    pub fn presence(&mut self, turn: &mut Turn<'_>, key: &WatchKey, stanza: &Stanza, at: Time) -> bool {
        let Some(watch) = self.table.get_mut(key) else { return false };
        if watch.standing == Standing::Polite {
            return true;
        }
        let resource = stanza.from.as_ref().ok().and_then(|jid| jid.as_ref()).and_then(|jid| jid.resource.clone());
        match stanza.type_.as_deref() {
            Some("subscribed") => {
                watch.asks_failed = 0;
                watch.ask_at = None;
                if watch.standing == Standing::Granted {
                    return true;
                }
                watch.standing = Standing::Granted;
                // What was shown before is not what is there now: say nothing until the server does.
                watch.known = false;
                self.keep(turn, key);
            }
            Some("unsubscribed") => {
                watch.resources.clear();
                watch.ask_at = None;
                if turn.settings.presence.polite_refusal {
                    watch.standing = Standing::Declined;
                    self.keep(turn, key);
                } else {
                    self.end(turn, key, Ending::Rejected);
                    return true;
                }
            }
            // COMPAT(prosody): acknowledges `subscribe` by `unavailable`; while pending, presence says nothing.
            None | Some("unavailable") if watch.standing != Standing::Granted => return true,
            None => {
                if watch.resources.len() >= limits::RESOURCES_PER_WATCH {
                    return true;
                }
                let shown = presence::read_stanza(stanza);
                let resource = resource.as_deref().unwrap_or_default().to_owned();
                let is_news = watch.resources.get(&resource) != Some(&shown) || !watch.known;
                watch.resources.insert(resource, shown);
                watch.known = true;
                if !is_news {
                    return true;
                }
            }
            Some("unavailable") => {
                let was_known = std::mem::replace(&mut watch.known, true);
                let is_news = match resource {
                    Some(resource) => watch.resources.remove(&*resource).is_some(),
                    // From the bare address: every resource is gone.
                    None => !std::mem::take(&mut watch.resources).is_empty(),
                };
                if !is_news && was_known {
                    return true;
                }
            }
            Some("error") => {
                // Only the answer to our question counts; what may pass by itself is asked again.
                use crate::wire::xmpp::ErrorType;
                match stanza.error() {
                    Some(error) if watch.standing == Standing::Asked && error.type_ != ErrorType::Wait => {
                        self.end(turn, key, Ending::NoResource);
                    }
                    _ => self.ask_later(turn, key),
                }
                return true;
            }
            _ => return true,
        }
        self.tell(turn, key, at);
        true
    }

    /// When [`due`](Self::due) has something to do.
    pub fn next_due(&self) -> Option<Time> {
        self.table.next_due()
    }

    /// Something of one watch is due: a NOTIFY, an expiry, a question to the presentity.
    pub fn due(&mut self, turn: &mut Turn<'_>, clients: &mut Clients) {
        let Some(key) = &self.table.pop_due(turn.now) else { return };
        let Some(watch) = self.table.get_mut(key) else { return };
        for subscriber in &mut watch.subscribers {
            if subscriber.expires_at <= turn.now && subscriber.ending.is_none() {
                subscriber.ending = Some(Ending::Timeout);
                subscriber.due = Some(turn.now);
            }
        }
        if watch.ask_at.is_some_and(|at| at <= turn.now) {
            watch.ask_at = None;
            let is_watched = watch.is_watched();
            let type_ = match watch.standing {
                Standing::Asked if is_watched => Some("subscribe"),
                // RFC 6121 §4.3: in the watcher's own name, who is authorised.
                Standing::Granted if is_watched => Some("probe"),
                _ => None,
            };
            if let Some(type_) = type_ {
                let node = watch.node.clone();
                say(turn, &node, key, type_, Passage::Watch(key.clone()));
            }
        }
        self.notify(turn, clients, key);
        self.arm(turn, key);
    }

    /// A question to the presentity's server could not be handed over: ask again later.
    pub fn ask_later(&mut self, turn: &mut Turn<'_>, key: &WatchKey) {
        let Some(watch) = self.table.get_mut(key) else { return };
        watch.asks_failed = watch.asks_failed.saturating_add(1);
        let wait = limits::ASK_AGAIN_FIRST * (1 << watch.asks_failed.min(7).saturating_sub(1));
        watch.ask_at = Some(turn.jittered(wait.min(limits::ASK_AGAIN)));
        self.arm(turn, key);
    }

    /// A NOTIFY ended.
    pub fn notified(&mut self, turn: &mut Turn<'_>, key: &WatchKey, local_tag: &str, ended: &Ended<'_>) {
        let Some(watch) = self.table.get_mut(key) else { return };
        let Some(at) = watch.subscribers.iter().position(|s| s.dialog.local_tag == local_tag) else { return };
        let subscriber = &mut watch.subscribers[at];
        subscriber.in_flight = false;
        let outcome = match ended {
            Ended::Answered(200..=299, _) => Outcome::Delivered,
            Ended::LinkDied => Outcome::Uncertain,
            _ => Outcome::Failed,
        };
        let settled = Settled {
            partner: watch.partner.as_str().into(),
            side: Side::Inside,
            protocol: Protocol::Xmpp,
            action: Action::Presence,
            outcome,
        };
        turn.step(Step::Event(Event::Settled(settled)));
        let is_over = match ended {
            Ended::Answered(200..=299, _) => {
                subscriber.failures = 0;
                subscriber.ending.is_some() && subscriber.due.is_none()
            }
            // RFC 6665 §4.2.2: these end the subscription, Timer F should.
            Ended::Answered(404 | 405 | 410 | 416 | 480..=485 | 489 | 501 | 604, _) | Ended::TimedOut => true,
            // Any other answer: it stands until it expires; the next change is told again.
            Ended::Answered(..) => subscriber.ending.is_some() && subscriber.due.is_none(),
            // The partner is away for a moment: tell it again, for as long as the subscription lasts.
            Ended::Unreachable(_) | Ended::LinkDied => {
                subscriber.failures = subscriber.failures.saturating_add(1);
                let wait = limits::NOTIFY_AGAIN_FIRST * (1 << subscriber.failures.min(7).saturating_sub(1));
                subscriber.due = Some(turn.now + wait.min(limits::NOTIFY_AGAIN));
                let expired = subscriber.expires_at <= turn.now;
                subscriber.ending.is_some() && expired && subscriber.failures > limits::LAST_NOTIFY_TRIES
            }
        };
        if is_over {
            self.remove_subscriber(turn, key, at);
        }
        self.arm(turn, key);
    }

    /// Ends every subscription of a watch: their watchers are told.
    pub fn end(&mut self, turn: &mut Turn<'_>, key: &WatchKey, ending: Ending) {
        let Some(watch) = self.table.get_mut(key) else { return };
        watch.ask_at = None;
        // Who comes back before the last NOTIFY is answered starts anew: nothing that was granted holds any more.
        if matches!(ending, Ending::Rejected | Ending::NoResource) {
            watch.standing = Standing::Asked;
            watch.known = false;
            watch.resources.clear();
        }
        for subscriber in watch.subscribers.iter_mut().filter(|s| s.ending.is_none()) {
            subscriber.ending = Some(ending);
            subscriber.due = Some(turn.now);
        }
        self.arm(turn, key);
    }

    /// We stop: every watcher is told to come back at once (RFC 6665 §4.1.3 `deactivated`).
    pub fn deactivate_all(&mut self, turn: &mut Turn<'_>) {
        self.rounds.begin(turn, Round::Leave);
    }

    /// A node's stream to us ended: what its users show may be stale. Ask, not all at once.
    pub fn node_restarted(&mut self, turn: &mut Turn<'_>, node: &str) {
        self.rounds.begin(turn, Round::NodeLost(node.to_owned()));
    }

    /// Settings changed: every watch is decided again; what is no longer allowed is cut.
    pub fn reloaded(&mut self, turn: &mut Turn<'_>) {
        self.rounds.begin(turn, Round::Decide);
    }

    /// The next slice of what is done to all watches.
    pub fn go_round(&mut self, turn: &mut Turn<'_>) {
        let Some((round, keys)) = self.rounds.next(turn, &mut self.table) else { return };
        for key in keys {
            match &round {
                Round::Decide => self.decide_again(turn, &key),
                Round::NodeLost(node) => self.ask_again(turn, &key, node),
                Round::Leave => self.end(turn, &key, Ending::Deactivated),
            }
        }
    }

    fn ask_again(&mut self, turn: &mut Turn<'_>, key: &WatchKey, node: &str) {
        if self.table.get(key).is_none_or(|watch| watch.node != node) {
            return;
        }
        let at = turn.jittered(limits::PROBE_AFTER_NODE_LOSS);
        if let Some(watch) = self.table.get_mut(key)
            && matches!(watch.standing, Standing::Asked | Standing::Granted)
            && watch.ask_at.is_none_or(|ask| ask > at)
        {
            watch.ask_at = Some(at);
        }
        self.arm(turn, key);
    }

    fn decide_again(&mut self, turn: &mut Turn<'_>, key: &WatchKey) {
        let Some(watch) = self.table.get_mut(key) else { return };
        // The user may have moved to another node: it is the one to ask from now on.
        if let Ok(node) = table::node_between(turn.settings, key.0.domain(), &key.1)
            && node.name != watch.node
        {
            watch.node = node.name.to_string();
            watch.of = node.profile;
            watch.ask_at = Some(turn.now);
            self.arm(turn, key);
        }
        let Some(watch) = self.table.get_mut(key) else { return };
        let question = Question {
            from: &key.0,
            to: &key.1,
            action: Action::Subscribe,
            side: Side::Outside,
            protocol: Protocol::Sip,
            peer_ip: None,
        };
        match turn.settings.policy.decide(question).0 {
            Ok(permit) => {
                let was_polite = watch.standing == Standing::Polite;
                if permit.is_polite() && !was_polite {
                    watch.standing = Standing::Polite;
                    watch.resources.clear();
                    self.keep(turn, key);
                    self.tell(turn, key, turn.now);
                } else if !permit.is_polite() && was_polite {
                    watch.standing = Standing::Asked;
                    watch.ask_at = Some(turn.now);
                    self.keep(turn, key);
                    self.arm(turn, key);
                }
            }
            Err(_) => self.end(turn, key, Ending::Rejected),
        }
    }

    /// Takes a kept watch back after a restart; it is decided again, and its presentity's server asked. One whose partner or node is no
    /// longer in the settings waits for the next start, unless it has run out.
    pub fn restore(&mut self, turn: &mut Turn<'_>, kept: KeptWatch) -> Restored {
        let parsed =
            (crate::wire::address::Jid::parse(&kept.watcher), crate::wire::address::Jid::parse(&kept.presentity));
        let (Ok(watcher), Ok(presentity)) = parsed else { return Restored::Gone };
        let later = |why| match kept.dialogs.iter().any(|dialog| dialog.expires_at() > turn.now) {
            true => Restored::Later(why),
            false => Restored::Gone,
        };
        let key = (watcher.bare, presentity.bare);
        let policy = &turn.settings.policy;
        let (label, seen_by) = match policy.partner_for(key.0.domain(), Protocol::Sip).map(|id| policy.partner(id)) {
            Some(partner) => (partner.label.as_str(), partner.profile),
            None if policy.stranger.is_some() => ("other", STRANGER_PROFILE),
            None => return later("no [[partner]] entry has their domain"),
        };
        let Ok(node) = table::node_between(turn.settings, key.0.domain(), &key.1) else {
            return later("no [[node]] serves their presentity");
        };
        let mut watch = Watch::new((label, seen_by), node, kept.standing);
        watch.ask_at = Some(turn.jittered(limits::ASK_AFTER_RESTART));
        // What was owed when we died is not known, so each is told once; who may see presence, when it is known again.
        let due = (watch.standing != Standing::Granted).then(|| turn.jittered(limits::ASK_AFTER_RESTART));
        for mut kept in kept.dialogs {
            kept.dialog.resume();
            let expires_at = kept.expires_at();
            // It ran out while we were down, as perhaps all others did: its end is not told at once either.
            let has_expired = expires_at <= turn.now;
            watch.subscribers.push(Subscriber {
                dialog: kept.dialog,
                event_id: kept.event_id,
                expires_at,
                in_flight: false,
                due: if has_expired { Some(turn.jittered(limits::ASK_AFTER_RESTART)) } else { due },
                last_sent: None,
                failures: 0,
                ending: has_expired.then_some(Ending::Timeout),
            });
        }
        self.table.insert(&key, watch);
        self.decide_again(turn, &key);
        self.arm(turn, &key);
        Restored::Live
    }

    /// Live subscriptions: (partner, state, how many).
    pub fn counts(&self) -> Counts {
        self.table.counts()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// The state changed: each dialog learns it, at most once in `notify_interval` (RFC 3856 §6.10).
    fn tell(&mut self, turn: &mut Turn<'_>, key: &WatchKey, at: Time) {
        let Some(watch) = self.table.get_mut(key) else { return };
        watch.changed_at = Some(at);
        for subscriber in watch.subscribers.iter_mut().filter(|s| s.ending.is_none()) {
            let earliest = subscriber.last_sent.map_or(turn.now, |sent| sent + turn.settings.presence.notify_interval);
            let due = earliest.max(turn.now);
            subscriber.due = Some(subscriber.due.map_or(due, |already| already.min(due)));
        }
        self.arm(turn, key);
    }

    /// Sends each NOTIFY that is due; one at a time in a dialog, so that they arrive in order.
    fn notify(&mut self, turn: &mut Turn<'_>, clients: &mut Clients, key: &WatchKey) {
        let Some(watch) = self.table.get_mut(key) else { return };
        let mut must_keep = false;
        let mut ready = Vec::new();
        for subscriber in &mut watch.subscribers {
            if subscriber.in_flight || subscriber.due.is_none_or(|due| due > turn.now) {
                continue;
            }
            subscriber.due = None;
            subscriber.in_flight = true;
            subscriber.last_sent = Some(turn.now);
            let left = subscriber.expires_at.since(turn.now).as_secs();
            let (state, body) = match (subscriber.ending, watch.standing) {
                (Some(Ending::Timeout), _) => ("terminated;reason=timeout".to_owned(), Some(BTreeMap::new())),
                (Some(Ending::Rejected), _) => ("terminated;reason=rejected".to_owned(), None),
                (Some(Ending::NoResource), _) => ("terminated;reason=noresource".to_owned(), None),
                (Some(Ending::Deactivated), _) => ("terminated;reason=deactivated".to_owned(), None),
                // RFC 6665 §4.1.3: active and pending carry `expires`.
                (None, Standing::Asked) => (format!("pending;expires={left}"), None),
                (None, Standing::Declined | Standing::Polite) => {
                    (format!("active;expires={left}"), Some(BTreeMap::new()))
                }
                // RFC 8048 §6.2.2: state not known yet, body empty.
                (None, Standing::Granted) => {
                    (format!("active;expires={left}"), watch.known.then(|| watch.resources.clone()))
                }
            };
            let body = body.map(|resources| document(&key.1, &resources, watch.seen_by, watch.of));
            let event = match &subscriber.event_id {
                Some(id) => format!("presence;id={id}"),
                None => "presence".to_owned(),
            };
            let branch = turn.branch();
            let identity = &turn.settings.identities[turn.settings.identity_for(key.1.domain())];
            let request = subscriber.dialog.request(
                Method::Notify,
                &branch,
                identity,
                vec![("Event", event), ("Subscription-State", state)],
                body.as_ref().map(|body| ("application/pidf+xml", body.as_bytes())),
            );
            must_keep |= request.mark_moved;
            ready.push((branch, subscriber.dialog.local_tag.clone(), request.bytes));
        }
        let transit = watch.changed_at.take().map(|at| (at, Path::XmppSip));
        if must_keep {
            self.keep(turn, key);
        }
        let hop = partner_hop(turn.settings, key.0.domain(), key.1.domain());
        for (branch, tag, bytes) in ready {
            let purpose = Purpose::Notify(key.clone(), tag);
            let lane = Lane::of(key);
            clients.send(turn, hop.clone(), Sent { branch, method: Method::Notify, purpose, bytes, transit, lane });
        }
    }

    fn remove_subscriber(&mut self, turn: &mut Turn<'_>, key: &WatchKey, at: usize) {
        let Some(watch) = self.table.get_mut(key) else { return };
        let gone = watch.subscribers.remove(at);
        if !watch.subscribers.is_empty() {
            self.keep(turn, key);
            return;
        }
        let Some(watch) = self.table.remove(key) else { return };
        turn.step(Step::Forget { lane: Lane::of(key), id: record_id(key) });
        // RFC 8048 §6.2.3: the contact learns that the watcher went; the authorisation stays.
        if watch.standing == Standing::Granted && gone.ending == Some(Ending::Timeout) {
            say(turn, &watch.node, key, "unavailable", Passage::Answer);
        }
    }

    fn keep(&mut self, turn: &mut Turn<'_>, key: &WatchKey) {
        self.keep_in(turn, key, Lane::of(key));
    }

    fn keep_in(&mut self, turn: &mut Turn<'_>, key: &WatchKey, lane: Lane) {
        let Some(watch) = self.table.get(key) else { return };
        let dialogs = watch
            .subscribers
            .iter()
            // Who unsubscribed or expired knows; any other end is told again if we stop before it was heard.
            .filter(|s| s.ending != Some(Ending::Timeout))
            .map(|s| KeptDialog {
                dialog: s.dialog.clone(),
                event_id: s.event_id.clone(),
                expires_at_unix_nanos: s.expires_at.unix_nanos(),
            })
            .collect::<Vec<_>>();
        if dialogs.is_empty() {
            turn.step(Step::Forget { lane, id: record_id(key) });
            return;
        }
        let kept = KeptWatch { watcher: key.0.to_jid(), presentity: key.1.to_jid(), standing: watch.standing, dialogs };
        turn.step(Step::Keep { lane, record: Record { id: record_id(key), kept: Kept::Watch(kept) } });
    }

    fn arm(&mut self, turn: &mut Turn<'_>, key: &WatchKey) {
        let Some(watch) = self.table.get(key) else { return };
        let subscribers = watch.subscribers.iter().flat_map(|s| {
            let due = s.due.filter(|_| !s.in_flight);
            let expiry = Some(s.expires_at).filter(|_| s.ending.is_none());
            [due, expiry].into_iter().flatten()
        });
        let at = subscribers.chain(watch.ask_at).min().map(|at| at.max(turn.now));
        self.table.arm(key, at);
    }
}

impl Watch {
    fn new((label, seen_by): (&str, Profile), node: &Node, standing: Standing) -> Self {
        Self {
            partner: label.to_owned(),
            seen_by,
            node: node.name.to_string(),
            of: node.profile,
            standing,
            resources: BTreeMap::new(),
            known: false,
            subscribers: Vec::new(),
            ask_at: None,
            asks_failed: 0,
            changed_at: None,
        }
    }

    /// Whether a dialog is there that does not end.
    fn is_watched(&self) -> bool {
        self.subscribers.iter().any(|subscriber| subscriber.ending.is_none())
    }
}

impl Row for Watch {
    fn counts(&self) -> (&str, &'static str, u64) {
        let state = match self.standing {
            Standing::Asked => "pending",
            Standing::Granted | Standing::Declined | Standing::Polite => "active",
        };
        (&self.partner, state, self.subscribers.len() as u64)
    }

    fn tags(&self) -> impl Iterator<Item = &str> {
        self.subscribers.iter().map(|subscriber| subscriber.dialog.local_tag.as_str())
    }
}

/// Reads what a SUBSCRIBE asks for (RFC 6665 §4.2.1.1, RFC 3856 §6).
pub fn read(request: &Message, settings: &crate::gate::partner::Presence) -> Result<Asked, Reject> {
    use crate::wire::sip::header;
    let event = request.header(Name::Event).and_then(header::Event::parse);
    let Some(event) = event.filter(|event| event.package == "presence") else {
        return Err(Reject::new(Reason::Unsupported, "only Event: presence is served")
            .with_status(489)
            .with_header("Allow-Events", "presence"));
    };
    let mut accept = request.values(Name::Accept).peekable();
    // RFC 3856 §6.7: no Accept means PIDF.
    if accept.peek().is_some() && !header::accepts(accept, "application/pidf+xml") {
        return Err(Reject::new(Reason::Unsupported, "Accept does not list application/pidf+xml")
            .with_status(406)
            .with_header("Accept", "application/pidf+xml"));
    }
    let expires = match request.header(Name::Expires) {
        None => settings.expires,
        Some(text) => Duration::from_secs(u64::from(
            header::delta_seconds(text)
                .ok_or_else(|| Reject::new(Reason::Malformed, "Expires is not a number of seconds"))?,
        )),
    };
    // RFC 6665 §4.2.1.1: only what is under an hour may be too brief.
    if !expires.is_zero() && expires < settings.minimum && expires < Duration::from_secs(3600) {
        return Err(Reject::new(
            Reason::Unsupported,
            format!("Expires is below [presence] minimum, {} s", settings.minimum.as_secs()),
        )
        .with_status(423)
        .with_header("Min-Expires", settings.minimum.as_secs().to_string()));
    }
    Ok(Asked { expires: expires.min(settings.expires), event_id: event.id.map(str::to_owned) })
}

/// The headers of the 200 to a SUBSCRIBE.
pub fn granted(
    settings: &crate::gate::settings::Settings,
    presentity: &Address,
    expires: Duration,
) -> Vec<(&'static str, String)> {
    let identity = &settings.identities[settings.identity_for(presentity.domain())];
    vec![("Contact", contact_of(identity)), ("Expires", expires.as_secs().to_string())]
}

/// The presence document of a presentity for one watcher.
pub fn document(presentity: &Address, resources: &BTreeMap<String, Shown>, seen_by: Profile, of: Profile) -> String {
    // COMPAT(lync, ocs, aol): they read the activity in the draft's place.
    let draft = matches!(seen_by, Profile::Lync | Profile::Ocs | Profile::Aol);
    presence::to_document(presentity, resources, seen_by, of).print(draft)
}

/// A presence stanza from the watcher to the presentity.
pub fn say(turn: &mut Turn<'_>, node: &str, key: &WatchKey, type_: &str, passage: Passage) {
    let id = turn.token();
    let stanza = Element::new("presence", NS_SERVER)
        .attr("type", type_)
        .attr("from", &key.0.to_jid())
        .attr("to", &key.1.to_jid())
        .attr("id", &id);
    let hop = node_hop(turn.settings, node, key.0.domain(), key.1.domain());
    turn.step(Step::Pass {
        hop,
        parcel: Parcel { bytes: Bytes::from(stanza.print(NS_SERVER)), passage, transit: None, lane: Lane::of(key) },
    });
}

fn record_id(key: &WatchKey) -> RecordId {
    RecordId(format!("watch {} {}", key.0, key.1))
}
