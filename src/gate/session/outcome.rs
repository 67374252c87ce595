//! How a message into an XMPP hop ended: by the receipt of a managed stream, or by the ping barrier.
//!
//! XMPP says nothing of a message that arrived, only of one that bounced. A XEP-0199 ping behind the messages settles it: its answer and any
//! bounce return in order on the far side's stream to us, so when the answer is there, whatever has not bounced was taken. One ping is in
//! flight for each course (a pair of domains over one hop); any answer from the pinged domain with its unguessable id counts, errors too.
//!
//! Where the far side acknowledges stanzas (XEP-0198), that settles a message which stays XMPP: a bounce of it is one more stanza for its sender.
//! A SIP sender waits for the ping there too, as a receipt says nothing of a bounce.

mod barrier;

use super::crossing::Envelope;
use super::transaction::ServerId;
use super::{Deadline, Parcel, Passage, Step, Turn};
use crate::gate::Path;
use crate::gate::lane::Lane;
use crate::gate::limits;
use crate::gate::partner::{Action, LinkId};
use crate::gate::record::RecordId;
use crate::gate::route::HopKey;
use crate::gate::time::Time;
use crate::wire::address::Domain;
use barrier::{Awaiting, Barrier, By};
use bytes::Bytes;
use smol_str::SmolStr;
use std::collections::{BTreeMap, VecDeque};

/// Sending and receiving domain.
pub type Pair = (Domain, Domain);

/// Names a course: a pair of domains over one hop. Never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct CourseId(u64);

/// All barriers.
#[derive(Debug, Default)]
pub struct Barriers {
    /// Never used twice: a parcel may outlive the barrier it was made for.
    next: u64,
    next_course: u64,
    courses: BTreeMap<CourseId, Barrier>,
    of_pair: BTreeMap<Pair, Vec<CourseId>>,
    /// Written on managed hops: the receipt is the message's number.
    receipts: BTreeMap<u64, CourseId>,
    /// Who answers no pings though it is there, and until when it is not asked again.
    resting: BTreeMap<(Pair, HopKey), Time>,
}

/// Who is owed the outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owed {
    /// A SIP sender.
    Sender(Sender),
    /// Ourselves: the error that settles a kept message must arrive before its record is forgotten.
    Record(RecordId),
    /// An XMPP sender.
    Crossing(Box<Envelope>),
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
    pub partner: SmolStr,
    /// Sender and recipient, for the log.
    pub from: String,
    /// See `from`.
    pub to: String,
}

/// A message whose outcome nobody will know, or that was not written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// Whose.
    pub owed: Owed,
    /// Whether it was written.
    pub written: bool,
    /// Only the ping stayed silent, of a far side that is there: its sender is told nothing.
    pub quietly: bool,
}

impl Barriers {
    /// Sends a message and sees to it that its outcome is learned. Ask [`Barriers::is_full`] before.
    pub fn carry(
        &mut self,
        turn: &mut Turn<'_>,
        hop: HopKey,
        pair: Pair,
        stanza: Bytes,
        owed: Owed,
        transit: Option<(Time, Path)>,
    ) {
        let course = self.course(&pair, &hop).unwrap_or_else(|| self.begin(&pair, &hop));
        let number = self.next;
        self.next += 1;
        if let Some(barrier) = self.courses.get_mut(&course) {
            barrier.awaiting.push_back(Awaiting { number, by: By::Unwritten, owed });
        }
        let passage = Passage::Message(course, number);
        turn.step(Step::Pass { hop, parcel: Parcel { bytes: stanza, passage, transit, lane: Lane::Free } });
    }

    /// Whether too many messages of these two domains await their outcome already.
    pub fn is_full(&self, pair: &Pair, hop: &HopKey) -> bool {
        let barrier = self.course(pair, hop).and_then(|course| self.courses.get(&course));
        barrier.is_some_and(|barrier| barrier.awaiting.len() >= limits::AWAITING_PER_PAIR)
    }

