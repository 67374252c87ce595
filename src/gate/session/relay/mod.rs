//! Requests that stay SIP: the response context of a stateful proxy (RFC 3261 §16.2, §17 over reliable transports, RFC 4320, RFC 6026).
//!
//! What is kept of each is the request as received, where it went and how far it is. Deciding and rewriting are the caller's; here is who
//! is still owed an answer, and until when.

pub mod dialogs;

use super::{Deadline, Parcel, Passage, Step, Turn};
use crate::gate::Path;
use crate::gate::border::topology::Dialog;
use crate::gate::lane::Lane;
use crate::gate::limits;
use crate::gate::partner::{Action, LinkId, Profile, Side};
use crate::gate::route::HopKey;
use crate::gate::session::table::digest;
use crate::gate::time::Time;
use crate::wire::address::{Address, Domain};
use crate::wire::sip::{Message, Method};
use bytes::Bytes;
use smol_str::SmolStr;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// How a branch of a relayed request begins. Behind it: what the request is looped by, and whose answer it brings, 16 hex digits each.
pub const RELAYED_BRANCH: &str = "z9hG4bKfgr";

/// Names one attempt to hand a request on. Unguessable: an answer must bring it back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RelayId(pub u64);

/// Between whom, and as what: what was decided of a request that is relayed.
#[derive(Debug, Clone)]
pub struct Way {
    /// Where the sender is.
    pub side: Side,
    /// Who asks.
    pub from: Address,
    /// Whom.
    pub to: Address,
    /// The address inside that the masks of this request's dialog are bound to.
    pub local: Address,
    /// The domain outside.
    pub partner: Domain,
    /// What the request does.
    pub action: Action,
    /// The partner entry's label.
    pub label: SmolStr,
    /// The partner's dialect.
    pub profile: Profile,
    /// The node inside.
    pub node: SmolStr,
    /// Our identity outside.
    pub identity: usize,
    /// What our Record-Route says of the dialog.
    pub dialog: Dialog,
}

/// Where and when a request came in, and what it is matched by.
#[derive(Debug, Clone, Copy)]
pub struct Came {
    /// On which link.
    pub link: LinkId,
    /// When its last byte was read.
    pub at: Time,
    key: u64,
}

impl Came {
    /// Of a request that was just received.
    pub fn of(link: LinkId, at: Time, request: &Message) -> Self {
        Self { link, at, key: request.method().map_or(0, |method| server_key(link, request, method)) }
    }
}

/// A request on its way.
#[derive(Debug)]
pub struct Context {
    /// Where and when it came in.
    pub came: Came,
    /// As it came.
    pub request: Message,
    /// What was decided.
    pub way: Way,
    /// Where it went.
    pub hop: HopKey,
    /// Nodes still to be tried.
    pub others: Vec<SmolStr>,
    /// How often it was handed on before.
    pub tries: u8,
    /// As it was sent: of an INVITE for CANCEL and ACK; COMPAT(aol): for its Call-ID.
    pub sent: Option<Message>,
    /// How far it is.
    pub state: State,
    /// The hop has said how it ends.
    pub is_answered: bool,
    written: Option<LinkId>,
}

/// How far a relayed request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// No final answer yet. Of an INVITE: whether the far side has said anything, and whether its sender wants it cancelled.
    Proceeding {
        /// A provisional response came: it may be cancelled (RFC 3261 §9.1).
        provisional: bool,
        /// Its sender, or Timer C, wants it cancelled.
        cancelled: bool,
    },
    /// An INVITE's final response other than 2xx went back; its ACK is awaited (RFC 3261 §17.2.1).
    Completed,
    /// An INVITE's 2xx went back; further ones of its forks follow it (RFC 6026 §7.1).
    Accepted,
}

/// A request ready to be handed on.
#[derive(Debug)]
pub struct Handed {
    /// Where and when it came in.
    pub came: Came,
    /// As it came.
    pub request: Message,
    /// What was decided.
    pub way: Way,
    /// Where to.
    pub hop: HopKey,
    /// Nodes to be tried after that.
    pub others: Vec<SmolStr>,
    /// How often it was handed on before.
    pub tries: u8,
    /// As it is to be sent.
    pub bytes: Bytes,
}

