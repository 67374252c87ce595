//! The certificates of a stand, made by openssl: ours, the partner's, and those of people who should not get in.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A certificate and its key, in PEM files.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// The leaf.
    pub chain: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// All of them, in one folder.
pub struct Pki {
    folder: PathBuf,
    /// The authority fedgate trusts.
    pub authority: Certificate,
    /// The authority that nobody trusts.
    pub stranger: Certificate,
}

impl Pki {
    /// Makes the authorities.
    pub fn new(folder: &Path) -> Self {
        std::fs::create_dir_all(folder).expect("a folder for certificates");
        let root = |file: &str, name: &str| {
            let made = certificate(folder, file);
            let constraints =
                ["-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=keyCertSign,cRLSign"];
            request(&made, name, &[&["-x509", "-days", "2"], &constraints[..]].concat());
            made
        };
        let authority = root("authority", "Federation CA");
        let stranger = root("stranger", "Unknown CA");
        Self { folder: folder.to_owned(), authority, stranger }
    }

    /// A leaf for these DNS names, signed by `issuer`.
    pub fn leaf(&self, file: &str, names: &[&str], issuer: &Certificate) -> Certificate {
        let made = certificate(&self.folder, file);
        let names = names.iter().map(|name| format!("DNS:{name}")).collect::<Vec<_>>().join(",");
        let extensions = self.folder.join(format!("{file}.ext"));
        let text =
            format!("subjectAltName={names}\nextendedKeyUsage=serverAuth,clientAuth\nbasicConstraints=CA:FALSE\n");
        std::fs::write(&extensions, text).expect("an extensions file");
        let csr = Certificate { chain: self.folder.join(format!("{file}.csr")), key: made.key.clone() };
        request(&csr, file, &[]);
        let mut sign = Command::new("openssl");
        sign.args(["x509", "-req", "-days", "2", "-sha256", "-in"]).arg(&csr.chain);
        sign.arg("-CA").arg(&issuer.chain).arg("-CAkey").arg(&issuer.key).args(["-set_serial", &serial(file)]);
        sign.arg("-extfile").arg(&extensions).arg("-out").arg(&made.chain);
        run(sign);
        made
    }
}

/// A serial number of its own for each file.
fn serial(file: &str) -> String {
    file.bytes().fold(1u64, |sum, byte| sum.wrapping_mul(31) % 1_000_000_007 + u64::from(byte)).to_string()
}

fn certificate(folder: &Path, file: &str) -> Certificate {
    Certificate { chain: folder.join(format!("{file}.pem")), key: folder.join(format!("{file}.key")) }
}

fn request(made: &Certificate, name: &str, arguments: &[&str]) {
    let mut command = Command::new("openssl");
    command.args(["req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-sha256"]);
    command.args(["-subj", &format!("/CN={name}")]).args(arguments);
    command.arg("-keyout").arg(&made.key).arg("-out").arg(&made.chain);
    run(command);
}

fn run(mut command: Command) {
    let output = command.stdin(Stdio::null()).output().expect("openssl starts");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
