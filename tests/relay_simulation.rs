//! Whole worlds from a seed between SIP partners and SIP nodes: requests of all methods both ways, cuts, nodes that die and come back, slow
//! connections, 503s, silence, answers that are late or come twice, reloads, drains, deaths, against a shadow model.
//!
//! `RELAY_SEED=17 cargo test --test relay_simulation` replays one seed, `SIM_SEEDS=5000` runs more of them; `SIM_TRACE=1` tells what each
//! peer reads.

mod support;

use fedgate::gate::{Input, Time};
use fedgate::wire::sip::header::Name;
use fedgate::wire::sip::{Message, Method, NameAddr, Start};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeMap;
use std::time::Duration;
use support::world::{CONFIG, Seen, World, start, with_sip_nodes};

const NODES: [&str; 2] = ["imp-1", "imp-2"];
/// May do all, may do what its profile allows, may begin nothing.
const PARTNERS: [&str; 3] = ["all.example", "lync.example", "shut.example"];
/// What nobody outside may read.
const INSIDE: [&str; 4] = ["imp-1", "imp-2", "127.0.0.", "10.2.0."];

/// A request somebody sent; its CSeq number names it.
#[derive(Debug)]
struct Asked {
    party: &'static str,
    method: Method,
    sent: Vec<u8>,
    at: Time,
    /// Final answers that its sender read.
    finals: Vec<u16>,
    /// Who read it, as often as it was read.
    read_by: Vec<String>,
    /// Who read it last has said how it ended; of a 503 others are asked.
    said: bool,
    /// Policy forbade it.
    forbidden: bool,
    /// The connection it came on ended, or the edge died: nobody owes it an answer.
    excused: bool,
    /// Inside a dialog that this one has.
    within: Option<&'static str>,
    cancelled: bool,
}

/// One end of a dialog.
#[derive(Debug, Clone)]
struct End {
    party: &'static str,
    /// Whose it is inside, and who is outside.
    node: &'static str,
    partner: &'static str,
    opener: &'static str,
    action: &'static str,
    call: String,
    own: String,
    other: String,
    target: String,
    routes: Vec<String>,
}

/// What lync.example may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lync {
    /// What its profile allows.
    Usual,
    /// Watch, and be watched.
    Watch,
    /// Nothing: it has no entry.
    Nothing,
}

struct Sim {
    rng: StdRng,
    world: World,
    asked: BTreeMap<u32, Asked>,
    ends: Vec<End>,
    /// Answers that peers will give.
    due: Vec<(Time, &'static str, Vec<u8>)>,
    /// Branches of INVITEs that a peer has answered provisionally: only these may be cancelled.
    rung: Vec<String>,
    /// How often the edge has died.
    deaths: u32,
    next: u32,
    /// What the policy in force lets lync.example do.
    lync: Lync,
    /// The dialect of all.example.
    profile: &'static str,
    resting: bool,
    stopping: bool,
}

fn policy(lync: Lync, profile: &str) -> String {
    let entry = |domain: &str, profile: &str, rest: &str| {
        format!("[[partner]]\ndomain = \"{domain}\"\nprotocol = \"sip\"\nprofile = \"{profile}\"\n{rest}\n")
    };
    let all = "allow = [\"subscribe\", \"presence\", \"message\", \"chat\", \"call\", \"other\"]";
    let lync = match lync {
        Lync::Usual => entry("lync.example", "lync", ""),
        Lync::Watch => entry("lync.example", "lync", "allow = [\"subscribe\", \"presence\"]"),
        Lync::Nothing => String::new(),
    };
    entry("all.example", profile, all) + &lync + &entry("shut.example", "lync", "direction = \"out\"")
}

#[test]
fn seeded_worlds_end_right() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds: Vec<u64> = match number("RELAY_SEED") {
        Some(seed) => vec![seed],
        None => (0..number("SIM_SEEDS").unwrap_or(150)).collect(),
    };
    let are_many = seeds.len() >= 50;
    let (mut asked, mut answered, mut dialogs, mut deaths) = (0, 0, 0, 0);
    for seed in seeds {
        let outcome = std::panic::catch_unwind(|| {
            let mut sim = Sim::new(seed);
            for _ in 0..150 {
                sim.step();
            }
            sim.come_to_rest();
            sim.judge(seed);
            if seed % 50 == 0 {
                sim.forget(seed);
            }
            let answered = sim.asked.values().filter(|asked| asked.finals.contains(&200)).count();
            (sim.asked.len(), answered, sim.ends.len(), sim.world.deaths)
        });
        let Ok(sums) = outcome else { panic!("the world of seed {seed} went wrong; replay with RELAY_SEED={seed}") };
        asked += sums.0;
        answered += sums.1;
        dialogs += sums.2;
        deaths += sums.3;
    }
    println!("{asked} requests, {answered} answered with 200, {dialogs} ends of dialogs, {deaths} deaths");
    assert!(!are_many || answered * 5 > asked, "most worlds do nothing");
}

