//! Whole stream negotiations: fedgate against itself with the sides swapped, against scripts of what Prosody and ejabberd say, and against
//! peers that lie.

#[path = "support/xmpp.rs"]
mod support;

use fedgate::gate::limits::PAIRS_PER_STREAM;
use fedgate::gate::link::{LinkInput, LinkOutput, Settings, Verdict, VerifyRequest, XmppLink, dialback};
use fedgate::gate::partner::{DomainPattern, NodeProof, Partner, TlsMode};
use fedgate::gate::{Side, Time};
use fedgate::wire::xmpp::{StreamError, negotiation};
use std::sync::Arc;
use std::time::Duration;
use support::{End, NODE_IP, converse, domain, now, settings};

const HEADER: &str = "<?xml version='1.0'?><stream:stream xmlns='jabber:server' xmlns:db='jabber:server:dialback' \
                      xmlns:stream='http://etherx.jabber.org/streams' from='corp.example' to='lync.example' version='1.0'>";

/// The edge: a node that serves corp.example, a partner lync.example.
fn edge(verify: NodeProof, tls: TlsMode) -> Settings {
    settings(verify, &["corp.example"], &["lync.example"], tls)
}

/// Who stands for the node's server: to it corp.example is elsewhere and lync.example is what connects.
fn server(tls: TlsMode) -> Settings {
    let mut settings = settings(NodeProof::Dialback, &["lync.example"], &["corp.example"], tls);
    settings.secrets = vec![b"the server's own".to_vec()];
    settings
}

/// Has the question answered by whoever accepts with these settings.
fn ask(request: VerifyRequest, asker: Settings, authority: Settings, chunk: usize) -> Verdict {
    let mut asking = End::new(XmppLink::verify(Arc::new(asker), Side::Inside, request.clone(), false, [9; 32], now()));
    let mut answering = End::accepting(authority);
    converse(&mut asking, &mut answering, chunk);
    let verdicts: Vec<_> = asking
        .wants
        .iter()
        .filter_map(|want| match want {
            LinkOutput::VerifyDone(answered, verdict) if *answered == request => Some(*verdict),
            _ => None,
        })
        .collect();
    assert!(asking.closed().is_some());
    assert_eq!(verdicts.len(), 1, "a question is answered exactly once");
    verdicts[0]
}

#[test]
fn we_prove_a_partner_domain_to_a_server_that_asks_back() {
    for tls in [TlsMode::Off, TlsMode::Optional, TlsMode::Required] {
        for chunk in [1, 7, 10_000] {
            let mut ours = End::opening(edge(NodeProof::Network, tls), "lync.example", "corp.example");
            let mut theirs = End::accepting(server(tls));
            converse(&mut ours, &mut theirs, chunk);
            assert_eq!(ours.proven(), Vec::<String>::new());
            let question = theirs.questions().remove(0);
            let verdict = ask(question.clone(), server(tls), edge(NodeProof::Network, tls), chunk);
            assert_eq!(verdict, Verdict::Valid);
            theirs.input(LinkInput::Verified(question, verdict));
            converse(&mut ours, &mut theirs, chunk);
            assert_eq!(ours.proven(), ["lync.example>corp.example!"]);
            assert_eq!(theirs.proven(), ["lync.example>corp.example"]);
            assert_eq!(ours.wants.iter().any(|w| matches!(w, LinkOutput::StartTls { .. })), tls != TlsMode::Off);

            let stanza = "<message from='a@lync.example' to='b@corp.example'><body>hi</body></message>";
            ours.input(LinkInput::Send(stanza.into(), None));
            converse(&mut ours, &mut theirs, chunk);
            assert_eq!(theirs.stanzas()[0].raw, stanza);
            ours.input(LinkInput::Close(None));
            converse(&mut ours, &mut theirs, chunk);
            assert!(ours.closed().is_some() && theirs.closed().is_some());
            assert_eq!(theirs.refusals(), Vec::<&str>::new());
        }
    }
}

#[test]
fn a_node_known_by_its_network_is_believed_at_once() {
    let mut node = End::opening(server(TlsMode::Optional), "corp.example", "lync.example");
    let mut ours = End::accepting(edge(NodeProof::Network, TlsMode::Optional));
    converse(&mut node, &mut ours, 100);
    assert_eq!(ours.proven(), ["corp.example>lync.example"]);
    assert_eq!(node.proven(), ["corp.example>lync.example!"]);
}

#[test]
fn a_key_of_other_secrets_proves_nothing() {
    let mut liar = server(TlsMode::Off);
    liar.secrets = vec![b"guessed".to_vec()];
    let mut node = End::opening(liar, "corp.example", "lync.example");
    let mut ours = End::accepting(edge(NodeProof::Dialback, TlsMode::Off));
    converse(&mut node, &mut ours, 100);
    let question = ours.questions().remove(0);
    // The true corp.example is asked, and never gave out this key.
    let verdict = ask(question.clone(), edge(NodeProof::Dialback, TlsMode::Off), server(TlsMode::Off), 100);
    assert_eq!(verdict, Verdict::Invalid);
    ours.input(LinkInput::Verified(question, verdict));
    converse(&mut node, &mut ours, 100);
    assert_eq!((ours.proven(), node.proven()), (vec![], vec![]));
    assert_eq!(ours.refusals(), ["unproven"]);
    assert!(node.closed().unwrap().contains("invalid"), "{:?}", node.closed());
}

