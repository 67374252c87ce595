//! What goes on between two ends: transactions, dialogs, subscriptions, page-mode messages, and how each of them ends.
//!
//! Each part keeps its own table and says what it wants done as [`Step`]s; it sees neither links nor sockets.

pub mod chat;
pub mod contact;
pub mod crossing;
pub mod deadlines;
pub mod dialog;
pub mod fetch;
pub mod outcome;
pub mod page;
pub mod relay;
pub mod rounds;
pub mod table;
pub mod talks;
pub mod transaction;
pub mod watch;

use crate::gate::Path;
use crate::gate::event::{Decision, Event};
use crate::gate::lane::Lane;
use crate::gate::partner::{Action, LinkId, Protocol, Side};
use crate::gate::record::{Record, RecordId};
use crate::gate::reject::{DecisionId, Reject};
use crate::gate::route::HopKey;
use crate::gate::settings::Settings;
use crate::gate::time::Time;
use crate::gate::writing::Writing;
use crate::wire::address::Domain;
use bytes::Bytes;
use deadlines::Deadlines;
use rand::RngExt;
use rand::rngs::StdRng;
use std::collections::VecDeque;
use std::net::SocketAddr;

/// Everything that goes on.
#[derive(Debug, Default)]
pub struct Sessions {
    /// Requests we owe an answer.
    pub servers: transaction::Servers,
    /// Requests whose answer we await.
    pub clients: transaction::Clients,
    /// SIP watchers of XMPP presentities.
    pub watches: watch::Watches,
    /// XMPP watchers of SIP presentities.
    pub contacts: contact::Contacts,
    /// SIP watchers who ask once.
    pub fetches: fetch::Fetches,
    /// Messages to SIP.
    pub pages: page::Pages,
    /// IM sessions with SIP users.
    pub chats: chat::Chats,
    /// Requests that stay SIP.
    pub relays: relay::Relays,
    /// Messages to XMPP.
    pub barriers: outcome::Barriers,
    /// Stanzas that stay XMPP.
    pub crossings: crossing::Crossings,
    /// Conversations that stay XMPP and one side alone may begin.
    pub talks: talks::Talks,
}

impl Sessions {
    /// IM sessions, and what they work with.
    pub fn chats(&mut self) -> (&mut chat::Chats, chat::Beside<'_>) {
        let Self { chats, clients, pages, barriers, .. } = self;
        (chats, chat::Beside { clients, pages, barriers })
    }
}

/// Who asked whom for what: the inputs of a decision, as the log and the audit show them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Who, as claimed.
    pub from: String,
    /// Whom.
    pub to: String,
    /// What.
    pub action: Action,
    /// Where the asker is.
    pub side: Side,
    /// The asker's protocol.
    pub protocol: Protocol,
    /// The partner entry's label.
    pub partner: String,
    /// The link's other end.
    pub peer: Option<SocketAddr>,
}

/// What a part of the session wants done; the gate turns it into outputs.
#[derive(Debug)]
pub enum Step {
    /// Write on a link that is there: a response, on the connection of its request (RFC 3261 §18.2.2). Behind what the same turn keeps.
    Write {
        /// The link.
        link: LinkId,
        /// The message.
        bytes: Bytes,
        /// What it waits for beside that.
        lane: Lane,
    },
    /// Hand on through a hop, which connects first if need be.
    Pass {
        /// The hop.
        hop: HopKey,
        /// What, and who is told if it can't be.
        parcel: Parcel,
    },
    /// Remember.
    Keep {
        /// Whose sends wait until it is committed.
        lane: Lane,
        /// What.
        record: Record,
    },
    /// No longer.
    Forget {
        /// What waits for it.
        lane: Lane,
        /// Which.
        id: RecordId,
    },
    /// Tell the operator.
    Event(Event),
}

/// Something to be written on a hop's link.
#[derive(Debug)]
pub struct Parcel {
    /// One message or stanza.
    pub bytes: Bytes,
    /// Who is told what became of it.
    pub passage: Passage,
    /// For `transit_seconds`.
    pub transit: Option<(Time, Path)>,
    /// What it waits for.
    pub lane: Lane,
}

/// Who is told when a parcel was written, or could not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Passage {
    /// A SIP request of ours, by its branch.
    Request(String),
    /// A request that is relayed.
    Relayed(relay::RelayId),
    /// A message whose outcome a ping barrier or a receipt settles: its course and number.
    Message(outcome::CourseId, u64),
    /// The barrier's ping.
    Ping(outcome::CourseId),
    /// A stanza that stays XMPP and is settled when it is written.
    Crossing(Box<crossing::Envelope>),
    /// An error that is owed for a message that stays XMPP.
    Bounce(u64),
    /// Presence of a watch: asked again later.
    Watch(watch::WatchKey),
    /// Presence of a contact to its watcher: told again later.
    Contact(contact::ContactKey),
    /// Presence of a fetch.
    Fetch(u64),
    /// Nobody: an answer to the inside; if the stream is gone, so is its question.
    Answer,
}

