//! Two edges that are each other's partner, over real sockets and TLS: what one dials, the other accepts and, where the ladder says so, asks
//! back.

use super::*;
use crate::gate::link::Settings as LinkSettings;
use crate::gate::partner::{
    Action, Budget, ChatMode, Direction, DomainPattern, Html, Identity as Names, NodeProof, Partner as Entry, Profile,
    Proof, TrustId,
};
use crate::gate::peer::{Evidence, Opened, TrustSet, TrustSets};
use crate::gate::policy::Table;
use crate::gate::{Input, Other, Proof as Proven, Target};
use crate::io::dial::dial;
use crate::io::edge::{Arrival, Live, for_tests};
use crate::io::link::xmpp;
use crate::io::settings::{Dns, Identity};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

const HOP: HopId = HopId(7);
const CORP: &str = "corp.example";
const THEIRS: &str = "xmpp.example";

fn authority() -> &'static (CertificateDer<'static>, Issuer<'static, KeyPair>) {
    static AUTHORITY: OnceLock<(CertificateDer<'static>, Issuer<'static, KeyPair>)> = OnceLock::new();
    AUTHORITY.get_or_init(|| {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        (params.self_signed(&key).unwrap().der().clone(), Issuer::new(params, key))
    })
}

fn domain(text: &str) -> Domain {
    Domain::parse(text).unwrap()
}

/// What an edge demands of the other.
fn entry(of: &str, tls: TlsMode, proof: &[Proof]) -> Entry {
    Entry {
        domain: DomainPattern::Exact(domain(of)),
        protocol: Protocol::Xmpp,
        label: of.into(),
        origin: "test:1".to_owned(),
        prefer: false,
        profile: Profile::Generic,
        also: Vec::new(),
        direction: Direction::Both,
        allow: vec![Action::Message],
        tls,
        proof: proof.to_vec(),
        identity: Names::Domain,
        trust: TrustId(0),
        client_eku: false,
        networks: Vec::new(),
        next_hop: None,
        chat: ChatMode::Auto,
        html: Html::ToText,
        limits: Budget::default(),
    }
}

/// An edge whose gate is the test.
struct Party {
    edge: Arc<Edge>,
    arrivals: mpsc::Receiver<Arrival>,
    _gone: mpsc::Receiver<()>,
    /// Connections that it was opened by STARTTLS, and by direct TLS.
    accepted: Arc<[AtomicUsize; 2]>,
}

impl Party {
    /// Of `own`, with a certificate for `shown`, and one partner.
    fn new(own: &str, shown: &str, partner: Entry) -> Self {
        let (edge, arrivals, _gone) = for_tests(Dns::default());
        let (anchor, issuer) = authority();
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(vec![shown.to_owned()]).unwrap().signed_by(&key, issuer).unwrap();
        let der = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let provider = crate::io::tls::provider();
        let key = rustls::sign::CertifiedKey::from_der(vec![leaf.der().clone()], der, &provider).unwrap();
        let policy =
            Arc::new(Table { partners: vec![partner].into(), local_domains: vec![domain(own)], ..Table::default() });
        let set = TrustSet::new(std::slice::from_ref(anchor), &[]).unwrap();
        let mut settings = edge.live.load().settings.clone();
        settings.identities =
            vec![Identity { hostname: format!("sip.{own}"), domains: vec![domain(own)], key: Arc::new(key) }];
        settings.trust = Arc::new(TrustSets::new(vec![set]));
        settings.xmpp = Arc::new(LinkSettings {
            policy: Arc::clone(&policy),
            trust: Arc::clone(&settings.trust),
            secrets: vec![own.as_bytes().to_vec()],
            ..(*settings.xmpp).clone()
        });
        settings.policy = policy;
        edge.live.store(Arc::new(Live::build(settings).unwrap()));
        Self { edge, arrivals, _gone, accepted: Arc::default() }
    }

