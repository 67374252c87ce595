//! Stream management (XEP-0198) with Prosody inside: what its server has heard to be handled, and what it answers for itself when the edge dies.
//!
//! What Prosody 0.12 does (`mod_smacks`), found out here and in its sources:
//! * On its streams to others it looks for `<sm/>` in the features behind SASL EXTERNAL only: `mod_dialback` takes the features before it sees
//!   them. So do later versions. Hence the TLS in these tests: Prosody asks for EXTERNAL under TLS only.
//! * It sends what has waited for the stream first, then `<enable/>`: those stanzas are not counted, nobody answers for them.
//! * It asks `<r/>` behind each write that empties its buffer, one at a time, and drops from its queue what is acknowledged.
//! * When the stream ends, however that came, it answers each message still in the queue by an error to its sender, `recipient-unavailable`.
//!   It sends none of them again, unless `smacks_s2s_resend = true`.

use crate::client::Client;
use crate::partner::JULIET_JID;
use crate::process::PATIENCE;
use crate::stand::{Setup, Stand, wait_until};
use std::time::Duration;

/// A stand where Prosody has `mod_smacks` and Alice has sent two messages; the second one after the stream was there.
fn raise(test: &str, tls: bool) -> Option<(Stand, Client)> {
    let mut stand = Stand::raise(test, Setup { tls, managed: true, ..Setup::default() })?;
    let mut alice = stand.login("alice");
    alice.show(None, None);
    for id in ["m1", "m2"] {
        alice.message(JULIET_JID, id, id);
        stand.partner.request("MESSAGE", "of Alice", |e| e.body() == id.as_bytes());
    }
    Some((stand, alice))
}

/// The edge is held while Alice sends a message, which Prosody writes; then it dies.
fn die_behind(stand: &mut Stand, alice: &mut Client, id: &str) {
    stand.fedgate.signal("STOP");
    alice.message(JULIET_JID, id, id);
    let is_written = |line: &str| line.contains("Sending[s2sout]: <message ") && line.contains(&format!("id='{id}'"));
    wait_until("Prosody has written it", PATIENCE, || stand.prosody.log().lines().any(is_written));
    stand.fedgate.signal("KILL");
    stand.fedgate.wait();
}

#[test]
fn prosody_hears_what_is_handled_and_answers_for_the_rest() {
    let Some((mut stand, mut alice)) = raise("managed", true) else { return };
    let said = |words: &str| stand.prosody.log().lines().any(|line| line.contains("s2sout") && line.contains(words));
    assert!(said("Sending[s2sout]: <enable xmlns='urn:xmpp:sm:3'"));
    // The first one came before <enable/>.
    wait_until("the second message is acknowledged", PATIENCE, || {
        said("Received[s2sout]: <a ") && said("#queue = 0 (acked: 1)")
    });
    for number in 3..=20 {
        let id = format!("m{number}");
        alice.message(JULIET_JID, &id, &id);
    }
    stand.partner.request("MESSAGE", "the last one", |e| e.body() == b"m20");
    wait_until("all are acknowledged", PATIENCE, || {
        let log = stand.prosody.log();
        let last = log.lines().rfind(|line| line.contains("Received[s2sout]: <a "));
        last.is_some_and(|line| line.contains(" h='19'"))
    });
    let log = stand.prosody.log();
    let queue = log.lines().rfind(|line| line.contains("#queue = "));
    assert!(queue.is_some_and(|line| line.contains("#queue = 0 ")), "{queue:?}");

    die_behind(&mut stand, &mut alice, "m21");
    assert_eq!(alice.error_of("m21", Duration::ZERO).0, "recipient-unavailable");
    for id in ["m2", "m20"] {
        alice.assert_no_error(id, Duration::from_millis(200));
    }
}

#[test]
fn without_acknowledgements_nobody_answers_for_what_was_written() {
    // Without TLS Prosody proves itself by dialback, and enables nothing. This is what nobody can promise then.
    let Some((mut stand, mut alice)) = raise("unmanaged", false) else { return };
    assert!(!stand.prosody.log().contains("<enable "));
    die_behind(&mut stand, &mut alice, "m3");
    let ended = |line: &str| line.contains("Destroying outgoing session corp.example->lync.example");
    wait_until("Prosody has seen its end", PATIENCE, || stand.prosody.log().lines().any(ended));
    alice.assert_no_error("m3", Duration::from_secs(3));
}
