//! IM sessions between an XMPP user and a SIP user (RFC 7573 in Microsoft's dialect): INVITE, then MESSAGE both ways inside its dialog, then
//! BYE. One session for the two of them, whoever opened it.
//!
//! [`inbound`] is what the SIP user does, [`outbound`] what the XMPP user does, [`invite`] our INVITEs' transactions; here is what both share:
//! the table, the dialog's life, the clock, what is kept.

mod inbound;
mod invite;
mod outbound;

pub use inbound::typing;

use super::dialog::Dialog;
use super::outcome::Barriers;
use super::page::{Envelope, Pages};
use super::transaction::{Clients, Purpose, Sent};
use super::{Deadline, Parcel, Passage, Step, Turn, partner_hop};
use crate::gate::lane::Lane;
use crate::gate::limits;
use crate::gate::partner::{Action, LinkId, Profile, Protocol, Side};
use crate::gate::policy::Question;
use crate::gate::policy::table::STRANGER_PROFILE;
use crate::gate::record::{Kept, Record, RecordId, Restored};
use crate::gate::reject::{Reason, Reject};
use crate::gate::route::{node_hop, table};
use crate::gate::time::Time;
use crate::gate::translate::composing::ChatState;
use crate::gate::translate::message::Text;
use crate::wire::address::{Address, Jid};
use crate::wire::sip::Method;
use crate::wire::xmpp::NS_SERVER;
use bytes::Bytes;
use invite::Invites;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// The local user and the remote one.
pub type ChatKey = (Address, Address);

/// What we answer inside a session.
const ALLOW: &str = "INVITE, ACK, BYE, CANCEL, MESSAGE, INFO, UPDATE, OPTIONS, NOTIFY";

/// All IM sessions.
#[derive(Debug, Default)]
pub struct Chats {
    table: BTreeMap<ChatKey, Chat>,
    /// Dialogs by our tag.
    dialogs: BTreeMap<String, ChatKey>,
    invites: Invites,
    /// Sessions of each partner label.
    counts: BTreeMap<String, u32>,
    /// Messages that wait or are on their way, and the bytes of their texts.
    lines: usize,
    bytes: usize,
    /// Who takes no sessions, until when that is believed.
    no_session: BTreeMap<Address, Time>,
    /// Sessions to be decided again after a reload.
    sweep: BTreeSet<ChatKey>,
    /// Whether each ends as soon as everything is said.
    stopping: bool,
}

/// What the sessions work with.
pub struct Beside<'a> {
    /// Requests of ours.
    pub clients: &'a mut Clients,
    /// Outcomes of messages to SIP.
    pub pages: &'a mut Pages,
    /// Outcomes of messages to XMPP.
    pub barriers: &'a mut Barriers,
}

#[derive(Debug)]
struct Chat {
    partner: String,
    opened_by: Side,
    thread: String,
    state: State,
    /// The one message that was sent and not yet answered (RFC 3428 §8).
    sent: Option<Line>,
    waiting: VecDeque<Line>,
    idle_at: Time,
}

#[derive(Debug)]
enum State {
    /// Our INVITE, by branch, is under way.
    Inviting { branch: String, local_tag: String },
    /// There is a dialog.
    Open(Box<Open>),
    /// No dialog; the answer to a message that was sent in it is still awaited.
    Ended,
}

#[derive(Debug)]
struct Open {
    dialog: Dialog,
    /// Whether isComposing documents are taken.
    takes_composing: bool,
    /// Our 200 to their INVITE, until its ACK is there.
    unacked: Option<Unacked>,
    /// Resumed: whether our 200 had arrived is not known until they say something inside the dialog.
    is_unsure: bool,
    /// The XMPP user has left: BYE as soon as everything is said.
    leaving: bool,
    /// When we said last that the XMPP user types.
    typing_told: Option<Time>,
    /// The far side takes no such thing.
    typing_refused: bool,
    /// Until when the SIP user's `composing` counts.
    types_until: Option<Time>,
}

