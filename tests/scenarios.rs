//! Plays every `scenarios/*.scn` against the gate in virtual time, and what a scenario cannot say.

mod support;

#[test]
fn every_scenario_holds() {
    every(support::script::play);
}

/// What goes on between partners and users does not depend on how the node is attached.
#[test]
fn every_scenario_holds_over_component_streams() {
    let config = support::world::with_component(support::world::CONFIG);
    every(|name, text| support::script::play_in(&config, name, text));
}

fn every(play: impl Fn(&str, &str) + std::panic::RefUnwindSafe) {
    let folder = format!("{}/tests/scenarios", env!("CARGO_MANIFEST_DIR"));
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .expect("the folder of scenarios")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "scn"))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "no scenarios in {folder}");
    let wanted = std::env::var("SCENARIO").ok();
    let mut failed = Vec::new();
    for path in files {
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        if wanted.as_ref().is_some_and(|wanted| !name.contains(wanted.as_str())) {
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("a readable scenario");
        if std::panic::catch_unwind(|| play(&name, &text)).is_err() {
            failed.push(name);
        }
    }
    assert!(failed.is_empty(), "these scenarios do not hold: {failed:?}");
}

/// A reload that puts another node in the place of the first: who watches is asked about there, not at a node that is gone.
#[test]
fn watches_move_with_their_users_to_another_node() {
    use std::time::Duration;
    use support::world::{CONFIG, POLICY, Seen, World};
    let mut world = World::new();
    let subscribe = "SUBSCRIBE sip:juliet@corp.example SIP/2.0\r\nVia: SIP/2.0/TLS sip.lync.example:5061;branch=z9hG4bK1\r\n\
        Max-Forwards: 70\r\nFrom: <sip:romeo@lync.example>;tag=r1\r\nTo: <sip:juliet@corp.example>\r\nCall-ID: c1\r\n\
        CSeq: 1 SUBSCRIBE\r\nContact: <sip:romeo@sip.lync.example:5061>\r\nEvent: presence\r\nContent-Length: 0\r\n\r\n";
    world.sip("lync.example", subscribe.as_bytes());
    world.advance(Duration::from_secs(1));
    assert_eq!(world.inbox.remove("imp-1").map(|inbox| inbox.len()), Some(1), "asked");
    world.config = CONFIG.replace("imp-1", "imp-9").replace("127.0.0.1:5269", "127.0.0.9:5269");
    world.reload(POLICY);
    world.advance(Duration::from_secs(1));
    let mut received = world.inbox.remove("imp-9").unwrap_or_default();
    let (Some(Seen::Xml(asked)), None) = (received.pop_front(), received.pop_front()) else { panic!("not one stanza") };
    assert_eq!((asked.get_attr("type"), asked.get_attr("to")), (Some("subscribe"), Some("juliet@corp.example")));
    assert!(!world.inbox.contains_key("imp-1"));
}

/// An error whose sender's server stays away is tried for a while, then counted: an operator must see it.
#[test]
fn an_error_that_reaches_nobody_is_counted() {
    use fedgate::gate::Event;
    use fedgate::wire::xmpp::{Element, NS_SERVER};
    use std::time::Duration;
    use support::world::World;
    let mut world = World::new();
    world.unreachable.extend(["lync.example".to_owned(), "imp-1".to_owned()]);
    let message = Element::new("message", NS_SERVER)
        .attr("from", "juliet@corp.example/balcony")
        .attr("to", "romeo@lync.example")
        .attr("id", "lost")
        .child(Element::new("body", NS_SERVER).text("hello"));
    world.stanza("imp-1", &message);
    world.advance(Duration::from_secs(60));
    assert_eq!((world.gate.snapshot().unresolved, world.records.len()), (0, 1), "it is still tried");
    world.advance(Duration::from_secs(1800));
    assert_eq!((world.gate.snapshot().unresolved, world.records.len()), (1, 0));
    assert!(world.events.iter().any(|event| matches!(event, Event::Noticed { what } if what.contains("handed"))));
}

