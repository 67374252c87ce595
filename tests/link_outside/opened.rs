//! Streams that we open to a partner's server.

use crate::stand::*;
use crate::support::{End, converse_as, domain, now};
use fedgate::gate::Side;
use fedgate::gate::link::{LinkInput, LinkOutput, Verdict, VerifyRequest, XmppLink, dialback};
use fedgate::gate::partner::TlsMode;
use std::sync::Arc;

const VALID: &str = "<db:result from='foreign.example' to='corp.example' type='valid'/>";
const NOT_AUTHORIZED: &str = "<failure xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><not-authorized/></failure>";

/// Past TLS, their certificate good.
fn behind_tls(offered: &[&str]) -> End {
    let mut ours = opening(edge(TlsMode::Required, CERTIFICATE));
    ours.feed(answer("1")).feed(features(&["required"])).feed(PROCEED);
    ours.input(LinkInput::TlsEstablished(Some(certificate(THEIRS)))).said();
    ours.feed(answer("2")).feed(features(offered));
    ours
}

fn our_key(id: &str) -> String {
    dialback::issue(&edge(TlsMode::Off, DIALBACK).secrets, &domain(THEIRS), &domain(OURS), id).unwrap()
}

#[test]
fn sasl_first_and_dialback_when_it_fails() {
    // COMPAT(prosody), COMPAT(ejabberd): features of every kind in any order, an empty list of mechanisms among them.
    let mut ours = behind_tls(&["bidi", "dialback", "external"]);
    // base64("corp.example")
    assert!(ours.said().ends_with("mechanism='EXTERNAL'>Y29ycC5leGFtcGxl</auth>"));
    ours.feed(SUCCESS);
    assert!(ours.said().contains("<stream:stream ") && ours.proven().is_empty());
    ours.feed(answer("3")).feed(features(&[]));
    assert_eq!(ours.proven(), ["corp.example>foreign.example!"]);

    let mut ours = behind_tls(&["external", "dialback"]);
    ours.feed(NOT_AUTHORIZED);
    assert!(ours.said().contains(&our_key("2")));
    ours.feed(VALID);
    assert_eq!(ours.proven(), ["corp.example>foreign.example!"]);

    // COMPAT(prosody): some end the stream instead.
    let mut ours = behind_tls(&["external", "dialback"]);
    ours.feed(format!("{NOT_AUTHORIZED}</stream:stream>"));
    assert!(ours.closed().is_some() && ours.proven().is_empty() && !ours.is_unproven());

    for offered in [&["empty", "dialback"][..], &["dialback"], &[]] {
        let mut ours = behind_tls(offered);
        assert!(ours.said().contains(&our_key("2")), "the header's namespace says it, too");
    }
}

#[test]
fn tls_from_the_first_byte() {
    let mut ours = opening_by(edge(TlsMode::Required, CERTIFICATE), true);
    assert_eq!(ours.said(), "", "nothing is said in the clear");
    assert!(ours.wants.is_empty());
    ours.input(LinkInput::TlsEstablished(Some(certificate(THEIRS))));
    assert!(ours.said().contains("from='corp.example' to='foreign.example'"));
    ours.feed(answer("1")).feed(features(&["starttls", "external"]));
    assert!(!ours.said().contains("starttls"));
    ours.feed(SUCCESS).feed(answer("2")).feed(features(&[]));
    assert_eq!(ours.proven(), ["corp.example>foreign.example!"]);
    assert!(evidence(&ours)[0].tls);
    let mut ours = opening_by(edge(TlsMode::Required, CERTIFICATE), true);
    ours.at(now() + std::time::Duration::from_secs(30), LinkInput::Timeout);
    assert!(ours.closed().unwrap().contains("handshake") && ours.said().is_empty());
}

