//! How partners are found (RFC 3263 §4): static records, SRV, addresses; each target until one proves to be the partner.

use crate::names::{Known, Names, address, srv};
use crate::partner::{Partner, closed, mute};
use crate::world::{World, change};
use fedgate::io::resolve::{NotFound, Resolver};
use fedgate::io::settings::Dns;
use hickory_resolver::proto::rr::RecordType;
use rustls::version::{TLS12, TLS13};
use std::time::{Duration, Instant};

const FEDERATION: &str = "_sipfederationtls._tcp.lync.example";
const SIPS: &str = "_sips._tcp.lync.example";
const ROMEO: &str = "romeo@lync.example";
const ALICE: &str = "alice@corp.example";

/// An edge that asks this name server.
async fn world(names: &Names) -> World {
    World::start_with(|base| {
        change(base, "world.toml", "servers = [\"127.0.0.1:9\"]", &format!("servers = [\"{}\"]", names.at));
    })
    .await
}

/// lync.example's edge, on a free port of this address.
async fn lync(world: &World, at: &str) -> Partner {
    Partner::start(world, at, world.pki("pki", "partner"), &[&TLS12, &TLS13]).await
}

#[tokio::test]
async fn microsofts_name_comes_first_then_the_rfcs() {
    let names = Names::start().await;
    let world = world(&names).await;
    let (mut by_federation, mut by_sips) = (lync(&world, "127.0.0.1:0").await, lync(&world, "127.0.0.1:0").await);
    names
        .records(FEDERATION, vec![srv(0, 0, by_federation.port, "sip.lync.example.")])
        .records("_sips._tcp.other.example", vec![srv(0, 0, by_sips.port, "other.example.")])
        .records(SIPS, vec![srv(0, 0, by_sips.port, "sip.lync.example.")])
        .records("sip.lync.example", vec![address("127.0.0.1")]);
    world.provoke("1", ROMEO, ALICE).await;
    let seen = by_federation.next().await;
    assert!(seen.line.starts_with("NOTIFY "), "{seen:?}");
    assert_eq!(names.asked(SIPS, RecordType::SRV), 0);

    // A service that is decidedly not there leaves the other name.
    let (before, names) = (names.at, Names::start().await);
    names
        .records(FEDERATION, vec![srv(0, 0, 0, ".")])
        .records(SIPS, vec![srv(0, 0, by_sips.port, "sip.lync.example.")])
        .records("sip.lync.example", vec![address("127.0.0.1")]);
    change(world.dir.path(), "world.toml", &before.to_string(), &names.at.to_string());
    world.edge.reload().await.unwrap();
    drop(by_federation);
    world.provoke("2", ROMEO, "bob@second.example").await;
    by_sips.next().await;
}

#[tokio::test]
async fn without_srv_records_the_domains_own_address_and_port_5061() {
    let names = Names::start().await;
    let world = world(&names).await;
    let shows = world.pki("pki", "other");
    // The port is given: the address is of this process.
    let [.., high, low] = std::process::id().to_be_bytes();
    let host = format!("127.61.{high}.{low}");
    let mut other = Partner::start(&world, &format!("{host}:5061"), shows, &[&TLS13]).await;
    names.records("other.example", vec![address(&host)]);
    let client = world.client(Some(world.pki("pki", "other")), &[&TLS13]);
    let mut stream = world.connect(&client, "sip.corp.example").await.unwrap();
    world.subscribe(&mut stream, "a", "romeo@other.example", ALICE).await;
    let seen = other.next().await;
    assert_eq!(seen.sni.as_deref(), Some("other.example"), "RFC 5922 §7.8");
}

#[tokio::test]
async fn a_service_that_is_not_offered_is_not_guessed_at() {
    let names = Names::start().await;
    let world = world(&names).await;
    names.records(FEDERATION, vec![srv(0, 0, 0, ".")]).records("lync.example", vec![address("127.0.0.1")]);
    world.provoke("1", ROMEO, ALICE).await;
    world.failed_attempts(1).await;
    assert_eq!(names.asked("lync.example", RecordType::A), 0);
    let resolver = Resolver::new(Dns { servers: vec![names.at], ..Dns::default() });
    let error = resolver.srv(FEDERATION).await.unwrap_err();
    assert_eq!(error, NotFound::NotOffered(FEDERATION.to_owned()));
    assert!(error.to_string().contains("not offered"), "{error}");
}

