//! What stands in the middle, as processes: found, configured, started, watched, stopped.

use super::process::{Running, fedgate_program, free, is_ready, missing, mortal, on_path};
use super::{node, tls};
use clap::ValueEnum;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What can be measured alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Program {
    /// With its state in memory, and in a file.
    Fedgate,
    /// Stateful, and stateless.
    Kamailio,
    /// Layer 4.
    Haproxy,
    /// The byte pipe.
    Pipe,
}

/// One column of what is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `[state] engine = "memory"`
    Fedgate,
    /// `[state] engine = "embedded"`
    FedgateEmbedded,
    /// t_relay
    KamailioStateful,
    /// forward
    KamailioStateless,
    /// mode tcp
    Haproxy,
    /// tokio-rustls
    Pipe,
}

/// In the order of the tables.
pub const KINDS: [Kind; 6] =
    [Kind::Fedgate, Kind::FedgateEmbedded, Kind::KamailioStateful, Kind::KamailioStateless, Kind::Haproxy, Kind::Pipe];

impl Kind {
    /// As the tables name it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Fedgate => "fedgate",
            Kind::FedgateEmbedded => "fedgate, embedded store",
            Kind::KamailioStateful => "Kamailio stateful",
            Kind::KamailioStateless => "Kamailio stateless",
            Kind::Haproxy => "HAProxy",
            Kind::Pipe => "byte pipe",
        }
    }

    /// What runs it.
    pub fn program(self) -> Program {
        match self {
            Kind::Fedgate | Kind::FedgateEmbedded => Program::Fedgate,
            Kind::KamailioStateful | Kind::KamailioStateless => Program::Kamailio,
            Kind::Haproxy => Program::Haproxy,
            Kind::Pipe => Program::Pipe,
        }
    }

    /// So cheap that it takes more of the load to be measured.
    pub fn only_copies(self) -> bool {
        matches!(self, Kind::Haproxy | Kind::Pipe)
    }
}

impl Program {
    /// The program's file; or which of Debian's packages has it.
    fn find(self) -> Result<PathBuf, String> {
        match self {
            Program::Fedgate => Ok(fedgate_program()),
            Program::Pipe => std::env::current_exe().map_err(|error| error.to_string()),
            Program::Haproxy => on_path("haproxy").ok_or_else(|| missing("haproxy")),
            Program::Kamailio => {
                let program = on_path("kamailio").ok_or_else(|| missing("kamailio kamailio-tls-modules"))?;
                let has_tls = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten().any(|folder| {
                    ["kamailio/modules/tls.so", "modules/tls.so"].iter().any(|file| folder.path().join(file).exists())
                });
                if has_tls { Ok(program) } else { Err(missing("kamailio-tls-modules")) }
            }
        }
    }

    /// Which one it is, in one line.
    pub fn version(self) -> Result<String, String> {
        let program = self.find()?;
        let argument = match self {
            Program::Fedgate => "--version",
            Program::Kamailio | Program::Haproxy => "-v",
            Program::Pipe => {
                return Ok(format!("tokio-rustls {}, rustls {}", locked("tokio-rustls"), locked("rustls")));
            }
        };
        let output = Command::new(&program).arg(argument).output();
        let output = output.map_err(|error| format!("{}: {error}", program.display()))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let line = text.lines().next().unwrap_or_default().trim_start_matches("version: ");
        Ok(line.split(" - http").next().unwrap_or(line).to_owned())
    }
}

/// The version of a crate that this was built with.
fn locked(name: &str) -> &'static str {
    let lock = include_str!("../../../Cargo.lock");
    let line = format!("name = \"{name}\"\nversion = \"");
    lock.split_once(&line).and_then(|(_, rest)| rest.split('"').next()).unwrap_or("?")
}

/// Where what it shall reach is.
#[derive(Clone, Copy, Debug)]
pub struct Ends<'a> {
    /// The partner's listener.
    pub partner: SocketAddr,
    /// The node's listener.
    pub node: SocketAddr,
    /// ca.pem, edge.pem and edge.key are there.
    pub certs: &'a Path,
}

