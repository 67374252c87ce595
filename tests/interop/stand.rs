//! One test's world: loopback addresses of its own, a folder of its own, Prosody inside, the partner outside, fedgate between them.

use crate::client::Client;
use crate::desk::Desk;
use crate::fedgate::Fedgate;
use crate::partner::Partner;
use crate::peers;
use crate::phone::{Home, Phone};
use crate::pki::{Certificate, Pki};
use crate::prosody::Prosody;
use crate::resolver;
use crate::server::Kamailio;
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

/// What varies between stands.
#[derive(Clone, Copy)]
pub struct Setup {
    /// Prosody's `s2s_require_encryption`, with `[inside] tls = "optional"`; of SIP nodes `tls` and `verify = "certificate"`. Else TLS is off inside.
    pub tls: bool,
    /// `[[node]] verify`.
    pub verify: &'static str,
    /// lync.example's `chat`.
    pub chat: &'static str,
    /// Further text of the policy.
    pub policy: &'static str,
    /// fedgate attaches to Prosody as its components (XEP-0114), instead of streams between servers.
    pub component: bool,
    /// Prosody keeps count of what is acknowledged (`mod_smacks`, XEP-0198).
    pub managed: bool,
    /// How many SIP nodes there are in Prosody's place (see relay_stand.rs).
    pub nodes: u8,
}

impl Default for Setup {
    fn default() -> Self {
        Self { tls: false, verify: "network", chat: "page", policy: "", component: false, managed: false, nodes: 0 }
    }
}

/// The world. Fields end in this order: fedgate first, so that nobody sees its peers die.
pub struct Stand {
    /// The program under test.
    pub fedgate: Fedgate,
    /// The server inside.
    pub prosody: Prosody,
    /// The partner outside.
    pub partner: Partner,
    /// Certificates.
    pub pki: Pki,
    /// The partner's own certificate.
    pub partner_certificate: Certificate,
    /// Its addresses.
    pub net: Net,
    folder: Folder,
}

impl Stand {
    /// Raises it; `None` when something it needs is missing and that is allowed.
    pub fn raise(test: &str, setup: Setup) -> Option<Self> {
        let peers = peers::find(test)?;
        let folder = Folder::new(test);
        let net = Net::pick();
        let pki = Pki::new(&folder.path().join("pki"));
        let edge = pki.leaf("edge", &["sip.corp.example", "corp.example"], &pki.authority);
        let partner_certificate = pki.leaf("partner", &["sip.lync.example"], &pki.authority);
        // As most servers inside have it: signed by nobody we know.
        let server = pki.leaf("corp.example", &["corp.example"], &pki.stranger);
        let prosody = Prosody::start(&subfolder(&folder, "prosody"), net, &server, setup);
        let partner = Partner::start(folder.path(), net, &partner_certificate, &pki.authority.chain);
        let fedgate = Fedgate::start(&peers.fedgate, &subfolder(&folder, "fedgate"), net, &edge, &pki.authority, setup);
        Some(Self { fedgate, prosody, partner, pki, partner_certificate, net, folder })
    }

    /// A user's client, logged in.
    pub fn login(&self, user: &str) -> Client {
        Client::login(user, self.net, self.folder.path())
    }

    /// Raises a Kamailio as kamailio.example, which shows this certificate (see [`Kamailio::start`]).
    pub fn raise_kamailio(&self, certificate: &Certificate, longest: u32) -> Kamailio {
        Kamailio::start(&self.folder.path().join("kamailio"), self.net, certificate, &self.pki, longest)
    }

    /// A user's client behind it, registered (see [`Phone::start`]).
    pub fn phone(&self, user: &str, contact: &str, watch: bool) -> Phone {
        Phone::start(user, contact, watch, self.net.outer_home(), &self.folder.path().join("phone"))
    }

    /// A second device of a user behind it.
    pub fn desk(&self, user: &str) -> Desk {
        Desk::new(user, self.net.outer_home(), &self.folder.path().join("desk"))
    }

    /// The partner connects with its own certificate, as link `out`.
    pub fn dial(&mut self) {
        let certificate = self.partner_certificate.clone();
        self.partner.dial("out", Some(&certificate));
    }
}

/// A folder in a stand's.
pub fn subfolder(folder: &Folder, name: &str) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::create_dir_all(&path).expect("a folder");
    path
}

/// The addresses of a stand: every program has one to itself, so that ports are the real ones.
#[derive(Clone, Copy, Debug)]
pub struct Net(u8, u8);

impl Net {
    /// The port of fedgate's inside XMPP listener that DNS names; it also listens on 5269.
    pub const INSIDE_PORT: u16 = 5270;

    /// The port where Prosody takes components.
    pub const COMPONENT_PORT: u16 = 5347;

    /// The port where a SIP node inside takes SIP over TCP; its users come by UDP to 5060.
    pub const NODE_PORT: u16 = 5070;

    /// The port outside that is the second SIP node's own.
    pub const PUBLIC_PORT: u16 = 5072;

    /// The port of fedgate's inside SIP listener.
    pub const INSIDE_SIP_PORT: u16 = 5062;

