//! `fedgate explain`: decides hypothetically by today's policy and tells every step; or, of an ID, what was decided.

use crate::cli::{USAGE, complain, decision, load, print, problems_text, replay};
use crate::config::Loaded;
use crate::config::ask::{self, Ask, Typed};
use crate::gate::partner::{Action, Node, NodeProtocol, Protocol, Side};
use crate::gate::reject::{DecisionId, Reason, Reject};
use crate::gate::route::table;
use serde_json::{Value, json};
use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;

/// What can be typed after `explain`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A decision's ID, as in the reply, the log and the audit
    #[arg(value_name = "ID", conflicts_with_all = ["from", "to", "action"])]
    pub id: Option<String>,
    /// Who asks: user@domain, sip:user@domain or xmpp:user@domain/resource
    #[arg(long, value_name = "ADDR", value_parser = ask::typed, required_unless_present_any = ["id", "replay"])]
    pub from: Option<Typed>,
    /// Who is addressed, written likewise
    #[arg(long, value_name = "ADDR", value_parser = ask::typed, required_unless_present_any = ["id", "replay"])]
    pub to: Option<Typed>,
    /// What: subscribe, presence, message, chat, groupchat, iq, file, call or other
    #[arg(long = "do", value_name = "ACTION", value_parser = action, required_unless_present_any = ["id", "replay"])]
    pub action: Option<Action>,
    /// Decide every remembered decision again by the policy as written now, and tell which would change
    #[arg(long, conflicts_with_all = ["id", "from", "to", "action"])]
    pub replay: bool,
    /// How the partner speaks: sip or xmpp; else as its address or entry says
    #[arg(long, value_name = "PROTOCOL", value_parser = protocol)]
    pub protocol: Option<Protocol>,
    /// The config file; else ./fedgate.toml, else /etc/fedgate/fedgate.toml
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print JSON, for programs
    #[arg(long)]
    pub json: bool,
}

fn action(word: &str) -> Result<Action, String> {
    Action::parse(word).ok_or_else(|| {
        let words: Vec<&str> = Action::ALL.iter().map(|action| action.as_str()).collect();
        format!("write one of {}", words.join(", "))
    })
}

fn protocol(word: &str) -> Result<Protocol, String> {
    Protocol::parse(word).ok_or_else(|| "write sip or xmpp".to_owned())
}