#[tokio::test]
async fn every_target_and_address_is_tried_however_each_fails() {
    let names = Names::start().await;
    let world = world(&names).await;
    let mut good = lync(&world, "127.0.0.1:0").await;
    // Its certificate names somebody else; this one is of an authority that nobody trusts.
    let wrong = Partner::start(&world, "127.0.0.1:0", world.pki("pki", "other"), &[&TLS13]).await;
    let foreign = Partner::start(&world, "127.0.0.1:0", world.pki("foreign", "partner"), &[&TLS13]).await;
    names
        .records(
            FEDERATION,
            vec![
                srv(60, 0, good.port, "f.lync.example."),
                srv(10, 0, closed("127.0.0.1:0").await, "a.lync.example."),
                srv(20, 0, mute("127.0.0.1:0").await, "b.lync.example."),
                srv(21, 0, mute("127.0.0.1:0").await, "b.lync.example."),
                srv(22, 0, mute("127.0.0.1:0").await, "b.lync.example."),
                srv(30, 0, wrong.port, "c.lync.example."),
                srv(40, 0, foreign.port, "sip.lync.example."),
                srv(50, 0, good.port, "nowhere.lync.example."),
                srv(55, 0, good.port, "silent.lync.example."),
                srv(58, 0, good.port, "sip.lync.example."),
            ],
        )
        .put("silent.lync.example", Known::Silence);
    for host in ["a", "b", "c", "f"] {
        names.records(&format!("{host}.lync.example"), vec![address("127.0.0.1")]);
    }
    // Nobody listens at the first.
    names.records("sip.lync.example", vec![address("127.0.61.2"), address("127.0.0.1")]);
    let begun = Instant::now();
    world.provoke("1", ROMEO, ALICE).await;
    let seen = good.next().await;
    assert_eq!(seen.sni.as_deref(), Some("sip.lync.example"));
    assert!(begun.elapsed() < Duration::from_secs(20), "who hangs takes no more than his share: {:?}", begun.elapsed());
    assert_eq!((wrong.accepted(), foreign.accepted()), (1, 1), "in the order of priority");
}

#[tokio::test]
async fn a_partner_whose_names_are_slow_keeps_nobody_waiting() {
    let names = Names::start().await;
    let world = world(&names).await;
    let mut good = lync(&world, "127.0.0.1:0").await;
    names
        .put("_sipfederationtls._tcp.other.example", Known::Silence)
        .records(FEDERATION, vec![srv(0, 0, good.port, "sip.lync.example.")])
        .records("sip.lync.example", vec![address("127.0.0.1")]);
    let client = world.client(Some(world.pki("pki", "other")), &[&TLS13]);
    let mut stream = world.connect(&client, "sip.corp.example").await.unwrap();
    for i in 0..50 {
        world.subscribe(&mut stream, &format!("o{i}"), &format!("romeo{i}@other.example"), ALICE).await;
    }
    let begun = Instant::now();
    world.provoke("1", ROMEO, ALICE).await;
    good.next().await;
    assert!(begun.elapsed() < Duration::from_millis(2_500), "{:?}", begun.elapsed());
    world.failed_attempts(1).await;
    assert!(begun.elapsed() < Duration::from_secs(10), "silence is given up: {:?}", begun.elapsed());
}

#[tokio::test]
async fn answers_count_for_their_ttl() {
    let names = Names::start().await;
    let resolver = Resolver::new(Dns { servers: vec![names.at], ..Dns::default() });
    names
        .put(FEDERATION, Known::Records(2, vec![srv(0, 0, 5061, "sip.lync.example.")]))
        .put("broken.example", Known::Failure);
    for _ in 0..3 {
        assert_eq!(resolver.srv(FEDERATION).await.unwrap()[0].target, "sip.lync.example");
        assert_eq!(resolver.srv(SIPS).await.unwrap(), []);
    }
    for _ in 0..3 {
        assert!(resolver.addresses("broken.example").await.is_err());
    }
    assert_eq!(names.asked(FEDERATION, RecordType::SRV), 1);
    assert_eq!(names.asked(SIPS, RecordType::SRV), 1, "that there is none counts too");
    assert!(names.asked("broken.example", RecordType::A) >= 3, "a failure counts for nothing");
    tokio::time::sleep(Duration::from_millis(2_200)).await;
    names.put(FEDERATION, Known::Records(2, vec![srv(0, 0, 5061, "new.lync.example.")]));
    assert_eq!(resolver.srv(FEDERATION).await.unwrap()[0].target, "new.lync.example");
}

#[tokio::test]
async fn over_ipv6() {
    if tokio::net::TcpListener::bind("[::1]:0").await.is_err() {
        eprintln!("left out: this machine has no IPv6");
        return;
    }
    let names = Names::start().await;
    let world = World::start_with(|base| {
        change(base, "world.toml", "servers = [\"127.0.0.1:9\"]", &format!("servers = [\"{}\"]", names.at));
        // Both families on one listener: who comes over IPv4 has his IPv4 address there.
        change(base, "world.toml", "sip = [\"127.0.0.2:1\"]", "sip = [\"[::]:2\"]");
        let networks = "profile = \"lync\"\nnetworks = [\"::1\", \"127.0.0.1\"]";
        change(base, "policies/10.toml", "profile = \"lync\"", networks);
    })
    .await;
    let mut partner = lync(&world, "[::1]:0").await;
    // One address that answers is enough, whichever family it is of.
    names
        .records(FEDERATION, vec![srv(0, 0, partner.port, "sip.lync.example.")])
        .records("sip.lync.example", vec![address("127.0.61.3"), address("::1")]);
    world.provoke_at("[::1]", "6", ROMEO, ALICE).await;
    partner.next().await;
    world.provoke_at("127.0.0.1", "4", ROMEO, ALICE).await;
    partner.next().await;

    let next_hop = format!("profile = \"lync\"\nnext_hop = \"[::1]:{}\"", partner.port);
    change(world.dir.path(), "policies/10.toml", "profile = \"lync\"", &next_hop);
    world.edge.reload().await.unwrap();
    world.provoke_at("[::1]", "7", ROMEO, ALICE).await;
    partner.next().await;
    assert_eq!(partner.accepted(), 2, "another next hop is another connection");
}
