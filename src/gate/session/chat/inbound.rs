//! What the SIP user does: INVITE, ACK, CANCEL, a refresh, typing, BYE; and that a message of theirs belongs to a session.

use super::{ALLOW, Beside, ChatKey, Chats, Open, State, Unacked, say};
use crate::gate::lane::Lane;
use crate::gate::limits;
use crate::gate::partner::{LinkId, Side};
use crate::gate::policy::Permit;
use crate::gate::reject::{Reason, Reject};
use crate::gate::route::table;
use crate::gate::session::dialog::{Dialog, contact_of};
use crate::gate::session::{Step, Turn};
use crate::gate::translate::composing::{self, ChatState, Typing};
use crate::gate::translate::sdp::{self, Im};
use crate::wire::sip::compose::Response;
use crate::wire::sip::header::{MediaType, Name};
use crate::wire::sip::{Message, Method};

impl Chats {
    /// An INVITE that offers an IM session: answered at once in the XMPP user's name, who needs no ringing to be written to.
    pub fn invited(
        &mut self,
        turn: &mut Turn<'_>,
        mut beside: Beside<'_>,
        permit: &Permit,
        (link, request): (LinkId, &Message),
        label: &str,
    ) -> Result<(), Reject> {
        let key = (permit.to().clone(), permit.from().clone());
        let im = offered(request)?;
        // COMPAT(lync): two ends are a conversation, more are a conference.
        if addresses(request.rows_named("EndPoints")) > 2 {
            return Err(
                Reject::new(Reason::Unsupported, "EndPoints names more than two: a conference").with_status(488)
            );
        }
        table::node_between(turn.settings, key.1.domain(), &key.0)?;
        if let Some(must_answer) = self.is_same_invite(&key, request) {
            if must_answer {
                self.answer_offer(turn, &key, (link, request), &im);
            }
            return Ok(());
        }
        let dialog = Dialog::from_request(request, turn.token())?;
        let local_tag = dialog.local_tag.clone();
        let thread = dialog.call_id.clone();
        // One session for the two: theirs takes the place of ours that is being made, or of an older one.
        self.hang_up(turn, &mut beside, &key);
        let open = Open::new(dialog, im.takes(composing::COMPOSING_TYPE));
        let chat = self.begin(turn, &key, (label, Side::Outside, thread))?;
        chat.opened_by = Side::Outside;
        chat.state = State::Open(Box::new(open));
        self.dialogs.insert(local_tag, key.clone());
        self.keep(turn, &key);
        self.answer_offer(turn, &key, (link, request), &im);
        self.proceed(turn, &mut beside, &key);
        Ok(())
    }

    /// A re-INVITE or UPDATE inside a session: a refresh (RFC 4028), or a new target. The offer may stay what it was.
    pub fn refreshed(
        &mut self,
        turn: &mut Turn<'_>,
        key: &ChatKey,
        (link, request): (LinkId, &Message),
    ) -> Result<(), Reject> {
        let im = if request.body().is_empty() { Im::default() } else { offered(request)? };
        if let Some(State::Open(open)) = self.table.get_mut(key).map(|chat| &mut chat.state) {
            open.dialog.retarget(request);
        }
        self.keep(turn, key);
        self.answer_offer(turn, key, (link, request), &im);
        Ok(())
    }

    /// The 200 with our answer, kept to be sent again until the ACK is there. UPDATE has none.
    fn answer_offer(&mut self, turn: &mut Turn<'_>, key: &ChatKey, (link, request): (LinkId, &Message), im: &Im) {
        let Some(State::Open(open)) = self.table.get_mut(key).map(|chat| &mut chat.state) else { return };
        let identity = &turn.settings.identities[turn.settings.identity_for(key.0.domain())];
        let sdp = sdp::write(im.kind, &identity.hostname, Some(&format!("sip:{}", key.0.to_sip())));
        let is_invite = request.method() == Some(&Method::Invite);
        // An UPDATE without offer gets no answer; an INVITE without offer gets ours (RFC 3261 §13.3.1).
        let body = (is_invite || !request.body().is_empty()).then_some(("application/sdp", sdp.as_bytes()));
        let bytes = Response {
            request,
            status: 200,
            reason: None,
            to_tag: Some(&open.dialog.local_tag),
            record_route: true,
            headers: &[("Contact", contact_of(identity)), ("Allow", ALLOW.to_owned())],
            body,
        }
        .print();
        if is_invite {
            open.is_unsure = false;
            open.unacked = Some(Unacked {
                answer: bytes.to_vec().into(),
                link,
                cseq: request.cseq().map_or(0, |(number, _)| number),
                via: request.header(Name::Via).unwrap_or_default().to_owned(),
                next: turn.now + limits::T1,
                pause: limits::T1,
                until: turn.now + limits::TIMER_B,
            });
        }
        turn.step(Step::Write { link, bytes, lane: Lane::of(key) });
        self.touch(turn, key);
    }

    /// An ACK inside a session: our 200 has arrived.
    pub fn acked(&mut self, turn: &mut Turn<'_>, mut beside: Beside<'_>, key: &ChatKey, request: &Message) {
        let Some(State::Open(open)) = self.table.get_mut(key).map(|chat| &mut chat.state) else { return };
        let number = request.cseq().map_or(0, |(number, _)| number);
        open.is_unsure &= !open.dialog.is_of(request);
        if open.dialog.is_of(request) && open.unacked.as_ref().is_some_and(|unacked| unacked.cseq == number) {
            open.unacked = None;
            self.proceed(turn, &mut beside, key);
        }
    }

