//! SIP nodes as operators write them: what they come to, and what is told of those that could not work.

#[path = "support/configuration.rs"]
mod configuration;

use configuration::{FEDGATE, World};
use fedgate::app;
use fedgate::config::{Loaded, Severity};
use fedgate::gate::partner::{NodeProof, NodeProtocol};
use std::process::Command;

const NODE: &str = "protocol = \"xmpp\"\naddress = \"127.0.0.1:15269\"";

/// The configuration with the one node replaced, `keys` in its table, and `rest` after it all.
fn written(keys: &str, rest: &str) -> World {
    let world = World::new();
    assert!(FEDGATE.contains(NODE));
    world.write("fedgate.toml", &format!("{}{rest}", FEDGATE.replacen(NODE, keys, 1)));
    world
}

fn sip(address: &str, keys: &str) -> String {
    format!("protocol = \"sip\"\naddress = \"{address}\"\n{keys}")
}

fn loaded(address: &str, keys: &str, rest: &str) -> Loaded {
    written(&sip(address, keys), rest).load()
}

/// Another SIP node behind the first.
fn second(address: &str, keys: &str) -> String {
    format!("[[node]]\nname = \"imp-2\"\n{}\ndomains = [\"corp.example\"]\n", sip(address, keys))
}

fn errors(address: &str, keys: &str, rest: &str) -> Vec<String> {
    written(&sip(address, keys), rest).errors()
}

fn warnings(address: &str, keys: &str, rest: &str) -> Vec<String> {
    let world = written(&sip(address, keys), rest);
    assert_eq!(world.errors(), Vec::<String>::new());
    world.problems(Severity::Warning)
}

#[test]
fn a_plain_sip_node_needs_two_lines() {
    let all = loaded("127.0.0.1:5070", "", "");
    let node = &all.gate.nodes[0];
    assert_eq!((node.protocol, node.verify, node.public_port), (NodeProtocol::Sip, NodeProof::Network, 0));
    assert_eq!((&node.tls_name, node.sources.as_slice()), (&None, &["127.0.0.1/32".parse().unwrap()][..]));
    let facing = node.facing.as_ref().unwrap();
    assert_eq!((facing.at.host.as_str(), facing.at.port, facing.tls), ("127.0.0.1", 5062, false));
    assert!(all.gate.inside_trust.is_empty() && all.unfaced.is_empty());
    assert_eq!(all.gate.secrets, all.link.secrets);
    assert_eq!(all.edge.inside.sip.len(), 1, "the default is in force");
    assert_eq!(warnings("127.0.0.1:5070", "", ""), Vec::<String>::new());
}

#[test]
fn without_a_sip_node_nothing_listens_for_one_unless_written() {
    let world = World::new();
    assert!(world.load().edge.inside.sip.is_empty());
    assert!(!world.problems(Severity::Note).iter().any(|note| note.contains("SIP towards nodes")));
    world.write("fedgate.toml", &format!("{FEDGATE}[inside]\nsip = [\"tls:127.0.0.1:5063\"]\n"));
    let listener = world.load().edge.inside.sip[0];
    assert_eq!((listener.at.port(), listener.tls), (5063, true));
    let notes = world.problems(Severity::Note);
    assert!(notes.iter().any(|note| note.contains("inside.sip") && note.contains("nobody may connect")), "{notes:?}");
}

#[test]
fn what_is_written_of_a_sip_node_arrives() {
    let keys = "tls = { name = \"IMP.corp.example\" }\nverify = \"certificate\"\nsources = [\"10.0.0.0/24\"]\nusers = [\"a*\"]\n\
                role = \"member\"\npriority = 3\nweight = 4\npublic_port = 5071\n";
    let rest = "[inside]\nsip = [\"tcp:10.0.0.1:5062\", \"tls:10.0.0.1:5063\"]\ntrust = [\"certs/ca.pem\"]\nnetworks = [\"10.0.0.0/8\"]\n";
    let all = loaded("10.0.0.7:5070", keys, rest);
    let node = &all.gate.nodes[0];
    assert_eq!((node.tls_name.as_deref(), node.verify), (Some("imp.corp.example"), NodeProof::Certificate));
    assert_eq!((node.routing, node.priority, node.weight, node.public_port), (false, 3, 4, 5071));
    assert_eq!(node.sources, ["10.0.0.0/24".parse().unwrap()]);
    let facing = node.facing.as_ref().unwrap();
    assert_eq!((facing.at.host.as_str(), facing.at.port, facing.tls), ("10.0.0.1", 5063, true));
    assert!(!all.gate.inside_trust.is_empty());
    assert_eq!(all.gate.trust.iter().count(), 1, "no partner is judged by it");
    assert_eq!(all.gate.inside_networks, ["10.0.0.0/8".parse().unwrap()]);

    let rest = "[inside]\nsip = [\"tls:127.0.0.1:5063\"]\ntrust = [\"certs/ca.pem\"]\n";
    let all = loaded("imp-1.corp.example:5061", "tls = true", rest);
    assert_eq!(all.gate.nodes[0].tls_name.as_deref(), Some("imp-1.corp.example"));
    assert_eq!(all.unresolved[0].host, "imp-1.corp.example");
    assert_eq!(loaded("127.0.0.1:5070", "tls = false", "").gate.nodes[0].tls_name, None);
}

