//! The path of a stanza that stays XMPP, both ways, on one screen: what it asks → may it → what that costs → where to → on, byte for byte.
//!
//! The same stages stand for a partner's stanza on its way in and a user's on its way out. What answers something is decided as what it answers.

use super::asked::Asked;
use super::stanza::Speaker;
use crate::gate::Gate;
use crate::gate::exchange::Path;
use crate::gate::lane::Lane;
use crate::gate::limits;
use crate::gate::partner::{Action, Direction, Node, NodeProtocol, PartnerId, Profile, Protocol, Side};
use crate::gate::policy::{Permit, Question};
use crate::gate::reject::{Reason, Reject};
use crate::gate::route::{HopKey, node_hop, table};
use crate::gate::session::crossing::{Envelope, back_to};
use crate::gate::session::outcome::Owed;
use crate::gate::session::table::fingerprint;
use crate::gate::session::{Facts, Parcel, Passage, Step};
use crate::gate::time::Time;
use crate::gate::translate::presence::respelled;
use crate::wire::address::{Address, Jid};
use crate::wire::xmpp::{Element, Kind, NS_SERVER, Stanza, StanzaError, stanza as write};
use bytes::Bytes;

impl Gate {
    /// A stanza between a partner's user and one of ours.
    pub(super) fn cross(&mut self, now: Time, speaker: &Speaker, from: &Jid, to: &Jid, stanza: &Stanza) {
        let asked = match Asked::of(stanza) {
            Ok(asked) => asked,
            Err(reject) => {
                return self.refuse_crossing(now, speaker, (from, to), stanza, (Action::Other, &reject));
            }
        };
        if let Err(reject) = self.admit_crossing(now, speaker, (from, to), stanza, &asked) {
            let refused = (asked.action(), &reject);
            match asked.is_silent {
                // RFC 6120 §8.3.1, RFC 6121 §4.3.2: nobody waits for it.
                true => self.drop_crossing(now, self.facts_of_speaker(speaker, from, to, refused.0), &reject),
                false => self.refuse_crossing(now, speaker, (from, to), stanza, refused),
            }
        }
    }

    fn admit_crossing(
        &mut self,
        now: Time,
        speaker: &Speaker,
        (from, to): (&Jid, &Jid),
        stanza: &Stanza,
        asked: &Asked,
    ) -> Result<(), Reject> {
        let partner = match &speaker.claim {
            Some(claim) => claim.partner(),
            None => self.settings.policy.partner_for(to.bare.domain(), Protocol::Xmpp),
        };
        // May they.
        let (permit, is_answer) = self.permitted(now, speaker, partner, (&from.bare, &to.bare), asked)?;
        let (profile, budget, label) = self.entry(partner);
        if speaker.node.is_none() && !is_answer && !asked.leaves {
            self.spend(now, &label, &budget, &to.bare)?;
        }
        let mut instead = None;
        if stanza.raw.len() > budget.body_bytes {
            let (size, most) = (stanza.raw.len(), budget.body_bytes);
            let reject =
                Reject::new(Reason::TooLarge, format!("the stanza is {size} bytes; limits.body_bytes is {most}"));
            // Who waits for it hears at least that it can't come; an error, what it says.
            if !matches!((stanza.kind, stanza.type_.as_deref()), (Kind::Iq, Some("result")) | (_, Some("error"))) {
                return Err(reject);
            }
            instead = Some(self.too_large(now, speaker, (from, to), stanza, (permit.action(), &reject)));
        }
        if self.draining.is_some() && !is_answer && (stanza.kind != Kind::Presence || !asked.is_silent) {
            return Err(Reject::new(Reason::Overloaded, "stopping"));
        }
        if permit.is_polite()
            && let Some(shown) = self.politely(speaker, (from, to), stanza)
        {
            match shown {
                Some(offline) => instead = Some(offline),
                None => return Ok(()),
            }
        }
        // Where to.
        let mut envelope = envelope(speaker, (from, to), stanza, (permit.action(), asked.is_reply), label);
        if stanza.kind == Kind::Message && stanza.type_.as_deref() == Some("error") {
            self.came_back(&mut envelope);
        }
        let (hop, of, seen_by) = match &speaker.node {
            Some(node) => {
                let hop = HopKey::XmppPartner { from: from.bare.domain().clone(), to: to.bare.domain().clone() };
                (hop, self.node_profile(node), profile)
            }
            None => {
                let hop = match self.way_inside(&envelope) {
                    Ok(hop) => hop,
                    Err(reject) => {
                        let (mut turn, sessions) = self.turn(now);
                        sessions.crossings.settled(&mut turn, envelope.of());
                        return Err(reject);
                    }
                };
                let seen_by = hop.node().map_or(Profile::Generic, |node| self.node_profile(node));
                (hop, profile, seen_by)
            }
        };
        let instead = instead.or_else(|| respelled(stanza, of, seen_by, speaker.at));
        let bytes = instead.map_or_else(|| stanza.raw.clone(), |element| Bytes::from(element.print(NS_SERVER)));
        self.hand_over(now, hop, envelope, bytes, Some((speaker.at, Path::XmppXmpp)))
    }

