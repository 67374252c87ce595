//! IM sessions (RFC 7573, RFC 7572 §5) with a partner of Microsoft's kind, over sockets: opened by either user, refused, lost and made anew.

use crate::partner::{JULIET, JULIET_JID};
use crate::process::Event;
use crate::refusals::{assert_nothing_inside, assert_refused};
use crate::stand::{Setup, Stand};
use serde_json::json;
use std::time::Duration;

const ALICE: &str = "sip:alice@corp.example";
const PLAIN: &str = "text/plain; charset=UTF-8";
const BODY: &str = "Wherefore so late? <&>\" 'Grüße' 私は行く 🌍👩\u{200d}🚀";
const TYPES: &str =
    "<?xml version=\"1.0\"?>\r\n<KeyboardActivity>\r\n  <status status=\"type\" />\r\n</KeyboardActivity>\r\n";
/// How long something is awaited that must not come.
const QUIET: Duration = Duration::from_secs(1);

fn raise(test: &str, chat: &'static str) -> Option<Stand> {
    Stand::raise(test, Setup { chat, ..Setup::default() })
}

/// A MESSAGE of fedgate's with this text.
fn line(stand: &mut Stand, text: &str) -> Event {
    stand.partner.request("MESSAGE", text, |e| e.body() == text.as_bytes())
}

/// Asserts that a request of fedgate's is in the dialog that the 200 of ours for this INVITE of its own made.
fn assert_in_dialog(request: &Event, invite: &Event) {
    assert_eq!(request.header("call-id"), invite.header("call-id"), "{request}");
    assert_eq!(request.header("from"), invite.header("from"), "{request}");
    assert!(request.header("to").contains(";tag="), "{request}");
    let target = format!("{} {JULIET};opaque=user:epid:Zk3dSampleGruuValue0AA;gruu SIP/2.0", request.text("method"));
    assert_eq!(request.text("start"), target, "{request}");
    // RFC 3261 §12.1.2: the route set of a caller is the reverse of what was recorded.
    let routes = request.headers("route").join(", ");
    let order = ["<sip:sip.lync.example:5061;", "<sip:pool01.lync.example:5061;"].map(|proxy| routes.find(proxy));
    assert!(order[0].is_some() && order[0] < order[1], "{request}");
}

