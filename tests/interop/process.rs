//! Programs that a test starts: ended with it, their output kept for when it fails.

use crate::peers;
use serde_json::Value;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// How long anything may take that has no reason to take long.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// A running program; killed when dropped.
pub struct Process {
    name: &'static str,
    child: Child,
    /// It has children of its own, which only it can end.
    has_family: bool,
}

impl Process {
    /// Starts it with its output in the file `log`.
    pub fn start(name: &'static str, program: &OsStr, arguments: &[&OsStr], folder: &Path, log: &Path) -> Self {
        Self::spawn(name, mortal(program, arguments, "KILL"), folder, log, false)
    }

    /// The same for a program that has children of its own: it is asked to end, so that they end too.
    pub fn start_family(name: &'static str, program: &OsStr, arguments: &[&OsStr], folder: &Path, log: &Path) -> Self {
        Self::spawn(name, mortal(program, arguments, "TERM"), folder, log, true)
    }

    fn spawn(name: &'static str, mut command: Command, folder: &Path, log: &Path, has_family: bool) -> Self {
        let log = File::options().create(true).append(true).open(log).expect("a log file");
        command.current_dir(folder).stdin(Stdio::null());
        command.stdout(log.try_clone().expect("a second handle")).stderr(log);
        let child = command.spawn().unwrap_or_else(|e| panic!("{name} does not start: {e}"));
        Self { name, child, has_family }
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by its name: `TERM`, `HUP`, `STOP`, `CONT`, `KILL`.
    pub fn signal(&self, signal: &str) {
        assert!(kill(signal, self.child.id()), "kill -s {signal} {} fails", self.name);
    }

    /// Sends a signal to it, then to its children: after SIGKILL nobody is left to start others or to say goodbye.
    pub fn signal_family(&self, signal: &str) {
        let children = self.children();
        self.signal(signal);
        for child in children {
            // It may have gone with its parent.
            let _ = kill(signal, child);
        }
    }

    fn children(&self) -> Vec<u32> {
        let id = self.child.id();
        let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
        children.split_whitespace().filter_map(|id| id.parse().ok()).collect()
    }

    /// Waits for its end.
    pub fn wait(&mut self, patience: Duration) -> ExitStatus {
        let end = Instant::now() + patience;
        loop {
            if let Some(status) = self.child.try_wait().expect("a child of ours") {
                return status;
            }
            assert!(Instant::now() < end, "{} has not ended after {patience:?}", self.name);
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Panics when it has ended already.
    pub fn assert_running(&mut self) {
        if let Some(status) = self.child.try_wait().expect("a child of ours") {
            panic!("{} has ended: {status}", self.name);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let end = Instant::now() + PATIENCE;
        if self.has_family && matches!(self.child.try_wait(), Ok(None)) {
            // A test that failed may have left them standing still.
            let children = self.children();
            for id in children.iter().copied().chain([self.child.id()]) {
                let _ = kill("CONT", id);
            }
            let _ = kill("TERM", self.child.id());
            while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < end {
                std::thread::sleep(Duration::from_millis(20));
            }
            if matches!(self.child.try_wait(), Ok(None)) {
                self.signal_family("KILL");
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A command that the kernel ends by `signal` should the test die without dropping it.
fn mortal(program: &OsStr, arguments: &[&OsStr], signal: &str) -> Command {
    let mut command = match peers::on_path("setpriv") {
        Some(setpriv) => {
            let mut command = Command::new(setpriv);
            command.args(["--pdeathsig", signal]).arg(program);
            command
        }
        None => Command::new(program),
    };
    command.args(arguments);
    command
}

/// A Python program that takes commands and tells events, one JSON object a line.
pub struct Puppet {
    name: String,
    child: Child,
    stdin: ChildStdin,
    events: Receiver<Event>,
    /// Told, and not yet taken by [`Puppet::wait`].
    waiting: Vec<Event>,
}

/// What a puppet told.
#[derive(Clone, Debug)]
pub struct Event(pub Value);

impl Puppet {
    /// Starts `script` of this folder; everything it says also goes to the file `log`.
    pub fn start(name: impl Into<String>, script: &str, log: &Path) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop").join(script);
        let log_file = |log| File::options().create(true).append(true).open(log).expect("a log file");
        // No byte code beside the sources.
        let mut child = Command::new(peers::PYTHON)
            .arg("-B")
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log_file(log))
            .spawn()
            .expect("python starts");
        let stdin = child.stdin.take().expect("piped");
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        let mut transcript = log_file(log);
        let (teller, events) = channel();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let _ = writeln!(transcript, "{line}");
                let event = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e} in {line}"));
                if teller.send(Event(event)).is_err() {
                    break;
                }
            }
        });
        Self { name: name.into(), child, stdin, events, waiting: Vec::new() }
    }

    /// Gives a command.
    pub fn tell(&mut self, command: Value) {
        let line = format!("{command}\n");
        self.stdin.write_all(line.as_bytes()).unwrap_or_else(|e| panic!("{} is gone: {e}", self.name));
    }

    /// Takes the first event, told or to come, that satisfies `wanted`; others stay for later.
    pub fn wait_for(&mut self, what: &str, patience: Duration, wanted: impl Fn(&Event) -> bool) -> Event {
        match self.look_for(patience, wanted) {
            Some(event) => event,
            None => panic!(
                "{} has not seen {what} within {patience:?}; it has seen:\n{}",
                self.name,
                self.waiting.iter().map(|e| format!("  {e}\n")).collect::<String>()
            ),
        }
    }

    /// With the usual patience.
    pub fn wait(&mut self, what: &str, wanted: impl Fn(&Event) -> bool) -> Event {
        self.wait_for(what, PATIENCE, wanted)
    }

    /// Like [`Puppet::wait_for`], where it may also not come.
    pub fn look_for(&mut self, patience: Duration, wanted: impl Fn(&Event) -> bool) -> Option<Event> {
        if let Some(i) = self.waiting.iter().position(&wanted) {
            return Some(self.waiting.remove(i));
        }
        let end = Instant::now() + patience;
        loop {
            match self.events.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(event) if wanted(&event) => return Some(event),
                Ok(event) if event.is("mistake") => panic!("{}: {event}", self.name),
                Ok(event) => self.waiting.push(event),
                Err(RecvTimeoutError::Timeout) => return None,
                Err(RecvTimeoutError::Disconnected) => panic!("{} has ended", self.name),
            }
        }
    }

    /// Takes all events told so far.
    pub fn take_all(&mut self) -> Vec<Event> {
        self.waiting.extend(self.events.try_iter());
        std::mem::take(&mut self.waiting)
    }

    /// Panics if such an event was told or is told within `time`.
    pub fn assert_none(&mut self, what: &str, time: Duration, unwanted: impl Fn(&Event) -> bool) {
        if let Some(event) = self.look_for(time, unwanted) {
            panic!("{} has seen {what}: {event}", self.name);
        }
    }
}

impl Drop for Puppet {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Event {
    /// Whether it is of this kind.
    pub fn is(&self, kind: &str) -> bool {
        self.text("event") == kind
    }