#[test]
fn modes_that_exclude_each_other_end_with_a_clear_cause() {
    let mut ours = End::opening(edge(NodeProof::Network, TlsMode::Required), "lync.example", "corp.example");
    let mut theirs = End::accepting(server(TlsMode::Off));
    converse(&mut ours, &mut theirs, 100);
    assert!(ours.closed().unwrap().contains("node imp-1 offers no TLS, but [inside] tls = \"required\""));

    let mut ours = End::opening(edge(NodeProof::Network, TlsMode::Off), "lync.example", "corp.example");
    let mut theirs = End::accepting(server(TlsMode::Required));
    converse(&mut ours, &mut theirs, 100);
    assert!(ours.closed().unwrap().contains("demands TLS, but [inside] tls = \"off\""));
}

#[test]
fn a_header_is_judged_before_anything_else() {
    let cases = [
        ("from='corp.example' to='unlisted.example' version='1.0'", "policy-violation", "unlisted-domain"),
        ("from='corp.example' to='corp.example' version='1.0'", "host-unknown", "relay-denied"),
        ("from='other.example' to='lync.example' version='1.0'", "not-authorized", "unproven"),
        ("from='sub.corp.example' to='lync.example' version='1.0'", "not-authorized", "unproven"),
        ("from='corp.example' version='1.0'", "improper-addressing", "malformed"),
        ("from='a b' to='lync.example' version='1.0'", "invalid-from", "malformed"),
        ("from='corp.example' to='a b' version='1.0'", "host-unknown", "malformed"),
        ("from='corp.example' to='lync.example' version='x'", "unsupported-version", "malformed"),
    ];
    for (attributes, condition, label) in cases {
        let mut ours = End::accepting(edge(NodeProof::Network, TlsMode::Optional));
        ours.feed(format!(
            "<stream:stream xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams' {attributes}>"
        ));
        let said = ours.said();
        assert!(said.starts_with("<?xml version='1.0'?><stream:stream "), "{attributes}: {said}");
        assert!(said.contains(&format!("<stream:error><{condition} ")), "{attributes}: {said}");
        assert!(said.ends_with("</stream:error></stream:stream>"), "{attributes}: {said}");
        assert_eq!(ours.refusals(), [label], "{attributes}");
        let Some(LinkOutput::Refused { id, .. }) = ours.wants.first() else { panic!() };
        assert!(said.contains(&format!("fedgate {id} {label} ")), "{attributes}: {said}");
        assert!(!said.contains("imp-1") && !said.contains("192.0.2"), "nothing inside is named: {said}");
        assert!(ours.closed().is_some());
    }
    let mut ours = End::accepting(edge(NodeProof::Network, TlsMode::Optional));
    ours.feed(
        "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' to='lync.example'>",
    );
    assert!(ours.said().contains("<invalid-namespace "));
}

#[test]
fn a_node_is_known_by_its_sources() {
    let settings = Arc::new(edge(NodeProof::Network, TlsMode::Optional));
    for (peer, known) in [("192.0.2.7", true), ("::ffff:192.0.2.7", true), ("192.0.2.17", false), ("::1", false)] {
        let link = XmppLink::accept(settings.clone(), Side::Inside, peer.parse().unwrap(), [1; 32], now());
        let mut ours = End::new(link);
        ours.feed(HEADER);
        assert_eq!(ours.closed().is_none(), known, "{peer}");
        // Naming nobody in the header does not help.
        let mut ours =
            End::new(XmppLink::accept(settings.clone(), Side::Inside, peer.parse().unwrap(), [1; 32], now()));
        ours.feed(HEADER.replace("from='corp.example' ", ""));
        ours.feed("<db:result from='corp.example' to='lync.example'>x</db:result>");
        assert_eq!(ours.proven().len(), usize::from(known), "{peer}");
    }
}

#[test]
fn nothing_said_before_tls_is_read_after_it() {
    let mut ours = End::accepting(edge(NodeProof::Network, TlsMode::Required));
    ours.feed(HEADER).feed("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/><db:result from='corp.example'");
    assert!(!ours.said().contains("<proceed"));
    assert!(ours.closed().is_some());

    let mut ours = End::accepting(edge(NodeProof::Network, TlsMode::Required));
    ours.feed(HEADER).feed("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>").feed(HEADER);
    ours.input(LinkInput::TlsEstablished(None));
    assert!(ours.closed().is_some());

    let mut ours = End::opening(edge(NodeProof::Network, TlsMode::Required), "lync.example", "corp.example");
    ours.feed(server_header("id='1' version='1.0'"));
    ours.feed("<stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:features>");
    ours.feed("<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/><stream:features/>");
    assert!(ours.closed().unwrap().contains("before TLS"));
}

#[test]
fn tls_from_the_first_byte_is_tls() {
    let mut ours = End::accepting(edge(NodeProof::Network, TlsMode::Required));
    ours.input(LinkInput::TlsEstablished(None)).feed(HEADER);
    let features = ours.said();
    assert!(!features.contains("starttls") && features.contains("features:dialback"), "{features}");
    ours.feed("<db:result from='corp.example' to='lync.example'>x</db:result>");
    assert_eq!(ours.proven(), ["corp.example>lync.example"]);
}

