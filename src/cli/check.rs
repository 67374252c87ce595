//! `fedgate check`: every problem, what each partner's entry comes to, and which DNS records must be there.

use crate::cli::{complain, now, print, problems_json, problems_text, sip_nodes};
use crate::config::edge::State;
use crate::config::{self, Loaded, Options, Problem, Severity};
use crate::gate::partner::{Component, DomainPattern, HostPort, Identity, Node, NodeProtocol, Partner, TrustId};
use crate::gate::policy::Table;
use crate::io::store::{self, StoreError};
use crate::wire::address::Domain;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;

/// What can be typed after `check`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The config file; else ./fedgate.toml, else /etc/fedgate/fedgate.toml
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print what the inside's resolver needs, as its configuration
    #[arg(long, value_name = "RESOLVER")]
    pub dns: Option<Resolver>,
    /// Print JSON, for programs
    #[arg(long)]
    pub json: bool,
}

/// Resolvers that `--dns` knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Resolver {
    /// unbound.conf
    Unbound,
    /// dnsmasq.conf
    Dnsmasq,
}

/// The name that the inside's resolver gives to our inside listener. `.internal` is reserved for private use by ICANN.
const INSIDE_NAME: &str = "edge.fedgate.internal";

/// COMPAT(sametime), COMPAT(googletalk): they take the first record they are given, and no other when that one fails.
const FIRST_RECORD_ONLY: &str = "  Several edges: give their records of one name the same priority and weight, and keep each of them up. \
    Some servers\n  (Sametime, Google Talk) try the first record they get and no other; Microsoft's edges take one host.\n";

