//! The play's cast and scenery: a folder with a PKI and a configuration, the edge, the partner, the stranger and the node, all on loopback.

use super::node::Node;
use super::partner::Partner;
use super::scenes::{JULIET, ROMEO, TYBALT};
use super::seen::Peer;
use super::stage::{Missing, Reports, Stage};
use super::texts::{self, Places};
use crate::app::{self, Running};
use crate::cli::certs::{self, Spec};
use crate::config::ask::{self, Ask};
use crate::config::{self, Options};
use crate::gate::partner::Action;
use crate::gate::policy::Table;
use crate::io::listen::Kind;
use serde_json::Value;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

/// Any free port of this machine alone.
const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
/// The stranger's certificate: good, and of no use.
const STRANGER: Spec<'static> =
    Spec { name: "stranger", common_name: "sip.stranger.example", dns: &["sip.stranger.example"] };
/// For what the edge records of what the peers have seen already.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between looks at what the edge records a moment after it happens.
const AGAIN: Duration = Duration::from_millis(50);

/// Everybody, and where they are.
pub struct Play {
    /// Where it is told.
    pub stage: Stage,
    /// The listed partner.
    pub partner: Partner,
    /// Somebody else.
    pub stranger: Partner,
    /// The inside.
    pub node: Node,
    /// The edge.
    pub edge: Running,
    /// Its outside listener.
    pub outside: SocketAddr,
    /// Call-ID of Romeo's subscription.
    pub watch: String,
    admin: SocketAddr,
    policy: Arc<Table>,
    folder: PathBuf,
}

impl Play {
    /// Makes the PKI, starts everybody, writes the configuration into the folder for whoever wants to look.
    pub async fn set(stage: Stage, reports: Reports, folder: &Path, policies: &str) -> Result<Self, String> {
        let certificates = folder.join("certs");
        certs::make(&certificates, &[certs::EXAMPLE[0], certs::EXAMPLE[1], STRANGER])?;
        let start = |who, host: &'static str, name: &'static str| {
            Partner::start(who, host, &certificates, name, reports.clone())
        };
        let partner = start(Peer::Partner, "sip.lync.example", "partner").await?;
        let stranger = start(Peer::Stranger, "sip.stranger.example", "stranger").await?;
        let node = Node::start("juliet", "corp.example", reports.clone()).await?;

        let wanted = Places { outside: ANY, inside: ANY, admin: ANY, partner: partner.at, node: node.at };
        let text = texts::config(&wanted);
        let embedded = [(texts::CONFIG, text.as_str()), (texts::POLICIES, policies)];
        let report = config::load_str(folder.to_owned(), texts::CONFIG, embedded, Options::start(super::super::now()));
        let loaded = report.into_result().map_err(|problems| super::super::problems_text(&problems))?;
        let policy = Arc::clone(&loaded.gate.policy);
        let edge = app::start(app::Loaded::new(loaded, Vec::new()), None).await?;
        let (Some(outside), Some(inside), Some(admin)) =
            (edge.address(Kind::OutsideSip), edge.address(Kind::InsideXmpp), edge.admin)
        else {
            return Err("the edge has not opened all its listeners".to_owned());
        };
        node.meet(inside);
        // As it came to be, so that `fedgate check` and `fedgate explain` of another terminal say what is true.
        write(folder, texts::CONFIG, &texts::config(&Places { outside, inside, admin, ..wanted }))?;
        write(folder, texts::POLICIES, policies)?;
        let (watch, folder) = (String::new(), folder.to_owned());
        Ok(Self { stage, partner, stranger, node, edge, outside, watch, admin, policy, folder })
    }

    /// What the edge says of a refusal, found by the ID in its Warning, and how policy came to it.
    pub async fn explain(&mut self, warning: &str) -> Result<(), String> {
        // Warning: 399 HOST "fedgate ID reason …"
        let id = warning.split('"').nth(1).and_then(|text| text.split(' ').nth(1)).unwrap_or_default().to_owned();
        if id.is_empty() {
            return Err(format!("no ID in the Warning {warning:?}"));
        }
        let decision = self.decision(&id).await?;
        let field = |name: &str| decision.get(name).and_then(Value::as_str).unwrap_or_default();
        if field("verdict") != "refused" || !warning.contains(field("reason")) || !field("from").contains(TYBALT) {
            return Err(format!("the edge recorded something else under {id}: {decision}"));
        }
        self.stage.remark(&format!("decision {id}: {}, {}: {}", field("verdict"), field("reason"), field("because")));
        let (from, to) = (ask::typed(&format!("sip:{TYBALT}"))?, ask::typed(JULIET)?);
        let ask = Ask::new(&self.policy, from, to, Action::Subscribe, None);
        for step in self.policy.explain(ask.question()) {
            self.stage.remark(&format!("{}  {}", if step.passed { "ok" } else { "no" }, step.text));
        }
        Ok(())
    }

