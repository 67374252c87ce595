//! TLS as all ends of a bench speak it: 1.3, ECDSA P-256, X25519, with certificates from one folder.

use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, version};
use std::path::Path;
use std::sync::Arc;

/// One key exchange for all: what OpenSSL 3.0 and rustls both have. A hybrid one would cost those alone that know it.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider { kx_groups: vec![aws_lc_rs::kx_group::X25519], ..aws_lc_rs::default_provider() })
}

/// A certificate chain and its key.
pub fn own(folder: &Path, name: &str) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let chain = CertificateDer::pem_file_iter(folder.join(format!("{name}.pem"))).expect("a chain");
    let key = PrivateKeyDer::from_pem_file(folder.join(format!("{name}.key"))).expect("a key");
    (chain.map(|certificate| certificate.expect("a certificate")).collect(), key)
}

/// Every handshake is a whole one.
pub fn client(folder: &Path, name: &str) -> Arc<ClientConfig> {
    let roots = authorities(folder);
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

/// Who signs for everybody.
pub fn authorities(folder: &Path) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(folder.join("ca.pem")).expect("an authority")).expect("an authority");
    roots
}
