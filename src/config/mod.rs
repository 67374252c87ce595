//! What the operator wrote, and what it means.
//!
//! [`document`] is what was typed, [`version`] what of it can't be said yet; the other modules each read their tables. Takes
//! `fedgate.toml` and `policies/*.toml`, gives a [`Report`]: every problem at once, and, if none is an error, everything [`Loaded`].

pub mod ask;
pub mod components;
pub mod document;
pub mod edge;
pub mod files;
pub mod material;
pub mod nodes;
pub mod policies;
pub mod problem;
pub mod profile;
pub mod scalar;
pub mod sip_nodes;
pub mod version;

pub use edge::Edge;
pub use files::Files;
pub use nodes::{Unfaced, Unresolved};
pub use policies::Expectation;
pub use problem::{Problem, Severity};

use crate::gate;
use crate::gate::partner::Protocol;
use crate::gate::time::Time;
use document::{Place, Section, Source};
use material::TrustLists;
use policies::Policies;
use problem::Problems;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What reading the configuration came to.
#[derive(Debug)]
pub struct Report {
    /// Errors, warnings and notes in the order of files and lines.
    pub problems: Vec<Problem>,
    /// The configuration, if there is no error.
    pub loaded: Option<Loaded>,
}

/// A configuration without errors.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What `io` needs.
    pub edge: Edge,
    /// What the gate needs. The nodes in `unresolved` have no sources yet.
    pub gate: gate::settings::Settings,
    /// What stream negotiation needs; the same nodes.
    pub link: gate::link::Settings,
    /// Nodes whose addresses `io` has to look up: [`Loaded::resolve`] takes them.
    pub unresolved: Vec<Unresolved>,
    /// SIP nodes for which `io` has to find which address of ours they reach: [`Loaded::face`] takes it.
    pub unfaced: Vec<Unfaced>,
    /// `[[expect]]`, all of them met.
    pub expectations: Vec<Expectation>,
}

/// How to read.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// For the validity of certificates.
    pub now: Time,
    /// Make an absent secret file (a start), or only tell (a check).
    pub make_secrets: bool,
    /// The policy's version; grows by one with each reload.
    pub policy_version: u64,
}

/// For a config file that can't be read.
const OPEN_MEND: &str = "name a file with --config; deploy/fedgate.toml is an example";

/// What every reader needs.
pub(crate) struct Context<'a> {
    files: &'a Files,
    now: Time,
    make_secrets: bool,
}

impl Options {
    /// For `check`, `explain` and tests: touches nothing.
    pub fn check(now: Time) -> Self {
        Self { now, make_secrets: false, policy_version: 1 }
    }
    /// For `run`: makes what is absent.
    pub fn start(now: Time) -> Self {
        Self { make_secrets: true, ..Self::check(now) }
    }
}

impl Report {
    /// Whether there is no error.
    pub fn is_fine(&self) -> bool {
        self.loaded.is_some()
    }
    /// The configuration, or the problems.
    pub fn into_result(self) -> Result<Loaded, Vec<Problem>> {
        self.loaded.ok_or(self.problems)
    }
}

impl Loaded {
    /// Takes the addresses of a node whose host is a name.
    pub fn resolve(&mut self, node: gate::NodeId, addresses: &[std::net::IpAddr]) {
        let sources: Vec<ipnet::IpNet> = addresses.iter().copied().map(ipnet::IpNet::from).collect();
        for nodes in [&mut self.gate.nodes, &mut self.link.nodes] {
            if let Some(node) = nodes.get_mut(node.0 as usize) {
                node.sources.clone_from(&sources);
            }
        }
    }

    /// Takes the address of ours that a SIP node reaches.
    pub fn face(&mut self, unfaced: &Unfaced, ip: std::net::IpAddr) {
        for nodes in [&mut self.gate.nodes, &mut self.link.nodes] {
            if let Some(node) = nodes.get_mut(unfaced.node.0 as usize) {
                node.facing = Some(nodes::facing(unfaced.listener, ip));
            }
        }
    }
}

/// The config file to use: as given, else `./fedgate.toml`, else `/etc/fedgate/fedgate.toml`.
pub fn path(given: Option<&Path>) -> PathBuf {
    match given {
        Some(given) => given.to_owned(),
        None => {
            let here = PathBuf::from("fedgate.toml");
            if here.exists() { here } else { PathBuf::from("/etc/fedgate/fedgate.toml") }
        }
    }
}