/// Checks and prints.
pub fn main(args: Args) -> ExitCode {
    let mut report = config::load(&config::path(args.config.as_deref()), Options::check(now()));
    let kept = report.loaded.as_ref().and_then(|loaded| look_into(&loaded.edge.state, &mut report.problems));
    let is_fine = report.is_fine() && !report.problems.iter().any(|problem| problem.severity == Severity::Error);
    let loaded = report.loaded.as_ref();
    match (args.dns, loaded) {
        (Some(resolver), Some(loaded)) if !args.json => print(&recipe(loaded, resolver)),
        (Some(_), None) if !args.json => complain(&problems_text(&report.problems)),
        _ if args.json => print(&format!("{:#}\n", json(&report, is_fine, kept.as_ref(), args.dns))),
        _ => {
            let mut text = problems_text(&report.problems);
            if let Some(loaded) = loaded {
                text.push_str(&summary(loaded));
            }
            if let Some(kept) = kept {
                let records: u64 = kept.records.values().sum();
                let _ = write!(text, "\nState store, made by {}\n  {records} records", kept.made_by);
                for (kind, count) in &kept.records {
                    let _ = write!(text, ", {kind}: {count}");
                }
                let _ = writeln!(text, "\n  {} decisions", kept.decisions);
            }
            print(&text);
        }
    }
    if is_fine { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Reads the state store whole. One that does not exist yet is made at the first start.
fn look_into(state: &State, problems: &mut Vec<Problem>) -> Option<store::Report> {
    let State::Embedded { path } = state else { return None };
    let note = |what: &str, mend: &str| (Severity::Note, what.to_owned(), mend.to_owned());
    let (severity, what, mend) = if path.try_exists().is_ok_and(|exists| !exists) {
        note(
            "there is no state store yet: the edge makes it when it starts",
            "if an edge has kept something before, see that its file system is mounted and [state] path names its file",
        )
    } else {
        match store::verify(path) {
            Ok(report) => return Some(report),
            Err(StoreError::Locked { .. }) => note(
                "the state store is in use, by a running edge if one runs: it was not checked",
                "stop the edge to check it",
            ),
            Err(error) => (Severity::Error, error.what(), error.mend()),
        }
    };
    let file = path.display().to_string();
    problems.push(Problem { severity, file, line: 0, column: 0, key: "state.path".to_owned(), what, mend });
    None
}

fn json(report: &config::Report, is_fine: bool, kept: Option<&store::Report>, resolver: Option<Resolver>) -> Value {
    let mut all = json!({ "ok": is_fine, "problems": problems_json(&report.problems) });
    if let Some(kept) = kept {
        all["state"] = json!({ "records": kept.records, "decisions": kept.decisions, "made_by": kept.made_by });
    }
    if let Some(loaded) = &report.loaded {
        let partners = loaded.gate.policy.partners.iter();
        all["partners"] = partners
            .map(|partner| {
                let settings: serde_json::Map<String, Value> =
                    settings(partner).into_iter().map(|(key, value)| (key.to_owned(), value.into())).collect();
                json!({
                    "domain": partner.label,
                    "protocol": partner.protocol.as_str(),
                    "origin": partner.origin,
                    "settings": settings,
                })
            })
            .collect();
        if attached(loaded).next().is_some() {
            all["components"] = attached(loaded)
                .map(|(node, component)| {
                    let domains: Vec<&str> = component.domains.iter().map(Domain::as_str).collect();
                    let address = format!("{}:{}", node.address.host, node.address.port);
                    json!({ "node": node.name, "address": address, "domains": domains })
                })
                .collect();
        }
        let sip_nodes = sip_nodes::json(loaded);
        if !sip_nodes.is_empty() {
            all["sip_nodes"] = sip_nodes.into();
        }
        all["dns"] = json!({ "publish": publish(loaded), "inside": inside(loaded) });
        if let Some(resolver) = resolver {
            all["dns"]["recipe"] = recipe(loaded, resolver).into();
        }
    }
    all
}

fn summary(loaded: &Loaded) -> String {
    let mut text = String::new();
    let table = &loaded.gate.policy;
    text.push_str("\nPartners, their profiles' defaults filled in\n");
    if table.partners.is_empty() {
        text.push_str("  none\n");
    }
    for partner in &table.partners {
        let _ = writeln!(text, "  {} over {}   {}", partner.label, partner.protocol.as_str(), partner.origin);
        for (key, value) in settings(partner) {
            let _ = writeln!(text, "    {key:<10} {value}");
        }
    }
    let _ = writeln!(text, "  anybody else: {}", unlisted(table));
    text.push_str(&sip_nodes::text(loaded));
    text.push_str("\nDNS records to publish\n");
    for line in publish(loaded) {
        let _ = writeln!(text, "  {line}");
    }
    if !loaded.edge.outside.xmpp.is_empty() {
        text.push_str(FIRST_RECORD_ONLY);
    }
    text.push_str("\nDNS records for the inside's resolver, so that nodes bring what is for partners to the edge (--dns prints them)\n");
    for line in inside(loaded) {
        let _ = writeln!(text, "  {line}");
    }
    for (node, component) in attached(loaded) {
        text.push_str(&component_recipe(node, component));
    }
    text
}

/// What keeps nodes from looking partners up; `None`: nothing, there are XMPP nodes.
fn needs_no_records(loaded: &Loaded) -> Option<&'static str> {
    let nodes = &loaded.gate.nodes;
    if nodes.is_empty() || nodes.iter().any(|node| node.protocol == NodeProtocol::Xmpp) {
        return None;
    }
    Some(match nodes.iter().any(|node| node.component.is_some()) {
        true => "what is for partners goes to the components below",
        false => "SIP nodes send what is for partners to the edge",
    })
}

/// Servers whose components we are.
fn attached(loaded: &Loaded) -> impl Iterator<Item = (&Node, &Component)> {
    loaded.gate.nodes.iter().filter_map(|node| Some((node, node.component.as_ref()?)))
}

/// What such a server's configuration needs: one component for each domain, with the secret that we have.
fn component_recipe(node: &Node, component: &Component) -> String {
    let HostPort { host, port } = &node.address;
    let mut text = format!("\nComponents to configure on {} (SECRET is its `secret` here)\n", node.name);
    let _ = writeln!(text, "  Prosody: component_interfaces = {{ \"{host}\" }}, component_ports = {{ {port} }}, and");
    for domain in &component.domains {
        let domain = domain.to_unicode();
        let _ = writeln!(text, "    Component \"{domain}\"\n      component_secret = \"SECRET\"");
    }
    let _ = writeln!(text, "  ejabberd, below listen:");
    let _ =
        writeln!(text, "    -\n      port: {port}\n      module: ejabberd_service\n      access: all\n      hosts:");
    for domain in &component.domains {
        let _ = writeln!(text, "        \"{}\":\n          password: \"SECRET\"", domain.to_unicode());
    }
    text
}

fn unlisted(table: &Table) -> String {
    match &table.stranger {
        None => "refused".to_owned(),
        Some(stranger) => {
            let actions: Vec<&str> = stranger.allow.iter().map(|action| action.as_str()).collect();
            format!("as stranger, may start {}", actions.join(", "))
        }
    }
}

/// An entry as it counts, key by key in the words of the policy file.
fn settings(partner: &Partner) -> Vec<(&'static str, String)> {
    let words = |list: Vec<String>, none: &str| if list.is_empty() { none.to_owned() } else { list.join(", ") };
    let limits = &partner.limits;
    let mut budget = format!(
        "{} messages a second, {} subscriptions, {} links, {} bytes a body",
        limits.messages_per_second, limits.subscriptions, limits.links, limits.body_bytes
    );
    if let Some(targets) = limits.targets_per_hour {
        let _ = write!(budget, ", {targets} targets an hour");
    }
    let identity = match &partner.identity {
        Identity::Domain => "domain".to_owned(),
        Identity::EdgeInDomain => "edge-in-domain".to_owned(),
        Identity::Pinned(names) => names.join(", "),
    };
    let next_hop = match &partner.next_hop {
        Some(hop) if hop.host.contains(':') => format!("[{}]:{}", hop.host, hop.port),
        Some(hop) => format!("{}:{}", hop.host, hop.port),
        None => "found by DNS".to_owned(),
    };
    vec![
        ("profile", partner.profile.as_str().to_owned()),
        ("also", words(partner.also.iter().map(ToString::to_string).collect(), "no other domain")),
        ("direction", partner.direction.as_str().to_owned()),
        ("allow", words(partner.allow.iter().map(|action| action.as_str().to_owned()).collect(), "nothing")),
        ("tls", partner.tls.as_str().to_owned()),
        ("proof", words(partner.proof.iter().map(|proof| proof.as_str().to_owned()).collect(), "none")),
        ("identity", identity),
        ("trust", if partner.trust == TrustId(0) { "[tls] trust" } else { "its own" }.to_owned()),
        ("eku", if partner.client_eku { "client" } else { "any" }.to_owned()),
        ("networks", words(partner.networks.iter().map(ToString::to_string).collect(), "any")),
        ("next_hop", next_hop),
        ("prefer", if partner.prefer { "before its entry over the other protocol" } else { "no" }.to_owned()),
        ("chat", partner.chat.as_str().to_owned()),
        ("html", partner.html.as_str().to_owned()),
        ("limits", budget),
    ]
}

/// What partners look up to find us.
fn publish(loaded: &Loaded) -> Vec<String> {
    let mut lines = Vec::new();
    for identity in &loaded.gate.identities {
        let (hostname, port) = (&identity.hostname, identity.sip_port);
        let outside = &loaded.edge.outside;
        for domain in &identity.domains {
            if !outside.sip.is_empty() {
                lines.push(format!("_sipfederationtls._tcp.{domain}. SRV 0 0 {port} {hostname}."));
            }
            for (service, listeners) in [("_xmpp-server", &outside.xmpp), ("_xmpps-server", &outside.xmpps)] {
                if let Some(at) = listeners.first() {
                    lines.push(format!("{service}._tcp.{domain}. SRV 0 0 {} {hostname}.", at.port()));
                }
            }
        }
        let listening = outside.all().map(|(_, at)| at.ip()).filter(|ip| !ip.is_unspecified());
        let mut addresses = outside.advertise.clone();
        if addresses.is_empty() {
            addresses = listening.collect::<BTreeSet<_>>().into_iter().collect();
        }
        if addresses.is_empty() {
            lines.push(format!("{hostname}. A/AAAA: the edge's public address ([outside] advertise names it here)"));
        }
        for ip in addresses {
            lines.push(format!("{hostname}. {} {ip}", record_type(ip)));
        }
    }
    lines
}

fn record_type(ip: std::net::IpAddr) -> &'static str {
    if ip.is_ipv4() { "A" } else { "AAAA" }
}