/// RFC 3261 §13.3.1.4: a 2xx is sent again until its ACK comes, on reliable transports too.
#[derive(Debug)]
struct Unacked {
    answer: Box<[u8]>,
    link: LinkId,
    /// Of the INVITE.
    cseq: u32,
    /// Its top Via, which its CANCEL repeats.
    via: String,
    next: Time,
    pause: Duration,
    until: Time,
}

/// A message on its way to SIP.
#[derive(Debug)]
struct Line {
    envelope: Envelope,
    from: Jid,
    text: Text,
    at: Time,
    /// It met a dead session before.
    again: bool,
}

/// What is kept of a session: its dialog, never a word that was said.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct KeptChat {
    local: String,
    remote: String,
    thread: String,
    opened_by_us: bool,
    takes_composing: bool,
    dialog: Dialog,
}

impl Chats {
    /// The two a dialog is between, by our tag: what policy decides on.
    pub fn of_dialog(&self, local_tag: &str) -> Option<&ChatKey> {
        self.dialogs.get(local_tag)
    }

    /// Whether the two have a session, or one is being made.
    pub fn is_open(&self, key: &ChatKey) -> bool {
        self.table.contains_key(key)
    }

    /// Whether the session was opened by the SIP user.
    pub fn is_theirs(&self, key: &ChatKey) -> bool {
        self.table.get(key).is_some_and(|chat| chat.opened_by == Side::Outside)
    }

    /// Whether it was found out, not too long ago, that sessions are not taken.
    pub fn takes_none(&self, remote: &Address, now: Time) -> bool {
        self.no_session.get(remote).is_some_and(|until| *until > now)
    }

    /// Something of this session is due.
    pub fn due(&mut self, turn: &mut Turn<'_>, mut beside: Beside<'_>, key: &ChatKey) {
        let Some(chat) = self.table.get_mut(key) else { return };
        let State::Open(open) = &mut chat.state else { return };
        if let Some(unacked) = &mut open.unacked {
            if unacked.until <= turn.now {
                // RFC 3261 §13.3.1.4: without ACK the session is ended. Nobody was ever in it, so nobody has gone.
                open.unacked = None;
                self.hang_up(turn, &mut beside, key);
                self.proceed(turn, &mut beside, key);
                return;
            }
            if unacked.next <= turn.now {
                unacked.pause = (unacked.pause * 2).min(limits::T2);
                unacked.next = turn.now + unacked.pause;
                let bytes = Bytes::copy_from_slice(&unacked.answer);
                // Not before the first, which may still wait for its record.
                turn.step(Step::Write { link: unacked.link, bytes, lane: Lane::of(key) });
            }
        }
        if open.types_until.is_some_and(|until| until <= turn.now) {
            // RFC 3994 §3.3: no refresh came.
            open.types_until = None;
            say(turn, key, &chat.thread, ChatState::Paused);
        }
        if chat.idle_at <= turn.now {
            if chat.sent.is_some() || !chat.waiting.is_empty() {
                chat.idle_at = turn.now + turn.settings.chat_idle;
            } else {
                say(turn, key, &chat.thread, ChatState::Gone);
                self.hang_up(turn, &mut beside, key);
                self.proceed(turn, &mut beside, key);
                return;
            }
        }
        self.arm(turn, key);
    }

    /// Settings changed: every session is decided again, in slices; who takes no sessions is asked again.
    pub fn reloaded(&mut self, turn: &mut Turn<'_>) {
        self.no_session.clear();
        self.sweep = self.table.keys().cloned().collect();
        turn.deadlines.set(Deadline::ChatSweep, turn.now);
    }

    /// Decides one slice again; what is no longer allowed is ended.
    pub fn sweep(&mut self, turn: &mut Turn<'_>, mut beside: Beside<'_>) {
        for _ in 0..limits::CHAT_SLICE {
            let Some(key) = self.sweep.pop_first() else { return };
            self.decide_again(turn, &mut beside, &key);
        }
        turn.deadlines.set(Deadline::ChatSweep, turn.now);
    }

