//! `fedgate.toml` without its nodes: what the world-touching parts need. Takes the sections, gives [`Edge`].

use crate::config::document::{Place, Section, Value};
use crate::config::material::{self, Authority, Material};
use crate::config::scalar;
use crate::config::{Context, Files};
use crate::gate::limits::Limits;
use crate::gate::partner::{LocalIdentity, Node, Presence, TlsMode};
use crate::wire::address::Domain;
use crate::wire::certificate::Names;
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// What `io` needs of the configuration, resolved.
#[derive(Clone, Debug)]
pub struct Edge {
    /// `[[identity]]`, in order, with what proves them; the first is the default.
    pub identities: Vec<Identity>,
    /// `[tls] minimum`.
    pub tls_minimum: TlsVersion,
    /// `[outside]`.
    pub outside: Outside,
    /// `[inside]`.
    pub inside: Inside,
    /// `[inside] issuer`.
    pub issuer: Option<Authority>,
    /// `[dns]`.
    pub dns: Dns,
    /// `[state]`.
    pub state: State,
    /// `[admin]`.
    pub admin: Admin,
    /// `[log]`.
    pub log: Log,
}

/// A local identity and its certificate.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Names and domains.
    pub local: LocalIdentity,
    /// Certificate and key.
    pub material: Material,
}

/// The least TLS version.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum TlsVersion {
    /// 1.2
    V1_2,
    /// 1.3
    V1_3,
}

/// `[outside]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outside {
    /// SIP over TLS listeners.
    pub sip: Vec<SocketAddr>,
    /// XMPP listeners, STARTTLS. Without a word of them and without anybody who may come over XMPP, none.
    pub xmpp: Vec<SocketAddr>,
    /// XMPP listeners, TLS from the first byte (XEP-0368).
    pub xmpps: Vec<SocketAddr>,
    /// Public addresses, for the DNS advice.
    pub advertise: Vec<IpAddr>,
    /// Load balancers: whose connections begin with a PROXY header.
    pub proxy_protocol_from: Vec<IpNet>,
}

/// `[inside]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Inside {
    /// SIP listeners. Without a word of them and without a SIP node, none.
    pub sip: Vec<SipListener>,
    /// XMPP server-to-server listeners.
    pub xmpp: Vec<SocketAddr>,
    /// Who may connect to them.
    pub networks: Vec<IpNet>,
    /// TLS on them and towards nodes.
    pub tls: TlsMode,
}

/// One of `[inside] sip`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SipListener {
    /// Where.
    pub at: SocketAddr,
    /// `tls:`, not `tcp:`.
    pub tls: bool,
}

/// `[dns]`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Dns {
    /// Resolvers; empty = the system's.
    pub servers: Vec<SocketAddr>,
    /// Static SRV answers by owner name, lower case, without trailing dot.
    pub srv: BTreeMap<String, Vec<Service>>,
    /// Static addresses by host name, lower case, without trailing dot.
    pub hosts: BTreeMap<String, Vec<IpAddr>>,
}

/// A static SRV answer (RFC 2782).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Service {
    /// Host.
    pub target: String,
    /// Port.
    pub port: u16,
    /// Lower first.
    pub priority: u16,
    /// Share among equals.
    pub weight: u16,
}

/// `[state]`: where what is kept is kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum State {
    /// `engine = "memory"`: while the process lives.
    Memory,
    /// `engine = "embedded"`: in a file.
    Embedded {
        /// `path`, as reached from where the program runs.
        path: PathBuf,
    },
}

/// `[admin]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Admin {
    /// Where it listens over TCP; `None` = nowhere.
    pub listen: Option<SocketAddr>,
    /// Its unix socket; `None` = none.
    pub socket: Option<PathBuf>,
    /// What mutations, and reads from elsewhere than loopback, must show; empty = none.
    pub token: String,
}

/// `[log]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Log {
    /// How lines look.
    pub format: LogFormat,
    /// Where the audit goes; `None` = nowhere.
    pub audit: Option<PathBuf>,
}

/// How log lines look.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum LogFormat {
    Text,
    Json,
}

impl Outside {
    /// Every listener, with its key.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, SocketAddr)> + '_ {
        let of =
            |key: &'static str, listeners: &'_ [SocketAddr]| listeners.iter().map(|at| (key, *at)).collect::<Vec<_>>();
        [of("[outside] sip", &self.sip), of("[outside] xmpp", &self.xmpp), of("[outside] xmpps", &self.xmpps)]
            .into_iter()
            .flatten()
    }
}