/// One that runs.
pub struct Middle {
    /// For partners.
    pub outside: SocketAddr,
    /// Where a node's own connections go, if it takes any.
    pub inside: Option<SocketAddr>,
    /// Its processes.
    pub running: Running,
}

impl Middle {
    /// Starts it in this folder, which is its own. Belongs on a thread that lasts: when that ends, the kernel ends the child.
    pub async fn start(kind: Kind, folder: &Path, ends: Ends<'_>) -> Result<Self, String> {
        let program = kind.program().find()?;
        std::fs::create_dir_all(folder).map_err(|error| error.to_string())?;
        let (outside, inside, admin) = (free(), free(), free());
        let write = |name: &str, text: String| {
            let path = folder.join(name);
            std::fs::write(&path, text).map(|()| path).map_err(|error| error.to_string())
        };
        let mut command = mortal(&program);
        match kind {
            Kind::Fedgate | Kind::FedgateEmbedded => {
                let engine = if kind == Kind::Fedgate { "memory" } else { "embedded" };
                std::fs::create_dir_all(folder.join("policies")).map_err(|error| error.to_string())?;
                write("policies/10-partners.toml", POLICY.to_owned())?;
                let config = write("fedgate.toml", fedgate(engine, [outside, inside, admin], ends))?;
                command.args(["run", "--config"]).arg(config);
            }
            Kind::KamailioStateful | Kind::KamailioStateless => {
                write("tls.cfg", kamailio_tls(ends.certs))?;
                let is_stateful = kind == Kind::KamailioStateful;
                let config = write("kamailio.cfg", kamailio(folder, is_stateful, outside, ends))?;
                // One process, and Debian's allocators that are not its slow default, as the head of the table says.
                command.args(["-DD", "-E", "-x", "fm", "-X", "fm", "-m", "2048", "-M", "64", "-Y"]);
                command.arg(folder).arg("-f").arg(config);
            }
            Kind::Haproxy => {
                let both = ["edge.pem", "edge.key"].map(|name| std::fs::read_to_string(ends.certs.join(name)));
                let [chain, key] = both.map(|text| text.expect("made before"));
                write("edge-with-key.pem", chain + &key)?;
                let config = write("haproxy.cfg", haproxy(folder, outside, ends))?;
                command.args(["-db", "-f"]).arg(config);
            }
            Kind::Pipe => {
                let [listen, node] = [outside, ends.node].map(|at| at.to_string());
                command.args(["--pipe", &listen, &node]).arg(ends.certs);
            }
        }
        command.current_dir(folder);
        let is_fedgate = kind.program() == Program::Fedgate;
        let ready = move || if is_fedgate { is_ready(admin) } else { TcpStream::connect(outside).is_ok() };
        let running = Running::start(command, &folder.join("log"), ready).await?;
        Ok(Self { outside, inside: is_fedgate.then_some(inside), running })
    }
}

/// More than a partner may do by default, and a rule that is asked each time.
const POLICY: &str = r#"[[partner]]
domain   = "lync.example"
protocol = "sip"
profile  = "lync"
chat     = "page"
limits   = { messages_per_second = 1000000, subscriptions = 1000000, links = 1000 }

[[rule]]
name   = "no-presence-for-the-board"
from   = "*@lync.example"
to     = "board-*@corp.example"
do     = ["subscribe"]
answer = "refuse"
"#;

