//! Which SIP node of ours is at the other end of an inside connection? Known by its address, and by its certificate where `verify` says so.

use crate::gate::partner::{Node, NodeProof, NodeProtocol};
use crate::gate::peer::trust::{TrustSet, Use};
use crate::gate::reject::{Reason, Reject};
use crate::gate::settings::Settings;
use crate::gate::time::Time;
use crate::wire::certificate::Chain;
use std::net::IpAddr;

/// The SIP nodes that a connection from `peer` may be, in the order of the settings: those with `peer` among their `sources`; of these, one
/// with `verify = "certificate"` only if `chain` is valid at `now`, leads to `[inside] trust` and carries its name.
///
/// Fails with [`Reason::Unproven`] when there is none; the detail says why, node by node.
pub fn node_of<'a>(
    settings: &'a Settings,
    peer: IpAddr,
    chain: Option<&Chain>,
    now: Time,
) -> Result<Vec<&'a Node>, Reject> {
    let peer = peer.to_canonical();
    let (mut found, mut refusals) = (Vec::new(), Vec::new());
    for node in settings.nodes.iter().filter(|node| connects_from(node, peer)) {
        match proves(node, chain, &settings.inside_trust, now) {
            Ok(()) => found.push(node),
            Err(why) => refusals.push(format!("node {}: {why}", node.name)),
        }
    }
    match (found.is_empty(), refusals.is_empty()) {
        (false, _) => Ok(found),
        (true, true) => Err(not_a_source(peer)),
        (true, false) => Err(Reject::new(Reason::Unproven, refusals.join("; "))),
    }
}

/// Whether a SIP node connects from this address.
pub fn connects_from(node: &Node, peer: IpAddr) -> bool {
    node.protocol == NodeProtocol::Sip && node.sources.iter().any(|source| source.contains(&peer.to_canonical()))
}

/// For an address that no SIP node connects from.
pub fn not_a_source(peer: IpAddr) -> Reject {
    let detail =
        format!("no SIP node connects from {peer}; if it is one, add the address to the `sources` of its [[node]]");
    Reject::new(Reason::Unproven, detail)
}

fn proves(node: &Node, chain: Option<&Chain>, trust: &TrustSet, now: Time) -> Result<(), String> {
    if node.verify != NodeProof::Certificate {
        return Ok(());
    }
    let name = certificate_name(node)
        .ok_or("nothing says which name its certificate carries; write tls = { name = \"...\" }")?;
    let chain = chain.ok_or("it showed no certificate, which verify = \"certificate\" demands: it must connect to a \"tls:\" listener of [inside] sip and show one")?;
    speaks_as(chain, trust, name, now)
}

/// The name that a SIP node's certificate must carry when it connects: as typed, else the host of `address`.
pub fn certificate_name(node: &Node) -> Option<&str> {
    let host = Some(node.address.host.as_str()).filter(|host| host.parse::<IpAddr>().is_err());
    node.tls_name.as_deref().or(host)
}

