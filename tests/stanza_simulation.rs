//! Whole worlds from a seed between XMPP partners and XMPP nodes: messages, iqs and presence both ways, bounces, cuts that lose what was not read,
//! slow connections, parties that sleep or answer no pings, against a shadow model: every message ends delivered or in an error to its sender,
//! in both only when nobody could know, and what stays in order between two users arrives in order.
//!
//! `STANZA_SEED=17 cargo test --test stanza_simulation` replays one seed, `SIM_SEEDS=5000` runs more of them; `SIM_TRACE=1` tells what each
//! party reads.

mod support;

use fedgate::gate::{Input, Time};
use fedgate::wire::xmpp::{Element, NS_PING, NS_SERVER, NS_SM, NS_STANZA_ERRORS};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;
use support::world::{CONFIG, Seen, World, start};

const NODES: [&str; 2] = ["imp-1", "imp-2"];
const PARTNERS: [&str; 2] = ["jabber.example", "mute.example"];
/// Speaks and answers no pings.
const MUTE: &str = "mute.example";
const OURS: [&str; 2] = ["juliet", "nurse"];
const THEIRS: [&str; 2] = ["romeo", "tybalt"];

/// A stanza that somebody sent; its number is its id.
#[derive(Debug)]
struct Sent {
    party: &'static str,
    from: String,
    to: String,
    is_message: bool,
    at: Time,
    /// How often it was read.
    read: u32,
    /// The errors that its sender read: whether each said `uncertain`.
    errors: Vec<bool>,
    /// Who read it sent it back.
    came_back: bool,
    /// Its error was lost with its sender's stream, or it with the edge: nobody owes it anything.
    excused: bool,
}

struct Sim {
    rng: StdRng,
    world: World,
    sent: BTreeMap<u32, Sent>,
    /// What was read, in order.
    read: Vec<u32>,
    asleep: BTreeMap<&'static str, Time>,
    woken: BTreeMap<&'static str, Time>,
    next: u32,
    asked: BTreeMap<&'static str, u32>,
    acked: u32,
}

fn config() -> String {
    let node = "[[node]]\nname = \"imp-2\"\nprotocol = \"xmpp\"\naddress = \"127.0.0.2:5269\"\ndomains = [\"corp.example\"]\npriority = 1\n[state]";
    CONFIG.replace("[state]", node)
}

fn policy() -> String {
    let entry = |domain: &str| {
        format!(
            "[[partner]]\ndomain = \"{domain}\"\nprotocol = \"xmpp\"\nlimits = {{ messages_per_second = 100000 }}\n"
        )
    };
    PARTNERS.map(entry).concat()
}

#[test]
fn seeded_worlds_end_right() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds: Vec<u64> = match number("STANZA_SEED") {
        Some(seed) => vec![seed],
        None => (0..number("SIM_SEEDS").unwrap_or(150)).collect(),
    };
    let are_many = seeds.len() >= 50;
    let mut sums = [0_usize; 5];
    for seed in seeds {
        let outcome = std::panic::catch_unwind(|| {
            let mut sim = Sim::new(seed);
            for _ in 0..150 {
                sim.step();
            }
            sim.come_to_rest();
            sim.judge()
        });
        let Ok(found) = outcome else { panic!("the world of seed {seed} went wrong; replay with STANZA_SEED={seed}") };
        sums.iter_mut().zip(found).for_each(|(sum, found)| *sum += found);
    }
    let [messages, read, uncertain, failed, acked] = sums;
    println!("{messages} messages, {read} read, {uncertain} uncertain, {failed} failed, {acked} acknowledgements");
    assert!(
        !are_many || read * 2 > messages && uncertain > 100 && failed > 100 && acked > 100,
        "most worlds do nothing"
    );
}

impl Sim {
    fn new(seed: u64) -> Self {
        let mut world = World::with(&config(), &policy());
        let managed: &[&str] = [&[][..], &["jabber.example"], &["jabber.example", "imp-1"]][seed as usize % 3];
        world.managed = managed.iter().map(|party| (*party).to_owned()).collect();
        if seed % 5 == 4 {
            world.both_ways.insert("jabber.example".to_owned());
        }
        Self {
            rng: StdRng::seed_from_u64(seed),
            world,
            sent: BTreeMap::new(),
            read: Vec::new(),
            asleep: BTreeMap::new(),
            woken: BTreeMap::new(),
            next: 0,
            asked: BTreeMap::new(),
            acked: 0,
        }
    }

    fn trace(&self, what: impl Fn() -> String) {
        if std::env::var_os("SIM_TRACE").is_some() {
            eprintln!("{:.3} {}", self.world.now.since(start()).as_secs_f64(), what());
        }
    }