    /// A decision as the admin listener gives it.
    async fn decision(&self, id: &str) -> Result<Value, String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.ask_admin(&format!("/api/decisions/{id}")).await;
            match answer.and_then(|body| serde_json::from_str(&body).map_err(|error| error.to_string())) {
                Ok(decision) => return Ok(decision),
                Err(error) if Instant::now() > deadline => return Err(format!("no decision {id}: {error}")),
                // It is recorded by a thread of its own, a moment after the answer has left.
                Err(_) => sleep(AGAIN).await,
            }
        }
    }

    /// Counts what the peers saw and what the edge counted; they must agree.
    pub async fn sum_up(&mut self) -> Result<(), String> {
        self.stage.say("\nOn the wire, as the peers saw it");
        for (by, name) in [(Peer::Partner, "partner"), (Peer::Stranger, "stranger"), (Peer::Node, "node")] {
            for (sent, did) in [(true, "sent"), (false, "received")] {
                let counts: Vec<String> = self
                    .stage
                    .tally()
                    .filter(|(peer, was_sent, kind, _)| *peer == by && *was_sent == sent && *kind != "connection")
                    .map(|(_, _, kind, count)| format!("{count} {kind}"))
                    .collect();
                if !counts.is_empty() {
                    self.stage.say(&format!("    {name:<9}{did:<9}{}", counts.join(", ")));
                }
            }
        }
        let stage = &self.stage;
        let expected = [
            (
                "fedgate_messages_total",
                r#"direction="in",kind="message",outcome="delivered",partner="lync.example""#,
                stage.count(Peer::Node, false, "<message>"),
            ),
            (
                "fedgate_messages_total",
                r#"direction="out",kind="message",outcome="delivered",partner="lync.example""#,
                stage.count(Peer::Partner, false, "MESSAGE"),
            ),
            ("fedgate_subscriptions", r#"partner="lync.example",state="active""#, 2),
            ("fedgate_refusals_total", r#"reason="unlisted-domain""#, stage.count(Peer::Stranger, false, "403")),
        ];
        self.stage.say("As the edge counted it (/metrics)");
        for (name, labels, on_the_wire) in expected {
            let counted = self.metric(name, labels, on_the_wire).await?;
            self.stage.say(&format!("    {name}{{{labels}}} {counted}"));
            if counted != on_the_wire {
                return Err(format!("{name}{{{labels}}} is {counted}, but {on_the_wire} were on the wire"));
            }
        }
        Ok(())
    }

    /// The sum of a metric's samples that have these labels; looked at until it is as wanted, or for long enough.
    async fn metric(&self, name: &str, labels: &str, wanted: u64) -> Result<u64, String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let text = self.ask_admin("/metrics").await?;
            let samples = text.lines().filter(|line| line.starts_with(&format!("{name}{{")) && line.contains(labels));
            let sum = samples.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum();
            if sum == wanted || Instant::now() > deadline {
                return Ok(sum);
            }
            sleep(AGAIN).await;
        }
    }

    /// GET, from the admin listener (HTTP/1.1).
    async fn ask_admin(&self, path: &str) -> Result<String, String> {
        let admin = self.admin;
        let asked = async {
            let mut socket = TcpStream::connect(admin).await?;
            let request = format!("GET {path} HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n");
            socket.write_all(request.as_bytes()).await?;
            let mut answer = String::new();
            socket.read_to_string(&mut answer).await?;
            Ok::<_, std::io::Error>(answer)
        };
        let answer = timeout(PATIENCE, asked).await.map_err(|_| format!("GET {path}: no answer"))?;
        let answer = answer.map_err(|error| format!("GET {path}: {error}"))?;
        match answer.split_once("\r\n\r\n") {
            Some((head, body)) if head.starts_with("HTTP/1.1 200") => Ok(body.to_owned()),
            _ => Err(format!("GET {path}: {}", answer.lines().next().unwrap_or("nothing"))),
        }
    }

    /// What can be done while it stays up.
    pub fn say_where_to_look(&mut self) {
        let (folder, admin) = (self.folder.display(), self.admin);
        let config = self.folder.join(texts::CONFIG);
        let config = config.display();
        let text = format!(
            "\nWhere to look\n    \
             http://{admin}/            the status page; /metrics, /healthz, /api/decisions\n    \
             {folder}\n        \
             fedgate.toml, policies/  the configuration; certs/ the PKI; audit.jsonl every decision\n\
             What to try, in another terminal\n    \
             fedgate check --config {config}\n    \
             fedgate explain --config {config} --from {ROMEO} --to {JULIET} --do subscribe\n    \
             fedgate explain --config {config} --from sip:{TYBALT} --to {JULIET} --do subscribe\n\
             Ctrl-C ends it."
        );
        self.stage.say(&text);
    }
}

impl From<Missing> for String {
    fn from(missing: Missing) -> Self {
        missing.to_string()
    }
}

fn write(folder: &Path, name: &str, text: &str) -> Result<(), String> {
    let path = folder.join(name);
    let words = |error: std::io::Error| format!("{}: {error}", path.display());
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(words)?;
    }
    std::fs::write(&path, text).map_err(words)
}
