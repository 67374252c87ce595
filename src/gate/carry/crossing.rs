//! How stanzas that stay XMPP end: written, on another node, taken, come back, or in an error to their sender.

use crate::gate::Gate;
use crate::gate::event::{Outcome, Settled};
use crate::gate::exchange::{Output, Path};
use crate::gate::lane::Lane;
use crate::gate::partner::{LinkId, Protocol, Side};
use crate::gate::reject::{Reason, Reject};
use crate::gate::route::HopKey;
use crate::gate::session::crossing::Envelope;
use crate::gate::time::Time;
use crate::wire::xmpp::negotiation::ack;
use crate::wire::xmpp::{Kind, NS_SERVER};
use bytes::Bytes;

impl Gate {
    /// A stanza could not be written: the next node may take it, or its sender hears so.
    pub(super) fn crossing_unwritten(
        &mut self,
        now: Time,
        key: &HopKey,
        mut envelope: Envelope,
        (bytes, transit): (Bytes, Option<(Time, Path)>),
        reject: &Reject,
    ) {
        self.sessions.crossings.go(&envelope);
        envelope.waits = false;
        // A queue that is full is no node that can't be reached.
        if envelope.side == Side::Outside
            && reject.reason != Reason::Overloaded
            && let Some(next) = key.node().and_then(|failed| self.way_after(failed, &envelope))
        {
            let Err(reject) = self.hand_over(now, next, envelope.clone(), bytes, transit) else { return };
            return self.crossing_failed(now, &envelope, &reject, Outcome::Failed);
        }
        if envelope.is_reply && envelope.kind == Kind::Message && envelope.side == Side::Outside {
            // It settled the message of one of ours, who hears of it nowhere else.
            let (mut turn, sessions) = self.turn(now);
            return sessions.crossings.owe(&mut turn, key.clone(), &envelope, &bytes);
        }
        self.crossing_failed(now, &envelope, reject, Outcome::Failed);
    }

    /// A stanza did not arrive, or nobody can know: its sender is told, unless it was an answer itself.
    pub(super) fn crossing_failed(&mut self, now: Time, envelope: &Envelope, reject: &Reject, outcome: Outcome) {
        let facts = envelope.facts();
        if envelope.is_reply {
            let (mut turn, sessions) = self.turn(now);
            sessions.crossings.settled(&mut turn, envelope.of());
            return self.drop_crossing(now, facts, reject);
        }
        let (mut turn, sessions) = self.turn(now);
        let id = turn.refused(reject, &facts);
        // It may be acknowledged when the error is taken.
        sessions.crossings.bounce(&mut turn, envelope, &reject.stanza_error(id));
        self.crossing_ended(envelope, outcome);
    }

    /// How a stanza ended is known, and there is nothing to say of it. Messages are counted, and perhaps acknowledged now (XEP-0198 §4).
    pub(super) fn crossing_settled(&mut self, now: Time, envelope: &Envelope, outcome: Outcome) {
        self.crossing_ended(envelope, outcome);
        let (mut turn, sessions) = self.turn(now);
        sessions.crossings.settled(&mut turn, envelope.of());
    }

    fn crossing_ended(&mut self, envelope: &Envelope, outcome: Outcome) {
        if envelope.kind != Kind::Message {
            return;
        }
        let settled = Settled {
            partner: envelope.partner.clone(),
            side: envelope.side,
            protocol: Protocol::Xmpp,
            action: envelope.action,
            outcome,
        };
        self.outputs.push_back(Output::Settled(settled));
        self.sessions.crossings.go(envelope);
    }

    /// An error comes back, perhaps for a message whose outcome was awaited still: that may be acknowledged when the error is written.
    pub(in crate::gate) fn came_back(&mut self, error: &mut Envelope) {
        let pair = (error.to.bare.domain().clone(), error.from.bare.domain().clone());
        let Some(id) = error.id.as_deref() else { return };
        let is_it = |envelope: &Envelope| {
            envelope.id.as_deref() == Some(id) && envelope.from == error.to && envelope.to.bare == error.from.bare
        };
        if let Some(envelope) = self.sessions.barriers.came_back(&pair, is_it) {
            (error.link, error.ticket) = (envelope.link, envelope.ticket);
            self.crossing_ended(&envelope, Outcome::Failed);
        }
    }

    /// The other end has taken what was sent with these receipts.
    pub(in crate::gate) fn taken(&mut self, now: Time, receipts: &[u64]) {
        for owed in self.sessions.barriers.taken(receipts) {
            self.arrived(now, owed);
        }
    }

    /// A server wants to hear that its stanzas are ours (XEP-0198 §4): when they are settled, or kept.
    pub(in crate::gate) fn ack_asked(&mut self, now: Time, link: LinkId, handled: u32) {
        let (mut turn, sessions) = self.turn(now);
        if sessions.crossings.ask(&mut turn, link, handled) {
            self.acknowledge(link, handled);
        }
    }

    /// It has waited long enough: what is under way still is ours to settle.
    pub(in crate::gate) fn ack_due(&mut self, link: LinkId) {
        if let Some(handled) = self.sessions.crossings.ack_due(link) {
            self.acknowledge(link, handled);
        }
    }

    /// Behind all that its stanzas left to be kept.
    fn acknowledge(&mut self, link: LinkId, handled: u32) {
        self.write(link, ack(handled).print(NS_SERVER).into(), Lane::All);
    }

    /// Draining has taken long enough.
    pub(in crate::gate) fn give_up_crossings(&mut self, now: Time) {
        let lost = self.sessions.barriers.give_up();
        self.lost(now, lost, "stopping");
        self.carry(now);
        let (mut turn, sessions) = self.turn(now);
        sessions.crossings.give_up(&mut turn);
    }
}
