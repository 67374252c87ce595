//! One course's barrier: what was sent over it, in order, and the ping behind it.

use super::{CourseId, Owed, Pair};
use crate::gate::lane::Lane;
use crate::gate::limits;
use crate::gate::partner::LinkId;
use crate::gate::route::HopKey;
use crate::gate::session::{Deadline, Parcel, Passage, Step, Turn};
use crate::wire::xmpp::NS_SERVER;
use crate::wire::xmpp::stanza;
use bytes::Bytes;
use std::collections::VecDeque;

/// What is owed on one course.
#[derive(Debug)]
pub struct Barrier {
    /// Sending and receiving domain.
    pub pair: Pair,
    /// Where it goes.
    pub hop: HopKey,
    /// In the order of their numbers.
    pub awaiting: VecDeque<Awaiting>,
    /// The one in flight.
    pub ping: Option<Ping>,
    /// Whether anything came from the receiving domain since it was sent.
    pub heard: bool,
}

/// A ping in flight.
#[derive(Debug)]
pub struct Ping {
    /// Unguessable. `None`: nothing was asked; what it covers is watched for the link's end only.
    pub id: Option<String>,
    /// Settles every written message with a lower number.
    covers: u64,
    /// What it was written on.
    pub link: LinkId,
}

/// A message whose outcome is owed.
#[derive(Debug)]
pub struct Awaiting {
    /// Its number.
    pub number: u64,
    /// What will tell.
    pub by: By,
    /// To whom.
    pub owed: Owed,
}

/// What tells how a message ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// It waits for a connection.
    Unwritten,
    /// The answer to the ping behind it.
    Ping(LinkId),
    /// The far side's acknowledgement.
    Receipt(LinkId),
}

impl Awaiting {
    /// Whether it was written.
    pub fn is_written(&self) -> bool {
        self.by != By::Unwritten
    }

    /// On which link.
    pub fn link(&self) -> Option<LinkId> {
        match self.by {
            By::Unwritten => None,
            By::Ping(link) | By::Receipt(link) => Some(link),
        }
    }

    /// Whether its outcome must be known: a SIP sender's, or of an error we owe.
    fn needs_answer(&self) -> bool {
        !matches!(self.owed, Owed::Crossing(_))
    }

    /// On which link, if a ping is to tell.
    pub fn pinged(&self) -> Option<LinkId> {
        match self.by {
            By::Ping(link) => Some(link),
            By::Unwritten | By::Receipt(_) => None,
        }
    }
}

impl Barrier {
    /// Nothing is owed.
    pub fn new(pair: Pair, hop: HopKey) -> Self {
        Self { pair, hop, awaiting: VecDeque::new(), ping: None, heard: false }
    }

    /// Where a message stands.
    pub fn place(&self, number: u64) -> Option<usize> {
        self.awaiting.binary_search_by_key(&number, |awaiting| awaiting.number).ok()
    }

    /// Whether an answer with this id is the ping's.
    pub fn is_ping(&self, id: &str) -> bool {
        self.ping.as_ref().is_some_and(|ping| ping.id.as_deref() == Some(id))
    }

    /// Whether nothing will tell of the message at this place: no ping is in flight, or nothing was asked and somebody waits who needs to know.
    pub fn lacks_ping(&self, at: usize) -> bool {
        let needs = || self.awaiting.get(at).is_some_and(Awaiting::needs_answer);
        self.ping.as_ref().is_none_or(|ping| ping.id.is_none() && needs())
    }

    /// Sends a ping behind what was written so far, below `covers`; or, while the far side `rests`, lets only time pass: unless somebody waits
    /// who needs to know.
    pub fn watch(&mut self, turn: &mut Turn<'_>, course: CourseId, covers: u64, link: LinkId, rests: bool) {
        let id = (!rests || self.awaiting.iter().any(Awaiting::needs_answer)).then(|| turn.token());
        if let Some(id) = &id {
            self.say(turn, course, id);
        }
        self.heard = false;
        self.ping = Some(Ping { id, covers, link });
        turn.deadlines.set(Deadline::Ping(course), turn.now + limits::SETTLE_WITHIN);
    }

    /// The same question under another id: the answer to the first may have been lost. Its time stays.
    pub fn ask_again(&mut self, turn: &mut Turn<'_>, course: CourseId) {
        if let Some(mut ping) = self.ping.take() {
            if ping.id.is_some() {
                let id = turn.token();
                self.say(turn, course, &id);
                ping.id = Some(id);
            }
            self.ping = Some(ping);
        }
    }

    fn say(&self, turn: &mut Turn<'_>, course: CourseId, id: &str) {
        let ping = stanza::ping(self.pair.0.to_unicode(), self.pair.1.to_unicode(), id);
        let bytes = Bytes::from(ping.print(NS_SERVER));
        let parcel = Parcel { bytes, passage: Passage::Ping(course), transit: None, lane: Lane::Free };
        turn.step(Step::Pass { hop: self.hop.clone(), parcel });
    }

    /// The ping has ended: whose messages it covered, in order.
    pub fn settle(&mut self) -> Vec<Owed> {
        let Some(ping) = self.ping.take() else { return Vec::new() };
        let covered = |awaiting: &Awaiting| awaiting.number < ping.covers && awaiting.pinged().is_some();
        self.take_written(covered).into_iter().map(|awaiting| awaiting.owed).collect()
    }

    /// Takes what is written and `of` these; the rest stays in order.
    pub fn take_written(&mut self, of: impl Fn(&Awaiting) -> bool) -> Vec<Awaiting> {
        let is_taken = |awaiting: &Awaiting| awaiting.is_written() && of(awaiting);
        // Most of the time it is all that is there, or the first of them.
        let first = self.awaiting.iter().take_while(|awaiting| is_taken(awaiting)).count();
        let mut taken: Vec<Awaiting> = self.awaiting.drain(..first).collect();
        if self.awaiting.iter().any(is_taken) {
            let all = std::mem::take(&mut self.awaiting).into_iter();
            let (more, kept) = all.partition::<VecDeque<_>, _>(is_taken);
            taken.extend(more);
            self.awaiting = kept;
        }
        taken
    }
}
