//! The program as a process: its configuration, its life, what it costs.

use super::book::Book;
use fedgate::cli::certs::{self, Spec};
use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// For the program to be ready, or to end.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// What varies.
#[derive(Clone, Debug)]
pub struct Setup {
    /// For folder names.
    pub name: &'static str,
    /// The program.
    pub program: PathBuf,
    /// The lines of `[state]`.
    pub state: String,
    /// `[presence] notify_interval`.
    pub notify_interval: &'static str,
}

/// Addresses of a world: Linux has all of 127.0.0.0/8, so that worlds side by side never meet and ports stay the same over restarts.
#[derive(Clone, Copy, Debug)]
pub struct Net {
    block: [u8; 2],
}

impl Net {
    /// One that no other world of this process or machine is likely to have.
    pub fn pick() -> Self {
        static NEXT: AtomicU8 = AtomicU8::new(0);
        let pid = std::process::id();
        let next = NEXT.fetch_add(16, Ordering::Relaxed);
        // 127.0.x.x is where everybody else is.
        Self { block: [(pid % 250 + 2) as u8, ((pid / 250) as u8).wrapping_add(next)] }
    }

    fn at(self, host: u8, port: u16) -> SocketAddr {
        SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, self.block[0], self.block[1], host)), port)
    }

    /// `[outside] sip`
    pub fn outside(self) -> SocketAddr {
        self.at(2, 5061)
    }
    /// `[inside] xmpp`
    pub fn inside(self) -> SocketAddr {
        self.at(3, 5270)
    }
    /// `[admin] listen`
    pub fn admin(self) -> SocketAddr {
        self.at(4, 9630)
    }
    /// The partner's listener.
    pub fn partner(self) -> SocketAddr {
        self.at(5, 5061)
    }
    /// The node's listener.
    pub fn node(self) -> SocketAddr {
        self.at(6, 5269)
    }
}

/// The process.
pub struct Edge {
    /// Where everything listens.
    pub net: Net,
    folder: PathBuf,
    setup: Setup,
    book: Arc<Book>,
    child: Option<Child>,
    file_bytes: Option<u64>,
}

/// What a process has used so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// VmRSS, in bytes.
    pub rss: u64,
    /// User and system time.
    pub cpu: Duration,
}

const CERTIFICATES: [Spec<'static>; 2] = [
    Spec { name: "edge", common_name: "sip.corp.example", dns: &["sip.corp.example", "corp.example"] },
    Spec { name: "partner", common_name: "sip.lync.example", dns: &["sip.lync.example"] },
];

impl Edge {
    /// Writes certificates and configuration.
    pub fn configure(folder: &Path, setup: Setup, book: Arc<Book>) -> Self {
        let net = Net::pick();
        certs::make(&folder.join("certs"), &CERTIFICATES).expect("certificates");
        std::fs::create_dir_all(folder.join("policies")).expect("a folder for policies");
        let config = format!(
            r#"[edge]
policies = "policies"

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
tls  = "off"

[[node]]
name     = "imp-1"
protocol = "xmpp"
address  = "{node}"
verify   = "network"
sources  = ["127.0.0.0/8"]
domains  = ["corp.example"]

[dns.records]
"_sipfederationtls._tcp.lync.example" = [{{ target = "sip.lync.example", port = {partner_port} }}]
"sip.lync.example" = ["{partner}"]

[presence]
expires         = "1h"
minimum         = "10s"
notify_interval = "{notify_interval}"

[state]
{state}

[admin]
listen = "{admin}"

[log]
audit = ""
"#,
            outside = net.outside(),
            inside = net.inside(),
            node = net.node(),
            partner = net.partner().ip(),
            partner_port = net.partner().port(),
            admin = net.admin(),
            state = setup.state,
            notify_interval = setup.notify_interval,
        );
        std::fs::write(folder.join("fedgate.toml"), config).expect("a configuration");
        // More than a partner may do by default.
        let policy = r#"[[partner]]
domain   = "lync.example"
protocol = "sip"
profile  = "lync"
chat     = "session"
limits   = { messages_per_second = 1000000, subscriptions = 1000000, links = 100 }
"#;
        std::fs::write(folder.join("policies/10-partners.toml"), policy).expect("a policy");
        Self { net, folder: folder.to_owned(), setup, book, child: None, file_bytes: None }
    }

    /// From the next start on, no file of its may grow beyond this (`None`: any may): to the program the disk is full.
    pub fn bound_files(&mut self, bytes: Option<u64>) {
        self.file_bytes = bytes;
    }

