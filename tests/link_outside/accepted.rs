//! What a partner's server that connects hears: headers, features, TLS, SASL, dialback.

use crate::stand::*;
use crate::support::{End, domain, now};
use fedgate::gate::Side;
use fedgate::gate::limits::{PAIRS_PER_STREAM, REFUSALS_PER_STREAM};
use fedgate::gate::link::{LinkInput, LinkOutput, Verdict, XmppLink, dialback};
use fedgate::gate::partner::{Action, Budget, DomainPattern, Proof, TlsMode};
use fedgate::gate::policy::table::Stranger;
use std::sync::Arc;

#[test]
fn a_header_is_judged_before_anything_else() {
    let cases = [
        ("from='foreign.example' to='corp.example' version='1.0'", None),
        ("from='FOREIGN.example.' to='Corp.Example' version='1.0'", None),
        ("to='corp.example' version='1.0'", None),
        ("from='corp.example' to='corp.example' version='1.0'", Some(("not-authorized", "unproven"))),
        ("from='lab.example' to='corp.example' version='1.0'", Some(("not-authorized", "unproven"))),
        ("from='unlisted.example' to='corp.example' version='1.0'", Some(("policy-violation", "unlisted-domain"))),
        ("from='sub.foreign.example' to='corp.example' version='1.0'", Some(("policy-violation", "unlisted-domain"))),
        ("from='example' to='corp.example' version='1.0'", Some(("policy-violation", "unlisted-domain"))),
        ("from='foreign.example' to='friend.example' version='1.0'", Some(("host-unknown", "relay-denied"))),
        ("from='foreign.example' to='sub.corp.example' version='1.0'", Some(("host-unknown", "relay-denied"))),
        ("from='foreign.example' version='1.0'", Some(("improper-addressing", "malformed"))),
        ("from='foreign.example' to='corp.example' version='x'", Some(("unsupported-version", "malformed"))),
        ("from='a b' to='corp.example' version='1.0'", Some(("invalid-from", "malformed"))),
        ("from='foreign.example' to='a b' version='1.0'", Some(("host-unknown", "malformed"))),
        // From before 1.0 there is no TLS, which these partners must use.
        ("from='foreign.example' to='corp.example'", Some(("policy-violation", "not-allowed"))),
        ("", Some(("policy-violation", "not-allowed"))),
    ];
    for (attributes, refused) in cases {
        let mut ours = accepting(edge(TlsMode::Required, EITHER));
        ours.feed(format!(
            "<stream:stream xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams' {attributes}>"
        ));
        match refused {
            Some((condition, label)) => assert_refused(&mut ours, condition, label),
            None => assert!(ours.said().ends_with(&features(&["required"])), "{attributes}"),
        }
        assert!(ours.proven().is_empty());
    }
    let mut ours = accepting(edge(TlsMode::Required, EITHER));
    ours.feed(header(THEIRS, OURS).replace("'jabber:server'", "'jabber:client'"));
    assert_refused(&mut ours, "invalid-namespace", "malformed");
}

#[test]
fn a_partner_may_have_to_come_from_its_networks() {
    let mut settings = edge(TlsMode::Required, EITHER);
    Arc::make_mut(&mut settings.policy)
        .partners
        .change(|entries| entries[0].networks = vec!["198.51.100.0/28".parse().unwrap()]);
    let settings = Arc::new(settings);
    for (peer, welcome) in [("198.51.100.5", true), ("::ffff:198.51.100.5", true), ("198.51.100.16", false)] {
        let link = XmppLink::accept(settings.clone(), Side::Outside, peer.parse().unwrap(), [1; 32], now());
        let mut ours = End::new(link);
        ours.feed(header(THEIRS, OURS));
        match welcome {
            true => assert!(ours.closed().is_none(), "{peer}"),
            false => assert_refused(&mut ours, "policy-violation", "not-allowed"),
        }
        // Naming nobody in the header does not help.
        let mut ours =
            End::new(XmppLink::accept(settings.clone(), Side::Outside, peer.parse().unwrap(), [1; 32], now()));
        ours.input(LinkInput::TlsEstablished(Some(certificate(THEIRS)))).feed(header("", OURS));
        ours.feed(key(THEIRS, OURS, "k"));
        match welcome {
            true => assert_eq!(ours.proven(), ["foreign.example>corp.example"], "{peer}"),
            false => assert_refused(&mut ours, "policy-violation", "not-allowed"),
        }
    }
}

