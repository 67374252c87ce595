//! Servers that fail: of two SIP nodes inside one is killed under load and back again, or takes nothing new; the partner's is killed likewise.
//! Sessions stay where they are, and of each message its sender hears how it ended.

use crate::process::PATIENCE;
use crate::relay_stand::RelayStand;
use crate::sip_client::{SipClient, Tally};
use crate::stand::{Net, wait_until};
use std::collections::BTreeMap;
use std::time::Duration;

const ROMEO: &str = "sip:romeo@kamailio.example";

/// How long a node may take to prove itself: two questions, five seconds apart, and then some.
const PROOF: Duration = Duration::from_secs(40);

/// Users of corp.example, more than enough for both nodes to have some.
fn users() -> Vec<String> {
    (1..=8).map(|number| format!("sip:user-{number}@corp.example")).collect()
}

/// Users behind the partner's edge and behind both nodes, and which node takes what is new for each of the latter.
fn settle(stand: &RelayStand) -> (SipClient, SipClient, BTreeMap<String, String>) {
    let (mut inner, mut outer) = (stand.inner_client(), stand.outer_client());
    outer.register(&[ROMEO.to_owned()], stand.net.kamailio(), "");
    for number in [1, 2] {
        inner.register(&users(), stand.net.node(number), &number.to_string());
    }
    wait_until("both nodes are up", PROOF, || stand.is_up(1) && stand.is_up(2));
    let owners = ask_all(&mut inner, &mut outer, "first");
    for number in ["1", "2"] {
        assert!(owners.values().any(|owner| owner == number), "node {number} has nobody: {owners:?}");
    }
    (inner, outer, owners)
}

/// Sends each user a message, which arrives; by which node?
fn ask_all(inner: &mut SipClient, outer: &mut SipClient, name: &str) -> BTreeMap<String, String> {
    let ask = |user: String| {
        let id = format!("{name} {user}");
        outer.message(&id, ROMEO, &user);
        outer.assert_answer(&id, 200);
        let owner = inner.took(&id);
        (user, owner)
    };
    users().into_iter().map(ask).collect()
}

fn of(owners: &BTreeMap<String, String>, node: &str) -> String {
    owners.iter().find(|(_, owner)| *owner == node).map(|(user, _)| user.clone()).expect("settled before")
}

#[test]
fn node_killed_under_load_loses_nothing_in_silence() {
    let Some(mut stand) = RelayStand::raise("relay-killed", 2, 3600) else { return };
    let (mut inner, mut outer, owners) = settle(&stand);
    let user = of(&owners, "1");
    outer.subscribe("watch at the one that dies", ROMEO, &user);
    outer.assert_answer("watch at the one that dies", 200);

    let mut load = SipClient::start("load", stand.net.load(), stand.net.kamailio(), stand.folder());
    let senders: Vec<String> = (1..=3).map(|number| format!("sip:sender-{number}@kamailio.example")).collect();
    load.register(&senders, stand.net.kamailio(), "");
    load.load(&senders, &users(), 40);
    wait_until("the load runs", PATIENCE, || load.sent() >= 60);
    // It dies with requests on its hands.
    stand.nodes[0].freeze();
    let sent = load.sent();
    wait_until("it has been sent some", PATIENCE, || load.sent() >= sent + 40);
    stand.nodes[0].kill();
    wait_until("fedgate knows that the node is gone", PATIENCE, || !stand.is_up(1));
    let known = load.sent();
    assert!(stand.is_up(2));

    // What is new goes to the other; what the dead one had gets an error.
    let meanwhile = ask_all(&mut inner, &mut outer, "meanwhile");
    assert!(meanwhile.values().all(|owner| owner == "2"), "{meanwhile:?}");
    outer.invite("session", ROMEO, &user);
    outer.assert_answer("session", 200);
    assert_eq!(inner.asked("ACK", "of the session", |_| true).text("at"), "2");
    outer.within("refresh", "watch at the one that dies", "SUBSCRIBE", &[["Event", "presence"]], "");
    let refused = outer.answer("refresh");
    assert!(refused.status() >= 480, "{refused}");

    // Back, it proves itself first; then its users are its own again, and the session stays where it is.
    stand.nodes[0].restart();
    inner.register(&users(), stand.net.node(1), "1");
    assert!(!stand.is_up(1), "it has not proven itself yet");
    wait_until("the node has proven itself", PROOF, || stand.is_up(1));
    assert_eq!(ask_all(&mut inner, &mut outer, "again"), owners);
    // It has forgotten its subscriptions, and says so itself.
    outer.within("late refresh", "watch at the one that dies", "SUBSCRIBE", &[["Event", "presence"]], "");
    outer.assert_answer("late refresh", 481);
    outer.within("in the session", "session", "MESSAGE", &[["Content-Type", "text/plain"]], "in the session");
    outer.assert_answer("in the session", 200);
    assert_eq!(inner.took("in the session"), "2");
    outer.within("bye", "session", "BYE", &[], "");
    outer.assert_answer("bye", 200);

    let sent = load.sent();
    wait_until("the load has run for a while with both", PATIENCE, || load.sent() >= sent + 40);
    let tally = load.rest();
    let arrived = inner.texts();
    // What it had on its hands; a SUBSCRIBE goes to the other node.
    assert_all_ended(&tally, &arrived, |place, method| place < known && method == "MESSAGE");
    // Three times all users, one watch with two refreshes that failed, and the session: INVITE, MESSAGE and BYE.
    let asked = 3 * users().len() as u64;
    assert_counted(&stand, "in", &tally, &[("message", asked, 0), ("subscribe", 1, 2), ("chat", 3, 0)]);
    assert!(stand.handed_on() >= tally.sent.len() as u64, "{} handed on", stand.handed_on());
    stand.assert_all_resolved();
    stand.assert_hidden(tally.sent.len());
}