#[test]
fn tls_comes_first_where_it_is_required() {
    let mut ours = End::accepting(edge(NodeProof::Network, TlsMode::Required));
    ours.feed(HEADER);
    let features = ours.said();
    assert!(features.contains("<required/>") && !features.contains("features:dialback"), "{features}");
    ours.feed("<db:result from='corp.example' to='lync.example'>x</db:result>");
    assert!(ours.said().contains("<policy-violation "));
    assert_eq!(ours.proven(), Vec::<String>::new());

    // COMPAT(prosody): asks for TLS where it was not offered.
    let mut ours = End::accepting(edge(NodeProof::Network, TlsMode::Off));
    ours.feed(HEADER);
    assert!(!ours.said().contains("starttls"));
    ours.feed("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>");
    assert_eq!(ours.said(), "<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:stream>");
    assert!(ours.closed().unwrap().contains("[inside] tls = \"off\""));
}

/// An edge that corp.example has proven itself to, towards lync.example.
fn proven() -> End {
    let mut ours = End::accepting(edge(NodeProof::Network, TlsMode::Optional));
    ours.feed(HEADER).feed("<db:result from='corp.example' to='lync.example'>x</db:result>");
    assert_eq!(ours.proven(), ["corp.example>lync.example"]);
    ours.said();
    ours
}

#[test]
fn stanzas_must_be_of_a_proven_pair() {
    let cases = [
        ("from='a@corp.example' to='b@lync.example'", None),
        ("from='corp.example' to='lync.example'", None),
        ("from='a@corp.example/r' to='@lync.example'", None),
        ("from='a@sub.corp.example' to='b@lync.example'", Some("invalid-from")),
        ("from='a@evil.example' to='b@lync.example'", Some("invalid-from")),
        ("from='@' to='b@lync.example'", Some("invalid-from")),
        ("to='b@lync.example'", Some("improper-addressing")),
        ("from='a@corp.example'", Some("improper-addressing")),
        ("from='a@corp.example' to='b@nowhere.example'", Some("host-unknown")),
    ];
    for (addresses, error) in cases {
        let mut ours = proven();
        ours.feed(format!("<message {addresses}/>"));
        assert_eq!(ours.stanzas().len(), usize::from(error.is_none()), "{addresses}");
        assert_eq!(ours.closed().is_some(), error.is_some(), "{addresses}");
        if let Some(error) = error {
            assert!(ours.said().contains(&format!("<{error} ")), "{addresses}");
        }
    }
}

const ENABLE: &str = "<enable xmlns='urn:xmpp:sm:3'/>";
const REQUEST: &str = "<r xmlns='urn:xmpp:sm:3'/>";
const MESSAGE: &str = "<message from='a@corp.example' to='b@lync.example'/>";
const UNEXPECTED: &str = "<failed xmlns='urn:xmpp:sm:3'><unexpected-request \
                          xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></failed>";

/// A proven stream whose server keeps count.
fn managed() -> End {
    let mut ours = proven();
    ours.feed(ENABLE);
    assert_eq!(ours.said(), "<enabled xmlns='urn:xmpp:sm:3'/>");
    ours
}

/// The gate acknowledges.
fn ack(handled: u32) -> LinkInput {
    LinkInput::Send(negotiation::ack(handled).print_on_stream().into(), None)
}

/// An edge under TLS, and what it offered.
fn under_tls(settings: Settings, header: &str) -> (End, String) {
    let mut ours = End::accepting(settings);
    ours.input(LinkInput::TlsEstablished(None)).feed(header);
    let said = ours.said();
    (ours, said)
}

#[test]
fn a_node_known_by_its_network_may_say_so_by_sasl() {
    let external = "<mechanism>EXTERNAL</mechanism>";
    let success = "<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>";
    let auth =
        |says: &str| format!("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'>{says}</auth>");
    // base64("corp.example"), and the header's word for it.
    for says in ["Y29ycC5leGFtcGxl", "="] {
        let (mut ours, features) = under_tls(edge(NodeProof::Network, TlsMode::Optional), HEADER);
        assert!(features.contains(external) && features.contains("features:dialback"), "{features}");
        assert!(!features.contains("urn:xmpp:sm:3"), "XEP-0198 §2: not before proof: {features}");
        ours.feed(auth(says));
        assert_eq!(ours.said(), success);
        assert!(ours.proven().is_empty(), "a new stream begins first");
        ours.feed(HEADER);
        let features = ours.said();
        assert!(features.contains("<stream:stream ") && !features.contains(external), "{features}");
        assert!(features.contains("<sm xmlns='urn:xmpp:sm:3'/>"), "{features}");
        assert_eq!(ours.proven(), ["corp.example>lync.example"]);
        ours.feed(ENABLE).feed(MESSAGE);
        assert_eq!(ours.said(), "<enabled xmlns='urn:xmpp:sm:3'/>");
        assert_eq!(ours.stanzas().len(), 1);
        // A second time it is not there.
        ours.feed(auth(says));
        assert!(ours.said().contains("<invalid-mechanism/>"));
    }

    // Where dialback would not believe the address, or there is no TLS, or the header does not say who speaks to whom, it is not offered.
    let nobody = HEADER.replace("from='corp.example' ", "");
    for (settings, header) in [
        (edge(NodeProof::Dialback, TlsMode::Optional), HEADER),
        (edge(NodeProof::Certificate, TlsMode::Optional), HEADER),
        (edge(NodeProof::Network, TlsMode::Optional), nobody.as_str()),
    ] {
        let (mut ours, features) = under_tls(settings, header);
        assert!(features.contains("features:dialback") && !features.contains(external), "{features}");
        ours.feed(auth("Y29ycC5leGFtcGxl"));
        assert!(ours.said().contains("<invalid-mechanism/>"));
        assert!(ours.proven().is_empty());
    }
    let mut ours = End::accepting(edge(NodeProof::Network, TlsMode::Optional));
    ours.feed(HEADER).feed(auth("="));
    assert!(ours.said().ends_with("<invalid-mechanism/></failure>"));

    // Whoever else is named is not believed, and may go on by dialback.
    for (says, condition) in [
        ("bHluYy5leGFtcGxl", "invalid-authzid"),
        ("Y29ycC5leGFtcGxlAA==", "invalid-authzid"),
        ("/w==", "invalid-authzid"),
        ("*", "incorrect-encoding"),
        ("", "malformed-request"),
    ] {
        let (mut ours, _) = under_tls(edge(NodeProof::Network, TlsMode::Optional), HEADER);
        ours.feed(auth(says));
        assert_eq!(ours.said(), format!("<failure xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><{condition}/></failure>"));
        assert!(ours.proven().is_empty());
        ours.feed("<db:result from='corp.example' to='lync.example'>x</db:result>");
        assert_eq!(ours.proven(), ["corp.example>lync.example"]);
    }

    // The stream behind it is for the same two.
    let mut two = edge(NodeProof::Network, TlsMode::Optional);
    Arc::make_mut(&mut two.policy).partners.change(|entries| entries.push(support::partner("aol.example")));
    for (from, to) in [("corp.example", "aol.example"), ("", "lync.example")] {
        let (mut ours, _) = under_tls(two.clone(), HEADER);
        ours.feed(auth("=")).said();
        let header = HEADER.replace("to='lync.example'", &format!("to='{to}'"));
        ours.feed(match from {
            "" => header.replace("from='corp.example' ", ""),
            _ => header,
        });
        assert!(ours.said().contains("<invalid-from "));
        assert!(ours.proven().is_empty() && ours.closed().is_some());
    }
    let (mut ours, _) = under_tls(edge(NodeProof::Network, TlsMode::Optional), HEADER);
    ours.feed(auth("=") + HEADER);
    assert!(ours.said().contains("<policy-violation ") && ours.proven().is_empty());
}

