//! A SIP partner outside: a mutual-TLS listener as `lync.example`, and a connection of its own to the edge that it makes again whenever it
//! ends. It watches, is watched, sends and answers messages, opens and answers IM sessions, and complains of all that a partner's users would
//! notice after a restart of the edge: 481 to what the edge had acknowledged, `terminated`, NOTIFY in dialogs that nobody began, CSeq that does
//! not grow, subscriptions and sessions begun anew.

mod answers;
mod hears;
mod link;
mod says;

use super::book::Book;
use super::edge::Net;
use super::sip::{SDP, end};
use super::{Shown, User};
use bytes::{Bytes, BytesMut};
use fedgate::wire::sip::{Message, Method};
use link::{accept, dial, tls};
use says::head;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// The partner.
pub struct Partner {
    desk: Arc<Desk>,
}

struct Desk {
    state: Mutex<State>,
    /// To its own connection: the number of the request's transaction, if it has one, and the bytes.
    requests: mpsc::UnboundedSender<(Option<u64>, Bytes)>,
    book: Arc<Book>,
}

#[derive(Default)]
struct State {
    watches: Vec<Watch>,
    /// Subscriptions of the edge, by Call-ID, and the latest of each pair (watcher inside, watched outside).
    contacts: HashMap<Box<str>, Contact>,
    contact_of: BTreeMap<(u32, u32), Box<str>>,
    /// Pairs of which the edge no longer knew a dialog that it had known.
    denied: Vec<((u32, u32), String)>,
    chats: HashMap<Box<str>, Chat>,
    chat_of: BTreeMap<(u32, u32), Box<str>>,
    /// What its users show.
    shown: BTreeMap<u32, Shown>,
    /// Requests of ours without a final answer, by the number in their branch.
    open: HashMap<u64, Open>,
    branches: u64,
    /// Whether the program is ending all sessions.
    byes_expected: bool,
}

/// A request of ours.
struct Open {
    what: What,
    /// Under which start of the edge it was written; `None`: it still waits.
    written: Option<u32>,
}

#[derive(Clone)]
enum What {
    /// SUBSCRIBE of a watch; whether it ends it.
    Watch(usize, bool),
    /// NOTIFY of a contact, by Call-ID.
    Notify(Box<str>),
    /// A message, by number, and the session it was in.
    Message(u32, Option<Box<str>>),
    Invite(Box<str>),
    Bye(Box<str>),
}

/// The other end's requests in one dialog.
#[derive(Clone, Copy, Default)]
struct Heard {
    generation: u32,
    cseq: u32,
    branch: u64,
}

/// A subscription of a user outside (`w`) to one inside (`u`).
struct Watch {
    watcher: u32,
    presentity: u32,
    remote_tag: Option<Box<str>>,
    /// The edge's Contact.
    target: Option<Box<str>>,
    cseq: u32,
    heard: Heard,
    standing: Standing,
    /// The last that was told, and under which start of the edge; `None`: not known, or pending.
    told: Option<(u32, Shown)>,
    /// Whether it was ever active.
    was_active: bool,
    /// Under which start of the edge the last SUBSCRIBE got its 200.
    granted: u32,
    /// When the first was sent, and how long its 200 took.
    begun: Instant,
    granted_after: Option<Duration>,
}

/// How a subscription stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Asked for.
    Asking,
    /// Acknowledged with 2xx.
    Live,
    /// Its end is asked for.
    Leaving,
    /// Its end was acknowledged under this start of the edge.
    Ended(u32),
    /// Refused.
    Refused,
    /// A request got no answer: nobody outside can know.
    Unknown,
}

/// A subscription of a user inside (`x`) to one outside (`p`): the edge is the subscriber.
struct Contact {
    pair: (u32, u32),
    /// Our From and their To of requests inside it.
    local: Box<str>,
    remote: Box<str>,
    target: Box<str>,
    cseq: u32,
    heard: Heard,
    /// The edge has answered a NOTIFY in it by 200: it knows the dialog.
    confirmed: bool,
    ended: bool,
    /// The edge has ended it itself.
    left: bool,
}

