//! What outlives a restart of a contact, and how it is gone on with.

use super::leg::{KeptLeg, Leg};
use super::{Contact, ContactKey, Contacts, Ends, Standing, record_id};
use crate::gate::lane::Lane;
use crate::gate::limits;
use crate::gate::partner::Protocol;
use crate::gate::record::{Kept, Record, Restored};
use crate::gate::route::table;
use crate::gate::session::transaction::Clients;
use crate::gate::session::{Step, Turn};
use crate::gate::time::Time;
use crate::wire::address::Jid;
use serde::{Deserialize, Serialize};

/// What is kept of a contact.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct KeptContact {
    watcher: String,
    presentity: String,
    granted: bool,
    /// Refused, and the watcher may not know yet.
    #[serde(default)]
    over: bool,
    leg: Option<KeptLeg>,
    /// Until when the partner asked not to be asked; 0 if it did not.
    #[serde(default)]
    hold_until_unix_nanos: u64,
}

impl Contacts {
    /// Takes a kept contact back after a restart. Who is authorised stays so, also while its partner or node is not in the settings.
    pub fn restore(&mut self, turn: &mut Turn<'_>, clients: &mut Clients, kept: KeptContact) -> Restored {
        let (Ok(watcher), Ok(presentity)) = (Jid::parse(&kept.watcher), Jid::parse(&kept.presentity)) else {
            return Restored::Gone;
        };
        let key = (watcher.bare, presentity.bare);
        let Some(id) = turn.settings.policy.partner_for(key.1.domain(), Protocol::Sip) else {
            return Restored::Later("no [[partner]] entry has their contact's domain");
        };
        let partner = turn.settings.policy.partner(id);
        let Ok(node) = table::node_between(turn.settings, key.1.domain(), &key.0) else {
            return Restored::Later("no [[node]] serves them");
        };
        let (label, of) = (partner.label.clone(), partner.profile);
        let ends = Ends { node: &node.name, seen_by: node.profile, partner: &label, of };
        let hold_until = Time::from_unix_nanos(kept.hold_until_unix_nanos);
        let at = turn.jittered(limits::ASK_AFTER_RESTART);
        // What the partner asked for holds over a restart.
        let asks_at = at.max(hold_until);
        // A refresh brings a NOTIFY, and so the state that was lost. One that ran out while we were down is begun anew, and as little at
        // once with all the others.
        let mut leg = kept.leg.map(|kept| Leg::resumed(kept, turn.settings.presence.expires, turn.now, asks_at));
        leg.take_if(|leg| leg.expires_at <= turn.now);
        if let Some(leg) = leg.as_mut().filter(|_| hold_until <= at) {
            // It runs out sooner than it is refreshed: the partner's answer to that says whether it has ended.
            leg.expires_at = leg.expires_at.max(asks_at + limits::TIMER_F);
        }
        let standing = match (kept.over, kept.granted) {
            (true, _) => Standing::Over,
            (_, true) => Standing::Granted,
            (_, false) => Standing::Pending,
        };
        let mut contact = Contact::new(turn.now, ends, standing, leg.is_none().then_some(asks_at));
        contact.leg = leg;
        contact.hold_until = hold_until.max(turn.now);
        contact.unannounced = true;
        if kept.over {
            contact.retry_at = Some(turn.now + limits::CONTACT_OVER);
            contact.tell_at = Some(at);
        }
        self.table.insert(&key, contact);
        if !kept.over {
            self.decide_again(turn, clients, &key);
        }
        self.arm(turn, &key);
        Restored::Live
    }

    pub(super) fn keep(&mut self, turn: &mut Turn<'_>, key: &ContactKey) {
        let Some(contact) = self.table.get(key) else { return };
        let granted = match contact.standing {
            Standing::Pending => false,
            Standing::Granted => true,
            // Forgotten already.
            Standing::Leaving | Standing::Over => return,
        };
        let leg = contact.leg.as_ref().and_then(Leg::kept).filter(|_| !self.leaving);
        let kept = KeptContact {
            watcher: key.0.to_jid(),
            presentity: key.1.to_jid(),
            granted,
            over: false,
            leg,
            hold_until_unix_nanos: if contact.hold_until > turn.now { contact.hold_until.unix_nanos() } else { 0 },
        };
        turn.step(Step::Keep { lane: Lane::of(key), record: Record { id: record_id(key), kept: Kept::Contact(kept) } });
    }

    /// Until the node has it: a refusal that is lost would be asked for at every login.
    pub(super) fn keep_refusal(&self, turn: &mut Turn<'_>, key: &ContactKey) {
        let kept = KeptContact {
            watcher: key.0.to_jid(),
            presentity: key.1.to_jid(),
            granted: false,
            over: true,
            leg: None,
            hold_until_unix_nanos: 0,
        };
        turn.step(Step::Keep { lane: Lane::of(key), record: Record { id: record_id(key), kept: Kept::Contact(kept) } });
    }
}
