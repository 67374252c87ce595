//! Page-mode messages from XMPP to SIP (RFC 7572 §4): one MESSAGE at a time for each destination (RFC 3428 §8), its final response the outcome,
//! and an error to the sender whenever that is not a success.

use super::outcome::{Barriers, Owed, Pair};
use super::transaction::{Clients, Ended, Purpose, Sent};
use super::{Deadline, Parcel, Passage, Step, Turn, partner_hop};
use crate::gate::Path;
use crate::gate::border::aol;
use crate::gate::event::{Event, Outcome, Settled};
use crate::gate::lane::Lane;
use crate::gate::limits;
use crate::gate::partner::{Action, Protocol, Side};
use crate::gate::policy::Permit;
use crate::gate::policy::table::STRANGER_PROFILE;
use crate::gate::record::{Kept, Record, RecordId};
use crate::gate::reject::{Reason, Reject};
use crate::gate::route::{HopKey, node_hop};
use crate::gate::settings::Settings;
use crate::gate::time::Time;
use crate::gate::translate::error;
use crate::gate::translate::message::{self, PAGE_CONTENT_TYPE, Text};
use crate::wire::address::{Address, Domain, Jid};
use crate::wire::sip::Method;
use crate::wire::sip::compose::Request;
use crate::wire::sip::header::Name;
use crate::wire::xmpp::{Element, NS_SERVER, StanzaError};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};

/// The destination.
pub type PageKey = Address;

/// All messages under way to SIP.
#[derive(Debug, Default)]
pub struct Pages {
    next: u64,
    queues: BTreeMap<PageKey, Queue>,
    waiting: usize,
    /// Errors that could not be handed to the sender's server yet.
    bounces: BTreeMap<RecordId, Bounce>,
    /// Errors that were given up.
    unresolved: u64,
}

#[derive(Debug, Default)]
struct Queue {
    /// The one that was sent.
    sent: Option<Page>,
    waiting: VecDeque<Page>,
}

#[derive(Debug)]
struct Page {
    envelope: Envelope,
    /// The destination in the partner's spelling.
    uri: String,
    from: Jid,
    says: message::Page,
    at: Time,
}

#[derive(Debug)]
struct Bounce {
    envelope: Envelope,
    error: StanzaError,
    tries: u32,
}

/// What is remembered of a message until its outcome is settled: never its body.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Envelope {
    /// Its record.
    record: String,
    from: String,
    to: String,
    id: Option<String>,
    type_: Option<String>,
    /// The sender's node.
    node: String,
    /// The partner's label.
    partner: String,
    /// Whether it goes through an IM session.
    #[serde(default)]
    chat: bool,
}

/// A stanza to be carried, read.
#[derive(Debug)]
pub struct Carried<'a> {
    /// Its sender, with resource.
    pub from: Jid,
    /// Its id.
    pub id: Option<&'a str>,
    /// Its type.
    pub type_: Option<&'a str>,
    /// The text.
    pub text: Text,
    /// The sender's node.
    pub node: &'a str,
    /// The partner's label.
    pub partner: &'a str,
    /// When it was received whole.
    pub at: Time,
}

impl Pages {
    /// Takes a message on: from here it ends in delivered or in an error to its sender.
    pub fn carry(
        &mut self,
        turn: &mut Turn<'_>,
        clients: &mut Clients,
        permit: Permit,
        carried: Carried<'_>,
    ) -> Result<(), Reject> {
        let key = permit.to().clone();
        let says = message::write_sip(&carried.text, &turn.token())?;
        let profile = permit.partner().map_or(STRANGER_PROFILE, |id| turn.settings.policy.partner(id).profile);
        let uri = format!("sip:{}", aol::outward(profile, &key)?.to_sip());
        let waiting = self.queues.get(&key).map_or(0, |queue| queue.waiting.len());
        if waiting >= limits::PAGES_PER_DESTINATION || self.waiting >= limits::PAGES {
            return Err(Reject::new(Reason::Overloaded, format!("too many messages wait for {key}")));
        }
        let envelope = self.take_on(turn, &carried, &key, false);
        self.queue(turn, clients, key, Page { envelope, uri, from: carried.from, says, at: carried.at });
        Ok(())
    }

