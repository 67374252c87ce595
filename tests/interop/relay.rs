//! SIP that stays SIP between real programs: baresip behind a Kamailio inside, baresip behind a Kamailio outside, fedgate between the two.
//! Nothing that reaches the partner names the inside.

use crate::phone::Phone;
use crate::process::PATIENCE;
use crate::relay_stand::RelayStand;
use crate::sip_client::SipClient;
use crate::stand::wait_until;
use std::time::Duration;

const ALICE: &str = "sip:alice@corp.example";
const JULIET: &str = "sip:juliet@kamailio.example";

/// Within what baresip takes on its control socket.
const BODY: &str = "Grüße <&>\" '私は行く' 🌍👩\u{200d}🚀 e\u{301}  two  spaces\ttab\n]]> &amp; %41 end ";

/// Waits until fedgate counts so many dialogs: `fedgate_subscriptions`, `fedgate_chats`. One whose last NOTIFY has overtaken the answer before
/// it is remembered for 32 s.
fn counts(stand: &RelayStand, metric: &str, wanted: f64) {
    let counted = || stand.fedgate.metric(metric, &["partner=\"kamailio.example\""]).unwrap_or_default();
    wait_until(&format!("{metric} is {wanted}"), Duration::from_secs(40), || counted() == wanted);
}

/// `watcher` has subscribed and sees what the other user shows, from coming to going; both refresh and end it within their dialog.
fn watch(watcher: &mut Phone, shown: &mut Phone, mut publish: impl FnMut(Option<&str>)) {
    watcher.notified("active", "<basic>open</basic>");
    watcher.shows("Online");
    publish(Some("busy"));
    let busy = watcher.notified("active", "busy");
    assert!(String::from_utf8_lossy(&busy.body()).contains("in a call"), "{busy}");
    publish(None);
    watcher.notified("active", "<basic>open</basic>");
    watcher.shows("Online");
    shown.go_offline();
    watcher.notified("active", "<basic>closed</basic>");
    watcher.shows("Offline");
    shown.go_online();
    watcher.notified("active", "<basic>open</basic>");
    watcher.shows("Online");
}

#[test]
fn partner_watches_a_user_of_a_sip_node() {
    let Some(stand) = RelayStand::raise("relay-watched", 1, 6) else { return };
    let mut alice = stand.inner_phone("alice", JULIET, false);
    let mut juliet = stand.outer_phone("juliet", ALICE, true);
    let ok = juliet.response("SUBSCRIBE");
    assert_eq!((ok.status(), ok.header("expires")), (200, "6"), "{ok}");
    let mut desk = stand.inner_desk("alice");
    watch(&mut juliet, &mut alice, |activity| match activity {
        Some(activity) => desk.publish(activity, "in a call"),
        None => desk.withdraw(),
    });

    // Refreshed in its dialog, at the node that has it.
    let target = format!("SUBSCRIBE sip:{}:5070", stand.net.node(1));
    wait_until("she refreshes", PATIENCE, || stand.nodes[0].received(&[&target, "over tcp"]) >= 1);
    assert_eq!(stand.nodes[0].received(&["SUBSCRIBE sip:alice@corp.example", "over tcp"]), 1);
    alice.go_offline();
    juliet.shows("Offline");
    juliet.quit();
    stand.nodes[0].assert_received(&[&target, "Expires: 0"]);
    stand.kamailio.assert_received(&["NOTIFY sip:juliet", "Subscription-State: terminated", "over tls"]);
    counts(&stand, "fedgate_subscriptions", 0.0);
    stand.assert_all_resolved();
    stand.assert_hidden(8);
}

