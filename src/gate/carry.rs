//! Handing on: what the sessions want becomes outputs; what could not be handed on goes back to whom it concerns.

mod crossing;
mod health;
mod relay;

pub(super) use relay::Unanswered;

use super::Gate;
use super::components;
use super::event::{Event, Outcome, Settled};
use super::exchange::{HopId, Output, Target};
use super::lane::Lane;
use super::limits;
use super::links::Link;
use super::partner::{Action, LinkId, Protocol, Side};
use super::reject::{Reason, Reject};
use super::route::HopKey;
use super::route::hop::Passed;
use super::session::outcome::{CourseId, Lost, Owed, Sender};
use super::session::transaction::{Ended, Purpose};
use super::session::{Facts, Parcel, Passage, Step};
use super::time::Time;
use crate::wire::sip::{Message, Start};
use rand::RngExt;
use smol_str::SmolStr;

impl Gate {
    /// Turns every step into outputs, until none is left.
    pub(super) fn carry(&mut self, now: Time) {
        // An answer waits for what its request made us keep, or forget: who was told that it is over hears no more of it.
        let mut answers = Lane::Free;
        while let Some(step) = self.steps.pop_front() {
            match step {
                Step::Write { link, bytes, lane: Lane::Free } => self.write(link, bytes, answers),
                Step::Write { link, bytes, lane } => self.write(link, bytes, lane),
                Step::Pass { hop, parcel } => self.pass(now, &hop, parcel),
                Step::Keep { lane, record } => {
                    if lane != Lane::Free {
                        answers = lane;
                    }
                    self.outputs.push_back(Output::Keep { lane, record: Box::new(record) });
                }
                Step::Forget { lane, id } => {
                    if lane != Lane::Free {
                        answers = lane;
                    }
                    self.outputs.push_back(Output::Forget { lane, id });
                }
                Step::Event(event) => self.outputs.push_back(Output::Event(Box::new(event))),
            }
        }
    }

    fn write(&mut self, link: LinkId, bytes: bytes::Bytes, lane: Lane) {
        if self.links.get(link).is_some() {
            self.outputs.push_back(Output::Send { link, bytes, transit: None, lane, receipt: None });
        }
    }

    fn pass(&mut self, now: Time, key: &HopKey, parcel: Parcel) {
        // What is relayed was looked at when it was rewritten.
        if let HopKey::Partner { .. } = key
            && !matches!(parcel.passage, Passage::Relayed(_))
            && let Some(field) = self.border.inside.named_in(&parcel.bytes)
        {
            let reject = Reject::new(
                Reason::NotAllowed,
                format!("stopped at the border: {field} names something of the inside"),
            );
            self.notice(format!("a message to {key:?} was stopped: {field} names something of the inside"));
            self.parcel_failed(now, key, parcel, &reject);
            return;
        }
        match self.hops.pass(now, key, parcel) {
            Passed::Write(link, parcel) => self.parcel_written(now, link, parcel),
            Passed::Queued => {}
            Passed::Connect(hop) => match self.target(now, key) {
                Some(target) => self.outputs.push_back(Output::Connect { hop, target }),
                None => self.hop_failed(
                    now,
                    hop,
                    Reject::new(Reason::NoNode, format!("{key:?} is not configured any more")),
                ),
            },
            Passed::Down(parcel, reject) => self.parcel_failed(now, key, parcel, &reject),
            Passed::Full(parcel) => {
                let reject = Reject::new(Reason::Overloaded, format!("too much waits for the connection to {key:?}"));
                self.parcel_failed(now, key, parcel, &reject);
            }
        }
    }

    pub(super) fn target(&self, now: Time, key: &HopKey) -> Option<Target> {
        match key {
            // A key of before a reload leads where its domain is reached now.
            HopKey::Partner { domain, identity, .. } => {
                let (domain, next_hop) = self.settings.way_to(domain, Protocol::Sip)?;
                let avoid = self.hops.avoided(key, now);
                Some(Target::SipPartner { domain, next_hop, identity: *identity, avoid })
            }
            HopKey::SipNode { node } => {
                let found = self.settings.nodes.iter().find(|n| n.name == *node)?;
                let (address, tls_name) = (found.address.clone(), found.tls_name.clone());
                Some(Target::SipNode { node: node.to_string(), address, tls_name })
            }
            HopKey::Node { node, from, to } => {
                let address = self.settings.nodes.iter().find(|n| n.name == *node)?.address.clone();
                Some(Target::XmppNode { node: node.to_string(), address, from: from.clone(), to: to.clone() })
            }
            HopKey::XmppPartner { from, to } => {
                let (find, next_hop) = self.settings.way_to(to, Protocol::Xmpp)?;
                let identity = self.settings.identity_for(from);
                Some(Target::XmppPartner { find, next_hop, from: from.clone(), to: to.clone(), identity })
            }
            HopKey::Component { node, domain } if components::is_wanted(&self.settings, node, domain) => {
                let address = self.settings.nodes.iter().find(|n| n.name == *node)?.address.clone();
                Some(Target::XmppComponent { node: node.to_string(), address, domain: domain.clone() })
            }
            HopKey::Component { .. } => None,
        }
    }

