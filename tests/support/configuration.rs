//! A configuration in a folder of its own, with a PKI made for it.

#![allow(dead_code)] // each test program uses its part

use fedgate::config::{self, Loaded, Options, Report, Severity};
use fedgate::gate::Time;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, IsCa, Issuer, KeyIdMethod, KeyPair,
    SerialNumber,
};
use std::path::Path;

/// 2026-01-01, within the certificates' validity.
pub const NOW: Time = Time::from_unix_seconds(1_767_225_600);

/// What most tests start from; line numbers in the tests count from here.
pub const FEDGATE: &str = r#"[edge]
policies = "policies"

[[identity]]
hostname = "sip.corp.example"
domains = ["corp.example"]
certificate = "certs/edge.pem"
key = "certs/edge.key"

[tls]
trust = ["certs/ca.pem"]

[[node]]
name = "imp-1"
protocol = "xmpp"
address = "127.0.0.1:15269"
domains = ["corp.example"]

[state]
engine = "memory"
secrets = ["0123456789abcdef0123456789abcdef"]
"#;

/// One Lync partner, nothing said that can be left out.
pub const POLICIES: &str = r#"[[partner]]
domain = "lync.example"
protocol = "sip"
profile = "lync"
chat = "page"
"#;

/// The folder.
pub struct World {
    folder: tempfile::TempDir,
}

impl World {
    /// [`FEDGATE`] and [`POLICIES`] with a CA, a certificate for `sip.corp.example` and some that don't fit.
    pub fn new() -> Self {
        let world = Self { folder: tempfile::tempdir().unwrap() };
        world.write("fedgate.toml", FEDGATE);
        world.write("policies/10-partners.toml", POLICIES);
        let ca_key = KeyPair::generate().unwrap();
        let mut ca = CertificateParams::new(Vec::new()).unwrap();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        world.write("certs/ca.pem", &ca.self_signed(&ca_key).unwrap().pem());
        world.write("certs/ca.key", &ca_key.serialize_pem());
        let issuer = Issuer::new(ca, ca_key);
        for (file, made, due) in [("present", 2025, 2030), ("overdue", 2024, 2025)] {
            let list = CertificateRevocationListParams {
                this_update: rcgen::date_time_ymd(made, 6, 1),
                next_update: rcgen::date_time_ymd(due, 7, 1),
                crl_number: SerialNumber::from(1),
                issuing_distribution_point: None,
                revoked_certs: Vec::new(),
                key_identifier_method: KeyIdMethod::Sha256,
            };
            let list = list.signed_by(&issuer).unwrap();
            world.write(&format!("certs/{file}.crl.pem"), &list.pem().unwrap());
            std::fs::write(world.path().join(format!("certs/{file}.crl")), list.der()).unwrap();
        }
        let leaf = |file: &str, names: &[&str], year: i32| {
            let key = KeyPair::generate().unwrap();
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            let mut params = CertificateParams::new(names).unwrap();
            params.not_before = rcgen::date_time_ymd(2020, 1, 1);
            params.not_after = rcgen::date_time_ymd(year, 1, 15);
            let certificate = params.signed_by(&key, &issuer).unwrap();
            world.write(&format!("certs/{file}.pem"), &certificate.pem());
            world.write(&format!("certs/{file}.key"), &key.serialize_pem());
        };
        leaf("edge", &["sip.corp.example", "corp.example"], 2040);
        leaf("host", &["sip.corp.example"], 2040);
        leaf("wildcard", &["*.corp.example"], 2040);
        leaf("expired", &["sip.corp.example"], 2025);
        leaf("expiring", &["sip.corp.example"], 2026);
        world
    }

    /// Its folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Puts a file there.
    pub fn write(&self, path: &str, text: &str) {
        let path = self.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// Reads it as `check` does.
    pub fn report(&self) -> Report {
        config::load(&self.path().join("fedgate.toml"), Options::check(NOW))
    }

    /// Reads it; it must be without errors.
    pub fn load(&self) -> Loaded {
        match self.report().into_result() {
            Ok(loaded) => loaded,
            Err(_) => panic!("{}", self.errors().join("\n")),
        }
    }

    /// Problems as printed, without the folder's path.
    pub fn problems(&self, severity: Severity) -> Vec<String> {
        let folder = format!("{}/", self.path().display());
        let problems = self.report().problems;
        let shown = problems.iter().filter(|problem| problem.severity == severity);
        shown.map(|problem| problem.to_string().replace(&folder, "")).collect()
    }

    /// Its errors.
    pub fn errors(&self) -> Vec<String> {
        self.problems(Severity::Error)
    }
}

/// The errors of [`FEDGATE`] with some text replaced.
pub fn errors_with(old: &str, new: &str) -> Vec<String> {
    assert!(FEDGATE.contains(old), "{old}");
    let world = World::new();
    world.write("fedgate.toml", &FEDGATE.replacen(old, new, 1));
    world.errors()
}

/// The errors of [`FEDGATE`] with some text after it.
pub fn errors_after(text: &str) -> Vec<String> {
    let world = World::new();
    world.write("fedgate.toml", &format!("{FEDGATE}{text}"));
    world.errors()
}

/// The errors of a policy file of its own.
pub fn policy_errors(text: &str) -> Vec<String> {
    let world = World::new();
    world.write("policies/10-partners.toml", text);
    world.errors()
}
