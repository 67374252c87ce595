//! What the partner hears from the edge, and what it answers.

use super::super::sip::{SDP, answer};
use super::super::{Show, Shown, User, user};
use super::{Chat, Contact, Desk, Heard, Standing, State, Talk};
use bytes::BytesMut;
use fedgate::wire::pidf::Document;
use fedgate::wire::sip::dialog::contact_uri;
use fedgate::wire::sip::header::Name;
use fedgate::wire::sip::{Message, Method, Start};

impl Desk {
    /// A message came; answers go behind `out`.
    pub(super) fn take(&self, generation: u32, message: &Message, out: &mut BytesMut) {
        match message.start() {
            Start::Request { .. } => self.take_request(generation, message, out),
            Start::Response { status, .. } if status >= 200 => self.take_answer(generation, message, status),
            Start::Response { .. } => {}
        }
    }

    fn take_request(&self, generation: u32, request: &Message, out: &mut BytesMut) {
        let (Some(method), Some(call_id)) = (request.method(), request.call_id()) else { return };
        let is_inside = request.to_tag().is_some();
        let mut state = self.state();
        match method {
            Method::Ack => {
                if let Some(chat) = state.chats.get_mut(call_id)
                    && !chat.ours
                    && chat.standing == Talk::Opening
                {
                    chat.standing = Talk::Open;
                }
            }
            Method::Notify => {
                let status = self.notified(&mut state, generation, request, call_id);
                answer(out, request, status, None, "", None);
            }
            Method::Subscribe if !is_inside => self.subscribed(&mut state, generation, request, call_id, out),
            Method::Subscribe => self.refreshed(&mut state, generation, request, call_id, out),
            Method::Invite => self.invited(&mut state, generation, request, call_id, out),
            Method::Bye => {
                let status = self.left(&mut state, generation, request, call_id);
                answer(out, request, status, None, "", None);
            }
            Method::Message | Method::Info => {
                let status = if is_inside { self.said(&mut state, generation, request, call_id) } else { 200 };
                if let (200, Some(number)) = (status, number_in(request, b'm')) {
                    self.book.pages().at_partner(number);
                }
                answer(out, request, status, Some("p"), "", None);
            }
            Method::Cancel | Method::Options => answer(out, request, 200, Some("p"), "", None),
            other => {
                self.book.complain(|| format!("a {other} that nobody expects"));
                answer(out, request, 405, Some("p"), "", None);
            }
        }
    }

    /// A NOTIFY of the edge.
    fn notified(&self, state: &mut State, generation: u32, request: &Message, call_id: &str) -> u16 {
        let at = call_id.strip_suffix("@lync.example").and_then(user).filter(|(letter, _)| *letter == b'w');
        let Some(watch) = at.and_then(|(_, at)| state.watches.get_mut(at as usize)) else {
            self.book.complain(|| format!("NOTIFY in a dialog that nobody began: {call_id}"));
            return 481;
        };
        let tag = request.from_tag().unwrap_or_default();
        match &watch.remote_tag {
            Some(known) if **known != *tag => {
                self.book.complain(|| format!("NOTIFY in {call_id} from another dialog"));
                return 481;
            }
            Some(_) => {}
            None => watch.remote_tag = Some(tag.into()),
        }
        watch.heard.hear(&self.book, generation, request);
        let said = request.header(Name::SubscriptionState).unwrap_or_default();
        let name = said.split(';').next().unwrap_or_default().trim();
        match (name, watch.standing) {
            ("terminated", standing) => {
                if matches!(standing, Standing::Live | Standing::Asking) {
                    self.book.complain(|| format!("{call_id} was {said}, and nobody ended it"));
                }
                watch.standing = Standing::Ended(generation);
                watch.told = None;
            }
            ("active", Standing::Ended(when)) if when < generation => {
                self.book.complain(|| format!("{call_id} is active again: its end was acknowledged at start {when}"));
            }
            ("active", _) => {
                watch.was_active = true;
                if request.body().is_empty() {
                    // RFC 8048 §6.2.2: authorised, state not known yet.
                    watch.told = None;
                } else {
                    match read_document(request.body()) {
                        Some(shown) => watch.told = Some((generation, shown)),
                        None => self.book.complain(|| format!("NOTIFY in {call_id} with a body that is no document")),
                    }
                }
            }
            ("pending", _) if watch.was_active => {
                self.book.complain(|| format!("{call_id} is pending again: it was active"));
                watch.told = None;
            }
            ("pending", _) => watch.told = None,
            _ => self.book.complain(|| format!("NOTIFY in {call_id} with Subscription-State {said:?}")),
        }
        200
    }

