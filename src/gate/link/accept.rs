//! Streams that a peer opened: it proves that it may send for its domain, then sends stanzas. We never send stanzas on them, but say how many
//! we have taken responsibility for, when its server keeps count (stream management, XEP-0198).

use super::acks::Acks;
use super::core::Core;
use super::{Handshaking, LinkOutput, State, Verdict, VerifyRequest, dialback};
use crate::gate::Other;
use crate::gate::limits::PAIRS_PER_STREAM;
use crate::gate::partner::{Node, NodeProof, NodeProtocol, Protocol, Side, TlsMode};
use crate::gate::policy::Table;
use crate::gate::reject::{Reason, Reject};
use crate::wire::address::Domain;
use crate::wire::xmpp::negotiation::{management_enabled, management_failed, sasl_failure, sasl_success, tls};
use crate::wire::xmpp::stream::Version;
use crate::wire::xmpp::{
    Child, Condition, Dialback, ErrorType, Features, Management, NS_SERVER, Outcome, Question, Stanza, StanzaError,
    StreamError, StreamHeader,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// The one SASL mechanism between servers (XEP-0178).
const EXTERNAL: &str = "EXTERNAL";

/// The peer's header is expected.
#[derive(Debug)]
pub(super) struct Awaiting {
    pub peer: IpAddr,
    /// Whether the connection is encrypted.
    pub tls: bool,
    /// The pair that SASL has proven: the header must name it again.
    pub external: Option<(Domain, Domain)>,
}

/// Headers were exchanged: negotiation, then stanzas of the pairs proven so far.
#[derive(Debug)]
pub(super) struct Receiving {
    peer: IpAddr,
    tls: bool,
    /// The id we gave the stream.
    id: String,
    /// From whom to whom its header says it is.
    named: Option<(Domain, Domain)>,
    /// Proven pairs (from, to).
    pairs: BTreeSet<(Domain, Domain)>,
    /// Pairs whose key is being verified elsewhere.
    pending: Vec<Pending>,
    /// Whether we were asked about a key: then the stream may have been opened for nothing else.
    consulted: bool,
    /// Set once the peer has enabled stream management.
    acks: Option<Acks>,
}

#[derive(Debug)]
struct Pending {
    request: VerifyRequest,
    question: Dialback,
    node: String,
}

/// What a node's `verify` makes of a dialback question; with the node's name.
enum Ruling {
    /// Its address says enough.
    Believe(String),
    /// Its domain's own server is asked.
    Ask(String),
}

impl Awaiting {
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
        let named = match (&from, &to) {
            (Ok(Some(from)), Ok(Some(to))) => Some((from.clone(), to.clone())),
            _ => None,
        };
        match self.judge(core, &header, from, to) {
            Ok(_) if self.external.is_some() && self.external != named => {
                let reject = Reject::new(Reason::Malformed, "the header behind SASL names other domains");
                core.refuse(reject, StreamError::InvalidFrom)
            }
            Ok(version) => Receiving {
                peer: self.peer,
                tls: self.tls,
                id,
                named,
                pairs: BTreeSet::new(),
                pending: Vec::new(),
                consulted: false,
                acks: None,
            }
            .begin(core, version, self.external.is_some()),
            Err((reject, error)) => core.refuse(reject, error),
        }
    }

    fn judge(
        &self,
        core: &Core,
        header: &StreamHeader,
        from: Result<Option<Domain>, ()>,
        to: Result<Option<Domain>, ()>,
    ) -> Result<Version, (Reject, StreamError)> {
        let malformed = |what: &str, error| Err((Reject::new(Reason::Malformed, what), error));
        if core.side == Side::Outside {
            let reject = Reject::new(Reason::NotAllowed, "XMPP partners: not in this version");
            return Err((reject, StreamError::PolicyViolation));
        }
        if !header.scope.declares(NS_SERVER) {
            return malformed("not a server-to-server stream", StreamError::InvalidNamespace);
        }
        let Ok(version) = header.version() else {
            return malformed("the header's version is not a version", StreamError::UnsupportedVersion);
        };
        match from {
            Err(()) => return malformed("the header's from is not a domain", StreamError::InvalidFrom),
            Ok(Some(from)) => {
                node_of(&core.settings.nodes, &from, self.peer)
                    .map_err(|reject| (reject, StreamError::NotAuthorized))?;
            }
            // COMPAT(ejabberd): from may be missing; whom it speaks for is then said by dialback.
            Ok(None) => {}
        }
        match (to, version) {
            (Err(()), _) => return malformed("the header's to is not a domain", StreamError::HostUnknown),
            (Ok(Some(to)), _) => judge_target(&core.settings.policy, &to).map_err(|reject| {
                let error = reject.reason.stream_error();
                (reject, error)
            })?,
            // RFC 6120 §4.7.2.
            (Ok(None), Version::One) => return malformed("the header has no to", StreamError::ImproperAddressing),
            // COMPAT(googletalk): pre-1.0 headers name nobody.
            (Ok(None), Version::Legacy) => {}
        }
        if version == Version::Legacy && core.settings.inside_tls == TlsMode::Required && !self.tls {
            return Err((tls_required(), StreamError::PolicyViolation));
        }
        Ok(version)
    }
}

