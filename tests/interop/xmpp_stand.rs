//! The world of XMPP that stays XMPP: one or two servers inside for corp.example, one outside for partner.example, fedgate between them, and
//! for each side a name server that knows what that side may know.

use crate::client::Client;
use crate::fedgate::{self, Fedgate, TOKEN};
use crate::peers;
use crate::pki::{Certificate, Pki};
use crate::resolver::Resolver;
use crate::stand::{Folder, Net, subfolder};
use crate::xmpp_server::{DIRECT, Kind, Place, Server};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

/// The partner's domain.
pub const PARTNER: &str = "partner.example";
/// Users there.
pub const JULIET: &str = "juliet@partner.example";
/// Users inside.
pub const ALICE: &str = "alice@corp.example";

/// What varies between stands.
#[derive(Clone, Copy)]
pub struct Setup {
    /// What the partner runs.
    pub partner: Kind,
    /// What the nodes inside run.
    pub inside: Kind,
    /// How many of them there are.
    pub nodes: u8,
    /// The partner and fedgate prove themselves to each other by certificates; else neither believes the other's, and dialback must do.
    pub certificates: bool,
    /// The node inside insists on a certificate of the domain it talks to, made by `[inside] issuer`, and shows one to fedgate that it insists on.
    pub insists: bool,
    /// Between fedgate and the partner, streams begin with TLS (XEP-0368), and no record says otherwise.
    pub direct: bool,
    /// There is an entry for the partner.
    pub listed: bool,
    /// Further text of the policy.
    pub policy: &'static str,
    /// Further lines of `[limits]`.
    pub limits: &'static str,
}

impl Setup {
    /// That of most: everything is as it should be.
    pub fn of(partner: Kind, inside: Kind) -> Self {
        Self {
            partner,
            inside,
            nodes: 1,
            certificates: true,
            insists: false,
            direct: false,
            listed: true,
            policy: "",
            limits: "",
        }
    }
}

/// The world. Fields end in this order.
pub struct Stand {
    /// The program under test.
    pub fedgate: Fedgate,
    /// The servers inside.
    pub inside: Vec<Server>,
    /// The server outside.
    pub partner: Server,
    /// Its addresses.
    pub net: Net,
    /// Certificates.
    pub pki: Pki,
    _resolvers: [Resolver; 2],
    folder: Folder,
}

/// The entries of the partner: its users, and its chat rooms.
const POLICY: &str = r#"
[default]
unlisted = "refuse"

[[partner]]
domain   = "partner.example"
protocol = "xmpp"
allow    = ["subscribe", "presence", "message", "chat", "groupchat", "iq"]
proof    = ["@proof@"]
limits   = { messages_per_second = 1000 }

[[partner]]
domain   = "conference.partner.example"
protocol = "xmpp"
allow    = ["presence", "message", "chat", "groupchat", "iq"]
proof    = ["@proof@"]
limits   = { messages_per_second = 1000 }
"#;

const STRANGERS_ONLY: &str = r#"
[[partner]]
domain   = "somebody-else.example"
protocol = "xmpp"
"#;

impl Stand {
    /// Raises it; `None` when something it needs is missing and that is allowed.
    pub fn raise(test: &str, setup: Setup) -> Option<Self> {
        let peers = peers::find_xmpp(test)?;
        let folder = Folder::new(test);
        let net = Net::pick();
        let pki = Pki::new(&folder.path().join("pki"));
        let edge = pki.leaf("edge", &["edge.corp.example", "corp.example", "conference.corp.example"], &pki.authority);
        let (partner_signed_by, partner_believes) = match setup.certificates {
            true => (&pki.authority, &pki.authority),
            false => (&pki.stranger, &pki.stranger),
        };
        let partner = pki.leaf("partner", &[PARTNER, "conference.partner.example"], partner_signed_by);
        // As most servers inside have it: signed by nobody whom the outside knows.
        let node = pki.leaf("node", &["corp.example", "conference.corp.example"], &pki.stranger);

        let path = subfolder(&folder, "fedgate");
        let policy = match setup.listed {
            true => POLICY.replace("@proof@", if setup.certificates { "certificate" } else { "dialback" }),
            false => STRANGERS_ONLY.to_owned(),
        };
        fedgate::configure(&path, &config(net, &edge, &pki, setup), &policy, setup.policy);
        let resolvers = [
            Resolver::start(folder.path(), "outer-resolver", net.outer_resolver(), &outer_names(net, setup)),
            Resolver::start(
                folder.path(),
                "inner-resolver",
                net.inner_resolver(),
                &inner_names(&peers.fedgate, &path, net, setup),
            ),
        ];
        let partner = Place {
            kind: setup.partner,
            domain: PARTNER,
            users: &["juliet", "romeo"],
            address: net.xmpp_partner(),
            resolver: net.outer_resolver(),
            certificate: partner,
            trust: partner_believes.clone(),
            insists: setup.certificates,
            direct: setup.direct,
        };
        let partner = Server::start(folder.path().join("xmpp-partner"), partner);
        let place = |number| Place {
            kind: setup.inside,
            domain: "corp.example",
            users: &["alice", "bob"],
            address: net.xmpp_node(number),
            resolver: net.inner_resolver(),
            certificate: node.clone(),
            // Of the inside only: the authority that the outside knows is nobody here.
            trust: pki.stranger.clone(),
            insists: setup.insists,
            direct: false,
        };
        let inside = (1..=setup.nodes)
            .map(|number| Server::start(folder.path().join(format!("xmpp-node-{number}")), place(number)))
            .collect();
        let fedgate = Fedgate::launch(&peers.fedgate, &path, net, policy);
        Some(Self { fedgate, inside, partner, net, pki, _resolvers: resolvers, folder })
    }