/// Each message got its 2xx and arrived, or its sender got an error, where that `may_fail`, by its place in the load and its method.
fn assert_all_ended(tally: &Tally, arrived: &BTreeMap<String, usize>, may_fail: impl Fn(usize, &str) -> bool) {
    let (mut delivered, mut failed, mut arrived_all_the_same, mut arrived_twice) = (0, 0, 0, 0);
    for (place, (id, method)) in tally.sent.iter().enumerate() {
        let status = tally.ended.get(id).copied().unwrap_or_default();
        assert_ne!(status, 0, "{method} {id} has vanished");
        let times = arrived.get(id).copied().unwrap_or_default();
        match status {
            200..=299 => {
                delivered += 1;
                assert!(method != "MESSAGE" || times > 0, "{id} got {status} and never arrived");
            }
            _ => {
                failed += 1;
                // It was passed on, and the answer died with the node: that is what `uncertain` says.
                arrived_all_the_same += usize::from(times > 0);
                assert!(may_fail(place, method), "{method} {id} got {status}, with somebody there to take it");
                // Not a time-out of the server before fedgate: fedgate has said so.
                assert_ne!(status, 408, "{method} {id}");
            }
        }
        arrived_twice += usize::from(times > 1);
    }
    assert!(delivered >= 80, "{delivered} delivered, {failed} failed");
    assert!(failed >= 3, "{delivered} delivered, {failed} failed");
    println!(
        "of {} requests {delivered} were delivered and {failed} got an error, of which {arrived_all_the_same} had arrived; {arrived_twice} \
         arrived twice",
        tally.sent.len()
    );
}

/// fedgate has counted what was sent in this direction: by kind the load, and so many that were delivered and failed besides.
fn assert_counted(stand: &RelayStand, direction: &str, tally: &Tally, besides: &[(&str, u64, u64)]) {
    let count = |kind: &str, is_delivered: bool| {
        let of_kind = tally.sent.iter().filter(|(_, method)| method.eq_ignore_ascii_case(kind));
        let ended = of_kind.filter_map(|(id, _)| tally.ended.get(id));
        ended.filter(|status| (200..300).contains(*status) == is_delivered).count() as u64
    };
    let direction = format!("direction=\"{direction}\"");
    for (kind, delivered, failed) in besides {
        let label = format!("kind=\"{kind}\"");
        let of = |outcome: &str| stand.messages(&[&direction, &label, &format!("outcome=\"{outcome}\"")]);
        assert_eq!(of("delivered"), count(kind, true) + delivered, "{direction} {kind}");
        assert_eq!(of("failed") + of("uncertain") + of("refused"), count(kind, false) + failed, "{direction} {kind}");
    }
}