impl Context {
    /// Where it was written.
    pub fn written(&self) -> Option<LinkId> {
        self.written
    }
}

/// All that is relayed.
#[derive(Debug, Default)]
pub struct Relays {
    /// Boxed, so that what is moved when one comes or goes is little.
    contexts: BTreeMap<RelayId, Box<Context>>,
    servers: BTreeMap<u64, RelayId>,
    /// RFC 4320 §4: when each is due for its 100, and after it for its last moment. In order.
    trying: VecDeque<(Time, RelayId)>,
    settling: VecDeque<(Time, RelayId)>,
    waiting: BTreeMap<HopKey, usize>,
    /// Of each partner that sends.
    of_partner: BTreeMap<SmolStr, Sent>,
    /// INVITEs that we refused ourselves, until when each may be ACKed; and by when.
    refused: BTreeSet<u64>,
    refused_until: VecDeque<(Time, u64)>,
    /// Dialogs that were seen.
    pub dialogs: dialogs::Dialogs,
}

/// How many requests of a partner are there.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Sent {
    /// Without a final answer.
    open: usize,
    /// All that are remembered.
    all: usize,
    /// Those of the open that would begin a subscription.
    subscribing: usize,
}

/// What has come due of requests other than INVITE.
#[derive(Debug, PartialEq, Eq)]
pub enum Due {
    /// It gets its 100 (RFC 4320 §4.1).
    Trying(RelayId),
    /// It must be answered now (RFC 4320 §4.2).
    Settle(RelayId),
}

impl Relays {
    /// Whether this very request is on its way already.
    pub fn is_repeated(&self, came: Came) -> bool {
        self.servers.contains_key(&came.key)
    }

    /// The INVITE that a CANCEL or ACK belongs to: same top Via, Call-ID and CSeq number (RFC 3261 §9.2, §17.2.3).
    pub fn invite_of(&self, link: LinkId, request: &Message) -> Option<RelayId> {
        self.servers.get(&server_key(link, request, &Method::Invite)).copied()
    }

    /// We refused this INVITE: its ACK is ours, and nobody's behind us (RFC 3261 §17.2.1, for as long as Timer H).
    pub fn refused(&mut self, now: Time, link: LinkId, invite: &Message) {
        let key = server_key(link, invite, &Method::Invite);
        if self.refused.len() < limits::RELAYED && self.refused.insert(key) {
            self.refused_until.push_back((now + limits::TIMER_B, key));
        }
    }

    /// Whether an ACK is for an INVITE that we refused.
    pub fn is_of_refused(&self, link: LinkId, ack: &Message) -> bool {
        !self.refused.is_empty() && self.refused.contains(&server_key(link, ack, &Method::Invite))
    }

    /// A context.
    pub fn get(&self, id: RelayId) -> Option<&Context> {
        self.contexts.get(&id).map(|context| &**context)
    }

    /// A context, and the dialogs it may have changed.
    pub fn with_dialogs(&mut self, id: RelayId) -> Option<(&Context, &mut dialogs::Dialogs)> {
        Some((self.contexts.get(&id)?, &mut self.dialogs))
    }

    /// A context, to change.
    pub fn get_mut(&mut self, id: RelayId) -> Option<&mut Context> {
        self.contexts.get_mut(&id).map(|context| &mut **context)
    }

    /// Whether there is room for one more towards this hop.
    pub fn has_room(&self, hop: &HopKey) -> bool {
        self.contexts.len() < limits::RELAYED
            && self.waiting.get(hop).is_none_or(|waiting| *waiting < limits::RELAYED_PER_HOP)
    }

    /// Whether a partner may have one more under way: none fills a node's queue, or the table, for all others.
    pub fn has_room_for(&self, label: &str) -> bool {
        let Sent { open, all, .. } = self.of_partner.get(label).copied().unwrap_or_default();
        open < limits::RELAYED_PER_PARTNER && all < limits::RELAYED_KEPT_PER_PARTNER
    }