#[test]
fn a_node_sees_the_listener_of_its_own_kind() {
    let rest = |listeners: &str| {
        format!("[inside]\nsip = [{listeners}]\ntrust = [\"certs/ca.pem\"]\nnetworks = [\"0.0.0.0/0\", \"::/0\"]\n")
    };
    let sees = |address: &str, keys: &str, listeners: &str| {
        let all = loaded(address, keys, &rest(listeners));
        let facing = all.gate.nodes[0].facing.as_ref();
        facing.map(|facing| (facing.at.host.clone(), facing.at.port, facing.tls))
    };
    let both = "\"tls:127.0.0.1:5063\", \"tcp:127.0.0.1:5062\"";
    assert_eq!(sees("127.0.0.1:5070", "", both), Some(("127.0.0.1".into(), 5062, false)));
    assert_eq!(sees("localhost:5070", "tls = true", both), Some(("127.0.0.1".into(), 5063, true)));
    assert_eq!(sees("127.0.0.1:5070", "", "\"tls:127.0.0.1:5063\""), Some(("127.0.0.1".into(), 5063, true)));
    let many = "\"tcp:127.0.0.1:5062\", \"tcp:[2001:db8::1]:5062\", \"tcp:10.0.0.1:5062\"";
    assert_eq!(sees("10.0.0.7:5070", "", many), Some(("10.0.0.1".into(), 5062, false)));
    assert_eq!(sees("[2001:db8::7]:5070", "", many), Some(("2001:db8::1".into(), 5062, false)));

    let mut all = loaded("10.0.0.7:5070", "", &rest("\"tcp:127.0.0.1:5062\", \"tcp:[::]:5064\""));
    assert_eq!(all.gate.nodes[0].facing, None, "which address it reaches is not known yet");
    let unfaced = all.unfaced[0].clone();
    all.face(&unfaced, "10.0.0.1".parse().unwrap());
    for nodes in [&all.gate.nodes, &all.link.nodes] {
        let facing = nodes[0].facing.as_ref().unwrap();
        assert_eq!((facing.at.host.as_str(), facing.at.port, facing.tls), ("10.0.0.1", 5064, false));
    }
}

#[test]
fn a_listener_on_all_addresses_is_seen_at_the_one_on_the_way() {
    let rest = "[inside]\nsip = [\"tcp:0.0.0.0:5064\", \"tls:[::]:5065\"]\ntrust = [\"certs/ca.pem\"]\n[outside]\nsip = [\"192.0.2.1:5061\"]\n";
    let loaded = app::Loaded::new(loaded("127.0.0.1:5070", "public_port = 5071", rest), Vec::new());
    let facing = loaded.gate.nodes[0].facing.as_ref().unwrap();
    assert_eq!((facing.at.host.as_str(), facing.at.port, facing.tls), ("127.0.0.1", 5064, false));
    let listeners = &loaded.io.listeners;
    assert_eq!(listeners.inside_sip_tcp, ["0.0.0.0:5064".parse().unwrap()]);
    assert_eq!(listeners.inside_sip_tls, ["[::]:5065".parse().unwrap()]);
    assert_eq!(listeners.doors, ["192.0.2.1:5071".parse().unwrap()]);
    assert_eq!((loaded.io.door(5071), loaded.io.door(5061), loaded.io.door(0)), (Some("imp-1".to_owned()), None, None));
    assert!(loaded.notices.is_empty(), "{:?}", loaded.notices);
}