/// Reads `[outside]`. `over_xmpp` is whether the policies let anybody come over XMPP: for them alone `xmpp` has a default, so that an edge that
/// federates over SIP asks for no port that it has no use for.
pub(super) fn outside(mut section: Section<'_>, over_xmpp: bool) -> Outside {
    let sip = listeners(&mut section, "sip", "[::]:5061");
    let xmpp = match (section.take("xmpp"), over_xmpp) {
        (Some(value), _) => {
            let listeners = listed(&value);
            if !listeners.is_empty() && !over_xmpp {
                let what = "no [[partner]] is over XMPP and strangers are refused, so nobody may come here";
                value.place().note(what, "write a [[partner]] with protocol = \"xmpp\", or xmpp = []");
            }
            listeners
        }
        (None, true) => "[::]:5269".parse().into_iter().collect(),
        (None, false) => {
            section.place().note("nobody federates over XMPP, so nothing listens for it outside", "");
            Vec::new()
        }
    };
    let xmpps = section.take("xmpps").map(|value| listed(&value)).unwrap_or_default();
    if over_xmpp && xmpp.is_empty() {
        let what = match xmpps.is_empty() {
            true => {
                "nothing listens for partners over XMPP: they can't connect, nor ask us whether a dialback key is ours"
            }
            false => "partners over XMPP can come by direct TLS only: those that know STARTTLS alone can't connect",
        };
        section.place().warn(what, "write xmpp = [\"[::]:5269\"]");
    }
    let advertise = section.take("advertise").map(|value| {
        value.list_of(|item| item.read("write the public address, like \"192.0.2.1\"", str::parse::<IpAddr>))
    });
    let balancers = section.take("proxy_protocol_from").map(|value| {
        let networks = value.list_of(read_network);
        if networks.iter().any(|network| network.prefix_len() == 0) {
            let what = "whoever connects says which address he has, and `networks` and limits go by it";
            value.place().warn(what, "list the load balancers' own addresses");
        }
        networks
    });
    section.finish();
    let (advertise, proxy_protocol_from) = (advertise.unwrap_or_default(), balancers.unwrap_or_default());
    Outside { sip, xmpp, xmpps, advertise, proxy_protocol_from }
}

/// What `[inside]` says, as far as it is not read with others.
pub(super) struct InsideRead<'s> {
    pub inside: Inside,
    /// `trust`
    pub trust: Option<Value<'s>>,
    /// `issuer`
    pub issuer: Option<Value<'s>>,
}

/// Reads `[inside]`. `[inside] sip` has a default where there is a SIP node only: nobody
/// else could connect there.
pub(super) fn inside(mut section: Section<'_>, has_sip_node: bool) -> InsideRead<'_> {
    let default = sip_listener("tcp:127.0.0.1:5062").ok();
    let sip = match section.take("sip") {
        Some(value) => {
            let mend = "write \"tcp:address:port\" or \"tls:address:port\", like \"tcp:127.0.0.1:5062\"";
            let mut listeners = value.list_of(|item| item.read(mend, sip_listener));
            if listeners.is_empty() && !value.list().is_empty() {
                // None could be read, and it was said why: that nodes reach none is no second problem.
                listeners.extend(default);
            }
            if !has_sip_node && !listeners.is_empty() {
                value.place().note(
                    "no [[node]] is attached over SIP, so nobody may connect there",
                    "write a [[node]] with protocol = \"sip\", or sip = []",
                );
            }
            listeners
        }
        None => default.filter(|_| has_sip_node).into_iter().collect(),
    };
    let trust = section.take("trust");
    let xmpp = listeners(&mut section, "xmpp", "127.0.0.1:5270");
    let networks = match section.take("networks") {
        Some(value) => {
            let networks = value.list_of(read_network);
            if networks.iter().any(|network| network.prefix_len() == 0) {
                value
                    .place()
                    .warn("anybody who reaches the inside listeners is taken for inside", "list your nodes' networks");
            }
            networks
        }
        None => scalar::network("127.0.0.0/8").into_iter().collect(),
    };
    let tls = section.take("tls").and_then(|value| value.word(TlsMode::ALL, TlsMode::as_str));
    let tls = tls.unwrap_or(TlsMode::Optional);
    let issuer = section.take("issuer");
    if let (Some(value), TlsMode::Off) = (&issuer, tls) {
        let what = "tls = \"off\": no node ever sees a certificate of this issuer";
        value.place().warn(what, "write tls = \"optional\" or \"required\", or remove it");
    }
    section.finish();
    InsideRead { inside: Inside { sip, xmpp, networks, tls }, trust, issuer }
}

fn sip_listener(text: &str) -> Result<SipListener, &'static str> {
    let (tls, at) = match text.split_once(':') {
        Some(("tcp", at)) => (false, at),
        Some(("tls", at)) => (true, at),
        _ => return Err("begins with neither tcp: nor tls:"),
    };
    at.parse().map(|at| SipListener { at, tls }).map_err(|_| "has no address and port")
}

