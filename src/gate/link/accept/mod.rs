//! Streams that a peer opened: it proves that it may send for its domains, then sends stanzas. We say how many we have taken responsibility
//! for, when its server keeps count (stream management, XEP-0198), and send stanzas of ours only where it wants them (XEP-0288).

mod dialback;
mod sasl;
mod stanzas;

use super::acks::Acks;
use super::core::{Core, Pair};
use super::judge::{self, Known, Refusal, Ruling, Shown};
use super::{Handshaking, LinkOutput, State, VerifyRequest, partner};
use crate::gate::Other;
use crate::gate::limits::STREAM_IDLE;
use crate::gate::partner::{Side, TlsMode};
use crate::gate::reject::{Reason, Reject};
use crate::wire::address::Domain;
use crate::wire::xmpp::negotiation::{is_ack, management_enabled, management_failed, tls};
use crate::wire::xmpp::stream::Version;
use crate::wire::xmpp::{
    Child, Condition, Dialback, Features, Management, NS_SERVER, Outcome, Question, StreamError, StreamHeader,
};
use bytes::Bytes;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// The one SASL mechanism between servers (XEP-0178).
const EXTERNAL: &str = "EXTERNAL";

/// The peer's header is expected.
#[derive(Debug)]
pub(super) struct Awaiting {
    pub peer: IpAddr,
    /// What the connection has shown.
    pub shown: Shown,
    /// What was agreed on before the stream began anew behind SASL.
    pub external: Option<External>,
}

/// What SASL leaves to the stream behind it (RFC 6120 §6.4.6).
#[derive(Debug)]
pub(super) struct External {
    /// The pair that is proven: the header must name it again.
    pair: (Domain, Domain),
    /// Whether stanzas are to flow both ways.
    both_ways: bool,
}

/// Headers were exchanged: negotiation, then stanzas of the pairs proven so far.
#[derive(Debug)]
pub(super) struct Receiving {
    peer: IpAddr,
    shown: Shown,
    /// The id we gave the stream.
    id: String,
    /// For whom its header says it speaks, and to whom.
    from: Option<Domain>,
    to: Option<Domain>,
    /// Proven pairs (from, to).
    pairs: BTreeSet<(Domain, Domain)>,
    /// Pairs whose key is being verified elsewhere.
    pending: Vec<Pending>,
    /// How many keys were refused.
    refused: usize,
    /// Whether we were asked about a key: then the stream may have been opened for nothing else.
    consulted: bool,
    /// Whether the peer takes stanzas of the reversed pairs (XEP-0288).
    both_ways: bool,
    /// Set once the peer has enabled stream management.
    acks: Option<Acks>,
    /// Why whom the header names can't be proven on this stream, whatever follows.
    hopeless: Option<Reject>,
}

#[derive(Debug)]
struct Pending {
    request: VerifyRequest,
    question: Dialback,
    other: Other,
}

impl Awaiting {
    pub fn new(peer: IpAddr) -> Self {
        Self { peer, shown: Shown::default(), external: None }
    }

    pub fn on_header(self, core: &mut Core, header: StreamHeader) -> State {
        let version = header.version();
        let (from, to) = (parse(&header.from), parse(&header.to));
        let id = core.fresh_id();
        // RFC 6120 §4.9.1.2: our header comes first, whatever is wrong with theirs. RFC 6120 §4.7.5: no version for who has none.
        core.send_header(&StreamHeader {
            from: to.as_ref().ok().and_then(written),
            to: from.as_ref().ok().and_then(written),
            id: Some(id.clone()),
            version: (version != Ok(Version::Legacy)).then(|| "1.0".to_owned()),
            ..StreamHeader::server()
        });
        core.peer_domain = from.as_ref().ok().and_then(written);
        let version = match self.judge(core, &header, &from, &to) {
            Ok(version) => version,
            Err((reject, error)) => return core.refuse(reject, error),
        };
        let (from, to) = (from.ok().flatten(), to.ok().flatten());
        let names = |(own, ours): &(Domain, Domain)| from.as_ref() == Some(own) && to.as_ref() == Some(ours);
        if self.external.as_ref().is_some_and(|external| !names(&external.pair)) {
            let reject = Reject::new(Reason::Malformed, "the header behind SASL names other domains");
            return core.refuse(reject, StreamError::InvalidFrom);
        }
        let authenticated = self.external.is_some();
        Receiving {
            peer: self.peer,
            shown: self.shown,
            id,
            from,
            to,
            pairs: BTreeSet::new(),
            pending: Vec::new(),
            refused: 0,
            consulted: false,
            both_ways: self.external.is_some_and(|external| external.both_ways),
            acks: None,
            hopeless: None,
        }
        .begin(core, version, authenticated)
    }

