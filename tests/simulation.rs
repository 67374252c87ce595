//! Whole worlds from a seed: watchers on either side, users, messages, cuts, unreachable peers, deaths at any output, against a shadow model.
//!
//! `SIM_TRACE=1` tells what each peer reads.
//!
//! `SIM_SEED=17 cargo test --test simulation` replays one seed, `SIM_SEEDS=5000` runs more of them.

#[path = "simulation/contacts.rs"]
mod contacts;
mod support;

use fedgate::wire::sip::header::{Name, SubscriptionState};
use fedgate::wire::sip::{self, Method, Start};
use fedgate::wire::xmpp::{Element, NS_PING, NS_SERVER};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use support::world::{CONFIG, POLICY, Seen, World, with_component};

const PARTNER: &str = "lync.example";
const NODE: &str = "imp-1";
const WATCHERS: u32 = 3;
const USERS: u32 = 3;

/// What a user's client shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shown {
    Offline,
    Available,
    Away,
}

/// A dialog as the partner knows it.
#[derive(Debug)]
struct Dialog {
    watcher: u32,
    user: u32,
    remote_tag: Option<String>,
    cseq_sent: u32,
    /// CSeq of the last NOTIFY.
    cseq_seen: u32,
    state: Option<String>,
    shown: Option<Shown>,
    ended: bool,
    expires_at: Option<fedgate::gate::Time>,
}

#[derive(Debug, Default)]
struct MessageIn {
    answered: Vec<u16>,
    delivered: u32,
    cut: bool,
    exists: bool,
}

#[derive(Debug, Default)]
struct MessageOut {
    delivered: u32,
    errors: u32,
    /// How much was to be kept before it was read.
    mark: u64,
    /// Its sender's server was told that it is handled (XEP-0198).
    acked: bool,
    /// The edge died before its envelope was durable: it was acknowledged to nobody.
    unread: bool,
}

struct Sim {
    seed: u64,
    rng: StdRng,
    world: World,
    shown: BTreeMap<u32, Shown>,
    granted: BTreeSet<(u32, u32)>,
    asked: BTreeSet<(u32, u32)>,
    dialogs: BTreeMap<String, Dialog>,
    messages_in: BTreeMap<String, MessageIn>,
    messages_out: BTreeMap<String, MessageOut>,
    next: u32,
    slow: bool,
    contacts: contacts::Contacts,
    /// No more faults.
    resting: bool,
    /// When the peers last read.
    acted: fedgate::gate::Time,
}

#[test]
fn seeded_worlds_end_right() {
    let seeds: Vec<u64> = match std::env::var("SIM_SEED").ok().and_then(|s| s.parse().ok()) {
        Some(seed) => vec![seed],
        None => (0..std::env::var("SIM_SEEDS").ok().and_then(|s| s.parse().ok()).unwrap_or(120)).collect(),
    };
    let (mut deaths, mut told, mut carried, mut watched) = (0, 0, 0, 0);
    for seed in seeds {
        let outcome = std::panic::catch_unwind(|| {
            let mut sim = Sim::new(seed);
            for _ in 0..120 {
                sim.step();
            }
            sim.come_to_rest();
            sim.judge();
            sim.rest_long();
            let carried = sim.messages_in.len() + sim.messages_out.len();
            (sim.world.deaths, sim.dialogs.len(), carried, sim.contacts_watched())
        });
        match outcome {
            Ok((d, t, c, w)) => {
                watched += w;
                deaths += d;
                told += t;
                carried += c;
            }
            Err(_) => panic!("the world of seed {seed} went wrong; replay with SIM_SEED={seed}"),
        }
    }
    println!("{deaths} deaths, {told} dialogs of theirs, {watched} of ours, {carried} messages");
}

impl Sim {
    fn new(seed: u64) -> Self {
        let mut sim = Self {
            seed,
            rng: StdRng::seed_from_u64(seed),
            // In every other world the node takes components.
            world: match seed % 2 {
                0 => World::new(),
                _ => World::with(&with_component(CONFIG), POLICY),
            },
            shown: (0..USERS).map(|user| (user, Shown::Offline)).collect(),
            granted: BTreeSet::new(),
            asked: BTreeSet::new(),
            dialogs: BTreeMap::new(),
            messages_in: BTreeMap::new(),
            messages_out: BTreeMap::new(),
            next: 0,
            slow: false,
            contacts: contacts::Contacts::default(),
            resting: false,
            acted: support::world::start(),
        };
        sim.world.lags = true;
        sim
    }

