//! What stands in the middle: fedgate, and servers that take a partner's stanzas and hand them to a component.

use super::inside::{self, SECRET};
use super::process::{Running, fedgate_program, free, is_ready, missing, mortal, on_path};
use super::text::{LOCAL, PARTNER};
use clap::ValueEnum;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What can be measured alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Program {
    /// With its state in memory, and in a file.
    Fedgate,
    /// To a component.
    Prosody,
    /// To a component.
    Ejabberd,
}

/// One row of what is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `[state] engine = "memory"`
    Fedgate,
    /// `[state] engine = "embedded"`
    FedgateEmbedded,
    /// prosody
    Prosody,
    /// ejabberd
    Ejabberd,
}

/// In the order of the tables.
pub const KINDS: [Kind; 4] = [Kind::Fedgate, Kind::FedgateEmbedded, Kind::Prosody, Kind::Ejabberd];

impl Kind {
    /// As the tables name it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Fedgate => "fedgate",
            Kind::FedgateEmbedded => "fedgate, embedded store",
            Kind::Prosody => "Prosody",
            Kind::Ejabberd => "ejabberd",
        }
    }

    /// What runs it.
    pub fn program(self) -> Program {
        match self {
            Kind::Fedgate | Kind::FedgateEmbedded => Program::Fedgate,
            Kind::Prosody => Program::Prosody,
            Kind::Ejabberd => Program::Ejabberd,
        }
    }
}

impl Program {
    /// The program's file; or which of Debian's packages has it.
    fn find(self) -> Result<PathBuf, String> {
        match self {
            Program::Fedgate => Ok(fedgate_program()),
            Program::Prosody => on_path("prosody").ok_or_else(|| missing("prosody")),
            Program::Ejabberd => {
                let erlang = on_path("erl").ok_or_else(|| missing("ejabberd"))?;
                ejabberd_folder().map(|_| erlang).ok_or_else(|| missing("ejabberd"))
            }
        }
    }

    /// Which one it is, in one line.
    pub fn version(self) -> Result<String, String> {
        let program = self.find()?;
        match self {
            Program::Fedgate => {
                let output = Command::new(&program).arg("--version").output();
                let output = output.map_err(|error| format!("{}: {error}", program.display()))?;
                Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
            }
            // `prosody --version` would start it.
            Program::Prosody => Ok(package("prosody")),
            Program::Ejabberd => Ok(format!("{}, Erlang {}", package("ejabberd"), package("erlang-base"))),
        }
    }
}

/// The version of one of Debian's packages.
fn package(name: &str) -> String {
    let output = Command::new("dpkg-query").args(["-W", "-f", "${Version}", name]).output();
    let version = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    if version.is_empty() { format!("{name}, of no package") } else { format!("{name} {version}") }
}

/// Its folder `ebin` is in there.
fn ejabberd_folder() -> Option<PathBuf> {
    let libraries = std::fs::read_dir("/usr/lib").ok()?.flatten().map(|entry| entry.path());
    let mut folders = libraries.chain([PathBuf::from("/usr/lib")]).flat_map(|library| {
        let entries = std::fs::read_dir(library).into_iter().flatten().flatten();
        entries.map(|entry| entry.path())
    });
    folders.find(|folder| {
        folder.file_name().is_some_and(|name| name.to_string_lossy().starts_with("ejabberd-"))
            && folder.join("ebin").is_dir()
    })
}

/// One that runs.
pub struct Middle {
    /// For partners.
    pub outside: SocketAddr,
    /// Where a node's own stream goes; fedgate alone has it.
    pub inside: SocketAddr,
    /// Where a component attaches; the others have it.
    pub component: Option<SocketAddr>,
    /// Its processes.
    pub running: Running,
}