#[test]
fn before_tls_there_is_nothing_but_tls_where_it_is_required() {
    for early in [
        key(THEIRS, OURS, "k"),
        auth("="),
        FROM_THEM.to_owned(),
        BIDI.to_owned(),
        "<enable xmlns='urn:xmpp:sm:3'/>".to_owned(),
        "<db:verify from='foreign.example' to='corp.example' id='1'>k</db:verify>".to_owned(),
    ] {
        let mut ours = accepting(edge(TlsMode::Required, EITHER));
        ours.feed(header(THEIRS, OURS)).feed(&early);
        assert_refused(&mut ours, "policy-violation", "not-allowed");
        assert!(ours.proven().is_empty() && ours.questions().is_empty(), "{early}");
    }
    let mut ours = accepting(edge(TlsMode::Required, EITHER));
    ours.feed(header(THEIRS, OURS)).feed(STARTTLS);
    assert!(ours.said().ends_with(PROCEED));
    // Whose certificate is shown to who names nobody in the handshake.
    assert!(matches!(ours.wants[..], [LinkOutput::StartTls { of: Some(ref of) }] if *of == domain(OURS)));
    ours.input(LinkInput::TlsEstablished(Some(certificate(THEIRS)))).feed(header(THEIRS, OURS));
    let offered = ours.said();
    assert!(offered.ends_with(&features(&["external", "dialback", "bidi"])), "{offered}");
}

#[test]
fn tls_is_offered_as_the_entry_says() {
    for (tls, from, offered) in [
        (TlsMode::Required, THEIRS, &["required"][..]),
        (TlsMode::Optional, THEIRS, &["starttls", "dialback"]),
        (TlsMode::Off, THEIRS, &["dialback"]),
        // Of who does not say who it is, TLS is demanded unless there is somebody who need not.
        (TlsMode::Required, "", &["required"]),
        (TlsMode::Optional, "", &["starttls", "dialback"]),
        (TlsMode::Off, "", &["starttls", "dialback"]),
    ] {
        let mut ours = accepting(edge(tls, EITHER));
        ours.feed(header(from, OURS));
        let said = ours.said();
        assert!(said.ends_with(&features(offered)), "{tls:?} {from}: {said}");
    }
    // COMPAT(prosody): asks for TLS where it was not offered.
    let mut ours = accepting(edge(TlsMode::Off, DIALBACK));
    ours.feed(header(THEIRS, OURS)).feed(STARTTLS);
    assert!(ours.said().ends_with("<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:stream>"));
    assert!(ours.closed().unwrap().contains("its entry has tls = \"off\""));
    // One entry's laxness is its own.
    let mut mixed = edge(TlsMode::Required, EITHER);
    Arc::make_mut(&mut mixed.policy).partners.change(|entries| entries[1].tls = TlsMode::Off);
    let mut ours = accepting(mixed);
    ours.feed(header("", OURS)).feed(key(THEIRS, OURS, "k"));
    let said = ours.said();
    assert!(said.contains("type='error'><error type='cancel'><policy-violation "), "{said}");
    assert!(ours.questions().is_empty() && ours.closed().is_none());
    ours.feed(key(FRIEND, OURS, "k"));
    assert_eq!(ours.questions().len(), 1);
}