    /// A hop's connection is there and judged good.
    pub(super) fn hop_up(&mut self, now: Time, hop: HopId, link: LinkId) {
        let key = self.hops.key(hop).cloned();
        let queue = self.hops.up(now, hop, link);
        if let Some(HopKey::SipNode { node } | HopKey::Node { node, .. } | HopKey::Component { node, .. }) = key {
            self.node_is(&node);
        }
        for parcel in queue {
            self.parcel_written(now, link, parcel);
        }
    }

    /// A hop came to nothing.
    pub(super) fn unreachable(&mut self, now: Time, hop: HopId, cause: &str, unproven: bool) {
        let Some(key) = self.hops.key(hop).cloned() else { return };
        self.hop_failed(now, hop, unreachable(&key, cause, unproven));
    }

    pub(super) fn hop_failed(&mut self, now: Time, hop: HopId, reject: Reject) {
        let jitter = self.rng.random_range(0.0..1.0);
        let (Some(key), queue) = self.hops.unreachable(now, hop, &reject, jitter) else { return };
        let (who, side, protocol) = match &key {
            HopKey::Partner { domain, .. } => {
                (self.label(Some(domain.as_str()), Protocol::Sip), Side::Outside, Protocol::Sip)
            }
            HopKey::XmppPartner { to, .. } => {
                (self.label(Some(to.as_str()), Protocol::Xmpp), Side::Outside, Protocol::Xmpp)
            }
            HopKey::SipNode { node } => (node.to_string(), Side::Inside, Protocol::Sip),
            HopKey::Node { node, .. } | HopKey::Component { node, .. } => {
                (node.to_string(), Side::Inside, Protocol::Xmpp)
            }
        };
        let event = Event::Unreachable { who, side, protocol, cause: reject.detail.clone() };
        self.outputs.push_back(Output::Event(Box::new(event)));
        if let HopKey::SipNode { node } = &key {
            self.health.unreachable(node);
        }
        if let HopKey::SipNode { node } | HopKey::Node { node, .. } | HopKey::Component { node, .. } = &key {
            self.node_is(node);
        }
        self.attach(now, &key);
        for parcel in queue {
            self.parcel_failed(now, &key, parcel, &reject);
        }
    }

    pub(super) fn node_is(&mut self, node: &str) {
        let up = self.is_attached(node).unwrap_or_else(|| self.hops.node_is_up(node) && self.health.is_up(node));
        if let Some(was) = self.nodes_up.get_mut(node)
            && *was != up
        {
            *was = up;
            self.outputs.push_back(Output::Event(Box::new(Event::NodeUp { node: node.to_owned(), up })));
        }
    }

    fn parcel_written(&mut self, now: Time, link: LinkId, parcel: Parcel) {
        let is_managed = self.links.get(link).is_some_and(Link::is_managed);
        let (mut turn, sessions) = self.turn(now);
        let mut receipt = None;
        // What its sender was told to have failed while the connection was made must not arrive after all.
        let is_awaited = match parcel.passage {
            Passage::Relayed(id) => sessions.relays.written(id, link),
            Passage::Request(branch) => {
                sessions.clients.written(&branch, link) || sessions.chats.written(&branch, link)
            }
            Passage::Message(course, number) => {
                match sessions.barriers.written(&mut turn, (course, number), link, is_managed) {
                    None => false,
                    Some(asked) => {
                        receipt = asked;
                        true
                    }
                }
            }
            Passage::Crossing(envelope) => {
                sessions.crossings.go(&envelope);
                sessions.crossings.settled(&mut turn, envelope.of());
                true
            }
            Passage::Bounce(number) => {
                sessions.crossings.bounced(&mut turn, number);
                true
            }
            Passage::Ping(_) | Passage::Watch(_) | Passage::Contact(_) | Passage::Fetch(_) | Passage::Answer => true,
        };
        if is_awaited {
            let Parcel { bytes, transit, lane, .. } = parcel;
            self.outputs.push_back(Output::Send { link, bytes, transit, lane, receipt });
        }
    }

