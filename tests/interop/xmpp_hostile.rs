//! Streams of people who mean no good, or whose network is bad, while a good partner is served beside them.

use crate::client::Client;
use crate::pki::Certificate;
use crate::process::PATIENCE;
use crate::stand::wait_until;
use crate::xmpp_server::Kind::Prosody;
use crate::xmpp_stand::{ALICE, JULIET, PARTNER, Setup, Stand};
use crate::xmpp_stream::{Stream, connect, header};
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// A partner that proves itself, and then misbehaves; and how fast a stream must be.
const HOSTILE: &str = r#"
[[partner]]
domain   = "hostile.example"
protocol = "xmpp"
limits   = { messages_per_second = 1000, links = 64 }
"#;
const HASTE: &str = "negotiation = \"5s\"\nhandshake = \"5s\"";
const BAD: &str = "hostile.example";

struct World {
    stand: Stand,
    alice: Client,
    juliet: Client,
    certificate: Certificate,
    count: usize,
}

impl World {
    fn raise(test: &str) -> Option<Self> {
        let setup = Setup { policy: HOSTILE, limits: HASTE, ..Setup::of(Prosody, Prosody) };
        let stand = Stand::raise(test, setup)?;
        let (alice, juliet) = (stand.inside("alice"), stand.outside("juliet"));
        let certificate = stand.pki.leaf("hostile", &[BAD], &stand.pki.authority);
        let mut world = Self { stand, alice, juliet, certificate, count: 0 };
        world.is_served();
        Some(world)
    }

    /// The good partner's messages go both ways; gives how long both took.
    fn is_served(&mut self) -> Duration {
        let begun = Instant::now();
        self.count += 1;
        let id = format!("good{}", self.count);
        self.juliet.message(ALICE, &id, "good");
        self.alice.wait("the good partner's message", |e| e.text("id") == id && e.text("from").starts_with(JULIET));
        self.alice.message(JULIET, &id, "good, too");
        self.juliet.wait("the answer", |e| e.text("id") == id && e.text("type") == "chat");
        begun.elapsed()
    }

    fn proven(&self, slowly: Option<Duration>) -> std::io::Result<Stream> {
        let Stand { net, pki, .. } = &self.stand;
        let domains = [BAD, "corp.example"];
        Stream::proven(net.hostile(), self.stand.door(), domains, &self.certificate, &pki.authority, slowly)
    }
}

fn samples() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/xmpp");
    let entries = std::fs::read_dir(folder).expect("the samples").flatten().map(|entry| entry.path());
    let mut samples: Vec<PathBuf> = entries
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            name.starts_with("x-") && name.ends_with(".xml")
        })
        .collect();
    samples.sort();
    samples
}

/// Else it is what follows one.
fn brings_a_header(bytes: &[u8]) -> bool {
    // That in UTF-16 too.
    bytes.windows(13).any(|window| window == b"stream:stream") || bytes.contains(&0)
}

/// The sample in the names of this world; bytes that are no text stay as they are.
fn respelled(sample: &Path) -> Vec<u8> {
    let bytes = std::fs::read(sample).expect("a sample");
    match String::from_utf8(bytes) {
        Ok(text) => text.replace("foreign.example.org", BAD).replace("example.com", "corp.example").into_bytes(),
        Err(error) => error.into_bytes(),
    }
}

#[test]
fn torture_before_and_behind_proof_hurts_nobody_else() {
    let Some(mut world) = World::raise("xmpp-torture") else { return };
    let samples = samples();
    assert!(samples.len() >= 20, "{samples:?}");
    // Before anything is proven: whatever it is, it ends the stream, or nothing comes of it until time does.
    let mut unproven = Vec::new();
    for sample in &samples {
        let bytes = respelled(sample);
        let mut stream = Stream::plain(world.stand.net.hostile(), world.stand.door()).expect("a connection");
        if !brings_a_header(&bytes) {
            stream.write(&header(BAD, "corp.example")).expect("a header");
        }
        // It may have been closed in the middle.
        let _ = stream.write_bytes(&bytes);
        unproven.push((sample, stream));
    }
    world.is_served();
    for (sample, mut stream) in unproven {
        let (said, closed) = stream.read_to_end(Duration::from_secs(12));
        assert!(closed, "{}: still open after its time, with {said}", sample.display());
        assert!(!said.contains("<success") && !said.contains("type='valid'"), "{}: {said}", sample.display());
    }
    // And behind a proof.
    for sample in &samples {
        let mut stream = world.proven(None).unwrap_or_else(|error| panic!("{}: {error}", sample.display()));
        let _ = stream.write_bytes(&respelled(sample));
        let (said, _) = stream.read_to_end(Duration::from_millis(500));
        let names_inside = said.contains("node-1") || said.contains(&world.stand.net.inside().to_string());
        assert!(!names_inside, "{}: {said}", sample.display());
        drop(stream);
        world.is_served();
    }
    world.alice.assert_no_message("juliet@sub.hostile.example", Duration::ZERO);
    assert_eq!(world.stand.fedgate.metric("fedgate_unresolved_messages_total", &[]), Some(0.0));
}