/// A CIDR or an address.
pub(super) fn read_network(value: &Value<'_>) -> Option<IpNet> {
    value.read("write a network like \"192.0.2.0/24\" or an address", scalar::network)
}

fn listeners(section: &mut Section<'_>, key: &'static str, default: &str) -> Vec<SocketAddr> {
    match section.take(key) {
        Some(value) => listed(&value),
        None => default.parse().into_iter().collect(),
    }
}

fn listed(value: &Value<'_>) -> Vec<SocketAddr> {
    let mend = "write address:port, like \"[::]:5061\" or \"192.0.2.1:5061\"";
    value.list_of(|item| item.read(mend, str::parse::<SocketAddr>))
}

/// Reports addresses that two listeners want, or that one takes from another. `doors` are the nodes with a `public_port`.
pub(super) fn check_listeners(
    place: &Place<'_>,
    outside: &Outside,
    inside: &Inside,
    doors: &[Node],
    admin: Option<SocketAddr>,
) {
    let mut all: Vec<(String, SocketAddr)> = Vec::new();
    all.extend(outside.all().map(|(key, at)| (key.to_owned(), at)));
    for (index, node) in doors.iter().enumerate().filter(|(_, node)| node.public_port != 0) {
        // Told where the nodes are read.
        if doors.iter().take(index).any(|other| other.public_port == node.public_port) {
            continue;
        }
        let mut addresses: Vec<IpAddr> = outside.sip.iter().map(SocketAddr::ip).collect();
        addresses.sort();
        addresses.dedup();
        let label = format!("the public_port of {}", node.name);
        all.extend(addresses.into_iter().map(|ip| (label.clone(), SocketAddr::new(ip, node.public_port))));
    }
    all.extend(inside.sip.iter().map(|listener| ("[inside] sip".to_owned(), listener.at)));
    all.extend(inside.xmpp.iter().map(|at| ("[inside] xmpp".to_owned(), *at)));
    all.extend(admin.map(|at| ("[admin] listen".to_owned(), at)));
    for (index, (label, at)) in all.iter().enumerate() {
        // Port 0 is a different port each time.
        let earlier = all.iter().take(index).filter(|(_, other)| other.port() == at.port() && at.port() != 0);
        for (of, other) in earlier {
            let mend = "give each its own address or port";
            if at == other {
                place.error(format!("two listeners want {at}: {of} and {label}"), mend);
            } else if meet(at.ip(), other.ip(), of == label) {
                place.error(format!("{label} at {at} and {of} at {other} take each other's connections"), mend);
            }
        }
    }
}

/// Whether listeners of one port at two addresses are in each other's way. `[::]` takes IPv4 too, and leaves it to an IPv4 listener of the
/// same port: right for two of one kind, else the one would lose IPv4 in silence.
fn meet(a: IpAddr, b: IpAddr, same_kind: bool) -> bool {
    let one_takes_all = a.is_unspecified() || b.is_unspecified();
    let is_v6_for_all = |ip: IpAddr| ip.is_ipv6() && ip.is_unspecified();
    match a.is_ipv4() == b.is_ipv4() {
        true => one_takes_all,
        false => !same_kind && (is_v6_for_all(a) || is_v6_for_all(b)),
    }
}

/// What the `[[identity]]`s say.
pub(super) struct IdentitiesRead<'s> {
    /// Those that are whole, without their `sip_port`.
    pub whole: Vec<Identity>,
    /// All domains that are ours, so that a bad certificate makes one problem, not many.
    pub domains: Vec<Domain>,
    /// Domains that no name of their identity's certificate proves to an XMPP server.
    pub unnamed: Vec<(Place<'s>, Domain)>,
}

