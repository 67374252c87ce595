//! The contract's paragraph on policies, line by line; and what no table and no rule may ever do.

#[path = "support/configuration.rs"]
mod configuration;

use configuration::World;
use fedgate::config::ask::{self, Ask};
use fedgate::gate::partner::{Action, ChatMode, Direction, DomainPattern, Html, Partner, Profile, Protocol, Side};
use fedgate::gate::policy::{AddressGlob, Answer, Because, Question, Rule, Stranger, Table};
use fedgate::gate::reject::Reason;
use fedgate::wire::address::{Address, Domain};
use proptest::prelude::*;
use std::net::IpAddr;
use std::sync::OnceLock;

/// The table that a policy file makes; `corp.example` is ours.
fn table(policy: &str) -> Table {
    static WORLD: OnceLock<World> = OnceLock::new();
    let certificates = WORLD.get_or_init(World::new);
    let texts = [("fedgate.toml", configuration::FEDGATE), ("policies/10-partners.toml", policy)];
    let options = fedgate::config::Options::check(configuration::NOW);
    let report = fedgate::config::load_str(certificates.path().to_owned(), "fedgate.toml", texts, options);
    let problems = format!("{:#?}", report.problems);
    Table::clone(&report.loaded.expect(&problems).gate.policy)
}

fn domain(text: &str) -> Domain {
    Domain::parse(text).unwrap()
}

fn address(text: &str) -> Address {
    ask::typed(text).unwrap().0
}

fn label(table: &Table, name: &str, protocol: Protocol) -> Option<String> {
    table.partner_for(&domain(name), protocol).map(|id| table.partner(id).label.to_string())
}

/// `Ok(polite)` or the reason, and what settled it. The side follows from whose the addresses are.
fn decide(table: &Table, from: &str, to: &str, action: Action) -> (Result<bool, Reason>, Because) {
    let ask = Ask::new(table, ask::typed(from).unwrap(), ask::typed(to).unwrap(), action, None);
    let (decision, because) = table.decide(ask.question());
    (decision.map(|permit| permit.is_polite()).map_err(|reject| reject.reason), because)
}

#[test]
fn the_closest_entry_counts() {
    let table = table(
        r#"
        [[partner]]
        domain = "*.example"
        protocol = "sip"
        [[partner]]
        domain = "*.lync.example"
        protocol = "sip"
        [[partner]]
        domain = "house.example"
        protocol = "sip"
        also = ["eu.lync.example", "cleared.example"]
        [[partner]]
        domain = "eu.sales.lync.example"
        protocol = "sip"
        [[partner]]
        domain = "lync.example"
        protocol = "xmpp"
        "#,
    );
    for (name, protocol, expected) in [
        ("eu.sales.lync.example", Protocol::Sip, Some("eu.sales.lync.example")), // exact beats wildcard
        ("us.sales.lync.example", Protocol::Sip, Some("*.lync.example")),        // longest wildcard wins
        ("lync.example", Protocol::Sip, Some("*.example")),                      // not the wildcard's own domain
        ("eu.lync.example", Protocol::Sip, Some("house.example")),               // `also` counts as exact
        ("cleared.example", Protocol::Sip, Some("house.example")),
        ("example", Protocol::Sip, None),
        ("other.test", Protocol::Sip, None),
        ("lync.example", Protocol::Xmpp, Some("lync.example")), // keyed by (domain, protocol)
        ("eu.lync.example", Protocol::Xmpp, None),
        ("notlync.example", Protocol::Sip, Some("*.example")), // labels, not text
    ] {
        assert_eq!(label(&table, name, protocol).as_deref(), expected, "{name} {protocol:?}");
    }
}