impl Middle {
    /// Starts it in this folder, which is its own. ca.pem, edge.pem and edge.key are in `certs`.
    pub async fn start(kind: Kind, folder: &Path, certs: &Path, node: SocketAddr) -> Result<Self, String> {
        let program = kind.program().find()?;
        std::fs::create_dir_all(folder.join("policies")).map_err(|error| error.to_string())?;
        let (outside, other, admin) = (free(), free(), free());
        let write = |name: &str, text: String| {
            let path = folder.join(name);
            std::fs::write(&path, text).map(|()| path).map_err(|error| error.to_string())
        };
        let mut command = match kind {
            Kind::Fedgate | Kind::FedgateEmbedded => {
                let engine = if kind == Kind::Fedgate { "memory" } else { "embedded" };
                write("policies/10-partners.toml", POLICY.replace("@partner@", PARTNER))?;
                let config = write("fedgate.toml", fedgate(engine, [outside, other, admin, node], certs))?;
                let mut command = mortal(&program);
                command.args(["run", "--config"]).arg(config);
                command
            }
            Kind::Prosody => {
                let config = write("prosody.cfg.lua", prosody(folder, [outside, other], certs))?;
                let mut command = mortal(&program);
                command.arg("--config").arg(config).arg("-F");
                command
            }
            Kind::Ejabberd => {
                let both = ["edge.pem", "edge.key"].map(|name| std::fs::read_to_string(certs.join(name)));
                let [chain, key] = both.map(|text| text.expect("made before"));
                write("edge-with-key.pem", chain + &key)?;
                let config = write("ejabberd.yml", ejabberd(folder, [outside, other], certs))?;
                let library = ejabberd_folder().and_then(|folder| folder.parent().map(Path::to_owned));
                let mut command = mortal(&program);
                command.env("HOME", folder).env("EJABBERD_CONFIG_PATH", config).env("ERL_CRASH_DUMP_BYTES", "0");
                command.env("EJABBERD_LOG_PATH", folder.join("ejabberd.log"));
                command.env("ERL_LIBS", library.unwrap_or_default());
                // As ejabberdctl does, but without a node name: no epmd, no port of Erlang's own.
                command.args(["+K", "true", "+P", "250000", "-noinput", "-mnesia", "dir"]);
                command.arg(format!("\"{}\"", folder.join("mnesia").display())).args(["-s", "ejabberd"]);
                command
            }
        };
        command.current_dir(folder);
        let is_fedgate = kind.program() == Program::Fedgate;
        let ready = move || match is_fedgate {
            true => is_ready(admin),
            false => TcpStream::connect(outside).is_ok() && TcpStream::connect(other).is_ok(),
        };
        let running = Running::start(command, &folder.join("log"), ready).await?;
        Ok(Self { outside, inside: other, component: (!is_fedgate).then_some(other), running })
    }
}

/// More than a partner may do by default, and a rule that is asked each time.
const POLICY: &str = r#"[[partner]]
domain   = "@partner@"
protocol = "xmpp"
limits   = { messages_per_second = 1000000, links = 10000 }

[[rule]]
name   = "no-presence-for-the-board"
from   = "*@partner.example"
to     = "board-*@corp.example"
do     = ["subscribe"]
answer = "refuse"
"#;

fn fedgate(engine: &str, [outside, inside, admin, node]: [SocketAddr; 4], certs: &Path) -> String {
    let (certs, source) = (certs.display(), inside::ADDRESS);
    format!(
        r#"[edge]
policies = "policies"

[[identity]]
hostname    = "{LOCAL}"
domains     = ["{LOCAL}"]
certificate = "{certs}/edge.pem"
key         = "{certs}/edge.key"

[tls]
trust = ["{certs}/ca.pem"]

[outside]
sip   = []
xmpp  = ["{outside}"]
xmpps = []

[inside]
sip      = []
xmpp     = ["{inside}"]
networks = ["127.0.0.0/8"]
tls      = "off"

[[node]]
name     = "node-1"
protocol = "xmpp"
address  = "{node}"
domains  = ["{LOCAL}"]
verify   = "network"
sources  = ["{source}"]

[state]
engine = "{engine}"

[admin]
listen = "{admin}"

[log]
audit = ""
"#
    )
}

fn prosody(folder: &Path, [outside, component]: [SocketAddr; 2], certs: &Path) -> String {
    let (folder, certs, address) = (folder.display(), certs.display(), outside.ip());
    let (outside, component) = (outside.port(), component.port());
    format!(
        r#"run_as_root = true
daemonize = false
pidfile = "{folder}/prosody.pid"
data_path = "{folder}"
certificates = "{folder}"
ssl = {{ certificate = "{certs}/edge.pem", key = "{certs}/edge.key", cafile = "{certs}/ca.pem" }}
interfaces = {{ "{address}" }}
use_ipv6 = false
c2s_ports = {{}}
c2s_direct_tls_ports = {{}}
s2s_ports = {{ {outside} }}
s2s_direct_tls_ports = {{}}
component_ports = {{ {component} }}
component_interfaces = {{ "{address}" }}
http_ports = {{}}
https_ports = {{}}
s2s_require_encryption = true
s2s_secure_auth = true
network_settings = {{ nagle = false }}
modules_enabled = {{ "saslauth", "tls", "dialback" }}
log = {{ {{ levels = {{ min = "warn" }}, to = "console" }} }}
VirtualHost "localhost"
Component "{LOCAL}"
    component_secret = "{SECRET}"
"#
    )
}

fn ejabberd(folder: &Path, [outside, component]: [SocketAddr; 2], certs: &Path) -> String {
    let (folder, certs, address) = (folder.display(), certs.display(), outside.ip());
    let (outside, component) = (outside.port(), component.port());
    format!(
        r#"loglevel: warning
hosts: ["localhost"]
certfiles: ["{folder}/edge-with-key.pem"]
ca_file: "{certs}/ca.pem"
s2s_use_starttls: required
listen:
  -
    port: {outside}
    ip: "{address}"
    module: ejabberd_s2s_in
  -
    port: {component}
    ip: "{address}"
    module: ejabberd_service
    hosts:
      "{LOCAL}":
        password: "{SECRET}"
modules:
  mod_s2s_dialback: {{}}
"#
    )
}
