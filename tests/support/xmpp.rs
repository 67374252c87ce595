//! Two ends of an XMPP stream without a network: settings, and a hand that carries bytes.

#![allow(dead_code)] // not every test needs all of it

use fedgate::gate::limits::Limits;
use fedgate::gate::link::{Aim, LinkInput, LinkOutput, Settings, XmppLink};
use fedgate::gate::partner::{
    Action, Budget, ChatMode, Direction, DomainPattern, HostPort, Identity, Node, NodeProof, NodeProtocol, Partner,
    Profile, Proof, Protocol, TlsMode, TrustId,
};
use fedgate::gate::policy::Table;
use fedgate::gate::{Side, Time};
use fedgate::wire::address::Domain;
use fedgate::wire::certificate::Chain;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

/// Where nodes connect from.
pub const NODE_IP: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));

pub fn now() -> Time {
    Time::from_unix_seconds(1_700_000_000)
}

pub fn domain(text: &str) -> Domain {
    Domain::parse(text).unwrap()
}

pub fn partner(name: &str) -> Partner {
    Partner {
        domain: DomainPattern::Exact(domain(name)),
        protocol: Protocol::Sip,
        label: name.into(),
        origin: "test:1".into(),
        prefer: false,
        profile: Profile::Generic,
        also: vec![],
        direction: Direction::Both,
        allow: vec![Action::Message],
        tls: TlsMode::Required,
        proof: vec![Proof::Certificate],
        identity: Identity::Domain,
        trust: TrustId(0),
        client_eku: false,
        networks: vec![],
        next_hop: None,
        chat: ChatMode::Page,
        html: fedgate::gate::partner::Html::ToText,
        limits: Budget { messages_per_second: 1, subscriptions: 1, links: 1, body_bytes: 1000, targets_per_hour: None },
    }
}

pub fn node(name: &str, verify: NodeProof, domains: &[&str]) -> Node {
    Node {
        name: name.into(),
        protocol: NodeProtocol::Xmpp,
        address: HostPort { host: "192.0.2.7".into(), port: 5269 },
        tls_name: None,
        verify,
        sources: vec!["192.0.2.0/28".parse().unwrap()],
        domains: domains.iter().map(|d| domain(d)).collect(),
        users: vec!["*".into()],
        routing: true,
        priority: 0,
        weight: 1,
        public_port: 0,
        facing: None,
        profile: Profile::Generic,
        component: None,
    }
}

/// Nodes serving the first domains, partner entries for the second.
pub fn settings(verify: NodeProof, ours: &[&str], partners: &[&str], tls: TlsMode) -> Settings {
    let policy = Table {
        partners: partners.iter().map(|name| partner(name)).collect(),
        local_domains: ours.iter().map(|d| domain(d)).collect(),
        ..Table::default()
    };
    Settings {
        policy: Arc::new(policy),
        nodes: vec![node("imp-1", verify, ours)],
        trust: Arc::default(),
        inside_trust: Arc::default(),
        inside_tls: tls,
        secrets: vec![b"fedgate-test-secret".to_vec()],
        limits: Limits::default(),
    }
}

/// A link, what it wrote and what else it wants.
pub struct End {
    pub link: XmppLink,
    pub wrote: String,
    pub wants: Vec<LinkOutput>,
    unsent: Vec<u8>,
    handshaking: bool,
}

impl End {
    pub fn new(link: XmppLink) -> Self {
        let mut end = Self { link, wrote: String::new(), wants: vec![], unsent: vec![], handshaking: false };
        end.drain();
        end
    }

    pub fn accepting(settings: Settings) -> Self {
        Self::new(XmppLink::accept(Arc::new(settings), Side::Inside, NODE_IP, [7; 32], now()))
    }

    pub fn opening(settings: Settings, from: &str, to: &str) -> Self {
        let (from, to) = (domain(from), domain(to));
        Self::new(XmppLink::open(Arc::new(settings), Aim::Node("imp-1".into()), from, to, false, [8; 32], now()))
    }

    pub fn input(&mut self, input: LinkInput) -> &mut Self {
        self.at(now(), input)
    }

    pub fn at(&mut self, time: Time, input: LinkInput) -> &mut Self {
        self.link.handle_input(time, input);
        self.drain();
        self
    }

    /// The peer writes.
    pub fn feed(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.link.buffer().extend_from_slice(bytes.as_ref());
        self.input(LinkInput::Readable)
    }

