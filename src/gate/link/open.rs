//! Streams that we opened: to send for one pair of domains, or only to have a dialback key verified. Nothing is received on them.

use super::core::Core;
use super::{Aim, Handshaking, LinkOutput, State, Verdict, VerifyRequest, dialback};
use crate::gate::Other;
use crate::gate::partner::TlsMode;
use crate::gate::reject::{Reason, Reject};
use crate::wire::address::Domain;
use crate::wire::xmpp::negotiation::{auth_external, tls};
use crate::wire::xmpp::stream::Version;
use crate::wire::xmpp::{
    Child, Condition, Dialback, Features, NS_SERVER, Outcome, Question, StanzaError, StreamError, StreamHeader,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

/// Why a stream is opened.
#[derive(Debug, Clone)]
pub(super) enum Purpose {
    /// To send stanzas.
    Send {
        /// Whom we speak for.
        from: Domain,
        /// To whom.
        to: Domain,
        /// Whom it is to reach.
        aim: Aim,
    },
    /// To have a key verified.
    Verify(VerifyRequest),
}

/// Our header is sent, theirs is expected.
#[derive(Debug)]
pub(super) struct Opening {
    pub purpose: Purpose,
    pub tls: bool,
    /// Whether SASL has succeeded, so that stanzas may flow once the stream is open.
    pub authenticated: bool,
}

/// Their features are expected.
#[derive(Debug)]
pub(super) struct Choosing {
    purpose: Purpose,
    tls: bool,
    authenticated: bool,
    header: StreamHeader,
}

/// `<starttls/>` is sent.
#[derive(Debug)]
pub(super) struct StartingTls {
    purpose: Purpose,
}

/// `<auth/>` is sent.
#[derive(Debug)]
pub(super) struct Authenticating {
    purpose: Purpose,
    header: StreamHeader,
    /// Whether dialback can take over.
    dialback: bool,
}

/// `<db:result/>` or `<db:verify/>` is sent.
#[derive(Debug)]
pub(super) struct Asking {
    purpose: Purpose,
}

/// Proven: stanzas flow, from us.
#[derive(Debug)]
pub(super) struct Sending {
    who: String,
}

impl Purpose {
    /// The domain we speak for, and the one we speak to.
    fn domains(&self) -> (&Domain, &Domain) {
        match self {
            Purpose::Send { from, to, .. } => (from, to),
            Purpose::Verify(request) => (&request.receiving, &request.originating),
        }
    }

    /// The other end, for people.
    fn who(&self) -> String {
        match self {
            Purpose::Send { aim: Aim::Node(node), .. } => format!("node {node}"),
            Purpose::Send { to, .. } => format!("{to}'s server"),
            Purpose::Verify(request) => format!("{}'s server", request.originating),
        }
    }

    fn dialback(&self, question: Question, id: Option<String>, key: String) -> Dialback {
        let (from, to) = self.domains();
        Dialback { question, from: Some(from.to_unicode()), to: Some(to.to_unicode()), id, outcome: Outcome::Key(key) }
    }
}

impl Opening {
    /// Sends our header.
    pub fn begin(self, core: &mut Core) -> State {
        let (from, to) = self.purpose.domains();
        core.send_header(&StreamHeader {
            from: Some(from.to_unicode()),
            to: Some(to.to_unicode()),
            version: Some("1.0".to_owned()),
            ..StreamHeader::server()
        });
        State::Opening(self)
    }

    pub fn on_header(self, core: &mut Core, header: StreamHeader) -> State {
        let who = self.purpose.who();
        if !header.scope.declares(NS_SERVER) {
            return fail(
                core,
                StreamError::InvalidNamespace,
                format!("{who} does not speak server-to-server XMPP there"),
            );
        }
        if header.id.as_deref().is_none_or(str::is_empty) {
            // RFC 6120 §4.7.3; there is no dialback key without one.
            return fail(core, StreamError::UndefinedCondition, format!("{who} gave the stream no id"));
        }
        let Opening { purpose, tls, authenticated } = self;
        match header.version() {
            Ok(Version::One) => State::Choosing(Choosing { purpose, tls, authenticated, header }),
            // RFC 6120 §4.7.5: no features, so no TLS.
            Ok(Version::Legacy) if !tls && core.settings.inside_tls == TlsMode::Required => {
                let cause = format!("{who} speaks XMPP from before 1.0, without TLS, but [inside] tls = \"required\"");
                fail(core, StreamError::UnsupportedVersion, cause)
            }
            Ok(Version::Legacy) => ask(core, purpose, &header),
            Err(error) => fail(core, error, format!("{who} answered with a version that is none")),
        }
    }
}

impl Choosing {
    pub fn on_child(self, core: &mut Core, child: Child) -> State {
        match child {
            Child::Features(features) => self.on_features(core, &features),
            child => unexpected(core, &self.purpose, &child, "its features"),
        }
    }

    fn on_features(self, core: &mut Core, features: &Features) -> State {
        let who = self.purpose.who();
        let Choosing { purpose, tls: encrypted, authenticated, header } = self;
        if !encrypted {
            match (features.starttls, core.settings.inside_tls) {
                (Some(_), TlsMode::Optional | TlsMode::Required) => {
                    core.send(&tls("starttls"));
                    return State::StartingTls(StartingTls { purpose });
                }
                (Some(true), TlsMode::Off) => {
                    let cause = format!("{who} demands TLS, but [inside] tls = \"off\": set \"optional\"");
                    return fail(core, StreamError::UnsupportedFeature, cause);
                }
                (None, TlsMode::Required) => {
                    let cause = format!(
                        "{who} offers no TLS, but [inside] tls = \"required\": give it a certificate for its \
                         server-to-server port, or set \"optional\""
                    );
                    return fail(core, StreamError::PolicyViolation, cause);
                }
                (Some(false), TlsMode::Off) | (None, TlsMode::Optional | TlsMode::Off) => {}
            }
        }
        if let (Purpose::Send { .. }, true) = (&purpose, authenticated) {
            return prove(core, purpose);
        }
        // XEP-0220 §2.4.2: the feature says it, or the namespace in the header did before there was one.
        let dialback = features.dialback.is_some() || header.dialback;
        match &purpose {
            // XEP-0178 §3: our domain as authorisation identity, which older servers rely on.
            Purpose::Send { from, .. } if encrypted && features.external() => {
                core.send(&auth_external(&BASE64.encode(from.to_unicode())));
                State::Authenticating(Authenticating { purpose, header, dialback })
            }
            _ if dialback => ask(core, purpose, &header),
            _ => {
                let cause = format!(
                    "{who} offers neither dialback nor (for the certificate we show) SASL EXTERNAL: enable dialback there"
                );
                fail(core, StreamError::UnsupportedFeature, cause)
            }
        }
    }
}

impl StartingTls {
    pub fn on_child(self, core: &mut Core, child: Child) -> State {
        let who = self.purpose.who();
        match child {
            // RFC 6120 §5.4.3.3: nothing said before TLS may be read as if said in it.
            Child::Proceed if core.framer.restart() > 0 => {
                fail(core, StreamError::PolicyViolation, format!("{who} sent bytes behind <proceed/>, before TLS"))
            }
            Child::Proceed => {
                core.restart();
                core.outputs.push_back(LinkOutput::StartTls { of: None });
                let Self { purpose } = self;
                State::Handshaking(Handshaking::Opening(Opening { purpose, tls: true, authenticated: false }))
            }
            Child::TlsFailure => core.end(None, format!("{who} offered TLS, then failed to begin it")),
            child => unexpected(core, &self.purpose, &child, "<proceed/>"),
        }
    }
}

impl Authenticating {
    pub fn on_child(self, core: &mut Core, child: Child) -> State {
        let Self { purpose, header, dialback } = self;
        match child {
            Child::Success => {
                core.restart();
                Opening { purpose, tls: true, authenticated: true }.begin(core)
            }
            // COMPAT(ejabberd): offers EXTERNAL whatever our certificate, and judges it only then. Dialback follows on the same stream.
            Child::SaslFailure(..) if dialback => ask(core, purpose, &header),
            Child::SaslFailure(condition, text) => {
                let text = text.map(|text| format!(" ({})", clean(&text))).unwrap_or_default();
                let cause = format!(
                    "{} refused our certificate with SASL {}{text} and offers no dialback",
                    purpose.who(),
                    clean(&condition)
                );
                core.end(None, cause)
            }
            child => unexpected(core, &purpose, &child, "the outcome of SASL"),
        }
    }
}

impl Asking {
    pub fn on_child(self, core: &mut Core, child: Child) -> State {
        let answer = match child {
            Child::Dialback(answer) => answer,
            child => return unexpected(core, &self.purpose, &child, "a dialback answer"),
        };
        if !self.is_answered_by(&answer) {
            return State::Asking(self);
        }
        let who = self.purpose.who();
        match (&self.purpose, answer.outcome) {
            (_, Outcome::Key(_)) => State::Asking(self),
            (Purpose::Send { .. }, Outcome::Valid) => prove(core, self.purpose),
            (Purpose::Send { .. }, Outcome::Invalid) => {
                let cause = format!(
                    "{who} found our dialback key invalid: is the server it asked another edge, with other \
                     [state] secrets, or not fedgate at all?"
                );
                core.end(None, cause)
            }
            (Purpose::Send { .. }, Outcome::Error(error)) => core.end(None, explain_dialback(&who, &error)),
            (Purpose::Verify(request), outcome) => {
                let verdict = match outcome {
                    Outcome::Valid => Verdict::Valid,
                    Outcome::Invalid => Verdict::Invalid,
                    Outcome::Error(_) | Outcome::Key(_) => Verdict::Error,
                };
                core.asked = None;
                core.outputs.push_back(LinkOutput::VerifyDone(request.clone(), verdict));
                core.end(None, format!("{who} has answered"))
            }
        }
    }

    /// XEP-0220 §2.1.2, §2.3: only this question, from whom it was put to, on this very stream.
    fn is_answered_by(&self, answer: &Dialback) -> bool {
        let (from, to) = self.purpose.domains();
        let is = |text: &Option<String>, domain: &Domain| {
            text.as_deref().is_some_and(|text| Domain::parse(text).as_ref() == Ok(domain))
        };
        let question = match &self.purpose {
            Purpose::Send { .. } => answer.question == Question::Result,
            Purpose::Verify(request) => {
                answer.question == Question::Verify && answer.id.as_deref() == Some(request.stream_id.as_str())
            }
        };
        question && is(&answer.from, to) && is(&answer.to, from)
    }
}

impl Sending {
    pub fn on_child(self, core: &mut Core, child: Child) -> State {
        match child {
            // One direction, one stream: without XEP-0288 nothing but ours flows here (RFC 6120 §4.2).
            Child::Stanza(_) => {
                let cause = format!("{} sent a stanza on a stream that is ours to send on", self.who);
                fail(core, StreamError::NotAuthorized, cause)
            }
            _ => State::Sending(self),
        }
    }
}

/// Asks to be believed, or has a key verified.
fn ask(core: &mut Core, purpose: Purpose, header: &StreamHeader) -> State {
    let question = match &purpose {
        Purpose::Send { from, to, .. } => {
            // Of the stream as it is now: after TLS it has a new id.
            let id = header.id.as_deref().unwrap_or_default();
            let Some(key) = dialback::issue(&core.settings.secrets, to, from, id) else {
                return core.end(None, "[state] secrets is empty: no dialback keys can be made");
            };
            purpose.dialback(Question::Result, None, key)
        }
        Purpose::Verify(request) => {
            purpose.dialback(Question::Verify, Some(request.stream_id.clone()), request.key.clone())
        }
    };
    core.send(&question.to_element());
    State::Asking(Asking { purpose })
}

fn prove(core: &mut Core, purpose: Purpose) -> State {
    let who = purpose.who();
    match purpose {
        Purpose::Send { from, to, aim: Aim::Node(node) } => {
            core.prove(&from, &to, true, Other::Node(node));
            State::Sending(Sending { who })
        }
        Purpose::Send { aim: Aim::Partner { .. }, .. } => core.end(None, "XMPP partners: not in this version"),
        // Nothing is proven for ourselves on a stream that only asks.
        Purpose::Verify(_) => core.end(None, format!("{who} answered what was not asked")),
    }
}

fn fail(core: &mut Core, error: StreamError, cause: String) -> State {
    core.end(Some((error, String::new())), cause)
}

fn unexpected(core: &mut Core, purpose: &Purpose, child: &Child, expected: &str) -> State {
    let who = purpose.who();
    match child {
        // Answers to nothing, and questions that belong on a stream of the peer's: neither means anything here.
        Child::Dialback(_) => core.end(None, format!("{who} sent dialback before {expected}")),
        Child::Stanza(_) => {
            fail(core, StreamError::NotAuthorized, format!("{who} sent a stanza instead of {expected}"))
        }
        _ => {
            let reject = Reject::new(Reason::Unsupported, format!("{who} sent something else instead of {expected}"));
            core.refuse(reject, StreamError::UnsupportedStanzaType)
        }
    }
}

/// A stream error of the peer, and what can be done about it.
pub(super) fn explain_stream_error(error: StreamError, text: Option<&str>) -> String {
    let text = text.map(|text| format!(" ({})", clean(text))).unwrap_or_default();
    let mend = match error {
        StreamError::HostUnknown | StreamError::HostGone => {
            "; it does not serve the domain: check `domains` of the [[node]]"
        }
        StreamError::NotAuthorized => {
            "; it may demand a valid certificate (Prosody: s2s_secure_auth): configure [inside] issuer, or exempt the domain there"
        }
        StreamError::PolicyViolation => "; it may demand TLS: check [inside] tls",
        StreamError::StanzaTooBig => "; a stanza was larger than it takes",
        _ => "",
    };
    format!("the peer ended the stream with {error}{text}{mend}")
}

fn explain_dialback(who: &str, error: &StanzaError) -> String {
    let text = error.text.as_deref().map(|text| format!(" ({})", clean(text))).unwrap_or_default();
    let mend = match error.condition {
        Condition::ItemNotFound | Condition::NotAllowed => {
            "it does not serve the domain: check `domains` of the [[node]]"
        }
        Condition::RemoteServerNotFound | Condition::RemoteServerTimeout => {
            "it could not reach fedgate to verify the key: lead the partner's domain to [inside] xmpp, by DNS or by its own routes"
        }
        Condition::PolicyViolation => "it demands TLS: set [inside] tls = \"optional\" or \"required\"",
        Condition::NotAuthorized => {
            "it demands a valid certificate: configure [inside] issuer, or exempt the domain there (Prosody: s2s_insecure_domains)"
        }
        Condition::Forbidden | Condition::NotAcceptable => "it refuses the domain: see its own access rules",
        _ => "see its log",
    };
    format!("{who} answered dialback with {}{text}: {mend}", error.condition.as_str())
}

/// A peer's words, fit for one line of a log.
pub(super) fn clean(text: &str) -> String {
    text.chars().take(200).map(|c| if c.is_control() { ' ' } else { c }).collect()
}