/// What is owed in memory alone and can't be said before the edge stops is no silence: it is counted, and the operator hears.
#[test]
fn an_error_owed_between_xmpp_servers_when_the_edge_stops_is_counted() {
    use fedgate::gate::{Event, Input};
    use std::time::Duration;
    use support::world::{CONFIG, World};
    let mut world = World::with(CONFIG, "[[partner]]\ndomain = \"jabber.example\"\nprotocol = \"xmpp\"\n");
    world.unreachable.extend(["jabber.example".to_owned(), "imp-1".to_owned()]);
    world.stanza_text(
        "imp-1",
        "<message from='juliet@corp.example/b' to='romeo@jabber.example' id='lost'><body>x</body></message>",
    );
    assert_eq!(world.gate.snapshot().unresolved, 0, "it is still tried");
    world.input(Input::Drain { last: true });
    world.advance(Duration::from_secs(10));
    assert_eq!(world.gate.snapshot().unresolved, 1);
    assert!(world.events.iter().any(|event| matches!(event, Event::Noticed { what } if what.contains("still owed"))));
}

/// A side that takes requests and answers nothing, or does not even take the connection, fills what is kept for it, and then its own requests
/// are refused: who asks for somebody else notices nothing.
#[test]
fn who_answers_nothing_fills_its_own_queue_only() {
    use fedgate::gate::limits;
    use fedgate::wire::sip::Start;
    use std::time::Duration;
    use support::world::{CONFIG, Seen, World, with_sip_nodes};
    let partner = |domain: &str| {
        format!(
            "[[partner]]\ndomain = \"{domain}\"\nprotocol = \"sip\"\nprofile = \"lync\"\nlimits = {{ messages_per_second = 1000000 }}\n"
        )
    };
    let users = |config: String, node: &str, user: &str| {
        let name = format!("name = \"{node}\"");
        config.replace(&name, &format!("{name}\nusers = [\"{user}\"]"))
    };
    let config = users(users(with_sip_nodes(CONFIG), "imp-1", "juliet"), "imp-2", "nurse");
    let policy = partner("lync.example") + &partner("ocs.example");
    let message = |from: &str, to: &str, number: usize| {
        let domain = from.split_once('@').map_or(from, |(_, domain)| domain);
        format!(
            "MESSAGE sip:{to} SIP/2.0\r\nVia: SIP/2.0/TLS {domain}:5061;branch=z9hG4bK{number}\r\nMax-Forwards: 70\r\n\
             From: <sip:{from}>;tag=1\r\nTo: <sip:{to}>\r\nCall-ID: c{number}\r\nCSeq: 1 MESSAGE\r\nContent-Length: 0\r\n\r\n"
        )
    };
    let statuses = |world: &mut World, party: &str| -> Vec<u16> {
        let seen = world.inbox.remove(party).unwrap_or_default().into_iter();
        let status = |seen| match seen {
            Seen::Sip(message) => match message.start() {
                Start::Response { status, .. } => Some(status),
                Start::Request { .. } => None,
            },
            Seen::Xml(_) => None,
        };
        seen.filter_map(status).collect()
    };
    // (who asks, for whom, by which party's link; who is silent; and for whom else, served by whom).
    let inward = ("romeo@lync.example", "juliet@corp.example", "lync.example", "imp-1", "nurse@corp.example", "imp-2");
    let outward =
        ("nurse@corp.example", "romeo@lync.example", "imp-2", "lync.example", "paris@ocs.example", "ocs.example");
    for (from, to, party, silent, other, serving) in [inward, outward] {
        // A partner may have less under way than a node may.
        let is_inward = party == "lync.example";
        let most = if is_inward { limits::RELAYED_PER_PARTNER } else { limits::RELAYED_PER_HOP };
        for (is_slow, most) in [(true, limits::HOP_QUEUE), (false, most)] {
            let mut world = World::with(&config, &policy);
            world.advance(Duration::ZERO);
            if is_slow {
                world.cut(silent);
                world.slow.insert(silent.to_owned());
                // The question whether the node is well may wait there too.
                world.mute.insert(silent.to_owned());
            }
            for number in 0..most - 1 {
                world.sip(party, message(from, to, number).as_bytes());
            }
            assert!(statuses(&mut world, party).is_empty(), "{silent}, slow: {is_slow}");
            for number in most..most + 3 {
                world.sip(party, message(from, to, number).as_bytes());
            }
            let refused = statuses(&mut world, party);
            assert!(
                refused.len() >= 2 && refused.iter().all(|status| *status == 503),
                "{silent}, {is_slow}: {refused:?}"
            );
            assert_eq!(world.refusals().last(), Some(&fedgate::gate::reject::Reason::Overloaded));
            if is_inward && !is_slow {
                // Whoever has no room for more may still end what it has begun: an ACK takes none.
                world.inbox.remove(silent);
                world.sip(
                    party,
                    message(from, to, most + 7)
                        .replace("MESSAGE", "ACK")
                        .replace(&format!("To: <sip:{to}>"), &format!("To: <sip:{to}>;tag=2"))
                        .as_bytes(),
                );
                world.advance(Duration::ZERO);
                assert_eq!(world.inbox.remove(silent).map(|inbox| inbox.len()), Some(1), "an ACK");
            }
            // Nobody else's trouble: neither another partner's nor another node's.
            if is_inward && !is_slow {
                world.inbox.remove(silent);
                world.sip("ocs.example", message("paris@ocs.example", to, most + 8).as_bytes());
                world.advance(Duration::ZERO);
                assert_eq!(world.inbox.remove(silent).map(|inbox| inbox.len()), Some(1), "for another partner");
            }
            world.inbox.remove(serving);
            let (asks, by) = if is_inward { ("paris@ocs.example", "ocs.example") } else { (from, party) };
            world.sip(by, message(asks, other, most + 9).as_bytes());
            world.advance(Duration::ZERO);
            assert_eq!(world.inbox.remove(serving).map(|inbox| inbox.len()), Some(1), "{other}, slow: {is_slow}");
            // All are answered in time, and then there is room again.
            world.advance(Duration::from_secs(28));
            let settled = statuses(&mut world, party).into_iter().filter(|status| *status == 504).count();
            assert!(settled >= most - 1, "{silent}, slow: {is_slow}: {settled}");
            if is_slow {
                world.mute.clear();
                world.reachable(silent);
                assert!(world.inbox.remove(silent).is_none(), "what its sender was told to have failed arrives");
                // A node that could not be asked proves itself first.
                world.advance(Duration::from_secs(12));
            }
            world.inbox.clear();
            world.sip(party, message(from, to, most + 10).as_bytes());
            world.advance(Duration::ZERO);
            assert_eq!(world.inbox.remove(silent).map(|inbox| inbox.len()), Some(1), "{silent}, slow: {is_slow}");
        }
    }
}

