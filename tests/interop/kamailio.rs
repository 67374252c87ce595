//! A generic SIP partner of other people's making: Kamailio as edge and presence server (RFC 3856, RFC 3903), baresip behind it.

use crate::peers;
use crate::pki::Certificate;
use crate::process::PATIENCE;
use crate::server::Kamailio;
use crate::stand::{Setup, Stand, wait_until};
use std::time::Duration;

const ALICE: &str = "sip:alice@corp.example";
const JULIET_JID: &str = "juliet@kamailio.example";

const POLICY: &str = r#"
[[partner]]
domain   = "kamailio.example"
protocol = "sip"
profile  = "generic"
identity = "domain"
chat     = "page"
"#;

/// As in messages.rs, within what baresip takes on its control socket.
const BODY: &str = "Grüße <&>\" '私は行く' 🌍👩\u{200d}🚀 e\u{301}  two  spaces\ttab\n]]> &amp; <![CDATA[ %41 end ";

fn raise(test: &str) -> Option<Stand> {
    peers::find_kamailio(test)?;
    Stand::raise(test, Setup { policy: POLICY, ..Setup::default() })
}

fn raise_kamailio(stand: &Stand) -> Kamailio {
    stand.raise_kamailio(&certificate(stand), 3600)
}

/// It names the domain, not the host (RFC 5922 §4, §7.1).
fn certificate(stand: &Stand) -> Certificate {
    stand.pki.leaf("kamailio", &["kamailio.example"], &stand.pki.authority)
}

#[test]
fn watcher_behind_kamailio_sees_a_user_from_pending_to_the_end() {
    let Some(stand) = raise("kamailio-watcher") else { return };
    let kamailio = raise_kamailio(&stand);
    let mut alice = stand.login("alice");
    alice.show(None, None);

    // It sends no Accept: application/pidf+xml is what it gets (RFC 3856 §6.7).
    let mut phone = stand.phone("juliet", ALICE, true);
    let ok = phone.response("SUBSCRIBE");
    assert_eq!(ok.status(), 200, "{ok}");
    assert!(ok.header("expires").parse().is_ok_and(|granted: u32| (1..=600).contains(&granted)), "{ok}");
    let pending = phone.notified("pending", "");
    assert!(pending.body().is_empty(), "{pending}");
    phone.shows("Unknown");
    alice.presence_from(JULIET_JID, "subscribe");
    phone.assert_no_request("NOTIFY", Duration::from_secs(2), |e| e.header("subscription-state").starts_with("active"));

    alice.presence("subscribed", JULIET_JID);
    phone.notified("active", "<basic>open</basic>");
    phone.shows("Online");
    alice.show(Some("dnd"), Some("Grüße <&> 🌍"));
    let busy = phone.notified("active", "busy");
    assert!(String::from_utf8_lossy(&busy.body()).contains("Grüße &lt;&amp;&gt; 🌍"), "{busy}");
    // What the other side's program makes of it, and not we.
    phone.shows("Busy");
    alice.show(None, None);
    phone.notified("active", "<basic>open</basic>");
    phone.shows("Online");
    alice.logout();
    phone.notified("active", "<basic>closed</basic>");
    phone.shows("Offline");

    // It unsubscribes through the route it has recorded.
    phone.quit();
    kamailio.assert_received(&["SUBSCRIBE sip:sip.corp.example", "Expires: 0", "over udp"]);
    kamailio.assert_received(&["NOTIFY sip:juliet", "Subscription-State: terminated", "over tls"]);
    assert_no_subscription(&stand);
}

fn assert_no_subscription(stand: &Stand) {
    let subscriptions = || stand.fedgate.metric("fedgate_subscriptions", &["partner=\"kamailio.example\""]);
    wait_until("no subscription is left", Duration::from_secs(5), || subscriptions().unwrap_or_default() == 0.0);
}

#[test]
fn messages_pass_kamailio_whole_both_ways() {
    let Some(stand) = raise("kamailio-messages") else { return };
    let kamailio = raise_kamailio(&stand);
    let mut alice = stand.login("alice");
    alice.show(None, None);
    let mut phone = stand.phone("juliet", ALICE, false);

    phone.message(BODY);
    let ok = phone.response("MESSAGE");
    assert_eq!(ok.status(), 200, "{ok}");
    assert_eq!(alice.message_from(JULIET_JID).text("body"), BODY);

    alice.message(JULIET_JID, "m1", BODY);
    let message = phone.request("MESSAGE", "of Alice", |_| true);
    assert_eq!(message.body(), BODY.as_bytes(), "{message}");
    assert!(message.header("content-type").starts_with("text/plain"), "{message}");
    assert!(message.header("from").contains(ALICE), "{message}");
    alice.assert_no_error("m1", Duration::from_secs(1));

    // Who isn't there: the server's answer is the user's error (RFC 7247 §7.2).
    alice.message("romeo@kamailio.example", "m2", "hello?");
    assert_eq!(alice.error_of("m2", Duration::ZERO).0, "item-not-found");
    kamailio.assert_received(&["MESSAGE sip:romeo@kamailio.example", "over tls"]);
}

