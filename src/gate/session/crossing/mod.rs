//! Stanzas that stay XMPP: what must be known of one that is on its way, so that it ends in delivered or in an error to its sender.
//!
//! The stanza itself crosses byte for byte and is not kept. What a message's [`Envelope`] waits for is [`super::outcome`]'s.

mod acks;

use self::acks::Acks;
use super::{Deadline, Facts, Parcel, Passage, Step, Turn};
use crate::gate::event::Event;
use crate::gate::lane::Lane;
use crate::gate::limits;
use crate::gate::partner::{Action, LinkId, Protocol, Side};
use crate::gate::route::{HopKey, node_hop};
use crate::gate::settings::Settings;
use crate::wire::address::Jid;
use crate::wire::xmpp::negotiation::ack;
use crate::wire::xmpp::{Condition, Element, ErrorType, Kind, NS_SERVER, StanzaError};
use bytes::Bytes;
use smol_str::SmolStr;
use std::collections::BTreeMap;

/// Whose stanza is on its way, and what it is answered by if it can't arrive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// The link it came on; for an error that came back, the link of its message.
    pub link: LinkId,
    /// Its number among all messages that were taken on, or for an error that of the message which came back: for [`Crossings::settled`].
    pub ticket: Option<u64>,
    /// Message, presence or iq.
    pub kind: Kind,
    /// What it does.
    pub action: Action,
    /// Where its sender is.
    pub side: Side,
    /// Its sender.
    pub from: Jid,
    /// For whom.
    pub to: Jid,
    /// Its id, unless that is longer than [`limits::STANZA_ID_BYTES`]: then an error has none.
    pub id: Option<Box<str>>,
    /// The node of an inside sender.
    pub node: Option<String>,
    /// The partner entry's label.
    pub partner: SmolStr,
    /// Whether it answers something itself: then nobody is told that it could not arrive (RFC 6120 §8.3.1).
    pub is_reply: bool,
    /// Whether those of the same two addresses that come after it follow it, until it is written; a message until it is settled.
    pub waits: bool,
}

impl Envelope {
    /// Who asked for what, for the log.
    pub fn facts(&self) -> Facts {
        Facts {
            from: self.from.to_string(),
            to: self.to.to_string(),
            action: self.action,
            side: self.side,
            protocol: Protocol::Xmpp,
            partner: self.partner.to_string(),
            peer: None,
        }
    }

    /// The error that its sender gets: no payload echoed (RFC 6120 §8.3.1).
    fn error_stanza(&self, error: &StanzaError) -> Element {
        Element::new(self.kind.as_str(), NS_SERVER)
            .attr("from", &self.to.to_string())
            .attr("to", &self.from.to_string())
            .attr("type", "error")
            .attr_if("id", self.id.as_deref())
            .child(error.to_element(NS_SERVER))
    }

    /// By what its acknowledgement waits for it, if it was taken on.
    pub fn of(&self) -> Option<(LinkId, u64)> {
        Some((self.link, self.ticket?))
    }

    /// Where its sender is answered.
    pub fn reply_hop(&self, settings: &Settings) -> HopKey {
        back_to(settings, self.node.as_deref(), &self.from, &self.to)
    }
}

/// The hop by which a sender is answered: the node that spoke, or the partner's server.
pub fn back_to(settings: &Settings, node: Option<&str>, from: &Jid, to: &Jid) -> HopKey {
    match node {
        Some(node) => node_hop(settings, node, to.bare.domain(), from.bare.domain()),
        None => HopKey::XmppPartner { from: to.bare.domain().clone(), to: from.bare.domain().clone() },
    }
}

/// An error that is owed to a sender whose server could not be reached.
#[derive(Debug)]
struct Bounce {
    hop: HopKey,
    stanza: Box<str>,
    tries: u32,
    /// The message whose acknowledgement waits for it: its link and ticket.
    of: Option<(LinkId, u64)>,
    /// Whether it counts as unresolved when nobody takes it: a partner that can't be reached is its own loss.
    counts: bool,
}