#[test]
fn a_byte_at_a_time_is_as_good_as_all_at_once() {
    let Some(mut world) = World::raise("xmpp-bytes") else { return };
    let mut stream = world.proven(Some(Duration::from_micros(200))).expect("a stream");
    let message = |id: &str| {
        format!(
            "<message from='mallory@{BAD}/x' to='{ALICE}' id='{id}' type='chat'><body>slow {id} 私</body></message>"
        )
    };
    for byte in message("slow").as_bytes() {
        stream.write_bytes(&[*byte]).expect("a byte");
    }
    world.alice.wait("the slow message", |e| e.text("id") == "slow" && e.text("body") == "slow slow 私");
    // Half of one now, half of it when others were served.
    let text = message("halves");
    let (one, other) = text.split_at(text.len() / 2 + 1);
    stream.write(one).expect("a half");
    world.is_served();
    stream.write(other).expect("the other half");
    world.alice.wait("the message in halves", |e| e.text("id") == "halves");
}

#[test]
fn those_who_never_finish_their_header_are_closed_in_time() {
    let Some(mut world) = World::raise("xmpp-openers") else { return };
    let before = world.stand.fedgate.resident();
    let text = header(BAD, "corp.example");
    let mut sockets: Vec<_> = (0..200u8).map(|number| connect(many(number.into()), world.stand.door()).ok()).collect();
    let begun = Instant::now();
    let mut longest = Duration::ZERO;
    for byte in text.bytes().take(12) {
        for socket in sockets.iter_mut().flatten() {
            let _ = std::io::Write::write_all(socket, &[byte]);
        }
        longest = longest.max(world.is_served());
        std::thread::sleep(Duration::from_secs(1));
    }
    let open = sockets.iter_mut().flatten().filter_map(|socket| (!is_closed(socket)).then_some(())).count();
    println!("{open} of 200 open after {:?}; a good message took {longest:?} at most", begun.elapsed());
    assert_eq!(open, 0, "still open after {:?}", begun.elapsed());
    assert!(longest < Duration::from_secs(3), "{longest:?}");
    let grown = world.stand.fedgate.resident().saturating_sub(before);
    assert!(grown < 16 << 20, "{grown} bytes more than before");
}

#[test]
fn ten_thousand_idle_connections_are_not_noticed() {
    const MANY: u32 = 10_000;
    let Some(mut world) = World::raise("xmpp-idle") else { return };
    // Both ends of each are on this machine.
    let (ours, its) = (std::process::id(), world.stand.fedgate.id());
    for id in [ours, its] {
        let limit = format!("--nofile={}", MANY + 2_000);
        if !Command::new("prlimit").args(["--pid", &id.to_string(), &limit]).status().is_ok_and(|s| s.success()) {
            eprintln!("left out: interop ten_thousand_idle_connections_are_not_noticed: no right to {MANY} open files");
            return;
        }
    }
    let before = world.stand.fedgate.resident();
    let begun = Instant::now();
    let mut longest = Duration::ZERO;
    let mut sockets = Vec::new();
    let mut refused = 0;
    for number in 0..MANY {
        match connect(many(number), world.stand.door()) {
            Ok(socket) => sockets.push(socket),
            Err(_) => refused += 1,
        }
        if number % 1_000 == 999 {
            longest = longest.max(world.is_served());
        }
    }
    let grown = world.stand.fedgate.resident().saturating_sub(before);
    println!(
        "{} connections in {:?}, {refused} refused; {grown} bytes more; a good message took {longest:?} at most",
        sockets.len(),
        begun.elapsed()
    );
    // What it is to be a connection without a proof: below 10 KB each.
    assert!(grown < 100 << 20, "{grown} bytes more than before");
    assert!(longest < Duration::from_secs(3), "{longest:?}");
    wait_until("all were closed", 2 * PATIENCE, || sockets.iter_mut().all(is_closed));
    world.is_served();
    drop(sockets);
    let links = world.stand.fedgate.metric("fedgate_links", &["side=\"outside\""]);
    assert!(links.is_some_and(|links| links <= 4.0), "{links:?} links of {PARTNER}");
}

/// An address for each, in many networks.
fn many(number: u32) -> IpAddr {
    let [high, low] = u16::try_from(number).expect("fewer than 65,536").to_be_bytes();
    IpAddr::V4(Ipv4Addr::new(127, 200, low, 1 + high))
}

fn is_closed(socket: &mut std::net::TcpStream) -> bool {
    let mut bytes = [0; 4_096];
    let _ = socket.set_nonblocking(true);
    loop {
        match std::io::Read::read(socket, &mut bytes) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() != std::io::ErrorKind::WouldBlock,
        }
    }
}