    /// A text field; empty when absent or null.
    pub fn text(&self, field: &str) -> &str {
        self.0[field].as_str().unwrap_or_default()
    }

    /// The status of a response, 0 for others.
    pub fn status(&self) -> u64 {
        self.0["status"].as_u64().unwrap_or_default()
    }

    /// The values of a SIP header in order.
    pub fn headers(&self, name: &str) -> Vec<&str> {
        let rows = self.0["headers"].as_array().map(Vec::as_slice).unwrap_or_default();
        rows.iter()
            .filter(|row| row[0].as_str().is_some_and(|n| n.eq_ignore_ascii_case(name)))
            .filter_map(|row| row[1].as_str())
            .collect()
    }

    /// The first value of a SIP header; empty when absent.
    pub fn header(&self, name: &str) -> &str {
        self.headers(name).first().copied().unwrap_or_default()
    }

    /// The body's bytes.
    pub fn body(&self) -> Vec<u8> {
        let hex = self.text("body_hex").as_bytes();
        hex.chunks(2).filter_map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
    }
}

impl std::fmt::Display for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0["raw"].as_str() {
            Some(raw) => write!(f, "{} on {}: {raw:?}", self.text("event"), self.text("link")),
            None => write!(f, "{}", self.0),
        }
    }
}

/// The shell's own `kill`: a small system has no program of that name.
fn kill(signal: &str, pid: u32) -> bool {
    let status = Command::new("sh").args(["-c", &format!("kill -s {signal} {pid}")]).status();
    status.is_ok_and(|status| status.success())
}
