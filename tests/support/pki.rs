//! Certificates for tests, made once a run.

use fedgate::wire::certificate::Chain;
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};

/// A folder with ca.pem, edge.pem, edge.key, and chains for any peer.
pub struct Pki {
    pub folder: PathBuf,
    issuers: BTreeMap<&'static str, Issuer<'static, KeyPair>>,
    chains: Mutex<BTreeMap<(String, String), Arc<Chain>>>,
    _temp: tempfile::TempDir,
}

/// The one of this run. Authorities: `ca` is trusted, `other-ca` is not.
pub fn pki() -> &'static Pki {
    static PKI: OnceLock<Pki> = OnceLock::new();
    PKI.get_or_init(|| {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let folder = temp.path().to_owned();
        let mut issuers = BTreeMap::new();
        for name in ["ca", "other-ca"] {
            let key = KeyPair::generate().expect("a key");
            let mut params = CertificateParams::new(Vec::new()).expect("params");
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.distinguished_name.push(rcgen::DnType::CommonName, name);
            let certificate = params.self_signed(&key).expect("a certificate");
            std::fs::write(folder.join(format!("{name}.pem")), certificate.pem()).expect("written");
            issuers.insert(name, Issuer::new(params, key));
        }
        let pki = Pki { folder, issuers, chains: Mutex::default(), _temp: temp };
        for (file, names) in [
            ("edge", vec!["sip.corp.example", "corp.example"]),
            ("edge-example-com", vec!["sip.example.com", "example.com"]),
            ("edge-example-org", vec!["sip.example.org", "example.org"]),
            ("edge-foreign-example-org", vec!["sip.foreign.example.org", "foreign.example.org"]),
            ("edge-sametime-example-org", vec!["sip.sametime.example.org", "sametime.example.org"]),
        ] {
            let (certificate, key) = pki.issue("ca", &names);
            std::fs::write(pki.folder.join(format!("{file}.pem")), certificate.pem()).expect("written");
            std::fs::write(pki.folder.join(format!("{file}.key")), key.serialize_pem()).expect("written");
        }
        pki
    })
}

impl Pki {
    /// The chain of a peer whose certificate carries `host`, issued by `authority`.
    pub fn chain(&self, authority: &str, host: &str) -> Arc<Chain> {
        let mut chains = self.chains.lock().expect("not poisoned");
        chains
            .entry((authority.to_owned(), host.to_owned()))
            .or_insert_with(|| {
                let (certificate, _) = self.issue(authority, &[host]);
                Arc::new(Chain::parse(vec![certificate.der().clone()]).expect("a certificate"))
            })
            .clone()
    }

    /// The chain of a peer with any certificate, issued by `authority`.
    pub fn made(&self, authority: &str, make: impl FnOnce(&mut CertificateParams)) -> Arc<Chain> {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("params");
        make(&mut params);
        let certificate = params.signed_by(&key, &self.issuers[authority]).expect("signed");
        Arc::new(Chain::parse(vec![certificate.der().clone()]).expect("a certificate"))
    }

    /// The file name, without its end, of the certificate and key of an edge at `sip.DOMAIN`.
    pub fn edge(&self, domain: &str) -> String {
        let file = format!("edge-{}", domain.replace('.', "-"));
        let _one_at_a_time = self.chains.lock().expect("not poisoned");
        if !self.folder.join(format!("{file}.key")).exists() {
            let (certificate, key) = self.issue("ca", &[&format!("sip.{domain}"), domain]);
            std::fs::write(self.folder.join(format!("{file}.pem")), certificate.pem()).expect("written");
            std::fs::write(self.folder.join(format!("{file}.key")), key.serialize_pem()).expect("written");
        }
        file
    }

    fn issue(&self, authority: &str, names: &[&str]) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("params");
        params.subject_alt_names =
            names.iter().map(|name| SanType::DnsName((*name).try_into().expect("a name"))).collect();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &self.issuers[authority]).expect("signed");
        (certificate, key)
    }
}
