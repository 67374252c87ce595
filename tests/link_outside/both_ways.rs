//! Streams that carry stanzas both ways (XEP-0288).

use crate::stand::*;
use crate::support::End;
use fedgate::gate::link::{LinkInput, LinkOutput, Verdict};
use fedgate::gate::partner::TlsMode;

fn both_ways(ours: &End) -> Vec<bool> {
    let all = ours.wants.iter().filter_map(|want| match want {
        LinkOutput::Proven { both_ways, .. } => Some(*both_ways),
        _ => None,
    });
    all.collect()
}

/// What they send is not from us: TO_THEM goes out on a stream that they opened.
fn send(ours: &mut End) -> String {
    ours.said();
    ours.input(LinkInput::Send(TO_THEM.into(), None));
    ours.said()
}

#[test]
fn a_peer_that_wants_it_gets_stanzas_on_its_own_stream() {
    for wanted in [true, false] {
        let bidi = if wanted { BIDI } else { "" };
        // By SASL: agreed on before the stream begins anew.
        let mut ours =
            under_tls(edge(TlsMode::Required, CERTIFICATE), Some(certificate(THEIRS)), &header(THEIRS, OURS));
        ours.feed(bidi).feed(auth("=")).feed(header(THEIRS, OURS));
        assert_eq!(both_ways(&ours), [wanted]);
        assert!(!ours.said().contains("urn:xmpp:features:bidi'/><sm"), "not offered any more");
        assert_eq!(send(&mut ours) == TO_THEM, wanted);
        // By dialback.
        let mut ours = under_tls(edge(TlsMode::Required, EITHER), None, &header(THEIRS, OURS));
        ours.feed(bidi).feed(key(THEIRS, OURS, "k"));
        assert_eq!(send(&mut ours), "", "nobody is proven yet");
        verdict(&mut ours, Verdict::Valid);
        assert_eq!(both_ways(&ours), [wanted]);
        assert_eq!(send(&mut ours) == TO_THEM, wanted);
        // What it sends is judged as ever.
        ours.feed("<message from='b@corp.example' to='a@foreign.example'/>");
        assert!(ours.stanzas().is_empty());
        assert_refused(&mut ours, "invalid-from", "unproven");
    }
}

#[test]
fn it_is_agreed_on_under_tls_before_proof_or_not_at_all() {
    // COMPAT(ejabberd): says it the moment it sees it, so that it does not see it before TLS.
    let mut ours = accepting(edge(TlsMode::Optional, EITHER));
    ours.feed(header(THEIRS, OURS));
    assert!(!ours.said().contains("bidi"));
    ours.feed(BIDI);
    assert_refused(&mut ours, "not-authorized", "unproven");
    let mut ours = proven_by_sasl();
    ours.feed(BIDI);
    assert_refused(&mut ours, "unsupported-stanza-type", "unsupported");
    let mut ours = under_tls(edge(TlsMode::Required, EITHER), None, &header(THEIRS, OURS));
    ours.feed(key(THEIRS, OURS, "k")).feed(BIDI);
    verdict(&mut ours, Verdict::Valid);
    assert!(ours.proven().is_empty());
    // What was agreed on before TLS is forgotten with all the rest.
    let mut ours = under_tls(edge(TlsMode::Required, CERTIFICATE), Some(certificate(THEIRS)), &header(THEIRS, OURS));
    ours.feed(BIDI).feed(BIDI);
    assert!(ours.closed().is_none(), "twice is once");
}

/// A stream of ours to foreign.example, which offers both ways and proves itself by its certificate.
fn opened(offered: &[&str], after: &[&str]) -> End {
    let mut ours = opening_by(edge(TlsMode::Required, CERTIFICATE), true);
    ours.input(LinkInput::TlsEstablished(Some(certificate(THEIRS)))).said();
    ours.feed(answer("1")).feed(features(offered));
    let said = ours.said();
    assert_eq!(said.starts_with(BIDI), offered.contains(&"bidi"), "before SASL: {said}");
    ours.feed(SUCCESS).feed(answer("2")).feed(features(after));
    ours
}

