//! Page-mode messages in both directions (RFC 7572, RFC 3428) and what becomes of those that cannot be delivered (RFC 7247).

use crate::partner::{JULIET, JULIET_JID};
use crate::stand::{Setup, Stand};
use std::time::{Duration, Instant};

const ALICE: &str = "sip:alice@corp.example";
/// Two, three and four bytes of UTF-8, joined and combining characters, white space, and everything XML escapes.
const BODY: &str = "Grüße <&>\" '私は行く' 🌍👩\u{200d}🚀 e\u{301}  two  spaces\ttab\n]]> &amp; <![CDATA[ %41 end ";

#[test]
fn message_from_the_partner_arrives_whole() {
    let Some(mut stand) = Stand::raise("inbound", Setup::default()) else { return };
    let mut alice = stand.login("alice");
    alice.show(None, None);
    stand.dial();

    stand.partner.message("m1", JULIET, ALICE, BODY);
    let ok = stand.partner.response("m1");
    assert_eq!(ok.status(), 200, "{ok}");
    // RFC 3428 §7: no Contact, no body.
    assert!(ok.headers("contact").is_empty() && ok.body().is_empty(), "{ok}");
    let message = alice.message_from(JULIET_JID);
    assert_eq!(message.text("body"), BODY);
    assert_eq!(message.text("to").split('/').next(), Some("alice@corp.example"));

    // Prosody says whether there is such a user; its answer is the sender's.
    stand.partner.message("m2", JULIET, "sip:nobody@corp.example", "is anybody there?");
    let unknown = stand.partner.response("m2");
    assert!(matches!(unknown.status(), 403 | 404 | 405 | 480), "{unknown}");
    stand.partner.message("m3", JULIET, ALICE, "and afterwards");
    assert_eq!(stand.partner.response("m3").status(), 200);
    assert_eq!(alice.message_from(JULIET_JID).text("body"), "and afterwards");
}

#[test]
fn message_is_acknowledged_only_when_the_server_has_it() {
    let Some(mut stand) = Stand::raise("acknowledged", Setup::default()) else { return };
    let mut alice = stand.login("alice");
    alice.show(None, None);
    stand.dial();
    // The streams stand before the server is held, so that it is the message that waits.
    stand.partner.message("first", JULIET, ALICE, "first");
    assert_eq!(stand.partner.response("first").status(), 200);
    alice.message_from(JULIET_JID);

    stand.prosody.freeze();
    stand.partner.message("held", JULIET, ALICE, "held");
    stand.partner.assert_unanswered("held", Duration::from_secs(3));
    stand.prosody.thaw();
    assert_eq!(stand.partner.response("held").status(), 200);
    assert_eq!(alice.message_from(JULIET_JID).text("body"), "held");
}

#[test]
fn message_to_the_partner_arrives_whole() {
    let Some(mut stand) = Stand::raise("outbound", Setup::default()) else { return };
    let mut alice = stand.login("alice");
    alice.show(None, None);

    alice.message(JULIET_JID, "m1", BODY);
    let message = stand.partner.request("MESSAGE", "of Alice", |_| true);
    assert_eq!(String::from_utf8_lossy(&message.body()), BODY);
    assert_eq!(message.body(), BODY.as_bytes());
    assert!(message.header("content-type").to_ascii_lowercase().starts_with("text/plain"), "{message}");
    assert!(message.header("from").contains(ALICE), "{message}");
    assert!(message.text("start").starts_with(&format!("MESSAGE {JULIET}")), "{message}");
    // RFC 3428 §4; and nothing of the inside is named: the only Via is ours.
    assert!(message.headers("contact").is_empty(), "{message}");
    assert_eq!(message.headers("via").len(), 1, "{message}");
    assert!(message.header("via").contains("sip.corp.example"), "{message}");
    alice.assert_no_error("m1", Duration::from_secs(2));

    // RFC 7247 §7.2, table 3.
    for (status, condition) in [
        (404, "item-not-found"),
        (486, "recipient-unavailable"),
        (403, "forbidden"),
        (415, "not-acceptable"),
        (503, "internal-server-error"),
    ] {
        let id = format!("refused-{status}");
        stand.partner.answer("MESSAGE", Some(status));
        alice.message(JULIET_JID, &id, &id);
        assert_eq!(alice.error_of(&id, Duration::ZERO).0, condition, "for {status}");
    }
    stand.partner.answer("MESSAGE", Some(200));
    alice.message(JULIET_JID, "m2", "and afterwards");
    stand.partner.request("MESSAGE", "and afterwards", |e| e.body() == b"and afterwards");
    alice.assert_no_error("m2", Duration::from_secs(1));
}

#[test]
fn message_to_a_silent_partner_ends_in_an_error() {
    let Some(mut stand) = Stand::raise("silence", Setup::default()) else { return };
    let mut alice = stand.login("alice");
    alice.show(None, None);
    stand.partner.answer("MESSAGE", None);
    alice.message(JULIET_JID, "m1", "hello?");
    stand.partner.request("MESSAGE", "that is not answered", |_| true);
    let asked = Instant::now();
    let (condition, text) = alice.error_of("m1", Duration::from_secs(45));
    assert_eq!(condition, "remote-server-timeout", "{text}");
    // RFC 3261 §17.1.2.2: not before the transaction is over, or a late 200 would make it a lie.
    assert!(asked.elapsed() > Duration::from_secs(20), "after {:?}", asked.elapsed());
    assert!(text.contains("fedgate "), "the sender can quote an ID: {text:?}");
    assert_eq!(stand.fedgate.metric("fedgate_unresolved_messages_total", &[]), Some(0.0));
}
