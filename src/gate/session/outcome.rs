//! How a message into an XMPP hop ended: the ping barrier.
//!
//! XMPP says nothing of a message that arrived, only of one that bounced. A XEP-0199 ping behind the messages settles it: its answer and any
//! bounce return in order on the node's stream to us, so when the answer is there, whatever has not bounced was taken. One ping is in flight
//! for each pair of domains; any answer from the pinged domain with its unguessable id counts, errors too.

use super::transaction::ServerId;
use super::{Deadline, Parcel, Passage, Step, Turn};
use crate::gate::Path;
use crate::gate::lane::Lane;
use crate::gate::limits;
use crate::gate::partner::Action;
use crate::gate::record::RecordId;
use crate::gate::route::HopKey;
use crate::gate::time::Time;
use crate::wire::address::Domain;
use crate::wire::xmpp::{Element, NS_PING, NS_SERVER};
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};

/// Sending and receiving domain.
pub type Pair = (Domain, Domain);

/// All barriers.
#[derive(Debug, Default)]
pub struct Barriers {
    /// Never used twice: a parcel may outlive the barrier it was made for.
    next: u64,
    pairs: BTreeMap<Pair, Barrier>,
}

#[derive(Debug)]
struct Barrier {
    hop: HopKey,
    /// Above the number of every message so far.
    next: u64,
    awaiting: VecDeque<Awaiting>,
    ping: Option<Ping>,
}

#[derive(Debug)]
struct Ping {
    id: String,
    /// Settles every message with a lower number.
    covers: u64,
}

/// A message whose outcome is owed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Awaiting {
    /// Its number on the pair.
    number: u64,
    /// Whether it was written.
    written: bool,
    /// To whom.
    pub owed: Owed,
}

/// Who is owed the outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owed {
    /// A SIP sender.
    Sender(Sender),
    /// Ourselves: the error that settles a kept message must arrive before its record is forgotten.
    Record(RecordId),
}

/// A SIP sender whose request waits for its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sender {
    /// The stanza's id: ours, unguessable, so that a bounce is known by it.
    pub id: String,
    /// The request to be answered.
    pub server: ServerId,
    /// What the request does: a message for itself, or in an IM session.
    pub action: Action,
    /// Whether a full JID was addressed.
    pub full_jid: bool,
    /// The partner's label.
    pub partner: String,
    /// Sender and recipient, for the log.
    pub from: String,
    /// See `from`.
    pub to: String,
}

impl Barriers {
    /// Sends a message and sees to it that a ping follows. `false`: too many await their outcome already.
    pub fn carry(
        &mut self,
        turn: &mut Turn<'_>,
        hop: HopKey,
        pair: Pair,
        stanza: Bytes,
        owed: Owed,
        transit: Option<(Time, Path)>,
    ) -> bool {
        let barrier = self.pairs.entry(pair.clone()).or_insert_with(|| Barrier {
            hop: hop.clone(),
            next: 0,
            awaiting: VecDeque::new(),
            ping: None,
        });
        if barrier.awaiting.len() >= limits::AWAITING_PER_PAIR {
            return false;
        }
        barrier.hop = hop.clone();
        let number = self.next;
        self.next += 1;
        barrier.next = self.next;
        barrier.awaiting.push_back(Awaiting { number, written: false, owed });
        let passage = Passage::Message(pair.clone(), number);
        turn.step(Step::Pass { hop, parcel: Parcel { bytes: stanza, passage, transit, lane: Lane::Free } });
        if barrier.ping.is_none() {
            barrier.ping(turn, &pair);
        }
        true
    }

    /// A message is being written on the hop's link. `false`: its outcome has been told already.
    pub fn written(&mut self, pair: &Pair, number: u64) -> bool {
        let awaiting = self.pairs.get_mut(pair).map(|barrier| &mut barrier.awaiting);
        let Some(awaiting) = awaiting.and_then(|all| all.iter_mut().find(|a| a.number == number)) else { return false };
        awaiting.written = true;
        true
    }

    /// A message could not be written: it is no longer awaited.
    pub fn unwritten(&mut self, pair: &Pair, number: u64) -> Option<Awaiting> {
        let barrier = self.pairs.get_mut(pair)?;
        let at = barrier.awaiting.iter().position(|a| a.number == number)?;
        barrier.awaiting.remove(at)
    }

    /// An iq answer from the pair's receiving domain: what it settles as delivered, if it is the ping's.
    pub fn pong(&mut self, turn: &mut Turn<'_>, pair: &Pair, id: &str) -> Vec<Awaiting> {
        let Some(barrier) = self.pairs.get_mut(pair) else { return Vec::new() };
        let Some(ping) = barrier.ping.take_if(|ping| ping.id == id) else { return Vec::new() };
        turn.deadlines.cancel(&Deadline::Ping(pair.clone()));
        let settled = barrier.take_while(|a| a.number < ping.covers);
        if barrier.awaiting.is_empty() {
            self.pairs.remove(pair);
        } else {
            barrier.ping(turn, pair);
        }
        settled
    }