#[test]
fn outbound_takes_the_preferred_then_the_closer_entry() {
    let mut table = table(
        r#"
        [[partner]]
        domain = "*.example"
        protocol = "sip"
        [[partner]]
        domain = "both.example"
        protocol = "xmpp"
        [[partner]]
        domain = "equal.test"
        protocol = "xmpp"
        [[partner]]
        domain = "equal.test"
        protocol = "sip"
        "#,
    );
    let towards = |table: &Table, name| table.partner_towards(&domain(name)).map(|id| id.0);
    assert_eq!(towards(&table, "both.example"), Some(1));
    assert_eq!(towards(&table, "other.example"), Some(0));
    assert_eq!(towards(&table, "equal.test"), Some(2));
    assert_eq!(towards(&table, "none.test"), None);
    table.partners.change(|entries| entries[3].prefer = true);
    assert_eq!(towards(&table, "equal.test"), Some(3));
    table.partners.change(|entries| entries[0].prefer = true);
    assert_eq!(towards(&table, "both.example"), Some(0));
}

#[test]
fn one_end_is_ours_and_the_other_is_not() {
    let table = table(configuration::POLICIES);
    let check = |side, from, to| {
        let (from, to) = (address(from), address(to));
        let protocol = Protocol::Sip;
        let question = Question { from: &from, to: &to, action: Action::Message, side, protocol, peer_ip: None };
        let (decision, because) = table.decide(question);
        (decision.err().map(|reject| reject.reason), because == Because::NotOurs)
    };
    for (side, from, to, expected) in [
        (Side::Outside, "bob@lync.example", "alice@corp.example", (None, false)),
        (Side::Outside, "bob@lync.example", "carol@else.example", (Some(Reason::RelayDenied), true)),
        (Side::Outside, "alice@corp.example", "carol@else.example", (Some(Reason::RelayDenied), true)),
        (Side::Outside, "alice@corp.example", "anna@corp.example", (Some(Reason::Unproven), true)),
        (Side::Inside, "alice@corp.example", "bob@lync.example", (None, false)),
        (Side::Inside, "carol@else.example", "bob@lync.example", (Some(Reason::RelayDenied), true)),
        (Side::Inside, "alice@corp.example", "anna@corp.example", (Some(Reason::RelayDenied), true)),
        // A subdomain is another domain.
        (Side::Outside, "bob@lync.example", "alice@eu.corp.example", (Some(Reason::RelayDenied), true)),
    ] {
        assert_eq!(check(side, from, to), expected, "{side:?} {from} {to}");
    }
}

#[test]
fn who_is_not_listed_is_refused() {
    let table = table(configuration::POLICIES);
    let expected = (Err(Reason::UnlistedDomain), Because::Unlisted);
    assert_eq!(decide(&table, "mallory@unknown.example", "alice@corp.example", Action::Subscribe), expected);
    assert_eq!(decide(&table, "alice@corp.example", "mallory@unknown.example", Action::Subscribe), expected);
    // Listed for the other protocol only.
    assert_eq!(decide(&table, "xmpp:bob@lync.example", "alice@corp.example", Action::Subscribe), expected);
}

#[test]
fn strangers_start_within_their_profile() {
    let table = table(
        r#"
        [default]
        unlisted = "stranger"
        [stranger]
        allow = ["subscribe", "presence"]
        [[partner]]
        domain = "lync.example"
        protocol = "sip"
        allow = []
        [[rule]]
        name = "no-robots"
        from = "robot@*"
        to = "*@*"
        answer = "refuse"
        [[rule]]
        name = "shy"
        from = "*@*"
        to = "shy@corp.example"
        answer = "polite"
        [[rule]]
        name = "wide-open"
        from = "*@*"
        to = "alice@corp.example"
        answer = "allow"
        "#,
    );
    let inbound = |from: &str, to: &str, action| decide(&table, from, to, action);
    assert_eq!(inbound("bob@any.test", "alice@corp.example", Action::Subscribe), (Ok(false), Because::Stranger));
    assert_eq!(inbound("bob@any.test", "alice@corp.example", Action::Presence), (Ok(false), Because::Stranger));
    // A rule widens for partners alone.
    let refused = (Err(Reason::NotAllowed), Because::Stranger);
    assert_eq!(inbound("bob@any.test", "alice@corp.example", Action::Message), refused);
    // But it narrows for everybody.
    assert_eq!(
        inbound("robot@any.test", "alice@corp.example", Action::Subscribe),
        (Err(Reason::Rule), Because::Rule(0))
    );
    assert_eq!(inbound("bob@any.test", "shy@corp.example", Action::Subscribe), (Ok(true), Because::Rule(1)));
    // Inbound first: we don't start towards strangers.
    assert_eq!(decide(&table, "alice@corp.example", "bob@any.test", Action::Subscribe), refused);
    // A listed partner is no stranger.
    let (decision, because) = inbound("bob@lync.example", "anna@corp.example", Action::Subscribe);
    assert_eq!(decision, Err(Reason::NotAllowed));
    assert!(matches!(because, Because::Actions(_)));
}