    fn trace(&self, what: impl Fn() -> String) {
        if std::env::var_os("SIM_TRACE").is_some() {
            eprintln!("{:.1} {}", self.world.now.since(support::world::start()).as_secs_f64(), what());
        }
    }

    fn step(&mut self) {
        match self.rng.random_range(0..130) {
            100.. => self.contact_step(),
            0..14 => self.subscribe(),
            14..22 => self.refresh(3600),
            22..27 => self.refresh(0),
            27..37 => self.answer_question(),
            37..50 => self.change_presence(),
            50..62 => self.message_in(),
            62..74 => self.message_out(),
            74..78 => self.cut(NODE),
            78..82 => self.cut(PARTNER),
            82..85 => self.toggle(NODE),
            85..88 => self.toggle(PARTNER),
            88..91 => self.world.dies_after = Some(self.rng.random_range(0..6)),
            91..93 => self.die(),
            93..95 => self.slow = !self.slow,
            _ => {
                let pause = Duration::from_millis(self.rng.random_range(0..40_000));
                self.pass(pause);
            }
        }
        if !self.slow || self.rng.random_bool(0.3) {
            self.peers_act();
        }
        let pause = Duration::from_millis(self.rng.random_range(0..2_000));
        self.pass(pause);
    }

    fn pass(&mut self, pause: Duration) {
        let deaths = self.world.deaths;
        // A store that takes its time, but less than a peer may take to answer.
        let mut left = pause;
        while !left.is_zero() {
            self.commit();
            let some = Duration::from_millis(self.rng.random_range(50..900)).min(left);
            self.world.advance(some);
            left -= some;
        }
        self.died_since(deaths);
    }

    fn subscribe(&mut self) {
        let (watcher, user) = (self.rng.random_range(0..WATCHERS), self.rng.random_range(0..USERS));
        self.next += 1;
        let call = format!("call-{}", self.next);
        let bytes = request(
            "SUBSCRIBE",
            &format!("sip:u{user}@corp.example"),
            watcher,
            &format!("<sip:u{user}@corp.example>"),
            &call,
            1,
            &[("Event", "presence"), ("Expires", "3600"), ("Contact", "<sip:w@sip.lync.example:5061;transport=tls>")],
            "",
        );
        let dialog = Dialog {
            watcher,
            user,
            remote_tag: None,
            cseq_sent: 1,
            cseq_seen: 0,
            state: None,
            shown: None,
            ended: false,
            expires_at: None,
        };
        self.dialogs.insert(call, dialog);
        self.send(&bytes);
    }

    fn refresh(&mut self, expires: u32) {
        let now = self.world.now;
        let live: Vec<String> = self
            .dialogs
            .iter()
            .filter(|(_, d)| d.remote_tag.is_some() && !d.ended && d.expires_at.is_some_and(|at| at > now))
            .map(|(call, _)| call.clone())
            .collect();
        if live.is_empty() {
            return;
        }
        let call = live[self.rng.random_range(0..live.len())].clone();
        let Some(dialog) = self.dialogs.get_mut(&call) else { return };
        dialog.cseq_sent += 1;
        // Who unsubscribes expects nothing more.
        dialog.ended |= expires == 0;
        let to = format!("<sip:u{}@corp.example>;tag={}", dialog.user, dialog.remote_tag.clone().unwrap_or_default());
        let (watcher, cseq, expires) = (dialog.watcher, dialog.cseq_sent, expires.to_string());
        let headers = [
            ("Event", "presence"),
            ("Expires", expires.as_str()),
            ("Contact", "<sip:w@sip.lync.example:5061;transport=tls>"),
        ];
        let bytes = request("SUBSCRIBE", "sip:sip.corp.example:5061", watcher, &to, &call, cseq, &headers, "");
        self.send(&bytes);
    }

    fn answer_question(&mut self) {
        let Some((watcher, user)) = self.asked.iter().next().copied() else { return };
        self.asked.remove(&(watcher, user));
        if self.rng.random_bool(0.8) {
            self.granted.insert((watcher, user));
            self.say(user, watcher, Some("subscribed"));
            self.show(user, watcher);
        } else {
            self.say(user, watcher, Some("unsubscribed"));
        }
    }

