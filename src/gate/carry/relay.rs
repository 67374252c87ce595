//! What becomes of a request that was relayed: its answers go back, or another node is tried, or its sender hears why not.

use crate::gate::Gate;
use crate::gate::border::topology::{self, Crossing, Dialog, Ends};
use crate::gate::event::{Outcome, Settled};
use crate::gate::exchange::Output;
use crate::gate::lane::Lane;
use crate::gate::limits;
use crate::gate::partner::{LinkId, Protocol, Side};
use crate::gate::reject::{Reason, Reject};
use crate::gate::route::HopKey;
use crate::gate::session::relay::{Context, Due, RelayId, State, Way};
use crate::gate::session::{Deadline, Parcel, Passage, Sessions, Step};
use crate::gate::time::Time;
use crate::wire::sip::header::{self, Name};
use crate::wire::sip::{Host, Message, Method};
use bytes::Bytes;
use std::time::Duration;

/// Why a relayed request has no answer.
#[derive(Debug)]
pub(in crate::gate) enum Unanswered {
    /// Never written.
    Unreachable(Reject),
    /// Written, and the connection ended.
    LinkDied,
    /// Nothing came in time.
    Silent,
}

impl Gate {
    /// What rewriting a message on this way needs.
    pub(in crate::gate) fn crossing<'a>(&'a self, way: &'a Way) -> Result<Crossing<'a>, Reject> {
        let mut beside = self.settings.nodes.iter().zip(&self.border.places);
        let (node, place) = beside
            .find(|(node, _)| node.name == way.node)
            .ok_or_else(|| Reject::new(Reason::NoNode, format!("node {} is not configured any more", way.node)))?;
        Ok(Crossing {
            settings: &self.settings,
            masks: &self.border.masks,
            inside: &self.border.inside,
            ends: Ends { partner: &way.partner, local: &way.local },
            profile: way.profile,
            node,
            place,
            identity: way.identity,
            dialog: way.dialog,
        })
    }

    /// A response to a request that was relayed; `false`: it is none.
    pub(super) fn relayed_response(&mut self, now: Time, link: LinkId, response: &Message, status: u16) -> bool {
        let Some(id) = self.sessions.relays.answered(link, response) else { return false };
        let Some(context) = self.sessions.relays.get(id) else { return false };
        let is_invite = context.request.method() == Some(&Method::Invite);
        match context.state {
            State::Proceeding { .. } => {}
            // RFC 6026 §7.1: a further 2xx, of another fork or sent again, goes the same way; RFC 3261 §16.7 step 5: also behind a refusal.
            State::Accepted | State::Completed if (200..300).contains(&status) => {
                let is_first = context.state == State::Completed;
                // One that is stopped is nobody's loss: another answer counts.
                if self.pass_back(id, response).is_ok() && is_first {
                    self.saw_dialog(now, id, response);
                }
                return true;
            }
            State::Accepted | State::Completed => return true,
        }
        match status {
            100..=199 => {
                self.provisional(now, id);
                // RFC 3261 §16.7 step 5: 100 is hop by hop. RFC 4320 §4.1: other methods have no other.
                if is_invite && status != 100 {
                    let _ = self.pass_back(id, response);
                }
            }
            // RFC 4320 §4.2: never to a request that is no INVITE.
            408 if !is_invite => {
                let reject = Reject::new(Reason::Timeout, "the far side says 408");
                self.refuse_relayed(now, id, &reject, Outcome::Failed);
            }
            _ => self.relayed_final(now, id, link, response, status),
        }
        true
    }

    /// Something came of an INVITE: it may be cancelled now, and may ring.
    fn provisional(&mut self, now: Time, id: RelayId) {
        let Some(context) = self.sessions.relays.get_mut(id) else { return };
        let State::Proceeding { provisional, cancelled } = &mut context.state else { return };
        let is_due = !*provisional && *cancelled;
        *provisional = true;
        if is_due {
            self.write_cancel(now, id);
        } else if !*cancelled && context.request.method() == Some(&Method::Invite) {
            self.deadlines.set(Deadline::Relayed(id), now + limits::TIMER_C);
        }
    }