    /// A user's client at the first server inside, available.
    pub fn inside(&self, user: &str) -> Client {
        self.at(user, &self.inside[0])
    }

    /// A user's client at the partner's server, available.
    pub fn outside(&self, user: &str) -> Client {
        self.at(user, &self.partner)
    }

    /// A user's client at a server, available.
    pub fn at(&self, user: &str, server: &Server) -> Client {
        let mut client = Client::login_at(user, server.place.domain, server.place.address, self.folder.path());
        client.show(None, None);
        client.presence_from(&format!("{user}@{}", server.place.domain), "");
        client
    }

    /// Where fedgate takes partners' streams.
    pub fn door(&self) -> SocketAddr {
        SocketAddr::new(self.net.outside(), 5269)
    }
}

/// What the outside knows: fedgate as our domains' server, and the partner's.
fn outer_names(net: Net, setup: Setup) -> String {
    let mut lines = format!("host-record=xmpp.partner.example,{}\n", net.xmpp_partner());
    lines.push_str(&format!("host-record=edge.corp.example,{}\n", net.outside()));
    let (service, port) = if setup.direct { ("_xmpps-server", DIRECT) } else { ("_xmpp-server", 5269) };
    for domain in ["partner.example", "conference.partner.example"] {
        lines.push_str(&format!("srv-host={service}._tcp.{domain},xmpp.partner.example,{port}\n"));
    }
    let edge = setup.partner.target("edge.corp.example", net.outside());
    for domain in ["corp.example", "conference.corp.example"] {
        lines.push_str(&format!("srv-host={service}._tcp.{domain},{edge},{port}\n"));
    }
    lines
}

/// What the inside is told: what fedgate itself says that its name server needs.
fn inner_names(program: &Path, folder: &Path, net: Net, setup: Setup) -> String {
    let output = fedgate::verb(program, folder, &["check", "--dns", "dnsmasq"]);
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let name = "edge.fedgate.internal";
    let target = setup.inside.target(name, net.inside());
    text.lines()
        .map(|line| match line.starts_with("srv-host=") {
            true => line.replace(name, &target) + "\n",
            false => line.to_owned() + "\n",
        })
        .collect()
}

fn config(net: Net, edge: &Certificate, pki: &Pki, setup: Setup) -> String {
    let (inside, trust) = match setup.insists {
        true => (
            format!(
                "tls      = \"required\"\ntrust    = [\"{0}\"]\nissuer   = {{ certificate = \"{0}\", key = \"{1}\" }}",
                shown(&pki.stranger.chain),
                shown(&pki.stranger.key)
            ),
            "verify = \"certificate\"",
        ),
        false => ("tls      = \"optional\"".to_owned(), "verify = \"network\""),
    };
    let nodes: String = (1..=setup.nodes)
        .map(|number| {
            let address = net.xmpp_node(number);
            format!(
                r#"
[[node]]
name     = "node-{number}"
protocol = "xmpp"
address  = "{address}:5269"
domains  = ["corp.example", "conference.corp.example"]
priority = {number}
{trust}
sources  = [{sources}]
"#,
                sources = sources(address, setup),
            )
        })
        .collect();
    format!(
        r#"[edge]
policies = "policies"

[[identity]]
hostname    = "edge.corp.example"
domains     = ["corp.example", "conference.corp.example"]
certificate = "{chain}"
key         = "{key}"

[tls]
trust = ["{authority}"]

[outside]
sip  = []
{outside}

[inside]
sip      = []
xmpp     = ["{inside_address}:{port}"]
networks = ["127.0.0.0/8"]
{inside}
{nodes}
[dns]
servers = ["{resolver}"]

[limits]
{limits}

[admin]
listen = "{admin}:9630"
token  = "{TOKEN}"

[log]
format = "json"
audit  = "audit.jsonl"
"#,
        chain = shown(&edge.chain),
        key = shown(&edge.key),
        authority = shown(&pki.authority.chain),
        outside = match setup.direct {
            true => format!("xmpp = []\nxmpps = [\"{}:{DIRECT}\"]", net.outside()),
            false => format!("xmpp = [\"{}:5269\"]", net.outside()),
        },
        inside_address = net.inside(),
        port = Net::INSIDE_PORT,
        resolver = SocketAddr::new(net.outer_resolver(), crate::resolver::PORT),
        limits = setup.limits,
        admin = net.admin(),
    )
}

/// Where a node connects from. Prosody leaves that to Linux, which takes 127.0.0.1 for whatever loopback address.
fn sources(address: IpAddr, setup: Setup) -> String {
    match setup.inside {
        Kind::Prosody => format!("\"127.0.0.1\", \"{address}\""),
        Kind::Ejabberd => format!("\"{address}\""),
    }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}
