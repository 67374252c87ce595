//! What the XMPP user does: messages, typing, leaving; and how the INVITE and each MESSAGE that come of it end.

use super::invite::{Heard, Offer, pass};
use super::{ALLOW, Beside, ChatKey, Chats, Line, Open, State, bye, profile_of};
use crate::gate::Path;
use crate::gate::border::aol;
use crate::gate::lane::Lane;
use crate::gate::limits;
use crate::gate::partner::{Action, ChatMode, LinkId, Profile, Protocol, Side};
use crate::gate::policy::{Permit, Question};
use crate::gate::reject::{Reason, Reject};
use crate::gate::session::dialog::{Dialog, contact_of};
use crate::gate::session::page::Carried;
use crate::gate::session::transaction::{Ended, Purpose, Sent};
use crate::gate::session::{Turn, partner_hop};
use crate::gate::translate::composing::{self, ChatState};
use crate::gate::translate::message::{self, PAGE_CONTENT_TYPE};
use crate::gate::translate::sdp::{self, Im, Kind};
use crate::wire::address::Address;
use crate::wire::sip::{Message, Method};
use base64::Engine;
use std::collections::VecDeque;

impl Chats {
    /// Takes a message on: from here it ends in delivered or in an error to its sender. A session is opened for it if there is none.
    pub fn carry(
        &mut self,
        turn: &mut Turn<'_>,
        mut beside: Beside<'_>,
        permit: &Permit,
        carried: Carried<'_>,
    ) -> Result<(), Reject> {
        // A session that the SIP user opened was decided on as theirs.
        let key = match permit.side() {
            Side::Inside => (permit.from().clone(), permit.to().clone()),
            Side::Outside => (permit.to().clone(), permit.from().clone()),
        };
        let waiting = self.table.get(&key).map_or(0, |chat| chat.waiting.len());
        let length = carried.text.body.len();
        let is_full = self.lines >= limits::LINES || self.bytes + length > limits::LINE_BYTES;
        if waiting >= limits::LINES_PER_CHAT || is_full {
            return Err(Reject::new(Reason::Overloaded, format!("too many messages wait for {}", key.1)));
        }
        // What the partner cannot spell is refused before anything is kept.
        aol::outward(profile_of(turn, &key.1), &key.1)?;
        let thread = carried.text.thread.clone().unwrap_or_else(|| turn.token());
        let chat = self.begin(turn, &key, (carried.partner, Side::Inside, thread))?;
        let envelope = beside.pages.take_on(turn, &carried, &key.1, true);
        if let State::Open(open) = &mut chat.state {
            open.leaving = false;
            // RFC 3994 §3.2: content says that the typing is over.
            open.typing_told = None;
        }
        let line = Line { envelope, from: carried.from, text: carried.text, at: carried.at, again: false };
        chat.waiting.push_back(line);
        self.lines += 1;
        self.bytes += length;
        self.proceed(turn, &mut beside, &key);
        Ok(())
    }

    /// A chat state of the XMPP user. Inside a session only, and no message ever waits for it.
    pub fn state(&mut self, turn: &mut Turn<'_>, mut beside: Beside<'_>, key: &ChatKey, state: ChatState) {
        if state == ChatState::Gone {
            if let Some(chat) = self.table.get_mut(key) {
                match &mut chat.state {
                    State::Open(open) => open.leaving = true,
                    State::Inviting { .. } if chat.waiting.is_empty() => self.hang_up(turn, &mut beside, key),
                    State::Inviting { .. } | State::Ended => {}
                }
            }
            self.proceed(turn, &mut beside, key);
            return;
        }
        let profile = profile_of(turn, &key.1);
        let Some(chat) = self.table.get_mut(key) else { return };
        let State::Open(open) = &mut chat.state else { return };
        let must_tell = match (state.is_typing(), open.typing_told) {
            (true, Some(told)) => turn.now.since(told) >= limits::TYPING_REFRESH,
            (true, None) => true,
            (false, told) => told.is_some(),
        };
        // COMPAT(lync, ocs, aol): INFO; others are asked by their accept-types.
        let by_info = matches!(profile, Profile::Lync | Profile::Ocs | Profile::Aol);
        let is_possible = by_info || (open.takes_composing && chat.sent.is_none());
        if must_tell && is_possible && !open.typing_refused && open.unacked.is_none() {
            open.typing_told = state.is_typing().then_some(turn.now);
            let (method, type_, body) = if by_info {
                (Method::Info, composing::KEYBOARD_TYPE, composing::write_keyboard(state.is_typing()))
            } else {
                (Method::Message, composing::COMPOSING_TYPE, composing::write_composing(state.is_typing()))
            };
            let branch = turn.branch();
            let identity = &turn.settings.identities[turn.settings.identity_for(key.0.domain())];
            let body = Some((type_, body.as_bytes()));
            let request = open.dialog.request(method.clone(), &branch, identity, Vec::new(), body);
            let (purpose, lane) = (Purpose::Typing(key.clone(), open.dialog.local_tag.clone()), Lane::of(key));
            if request.mark_moved {
                self.keep(turn, key);
            }
            let hop = partner_hop(turn.settings, key.1.domain(), key.0.domain());
            beside.clients.send(turn, hop, Sent { branch, method, purpose, bytes: request.bytes, transit: None, lane });
        }
        self.touch(turn, key);
    }

