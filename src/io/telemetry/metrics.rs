//! The metrics of the contract. Labels come from configured names only; whatever else an event names is counted as `other`.

use crate::gate::event::{Outcome, Settled};
use crate::gate::partner::{Action, Protocol, Side};
use crate::gate::reject::Reason;
use crate::gate::{Event, Path, Snapshot};
use prometheus::{
    GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};
use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::time::Duration;

const OTHER: &str = "other";
const OUTCOMES: [Outcome; 4] = [Outcome::Delivered, Outcome::Refused, Outcome::Failed, Outcome::Uncertain];
const SIDES: [Side; 2] = [Side::Outside, Side::Inside];
const PROTOCOLS: [Protocol; 2] = [Protocol::Sip, Protocol::Xmpp];

/// How a connection attempt ended, for `links_opened_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// It may carry messages.
    Opened,
    /// Refused for a reason of ours.
    Refused,
    /// It came to nothing for any other reason.
    Failed,
    /// Dropped: its address block connects too often, or newer ones needed its place among the unproven.
    Limited,
}

/// Everything that is counted.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    links: IntGaugeVec,
    links_opened: IntCounterVec,
    handshake: Histogram,
    messages: IntCounterVec,
    refusals: IntCounterVec,
    subscriptions: IntGaugeVec,
    chats: IntGaugeVec,
    unresolved: IntGauge,
    transit: [Histogram; 4],
    node_up: IntGaugeVec,
    certificate_expiry: GaugeVec,
    partner_certificate_expiry: GaugeVec,
    reloads: IntCounterVec,
    store: HistogramVec,
    store_errors: IntCounterVec,
    store_up: IntGauge,
    partners: arc_swap::ArcSwap<BTreeMap<String, Handles>>,
}

/// One partner's counters, resolved once.
#[derive(Debug, Default)]
struct Handles {
    /// By side, protocol, action and outcome ([`place`]).
    messages: Vec<OnceLock<IntCounter>>,
    /// As in [`Reason::ALL`].
    refusals: Vec<OnceLock<IntCounter>>,
}

impl Metrics {
    /// With these partner labels.
    pub fn new(labels: Vec<String>) -> Result<Self, String> {
        Self::build(labels).map_err(|error| error.to_string())
    }