/// A partner's server that takes no connection, or takes everything and answers nothing, fills its own queue: its senders hear so, and nobody else's
/// stanzas wait.
#[test]
fn an_xmpp_partner_that_answers_nothing_fills_its_own_queue_only() {
    use fedgate::gate::limits;
    use fedgate::wire::xmpp::{Element, NS_SERVER};
    use std::time::Duration;
    use support::world::{CONFIG, Seen, World};
    let partner = |domain: &str| {
        let limits = "limits = { messages_per_second = 1000000 }";
        format!("[[partner]]\ndomain = \"{domain}\"\nprotocol = \"xmpp\"\n{limits}\n")
    };
    let message = |from: &str, to: &str, number: usize, body: &str| {
        Element::new("message", NS_SERVER)
            .attr("from", from)
            .attr("to", to)
            .attr("id", &number.to_string())
            .child(Element::new("body", NS_SERVER).text(body))
    };
    let errors = |world: &mut World, party: &str| -> Vec<String> {
        let error = |seen| match seen {
            Seen::Xml(element) if element.get_attr("type") == Some("error") => Some(element.print(NS_SERVER)),
            _ => None,
        };
        world.inbox.remove(party).unwrap_or_default().into_iter().filter_map(error).collect()
    };
    let policy = partner("jabber.example") + &partner("other.example");
    let outward = ("juliet@corp.example/b", "romeo@jabber.example", "imp-1", "jabber.example");
    let inward = ("romeo@jabber.example/o", "juliet@corp.example", "jabber.example", "imp-1");
    let large = "x".repeat(60_000);
    for (from, to, party, silent) in [outward, inward] {
        let cases = [
            (true, "x", limits::HOP_QUEUE),
            (true, &large, limits::HOP_QUEUE_BYTES / 60_200),
            (false, "x", limits::AWAITING_PER_PAIR),
        ];
        for (is_slow, body, most) in cases {
            let mut world = World::with(CONFIG, &policy);
            if is_slow {
                world.slow.insert(silent.to_owned());
            }
            for number in 0..most - 2 {
                world.stanza(party, &message(from, to, number, body));
            }
            assert!(errors(&mut world, party).is_empty(), "{party}, slow: {is_slow}, {most}");
            for number in most..most + 12 {
                world.stanza(party, &message(from, to, number, body));
            }
            let refused = errors(&mut world, party);
            let are_told = refused.iter().all(|error| error.contains(" overloaded "));
            assert!((5..=12).contains(&refused.len()) && are_told, "{party}, slow: {is_slow}, {most}: {refused:#?}");
            // Nobody else's trouble.
            world.inbox.clear();
            let (from, to, party, silent) = match silent {
                "imp-1" => ("paris@other.example/o", "juliet@corp.example", "other.example", "imp-1"),
                _ => ("juliet@corp.example/b", "paris@other.example", "imp-1", "other.example"),
            };
            if silent == "imp-1" {
                world.reachable("imp-1");
                world.inbox.clear();
            }
            world.stanza(party, &message(from, to, most + 20, "x"));
            world.advance(Duration::ZERO);
            let reached = world.inbox.remove(silent).unwrap_or_default();
            assert!(
                reached.iter().any(|seen| matches!(seen, Seen::Xml(element) if element.get_attr("from") == Some(from))),
                "{silent}: {reached:?}"
            );
        }
    }
}