/// An IM session of a user outside (`w` or `p`) and one inside.
struct Chat {
    pair: (u32, u32),
    outside: User,
    local: Box<str>,
    remote: Box<str>,
    target: Box<str>,
    /// Ours of the INVITE, if we sent it; then of each request.
    cseq: u32,
    heard: Heard,
    ours: bool,
    standing: Talk,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Talk {
    /// INVITE sent, or answered without ACK yet.
    Opening,
    /// Acknowledged: 2xx to ours, ACK to theirs.
    Open,
    /// One of the two has left.
    Leaving,
    /// Nobody can know.
    Unknown,
}

/// How a session stands, for who writes in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Session {
    /// There is none.
    None,
    /// Under way.
    Opening,
    /// There.
    Open,
}

/// Figures at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Subscriptions of users outside that were acknowledged and not ended.
    pub watches: usize,
    /// Those of the edge.
    pub contacts: usize,
    /// Open sessions.
    pub chats: usize,
    /// Requests without an answer.
    pub open: usize,
}

impl Partner {
    /// Listens, and keeps a connection to the edge.
    pub async fn start(net: Net, certs: &Path, book: Arc<Book>) -> Self {
        let (server, client) = tls(certs);
        let listener = TcpListener::bind(net.partner()).await.expect("the partner listens");
        let (requests, orders) = mpsc::unbounded_channel();
        let desk = Arc::new(Desk { state: Mutex::default(), requests, book });
        tokio::spawn(accept(Arc::clone(&desk), listener, TlsAcceptor::from(server)));
        tokio::spawn(dial(Arc::clone(&desk), net, TlsConnector::from(client), orders));
        Self { desk }
    }

    /// A user outside subscribes to one inside; gives the watch's number.
    pub fn watch(&self, watcher: u32, presentity: u32) -> usize {
        let mut state = self.desk.state();
        let at = state.watches.len();
        state.watches.push(Watch {
            watcher,
            presentity,
            remote_tag: None,
            target: None,
            cseq: 0,
            heard: Heard::default(),
            standing: Standing::Asking,
            told: None,
            was_active: false,
            granted: 0,
            begun: Instant::now(),
            granted_after: None,
        });
        self.desk.subscribe(&mut state, at, 3600);
        at
    }

    /// Refreshes a watch.
    pub fn refresh(&self, at: usize) {
        let mut state = self.desk.state();
        if state.watches[at].standing == Standing::Live {
            self.desk.subscribe(&mut state, at, 3600);
        }
    }

    /// Ends a watch.
    pub fn unwatch(&self, at: usize) {
        let mut state = self.desk.state();
        if state.watches[at].standing == Standing::Live {
            state.watches[at].standing = Standing::Leaving;
            self.desk.subscribe(&mut state, at, 0);
        }
    }

    /// All watches: number, watcher, presentity, how it stands, under which start it was granted last, what was told under which start.
    pub fn watches(&self) -> Vec<WatchSeen> {
        let state = self.desk.state();
        let seen = state.watches.iter().map(|watch| WatchSeen {
            watcher: watch.watcher,
            presentity: watch.presentity,
            standing: watch.standing,
            granted: watch.granted,
            told: watch.told,
        });
        seen.collect()
    }

    /// How many watches are acknowledged, and how many of these were told under this start what `wanted` says.
    pub fn right(&self, generation: u32, wanted: impl Fn(u32) -> Shown) -> (usize, usize) {
        let state = self.desk.state();
        let mut counts = (0, 0);
        for watch in state.watches.iter().filter(|watch| watch.standing == Standing::Live) {
            counts.0 += 1;
            counts.1 += usize::from(watch.told == Some((generation, wanted(watch.presentity))));
        }
        counts
    }

    /// How long the 200 to the first SUBSCRIBE of each watch took, from this one on.
    pub fn granted_after(&self, from: usize) -> Vec<Duration> {
        self.desk.state().watches.iter().skip(from).filter_map(|watch| watch.granted_after).collect()
    }

    /// How many requests have no answer.
    pub fn unanswered(&self) -> usize {
        self.desk.state().open.len()
    }