#[test]
fn a_server_from_before_1_0_gets_no_features_and_does_dialback() {
    for named in [true, false] {
        let mut ours = accepting(edge(TlsMode::Off, DIALBACK));
        let old =
            header(if named { THEIRS } else { "" }, if named { OURS } else { "" }).replace(" version='1.0'>", ">");
        ours.feed(old);
        let said = ours.said();
        assert!(said.ends_with(">") && !said.contains("version='1.0'>") && !said.contains("features"), "{said}");
        ours.feed(key(THEIRS, OURS, " k\n"));
        assert_eq!(ours.questions()[0].key, "k");
        verdict(&mut ours, Verdict::Valid);
        assert_eq!(
            ours.said(),
            "<db:result xmlns:db='jabber:server:dialback' from='corp.example' to='foreign.example' \
             type='valid'/>"
                .replace(" xmlns:db='jabber:server:dialback'", "")
        );
        assert_eq!(ours.proven(), ["foreign.example>corp.example"]);
        assert_eq!((evidence(&ours)[0].by, evidence(&ours)[0].tls), (Proof::Dialback, false));
        ours.feed(FROM_THEM);
        assert_eq!(ours.stanzas().len(), 1);
    }
}

#[test]
fn sasl_proves_whom_the_certificate_carries() {
    for response in ["=", "Zm9yZWlnbi5leGFtcGxl"] {
        let mut ours =
            under_tls(edge(TlsMode::Required, CERTIFICATE), Some(certificate(THEIRS)), &header(THEIRS, OURS));
        ours.said();
        ours.feed(auth(response));
        assert_eq!(ours.said(), SUCCESS);
        assert!(ours.proven().is_empty(), "a new stream begins first");
        ours.feed(header(THEIRS, OURS));
        let said = ours.said();
        assert!(
            said.ends_with(
                "<stream:features><dialback xmlns='urn:xmpp:features:dialback'><errors/></dialback><sm xmlns='urn:xmpp:sm:3'/>\
                 <limits xmlns='urn:xmpp:stream-limits:0'><max-bytes>262144</max-bytes><idle-seconds>3600</idle-seconds></limits>\
                 </stream:features>"
            ),
            "{said}"
        );
        let shown = evidence(&ours)[0];
        assert!(shown.tls && shown.by == Proof::Certificate && shown.chain.is_some());
        ours.feed("<enable xmlns='urn:xmpp:sm:3'/>").feed(FROM_THEM).feed("<r xmlns='urn:xmpp:sm:3'/>");
        assert_eq!(ours.stanzas()[0].raw, FROM_THEM);
        assert_eq!(ours.acks_asked(), [1]);
    }
}

#[test]
fn a_certificate_that_proves_the_domain_spares_the_call_back() {
    // XEP-0344: the key may be empty.
    for text in ["", "k"] {
        let mut ours =
            under_tls(edge(TlsMode::Required, CERTIFICATE), Some(certificate(THEIRS)), &header(THEIRS, OURS));
        ours.feed(key(THEIRS, OURS, text));
        assert_eq!(ours.proven(), ["foreign.example>corp.example"]);
        assert!(ours.questions().is_empty());
        assert_eq!(evidence(&ours)[0].by, Proof::Certificate);
    }
    // Where the ladder has no certificate, it spares nothing.
    let mut ours = under_tls(edge(TlsMode::Required, DIALBACK), Some(certificate(THEIRS)), &header(THEIRS, OURS));
    assert!(!ours.said().contains("EXTERNAL"));
    ours.feed(key(THEIRS, OURS, ""));
    assert!(ours.said().contains("type='error'><error type='cancel'><not-acceptable "));
    ours.feed(key(THEIRS, OURS, "k"));
    assert_eq!((ours.questions().len(), ours.proven().len()), (1, 0));
}

