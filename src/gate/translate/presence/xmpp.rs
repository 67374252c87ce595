//! Looks in presence stanzas.

use super::Shown;
use super::tables::{self, Look, MEETING, State, System, xmpp_wire};
use crate::gate::partner::Profile;
use crate::wire::xmpp::Element;

/// A status that crosses, in characters.
const STATUS_CHARS: usize = 1024;
/// XEP-0319.
pub(super) const NS_IDLE: &str = "urn:xmpp:idle:1";

/// RFC 6121 §4.7.2.1.
pub(super) const SHOWS: [&str; 4] = ["away", "chat", "dnd", "xa"];

/// What an available presence element says.
pub fn read_element(presence: &Element) -> Shown {
    let ns = presence.ns.as_str();
    let lang = presence.get_attr("xml:lang");
    let statuses = || presence.elements().filter(|child| child.is("status", ns));
    // RFC 6121 §4.7.2.2: one for each language; the stanza's own is the one meant for everybody.
    let status = statuses()
        .find(|status| status.get_attr("xml:lang").is_none_or(|own| Some(own) == lang))
        .or_else(|| statuses().next());
    let said = status
        .map(|status| status.content().chars().take(STATUS_CHARS).collect::<String>())
        .filter(|said| !said.trim().is_empty());
    Shown {
        show: presence
            .find("show", ns)
            .map(|show| show.content().trim().to_owned())
            .filter(|show| SHOWS.contains(&show.as_str())),
        lang: status
            .filter(|_| said.is_some())
            .and_then(|status| status.get_attr("xml:lang").or(lang))
            .map(str::to_owned),
        status: said,
        priority: presence
            .find("priority", ns)
            .and_then(|priority| priority.content().trim().parse().ok())
            .unwrap_or_default(),
        idle: presence.find("idle", NS_IDLE).is_some(),
    }
}

/// What the contact's own client calls this, and the status that is the contact's own: a system's text beside its icon is not.
pub(super) fn read_look(shown: &Shown, system: System) -> (Look, Option<String>) {
    let own = shown.status.clone();
    let said = own.as_deref();
    let plain = |state| Look { state, text: None };
    match shown.show.as_deref() {
        Some("dnd") => (plain(State::DoNotDisturb), own),
        Some("xa") => (plain(State::ExtendedAway), own),
        Some("away") => match (system, said) {
            (System::Jabber, Some("Busy")) => (plain(State::Busy), None),
            (System::Jabber, Some(said)) if said.starts_with("Busy: ") => {
                (plain(State::Busy), said.strip_prefix("Busy: ").map(str::to_owned))
            }
            (System::Webex, Some(MEETING)) => (plain(State::Away).saying(MEETING), None),
            (_, Some("Idle")) => (idle(system), None),
            // With a status of its own, that is what others read; the idle element alone is the icon.
            (_, None) if shown.idle => (idle(system), None),
            _ => (plain(State::Away), own),
        },
        _ if system == System::Sametime && said == Some(MEETING) => (plain(State::Available).saying(MEETING), None),
        _ => (plain(State::Available), own),
    }
}

/// A look and the contact's own status, as `<show/>`, `<status/>` and idle.
pub(super) fn write_look(look: Look, own: Option<&str>) -> (Option<&'static str>, Option<String>, bool) {
    let wire = xmpp_wire(look.state);
    (wire.show, join(look.text.or(wire.status), own), wire.idle)
}

/// The text that a look has, and what the contact says.
pub(super) fn join(text: Option<&str>, own: Option<&str>) -> Option<String> {
    match (text, own) {
        (Some(text), Some(own)) if text != own => Some(format!("{text}: {own}")),
        (Some(text), _) => Some(text.to_owned()),
        (None, own) => own.map(str::to_owned),
    }
}

/// Jabber has an icon for it, others say it beside the away icon.
fn idle(system: System) -> Look {
    match system {
        System::Jabber => Look { state: State::Idle, text: None },
        _ => Look { state: State::Away, text: Some("Idle") },
    }
}

/// Tables 9 to 12: how an available presence of an `of` user is respelled for a user of a `seen_by` client, XMPP on both sides.
///
/// `None`: it looks the same there, every byte stays. Else `<show/>` and `<status/>` are to be replaced by these; an `idle` that was not there
/// before is written with the time of this very stanza (XEP-0319 wants one).
pub fn respell(shown: &Shown, of: Profile, seen_by: Profile) -> Option<Shown> {
    let system = System::of_xmpp(of);
    let (look, own) = read_look(shown, system);
    let cell = tables::cell(system, look, System::of_xmpp(seen_by))?;
    let (show, status, idle) = write_look(cell.look, own.as_deref());
    let (same_show, same_status, _) = write_look(look, own.as_deref());
    // "+status": the text was the contact's own to the receiving system, and comes along as that.
    if show == same_show && (status == same_status || cell.own_status) {
        return None;
    }
    let lang = shown.lang.clone().filter(|_| own.is_some());
    Some(Shown { show: show.map(str::to_owned), status, lang, idle: idle || shown.idle, ..shown.clone() })
}
