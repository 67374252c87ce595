//! TLS as a source of facts: our verifiers check signatures and (for SIP) that a chain leads to some trust at all; `gate::peer` judges
//! names and the partner's own trust for every connection, resumed ones too, from the chain that the session carries.
//!
//! TLS 1.2 and 1.3 only, aws-lc-rs named explicitly, no early data.

use super::issuer::Mint;
use super::settings::{Identity, Settings};
use crate::gate::Time;
use crate::gate::partner::TrustId;
use crate::gate::peer::{TrustSet, TrustSets, Untrusted, Use};
use crate::wire::address::Domain;
use crate::wire::certificate::Chain;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{
    ClientHello, NoServerSessionStorage, ResolvesServerCert, ServerSessionMemoryCache, StoresServerSessions,
};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    CertificateError, ClientConfig, CommonState, DigitallySignedStruct, DistinguishedName, Error, ServerConfig,
    SignatureScheme, SupportedProtocolVersion,
};
use std::sync::{Arc, OnceLock};

/// ALPN of XMPP server-to-server streams over direct TLS (XEP-0368 §3).
const ALPN_XMPP: &[u8] = b"xmpp-server";
static TLS13_ONLY: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];
/// TLS sessions of SIP partners kept for resumption.
const SESSIONS: usize = 1_024;

/// All TLS configurations of one version of the settings.
#[derive(Debug)]
pub struct Tls {
    provider: Arc<CryptoProvider>,
    versions: &'static [&'static SupportedProtocolVersion],
    identities: Arc<[Identity]>,
    trust: Arc<TrustSets>,
    inside_trust: Arc<TrustSet>,
    sip_sessions: Arc<dyn StoresServerSessions>,
    /// For accepted streams; by the identity that is shown to who asks for none.
    streams: Vec<Arc<ServerConfig>>,
    direct: Arc<ServerConfig>,
    /// For streams that we open; by identity.
    opened: Vec<Opened>,
    mint: Option<Arc<Mint>>,
}

/// Of one identity, after STARTTLS and from the first byte. Shared by all streams: thousands may be open.
#[derive(Debug)]
struct Opened {
    starttls: Arc<ClientConfig>,
    direct: Arc<ClientConfig>,
}

/// What a verifier refused in one handshake, in words: the error that rustls returns carries only the alert.
#[derive(Clone, Debug, Default)]
pub struct Refusal(Arc<OnceLock<String>>);

impl Refusal {
    /// The words, if the handshake failed for our verifier's reasons.
    pub fn take(&self) -> Option<String> {
        self.0.get().cloned()
    }
}

impl Tls {
    /// Builds all of them.
    pub fn build(settings: &Settings) -> Result<Self, String> {
        let provider = provider();
        let versions = if settings.tls13_only { TLS13_ONLY } else { rustls::DEFAULT_VERSIONS };
        if settings.identities.is_empty() {
            return Err("no identity: TLS needs at least one certificate".to_owned());
        }
        let mint = |authority| Mint::new(Arc::clone(authority), Arc::clone(&settings.policy), Arc::clone(&provider));
        let mut tls = Self {
            identities: settings.identities.clone().into(),
            trust: Arc::clone(&settings.trust),
            inside_trust: Arc::clone(&settings.inside_trust),
            sip_sessions: ServerSessionMemoryCache::new(SESSIONS),
            streams: Vec::new(),
            direct: Arc::new(Self::stream_server(versions, &provider, settings, 0)?),
            opened: Vec::new(),
            mint: settings.issuer.as_ref().map(mint).transpose()?.map(Arc::new),
            versions,
            provider,
        };
        if let Some(direct) = Arc::get_mut(&mut tls.direct) {
            direct.alpn_protocols = vec![ALPN_XMPP.to_vec()];
        }
        for index in 0..tls.identities.len() {
            let server = Self::stream_server(versions, &tls.provider, settings, index)?;
            tls.streams.push(Arc::new(server));
            let starttls = tls.client(index, Authorities::Any, &Refusal::default())?;
            let mut direct = starttls.clone();
            direct.alpn_protocols = vec![ALPN_XMPP.to_vec()];
            tls.opened.push(Opened { starttls: Arc::new(starttls), direct: Arc::new(direct) });
        }
        tls.outside_sip()?;
        Ok(tls)
    }

