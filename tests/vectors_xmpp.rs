//! Every sample in `tests/vectors/xmpp` and what it must get.
//!
//! The samples are written as a partner would send them to the Internet side. They are played to the inside listener, with the sides
//! swapped by the settings: the sender's domain is a node's, the addressee's a partner's.

#[path = "support/xmpp.rs"]
mod support;

use fedgate::gate::link::{LinkInput, LinkOutput, Settings, Verdict, dialback};
use fedgate::gate::partner::{NodeProof, TlsMode};
use fedgate::gate::reject::{Reason, Reject};
use fedgate::wire::xmpp::{Condition, ErrorType, Kind, NS_SERVER, StanzaError, StreamError};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use support::{End, domain};

type Check = fn(&[u8]);

const CASES: [(&str, Check); 31] = [
    ("aol-jid-message.xml", aol_jid_message),
    ("dialback-errors.xml", dialback_errors),
    ("ejabberd-stream-features-tls.xml", ejabberd_features_tls),
    ("ejabberd-stream-features.xml", features_before_tls),
    ("googletalk-dialback-v1.xml", googletalk_v1),
    ("googletalk-dialback-verify.xml", googletalk_verify),
    ("googletalk-dialback.xml", googletalk),
    ("prosody-stream-features-tls.xml", prosody_features_tls),
    ("prosody-stream-features.xml", features_before_tls),
    ("sametime-presence-subscribe.xml", sametime_presence),
    ("sametime-stream-open.xml", sametime_open),
    ("stream-errors.xml", stream_errors),
    ("x-comment-pi.xml", restricted),
    ("x-db-multiplex.xml", multiplex),
    ("x-db-result-empty.xml", empty_key),
    ("x-db-unsolicited-valid.xml", unsolicited_valid),
    ("x-db-wrong-prefix.xml", other_prefix),
    ("x-doctype-bomb.xml", restricted),
    ("x-iq-unhandled.xml", iqs),
    ("x-many-attributes.xml", many_attributes),
    ("x-oversize-stanza.xml", oversize),
    ("x-preauth-flood.xml", flood),
    ("x-presence-bad-show.xml", bad_show),
    ("x-sasl-external-empty.xml", sasl_refused),
    ("x-sasl-external-other.xml", sasl_refused),
    ("x-sasl-plain.xml", sasl_refused),
    ("x-stanza-bad-jid.xml", bad_jid),
    ("x-stanza-before-auth.xml", stanza_before_proof),
    ("x-stanza-error-loop.xml", error_loop),
    ("x-stanza-from-subdomain.xml", from_subdomain),
    ("x-stanza-no-from.xml", no_from),
];

const UTF16: &str = "x-utf16.xml";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/xmpp")
}

#[test]
fn every_sample_gets_what_it_must() {
    for (name, check) in CASES {
        eprintln!("{name}");
        check(&std::fs::read(folder().join(name)).unwrap());
    }
    utf16(&std::fs::read(folder().join(UTF16)).unwrap());
}

#[test]
fn no_sample_is_left_out() {
    let there: BTreeSet<String> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "README.md")
        .collect();
    let known: BTreeSet<String> = CASES.iter().map(|(name, _)| *name).chain([UTF16]).map(str::to_owned).collect();
    assert_eq!(there, known);
}

const FOREIGN: [&str; 4] =
    ["foreign.example.org", "chat.foreign.example.org", "gtalk.example.net", "sametime.example.org"];

fn inside(verify: NodeProof, tls: TlsMode) -> Settings {
    support::settings(verify, &FOREIGN, &["example.com"], tls)
}

fn accepting(verify: NodeProof) -> End {
    End::accepting(inside(verify, TlsMode::Optional))
}

/// A stream on which `from` has proven itself towards example.com.
fn proven_with(settings: Settings, from: &str) -> End {
    let mut ours = End::accepting(settings);
    ours.feed(format!(
        "<stream:stream xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams' \
         xmlns:db='jabber:server:dialback' from='{from}' to='example.com' version='1.0'>\
         <db:result from='{from}' to='example.com'>k</db:result>"
    ));
    assert_eq!(ours.proven(), [format!("{from}>example.com")]);
    ours.said();
    ours
}

fn proven() -> End {
    proven_with(inside(NodeProof::Network, TlsMode::Optional), "foreign.example.org")
}