#[test]
fn refusals_say_what_to_mend() {
    let cause = |tls, proof, answer: String, offered: &str| {
        let mut ours = opening(edge(tls, proof));
        ours.feed(answer).feed(offered);
        ours.closed().map(str::to_owned).unwrap_or_default()
    };
    let closed = cause(TlsMode::Off, DIALBACK, answer("1"), &features(&["required", "dialback"]));
    assert!(closed.contains("the [[partner]] at test:1 has tls = \"off\": set \"optional\""), "{closed}");
    let closed = cause(TlsMode::Required, EITHER, answer("1"), &features(&["dialback"]));
    assert!(closed.contains("offers no TLS, but the [[partner]] at test:1 has tls = \"required\""), "{closed}");
    let closed = cause(TlsMode::Off, DIALBACK, answer(""), "");
    assert!(closed.contains("no id"), "{closed}");
    let closed = cause(TlsMode::Off, DIALBACK, header(THEIRS, OURS).replace("'jabber:server'", "'jabber:client'"), "");
    assert!(closed.contains("does not speak server-to-server"), "{closed}");
    let error = "<stream:error><host-unknown xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>";
    let closed = cause(TlsMode::Required, EITHER, answer("1"), error);
    assert!(closed.contains("host-unknown") && closed.contains("`next_hop`"), "{closed}");
    let mut unlisted = edge(TlsMode::Required, EITHER);
    Arc::make_mut(&mut unlisted.policy).partners.change(Vec::clear);
    let mut ours = opening(unlisted);
    ours.feed(answer("1")).feed(features(&["starttls"]));
    assert!(ours.closed().unwrap().contains("no [[partner]] entry"));
}

/// corp.example connects to foreign.example; each is an edge with a certificate of its own.
fn meet(tls: TlsMode, proof: &'static [fedgate::gate::partner::Proof], direct: bool, chunk: usize) -> (End, End) {
    let mut ours = opening_by(edge(tls, proof), direct);
    let mut theirs = accepting(their_edge(tls, proof));
    let (own, other) = (certificate(OURS), certificate(THEIRS));
    if direct {
        ours.input(LinkInput::TlsEstablished(Some(other.clone())));
        theirs.input(LinkInput::TlsEstablished(Some(own.clone())));
    }
    converse_as((&mut ours, Some(&own)), (&mut theirs, Some(&other)), chunk);
    for question in theirs.questions() {
        let verdict = ask(question.clone(), tls, proof, chunk);
        theirs.input(LinkInput::Verified(question, verdict));
    }
    converse_as((&mut ours, Some(&own)), (&mut theirs, Some(&other)), chunk);
    (ours, theirs)
}

/// Their edge asks ours on a stream of its own.
fn ask(request: VerifyRequest, tls: TlsMode, proof: &[fedgate::gate::partner::Proof], chunk: usize) -> Verdict {
    let settings = Arc::new(their_edge(tls, proof));
    let mut asking = End::new(XmppLink::verify(settings, Side::Outside, request.clone(), false, [9; 32], now()));
    let mut answering = accepting(edge(tls, proof));
    converse_as((&mut asking, None), (&mut answering, None), chunk);
    let verdicts: Vec<_> = asking
        .wants
        .iter()
        .filter_map(|want| match want {
            LinkOutput::VerifyDone(answered, verdict) if *answered == request => Some(*verdict),
            _ => None,
        })
        .collect();
    assert!(asking.closed().is_some() && answering.proven().is_empty());
    assert_eq!(verdicts.len(), 1, "a question is answered exactly once");
    verdicts[0]
}

#[test]
fn two_edges_agree_however_the_bytes_are_cut() {
    for chunk in [1, 7, 10_000] {
        for (tls, proof, direct) in [
            (TlsMode::Required, CERTIFICATE, false),
            (TlsMode::Required, CERTIFICATE, true),
            (TlsMode::Required, DIALBACK, false),
            (TlsMode::Required, EITHER, false),
            (TlsMode::Optional, DIALBACK, false),
            (TlsMode::Off, DIALBACK, false),
        ] {
            let case = format!("{tls:?} {proof:?} direct {direct} by {chunk}");
            let (mut ours, mut theirs) = meet(tls, proof, direct, chunk);
            assert_eq!(ours.proven(), ["corp.example>foreign.example!"], "{case}: {:?}", ours.closed());
            assert_eq!(theirs.proven(), ["corp.example>foreign.example"], "{case}");
            assert_eq!(theirs.questions().len(), usize::from(proof == DIALBACK), "{case}");
            ours.input(LinkInput::Send(TO_THEM.into(), Some(1)));
            converse_as((&mut ours, None), (&mut theirs, None), chunk);
            assert_eq!(theirs.stanzas()[0].raw, TO_THEM, "{case}");
            if tls != TlsMode::Off {
                theirs.input(LinkInput::Send(FROM_THEM.into(), None));
                converse_as((&mut ours, None), (&mut theirs, None), chunk);
                assert_eq!(ours.stanzas()[0].raw, FROM_THEM, "both ways: {case}");
            }
            assert_eq!((ours.refusals(), theirs.refusals()), (vec![], vec![]), "{case}");
        }
    }
}

