//! Every known way to speak for a domain that one is not: each must fail.

use crate::pki::pki;
use crate::stand::*;
use crate::support::{End, domain};
use fedgate::gate::link::{LinkInput, Verdict, VerifyRequest, dialback};
use fedgate::gate::partner::{DomainPattern, TlsMode};
use std::sync::Arc;

/// Says something, and then wants its stanza taken; nobody and nothing gets through.
#[track_caller]
fn fails(ours: &mut End, says: &str) {
    let before = ours.proven();
    ours.feed(says).feed(FROM_THEM);
    assert_eq!(ours.proven(), before, "{says}");
    assert!(ours.stanzas().is_empty(), "{says}");
    assert!(ours.closed().is_some(), "{says}");
}

fn waiting() -> End {
    let mut ours = under_tls(edge(TlsMode::Required, EITHER), None, &header(THEIRS, OURS));
    ours.feed(key(THEIRS, OURS, "k"));
    assert_eq!(ours.questions().len(), 1);
    ours
}

#[test]
fn answers_that_nobody_asked_for_prove_nothing() {
    // The spoof of 2012 (XEP-0220 §4): on a stream of the peer's there are no answers, whatever is under way elsewhere.
    for answer in [
        "<db:result from='foreign.example' to='corp.example' type='valid'/>".to_owned(),
        "<db:result from='corp.example' to='foreign.example' type='valid'/>".to_owned(),
        "<db:verify from='foreign.example' to='corp.example' id='1' type='valid'/>".to_owned(),
        "<db:result from='foreign.example' to='corp.example' type='valid'>k</db:result>".to_owned(),
        SUCCESS.to_owned(),
    ] {
        fails(&mut accepting(edge(TlsMode::Off, EITHER)).tap(&header(THEIRS, OURS)), &answer);
        let mut ours = waiting();
        let id = ours.questions()[0].stream_id.clone();
        fails(&mut ours, &answer.replace("id='1'", &format!("id='{id}'")));
    }
}

#[test]
fn a_verdict_counts_for_its_own_question_alone() {
    let asked = waiting().questions().remove(0);
    let others = [
        VerifyRequest { key: "other".into(), ..asked.clone() },
        VerifyRequest { stream_id: "other".into(), ..asked.clone() },
        VerifyRequest { originating: domain(FRIEND), ..asked.clone() },
        VerifyRequest { receiving: domain("lab.example"), ..asked.clone() },
    ];
    for other in others {
        let mut ours = waiting();
        ours.input(LinkInput::Verified(other, Verdict::Valid));
        fails(&mut ours, "");
    }
    // Nor twice: after its answer it is no question any more.
    let mut ours = waiting();
    ours.input(LinkInput::Verified(asked.clone(), Verdict::Error)).input(LinkInput::Verified(asked, Verdict::Valid));
    fails(&mut ours, "");
}

#[test]
fn a_key_belongs_to_one_stream() {
    // A stream behind TLS has another id than the one before it, so that a key for that is for nothing.
    let mut ours = accepting(edge(TlsMode::Optional, DIALBACK));
    ours.feed(header(THEIRS, OURS));
    let before = ours.said();
    ours.feed(STARTTLS).input(LinkInput::TlsEstablished(None)).feed(header(THEIRS, OURS));
    ours.feed(key(THEIRS, OURS, "k"));
    let id = ours.questions()[0].stream_id.clone();
    assert!(!before.contains(&id) && ours.said().contains(&id));

    // As authoritative server: only what we gave out, for that stream, pair and direction.
    let secrets = edge(TlsMode::Off, DIALBACK).secrets;
    let right = dialback::issue(&secrets, &domain(THEIRS), &domain(OURS), "1").unwrap();
    let of_another = dialback::issue(&[b"guessed".to_vec()], &domain(THEIRS), &domain(OURS), "1").unwrap();
    for (from, to, id, text, valid) in [
        (THEIRS, OURS, "1", right.as_str(), true),
        (THEIRS, OURS, "2", &right, false),
        (FRIEND, OURS, "1", &right, false),
        (THEIRS, "lab.example", "1", &right, false),
        (THEIRS, OURS, "1", &of_another, false),
        (THEIRS, OURS, "1", "", false),
        (THEIRS, OURS, "", &right, false),
    ] {
        let mut ours = accepting(edge(TlsMode::Off, DIALBACK));
        ours.feed(header("", OURS)).feed(format!("<db:verify from='{from}' to='{to}' id='{id}'>{text}</db:verify>"));
        assert_eq!(ours.said().contains("type='valid'"), valid, "{from} {to} {id}");
        assert!(ours.proven().is_empty());
    }
}