    /// What says that somebody types has ended: who refuses it hears no more of it (RFC 3994 §4).
    pub fn typing_ended(&mut self, key: &ChatKey, local_tag: &str, ended: &Ended<'_>) {
        if let (Some(State::Open(open)), Ended::Answered(300.., _)) =
            (self.table.get_mut(key).map(|chat| &mut chat.state), ended)
            && open.dialog.local_tag == local_tag
        {
            open.typing_refused = true;
        }
    }

    /// Opens a session for what waits.
    pub(super) fn invite(&mut self, turn: &mut Turn<'_>, beside: &mut Beside<'_>, key: &ChatKey) {
        let profile = profile_of(turn, &key.1);
        // What waits may have been part of a session that the SIP user opened; this one is ours to be allowed.
        let (action, side, protocol) = (Action::Chat, Side::Inside, Protocol::Sip);
        let question = Question { from: &key.0, to: &key.1, action, side, protocol, peer_ip: None };
        let theirs = turn.settings.policy.decide(question).0.and_then(|_| aol::outward(profile, &key.1));
        let uri = match theirs {
            Ok(theirs) => format!("sip:{}", theirs.to_sip()),
            Err(reject) => {
                self.not_opened(turn, beside, key, &Ended::Unreachable(reject));
                return;
            }
        };
        let Some(chat) = self.table.get_mut(key) else { return };
        // RFC 7573 §4: the thread is the Call-ID; a session made anew is another call.
        let is_again = chat.waiting.iter().any(|line| line.again);
        let call_id = message::call_id(Some(&chat.thread)).filter(|_| !is_again).map(str::to_owned);
        let call_id = call_id.unwrap_or_else(|| turn.token());
        let identity = &turn.settings.identities[turn.settings.identity_for(key.0.domain())];
        let body = sdp::write(Kind::Message, &identity.hostname, None);
        let mut headers = vec![("Contact", contact_of(identity)), ("Allow", ALLOW.to_owned())];
        if matches!(profile, Profile::Lync | Profile::Ocs) {
            // COMPAT(lync): refused when it was used before, so it is a new one each time.
            let id = base64::engine::general_purpose::STANDARD.encode(turn.token());
            headers.push(("Ms-Conversation-ID", id));
        }
        let hop = partner_hop(turn.settings, key.1.domain(), key.0.domain());
        let offer = Offer { key, hop, uri, call_id, headers, body: &body };
        let (branch, local_tag) = self.invites.send(turn, offer);
        chat.opened_by = Side::Inside;
        self.dialogs.insert(local_tag.clone(), key.clone());
        chat.state = State::Inviting { branch, local_tag };
    }

    /// An INVITE of ours is being written. `false`: it is no longer wanted, or it is none.
    pub fn written(&mut self, branch: &str, link: LinkId) -> bool {
        self.invites.written(branch, link)
    }

    /// INVITEs whose answers were awaited on a link.
    pub fn on_link(&self, link: LinkId) -> Vec<String> {
        self.invites.on_link(link)
    }

    /// A response. `false`: it answers no INVITE of ours.
    pub fn answered(
        &mut self,
        turn: &mut Turn<'_>,
        mut beside: Beside<'_>,
        (link, response, status): (LinkId, &Message, u16),
    ) -> bool {
        let Some(heard) = self.invites.answered(turn, link, response, status) else { return false };
        match heard {
            Heard::Nothing => {}
            Heard::Accepted => self.accepted(turn, &mut beside, response),
            Heard::Surplus => self.surplus(turn, &mut beside, response),
            Heard::Refused(key) => {
                if self.is_asked_in_vain(turn, &key.1, status) {
                    self.go_without(turn, &mut beside, &key);
                } else {
                    self.not_opened(turn, &mut beside, &key, &Ended::Answered(status, response));
                }
            }
        }
        true
    }