#[test]
fn on_a_stream_of_ours_the_reversed_pair_is_taken() {
    let mut ours = opened(&["external", "bidi"], &[]);
    assert_eq!(both_ways(&ours), [true]);
    ours.feed(FROM_THEM);
    assert_eq!(ours.stanzas()[0].raw, FROM_THEM);
    for (addresses, condition) in [
        ("from='a@friend.example' to='b@corp.example'", "invalid-from"),
        ("from='a@sub.foreign.example' to='b@corp.example'", "invalid-from"),
        ("from='b@corp.example' to='a@foreign.example'", "invalid-from"),
        ("from='a@foreign.example' to='b@lab.example'", "host-unknown"),
        ("from='a@foreign.example' to='b@friend.example'", "host-unknown"),
        ("to='b@corp.example'", "improper-addressing"),
        ("from='a@foreign.example'", "improper-addressing"),
    ] {
        let mut ours = opened(&["external", "bidi"], &[]);
        ours.feed(format!("<message {addresses}/>"));
        assert!(ours.stanzas().is_empty() && ours.closed().is_some(), "{addresses}");
        assert!(ours.said().contains(&format!("<{condition} ")), "{addresses}");
    }
    // Where nobody agreed on it, one direction is one stream.
    let mut ours = opened(&["external"], &[]);
    assert_eq!(both_ways(&ours), [false]);
    ours.feed(FROM_THEM);
    assert!(ours.stanzas().is_empty() && ours.said().contains("<not-authorized "));
    // Nor before TLS.
    let mut ours = opening(edge(TlsMode::Optional, EITHER));
    ours.feed(answer("1")).feed(features(&["dialback", "bidi"]));
    assert!(!ours.said().contains("bidi"));
    ours.feed("<db:result from='foreign.example' to='corp.example' type='valid'/>");
    assert_eq!(both_ways(&ours), [false]);
}

#[test]
fn whoever_speaks_before_it_has_agreed_to_acknowledge_is_heard() {
    let mut ours = opened(&["external", "bidi"], &["sm"]);
    assert!(ours.proven().is_empty(), "<enabled/> is awaited");
    ours.feed(FROM_THEM).feed("<enabled xmlns='urn:xmpp:sm:3'/>");
    assert_eq!(ours.stanzas().len(), 1);
    assert!(matches!(
        ours.wants[..],
        [LinkOutput::Proven { both_ways: true, managed: false, .. }, LinkOutput::Stanza(_)]
    ));
    // As large a one as any.
    let mut ours = opened(&["external", "bidi"], &["sm"]);
    ours.feed(FROM_THEM.replace("hi", &"x".repeat(50_000)));
    assert_eq!(ours.stanzas().len(), 1);
    let mut ours = opened(&["external"], &["sm"]);
    ours.feed(FROM_THEM);
    assert!(ours.stanzas().is_empty() && ours.proven().is_empty() && ours.closed().is_some());
}

#[test]
fn what_comes_back_is_acknowledged_too() {
    let mut ours = opened(&["external", "bidi"], &["sm"]);
    ours.feed("<enabled xmlns='urn:xmpp:sm:3'/>").said();
    ours.feed(FROM_THEM).feed(FROM_THEM).feed("<r xmlns='urn:xmpp:sm:3'/>");
    assert_eq!(ours.acks_asked(), [2]);
    ours.input(LinkInput::Send("<a xmlns='urn:xmpp:sm:3' h='2'/>".into(), None));
    assert_eq!(ours.said(), "<a xmlns='urn:xmpp:sm:3' h='2'/>");
    // Nobody asked for this one.
    ours.input(LinkInput::Send("<a xmlns='urn:xmpp:sm:3' h='2'/>".into(), None));
    assert_eq!(ours.said(), "");
    // Before our end, what was taken is acknowledged.
    ours.feed(FROM_THEM).input(LinkInput::Close(None));
    assert_eq!((ours.acks_asked(), ours.said()), (vec![2, 3], String::new()));
    ours.input(LinkInput::Send("<a xmlns='urn:xmpp:sm:3' h='3'/>".into(), None));
    assert_eq!(ours.said(), "<a xmlns='urn:xmpp:sm:3' h='3'/></stream:stream>");
}
