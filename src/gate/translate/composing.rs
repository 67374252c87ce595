//! Typing: XEP-0085 chat states, RFC 3994 isComposing, and the INFO that Microsoft's clients send instead.
//!
//! Takes one's words, gives another's.

use crate::gate::limits;
use crate::wire::xmpp::{Element, NS_SERVER};
use std::time::Duration;

/// The namespace of chat states.
pub const NS_CHATSTATES: &str = "http://jabber.org/protocol/chatstates";
/// RFC 3994 §5.
const NS_COMPOSING: &str = "urn:ietf:params:xml:ns:im-iscomposing";
/// The type of an isComposing document.
pub const COMPOSING_TYPE: &str = "application/im-iscomposing+xml";
/// COMPAT(lync): the type of a KeyboardActivity document.
pub const KEYBOARD_TYPE: &str = "application/xml";

/// A chat state (XEP-0085 §5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum ChatState {
    Active,
    Composing,
    Paused,
    Inactive,
    Gone,
}

/// What a SIP user's client says of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Typing {
    /// As XMPP says it.
    pub state: ChatState,
    /// How long `composing` counts without another word.
    pub counts: Duration,
}

impl ChatState {
    const ALL: [(ChatState, &str); 5] = [
        (ChatState::Active, "active"),
        (ChatState::Composing, "composing"),
        (ChatState::Paused, "paused"),
        (ChatState::Inactive, "inactive"),
        (ChatState::Gone, "gone"),
    ];

    /// The chat state of a message, if it has one.
    pub fn of(message: &Element) -> Option<Self> {
        let state = message.elements().find(|child| child.ns == NS_CHATSTATES)?;
        Self::ALL.iter().find(|(_, name)| *name == state.name).map(|(state, _)| *state)
    }

    /// Its element.
    pub fn element(self) -> Element {
        let name = Self::ALL.iter().find(|(state, _)| *state == self).map_or("active", |(_, name)| name);
        Element::new(name, NS_CHATSTATES)
    }

    /// A message that says nothing else (XEP-0085 §5.5: within the thread).
    pub fn alone(self, from: &str, to: &str, thread: &str) -> Element {
        Element::new("message", NS_SERVER)
            .attr("type", "chat")
            .attr("from", from)
            .attr("to", to)
            .child(self.element())
            .child(Element::new("thread", NS_SERVER).text(thread))
    }

    /// Whether it means typing, as SIP sees it: all but `composing` is idle (RFC 7573 §7).
    pub fn is_typing(self) -> bool {
        self == ChatState::Composing
    }
}

/// COMPAT(lync): reads `<KeyboardActivity><status status="type"/></KeyboardActivity>`; `None` if it is none.
pub fn read_keyboard(body: &[u8]) -> Option<Typing> {
    let root = document(body)?;
    if root.name != "KeyboardActivity" {
        return None;
    }
    let state = match root.elements().find(|child| child.name == "status")?.get_attr("status")? {
        "type" => ChatState::Composing,
        "idle" => ChatState::Paused,
        _ => return None,
    };
    Some(Typing { state, counts: limits::TYPING_COUNTS })
}

/// COMPAT(lync): writes it.
pub fn write_keyboard(is_typing: bool) -> String {
    let status = if is_typing { "type" } else { "idle" };
    format!(
        "<?xml version=\"1.0\"?>\r\n<KeyboardActivity>\r\n  <status status=\"{status}\" />\r\n</KeyboardActivity>\r\n"
    )
}