    /// To which domain a course leads.
    pub fn target(&self, course: CourseId) -> Option<&Domain> {
        self.courses.get(&course).map(|barrier| &barrier.pair.1)
    }

    fn course(&self, pair: &Pair, hop: &HopKey) -> Option<CourseId> {
        let is_it = |course: &&CourseId| self.courses.get(course).is_some_and(|barrier| barrier.hop == *hop);
        self.of_pair.get(pair)?.iter().find(is_it).copied()
    }

    fn begin(&mut self, pair: &Pair, hop: &HopKey) -> CourseId {
        let id = CourseId(self.next_course);
        self.next_course += 1;
        self.of_pair.entry(pair.clone()).or_default().push(id);
        self.courses.insert(id, Barrier::new(pair.clone(), hop.clone()));
        id
    }

    /// A message is being written on the hop's link, which acknowledges it or does not. `None`: its outcome has been told already; else the
    /// receipt to ask for.
    pub fn written(
        &mut self,
        turn: &mut Turn<'_>,
        (course, number): (CourseId, u64),
        link: LinkId,
        is_managed: bool,
    ) -> Option<Option<u64>> {
        let barrier = self.courses.get_mut(&course)?;
        let at = barrier.place(number)?;
        let awaiting = barrier.awaiting.get_mut(at)?;
        let receipt = (is_managed && matches!(awaiting.owed, Owed::Crossing(_))).then_some(number);
        awaiting.by = match receipt {
            Some(_) => By::Receipt(link),
            None => By::Ping(link),
        };
        match receipt {
            Some(number) => {
                self.receipts.insert(number, course);
            }
            None if barrier.lacks_ping(at) => {
                let rests = self.resting.get(&(barrier.pair.clone(), barrier.hop.clone()));
                barrier.watch(turn, course, self.next, link, rests.is_some_and(|until| *until > turn.now));
            }
            None => {}
        }
        Some(receipt)
    }

    /// A message could not be written: it is no longer awaited.
    pub fn unwritten(&mut self, course: CourseId, number: u64) -> Option<Owed> {
        let barrier = self.courses.get_mut(&course)?;
        let at = barrier.place(number)?;
        let owed = barrier.awaiting.remove(at)?.owed;
        self.end_if_idle(course);
        Some(owed)
    }

    /// The far side has taken what was sent with these receipts: whose it was.
    pub fn taken(&mut self, receipts: &[u64]) -> Vec<Owed> {
        let mut settled = Vec::new();
        for number in receipts {
            let Some(course) = self.receipts.remove(number) else { continue };
            let Some(barrier) = self.courses.get_mut(&course) else { continue };
            settled.extend(barrier.place(*number).and_then(|at| barrier.awaiting.remove(at)).map(|found| found.owed));
            self.end_if_idle(course);
        }
        settled
    }

    /// An iq answer from the pair's receiving domain: what it settles as delivered. `None`: it answers no ping of ours.
    pub fn pong(&mut self, turn: &mut Turn<'_>, pair: &Pair, id: &str) -> Option<Vec<Owed>> {
        let of_pair = self.of_pair.get(pair)?;
        let is_it = |course: &&CourseId| self.courses.get(course).is_some_and(|barrier| barrier.is_ping(id));
        let course = *of_pair.iter().find(is_it)?;
        turn.deadlines.cancel(&Deadline::Ping(course));
        let barrier = self.courses.get_mut(&course)?;
        let settled = barrier.settle();
        self.resting.remove(&(barrier.pair.clone(), barrier.hop.clone()));
        self.go_on(turn, course);
        Some(settled)
    }

    /// Whether a SIP sender waits for the outcome of the message with this id.
    pub fn awaits_sender(&self, pair: &Pair, id: &str) -> bool {
        let courses = self.of_pair.get(pair).into_iter().flatten().filter_map(|course| self.courses.get(course));
        let is_it = |awaiting: &Awaiting| matches!(&awaiting.owed, Owed::Sender(sender) if sender.id == id);
        courses.flat_map(|barrier| &barrier.awaiting).any(is_it)
    }

