//! Presence (RFC 8048) by the tables of the receiving client's kind.

use crate::gate::partner::Profile;
use crate::wire::address::Address;
use crate::wire::pidf::Document;
use crate::wire::xmpp::{Element, Stanza};
use std::collections::BTreeMap;

/// What one XMPP resource shows.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct Shown {
    /// `<show/>`: away, chat, dnd, xa; anything else reads as none.
    pub show: Option<String>,
    /// `<status/>`.
    pub status: Option<String>,
    /// xml:lang of the status.
    pub lang: Option<String>,
    /// -128..=127.
    pub priority: i8,
    /// Whether XEP-0319 idle is there.
    pub idle: bool,
}

/// Reads an available presence stanza (no type). Bounded: status is cut at 1,024 characters.
pub fn read_stanza(stanza: &Stanza) -> Shown {
    todo!()
}

/// The presence document of an XMPP presentity for a SIP watcher: one tuple a resource, the overall state the most available one's; no
/// resources = closed. `seen_by`: the watcher's profile, `of`: the presentity's node profile, both choose the table's cell.
/// RFC 8048 §5.1.2: tuple ids are `ID-` and the resource made an xs:ID, injectively.
pub fn to_document(
    presentity: &Address,
    resources: &BTreeMap<String, Shown>,
    seen_by: Profile,
    of: Profile,
) -> Document {
    todo!()
}

/// The presence stanzas (without from, to, id) of a SIP presentity for an XMPP watcher, from its document: `of` is the partner's profile,
/// `seen_by` the node's. Always one stanza: SIP devices are not shown apart to XMPP.
pub fn to_stanza(document: Option<&Document>, of: Profile, seen_by: Profile) -> Element {
    todo!()
}
