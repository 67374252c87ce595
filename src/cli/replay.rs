//! `fedgate explain --replay`: what the policy as it is written now would say to everything that was decided. Sends nothing.

use crate::cli::{complain, print, remembered};
use crate::config::Loaded;
use crate::config::ask::{self, Ask};
use crate::gate::partner::{Action, Protocol};
use crate::gate::reject::Reason;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;

/// Changes that are listed one by one.
const LISTED: usize = 1_000;

/// Decides again. The exit status is 0 if nothing would change.
pub fn main(config: Option<&Path>, loaded: &Loaded, as_json: bool) -> ExitCode {
    let all = match remembered::all(config) {
        Ok(all) => all,
        Err(error) => {
            complain(&format!("fedgate: {error}\n"));
            return ExitCode::FAILURE;
        }
    };
    let replayed = Replayed::of(&all, loaded);
    if as_json {
        print(&format!("{:#}\n", replayed.json()));
    } else {
        print(&replayed.text());
    }
    if replayed.changes.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[derive(Debug, Default)]
struct Replayed {
    decided: usize,
    /// Those that no policy decides: unproven peers, what can't be understood, budgets.
    other: usize,
    /// By question, so that a thousand tries of one sender are one line.
    changes: BTreeMap<(String, String, String), Change>,
}

#[derive(Debug)]
struct Change {
    /// The last one's ID.
    id: String,
    was: String,
    now: String,
    because: String,
    times: usize,
}

impl Replayed {
    /// `all`: oldest first.
    fn of(all: &[Value], loaded: &Loaded) -> Self {
        let mut replayed = Self::default();
        for entry in all {
            let word = |key: &str| entry[key].as_str().unwrap_or_default();
            let Some(ask) = question(entry, loaded).filter(|_| is_by_policy(entry)) else {
                replayed.other += 1;
                continue;
            };
            replayed.decided += 1;
            let was = entry["reason"].as_str().unwrap_or("allowed");
            let question = (word("from").to_owned(), word("to").to_owned(), word("action").to_owned());
            let (now, because) = match loaded.gate.policy.decide(ask.question()).0 {
                Ok(_) => ("allowed", String::new()),
                Err(reject) => (reject.reason.as_str(), reject.detail),
            };
            if now == was {
                // Decided in one way and then, by a policy of meanwhile, as it would be now.
                replayed.changes.remove(&question);
                continue;
            }
            let times = replayed.changes.get(&question).map_or(0, |change| change.times) + 1;
            let (id, was, now) = (word("id").to_owned(), was.to_owned(), now.to_owned());
            replayed.changes.insert(question, Change { id, was, now, because, times });
        }
        replayed
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for ((from, to, action), change) in self.changes.iter().take(LISTED) {
            let Change { id, was, now, because, times } = change;
            let again = if *times > 1 { format!(", {times} times") } else { String::new() };
            let because = if because.is_empty() { String::new() } else { format!(": {because}") };
            let _ = writeln!(text, "{from} to {to}: {action}, was {was} ({id}{again}), now {now}{because}");
        }
        let further = self.changes.len().saturating_sub(LISTED);
        if further > 0 {
            let _ = writeln!(text, "and {further} more");
        }
        let _ = writeln!(
            text,
            "{} decisions replayed, {} would change; {} are not the policy's to decide",
            self.decided,
            self.changes.len(),
            self.other
        );
        text
    }

    fn json(&self) -> Value {
        let change = |((from, to, action), change): (&(String, String, String), &Change)| {
            json!({
                "from": from, "to": to, "action": action, "id": change.id, "times": change.times,
                "was": change.was, "now": change.now, "because": change.because,
            })
        };
        json!({
            "replayed": self.decided,
            "not_by_policy": self.other,
            "changes": self.changes.iter().map(change).collect::<Vec<_>>(),
        })
    }
}

fn is_by_policy(entry: &Value) -> bool {
    let by_policy = [Reason::UnlistedDomain, Reason::NotAllowed, Reason::Rule];
    match entry["reason"].as_str() {
        None => true,
        Some(reason) => by_policy.iter().any(|known| known.as_str() == reason),
    }
}

fn question(entry: &Value, loaded: &Loaded) -> Option<Ask> {
    let word = |key: &str| entry[key].as_str();
    let address = |key: &str| ask::typed(word(key)?).ok();
    let action = Action::parse(word("action")?)?;
    let protocol = Protocol::parse(word("protocol")?)?;
    // Inside is always XMPP or SIP of a node: the entry for the outside half says how the partner speaks.
    let protocol = (word("side")? == "outside").then_some(protocol);
    let ask = Ask::new(&loaded.gate.policy, address("from")?, address("to")?, action, protocol);
    // What came by no connection of the partner's has no peer.
    let peer_ip = word("peer").and_then(|peer| peer.parse::<SocketAddr>().ok()).map(|peer| peer.ip());
    Some(Ask { peer_ip, ..ask })
}