#[test]
fn user_of_a_sip_node_watches_a_partners_user() {
    let Some(mut stand) = RelayStand::raise("relay-watching", 1, 6) else { return };
    let mut juliet = stand.outer_phone("juliet", ALICE, false);
    // Nothing is said of her yet: pending.
    let mut alice = stand.inner_phone("alice", JULIET, true);
    let ok = alice.response("SUBSCRIBE");
    assert_eq!((ok.status(), ok.header("expires")), (200, "6"), "{ok}");
    alice.notified("pending", "");
    alice.shows("Unknown");
    stand.kamailio.rule("juliet", ALICE, "allow");
    let mut desk = stand.outer_desk("juliet");
    watch(&mut alice, &mut juliet, |activity| match activity {
        Some(activity) => desk.publish(activity, "in a call"),
        None => desk.withdraw(),
    });

    let target = "SUBSCRIBE sip:sip.kamailio.example:5061";
    wait_until("she refreshes", PATIENCE, || stand.kamailio.received(&[target, "over tls"]) >= 1);
    assert_eq!(stand.kamailio.received(&["SUBSCRIBE sip:juliet@kamailio.example", "over tls"]), 1);
    juliet.go_offline();
    alice.shows("Offline");
    alice.quit();
    stand.kamailio.assert_received(&[target, "Expires: 0", "over tls"]);
    stand.nodes[0].assert_received(&["NOTIFY sip:alice", "Subscription-State: terminated", "over tcp"]);
    counts(&stand, "fedgate_subscriptions", 0.0);
    stand.assert_all_resolved();
    stand.assert_hidden(8);
}

fn deliver(sender: &mut Phone, reader: &mut Phone, from: &str) {
    sender.message(BODY);
    let message = reader.request("MESSAGE", "of the other", |_| true);
    assert_eq!(message.body(), BODY.as_bytes(), "{message}");
    assert!(message.header("from").contains(from), "{message}");
    let ok = sender.response("MESSAGE");
    assert_eq!(ok.status(), 200, "{ok}");
}

#[test]
fn messages_pass_whole_between_sip_and_sip() {
    let Some(stand) = RelayStand::raise("relay-messages", 1, 3600) else { return };
    let mut alice = stand.inner_phone("alice", JULIET, false);
    let mut juliet = stand.outer_phone("juliet", ALICE, false);
    deliver(&mut juliet, &mut alice, JULIET);
    deliver(&mut alice, &mut juliet, ALICE);

    // Who isn't there: the far server's own answer, not one of ours.
    let (mut inner, mut outer) = (stand.inner_client(), stand.outer_client());
    inner.message("to nobody outside", ALICE, "sip:nobody@kamailio.example");
    outer.message("to nobody inside", JULIET, "sip:nobody@corp.example");
    for (client, id) in [(&mut inner, "to nobody outside"), (&mut outer, "to nobody inside")] {
        let unknown = client.answer(id);
        assert_eq!((unknown.status(), unknown.text("warning")), (404, ""), "{unknown}");
    }
    stand.kamailio.assert_received(&["MESSAGE sip:nobody@kamailio.example", "over tls"]);
    stand.nodes[0].assert_received(&["MESSAGE sip:nobody@corp.example", "over tcp"]);

    for direction in ["in", "out"] {
        let direction = format!("direction=\"{direction}\"");
        for (outcome, count) in [("delivered", 1), ("failed", 1), ("refused", 0), ("uncertain", 0)] {
            let outcome = format!("outcome=\"{outcome}\"");
            assert_eq!(stand.messages(&[&direction, &outcome]), count, "{direction} {outcome}");
        }
    }
    assert_eq!(stand.messages(&["kind=\"message\"", "protocol=\"sip\""]), 4);
    assert_eq!(stand.handed_on(), 4);
    assert!(stand.is_up(1));
    stand.assert_all_resolved();
    stand.assert_hidden(4);
}

