//! A SIP watcher who asks once: SUBSCRIBE with Expires 0 outside a dialog (RFC 6665 §4.4.3, RFC 8048 §6.3), an XMPP probe, one NOTIFY.

use super::dialog::Dialog;
use super::transaction::{Clients, Purpose, Sent};
use super::watch::{WatchKey, document, say};
use super::{Deadline, Passage, Turn, partner_hop};
use crate::gate::lane::Lane;
use crate::gate::limits;
use crate::gate::partner::Profile;
use crate::gate::policy::Permit;
use crate::gate::reject::{Reason, Reject};
use crate::gate::route::table;
use crate::gate::translate::presence::{self, Shown};
use crate::wire::sip::{Message, Method};
use crate::wire::xmpp::Stanza;
use std::collections::BTreeMap;

/// All fetches under way.
#[derive(Debug, Default)]
pub struct Fetches {
    next: u64,
    open: BTreeMap<u64, Fetch>,
}

#[derive(Debug)]
struct Fetch {
    key: WatchKey,
    dialog: Dialog,
    event_id: Option<String>,
    seen_by: Profile,
    of: Profile,
    resources: BTreeMap<String, Shown>,
    /// Whether the presentity's server said anything that may be shown.
    known: bool,
}

impl Fetches {
    /// Starts one; our tag is returned for the 200.
    pub fn start(
        &mut self,
        turn: &mut Turn<'_>,
        permit: &Permit,
        request: &Message,
        event_id: Option<String>,
        seen_by: Profile,
    ) -> Result<String, Reject> {
        if self.open.len() >= limits::FETCHES {
            return Err(Reject::new(Reason::Overloaded, format!("{} presence fetches are under way", limits::FETCHES)));
        }
        let node = table::node_between(turn.settings, permit.from().domain(), permit.to())?;
        let local_tag = turn.token();
        let dialog = Dialog::from_request(request, local_tag.clone())?;
        let id = self.next;
        self.next += 1;
        let key = (permit.from().clone(), permit.to().clone());
        let known = permit.is_polite();
        let fetch =
            Fetch { key: key.clone(), dialog, event_id, seen_by, of: node.profile, resources: BTreeMap::new(), known };
        self.open.insert(id, fetch);
        if known {
            turn.deadlines.set(Deadline::Fetch(id), turn.now);
        } else {
            turn.deadlines.set(Deadline::Fetch(id), turn.now + limits::FETCH_WAITS);
            say(turn, &node.name, &key, "probe", Passage::Fetch(id));
        }
        Ok(local_tag)
    }

    /// Presence from the presentity's server. The answer of one resource may be followed by others': wait a moment for them.
    pub fn presence(&mut self, turn: &mut Turn<'_>, key: &WatchKey, stanza: &Stanza) {
        for (id, fetch) in self.open.iter_mut().filter(|(_, fetch)| fetch.key == *key) {
            match stanza.type_.as_deref() {
                None if fetch.resources.len() < limits::RESOURCES_PER_WATCH => {
                    let resource = stanza.from.as_ref().ok().and_then(|j| j.as_ref()).and_then(|j| j.resource.clone());
                    fetch
                        .resources
                        .insert(resource.as_deref().unwrap_or_default().to_owned(), presence::read_stanza(stanza));
                    fetch.known = true;
                }
                Some("unavailable") => fetch.known = true,
                // COMPAT(prosody): who is not authorised hears `unsubscribed`; it is told nothing.
                Some("unsubscribed" | "error") => {}
                _ => continue,
            }
            turn.deadlines.set(Deadline::Fetch(*id), turn.now + limits::FETCH_GATHERS);
        }
    }

    /// Whether somebody has asked.
    pub fn knows(&self, key: &WatchKey) -> bool {
        self.open.values().any(|fetch| fetch.key == *key)
    }

    /// Answers: waited long enough, or the presentity's server cannot be reached.
    pub fn finish(&mut self, turn: &mut Turn<'_>, clients: &mut Clients, id: u64) {
        let Some(mut fetch) = self.open.remove(&id) else { return };
        turn.deadlines.cancel(&Deadline::Fetch(id));
        let body = fetch.known.then(|| document(&fetch.key.1, &fetch.resources, fetch.seen_by, fetch.of));
        let event = match &fetch.event_id {
            Some(id) => format!("presence;id={id}"),
            None => "presence".to_owned(),
        };
        let branch = turn.branch();
        let identity = &turn.settings.identities[turn.settings.identity_for(fetch.key.1.domain())];
        let request = fetch.dialog.request(
            Method::Notify,
            &branch,
            identity,
            vec![("Event", event), ("Subscription-State", "terminated;reason=timeout".to_owned())],
            body.as_ref().map(|body| ("application/pidf+xml", body.as_bytes())),
        );
        let hop = partner_hop(turn.settings, fetch.key.0.domain(), fetch.key.1.domain());
        let (purpose, bytes) = (Purpose::FetchNotify, request.bytes);
        clients.send(
            turn,
            hop,
            Sent { branch, method: Method::Notify, purpose, bytes, transit: None, lane: Lane::Free },
        );
    }

    /// How many are under way.
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }
}