    fn judge(
        &self,
        core: &Core,
        header: &StreamHeader,
        from: &Result<Option<Domain>, ()>,
        to: &Result<Option<Domain>, ()>,
    ) -> Result<Version, (Reject, StreamError)> {
        let malformed = |what: &str, error| Err((Reject::new(Reason::Malformed, what), error));
        let because = |reject: Reject| {
            let error = reject.reason.stream_error();
            (reject, error)
        };
        if !header.scope.declares(NS_SERVER) {
            return malformed("not a server-to-server stream", StreamError::InvalidNamespace);
        }
        let Ok(version) = header.version() else {
            return malformed("the header's version is not a version", StreamError::UnsupportedVersion);
        };
        match from {
            Err(()) => return malformed("the header's from is not a domain", StreamError::InvalidFrom),
            Ok(Some(from)) => judge::judge_from(core.side, &core.settings, from, self.peer).map_err(because)?,
            // COMPAT(ejabberd): from may be missing; whom it speaks for is then said by dialback.
            Ok(None) => {}
        }
        match (to, version) {
            (Err(()), _) => return malformed("the header's to is not a domain", StreamError::HostUnknown),
            (Ok(Some(to)), _) => judge::judge_to(core.side, &core.settings, to).map_err(because)?,
            // RFC 6120 §4.7.2.
            (Ok(None), Version::One) => return malformed("the header has no to", StreamError::ImproperAddressing),
            // COMPAT(googletalk): pre-1.0 headers name nobody.
            (Ok(None), Version::Legacy) => {}
        }
        // RFC 6120 §4.7.5: no features, so no STARTTLS.
        let from = from.as_ref().ok().and_then(Option::as_ref);
        if version == Version::Legacy
            && !self.shown.tls
            && judge::tls_mode(core.side, &core.settings, from) == TlsMode::Required
        {
            return Err((tls_required(core.side), StreamError::PolicyViolation));
        }
        Ok(version)
    }
}

impl Receiving {
    fn begin(mut self, core: &mut Core, version: Version, authenticated: bool) -> State {
        if let Some(pair) = self.named().filter(|_| core.side == Side::Outside && self.may_speak(core)) {
            partner::judge_certificate(&core.settings, &pair.0, &mut self.shown, core.now);
            let refusal = self.judge_pair(core, &pair, "any").err();
            self.hopeless = refusal.filter(|refusal| refusal.personal).map(|refusal| refusal.reject);
        }
        match version {
            Version::One => {
                core.send(&self.features(core, authenticated).to_element());
                if authenticated {
                    return self.admit_named(core);
                }
            }
            // RFC 6120 §4.7.5: a pre-1.0 peer knows no features, and begins dialback unasked.
            Version::Legacy => {}
        }
        State::Receiving(self)
    }

    fn features(&self, core: &Core, authenticated: bool) -> Features {
        let (mode, outside) = (self.tls_mode(core), core.side == Side::Outside);
        let external = !authenticated && self.external(core).is_some();
        let limits = outside && authenticated;
        Features {
            starttls: (!self.shown.tls && mode != TlsMode::Off).then_some(mode == TlsMode::Required),
            mechanisms: external.then(|| EXTERNAL.to_owned()).into_iter().collect(),
            // Also where no key would be believed: who is refused by its certificate then hears so, and may still ask about keys of ours.
            dialback: self.may_speak(core).then_some(true),
            // COMPAT(ejabberd): enables it the moment it sees it, which must not be before TLS.
            bidi: outside && self.shown.tls && !authenticated,
            // XEP-0198 §2: not before the peer is known. Dialback makes it known too, but no features come behind that.
            management: authenticated,
            // XEP-0478: what holds for a known peer; nobody needs more than what an unknown one may send.
            max_bytes: limits.then_some(core.settings.limits.stanza_bytes),
            idle_seconds: limits.then_some(STREAM_IDLE.as_secs()),
        }
    }

    fn tls_mode(&self, core: &Core) -> TlsMode {
        judge::tls_mode(core.side, &core.settings, self.from.as_ref())
    }

