//! What outlives a restart: subscriptions and IM sessions with their dialogs, and the envelopes of messages whose outcome is owed. Never a body.

use crate::gate::policy::rate::KeptBudget;
use crate::gate::session::chat::KeptChat;
use crate::gate::session::contact::KeptContact;
use crate::gate::session::page::Envelope;
use crate::gate::session::watch::KeptWatch;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Names a record.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct RecordId(pub String);

/// A kept record.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Record {
    /// Its name.
    pub id: RecordId,
    /// What.
    pub kept: Kept,
}

/// What is kept.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kept {
    /// A SIP watcher's subscriptions to an XMPP presentity.
    Watch(KeptWatch),
    /// An IM session with a SIP user.
    Chat(KeptChat),
    /// An XMPP watcher's SIP contact.
    Contact(KeptContact),
    /// A message on its way to a SIP partner.
    Envelope(Envelope),
    /// What a partner has spent of its hour.
    Budget(KeptBudget),
}

/// What became of a kept record when the gate took it back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Restored {
    /// It goes on.
    Live,
    /// Not with these settings, for this reason. Perhaps only something was left out by mistake: the record stays for the next start.
    Later(&'static str),
    /// Never again: its record is forgotten.
    Gone,
}

/// How many records were left for a later start, by what they are and why: told once, when all have been read.
#[derive(Debug, Default)]
pub struct LeftForLater {
    counts: BTreeMap<(&'static str, &'static str), u64>,
}

impl LeftForLater {
    /// One more of `what`, because of `why`.
    pub fn add(&mut self, what: &'static str, why: &'static str) {
        *self.counts.entry((what, why)).or_default() += 1;
    }

    /// A sentence for each cause, and nothing is left to be told.
    pub fn tell(&mut self) -> impl Iterator<Item = String> {
        std::mem::take(&mut self.counts).into_iter().map(|((what, why), count)| {
            format!("{what} not resumed: {count}; {why}. They are kept, and resumed at the next start that finds one")
        })
    }
}
