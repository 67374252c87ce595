//! Whom a chain must lead to: sets of trust anchors and revocation lists (RFC 5280 path validation by webpki).

use crate::gate::partner::TrustId;
use crate::gate::time::Time;
use crate::wire::certificate::Chain;
use rustls_pki_types::CertificateDer;

/// Anchors and CRLs of one trust.
#[derive(Debug)]
pub struct TrustSet {
    // webpki anchors (owned), CRLs: the implementer's
}

/// All trust sets of the settings; [`TrustId`] 0 is `[tls] trust`.
#[derive(Debug, Default)]
pub struct TrustSets {
    sets: Vec<TrustSet>,
}

/// For which use a path must be valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// Either EKU, or none, or sipDomain (RFC 5924); public CAs no longer issue clientAuth.
    Any,
    /// clientAuth demanded.
    Client,
}

/// Why a chain leads nowhere.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum Untrusted {
    #[error("issued by an authority that is not trusted here ({0})")]
    UnknownIssuer(String),
    #[error("expired")]
    Expired,
    #[error("not valid yet")]
    NotYetValid,
    #[error("revoked")]
    Revoked,
    #[error("its extended key usage does not allow this")]
    Usage,
    #[error("{0}")]
    Other(String),
}

impl TrustSet {
    /// From CA certificates and CRLs (DER).
    pub fn new(anchors: &[CertificateDer<'_>], crls: &[Vec<u8>]) -> Result<Self, String> {
        todo!()
    }
    /// Path validation at `now`.
    pub fn verify(&self, chain: &Chain, usage: Use, now: Time) -> Result<(), Untrusted> {
        todo!()
    }
}

impl TrustSets {
    /// All sets, in [`TrustId`] order.
    pub fn new(sets: Vec<TrustSet>) -> Self {
        Self { sets }
    }
    /// One set.
    pub fn get(&self, id: TrustId) -> Option<&TrustSet> {
        self.sets.get(id.0 as usize)
    }
    /// Every set.
    pub fn iter(&self) -> impl Iterator<Item = &TrustSet> {
        self.sets.iter()
    }
}