#[test]
fn stanzas_are_acknowledged_when_the_gate_says_so() {
    let mut ours = managed();
    // What came before <enable/>, and what is no stanza, does not count.
    ours.feed("<db:result from='corp.example' to='lync.example'>x</db:result>").said();
    ours.feed(MESSAGE).feed("<iq type='get' id='1' from='corp.example' to='lync.example'/>").feed(REQUEST);
    assert_eq!(ours.acks_asked(), [2]);
    assert_eq!(ours.said(), "", "the gate has not kept them yet");
    assert!(matches!(ours.wants.last(), Some(LinkOutput::AckAsked { .. })), "behind its stanzas");
    ours.input(ack(2));
    assert_eq!(ours.said(), "<a xmlns='urn:xmpp:sm:3' h='2'/>");

    // Asking and asking makes nothing grow: one answer is on its way, one more is behind it.
    ours.feed(MESSAGE).feed(REQUEST.repeat(1_000)).feed(MESSAGE).feed(REQUEST);
    assert_eq!(ours.acks_asked(), [2, 3]);
    ours.input(ack(3));
    assert_eq!(ours.acks_asked(), [2, 3, 4]);
    ours.input(ack(4));
    assert_eq!(ours.acks_asked(), [2, 3, 4]);
    assert_eq!(ours.said(), "<a xmlns='urn:xmpp:sm:3' h='3'/><a xmlns='urn:xmpp:sm:3' h='4'/>");

    // Nothing else of the gate's is written there.
    ours.input(LinkInput::Send("<message/>".into(), None));
    assert_eq!(ours.said(), "");
    // What Prosody says before it closes, and what says nothing at all.
    ours.feed("<a xmlns='urn:xmpp:sm:3' h='0'/><a xmlns='urn:xmpp:sm:3'/><a xmlns='urn:xmpp:sm:3' h='x'/>");
    assert!(ours.said().is_empty() && ours.closed().is_none());
}

#[test]
fn management_begins_once_and_on_a_proven_stream() {
    let mut ours = End::accepting(edge(NodeProof::Dialback, TlsMode::Off));
    ours.feed(HEADER).said();
    // XEP-0198 §6: recoverable.
    ours.feed(ENABLE);
    assert_eq!(ours.said(), UNEXPECTED);
    ours.feed("<resume xmlns='urn:xmpp:sm:3' previd='x' h='1'/>");
    assert_eq!(ours.said(), UNEXPECTED);
    assert!(ours.closed().is_none());
    for early in [REQUEST, "<a xmlns='urn:xmpp:sm:3' h='0'/>", "<enabled xmlns='urn:xmpp:sm:3'/>"] {
        let mut ours = End::accepting(edge(NodeProof::Dialback, TlsMode::Off));
        ours.feed(HEADER).feed(early);
        assert!(ours.said().contains("<not-authorized "), "{early}");
        assert_eq!(ours.refusals(), ["unproven"], "{early}");
    }
    // Nor for ever.
    let mut ours = End::accepting(edge(NodeProof::Dialback, TlsMode::Off));
    ours.feed(HEADER).feed(ENABLE.repeat(100));
    assert!(ours.closed().is_some());
    let mut ours = End::accepting(edge(NodeProof::Network, TlsMode::Required));
    ours.feed(HEADER).feed(ENABLE);
    assert!(ours.said().contains("<policy-violation "));

    let mut ours = proven();
    ours.feed(REQUEST);
    assert_eq!(ours.said(), UNEXPECTED);
    ours.feed("<resume xmlns='urn:xmpp:sm:3' previd='x' h='1'/>");
    let not_found = UNEXPECTED.replace("unexpected-request", "item-not-found");
    assert_eq!(ours.said(), not_found);
    // What is asked for beyond is not granted.
    ours.feed(MESSAGE).feed("<enable xmlns='urn:xmpp:sm:3' resume='true' max='600'/>");
    assert_eq!(ours.said(), "<enabled xmlns='urn:xmpp:sm:3'/>");
    ours.feed(MESSAGE).feed(ENABLE).feed(REQUEST);
    assert_eq!(ours.said(), UNEXPECTED);
    assert_eq!(ours.acks_asked(), [1], "the count goes on");
    ours.feed("<enable xmlns='urn:xmpp:sm:2'/>");
    assert!(ours.said().contains("<unsupported-stanza-type "), "another version was never offered");
}

