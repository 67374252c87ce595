//! Whom a chain must lead to: sets of trust anchors and revocation lists (RFC 5280 path validation by webpki).

use crate::gate::partner::TrustId;
use crate::gate::time::Time;
use crate::wire::certificate::Chain;
use crate::wire::revocation::RevocationList;
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use std::time::Duration;
use webpki::{
    CertRevocationList, EndEntityCert, ExpirationPolicy, ExtendedKeyUsageValidator, KeyPurposeId, KeyPurposeIdIter,
    OwnedCertRevocationList, RevocationCheckDepth, RevocationOptionsBuilder, UnknownStatusPolicy,
};

/// Anchors and CRLs of one trust.
#[derive(Debug, Default)]
pub struct TrustSet {
    anchors: Vec<TrustAnchor<'static>>,
    /// Each with the key that it says to be signed with.
    crls: Vec<(CertRevocationList<'static>, Option<Vec<u8>>)>,
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
    #[error("revoked: a list of [tls] revocation names it, or an authority above it")]
    Revoked,
    #[error("its extended key usage does not allow this")]
    Usage,
    #[error("{0}")]
    Other(String),
}

impl TrustSet {
    /// From CA certificates and CRLs (DER). Of several lists that speak for one certificate, the first counts.
    pub fn new(anchors: &[CertificateDer<'_>], crls: &[Vec<u8>]) -> Result<Self, String> {
        let anchors = anchors
            .iter()
            .map(|der| webpki::anchor_from_trusted_cert(der).map(|anchor| anchor.to_owned()))
            .collect::<Result<_, _>>()
            .map_err(|error| format!("not usable as a trust anchor: {error}"))?;
        let crls = crls
            .iter()
            .map(|der| {
                let list = OwnedCertRevocationList::from_der(der)
                    .map_err(|error| format!("not a certificate revocation list: {error}"))?;
                let key = RevocationList::parse(der).map_err(|error| error.to_string())?.key;
                Ok((CertRevocationList::Owned(list), key))
            })
            .collect::<Result<_, String>>()?;
        Ok(Self { anchors, crls })
    }

    /// Path validation at `now`.
    pub fn verify(&self, chain: &Chain, usage: Use, now: Time) -> Result<(), Untrusted> {
        let (leaf, intermediates) =
            chain.der.split_first().ok_or_else(|| Untrusted::Other("no certificate".to_owned()))?;
        let leaf = EndEntityCert::try_from(leaf).map_err(|error| judge(error, chain))?;
        let crls = self.lists_for(chain);
        // A list speaks for its own issuer only, and an old list still names what was revoked: neither a missing nor a stale list
        // may cut off a partner whose certificate nobody revoked.
        let revocation = RevocationOptionsBuilder::new(&crls).ok().map(|options| {
            options
                .with_depth(RevocationCheckDepth::Chain)
                .with_status_policy(UnknownStatusPolicy::Allow)
                .with_expiration_policy(ExpirationPolicy::Ignore)
                .build()
        });
        leaf.verify_for_usage(
            webpki::ALL_VERIFICATION_ALGS,
            &self.anchors,
            intermediates,
            UnixTime::since_unix_epoch(Duration::from_secs(now.unix_seconds())),
            usage,
            revocation,
            None,
        )
        .map(|_| ())
        .map_err(|error| judge(error, chain))
    }

    /// The lists that may speak for certificates of this chain: an authority that goes on under its name with a new key has a list for each
    /// key, and webpki asks the first of the name.
    fn lists_for(&self, chain: &Chain) -> Vec<&CertRevocationList<'static>> {
        if self.crls.is_empty() {
            return Vec::new();
        }
        let issuers = chain.issuers();
        let may_speak = |list: &CertRevocationList<'_>, key: &Option<Vec<u8>>| {
            issuers
                .iter()
                .any(|(name, with)| is_name(list.issuer(), name) && (key.is_none() || with.is_none() || key == with))
        };
        self.crls.iter().filter(|(list, key)| may_speak(list, key)).map(|(list, _)| list).collect()
    }

    /// Whether nothing can lead here.
    pub fn is_empty(&self) -> bool {
        self.anchors.is_empty()
    }
}

/// webpki keeps a name without its outermost tag and length.
fn is_name(bare: &[u8], der: &[u8]) -> bool {
    der.ends_with(bare) && der.len() - bare.len() <= 6
}

/// id-kp-serverAuth, id-kp-clientAuth, id-kp-sipDomain (RFC 5924 §3), anyExtendedKeyUsage (RFC 5280 §4.2.1.12), as DER content.
const SERVER_AUTH: KeyPurposeId<'static> = KeyPurposeId::new(&[43, 6, 1, 5, 5, 7, 3, 1]);
const CLIENT_AUTH: KeyPurposeId<'static> = KeyPurposeId::new(&[43, 6, 1, 5, 5, 7, 3, 2]);
const SIP_DOMAIN: KeyPurposeId<'static> = KeyPurposeId::new(&[43, 6, 1, 5, 5, 7, 3, 20]);
const ANY: KeyPurposeId<'static> = KeyPurposeId::new(&[85, 29, 37, 0]);

impl ExtendedKeyUsageValidator for Use {
    /// RFC 5924 §4: no EKU at all restricts nothing; else one of those that serve.
    fn validate(&self, purposes: KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        let mut empty = true;
        for purpose in purposes {
            let purpose = purpose?;
            empty = false;
            let serves = match self {
                Use::Any => [SERVER_AUTH, CLIENT_AUTH, SIP_DOMAIN, ANY].contains(&purpose),
                Use::Client => [CLIENT_AUTH, ANY].contains(&purpose),
            };
            if serves {
                return Ok(());
            }
        }
        if empty { Ok(()) } else { Err(wrong_usage()) }
    }
}

/// The variant with context can't be built outside webpki; this one means the same.
#[allow(deprecated)]
fn wrong_usage() -> webpki::Error {
    webpki::Error::RequiredEkuNotFound
}

#[allow(deprecated)]
fn judge(error: webpki::Error, chain: &Chain) -> Untrusted {
    use webpki::Error as E;
    match error {
        E::UnknownIssuer | E::InvalidSignatureForPublicKey => Untrusted::UnknownIssuer(chain.root_issuer()),
        E::CertExpired { .. } => Untrusted::Expired,
        E::CertNotValidYet { .. } => Untrusted::NotYetValid,
        E::CertRevoked => Untrusted::Revoked,
        E::InvalidCrlSignatureForPublicKey | E::IssuerNotCrlSigner => Untrusted::Other(format!(
            "its issuer has not signed the revocation list that bears its name, or may not ({error}); replace that list in [tls] revocation"
        )),
        E::RequiredEkuNotFound | E::RequiredEkuNotFoundContext(_) | E::EmptyEkuExtension => Untrusted::Usage,
        other => Untrusted::Other(other.to_string()),
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
