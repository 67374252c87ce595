//! Certificates of everybody, and TLS as both sides speak it: 1.3, ECDSA P-256, X25519, mutual where the box in the middle is reached from outside.

use fedgate::cli::certs::{self, Spec};
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig, version};
use std::path::Path;
use std::sync::Arc;

/// The box in the middle.
pub const EDGE: &str = "sip.corp.example";
/// The partner's server.
pub const PARTNER: &str = "sip.lync.example";
/// The node inside.
pub const NODE: &str = "imp-1.corp.example";

/// Writes ca.pem, and edge, partner and node as .pem and .key.
pub fn make(folder: &Path) {
    let specs = [
        Spec { name: "edge", common_name: EDGE, dns: &[EDGE, "corp.example"] },
        Spec { name: "partner", common_name: PARTNER, dns: &[PARTNER] },
        Spec { name: "node", common_name: NODE, dns: &[NODE] },
    ];
    certs::make(folder, &specs).expect("certificates");
}

/// One key exchange for all: what OpenSSL 3.0 and rustls both have. A hybrid one would cost those alone that know it.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider { kx_groups: vec![aws_lc_rs::kx_group::X25519], ..aws_lc_rs::default_provider() })
}

fn own(folder: &Path, name: &str) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let chain = CertificateDer::pem_file_iter(folder.join(format!("{name}.pem"))).expect("a chain");
    let key = PrivateKeyDer::from_pem_file(folder.join(format!("{name}.key"))).expect("a key");
    (chain.map(|certificate| certificate.expect("a certificate")).collect(), key)
}

/// Every handshake is a whole one.
pub fn client(folder: &Path, name: &str) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(folder.join("ca.pem")).expect("an authority")).expect("an authority");
    let (chain, key) = own(folder, name);
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&version::TLS13])
        .expect("TLS 1.3")
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .expect("a certificate and its key");
    config.resumption = Resumption::disabled();
    Arc::new(config)
}

/// Asks nobody for a certificate: the ends of this measurement trust their middle.
pub fn server(folder: &Path, name: &str) -> Arc<ServerConfig> {
    let (chain, key) = own(folder, name);
    let config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&version::TLS13])
        .expect("TLS 1.3")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("a certificate and its key");
    Arc::new(config)
}

/// As `server`, for who must know the other: the byte pipe.
pub fn mutual_server(folder: &Path, name: &str) -> Arc<ServerConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(folder.join("ca.pem")).expect("an authority")).expect("an authority");
    let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
    let (chain, key) = own(folder, name);
    let config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&version::TLS13])
        .expect("TLS 1.3")
        .with_client_cert_verifier(verifier.build().expect("a verifier"))
        .with_single_cert(chain, key)
        .expect("a certificate and its key");
    Arc::new(config)
}