#[test]
fn a_key_of_other_secrets_proves_nothing() {
    let mut liar = edge(TlsMode::Off, DIALBACK);
    liar.secrets = vec![b"guessed".to_vec()];
    let mut liar = opening(liar);
    let mut theirs = accepting(their_edge(TlsMode::Off, DIALBACK));
    converse_as((&mut liar, None), (&mut theirs, None), 100);
    let question = theirs.questions().remove(0);
    let verdict = ask(question.clone(), TlsMode::Off, DIALBACK, 100);
    assert_eq!(verdict, Verdict::Invalid);
    theirs.input(LinkInput::Verified(question, verdict));
    converse_as((&mut liar, None), (&mut theirs, None), 100);
    assert_eq!((liar.proven(), theirs.proven()), (vec![], vec![]));
    assert_eq!(theirs.refusals(), ["unproven"]);
}

#[test]
fn a_question_is_asked_as_the_entry_demands() {
    let request = || VerifyRequest {
        originating: domain(THEIRS),
        receiving: domain(OURS),
        stream_id: "s1".into(),
        key: "k".into(),
    };
    let asking = |tls, proof| {
        let settings = Arc::new(edge(tls, proof));
        End::new(XmppLink::verify(settings, Side::Outside, request(), false, [1; 32], now()))
    };
    // Not in the clear where TLS is demanded.
    let mut ours = asking(TlsMode::Required, EITHER);
    ours.feed(answer("1")).feed(features(&["dialback"]));
    assert!(matches!(ours.wants[..], [LinkOutput::VerifyDone(_, Verdict::Error), LinkOutput::Close { .. }]));
    assert!(!ours.said().contains("db:verify"));
    // Not at all where dialback counts for nothing.
    let mut ours = asking(TlsMode::Optional, CERTIFICATE);
    ours.feed(answer("1")).feed(features(&["dialback"]));
    assert!(matches!(ours.wants[..], [LinkOutput::VerifyDone(_, Verdict::Error), LinkOutput::Close { .. }]));
    // Under TLS it is only asked: nothing is proven for us, and nothing goes both ways.
    let mut ours = asking(TlsMode::Required, EITHER);
    ours.feed(answer("1")).feed(features(&["required"])).feed(PROCEED).input(LinkInput::TlsEstablished(None)).said();
    ours.feed(answer("2")).feed(features(&["external", "dialback", "bidi"]));
    let said = ours.said();
    assert!(said.ends_with("<db:verify from='corp.example' to='foreign.example' id='s1'>k</db:verify>"), "{said}");
    assert!(!said.contains("<bidi") && !said.contains("<auth"), "{said}");
    for forged in [
        "<db:verify from='foreign.example' to='corp.example' id='s2' type='valid'/>",
        "<db:verify from='friend.example' to='corp.example' id='s1' type='valid'/>",
        "<db:verify from='foreign.example' to='lab.example' id='s1' type='valid'/>",
        "<db:result from='foreign.example' to='corp.example' id='s1' type='valid'/>",
    ] {
        ours.feed(forged);
        assert!(!ours.wants.iter().any(|want| matches!(want, LinkOutput::VerifyDone(..))), "{forged}");
    }
    ours.feed("<db:verify from='foreign.example' to='corp.example' id='s1' type='valid'/>");
    assert!(ours.wants.iter().any(|want| matches!(want, LinkOutput::VerifyDone(_, Verdict::Valid))));
    assert!(ours.proven().is_empty());
}
