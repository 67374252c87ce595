//! The path of a node's stanza to a SIP partner: what it asks is decided, then handed to the session that translates it.

use crate::gate::Gate;
use crate::gate::event::Outcome;
use crate::gate::lane::Lane;
use crate::gate::partner::{Action, Profile, Protocol, Side};
use crate::gate::policy::Question;
use crate::gate::reject::{Reason, Reject};
use crate::gate::session::{Facts, contact, page};
use crate::gate::time::Time;
use crate::gate::translate::composing::ChatState;
use crate::gate::translate::{error, message};
use crate::wire::address::Jid;
use crate::wire::xmpp::{Condition, Element, ErrorType, Kind, NS_PING, NS_SERVER, Stanza, StanzaError};

impl Gate {
    /// A node's stanza to a SIP partner.
    pub(super) fn translate(&mut self, now: Time, at: Time, node: &str, (from, to): (&Jid, &Jid), stanza: &Stanza) {
        match stanza.kind {
            Kind::Iq => self.iq(node, from, to, stanza),
            Kind::Presence => self.presence(now, at, node, from, to, stanza),
            Kind::Message if stanza.type_.as_deref() == Some("error") => self.bounced(now, from, to, stanza),
            Kind::Message => {
                if let Err(reject) = self.page_out(now, at, node, from, to, stanza) {
                    self.refuse_stanza(now, node, from, to, stanza, &reject);
                }
            }
        }
    }

    /// A message from XMPP to a SIP partner.
    fn page_out(
        &mut self,
        now: Time,
        at: Time,
        node: &str,
        from: &Jid,
        to: &Jid,
        stanza: &Stanza,
    ) -> Result<(), Reject> {
        let partner = self.settings.policy.partner_towards(to.bare.domain());
        let protocol = partner.map_or(Protocol::Sip, |id| self.settings.policy.partner(id).protocol);
        let key = (from.bare.clone(), to.bare.clone());
        let action = match stanza.type_.as_deref() {
            Some("groupchat") => Action::Groupchat,
            type_ if protocol == Protocol::Sip && self.goes_by_session(now, partner, type_, &key) => Action::Chat,
            _ => Action::Message,
        };
        let question = Question { from: &from.bare, to: &to.bare, action, side: Side::Inside, protocol, peer_ip: None };
        let permit = match self.decided(question, partner, (Protocol::Xmpp, None)) {
            // Who may only start still has an answer: a session is decided as what opened it.
            Err(reject) if reject.reason == Reason::NotAllowed && action == Action::Chat => {
                if !self.sessions.chats.is_theirs(&key) {
                    return Err(reject);
                }
                let theirs = Question { from: &to.bare, to: &from.bare, side: Side::Outside, ..question };
                self.decided(theirs, partner, (protocol, None))?
            }
            decided => decided?,
        };
        let (_, budget, label) = self.entry(permit.partner());
        if action == Action::Groupchat || protocol != Protocol::Sip || to.bare.local().is_none() {
            return Err(Reject::new(Reason::Unsupported, "only messages to a user of a SIP partner are carried"));
        }
        self.may_begin()?;
        let state = ChatState::of(stanza.element()).filter(|_| action == Action::Chat);
        // A chat state, a marker or a receipt alone: page mode has nothing to say of it (RFC 7572 §4).
        let Some(text) = message::read_stanza(stanza, budget.body_bytes)? else {
            if let Some(state) = state {
                let (mut turn, sessions) = self.turn(now);
                let (chats, beside) = sessions.chats();
                chats.state(&mut turn, beside, &key, state);
            }
            return Ok(());
        };
        let carried = page::Carried {
            from: from.clone(),
            id: stanza.id.as_deref(),
            type_: stanza.type_.as_deref(),
            text,
            node,
            partner: &label,
            at,
        };
        let (mut turn, sessions) = self.turn(now);
        if action != Action::Chat {
            return sessions.pages.carry(&mut turn, &mut sessions.clients, permit, carried);
        }
        let (chats, beside) = sessions.chats();
        chats.carry(&mut turn, beside, &permit, carried)?;
        if state == Some(ChatState::Gone) {
            let (chats, beside) = sessions.chats();
            chats.state(&mut turn, beside, &key, ChatState::Gone);
        }
        Ok(())
    }

    /// A message of ours came back: the SIP sender gets its error.
    fn bounced(&mut self, now: Time, from: &Jid, to: &Jid, stanza: &Stanza) {
        let pair = (to.bare.domain().clone(), from.bare.domain().clone());
        let Some(sender) = stanza.id.as_deref().and_then(|id| self.sessions.barriers.bounced(&pair, id)) else {
            return;
        };
        let error =
            stanza.error().unwrap_or_else(|| StanzaError::new(Condition::UndefinedCondition, ErrorType::Cancel));
        let (status, contact) = error::to_sip(&error, sender.full_jid, false);
        // The node's own words stay inside: they may name what is there.
        let headers: Vec<_> = contact.map(|uri| ("Contact", format!("<{uri}>"))).into_iter().collect();
        if error.condition == Condition::ItemNotFound {
            let mut reject = Reject::new(Reason::UnknownUser, "the node knows no such user");
            reject.headers.extend(headers);
            self.message_failed(now, sender, reject, false);
            return;
        }
        let (mut turn, sessions) = self.turn(now);
        sessions.servers.answer(&mut turn, sender.server, status, &headers);
        self.settled(sender.partner, sender.action, Outcome::Failed);
    }