/// A call that is taken, put on hold and ended by the callee; then one that its caller gives up while it rings.
fn call(caller: &mut Phone, callee: &mut Phone, uri: &str) {
    caller.dial(uri);
    let invite = callee.request("INVITE", "of a call", |e| !e.header("to").contains(";tag="));
    assert!(String::from_utf8_lossy(&invite.body()).contains("m=audio "), "{invite}");
    callee.accept();
    let ok = caller.response("INVITE");
    assert_eq!(ok.status(), 200, "{ok}");
    callee.request("ACK", "of the call", |e| e.header("to").contains(";tag="));
    caller.hold();
    let held = callee.request("INVITE", "that holds", |e| e.header("to").contains(";tag="));
    assert!(String::from_utf8_lossy(&held.body()).contains("a=sendonly"), "{held}");
    let ok = caller.response("INVITE");
    assert_eq!(ok.status(), 200, "{ok}");
    callee.request("ACK", "of the hold", |e| e.header("cseq") != invite.header("cseq"));
    callee.hang_up();
    caller.request("BYE", "of the callee", |_| true);
    let ok = callee.response("BYE");
    assert_eq!(ok.status(), 200, "{ok}");

    caller.dial(uri);
    callee.request("INVITE", "of another call", |e| !e.header("to").contains(";tag="));
    caller.rings();
    caller.hang_up();
    callee.request("CANCEL", "of the caller", |_| true);
    let given_up = caller.response("INVITE");
    assert_eq!(given_up.status(), 487, "{given_up}");
    callee.request("ACK", "of the end", |e| e.header("cseq").ends_with(" ACK"));
}

#[test]
fn calls_pass_between_sip_and_sip() {
    let Some(stand) = RelayStand::raise("relay-calls", 1, 3600) else { return };
    let mut alice = stand.inner_phone("alice", JULIET, false);
    let mut juliet = stand.outer_phone("juliet", ALICE, false);
    call(&mut juliet, &mut alice, ALICE);
    call(&mut alice, &mut juliet, JULIET);

    // INVITE, re-INVITE, BYE delivered; the INVITE given up is a failure.
    for direction in ["in", "out"] {
        let direction = format!("direction=\"{direction}\"");
        assert_eq!(stand.messages(&[&direction, "outcome=\"failed\""]), 1, "{direction}");
    }
    assert_eq!(stand.messages(&["kind=\"call\"", "outcome=\"delivered\""]), 6);
    assert_eq!(stand.messages(&["outcome=\"uncertain\""]) + stand.messages(&["outcome=\"refused\""]), 0);
    stand.assert_all_resolved();
    stand.assert_hidden(12);
}

#[test]
fn im_sessions_pass_between_sip_and_sip() {
    let Some(stand) = RelayStand::raise("relay-sessions", 1, 3600) else { return };
    let (mut inner, mut outer) = (stand.inner_client(), stand.outer_client());
    inner.register(&[ALICE.to_owned()], stand.net.node(1), "");
    outer.register(&[JULIET.to_owned()], stand.net.kamailio(), "");
    converse(&mut inner, &mut outer, (ALICE, JULIET));
    converse(&mut outer, &mut inner, (JULIET, ALICE));

    counts(&stand, "fedgate_chats", 0.0);
    // Nobody there: the far server's own answer.
    inner.invite("to nobody", ALICE, "sip:nobody@kamailio.example");
    outer.invite("to nobody", JULIET, "sip:nobody@corp.example");
    for client in [&mut inner, &mut outer] {
        let unknown = client.answer("to nobody");
        assert_eq!((unknown.status(), unknown.text("warning")), (404, ""), "{unknown}");
    }
    // Of each session INVITE, MESSAGE and INFO of who opened it, MESSAGE and BYE of who did not; and an INVITE in vain.
    for direction in ["in", "out"] {
        let direction = format!("direction=\"{direction}\"");
        assert_eq!(stand.messages(&[&direction, "kind=\"chat\"", "outcome=\"delivered\""]), 5, "{direction}");
        assert_eq!(stand.messages(&[&direction, "kind=\"chat\"", "outcome=\"failed\""]), 1, "{direction}");
        assert_eq!(stand.messages(&[&direction]), 6, "{direction}");
    }
    // And the ACKs of what was taken.
    assert_eq!(stand.handed_on(), 14);
    stand.assert_all_resolved();
    stand.assert_hidden(12);
}

