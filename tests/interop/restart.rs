//! The edge dies or is stopped, and another goes on from what it has kept: nobody outside or inside has to do anything.

use crate::partner::{JULIET, JULIET_JID};
use crate::process::Event;
use crate::stand::{Setup, Stand};
use std::time::Duration;

const ALICE: &str = "sip:alice@corp.example";
/// Everybody is asked anew within so long of a start.
const SOON: Duration = Duration::from_secs(20);

fn cseq(request: &Event) -> u32 {
    let number = request.header("cseq").split(' ').next().and_then(|number| number.parse().ok());
    number.unwrap_or_else(|| panic!("no CSeq: {request}"))
}

/// Juliet and Alice watch each other; the last NOTIFY to Juliet, and the SUBSCRIBE for Alice.
fn watch_each_other(stand: &mut Stand, alice: &mut crate::client::Client) -> (Event, Event) {
    stand.dial();
    stand.partner.subscribe("w", JULIET, ALICE, None);
    assert_eq!(stand.partner.response("w").status(), 200);
    alice.presence_from(JULIET_JID, "subscribe");
    alice.presence("subscribed", JULIET_JID);
    let shown = stand.partner.notified("w", "active", "open", |d| d["open"] == true);
    alice.presence("subscribe", JULIET_JID);
    let asked = stand.partner.request("SUBSCRIBE", "for Juliet", |e| e.header("to").contains(JULIET));
    stand.partner.notify("n", &asked, "active;expires=3600", "");
    alice.presence_from(JULIET_JID, "subscribed");
    (shown, asked)
}

/// The same dialogs, above every CSeq of before; and what changed meanwhile is shown.
fn goes_on(stand: &mut Stand, (shown, asked): &(Event, Event), is: &str) {
    let certificate = stand.partner_certificate.clone();
    let again = stand.partner.request("SUBSCRIBE", "once more", |e| e.header("call-id") == asked.header("call-id"));
    assert!(cseq(&again) > cseq(asked), "{again}");
    assert!(again.header("to").contains(";tag="), "inside its dialog: {again}");
    let notify = stand.partner.notified("w", "active", "of what is so now", |d| {
        d["open"] == true && d["activities"].to_string().contains(is)
    });
    assert!(cseq(&notify) > cseq(shown), "{notify}");
    // And from their side.
    stand.partner.dial("after", Some(&certificate));
    let refresh = stand.partner.refresh_on("after", "w", 3600);
    let ok = stand.partner.response("w");
    assert_eq!((ok.status(), ok.header("cseq")), (200, refresh.header("cseq")), "{ok}");
}

#[test]
fn a_killed_edge_goes_on_where_it_was() {
    let Some(mut stand) = Stand::raise("killed", Setup { chat: "session", ..Setup::default() }) else { return };
    let mut alice = stand.login("alice");
    alice.show(None, None);
    let before = watch_each_other(&mut stand, &mut alice);
    stand.partner.answer("INVITE", Some(200));
    alice.message(JULIET_JID, "m1", "one");
    let invite = stand.partner.request("INVITE", "of Alice", |_| true);
    stand.partner.request("MESSAGE", "in it", |e| e.body() == b"one");

    stand.fedgate.signal("KILL");
    stand.fedgate.wait();
    alice.show(Some("away"), None);
    stand.fedgate.start_again();
    goes_on(&mut stand, &before, "away");
    // The IM session lives, too.
    alice.message(JULIET_JID, "m2", "two");
    let line = stand.partner.request("MESSAGE", "in the same session", |e| e.body() == b"two");
    assert_eq!(line.header("call-id"), invite.header("call-id"));
    stand.partner.assert_no_request("INVITE", Duration::ZERO, |_| true);
    alice.assert_no_error("m2", Duration::ZERO);
    assert!(stand.fedgate.log().contains("resuming what went on before the restart"));
}

