//! Presence between a SIP watcher and an XMPP user, and the other way round (RFC 8048, RFC 6665).

use crate::partner::{JULIET, JULIET_JID};
use crate::process::Event;
use crate::stand::{Setup, Stand};
use serde_json::Value;
use std::time::Duration;

const ALICE: &str = "sip:alice@corp.example";
/// Two, three and four bytes of UTF-8, a joined emoji, and everything XML escapes.
const STATUS: &str = "Grüße <&> \"私\" 🌍👩\u{200d}🚀 & 'so' on]]>";

fn holds(list: &Value, item: &str) -> bool {
    list.as_array().is_some_and(|items| items.iter().any(|i| i == item))
}

fn is_open(document: &Value) -> bool {
    document["open"] == true
}

/// RFC 3261 §8.2.6.2, §12.1.1: a response carries the request's Vias and Record-Routes, whole and in order. Only the topmost Via may have
/// grown parameters (received, rport).
fn assert_answers(response: &Event, request: &Event) {
    let (got, sent) = (response.headers("via"), request.headers("via"));
    assert_eq!(got.len(), sent.len(), "{response}");
    assert!(got[0].starts_with(sent[0]), "{} is not {}", got[0], sent[0]);
    assert_eq!(got[1..], sent[1..]);
    assert_eq!(response.headers("record-route"), request.headers("record-route"));
    assert_eq!(response.header("from"), request.header("from"));
    assert_eq!(response.header("cseq"), request.header("cseq"));
}

#[test]
fn watcher_sees_a_user_from_pending_to_the_end() {
    let Some(mut stand) = Stand::raise("watcher", Setup::default()) else { return };
    let mut alice = stand.login("alice");
    alice.show(None, None);
    stand.dial();

    // COMPAT(lync): no Expires, a category-list body, Proxy-Require: ms-benotify; none of it is in the way.
    let subscribe = stand.partner.subscribe("w", JULIET, ALICE, None);
    let ok = stand.partner.response("w");
    assert_eq!(ok.status(), 200, "{ok}");
    assert_answers(&ok, &subscribe);
    let granted: u32 = ok.header("expires").parse().expect("RFC 6665 §4.2.1.1: a 2xx says for how long");
    assert!((1..=3600).contains(&granted), "asked for RFC 3856's default of an hour, granted {granted}");
    assert!(ok.header("to").contains("tag="), "{ok}");
    // Not offering it is what keeps plain NOTIFYs coming.
    assert!(!ok.headers("supported").iter().any(|s| s.contains("ms-benotify")), "{ok}");

    let pending = stand.partner.notified("w", "pending", "before she was asked", |_| true);
    assert!(pending.body().is_empty(), "a watcher who is not approved yet sees nothing: {pending}");
    alice.presence_from(JULIET_JID, "subscribe");
    stand
        .partner
        .assert_no_request("NOTIFY", Duration::from_secs(2), |e| e.header("subscription-state").starts_with("active"));
    alice.presence("subscribed", JULIET_JID);
    let active = stand.partner.notified("w", "active", "open", is_open);
    assert_eq!(active.0["pidf"]["root"], "{urn:ietf:params:xml:ns:pidf}presence");
    assert!(active.0["pidf"]["entity"].as_str().is_some_and(|e| e.ends_with("alice@corp.example")), "{active}");

    alice.show(Some("dnd"), Some(STATUS));
    let busy = stand.partner.notified("w", "active", "busy", |d| holds(&d["activities"], "busy"));
    assert!(
        holds(&busy.0["pidf"]["draft_activities"], "busy"),
        "COMPAT(lync): the draft form is what it reads: {busy}"
    );
    assert!(holds(&busy.0["pidf"]["notes"], STATUS), "{busy}");
    assert!(is_open(&busy.0["pidf"]), "{busy}");
    alice.show(Some("away"), None);
    let away = stand.partner.notified("w", "active", "away", |d| holds(&d["activities"], "away"));
    assert!(!holds(&away.0["pidf"]["notes"], STATUS), "the old status is gone: {away}");

    stand.partner.refresh("w", 3600);
    let ok = stand.partner.response("w");
    assert_eq!(ok.status(), 200, "{ok}");
    let refreshed = stand.partner.notified("w", "active", "after the refresh", |d| holds(&d["activities"], "away"));
    assert!(cseq(&refreshed) > cseq(&away), "RFC 3261 §12.2.1.1: CSeq grows");

    alice.logout();
    stand.partner.notified("w", "active", "offline", |d| d["open"] == false);

    stand.partner.refresh("w", 0);
    assert_eq!(stand.partner.response("w").status(), 200);
    stand.partner.notified("w", "terminated;reason=timeout", "after the end", |_| true);
    // The dialog is gone, the user's approval is not.
    stand.partner.subscribe("again", JULIET, ALICE, None);
    assert_eq!(stand.partner.response("again").status(), 200);
    stand.partner.notified("again", "active", "without asking again", |_| true);
}

