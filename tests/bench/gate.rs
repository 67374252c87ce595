//! `tests/bench/run gate [rounds]`: what the pure gate alone takes for a relayed request and its answer, in nanoseconds: no socket, no TLS, no task.
//!
//! Under `valgrind --tool=callgrind --toggle-collect='gate::World::input' --toggle-collect='gate::World::cut'`, with few rounds, it says where the
//! instructions go, whatever else the machine does.

#[allow(dead_code)]
#[path = "../support/pki.rs"]
mod pki;

use bytes::Bytes;
use fedgate::config::{self, Options};
use fedgate::gate::{Gate, HopId, Incoming, Input, LinkId, Output, Proof, Proven, Side, Target, Time};
use fedgate::wire::sip::header::Name;
use fedgate::wire::sip::{Frame, Framer, Message};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

const CONFIG: &str = r#"
[edge]
policies = "policies"
[[identity]]
hostname = "sip.corp.example"
domains = ["corp.example"]
certificate = "edge.pem"
key = "edge.key"
[tls]
trust = ["ca.pem"]
[outside]
sip = ["127.0.0.1:5061"]
[inside]
sip = ["tcp:127.0.0.7:5062"]
networks = ["127.0.0.0/8"]
[[node]]
name = "imp-1"
protocol = "sip"
address = "127.0.0.2:5070"
domains = ["corp.example"]
[state]
engine = "memory"
secrets = ["test-secret-of-the-worlds"]
"#;

const POLICY: &str = r#"
[[partner]]
domain = "lync.example"
protocol = "sip"
profile = "lync"
limits = { messages_per_second = 100000000, subscriptions = 1000000 }
"#;

const PARTNER: LinkId = LinkId(1);
const NODE: LinkId = LinkId(2);
const FROM_NODE: LinkId = LinkId(3);
const TO_PARTNER: LinkId = LinkId(4);

struct World {
    gate: Gate,
    framer: Framer,
    now: Time,
    next: u64,
    sent: Vec<(LinkId, Bytes)>,
    asked: Option<Bytes>,
    /// In the framer, and in the gate.
    took: [Duration; 2],
}

impl World {
    fn new() -> Self {
        let now = Time::from_unix_seconds(
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs(),
        );
        let texts = [("fedgate.toml", CONFIG), ("policies/test.toml", POLICY)];
        let folder = pki::pki().folder.clone();
        let report = config::load_str(folder, "fedgate.toml", texts, Options::check(now));
        let settings = report.into_result().expect("a configuration").gate;
        let mut world = Self {
            gate: Gate::new(settings, [7; 32], now),
            framer: Framer::new(65_536, 65_536),
            now,
            next: 0,
            sent: Vec::new(),
            asked: None,
            took: [Duration::ZERO; 2],
        };
        world.proven(PARTNER, Side::Outside, None);
        world.proven(FROM_NODE, Side::Inside, None);
        world.input(Input::Timeout);
        world
    }

    fn proven(&mut self, link: LinkId, side: Side, hop: Option<HopId>) {
        let chain = (side == Side::Outside).then(|| pki::pki().chain("ca", "sip.lync.example"));
        let dialled = (link == TO_PARTNER).then(|| ("sip.lync.example".to_owned(), false));
        let proof = Proof::Sip { chain, dialled, others: false };
        let last = if side == Side::Outside { 9 } else { 2 };
        let peer = SocketAddr::from(([127, 0, 0, last], 40_000));
        self.input(Input::Proven(Box::new(Proven { link, side, peer, hop, door: None, proof })));
    }