    fn parcel_failed(&mut self, now: Time, key: &HopKey, parcel: Parcel, reject: &Reject) {
        let (mut turn, sessions) = self.turn(now);
        match parcel.passage {
            Passage::Relayed(id) => self.relayed_unanswered(now, id, Unanswered::Unreachable(reject.clone())),
            Passage::Request(branch) => self.request_ended(now, &branch, &Ended::Unreachable(reject.clone())),
            Passage::Message(course, number) => match sessions.barriers.unwritten(course, number) {
                Some(Owed::Crossing(envelope)) => {
                    self.crossing_unwritten(now, key, *envelope, (parcel.bytes, parcel.transit), reject);
                }
                Some(owed) => self.did_not_arrive(now, owed, reject.clone(), false),
                None => {}
            },
            Passage::Crossing(envelope) => {
                self.crossing_unwritten(now, key, *envelope, (parcel.bytes, parcel.transit), reject);
            }
            Passage::Bounce(number) => sessions.crossings.bounce_later(&mut turn, number),
            Passage::Ping(course) => self.ping_silent(now, course, false),
            Passage::Watch(key) => sessions.watches.ask_later(&mut turn, &key),
            Passage::Contact(key) => sessions.contacts.say_later(&mut turn, &key),
            Passage::Fetch(id) => sessions.fetches.finish(&mut turn, &mut sessions.clients, id),
            Passage::Answer => {}
        }
    }

    /// A request of ours ended: tell whom it was for.
    pub(super) fn request_ended(&mut self, now: Time, branch: &str, ended: &Ended<'_>) {
        let (mut turn, sessions) = self.turn(now);
        let (chats, beside) = sessions.chats();
        if chats.invite_ended(&mut turn, beside, branch, ended) {
            return;
        }
        if let Some(purpose) = sessions.clients.end(&mut turn, branch) {
            self.purpose_ended(now, &purpose, ended);
        }
    }

    /// A response, if anybody awaits it.
    pub(super) fn response(&mut self, now: Time, link: LinkId, response: &Message) {
        let Start::Response { status, .. } = response.start() else { return };
        if self.relayed_response(now, link, response, status) {
            return;
        }
        let (mut turn, sessions) = self.turn(now);
        let (chats, beside) = sessions.chats();
        if chats.answered(&mut turn, beside, (link, response, status)) {
            return;
        }
        if let Some(purpose) = sessions.clients.answered(&mut turn, link, response, status) {
            self.purpose_ended(now, &purpose, &Ended::Answered(status, response));
        }
    }

    fn purpose_ended(&mut self, now: Time, purpose: &Purpose, ended: &Ended<'_>) {
        // What may have waited for the store, and not for the peer, is no silence of the peer's: its dialog is not dead.
        let is_held = matches!(purpose, Purpose::Notify(..) | Purpose::Subscribe(..) | Purpose::Line(..));
        let held = Ended::Unreachable(Reject::new(Reason::Overloaded, "it waited for the state store"));
        let ended = match ended {
            Ended::TimedOut if is_held && self.writing.held_since(now - limits::TIMER_F) => &held,
            ended => ended,
        };
        let (mut turn, sessions) = self.turn(now);
        match purpose {
            Purpose::Notify(key, tag) => sessions.watches.notified(&mut turn, key, tag, ended),
            Purpose::Subscribe(key, tag) => {
                sessions.contacts.answered(&mut turn, &mut sessions.clients, key, tag, ended)
            }
            Purpose::FetchNotify | Purpose::Bye => {}
            Purpose::Health(node) => self.health_told(node, ended),
            Purpose::Line(key, tag) => {
                let (chats, beside) = sessions.chats();
                chats.line_ended(&mut turn, beside, (key, tag), ended);
            }
            Purpose::Typing(key, tag) => sessions.chats.typing_ended(key, tag, ended),
            Purpose::Page(key) => {
                sessions.pages.ended(&mut turn, (&mut sessions.clients, &mut sessions.barriers), key, ended);
            }
        }
    }