#[test]
fn sasl_proves_nobody_but_whom_the_certificate_carries_and_the_header_names() {
    // base64 of friend.example, corp.example, sub.foreign.example, foreign.example with NUL, example
    for authzid in [
        "ZnJpZW5kLmV4YW1wbGU=",
        "Y29ycC5leGFtcGxl",
        "c3ViLmZvcmVpZ24uZXhhbXBsZQ==",
        "Zm9yZWlnbi5leGFtcGxlAA==",
        "ZXhhbXBsZQ==",
    ] {
        let mut ours =
            under_tls(edge(TlsMode::Required, CERTIFICATE), Some(certificate(THEIRS)), &header(THEIRS, OURS));
        ours.feed(auth(authzid));
        assert!(ours.said().ends_with("<invalid-authzid/></failure>"), "{authzid}");
        fails(&mut ours, "");
    }
    // Without a certificate, with another's, with one that nobody trusts: the mechanism is not there.
    for chain in [None, Some(certificate(FRIEND)), Some(pki().chain("other-ca", THEIRS))] {
        for ladder in [CERTIFICATE, EITHER] {
            let mut ours = under_tls(edge(TlsMode::Required, ladder), chain.clone(), &header(THEIRS, OURS));
            assert!(!ours.said().contains("EXTERNAL"));
            fails(&mut ours, &auth("="));
        }
    }
    // Nor in the clear, where no certificate can have been shown, nor another mechanism.
    let mut ours = accepting(edge(TlsMode::Optional, EITHER));
    ours.feed(header(THEIRS, OURS));
    fails(&mut ours, &auth("="));
    let mut ours = under_tls(edge(TlsMode::Required, CERTIFICATE), Some(certificate(THEIRS)), &header(THEIRS, OURS));
    fails(&mut ours, &auth("=").replace("EXTERNAL", "PLAIN"));
    // Who proves itself by a certificate of its own does not thereby prove another.
    let mut ours = under_tls(edge(TlsMode::Required, CERTIFICATE), Some(certificate(FRIEND)), &header(FRIEND, OURS));
    ours.feed(auth("=")).feed(header(FRIEND, OURS));
    assert_eq!(ours.proven(), ["friend.example>corp.example"]);
    fails(&mut ours, "");
    assert_refused(&mut ours, "invalid-from", "unproven");
}

#[test]
fn what_a_certificate_says_for_whom_the_header_names_it_says_for_nobody_else() {
    let shown = || Some(certificate(THEIRS));
    let mut ours = under_tls(edge(TlsMode::Required, CERTIFICATE), shown(), &header(THEIRS, OURS));
    ours.feed(key(FRIEND, OURS, "k"));
    assert_refused(&mut ours, "not-authorized", "unproven");
    assert!(ours.proven().is_empty());

    let mut ours = under_tls(edge(TlsMode::Required, EITHER), shown(), &header(THEIRS, OURS));
    ours.feed(key(FRIEND, OURS, "k"));
    assert!(ours.proven().is_empty());
    assert_eq!(ours.questions().len(), 1);
    ours.feed(key(THEIRS, OURS, "k"));
    assert_eq!(ours.proven(), ["foreign.example>corp.example"]);
}

#[test]
fn the_stream_behind_sasl_is_for_the_same_two() {
    for (from, to) in [(FRIEND, OURS), (THEIRS, "lab.example"), ("", OURS), (THEIRS, ""), (OURS, OURS)] {
        let mut ours =
            under_tls(edge(TlsMode::Required, CERTIFICATE), Some(certificate(THEIRS)), &header(THEIRS, OURS));
        ours.feed(auth("="));
        fails(&mut ours, &header(from, to));
    }
    // The one behind STARTTLS is judged anew: nothing of the header before it holds.
    let mut ours = accepting(edge(TlsMode::Required, CERTIFICATE));
    ours.feed(header(FRIEND, OURS)).feed(STARTTLS).input(LinkInput::TlsEstablished(Some(certificate(FRIEND))));
    ours.feed(header(THEIRS, OURS));
    fails(&mut ours, &auth("="));
}

