//! The configuration as operators write it, well and badly: what it means, and what they are told.

#[path = "support/configuration.rs"]
mod configuration;

use configuration::{FEDGATE, NOW, POLICIES, World, errors_after, errors_with, policy_errors};
use fedgate::config::edge::{LogFormat, State, TlsVersion};
use fedgate::config::{self, Options, Severity};
use fedgate::gate::partner::{
    Action, ChatMode, Direction, Html, Identity, NodeProof, NodeProtocol, Profile, Proof, TlsMode, TrustId,
};
use fedgate::io::store::{Change, Embedded, Store};
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

#[test]
fn what_is_left_out_has_its_default() {
    let loaded = World::new().load();
    let edge = &loaded.edge;
    assert_eq!(edge.outside.sip, ["[::]:5061".parse().unwrap()]);
    assert_eq!(edge.inside.xmpp, ["127.0.0.1:5270".parse().unwrap()]);
    assert_eq!(edge.inside.networks, ["127.0.0.0/8".parse().unwrap()]);
    assert_eq!((edge.inside.tls, edge.tls_minimum), (TlsMode::Optional, TlsVersion::V1_2));
    let admin = &edge.admin;
    assert_eq!((admin.listen, &admin.socket), (Some("127.0.0.1:9630".parse().unwrap()), &None));
    assert_eq!(admin.token, "");
    assert_eq!(edge.log.format, LogFormat::Text);
    assert!(edge.log.audit.as_ref().unwrap().ends_with("audit.jsonl"));
    let presence = loaded.gate.presence;
    assert_eq!((presence.expires, presence.minimum), (Duration::from_secs(3600), Duration::from_secs(600)));
    assert_eq!((presence.notify_interval, presence.polite_refusal), (Duration::from_secs(5), false));
    assert_eq!(loaded.gate.limits, fedgate::gate::limits::Limits::default());
    let node = &loaded.gate.nodes[0];
    assert_eq!((node.protocol, node.verify, node.routing), (NodeProtocol::Xmpp, NodeProof::Network, true));
    assert_eq!((node.users.as_slice(), node.priority, node.weight), (&["*".to_owned()][..], 0, 1));
    assert_eq!(node.sources, ["127.0.0.1/32".parse().unwrap()]);
    let identity = &loaded.gate.identities[0];
    assert_eq!((identity.hostname.as_str(), identity.sip_port), ("sip.corp.example", 5061));
    assert_eq!(loaded.link.secrets, [b"0123456789abcdef0123456789abcdef".to_vec()]);
}

#[test]
fn a_profile_sets_what_the_entry_leaves_out() {
    let world = World::new();
    world.write(
        "policies/10-partners.toml",
        r#"
        [[partner]]
        domain = "lync.example"
        protocol = "sip"
        profile = "lync"
        [[partner]]
        domain = "plain.example"
        protocol = "sip"
        [[partner]]
        domain = "gmail.example"
        protocol = "xmpp"
        profile = "googletalk"
        [[partner]]
        domain = "strict.example"
        protocol = "xmpp"
        "#,
    );
    let loaded = world.load();
    let [lync, plain, google, strict] = &loaded.gate.policy.partners[..] else { panic!("four entries") };
    assert_eq!((&lync.identity, lync.profile), (&Identity::EdgeInDomain, Profile::Lync));
    assert_eq!((lync.tls, lync.proof.as_slice()), (TlsMode::Required, &[Proof::Certificate][..]));
    assert_eq!((&plain.identity, plain.direction), (&Identity::Domain, Direction::Both));
    assert_eq!((plain.chat, plain.trust), (ChatMode::Auto, TrustId(0)));
    assert_eq!((google.tls, google.proof.as_slice()), (TlsMode::Off, &[Proof::Dialback][..]));
    assert_eq!((strict.tls, strict.proof.as_slice()), (TlsMode::Required, &[Proof::Certificate][..]));
    assert!(strict.allow.contains(&Action::Iq) && !plain.allow.contains(&Action::Iq));
    assert_eq!((plain.limits.messages_per_second, plain.limits.links, plain.limits.body_bytes), (50, 8, 65_536));
    assert_eq!((lync.chat, lync.html), (ChatMode::Session, Html::ToText));
    assert_eq!(world.problems(Severity::Warning), [""; 0]);
}

#[test]
fn everything_that_is_written_arrives() {
    let world = World::new();
    let config = FEDGATE.replacen("[tls]\n", "[tls]\nminimum = \"1.3\"\n", 1).replacen("[[node]]\n", "[[node]]\nverify = \"dialback\"\nsources = [\"10.0.0.0/8\"]\nusers = [\"a*\"]\nrole = \"member\"\npriority = 3\nweight = 4\nprofile = \"jabber\"\n", 1);
    world.write(
        "fedgate.toml",
        &format!(
            r#"{config}
[outside]
sip = ["192.0.2.1:5071", "[2001:db8::1]:5061"]
advertise = ["203.0.113.1"]
[inside]
xmpp = ["10.0.0.1:5270"]
networks = ["10.0.0.0/8"]
tls = "off"
[dns]
servers = ["10.0.0.53", "[::1]:5353"]
[dns.records]
"_sipfederationtls._tcp.Lync.example." = [{{ target = "sip.lync.example", port = 5061 }}]
"sip.lync.example" = ["127.0.0.9", "::1"]
[presence]
expires = "30m"
minimum = "2s"
notify_interval = "250ms"
on_user_refusal = "polite"
[limits]
sip_head_bytes = 10000
stanza_bytes = 20_000
handshake = "3s"
negotiation = "7s"
[admin]
listen = "10.0.0.1:9630"
socket = "run/admin.sock"
token = "t"
[log]
format = "json"
audit = ""
"#
        ),
    );
    world.write(
        "policies/10-partners.toml",
        &format!(
            "{POLICIES}also = [\"lync.test\"]\ndirection = \"in\"\nallow = [\"call\"]\nidentity = [\"Edge.lync.example\"]\n\
             trust = [\"certs/ca.pem\", \"certs/wildcard.pem\"]\neku = \"client\"\nnetworks = [\"192.0.2.7\"]\n\
             next_hop = \"[2001:db8::2]:5061\"\nlimits = {{ messages_per_second = 1, targets_per_hour = 9 }}\n"
        ),
    );
    let loaded = world.load();
    let edge = &loaded.edge;
    assert_eq!(edge.outside.sip.len(), 2);
    assert_eq!(loaded.gate.identities[0].sip_port, 5071);
    assert_eq!(edge.outside.advertise, ["203.0.113.1".parse::<std::net::IpAddr>().unwrap()]);
    assert_eq!(edge.dns.servers, ["10.0.0.53:53".parse().unwrap(), "[::1]:5353".parse().unwrap()]);
    let service = &edge.dns.srv["_sipfederationtls._tcp.lync.example"][0];
    assert_eq!((service.target.as_str(), service.port, service.priority), ("sip.lync.example", 5061, 0));
    assert_eq!(edge.dns.hosts["sip.lync.example"].len(), 2);
    assert_eq!((edge.tls_minimum, loaded.link.inside_tls), (TlsVersion::V1_3, TlsMode::Off));
    assert_eq!(loaded.gate.presence.notify_interval, Duration::from_millis(250));
    assert!(loaded.gate.presence.polite_refusal);
    assert_eq!((loaded.gate.limits.sip_head_bytes, loaded.link.limits.stanza_bytes), (10_000, 20_000));
    assert_eq!(loaded.gate.limits.negotiation, Duration::from_secs(7));
    assert!(edge.admin.socket.as_ref().unwrap().ends_with("run/admin.sock"));
    assert!(edge.admin.socket.as_ref().unwrap().is_absolute(), "below the config file's folder");
    assert_eq!((edge.admin.token.as_str(), &edge.log.audit), ("t", &None));
    let node = &loaded.gate.nodes[0];
    assert_eq!((node.verify, node.routing, node.priority, node.weight), (NodeProof::Dialback, false, 3, 4));
    assert_eq!((node.profile, node.sources.as_slice()), (Profile::Jabber, &["10.0.0.0/8".parse().unwrap()][..]));
    let partner = &loaded.gate.policy.partners[0];
    assert_eq!(partner.identity, Identity::Pinned(vec!["edge.lync.example".to_owned()]));
    assert_eq!((partner.trust, partner.client_eku, partner.direction), (TrustId(1), true, Direction::In));
    assert!(loaded.gate.trust.get(TrustId(1)).is_some() && loaded.gate.trust.get(TrustId(2)).is_none());
    assert_eq!((partner.also.len(), partner.networks.len(), partner.allow.as_slice()), (1, 1, &[Action::Call][..]));
    let hop = partner.next_hop.as_ref().unwrap();
    assert_eq!((hop.host.as_str(), hop.port), ("2001:db8::2", 5061));
    assert_eq!((partner.limits.messages_per_second, partner.limits.targets_per_hour), (1, Some(9)));
    assert!(partner.origin.ends_with("policies/10-partners.toml:1"), "{}", partner.origin);
}

