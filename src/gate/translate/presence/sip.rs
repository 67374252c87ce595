//! Looks in presence documents.

use super::tables::{Look, State, WIRE_SIP, WORDS, sip_wire};
use crate::wire::pidf::{Document, Note, Tuple};

/// What a presence document says of its presentity as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    /// The most available tuple's look.
    pub(super) look: Look,
    /// Its `<show/>`, where that says the same more finely.
    pub(super) show: Option<String>,
    /// What the presentity says.
    pub(super) note: Option<Note>,
    /// Its contact priority, in thousandths.
    pub(super) priority: Option<u16>,
}

/// Reads a document: the most available tuple wins (RFC 8048 §6.2), then the higher contact priority, then one with a note (presence servers
/// make one document of several devices', in any order), then the earlier one.
pub(super) fn read_look(document: &Document) -> Seen {
    let open = document.tuples.iter().filter(|tuple| is_open(tuple, document));
    let best = open.map(|tuple| (tuple, read_tuple(tuple, document))).min_by_key(|(tuple, (look, note))| {
        let priority = 1000 - tuple.priority.unwrap_or_default().min(1000);
        (sip_wire(look.state).availability, priority, note.is_none())
    });
    let Some((tuple, (look, note))) = best else {
        let note = document.note.clone().or_else(|| document.tuples.iter().find_map(|tuple| tuple.note.clone()));
        return Seen { look: Look { state: State::Offline, text: None }, show: None, note, priority: None };
    };
    let said = !tuple.activities.is_empty() || !document.activities.is_empty();
    let show = tuple.show.as_deref().filter(|show| super::xmpp::SHOWS.contains(show)).filter(|show| {
        // A client's own word for the same look is finer; one against it is a dialect's makeshift (Jabber's busy is an `away`).
        !said
            || matches!(
                (*show, look.state),
                ("away" | "xa", State::Away | State::ExtendedAway)
                    | ("dnd", State::Busy | State::DoNotDisturb)
                    | ("chat", State::Available)
            )
    });
    Seen { look, show: show.map(str::to_owned), note, priority: tuple.priority }
}

/// RFC 3863 §4.1.4; a status that has other words than `<basic/>` is somebody's who is there.
fn is_open(tuple: &Tuple, document: &Document) -> bool {
    tuple.open.unwrap_or(!tuple.activities.is_empty() || tuple.show.is_some() || !document.activities.is_empty())
}

fn read_tuple(tuple: &Tuple, document: &Document) -> (Look, Option<Note>) {
    // RFC 4480 §3.2 gives activities to the person; a tuple's own are its device's.
    let activities = if tuple.activities.is_empty() { &document.activities } else { &tuple.activities };
    let state = WORDS
        .iter()
        .find(|(_, words)| activities.iter().any(|activity| words.contains(&activity.as_str())))
        .map_or(State::Available, |(state, _)| *state);
    let note = tuple.note.clone().or_else(|| document.note.clone());
    // Two looks of one activity are told apart by the note.
    let named = WIRE_SIP.iter().find(|wire| {
        wire.note.is_some()
            && wire.note == note.as_ref().map(|note| note.text.trim())
            && wire.activity == sip_wire(state).activity
    });
    match named {
        Some(wire) => (Look { state: wire.state, text: None }, None),
        None => (Look { state, text: None }, note),
    }
}
