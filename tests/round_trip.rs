//! What is translated to the other protocol and back, through the bytes of both: the same again, or lost where it is declared.

use bytes::Bytes;
use fedgate::gate::partner::{Html, Profile};
use fedgate::gate::translate::presence::Shown;
use fedgate::gate::translate::{error, message, presence};
use fedgate::wire::address::{Address, Jid};
use fedgate::wire::pidf::Document;
use fedgate::wire::sip::compose::Request;
use fedgate::wire::sip::header::{MediaType, Name};
use fedgate::wire::sip::{Message, Method, NameAddr, Start};
use fedgate::wire::xmpp::{Condition, Element, Stanza, StanzaError};
use proptest::prelude::*;
use std::collections::BTreeMap;

const NS: &str = "jabber:server";
const BODY_MAX: usize = 65_536;

fn sample(name: &str) -> Message {
    let path = format!("{}/tests/vectors/sip/{name}", env!("CARGO_MANIFEST_DIR"));
    Message::parse(Bytes::from(std::fs::read(path).unwrap())).unwrap()
}

/// An element as its receiver reads it.
fn received(element: &Element) -> Stanza {
    let text = element.print(NS);
    Stanza::parse(Bytes::from(text.clone()), NS).unwrap_or_else(|e| panic!("{e}: {text}")).unwrap()
}

fn jid(text: &str) -> Jid {
    Jid::parse(text).unwrap()
}

/// The address of a name-addr, as the gate reads it.
fn address(name: &NameAddr<'_>) -> Address {
    Address::parse_user(name.uri.text).unwrap()
}

#[test]
fn addresses_of_received_requests_are_jids_and_back() {
    for (file, jid) in [
        ("torture/user-apostrophe-amp.sip", "o\\27malley\\26co\\2fx@foreign.example.net"),
        ("samples/lync-message-plain-msgr.sip", "juliet@foreign.example.net"),
        ("samples/aol-message.sip", "julietscreen@aol.com"),
    ] {
        let request = sample(file);
        let from = address(&request.from().unwrap());
        assert_eq!(from.to_jid(), jid, "{file}");
        assert_eq!(Jid::parse(jid).unwrap().bare, from);
        assert_eq!(format!("sip:{}", from.to_sip()), request.from().unwrap().uri.text, "{file}");
    }
    let aol = sample("samples/aol-subscribe-email-user.sip");
    let parenthesised = [aol.from(), aol.to()]
        .into_iter()
        .flatten()
        .map(|name| address(&name))
        .find(|a| a.domain().as_str() == "aol.com");
    assert!(parenthesised.unwrap().to_sip().contains("(gmail.com)@aol.com"));
}

#[test]
fn received_messages_reach_an_xmpp_user_byte_for_byte() {
    for (file, text) in [
        ("samples/lync-message-plain-msgr.sip", "Good night, good night — 私は行く"),
        ("samples/lync-message-html.sip", "Parting is such sweet sorrow & so on <3"),
        ("samples/lync-message-multipart.sip", "It is the lark"),
        ("samples/aol-message.sip", "are you there?"),
        ("torture/user-apostrophe-amp.sip", "x"),
    ] {
        let request = sample(file);
        let read = message::read_sip(&request, BODY_MAX, Html::ToText).unwrap();
        let from = Jid::bare(address(&request.from().unwrap()));
        let stanza = received(&message::write_stanza(&read, &from, &jid("romeo@example.com"), "tx"));
        assert_eq!(stanza.from, Ok(Some(from)));
        assert_eq!(stanza.type_, None, "RFC 7572 §5: page mode is `normal`");
        let back = message::read_stanza(&stanza, BODY_MAX).unwrap().unwrap();
        assert_eq!(back, read, "{file}");
        assert_eq!(back.body, text, "{file}");
        assert_eq!(back.thread.as_deref(), request.call_id());
    }
    assert_eq!(
        message::read_sip(&sample("torture/message-1301-octets.sip"), BODY_MAX, Html::ToText).unwrap().body.len(),
        1301
    );
}

/// What a 415 says that we take.
const ACCEPT: &str = "text/plain, text/html, multipart/alternative";

#[test]
fn messages_that_cannot_be_carried_are_refused_by_name() {
    for (file, status, header) in [
        ("torture/message-unsupported-type.sip", 415, Some(("Accept", ACCEPT))),
        ("torture/message-cpim.sip", 415, Some(("Accept", ACCEPT))),
        ("torture/message-content-encoding.sip", 415, Some(("Accept-Encoding", "identity"))),
        ("torture/message-invalid-utf8.sip", 400, None),
    ] {
        let reject = message::read_sip(&sample(file), BODY_MAX, Html::ToText).unwrap_err();
        let headers: Vec<_> = reject.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        assert_eq!((reject.status, headers), (status, Vec::from_iter(header)), "{file}");
    }
    assert_eq!(
        message::read_sip(&sample("torture/message-1301-octets.sip"), 1300, Html::ToText).unwrap_err().status,
        413
    );
}

