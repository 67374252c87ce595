//! The last step before a message leaves: nothing inside is named outside. Works on parsed values, never on the user's text, and fails closed.
//!
//! Every value is first searched for words that could name the inside ([`Inside::mentions`], cheap); only where one is found is the
//! value parsed, to see whether it is a host there or a user's word.

use super::media;
use crate::gate::settings::Settings;
use crate::wire::sip::header::{Name, list};
use crate::wire::sip::{Host, Message, NameAddr, Start, Uri};
use bytes::Bytes;
use ipnet::IpNet;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Names and addresses of the inside that must not be seen outside.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inside {
    /// Lower case, without trailing dot.
    names: BTreeSet<String>,
    /// Dots in the name that has fewest: a word with fewer is none of them.
    dots: usize,
    /// Of nodes, and ours that face them.
    addresses: BTreeSet<IpAddr>,
    /// Where nodes listen: on loopback, the address alone says nothing.
    endpoints: BTreeSet<(IpAddr, u16)>,
    /// Ours that nodes send to: names, lower case.
    facing_names: BTreeSet<(String, u16)>,
    /// And addresses.
    facing_addresses: BTreeSet<(IpAddr, u16)>,
    /// Where nodes connect from, and `[inside] networks`.
    networks: Vec<IpNet>,
}

impl Inside {
    /// From the settings: hosts, addresses, sources and TLS names of nodes, our own addresses that they see, `[inside] networks`; without names that
    /// are public too.
    pub fn of(settings: &Settings) -> Self {
        let mut inside = Self { networks: settings.inside_networks.clone(), ..Self::default() };
        for node in &settings.nodes {
            let facing = node.facing.as_ref().map(|facing| &facing.at);
            let hosts = [Some(&node.address.host), node.tls_name.as_ref(), facing.map(|at| &at.host)];
            for host in hosts.into_iter().flatten() {
                match host.parse::<IpAddr>() {
                    Ok(address) => {
                        inside.addresses.insert(address.to_canonical());
                    }
                    Err(_) => {
                        inside.names.insert(host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase());
                    }
                }
            }
            if let Ok(address) = node.address.host.parse::<IpAddr>() {
                inside.endpoints.insert((address.to_canonical(), node.address.port));
            }
            if let Some(at) = facing {
                match at.host.parse::<IpAddr>() {
                    Ok(address) => drop(inside.facing_addresses.insert((address, at.port))),
                    Err(_) => drop(inside.facing_names.insert((at.host.to_ascii_lowercase(), at.port))),
                }
            }
            inside.networks.extend(&node.sources);
        }
        for identity in &settings.identities {
            inside.names.remove(&identity.hostname.to_ascii_lowercase());
            for domain in &identity.domains {
                inside.names.remove(domain.as_str());
            }
        }
        inside.names.remove("");
        // "From anywhere" names nothing.
        inside.networks.retain(|network| network.prefix_len() > 0);
        inside.dots = inside.names.iter().map(|name| name.matches('.').count()).min().unwrap_or(usize::MAX);
        inside
    }

    /// What of the inside a SIP message names, and in which field; `None` = nothing.
    pub fn named_in(&self, bytes: &Bytes) -> Option<String> {
        let Ok(message) = Message::parse(bytes.clone()) else {
            return Some("a message that cannot be read back".to_owned());
        };
        match message.start() {
            Start::Request { uri, .. } if self.is_target_named(uri) => return Some("the Request-URI".to_owned()),
            Start::Response { reason, .. } if self.mentions(reason) => return Some("the reason phrase".to_owned()),
            _ => {}
        }
        for (index, name) in message.row_names() {
            if message.row_text(index).is_none_or(|text| self.is_in_row(name, text)) {
                return Some(match name {
                    Name::Other => message.row_name(index).unwrap_or_default().to_owned(),
                    known => known.as_str().to_owned(),
                });
            }
        }
        let kind = message.header(Name::ContentType).unwrap_or_default();
        media::names_inside(self, kind, message.body()).then(|| "the body".to_owned())
    }