#[test]
fn what_could_not_work_is_an_error_with_its_key() {
    let trust = "[inside]\ntrust = [\"certs/ca.pem\"]\n";
    let here = "127.0.0.1:5070";
    let long = "imp.corp.example:5061";
    let cases: [(&str, &str, &str, &str, &str); 20] = [
        (here, "", "[inside]\nsip = []\n", "node[0]: ", "there is no [inside] sip"),
        (here, "", "[inside]\nsip = [\"127.0.0.1:5062\"]\n", "inside.sip[0]: ", "neither tcp: nor tls:"),
        (here, "", "[inside]\nsip = [\"tcp:5062\"]\n", "inside.sip[0]: ", "no address and port"),
        ("127.0.0.1:5062", "", "", "node[0].address: ", "127.0.0.1:5062 is our own [inside] sip"),
        ("127.0.0.1:5064", "", "[inside]\nsip = [\"tcp:0.0.0.0:5064\"]\n", "node[0].address: ", "our own [inside] sip"),
        ("127.0.0.1:5061", "", "", "node[0].address: ", "our own [outside] sip"),
        (
            here,
            "",
            "[inside]\nsip = [\"tcp:127.0.0.1:5270\"]\n",
            "",
            "two listeners want 127.0.0.1:5270: [inside] sip and [inside] xmpp",
        ),
        (here, "", "[inside]\nsip = [\"tcp:127.0.0.1:5061\"]\n", "", "take each other's connections"),
        (here, "", "[inside]\nsip = [\"tcp:0.0.0.0:5270\"]\n", "", "take each other's connections"),
        (here, "", "[inside]\nsip = [\"tcp:127.0.0.1:9630\"]\n", "", "two listeners want 127.0.0.1:9630"),
        (
            here,
            "public_port = 5061",
            "",
            "",
            "two listeners want [::]:5061: [outside] sip and the public_port of imp-1",
        ),
        (here, "public_port = 5270", "", "", "take each other's connections"),
        (here, "public_port = 65536", "", "node[0].public_port: ", "out of bounds"),
        (here, "public_port = 5071", "[outside]\nsip = []\n", "node[0].public_port: ", "there are none"),
        (here, "tls = true", trust, "node[0].tls: ", "that is an address"),
        (here, "tls = \"yes\"", trust, "node[0].tls: ", "neither true, false nor a name"),
        (long, "tls = true", "", "node[0].tls: ", "there is no [inside] trust"),
        (long, "verify = \"certificate\"", trust, "node[0]: ", "no listener of [inside] sip speaks TLS"),
        (here, "verify = \"dialback\"", "", "node[0].verify: ", "write one of \"network\", \"certificate\""),
        (here, "", "[inside]\ntrust = [\"certs/none.pem\"]\n", "inside.trust[0]: ", "does not exist"),
    ];
    for (address, keys, rest, key, what) in cases {
        let errors = errors(address, keys, rest);
        let told = errors.len() == 1 && errors[0].contains(&format!("error: {key}")) && errors[0].contains(what);
        assert!(told, "{address} {keys} {rest}\n{errors:#?}");
    }
    let by_certificate = "verify = \"certificate\"";
    let listens = "[inside]\nsip = [\"tls:127.0.0.1:5063\"]\n";
    let untrusting = errors("imp.corp.example:5061", by_certificate, listens);
    assert!(untrusting.len() == 1 && untrusting[0].contains("there is no [inside] trust"), "{untrusting:?}");
    let nameless = errors(here, by_certificate, &format!("{listens}trust = [\"certs/ca.pem\"]\n"));
    assert!(nameless.len() == 1 && nameless[0].contains("its address is no name"), "{nameless:?}");
    let system = errors(here, "", "[inside]\ntrust = [\"system\"]\n");
    assert!(system.len() == 1 && system[0].contains("inside.trust[0]"), "public authorities know no node: {system:?}");
    let twice = errors(here, "public_port = 5071", &second("127.0.0.2:5070", "public_port = 5071"));
    assert!(twice.len() == 1 && twice[0].contains("node[1]: public_port 5071 is that of imp-1 already"), "{twice:?}");
}

#[test]
fn listeners_of_one_kind_may_share_a_port() {
    let rest = "[outside]\nsip = [\"[::]:5061\", \"192.0.2.1:5061\"]\n";
    assert_eq!(errors("127.0.0.1:5070", "public_port = 5071", rest), Vec::<String>::new());
}

