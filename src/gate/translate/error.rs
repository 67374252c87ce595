//! Errors (RFC 7247 §7, tables 2 and 3, with RFC 4320 over them: never 408 to a non-INVITE).

use crate::wire::xmpp::StanzaError;

/// A SIP final response of 300 to 699 as a stanza error. `contact`: the Contact URI of a 301 or 302.
pub fn to_xmpp(status: u16, reason_phrase: &str, contact: Option<&str>) -> StanzaError {
    todo!()
}

/// A stanza error as a SIP status, for a request that was not INVITE unless `invite`. `full_jid`: whether the stanza was addressed to a
/// full JID. The new address of `gone` and `redirect`, as a SIP URI, comes second. 401 and 407 become 403: an edge cannot challenge.
pub fn to_sip(error: &StanzaError, full_jid: bool, invite: bool) -> (u16, Option<String>) {
    todo!()
}
