//! The offer and answer of an IM session as Microsoft's servers write them (MS-SDP §3.1.5.3): a media line that names SIP itself, and the
//! types its messages may have. Nothing of it is an address: the messages run in the dialog.
//!
//! Takes a body, gives an [`Im`]; and writes one.

use crate::gate::limits;
use crate::gate::reject::{Reason, Reject};

/// What the types of our own sessions are: what [`super::message::read_sip`] and [`super::composing`] read.
pub const ACCEPT_TYPES: &str = "text/plain text/html multipart/alternative application/im-iscomposing+xml";

/// How the media line is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Kind {
    /// `m=message 5060 sip null`.
    #[default]
    Message,
    /// COMPAT(ocs): LCS 2005 says `m=x-ms-message`.
    XMsMessage,
}

/// An offer or answer that is an IM session and nothing else.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Im {
    /// Its media line's name: the answer repeats it.
    pub kind: Kind,
    /// Types it takes, lower case; empty if it doesn't say.
    accepts: Vec<String>,
}

/// Reads a body of type `application/sdp`. 488 for whatever is not one IM session over SIP: media, MSRP, several media lines, a port of 0.
pub fn read(body: &[u8]) -> Result<Im, Reject> {
    let refuse = |what: &str| Reject::new(Reason::Unsupported, what).with_status(488);
    let text = std::str::from_utf8(body).map_err(|_| refuse("the session description is not UTF-8"))?;
    let mut kind = None;
    let mut accepts = Vec::new();
    for line in text.lines() {
        let line = line.trim_end();
        if let Some(media) = line.strip_prefix("m=") {
            let mut words = media.split(' ').filter(|word| !word.is_empty());
            let (name, port, proto) = (words.next(), words.next(), words.next());
            let found = match name {
                Some("message") => Kind::Message,
                Some("x-ms-message") => Kind::XMsMessage,
                _ => return Err(refuse("it offers media, not an IM session")),
            };
            if !proto.is_some_and(|proto| proto.eq_ignore_ascii_case("sip")) {
                return Err(refuse("its messages go over another protocol than SIP (MSRP, RFC 4975)"));
            }
            // RFC 3264 §6: port 0 declines.
            if port.and_then(|port| port.parse::<u16>().ok()).is_none_or(|port| port == 0) {
                return Err(refuse("its media line is declined or has no port"));
            }
            if kind.replace(found).is_some() {
                return Err(refuse("it has several media lines"));
            }
        } else if let Some(types) = line.strip_prefix("a=accept-types:") {
            let room = limits::ACCEPT_TYPES.saturating_sub(accepts.len());
            accepts.extend(types.split([' ', ',']).filter(|t| !t.is_empty()).map(str::to_ascii_lowercase).take(room));
        }
    }
    let kind = kind.ok_or_else(|| refuse("it has no media line"))?;
    Ok(Im { kind, accepts })
}

impl Im {
    /// Whether a message of this type is taken.
    pub fn takes(&self, essence: &str) -> bool {
        self.accepts.iter().any(|t| t == essence || t == "*")
    }
}

/// Writes an offer (`uri`: none) or an answer. `host` is the identity's host name, public by nature; RFC 4566 §5.7 lets a name stand there.
pub fn write(kind: Kind, host: &str, uri: Option<&str>) -> String {
    let name = match kind {
        Kind::Message => "message",
        Kind::XMsMessage => "x-ms-message",
    };
    let uri = uri.unwrap_or("null");
    format!(
        "v=0\r\no=- 0 0 IN IP4 {host}\r\ns=session\r\nc=IN IP4 {host}\r\nt=0 0\r\nm={name} 5060 sip {uri}\r\na=accept-types:{ACCEPT_TYPES}\r\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const OFFER: &str = "v=0\r\no=- 0 0 IN IP4 10.20.31.5\r\ns=session\r\nc=IN IP4 10.20.31.5\r\nt=0 0\r\nm=message 5060 sip null\r\n\
                         a=accept-types:text/plain multipart/alternative Text/HTML\r\n";

    #[test]
    fn microsofts_offers_are_read() {
        let im = read(OFFER.as_bytes()).unwrap();
        assert_eq!(im.kind, Kind::Message);
        assert!(im.takes("text/plain") && im.takes("text/html") && !im.takes("application/im-iscomposing+xml"));
        let lcs =
            OFFER.replace("m=message 5060 sip null", "m=x-ms-message 5060 sip sip:a@h.example").replace("\r\n", "\n");
        assert_eq!(read(lcs.as_bytes()).unwrap().kind, Kind::XMsMessage);
    }

    #[test]
    fn anything_else_is_488() {
        for (line, why) in [
            ("m=message 2855 TCP/TLS/MSRP *", "MSRP"),
            ("m=audio 5060 RTP/AVP 0", "media"),
            ("m=message 5060 sip null\r\nm=audio 5060 RTP/AVP 0", "media"),
            ("m=message 5060 sip null\r\nm=message 5061 sip null", "several"),
            ("m=message 0 sip null", "declined"),
            ("m=message", "protocol"),
            ("b=x", "no media line"),
        ] {
            let reject = read(OFFER.replace("m=message 5060 sip null", line).as_bytes()).unwrap_err();
            assert_eq!((reject.reason, reject.status), (Reason::Unsupported, 488), "{line}");
            assert!(reject.detail.contains(why), "{line}: {}", reject.detail);
        }
    }

    #[test]
    fn what_we_write_we_read() {
        for kind in [Kind::Message, Kind::XMsMessage] {
            for uri in [None, Some("sip:a@h.example")] {
                let im = read(write(kind, "sip.corp.example", uri).as_bytes()).unwrap();
                assert_eq!(im.kind, kind);
                assert!(ACCEPT_TYPES.split(' ').all(|t| im.takes(t)));
            }
        }
    }

    proptest! {
        #[test]
        fn hostile_bodies_never_panic(body in any::<Vec<u8>>(), line in "m=[ -~]{0,40}") {
            let _ = read(&body);
            let _ = read(line.as_bytes());
        }
    }
}