#[test]
fn nodes_that_are_hard_to_tell_apart_are_warned_of() {
    let alone = "127.0.0.1:5070";
    let beside = |address: &str, keys: &str| warnings(alone, "", &second(address, keys));
    let told = beside("127.0.0.1:5071", "");
    assert!(told.len() == 1 && told[0].contains("node[1]") && told[0].contains("the port of their Via"), "{told:?}");
    assert_eq!(beside("127.0.0.2:5070", ""), Vec::<String>::new());
    assert_eq!(beside("127.0.0.2:5070", "sources = [\"127.0.0.0/24\"]").len(), 1);
    let xmpp = "[[node]]\nname = \"imp-2\"\nprotocol = \"xmpp\"\naddress = \"127.0.0.1:15269\"\ndomains = [\"corp.example\"]\npriority = 1\n";
    assert_eq!(warnings(alone, "", xmpp), Vec::<String>::new(), "protocols are no one's double");

    let certain = "tls = true\nverify = \"certificate\"\nsources = [\"127.0.0.1\"]";
    let trust = "[inside]\nsip = [\"tls:127.0.0.1:5063\"]\ntrust = [\"certs/ca.pem\"]\n";
    let rest = |other: &str| format!("{}{trust}", second(other, certain));
    assert_eq!(warnings("a.corp.example:5061", certain, &rest("b.corp.example:5061")), Vec::<String>::new());
    assert_eq!(warnings("a.corp.example:5061", certain, &rest("a.corp.example:5062")).len(), 1, "one name for both");
}

#[test]
fn presence_tables_are_not_for_a_sip_node() {
    let told = warnings("127.0.0.1:5070", "profile = \"jabber\"", "");
    assert!(told.len() == 1 && told[0].contains("node[0].profile: says nothing here"), "{told:?}");
    assert_eq!(warnings("127.0.0.1:5070", "profile = \"generic\"", ""), Vec::<String>::new());
}

#[test]
fn a_user_on_two_protocols_is_warned_of() {
    let xmpp = |keys: &str| {
        format!(
            "[[node]]\nname = \"imp-2\"\nprotocol = \"xmpp\"\naddress = \"127.0.0.1:15269\"\ndomains = [\"corp.example\"]\n{keys}\n"
        )
    };
    let beside = |keys: &str| warnings("127.0.0.1:5070", "users = [\"a*\"]", &xmpp(keys));
    for both in ["", "users = [\"a*\"]", "users = [\"*b\"]"] {
        let told = beside(both);
        assert!(told.len() == 1 && told[0].contains("overlaps \"a*\" of imp-1"), "{both}: {told:?}");
    }
    for apart in ["users = [\"b*\"]", "priority = 1", "role = \"member\""] {
        assert_eq!(beside(apart), Vec::<String>::new(), "{apart}");
    }
}

#[test]
fn a_node_elsewhere_does_not_reach_our_loopback() {
    let told = warnings("10.0.0.7:5070", "", "");
    assert!(
        told.iter().any(|w| w.contains("node[0]: the node is at 10.0.0.7") && w.contains("127.0.0.1:5062")),
        "{told:?}"
    );
    assert!(told.iter().any(|w| w.contains("[inside] networks do not let in")), "{told:?}");
    let rest = "[inside]\nsip = [\"tcp:0.0.0.0:5062\"]\nnetworks = [\"10.0.0.0/8\"]\n";
    assert_eq!(warnings("10.0.0.7:5070", "", rest), Vec::<String>::new());
}

