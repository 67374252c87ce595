//! A presence node inside `corp.example`: server-to-server streams without TLS. It takes the edge's stream and keeps one of its own to it,
//! made again whenever it ends. Everybody may watch its users; it answers subscriptions, probes and pings, and sends what its users say.
//!
//! It knows by XEP-0198 of each stanza whether the edge has it. What was not acknowledged when the stream ended is never sent again: its server
//! knows that it may be lost, and nobody else is to blame.

mod stream;

use super::book::{Book, Standing};
use super::edge::Net;
use super::{Show, Shown, User, user_of};
use fedgate::wire::xmpp::{Element, Kind, NS_SERVER, Stanza};
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use stream::{accept, dial};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

/// The node.
pub struct Node {
    house: Arc<House>,
}

struct House {
    state: Mutex<State>,
    letters: mpsc::UnboundedSender<Letter>,
    book: Arc<Book>,
}

#[derive(Default)]
struct State {
    /// What its users show.
    shown: HashMap<u32, Shown>,
    /// Who may see a user, and is told.
    watchers: HashMap<u32, HashSet<u32>>,
    /// Its users' subscriptions: (watcher, watched outside).
    contacts: BTreeMap<(u32, u32), Contact>,
    /// Written on the stream to the edge and not acknowledged, with the number behind each.
    written: VecDeque<(u64, What)>,
    /// Stanzas written on this stream.
    count: u64,
    /// Streams of the edge.
    streams: usize,
}

/// A stanza on its way to the edge.
struct Letter {
    text: String,
    what: What,
}

/// What a stanza to the edge is.
#[derive(Clone, Copy, Debug)]
enum What {
    Message(u32),
    Subscribe(u32, u32),
    Unsubscribe(u32, u32),
    Other,
}

/// A subscription of a user inside.
#[derive(Clone, Copy, Debug)]
struct Contact {
    standing: Wish,
    subscribed: bool,
    told: Option<(u32, Shown)>,
}

/// What a user inside wants of a contact, as far as its server knows that the edge knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// `subscribe` is on its way.
    Asking,
    /// `subscribe` was acknowledged.
    Asked,
    /// `unsubscribe` is on its way.
    Leaving,
    /// `unsubscribe` was acknowledged under this start of the edge.
    Left(u32),
    /// The stream ended before either was acknowledged.
    Unknown,
}

/// A contact, seen from outside.
#[derive(Clone, Copy, Debug)]
pub struct ContactSeen {
    /// `x`
    pub watcher: u32,
    /// `p`
    pub presentity: u32,
    /// What is known to be wanted.
    pub standing: Wish,
    /// Whether `subscribed` came.
    pub subscribed: bool,
    /// What was told last, under which start of the edge.
    pub told: Option<(u32, Shown)>,
}

impl Node {
    /// Listens, and keeps a stream to the edge.
    pub async fn start(net: Net, book: Arc<Book>) -> Self {
        let listener = TcpListener::bind(net.node()).await.expect("the node listens");
        let (letters, to_send) = mpsc::unbounded_channel();
        let house = Arc::new(House { state: Mutex::default(), letters, book });
        tokio::spawn(accept(Arc::clone(&house), listener));
        tokio::spawn(dial(Arc::clone(&house), net, to_send));
        Self { house }
    }

    /// A user inside shows something: every watcher is told.
    pub fn show(&self, presentity: u32, shown: Shown) {
        let mut state = self.house.state();
        state.shown.insert(presentity, shown);
        for watcher in state.watchers.get(&presentity).into_iter().flatten() {
            self.house.send(presence(presentity, *watcher, shown), What::Other);
        }
    }

    /// What a user inside shows.
    pub fn shown(&self, presentity: u32) -> Shown {
        self.house.state().shown.get(&presentity).copied().unwrap_or_default()
    }

    /// A user inside subscribes to one outside.
    pub fn subscribe(&self, watcher: u32, presentity: u32) {
        let contact = Contact { standing: Wish::Asking, subscribed: false, told: None };
        self.house.state().contacts.insert((watcher, presentity), contact);
        self.house.send(to_contact(watcher, presentity, "subscribe"), What::Subscribe(watcher, presentity));
    }

