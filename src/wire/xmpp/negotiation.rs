//! What a stream carries besides stanzas: features, STARTTLS, SASL, dialback, stream management, both ways (RFC 6120 §4.3, §5, §6; XEP-0220,
//! XEP-0478, XEP-0198, XEP-0288).

use super::element::{Element, Scope};
use super::stanza::{Condition, ErrorType, Stanza, StanzaError};
use super::stream::StreamError;
use super::{
    NS_BIDI, NS_BIDI_FEATURE, NS_DIALBACK, NS_DIALBACK_FEATURE, NS_LIMITS, NS_SASL, NS_SERVER, NS_SM, NS_STANZA_ERRORS,
    NS_STREAMS, NS_TLS,
};
use bytes::Bytes;

/// A child of the stream, told apart by name.
#[derive(Debug, Clone)]
pub enum Child {
    /// message, presence or iq.
    Stanza(Box<Stanza>),
    /// `<stream:features/>`
    Features(Features),
    /// `<stream:error/>`, and what it says to people.
    Error(StreamError, Option<String>),
    /// `<starttls/>`
    StartTls,
    /// `<proceed/>`
    Proceed,
    /// `<failure/>` of STARTTLS.
    TlsFailure,
    /// `<auth/>`
    Auth {
        /// The SASL mechanism.
        mechanism: String,
        /// The initial response as written (base64, or `=` for an empty one).
        response: String,
    },
    /// `<success/>` of SASL.
    Success,
    /// `<failure/>` of SASL: its condition and text.
    SaslFailure(String, Option<String>),
    /// A dialback element.
    Dialback(Dialback),
    /// An element of stream management.
    Management(Management),
    /// `<bidi/>`: stanzas are to flow both ways (XEP-0288 §2.2).
    Bidi,
    /// Anything else: something nobody asked for.
    Other(Element),
}

/// `<stream:features/>`: the ones fedgate knows; all others are ignored (RFC 6120 §4.3.2).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Features {
    /// STARTTLS is offered, and whether it is required.
    pub starttls: Option<bool>,
    /// SASL mechanisms. COMPAT(ejabberd): an empty `<mechanisms/>` is no SASL.
    pub mechanisms: Vec<String>,
    /// Dialback is offered, and whether with errors. COMPAT(prosody): always without.
    pub dialback: Option<bool>,
    /// Streams that carry stanzas both ways are offered (XEP-0288 §2.1).
    pub bidi: bool,
    /// Stream management is offered (XEP-0198 §2).
    pub management: bool,
    /// The largest element that the sender takes, in bytes (XEP-0478).
    pub max_bytes: Option<usize>,
    /// After how many silent seconds the sender closes (XEP-0478).
    pub idle_seconds: Option<u64>,
}

/// What stream management says (XEP-0198 §3–5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Management {
    /// `<enable/>`
    Enable,
    /// `<resume/>`
    Resume,
    /// `<enabled/>`
    Enabled,
    /// `<failed/>`
    Failed,
    /// `<r/>`
    Request,
    /// `<a/>`: how many stanzas are handled, modulo 2³²; `None` if it does not say so in a number.
    Ack(Option<u32>),
}

/// Which of the two dialback elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// `<db:result/>`: an originating server asks to be believed.
    Result,
    /// `<db:verify/>`: a receiving server asks the authoritative one.
    Verify,
}

/// A dialback element (XEP-0220 §2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dialback {
    /// Which.
    pub question: Question,
    /// from
    pub from: Option<String>,
    /// to
    pub to: Option<String>,
    /// The id of the stream in question; only on verify.
    pub id: Option<String>,
    /// The key (a question), or the answer.
    pub outcome: Outcome,
}

/// What a dialback element carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// No `type`: a question with this key, white space trimmed.
    Key(String),
    /// `type='valid'`
    Valid,
    /// `type='invalid'`
    Invalid,
    /// `type='error'` with its stanza error; any other type reads as undefined-condition.
    Error(StanzaError),
}

