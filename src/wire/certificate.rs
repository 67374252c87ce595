//! X.509 certificates as facts: which names they carry, until when, for what use. Judging them is `gate::peer`'s.

use crate::wire::address::Domain;
use rustls_pki_types::CertificateDer;

/// A peer's certificate chain and the names of its leaf.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// Leaf first, as the peer sent them.
    pub der: Vec<CertificateDer<'static>>,
    /// The leaf's names.
    pub names: Names,
    /// The leaf's end of validity, seconds since the Unix epoch.
    pub not_after: u64,
    /// Lower-case hex SHA-256 of the leaf, for people.
    pub fingerprint: String,
    /// The leaf's extended key usages.
    pub usage: Usage,
}

/// Names in a leaf certificate. Wildcards are kept as written (`*.example.com`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    /// SAN dNSName, lower case.
    pub dns: Vec<String>,
    /// Domains of SAN URIs `sip:domain` without user part (RFC 5922 §7.1).
    pub sip: Vec<Domain>,
    /// SAN otherName id-on-xmppAddr (RFC 6120 §13.7.1.4).
    pub xmpp: Vec<String>,
    /// SAN otherName id-on-dnsSRV, as written (`_xmpp-server.example.com`).
    pub srv: Vec<String>,
    /// Subject CN; counts only where there is no SAN at all.
    pub common_name: Option<String>,
    /// Whether there is any SAN extension.
    pub has_san: bool,
}

/// Extended key usage.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// No EKU extension: any use.
    pub unrestricted: bool,
    /// id-kp-serverAuth.
    pub server: bool,
    /// id-kp-clientAuth.
    pub client: bool,
    /// id-kp-sipDomain (RFC 5924).
    pub sip_domain: bool,
}

/// The bytes are not a certificate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a certificate: {0}")]
pub struct NotACertificate(pub String);

impl Chain {
    /// Reads the leaf; `der` is leaf first and not empty.
    pub fn parse(der: Vec<CertificateDer<'static>>) -> Result<Self, NotACertificate> {
        todo!()
    }
}