    fn change_presence(&mut self) {
        let user = self.rng.random_range(0..USERS);
        let shown = [Shown::Offline, Shown::Available, Shown::Away][self.rng.random_range(0..3)];
        self.shown.insert(user, shown);
        for watcher in 0..WATCHERS {
            if self.granted.contains(&(watcher, user)) {
                self.show(user, watcher);
            }
        }
    }

    fn message_in(&mut self) {
        self.next += 1;
        let call = format!("message-{}", self.next);
        let exists = self.rng.random_bool(0.8);
        let user = if exists { "u0" } else { "nobody" };
        let uri = format!("sip:{user}@corp.example");
        let headers = [("Content-Type", "text/plain;charset=UTF-8")];
        let bytes = request("MESSAGE", &uri, 0, &format!("<{uri}>"), &call, 1, &headers, &call);
        self.messages_in.insert(call, MessageIn { exists, ..MessageIn::default() });
        self.send(&bytes);
    }

    fn message_out(&mut self) {
        if self.world.is_cut_off(NODE) {
            return;
        }
        self.next += 1;
        let id = format!("out-{}", self.next);
        let watcher = self.rng.random_range(0..WATCHERS);
        let stanza = Element::new("message", NS_SERVER)
            .attr("type", "chat")
            .attr("from", "u0@corp.example/balcony")
            .attr("to", &format!("w{watcher}@lync.example"))
            .attr("id", &id)
            .child(Element::new("body", NS_SERVER).text(&id));
        let mark = self.world.marks().0;
        self.messages_out.insert(id.clone(), MessageOut { mark, ..MessageOut::default() });
        let deaths = self.world.deaths;
        self.world.stanza(NODE, &stanza);
        if self.next.is_multiple_of(2) {
            // The number tells which one it is.
            self.world.ask_ack(NODE, self.next);
        }
        self.died_since(deaths);
    }

    fn send(&mut self, bytes: &[u8]) {
        let deaths = self.world.deaths;
        self.world.sip(PARTNER, bytes);
        self.died_since(deaths);
    }

    fn cut(&mut self, party: &str) {
        // What was on its way to or from the peer is lost with the connection.
        self.trace(|| format!("{party} is cut"));
        for seen in self.world.inbox.remove(party).unwrap_or_default() {
            // RFC 6665 §4.2.2: a NOTIFY left unanswered until Timer F ended its subscription.
            if let Seen::Sip(message) = seen
                && self.world.now.since(self.acted) > Duration::from_secs(30)
                && let Some(dialog) = message.call_id().and_then(|call| self.dialogs.get_mut(call))
            {
                dialog.ended |= message.is_request();
            }
        }
        let deaths = self.world.deaths;
        self.world.cut(party);
        self.died_since(deaths);
        if party == PARTNER {
            self.partner_was_cut();
        } else {
            self.node_was_cut();
        }
    }

    fn die(&mut self) {
        // Now and then for longer than anything lasts; what has arrived is not left unread for hours.
        let down = if self.rng.random_bool(0.3) { self.rng.random_range(0..7_200) } else { 0 };
        if down > 0 {
            self.peers_act();
        }
        let deaths = self.world.deaths;
        // Also between the commit and what waits for it.
        if self.rng.random_bool(0.5) {
            self.world.commit_in_secret();
        }
        let waiting = self.world.inbox.get(PARTNER).map_or(0, |inbox| inbox.len());
        self.world.restart_after(Duration::from_secs(down));
        // Also what only waits for its record.
        self.world.commit();
        let hurried = self.world.inbox.get(PARTNER).map_or(0, |inbox| inbox.len()) - waiting;
        assert_eq!(
            hurried, 0,
            "seed {}: {down} s after its death the edge tells the partner things at once",
            self.seed
        );
        self.died_since(deaths);
    }

    fn died_since(&mut self, deaths: u32) {
        if self.world.deaths != deaths {
            self.trace(|| "the edge died".to_owned());
            // The death of the process is the death of its streams: the sender's server knows what was not acknowledged.
            let committed = self.world.committed_at_death;
            self.contacts.were_unheard(committed);
            for message in self.messages_out.values_mut() {
                message.unread |= message.mark >= committed && !message.acked;
            }
            self.partner_was_cut();
            self.node_was_cut();
        }
    }

