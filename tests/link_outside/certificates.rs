//! Which certificates speak for a domain over XMPP (RFC 6120 §13.7), here and on the inside.

use crate::pki::pki;
use crate::stand::*;
use crate::support::{End, NODE_IP, domain, now, settings};
use fedgate::gate::Side;
use fedgate::gate::link::{LinkInput, XmppLink};
use fedgate::gate::partner::{DomainPattern, Identity, NodeProof, TlsMode};
use fedgate::wire::certificate::Chain;
use rcgen::{DnType, OtherNameValue, SanType};
use std::sync::Arc;

fn dns(name: &str) -> SanType {
    SanType::DnsName(name.try_into().unwrap())
}

/// id-on-xmppAddr (5) or id-on-dnsSRV (7).
fn other_name(last: u64, value: &str) -> SanType {
    SanType::OtherName((vec![1, 3, 6, 1, 5, 5, 7, 8, last], OtherNameValue::Utf8String(value.into())))
}

fn carrying(names: Vec<SanType>) -> Arc<Chain> {
    pki().made("ca", |params| params.subject_alt_names = names)
}

/// Whether the holder may speak for `from`.
fn believed(chain: Arc<Chain>, from: &str) -> bool {
    let mut wide = edge(TlsMode::Required, CERTIFICATE);
    let policy = Arc::make_mut(&mut wide.policy);
    policy.partners.change(|entries| entries.push(entries[0].clone()));
    policy.partners.change(|entries| entries[2].domain = DomainPattern::Under(domain(THEIRS)));
    let mut ours = under_tls(wide, Some(chain), &header(from, OURS));
    let offered = ours.said().contains("EXTERNAL");
    ours.feed(key(from, OURS, "k"));
    assert_eq!(!ours.proven().is_empty(), offered, "SASL and dialback judge alike");
    offered
}

#[test]
fn names_are_those_of_the_service_and_the_domain() {
    let cases = [
        (vec![dns(THEIRS)], true, false),
        (vec![dns("FOREIGN.example")], true, false),
        (vec![other_name(5, THEIRS)], true, false),
        (vec![other_name(7, "_xmpp-server.foreign.example")], true, false),
        // Another service's, a client's, a user's.
        (vec![other_name(7, "_xmpp-client.foreign.example")], false, false),
        (vec![other_name(7, "_sip.foreign.example")], false, false),
        (vec![other_name(7, "foreign.example")], false, false),
        (vec![other_name(5, "user@foreign.example")], false, false),
        (vec![other_name(5, "foreign.example/x")], false, false),
        (vec![SanType::URI("xmpp:foreign.example".try_into().unwrap())], false, false),
        (vec![SanType::URI("sip:foreign.example".try_into().unwrap())], false, false),
        (vec![SanType::Rfc822Name("foreign.example".try_into().unwrap())], false, false),
        // A wildcard is one whole left-most label, and no more.
        (vec![dns("*.foreign.example")], false, true),
        (vec![dns("*.example")], true, false),
        (vec![dns("f*.example")], false, false),
        (vec![dns("*")], false, false),
        (vec![dns("*.*.example")], false, false),
        (vec![dns("foreign.*")], false, false),
        (vec![dns("chat.foreign.example")], false, true),
        (vec![dns("foreign.example.evil.example")], false, false),
        (vec![other_name(5, "*.foreign.example")], false, false),
        (vec![other_name(7, "_xmpp-server.*.foreign.example")], false, false),
    ];
    for (names, itself, subdomain) in cases {
        let chain = carrying(names);
        assert_eq!(believed(chain.clone(), THEIRS), itself, "{}", chain.names);
        assert_eq!(believed(chain.clone(), "chat.foreign.example"), subdomain, "{}", chain.names);
        assert!(!believed(chain.clone(), "a.chat.foreign.example"), "{}", chain.names);
    }
    // The CN counts where there is no SAN at all.
    let by_cn = |names: Vec<SanType>| {
        pki().made("ca", |params| {
            params.distinguished_name.push(DnType::CommonName, THEIRS);
            params.subject_alt_names = names;
        })
    };
    assert!(believed(by_cn(vec![]), THEIRS));
    assert!(!believed(by_cn(vec![dns("xmpp.hoster.example")]), THEIRS));
}

