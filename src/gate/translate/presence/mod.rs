//! Presence (RFC 8048) by the tables of the receiving client's kind.
//!
//! Takes what one side shows, gives what the other's users are to see. [`tables`] says what; `xmpp` and `sip` how it stands in a stanza and in a
//! document.

mod respelled;
mod sip;
pub mod tables;
mod xmpp;

#[cfg(test)]
mod tests;

pub use respelled::respelled;
pub use xmpp::{read_element, respell};

use crate::gate::partner::Profile;
use crate::wire::address::Address;
use crate::wire::pidf::{Document, Note, Tuple};
use crate::wire::xmpp::{Element, NS_SERVER, Stanza};
use std::collections::BTreeMap;
use tables::{Look, State, System, sip_wire, xmpp_wire};

/// Resources shown apart, at most; the rest still count for the whole.
const TUPLES: usize = 200;

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
    xmpp::read_element(stanza.element())
}

/// The presence document of an XMPP presentity for a SIP watcher: one tuple a resource, the overall state the most available one's; no
/// resources = closed. `seen_by`: the watcher's profile, `of`: the presentity's node profile, both choose the table's cell.
/// RFC 8048 §6.2: tuple ids are `ID-` and the resource made an xs:ID, injectively.
pub fn to_document(
    presentity: &Address,
    resources: &BTreeMap<String, Shown>,
    seen_by: Profile,
    of: Profile,
) -> Document {
    let uri = format!("sip:{}", presentity.to_sip());
    let (from, to) = (System::of_xmpp(of), System::of_sip(seen_by));
    let looks: Vec<_> =
        resources.iter().map(|(resource, shown)| (resource, shown, sip_look(shown, from, to))).collect();
    let best = looks
        .iter()
        .map(|(_, _, (look, _))| look.state)
        .min_by_key(|state| sip_wire(*state).availability)
        .unwrap_or(State::Offline);
    let activities = |state: State| sip_wire(state).activity.map(str::to_owned).into_iter().collect::<Vec<_>>();
    let mut tuples: Vec<Tuple> = looks
        .iter()
        .take(TUPLES)
        .map(|(resource, shown, (look, own))| {
            let wire = sip_wire(look.state);
            let note = xmpp::join(look.text.or(wire.note), own.as_deref());
            Tuple {
                id: tuple_id(resource),
                open: Some(wire.open),
                show: shown.show.clone(),
                activities: activities(look.state),
                note: note.map(|text| Note { lang: shown.lang.clone().filter(|_| own.is_some()), text }),
                contact: Some(uri.clone()),
                priority: to_contact_priority(shown.priority),
            }
        })
        .collect();
    if tuples.is_empty() {
        tuples.push(Tuple { id: tuple_id(""), open: Some(false), ..Tuple::default() });
    }
    Document { entity: uri, tuples, activities: activities(best), note: None }
}

/// The presence stanzas (without from, to, id) of a SIP presentity for an XMPP watcher, from its document: `of` is the partner's profile,
/// `seen_by` the node's. Always one stanza: SIP devices are not shown apart to XMPP.
pub fn to_stanza(document: Option<&Document>, of: Profile, seen_by: Profile) -> Element {
    let presence = Element::new("presence", NS_SERVER);
    // RFC 8048 §5.2.1: no body is as good as unknown or closed.
    let Some(document) = document else { return presence.attr("type", "unavailable") };
    let seen = sip::read_look(document);
    let (from, to) = (System::of_sip(of), System::of_xmpp(seen_by));
    let look = tables::cell(from, seen.look, to)
        // What AOL's table leaves out reads like Microsoft's.
        .or_else(|| tables::cell(System::Lync, seen.look, to))
        .or_else(|| tables::cell(System::Lync, seen.look, System::Xmpp))
        .map_or(Look { state: State::Available, text: None }, |cell| cell.look);
    let own = seen.note.as_ref().map(|note| note.text.trim()).filter(|text| !text.is_empty());
    let (show, status) = match &seen.show {
        Some(show) => (Some(show.as_str()), own.map(str::to_owned)),
        None => {
            let (show, status, _) = xmpp::write_look(look, own);
            (show, status)
        }
    };
    let mut presence = if xmpp_wire(look.state).available { presence } else { presence.attr("type", "unavailable") };
    if let Some(show) = show {
        presence = presence.child(Element::new("show", NS_SERVER).text(show));
    }
    if let Some(status) = status {
        let mut element = Element::new("status", NS_SERVER).text(&status);
        if let Some(lang) = seen.note.as_ref().and_then(|note| note.lang.as_deref()) {
            element = element.attr("xml:lang", lang);
        }
        presence = presence.child(element);
    }
    if let Some(priority) = seen.priority.map(from_contact_priority).filter(|priority| *priority != 0) {
        presence = presence.child(Element::new("priority", NS_SERVER).text(&priority.to_string()));
    }
    presence
}

/// What users of a SIP system see of a resource, and the status that is the user's own.
fn sip_look(shown: &Shown, from: System, to: System) -> (Look, Option<String>) {
    let (look, own) = xmpp::read_look(shown, from);
    if let Some(cell) = tables::cell(from, look, to) {
        return (cell.look, own);
    }
    // A system that has no table towards SIP, or a text that its table does not know: then the text is only a status.
    let silent = look.silent();
    let cell = tables::cell(from, silent, to).or_else(|| tables::cell(System::Xmpp, silent, to));
    let look = cell.map_or(Look { state: State::Available, text: None }, |cell| cell.look);
    (look, shown.status.clone())
}

/// RFC 8048 §6.2 note 6: 0 is 0, 127 is 1, and every step between is its own; a negative one MUST NOT be mapped. In thousandths.
fn to_contact_priority(priority: i8) -> Option<u16> {
    u16::try_from(priority).ok().map(|priority| (u32::from(priority) * 1000 / 127) as u16)
}

/// The inverse.
fn from_contact_priority(thousandths: u16) -> i8 {
    i8::try_from((u32::from(thousandths.min(1000)) * 127).div_ceil(1000)).unwrap_or(i8::MAX)
}

/// `ID-` and the resource as NCName characters: letters, digits, `-` and `.` stand for themselves, any other byte is `_` and its hex.
fn tuple_id(resource: &str) -> String {
    let mut id = String::with_capacity(3 + resource.len());
    id.push_str("ID-");
    for byte in resource.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' => id.push(char::from(byte)),
            _ => id.push_str(&format!("_{byte:02x}")),
        }
    }
    id
}