    fn decide_again(&mut self, turn: &mut Turn<'_>, beside: &mut Beside<'_>, key: &ChatKey) {
        let Some(chat) = self.table.get_mut(key) else { return };
        let (from, to) = match chat.opened_by {
            Side::Outside => (&key.1, &key.0),
            Side::Inside => (&key.0, &key.1),
        };
        let (action, side, protocol) = (Action::Chat, chat.opened_by, Protocol::Sip);
        let question = Question { from, to, action, side, protocol, peer_ip: None };
        let Err(reject) = turn.settings.policy.decide(question).0 else { return };
        let waiting = std::mem::take(&mut chat.waiting);
        if matches!(chat.state, State::Open(_)) {
            say(turn, key, &chat.thread, ChatState::Gone);
        }
        for line in waiting {
            self.release(&line);
            beside.pages.give_back(turn, beside.barriers, line.envelope, &reject);
        }
        self.hang_up(turn, beside, key);
        self.proceed(turn, beside, key);
    }

    /// Takes a kept session back after a restart; it is decided again.
    pub fn restore(&mut self, turn: &mut Turn<'_>, mut beside: Beside<'_>, kept: KeptChat) -> Restored {
        let (Ok(local), Ok(remote)) = (Jid::parse(&kept.local), Jid::parse(&kept.remote)) else {
            return Restored::Gone;
        };
        let key = (local.bare, remote.bare);
        if self.table.contains_key(&key) {
            return Restored::Gone;
        }
        let id = turn.settings.policy.partner_for(key.1.domain(), Protocol::Sip);
        let mut open = Open::new(kept.dialog, kept.takes_composing);
        open.dialog.resume();
        open.is_unsure = !kept.opened_by_us;
        self.dialogs.insert(open.dialog.local_tag.clone(), key.clone());
        let partner = id.map_or("other", |id| turn.settings.policy.partner(id).label.as_str()).to_owned();
        let chat = Chat {
            partner,
            opened_by: if kept.opened_by_us { Side::Inside } else { Side::Outside },
            thread: kept.thread,
            state: State::Open(Box::new(open)),
            sent: None,
            waiting: VecDeque::new(),
            idle_at: turn.now + turn.settings.chat_idle,
        };
        *self.counts.entry(chat.partner.clone()).or_default() += 1;
        self.table.insert(key.clone(), chat);
        self.arm(turn, &key);
        self.decide_again(turn, &mut beside, &key);
        Restored::Live
    }

    /// We stop: what is under way is said, then every session ends.
    pub fn end_all(&mut self, turn: &mut Turn<'_>, mut beside: Beside<'_>) {
        self.stopping = true;
        let keys: Vec<ChatKey> = self.table.keys().cloned().collect();
        for key in keys {
            if let Some(chat) = self.table.get_mut(&key)
                && let State::Open(open) = &mut chat.state
            {
                open.leaving = true;
                say(turn, &key, &chat.thread, ChatState::Gone);
            }
            self.proceed(turn, &mut beside, &key);
        }
    }

    /// Draining is over: what is still under way is told to its senders as uncertain, what was never sent as not delivered.
    pub fn give_up(&mut self, turn: &mut Turn<'_>, mut beside: Beside<'_>) {
        let keys: Vec<ChatKey> = self.table.keys().cloned().collect();
        for key in keys {
            let Some(chat) = self.table.get_mut(&key) else { continue };
            let sent = chat.sent.take().into_iter().map(|line| (Reason::Uncertain, line));
            let waiting = std::mem::take(&mut chat.waiting).into_iter().map(|line| (Reason::Timeout, line));
            for (reason, line) in sent.chain(waiting) {
                self.release(&line);
                beside.pages.give_back(turn, beside.barriers, line.envelope, &Reject::new(reason, "stopping"));
            }
            self.hang_up(turn, &mut beside, &key);
            self.proceed(turn, &mut beside, &key);
        }
    }

