use super::*;
use crate::gate::partner::{Action, Budget, ChatMode, Direction, HostPort, Profile, Proof, TlsMode};
use crate::gate::policy::Stranger;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CustomExtension, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, OtherNameValue, RevokedCertParams,
    SanType, SerialNumber, date_time_ymd,
};
use rustls_pki_types::CertificateDer;

/// 2030-01-01.
const NOW: Time = Time::from_unix_seconds(1_893_456_000);
const FROM_PEER: Opened = Opened::ByPeer;

struct Authority {
    der: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        let der = params.self_signed(&key).unwrap().der().clone();
        Self { der, issuer: Issuer::new(params, key) }
    }
    fn issue(&self, make: impl FnOnce(&mut CertificateParams)) -> Chain {
        let mut params = CertificateParams::default();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        make(&mut params);
        let key = KeyPair::generate().unwrap();
        Chain::parse(vec![params.signed_by(&key, &self.issuer).unwrap().der().clone()]).unwrap()
    }
    fn dns(&self, names: &[&str]) -> Chain {
        self.issue(|p| p.subject_alt_names = names.iter().map(|n| SanType::DnsName((*n).try_into().unwrap())).collect())
    }
    fn trust(&self) -> TrustSets {
        TrustSets::new(vec![TrustSet::new(std::slice::from_ref(&self.der), &[]).unwrap()])
    }
    fn crl(&self, serial: u64) -> Vec<u8> {
        let revoked = RevokedCertParams {
            serial_number: SerialNumber::from(serial),
            revocation_time: date_time_ymd(2026, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2026, 1, 1),
            next_update: date_time_ymd(2026, 2, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: vec![revoked],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap().der().to_vec()
    }
}

fn domain(text: &str) -> Domain {
    Domain::parse(text).unwrap()
}

fn partner(name: &str, identity: Identity) -> Partner {
    Partner {
        domain: DomainPattern::Exact(domain(name)),
        protocol: Protocol::Sip,
        label: name.into(),
        origin: "policies/10.toml:1".to_owned(),
        prefer: false,
        profile: Profile::Generic,
        also: Vec::new(),
        direction: Direction::Both,
        allow: vec![Action::Message],
        tls: TlsMode::Required,
        proof: vec![Proof::Certificate],
        identity,
        trust: TrustId(0),
        client_eku: false,
        networks: Vec::new(),
        next_hop: None::<HostPort>,
        chat: ChatMode::Auto,
        html: crate::gate::partner::Html::ToText,
        limits: Budget {
            messages_per_second: 50,
            subscriptions: 10,
            links: 8,
            body_bytes: 65_536,
            targets_per_hour: None,
        },
    }
}

/// Judges a chain of `names` for lync.example.
fn judge(chain: &Chain, ca: &Authority, identity: Identity, opened: &Opened) -> Result<(), String> {
    let partner = partner("lync.example", identity);
    speaks_for(chain, &ca.trust(), &partner, &domain("lync.example"), opened, NOW).map_err(|reject| {
        assert_eq!(reject.reason, Reason::Unproven);
        reject.detail
    })
}

fn by_us(host: &str, typed: bool) -> Opened {
    Opened::ByUs { domain: domain("lync.example"), host: Some(host.to_owned()), typed }
}

#[test]
fn rfc_5922_names() {
    let ca = Authority::new("Test CA");
    let ok = |chain: Chain| judge(&chain, &ca, Identity::Domain, &FROM_PEER);
    assert_eq!(ok(ca.dns(&["LYNC.example"])), Ok(()));
    assert!(ok(ca.dns(&["*.lync.example", "*.example"])).is_err(), "RFC 5922 §7.2: no wildcard");
    assert!(ok(ca.dns(&["evil-lync.example", "lync.example.evil.example"])).is_err(), "whole names only");
    let detail = ok(ca.dns(&["sip.lync.example"])).unwrap_err();
    assert!(detail.contains("carries sip.lync.example") && detail.contains("edge-in-domain"), "{detail}");
    assert!(detail.contains("policies/10.toml:1"), "{detail}");

    let uri = |uris: &[&str], dns: &[&str]| {
        ca.issue(|p| {
            p.subject_alt_names = uris.iter().map(|u| SanType::URI((*u).try_into().unwrap())).collect();
            p.subject_alt_names.extend(dns.iter().map(|n| SanType::DnsName((*n).try_into().unwrap())));
        })
    };
    assert_eq!(ok(uri(&["sip:Lync.example"], &["sip.other.example"])), Ok(()));
    assert!(ok(uri(&["sip:other.example"], &["lync.example"])).is_err(), "a sip URI silences DNS names");
    assert_eq!(ok(uri(&["sip:alice@other.example"], &["lync.example"])), Ok(()), "a user's URI is no domain identity");
    assert!(ok(uri(&["sip:alice@lync.example"], &[])).is_err());

    let cn = |san: Option<&str>| {
        ca.issue(|p| {
            p.distinguished_name.push(DnType::CommonName, "lync.example");
            p.subject_alt_names = san.iter().map(|n| SanType::DnsName((*n).try_into().unwrap())).collect();
        })
    };
    assert_eq!(ok(cn(None)), Ok(()));
    assert!(ok(cn(Some("other.example"))).is_err(), "the CN counts only without a SAN");
}

#[test]
fn microsofts_rule() {
    let ca = Authority::new("Test CA");
    let edge = |names: &[&str], opened: &Opened| judge(&ca.dns(names), &ca, Identity::EdgeInDomain, opened);
    assert_eq!(edge(&["sip.lync.example"], &FROM_PEER), Ok(()));
    for wrong in ["lync.example", "a.sip.lync.example", "*.lync.example", "sip.other.example", ".lync.example"] {
        if let Ok(name) = wrong.try_into() {
            let chain = ca.issue(|p| p.subject_alt_names = vec![SanType::DnsName(name)]);
            assert!(judge(&chain, &ca, Identity::EdgeInDomain, &FROM_PEER).is_err(), "{wrong}");
        }
    }
    assert_eq!(edge(&["SIP.lync.example"], &by_us("sip.lync.example", false)), Ok(()));
    assert!(
        edge(&["sip.lync.example"], &by_us("edge.lync.example", false)).is_err(),
        "the host we dialled must be in it"
    );
    assert!(edge(&["sip.other.example"], &by_us("sip.other.example", false)).is_err(), "DNS may not lead elsewhere");
    assert_eq!(edge(&["sip.other.example"], &by_us("sip.other.example", true)), Ok(()), "a typed host may be anywhere");
    assert!(edge(&["sip.lync.example"], &by_us("sip.other.example", true)).is_err());
}

#[test]
fn a_typed_host_vouches_for_its_own_entry_only() {
    let ca = Authority::new("Test CA");
    let chain = ca.dns(&["edge.hoster.example", "sip.third.example"]);
    let opened = by_us("edge.hoster.example", true);
    let ok = |entry: &Partner, from: &str| speaks_for(&chain, &ca.trust(), entry, &domain(from), &opened, NOW).is_ok();
    let mut lync = partner("lync.example", Identity::EdgeInDomain);
    assert!(ok(&lync, "lync.example"));
    let mut other = partner("other.example", Identity::EdgeInDomain);
    assert!(!ok(&other, "other.example"), "nobody typed that host for other.example");
    assert!(ok(&partner("third.example", Identity::EdgeInDomain), "third.example"), "as if it had connected to us");
    lync.also = vec![domain("member.example")];
    assert!(ok(&lync, "member.example"));
    other.also = vec![domain("lync.example")];
    assert!(ok(&other, "other.example"), "a clearing house, reached for a member");
}

#[test]
fn pinned_names() {
    let ca = Authority::new("Test CA");
    let pinned = Identity::Pinned(vec!["Gw.hoster.example".to_owned()]);
    assert_eq!(judge(&ca.dns(&["gw.hoster.example"]), &ca, pinned.clone(), &FROM_PEER), Ok(()));
    assert!(judge(&ca.dns(&["lync.example", "*.hoster.example"]), &ca, pinned, &FROM_PEER).is_err());
}

#[test]
fn xmpp_names() {
    let ca = Authority::new("Test CA");
    let mut entry = partner("im.example", Identity::Domain);
    entry.protocol = Protocol::Xmpp;
    let ok = |sans: Vec<SanType>| {
        let chain = ca.issue(|p| p.subject_alt_names = sans);
        speaks_for(&chain, &ca.trust(), &entry, &domain("im.example"), &FROM_PEER, NOW).is_ok()
    };
    let dns = |n: &str| vec![SanType::DnsName(n.try_into().unwrap())];
    let other = |last: u64, value: &str| {
        vec![SanType::OtherName((vec![1, 3, 6, 1, 5, 5, 7, 8, last], OtherNameValue::Utf8String(value.into())))]
    };
    assert!(ok(dns("im.example")));
    assert!(ok(dns("*.example")), "RFC 6120 §13.7.1.2.1 allows the left-most wildcard");
    assert!(!ok(dns("*.im.example")) && !ok(dns("a.im.example")));
    assert!(ok(other(5, "im.example")) && !ok(other(5, "juliet@im.example")));
    assert!(ok(other(7, "_xmpp-server.im.example")) && !ok(other(7, "_xmpp-client.im.example")));
    assert!(!ok(vec![SanType::URI("sip:im.example".try_into().unwrap())]));
}

#[test]
fn paths() {
    let (ca, other) = (Authority::new("Test CA"), Authority::new("Other CA"));
    let ok = |chain: &Chain| judge(chain, &ca, Identity::Domain, &FROM_PEER);
    let foreign = ok(&other.dns(&["lync.example"])).unwrap_err();
    assert!(foreign.contains("Other CA") && foreign.contains("trust"), "{foreign}");
    // The same issuer name with another key is no better.
    let twin = ok(&Authority::new("Test CA").dns(&["lync.example"])).unwrap_err();
    assert!(twin.contains("not trusted"), "{twin}");

    let dated = |from, to| {
        ca.issue(|p| {
            p.subject_alt_names = vec![SanType::DnsName("lync.example".try_into().unwrap())];
            p.not_before = date_time_ymd(from, 1, 1);
            p.not_after = date_time_ymd(to, 1, 1);
        })
    };
    assert!(ok(&dated(2020, 2029)).unwrap_err().contains("expired"));
    assert!(ok(&dated(2031, 2040)).unwrap_err().contains("not valid yet"));
    assert_eq!(ok(&dated(2029, 2040)), Ok(()));
    let self_made = {
        let params = CertificateParams::new(vec!["lync.example".to_owned()]).unwrap();
        let key = KeyPair::generate().unwrap();
        Chain::parse(vec![params.self_signed(&key).unwrap().der().clone()]).unwrap()
    };
    assert!(ok(&self_made).is_err());
}

#[test]
fn usage() {
    let ca = Authority::new("Test CA");
    let with = |usages: Vec<ExtendedKeyUsagePurpose>| {
        ca.issue(|p| {
            p.subject_alt_names = vec![SanType::DnsName("lync.example".try_into().unwrap())];
            p.extended_key_usages = usages;
        })
    };
    let sip_domain = ExtendedKeyUsagePurpose::Other(vec![1, 3, 6, 1, 5, 5, 7, 3, 20]);
    let judge_with = |chain: &Chain, client_eku, opened: &Opened| {
        let mut entry = partner("lync.example", Identity::Domain);
        entry.client_eku = client_eku;
        speaks_for(chain, &ca.trust(), &entry, &domain("lync.example"), opened, NOW).map_err(|r| r.detail)
    };
    let server_only = with(vec![ExtendedKeyUsagePurpose::ServerAuth]);
    assert_eq!(judge_with(&server_only, false, &FROM_PEER), Ok(()), "public CAs issue no clientAuth");
    let detail = judge_with(&server_only, true, &FROM_PEER).unwrap_err();
    assert!(detail.contains("eku = \"any\""), "{detail}");
    assert_eq!(
        judge_with(&server_only, true, &by_us("lync.example", false)),
        Ok(()),
        "as a server it need not be a client"
    );
    for usages in
        [vec![], vec![ExtendedKeyUsagePurpose::ClientAuth], vec![sip_domain], vec![ExtendedKeyUsagePurpose::Any]]
    {
        assert_eq!(judge_with(&with(usages.clone()), false, &FROM_PEER), Ok(()), "{usages:?}");
    }
    assert!(judge_with(&with(vec![ExtendedKeyUsagePurpose::CodeSigning]), false, &FROM_PEER).is_err());
    assert_eq!(judge_with(&with(vec![ExtendedKeyUsagePurpose::ClientAuth]), true, &FROM_PEER), Ok(()));
}

#[test]
fn revocation() {
    let ca = Authority::new("Test CA");
    let serial = |serial: u64| {
        ca.issue(|p| {
            p.subject_alt_names = vec![SanType::DnsName("lync.example".try_into().unwrap())];
            p.serial_number = Some(SerialNumber::from(serial));
        })
    };
    let anchors = [ca.der.clone()];
    let set = TrustSet::new(&anchors, &[ca.crl(7)]).unwrap();
    assert_eq!(set.verify(&serial(7), Use::Any, NOW), Err(Untrusted::Revoked));
    assert_eq!(set.verify(&serial(8), Use::Any, NOW), Ok(()));
    let unrelated = TrustSet::new(&anchors, &[Authority::new("Elsewhere").crl(7)]).unwrap();
    assert_eq!(unrelated.verify(&serial(7), Use::Any, NOW), Ok(()));
    assert!(TrustSet::new(&anchors, &[b"no list".to_vec()]).is_err());
    assert!(TrustSet::new(&[CertificateDer::from(vec![1, 2, 3])], &[]).is_err());
}

#[test]
fn of_an_authority_with_two_keys_each_list_speaks_for_its_own() {
    let (old, new) = (Authority::new("Test CA"), Authority::new("Test CA"));
    let issue = |ca: &Authority, serial: u64, says_key: bool| {
        ca.issue(|p| {
            p.subject_alt_names = vec![SanType::DnsName("lync.example".try_into().unwrap())];
            p.serial_number = Some(SerialNumber::from(serial));
            p.use_authority_key_identifier_extension = says_key;
        })
    };
    let anchors = [old.der.clone(), new.der.clone()];
    let set = |crls: &[Vec<u8>]| TrustSet::new(&anchors, crls).unwrap();
    let both = set(&[new.crl(7), old.crl(8)]);
    for (ca, serial, verdict) in
        [(&old, 7, Ok(())), (&old, 8, Err(Untrusted::Revoked)), (&new, 7, Err(Untrusted::Revoked)), (&new, 8, Ok(()))]
    {
        assert_eq!(both.verify(&issue(ca, serial, true), Use::Any, NOW), verdict, "{serial}");
    }
    assert_eq!(set(&[new.crl(7)]).verify(&issue(&old, 7, true), Use::Any, NOW), Ok(()), "no list for this key");
    // A list that bears its issuer's name and may be its own, but is not signed by it, is no reason to look away.
    let why = set(&[new.crl(7)]).verify(&issue(&old, 9, false), Use::Any, NOW).unwrap_err();
    assert!(why.to_string().contains("[tls] revocation"), "{why}");
}

#[test]
fn a_partners_own_trust_replaces_the_common_one() {
    let (common, own) = (Authority::new("Common"), Authority::new("Own"));
    let sets = TrustSets::new(
        [&common, &own].map(|ca| TrustSet::new(std::slice::from_ref(&ca.der), &[]).unwrap()).into_iter().collect(),
    );
    let mut entry = partner("lync.example", Identity::Domain);
    entry.trust = TrustId(1);
    let ok = |ca: &Authority| {
        speaks_for(&ca.dns(&["lync.example"]), &sets, &entry, &domain("lync.example"), &FROM_PEER, NOW).is_ok()
    };
    assert!(ok(&own) && !ok(&common));
}

#[test]
fn attribution() {
    let ca = Authority::new("Test CA");
    let trust = ca.trust();
    let mut house = partner("house.example", Identity::Domain);
    house.also = vec![domain("member.example")];
    let mut table = Table {
        version: 1,
        partners: vec![partner("lync.example", Identity::EdgeInDomain), house].into(),
        rules: Vec::new(),
        stranger: None,
        local_domains: vec![domain("corp.example")],
    };
    let from = |table: &Table, chain: Option<&Chain>, from: &str| {
        attribute(LinkId(1), Facts::Sip { chain, opened: &FROM_PEER }, &domain(from), table, &trust, NOW)
            .map_err(|reject| reject.reason)
    };
    let lync = ca.dns(&["sip.lync.example", "corp.example"]);
    let claim = from(&table, Some(&lync), "lync.example").unwrap();
    assert_eq!(
        (claim.partner(), claim.link(), claim.domain().as_str()),
        (Some(PartnerId(0)), LinkId(1), "lync.example")
    );
    assert_eq!(claim.expires(), Some(Time::from_unix_seconds(lync.not_after)));
    assert_eq!(from(&table, None, "lync.example"), Err(Reason::Unproven));
    assert_eq!(from(&table, Some(&lync), "corp.example"), Err(Reason::Unproven), "our own domain, whatever it carries");
    assert_eq!(from(&table, Some(&lync), "house.example"), Err(Reason::Unproven));
    assert_eq!(from(&table, Some(&lync), "unknown.example"), Err(Reason::UnlistedDomain));

    let cleared = ca.dns(&["house.example"]);
    assert_eq!(from(&table, Some(&cleared), "member.example").unwrap().partner(), Some(PartnerId(1)));
    assert_eq!(from(&table, Some(&cleared), "other.example"), Err(Reason::UnlistedDomain));

    table.stranger = Some(Stranger { allow: vec![Action::Subscribe], limits: table.partners[0].limits });
    let stranger = ca.dns(&["unknown.example"]);
    assert_eq!(from(&table, Some(&stranger), "unknown.example").unwrap().partner(), None);
    assert_eq!(from(&table, Some(&ca.dns(&["sip.unknown.example"])), "unknown.example"), Err(Reason::Unproven));
}

#[test]
fn a_stream_counts_by_the_rungs_its_entry_lists() {
    let ca = Authority::new("Test CA");
    let set = ca.trust();
    let entry = |tls, proof: &[Proof]| Table {
        version: 1,
        partners: vec![Partner {
            protocol: Protocol::Xmpp,
            tls,
            proof: proof.to_vec(),
            ..partner("im.example", Identity::Domain)
        }]
        .into(),
        rules: Vec::new(),
        stranger: None,
        local_domains: vec![domain("corp.example")],
    };
    let (good, bad) = (Arc::new(ca.dns(&["im.example"])), Arc::new(ca.dns(&["other.example"])));
    let judge = |table: &Table, tls, chain: Option<&Arc<Chain>>, by, from: &str| {
        let evidence = Evidence { tls, chain: chain.cloned(), by, opened: Opened::ByPeer };
        attribute(LinkId(2), Facts::Xmpp(&evidence), &domain(from), table, &set, NOW).map_err(|r| r.reason)
    };
    let strict = entry(TlsMode::Required, &[Proof::Certificate]);
    let claim = judge(&strict, true, Some(&good), Proof::Certificate, "im.example").unwrap();
    assert_eq!((claim.protocol(), claim.expires()), (Protocol::Xmpp, Some(Time::from_unix_seconds(good.not_after))));
    let unproven = Err(Reason::Unproven);
    assert_eq!(judge(&strict, true, Some(&bad), Proof::Certificate, "im.example"), unproven);
    assert_eq!(judge(&strict, true, None, Proof::Certificate, "im.example"), unproven);
    assert_eq!(judge(&strict, false, Some(&good), Proof::Certificate, "im.example"), unproven);
    assert_eq!(judge(&strict, true, Some(&good), Proof::Dialback, "im.example"), unproven, "a rung it does not list");
    assert_eq!(judge(&strict, true, Some(&good), Proof::Certificate, "corp.example"), unproven, "ours");
    assert_eq!(judge(&strict, true, Some(&bad), Proof::Certificate, "other.example"), Err(Reason::UnlistedDomain));

    let ladder = entry(TlsMode::Required, &[Proof::Certificate, Proof::Dialback]);
    assert_eq!(judge(&ladder, true, None, Proof::Dialback, "im.example").unwrap().expires(), None);
    assert_eq!(judge(&ladder, false, None, Proof::Dialback, "im.example"), unproven, "without TLS");
    let plain = entry(TlsMode::Off, &[Proof::Dialback]);
    assert!(judge(&plain, false, None, Proof::Dialback, "im.example").is_ok());
}

#[test]
fn an_unknown_critical_extension_is_refused() {
    let ca = Authority::new("Test CA");
    let chain = ca.issue(|p| {
        p.subject_alt_names = vec![SanType::DnsName("lync.example".try_into().unwrap())];
        let mut extension = CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![5, 0]);
        extension.set_criticality(true);
        p.custom_extensions = vec![extension];
    });
    assert!(judge(&chain, &ca, Identity::Domain, &FROM_PEER).is_err());
}