impl Sim {
    fn new(seed: u64) -> Self {
        let profile = if seed.is_multiple_of(2) { "lync" } else { "aol" };
        Self {
            rng: StdRng::seed_from_u64(seed),
            world: World::with(&with_sip_nodes(CONFIG), &policy(Lync::Usual, profile)),
            asked: BTreeMap::new(),
            ends: Vec::new(),
            due: Vec::new(),
            rung: Vec::new(),
            deaths: 0,
            next: 0,
            lync: Lync::Usual,
            profile,
            resting: false,
            stopping: false,
        }
    }

    fn trace(&self, what: impl Fn() -> String) {
        if std::env::var_os("SIM_TRACE").is_some() {
            eprintln!("{:.3} {}", self.world.now.since(start()).as_secs_f64(), what());
        }
    }

    fn step(&mut self) {
        let node = NODES[self.rng.random_range(0..NODES.len())];
        let partner = PARTNERS[self.rng.random_range(0..PARTNERS.len())];
        let party = if self.rng.random_bool(0.5) { node } else { partner };
        match self.rng.random_range(0..100) {
            0..45 => self.ask(node, partner, party == partner),
            45..65 => self.ask_within(),
            65..70 => self.cancel(),
            70..73 => self.cut(party),
            73..76 => {
                self.world.unreachable.insert(party.to_owned());
                self.cut(party);
            }
            76..80 => self.heal(),
            80..82 => {
                self.world.slow.insert(party.to_owned());
                self.cut(party);
            }
            82..84 => {
                self.world.mute.insert(node.to_owned());
            }
            84..86 => self.reload(),
            86 if self.rng.random_bool(0.3) => self.die(),
            87 if self.rng.random_bool(0.5) => self.world.dies_after = Some(self.rng.random_range(0..8)),
            _ => {
                let pause = self.rng.random_range(0..30_000);
                self.pass(pause);
            }
        }
        let pause = self.rng.random_range(0..800);
        self.pass(pause);
    }

    fn pass(&mut self, millis: u64) {
        let until = self.world.now + Duration::from_millis(millis);
        self.act();
        // Peers read at once; what they say late is due at its time.
        loop {
            let next = self.due.iter().map(|(at, ..)| *at).chain(self.world.gate.poll_timeout()).min();
            let Some(at) = next.filter(|at| *at <= until) else { break };
            self.world.now = self.world.now.max(at);
            self.world.advance(Duration::ZERO);
            self.act();
        }
        self.world.now = until;
        self.world.advance(Duration::ZERO);
        self.act();
    }