#[test]
fn user_watches_a_presentity_of_kamailio() {
    let Some(stand) = raise("kamailio-contact") else { return };
    let mut kamailio = raise_kamailio(&stand);
    let mut alice = stand.login("alice");
    alice.show(None, None);

    // Juliet's rules say nothing of her yet: pending, of which Alice hears nothing (RFC 8048 §5.2.1).
    alice.presence("subscribe", JULIET_JID);
    kamailio.assert_received(&["SUBSCRIBE sip:juliet@kamailio.example", "Accept: application/pidf+xml", "over tls"]);
    alice.assert_no_presence(JULIET_JID, "subscribed", Duration::from_secs(2));
    // Active with no document, for nothing is published: an authorisation all the same.
    kamailio.rule("juliet", ALICE, "allow");
    alice.presence_from(JULIET_JID, "subscribed");
    alice.presence_from(JULIET_JID, "unavailable");

    let mut phone = stand.phone("juliet", ALICE, false);
    let online = alice.presence_from(JULIET_JID, "");
    assert_eq!((online.text("show"), online.text("status")), ("", ""), "{online}");
    // A second publication, with prefixes of its own: Kamailio makes one document of both.
    let mut desk = stand.desk("juliet");
    desk.publish("away", "Grüße &lt;&amp;&gt; 🌍👩\u{200d}🚀");
    let away = alice.presence_from(JULIET_JID, "");
    assert_eq!((away.text("show"), away.text("status")), ("away", "Grüße <&> 🌍👩\u{200d}🚀"), "{away}");
    desk.publish("busy", "in a call");
    let busy = alice.presence_from(JULIET_JID, "");
    // The presence tables: XMPP has no busy.
    assert_eq!((busy.text("show"), busy.text("status")), ("away", "Busy: in a call"), "{busy}");
    desk.withdraw();
    let online = alice.presence_from(JULIET_JID, "");
    assert_eq!((online.text("show"), online.text("status")), ("", ""), "{online}");

    phone.go_offline();
    alice.presence_from(JULIET_JID, "unavailable");
    phone.go_online();
    alice.presence_from(JULIET_JID, "");
    // It takes its publication back.
    phone.quit();
    alice.presence_from(JULIET_JID, "unavailable");

    alice.presence("unsubscribe", JULIET_JID);
    // In the dialog that Kamailio's presence server made. Her server keeps our `unsubscribed` to itself: it knows already.
    kamailio.assert_received(&["SUBSCRIBE sip:sip.kamailio.example:5061", "Expires: 0", "over tls"]);
    assert_no_subscription(&stand);
}

#[test]
fn presentity_of_kamailio_blocks_a_user() {
    let Some(stand) = raise("kamailio-block") else { return };
    let mut kamailio = raise_kamailio(&stand);
    let mut alice = stand.login("alice");
    alice.show(None, None);
    let _phone = stand.phone("juliet", ALICE, false);
    kamailio.rule("juliet", ALICE, "allow");
    alice.presence("subscribe", JULIET_JID);
    alice.presence_from(JULIET_JID, "subscribed");
    alice.presence_from(JULIET_JID, "");
    kamailio.rule("juliet", ALICE, "polite-block");
    alice.presence_from(JULIET_JID, "unavailable");
    kamailio.rule("juliet", ALICE, "allow");
    alice.presence_from(JULIET_JID, "");
    // terminated;reason=rejected
    kamailio.rule("juliet", ALICE, "block");
    alice.presence_from(JULIET_JID, "unsubscribed");
    assert_no_subscription(&stand);
}