    fn build(labels: Vec<String>) -> Result<Self, prometheus::Error> {
        let registry = Registry::new_custom(Some("fedgate".to_owned()), None)?;
        let counter = |name: &str, help: &str, names: &[&str]| -> Result<IntCounterVec, prometheus::Error> {
            let vec = IntCounterVec::new(Opts::new(name, help), names)?;
            registry.register(Box::new(vec.clone()))?;
            Ok(vec)
        };
        let gauge = |name: &str, help: &str, names: &[&str]| -> Result<IntGaugeVec, prometheus::Error> {
            let vec = IntGaugeVec::new(Opts::new(name, help), names)?;
            registry.register(Box::new(vec.clone()))?;
            Ok(vec)
        };
        let expiry = |name: &str, help: &str, names: &[&str]| -> Result<GaugeVec, prometheus::Error> {
            let vec = GaugeVec::new(Opts::new(name, help), names)?;
            registry.register(Box::new(vec.clone()))?;
            Ok(vec)
        };
        let histogram =
            |name: &str, help: &str, names: &[&str], buckets: &[f64]| -> Result<HistogramVec, prometheus::Error> {
                let vec = HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets.to_vec()), names)?;
                registry.register(Box::new(vec.clone()))?;
                Ok(vec)
            };
        let fast =
            [0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];
        let slow = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

        let build_info = gauge("build_info", "Always 1; the label tells the version.", &["version"])?;
        build_info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let transit =
            histogram("transit_seconds", "From a message received whole to handed to the next hop.", &["path"], &fast)?;
        let unresolved =
            IntGauge::new("unresolved_messages_total", "Messages neither delivered nor failed; must stay 0.")?;
        registry.register(Box::new(unresolved.clone()))?;
        let store_up = IntGauge::new("store_up", "Whether the state store can be written; 1 without one.")?;
        registry.register(Box::new(store_up.clone()))?;
        store_up.set(1);
        let metrics = Self {
            links: gauge("links", "Open links.", &["side", "protocol"])?,
            links_opened: counter(
                "links_opened_total",
                "Connections by how they began.",
                &["side", "protocol", "outcome"],
            )?,
            handshake: histogram("tls_handshake_seconds", "TLS handshakes that succeeded.", &[], &slow)?
                .with_label_values::<&str>(&[]),
            messages: counter(
                "messages_total",
                "Requests by partner and outcome.",
                &["partner", "direction", "protocol", "kind", "outcome"],
            )?,
            refusals: counter("refusals_total", "Refusals by partner and reason.", &["partner", "reason"])?,
            subscriptions: gauge("subscriptions", "Live presence subscriptions.", &["partner", "state"])?,
            chats: gauge("chats", "Open IM sessions.", &["partner"])?,
            unresolved,
            transit: ["sip-sip", "xmpp-xmpp", "sip-xmpp", "xmpp-sip"].map(|path| transit.with_label_values(&[path])),
            node_up: gauge("node_up", "Whether an inside node is up.", &["node"])?,
            certificate_expiry: expiry(
                "certificate_expiry_timestamp_seconds",
                "End of validity of an identity's certificate.",
                &["identity"],
            )?,
            partner_certificate_expiry: expiry(
                "partner_certificate_expiry_timestamp_seconds",
                "End of validity of the certificate that a partner showed last.",
                &["partner"],
            )?,
            reloads: counter("reloads_total", "Reloads by outcome.", &["outcome"])?,
            store: histogram("store_seconds", "Operations of the state store.", &["operation"], &fast)?,
            store_errors: counter("store_errors_total", "Operations of the state store that failed.", &["operation"])?,
            store_up,
            partners: arc_swap::ArcSwap::from_pointee(BTreeMap::new()),
            registry,
        };
        for side in SIDES {
            for protocol in PROTOCOLS {
                metrics.links.with_label_values(&[side.as_str(), protocol.as_str()]).set(0);
            }
        }
        for outcome in ["ok", "failed"] {
            metrics.reloads.with_label_values(&[outcome]);
        }
        metrics.set_partners(labels);
        Ok(metrics)
    }

    /// The partner entries' labels after a reload. Counters of entries that are gone stay as they are.
    pub fn set_partners(&self, mut labels: Vec<String>) {
        labels.push(OTHER.to_owned());
        let handles = labels.into_iter().map(|label| (label, Handles::all())).collect();
        self.partners.store(std::sync::Arc::new(handles));
    }

    /// The identities' certificates: hostname, end of validity.
    pub fn set_identities(&self, identities: impl Iterator<Item = (String, u64)>) {
        self.certificate_expiry.reset();
        for (hostname, not_after) in identities {
            self.certificate_expiry.with_label_values(&[hostname.as_str()]).set(seconds(not_after));
        }
    }

    /// A partner's certificate, as its connection showed it.
    pub fn partner_certificate(&self, label: &str, not_after: u64) {
        if self.partners.load().contains_key(label) {
            self.partner_certificate_expiry.with_label_values(&[label]).set(seconds(not_after));
        }
    }

    /// How a connection began.
    pub fn link(&self, side: Side, protocol: Protocol, count: Count) {
        let outcome = match count {
            Count::Opened => "opened",
            Count::Refused => "refused",
            Count::Failed => "failed",
            Count::Limited => "limited",
        };
        self.links_opened.with_label_values(&[side.as_str(), protocol.as_str(), outcome]).inc();
    }

    /// A TLS handshake that succeeded.
    pub fn handshake(&self, took: Duration) {
        self.handshake.observe(took.as_secs_f64());
    }

    /// A message handed to the next hop.
    pub fn transit(&self, path: Path, took: Duration) {
        let [sip_sip, xmpp_xmpp, sip_xmpp, xmpp_sip] = &self.transit;
        match path {
            Path::SipSip => sip_sip,
            Path::XmppXmpp => xmpp_xmpp,
            Path::SipXmpp => sip_xmpp,
            Path::XmppSip => xmpp_sip,
        }
        .observe(took.as_secs_f64());
    }

    /// A reload.
    pub fn reload(&self, ok: bool) {
        self.reloads.with_label_values(&[if ok { "ok" } else { "failed" }]).inc();
    }

    /// A store operation failed.
    pub fn store_error(&self, operation: &'static str) {
        self.store_errors.with_label_values(&[operation]).inc();
    }

    /// Whether what must outlive this run can be written down now.
    pub fn store_up(&self, up: bool) {
        self.store_up.set(i64::from(up));
    }

    /// A store operation: `commit`, `restore`.
    pub fn store(&self, operation: &'static str, took: Duration) {
        self.store.with_label_values(&[operation]).observe(took.as_secs_f64());
    }

    /// Counts what an event says.
    pub(super) fn count(&self, event: &Event) {
        match event {
            Event::Settled(settled) => self.settled(settled),
            Event::Decided(decision) => {
                if let Some(reason) = decision.refused {
                    self.refused(&decision.partner, reason);
                }
            }
            Event::Shown { partner, not_after } => self.partner_certificate(partner, *not_after),
            Event::LinkOpened { side, protocol, .. } => self.link(*side, *protocol, Count::Opened),
            Event::Unreachable { side, protocol, .. } => self.link(*side, *protocol, Count::Failed),
            Event::LinkClosed { .. } | Event::NodeUp { .. } | Event::Reloaded { .. } | Event::Noticed { .. } => {}
        }
    }

    /// Counts how a message or request ended.
    pub fn settled(&self, settled: &Settled) {
        let partners = self.partners.load();
        let (label, handles) = known(&partners, &settled.partner);
        let handle = handles.and_then(|handles| handles.messages.get(place(settled)?));
        let Some(handle) = handle else { return };
        handle
            .get_or_init(|| {
                let direction = if settled.side == Side::Outside { "in" } else { "out" };
                self.messages.with_label_values(&[
                    label,
                    direction,
                    settled.protocol.as_str(),
                    settled.action.as_str(),
                    settled.outcome.as_str(),
                ])
            })
            .inc();
    }

    fn refused(&self, partner: &str, reason: Reason) {
        let partners = self.partners.load();
        let (label, handles) = known(&partners, partner);
        let handle = handles.and_then(|handles| handles.refusals.get(index(&Reason::ALL, reason)?));
        let Some(handle) = handle else { return };
        handle.get_or_init(|| self.refusals.with_label_values(&[label, reason.as_str()])).inc();
    }

    /// The text format, with the gate's state if it answered.
    pub fn text(&self, snapshot: Option<&Snapshot>) -> String {
        if let Some(snapshot) = snapshot {
            self.take(snapshot);
        }
        TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap_or_default()
    }

    fn take(&self, snapshot: &Snapshot) {
        self.links.reset();
        for side in SIDES {
            for protocol in PROTOCOLS {
                let open =
                    snapshot.links.iter().filter(|(s, p, _)| *s == side && *p == protocol).map(|(.., n)| *n).sum();
                self.links.with_label_values(&[side.as_str(), protocol.as_str()]).set(count(open));
            }
        }
        self.subscriptions.reset();
        let partners = self.partners.load();
        for (partner, state, n) in &snapshot.subscriptions {
            let (label, _) = known(&partners, partner);
            self.subscriptions.with_label_values(&[label, state]).add(count(*n));
        }
        self.chats.reset();
        for (partner, n) in &snapshot.chats {
            let (label, _) = known(&partners, partner);
            self.chats.with_label_values(&[label]).add(count(*n));
        }
        self.node_up.reset();
        for (node, up) in &snapshot.nodes_up {
            self.node_up.with_label_values(&[node.as_str()]).set(i64::from(*up));
        }
        self.unresolved.set(count(snapshot.unresolved));
    }
}

