//! Certificates that their authority has taken back (`[tls] revocation`), both ways.

use crate::partner::Partner;
use crate::world::{World, ask, authority, change, message};
use rcgen::{CertificateRevocationListParams, KeyIdMethod, RevokedCertParams, SerialNumber};
use rustls::HandshakeKind;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::version::{TLS12, TLS13};
use std::path::Path;
use std::time::{Duration, SystemTime};
use x509_parser::asn1_rs::FromDer as _;

const ROMEO: &str = "romeo@lync.example";
const ALICE: &str = "alice@corp.example";
const DAY: Duration = Duration::from_secs(86_400);

/// Writes `pki/list.pem`, by which the authority of `folder` takes back the certificate of this name; one that is overdue if so asked.
fn revoke(base: &Path, folder: &str, name: &str, is_overdue: bool) {
    let pem = |file: &str| CertificateDer::from_pem_file(base.join(folder).join(file)).unwrap();
    let certificate = pem(&format!("{name}.pem"));
    let serial = x509_parser::certificate::X509Certificate::from_der(&certificate).unwrap().1.raw_serial().to_vec();
    let now = SystemTime::now();
    let list = CertificateRevocationListParams {
        this_update: (now - DAY * 3).into(),
        next_update: if is_overdue { now - DAY } else { now + DAY }.into(),
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: vec![RevokedCertParams {
            serial_number: SerialNumber::from_slice(&serial),
            revocation_time: (now - DAY * 4).into(),
            reason_code: None,
            invalidity_date: None,
        }],
        key_identifier_method: KeyIdMethod::Sha256,
    };
    let list = list.signed_by(&authority(base, folder)).unwrap();
    std::fs::write(base.join("pki/list.pem"), list.pem().unwrap()).unwrap();
}

fn by_the_list(base: &Path) {
    change(base, "world.toml", "[tls]", "[tls]\nrevocation = [\"pki/list.pem\"]");
}

#[tokio::test]
async fn who_is_revoked_does_not_get_in_and_who_is_not_does() {
    for is_overdue in [false, true] {
        let world = World::start_with(|base| {
            revoke(base, "pki", "partner", is_overdue);
            by_the_list(base);
        })
        .await;
        for version in [&TLS12, &TLS13] {
            let client = world.client(Some(world.pki("pki", "partner")), &[version]);
            let alert = crate::tls::alert(&world, &client).await;
            assert_eq!(alert, Some(rustls::AlertDescription::CertificateRevoked), "{version:?}");
        }
        let refusal = world.decisions().await.into_iter().next().expect("the refusal is kept");
        assert_eq!(refusal["reason"], "unproven");
        let because = refusal["because"].as_str().unwrap();
        assert!(because.contains("sip.lync.example") && because.contains("revoked"), "{because}");

        let other = world.client(Some(world.pki("pki", "other")), &[&TLS13]);
        let mut stream = world.connect(&other, "sip.corp.example").await.unwrap();
        let answer = ask(&mut stream, &message("ok", "eve@other.example", ALICE)).await;
        assert!(answer.starts_with("SIP/2.0 503 "), "its authority has a list, and it is not on it: {answer}");
    }
}

#[tokio::test]
async fn a_partner_whose_authority_has_no_list_is_accepted() {
    // Both authorities have one name, as after a renewal with a new key.
    let world = World::start_with(|base| {
        revoke(base, "pki", "second", false);
        by_the_list(base);
        change(base, "policies/10.toml", "profile = \"lync\"", "profile = \"lync\"\ntrust = [\"foreign/ca.pem\"]");
    })
    .await;
    let client = world.client(Some(world.pki("foreign", "partner")), &[&TLS13]);
    let mut stream = world.connect(&client, "sip.corp.example").await.unwrap();
    let answer = ask(&mut stream, &message("a", ROMEO, ALICE)).await;
    assert!(answer.starts_with("SIP/2.0 503 "), "{answer}");
    let common = world.client(Some(world.pki("pki", "partner")), &[&TLS13]);
    let mut stream = world.connect(&common, "sip.corp.example").await.unwrap();
    let answer = ask(&mut stream, &message("b", ROMEO, ALICE)).await;
    assert!(answer.contains("unproven"), "the entry's own trust replaces the common one: {answer}");
}

#[tokio::test]
async fn a_reload_with_a_list_ends_what_it_revokes_resumed_or_running() {
    for version in [&TLS12, &TLS13] {
        let world = World::start().await;
        let mut partner = Partner::start(&world, "127.0.0.1:0", world.pki("pki", "partner"), &[version]).await;
        let next_hop = format!("profile = \"lync\"\nnext_hop = \"127.0.0.1:{}\"", partner.port);
        change(world.dir.path(), "policies/10.toml", "profile = \"lync\"", &next_hop);
        world.edge.reload().await.unwrap();
        let client = world.client(Some(world.pki("pki", "partner")), &[version]);
        let mut stream = world.connect(&client, "sip.corp.example").await.unwrap();
        world.subscribe(&mut stream, "1", ROMEO, ALICE).await;
        assert_eq!(partner.next().await.connection, 0);
        let mut again = world.connect(&client, "sip.corp.example").await.unwrap();
        world.subscribe(&mut again, "2", "b@lync.example", ALICE).await;
        assert_eq!(again.get_ref().1.handshake_kind(), Some(HandshakeKind::Resumed));
        partner.next().await;

        revoke(world.dir.path(), "pki", "partner", false);
        by_the_list(world.dir.path());
        world.edge.reload().await.unwrap();
        let answer = ask(&mut stream, &message("3", ROMEO, ALICE)).await;
        assert!(answer.contains("unproven"), "on a connection that was there before: {answer}");
        assert_eq!(partner.ended().await, 0, "ours to it ends");
        let alert = crate::tls::alert(&world, &client).await;
        assert_eq!(alert, Some(rustls::AlertDescription::CertificateRevoked), "with a session of before: {version:?}");
    }
}

#[tokio::test]
async fn a_revoked_partner_is_not_connected_to() {
    let world = World::start_with(|base| {
        revoke(base, "pki", "partner", false);
        by_the_list(base);
    })
    .await;
    let mut partner = Partner::start(&world, "127.0.0.1:0", world.pki("pki", "partner"), &[&TLS13]).await;
    let next_hop = format!("chat = \"page\"\nnext_hop = \"127.0.0.1:{}\"", partner.port);
    let text = std::fs::read_to_string(world.dir.path().join("policies/10.toml")).unwrap();
    // The second entry, whose certificate nobody revoked, is led to the first one's server.
    std::fs::write(
        world.dir.path().join("policies/10.toml"),
        text.replace("domain = \"other.example\"\nprotocol = \"sip\"\nchat = \"page\"", &format!("domain = \"other.example\"\nprotocol = \"sip\"\nidentity = [\"sip.lync.example\", \"other.example\"]\n{next_hop}")),
    )
    .unwrap();
    world.edge.reload().await.unwrap();
    let other = world.client(Some(world.pki("pki", "other")), &[&TLS13]);
    let mut stream = world.connect(&other, "sip.corp.example").await.unwrap();
    world.subscribe(&mut stream, "1", "romeo@other.example", ALICE).await;
    world.failed_attempts(1).await;
    assert_eq!(partner.accepted(), 1);

    // Off the list, and it is served.
    revoke(world.dir.path(), "pki", "second", false);
    world.edge.reload().await.unwrap();
    world.subscribe(&mut stream, "2", "b@other.example", ALICE).await;
    partner.next().await;
}