/// Reads a config file and its policies from disk.
pub fn load(path: &Path, options: Options) -> Report {
    let (files, name) = on_disk(path);
    load_from(&files, &name, options)
}

/// Reads a configuration that is built into the program: texts by the path they would have below `base`, where everything else
/// (certificates, keys, secrets) is read from disk. `config` is the path of the config file among them.
pub fn load_str<'a>(
    base: PathBuf,
    config: &str,
    texts: impl IntoIterator<Item = (&'a str, &'a str)>,
    options: Options,
) -> Report {
    load_from(&Files::embedded(base, texts), config, options)
}

/// Reads `[admin]` and nothing else, for verbs that ask the running edge: what is wrong elsewhere in the file is not theirs.
/// Gives the errors of `[admin]`, or those for which the file can't be read.
pub fn load_admin(path: &Path) -> Result<edge::Admin, Vec<Problem>> {
    let (files, name) = on_disk(path);
    let problems = Problems::default();
    let source = open(&files, &files.resolve(&name), &problems, OPEN_MEND);
    if problems.errors() > 0 {
        return Err(problems.into_sorted());
    }
    let syntax = Problems::default();
    let tree = source.parse(&syntax);
    let admin = edge::admin(&files, Section::root(&tree, &source, &problems, "").section("admin", "admin"), None);
    match problems.errors() {
        0 => Ok(admin),
        _ => Err(problems.into_sorted()),
    }
}

fn on_disk(path: &Path) -> (Files, String) {
    let files = Files::on_disk(path.parent().map(Path::to_owned).unwrap_or_default());
    (files, path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default())
}

fn load_from(files: &Files, config: &str, options: Options) -> Report {
    let problems = Problems::default();
    let loaded = read(files, config, options, &problems);
    let loaded = loaded.filter(|_| problems.errors() == 0);
    Report { problems: problems.into_sorted(), loaded }
}

fn open(files: &Files, path: &Path, problems: &Problems, mend: &str) -> Source {
    let name = path.display().to_string();
    match files.read_text(path) {
        Ok(text) => Source { name, text },
        Err(error) => {
            problems.add(Problem {
                severity: Severity::Error,
                file: name.clone(),
                line: 0,
                column: 0,
                key: String::new(),
                what: error,
                mend: mend.to_owned(),
            });
            Source { name, text: String::new() }
        }
    }
}