    /// An error came back for a message from SIP: whose it was.
    pub fn bounced(&mut self, pair: &Pair, id: &str) -> Option<Sender> {
        match self.take(pair, |owed| matches!(owed, Owed::Sender(sender) if sender.id == id))? {
            Owed::Sender(sender) => Some(sender),
            Owed::Record(_) | Owed::Crossing(_) => None,
        }
    }

    /// An error came back for a message from XMPP, while its outcome was still awaited.
    pub fn came_back(&mut self, pair: &Pair, is_it: impl Fn(&Envelope) -> bool) -> Option<Box<Envelope>> {
        match self.take(pair, |owed| matches!(owed, Owed::Crossing(envelope) if is_it(envelope)))? {
            Owed::Crossing(envelope) => Some(envelope),
            Owed::Sender(_) | Owed::Record(_) => None,
        }
    }

    /// The course stays, as does its ping: it is silent, or answered, all the same.
    fn take(&mut self, pair: &Pair, of: impl Fn(&Owed) -> bool) -> Option<Owed> {
        let place = |course: &CourseId| {
            let awaiting = &self.courses.get(course)?.awaiting;
            Some((*course, awaiting.iter().position(|awaiting| awaiting.is_written() && of(&awaiting.owed))?))
        };
        let (course, at) = self.of_pair.get(pair)?.iter().find_map(place)?;
        let found = self.courses.get_mut(&course)?.awaiting.remove(at)?;
        self.receipts.remove(&found.number);
        self.end_if_idle(course);
        Some(found.owed)
    }

    /// Something came from the pair's receiving domain, by this node or from outside: it is there.
    pub fn heard(&mut self, pair: &Pair, node: Option<&str>) {
        let Some(of_pair) = self.of_pair.get(pair) else { return };
        for course in of_pair {
            if let Some(barrier) = self.courses.get_mut(course).filter(|barrier| barrier.hop.node() == node) {
                barrier.heard = true;
            }
        }
    }

    /// The ping was not answered, or could not be written: what it covered.
    ///
    /// COMPAT: servers that let no iq for themselves through answer no pings. Where other stanzas kept coming meanwhile, that is so: what was
    /// written there is taken to have arrived, and the course is not asked again for [`limits::PING_RESTS`].
    pub fn silent(&mut self, turn: &mut Turn<'_>, course: CourseId, was_written: bool) -> Vec<Lost> {
        let Some(barrier) = self.courses.get_mut(&course) else { return Vec::new() };
        turn.deadlines.cancel(&Deadline::Ping(course));
        let was_asked = barrier.ping.as_ref().is_some_and(|ping| ping.id.is_some());
        let is_there = was_written && (!was_asked || barrier.heard);
        if was_asked && is_there {
            if self.resting.len() >= limits::PINGS_RESTING {
                self.resting.retain(|_, until| *until > turn.now);
            }
            if self.resting.len() < limits::PINGS_RESTING {
                self.resting.insert((barrier.pair.clone(), barrier.hop.clone()), turn.now + limits::PING_RESTS);
            }
        }
        let lost = barrier.settle().into_iter().map(|owed| {
            let quietly = is_there && matches!(owed, Owed::Crossing(_));
            Lost { owed, written: true, quietly }
        });
        let lost = lost.collect();
        self.go_on(turn, course);
        lost
    }

    /// A link ended: nobody can know what became of what was written on it. What waits for the next connection stays.
    pub fn link_died(&mut self, turn: &mut Turn<'_>, link: LinkId) -> Vec<Lost> {
        let mut lost = Vec::new();
        for course in self.courses.keys().copied().collect::<Vec<_>>() {
            let Some(barrier) = self.courses.get_mut(&course) else { continue };
            let gone = barrier.take_written(|awaiting| awaiting.link() == Some(link));
            if barrier.ping.take_if(|ping| ping.link == link).is_some() {
                turn.deadlines.cancel(&Deadline::Ping(course));
            }
            for awaiting in &gone {
                self.receipts.remove(&awaiting.number);
            }
            lost.extend(gone.into_iter().map(|awaiting| Lost { owed: awaiting.owed, written: true, quietly: false }));
            self.go_on(turn, course);
        }
        lost
    }

