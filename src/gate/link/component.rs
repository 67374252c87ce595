//! Streams on which we are an external component of an XMPP server (XEP-0114): one name, a shared secret instead of a certificate, and
//! stanzas both ways.
//!
//! Everything behind a link is written in `jabber:server`; a component stream has a namespace of its own. What is sent and what is received is
//! moved between the two here and nowhere else.

use super::core::Core;
use super::{LinkOutput, State};
use crate::gate::partner::Secret;
use crate::gate::reject::{Reason, Reject};
use crate::wire::address::Domain;
use crate::wire::xmpp::{Child, Element, NS_COMPONENT, NS_SERVER, Scope, Stanza, StreamError, StreamHeader, stanza};
use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use bytes::Bytes;
use std::fmt::Write;

/// `jabber:client`
const NS_CLIENT: &str = "jabber:client";

/// Our header is sent, theirs is expected.
#[derive(Debug)]
pub(super) struct Greeting {
    pub node: String,
    pub domain: Domain,
    pub secret: Secret,
}

/// The handshake is sent, theirs is expected.
#[derive(Debug)]
pub(super) struct Shaking {
    node: String,
    domain: Domain,
}

/// Accepted: stanzas flow both ways.
#[derive(Debug)]
pub(super) struct Attached {
    node: String,
    domain: Domain,
}

