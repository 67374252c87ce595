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
use crate::wire::xmpp::{
    Child, Element, NS_COMPONENT, NS_SERVER, Scope, Stanza, StreamError, StreamHeader, stanza,
};
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
            let cause = format!("{node} accepts no components there: `address` must be its port for components, not one for clients or servers");
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
    let text = text.map(|text| format!(" ({})", super::open::clean(text))).unwrap_or_default();
    let mend = match error {
        StreamError::Conflict => {
            "; another connection is attached under this name: stop the other edge or component. If it is what is left of ours, \
             the server lets go of it soon"
        }
        StreamError::NotAuthorized => "; the server has another secret for it: compare `secret` of the [[node]] with the server's",
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

    #[test]
    fn the_handshake_is_that_of_the_xep() {
        // XEP-0114 §3, example 2 and 3.
        assert_eq!(handshake("3BF96D32", &Secret(b"test".to_vec())), "aaee83c26aeeafcbabeabfcbcd50df997e0a2a1e");
    }
}