    /// The stream ended on which this node's answers for a pair come, or a partner's: a SIP sender's bounce may have been lost with it. What stays
    /// XMPP is asked about once more: its bounce is the far side's to hand over.
    pub fn answers_lost(&mut self, turn: &mut Turn<'_>, pair: &Pair, node: Option<&str>) -> Vec<Lost> {
        let mut lost = Vec::new();
        for course in self.of_pair.get(pair).cloned().unwrap_or_default() {
            let Some(barrier) = self.courses.get_mut(&course).filter(|barrier| barrier.hop.node() == node) else {
                continue;
            };
            let gone = barrier.take_written(|awaiting| !matches!(awaiting.owed, Owed::Crossing(_)));
            lost.extend(gone.into_iter().map(|awaiting| Lost { owed: awaiting.owed, written: true, quietly: false }));
            barrier.ask_again(turn, course);
            self.end_if_idle(course);
        }
        lost
    }

    /// Stops awaiting the message of a request that was answered otherwise.
    pub fn forget(&mut self, server: ServerId) -> Option<Lost> {
        let of = |awaiting: &Awaiting| matches!(&awaiting.owed, Owed::Sender(sender) if sender.server == server);
        let place = |(course, barrier): (&CourseId, &Barrier)| Some((*course, barrier.awaiting.iter().position(of)?));
        let (course, at) = self.courses.iter().find_map(place)?;
        let found = self.courses.get_mut(&course)?.awaiting.remove(at)?;
        self.end_if_idle(course);
        Some(Lost { written: found.is_written(), owed: found.owed, quietly: false })
    }

    /// Draining is over: what stays XMPP is awaited no more.
    pub fn give_up(&mut self) -> Vec<Lost> {
        let mut lost = Vec::new();
        for course in self.courses.keys().copied().collect::<Vec<_>>() {
            let Some(barrier) = self.courses.get_mut(&course) else { continue };
            let stays_xmpp = |awaiting: &Awaiting| matches!(awaiting.owed, Owed::Crossing(_));
            let (gone, kept) = barrier.awaiting.drain(..).partition::<VecDeque<_>, _>(stays_xmpp);
            barrier.awaiting = kept;
            for awaiting in gone {
                self.receipts.remove(&awaiting.number);
                let written = awaiting.is_written();
                lost.push(Lost { owed: awaiting.owed, written, quietly: false });
            }
            self.end_if_idle(course);
        }
        lost
    }

    /// How many outcomes are owed.
    pub fn len(&self) -> usize {
        self.courses.values().map(|barrier| barrier.awaiting.len()).sum()
    }

    /// Whether none is owed.
    pub fn is_empty(&self) -> bool {
        self.courses.values().all(|barrier| barrier.awaiting.is_empty())
    }

    /// Behind an answer: what was written meanwhile is asked about next.
    fn go_on(&mut self, turn: &mut Turn<'_>, course: CourseId) {
        if let Some(barrier) = self.courses.get_mut(&course)
            && barrier.ping.is_none()
            && let Some(link) = barrier.awaiting.iter().rev().find_map(Awaiting::pinged)
        {
            let rests = self.resting.get(&(barrier.pair.clone(), barrier.hop.clone()));
            barrier.watch(turn, course, self.next, link, rests.is_some_and(|until| *until > turn.now));
        }
        self.end_if_idle(course);
    }

    /// A course on which nothing is awaited ends; one with a ping under way when that has ended.
    fn end_if_idle(&mut self, course: CourseId) {
        let Some(barrier) = self.courses.get(&course) else { return };
        if !barrier.awaiting.is_empty() || barrier.ping.is_some() {
            return;
        }
        if let Some(of_pair) = self.of_pair.get_mut(&barrier.pair) {
            of_pair.retain(|other| *other != course);
            if of_pair.is_empty() {
                self.of_pair.remove(&barrier.pair);
            }
        }
        self.courses.remove(&course);
    }
}