impl Receiving {
    fn begin(self, core: &mut Core, version: Version, authenticated: bool) -> State {
        match version {
            Version::One => {
                let mode = core.settings.inside_tls;
                let external = !authenticated && self.external(core).is_some();
                let features = Features {
                    starttls: (!self.tls && mode != TlsMode::Off).then_some(mode == TlsMode::Required),
                    mechanisms: external.then(|| EXTERNAL.to_owned()).into_iter().collect(),
                    dialback: self.may_speak(core).then_some(true),
                    // XEP-0198 §2: not before the peer is known. Dialback makes it known too, but no features come behind that.
                    management: authenticated,
                    ..Features::default()
                };
                core.send(&features.to_element());
                if authenticated {
                    return self.admit_named(core);
                }
            }
            // RFC 6120 §4.7.5: a pre-1.0 peer knows no features, and begins dialback unasked.
            Version::Legacy => {}
        }
        State::Receiving(self)
    }

    /// Whether anything but STARTTLS may be said.
    fn may_speak(&self, core: &Core) -> bool {
        self.tls || core.settings.inside_tls != TlsMode::Required
    }

    pub fn on_child(self, core: &mut Core, child: Child) -> State {
        if matches!(child, Child::StartTls) {
            return self.on_starttls(core);
        }
        if !self.may_speak(core) {
            // RFC 6120 §5.3.1.
            return core.refuse(tls_required(), StreamError::PolicyViolation);
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
            Child::Management(asked) if core.is_proven() => self.on_management(core, asked),
            Child::StartTls
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
        let idle = self.pairs.is_empty() && self.pending.is_empty();
        if self.tls || !idle || core.settings.inside_tls == TlsMode::Off {
            // RFC 6120 §5.4.2.2: failure ends the stream. COMPAT(prosody): asks for TLS even where it is not offered.
            core.send(&tls("failure"));
            let cause = match core.settings.inside_tls {
                TlsMode::Off => {
                    "the node asks for TLS, but [inside] tls = \"off\": allow it, or let the node do without (Prosody: \
                     s2s_require_encryption)"
                }
                TlsMode::Optional | TlsMode::Required => "STARTTLS at a time when it can't be done",
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
        let of = self.named.map(|(_, to)| to);
        core.outputs.push_back(LinkOutput::StartTls { of });
        State::Handshaking(Handshaking::Accepting(Awaiting { peer: self.peer, tls: true, external: None }))
    }

    /// The node that SASL EXTERNAL would prove on this stream; the mechanism is there for no other (RFC 6120 §6.3.3).
    ///
    /// What is external is agreed on by both ends (RFC 4422 appendix A): here the network, since trust in certificates of XMPP nodes can't be
    /// configured. It proves no more than dialback would, which believes the same address; but only behind SASL do servers such as Prosody look
    /// for stream management. Under TLS only: no server asks for it without.
    fn external(&self, core: &Core) -> Option<String> {
        let pair = self.named.as_ref().filter(|_| self.tls && self.pairs.is_empty())?;
        match self.judge_pair(core, pair, "") {
            Ok(Ruling::Believe(node)) => Some(node),
            Ok(Ruling::Ask(_)) | Err(_) => None,
        }
    }

    fn on_auth(self, core: &mut Core, mechanism: &str, response: &str) -> State {
        let named = self.named.clone().filter(|_| mechanism == EXTERNAL && self.external(core).is_some());
        let Some(pair) = named else {
            // RFC 6120 §6.5.7.
            core.send(&sasl_failure("invalid-mechanism"));
            return State::Receiving(self);
        };
        // RFC 6120 §6.5, XEP-0178 §3: `=` is whom the header names.
        let fault = match response {
            "" => Some("malformed-request"),
            "=" => None,
            coded => match BASE64.decode(coded).map(|bytes| parse(&String::from_utf8(bytes).ok())) {
                Ok(Ok(Some(domain))) if domain == pair.0 => None,
                Ok(_) => Some("invalid-authzid"),
                Err(_) => Some("incorrect-encoding"),
            },
        };
        if let Some(condition) = fault {
            core.send(&sasl_failure(condition));
            return State::Receiving(self);
        }
        // RFC 6120 §6.4.6: the new stream begins behind our success.
        if core.framer.restart() > 0 {
            let reject = Reject::new(Reason::Malformed, "bytes behind <auth/>, before its answer");
            return core.refuse(reject, StreamError::PolicyViolation);
        }
        core.send(&sasl_success());
        core.restart();
        State::Awaiting(Awaiting { peer: self.peer, tls: self.tls, external: Some(pair) })
    }

    /// What SASL has proven, judged as at the time of `<auth/>`, holds for the stream behind it.
    fn admit_named(mut self, core: &mut Core) -> State {
        match (self.external(core), self.named.clone()) {
            (Some(node), Some(pair)) => {
                self.admit(core, pair, node);
                State::Receiving(self)
            }
            _ => {
                let reject = Reject::new(Reason::Unproven, "SASL proved another pair of domains");
                core.refuse(reject, StreamError::NotAuthorized)
            }
        }
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
            // Nothing of ours is on this stream, so that it says nothing. COMPAT(prosody): says it before it closes.
            (Management::Ack, _) => {}
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

    /// The gate's acknowledgement: written if it was asked for. Whether that was the last one asked for.
    pub fn on_ack(&mut self, core: &mut Core, ack: Bytes) -> bool {
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
        if core.is_open() && self.on_ack(core, ack) {
            core.send_end();
            core.await_end();
        }
    }

    /// XEP-0220 §2.2: a peer wants to send for a domain.
    fn on_result(mut self, core: &mut Core, question: Dialback, key: String) -> State {
        let (Ok(Some(from)), Ok(Some(to))) = (parse(&question.from), parse(&question.to)) else {
            let reject = Reject::new(Reason::Malformed, "a dialback result without from or to");
            return core.refuse(reject, StreamError::ImproperAddressing);
        };
        let pair = (from, to);
        if self.pairs.contains(&pair) {
            core.send(&question.answer(Outcome::Valid).to_element());
            return State::Receiving(self);
        }
        match self.judge_pair(core, &pair, &key) {
            Ok(Ruling::Believe(node)) => self.prove(core, &question, pair, node),
            Ok(Ruling::Ask(node)) => {
                let (originating, receiving) = pair;
                let request = VerifyRequest { originating, receiving, stream_id: self.id.clone(), key };
                let asked = |p: &Pending| {
                    p.request.originating == request.originating && p.request.receiving == request.receiving
                };
                // One question for each pair at a time; its answer answers for the pair.
                if !self.pending.iter().any(asked) {
                    core.outputs.push_back(LinkOutput::Verify(request.clone()));
                    self.pending.push(Pending { request, question, node });
                }
            }
            Err((reject, condition)) => decline(core, &question, reject, condition),
        }
        State::Receiving(self)
    }

    /// Whether a pair may be proven on this stream, and for which node.
    fn judge_pair(&self, core: &Core, (from, to): &(Domain, Domain), key: &str) -> Result<Ruling, (Reject, Condition)> {
        // XEP-0220 §2.4: an unknown target is an error of this question, not of the stream.
        judge_target(&core.settings.policy, to).map_err(|reject| (reject, Condition::ItemNotFound))?;
        let node =
            node_of(&core.settings.nodes, from, self.peer).map_err(|reject| (reject, Condition::NotAuthorized))?;
        if self.pairs.len() + self.pending.len() >= PAIRS_PER_STREAM {
            let reject = Reject::new(Reason::Overloaded, format!("more than {PAIRS_PER_STREAM} pairs on one stream"));
            return Err((reject, Condition::ResourceConstraint));
        }
        match node.verify {
            NodeProof::Network => Ok(Ruling::Believe(node.name.clone())),
            NodeProof::Dialback if key.is_empty() => {
                let reject = Reject::new(Reason::Unproven, "an empty dialback key");
                Err((reject, Condition::NotAcceptable))
            }
            NodeProof::Dialback => Ok(Ruling::Ask(node.name.clone())),
            NodeProof::Certificate => {
                let detail = format!(
                    "node {} is to be known by its certificate, which XMPP nodes can't be in this version: \
                     set verify = \"dialback\" or \"network\"",
                    node.name
                );
                Err((Reject::new(Reason::Unproven, detail), Condition::NotAuthorized))
            }
        }
    }

    fn prove(&mut self, core: &mut Core, question: &Dialback, pair: (Domain, Domain), node: String) {
        core.send(&question.answer(Outcome::Valid).to_element());
        self.admit(core, pair, node);
    }

    fn admit(&mut self, core: &mut Core, pair: (Domain, Domain), node: String) {
        core.prove(&pair.0, &pair.1, false, Other::Node(node));
        self.pairs.insert(pair);
    }

    /// XEP-0220 §2.3: a peer asks whether we gave out a key. Everybody may ask; only we could have made a right key.
    fn on_verify(mut self, core: &mut Core, question: Dialback, key: &str) -> State {
        let (Ok(Some(receiving)), Ok(Some(originating))) = (parse(&question.from), parse(&question.to)) else {
            let reject = Reject::new(Reason::Malformed, "a dialback verify without from or to");
            return core.refuse(reject, StreamError::ImproperAddressing);
        };
        self.consulted = true;
        let id = question.id.as_deref().unwrap_or_default();
        let outcome = match dialback::is_ours(&core.settings.secrets, &receiving, &originating, id, key) {
            true => Outcome::Valid,
            false => Outcome::Invalid,
        };
        core.send(&question.answer(outcome).to_element());
        State::Receiving(self)
    }

    pub fn on_verified(mut self, core: &mut Core, request: &VerifyRequest, verdict: Verdict) -> State {
        let Some(at) = self.pending.iter().position(|pending| pending.request == *request) else {
            return State::Receiving(self);
        };
        let Pending { question, node, .. } = self.pending.remove(at);
        match verdict {
            Verdict::Valid => {
                let pair = (request.originating.clone(), request.receiving.clone());
                self.prove(core, &question, pair, node);
                State::Receiving(self)
            }
            Verdict::Invalid => {
                core.send(&question.answer(Outcome::Invalid).to_element());
                let detail = format!("{}'s own server did not vouch for the dialback key", request.originating);
                let reject = Reject::new(Reason::Unproven, detail);
                // XEP-0220 §2.2: a false key ends the stream; but not for pairs that were proven on it.
                if self.pairs.is_empty() {
                    return core.refuse(reject, StreamError::NotAuthorized);
                }
                core.note_refusal(question.from, reject);
                State::Receiving(self)
            }
            Verdict::Error => {
                let detail = format!("{}'s own server could not be asked about the dialback key", request.originating);
                decline(core, &question, Reject::new(Reason::Unproven, detail), Condition::RemoteServerTimeout);
                State::Receiving(self)
            }
        }
    }

    /// Nothing was proven in time.
    pub fn on_timeout(self, core: &mut Core) -> State {
        if self.consulted && self.pending.is_empty() {
            return core.end(Some((StreamError::ConnectionTimeout, String::new())), "idle after dialback questions");
        }
        too_late(core)
    }

    pub fn on_stanza(mut self, core: &mut Core, stanza: Stanza) -> State {
        match self.judge_stanza(core, &stanza) {
            Ok(()) => {
                if let Some(acks) = &mut self.acks {
                    acks.count();
                }
                core.outputs.push_back(LinkOutput::Stanza(stanza));
                State::Receiving(self)
            }
            Err((reject, error)) => core.refuse(reject, error),
        }
    }

    fn judge_stanza(&self, core: &Core, stanza: &Stanza) -> Result<(), (Reject, StreamError)> {
        if self.pairs.is_empty() {
            // RFC 6120 §4.9.3.12.
            let reject = Reject::new(Reason::Unproven, "a stanza before proof");
            return Err((reject, StreamError::NotAuthorized));
        }
        let improper = |what| Err((Reject::new(Reason::Malformed, what), StreamError::ImproperAddressing));
        // RFC 6120 §8.1.1.2, §8.1.2.2.
        let from = match &stanza.from {
            Ok(Some(from)) => from.bare.domain(),
            Ok(None) => return improper("a stanza without from"),
            Err(_) => {
                let reject = Reject::new(Reason::Malformed, "a stanza whose from is not an address");
                return Err((reject, StreamError::InvalidFrom));
            }
        };
        // A subdomain is another domain.
        if !self.pairs.iter().any(|(proven, _)| proven == from) {
            let reject = Reject::new(Reason::Unproven, format!("{from} is not proven on this stream"));
            return Err((reject, StreamError::InvalidFrom));
        }
        match &stanza.to {
            Ok(Some(to)) if self.pairs.contains(&(from.clone(), to.bare.domain().clone())) => Ok(()),
            Ok(Some(to)) => {
                let to = to.bare.domain();
                judge_target(&core.settings.policy, to).map_err(|reject| (reject, StreamError::HostUnknown))?;
                let detail = format!("{from} is proven on this stream, but not towards {to}");
                Err((Reject::new(Reason::Unproven, detail), StreamError::InvalidFrom))
            }
            Ok(None) => improper("a stanza without to"),
            // A user's slip, not the server's: the sender gets jid-malformed, on a stream of ours (RFC 6120 §8.3.3.8).
            Err(_) => Ok(()),
        }
    }
}

/// A dialback question is answered with an error; the stream goes on.
fn decline(core: &mut Core, question: &Dialback, reject: Reject, condition: Condition) {
    let type_ = match condition {
        Condition::ResourceConstraint | Condition::RemoteServerTimeout => ErrorType::Wait,
        _ => ErrorType::Cancel,
    };
    let text = core.note_refusal(question.from.clone(), reject);
    let error = StanzaError { text: Some(text), ..StanzaError::new(condition, type_) };
    core.send(&question.answer(Outcome::Error(error)).to_element());
}

/// Whether stanzas for `to` may come to us: it is somewhere we federate with.
fn judge_target(policy: &Table, to: &Domain) -> Result<(), Reject> {
    if policy.is_local(to) {
        return Err(Reject::new(Reason::RelayDenied, format!("{to} is ours: its node is to be reached directly")));
    }
    let listed = |protocol| policy.partner_for(to, protocol).is_some();
    if listed(Protocol::Sip) || listed(Protocol::Xmpp) || policy.stranger.is_some() {
        return Ok(());
    }
    Err(Reject::new(Reason::UnlistedDomain, format!("no partner entry for {to}")))
}

/// The XMPP node that serves a domain from this address.
fn node_of<'n>(nodes: &'n [Node], domain: &Domain, peer: IpAddr) -> Result<&'n Node, Reject> {
    let peer = peer.to_canonical();
    let mut serving =
        nodes.iter().filter(|n| n.protocol == NodeProtocol::Xmpp && n.domains.contains(domain)).peekable();
    if serving.peek().is_none() {
        return Err(Reject::new(Reason::Unproven, format!("no XMPP [[node]] serves {domain}")));
    }
    serving.find(|node| node.sources.iter().any(|source| source.contains(&peer))).ok_or_else(|| {
        let detail = format!("{peer} is not among the sources of a [[node]] that serves {domain}");
        Reject::new(Reason::Unproven, detail)
    })
}

/// Negotiation took longer than `[limits] negotiation`.
pub(super) fn too_late(core: &mut Core) -> State {
    core.refuse(Reject::new(Reason::Unproven, "stream negotiation took too long"), StreamError::ConnectionTimeout)
}

fn tls_required() -> Reject {
    Reject::new(Reason::NotAllowed, "the node does not use TLS, but [inside] tls = \"required\"")
}

/// A domain as received; `Err` if it is none.
fn parse(text: &Option<String>) -> Result<Option<Domain>, ()> {
    text.as_deref().map(Domain::parse).transpose().map_err(|_| ())
}

/// A domain as XMPP writes it.
fn written(domain: &Option<Domain>) -> Option<String> {
    domain.as_ref().map(Domain::to_unicode)
}