    /// Whether a Request-URI leads to a node. What the partner told us comes home here, so only nodes themselves count.
    pub fn is_target_named(&self, uri: &str) -> bool {
        self.mentions(uri) && Uri::parse(uri).map_or(true, |uri| self.is_node(uri.host, uri.port))
    }

    /// Whether a row's value names the inside.
    pub fn is_in_row(&self, name: Name, text: &str) -> bool {
        if cannot_name(name) || !self.mentions(text) {
            return false;
        }
        match name {
            // The user's words.
            Name::Subject => false,
            Name::Route => list(text)
                .any(|value| NameAddr::parse(value).map_or(true, |value| self.is_node(value.uri.host, value.uri.port))),
            // Comes home too.
            Name::CallId => any_word(text, |word| match word {
                Word::Address(address) => !address.is_loopback() && self.addresses.contains(&address),
                Word::Text(word, _) => self.is_name_in(word),
            }),
            Name::From
            | Name::To
            | Name::Contact
            | Name::RecordRoute
            | Name::PAssertedIdentity
            | Name::PPreferredIdentity
            | Name::ReferTo
            | Name::ReferredBy
            | Name::ReplyTo => list(text).any(|value| match NameAddr::parse(value) {
                Ok(value) => self.is_in_address(&value),
                Err(_) => self.mentions(value),
            }),
            _ => true,
        }
    }

    /// Whether an address names the inside anywhere but in its display name and user.
    pub fn is_in_address(&self, address: &NameAddr<'_>) -> bool {
        let uri = &address.uri;
        self.is_in_uri(uri) || self.mentions(address.params)
    }

    /// Whether a URI names the inside anywhere but in its user.
    pub fn is_in_uri(&self, uri: &Uri<'_>) -> bool {
        match uri.host {
            // Of a scheme we don't split.
            Host::Name("") => self.mentions(uri.text),
            host => self.is_named(host) || self.mentions(uri.params) || self.mentions(uri.headers),
        }
    }

    /// Whether this is an address of ours that nodes reach us at.
    pub fn faces(&self, host: Host<'_>, port: Option<u16>) -> bool {
        // RFC 3261 §19.1.2: without a port, the transport's own.
        let is_port = |at: u16| port.map_or(matches!(at, 5060 | 5061), |port| port == at);
        let is_address =
            |host: IpAddr| self.facing_addresses.iter().any(|(address, at)| *address == host && is_port(*at));
        match host {
            Host::Name(host) => {
                self.facing_names.iter().any(|(name, at)| name.eq_ignore_ascii_case(host) && is_port(*at))
            }
            Host::V4(address) => is_address(address.into()),
            Host::V6(address) => is_address(address.into()),
        }
    }

    /// Whether this is a node, or ours that faces nodes. A loopback address is, only at a node's own port.
    pub fn is_node(&self, host: Host<'_>, port: Option<u16>) -> bool {
        match host_address(host) {
            Some(address) if address.is_loopback() => {
                self.endpoints.contains(&(address, port.unwrap_or(5060))) || self.faces(host, port)
            }
            Some(address) => self.addresses.contains(&address),
            None => self.is_named(host),
        }
    }

    /// Whether an address is a node's, or of a network of the inside.
    pub fn holds(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.addresses.contains(&address) || self.networks.iter().any(|network| network.contains(&address))
    }

    fn is_named(&self, host: Host<'_>) -> bool {
        match (host_address(host), host) {
            (Some(address), _) => self.holds(address),
            (None, Host::Name(name)) => {
                let name = name.strip_suffix('.').unwrap_or(name);
                self.names.iter().any(|inside| inside.eq_ignore_ascii_case(name))
            }
            (None, _) => false,
        }
    }

    /// Whether any word of a text could be a name or address of the inside.
    pub fn mentions(&self, text: &str) -> bool {
        // Addresses have dots or colons, and so have all names there are, mostly.
        if self.dots > 0 && memchr::memchr2(b'.', b':', text.as_bytes()).is_none() {
            return false;
        }
        any_word(text, |word| match word {
            Word::Address(address) => self.holds(address),
            Word::Text(word, dots) => dots >= self.dots && self.is_name_in(word),
        })
    }