/// What nodes look up to find the edge in a partner's place.
fn inside(loaded: &Loaded) -> Vec<String> {
    if let Some(why) = needs_no_records(loaded) {
        return vec![format!("none: {why}")];
    }
    let Some(listener) = loaded.edge.inside.xmpp.first() else {
        return vec!["none: [inside] xmpp has no listener".to_owned()];
    };
    let mut lines = Vec::new();
    for domain in partner_domains(loaded) {
        lines.push(format!("_xmpp-server._tcp.{domain}. SRV 0 0 {} {INSIDE_NAME}.", listener.port()));
        lines.push(format!("_xmpps-server._tcp.{domain}. no such name, or nodes go past the edge"));
    }
    lines.push(match listener.ip() {
        ip if ip.is_unspecified() => format!("{INSIDE_NAME}. A/AAAA: the edge's inside address"),
        ip => format!("{INSIDE_NAME}. {} {ip}", record_type(ip)),
    });
    lines.extend(many(loaded));
    lines
}

/// Every domain that an entry names exactly.
fn partner_domains(loaded: &Loaded) -> BTreeSet<Domain> {
    let exact = |partner: &Partner| match &partner.domain {
        DomainPattern::Exact(domain) => Some(domain.clone()),
        DomainPattern::Under(_) => None,
    };
    let partners = &loaded.gate.policy.partners;
    partners.iter().flat_map(|partner| partner.also.iter().cloned().chain(exact(partner))).collect()
}