    #[inline(never)]
    fn input(&mut self, input: Input) {
        let begun = Instant::now();
        self.gate.handle_input(self.now, input);
        while let Some(output) = self.gate.poll_output() {
            match output {
                // Whether it is well.
                Output::Send { link: NODE, bytes, .. } if bytes.starts_with(b"OPTIONS") => self.asked = Some(bytes),
                Output::Send { link, bytes, .. } => self.sent.push((link, bytes)),
                Output::Connect { hop, target: Target::SipNode { .. } } => self.proven(NODE, Side::Inside, Some(hop)),
                Output::Connect { hop, target: Target::SipPartner { .. } } => {
                    self.proven(TO_PARTNER, Side::Outside, Some(hop));
                }
                _ => {}
            }
        }
        self.took[1] += begun.elapsed();
    }

    fn frame(&mut self, text: &str) -> Message {
        self.framer.buffer().extend_from_slice(text.as_bytes());
        match self.cut() {
            Some(Frame::Message(message)) => message,
            other => panic!("{other:?}"),
        }
    }

    #[inline(never)]
    fn cut(&mut self) -> Option<Frame> {
        let begun = Instant::now();
        let frame = self.framer.next();
        self.took[0] += begun.elapsed();
        frame
    }

    fn message(&mut self) {
        self.next += 1;
        let next = self.next;
        let user = next % 1000;
        let body = "x".repeat(300);
        let mut text = format!("MESSAGE sip:user{user}@corp.example SIP/2.0\r\n");
        let _ = write!(
            text,
            "Via: SIP/2.0/TLS sip.lync.example:5061;branch=z9hG4bK{next:016x};rport\r\nMax-Forwards: 70\r\n\
             From: \"Romeo Montague\" <sip:romeo{user}@lync.example>;epid=01020304;tag=a{next}\r\nTo: <sip:user{user}@corp.example>\r\n\
             Call-ID: {next:032x}\r\nCSeq: 1 MESSAGE\r\nUser-Agent: UCCAPI/16.0.4266.1001 OC/16.0.4266.1001 (Skype for Business)\r\n\
             Supported: ms-dialog-route-set-update\r\nAllow: INVITE, BYE, ACK, CANCEL, INFO, MESSAGE, UPDATE, SUBSCRIBE, NOTIFY\r\n\
             Contact: <sip:romeo{user}@lync.example;opaque=user:epid:abcdefghijkl;gruu>\r\nContent-Type: text/plain; charset=UTF-8\r\n\
             Content-Length: 300\r\n\r\n{body}"
        );
        let message = self.frame(&text);
        self.input(Input::Received { link: PARTNER, at: self.now, message: Incoming::Sip(message) });
        let (link, bytes) = self.sent.pop().expect("handed on");
        assert_eq!(link, NODE);
        let request = Message::parse(bytes).expect("a message");
        self.answer(NODE, &request, &format!("To: {};tag=b{next}\r\n", request.header(Name::To).unwrap_or_default()));
        assert_eq!(self.sent.pop().map(|(link, _)| link), Some(PARTNER), "handed back");
        self.now = self.now + Duration::from_micros(20);
    }

    /// 200 to what was handed on, with these rows beside what it must repeat.
    fn answer(&mut self, link: LinkId, request: &Message, rows: &str) {
        let mut answer = "SIP/2.0 200 OK\r\n".to_owned();
        let names = [Name::Via, Name::RecordRoute, Name::From, Name::CallId, Name::CSeq];
        for name in names {
            for row in request.rows(name) {
                let _ = write!(answer, "{}: {row}\r\n", name.as_str());
            }
        }
        let _ = write!(answer, "{rows}Server: imp\r\nContent-Length: 0\r\n\r\n");
        let response = self.frame(&answer);
        self.input(Input::Received { link, at: self.now, message: Incoming::Sip(response) });
    }

    /// The node says that it is well.
    fn well(&mut self) {
        self.input(Input::Timeout);
        if let Some(asked) = self.asked.take() {
            let request = Message::parse(asked).expect("a message");
            let to = request.header(Name::To).unwrap_or_default().to_owned();
            self.answer(NODE, &request, &format!("To: {to};tag=w\r\n"));
        }
    }