    /// Policy on a stanza: as an answer to what its recipient may ask, or as a request of its sender's. `true`: it is an answer.
    fn permitted(
        &mut self,
        now: Time,
        speaker: &Speaker,
        partner: Option<PartnerId>,
        (from, to): (&Address, &Address),
        asked: &Asked,
    ) -> Result<(Permit, bool), Reject> {
        let (side, protocol) = (speaker.side(), Protocol::Xmpp);
        // A partner's that connected to us: where it is reached is its own to say.
        let peer_ip = speaker.peer.filter(|_| speaker.came).map(|peer| peer.ip().to_canonical());
        if let (Some(id), Some(ip)) = (partner, peer_ip) {
            // An answer too comes from where the partner may connect from.
            self.settings.policy.takes_from(id, ip)?;
        }
        let mut refused = Reject::new(Reason::NotAllowed, "nothing can have asked for it");
        for action in asked.answers.iter().copied() {
            let peer_ip = None;
            let question = Question { from: to, to: from, action, side: side.other(), protocol, peer_ip };
            match self.decided(question, partner, (protocol, None)) {
                Ok(permit) => return Ok((permit, true)),
                Err(reject) => refused = reject,
            }
        }
        for action in asked.within.iter().copied() {
            let question = Question { from, to, action, side, protocol, peer_ip };
            if let Ok(permit) = self.decided(question, partner, (protocol, speaker.peer)) {
                return Ok((permit, true));
            }
        }
        for action in asked.own.iter().copied() {
            let question = Question { from, to, action, side, protocol, peer_ip };
            match self.decided(question, partner, (protocol, speaker.peer)) {
                Ok(permit) => {
                    if is_talk(action) && self.is_one_way(partner) {
                        self.sessions.talks.wrote(now, from, to, self.settings.chat_idle);
                    }
                    return Ok((permit, false));
                }
                // Who may not start may still answer, as what was begun.
                Err(reject)
                    if reject.reason == Reason::NotAllowed
                        && is_talk(action)
                        && self.sessions.talks.answers(now, from, to, self.settings.chat_idle) =>
                {
                    // What a rule says of this very sender holds for its answers.
                    self.settings.policy.refused_by_rule(question)?;
                    let question = Question { from: to, to: from, side: side.other(), peer_ip: None, ..question };
                    return Ok((self.decided(question, partner, (protocol, None))?, true));
                }
                Err(reject) => refused = reject,
            }
        }
        Err(refused)
    }

    /// Whether one side alone may start.
    fn is_one_way(&self, partner: Option<PartnerId>) -> bool {
        partner.is_none_or(|id| self.settings.policy.partner(id).direction != Direction::Both)
    }

