//! The XMPP half of a contact: what its watcher is told, and told again when that did not arrive.

use super::{Contact, ContactKey, Contacts, Standing};
use crate::gate::Path;
use crate::gate::lane::Lane;
use crate::gate::limits;
use crate::gate::route::node_hop;
use crate::gate::session::{Parcel, Passage, Step, Turn};
use crate::gate::time::Time;
use crate::gate::translate::presence;
use crate::wire::pidf::Document;
use crate::wire::xmpp::{Element, NS_SERVER};
use bytes::Bytes;

/// SIP devices are not shown apart to XMPP, so a contact has one resource; presence comes from a full JID (RFC 6121 §4.2).
const RESOURCE: &str = "sip";

impl Contacts {
    /// Presence could not be handed to the node: everything is told again later.
    pub fn say_later(&mut self, turn: &mut Turn<'_>, key: &ContactKey) {
        let Some(contact) = self.table.get_mut(key) else { return };
        let has_left = contact.standing == Standing::Over && contact.leg.is_some();
        if has_left {
            return;
        }
        contact.unannounced = true;
        if contact.tell_at.is_some_and(|at| at > turn.now) {
            return;
        }
        contact.tell_failures = contact.tell_failures.saturating_add(1);
        let wait = limits::ASK_AGAIN_FIRST * (1 << contact.tell_failures.min(7).saturating_sub(1));
        let at = turn.jittered(wait.min(limits::ASK_AGAIN));
        contact.tell_at = Some(at);
        if contact.standing == Standing::Over {
            contact.retry_at = contact.retry_at.max(Some(at + limits::CONTACT_OVER));
        }
        self.arm(turn, key);
    }

    /// Tells the watcher everything again: how it stands, and what is shown.
    pub(super) fn tell(&mut self, turn: &mut Turn<'_>, key: &ContactKey) {
        let Some(contact) = self.table.get_mut(key) else { return };
        contact.tell_at = None;
        if contact.standing == Standing::Over {
            // Who left by itself, and only awaits the last NOTIFY, knows.
            if contact.leg.is_none() {
                self.say_type(turn, key, "unsubscribed");
            }
            return;
        }
        self.tell_subscribed(turn, key);
        self.tell_again(turn, key);
    }

    pub(super) fn tell_subscribed(&mut self, turn: &mut Turn<'_>, key: &ContactKey) {
        if self.table.get(key).is_some_and(|contact| contact.standing == Standing::Granted) {
            self.say_type(turn, key, "subscribed");
        }
    }

    pub(super) fn tell_again(&mut self, turn: &mut Turn<'_>, key: &ContactKey) {
        let shown = self.table.get(key).and_then(|contact| contact.shown.as_deref());
        if let Some(Ok(shown)) = shown.map(|shown| Element::parse(shown.as_bytes(), NS_SERVER)) {
            self.say(turn, key, shown, false, None);
        }
    }

    /// What was shown is no longer known.
    pub(super) fn lose_sight(&mut self, turn: &mut Turn<'_>, key: &ContactKey) {
        let is_blind = |contact: &Contact| contact.standing == Standing::Granted && contact.leg.is_none();
        if self.table.get(key).is_some_and(is_blind) {
            self.show(turn, key, None, turn.now);
        }
    }

    pub(super) fn show(&mut self, turn: &mut Turn<'_>, key: &ContactKey, document: Option<&Document>, at: Time) {
        let Some(contact) = self.table.get_mut(key) else { return };
        let shown = presence::to_stanza(document, contact.of, contact.seen_by);
        let printed = shown.print(NS_SERVER);
        if contact.shown.as_ref() == Some(&printed) {
            return;
        }
        contact.shown = Some(printed);
        self.say(turn, key, shown, false, Some((at, Path::SipXmpp)));
    }

    pub(super) fn say_type(&mut self, turn: &mut Turn<'_>, key: &ContactKey, type_: &str) {
        self.say(turn, key, Element::new("presence", NS_SERVER).attr("type", type_), true, None);
    }

    /// Presence from the contact to the watcher: authorisation from the bare address, state from the one resource it has.
    pub(super) fn say(
        &mut self,
        turn: &mut Turn<'_>,
        key: &ContactKey,
        said: Element,
        bare: bool,
        transit: Option<(Time, Path)>,
    ) {
        let Some(contact) = self.table.get(key) else { return };
        let from = if bare { key.1.to_jid() } else { format!("{}/{RESOURCE}", key.1.to_jid()) };
        let stanza = said.attr("from", &from).attr("to", &key.0.to_jid());
        let hop = node_hop(turn.settings, &contact.node, key.1.domain(), key.0.domain());
        let bytes = Bytes::from(stanza.print(NS_SERVER));
        let parcel = Parcel { bytes, passage: Passage::Contact(key.clone()), transit, lane: Lane::of(key) };
        turn.step(Step::Pass { hop, parcel });
    }
}