    /// Presence from an inside node: of a user who is watched, or an answer to a watcher.
    fn presence(&mut self, now: Time, at: Time, node: &str, from: &Jid, to: &Jid, stanza: &Stanza) {
        let (watch, contact) = ((to.bare.clone(), from.bare.clone()), (from.bare.clone(), to.bare.clone()));
        let (mut turn, sessions) = self.turn(now);
        sessions.contacts.seen(now, &contact);
        match stanza.type_.as_deref() {
            None | Some("unavailable" | "subscribed" | "unsubscribed" | "error") => {
                sessions.fetches.presence(&mut turn, &watch, stanza);
                sessions.watches.presence(&mut turn, &watch, stanza, at);
            }
            Some("unsubscribe") => sessions.contacts.unsubscribe(&mut turn, &mut sessions.clients, &contact),
            Some(type_ @ ("subscribe" | "probe")) => {
                let is_probe = type_ == "probe";
                let watched = self.watch_contact(now, node, from, to, is_probe);
                // A probe is the server's own; its refusal is nobody's to read (RFC 6121 §4.3.2).
                if let Err(reject) = watched
                    && !is_probe
                {
                    self.refuse_stanza(now, node, from, to, stanza, &reject);
                }
            }
            _ => {}
        }
    }

    /// A user watches a partner's contact.
    fn watch_contact(&mut self, now: Time, node: &str, from: &Jid, to: &Jid, is_probe: bool) -> Result<(), Reject> {
        let partner = self.settings.policy.partner_towards(to.bare.domain());
        let protocol = partner.map_or(Protocol::Sip, |id| self.settings.policy.partner(id).protocol);
        let question = Question {
            from: &from.bare,
            to: &to.bare,
            action: Action::Subscribe,
            side: Side::Inside,
            protocol,
            peer_ip: None,
        };
        let permit = self.decided(question, partner, (Protocol::Xmpp, None))?;
        if protocol != Protocol::Sip || to.bare.local().is_none() {
            return Err(Reject::new(Reason::Unsupported, "only users of a SIP partner are watched"));
        }
        if !self.sessions.contacts.knows(permit.from(), permit.to()) {
            self.may_begin()?;
        }
        let (of, _, label) = self.entry(permit.partner());
        let seen_by = self.settings.nodes.iter().find(|n| n.name == node).map_or(Profile::Generic, |n| n.profile);
        let ends = contact::Ends { node, seen_by, partner: &label, of };
        let (mut turn, sessions) = self.turn(now);
        sessions.contacts.subscribe(&mut turn, &mut sessions.clients, &permit, ends, is_probe)
    }

    fn iq(&mut self, node: &str, from: &Jid, to: &Jid, stanza: &Stanza) {
        match stanza.type_.as_deref() {
            // Nothing of ours but pings is asked.
            Some("result" | "error") => {}
            Some("get") if to.bare.local().is_none() && stanza.element().find("ping", NS_PING).is_some() => {
                // XEP-0199 §4.2. What came before it is kept or settled by now: outputs leave in order.
                let mut pong = Element::new("iq", NS_SERVER)
                    .attr("type", "result")
                    .attr("from", &to.to_string())
                    .attr("to", &from.to_string());
                if let Some(id) = &stanza.id {
                    pong = pong.attr("id", id);
                }
                // It acknowledges all that came before it.
                self.say_back(Some(node), from, to, Lane::All, &pong);
            }
            // RFC 6120 §8.2.3: what is not understood is answered by service-unavailable.
            _ => {
                let error = StanzaError::new(Condition::ServiceUnavailable, ErrorType::Cancel);
                if let Some(reply) = stanza.error_reply(&error) {
                    self.say_back(Some(node), from, to, Lane::Free, &reply);
                }
            }
        }
    }

    /// A stanza that is not taken on: its sender hears it, with the ID.
    fn refuse_stanza(&mut self, now: Time, node: &str, from: &Jid, to: &Jid, stanza: &Stanza, reject: &Reject) {
        let facts = self.facts_of_stanza(from, to, stanza);
        let (mut turn, sessions) = self.turn(now);
        let id = turn.refused(reject, &facts);
        let error = reject.stanza_error(id);
        if stanza.kind == Kind::Message {
            let ids = (stanza.id.as_deref(), stanza.type_.as_deref());
            let ends = (node, facts.partner.as_str());
            sessions.pages.refuse((&mut turn, &mut sessions.barriers), from, &to.bare, ids, ends, error);
        } else if let Some(reply) = stanza.error_reply(&error) {
            self.say_back(Some(node), from, to, Lane::Free, &reply);
        }
    }

    pub(in crate::gate) fn facts_of_stanza(&self, from: &Jid, to: &Jid, stanza: &Stanza) -> Facts {
        Facts {
            from: from.to_string(),
            to: to.to_string(),
            action: if stanza.kind == Kind::Presence { Action::Subscribe } else { Action::Message },
            side: Side::Inside,
            protocol: Protocol::Xmpp,
            partner: self.label(Some(to.bare.domain().as_str()), Protocol::Sip),
            peer: None,
        }
    }
}