#[test]
fn all_problems_come_at_once_with_their_places() {
    let world = World::new();
    world.write(
        "fedgate.toml",
        r#"[edge]
polices = "policies"

[[identity]]
hostname = "sip.corp.example"
domains = ["corp.example", "nicht gut"]
certificate = "certs/edge.pem"
key = "certs/none.key"

[outside]
sip = ["5061"]
xmpp = ["5269"]

[[node]]
name = "imp-1"
protocol = "smtp"
address = "127.0.0.1"
domains = ["corp.example", "else.example"]

[presence]
expires = "1 hour"

[limts]
"#,
    );
    world.write("policies/10-partners.toml", "[[partner]]\ndomain = \"*\"\nprotocol = \"SIP\"\n\n[[rule]]\nname = 7\n");
    let expected = [
        r#"fedgate.toml:2:1: error: edge.polices: unknown key; did you mean "policies"?"#,
        r#"fedgate.toml:6:28: error: identity[0].domains[1]: "nicht gut": not a domain name; write a domain name like "corp.example""#,
        r#"fedgate.toml:8:7: error: identity[0].key: certs/none.key does not exist; name a file that the edge may read"#,
        r#"fedgate.toml:11:8: error: outside.sip[0]: "5061": invalid socket address syntax; write address:port, like "[::]:5061" or "192.0.2.1:5061""#,
        r#"fedgate.toml:12:9: error: outside.xmpp[0]: "5269": invalid socket address syntax; write address:port, like "[::]:5061" or "192.0.2.1:5061""#,
        r#"fedgate.toml:16:12: error: node[0].protocol: "smtp" is none of its words; write one of "sip", "xmpp", "xmpp-component""#,
        r#"fedgate.toml:17:11: error: node[0].address: "127.0.0.1": has no port; write host:port or [v6]:port"#,
        r#"fedgate.toml:18:28: error: node[0].domains[1]: else.example is not a local domain; add it to the domains of an [[identity]]"#,
        r#"fedgate.toml:21:11: error: presence.expires: "1 hour": not a duration; write a duration like "10s", "5m", "1h" or "250ms""#,
        r#"fedgate.toml:23:2: error: limts: unknown key; did you mean "limits"?"#,
        r#"policies/10-partners.toml:2:10: error: partner[0].domain: "*": a wildcard stands for whole labels at the front; write a domain name, or "*." and one for all its subdomains"#,
        r#"policies/10-partners.toml:3:12: error: partner[0].protocol: "SIP" is none of its words; write one of "sip", "xmpp""#,
        r#"policies/10-partners.toml:5:1: error: rule[0]: from is missing; write a glob like "*@partner.example""#,
        r#"policies/10-partners.toml:5:1: error: rule[0]: to is missing; write a glob like "*@partner.example""#,
        r#"policies/10-partners.toml:5:1: error: rule[0]: answer is missing; write "allow", "refuse" or "polite""#,
        r#"policies/10-partners.toml:6:8: error: rule[0].name: is an integer, not a text in quotes; write a text in quotes"#,
    ];
    pretty(&world.errors(), &expected);
    assert!(world.report().loaded.is_none());
}

fn pretty(found: &[String], expected: &[&str]) {
    assert!(found == expected, "found:\n{}\nexpected:\n{}", found.join("\n"), expected.join("\n"));
}

#[test]
fn broken_toml_is_told_with_its_line_and_the_rest_is_read() {
    let world = World::new();
    world.write(
        "policies/10-partners.toml",
        "[[partner]]\ndomain = lync.example\nprotocol = \"sip\"\nchat = \"pages\"\n",
    );
    let errors = world.errors();
    assert!(errors[0].starts_with("policies/10-partners.toml:2:10: error: "), "{errors:?}");
    assert!(errors.iter().any(|error| error.contains(":4:8: error: partner[0].chat")), "{errors:?}");
}

#[test]
fn revocation_lists_are_read_and_told_when_they_are_overdue() {
    let world = World::new();
    let with = |files: &str| {
        let text = FEDGATE.replacen("[tls]\n", &format!("[tls]\nrevocation = [{files}]\n"), 1);
        world.write("fedgate.toml", &text);
    };
    for files in ["\"certs/present.crl\"", "\"certs/present.crl.pem\""] {
        with(files);
        assert_eq!((world.errors(), world.problems(Severity::Warning)), (vec![], vec![]), "{files}");
    }
    for files in ["\"certs/overdue.crl\"", "\"certs/overdue.crl.pem\", \"certs/present.crl\""] {
        with(files);
        let warnings = world.problems(Severity::Warning);
        assert_eq!((world.errors(), warnings.len()), (vec![], 1), "{warnings:?}");
        assert!(warnings[0].starts_with("fedgate.toml:11:") && warnings[0].contains("2025-07-01"), "{warnings:?}");
    }
    for (file, why) in
        [("ca.pem", "holds no revocation list"), ("edge.key", "holds no"), ("none.crl", "does not exist")]
    {
        with(&format!("\"certs/{file}\""));
        assert!(world.errors()[0].contains(why), "{:?}", world.errors());
    }
    world.write("certs/noise.crl", "noise");
    with("\"certs/noise.crl\"");
    assert!(world.errors()[0].contains("not a certificate revocation list"), "{:?}", world.errors());
}