/// Decides and prints.
pub fn main(args: Args) -> ExitCode {
    if let Some(id) = &args.id {
        return decision::main(args.config.as_deref(), id, args.json);
    }
    let loaded = match load(args.config.as_deref()) {
        Ok(loaded) => loaded,
        Err(problems) => {
            complain(&problems_text(&problems));
            return ExitCode::FAILURE;
        }
    };
    if args.replay {
        return replay::main(args.config.as_deref(), &loaded, args.json);
    }
    let (Some(from), Some(to), Some(action)) = (args.from, args.to, args.action) else {
        complain("fedgate: explain needs an ID, or --from, --to and --do\n");
        return ExitCode::from(USAGE);
    };
    let ask = Ask::new(&loaded.gate.policy, from, to, action, args.protocol);
    let answer = Answer::new(&loaded, &ask);
    if args.json {
        print(&format!("{:#}\n", answer.json(&loaded, &ask)));
    } else {
        print(&answer.text(&loaded, &ask));
    }
    if answer.reject.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

struct Answer {
    reject: Option<Reject>,
    polite: bool,
    /// What the sender would get.
    reply: Option<String>,
    /// The node inside that has to do with it, if it is allowed.
    way: Option<Way>,
}

/// Which node of ours takes it, or sends it.
enum Way {
    /// This one.
    Node { name: String, protocol: NodeProtocol, doors: Vec<String> },
    /// None, since…
    None(String),
}

impl Way {
    fn new(loaded: &Loaded, ask: &Ask) -> Self {
        let settings = &loaded.gate;
        let of = |node: &Node, doors| Way::Node { name: node.name.to_string(), protocol: node.protocol, doors };
        match ask.side {
            Side::Outside => {
                let first = table::order(settings, &ask.to, |_| true).first().copied();
                if let Some(node) = first.filter(|node| is_sip(node) && ask.protocol == Protocol::Sip) {
                    return of(node, doors(loaded, ask, node));
                }
                match table::node_between(settings, ask.from.domain(), &ask.to) {
                    Ok(node) => of(node, Vec::new()),
                    Err(_) if first.is_some_and(is_sip) => {
                        Way::None(format!("{} is a user of a SIP node, whom SIP partners reach only", ask.to))
                    }
                    Err(reject) => Way::None(reject.detail),
                }
            }
            Side::Inside => match sender(loaded, ask) {
                Some(node) if is_sip(node) && ask.protocol != Protocol::Sip => {
                    Way::None(format!("{} is at an XMPP partner; users of SIP nodes reach SIP partners only", ask.to))
                }
                Some(node) => of(node, Vec::new()),
                None => Way::None(format!("no [[node]] serves {}", ask.from)),
            },
        }
    }

    fn text(&self, ask: &Ask) -> String {
        let (name, protocol, doors) = match self {
            Way::Node { name, protocol, doors } => (name, *protocol, doors),
            Way::None(why) => return format!("  no  {why}\n"),
        };
        let does = match ask.side {
            Side::Outside => "takes",
            Side::Inside => "sends",
        };
        let also: String = doors.iter().map(|door| format!("; {door}")).collect();
        let unchanged = protocol == NodeProtocol::Sip && ask.protocol == Protocol::Sip;
        let over = match protocol {
            NodeProtocol::Sip if unchanged => "over sip, as it is",
            NodeProtocol::Sip => "over sip",
            NodeProtocol::Xmpp => "over xmpp",
            NodeProtocol::XmppComponent => "over xmpp, on its component's stream",
        };
        format!("  ok  node {name} {does} it {over}{also}\n")
    }
}

impl Answer {
    fn new(loaded: &Loaded, ask: &Ask) -> Self {
        let (decision, _) = loaded.gate.policy.decide(ask.question());
        match decision {
            Ok(permit) => {
                Self { reject: None, polite: permit.is_polite(), reply: None, way: Some(Way::new(loaded, ask)) }
            }
            Err(reject) => {
                Self { reply: Some(reply(loaded, ask, &reject)), reject: Some(reject), polite: false, way: None }
            }
        }
    }

    fn verdict(&self) -> &'static str {
        match (&self.reject, self.polite) {
            (Some(_), _) => "refuse",
            (None, true) => "polite",
            (None, false) => "allow",
        }
    }

    fn text(&self, loaded: &Loaded, ask: &Ask) -> String {
        let (from, to) = (&ask.from, &ask.to);
        let (action, protocol, side) = (ask.action.as_str(), ask.protocol.as_str(), ask.side.as_str());
        let mut text = format!("{from} to {to}: {action} from {side}, partner over {protocol}\n");
        for step in loaded.gate.policy.explain(ask.question()) {
            let mark = if step.passed { "ok" } else { "no" };
            // A settling step's words name its line themselves.
            match step.origin.filter(|origin| !step.text.contains(origin.as_str())) {
                Some(origin) => {
                    let _ = writeln!(text, "  {mark}  {origin}: {}", step.text);
                }
                None => {
                    let _ = writeln!(text, "  {mark}  {}", step.text);
                }
            }
        }
        text.extend(self.way.as_ref().map(|way| way.text(ask)));
        match (&self.reject, &self.reply) {
            (Some(reject), Some(reply)) => {
                let _ = writeln!(text, "refused: {}\nthe sender gets: {reply}", reject.reason.as_str());
            }
            _ if matches!(self.way, Some(Way::None(_))) => {
                text.push_str("allowed by policy, but it would not get through\n")
            }
            _ if self.polite => text.push_str("allowed, politely: the watcher always sees offline\n"),
            _ => text.push_str("allowed\n"),
        }
        text
    }

    fn json(&self, loaded: &Loaded, ask: &Ask) -> Value {
        let steps = loaded.gate.policy.explain(ask.question());
        let steps = steps.iter().map(|step| json!({ "passed": step.passed, "origin": step.origin, "text": step.text }));
        let node = match &self.way {
            Some(Way::Node { name, protocol, .. }) => json!({ "name": name, "protocol": protocol.as_str() }),
            _ => Value::Null,
        };
        json!({
            "from": ask.from.to_jid(),
            "to": ask.to.to_jid(),
            "do": ask.action.as_str(),
            "side": ask.side.as_str(),
            "protocol": ask.protocol.as_str(),
            "answer": self.verdict(),
            "reason": self.reject.as_ref().map(|reject| reject.reason.as_str()),
            "reply": self.reply,
            "node": node,
            "steps": steps.collect::<Vec<_>>(),
        })
    }
}