    /// Whether a word holds a name of the inside with nothing of a name around it.
    pub(super) fn is_name_in(&self, word: &str) -> bool {
        let word = word.as_bytes();
        self.names.iter().filter(|name| name.len() <= word.len()).any(|name| {
            let edge = |at: Option<&u8>| at.is_none_or(|byte| !byte.is_ascii_alphanumeric());
            word.windows(name.len()).enumerate().any(|(at, part)| {
                part.eq_ignore_ascii_case(name.as_bytes())
                    && edge(at.checked_sub(1).and_then(|at| word.get(at)))
                    && edge(word.get(at + name.len()))
            })
        })
    }
}

fn host_address(host: Host<'_>) -> Option<IpAddr> {
    match host {
        Host::Name(_) => None,
        Host::V4(address) => Some(IpAddr::V4(address)),
        Host::V6(address) => Some(IpAddr::V6(address).to_canonical()),
    }
}

/// Headers whose grammar has no place for a host.
fn cannot_name(name: Name) -> bool {
    matches!(
        name,
        Name::Accept
            | Name::Allow
            | Name::AllowEvents
            | Name::ContentEncoding
            | Name::ContentLanguage
            | Name::ContentLength
            | Name::CSeq
            | Name::Date
            | Name::Expires
            | Name::MaxForwards
            | Name::MinExpires
            | Name::ProxyRequire
            | Name::Require
            | Name::Supported
            | Name::Unsupported
    )
}

/// What a byte is in a word.
#[derive(Clone, Copy)]
enum Class {
    End,
    Word,
    Dot,
    Colon,
}

const CLASS: [Class; 256] = {
    let mut class = [Class::End; 256];
    let mut byte = 0;
    while byte < 128 {
        class[byte] = match byte as u8 {
            b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'-' | b'_' => Class::Word,
            b'.' => Class::Dot,
            b':' => Class::Colon,
            _ => Class::End,
        };
        byte += 1;
    }
    class
};

/// What may stand for a host in a text.
pub(super) enum Word<'a> {
    /// An IP address, however it is wrapped.
    Address(IpAddr),
    /// Letters, digits, dots, hyphens, underscores, colons; and how many dots.
    Text(&'a str, usize),
}

/// Whether any word of a text is what is looked for. An escape (`%40`) parts words: URI headers hold values escaped.
pub(super) fn any_word(text: &str, mut wanted: impl FnMut(Word<'_>) -> bool) -> bool {
    let bytes = text.as_bytes();
    let (mut start, mut dots, mut colons, mut at) = (0, 0, 0, 0);
    loop {
        let byte = bytes.get(at).copied().unwrap_or(b' ');
        match CLASS[usize::from(byte)] {
            Class::Word => {}
            Class::Dot => dots += 1,
            Class::Colon => colons += 1,
            Class::End => {
                let word = text.get(start..at).unwrap_or_default();
                if !word.is_empty()
                    && (wanted(Word::Text(word, dots))
                        || (dots >= 3 && any_v4(word, &mut wanted))
                        || (colons >= 2 && any_v6(word, &mut wanted)))
                {
                    return true;
                }
                if at >= bytes.len() {
                    return false;
                }
                if byte == b'%' && bytes.get(at + 1..at + 3).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit)) {
                    at += 2;
                }
                (start, dots, colons) = (at + 1, 0, 0);
            }
        }
        at += 1;
    }
}

