//! A SIP dialog, ours as UAS (RFC 3261 §12.1.1) or UAC (§12.1.2): what must be remembered to send requests inside it.

use crate::gate::limits;
use crate::gate::partner::LocalIdentity;
use crate::gate::reject::{Reason, Reject};
use crate::wire::sip::compose::Request;
use crate::wire::sip::dialog::{contact_uri, route_set};
use crate::wire::sip::header::Name;
use crate::wire::sip::{Message, Method, Uri};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// One dialog. Everything is copied text: nothing pins a read buffer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dialog {
    /// Call-ID.
    pub call_id: String,
    /// Our tag.
    pub local_tag: String,
    /// Their tag.
    pub remote_tag: String,
    /// Who we are in it: our own value of To or From of the request that made it, without tag.
    local: String,
    /// Who they are: their own value of From or To, tag and further parameters included (COMPAT(lync): `epid`).
    remote: String,
    /// The remote target: their Contact URI.
    target: String,
    /// The route set, each URI in angle brackets, byte for byte (COMPAT(lync): `ms-route-sig` is a MAC over it).
    routes: Vec<String>,
    /// Our last CSeq.
    local_cseq: u32,
    /// Every CSeq up to this one may have been used before a restart.
    cseq_mark: u32,
    /// Their last CSeq; empty until they send a request (RFC 3261 §12.1.2).
    remote_cseq: Option<u32>,
}

/// A request inside a dialog, ready to be sent.
#[derive(Debug)]
pub struct InDialog {
    /// The whole message.
    pub bytes: Bytes,
    /// Whether the dialog must be kept again before this is sent: its CSeq mark has moved.
    pub mark_moved: bool,
}

impl Dialog {
    /// The UAS's half of the dialog that `request` makes.
    pub fn from_request(request: &Message, local_tag: String) -> Result<Self, Reject> {
        let malformed = |what| Reject::new(Reason::Malformed, what);
        let contact =
            contact_uri(request).ok_or_else(|| malformed("a request that makes a dialog needs one Contact"))?;
        let routes = route_set(request, false);
        if routes.len() > limits::ROUTES {
            return Err(malformed("too many Record-Route values"));
        }
        let dialog = Self {
            call_id: request.call_id().ok_or_else(|| malformed("no Call-ID"))?.to_owned(),
            local_tag,
            // RFC 3261 §12.1.1: an absent tag (RFC 2543) is remembered as empty.
            remote_tag: request.from_tag().unwrap_or_default().to_owned(),
            local: request.header(Name::To).ok_or_else(|| malformed("no To"))?.to_owned(),
            remote: request.header(Name::From).ok_or_else(|| malformed("no From"))?.to_owned(),
            target: contact.text.to_owned(),
            routes,
            local_cseq: 0,
            cseq_mark: limits::CSEQ_BLOCK,
            remote_cseq: Some(request.cseq().map_or(0, |(number, _)| number)),
        };
        if dialog.bytes() > limits::DIALOG_BYTES {
            return Err(
                Reject::new(Reason::TooLarge, "the headers a dialog must remember are too long").with_status(513)
            );
        }
        Ok(dialog)
    }

    /// The UAC's half of the dialog that a response to a request of ours makes. `local`: that request's From value without tag.
    pub fn from_response(response: &Message, local: String, local_tag: String) -> Result<Self, Reject> {
        let malformed = |what| Reject::new(Reason::Malformed, what);
        contact_uri(response).ok_or_else(|| malformed("a response that makes a dialog needs one Contact"))?;
        let mut dialog = Self {
            call_id: response.call_id().ok_or_else(|| malformed("no Call-ID"))?.to_owned(),
            local_tag,
            remote_tag: String::new(),
            local,
            remote: String::new(),
            target: String::new(),
            routes: Vec::new(),
            local_cseq: response.cseq().map_or(0, |(number, _)| number),
            cseq_mark: limits::CSEQ_BLOCK,
            remote_cseq: None,
        };
        dialog.confirm(response)?;
        Ok(dialog)
    }

    /// Our half of a dialog that a request of ours will make (RFC 3261 §12.1.2); `local` and `remote` are `user@domain`.
    pub fn as_uac(call_id: String, local_tag: String, local: &str, remote: &str) -> Self {
        Self {
            call_id,
            local_tag,
            remote_tag: String::new(),
            local: format!("<sip:{local}>"),
            remote: format!("<sip:{remote}>"),
            target: format!("sip:{remote}"),
            routes: Vec::new(),
            local_cseq: 0,
            cseq_mark: limits::CSEQ_BLOCK,
            remote_cseq: None,
        }
    }

    /// What makes the dialog whole: the 2xx to our request, or the NOTIFY that came before it (RFC 6665 §4.4.1).
    pub fn confirm(&mut self, message: &Message) -> Result<(), Reject> {
        let malformed = |what| Reject::new(Reason::Malformed, what);
        let is_notify = message.is_request();
        let (remote, tag) = match is_notify {
            true => (message.header(Name::From), message.from_tag()),
            false => (message.header(Name::To), message.to_tag()),
        };
        let mut whole = self.clone();
        whole.remote = remote.ok_or_else(|| malformed("no peer address"))?.to_owned();
        whole.remote_tag = tag.ok_or_else(|| malformed("no tag of the peer"))?.to_owned();
        if let Some(contact) = contact_uri(message) {
            whole.target = contact.text.to_owned();
        }
        whole.routes = route_set(message, !is_notify);
        if whole.routes.len() > limits::ROUTES || whole.bytes() > limits::DIALOG_BYTES {
            return Err(malformed("the headers a dialog must remember are too long"));
        }
        *self = whole;
        Ok(())
    }