#[test]
fn dialogs_stay_with_a_node_that_takes_nothing_new() {
    let Some(stand) = RelayStand::raise("relay-dialogs", 2, 3600) else { return };
    let (mut inner, mut outer, owners) = settle(&stand);
    let user = of(&owners, "1");
    outer.subscribe("watch", ROMEO, &user);
    outer.assert_answer("watch", 200);
    outer.asked("NOTIFY", "of the watch", |e| e.text("state").starts_with("active"));
    outer.invite("session", ROMEO, &user);
    outer.assert_answer("session", 200);
    assert_eq!(inner.asked("ACK", "of the session", |_| true).text("at"), "1");

    // It says 503 to what is new, and to fedgate's own question.
    stand.nodes[0].rest(true);
    let meanwhile = ask_all(&mut inner, &mut outer, "meanwhile");
    assert!(meanwhile.values().all(|owner| owner == "2"), "{meanwhile:?}");
    wait_until("fedgate knows that it takes nothing new", PROOF, || !stand.is_up(1));
    outer.subscribe("another watch", ROMEO, &user);
    outer.assert_answer("another watch", 200);
    let watch = format!("SUBSCRIBE {user}");
    assert_eq!((stand.nodes[0].received(&[&watch]), stand.nodes[1].received(&[&watch])), (1, 1));
    outer.asked("NOTIFY", "of the other watch", |e| e.text("state").starts_with("active"));

    // What it has goes on there.
    let refresh = [["Event", "presence"], ["Expires", "600"]];
    outer.within("refresh", "watch", "SUBSCRIBE", &refresh, "");
    outer.assert_answer("refresh", 200);
    outer.asked("NOTIFY", "of the refresh", |e| e.text("dialog") == "watch" && e.text("state").starts_with("active"));
    outer.within("line", "session", "MESSAGE", &[["Content-Type", "text/plain"]], "line");
    outer.assert_answer("line", 200);
    assert_eq!(inner.took("line"), "1");
    outer.within("typing", "session", "INFO", &[], "");
    outer.assert_answer("typing", 200);
    assert_eq!(inner.asked("INFO", "of the session", |_| true).text("at"), "1");
    outer.within("bye", "session", "BYE", &[], "");
    outer.assert_answer("bye", 200);
    inner.asked("BYE", "of the session", |e| e.text("at") == "1");
    outer.within("end", "watch", "SUBSCRIBE", &[["Event", "presence"], ["Expires", "0"]], "");
    outer.assert_answer("end", 200);
    outer.asked("NOTIFY", "at the end", |e| e.text("dialog") == "watch" && e.text("state").starts_with("terminated"));
    let within = format!("SUBSCRIBE sip:{}:5070", stand.net.node(1));
    assert_eq!((stand.nodes[0].received(&[&within]), stand.nodes[1].received(&[&within])), (2, 0));
    // It was down all the while.
    assert!(!stand.is_up(1));

    stand.nodes[0].rest(false);
    wait_until("the node has proven itself", PROOF, || stand.is_up(1));
    assert_eq!(ask_all(&mut inner, &mut outer, "again"), owners);
    stand.assert_all_resolved();
    stand.assert_hidden(20);
}

#[test]
fn partner_killed_under_load_loses_nothing_in_silence() {
    let Some(mut stand) = RelayStand::raise("relay-partner-killed", 1, 3600) else { return };
    let (mut inner, mut outer) = (stand.inner_client(), stand.outer_client());
    let readers: Vec<String> = (1..=4).map(|number| format!("sip:reader-{number}@kamailio.example")).collect();
    outer.register(&readers, stand.net.kamailio(), "");
    inner.register(&users(), stand.net.node(1), "1");
    inner.load(&users(), &readers, 40);
    wait_until("the load runs", PATIENCE, || inner.sent() >= 60);
    let before = inner.sent();
    stand.kamailio.freeze();
    let frozen = inner.sent();
    wait_until("it has been sent some", PATIENCE, || inner.sent() >= frozen + 20);
    stand.kamailio.kill();
    let killed = inner.sent();
    wait_until("some find nobody there", PATIENCE, || inner.sent() >= killed + 40);
    stand.kamailio.restart();
    outer.register(&readers, stand.net.kamailio(), "");
    let mut tries = 0;
    wait_until("fedgate reaches it again", PROOF, || {
        tries += 1;
        let id = format!("probe-{tries}");
        inner.message(&id, "sip:probe@corp.example", &readers[0]);
        inner.answer(&id).status() == 200
    });
    let back = inner.sent();
    wait_until("the load goes on", PATIENCE, || inner.sent() >= back + 40);
    let tally = inner.rest();
    // Those under way when it froze, half a second of them at most, until it is back.
    assert_all_ended(&tally, &outer.texts(), |place, _| (before.saturating_sub(20)..back).contains(&place));
    assert_counted(&stand, "out", &tally, &[("message", 1, tries - 1), ("subscribe", 0, 0)]);
    stand.assert_all_resolved();
}

#[test]
fn port_of_its_own_leads_to_its_node() {
    let Some(stand) = RelayStand::raise("relay-port", 2, 3600) else { return };
    let (mut inner, mut outer, owners) = settle(&stand);
    let user = of(&owners, "1");
    let through_port = format!("{user}:{}", Net::PUBLIC_PORT);
    outer.message("through its port", ROMEO, &through_port);
    outer.assert_answer("through its port", 200);
    assert_eq!(inner.took("through its port"), "2");
    outer.invite("session", ROMEO, &through_port);
    outer.assert_answer("session", 200);
    assert_eq!(inner.asked("ACK", "of the session", |_| true).text("at"), "2");
    // What is new goes to the user's node, what is in the session to the session's.
    outer.message("through all nodes' port", ROMEO, &user);
    outer.assert_answer("through all nodes' port", 200);
    assert_eq!(inner.took("through all nodes' port"), "1");
    outer.within("bye", "session", "BYE", &[], "");
    outer.assert_answer("bye", 200);
    assert_eq!(inner.asked("BYE", "of the session", |_| true).text("at"), "2");
    stand.kamailio.assert_received(&["over tls", &format!("@sip.corp.example:{}", Net::PUBLIC_PORT)]);
    stand.assert_all_resolved();
    stand.assert_hidden(10);
}
