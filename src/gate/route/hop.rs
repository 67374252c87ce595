//! Hops: one connection of ours to a partner or a node, made when first needed, queued for while it is being made.

use crate::gate::HopId;
use crate::gate::limits;
use crate::gate::partner::LinkId;
use crate::gate::reject::Reject;
use crate::gate::session::Parcel;
use crate::gate::time::Time;
use crate::wire::address::Domain;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// What a hop leads to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum HopKey {
    /// A SIP partner's edge, shown the certificate of one of our identities.
    Partner {
        /// The partner's domain.
        domain: Domain,
        /// Index of our identity.
        identity: usize,
    },
    /// A stream to an inside XMPP node, in a partner domain's name.
    Node {
        /// The node's name.
        node: String,
        /// The partner domain.
        from: Domain,
        /// The local domain.
        to: Domain,
    },
}

/// All hops.
#[derive(Debug, Default)]
pub struct Hops {
    next: u64,
    hops: BTreeMap<HopKey, Hop>,
    ids: BTreeMap<HopId, HopKey>,
    links: BTreeMap<LinkId, HopKey>,
}

#[derive(Debug)]
struct Hop {
    state: State,
    failures: u32,
}

#[derive(Debug)]
enum State {
    /// After a failure: until when nothing is tried, and what it was.
    Down {
        failed: Option<(Time, Reject)>,
    },
    Connecting {
        queue: VecDeque<Parcel>,
    },
    Up(LinkId),
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
    /// The last attempt failed a moment ago, so.
    Down(Parcel, Reject),
    /// Too many wait already.
    Full(Parcel),
}

impl Hops {
    /// Hands a parcel to a hop.
    pub fn pass(&mut self, now: Time, key: &HopKey, parcel: Parcel) -> Passed {
        let next = &mut self.next;
        let hop =
            self.hops.entry(key.clone()).or_insert_with(|| Hop { state: State::Down { failed: None }, failures: 0 });
        match &mut hop.state {
            State::Up(link) => Passed::Write(*link, parcel),
            State::Connecting { queue } if queue.len() >= limits::HOP_QUEUE => Passed::Full(parcel),
            State::Connecting { queue } => {
                queue.push_back(parcel);
                Passed::Queued
            }
            State::Down { failed: Some((until, reject)) } if *until > now => Passed::Down(parcel, reject.clone()),
            State::Down { .. } => {
                let id = HopId(*next);
                *next += 1;
                hop.state = State::Connecting { queue: VecDeque::from([parcel]) };
                self.ids.insert(id, key.clone());
                Passed::Connect(id)
            }
        }
    }

    /// What a hop under way leads to.
    pub fn key(&self, id: HopId) -> Option<&HopKey> {
        self.ids.get(&id)
    }

    /// The connection is there and judged good: what waited, in order.
    pub fn up(&mut self, id: HopId, link: LinkId) -> VecDeque<Parcel> {
        let Some(key) = self.ids.remove(&id) else { return VecDeque::new() };
        let Some(hop) = self.hops.get_mut(&key) else { return VecDeque::new() };
        self.links.insert(link, key);
        hop.failures = 0;
        match std::mem::replace(&mut hop.state, State::Up(link)) {
            State::Connecting { queue } => queue,
            _ => VecDeque::new(),
        }
    }

    /// It came to nothing: what waited. Until the back-off has passed, nothing is tried again.
    pub fn unreachable(&mut self, now: Time, id: HopId, reject: &Reject) -> (Option<HopKey>, VecDeque<Parcel>) {
        let Some(key) = self.ids.remove(&id) else { return (None, VecDeque::new()) };
        let Some(hop) = self.hops.get_mut(&key) else { return (None, VecDeque::new()) };
        hop.failures = hop.failures.saturating_add(1);
        let wait = Duration::from_secs(1 << hop.failures.min(6).saturating_sub(1));
        let state = State::Down { failed: Some((now + wait.min(limits::HOP_BACKOFF), reject.clone())) };
        let queue = match std::mem::replace(&mut hop.state, state) {
            State::Connecting { queue } => queue,
            _ => VecDeque::new(),
        };
        (Some(key), queue)
    }

    /// A link ended; if it was a hop's, the next parcel connects anew.
    pub fn closed(&mut self, link: LinkId) -> Option<HopKey> {
        let key = self.links.remove(&link)?;
        if let Some(hop) = self.hops.get_mut(&key)
            && matches!(hop.state, State::Up(l) if l == link)
        {
            hop.state = State::Down { failed: None };
        }
        Some(key)
    }

    /// The hop of a link of ours.
    pub fn of_link(&self, link: LinkId) -> Option<&HopKey> {
        self.links.get(&link)
    }

    /// Links of hops for which `gone` says that settings no longer want them.
    pub fn links_where(&self, mut gone: impl FnMut(&HopKey) -> bool) -> Vec<LinkId> {
        self.links.iter().filter(|(_, key)| gone(key)).map(|(link, _)| *link).collect()
    }

    /// Whether a connection to the node is up, or none was ever refused.
    pub fn node_is_up(&self, name: &str) -> bool {
        self.hops.iter().all(|(key, hop)| match key {
            HopKey::Node { node, .. } if node == name => hop.failures == 0,
            _ => true,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::reject::Reason;
    use crate::gate::session::Passage;
    use bytes::Bytes;

    fn parcel() -> Parcel {
        Parcel { bytes: Bytes::new(), passage: Passage::Answer, transit: None }
    }

    #[test]
    fn who_comes_during_the_back_off_is_told_what_the_first_was_told() {
        let key = HopKey::Partner { domain: Domain::parse("partner.example").unwrap(), identity: 0 };
        let reject = Reject::new(Reason::Unproven, "the certificate carries another name");
        let (mut hops, start) = (Hops::default(), Time::from_unix_nanos(1_700_000_000_000_000_000));
        for (wait, failures) in [(1, 1), (2, 2), (4, 3)] {
            let begin = start + Duration::from_secs(100 * failures);
            let Passed::Connect(id) = hops.pass(begin, &key, parcel()) else { panic!("it connects") };
            assert_eq!(hops.unreachable(begin, id, &reject).1.len(), 1, "what waited comes back");
            let last = begin + Duration::from_millis(wait * 1000 - 1);
            assert!(matches!(hops.pass(last, &key, parcel()), Passed::Down(_, told) if told == reject));
        }
        let Passed::Connect(id) = hops.pass(start + Duration::from_secs(1000), &key, parcel()) else {
            panic!("it is tried again")
        };
        hops.up(id, LinkId(1));
        hops.closed(LinkId(1));
        assert!(
            matches!(hops.pass(start, &key, parcel()), Passed::Connect(_)),
            "a connection that was good is no failure"
        );
    }
}