/// Reads an isComposing document (RFC 3994 §5); `None` if it is none. A state nobody knows is idle (§3.1).
pub fn read_composing(body: &[u8]) -> Option<Typing> {
    let root = document(body)?;
    if !root.is("isComposing", NS_COMPOSING) {
        return None;
    }
    let text = |name: &str| root.find(name, NS_COMPOSING).map(Element::content);
    let state = match text("state")?.trim() {
        "active" => ChatState::Composing,
        _ => ChatState::Active,
    };
    let refresh = text("refresh").and_then(|text| text.trim().parse().ok()).map(Duration::from_secs);
    // §3.3: the refresh interval, at least a minute; without one 120 s.
    let counts = refresh.unwrap_or(limits::TYPING_COUNTS).clamp(limits::TYPING_REFRESH, Duration::from_secs(3600));
    Some(Typing { state, counts })
}

/// Writes an isComposing document.
pub fn write_composing(is_typing: bool) -> String {
    let (state, refresh) = match is_typing {
        true => ("active", format!("<refresh>{}</refresh>", limits::TYPING_REFRESH.as_secs())),
        false => ("idle", String::new()),
    };
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\r\n<isComposing xmlns=\"{NS_COMPOSING}\"><state>{state}</state>\
         <contenttype>text/plain</contenttype>{refresh}</isComposing>"
    )
}

/// A small document: an XML declaration may stand before it.
fn document(body: &[u8]) -> Option<Element> {
    let text = std::str::from_utf8(body).ok()?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text).trim();
    let text = match text.strip_prefix("<?xml") {
        Some(rest) => rest.split_once("?>")?.1.trim_start(),
        None => text,
    };
    Element::parse(text.as_bytes(), "").ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn keyboard_activity_goes_both_ways() {
        for (is_typing, state) in [(true, ChatState::Composing), (false, ChatState::Paused)] {
            let read = read_keyboard(write_keyboard(is_typing).as_bytes()).unwrap();
            assert_eq!(read, Typing { state, counts: Duration::from_secs(120) });
        }
        for other in [
            "",
            "<KeyboardActivity/>",
            "<a><status status='type'/></a>",
            "<!DOCTYPE a><KeyboardActivity/>",
            "<KeyboardActivity><status status='jump'/></KeyboardActivity>",
        ] {
            assert_eq!(read_keyboard(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn is_composing_goes_both_ways() {
        let read = read_composing(write_composing(true).as_bytes()).unwrap();
        assert_eq!(read, Typing { state: ChatState::Composing, counts: Duration::from_secs(60) });
        assert_eq!(read_composing(write_composing(false).as_bytes()).unwrap().state, ChatState::Active);
        let with = |inner: &str| {
            read_composing(format!("<isComposing xmlns='{NS_COMPOSING}'>{inner}</isComposing>").as_bytes())
        };
        // RFC 3994 §3.1: an unknown state is idle; §3.3: the default, and bounds against nonsense.
        assert_eq!(with("<state>dancing</state>").unwrap().state, ChatState::Active);
        for (refresh, counts) in [
            ("", 120),
            ("<refresh>90</refresh>", 90),
            ("<refresh>1</refresh>", 60),
            ("<refresh>9999999</refresh>", 3600),
            ("<refresh>-1</refresh>", 120),
        ] {
            assert_eq!(with(&format!("<state>active</state>{refresh}")).unwrap().counts.as_secs(), counts, "{refresh}");
        }
        assert_eq!(with(""), None);
        assert_eq!(read_composing(b"<isComposing><state>active</state></isComposing>"), None);
    }

    #[test]
    fn chat_states_are_found_among_others() {
        for (state, name) in ChatState::ALL {
            let message =
                Element::new("message", NS_SERVER).child(Element::new("body", NS_SERVER)).child(state.element());
            assert_eq!(ChatState::of(&message), Some(state));
            assert_eq!(state.element().name, name);
        }
        assert_eq!(ChatState::of(&Element::new("message", NS_SERVER)), None);
    }

    proptest! {
        #[test]
        fn hostile_documents_never_panic(body in any::<Vec<u8>>(), text in "<[ -~]{0,60}") {
            let _ = (read_keyboard(&body), read_composing(&body), read_keyboard(text.as_bytes()), read_composing(text.as_bytes()));
        }
    }
}