    /// The edge subscribes for a user inside.
    fn subscribed(&self, state: &mut State, generation: u32, request: &Message, call_id: &str, out: &mut BytesMut) {
        let watcher = request.from().and_then(|from| sip_user(from.uri.text));
        let presentity = request.to().and_then(|to| sip_user(to.uri.text));
        let target = contact_uri(request).map(|uri| uri.text);
        let (Some((b'x', watcher)), Some((b'p', presentity)), Some(target)) = (watcher, presentity, target) else {
            self.book.complain(|| format!("SUBSCRIBE {call_id} of or to somebody unknown"));
            return answer(out, request, 404, Some("p"), "", None);
        };
        let pair = (watcher, presentity);
        if let Some(before) = state.contact_of.get(&pair)
            && let Some(before) = state.contacts.get(before)
            && before.confirmed
            && !before.ended
        {
            self.book.complain(|| {
                format!("x{watcher} subscribes to p{presentity} anew ({call_id}): its subscription was forgotten")
            });
        }
        let tag = format!("p{}", state.contacts.len());
        let mut heard = Heard::default();
        heard.hear(&self.book, generation, request);
        let contact = Contact {
            pair,
            local: format!("{};tag={tag}", request.header(Name::To).unwrap_or_default()).into(),
            remote: request.header(Name::From).unwrap_or_default().into(),
            target: target.into(),
            cseq: 0,
            heard,
            confirmed: false,
            ended: false,
            left: false,
        };
        state.contacts.insert(call_id.into(), contact);
        state.contact_of.insert(pair, call_id.into());
        let more = format!("Contact: <sip:p{presentity}@lync.example>\r\nExpires: 3600\r\n");
        answer(out, request, 200, Some(&tag), &more, None);
        self.notify(state, call_id, false);
    }

    /// The edge refreshes or ends a subscription of its own.
    fn refreshed(&self, state: &mut State, generation: u32, request: &Message, call_id: &str, out: &mut BytesMut) {
        let is_end = request.header(Name::Expires).map(str::trim) == Some("0");
        let Some(contact) = state.contacts.get_mut(call_id).filter(|contact| !contact.ended) else {
            match state.contacts.get(call_id) {
                // It ended it itself, and died before it had forgotten it: what the node says of the user's wish decides whether that may be.
                Some(contact) if contact.left => self.book.count("ended subscriptions taken up again"),
                Some(contact) => {
                    self.book.complain(|| format!("SUBSCRIBE in {call_id} of {:?}, which 481 has ended", contact.pair))
                }
                None => self.book.complain(|| format!("SUBSCRIBE in a dialog that nobody began: {call_id}")),
            }
            return answer(out, request, 481, None, "", None);
        };
        contact.heard.hear(&self.book, generation, request);
        let presentity = contact.pair.1;
        let expires = if is_end { 0 } else { 3600 };
        let more = format!("Contact: <sip:p{presentity}@lync.example>\r\nExpires: {expires}\r\n");
        answer(out, request, 200, None, &more, None);
        contact.ended |= is_end;
        contact.left |= is_end;
        self.notify(state, call_id, is_end);
    }