fn cseq(message: &Event) -> u32 {
    message.header("cseq").split(' ').next().and_then(|n| n.parse().ok()).expect("a CSeq")
}

#[test]
fn second_dialog_of_a_watcher_lives_by_itself() {
    let Some(mut stand) = Stand::raise("second-dialog", Setup::default()) else { return };
    let mut alice = stand.login("alice");
    alice.show(None, None);
    stand.dial();
    stand.partner.subscribe("one", JULIET, ALICE, None);
    alice.presence_from(JULIET_JID, "subscribe");
    alice.presence("subscribed", JULIET_JID);
    stand.partner.notified("one", "active", "open", is_open);

    stand.partner.subscribe("two", JULIET, ALICE, Some(1800));
    let ok = stand.partner.response("two");
    assert_eq!(ok.status(), 200, "{ok}");
    assert!(ok.header("expires").parse().is_ok_and(|granted: u32| granted <= 1800), "it may only be lowered: {ok}");
    stand.partner.notified("two", "active", "open", is_open);
    alice.show(Some("away"), None);
    stand.partner.notified("one", "active", "away", |d| holds(&d["activities"], "away"));
    stand.partner.notified("two", "active", "away", |d| holds(&d["activities"], "away"));

    stand.partner.refresh("one", 0);
    let end = stand.partner.notified("one", "terminated;reason=timeout", "after its end", |_| true);
    alice.show(Some("dnd"), None);
    stand.partner.notified("two", "active", "busy", |d| holds(&d["activities"], "busy"));
    stand
        .partner
        .assert_no_request("NOTIFY", Duration::from_secs(2), |e| e.text("name") == "one" && cseq(e) > cseq(&end));
}

#[test]
fn user_refuses_a_watcher() {
    let Some(mut stand) = Stand::raise("refusal", Setup::default()) else { return };
    let mut alice = stand.login("alice");
    alice.show(None, Some("not for everyone"));
    stand.dial();
    stand.partner.subscribe("w", JULIET, ALICE, None);
    assert_eq!(stand.partner.response("w").status(), 200);
    alice.presence_from(JULIET_JID, "subscribe");
    alice.presence("unsubscribed", JULIET_JID);
    let end = stand.partner.notified("w", "terminated;reason=rejected", "after her no", |_| true);
    assert!(end.body().is_empty(), "{end}");
    alice.show(Some("away"), None);
    stand.partner.assert_no_request("NOTIFY", Duration::from_secs(3), |e| cseq(e) > cseq(&end));
}

#[test]
fn subscription_ends_by_its_time() {
    let Some(mut stand) = Stand::raise("expiry", Setup::default()) else { return };
    let mut alice = stand.login("alice");
    alice.show(None, None);
    stand.dial();

    // RFC 6665 §4.2.1.1: too brief, and shorter than an hour.
    stand.partner.subscribe("brief", JULIET, ALICE, Some(1));
    let brief = stand.partner.response("brief");
    assert_eq!(brief.status(), 423, "{brief}");
    assert_eq!(brief.header("min-expires"), "2", "{brief}");

    stand.partner.subscribe("w", JULIET, ALICE, Some(5));
    let ok = stand.partner.response("w");
    assert_eq!((ok.status(), ok.header("expires")), (200, "5"), "{ok}");
    alice.presence_from(JULIET_JID, "subscribe");
    alice.presence("subscribed", JULIET_JID);
    stand.partner.notified("w", "active", "open", is_open);
    stand.partner.notified("w", "terminated;reason=timeout", "after five seconds", |_| true);
    stand.partner.refresh("w", 3600);
    let gone = stand.partner.response("w");
    assert_eq!(gone.status(), 481, "RFC 6665 §4.2.1.2: no such subscription any more: {gone}");
}