    /// What a `polite` rule makes of a stanza between a watcher and who is watched: the subscription is accepted, and offline is shown. Nothing is
    /// remembered: the rule says so each time. `None`: it crosses as it is; `Some(None)`: not at all.
    fn politely(&mut self, speaker: &Speaker, (from, to): (&Jid, &Jid), stanza: &Stanza) -> Option<Option<Element>> {
        match (stanza.kind, stanza.type_.as_deref()) {
            (Kind::Presence, Some(type_ @ ("subscribe" | "probe"))) => {
                let (watcher, watched) = (from.bare.to_jid(), to.bare.to_jid());
                for type_ in ["subscribed", "unavailable"].iter().skip(usize::from(type_ == "probe")) {
                    let answer = write::presence(&watched, &watcher, Some(type_));
                    self.say_back(speaker.node.as_deref(), from, to, Lane::Free, &answer);
                }
                Some(None)
            }
            (Kind::Presence, Some("subscribed")) => Some(None),
            // What was shown before the rule is taken back once; then nothing tells that anything changes. To a resource it says, too, who leaves
            // a room (XEP-0045 §7.14), and is not what watchers are sent (RFC 6121 §4.5.2).
            (Kind::Presence, None | Some("unavailable")) if stanza.type_.is_none() || to.resource.is_none() => {
                let told = fingerprint((self.told_key, "offline", from, &to.bare));
                let offline = || write::presence(from, to.bare.to_jid(), Some("unavailable"));
                Some(self.is_dropped_first(told).then(offline))
            }
            _ => None,
        }
    }

    /// Where to a stanza for one of our users goes: after what waits between the same two, else to the first node that serves the user.
    fn way_inside(&mut self, envelope: &Envelope) -> Result<HopKey, Reject> {
        if let Some(hop) = self.sessions.crossings.way(envelope) {
            return Ok(hop.clone());
        }
        let (partner, to) = (envelope.from.bare.domain(), &envelope.to.bare);
        let node = table::node_between(&self.settings, partner, to)?;
        Ok(node_hop(&self.settings, &node.name, partner, to.domain()))
    }

    /// The node to try after this one could not be reached.
    pub(in crate::gate) fn way_after(&self, failed: &str, envelope: &Envelope) -> Option<HopKey> {
        let (partner, to) = (envelope.from.bare.domain(), &envelope.to.bare);
        let fits = |node: &Node| node.protocol != NodeProtocol::Sip && node.is_open_to(partner);
        let order = table::order(&self.settings, to, fits);
        // One that is configured no more stands before all.
        let next = order.iter().position(|node| node.name == failed).map_or(0, |at| at + 1);
        let next = order.get(next)?;
        Some(node_hop(&self.settings, &next.name, partner, to.domain()))
    }

    /// Hands a stanza to its hop. From here it ends in written, or in an error to its sender; a message in delivered, or in an error.
    pub(in crate::gate) fn hand_over(
        &mut self,
        now: Time,
        hop: HopKey,
        mut envelope: Envelope,
        bytes: Bytes,
        transit: Option<(Time, Path)>,
    ) -> Result<(), Reject> {
        let is_settled_later = envelope.kind == Kind::Message && !envelope.is_reply;
        // What comes behind it must not overtake it on the way to another node.
        let is_one_of_many = envelope.side == Side::Outside && self.settings.nodes.len() > 1;
        envelope.waits = is_one_of_many && (is_settled_later || !self.hops.is_up(&hop));
        let (mut turn, sessions) = self.turn(now);
        if is_settled_later {
            let pair = (envelope.from.bare.domain().clone(), envelope.to.bare.domain().clone());
            if sessions.barriers.is_full(&pair, &hop) {
                let detail = format!("too many messages from {} to {} await their outcome", pair.0, pair.1);
                return Err(Reject::new(Reason::Overloaded, detail));
            }
            if envelope.waits {
                sessions.crossings.wait(&envelope, &hop);
            }
            sessions.crossings.take_on(&mut envelope);
            let owed = Owed::Crossing(Box::new(envelope));
            sessions.barriers.carry(&mut turn, hop, pair, bytes, owed, transit);
            return Ok(());
        }
        if envelope.waits {
            sessions.crossings.wait(&envelope, &hop);
        }
        let passage = Passage::Crossing(Box::new(envelope));
        turn.step(Step::Pass { hop, parcel: Parcel { bytes, passage, transit, lane: Lane::Free } });
        Ok(())
    }