    /// Whether anything but STARTTLS may be said.
    fn may_speak(&self, core: &Core) -> bool {
        self.shown.tls || self.tls_mode(core) != TlsMode::Required
    }

    /// From whom to whom the header says the stream is.
    fn named(&self) -> Option<(Domain, Domain)> {
        self.from.clone().zip(self.to.clone())
    }

    /// Whether nobody is proven, or about to be.
    fn is_new(&self) -> bool {
        self.pairs.is_empty() && self.pending.is_empty()
    }

    pub fn on_child(mut self, core: &mut Core, child: Child) -> State {
        if matches!(child, Child::StartTls) {
            return self.on_starttls(core);
        }
        if !self.may_speak(core) {
            // RFC 6120 §5.3.1.
            return core.refuse(tls_required(core.side), StreamError::PolicyViolation);
        }
        match child {
            Child::Stanza(stanza) => self.on_stanza(core, *stanza),
            Child::Dialback(question) => match (question.question, question.outcome.clone()) {
                (Question::Result, Outcome::Key(key)) => self.on_result(core, question, key),
                (Question::Verify, Outcome::Key(key)) => self.on_verify(core, question, &key),
                // Answers to questions that were never put on this stream: the spoof of 2012 (XEP-0220 §4).
                (_, Outcome::Valid | Outcome::Invalid | Outcome::Error(_)) => State::Receiving(self),
            },
            Child::Auth { mechanism, response } => self.on_auth(core, &mechanism, &response),
            Child::Management(asked @ (Management::Enable | Management::Resume)) => self.on_management(core, asked),
            Child::Management(asked @ (Management::Request | Management::Ack(_))) if core.is_proven() => {
                self.on_management(core, asked)
            }
            // XEP-0288 §2.2: before anything is proven.
            Child::Bidi if core.side == Side::Outside && self.shown.tls && self.is_new() && !core.is_proven() => {
                self.both_ways = true;
                State::Receiving(self)
            }
            Child::StartTls
            | Child::Bidi
            | Child::Features(_)
            | Child::Error(..)
            | Child::Proceed
            | Child::TlsFailure
            | Child::Success
            | Child::SaslFailure(..)
            | Child::Management(_)
            | Child::Other(_) => {
                let what = Reject::new(Reason::Unsupported, "an element that has no place on an accepted stream");
                // RFC 6120 §4.9.3.24, §4.9.3.12.
                match core.is_proven() {
                    true => core.refuse(what, StreamError::UnsupportedStanzaType),
                    false => core.refuse(Reject::new(Reason::Unproven, what.detail), StreamError::NotAuthorized),
                }
            }
        }
    }

    fn on_starttls(self, core: &mut Core) -> State {
        let mode = self.tls_mode(core);
        if self.shown.tls || !self.is_new() || mode == TlsMode::Off {
            // RFC 6120 §5.4.2.2: failure ends the stream. COMPAT(prosody): asks for TLS even where it is not offered.
            core.send(&tls("failure"));
            let cause = match (mode, core.side) {
                (TlsMode::Off, Side::Inside) => {
                    "the node asks for TLS, but [inside] tls = \"off\": allow it, or let the node do without (Prosody: \
                     s2s_require_encryption)"
                }
                (TlsMode::Off, Side::Outside) => {
                    "the partner asks for TLS, but its entry has tls = \"off\": set \"optional\" or \"required\""
                }
                (TlsMode::Optional | TlsMode::Required, _) => "STARTTLS at a time when it can't be done",
            };
            return core.end(None, cause);
        }
        // RFC 6120 §5.4.3.3: what was said before TLS is forgotten; what was said too early must not be read as if said in TLS.
        if core.framer.restart() > 0 {
            let reject = Reject::new(Reason::Malformed, "bytes behind <starttls/>, before TLS");
            return core.refuse(reject, StreamError::PolicyViolation);
        }
        core.send(&tls("proceed"));
        core.restart();
        core.outputs.push_back(LinkOutput::StartTls { of: self.to });
        State::Handshaking(Handshaking::Accepting(Awaiting::new(self.peer)))
    }

