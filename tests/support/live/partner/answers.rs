//! How requests of the partner end: by an answer, or by the end of the connection that they were written on.

use super::super::book::Answer;
use super::{Desk, Open, Standing, Talk, What};
use fedgate::wire::sip::dialog::contact_uri;
use fedgate::wire::sip::{Message, Method};

impl Desk {
    /// A final answer.
    pub(super) fn take_answer(&self, generation: u32, response: &Message, status: u16) {
        let branch = response.branch().and_then(|branch| branch.strip_prefix("z9hG4bKp")?.parse::<u64>().ok());
        let mut state = self.state();
        let state = &mut *state;
        let Some(Open { what, .. }) = branch.and_then(|branch| state.open.remove(&branch)) else {
            // A 2xx to INVITE is sent until its ACK is there (RFC 3261 §13.3.1.4): acknowledged again.
            let call_id = response.call_id().unwrap_or_default();
            let is_again = response.method() == Some(&Method::Invite) && (200..300).contains(&status);
            if is_again && state.chats.get(call_id).is_some_and(|chat| chat.ours) {
                self.in_chat(state, call_id, Method::Ack, None, None);
            }
            return;
        };
        let is_success = (200..300).contains(&status);
        match what {
            What::Watch(at, is_end) => {
                let watch = &mut state.watches[at];
                match (is_success, is_end) {
                    (true, true) => {
                        watch.standing = Standing::Ended(generation);
                    }
                    (true, false) => {
                        if watch.standing == Standing::Asking {
                            watch.standing = Standing::Live;
                            watch.granted_after = Some(watch.begun.elapsed());
                        }
                        watch.granted = generation;
                        if watch.remote_tag.is_none() {
                            watch.remote_tag = response.to_tag().map(Into::into);
                        }
                        if watch.target.is_none() {
                            watch.target = contact_uri(response).map(|uri| uri.text.into());
                        }
                    }
                    (false, _) if watch.standing == Standing::Asking => {
                        self.book.count("subscriptions refused");
                        watch.standing = Standing::Refused;
                    }
                    // RFC 6665 §4.1.2.2: the subscription lasts until it would have expired.
                    (false, false) if status >= 500 => self.book.count("refreshes put off"),
                    (false, true) if status >= 500 => watch.standing = Standing::Live,
                    (false, _) => {
                        let standing = watch.standing;
                        self.book
                            .complain(|| format!("{status} in the dialog w{at}@lync.example, which was {standing:?}"));
                        watch.standing = Standing::Refused;
                    }
                }
            }
            What::Notify(call_id) => {
                let Some(contact) = state.contacts.get_mut(&call_id) else { return };
                if is_success {
                    contact.confirmed = true;
                    return;
                }
                if status >= 500 {
                    return self.book.count("NOTIFYs put off");
                }
                if contact.confirmed && !contact.ended {
                    let what = format!("{status} to NOTIFY in {call_id} at start {generation}, which the edge knew");
                    state.denied.push((contact.pair, what));
                }
                // RFC 6665 §4.2.2: the subscription is over.
                contact.ended = true;
            }
            What::Message(number, chat) => {
                if let (Some(call_id), 481) = (&chat, status)
                    && state.chats.get(call_id).is_some_and(|chat| chat.standing == Talk::Open)
                    // Else its BYE may have crossed the message.
                    && !state.byes_expected
                {
                    self.book.complain(|| format!("481 in the session {call_id}, which was acknowledged"));
                    state.chats.remove(call_id);
                }
                self.book.pages().answered(number, if is_success { Answer::Accepted } else { Answer::Refused(status) });
            }
            What::Invite(call_id) => {
                let Some(chat) = state.chats.get_mut(&call_id) else { return };
                if !is_success {
                    self.book.count("sessions refused");
                    state.chats.remove(&call_id);
                    return;
                }
                let tag = response.to_tag().unwrap_or_default();
                chat.remote = format!("{};tag={tag}", chat.remote).into();
                chat.target = contact_uri(response).map_or("", |uri| uri.text).into();
                chat.standing = Talk::Open;
                self.in_chat(state, &call_id, Method::Ack, None, None);
            }
            What::Bye(call_id) => {
                state.chats.remove(&call_id);
            }
        }
    }

    /// Its own connection ended: what was written on it is answered no more.
    pub(super) fn cut(&self, generation: u32) {
        let mut state = self.state();
        let state = &mut *state;
        let lost: Vec<u64> = state
            .open
            .iter()
            .filter(|(_, open)| open.written.is_some_and(|written| written <= generation))
            .map(|(branch, _)| *branch)
            .collect();
        for branch in lost {
            let Some(Open { what, .. }) = state.open.remove(&branch) else { continue };
            match what {
                What::Watch(at, _) => {
                    let watch = &mut state.watches[at];
                    // A refresh without an answer changes nothing.
                    if matches!(watch.standing, Standing::Asking | Standing::Leaving) {
                        watch.standing = Standing::Unknown;
                    }
                }
                // What it said is told again when the edge refreshes.
                What::Notify(_) => {}
                What::Message(number, _) => self.book.pages().answered(number, Answer::Silence),
                What::Invite(call_id) | What::Bye(call_id) => {
                    if let Some(chat) = state.chats.get_mut(&call_id) {
                        chat.standing = Talk::Unknown;
                    }
                }
            }
        }
    }

    /// The edge's connection ended: sessions whose ACK is missing may be unknown to it.
    pub(super) fn edge_cut(&self, generation: u32) {
        for chat in self.state().chats.values_mut() {
            if !chat.ours && chat.standing == Talk::Opening && chat.heard.generation <= generation {
                chat.standing = Talk::Unknown;
            }
        }
    }
}
