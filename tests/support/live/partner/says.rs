//! What the partner says by itself.

use super::super::sip::end;
use super::super::{Show, Shown};
use super::{Contact, Desk, State, Watch, What};
use bytes::BytesMut;
use fedgate::wire::pidf::{Document, Note, Tuple};
use fedgate::wire::sip::Method;
use std::fmt::Write as _;

impl Desk {
    /// SUBSCRIBE of a watch: the first, a refresh, or the end (`expires` 0).
    pub(super) fn subscribe(&self, state: &mut State, at: usize, expires: u32) {
        let branch = state.open(What::Watch(at, expires == 0));
        let watch = &mut state.watches[at];
        watch.cseq += 1;
        let Watch { watcher, presentity, cseq, .. } = *watch;
        let mut out = BytesMut::with_capacity(512);
        match &watch.target {
            Some(target) => drop(write!(out, "SUBSCRIBE {target} SIP/2.0\r\n")),
            None => drop(write!(out, "SUBSCRIBE sip:u{presentity}@corp.example SIP/2.0\r\n")),
        }
        head(&mut out, branch);
        let _ = write!(out, "From: <sip:w{watcher}@lync.example>;tag=w{at}\r\nTo: <sip:u{presentity}@corp.example>");
        if let Some(tag) = &watch.remote_tag {
            let _ = write!(out, ";tag={tag}");
        }
        let _ = write!(
            out,
            "\r\nCall-ID: w{at}@lync.example\r\nCSeq: {cseq} SUBSCRIBE\r\nContact: <sip:w{watcher}@lync.example>\r\n\
             Event: presence\r\nAccept: application/pidf+xml\r\nExpires: {expires}\r\n"
        );
        end(&mut out, None);
        self.send(Some(branch), out);
    }

    /// NOTIFY of a contact: what its user shows now, or the end.
    pub(super) fn notify(&self, state: &mut State, call_id: &str, is_end: bool) {
        let branch = state.open(What::Notify(call_id.into()));
        let Some(contact) = state.contacts.get_mut(call_id) else { return };
        contact.cseq += 1;
        let Contact { cseq, pair: (_, presentity), .. } = *contact;
        let mut out = BytesMut::with_capacity(1024);
        let _ = write!(out, "NOTIFY {} SIP/2.0\r\n", contact.target);
        head(&mut out, branch);
        let subscription = if is_end { "terminated;reason=timeout" } else { "active;expires=3600" };
        let _ = write!(
            out,
            "From: {}\r\nTo: {}\r\nCall-ID: {call_id}\r\nCSeq: {cseq} NOTIFY\r\nContact: <sip:p{presentity}@lync.example>\r\n\
             Event: presence\r\nSubscription-State: {subscription}\r\n",
            contact.local, contact.remote
        );
        let shown = state.shown.get(&presentity).copied().unwrap_or_default();
        end(&mut out, Some(("application/pidf+xml", &document(presentity, shown))));
        self.send(Some(branch), out);
    }

    /// A request inside a session.
    pub(super) fn in_chat(
        &self,
        state: &mut State,
        call_id: &str,
        method: Method,
        what: Option<What>,
        body: Option<(&str, &str)>,
    ) {
        // An ACK has a branch and no transaction (RFC 3261 §13.2.2.4).
        let is_ack = what.is_none();
        let branch = match what {
            Some(what) => state.open(what),
            None => {
                state.branches += 1;
                state.branches
            }
        };
        let Some(chat) = state.chats.get_mut(call_id) else { return };
        if !is_ack {
            chat.cseq += 1;
        }
        let mut out = BytesMut::with_capacity(1024);
        let _ = write!(out, "{method} {} SIP/2.0\r\n", chat.target);
        head(&mut out, branch);
        let cseq = if is_ack { 1 } else { chat.cseq };
        let (letter, number) = (char::from(chat.outside.0), chat.outside.1);
        let _ = write!(
            out,
            "From: {}\r\nTo: {}\r\nCall-ID: {call_id}\r\nCSeq: {cseq} {method}\r\n\
             Contact: <sip:{letter}{number}@lync.example>\r\n",
            chat.local, chat.remote
        );
        end(&mut out, body);
        self.send((!is_ack).then_some(branch), out);
    }
}

/// What every request of ours begins with.
pub(super) fn head(out: &mut BytesMut, branch: u64) {
    let _ = write!(out, "Via: SIP/2.0/TLS sip.lync.example:5061;branch=z9hG4bKp{branch}\r\nMax-Forwards: 67\r\n");
}

/// What a user outside shows, as a document.
fn document(presentity: u32, shown: Shown) -> String {
    let open = shown.show != Show::Offline;
    let tuple = Tuple {
        id: "t1".to_owned(),
        open: Some(open),
        activities: if shown.show == Show::Away { vec!["away".to_owned()] } else { Vec::new() },
        note: open.then(|| Note { lang: None, text: format!("n{}", shown.note) }),
        ..Tuple::default()
    };
    let entity = format!("sip:p{presentity}@lync.example");
    Document { entity, tuples: vec![tuple], ..Document::default() }.print(false)
}