/// Reads the `[[identity]]`s.
pub(super) fn identities<'s>(context: &Context<'_>, sections: Vec<Section<'s>>) -> IdentitiesRead<'s> {
    let mut unnamed = Vec::new();
    let mut owners: BTreeMap<Domain, String> = BTreeMap::new();
    let mut identities = Vec::new();
    for mut section in sections {
        let mend = "write hostname = \"sip.your.domain\", a name that stands in the certificate";
        let hostname = section.demand("hostname", mend);
        let name = hostname.as_ref().and_then(|value| value.read(mend, Domain::parse));
        let domains_value = section.demand("domains", "write domains = [\"your.domain\"]");
        let domains = domains_value.as_ref().map(read_domains).unwrap_or_default();
        for (place, domain) in &domains {
            match owners.get(domain) {
                Some(owner) => {
                    place.error(format!("{domain} is also a domain of {owner}"), "let one [[identity]] speak for it");
                }
                None => {
                    owners.insert(domain.clone(), section.place().key().to_owned());
                }
            }
        }
        if let (Some(value), true) = (&domains_value, domains.is_empty()) {
            value.place().error("an identity speaks for no domain", "write domains = [\"your.domain\"]");
        }
        if let (Some(value), Some(name)) = (&hostname, &name) {
            for (_, domain) in domains.iter().filter(|(_, domain)| name.parent().as_ref() != Some(domain)) {
                let what = format!("{name} is not exactly one label below {domain}, which Microsoft's partners demand");
                value
                    .place()
                    .warn(what, format!("use a name like sip.{domain} if Lync or OCS partners are to reach {domain}"));
            }
        }
        let section_place = section.place().clone();
        let certificate = section.demand("certificate", "write certificate = \"certs/edge.pem\"");
        let key = section.demand("key", "write key = \"certs/edge.key\"");
        let material =
            material::identity(context.files, certificate.as_ref(), key.as_ref(), name.as_ref(), context.now);
        section.finish();
        if let (Some(name), Some(material)) = (name, material) {
            let place = certificate.as_ref().map_or(section_place, |value| value.place().clone());
            let missing = domains.iter().filter(|(_, domain)| !names(&material.chain.names, domain));
            unnamed.extend(missing.map(|(_, domain)| (place.clone(), domain.clone())));
            let domains = domains.into_iter().map(|(_, domain)| domain).collect();
            let local = LocalIdentity { hostname: name.as_str().to_owned(), sip_port: 0, domains };
            identities.push(Identity { local, material });
        }
    }
    IdentitiesRead { whole: identities, domains: owners.into_keys().collect(), unnamed }
}

/// Whether a certificate is one of this domain to an XMPP server (RFC 6120 §13.7.1.2), which SIP's rules don't ask for.
fn names(names: &Names, domain: &Domain) -> bool {
    let wildcard = domain.parent().map(|parent| format!("*.{parent}"));
    let is_it = |name: &String| name.eq_ignore_ascii_case(domain.as_str()) || Some(name) == wildcard.as_ref();
    let is_service = |name: &String| name.strip_prefix("_xmpp-server.").is_some_and(|rest| rest == domain.as_str());
    names.dns.iter().any(is_it)
        || names.srv.iter().any(is_service)
        || names.xmpp.iter().any(|name| Domain::parse(name).as_ref() == Ok(domain))
}

/// A list of domains with their places.
pub(super) fn read_domains<'s>(value: &Value<'s>) -> Vec<(Place<'s>, Domain)> {
    value.list_of(|item| {
        let domain = item.read("write a domain name like \"corp.example\"", Domain::parse)?;
        Some((item.place().clone(), domain))
    })
}

/// Reads `[dns]`.
pub(super) fn dns(mut section: Section<'_>) -> Dns {
    let servers = section.take("servers").map(|value| {
        value.list_of(|item| item.read("write an address, or address:port", |text| scalar::server(text, 53)))
    });
    let mut dns = Dns { servers: servers.unwrap_or_default(), ..Dns::default() };
    for (name, value) in section.section("records", "dns.records").entries() {
        let key = name.trim_end_matches('.').to_ascii_lowercase();
        // RFC 2782: SRV names begin with an underscore, host names don't.
        if key.starts_with('_') {
            dns.srv.insert(key, value.list_of(service));
        } else {
            let mend = "write an address; the names of SRV records begin with _service._proto";
            dns.hosts.insert(key, value.list_of(|item| item.read(mend, str::parse::<IpAddr>)));
        }
    }
    section.finish();
    dns
}