    /// Sessions of each partner.
    pub fn counted(&self) -> BTreeMap<String, u64> {
        let mut counted = BTreeMap::new();
        for chat in self.table.values().filter(|chat| matches!(chat.state, State::Open(_))) {
            *counted.entry(chat.partner.clone()).or_insert(0) += 1;
        }
        counted
    }

    /// How many sessions there are.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Ends the dialog or the INVITE that would make one; what was sent in it is still awaited.
    fn hang_up(&mut self, turn: &mut Turn<'_>, beside: &mut Beside<'_>, key: &ChatKey) {
        let Some(chat) = self.table.get_mut(key) else { return };
        match std::mem::replace(&mut chat.state, State::Ended) {
            State::Inviting { branch, local_tag } => {
                self.dialogs.remove(&local_tag);
                self.invites.cancel(turn, &branch);
            }
            State::Open(mut open) => {
                self.dialogs.remove(&open.dialog.local_tag);
                turn.step(Step::Forget { lane: Lane::of(key), id: record_id(&open.dialog) });
                bye(turn, beside.clients, key, &mut open.dialog);
            }
            State::Ended => {}
        }
    }

    /// The far side has ended the dialog, or does not know it.
    fn dialog_gone(&mut self, turn: &mut Turn<'_>, key: &ChatKey) {
        let Some(chat) = self.table.get_mut(key) else { return };
        if let State::Open(open) = &chat.state {
            self.dialogs.remove(&open.dialog.local_tag);
            turn.step(Step::Forget { lane: Lane::of(key), id: record_id(&open.dialog) });
            chat.state = State::Ended;
        }
    }

    /// What the state allows next: the next message, a new session for those that wait, or the end.
    fn proceed(&mut self, turn: &mut Turn<'_>, beside: &mut Beside<'_>, key: &ChatKey) {
        let Some(chat) = self.table.get_mut(key) else { return };
        let is_quiet = chat.sent.is_none() && chat.waiting.is_empty();
        match &chat.state {
            State::Inviting { .. } => {}
            State::Open(open) if open.leaving && is_quiet => {
                self.hang_up(turn, beside, key);
                self.proceed(turn, beside, key);
                return;
            }
            State::Open(_) => self.send_next(turn, beside, key),
            State::Ended if is_quiet => {
                if let Some(count) = self.counts.get_mut(&chat.partner) {
                    *count = count.saturating_sub(1);
                }
                self.table.remove(key);
                turn.deadlines.cancel(&Deadline::Chat(key.clone()));
                return;
            }
            State::Ended if chat.sent.is_none() => self.invite(turn, beside, key),
            State::Ended => {}
        }
        self.arm(turn, key);
    }