    /// From now on it finds others by these records.
    fn knows(&self, dns: Dns) {
        let mut settings = self.edge.live.load().settings.clone();
        settings.dns = Dns { servers: vec!["127.0.0.1:1".parse().unwrap()], ..dns };
        self.edge.live.store(Arc::new(Live::build(settings).unwrap()));
    }

    /// Listens, on a port of its own.
    async fn listens(&self, direct: bool) -> u16 {
        self.listens_at("127.0.0.1:0", direct).await
    }

    async fn listens_at(&self, at: &str, direct: bool) -> u16 {
        let listener = TcpListener::bind(at).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (edge, accepted) = (Arc::clone(&self.edge), Arc::clone(&self.accepted));
        tokio::spawn(async move {
            while let Ok((socket, peer)) = listener.accept().await {
                accepted[usize::from(direct)].fetch_add(1, Ordering::SeqCst);
                tokio::spawn(xmpp::accept(Arc::clone(&edge), socket, Side::Outside, peer, None, direct));
            }
        });
        port
    }

    fn accepted(&self) -> [usize; 2] {
        [0, 1].map(|direct| self.accepted[direct].load(Ordering::SeqCst))
    }

    /// Dials the other.
    async fn dials(&mut self, next_hop: Option<HostPort>) -> Input {
        let (from, to) = (domain(CORP), domain(THEIRS));
        let target = Target::XmppPartner { find: to.clone(), next_hop, from, to, identity: 0 };
        let edge = Arc::clone(&self.edge);
        tokio::spawn(dial(edge, HOP, target));
        self.hears().await
    }

    /// The next thing that its gate hears, but refusals.
    async fn hears(&mut self) -> Input {
        loop {
            let arrival = timeout(Duration::from_secs(25), self.arrivals.recv()).await.expect("an arrival in time");
            match arrival.expect("an arrival") {
                Arrival::Input(input) if !matches!(*input, Input::Refused { .. }) => return *input,
                _ => {}
            }
        }
    }
}

/// From and to, whose stream it is, and what was shown.
fn proven(input: Input) -> ((String, String), bool, Evidence) {
    let Input::Proven(proven) = input else { panic!("{input:?}") };
    match proven.proof {
        Proven::Xmpp { from, to, ours, other: Other::Partner(evidence), .. } => {
            assert_eq!((proven.side, proven.hop.is_some()), (Side::Outside, ours));
            ((from.to_string(), to.to_string()), ours, evidence)
        }
        other => panic!("{other:?}"),
    }
}

fn unreachable(input: Input) -> (String, bool) {
    match input {
        Input::Unreachable { hop: HOP, cause, unproven } => (cause, unproven),
        other => panic!("{other:?}"),
    }
}

fn srv(target: &str, port: u16, priority: u16) -> Srv {
    Srv { target: target.to_owned(), port, priority, weight: 0 }
}

/// Records of a domain, and the addresses of their targets.
fn records(of: &str, starttls: &[Srv], direct: &[Srv]) -> Dns {
    let mut dns = Dns::default();
    for (service, records) in [("_xmpp-server", starttls), ("_xmpps-server", direct)] {
        dns.srv.insert(format!("{service}._tcp.{of}"), records.to_vec());
        for record in records.iter().filter(|record| record.target != ".") {
            dns.hosts.insert(record.target.clone(), vec!["127.0.0.1".parse().unwrap()]);
        }
    }
    dns
}

fn by_certificate() -> (Party, Party) {
    let demands = |of| entry(of, TlsMode::Required, &[Proof::Certificate]);
    (Party::new(CORP, CORP, demands(THEIRS)), Party::new(THEIRS, THEIRS, demands(CORP)))
}

/// A port that nobody listens on, and one whose owner says nothing.
async fn closed_and_mute() -> (u16, u16) {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = mute.local_addr().unwrap().port();
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((socket, _)) = mute.accept().await {
            kept.push(socket);
        }
    });
    (closed, port)
}