#[test]
fn a_self_signed_certificate_spares_no_call_back() {
    let key_pair = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec![THEIRS.to_owned()]).unwrap();
    let own = params.self_signed(&key_pair).unwrap();
    let chain = Arc::new(Chain::parse(vec![own.der().clone()]).unwrap());
    assert!(!believed(chain.clone(), THEIRS));
    let mut ours = under_tls(edge(TlsMode::Required, EITHER), Some(chain), &header(THEIRS, OURS));
    ours.feed(key(THEIRS, OURS, ""));
    assert!(ours.said().contains("<not-acceptable ") && ours.proven().is_empty());
    ours.feed(key(THEIRS, OURS, "k"));
    assert_eq!((ours.questions().len(), ours.proven().len()), (1, 0));
}

#[test]
fn an_entry_may_pin_other_names_and_its_own_authority() {
    let mut pinned = edge(TlsMode::Required, CERTIFICATE);
    Arc::make_mut(&mut pinned.policy)
        .partners
        .change(|entries| entries[0].identity = Identity::Pinned(vec!["xmpp.hoster.example".into()]));
    for (name, believed) in [("xmpp.hoster.example", true), (THEIRS, false)] {
        let mut ours = under_tls(pinned.clone(), Some(certificate(name)), &header(THEIRS, OURS));
        assert_eq!(ours.said().contains("EXTERNAL"), believed, "{name}");
    }
    // Whose certificate is not its own entry's.
    let mut ours = under_tls(pinned, Some(certificate("xmpp.hoster.example")), &header(FRIEND, OURS));
    assert!(!ours.said().contains("EXTERNAL"));

    let mut own = edge(TlsMode::Required, CERTIFICATE);
    own.trust = Arc::new(fedgate::gate::peer::TrustSets::new(vec![trust("ca"), trust("other-ca")]));
    Arc::make_mut(&mut own.policy).partners.change(|entries| entries[0].trust = fedgate::gate::partner::TrustId(1));
    for (from, authority, believed) in
        [(THEIRS, "other-ca", true), (THEIRS, "ca", false), (FRIEND, "ca", true), (FRIEND, "other-ca", false)]
    {
        let mut ours = under_tls(own.clone(), Some(pki().chain(authority, from)), &header(from, OURS));
        assert_eq!(ours.said().contains("EXTERNAL"), believed, "{from} {authority}");
    }
}

/// The inside: a node that serves corp.example and is known by its certificate.
fn node(name: Option<&str>, chain: Option<Arc<Chain>>) -> End {
    let mut settings = settings(NodeProof::Certificate, &[OURS], &[THEIRS], TlsMode::Optional);
    settings.nodes[0].tls_name = name.map(str::to_owned);
    settings.inside_trust = Arc::new(trust("other-ca"));
    settings.trust = Arc::new(fedgate::gate::peer::TrustSets::new(vec![trust("ca")]));
    let mut ours = End::new(XmppLink::accept(Arc::new(settings), Side::Inside, NODE_IP, [1; 32], now()));
    ours.input(LinkInput::TlsEstablished(chain)).feed(header(OURS, THEIRS));
    ours
}

#[test]
fn a_node_is_known_by_a_certificate_of_the_inside() {
    for (name, authority, carried, known) in [
        (None, "other-ca", OURS, true),
        (None, "other-ca", "imp-1.corp.example", false),
        (None, "ca", OURS, false),
        (Some("imp-1.corp.example"), "other-ca", "imp-1.corp.example", true),
        (Some("imp-1.corp.example"), "other-ca", OURS, false),
        (Some("imp-1.corp.example"), "other-ca", "*.corp.example", false),
    ] {
        let case = format!("{name:?} {authority} {carried}");
        let mut ours = node(name, Some(pki().chain(authority, carried)));
        let offered = ours.said();
        assert_eq!(offered.contains("EXTERNAL"), known, "{case}");
        assert!(!offered.contains("bidi") && !offered.contains("limits"), "{offered}");
        ours.feed(key(OURS, THEIRS, ""));
        assert_eq!(ours.proven().len(), usize::from(known), "{case}");
        if !known {
            assert!(ours.said().contains("type='error'><error type='cancel'><not-authorized "), "{case}");
            assert!(ours.details()[0].contains("node imp-1"), "{:?}", ours.details());
        }
    }
    let mut ours = node(None, Some(pki().chain("other-ca", OURS)));
    ours.feed(auth("=")).feed(header(OURS, THEIRS));
    assert_eq!(ours.proven(), ["corp.example>foreign.example"]);
    let mut ours = node(None, None);
    ours.feed(key(OURS, THEIRS, "k"));
    assert!(ours.proven().is_empty() && ours.details()[0].contains("verify = \"certificate\""), "{:?}", ours.details());
    ours.feed(BIDI);
    assert!(ours.closed().is_some(), "nobody offered it inside");
}
