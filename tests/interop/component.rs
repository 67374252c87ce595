//! fedgate attached to Prosody as its external components (XEP-0114): no streams between servers, no DNS inside.

use crate::partner::{JULIET, JULIET_JID};
use crate::process::PATIENCE;
use crate::stand::{Setup, Stand, wait_until};
use std::time::Duration;

const ALICE: &str = "sip:alice@corp.example";

fn raise(test: &str) -> Option<Stand> {
    let stand = Stand::raise(test, Setup { component: true, ..Setup::default() })?;
    attached(&stand, 1.0);
    Some(stand)
}

/// Waits until every stream is there, or one is not.
fn attached(stand: &Stand, up: f64) {
    wait_until("the node is up, or down", PATIENCE, || {
        stand.fedgate.metric("fedgate_node_up", &["node=\"imp-1\""]) == Some(up)
    });
}

#[test]
fn component_carries_a_watcher_from_pending_to_the_end() {
    let Some(mut stand) = raise("component-watcher") else { return };
    let mut alice = stand.login("alice");
    alice.show(None, None);
    stand.dial();
    stand.partner.subscribe("w", JULIET, ALICE, None);
    assert_eq!(stand.partner.response("w").status(), 200);
    stand.partner.notified("w", "pending", "before she was asked", |_| true);
    alice.presence_from(JULIET_JID, "subscribe");
    alice.presence("subscribed", JULIET_JID);
    stand.partner.notified("w", "active", "open", |d| d["open"] == true);
    alice.show(Some("away"), Some("Grüße <&> 🌍"));
    stand.partner.notified("w", "active", "away", |d| d["activities"].to_string().contains("away"));
    alice.logout();
    stand.partner.notified("w", "active", "offline", |d| d["open"] == false);
    stand.partner.refresh("w", 0);
    assert_eq!(stand.partner.response("w").status(), 200);
    stand.partner.notified("w", "terminated;reason=timeout", "after the end", |_| true);
    let inside = stand.fedgate.metric("fedgate_links", &["side=\"inside\""]);
    assert_eq!(inside, Some(2.0), "one stream for each partner, and none between servers");
}

#[test]
fn component_carries_messages_both_ways() {
    let Some(mut stand) = raise("component-messages") else { return };
    let mut alice = stand.login("alice");
    alice.show(None, None);
    stand.dial();
    // What a namespace of its own could spoil: words like it, and what XML escapes.
    let body = "xmlns='jabber:server' <&>\" 私は行く 🌍 ]]>";
    stand.partner.message("in", JULIET, ALICE, body);
    assert_eq!(stand.partner.response("in").status(), 200);
    assert_eq!(alice.message_from(JULIET_JID).text("body"), body);
    alice.message(JULIET_JID, "m1", body);
    stand.partner.request("MESSAGE", "of Alice", |e| e.body() == body.as_bytes());
    alice.assert_no_error("m1", Duration::from_secs(1));

    // Prosody says whether there is such a user; its answer is the sender's.
    stand.partner.message("nobody", JULIET, "sip:nobody@corp.example", "is anybody there?");
    let unknown = stand.partner.response("nobody");
    assert!(matches!(unknown.status(), 403 | 404 | 405 | 480), "{unknown}");
    // And so is the partner's.
    stand.partner.answer("MESSAGE", Some(404));
    alice.message(JULIET_JID, "m2", "refused");
    assert_eq!(alice.error_of("m2", Duration::ZERO).0, "item-not-found");
    assert_eq!(stand.fedgate.metric("fedgate_unresolved_messages_total", &[]), Some(0.0));
}

#[test]
fn component_is_acknowledged_only_when_the_server_has_the_message() {
    let Some(mut stand) = raise("component-held") else { return };
    let mut alice = stand.login("alice");
    alice.show(None, None);
    stand.dial();
    stand.prosody.freeze();
    stand.partner.message("held", JULIET, ALICE, "held");
    stand.partner.assert_unanswered("held", Duration::from_secs(3));
    stand.prosody.thaw();
    assert_eq!(stand.partner.response("held").status(), 200);
    assert_eq!(alice.message_from(JULIET_JID).text("body"), "held");
}

#[test]
fn component_comes_back_when_the_server_does() {
    let Some(mut stand) = raise("component-restart") else { return };
    let mut alice = stand.login("alice");
    alice.show(None, None);
    stand.dial();
    stand.partner.subscribe("w", JULIET, ALICE, None);
    alice.presence_from(JULIET_JID, "subscribe");
    alice.presence("subscribed", JULIET_JID);
    stand.partner.notified("w", "active", "open", |d| d["open"] == true);

    stand.prosody.stop();
    attached(&stand, 0.0);
    stand.partner.message("down", JULIET, ALICE, "down");
    assert_eq!(stand.partner.response("down").status(), 503);
    // Ready all the same: the outside is served.
    assert_eq!(stand.fedgate.fetch("/readyz").map(|(status, _)| status), Some(200));

    stand.prosody.run();
    // Nobody asks for it.
    attached(&stand, 1.0);
    let mut alice = stand.login("alice");
    alice.show(Some("away"), None);
    // Her first word after it goes out; the watcher's dialog and her approval have outlived it.
    alice.message(JULIET_JID, "m1", "back");
    stand.partner.request("MESSAGE", "of Alice", |e| e.body() == b"back");
    stand.partner.message("up", JULIET, ALICE, "up");
    assert_eq!(stand.partner.response("up").status(), 200);
    assert_eq!(alice.message_from(JULIET_JID).text("body"), "up");
    stand.partner.notified("w", "active", "away", |d| d["activities"].to_string().contains("away"));
}