    /// The edge opens a session for a user inside, or refreshes one.
    fn invited(&self, state: &mut State, generation: u32, request: &Message, call_id: &str, out: &mut BytesMut) {
        let inside = request.from().and_then(|from| sip_user(from.uri.text));
        let outside = request.to().and_then(|to| sip_user(to.uri.text));
        let target = contact_uri(request).map(|uri| uri.text);
        let (Some((_, inside)), Some(outside), Some(target)) = (inside, outside, target) else {
            self.book.complain(|| format!("INVITE {call_id} of or to somebody unknown"));
            return answer(out, request, 404, Some("p"), "", None);
        };
        let pair = (outside.1, inside);
        if let Some(before) = state.chat_of.get(&pair)
            && let Some(before) = state.chats.get_mut(before)
        {
            if before.standing == Talk::Open {
                self.book.complain(|| {
                    format!(
                        "a session of {pair:?} is opened anew ({call_id}): the one that was acknowledged was forgotten"
                    )
                });
            }
            before.standing = Talk::Unknown;
        }
        let tag = format!("q{}", state.chats.len());
        let mut heard = Heard::default();
        heard.hear(&self.book, generation, request);
        let chat = Chat {
            pair,
            outside,
            local: format!("{};tag={tag}", request.header(Name::To).unwrap_or_default()).into(),
            remote: request.header(Name::From).unwrap_or_default().into(),
            target: target.into(),
            cseq: 0,
            heard,
            ours: false,
            standing: Talk::Opening,
        };
        state.chats.insert(call_id.into(), chat);
        state.chat_of.insert(pair, call_id.into());
        let more = format!("Contact: <sip:{}{}@lync.example>\r\n", char::from(outside.0), outside.1);
        answer(out, request, 200, Some(&tag), &more, Some(("application/sdp", SDP)));
    }

    /// The edge says something in a session.
    fn said(&self, state: &mut State, generation: u32, request: &Message, call_id: &str) -> u16 {
        match state.chats.get_mut(call_id) {
            Some(chat) if matches!(chat.standing, Talk::Open | Talk::Opening | Talk::Leaving) => {
                chat.heard.hear(&self.book, generation, request);
                200
            }
            // Opened without our knowing, or ended without theirs.
            Some(_) => 481,
            None => {
                self.book.complain(|| format!("a message in a session that nobody began: {call_id}"));
                481
            }
        }
    }

    /// BYE of the edge.
    fn left(&self, state: &mut State, generation: u32, request: &Message, call_id: &str) -> u16 {
        let Some(chat) = state.chats.get_mut(call_id) else {
            self.book.complain(|| format!("BYE in a session that nobody began: {call_id}"));
            return 481;
        };
        chat.heard.hear(&self.book, generation, request);
        if chat.standing == Talk::Open && !state.byes_expected {
            let pair = chat.pair;
            self.book.complain(|| format!("the session {call_id} of {pair:?} was ended, and nobody left"));
        }
        state.chats.remove(call_id);
        200
    }
}

/// `sip:w17@…` → `(b'w', 17)`.
fn sip_user(uri: &str) -> Option<User> {
    user(uri.strip_prefix("sip:")?.split('@').next()?)
}

/// The number of a message of ours: its text begins with the letter and it.
fn number_in(request: &Message, letter: u8) -> Option<u32> {
    let text = std::str::from_utf8(request.body()).ok()?;
    let (found, number) = user(text.split(' ').next()?)?;
    (found == letter).then_some(number)
}

/// What the edge's document says of a user inside.
fn read_document(body: &[u8]) -> Option<Shown> {
    let document = Document::parse(body).ok()?;
    let Some(tuple) = document.tuples.iter().find(|tuple| tuple.open == Some(true)) else {
        return Some(Shown::default());
    };
    let note = tuple.note.as_ref().map(|note| note.text.as_str());
    Some(Shown::read(Show::of(tuple.show.as_deref()), note))
}