fn fedgate(engine: &str, [outside, inside, admin]: [SocketAddr; 3], ends: Ends<'_>) -> String {
    let (certs, edge, partner, name) = (ends.certs.display(), tls::EDGE, tls::PARTNER, tls::NODE);
    let (node, source, partner_ip, partner_port) = (ends.node, node::ADDRESS, ends.partner.ip(), ends.partner.port());
    format!(
        r#"[edge]
policies = "policies"

[[identity]]
hostname    = "{edge}"
domains     = ["corp.example"]
certificate = "{certs}/edge.pem"
key         = "{certs}/edge.key"

[tls]
trust = ["{certs}/ca.pem"]

[outside]
sip   = ["{outside}"]
xmpp  = []
xmpps = []

[inside]
sip      = ["tls:{inside}"]
xmpp     = []
networks = ["127.0.0.0/8"]
trust    = ["{certs}/ca.pem"]

[[node]]
name     = "imp-1"
protocol = "sip"
address  = "{node}"
tls      = {{ name = "{name}" }}
verify   = "network"
sources  = ["{source}"]
domains  = ["corp.example"]

[dns.records]
"_sipfederationtls._tcp.lync.example" = [{{ target = "{partner}", port = {partner_port} }}]
"{partner}" = ["{partner_ip}"]

[state]
engine = "{engine}"

[admin]
listen = "{admin}"

[log]
audit = ""
"#
    )
}

fn kamailio_tls(certs: &Path) -> String {
    let certs = certs.display();
    let own = format!("certificate = {certs}/edge.pem\nprivate_key = {certs}/edge.key\nca_list = {certs}/ca.pem\n");
    format!(
        "[server:default]\nmethod = TLSv1.2+\nverify_certificate = yes\nrequire_certificate = yes\n{own}\
         [client:default]\nmethod = TLSv1.2+\nverify_certificate = no\nrequire_certificate = no\n{own}"
    )
}

fn kamailio(folder: &Path, is_stateful: bool, outside: SocketAddr, ends: Ends<'_>) -> String {
    let (folder, partner, name) = (folder.display(), ends.partner, tls::PARTNER);
    let node = ends.node;
    let relay = if is_stateful { "t_relay()" } else { "forward()" };
    format!(
        r#"#!KAMAILIO
debug=-1
log_stderror=yes
disable_core_dump=yes
# More than one worker, each with a copy of OpenSSL's state, break each other's connections in Debian's version.
children=1
tcp_children=1
tcp_connection_lifetime=3600
tcp_max_connections=4096
tls_max_connections=4096
auto_aliases=no
auto_bind_ipv6=0
dns=no
rev_dns=no
enable_tls=yes
listen=tls:{outside}

loadmodule "tm.so"
loadmodule "sl.so"
loadmodule "rr.so"
loadmodule "pv.so"
loadmodule "maxfwd.so"
loadmodule "siputils.so"
loadmodule "textops.so"
loadmodule "tls.so"

modparam("tls", "config", "{folder}/tls.cfg")
modparam("rr", "enable_full_lr", 1)

request_route {{
    if (!mf_process_maxfwd_header("10")) {{
        sl_send_reply("483", "Too Many Hops");
        exit;
    }}
    if (has_totag()) {{
        if (!loose_route()) {{
            sl_send_reply("404", "Not Here");
            exit;
        }}
        # What DNS would say.
        if ($rd == "{name}") {{
            $du = "sip:{partner};transport=tls";
        }}
    }} else {{
        if (is_method("SUBSCRIBE")) {{
            record_route();
        }}
        $du = "sip:{node};transport=tls";
    }}
    if (!{relay}) {{
        sl_send_reply("500", "Cannot Relay");
    }}
    exit;
}}
"#
    )
}

fn haproxy(folder: &Path, outside: SocketAddr, ends: Ends<'_>) -> String {
    let (folder, certs, node, name) = (folder.display(), ends.certs.display(), ends.node, tls::NODE);
    format!(
        "global\n    nbthread 1\n    maxconn 4096\n\
         defaults\n    mode tcp\n    timeout connect 5s\n    timeout client 1h\n    timeout server 1h\n\
         frontend outside\n    bind {outside} ssl crt {folder}/edge-with-key.pem ca-file {certs}/ca.pem verify required\n    \
         default_backend inside\n\
         backend inside\n    server node {node} ssl crt {folder}/edge-with-key.pem ca-file {certs}/ca.pem verify required \
         verifyhost {name} sni str({name})\n"
    )
}