    /// A user inside no longer wants to see one outside.
    pub fn unsubscribe(&self, watcher: u32, presentity: u32) {
        let mut state = self.house.state();
        if let Some(contact) = state.contacts.get_mut(&(watcher, presentity)) {
            contact.standing = Wish::Leaving;
            let letter = to_contact(watcher, presentity, "unsubscribe");
            self.house.send(letter, What::Unsubscribe(watcher, presentity));
        }
    }

    /// What a user inside wants of a contact.
    pub fn wish(&self, watcher: u32, presentity: u32) -> Option<Wish> {
        self.house.state().contacts.get(&(watcher, presentity)).map(|contact| contact.standing)
    }

    /// Subscriptions of its users.
    pub fn contacts(&self) -> Vec<ContactSeen> {
        let state = self.house.state();
        let seen = state.contacts.iter().map(|(&(watcher, presentity), contact)| ContactSeen {
            watcher,
            presentity,
            standing: contact.standing,
            subscribed: contact.subscribed,
            told: contact.told,
        });
        seen.collect()
    }

    /// A user inside writes a message for itself (`normal`); gives its number.
    pub fn message(&self, from: u32, to: u32, filling: &str) -> u32 {
        self.write(from, to, "normal", filling)
    }

    /// A user inside writes in a conversation (`chat`), which opens a session; gives its number.
    pub fn chat(&self, from: u32, to: u32) -> u32 {
        self.write(from, to, "chat", "in session")
    }

    fn write(&self, from: u32, to: u32, type_: &str, filling: &str) -> u32 {
        let number = self.house.book.pages().begin_to_sip();
        let text = format!(
            "<message type='{type_}' from='u{from}@corp.example/desk' to='w{to}@lync.example' id='m{number}'>\
             <body>m{number} {filling}</body></message>"
        );
        self.house.send(text, What::Message(number));
        number
    }

    /// A user inside leaves a conversation (XEP-0085).
    pub fn leave(&self, from: u32, to: u32) {
        let text = format!(
            "<message type='chat' from='u{from}@corp.example/desk' to='w{to}@lync.example'>\
             <gone xmlns='http://jabber.org/protocol/chatstates'/></message>"
        );
        self.house.send(text, What::Other);
    }
}

/// What a user inside shows, for a watcher outside.
fn presence(presentity: u32, watcher: u32, shown: Shown) -> String {
    let head = format!("<presence from='u{presentity}@corp.example/desk' to='w{watcher}@lync.example'");
    match (shown.show, shown.show.text()) {
        (Show::Offline, _) => format!("{head} type='unavailable'/>"),
        (_, Some(show)) => format!("{head}><show>{show}</show><status>n{}</status></presence>", shown.note),
        (_, None) => format!("{head}><status>n{}</status></presence>", shown.note),
    }
}

fn to_contact(watcher: u32, presentity: u32, type_: &str) -> String {
    format!("<presence type='{type_}' from='x{watcher}@corp.example' to='p{presentity}@lync.example'/>")
}

impl House {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send(&self, text: String, what: What) {
        let _ = self.letters.send(Letter { text, what });
    }

    /// The edge has the first `count` stanzas of this stream.
    fn acknowledged(&self, count: u64) {
        let generation = self.book.generation();
        let mut state = self.state();
        let state = &mut *state;
        while let Some((_, what)) = state.written.front().copied().filter(|(number, _)| *number <= count) {
            state.written.pop_front();
            state.settle(&self.book, what, Some(generation));
        }
    }

    /// The stream ended: what was not acknowledged may be lost.
    fn cut(&self) {
        let mut state = self.state();
        let state = &mut *state;
        for (_, what) in std::mem::take(&mut state.written) {
            state.settle(&self.book, what, None);
        }
        state.count = 0;
    }

    /// A stanza of the edge.
    fn take(&self, generation: u32, stanza: &Stanza) {
        let (from, to) = (user_of(&stanza.from), user_of(&stanza.to));
        match (stanza.kind, stanza.type_.as_deref()) {
            (Kind::Iq, Some("get")) if stanza.is_ping() => {
                if let Some(reply) = stanza.iq_result() {
                    self.send(reply.print(NS_SERVER), What::Other);
                }
            }
            (Kind::Iq, _) => {}
            (Kind::Message, Some("error")) => {
                let id = stanza.id.as_deref().and_then(|id| id.strip_prefix('m')?.parse::<usize>().ok());
                match id.and_then(|id| self.book.pages().to_sip.get_mut(id).map(|message| message.errors += 1)) {
                    Some(()) => {}
                    None => self.book.complain(|| format!("an error for nothing that was sent: {:?}", stanza.id)),
                }
            }
            (Kind::Message, _) => {
                let body = stanza.element().find("body", NS_SERVER).map(Element::content).unwrap_or_default();
                let number = body.strip_prefix('d').and_then(|rest| rest.split(' ').next()?.parse().ok());
                if let Some(number) = number {
                    self.book.pages().at_node(number);
                }
            }
            (Kind::Presence, type_) => self.take_presence(generation, (from, to), type_, stanza),
        }
    }