/// XEP-0114 §3: lower-case hex of SHA-1 over the stream's id and the secret.
pub fn handshake(id: &str, secret: &Secret) -> String {
    let text = [id.as_bytes(), &secret.0].concat();
    // The protocol knows no other digest. What it keeps is the secret, against who can't see the stream anyway.
    let digest = digest(&SHA1_FOR_LEGACY_USE_ONLY, &text);
    digest.as_ref().iter().fold(String::with_capacity(40), |mut hex, byte| {
        // Writing to a String cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// A stanza of ours as it is written on a component stream.
pub(super) fn outward(bytes: Bytes) -> Result<Bytes, StreamError> {
    stanza::moved(bytes, NS_SERVER, NS_COMPONENT)
}

impl Greeting {
    /// Sends our header: it names us, and has neither version nor from (XEP-0114 §3).
    pub fn begin(self, core: &mut Core) -> State {
        core.content_ns = NS_COMPONENT;
        core.send_header(&StreamHeader {
            to: Some(self.domain.to_unicode()),
            scope: Scope::of(NS_COMPONENT),
            ..StreamHeader::default()
        });
        State::Greeting(self)
    }

    pub fn on_header(self, core: &mut Core, header: &StreamHeader) -> State {
        let Self { node, domain, secret } = self;
        if !header.scope.declares(NS_COMPONENT) {
            let cause = format!(
                "{node} accepts no components there: `address` must be its port for components, not one for clients or servers"
            );
            return core.end(Some((StreamError::InvalidNamespace, String::new())), cause);
        }
        // COMPAT(prosody): the header before an error has an empty id; the error behind it says more than that.
        if let Some(id) = header.id.as_deref().filter(|id| !id.is_empty()) {
            core.write(Bytes::from(format!("<handshake>{}</handshake>", handshake(id, &secret))));
        }
        State::Shaking(Shaking { node, domain })
    }
}

impl Shaking {
    pub fn domain(&self) -> &Domain {
        &self.domain
    }

    pub fn on_child(self, core: &mut Core, child: Child) -> State {
        let Self { node, domain } = self;
        match child {
            Child::Other(element) if element.is("handshake", NS_COMPONENT) => {
                core.open_up(LinkOutput::Attached { node: node.clone(), domain: domain.clone() });
                State::Attached(Attached { node, domain })
            }
            Child::Stanza(_) => {
                let cause = format!("{node} sent a stanza before its handshake");
                core.end(Some((StreamError::NotAuthorized, String::new())), cause)
            }
            // A header with a version may be followed by features; nothing of them concerns a component.
            _ => State::Shaking(Self { node, domain }),
        }
    }
}

impl Attached {
    pub fn domain(&self) -> &Domain {
        &self.domain
    }

    pub fn on_child(self, core: &mut Core, child: Child) -> State {
        let stanza = match child {
            Child::Stanza(stanza) => Some(stanza.moved(NS_COMPONENT, NS_SERVER)),
            Child::Other(element) => adopt(element),
            _ => None,
        };
        if let Some(stanza) = stanza {
            self.on_stanza(core, stanza);
        }
        State::Attached(self)
    }

    /// Which domains of the inside may speak on it, the gate judges by the settings in force. What is not for us at all ends here: it is the
    /// server's slip, or one of its users', and no reason to cut off everybody.
    pub fn on_stanza(&self, core: &mut Core, stanza: Stanza) {
        let reject = match (&stanza.from, &stanza.to) {
            (Ok(Some(_)), Ok(Some(to))) if *to.bare.domain() != self.domain => {
                let detail = format!("{} sent a stanza for {to} to the component {}", self.node, self.domain);
                Reject::new(Reason::RelayDenied, detail)
            }
            // A `to` that is no address is a user's slip: the sender gets jid-malformed (RFC 6120 §8.3.3.8).
            (Ok(Some(_)), Ok(Some(_)) | Err(_)) => {
                core.outputs.push_back(LinkOutput::Stanza(stanza));
                return;
            }
            _ => Reject::new(Reason::Malformed, format!("{} sent a stanza without from or to", self.node)),
        };
        core.note_refusal(Some(self.domain.to_unicode()), reject);
    }
}

/// Of a server that hands on its clients' stanzas as they came, in their namespace: better read than lost.
fn adopt(mut element: Element) -> Option<Stanza> {
    if element.ns != NS_CLIENT {
        return None;
    }
    element.move_namespace(NS_CLIENT, NS_SERVER);
    Stanza::parse(Bytes::from(element.print(NS_SERVER)), NS_SERVER).ok().flatten()
}

/// A stream error of the server's, and what can be done about it.
pub(super) fn explain(domain: &Domain, error: StreamError, text: Option<&str>) -> String {
    let text = text.map(|text| format!(" ({})", super::explain::clean(text))).unwrap_or_default();
    let mend = match error {
        StreamError::Conflict => {
            "; another connection is attached under this name: stop the other edge or component. If it is what is left of ours, \
             the server lets go of it soon"
        }
        StreamError::NotAuthorized => {
            "; the server has another secret for it: compare `secret` of the [[node]] with the server's"
        }
        StreamError::HostUnknown | StreamError::HostGone | StreamError::ImproperAddressing => {
            "; the server has no such component: configure it there, `fedgate check` shows how"
        }
        StreamError::InvalidNamespace => "; it accepts no components there: check `address` of the [[node]]",
        StreamError::StanzaTooBig => "; a stanza was larger than it takes",
        _ => "",
    };
    format!("the server ended the component stream of {domain} with {error}{text}{mend}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::limits::{Limits, STREAM_KEEPALIVE};
    use crate::gate::link::{LinkInput, Settings, XmppLink};
    use crate::gate::partner::TlsMode;
    use crate::gate::time::Time;
    use std::sync::Arc;
    use std::time::Duration;

    const HEADER: &str = "<stream:stream xmlns='jabber:component:accept' xmlns:stream='http://etherx.jabber.org/streams' \
                          from='plays.shakespeare.lit' id='3BF96D32'>";

    struct End {
        link: XmppLink,
        wrote: String,
        stanzas: Vec<Stanza>,
        attached: bool,
        closed: Option<String>,
        refused: usize,
    }

    impl End {
        fn new() -> Self {
            let settings = Settings {
                policy: Arc::default(),
                nodes: Vec::new(),
                trust: Arc::default(),
                inside_trust: Arc::default(),
                inside_tls: TlsMode::Required,
                secrets: Vec::new(),
                limits: Limits::default(),
            };
            let domain = Domain::parse("plays.shakespeare.lit").unwrap();
            let secret = Secret(b"test".to_vec());
            let link = XmppLink::component(Arc::new(settings), "imp-1".into(), domain, secret, [1; 32], now());
            let mut end =
                Self { link, wrote: String::new(), stanzas: Vec::new(), attached: false, closed: None, refused: 0 };
            end.drain();
            end
        }

        fn attached() -> Self {
            let mut end = Self::new();
            end.feed(HEADER).feed("<handshake/>");
            assert!(end.attached);
            end.wrote.clear();
            end
        }

        fn feed(&mut self, text: &str) -> &mut Self {
            self.link.buffer().extend_from_slice(text.as_bytes());
            self.input(now(), LinkInput::Readable)
        }

        fn input(&mut self, at: Time, input: LinkInput) -> &mut Self {
            self.link.handle_input(at, input);
            self.drain();
            self
        }

        fn send(&mut self, text: &'static str) -> &mut Self {
            self.input(now(), LinkInput::Send(Bytes::from_static(text.as_bytes()), None))
        }

        fn drain(&mut self) {
            while let Some(output) = self.link.poll_output() {
                match output {
                    LinkOutput::Write(bytes) => self.wrote.push_str(std::str::from_utf8(&bytes).unwrap()),
                    LinkOutput::Stanza(stanza) => self.stanzas.push(stanza),
                    LinkOutput::Attached { node, domain } => {
                        assert_eq!((node.as_str(), domain.as_str()), ("imp-1", "plays.shakespeare.lit"));
                        self.attached = true;
                    }
                    LinkOutput::Close { cause, .. } => self.closed = Some(cause),
                    LinkOutput::Refused { .. } => self.refused += 1,
                    other => panic!("{other:?}"),
                }
            }
        }
    }

    fn now() -> Time {
        Time::from_unix_seconds(1_700_000_000)
    }

    #[test]
    fn the_handshake_is_that_of_the_xep() {
        // XEP-0114 §3, examples 1 to 4.
        let mut end = End::new();
        assert_eq!(
            end.wrote,
            "<?xml version='1.0'?><stream:stream xmlns='jabber:component:accept' \
             xmlns:stream='http://etherx.jabber.org/streams' to='plays.shakespeare.lit'>"
        );
        end.wrote.clear();
        end.send("<message to='a@b.c'/>").feed(HEADER);
        assert_eq!(end.wrote, "<handshake>aaee83c26aeeafcbabeabfcbcd50df997e0a2a1e</handshake>");
        assert!(!end.attached);
        end.feed("<handshake/>");
        assert!(end.attached && end.closed.is_none());
    }

    #[test]
    fn features_and_byte_by_byte_reading_do_not_matter() {
        let mut end = End::new();
        let text = format!("{HEADER}<stream:features/><handshake></handshake>\n");
        for at in 0..text.len() {
            end.feed(&text[at..=at]);
        }
        assert!(end.attached);
    }

    #[test]
    fn stanzas_change_their_namespace_at_the_link() {
        let mut end = End::attached();
        end.send("<message to='a@b.c'><body>xy</body></message>");
        end.send("<message xmlns='jabber:server' to='a@b.c'><x xmlns='urn:x'/></message>");
        assert_eq!(
            end.wrote,
            "<message to='a@b.c'><body>xy</body></message><message to='a@b.c'><x xmlns='urn:x'/></message>"
        );
        end.feed("<message from='a@b.c' to='romeo@plays.shakespeare.lit'><body>1</body></message>");
        end.feed("<presence xmlns='jabber:component:accept' from='a@b.c' to='romeo@plays.shakespeare.lit'/>");
        end.feed(
            "<iq xmlns='jabber:client' from='a@b.c' to='plays.shakespeare.lit' type='get'><q xmlns='urn:q'/></iq>",
        );
        assert_eq!(end.stanzas.len(), 3);
        for stanza in &end.stanzas {
            assert_eq!(stanza.element().ns, NS_SERVER);
            assert_eq!(Element::parse(&stanza.raw, NS_SERVER).as_ref(), Ok(stanza.element()));
        }
        assert!(end.stanzas[0].element().find("body", NS_SERVER).is_some());
        assert!(end.stanzas[2].element().find("q", "urn:q").is_some());
    }

    #[test]
    fn what_is_for_nobody_here_is_refused_and_the_stream_goes_on() {
        let mut end = End::attached();
        end.feed(
            "<message from='a@b.c' to='romeo@other.lit'/><message from='a@b.c'/><message to='plays.shakespeare.lit'/>",
        );
        assert_eq!((end.stanzas.len(), end.refused), (0, 3));
        end.feed("<message from='a@b.c' to='plays.shakespeare.lit'/>");
        assert_eq!(end.stanzas.len(), 1);
        assert!(end.closed.is_none());
    }

    #[test]
    fn errors_say_what_to_mend() {
        let error = |condition: &str| {
            format!(
                "<stream:error><{condition} xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error></stream:stream>"
            )
        };
        for (condition, mend) in [
            ("conflict", "stop the other edge"),
            ("not-authorized", "compare `secret`"),
            ("host-unknown", "configure it there"),
        ] {
            let mut end = End::new();
            end.feed(HEADER).feed(&error(condition));
            let cause = end.closed.unwrap();
            assert!(cause.contains(condition) && cause.contains(mend), "{cause}");
        }
        // COMPAT(prosody): before it knows us, its header has no id.
        let mut end = End::new();
        end.feed(&HEADER.replace("3BF96D32", "")).feed(&error("host-unknown"));
        assert!(end.closed.unwrap().contains("configure it there"));
        assert!(!end.wrote.contains("handshake"));
        // A port for servers.
        let mut end = End::new();
        end.feed(&HEADER.replace("jabber:component:accept", "jabber:server"));
        assert!(end.closed.unwrap().contains("its port for components"));
        let mut end = End::new();
        end.feed(HEADER).feed("<message from='a@b.c' to='plays.shakespeare.lit'/>");
        assert!(end.closed.unwrap().contains("before its handshake"));
        assert!(end.stanzas.is_empty());
    }

    #[test]
    fn silence_is_ended_before_and_broken_after_the_handshake() {
        let mut end = End::new();
        let due = end.link.poll_timeout().unwrap();
        end.input(due, LinkInput::Timeout);
        assert!(end.closed.is_some());
        let mut end = End::attached();
        assert_eq!(end.link.poll_timeout(), Some(now() + STREAM_KEEPALIVE));
        end.input(now() + STREAM_KEEPALIVE, LinkInput::Timeout);
        assert_eq!(end.wrote, " ");
        assert!(end.closed.is_none());
    }

    #[test]
    fn what_is_under_way_counts_until_both_halves_are_ended() {
        let mut end = End::attached();
        for _ in 0..100 {
            end.feed("<message from='a@b.c' to='plays.shakespeare.lit'/>");
        }
        end.input(now(), LinkInput::Close(None)).send("<message to='a@b.c'/>");
        assert_eq!(end.wrote, "</stream:stream>");
        end.feed("<message from='a@b.c' to='plays.shakespeare.lit'/>");
        assert_eq!((end.stanzas.len(), end.closed.as_ref()), (101, None));
        end.feed("</stream:stream>");
        assert!(end.closed.is_some());
        let mut end = End::attached();
        end.input(now(), LinkInput::Close(None)).input(now() + Duration::from_secs(60), LinkInput::Timeout);
        assert!(end.closed.is_some());
    }
}