#[test]
fn direction_says_who_may_start() {
    for (direction, inbound, outbound) in [("both", true, true), ("in", true, false), ("out", false, true)] {
        let table = table(&format!("{}direction = \"{direction}\"\n", configuration::POLICIES));
        for (from, to, allowed) in
            [("bob@lync.example", "alice@corp.example", inbound), ("alice@corp.example", "bob@lync.example", outbound)]
        {
            let (decision, because) = decide(&table, from, to, Action::Message);
            assert_eq!(decision.is_ok(), allowed, "{direction} {from}");
            if !allowed {
                assert_eq!(decision, Err(Reason::NotAllowed));
                assert!(matches!(because, Because::Direction(_)));
            }
        }
    }
}

#[test]
fn networks_bind_connections_from_outside() {
    let table = table(&format!("{}networks = [\"192.0.2.0/24\", \"2001:db8::1\"]\n", configuration::POLICIES));
    let (bob, alice) = (address("bob@lync.example"), address("alice@corp.example"));
    let check = |side, ip: Option<&str>| {
        let (from, to) = if side == Side::Outside { (&bob, &alice) } else { (&alice, &bob) };
        let peer_ip = ip.map(|ip| ip.parse::<IpAddr>().unwrap());
        let question = Question { from, to, action: Action::Message, side, protocol: Protocol::Sip, peer_ip };
        let (decision, because) = table.decide(question);
        assert_eq!(decision.is_err(), matches!(because, Because::Network(_)));
        decision.is_ok()
    };
    assert!(check(Side::Outside, Some("192.0.2.9")));
    assert!(check(Side::Outside, Some("::ffff:192.0.2.9"))); // a dual-stack listener's spelling
    assert!(check(Side::Outside, Some("2001:db8::1")));
    assert!(!check(Side::Outside, Some("198.51.100.9")));
    assert!(!check(Side::Outside, Some("2001:db8::2")));
    assert!(check(Side::Outside, None)); // hypothetical
    assert!(check(Side::Inside, Some("10.0.0.1"))); // a node's address is not the partner's
}

const RULES: &str = r#"
[[partner]]
domain = "lync.example"
protocol = "sip"
allow = ["subscribe", "message"]
[[rule]]
name = "board-but-not-bob"
from = "bob@lync.example"
to = "board-*@corp.example"
do = ["subscribe"]
answer = "allow"
[[rule]]
name = "board"
from = "*@lync.example"
to = "board-*@corp.example"
do = ["subscribe", "message"]
answer = "refuse"
[[rule]]
name = "files-for-anna"
from = "*@*"
to = "anna@corp.example"
do = ["file"]
answer = "allow"
[[rule]]
name = "shy"
from = "*@*"
to = "shy@corp.example"
answer = "polite"
[[rule]]
name = "late"
from = "*@*"
to = "anna@corp.example"
answer = "refuse"
"#;