    /// XEP-0198, the receiving half: counts stanzas, and acknowledges them when the gate says so. Nothing is resumed.
    fn on_management(mut self, core: &mut Core, asked: Management) -> State {
        match (asked, &mut self.acks) {
            (Management::Enable, acks @ None) if core.is_proven() => {
                *acks = Some(Acks::default());
                core.send(&management_enabled());
            }
            // XEP-0198 §5: there is no former stream.
            (Management::Resume, _) if core.is_proven() => core.send(&management_failed(Condition::ItemNotFound)),
            (Management::Request, Some(_)) => self.ask(core),
            // We never ask, so that it says nothing. COMPAT(prosody): says it before it closes.
            (Management::Ack(_) | Management::Enabled | Management::Failed, _) => {}
            // XEP-0198 §3, §6: too early, or again.
            (Management::Enable | Management::Resume | Management::Request, _) => {
                core.send(&management_failed(Condition::UnexpectedRequest));
            }
        }
        State::Receiving(self)
    }

    /// Whether the peer keeps count of what we acknowledge.
    pub fn is_managed(&self) -> bool {
        self.acks.is_some()
    }

    /// The gate is to acknowledge what the stream has carried so far.
    pub fn ask(&mut self, core: &mut Core) {
        if let Some(handled) = self.acks.as_mut().and_then(Acks::ask) {
            core.outputs.push_back(LinkOutput::AckAsked { handled });
        }
    }

    /// What the gate sends: an acknowledgement, or where the peer wants it a stanza.
    pub fn on_send(&mut self, core: &mut Core, bytes: Bytes) {
        if is_ack(&bytes) {
            self.on_ack(core, bytes);
        } else if self.both_ways && core.is_proven() {
            core.write(bytes);
        }
    }

    /// The gate's acknowledgement: written if it was asked for. Whether that was the last one asked for.
    fn on_ack(&mut self, core: &mut Core, ack: Bytes) -> bool {
        let Some(acks) = self.acks.as_mut().filter(|acks| acks.is_asked()) else { return false };
        core.write(ack);
        match acks.answered() {
            Some(handled) => {
                core.outputs.push_back(LinkOutput::AckAsked { handled });
                false
            }
            None => true,
        }
    }

    /// The same when we only wait for it to end our half of the stream.
    pub fn on_last_ack(&mut self, core: &mut Core, ack: Bytes) {
        if core.is_open() && is_ack(&ack) && self.on_ack(core, ack) {
            core.send_end();
            core.await_end();
        }
    }

    /// Nothing was proven in time.
    pub fn on_timeout(self, core: &mut Core) -> State {
        if self.consulted && self.pending.is_empty() {
            return core.end(Some((StreamError::ConnectionTimeout, String::new())), "idle after dialback questions");
        }
        match self.hopeless {
            Some(reject) => core.refuse(reject, StreamError::NotAuthorized),
            None => too_late(core),
        }
    }

    /// The peer closed its half of the connection: as [`Receiving::on_end`], with nobody there to be told.
    pub fn on_eof(self, core: &mut Core) -> State {
        let domain = core.peer_domain.clone();
        if let Some(reject) = self.hopeless.filter(|_| !self.consulted && self.pairs.is_empty()) {
            core.note_refusal(domain, reject);
        }
        core.end(None, "the peer closed the connection")
    }

    /// The peer has ended its half. If it did because it found no way to prove itself, the operator is told why there was none.
    pub fn on_end(self, core: &mut Core) -> State {
        match self.hopeless.filter(|_| !self.consulted && self.pairs.is_empty()) {
            Some(reject) => core.refuse(reject, StreamError::NotAuthorized),
            None => core.end(None, "the peer ended the stream"),
        }
    }
}

/// Negotiation took longer than `[limits] negotiation`.
pub(super) fn too_late(core: &mut Core) -> State {
    core.refuse(Reject::new(Reason::Unproven, "stream negotiation took too long"), StreamError::ConnectionTimeout)
}

fn tls_required(side: Side) -> Reject {
    let detail = match side {
        Side::Inside => "the node does not use TLS, but [inside] tls = \"required\"",
        Side::Outside => "the peer does not use TLS, which its [[partner]] entry demands (tls = \"required\")",
    };
    Reject::new(Reason::NotAllowed, detail)
}

/// A domain as received; `Err` if it is none.
fn parse(text: &Option<String>) -> Result<Option<Domain>, ()> {
    text.as_deref().map(Domain::parse).transpose().map_err(|_| ())
}

/// A domain as XMPP writes it.
fn written(domain: &Option<Domain>) -> Option<String> {
    domain.as_ref().map(Domain::to_unicode)
}