#[test]
fn what_was_handled_is_acknowledged_before_we_end_the_stream() {
    let mut ours = managed();
    ours.feed(MESSAGE).input(LinkInput::Close(None));
    assert_eq!((ours.said().as_str(), ours.acks_asked().as_slice()), ("", [1].as_slice()));
    ours.feed(MESSAGE);
    assert_eq!(ours.stanzas().len(), 2, "what was under way is still taken");
    ours.input(ack(1)).input(ack(2));
    assert_eq!(ours.said(), "<a xmlns='urn:xmpp:sm:3' h='1'/></stream:stream>");
    ours.feed("</stream:stream>");
    assert!(ours.closed().is_some());

    // Behind an acknowledgement on its way.
    let mut ours = managed();
    ours.feed(REQUEST).feed(MESSAGE).input(LinkInput::Close(None)).input(ack(0)).input(ack(1));
    assert_eq!(ours.acks_asked(), [0, 1]);
    assert_eq!(ours.said(), "<a xmlns='urn:xmpp:sm:3' h='0'/><a xmlns='urn:xmpp:sm:3' h='1'/></stream:stream>");

    // The gate does not come to it: neither the peer's end nor ours waits.
    let mut ours = managed();
    ours.input(LinkInput::Close(None)).feed("</stream:stream>");
    assert_eq!(ours.said(), "</stream:stream>");
    assert!(ours.closed().is_some());
    let mut ours = managed();
    ours.input(LinkInput::Close(None)).at(now() + Duration::from_secs(5), LinkInput::Timeout);
    assert_eq!(ours.said(), "</stream:stream>");
    assert!(ours.closed().is_some());
}

#[test]
fn a_pair_is_proven_one_way_and_for_itself() {
    let mut settings = edge(NodeProof::Network, TlsMode::Off);
    Arc::make_mut(&mut settings.policy).partners.change(|entries| entries.push(support::partner("aol.example")));
    let mut ours = End::accepting(settings);
    ours.feed(HEADER).feed("<db:result from='corp.example' to='lync.example'>x</db:result>");
    ours.feed("<message from='a@corp.example' to='b@aol.example'/>");
    assert!(ours.said().contains("<invalid-from "));
    assert!(ours.stanzas().is_empty());
}

#[test]
fn answers_that_nobody_asked_for_are_nothing() {
    let mut ours = End::accepting(edge(NodeProof::Dialback, TlsMode::Off));
    ours.feed(HEADER);
    ours.feed("<db:result from='corp.example' to='lync.example' type='valid'/>");
    ours.feed("<db:verify from='corp.example' to='lync.example' id='1' type='valid'/>");
    assert!(ours.proven().is_empty() && ours.closed().is_none());
    ours.feed("<message from='a@corp.example' to='b@lync.example'/>");
    assert!(ours.said().contains("<not-authorized "));
    assert!(ours.stanzas().is_empty());

    // Nor does a verdict about another question help.
    let mut ours = End::accepting(edge(NodeProof::Dialback, TlsMode::Off));
    ours.feed(HEADER).feed("<db:result from='corp.example' to='lync.example'>k</db:result>");
    let mut question = ours.questions().remove(0);
    question.key = "other".into();
    ours.input(LinkInput::Verified(question, Verdict::Valid));
    assert!(ours.proven().is_empty());
}

/// What a server answers our header with.
fn server_header(extra: &str) -> String {
    format!(
        "<?xml version='1.0'?><stream:stream xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams' \
         xmlns:db='jabber:server:dialback' from='corp.example' to='lync.example' {extra}>"
    )
}

fn expected_key(id: &str) -> String {
    let secrets = edge(NodeProof::Network, TlsMode::Off).secrets;
    dialback::issue(&secrets, &domain("corp.example"), &domain("lync.example"), id).unwrap()
}

#[test]
fn on_our_own_streams_only_the_answer_to_our_question_counts() {
    let forged = [
        "<db:result from='evil.example' to='lync.example' type='valid'/>",
        "<db:result from='corp.example' to='evil.example' type='valid'/>",
        "<db:result to='lync.example' type='valid'/>",
        "<db:result from='corp.example' to='lync.example'>key</db:result>",
        "<db:verify from='corp.example' to='lync.example' id='1' type='valid'/>",
    ];
    let mut ours = End::opening(edge(NodeProof::Network, TlsMode::Off), "lync.example", "corp.example");
    ours.feed(server_header("id='n1' version='1.0'"));
    ours.feed("<stream:features><dialback xmlns='urn:xmpp:features:dialback'/></stream:features>");
    assert!(
        ours.said()
            .ends_with(&format!("<db:result from='lync.example' to='corp.example'>{}</db:result>", expected_key("n1")))
    );
    for answer in forged {
        ours.feed(answer);
        assert!(ours.proven().is_empty(), "{answer}");
    }
    ours.feed("<db:result from='corp.example' to='lync.example' type='valid'/>");
    assert_eq!(ours.proven(), ["lync.example>corp.example!"]);
    // Without XEP-0288 nothing comes back on it.
    ours.feed("<message from='a@corp.example' to='b@lync.example'/>");
    assert!(ours.stanzas().is_empty());
    assert!(ours.said().contains("<not-authorized "));
}