#[test]
fn a_planned_stop_leaves_subscriptions_to_the_next() {
    let Some(mut stand) = Stand::raise("planned", Setup::default()) else { return };
    let mut alice = stand.login("alice");
    alice.show(None, None);
    let before = watch_each_other(&mut stand, &mut alice);
    let drained = stand.fedgate.verb(&["drain"]);
    // The token stands in the configuration.
    assert!(drained.status.success(), "{drained:?}");
    assert!(stand.fedgate.wait().success());
    stand.fedgate.start_again();
    goes_on(&mut stand, &before, "");
    stand
        .partner
        .assert_no_request("NOTIFY", Duration::ZERO, |e| e.header("subscription-state").starts_with("terminated"));
    alice.assert_no_presence(JULIET_JID, "unsubscribed", Duration::ZERO);
}

#[test]
fn what_was_on_its_way_ends_in_an_error_to_its_sender() {
    let setup = Setup { tls: true, managed: true, ..Setup::default() };
    let Some(mut stand) = Stand::raise("on-its-way", setup) else { return };
    let mut alice = stand.login("alice");
    alice.show(None, None);
    // What Prosody keeps count of begins with the second message of a stream.
    alice.message(JULIET_JID, "m1", "one");
    stand.partner.request("MESSAGE", "of Alice", |e| e.body() == b"one");
    // The partner takes its time over the next, which Prosody knows to be in good hands.
    stand.partner.answer("MESSAGE", None);
    alice.message(JULIET_JID, "m2", "two");
    stand.partner.request("MESSAGE", "of Alice", |e| e.body() == b"two");
    let is_ack = |line: &str| line.contains("Received[s2sout]: <a ") && line.contains(" h='1'");
    crate::stand::wait_until("it is acknowledged", SOON, || stand.prosody.log().lines().any(is_ack));

    stand.fedgate.signal("KILL");
    stand.fedgate.wait();
    alice.assert_no_error("m2", Duration::ZERO);
    stand.fedgate.start_again();
    let (condition, text) = alice.error_of("m2", SOON);
    assert_eq!(condition, "remote-server-timeout");
    assert!(text.starts_with("fedgate ") && text.contains(" uncertain"), "{text}");
    // Its ID leads to the reason, and the decisions of before the kill are remembered, too.
    let id = text.split(' ').nth(1).expect("an ID");
    let why = stand.fedgate.verb(&["explain", id]);
    assert!(String::from_utf8_lossy(&why.stdout).contains("restarted before the outcome was known"), "{why:?}");
}

#[test]
fn decisions_outlive_the_edge() {
    let policy = "[[rule]]\nname = \"no-alice\"\nfrom = \"*@lync.example\"\nto = \"alice@corp.example\"\ndo = [\"message\"]\nanswer = \"refuse\"\n";
    let Some(mut stand) = Stand::raise("decisions", Setup { policy, ..Setup::default() }) else { return };
    stand.dial();
    stand.partner.message("no", JULIET, ALICE, "no");
    let refused = stand.partner.response("no");
    assert_eq!(refused.status(), 403, "{refused}");
    let warning = refused.header("warning").to_owned();
    let id = warning.split("\"fedgate ").nth(1).and_then(|rest| rest.split(' ').next()).expect("an ID");
    let told = |stand: &Stand, words: &[&str]| {
        let output = stand.fedgate.verb(words);
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let running = told(&stand, &["explain", id]);
    assert!(running.0 == Some(1) && running.1.contains("no-alice"), "{running:?}");

    stand.fedgate.signal("TERM");
    assert!(stand.fedgate.wait().success());
    // In lower case, from the file, which nobody else has open now; the audit file may be elsewhere.
    stand.fedgate.lose_audit();
    assert_eq!(told(&stand, &["explain", &id.to_lowercase()]), running);
    let (code, unknown) = told(&stand, &["explain", "0000000000"]);
    assert_eq!((code, unknown.as_str()), (Some(1), ""));

    // What would the policy say that is being written?
    let (code, same) = told(&stand, &["explain", "--replay"]);
    assert!(code == Some(0) && same.contains(", 0 would change"), "{same}");
    stand.fedgate.set_policy("");
    stand.fedgate.start_again();
    let (code, changed) = told(&stand, &["explain", "--replay"]);
    assert!(code == Some(1) && changed.contains("message, was rule") && changed.contains("now allowed"), "{changed}");
    let before = told(&stand, &["explain", id]);
    assert_eq!(before, running, "what was decided stays as it was");
}