#[test]
fn subscriptions_through_kamailio_are_refreshed_and_outlive_it() {
    let Some(stand) = raise("kamailio-refresh") else { return };
    // fedgate refreshes after ten seconds at the earliest.
    let mut kamailio = stand.raise_kamailio(&certificate(&stand), 12);
    let mut alice = stand.login("alice");
    alice.show(None, None);
    let mut phone = stand.phone("juliet", ALICE, true);
    assert_eq!(phone.response("SUBSCRIBE").header("expires"), "12");
    alice.presence_from(JULIET_JID, "subscribe");
    alice.presence("subscribed", JULIET_JID);
    phone.shows("Online");
    kamailio.rule("juliet", ALICE, "allow");
    alice.presence("subscribe", JULIET_JID);
    alice.presence_from(JULIET_JID, "subscribed");
    alice.presence_from(JULIET_JID, "");

    // Both refresh in their dialogs: nothing is begun anew, nothing ends.
    wait_until("fedgate refreshes in its dialog, and baresip in its own", PATIENCE, || {
        kamailio.received(&["SUBSCRIBE sip:sip.kamailio.example:5061", "over tls"]) >= 1
            && kamailio.received(&["SUBSCRIBE sip:sip.corp.example:5061", "over udp"]) >= 1
    });
    assert_eq!(kamailio.received(&["SUBSCRIBE sip:juliet@kamailio.example", "over tls"]), 1);
    assert_eq!(kamailio.received(&["SUBSCRIBE sip:alice@corp.example", "over udp"]), 1);
    assert_eq!(kamailio.received(&["NOTIFY sip:juliet", "terminated"]), 0);
    alice.show(Some("dnd"), None);
    phone.shows("Busy");
    phone.go_offline();
    alice.presence_from(JULIET_JID, "unavailable");

    // It has forgotten our subscription, and says so to the next refresh: another one takes its place (RFC 6665 §4.1.2.2).
    kamailio.restart();
    wait_until("fedgate subscribes anew", PATIENCE, || {
        kamailio.received(&["SUBSCRIBE sip:juliet@kamailio.example", "over tls"]) >= 2
    });
    // 412, for its publication is forgotten; it publishes anew (RFC 3903 §4.1).
    phone.go_online();
    alice.presence_from(JULIET_JID, "");
    // The client's dialog is with us, not with it.
    alice.show(None, None);
    phone.shows("Online");
}

#[test]
fn user_who_does_not_exist_is_an_error_behind_kamailio() {
    let Some(stand) = raise("kamailio-unknown") else { return };
    let _kamailio = raise_kamailio(&stand);
    let mut phone = stand.phone("juliet", "sip:nobody@corp.example", true);
    phone.message("is anybody there?");
    let unknown = phone.response("MESSAGE");
    // Prosody says service-unavailable, as for everyone who is nobody to the sender: RFC 7247 §7.1.
    assert_eq!(unknown.status(), 403, "{unknown}");
    // To a question for presence it says no more than that: nothing is ever shown.
    assert_eq!(phone.response("SUBSCRIBE").status(), 200);
    phone.notified("pending", "");
    phone.assert_no_request("NOTIFY", Duration::from_secs(2), |e| !e.body().is_empty());
    phone.shows("Unknown");
}

#[test]
fn kamailio_with_a_wrong_certificate_is_refused() {
    let Some(stand) = raise("kamailio-certificate") else { return };
    let mut alice = stand.login("alice");
    alice.show(None, None);
    // The right name by the wrong authority; a listed but other name; the host's name, which RFC 5922 §7.2 does not take for the domain.
    let wrong = [
        ("forged", stand.pki.leaf("forged", &["kamailio.example"], &stand.pki.stranger), "not trusted here"),
        ("other", stand.pki.leaf("other", &["other.example"], &stand.pki.authority), "carries other.example"),
        (
            "host",
            stand.pki.leaf("host", &["sip.kamailio.example"], &stand.pki.authority),
            "carries sip.kamailio.example",
        ),
    ];
    for (name, certificate, why) in wrong {
        let kamailio = stand.raise_kamailio(&certificate, 3600);
        let mut phone = stand.phone("juliet", ALICE, false);
        phone.message(name);
        let refused = phone.response("MESSAGE");
        if name == "forged" {
            // Kamailio's own words: no connection stood.
            assert_eq!(refused.status(), 408, "{refused}");
        } else {
            assert_eq!(refused.status(), 403, "{refused}");
            assert!(refused.header("warning").contains(" unproven "), "{refused}");
        }
        // fedgate looks at the certificate again when the back-off of the last failure is over.
        let mut tries = 0;
        wait_until(&format!("the audit says of her message that the certificate {why}"), PATIENCE, || {
            tries += 1;
            let id = format!("{name}-{tries}");
            alice.message(JULIET_JID, &id, name);
            let (condition, text) = alice.error_of(&id, Duration::ZERO);
            assert!(text.contains("fedgate "), "{condition} {text}");
            let audit = stand.fedgate.audit();
            audit.lines().any(|line| line.contains("\"from\":\"alice@") && line.contains(why))
        });
        phone.assert_no_request("MESSAGE", Duration::ZERO, |_| true);
        assert!(!kamailio.log().contains("MESSAGE sip:juliet@"), "{name}: it was told");
    }
    alice.assert_no_message(JULIET_JID, Duration::from_secs(1));
    // What is refused is the certificate, not the partner.
    let _kamailio = raise_kamailio(&stand);
    let mut phone = stand.phone("juliet", ALICE, false);
    phone.message("good day");
    assert_eq!(phone.response("MESSAGE").status(), 200);
    assert_eq!(alice.message_from(JULIET_JID).text("body"), "good day");
}
