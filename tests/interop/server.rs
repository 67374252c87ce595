//! A real Kamailio. Outside: edge and presence server of kamailio.example, mutual TLS (RFC 5922), its own users by UDP on loopback. Inside: a
//! presence node of corp.example, TCP towards the edge, its users by UDP.

use crate::peers::on_path;
use crate::pki::{Certificate, Pki};
use crate::process::{PATIENCE, Process};
use crate::stand::{Net, wait_until};
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::fmt::Write;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Where Debian's package keeps the empty tables of its text database.
pub const TABLES: &str = "/usr/share/kamailio/dbtext/kamailio";

/// The server.
pub struct Kamailio {
    folder: PathBuf,
    /// Where it listens.
    at: SocketAddr,
    process: Option<Process>,
    /// How many rules were written: the file's time tells the server that it has changed.
    rules: u64,
}

impl Kamailio {
    /// Writes its configuration and starts it. It shows `own` in both roles, trusts the federation's authority only, and lets nobody
    /// subscribe for longer than `longest` seconds.
    pub fn start(folder: &Path, net: Net, own: &Certificate, pki: &Pki, longest: u32) -> Self {
        write_tls(folder, own, pki);
        let config = include_str!("kamailio.cfg")
            .replace("@ADDRESS@", &net.kamailio().to_string())
            .replace("@EDGE@", &net.outside().to_string())
            .replace("@LONGEST@", &longest.to_string())
            .replace("@FOLDER@", &folder.display().to_string());
        Self::raise(folder, &config, SocketAddr::new(net.kamailio(), 5061))
    }

    /// Writes the configuration of a presence node inside and starts it: it listens at `net.node(number)`; with TLS it shows `own` in both roles.
    pub fn start_node(folder: &Path, net: Net, number: u8, tls: Option<(&Certificate, &Pki)>) -> Self {
        if let Some((own, pki)) = tls {
            write_tls(folder, own, pki);
        }
        let config = include_str!("node.cfg")
            .replace("@TRANSPORT@", if tls.is_some() { "tls" } else { "tcp" })
            .replace("@ADDRESS@", &net.node(number).to_string())
            .replace("@EDGE@", &net.inside().to_string())
            .replace("@FOLDER@", &folder.display().to_string());
        Self::raise(folder, &config, SocketAddr::new(net.node(number), Net::NODE_PORT))
    }

    fn raise(folder: &Path, config: &str, at: SocketAddr) -> Self {
        std::fs::create_dir_all(folder.join("db")).expect("a folder for tables");
        for table in ["version", "presentity", "active_watchers", "watchers", "xcap"] {
            empty(folder, table);
        }
        std::fs::write(folder.join("kamailio.cfg"), config).expect("a configuration");
        let mut kamailio = Self { folder: folder.to_owned(), at, process: None, rules: 0 };
        kamailio.run();
        kamailio
    }

    fn run(&mut self) {
        let folder = &self.folder;
        let file = folder.join("kamailio.cfg");
        // In the foreground; plain malloc's relatives cost least at the start; 32 and 4 MiB are plenty.
        let options = ["-DD", "-E", "-x", "fm", "-X", "fm", "-m", "32", "-M", "4", "-Y"];
        let mut arguments: Vec<&OsStr> = options.iter().map(OsStr::new).collect();
        arguments.extend([folder.as_os_str(), "-f".as_ref(), file.as_os_str()]);
        let log = folder.join("kamailio.log");
        let program = on_path("kamailio").expect("looked for before");
        let mut process = Process::start_family("kamailio", program.as_os_str(), &arguments, folder, &log);
        wait_until("Kamailio listens", PATIENCE, || {
            process.assert_running();
            TcpStream::connect(self.at).is_ok()
        });
        self.process = Some(process);
    }

    /// Starts it anew: it has forgotten registrations, subscriptions and publications, and every connection is gone.
    pub fn restart(&mut self) {
        self.process = None;
        empty(&self.folder, "presentity");
        self.run();
    }

    /// It and all its processes stand still: what it is sent is taken by the system and read by nobody.
    pub fn freeze(&self) {
        self.process.as_ref().expect("it runs").signal_family("STOP");
    }

