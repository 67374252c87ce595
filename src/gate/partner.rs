//! Who we federate with: partners as policy describes them, and the closed sets that their entries choose from.

use crate::wire::address::Domain;
use ipnet::IpNet;
use smol_str::SmolStr;
use std::time::Duration;

/// Index into the policy's partner entries. Valid for one policy version only; never kept in records.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PartnerId(pub u32);

/// Index into the settings' nodes. Valid for one settings version only; records keep the node's name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct NodeId(pub u32);

/// Index into [`crate::gate::peer::TrustSets`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TrustId(pub u32);

/// One connection, for the life of the process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LinkId(pub u64);

/// The protocols we speak.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[allow(missing_docs)]
pub enum Protocol {
    Sip,
    Xmpp,
}

/// Where a link or a sender is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Side {
    /// The Internet: partners.
    Outside,
    /// The organisation: presence nodes.
    Inside,
}

/// A dialect: how a partner's or node's software spells and behaves.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, serde::Serialize, serde::Deserialize)]
#[allow(missing_docs)]
pub enum Profile {
    Generic,
    Ocs,
    Lync,
    Aol,
    Sametime,
    Webex,
    GoogleTalk,
    Jabber,
}

/// Which way federation is allowed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Direction {
    /// The partner may start.
    In,
    /// We may start.
    Out,
    /// Either.
    Both,
}

/// What a request does, as policies name it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[allow(missing_docs)]
pub enum Action {
    Subscribe,
    Presence,
    Message,
    Chat,
    Groupchat,
    Iq,
    File,
    Call,
    Other,
}

/// Whether TLS is demanded of a partner.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[allow(missing_docs)]
pub enum TlsMode {
    Required,
    Optional,
    Off,
}

/// A rung of the proof ladder.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[allow(missing_docs)]
pub enum Proof {
    Certificate,
    Dialback,
}

/// Which certificate names prove a partner.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Identity {
    /// SIP: RFC 5922; XMPP: RFC 6120 §13.7.
    Domain,
    /// Microsoft's rule: a host exactly one label below the domain.
    EdgeInDomain,
    /// Any of these host names.
    Pinned(Vec<String>),
}

/// Which domains an entry speaks of.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum DomainPattern {
    /// This domain.
    Exact(Domain),
    /// Any proper subdomain of this domain (`*.domain`).
    Under(Domain),
}

/// How IM is carried to a SIP partner.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[allow(missing_docs)]
pub enum ChatMode {
    Page,
    Session,
    Auto,
}

/// What becomes of HTML in a partner's messages.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Html {
    /// Its text is carried.
    ToText,
    /// 415: it is asked for plain text.
    Refuse,
}

/// What a partner may use up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Budget {
    /// Requests that carry messages or make sessions, a second.
    pub messages_per_second: u32,
    /// Live subscriptions.
    pub subscriptions: u32,
    /// Connections from it at once.
    pub links: u32,
    /// A message body or stanza payload.
    pub body_bytes: usize,
    /// Distinct local users addressed an hour; `None` = no bound.
    pub targets_per_hour: Option<u32>,
}

/// A partner entry, defaults of its profile filled in.
#[derive(Clone, PartialEq, Debug)]
pub struct Partner {
    /// The entry's key, with `protocol`.
    pub domain: DomainPattern,
    /// The entry's key, with `domain`.
    pub protocol: Protocol,
    /// Label for metrics and logs: the domain as configured.
    pub label: SmolStr,
    /// Where it is written (`policies/10-partners.toml:12`), for people.
    pub origin: String,
    /// Of two entries for one domain, the one to use first.
    pub prefer: bool,
    /// Its dialect.
    pub profile: Profile,
    /// Further domains it may speak for and is reached through.
    pub also: Vec<Domain>,
    /// Who may start.
    pub direction: Direction,
    /// What may be done.
    pub allow: Vec<Action>,
    /// Demanded of its links.
    pub tls: TlsMode,
    /// Accepted proofs, strongest first.
    pub proof: Vec<Proof>,
    /// Accepted certificate names.
    pub identity: Identity,
    /// Whom its chain must lead to.
    pub trust: TrustId,
    /// Whether id-kp-clientAuth is demanded of its certificate when it connects to us.
    pub client_eku: bool,
    /// From where it may connect; empty = anywhere.
    pub networks: Vec<IpNet>,
    /// A fixed next hop instead of discovery.
    pub next_hop: Option<HostPort>,
    /// How IM goes to it.
    pub chat: ChatMode,
    /// What becomes of HTML from it.
    pub html: Html,
    /// Its budget.
    pub limits: Budget,
}

/// `host:port`; the host may be a name or an address.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct HostPort {
    /// Name or address, without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
}

/// A local domain set and the certificate that speaks for it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LocalIdentity {
    /// In Via, Record-Route, Contact.
    pub hostname: String,
    /// The port partners reach us at, for Contact and Record-Route (the first `[outside] sip` listener's).
    pub sip_port: u16,
    /// Domains it speaks for.
    pub domains: Vec<Domain>,
}

/// How a connecting node is known.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[allow(missing_docs)]
pub enum NodeProof {
    Network,
    Certificate,
    Dialback,
}