    /// Takes note of a request of theirs inside the dialog: its CSeq must grow (RFC 3261 §12.2.2), its Contact refreshes the target.
    /// `true`: the target is another now, to be kept before the request is answered.
    pub fn follow(&mut self, request: &Message) -> Result<bool, Reject> {
        self.count(request)?;
        Ok(self.retarget(request))
    }

    /// As [`follow`](Self::follow), without the target: most methods do not refresh it, and a refused one does not (RFC 6141 §4.1).
    pub fn count(&mut self, request: &Message) -> Result<(), Reject> {
        let number = request.cseq().map_or(0, |(number, _)| number);
        if self.remote_cseq.is_some_and(|last| number <= last) {
            return Err(Reject::new(Reason::Malformed, "CSeq is not above the last one of its dialog").with_status(500));
        }
        self.remote_cseq = Some(number);
        Ok(())
    }

    /// The Contact of a target refresh that is accepted: whether it is another than before.
    pub fn retarget(&mut self, request: &Message) -> bool {
        match contact_uri(request) {
            Some(contact) if contact.text.len() <= limits::DIALOG_BYTES && contact.text != self.target => {
                self.target = contact.text.to_owned();
                true
            }
            _ => false,
        }
    }

    /// Takes note of the CSeq of something of theirs that came in another way.
    pub fn follow_to(&mut self, number: u32) {
        self.remote_cseq = self.remote_cseq.max(Some(number));
    }

    /// Whether an in-dialog request of theirs belongs here.
    pub fn is_of(&self, request: &Message) -> bool {
        request.call_id() == Some(&self.call_id)
            && request.to_tag() == Some(&self.local_tag)
            && request.from_tag().unwrap_or_default() == self.remote_tag
    }

    /// Whether a request of theirs outside any dialog is the one that made this (RFC 3261 §8.2.2.2, §17.2.3: it came again).
    pub fn is_made_by(&self, request: &Message) -> bool {
        request.call_id() == Some(&self.call_id)
            && request.from_tag().unwrap_or_default() == self.remote_tag
            && request.cseq().is_some_and(|(number, _)| self.remote_cseq.is_some_and(|last| number <= last))
    }

    /// A request of ours inside the dialog (RFC 3261 §12.2.1.1).
    pub fn request(
        &mut self,
        method: Method,
        branch: &str,
        identity: &LocalIdentity,
        headers: Vec<(&'static str, String)>,
        body: Option<(&str, &[u8])>,
    ) -> InDialog {
        self.local_cseq += 1;
        let mark_moved = self.local_cseq >= self.cseq_mark;
        if mark_moved {
            self.cseq_mark += limits::CSEQ_BLOCK;
        }
        InDialog { bytes: self.print(method, self.local_cseq, branch, identity, headers, body), mark_moved }
    }

    /// The ACK of a 2xx to our INVITE with this CSeq: a transaction of its own, through the route set (RFC 3261 §13.2.2.4).
    pub fn ack(&self, cseq: u32, branch: &str, identity: &LocalIdentity) -> Bytes {
        self.print(Method::Ack, cseq, branch, identity, Vec::new(), None)
    }

    fn print(
        &self,
        method: Method,
        number: u32,
        branch: &str,
        identity: &LocalIdentity,
        headers: Vec<(&'static str, String)>,
        body: Option<(&str, &[u8])>,
    ) -> Bytes {
        let mut routes = self.routes.clone();
        let mut uri = self.target.clone();
        // RFC 3261 §12.2.1.1: a first route without `lr` is a strict router, which wants itself in the Request-URI.
        if let Some(first) = routes.first().map(|r| r.trim_matches(['<', '>']).to_owned())
            && Uri::parse(&first).is_ok_and(|first| first.param("lr").is_none())
        {
            routes.remove(0);
            routes.push(format!("<{uri}>"));
            uri = first;
        }
        let mut all = vec![
            ("Via", format!("SIP/2.0/TLS {}:{};branch={branch}", identity.hostname, identity.sip_port)),
            ("Max-Forwards", "70".to_owned()),
        ];
        all.extend(routes.into_iter().map(|route| ("Route", route)));
        all.extend([
            ("From", format!("{};tag={}", self.local, self.local_tag)),
            ("To", self.remote.clone()),
            ("Call-ID", self.call_id.clone()),
            ("CSeq", format!("{number} {method}")),
            ("Contact", contact_of(identity)),
        ]);
        all.extend(headers);
        Request { method, uri: &uri, headers: &all, body }.print()
    }

    /// After a restart: above every CSeq that may have been used. The next request moves the mark, and so is kept first: a restart alone
    /// writes nothing.
    pub fn resume(&mut self) {
        self.local_cseq = self.cseq_mark;
    }

    fn bytes(&self) -> usize {
        let fixed = [&self.call_id, &self.remote_tag, &self.local, &self.remote, &self.target];
        fixed.iter().map(|text| text.len()).sum::<usize>() + self.routes.iter().map(String::len).sum::<usize>()
    }
}

/// Our Contact: the edge itself, never anything inside.
pub fn contact_of(identity: &LocalIdentity) -> String {
    format!("<sip:{}:{};transport=tls>", identity.hostname, identity.sip_port)
}
