//! INVITEs of ours: the client transaction (RFC 3261 §17.1.1, RFC 6026), CANCEL, the ACK of whatever comes back, and answers that come
//! late or from several forks.
//!
//! It says what was heard; what that means for the session is [`super::outbound`]'s.

use super::ChatKey;
use crate::gate::lane::Lane;
use crate::gate::limits;
use crate::gate::partner::LinkId;
use crate::gate::route::HopKey;
use crate::gate::session::{Deadline, Parcel, Passage, Step, Turn};
use crate::wire::sip::compose::Request;
use crate::wire::sip::header::Name;
use crate::wire::sip::{Message, Method};
use bytes::Bytes;
use std::collections::BTreeMap;

/// All INVITEs under way, and those whose late answers must still be ended.
#[derive(Debug, Default)]
pub(super) struct Invites {
    table: BTreeMap<String, Invite>,
}

/// One INVITE: what its ACK and CANCEL repeat of it.
#[derive(Debug)]
pub(super) struct Invite {
    pub(super) key: ChatKey,
    pub(super) hop: HopKey,
    /// Our From value without tag.
    pub(super) local: String,
    pub(super) local_tag: String,
    uri: String,
    via: String,
    call_id: String,
    link: Option<LinkId>,
    stage: Stage,
    surplus: usize,
}

#[derive(Debug)]
enum Stage {
    /// Nothing heard: Timer B runs.
    Calling,
    /// A provisional answer.
    Ringing,
    /// No longer wanted, but nothing was heard yet: CANCEL must wait for a provisional answer (RFC 3261 §9.1).
    Unwanted,
    /// Cancelled, or given up: an answer that still comes is ended.
    Cancelled,
    /// Won by the answer with this tag; its ACK is sent again for each of its retransmissions.
    Accepted { remote_tag: String, ack: Box<[u8]> },
}

/// What a response means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// Nothing to do.
    Nothing,
    /// The first 2xx, and it is wanted.
    Accepted,
    /// A 2xx nobody wants (any more): ACK and BYE.
    Surplus,
    /// A final refusal, acknowledged.
    Refused(ChatKey),
}

/// What an INVITE says beside what its transaction fills in.
pub(super) struct Offer<'a> {
    pub(super) key: &'a ChatKey,
    pub(super) hop: HopKey,
    pub(super) uri: String,
    pub(super) call_id: String,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: &'a str,
}

impl Invites {
    /// Sends one; its branch and our tag are returned.
    pub(super) fn send(&mut self, turn: &mut Turn<'_>, offer: Offer<'_>) -> (String, String) {
        let Offer { key, hop, uri, call_id, headers: further, body } = offer;
        let (branch, local_tag) = (turn.branch(), turn.token());
        let identity = &turn.settings.identities[turn.settings.identity_for(key.0.domain())];
        let via = format!("SIP/2.0/TLS {}:{};branch={branch}", identity.hostname, identity.sip_port);
        let local = format!("<sip:{}>", key.0.to_sip());
        let mut headers = vec![
            ("Via", via.clone()),
            ("Max-Forwards", "70".to_owned()),
            ("From", format!("{local};tag={local_tag}")),
            ("To", format!("<{uri}>")),
            ("Call-ID", call_id.clone()),
            ("CSeq", "1 INVITE".to_owned()),
        ];
        headers.extend(further);
        let body = Some(("application/sdp", body.as_bytes()));
        let bytes = Request { method: Method::Invite, uri: &uri, headers: &headers, body }.print();
        turn.deadlines.set(Deadline::Invite(branch.clone()), turn.now + limits::TIMER_B);
        let passage = Passage::Request(branch.clone());
        let parcel = Parcel { bytes, passage, transit: None, lane: Lane::of(key) };
        turn.step(Step::Pass { hop: hop.clone(), parcel });
        let invite = Invite {
            key: key.clone(),
            hop,
            local,
            local_tag: local_tag.clone(),
            uri,
            via,
            call_id,
            link: None,
            stage: Stage::Calling,
            surplus: 0,
        };
        self.table.insert(branch.clone(), invite);
        (branch, local_tag)
    }

    pub(super) fn get(&self, branch: &str) -> Option<&Invite> {
        self.table.get(branch)
    }

    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    /// It is being written on this link: answers come there or nowhere. `false`: it is no longer wanted, or not one of these.
    pub(super) fn written(&mut self, branch: &str, link: LinkId) -> bool {
        let Some(invite) = self.table.get_mut(branch) else { return false };
        invite.link = Some(link);
        matches!(invite.stage, Stage::Calling)
    }

    /// Those whose answer was awaited on a link.
    pub(super) fn on_link(&self, link: LinkId) -> Vec<String> {
        self.table.iter().filter(|(_, i)| i.link == Some(link)).map(|(branch, _)| branch.clone()).collect()
    }

    /// It ended without an answer: for which session, if one still waits.
    pub(super) fn ended(&mut self, turn: &mut Turn<'_>, branch: &str) -> Option<ChatKey> {
        let invite = self.table.remove(branch)?;
        turn.deadlines.cancel(&Deadline::Invite(branch.to_owned()));
        matches!(invite.stage, Stage::Calling | Stage::Ringing).then_some(invite.key)
    }

