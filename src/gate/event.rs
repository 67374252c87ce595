//! Every happening, once. Log line, metric and audit entry are derived from it by `io::telemetry`.

use crate::gate::partner::{Action, LinkId, Protocol, Side};
use crate::gate::reject::{DecisionId, Reason};
use smol_str::SmolStr;
use std::net::SocketAddr;

/// Something happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A request was refused, or allowed for the first time for its pair, action and policy version.
    Decided(Decision),
    /// A message, subscription or other request reached its outcome.
    Settled(Settled),
    /// A link may carry messages.
    LinkOpened {
        /// Which.
        link: LinkId,
        /// Its side.
        side: Side,
        /// Its protocol.
        protocol: Protocol,
        /// The other end.
        peer: SocketAddr,
        /// Partner label or node name, for people.
        who: String,
    },
    /// A listed partner has proven itself on a link, by a certificate that lasts so long.
    Shown {
        /// The partner entry's label.
        partner: String,
        /// Seconds since 1970.
        not_after: u64,
    },
    /// A link ended.
    LinkClosed {
        /// Which.
        link: LinkId,
        /// Its side.
        side: Side,
        /// Its protocol.
        protocol: Protocol,
        /// Why.
        cause: String,
    },
    /// A connection could not be made.
    Unreachable {
        /// Partner label or node name.
        who: String,
        /// Its side.
        side: Side,
        /// Its protocol.
        protocol: Protocol,
        /// What was tried.
        cause: String,
    },
    /// A node's state changed.
    NodeUp {
        /// Its name.
        node: String,
        /// Up or down.
        up: bool,
    },
    /// New settings are in force.
    Reloaded {
        /// The policy's version.
        version: u64,
    },
    /// Something an operator should look at that is nobody's request.
    Noticed {
        /// A sentence.
        what: String,
    },
}

/// One decision with its inputs: what `explain ID` shows.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// Its ID.
    pub id: DecisionId,
    /// `None` = allowed.
    pub refused: Option<Reason>,
    /// Who asked, as claimed.
    pub from: String,
    /// Whom.
    pub to: String,
    /// What.
    pub action: Action,
    /// Where the asker is.
    pub side: Side,
    /// The asker's protocol.
    pub protocol: Protocol,
    /// The partner entry's label; `other` when none.
    pub partner: String,
    /// The link's other end.
    pub peer: Option<SocketAddr>,
    /// What settled it, in words with file and line; may name rules and nodes.
    pub because: String,
    /// The policy in force.
    pub policy_version: u64,
}

/// An outcome.
#[derive(Debug, Clone, PartialEq)]
pub struct Settled {
    /// The partner entry's label; `other` when none.
    pub partner: SmolStr,
    /// Where the sender is: outside = in.
    pub side: Side,
    /// The sender's protocol.
    pub protocol: Protocol,
    /// What.
    pub action: Action,
    /// How it ended.
    pub outcome: Outcome,
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The far side took it.
    Delivered,
    /// We refused it.
    Refused,
    /// The far side refused it, or could not be reached; the sender was told.
    Failed,
    /// Nobody can know; the sender was told so.
    Uncertain,
}

impl Outcome {
    /// The metric's label.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Delivered => "delivered",
            Outcome::Refused => "refused",
            Outcome::Failed => "failed",
            Outcome::Uncertain => "uncertain",
        }
    }
}