    /// Whether a CANCEL is of an INVITE whose 200 is not acknowledged yet: too late, but known (RFC 3261 §9.2).
    pub fn knows_cancelled(&self, key: &ChatKey, request: &Message) -> bool {
        let Some(State::Open(open)) = self.table.get(key).map(|chat| &chat.state) else { return false };
        let number = request.cseq().map(|(number, _)| number);
        open.unacked.as_ref().is_some_and(|unacked| {
            Some(unacked.via.as_str()) == request.header(Name::Via) && Some(unacked.cseq) == number
        })
    }

    /// A request of theirs inside the dialog: `None` if it is not this one's (481).
    pub fn follow(&mut self, turn: &mut Turn<'_>, key: &ChatKey, request: &Message) -> Option<Result<(), Reject>> {
        let chat = self.table.get_mut(key)?;
        match &mut chat.state {
            State::Open(open) if open.dialog.is_of(request) => {
                if let Err(reject) = open.dialog.count(request) {
                    return Some(Err(reject));
                }
                open.is_unsure = false;
            }
            // Their answer to our INVITE comes on another connection and may be overtaken; our tag is proof enough.
            State::Inviting { local_tag, .. }
                if request.to_tag() == Some(local_tag) && request.method() == Some(&Method::Message) => {}
            _ => return None,
        }
        self.touch(turn, key);
        Some(Ok(()))
    }

    /// The thread of a session, and that a message of theirs came: it ends their typing (RFC 3994 §3.3).
    pub fn line_of(&mut self, turn: &mut Turn<'_>, key: &ChatKey) -> Option<String> {
        let chat = self.table.get_mut(key)?;
        if let State::Open(open) = &mut chat.state {
            open.types_until = None;
        }
        let thread = chat.thread.clone();
        self.arm(turn, key);
        Some(thread)
    }

    /// The SIP user types, or stopped.
    pub fn they_type(&mut self, turn: &mut Turn<'_>, key: &ChatKey, typing: Typing) {
        let Some(chat) = self.table.get_mut(key) else { return };
        let is_typing = typing.state == ChatState::Composing;
        if let State::Open(open) = &mut chat.state {
            let was_typing = open.types_until.is_some();
            open.types_until = is_typing.then(|| turn.now + typing.counts);
            // A refresh tells nothing new.
            if !(is_typing && was_typing) {
                say(turn, key, &chat.thread, typing.state);
            }
        }
        self.arm(turn, key);
    }

    /// BYE: the SIP user has left. What still waits opens a session again.
    pub fn hung_up(&mut self, turn: &mut Turn<'_>, mut beside: Beside<'_>, key: &ChatKey) {
        let Some(chat) = self.table.get(key) else { return };
        say(turn, key, &chat.thread, ChatState::Gone);
        self.dialog_gone(turn, key);
        self.proceed(turn, &mut beside, key);
    }

    /// Whether this INVITE made the session that is there, and if so, whether it is answered once more: its 200 is sent again anyway or has
    /// arrived, unless a restart came between the two.
    fn is_same_invite(&self, key: &ChatKey, request: &Message) -> Option<bool> {
        match self.table.get(key).map(|chat| &chat.state) {
            Some(State::Open(open)) => open.dialog.is_made_by(request).then_some(open.is_unsure),
            _ => None,
        }
    }
}

/// The IM session that a request offers; 488 for anything else.
fn offered(request: &Message) -> Result<Im, Reject> {
    let media = request.header(Name::ContentType).and_then(MediaType::parse);
    if media.is_none_or(|media| media.essence != "application/sdp") {
        return Err(Reject::new(Reason::Unsupported, "it offers no session description").with_status(488));
    }
    sdp::read(request.body())
}

/// How many addresses header rows list: commas between them, not those inside quotes or angle brackets.
fn addresses<'a>(rows: impl Iterator<Item = &'a str>) -> usize {
    let mut count = 0;
    for row in rows.filter(|row| !row.trim().is_empty()) {
        let (mut quoted, mut bracketed) = (false, false);
        count += 1;
        for byte in row.bytes() {
            match byte {
                b'"' => quoted = !quoted,
                b'<' if !quoted => bracketed = true,
                b'>' if !quoted => bracketed = false,
                b',' if !quoted && !bracketed => count += 1,
                _ => {}
            }
        }
    }
    count
}

/// What a session takes inside a MESSAGE or INFO that is no text: typing. `None` if it is none.
pub fn typing(request: &Message) -> Option<Typing> {
    let media = request.header(Name::ContentType).and_then(MediaType::parse)?;
    match media.essence.as_str() {
        composing::COMPOSING_TYPE => composing::read_composing(request.body()),
        composing::KEYBOARD_TYPE => composing::read_keyboard(request.body()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_of_a_conversation_are_counted() {
        let count = |rows: &[&str]| addresses(rows.iter().copied());
        assert_eq!(count(&[]), 0);
        assert_eq!(count(&[r#"<sip:a@h.example>, <sip:b@h.example>"#]), 2);
        assert_eq!(count(&[r#""a, b" <sip:a,c@h.example>"#, "<sip:b@h.example>"]), 2);
        assert_eq!(count(&["<sip:a@h.example>, sip:b@h.example, sip:c@h.example"]), 3);
    }
}
