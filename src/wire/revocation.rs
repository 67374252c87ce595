//! Certificate revocation lists as facts (RFC 5280 §5): whose, and from when until when. What they revoke is `gate::peer`'s to judge.

use super::certificate::key_identifier;
use x509_parser::asn1_rs::FromDer as _;
use x509_parser::revocation_list::CertificateRevocationList;

/// What a list says of itself. Times are seconds since the Unix epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevocationList {
    /// The authority, as people write its name.
    pub issuer: String,
    /// When it was made.
    pub this_update: u64,
    /// Until when the next is due.
    pub next_update: Option<u64>,
    /// With which of the authority's keys it says to be signed (RFC 5280 §5.2.1).
    pub key: Option<Vec<u8>>,
}

/// The bytes are not a revocation list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a certificate revocation list: {0}")]
pub struct NotAList(pub String);

impl RevocationList {
    /// Reads DER. The signature is not looked at.
    pub fn parse(der: &[u8]) -> Result<Self, NotAList> {
        let (rest, list) = CertificateRevocationList::from_der(der).map_err(|error| NotAList(error.to_string()))?;
        if !rest.is_empty() {
            return Err(NotAList("bytes after its end".into()));
        }
        let seconds = |time: x509_parser::time::ASN1Time| u64::try_from(time.timestamp()).unwrap_or(0);
        Ok(Self {
            issuer: list.issuer().to_string(),
            this_update: seconds(list.last_update()),
            next_update: list.next_update().map(seconds),
            key: key_identifier(list.extensions()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{
        CertificateParams, CertificateRevocationListParams, DnType, Issuer, KeyIdMethod, KeyPair, SerialNumber,
    };

    fn der() -> Vec<u8> {
        let mut authority = CertificateParams::default();
        authority.distinguished_name.push(DnType::CommonName, "Test CA");
        let list = CertificateRevocationListParams {
            this_update: rcgen::date_time_ymd(2026, 1, 1),
            next_update: rcgen::date_time_ymd(2026, 2, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: Vec::new(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&Issuer::new(authority, KeyPair::generate().unwrap())).unwrap().der().to_vec()
    }

    #[test]
    fn says_whose_it_is_and_until_when() {
        let list = RevocationList::parse(&der()).unwrap();
        assert!(list.issuer.contains("Test CA"), "{list:?}");
        assert_eq!(list.key.map(|key| key.len()), Some(20));
        assert_eq!((list.this_update, list.next_update), (1_767_225_600, Some(1_769_904_000)));
    }

    proptest::proptest! {
        #[test]
        fn damaged_lists_never_panic(at in 0usize..400, to: u8, cut in 0usize..400) {
            let mut der = der();
            if let Some(byte) = der.get_mut(at) { *byte = to; }
            let _ = RevocationList::parse(&der);
            let _ = RevocationList::parse(der.get(cut..).unwrap_or_default());
        }
    }
}
