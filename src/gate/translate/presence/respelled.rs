//! Presence that stays XMPP, respelled for the receiving client's kind.

use super::tables::System;
use super::{read_stanza, respell, xmpp};
use crate::gate::partner::Profile;
use crate::gate::time::Time;
use crate::wire::xmpp::element::Node;
use crate::wire::xmpp::{Element, Kind, NS_SERVER, Stanza};

/// An available presence of an `of` user as a user of a `seen_by` client is to see it, received `at`. `None`: as it is, every byte.
pub fn respelled(stanza: &Stanza, of: Profile, seen_by: Profile, at: Time) -> Option<Element> {
    let is_plain = |profile| System::of_xmpp(profile) == System::Xmpp;
    if stanza.kind != Kind::Presence || stanza.type_.is_some() || is_plain(of) && is_plain(seen_by) {
        return None;
    }
    let shown = respell(&read_stanza(stanza), of, seen_by)?;
    let mut presence = stanza.element().clone();
    let is_respelled =
        |element: &Element| element.ns == NS_SERVER && matches!(element.name.as_str(), "show" | "status");
    presence.children.retain(|node| !matches!(node, Node::Element(element) if is_respelled(element)));
    if let Some(show) = &shown.show {
        presence = presence.child(Element::new("show", NS_SERVER).text(show));
    }
    if let Some(status) = &shown.status {
        let lang = shown.lang.as_deref();
        presence = presence.child(Element::new("status", NS_SERVER).attr_if("xml:lang", lang).text(status));
    }
    if shown.idle && presence.find("idle", xmpp::NS_IDLE).is_none() {
        // XEP-0319 wants a time; nobody knows an earlier one.
        let seconds = i64::try_from(at.unix_seconds()).unwrap_or_default();
        let since = jiff::Timestamp::from_second(seconds).map(|time| time.to_string()).unwrap_or_default();
        presence = presence.child(Element::new("idle", xmpp::NS_IDLE).attr("since", &since));
    }
    Some(presence)
}
