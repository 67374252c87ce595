//! The program under test: its configuration, its life, and what an operator can see of it.

use crate::pki::Certificate;
use crate::process::{PATIENCE, Process};
use crate::prosody::SECRET;
use crate::stand::{Net, Setup, wait_until};
use std::ffi::OsStr;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output};
use std::time::Duration;

/// The running edge.
pub struct Fedgate {
    folder: PathBuf,
    admin: SocketAddr,
    /// The part of the policy that stays when the rest is replaced.
    policy: String,
    program: PathBuf,
    process: Process,
}

/// `[admin] token`.
pub const TOKEN: &str = "a token of these tests";

/// The entries every stand has. `other.example` is listed, so that a partner can prove the wrong one of two listed domains.
const POLICY: &str = r#"
[default]
unlisted = "refuse"

[[partner]]
domain   = "lync.example"
protocol = "sip"
profile  = "lync"
chat     = "@chat@"

[[partner]]
domain   = "other.example"
protocol = "sip"
profile  = "lync"
chat     = "page"
"#;

impl Fedgate {
    /// Writes the configuration, starts the program and waits until it is ready.
    pub fn start(
        program: &Path,
        folder: &Path,
        net: Net,
        edge: &Certificate,
        trust: &Certificate,
        setup: Setup,
    ) -> Self {
        let admin = SocketAddr::new(net.admin(), 9630);
        let config = format!(
            r#"[edge]
policies = "policies"

[[identity]]
hostname    = "sip.corp.example"
domains     = ["corp.example"]
certificate = "{chain}"
key         = "{key}"

[tls]
trust = ["{trust}"]

[outside]
sip  = ["{outside}:5061"]
xmpp = []

[inside]
sip      = [{sip}]
xmpp     = ["{inside}:{port}", "{inside}:5269"]
networks = ["127.0.0.0/8"]
tls      = "{tls}"
{inside_trust}

{node}

[dns.records]
"_sipfederationtls._tcp.lync.example" = [{{ target = "sip.lync.example", port = 5061, priority = 0, weight = 0 }}]
"sip.lync.example" = ["{partner}"]
"_sips._tcp.kamailio.example" = [{{ target = "sip.kamailio.example", port = 5061, priority = 0, weight = 0 }}]
"sip.kamailio.example" = ["{kamailio}"]

[presence]
expires         = "1h"
minimum         = "2s"
notify_interval = "1s"

[admin]
listen = "{admin}"
token  = "{TOKEN}"

[log]
format = "json"
audit  = "audit.jsonl"
"#,
            chain = edge.chain.display(),
            key = edge.key.display(),
            trust = trust.chain.display(),
            outside = net.outside(),
            inside = net.inside(),
            port = Net::INSIDE_PORT,
            sip = match (setup.nodes, setup.tls) {
                (0, _) => String::new(),
                (_, false) => format!("\"tcp:{}:{}\"", net.inside(), Net::INSIDE_SIP_PORT),
                (_, true) => format!("\"tls:{}:{}\"", net.inside(), Net::INSIDE_SIP_PORT),
            },
            inside_trust = match setup.nodes > 0 && setup.tls {
                true => format!("trust    = [\"{}\"]", trust.chain.display()),
                false => String::new(),
            },
            tls = if setup.tls { "optional" } else { "off" },
            node = node(net, setup),
            partner = net.partner(),
            kamailio = net.kamailio(),
        );
        let policy = POLICY.replace("@chat@", setup.chat);
        configure(folder, &config, &policy, setup.policy);
        Self::launch(program, folder, net, policy)
    }

    /// Starts the program on what [`configure`] has written, and waits until it is ready.
    pub fn launch(program: &Path, folder: &Path, net: Net, policy: String) -> Self {
        let admin = SocketAddr::new(net.admin(), 9630);
        let process = run(program, folder);
        let mut fedgate = Self { folder: folder.to_owned(), admin, policy, program: program.to_owned(), process };
        fedgate.wait_until_ready();
        fedgate
    }

    fn wait_until_ready(&mut self) {
        wait_until("fedgate is ready", PATIENCE, || {
            self.process.assert_running();
            self.fetch("/readyz").is_some_and(|(status, _)| status == 200)
        });
    }

    /// Starts it again, on what it has kept.
    pub fn start_again(&mut self) {
        self.process = run(&self.program, &self.folder);
        self.wait_until_ready();
    }

    /// Another verb of the program, on this one's configuration.
    pub fn verb(&self, words: &[&str]) -> Output {
        verb(&self.program, &self.folder, words)
    }

