//! Hops: one connection of ours to a partner or a node, made when first needed, queued for while it is being made.

use crate::gate::HopId;
use crate::gate::limits;
use crate::gate::partner::{HostPort, LinkId};
use crate::gate::reject::{Reason, Reject};
use crate::gate::session::Parcel;
use crate::gate::time::Time;
use crate::wire::address::Domain;
use bytes::Bytes;
use smol_str::SmolStr;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

/// What a hop leads to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum HopKey {
    /// A SIP partner's edge, shown the certificate of one of our identities.
    Partner {
        /// The partner's domain, to be found.
        domain: Domain,
        /// What the administrator typed instead.
        next_hop: Option<HostPort>,
        /// Index of our identity.
        identity: usize,
    },
    /// A connection to an inside SIP node.
    SipNode {
        /// The node's name.
        node: SmolStr,
    },
    /// A stream to an inside XMPP node, in a partner domain's name.
    Node {
        /// The node's name.
        node: SmolStr,
        /// The partner domain.
        from: Domain,
        /// The local domain.
        to: Domain,
    },
    /// A stream to a partner's XMPP server, in a local domain's name.
    XmppPartner {
        /// The local domain.
        from: Domain,
        /// The partner's domain.
        to: Domain,
    },
    /// A component stream to an inside node, both ways, in a partner domain's name (XEP-0114).
    Component {
        /// The node's name.
        node: SmolStr,
        /// The partner domain.
        domain: Domain,
    },
}

impl HopKey {
    /// The node it leads to; `None`: it leads outside.
    pub fn node(&self) -> Option<&str> {
        match self {
            HopKey::SipNode { node } | HopKey::Node { node, .. } | HopKey::Component { node, .. } => Some(node),
            HopKey::Partner { .. } | HopKey::XmppPartner { .. } => None,
        }
    }
}

/// All hops.
#[derive(Debug, Default)]
pub struct Hops {
    next: u64,
    hops: BTreeMap<HopKey, Hop>,
    ids: BTreeMap<HopId, HopKey>,
    /// A stream that the other end opened may be of several (XEP-0288).
    links: BTreeMap<LinkId, Vec<HopKey>>,
    /// Bytes that wait in all queues.
    waiting: usize,
    /// How many are too many.
    forget_at: usize,
}

#[derive(Debug)]
struct Hop {
    state: State,
    failures: u32,
    /// Addresses that said they can't, or nothing, and until when others are tried before them.
    resting: Vec<(SocketAddr, Time)>,
}

#[derive(Debug)]
enum State {
    /// After a failure: until when nothing is tried, and what it was.
    Down {
        failed: Option<(Time, Reject)>,
    },
    Connecting {
        queue: Queue,
    },
    Up {
        link: LinkId,
        since: Time,
        /// Where it leads, if there are others.
        left_for_others: Option<SocketAddr>,
    },
}

/// What waits for a connection, in order.
#[derive(Debug, Default)]
struct Queue {
    parcels: VecDeque<Parcel>,
    bytes: usize,
}

impl Queue {
    fn has_room(&self, parcel: &Parcel) -> bool {
        self.parcels.len() < limits::HOP_QUEUE && self.bytes + parcel.bytes.len() <= limits::HOP_QUEUE_BYTES
    }

    fn push(&mut self, mut parcel: Parcel) {
        // It may stay a while: what is relayed byte for byte is a piece of what was read, which would stay as long.
        parcel.bytes = Bytes::copy_from_slice(&parcel.bytes);
        self.bytes += parcel.bytes.len();
        self.parcels.push_back(parcel);
    }
}

/// What becomes of the wish to have a hop up.
#[derive(Debug, PartialEq, Eq)]
pub enum Attempt {
    /// It is, or is being connected.
    Going,
    /// Not before then.
    Wait(Time),
    /// Connect now.
    Connect(HopId),
}

/// What becomes of a parcel.
#[derive(Debug)]
pub enum Passed {
    /// Write it here, now.
    Write(LinkId, Parcel),
    /// It waits for the connection under way.
    Queued,
    /// It waits; connect first.
    Connect(HopId),
    /// The last attempt failed a moment ago; why.
    Down(Parcel, Reject),
    /// Too many wait already.
    Full(Parcel),
}

