//! X.509 certificates as facts: which names they carry, until when, for what use. Judging them is `gate::peer`'s.

use crate::wire::address::Domain;
use rustls_pki_types::CertificateDer;
use std::fmt;
use x509_parser::asn1_rs::{Any, FromDer as _, Oid, Tag, oid};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension, X509Extension};

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

/// id-on-xmppAddr (RFC 6120 §13.7.1.4).
const XMPP_ADDR: Oid<'static> = oid!(1.3.6.1.5.5.7.8.5);
/// id-on-dnsSRV (RFC 4985 §2).
const DNS_SRV: Oid<'static> = oid!(1.3.6.1.5.5.7.8.7);
/// id-kp-sipDomain (RFC 5924 §3).
const SIP_DOMAIN: Oid<'static> = oid!(1.3.6.1.5.5.7.3.20);
/// Names of one certificate that are read; the rest of a longer list is left out, so that judging is bounded.
pub const NAMES_MAX: usize = 512;

impl Chain {
    /// Reads the leaf; `der` is leaf first and not empty.
    pub fn parse(der: Vec<CertificateDer<'static>>) -> Result<Self, NotACertificate> {
        let leaf = der.first().ok_or_else(|| NotACertificate("the chain is empty".into()))?;
        let (rest, certificate) =
            X509Certificate::from_der(leaf.as_ref()).map_err(|error| NotACertificate(error.to_string()))?;
        if !rest.is_empty() {
            return Err(NotACertificate("bytes after its end".into()));
        }
        let names = Names::read(&certificate)?;
        let usage = Usage::read(&certificate)?;
        let not_after = u64::try_from(certificate.validity().not_after.timestamp()).unwrap_or(0);
        let fingerprint = hex(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, leaf.as_ref()).as_ref());
        Ok(Self { names, not_after, fingerprint, usage, der })
    }

    /// Who issued the last certificate that the peer sent: the authority a path would have to lead to.
    pub fn root_issuer(&self) -> String {
        let last = self.der.last().map(AsRef::as_ref).unwrap_or_default();
        match X509Certificate::from_der(last) {
            Ok((_, certificate)) => certificate.issuer().to_string(),
            Err(_) => "unreadable".into(),
        }
    }
}

impl Chain {
    /// Of each certificate that can be read: who issued it, by name (DER) and with which key, if it says so (RFC 5280 §4.2.1.1).
    pub fn issuers(&self) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
        let read = |der: &CertificateDer<'_>| {
            let (_, certificate) = X509Certificate::from_der(der).ok()?;
            Some((certificate.issuer().as_raw().to_vec(), key_identifier(certificate.extensions())))
        };
        self.der.iter().filter_map(read).collect()
    }
}

/// The authorityKeyIdentifier among extensions.
pub(super) fn key_identifier(extensions: &[X509Extension<'_>]) -> Option<Vec<u8>> {
    extensions.iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::AuthorityKeyIdentifier(authority) => Some(authority.key_identifier.as_ref()?.0.to_vec()),
        _ => None,
    })
}

impl Names {
    fn read(certificate: &X509Certificate<'_>) -> Result<Self, NotACertificate> {
        let san = certificate.subject_alternative_name().map_err(|error| NotACertificate(format!("SAN: {error}")))?;
        let mut names = Names {
            has_san: san.is_some(),
            common_name: certificate
                .subject()
                .iter_common_name()
                .last()
                .and_then(|cn| cn.as_str().ok())
                .map(str::to_owned),
            ..Names::default()
        };
        let Some(san) = san else { return Ok(names) };
        for name in san.value.general_names.iter().take(NAMES_MAX) {
            match name {
                GeneralName::DNSName(dns) => names.dns.push(dns.to_ascii_lowercase()),
                GeneralName::URI(uri) => names.sip.extend(sip_identity(uri)),
                GeneralName::OtherName(oid, value) if *oid == XMPP_ADDR => names.xmpp.extend(other_name(value)),
                GeneralName::OtherName(oid, value) if *oid == DNS_SRV => names.srv.extend(other_name(value)),
                _ => {}
            }
        }
        Ok(names)
    }
}

impl Usage {
    fn read(certificate: &X509Certificate<'_>) -> Result<Self, NotACertificate> {
        let eku = certificate.extended_key_usage().map_err(|error| NotACertificate(format!("EKU: {error}")))?;
        Ok(match eku {
            None => Usage { unrestricted: true, ..Usage::default() },
            Some(eku) => Usage {
                // RFC 5280 §4.2.1.12: anyExtendedKeyUsage restricts nothing.
                unrestricted: eku.value.any,
                server: eku.value.server_auth,
                client: eku.value.client_auth,
                sip_domain: eku.value.other.contains(&SIP_DOMAIN),
            },
        })
    }
}

/// The domain of a `sip:` URI without user part (RFC 5922 §7.1 step 1); schemes are case-insensitive.
fn sip_identity(uri: &str) -> Option<Domain> {
    let (scheme, rest) = uri.split_once(':')?;
    if !scheme.eq_ignore_ascii_case("sip") || rest.contains('@') {
        return None;
    }
    let host_port = rest.split([';', '?']).next()?;
    Domain::parse(host_port.split(':').next()?).ok()
}