fn service(value: &Value<'_>) -> Option<Service> {
    if !value.is_table() {
        value.place().error("an SRV record is a table", "write { target = \"sip.partner.example\", port = 5061 }");
        return None;
    }
    let mut section = value.section("dns.record");
    let mend = "write { target = \"sip.partner.example\", port = 5061 }";
    let target = section.demand("target", mend).and_then(|value| match value.is_text() && value.text() == Some(".") {
        // RFC 2782: decidedly not offered.
        true => Some(".".to_owned()),
        false => value.read(mend, Domain::parse).map(|target| target.as_str().to_owned()),
    });
    let port = section.demand("port", mend).and_then(|value| value.number(1..65_536));
    let priority = section.take("priority").and_then(|value| value.number(0..65_536)).unwrap_or(0);
    let weight = section.take("weight").and_then(|value| value.number(0..65_536)).unwrap_or(0);
    section.finish();
    let short = |number: u64| u16::try_from(number).ok();
    Some(Service { target: target?, port: short(port?)?, priority: short(priority)?, weight: short(weight)? })
}

/// Reads `[presence]`.
pub(super) fn presence(mut section: Section<'_>) -> Presence {
    const DAY: Duration = Duration::from_secs(24 * 3600);
    const SECOND: Duration = Duration::from_secs(1);
    let expires = section.take("expires").and_then(|value| value.duration(Duration::from_secs(60), DAY * 7));
    let expires = expires.unwrap_or(Duration::from_secs(3600));
    let written = section.take("minimum");
    let minimum =
        written.as_ref().and_then(|value| value.duration(SECOND, DAY * 7)).unwrap_or(Duration::from_secs(600));
    if let (Some(value), true) = (&written, minimum > expires) {
        value.place().error("minimum is longer than expires", "make it shorter, or expires longer");
    }
    let interval = section.take("notify_interval").and_then(|value| value.duration(Duration::ZERO, SECOND * 3600));
    let polite_refusal = section
        .take("on_user_refusal")
        .and_then(|value| value.word(&[false, true], |polite| if polite { "polite" } else { "rejected" }));
    section.finish();
    Presence {
        expires,
        minimum: minimum.min(expires),
        notify_interval: interval.unwrap_or(SECOND * 5),
        polite_refusal: polite_refusal.unwrap_or(false),
    }
}

/// Reads `[chat]`: after how long without traffic an IM session ends (RFC 7573 §6 suggests ten minutes).
pub(super) fn chat_idle(mut section: Section<'_>) -> Duration {
    let bounds = (Duration::from_secs(10), Duration::from_secs(24 * 3600));
    let idle = section.take("idle").and_then(|value| value.duration(bounds.0, bounds.1));
    section.finish();
    idle.unwrap_or(Duration::from_secs(600))
}

/// Reads `[limits]`.
pub(super) fn limits(mut section: Section<'_>) -> Limits {
    let default = Limits::default();
    let bytes = |section: &mut Section<'_>, key, bounds, default: usize| {
        let written = section.take(key).and_then(|value: Value<'_>| value.number(bounds));
        written.and_then(|number| usize::try_from(number).ok()).unwrap_or(default)
    };
    let wait = |section: &mut Section<'_>, key, default: Duration| {
        let bounds = (Duration::from_millis(100), Duration::from_secs(600));
        section.take(key).and_then(|value: Value<'_>| value.duration(bounds.0, bounds.1)).unwrap_or(default)
    };
    let limits = Limits {
        sip_head_bytes: bytes(&mut section, "sip_head_bytes", 1_024..1_048_577, default.sip_head_bytes),
        // RFC 6120 §13.12: a stanza of 10,000 bytes must pass.
        stanza_bytes: bytes(&mut section, "stanza_bytes", 10_000..16_777_217, default.stanza_bytes),
        handshake: wait(&mut section, "handshake", default.handshake),
        negotiation: wait(&mut section, "negotiation", default.negotiation),
    };
    section.finish();
    limits
}