fn read(files: &Files, config: &str, options: Options, problems: &Problems) -> Option<Loaded> {
    let context = Context { files, now: options.now, make_secrets: options.make_secrets };
    let source = open(files, &files.resolve(config), problems, OPEN_MEND);
    if problems.errors() > 0 {
        return None;
    }
    let tree = source.parse(problems);
    let mut root = Section::root(&tree, &source, problems, "");

    let mut edge_section = root.section("edge", "edge");
    let folder = edge_section.take("policies");
    edge_section.finish();
    let outside_section = root.section("outside", "outside");
    let node_sections = root.sections("node", "node");
    let has_node = |protocol: &str| node_sections.iter().any(|section| section.says("protocol", protocol));
    let (has_sip_node, has_xmpp_node) = (has_node("sip"), has_node("xmpp"));
    let edge::InsideRead { inside, trust: inside_trust, issuer } =
        edge::inside(root.section("inside", "inside"), has_sip_node);
    let issuer = issuer.and_then(|value| material::authority(files, &value, context.now));

    let identity_sections = root.sections("identity", "identity");
    if identity_sections.is_empty() {
        root.place().error("there is no [[identity]]", "write one with hostname, domains, certificate and key");
    }
    let edge::IdentitiesRead { whole: mut identities, domains: local, unnamed } =
        edge::identities(&context, identity_sections);

    let mut tls = root.section("tls", "tls");
    let tls_minimum = edge::tls_minimum(&mut tls);
    let mut trust = TrustLists::new(files, tls.take("revocation").as_ref(), context.now);
    let default_trust = tls.take("trust");
    trust.set(files, default_trust.as_ref());
    let tls_place = tls.place().clone();
    tls.finish();

    let folder_path = files.resolve(folder.as_ref().and_then(|value| value.text()).unwrap_or("policies"));
    let listed = files.list_toml(&folder_path).unwrap_or_else(|error| {
        let place = folder.as_ref().map_or_else(|| Place::start(&source, problems), |value| value.place().clone());
        place.error(format!("{} {error}", folder_path.display()), "make the folder, or name it in [edge] policies");
        Vec::new()
    });
    let sources: Vec<Source> =
        listed.iter().map(|path| open(files, path, problems, "let the edge read it, or remove it")).collect();
    let trees: Vec<_> = sources.iter().map(|source| source.parse(problems)).collect();
    let mut policies = Policies::default();
    for (tree, source) in trees.iter().zip(&sources) {
        policies.read(&context, Section::root(tree, source, problems, "policies"), &local, &mut trust);
    }
    let (table, expectations) = policies.finish(local.clone(), options.policy_version, has_xmpp_node);

    let over_xmpp = table.partners.iter().any(|entry| entry.protocol == Protocol::Xmpp) || table.stranger.is_some();
    let outside = edge::outside(outside_section, over_xmpp);
    let sip_port = outside.sip.first().map_or(5061, std::net::SocketAddr::port);
    for identity in &mut identities {
        identity.local.sip_port = sip_port;
    }
    for (place, domain) in unnamed.iter().filter(|_| over_xmpp) {
        place.warn(
            format!("the certificate does not name {domain}, and XMPP partners take none else for it (RFC 6120 §13.7)"),
            format!(
                "have one issued with the DNS name {domain} beside the others; by dialback alone it is proven to few"
            ),
        );
    }

    let trusts = inside_trust.as_ref().is_some_and(|value| !value.list().is_empty());
    let around = sip_nodes::Around { outside: &outside, inside: &inside, trusts };
    let nodes::Read { mut nodes, unresolved, unfaced, wishes } = nodes::read(&context, node_sections, &local, around);
    let inside_trust = Arc::new(trust.inside(files, inside_trust.as_ref()));
    let node_place = root.place().clone();
    for domain in local.iter().filter(|domain| !nodes.iter().any(|node| node.domains.contains(domain))) {
        node_place.warn(format!("no [[node]] serves {domain}"), "add it to the domains of a [[node]]");
    }
    let dns = edge::dns(root.section("dns", "dns"));
    let chat_idle = edge::chat_idle(root.section("chat", "chat"));
    for unbuilt in ["publish", "echo"] {
        root.section(unbuilt, unbuilt).finish();
    }
    let presence = edge::presence(root.section("presence", "presence"));
    let (state, secrets) = edge::state(&context, root.section("state", "state"));
    let limits = edge::limits(root.section("limits", "limits"));
    let admin = edge::admin(files, root.section("admin", "admin"), Some(&outside));
    edge::check_listeners(&Place::start(&source, problems), &outside, &inside, &nodes, admin.listen);
    let log = edge::log(&context, root.section("log", "log"));
    root.finish();

    components::attach(&mut nodes, wishes, &table);
    let certified = |partner: &gate::partner::Partner| partner.proof.contains(&gate::partner::Proof::Certificate);
    if default_trust.is_none()
        && table.partners.iter().any(|entry| certified(entry) && entry.trust == gate::partner::TrustId(0))
    {
        tls_place.error(
            "no [tls] trust: no partner's certificate leads anywhere",
            "write trust = [\"system\"] or PEM files",
        );
    }

    let policy = Arc::new(table);
    let trust = Arc::new(trust.into_sets());
    let gate = gate::settings::Settings {
        identities: identities.iter().map(|identity| identity.local.clone()).collect(),
        policy: policy.clone(),
        trust: Arc::clone(&trust),
        nodes: nodes.clone(),
        presence,
        chat_idle,
        secrets: secrets.clone(),
        inside_networks: inside.networks.clone(),
        inside_trust: Arc::clone(&inside_trust),
        limits,
    };
    let link = gate::link::Settings { policy, nodes, trust, inside_trust, inside_tls: inside.tls, secrets, limits };
    let edge = Edge { identities, tls_minimum, outside, inside, issuer, dns, state, admin, log };
    Some(Loaded { edge, gate, link, unresolved, unfaced, expectations })
}
