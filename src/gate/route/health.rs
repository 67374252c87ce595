//! Which SIP nodes can take new sessions: asked by OPTIONS, and known by what fails. A node that failed proves itself again before it
//! counts, so that one that comes and goes does not take sessions with it.

use crate::gate::limits;
use crate::gate::time::Time;
use std::collections::BTreeMap;

/// The state of every SIP node.
#[derive(Debug, Default)]
pub struct Health {
    nodes: BTreeMap<String, State>,
}

#[derive(Debug, Default)]
struct State {
    is_down: bool,
    /// Questions in a row that went unanswered while up, or were answered while down.
    run: u32,
    /// The branch of the question that is out.
    asked: Option<String>,
    /// It asked to be left alone until then (Retry-After of a 503).
    rests_until: Option<Time>,
}

impl Health {
    /// Whether new sessions may go to it. A node of which nothing is known yet is given the benefit of the doubt.
    pub fn takes_new(&self, node: &str, now: Time) -> bool {
        self.nodes.get(node).is_none_or(|state| !state.is_down && state.rests_until.is_none_or(|until| until <= now))
    }

    /// Whether it answers.
    pub fn is_up(&self, node: &str) -> bool {
        self.nodes.get(node).is_none_or(|state| !state.is_down)
    }

    /// A question is out to it.
    pub fn asked(&mut self, node: &str, branch: String) {
        self.nodes.entry(node.to_owned()).or_default().asked = Some(branch);
    }

    /// The question that has had no answer so far, taken.
    pub fn take_asked(&mut self, node: &str) -> Option<String> {
        self.nodes.get_mut(node)?.asked.take()
    }

    /// It answered a question.
    pub fn answered(&mut self, node: &str) {
        let state = self.nodes.entry(node.to_owned()).or_default();
        state.asked = None;
        if !state.is_down {
            state.run = 0;
            return;
        }
        state.run += 1;
        if state.run >= limits::NODE_PROVES {
            *state = State::default();
        }
    }

    /// It did not answer a question.
    pub fn silent(&mut self, node: &str) {
        let state = self.nodes.entry(node.to_owned()).or_default();
        state.asked = None;
        if state.is_down {
            state.run = 0;
            return;
        }
        state.run += 1;
        if state.run >= limits::NODE_MISSES {
            *state = State { is_down: true, ..State::default() };
        }
    }

    /// It can't be connected to.
    pub fn unreachable(&mut self, node: &str) {
        let state = self.nodes.entry(node.to_owned()).or_default();
        *state = State { is_down: true, ..State::default() };
    }

    /// It said 503: it rests for so long.
    pub fn rests(&mut self, node: &str, until: Time) {
        self.nodes.entry(node.to_owned()).or_default().rests_until = Some(until);
    }

    /// Nothing is known of it any more.
    pub fn forget(&mut self, node: &str) {
        self.nodes.remove(node);
    }

    /// Forgets nodes that are no more.
    pub fn retain(&mut self, is_there: impl Fn(&str) -> bool) {
        self.nodes.retain(|node, _| is_there(node));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn one_lost_question_is_no_failure_and_one_answer_no_recovery() {
        let (mut health, now) = (Health::default(), Time::from_unix_seconds(1_700_000_000));
        health.silent("imp-1");
        assert!(health.takes_new("imp-1", now));
        health.answered("imp-1");
        health.silent("imp-1");
        assert!(health.takes_new("imp-1", now), "not two in a row");
        health.silent("imp-1");
        assert!(!health.takes_new("imp-1", now) && !health.is_up("imp-1"));
        health.answered("imp-1");
        assert!(!health.takes_new("imp-1", now), "it must prove itself");
        health.silent("imp-1");
        health.answered("imp-1");
        assert!(!health.takes_new("imp-1", now), "in a row");
        health.answered("imp-1");
        assert!(health.takes_new("imp-1", now));
        health.unreachable("imp-1");
        assert!(!health.takes_new("imp-1", now), "at once");
    }

    #[test]
    fn who_says_503_rests() {
        let (mut health, now) = (Health::default(), Time::from_unix_seconds(1_700_000_000));
        health.rests("imp-1", now + Duration::from_secs(5));
        assert!(!health.takes_new("imp-1", now) && health.is_up("imp-1"));
        assert!(health.takes_new("imp-1", now + Duration::from_secs(5)));
    }
}