#[test]
fn the_first_matching_rule_narrows_or_widens_actions() {
    let table = table(RULES);
    for (from, to, action, expected, rule) in [
        ("carol@lync.example", "alice@corp.example", Action::Subscribe, Ok(false), None),
        ("carol@lync.example", "alice@corp.example", Action::File, Err(Reason::NotAllowed), None),
        ("carol@lync.example", "board-x@corp.example", Action::Subscribe, Err(Reason::Rule), Some(1)),
        ("carol@lync.example", "BOARD-X@CORP.example", Action::Message, Err(Reason::Rule), Some(1)),
        ("bob@lync.example", "board-x@corp.example", Action::Subscribe, Ok(false), Some(0)), // first wins
        ("bob@lync.example", "board-x@corp.example", Action::Message, Err(Reason::Rule), Some(1)), // `do` counts
        ("carol@lync.example", "anna@corp.example", Action::File, Ok(false), Some(2)),       // widens
        ("carol@lync.example", "anna@corp.example", Action::Subscribe, Err(Reason::Rule), Some(4)), // no `do` = all
        ("carol@lync.example", "shy@corp.example", Action::Subscribe, Ok(true), Some(3)),
        // Polite answers subscriptions and nothing else.
        ("carol@lync.example", "shy@corp.example", Action::Message, Ok(false), None),
        ("carol@lync.example", "shy@corp.example", Action::File, Err(Reason::NotAllowed), None),
        // The glob's sides are from and to, whichever way it goes.
        ("board-x@corp.example", "carol@lync.example", Action::Message, Ok(false), None),
    ] {
        let (decision, because) = decide(&table, from, to, action);
        assert_eq!(decision, expected, "{from} {to} {action:?}");
        match rule {
            Some(index) => assert_eq!(because, Because::Rule(index), "{from} {to} {action:?}"),
            None => assert!(matches!(because, Because::Actions(_)), "{from} {to} {action:?}"),
        }
    }
}

#[test]
fn a_refusal_names_line_and_mend() {
    let table = table(
        "[[partner]]\ndomain = \"lync.example\"\nprotocol = \"sip\"\ndirection = \"in\"\nallow = [\"presence\"]\n",
    );
    let detail = |from: &str, to: &str| {
        let ask = Ask::new(&table, ask::typed(from).unwrap(), ask::typed(to).unwrap(), Action::Message, None);
        table.decide(ask.question()).0.unwrap_err().detail
    };
    let outbound = detail("alice@corp.example", "bob@lync.example");
    let tail = "policies/10-partners.toml:1 has direction = \"in\"; set \"both\" to let us start towards lync.example";
    assert!(outbound.ends_with(tail), "{outbound}");
    let inbound = detail("bob@lync.example", "alice@corp.example");
    let tail = "policies/10-partners.toml:1 allows lync.example presence; \
                add \"message\" to its allow, or a [[rule]] that allows it";
    assert!(inbound.ends_with(tail), "{inbound}");
}

#[test]
fn explain_tells_the_steps_in_order() {
    let table = table(RULES);
    let told = |from: &str, to: &str, action| {
        let ask = Ask::new(&table, ask::typed(from).unwrap(), ask::typed(to).unwrap(), action, None);
        let steps = table.explain(ask.question());
        let line = |origin: &str| origin.rsplit(':').next().unwrap_or_default().to_owned();
        steps.iter().map(|step| (step.passed, step.origin.as_deref().map(line))).collect::<Vec<_>>()
    };
    let at = |line: &str| Some(line.to_owned());
    let expected = vec![(true, None), (true, at("2")), (true, at("2")), (true, at("2")), (false, at("12"))];
    assert_eq!(told("carol@lync.example", "board-x@corp.example", Action::Message), expected);
    assert_eq!(told("carol@lync.example", "x@else.example", Action::Message), vec![(false, None)]);
    assert_eq!(told("c@unknown.test", "x@corp.example", Action::Message), vec![(true, None), (false, None)]);
}

