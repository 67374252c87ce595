//! Who and what does not get in: the right status, an ID that log and audit know, and nothing of it inside.

use crate::partner::{JULIET, JULIET_JID};
use crate::process::Event;
use crate::stand::{Setup, Stand, wait_until};
use std::time::Duration;

const ALICE: &str = "sip:alice@corp.example";

/// A refusal's status and `Warning: 399 HOSTNAME "fedgate ID reason …"`; the ID stands in log and audit, with the reason.
pub fn assert_refused(stand: &Stand, response: &Event, status: u64, reason: &str) {
    assert_eq!(response.status(), status, "for {reason}: {response}");
    let warning = response.header("warning");
    let text = warning.strip_prefix("399 sip.corp.example \"").and_then(|rest| rest.strip_suffix('"'));
    let words: Vec<&str> = text.unwrap_or_default().split(' ').collect();
    assert!(words.len() >= 3 && words[0] == "fedgate" && words[2] == reason, "Warning of {reason}: {response}");
    assert!(words[1].len() >= 8 && words[1].bytes().all(|b| b.is_ascii_alphanumeric()), "an ID: {warning}");
    // Neither a node nor a host of the inside.
    assert!(!response.text("raw").contains("imp-1"), "{response}");
    stand.fedgate.assert_recorded(&[words[1], reason]);
}

/// Nothing that names any of these has reached the server inside.
pub fn assert_nothing_inside(stand: &Stand, names: &[&str]) {
    let log = stand.prosody.log();
    for name in names {
        assert!(!log.contains(name), "Prosody has seen {name}");
    }
}

#[test]
fn only_a_proven_and_listed_domain_gets_in() {
    let Some(mut stand) = Stand::raise("proof", Setup::default()) else { return };
    let mut alice = stand.login("alice");
    alice.show(None, None);
    stand.dial();
    let unlisted = stand.pki.leaf("unlisted", &["sip.unlisted.example"], &stand.pki.authority);
    let other = stand.pki.leaf("other", &["sip.other.example"], &stand.pki.authority);
    stand.partner.dial("unlisted", Some(&unlisted));
    stand.partner.dial("other", Some(&other));

    let tries = [
        ("unlisted", "sip:romeo-a@unlisted.example", ALICE, "unlisted-domain"),
        // A certificate of another domain, even a listed one, proves nothing about this one.
        ("other", "sip:romeo-b@lync.example", ALICE, "unproven"),
        // Our own domain, from outside.
        ("out", "sip:romeo-c@corp.example", ALICE, "unproven"),
        // A subdomain is another domain.
        ("out", "sip:romeo-d@sub.lync.example", ALICE, "unlisted-domain"),
        // No relay for anyone.
        ("out", "sip:romeo-e@lync.example", "sip:someone@elsewhere.example", "relay-denied"),
    ];
    for (i, (link, from, to, reason)) in tries.into_iter().enumerate() {
        let (message, watch) = (format!("m{i}"), format!("s{i}"));
        stand.partner.message_on(link, &message, from, to, "let me in");
        let response = stand.partner.response(&message);
        assert_refused(&stand, &response, 403, reason);
        stand.partner.subscribe_on(link, &watch, from, to, None);
        let response = stand.partner.response(&watch);
        assert_refused(&stand, &response, 403, reason);
    }
    for (reason, count) in [("unlisted-domain", 4.0), ("unproven", 4.0), ("relay-denied", 2.0)] {
        let label = format!("reason=\"{reason}\"");
        assert_eq!(stand.fedgate.metric("fedgate_refusals_total", &[&label]), Some(count), "{reason}");
    }
    // Whoever is proven is served all the same.
    stand.partner.message("fine", JULIET, ALICE, "good day");
    assert_eq!(stand.partner.response("fine").status(), 200);
    assert_eq!(alice.message_from(JULIET_JID).text("body"), "good day");
    assert_nothing_inside(&stand, &["romeo-", "unlisted.example", "elsewhere.example"]);
}

