//! Programs that a bench runs between its ends: found, started, watched, stopped; what they have used is read from /proc.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Where they listen.
const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// For one to be ready.
const PATIENCE: Duration = Duration::from_secs(15);

/// `FEDGATE_BIN`, else the program built with the bench.
pub fn fedgate_program() -> PathBuf {
    std::env::var_os("FEDGATE_BIN").map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_fedgate")), PathBuf::from)
}

/// How to get what is not there.
pub fn missing(packages: &str) -> String {
    format!("not installed (Debian: apt-get install {packages})")
}

/// Where a program is, also among those of administrators.
pub fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    folders.map(|folder| folder.join(name)).find(|file| file.exists())
}

/// A port that nobody has now.
pub fn free() -> SocketAddr {
    let listener = TcpListener::bind((ADDRESS, 0)).expect("a free port");
    listener.local_addr().expect("an address")
}

/// What its processes have used so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// User and system time of all, the ended ones too.
    pub cpu: Duration,
    /// VmRSS, bytes; of several processes the sum.
    pub rss: u64,
    /// VmHWM, as `rss`.
    pub peak: u64,
}

/// A program that runs, with all that it started.
pub struct Running {
    child: Child,
    log: PathBuf,
}

impl Running {
    /// Starts it, and waits until it is ready. Belongs on a thread that lasts: when that ends, the kernel ends the child.
    pub async fn start(
        mut command: Command,
        log: &Path,
        ready: impl Fn() -> bool + Copy + Send + 'static,
    ) -> Result<Self, String> {
        let file = File::create(log).map_err(|error| error.to_string())?;
        let again = file.try_clone().map_err(|error| error.to_string())?;
        let child = command.stdin(Stdio::null()).stdout(file).stderr(again).spawn();
        let child = child.map_err(|error| format!("{command:?}: {error}"))?;
        let mut running = Self { child, log: log.to_owned() };
        let begun = Instant::now();
        // The ends must go on meanwhile: a box may try its node before it is ready.
        while !tokio::task::spawn_blocking(ready).await.expect("a question") {
            let ended = running.child.try_wait().expect("a child of ours");
            if ended.is_some() || begun.elapsed() > PATIENCE {
                let how = ended.map_or(format!("is not ready after {PATIENCE:?}"), |status| format!("ended, {status}"));
                return Err(format!("did not start: it {how}; it says\n{}", running.says()));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(running)
    }

    /// An error when it has ended.
    pub fn is_there(&mut self) -> Result<(), String> {
        let ended = self.child.try_wait().expect("a child of ours");
        ended.map_or(Ok(()), |status| Err(format!("it has ended, {status}")))
    }

    /// The last lines of its log.
    pub fn says(&self) -> String {
        tail(&self.log)
    }

    /// So far.
    pub fn usage(&self) -> Usage {
        let mut usage = Usage::default();
        let mut ticks = 0;
        for process in family(self.child.id()) {
            ticks += process.ticks;
            let status = std::fs::read_to_string(format!("/proc/{}/status", process.id)).unwrap_or_default();
            let bytes = |name: &str| {
                let value = status.lines().find_map(|line| line.strip_prefix(name)).map_or("", str::trim);
                value.trim_end_matches(" kB").parse::<u64>().unwrap_or(0) * 1024
            };
            usage.rss += bytes("VmRSS:");
            usage.peak += bytes("VmHWM:");
        }
        // USER_HZ is 100.
        usage.cpu = Duration::from_millis(ticks * 10);
        usage
    }
}

impl Drop for Running {
    /// Asks it to end, and ends what has not.
    fn drop(&mut self) {
        let family = family(self.child.id());
        signal("TERM", self.child.id());
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(2) && self.child.try_wait().is_ok_and(|status| status.is_none()) {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        for process in family {
            // Its number may be another's by now; its start is not.
            if Process::read(process.id).is_some_and(|now| now.started == process.started) {
                signal("KILL", process.id);
            }
        }
    }
}

/// The shell's own `kill`: a small system has no program of that name.
fn signal(name: &str, id: u32) {
    let _ = Command::new("sh").args(["-c", &format!("kill -s {name} {id} 2>/dev/null")]).status();
}

struct Process {
    id: u32,
    parent: u32,
    started: u64,
    ticks: u64,
}

impl Process {
    /// proc(5): behind the name in parentheses, field 4 is the parent, 14 to 17 are the times of its own and of children that it has waited for,
    /// 22 is when it was started.
    fn read(id: u32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        let fields: Vec<u64> =
            stat.rsplit_once(") ")?.1.split(' ').skip(1).map(|field| field.parse().unwrap_or(0)).collect();
        let ticks = fields.get(10..14)?.iter().sum();
        Some(Self { id, parent: *fields.first()? as u32, started: *fields.get(18)?, ticks })
    }
}

/// A process and all that come of it.
fn family(root: u32) -> Vec<Process> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut others: Vec<Process> = ids.filter_map(Process::read).collect();
    let mut family: Vec<Process> = others.extract_if(.., |process| process.id == root).collect();
    let mut at = 0;
    while at < family.len() {
        let parent = family[at].id;
        family.extend(others.extract_if(.., |process| process.parent == parent));
        at += 1;
    }
    family
}

/// A command that the kernel asks to end should we die without stopping it.
pub fn mortal(program: &Path) -> Command {
    let folders = ["/usr/bin/setpriv", "/bin/setpriv"];
    match folders.iter().find(|setpriv| Path::new(setpriv).exists()) {
        Some(setpriv) => {
            let mut command = Command::new(setpriv);
            command.args(["--pdeathsig", "TERM"]).arg(program);
            command
        }
        None => Command::new(program),
    }
}

/// Whether fedgate says so on its admin listener.
pub fn is_ready(admin: SocketAddr) -> bool {
    use std::io::{Read as _, Write as _};
    let ask = || {
        let mut stream = TcpStream::connect(admin)?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        write!(stream, "GET /readyz HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).map(|_| answer)
    };
    ask().is_ok_and(|answer: String| answer.starts_with("HTTP/1.1 200"))
}

/// The last lines of a log.
fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    if lines.is_empty() {
        return "    nothing".to_owned();
    }
    let last = &lines[lines.len().saturating_sub(12)..];
    last.iter().map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n")
}
