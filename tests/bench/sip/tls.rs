//! Certificates of everybody, and TLS as both sides speak it: 1.3, ECDSA P-256, X25519, mutual where the box in the middle is reached from outside.

pub use super::identity::client;
use super::identity::{authorities, own, provider};
use fedgate::cli::certs::{self, Spec};
use rustls::{ServerConfig, version};
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
    let roots = Arc::new(authorities(folder));
    let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(roots, provider());
    let (chain, key) = own(folder, name);
    let config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&version::TLS13])
        .expect("TLS 1.3")
        .with_client_cert_verifier(verifier.build().expect("a verifier"))
        .with_single_cert(chain, key)
        .expect("a certificate and its key");
    Arc::new(config)
}