impl Child {
    /// Reads a child of a stream whose header made these declarations; `ns` is the stanzas' namespace.
    pub fn parse(raw: Bytes, scope: &Scope, ns: &str) -> Result<Self, StreamError> {
        let element = match Stanza::read(raw, scope, ns)? {
            Ok(stanza) => return Ok(Child::Stanza(Box::new(stanza))),
            Err(element) => element,
        };
        Ok(match (element.ns.as_str(), element.name.as_str()) {
            (NS_STREAMS, "features") => Child::Features(Features::from_element(&element)),
            (NS_STREAMS, "error") => {
                let (error, text) = StreamError::from_element(&element);
                Child::Error(error, text)
            }
            (NS_TLS, "starttls") => Child::StartTls,
            (NS_TLS, "proceed") => Child::Proceed,
            (NS_TLS, "failure") => Child::TlsFailure,
            (NS_SASL, "auth") => Child::Auth {
                mechanism: element.get_attr("mechanism").unwrap_or_default().to_owned(),
                response: element.content().trim().to_owned(),
            },
            (NS_SASL, "success") => Child::Success,
            (NS_SASL, "failure") => {
                let condition = element.elements().find(|e| e.name != "text").map(|e| e.name.clone());
                let text = element.find("text", NS_SASL).map(Element::content);
                Child::SaslFailure(condition.unwrap_or_else(|| "not-authorized".to_owned()), text)
            }
            (NS_DIALBACK, "result") => Child::Dialback(Dialback::from_element(Question::Result, &element)),
            (NS_DIALBACK, "verify") => Child::Dialback(Dialback::from_element(Question::Verify, &element)),
            (NS_SM, "enable") => Child::Management(Management::Enable),
            (NS_SM, "resume") => Child::Management(Management::Resume),
            (NS_SM, "enabled") => Child::Management(Management::Enabled),
            (NS_SM, "failed") => Child::Management(Management::Failed),
            (NS_SM, "r") => Child::Management(Management::Request),
            (NS_SM, "a") => {
                let handled = element.get_attr("h").and_then(|h| h.trim().parse().ok());
                Child::Management(Management::Ack(handled))
            }
            (NS_BIDI, "bidi") => Child::Bidi,
            _ => Child::Other(element),
        })
    }
}

impl Features {
    /// Reads `<stream:features/>`.
    pub fn from_element(features: &Element) -> Self {
        let number = |name| -> Option<u64> {
            features.find("limits", NS_LIMITS)?.find(name, NS_LIMITS)?.content().trim().parse().ok()
        };
        let mechanisms = features.find("mechanisms", NS_SASL).into_iter().flat_map(Element::elements);
        Self {
            starttls: features.find("starttls", NS_TLS).map(|e| e.find("required", NS_TLS).is_some()),
            mechanisms: mechanisms
                .filter(|e| e.is("mechanism", NS_SASL))
                .map(|e| e.content().trim().to_owned())
                .collect(),
            dialback: features
                .find("dialback", NS_DIALBACK_FEATURE)
                .map(|e| e.find("errors", NS_DIALBACK_FEATURE).is_some()),
            bidi: features.find("bidi", NS_BIDI_FEATURE).is_some(),
            management: features.find("sm", NS_SM).is_some(),
            max_bytes: number("max-bytes").and_then(|bytes| usize::try_from(bytes).ok()),
            idle_seconds: number("idle-seconds"),
        }
    }

    /// `<stream:features/>`
    pub fn to_element(&self) -> Element {
        let mut features = Element::new("features", NS_STREAMS);
        if let Some(required) = self.starttls {
            let starttls = Element::new("starttls", NS_TLS);
            features = features.child(match required {
                true => starttls.child(Element::new("required", NS_TLS)),
                false => starttls,
            });
        }
        if !self.mechanisms.is_empty() {
            let mechanisms = self.mechanisms.iter().map(|m| Element::new("mechanism", NS_SASL).text(m));
            features = features.child(mechanisms.fold(Element::new("mechanisms", NS_SASL), Element::child));
        }
        if let Some(errors) = self.dialback {
            let dialback = Element::new("dialback", NS_DIALBACK_FEATURE);
            features = features.child(match errors {
                true => dialback.child(Element::new("errors", NS_DIALBACK_FEATURE)),
                false => dialback,
            });
        }
        if self.bidi {
            features = features.child(Element::new("bidi", NS_BIDI_FEATURE));
        }
        if self.management {
            features = features.child(Element::new("sm", NS_SM));
        }
        let number = |name, value: u64| Element::new(name, NS_LIMITS).text(&value.to_string());
        let limits = self.max_bytes.map(|bytes| number("max-bytes", bytes as u64)).into_iter();
        let limits: Vec<_> = limits.chain(self.idle_seconds.map(|seconds| number("idle-seconds", seconds))).collect();
        if !limits.is_empty() {
            features = features.child(limits.into_iter().fold(Element::new("limits", NS_LIMITS), Element::child));
        }
        features
    }