#[test]
fn who_can_prove_itself_by_nothing_hears_so_and_the_operator_why() {
    let refused = |say: &str| {
        let mut ours = under_tls(
            edge(TlsMode::Required, CERTIFICATE),
            Some(certificate("xmpp.hoster.example")),
            &header(THEIRS, OURS),
        );
        ours.feed(say);
        assert_refused(&mut ours, "not-authorized", "unproven");
        let detail = ours.details()[0].to_owned();
        assert!(detail.contains("xmpp.hoster.example") && detail.contains("mend"), "{detail}");
    };
    refused(&key(THEIRS, OURS, "k"));
    refused(&auth("="));
    refused("</stream:stream>");
    let mut ours = under_tls(edge(TlsMode::Required, CERTIFICATE), None, &header(THEIRS, OURS));
    ours.input(LinkInput::Eof);
    assert_eq!(ours.details(), ["the peer showed no certificate"]);
    let mut ours = under_tls(edge(TlsMode::Required, CERTIFICATE), None, &header(THEIRS, OURS));
    ours.at(now() + std::time::Duration::from_secs(30), LinkInput::Timeout);
    assert_refused(&mut ours, "not-authorized", "unproven");

    // It may still ask about a key of ours: what it shows as a client says nothing of whom we reached.
    let mut ours = under_tls(edge(TlsMode::Required, CERTIFICATE), None, &header(THEIRS, OURS));
    ours.said();
    let secrets = edge(TlsMode::Required, CERTIFICATE).secrets;
    let right = dialback::issue(&secrets, &domain(THEIRS), &domain(OURS), "s1").unwrap();
    for (id, text, outcome) in [("s1", right.as_str(), "valid"), ("s2", &right, "invalid"), ("s1", "k", "invalid")] {
        ours.feed(format!("<db:verify from='foreign.example' to='corp.example' id='{id}'>{text}</db:verify>"));
        assert_eq!(
            ours.said(),
            format!("<db:verify from='corp.example' to='foreign.example' id='{id}' type='{outcome}'/>")
        );
    }
    ours.feed("<db:verify from='foreign.example' to='friend.example' id='s1'>k</db:verify>");
    assert!(ours.said().contains("<item-not-found "));
    ours.feed("</stream:stream>");
    assert_eq!(ours.refusals(), ["relay-denied"]);
}

#[test]
fn questions_before_proof_are_bounded() {
    let mut ours = accepting(edge(TlsMode::Off, DIALBACK));
    ours.feed(header(THEIRS, OURS));
    ours.feed("<db:verify from='foreign.example' to='corp.example' id='1'>k</db:verify>".repeat(100));
    assert_refused(&mut ours, "policy-violation", "rate-limited");
}

#[test]
fn several_pairs_share_a_stream() {
    let mut ours = under_tls(edge(TlsMode::Required, EITHER), Some(certificate(THEIRS)), &header(THEIRS, OURS));
    assert!(ours.said().contains("<dialback xmlns='urn:xmpp:features:dialback'><errors/></dialback>"));
    // The certificate speaks for one, the other's own server for it.
    for (from, to) in [(THEIRS, OURS), (FRIEND, OURS), (THEIRS, "lab.example"), (THEIRS, "unknown.example")] {
        ours.feed(key(from, to, "k"));
    }
    assert_eq!(ours.questions().len(), 1);
    assert!(ours.said().contains("type='error'><error type='cancel'><item-not-found "));
    verdict(&mut ours, Verdict::Valid);
    let proven = ["foreign.example>corp.example", "foreign.example>lab.example", "friend.example>corp.example"];
    assert_eq!(ours.proven(), proven);
    let by: Vec<_> = evidence(&ours).iter().map(|evidence| evidence.by).collect();
    assert_eq!(by, [Proof::Certificate, Proof::Certificate, Proof::Dialback]);

    // Who is not listed is told so, and the others go on: they may share a server.
    ours.said();
    ours.feed(key("unlisted.example", OURS, "k"));
    assert!(ours.said().contains("type='error'><error type='cancel'><policy-violation "));
    assert_eq!(ours.refusals().last(), Some(&"unlisted-domain"));
    ours.feed(FROM_THEM);
    assert_eq!(ours.stanzas().len(), 1);
    // Alone it has no business here.
    let mut ours = under_tls(edge(TlsMode::Required, EITHER), None, &header("", OURS));
    ours.feed(key("unlisted.example", OURS, "k"));
    assert_refused(&mut ours, "policy-violation", "unlisted-domain");

    let mut many = edge(TlsMode::Off, DIALBACK);
    Arc::make_mut(&mut many.policy)
        .partners
        .change(|entries| entries[0].domain = DomainPattern::Under(domain("many.example")));
    let mut ours = accepting(many);
    ours.feed(header("p.many.example", OURS));
    ours.feed(key("p.many.example", OURS, "k"));
    verdict(&mut ours, Verdict::Valid);
    for i in 1..=PAIRS_PER_STREAM {
        ours.feed(key(&format!("p{i}.many.example"), OURS, "k"));
    }
    assert_eq!(ours.questions().len(), PAIRS_PER_STREAM);
    assert!(ours.said().contains("type='error'><error type='wait'><resource-constraint "));
}

