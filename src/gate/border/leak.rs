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