/// A refused stream: one stream error with this condition, then closed.
#[track_caller]
fn assert_refused(ours: &mut End, condition: &str, label: &str) {
    let said = ours.said();
    assert!(said.starts_with("<?xml version='1.0'?><stream:stream ") || !said.contains("<?xml"), "{said}");
    assert!(
        said.contains(&format!("<stream:error><{condition} xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>")),
        "{said}"
    );
    assert!(said.ends_with("</stream:error></stream:stream>"), "{said}");
    assert_eq!(ours.refusals().last(), Some(&label));
    assert!(ours.closed().is_some());
}

fn sametime_open(bytes: &[u8]) {
    let mut ours = accepting(NodeProof::Network);
    let said = ours.feed(bytes).said();
    let (header, features) = said.split_once("<stream:features>").unwrap();
    assert!(header.contains(" from='example.com' to='sametime.example.org' version='1.0'"), "{header}");
    assert!(header.contains(" id='"), "{header}");
    assert_eq!(
        features,
        "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>\
         <dialback xmlns='urn:xmpp:features:dialback'><errors/></dialback></stream:features>"
    );
    assert!(ours.closed().is_none());
}

fn sametime_presence(bytes: &[u8]) {
    let mut ours = proven_with(inside(NodeProof::Network, TlsMode::Optional), "sametime.example.org");
    ours.feed(bytes);
    let read: Vec<_> = ours
        .stanzas()
        .iter()
        .map(|s| {
            assert_eq!(s.kind, Kind::Presence);
            let child = |name| s.element().find(name, NS_SERVER).map(|e| e.content());
            (s.type_.clone(), child("show"), child("status"))
        })
        .collect();
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(
        read,
        [
            (some("subscribe"), None, None),
            (None, None, some("In a meeting")),
            (None, some("dnd"), some("Please do not disturb me"))
        ]
    );
}

const GTALK_KEY: &str = "36734456611b512e8d2923cb9227e7ad3db259389d2dccbbc755ffe1233ffb9b";

fn googletalk(bytes: &[u8]) {
    assert_eq!(dialback::key(b"s3cr3tf0rd14lb4ck", "example.com", "gtalk.example.net", "D60000229F"), GTALK_KEY);
    // Before 1.0: no version, no features, dialback at once.
    let mut ours = accepting(NodeProof::Dialback);
    let said = ours.feed(bytes).said();
    assert!(said.contains(" id='") && !said.contains(" version='1.0'>"), "{said}");
    assert!(!said.contains("features"), "{said}");
    let question = ours.questions().remove(0);
    assert_eq!((question.originating.as_str(), question.receiving.as_str()), ("gtalk.example.net", "example.com"));
    assert_eq!(question.key, GTALK_KEY);
    assert!(said.contains(&format!(" id='{}'", question.stream_id)));
    ours.input(LinkInput::Verified(question, Verdict::Valid));
    assert_eq!(ours.said(), "<db:result from='example.com' to='gtalk.example.net' type='valid'/>");
    assert_eq!(ours.proven(), ["gtalk.example.net>example.com"]);

    let mut ours = End::accepting(inside(NodeProof::Dialback, TlsMode::Required));
    assert_refused(ours.feed(bytes), "policy-violation", "not-allowed");
}

fn googletalk_v1(bytes: &[u8]) {
    let mut ours = accepting(NodeProof::Dialback);
    assert!(ours.feed(bytes).said().contains("<stream:features>"));
    assert_eq!(ours.questions().remove(0).key, GTALK_KEY, "white space around a key is no part of it");
}

fn googletalk_verify(bytes: &[u8]) {
    let theirs = "850b38aa2422640575e2b29073f330b823cfa32862d5eeb076b23819f6ce3304";
    assert_eq!(dialback::key(b"fedgate-test-secret", "gtalk.example.net", "example.com", "D60000229F"), theirs);
    // Our keys are made with a secret derived from that one, so this key is nobody's.
    let mut ours = accepting(NodeProof::Network);
    let answer =
        |type_: &str| format!("<db:verify from='example.com' to='gtalk.example.net' id='D60000229F' type='{type_}'/>");
    assert!(ours.feed(bytes).said().ends_with(&answer("invalid")));
    let settings = inside(NodeProof::Network, TlsMode::Optional);
    let issued =
        dialback::issue(&settings.secrets, &domain("gtalk.example.net"), &domain("example.com"), "D60000229F").unwrap();
    let mut ours = accepting(NodeProof::Network);
    let said = ours.feed(String::from_utf8_lossy(bytes).replace(theirs, &issued)).said();
    assert!(said.ends_with(&answer("valid")), "{said}");
    assert!(ours.closed().is_none() && ours.proven().is_empty());
}

