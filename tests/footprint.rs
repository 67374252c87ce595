//! What one live subscription costs in memory: the process's resident set, grown by many of them.
//!
//! A target of its own, with one test, so that nothing else grows meanwhile. `FOOTPRINT=100000` measures as many.

#![cfg(target_os = "linux")]

mod support;

use fedgate::wire::sip::Message;
use fedgate::wire::sip::header::Name;
use fedgate::wire::xmpp::{Element, NS_SERVER};
use std::time::{Duration, Instant};
use support::world::{CONFIG, POLICY, Seen, World};

/// What each may cost, in bytes.
const MOST: u64 = 1_000;
/// What a busy turn leaves behind before the first reading: buffers, rings, tables of other things.
const WARM: u64 = 1_000;

#[test]
fn a_subscription_costs_less_than_a_kilobyte() {
    let many = std::env::var("FOOTPRINT").ok().and_then(|n| n.parse().ok()).unwrap_or(10_000);
    // The first world lives on: what it would free would be used again, and cost the second nothing.
    let (watches, _world) = measure(many, watched);
    let (contacts, _) = measure(many, contact);
    println!("SIP to XMPP: {watches} bytes each; XMPP to SIP: {contacts} bytes each");
    assert!(watches < MOST, "a SIP watcher's subscription costs {watches} bytes");
    assert!(contacts < MOST, "a contact costs {contacts} bytes");
}

fn measure(many: u64, begin: fn(&mut World, u64)) -> (u64, World) {
    let limits = "[[partner]]\nlimits = { subscriptions = 1000000, messages_per_second = 1000000 }\n";
    let mut world = World::with(CONFIG, &POLICY.replacen("[[partner]]\n", limits, 1));
    let mut before = 0;
    let clock = Instant::now();
    for number in 0..WARM + many {
        if number == WARM {
            before = resident();
        }
        begin(&mut world, number);
        world.advance(Duration::from_millis(1));
        if number % 50 == 0 {
            forget_what_was_seen(&mut world);
        }
    }
    for _ in 0..10 {
        world.advance(Duration::from_secs(1));
        forget_what_was_seen(&mut world);
    }
    let after = resident();
    println!("{:?} each", clock.elapsed() / u32::try_from(WARM + many).expect("not that many"));
    let live: Vec<_> = world.gate.snapshot().subscriptions;
    assert_eq!(live, [("lync.example".to_owned(), "active", WARM + many)]);
    ((after - before) / many, world)
}

/// A SIP user who was granted a user's presence, and is shown one resource; the headers are as long as an Access Edge's.
fn watched(world: &mut World, number: u64) {
    let (user, watcher, tag) = (user(number), watcher(number), tag(number));
    let routes = routes();
    let subscribe = format!(
        "SUBSCRIBE sip:{user} SIP/2.0\r\n\
         Via: SIP/2.0/TLS 10.20.30.40:50001;branch=z9hG4bK{tag};branched=FALSE;ms-internal-info=\"abcdefghijklmnop\"\r\n\
         Max-Forwards: 69\r\n\
         From: \"Romeo Montague\"<sip:{watcher}>;tag={tag};epid=0123456789\r\n\
         To: <sip:{user}>\r\n\
         Call-ID: {tag}4f6e8a9b0c1d2e3f4a5b6c\r\n\
         CSeq: 1 SUBSCRIBE\r\n\
         Record-Route: {routes}\r\n\
         Contact: <sip:{watcher};opaque=user:epid:ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefgh;gruu>\r\n\
         Event: presence\r\nAccept: application/pidf+xml\r\nExpires: 3600\r\nContent-Length: 0\r\n\r\n"
    );
    world.sip("lync.example", subscribe.as_bytes());
    let presence = |from: &str| Element::new("presence", NS_SERVER).attr("from", from).attr("to", &watcher);
    world.stanza("imp-1", &presence(&user).attr("type", "subscribed"));
    let status = Element::new("status", NS_SERVER).text("at lunch");
    let shown = presence(&format!("{user}/balcony-1234")).child(Element::new("show", NS_SERVER).text("away"));
    world.stanza("imp-1", &shown.child(status));
    answer(world, number);
}