    /// Pairs (watcher inside, watched outside) that have a dialog which the edge knows.
    pub fn contacts(&self) -> Vec<(u32, u32)> {
        let state = self.desk.state();
        let live = state.contacts.values().filter(|contact| contact.confirmed && !contact.ended);
        live.map(|contact| contact.pair).collect()
    }

    /// Pairs of which the edge no longer knew a dialog that it had known, and what it said: only who has left may be among them.
    pub fn denied(&self) -> Vec<((u32, u32), String)> {
        self.desk.state().denied.clone()
    }

    /// A user outside shows something: every watcher is told.
    pub fn show(&self, presentity: u32, shown: Shown) {
        let mut state = self.desk.state();
        state.shown.insert(presentity, shown);
        let of: Vec<Box<str>> = state
            .contacts
            .iter()
            .filter(|(_, contact)| contact.pair.1 == presentity && !contact.ended)
            .map(|(call_id, _)| call_id.clone())
            .collect();
        for call_id in of {
            self.desk.notify(&mut state, &call_id, false);
        }
    }

    /// What a user outside shows.
    pub fn shown(&self, presentity: u32) -> Shown {
        self.desk.state().shown.get(&presentity).copied().unwrap_or_default()
    }

    /// Sends a message outside of any session; gives its number.
    pub fn message(&self, from: u32, to: u32, filling: &str) -> u32 {
        let number = self.desk.book.pages().begin_to_xmpp();
        let mut state = self.desk.state();
        let branch = state.open(What::Message(number, None));
        let mut out = BytesMut::with_capacity(1024);
        let _ = write!(out, "MESSAGE sip:u{to}@corp.example SIP/2.0\r\n");
        head(&mut out, branch);
        let _ = write!(
            out,
            "From: <sip:w{from}@lync.example>;tag=m{number}\r\nTo: <sip:u{to}@corp.example>\r\n\
             Call-ID: m{number}@lync.example\r\nCSeq: 1 MESSAGE\r\n"
        );
        end(&mut out, Some(("text/plain; charset=UTF-8", &format!("d{number} {filling}"))));
        self.desk.send(Some(branch), out);
        number
    }

    /// How a session of these two stands.
    pub fn session(&self, outside: u32, inside: u32) -> Session {
        let state = self.desk.state();
        let chat = state.chat_of.get(&(outside, inside)).and_then(|call_id| state.chats.get(call_id));
        match chat.map(|chat| chat.standing) {
            Some(Talk::Open) => Session::Open,
            Some(Talk::Opening) => Session::Opening,
            _ => Session::None,
        }
    }

    /// A user outside opens a session.
    pub fn invite(&self, outside: u32, inside: u32) {
        let mut state = self.desk.state();
        let branch = state.branches + 1;
        let call_id: Box<str> = format!("c{branch}@lync.example").into();
        let branch = state.open(What::Invite(call_id.clone()));
        let local = format!("<sip:w{outside}@lync.example>;tag=c{branch}");
        let remote = format!("<sip:u{inside}@corp.example>");
        let mut out = BytesMut::with_capacity(1024);
        let _ = write!(out, "INVITE sip:u{inside}@corp.example SIP/2.0\r\n");
        head(&mut out, branch);
        let _ = write!(
            out,
            "From: {local}\r\nTo: {remote}\r\nCall-ID: {call_id}\r\nCSeq: 1 INVITE\r\n\
             Contact: <sip:w{outside}@lync.example>\r\n"
        );
        end(&mut out, Some(("application/sdp", SDP)));
        let chat = Chat {
            pair: (outside, inside),
            outside: (b'w', outside),
            local: local.into(),
            remote: remote.into(),
            target: "".into(),
            cseq: 1,
            heard: Heard::default(),
            ours: true,
            standing: Talk::Opening,
        };
        state.chats.insert(call_id.clone(), chat);
        state.chat_of.insert((outside, inside), call_id);
        self.desk.send(Some(branch), out);
    }