#[tokio::test]
async fn by_starttls_and_by_direct_tls_each_end_proves_itself() {
    for is_direct in [false, true] {
        let (mut corp, mut theirs) = by_certificate();
        let way = [srv("host.xmpp.example", theirs.listens(is_direct).await, 0)];
        let (starttls, direct) = if is_direct { (&[][..], &way[..]) } else { (&way[..], &[][..]) };
        corp.knows(records(THEIRS, starttls, direct));
        let pair = (CORP.to_owned(), THEIRS.to_owned());
        let (of_corp, ours, shown) = proven(corp.dials(None).await);
        assert_eq!((of_corp, ours, shown.tls, shown.by), (pair.clone(), true, true, Proof::Certificate));
        let reached = Opened::ByUs { domain: domain(THEIRS), host: Some("host.xmpp.example".to_owned()), typed: false };
        assert_eq!(shown.opened, reached);
        let (of_theirs, ours, shown) = proven(theirs.hears().await);
        assert_eq!((of_theirs, ours, shown.tls, shown.by), (pair, false, true, Proof::Certificate));
        assert_eq!(shown.opened, Opened::ByPeer);
        assert_eq!(theirs.accepted(), [usize::from(!is_direct), usize::from(is_direct)]);
    }
}

#[tokio::test]
async fn a_typed_next_hop_asks_no_dns_and_begins_with_starttls() {
    let (mut corp, theirs) = by_certificate();
    corp.knows(Dns::default());
    let port = theirs.listens(false).await;
    let (_, _, shown) = proven(corp.dials(Some(HostPort { host: "127.0.0.1".to_owned(), port })).await);
    assert_eq!(shown.opened, Opened::ByUs { domain: domain(THEIRS), host: None, typed: true });
}

#[tokio::test]
async fn both_names_are_one_list_by_priority() {
    let (mut corp, theirs) = by_certificate();
    let (closed, mute) = closed_and_mute().await;
    let good = theirs.listens(false).await;
    let never = theirs.listens(true).await;
    let starttls = [srv("c.xmpp.example", good, 30), srv("a.xmpp.example", closed, 10)];
    let direct = [srv("b.xmpp.example", mute, 20), srv("d.xmpp.example", never, 40)];
    corp.knows(records(THEIRS, &starttls, &direct));
    let begun = Instant::now();
    let (_, _, shown) = proven(corp.dials(None).await);
    let Opened::ByUs { host, .. } = shown.opened else { panic!("{:?}", shown.opened) };
    assert_eq!(host.as_deref(), Some("c.xmpp.example"));
    assert_eq!(theirs.accepted(), [1, 0]);
    assert!(begun.elapsed() < DIAL, "who says nothing has his share of the time: {:?}", begun.elapsed());
}

#[tokio::test]
async fn who_answers_and_is_somebody_else_leaves_the_next_to_be_tried() {
    let (mut corp, theirs) = by_certificate();
    let demands = entry(CORP, TlsMode::Required, &[Proof::Certificate]);
    let wrong = Party::new(THEIRS, "else.example", demands);
    let (wrong, wrong_direct) = (wrong.listens(false).await, wrong.listens(true).await);
    let good = theirs.listens(true).await;
    let (first, second) = (srv("a.xmpp.example", wrong, 10), srv("b.xmpp.example", wrong_direct, 20));
    corp.knows(records(THEIRS, std::slice::from_ref(&first), &[second.clone(), srv("c.xmpp.example", good, 30)]));
    let (_, _, shown) = proven(corp.dials(None).await);
    assert!(matches!(shown.opened, Opened::ByUs { host: Some(host), .. } if host == "c.xmpp.example"));

    corp.knows(records(THEIRS, &[first], &[second]));
    let (cause, unproven) = loop {
        match corp.dials(None).await {
            // The stream of before has nobody to talk to.
            Input::Closed { .. } => {}
            input => break unreachable(input),
        }
    };
    assert!(unproven, "somebody was there: {cause}");
    let parts: Vec<&str> = cause.split("; ").collect();
    assert!(cause.contains(&format!("a.xmpp.example 127.0.0.1:{wrong}: ")), "{cause}");
    assert!(
        parts.iter().any(|part| part.starts_with(&format!("b.xmpp.example 127.0.0.1:{wrong_direct}: "))),
        "{cause}"
    );
    assert_eq!(cause.matches("else.example").count(), 2, "what each showed: {cause}");
}