    /// A ping without answer: what it covered may or may not have arrived.
    pub(super) fn ping_silent(&mut self, now: Time, course: CourseId, was_written: bool) {
        let target = self.sessions.barriers.target(course).cloned();
        let whose = target.map_or_else(String::new, |target| target.to_unicode());
        let (mut turn, sessions) = self.turn(now);
        let lost = sessions.barriers.silent(&mut turn, course, was_written);
        self.lost(now, lost, &format!("{whose} did not answer the ping behind the message"));
    }

    /// Nobody can know what became of these, or they were never written.
    pub(super) fn lost(&mut self, now: Time, lost: Vec<Lost>, why: &str) {
        for Lost { owed, written, quietly } in lost {
            match owed {
                Owed::Crossing(envelope) if quietly => self.crossing_settled(now, &envelope, Outcome::Uncertain),
                owed if written => self.did_not_arrive(now, owed, Reject::new(Reason::Uncertain, why), true),
                owed => self.did_not_arrive(now, owed, Reject::new(Reason::Timeout, why), false),
            }
        }
    }

    /// What a barrier covered has arrived.
    pub(super) fn arrived(&mut self, now: Time, owed: Owed) {
        let (mut turn, sessions) = self.turn(now);
        match owed {
            Owed::Sender(sender) => {
                sessions.servers.answer(&mut turn, sender.server, 200, &[]);
                self.settled(sender.partner, sender.action, Outcome::Delivered);
            }
            Owed::Record(record) => sessions.pages.bounced(&mut turn, &record),
            Owed::Crossing(envelope) => self.crossing_settled(now, &envelope, Outcome::Delivered),
        }
    }

    /// What a barrier covered has not arrived, or nobody can know.
    pub(super) fn did_not_arrive(&mut self, now: Time, owed: Owed, reject: Reject, uncertain: bool) {
        match owed {
            Owed::Sender(sender) => self.message_failed(now, sender, reject, uncertain),
            Owed::Record(record) => {
                let (mut turn, sessions) = self.turn(now);
                sessions.pages.bounce_later(&mut turn, &record);
            }
            Owed::Crossing(envelope) => {
                let outcome = if uncertain { Outcome::Uncertain } else { Outcome::Failed };
                self.crossing_failed(now, &envelope, &reject, outcome);
            }
        }
    }

    /// A message to XMPP was not delivered for a reason of ours: its sender hears it, with an ID.
    pub(super) fn message_failed(&mut self, now: Time, sender: Sender, reject: Reject, uncertain: bool) {
        let facts = Facts {
            from: sender.from.clone(),
            to: sender.to.clone(),
            action: sender.action,
            side: Side::Outside,
            protocol: Protocol::Sip,
            partner: sender.partner.to_string(),
            peer: None,
        };
        let hostname = self.settings.identities.first().map(|i| i.hostname.clone()).unwrap_or_default();
        let (mut turn, sessions) = self.turn(now);
        let id = turn.refused(&reject, &facts);
        let mut headers = vec![("Warning", reject.warning(&hostname, id))];
        headers.extend(reject.headers.iter().cloned());
        sessions.servers.answer(&mut turn, sender.server, reject.status, &headers);
        let outcome = if uncertain { Outcome::Uncertain } else { Outcome::Failed };
        self.settled(sender.partner, sender.action, outcome);
    }

    /// Counts how a message from SIP ended.
    pub(super) fn settled(&mut self, partner: SmolStr, action: Action, outcome: Outcome) {
        let settled = Settled { partner, side: Side::Outside, protocol: Protocol::Sip, action, outcome };
        self.outputs.push_back(Output::Settled(settled));
    }

    fn notice(&mut self, what: String) {
        self.outputs.push_back(Output::Event(Box::new(Event::Noticed { what })));
    }
}

fn unreachable(key: &HopKey, cause: &str, unproven: bool) -> Reject {
    match key {
        HopKey::SipNode { node } | HopKey::Node { node, .. } | HopKey::Component { node, .. } => {
            Reject::new(Reason::NoNode, format!("node {node} cannot be reached: {cause}"))
        }
        HopKey::Partner { domain, .. } | HopKey::XmppPartner { to: domain, .. } => {
            let reason = if unproven { Reason::Unproven } else { Reason::Timeout };
            Reject::new(reason, format!("{domain} cannot be reached: {cause}"))
        }
    }
}