    fn one_of<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.rng.random_range(0..of.len())]
    }

    fn step(&mut self) {
        let party = if self.rng.random_bool(0.5) { self.one_of(&NODES) } else { self.one_of(&PARTNERS) };
        match self.rng.random_range(0..100) {
            0..60 => {
                for _ in 0..self.rng.random_range(1..5) {
                    self.send(party);
                }
                // What nobody has read yet is lost with the stream.
                if self.rng.random_bool(0.1) {
                    let whose = if self.rng.random_bool(0.5) { self.one_of(&NODES) } else { self.one_of(&PARTNERS) };
                    self.cut(whose);
                }
            }
            60..65 => self.cut(party),
            65..69 => {
                self.cut(party);
                self.trace(|| format!("{party} is unreachable"));
                self.world.unreachable.insert(party.to_owned());
            }
            69..73 => {
                self.cut(party);
                self.trace(|| format!("{party} is slow"));
                self.world.slow.insert(party.to_owned());
            }
            73..75 => self.world.refuse_held(party),
            75..83 => self.heal(),
            83..86 => {
                let until = self.world.now + Duration::from_secs(self.rng.random_range(1..60));
                self.trace(|| format!("{party} sleeps"));
                self.asleep.insert(party, until);
            }
            86..92 => {
                let asked = self.asked.get(party).copied().unwrap_or_default() + 1;
                if self.world.ask_ack(party, asked) {
                    self.asked.insert(party, asked);
                }
            }
            92 if self.rng.random_bool(0.2) => self.die(),
            _ => {
                let pause = self.rng.random_range(0..40_000);
                self.pass(pause);
            }
        }
        let pause = self.rng.random_range(0..800);
        self.pass(pause);
    }

    fn send(&mut self, party: &'static str) {
        if self.asleep.contains_key(party) {
            return;
        }
        let (ours, theirs, partner) = (self.one_of(&OURS), self.one_of(&THEIRS), self.one_of(&PARTNERS));
        let (from, to) = match NODES.contains(&party) {
            true => (format!("{ours}@corp.example/b"), format!("{theirs}@{partner}")),
            false => (format!("{theirs}@{party}/o"), format!("{ours}@corp.example")),
        };
        let id = self.next;
        self.next += 1;
        let is_message = self.rng.random_bool(0.8);
        let (name, type_) = if is_message { ("message", "chat") } else { ("iq", "get") };
        let stanza = Element::new(name, NS_SERVER)
            .attr("type", type_)
            .attr("from", &from)
            .attr("to", &to)
            .attr("id", &id.to_string())
            .child(Element::new("body", NS_SERVER).text("x"));
        self.trace(|| format!("{party} sends {id} {from} {to}"));
        let at = self.world.now;
        let sent =
            Sent { party, from, to, is_message, at, read: 0, errors: Vec::new(), came_back: false, excused: false };
        self.sent.insert(id, sent);
        self.world.stanza(party, &stanza);
    }

    /// Every connection of a party ends; what it has not read is lost, unless it sleeps: then it had come.
    fn cut(&mut self, party: &'static str) {
        self.trace(|| format!("{party} is cut"));
        let is_asleep = self.asleep.contains_key(party);
        let inbox = self.world.inbox.remove(party).unwrap_or_default();
        for seen in &inbox {
            let Seen::Xml(element) = seen else { continue };
            let id = element.get_attr("id").and_then(|id| id.parse().ok());
            let Some(sent) = id.and_then(|id: u32| self.sent.get_mut(&id)) else { continue };
            let is_error = element.get_attr("type") == Some("error");
            sent.excused |= is_error && !is_asleep;
        }
        if is_asleep {
            self.world.inbox.insert(party.to_owned(), inbox);
        }
        self.asked.remove(party);
        self.world.cut(party);
    }

    fn heal(&mut self) {
        self.trace(|| "all are well".to_owned());
        for party in NODES.iter().chain(&PARTNERS) {
            self.world.reachable(party);
        }
    }

    fn die(&mut self) {
        self.act();
        self.trace(|| "the edge dies".to_owned());
        for sent in self.sent.values_mut() {
            sent.excused |= sent.read == 0 && sent.errors.is_empty();
        }
        self.asked.clear();
        self.world.restart();
    }

    fn pass(&mut self, millis: u64) {
        let until = self.world.now + Duration::from_millis(millis);
        self.act();
        loop {
            let woken = self.asleep.values().copied().min();
            let Some(at) = self.world.gate.poll_timeout().into_iter().chain(woken).min().filter(|at| *at <= until)
            else {
                break;
            };
            self.world.now = self.world.now.max(at);
            self.world.advance(Duration::ZERO);
            self.act();
        }
        self.world.now = until;
        self.world.advance(Duration::ZERO);
        self.act();
    }

    /// Every party that is awake reads what is there, and answers.
    fn act(&mut self) {
        let now = self.world.now;
        for (party, _) in self.asleep.extract_if(.., |_, until| *until <= now) {
            self.woken.insert(party, now);
        }
        loop {
            let mut has_read = false;
            for party in NODES.into_iter().chain(PARTNERS) {
                if self.asleep.contains_key(party) {
                    continue;
                }
                let inbox: VecDeque<Seen> = self.world.inbox.remove(party).unwrap_or_default();
                has_read |= !inbox.is_empty();
                for seen in inbox {
                    let Seen::Xml(element) = seen else { panic!("{party} reads SIP") };
                    self.read(party, &element);
                }
                self.world.take(party, usize::MAX);
            }
            if !has_read {
                return;
            }
        }
    }

    fn read(&mut self, party: &'static str, element: &Element) {
        self.trace(|| format!("{party} reads {}", element.print(NS_SERVER)));
        if element.is("a", NS_SM) {
            self.acked += 1;
            return;
        }
        if element.find("ping", NS_PING).is_some() {
            let answer = Element::new("iq", NS_SERVER)
                .attr("type", "result")
                .attr("from", element.get_attr("to").expect("to"))
                .attr("to", element.get_attr("from").expect("from"))
                .attr("id", element.get_attr("id").expect("id"));
            if party != MUTE {
                self.world.stanza(party, &answer);
            }
            return;
        }
        if element.get_attr("type") == Some("result") {
            // The answer to a ping that is no longer awaited is an answer like others.
            return;
        }
        let id: u32 = element.get_attr("id").and_then(|id| id.parse().ok()).expect("an id of ours");
        let bounces = self.rng.random_bool(0.1);
        let sent = self.sent.get_mut(&id).expect("somebody sent it");
        if element.get_attr("type") == Some("error") {
            let error = element.find("error", NS_SERVER).expect("an error");
            let text = error.find("text", NS_STANZA_ERRORS).map(Element::content).unwrap_or_default();
            assert!(sent.came_back || text.starts_with("fedgate "), "{id}: {text}");
            if text.starts_with("fedgate ") {
                // What a far side sends back goes where anything for that user goes.
                assert_eq!(party, sent.party, "an error of {id} for somebody else");
                sent.errors.push(text.contains("uncertain"));
            }
            return;
        }
        assert_eq!((element.get_attr("from"), element.get_attr("to")), (Some(&*sent.from), Some(&*sent.to)));
        sent.read += 1;
        // It lay there while its reader slept, and only of messages anybody asks whether they arrived: what came after it may have gone another way.
        sent.excused |= !sent.is_message && self.woken.get(party).is_some_and(|woken| *woken >= sent.at);
        self.read.push(id);
        if bounces && sent.is_message {
            sent.came_back = true;
            let error = Element::new("error", NS_SERVER)
                .attr("type", "cancel")
                .child(Element::new("service-unavailable", NS_STANZA_ERRORS));
            let bounce = Element::new("message", NS_SERVER)
                .attr("type", "error")
                .attr("from", &sent.to)
                .attr("to", &sent.from)
                .attr("id", &id.to_string())
                .child(error);
            self.world.stanza(party, &bounce);
        }
    }

    fn come_to_rest(&mut self) {
        self.heal();
        self.asleep.values_mut().for_each(|until| *until = self.world.now);
        for _ in 0..60 {
            self.pass(10_000);
        }
        self.world.input(Input::Drain { last: false });
        self.pass(0);
        assert!(self.world.gate.is_drained(), "something is owed still");
    }

    fn judge(&self) -> [usize; 5] {
        let [mut read, mut uncertain, mut failed] = [0; 3];
        for (id, sent) in &self.sent {
            assert!(sent.read <= 1, "{id} was read {} times", sent.read);
            if sent.excused || !sent.is_message {
                continue;
            }
            let ended = sent.read > 0 || !sent.errors.is_empty();
            assert!(ended, "{id} ended in nothing: {sent:?}");
            assert!(sent.errors.len() <= 1, "{id} was told twice: {sent:?}");
            let is_certain = sent.errors.contains(&false);
            assert!(
                !(is_certain && sent.read > 0),
                "{id} was read, and its sender told that it did not arrive: {sent:?}"
            );
            read += usize::from(sent.read > 0);
            uncertain += usize::from(sent.errors.contains(&true));
            failed += usize::from(is_certain);
        }
        // Of what arrived for sure nothing overtook what was sent before it between the same two.
        let mut last: BTreeMap<(&str, &str), u32> = BTreeMap::new();
        let doubtful: BTreeSet<u32> =
            self.sent.iter().filter(|(_, sent)| !sent.errors.is_empty() || sent.excused).map(|(id, _)| *id).collect();
        for id in self.read.iter().filter(|id| !doubtful.contains(id)) {
            let sent = &self.sent[id];
            let before = last.insert((&sent.from, &sent.to), *id);
            assert!(before.is_none_or(|before| before < *id), "{id} was read behind {before:?}");
        }
        assert_eq!(self.world.gate.snapshot().unresolved, 0);
        let messages = self.sent.values().filter(|sent| sent.is_message).count();
        [messages, read, uncertain, failed, self.acked as usize]
    }
}
