//! The samples of `tests/vectors/xmpp`, as a partner's server writes them to the outside. What they are is `tests/vectors_xmpp.rs`'s to say.

use crate::stand::*;
use crate::support::{End, domain, settings};
use fedgate::gate::link::{Settings, Verdict};
use fedgate::gate::partner::{NodeProof, TlsMode};
use fedgate::gate::policy::Table;
use std::path::Path;
use std::sync::Arc;

fn sample(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/xmpp").join(name)).unwrap()
}

fn example_com(tls: TlsMode) -> Settings {
    let mut settings = settings(NodeProof::Network, &["example.com"], &[], TlsMode::Optional);
    let partners = ["foreign.example.org", "chat.foreign.example.org", "gtalk.example.net", "sametime.example.org"];
    settings.policy = Arc::new(Table {
        partners: partners.iter().map(|name| entry(name, tls, EITHER)).collect(),
        local_domains: vec![domain("example.com")],
        ..Table::default()
    });
    settings
}

const HEADER: &str = "<?xml version='1.0'?><stream:stream xmlns='jabber:server' \
                      xmlns:stream='http://etherx.jabber.org/streams' xmlns:db='jabber:server:dialback' \
                      from='foreign.example.org' to='example.com' version='1.0'>";

/// foreign.example.org, proven by dialback.
fn proven() -> End {
    let mut settings = example_com(TlsMode::Optional);
    settings.limits.stanza_bytes = 20_000;
    let mut ours = accepting(settings);
    ours.feed(HEADER).feed(key("foreign.example.org", "example.com", "k"));
    verdict(&mut ours, Verdict::Valid);
    assert_eq!(ours.proven().len(), 1);
    ours.said();
    ours
}

#[test]
fn what_is_whole_in_itself_is_judged_on_the_outside() {
    // The sample, whether TLS is demanded, how many questions it leads to, and the stream error and label, if any.
    let cases = [
        ("googletalk-dialback.xml", TlsMode::Off, 1, None),
        ("googletalk-dialback.xml", TlsMode::Required, 0, Some(("policy-violation", "not-allowed"))),
        ("googletalk-dialback-v1.xml", TlsMode::Off, 1, None),
        ("googletalk-dialback-verify.xml", TlsMode::Off, 0, None),
        ("sametime-stream-open.xml", TlsMode::Optional, 0, None),
        ("x-db-multiplex.xml", TlsMode::Optional, 2, None),
        ("x-db-multiplex.xml", TlsMode::Required, 0, Some(("policy-violation", "not-allowed"))),
        ("x-db-result-empty.xml", TlsMode::Optional, 0, None),
        ("x-db-wrong-prefix.xml", TlsMode::Optional, 1, None),
        ("x-db-unsolicited-valid.xml", TlsMode::Optional, 0, Some(("not-authorized", "unproven"))),
        ("x-preauth-flood.xml", TlsMode::Optional, 0, Some(("policy-violation", "rate-limited"))),
    ];
    for (name, tls, questions, refused) in cases {
        let bytes = sample(name);
        for chunk in [1, bytes.len()] {
            let mut ours = accepting(example_com(tls));
            bytes.chunks(chunk).for_each(|bytes| {
                ours.feed(bytes);
            });
            assert_eq!(ours.questions().len(), questions, "{name}");
            assert!(ours.proven().is_empty() && ours.stanzas().is_empty(), "{name}");
            match refused {
                Some((condition, label)) => assert_refused(&mut ours, condition, label),
                None => assert!(ours.closed().is_none(), "{name}: {:?}", ours.closed()),
            }
        }
    }
}

#[test]
fn what_follows_a_header_is_judged_before_and_after_proof() {
    for name in ["x-sasl-external-empty.xml", "x-sasl-external-other.xml", "x-sasl-plain.xml"] {
        let mut ours = accepting(example_com(TlsMode::Optional));
        ours.feed(HEADER).feed(sample(name));
        assert!(ours.said().contains("<invalid-mechanism/>") && ours.proven().is_empty(), "{name}");
    }
    for (name, condition) in [
        ("x-stanza-no-from.xml", "improper-addressing"),
        ("x-stanza-from-subdomain.xml", "invalid-from"),
        ("x-comment-pi.xml", "restricted-xml"),
        ("x-doctype-bomb.xml", "restricted-xml"),
        ("x-oversize-stanza.xml", "policy-violation"),
    ] {
        let mut ours = proven();
        ours.feed(sample(name));
        let said = ours.said();
        assert!(said.contains(&format!("<stream:error><{condition} ")), "{name}: {said}");
        assert!(ours.stanzas().is_empty(), "{name}");
    }
    for name in ["x-iq-unhandled.xml", "x-presence-bad-show.xml", "x-stanza-error-loop.xml"] {
        let mut ours = proven();
        ours.feed(sample(name));
        assert!(!ours.stanzas().is_empty() && ours.closed().is_none(), "{name}: {:?}", ours.closed());
    }
}