#[test]
fn nothing_said_before_tls_is_read_after_it() {
    for pipelined in [key(THEIRS, OURS, "k"), header(THEIRS, OURS), "<db".to_owned()] {
        // In one packet with <starttls/> …
        let mut ours = accepting(edge(TlsMode::Optional, EITHER));
        ours.feed(header(THEIRS, OURS)).feed(format!("{STARTTLS}{pipelined}"));
        assert!(!ours.said().contains("<proceed") && ours.closed().is_some(), "{pipelined}");
        // … or behind it, before the handshake.
        let mut ours = accepting(edge(TlsMode::Optional, EITHER));
        ours.feed(header(THEIRS, OURS)).feed(STARTTLS).feed(&pipelined);
        ours.input(LinkInput::TlsEstablished(Some(certificate(THEIRS))));
        assert!(ours.closed().is_some() && ours.proven().is_empty(), "{pipelined}");
        // And the other way round.
        let mut ours = opening(edge(TlsMode::Required, CERTIFICATE));
        ours.feed(answer("1")).feed(features(&["starttls"])).feed(format!("{PROCEED}{}", answer("2")));
        assert!(ours.closed().unwrap().contains("before TLS"));
        let mut ours = opening(edge(TlsMode::Required, CERTIFICATE));
        ours.feed(answer("1")).feed(features(&["starttls"])).feed(PROCEED).feed(&pipelined);
        ours.input(LinkInput::TlsEstablished(Some(certificate(THEIRS))));
        assert!(ours.closed().is_some());
    }
    // Nor behind <auth/>.
    let mut ours = under_tls(edge(TlsMode::Required, CERTIFICATE), Some(certificate(THEIRS)), &header(THEIRS, OURS));
    ours.feed(auth("=") + &header(THEIRS, OURS));
    assert_refused(&mut ours, "policy-violation", "malformed");
}

#[test]
fn our_own_domains_are_nobodys_outside() {
    for own in [OURS, "lab.example", "CORP.EXAMPLE", "corp.example."] {
        let mut ours = under_tls(edge(TlsMode::Required, EITHER), Some(certificate(OURS)), &header(own, OURS));
        assert_refused(&mut ours, "not-authorized", "unproven");
        let mut ours = under_tls(edge(TlsMode::Required, EITHER), Some(certificate(OURS)), &header("", OURS));
        fails(&mut ours, &key(own, OURS, "k"));
        assert_refused(&mut ours, "not-authorized", "unproven");
        // Beside a proven partner: not even then is anybody asked.
        let mut ours = proven_by_sasl();
        ours.said();
        ours.feed(key(own, OURS, "k"));
        assert!(ours.said().contains("type='error'><error type='cancel'><not-authorized "), "{own}");
        assert!(ours.questions().is_empty());
        ours.feed(format!("<message from='ceo@{own}' to='b@corp.example'/>"));
        assert_refused(&mut ours, "invalid-from", "unproven");
    }
    // Though an entry be written so widely that it covers one.
    let mut wide = edge(TlsMode::Off, DIALBACK);
    Arc::make_mut(&mut wide.policy)
        .partners
        .change(|entries| entries[0].domain = DomainPattern::Under(domain("example")));
    let mut ours = accepting(wide);
    ours.feed(header("", OURS));
    fails(&mut ours, &key("lab.example", OURS, "k"));
}

#[test]
fn a_name_that_looks_like_another_is_another() {
    for other in [
        "sub.foreign.example",
        "example",
        "xforeign.example",
        "foreign.example.evil.example",
        "foreign-example",
        // Cyrillic о, and a name that only looks like a wildcard's.
        "fоreign.example",
        "*.example",
        "foreign.example..",
        "foreign.example/",
        "@foreign.example",
        "foreign%2eexample",
    ] {
        let mut ours = proven_by_sasl();
        ours.feed(format!("<message from='a@{other}' to='b@corp.example'/>"));
        assert!(ours.stanzas().is_empty(), "{other}");
        assert!(ours.closed().is_some(), "{other}");
        let mut ours = under_tls(edge(TlsMode::Required, EITHER), Some(certificate(THEIRS)), &header("", OURS));
        ours.feed(key(other, OURS, "k"));
        assert!(ours.proven().is_empty() && ours.questions().is_empty(), "{other}");
    }
    // Other spellings of the same name are the same.
    for same in ["FOREIGN.EXAMPLE", "foreign.example.", "foreign。example"] {
        let mut ours = proven_by_sasl();
        ours.feed(format!("<message from='a@{same}' to='b@corp.example'/>"));
        assert_eq!(ours.stanzas().len(), 1, "{same}");
    }
}