    /// Every peer reads what is there, and says what is due.
    fn act(&mut self) {
        loop {
            if self.deaths != self.world.deaths {
                // What was under way is owed to nobody; what an earlier life has written may still be read.
                self.deaths = self.world.deaths;
                self.trace(|| "the edge has died".to_owned());
                self.excuse(|_| true);
            }
            let now = self.world.now;
            let (due, later) = std::mem::take(&mut self.due).into_iter().partition(|(at, ..)| *at <= now);
            self.due = later;
            let mut is_idle = Vec::<(Time, &'static str, Vec<u8>)>::is_empty(&due);
            for (_, party, bytes) in due {
                // An answer goes where its request came from: our connection, or one that took its place.
                if self.world.has_our_link(party) {
                    self.trace(|| format!("{party} says {}", line(&bytes)));
                    let answer = Message::parse(bytes.clone().into()).expect("an answer");
                    if matches!(answer.start(), Start::Response { status: 100..200, .. }) {
                        self.rung.extend(answer.branch().map(str::to_owned));
                    } else if let Some(asked) = answer.cseq_number().and_then(|number| self.asked.get_mut(&number)) {
                        asked.said = true;
                    }
                    self.world.sip_answer(party, &bytes);
                }
            }
            for party in NODES.into_iter().chain(PARTNERS) {
                for seen in self.world.inbox.remove(party).unwrap_or_default() {
                    is_idle = false;
                    let Seen::Sip(message) = seen else { panic!("XML to {party}") };
                    self.trace(|| format!("{party} reads {}", line(message.bytes())));
                    self.read(party, &message);
                }
            }
            if is_idle {
                return;
            }
        }
    }

    fn read(&mut self, party: &'static str, message: &Message) {
        message.check().unwrap_or_else(|fault| panic!("{party} reads what is wrong: {fault}"));
        if PARTNERS.contains(&party) {
            let text = String::from_utf8_lossy(message.bytes());
            for word in INSIDE {
                assert!(!text.contains(word), "{party} reads of the inside:\n{text}");
            }
        }
        let number = message.cseq_number().expect("a CSeq");
        match message.start() {
            Start::Response { status, .. } => self.read_answer(party, number, status, message),
            Start::Request { .. } => self.read_request(party, number, message),
        }
    }

    fn read_answer(&mut self, party: &'static str, number: u32, status: u16, answer: &Message) {
        let asked = self.asked.get_mut(&number).unwrap_or_else(|| panic!("{party} reads an answer to nothing"));
        assert_eq!(asked.party, party, "an answer for somebody else");
        let sent = Message::parse(asked.sent.clone().into()).expect("what was sent");
        if answer.method() == Some(&Method::Cancel) {
            assert!(asked.cancelled);
            return;
        }
        for name in [Name::Via, Name::From, Name::CallId, Name::CSeq] {
            assert_eq!(sent.header(name), answer.header(name), "RFC 3261 §8.2.6.2");
        }
        if status < 200 {
            return;
        }
        let is_invite = asked.method == Method::Invite;
        // RFC 3261 §16.7: a 2xx of another fork may follow whatever came first.
        assert!(
            asked.finals.is_empty() || is_invite && status < 300,
            "{number} {} has {:?} and now {status}",
            asked.method,
            asked.finals
        );
        asked.finals.push(status);
        if !is_invite && !asked.excused {
            // RFC 4320 §4.2: before its sender gives up.
            let took = self.world.now.since(asked.at);
            assert!(took <= Duration::from_secs(32), "{number} {} was answered after {took:?}", asked.method);
        }
        if status < 300 {
            assert!(!asked.forbidden, "{number} was forbidden and succeeded");
        }
        if is_invite && status >= 300 {
            // RFC 3261 §17.1.1.3.
            let ack = like(&sent, "ACK", answer.header(Name::To).unwrap_or_default());
            self.world.sip(party, &ack);
        } else if status < 300 && makes_dialog(&sent) {
            let routes: Vec<String> = answer.values(Name::RecordRoute).map(str::to_owned).collect();
            let end = self.end(party, &sent, answer, (number, routes.into_iter().rev().collect()), true);
            if is_invite {
                self.say(&end, Method::Ack, number);
            }
            self.ends.push(end);
        }
    }

    /// The dialog as one who asked, or was asked, knows it.
    fn end(
        &self,
        party: &'static str,
        request: &Message,
        answer: &Message,
        (number, routes): (u32, Vec<String>),
        is_ours: bool,
    ) -> End {
        let asked = &self.asked[&number];
        let far = asked.read_by.last().cloned().unwrap_or_default();
        let other = NODES.into_iter().chain(PARTNERS).find(|name| *name == far).unwrap_or(asked.party);
        let (node, partner) = if NODES.contains(&asked.party) { (asked.party, other) } else { (other, asked.party) };
        let from = request.header(Name::From).unwrap_or_default().to_owned();
        let to = answer.header(Name::To).unwrap_or_default().to_owned();
        let contact = if is_ours { answer } else { request }.header(Name::Contact).unwrap_or_default();
        let target = NameAddr::parse(contact).map(|contact| contact.uri.text.to_owned()).unwrap_or_default();
        let (own, other) = if is_ours { (from, to) } else { (to, from) };
        let action = if asked.method == Method::Invite { "chat" } else { "subscribe" };
        let call = request.call_id().unwrap_or_default().to_owned();
        End { party, node, partner, opener: asked.party, action, call, own, other, target, routes }
    }

    fn read_request(&mut self, party: &'static str, number: u32, request: &Message) {
        let asked = self.asked.get_mut(&number).unwrap_or_else(|| panic!("{party} reads what nobody sent"));
        let branch = request.branch().unwrap_or_default().to_owned();
        match request.method() {
            Some(Method::Ack) => {
                assert_eq!(asked.method, Method::Invite, "an ACK to {}", asked.method);
                // After its death the edge can't know which answers were its own.
                let is_its = asked.excused || asked.read_by.iter().any(|who| who == party);
                assert!(is_its, "{party} reads an ACK to what it never read");
                return;
            }
            Some(Method::Cancel) => {
                assert!(asked.method == Method::Invite && self.rung.contains(&branch), "RFC 3261 §9.1");
                self.answer(party, request, 200, 0);
                let invite = Message::parse(like(request, "INVITE", "").into());
                if let Ok(invite) = invite
                    && self.rng.random_bool(0.8)
                {
                    self.answer(party, &invite, 487, 20);
                }
                return;
            }
            _ => {}
        }
        assert!(!asked.forbidden, "{party} reads {number} {}, which is forbidden", asked.method);
        assert_eq!(NODES.contains(&asked.party), PARTNERS.contains(&party), "it crosses the border");
        if let Some(owner) = asked.within {
            assert_eq!(owner, party, "{number} {}: the dialog is another's", asked.method);
        }
        asked.read_by.push(party.to_owned());
        asked.said = false;
        assert_eq!(request.header(Name::MaxForwards), Some("69"));
        assert!(request.body() == body(asked.method.as_str(), number).as_bytes(), "another body");
        let is_invite = asked.method == Method::Invite;
        let late = self.rng.random_range(0..if self.resting { 500 } else { 6_000 });
        let fate = if self.resting { 0 } else { self.rng.random_range(0..20) };
        if is_invite && self.rng.random_bool(0.5) {
            self.answer(party, request, 180, late / 2);
        }
        match fate {
            0..10 => {
                let answer = self.answer(party, request, 200, late);
                if makes_dialog(request) {
                    let routes = request.values(Name::RecordRoute).map(str::to_owned).collect();
                    let end = self.end(party, request, &answer, (number, routes), false);
                    self.ends.push(end);
                }
            }
            10 => {
                self.answer(party, request, 503, late);
            }
            11 => {
                self.answer(party, request, 408, late);
            }
            12 | 13 => {
                self.answer(party, request, 404, late);
            }
            14 | 15 => {
                self.answer(party, request, 200, late);
                self.answer(party, request, 200, late + 700);
                // Two of its forks; the second may never be heard of, if it comes after a refusal.
                if is_invite && request.to_tag().is_none() {
                    self.answer(party, request, 200, late + 1_400);
                }
            }
            // Too late for anybody.
            16 => {
                self.answer(party, request, 200, 40_000);
            }
            17 => {
                self.answer(party, request, 100, late);
                self.answer(party, request, 603, late + 3_000);
            }
            _ => {}
        }
    }

    /// A peer will answer so, in so many milliseconds.
    fn answer(&mut self, party: &'static str, request: &Message, status: u16, late: u64) -> Message {
        let mut text = format!("SIP/2.0 {status} Because\r\n");
        for name in [Name::Via, Name::RecordRoute, Name::From, Name::CallId, Name::CSeq] {
            for row in request.rows(name) {
                text.push_str(&format!("{}: {row}\r\n", name.as_str()));
            }
        }
        let to = request.header(Name::To).unwrap_or_default();
        let tag = if request.to_tag().is_some() { String::new() } else { format!(";tag={}", party.replace('.', "-")) };
        // What the node says of itself is not for the outside.
        let tag = tag.replace("imp-", "n");
        text.push_str(&format!("To: {to}{tag}\r\nContact: <{}>\r\n", contact(party)));
        if NODES.contains(&party) {
            text.push_str("Server: imp-1 at 10.2.0.1\r\nWarning: 399 10.2.0.1 \"because\"\r\n");
        }
        text.push_str("Content-Length: 0\r\n\r\n");
        self.due.push((self.world.now + Duration::from_millis(late), party, text.clone().into_bytes()));
        Message::parse(text.into_bytes().into()).expect("an answer")
    }

    fn ask(&mut self, node: &'static str, partner: &'static str, is_inward: bool) {
        let (party, to) = match is_inward {
            true => (partner, format!("u{}@corp.example", self.rng.random_range(0..6))),
            false => (node, format!("w@{partner}")),
        };
        let method =
            ["MESSAGE", "MESSAGE", "SUBSCRIBE", "SUBSCRIBE", "INVITE", "INVITE", "OPTIONS", "REFER", "FROBNICATE"]
                [self.rng.random_range(0..9)];
        // Who pretends to be another partner's.
        let is_spoofed = is_inward && self.rng.random_bool(0.05);
        let domain = match (is_inward, is_spoofed) {
            (true, false) => partner,
            (true, true) => PARTNERS[(PARTNERS.iter().position(|p| *p == partner).unwrap_or(0) + 1) % 3],
            (false, _) => "corp.example",
        };
        let is_common = matches!(method, "MESSAGE" | "SUBSCRIBE" | "INVITE");
        let lync_may = match self.lync {
            Lync::Usual => true,
            Lync::Watch => method == "SUBSCRIBE",
            Lync::Nothing => false,
        };
        let forbidden = is_spoofed
            || partner == "lync.example" && !lync_may
            || is_inward && partner == "shut.example"
            || !is_common && partner != "all.example";
        self.next += 1;
        let number = self.next;
        let from = format!("<sip:w@{domain}>;tag=f{number}");
        let bytes = request(
            (method, &format!("sip:{to}")),
            party,
            (number, &from, &format!("<sip:{to}>"), &format!("call{number}")),
            &[],
        );
        self.send(party, number, bytes, forbidden, None);
    }

    fn ask_within(&mut self) {
        if self.ends.is_empty() {
            return;
        }
        let end = self.ends[self.rng.random_range(0..self.ends.len())].clone();
        let method = match (end.action, end.opener == end.party) {
            ("subscribe", true) => Method::Subscribe,
            ("subscribe", false) => Method::Notify,
            _ => [Method::Message, Method::Info, Method::Bye, Method::Update][self.rng.random_range(0..4)].clone(),
        };
        self.next += 1;
        let number = self.next;
        self.say(&end, method, number);
    }

    /// Says something within a dialog.
    fn say(&mut self, end: &End, method: Method, number: u32) {
        // COMPAT(aol): who ignores Record-Route is known by the target, or by what was seen.
        let routes: &[String] = if self.rng.random_bool(0.25) { &[] } else { &end.routes };
        let names = (number, end.own.as_str(), end.other.as_str(), end.call.as_str());
        let bytes = request((method.as_str(), &end.target), end.party, names, routes);
        if method == Method::Ack {
            self.world.sip(end.party, &bytes);
            return;
        }
        let lync_may = match self.lync {
            Lync::Usual => true,
            Lync::Watch => end.action == "subscribe",
            Lync::Nothing => false,
        };
        let forbidden = end.partner == "lync.example" && !lync_may;
        let owner = if NODES.contains(&end.party) { end.partner } else { end.node };
        self.send(end.party, number, bytes, forbidden, Some(owner));
    }

    fn send(
        &mut self,
        party: &'static str,
        number: u32,
        bytes: Vec<u8>,
        forbidden: bool,
        within: Option<&'static str>,
    ) {
        let method = Message::parse(bytes.clone().into()).expect("a request").method().cloned().expect("a method");
        self.trace(|| format!("{party} asks {}", line(&bytes)));
        let asked = Asked {
            party,
            method,
            sent: bytes.clone(),
            at: self.world.now,
            finals: Vec::new(),
            read_by: Vec::new(),
            said: false,
            forbidden,
            excused: false,
            within,
            cancelled: false,
        };
        self.asked.insert(number, asked);
        self.world.sip(party, &bytes);
        // The very same once more: while it is under way, nobody else hears of it.
        if self.rng.random_bool(0.05) {
            self.act();
            if self.asked.get(&number).is_some_and(|asked| asked.finals.is_empty() && !asked.excused) {
                self.trace(|| format!("{party} asks {number} again"));
                self.world.sip(party, &bytes);
            }
        }
    }

    fn cancel(&mut self) {
        let open = |asked: &Asked| {
            asked.method == Method::Invite && asked.finals.is_empty() && !asked.excused && !asked.cancelled
        };
        let open: Vec<u32> = self.asked.iter().filter(|(_, asked)| open(asked)).map(|(number, _)| *number).collect();
        if open.is_empty() {
            return;
        }
        let number = open[self.rng.random_range(0..open.len())];
        let Some(asked) = self.asked.get_mut(&number) else { return };
        asked.cancelled = true;
        let (party, sent) = (asked.party, Message::parse(asked.sent.clone().into()).expect("what was sent"));
        self.trace(|| format!("{party} cancels {number}"));
        self.world.sip(party, &like(&sent, "CANCEL", ""));
    }

    fn excuse(&mut self, of: impl Fn(&Asked) -> bool) {
        let open = self.asked.values_mut().filter(|asked| of(asked) && asked.finals.is_empty());
        open.for_each(|asked| asked.excused = true);
    }

    fn cut(&mut self, party: &'static str) {
        self.trace(|| format!("{party} is cut"));
        // It had read what was there.
        self.act();
        self.excuse(|asked| asked.party == party);
        let is_its = |asked: &Asked| {
            asked.read_by.last().is_some_and(|reader| reader == party)
                && asked.finals.is_empty()
                && !asked.excused
                && !asked.said
        };
        let its: Vec<u32> = self.asked.iter().filter(|(_, asked)| is_its(asked)).map(|(number, _)| *number).collect();
        self.world.cut(party);
        self.act();
        for number in its {
            let asked = &self.asked[&number];
            // What another node can take as well is tried there; of the rest it is known now that nobody knows.
            let may_repeat = matches!(asked.method, Method::Invite | Method::Subscribe | Method::Options);
            assert!(may_repeat || !asked.finals.is_empty() || asked.excused, "{number}: its sender is not told");
        }
    }

    fn heal(&mut self) {
        self.trace(|| "all are well".to_owned());
        self.world.mute.clear();
        for party in NODES.into_iter().chain(PARTNERS) {
            self.world.reachable(party);
        }
    }

    fn reload(&mut self) {
        self.act();
        self.lync = [Lync::Usual, Lync::Watch, Lync::Nothing][self.rng.random_range(0..3)];
        self.trace(|| format!("reload: lync.example: {:?}", self.lync));
        let was_there = self.world.connected().contains("lync.example");
        self.world.reload(&policy(self.lync, self.profile));
        if was_there && !self.world.connected().contains("lync.example") {
            self.excuse(|asked| asked.party == "lync.example");
        }
    }

    fn die(&mut self) {
        self.act();
        self.world.restart();
    }

    fn come_to_rest(&mut self) {
        self.resting = true;
        self.world.dies_after = None;
        self.heal();
        self.stopping = self.rng.random_bool(0.5);
        if self.stopping {
            let last = self.rng.random_bool(0.5);
            self.trace(|| format!("drain, for good: {last}"));
            self.world.input(Input::Drain { last });
        }
        // Timer C of what rings, Timer B of its CANCEL, Timer H.
        self.pass(400_000);
        if !self.stopping {
            self.world.input(Input::Drain { last: true });
            self.pass(40_000);
        }
    }

    fn judge(&self, seed: u64) {
        for (number, asked) in &self.asked {
            let finals = asked.finals.len();
            assert!(finals > 0 || asked.excused, "{number} of {} was never answered: {asked:?}", asked.party);
            let ended = asked.excused || asked.method == Method::Invite || finals == 1;
            assert!(ended, "{number} has {:?}", asked.finals);
        }
        assert!(self.world.gate.is_drained(), "seed {seed}: something is still owed");
        assert_eq!(self.world.gate.snapshot().unresolved, 0);
        // Nothing wakes the gate but the questions to its nodes, and what forgets dialogs.
        let tables = format!("{:?}", self.world.gate);
        for empty in ["contexts: {}", "of_partner: {}", "trying: []", "settling: []", "waiting: {}", "refused: {}"] {
            assert!(tables.contains(empty), "seed {seed}: not {empty}");
        }
        assert!(!tables.contains("Relayed("), "seed {seed}: a relayed request has a deadline still");
    }

    /// What is remembered of dialogs nobody ends is forgotten too.
    fn forget(&mut self, seed: u64) {
        self.pass(13 * 3_600_000);
        let snapshot = self.world.gate.snapshot();
        assert!(snapshot.subscriptions.is_empty() && snapshot.chats.is_empty(), "seed {seed}: {snapshot:?}");
        let tables = format!("{:?}", self.world.gate);
        assert!(tables.contains("dialogs: Dialogs { table: {}, ends: {}, counts: {}"), "seed {seed}: dialogs stay");
    }
}

fn line(bytes: &[u8]) -> String {
    let message = Message::parse(bytes.to_vec().into()).expect("a message");
    let start = String::from_utf8_lossy(bytes.split(|byte| *byte == b'\r').next().unwrap_or_default()).into_owned();
    format!("{start} [{}]", message.header(Name::CSeq).unwrap_or_default())
}

fn body(method: &str, number: u32) -> String {
    match method {
        "INVITE" => format!("v=0\r\nm=message 5060 sip null\r\na=number:{number}\r\n"),
        _ => number.to_string(),
    }
}

fn makes_dialog(request: &Message) -> bool {
    matches!(request.method(), Some(Method::Invite | Method::Subscribe)) && request.to_tag().is_none()
}

fn contact(party: &str) -> String {
    match party {
        "imp-1" => "sip:u@127.0.0.1:5070;transport=tcp".to_owned(),
        "imp-2" => "sip:u@127.0.0.2:5070;transport=tcp".to_owned(),
        partner => format!("sip:w@sip.{partner}:5061;transport=tls"),
    }
}

fn request(
    (method, uri): (&str, &str),
    party: &str,
    (number, from, to, call): (u32, &str, &str, &str),
    routes: &[String],
) -> Vec<u8> {
    let via = match party {
        "imp-1" => "SIP/2.0/TCP 127.0.0.1:5070".to_owned(),
        "imp-2" => "SIP/2.0/TCP 127.0.0.2:5070".to_owned(),
        partner => format!("SIP/2.0/TLS sip.{partner}:5061"),
    };
    let mut text = format!(
        "{method} {uri} SIP/2.0\r\nVia: {via};branch=z9hG4bKsim{number}{}\r\nMax-Forwards: 70\r\nFrom: {from}\r\nTo: {to}\r\n\
         Call-ID: {call}\r\nCSeq: {number} {method}\r\nContact: <{}>\r\n",
        method.to_lowercase(),
        contact(party)
    );
    for route in routes {
        text.push_str(&format!("Route: {route}\r\n"));
    }
    let body = body(method, number);
    match method {
        "SUBSCRIBE" => text.push_str("Event: presence\r\nExpires: 3600\r\n"),
        "NOTIFY" => text.push_str("Event: presence\r\nSubscription-State: active;expires=3000\r\n"),
        "REFER" => text.push_str("Refer-To: <sip:x@all.example>\r\n"),
        _ => {}
    }
    let kind = if method == "INVITE" { "application/sdp" } else { "text/plain" };
    text.push_str(&format!("Content-Type: {kind}\r\n"));
    text.push_str(&format!("Content-Length: {}\r\n\r\n{body}", body.len()));
    text.into_bytes()
}

/// CANCEL or ACK of a request, or what a CANCEL was for: the same top Via.
fn like(sent: &Message, method: &str, to: &str) -> Vec<u8> {
    let Start::Request { uri, .. } = sent.start() else { panic!("a response") };
    let row = |name| sent.header(name).unwrap_or_default();
    let to = if to.is_empty() { row(Name::To) } else { to };
    let number = sent.cseq_number().unwrap_or_default();
    // The branch of a CANCEL that was read is our own; what it cancels bears it too.
    format!(
        "{method} {uri} SIP/2.0\r\nVia: {}\r\nMax-Forwards: 70\r\nFrom: {}\r\nTo: {to}\r\nCall-ID: {}\r\nCSeq: {number} {method}\r\n\
         Content-Length: 0\r\n\r\n",
        row(Name::Via),
        row(Name::From),
        row(Name::CallId)
    )
    .into_bytes()
}
