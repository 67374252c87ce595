//! SIP transactions over reliable transports (RFC 3261 §17, RFC 4320): what we owe an answer, and whose answer we await.

use super::{Deadline, Passage, Step, Turn};
use crate::gate::Path;
use crate::gate::lane::Lane;
use crate::gate::limits;
use crate::gate::partner::LinkId;
use crate::gate::route::HopKey;
use crate::gate::time::Time;
use crate::wire::sip::compose::Response;
use crate::wire::sip::{Message, Method};
use bytes::Bytes;
use std::collections::BTreeMap;

/// How every branch of ours begins: the cookie and our mark, by which a request that comes back is known (RFC 5393).
pub const OUR_BRANCH: &str = "z9hG4bKfg";

/// Names a request we owe a final answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServerId(pub u64);

/// Requests we owe an answer that is not given at once.
#[derive(Debug, Default)]
pub struct Servers {
    next: u64,
    open: BTreeMap<ServerId, Server>,
    /// Matches retransmissions and CANCEL (RFC 3261 §17.2.3).
    keys: BTreeMap<ServerKey, ServerId>,
}

/// What a request is matched by: the link, the top Via's branch and sent-by, the method.
pub type ServerKey = (LinkId, String, String);

#[derive(Debug)]
struct Server {
    link: LinkId,
    key: ServerKey,
    request: Message,
    to_tag: String,
}

/// Requests of ours that await an answer.
#[derive(Debug, Default)]
pub struct Clients {
    open: BTreeMap<String, Client>,
}

#[derive(Debug)]
struct Client {
    method: Method,
    purpose: Purpose,
    link: Option<LinkId>,
}

/// For whom a request of ours was sent.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Purpose {
    /// A NOTIFY of a watch's dialog, by the dialog's local tag.
    Notify(super::watch::WatchKey, String),
    /// A SUBSCRIBE of a contact's dialog, by the dialog's local tag.
    Subscribe(super::contact::ContactKey, String),
    /// The one NOTIFY of a fetch.
    FetchNotify,
    /// A page-mode MESSAGE, by its destination.
    Page(super::page::PageKey),
    /// A MESSAGE inside an IM session, by the dialog's local tag.
    Line(super::chat::ChatKey, String),
    /// What says inside an IM session that somebody types, by the dialog's local tag.
    Typing(super::chat::ChatKey, String),
    /// Whether a SIP node is well.
    Health(String),
    /// A BYE: whatever the answer, the dialog is over (RFC 3261 §15.1.1).
    Bye,
}

/// A request of ours, ready to be sent.
#[derive(Debug)]
pub struct Sent {
    /// The branch of its Via.
    pub branch: String,
    /// Its method.
    pub method: Method,
    /// For whom.
    pub purpose: Purpose,
    /// The whole message.
    pub bytes: Bytes,
    /// For `transit_seconds`.
    pub transit: Option<(Time, Path)>,
    /// What it waits for.
    pub lane: Lane,
}

/// How a request of ours ended.
#[derive(Debug)]
pub enum Ended<'a> {
    /// A final response.
    Answered(u16, &'a Message),
    /// Timer F, on a link that was there.
    TimedOut,
    /// Never written: the hop could not be reached.
    Unreachable(crate::gate::reject::Reject),
    /// Written on a link that ended before the answer: nobody can know.
    LinkDied,
}

impl Servers {
    /// Takes on a request whose answer comes later. Its 100 and its last moment are armed (RFC 4320 §4).
    pub fn open(&mut self, turn: &mut Turn<'_>, link: LinkId, request: &Message) -> ServerId {
        let id = ServerId(self.next);
        self.next += 1;
        let key = server_key(link, request);
        let server = Server { link, key: key.clone(), request: detached(request), to_tag: turn.token() };
        self.open.insert(id, server);
        self.keys.insert(key, id);
        turn.deadlines.set(Deadline::Trying(id), turn.now + limits::TRYING_AFTER);
        turn.deadlines.set(Deadline::Settle(id), turn.now + limits::SETTLE_WITHIN);
        id
    }

    /// Whether this very request is already being worked on.
    pub fn is_repeated(&self, link: LinkId, request: &Message) -> bool {
        !self.keys.is_empty() && self.keys.contains_key(&server_key(link, request))
    }

    /// All that are open.
    pub fn open_ids(&self) -> Vec<ServerId> {
        self.open.keys().copied().collect()
    }

    /// Drops one that was answered in another way.
    pub fn forget(&mut self, turn: &mut Turn<'_>, id: ServerId) {
        self.take(turn, id);
    }