    /// A message that a session was to carry, where the far side takes none: it goes for itself.
    pub fn carry_instead(
        &mut self,
        turn: &mut Turn<'_>,
        (clients, barriers): (&mut Clients, &mut Barriers),
        key: &PageKey,
        mut envelope: Envelope,
        (from, text, at): (Jid, &Text, Time),
    ) {
        // After a restart too it counts as what it is now.
        envelope.chat = false;
        keep(turn, &envelope);
        let id = turn.settings.policy.partner_for(key.domain(), Protocol::Sip);
        let profile = id.map_or(STRANGER_PROFILE, |id| turn.settings.policy.partner(id).profile);
        let random = turn.token();
        let page = message::write_sip(text, &random)
            .and_then(|says| Ok((says, format!("sip:{}", aol::outward(profile, key)?.to_sip()))));
        match page {
            Ok((says, uri)) => self.queue(turn, clients, key.clone(), Page { envelope, uri, from, says, at }),
            Err(reject) => self.give_back(turn, barriers, envelope, &reject),
        }
    }

    fn queue(&mut self, turn: &mut Turn<'_>, clients: &mut Clients, key: PageKey, page: Page) {
        self.queues.entry(key.clone()).or_default().waiting.push_back(page);
        self.waiting += 1;
        self.send_next(turn, clients, &key);
    }

    /// Remembers a message: from here it ends in delivered or in an error to its sender.
    pub fn take_on(&mut self, turn: &mut Turn<'_>, carried: &Carried<'_>, to: &Address, chat: bool) -> Envelope {
        let record = format!("envelope {:016x} {}", self.next, turn.token());
        self.next += 1;
        let envelope = Envelope {
            record,
            from: carried.from.to_string(),
            to: to.to_jid(),
            id: carried.id.map(str::to_owned),
            type_: carried.type_.map(str::to_owned),
            node: carried.node.to_owned(),
            partner: carried.partner.to_owned(),
            chat,
        };
        keep(turn, &envelope);
        envelope
    }

    /// A message that was taken on and never sent: its sender gets the error.
    pub fn give_back(&mut self, turn: &mut Turn<'_>, barriers: &mut Barriers, envelope: Envelope, reject: &Reject) {
        let id = turn.refused(reject, &envelope.facts());
        let outcome = if reject.reason == Reason::Uncertain { Outcome::Uncertain } else { Outcome::Failed };
        self.settle(turn, barriers, envelope, outcome, Some(reject.stanza_error(id)));
    }

    /// A MESSAGE of ours ended.
    pub fn ended(
        &mut self,
        turn: &mut Turn<'_>,
        (clients, barriers): (&mut Clients, &mut Barriers),
        key: &PageKey,
        ended: &Ended<'_>,
    ) {
        let Some(page) = self.queues.get_mut(key).and_then(|queue| queue.sent.take()) else { return };
        self.waiting -= 1;
        self.settle_as(turn, barriers, page.envelope, key, ended);
        self.send_next(turn, clients, key);
    }