    /// Whether SASL EXTERNAL is offered.
    pub fn external(&self) -> bool {
        self.mechanisms.iter().any(|mechanism| mechanism == "EXTERNAL")
    }
}

impl Dialback {
    fn from_element(question: Question, element: &Element) -> Self {
        let attr = |name| element.get_attr(name).map(str::to_owned);
        let outcome = match element.get_attr("type") {
            // XEP-0220 §2.1.1: white space around the key is no part of it.
            None => Outcome::Key(element.content().trim().to_owned()),
            Some("valid") => Outcome::Valid,
            Some("invalid") => Outcome::Invalid,
            Some(_) => Outcome::Error(
                element
                    .elements()
                    .find(|e| e.name == "error")
                    .map(StanzaError::from_element)
                    .unwrap_or_else(|| StanzaError::new(Condition::UndefinedCondition, ErrorType::Cancel)),
            ),
        };
        Self { question, from: attr("from"), to: attr("to"), id: attr("id"), outcome }
    }

    /// `<db:result/>` or `<db:verify/>`.
    pub fn to_element(&self) -> Element {
        let name = match self.question {
            Question::Result => "result",
            Question::Verify => "verify",
        };
        let element = Element::new(name, NS_DIALBACK)
            .attr_if("from", self.from.as_deref())
            .attr_if("to", self.to.as_deref())
            .attr_if("id", self.id.as_deref());
        match &self.outcome {
            Outcome::Key(key) => element.text(key),
            Outcome::Valid => element.attr("type", "valid"),
            Outcome::Invalid => element.attr("type", "invalid"),
            Outcome::Error(error) => element.attr("type", "error").child(error.to_element(NS_SERVER)),
        }
    }

    /// The answer to a question: from and to swapped, the id repeated.
    pub fn answer(&self, outcome: Outcome) -> Self {
        Self { question: self.question, from: self.to.clone(), to: self.from.clone(), id: self.id.clone(), outcome }
    }
}

/// `<auth mechanism='EXTERNAL'/>` with an initial response already in base64 (XEP-0178 §3).
pub fn auth_external(response: &str) -> Element {
    Element::new("auth", NS_SASL).attr("mechanism", "EXTERNAL").text(response)
}

/// `<failure/>` of SASL with a condition of RFC 6120 §6.5.
pub fn sasl_failure(condition: &str) -> Element {
    Element::new("failure", NS_SASL).child(Element::new(condition, NS_SASL))
}

/// `<success/>` of SASL.
pub fn sasl_success() -> Element {
    Element::new("success", NS_SASL)
}

/// `<enable/>`: asks for stream management, without resumption (XEP-0198 §3).
pub fn management_enable() -> Element {
    Element::new("enable", NS_SM)
}

/// `<enabled/>`: stream management, without resumption (XEP-0198 §3).
pub fn management_enabled() -> Element {
    Element::new("enabled", NS_SM)
}

/// `<failed/>` of stream management with a stanza error condition (XEP-0198 §6).
pub fn management_failed(condition: Condition) -> Element {
    Element::new("failed", NS_SM).child(Element::new(condition.as_str(), NS_STANZA_ERRORS))
}

/// `<a/>`: this many stanzas are handled (XEP-0198 §4).
pub fn ack(handled: u32) -> Element {
    Element::new("a", NS_SM).attr("h", &handled.to_string())
}

/// Whether this is what [`ack`] makes, and so no stanza.
pub fn is_ack(bytes: &[u8]) -> bool {
    bytes.starts_with(b"<a ")
}

/// `<r/>`: asks how many stanzas are handled (XEP-0198 §4).
pub fn ack_request() -> Element {
    Element::new("r", NS_SM)
}

/// `<bidi/>`: stanzas are to flow both ways (XEP-0288 §2.2).
pub fn bidi() -> Element {
    Element::new("bidi", NS_BIDI)
}

