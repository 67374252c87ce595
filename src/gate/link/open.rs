//! Streams that we opened: to send for one pair of domains, or only to have a dialback key verified. Until they carry stanzas; then [`super::sending`].

use super::core::{Core, Pair};
use super::explain::clean;
use super::judge::{Known, Shown};
use super::sending::Sending;
use super::{Aim, Handshaking, LinkOutput, State, Verdict, VerifyRequest, dialback, explain, partner};
use crate::gate::Other;
use crate::gate::partner::{Side, TlsMode};
use crate::gate::peer::Opened;
use crate::gate::reject::{Reason, Reject};
use crate::wire::address::Domain;
use crate::wire::xmpp::negotiation::{auth_external, bidi, management_enable, tls};
use crate::wire::xmpp::stream::Version;
use crate::wire::xmpp::{
    Child, Dialback, Features, Management, NS_SERVER, Outcome, Question, StreamError, StreamHeader,
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

/// A stream of ours that is being negotiated.
#[derive(Debug)]
pub(super) struct Attempt {
    pub purpose: Purpose,
    /// What the connection has shown.
    pub shown: Shown,
    /// Who is at the other end, once that is judged; nobody is known to a stream that only asks.
    known: Option<Known>,
    /// Whether stanzas are to flow both ways (XEP-0288).
    both_ways: bool,
}

/// Our header is sent, theirs is expected.
#[derive(Debug)]
pub(super) struct Opening {
    pub attempt: Attempt,
    /// Whether SASL has succeeded, so that stanzas may flow once the stream is open.
    pub authenticated: bool,
}

/// Their features are expected.
#[derive(Debug)]
pub(super) struct Choosing {
    attempt: Attempt,
    authenticated: bool,
    header: StreamHeader,
}

/// `<starttls/>` is sent.
#[derive(Debug)]
pub(super) struct StartingTls {
    attempt: Attempt,
}

/// `<auth/>` is sent.
#[derive(Debug)]
pub(super) struct Authenticating {
    attempt: Attempt,
    header: StreamHeader,
    /// Whether dialback can take over.
    dialback: bool,
}

/// `<db:result/>` or `<db:verify/>` is sent.
#[derive(Debug)]
pub(super) struct Asking {
    attempt: Attempt,
}

/// `<enable/>` is sent (XEP-0198 §3).
#[derive(Debug)]
pub(super) struct Enabling {
    attempt: Attempt,
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

impl Attempt {
    pub fn new(purpose: Purpose) -> Self {
        Self { purpose, shown: Shown::default(), known: None, both_ways: false }
    }

    /// Whether TLS is demanded, and where it says so. Fails for a domain that is no partner's.
    fn tls(&self, core: &Core) -> Result<(TlsMode, String), Reject> {
        match core.side {
            Side::Inside => {
                let mode = core.settings.inside_tls;
                Ok((mode, format!("[inside] tls = \"{}\"", mode.as_str())))
            }
            Side::Outside => {
                let terms = partner::terms(&core.settings.policy, self.purpose.domains().1)?;
                let mode = terms.tls();
                Ok((mode, format!("{} has tls = \"{}\"", terms.origin(), mode.as_str())))
            }
        }
    }

    /// Judges who is at the other end by what the connection has shown so far: more than that it does not get to show.
    fn recognise(&mut self, core: &Core) -> Result<(), Reject> {
        self.known = match (&self.purpose, core.side) {
            (Purpose::Send { aim: Aim::Node(node), .. }, _) => {
                Some(Known { other: Other::Node(node.clone()), expires: None })
            }
            (Purpose::Verify(_), Side::Inside) => None,
            (purpose, _) => {
                let domain = purpose.domains().1.clone();
                let (host, typed) = match purpose {
                    Purpose::Send { aim: Aim::Partner { host, typed }, .. } => (host.clone(), *typed),
                    _ => (None, false),
                };
                let opened = Opened::ByUs { domain: domain.clone(), host, typed };
                Some(partner::recognise(&core.settings, &domain, &self.shown, &opened, core.now)?)
            }
        };
        Ok(())
    }
}

impl Opening {
    /// Sends our header.
    pub fn begin(self, core: &mut Core) -> State {
        let (from, to) = self.attempt.purpose.domains();
        core.send_header(&StreamHeader {
            from: Some(from.to_unicode()),
            to: Some(to.to_unicode()),
            version: Some("1.0".to_owned()),
            ..StreamHeader::server()
        });
        State::Opening(self)
    }

    pub fn on_header(self, core: &mut Core, header: StreamHeader) -> State {
        let Opening { mut attempt, authenticated } = self;
        let who = attempt.purpose.who();
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
        match header.version() {
            Ok(Version::One) => State::Choosing(Choosing { attempt, authenticated, header }),
            // RFC 6120 §4.7.5: no features, so no TLS.
            Ok(Version::Legacy) => match attempt.tls(core) {
                Ok((TlsMode::Required, demand)) if !attempt.shown.tls => {
                    let cause = format!("{who} speaks XMPP from before 1.0, without TLS, but {demand}");
                    core.unproven = core.side == Side::Outside;
                    fail(core, StreamError::UnsupportedVersion, cause)
                }
                Ok(_) => match attempt.recognise(core) {
                    Ok(()) => ask(core, attempt, &header),
                    Err(reject) => stranger(core, &attempt, &reject),
                },
                Err(reject) => core.end(None, reject.detail),
            },
            Err(error) => fail(core, error, format!("{who} answered with a version that is none")),
        }
    }
}

impl Choosing {
    pub fn on_child(self, core: &mut Core, child: Child) -> State {
        match child {
            Child::Features(features) => self.on_features(core, &features),
            child => unexpected(core, &self.attempt.purpose, &child, "its features"),
        }
    }

    fn on_features(self, core: &mut Core, features: &Features) -> State {
        let Choosing { mut attempt, authenticated, header } = self;
        if !attempt.shown.tls {
            match choose_tls(core, &attempt, features) {
                Ok(true) => {
                    core.send(&tls("starttls"));
                    return State::StartingTls(StartingTls { attempt });
                }
                Ok(false) => {}
                Err(state) => return *state,
            }
        }
        if authenticated && matches!(attempt.purpose, Purpose::Send { .. }) {
            return enable(core, attempt, features.management);
        }
        if let Err(reject) = attempt.recognise(core) {
            return stranger(core, &attempt, &reject);
        }
        let is_send = matches!(attempt.purpose, Purpose::Send { .. });
        // XEP-0288 §2.2: under TLS, and before anything else proves us.
        if features.bidi && attempt.shown.tls && is_send && core.side == Side::Outside {
            core.send(&bidi());
            attempt.both_ways = true;
        }
        // XEP-0220 §2.4.2: the feature says it, or the namespace in the header did before there was one.
        let dialback = features.dialback.is_some() || header.dialback;
        match &attempt.purpose {
            // XEP-0178 §3: our domain as authorisation identity, which older servers rely on.
            Purpose::Send { from, .. } if attempt.shown.tls && features.external() => {
                core.send(&auth_external(&BASE64.encode(from.to_unicode())));
                State::Authenticating(Authenticating { attempt, header, dialback })
            }
            _ if dialback => ask(core, attempt, &header),
            purpose => {
                let cause = format!(
                    "{} offers neither dialback nor (for the certificate we show) SASL EXTERNAL: enable dialback there",
                    purpose.who()
                );
                fail(core, StreamError::UnsupportedFeature, cause)
            }
        }
    }
}

/// Whether TLS begins now. Fails if it must and can't, or must not and has to.
fn choose_tls(core: &mut Core, attempt: &Attempt, features: &Features) -> Result<bool, Box<State>> {
    let who = attempt.purpose.who();
    let (mode, demand) = match attempt.tls(core) {
        Ok(mode) => mode,
        Err(reject) => return Err(Box::new(core.end(None, reject.detail))),
    };
    match (features.starttls, mode) {
        (Some(_), TlsMode::Optional | TlsMode::Required) => Ok(true),
        (Some(false), TlsMode::Off) | (None, TlsMode::Optional | TlsMode::Off) => Ok(false),
        (Some(true), TlsMode::Off) => {
            let cause = format!("{who} demands TLS, but {demand}: set \"optional\"");
            Err(Box::new(fail(core, StreamError::UnsupportedFeature, cause)))
        }
        (None, TlsMode::Required) => {
            let cause = format!(
                "{who} offers no TLS, but {demand}: give it a certificate for its \
                 server-to-server port, or set \"optional\""
            );
            // Whoever offers none may be whoever took the offer out.
            core.unproven = core.side == Side::Outside;
            Err(Box::new(fail(core, StreamError::PolicyViolation, cause)))
        }
    }
}

impl StartingTls {
    pub fn on_child(self, core: &mut Core, child: Child) -> State {
        let who = self.attempt.purpose.who();
        match child {
            // RFC 6120 §5.4.3.3: nothing said before TLS may be read as if said in it.
            Child::Proceed if core.framer.restart() > 0 => {
                fail(core, StreamError::PolicyViolation, format!("{who} sent bytes behind <proceed/>, before TLS"))
            }
            Child::Proceed => {
                core.restart();
                core.outputs.push_back(LinkOutput::StartTls { of: None });
                let Self { attempt } = self;
                State::Handshaking(Handshaking::Opening(Opening { attempt, authenticated: false }))
            }
            Child::TlsFailure => core.end(None, format!("{who} offered TLS, then failed to begin it")),
            child => unexpected(core, &self.attempt.purpose, &child, "<proceed/>"),
        }
    }
}

impl Authenticating {
    pub fn on_child(self, core: &mut Core, child: Child) -> State {
        let Self { attempt, header, dialback } = self;
        match child {
            Child::Success => {
                core.restart();
                Opening { attempt, authenticated: true }.begin(core)
            }
            // COMPAT(ejabberd): offers EXTERNAL whatever our certificate, and judges it only then. Dialback follows on the same stream.
            // What we demand of the peer it has met before. COMPAT(prosody), RFC 6120 §6.4.4: others end the stream, and that is that.
            Child::SaslFailure(..) if dialback => ask(core, attempt, &header),
            Child::SaslFailure(condition, text) => {
                let text = text.map(|text| format!(" ({})", clean(&text))).unwrap_or_default();
                let cause = format!(
                    "{} refused our certificate with SASL {}{text} and offers no dialback",
                    attempt.purpose.who(),
                    clean(&condition)
                );
                core.end(None, cause)
            }
            child => unexpected(core, &attempt.purpose, &child, "the outcome of SASL"),
        }
    }
}

impl Asking {
    pub fn on_child(self, core: &mut Core, child: Child) -> State {
        let answer = match child {
            Child::Dialback(answer) => answer,
            child => return unexpected(core, &self.attempt.purpose, &child, "a dialback answer"),
        };
        if !self.is_answered_by(&answer) {
            return State::Asking(self);
        }
        let who = self.attempt.purpose.who();
        match (&self.attempt.purpose, answer.outcome) {
            (_, Outcome::Key(_)) => State::Asking(self),
            (Purpose::Send { .. }, Outcome::Valid) => begin_sending(core, self.attempt, false),
            (Purpose::Send { .. }, Outcome::Invalid) => {
                let cause = format!(
                    "{who} found our dialback key invalid: is the server it asked another edge, with other \
                     [state] secrets, or not fedgate at all?"
                );
                core.end(None, cause)
            }
            (Purpose::Send { .. }, Outcome::Error(error)) => core.end(None, explain::dialback(core.side, &who, &error)),
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
        let (from, to) = self.attempt.purpose.domains();
        let is = |text: &Option<String>, domain: &Domain| {
            text.as_deref().is_some_and(|text| Domain::parse(text).as_ref() == Ok(domain))
        };
        let question = match &self.attempt.purpose {
            Purpose::Send { .. } => answer.question == Question::Result,
            Purpose::Verify(request) => {
                answer.question == Question::Verify && answer.id.as_deref() == Some(request.stream_id.as_str())
            }
        };
        question && is(&answer.from, to) && is(&answer.to, from)
    }
}

impl Enabling {
    pub fn on_child(self, core: &mut Core, child: Child) -> State {
        match child {
            Child::Management(Management::Enabled) => begin_sending(core, self.attempt, true),
            Child::Management(Management::Failed) => begin_sending(core, self.attempt, false),
            // It may speak as soon as it believes us, and `<enabled/>` comes later: we do without it.
            child @ Child::Stanza(_) if self.attempt.both_ways => match begin_sending(core, self.attempt, false) {
                State::Sending(sending) => sending.on_child(core, child),
                state => state,
            },
            child => unexpected(core, &self.attempt.purpose, &child, "<enabled/>"),
        }
    }
}

/// Asks to be believed, or has a key verified.
fn ask(core: &mut Core, attempt: Attempt, header: &StreamHeader) -> State {
    let purpose = &attempt.purpose;
    let question = match purpose {
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
    State::Asking(Asking { attempt })
}

/// SASL has succeeded: acknowledgements first, if the peer gives them (XEP-0198 §3).
fn enable(core: &mut Core, attempt: Attempt, management: bool) -> State {
    if !management {
        return begin_sending(core, attempt, false);
    }
    core.take_stanzas();
    core.send(&management_enable());
    State::Enabling(Enabling { attempt })
}

fn begin_sending(core: &mut Core, attempt: Attempt, managed: bool) -> State {
    let who = attempt.purpose.who();
    let Attempt { purpose, known, both_ways, .. } = attempt;
    match (purpose, known) {
        (Purpose::Send { from, to, .. }, Some(known)) => {
            core.prove(Pair { from: from.clone(), to: to.clone(), ours: true, both_ways, managed }, known);
            State::Sending(Sending::new(who, (from, to), both_ways, managed))
        }
        // Nothing is proven for ourselves on a stream that only asks.
        _ => core.end(None, format!("{who} answered what was not asked")),
    }
}

/// The other end did not prove to be the partner.
fn stranger(core: &mut Core, attempt: &Attempt, reject: &Reject) -> State {
    core.unproven = true;
    let cause = format!("{} did not prove to be it: {}", attempt.purpose.who(), reject.detail);
    fail(core, StreamError::NotAuthorized, cause)
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