impl Hops {
    /// Hands a parcel to a hop.
    pub fn pass(&mut self, now: Time, key: &HopKey, parcel: Parcel) -> Passed {
        // Most of the time it is up.
        if let Some(Hop { state: State::Up { link, .. }, .. }) = self.hops.get(key) {
            return Passed::Write(*link, parcel);
        }
        self.forget_idle(now);
        let next = &mut self.next;
        let hop = self.hops.entry(key.clone()).or_insert_with(Hop::new);
        match &mut hop.state {
            State::Up { link, .. } => Passed::Write(*link, parcel),
            State::Connecting { queue }
                if !queue.has_room(&parcel) || self.waiting + parcel.bytes.len() > limits::HOPS_QUEUE_BYTES =>
            {
                Passed::Full(parcel)
            }
            State::Connecting { queue } => {
                self.waiting += parcel.bytes.len();
                queue.push(parcel);
                Passed::Queued
            }
            State::Down { failed: Some((until, reject)) } if *until > now => Passed::Down(parcel, reject.clone()),
            State::Down { .. } => {
                let id = HopId(*next);
                *next += 1;
                let mut queue = Queue::default();
                self.waiting += parcel.bytes.len();
                queue.push(parcel);
                hop.state = State::Connecting { queue };
                self.ids.insert(id, key.clone());
                Passed::Connect(id)
            }
        }
    }

    /// Has a hop connected though nothing waits for it.
    pub fn attempt(&mut self, now: Time, key: &HopKey) -> Attempt {
        self.forget_idle(now);
        let hop = self.hops.entry(key.clone()).or_insert_with(Hop::new);
        match &hop.state {
            State::Up { .. } | State::Connecting { .. } => Attempt::Going,
            State::Down { failed: Some((until, _)) } if *until > now => Attempt::Wait(*until),
            State::Down { .. } => {
                let id = HopId(self.next);
                self.next += 1;
                hop.state = State::Connecting { queue: Queue::default() };
                self.ids.insert(id, key.clone());
                Attempt::Connect(id)
            }
        }
    }

    /// Of many hops those are forgotten that lead nowhere now and have nothing to remember: whoever may name a domain of a wildcard entry can make
    /// no more of them than that.
    fn forget_idle(&mut self, now: Time) {
        if self.hops.len() < self.forget_at.max(limits::IDLE_HOPS) {
            return;
        }
        self.hops.retain(|_, hop| match &hop.state {
            State::Up { .. } | State::Connecting { .. } => true,
            State::Down { failed: Some((until, _)) } => *until > now,
            State::Down { failed: None } => false,
        });
        // Not at every parcel, if most are in use.
        self.forget_at = self.hops.len() * 2;
    }

    /// Why the last attempt failed says nothing any more.
    pub fn forget_failure(&mut self, key: &HopKey) {
        if let Some(hop) = self.hops.get_mut(key)
            && let State::Down { failed } = &mut hop.state
        {
            *failed = None;
            hop.failures = 0;
        }
    }

    /// Whether a hop is up.
    pub fn is_up(&self, key: &HopKey) -> bool {
        self.hops.get(key).is_some_and(|hop| matches!(hop.state, State::Up { .. }))
    }

    /// What a hop under way leads to.
    pub fn key(&self, id: HopId) -> Option<&HopKey> {
        self.ids.get(&id)
    }

    /// The connection is there and judged good: what waited, in order.
    pub fn up(&mut self, now: Time, id: HopId, link: LinkId) -> VecDeque<Parcel> {
        let Some(key) = self.ids.remove(&id) else { return VecDeque::new() };
        let Some(hop) = self.hops.get_mut(&key) else { return VecDeque::new() };
        // A component's counts as good when it has lasted: of two edges under one name, each may throw the other out.
        if !matches!(key, HopKey::Component { .. }) {
            hop.failures = 0;
        }
        self.links.entry(link).or_default().push(key);
        match std::mem::replace(&mut hop.state, State::Up { link, since: now, left_for_others: None }) {
            State::Connecting { queue } => {
                self.waiting = self.waiting.saturating_sub(queue.bytes);
                queue.parcels
            }
            _ => VecDeque::new(),
        }
    }

    /// A stream that the other end opened may carry the hop's, too (XEP-0288), unless one of ours does or is on its way.
    pub fn adopt(&mut self, now: Time, key: &HopKey, link: LinkId) {
        self.forget_idle(now);
        let hop = self.hops.entry(key.clone()).or_insert_with(Hop::new);
        if let State::Down { .. } = hop.state {
            hop.failures = 0;
            hop.state = State::Up { link, since: now, left_for_others: None };
            self.links.entry(link).or_default().push(key.clone());
        }
    }