    /// A stanza that is not taken on: its sender hears it, with the ID.
    fn refuse_crossing(
        &mut self,
        now: Time,
        speaker: &Speaker,
        (from, to): (&Jid, &Jid),
        stanza: &Stanza,
        (action, reject): (Action, &Reject),
    ) {
        let facts = self.facts_of_speaker(speaker, from, to, action);
        let (mut turn, sessions) = self.turn(now);
        let id = turn.refused(reject, &facts);
        let error = reject.stanza_error(id);
        if stanza.kind == Kind::Message && speaker.node.is_some() {
            // Its server may hear that the message is handled before it reads the error: that is said until it is taken.
            let mut envelope = envelope(speaker, (from, to), stanza, (action, false), facts.partner.into());
            sessions.crossings.take_on(&mut envelope);
            sessions.crossings.bounce(&mut turn, &envelope, &error);
        } else if let Some(reply) = stanza.error_reply(&error) {
            self.say_back(speaker.node.as_deref(), from, to, Lane::Free, &reply);
        }
    }

    /// A stanza that ends here and nobody hears of, but the operator: once for two users, an action and a policy.
    pub(in crate::gate) fn drop_crossing(&mut self, now: Time, facts: Facts, reject: &Reject) {
        let told = fingerprint((self.told_key, "dropped", &facts.from, &facts.to, facts.action, reject.reason));
        if self.is_dropped_first(told) {
            let (mut turn, _) = self.turn(now);
            turn.refused(reject, &facts);
        }
    }

    /// Whether this was not told under this policy. Who sends what is dropped under ever new names is told of again, and hides nothing by it.
    fn is_dropped_first(&mut self, told: u64) -> bool {
        if self.drops_told.len() >= limits::DROPS_TOLD {
            self.drops_told.clear();
        }
        self.drops_told.insert(told)
    }

    /// Instead of a result that is too large, or an error: its recipient waits for an answer.
    fn too_large(
        &mut self,
        now: Time,
        speaker: &Speaker,
        (from, to): (&Jid, &Jid),
        stanza: &Stanza,
        (action, reject): (Action, &Reject),
    ) -> Element {
        let facts = self.facts_of_speaker(speaker, from, to, action);
        let (mut turn, _) = self.turn(now);
        let id = turn.refused(reject, &facts);
        // What is too large about an error is what it echoes.
        let error = StanzaError { text: None, ..stanza.error().unwrap_or_else(|| reject.stanza_error(id)) };
        let error = if stanza.type_.as_deref() == Some("error") { error } else { reject.stanza_error(id) };
        Element::new(stanza.kind.as_str(), NS_SERVER)
            .attr("from", &from.to_string())
            .attr("to", &to.to_string())
            .attr("type", "error")
            .attr_if("id", stanza.id.as_deref())
            .child(error.to_element(NS_SERVER))
    }

    /// Writes an answer to who spoke.
    pub(in crate::gate) fn say_back(&mut self, node: Option<&str>, from: &Jid, to: &Jid, lane: Lane, answer: &Element) {
        let hop = back_to(&self.settings, node, from, to);
        let bytes = Bytes::from(answer.print(NS_SERVER));
        let parcel = Parcel { bytes, passage: Passage::Answer, transit: None, lane };
        self.steps.push_back(Step::Pass { hop, parcel });
    }

    pub(super) fn facts_of_speaker(&self, speaker: &Speaker, from: &Jid, to: &Jid, action: Action) -> Facts {
        let side = speaker.side();
        let remote = if side == Side::Outside { from } else { to };
        Facts {
            from: from.to_string(),
            to: to.to_string(),
            action,
            side,
            protocol: Protocol::Xmpp,
            partner: self.label(Some(remote.bare.domain().as_str()), Protocol::Xmpp),
            peer: speaker.peer,
        }
    }

    fn node_profile(&self, node: &str) -> Profile {
        self.settings.nodes.iter().find(|n| n.name == node).map_or(Profile::Generic, |n| n.profile)
    }
}

fn envelope(
    speaker: &Speaker,
    (from, to): (&Jid, &Jid),
    stanza: &Stanza,
    (action, is_reply): (Action, bool),
    partner: smol_str::SmolStr,
) -> Envelope {
    Envelope {
        link: speaker.link,
        ticket: None,
        kind: stanza.kind,
        action,
        side: speaker.side(),
        from: from.clone(),
        to: to.clone(),
        id: stanza.id.as_deref().filter(|id| id.len() <= limits::STANZA_ID_BYTES).map(Box::from),
        node: speaker.node.clone(),
        partner,
        is_reply,
        waits: false,
    }
}

/// What people say to each other.
fn is_talk(action: Action) -> bool {
    matches!(action, Action::Chat | Action::Message)
}