/// What is remembered of stanzas that stay XMPP.
#[derive(Debug, Default)]
pub struct Crossings {
    /// Goes into the names of courses: nobody outside can make two alike, and so have one go where the other does.
    key: u64,
    next: u64,
    acks: Acks,
    /// Between which addresses something is under way to one of several nodes, to which, and how much: what comes after goes the same way.
    waiting: BTreeMap<u64, (HopKey, u32)>,
    bounces: BTreeMap<u64, Bounce>,
    unresolved: u64,
}

impl Crossings {
    /// Nothing is under way. `key` must be unguessable.
    pub fn new(key: u64) -> Self {
        Self { key, ..Self::default() }
    }

    /// Names the two addresses between which order is kept.
    fn course(&self, envelope: &Envelope) -> u64 {
        super::table::fingerprint((self.key, &envelope.from.bare, &envelope.to.bare))
    }

    /// A message is taken on, and is to be settled. One that goes on to another node was.
    pub fn take_on(&mut self, envelope: &mut Envelope) {
        if envelope.ticket.is_none() {
            envelope.ticket = Some(self.next);
            self.acks.taken(envelope.link, self.next);
            self.next += 1;
        }
    }

    /// How a message ended is known, and said: what its link waits for is acknowledged now, if that was the last.
    pub fn settled(&mut self, turn: &mut Turn<'_>, of: Option<(LinkId, u64)>) {
        let Some((link, ticket)) = of else { return };
        if let Some(handled) = self.acks.settled(link, ticket) {
            turn.deadlines.cancel(&Deadline::Ack(link));
            turn.step(Step::Write { link, bytes: ack(handled).print(NS_SERVER).into(), lane: Lane::All });
        }
    }

    /// A server wants to hear that the stanzas of this link are handled. `true`: they are; else it hears so when those that it gave us before
    /// are settled, within [`limits::SETTLE_WITHIN`] at the latest.
    pub fn ask(&mut self, turn: &mut Turn<'_>, link: LinkId, handled: u32) -> bool {
        let are_settled = self.acks.ask(link, handled, self.next);
        if !are_settled {
            turn.deadlines.set(Deadline::Ack(link), turn.now + limits::SETTLE_WITHIN);
        }
        are_settled
    }

    /// That has taken too long: what is said now.
    pub fn ack_due(&mut self, link: LinkId) -> Option<u32> {
        self.acks.give_up(link)
    }

    /// A link ended.
    pub fn link_closed(&mut self, turn: &mut Turn<'_>, link: LinkId) {
        self.acks.closed(link);
        turn.deadlines.cancel(&Deadline::Ack(link));
    }

    /// Where what is under way between two addresses goes.
    pub fn way(&self, envelope: &Envelope) -> Option<&HopKey> {
        if self.waiting.is_empty() {
            return None;
        }
        self.waiting.get(&self.course(envelope)).map(|(hop, _)| hop)
    }

    /// One more goes by this hop.
    pub fn wait(&mut self, envelope: &Envelope, hop: &HopKey) {
        let course = self.course(envelope);
        let (way, count) = self.waiting.entry(course).or_insert_with(|| (hop.clone(), 0));
        way.clone_from(hop);
        *count += 1;
    }

    /// One less: it is there, or goes no further.
    pub fn go(&mut self, envelope: &Envelope) {
        if !envelope.waits {
            return;
        }
        let course = self.course(envelope);
        if let Some((_, count)) = self.waiting.get_mut(&course) {
            *count -= 1;
            if *count == 0 {
                self.waiting.remove(&course);
            }
        }
    }

    /// Says an error to a sender; a message's again and again until it is taken: then the message is settled.
    pub fn bounce(&mut self, turn: &mut Turn<'_>, envelope: &Envelope, error: &StanzaError) {
        let hop = envelope.reply_hop(turn.settings);
        let stanza = envelope.error_stanza(error).print(NS_SERVER);
        let passage = if envelope.kind == Kind::Message && self.bounces.len() < limits::PAGES {
            let number = self.next;
            self.next += 1;
            let counts = envelope.side == Side::Inside;
            let bounce =
                Bounce { hop: hop.clone(), stanza: stanza.as_str().into(), tries: 0, of: envelope.of(), counts };
            self.bounces.insert(number, bounce);
            Passage::Bounce(number)
        } else {
            self.settled(turn, envelope.of());
            Passage::Answer
        };
        let parcel = Parcel { bytes: Bytes::from(stanza), passage, transit: None, lane: Lane::Free };
        turn.step(Step::Pass { hop, parcel });
    }

