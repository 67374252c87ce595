//! A real Prosody that serves corp.example and reaches every federated domain through fedgate.

use crate::pki::Certificate;
use crate::process::{PATIENCE, Process};
use crate::stand::{Net, Setup, wait_until};
use std::ffi::OsStr;
use std::net::TcpStream;
use std::path::{Path, PathBuf};

/// Everyone's password.
pub const PASSWORD: &str = "secret";
const USERS: [&str; 4] = ["alice", "bob", "carol", "dave"];

/// What it shares with its components.
pub const SECRET: &str = "the-component-secret";
/// A component for each partner of the policy.
const COMPONENTS: &str = r#"
Component "lync.example"
    component_secret = "the-component-secret"
Component "other.example"
    component_secret = "the-component-secret"
"#;

/// The server.
pub struct Prosody {
    net: Net,
    folder: PathBuf,
    process: Option<Process>,
}

impl Prosody {
    /// Writes its configuration and starts it. With `tls`, it insists on TLS between servers.
    pub fn start(folder: &Path, net: Net, certificate: &Certificate, setup: Setup) -> Self {
        let accounts = folder.join("data/corp%2eexample/accounts");
        std::fs::create_dir_all(&accounts).expect("a folder for accounts");
        for user in USERS {
            // The form of its own internal storage: no prosodyctl run for each user.
            let account = format!("return {{ [\"password\"] = \"{PASSWORD}\"; }};\n");
            std::fs::write(accounts.join(format!("{user}.dat")), account).expect("an account");
        }
        // Its resolver is libunbound, inside its process: records given here need no name server, no namespace, no root. Under `. static` what
        // is not listed does not exist. The options take one record each, hence addresses by a hosts file; a domain without SRV
        // is reached at its own name, port 5269.
        let hosts = format!("{0} edge.inside.test\n{0} unlisted.example\n{0} kamailio.example\n", net.inside());
        std::fs::write(folder.join("hosts"), hosts).expect("a hosts file");
        let config = format!(
            r#"run_as_root = true
daemonize = false
pidfile = "{folder}/prosody.pid"
data_path = "{folder}/data"
certificates = "{folder}"
ssl = {{ certificate = "{chain}", key = "{key}" }}
storage = "internal"
authentication = "internal_plain"
interfaces = {{ "{address}" }}
use_ipv6 = false
component_ports = {{ {component_port} }}
component_interfaces = {{ "{address}" }}
c2s_ports = {{ 5222 }}
s2s_ports = {{ 5269 }}
c2s_direct_tls_ports = {{}}
s2s_direct_tls_ports = {{}}
http_ports = {{}}
https_ports = {{}}
c2s_require_encryption = false
allow_unencrypted_plain_auth = true
s2s_require_encryption = {tls}
s2s_secure_auth = false
modules_enabled = {{ "roster", "saslauth", "tls", "dialback", "disco", "ping"{smacks} }}
unbound = {{ resolvconf = false, hoststxt = "{folder}/hosts", options = {{
    ["local-zone:"] = ". static",
    ["local-data:"] = "_xmpp-server._tcp.lync.example. 60 IN SRV 0 0 {port} edge.inside.test.",
}} }}
log = {{ {{ levels = {{ min = "debug" }}, to = "file", filename = "{folder}/prosody.log" }} }}
VirtualHost "corp.example"
{components}"#,
            tls = setup.tls,
            smacks = if setup.managed { r#", "smacks""# } else { "" },
            components = if setup.component { COMPONENTS } else { "" },
            folder = folder.display(),
            chain = certificate.chain.display(),
            key = certificate.key.display(),
            address = net.prosody(),
            port = Net::INSIDE_PORT,
            component_port = Net::COMPONENT_PORT,
        );
        std::fs::write(folder.join("prosody.cfg.lua"), config).expect("a configuration");
        let mut prosody = Self { net, folder: folder.to_owned(), process: None };
        prosody.run();
        prosody
    }

    /// Starts it, again.
    pub fn run(&mut self) {
        let config = self.folder.join("prosody.cfg.lua");
        let arguments: [&OsStr; 3] = ["--config".as_ref(), config.as_ref(), "-F".as_ref()];
        let log = self.folder.join("prosody.out");
        let mut process = Process::start("prosody", "prosody".as_ref(), &arguments, &self.folder, &log);
        let address = (self.net.prosody(), 5269);
        wait_until("Prosody listens", PATIENCE, || {
            process.assert_running();
            TcpStream::connect(address).is_ok()
        });
        self.process = Some(process);
    }

    /// Ends it as its service manager would.
    pub fn stop(&mut self) {
        let mut process = self.process.take().expect("it runs");
        process.signal("TERM");
        process.wait(PATIENCE);
    }

    /// Holds it: its sockets stay open, and nothing is answered.
    pub fn freeze(&self) {
        self.process.as_ref().expect("it runs").signal("STOP");
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.process.as_ref().expect("it runs").signal("CONT");
    }

    /// Its log, with the first line of every stanza it received.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("prosody.log")).unwrap_or_default()
    }
}
