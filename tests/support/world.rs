//! The gate between partners and nodes, in virtual time: the same three verbs as in production, no socket.

use super::pki::pki;
use bytes::Bytes;
use fedgate::config::{self, Options};
use fedgate::gate::partner::{self, NodeProtocol};
use fedgate::gate::peer::{Evidence, Opened};
use fedgate::gate::reject::Reason;
use fedgate::gate::settings::Settings;
use fedgate::gate::{
    Event, Gate, HopId, Incoming, Input, LinkId, Other, Output, Proof, Proven, Record, RecordId, Side, Target, Time,
};
use fedgate::io::held::{Held, Mark};
use fedgate::wire::address::{Domain, Jid};
use fedgate::wire::certificate::Chain;
use fedgate::wire::sip::{self, Frame, Framer};
use fedgate::wire::xmpp::{Element, NS_SERVER, Stanza};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// Where the worlds begin: after the test certificates do, before they end.
pub fn start() -> Time {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    Time::from_unix_seconds(now.as_secs())
}

/// The configuration most worlds use; policies are appended.
pub const CONFIG: &str = r#"
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
xmpp = ["127.0.0.8:5269"]
[inside]
xmpp = ["127.0.0.1:5270"]
networks = ["127.0.0.0/8"]
[[node]]
name = "imp-1"
protocol = "xmpp"
address = "127.0.0.1:5269"
domains = ["corp.example"]
[state]
engine = "memory"
secrets = ["test-secret-of-the-worlds"]
"#;

/// The partner most worlds have.
pub const POLICY: &str = r#"
[[partner]]
domain = "lync.example"
protocol = "sip"
profile = "lync"
chat = "page"
"#;

/// What a party saw.
#[derive(Debug, Clone)]
pub enum Seen {
    Sip(sip::Message),
    Xml(Element),
}