/// What a deadline is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Deadline {
    /// RFC 4320 §4.1: send 100.
    Trying(transaction::ServerId),
    /// RFC 4320 §4.2: answer now.
    Settle(transaction::ServerId),
    /// RFC 3261 §17.1.2.2 Timer F, by branch.
    TimerF(String),
    /// A relayed INVITE has waited long enough for what comes next.
    Relayed(relay::RelayId),
    /// A SIP node is to be asked whether it is well.
    Health(String),
    /// A connection of ours that another has taken the place of may have nothing under way any more.
    Leave(LinkId),
    /// A ping without answer.
    Ping(outcome::CourseId),
    /// A server has waited long enough for an acknowledgement.
    Ack(LinkId),
    /// An error for a message that stays XMPP is said again.
    Crossing(u64),
    /// A fetch has waited long enough.
    Fetch(u64),
    /// Something of an IM session is due: its 200 again, its end.
    Chat(chat::ChatKey),
    /// RFC 3261 §17.1.1.2 Timer B, the end of ringing, or of late answers, by branch.
    Invite(String),
    /// IM sessions are being decided again after a reload, in slices.
    ChatSweep,
    /// An error is handed over again.
    Bounce(RecordId),
    /// The next slice of what is done to all watches or contacts.
    Round,
    /// Draining has taken long enough.
    Drain,
    /// A component stream that is down is to be connected again.
    Component(HopKey),
}

/// One turn of the gate: what a part may read, and where its wishes go.
#[derive(Debug)]
pub struct Turn<'a> {
    /// Now.
    pub now: Time,
    /// The settings in force.
    pub settings: &'a Settings,
    /// Whether what is kept can be written now.
    pub writing: &'a Writing,
    /// Seeded; for tags, ids, branches.
    pub rng: &'a mut StdRng,
    /// Wishes, in order.
    pub steps: &'a mut VecDeque<Step>,
    /// Deadlines.
    pub deadlines: &'a mut Deadlines<Deadline>,
}

impl Turn<'_> {
    /// An unguessable token of 96 bits, hex: for ids, tags, Call-IDs. Names no host.
    pub fn token(&mut self) -> String {
        let (a, b): (u64, u32) = (self.rng.random(), self.rng.random());
        format!("{a:016x}{b:08x}")
    }

    /// A branch of ours (RFC 3261 §8.1.1.7).
    pub fn branch(&mut self) -> String {
        format!("{}{}", transaction::OUR_BRANCH, self.token())
    }

    /// A refusal gets its ID, and is told to the operator.
    pub fn refused(&mut self, reject: &Reject, facts: &Facts) -> DecisionId {
        self.refused_as(None, reject, facts)
    }

    /// A refusal whose ID the peer may have been told already.
    pub fn refused_as(&mut self, id: Option<DecisionId>, reject: &Reject, facts: &Facts) -> DecisionId {
        let id = id.unwrap_or_else(|| DecisionId::from_bits(self.rng.random()));
        self.step(Step::Event(Event::Decided(Decision {
            id,
            refused: Some(reject.reason),
            from: facts.from.clone(),
            to: facts.to.clone(),
            action: facts.action,
            side: facts.side,
            protocol: facts.protocol,
            partner: facts.partner.clone(),
            peer: facts.peer,
            because: reject.detail.clone(),
            policy_version: self.settings.policy.version,
        })));
        id
    }

    /// Adds a step.
    pub fn step(&mut self, step: Step) {
        self.steps.push_back(step);
    }

    /// A time between `shortest` and twice that, so that many do not come at once.
    pub fn jittered(&mut self, shortest: std::time::Duration) -> Time {
        let nanos = u64::try_from(shortest.as_nanos()).unwrap_or(u64::MAX / 4).max(1);
        self.now + shortest + std::time::Duration::from_nanos(self.rng.random_range(0..nanos))
    }
}

/// The hop towards a partner for what a local domain sends.
pub fn partner_hop(settings: &Settings, partner: &Domain, local: &Domain) -> HopKey {
    let (domain, next_hop) = settings.way_to(partner, Protocol::Sip).unwrap_or_else(|| (partner.clone(), None));
    HopKey::Partner { domain, next_hop, identity: settings.identity_for(local) }
}
