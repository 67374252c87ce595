//! XMPP that stays XMPP: every pairing of Prosody and ejabberd, people on both sides at real clients.

use crate::client::Client;
use crate::process::Event;
use crate::xmpp_server::Kind::{self, Ejabberd, Prosody};
use crate::xmpp_stand::{ALICE, JULIET, PARTNER, Setup, Stand};
use std::time::Duration;

#[test]
fn prosody_and_prosody() {
    federate("xmpp-pp", Prosody, Prosody);
}

#[test]
fn prosody_outside_and_ejabberd_inside() {
    federate("xmpp-pe", Prosody, Ejabberd);
}

#[test]
fn ejabberd_outside_and_prosody_inside() {
    federate("xmpp-ep", Ejabberd, Prosody);
}

#[test]
fn ejabberd_and_ejabberd() {
    federate("xmpp-ee", Ejabberd, Ejabberd);
}

/// All that people do.
fn federate(test: &str, partner: Kind, inside: Kind) {
    let Some(stand) = Stand::raise(test, Setup::of(partner, inside)) else { return };
    let mut alice = stand.inside("alice");
    let mut juliet = stand.outside("juliet");

    chat(&mut juliet, &mut alice);
    befriend(&mut juliet, JULIET, &mut alice, ALICE);
    befriend(&mut alice, ALICE, &mut juliet, JULIET);
    presence(&mut juliet, JULIET, &mut alice, ALICE);
    questions(&mut juliet, "corp.example", ALICE);
    questions(&mut alice, PARTNER, JULIET);
    room(&mut alice, "alice", &mut juliet, "juliet", "garden@conference.corp.example");
    room(&mut juliet, "juliet", &mut alice, "alice", "balcony@conference.partner.example");

    // They have proven themselves to each other by certificates, both ways.
    proven(&stand, "EXTERNAL");
    alice.logout();
    juliet.presence_from(ALICE, "unavailable");
    let metric = |name: &str, labels: &[&str]| stand.fedgate.metric(name, labels);
    assert_eq!(metric("fedgate_unresolved_messages_total", &[]), Some(0.0));
    assert!(metric("fedgate_refusals_total", &[]).is_none_or(|refused| refused == 0.0), "{}", stand.fedgate.audit());
    for direction in ["direction=\"in\"", "direction=\"out\""] {
        let delivered = metric("fedgate_messages_total", &["kind=\"chat\"", direction, "outcome=\"delivered\""]);
        assert!(delivered.is_some_and(|many| many >= 2.0), "{direction}: {delivered:?}");
        // A room's, too.
        let said = metric("fedgate_messages_total", &["kind=\"groupchat\"", direction, "outcome=\"delivered\""]);
        assert!(said.is_some_and(|many| many >= 1.0), "{direction}: {said:?}");
    }
}

/// Messages both ways, which nobody changes.
fn chat(juliet: &mut Client, alice: &mut Client) {
    let body = "xmlns='jabber:client' <&>\" 私は行く 🌍 ]]>";
    for (number, body) in [body, "and another"].into_iter().enumerate() {
        juliet.message(ALICE, &format!("in{number}"), body);
        let message = alice.message_from(JULIET);
        assert_eq!((message.text("body"), message.text("id")), (body, format!("in{number}").as_str()));
        assert_eq!(message.text("from"), format!("{JULIET}/desk"));
        alice.message(JULIET, &format!("out{number}"), body);
        let message = juliet.message_from(ALICE);
        assert_eq!((message.text("body"), message.text("id")), (body, format!("out{number}").as_str()));
    }
    juliet.state(&format!("{ALICE}/desk"), "composing");
    alice.state_from(JULIET, "composing");
}

/// `one` asks for the presence of `other`, who agrees.
fn befriend(one: &mut Client, one_at: &str, other: &mut Client, other_at: &str) {
    one.presence("subscribe", other_at);
    other.presence_from(one_at, "subscribe");
    other.presence("subscribed", one_at);
    one.presence_from(other_at, "subscribed");
    one.presence_from(other_at, "");
}

/// What each shows, the other sees.
fn presence(juliet: &mut Client, juliet_at: &str, alice: &mut Client, alice_at: &str) {
    let shows = |from: &str, show: &str, status: &str| {
        let (from, show, status) = (format!("{from}/desk"), show.to_owned(), status.to_owned());
        move |e: &Event| {
            e.is("presence") && e.text("from") == from && e.text("show") == show && e.text("status") == status
        }
    };
    juliet.show(Some("dnd"), Some("Grüße <&> 🌍"));
    alice.wait("Juliet busy", shows(juliet_at, "dnd", "Grüße <&> 🌍"));
    alice.show(Some("xa"), Some("gone"));
    juliet.wait("Alice away", shows(alice_at, "xa", "gone"));
    // A server asks again for what it may have missed, when its user comes back.
    juliet.show(None, None);
    alice.wait("Juliet there", shows(juliet_at, "", ""));
}

