//! Every combination of what an entry demands with what a peer can show: only what the ladder lists is believed, and nothing lowers it.

use crate::pki::pki;
use crate::stand::*;
use crate::support::{End, now};
use fedgate::gate::link::{LinkInput, LinkOutput, Settings, Verdict};
use fedgate::gate::partner::{Proof, TlsMode};
use fedgate::wire::certificate::Chain;
use std::sync::Arc;

const MODES: [TlsMode; 3] = [TlsMode::Required, TlsMode::Optional, TlsMode::Off];
const LADDERS: [&[Proof]; 3] = [CERTIFICATE, DIALBACK, EITHER];
const VERDICTS: [Verdict; 3] = [Verdict::Valid, Verdict::Invalid, Verdict::Error];

/// What is shown, and whether it proves foreign.example.
fn certificates() -> Vec<(&'static str, Option<Arc<Chain>>, bool)> {
    let expired = pki().made("ca", |params| {
        params.subject_alt_names = vec![rcgen::SanType::DnsName(THEIRS.try_into().unwrap())];
        params.not_after = rcgen::date_time_ymd(2022, 1, 1);
    });
    vec![
        ("good", Some(certificate(THEIRS)), true),
        ("another's", Some(certificate(FRIEND)), false),
        ("of an authority nobody trusts", Some(pki().chain("other-ca", THEIRS)), false),
        ("expired", Some(expired), false),
        ("none", None, false),
    ]
}

/// The rung that holds, as the contract has it.
fn expected(tls: TlsMode, ladder: &[Proof], encrypted: bool, good: bool, dialback: bool) -> Option<Proof> {
    match () {
        () if tls == TlsMode::Required && !encrypted => None,
        () if encrypted && good && ladder.contains(&Proof::Certificate) => Some(Proof::Certificate),
        () if dialback && ladder.contains(&Proof::Dialback) => Some(Proof::Dialback),
        () => None,
    }
}

fn shown_by(ours: &End) -> Option<Proof> {
    let all = evidence(ours);
    assert!(all.len() <= 1);
    all.first().map(|evidence| evidence.by)
}

/// A peer that connects, and does TLS and SASL where they are offered and it wants to, else dialback.
fn connect(
    settings: Settings,
    wants_tls: bool,
    wants_sasl: bool,
    chain: Option<Arc<Chain>>,
    says: Verdict,
) -> (End, bool) {
    let mut ours = accepting(settings);
    ours.feed(header(THEIRS, OURS));
    let mut encrypted = false;
    if wants_tls && ours.said().contains("<starttls ") {
        ours.feed(STARTTLS).input(LinkInput::TlsEstablished(chain)).feed(header(THEIRS, OURS));
        encrypted = true;
    }
    if wants_sasl && ours.said().contains("EXTERNAL") {
        ours.feed(auth("=")).feed(header(THEIRS, OURS));
    } else {
        ours.feed(key(THEIRS, OURS, "k"));
        verdict(&mut ours, says);
    }
    ours.feed(FROM_THEM);
    (ours, encrypted)
}

#[test]
fn of_streams_that_a_peer_opens() {
    for tls in MODES {
        for ladder in LADDERS {
            for (name, chain, good) in certificates() {
                for says in VERDICTS {
                    for (wants_tls, wants_sasl) in [(true, true), (true, false), (false, false)] {
                        let case = format!("{tls:?} {ladder:?} {name} {says:?} tls {wants_tls} sasl {wants_sasl}");
                        let (mut ours, encrypted) =
                            connect(edge(tls, ladder), wants_tls, wants_sasl, chain.clone(), says);
                        assert_eq!(encrypted, wants_tls && tls != TlsMode::Off, "{case}");
                        let expected = expected(tls, ladder, encrypted, good, says == Verdict::Valid);
                        assert_eq!(shown_by(&ours), expected, "{case}");
                        assert_eq!(ours.stanzas().len(), usize::from(expected.is_some()), "{case}");
                        // Nobody is asked where it would not matter.
                        let asked = !ours.questions().is_empty();
                        assert_eq!(
                            asked,
                            ladder.contains(&Proof::Dialback)
                                && expected != Some(Proof::Certificate)
                                && (encrypted || tls != TlsMode::Required),
                            "{case}"
                        );
                        if expected.is_none() {
                            assert!(ours.closed().is_some() && !ours.refusals().is_empty(), "{case}");
                            assert!(ours.said().contains("</stream:stream>"), "{case}");
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn of_streams_that_we_open() {
    for tls in MODES {
        for ladder in LADDERS {
            for (name, chain, good) in certificates() {
                for (offers_tls, offers_sasl) in [(true, true), (true, false), (false, false)] {
                    let case = format!("{tls:?} {ladder:?} {name} tls {offers_tls} sasl {offers_sasl}");
                    let mut ours = opening(edge(tls, ladder));
                    ours.feed(answer("1"));
                    ours.feed(features(if offers_tls { &["starttls", "dialback"] } else { &["dialback"] }));
                    let encrypted = ours.said().contains("<starttls ");
                    assert_eq!(encrypted, offers_tls && tls != TlsMode::Off, "{case}");
                    if encrypted {
                        ours.feed(PROCEED).input(LinkInput::TlsEstablished(chain.clone())).said();
                        ours.feed(answer("2"));
                        ours.feed(features(if offers_sasl { &["external", "dialback"] } else { &["dialback"] }));
                    }
                    // We believe whom its records lead to only where the ladder ends in dialback.
                    let expected = expected(tls, ladder, encrypted, good, true);
                    assert_eq!(ours.is_unproven(), expected.is_none(), "{case}: {:?}", ours.closed());
                    if ours.closed().is_none() {
                        let said = ours.said();
                        assert_eq!(said.contains("<auth "), encrypted && offers_sasl, "{case}: {said}");
                        match encrypted && offers_sasl {
                            true => ours.feed(SUCCESS).feed(answer("3")).feed(features(&[])),
                            false => ours.feed("<db:result from='foreign.example' to='corp.example' type='valid'/>"),
                        };
                    }
                    assert_eq!(shown_by(&ours), expected, "{case}");
                    ours.input(LinkInput::Send(TO_THEM.into(), None));
                    assert_eq!(ours.said().contains("yo"), expected.is_some(), "{case}");
                }
            }
        }
    }
}

#[test]
fn a_refused_server_is_told_little_and_the_operator_much() {
    let mut ours = opening_by(edge(TlsMode::Required, CERTIFICATE), true);
    ours.input(LinkInput::TlsEstablished(Some(certificate("xmpp.foreign.example")))).feed(answer("1"));
    ours.feed(features(&["external", "dialback"]));
    let cause = ours.closed().unwrap().to_owned();
    assert!(ours.is_unproven() && cause.contains("xmpp.foreign.example (DNS)") | cause.contains("carries"), "{cause}");
    assert!(cause.contains("mend"), "{cause}");
    let said = ours.said();
    assert!(said.contains("<not-authorized ") && !said.contains("xmpp.foreign.example"), "{said}");
    assert!(!said.contains("<auth ") && !said.contains("db:result"), "{said}");
    assert!(!ours.wants.iter().any(|want| matches!(want, LinkOutput::Refused { .. })));
    assert_eq!(ours.link.poll_timeout(), None, "{:?}", now());
}