/// What the program says in the world's folder.
fn said(world: &World, arguments: &[&str]) -> String {
    let program = env!("CARGO_BIN_EXE_fedgate");
    let output = Command::new(program).args(arguments).current_dir(world.path()).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// A SIP node and an XMPP node that divide the users.
fn divided() -> World {
    let keys = "users = [\"s*\"]\npublic_port = 5071\ntls = { name = \"imp.corp.example\" }\nverify = \"certificate\"";
    let rest = "[[node]]\nname = \"imp-2\"\nprotocol = \"xmpp\"\naddress = \"127.0.0.1:15269\"\ndomains = [\"corp.example\"]\nusers = [\"x*\"]\n\
                [inside]\nsip = [\"tls:0.0.0.0:5063\"]\ntrust = [\"certs/ca.pem\"]\n";
    written(&sip("127.0.0.1:5070", keys), rest)
}

#[test]
fn check_tells_what_a_sip_node_needs() {
    let world = divided();
    let text = said(&world, &["check"]);
    for line in [
        "\nSIP nodes\n  imp-1 at 127.0.0.1:5070\n",
        "users       s*\n",
        "tls         its certificate names imp.corp.example, by [inside] trust\n",
        "known by    127.0.0.1/32, and a certificate that names imp.corp.example\n",
        "reaches us  <sip:ADDRESS:5063;transport=tls>, as its outbound proxy for partners (ADDRESS is",
        "public_port 5071 on the addresses of [outside] sip\n",
        "_xmpp-server._tcp.lync.example. SRV",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    let json: serde_json::Value = serde_json::from_str(&said(&world, &["check", "--json"])).unwrap();
    assert_eq!(json["sip_nodes"][0]["node"], "imp-1");
    assert_eq!(json["sip_nodes"].as_array().map(Vec::len), Some(1));

    let alone = written(&sip("imp.corp.example:5070", ""), "");
    let text = said(&alone, &["check"]);
    for line in [
        "known by    the addresses of imp.corp.example\n",
        "reaches us  <sip:127.0.0.1:5062;transport=tcp>, as its outbound proxy",
        "none: SIP nodes send what is for partners to the edge",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    assert!(said(&alone, &["check", "--dns", "unbound"]).contains("# Nothing is needed"));
}

#[test]
fn explain_names_the_node() {
    let world = divided();
    let explain = |from: &str, to: &str, more: &[&str]| {
        said(&world, &[&["explain", "--from", from, "--to", to, "--do", "message"], more].concat())
    };
    let over_sip = ["--protocol", "sip"];
    let text = explain("juliet@lync.example", "sam@corp.example", &over_sip);
    assert!(text.ends_with("  ok  node imp-1 takes it over sip, as it is\nallowed\n"), "{text}");
    let text = explain("juliet@lync.example", "xena@corp.example", &over_sip);
    assert!(text.ends_with("  ok  node imp-2 takes it over xmpp\nallowed\n"), "{text}");
    let text = explain("sam@corp.example", "juliet@lync.example", &over_sip);
    assert!(text.ends_with("  ok  node imp-1 sends it over sip, as it is\nallowed\n"), "{text}");
    let text = explain("nobody@corp.example", "juliet@lync.example", &[]);
    assert!(text.contains("  no  no [[node]] serves nobody@corp.example\n"), "{text}");
    let text = explain("juliet@lync.example", "nobody@corp.example", &[]);
    assert!(text.contains("  no  no [[node]] with role") && text.ends_with("it would not get through\n"), "{text}");
    // An XMPP partner, and a user who is on SIP.
    world.write("policies/20-xmpp.toml", "[[partner]]\ndomain = \"xmpp.example\"\nprotocol = \"xmpp\"\n");
    let text = explain("sam@corp.example", "juliet@xmpp.example", &[]);
    assert!(text.contains("  no  juliet@xmpp.example is at an XMPP partner; users of SIP nodes"), "{text}");
    let text = explain("juliet@xmpp.example", "sam@corp.example", &[]);
    assert!(text.contains("  no  sam@corp.example is a user of a SIP node"), "{text}");
    let refused = explain("sam@corp.example", "carol@unknown.example", &over_sip);
    assert!(refused.contains("the sender gets: SIP 403") && !refused.contains("imp-1"), "{refused}");
    let refused = explain("xena@corp.example", "carol@unknown.example", &over_sip);
    assert!(refused.contains("the sender gets: XMPP policy-violation"), "{refused}");
    let json = explain("juliet@lync.example", "sam@corp.example", &["--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["node"]["name"], &json["node"]["protocol"]), (&"imp-1".into(), &"sip".into()));
}

#[test]
fn explain_names_a_node_with_a_door_of_its_own() {
    let world = written(&sip("127.0.0.1:5070", ""), &second("127.0.0.2:5070", "priority = 1\npublic_port = 5071"));
    let text =
        said(&world, &["explain", "--from", "juliet@lync.example", "--to", "sam@corp.example", "--do", "message"]);
    assert!(
        text.contains("node imp-1 takes it over sip, as it is; node imp-2 if it comes in on port 5071\n"),
        "{text}"
    );
}

#[test]
fn the_shipped_example_of_a_sip_node_works() {
    let shipped = include_str!("../deploy/fedgate.toml");
    let (_, example) = shipped.split_once("# [[node]]\n# name        = \"imp-3\"\n").unwrap();
    let lines = example.lines().map_while(|line| line.strip_prefix("# ").or(line.trim_start().strip_prefix("# ")));
    let keys: String = lines.filter(|line| line.contains(" = ")).map(|line| format!("{line}\n")).collect();
    let keys = keys.replace("domains     = [\"corp.example\"]", "");
    assert_eq!(written(&keys, "").load().gate.nodes[0].protocol, NodeProtocol::Sip, "{keys}");
    for key in ["sip    = [\"tcp:127.0.0.1:5062\"]", "trust  = [\"certs/inside-ca.pem\"]"] {
        assert!(shipped.contains(&format!("\n# {key}")), "{key}");
    }
}