    fn subscription(&mut self) {
        self.next += 1;
        let next = self.next;
        let user = next % 1000;
        let text = format!(
            "SUBSCRIBE sip:user{user}@corp.example SIP/2.0\r\nVia: SIP/2.0/TLS sip.lync.example:5061;branch=z9hG4bK{next:016x}\r\n\
             Max-Forwards: 70\r\nFrom: <sip:romeo{user}@lync.example>;tag=a{next}\r\nTo: <sip:user{user}@corp.example>\r\n\
             Call-ID: {next:032x}\r\nCSeq: 1 SUBSCRIBE\r\nContact: <sip:romeo{user}@sip.lync.example:5061;transport=tls>\r\n\
             Event: presence\r\nAccept: application/pidf+xml\r\nExpires: 3600\r\nContent-Length: 0\r\n\r\n"
        );
        let message = self.frame(&text);
        self.input(Input::Received { link: PARTNER, at: self.now, message: Incoming::Sip(message) });
        let (_, bytes) = self.sent.pop().expect("handed on");
        let request = Message::parse(bytes).expect("a message");
        let routes: String = request.values(Name::RecordRoute).map(|value| format!("Route: {value}\r\n")).collect();
        let (from, to) = (request.header(Name::From).unwrap_or_default(), request.header(Name::To).unwrap_or_default());
        let rows = format!(
            "To: {to};tag=b{next}\r\nRecord-Route: <sip:10.1.0.1;lr>\r\nContact: <sip:user{user}@10.1.0.9:5060;transport=tcp>\r\nExpires: 3600\r\n"
        );
        self.answer(NODE, &request, &rows);
        assert_eq!(self.sent.pop().map(|(link, _)| link), Some(PARTNER), "handed back");
        let body = "<presence xmlns='urn:ietf:params:xml:ns:pidf' entity='pres:user@corp.example'/>";
        let text = format!(
            "NOTIFY sip:romeo{user}@sip.lync.example:5061;transport=tls SIP/2.0\r\n\
             Via: SIP/2.0/TCP 127.0.0.2:5070;branch=z9hG4bKn{next:016x}\r\nMax-Forwards: 70\r\n{routes}From: {to};tag=b{next}\r\n\
             To: {from}\r\nCall-ID: {next:032x}\r\nCSeq: 1 NOTIFY\r\nContact: <sip:user{user}@10.1.0.9:5060;transport=tcp>\r\n\
             Event: presence\r\nSubscription-State: active;expires=3600\r\nContent-Type: application/pidf+xml\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let message = self.frame(&text);
        self.input(Input::Received { link: FROM_NODE, at: self.now, message: Incoming::Sip(message) });
        let (link, bytes) = self.sent.pop().expect("handed on");
        let request = Message::parse(bytes).expect("a message");
        assert!(request.is_request(), "{request:?}");
        let to = format!("To: {}\r\n", request.header(Name::To).unwrap_or_default());
        self.answer(link, &request, &to);
        assert_eq!(self.sent.pop().map(|(link, _)| link), Some(FROM_NODE), "handed back");
        self.now = self.now + Duration::from_micros(40);
    }
}

fn main() {
    let rounds = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(100_000_u32);
    let mut world = World::new();
    let mut measure = |what: &str, step: fn(&mut World)| {
        for _ in 0..rounds / 20 {
            step(&mut world);
            world.well();
        }
        world.took = [Duration::ZERO; 2];
        for _ in 0..rounds {
            step(&mut world);
            world.well();
        }
        let [frame, gate] = world.took.map(|took| took.as_nanos() / u128::from(rounds));
        println!("{what}, relayed: {frame} ns in the framer, {gate} ns in the gate");
    };
    measure("a MESSAGE of 300 bytes and its 200", World::message);
    measure("a SUBSCRIBE, its NOTIFY and their 200s", World::subscription);
}
