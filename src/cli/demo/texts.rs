//! The configuration of the demo's edge: what an operator would write for a Lync partner, for AOL and one XMPP node, on loopback.

use std::net::SocketAddr;

/// The config file's name.
pub const CONFIG: &str = "fedgate.toml";
/// The policy file's.
pub const POLICIES: &str = "policies/10-partners.toml";

/// Where everything listens; port 0 of the edge's own: any free one.
#[derive(Debug, Clone, Copy)]
pub struct Places {
    /// The edge towards partners.
    pub outside: SocketAddr,
    /// The edge towards nodes.
    pub inside: SocketAddr,
    /// The edge's admin listener.
    pub admin: SocketAddr,
    /// The partner's SIP edge.
    pub partner: SocketAddr,
    /// AOL's.
    pub aol: SocketAddr,
    /// The XMPP node.
    pub node: SocketAddr,
}

/// `fedgate.toml`
pub fn config(places: &Places) -> String {
    let Places { outside, inside, admin, partner, aol, node } = places;
    let (partner_ip, partner_port) = (partner.ip(), partner.port());
    let (aol_ip, aol_port) = (aol.ip(), aol.port());
    format!(
        r#"# The edge of `fedgate demo`; deploy/fedgate.toml shows every key.

[[identity]]
hostname    = "sip.corp.example"
domains     = ["corp.example"]
certificate = "certs/edge.pem"
key         = "certs/edge.key"

[tls]
trust = ["certs/ca.pem"]

[outside]
sip = ["{outside}"]

[inside]
xmpp = ["{inside}"]
tls  = "off"                          # one machine, and no certificate for the node

[[node]]
name     = "imp-1"
protocol = "xmpp"
address  = "{node}"
verify   = "dialback"
domains  = ["corp.example"]

[dns.records]                         # what DNS would say of the partners
"_sipfederationtls._tcp.lync.example" = [{{ target = "sip.lync.example", port = {partner_port} }}]
"sip.lync.example" = ["{partner_ip}"]
"_sipfederationtls._tcp.aol.com" = [{{ target = "sip.aol.com", port = {aol_port} }}]
"sip.aol.com" = ["{aol_ip}"]

[presence]
notify_interval = "100ms"             # the default, 5s, is kinder to partners and too slow for a show

[state]
engine  = "memory"
secrets = ["file:state/secret"]

[admin]
listen = "{admin}"
"#
    )
}

/// `policies/10-partners.toml`
pub const PARTNERS: &str = r#"# The partners of `fedgate demo`; every other domain is refused.

[[partner]]
domain   = "lync.example"
protocol = "sip"
profile  = "lync"
chat     = "session"

[[partner]]
domain   = "aol.com"
protocol = "sip"
profile  = "aol"
chat     = "page"

[[expect]]
from   = "romeo@lync.example"
to     = "juliet@corp.example"
do     = "subscribe"
answer = "allow"

[[expect]]
from   = "juliet@corp.example"
to     = "sip:romeo@lync.example"
do     = "subscribe"
answer = "allow"

[[expect]]
from   = "sip:juliet(gmail.com)@aol.com"
to     = "juliet@corp.example"
do     = "message"
answer = "allow"

[[expect]]
from   = "sip:tybalt@stranger.example"
to     = "juliet@corp.example"
do     = "subscribe"
answer = "refuse"
"#;