/// The string inside an otherName's `[0] EXPLICIT` value.
fn other_name(value: &[u8]) -> Option<String> {
    let (_, explicit) = Any::from_der(value).ok()?;
    let (_, inner) = Any::from_der(explicit.data).ok()?;
    // XmppAddr is a UTF8String, SRVName an IA5String; issuers mix the two up.
    if inner.tag() != Tag::Utf8String && inner.tag() != Tag::Ia5String {
        return None;
    }
    std::str::from_utf8(inner.data).ok().map(str::to_owned)
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

impl fmt::Display for Names {
    /// The names as an operator reads them, at most eight.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut all: Vec<String> = self.sip.iter().map(|domain| format!("sip:{domain}")).collect();
        all.extend(self.dns.iter().cloned());
        all.extend(self.xmpp.iter().map(|address| format!("xmppAddr {address}")));
        all.extend(self.srv.iter().map(|name| format!("SRVName {name}")));
        match (&self.common_name, self.has_san) {
            (Some(name), false) => all.push(format!("CN={name}")),
            (Some(name), true) if all.is_empty() => {
                return write!(f, "no usable name (CN={name} does not count beside a SAN)");
            }
            _ => {}
        }
        match all.len() {
            0 => f.write_str("no usable name"),
            n if n > 8 => write!(f, "{} and {} more", all[..8].join(", "), n - 8),
            _ => f.write_str(&all.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, KeyPair, OtherNameValue, SanType};

    fn chain(make: impl FnOnce(&mut CertificateParams)) -> Chain {
        let mut params = CertificateParams::default();
        make(&mut params);
        let key = KeyPair::generate().unwrap();
        Chain::parse(vec![params.self_signed(&key).unwrap().der().clone()]).unwrap()
    }

    #[test]
    fn reads_every_kind_of_name() {
        let chain = chain(|p| {
            p.subject_alt_names = vec![
                SanType::DnsName("SIP.Lync.Example".try_into().unwrap()),
                SanType::DnsName("*.lync.example".try_into().unwrap()),
                SanType::URI("SIP:lync.example".try_into().unwrap()),
                SanType::URI("sip:other.example:5061;transport=tls".try_into().unwrap()),
                SanType::URI("sip:alice@user.example".try_into().unwrap()),
                SanType::URI("https://web.example".try_into().unwrap()),
                SanType::OtherName((
                    vec![1, 3, 6, 1, 5, 5, 7, 8, 5],
                    OtherNameValue::Utf8String("xmpp.example".into()),
                )),
                SanType::OtherName((
                    vec![1, 3, 6, 1, 5, 5, 7, 8, 7],
                    OtherNameValue::Utf8String("_xmpp-server.xmpp.example".into()),
                )),
            ];
            p.distinguished_name.push(rcgen::DnType::CommonName, "cn.example");
            p.extended_key_usages = vec![
                ExtendedKeyUsagePurpose::ServerAuth,
                ExtendedKeyUsagePurpose::Other(vec![1, 3, 6, 1, 5, 5, 7, 3, 20]),
            ];
            p.not_after = rcgen::date_time_ymd(2040, 1, 1);
        });
        assert_eq!(chain.names.dns, ["sip.lync.example", "*.lync.example"]);
        assert_eq!(chain.names.sip.iter().map(Domain::as_str).collect::<Vec<_>>(), ["lync.example", "other.example"]);
        assert_eq!(chain.names.xmpp, ["xmpp.example"]);
        assert_eq!(chain.names.srv, ["_xmpp-server.xmpp.example"]);
        assert!(chain.names.has_san);
        assert_eq!(chain.names.common_name.as_deref(), Some("cn.example"));
        assert_eq!(chain.usage, Usage { unrestricted: false, server: true, client: false, sip_domain: true });
        assert_eq!(chain.not_after, 2_208_988_800);
        assert_eq!(chain.fingerprint.len(), 64);
        assert!(chain.names.to_string().contains("sip:lync.example"));
    }

    #[test]
    fn no_san_and_no_usage_say_so() {
        let chain = chain(|p| p.distinguished_name.push(rcgen::DnType::CommonName, "old.example"));
        assert!(!chain.names.has_san && chain.usage.unrestricted);
        assert!(chain.names.to_string().contains("old.example"));
        assert!(chain.root_issuer().contains("old.example"));
    }

    proptest::proptest! {
        #[test]
        fn hostile_bytes_never_panic(bytes: Vec<u8>) {
            let _ = Chain::parse(vec![CertificateDer::from(bytes)]);
        }
        #[test]
        fn damaged_certificates_never_panic(at in 0usize..600, to: u8) {
            let mut params = CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
            params.subject_alt_names.push(SanType::OtherName((vec![1, 3, 6, 1, 5, 5, 7, 8, 5], OtherNameValue::Utf8String("a".into()))));
            let key = KeyPair::generate().unwrap();
            let mut der = params.self_signed(&key).unwrap().der().to_vec();
            if let Some(byte) = der.get_mut(at) { *byte = to; }
            let _ = Chain::parse(vec![CertificateDer::from(der)]).map(|c| (c.names.to_string(), c.root_issuer()));
        }
    }
}