    /// Any certificate or none; facts only.
    fn stream_server(
        versions: &[&'static SupportedProtocolVersion],
        provider: &Arc<CryptoProvider>,
        settings: &Settings,
        otherwise: usize,
    ) -> Result<ServerConfig, String> {
        let certificates = Certificates { identities: settings.identities.clone().into(), otherwise };
        let certificates = Arc::new(certificates) as Arc<dyn ResolvesServerCert>;
        let mut config = server(provider, versions, &settings.trust, certificates, Demand::Ask, &Refusal::default())?;
        // Streams live long, and thousands may be open: what resumption would keep of each is worth more than a handshake.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(config)
    }

    /// For connections accepted on `[outside] sip`: a certificate that leads to some trust is required (RFC 5922 §7.4).
    ///
    /// Built for one connection, so that the refusal is that connection's; the sessions are shared by all of them and by nobody else, so
    /// that no session made without a trusted certificate can be resumed here.
    pub fn outside_sip(&self) -> Result<(Arc<ServerConfig>, Refusal), String> {
        let refusal = Refusal::default();
        let certificates = Arc::new(Certificates { identities: Arc::clone(&self.identities), otherwise: 0 });
        let mut config = server(&self.provider, self.versions, &self.trust, certificates, Demand::Trusted, &refusal)?;
        config.session_storage = Arc::clone(&self.sip_sessions);
        // One to come back with: links live long.
        config.send_tls13_tickets = 1;
        Ok((Arc::new(config), refusal))
    }

    /// For XMPP streams accepted outside, after STARTTLS, and for SIP nodes: any certificate or none; facts only. Shows the identity that SNI
    /// asks for, else that of `of`, a domain of ours, else the first.
    pub fn streams(&self, of: Option<&Domain>) -> Arc<ServerConfig> {
        let own = of.and_then(|of| self.identities.iter().position(|identity| identity.domains.contains(of)));
        Arc::clone(self.streams.get(own.unwrap_or(0)).unwrap_or(&self.direct))
    }

    /// For XMPP streams of nodes, after STARTTLS: as [`streams`](Self::streams), but with `[inside] issuer` the certificate of the partner's domain
    /// that SNI asks for, else of `of`.
    pub fn inside_streams(&self, of: Option<&Domain>) -> Arc<ServerConfig> {
        let config = self.streams(of);
        let Some(mint) = &self.mint else { return config };
        let mut config = (*config).clone();
        let otherwise = Arc::clone(&config.cert_resolver);
        config.cert_resolver = Arc::new(Issued { mint: Arc::clone(mint), of: of.cloned(), otherwise });
        Arc::new(config)
    }

    /// For XMPP over direct TLS (XEP-0368).
    pub fn direct(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.direct)
    }

    /// For a connection to a SIP partner: shows the identity's certificate; the partner's chain must lead to `trust` (or the common one).
    pub fn to_sip_partner(&self, identity: usize, trust: TrustId) -> Result<(Arc<ClientConfig>, Refusal), String> {
        let refusal = Refusal::default();
        let config = self.client(identity, Authorities::Partners(Arc::clone(&self.trust), trust), &refusal)?;
        Ok((Arc::new(config), refusal))
    }

    /// For a connection to a SIP node: shows the default identity's certificate, if asked; the node's chain must lead to `[inside] trust`.
    pub fn to_sip_node(&self) -> Result<(Arc<ClientConfig>, Refusal), String> {
        let refusal = Refusal::default();
        let config = self.client(0, Authorities::Inside(Arc::clone(&self.inside_trust)), &refusal)?;
        Ok((Arc::new(config), refusal))
    }