    /// Its time is up: for which session, if one still waits. What rings is cancelled; a late answer is still ended.
    pub(super) fn due(&mut self, turn: &mut Turn<'_>, branch: &str) -> Option<ChatKey> {
        let invite = self.table.get_mut(branch)?;
        let key = invite.key.clone();
        match invite.stage {
            Stage::Calling => invite.stage = Stage::Unwanted,
            Stage::Ringing => invite.cancel(turn),
            Stage::Unwanted | Stage::Cancelled | Stage::Accepted { .. } => {
                self.table.remove(branch);
                return None;
            }
        }
        turn.deadlines.set(Deadline::Invite(branch.to_owned()), turn.now + limits::TIMER_B);
        Some(key)
    }

    /// It is no longer wanted (RFC 3261 §9.1).
    pub(super) fn cancel(&mut self, turn: &mut Turn<'_>, branch: &str) {
        let Some(invite) = self.table.get_mut(branch) else { return };
        match invite.stage {
            Stage::Calling => invite.stage = Stage::Unwanted,
            Stage::Ringing => invite.cancel(turn),
            Stage::Unwanted | Stage::Cancelled | Stage::Accepted { .. } => return,
        }
        turn.deadlines.set(Deadline::Invite(branch.to_owned()), turn.now + limits::TIMER_B);
    }

    /// A response on this link; `None` if it answers no INVITE of ours.
    pub(super) fn answered(
        &mut self,
        turn: &mut Turn<'_>,
        link: LinkId,
        response: &Message,
        status: u16,
    ) -> Option<Heard> {
        let branch = response.branch()?;
        let invite = self.table.get_mut(branch)?;
        let (_, method) = response.cseq()?;
        // The answer to our CANCEL has the same branch; it tells nothing (RFC 3261 §9.1).
        if method != Method::Invite || invite.link != Some(link) {
            return Some(Heard::Nothing);
        }
        match (status, &invite.stage) {
            (100..=199, Stage::Calling) => {
                invite.stage = Stage::Ringing;
                turn.deadlines.set(Deadline::Invite(branch.to_owned()), turn.now + limits::INVITE_RINGS);
                Some(Heard::Nothing)
            }
            (100..=199, Stage::Unwanted) => {
                invite.cancel(turn);
                Some(Heard::Nothing)
            }
            (100..=199, _) => Some(Heard::Nothing),
            (200..=299, Stage::Calling | Stage::Ringing) => Some(Heard::Accepted),
            (200..=299, Stage::Accepted { remote_tag, ack }) if response.to_tag().unwrap_or_default() == remote_tag => {
                let bytes = Bytes::copy_from_slice(ack);
                pass(turn, &invite.hop, Lane::of(&invite.key), bytes);
                Some(Heard::Nothing)
            }
            (200..=299, _) => {
                invite.surplus += 1;
                Some(if invite.surplus <= limits::FORKS { Heard::Surplus } else { Heard::Nothing })
            }
            _ => {
                let bytes = invite.ack_of_refusal(response);
                pass(turn, &invite.hop, Lane::of(&invite.key), bytes);
                let branch = branch.to_owned();
                Some(self.ended(turn, &branch).map_or(Heard::Nothing, Heard::Refused))
            }
        }
    }

    /// The answer with this tag won.
    pub(super) fn accepted(&mut self, turn: &mut Turn<'_>, branch: &str, remote_tag: &str, ack: &Bytes) {
        let Some(invite) = self.table.get_mut(branch) else { return };
        invite.stage = Stage::Accepted { remote_tag: remote_tag.to_owned(), ack: ack.to_vec().into() };
        // RFC 6026 §7.2: Timer M.
        turn.deadlines.set(Deadline::Invite(branch.to_owned()), turn.now + limits::TIMER_B);
    }
}

impl Invite {
    /// RFC 3261 §9.1: the INVITE's own Via, Request-URI, From, To, Call-ID and CSeq number.
    fn cancel(&mut self, turn: &mut Turn<'_>) {
        self.stage = Stage::Cancelled;
        let bytes = self.print(Method::Cancel, format!("<{}>", self.uri));
        pass(turn, &self.hop, Lane::of(&self.key), bytes);
    }

    /// RFC 3261 §17.1.1.3: in the INVITE's transaction, with the answer's To.
    fn ack_of_refusal(&self, response: &Message) -> Bytes {
        let to = response.header(Name::To).map_or_else(|| format!("<{}>", self.uri), str::to_owned);
        self.print(Method::Ack, to)
    }

    fn print(&self, method: Method, to: String) -> Bytes {
        let headers = [
            ("Via", self.via.clone()),
            ("Max-Forwards", "70".to_owned()),
            ("From", format!("{};tag={}", self.local, self.local_tag)),
            ("To", to),
            ("Call-ID", self.call_id.clone()),
            ("CSeq", format!("1 {method}")),
        ];
        Request { method, uri: &self.uri, headers: &headers, body: None }.print()
    }
}

/// Hands on what nobody awaits the fate of.
pub(super) fn pass(turn: &mut Turn<'_>, hop: &HopKey, lane: Lane, bytes: Bytes) {
    turn.step(Step::Pass { hop: hop.clone(), parcel: Parcel { bytes, passage: Passage::Answer, transit: None, lane } });
}
