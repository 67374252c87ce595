//! Page-mode messages (RFC 7572, RFC 3428).

use crate::gate::reject::Reject;
use crate::wire::address::Jid;
use crate::wire::sip;
use crate::wire::xmpp::{Element, Stanza};

/// A text message, of neither protocol.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Text {
    /// The body: UTF-8, byte for byte.
    pub body: String,
    /// Subject.
    pub subject: Option<String>,
    /// Content-Language, xml:lang.
    pub lang: Option<String>,
    /// Call-ID, thread.
    pub thread: Option<String>,
}

/// Reads a MESSAGE. 415 with Accept for types we do not carry (text/plain only; us-ascii and UTF-8 charsets), 415 with
/// `Accept-Encoding: identity` for an encoded one, 413 beyond `body_bytes_max`, 400 for invalid UTF-8 or characters XML can't carry.
pub fn read_sip(message: &sip::Message, body_bytes_max: usize) -> Result<Text, Reject> {
    todo!()
}

/// Writes the stanza. RFC 7572 §5: page mode has no `type` (normal). `id` is the transaction's.
pub fn write_stanza(text: &Text, from: &Jid, to: &Jid, id: &str) -> Element {
    todo!()
}

/// Reads a message stanza; `Ok(None)` when it has no body (chat state, receipt, marker): nothing to carry in page mode.
pub fn read_stanza(stanza: &Stanza, body_bytes_max: usize) -> Result<Option<Text>, Reject> {
    todo!()
}
