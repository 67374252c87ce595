//! What an operator does and sees: reload, drain, health, metrics, a server that restarts, the other ways to attach it.

use crate::partner::{JULIET, JULIET_JID};
use crate::process::PATIENCE;
use crate::stand::{Setup, Stand, wait_until};
use std::time::{Duration, Instant, SystemTime};

const ALICE: &str = "sip:alice@corp.example";
const BOB: &str = "sip:bob@corp.example";

const RULE: &str = r#"
[[rule]]
name   = "quiet-please"
from   = "*@lync.example"
to     = "bob@corp.example"
do     = ["message"]
answer = "refuse"
"#;

/// Reloads by SIGHUP and waits until it is done, one way or the other.
fn reload(stand: &Stand, policy: &str) {
    let count = || stand.fedgate.metric("fedgate_reloads_total", &[]).unwrap_or_default();
    let before = count();
    stand.fedgate.set_policy(policy);
    stand.fedgate.signal("HUP");
    wait_until("the reload is counted", PATIENCE, || count() > before);
}

#[test]
fn reload_flips_a_rule_under_running_links() {
    let Some(mut stand) = Stand::raise("reload", Setup::default()) else { return };
    let mut bob = stand.login("bob");
    bob.show(None, None);
    stand.dial();
    stand.partner.message("before", JULIET, BOB, "before");
    assert_eq!(stand.partner.response("before").status(), 200);
    assert_eq!(bob.message_from(JULIET_JID).text("body"), "before");

    reload(&stand, RULE);
    stand.partner.message("under", JULIET, BOB, "under");
    let refused = stand.partner.response("under");
    assert_eq!(refused.status(), 403, "{refused}");
    assert!(refused.header("warning").contains(" rule"), "{refused}");
    assert!(!refused.text("raw").contains("quiet-please"), "a rule's name stays inside: {refused}");
    // The rule speaks of Bob's messages only.
    stand.partner.message("alice", JULIET, ALICE, "to Alice");
    assert_eq!(stand.partner.response("alice").status(), 200);

    // What cannot be read changes nothing.
    reload(&stand, "[[rule]\nthis is no TOML");
    stand.partner.message("still", JULIET, BOB, "still");
    assert_eq!(stand.partner.response("still").status(), 403);
    assert_eq!(stand.fedgate.fetch("/healthz").map(|(status, _)| status), Some(200));

    reload(&stand, "");
    stand.partner.message("after", JULIET, BOB, "after");
    assert_eq!(stand.partner.response("after").status(), 200);
    assert_eq!(bob.message_from(JULIET_JID).text("body"), "after");
    stand.partner.assert_open("out", Duration::ZERO);
}

#[test]
fn drain_tells_the_watchers_to_come_back() {
    let Some(mut stand) = Stand::raise("drain", Setup::default()) else { return };
    let mut alice = stand.login("alice");
    alice.show(None, None);
    stand.dial();
    stand.partner.subscribe("w", JULIET, ALICE, None);
    alice.presence_from(JULIET_JID, "subscribe");
    alice.presence("subscribed", JULIET_JID);
    stand.partner.notified("w", "active", "open", |d| d["open"] == true);

    let drained = stand.fedgate.verb(&["drain", "--final"]);
    assert!(drained.status.success(), "{drained:?}");
    // RFC 6665 §4.1.3: deactivated = subscribe again at once.
    stand.partner.notified("w", "terminated;reason=deactivated", "before the end", |_| true);
    let status = stand.fedgate.wait();
    assert_eq!(status.code(), Some(0), "{status}");
    stand.partner.closed("out");
}