    fn take_presence(
        &self,
        generation: u32,
        (from, to): (Option<User>, Option<User>),
        type_: Option<&str>,
        stanza: &Stanza,
    ) {
        let mut state = self.state();
        let state = &mut *state;
        match (from, to, type_) {
            (Some((b'w', watcher)), Some((b'u', user)), Some("subscribe")) => {
                state.watchers.entry(user).or_default().insert(watcher);
                let shown = state.shown.get(&user).copied().unwrap_or_default();
                let yes =
                    format!("<presence type='subscribed' from='u{user}@corp.example' to='w{watcher}@lync.example'/>");
                self.send(yes, What::Other);
                self.send(presence(user, watcher, shown), What::Other);
            }
            (Some((b'w', watcher)), Some((b'u', user)), Some("probe")) => {
                if !state.watchers.entry(user).or_default().contains(&watcher) {
                    self.book.complain(|| format!("a probe from w{watcher} to u{user}, who never subscribed"));
                }
                let shown = state.shown.get(&user).copied().unwrap_or_default();
                self.send(presence(user, watcher, shown), What::Other);
            }
            // The watcher went offline: the authorisation stays, and it asks again by `subscribe` or probe.
            (Some((b'w', _)), Some((b'u', _)), _) => {}
            (Some((b'p', presentity)), Some((b'x', watcher)), type_) => {
                let Some(contact) = state.contacts.get_mut(&(watcher, presentity)) else {
                    self.book.complain(|| format!("{type_:?} from p{presentity} to x{watcher}, who never asked"));
                    return;
                };
                match type_ {
                    Some("subscribed") => contact.subscribed = true,
                    None | Some("unavailable") => {
                        if let (None, Wish::Left(when)) = (type_, contact.standing)
                            && when < generation
                        {
                            self.book.complain(|| {
                                format!(
                                    "p{presentity} is shown to x{watcher}, whose leave was acknowledged at start {when}"
                                )
                            });
                        }
                        let text = |name| stanza.element().find(name, NS_SERVER).map(Element::content);
                        let show = match type_ {
                            None => Show::of(text("show").as_deref()),
                            Some(_) => Show::Offline,
                        };
                        contact.told = Some((generation, Shown::read(show, text("status").as_deref())));
                    }
                    Some("unsubscribed") => {
                        if matches!(contact.standing, Wish::Asking | Wish::Asked) {
                            self.book.complain(|| format!("p{presentity} is denied to x{watcher}, and nobody refused"));
                        }
                        contact.subscribed = false;
                    }
                    Some("error") => {
                        self.book.count("subscriptions of users inside refused");
                        contact.standing = Wish::Unknown;
                    }
                    Some(_) => {}
                }
            }
            _ => self.book.complain(|| format!("presence {type_:?} between {from:?} and {to:?}")),
        }
    }
}

impl State {
    /// A stanza was acknowledged under a start of the edge, or its stream ended before.
    fn settle(&mut self, book: &Book, what: What, acknowledged: Option<u32>) {
        match what {
            What::Message(number) => {
                if let Some(message) = book.pages().to_sip.get_mut(number as usize) {
                    message.standing = match acknowledged {
                        Some(_) => Standing::Acknowledged,
                        None => Standing::Unacknowledged,
                    };
                }
            }
            What::Subscribe(watcher, presentity) | What::Unsubscribe(watcher, presentity) => {
                let Some(contact) = self.contacts.get_mut(&(watcher, presentity)) else { return };
                contact.standing = match (what, acknowledged) {
                    (_, None) => Wish::Unknown,
                    (What::Subscribe(..), Some(_)) if contact.standing == Wish::Asking => Wish::Asked,
                    (What::Unsubscribe(..), Some(generation)) if contact.standing == Wish::Leaving => {
                        Wish::Left(generation)
                    }
                    _ => contact.standing,
                };
            }
            What::Other => {}
        }
    }
}