/// Every key of the full configuration, in a value that differs from nothing being said, and whether this version has it.
#[test]
fn every_key_is_read_or_refused_as_not_in_this_version() {
    let built = true;
    let unbuilt = false;
    let top = [
        ("[outside]\nsip = [\"[::]:5061\"]", built),
        ("[outside]\nadvertise = [\"192.0.2.1\"]", built),
        ("[outside]\nxmpp = []\nxmpps = []\nproxy_protocol_from = []", built),
        ("[outside]\nxmpp = [\"192.0.2.1:5269\"]", built),
        ("[outside]\nxmpps = [\"192.0.2.1:5270\"]", built),
        ("[outside]\nproxy_protocol_from = [\"10.0.0.0/8\"]", built),
        ("[inside]\nsip = []\ntrust = []", built),
        ("[inside]\nsip = [\"tcp:127.0.0.1:5062\", \"tls:127.0.0.1:5063\"]", built),
        ("[inside]\nxmpp = [\"127.0.0.1:5270\"]\nnetworks = [\"127.0.0.0/8\"]\ntls = \"required\"", built),
        ("[inside]\ntrust = [\"certs/ca.pem\"]", built),
        ("[inside]\nissuer = { certificate = \"certs/ca.pem\", key = \"certs/ca.key\" }", built),
        ("[dns]\nservers = [\"127.0.0.1\"]\n[dns.records]\n\"a.example\" = [\"127.0.0.9\"]", built),
        ("[chat]\nidle = \"10m\"", built),
        ("[chat]\nidle = \"11m\"", built),
        (
            "[presence]\nexpires = \"2h\"\nminimum = \"10m\"\nnotify_interval = \"5s\"\non_user_refusal = \"polite\"",
            built,
        ),
        ("[limits]\nsip_head_bytes = 65536\nstanza_bytes = 262144\nhandshake = \"10s\"\nnegotiation = \"30s\"", built),
        ("[admin]\nlisten = \"127.0.0.1:9631\"\ntoken = \"t\"\nsocket = \"\"", built),
        ("[admin]\nsocket = \"admin.sock\"", built),
        ("[publish]\nlisten = \"\"\ndomains = []\nusers = [\"*\"]", built),
        ("[publish]\nlisten = \"127.0.0.1:8080\"", unbuilt),
        ("[publish]\ndomains = [\"corp.example\"]", unbuilt),
        ("[publish]\nusers = [\"a*\"]", unbuilt),
        ("[echo]\nuser = \"\"", built),
        ("[echo]\nuser = \"echo\"", unbuilt),
        ("[log]\nformat = \"json\"\naudit = \"audit.jsonl\"", built),
    ];
    for (text, is_built) in top {
        judge(text, is_built, &errors_after(&format!("{text}\n")));
    }
    let state = [
        ("engine = \"memory\"", built),
        ("engine = \"embedded\"", built),
        ("engine = \"nats\"", unbuilt),
        ("path = \"state/fedgate.db\"\nurl = \"nats://127.0.0.1:4222\"", built),
        ("engine = \"embedded\"\npath = \"elsewhere.db\"", built),
        ("url = \"nats://192.0.2.1:4222\"", unbuilt),
    ];
    for (text, is_built) in state {
        judge(text, is_built, &errors_with("engine = \"memory\"", text));
    }
    let node = [
        ("tls = false\nsources = []\nusers = [\"*\"]\nrole = \"routing\"\npriority = 0\nweight = 1", built),
        ("verify = \"network\"\nprofile = \"generic\"\npublic_port = 0\ncomponents = []", built),
        ("verify = \"dialback\"\nprofile = \"jabber\"\nrole = \"member\"", built),
        ("tls = { name = \"imp-1.corp.example\" }", built),
        ("public_port = 5071", unbuilt),
    ];
    for (text, is_built) in node {
        judge(text, is_built, &errors_with("protocol = \"xmpp\"", &format!("protocol = \"xmpp\"\n{text}")));
    }
    let node = [
        ("tls = false\nsources = []\nusers = [\"*\"]\nrole = \"member\"\npriority = 1\nweight = 2", built),
        ("verify = \"network\"\nprofile = \"jabber\"\npublic_port = 5071\ncomponents = []", built),
    ];
    for (text, is_built) in node {
        judge(text, is_built, &errors_with("protocol = \"xmpp\"", &format!("protocol = \"sip\"\n{text}")));
    }
    judge("component", built, &errors_with("protocol = \"xmpp\"", "protocol = \"xmpp-component\"\nsecret = \"s\""));
    let partner = [
        ("also = []\ndirection = \"both\"\nallow = [\"subscribe\", \"presence\", \"message\", \"chat\"]", built),
        ("tls = \"required\"\nproof = [\"certificate\"]\nidentity = \"domain\"\ntrust = []\neku = \"any\"", built),
        ("networks = []\nnext_hop = \"\"\nhtml = \"to-text\"\nprefer = false", built),
        ("limits = { messages_per_second = 50, subscriptions = 10000, links = 8, body_bytes = 65536 }", built),
        ("html = \"basic\"", unbuilt),
        ("html = \"refuse\"", built),
        ("prefer = true", built),
    ];
    for (text, is_built) in partner {
        judge(text, is_built, &policy_errors(&format!("{POLICIES}{text}\n")));
    }
    for chat in ["session", "auto"] {
        let text = POLICIES.replace("page", chat);
        judge(&text, built, &policy_errors(&text));
    }
    let rest = "[default]\nunlisted = \"stranger\"\n[stranger]\nallow = [\"subscribe\"]\n\
                limits = { messages_per_second = 1, targets_per_hour = 50 }\n\
                [[rule]]\nname = \"r\"\nfrom = \"*@lync.example\"\nto = \"board-*@corp.example\"\ndo = [\"subscribe\"]\nanswer = \"polite\"\n\
                [[expect]]\nfrom = \"sip:mallory@unknown.example\"\nto = \"alice@corp.example\"\ndo = \"message\"\nanswer = \"refuse\"\n";
    judge(rest, built, &policy_errors(rest));
}

fn judge(text: &str, is_built: bool, errors: &[String]) {
    if is_built {
        assert!(errors.is_empty(), "{text}\n{errors:#?}");
    } else {
        assert!(errors.len() == 1 && errors[0].contains("not in this version; "), "{text}\n{errors:#?}");
    }
}

#[test]
fn certificates_must_fit() {
    let edge = "certificate = \"certs/edge.pem\"\nkey = \"certs/edge.key\"";
    let with = |name: &str| {
        let files = format!("certificate = \"certs/{name}.pem\"\nkey = \"certs/{name}.key\"");
        errors_with(edge, &files)
    };
    pretty(
        &with("expired"),
        &[
            "fedgate.toml:7:15: error: identity[0].certificate: the certificate expired on 2025-01-15; have a new one issued",
        ],
    );
    pretty(
        &with("wildcard"),
        &[
            "fedgate.toml:7:15: error: identity[0].certificate: the certificate does not name sip.corp.example, but *.corp.example; \
           have sip.corp.example put into it: SIP partners take no wildcards (RFC 5922 §7.2)",
        ],
    );
    pretty(
        &errors_with("certs/edge.key", "certs/wildcard.key"),
        &["fedgate.toml:8:7: error: identity[0].key: this key does not belong to the certificate; \
           name the key that the certificate was made for"],
    );
    let swapped = errors_with(edge, "certificate = \"certs/edge.key\"\nkey = \"certs/edge.pem\"").join("\n");
    assert!(swapped.contains("identity[0].certificate: holds no certificate"), "{swapped}");
    assert!(swapped.contains("identity[0].key: holds no private key"), "{swapped}");
    let world = World::new();
    world.write("fedgate.toml", &FEDGATE.replace("certs/edge", "certs/expiring"));
    assert!(world.errors().is_empty());
    let warnings = world.problems(Severity::Warning);
    assert!(warnings[0].contains("the certificate expires on 2026-01-15"), "{warnings:?}");
}

