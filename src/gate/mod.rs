//! What we decide: two pure machines. Neither reads a clock, a socket, a file, a lock or a random source.
//!
//! * [`link`]: one connection's own machine, owned by its task: XMPP stream negotiation, dialback keys.
//! * [`Gate`]: partners, policy, routes, sessions. Driven by three verbs: [`Gate::handle_input`], [`Gate::poll_output`],
//!   [`Gate::poll_timeout`].
//!
//! The path of a message is [`admit`]; the stages stand beside it in the order in which it meets them:
//! [`peer`] → [`border`] → [`policy`] → [`session`] → [`route`] → [`translate`]. What the stages want is handed on by [`carry`].

pub mod admit;
pub mod border;
pub mod carry;
pub mod components;
pub mod event;
pub mod exchange;
pub mod lane;
pub mod limits;
pub mod link;
pub mod links;
pub mod partner;
pub mod peer;
pub mod policy;
pub mod record;
pub mod reject;
pub mod route;
pub mod session;
pub mod settings;
pub mod time;
pub mod translate;
pub mod writing;

pub use event::Event;
pub use exchange::{HopId, Incoming, Input, Other, Output, Path, Proof, Proven, Target};
pub use lane::Lane;
pub use partner::{HostPort, LinkId, NodeId, PartnerId, Protocol, Side};
pub use record::{Record, RecordId};
pub use time::Time;

use crate::wire::address::Domain;
use crate::wire::xmpp::StreamError;
use border::Border;
use links::{Far, Link, Links};
use partner::{Action, NodeProtocol};
use policy::rate::Rates;
use rand::SeedableRng;
use rand::rngs::StdRng;
use record::{Kept, LeftForLater, Restored};
use reject::{Reason, Reject};
use route::Hops;
use route::health::Health;
use session::crossing::Crossings;
use session::deadlines::Deadlines;
use session::table::fingerprint;
use session::transaction::Ended;
use session::{Deadline, Facts, Sessions, Step, Turn};
use settings::Settings;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use writing::Writing;

/// The machine that proves, decides, routes and translates for the whole edge.
///
/// Feed it with [`handle_input`](Self::handle_input), then take every output with [`poll_output`](Self::poll_output), then sleep until
/// [`poll_timeout`](Self::poll_timeout) or the next input.
#[derive(Debug)]
pub struct Gate {
    settings: Settings,
    border: Border,
    health: Health,
    rng: StdRng,
    links: Links,
    hops: Hops,
    sessions: Sessions,
    rates: Rates,
    deadlines: Deadlines<Deadline>,
    steps: VecDeque<Step>,
    outputs: VecDeque<Output>,
    /// Fingerprints of the first allows already told, of this policy version.
    allows_told: BTreeSet<u64>,
    /// Of what was dropped, and nobody but the operator was told.
    drops_told: BTreeSet<u64>,
    /// Goes into those fingerprints: nobody outside can make two alike, and so leave one untold.
    told_key: u64,
    nodes_up: BTreeMap<String, bool>,
    draining: Option<Draining>,
    writing: Writing,
    left_for_later: LeftForLater,
}

/// How the edge stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Draining {
    /// What was kept is gone on with soon.
    ToResume,
    /// Nobody goes on.
    ForGood,
}

/// Figures for the status page and the gauges.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// (partner label, state, how many).
    pub subscriptions: Vec<(String, &'static str, u64)>,
    /// Open IM sessions: (partner label, how many).
    pub chats: Vec<(String, u64)>,
    /// (node, up).
    pub nodes_up: Vec<(String, bool)>,
    /// Open links.
    pub links: Vec<(Side, Protocol, u64)>,
    /// Messages that ended neither delivered nor in an error to their sender; must stay 0.
    pub unresolved: u64,
}

