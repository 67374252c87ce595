//! The last step before a message leaves: nothing inside is named outside. Works on parsed values, never on the user's text, and fails closed.

use crate::gate::settings::Settings;
use crate::wire::sip::header::{Name, Via};
use crate::wire::sip::{Host, Message, NameAddr, Start, Uri};
use bytes::Bytes;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// Names and addresses of the inside that must not be seen outside.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inside {
    names: BTreeSet<String>,
    addresses: BTreeSet<IpAddr>,
}

impl Inside {
    /// From the settings: node hosts, addresses and TLS names, without those that are public too.
    pub fn of(settings: &Settings) -> Self {
        let mut inside = Self::default();
        for node in &settings.nodes {
            for host in [Some(&node.address.host), node.tls_name.as_ref()].into_iter().flatten() {
                match host.parse::<IpAddr>() {
                    Ok(address) => {
                        inside.addresses.insert(address);
                    }
                    Err(_) => {
                        inside.names.insert(host.to_ascii_lowercase());
                    }
                }
            }
        }
        for identity in &settings.identities {
            inside.names.remove(&identity.hostname.to_ascii_lowercase());
            for domain in &identity.domains {
                inside.names.remove(domain.as_str());
            }
        }
        inside
    }

    /// What of the inside a SIP message names, and in which field; `None` = nothing.
    pub fn named_in(&self, bytes: &Bytes) -> Option<String> {
        let Ok(message) = Message::parse(bytes.clone()) else {
            return Some("a message that cannot be read back".to_owned());
        };
        if let Start::Request { uri, .. } = message.start()
            && let Ok(uri) = Uri::parse(uri)
            && self.is_named(uri.host)
        {
            return Some("the Request-URI".to_owned());
        }
        for via in message.values(Name::Via) {
            if Via::parse(via).is_ok_and(|via| self.is_named(via.host)) {
                return Some("Via".to_owned());
            }
        }
        let names = [Name::From, Name::To, Name::Contact, Name::Route, Name::RecordRoute, Name::PAssertedIdentity];
        for name in names {
            for value in message.values(name) {
                if NameAddr::parse(value).is_ok_and(|value| self.is_named(value.uri.host)) {
                    return Some(name.as_str().to_owned());
                }
            }
        }
        for name in [Name::CallId, Name::Warning, Name::Server, Name::UserAgent] {
            for value in message.rows(name) {
                if self.is_in_words(value) {
                    return Some(name.as_str().to_owned());
                }
            }
        }
        None
    }

    /// Whether this is an address of ours that nodes reach us at.
    pub fn faces(&self, host: Host<'_>, port: Option<u16>) -> bool {
        let _ = (host, port);
        false
    }

    /// Whether this is a node.
    pub fn is_node(&self, host: Host<'_>, port: Option<u16>) -> bool {
        let _ = port;
        self.is_named(host)
    }

    fn is_named(&self, host: Host<'_>) -> bool {
        match host {
            Host::Name(name) => self.names.contains(&name.trim_end_matches('.').to_ascii_lowercase()),
            Host::V4(address) => self.addresses.contains(&IpAddr::V4(address)),
            Host::V6(address) => self.addresses.contains(&IpAddr::V6(address)),
        }
    }

    /// A word here is what may be a host: letters, digits, dots, hyphens, colons.
    fn is_in_words(&self, text: &str) -> bool {
        text.split(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':'))).any(|word| {
            self.names.contains(&word.to_ascii_lowercase())
                || word.parse::<IpAddr>().is_ok_and(|address| self.addresses.contains(&address))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inside() -> Inside {
        Inside {
            names: BTreeSet::from(["imp-1.corp.internal".to_owned()]),
            addresses: BTreeSet::from(["10.1.2.3".parse().unwrap(), "fd00::7".parse().unwrap()]),
        }
    }

    fn message(header: &str, body: &str) -> Bytes {
        Bytes::from(format!(
            "MESSAGE sip:romeo@lync.example SIP/2.0\r\nVia: SIP/2.0/TLS sip.corp.example:5061;branch=z9hG4bKfg1\r\n\
             From: \"imp-1.corp.internal\" <sip:juliet@corp.example>;tag=1\r\nTo: <sip:romeo@lync.example>\r\nCall-ID: a1\r\n\
             CSeq: 1 MESSAGE\r\n{header}Content-Type: text/plain\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ))
    }

    #[test]
    fn every_field_that_could_name_the_inside_is_looked_at() {
        for (header, field) in [
            ("Via: SIP/2.0/TCP IMP-1.corp.internal;branch=z9hG4bKx\r\n", "Via"),
            ("Via: SIP/2.0/TCP [fd00::7]:5060;branch=z9hG4bKx\r\n", "Via"),
            ("Contact: <sip:juliet@10.1.2.3:5060>\r\n", "Contact"),
            ("Route: <sip:imp-1.corp.internal.;lr>\r\n", "Route"),
            ("Record-Route: <sip:a.example;lr>, <sip:10.1.2.3;lr>\r\n", "Record-Route"),
            ("P-Asserted-Identity: <sip:x@imp-1.corp.internal>\r\n", "P-Asserted-Identity"),
            ("Warning: 399 imp-1.corp.internal \"no\"\r\n", "Warning"),
            ("Server: prosody on 10.1.2.3\r\n", "Server"),
            ("User-Agent: x (imp-1.corp.internal)\r\n", "User-Agent"),
        ] {
            assert_eq!(inside().named_in(&message(header, "hello")).as_deref(), Some(field), "{header}");
        }
        let call_id = String::from_utf8(message("", "").to_vec()).unwrap().replace("a1", "77@10.1.2.3");
        assert_eq!(inside().named_in(&Bytes::from(call_id)).as_deref(), Some("Call-ID"));
    }

    #[test]
    fn the_users_words_are_never_touched() {
        assert_eq!(
            inside().named_in(&message("Subject: imp-1.corp.internal\r\n", "see imp-1.corp.internal, 10.1.2.3")),
            None
        );
    }

    #[test]
    fn what_cannot_be_read_back_does_not_leave() {
        assert!(inside().named_in(&Bytes::from_static(b"not a message")).is_some());
    }
}
