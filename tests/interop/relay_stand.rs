//! The world of SIP that stays SIP: Kamailios inside as presence nodes, one outside as the partner's edge, fedgate between them.

use crate::desk::Desk;
use crate::fedgate::Fedgate;
use crate::peers;
use crate::phone::Phone;
use crate::pki::Pki;
use crate::server::Kamailio;
use crate::sip_client::SipClient;
use crate::stand::{Folder, Net, Setup, subfolder};
use std::path::Path;

/// A partner with all that a relay carries.
const POLICY: &str = r#"
[[partner]]
domain   = "kamailio.example"
protocol = "sip"
profile  = "generic"
identity = "domain"
allow    = ["subscribe", "presence", "message", "chat", "call"]
limits   = { messages_per_second = 1000 }
"#;

/// The world. Fields end in this order: fedgate first, so that nobody sees its peers die.
pub struct RelayStand {
    /// The program under test.
    pub fedgate: Fedgate,
    /// `imp-1`, `imp-2`, ….
    pub nodes: Vec<Kamailio>,
    /// The partner's edge.
    pub kamailio: Kamailio,
    /// Its addresses.
    pub net: Net,
    folder: Folder,
}

impl RelayStand {
    /// Raises it with so many nodes; nobody subscribes through the partner's edge for longer than `longest` seconds. `None` when something
    /// it needs is missing and that is allowed.
    pub fn raise(test: &str, nodes: u8, longest: u32) -> Option<Self> {
        Self::raise_with(test, longest, Setup { nodes, ..Setup::default() })
    }

    /// The same with one node that fedgate knows by its certificate, and which knows fedgate so (`tls`).
    pub fn raise_over_tls(test: &str) -> Option<Self> {
        Self::raise_with(test, 3600, Setup { nodes: 1, tls: true, ..Setup::default() })
    }

    fn raise_with(test: &str, longest: u32, setup: Setup) -> Option<Self> {
        let peers = peers::find_sip(test)?;
        let folder = Folder::new(test);
        let net = Net::pick();
        let pki = Pki::new(&folder.path().join("pki"));
        let edge = pki.leaf("edge", &["sip.corp.example", "corp.example"], &pki.authority);
        // It names the domain, not the host (RFC 5922 §4, §7.1).
        let partner = pki.leaf("kamailio", &["kamailio.example"], &pki.authority);
        let kamailio = Kamailio::start(&folder.path().join("kamailio"), net, &partner, &pki, longest);
        let start = |number| {
            let name = format!("imp-{number}");
            let own = setup.tls.then(|| pki.leaf(&name, &[&format!("{name}.corp.internal")], &pki.authority));
            Kamailio::start_node(&folder.path().join(&name), net, number, own.as_ref().map(|own| (own, &pki)))
        };
        let running = (1..=setup.nodes).map(start).collect();
        let setup = Setup { policy: POLICY, ..setup };
        let fedgate = Fedgate::start(&peers.fedgate, &subfolder(&folder, "fedgate"), net, &edge, &pki.authority, setup);
        Some(Self { fedgate, nodes: running, kamailio, net, folder })
    }

    /// Where its files are.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A user's phone behind the partner's edge (see [`Phone::start`]).
    pub fn outer_phone(&self, user: &str, contact: &str, watch: bool) -> Phone {
        Phone::start(user, contact, watch, self.net.outer_home(), &self.folder.path().join("phone"))
    }

    /// A user's phone behind the first node.
    pub fn inner_phone(&self, user: &str, contact: &str, watch: bool) -> Phone {
        Phone::start(user, contact, watch, self.net.inner_home(), &self.folder.path().join("inner-phone"))
    }

    /// A second device of a user behind the first node.
    pub fn inner_desk(&self, user: &str) -> Desk {
        Desk::new(user, self.net.inner_home(), &self.folder.path().join("inner-desk"))
    }

    /// A second device of a user behind the partner's edge.
    pub fn outer_desk(&self, user: &str) -> Desk {
        Desk::new(user, self.net.outer_home(), &self.folder.path().join("desk"))
    }

    /// Scripted users behind the partner's edge.
    pub fn outer_client(&self) -> SipClient {
        SipClient::start("outer-client", self.net.script(), self.net.kamailio(), self.folder.path())
    }

    /// Scripted users behind the nodes; what they send goes to the first.
    pub fn inner_client(&self) -> SipClient {
        SipClient::start("inner-client", self.net.inner_script(), self.net.node(1), self.folder.path())
    }

    /// Asserts that of all that fedgate has sent to the partner, at least `least` messages, none names a host, an address, a port or a node
    /// of the inside.
    pub fn assert_hidden(&self, least: usize) {
        let net = self.net;
        let hosts = [net.node(1), net.node(2), net.inside(), net.inner_phone(), net.inner_script()];
        let ports = [Net::NODE_PORT, Net::INSIDE_SIP_PORT].map(|port| format!(":{port}"));
        let words: Vec<String> = hosts
            .iter()
            .map(ToString::to_string)
            .chain(ports)
            .chain(["imp-1".into(), "imp-2".into(), "corp.internal".into()])
            .collect();
        let seen: Vec<String> = self.kamailio.messages();
        let seen: Vec<&str> = seen
            .iter()
            .filter(|message| message.lines().next().is_some_and(|line| line.contains(" over tls ")))
            .filter_map(|message| message.split_once('\n').map(|(_, message)| message))
            .collect();
        assert!(seen.len() >= least, "the partner has seen {} messages of fedgate, not {least}", seen.len());
        for message in seen {
            for word in &words {
                let names = message.match_indices(word.as_str()).any(|(at, word)| {
                    // 127.1.1.2 is not 127.1.1.21.
                    !message[at + word.len()..].starts_with(|c: char| c.is_ascii_digit())
                });
                assert!(!names, "the partner has seen {word}:\n{message}");
            }
        }
    }

    /// The sum of `fedgate_messages_total` over the samples with these labels; 0 where there is none.
    pub fn messages(&self, labels: &[&str]) -> u64 {
        let labels: Vec<&str> = labels.iter().copied().chain(["partner=\"kamailio.example\""]).collect();
        whole(self.fedgate.metric("fedgate_messages_total", &labels))
    }

    /// How many requests were handed on.
    pub fn handed_on(&self) -> u64 {
        whole(self.fedgate.metric("fedgate_transit_seconds_count", &["path=\"sip-sip\""]))
    }

    /// Whether fedgate has this node up.
    pub fn is_up(&self, number: u8) -> bool {
        let label = format!("node=\"imp-{number}\"");
        self.fedgate.metric("fedgate_node_up", &[&label]).is_some_and(|up| up == 1.0)
    }

    /// Asserts that every sender was told how its message ended.
    pub fn assert_all_resolved(&self) {
        assert_eq!(self.fedgate.metric("fedgate_unresolved_messages_total", &[]), Some(0.0));
    }
}

fn whole(metric: Option<f64>) -> u64 {
    // A count.
    metric.unwrap_or_default() as u64
}
