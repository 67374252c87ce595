//! Whatever comes, in whatever order and however cut: nobody is believed who did not prove it, and nothing panics.

use crate::stand::*;
use crate::support::End;
use fedgate::gate::link::{LinkInput, LinkOutput, Verdict};
use fedgate::gate::partner::{Proof, TlsMode};
use proptest::prelude::*;

/// What a peer may say; all of it for foreign.example or in its name.
fn parts() -> Vec<String> {
    let mut parts: Vec<String> = [
        STARTTLS,
        PROCEED,
        SUCCESS,
        BIDI,
        FROM_THEM,
        TO_THEM,
        " ",
        "<",
        "\u{0}",
        "</stream:stream>",
        "<stream:error/>",
        "<failure xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>",
        "<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>",
        "<enable xmlns='urn:xmpp:sm:3'/>",
        "<enabled xmlns='urn:xmpp:sm:3'/>",
        "<failed xmlns='urn:xmpp:sm:3'/>",
        "<r xmlns='urn:xmpp:sm:3'/>",
        "<a xmlns='urn:xmpp:sm:3' h='1'/>",
        "<resume xmlns='urn:xmpp:sm:3'/>",
        "<db:result from='foreign.example' to='corp.example' type='valid'/>",
        "<db:verify from='foreign.example' to='corp.example' id='1' type='valid'/>",
        "<db:verify from='foreign.example' to='corp.example' id='1'>k</db:verify>",
        "<db:result/>",
        "<message from='a@friend.example' to='b@corp.example'/>",
    ]
    .map(str::to_owned)
    .to_vec();
    parts.extend([header(THEIRS, OURS), header("", OURS), answer("1"), auth("="), key(THEIRS, OURS, "k")]);
    parts.extend(
        [
            &["starttls"][..],
            &["required"],
            &["external"],
            &["dialback", "bidi"],
            &["external", "bidi", "sm"],
            &["sm"],
            &[],
        ]
        .map(features),
    );
    parts
}

fn modes() -> impl Strategy<Value = (TlsMode, &'static [Proof])> {
    (
        prop::sample::select(vec![TlsMode::Required, TlsMode::Optional, TlsMode::Off]),
        prop::sample::select(vec![CERTIFICATE, DIALBACK, EITHER]),
    )
}

fn begin(opened: bool, (tls, proof): (TlsMode, &[Proof])) -> End {
    if opened { opening(edge(tls, proof)) } else { accepting(edge(tls, proof)) }
}

/// Feeds the parts, each cut like this, with TLS handshakes in which this name's certificate is shown, and questions answered like this.
fn play(ours: &mut End, parts: &[String], chunk: usize, shown: Option<&str>, says: Option<Verdict>) -> bool {
    let (mut encrypted, mut answered) = (false, 0);
    for part in parts {
        part.as_bytes().chunks(chunk).for_each(|bytes| {
            ours.feed(bytes);
        });
        if matches!(ours.wants.last(), Some(LinkOutput::StartTls { .. })) {
            ours.input(LinkInput::TlsEstablished(shown.map(certificate)));
            encrypted = true;
        }
        if let (Some(says), Some(question)) = (says, ours.questions().get(answered)) {
            answered += 1;
            ours.input(LinkInput::Verified(question.clone(), says));
        }
    }
    encrypted
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    /// Without its certificate, and without the word of its own server, nobody connects as foreign.example.
    #[test]
    fn noise_proves_nothing(
        mode in modes(),
        parts in prop::collection::vec(prop::sample::select(parts()), 0..14),
        shown in prop::sample::select(vec![None, Some(FRIEND), Some(OURS), Some("xmpp.foreign.example")]),
        says in prop::sample::select(vec![None, Some(Verdict::Invalid), Some(Verdict::Error)]),
        begun in prop::bool::weighted(0.9),
    ) {
        let mut ours = begin(false, mode);
        if begun {
            ours.feed(header(THEIRS, OURS));
        }
        play(&mut ours, &parts, usize::MAX, shown, says);
        prop_assert!(ours.proven().is_empty() && ours.stanzas().is_empty());
    }

    /// Nor is a stanza of ours told to anybody who is not foreign.example, by the ladder of its entry.
    #[test]
    fn nobody_else_gets_what_is_for_a_partner(
        mode in modes(),
        parts in prop::collection::vec(prop::sample::select(parts()), 0..14),
        shown in prop::sample::select(vec![None, Some(FRIEND), Some(THEIRS)]),
    ) {
        let mut ours = begin(true, mode);
        ours.feed(answer("1"));
        let encrypted = play(&mut ours, &parts, usize::MAX, shown, None);
        ours.said();
        ours.input(LinkInput::Send(TO_THEM.into(), Some(1)));
        let (tls, ladder) = mode;
        let may = (encrypted || tls != TlsMode::Required)
            && (ladder.contains(&Proof::Dialback) || (encrypted && shown == Some(THEIRS)));
        prop_assert!(may || !ours.said().contains("yo"));
        prop_assert!(may || (ours.proven().is_empty() && ours.stanzas().is_empty()));
    }

    /// Byte by byte is as whole.
    #[test]
    fn how_it_is_cut_does_not_matter(
        opened in any::<bool>(),
        mode in modes(),
        parts in prop::collection::vec(prop::sample::select(parts()), 0..14),
        shown in prop::sample::select(vec![None, Some(THEIRS)]),
        says in prop::sample::select(vec![None, Some(Verdict::Valid), Some(Verdict::Invalid)]),
        chunk in 1..30_usize,
    ) {
        let run = |chunk| {
            let mut ours = begin(opened, mode);
            ours.feed(if opened { answer("1") } else { header(THEIRS, OURS) });
            play(&mut ours, &parts, chunk, shown, says);
            let wants: Vec<_> = ours.wants.iter().map(|want| format!("{want:?}")).collect();
            (ours.said(), wants)
        };
        prop_assert_eq!(run(chunk), run(usize::MAX));
    }
}