/// An internal presence server.
#[derive(Clone, PartialEq, Debug)]
pub struct Node {
    /// Its name, for logs and metrics.
    pub name: SmolStr,
    /// How it is attached.
    pub protocol: NodeProtocol,
    /// Where it listens.
    pub address: HostPort,
    /// TLS towards it: the name its certificate must carry; `None` = as `[inside] tls` says (XMPP) or none (SIP).
    pub tls_name: Option<String>,
    /// How it is known when it connects.
    pub verify: NodeProof,
    /// Where it connects from, resolved: `sources`, or the host of `address`.
    pub sources: Vec<IpNet>,
    /// Local domains it serves.
    pub domains: Vec<Domain>,
    /// Globs over local parts.
    pub users: Vec<String>,
    /// Takes new sessions.
    pub routing: bool,
    /// Lower first.
    pub priority: u16,
    /// SRV sense.
    pub weight: u16,
    /// PAT: the port on the `[outside] sip` addresses whose new sessions go to this node, and that its dialogs name; 0 = none.
    pub public_port: u16,
    /// Where a SIP node reaches us, for Record-Route and Via towards it.
    pub facing: Option<Facing>,
    /// Its users' client dialect: [`Profile::Generic`] or [`Profile::Jabber`].
    pub profile: Profile,
    /// As what we attach to it (XEP-0114): exactly when `protocol` is [`NodeProtocol::XmppComponent`].
    pub component: Option<Component>,
}

/// Our own address as a SIP node sees it: one of `[inside] sip`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Facing {
    /// Host and port; never an unspecified address.
    pub at: HostPort,
    /// Whether that listener speaks TLS.
    pub tls: bool,
}

/// As what we attach to an XMPP server: one stream for each partner domain.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Component {
    /// The partner domains.
    pub domains: Vec<Domain>,
    /// What the server and we share.
    pub secret: Secret,
}

/// A shared secret; never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub Vec<u8>);

/// How a node is attached.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[allow(missing_docs)]
pub enum NodeProtocol {
    Sip,
    Xmpp,
    XmppComponent,
}

/// What `[presence]` says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Presence {
    /// Asked for and granted.
    pub expires: Duration,
    /// Below: 423.
    pub minimum: Duration,
    /// At most one NOTIFY a watcher in this time.
    pub notify_interval: Duration,
    /// A refused watcher sees offline instead of `rejected`.
    pub polite_refusal: bool,
}

impl Node {
    /// Whether it can be reached in this partner domain's name. A component stream has one name; any other node is spoken to in any.
    pub fn is_open_to(&self, partner: &Domain) -> bool {
        self.component.as_ref().is_none_or(|component| component.domains.contains(partner))
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("…")
    }
}

impl Default for Budget {
    /// What an entry that says nothing about limits has.
    fn default() -> Self {
        Self { messages_per_second: 50, subscriptions: 10_000, links: 8, body_bytes: 65_536, targets_per_hour: None }
    }
}

impl DomainPattern {
    /// Whether `domain` is spoken of.
    pub fn matches(&self, domain: &Domain) -> bool {
        match self {
            DomainPattern::Exact(exact) => domain == exact,
            DomainPattern::Under(parent) => domain.is_under(parent),
        }
    }
}

/// The words of a closed set, as configuration, logs and metrics spell them.
macro_rules! words {
    ($type:ident { $($variant:ident = $word:literal),+ $(,)? }) => {
        impl $type {
            /// All, in the order in which they are documented.
            pub const ALL: &[$type] = &[$($type::$variant),+];
            /// The word that configuration, logs and metrics use.
            pub const fn as_str(self) -> &'static str {
                match self { $($type::$variant => $word),+ }
            }
            /// From its word.
            pub fn parse(word: &str) -> Option<Self> {
                match word { $($word => Some($type::$variant),)+ _ => None }
            }
        }
    };
}

words!(Protocol { Sip = "sip", Xmpp = "xmpp" });
words!(Side { Outside = "outside", Inside = "inside" });
words!(Direction { In = "in", Out = "out", Both = "both" });
words!(TlsMode { Required = "required", Optional = "optional", Off = "off" });
words!(Proof { Certificate = "certificate", Dialback = "dialback" });
words!(ChatMode { Session = "session", Page = "page", Auto = "auto" });
words!(Html { ToText = "to-text", Refuse = "refuse" });
words!(NodeProof { Network = "network", Certificate = "certificate", Dialback = "dialback" });
words!(NodeProtocol { Sip = "sip", Xmpp = "xmpp", XmppComponent = "xmpp-component" });
words!(Profile {
    Generic = "generic",
    Ocs = "ocs",
    Lync = "lync",
    Aol = "aol",
    Sametime = "sametime",
    Webex = "webex",
    GoogleTalk = "googletalk",
    Jabber = "jabber",
});
words!(Action {
    Subscribe = "subscribe",
    Presence = "presence",
    Message = "message",
    Chat = "chat",
    Groupchat = "groupchat",
    Iq = "iq",
    File = "file",
    Call = "call",
    Other = "other",
});

impl Protocol {
    /// The one that this is not.
    pub const fn other(self) -> Self {
        match self {
            Protocol::Sip => Protocol::Xmpp,
            Protocol::Xmpp => Protocol::Sip,
        }
    }
}

impl Side {
    /// The one that this is not.
    pub const fn other(self) -> Self {
        match self {
            Side::Outside => Side::Inside,
            Side::Inside => Side::Outside,
        }
    }
}

impl Direction {
    /// Whether a request from `side` may start under this direction.
    pub fn lets(self, side: Side) -> bool {
        matches!((self, side), (Direction::Both, _) | (Direction::In, Side::Outside) | (Direction::Out, Side::Inside))
    }
}

impl std::fmt::Display for DomainPattern {
    /// As configured.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            DomainPattern::Exact(domain) => domain.fmt(f),
            DomainPattern::Under(parent) => write!(f, "*.{parent}"),
        }
    }
}
