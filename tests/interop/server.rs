//! A real Kamailio, edge and presence server of kamailio.example: mutual TLS outside (RFC 5922), its own users by UDP on loopback.

use crate::peers::on_path;
use crate::pki::{Certificate, Pki};
use crate::process::{PATIENCE, Process};
use crate::stand::{Net, wait_until};
use std::ffi::OsStr;
use std::fmt::Write;
use std::net::TcpStream;
use std::path::{Path, PathBuf};

/// Where Debian's package keeps the empty tables of its text database.
pub const TABLES: &str = "/usr/share/kamailio/dbtext/kamailio";

/// The server.
pub struct Kamailio {
    folder: PathBuf,
    _process: Process,
}

impl Kamailio {
    /// Writes its configuration and starts it. It shows `own` in both roles, and trusts the federation's authority only.
    pub fn start(folder: &Path, net: Net, own: &Certificate, pki: &Pki) -> Self {
        let tables = folder.join("db");
        std::fs::create_dir_all(&tables).expect("a folder for tables");
        for table in ["version", "presentity", "active_watchers", "watchers", "xcap"] {
            std::fs::copy(Path::new(TABLES).join(table), tables.join(table)).expect("an empty table");
        }
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
        std::fs::write(folder.join("tls.cfg"), tls).expect("a TLS configuration");
        let config = include_str!("kamailio.cfg")
            .replace("@ADDRESS@", &net.kamailio().to_string())
            .replace("@EDGE@", &net.outside().to_string())
            .replace("@FOLDER@", &folder.display().to_string());
        let file = folder.join("kamailio.cfg");
        std::fs::write(&file, config).expect("a configuration");

        // In the foreground; plain malloc's relatives cost least at the start; 32 and 4 MiB are plenty.
        let options = ["-DD", "-E", "-x", "fm", "-X", "fm", "-m", "32", "-M", "4", "-Y"];
        let mut arguments: Vec<&OsStr> = options.iter().map(OsStr::new).collect();
        arguments.extend([folder.as_os_str(), "-f".as_ref(), file.as_os_str()]);
        let log = folder.join("kamailio.log");
        let program = on_path("kamailio").expect("looked for before");
        let mut process = Process::start_family("kamailio", program.as_os_str(), &arguments, folder, &log);
        wait_until("Kamailio listens", PATIENCE, || {
            process.assert_running();
            TcpStream::connect((net.kamailio(), 5061)).is_ok()
        });
        Self { folder: folder.to_owned(), _process: process }
    }

    /// Its log: every message it received, whole.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.folder.join("kamailio.log")).unwrap_or_default()).into_owned()
    }

    /// Waits until it has received a message with all of `words`.
    pub fn assert_received(&self, words: &[&str]) {
        wait_until(&format!("Kamailio has received {words:?}"), PATIENCE, || {
            self.log().split(" <script>: ").any(|message| words.iter().all(|word| message.contains(word)))
        });
    }
}