/// An element of STARTTLS: `starttls`, `proceed` or `failure`.
pub fn tls(name: &str) -> Element {
    Element::new(name, NS_TLS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::xmpp::NS_SERVER;

    fn read(element: &Element) -> Child {
        let scope = Scope {
            default_ns: NS_SERVER.into(),
            prefixes: vec![("stream".into(), NS_STREAMS.into()), ("db".into(), NS_DIALBACK.into())],
        };
        Child::parse(element.print_on_stream().into(), &scope, NS_SERVER).unwrap()
    }

    #[test]
    fn features_survive_printing() {
        for starttls in [None, Some(false), Some(true)] {
            for dialback in [None, Some(false), Some(true)] {
                let features = Features {
                    starttls,
                    dialback,
                    mechanisms: vec!["EXTERNAL".into()],
                    bidi: starttls.is_some(),
                    management: dialback.is_some(),
                    max_bytes: Some(10_000),
                    idle_seconds: Some(60),
                };
                assert!(features.external());
                let Child::Features(again) = read(&features.to_element()) else { panic!() };
                assert_eq!(again, features);
            }
        }
        assert_eq!(Features::default().to_element().print_on_stream(), "<stream:features/>");
    }

    #[test]
    fn unknown_features_and_empty_mechanisms_are_nothing() {
        let text = "<stream:features xmlns:stream='http://etherx.jabber.org/streams'><mechanisms \
                    xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/><bidi xmlns='urn:xmpp:bidi'/></stream:features>";
        let element = Element::parse(text.as_bytes(), NS_SERVER).unwrap();
        assert_eq!(Features::from_element(&element), Features::default());
    }

    #[test]
    fn dialback_survives_printing() {
        let error = StanzaError::new(Condition::ItemNotFound, ErrorType::Cancel);
        for outcome in [Outcome::Key("k".into()), Outcome::Valid, Outcome::Invalid, Outcome::Error(error)] {
            for (question, id) in [(Question::Result, None), (Question::Verify, Some("1 2".to_owned()))] {
                let [from, to] = ["a.b", "c.d"].map(|d| Some(d.to_owned()));
                let dialback = Dialback { question, from, to, id, outcome: outcome.clone() };
                let Child::Dialback(again) = read(&dialback.to_element()) else { panic!() };
                assert_eq!(again, dialback);
                assert_eq!(again.answer(Outcome::Valid).answer(outcome.clone()), dialback);
            }
        }
    }

    #[test]
    fn the_rest_is_told_by_name() {
        assert!(matches!(read(&tls("starttls")), Child::StartTls));
        assert!(matches!(read(&ack(7)), Child::Management(Management::Ack(Some(7)))));
        for unreadable in ["", "-1", "4294967296", "x"] {
            let ack = Element::new("a", NS_SM).attr("h", unreadable);
            assert!(matches!(read(&ack), Child::Management(Management::Ack(None))), "{unreadable}");
        }
        assert!(is_ack(ack(7).print_on_stream().as_bytes()) && is_ack(ack(7).print(NS_SERVER).as_bytes()));
        assert!(!is_ack(b"<message a='1'/>") && !is_ack(b"<iq/>") && !is_ack(b""));
        assert!(matches!(read(&bidi()), Child::Bidi));
        assert!(matches!(read(&Element::new("bidi", NS_BIDI_FEATURE)), Child::Other(_)));
        for (name, asked) in [
            ("enable", Management::Enable),
            ("resume", Management::Resume),
            ("r", Management::Request),
            ("a", Management::Ack(None)),
            ("enabled", Management::Enabled),
            ("failed", Management::Failed),
        ] {
            assert!(matches!(read(&Element::new(name, NS_SM)), Child::Management(management) if management == asked));
            // Version 2 is not offered.
            assert!(matches!(read(&Element::new(name, "urn:xmpp:sm:2")), Child::Other(_)));
        }
        assert!(matches!(read(&management_enable()), Child::Management(Management::Enable)));
        assert!(matches!(read(&ack_request()), Child::Management(Management::Request)));
        assert!(matches!(read(&tls("proceed")), Child::Proceed));
        assert!(matches!(read(&tls("failure")), Child::TlsFailure));
        assert!(matches!(read(&Element::new("success", NS_SASL)), Child::Success));
        assert!(matches!(read(&sasl_failure("not-authorized")), Child::SaslFailure(c, None) if c == "not-authorized"));
        assert!(
            matches!(read(&auth_external("=")), Child::Auth { mechanism, response } if mechanism == "EXTERNAL" && response == "=")
        );
        assert!(matches!(read(&Element::new("message", NS_SERVER)), Child::Stanza(_)));
        assert!(matches!(read(&Element::new("message", "jabber:client")), Child::Other(_)));
        assert!(
            matches!(read(&Element::new("result", NS_SERVER)), Child::Other(_)),
            "the namespace counts, not the name"
        );
    }
}
