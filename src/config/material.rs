//! Certificates, keys, trust and secrets: read, checked against each other and against what the configuration says of them.

use crate::config::document::{Place, Value};
use crate::config::files::{Files, words};
use crate::gate::partner::TrustId;
use crate::gate::peer::{TrustSet, TrustSets, Use};
use crate::gate::time::Time;
use crate::wire::address::Domain;
use crate::wire::certificate::Chain;
use crate::wire::revocation::RevocationList;
use rand::RngExt;
use rcgen::{Issuer, KeyPair};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Before the end of a certificate, `check` and the log begin to warn.
pub const EXPIRES_SOON: Duration = Duration::from_secs(30 * 24 * 3600);

/// The shortest secret that dialback keys may derive from.
const SHORTEST_SECRET: usize = 16;

/// An identity's certificate and key.
#[derive(Clone, Debug)]
pub struct Material {
    /// As rustls wants it, key checked against the certificate.
    pub certified: Arc<CertifiedKey>,
    /// Its names and end of validity.
    pub chain: Chain,
}

/// An authority of ours: `[inside] issuer`.
#[derive(Clone, Debug)]
pub struct Authority {
    /// Its certificate first, then those above it.
    pub chain: Vec<CertificateDer<'static>>,
    /// Signs with its key.
    pub issuer: Arc<Issuer<'static, KeyPair>>,
}

/// Reads `{ certificate = …, key = … }` of an authority, and checks that the two belong together and that what they sign counts now.
pub fn authority(files: &Files, value: &Value<'_>, now: Time) -> Option<Authority> {
    const MEND: &str = "write { certificate = \"certs/inside-ca.pem\", key = \"certs/inside-ca.key\" }";
    let mut section = value.section("inside.issuer");
    let (certificate, key) = (section.demand("certificate", MEND), section.demand("key", MEND));
    section.finish();
    let (certificate, key) = (certificate?, key?);
    let (chain, signing) = (certificates(files, &certificate), signing_key(files, &key));
    let (chain, signing) = (chain?, signing?);
    if CertifiedKey::new(chain.clone(), signing).keys_match().is_err() {
        let mend = "name the key that the certificate was made for";
        key.place().error("this key does not belong to the certificate", mend);
        return None;
    }
    check_validity(certificate.place(), &Chain::parse(chain.clone()).ok()?, now);
    let place = certificate.place();
    let pem = String::from_utf8(read(files, &key)?).unwrap_or_default();
    let issuer = KeyPair::from_pem(&pem)
        .and_then(|pair| Issuer::from_ca_cert_der(chain.first().ok_or(rcgen::Error::CouldNotParseCertificate)?, pair));
    let issuer = match issuer {
        Ok(issuer) => issuer,
        Err(error) => {
            key.place().error(format!("can't be signed with: {error}"), "name a key in PKCS #8 (BEGIN PRIVATE KEY)");
            return None;
        }
    };
    match try_out(&chain, &issuer, now) {
        Ok(()) => Some(Authority { chain, issuer: Arc::new(issuer) }),
        Err(error) => {
            let mend = "have a CA certificate made for this: basicConstraints CA:TRUE, keyUsage keyCertSign, no name constraints";
            place.error(format!("what it signs does not count: {error}"), mend);
            None
        }
    }
}