/// Our stream towards a node that answers with these bytes.
fn opening(tls: TlsMode, to: &str) -> End {
    let settings = support::settings(NodeProof::Network, &[to], &["example.com"], tls);
    let mut ours = End::opening(settings, "example.com", to);
    let said = ours.said();
    assert!(said.contains(&format!(" from='example.com' to='{to}' version='1.0'")), "{said}");
    assert!(said.contains(" xmlns:db='jabber:server:dialback'"), "XEP-0220: some servers know the prefix alone");
    ours
}

fn features_before_tls(bytes: &[u8]) {
    for tls in [TlsMode::Optional, TlsMode::Required] {
        let mut ours = opening(tls, "peer.example.org");
        assert_eq!(ours.feed(bytes).said(), "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>");
        ours.feed("<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>");
        assert!(matches!(ours.wants[..], [LinkOutput::StartTls { .. }]));
    }
    // An empty <mechanisms/> is no SASL; without TLS there is dialback, unless the server requires TLS.
    let mut ours = opening(TlsMode::Off, "peer.example.org");
    let said = ours.feed(bytes).said();
    match String::from_utf8_lossy(bytes).contains("<required/>") {
        true => assert!(ours.closed().unwrap().contains("demands TLS")),
        false => assert!(said.starts_with("<db:result "), "{said}"),
    }
}

fn behind_tls(bytes: &[u8]) -> End {
    let mut ours = opening(TlsMode::Optional, "peer.example.org");
    ours.feed(
        "<stream:stream xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams' id='1' version='1.0'>\
         <stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:features>",
    );
    ours.feed("<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>").input(LinkInput::TlsEstablished(None));
    ours.said();
    // base64("example.com")
    let auth = "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'>ZXhhbXBsZS5jb20=</auth>";
    assert_eq!(ours.feed(bytes).said(), auth);
    ours
}

fn prosody_features_tls(bytes: &[u8]) {
    let mut ours = behind_tls(bytes);
    ours.feed("<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>");
    assert!(ours.said().starts_with("<?xml version='1.0'?><stream:stream "));
    ours.feed(bytes);
    assert_eq!(ours.proven(), ["example.com>peer.example.org!"]);
}

fn ejabberd_features_tls(bytes: &[u8]) {
    let mut ours = behind_tls(bytes);
    ours.feed("<failure xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><not-authorized/></failure>");
    let key = dialback::issue(
        &[b"fedgate-test-secret".to_vec()],
        &domain("peer.example.org"),
        &domain("example.com"),
        "7718200093312207745",
    );
    let result = format!("<db:result from='example.com' to='peer.example.org'>{}</db:result>", key.unwrap());
    assert_eq!(ours.said(), result);
}

/// Our stream to foreign.example.org, dialback asked.
fn asking() -> End {
    let mut ours = opening(TlsMode::Off, "foreign.example.org");
    ours.feed("<stream:stream xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams' id='1'>");
    assert!(ours.said().starts_with("<db:result "));
    ours
}

fn dialback_errors(bytes: &[u8]) {
    let text = std::str::from_utf8(bytes).unwrap();
    let answers: Vec<&str> = text.trim().split_inclusive("</db:result>").collect();
    assert_eq!(answers.len(), 4);
    for (answer, word) in
        answers.iter().zip(["item-not-found", "remote-server-timeout", "policy-violation", "key invalid"])
    {
        let mut ours = asking();
        ours.feed(answer);
        assert!(ours.closed().unwrap().contains(word), "{answer}: {:?}", ours.closed());
        assert!(ours.proven().is_empty());
        assert_eq!(ours.said(), "</stream:stream>");
    }
}

fn stream_errors(bytes: &[u8]) {
    let text = std::str::from_utf8(bytes).unwrap();
    let expected = [
        (StreamError::HostUnknown, "host-unknown (This host does not serve nowhere.example.com)"),
        (StreamError::NotAuthorized, "not-authorized (Certificate is not acceptable)"),
        (StreamError::StanzaTooBig, "policy-violation"),
        (StreamError::ConnectionTimeout, "connection-timeout (Idle connection)"),
        (StreamError::SeeOtherHost, "see-other-host (xmpp2.foreign.example.org:5269)"),
    ];
    assert_eq!(text.trim().lines().count(), expected.len());
    for (line, (error, words)) in text.trim().lines().zip(expected) {
        let element = fedgate::wire::xmpp::Element::parse(line.as_bytes(), NS_SERVER).unwrap();
        assert_eq!(StreamError::from_element(&element).0, error);
        for mut ours in [asking(), proven()] {
            ours.feed(line);
            assert!(ours.closed().unwrap().contains(words), "{:?}", ours.closed());
            assert_eq!(ours.said(), "</stream:stream>");
            assert!(ours.refusals().is_empty(), "the refusal is the peer's");
        }
    }
}