#[tokio::test]
async fn a_service_that_is_not_offered_is_not_guessed_at() {
    let (mut corp, _theirs) = by_certificate();
    let none = [srv(".", 0, 0)];
    corp.knows(records(THEIRS, &none, &none));
    let (cause, unproven) = unreachable(corp.dials(None).await);
    assert!(cause.contains("_xmpp-server._tcp.xmpp.example says that the service is not offered"), "{cause}");
    assert!(!unproven);
}

#[tokio::test]
async fn without_srv_records_the_domains_own_address_and_port_5269() {
    let (mut corp, theirs) = by_certificate();
    // The port is given: the address is of this process.
    let [.., high, low] = std::process::id().to_be_bytes();
    let host = format!("127.62.{high}.{low}");
    theirs.listens_at(&format!("{host}:5269"), false).await;
    // That there is no direct TLS says nothing of STARTTLS.
    let mut dns = records(THEIRS, &[], &[srv(".", 0, 0)]);
    dns.hosts.insert(THEIRS.to_owned(), vec![host.parse().unwrap()]);
    corp.knows(dns);
    let (_, _, shown) = proven(corp.dials(None).await);
    assert!(matches!(shown.opened, Opened::ByUs { host: Some(host), typed: false, .. } if host == THEIRS));
}

#[tokio::test]
async fn a_key_is_verified_wherever_the_domains_own_server_is() {
    for is_direct in [false, true] {
        // Our certificate proves nothing to them, so they ask back.
        let demands = |of, proof: &[Proof]| entry(of, TlsMode::Required, proof);
        let mut corp = Party::new(CORP, "else.example", demands(THEIRS, &[Proof::Certificate]));
        let mut theirs = Party::new(THEIRS, THEIRS, demands(CORP, &[Proof::Certificate, Proof::Dialback]));
        let (closed, _) = closed_and_mute().await;
        let way = [srv("a.corp.example", closed, 10), srv("b.corp.example", corp.listens(is_direct).await, 20)];
        let (starttls, direct) = if is_direct { (&way[..1], &way[1..]) } else { (&way[1..], &way[..1]) };
        theirs.knows(records(CORP, starttls, direct));
        corp.knows(records(THEIRS, &[srv("host.xmpp.example", theirs.listens(false).await, 0)], &[]));
        let (_, ours, shown) = proven(corp.dials(None).await);
        assert_eq!((ours, shown.by), (true, Proof::Certificate));
        let (pair, _, shown) = proven(theirs.hears().await);
        assert_eq!((pair.0.as_str(), shown.by, shown.tls), (CORP, Proof::Dialback, true));
        assert_eq!(corp.accepted()[usize::from(is_direct)], 1, "the question came by the second record");
    }
}

#[tokio::test]
async fn a_key_that_nobody_vouches_for_proves_nothing() {
    let demands = |of, proof: &[Proof]| entry(of, TlsMode::Required, proof);
    let mut corp = Party::new(CORP, "else.example", demands(THEIRS, &[Proof::Certificate]));
    let theirs = Party::new(THEIRS, THEIRS, demands(CORP, &[Proof::Dialback]));
    let (closed, _) = closed_and_mute().await;
    theirs.knows(records(CORP, &[srv("a.corp.example", closed, 10)], &[]));
    corp.knows(records(THEIRS, &[srv("host.xmpp.example", theirs.listens(false).await, 0)], &[]));
    let (cause, _) = unreachable(corp.dials(None).await);
    assert!(cause.contains("host.xmpp.example 127.0.0.1:"), "{cause}");
}