    /// It and all its processes die at once (SIGKILL).
    pub fn kill(&mut self) {
        let mut process = self.process.take().expect("it runs");
        process.signal_family("KILL");
        process.wait(PATIENCE);
    }

    /// Whether it refuses what is new with 503, and goes on with what is.
    pub fn rest(&self, rests: bool) {
        self.command("pv.shvSet", json!(["resting", "int", i32::from(rests)]));
    }

    /// A user says what becomes of a watcher (RFC 5025 §3.2.1): `allow`, `polite-block`, `block`, `confirm`.
    pub fn rule(&mut self, user: &str, watcher: &str, handling: &str) {
        let document = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?><cr:ruleset xmlns:cr=\"urn:ietf:params:xml:ns:common-policy\" \
             xmlns:pr=\"urn:ietf:params:xml:ns:pres-rules\"><cr:rule id=\"one\"><cr:conditions><cr:identity>\
             <cr:one id=\"{watcher}\"/></cr:identity></cr:conditions><cr:actions><pr:sub-handling>{handling}\
             </pr:sub-handling></cr:actions></cr:rule></cr:ruleset>"
        );
        let mut table = std::fs::read_to_string(Path::new(TABLES).join("xcap")).expect("an empty table");
        // id, user, domain, document, type (2: pres-rules), ETag, source, URI, port; a colon ends a field.
        writeln!(table, "1:{user}:kamailio.example:{}:2:e:1:rules:0", document.replace(':', "\\:")).expect("a string");
        let file = self.folder.join("db/xcap");
        std::fs::write(&file, table).expect("a table");
        self.rules += 1;
        let changed = SystemTime::now() + Duration::from_secs(10 * self.rules);
        let file = std::fs::File::options().write(true).open(file).expect("the table");
        file.set_modified(changed).expect("a time");
        let uri = format!("sip:{user}@kamailio.example");
        self.command("presence.refreshWatchers", json!([uri, "presence", 0]));
    }

    /// Gives a command on its control socket.
    fn command(&self, method: &str, parameters: Value) {
        let own = self.folder.join("test.sock");
        let _ = std::fs::remove_file(&own);
        let socket = UnixDatagram::bind(own).expect("a socket");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let command = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": parameters });
        socket.send_to(command.to_string().as_bytes(), self.folder.join("rpc.sock")).expect("it listens");
        let mut answer = vec![0; 65_536];
        let length = socket.recv(&mut answer).unwrap_or_else(|e| panic!("Kamailio is silent: {e}"));
        let answer: Value = serde_json::from_slice(&answer[..length]).expect("JSON");
        assert!(answer.get("result").is_some(), "{command}: {answer}");
    }

    /// Its log: every message it received, whole.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.folder.join("kamailio.log")).unwrap_or_default()).into_owned()
    }

    /// Every message it has received, with a line before each on where from.
    pub fn messages(&self) -> Vec<String> {
        self.log().split(" <script>: ").skip(1).map(str::to_owned).collect()
    }

    /// How many messages it has received that have all of `words`.
    pub fn received(&self, words: &[&str]) -> usize {
        self.messages().iter().filter(|message| words.iter().all(|word| message.contains(word))).count()
    }

    /// Waits until it has received a message with all of `words`.
    pub fn assert_received(&self, words: &[&str]) {
        wait_until(&format!("Kamailio has received {words:?}"), PATIENCE, || self.received(words) > 0);
    }
}

/// Mutual TLS: both roles show `own` and trust the authority only.
fn write_tls(folder: &Path, own: &Certificate, pki: &Pki) {
    let mut tls = String::new();
    for role in ["server", "client"] {
        writeln!(
            tls,
            "[{role}:default]\nmethod = TLSv1.2+\nverify_certificate = yes\nrequire_certificate = yes\n\
             certificate = {}\nprivate_key = {}\nca_list = {}",
            own.chain.display(),
            own.key.display(),
            pki.authority.chain.display()
        )
        .expect("a string");
    }
    std::fs::create_dir_all(folder).expect("a folder for a server");
    std::fs::write(folder.join("tls.cfg"), tls).expect("a TLS configuration");
}

fn empty(folder: &Path, table: &str) {
    std::fs::copy(Path::new(TABLES).join(table), folder.join("db").join(table)).expect("an empty table");
}