#[test]
fn link_without_an_acceptable_certificate_is_closed_unheard() {
    let Some(mut stand) = Stand::raise("certificate", Setup::default()) else { return };
    let mut alice = stand.login("alice");
    alice.show(None, None);
    // The right name from the wrong authority; and no certificate at all.
    let forged = stand.pki.leaf("forged", &["sip.lync.example"], &stand.pki.stranger);
    for (link, certificate) in [("forged", Some(&forged)), ("bare", None)] {
        // In TLS 1.3 the client hears of it after its own handshake is done.
        if stand.partner.try_dial(link, certificate).is("linked") {
            let name = format!("message-{link}");
            stand.partner.message_on(link, &name, "sip:romeo-f@lync.example", ALICE, "let me in");
            stand.partner.closed(link);
            stand.partner.assert_unanswered(&name, Duration::from_millis(200));
        }
    }
    wait_until("the audit has both", Duration::from_secs(5), || {
        stand.fedgate.audit().lines().filter(|line| line.contains("unproven")).count() >= 2
    });
    alice.assert_no_message("romeo-f@lync.example", Duration::from_secs(1));
    assert_nothing_inside(&stand, &["romeo-"]);
}

/// A MESSAGE in bytes, so that anything can be wrong with it.
fn message(further: &str, length: &str, body: &str) -> Vec<u8> {
    format!(
        "MESSAGE {ALICE} SIP/2.0\r\nVia: SIP/2.0/TLS 127.0.0.9:5061;branch=z9hG4bK{length}{0}\r\nMax-Forwards: 70\r\n\
         From: <sip:romeo-g@lync.example>;tag=1\r\nTo: <{ALICE}>\r\nCall-ID: call-{0}-{length}\r\nCSeq: 1 MESSAGE\r\n{further}\
         Content-Type: text/plain\r\nContent-Length: {length}\r\n\r\n{body}",
        further.len(),
    )
    .into_bytes()
}

#[test]
fn unfit_message_is_refused_and_the_link_lives() {
    let Some(mut stand) = Stand::raise("unfit", Setup::default()) else { return };
    let mut alice = stand.login("alice");
    alice.show(None, None);
    stand.dial();

    // The profile's body_bytes is 65,536.
    stand.partner.message("large", "sip:romeo-h@lync.example", ALICE, &"x".repeat(65_537));
    let large = stand.partner.response("large");
    assert_refused(&stand, &large, 413, "too-large");
    // Two senders: policy must not read one and the server inside the other.
    stand.partner.raw("out", &message("From: <sip:romeo-i@corp.example>;tag=2\r\n", "2", "hi"));
    let twice = stand.partner.response_on("out");
    assert_refused(&stand, &twice, 400, "malformed");
    // Not UTF-8: no XML can carry it.
    let mut latin = message("", "3", "");
    latin.extend(b"\xfc\xe9!");
    stand.partner.raw("out", &latin);
    let latin = stand.partner.response_on("out");
    assert_refused(&stand, &latin, 400, "malformed");
    // RFC 3261 §8.2.3: a type we do not carry, and what we do.
    stand.partner.raw("out", &message("Content-Encoding: gzip\r\n", "2", "hi"));
    let packed = stand.partner.response_on("out");
    assert_refused(&stand, &packed, 415, "unsupported");
    stand.partner.assert_open("out", Duration::ZERO);
    stand.partner.message("fine", JULIET, ALICE, "good day");
    assert_eq!(stand.partner.response("fine").status(), 200);
    assert_eq!(alice.message_from(JULIET_JID).text("body"), "good day");

    // RFC 3261 §18.3: where the next message begins is unknown; the link ends.
    stand.partner.raw("out", &message("", "-1", "hi"));
    let lost = stand.partner.response_on("out");
    assert_refused(&stand, &lost, 400, "malformed");
    stand.partner.closed("out");
    assert_nothing_inside(&stand, &["romeo-"]);
}

#[test]
fn user_cannot_reach_an_unlisted_domain() {
    let Some(stand) = Stand::raise("unlisted", Setup::default()) else { return };
    let mut alice = stand.login("alice");
    alice.show(None, None);
    alice.message("romeo@unlisted.example", "m1", "hello");
    // What she reads is Prosody's bounce of the stream error.
    let (condition, text) = alice.error_of("m1", Duration::from_secs(20));
    assert!(!condition.is_empty(), "{text}");
    wait_until("the audit has it", Duration::from_secs(5), || {
        let audit = stand.fedgate.audit();
        audit.lines().any(|line| line.contains("unlisted-domain") && line.contains("unlisted.example"))
    });
}