#[test]
fn a_verdict_is_for_the_stream_that_was_asked_about() {
    let request = VerifyRequest {
        originating: domain("corp.example"),
        receiving: domain("lync.example"),
        stream_id: "s1".into(),
        key: "k".into(),
    };
    let settings = Arc::new(edge(NodeProof::Dialback, TlsMode::Off));
    let mut asking = End::new(XmppLink::verify(settings, Side::Inside, request, false, [1; 32], now()));
    asking.feed(server_header("id='1'"));
    assert!(asking.said().ends_with("<db:verify from='lync.example' to='corp.example' id='s1'>k</db:verify>"));
    for forged in [
        "<db:verify from='corp.example' to='lync.example' id='s2' type='valid'/>",
        "<db:verify from='corp.example' to='lync.example' type='valid'/>",
        "<db:verify from='evil.example' to='lync.example' id='s1' type='valid'/>",
        "<db:result from='corp.example' to='lync.example' id='s1' type='valid'/>",
    ] {
        asking.feed(forged);
        assert!(asking.wants.is_empty(), "{forged}");
    }
    asking.feed("<db:verify from='corp.example' to='lync.example' id='s1' type='invalid'/>");
    assert!(matches!(asking.wants[..], [LinkOutput::VerifyDone(_, Verdict::Invalid), LinkOutput::Close { .. }]));
}

#[test]
fn one_stream_has_only_so_many_pairs() {
    let mut settings = edge(NodeProof::Network, TlsMode::Off);
    let many = DomainPattern::Under(domain("many.example"));
    Arc::make_mut(&mut settings.policy)
        .partners
        .change(|entries| entries.push(Partner { domain: many, ..support::partner("many.example") }));
    let mut ours = End::accepting(settings);
    ours.feed(HEADER);
    for i in 0..=PAIRS_PER_STREAM {
        ours.feed(format!("<db:result from='corp.example' to='p{i}.many.example'>k</db:result>"));
    }
    assert_eq!(ours.proven().len(), PAIRS_PER_STREAM);
    assert!(ours.said().contains("type='error'><error type='wait'><resource-constraint "));
    assert!(ours.closed().is_none());
}

#[test]
fn a_pair_is_asked_about_once_at_a_time() {
    let mut ours = End::accepting(edge(NodeProof::Dialback, TlsMode::Off));
    ours.feed(HEADER);
    for key in ["k", "k", "l"] {
        ours.feed(format!("<db:result from='corp.example' to='lync.example'>{key}</db:result>"));
    }
    assert_eq!(ours.questions().len(), 1);
}

#[test]
fn a_node_to_be_known_by_certificate_is_not_known_otherwise() {
    let mut ours = End::accepting(edge(NodeProof::Certificate, TlsMode::Optional));
    ours.feed(HEADER).feed("<db:result from='corp.example' to='lync.example'>k</db:result>");
    assert!(ours.said().contains("type='error'><error type='cancel'><not-authorized "));
    assert!(ours.proven().is_empty() && ours.questions().is_empty());
    assert_eq!(ours.refusals(), ["unproven"]);
}

#[test]
fn the_key_is_for_the_stream_behind_tls() {
    let mut ours = End::opening(edge(NodeProof::Network, TlsMode::Optional), "lync.example", "corp.example");
    ours.feed(server_header("id='before' version='1.0'"));
    ours.feed("<stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:features>");
    ours.feed("<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>");
    ours.input(LinkInput::TlsEstablished(None));
    ours.said();
    ours.feed(server_header("id='behind' version='1.0'"));
    ours.feed("<stream:features><dialback xmlns='urn:xmpp:features:dialback'/></stream:features>");
    assert!(ours.said().contains(&expected_key("behind")));
}