    /// Settles a message as its MESSAGE ended, or the INVITE that was to make its session.
    pub fn settle_as(
        &mut self,
        turn: &mut Turn<'_>,
        barriers: &mut Barriers,
        envelope: Envelope,
        key: &Address,
        ended: &Ended<'_>,
    ) {
        let refuse = |turn: &mut Turn<'_>, reject: &Reject| {
            let id = turn.refused(reject, &envelope.facts());
            reject.stanza_error(id)
        };
        let (outcome, error) = match ended {
            Ended::Answered(200..=299, _) => (Outcome::Delivered, None),
            Ended::Answered(status, response) => {
                let contact =
                    response.addresses(Name::Contact).next().and_then(|(_, contact)| contact.ok()).map(|c| c.uri.text);
                (Outcome::Failed, Some(error::to_xmpp(*status, response.reason_phrase(), contact)))
            }
            Ended::TimedOut => {
                let reject = Reject::new(
                    Reason::Timeout,
                    format!("{key}: no final response within {} s", limits::TIMER_F.as_secs()),
                );
                (Outcome::Failed, Some(refuse(turn, &reject)))
            }
            Ended::Unreachable(reject) => (Outcome::Failed, Some(refuse(turn, reject))),
            Ended::LinkDied => {
                let reject = Reject::new(Reason::Uncertain, format!("{key}: the connection ended before the answer"));
                (Outcome::Uncertain, Some(refuse(turn, &reject)))
            }
        };
        self.settle(turn, barriers, envelope, outcome, error);
    }

    /// A message that is not taken on: its sender gets the error, handed over again if need be.
    pub fn refuse(
        &mut self,
        (turn, barriers): (&mut Turn<'_>, &mut Barriers),
        from: &Jid,
        to: &Address,
        ids: (Option<&str>, Option<&str>),
        (node, partner): (&str, &str),
        error: StanzaError,
    ) {
        let envelope = Envelope {
            record: format!("envelope {:016x} {}", self.next, turn.token()),
            from: from.to_string(),
            to: to.to_jid(),
            id: ids.0.map(str::to_owned),
            type_: ids.1.map(str::to_owned),
            node: node.to_owned(),
            partner: partner.to_owned(),
            chat: false,
        };
        self.next += 1;
        if self.bounces.len() >= limits::PAGES {
            // No room to see to its arrival: it is said once.
            if let Some((hop, _)) = envelope.reply_hop(turn.settings) {
                let bytes = Bytes::from(envelope.error_stanza(&error).print(NS_SERVER));
                let parcel = Parcel { bytes, passage: Passage::Answer, transit: None, lane: Lane::Free };
                turn.step(Step::Pass { hop, parcel });
            }
            return;
        }
        let id = envelope.record_id();
        // Its server may hear that the message is handled before it reads the error.
        keep(turn, &envelope);
        self.bounces.insert(id.clone(), Bounce { envelope, error, tries: 0 });
        self.bounce(turn, barriers, &id);
    }

    /// An envelope from before a restart: nobody can know what became of it, so its sender gets the error.
    pub fn restore(&mut self, turn: &mut Turn<'_>, barriers: &mut Barriers, envelope: Envelope) {
        let reject = Reject::new(Reason::Uncertain, "restarted before the outcome was known");
        let id = turn.refused(&reject, &envelope.facts());
        let error = reject.stanza_error(id);
        self.settle(turn, barriers, envelope, Outcome::Uncertain, Some(error));
    }

    /// The error for this record has arrived at the sender's server: done.
    pub fn bounced(&mut self, turn: &mut Turn<'_>, record: &RecordId) {
        if self.bounces.remove(record).is_some() {
            turn.deadlines.cancel(&Deadline::Bounce(record.clone()));
            turn.step(Step::Forget { lane: Lane::Free, id: record.clone() });
        }
    }

    /// It did not arrive: try again later, or give up and count the message as unresolved.
    pub fn bounce_later(&mut self, turn: &mut Turn<'_>, record: &RecordId) {
        let Some(bounce) = self.bounces.get_mut(record) else { return };
        bounce.tries += 1;
        if bounce.tries > limits::BOUNCE_TRIES {
            self.bounces.remove(record);
            self.unresolved += 1;
            turn.step(Step::Forget { lane: Lane::Free, id: record.clone() });
            let what = "an error could not be handed to its sender's server in many tries".to_owned();
            turn.step(Step::Event(Event::Noticed { what }));
            return;
        }
        let at = turn.jittered(limits::BOUNCE_AGAIN * bounce.tries);
        turn.deadlines.set(Deadline::Bounce(record.clone()), at);
    }

    /// Messages that ended neither delivered nor in an error to their sender; must stay 0.
    pub fn unresolved(&self) -> u64 {
        self.unresolved
    }

    /// Hands the error of this record to the sender's server; behind a ping, so that it is known to have arrived.
    pub fn bounce(&mut self, turn: &mut Turn<'_>, barriers: &mut Barriers, record: &RecordId) {
        let Some(bounce) = self.bounces.get(record) else { return };
        let Some((hop, pair)) = bounce.envelope.reply_hop(turn.settings) else {
            self.bounce_later(turn, record);
            return;
        };
        let stanza = Bytes::from(bounce.envelope.error_stanza(&bounce.error).print(NS_SERVER));
        if barriers.is_full(&pair, &hop) {
            return self.bounce_later(turn, record);
        }
        barriers.carry(turn, hop, pair, stanza, Owed::Record(record.clone()), None);
    }

    /// Draining is over: what is still under way is told to its senders as uncertain, what was never sent as not delivered.
    pub fn give_up(&mut self, turn: &mut Turn<'_>, barriers: &mut Barriers) {
        for (_, queue) in std::mem::take(&mut self.queues) {
            let sent = queue.sent.into_iter().map(|page| (Reason::Uncertain, page));
            let waiting = queue.waiting.into_iter().map(|page| (Reason::Timeout, page));
            for (reason, page) in sent.chain(waiting) {
                self.waiting -= 1;
                self.give_back(turn, barriers, page.envelope, &Reject::new(reason, "stopping"));
            }
        }
    }

    /// Messages whose outcome is owed, errors not yet handed over included.
    pub fn len(&self) -> usize {
        self.waiting + self.bounces.len()
    }

    /// Whether none is owed.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn settle(
        &mut self,
        turn: &mut Turn<'_>,
        barriers: &mut Barriers,
        envelope: Envelope,
        outcome: Outcome,
        error: Option<StanzaError>,
    ) {
        let settled = Settled {
            partner: envelope.partner.as_str().into(),
            side: Side::Inside,
            protocol: Protocol::Xmpp,
            action: envelope.action(),
            outcome,
        };
        turn.step(Step::Event(Event::Settled(settled)));
        let record = envelope.record_id();
        match error {
            None => turn.step(Step::Forget { lane: Lane::Free, id: record }),
            Some(error) => {
                self.bounces.insert(record.clone(), Bounce { envelope, error, tries: 0 });
                self.bounce(turn, barriers, &record);
            }
        }
    }

    fn send_next(&mut self, turn: &mut Turn<'_>, clients: &mut Clients, key: &PageKey) {
        let Some(queue) = self.queues.get_mut(key) else { return };
        if queue.sent.is_some() {
            return;
        }
        let Some(page) = queue.waiting.pop_front() else {
            self.queues.remove(key);
            return;
        };
        let (hop, local) = (partner_hop(turn.settings, key.domain(), page.from.bare.domain()), page.from.bare.domain());
        let branch = turn.branch();
        let tag = turn.token();
        let identity = &turn.settings.identities[turn.settings.identity_for(local)];
        let uri = page.uri.clone();
        let mut headers = vec![
            ("Via", format!("SIP/2.0/TLS {}:{};branch={branch}", identity.hostname, identity.sip_port)),
            ("Max-Forwards", "70".to_owned()),
            ("From", format!("<sip:{}>;tag={tag}", page.from.bare.to_sip())),
            ("To", format!("<{uri}>")),
            ("Call-ID", page.says.call_id.clone()),
            ("CSeq", "1 MESSAGE".to_owned()),
        ];
        headers.extend(page.says.headers.iter().cloned());
        let bytes = Request {
            method: Method::Message,
            uri: &uri,
            headers: &headers,
            body: Some((PAGE_CONTENT_TYPE, page.says.body.as_bytes())),
        }
        .print();
        let transit = Some((page.at, Path::XmppSip));
        queue.sent = Some(page);
        let purpose = Purpose::Page(key.clone());
        clients.send(turn, hop, Sent { branch, method: Method::Message, purpose, bytes, transit, lane: Lane::Free });
    }
}