#[test]
fn received_presence_is_seen_by_every_client() {
    for (file, of, show, status, jabber_status) in [
        ("samples/lync-notify-pidf.sip", Profile::Lync, Some("away"), Some("Busy"), Some("Busy")),
        ("samples/aol-notify-pidf.sip", Profile::Aol, Some("away"), None, None),
        ("samples/lync-200-subscribe-piggyback.sip", Profile::Lync, Some("away"), Some("Busy"), Some("Busy")),
        (
            "samples/lync-notify-msrtc-categories.sip",
            Profile::Lync,
            Some("away"),
            Some("Busy: On the balcony until ten"),
            Some("Busy: On the balcony until ten"),
        ),
        (
            "samples/lync-benotify.sip",
            Profile::Lync,
            Some("away"),
            Some("On the balcony until ten"),
            Some("On the balcony until ten"),
        ),
    ] {
        let notify = sample(file);
        let essence = MediaType::parse(notify.header(Name::ContentType).unwrap()).unwrap().essence;
        let document = Document::parse_as(&essence, notify.body()).unwrap();
        for (seen_by, status) in [(Profile::Generic, status), (Profile::Jabber, jabber_status)] {
            let stanza = received(&presence::to_stanza(Some(&document), of, seen_by));
            assert_eq!(stanza.type_, None);
            let shown = presence::read_stanza(&stanza);
            assert_eq!((shown.show.as_deref(), shown.status.as_deref()), (show, status), "{file}");
        }
    }
    assert!(Document::parse(sample("torture/notify-pidf-entity-bomb.sip").body()).is_err());
}

const CONDITIONS: [Condition; 22] = [
    Condition::BadRequest,
    Condition::Conflict,
    Condition::FeatureNotImplemented,
    Condition::Forbidden,
    Condition::Gone,
    Condition::InternalServerError,
    Condition::ItemNotFound,
    Condition::JidMalformed,
    Condition::NotAcceptable,
    Condition::NotAllowed,
    Condition::NotAuthorized,
    Condition::PolicyViolation,
    Condition::RecipientUnavailable,
    Condition::Redirect,
    Condition::RegistrationRequired,
    Condition::RemoteServerNotFound,
    Condition::RemoteServerTimeout,
    Condition::ResourceConstraint,
    Condition::ServiceUnavailable,
    Condition::SubscriptionRequired,
    Condition::UndefinedCondition,
    Condition::UnexpectedRequest,
];

/// What comes back of a condition that crosses to SIP and back, where it is another.
fn declared_loss(condition: Condition, full_jid: bool) -> Condition {
    use Condition as C;
    match condition {
        // One SIP status stands for many conditions.
        C::Conflict | C::JidMalformed | C::SubscriptionRequired | C::UndefinedCondition | C::UnexpectedRequest => {
            C::BadRequest
        }
        C::NotAllowed | C::NotAuthorized | C::PolicyViolation | C::RegistrationRequired => C::Forbidden,
        C::ServiceUnavailable if full_jid => C::FeatureNotImplemented,
        C::ServiceUnavailable => C::Forbidden,
        C::ResourceConstraint => C::InternalServerError,
        C::RemoteServerNotFound => C::ItemNotFound,
        // RFC 7247 table 3 has 603 as unavailable, table 2 has it as forbidden.
        C::Forbidden if !full_jid => C::RecipientUnavailable,
        same => same,
    }
}

#[test]
fn errors_come_back_but_for_what_is_declared() {
    for condition in CONDITIONS {
        for full_jid in [true, false] {
            let address =
                matches!(condition, Condition::Gone | Condition::Redirect).then(|| "xmpp:romeo@new.example".to_owned());
            let sent = StanzaError {
                text: Some("Why".into()),
                address,
                ..StanzaError::new(condition, fedgate::wire::xmpp::ErrorType::Cancel)
            };
            let element = Element::parse(sent.to_element(NS).print(NS).as_bytes(), NS).unwrap();
            let (status, contact) = error::to_sip(&StanzaError::from_element(&element), full_jid, false);
            let back = error::to_xmpp(status, "Why", contact.as_deref());
            assert_eq!(back.condition, declared_loss(condition, full_jid), "{condition:?} by {status}");
            assert_eq!((back.text, back.address), (sent.text, sent.address), "{condition:?} by {status}");
        }
    }
}