/// Ping, service discovery and a vCard.
fn questions(asker: &mut Client, domain: &str, user: &str) {
    let ping = asker.ask("ping", domain, "q-ping");
    assert_eq!((ping.text("type"), ping.text("from")), ("result", domain), "{ping}");
    let disco = asker.ask("disco", domain, "q-disco");
    assert!(disco.text("xml").contains("<identity"), "{disco}");
    // Nobody has written one: the user's server says so, or gives an empty one. It is the user's server that says it.
    let vcard = asker.ask("vcard", user, "q-vcard");
    let is_answered = match vcard.text("type") {
        "result" => vcard.text("xml").contains("vcard-temp"),
        _ => matches!(vcard.0["error"]["condition"].as_str(), Some("item-not-found" | "service-unavailable")),
    };
    assert!(is_answered && vcard.text("from") == user, "{vcard}");
    assert!(!vcard.text("xml").contains("fedgate"), "{vcard}");
}

/// A room at the home of `host`, where `guest` comes from the other side.
fn room(host: &mut Client, host_nick: &str, guest: &mut Client, guest_nick: &str, room: &str) {
    host.join(room, host_nick);
    guest.join(room, guest_nick);
    let occupant = |nick: &str| format!("{room}/{nick}");
    let (host_at, guest_at) = (occupant(host_nick), occupant(guest_nick));
    host.wait("the guest", |e| e.is("presence") && e.text("from") == guest_at);
    guest.wait("the host", |e| e.is("presence") && e.text("from") == host_at);
    let says = |from: &str, body: &'static str| {
        let from = from.to_owned();
        move |e: &Event| {
            e.is("message") && e.text("type") == "groupchat" && e.text("from") == from && e.text("body") == body
        }
    };
    host.say(room, "g1", "welcome");
    guest.wait("what the host says", says(&host_at, "welcome"));
    guest.say(room, "g2", "thank you");
    host.wait("what the guest says", says(&guest_at, "thank you"));
    guest.wait("an echo", says(&guest_at, "thank you"));
    guest.presence("unavailable", &guest_at);
    host.wait("the guest leaving", |e| {
        e.is("presence") && e.text("from") == guest_at && e.text("type") == "unavailable"
    });
}

/// How the partner's server and fedgate have proven themselves to each other, as that server tells it.
fn proven(stand: &Stand, how: &str) {
    let server = &stand.partner;
    match (server.place.kind, how) {
        (Prosody, "EXTERNAL") => {
            server.wait_for_log(&["Accepting SASL EXTERNAL identity from corp.example"]);
            server.wait_for_log(&["SASL EXTERNAL with corp.example succeeded"]);
        }
        (Prosody, _) => {
            server.wait_for_log(&["Incoming s2s connection corp.example->partner.example complete"]);
            server.wait_for_log(&["Outgoing s2s connection partner.example->corp.example complete"]);
            assert!(!server.has_logged(&["SASL EXTERNAL", "corp.example"]), "a certificate has been believed");
        }
        (Ejabberd, _) => {
            server.wait_for_log(&["Accepted inbound s2s", how, "corp.example -> partner.example"]);
            server.wait_for_log(&["Accepted outbound s2s", how, "partner.example -> corp.example"]);
        }
    }
}

#[test]
fn prosody_by_dialback() {
    by_dialback("xmpp-dialback-p", Prosody);
}

#[test]
fn ejabberd_by_dialback() {
    by_dialback("xmpp-dialback-e", Ejabberd);
}

/// Neither side believes the other's certificate.
fn by_dialback(test: &str, partner: Kind) {
    let setup = Setup { certificates: false, ..Setup::of(partner, Prosody) };
    let Some(stand) = Stand::raise(test, setup) else { return };
    let mut alice = stand.inside("alice");
    let mut juliet = stand.outside("juliet");
    chat(&mut juliet, &mut alice);
    befriend(&mut juliet, JULIET, &mut alice, ALICE);
    proven(&stand, "dialback");
}

#[test]
fn prosody_begins_with_tls() {
    with_tls_first("xmpp-direct-p", Prosody);
}

#[test]
fn ejabberd_begins_with_tls() {
    with_tls_first("xmpp-direct-e", Ejabberd);
}

/// XEP-0368 both ways: nobody listens where STARTTLS would be, on fedgate's side.
fn with_tls_first(test: &str, partner: Kind) {
    let setup = Setup { direct: true, ..Setup::of(partner, Prosody) };
    let Some(stand) = Stand::raise(test, setup) else { return };
    let mut alice = stand.inside("alice");
    let mut juliet = stand.outside("juliet");
    chat(&mut juliet, &mut alice);
    befriend(&mut juliet, JULIET, &mut alice, ALICE);
    proven(&stand, "EXTERNAL");
    assert!(!stand.partner.has_logged(&["starttls"]), "somebody began without TLS");
}