    /// A partner's subscriptions, live or asked for.
    pub fn subscriptions(&self, label: &str) -> u64 {
        let asked = self.of_partner.get(label).map_or(0, |sent| sent.subscribing as u64);
        asked + self.dialogs.subscriptions(label)
    }

    /// Hands a request on; its answer comes to the context that is made. `id` is in the branch of `bytes`.
    pub fn hand(&mut self, turn: &mut Turn<'_>, id: RelayId, handed: Handed) {
        let Handed { came, request, way, hop, others, tries, bytes } = handed;
        let is_invite = request.method() == Some(&Method::Invite);
        let parcel = Parcel {
            bytes: bytes.clone(),
            passage: Passage::Relayed(id),
            transit: Some((came.at, Path::SipSip)),
            lane: Lane::Free,
        };
        let sent = if is_invite || way.profile == Profile::Aol { Message::parse(detached(&bytes)).ok() } else { None };
        if is_invite {
            // RFC 3261 §17.1.1.2, Timer B.
            turn.deadlines.set(Deadline::Relayed(id), turn.now + limits::TIMER_B);
        } else {
            // RFC 4320 §4: its sender has waited since it sent it, however often it was handed on.
            let since = if tries == 0 { turn.now } else { came.at };
            match since + limits::TRYING_AFTER {
                trying if trying > turn.now => in_order(&mut self.trying, (trying, id)),
                _ => in_order(&mut self.settling, (since + limits::SETTLE_WITHIN, id)),
            }
        }
        match self.waiting.get_mut(&hop) {
            Some(waiting) => *waiting += 1,
            None => drop(self.waiting.insert(hop.clone(), 1)),
        }
        if way.side == Side::Outside {
            let subscribing = usize::from(begins_subscription(&request));
            match self.of_partner.get_mut(&way.label) {
                Some(sent) => {
                    *sent =
                        Sent { open: sent.open + 1, all: sent.all + 1, subscribing: sent.subscribing + subscribing };
                }
                None => drop(self.of_partner.insert(way.label.clone(), Sent { open: 1, all: 1, subscribing })),
            }
        }
        let state = State::Proceeding { provisional: false, cancelled: false };
        let (hop_of, is_answered, written) = (hop.clone(), false, None);
        let context = Context { came, request, way, hop: hop_of, others, tries, sent, state, is_answered, written };
        self.contexts.insert(id, Box::new(context));
        self.servers.insert(came.key, id);
        turn.step(Step::Pass { hop, parcel });
    }

    /// It is being written on this link: its answer comes there or nowhere. `false`: it has ended already.
    pub fn written(&mut self, id: RelayId, link: LinkId) -> bool {
        let Some(context) = self.contexts.get_mut(&id) else { return false };
        // Cancelled, and so answered, while it waited for the connection.
        if !matches!(context.state, State::Proceeding { cancelled: false, .. }) {
            return false;
        }
        context.written = Some(link);
        true
    }

    /// Whether it was written.
    pub fn is_written(&self, id: RelayId) -> bool {
        self.contexts.get(&id).is_some_and(|context| context.written.is_some())
    }

    /// The context that a response belongs to: by our branch, on the link on which the request went, with its method (RFC 3261 §17.1.3).
    pub fn answered(&self, link: LinkId, response: &Message) -> Option<RelayId> {
        let id = RelayId(u64::from_str_radix(response.branch()?.strip_prefix(RELAYED_BRANCH)?.get(16..32)?, 16).ok()?);
        let context = self.contexts.get(&id)?;
        let is_its = context.written == Some(link) && response.method() == context.request.method();
        is_its.then_some(id)
    }