impl Gate {
    /// A gate that knows nothing yet. `seed` must be unguessable: ids and tags come from it.
    pub fn new(settings: Settings, seed: [u8; 32], now: Time) -> Self {
        let nodes_up =
            settings.nodes.iter().map(|node| (node.name.to_string(), components::is_up_at_first(node))).collect();
        let mut gate = Self {
            border: Border::of(&settings),
            health: Health::default(),
            settings,
            rng: StdRng::from_seed(seed),
            links: Links::default(),
            hops: Hops::default(),
            sessions: Sessions { crossings: Crossings::new(fingerprint((seed, "crossings"))), ..Sessions::default() },
            rates: Rates::default(),
            deadlines: Deadlines::new(),
            steps: VecDeque::new(),
            outputs: VecDeque::new(),
            allows_told: BTreeSet::new(),
            drops_told: BTreeSet::new(),
            told_key: fingerprint(seed),
            nodes_up,
            draining: None,
            writing: Writing::default(),
            left_for_later: LeftForLater::default(),
        };
        gate.attach_all(now);
        gate.watch_health(now);
        gate
    }

    /// Takes one input, at a time that never goes back.
    pub fn handle_input(&mut self, now: Time, input: Input) {
        if !matches!(input, Input::Restored(_)) {
            let told = self.left_for_later.tell().map(|what| Output::Event(Box::new(Event::Noticed { what })));
            self.outputs.extend(told);
        }
        match input {
            Input::Received { link, at, message } => self.received(now, link, at, message),
            Input::Proven(proven) => self.proven(now, *proven),
            Input::Taken { receipts, .. } => self.taken(now, &receipts),
            Input::AckAsked { link, handled } => self.ack_asked(now, link, handled),
            Input::Closed { link, cause } => self.closed(now, link, cause),
            Input::Unreachable { hop, cause, unproven } => self.unreachable(now, hop, &cause, unproven),
            Input::Refused { side, protocol, peer, domain, reject, id } => {
                let facts = Facts {
                    from: domain.clone().unwrap_or_else(|| "unknown".to_owned()),
                    to: String::new(),
                    action: Action::Other,
                    side,
                    protocol,
                    partner: self.label(domain.as_deref(), protocol),
                    peer: Some(peer),
                };
                let (mut turn, _) = self.turn(now);
                turn.refused_as(id, &reject, &facts);
            }
            Input::Restored(record) => self.restored(now, record),
            Input::Reload(settings) => self.reload(now, *settings),
            Input::Drain { last } => self.drain(now, last),
            Input::Timeout => self.timeout(now),
            Input::StoreTrouble(why) => self.store_told(now, why),
        }
        for (partner, end) in self.links.take_shown() {
            let partner = self.settings.policy.partner(partner).label.clone();
            let shown = Event::Shown { partner: partner.to_string(), not_after: end.unix_seconds() };
            self.outputs.push_back(Output::Event(Box::new(shown)));
        }
        self.carry(now);
    }

