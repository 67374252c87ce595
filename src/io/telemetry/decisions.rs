//! The last decisions with their inputs, for the status page and `explain ID`; older ones are in the state store.

use crate::gate::Time;
use crate::gate::event::Decision;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

/// How many are at hand.
pub const KEPT: usize = 10_000;

/// A ring of decisions, newest last.
#[derive(Debug, Default)]
pub struct Decisions {
    ring: Mutex<VecDeque<(String, Arc<str>)>>,
}

impl Decisions {
    /// `entry`: its JSON object on one line.
    pub(super) fn push(&self, id: String, entry: &str) {
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        if ring.len() >= KEPT {
            ring.pop_front();
        }
        ring.push_back((id, Arc::from(entry)));
    }

    /// The newest `limit`, newest first.
    pub fn last(&self, limit: usize) -> Vec<Arc<str>> {
        let ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        ring.iter().rev().take(limit).map(|(_, entry)| Arc::clone(entry)).collect()
    }

    /// One, by its ID.
    pub fn find(&self, id: &str) -> Option<Arc<str>> {
        let ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        ring.iter().rev().find(|(own, _)| own == id).map(|(_, entry)| Arc::clone(entry))
    }
}

/// A decision as JSON: the same object in the audit file and on the admin listener.
pub fn entry(at: Time, decision: &Decision) -> Value {
    json!({
        "time": timestamp(at),
        "id": decision.id.as_str(),
        "verdict": verdict(decision),
        "reason": decision.refused.map(|reason| reason.as_str()),
        "from": decision.from,
        "to": decision.to,
        "action": decision.action.as_str(),
        "side": decision.side.as_str(),
        "protocol": decision.protocol.as_str(),
        "partner": decision.partner,
        "peer": decision.peer.map(|peer| peer.to_string()),
        "because": decision.because,
        "policy_version": decision.policy_version,
    })
}

pub(super) fn verdict(decision: &Decision) -> &'static str {
    if decision.refused.is_some() { "refused" } else { "allowed" }
}

/// RFC 3339, UTC, milliseconds.
pub fn timestamp(at: Time) -> String {
    let millis = i64::try_from(at.unix_nanos() / 1_000_000).unwrap_or(i64::MAX);
    jiff::Timestamp::from_millisecond(millis).map(|time| format!("{time:.3}")).unwrap_or_default()
}