    /// For an XMPP stream that we open to a partner: shows the identity's certificate, takes any: stream negotiation judges. Direct TLS says by
    /// ALPN what it is (XEP-0368 §3).
    pub fn to_xmpp_partner(&self, identity: usize, direct: bool) -> Result<Arc<ClientConfig>, String> {
        let opened = self.opened.get(identity).or_else(|| self.opened.first()).ok_or("no identity")?;
        Ok(Arc::clone(if direct { &opened.direct } else { &opened.starttls }))
    }

    /// For an XMPP stream that we open to a node in the name of `domain`, a partner's: with `[inside] issuer` shows a certificate of that domain,
    /// else the first identity's; takes any.
    pub fn to_xmpp_node(&self, domain: &Domain) -> Result<Arc<ClientConfig>, String> {
        let config = self.to_xmpp_partner(0, false)?;
        let Some(leaf) = self.mint.as_ref().and_then(|mint| mint.leaf(domain)) else { return Ok(config) };
        let mut config = (*config).clone();
        config.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from((*leaf).clone()));
        Ok(Arc::new(config))
    }

    fn client(&self, identity: usize, trust: Authorities, refusal: &Refusal) -> Result<ClientConfig, String> {
        let identity = self.identities.get(identity).or_else(|| self.identities.first()).ok_or("no identity")?;
        let verifier = Arc::new(ServerFacts {
            algorithms: self.provider.signature_verification_algorithms,
            trust,
            refusal: refusal.clone(),
        });
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(self.versions)
            .map_err(|error| error.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_client_cert_resolver(Arc::new(SingleCertAndKey::from((*identity.key).clone())));
        // Links live long: a full handshake each time costs little and always shows the partner's present certificate.
        config.resumption = Resumption::disabled();
        Ok(config)
    }
}

fn server(
    provider: &Arc<CryptoProvider>,
    versions: &[&'static SupportedProtocolVersion],
    trust: &Arc<TrustSets>,
    certificates: Arc<dyn ResolvesServerCert>,
    demand: Demand,
    refusal: &Refusal,
) -> Result<ServerConfig, String> {
    let verifier = Arc::new(ClientFacts {
        algorithms: provider.signature_verification_algorithms,
        trust: Arc::clone(trust),
        demand,
        refusal: refusal.clone(),
    });
    Ok(ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(versions)
        .map_err(|error| error.to_string())?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(certificates))
}

/// The crypto provider, by name: a process default would depend on what else is linked.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// The peer's chain as facts. Sessions carry it over resumption, so it is there on every connection whose peer ever showed one.
pub fn facts(connection: &CommonState) -> Option<Arc<Chain>> {
    let der = connection.peer_certificates()?.iter().map(|der| der.clone().into_owned()).collect();
    Chain::parse(der).ok().map(Arc::new)
}

/// Certificate by SNI (an identity's hostname, else one of its domains), else that of an identity.
#[derive(Debug)]
struct Certificates {
    identities: Arc<[Identity]>,
    otherwise: usize,
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let asked = hello.server_name().and_then(|name| {
            let is_host = |identity: &&Identity| identity.hostname.eq_ignore_ascii_case(name);
            let is_domain =
                |identity: &&Identity| identity.domains.iter().any(|own| own.as_str().eq_ignore_ascii_case(name));
            self.identities.iter().find(is_host).or_else(|| self.identities.iter().find(is_domain))
        });
        let otherwise = || self.identities.get(self.otherwise).or_else(|| self.identities.first());
        asked.or_else(otherwise).map(|identity| Arc::clone(&identity.key))
    }
}

/// In the name of a partner's domain, by SNI, else by what the stream's header said.
#[derive(Debug)]
struct Issued {
    mint: Arc<Mint>,
    of: Option<Domain>,
    otherwise: Arc<dyn ResolvesServerCert>,
}