    /// An error came back for a message: whose it was.
    pub fn bounced(&mut self, pair: &Pair, id: &str) -> Option<Sender> {
        let barrier = self.pairs.get_mut(pair)?;
        let at = barrier.awaiting.iter().position(|a| matches!(&a.owed, Owed::Sender(sender) if sender.id == id))?;
        match barrier.awaiting.remove(at)?.owed {
            Owed::Sender(sender) => Some(sender),
            Owed::Record(_) => None,
        }
    }

    /// The ping was not answered, or could not be written: what it covered is (written?, whose).
    pub fn silent(&mut self, turn: &mut Turn<'_>, pair: &Pair) -> Vec<(bool, Awaiting)> {
        let Some(barrier) = self.pairs.get_mut(pair) else { return Vec::new() };
        turn.deadlines.cancel(&Deadline::Ping(pair.clone()));
        let covers = barrier.ping.take().map_or(u64::MAX, |ping| ping.covers);
        let lost = barrier.take_while(|a| a.number < covers);
        if barrier.awaiting.is_empty() {
            self.pairs.remove(pair);
        } else {
            barrier.ping(turn, pair);
        }
        lost.into_iter().map(|a| (a.written, a)).collect()
    }

    /// The link of a hop ended: nobody can know what became of what was written on it. What waits for the next connection stays.
    pub fn link_died(&mut self, turn: &mut Turn<'_>, hop: &HopKey) -> Vec<Awaiting> {
        let mut lost = Vec::new();
        let pairs: Vec<Pair> = self.pairs.iter().filter(|(_, b)| b.hop == *hop).map(|(p, _)| p.clone()).collect();
        for pair in pairs {
            let Some(barrier) = self.pairs.get_mut(&pair) else { continue };
            turn.deadlines.cancel(&Deadline::Ping(pair.clone()));
            barrier.ping = None;
            let (written, waiting) = barrier.awaiting.drain(..).partition::<VecDeque<_>, _>(|a| a.written);
            barrier.awaiting = waiting;
            lost.extend(written);
            if barrier.awaiting.is_empty() {
                self.pairs.remove(&pair);
            } else {
                barrier.ping(turn, &pair);
            }
        }
        lost
    }

    /// The stream on which a pair's answers come ended: a bounce may have been lost with it.
    pub fn answers_lost(&mut self, turn: &mut Turn<'_>, pair: &Pair) -> Vec<Awaiting> {
        let Some(barrier) = self.pairs.get_mut(pair) else { return Vec::new() };
        let (written, waiting) = barrier.awaiting.drain(..).partition::<VecDeque<_>, _>(|a| a.written);
        barrier.awaiting = waiting;
        if barrier.awaiting.is_empty() {
            turn.deadlines.cancel(&Deadline::Ping(pair.clone()));
            self.pairs.remove(pair);
        }
        written.into()
    }

    /// Stops awaiting the message of a request that was answered otherwise; whether it had been written.
    pub fn forget(&mut self, server: ServerId) -> Option<(bool, Awaiting)> {
        for barrier in self.pairs.values_mut() {
            let of = |a: &Awaiting| matches!(&a.owed, Owed::Sender(sender) if sender.server == server);
            if let Some(at) = barrier.awaiting.iter().position(of) {
                return barrier.awaiting.remove(at).map(|a| (a.written, a));
            }
        }
        None
    }

    /// How many outcomes are owed.
    pub fn len(&self) -> usize {
        self.pairs.values().map(|b| b.awaiting.len()).sum()
    }

    /// Whether none is owed.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Barrier {
    fn ping(&mut self, turn: &mut Turn<'_>, pair: &Pair) {
        let id = turn.token();
        let stanza = Element::new("iq", NS_SERVER)
            .attr("type", "get")
            .attr("from", &pair.0.to_unicode())
            .attr("to", &pair.1.to_unicode())
            .attr("id", &id)
            .child(Element::new("ping", NS_PING));
        self.ping = Some(Ping { id, covers: self.next });
        turn.deadlines.set(Deadline::Ping(pair.clone()), turn.now + limits::SETTLE_WITHIN);
        let bytes = Bytes::from(stanza.print(NS_SERVER));
        let parcel = Parcel { bytes, passage: Passage::Ping(pair.clone()), transit: None, lane: Lane::Free };
        turn.step(Step::Pass { hop: self.hop.clone(), parcel });
    }

    fn take_while(&mut self, mut of: impl FnMut(&Awaiting) -> bool) -> Vec<Awaiting> {
        let count = self.awaiting.iter().take_while(|a| of(a)).count();
        self.awaiting.drain(..count).collect()
    }
}
