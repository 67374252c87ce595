//! A decision told step by step. Takes a question and what settled it, gives sentences that name file and line.

use crate::gate::partner::Side;
use crate::gate::policy::table::{Answer, Because, Question, Table};
use crate::gate::reject::Reject;

/// One step on the way to a decision.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Step {
    /// Whether the question went on from here, or was allowed here.
    pub passed: bool,
    /// Where what decided it is written (`policies/10-partners.toml:12`), if it is written in one place.
    pub origin: Option<String>,
    /// What was looked at and found.
    pub text: String,
}

impl Table {
    /// The steps that [`Table::decide`] takes for `question`, the settling one last.
    pub fn explain(&self, question: Question<'_>) -> Vec<Step> {
        let (answer, because) = self.decide(question);
        let mut steps = Vec::new();
        let mut step = |passed, origin: Option<&str>, text| {
            steps.push(Step { passed, origin: origin.map(str::to_owned), text });
        };
        let last = (answer.is_ok(), self.because(question, &because, answer.as_ref().err()));
        let (local, remote) = (question.local(), question.remote());
        if because == Because::NotOurs {
            step(last.0, None, last.1);
            return steps;
        }
        step(true, None, format!("{local} is ours, {remote} is not"));
        let Some(id) = self.partner_for(remote, question.protocol) else {
            if because != Because::Unlisted {
                step(true, None, format!("no [[partner]] for {remote}: the [stranger] profile applies"));
            }
            step(last.0, self.origin(&because), last.1);
            return steps;
        };
        let entry = self.partner(id);
        let origin = Some(entry.origin.as_str());
        step(true, origin, format!("[[partner]] {} over {}", entry.label, entry.protocol.as_str()));
        if !matches!(because, Because::Direction(_)) {
            step(
                true,
                origin,
                format!("direction = \"{}\" lets {} start", entry.direction.as_str(), starter(question)),
            );
            if !matches!(because, Because::Network(_)) {
                let text = match (entry.networks.is_empty(), question.peer_ip) {
                    _ if question.side == Side::Inside => None,
                    (true, _) => None,
                    (false, Some(ip)) => Some(format!("networks take {} in", ip.to_canonical())),
                    (false, None) => Some("networks were not looked at: no connection is asked about".to_owned()),
                };
                if let Some(text) = text {
                    step(true, origin, text);
                }
                if matches!(because, Because::Rule(_)) {
                    let listed = if entry.allow.contains(&question.action) { "has" } else { "does not have" };
                    step(true, origin, format!("allow {listed} \"{}\"", question.action.as_str()));
                }
            }
        }
        step(last.0, self.origin(&because), last.1);
        steps
    }

    /// What settled a decision, in words, for the log, the audit and `explain`; names files, so it never leaves.
    pub fn because(&self, question: Question<'_>, because: &Because, reject: Option<&Reject>) -> String {
        if let Some(reject) = reject {
            return reject.detail.clone();
        }
        let action = question.action.as_str();
        match because {
            Because::NotOurs | Because::Unlisted => "nothing allows it".to_owned(),
            Because::Direction(id) | Because::Network(id) | Because::Actions(id) => {
                let entry = self.partner(*id);
                format!("{} allows {} to {action}", entry.origin, entry.label)
            }
            Because::Stranger => format!("[stranger] allows {action}"),
            Because::Rule(index) => match self.rules.get(*index) {
                Some(rule) => {
                    let answer = match rule.answer {
                        Answer::Allow => "allows",
                        Answer::Refuse => "refuses",
                        Answer::Polite => "accepts, and always shows offline",
                    };
                    format!("{} rule \"{}\" {answer}", rule.origin, rule.name)
                }
                None => "a rule".to_owned(),
            },
        }
    }

    fn origin(&self, because: &Because) -> Option<&str> {
        match because {
            Because::NotOurs | Because::Unlisted | Because::Stranger => None,
            Because::Direction(id) | Because::Network(id) | Because::Actions(id) => Some(&self.partner(*id).origin),
            Because::Rule(index) => self.rules.get(*index).map(|rule| rule.origin.as_str()),
        }
    }
}

fn starter(question: Question<'_>) -> &'static str {
    match question.side {
        Side::Outside => "the partner",
        Side::Inside => "us",
    }
}