    /// A user outside writes in a session; gives the message's number, `None` if there is no open session.
    pub fn write(&self, outside: u32, inside: u32) -> Option<u32> {
        let mut state = self.desk.state();
        let call_id = state.chat_of.get(&(outside, inside))?.clone();
        if state.chats.get(&call_id)?.standing != Talk::Open {
            return None;
        }
        let number = self.desk.book.pages().begin_to_xmpp();
        let body = format!("d{number} in session");
        let kind = "text/plain; charset=UTF-8";
        self.desk.in_chat(
            &mut state,
            &call_id,
            Method::Message,
            Some(What::Message(number, Some(call_id.clone()))),
            Some((kind, &body)),
        );
        Some(number)
    }

    /// A user outside leaves a session.
    pub fn leave(&self, outside: u32, inside: u32) {
        let mut state = self.desk.state();
        let Some(call_id) = state.chat_of.get(&(outside, inside)).cloned() else { return };
        if let Some(chat) = state.chats.get_mut(&call_id).filter(|chat| chat.standing == Talk::Open) {
            chat.standing = Talk::Leaving;
            self.desk.in_chat(&mut state, &call_id, Method::Bye, Some(What::Bye(call_id.clone())), None);
        }
    }

    /// The user inside is leaving a session: its BYE will be no surprise.
    pub fn is_left(&self, outside: u32, inside: u32) {
        let mut state = self.desk.state();
        let state = &mut *state;
        if let Some(call_id) = state.chat_of.get(&(outside, inside))
            && let Some(chat) = state.chats.get_mut(call_id)
        {
            chat.standing = Talk::Leaving;
        }
    }

    /// Whether the program stops in good order: then it ends sessions.
    pub fn expect_byes(&self, are_expected: bool) {
        self.desk.state().byes_expected = are_expected;
    }

    /// Open sessions: (outside, inside).
    pub fn sessions(&self) -> Vec<(u32, u32)> {
        let state = self.desk.state();
        state.chats.values().filter(|chat| chat.standing == Talk::Open).map(|chat| chat.pair).collect()
    }

    /// Sessions that were acknowledged and have not ended.
    pub fn unended(&self) -> usize {
        let state = self.desk.state();
        state.chats.values().filter(|chat| matches!(chat.standing, Talk::Open | Talk::Leaving)).count()
    }

    /// Figures.
    pub fn figures(&self) -> Figures {
        let state = self.desk.state();
        Figures {
            watches: state.watches.iter().filter(|watch| watch.standing == Standing::Live).count(),
            contacts: state.contacts.values().filter(|contact| contact.confirmed && !contact.ended).count(),
            chats: state.chats.values().filter(|chat| chat.standing == Talk::Open).count(),
            open: state.open.len(),
        }
    }
}

/// A watch, seen from outside.
#[derive(Clone, Copy, Debug)]
pub struct WatchSeen {
    /// `w`
    pub watcher: u32,
    /// `u`
    pub presentity: u32,
    /// How it stands.
    pub standing: Standing,
    /// Under which start of the edge its last SUBSCRIBE got 200.
    pub granted: u32,
    /// What was told last, under which start.
    pub told: Option<(u32, Shown)>,
}

impl State {
    fn open(&mut self, what: What) -> u64 {
        self.branches += 1;
        self.open.insert(self.branches, Open { what, written: None });
        self.branches
    }
}

impl Heard {
    /// A further request of the edge: its CSeq must have grown (RFC 3261 §12.2.1.1), over restarts too.
    fn hear(&mut self, book: &Book, generation: u32, request: &Message) {
        let number = request.cseq().map_or(0, |(number, _)| number);
        let mut hasher = DefaultHasher::new();
        request.branch().hash(&mut hasher);
        let branch = hasher.finish();
        // What an ended connection still held may be read after the first word on the next one.
        if generation < self.generation {
            return;
        }
        if number < self.cseq || (number == self.cseq && branch != self.branch) {
            let (before, then) = (self.cseq, self.generation);
            book.complain(|| {
                let head = request.method().map(ToString::to_string).unwrap_or_default();
                let call_id = request.call_id().unwrap_or_default();
                format!("CSeq {number} of {head} in {call_id} does not grow: {before} was seen at start {then}")
            });
        }
        *self = Self { generation, cseq: number.max(self.cseq), branch };
    }
}

impl Desk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send(&self, branch: Option<u64>, bytes: BytesMut) {
        let _ = self.requests.send((branch, bytes.freeze()));
    }
}