    /// How many are open.
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether none is open.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Gives the final answer; nothing if it was given before or the link is gone.
    pub fn answer(&mut self, turn: &mut Turn<'_>, id: ServerId, status: u16, headers: &[(&'static str, String)]) {
        let Some(server) = self.take(turn, id) else { return };
        let bytes = Response {
            request: &server.request,
            status,
            reason: None,
            to_tag: Some(&server.to_tag),
            record_route: false,
            headers,
            body: None,
        }
        .print();
        turn.step(Step::Write { link: server.link, bytes, lane: Lane::Free });
    }

    /// RFC 4320 §4.1: 100 to a request that takes long.
    pub fn trying(&self, turn: &mut Turn<'_>, id: ServerId) {
        let Some(server) = self.open.get(&id) else { return };
        let bytes = Response {
            request: &server.request,
            status: 100,
            reason: None,
            to_tag: None,
            record_route: false,
            headers: &[],
            body: None,
        }
        .print();
        turn.step(Step::Write { link: server.link, bytes, lane: Lane::Free });
    }

    /// The link is gone: its requests can be answered no more, their senders learn it by the same cut.
    pub fn link_closed(&mut self, turn: &mut Turn<'_>, link: LinkId) {
        let gone: Vec<ServerId> = self.open.iter().filter(|(_, s)| s.link == link).map(|(id, _)| *id).collect();
        for id in gone {
            self.take(turn, id);
        }
    }

    fn take(&mut self, turn: &mut Turn<'_>, id: ServerId) -> Option<Server> {
        let server = self.open.remove(&id)?;
        self.keys.remove(&server.key);
        turn.deadlines.cancel(&Deadline::Trying(id));
        turn.deadlines.cancel(&Deadline::Settle(id));
        Some(server)
    }
}

impl Clients {
    /// Sends a request; Timer F runs from now (RFC 3261 §17.1.2.2), through connecting too.
    pub fn send(&mut self, turn: &mut Turn<'_>, hop: HopKey, request: Sent) {
        let Sent { branch, method, purpose, bytes, transit, lane } = request;
        turn.deadlines.set(Deadline::TimerF(branch.clone()), turn.now + limits::TIMER_F);
        self.open.insert(branch.clone(), Client { method, purpose, link: None });
        let parcel = super::Parcel { bytes, passage: Passage::Request(branch), transit, lane };
        turn.step(Step::Pass { hop, parcel });
    }

    /// The request is being written on this link: its answer comes there or nowhere. `false`: it has ended already.
    pub fn written(&mut self, branch: &str, link: LinkId) -> bool {
        let Some(client) = self.open.get_mut(branch) else { return false };
        client.link = Some(link);
        true
    }

    /// Whose answer this is. A final one ends the transaction; a provisional one, or one that nobody awaits on this link, is `None`.
    pub fn answered(&mut self, turn: &mut Turn<'_>, link: LinkId, response: &Message, status: u16) -> Option<Purpose> {
        let branch = response.branch()?;
        let client = self.open.get(branch)?;
        let (_, method) = response.cseq()?;
        if client.link != Some(link) || client.method != method || status < 200 {
            return None;
        }
        let branch = branch.to_owned();
        self.end(turn, &branch)
    }

    /// Ends a transaction without an answer.
    pub fn end(&mut self, turn: &mut Turn<'_>, branch: &str) -> Option<Purpose> {
        turn.deadlines.cancel(&Deadline::TimerF(branch.to_owned()));
        self.open.remove(branch).map(|client| client.purpose)
    }

    /// Branches written on a link.
    pub fn on_link(&self, link: LinkId) -> Vec<String> {
        self.open.iter().filter(|(_, c)| c.link == Some(link)).map(|(branch, _)| branch.clone()).collect()
    }

    /// How many are open.
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether none is open.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Whether one is open that is not about presence.
    pub fn any_but_presence(&self) -> bool {
        let is_presence = |purpose: &Purpose| {
            matches!(purpose, Purpose::Notify(..) | Purpose::Subscribe(..) | Purpose::FetchNotify | Purpose::Health(_))
        };
        self.open.values().any(|client| !is_presence(&client.purpose))
    }
}

fn server_key(link: LinkId, request: &Message) -> ServerKey {
    // RFC 3261 §17.2.3: branch and sent-by of the top Via; without the cookie (RFC 2543) the whole row, Call-ID and CSeq.
    let via = request.header(crate::wire::sip::header::Name::Via).unwrap_or_default();
    let (number, method) = request.cseq().map_or((0, String::new()), |(n, m)| (n, m.to_string()));
    let tail = format!("{} {number} {method}", request.call_id().unwrap_or_default());
    (link, via.to_owned(), tail)
}

/// A copy of the head alone: nothing that outlives the input may pin the read buffer.
fn detached(request: &Message) -> Message {
    let whole = request.bytes();
    let head = whole.len().saturating_sub(request.body().len());
    Message::parse(Bytes::copy_from_slice(whole.get(..head).unwrap_or_default())).unwrap_or_else(|_| request.clone())
}
