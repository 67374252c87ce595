//! The partner's half of a dialog (RFC 3261 §12): takes the message that made it, gives requests inside of it.
//!
//! Without routes: the one Record-Route there is, is that of the partner's own edge, which takes it off what leaves (RFC 3261 §16.4).

use crate::wire::sip::compose::Request;
use crate::wire::sip::dialog::contact_uri;
use crate::wire::sip::header::Name;
use crate::wire::sip::{Message, Method};
use bytes::Bytes;

/// A dialog.
pub struct Dialog {
    /// Call-ID.
    pub call_id: String,
    /// Our From, with its tag, and their To.
    local: String,
    remote: String,
    /// Our Contact.
    contact: String,
    /// Their Contact URI.
    target: String,
    /// CSeq of the request that made it, and of our last one.
    made_by: u32,
    cseq: u32,
}

impl Dialog {
    /// Made by a request of ours: what its 2xx says (RFC 3261 §12.1.2).
    pub fn begun(response: &Message) -> Option<Self> {
        let (made_by, _) = response.cseq()?;
        Some(Self {
            call_id: response.call_id()?.to_owned(),
            local: response.header(Name::From)?.to_owned(),
            remote: response.header(Name::To)?.to_owned(),
            contact: contact(response.from()?.uri.text),
            target: contact_uri(response)?.text.to_owned(),
            made_by,
            cseq: made_by,
        })
    }

    /// Made by a request of theirs that we answer with this tag (RFC 3261 §12.1.1).
    pub fn joined(request: &Message, tag: &str) -> Option<Self> {
        Some(Self {
            call_id: request.call_id()?.to_owned(),
            local: format!("{};tag={tag}", request.header(Name::To)?),
            remote: request.header(Name::From)?.to_owned(),
            contact: contact(request.to()?.uri.text),
            target: contact_uri(request)?.text.to_owned(),
            made_by: request.cseq()?.0,
            cseq: 0,
        })
    }

    /// The next request inside of it (RFC 3261 §12.2.1.1).
    pub fn request(
        &mut self,
        via: String,
        method: Method,
        more: &[(&'static str, String)],
        body: Option<(&str, &[u8])>,
    ) -> Bytes {
        // RFC 3261 §13.2.2.4: an ACK has the number of its INVITE.
        let number = if method == Method::Ack {
            self.made_by
        } else {
            self.cseq += 1;
            self.cseq
        };
        let mut headers = vec![
            ("Via", via),
            ("Max-Forwards", "67".to_owned()),
            ("From", self.local.clone()),
            ("To", self.remote.clone()),
            ("Call-ID", self.call_id.clone()),
            ("CSeq", format!("{number} {method}")),
            ("Contact", self.contact.clone()),
        ];
        headers.extend(more.iter().cloned());
        Request { method, uri: &self.target, headers: &headers, body }.print()
    }
}

/// The Contact of a user's client, as Lync's clients write it.
pub fn contact(uri: &str) -> String {
    format!("<{uri};opaque=user:epid:Zk3dSampleGruuValue0AA;gruu>")
}
