//! The layers and invariants of ARCHITECTURE.md, held by reading the sources.

use std::path::{Path, PathBuf};

fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(folder);
    let mut files = Vec::new();
    let mut folders = vec![root];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder of sources") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") && !is_test(&path) {
                let text = std::fs::read_to_string(&path).expect("a source");
                files.push((path, code(&text)));
            }
        }
    }
    assert!(!files.is_empty(), "no sources in {folder}");
    files
}

/// Whole files of unit tests: declared under `#[cfg(test)]`.
fn is_test(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == "tests.rs" || name == "oracle.rs")
}

/// The code without comments and without its unit tests, which may use what they like.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    text.lines().filter(|line| !line.trim_start().starts_with("//")).map(|line| format!("{line}\n")).collect()
}

fn refuse(folder: &str, words: &[&str], why: &str) {
    let mut found = Vec::new();
    for (path, text) in sources(folder) {
        for (at, line) in text.lines().enumerate() {
            found.extend(
                words.iter().filter(|w| line.contains(**w)).map(|w| format!("{}:{}: {w}", path.display(), at + 1)),
            );
        }
    }
    assert!(found.is_empty(), "{why}:\n{}", found.join("\n"));
}

#[test]
fn wire_knows_nobody_and_gate_knows_wire_only() {
    refuse("wire", &["crate::gate", "crate::io", "crate::config", "crate::app", "crate::cli"], "wire/ knows nobody");
    refuse("gate", &["crate::io", "crate::config", "crate::app", "crate::cli"], "gate/ knows wire/ only");
    refuse("config", &["crate::io", "crate::app", "crate::cli"], "config/ knows gate/ and wire/ only");
    refuse("io", &["crate::config", "crate::app", "crate::cli"], "io/ knows gate/ and wire/ only");
}

#[test]
fn the_two_machines_touch_no_world() {
    let world = [
        "std::fs",
        "std::io::",
        "std::time::Instant",
        "SystemTime",
        "Instant::now",
        "std::sync::Mutex",
        "RwLock",
        "std::thread",
        "tokio",
        "rand::rng()",
        "rand::random",
        "thread_rng",
        "std::env",
        "TcpStream",
        "HashMap",
        "HashSet",
    ];
    for folder in ["wire", "gate"] {
        refuse(folder, &world, "time, randomness and order are arguments");
    }
}

#[test]
fn the_protocols_do_not_know_each_other() {
    refuse("wire/sip", &["wire::xmpp", "super::super::xmpp"], "sip/ and xmpp/ do not know each other");
    refuse("wire/xmpp", &["wire::sip", "super::super::sip"], "sip/ and xmpp/ do not know each other");
}

#[test]
fn stages_return_steps_and_never_outputs() {
    for folder in ["gate/session", "gate/policy", "gate/peer", "gate/border", "gate/route", "gate/translate"] {
        refuse(folder, &["Output::"], "only the gate itself turns steps into outputs");
    }
}

#[test]
fn nothing_under_session_pins_a_read_buffer() {
    for (path, text) in sources("gate/session") {
        let mut in_struct = false;
        for line in text.lines() {
            in_struct = (in_struct || line.contains("struct ")) && !line.starts_with('}');
            let what_leaves = ["pub bytes: Bytes", "pub stanza: Bytes"].iter().any(|field| line.contains(field));
            assert!(
                !in_struct || !line.contains(": Bytes") || what_leaves,
                "{}: a table keeps Bytes, which pins a whole read buffer: {line}",
                path.display()
            );
        }
    }
}

#[test]
fn no_leftovers_and_no_giants() {
    for (path, text) in sources("") {
        for word in ["todo!(", "unimplemented!(", "dbg!(", "PLACEHOLDER", "FIXME"] {
            assert!(!text.contains(word), "{}: {word} left over", path.display());
        }
        let lines = text.lines().count();
        assert!(lines <= 900, "{}: {lines} lines; a file has one subject", path.display());
    }
}