    /// It has its final answer: nothing more is awaited of the hop. An INVITE stays for what follows it.
    pub fn settled(&mut self, turn: &mut Turn<'_>, id: RelayId, status: u16) {
        let Some(context) = self.contexts.get_mut(&id) else { return };
        let is_invite = context.request.method() == Some(&Method::Invite);
        if !is_invite {
            drop(self.take(turn, id));
            return;
        }
        let was_open = matches!(context.state, State::Proceeding { .. });
        // RFC 6026 §7.1: Timer L and M; RFC 3261 §17.2.1: Timer H. All 64·T1.
        context.state = if status < 300 { State::Accepted } else { State::Completed };
        if was_open {
            turn.deadlines.set(Deadline::Relayed(id), turn.now + limits::TIMER_B);
            leave(&mut self.waiting, &context.hop);
            count_out(&mut self.of_partner, context, (1, 0));
        }
    }

    /// Its sender has acknowledged a refusal, and asks no more by this transaction. The hop, where it has not answered, may still say that
    /// somebody took the call (RFC 3261 §16.7 step 5): for as long as it `is_awaited`, the context stays.
    pub fn acknowledged(&mut self, turn: &mut Turn<'_>, id: RelayId, is_awaited: bool) {
        match self.contexts.get(&id) {
            Some(context) if is_awaited && !context.is_answered => {
                if let Entry::Occupied(entry) = self.servers.entry(context.came.key)
                    && *entry.get() == id
                {
                    entry.remove();
                }
            }
            _ => drop(self.take(turn, id)),
        }
    }

    /// Takes a context out.
    pub fn take(&mut self, turn: &mut Turn<'_>, id: RelayId) -> Option<Box<Context>> {
        let context = self.contexts.remove(&id)?;
        if let Entry::Occupied(entry) = self.servers.entry(context.came.key)
            && *entry.get() == id
        {
            entry.remove();
        }
        if context.request.method() == Some(&Method::Invite) {
            turn.deadlines.cancel(&Deadline::Relayed(id));
        }
        let is_open = matches!(context.state, State::Proceeding { .. });
        if is_open {
            leave(&mut self.waiting, &context.hop);
        }
        count_out(&mut self.of_partner, &context, (usize::from(is_open), 1));
        self.prune();
        Some(context)
    }

    /// Those that were written on a link and have no final answer.
    pub fn on_link(&self, link: LinkId) -> Vec<RelayId> {
        let open = |context: &Context| matches!(context.state, State::Proceeding { .. });
        self.contexts.iter().filter(|(_, c)| c.written == Some(link) && open(c)).map(|(id, _)| *id).collect()
    }

    /// INVITEs that came in on a link and have no final answer.
    pub fn invites_from(&self, link: LinkId) -> Vec<RelayId> {
        let is_ringing = |context: &Context| {
            matches!(context.state, State::Proceeding { .. }) && context.request.method() == Some(&Method::Invite)
        };
        self.contexts.iter().filter(|(_, c)| c.came.link == link && is_ringing(c)).map(|(id, _)| *id).collect()
    }

    /// All without a final answer.
    pub fn open(&self) -> Vec<RelayId> {
        let open = |context: &Context| matches!(context.state, State::Proceeding { .. });
        self.contexts.iter().filter(|(_, context)| open(context)).map(|(id, _)| *id).collect()
    }

    /// Whether every request has its final answer.
    pub fn is_settled(&self) -> bool {
        self.waiting.is_empty()
    }

    /// When [`due`](Self::due) has something.
    pub fn next_due(&self) -> Option<Time> {
        let dues = [self.trying.front(), self.settling.front()].into_iter().flatten().map(|(at, _)| *at);
        let refused = self.refused_until.front().map(|(at, _)| *at);
        dues.chain(refused).chain(self.dialogs.next_due()).min()
    }

    /// What is due now.
    pub fn due(&mut self, now: Time) -> Option<Due> {
        while let Some((_, key)) = self.refused_until.pop_front_if(|(at, _)| *at <= now) {
            self.refused.remove(&key);
        }
        if let Some((_, id)) = self.trying.pop_front_if(|(at, _)| *at <= now) {
            in_order(&mut self.settling, (now + (limits::SETTLE_WITHIN - limits::TRYING_AFTER), id));
            return Some(Due::Trying(id));
        }
        let (_, id) = self.settling.pop_front_if(|(at, _)| *at <= now)?;
        Some(Due::Settle(id))
    }