    /// The next output; call until `None`.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Input::Timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Time> {
        let sessions = [self.sessions.watches.next_due(), self.sessions.contacts.next_due()];
        sessions.into_iter().chain([self.deadlines.next(), self.sessions.relays.next_due()]).flatten().min()
    }

    /// After [`Input::Drain`]: whether nothing is owed any more.
    pub fn is_drained(&self) -> bool {
        let s = &self.sessions;
        let are_subscriptions_settled = match self.draining {
            None => return false,
            // They go on after the restart; what one of them is being told now is told again then.
            Some(Draining::ToResume) => !s.clients.any_but_presence(),
            Some(Draining::ForGood) => s.clients.is_empty() && s.watches.is_empty() && !s.contacts.is_leaving(),
        };
        are_subscriptions_settled
            && s.servers.is_empty()
            && s.pages.is_empty()
            && s.chats.is_empty()
            && s.relays.is_settled()
            && s.barriers.is_empty()
            && s.crossings.is_settled()
    }

    /// Figures for the status page and the gauges.
    pub fn snapshot(&self) -> Snapshot {
        let mut subscriptions = self.sessions.watches.counts();
        for (key, count) in self.sessions.contacts.counts() {
            *subscriptions.entry(key).or_insert(0) += count;
        }
        let mut chats = self.sessions.chats.counted();
        for (label, watched, others) in self.sessions.relays.dialogs.counted() {
            if watched > 0 {
                *subscriptions.entry((label.to_owned(), "active")).or_insert(0) += watched;
            }
            if others > 0 {
                *chats.entry(label.to_owned()).or_insert(0) += others;
            }
        }
        Snapshot {
            subscriptions: subscriptions.into_iter().map(|((partner, state), n)| (partner, state, n)).collect(),
            chats: chats.into_iter().collect(),
            nodes_up: self.nodes_up.iter().map(|(node, up)| (node.clone(), *up)).collect(),
            links: self.links.counted().into_iter().map(|((side, protocol), n)| (side, protocol, n)).collect(),
            unresolved: self.sessions.pages.unresolved() + self.sessions.crossings.unresolved(),
        }
    }

    /// What a part of the session may use in this turn, and the sessions beside it.
    fn turn(&mut self, now: Time) -> (Turn<'_>, &mut Sessions) {
        let turn = Turn {
            now,
            settings: &self.settings,
            writing: &self.writing,
            rng: &mut self.rng,
            steps: &mut self.steps,
            deadlines: &mut self.deadlines,
        };
        (turn, &mut self.sessions)
    }

    fn proven(&mut self, now: Time, proven: Proven) {
        let Proven { link, side, peer, hop, proof, door } = proven;
        let (who, protocol) = match &proof {
            Proof::Sip { chain, .. } => {
                let who = chain.as_ref().map_or_else(|| peer.to_string(), |chain| chain.names.to_string());
                (who, Protocol::Sip)
            }
            Proof::XmppComponent { node, domain } => (format!("{node} as {domain}"), Protocol::Xmpp),
            Proof::Xmpp { other: Other::Node(node), .. } => (node.clone(), Protocol::Xmpp),
            Proof::Xmpp { from, to, other: Other::Partner(evidence), .. } => {
                (format!("{from} to {to} by {}", evidence.by.as_str()), Protocol::Xmpp)
            }
        };
        let mut has_others = false;
        match proof {
            Proof::Sip { chain, .. } if side == Side::Inside => {
                let node = match hop.and_then(|hop| self.hops.key(hop)) {
                    Some(route::HopKey::SipNode { node }) => Some(node.clone()),
                    _ => None,
                };
                let ours = node.is_some();
                let nodes = match node {
                    Some(node) => Ok(vec![node.to_string()]),
                    None => peer::nodes::node_of(&self.settings, peer.ip(), chain.as_deref(), now)
                        .map(|nodes| nodes.iter().map(|node| node.name.to_string()).collect()),
                };
                match nodes {
                    Ok(nodes) => {
                        let far = Far::SipNode { nodes, chain, ours };
                        self.links.insert(link, Link { side, peer, door: None, far });
                    }
                    Err(reject) => {
                        let facts = Facts { peer: Some(peer), ..self.facts_of_unknown(side, protocol) };
                        let (mut turn, _) = self.turn(now);
                        turn.refused(&reject, &facts);
                        self.outputs.push_back(Output::Close { link, error: None });
                        return;
                    }
                }
            }
            Proof::Sip { chain, dialled, others } => {
                has_others = others;
                let key = hop.and_then(|hop| self.hops.key(hop)).cloned();
                let opened = match (&key, dialled) {
                    (Some(route::HopKey::Partner { domain, .. }), dialled) => {
                        let (host, typed) = dialled.map_or((None, false), |(host, typed)| (Some(host), typed));
                        peer::Opened::ByUs { domain: domain.clone(), host, typed }
                    }
                    _ => peer::Opened::ByPeer,
                };
                self.links
                    .insert(link, Link { side, peer, door, far: Far::Sip { chain, opened, claims: BTreeMap::new() } });
                // RFC 5922 §7.4: before a byte is sent, whom we reached must be whom we wanted.
                if let (Some(hop), Some(route::HopKey::Partner { domain, .. })) = (hop, key)
                    && let Err(reject) = self.links.claim(&self.settings, link, &domain, now)
                {
                    self.outputs.push_back(Output::Close { link, error: None });
                    self.links.remove(link);
                    self.hop_failed(now, hop, reject);
                    return;
                }
            }
            Proof::XmppComponent { node, domain } => {
                if !self.attached(now, (link, peer), hop, node, domain) {
                    return;
                }
            }
            Proof::Xmpp { from, to, ours, both_ways, managed, other: Other::Partner(evidence) } => {
                let (remote, local) = if ours { (to, from) } else { (from, to) };
                let pair = (remote.clone(), local);
                let is_another_pair = match self.links.get_mut(link).map(|link| &mut link.far) {
                    Some(Far::XmppPartner { pairs, .. }) => {
                        pairs.insert(pair.clone(), evidence);
                        true
                    }
                    _ => {
                        let far = Far::XmppPartner {
                            pairs: BTreeMap::from([(pair.clone(), evidence)]),
                            ours,
                            both_ways,
                            managed,
                            claims: BTreeMap::new(),
                        };
                        self.links.insert(link, Link { side, peer, door, far });
                        false
                    }
                };
                // The stream's own machine has judged by the same; since then the settings may have changed.
                if let Err(reject) = self.links.claim(&self.settings, link, &remote, now) {
                    self.disown(now, (link, hop), &pair, reject);
                    return;
                }
                if both_ways && !ours {
                    self.hops.adopt(now, &route::HopKey::XmppPartner { from: pair.1, to: remote }, link);
                }
                if is_another_pair {
                    return;
                }
            }
            Proof::Xmpp { from, to, ours, both_ways, managed, other: Other::Node(node) } => {
                let key = route::HopKey::Node { node: node.as_str().into(), from: to.clone(), to: from.clone() };
                let is_another_pair = match self.links.get_mut(link).map(|link| &mut link.far) {
                    Some(Far::XmppNode { pairs, .. }) => pairs.insert((from, to)),
                    _ => {
                        let far = Far::XmppNode { node, pairs: BTreeSet::from([(from, to)]), ours, both_ways, managed };
                        self.links.insert(link, Link { side, peer, door: None, far });
                        false
                    }
                };
                if both_ways && !ours {
                    self.hops.adopt(now, &key, link);
                }
                if is_another_pair {
                    return;
                }
            }
        }
        self.outputs.push_back(Output::Event(Box::new(Event::LinkOpened { link, side, protocol, peer, who })));
        if let Some(hop) = hop {
            self.hop_up(now, hop, link);
            if has_others {
                self.hops.has_others(link, peer);
            }
        }
    }

    /// A stream that does not prove, or no longer, what it was taken for.
    fn disown(&mut self, now: Time, (link, hop): (LinkId, Option<HopId>), pair: &(Domain, Domain), reject: Reject) {
        let error = reject.reason.stream_error();
        if let Some(hop) = hop {
            self.outputs.push_back(Output::Close { link, error: Some((error, String::new())) });
            self.links.remove(link);
            self.hop_failed(now, hop, reject);
            return;
        }
        self.end_stream(now, link, pair, &reject, error);
    }

    fn closed(&mut self, now: Time, id: LinkId, cause: String) {
        let Some(link) = self.links.remove(id) else { return };
        let (side, protocol) = (link.side, link.protocol());
        self.hops.closed(now, id, &cause);
        self.outputs.push_back(Output::Event(Box::new(Event::LinkClosed { link: id, side, protocol, cause })));
        let (mut turn, sessions) = self.turn(now);
        sessions.servers.link_closed(&mut turn, id);
        let mut branches = sessions.clients.on_link(id);
        branches.extend(sessions.chats.on_link(id));
        sessions.crossings.link_closed(&mut turn, id);
        // Nothing was written to an XMPP hop on any other.
        let mut lost = match protocol {
            Protocol::Xmpp => sessions.barriers.link_died(&mut turn, id),
            Protocol::Sip => Vec::new(),
        };
        let mut component = None;
        match link.far {
            Far::XmppNode { node, pairs, ours, .. } => {
                if !ours {
                    // Answers and bounces come on this stream: with it, their order is lost.
                    for (from, to) in pairs {
                        lost.extend(sessions.barriers.answers_lost(&mut turn, &(to, from), Some(&node)));
                    }
                }
                node_lost(&mut turn, sessions, &node);
            }
            Far::Component { node, domain } => {
                node_lost(&mut turn, sessions, &node);
                component = Some((node, domain));
            }
            Far::SipNode { nodes, ours: true, .. } => {
                for node in nodes {
                    // Is it there still? New sessions should not have to find out.
                    self.deadlines.set(Deadline::Health(node), now);
                }
            }
            Far::XmppPartner { pairs, ours, both_ways, .. } => {
                for (remote, local) in pairs.into_keys().filter(|_| !ours || both_ways) {
                    lost.extend(sessions.barriers.answers_lost(&mut turn, &(local, remote), None));
                }
            }
            Far::Sip { .. } | Far::SipNode { .. } => {}
        }
        self.relays_lost(now, id);
        for branch in branches {
            self.request_ended(now, &branch, &Ended::LinkDied);
        }
        self.lost(now, lost, "the stream ended before the outcome was known");
        if let Some((node, domain)) = component {
            self.detached(now, &node, &domain);
        }
    }

    fn restored(&mut self, now: Time, record: Record) {
        let (mut turn, sessions) = self.turn(now);
        let (what, restored) = match record.kept {
            Kept::Watch(kept) => ("subscriptions of SIP watchers", sessions.watches.restore(&mut turn, kept)),
            Kept::Contact(kept) => {
                let restored = sessions.contacts.restore(&mut turn, &mut sessions.clients, kept);
                ("subscriptions of XMPP watchers", restored)
            }
            Kept::Chat(kept) => {
                let (chats, beside) = sessions.chats();
                ("IM sessions", chats.restore(&mut turn, beside, kept))
            }
            Kept::Budget(kept) => {
                ("budgets", if self.rates.restore(now, kept) { Restored::Live } else { Restored::Gone })
            }
            Kept::Envelope(envelope) => return sessions.pages.restore(&mut turn, &mut sessions.barriers, envelope),
        };
        match restored {
            Restored::Live => {}
            Restored::Later(why) => self.left_for_later.add(what, why),
            Restored::Gone => self.steps.push_back(Step::Forget { lane: Lane::Free, id: record.id }),
        }
    }

    fn reload(&mut self, now: Time, mut settings: Settings) {
        Arc::make_mut(&mut settings.policy).version = self.settings.policy.version + 1;
        let version = settings.policy.version;
        self.border = Border::of(&settings);
        let labels = settings.policy.partners.iter().map(|p| p.label.as_str()).chain(["other"]).collect();
        self.rates.retain(&labels);
        self.nodes_up = settings
            .nodes
            .iter()
            .map(|n| {
                let up = self.nodes_up.get(n.name.as_str()).copied().unwrap_or_else(|| components::is_up_at_first(n));
                (n.name.to_string(), up)
            })
            .collect();
        let before = std::mem::replace(&mut self.settings, settings);
        self.allows_told.clear();
        self.drops_told.clear();
        self.outputs.push_back(Output::Event(Box::new(Event::Reloaded { version })));
        for node in self.settings.nodes.iter().filter(|node| node.protocol == NodeProtocol::Sip) {
            if sip_node_at(&self.settings, &node.name) != sip_node_at(&before, &node.name) {
                // Where it is now nothing is known of it.
                self.health.forget(&node.name);
                self.hops.forget_failure(&route::HopKey::SipNode { node: node.name.clone() });
            }
        }
        self.watch_health(now);
        self.close_unwanted(now, &before);
        self.components_reloaded(now, &before);
        let (mut turn, sessions) = self.turn(now);
        sessions.watches.reloaded(&mut turn);
        sessions.contacts.reloaded(&mut turn);
        sessions.chats.reloaded(&mut turn);
    }

    /// Links of ours that the settings in force no longer want.
    fn close_unwanted(&mut self, now: Time, before: &Settings) {
        let name = |settings: &Settings, identity: usize| settings.identities.get(identity).map(|i| i.hostname.clone());
        let mut unwanted = self.hops.links_where(|key| match key {
            route::HopKey::Partner { domain, next_hop, identity } => {
                self.settings.way_to(domain, Protocol::Sip).as_ref() != Some(&(domain.clone(), next_hop.clone()))
                    || name(&self.settings, *identity) != name(before, *identity)
            }
            route::HopKey::Node { node, from, to } => {
                self.settings.policy.partner_towards(from).is_none() && self.settings.policy.stranger.is_none()
                    || !self.settings.nodes.iter().any(|n| n.name == *node && n.domains.contains(to))
            }
            route::HopKey::SipNode { node } => sip_node_at(&self.settings, node) != sip_node_at(before, node),
            // See below: the other end is told why.
            route::HopKey::XmppPartner { .. } | route::HopKey::Component { .. } => false,
        });
        let partners: Vec<(LinkId, Domain)> = self
            .links
            .iter()
            .filter_map(|(id, link)| match &link.far {
                Far::Sip { opened: peer::Opened::ByUs { domain, .. }, .. } => Some((id, domain.clone())),
                _ => None,
            })
            .collect();
        for (id, link) in self.links.iter() {
            if let Far::SipNode { nodes, chain, ours } = &link.far {
                let is_known = match ours {
                    true => nodes.iter().all(|node| self.settings.nodes.iter().any(|n| n.name == *node)),
                    false => {
                        peer::nodes::node_of(&self.settings, link.peer.ip(), chain.as_deref(), now).is_ok_and(|found| {
                            found.len() == nodes.len() && found.iter().all(|n| nodes.iter().any(|name| n.name == *name))
                        })
                    }
                };
                if !is_known {
                    unwanted.push(id);
                }
            }
        }
        for (id, domain) in partners {
            if self.links.claim(&self.settings, id, &domain, now).is_err() {
                unwanted.push(id);
            }
        }
        self.end_unproven(now);
        for link in unwanted {
            // What is sent from now on gets a connection of its own; this one takes nothing more.
            self.hops.closed(now, link, "no longer wanted");
            self.outputs.push_back(Output::Close { link, error: None });
        }
    }

    /// Streams of XMPP partners that the settings in force would not take: whose domain is no longer listed, or proven no longer, or ours no more.
    fn end_unproven(&mut self, now: Time) {
        let streams = self.links.iter().filter_map(|(id, link)| match &link.far {
            Far::XmppPartner { pairs, ours, .. } => {
                let from = (!ours).then(|| link.peer.ip());
                Some((id, from, pairs.keys().cloned().collect::<Vec<_>>()))
            }
            _ => None,
        });
        for (link, from, pairs) in streams.collect::<Vec<_>>() {
            for pair in pairs {
                let (reject, error) = if self.settings.policy.is_local(&pair.1) {
                    let claimed = self.links.claim(&self.settings, link, &pair.0, now);
                    let taken = claimed.and_then(|claim| match (claim.partner(), from) {
                        (Some(id), Some(ip)) => self.settings.policy.takes_from(id, ip),
                        _ => Ok(()),
                    });
                    match taken {
                        Ok(()) => continue,
                        Err(reject) => {
                            let error = reject.reason.stream_error();
                            (reject, error)
                        }
                    }
                } else {
                    // RFC 6120 §4.9.3.5.
                    let detail = format!("{} is no longer in the domains of any [[identity]]", pair.1);
                    (Reject::new(Reason::RelayDenied, detail), StreamError::HostGone)
                };
                self.end_stream(now, link, &pair, &reject, error);
                break;
            }
        }
    }

    fn drain(&mut self, now: Time, last: bool) {
        self.draining = Some(if last { Draining::ForGood } else { Draining::ToResume });
        let (mut turn, sessions) = self.turn(now);
        if last {
            sessions.watches.deactivate_all(&mut turn);
            sessions.contacts.leave_all(&mut turn);
        }
        let (chats, beside) = sessions.chats();
        chats.end_all(&mut turn, beside);
        turn.deadlines.set(Deadline::Drain, now + limits::DRAIN);
    }

    fn timeout(&mut self, now: Time) {
        while let Some(first) = self.poll_timeout().filter(|at| *at <= now) {
            if self.deadlines.next() == Some(first) {
                self.deadline(now);
            } else {
                let (mut turn, sessions) = self.turn(now);
                if sessions.watches.next_due() == Some(first) {
                    sessions.watches.due(&mut turn, &mut sessions.clients);
                } else if sessions.contacts.next_due() == Some(first) {
                    sessions.contacts.due(&mut turn, &mut sessions.clients);
                } else {
                    self.relays_due(now);
                }
            }
            self.carry(now);
        }
    }

    /// Something is due that is neither a watch's nor a contact's: these have queues of their own.
    fn deadline(&mut self, now: Time) {
        let Some(deadline) = self.deadlines.pop_due(now) else { return };
        let (mut turn, sessions) = self.turn(now);
        match deadline {
            Deadline::Trying(id) => sessions.servers.trying(&mut turn, id),
            Deadline::Settle(id) => self.settle_late(now, id),
            Deadline::TimerF(branch) => self.request_ended(now, &branch, &Ended::TimedOut),
            Deadline::Relayed(id) => self.relayed_due(now, id),
            Deadline::Health(node) => self.ask_health(now, node),
            Deadline::Leave(link) => self.leave(now, link),
            Deadline::Ping(course) => self.ping_silent(now, course, true),
            Deadline::Ack(link) => self.ack_due(link),
            Deadline::Crossing(number) => sessions.crossings.bounce_again(&mut turn, number),
            Deadline::Fetch(id) => sessions.fetches.finish(&mut turn, &mut sessions.clients, id),
            Deadline::Bounce(record) => sessions.pages.bounce(&mut turn, &mut sessions.barriers, &record),
            Deadline::Component(key) => self.component_due(now, &key),
            Deadline::Round => {
                sessions.watches.go_round(&mut turn);
                sessions.contacts.go_round(&mut turn, &mut sessions.clients);
            }
            Deadline::Chat(key) => {
                let (chats, beside) = sessions.chats();
                chats.due(&mut turn, beside, &key);
            }
            Deadline::Invite(branch) => {
                let (chats, beside) = sessions.chats();
                chats.invite_due(&mut turn, beside, &branch);
            }
            Deadline::ChatSweep => {
                let (chats, beside) = sessions.chats();
                chats.sweep(&mut turn, beside);
            }
            Deadline::Drain => {
                let (chats, beside) = sessions.chats();
                chats.give_up(&mut turn, beside);
                sessions.pages.give_up(&mut turn, &mut sessions.barriers);
                let open = sessions.servers.open_ids();
                self.give_up_relays(now);
                self.give_up_crossings(now);
                for id in open {
                    self.settle_late(now, id);
                }
            }
        }
    }

    /// A request still open at its last moment: its sender must hear something now (RFC 4320 §4.2).
    fn settle_late(&mut self, now: Time, id: session::transaction::ServerId) {
        let Some(lost) = self.sessions.barriers.forget(id) else { return };
        let written = lost.written;
        let reject = if written {
            Reject::new(Reason::Uncertain, "written to the node, but nothing came back in time")
        } else {
            Reject::new(Reason::Timeout, "the node could not be reached in time")
        };
        self.did_not_arrive(now, lost.owed, reject, written);
    }

    /// Presence that waited too long for the store was given up: what its users show is asked for, and what they were shown told, again.
    fn store_told(&mut self, now: Time, trouble: Option<String>) {
        if self.writing.told(now, trouble) {
            let nodes: Vec<smol_str::SmolStr> = self.settings.nodes.iter().map(|node| node.name.clone()).collect();
            let (mut turn, sessions) = self.turn(now);
            for node in nodes {
                node_lost(&mut turn, sessions, &node);
            }
        }
    }

    /// Whether anything new may begin that must outlive this run.
    fn may_begin(&self) -> Result<(), Reject> {
        if self.draining.is_some() {
            return Err(Reject::new(Reason::Overloaded, "stopping"));
        }
        self.writing.may_begin()
    }

    /// What is known of a peer that said nothing.
    fn facts_of_unknown(&self, side: Side, protocol: Protocol) -> Facts {
        let (from, to, partner) = ("unknown".to_owned(), String::new(), "other".to_owned());
        Facts { from, to, action: Action::Other, side, protocol, partner, peer: None }
    }

    /// The label for metrics: a configured partner's, or `other`.
    fn label(&self, domain: Option<&str>, protocol: Protocol) -> String {
        domain
            .and_then(|domain| Domain::parse(domain).ok())
            .and_then(|domain| self.settings.policy.partner_for(&domain, protocol))
            .map_or_else(|| "other".to_owned(), |id| self.settings.policy.partner(id).label.to_string())
    }
}

/// Where a SIP node is, and as whom it proves itself there.
fn sip_node_at<'a>(settings: &'a Settings, name: &str) -> Option<(&'a HostPort, Option<&'a String>)> {
    let node = settings.nodes.iter().find(|node| node.name == name && node.protocol == NodeProtocol::Sip)?;
    Some((&node.address, node.tls_name.as_ref()))
}

/// A node's stream ended: what its users show may be stale, and what they were shown forgotten. Ask and tell again, not all at once.
fn node_lost(turn: &mut Turn<'_>, sessions: &mut Sessions, node: &str) {
    sessions.watches.node_restarted(turn, node);
    sessions.contacts.node_restarted(turn, node);
}