/// Only what acknowledges its stanza waits for it, never the message.
fn keep(turn: &mut Turn<'_>, envelope: &Envelope) {
    let record = Record { id: envelope.record_id(), kept: Kept::Envelope(envelope.clone()) };
    turn.step(Step::Keep { lane: Lane::Free, record });
}

impl Envelope {
    fn record_id(&self) -> RecordId {
        RecordId(self.record.clone())
    }

    fn action(&self) -> Action {
        if self.chat { Action::Chat } else { Action::Message }
    }

    /// Who is told what, for the log.
    fn facts(&self) -> super::Facts {
        super::Facts {
            from: self.from.clone(),
            to: self.to.clone(),
            action: self.action(),
            side: Side::Inside,
            protocol: Protocol::Xmpp,
            partner: self.partner.clone(),
            peer: None,
        }
    }

    fn reply_hop(&self, settings: &Settings) -> Option<(HopKey, Pair)> {
        let domain = |text: &str| Jid::parse(text).ok().map(|jid| jid.bare.domain().clone());
        let (from, to): (Domain, Domain) = (domain(&self.to)?, domain(&self.from)?);
        Some((node_hop(settings, &self.node, &from, &to), (from, to)))
    }

    fn error_stanza(&self, error: &StanzaError) -> Element {
        let mut stanza =
            Element::new("message", NS_SERVER).attr("type", "error").attr("from", &self.to).attr("to", &self.from);
        if let Some(id) = &self.id {
            stanza = stanza.attr("id", id);
        }
        stanza.child(error.to_element(NS_SERVER))
    }
}