    /// What was written since the last call.
    pub fn said(&mut self) -> String {
        std::mem::take(&mut self.wrote)
    }

    fn drain(&mut self) {
        while let Some(output) = self.link.poll_output() {
            match output {
                LinkOutput::Write(bytes) => {
                    assert!(self.closed().is_none(), "nothing is written behind a close");
                    self.wrote.push_str(std::str::from_utf8(&bytes).unwrap());
                    self.unsent.extend_from_slice(&bytes);
                }
                other => {
                    self.handshaking |= matches!(other, LinkOutput::StartTls { .. });
                    self.wants.push(other);
                }
            }
        }
    }

    pub fn closed(&self) -> Option<&str> {
        self.wants.iter().find_map(|want| match want {
            LinkOutput::Close { cause, .. } => Some(cause.as_str()),
            _ => None,
        })
    }

    /// `from>to`, in order of proof; `!` behind streams of ours.
    pub fn proven(&self) -> Vec<String> {
        let proven = self.wants.iter().filter_map(|want| match want {
            LinkOutput::Proven { from, to, ours, .. } => Some(format!("{from}>{to}{}", if *ours { "!" } else { "" })),
            _ => None,
        });
        proven.collect()
    }

    pub fn stanzas(&self) -> Vec<&fedgate::wire::xmpp::Stanza> {
        let stanzas = self.wants.iter().filter_map(|want| match want {
            LinkOutput::Stanza(stanza) => Some(stanza),
            _ => None,
        });
        stanzas.collect()
    }

    /// What came back, in order.
    pub fn taken(&self) -> Vec<u64> {
        let taken = self.wants.iter().filter_map(|want| match want {
            LinkOutput::Taken(receipts) => Some(receipts.clone()),
            _ => None,
        });
        taken.flatten().collect()
    }

    /// Whether it closed because somebody did not prove to be whom we wanted.
    pub fn is_unproven(&self) -> bool {
        self.wants.iter().any(|want| matches!(want, LinkOutput::Close { unproven: true, .. }))
    }

    /// What the operator reads of the refusals.
    pub fn details(&self) -> Vec<&str> {
        let details = self.wants.iter().filter_map(|want| match want {
            LinkOutput::Refused { reject, .. } => Some(reject.detail.as_str()),
            _ => None,
        });
        details.collect()
    }

    /// What the gate was asked to acknowledge.
    pub fn acks_asked(&self) -> Vec<u32> {
        let asked = self.wants.iter().filter_map(|want| match want {
            LinkOutput::AckAsked { handled } => Some(*handled),
            _ => None,
        });
        asked.collect()
    }

    pub fn questions(&self) -> Vec<fedgate::gate::link::VerifyRequest> {
        let questions = self.wants.iter().filter_map(|want| match want {
            LinkOutput::Verify(request) => Some(request.clone()),
            _ => None,
        });
        questions.collect()
    }

    /// Labels of the refusals.
    pub fn refusals(&self) -> Vec<&'static str> {
        let refusals = self.wants.iter().filter_map(|want| match want {
            LinkOutput::Refused { reject, .. } => Some(reject.reason.as_str()),
            _ => None,
        });
        refusals.collect()
    }
}

/// Carries bytes both ways, `chunk` at a time, and does TLS handshakes, until nothing moves.
pub fn converse(a: &mut End, b: &mut End, chunk: usize) {
    converse_as((a, None), (b, None), chunk);
}

/// The same, each end with the certificate that it shows in the handshake.
pub fn converse_as(
    (a, of_a): (&mut End, Option<&Arc<Chain>>),
    (b, of_b): (&mut End, Option<&Arc<Chain>>),
    chunk: usize,
) {
    loop {
        let (from_a, from_b) = (std::mem::take(&mut a.unsent), std::mem::take(&mut b.unsent));
        if from_a.is_empty() && from_b.is_empty() {
            if !(a.handshaking && b.handshaking) {
                return;
            }
            (a.handshaking, b.handshaking) = (false, false);
            a.input(LinkInput::TlsEstablished(of_b.cloned()));
            b.input(LinkInput::TlsEstablished(of_a.cloned()));
            continue;
        }
        from_a.chunks(chunk).for_each(|bytes| {
            b.feed(bytes);
        });
        from_b.chunks(chunk).for_each(|bytes| {
            a.feed(bytes);
        });
    }
}