fn aol_jid_message(bytes: &[u8]) {
    let settings = support::settings(NodeProof::Network, &["example.com"], &["aol.com"], TlsMode::Off);
    let mut ours = End::accepting(settings);
    ours.feed(
        "<stream:stream xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams' \
         xmlns:db='jabber:server:dialback'><db:result from='example.com' to='aol.com'/>",
    );
    ours.feed(bytes);
    let stanza = ours.stanzas()[0];
    assert_eq!(stanza.raw, bytes.trim_ascii_end());
    let to = stanza.to.clone().unwrap().unwrap();
    assert_eq!(to.bare.local(), Some("juliet@gmail.com"));
    let body = stanza.element().find("body", NS_SERVER).unwrap().content();
    assert_eq!(body, "1 < 2 & \"quotes\" \u{1F600}");
    assert_eq!(stanza.element().lang(), Some("en"));
}

fn restricted(bytes: &[u8]) {
    assert_refused(accepting(NodeProof::Network).feed(bytes), "restricted-xml", "malformed");
}

fn utf16(bytes: &[u8]) {
    assert_refused(accepting(NodeProof::Network).feed(bytes), "unsupported-encoding", "malformed");
}

fn multiplex(bytes: &[u8]) {
    let mut ours = accepting(NodeProof::Dialback);
    ours.feed(bytes);
    let asked = ours.questions();
    let pairs: Vec<_> = asked.iter().map(|q| (q.originating.as_str(), q.key.as_str())).collect();
    assert_eq!(pairs, [("foreign.example.org", "aa"), ("chat.foreign.example.org", "bb")]);
    let said = ours.said();
    let unknown = "<db:result from='conference.example.com' to='foreign.example.org' type='error'>\
                   <error type='cancel'><item-not-found ";
    assert!(said.contains(unknown), "{said}");
    assert_eq!(ours.refusals(), ["unlisted-domain"]);
    // Each pair on its own, in any order.
    ours.input(LinkInput::Verified(asked[1].clone(), Verdict::Valid));
    assert_eq!(ours.proven(), ["chat.foreign.example.org>example.com"]);
    ours.input(LinkInput::Verified(asked[0].clone(), Verdict::Error));
    assert!(ours.said().contains("<remote-server-timeout "));
    assert!(ours.closed().is_none());
    ours.feed("<presence from='a@foreign.example.org' to='b@example.com'/>");
    assert_refused(&mut ours, "invalid-from", "unproven");
}

fn empty_key(bytes: &[u8]) {
    let mut ours = accepting(NodeProof::Dialback);
    assert!(ours.feed(bytes).said().contains("type='error'><error type='cancel'><not-acceptable "));
    assert!(ours.proven().is_empty() && ours.questions().is_empty() && ours.closed().is_none());
    // Where the network is proof enough, the key does not matter.
    let mut ours = accepting(NodeProof::Network);
    assert_eq!(ours.feed(bytes).proven(), ["foreign.example.org>example.com"]);
}

fn unsolicited_valid(bytes: &[u8]) {
    for verify in [NodeProof::Dialback, NodeProof::Network] {
        let mut ours = accepting(verify);
        assert_refused(ours.feed(bytes), "not-authorized", "unproven");
        assert!(ours.stanzas().is_empty() && ours.proven().is_empty());
    }
}

fn other_prefix(bytes: &[u8]) {
    let mut ours = accepting(NodeProof::Dialback);
    ours.feed(bytes);
    let question = ours.questions().remove(0);
    assert!(question.key.starts_with("e29e7530d575"));
    ours.said();
    ours.input(LinkInput::Verified(question, Verdict::Valid));
    assert!(ours.said().starts_with("<db:result "), "peers may know the prefix alone");
}