#[test]
fn external_is_tried_before_dialback() {
    let to_tls_with = |dialback_ns: &str, dialback: &str| {
        let header = |id: &str| {
            server_header(&format!("id='{id}' version='1.0'")).replace("xmlns:db='jabber:server:dialback'", dialback_ns)
        };
        let mut ours = End::opening(edge(NodeProof::Network, TlsMode::Optional), "lync.example", "corp.example");
        ours.feed(header("1"));
        ours.feed("<stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:features>");
        ours.feed("<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>");
        ours.input(LinkInput::TlsEstablished(None));
        ours.feed(header("2"));
        ours.feed(format!(
            "<stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>EXTERNAL</mechanism>\
             </mechanisms>{dialback}</stream:features>"
        ));
        let said = ours.said();
        // base64("lync.example")
        assert!(said.ends_with("mechanism='EXTERNAL'>bHluYy5leGFtcGxl</auth>"), "{said}");
        ours
    };
    let to_tls = || {
        to_tls_with(
            "xmlns:db='jabber:server:dialback'",
            "<dialback xmlns='urn:xmpp:features:dialback'><errors/></dialback>",
        )
    };
    let mut ours = to_tls();
    ours.feed("<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>");
    assert!(ours.said().contains("<stream:stream "), "a new stream begins");
    ours.feed(server_header("id='3' version='1.0'"));
    assert!(ours.proven().is_empty(), "the stream is open with its features");
    ours.feed("<stream:features/>");
    assert_eq!(ours.proven(), ["lync.example>corp.example!"]);

    // COMPAT(ejabberd): EXTERNAL fails, dialback follows on the same stream.
    let mut ours = to_tls();
    ours.feed("<failure xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><not-authorized/></failure>");
    assert!(ours.said().contains(&expected_key("2")));
    ours.feed("<db:result from='corp.example' to='lync.example' type='valid'/>");
    assert_eq!(ours.proven(), ["lync.example>corp.example!"]);

    // Nothing is left to try.
    let mut ours = to_tls_with("xmlns:nothing='urn:x'", "");
    ours.feed("<failure xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><not-authorized/><text>no\nway</text></failure>");
    assert!(ours.closed().unwrap().contains("SASL not-authorized (no way)"), "{:?}", ours.closed());

    // A certificate can't have been seen without TLS.
    let mut ours = End::opening(edge(NodeProof::Network, TlsMode::Off), "lync.example", "corp.example");
    ours.feed(server_header("id='1' version='1.0'"));
    ours.feed(
        "<stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>EXTERNAL</mechanism>\
         </mechanisms></stream:features>",
    );
    assert!(ours.said().contains("<db:result "));

    // Success for what was never begun proves nothing.
    let mut ours = End::opening(edge(NodeProof::Network, TlsMode::Off), "lync.example", "corp.example");
    ours.feed(server_header("id='1' version='1.0'"));
    ours.feed("<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>");
    assert!(ours.proven().is_empty() && ours.closed().is_some());
}

#[test]
fn a_server_from_before_1_0_gets_dialback_at_once() {
    let mut ours = End::opening(edge(NodeProof::Network, TlsMode::Optional), "lync.example", "corp.example");
    ours.said();
    ours.feed(server_header("id='old'"));
    assert!(ours.said().contains(&expected_key("old")));
    let mut ours = End::opening(edge(NodeProof::Network, TlsMode::Required), "lync.example", "corp.example");
    ours.feed(server_header("id='old'"));
    assert!(ours.closed().unwrap().contains("before 1.0"));
}

#[test]
fn links_do_not_wait_for_ever() {
    let later = |link: &End| link.link.poll_timeout().unwrap();
    let mut ours = End::accepting(edge(NodeProof::Dialback, TlsMode::Off));
    assert_eq!(later(&ours), now() + Duration::from_secs(30));
    ours.feed(HEADER).feed("<db:result from='corp.example' to='lync.example'>k</db:result>");
    ours.at(now() + Duration::from_secs(29), LinkInput::Timeout);
    assert!(ours.closed().is_none());
    ours.at(now() + Duration::from_secs(30), LinkInput::Timeout);
    assert!(ours.said().contains("<connection-timeout "));
    assert_eq!(ours.refusals(), ["unproven"]);
    assert_eq!(ours.link.poll_timeout(), None);

    // A stream that only asked about a key is no refusal.
    let mut ours = End::accepting(edge(NodeProof::Dialback, TlsMode::Off));
    ours.feed(HEADER).feed("<db:verify from='corp.example' to='lync.example' id='1'>k</db:verify>");
    ours.at(now() + Duration::from_secs(30), LinkInput::Timeout);
    assert!(ours.closed().is_some());
    assert_eq!(ours.refusals(), Vec::<&str>::new());

    // A proven stream is kept alive.
    let mut ours = proven();
    let due = later(&ours);
    assert_eq!(due, now() + Duration::from_secs(300));
    ours.at(due, LinkInput::Timeout);
    assert_eq!(ours.said(), " ");
    assert_eq!(later(&ours), due + Duration::from_secs(300));

    // A question is given up before whoever waits for it is.
    let request = VerifyRequest {
        originating: domain("corp.example"),
        receiving: domain("lync.example"),
        stream_id: "1".into(),
        key: "k".into(),
    };
    let settings = Arc::new(edge(NodeProof::Dialback, TlsMode::Off));
    let mut asking = End::new(XmppLink::verify(settings, Side::Inside, request, false, [1; 32], now()));
    let due = later(&asking);
    assert!(due < now() + Duration::from_secs(30));
    asking.at(due, LinkInput::Timeout);
    assert!(matches!(asking.wants[..], [LinkOutput::VerifyDone(_, Verdict::Error), LinkOutput::Close { .. }]));
}

#[test]
fn a_stream_ends_politely() {
    let mut ours = proven();
    ours.input(LinkInput::Close(None));
    assert_eq!(ours.said(), "</stream:stream>");
    assert!(ours.closed().is_none(), "what was under way is still taken");
    ours.feed("<message from='a@corp.example' to='b@lync.example'/>");
    assert_eq!(ours.stanzas().len(), 1);
    ours.feed("</stream:stream>");
    assert!(ours.closed().is_some());
    assert_eq!(ours.said(), "");

    // Behind our end nothing is written, not even an error.
    for wrong in ["<message/>", "<!-- x -->", "text", "<stream:error/>"] {
        let mut ours = proven();
        ours.input(LinkInput::Close(None)).said();
        ours.feed(wrong);
        assert!(ours.closed().is_some(), "{wrong}");
        assert_eq!(ours.said(), "", "{wrong}");
    }

    let mut ours = proven();
    ours.feed("</stream:stream>");
    assert_eq!(ours.said(), "</stream:stream>");
    assert!(ours.closed().is_some());

    let mut ours = proven();
    ours.input(LinkInput::Close(Some((StreamError::SystemShutdown, "bye".into()))));
    let said = ours.said();
    assert!(said.contains("<system-shutdown ") && said.contains(">bye</text>") && said.ends_with("</stream:stream>"));

    let mut ours = proven();
    ours.input(LinkInput::Eof);
    assert!(ours.closed().is_some());
    ours.feed("<message from='a@corp.example' to='b@lync.example'/>")
        .input(LinkInput::Eof)
        .input(LinkInput::Close(None));
    assert!(ours.stanzas().is_empty());

    let mut ours = proven();
    ours.input(LinkInput::Close(None));
    ours.at(now() + Duration::from_secs(5), LinkInput::Timeout);
    assert!(ours.closed().is_some());
}