    /// An INVITE of ours ended without an answer. `false`: it is none.
    pub fn invite_ended(
        &mut self,
        turn: &mut Turn<'_>,
        mut beside: Beside<'_>,
        branch: &str,
        ended: &Ended<'_>,
    ) -> bool {
        if self.invites.get(branch).is_none() {
            return false;
        }
        if let Some(key) = self.invites.ended(turn, branch) {
            match ended {
                // Nothing but the INVITE was written: no message has left.
                Ended::LinkDied => {
                    let reject = Reject::new(Reason::Timeout, "the connection ended before the session was there");
                    self.not_opened(turn, &mut beside, &key, &Ended::Unreachable(reject));
                }
                other => self.not_opened(turn, &mut beside, &key, other),
            }
        }
        true
    }

    /// An INVITE's time is up.
    pub fn invite_due(&mut self, turn: &mut Turn<'_>, mut beside: Beside<'_>, branch: &str) {
        if let Some(key) = self.invites.due(turn, branch) {
            self.not_opened(turn, &mut beside, &key, &Ended::TimedOut);
        }
    }

    /// The first 2xx: the session is there.
    fn accepted(&mut self, turn: &mut Turn<'_>, beside: &mut Beside<'_>, response: &Message) {
        let branch = response.branch().unwrap_or_default().to_owned();
        let Some(invite) = self.invites.get(&branch) else { return };
        let (key, hop) = (invite.key.clone(), invite.hop.clone());
        let dialog = Dialog::from_response(response, invite.local.clone(), invite.local_tag.clone());
        let dialog = match dialog {
            Ok(dialog) => dialog,
            Err(reject) => {
                // What cannot be remembered cannot be ended either; the far side gives up without ACK (RFC 3261 §13.3.1.4).
                self.invites.ended(turn, &branch);
                self.not_opened(turn, beside, &key, &Ended::Unreachable(reject));
                return;
            }
        };
        let ack = acknowledge(turn, &key, &dialog);
        self.invites.accepted(turn, &branch, &dialog.remote_tag, &ack);
        // RFC 3261 §13.2.1: an answer that takes none of what was offered ends what it accepts.
        let answer = match response.body() {
            // What takes the session and says nothing of it takes plain text.
            [] => Ok(Im::default()),
            body => sdp::read(body),
        };
        match answer {
            Ok(im) => {
                let takes_composing = im.takes(composing::COMPOSING_TYPE);
                let mut open = Open::new(dialog, takes_composing);
                open.leaving = self.stopping;
                if let Some(chat) = self.table.get_mut(&key) {
                    chat.state = State::Open(Box::new(open));
                }
                // What we acknowledge is already remembered.
                self.keep(turn, &key);
                pass(turn, &hop, Lane::of(&key), ack);
                self.touch(turn, &key);
                self.proceed(turn, beside, &key);
            }
            Err(reject) => {
                pass(turn, &hop, Lane::of(&key), ack);
                let mut dialog = dialog;
                bye(turn, beside.clients, &key, &mut dialog);
                self.not_opened(turn, beside, &key, &Ended::Unreachable(reject));
            }
        }
    }

    /// A 2xx that nobody wants: of another fork, or too late. It is acknowledged and ended (RFC 3261 §13.2.2.4).
    fn surplus(&mut self, turn: &mut Turn<'_>, beside: &mut Beside<'_>, response: &Message) {
        let branch = response.branch().unwrap_or_default();
        let Some(invite) = self.invites.get(branch) else { return };
        let (key, hop) = (invite.key.clone(), invite.hop.clone());
        let dialog = Dialog::from_response(response, invite.local.clone(), invite.local_tag.clone());
        let Ok(mut dialog) = dialog else { return };
        let ack = acknowledge(turn, &key, &dialog);
        pass(turn, &hop, Lane::of(&key), ack);
        bye(turn, beside.clients, &key, &mut dialog);
    }

    /// Whether this refusal says that sessions are not taken at all, where the entry lets us fall back.
    fn is_asked_in_vain(&self, turn: &Turn<'_>, remote: &Address, status: u16) -> bool {
        let id = turn.settings.policy.partner_for(remote.domain(), Protocol::Sip);
        let is_auto = id.is_some_and(|id| turn.settings.policy.partner(id).chat == ChatMode::Auto);
        is_auto && matches!(status, 405 | 415 | 488 | 501)
    }

