//! The edge of corp.example (and lab.example), its partners foreign.example and friend.example, and what their servers say.

use crate::pki::pki;
use crate::support::{End, domain, now, partner, settings};
use fedgate::gate::link::{Aim, LinkInput, LinkOutput, Settings, Verdict, XmppLink};
use fedgate::gate::partner::{NodeProof, Partner, Proof, Protocol, TlsMode};
use fedgate::gate::peer::{Evidence, TrustSet, TrustSets};
use fedgate::gate::{Other, Side};
use fedgate::wire::certificate::Chain;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

pub const OURS: &str = "corp.example";
pub const THEIRS: &str = "foreign.example";
/// Another partner.
pub const FRIEND: &str = "friend.example";
/// Where partners connect from.
pub const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 5));

pub const CERTIFICATE: &[Proof] = &[Proof::Certificate];
pub const DIALBACK: &[Proof] = &[Proof::Dialback];
pub const EITHER: &[Proof] = &[Proof::Certificate, Proof::Dialback];

pub const STARTTLS: &str = "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>";
pub const PROCEED: &str = "<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>";
pub const SUCCESS: &str = "<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>";
pub const BIDI: &str = "<bidi xmlns='urn:xmpp:bidi'/>";
pub const FROM_THEM: &str = "<message from='a@foreign.example' to='b@corp.example'><body>hi</body></message>";
pub const TO_THEM: &str = "<message from='b@corp.example' to='a@foreign.example'><body>yo</body></message>";

pub fn entry(name: &str, tls: TlsMode, proof: &[Proof]) -> Partner {
    Partner { protocol: Protocol::Xmpp, tls, proof: proof.to_vec(), ..partner(name) }
}

/// Both partners under these terms.
pub fn edge(tls: TlsMode, proof: &[Proof]) -> Settings {
    let mut settings = settings(NodeProof::Network, &[OURS, "lab.example"], &[], TlsMode::Optional);
    Arc::make_mut(&mut settings.policy).partners = vec![entry(THEIRS, tls, proof), entry(FRIEND, tls, proof)].into();
    settings.trust = Arc::new(TrustSets::new(vec![trust("ca")]));
    settings
}

/// The edge of foreign.example, with corp.example for a partner.
pub fn their_edge(tls: TlsMode, proof: &[Proof]) -> Settings {
    let mut theirs = edge(tls, proof);
    let policy = Arc::make_mut(&mut theirs.policy);
    policy.partners = vec![entry(OURS, tls, proof)].into();
    policy.local_domains = vec![domain(THEIRS)];
    theirs.secrets = vec![b"the partner's own".to_vec()];
    theirs
}

pub fn trust(authority: &str) -> TrustSet {
    let pem = std::fs::read(pki().folder.join(format!("{authority}.pem"))).unwrap();
    TrustSet::new(&[CertificateDer::from_pem_slice(&pem).unwrap()], &[]).unwrap()
}

/// A certificate of the trusted authority.
pub fn certificate(name: &str) -> Arc<Chain> {
    pki().chain("ca", name)
}

pub fn accepting(settings: Settings) -> End {
    End::new(XmppLink::accept(Arc::new(settings), Side::Outside, PEER, [7; 32], now()))
}

pub fn opening(settings: Settings) -> End {
    opening_by(settings, false)
}

pub fn opening_by(settings: Settings, direct_tls: bool) -> End {
    let aim = Aim::Partner { host: Some("xmpp.foreign.example".into()), typed: false };
    let (from, to) = (domain(OURS), domain(THEIRS));
    End::new(XmppLink::open(Arc::new(settings), aim, from, to, direct_tls, [8; 32], now()))
}

/// A stream header; empty names nobody.
pub fn header(from: &str, to: &str) -> String {
    let attribute = |name, value: &str| if value.is_empty() { String::new() } else { format!(" {name}='{value}'") };
    format!(
        "<?xml version='1.0'?><stream:stream xmlns='jabber:server' xmlns:db='jabber:server:dialback' \
         xmlns:stream='http://etherx.jabber.org/streams'{}{} version='1.0'>",
        attribute("from", from),
        attribute("to", to)
    )
}

/// Their answer to our header.
pub fn answer(id: &str) -> String {
    header(THEIRS, OURS).replace(" version='1.0'>", &format!(" id='{id}' version='1.0'>"))
}

/// `<stream:features>` with these inside: `starttls`, `required`, `external`, `dialback`, `bidi`, `sm`.
pub fn features(names: &[&str]) -> String {
    let inside = names.iter().map(|name| match *name {
        "starttls" => STARTTLS,
        "required" => "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'><required/></starttls>",
        "external" => {
            "<mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>EXTERNAL</mechanism></mechanisms>"
        }
        // COMPAT(ejabberd)
        "empty" => "<mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>",
        "dialback" => "<dialback xmlns='urn:xmpp:features:dialback'><errors/></dialback>",
        "bidi" => "<bidi xmlns='urn:xmpp:features:bidi'/>",
        "sm" => "<sm xmlns='urn:xmpp:sm:3'/>",
        other => panic!("{other}"),
    });
    format!("<stream:features>{}</stream:features>", inside.collect::<String>())
}

pub fn auth(response: &str) -> String {
    format!("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'>{response}</auth>")
}

pub fn key(from: &str, to: &str, key: &str) -> String {
    format!("<db:result from='{from}' to='{to}'>{key}</db:result>")
}

/// An accepted connection over TLS whose peer showed this certificate and said this header.
pub fn under_tls(settings: Settings, shown: Option<Arc<Chain>>, header: &str) -> End {
    let mut ours = accepting(settings);
    ours.input(LinkInput::TlsEstablished(shown)).feed(header);
    ours
}

/// foreign.example, proven by its certificate and SASL.
pub fn proven_by_sasl() -> End {
    let mut ours = under_tls(edge(TlsMode::Required, CERTIFICATE), Some(certificate(THEIRS)), &header(THEIRS, OURS));
    ours.feed(auth("=")).feed(header(THEIRS, OURS));
    assert_eq!(ours.proven(), ["foreign.example>corp.example"]);
    ours
}

/// Answers every question that was put with this.
pub fn verdict(ours: &mut End, verdict: Verdict) {
    for question in ours.questions() {
        ours.input(LinkInput::Verified(question, verdict));
    }
}

/// What was shown for each proven pair.
pub fn evidence(ours: &End) -> Vec<&Evidence> {
    let evidence = ours.wants.iter().filter_map(|want| match want {
        LinkOutput::Proven { other: Other::Partner(evidence), .. } => Some(evidence),
        _ => None,
    });
    evidence.collect()
}

/// Refused with this stream error, an ID, and this label; nothing was proven or let through.
#[track_caller]
pub fn assert_refused(ours: &mut End, condition: &str, label: &str) {
    let said = ours.said();
    assert!(said.contains(&format!("<stream:error><{condition} ")), "{said}");
    assert_eq!(ours.refusals().last(), Some(&label), "{said}");
    let id = ours.wants.iter().rev().find_map(|want| match want {
        LinkOutput::Refused { id, .. } => Some(*id),
        _ => None,
    });
    assert!(said.contains(&format!("fedgate {} {label} ", id.unwrap())), "{said}");
    assert!(said.ends_with("</stream:error></stream:stream>"), "{said}");
    assert!(ours.closed().is_some());
}