    /// A SIP sender whose connection ended without an answer knows that it does not know.
    fn partner_was_cut(&mut self) {
        for message in self.messages_in.values_mut() {
            message.cut |= message.answered.iter().all(|status| *status < 200);
        }
    }

    /// A stanza written on a stream that died is the node's to account for: it was never acknowledged.
    fn node_was_cut(&mut self) {}

    fn commit(&mut self) {
        let deaths = self.world.deaths;
        self.world.commit();
        self.died_since(deaths);
    }

    fn toggle(&mut self, party: &str) {
        if !self.world.unreachable.remove(party) {
            self.world.unreachable.insert(party.to_owned());
        }
    }

    /// Both peers read what has come and answer it.
    fn peers_act(&mut self) {
        self.act();
        self.notify_contacts_again();
        self.acted = self.world.now;
    }

    fn act(&mut self) {
        for _ in 0..1_000 {
            let Some(party) =
                [PARTNER, NODE].into_iter().find(|p| self.world.inbox.get(*p).is_some_and(|i| !i.is_empty()))
            else {
                return;
            };
            let Some(seen) = self.world.inbox.get_mut(party).and_then(|inbox| inbox.pop_front()) else { return };
            let deaths = self.world.deaths;
            self.trace(|| match &seen {
                Seen::Sip(m) => format!("{party} reads {}", String::from_utf8_lossy(m.bytes()).replace("\r\n", " | ")),
                Seen::Xml(x) => format!("{party} reads {}", x.print(NS_SERVER)),
            });
            match seen {
                Seen::Sip(message) => self.partner_reads(&message),
                Seen::Xml(stanza) => self.node_reads(&stanza),
            }
            self.died_since(deaths);
        }
        panic!("seed {}: the peers' talk does not come to rest", self.seed);
    }

    fn partner_reads(&mut self, message: &sip::Message) {
        message.check().expect("what the edge sends is right");
        let call = message.call_id().unwrap_or_default().to_owned();
        match message.start() {
            Start::Response { status, .. } => {
                if let Some(sent) = self.messages_in.get_mut(&call) {
                    sent.answered.push(status);
                } else if self.contact_notified(&call, message, status) {
                } else if let Some(dialog) = self.dialogs.get_mut(&call) {
                    if (200..300).contains(&status) {
                        dialog.remote_tag = message.to_tag().map(str::to_owned);
                        let expires = message.header(Name::Expires).and_then(|e| e.trim().parse().ok()).unwrap_or(0);
                        dialog.expires_at = Some(self.world.now + Duration::from_secs(expires));
                    } else if status == 481 || dialog.remote_tag.is_none() {
                        dialog.ended = true;
                    }
                }
            }
            Start::Request { method: Method::Notify, .. } => self.partner_notified(&call, message),
            Start::Request { method: Method::Subscribe, .. } => self.contact_subscribed(&call, message),
            Start::Request { method: Method::Message, .. } => {
                let id = String::from_utf8_lossy(message.body()).into_owned();
                self.messages_out.get_mut(&id).expect("a message that was sent").delivered += 1;
                self.partner_answers(message, 200);
            }
            Start::Request { .. } => panic!("seed {}: an unexpected request", self.seed),
        }
    }

    fn partner_notified(&mut self, call: &str, message: &sip::Message) {
        let Some(dialog) = self.dialogs.get_mut(call) else { panic!("a NOTIFY for no dialog") };
        let (cseq, _) = message.cseq().expect("a CSeq");
        assert!(cseq > dialog.cseq_seen, "seed {}: CSeq went from {} to {cseq}", self.seed, dialog.cseq_seen);
        dialog.cseq_seen = cseq;
        if dialog.remote_tag.is_none() {
            // RFC 6665 §4.1.2.4: a NOTIFY may come before the 200, and makes the dialog.
            dialog.remote_tag = message.from_tag().map(str::to_owned);
            dialog.expires_at = Some(self.world.now + Duration::from_secs(3600));
        }
        let state = message.header(Name::SubscriptionState).and_then(SubscriptionState::parse).expect("a state");
        assert!(state.state == "terminated" || state.expires.is_some(), "RFC 6665 §4.1.3");
        // RFC 6665 §4.2.2: who leaves a NOTIFY unanswered until Timer F is no longer told anything.
        dialog.ended |= state.state == "terminated" || self.world.now.since(self.acted) > Duration::from_secs(30);
        dialog.state = Some(state.state);
        let body = String::from_utf8_lossy(message.body()).into_owned();
        dialog.shown = match body.as_str() {
            "" => None,
            body if body.contains("<basic>closed</basic>") && !body.contains("<basic>open</basic>") => {
                Some(Shown::Offline)
            }
            body if body.contains("away") => Some(Shown::Away),
            _ => Some(Shown::Available),
        };
        self.partner_answers(message, 200);
    }