#[test]
fn prefixes_of_the_header_hold_for_its_children() {
    let mut ours = End::accepting(edge(NodeProof::Network, TlsMode::Off));
    ours.feed(
        "<stream xmlns='http://etherx.jabber.org/streams' xmlns:s='jabber:server' xmlns:d='jabber:server:dialback' \
         xmlns:x='urn:x' from='corp.example' to='lync.example' version='1.0'>",
    );
    ours.feed("<d:result from='corp.example' to='lync.example'/>");
    ours.feed("<s:message from='a@corp.example' to='b@lync.example'><s:body x:y='1'>hi</s:body></s:message>");
    let stanzas = ours.stanzas();
    // On another stream those prefixes mean nothing.
    assert_eq!(
        stanzas[0].raw,
        "<message from='a@corp.example' to='b@lync.example'><body xmlns:x='urn:x' x:y='1'>hi</body></message>"
    );
    ours.feed("</stream>");
    assert!(ours.closed().is_some());
}

#[test]
fn ids_come_from_the_entropy_alone() {
    let open = |entropy| {
        let settings = Arc::new(edge(NodeProof::Network, TlsMode::Off));
        let mut ours = End::new(XmppLink::accept(settings, Side::Inside, NODE_IP, entropy, Time::default()));
        ours.feed(HEADER);
        ours.said()
    };
    assert_eq!(open([1; 32]), open([1; 32]));
    assert_ne!(open([1; 32]), open([2; 32]));
}

mod acknowledged {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Each number the gate is asked to acknowledge is that of the stanzas handed to it before.
        #[test]
        fn the_count_is_that_of_the_stanzas(
            before in 0..3_usize,
            parts in prop::collection::vec(prop::sample::select(vec![
                MESSAGE, "<presence from='a@corp.example' to='b@lync.example'/>",
                "<iq type='set' id='1' from='a@corp.example' to='b@lync.example'><r xmlns='urn:xmpp:sm:3'/></iq>",
                REQUEST, "answer", " ", "<a xmlns='urn:xmpp:sm:3' h='7'/>", ENABLE,
                "<db:result from='corp.example' to='lync.example'>x</db:result>",
            ]), 0..60),
            chunk in 1..200_usize,
        ) {
            let mut ours = proven();
            ours.feed(MESSAGE.repeat(before)).feed(ENABLE).said();
            for part in parts {
                match part {
                    "answer" => {
                        if let Some(handled) = ours.acks_asked().last() {
                            ours.input(ack(*handled));
                        }
                    }
                    bytes => bytes.as_bytes().chunks(chunk).for_each(|bytes| {
                        ours.feed(bytes);
                    }),
                }
            }
            let mut stanzas = 0;
            for want in &ours.wants {
                match want {
                    LinkOutput::Stanza(_) => stanzas += 1,
                    LinkOutput::AckAsked { handled } => prop_assert_eq!(*handled as usize, stanzas - before),
                    _ => {}
                }
            }
            prop_assert!(ours.closed().is_none());
        }
    }
}

mod hostile {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn nothing_panics_and_nothing_is_proven_by_noise(
            parts in prop::collection::vec(prop::sample::select(vec![
                HEADER, "<stream:features/>",
                "<stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:features>",
                "<stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>EXTERNAL</mechanism>\
                 </mechanisms></stream:features>",
                "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>",
                "<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>", "<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>",
                "<failure xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>",
                "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'>=</auth>", ENABLE, REQUEST,
                "<resume xmlns='urn:xmpp:sm:3'/>", "<a xmlns='urn:xmpp:sm:3'/>",
                "<db:result from='corp.example' to='lync.example'>k</db:result>",
                "<db:result from='corp.example' to='lync.example' type='valid'/>", "<db:verify/>", "<db:result/>",
                "<message from='a@corp.example' to='b@lync.example'/>", "</stream:stream>", "<stream:error/>", "\u{0}", "<", " ",
            ]), 0..12),
            opened in any::<bool>(),
            begun in prop::bool::weighted(0.9),
        ) {
            let mut ours = if opened {
                End::opening(edge(NodeProof::Network, TlsMode::Optional), "evil.example", "corp.example")
            } else {
                End::accepting(edge(NodeProof::Dialback, TlsMode::Optional))
            };
            let header = server_header("id='1' version='1.0'");
            for part in begun.then_some(header.as_str()).into_iter().chain(parts) {
                ours.feed(part);
                if matches!(ours.wants.last(), Some(LinkOutput::StartTls { .. })) {
                    ours.input(LinkInput::TlsEstablished(None));
                }
            }
            prop_assert!(ours.proven().is_empty());
            prop_assert!(ours.stanzas().is_empty());
        }
    }
}
