//! `[outside] sip` from the partner's end of the wire.

use crate::partner::Partner;
use crate::world::{PATIENCE, World, ask, authority, change, message};
use fedgate::wire::certificate::Chain;
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, KeyPair};
use rustls::version::{TLS12, TLS13};
use rustls::{AlertDescription, HandshakeKind, SupportedProtocolVersion};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

/// The alert by which the edge ends a handshake, at once (TLS 1.2) or with the first read (1.3).
pub async fn alert(world: &World, client: &TlsConnector) -> Option<AlertDescription> {
    let error = match world.connect(client, "sip.corp.example").await {
        Err(error) => error,
        Ok(mut stream) => {
            let mut byte = [0];
            tokio::time::timeout(PATIENCE, stream.read_exact(&mut byte)).await.expect("an end").expect_err("an alert")
        }
    };
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::AlertReceived(alert)) => Some(*alert),
        _ => panic!("no alert but {error}"),
    }
}

#[tokio::test]
async fn a_foreign_authority_gets_an_alert_and_an_entry_in_the_log() {
    let world = World::start().await;
    for version in VERSIONS {
        let client = world.client(Some(world.pki("foreign", "partner")), &[version]);
        assert_eq!(alert(&world, &client).await, Some(AlertDescription::UnknownCA), "{version:?}");
    }
    let refusal = world.decisions().await.into_iter().next().expect("the refusal is kept");
    assert_eq!(refusal["reason"], "unproven");
    let because = refusal["because"].as_str().unwrap();
    assert!(because.contains("sip.lync.example") && because.contains("not trusted"), "{because}");
}

#[tokio::test]
async fn no_certificate_gets_an_alert() {
    let world = World::start().await;
    for version in VERSIONS {
        let client = world.client(None, &[version]);
        let got = alert(&world, &client).await;
        assert!(
            matches!(got, Some(AlertDescription::CertificateRequired | AlertDescription::HandshakeFailure)),
            "{got:?}"
        );
    }
    assert!(world.decisions().await[0]["because"].as_str().unwrap().contains("no certificate"));
}

#[tokio::test]
async fn a_certificate_proves_its_own_domain_only() {
    let world = World::start().await;
    let client = world.client(Some(world.pki("pki", "partner")), &VERSIONS);
    let mut stream = world.connect(&client, "sip.corp.example").await.unwrap();
    for (i, (from, reason)) in [
        ("eve@other.example", "unproven"),
        ("eve@corp.example", "unproven"),
        ("eve@unlisted.example", "unlisted-domain"),
    ]
    .into_iter()
    .enumerate()
    {
        let answer = ask(&mut stream, &message(&format!("no{i}"), from, "alice@corp.example")).await;
        assert!(answer.starts_with("SIP/2.0 403 ") && answer.contains(reason), "{from}: {answer}");
    }
    // Its own gets past proof and policy, to a node that is not there.
    let answer = ask(&mut stream, &message("own", "juliet@lync.example", "alice@corp.example")).await;
    assert!(answer.starts_with("SIP/2.0 503 "), "{answer}");
}

