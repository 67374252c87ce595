//! What a profile sets where the entry says nothing.

use crate::gate::partner::{Action, Budget, ChatMode, Identity, Profile, Proof, Protocol, TlsMode};

/// An entry's defaults.
#[derive(Debug)]
pub struct Defaults {
    /// Accepted certificate names.
    pub identity: Identity,
    /// Demanded of links.
    pub tls: TlsMode,
    /// Accepted proofs.
    pub proof: Vec<Proof>,
    /// What may be done.
    pub allow: Vec<Action>,
    /// How IM goes to it.
    pub chat: ChatMode,
}

/// The defaults of a profile over a protocol.
pub fn defaults(profile: Profile, protocol: Protocol) -> Defaults {
    let mut allow = vec![Action::Subscribe, Action::Presence, Action::Message, Action::Chat];
    if protocol == Protocol::Xmpp {
        allow.push(Action::Iq);
    }
    // Microsoft's rule speaks of SRV targets of _sipfederationtls; there is no such thing over XMPP.
    let microsoft = protocol == Protocol::Sip && matches!(profile, Profile::Lync | Profile::Ocs | Profile::Aol);
    let identity = if microsoft { Identity::EdgeInDomain } else { Identity::Domain };
    let (tls, proof) = match profile {
        Profile::GoogleTalk => (TlsMode::Off, vec![Proof::Dialback]),
        _ => (TlsMode::Required, vec![Proof::Certificate]),
    };
    // Microsoft's servers and AOL's gateway speak sessions; of others nobody knows before they were asked.
    let chat = if microsoft { ChatMode::Session } else { ChatMode::Auto };
    Defaults { identity, tls, proof, allow, chat }
}

/// A partner's budget when its entry says nothing.
pub const BUDGET: Budget =
    Budget { messages_per_second: 50, subscriptions: 10_000, links: 8, body_bytes: 65_536, targets_per_hour: None };

/// All strangers' budget when `[stranger]` says nothing.
pub const STRANGER_BUDGET: Budget = Budget { messages_per_second: 1, targets_per_hour: Some(50), ..BUDGET };