    /// An error that another server said of a sender's message could not be written: it is owed as one of ours is.
    pub fn owe(&mut self, turn: &mut Turn<'_>, hop: HopKey, envelope: &Envelope, bytes: &[u8]) {
        if self.bounces.len() >= limits::PAGES {
            self.lose(turn, 1, "too many errors are owed to senders' servers that can't be reached");
            return self.settled(turn, envelope.of());
        }
        let stanza = match std::str::from_utf8(bytes) {
            Ok(stanza) if stanza.len() <= limits::ERROR_BYTES => stanza.into(),
            _ => {
                let error = StanzaError::new(Condition::UndefinedCondition, ErrorType::Cancel);
                let (from, to) = (envelope.to.clone(), envelope.from.clone());
                Envelope { from, to, ..envelope.clone() }.error_stanza(&error).print(NS_SERVER).into()
            }
        };
        let number = self.next;
        self.next += 1;
        self.bounces.insert(number, Bounce { hop, stanza, tries: 0, of: envelope.of(), counts: true });
        self.bounce_later(turn, number);
    }

    /// An error was written.
    pub fn bounced(&mut self, turn: &mut Turn<'_>, number: u64) {
        let of = self.bounces.remove(&number).and_then(|bounce| bounce.of);
        turn.deadlines.cancel(&Deadline::Crossing(number));
        self.settled(turn, of);
    }

    /// It could not be: again later, or never.
    pub fn bounce_later(&mut self, turn: &mut Turn<'_>, number: u64) {
        let Some(bounce) = self.bounces.get_mut(&number) else { return };
        bounce.tries += 1;
        if bounce.tries > limits::BOUNCE_TRIES {
            let (counts, of) = (bounce.counts, bounce.of);
            self.bounces.remove(&number);
            self.settled(turn, of);
            if counts {
                self.lose(turn, 1, "an error could not be handed to its sender's server in many tries");
            }
            return;
        }
        let at = turn.jittered(limits::BOUNCE_AGAIN * bounce.tries);
        turn.deadlines.set(Deadline::Crossing(number), at);
    }

    /// It is time to say it again.
    pub fn bounce_again(&mut self, turn: &mut Turn<'_>, number: u64) {
        let Some(bounce) = self.bounces.get(&number) else { return };
        let bytes = Bytes::copy_from_slice(bounce.stanza.as_bytes());
        let parcel = Parcel { bytes, passage: Passage::Bounce(number), transit: None, lane: Lane::Free };
        turn.step(Step::Pass { hop: bounce.hop.clone(), parcel });
    }

    /// Draining is over. Whose message was never acknowledged hears of it by that; whoever keeps no count does not.
    pub fn give_up(&mut self, turn: &mut Turn<'_>) {
        let mut lost = 0;
        for (number, bounce) in std::mem::take(&mut self.bounces) {
            turn.deadlines.cancel(&Deadline::Crossing(number));
            lost += u64::from(bounce.counts);
        }
        if lost > 0 {
            self.lose(
                turn,
                lost,
                "errors were still owed to senders' servers that can't be reached when the edge stopped",
            );
        }
    }

    /// So many senders hear nothing of how their messages ended: the operator does.
    fn lose(&mut self, turn: &mut Turn<'_>, count: u64, what: &str) {
        self.unresolved += count;
        turn.step(Step::Event(Event::Noticed { what: what.to_owned() }));
    }

    /// Whether no error is owed any more.
    pub fn is_settled(&self) -> bool {
        self.bounces.is_empty()
    }

    /// Messages of ours that ended neither delivered nor in an error to their sender; must stay 0.
    pub fn unresolved(&self) -> u64 {
        self.unresolved
    }
}