#[test]
fn prosody_inside_insists_on_certificates() {
    insisted_on("xmpp-insists-p", Prosody);
}

#[test]
fn ejabberd_inside_insists_on_certificates() {
    insisted_on("xmpp-insists-e", Ejabberd);
}

/// `[inside] issuer`: the node gets a certificate for each domain that it talks to, and shows its own.
fn insisted_on(test: &str, inside: Kind) {
    let setup = Setup { insists: true, ..Setup::of(Prosody, inside) };
    let Some(stand) = Stand::raise(test, setup) else { return };
    let mut alice = stand.inside("alice");
    let mut juliet = stand.outside("juliet");
    chat(&mut juliet, &mut alice);
    befriend(&mut alice, ALICE, &mut juliet, JULIET);
    juliet.join("garden@conference.corp.example", "juliet");
    let node = &stand.inside[0];
    match inside {
        Prosody => {
            node.wait_for_log(&["Accepting SASL EXTERNAL identity from partner.example"]);
            node.wait_for_log(&["SASL EXTERNAL with partner.example succeeded"]);
        }
        Ejabberd => {
            node.wait_for_log(&["Accepted inbound s2s EXTERNAL", "partner.example -> corp.example"]);
            node.wait_for_log(&["Accepted outbound s2s EXTERNAL", "corp.example -> partner.example"]);
        }
    }
}

#[test]
fn a_domain_that_nobody_listed_learns_it_on_its_stream() {
    for partner in [Prosody, Ejabberd] {
        let setup = Setup { listed: false, ..Setup::of(partner, Prosody) };
        let Some(mut stand) = Stand::raise("xmpp-unlisted", setup) else { return };
        let mut juliet = stand.outside("juliet");
        juliet.message(ALICE, "m1", "let me in");
        juliet.error_of("m1", Duration::from_secs(60));
        // RFC 6120 §4.9.3.14, with an ID for whoever asks.
        let words = match partner {
            Prosody => ["policy-violation", "unlisted-domain"],
            Ejabberd => ["unlisted-domain", "fedgate"],
        };
        stand.partner.wait_for_log(&words);
        stand.fedgate.assert_recorded(&["unlisted-domain", PARTNER]);
        let refused = stand.fedgate.metric("fedgate_refusals_total", &["reason=\"unlisted-domain\""]);
        assert!(refused.is_some_and(|many| many >= 1.0), "{refused:?}");
        stand.fedgate.signal("TERM");
        stand.fedgate.wait();
    }
}

const RULES: &str = r#"
[[rule]]
name   = "bob-is-busy"
from   = "*@partner.example"
to     = "bob@corp.example"
do     = ["chat", "subscribe"]
answer = "refuse"

[[rule]]
name   = "nothing-for-romeo"
from   = "*@corp.example"
to     = "romeo@partner.example"
do     = ["chat"]
answer = "refuse"
"#;

#[test]
fn a_stanza_that_a_rule_refuses_comes_back_with_an_id() {
    let setup = Setup { policy: RULES, ..Setup::of(Ejabberd, Prosody) };
    let Some(stand) = Stand::raise("xmpp-rule", setup) else { return };
    let mut alice = stand.inside("alice");
    let mut bob = stand.inside("bob");
    let mut juliet = stand.outside("juliet");
    let mut romeo = stand.outside("romeo");
    juliet.message("bob@corp.example", "m1", "refused");
    alice.message("romeo@partner.example", "m2", "refused");
    for (condition, text) in [juliet.error_of("m1", Duration::ZERO), alice.error_of("m2", Duration::ZERO)] {
        assert_eq!(condition, "policy-violation");
        let words: Vec<&str> = text.split(' ').collect();
        assert!(words.len() >= 3 && words[0] == "fedgate" && words[2].starts_with("rule"), "{text}");
        // Whoever gets the ID from a user learns which rule it was.
        let explained = stand.fedgate.verb(&["explain", words[1]]);
        let explained = String::from_utf8_lossy(&explained.stdout).into_owned();
        assert!(explained.contains("bob-is-busy") || explained.contains("nothing-for-romeo"), "{explained}");
        assert!(!text.contains("busy") && !text.contains("romeo"), "{text}");
    }
    juliet.presence("subscribe", "bob@corp.example");
    let refused = juliet.wait("an error", |e| e.is("presence") && e.text("type") == "error");
    assert_eq!(refused.0["error"]["condition"], "policy-violation", "{refused}");
    bob.assert_no_message(JULIET, Duration::from_secs(1));
    bob.assert_no_presence(JULIET, "subscribe", Duration::ZERO);
    romeo.assert_no_message(ALICE, Duration::ZERO);
    // The others are not concerned.
    chat(&mut juliet, &mut alice);
}
