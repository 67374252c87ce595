//! Who sends a stanza, and which way it goes: to an XMPP partner or from one, byte for byte ([`super::crossing`]); to a SIP partner, translated
//! ([`super::translated`]); or it answers a ping of ours.

use crate::gate::Gate;
use crate::gate::exchange::Output;
use crate::gate::lane::Lane;
use crate::gate::links::Far;
use crate::gate::partner::{Action, LinkId, Protocol, Side};
use crate::gate::peer::Claim;
use crate::gate::reject::{Reason, Reject};
use crate::gate::session::Facts;
use crate::gate::time::Time;
use crate::wire::address::{Address, Domain, Jid};
use crate::wire::xmpp::{Condition, ErrorType, Kind, Stanza, StanzaError, StreamError};
use std::net::SocketAddr;

/// Who speaks on a link.
#[derive(Debug)]
pub(super) struct Speaker {
    /// The link.
    pub link: LinkId,
    /// When the stanza was received whole.
    pub at: Time,
    /// An inside node; else a partner's server.
    pub node: Option<String>,
    /// What that has proven.
    pub claim: Option<Claim>,
    /// The other end.
    pub peer: Option<SocketAddr>,
    /// Whether a partner connected to us: then where from counts. Where it is reached is its own to say.
    pub came: bool,
}

impl Speaker {
    /// Where it is.
    pub(super) fn side(&self) -> Side {
        if self.node.is_some() { Side::Inside } else { Side::Outside }
    }
}

impl Gate {
    /// The path of a stanza. Its stream has proven the pair of domains, or is a component's: then everybody may come on it, and the node's own
    /// are let in.
    pub(super) fn stanza(&mut self, now: Time, link: LinkId, at: Time, stanza: &Stanza) {
        let Ok(Some(from)) = &stanza.from else { return };
        let to = match &stanza.to {
            Ok(Some(to)) => to,
            Ok(None) => return,
            Err(_) => return self.refuse_malformed(now, link, at, from, stanza),
        };
        let pair = (from.bare.domain(), to.bare.domain());
        let Some(speaker) = self.speaker(now, link, at, pair) else { return };
        let (from, to) = (from.clone(), to.clone());
        if let (Some(node), Some(Far::Component { .. })) = (&speaker.node, self.links.get(link).map(|link| &link.far))
            && !self.settings.nodes.iter().any(|n| n.name == *node && n.domains.contains(from.bare.domain()))
        {
            return self.refuse_foreign(now, node, &from, &to, stanza);
        }
        let course = (to.bare.domain().clone(), from.bare.domain().clone());
        self.sessions.barriers.heard(&course, speaker.node.as_deref());
        if self.is_pong(now, &course, (&from, &to), stanza) {
            return;
        }
        match &speaker.node {
            Some(node) if !self.goes_by_xmpp(now, (&from, &to), stanza) => {
                self.translate(now, at, node, (&from, &to), stanza);
            }
            _ => self.cross(now, &speaker, &from, &to, stanza),
        }
    }

    /// Who may say what goes between these two domains on this link. What was not proven ends the stream.
    fn speaker(&mut self, now: Time, link: LinkId, at: Time, pair: (&Domain, &Domain)) -> Option<Speaker> {
        let known = self.links.get(link)?;
        let peer = Some(known.peer);
        let (there, back) = ((pair.0.clone(), pair.1.clone()), (pair.1.clone(), pair.0.clone()));
        let node = match &known.far {
            Far::XmppNode { node, pairs, ours, both_ways, .. } => {
                let may = !ours && pairs.contains(&there) || *ours && *both_ways && pairs.contains(&back);
                return may.then(|| Speaker { link, at, node: Some(node.clone()), claim: None, peer, came: false });
            }
            Far::Component { node, domain } => (domain == pair.1).then(|| node.clone())?,
            Far::XmppPartner { pairs, ours, both_ways, .. } => {
                // RFC 6120 §4.9.3.9; the stream's own machine says so first.
                if !pairs.contains_key(&there) || *ours && !*both_ways {
                    let detail = format!("{} is not proven on this stream towards {}", pair.0, pair.1);
                    self.end_stream(
                        now,
                        link,
                        &there,
                        &Reject::new(Reason::Unproven, detail),
                        StreamError::InvalidFrom,
                    );
                    return None;
                }
                let came = !*ours;
                return match self.links.claim(&self.settings, link, pair.0, now) {
                    Ok(claim) => Some(Speaker { link, at, node: None, claim: Some(claim), peer, came }),
                    Err(reject) => {
                        let error = reject.reason.stream_error();
                        self.end_stream(now, link, &there, &reject, error);
                        None
                    }
                };
            }
            Far::Sip { .. } | Far::SipNode { .. } => return None,
        };
        Some(Speaker { link, at, node: Some(node), claim: None, peer, came: false })
    }