#[test]
fn user_watches_a_contact_of_the_partner() {
    let Some(mut stand) = Stand::raise("contact", Setup::default()) else { return };
    let mut alice = stand.login("alice");
    alice.show(None, None);
    alice.presence("subscribe", JULIET_JID);
    let subscribe = stand.partner.request("SUBSCRIBE", "for Juliet", |e| e.header("to").contains(JULIET));
    assert!(subscribe.header("from").contains(ALICE), "{subscribe}");
    assert_eq!((subscribe.header("event"), subscribe.header("accept")), ("presence", "application/pidf+xml"));
    assert!(subscribe.header("via").contains("sip.corp.example"), "{subscribe}");
    assert!(subscribe.header("contact").contains("sip.corp.example"), "Microsoft follows it back: {subscribe}");

    stand.partner.notify("pending", &subscribe, "pending;expires=3600", "");
    assert_eq!(stand.partner.response("pending").status(), 200);
    alice.assert_no_presence(JULIET_JID, "subscribed", Duration::from_secs(2));
    stand.partner.notify("active", &subscribe, "active;expires=3600", &document("<ep:activity>busy</ep:activity>"));
    assert_eq!(stand.partner.response("active").status(), 200);
    alice.presence_from(JULIET_JID, "subscribed");
    let shown = alice.presence_from(JULIET_JID, "");
    // The presence tables: Microsoft's Busy is Away for an XMPP client.
    assert_eq!(shown.text("show"), "away", "{shown}");
    stand.partner.notify("open", &subscribe, "active;expires=3600", &document(""));
    assert_eq!(stand.partner.response("open").status(), 200);
    let shown = alice.presence_from(JULIET_JID, "");
    assert_eq!(shown.text("show"), "", "{shown}");

    // She comes online later: her server probes, and she is shown what is known.
    alice.logout();
    stand.partner.notify("meanwhile", &subscribe, "active;expires=3600", &document("<ep:activity>away</ep:activity>"));
    assert_eq!(stand.partner.response("meanwhile").status(), 200);
    let mut alice = stand.login("alice");
    alice.show(None, None);
    let shown = alice.presence_from(JULIET_JID, "");
    assert_eq!(shown.text("show"), "away", "{shown}");

    stand.partner.notify("end", &subscribe, "terminated;reason=rejected", "");
    assert_eq!(stand.partner.response("end").status(), 200);
    alice.presence_from(JULIET_JID, "unsubscribed");
}

fn document(activities: &str) -> String {
    format!(
        r#"<?xml version="1.0" encoding="utf-8"?>
<presence xmlns="urn:ietf:params:xml:ns:pidf" xmlns:ep="urn:ietf:params:xml:ns:pidf:status:rpid-status" entity="{JULIET}">
<tuple id="0"><status><basic>open</basic><ep:activities>{activities}</ep:activities></status></tuple>
</presence>"#
    )
}

#[test]
fn user_stops_watching() {
    let Some(mut stand) = Stand::raise("contact-end", Setup::default()) else { return };
    let mut alice = stand.login("alice");
    alice.show(None, None);
    alice.presence("subscribe", JULIET_JID);
    let subscribe = stand.partner.request("SUBSCRIBE", "for Juliet", |e| e.header("to").contains(JULIET));
    stand.partner.notify("active", &subscribe, "active;expires=3600", &document(""));
    assert_eq!(stand.partner.response("active").status(), 200);
    alice.presence_from(JULIET_JID, "subscribed");
    alice.presence_from(JULIET_JID, "");

    alice.presence("unsubscribe", JULIET_JID);
    let end = stand.partner.request("SUBSCRIBE", "that ends it", |e| e.header("expires") == "0");
    assert_eq!(end.header("call-id"), subscribe.header("call-id"), "in its dialog");
    assert!(cseq(&end) > cseq(&subscribe), "{end}");
    stand.partner.notify("last", &subscribe, "terminated;reason=timeout", "");
    assert_eq!(stand.partner.response("last").status(), 200);
    stand.partner.notify("late", &subscribe, "active;expires=3600", &document("<ep:activity>busy</ep:activity>"));
    assert_eq!(stand.partner.response("late").status(), 481);
    stand.partner.assert_no_request("SUBSCRIBE", Duration::from_secs(2), |_| true);
}

#[test]
fn partner_refuses_a_user() {
    let Some(mut stand) = Stand::raise("contact-refused", Setup::default()) else { return };
    let mut alice = stand.login("alice");
    alice.show(None, None);
    stand.partner.answer("SUBSCRIBE", Some(403));
    alice.presence("subscribe", JULIET_JID);
    stand.partner.request("SUBSCRIBE", "for Juliet", |e| e.header("to").contains(JULIET));
    alice.presence_from(JULIET_JID, "unsubscribed");
    stand.partner.assert_no_request("SUBSCRIBE", Duration::from_secs(2), |_| true);
}