#[test]
fn admin_listener_tells_the_truth() {
    let Some(mut stand) = Stand::raise("admin", Setup::default()) else { return };
    let mut alice = stand.login("alice");
    alice.show(None, None);
    stand.dial();
    stand.partner.message("in", JULIET, ALICE, "in");
    assert_eq!(stand.partner.response("in").status(), 200);
    alice.message(JULIET_JID, "out", "out");
    stand.partner.request("MESSAGE", "of Alice", |_| true);
    stand.partner.message("no", "sip:romeo@unlisted.example", ALICE, "no");
    assert_eq!(stand.partner.response("no").status(), 403);
    stand.partner.subscribe("w", JULIET, ALICE, None);
    stand.partner.notified("w", "pending", "", |_| true);

    for path in ["/healthz", "/readyz"] {
        let (status, text) = stand.fedgate.fetch(path).expect("an answer");
        assert_eq!((status, text.trim().lines().count()), (200, 1), "{path}: {text}");
    }
    let metric = |name: &str, labels: &[&str]| stand.fedgate.metric(&format!("fedgate_{name}"), labels);
    let delivered = |direction: &str| {
        let labels = ["partner=\"lync.example\"", direction, "kind=\"message\"", "outcome=\"delivered\""];
        metric("messages_total", &labels)
    };
    assert_eq!(delivered("direction=\"in\""), Some(1.0));
    // Her own comes back as delivered once our 200 from the partner is in.
    wait_until("the other direction counts", PATIENCE, || delivered("direction=\"out\"") == Some(1.0));
    assert_eq!(metric("build_info", &[]), Some(1.0));
    assert_eq!(metric("refusals_total", &["partner=\"other\"", "reason=\"unlisted-domain\""]), Some(1.0));
    assert_eq!(metric("node_up", &["node=\"imp-1\""]), Some(1.0));
    assert_eq!(metric("unresolved_messages_total", &[]), Some(0.0));
    assert!(metric("links", &["side=\"outside\"", "protocol=\"sip\""]).is_some_and(|n| n >= 1.0));
    assert!(metric("links", &["side=\"inside\"", "protocol=\"xmpp\""]).is_some_and(|n| n >= 1.0));
    assert_eq!(metric("subscriptions", &["partner=\"lync.example\""]), Some(1.0));
    assert!(metric("transit_seconds_count", &["path=\"sip-xmpp\""]).is_some_and(|n| n >= 1.0));
    assert!(metric("transit_seconds_count", &["path=\"xmpp-sip\""]).is_some_and(|n| n >= 1.0));
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs_f64();
    let expiry = metric("certificate_expiry_timestamp_seconds", &["identity="]);
    assert!(expiry.is_some_and(|at| at > now && at < now + 3.0 * 86_400.0), "{expiry:?}");
    let (_, text) = stand.fedgate.fetch("/metrics").expect("an answer");
    assert!(
        !text.contains("alice") && !text.contains("unlisted.example"),
        "labels come from configured names only: {text}"
    );
}

#[test]
fn server_inside_restarts() {
    let Some(mut stand) = Stand::raise("restart", Setup::default()) else { return };
    let mut alice = stand.login("alice");
    alice.show(None, None);
    stand.dial();
    stand.partner.subscribe("w", JULIET, ALICE, None);
    alice.presence_from(JULIET_JID, "subscribe");
    alice.presence("subscribed", JULIET_JID);
    stand.partner.notified("w", "active", "open", |d| d["open"] == true);

    stand.prosody.stop();
    stand.partner.message("down", JULIET, ALICE, "down");
    let down = stand.partner.response_within("down", Duration::from_secs(35));
    assert!(matches!(down.status(), 503 | 504), "neither lost nor a lie: {down}");
    stand.prosody.run();
    let mut alice = stand.login("alice");
    alice.show(Some("away"), None);
    // It may take fedgate a moment to try again.
    let end = Instant::now() + Duration::from_secs(30);
    for i in 0.. {
        let name = format!("up-{i}");
        stand.partner.message(&name, JULIET, ALICE, "up");
        let answer = stand.partner.response_within(&name, Duration::from_secs(35));
        if answer.status() == 200 {
            break;
        }
        assert!(Instant::now() < end, "{answer}");
        std::thread::sleep(Duration::from_secs(1));
    }
    assert_eq!(alice.message_from(JULIET_JID).text("body"), "up");
    // The watcher's dialog has outlived it, and so has her approval.
    stand.partner.notified("w", "active", "away", |d| d["activities"].to_string().contains("away"));
    stand.partner.assert_open("out", Duration::ZERO);
}

/// Both directions, both kinds of traffic.
fn assert_federates(stand: &mut Stand) {
    let mut alice = stand.login("alice");
    alice.show(Some("away"), None);
    stand.dial();
    stand.partner.subscribe("w", JULIET, ALICE, None);
    assert_eq!(stand.partner.response("w").status(), 200);
    alice.presence_from(JULIET_JID, "subscribe");
    alice.presence("subscribed", JULIET_JID);
    stand.partner.notified("w", "active", "away", |d| d["activities"].to_string().contains("away"));
    stand.partner.message("in", JULIET, ALICE, "in");
    assert_eq!(stand.partner.response("in").status(), 200);
    assert_eq!(alice.message_from(JULIET_JID).text("body"), "in");
    alice.message(JULIET_JID, "m1", "out");
    stand.partner.request("MESSAGE", "of Alice", |e| e.body() == b"out");
    alice.assert_no_error("m1", Duration::from_secs(1));
}

#[test]
fn server_insists_on_tls_inside() {
    let Some(mut stand) = Stand::raise("tls", Setup { tls: true, ..Setup::default() }) else { return };
    assert_federates(&mut stand);
    let log = stand.prosody.log();
    let encrypted = |stream: &str| log.lines().any(|line| line.contains(stream) && line.contains("Stream encrypted"));
    assert!(encrypted("s2sin") && encrypted("s2sout"), "TLS in both directions");
}

#[test]
fn server_is_known_by_dialback() {
    let setup = Setup { verify: "dialback", ..Setup::default() };
    let Some(mut stand) = Stand::raise("dialback", setup) else { return };
    assert_federates(&mut stand);
}

#[test]
fn server_is_known_by_dialback_over_tls() {
    let setup = Setup { verify: "dialback", tls: true, ..Setup::default() };
    let Some(mut stand) = Stand::raise("dialback-tls", setup) else { return };
    assert_federates(&mut stand);
}