/// A session that one opens and the other ends; both say something in it.
fn converse(opener: &mut SipClient, other: &mut SipClient, (from, to): (&str, &str)) {
    let text = [["Content-Type", "text/plain"]];
    opener.invite("session", from, to);
    opener.assert_answer("session", 200);
    let session = other.opened();
    other.asked("ACK", "of the session", |e| e.text("dialog") == session);
    opener.within("line", "session", "MESSAGE", &text, BODY);
    opener.assert_answer("line", 200);
    other.asked("MESSAGE", "in the session", |e| e.text("dialog") == session && e.text("text") == BODY);
    opener.within("typing", "session", "INFO", &[], "");
    opener.assert_answer("typing", 200);
    other.asked("INFO", "in the session", |e| e.text("dialog") == session);
    other.within("reply", &session, "MESSAGE", &text, "reply");
    other.assert_answer("reply", 200);
    opener.asked("MESSAGE", "in the session", |e| e.text("dialog") == "session" && e.text("text") == "reply");
    other.within("end", &session, "BYE", &[], "");
    other.assert_answer("end", 200);
    opener.asked("BYE", "of the session", |e| e.text("dialog") == "session");
}

#[test]
fn dialogs_between_sip_and_sip_outlive_the_edge() {
    let Some(mut stand) = RelayStand::raise("relay-restart", 1, 3600) else { return };
    let (mut inner, mut outer) = (stand.inner_client(), stand.outer_client());
    inner.register(&[ALICE.to_owned()], stand.net.node(1), "");
    outer.register(&[JULIET.to_owned()], stand.net.kamailio(), "");
    // One look, and an event that the node does not know.
    outer.request("look", "SUBSCRIBE", JULIET, ALICE, &[["Event", "presence"], ["Expires", "0"]], "");
    outer.assert_answer("look", 200);
    outer.asked("NOTIFY", "of the look", |e| e.text("state").starts_with("terminated"));
    outer.request("bad", "SUBSCRIBE", JULIET, ALICE, &[["Event", "weather"], ["Expires", "600"]], "");
    outer.assert_answer("bad", 489);
    outer.subscribe("watch", JULIET, ALICE);
    outer.assert_answer("watch", 200);
    outer.asked("NOTIFY", "of the watch", |e| e.text("state").starts_with("active"));
    inner.invite("session", ALICE, JULIET);
    inner.assert_answer("session", 200);
    let session = outer.opened();
    counts(&stand, "fedgate_subscriptions", 1.0);
    counts(&stand, "fedgate_chats", 1.0);

    stand.fedgate.signal("KILL");
    stand.fedgate.wait();
    stand.fedgate.start_again();
    let mut desk = stand.inner_desk("alice");
    desk.publish("busy", "in a call");
    let told = outer.asked("NOTIFY", "after the restart", |e| e.text("dialog") == "watch");
    assert!(told.text("text").contains("in a call"), "{told}");
    outer.within("refresh", "watch", "SUBSCRIBE", &[["Event", "presence"], ["Expires", "600"]], "");
    outer.assert_answer("refresh", 200);
    let text = [["Content-Type", "text/plain"]];
    inner.within("line", "session", "MESSAGE", &text, BODY);
    inner.assert_answer("line", 200);
    outer.asked("MESSAGE", "after the restart", |e| e.text("dialog") == session && e.text("text") == BODY);
    outer.within("end", &session, "BYE", &[], "");
    outer.assert_answer("end", 200);
    inner.asked("BYE", "after the restart", |e| e.text("dialog") == "session");
    stand.assert_all_resolved();
    stand.assert_hidden(8);
}

#[test]
fn node_over_tls_is_known_by_its_certificate() {
    let Some(stand) = RelayStand::raise_over_tls("relay-tls") else { return };
    let (mut inner, mut outer) = (stand.inner_client(), stand.outer_client());
    inner.register(&[ALICE.to_owned()], stand.net.node(1), "");
    outer.register(&[JULIET.to_owned()], stand.net.kamailio(), "");
    converse(&mut inner, &mut outer, (ALICE, JULIET));
    converse(&mut outer, &mut inner, (JULIET, ALICE));
    outer.subscribe("watch", JULIET, ALICE);
    outer.assert_answer("watch", 200);
    outer.asked("NOTIFY", "of the watch", |e| e.text("state").starts_with("active"));
    assert!(stand.is_up(1));
    // Nothing crossed otherwise.
    assert_eq!(stand.nodes[0].received(&["over tcp"]), 0);
    stand.nodes[0].assert_received(&["over tls", "sip:alice"]);
    stand.assert_all_resolved();
    stand.assert_hidden(12);
}
