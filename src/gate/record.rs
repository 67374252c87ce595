//! What outlives a restart: subscriptions and IM sessions with their dialogs, and the envelopes of messages whose outcome is owed. Never a body.

use crate::gate::policy::rate::KeptBudget;
use crate::gate::session::chat::KeptChat;
use crate::gate::session::contact::KeptContact;
use crate::gate::session::page::Envelope;
use crate::gate::session::watch::KeptWatch;
use serde::{Deserialize, Serialize};

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