#[tokio::test]
async fn a_certificate_for_servers_only_will_do_unless_the_entry_says_otherwise() {
    let world = World::start().await;
    let base = world.dir.path();
    let mut params = CertificateParams::new(vec!["sip.lync.example".to_owned()]).unwrap();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, &authority(base, "pki")).unwrap();
    std::fs::write(base.join("pki/server.pem"), certificate.pem()).unwrap();
    std::fs::write(base.join("pki/server.key"), key.serialize_pem()).unwrap();
    let mut partner = Partner::start(&world, "127.0.0.1:0", world.pki("pki", "server"), &VERSIONS).await;

    let client = world.client(Some(world.pki("pki", "server")), &VERSIONS);
    let mut stream = world.connect(&client, "sip.corp.example").await.unwrap();
    let answer = ask(&mut stream, &message("any", "juliet@lync.example", "alice@corp.example")).await;
    assert!(answer.starts_with("SIP/2.0 503 "), "past its proof: {answer}");

    let entry = format!("profile = \"lync\"\neku = \"client\"\nnext_hop = \"127.0.0.1:{}\"", partner.port);
    change(base, "policies/10.toml", "profile = \"lync\"", &entry);
    world.edge.reload().await.unwrap();
    let answer = ask(&mut stream, &message("client", "juliet@lync.example", "alice@corp.example")).await;
    assert!(answer.contains("unproven"), "{answer}");
    let decisions = world.decisions_when(|all| all.first().is_some_and(|newest| newest["reason"] == "unproven")).await;
    let because = decisions[0]["because"].as_str().unwrap();
    assert!(because.contains("eku = \"any\""), "{because}");
    // Where it is the server, it needs to be no client.
    world.provoke("1", "romeo@lync.example", "alice@corp.example").await;
    partner.next().await;
}

#[tokio::test]
async fn a_resumed_session_still_shows_its_certificate() {
    let world = World::start().await;
    for version in VERSIONS {
        let client = world.client(Some(world.pki("pki", "partner")), &[version]);
        let mut kinds = Vec::new();
        for i in 0..2 {
            let mut stream = world.connect(&client, "sip.corp.example").await.unwrap();
            let branch = format!("{i}{}", u16::from(version.version));
            let answer = ask(&mut stream, &message(&branch, "juliet@lync.example", "alice@corp.example")).await;
            assert!(answer.starts_with("SIP/2.0 503 "), "proven on a resumed session, too: {answer}");
            let answer =
                ask(&mut stream, &message(&format!("x{branch}"), "eve@other.example", "alice@corp.example")).await;
            assert!(answer.contains("unproven"), "and nothing more than before: {answer}");
            kinds.push(stream.get_ref().1.handshake_kind());
        }
        assert_eq!(kinds, [Some(HandshakeKind::Full), Some(HandshakeKind::Resumed)], "{version:?}");
    }
}

#[tokio::test]
async fn the_server_name_chooses_the_certificate() {
    let world = World::start().await;
    let client = world.client(Some(world.pki("pki", "partner")), &VERSIONS);
    for (sni, carries) in [
        ("sip.second.example", "second.example"),
        ("second.example", "second.example"),
        ("SIP.corp.example", "corp.example"),
        ("unknown.example", "corp.example"),
    ] {
        let stream = world.connect(&client, sni).await.unwrap();
        let der = stream.get_ref().1.peer_certificates().unwrap().iter().map(|der| der.clone().into_owned()).collect();
        let chain = Chain::parse(der).unwrap();
        assert!(chain.names.dns.iter().any(|name| name == carries), "{sni}: {}", chain.names);
    }
}

#[tokio::test]
async fn a_ping_gets_its_pong_and_noise_ends_only_its_own_connection() {
    let world = World::start().await;
    let client = world.client(Some(world.pki("pki", "partner")), &VERSIONS);
    let mut good = world.connect(&client, "sip.corp.example").await.unwrap();

    let mut bad = world.connect(&client, "sip.corp.example").await.unwrap();
    let noise = "x".repeat(100_000);
    let _ = bad.write_all(noise.as_bytes()).await;
    let _ = bad.flush().await;
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(20), bad.read_to_end(&mut rest)).await;
    assert!(ended.is_ok(), "noise is not read for ever");
    let mut plain = TcpStream::connect(world.sip()).await.unwrap();
    plain.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
    let _ = tokio::time::timeout(PATIENCE, plain.read_to_end(&mut rest)).await.expect("no TLS, no connection");

    // RFC 5626 §4.4.1
    good.write_all(b"\r\n\r\n").await.unwrap();
    good.flush().await.unwrap();
    let mut pong = [0; 2];
    tokio::time::timeout(PATIENCE, good.read_exact(&mut pong)).await.expect("a pong").unwrap();
    assert_eq!(&pong, b"\r\n");
}