/// Of whom there can be no records, since nobody knows their names: they are met inbound only, until they are listed.
fn many(loaded: &Loaded) -> Vec<String> {
    const WHY: &str =
        "there are no SRV records for names that nobody knows, so what a node sends there does not come to the edge";
    let table = &loaded.gate.policy;
    let wildcards = table.partners.iter().filter(|partner| matches!(partner.domain, DomainPattern::Under(_)));
    let mut lines: Vec<String> =
        wildcards.map(|partner| format!("{}: {WHY}; list its subdomains one by one", partner.label)).collect();
    if table.stranger.is_some() {
        let first = "open federation is inbound first: list the domains that are to be answered";
        lines.push(format!("unlisted = \"stranger\": {WHY}; {first}"));
    }
    lines
}

/// The inside's records as a resolver's configuration.
fn recipe(loaded: &Loaded, resolver: Resolver) -> String {
    let mut text =
        String::from("# Made by `fedgate check --dns`: partners' XMPP, as the inside sees it, is the edge.\n");
    if needs_no_records(loaded).is_some() {
        text.push_str("# Nothing is needed: no node looks partners up. Components are inside the server, and SIP nodes send to the edge.\n");
        return text;
    }
    for line in many(loaded) {
        let _ = writeln!(text, "# {line}");
    }
    let Some(listener) = loaded.edge.inside.xmpp.first() else {
        text.push_str("# [inside] xmpp has no listener\n");
        return text;
    };
    let port = listener.port();
    let (type_, address) = match listener.ip() {
        ip if ip.is_unspecified() => {
            text.push_str("# [inside] xmpp listens on every address: put the one that nodes reach for ADDRESS.\n");
            ("A", "ADDRESS".to_owned())
        }
        ip => (record_type(ip), ip.to_string()),
    };
    match resolver {
        Resolver::Unbound => {
            text.push_str("server:\n");
            let _ = writeln!(text, "    local-zone: \"{INSIDE_NAME}.\" static");
            let _ = writeln!(text, "    local-data: \"{INSIDE_NAME}. 300 IN {type_} {address}\"");
        }
        Resolver::Dnsmasq => {
            let _ = writeln!(text, "host-record={INSIDE_NAME},{address}");
        }
    }
    for domain in partner_domains(loaded) {
        let (starttls, direct) = (format!("_xmpp-server._tcp.{domain}"), format!("_xmpps-server._tcp.{domain}"));
        match resolver {
            Resolver::Unbound => {
                let _ = writeln!(text, "    local-zone: \"{starttls}.\" static");
                let _ = writeln!(text, "    local-data: \"{starttls}. 300 IN SRV 0 0 {port} {INSIDE_NAME}.\"");
                let _ = writeln!(text, "    local-zone: \"{direct}.\" always_nxdomain");
            }
            Resolver::Dnsmasq => {
                let _ = writeln!(text, "srv-host={starttls},{INSIDE_NAME},{port},0,0");
                let _ = writeln!(text, "local=/{direct}/");
            }
        }
    }
    text
}
