//! Real XMPP servers, Prosody and ejabberd, each for one domain and its chat rooms: inside, or as a partner.
//!
//! What it takes to run them by hand, beside others and without touching the machine:
//! * Neither asks /etc/resolv.conf. Prosody's libunbound forwards to our resolver. ejabberd asks it for SRV only, by Erlang's own resolver
//!   (`ERL_INETRC`; without `{resolv_conf, ""}` the system's name servers come first), and looks addresses up by the C library, which asks the
//!   system. Hence SRV records whose target is written as an address (see [`Kind::target`]): the C library takes it as one.
//! * ejabberd without a node name (`nonode@nohost`) needs no epmd and takes no port but its listeners'.

use crate::pki::Certificate;
use crate::process::{PATIENCE, Process};
use crate::prosody::PASSWORD;
use crate::resolver;
use crate::stand::wait_until;
use std::ffi::OsStr;
use std::net::{IpAddr, TcpStream};
use std::path::{Path, PathBuf};

/// Which program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// prosody
    Prosody,
    /// ejabberd
    Ejabberd,
}

use Kind::{Ejabberd, Prosody};

impl Kind {
    /// How an SRV record must name this host, so that such a server finds it.
    pub fn target(self, name: &str, address: IpAddr) -> String {
        match self {
            Prosody => name.to_owned(),
            Ejabberd => address.to_string(),
        }
    }
}

/// One server's place in the world.
#[derive(Clone, Debug)]
pub struct Place {
    /// Which program.
    pub kind: Kind,
    /// What it serves; chat rooms under `conference.` of it.
    pub domain: &'static str,
    /// Who has an account.
    pub users: &'static [&'static str],
    /// Where: clients to 5222, servers to 5269.
    pub address: IpAddr,
    /// Whom it asks for names.
    pub resolver: IpAddr,
    /// What it shows.
    pub certificate: Certificate,
    /// Whose certificates it believes.
    pub trust: Certificate,
    /// On a certificate for each domain that it talks to; else dialback will do.
    pub insists: bool,
    /// It also takes streams that begin with TLS (XEP-0368), at [`DIRECT`].
    pub direct: bool,
}

/// Where servers are that begin with TLS.
pub const DIRECT: u16 = 5270;

/// One server.
pub struct Server {
    /// As it was asked for.
    pub place: Place,
    folder: PathBuf,
    process: Option<Process>,
}

impl Server {
    /// Writes its configuration and starts it.
    pub fn start(folder: PathBuf, place: Place) -> Self {
        std::fs::create_dir_all(&folder).expect("a folder");
        match place.kind {
            Prosody => prepare_prosody(&folder, &place),
            Ejabberd => prepare_ejabberd(&folder, &place),
        }
        let mut server = Self { place, folder, process: None };
        server.run();
        server
    }

    /// Starts it, again.
    pub fn run(&mut self) {
        let log = self.folder.join("server.out");
        let process = match self.place.kind {
            Prosody => {
                let config = self.folder.join("server.cfg.lua");
                let arguments: [&OsStr; 3] = ["--config".as_ref(), config.as_ref(), "-F".as_ref()];
                Process::start("prosody", "prosody".as_ref(), &arguments, &self.folder, &log)
            }
            Ejabberd => {
                let arguments: Vec<String> = ejabberd(&self.folder, &self.place);
                let arguments: Vec<&OsStr> = arguments.iter().map(AsRef::as_ref).collect();
                Process::start("ejabberd", "env".as_ref(), &arguments, &self.folder, &log)
            }
        };
        // In place before anybody waits: what ends a test ends it, too.
        let process = self.process.insert(process);
        let direct = self.place.direct.then_some(DIRECT);
        for port in [5269, 5222].into_iter().chain(direct) {
            wait_until("an XMPP server listens", 2 * PATIENCE, || {
                process.assert_running();
                TcpStream::connect((self.place.address, port)).is_ok()
            });
        }
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        let mut process = self.process.take().expect("it runs");
        process.signal("KILL");
        process.wait(PATIENCE);
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("server.log")).unwrap_or_default()
    }

    /// Waits until one line of its log has all these words.
    pub fn wait_for_log(&self, words: &[&str]) {
        wait_until(&format!("{:?} logs {words:?}", self.place.kind), PATIENCE, || self.has_logged(words));
    }

    /// Whether one line of its log has all these words.
    pub fn has_logged(&self, words: &[&str]) -> bool {
        self.log().lines().any(|line| words.iter().all(|word| line.contains(word)))
    }
}