/// A partner's stream to a domain of ours ends when that is ours no more.
#[test]
fn a_partner_s_stream_ends_with_our_domain() {
    use fedgate::wire::xmpp::{Element, NS_SERVER};
    use support::world::{CONFIG, World};
    let policy = "[[partner]]\ndomain = \"jabber.example\"\nprotocol = \"xmpp\"\n";
    let presence = Element::new("presence", NS_SERVER)
        .attr("from", "romeo@jabber.example/o")
        .attr("to", "juliet@corp.example")
        .attr("type", "probe");
    let mut world = World::with(CONFIG, policy);
    world.stanza("jabber.example", &presence);
    world.config = CONFIG.replace("\"corp.example\"", "\"corp2.example\"");
    world.reload(policy);
    let errors = world.stream_errors.remove("jabber.example").unwrap_or_default();
    assert_eq!(errors, ["host-gone"]);
}

/// `limits.links`: streams beyond are ended, and say why.
#[test]
fn a_partner_s_streams_are_counted() {
    use fedgate::gate::{Protocol, Side};
    use fedgate::wire::xmpp::{Element, NS_SERVER};
    use support::world::{CONFIG, World};
    let policy = "[[partner]]\ndomain = \"*.jabber.example\"\nprotocol = \"xmpp\"\nlimits = { links = 2 }\n";
    let mut world = World::with(CONFIG, policy);
    for name in ["a", "b", "c"] {
        let presence = Element::new("presence", NS_SERVER)
            .attr("from", &format!("romeo@{name}.jabber.example/o"))
            .attr("to", "juliet@corp.example");
        world.stanza(&format!("{name}.jabber.example"), &presence);
    }
    assert_eq!(world.stream_errors.keys().collect::<Vec<_>>(), ["c.jabber.example"]);
    assert_eq!(world.stream_errors["c.jabber.example"], ["resource-constraint"]);
    let links = world.gate.snapshot().links;
    assert!(links.contains(&(Side::Outside, Protocol::Xmpp, 2)), "{links:?}");
}

/// However many domains strangers have, their streams are bounded in all.
#[test]
fn strangers_streams_are_counted() {
    use fedgate::gate::limits::STRANGER_LINKS;
    use fedgate::gate::{Protocol, Side};
    use fedgate::wire::xmpp::{Element, NS_SERVER};
    use support::world::{CONFIG, World};
    let mut world = World::with(CONFIG, "[default]\nunlisted = \"stranger\"\n");
    let names: Vec<String> = (0..=STRANGER_LINKS).map(|number| format!("s{number}.example")).collect();
    for name in &names {
        let presence = Element::new("presence", NS_SERVER)
            .attr("from", &format!("romeo@{name}/o"))
            .attr("to", "juliet@corp.example");
        world.stanza(name, &presence);
    }
    assert_eq!(world.stream_errors.keys().collect::<Vec<_>>(), [names.last().unwrap()]);
    let links = world.gate.snapshot().links;
    assert!(links.contains(&(Side::Outside, Protocol::Xmpp, STRANGER_LINKS as u64)), "{links:?}");
}