#[test]
fn session_that_the_partner_opens() {
    let Some(mut stand) = raise("session-in", "session") else { return };
    let mut alice = stand.login("alice");
    alice.show(None, None);
    stand.dial();

    let invite = stand.partner.invite("call", JULIET, ALICE, BODY);
    let ok = stand.partner.response("call");
    assert_eq!(ok.status(), 200, "{ok}");
    assert_eq!(ok.headers("record-route"), invite.headers("record-route"), "{ok}");
    assert_eq!(ok.headers("contact"), ["<sip:sip.corp.example:5061;transport=tls>"], "{ok}");
    assert_eq!(ok.header("content-type"), "application/sdp", "{ok}");
    let sdp = String::from_utf8(ok.body()).unwrap();
    assert!(sdp.lines().any(|line| line == format!("m=message 5060 sip {ALICE}")), "{ok}");
    // Who says so takes the first message out of the INVITE, and the partner would not send it again.
    let supported = ok.headers("supported").join(", ");
    assert!(!supported.contains("ms-text-format") && !supported.contains("ms-embedded-first-message"), "{ok}");

    stand.partner.within("types", &invite, "INFO", Some(("application/xml", TYPES)));
    assert_eq!(stand.partner.response("types").status(), 200);
    alice.state_from(JULIET_JID, "composing");

    stand.partner.within("first", &invite, "MESSAGE", Some((PLAIN, BODY)));
    let ok = stand.partner.response("first");
    assert!(ok.status() == 200 && ok.headers("contact").is_empty(), "{ok}");
    let message = alice.message_from(JULIET_JID);
    assert_eq!((message.text("body"), message.text("type"), message.text("state")), (BODY, "chat", "active"));
    assert_eq!(message.text("thread"), invite.header("call-id"));
    alice.assert_no_message(JULIET_JID, QUIET);

    alice.state(JULIET_JID, "composing");
    let types = stand.partner.request("INFO", "of Alice's typing", |_| true);
    assert!(types.text("body").contains(r#"status="type""#), "{types}");
    assert_eq!(types.header("content-type"), "application/xml", "{types}");
    alice.message(JULIET_JID, "m1", BODY);
    let reply = line(&mut stand, BODY);
    for request in [&types, &reply] {
        assert_eq!(request.text("name"), "call", "{request}");
        assert_eq!(request.header("to"), invite.header("from"), "{request}");
        let route = request.header("route");
        assert!(!route.is_empty() && invite.header("record-route").starts_with(route), "{request}");
    }
    assert_eq!(types.header("from"), reply.header("from"));
    alice.assert_no_error("m1", QUIET);

    stand.partner.within("end", &invite, "BYE", None);
    assert_eq!(stand.partner.response("end").status(), 200);
    alice.state_from(JULIET_JID, "gone");
    stand.partner.within("late", &invite, "MESSAGE", Some((PLAIN, "too late")));
    assert_eq!(stand.partner.response("late").status(), 481);
    alice.assert_no_message(JULIET_JID, QUIET);
    // Neither a retransmitted 200 nor an INVITE of its own.
    stand.partner.assert_no_request("INVITE", Duration::ZERO, |_| true);
}

#[test]
fn session_that_the_user_opens() {
    let Some(mut stand) = raise("session-out", "session") else { return };
    let mut alice = stand.login("alice");
    alice.show(None, None);

    stand.partner.answer("INVITE", None);
    alice.message(JULIET_JID, "m1", BODY);
    let invite = stand.partner.request("INVITE", "of Alice", |_| true);
    assert_eq!(invite.text("start"), format!("INVITE {JULIET} SIP/2.0"));
    assert!(String::from_utf8(invite.body()).unwrap().contains("\r\nm=message 5060 sip null\r\n"), "{invite}");
    assert!(!invite.header("ms-conversation-id").is_empty(), "{invite}");
    alice.message(JULIET_JID, "m2", "two");
    stand.partner.reply(&invite, 180);
    stand.partner.assert_no_request("MESSAGE", QUIET, |_| true);
    stand.partner.answer("MESSAGE", None);
    stand.partner.reply(&invite, 200);

    let ack = stand.partner.request("ACK", "of the session", |_| true);
    assert_in_dialog(&ack, &invite);
    assert_eq!(ack.header("cseq"), "1 ACK", "{ack}");
    // RFC 3428 §8: while the first is unanswered, the others wait.
    let first = stand.partner.request("MESSAGE", "that waited first", |_| true);
    alice.message(JULIET_JID, "m3", "three");
    stand.partner.assert_no_request("MESSAGE", QUIET, |_| true);
    stand.partner.answer("MESSAGE", Some(200));
    stand.partner.reply(&first, 200);
    let second = stand.partner.request("MESSAGE", "that waited second", |_| true);
    let third = stand.partner.request("MESSAGE", "that came last", |_| true);
    for (message, text, cseq) in
        [(first, BODY, "2 MESSAGE"), (second, "two", "3 MESSAGE"), (third, "three", "4 MESSAGE")]
    {
        assert_eq!((message.text("body"), message.header("cseq")), (text, cseq));
        assert_in_dialog(&message, &invite);
    }

    stand.partner.within("answer", &invite, "MESSAGE", Some((PLAIN, "here I am")));
    assert_eq!(stand.partner.response("answer").status(), 200);
    let answer = alice.message_from(JULIET_JID);
    assert_eq!((answer.text("body"), answer.text("type")), ("here I am", "chat"));

    alice.state(JULIET_JID, "gone");
    let bye = stand.partner.request("BYE", "of the session", |_| true);
    assert_in_dialog(&bye, &invite);
    assert_eq!(bye.header("cseq"), "5 BYE", "{bye}");
    for id in ["m1", "m2", "m3"] {
        alice.assert_no_error(id, QUIET);
    }
    stand.partner.assert_no_request("MESSAGE", Duration::ZERO, |_| true);
    assert_eq!(stand.fedgate.metric("fedgate_unresolved_messages_total", &[]), Some(0.0));
}

#[test]
fn partner_without_sessions_gets_pages() {
    let Some(mut stand) = raise("session-auto", "auto") else { return };
    let mut alice = stand.login("alice");
    alice.show(None, None);

    // The partner's own answer to an INVITE is 488.
    alice.message(JULIET_JID, "m1", BODY);
    let invite = stand.partner.request("INVITE", "of Alice", |_| true);
    let ack = stand.partner.request("ACK", "of the refusal", |_| true);
    // RFC 3261 §17.1.1.3.
    assert_eq!(ack.header("via"), invite.header("via"), "{ack}");
    assert_eq!(ack.text("start"), format!("ACK {JULIET} SIP/2.0"));
    let page = line(&mut stand, BODY);
    assert_eq!(page.text("start"), format!("MESSAGE {JULIET} SIP/2.0"));
    assert!(!page.header("to").contains("tag=") && page.headers("contact").is_empty(), "{page}");

    alice.message(JULIET_JID, "m2", "two");
    let next = line(&mut stand, "two");
    assert!(!next.header("to").contains("tag="), "{next}");
    assert_ne!(next.header("call-id"), invite.header("call-id"), "{next}");
    stand.partner.assert_no_request("INVITE", QUIET, |_| true);
    stand.partner.assert_no_request("MESSAGE", Duration::ZERO, |_| true);
    for id in ["m1", "m2"] {
        alice.assert_no_error(id, Duration::ZERO);
    }
}

#[test]
fn session_that_is_dead_is_made_anew() {
    let Some(mut stand) = raise("session-dead", "session") else { return };
    let mut alice = stand.login("alice");
    alice.show(None, None);
    stand.partner.answer("INVITE", Some(200));
    alice.message(JULIET_JID, "m1", "one");
    let invite = stand.partner.request("INVITE", "of Alice", |_| true);
    assert_in_dialog(&line(&mut stand, "one"), &invite);

    // As after a restart of their end.
    stand.partner.answer("MESSAGE", None);
    alice.message(JULIET_JID, "m2", "two");
    let lost = line(&mut stand, "two");
    assert_in_dialog(&lost, &invite);
    stand.partner.answer("MESSAGE", Some(200));
    stand.partner.reply(&lost, 481);

    let again = stand.partner.request("INVITE", "made anew", |_| true);
    assert_ne!(again.header("call-id"), invite.header("call-id"));
    assert_ne!(again.header("ms-conversation-id"), invite.header("ms-conversation-id"));
    assert_in_dialog(&line(&mut stand, "two"), &again);
    stand.partner.assert_no_request("MESSAGE", QUIET, |_| true);
    // Who doesn't know the dialog needs no BYE.
    stand.partner.assert_no_request("BYE", Duration::ZERO, |_| true);
    stand.partner.assert_no_request("INVITE", Duration::ZERO, |_| true);
    alice.assert_no_error("m2", Duration::ZERO);

    stand.partner.within("answer", &again, "MESSAGE", Some((PLAIN, "three")));
    assert_eq!(stand.partner.response("answer").status(), 200);
    assert_eq!(alice.message_from(JULIET_JID).text("body"), "three");
    stand.partner.within("dead", &invite, "MESSAGE", Some((PLAIN, "of the old one")));
    assert_eq!(stand.partner.response("dead").status(), 481);
    alice.assert_no_message(JULIET_JID, QUIET);
}

#[test]
fn what_is_no_session_of_two_is_refused() {
    let Some(mut stand) = raise("session-refused", "session") else { return };
    let mut alice = stand.login("alice");
    alice.show(None, None);
    stand.dial();
    let sdp = |media: &str| {
        format!(
            "v=0\r\no=- 0 0 IN IP4 10.20.31.5\r\ns=session\r\nc=IN IP4 10.20.31.5\r\nt=0 0\r\n{media}\r\n\
             a=accept-types:text/plain\r\n"
        )
    };
    let romeo = "sip:romeo-s@lync.example";
    let three = json!({ "EndPoints": format!("<{romeo}>, <{ALICE}>, <{JULIET}>") });
    let multiparty = json!({ "Require": "com.microsoft.rtc-multiparty" });
    let none = json!({});
    for (name, media, headers, status, reason) in [
        ("msrp", Some("m=message 2855 TCP/TLS/MSRP *"), &none, 488, "unsupported"),
        // No policy allows calls: that comes first.
        ("audio", Some("m=audio 49170 RTP/AVP 0"), &none, 488, "unsupported"),
        ("three", None, &three, 488, "unsupported"),
        ("multiparty", None, &multiparty, 420, "unsupported"),
    ] {
        stand.partner.invite_with(name, romeo, ALICE, media.map(sdp).as_deref(), headers);
        let response = stand.partner.response(name);
        assert_refused(&stand, &response, status, reason);
        let unsupported = if status == 420 { vec!["com.microsoft.rtc-multiparty"] } else { Vec::new() };
        assert_eq!(response.headers("unsupported"), unsupported, "{response}");
    }
    alice.assert_no_message("romeo-s@lync.example", QUIET);
    assert_nothing_inside(&stand, &["romeo-"]);
    // The link is none the worse.
    stand.partner.invite("fine", JULIET, ALICE, "good day");
    assert_eq!(stand.partner.response("fine").status(), 200);
}

#[test]
fn session_outlives_its_connections() {
    let Some(mut stand) = raise("session-link", "session") else { return };
    let mut alice = stand.login("alice");
    alice.show(None, None);
    stand.dial();
    let invite = stand.partner.invite("call", JULIET, ALICE, "one");
    assert_eq!(stand.partner.response("call").status(), 200);
    stand.partner.within("first", &invite, "MESSAGE", Some((PLAIN, "one")));
    assert_eq!(stand.partner.response("first").status(), 200);
    assert_eq!(alice.message_from(JULIET_JID).text("body"), "one");

    // A dialog is not its connection's: what follows goes on one of fedgate's own making.
    stand.partner.close("out");
    alice.message(JULIET_JID, "m1", "two");
    let message = line(&mut stand, "two");
    assert_eq!(message.header("to"), invite.header("from"), "{message}");
    assert_eq!(message.header("call-id"), invite.header("call-id"), "{message}");
    let link = message.text("link").to_owned();
    assert!(link.starts_with("in-"), "{message}");
    stand.partner.close(&link);
    alice.message(JULIET_JID, "m2", "three");
    assert_eq!(line(&mut stand, "three").header("call-id"), invite.header("call-id"));
    for id in ["m1", "m2"] {
        alice.assert_no_error(id, QUIET);
    }

    // And the partner goes on from another edge.
    let certificate = stand.partner_certificate.clone();
    stand.partner.dial("other-edge", Some(&certificate));
    stand.partner.within_on("other-edge", "end", &invite, "BYE");
    assert_eq!(stand.partner.response("end").status(), 200);
    alice.state_from(JULIET_JID, "gone");
    stand.partner.assert_no_request("INVITE", Duration::ZERO, |_| true);
}

#[test]
fn sessions_end_with_the_program() {
    let Some(mut stand) = raise("session-drain", "session") else { return };
    let mut alice = stand.login("alice");
    alice.show(None, None);
    stand.partner.answer("INVITE", Some(200));
    alice.message(JULIET_JID, "m1", "one");
    let invite = stand.partner.request("INVITE", "of Alice", |_| true);
    let ack = stand.partner.request("ACK", "of the session", |_| true);
    line(&mut stand, "one");
    // RFC 3261 §13.2.2.4: the 200 again, as if the ACK were lost.
    stand.partner.reply(&invite, 200);
    let again = stand.partner.request("ACK", "of the 200 sent again", |_| true);
    assert_eq!(again.text("raw"), ack.text("raw"));

    // What is on its way is settled first.
    stand.partner.answer("MESSAGE", None);
    alice.message(JULIET_JID, "m2", "two");
    let held = line(&mut stand, "two");
    stand.fedgate.signal("TERM");
    alice.state_from(JULIET_JID, "gone");
    stand.partner.assert_no_request("BYE", QUIET, |_| true);
    stand.partner.reply(&held, 200);
    let bye = stand.partner.request("BYE", "at the end", |_| true);
    assert_in_dialog(&bye, &invite);
    assert!(stand.fedgate.wait().success());
    alice.assert_no_error("m2", QUIET);
}