fn fill(template: &str, folder: &Path, place: &Place) -> String {
    let text = |path: &Path| path.display().to_string();
    let fields = [
        ("@folder@", text(folder)),
        ("@domain@", place.domain.to_owned()),
        ("@address@", place.address.to_string()),
        // libunbound writes a port behind an @.
        ("@resolver@@5353", format!("{}@{}", place.resolver, resolver::PORT)),
        ("@chain@", text(&place.certificate.chain)),
        ("@key@", text(&place.certificate.key)),
        ("@both@", text(&folder.join("both.pem"))),
        ("@trust@", text(&place.trust.chain)),
        ("@insists@", place.insists.to_string()),
        ("@direct@", if place.direct { DIRECT.to_string() } else { String::new() }),
    ];
    fields.iter().fold(template.to_owned(), |text, (field, value)| text.replace(field, value))
}

fn prepare_prosody(folder: &Path, place: &Place) {
    let escaped = place.domain.replace('.', "%2e");
    let accounts = folder.join(format!("data/{escaped}/accounts"));
    std::fs::create_dir_all(&accounts).expect("a folder for accounts");
    for user in place.users {
        let account = format!("return {{ [\"password\"] = \"{PASSWORD}\"; }};\n");
        std::fs::write(accounts.join(format!("{user}.dat")), account).expect("an account");
    }
    let config = fill(include_str!("xmpp_prosody.cfg.lua"), folder, place);
    std::fs::write(folder.join("server.cfg.lua"), config).expect("a configuration");
}

fn prepare_ejabberd(folder: &Path, place: &Place) {
    let both = [&place.certificate.chain, &place.certificate.key].map(std::fs::read_to_string);
    let both: String = both.into_iter().map(|text| text.expect("made before")).collect();
    std::fs::write(folder.join("both.pem"), both).expect("a certificate with its key");
    let mut config = fill(include_str!("xmpp_ejabberd.yml"), folder, place);
    if place.direct {
        let listener = format!(
            "listen:\n  -\n    port: {DIRECT}\n    ip: \"{}\"\n    module: ejabberd_s2s_in\n    tls: true\n",
            place.address
        );
        config = config.replace("listen:\n", &listener);
    }
    if !place.insists {
        config.push_str("  mod_s2s_dialback: {}\n");
    }
    std::fs::write(folder.join("server.yml"), config).expect("a configuration");
    let octets = place.resolver.to_string().replace('.', ",");
    let names = format!(
        "{{resolv_conf,\"\"}}.\n{{hosts_file,\"\"}}.\n{{lookup,[\"file\",\"dns\"]}}.\n{{nameserver,{{{octets}}},{}}}.\n",
        resolver::PORT
    );
    std::fs::write(folder.join("inetrc"), names).expect("a resolver's configuration");
}

/// Arguments of `env`: what ejabberdctl would do, but for its user, its node name and its fixed folders.
fn ejabberd(folder: &Path, place: &Place) -> Vec<String> {
    let at = |name: &str| folder.join(name).display().to_string();
    let library = ejabberd_library().expect("found before");
    let accounts: Vec<String> = place
        .users
        .iter()
        .map(|user| format!("ejabberd_auth:try_register(<<\"{user}\">>,<<\"{}\">>,<<\"{PASSWORD}\">>)", place.domain))
        .collect();
    let variables = [
        ("HOME", folder.display().to_string()),
        ("EJABBERD_CONFIG_PATH", at("server.yml")),
        ("EJABBERD_LOG_PATH", at("server.log")),
        ("ERL_INETRC", at("inetrc")),
        ("ERL_LIBS", library.display().to_string()),
        ("ERL_CRASH_DUMP_BYTES", "0".to_owned()),
    ];
    let mut arguments: Vec<String> = variables.iter().map(|(name, value)| format!("{name}={value}")).collect();
    // Two cores, several servers: nobody spins while idle.
    arguments.extend(["erl", "-noinput", "+sbwt", "none", "+S", "2:2", "-mnesia", "dir"].map(str::to_owned));
    arguments.push(format!("\"{}\"", at("mnesia")));
    arguments.extend(["-s", "ejabberd", "-eval"].map(str::to_owned));
    arguments.push(format!("{}.", accounts.join(",")));
    arguments
}

/// Where ejabberd's folder is, under the machine's library folder.
pub fn ejabberd_library() -> Option<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib").ok()?.flatten().map(|entry| entry.path());
    folders.chain([PathBuf::from("/usr/lib")]).find(|folder| {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        entries.into_iter().any(|entry| {
            entry.file_name().to_string_lossy().starts_with("ejabberd-") && entry.path().join("ebin").is_dir()
        })
    })
}