    fn partner_answers(&mut self, request: &sip::Message, status: u16) {
        if !self.world.has_our_link(PARTNER) {
            return;
        }
        // The tag of our NOTIFYs in it.
        let tag = format!(";tag=t{}", request.call_id().unwrap_or_default());
        let mut text = format!("SIP/2.0 {status} OK\r\n");
        for name in [Name::Via, Name::From, Name::To, Name::CallId, Name::CSeq] {
            for row in request.rows(name) {
                let needs_tag = name == Name::To && request.to_tag().is_none();
                text.push_str(&format!("{}: {row}{}\r\n", name.as_str(), if needs_tag { &tag } else { "" }));
            }
        }
        if request.method() == Some(&Method::Subscribe) {
            for row in request.rows(Name::Expires) {
                text.push_str(&format!("Expires: {row}\r\nContact: <sip:w@sip.lync.example:5061;transport=tls>\r\n"));
            }
        }
        text.push_str("Content-Length: 0\r\n\r\n");
        self.world.sip_answer(PARTNER, text.as_bytes());
    }

    fn node_reads(&mut self, stanza: &Element) {
        let attr = |name: &str| stanza.get_attr(name).unwrap_or_default().to_owned();
        let (from, to, id) = (attr("from"), attr("to"), attr("id"));
        let number = |jid: &str| jid.get(1..2).and_then(|n| n.parse::<u32>().ok());
        match (stanza.name.as_str(), attr("type").as_str()) {
            ("iq", "get") if stanza.find("ping", NS_PING).is_some() => {
                let pong = Element::new("iq", NS_SERVER)
                    .attr("type", "result")
                    .attr("from", &to)
                    .attr("to", &from)
                    .attr("id", &id);
                self.world.stanza(NODE, &pong);
            }
            ("a", _) => {
                let id = format!("out-{}", attr("h"));
                let message = self.messages_out.get_mut(&id).expect("an ack of a message that was sent");
                assert!(!message.unread, "seed {}: {id} was acknowledged, and its envelope was not durable", self.seed);
                message.acked = true;
            }
            ("message", "error") => {
                self.messages_out.get_mut(&id).expect("an error for a message that was sent").errors += 1;
            }
            ("message", _) => {
                let body = stanza.find("body", NS_SERVER).map(Element::content).unwrap_or_default();
                let sent = self.messages_in.get_mut(&body).expect("a message that was sent");
                if sent.exists {
                    sent.delivered += 1;
                } else {
                    let error = Element::new("error", NS_SERVER)
                        .attr("type", "cancel")
                        .child(Element::new("item-not-found", "urn:ietf:params:xml:ns:xmpp-stanzas"));
                    let bounce = Element::new("message", NS_SERVER)
                        .attr("type", "error")
                        .attr("from", &to)
                        .attr("to", &from)
                        .attr("id", &id)
                        .child(error);
                    self.world.stanza(NODE, &bounce);
                }
            }
            ("presence", type_) => {
                let (Some(watcher), Some(user)) = (number(&from), number(&to)) else { return };
                if self.told_of_contact((user, watcher), &from, stanza) {
                    return;
                }
                let granted = self.granted.contains(&(watcher, user));
                match type_ {
                    "subscribe" if granted => {
                        self.say(user, watcher, Some("subscribed"));
                        self.show(user, watcher);
                    }
                    "subscribe" => {
                        self.asked.insert((watcher, user));
                        self.say(user, watcher, Some("unavailable"));
                    }
                    "probe" if granted => self.show(user, watcher),
                    "probe" => self.say(user, watcher, Some("unsubscribed")),
                    "unavailable" => {}
                    other => panic!("an unexpected presence {other}"),
                }
            }
            other => panic!("an unexpected stanza {other:?}"),
        }
    }

