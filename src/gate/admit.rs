//! The whole path of a message, on one screen for each protocol: understand → who says so ([`super::peer`]) → their words to ours
//! ([`super::border`]) → may they ([`super::policy`]) → part of something known, or where to ([`super::session`], [`super::route`]).

mod asked;
mod crossing;
mod relay;
mod session;
mod stanza;
mod translated;

use super::Draining;
use super::Gate;
use super::border::inward;
use super::event::{Decision, Event};
use super::exchange::{Incoming, Output, Path};
use super::lane::Lane;
use super::limits;
use super::links::Far;
use super::partner::{Action, Budget, Html, LinkId, PartnerId, Profile, Protocol, Side};
use super::peer::Claim;
use super::policy::table::STRANGER_PROFILE;
use super::policy::{Permit, Question};
use super::record::{Kept, Record, RecordId};
use super::reject::{DecisionId, Reason, Reject};
use super::route::{node_hop, table};
use super::session::relay::Came;
use super::session::table::digest;
use super::session::{Facts, Step, fetch::Fetches, outcome, watch};
use super::time::Time;
use super::translate::message;
use crate::wire::address::{Address, Jid};
use crate::wire::sip::compose::Response;
use crate::wire::sip::header::Name;
use crate::wire::sip::{Message, Method, Start};
use crate::wire::xmpp::{Element, NS_SERVER};
use bytes::Bytes;
use rand::RngExt;
use smol_str::SmolStr;
use std::net::IpAddr;

/// The label of whom no entry names.
const OTHER: SmolStr = SmolStr::new_static("other");

/// Methods we answer, for Allow.
const ALLOW: &str = "SUBSCRIBE, NOTIFY, INVITE, ACK, CANCEL, BYE, MESSAGE, INFO, UPDATE, OPTIONS";