/// Reads `[state]`: the engine and its file, and the secrets, current first.
pub(super) fn state(context: &Context<'_>, mut section: Section<'_>) -> (State, Vec<Vec<u8>>) {
    let engine =
        section.take("engine").map_or(Some("embedded"), |value| value.word(&["memory", "embedded"], |word| word));
    let path = match section.take("path") {
        Some(value) => value.text().filter(|path| {
            if path.is_empty() {
                value.place().error("is empty", "name a file, like \"state/fedgate.db\"");
            }
            !path.is_empty()
        }),
        None => Some("state/fedgate.db"),
    };
    let state = match (engine, path) {
        (Some("memory"), _) => State::Memory,
        (_, path) => State::Embedded { path: context.files.resolve(path.unwrap_or_default()) },
    };
    let secrets = match section.take("secrets") {
        Some(value) => {
            let items = value.list();
            if items.is_empty() {
                value.place().error(
                    "there is no secret",
                    "write secrets = [\"file:state/secret\"]; it is made at the first start",
                );
            }
            items
                .iter()
                .enumerate()
                .filter_map(|(index, item)| material::secret(context.files, item, context.make_secrets, index == 0))
                .collect()
        }
        None => material::default_secret(context.files, section.place(), context.make_secrets).into_iter().collect(),
    };
    section.finish();
    (state, secrets)
}

/// Bytes of a socket's path. `sockaddr_un` holds 107, and the socket is made in a folder of its own beside that place.
const SOCKET_PATH: usize = 96;

/// Reads `[admin]`. `outside` is where it must not listen.
pub(super) fn admin(files: &Files, mut section: Section<'_>, outside: Option<&Outside>) -> Admin {
    let token = section.take("token").and_then(|value| value.text()).filter(|token| !token.is_empty());
    let written = section.take("listen");
    let mend = "write address:port, like \"127.0.0.1:9630\", or \"\" for none";
    let listen = match &written {
        Some(value) if value.is_text() && value.text() == Some("") => None,
        Some(value) => value.read(mend, str::parse::<SocketAddr>),
        None => "127.0.0.1:9630".parse().ok(),
    };
    if let (Some(address), Some(value)) = (listen, &written) {
        let ip = address.ip().to_canonical();
        let on_outside = outside.is_some_and(|outside| {
            outside.all().any(|(_, listener)| {
                let same = listener.ip().to_canonical() == ip;
                // Port 0 is a different port each time.
                let same_port = address.port() != 0 && listener.port() == address.port();
                (same && (!ip.is_loopback() || same_port)) || ip.is_unspecified()
            }) || outside.advertise.contains(&ip)
        });
        if on_outside {
            value.place().error(format!("{address} is on the outside"), "listen on loopback or on an inside address");
        } else if !ip.is_loopback() && token.is_none() {
            let what = "not loopback and no token: only healthz, readyz and metrics will answer";
            value.place().warn(what, "write a token, or listen on 127.0.0.1");
        }
    }
    let socket = section.take("socket").and_then(|value| {
        let path = files.resolve(value.text().filter(|path| !path.is_empty())?);
        let length = path.as_os_str().len();
        if length > SOCKET_PATH {
            let what = format!("{} has {length} bytes; a socket's path may have {SOCKET_PATH}", path.display());
            value.place().error(what, "write a shorter one, like \"/run/fedgate/admin.sock\"");
        }
        Some(path)
    });
    section.finish();
    Admin { listen, socket, token: token.unwrap_or_default().to_owned() }
}

/// Reads `[log]`.
pub(super) fn log(context: &Context<'_>, mut section: Section<'_>) -> Log {
    let words = |format| match format {
        LogFormat::Text => "text",
        LogFormat::Json => "json",
    };
    let format = section.take("format").and_then(|value| value.word(&[LogFormat::Text, LogFormat::Json], words));
    let audit = match section.take("audit") {
        Some(value) => value.text().unwrap_or_default(),
        None => "audit.jsonl",
    };
    section.finish();
    let audit = Some(audit).filter(|path| !path.is_empty()).map(|path| context.files.resolve(path));
    Log { format: format.unwrap_or(LogFormat::Text), audit }
}

/// Reads `[tls] minimum`.
pub(super) fn tls_minimum(section: &mut Section<'_>) -> TlsVersion {
    let words = |version| match version {
        TlsVersion::V1_2 => "1.2",
        TlsVersion::V1_3 => "1.3",
    };
    let written = section.take("minimum").and_then(|value| value.word(&[TlsVersion::V1_2, TlsVersion::V1_3], words));
    written.unwrap_or(TlsVersion::V1_2)
}