impl Handles {
    fn all() -> Self {
        let many = |places| std::iter::repeat_with(OnceLock::new).take(places).collect();
        let kinds = SIDES.len() * PROTOCOLS.len() * Action::ALL.len() * OUTCOMES.len();
        Self { messages: many(kinds), refusals: many(Reason::ALL.len()) }
    }
}

fn known<'a>(partners: &'a BTreeMap<String, Handles>, label: &str) -> (&'a str, Option<&'a Handles>) {
    match partners.get_key_value(label).or_else(|| partners.get_key_value(OTHER)) {
        Some((label, handles)) => (label, Some(handles)),
        None => (OTHER, None),
    }
}

/// Where the counter of such an outcome stands.
fn place(settled: &Settled) -> Option<usize> {
    let kind = index(&SIDES, settled.side)? * PROTOCOLS.len() + index(&PROTOCOLS, settled.protocol)?;
    let kind = kind * Action::ALL.len() + index(Action::ALL, settled.action)?;
    Some(kind * OUTCOMES.len() + index(&OUTCOMES, settled.outcome)?)
}

fn index<T: PartialEq + Copy>(all: &[T], one: T) -> Option<usize> {
    all.iter().position(|other| *other == one)
}

fn count(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

#[allow(clippy::cast_precision_loss)] // seconds of this and the next centuries are exact in an f64
fn seconds(unix: u64) -> f64 {
    unix as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_come_from_configuration_only() {
        let metrics = Metrics::new(vec!["lync.example".to_owned()]).unwrap();
        for partner in ["lync.example", "evil\"}.example"] {
            metrics.count(&Event::Settled(Settled {
                partner: partner.into(),
                side: Side::Outside,
                protocol: Protocol::Sip,
                action: Action::Message,
                outcome: Outcome::Delivered,
            }));
        }
        let text = metrics.text(Some(&Snapshot {
            subscriptions: vec![
                ("lync.example".into(), "active", 3),
                ("x".into(), "active", 1),
                ("y".into(), "active", 1),
            ],
            chats: vec![("lync.example".into(), 2), ("x".into(), 1)],
            nodes_up: vec![("imp-1".into(), true)],
            links: vec![(Side::Outside, Protocol::Sip, 2)],
            unresolved: 0,
        }));
        let line = |line: &str| assert!(text.lines().any(|l| l == line), "no `{line}` in\n{text}");
        line(
            r#"fedgate_messages_total{direction="in",kind="message",outcome="delivered",partner="lync.example",protocol="sip"} 1"#,
        );
        line(
            r#"fedgate_messages_total{direction="in",kind="message",outcome="delivered",partner="other",protocol="sip"} 1"#,
        );
        line(r#"fedgate_subscriptions{partner="lync.example",state="active"} 3"#);
        line(r#"fedgate_chats{partner="lync.example"} 2"#);
        line(r#"fedgate_chats{partner="other"} 1"#);
        line(r#"fedgate_subscriptions{partner="other",state="active"} 2"#);
        line(r#"fedgate_links{protocol="sip",side="outside"} 2"#);
        line(r#"fedgate_node_up{node="imp-1"} 1"#);
        line("fedgate_unresolved_messages_total 0");
        assert!(!text.contains("evil"));
    }
}