#[test]
fn microsofts_rule_is_a_warning() {
    let world = World::new();
    world.write("fedgate.toml", &FEDGATE.replace("[\"corp.example\"]", "[\"corp.example\", \"corp.test\"]"));
    assert!(world.errors().is_empty());
    pretty(
        &world.problems(Severity::Warning),
        &[
            "fedgate.toml:5:12: warning: identity[0].hostname: sip.corp.example is not exactly one label below corp.test, \
           which Microsoft's partners demand; use a name like sip.corp.test if Lync or OCS partners are to reach corp.test",
        ],
    );
}

#[test]
fn secrets_are_made_at_a_start_and_only_then() {
    let world = World::new();
    let literal = "secrets = [\"0123456789abcdef0123456789abcdef\"]";
    world.write("fedgate.toml", &FEDGATE.replace(literal, "secrets = [\"file:state/secret\"]"));
    let path = world.path().join("state/secret");
    assert!(world.problems(Severity::Note).iter().any(|note| note.contains("state/secret does not exist yet")));
    assert!(!path.exists());
    let start = || config::load(&world.path().join("fedgate.toml"), Options::start(NOW)).into_result().unwrap();
    let made = start().link.secrets;
    assert_eq!(made[0].len(), 64);
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&path.metadata().unwrap().permissions()) & 0o777, 0o600);
    assert_eq!(start().link.secrets, made, "a second start keeps it");
    assert_eq!(world.load().link.secrets, made);
    for (text, what) in [
        ("secrets = [\"short\"]", "too short"),
        ("secrets = []", "there is no secret"),
        ("secrets = [\"env:FEDGATE_TEST_NOT_SET\"]", "the environment has no FEDGATE_TEST_NOT_SET"),
        ("secrets = [\"0123456789abcdef\", \"file:old\"]", "old does not exist"),
    ] {
        let errors = errors_with(literal, text);
        assert!(errors.len() == 1 && errors[0].contains(what), "{text} {errors:?}");
    }
}

#[test]
fn what_contradicts_itself_is_told() {
    for (text, what) in [
        ("[admin]\nlisten = \"0.0.0.0:9630\"", "0.0.0.0:9630 is on the outside"),
        (
            "[outside]\nsip = [\"192.0.2.1:5061\"]\n[admin]\nlisten = \"192.0.2.1:9630\"",
            "192.0.2.1:9630 is on the outside",
        ),
        (&format!("[admin]\nsocket = \"/{}\"", "x".repeat(96)), "has 97 bytes; a socket's path may have 96"),
        ("[outside]\nsip = [\"127.0.0.1:5270\"]", "two listeners want 127.0.0.1:5270"),
        ("[inside]\nxmpp = [\"127.0.0.1:15269\"]", "127.0.0.1:15269 is our own [inside] xmpp"),
        ("[inside]\nnetworks = [\"10.0.0.0/33\"]", "not a network"),
        ("[presence]\nexpires = \"5m\"", "minimum is longer than expires"),
        ("[limits]\nstanza_bytes = 9999", "9999 is out of bounds; write a number from 10000 to 16777216"),
        ("[dns.records]\n\"_sip._tls.a.example\" = [\"127.0.0.1\"]", "an SRV record is a table"),
        ("[dns.records]\n\"a.example\" = [{ target = \"b.example\", port = 1 }]", "is a table, not a text"),
        (
            "[[identity]]\nhostname = \"sip.corp.example\"\ndomains = [\"corp.example\"]\ncertificate = \"certs/edge.pem\"\nkey = \"certs/edge.key\"",
            "also a domain of identity[0]",
        ),
        (
            "[[node]]\nname = \"imp-1\"\nprotocol = \"xmpp\"\naddress = \"127.0.0.2:5269\"\ndomains = [\"corp.example\"]",
            "two nodes are named imp-1",
        ),
        (
            "[[node]]\nname = \"imp-2\"\nprotocol = \"xmpp\"\naddress = \"127.0.0.1:15269\"\ndomains = [\"corp.example\"]",
            "imp-1 is at 127.0.0.1:15269 too",
        ),
    ] {
        // `minimum` must be written for its own contradiction.
        let text = text.replace("expires = \"5m\"", "expires = \"5m\"\nminimum = \"10m\"");
        let errors = errors_after(&format!("{text}\n"));
        assert!(errors.len() == 1 && errors[0].contains(what), "{text}\n{errors:#?}");
    }
    let none = errors_with("[[identity]]", "[[identities]]").join("\n");
    assert!(none.contains("there is no [[identity]]") && none.contains("did you mean \"identity\"?"), "{none}");
    let untrusting = errors_with("trust = [\"certs/ca.pem\"]\n", "").join("\n");
    assert!(untrusting.contains("no [tls] trust"), "{untrusting}");
}

#[test]
fn overlapping_nodes_are_warned_of_and_sharing_ones_are_not() {
    let node = |users: &str, priority: u8| {
        let world = World::new();
        let second =
            "name = \"imp-2\"\nprotocol = \"xmpp\"\naddress = \"127.0.0.2:5269\"\ndomains = [\"corp.example\"]";
        world.write("fedgate.toml", &format!("{FEDGATE}[[node]]\n{second}\nusers = {users}\npriority = {priority}\n"));
        assert!(world.errors().is_empty());
        world.problems(Severity::Warning)
    };
    assert_eq!(node("[\"*\"]", 0).len(), 0, "the same users: they share the load");
    assert_eq!(node("[\"a*\"]", 1).len(), 0, "asked later");
    let overlap = node("[\"a*\"]", 0);
    assert!(overlap.len() == 1 && overlap[0].contains("users = \"a*\" overlaps \"*\" of imp-1"), "{overlap:?}");
}