/// Signs a certificate and validates it, as a node will.
fn try_out(chain: &[CertificateDer<'static>], issuer: &Issuer<'static, KeyPair>, now: Time) -> Result<(), String> {
    let words = |error: rcgen::Error| error.to_string();
    let own = chain.first().ok_or("there is no certificate")?;
    let (_, certificate) = X509Certificate::from_der(own.as_ref()).map_err(|error| error.to_string())?;
    // As an anchor it would be believed whatever it says of itself; nodes may know what is above it only.
    if !certificate.is_ca() {
        return Err("it is no CA certificate (basicConstraints)".to_owned());
    }
    if certificate.key_usage().is_ok_and(|usage| usage.is_some_and(|usage| !usage.value.key_cert_sign())) {
        return Err("its keyUsage does not allow signing certificates".to_owned());
    }
    let mut kinds = BTreeSet::new();
    if let Some(twice) =
        certificate.subject().iter_attributes().find(|part| !kinds.insert(part.attr_type().to_id_string()))
    {
        let oid = twice.attr_type();
        return Err(format!(
            "its subject has an attribute twice ({oid}), and can't be named by what it signs; leave one, like CN alone"
        ));
    }
    let mut params = rcgen::CertificateParams::new(vec!["partner.example".to_owned()]).map_err(words)?;
    let seconds = now.since(Time::default());
    let at = |offset: i64| {
        let seconds = i64::try_from(seconds.as_secs()).unwrap_or(i64::MAX).saturating_add(offset);
        jiff::Timestamp::from_second(seconds).map(std::time::SystemTime::from).map_err(|error| error.to_string())
    };
    (params.not_before, params.not_after) = (at(-60)?.into(), at(60)?.into());
    let key = KeyPair::generate().map_err(words)?;
    let leaf = params.signed_by(&key, issuer).map_err(words)?;
    let leaf = Chain::parse(vec![leaf.der().clone()]).map_err(|error| error.to_string())?;
    let trust = TrustSet::new(std::slice::from_ref(own), &[])?;
    trust.verify(&leaf, Use::Any, now).map_err(|why| why.to_string())
}

/// Reads certificate and key, and checks that they belong together, are valid now and name `hostname`.
pub fn identity(
    files: &Files,
    certificate: Option<&Value<'_>>,
    key: Option<&Value<'_>>,
    hostname: Option<&Domain>,
    now: Time,
) -> Option<Material> {
    let chain = certificate.and_then(|value| certificates(files, value));
    let signing = key.and_then(|value| signing_key(files, value));
    let (certificate, key) = (certificate?, key?);
    let (der, signing) = (chain?, signing?);
    let certified = CertifiedKey::new(der.clone(), signing);
    if certified.keys_match().is_err() {
        key.place()
            .error("this key does not belong to the certificate", "name the key that the certificate was made for");
    }
    let place = certificate.place();
    let chain = match Chain::parse(der) {
        Ok(chain) => chain,
        Err(error) => {
            place.error(error.to_string(), "name a PEM file with the certificate first, then its intermediates");
            return None;
        }
    };
    check_validity(place, &chain, now);
    if let Some(hostname) = hostname {
        check_name(place, &chain, hostname);
    }
    Some(Material { certified: Arc::new(certified), chain })
}

fn check_validity(place: &Place<'_>, chain: &Chain, now: Time) {
    let end = Time::from_unix_seconds(chain.not_after);
    let day = date(chain.not_after);
    if end <= now {
        place.error(format!("the certificate expired on {day}"), "have a new one issued");
    } else if end.since(now) < EXPIRES_SOON {
        place.warn(format!("the certificate expires on {day}"), "have a new one issued in time");
    }
}

/// RFC 5922 §7.1: no wildcards in SIP; the CN counts only where there is no SAN.
fn check_name(place: &Place<'_>, chain: &Chain, hostname: &Domain) {
    let names = &chain.names;
    let named = |name: &str| name.eq_ignore_ascii_case(hostname.as_str());
    let by_common_name = !names.has_san && names.common_name.as_deref().is_some_and(named);
    if names.dns.iter().any(|name| named(name)) || by_common_name {
        return;
    }
    let carried = match (names.dns.as_slice(), &names.common_name) {
        ([], Some(name)) if !names.has_san => name.clone(),
        ([], _) => "no DNS name".to_owned(),
        (dns, _) => dns.join(", "),
    };
    let wildcard = hostname.parent().map(|parent| format!("*.{parent}"));
    let what = format!("the certificate does not name {hostname}, but {carried}");
    let mend = match wildcard {
        Some(wildcard) if names.dns.contains(&wildcard) => {
            format!("have {hostname} put into it: SIP partners take no wildcards (RFC 5922 §7.2)")
        }
        _ => format!("have a certificate with the DNS name {hostname} issued, or set hostname to one of its names"),
    };
    place.error(what, mend);
}

/// A day, as people write it.
pub fn date(unix_seconds: u64) -> String {
    i64::try_from(unix_seconds)
        .ok()
        .and_then(|seconds| jiff::Timestamp::from_second(seconds).ok())
        .map_or_else(|| "a day beyond the calendar".to_owned(), |time| time.strftime("%Y-%m-%d").to_string())
}

fn read(files: &Files, value: &Value<'_>) -> Option<Vec<u8>> {
    let path = files.resolve(value.text()?);
    match files.read(&path) {
        Ok(bytes) => Some(bytes),
        Err(error) => {
            value.place().error(format!("{} {error}", path.display()), "name a file that the edge may read");
            None
        }
    }
}

fn certificates(files: &Files, value: &Value<'_>) -> Option<Vec<CertificateDer<'static>>> {
    let pem = read(files, value)?;
    let parsed: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match parsed {
        Ok(certificates) if !certificates.is_empty() => Some(certificates),
        Ok(_) => {
            value.place().error("holds no certificate", "name a PEM file with BEGIN CERTIFICATE");
            None
        }
        Err(error) => {
            value.place().error(format!("is not PEM: {error}"), "name a PEM file with BEGIN CERTIFICATE");
            None
        }
    }
}

fn signing_key(files: &Files, value: &Value<'_>) -> Option<Arc<dyn rustls::sign::SigningKey>> {
    let pem = read(files, value)?;
    let mend = "name a PEM file with BEGIN PRIVATE KEY (RSA, ECDSA or Ed25519, without passphrase)";
    let key = match PrivateKeyDer::from_pem_slice(&pem) {
        Ok(key) => key,
        Err(_) => {
            value.place().error("holds no private key", mend);
            return None;
        }
    };
    match rustls::crypto::aws_lc_rs::default_provider().key_provider.load_private_key(key) {
        Ok(key) => Some(key),
        Err(error) => {
            value.place().error(format!("is no usable key: {error}"), mend);
            None
        }
    }
}

/// The trust sets, each list of files once.
#[derive(Debug, Default)]
pub struct TrustLists {
    sets: Vec<TrustSet>,
    by_list: BTreeMap<Vec<String>, TrustId>,
    crls: Vec<Vec<u8>>,
}

impl TrustLists {
    /// With the revocation lists that count for every set.
    pub fn new(files: &Files, revocation: Option<&Value<'_>>, now: Time) -> Self {
        let crls = revocation.map(|value| revocation_lists(files, value, now)).unwrap_or_default();
        Self { crls, ..Self::default() }
    }

    /// The set of a `trust` value: a list of PEM files and `"system"`, or one of them. Without a value, a set that trusts nobody.
    pub fn set(&mut self, files: &Files, value: Option<&Value<'_>>) -> TrustId {
        let items = match value {
            Some(value) if value.is_text() => vec![value.clone()],
            Some(value) => value.list(),
            None => Vec::new(),
        };
        let mut list: Vec<String> = items.iter().filter_map(|item| item.text().map(str::to_owned)).collect();
        list.sort();
        list.dedup();
        if let Some(id) = self.by_list.get(&list) {
            return *id;
        }
        let anchors: Vec<CertificateDer<'static>> =
            items.iter().filter_map(|item| anchors(files, item)).flatten().collect();
        let set = match TrustSet::new(&anchors, &self.crls) {
            Ok(set) => set,
            Err(error) => {
                if let Some(value) = value {
                    value.place().error(error, "name PEM files with CA certificates");
                }
                // Keeps the numbering; the error above keeps the edge from starting.
                TrustSet::new(&[], &[]).unwrap_or_else(|_| unreachable!("an empty trust set is well-formed"))
            }
        };
        let id = TrustId(u32::try_from(self.sets.len()).unwrap_or(u32::MAX));
        self.sets.push(set);
        self.by_list.insert(list, id);
        id
    }

    /// A partner's own set, or [`TrustId`] 0.
    pub fn set_or_default(&mut self, files: &Files, value: Option<&Value<'_>>) -> TrustId {
        match value {
            Some(value) => self.set(files, Some(value)),
            None => TrustId(0),
        }
    }

    /// The set of `[inside] trust`, which no partner's entry can name: PEM files only, since public authorities know nothing of the inside.
    pub fn inside(&self, files: &Files, value: Option<&Value<'_>>) -> TrustSet {
        let items = value.map(Value::list).unwrap_or_default();
        let anchors: Vec<_> = items.iter().filter_map(|item| certificates(files, item)).flatten().collect();
        TrustSet::new(&anchors, &self.crls).unwrap_or_else(|error| {
            if let Some(value) = value {
                value.place().error(error, "name PEM files with CA certificates");
            }
            TrustSet::default()
        })
    }

    /// All sets, in the order of their [`TrustId`].
    pub fn into_sets(self) -> TrustSets {
        TrustSets::new(self.sets)
    }
}

fn anchors(files: &Files, value: &Value<'_>) -> Option<Vec<CertificateDer<'static>>> {
    if value.text()? != "system" {
        return certificates(files, value);
    }
    let found = rustls_native_certs::load_native_certs();
    if found.certs.is_empty() {
        let errors: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
        value.place().error(
            format!("the system has no CA certificates {}", errors.join(", ")).trim_end().to_owned(),
            "install the package ca-certificates, or name PEM files",
        );
    }
    Some(found.certs)
}

/// Every list of these files, the newest first: of one authority's lists, the first is asked.
fn revocation_lists(files: &Files, value: &Value<'_>, now: Time) -> Vec<Vec<u8>> {
    let mut lists = value.list_of(|item| revocation_file(files, item, now)).concat();
    lists.sort_by_key(|(made, _)| std::cmp::Reverse(*made));
    lists.into_iter().map(|(_, der)| der).collect()
}

fn revocation_file(files: &Files, value: &Value<'_>, now: Time) -> Option<Vec<(u64, Vec<u8>)>> {
    let mend = "name a CRL in DER, or in PEM with BEGIN X509 CRL";
    let bytes = read(files, value)?;
    let lists: Vec<Vec<u8>> = if bytes.starts_with(b"-----BEGIN") {
        let parsed: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(&bytes).collect();
        parsed.unwrap_or_default().iter().map(|list| list.as_ref().to_vec()).collect()
    } else {
        vec![bytes]
    };
    if lists.is_empty() {
        value.place().error("holds no revocation list", mend);
    }
    lists
        .into_iter()
        .map(|der| {
            let list = RevocationList::parse(&der).map_err(|error| error.to_string());
            // What can be read is not yet what can be judged by: delta lists, say, can't.
            let usable = list.and_then(|list| TrustSet::new(&[], std::slice::from_ref(&der)).map(|_| list));
            let list = usable.map_err(|error| value.place().error(error, mend)).ok()?;
            if let Some(end) = list.next_update.filter(|end| Time::from_unix_seconds(*end) <= now) {
                let what = format!(
                    "the revocation list of {} was due for renewal on {}: what it names is refused still, but what was revoked since is not known",
                    list.issuer,
                    date(end)
                );
                value.place().warn(what, "fetch the authority's present list, and reload");
            }
            Some((list.this_update, der))
        })
        .collect()
}

/// A secret as written: `env:NAME`, `file:PATH`, or the text itself. `make`: an absent file of the current secret is made now; else it
/// is only told that it will be.
pub fn secret(files: &Files, value: &Value<'_>, make: bool, current: bool) -> Option<Vec<u8>> {
    read_secret(files, value.place(), value.text()?, make, current)
}

/// The secret of a configuration that names none.
pub fn default_secret(files: &Files, place: &Place<'_>, make: bool) -> Option<Vec<u8>> {
    read_secret(files, place, "file:state/secret", make, true)
}

fn read_secret(files: &Files, place: &Place<'_>, text: &str, make: bool, current: bool) -> Option<Vec<u8>> {
    if let Some(path) = text.strip_prefix("file:") {
        let path = files.resolve(path);
        if current && !path.exists() {
            if !make {
                place.note(format!("{} does not exist yet", path.display()), "it is made at the first start");
                return Some(Vec::new());
            }
            match make_secret(&path) {
                Ok(secret) => return Some(secret),
                // Another edge of the cluster was faster.
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => {
                    let mend = "let the edge write there, or make the file";
                    place.error(format!("{} can't be made: {}", path.display(), words(&error)), mend);
                    return None;
                }
            }
        }
    }
    let secret = written_secret(files, place, text)?;
    if secret.len() < SHORTEST_SECRET {
        let mend = format!("use {SHORTEST_SECRET} random characters or more, e.g. from `openssl rand -hex 32`");
        place.error("the secret is too short to keep dialback keys safe", mend);
        return None;
    }
    Some(secret)
}

/// What `env:NAME`, `file:PATH` or the text itself comes to.
pub fn written_secret(files: &Files, place: &Place<'_>, text: &str) -> Option<Vec<u8>> {
    if let Some(name) = text.strip_prefix("env:") {
        let value = std::env::var(name).ok();
        if value.is_none() {
            place.error(format!("the environment has no {name}"), "set it where fedgate is started");
        }
        return value.map(String::into_bytes);
    }
    let Some(path) = text.strip_prefix("file:") else { return Some(text.as_bytes().to_vec()) };
    let path = files.resolve(path);
    match files.read(&path) {
        Ok(bytes) => Some(bytes.trim_ascii().to_vec()),
        Err(error) => {
            place.error(format!("{} {error}", path.display()), "name a file that the edge may read");
            None
        }
    }
}

/// 256 random bits in hex, readable by the owner only.
fn make_secret(path: &Path) -> std::io::Result<Vec<u8>> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        // The state store's too, as a rule: nobody else's to read.
        let mut builder = std::fs::DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.recursive(true).create(folder)?;
    }
    let bits: [u8; 32] = rand::rng().random();
    let text: String = bits.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(text.as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    Ok(text.into_bytes())
}