    fn relayed_final(&mut self, now: Time, id: RelayId, link: LinkId, response: &Message, status: u16) {
        let Some(context) = self.sessions.relays.get_mut(id) else { return };
        context.is_answered = true;
        // RFC 3261 §17.1.1.3: hop by hop.
        if status >= 300
            && context.request.method() == Some(&Method::Invite)
            && let Some(sent) = &context.sent
        {
            let bytes = topology::ack(sent, response);
            self.steps.push_back(Step::Write { link, bytes, lane: Lane::Free });
        }
        if status == 503 {
            return self.relayed_503(now, id, response);
        }
        if let Err(reject) = self.pass_back(id, response) {
            return self.refuse_relayed(now, id, &reject.with_status(500), Outcome::Failed);
        }
        let Some(context) = self.sessions.relays.get(id) else { return };
        let makes_dialog =
            |method: &Method| matches!(method, Method::Invite | Method::Subscribe | Method::Refer | Method::Bye);
        if status < 300 && context.request.method().is_some_and(makes_dialog) {
            self.saw_dialog(now, id, response);
        }
        let outcome = if status < 300 { Outcome::Delivered } else { Outcome::Failed };
        self.relayed_settled(now, id, status, outcome);
    }

    /// RFC 3261 §16.7 step 6: a 503 says something of the hop it came from, not of us; another is tried.
    fn relayed_503(&mut self, now: Time, id: RelayId, response: &Message) {
        let Some(context) = self.sessions.relays.get(id) else { return };
        let (side, node, label) = (context.way.side, context.way.node.clone(), context.way.label.clone());
        let rest = response.header(Name::RetryAfter).and_then(header::retry_after);
        if side == Side::Outside
            && let Some(seconds) = rest
        {
            let rest = Duration::from_secs(u64::from(seconds)).min(limits::NODE_RESTS);
            self.health.rests(&node, now + rest);
        }
        let rest = rest.map_or(limits::ADDRESS_RESTS, |seconds| Duration::from_secs(u64::from(seconds)));
        let may_try = side == Side::Outside || self.turns_away(now, id, rest.min(limits::NODE_RESTS));
        if may_try && self.try_elsewhere(now, id) {
            return;
        }
        let reject = match side {
            Side::Outside => Reject::new(Reason::NoNode, format!("node {node} says 503")),
            Side::Inside => Reject::new(Reason::Timeout, format!("the server of {label} says 503")),
        };
        self.refuse_relayed(now, id, &reject, Outcome::Failed);
    }