#[test]
fn aol_names_are_one_user_in_both_spellings() {
    let table = table(
        "[[partner]]\ndomain = \"aol.com\"\nprotocol = \"sip\"\nprofile = \"aol\"\n\
         [[rule]]\nname = \"r\"\nfrom = \"juliet\\\\40gmail.com@aol.com\"\nto = \"*@*\"\nanswer = \"refuse\"\n",
    );
    for from in ["juliet(gmail.com)@aol.com", r"juliet\40gmail.com@aol.com", "sip:juliet(gmail.com)@aol.com"] {
        let (decision, because) = decide(&table, from, "alice@corp.example", Action::Message);
        assert_eq!((decision, because), (Err(Reason::Rule), Because::Rule(0)), "{from}");
    }
    assert_eq!(decide(&table, "juliet@aol.com", "alice@corp.example", Action::Message).0, Ok(false));
}

// What no table may do.

const DOMAINS: [&str; 6] =
    ["corp.example", "lync.example", "eu.lync.example", "a.eu.lync.example", "example", "other.test"];
const GLOBS: [&str; 6] = ["*@*", "*@lync.example", "bob@*", "*@*.lync.example", "lync.example", "?ob@corp.example"];

fn any_action() -> impl Strategy<Value = Action> {
    prop::sample::select(Action::ALL)
}

fn any_address() -> impl Strategy<Value = Address> {
    (prop::option::of("bob|alice|rob"), prop::sample::select(&DOMAINS[..])).prop_map(|(local, name)| match local {
        Some(local) => Address::new(&local, domain(name)).unwrap(),
        None => Address::of_domain(domain(name)),
    })
}

prop_compose! {
    fn any_partner()(
        name in prop::sample::select(&DOMAINS[1..]),
        wildcard in any::<bool>(),
        protocol in prop::sample::select(Protocol::ALL),
        also in prop::collection::vec(prop::sample::select(&DOMAINS[1..]), 0..2),
        direction in prop::sample::select(Direction::ALL),
        allow in prop::collection::vec(any_action(), 0..3),
        network in any::<bool>(),
        prefer in any::<bool>(),
    ) -> Partner {
        let name = domain(name);
        let defaults = fedgate::config::profile::defaults(Profile::Generic, protocol);
        let domain_pattern = if wildcard { DomainPattern::Under(name) } else { DomainPattern::Exact(name) };
        Partner {
            label: domain_pattern.to_string().into(),
            domain: domain_pattern,
            protocol,
            origin: "p.toml:1".to_owned(),
            prefer,
            profile: Profile::Generic,
            also: also.into_iter().map(domain).collect(),
            direction,
            allow,
            tls: defaults.tls,
            proof: defaults.proof,
            identity: defaults.identity,
            trust: fedgate::gate::partner::TrustId(0),
            client_eku: false,
            networks: if network { vec!["192.0.2.0/24".parse().unwrap()] } else { Vec::new() },
            next_hop: None,
            chat: ChatMode::Page,
            html: Html::ToText,
            limits: fedgate::config::profile::BUDGET,
        }
    }
}

prop_compose! {
    fn any_rule()(
        from in prop::sample::select(&GLOBS[..]),
        to in prop::sample::select(&GLOBS[..]),
        actions in prop::collection::vec(any_action(), 0..3),
        answer in prop::sample::select(Answer::ALL),
    ) -> Rule {
        let [from, to] = [from, to].map(|glob| AddressGlob::parse(glob).unwrap());
        Rule { name: "r".to_owned(), origin: "r.toml:1".to_owned(), from, to, actions, answer }
    }
}

prop_compose! {
    fn any_table()(
        partners in prop::collection::vec(any_partner(), 0..4),
        rules in prop::collection::vec(any_rule(), 0..4),
        stranger in prop::option::of(prop::collection::vec(any_action(), 0..3)),
    ) -> Table {
        let limits = fedgate::config::profile::STRANGER_BUDGET;
        let stranger = stranger.map(|allow| Stranger { allow, limits });
        Table { version: 7, partners: partners.into(), rules, stranger, local_domains: vec![domain("corp.example")] }
    }
}