#[test]
fn partner_entries_are_checked() {
    for (entry, what) in [
        ("domain = \"corp.example\"\nprotocol = \"sip\"", "corp.example is ours"),
        ("domain = \"a.example\"\nprotocol = \"sip\"\nalso = [\"corp.example\"]", "corp.example is ours"),
        ("domain = \"lync.*\"\nprotocol = \"sip\"", "a wildcard stands for whole labels at the front"),
        ("domain = \"a.example\"\nprotocol = \"sip\"\ntls = \"optional\"", "tls = \"optional\" is for XMPP only"),
        ("domain = \"a.example\"\nprotocol = \"sip\"\nproof = [\"dialback\"]", "dialback is for XMPP only"),
        ("domain = \"a.example\"\nprotocol = \"xmpp\"\ntls = \"off\"", "without TLS there is no certificate"),
        ("domain = \"a.example\"\nprotocol = \"xmpp\"\nidentity = \"edge-in-domain\"", "Microsoft's rule for SIP"),
        ("domain = \"a.example\"\nprotocol = \"sip\"\nproof = []", "there is no proof to accept"),
        ("domain = \"a.example\"\nprotocol = \"sip\"\nnetworks = [\"10.0.0.0/99\"]", "not a network"),
        ("domain = \"a.example\"\nprotocol = \"sip\"\nnext_hop = \"sip.a.example\"", "has no port"),
        (
            "domain = \"a.example\"\nprotocol = \"sip\"\nallow = [\"subscribe\", \"shout\"]",
            "partner[0].allow[1]: \"shout\"",
        ),
        ("domain = \"a.example\"\nprotocol = \"sip\"\nlimits = { links = 0 }", "0 is out of bounds"),
        ("domain = \"a.example\"\nprotocol = \"sip\"\nlimits = { link = 1 }", "did you mean \"links\"?"),
        ("domain = \"a.example\"\nprotocol = \"sip\"\ntrust = [\"none.pem\"]", "none.pem does not exist"),
        (
            "domain = \"a.example\"\nprotocol = \"sip\"\n[[partner]]\ndomain = \"A.example.\"\nprotocol = \"sip\"",
            "a.example over sip is listed in",
        ),
        (
            "domain = \"a.example\"\nprotocol = \"sip\"\n[[partner]]\ndomain = \"b.example\"\nprotocol = \"sip\"\nalso = [\"a.example\"]",
            "a.example has its own entry in",
        ),
    ] {
        let errors = policy_errors(&format!("[[partner]]\n{entry}\n"));
        assert!(errors.len() == 1 && errors[0].contains(what), "{entry}\n{errors:#?}");
    }
    // Two protocols are two entries; a wildcard may cover our own domain.
    let fine = "[[partner]]\ndomain = \"a.example\"\nprotocol = \"sip\"\n[[partner]]\ndomain = \"a.example\"\nprotocol = \"xmpp\"\n\
                [[partner]]\ndomain = \"*.example\"\nprotocol = \"sip\"\n";
    assert_eq!(policy_errors(fine), [""; 0]);
}

#[test]
fn rules_are_checked() {
    for (rule, what) in [
        ("from = \"*\"\nto = \"*@*\"\nanswer = \"refuse\"", "rule[0].from: \"*\": has no \"@\""),
        ("from = \"*@*\"\nto = \"a@b@c\"\nanswer = \"refuse\"", "rule[0].to: \"a@b@c\": has more than one \"@\""),
        ("from = \"*@*\"\nto = \"*@*\"\nanswer = \"deny\"", "write one of \"allow\", \"refuse\", \"polite\""),
        ("from = \"*@*\"\nto = \"*@*\"\nanswer = \"refuse\"\ndo = []", "the rule speaks of no action"),
        (
            "from = \"*@*\"\nto = \"*@*\"\nanswer = \"polite\"\ndo = [\"message\"]",
            "only a subscription can be answered politely",
        ),
    ] {
        let errors = policy_errors(&format!("[[rule]]\nname = \"r\"\n{rule}\n"));
        assert!(errors.len() == 1 && errors[0].contains(what), "{rule}\n{errors:#?}");
    }
}

#[test]
fn an_expectation_that_fails_is_a_problem_with_its_line() {
    let expect = |from: &str, answer: &str| {
        format!(
            "\n[[expect]]\nfrom = \"{from}\"\nto = \"alice@corp.example\"\ndo = \"message\"\nanswer = \"{answer}\"\n"
        )
    };
    let met = expect("bob@lync.example", "allow") + &expect("sip:m@unknown.example", "refuse");
    assert_eq!(policy_errors(&format!("{POLICIES}{met}")), [""; 0]);
    let world = World::new();
    world.write(
        "policies/20-expect.toml",
        &format!("{}{}", expect("bob@lync.example", "refuse"), expect("m@u.example", "allow")),
    );
    let errors = world.errors();
    assert_eq!(errors.len(), 2);
    let first = "policies/20-expect.toml:2:1: error: expect[0]: bob@lync.example to alice@corp.example, message: \
                 expected \"refuse\", but policy says \"allow\": policies/10-partners.toml:1 allows lync.example to message";
    assert!(errors[0].starts_with(first), "{}", errors[0]);
    assert!(errors[1].starts_with("policies/20-expect.toml:8:1: error: expect[1]"), "{}", errors[1]);
}

#[test]
fn a_node_that_may_not_connect_is_warned_of() {
    let world = World::new();
    world.write("fedgate.toml", &FEDGATE.replace("127.0.0.1:15269", "10.0.0.7:5269"));
    pretty(
        &world.problems(Severity::Warning),
        &[
            "fedgate.toml:13:1: warning: node[0]: imp-1 connects from 10.0.0.7/32, which [inside] networks do not let in; \
           add 10.0.0.7/32 to [inside] networks",
        ],
    );
}

#[test]
fn hosts_are_left_to_be_resolved() {
    let world = World::new();
    world.write("fedgate.toml", &FEDGATE.replace("127.0.0.1:15269", "imp-1.corp.example:5269"));
    let mut loaded = world.load();
    let [unresolved] = &loaded.unresolved[..] else { panic!("one name") };
    assert_eq!(unresolved.host, "imp-1.corp.example");
    assert!(loaded.gate.nodes[0].sources.is_empty());
    let node = unresolved.node;
    loaded.resolve(node, &["10.0.0.7".parse().unwrap()]);
    assert_eq!(loaded.link.nodes[0].sources, ["10.0.0.7/32".parse().unwrap()]);
    assert_eq!(loaded.gate.nodes[0].sources, loaded.link.nodes[0].sources);
}

#[test]
fn files_that_are_not_there_are_told() {
    let world = World::new();
    world.write("fedgate.toml", &FEDGATE.replace("\"policies\"", "\"nowhere\""));
    assert!(world.errors()[0].contains("edge.policies: nowhere does not exist"), "{:?}", world.errors());
    std::fs::remove_file(world.path().join("fedgate.toml")).unwrap();
    assert!(
        world.errors()[0].starts_with("fedgate.toml: error: does not exist; name a file with --config"),
        "{:?}",
        world.errors()
    );
}

// The shipped examples, and the two commands that read them.

fn shipped() -> World {
    let world = World::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    world.write("fedgate.toml", &std::fs::read_to_string(root.join("deploy/fedgate.toml")).unwrap());
    std::fs::remove_dir_all(world.path().join("policies")).unwrap();
    for entry in std::fs::read_dir(root.join("policies")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        world.write(&format!("policies/{name}"), &std::fs::read_to_string(&path).unwrap());
    }
    world
}

#[test]
fn the_shipped_examples_load_without_a_complaint() {
    let world = shipped();
    let loaded = world.load();
    assert_eq!(world.problems(Severity::Warning), [""; 0]);
    assert!(loaded.gate.policy.partners.len() >= 2 && loaded.expectations.len() >= 5);
}