    /// What it holds of memory now (`VmRSS`), in bytes.
    pub fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("Linux tells it");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
    }

    /// Its process's number.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Status and body of a GET on the admin listener; `None` when nobody answers.
    pub fn fetch(&self, path: &str) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect_timeout(&self.admin, Duration::from_secs(2)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.admin).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let status = answer.split(' ').nth(1)?.parse().ok()?;
        let (_, body) = answer.split_once("\r\n\r\n")?;
        Some((status, body.to_owned()))
    }

    /// The sum of a metric's samples whose labels hold all of `labels` (`reason="rule"`).
    pub fn metric(&self, name: &str, labels: &[&str]) -> Option<f64> {
        let (status, text) = self.fetch("/metrics")?;
        assert_eq!(status, 200, "/metrics: {text}");
        let samples: Vec<f64> = text
            .lines()
            .filter_map(|line| {
                let (sample, value) = line.rsplit_once(' ')?;
                let (metric, set) = sample.split_once('{').unwrap_or((sample, ""));
                (metric == name && labels.iter().all(|label| set.contains(label))).then(|| value.parse().ok())?
            })
            .collect();
        (!samples.is_empty()).then(|| samples.iter().sum())
    }

    /// Replaces the further policy text.
    pub fn set_policy(&self, text: &str) {
        write_policy(&self.folder, &self.policy, text);
    }

    /// Sends a signal.
    pub fn signal(&self, signal: &str) {
        self.process.signal(signal);
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        self.process.wait(PATIENCE)
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("fedgate.log")).unwrap_or_default()
    }

    /// What it has written to the audit file.
    pub fn audit(&self) -> String {
        std::fs::read_to_string(self.folder.join("audit.jsonl")).unwrap_or_default()
    }

    /// Takes the audit file away, as a rotation does.
    pub fn lose_audit(&self) {
        std::fs::remove_file(self.folder.join("audit.jsonl")).expect("an audit file");
    }

    /// Waits until log and audit hold a line with all of `words`.
    pub fn assert_recorded(&self, words: &[&str]) {
        let holds = |text: &str| text.lines().any(|line| words.iter().all(|word| line.contains(word)));
        wait_until(&format!("the audit has a line with {words:?}"), PATIENCE, || holds(&self.audit()));
        wait_until(&format!("the log has a line with {words:?}"), PATIENCE, || holds(&self.log()));
    }
}

fn run(program: &Path, folder: &Path) -> Process {
    let arguments: [&OsStr; 3] = ["run".as_ref(), "--config".as_ref(), "fedgate.toml".as_ref()];
    Process::start("fedgate", program.as_os_str(), &arguments, folder, &folder.join("fedgate.log"))
}

/// A verb of the program, on the configuration in this folder.
pub fn verb(program: &Path, folder: &Path, words: &[&str]) -> Output {
    let mut command = Command::new(program);
    command.args(words).args(["--config", "fedgate.toml"]).current_dir(folder);
    command.output().expect("the program runs")
}

/// How the node is attached.
fn node(net: Net, setup: Setup) -> String {
    let prosody = net.prosody();
    let begin = |number| format!("[[node]]\nname = \"imp-{number}\"\ndomains = [\"corp.example\"]\n");
    if setup.nodes > 0 {
        let sip = |number| {
            let at = SocketAddr::new(net.node(number), Net::NODE_PORT);
            let tls = match setup.tls {
                true => format!("tls = {{ name = \"imp-{number}.corp.internal\" }}\nverify = \"certificate\"\n"),
                false => String::new(),
            };
            let port = match number {
                2 => format!("public_port = {}\n", Net::PUBLIC_PORT),
                _ => String::new(),
            };
            format!("{}protocol = \"sip\"\naddress = \"{at}\"\n{tls}{port}\n", begin(number))
        };
        return (1..=setup.nodes).map(sip).collect();
    }
    let begin = begin(1);
    if setup.component {
        let port = Net::COMPONENT_PORT;
        return format!("{begin}protocol = \"xmpp-component\"\naddress = \"{prosody}:{port}\"\nsecret = \"{SECRET}\"");
    }
    // Linux connects from 127.0.0.1 whatever loopback address it connects to.
    format!(
        "{begin}protocol = \"xmpp\"\naddress = \"{prosody}:5269\"\nverify = \"{}\"\nsources = [\"127.0.0.1\", \"{prosody}\"]",
        setup.verify
    )
}

/// Writes fedgate.toml, and a policy in two parts of which the further one can be replaced.
pub fn configure(folder: &Path, config: &str, policy: &str, further: &str) {
    std::fs::create_dir_all(folder.join("policies")).expect("a folder for policies");
    std::fs::write(folder.join("fedgate.toml"), config).expect("a configuration");
    write_policy(folder, policy, further);
}

fn write_policy(folder: &Path, policy: &str, further: &str) {
    std::fs::write(folder.join("policies/10-partners.toml"), format!("{policy}\n{further}")).expect("a policy");
}