prop_compose! {
    fn any_ask()(
        from in any_address(),
        to in any_address(),
        // Mostly between us and somebody else, else nearly nothing would pass.
        crossing in prop::bool::weighted(0.8),
        action in any_action(),
        side in prop::sample::select(Side::ALL),
        protocol in prop::sample::select(Protocol::ALL),
    ) -> Ask {
        let ours = |address: Address| match address.local() {
            Some(local) => Address::new(local, domain("corp.example")).unwrap(),
            None => Address::of_domain(domain("corp.example")),
        };
        let (from, to) = match (crossing, side) {
            (false, _) => (from, to),
            (true, Side::Outside) => (from, ours(to)),
            (true, Side::Inside) => (ours(from), to),
        };
        Ask { from, to, action, side, protocol, peer_ip: None }
    }
}

fn any_ip() -> impl Strategy<Value = Option<IpAddr>> {
    prop::option::of(prop::sample::select(vec![IpAddr::from([192, 0, 2, 9]), IpAddr::from([198, 51, 100, 9])]))
}

proptest! {
    #[test]
    fn an_empty_table_refuses_everything(ask in any_ask(), ip in any_ip()) {
        let question = Question { peer_ip: ip, ..ask.question() };
        prop_assert!(Table::default().decide(question).0.is_err());
    }

    #[test]
    fn what_passes_is_listed_in_its_direction_from_its_networks(table in any_table(), ask in any_ask(), ip in any_ip()) {
        let question = Question { peer_ip: ip, ..ask.question() };
        let (decision, _) = table.decide(question);
        let Ok(permit) = decision else { return Ok(()) };
        prop_assert!(table.is_local(question.local()) && !table.is_local(question.remote()));
        prop_assert_eq!((permit.from(), permit.to()), (&ask.from, &ask.to));
        prop_assert_eq!((permit.action(), permit.side(), permit.policy_version()), (ask.action, ask.side, 7));
        prop_assert!(!permit.is_polite() || ask.action == Action::Subscribe);
        prop_assert_eq!(permit.partner(), table.partner_for(question.remote(), ask.protocol));
        match permit.partner() {
            Some(id) => {
                let entry = table.partner(id);
                prop_assert!(entry.direction.lets(ask.side));
                let bound = ask.side == Side::Outside && !entry.networks.is_empty();
                prop_assert!(!bound || ip.is_none_or(|ip| entry.networks.iter().any(|network| network.contains(&ip))));
            }
            None => {
                let allow = &table.stranger.as_ref().expect("a stranger profile").allow;
                prop_assert!(ask.side == Side::Outside && allow.contains(&ask.action));
            }
        }
    }

    #[test]
    fn without_rules_only_allow_counts(table in any_table(), ask in any_ask()) {
        let with = table.decide(ask.question()).0.is_ok();
        let bare = Table { rules: Vec::new(), ..table.clone() }.decide(ask.question()).0.is_ok();
        let speaks = table.rules.iter().any(|rule| rule.speaks_of(&ask.question()));
        prop_assert!(with == bare || speaks);
    }

    #[test]
    fn the_last_step_is_the_verdict(table in any_table(), ask in any_ask(), ip in any_ip()) {
        let question = Question { peer_ip: ip, ..ask.question() };
        let steps = table.explain(question);
        let (last, before) = steps.split_last().expect("a step");
        prop_assert_eq!(last.passed, table.decide(question).0.is_ok());
        prop_assert!(before.iter().all(|step| step.passed));
        prop_assert!(steps.iter().all(|step| !step.text.is_empty()));
    }

    #[test]
    fn a_glob_of_any_text_never_panics(glob in ".{0,40}", ask in any_ask()) {
        if let Ok(glob) = AddressGlob::parse(&glob) {
            glob.matches(&ask.from);
        }
    }
}