    /// Forgets the waits of what has ended, so that nothing wakes for them.
    fn prune(&mut self) {
        while self.trying.front().is_some_and(|(_, id)| !self.contexts.contains_key(id)) {
            self.trying.pop_front();
        }
        while self.settling.front().is_some_and(|(_, id)| !self.contexts.contains_key(id)) {
            self.settling.pop_front();
        }
    }
}

/// Whether this would be a subscription that is not there yet.
fn begins_subscription(request: &Message) -> bool {
    request.method() == Some(&Method::Subscribe) && request.to_tag().is_none()
}

fn count_out(of_partner: &mut BTreeMap<SmolStr, Sent>, context: &Context, (open, all): (usize, usize)) {
    let Context { way, request, .. } = context;
    if let (Side::Outside, Some(sent)) = (way.side, of_partner.get_mut(&way.label)) {
        let subscribing = if begins_subscription(request) { open } else { 0 };
        *sent = Sent {
            open: sent.open.saturating_sub(open),
            all: sent.all.saturating_sub(all),
            subscribing: sent.subscribing.saturating_sub(subscribing),
        };
        if *sent == Sent::default() {
            of_partner.remove(&way.label);
        }
    }
}

fn leave(waiting: &mut BTreeMap<HopKey, usize>, hop: &HopKey) {
    if let Some(left) = waiting.get_mut(hop) {
        *left -= 1;
        if *left == 0 {
            waiting.remove(hop);
        }
    }
}

/// All wait equally long, so its place is at the end, unless it was handed on before.
fn in_order(queue: &mut VecDeque<(Time, RelayId)>, wait: (Time, RelayId)) {
    match queue.back() {
        Some((last, _)) if *last > wait.0 => {
            let place = queue.partition_point(|(at, _)| *at <= wait.0);
            queue.insert(place, wait);
        }
        _ => queue.push_back(wait),
    }
}

/// A copy that pins no read buffer.
pub fn detached(bytes: &Bytes) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

/// What a request is matched by: the link, the top Via's branch and sent-by, Call-ID, CSeq number, the method (RFC 3261 §17.2.3). Without
/// the cookie (RFC 2543) the whole Via.
fn server_key(link: LinkId, request: &Message, method: &Method) -> u64 {
    let top = request.top_via_text().unwrap_or_default();
    let number = request.cseq_number().unwrap_or_default();
    let call_id = request.call_id().unwrap_or_default();
    match request.branch().filter(|branch| branch.starts_with("z9hG4bK")) {
        Some(branch) => {
            let sent_by = top.split_once(';').map_or(top, |(sent, _)| sent);
            digest(&[link.0, u64::from(number)], &[sent_by, branch, call_id, method.as_str()])
        }
        None => digest(&[link.0, u64::from(number)], &[top, call_id, method.as_str()]),
    }
}

/// What tells a loop from a spiral (RFC 5393 §4.2): what routing looks at.
pub fn loop_mark(uri: &str, request: &Message) -> u64 {
    // RFC 3261 §8.1.1.5: no number is as large as that which stands for none.
    let number = request.cseq_number().map_or(u64::MAX, u64::from);
    let (from, to) = (request.from_tag().unwrap_or_default(), request.to_tag().unwrap_or_default());
    digest(&[number], &[uri, from, to])
}

/// A branch for an attempt.
pub fn branch(mark: u64, id: RelayId) -> String {
    let mut branch = String::with_capacity(RELAYED_BRANCH.len() + 32);
    branch.push_str(RELAYED_BRANCH);
    for number in [mark, id.0] {
        branch.push_str(std::str::from_utf8(&hex(number)).unwrap_or_default());
    }
    branch
}

/// Sixteen digits.
fn hex(number: u64) -> [u8; 16] {
    let mut digits = [0; 16];
    for (place, digit) in digits.iter_mut().rev().enumerate() {
        *digit = b"0123456789abcdef"[(number >> (4 * place)) as usize & 15];
    }
    digits
}