#[test]
fn keys_are_not_refused_for_ever() {
    let mut ours = proven_by_sasl();
    ours.feed(key("unlisted.example", OURS, "k").repeat(REFUSALS_PER_STREAM)).feed(FROM_THEM);
    assert!(ours.closed().is_none());
    assert_eq!((ours.stanzas().len(), ours.refusals().len()), (1, REFUSALS_PER_STREAM));
    ours.feed(key("unlisted.example", OURS, "k"));
    assert_refused(&mut ours, "policy-violation", "rate-limited");
    // Nor questions about keys of others.
    let mut ours = proven_by_sasl();
    let question = format!("<db:verify from='{THEIRS}' to='unlisted.example' id='1'>k</db:verify>");
    ours.feed(question.repeat(REFUSALS_PER_STREAM));
    assert!(ours.closed().is_none());
    ours.feed(question);
    assert_refused(&mut ours, "policy-violation", "rate-limited");
    // What could not be verified counts.
    let mut ours = under_tls(edge(TlsMode::Required, EITHER), Some(certificate(THEIRS)), &header(THEIRS, OURS));
    ours.feed(key(THEIRS, OURS, ""));
    while ours.closed().is_none() {
        ours.feed(key(FRIEND, OURS, "k")).feed(key(FRIEND, OURS, "l"));
        match ours.questions().last() {
            Some(question) if ours.closed().is_none() => {
                ours.input(LinkInput::Verified(question.clone(), Verdict::Error))
            }
            _ => break,
        };
    }
    assert_eq!(ours.questions().len(), REFUSALS_PER_STREAM);
    assert_refused(&mut ours, "policy-violation", "rate-limited");
}

#[test]
fn strangers_come_by_certificate_alone_where_they_may() {
    let mut open = edge(TlsMode::Off, EITHER);
    Arc::make_mut(&mut open.policy).stranger =
        Some(Stranger { allow: vec![Action::Subscribe], limits: Budget::default() });
    let mut ours = accepting(open.clone());
    ours.feed(header("stranger.example", OURS));
    assert!(ours.said().ends_with(&features(&["required"])));
    let chain = Some(certificate("stranger.example"));
    let mut ours = under_tls(open.clone(), chain, &header("stranger.example", OURS));
    ours.feed(auth("=")).feed(header("stranger.example", OURS));
    assert_eq!(ours.proven(), ["stranger.example>corp.example"]);
    let mut ours = under_tls(open, None, &header("stranger.example", OURS));
    ours.feed(key("stranger.example", OURS, "k"));
    assert_refused(&mut ours, "not-authorized", "unproven");
}

#[test]
fn dialback_is_answered_by_what_the_domains_own_server_says() {
    for (outcome, said, goes_on) in [
        (Verdict::Valid, "type='valid'/>", true),
        (Verdict::Invalid, "type='invalid'/><stream:error><not-authorized ", false),
        (Verdict::Error, "type='error'><error type='wait'><remote-server-timeout ", true),
    ] {
        let mut ours = under_tls(edge(TlsMode::Required, EITHER), None, &header(THEIRS, OURS));
        ours.feed(key(THEIRS, OURS, "k")).said();
        verdict(&mut ours, outcome);
        assert!(ours.said().contains(said), "{outcome:?}");
        assert_eq!(ours.closed().is_none(), goes_on);
        assert_eq!(ours.proven().len(), usize::from(outcome == Verdict::Valid));
    }
}