/// How a request that was taken is answered.
enum Taken {
    /// By this response, now.
    Now { status: u16, headers: Vec<(&'static str, String)>, to_tag: Option<String>, makes_dialog: bool },
    /// When its outcome is known.
    Later,
    /// Never (ACK, BENOTIFY).
    Never,
}

impl Gate {
    /// A message came in whole.
    pub(super) fn received(&mut self, now: Time, link: LinkId, at: Time, message: Incoming) {
        match message {
            Incoming::Sip(message) => match message.start() {
                Start::Request { .. } => self.sip_request(now, link, at, &message),
                Start::Response { .. } => {
                    if message.check().is_ok() {
                        self.response(now, link, &message);
                    }
                }
            },
            Incoming::BadSip { message, fault, fatal } => {
                let reject = Reject::from(fault);
                match message.filter(Message::is_request) {
                    Some(request) => self.refuse_sip(now, link, &request, &reject),
                    None => {
                        let facts = self.facts_of_link(link);
                        let (mut turn, _) = self.turn(now);
                        turn.refused(&reject, &facts);
                    }
                }
                if fatal {
                    // The answer first.
                    self.carry(now);
                    self.outputs.push_back(Output::Close { link, error: None });
                }
            }
            Incoming::Stanza(stanza) => self.stanza(now, link, at, &stanza),
        }
    }

    fn sip_request(&mut self, now: Time, link: LinkId, at: Time, request: &Message) {
        let admitted = match self.links.get(link).map(|link| &link.far) {
            Some(Far::SipNode { .. }) => self.admit_from_node(now, link, at, request),
            _ => self.admit_sip(now, link, at, request),
        };
        match admitted {
            Ok(Taken::Now { status, headers, to_tag, makes_dialog }) => {
                self.answer(now, link, request, status, &headers, to_tag, makes_dialog);
            }
            Ok(Taken::Later | Taken::Never) => {}
            Err(reject) => self.refuse_sip(now, link, request, &reject),
        }
    }

    /// The path of a SIP request from the outside.
    fn admit_sip(&mut self, now: Time, link: LinkId, at: Time, request: &Message) -> Result<Taken, Reject> {
        let Some(method) = request.method().cloned() else {
            return Err(Reject::new(Reason::Malformed, "no method"));
        };
        if method == Method::Negotiate {
            return Err(no_compression());
        }
        request.check()?;
        // Who says so.
        let domain = inward::claimed_domain(request)?;
        let claim = self.links.claim(&self.settings, link, &domain, now)?;
        // Their words to ours.
        let (profile, budget, label) = self.entry(claim.partner());
        let from = inward::sender(request, &claim, profile)?;
        let came = Came::of(link, at, request);
        if self.sessions.servers.is_repeated(link, request) || self.sessions.relays.is_repeated(came) {
            return Ok(Taken::Never);
        }
        // RFC 3261 §11: also with a hop limit of 0, which reaches us and nobody behind us.
        if method == Method::Options && inward::is_for_edge(request, &self.settings) {
            return Ok(capabilities());
        }
        inward::no_loop(request, &self.settings)?;
        let entry = (profile, &budget, label.as_str());
        if let Some(taken) = self.relay_inward(now, came, &claim, &from, request, entry)? {
            return Ok(taken);
        }
        inward::asserted(request, &claim)?;
        inward::no_other_route(request, &self.settings)?;
        match method {
            Method::Ack => {
                self.acked(now, &from, request);
                return Ok(Taken::Never);
            }
            // COMPAT(lync): MS-SIP §3.5: never answered, whatever it says.
            Method::Benotify => {
                self.notify(now, at, &from, request, (&label, &budget))?;
                return Ok(Taken::Never);
            }
            Method::Cancel => return Ok(self.cancelled(&from, request)),
            _ => {}
        }
        if method == Method::Notify {
            return self.notify(now, at, &from, request, (&label, &budget));
        }
        let dialog = request.to_tag().and_then(|tag| self.sessions.watches.of_dialog(tag));
        let chat = self.chat_of(&from, request);
        let to = match (dialog, &chat) {
            (Some((watcher, presentity)), _) if watcher == from => presentity,
            (_, Some((local, _))) => local.clone(),
            // RFC 3261 §12.2.2, RFC 6665 §4.1.3: inside a dialog that is not there.
            _ if request.to_tag().is_some() || matches!(method, Method::Bye | Method::Info) => {
                return Ok(plain(481));
            }
            _ => inward::recipient(request)?,
        };
        if request.body().len() > budget.body_bytes {
            let detail =
                format!("the body is {} bytes; limits.body_bytes is {}", request.body().len(), budget.body_bytes);
            return Err(Reject::new(Reason::TooLarge, detail));
        }
        // May they.
        let action = if chat.is_some() { Action::Chat } else { action_of(&method, request) };
        let permit = match self.decide(&claim, &from, &to, action) {
            // Who may open IM sessions is told what is no such session; who may not, that it may not.
            Err(reject)
                if method == Method::Invite
                    && reject.reason == Reason::NotAllowed
                    && self.may_chat(&claim, &from, &to) =>
            {
                return Err(no_session());
            }
            decided => decided?,
        };
        if let (Some(key), Method::Bye) = (&chat, &method) {
            // Who leaves is neither held back nor counted.
            return Ok(self.chat_ended(now, key, request));
        }
        self.spend(now, &label, &budget, &to)?;
        understood(&method, request)?;
        // What goes on after the restart may be refreshed until then.
        let is_refresh = method == Method::Subscribe && request.to_tag().is_some();
        if self.draining.is_some_and(|how| !is_refresh || how == Draining::ForGood) {
            return Err(Reject::new(Reason::Overloaded, "stopping"));
        }
        // Part of something known, or where to.
        if let Some(key) = chat {
            return self.in_chat(now, (link, at), permit, request, (&key, &label, budget.body_bytes));
        }
        match method {
            Method::Subscribe => self.subscribe(now, permit, request, (&label, profile, budget.subscriptions)),
            Method::Message => {
                let text = message::read_sip(request, budget.body_bytes, self.html(permit.partner()))?;
                let (from, to) = (Jid::bare(permit.from().clone()), Jid::bare(permit.to().clone()));
                self.deliver(now, (link, at), permit, request, &label, |id| {
                    message::write_stanza(&text, &from, &to, id)
                })
            }
            // RFC 3261 §11.2: for a user too the edge is the UAS; what it can do is the same.
            Method::Options => Ok(capabilities()),
            Method::Invite => {
                if action != Action::Chat {
                    return Err(no_session());
                }
                self.may_begin()?;
                let (mut turn, sessions) = self.turn(now);
                let (chats, beside) = sessions.chats();
                chats.invited(&mut turn, beside, &permit, (link, request), &label)?;
                Ok(Taken::Never)
            }
            Method::Other(_) => {
                Err(Reject::new(Reason::Unsupported, format!("method {method}")).with_header("Allow", ALLOW))
            }
            _ => Err(Reject::new(Reason::Unsupported, format!("method {method}"))
                .with_status(405)
                .with_header("Allow", ALLOW)),
        }
    }

    /// Takes a request off its partner's budget.
    fn spend(&mut self, now: Time, label: &str, budget: &Budget, target: &Address) -> Result<(), Reject> {
        if let Some(kept) = self.rates.spend(now, label, budget, target)? {
            let record = Record { id: RecordId(kept.name()), kept: Kept::Budget(kept) };
            self.steps.push_back(Step::Keep { lane: Lane::Free, record });
        }
        Ok(())
    }

    fn subscribe(
        &mut self,
        now: Time,
        permit: Permit,
        request: &Message,
        partner: (&str, Profile, u32),
    ) -> Result<Taken, Reject> {
        let asked = watch::read(request, &self.settings.presence)?;
        let is_refresh = request.to_tag().is_some();
        if !asked.expires.is_zero() && !is_refresh {
            self.writing.may_begin()?;
        }
        let (mut turn, sessions) = self.turn(now);
        let taken = if is_refresh {
            match sessions.watches.refresh(&mut turn, &permit, request, asked.expires) {
                None => return Ok(plain(481)),
                Some(taken) => taken?,
            }
        } else if asked.expires.is_zero() {
            let fetches: &mut Fetches = &mut sessions.fetches;
            let local_tag = fetches.start(&mut turn, &permit, request, asked.event_id, partner.1)?;
            watch::Taken { local_tag, expires: asked.expires }
        } else {
            sessions.watches.subscribe(&mut turn, &permit, request, asked, partner)?
        };
        let headers = watch::granted(&self.settings, permit.to(), taken.expires);
        Ok(Taken::Now { status: 200, headers, to_tag: Some(taken.local_tag), makes_dialog: true })
    }

    /// A NOTIFY follows the subscription that asked for it; without one it is nobody's.
    fn notify(
        &mut self,
        now: Time,
        at: Time,
        from: &Address,
        request: &Message,
        (label, budget): (&str, &Budget),
    ) -> Result<Taken, Reject> {
        let key = request.to_tag().and_then(|tag| self.sessions.contacts.of_dialog(tag));
        // RFC 6665 §4.1.3: unmatched is 481.
        let Some(key) = key.filter(|(_, presentity)| presentity == from) else { return Ok(plain(481)) };
        if request.body().len() > budget.body_bytes {
            return Err(Reject::new(Reason::TooLarge, format!("limits.body_bytes is {}", budget.body_bytes)));
        }
        self.spend(now, label, budget, &key.0)?;
        let (mut turn, sessions) = self.turn(now);
        match sessions.contacts.notify(&mut turn, &mut sessions.clients, request, at) {
            None => Ok(plain(481)),
            Some(read) => {
                read.map(|()| Taken::Now { status: 200, headers: Vec::new(), to_tag: None, makes_dialog: false })
            }
        }
    }

    /// A MESSAGE to an XMPP user: answered when its outcome is known.
    fn deliver(
        &mut self,
        now: Time,
        (link, at): (LinkId, Time),
        permit: Permit,
        request: &Message,
        label: &str,
        stanza: impl FnOnce(&str) -> Element,
    ) -> Result<Taken, Reject> {
        let pair = (permit.from().domain().clone(), permit.to().domain().clone());
        let node = table::node_between(&self.settings, &pair.0, permit.to())?;
        let hop = node_hop(&self.settings, &node.name, &pair.0, &pair.1);
        if self.sessions.servers.len() >= limits::OPEN_REQUESTS {
            return Err(Reject::new(Reason::Overloaded, "too many requests are open"));
        }
        if self.sessions.barriers.is_full(&pair, &hop) {
            return Err(Reject::new(Reason::Overloaded, "too many messages of these two domains await their outcome"));
        }
        let (mut turn, sessions) = self.turn(now);
        let id = turn.token();
        let stanza = stanza(&id);
        let server = sessions.servers.open(&mut turn, link, request);
        let sender = outcome::Sender {
            id,
            server,
            action: permit.action(),
            full_jid: false,
            partner: label.into(),
            from: permit.from().to_jid(),
            to: permit.to().to_jid(),
        };
        let (stanza, owed) = (Bytes::from(stanza.print(NS_SERVER)), outcome::Owed::Sender(sender));
        sessions.barriers.carry(&mut turn, hop, pair, stanza, owed, Some((at, Path::SipXmpp)));
        Ok(Taken::Later)
    }

    /// Whether policy lets these two have an IM session that the outside opens.
    fn may_chat(&self, claim: &Claim, from: &Address, to: &Address) -> bool {
        let peer_ip = self.links.get(claim.link()).map(|link| canonical(link.peer.ip()));
        let (action, side, protocol) = (Action::Chat, Side::Outside, claim.protocol());
        self.settings.policy.decide(Question { from, to, action, side, protocol, peer_ip }).0.is_ok()
    }

    /// Policy on a request from the outside.
    fn decide(&mut self, claim: &Claim, from: &Address, to: &Address, action: Action) -> Result<Permit, Reject> {
        let peer = self.links.get(claim.link()).map(|link| link.peer);
        let question = Question {
            from,
            to,
            action,
            side: Side::Outside,
            protocol: claim.protocol(),
            peer_ip: peer.map(|peer| canonical(peer.ip())),
        };
        self.decided(question, claim.partner(), (claim.protocol(), peer))
    }

    /// Asks policy; the first allow of a pair and action under this policy is told to the operator.
    fn decided(
        &mut self,
        question: Question<'_>,
        partner: Option<PartnerId>,
        (asker, peer): (Protocol, Option<std::net::SocketAddr>),
    ) -> Result<Permit, Reject> {
        let permit = self.settings.policy.decide(question).0?;
        let (from, to) = (question.from, question.to);
        // A domain alone is told from a user of an empty name, which nobody has.
        let texts = [
            from.local().unwrap_or_default(),
            from.domain().as_str(),
            to.local().unwrap_or_default(),
            to.domain().as_str(),
        ];
        let told = digest(&[self.told_key, question.action as u64], &texts);
        if self.is_told_first(told) {
            let because = self.settings.policy.explain(question).pop().map(|step| match step.origin {
                Some(origin) => format!("{origin}: {}", step.text),
                None => step.text,
            });
            let decision = Decision {
                id: DecisionId::from_bits(self.rng.random()),
                refused: None,
                from: question.from.to_jid(),
                to: question.to.to_jid(),
                action: question.action,
                side: question.side,
                protocol: asker,
                partner: self.entry(partner).2.to_string(),
                peer,
                because: because.unwrap_or_default(),
                policy_version: permit.policy_version(),
            };
            self.outputs.push_back(Output::Event(Box::new(Event::Decided(decision))));
        }
        Ok(permit)
    }

    /// Whether this was not told yet under this policy. Of too many nothing is.
    fn is_told_first(&mut self, told: u64) -> bool {
        self.allows_told.len() < limits::ALLOWS_TOLD && self.allows_told.insert(told)
    }

    /// Dialect, budget and label of a partner entry, or of strangers.
    fn entry(&self, partner: Option<PartnerId>) -> (Profile, Budget, SmolStr) {
        match (partner, &self.settings.policy.stranger) {
            (Some(id), _) => {
                let partner = self.settings.policy.partner(id);
                (partner.profile, partner.limits, partner.label.clone())
            }
            (None, Some(stranger)) => (STRANGER_PROFILE, stranger.limits, OTHER),
            (None, None) => (STRANGER_PROFILE, Budget::default(), OTHER),
        }
    }

    /// What becomes of HTML from a partner.
    fn html(&self, partner: Option<PartnerId>) -> Html {
        partner.map_or(Html::ToText, |id| self.settings.policy.partner(id).html)
    }

    pub(super) fn refuse_sip(&mut self, now: Time, link: LinkId, request: &Message, reject: &Reject) {
        let facts = self.facts_of(link, request);
        let hostname = self.settings.identities.first().map(|i| i.hostname.clone()).unwrap_or_default();
        let (mut turn, _) = self.turn(now);
        let id = turn.refused(reject, &facts);
        // RFC 3261 §17: ACK is never answered; COMPAT(lync): nor is BENOTIFY.
        if matches!(request.method(), Some(Method::Ack | Method::Benotify)) {
            return;
        }
        let mut headers = vec![("Warning", reject.warning(&hostname, id))];
        headers.extend(reject.headers.iter().cloned());
        self.answer(now, link, request, reject.status, &headers, None, false);
    }

    #[allow(clippy::too_many_arguments)] // one response, one place
    pub(super) fn answer(
        &mut self,
        now: Time,
        link: LinkId,
        request: &Message,
        status: u16,
        headers: &[(&'static str, String)],
        to_tag: Option<String>,
        makes_dialog: bool,
    ) {
        let is_refused = status >= 300 && request.method() == Some(&Method::Invite) && self.settings.has_sip_nodes();
        if is_refused && self.sessions.relays.invite_of(link, request).is_none() {
            self.sessions.relays.refused(now, link, request);
        }
        let (mut turn, _) = self.turn(now);
        let to_tag = to_tag.unwrap_or_else(|| turn.token());
        let bytes = Response {
            request,
            status,
            reason: None,
            to_tag: Some(&to_tag),
            record_route: makes_dialog,
            headers,
            body: None,
        }
        .print();
        // Behind what the same turn keeps: what we acknowledge is already remembered.
        turn.step(Step::Write { link, bytes, lane: Lane::Free });
    }

    fn facts_of(&self, link: LinkId, request: &Message) -> Facts {
        let who = |uri: Option<crate::wire::sip::NameAddr<'_>>| {
            uri.map_or_else(String::new, |name| name.uri.text.chars().take(256).collect())
        };
        let known = self.facts_of_link(link);
        // The partner is who is outside.
        let domain = match known.side {
            Side::Outside => inward::claimed_domain(request).ok(),
            Side::Inside => inward::to(request).ok().map(|to| to.domain().clone()),
        };
        Facts {
            from: who(request.from()),
            to: who(request.to()),
            action: request.method().map_or(Action::Other, |method| action_of(method, request)),
            partner: self.label(domain.as_ref().map(|d| d.as_str()), Protocol::Sip),
            ..known
        }
    }

    fn facts_of_link(&self, link: LinkId) -> Facts {
        let known = self.links.get(link);
        Facts {
            from: String::new(),
            to: String::new(),
            action: Action::Other,
            side: known.map_or(Side::Outside, |link| link.side),
            protocol: known.map_or(Protocol::Sip, |link| link.protocol()),
            partner: "other".to_owned(),
            peer: known.map(|link| link.peer),
        }
    }
}

/// What a request does, in the policies' words.
fn action_of(method: &Method, request: &Message) -> Action {
    match method {
        Method::Subscribe => Action::Subscribe,
        Method::Notify | Method::Benotify | Method::Publish => Action::Presence,
        Method::Message => Action::Message,
        Method::Invite if is_im_offer(request) => Action::Chat,
        Method::Invite => Action::Call,
        _ => Action::Other,
    }
}

/// COMPAT(lync, ocs): an IM session's offer is `m=message … sip null`, of LCS `m=x-ms-message`; MSRP is a chat too.
fn is_im_offer(request: &Message) -> bool {
    let body = request.body();
    let mut media = body.split(|b| *b == b'\n').filter(|line| line.starts_with(b"m=")).peekable();
    media.peek().is_some() && media.all(|line| line.starts_with(b"m=message ") || line.starts_with(b"m=x-ms-message "))
}

/// RFC 3261 §8.2.2.3 and §16.3 step 5: extensions demanded of us.
fn understood(method: &Method, request: &Message) -> Result<(), Reject> {
    let unknown_to_uas = request.values(Name::Require).filter(|_| !matches!(method, Method::Cancel));
    none_unknown(unknown_to_proxy(request).chain(unknown_to_uas))
}

/// What is demanded of the proxies on the way and we don't know. COMPAT(lync): `Proxy-Require: ms-benotify` meets every strict proxy with 420; not
/// listing it in Supported is enough to decline.
fn unknown_to_proxy(request: &Message) -> impl Iterator<Item = &str> {
    request.values(Name::ProxyRequire).filter(|tag| !tag.trim().eq_ignore_ascii_case("ms-benotify"))
}

/// 420 for extensions that we don't know, if there are any.
fn none_unknown<'a>(unknown: impl Iterator<Item = &'a str>) -> Result<(), Reject> {
    let unknown: Vec<&str> = unknown.map(str::trim).filter(|tag| !tag.is_empty()).take(16).collect();
    if unknown.is_empty() {
        return Ok(());
    }
    let list = unknown.join(", ");
    Err(Reject::new(Reason::Unsupported, format!("extensions {list}"))
        .with_status(420)
        .with_header("Unsupported", list))
}

/// An answer that says nothing but its status.
fn plain(status: u16) -> Taken {
    Taken::Now { status, headers: Vec::new(), to_tag: None, makes_dialog: false }
}

/// COMPAT(lync): NEGOTIATE asks for compression hop by hop, with Max-Forwards 0 by design; declined, the link goes on without.
fn no_compression() -> Reject {
    Reject::new(Reason::Unsupported, "compression").with_status(405).with_header("Allow", ALLOW)
}

/// An INVITE with media, of a conference, or of nothing we know: only IM sessions of two are carried.
fn no_session() -> Reject {
    Reject::new(Reason::Unsupported, "it offers no IM session; media and conferences are not carried").with_status(488)
}

fn capabilities() -> Taken {
    let headers = vec![
        ("Allow", ALLOW.to_owned()),
        ("Accept", "text/plain, text/html, multipart/alternative, application/pidf+xml, application/sdp".to_owned()),
    ];
    Taken::Now { status: 200, headers, to_tag: None, makes_dialog: false }
}

/// `::ffff:192.0.2.1` is 192.0.2.1 to a CIDR.
fn canonical(ip: IpAddr) -> IpAddr {
    ip.to_canonical()
}