    /// It came to nothing: what waited. Until the back-off has passed, nothing is tried again.
    ///
    /// `jitter` is drawn from 0..1 and shortens it, so that not all come at once.
    pub fn unreachable(
        &mut self,
        now: Time,
        id: HopId,
        reject: &Reject,
        jitter: f64,
    ) -> (Option<HopKey>, VecDeque<Parcel>) {
        let Some(key) = self.ids.remove(&id) else { return (None, VecDeque::new()) };
        let Some(hop) = self.hops.get_mut(&key) else { return (None, VecDeque::new()) };
        let queue = match hop.fail(now, reject, backoff(&key), jitter) {
            State::Connecting { queue } => {
                self.waiting = self.waiting.saturating_sub(queue.bytes);
                queue.parcels
            }
            _ => VecDeque::new(),
        };
        (Some(key), queue)
    }

    /// A link ended; if it was a hop's, the next parcel connects anew, a component's after its back-off. Whose it was.
    pub fn closed(&mut self, now: Time, link: LinkId, cause: &str) -> Vec<HopKey> {
        let keys = self.links.remove(&link).unwrap_or_default();
        for key in &keys {
            if let Some(hop) = self.hops.get_mut(key)
                && let State::Up { link: of_hop, since, .. } = hop.state
                && of_hop == link
            {
                if let HopKey::Component { .. } = key {
                    if now.since(since) >= limits::HOP_BACKOFF {
                        hop.failures = 0;
                    }
                    let reject = Reject::new(Reason::NoNode, format!("the stream ended: {cause}"));
                    hop.fail(now, &reject, limits::HOP_BACKOFF, 0.0);
                } else {
                    hop.state = State::Down { failed: None };
                }
            }
        }
        keys
    }

    /// The hop's link leads to this address, and there are others.
    pub fn has_others(&mut self, link: LinkId, at: SocketAddr) {
        if let Some(hop) = self.links.get(&link).and_then(|keys| self.hops.get_mut(keys.first()?))
            && let State::Up { link: up, left_for_others, .. } = &mut hop.state
            && *up == link
        {
            *left_for_others = Some(at);
        }
    }

    /// What the hop leads to can't, or says nothing: the next parcel tries another address first, for so long (RFC 3263 §4.3). `false`: there is
    /// none. The link stays for what is under way on it.
    pub fn turn_away(&mut self, key: &HopKey, link: LinkId, now: Time, until: Time) -> bool {
        let Some(hop) = self.hops.get_mut(key) else { return false };
        match hop.state {
            State::Up { link: up, left_for_others: Some(at), .. } if up == link => {
                hop.resting.retain(|(other, until)| *other != at && *until > now);
                if hop.resting.len() < limits::RESTING_ADDRESSES {
                    hop.resting.push((at, until));
                }
                hop.state = State::Down { failed: None };
                true
            }
            // It was turned away from already: another is up, or being connected.
            State::Up { link: up, .. } => up != link,
            State::Connecting { .. } => true,
            State::Down { .. } => false,
        }
    }

    /// Addresses that others are tried before.
    pub fn avoided(&self, key: &HopKey, now: Time) -> Vec<SocketAddr> {
        let resting = self.hops.get(key).map(|hop| hop.resting.as_slice()).unwrap_or_default();
        resting.iter().filter(|(_, until)| *until > now).map(|(at, _)| *at).collect()
    }

    /// The hop of a link of ours.
    pub fn of_link(&self, link: LinkId) -> Option<&HopKey> {
        self.links.get(&link)?.first()
    }

    /// Links of hops for which `gone` says that settings no longer want them.
    pub fn links_where(&self, mut gone: impl FnMut(&HopKey) -> bool) -> Vec<LinkId> {
        self.links.iter().filter(|(_, keys)| keys.iter().any(&mut gone)).map(|(link, _)| *link).collect()
    }

    /// Whether a connection to the node is up, or none was ever refused.
    pub fn node_is_up(&self, name: &str) -> bool {
        self.hops.iter().all(|(key, hop)| match key {
            HopKey::SipNode { node } | HopKey::Node { node, .. } if node == name => hop.failures == 0,
            _ => true,
        })
    }
}

impl Hop {
    fn new() -> Self {
        Self { state: State::Down { failed: None }, failures: 0, resting: Vec::new() }
    }