/// A world.
pub struct World {
    pub gate: Gate,
    pub now: Time,
    pub config: String,
    pub policy: String,
    /// What each party received and no statement has taken yet.
    pub inbox: BTreeMap<String, VecDeque<Seen>>,
    /// What happened.
    pub events: Vec<Event>,
    /// What is durable.
    pub records: BTreeMap<RecordId, Record>,
    /// Whether what is to be kept waits for [`World::commit`]; else it is durable at once.
    pub lags: bool,
    /// What waits, `None` for what is forgotten.
    uncommitted: Vec<(RecordId, Option<Record>)>,
    /// The sends that wait for it.
    behind: Held<(LinkId, Bytes)>,
    committed: Mark,
    /// Parties that do not answer connections.
    pub unreachable: BTreeSet<String>,
    /// Who answers in their stead is somebody else.
    pub impostors: BTreeSet<String>,
    /// Parties whose connections are neither made nor refused until [`World::reachable`].
    pub slow: BTreeSet<String>,
    /// What was asked of those.
    held: Vec<(HopId, Target)>,
    /// (authority, host) of the certificate a party shows; default: `ca`, `sip.<domain>`.
    pub certificates: BTreeMap<String, (String, String)>,
    /// Links by party: those it opened to us (`in`) and we to it (`out`, by pair).
    links: BTreeMap<LinkId, Wire>,
    next_link: u64,
    restarts: u8,
    /// The XMPP nodes' names.
    xmpp_nodes: BTreeSet<String>,
    /// Parties that acknowledge what is sent to them (XEP-0198).
    pub managed: BTreeSet<String>,
    /// Parties on whose streams stanzas flow both ways (XEP-0288).
    pub both_ways: BTreeSet<String>,
    /// What a party has not acknowledged, by link.
    unacknowledged: BTreeMap<LinkId, VecDeque<u64>>,
    /// The stream errors with which a party's streams were ended.
    pub stream_errors: BTreeMap<String, VecDeque<String>>,
    /// The last that was written, as it was: to whom, and what.
    pub written: VecDeque<(String, Bytes)>,
    /// SIP nodes by name, and where each connects from.
    sip_nodes: BTreeMap<String, IpAddr>,
    /// SIP nodes that do not answer when asked whether they are well.
    pub mute: BTreeSet<String>,
    /// Partners that are known at several addresses.
    pub elsewhere: BTreeSet<String>,
    /// Answers of the others.
    well: Vec<(LinkId, sip::Message)>,
    /// The process dies after so many more outputs.
    pub dies_after: Option<u32>,
    /// How often it died.
    pub deaths: u32,
    /// How much was durable when it died last.
    pub committed_at_death: Mark,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Wire {
    party: String,
    ours: bool,
    carries: Carries,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Carries {
    Sip,
    Pair(Domain, Domain),
    Component(Domain),
}

/// The same with the node attached to as a component's server.
pub fn with_component(config: &str) -> String {
    config.replace("protocol = \"xmpp\"", "protocol = \"xmpp-component\"\nsecret = \"s3cr3t\"")
}

/// The same with two SIP nodes in the place of the XMPP one.
pub fn with_sip_nodes(config: &str) -> String {
    let (before, after) = config.split_once("[[node]]").expect("a node");
    let (_, after) = after.split_once("[state]").expect("[state] behind it");
    let node = |name: &str, address: &str| {
        format!(
            "[[node]]\nname = \"{name}\"\nprotocol = \"sip\"\naddress = \"{address}:5070\"\ndomains = [\"corp.example\"]\n"
        )
    };
    let before = before.replace("xmpp = [\"127.0.0.1:5270\"]", "sip = [\"tcp:127.0.0.7:5062\"]");
    format!("{before}{}{}[state]{after}", node("imp-1", "127.0.0.1"), node("imp-2", "127.0.0.2"))
}

impl World {
    pub fn new() -> Self {
        Self::with(CONFIG, POLICY)
    }

    pub fn with(config: &str, policy: &str) -> Self {
        let now = start();
        let settings = settings(config, policy, now);
        let mut world = Self {
            xmpp_nodes: xmpp_nodes(&settings),
            managed: BTreeSet::new(),
            both_ways: BTreeSet::new(),
            unacknowledged: BTreeMap::new(),
            stream_errors: BTreeMap::new(),
            written: VecDeque::new(),
            sip_nodes: sip_nodes(&settings),
            mute: BTreeSet::new(),
            elsewhere: BTreeSet::new(),
            well: Vec::new(),
            gate: Gate::new(settings, [7; 32], now),
            now,
            config: config.to_owned(),
            policy: policy.to_owned(),
            inbox: BTreeMap::new(),
            events: Vec::new(),
            records: BTreeMap::new(),
            lags: false,
            uncommitted: Vec::new(),
            behind: Held::new(),
            committed: 0,
            unreachable: BTreeSet::new(),
            impostors: BTreeSet::new(),
            slow: BTreeSet::new(),
            held: Vec::new(),
            certificates: BTreeMap::new(),
            links: BTreeMap::new(),
            next_link: 1,
            restarts: 0,
            dies_after: None,
            deaths: 0,
            committed_at_death: 0,
        };
        world.pump();
        world
    }

    /// Feeds one input and carries out everything it leads to, at once.
    pub fn input(&mut self, input: Input) {
        self.gate.handle_input(self.now, input);
        self.pump();
    }

    /// Lets time pass, deadline by deadline.
    pub fn advance(&mut self, by: Duration) {
        let until = self.now + by;
        for _ in 0..100_000 {
            match self.gate.poll_timeout() {
                Some(at) if at <= until => {
                    self.now = self.now.max(at);
                    self.input(Input::Timeout);
                }
                _ => {
                    self.now = until;
                    return;
                }
            }
        }
        panic!("the gate's deadlines do not come to rest: {:?}", self.gate.poll_timeout());
    }

    /// What was to be kept is durable now; what waited for it is sent.
    pub fn commit(&mut self) {
        self.commit_in_secret();
        let mut released = Vec::new();
        self.committed = self.behind.last();
        self.behind.committed(self.committed, |send| released.push(send));
        for (link, bytes) in released {
            self.sent(link, bytes);
        }
    }

    /// As [`commit`](Self::commit), but the process does not learn it any more.
    pub fn commit_in_secret(&mut self) {
        for (id, record) in self.uncommitted.drain(..) {
            match record {
                Some(record) => self.records.insert(id, record),
                None => self.records.remove(&id),
            };
        }
    }

    /// How much was to be kept so far, and how much of it is durable.
    pub fn marks(&self) -> (Mark, Mark) {
        (self.behind.last(), self.committed)
    }

    /// The process dies and a new one starts from what was kept. What was not durable is lost, and what waited for it.
    pub fn restart(&mut self) {
        self.restart_after(Duration::ZERO);
    }

    /// As [`restart`](Self::restart), after so long a time without an edge.
    pub fn restart_after(&mut self, down: Duration) {
        self.now = self.now + down;
        self.restarts = self.restarts.wrapping_add(1);
        self.deaths += 1;
        self.committed_at_death = self.committed;
        self.uncommitted.clear();
        let last = self.behind.last();
        self.behind.committed(last, drop);
        self.committed = last;
        self.links.clear();
        self.unacknowledged.clear();
        self.held.clear();
        self.gate =
            Gate::new(settings(&self.config, &self.policy, self.now), [self.restarts.wrapping_add(7); 32], self.now);
        for record in self.records.values().cloned().collect::<Vec<_>>() {
            self.input(Input::Restored(record));
        }
        // All has been read.
        self.input(Input::Timeout);
    }

    pub fn reload(&mut self, policy: &str) {
        self.policy = policy.to_owned();
        let settings = settings(&self.config, policy, self.now);
        self.sip_nodes = sip_nodes(&settings);
        self.xmpp_nodes = xmpp_nodes(&settings);
        self.input(Input::Reload(Box::new(settings)));
        self.advance(Duration::ZERO);
    }

    /// A SIP partner's bytes arrive, on the link it opened.
    pub fn sip(&mut self, party: &str, bytes: &[u8]) {
        let link = match self.sip_nodes.get(party) {
            Some(from) => self.link_of_sip_node(party, *from),
            None => self.link_of_partner(party),
        };
        let mut framer = Framer::new(65_536, 65_536);
        framer.buffer().extend_from_slice(bytes);
        while let Some(frame) = framer.next() {
            let message = match frame {
                Frame::Ping => continue,
                Frame::Message(message) => Incoming::Sip(message),
                Frame::Bad { message, fault, fatal } => Incoming::BadSip { message, fault, fatal },
            };
            self.input(Input::Received { link, at: self.now, message });
        }
    }

    /// A partner answers on the link we opened to it.
    pub fn sip_answer(&mut self, party: &str, bytes: &[u8]) {
        // The newest: what an older one still carries is answered by nobody here.
        let Some((link, _)) = self.links.iter().rfind(|(_, w)| w.party == party && w.ours) else {
            panic!("{party} has no connection of ours to answer on");
        };
        let message = sip::Message::parse(Bytes::copy_from_slice(bytes)).expect("a message");
        let link = *link;
        self.input(Input::Received { link, at: self.now, message: Incoming::Sip(message) });
    }

    /// A stanza of a node or an XMPP partner arrives, on a stream it opened for its pair of domains.
    pub fn stanza(&mut self, party: &str, stanza: &Element) {
        self.stanza_text(party, &stanza.print(NS_SERVER));
    }

    /// As [`stanza`](Self::stanza), byte for byte.
    pub fn stanza_text(&mut self, party: &str, text: &str) {
        let raw = Bytes::copy_from_slice(text.as_bytes());
        let stanza = Stanza::parse(raw, NS_SERVER).expect("well-formed").expect("a stanza");
        let domain = |jid: &Result<Option<Jid>, _>, name| match jid {
            Ok(Some(jid)) => jid.bare.domain().clone(),
            Ok(None) => panic!("a stanza needs from and to"),
            // Its server knows where to at least.
            Err(_) => {
                let written = stanza.element().get_attr(name).expect("an address").to_owned();
                let bare = written.split('/').next().unwrap_or_default();
                Domain::parse(bare.rsplit('@').next().unwrap_or_default()).expect("a domain")
            }
        };
        let pair = (domain(&stanza.from, "from"), domain(&stanza.to, "to"));
        if self.is_cut_off(party) && self.xmpp_nodes.contains(party) {
            // A server bounces or forgets what is for a component that is not there; it does not come to us.
            return;
        }
        let link = match self.xmpp_nodes.contains(party) {
            true => self.link_of_node(party, pair),
            false => self.stream_of_partner(party, pair),
        };
        self.input(Input::Received { link, at: self.now, message: Incoming::Stanza(stanza) });
    }

    /// A stanza arrives on a stream of the party's, whatever that has proven.
    pub fn forged(&mut self, party: &str, text: &str) {
        let stanza = Stanza::parse(Bytes::copy_from_slice(text.as_bytes()), NS_SERVER);
        let stanza = stanza.expect("well-formed").expect("a stanza");
        let theirs = |(_, wire): &(&LinkId, &Wire)| wire.party == party && !wire.ours;
        let (link, _) = self.links.iter().find(theirs).expect("a stream of its own");
        self.input(Input::Received { link: *link, at: self.now, message: Incoming::Stanza(stanza) });
    }

    /// A party acknowledges the first of what it was sent and has not acknowledged (XEP-0198 §4). How many that were.
    pub fn take(&mut self, party: &str, count: usize) -> usize {
        let of_party = |wire: Option<&Wire>| wire.is_some_and(|wire| wire.party == party);
        let link = self.unacknowledged.keys().copied().find(|link| of_party(self.links.get(link)));
        let Some(link) = link else { return 0 };
        let Some(waiting) = self.unacknowledged.get_mut(&link) else { return 0 };
        let receipts: Vec<u64> = waiting.drain(..count.min(waiting.len())).collect();
        if waiting.is_empty() {
            self.unacknowledged.remove(&link);
        }
        let count = receipts.len();
        self.input(Input::Taken { link, receipts });
        count
    }

    /// A node wants to hear that its stanzas are handled, on the stream it opened. `false`: there is none.
    pub fn ask_ack(&mut self, node: &str, handled: u32) -> bool {
        let theirs = |wire: &Wire| wire.party == node && !wire.ours && matches!(wire.carries, Carries::Pair(..));
        let Some(link) = self.links.iter().find(|(_, wire)| theirs(wire)).map(|(link, _)| *link) else { return false };
        self.input(Input::AckAsked { link, handled });
        true
    }

    /// Every connection of a party is cut.
    pub fn cut(&mut self, party: &str) {
        let gone: Vec<LinkId> = self.links.iter().filter(|(_, w)| w.party == party).map(|(id, _)| *id).collect();
        for link in gone {
            self.links.remove(&link);
            self.input(Input::Closed { link, cause: "cut".to_owned() });
        }
    }

    /// The connections that the party opened are cut, those of ours stay.
    pub fn cut_theirs(&mut self, party: &str) {
        let theirs = self.links.iter().filter(|(_, wire)| wire.party == party && !wire.ours);
        for link in theirs.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.links.remove(&link);
            self.input(Input::Closed { link, cause: "cut".to_owned() });
        }
    }

    /// Whether a connection of ours to this party is there.
    pub fn has_our_link(&self, party: &str) -> bool {
        self.links.values().any(|wire| wire.party == party && wire.ours)
    }

    /// How many connections of ours to this party there are.
    pub fn our_links(&self, party: &str) -> usize {
        self.links.values().filter(|wire| wire.party == party && wire.ours).count()
    }

    /// Whether a node takes components and we are none of them.
    pub fn is_cut_off(&self, node: &str) -> bool {
        self.config.contains("xmpp-component") && self.attached(node).is_empty()
    }

    /// As whom a party's server has us as its component.
    pub fn attached(&self, party: &str) -> BTreeSet<&str> {
        let of_party = self.links.values().filter(|wire| wire.party == party);
        of_party
            .filter_map(|wire| match &wire.carries {
                Carries::Component(domain) => Some(domain.as_str()),
                _ => None,
            })
            .collect()
    }

    /// The parties whose connections are there.
    pub fn connected(&self) -> BTreeSet<&str> {
        self.links.values().map(|wire| wire.party.as_str()).collect()
    }

    /// Reasons of the refusals so far.
    pub fn refusals(&self) -> Vec<Reason> {
        self.events
            .iter()
            .filter_map(|event| match event {
                Event::Decided(decision) => decision.refused,
                _ => None,
            })
            .collect()
    }

    /// Whether a party is a SIP node, and where it is.
    pub fn sip_node(&self, party: &str) -> Option<IpAddr> {
        self.sip_nodes.get(party).copied()
    }

    pub fn link_of_partner(&mut self, party: &str) -> LinkId {
        let is_it = |wire: &Wire| wire.party == party && !wire.ours && wire.carries == Carries::Sip;
        if let Some((link, _)) = self.links.iter().find(|(_, wire)| is_it(wire)) {
            return *link;
        }
        let link = self.new_link(Wire { party: party.to_owned(), ours: false, carries: Carries::Sip });
        self.prove_sip(link, party, None, None);
        link
    }

    /// The connection that a SIP node opened to us.
    fn link_of_sip_node(&mut self, node: &str, from: IpAddr) -> LinkId {
        if let Some((link, _)) = self.links.iter().find(|(_, wire)| wire.party == node && !wire.ours) {
            return *link;
        }
        let link = self.new_link(Wire { party: node.to_owned(), ours: false, carries: Carries::Sip });
        let proof = Proof::Sip { chain: None, dialled: None, others: false };
        let peer = SocketAddr::new(from, 40_000);
        let proven = Proven { link, side: Side::Inside, peer, hop: None, door: None, proof };
        self.input(Input::Proven(Box::new(proven)));
        link
    }

    fn link_of_node(&mut self, node: &str, pair: (Domain, Domain)) -> LinkId {
        let (component, theirs) = (Carries::Component(pair.1.clone()), Carries::Pair(pair.0.clone(), pair.1.clone()));
        let known = self
            .links
            .iter()
            .find(|(_, w)| w.party == node && (w.carries == component || !w.ours && w.carries == theirs));
        if let Some((link, _)) = known {
            return *link;
        }
        let link = self.new_link(Wire { party: node.to_owned(), ours: false, carries: theirs });
        let proof = by_node(pair, false, node.to_owned(), false);
        let proven = Proven { link, side: Side::Inside, peer: address(1), hop: None, door: None, proof };
        self.input(Input::Proven(Box::new(proven)));
        link
    }

    /// The stream of an XMPP partner for a pair of domains: one that it opened, or that carries both ways.
    fn stream_of_partner(&mut self, party: &str, pair: (Domain, Domain)) -> LinkId {
        let both_ways = self.both_ways.contains(party);
        let (theirs, ours) =
            (Carries::Pair(pair.0.clone(), pair.1.clone()), Carries::Pair(pair.1.clone(), pair.0.clone()));
        let known = self.links.iter().find(|(_, wire)| {
            wire.party == party
                && (!wire.ours && wire.carries == theirs || both_ways && wire.ours && wire.carries == ours)
        });
        if let Some((link, _)) = known {
            return *link;
        }
        let link = self.new_link(Wire { party: party.to_owned(), ours: false, carries: theirs });
        let chain = self.chain_for(party, &pair.0);
        let proof = self.by_partner(party, (pair.0, pair.1), false, chain);
        let proven = Proven { link, side: Side::Outside, peer: address(9), hop: None, door: None, proof };
        self.input(Input::Proven(Box::new(proven)));
        link
    }

    /// What a partner shows for a domain of its: by default a certificate for that.
    fn chain_for(&self, party: &str, domain: &Domain) -> Arc<Chain> {
        match self.certificates.get(party) {
            Some((authority, host)) => pki().chain(authority, host),
            None => pki().chain("ca", domain.as_str()),
        }
    }

    /// What a partner's stream has proven by its certificate.
    fn by_partner(&self, party: &str, (from, to): (Domain, Domain), ours: bool, chain: Arc<Chain>) -> Proof {
        let opened = match ours {
            true => Opened::ByUs { domain: to.clone(), host: None, typed: false },
            false => Opened::ByPeer,
        };
        let evidence = Evidence { tls: true, chain: Some(chain), by: partner::Proof::Certificate, opened };
        let (both_ways, managed) = (self.both_ways.contains(party), self.managed.contains(party));
        Proof::Xmpp { from, to, ours, both_ways, managed, other: Other::Partner(evidence) }
    }

    fn new_link(&mut self, wire: Wire) -> LinkId {
        let link = LinkId(self.next_link);
        self.next_link += 1;
        self.links.insert(link, wire);
        link
    }

    /// What a SIP partner shows: by default a certificate for its host.
    fn chain_of(&self, party: &str) -> Arc<Chain> {
        let host = format!("sip.{party}");
        let (authority, host) = self.certificates.get(party).cloned().unwrap_or_else(|| ("ca".to_owned(), host));
        pki().chain(&authority, &host)
    }

    fn prove_sip(&mut self, link: LinkId, party: &str, hop: Option<HopId>, dialled: Option<(String, bool)>) {
        let chain = Some(self.chain_of(party));
        let proof = Proof::Sip { chain, dialled, others: self.elsewhere.contains(party) };
        let proven = Proven { link, side: Side::Outside, peer: address(9), hop, door: None, proof };
        self.input(Input::Proven(Box::new(proven)));
    }

    fn pump(&mut self) {
        while let Some(output) = self.gate.poll_output() {
            if let Some(left) = &mut self.dies_after {
                if *left == 0 {
                    self.dies_after = None;
                    self.restart();
                    return;
                }
                *left -= 1;
            }
            match output {
                Output::Send { link, bytes, lane, receipt, .. } => {
                    if let Some(receipt) = receipt {
                        self.unacknowledged.entry(link).or_default().push_back(receipt);
                    }
                    if let Some((link, bytes)) = self.behind.push(lane, (link, bytes)) {
                        self.sent(link, bytes);
                    }
                }
                Output::Connect { hop, target } => self.connect(hop, target),
                Output::Close { link, error } => {
                    if let Some(wire) = self.links.remove(&link) {
                        if let Some((error, _)) = error {
                            self.stream_errors.entry(wire.party).or_default().push_back(error.to_string());
                        }
                        self.gate.handle_input(self.now, Input::Closed { link, cause: "closed by us".to_owned() });
                    }
                }
                Output::Keep { lane, record } => {
                    self.behind.mark(lane);
                    self.uncommitted.push((record.id.clone(), Some(*record)));
                    self.commit_unless_lagging();
                }
                Output::Forget { lane, id } => {
                    self.behind.mark(lane);
                    self.uncommitted.push((id, None));
                    self.commit_unless_lagging();
                }
                Output::Settled(settled) => self.events.push(Event::Settled(settled)),
                Output::Event(event) => self.events.push(*event),
            }
        }
        for (link, question) in std::mem::take(&mut self.well) {
            let answer = sip::compose::Response {
                request: &question,
                status: 200,
                reason: None,
                to_tag: Some("well"),
                record_route: false,
                headers: &[],
                body: None,
            };
            let message = sip::Message::parse(answer.print()).expect("a message");
            self.input(Input::Received { link, at: self.now, message: Incoming::Sip(message) });
        }
    }

    fn commit_unless_lagging(&mut self) {
        if !self.lags {
            self.commit();
        }
    }

    fn sent(&mut self, link: LinkId, bytes: Bytes) {
        let Some(wire) = self.links.get(&link).cloned() else { return };
        self.written.push_back((wire.party.clone(), bytes.clone()));
        if self.written.len() > 16 {
            self.written.pop_front();
        }
        let seen = match wire.carries {
            Carries::Sip => Seen::Sip(sip::Message::parse(bytes).expect("what we send can be read")),
            _ => Seen::Xml(Element::parse(&bytes, NS_SERVER).expect("what we send can be read")),
        };
        if let Seen::Sip(message) = &seen
            && self.sip_nodes.contains_key(&wire.party)
            && message.method() == Some(&sip::Method::Options)
            && message.header(sip::header::Name::MaxForwards) == Some("0")
        {
            // Whether it is well is asked all the time: no statement names that.
            if !self.mute.contains(&wire.party) {
                self.well.push((link, message.clone()));
            }
            return;
        }
        self.inbox.entry(wire.party).or_default().push_back(seen);
    }

    /// A party answers connections, those held back too.
    pub fn reachable(&mut self, party: &str) {
        self.unreachable.remove(party);
        self.slow.remove(party);
        for (hop, target) in std::mem::take(&mut self.held) {
            self.connect(hop, target);
        }
        self.pump();
    }

    /// A slow party that was asked for a connection says no.
    pub fn refuse_held(&mut self, party: &str) {
        let (of_party, others) =
            std::mem::take(&mut self.held).into_iter().partition(|(_, target)| leads_to(target).0 == party);
        self.held = others;
        self.slow.remove(party);
        for (hop, _) in of_party {
            self.input(Input::Unreachable { hop, cause: "connection refused".to_owned(), unproven: false });
        }
    }

    fn connect(&mut self, hop: HopId, target: Target) {
        let (party, carries) = leads_to(&target);
        if self.slow.contains(&party) {
            self.held.push((hop, target));
            return;
        }
        if self.impostors.contains(&party) {
            let cause = "the certificate carries another name".to_owned();
            self.gate.handle_input(self.now, Input::Unreachable { hop, cause, unproven: true });
            return;
        }
        if self.unreachable.contains(&party) {
            self.gate.handle_input(
                self.now,
                Input::Unreachable { hop, cause: "connection refused".to_owned(), unproven: false },
            );
            return;
        }
        let link = self.new_link(Wire { party: party.clone(), ours: true, carries: carries.clone() });
        let proof = match carries {
            Carries::Sip if self.sip_nodes.contains_key(&party) => {
                Proof::Sip { chain: None, dialled: None, others: false }
            }
            Carries::Sip => {
                let host = format!("sip.{party}");
                return self.prove_sip(link, &party, Some(hop), Some((host, false)));
            }
            Carries::Pair(from, to) if matches!(target, Target::XmppPartner { .. }) => {
                let chain = self.chain_for(&party, &to);
                let proof = self.by_partner(&party, (from, to), true, chain);
                let proven = Proven { link, side: Side::Outside, peer: address(9), hop: Some(hop), door: None, proof };
                return self.gate.handle_input(self.now, Input::Proven(Box::new(proven)));
            }
            Carries::Pair(from, to) => by_node((from, to), true, party.clone(), self.managed.contains(&party)),
            Carries::Component(domain) => Proof::XmppComponent { node: party, domain },
        };
        let proven = Proven { link, side: Side::Inside, peer: address(1), hop: Some(hop), door: None, proof };
        self.gate.handle_input(self.now, Input::Proven(Box::new(proven)));
    }
}

/// Whom a connection is to reach, and what it carries.
fn leads_to(target: &Target) -> (String, Carries) {
    match target {
        Target::SipPartner { domain, .. } => (domain.to_string(), Carries::Sip),
        Target::SipNode { node, .. } => (node.clone(), Carries::Sip),
        Target::XmppNode { node, from, to, .. } => (node.clone(), Carries::Pair(from.clone(), to.clone())),
        Target::XmppComponent { node, domain, .. } => (node.clone(), Carries::Component(domain.clone())),
        Target::XmppPartner { from, to, .. } => (to.to_string(), Carries::Pair(from.clone(), to.clone())),
    }
}

fn xmpp_nodes(settings: &Settings) -> BTreeSet<String> {
    let nodes = settings.nodes.iter().filter(|node| node.protocol != NodeProtocol::Sip);
    nodes.map(|node| node.name.to_string()).collect()
}

fn sip_nodes(settings: &Settings) -> BTreeMap<String, IpAddr> {
    let nodes = settings.nodes.iter().filter(|node| node.protocol == NodeProtocol::Sip);
    nodes.map(|node| (node.name.to_string(), node.address.host.parse().expect("an address"))).collect()
}

/// Settings from texts, through the real configuration reader.
pub fn settings(config: &str, policy: &str, now: Time) -> Settings {
    let texts = [("fedgate.toml", config), ("policies/test.toml", policy)];
    let report = config::load_str(pki().folder.clone(), "fedgate.toml", texts, Options::check(now));
    match report.into_result() {
        Ok(loaded) => loaded.gate,
        Err(problems) => panic!("the world's configuration has problems: {problems:#?}"),
    }
}

fn address(last: u8) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, last], 40_000))
}

/// What a node's stream has proven.
fn by_node((from, to): (Domain, Domain), ours: bool, node: String, managed: bool) -> Proof {
    Proof::Xmpp { from, to, ours, both_ways: false, managed, other: Other::Node(node) }
}