#[test]
fn stanzas_are_of_proven_pairs_alone() {
    for (addresses, condition) in [
        ("from='a@foreign.example' to='b@lab.example'", "invalid-from"),
        ("from='a@friend.example' to='b@corp.example'", "invalid-from"),
        ("from='a@foreign.example' to='b@friend.example'", "host-unknown"),
        ("from='a@foreign.example' to='b@nowhere.example'", "host-unknown"),
        ("from='b@corp.example' to='a@foreign.example'", "invalid-from"),
        ("to='b@corp.example'", "improper-addressing"),
        ("from='a@foreign.example'", "improper-addressing"),
    ] {
        let mut ours = proven_by_sasl();
        ours.feed(format!("<iq type='get' id='1' {addresses}/>"));
        assert!(ours.stanzas().is_empty(), "{addresses}");
        let said = ours.said();
        assert!(said.contains(&format!("<stream:error><{condition} ")), "{addresses}: {said}");
        assert_eq!(ours.refusals().len(), 1);
    }
    // Another partner is proven towards another domain of ours: the two do not make four.
    let mut ours = under_tls(edge(TlsMode::Required, EITHER), Some(certificate(THEIRS)), &header(THEIRS, OURS));
    ours.feed(key(THEIRS, OURS, "")).feed(key(FRIEND, "lab.example", "k"));
    verdict(&mut ours, Verdict::Valid);
    assert_eq!(ours.proven().len(), 2);
    ours.feed("<message from='a@friend.example' to='b@corp.example'/>");
    assert!(ours.stanzas().is_empty());
    assert_refused(&mut ours, "invalid-from", "unproven");
}

#[test]
fn taking_offers_away_lowers_nothing() {
    // STARTTLS taken out of the features, or refused.
    for ladder in [CERTIFICATE, EITHER] {
        for stripped in [features(&["dialback"]), features(&["external", "dialback"]), features(&["empty", "dialback"])]
        {
            let mut ours = opening(edge(TlsMode::Required, ladder));
            ours.said();
            ours.feed(answer("1")).feed(stripped);
            let said = ours.said();
            assert!(!said.contains("db:result") && !said.contains("<auth"), "{said}");
            assert!(ours.is_unproven() && ours.closed().unwrap().contains("offers no TLS"), "{:?}", ours.closed());
        }
        let mut ours = opening(edge(TlsMode::Optional, ladder));
        ours.feed(answer("1")).feed(features(&["starttls", "dialback"])).said();
        ours.feed("<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>");
        assert!(ours.closed().is_some() && !ours.said().contains("db:result"));
    }
    // A version taken away is no way around TLS, nor around the certificate.
    let old = answer("1").replace(" version='1.0'>", ">");
    let mut ours = opening(edge(TlsMode::Required, EITHER));
    ours.feed(&old);
    assert!(ours.is_unproven() && !ours.said().contains("db:result"));
    let mut ours = opening(edge(TlsMode::Optional, CERTIFICATE));
    ours.feed(&old);
    assert!(ours.is_unproven() && !ours.said().contains("db:result"));
    // Mechanisms taken away under TLS: the certificate is judged all the same.
    let mut ours = opening_by(edge(TlsMode::Required, CERTIFICATE), true);
    ours.input(LinkInput::TlsEstablished(Some(certificate(FRIEND)))).feed(answer("1")).feed(features(&["dialback"]));
    assert!(ours.is_unproven() && !ours.said().contains("db:result"));
}

#[test]
fn on_our_own_streams_only_the_answer_to_our_question_counts() {
    let asking = || {
        let mut ours = opening(edge(TlsMode::Off, DIALBACK));
        ours.feed(answer("1")).feed(features(&["dialback"]));
        assert!(ours.said().contains("<db:result "));
        ours
    };
    for forged in [
        "<db:result from='friend.example' to='corp.example' type='valid'/>",
        "<db:result from='foreign.example' to='lab.example' type='valid'/>",
        "<db:result from='corp.example' to='foreign.example' type='valid'/>",
        "<db:result to='corp.example' type='valid'/>",
        "<db:verify from='foreign.example' to='corp.example' id='1' type='valid'/>",
        "<db:result from='foreign.example' to='corp.example'>valid</db:result>",
    ] {
        let mut ours = asking();
        ours.feed(forged);
        assert!(ours.proven().is_empty() && ours.closed().is_none(), "{forged}");
    }
    let mut ours = asking();
    ours.feed("<db:result from='Foreign.Example' to='corp.example' type='valid'/>");
    assert_eq!(ours.proven(), ["corp.example>foreign.example!"]);
    // Success that nobody waits for.
    for (say, when) in [(SUCCESS, "dialback"), ("<enabled xmlns='urn:xmpp:sm:3'/>", "dialback")] {
        let mut ours = asking();
        ours.feed(say);
        assert!(ours.proven().is_empty(), "{say} {when}");
    }
    let mut ours = opening(edge(TlsMode::Off, DIALBACK));
    ours.feed(answer("1")).feed("<db:result from='foreign.example' to='corp.example' type='valid'/>");
    assert!(ours.proven().is_empty() && ours.closed().is_some());
}

trait Tap {
    fn tap(self, says: &str) -> Self;
}

impl Tap for End {
    fn tap(mut self, says: &str) -> Self {
        self.feed(says);
        self
    }
}
