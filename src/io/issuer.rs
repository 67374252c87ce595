//! Short-lived certificates in the names of partners' domains, for inside nodes that insist on a certificate of whom they talk to
//! (`[inside] issuer`). Made when they are asked for, kept until half of their life is over; nobody outside ever sees one.

use crate::gate::partner::Protocol;
use crate::gate::policy::Table;
use crate::wire::address::Domain;
use rcgen::{
    CertificateParams, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair, KeyUsagePurpose, SanType, SerialNumber,
};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// How long a leaf lasts; at half of it, the next is made.
const LASTS: Duration = Duration::from_secs(24 * 3_600);
/// Clocks inside may be behind ours.
const BEFORE: Duration = Duration::from_secs(3_600);
/// Leaves that are kept; of more, those that must be renewed first are made again when they are wanted.
const KEPT: usize = 1_024;

/// The authority of `[inside] issuer`, as configured.
#[derive(Debug)]
pub struct Authority {
    /// Its certificate first, then those above it.
    pub chain: Vec<CertificateDer<'static>>,
    /// Signs.
    pub issuer: Arc<Issuer<'static, KeyPair>>,
}

/// Makes leaves and keeps them.
#[derive(Debug)]
pub struct Mint {
    authority: Arc<Authority>,
    policy: Arc<Table>,
    provider: Arc<CryptoProvider>,
    /// One for all leaves: they end with this process as it does.
    key: KeyPair,
    leaves: Mutex<BTreeMap<Domain, Leaf>>,
}

#[derive(Debug)]
struct Leaf {
    certified: Arc<CertifiedKey>,
    renew_at: SystemTime,
}

impl Mint {
    /// For the partners of this policy.
    pub fn new(authority: Arc<Authority>, policy: Arc<Table>, provider: Arc<CryptoProvider>) -> Result<Self, String> {
        let key = KeyPair::generate().map_err(|error| format!("[inside] issuer: {error}"))?;
        Ok(Self { authority, policy, provider, key, leaves: Mutex::default() })
    }

    /// The certificate in this domain's name; `None` if nobody federates with it here, or it can't be made.
    pub fn leaf(&self, domain: &Domain) -> Option<Arc<CertifiedKey>> {
        if !self.is_partner(domain) {
            return None;
        }
        let now = SystemTime::now();
        let mut leaves = self.leaves.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(leaf) = leaves.get(domain).filter(|leaf| leaf.renew_at > now) {
            return Some(Arc::clone(&leaf.certified));
        }
        let certified = self
            .make(domain, now)
            .inspect_err(|error| tracing::error!(%domain, error, "[inside] issuer: no certificate could be made"))
            .ok()?;
        if leaves.len() >= KEPT
            && let Some(oldest) = leaves.iter().min_by_key(|(_, leaf)| leaf.renew_at).map(|(domain, _)| domain.clone())
        {
            leaves.remove(&oldest);
        }
        let leaf = Leaf { certified: Arc::clone(&certified), renew_at: now + LASTS / 2 };
        leaves.insert(domain.clone(), leaf);
        Some(certified)
    }

    /// Whether the inside may meet this domain here: any listed one; under open federation, any that is not ours.
    fn is_partner(&self, domain: &Domain) -> bool {
        let is_listed = [Protocol::Sip, Protocol::Xmpp].iter().any(|p| self.policy.partner_for(domain, *p).is_some());
        !self.policy.is_local(domain) && (is_listed || self.policy.stranger.is_some())
    }

    fn make(&self, domain: &Domain, now: SystemTime) -> Result<Arc<CertifiedKey>, String> {
        let words = |error: rcgen::Error| error.to_string();
        let mut params = CertificateParams::default();
        // A CN of more than 64 characters is none (RFC 5280 appendix A.1); nobody reads it beside a SAN.
        if domain.as_str().len() <= 64 {
            params.distinguished_name.push(DnType::CommonName, domain.as_str());
        }
        // RFC 6120 §13.7.1.2.1 wants no more. COMPAT(ejabberd): 23.01 breaks on any XmppAddr, and ends the stream.
        params.subject_alt_names = vec![SanType::DnsName(domain.as_str().try_into().map_err(words)?)];
        // RFC 5280 §4.1.2.2: positive, unique for the issuer. rcgen's own follows from the key, which all leaves share.
        params.serial_number = Some(SerialNumber::from((rand::random::<u64>() >> 1).max(1)));
        params.not_before = (now - BEFORE).into();
        params.not_after = (now + LASTS).into();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let leaf = params.signed_by(&self.key, &*self.authority.issuer).map_err(words)?;
        let chain = std::iter::once(leaf.der().clone()).chain(self.authority.chain.iter().cloned()).collect();
        let key = PrivateKeyDer::try_from(self.key.serialize_der()).map_err(str::to_owned)?;
        CertifiedKey::from_der(chain, key, &self.provider).map(Arc::new).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::Time;
    use crate::gate::peer::{TrustSet, Use};
    use crate::gate::policy::Stranger;
    use crate::wire::certificate::Chain;
    use rcgen::{BasicConstraints, IsCa};

    fn mint(policy: Table) -> (Mint, TrustSet) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "inside CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let certificate = params.self_signed(&key).unwrap().der().clone();
        let trust = TrustSet::new(std::slice::from_ref(&certificate), &[]).unwrap();
        let authority = Authority { chain: vec![certificate], issuer: Arc::new(Issuer::new(params, key)) };
        (Mint::new(Arc::new(authority), Arc::new(policy), crate::io::tls::provider()).unwrap(), trust)
    }

    fn open() -> Table {
        let stranger = Stranger { allow: Vec::new(), limits: crate::gate::partner::Budget::default() };
        Table {
            stranger: Some(stranger),
            local_domains: vec![Domain::parse("corp.example").unwrap()],
            ..Table::default()
        }
    }

    #[test]
    fn a_leaf_leads_to_the_authority_and_names_the_domain() {
        let (mint, trust) = mint(open());
        let domain = Domain::parse("münchen.example").unwrap();
        let leaf = mint.leaf(&domain).unwrap();
        let chain = Chain::parse(leaf.cert.clone()).unwrap();
        let now = Time::default() + SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        trust.verify(&chain, Use::Any, now).unwrap();
        trust.verify(&chain, Use::Client, now).unwrap();
        assert_eq!(chain.names.dns, ["xn--mnchen-3ya.example"]);
        assert!(chain.names.xmpp.is_empty());
        assert!(Time::from_unix_seconds(chain.not_after).since(now) <= LASTS);
        assert!(Arc::ptr_eq(&leaf, &mint.leaf(&domain).unwrap()), "kept");
        mint.leaves.lock().unwrap().get_mut(&domain).unwrap().renew_at = SystemTime::now() - Duration::from_secs(1);
        assert!(!Arc::ptr_eq(&leaf, &mint.leaf(&domain).unwrap()), "renewed");
    }

    #[test]
    fn nobody_gets_ours_or_that_of_a_domain_that_is_no_partner() {
        let (mint, _) = mint(open());
        assert!(mint.leaf(&Domain::parse("corp.example").unwrap()).is_none());
        let (mint, _) = self::mint(Table::default());
        assert!(mint.leaf(&Domain::parse("unknown.example").unwrap()).is_none());
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let (mint, _) = mint(open());
        for number in 0..KEPT + 10 {
            mint.leaf(&Domain::parse(&format!("d{number}.example")).unwrap()).unwrap();
        }
        assert_eq!(mint.leaves.lock().unwrap().len(), KEPT);
    }
}