    /// Down until the back-off has passed; gives the state before.
    fn fail(&mut self, now: Time, reject: &Reject, longest: Duration, jitter: f64) -> State {
        self.failures = self.failures.saturating_add(1);
        let most = if longest > limits::HOP_BACKOFF { 9 } else { 6 };
        let wait = Duration::from_secs(1 << self.failures.min(most).saturating_sub(1)).min(longest);
        let failed = Some((now + wait.mul_f64(1.0 - jitter.clamp(0.0, 1.0) / 4.0), reject.clone()));
        std::mem::replace(&mut self.state, State::Down { failed })
    }
}

/// Longest pause before it is tried again.
fn backoff(key: &HopKey) -> Duration {
    match key {
        HopKey::SipNode { .. } => limits::NODE_BACKOFF,
        HopKey::XmppPartner { .. } => limits::PARTNER_BACKOFF,
        _ => limits::HOP_BACKOFF,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::session::Passage;

    fn parcel() -> Parcel {
        Parcel { bytes: Bytes::new(), passage: Passage::Answer, transit: None, lane: crate::gate::Lane::Free }
    }

    #[test]
    fn who_comes_during_the_back_off_is_told_what_the_first_was_told() {
        let key = HopKey::Partner { domain: Domain::parse("partner.example").unwrap(), next_hop: None, identity: 0 };
        let reject = Reject::new(Reason::Unproven, "the certificate carries another name");
        let (mut hops, start) = (Hops::default(), Time::from_unix_nanos(1_700_000_000_000_000_000));
        for (wait, failures) in [(1, 1), (2, 2), (4, 3)] {
            let begin = start + Duration::from_secs(100 * failures);
            let Passed::Connect(id) = hops.pass(begin, &key, parcel()) else { panic!("it connects") };
            assert_eq!(hops.unreachable(begin, id, &reject, 0.0).1.len(), 1, "what waited comes back");
            let last = begin + Duration::from_millis(wait * 1000 - 1);
            assert!(matches!(hops.pass(last, &key, parcel()), Passed::Down(_, told) if told == reject));
        }
        let Passed::Connect(id) = hops.pass(start + Duration::from_secs(1000), &key, parcel()) else {
            panic!("it is tried again")
        };
        hops.up(start, id, LinkId(1));
        hops.closed(start, LinkId(1), "gone");
        assert!(
            matches!(hops.pass(start, &key, parcel()), Passed::Connect(_)),
            "a connection that was good is no failure"
        );
    }

    /// Whoever may name many domains fills no more than that, and the first parcel to each still goes.
    #[test]
    fn what_waits_for_all_connections_is_bounded() {
        let (mut hops, start) = (Hops::default(), Time::from_unix_nanos(1_700_000_000_000_000_000));
        let key = |number: usize| HopKey::Node {
            node: "imp-1".into(),
            from: Domain::parse(&format!("d{number}.partner.example")).unwrap(),
            to: Domain::parse("corp.example").unwrap(),
        };
        let large = || Parcel { bytes: Bytes::from(vec![b'x'; limits::HOP_QUEUE_BYTES / 2]), ..parcel() };
        let (mut number, mut ids) = (0, Vec::new());
        loop {
            let Passed::Connect(id) = hops.pass(start, &key(number), large()) else { panic!("it connects") };
            ids.push(id);
            if let Passed::Full(_) = hops.pass(start, &key(number), large()) {
                break;
            }
            number += 1;
        }
        assert!(number <= limits::HOPS_QUEUE_BYTES / limits::HOP_QUEUE_BYTES, "{number}");
        let reject = Reject::new(Reason::Timeout, "nobody is there");
        for (at, id) in ids.into_iter().enumerate() {
            match at % 2 {
                0 => drop(hops.unreachable(start, id, &reject, 0.0)),
                _ => drop(hops.up(start, id, LinkId(at as u64))),
            }
        }
        assert_eq!(hops.waiting, 0, "all of it is gone");
    }

    #[test]
    fn hops_that_lead_nowhere_are_forgotten_in_time() {
        let (mut hops, start) = (Hops::default(), Time::from_unix_nanos(1_700_000_000_000_000_000));
        let reject = Reject::new(Reason::Timeout, "nobody is there");
        for number in 0..5 * limits::IDLE_HOPS {
            let domain = Domain::parse(&format!("d{number}.partner.example")).unwrap();
            let key = HopKey::Partner { domain, next_hop: None, identity: 0 };
            let now = start + Duration::from_secs(number as u64);
            let Passed::Connect(id) = hops.pass(now, &key, parcel()) else { panic!("it connects") };
            hops.unreachable(now, id, &reject, 1.0);
        }
        assert!(hops.hops.len() <= 2 * limits::IDLE_HOPS, "{}", hops.hops.len());
    }
}