/// Whether the holder of `chain` is the inside host `name`: the path leads to `trust`, and the name stands among the DNS names of the
/// certificate, whole. Neither wildcards nor the CN count: who is inside is known by one name (RFC 5922 §7.2 in the same sense).
pub fn speaks_as(chain: &Chain, trust: &TrustSet, name: &str, now: Time) -> Result<(), String> {
    let fingerprint = chain.fingerprint.get(..16).unwrap_or_default();
    let shown = format!("the certificate ({}; sha256 {fingerprint}…)", chain.names);
    if trust.is_empty() {
        return Err(format!("{shown} leads nowhere: [inside] trust is empty"));
    }
    trust.verify(chain, Use::Any, now).map_err(|why| format!("{shown} does not count by [inside] trust: {why}"))?;
    match chain.names.dns.iter().any(|carried| carried.eq_ignore_ascii_case(name)) {
        true => Ok(()),
        false => Err(format!(
            "{shown} does not carry the DNS name {name}; write the name that it carries into `tls` of the [[node]], or have it issued for {name}"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::partner::{HostPort, Presence, Profile};
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType};
    use std::sync::Arc;
    use std::time::Duration;

    /// 2030-01-01.
    const NOW: Time = Time::from_unix_seconds(1_893_456_000);

    struct Authority(rustls_pki_types::CertificateDer<'static>, Issuer<'static, KeyPair>);

    impl Authority {
        fn new(name: &str) -> Self {
            let mut params = CertificateParams::default();
            params.distinguished_name.push(DnType::CommonName, name);
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            let key = KeyPair::generate().unwrap();
            let der = params.self_signed(&key).unwrap().der().clone();
            Self(der, Issuer::new(params, key))
        }
        fn chain(&self, common_name: &str, dns: &[&str], years: (i32, i32)) -> Chain {
            let mut params = CertificateParams::default();
            params.distinguished_name.push(DnType::CommonName, common_name);
            params.subject_alt_names = dns.iter().map(|n| SanType::DnsName((*n).try_into().unwrap())).collect();
            params.not_before = rcgen::date_time_ymd(years.0, 1, 1);
            params.not_after = rcgen::date_time_ymd(years.1, 1, 1);
            let key = KeyPair::generate().unwrap();
            Chain::parse(vec![params.signed_by(&key, &self.1).unwrap().der().clone()]).unwrap()
        }
        fn leaf(&self, dns: &[&str]) -> Chain {
            self.chain("imp", dns, (2020, 2040))
        }
    }

    fn node(name: &str, host: &str, verify: NodeProof, sources: &[&str]) -> Node {
        Node {
            name: name.into(),
            protocol: NodeProtocol::Sip,
            address: HostPort { host: host.to_owned(), port: 5070 },
            tls_name: None,
            verify,
            sources: sources.iter().map(|source| source.parse().unwrap()).collect(),
            domains: Vec::new(),
            users: vec!["*".to_owned()],
            routing: true,
            priority: 0,
            weight: 1,
            public_port: 0,
            facing: None,
            profile: Profile::Generic,
            component: None,
        }
    }

    fn settings(nodes: Vec<Node>, authority: Option<&Authority>) -> Settings {
        let presence = Presence {
            expires: Duration::from_secs(3_600),
            minimum: Duration::from_secs(600),
            notify_interval: Duration::from_secs(5),
            polite_refusal: false,
        };
        let anchors: Vec<_> = authority.iter().map(|authority| authority.0.clone()).collect();
        Settings {
            identities: Vec::new(),
            policy: Arc::default(),
            trust: Arc::default(),
            nodes,
            presence,
            chat_idle: Duration::from_secs(600),
            secrets: Vec::new(),
            inside_networks: Vec::new(),
            inside_trust: Arc::new(TrustSet::new(&anchors, &[]).unwrap()),
            limits: crate::gate::limits::Limits::default(),
        }
    }

    fn names(settings: &Settings, peer: &str, chain: Option<&Chain>) -> Result<Vec<String>, String> {
        match node_of(settings, peer.parse().unwrap(), chain, NOW) {
            Ok(nodes) => Ok(nodes.iter().map(|node| node.name.to_string()).collect()),
            Err(reject) => {
                assert_eq!(reject.reason, Reason::Unproven);
                Err(reject.detail)
            }
        }
    }

    #[test]
    fn an_address_is_one_or_several_nodes_or_none() {
        let mut xmpp = node("xmpp", "10.0.0.1", NodeProof::Network, &["10.0.0.0/8"]);
        xmpp.protocol = NodeProtocol::Xmpp;
        let nodes = vec![
            xmpp,
            node("a", "10.0.0.1", NodeProof::Network, &["10.0.0.1/32"]),
            node("b", "10.0.0.1", NodeProof::Network, &["10.0.0.0/24", "2001:db8::/64"]),
        ];
        let settings = settings(nodes, None);
        let of = |peer| names(&settings, peer, None);
        assert_eq!(of("10.0.0.1").unwrap(), ["a", "b"]);
        assert_eq!(of("::ffff:10.0.0.1").unwrap(), ["a", "b"], "mapped");
        assert_eq!(of("10.0.0.2").unwrap(), ["b"]);
        assert_eq!(of("2001:db8::7").unwrap(), ["b"]);
        let detail = of("10.0.1.1").unwrap_err();
        assert!(detail.contains("10.0.1.1") && detail.contains("`sources`"), "an XMPP node is none: {detail}");
    }

    #[test]
    fn a_certificate_is_demanded_by_trust_and_name() {
        let (ours, theirs) = (Authority::new("inside"), Authority::new("outside"));
        let by_host = node("host", "imp.corp.example", NodeProof::Certificate, &["10.0.0.1/32"]);
        let mut typed = node("typed", "imp.corp.example", NodeProof::Certificate, &["10.0.0.1/32"]);
        typed.tls_name = Some("other.corp.example".to_owned());
        let settings = settings(vec![by_host, typed], Some(&ours));
        let of = |chain: Option<&Chain>| names(&settings, "10.0.0.1", chain);
        assert_eq!(of(Some(&ours.leaf(&["IMP.corp.example"]))).unwrap(), ["host"]);
        assert_eq!(of(Some(&ours.leaf(&["other.corp.example"]))).unwrap(), ["typed"]);
        assert_eq!(of(Some(&ours.leaf(&["other.corp.example", "imp.corp.example"]))).unwrap(), ["host", "typed"]);
        for (chain, why) in [
            (None, "no certificate"),
            (Some(ours.leaf(&["*.corp.example"])), "does not carry"),
            (Some(ours.leaf(&["imp.corp.example.evil.example"])), "does not carry"),
            (Some(ours.chain("imp.corp.example", &[], (2020, 2040))), "does not carry"),
            (Some(theirs.leaf(&["imp.corp.example"])), "not trusted"),
            (Some(ours.chain("imp", &["imp.corp.example"], (2020, 2025))), "expired"),
        ] {
            let detail = of(chain.as_ref()).unwrap_err();
            assert!(
                detail.contains(why) && detail.contains("node host:") && detail.contains("node typed:"),
                "{detail}"
            );
        }
        let right = ours.leaf(&["imp.corp.example"]);
        assert!(names(&settings, "10.0.0.2", Some(&right)).is_err(), "a certificate does not replace the address");
    }

    #[test]
    fn without_trust_no_certificate_counts() {
        let ours = Authority::new("inside");
        let by_address = node("address", "imp.corp.example", NodeProof::Network, &["10.0.0.1/32"]);
        let by_host = node("host", "imp.corp.example", NodeProof::Certificate, &["10.0.0.1/32"]);
        let nameless = node("nameless", "10.0.0.1", NodeProof::Certificate, &["10.0.0.2/32"]);
        let chain = ours.leaf(&["imp.corp.example"]);
        let untrusting = settings(vec![by_address, by_host.clone()], None);
        assert_eq!(names(&untrusting, "10.0.0.1", Some(&chain)).unwrap(), ["address"]);
        let detail = names(&settings(vec![by_host], None), "10.0.0.1", Some(&chain)).unwrap_err();
        assert!(detail.contains("[inside] trust is empty"), "{detail}");
        let detail = names(&settings(vec![nameless], Some(&ours)), "10.0.0.2", Some(&chain)).unwrap_err();
        assert!(detail.contains("which name"), "{detail}");
    }
}