/// What the example says of a key is what leaving it out means, so the comments can be believed.
#[test]
fn the_shipped_example_shows_the_defaults() {
    let world = shipped();
    let shown = world.load();
    let bare = FEDGATE.replace("secrets = [\"0123456789abcdef0123456789abcdef\"]\n", "");
    let bare = bare.replace("127.0.0.1:15269", "127.0.0.1:5269");
    world.write("fedgate.toml", &bare);
    let bare = world.load();
    assert_eq!(shown.edge.outside, bare.edge.outside);
    assert_eq!(shown.edge.inside, bare.edge.inside);
    assert_eq!(shown.edge.dns, bare.edge.dns);
    assert_eq!(shown.edge.admin, bare.edge.admin);
    assert_eq!(shown.edge.log, bare.edge.log);
    assert_eq!(shown.gate.presence, bare.gate.presence);
    assert_eq!(shown.gate.limits, bare.gate.limits);
    assert_eq!(shown.gate.nodes, bare.gate.nodes);
    assert_eq!(shown.link.secrets, bare.link.secrets);
}

#[test]
fn state_is_kept_in_a_file_unless_memory_is_asked_for() {
    let world = World::new();
    assert_eq!(world.load().edge.state, State::Memory);
    for (state, file) in [
        ("", "state/fedgate.db"),
        ("engine = \"embedded\"", "state/fedgate.db"),
        ("engine = \"embedded\"\npath = \"x/y.db\"", "x/y.db"),
        ("path = \"/var/lib/fedgate/fedgate.db\"", "/var/lib/fedgate/fedgate.db"),
    ] {
        world.write("fedgate.toml", &FEDGATE.replace("engine = \"memory\"", state));
        assert_eq!(world.load().edge.state, State::Embedded { path: world.path().join(file) });
    }
    assert!(errors_with("engine = \"memory\"", "engine = \"sqlite\"")[0].contains("write one of"));
    assert!(errors_with("engine = \"memory\"", "path = \"\"")[0].contains("state.path: is empty"));
}

