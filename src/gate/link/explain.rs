//! What a peer's errors mean for people, and what can be done about them.

use crate::gate::partner::Side;
use crate::wire::xmpp::{Condition, StanzaError, StreamError};

/// A stream error of the peer.
pub(super) fn stream_error(side: Side, error: StreamError, text: Option<&str>) -> String {
    let text = text.map(|text| format!(" ({})", clean(text))).unwrap_or_default();
    let mend = match (error, side) {
        (StreamError::HostUnknown | StreamError::HostGone, Side::Inside) => {
            "; it does not serve the domain: check `domains` of the [[node]]"
        }
        (StreamError::HostUnknown | StreamError::HostGone, Side::Outside) => {
            "; it does not serve the domain: check where its DNS or `next_hop` leads"
        }
        (StreamError::NotAuthorized, Side::Inside) => {
            "; it may demand a valid certificate (Prosody: s2s_secure_auth): configure [inside] issuer, or exempt the domain there"
        }
        (StreamError::NotAuthorized, Side::Outside) => {
            "; it may demand a certificate that it trusts for the local domain (Prosody: s2s_secure_auth): check `certificate` of the \
             [[identity]]"
        }
        (StreamError::PolicyViolation, Side::Inside) => "; it may demand TLS: check [inside] tls",
        (StreamError::PolicyViolation, Side::Outside) => "; it may demand TLS, or not federate with the local domain",
        (StreamError::StanzaTooBig, _) => "; a stanza was larger than it takes",
        _ => "",
    };
    format!("the peer ended the stream with {error}{text}{mend}")
}

/// An error that the peer answered our dialback key with (XEP-0220 §2.4).
pub(super) fn dialback(side: Side, who: &str, error: &StanzaError) -> String {
    let text = error.text.as_deref().map(|text| format!(" ({})", clean(text))).unwrap_or_default();
    let mend = match (error.condition, side) {
        (Condition::ItemNotFound | Condition::NotAllowed, Side::Inside) => {
            "it does not serve the domain: check `domains` of the [[node]]"
        }
        (Condition::ItemNotFound | Condition::NotAllowed, Side::Outside) => {
            "it does not serve the domain: check where its DNS or `next_hop` leads"
        }
        (Condition::RemoteServerNotFound | Condition::RemoteServerTimeout, Side::Inside) => {
            "it could not reach fedgate to verify the key: lead the partner's domain to [inside] xmpp, by DNS or by its own routes"
        }
        (Condition::RemoteServerNotFound | Condition::RemoteServerTimeout, Side::Outside) => {
            "it could not reach fedgate to verify the key: publish _xmpp-server._tcp for the local domain (`fedgate check` shows how)"
        }
        (Condition::PolicyViolation, Side::Inside) => "it demands TLS: set [inside] tls = \"optional\" or \"required\"",
        (Condition::PolicyViolation, Side::Outside) => {
            "it demands TLS: set tls = \"optional\" or \"required\" for the [[partner]]"
        }
        (Condition::NotAuthorized, Side::Inside) => {
            "it demands a valid certificate: configure [inside] issuer, or exempt the domain there (Prosody: s2s_insecure_domains)"
        }
        (Condition::NotAuthorized, Side::Outside) => {
            "it demands a certificate that it trusts for the local domain: check `certificate` of the [[identity]]"
        }
        (Condition::Forbidden | Condition::NotAcceptable, _) => "it refuses the domain: see its own access rules",
        _ => "see its log",
    };
    format!("{who} answered dialback with {}{text}: {mend}", error.condition.as_str())
}

/// A peer's words, fit for one line of a log.
pub(super) fn clean(text: &str) -> String {
    text.chars().take(200).map(|c| if c.is_control() { ' ' } else { c }).collect()
}