    /// `chat = "auto"`: what waits goes as messages for themselves, and what comes after it.
    fn go_without(&mut self, turn: &mut Turn<'_>, beside: &mut Beside<'_>, key: &ChatKey) {
        if self.no_session.len() >= limits::NO_SESSIONS {
            self.no_session.retain(|_, until| *until > turn.now);
        }
        if self.no_session.len() < limits::NO_SESSIONS {
            self.no_session.insert(key.1.clone(), turn.now + limits::NO_SESSION);
        }
        for line in self.undone(key) {
            let Line { envelope, from, text, at, .. } = line;
            let with = (&mut *beside.clients, &mut *beside.barriers);
            beside.pages.carry_instead(turn, with, &key.1, envelope, (from, &text, at));
        }
        self.proceed(turn, beside, key);
    }

    /// No session came of it: who waits hears why.
    fn not_opened(&mut self, turn: &mut Turn<'_>, beside: &mut Beside<'_>, key: &ChatKey, ended: &Ended<'_>) {
        for line in self.undone(key) {
            beside.pages.settle_as(turn, beside.barriers, line.envelope, &key.1, ended);
        }
        self.proceed(turn, beside, key);
    }

    /// Takes the INVITE's state away, and what waited for it.
    fn undone(&mut self, key: &ChatKey) -> VecDeque<Line> {
        let Some(chat) = self.table.get_mut(key) else { return VecDeque::new() };
        if let State::Inviting { local_tag, .. } = &chat.state {
            self.dialogs.remove(local_tag);
        }
        chat.state = State::Ended;
        let lines = std::mem::take(&mut chat.waiting);
        for line in &lines {
            self.release(line);
        }
        lines
    }

    /// Sends the next message, if none is unanswered and the dialog is confirmed.
    pub(super) fn send_next(&mut self, turn: &mut Turn<'_>, beside: &mut Beside<'_>, key: &ChatKey) {
        let Some(chat) = self.table.get_mut(key) else { return };
        let State::Open(open) = &mut chat.state else { return };
        if chat.sent.is_some() || open.unacked.is_some() {
            return;
        }
        let Some(line) = chat.waiting.pop_front() else { return };
        let branch = turn.branch();
        let identity = &turn.settings.identities[turn.settings.identity_for(key.0.domain())];
        let body = Some((PAGE_CONTENT_TYPE, line.text.body.as_bytes()));
        let request = open.dialog.request(Method::Message, &branch, identity, message::headers(&line.text), body);
        let purpose = Purpose::Line(key.clone(), open.dialog.local_tag.clone());
        let transit = Some((line.at, Path::XmppSip));
        chat.sent = Some(line);
        if request.mark_moved {
            self.keep(turn, key);
        }
        let hop = partner_hop(turn.settings, key.1.domain(), key.0.domain());
        let method = Method::Message;
        beside.clients.send(
            turn,
            hop,
            Sent { branch, method, purpose, bytes: request.bytes, transit, lane: Lane::of(key) },
        );
    }

    /// A MESSAGE of ours ended, sent in the dialog with this tag of ours.
    pub fn line_ended(
        &mut self,
        turn: &mut Turn<'_>,
        mut beside: Beside<'_>,
        (key, local_tag): (&ChatKey, &str),
        ended: &Ended<'_>,
    ) {
        let Some(chat) = self.table.get_mut(key) else { return };
        let Some(mut line) = chat.sent.take() else { return };
        // RFC 3261 §12.2.1.2 and what Lync means by them: the session is dead.
        let is_dead = matches!(ended, Ended::Answered(408 | 480 | 481, _));
        // It may have been another's place since.
        let is_there = matches!(&chat.state, State::Open(open) if open.dialog.local_tag == local_tag);
        if is_there && (is_dead || matches!(ended, Ended::TimedOut)) {
            match ended {
                // Who doesn't know the dialog needs no BYE.
                Ended::Answered(481, _) => self.dialog_gone(turn, key),
                _ => self.hang_up(turn, &mut beside, key),
            }
        }
        if is_dead && !line.again {
            line.again = true;
            if let Some(chat) = self.table.get_mut(key) {
                chat.waiting.push_front(line);
            }
        } else {
            self.release(&line);
            beside.pages.settle_as(turn, beside.barriers, line.envelope, &key.1, ended);
        }
        self.proceed(turn, &mut beside, key);
    }
}

fn acknowledge(turn: &mut Turn<'_>, key: &ChatKey, dialog: &Dialog) -> bytes::Bytes {
    let branch = turn.branch();
    let identity = &turn.settings.identities[turn.settings.identity_for(key.0.domain())];
    dialog.ack(1, &branch, identity)
}
