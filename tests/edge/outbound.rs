//! Connections of ours to partners: whose certificate we show, what we keep them for, what becomes of them at a reload.

use crate::partner::Partner;
use crate::world::{World, change, message};
use rustls::version::{TLS12, TLS13};

const ROMEO: &str = "romeo@lync.example";
const ALICE: &str = "alice@corp.example";
const BOB: &str = "bob@second.example";

/// An edge whose partner lync.example is at the next hop that is free.
async fn worlds(versions: &[&'static rustls::SupportedProtocolVersion]) -> (World, Partner) {
    let world = World::start().await;
    let partner = Partner::start(&world, "127.0.0.1:0", world.pki("pki", "partner"), versions).await;
    leads_to(&world, None, partner.port).await;
    (world, partner)
}

/// lync.example is at this port from now on.
async fn leads_to(world: &World, before: Option<u16>, port: u16) {
    let line = |port: u16| format!("profile = \"lync\"\nnext_hop = \"127.0.0.1:{port}\"");
    let before = before.map_or_else(|| "profile = \"lync\"".to_owned(), line);
    change(world.dir.path(), "policies/10.toml", &before, &line(port));
    world.edge.reload().await.unwrap();
}

#[tokio::test]
async fn each_local_domain_shows_its_own_certificate_on_its_own_connection() {
    for version in [&TLS12, &TLS13] {
        let (world, mut partner) = worlds(&[version]).await;
        world.provoke("1", ROMEO, ALICE).await;
        let corp = partner.next().await;
        assert!(corp.shown.contains(&"corp.example".to_owned()), "{corp:?}");
        world.provoke("2", ROMEO, BOB).await;
        let second = partner.next().await;
        assert!(second.shown.contains(&"second.example".to_owned()), "{second:?}");
        world.provoke("3", "another@lync.example", ALICE).await;
        assert_eq!(partner.next().await.connection, corp.connection, "a connection that is there is used again");
        assert_eq!(partner.accepted(), 2);
    }
}

#[tokio::test]
async fn new_certificates_are_shown_without_cutting_what_is_there() {
    let (world, mut partner) = worlds(&[&TLS13]).await;
    world.provoke("1", ROMEO, ALICE).await;
    partner.next().await;
    let client = world.client(Some(world.pki("pki", "partner")), &[&TLS13]);
    let mut inbound = world.connect(&client, "sip.corp.example").await.unwrap();
    world.subscribe(&mut inbound, "2", "b@lync.example", ALICE).await;
    partner.next().await;

    // The second identity's certificate serves both from now on.
    let pki = world.dir.path().join("pki");
    let (text, key) = (std::fs::read(pki.join("both.pem")).unwrap(), std::fs::read(pki.join("both.key")).unwrap());
    std::fs::write(pki.join("edge.pem"), text).unwrap();
    std::fs::write(pki.join("edge.key"), key).unwrap();
    world.edge.reload().await.unwrap();

    world.subscribe(&mut inbound, "3", "c@lync.example", ALICE).await;
    assert_eq!(partner.next().await.connection, 0, "both connections go on");
    let fresh = world.connect(&client, "sip.corp.example").await.unwrap();
    let der = fresh.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned();
    let names = fedgate::wire::certificate::Chain::parse(vec![der]).unwrap().names;
    assert!(names.dns.contains(&"new.corp.example".to_owned()), "who connects now sees the new one: {names}");

    let mut moved = Partner::start(&world, "127.0.0.1:0", world.pki("pki", "partner"), &[&TLS13]).await;
    leads_to(&world, Some(partner.port), moved.port).await;
    assert_eq!(partner.ended().await, 0, "nobody wants that next hop any more");
    world.subscribe(&mut inbound, "4", "d@lync.example", ALICE).await;
    let seen = moved.next().await;
    assert!(seen.shown.contains(&"new.corp.example".to_owned()), "whom we connect to now, too: {seen:?}");
}

#[tokio::test]
async fn identities_in_another_order_are_still_shown_for_their_own_domains() {
    let (world, mut partner) = worlds(&[&TLS13]).await;
    for (id, to) in [("1", ALICE), ("2", BOB)] {
        world.provoke(id, ROMEO, to).await;
        partner.next().await;
    }
    let path = world.dir.path().join("world.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let at = |what: &str| text.find(what).unwrap();
    let (first, second, end) =
        (at("[[identity]]\nhostname = \"sip.corp"), at("[[identity]]\nhostname = \"sip.second"), at("[tls]"));
    let swapped = [&text[..first], &text[second..end], &text[first..second], &text[end..]].concat();
    std::fs::write(path, swapped).unwrap();
    world.edge.reload().await.unwrap();
    for (id, to, name) in [("3", ALICE, "corp.example"), ("4", BOB, "second.example")] {
        world.provoke(id, "b@lync.example", to).await;
        let seen = partner.next().await;
        assert!(seen.shown.contains(&name.to_owned()) && seen.connection > 1, "{seen:?}");
    }
}

#[tokio::test]
async fn requests_on_a_connection_of_ours_are_judged_as_any() {
    let (world, mut partner) = worlds(&[&TLS13]).await;
    world.provoke("1", ROMEO, ALICE).await;
    partner.next().await;
    let answer = partner.say(message("own", ROMEO, ALICE)).await;
    assert!(
        answer.starts_with("SIP/2.0 503 "),
        "its own domain: past proof and policy, to a node that is not there: {answer}"
    );
    // RFC 5923 §9: for whom the connection was not proven, it carries nothing.
    for (id, from) in [("x1", "eve@other.example"), ("x2", "eve@corp.example")] {
        let answer = partner.say(message(id, from, ALICE)).await;
        assert!(answer.contains("unproven"), "{from}: {answer}");
    }
}

#[tokio::test]
async fn the_least_tls_version_holds_both_ways() {
    let (world, partner) = worlds(&[&TLS12]).await;
    change(world.dir.path(), "world.toml", "[tls]", "[tls]\nminimum = \"1.3\"");
    world.edge.reload().await.unwrap();
    let old = world.client(Some(world.pki("pki", "partner")), &[&TLS12]);
    let error = world.connect(&old, "sip.corp.example").await.unwrap_err();
    assert!(error.to_string().contains("ProtocolVersion"), "{error}");
    world.provoke("1", ROMEO, ALICE).await;
    // One was that client.
    world.failed_attempts(2).await;
    assert_eq!(partner.accepted(), 1);
}