    /// A dialog was made, refreshed or ended.
    fn saw_dialog(&mut self, now: Time, id: RelayId, response: &Message) {
        let Self { settings, sessions, .. } = self;
        let Some((Context { way, request, sent, .. }, dialogs)) = sessions.relays.with_dialogs(id) else { return };
        let outside = match way.side {
            Side::Outside => Some(request),
            Side::Inside => sent.as_ref(),
        };
        let is_ours = |host: Host<'_>| {
            let facing = settings.nodes.iter().find(|node| node.name == way.node).and_then(|node| node.facing.as_ref());
            settings.identities.iter().any(|identity| host.is(&identity.hostname))
                || facing.is_some_and(|facing| host.is(&facing.at.host))
        };
        dialogs.answered(now, way, request, response, outside.and_then(Message::call_id), &is_ours);
    }

    /// Sends a response back where its request came from, in that side's words; or says why it must not cross.
    fn pass_back(&mut self, id: RelayId, response: &Message) -> Result<(), Reject> {
        let Some(context) = self.sessions.relays.get(id) else { return Ok(()) };
        let crossing = self.crossing(&context.way)?;
        let written = match context.way.side {
            Side::Outside => topology::outward_response(&crossing, &context.request, response),
            Side::Inside => topology::inward_response(&crossing, &context.request, response),
        };
        match written {
            Ok(bytes) => {
                self.write_back(id, bytes);
                Ok(())
            }
            Err(reject) => {
                self.notice(format!("a response of node {} was stopped: {}", context.way.node, reject.detail));
                Err(reject)
            }
        }
    }

    /// On the connection of the request (RFC 3261 §18.2.2); a node's that is gone is made again, as it is known where the node is.
    fn write_back(&mut self, id: RelayId, bytes: Bytes) {
        let Some(context) = self.sessions.relays.get(id) else { return };
        let link = context.came.link;
        if self.links.get(link).is_some() || context.way.side == Side::Outside {
            self.steps.push_back(Step::Write { link, bytes, lane: Lane::Free });
            return;
        }
        let parcel = Parcel { bytes, passage: Passage::Answer, transit: None, lane: Lane::Free };
        self.steps.push_back(Step::Pass { hop: HopKey::SipNode { node: context.way.node.clone() }, parcel });
    }

    /// Hands a request that nobody took to the next node, or to another address of the partner. `false`: there is none.
    fn try_elsewhere(&mut self, now: Time, id: RelayId) -> bool {
        let Some(context) = self.sessions.relays.get_mut(id) else { return false };
        if !matches!(context.state, State::Proceeding { cancelled: false, .. }) || context.tries >= limits::RELAY_TRIES
        {
            return false;
        }
        let health = &self.health;
        context.others.retain(|node| health.takes_new(node, now));
        if context.way.side == Side::Outside && context.others.is_empty() {
            return false;
        }
        let (mut turn, sessions) = self.turn(now);
        let Some(context) = sessions.relays.take(&mut turn, id) else { return false };
        let Context { came, request, mut way, mut others, tries, .. } = *context;
        if way.side == Side::Outside {
            way.node = others.remove(0);
            way.dialog = Dialog::new(&self.border.masks, &way.node, way.dialog.opener, way.dialog.action);
        }
        let failed = settled(&way, Outcome::Failed);
        let ends = Ends { partner: &way.partner, local: &way.local };
        let routed = match way.side {
            Side::Outside => topology::routed_inward(&request, &self.border.masks, ends, &self.settings),
            Side::Inside => {
                topology::routed_outward(&request, &self.border.masks, ends, &self.settings, &self.border.inside)
            }
        };
        let handed = routed.and_then(|routed| self.hand_on(now, came, &request, way, &routed, (others, tries + 1)));
        if let Err(reject) = handed {
            self.refuse_sip(now, came.link, &request, &reject);
            self.outputs.push_back(failed);
        }
        true
    }

    /// RFC 3263 §4.3: what a hop leads to can't take it, or says nothing; whether another address of the partner can be tried.
    fn turns_away(&mut self, now: Time, id: RelayId, rest: Duration) -> bool {
        let Some(context) = self.sessions.relays.get(id) else { return false };
        let Some(link) = context.written() else { return false };
        let turned = context.way.side == Side::Inside && self.hops.turn_away(&context.hop, link, now, now + rest);
        if turned {
            self.deadlines.set(Deadline::Leave(link), now + limits::LINK_LINGERS);
        }
        turned
    }

    /// Ends a connection that another has taken the place of, once nothing of ours is under way on it.
    pub(in crate::gate) fn leave(&mut self, now: Time, link: LinkId) {
        if self.links.get(link).is_none() {
            return;
        }
        let Sessions { relays, clients, chats, .. } = &self.sessions;
        if relays.on_link(link).is_empty() && clients.on_link(link).is_empty() && chats.on_link(link).is_empty() {
            self.outputs.push_back(Output::Close { link, error: None });
        } else {
            self.deadlines.set(Deadline::Leave(link), now + limits::LINK_LINGERS);
        }
    }

    /// A relayed request has no answer, and will have none.
    pub(in crate::gate) fn relayed_unanswered(&mut self, now: Time, id: RelayId, why: Unanswered) {
        let Some(context) = self.sessions.relays.get(id) else { return };
        let method = context.request.method().cloned();
        let of_node = context.way.side == Side::Outside;
        let whom = match context.way.side {
            Side::Outside => format!("node {}", context.way.node),
            Side::Inside => format!("the server of {}", context.way.label),
        };
        // Of what a node that died had taken, only a message may have reached somebody.
        let may_repeat = matches!(method, Some(Method::Invite | Method::Subscribe | Method::Options));
        let uncertain = |what: &str| Reject::new(Reason::Uncertain, format!("{whom} {what}"));
        let (reject, outcome) = match why {
            // Of a partner every address was tried.
            Unanswered::Unreachable(reject) => {
                if of_node && self.try_elsewhere(now, id) {
                    return;
                }
                (reject, Outcome::Failed)
            }
            Unanswered::LinkDied => {
                if of_node && may_repeat && self.try_elsewhere(now, id) {
                    return;
                }
                (uncertain("was given it, and the connection ended before the answer"), Outcome::Uncertain)
            }
            Unanswered::Silent if !self.sessions.relays.is_written(id) => {
                let detail = format!("{whom} could not be reached in time");
                (Reject::new(Reason::Timeout, detail), Outcome::Failed)
            }
            Unanswered::Silent if may_repeat => {
                self.turns_away(now, id, limits::ADDRESS_RESTS);
                (Reject::new(Reason::Timeout, format!("{whom} did not answer")), Outcome::Failed)
            }
            Unanswered::Silent => {
                self.turns_away(now, id, limits::ADDRESS_RESTS);
                (uncertain("was given it and did not answer"), Outcome::Uncertain)
            }
        };
        self.refuse_relayed(now, id, &reject, outcome);
    }

    /// Tells the sender that its request came to nothing.
    fn refuse_relayed(&mut self, now: Time, id: RelayId, reject: &Reject, outcome: Outcome) {
        let Some(context) = self.sessions.relays.get(id) else { return };
        let (link, request) = (context.came.link, context.request.clone());
        if self.links.get(link).is_some() {
            self.refuse_sip(now, link, &request, reject);
        }
        self.relayed_settled(now, id, reject.status, outcome);
    }

    fn relayed_settled(&mut self, now: Time, id: RelayId, status: u16, outcome: Outcome) {
        let Some((Context { way, request, .. }, dialogs)) = self.sessions.relays.with_dialogs(id) else { return };
        let told = settled(way, outcome);
        if request.method() == Some(&Method::Notify) {
            match status {
                481 => dialogs.unknown(&way.partner, request),
                _ => dialogs.notified(&way.partner, request),
            }
        }
        self.outputs.push_back(told);
        let (mut turn, sessions) = self.turn(now);
        sessions.relays.settled(&mut turn, id, status);
    }

    /// The sender of an INVITE wants it no more (RFC 3261 §16.10).
    pub(in crate::gate) fn cancel_relayed(&mut self, now: Time, id: RelayId) {
        let is_written = self.sessions.relays.is_written(id);
        let Some(context) = self.sessions.relays.get_mut(id) else { return };
        let State::Proceeding { provisional, cancelled } = &mut context.state else { return };
        if *cancelled {
            return;
        }
        *cancelled = true;
        if *provisional {
            self.write_cancel(now, id);
        } else if !is_written {
            // Nobody has seen it yet, and nobody will.
            let (link, request) = (context.came.link, context.request.clone());
            self.answer(now, link, &request, 487, &[], None, false);
            self.relayed_settled(now, id, 487, Outcome::Failed);
        }
    }

    /// RFC 3261 §9.1: a CANCEL of our own, and so long for what it ends to say so.
    fn write_cancel(&mut self, now: Time, id: RelayId) {
        let Some(context) = self.sessions.relays.get(id) else { return };
        let (Some(sent), Some(link)) = (&context.sent, context.written()) else { return };
        let bytes = topology::cancel(sent);
        self.steps.push_back(Step::Write { link, bytes, lane: Lane::Free });
        self.deadlines.set(Deadline::Relayed(id), now + limits::TIMER_B);
    }

    /// What an INVITE under way waited for has not come.
    pub(in crate::gate) fn relayed_due(&mut self, now: Time, id: RelayId) {
        let Some(context) = self.sessions.relays.get_mut(id) else { return };
        match &mut context.state {
            // RFC 3261 §16.8, Timer C.
            State::Proceeding { provisional: true, cancelled } if !*cancelled => {
                *cancelled = true;
                self.write_cancel(now, id);
            }
            State::Proceeding { .. } => self.relayed_unanswered(now, id, Unanswered::Silent),
            // RFC 3261 §17.2.1, Timer H; RFC 6026 §7.1, Timer L.
            State::Completed | State::Accepted => {
                let (mut turn, sessions) = self.turn(now);
                sessions.relays.take(&mut turn, id);
            }
        }
    }

    /// Everything of relayed requests that is due now.
    pub(in crate::gate) fn relays_due(&mut self, now: Time) {
        self.sessions.relays.dialogs.expire(now);
        while let Some(due) = self.sessions.relays.due(now) {
            match due {
                Due::Trying(id) => {
                    let Some(context) = self.sessions.relays.get(id) else { continue };
                    let (link, request) = (context.came.link, context.request.clone());
                    self.answer(now, link, &request, 100, &[], None, false);
                }
                Due::Settle(id) => self.relayed_unanswered(now, id, Unanswered::Silent),
            }
        }
    }

    /// A connection is gone: what was written on it has no answer, what came on it nobody to hear one.
    pub(in crate::gate) fn relays_lost(&mut self, now: Time, link: LinkId) {
        for id in self.sessions.relays.on_link(link) {
            self.relayed_unanswered(now, id, Unanswered::LinkDied);
        }
        for id in self.sessions.relays.invites_from(link) {
            self.cancel_relayed(now, id);
        }
    }

    /// The edge stops: what has no answer yet gets one from us.
    pub(in crate::gate) fn give_up_relays(&mut self, now: Time) {
        for id in self.sessions.relays.open() {
            self.relayed_unanswered(now, id, Unanswered::Silent);
        }
    }
}

/// How a relayed request ended.
fn settled(way: &Way, outcome: Outcome) -> Output {
    let Way { label, side, action, .. } = way;
    let settled = Settled { partner: label.clone(), side: *side, protocol: Protocol::Sip, action: *action, outcome };
    Output::Settled(settled)
}
