//! `fedgate certs`: an example PKI, as `certs-example/` documents it.

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// What can be typed after it.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The folder to put it in; made if absent. No file is overwritten
    #[arg(long, value_name = "DIR", default_value = "certs")]
    pub out: PathBuf,
}

/// One certificate to make.
#[derive(Debug, Clone, Copy)]
pub struct Spec<'a> {
    /// Its files: `NAME.pem`, `NAME.key`.
    pub name: &'a str,
    /// Subject CN, for people.
    pub common_name: &'a str,
    /// SAN dNSName.
    pub dns: &'a [&'a str],
}

/// What `fedgate certs` makes beside the CA: the edge of the README and a Lync partner's.
pub const EXAMPLE: [Spec<'static>; 2] = [
    Spec { name: "edge", common_name: "sip.corp.example", dns: &["sip.corp.example", "corp.example"] },
    Spec { name: "partner", common_name: "sip.lync.example", dns: &["sip.lync.example"] },
];

/// For how long: the CA, the rest.
const CA_LASTS: Duration = Duration::from_secs(3_650 * 86_400);
const LASTS: Duration = Duration::from_secs(825 * 86_400);
/// Clocks differ.
const BEFORE: Duration = Duration::from_secs(86_400);

/// Makes them and says what to do next.
pub fn main(args: Args) -> ExitCode {
    match make(&args.out, &EXAMPLE) {
        Ok(made) => {
            let dir = args.out.display();
            let mut text: String = made.iter().map(|path| format!("made {}\n", path.display())).collect();
            text.push_str(&format!(
                "\nAn example authority and two certificates, for trying things out: never for a real partner.\n\
                 In fedgate.toml:\n\n\
                 \x20 [[identity]]\n\
                 \x20 hostname    = \"sip.corp.example\"\n\
                 \x20 domains     = [\"corp.example\"]\n\
                 \x20 certificate = \"{dir}/edge.pem\"\n\
                 \x20 key         = \"{dir}/edge.key\"\n\n\
                 \x20 [tls]\n\
                 \x20 trust = [\"{dir}/ca.pem\"]\n\n\
                 Next: give partner.pem, partner.key and ca.pem to the partner sip.lync.example, then run `fedgate check`.\n"
            ));
            super::print(&text);
            ExitCode::SUCCESS
        }
        Err(error) => {
            super::complain(&format!("fedgate: {error}\n"));
            ExitCode::FAILURE
        }
    }
}

/// Makes a CA (`ca.pem`, `ca.key`) and certificates from it in `dir`. Nothing that exists is overwritten: then nothing at all is made.
pub fn make(dir: &Path, specs: &[Spec<'_>]) -> Result<Vec<PathBuf>, String> {
    let names = std::iter::once("ca").chain(specs.iter().map(|spec| spec.name));
    let taken = names.flat_map(|name| [dir.join(format!("{name}.pem")), dir.join(format!("{name}.key"))]);
    for path in taken {
        if path.exists() {
            return Err(format!("{} exists; nothing was made. Remove it, or use another --out", path.display()));
        }
    }
    std::fs::create_dir_all(dir).map_err(|error| format!("{}: {error}", dir.display()))?;

    let mut made = Vec::new();
    let words = |error: rcgen::Error| error.to_string();
    let mut params = lasting(CertificateParams::default(), CA_LASTS);
    params.distinguished_name.push(DnType::CommonName, "fedgate example CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    let key = KeyPair::generate().map_err(words)?;
    let ca = params.self_signed(&key).map_err(words)?;
    write(dir, "ca", &ca.pem(), &key, &mut made)?;
    let issuer = Issuer::new(params, key);

    for spec in specs {
        let mut params = lasting(CertificateParams::default(), LASTS);
        params.distinguished_name.push(DnType::CommonName, spec.common_name);
        for name in spec.dns {
            params.subject_alt_names.push(SanType::DnsName((*name).try_into().map_err(words)?));
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        // Both: the edge is a server to who connects and a client to whom it connects to.
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().map_err(words)?;
        let certificate = params.signed_by(&key, &issuer).map_err(words)?;
        write(dir, spec.name, &certificate.pem(), &key, &mut made)?;
    }
    Ok(made)
}

fn lasting(mut params: CertificateParams, lasts: Duration) -> CertificateParams {
    let now = std::time::SystemTime::now();
    params.not_before = (now - BEFORE).into();
    params.not_after = (now + lasts).into();
    params
}

fn write(dir: &Path, name: &str, certificate: &str, key: &KeyPair, made: &mut Vec<PathBuf>) -> Result<(), String> {
    let files =
        [(format!("{name}.pem"), certificate.to_owned(), 0o644), (format!("{name}.key"), key.serialize_pem(), 0o600)];
    for (file, text, mode) in files {
        let path = dir.join(file);
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, mode);
        options
            .open(&path)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .map_err(|error| format!("{}: {error}", path.display()))?;
        made.push(path);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn makes_a_pki_once() {
        let dir = tempfile::tempdir().unwrap();
        let made = make(dir.path(), &EXAMPLE).unwrap();
        assert_eq!(made.len(), 6);
        for path in &made {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
            let wanted = if path.extension().is_some_and(|extension| extension == "key") { 0o600 } else { 0o644 };
            assert_eq!(mode, wanted, "{}", path.display());
        }
        let before = std::fs::read(&made[0]).unwrap();
        assert!(make(dir.path(), &EXAMPLE).unwrap_err().contains("exists"));
        assert_eq!(std::fs::read(&made[0]).unwrap(), before);
    }
}
