//! What the configuration says of XMPP outside, and of who inside wants certificates for it.

#[path = "support/configuration.rs"]
mod configuration;

use configuration::{FEDGATE, POLICIES, World, errors_after, errors_with, policy_errors};
use fedgate::config::Severity;
use fedgate::gate::partner::{NodeProof, Protocol};
use fedgate::wire::address::Domain;
use std::net::SocketAddr;
use std::process::Command;

const PARTNER: &str = "[[partner]]\ndomain = \"xmpp.example\"\nprotocol = \"xmpp\"\n";

/// With a partner over XMPP.
fn world(config: &str, entry: &str) -> World {
    let world = World::new();
    world.write("fedgate.toml", &format!("{FEDGATE}{config}"));
    world.write("policies/20-xmpp.toml", &format!("{PARTNER}{entry}"));
    world
}

fn listening(world: &World) -> [Vec<String>; 2] {
    let outside = world.load().edge.outside;
    [outside.xmpp, outside.xmpps].map(|all| all.iter().map(SocketAddr::to_string).collect())
}

fn said(world: &World, arguments: &[&str]) -> String {
    let output =
        Command::new(env!("CARGO_BIN_EXE_fedgate")).args(arguments).current_dir(world.path()).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn who_federates_over_sip_alone_asks_for_no_port_of_xmpp() {
    let alone = World::new();
    assert_eq!(listening(&alone), [[""; 0]; 2]);
    let notes = alone.problems(Severity::Note);
    assert!(notes.iter().any(|note| note.contains("nobody federates over XMPP")), "{notes:?}");
    assert_eq!(listening(&world("", "")), [vec!["[::]:5269"], vec![]]);
    let open = World::new();
    open.write("policies/20-open.toml", "[default]\nunlisted = \"stranger\"\n");
    assert_eq!(listening(&open), [vec!["[::]:5269"], vec![]], "strangers may come over XMPP, too");
    let written = world("[outside]\nxmpp = [\"192.0.2.1:5269\"]\nxmpps = [\"192.0.2.1:5270\"]\n", "");
    assert_eq!(listening(&written), [vec!["192.0.2.1:5269"], vec!["192.0.2.1:5270"]]);
}

#[test]
fn listeners_are_checked() {
    let warnings = |config: &str| world(config, "").problems(Severity::Warning);
    assert_eq!(warnings(""), [""; 0]);
    let none = warnings("[outside]\nxmpp = []\n");
    assert!(none.len() == 1 && none[0].contains("nothing listens for partners over XMPP"), "{none:?}");
    let direct = warnings("[outside]\nxmpp = []\nxmpps = [\"192.0.2.1:5270\"]\n");
    assert!(direct.len() == 1 && direct[0].contains("by direct TLS only"), "{direct:?}");
    for (config, what) in [
        ("[outside]\nxmpps = [\"[::]:5061\"]\n", "two listeners want [::]:5061: [outside] sip and [outside] xmpps"),
        (
            "[inside]\nxmpp = [\"10.0.0.5:5269\"]\n",
            "[inside] xmpp at 10.0.0.5:5269 and [outside] xmpp at [::]:5269 take",
        ),
        ("[outside]\nxmpp = [\"127.0.0.1:15269\"]\n", "127.0.0.1:15269 is our own [outside] xmpp"),
        (
            "[outside]\nxmpp = [\"192.0.2.1:5269\"]\n[admin]\nlisten = \"192.0.2.1:9630\"\n",
            "192.0.2.1:9630 is on the outside",
        ),
    ] {
        let errors = world(config, "").errors();
        assert!(errors.len() == 1 && errors[0].contains(what), "{config}\n{errors:#?}");
    }
    // The server on this host has the port that partners are to use.
    let beside = World::new();
    beside.write("fedgate.toml", &FEDGATE.replace("127.0.0.1:15269", "127.0.0.1:5269"));
    beside.write("policies/20-xmpp.toml", PARTNER);
    let errors = beside.errors();
    assert!(errors.len() == 1 && errors[0].contains("127.0.0.1:5269 is our own [outside] xmpp"), "{errors:?}");
    assert!(errors[0].contains("give that listener of ours another address"), "{errors:?}");
}

#[test]
fn our_certificate_must_name_the_domain_to_them() {
    let host_only = FEDGATE.replace("certs/edge.", "certs/host.");
    let world = world("", "");
    world.write("fedgate.toml", &host_only);
    let warnings = world.problems(Severity::Warning);
    assert!(warnings.len() == 1 && warnings[0].contains("does not name corp.example"), "{warnings:?}");
    std::fs::remove_file(world.path().join("policies/20-xmpp.toml")).unwrap();
    assert_eq!(world.problems(Severity::Warning), [""; 0], "SIP does not ask for it");
}

#[test]
fn the_ladder_must_make_sense() {
    for (entry, what) in [
        ("tls = \"off\"", "without TLS there is no certificate; write proof = [\"dialback\"]"),
        ("proof = []", "there is no proof to accept"),
        ("identity = \"edge-in-domain\"", "Microsoft's rule for SIP"),
    ] {
        let errors = policy_errors(&format!("{PARTNER}{entry}\n"));
        let about: Vec<_> = errors.iter().filter(|error| error.contains("partner[0]")).collect();
        assert!(about.len() == 1 && about[0].contains(what), "{entry}\n{errors:#?}");
    }
    for (entry, what) in [
        ("tls = \"off\"\nproof = [\"certificate\", \"dialback\"]", "that rung is never taken"),
        ("tls = \"optional\"", "a stream without TLS can prove nothing here"),
    ] {
        let warnings = world("", &format!("{entry}\n")).problems(Severity::Warning);
        assert!(warnings.len() == 1 && warnings[0].contains(what), "{entry}\n{warnings:#?}");
    }
    for entry in [
        "profile = \"googletalk\"",
        "tls = \"optional\"\nproof = [\"certificate\", \"dialback\"]",
        "proof = [\"dialback\"]",
        "tls = \"off\"\nproof = [\"dialback\"]",
    ] {
        let world = world("", &format!("{entry}\n"));
        assert_eq!((world.errors(), world.problems(Severity::Warning)), (vec![], vec![]), "{entry}");
    }
}

#[test]
fn a_partner_over_xmpp_needs_a_node_over_xmpp() {
    for protocol in ["protocol = \"sip\"", "protocol = \"xmpp-component\"\nsecret = \"s\""] {
        let world = World::new();
        world.write("fedgate.toml", &FEDGATE.replace("protocol = \"xmpp\"", protocol));
        world.write("policies/20-xmpp.toml", PARTNER);
        let warnings = world.problems(Severity::Warning);
        let found = warnings.iter().find(|warning| warning.contains("no [[node]] is attached over XMPP"));
        assert!(found.is_some_and(|warning| warning.contains("xmpp.example")), "{protocol} {warnings:?}");
    }
}

#[test]
fn of_two_protocols_one_is_preferred() {
    let twins = |over_sip: &str, over_xmpp: &str| {
        let world = world(
            "",
            &format!("{over_xmpp}\n[[partner]]\ndomain = \"xmpp.example\"\nprotocol = \"sip\"\n{over_sip}\n"),
        );
        let towards = world.report().loaded.map(|loaded| {
            let table = &loaded.gate.policy;
            table.partner(table.partner_towards(&Domain::parse("xmpp.example").unwrap()).unwrap()).protocol
        });
        (towards, world.errors(), world.problems(Severity::Note))
    };
    let (towards, errors, notes) = twins("", "");
    assert_eq!((towards, errors), (Some(Protocol::Xmpp), vec![]));
    assert!(notes.iter().any(|note| note.contains("goes by the one that is written first")), "{notes:?}");
    let (towards, errors, notes) = twins("prefer = true", "");
    assert_eq!((towards, errors), (Some(Protocol::Sip), vec![]));
    assert!(!notes.iter().any(|note| note.contains("written first")), "{notes:?}");
    let (towards, errors, _) = twins("prefer = true", "prefer = true");
    assert!(towards.is_none() && errors.len() == 1 && errors[0].contains("both entries"), "{errors:?}");
}

#[test]
fn a_node_known_by_certificate_needs_trust_and_tls() {
    let node = "[[node]]\n";
    let with = |keys: &str, inside: &str| {
        let world = World::new();
        world.write("fedgate.toml", &format!("{}{inside}", FEDGATE.replace(node, &format!("{node}{keys}\n"))));
        world
    };
    let certificate = "verify = \"certificate\"";
    let fine = with(
        &format!("{certificate}\ntls = {{ name = \"imp.corp.example\" }}"),
        "[inside]\ntrust = [\"certs/ca.pem\"]\n",
    );
    assert_eq!(fine.problems(Severity::Warning), [""; 0]);
    let loaded = fine.load();
    assert_eq!(loaded.gate.nodes[0].verify, NodeProof::Certificate);
    assert_eq!(loaded.gate.nodes[0].tls_name.as_deref(), Some("imp.corp.example"));
    for (inside, what) in [
        ("", "there is no [inside] trust"),
        ("[inside]\ntls = \"off\"\ntrust = [\"certs/ca.pem\"]\n", "[inside] tls = \"off\""),
    ] {
        let errors = with(certificate, inside).errors();
        assert!(errors.len() == 1 && errors[0].contains(what), "{inside} {errors:?}");
    }
    let component = "protocol = \"xmpp-component\"\nsecret = \"s\"\ntls = { name = \"imp.corp.example\" }";
    let errors = errors_with("protocol = \"xmpp\"", component);
    assert!(errors.len() == 1 && errors[0].contains("has no TLS (XEP-0114)"), "{errors:?}");
}

#[test]
fn an_issuer_must_be_one() {
    let issuer = |certificate: &str, key: &str| {
        errors_after(&format!("[inside]\nissuer = {{ certificate = \"{certificate}\", key = \"{key}\" }}\n"))
    };
    assert_eq!(issuer("certs/ca.pem", "certs/ca.key"), [""; 0]);
    for (certificate, key, what) in [
        ("certs/edge.pem", "certs/edge.key", "inside.issuer.certificate: what it signs does not count: it is no CA"),
        ("certs/ca.pem", "certs/edge.key", "inside.issuer.key: this key does not belong to the certificate"),
        ("certs/none.pem", "certs/ca.key", "none.pem does not exist"),
        ("certs/ca.pem", "certs/none.key", "none.key does not exist"),
    ] {
        let errors = issuer(certificate, key);
        assert!(errors.len() == 1 && errors[0].contains(what), "{certificate} {key} {errors:?}");
    }
    for (text, what) in [
        ("issuer = { certificate = \"certs/ca.pem\" }", "key is missing"),
        ("issuer = { certificate = \"certs/ca.pem\", key = \"certs/ca.key\", keys = 1 }", "unknown key"),
        ("issuer = \"certs/ca.pem\"", "not a table"),
    ] {
        let errors = errors_after(&format!("[inside]\n{text}\n"));
        assert!(errors.iter().any(|error| error.contains(what)), "{text} {errors:?}");
    }
    let off = World::new();
    let issuer = "issuer = { certificate = \"certs/ca.pem\", key = \"certs/ca.key\" }";
    off.write("fedgate.toml", &format!("{FEDGATE}[inside]\ntls = \"off\"\n{issuer}\n"));
    let warnings = off.problems(Severity::Warning);
    assert!(warnings.len() == 1 && warnings[0].contains("no node ever sees a certificate"), "{warnings:?}");
}

#[test]
fn check_tells_the_records_of_xmpp() {
    let world = world("[outside]\nxmpps = [\"192.0.2.1:5270\"]\nadvertise = [\"192.0.2.1\"]\n", "");
    let text = said(&world, &["check"]);
    for line in [
        "  _sipfederationtls._tcp.corp.example. SRV 0 0 5061 sip.corp.example.\n",
        "  _xmpp-server._tcp.corp.example. SRV 0 0 5269 sip.corp.example.\n",
        "  _xmpps-server._tcp.corp.example. SRV 0 0 5270 sip.corp.example.\n",
        "  sip.corp.example. A 192.0.2.1\n",
        "(Sametime, Google Talk) try the first record",
        "_xmpp-server._tcp.xmpp.example. SRV 0 0 5270 edge.fedgate.internal.\n",
        "_xmpp-server._tcp.lync.example. SRV 0 0 5270 edge.fedgate.internal.\n",
        "_xmpps-server._tcp.xmpp.example. no such name",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    let alone = World::new();
    let text = said(&alone, &["check"]);
    assert!(!text.contains("_xmpp-server._tcp.corp.example") && !text.contains("Sametime"), "{text}");
}

#[test]
fn there_are_no_records_for_names_that_nobody_knows() {
    let entry = "[[partner]]\ndomain = \"*.many.example\"\nprotocol = \"xmpp\"\n[default]\nunlisted = \"stranger\"\n";
    let world = world("", entry);
    for arguments in [&["check"][..], &["check", "--dns", "unbound"], &["check", "--dns", "dnsmasq"]] {
        let text = said(&world, arguments);
        assert!(text.contains("*.many.example: there are no SRV records"), "{arguments:?}\n{text}");
        assert!(text.contains("open federation is inbound first"), "{arguments:?}\n{text}");
        assert!(!text.contains("_tcp.many.example") && !text.contains("_tcp.*"), "{arguments:?}\n{text}");
    }
}

#[test]
fn explain_decides_over_xmpp() {
    let world = world("", "");
    let explain = |from: &str, to: &str, more: &[&str]| {
        said(&world, &[&["explain", "--from", from, "--to", to, "--do", "iq"], more].concat())
    };
    let inward = explain("romeo@xmpp.example", "alice@corp.example", &["--protocol", "xmpp"]);
    assert!(inward.contains("[[partner]] xmpp.example over xmpp"), "{inward}");
    assert!(inward.ends_with("  ok  node imp-1 takes it over xmpp\nallowed\n"), "{inward}");
    let outward = explain("alice@corp.example", "romeo@xmpp.example", &["--protocol", "xmpp"]);
    assert!(outward.ends_with("allowed\n"), "{outward}");
    let other = explain("romeo@xmpp.example", "alice@corp.example", &["--protocol", "sip"]);
    assert!(other.contains("refused: unlisted-domain"), "{other}");
    let listed = explain("juliet@lync.example", "alice@corp.example", &["--protocol", "xmpp"]);
    assert!(listed.contains("the sender gets: XMPP stream error policy-violation"), "{listed}\n{POLICIES}");
}

#[test]
fn the_shipped_example_of_an_xmpp_partner_shows_the_defaults() {
    let shipped = include_str!("../policies/10-partners.toml");
    let (_, example) = shipped.split_once("\n# [[partner]]\n").unwrap();
    let lines = example.lines().map_while(|line| line.strip_prefix("# "));
    let written = World::new();
    let text: String = lines.map(|line| format!("{line}\n")).collect();
    written.write("policies/20-xmpp.toml", &format!("[[partner]]\n{text}"));
    let (written, bare) = (written.load(), world("", "").load());
    let [written, bare] = [written, bare].map(|loaded| loaded.gate.policy.partners[1].clone());
    assert_eq!(written.label, "xmpp.example");
    assert_eq!(fedgate::gate::partner::Partner { origin: bare.origin.clone(), ..written }, bare, "{text}");
}