#[test]
fn state_goes_out_and_comes_back_and_is_checked() {
    let world = World::new();
    world.write("fedgate.toml", &FEDGATE.replace("engine = \"memory\"", ""));
    let stderr = |output: &Output| String::from_utf8(output.stderr.clone()).unwrap();
    let absent = fedgate(&world, &["state", "export"]);
    assert_eq!(absent.status.code(), Some(1));
    assert!(stderr(&absent).contains("state/fedgate.db: there is no state store"), "{}", stderr(&absent));

    let checked = fedgate(&world, &["check"]);
    let text = stdout(&checked);
    assert!(text.contains("note: state.path: there is no state store yet"), "{text}");
    assert!(checked.status.success() && !world.path().join("state").exists(), "{text}");

    // Made as the edge makes it.
    let path = world.path().join("state/fedgate.db");
    let (id, entry) = ("0123456789".to_owned(), r#"{"id":"0123456789","verdict":"refused"}"#.to_owned());
    let mut store = Embedded::open(&path).unwrap();
    store.commit(&[Change::Decided { id, entry }]).unwrap();
    let checked = fedgate(&world, &["check"]);
    assert!(stdout(&checked).contains("note: state.path: the state store is in use"), "{}", stdout(&checked));
    let locked = fedgate(&world, &["state", "export"]);
    assert_eq!(locked.status.code(), Some(1));
    assert!(stderr(&locked).contains("stop the edge first"), "{}", stderr(&locked));
    drop(store);

    let checked = fedgate(&world, &["check"]);
    assert!(stdout(&checked).contains("0 records\n  1 decisions"), "{}", stdout(&checked));
    let json: serde_json::Value = serde_json::from_slice(&fedgate(&world, &["check", "--json"]).stdout).unwrap();
    assert_eq!(json["state"]["decisions"], 1);
    let export = fedgate(&world, &["state", "export"]);
    assert_eq!((export.status.code(), stdout(&export).lines().count()), (Some(0), 3), "{}", stderr(&export));
    assert_eq!(fedgate(&world, &["state", "export", "backup.jsonl"]).status.code(), Some(0));
    assert_eq!(std::fs::read_to_string(world.path().join("backup.jsonl")).unwrap(), stdout(&export));

    let refused = fedgate(&world, &["state", "import", "backup.jsonl"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("--replace"), "{}", stderr(&refused));
    assert_eq!(fedgate(&world, &["state", "import", "--replace", "backup.jsonl"]).status.code(), Some(0));
    let again = Embedded::open(&path).unwrap().decision("o123456789").unwrap();
    assert!(again.is_some_and(|entry| entry.contains("refused")));

    world.write("state/fedgate.db", "garbage");
    let checked = fedgate(&world, &["check"]);
    assert_eq!(checked.status.code(), Some(1));
    assert!(stdout(&checked).contains("error: state.path: the state store is corrupt"), "{}", stdout(&checked));
    assert!(stdout(&checked).contains("1 error"), "{}", stdout(&checked));
    let missing = stderr(&fedgate(&world, &["state", "import", "nowhere.jsonl"]));
    assert!(missing.contains("nowhere.jsonl: can't be read: No such file") && !missing.contains("line"), "{missing}");
    let folder = stderr(&fedgate(&world, &["state", "import", "--replace", "state"]));
    assert!(folder.contains("state: can't be read: Is a directory") && !folder.contains("line"), "{folder}");
    let memory = World::new();
    assert!(stderr(&fedgate(&memory, &["state", "export"])).contains("engine = \"memory\""));
}

/// No edge answers here: an ID is looked for in the store, and in the audit whatever becomes of the store.
#[test]
fn an_id_is_found_in_the_store_or_the_audit_and_neither_is_changed() {
    let world = World::new();
    let config = FEDGATE.replace("engine = \"memory\"", "");
    world.write("fedgate.toml", &format!("{config}\n[admin]\nlisten = \"\"\nsocket = \"admin.sock\"\n"));
    let path = world.path().join("state/fedgate.db");
    let entry = |id: &str| format!(r#"{{"id":"{id}","verdict":"refused","reason":"rule"}}"#);
    let in_store = entry("0123456789");
    let mut store = Embedded::open(&path).unwrap();
    store.commit(&[Change::Decided { id: "0123456789".to_owned(), entry: in_store }]).unwrap();
    world.write("audit.jsonl", &format!("{}\n", entry("7ZQ4M0T1XK")));
    let explain = |id: &str| {
        let output = fedgate(&world, &["explain", "--json", id]);
        (
            serde_json::from_slice(&output.stdout).unwrap_or(serde_json::Value::Null),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    // Somebody else has the store.
    assert_eq!(explain("7zq4mot1xk").0["id"], "7ZQ4M0T1XK");
    let (nothing, error) = explain("0123456789");
    assert!(nothing.is_null() && error.contains("does not lead to"), "{error}");
    // As a kill leaves it: opening it would write.
    let killed = std::fs::read(&path).unwrap();
    drop(store);
    std::fs::write(&path, &killed).unwrap();
    assert_eq!(explain("0123456789").0["id"], "0123456789");
    assert_eq!(explain("7ZQ4M0T1XK").0["id"], "7ZQ4M0T1XK");
    let (nothing, error) = explain("AAAAAAAAAA");
    assert!(nothing.is_null() && error.contains("no decision AAAAAAAAAA"), "{error}");
    let replayed = stdout(&fedgate(&world, &["explain", "--replay"]));
    assert!(replayed.contains("0 decisions replayed, 0 would change; 1 are not"), "{replayed}");
    assert!(std::fs::read(&path).unwrap() == killed, "looking has written");
    // Two may look at once.
    let look = Embedded::look(&path).unwrap();
    assert_eq!(explain("0123456789").0["id"], "0123456789");
    assert!(Embedded::open(&path).is_err());
    drop(look);
    world.write("state/fedgate.db", "garbage");
    assert_eq!(explain("7ZQ4M0T1XK").0["id"], "7ZQ4M0T1XK");
    assert!(explain("0123456789").1.contains("corrupt"));
}

/// A policy is asked as it was then: with the address that the partner came from.
#[test]
fn a_replay_knows_where_a_partner_came_from() {
    let world = World::new();
    let config = FEDGATE.replace("engine = \"memory\"", "");
    world.write("fedgate.toml", &format!("{config}\n[admin]\nlisten = \"\"\nsocket = \"admin.sock\"\n"));
    let partner = |network: &str| {
        let entry = "[[partner]]\ndomain = \"lync.example\"\nprotocol = \"sip\"\nprofile = \"lync\"\n";
        world.write("policies/10-partners.toml", &format!("{entry}networks = [\"{network}\"]\n"));
    };
    let decided = |id: &str, from: &str, peer: serde_json::Value, reason: serde_json::Value| Change::Decided {
        id: id.to_owned(),
        entry: serde_json::json!({
            "id": id, "verdict": if reason.is_null() { "allowed" } else { "refused" }, "reason": reason, "from": from,
            "to": "alice@corp.example", "action": "message", "side": "outside", "protocol": "sip", "peer": peer,
        })
        .to_string(),
    };
    let mut store = Embedded::open(&world.path().join("state/fedgate.db")).unwrap();
    let changes = [
        decided("0000000001", "bob@lync.example", "198.51.100.9:40001".into(), "not-allowed".into()),
        decided("0000000002", "eve@lync.example", "[::ffff:192.0.2.9]:40002".into(), serde_json::Value::Null),
        decided("0000000003", "dan@lync.example", serde_json::Value::Null, serde_json::Value::Null),
    ];
    store.commit(&changes).unwrap();
    drop(store);
    partner("192.0.2.0/24");
    let same = fedgate(&world, &["explain", "--replay"]);
    assert!(stdout(&same).contains("3 decisions replayed, 0 would change"), "{}", stdout(&same));
    partner("198.51.100.0/24");
    let other = stdout(&fedgate(&world, &["explain", "--replay"]));
    assert!(other.contains("was not-allowed (0000000001), now allowed\n"), "{other}");
    assert!(
        other.contains("was allowed (0000000002), now not-allowed: ") && other.contains("2 would change"),
        "{other}"
    );
}

fn fedgate(world: &World, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_fedgate")).args(arguments).current_dir(world.path()).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn check_tells_settings_and_dns() {
    let world = shipped();
    let output = fedgate(&world, &["check"]);
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    for line in [
        "0 errors, 0 warnings",
        "lync.example over sip   policies/10-partners.toml:",
        "identity   edge-in-domain",
        "_sipfederationtls._tcp.corp.example. SRV 0 0 5061 sip.corp.example.",
        "_xmpp-server._tcp.lync.example. SRV 0 0 5270 edge.fedgate.internal.",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    let unbound = stdout(&fedgate(&world, &["check", "--dns", "unbound"]));
    assert!(
        unbound.contains("local-data: \"_xmpp-server._tcp.lync.example. 300 IN SRV 0 0 5270 edge.fedgate.internal.\"")
    );
    assert!(unbound.contains("local-zone: \"_xmpps-server._tcp.lync.example.\" always_nxdomain"));
    assert!(unbound.contains("_xmpp-server._tcp.supplier.example."));
    let dnsmasq = stdout(&fedgate(&world, &["check", "--dns", "dnsmasq"]));
    assert!(dnsmasq.contains("srv-host=_xmpp-server._tcp.lync.example,edge.fedgate.internal,5270,0,0\n"));
    assert!(dnsmasq.contains("host-record=edge.fedgate.internal,127.0.0.1\n"));
}

#[test]
fn check_fails_when_there_is_an_error() {
    let world = shipped();
    world.write("policies/99-typo.toml", "[[partner]]\ndomian = \"x.example\"\n");
    let output = fedgate(&world, &["check", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let json: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(json["ok"], false);
    let errors: Vec<_> = json["problems"].as_array().unwrap().iter().filter(|it| it["severity"] == "error").collect();
    assert_eq!(errors.len(), 3);
    let typo = errors.iter().find(|it| it["key"] == "partner[0].domian").unwrap();
    assert_eq!((&typo["file"], &typo["line"]), (&"policies/99-typo.toml".into(), &2.into()));
    assert_eq!(typo["mend"], "did you mean \"domain\"?");
    assert_eq!(fedgate(&world, &["check", "--dns", "unbound"]).status.code(), Some(1));
}

#[test]
fn explain_tells_why() {
    let world = shipped();
    let ask =
        |from: &str, to: &str, action: &str| fedgate(&world, &["explain", "--from", from, "--to", to, "--do", action]);
    let allowed = ask("bob@lync.example", "alice@corp.example", "message");
    assert_eq!(allowed.status.code(), Some(0));
    assert!(stdout(&allowed).ends_with("allowed\n"), "{}", stdout(&allowed));
    let refused = ask("sip:bob@lync.example", "board-anna@corp.example", "subscribe");
    assert_eq!(refused.status.code(), Some(1));
    let text = stdout(&refused);
    for line in [
        "[[partner]] lync.example over sip",
        "no  policies/20-rules.toml:4 rule \"no-presence-for-the-board\" refuses",
        "refused: rule\n",
        "the sender gets: SIP 403, Warning: 399 sip.corp.example \"fedgate ID rule refused by policy\"",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    let outbound = stdout(&ask("alice@corp.example", "carol@unknown.example", "message"));
    assert!(
        outbound.contains("the sender gets: XMPP policy-violation (cancel), text: fedgate ID unlisted-domain"),
        "{outbound}"
    );
    let xmpp = stdout(&ask("xmpp:x@unknown.example/r", "alice@corp.example", "message"));
    assert!(
        xmpp.contains("the sender gets: XMPP stream error policy-violation, text: fedgate ID unlisted-domain"),
        "{xmpp}"
    );
    let json = ["explain", "--json", "--from", "a@corp.example", "--to", "b@lync.example", "--do", "call"];
    let json: serde_json::Value = serde_json::from_str(&stdout(&fedgate(&world, &json))).unwrap();
    assert_eq!((&json["answer"], &json["reason"]), (&"refuse".into(), &"not-allowed".into()));
    assert_eq!(json["steps"].as_array().unwrap().last().unwrap()["passed"], false);
}

#[test]
fn wrong_usage_is_two() {
    let world = World::new();
    for arguments in [
        &["explain", "--from", "a@b.example"][..],
        &["explain", "--from", "a@b.example", "--to", "c@d.example", "--do", "shout"],
        &["explain", "--from", "a b", "--to", "c@d.example", "--do", "message"],
        &["explain"],
        &["check", "--dns", "bind"],
        &["status", "--jsn"],
        &["probe", "lync.example"],
        &["record", "lync.example", "--bodies"],
        &["reload", "now"],
        &["drain", "--no-weight"],
        &["nonsense"],
        &[],
    ] {
        let output = fedgate(&world, arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(!output.stderr.is_empty(), "{arguments:?}");
    }
    let probe = fedgate(&world, &["probe", "lync.example"]);
    assert!(String::from_utf8_lossy(&probe.stderr).contains("not in this version; "));
    assert!(stdout(&fedgate(&world, &["completions", "bash"])).contains("fedgate"));
}

#[test]
fn listeners_may_each_take_any_free_port() {
    let text =
        "[outside]\nsip = [\"127.0.0.1:0\"]\n[inside]\nxmpp = [\"127.0.0.1:0\"]\n[admin]\nlisten = \"127.0.0.1:0\"\n";
    assert_eq!(errors_after(text), [""; 0]);
}

/// [`FEDGATE`] with its node attached as a component.
fn component(further: &str, policies: &str) -> World {
    let world = World::new();
    let node = format!("protocol = \"xmpp-component\"\nsecret = \"s3cr3t\"\n{further}");
    world.write("fedgate.toml", &FEDGATE.replace("protocol = \"xmpp\"", &node));
    world.write("policies/10-partners.toml", policies);
    world
}

const OCS: &str =
    "[[partner]]\ndomain = \"ocs.example\"\nalso = [\"live.ocs.example\"]\nprotocol = \"sip\"\nchat = \"page\"\n";

#[test]
fn components_are_the_exact_sip_partners() {
    let jabber = "[[partner]]\ndomain = \"jabber.example\"\nprotocol = \"xmpp\"\n";
    let policies = format!("{POLICIES}{OCS}{jabber}");
    let names = |world: &World| {
        let loaded = world.load();
        assert_eq!(loaded.gate.nodes, loaded.link.nodes);
        let component = loaded.gate.nodes[0].component.clone().unwrap();
        assert_eq!(component.secret.0, b"s3cr3t");
        assert!(!format!("{component:?}").contains("115"), "a secret is never shown");
        component.domains.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let all = component("", &policies);
    assert_eq!(names(&all), ["live.ocs.example", "lync.example", "ocs.example"]);
    assert!(!all.problems(Severity::Warning).iter().any(|warning| warning.contains("its `components`")));
    let one = component("components = [\"Lync.example\", \"lync.example\"]", &policies);
    assert_eq!(names(&one), ["lync.example"]);
    let mut warnings = one.problems(Severity::Warning);
    warnings.retain(|warning| warning.contains("its `components`"));
    assert_eq!(warnings.len(), 2, "{warnings:#?}");
    assert!(warnings.iter().any(|w| w.contains("ocs.example is not among its `components`")), "{warnings:#?}");
    // A partner that speaks XMPP can be listed, too.
    assert_eq!(names(&component("components = [\"jabber.example\"]", &policies)), ["jabber.example"]);
    // A name that a wildcard entry speaks of is a name.
    let wide = "[[partner]]\ndomain = \"*.wide.example\"\nprotocol = \"sip\"\nchat = \"page\"\n";
    assert_eq!(names(&component("components = [\"a.wide.example\"]", wide)), ["a.wide.example"]);
}

#[test]
fn what_a_component_cannot_serve_is_refused() {
    let wide = "[[partner]]\ndomain = \"*.wide.example\"\nprotocol = \"sip\"\nchat = \"page\"\n";
    let strangers = "[default]\nunlisted = \"stranger\"\n";
    let second = "address = \"127.0.0.1:15269\"\ndomains = [\"corp.example\"]\n[[node]]\nname = \"imp-2\"\n\
                  protocol = \"xmpp-component\"\nsecret = \"s\"\n";
    let cases = [
        (
            component("components = [\"*.lync.example\"]", POLICIES),
            "a component has one name, and *.lync.example is many",
        ),
        (component("components = [\"corp.example\"]", POLICIES), "is a local domain"),
        (component("components = [\"lync.test\"]", POLICIES), "no entry of the policies speaks of lync.test: nothing"),
        (component("", &format!("{POLICIES}{wide}")), "*.wide.example (policies/10-partners.toml:6) speaks of many"),
        (component("", &format!("{POLICIES}{strangers}")), "unlisted = \"stranger\" speaks of many"),
        (component(second, POLICIES), "imp-1 is attached to the same server as lync.example already"),
    ];
    for (world, error) in cases {
        let errors = world.errors();
        let expected = errors.len() == 1 && errors[0].contains(error) && errors[0].contains("; ");
        assert!(expected, "{error}\n{errors:#?}");
    }
    let divided = format!(
        "components = [\"lync.example\"]
{second}components = [\"ocs.example\", \"live.ocs.example\"]"
    );
    let divided = component(&divided, &format!("{POLICIES}{OCS}"));
    assert_eq!(divided.errors(), Vec::<String>::new());
    // The secret, and the keys of other kinds of nodes.
    let with = |node: &str| errors_with("protocol = \"xmpp\"", node);
    let component = "protocol = \"xmpp-component\"";
    assert!(with(component).iter().any(|e| e.contains("secret is missing")));
    assert!(with(&format!("{component}\nsecret = \"\"")).iter().any(|e| e.contains("the secret is empty")));
    assert!(
        with(&format!("{component}\nsecret = \"env:NOT_THERE_AT_ALL\"")).iter().any(|e| e.contains("no NOT_THERE"))
    );
    assert!(with(&format!("{component}\nsecret = \"file:none\"")).iter().any(|e| e.contains("does not exist")));
    for key in ["components = [\"lync.example\"]", "secret = \"s\""] {
        let errors = with(&format!("protocol = \"xmpp\"\n{key}"));
        assert!(
            errors.len() == 1 && errors[0].contains("only a node with protocol = \"xmpp-component\""),
            "{errors:#?}"
        );
    }
}

#[test]
fn check_tells_how_to_configure_components() {
    let world = component("", &format!("{POLICIES}{OCS}"));
    let text = stdout(&fedgate(&world, &["check"]));
    for line in [
        "none: what is for partners goes to the components below",
        "component_ports = { 15269 }",
        "    Component \"lync.example\"\n      component_secret = \"SECRET\"\n",
        "      port: 15269\n      module: ejabberd_service\n",
        "        \"live.ocs.example\":\n          password: \"SECRET\"\n",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    assert!(!text.contains("s3cr3t"));
    let json = stdout(&fedgate(&world, &["check", "--json"]));
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["components"][0]["node"], "imp-1");
    assert_eq!(json["components"][0]["domains"].as_array().map(Vec::len), Some(3));
}

#[test]
fn the_shipped_example_of_a_component_works() {
    let shipped = include_str!("../deploy/fedgate.toml");
    let (_, example) = shipped.split_once("# [[node]]\n").unwrap();
    let lines = example.lines().map_while(|line| line.strip_prefix("# "));
    let node: String = lines.map(|line| format!("{line}\n")).collect();
    let node = node.replace("env:FEDGATE_NODE_SECRET", "s3cr3t");
    let world = World::new();
    let (before, rest) = FEDGATE.split_once("[[node]]\n").unwrap();
    let (_, after) = rest.split_once("\n\n").unwrap();
    world.write("fedgate.toml", &format!("{before}[[node]]\n{node}\n{after}"));
    assert_eq!(world.load().gate.nodes[0].component.as_ref().unwrap().domains.len(), 1);
}