    fn say(&mut self, user: u32, watcher: u32, type_: Option<&str>) {
        let mut stanza = Element::new("presence", NS_SERVER)
            .attr("from", &format!("u{user}@corp.example"))
            .attr("to", &format!("w{watcher}@lync.example"));
        if let Some(type_) = type_ {
            stanza = stanza.attr("type", type_);
        }
        let deaths = self.world.deaths;
        self.trace(|| format!("{NODE} says {}", stanza.print(NS_SERVER)));
        self.world.stanza(NODE, &stanza);
        self.died_since(deaths);
    }

    fn show(&mut self, user: u32, watcher: u32) {
        let shown = self.shown[&user];
        let mut stanza = Element::new("presence", NS_SERVER)
            .attr("from", &format!("u{user}@corp.example/balcony"))
            .attr("to", &format!("w{watcher}@lync.example"));
        stanza = match shown {
            Shown::Offline => stanza.attr("type", "unavailable"),
            Shown::Available => stanza,
            Shown::Away => stanza.child(Element::new("show", NS_SERVER).text("away")),
        };
        let deaths = self.world.deaths;
        self.world.stanza(NODE, &stanza);
        self.died_since(deaths);
    }

    /// No more faults: everything owed must be settled, everything shown be right.
    fn come_to_rest(&mut self) {
        self.world.dies_after = None;
        self.world.unreachable.clear();
        self.slow = false;
        self.resting = true;
        for _ in 0..900 {
            // As soon as there is a stream to say it on.
            if !self.world.is_cut_off(NODE) {
                self.users_say_again();
            }
            self.peers_act();
            self.pass(Duration::from_secs(1));
        }
        self.peers_act();
    }

    /// Until every subscription of ours was refreshed: what the partner forgot is found out.
    fn rest_long(&mut self) {
        for _ in 0..1_300 {
            self.pass(Duration::from_secs(4));
            self.peers_act();
        }
        self.judge_contacts(true);
    }

    fn judge(&self) {
        let seed = self.seed;
        assert_eq!(self.world.gate.snapshot().unresolved, 0, "seed {seed}: unresolved messages");
        for (call, message) in &self.messages_in {
            let finals: Vec<u16> = message.answered.iter().copied().filter(|status| *status >= 200).collect();
            assert!(finals.len() <= 1, "seed {seed}: {call} was answered {finals:?}");
            match finals.first() {
                None => assert!(message.cut, "seed {seed}: {call} was never answered: {message:?}"),
                Some(200) => assert!(message.delivered > 0, "seed {seed}: {call} got 200 and was not delivered"),
                Some(404) => assert!(!message.exists, "seed {seed}: {call} got 404"),
                Some(status) => assert!([503, 504].contains(status), "seed {seed}: {call} got {status}"),
            }
        }
        for (id, message) in &self.messages_out {
            let told = message.delivered + message.errors > 0;
            assert!(told || message.unread, "seed {seed}: {id} was lost in silence");
        }
        self.judge_contacts(false);
        for (call, dialog) in &self.dialogs {
            let live = !dialog.ended && dialog.expires_at.is_some_and(|at| at > self.world.now);
            if !live {
                continue;
            }
            let pair = (dialog.watcher, dialog.user);
            if self.granted.contains(&pair) {
                assert_eq!(dialog.state.as_deref(), Some("active"), "seed {seed}: {call} {dialog:?}");
                assert_eq!(
                    dialog.shown,
                    Some(self.shown[&dialog.user]),
                    "seed {seed}: {call} shows the wrong presence"
                );
            } else {
                assert_eq!(dialog.state.as_deref(), Some("pending"), "seed {seed}: {call} {dialog:?}");
            }
        }
    }
}

#[allow(clippy::too_many_arguments)] // the parts of a request
fn request(
    method: &str,
    uri: &str,
    watcher: u32,
    to: &str,
    call: &str,
    cseq: u32,
    headers: &[(&str, &str)],
    body: &str,
) -> Vec<u8> {
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!(
        "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/TLS sip.lync.example:5061;branch=z9hG4bK{call}{cseq}\r\nMax-Forwards: 70\r\n\
         From: <sip:w{watcher}@lync.example>;tag=t{call}\r\nTo: {to}\r\nCall-ID: {call}\r\nCSeq: {cseq} {method}\r\n\
         {headers}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}
