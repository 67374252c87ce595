//! What the stand is made of, and the rule for when it is not there.

use crate::{phone, server, xmpp_server};
use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::SystemTime;

/// Debian's interpreter: python3-slixmpp installs for it and for no other.
pub const PYTHON: &str = "/usr/bin/python3";

/// The programs that were found.
#[derive(Clone, Debug)]
pub struct Peers {
    /// The program under test.
    pub fedgate: PathBuf,
}

/// The peers, or `None` after one line on what is missing. Panics instead with `FEDGATE_REQUIRE_PEERS`.
pub fn find(test: &str) -> Option<Peers> {
    static FOUND: OnceLock<Result<Peers, String>> = OnceLock::new();
    unless_missing(test, FOUND.get_or_init(look))
}

/// Likewise what kamailio.example is made of.
pub fn find_kamailio(test: &str) -> Option<()> {
    static FOUND: OnceLock<Result<(), String>> = OnceLock::new();
    unless_missing(test, FOUND.get_or_init(look_for_kamailio))
}

/// Likewise what SIP that stays SIP needs: no XMPP server.
pub fn find_sip(test: &str) -> Option<Peers> {
    static FOUND: OnceLock<Result<Peers, String>> = OnceLock::new();
    unless_missing(
        test,
        FOUND.get_or_init(|| {
            let fedgate = release_build()?;
            all_found(&[
                (succeeds("openssl", &["version"]), "openssl"),
                (succeeds(PYTHON, &["--version"]), "/usr/bin/python3 (Debian: python3)"),
            ])?;
            look_for_kamailio()?;
            Ok(Peers { fedgate })
        }),
    )
}

/// Likewise what XMPP that stays XMPP needs: two kinds of servers, and a name server for them.
pub fn find_xmpp(test: &str) -> Option<Peers> {
    static FOUND: OnceLock<Result<Peers, String>> = OnceLock::new();
    unless_missing(
        test,
        FOUND.get_or_init(|| {
            let peers = look()?;
            all_found(&[
                (on_path("erl").is_some() && xmpp_server::ejabberd_library().is_some(), "ejabberd (Debian: ejabberd)"),
                (on_path("dnsmasq").is_some(), "dnsmasq (Debian: dnsmasq-base)"),
            ])?;
            Ok(peers)
        }),
    )
}

fn unless_missing<T: Clone>(test: &str, found: &Result<T, String>) -> Option<T> {
    match found {
        Ok(peers) => Some(peers.clone()),
        Err(missing) if std::env::var_os("FEDGATE_REQUIRE_PEERS").is_some() => {
            panic!("FEDGATE_REQUIRE_PEERS is set, and there is no {missing}")
        }
        Err(missing) => {
            // libtest names the thread after the test, unless there is one thread only.
            let thread = std::thread::current();
            let test = thread.name().filter(|name| *name != "main").unwrap_or(test);
            // Not by println!: the harness would swallow the line of a test that passes. In one piece: others write too.
            let line = format!("left out: interop {test}: no {missing}\n");
            let _ = std::io::stderr().write_all(line.as_bytes());
            None
        }
    }
}

fn look() -> Result<Peers, String> {
    let fedgate = release_build()?;
    // `prosody --version` would start a server; that it and its resolver's binding are there is enough.
    let lunbound = |lua: &str| on_path(lua).is_some_and(|lua| succeeds(lua, &["-e", "require 'lunbound'"]));
    let needs = [
        (on_path("prosody").is_some(), "Prosody (Debian: prosody)"),
        (["lua5.4", "lua5.3", "lua5.2"].into_iter().any(lunbound), "lunbound (Debian: lua-unbound)"),
        (succeeds(PYTHON, &["-c", "import slixmpp"]), "slixmpp for /usr/bin/python3 (Debian: python3-slixmpp)"),
        (succeeds("openssl", &["version"]), "openssl"),
    ];
    all_found(&needs)?;
    Ok(Peers { fedgate })
}

fn look_for_kamailio() -> Result<(), String> {
    // `kamailio -c` on a file that loads them would say the same, and take longer. Where modules are depends on the machine.
    let module = |name: &str| {
        let folders = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten().map(|entry| entry.path());
        folders.chain([PathBuf::from("/usr/lib")]).any(|lib| lib.join("kamailio/modules").join(name).is_file())
    };
    all_found(&[
        (on_path("kamailio").is_some() && module("db_text.so"), "Kamailio (Debian: kamailio)"),
        (Path::new(server::TABLES).join("presentity").is_file(), "Kamailio's tables (Debian: kamailio)"),
        (module("tls.so"), "Kamailio's TLS (Debian: kamailio-tls-modules)"),
        (module("presence_xml.so"), "Kamailio's presence (Debian: kamailio-presence-modules)"),
        (
            on_path("baresip").is_some() && Path::new(phone::MODULES).join("aubridge.so").is_file(),
            "baresip (Debian: baresip-core)",
        ),
        (on_path("sipsak").is_some(), "sipsak (Debian: sipsak)"),
    ])
}

fn all_found(needs: &[(bool, &str)]) -> Result<(), String> {
    match needs.iter().find(|(found, _)| !found) {
        Some((_, name)) => Err((*name).to_owned()),
        None => Ok(()),
    }
}

fn succeeds(program: impl AsRef<OsStr>, arguments: &[&str]) -> bool {
    Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// The program's path, as a shell would find it, or among those of administrators (Kamailio).
pub fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    folders.map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// `FEDGATE_BIN`, else the release build of these sources.
fn release_build() -> Result<PathBuf, String> {
    if let Some(file) = std::env::var_os("FEDGATE_BIN") {
        let file = PathBuf::from(file);
        return if file.is_file() { Ok(file) } else { Err(format!("{} (FEDGATE_BIN)", file.display())) };
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let file = target.join("release/fedgate");
    let built = file.metadata().and_then(|m| m.modified()).map_err(|_| "release build (cargo build --release)")?;
    // An old build would be judged by new scenarios.
    match newest(&root.join("src")) {
        Some(changed) if changed > built => {
            Err("release build of the present sources (cargo build --release)".to_owned())
        }
        _ => Ok(file),
    }
}

fn newest(folder: &Path) -> Option<SystemTime> {
    let entries = std::fs::read_dir(folder).ok()?;
    entries
        .flatten()
        .filter_map(|entry| match entry.file_type().ok()?.is_dir() {
            true => newest(&entry.path()),
            false => entry.metadata().ok()?.modified().ok(),
        })
        .max()
}