#[tokio::test]
async fn a_partner_without_tls_is_not_asked_for_it() {
    let demands = |of| entry(of, TlsMode::Off, &[Proof::Dialback]);
    let (mut corp, mut theirs) = (Party::new(CORP, CORP, demands(THEIRS)), Party::new(THEIRS, THEIRS, demands(CORP)));
    let direct = theirs.listens(true).await;
    let starttls = theirs.listens(false).await;
    theirs.knows(records(CORP, &[srv("host.corp.example", corp.listens(false).await, 0)], &[]));
    corp.knows(records(THEIRS, &[srv("a.xmpp.example", starttls, 20)], &[srv("b.xmpp.example", direct, 10)]));
    let (_, _, shown) = proven(corp.dials(None).await);
    assert_eq!((shown.tls, shown.by), (false, Proof::Dialback));
    let (_, _, shown) = proven(theirs.hears().await);
    assert_eq!((shown.tls, shown.by), (false, Proof::Dialback));
    assert_eq!(theirs.accepted(), [1, 0]);
}

#[tokio::test]
async fn our_own_inside_is_nobodys_server() {
    let (mut corp, theirs) = by_certificate();
    let port = theirs.listens(false).await;
    for inside in ["127.0.0.1", "0.0.0.0", "[::]"] {
        let mut settings = corp.edge.live.load().settings.clone();
        settings.listeners.inside_xmpp = vec![format!("{inside}:{port}").parse().unwrap()];
        corp.edge.live.store(Arc::new(Live::build(settings).unwrap()));
        corp.knows(records(THEIRS, &[srv("host.xmpp.example", port, 0)], &[]));
        let (cause, _) = unreachable(corp.dials(None).await);
        assert!(cause.contains("our own [inside] listener"), "{cause}");
        let next_hop = HostPort { host: "127.0.0.1".to_owned(), port };
        assert!(unreachable(corp.dials(Some(next_hop)).await).0.contains("our own [inside] listener"));
    }
    assert_eq!(theirs.accepted(), [0, 0]);
}

#[tokio::test]
async fn a_node_that_is_not_there_leaves_the_next_of_its_domain_to_be_asked() {
    let theirs = Party::new(THEIRS, THEIRS, entry(CORP, TlsMode::Off, &[Proof::Dialback]));
    let (closed, _) = closed_and_mute().await;
    let node = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut settings = theirs.edge.live.load().settings.clone();
    let served = |name: &str, priority, port| Node {
        name: name.into(),
        protocol: NodeProtocol::Xmpp,
        address: HostPort { host: "127.0.0.1".to_owned(), port },
        tls_name: None,
        verify: NodeProof::Dialback,
        sources: Vec::new(),
        domains: vec![domain(THEIRS)],
        users: Vec::new(),
        routing: true,
        priority,
        weight: 0,
        public_port: 0,
        facing: None,
        profile: Profile::Generic,
        component: None,
    };
    settings.nodes = vec![served("b", 20, node.local_addr().unwrap().port()), served("a", 10, closed)];
    theirs.edge.live.store(Arc::new(Live::build(settings).unwrap()));
    let request = VerifyRequest {
        originating: domain(THEIRS),
        receiving: domain(CORP),
        stream_id: "1".to_owned(),
        key: "k".to_owned(),
    };
    let asked = tokio::spawn(verify(Arc::clone(&theirs.edge), Side::Inside, request));
    let (mut socket, _) = timeout(Duration::from_secs(5), node.accept()).await.expect("the second is asked").unwrap();
    let header = "<stream:stream xmlns='jabber:server' xmlns:db='jabber:server:dialback' xmlns:stream='http://etherx.jabber.org/streams' id='x'>";
    let answer = format!("{header}<db:verify from='{THEIRS}' to='{CORP}' id='1' type='valid'/>");
    tokio::io::AsyncWriteExt::write_all(&mut socket, answer.as_bytes()).await.unwrap();
    assert_eq!(timeout(Duration::from_secs(5), asked).await.unwrap().unwrap(), Verdict::Valid);
}