    /// A partner's stream that carries, or would carry, what it may not.
    pub(in crate::gate) fn end_stream(
        &mut self,
        now: Time,
        link: LinkId,
        (remote, local): &(Domain, Domain),
        reject: &Reject,
        error: StreamError,
    ) {
        let facts = Facts {
            from: remote.to_unicode(),
            to: local.to_unicode(),
            partner: self.label(Some(remote.as_str()), Protocol::Xmpp),
            peer: self.links.get(link).map(|link| link.peer),
            ..self.facts_of_unknown(Side::Outside, Protocol::Xmpp)
        };
        let (mut turn, _) = self.turn(now);
        let id = turn.refused(reject, &facts);
        self.outputs.push_back(Output::Close { link, error: Some((error, reject.text(id))) });
        // It takes nothing more.
        self.hops.closed(now, link, &reject.detail);
    }

    /// Whether it is the answer to a ping of ours: then what that covered has arrived.
    fn is_pong(&mut self, now: Time, course: &(Domain, Domain), ends: (&Jid, &Jid), stanza: &Stanza) -> bool {
        let is_answer = stanza.kind == Kind::Iq && matches!(stanza.type_.as_deref(), Some("result" | "error"));
        if !is_answer || ends.0.bare.local().is_some() || ends.1.bare.local().is_some() {
            return false;
        }
        let (mut turn, sessions) = self.turn(now);
        let Some(delivered) = sessions.barriers.pong(&mut turn, course, stanza.id.as_deref().unwrap_or_default())
        else {
            return false;
        };
        for owed in delivered {
            self.arrived(now, owed);
        }
        true
    }

    /// Whether a node's stanza stays XMPP. Towards a domain that is spoken to over both, what answers goes where it was asked.
    fn goes_by_xmpp(&mut self, now: Time, (from, to): (&Jid, &Jid), stanza: &Stanza) -> bool {
        let (policy, domain) = (&self.settings.policy, to.bare.domain());
        let preferred = policy.partner_towards(domain).map(|id| policy.partner(id).protocol);
        let is_either = match preferred {
            Some(protocol) => policy.partner_for(domain, protocol.other()).is_some(),
            None => policy.stranger.is_some(),
        };
        if !is_either {
            return preferred == Some(Protocol::Xmpp);
        }
        let key = (from.bare.clone(), to.bare.clone());
        if stanza.kind == Kind::Presence {
            self.sessions.contacts.seen(now, &key);
        }
        let sessions = &self.sessions;
        match (stanza.kind, stanza.type_.as_deref()) {
            (Kind::Iq, Some("result" | "error")) => true,
            (Kind::Message, Some("error")) => {
                let course = (domain.clone(), from.bare.domain().clone());
                !sessions.barriers.awaits_sender(&course, stanza.id.as_deref().unwrap_or_default())
            }
            (Kind::Presence, None | Some("unavailable" | "subscribed" | "unsubscribed" | "error")) => {
                let watch = (key.1, key.0);
                !sessions.watches.knows(&watch) && !sessions.fetches.knows(&watch)
            }
            // A stranger is spoken to where it is, and answered where it wrote.
            (Kind::Message, _) if preferred.is_none() && sessions.chats.is_open(&key) => false,
            (Kind::Message, _) if preferred.is_none() && sessions.talks.may_answer(now, &key.0, &key.1) => true,
            _ if preferred.is_none() => {
                let pair = (key.1.domain().clone(), key.0.domain().clone());
                let is_there = |far: &Far| matches!(far, Far::XmppPartner { pairs, .. } if pairs.contains_key(&pair));
                self.links.iter().any(|(_, link)| is_there(&link.far))
            }
            _ => preferred == Some(Protocol::Xmpp),
        }
    }

    /// A user's slip, not the server's: the sender hears it, from the domain that the address names (RFC 6120 §8.3.3.8).
    fn refuse_malformed(&mut self, now: Time, link: LinkId, at: Time, from: &Jid, stanza: &Stanza) {
        let reject = Reject::new(Reason::Malformed, "to is no address (RFC 7622 §3)");
        // Only to learn whose address it is: the error gets its ID below.
        let told = stanza.error_reply(&StanzaError::new(Condition::JidMalformed, ErrorType::Modify));
        let domain = told.and_then(|told| Domain::parse(told.get_attr("from")?).ok());
        let Some(domain) = domain else { return };
        let Some(speaker) = self.speaker(now, link, at, (from.bare.domain(), &domain)) else { return };
        let to = Jid::bare(Address::of_domain(domain));
        let facts = self.facts_of_speaker(&speaker, from, &to, Action::Other);
        let (mut turn, _) = self.turn(now);
        let id = turn.refused(&reject, &facts);
        let mut error = reject.stanza_error(id);
        error.condition = Condition::JidMalformed;
        if let Some(reply) = stanza.error_reply(&error) {
            self.say_back(speaker.node.as_deref(), from, &to, Lane::Free, &reply);
        }
    }
}