/// What the sender would read, `ID` standing for the decision's.
fn reply(loaded: &Loaded, ask: &Ask, reject: &Reject) -> String {
    let id = DecisionId::from_bits(0);
    let blank = |text: String| text.replace(id.as_str(), "ID");
    match sender_protocol(loaded, ask) {
        Protocol::Sip => {
            let local = ask.question().local();
            let identities = &loaded.gate.identities;
            let hostname = identities.get(loaded.gate.identity_for(local)).map_or("", |identity| &identity.hostname);
            format!("SIP {}, Warning: {}", reject.status, blank(reject.warning(hostname, id)))
        }
        // The contract's table: what concerns the domain, not the stanza, ends the partner's stream.
        Protocol::Xmpp if ask.side == Side::Outside && is_of_the_domain(reject.reason) => {
            format!(
                "XMPP stream error {}, text: {}",
                kebab(&format!("{:?}", reject.reason.stream_error())),
                blank(reject.text(id))
            )
        }
        Protocol::Xmpp => {
            let error = reject.stanza_error(id);
            let (condition, type_) = (error.condition.as_str(), format!("{:?}", error.type_).to_lowercase());
            format!("XMPP {condition} ({type_}), text: {}", blank(reject.text(id)))
        }
    }
}

fn is_of_the_domain(reason: Reason) -> bool {
    matches!(reason, Reason::UnlistedDomain | Reason::Unproven | Reason::RelayDenied)
}

/// The variants of stream errors are named as RFC 6120 §4.9.3 names them.
fn kebab(variant: &str) -> String {
    let mut text = String::new();
    for c in variant.chars() {
        if c.is_ascii_uppercase() && !text.is_empty() {
            text.push('-');
        }
        text.push(c.to_ascii_lowercase());
    }
    text
}

fn sender_protocol(loaded: &Loaded, ask: &Ask) -> Protocol {
    match ask.side {
        Side::Outside => ask.protocol,
        Side::Inside => match sender(loaded, ask).map(|node| node.protocol) {
            Some(NodeProtocol::Sip) => Protocol::Sip,
            _ => Protocol::Xmpp,
        },
    }
}

fn is_sip(node: &Node) -> bool {
    node.protocol == NodeProtocol::Sip
}

/// The other nodes that would take it on ports of their own.
fn doors(loaded: &Loaded, ask: &Ask, taken: &Node) -> Vec<String> {
    let serving = |node: &&Node| node.public_port != 0 && node.domains.contains(ask.to.domain());
    let others = loaded.gate.nodes.iter().filter(serving).filter(|node| node.name != taken.name);
    others.map(|node| format!("node {} if it comes in on port {}", node.name, node.public_port)).collect()
}

/// The node of a local user, as far as `domains` and `users` tell: the one that would be asked first, for what it sends, too.
fn sender<'a>(loaded: &'a Loaded, ask: &Ask) -> Option<&'a Node> {
    let nodes = &loaded.gate.nodes;
    let serving = nodes.iter().find(|node| table::serves(node, &ask.from));
    table::node_for(&loaded.gate, &ask.from).ok().or(serving)
}