fn iqs(bytes: &[u8]) {
    let mut ours = proven();
    ours.feed(bytes);
    let stanzas = ours.stanzas();
    assert_eq!(stanzas.iter().map(|s| s.is_ping()).collect::<Vec<_>>(), [false, true]);
    let unavailable = StanzaError::new(Condition::ServiceUnavailable, ErrorType::Cancel);
    assert_eq!(
        stanzas[0].error_reply(&unavailable).unwrap().print(NS_SERVER),
        "<iq from='romeo@example.com' to='juliet@foreign.example.org/pda' type='error' id='v1'>\
         <error type='cancel'><service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>"
    );
    assert_eq!(
        stanzas[1].iq_result().unwrap().print(NS_SERVER),
        "<iq from='example.com' to='foreign.example.org' type='result' id='p1'/>"
    );
}

fn many_attributes(bytes: &[u8]) {
    let mut ours = proven();
    assert_refused(ours.feed(bytes), "policy-violation", "too-large");
    assert!(ours.stanzas().is_empty());
}

fn oversize(bytes: &[u8]) {
    let mut ours = proven();
    ours.feed(bytes);
    assert_eq!(ours.stanzas()[0].raw.len(), bytes.trim_ascii_end().len());

    let mut settings = inside(NodeProof::Network, TlsMode::Optional);
    settings.limits.stanza_bytes = 20_000;
    let mut ours = proven_with(settings, "foreign.example.org");
    ours.feed(bytes);
    assert!(ours.stanzas().is_empty());
    let said = ours.said();
    assert!(
        said.contains("<policy-violation ") && said.contains("<stanza-too-big xmlns='urn:xmpp:errors'/>"),
        "{said}"
    );
    assert_eq!(ours.refusals(), ["too-large"]);
}

fn flood(bytes: &[u8]) {
    let mut ours = accepting(NodeProof::Network);
    ours.feed(bytes);
    assert_eq!(ours.wrote.matches("<db:verify ").count(), 32);
    assert_refused(&mut ours, "policy-violation", "rate-limited");
}

fn bad_show(bytes: &[u8]) {
    let mut ours = proven();
    ours.feed(bytes);
    assert_eq!(ours.stanzas()[0].type_, None);
    assert!(ours.closed().is_none());
}

/// No mechanism is offered; the stream stays.
fn sasl_refused(bytes: &[u8]) {
    let mut ours = accepting(NodeProof::Dialback);
    ours.feed(
        "<stream:stream xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams' \
         from='foreign.example.org' to='example.com' version='1.0'>",
    );
    assert!(!ours.said().contains("<mechanisms"));
    assert_eq!(
        ours.feed(bytes).said(),
        "<failure xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><invalid-mechanism/></failure>"
    );
    assert!(ours.closed().is_none() && ours.proven().is_empty());
}

fn bad_jid(bytes: &[u8]) {
    let mut ours = proven();
    ours.feed(bytes);
    let stanzas = ours.stanzas();
    assert_eq!(stanzas.len(), 2);
    assert!(ours.closed().is_none());
    for stanza in stanzas {
        assert!(stanza.to.is_err());
        let id = fedgate::gate::reject::DecisionId::from_bits(0);
        let error = Reject::new(Reason::AmbiguousAddress, "").stanza_error(id);
        let reply = stanza.error_reply(&error).unwrap();
        // What is no address can't be a from.
        assert_eq!(reply.get_attr("from"), Some("example.com"));
        assert!(reply.print(NS_SERVER).contains("<error type='modify'><jid-malformed "));
    }
}

fn stanza_before_proof(bytes: &[u8]) {
    let mut ours = accepting(NodeProof::Network);
    assert_refused(ours.feed(bytes), "not-authorized", "unproven");
    assert!(ours.stanzas().is_empty());
}

fn error_loop(bytes: &[u8]) {
    let mut ours = proven();
    ours.feed(bytes);
    let stanza = ours.stanzas()[0];
    assert_eq!(stanza.error().unwrap().condition, Condition::ServiceUnavailable);
    assert_eq!(stanza.error_reply(&StanzaError::new(Condition::ItemNotFound, ErrorType::Cancel)), None);
}

fn from_subdomain(bytes: &[u8]) {
    let mut ours = proven();
    assert_refused(ours.feed(bytes), "invalid-from", "unproven");
    assert!(ours.stanzas().is_empty());
}

fn no_from(bytes: &[u8]) {
    let mut ours = proven();
    assert_refused(ours.feed(bytes), "improper-addressing", "malformed");
    assert!(ours.stanzas().is_empty());
}