/// An XMPP user who was granted a SIP user's presence, and is shown it.
fn contact(world: &mut World, number: u64) {
    let subscribe = Element::new("presence", NS_SERVER).attr("type", "subscribe");
    world.stanza("imp-1", &subscribe.attr("from", &user(number)).attr("to", &watcher(number)));
    answer(world, number);
}

/// The partner answers all it has got, and lets its user be seen.
fn answer(world: &mut World, number: u64) {
    let (watcher, tag, routes) = (watcher(number), tag(number), routes());
    for seen in world.inbox.remove("lync.example").unwrap_or_default() {
        let Seen::Sip(request) = seen else { continue };
        if !request.is_request() {
            continue;
        }
        let is_subscribe = request.method().is_some_and(|method| method.to_string() == "SUBSCRIBE");
        let copied = |names: &[Name]| {
            let rows = names.iter().flat_map(|name| request.rows(*name).map(|row| format!("{}: {row}", name.as_str())));
            rows.collect::<Vec<_>>().join("\r\n")
        };
        let of_dialog = format!(
            "Record-Route: {routes}\r\n\
             Contact: <sip:{watcher};opaque=user:epid:ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefgh;gruu>\r\nExpires: 3600\r\n"
        );
        let ok = format!(
            "SIP/2.0 200 OK\r\n{}\r\nTo: {}{}\r\n{}Content-Length: 0\r\n\r\n",
            copied(&[Name::Via, Name::From, Name::CallId, Name::CSeq]),
            text(&request, Name::To),
            if is_subscribe { format!(";tag={tag};epid=0123456789") } else { String::new() },
            if is_subscribe { of_dialog.as_str() } else { "" },
        );
        world.sip_answer("lync.example", ok.as_bytes());
        if is_subscribe {
            let body = format!(
                "<presence xmlns=\"urn:ietf:params:xml:ns:pidf\" entity=\"sip:{watcher}\"><tuple id=\"0\">\
                 <status><basic>open</basic></status><note>at lunch</note></tuple></presence>"
            );
            let notify = format!(
                "NOTIFY sip:sip.corp.example:5061;transport=tls SIP/2.0\r\n\
                 Via: SIP/2.0/TLS 10.20.30.40:50001;branch=z9hG4bKn{tag}\r\nMax-Forwards: 69\r\n\
                 From: <sip:{watcher}>;tag={tag};epid=0123456789\r\nTo: {}\r\nCall-ID: {}\r\nCSeq: 1 NOTIFY\r\n{of_dialog}\
                 Event: presence\r\nSubscription-State: active;expires=3600\r\n\
                 Content-Type: application/pidf+xml\r\nContent-Length: {}\r\n\r\n{body}",
                text(&request, Name::From),
                text(&request, Name::CallId),
                body.len(),
            );
            world.sip("lync.example", notify.as_bytes());
        }
    }
}

fn text(message: &Message, name: Name) -> String {
    message.header(name).unwrap_or_default().to_owned()
}

fn user(number: u64) -> String {
    format!("user{number:06}@corp.example")
}

fn watcher(number: u64) -> String {
    format!("romeo{number:06}@lync.example")
}

fn tag(number: u64) -> String {
    format!("{:010x}", number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 24)
}

fn routes() -> &'static str {
    "<sip:sip.lync.example:5061;transport=tls;epid=0123456789;lr;\
     ms-key-info=AAEAAWFiY2RlZmdoaWprbG1ub3BxcnN0dXZ3eHl6MDEyMzQ1Njc4OQ;\
     ms-route-sig=aaABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopq>"
}

/// The world's memory is no part of the gate's.
fn forget_what_was_seen(world: &mut World) {
    answer(world, 0);
    world.inbox.clear();
    world.events.clear();
    world.records.clear();
}

/// The resident set, in bytes (proc_pid_status(5)).
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("/proc");
    let row = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
    row.trim().trim_end_matches(" kB").parse::<u64>().expect("kB") * 1024
}
