//! The path of what belongs to an IM session: which session a request is inside of, and what becomes of it there.

use super::{ALLOW, Taken, capabilities, plain};
use crate::gate::Gate;
use crate::gate::border::inward;
use crate::gate::partner::{ChatMode, LinkId, PartnerId};
use crate::gate::policy::Permit;
use crate::gate::reject::{Reason, Reject};
use crate::gate::session::chat::{self, ChatKey};
use crate::gate::time::Time;
use crate::gate::translate::message;
use crate::wire::address::{Address, Jid};
use crate::wire::sip::{Message, Method};

impl Gate {
    /// The IM session that a request is inside of, if its sender is in it.
    pub(super) fn chat_of(&self, from: &Address, request: &Message) -> Option<ChatKey> {
        let key = self.sessions.chats.of_dialog(request.to_tag()?)?;
        (key.1 == *from).then(|| key.clone())
    }

    /// ACK: never answered, but our 200 has arrived.
    pub(super) fn acked(&mut self, now: Time, from: &Address, request: &Message) {
        let Some(key) = self.chat_of(from, request) else { return };
        let (mut turn, sessions) = self.turn(now);
        let (chats, beside) = sessions.chats();
        chats.acked(&mut turn, beside, &key, request);
    }

    /// CANCEL: every request was answered when it came, so it changes nothing (RFC 3261 §9.2).
    pub(super) fn cancelled(&self, from: &Address, request: &Message) -> Taken {
        let key = inward::recipient(request).ok().map(|to| (to, from.clone()));
        let is_known = key.is_some_and(|key| self.sessions.chats.knows_cancelled(&key, request));
        plain(if is_known { 200 } else { 481 })
    }

    /// BYE.
    pub(super) fn chat_ended(&mut self, now: Time, key: &ChatKey, request: &Message) -> Taken {
        let (mut turn, sessions) = self.turn(now);
        let (chats, beside) = sessions.chats();
        match chats.follow(&mut turn, key, request) {
            // RFC 3261 §12.2.2 wants 500 for a CSeq that does not grow; the session is over for them all the same.
            Some(_) => {
                chats.hung_up(&mut turn, beside, key);
                plain(200)
            }
            None => plain(481),
        }
    }

    /// A request inside an IM session.
    pub(super) fn in_chat(
        &mut self,
        now: Time,
        (link, at): (LinkId, Time),
        permit: Permit,
        request: &Message,
        (key, label, body_bytes): (&ChatKey, &str, usize),
    ) -> Result<Taken, Reject> {
        let html = self.html(permit.partner());
        let (mut turn, sessions) = self.turn(now);
        let (chats, _) = sessions.chats();
        match chats.follow(&mut turn, key, request) {
            None => return Ok(plain(481)),
            Some(followed) => followed?,
        }
        match request.method() {
            Some(Method::Invite | Method::Update) => {
                chats.refreshed(&mut turn, key, (link, request))?;
                Ok(Taken::Never)
            }
            Some(Method::Options) => Ok(capabilities()),
            Some(method @ (Method::Message | Method::Info)) => {
                if let Some(typing) = chat::typing(request) {
                    chats.they_type(&mut turn, key, typing);
                    return Ok(plain(200));
                }
                if *method == Method::Info {
                    return Err(Reject::new(Reason::Unsupported, "INFO carries typing only")
                        .with_status(415)
                        .with_header("Accept", "application/xml, application/im-iscomposing+xml"));
                }
                let text = message::read_sip(request, body_bytes, html)?;
                let Some(thread) = chats.line_of(&mut turn, key) else { return Ok(plain(481)) };
                let (from, to) = (Jid::bare(key.1.clone()), Jid::bare(key.0.clone()));
                self.deliver(now, (link, at), permit, request, label, |id| {
                    message::write_chat(&text, &from, &to, id, &thread)
                })
            }
            _ => Err(Reject::new(Reason::Unsupported, "the method has no place in an IM session")
                .with_status(405)
                .with_header("Allow", ALLOW)),
        }
    }

    /// Whether a message of this type goes through a session: the one there is, or one that would be made for it.
    pub(super) fn goes_by_session(
        &self,
        now: Time,
        partner: Option<PartnerId>,
        type_: Option<&str>,
        key: &ChatKey,
    ) -> bool {
        let chats = &self.sessions.chats;
        let mode = partner.map_or(ChatMode::Page, |id| self.settings.policy.partner(id).chat);
        match type_ {
            Some("chat") => {
                chats.is_open(key)
                    || match mode {
                        ChatMode::Page => false,
                        ChatMode::Session => true,
                        ChatMode::Auto => !chats.takes_none(&key.1, now),
                    }
            }
            None => chats.is_open(key),
            Some(_) => false,
        }
    }
}