    /// A net of 127.0.0.0/8 that nobody uses.
    pub fn pick() -> Self {
        static NEXT: AtomicU8 = AtomicU8::new(1);
        let second = 64 + u8::try_from(std::process::id() % 128).unwrap_or_default();
        let free = |net: &Net| {
            [
                (net.prosody(), 5222),
                (net.prosody(), 5269),
                (net.inside(), 5269),
                (net.outside(), 5061),
                (net.partner(), 5061),
                (net.kamailio(), 5061),
                (net.phone(), 4444),
                (net.node(1), Self::NODE_PORT),
                (net.node(2), Self::NODE_PORT),
                (net.inner_phone(), 4444),
                (net.outside(), 5269),
                (net.xmpp_partner(), 5269),
                (net.xmpp_node(1), 5269),
                (net.outer_resolver(), resolver::PORT),
            ]
            .into_iter()
            .all(|address| TcpListener::bind(address).is_ok())
        };
        std::iter::repeat_with(|| Net(second, NEXT.fetch_add(1, Ordering::Relaxed)))
            .take(250)
            .find(free)
            .expect("a free loopback net")
    }

    fn host(self, last: u8) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(127, self.0, self.1, last))
    }
    /// Prosody's.
    pub fn prosody(self) -> IpAddr {
        self.host(2)
    }
    /// fedgate's towards the inside.
    pub fn inside(self) -> IpAddr {
        self.host(5)
    }
    /// fedgate's towards the outside.
    pub fn outside(self) -> IpAddr {
        self.host(6)
    }
    /// fedgate's admin listener's.
    pub fn admin(self) -> IpAddr {
        self.host(7)
    }
    /// The partner's.
    pub fn partner(self) -> IpAddr {
        self.host(9)
    }
    /// The Kamailio's.
    pub fn kamailio(self) -> IpAddr {
        self.host(10)
    }
    /// The client's behind it.
    pub fn phone(self) -> IpAddr {
        self.host(11)
    }
    /// A scripted client's behind it.
    pub fn script(self) -> IpAddr {
        self.host(12)
    }
    /// Another one's.
    pub fn load(self) -> IpAddr {
        self.host(13)
    }
    /// The SIP node's of this number, from 1.
    pub fn node(self, number: u8) -> IpAddr {
        self.host(20 + number)
    }
    /// The client's behind it.
    pub fn inner_phone(self) -> IpAddr {
        self.host(31)
    }
    /// A scripted client's behind it.
    pub fn inner_script(self) -> IpAddr {
        self.host(32)
    }
    /// The outside's name server's.
    pub fn outer_resolver(self) -> IpAddr {
        self.host(40)
    }
    /// The inside's name server's.
    pub fn inner_resolver(self) -> IpAddr {
        self.host(41)
    }
    /// The partner's XMPP server's.
    pub fn xmpp_partner(self) -> IpAddr {
        self.host(42)
    }
    /// The XMPP node's of this number, from 1.
    pub fn xmpp_node(self, number: u8) -> IpAddr {
        self.host(50 + number)
    }
    /// Somebody's who means no good.
    pub fn hostile(self) -> IpAddr {
        self.host(66)
    }
    /// Where a phone outside is at home.
    pub fn outer_home(self) -> Home {
        Home { domain: "kamailio.example", server: self.kamailio(), address: self.phone() }
    }
    /// Where a phone inside is at home.
    pub fn inner_home(self) -> Home {
        Home { domain: "corp.example", server: self.node(1), address: self.inner_phone() }
    }
}

/// A folder for one test: removed, but kept and shown when the test fails.
pub struct Folder(Option<tempfile::TempDir>);

impl Folder {
    /// A new one.
    pub fn new(test: &str) -> Self {
        let folder =
            tempfile::Builder::new().prefix(&format!("fedgate-interop-{test}-")).tempdir().expect("a temporary folder");
        Self(Some(folder))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.as_ref().expect("held until dropped").path()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let Some(folder) = self.0.take() else { return };
        if !std::thread::panicking() {
            return;
        }
        let path = folder.keep();
        println!("\nThe stand is kept in {}", path.display());
        for (file, lines) in [
            ("fedgate/fedgate.log", 80),
            ("fedgate/audit.jsonl", 20),
            ("partner.log", 30),
            ("prosody/prosody.log", 40),
            ("kamailio/kamailio.log", 120),
            ("phone/phone.log", 40),
            ("imp-1/kamailio.log", 120),
            ("imp-2/kamailio.log", 120),
            ("inner-phone/phone.log", 40),
            ("xmpp-partner/server.log", 25),
            ("xmpp-node-1/server.log", 25),
            ("xmpp-node-2/server.log", 25),
        ] {
            let Ok(text) = std::fs::read(path.join(file)) else { continue };
            let text = String::from_utf8_lossy(&text);
            let skipped = text.lines().count().saturating_sub(lines);
            println!("--- {file}, the last {lines} lines");
            text.lines().skip(skipped).for_each(|line| println!("{line}"));
        }
    }
}

/// Waits until `met`.
pub fn wait_until(what: &str, patience: Duration, mut met: impl FnMut() -> bool) {
    let end = Instant::now() + patience;
    while !met() {
        assert!(Instant::now() < end, "not within {patience:?}: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