    /// Starts it without waiting for anything.
    pub fn spawn(&mut self) {
        self.book.next_generation();
        let log = File::options().create(true).append(true).open(self.folder.join("fedgate.log")).expect("a log file");
        let mut command = match self.file_bytes {
            None => mortal(&self.setup.program),
            Some(bytes) => {
                // POSIX: blocks of 512 bytes; ignored, the signal becomes an error of the write.
                let script = format!("trap '' XFSZ; ulimit -f {}; exec \"$0\" \"$@\"", bytes / 512);
                let mut command = mortal(Path::new("/bin/sh"));
                command.args(["-c", &script]).arg(&self.setup.program);
                command
            }
        };
        command.args(["run", "--config", "fedgate.toml"]).current_dir(&self.folder).stdin(Stdio::null());
        command.stdout(log.try_clone().expect("a second handle")).stderr(log);
        self.child = Some(command.spawn().expect("the program starts"));
    }

    /// Starts it; from exec until `/readyz` says 200.
    pub async fn start(&mut self) -> Duration {
        let begun = Instant::now();
        self.spawn();
        loop {
            if let Some((200, _)) = self.fetch("/readyz").await {
                return begun.elapsed();
            }
            if let Some(status) = self.ended() {
                panic!("fedgate has ended ({status}); its log:\n{}", self.log_tail());
            }
            assert!(
                begun.elapsed() < PATIENCE,
                "fedgate is not ready after {PATIENCE:?}; its log:\n{}",
                self.log_tail()
            );
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("a child of ours");
            child.wait().expect("a child of ours");
        }
    }

    /// SIGTERM, and its end.
    pub async fn stop(&mut self) -> ExitStatus {
        let pid = self.child.as_ref().expect("it runs").id();
        // The shell's own `kill`: a small system has no program of that name.
        let sent = Command::new("sh").args(["-c", &format!("kill -s TERM {pid}")]).status();
        assert!(sent.is_ok_and(|status| status.success()), "SIGTERM");
        self.end().await
    }

    /// Waits for its end.
    pub async fn end(&mut self) -> ExitStatus {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.ended() {
                self.child = None;
                return status;
            }
            assert!(begun.elapsed() < PATIENCE, "fedgate has not ended after {PATIENCE:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits for the end of what must never be ready.
    pub async fn end_unready(&mut self) -> ExitStatus {
        let begun = Instant::now();
        loop {
            let is_ready = matches!(self.fetch("/readyz").await, Some((200, _)));
            assert!(!is_ready, "it is ready; its log:\n{}", self.log_tail());
            if let Some(status) = self.ended() {
                self.child = None;
                return status;
            }
            assert!(begun.elapsed() < PATIENCE, "fedgate has not ended after {PATIENCE:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// How it has ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.as_mut().and_then(|child| child.try_wait().expect("a child of ours"))
    }

    /// Status and body of a GET on the admin listener; `None` when nobody answers.
    pub async fn fetch(&self, path: &str) -> Option<(u16, String)> {
        let ask = async {
            let mut stream = TcpStream::connect(self.net.admin()).await.ok()?;
            let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.net.admin());
            stream.write_all(request.as_bytes()).await.ok()?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.ok()?;
            let status = answer.split(' ').nth(1)?.parse().ok()?;
            let (_, body) = answer.split_once("\r\n\r\n")?;
            Some((status, body.to_owned()))
        };
        tokio::time::timeout(Duration::from_secs(2), ask).await.ok().flatten()
    }

    /// What it has used since it was started.
    pub fn usage(&self) -> Usage {
        let Some(child) = &self.child else { return Usage::default() };
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).map_or("", str::trim);
        let rss = kib.trim_end_matches(" kB").parse::<u64>().unwrap_or(0) * 1024;
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap_or_default();
        // Behind the program's name in parentheses; utime and stime are fields 14 and 15, in hundredths of a second (USER_HZ).
        let fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields);
        let ticks: u64 = fields.split(' ').skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
        Usage { rss, cpu: Duration::from_millis(ticks * 10) }
    }

    /// What its state takes on disk: length and allocated, in bytes.
    pub fn disk(&self) -> (u64, u64) {
        use std::os::unix::fs::MetadataExt as _;
        let Ok(entries) = std::fs::read_dir(self.folder.join("state")) else { return (0, 0) };
        let files = entries.flatten().filter_map(|entry| entry.metadata().ok()).filter(std::fs::Metadata::is_file);
        files.fold((0, 0), |(length, allocated), file| (length + file.len(), allocated + file.blocks() * 512))
    }

    /// The last lines of its log.
    pub fn log_tail(&self) -> String {
        let log = std::fs::read_to_string(self.folder.join("fedgate.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A command that the kernel ends should the test die without dropping it.
fn mortal(program: &Path) -> Command {
    let folders = ["/usr/bin/setpriv", "/bin/setpriv"];
    match folders.iter().find(|setpriv| Path::new(setpriv).exists()) {
        Some(setpriv) => {
            let mut command = Command::new(setpriv);
            command.args(["--pdeathsig", "KILL"]).arg(program);
            command
        }
        None => Command::new(program),
    }
}