    /// The session of two, there or begun in `Ended`; refused beyond the bounds.
    fn begin(
        &mut self,
        turn: &Turn<'_>,
        key: &ChatKey,
        (partner, opened_by, thread): (&str, Side, String),
    ) -> Result<&mut Chat, Reject> {
        use std::collections::btree_map::Entry;
        let open = self.table.len();
        let is_full = open >= limits::CHATS || self.invites.len() >= limits::INVITES;
        let idle_at = turn.now + turn.settings.chat_idle;
        let chat = match self.table.entry(key.clone()) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => {
                let count = self.counts.get(partner).copied().unwrap_or(0);
                if is_full || count >= limits::CHATS_PER_PARTNER {
                    let detail = format!("{open} IM sessions are open, {count} of them with {partner}");
                    return Err(Reject::new(Reason::Overloaded, detail));
                }
                self.counts.insert(partner.to_owned(), count + 1);
                place.insert(Chat {
                    partner: partner.to_owned(),
                    opened_by,
                    thread,
                    state: State::Ended,
                    sent: None,
                    waiting: VecDeque::new(),
                    idle_at,
                })
            }
        };
        chat.idle_at = idle_at;
        Ok(chat)
    }

    /// A message is no longer ours to carry.
    fn release(&mut self, line: &Line) {
        self.lines -= 1;
        self.bytes -= line.text.body.len();
    }

    /// Traffic of either side.
    fn touch(&mut self, turn: &mut Turn<'_>, key: &ChatKey) {
        if let Some(chat) = self.table.get_mut(key) {
            chat.idle_at = turn.now + turn.settings.chat_idle;
        }
        self.arm(turn, key);
    }

    fn keep(&mut self, turn: &mut Turn<'_>, key: &ChatKey) {
        let Some(chat) = self.table.get(key) else { return };
        let State::Open(open) = &chat.state else { return };
        let kept = KeptChat {
            local: key.0.to_jid(),
            remote: key.1.to_jid(),
            thread: chat.thread.clone(),
            opened_by_us: chat.opened_by == Side::Inside,
            takes_composing: open.takes_composing,
            dialog: open.dialog.clone(),
        };
        let record = Record { id: record_id(&open.dialog), kept: Kept::Chat(kept) };
        turn.step(Step::Keep { lane: Lane::of(key), record });
    }

    fn arm(&mut self, turn: &mut Turn<'_>, key: &ChatKey) {
        let Some(chat) = self.table.get(key) else { return };
        let due = match &chat.state {
            State::Open(open) => {
                let unacked = open.unacked.as_ref().map(|unacked| unacked.next.min(unacked.until));
                [unacked, open.types_until, Some(chat.idle_at)].into_iter().flatten().min()
            }
            State::Inviting { .. } | State::Ended => None,
        };
        match due {
            Some(at) => turn.deadlines.set(Deadline::Chat(key.clone()), at.max(turn.now)),
            None => turn.deadlines.cancel(&Deadline::Chat(key.clone())),
        }
    }
}

impl Open {
    fn new(dialog: Dialog, takes_composing: bool) -> Self {
        Self {
            dialog,
            takes_composing,
            unacked: None,
            is_unsure: false,
            leaving: false,
            typing_told: None,
            typing_refused: false,
            types_until: None,
        }
    }
}

/// The dialect of a remote user's server.
fn profile_of(turn: &Turn<'_>, remote: &Address) -> Profile {
    let id = turn.settings.policy.partner_for(remote.domain(), Protocol::Sip);
    id.map_or(STRANGER_PROFILE, |id| turn.settings.policy.partner(id).profile)
}

/// Ends a dialog (RFC 3261 §15.1.1).
fn bye(turn: &mut Turn<'_>, clients: &mut Clients, key: &ChatKey, dialog: &mut Dialog) {
    let branch = turn.branch();
    let identity = &turn.settings.identities[turn.settings.identity_for(key.0.domain())];
    let bytes = dialog.request(Method::Bye, &branch, identity, Vec::new(), None).bytes;
    let hop = partner_hop(turn.settings, key.1.domain(), key.0.domain());
    let (method, purpose, lane) = (Method::Bye, Purpose::Bye, Lane::of(key));
    clients.send(turn, hop, Sent { branch, method, purpose, bytes, transit: None, lane });
}

/// A chat state from the SIP user to the XMPP user. Nobody awaits its fate.
fn say(turn: &mut Turn<'_>, key: &ChatKey, thread: &str, state: ChatState) {
    let Ok(node) = table::node_between(turn.settings, key.1.domain(), &key.0) else { return };
    let hop = node_hop(turn.settings, &node.name, key.1.domain(), key.0.domain());
    let stanza = state.alone(&key.1.to_jid(), &key.0.to_jid(), thread);
    let bytes = Bytes::from(stanza.print(NS_SERVER));
    let parcel = Parcel { bytes, passage: Passage::Answer, transit: None, lane: Lane::of(key) };
    turn.step(Step::Pass { hop, parcel });
}

fn record_id(dialog: &Dialog) -> RecordId {
    RecordId(format!("chat {}", dialog.local_tag))
}