impl ResolvesServerCert for Issued {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let asked = hello.server_name().and_then(|name| self.mint.leaf(&Domain::parse(name).ok()?));
        let said = || self.of.as_ref().and_then(|of| self.mint.leaf(of));
        asked.or_else(said).or_else(|| self.otherwise.resolve(hello))
    }
}

/// What is demanded of a client's certificate in the handshake itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Demand {
    /// Required, and its path must lead to one of the trust sets.
    Trusted,
    /// Asked for; anything goes.
    Ask,
}

#[derive(Debug)]
struct ClientFacts {
    algorithms: WebPkiSupportedAlgorithms,
    trust: Arc<TrustSets>,
    demand: Demand,
    refusal: Refusal,
}

impl ClientCertVerifier for ClientFacts {
    fn client_auth_mandatory(&self) -> bool {
        self.demand == Demand::Trusted
    }

    /// No hints: whom we trust is nobody's business, and old peers choose wrongly by them.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if self.demand == Demand::Trusted {
            let chain = read(leaf, intermediates)?;
            let time = Time::from_unix_seconds(now.as_secs());
            // Which partner it is nobody knows yet: any trust will do here, the partner's own is judged with its first message. The refusal
            // that says most wins: an expired certificate of a known authority over an unknown authority.
            let mut worst = Untrusted::UnknownIssuer(chain.root_issuer());
            for set in self.trust.iter() {
                match set.verify(&chain, Use::Any, time) {
                    Ok(()) => return Ok(ClientCertVerified::assertion()),
                    Err(Untrusted::UnknownIssuer(_)) => {}
                    Err(other) => worst = other,
                }
            }
            return Err(self.refusal.refuse(&chain, &worst));
        }
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Whom the chain of a server must lead to.
#[derive(Clone, Debug)]
enum Authorities {
    /// Nobody: facts only.
    Any,
    /// The set of a partner's entry.
    Partners(Arc<TrustSets>, TrustId),
    /// `[inside] trust`.
    Inside(Arc<TrustSet>),
}

#[derive(Debug)]
struct ServerFacts {
    algorithms: WebPkiSupportedAlgorithms,
    trust: Authorities,
    refusal: Refusal,
}

impl ServerCertVerifier for ServerFacts {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let (set, key) = match &self.trust {
            Authorities::Any => return Ok(ServerCertVerified::assertion()),
            Authorities::Partners(sets, id) => (sets.get(*id), "[tls] trust"),
            Authorities::Inside(set) => (Some(&**set).filter(|set| !set.is_empty()), "[inside] trust"),
        };
        let chain = read(leaf, intermediates)?;
        let time = Time::from_unix_seconds(now.as_secs());
        let verdict = match set {
            Some(set) => set.verify(&chain, Use::Any, time),
            None => Err(Untrusted::Other(format!("no authority is trusted here: {key} is empty"))),
        };
        verdict.map_err(|why| self.refusal.refuse(&chain, &why))?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl Refusal {
    /// Keeps the words and gives the alert.
    fn refuse(&self, chain: &Chain, why: &Untrusted) -> Error {
        let fingerprint = chain.fingerprint.get(..16).unwrap_or_default();
        let _ = self
            .0
            .set(format!("the peer's certificate ({}; sha256 {fingerprint}…) does not count: {why}", chain.names));
        Error::InvalidCertificate(match why {
            Untrusted::UnknownIssuer(_) => CertificateError::UnknownIssuer,
            Untrusted::Expired => CertificateError::Expired,
            Untrusted::NotYetValid => CertificateError::NotValidYet,
            Untrusted::Revoked => CertificateError::Revoked,
            Untrusted::Usage => CertificateError::InvalidPurpose,
            Untrusted::Other(_) => CertificateError::ApplicationVerificationFailure,
        })
    }
}

fn read(leaf: &CertificateDer<'_>, intermediates: &[CertificateDer<'_>]) -> Result<Chain, Error> {
    let der = std::iter::once(leaf).chain(intermediates).map(|der| der.clone().into_owned()).collect();
    Chain::parse(der).map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))
}