fn any_v4(word: &str, wanted: &mut impl FnMut(Word<'_>) -> bool) -> bool {
    let runs = word.split(|c: char| !(c.is_ascii_digit() || c == '.')).map(|run| run.trim_matches('.'));
    runs.filter_map(|run| run.parse::<Ipv4Addr>().ok()).any(|address| wanted(Word::Address(address.into())))
}

/// Also `fd00::7` behind something with a colon of its own: `sip:fd00::7`.
fn any_v6(word: &str, wanted: &mut impl FnMut(Word<'_>) -> bool) -> bool {
    let runs = word.split(|c: char| !(c.is_ascii_hexdigit() || matches!(c, ':' | '.')));
    runs.filter(|run| run.matches(':').take(2).count() == 2).any(|run| {
        let alone = run.strip_prefix(':').filter(|rest| !rest.starts_with(':')).unwrap_or(run);
        let alone = alone.strip_suffix(':').filter(|rest| !rest.ends_with(':')).unwrap_or(alone);
        let address = alone.trim_end_matches('.').parse::<Ipv6Addr>();
        address.is_ok_and(|address| wanted(Word::Address(IpAddr::V6(address).to_canonical())))
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A node with a name, one with addresses of both kinds, one on loopback.
    pub(in crate::gate::border) fn inside() -> Inside {
        Inside {
            names: BTreeSet::from(["imp-1.corp.internal".to_owned()]),
            addresses: ["10.1.2.3", "fd00::7", "127.0.0.1"].map(|address| address.parse().unwrap()).into(),
            endpoints: BTreeSet::from([("127.0.0.1".parse().unwrap(), 5070)]),
            networks: vec!["192.168.7.0/24".parse().unwrap()],
            ..Inside::default()
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
            ("Refer-To: <sip:a@b.example?Replaces=1%4010.1.2.3>\r\n", "Refer-To"),
            ("b: <sip:a@192.168.7.9>\r\n", "Referred-By"),
            ("Reply-To: <sip:a@b.example;maddr=10.1.2.3>\r\n", "Reply-To"),
            ("P-Preferred-Identity: <sip:a@[FD00::7]>\r\n", "P-Preferred-Identity"),
            ("Call-Info: <http://imp-1.corp.internal/x>\r\n", "Call-Info"),
            ("X-Seen: call-imp-1.corp.internal-7\r\n", "X-Seen"),
            ("X-Seen: [::ffff:10.1.2.3]\r\n", "X-Seen"),
            ("Record-Route: <sip:a.example;lr>;from=fd00::7\r\n", "Record-Route"),
            ("Contact: <sip:juliet@127.0.0.1:9>\r\n", "Contact"),
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
    fn what_the_partner_told_us_comes_home() {
        let target = |uri: &str| inside().is_target_named(uri);
        assert!(target("sip:a@10.1.2.3") && target("sip:a@IMP-1.corp.internal.") && target("sip:a@127.0.0.1:5070"));
        // A partner's own loopback and private addresses are not ours.
        assert!(!target("sip:a@127.0.0.1:5061") && !target("sip:a@192.168.7.9") && !target("sip:10.1.2.3@b.example"));
        let route = message("Route: <sip:127.0.0.1:5061;lr>, <sip:192.168.7.9;lr>\r\n", "");
        assert_eq!(inside().named_in(&route), None);
        let call_id = String::from_utf8(message("", "").to_vec()).unwrap().replace("a1", "77@127.0.0.1");
        assert_eq!(inside().named_in(&Bytes::from(call_id)), None);
    }

    #[test]
    fn names_and_addresses_are_whole() {
        for no in
            ["ximp-1.corp.internal", "imp-1.corp.internals", "110.1.2.3", "10.1.2.34", "fd00::77", "10.1.2", "a:fd00:b"]
        {
            assert!(!inside().mentions(no), "{no}");
        }
        for yes in [
            "<sip:imp-1.CORP.internal:5070>",
            "10.1.2.3:5070",
            "a-10.1.2.3.",
            "sip:fd00::7",
            "[fd00:0::0:7]:50",
            "x%4010.1.2.3",
        ] {
            assert!(inside().mentions(yes), "{yes}");
        }
    }

    #[test]
    fn what_cannot_be_read_back_does_not_leave() {
        assert!(inside().named_in(&Bytes::from_static(b"not a message")).is_some());
    }
}