fn shown() -> impl Strategy<Value = Shown> {
    let status = proptest::option::of(prop_oneof![
        r#"[!-~]([ -~\r\n\t]{0,10}[!-~])?"#,
        "Busy|Idle",
        r"[a-zé私😀\u{10fffd}]{1,6}"
    ]);
    (proptest::option::of("away|chat|dnd|xa"), status, 0..=127i8).prop_map(|(show, status, priority)| Shown {
        show,
        status,
        lang: None,
        priority,
        idle: false,
    })
}

proptest! {
    /// Stanza bytes → document bytes → stanza bytes, for several resources; the most available one is what comes back.
    #[test]
    fn presence_survives_the_bytes(one in shown(), priority in 0..=127i8, partner in prop_oneof![Just(Profile::Generic), Just(Profile::Lync)],
        node in prop_oneof![Just(Profile::Generic), Just(Profile::Jabber)]) {
        let away = Shown { show: Some("xa".into()), priority, ..Shown::default() };
        let mut stanza = Element::new("presence", NS);
        if let Some(show) = &one.show {
            stanza = stanza.child(Element::new("show", NS).text(show));
        }
        if let Some(status) = &one.status {
            stanza = stanza.child(Element::new("status", NS).text(status));
        }
        stanza = stanza.child(Element::new("priority", NS).text(&one.priority.to_string()));
        let read = presence::read_stanza(&received(&stanza));
        prop_assert_eq!(&read, &one);
        let resources = BTreeMap::from([("balcony".to_owned(), read)]);
        let both = BTreeMap::from([("balcony".to_owned(), one.clone()), ("garden".to_owned(), away.clone())]);
        for (resources, alone) in [(resources, true), (both, false)] {
            let document = presence::to_document(&Address::parse_user("romeo@example.com").unwrap(), &resources, partner, node);
            let read = Document::parse(document.print(true).as_bytes()).unwrap();
            let back = presence::read_stanza(&received(&presence::to_stanza(Some(&read), partner, node)));
            let is_away = |shown: &Shown| matches!(shown.show.as_deref(), Some("away" | "xa"));
            if alone || !is_away(&one) {
                prop_assert_eq!(&back, &one);
            } else {
                prop_assert!(back == one || back == away);
            }
        }
    }

    /// Text → stanza bytes → text → MESSAGE bytes → text.
    #[test]
    fn texts_survive_the_bytes(
        body in r"[^\x00-\x08\x0b\x0c\x0e-\x1f\u{fffe}\u{ffff}]{1,80}",
        subject in proptest::option::of("[!-~]([ -~]{0,12}[!-~])?"),
        thread in proptest::option::of("[a-z0-9.-]{1,40}"),
        lang in proptest::option::of("[a-z]{2}(-[A-Z]{2})?"),
        local in r#"[!-~é私]{1,8}"#,
    ) {
        let Ok(from) = Address::new(&local, "example.com".parse().unwrap()) else { return Ok(()) };
        let text = message::Text { body, subject, lang, thread };
        let stanza = received(&message::write_stanza(&text, &Jid::bare(from.clone()), &jid("juliet@foreign.example/r"), "1"));
        prop_assert_eq!(&stanza.from, &Ok(Some(Jid::bare(from.clone()))));
        let read = message::read_stanza(&stanza, BODY_MAX).unwrap().unwrap();
        prop_assert_eq!(&read, &text);
        let page = message::write_sip(&read, "random").unwrap();
        let mut headers = vec![
            ("Via", "SIP/2.0/TLS h.example:5061;branch=z9hG4bK1".to_owned()),
            ("Max-Forwards", "70".to_owned()),
            ("From", format!("<sip:{}>;tag=1", from.to_sip())),
            ("To", "<sip:juliet@foreign.example>".to_owned()),
            ("Call-ID", page.call_id),
            ("CSeq", "1 MESSAGE".to_owned()),
        ];
        headers.extend(page.headers);
        let uri = format!("sip:{}", from.to_sip());
        let request = Request { method: Method::Message, uri: &uri, headers: &headers, body: Some((message::PAGE_CONTENT_TYPE, page.body.as_bytes())) };
        let sent = Message::parse(request.print()).unwrap();
        prop_assert_eq!(sent.check(), Ok(()));
        prop_assert_eq!(&address(&sent.from().unwrap()), &from);
        let Start::Request { uri, .. } = sent.start() else { panic!("a request") };
        prop_assert_eq!(&Address::parse_user(uri).unwrap(), &from);
        let back = message::read_sip(&sent, BODY_MAX, Html::ToText).unwrap();
        let thread = text.thread.clone().or(Some("random".to_owned()));
        prop_assert_eq!(back, message::Text { thread, ..text });
    }
}
