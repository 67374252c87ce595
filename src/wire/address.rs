//! Who: a domain, a user at a domain, and the two ways in which the protocols spell them (RFC 7247 §6).

use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use std::borrow::{Borrow, Cow};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// A part of a JID, in bytes (RFC 7622 §3.3, §3.4); the local part escaped as well as not.
const PART_BYTES: usize = 1023;
/// A domain in DNS form (RFC 1035 §2.3.4), in bytes.
const DOMAIN_BYTES: usize = 253;

/// What a SIP user part must escape: everything but RFC 3261 §25.1 `unreserved` and `user-unreserved`. `(` and `)` stay raw, which
/// COMPAT(aol) relies on: `user(gmail.com)@aol.com`.
const SIP_USER: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'!')
    .remove(b'~')
    .remove(b'*')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')')
    .remove(b'&')
    .remove(b'=')
    .remove(b'+')
    .remove(b'$')
    .remove(b',')
    .remove(b';')
    .remove(b'?')
    .remove(b'/');

/// XEP-0106 §4.2: the characters a local part can't hold, and their escapes; the backslash last.
const ESCAPES: [(char, &str); 10] = [
    (' ', "\\20"),
    ('"', "\\22"),
    ('&', "\\26"),
    ('\'', "\\27"),
    ('/', "\\2f"),
    (':', "\\3a"),
    ('<', "\\3c"),
    ('>', "\\3e"),
    ('@', "\\40"),
    ('\\', "\\5c"),
];

/// A DNS domain name as policy compares it: lower-case A-labels, no trailing dot, at most 253 bytes.
///
/// IP literals are not domains: nobody federates as one.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Domain(Arc<str>);

impl Borrow<str> for Domain {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// A user at a domain, or a domain alone, independent of protocol.
///
/// The local part is kept *unescaped* (neither `%40` nor `\40`) and case-folded by nodeprep, so that two spellings of one user
/// are equal. It may hold characters that either protocol must escape; the printers do.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    local: Option<Arc<str>>,
    domain: Domain,
}

/// An XMPP address: an [`Address`] and perhaps a resource (RFC 7622).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Jid {
    /// The bare address.
    pub bare: Address,
    /// The resource, after resourceprep; case matters.
    pub resource: Option<Arc<str>>,
}

/// Why a text is not an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadAddress {
    /// Not a DNS name.
    #[error("not a domain name")]
    Domain,
    /// A local part that is empty, too long, or holds what stringprep forbids.
    #[error("not a valid user part")]
    Local,
    /// A resource that is empty, too long, or holds what stringprep forbids.
    #[error("not a valid resource")]
    Resource,
    /// Broken percent- or UTF-8 encoding.
    #[error("broken escape")]
    Escape,
}

/// Lower-case letters, digits and inner hyphens in labels that are no A-labels and of which the last begins with a letter: UTS 46 maps such a name
/// to itself, and it is no address.
fn is_plain_domain(text: &str) -> bool {
    // Where the label begins that is being read.
    let mut label = 0;
    let bytes = text.as_bytes();
    let is_plain = |label: &[u8]| {
        (1..=63).contains(&label.len())
            && label.first() != Some(&b'-')
            && label.last() != Some(&b'-')
            && label.get(2..4) != Some(b"--")
    };
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'-' => {}
            b'.' if is_plain(bytes.get(label..at).unwrap_or_default()) => label = at + 1,
            _ => return false,
        }
    }
    let last = bytes.get(label..).unwrap_or_default();
    bytes.len() <= DOMAIN_BYTES && is_plain(last) && last.first().is_some_and(u8::is_ascii_lowercase)
}

impl Domain {
    /// Parses and normalises: U-labels become A-labels, upper case lower; one trailing dot is dropped.
    ///
    /// Each label is letters, digits and inner hyphens, at most 63 bytes; the last is not a number, so no spelling of an IPv4 address
    /// passes, and brackets and colons of IPv6 never do.
    pub fn parse(text: &str) -> Result<Self, BadAddress> {
        // No valid name is longer in UTF-8 than four bytes for each of its ASCII ones; the bound keeps hostile input cheap.
        if text.len() > 4 * DOMAIN_BYTES {
            return Err(BadAddress::Domain);
        }
        let text = text.strip_suffix('.').unwrap_or(text);
        // What is in this form already, as nearly all are, needs no mapping.
        if is_plain_domain(text) {
            return Ok(Self(Arc::from(text)));
        }
        let ascii = Uts46::new()
            .to_ascii(text.as_bytes(), AsciiDenyList::STD3, Hyphens::CheckFirstLast, DnsLength::Verify)
            .map_err(|_| BadAddress::Domain)?;
        let last = ascii.rsplit('.').next().unwrap_or_default();
        let hex = last.strip_prefix("0x").is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
        if hex || last.bytes().all(|b| b.is_ascii_digit()) {
            return Err(BadAddress::Domain);
        }
        Ok(Self(Arc::from(ascii.as_ref())))
    }
    /// The A-label form, as in SIP and DNS.
    pub fn as_str(&self) -> &str {
        &self.0
    }
    /// The U-label form, as XMPP writes it (RFC 7622 §3.2).
    pub fn to_unicode(&self) -> String {
        // Without an A-label it is both.
        if !self.0.contains("xn--") {
            return self.0.as_ref().to_owned();
        }
        let (unicode, valid) = Uts46::new().to_unicode(self.0.as_bytes(), AsciiDenyList::STD3, Hyphens::CheckFirstLast);
        if valid.is_ok() { unicode.into_owned() } else { self.0.as_ref().to_owned() }
    }
    /// Whether this is a proper subdomain of `parent`, at any depth.
    pub fn is_under(&self, parent: &Domain) -> bool {
        self.0.strip_suffix(&*parent.0).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
    }
    /// The domain without its left-most label; `None` for a single label.
    pub fn parent(&self) -> Option<Domain> {
        self.0.split_once('.').map(|(_, parent)| Self(Arc::from(parent)))
    }
}

impl Address {
    /// From an unescaped local part.
    pub fn new(local: &str, domain: Domain) -> Result<Self, BadAddress> {
        let local = canonical_local(local)?;
        Ok(Self { local: Some(Arc::from(local.as_ref())), domain })
    }
    /// A domain alone.
    pub fn of_domain(domain: Domain) -> Self {
        Self { local: None, domain }
    }
    /// From the raw (still percent-encoded) user part and host of a SIP URI, already split at the raw `@` (RFC 7247 §6).
    ///
    /// Decoding comes after splitting: `%40` is a character of the user's name and never makes another host. A password
    /// (RFC 3261 §19.1.1) names nobody and is dropped.
    pub fn from_sip(user: Option<&str>, host: &str) -> Result<Self, BadAddress> {
        // RFC 3261 §25.1: a hostname is ASCII; the mapping of Unicode full stops and letters is for JIDs.
        if !host.is_ascii() {
            return Err(BadAddress::Domain);
        }
        Self::from_sip_user(user, Domain::parse(host)?)
    }
    /// As [`from_sip`](Self::from_sip); a host that is `known` needs no reading.
    pub fn from_sip_beside(user: Option<&str>, host: &str, known: &Domain) -> Result<Self, BadAddress> {
        match host.eq_ignore_ascii_case(known.as_str()) {
            true => Self::from_sip_user(user, known.clone()),
            false => Self::from_sip(user, host),
        }
    }
    fn from_sip_user(user: Option<&str>, domain: Domain) -> Result<Self, BadAddress> {
        let Some(user) = user else { return Ok(Self::of_domain(domain)) };
        if is_plain_local(user) {
            return Ok(Self { local: Some(Arc::from(user)), domain });
        }
        let name = user.split_once(':').map_or(user, |(name, _password)| name);
        // These end or split a URI wherever it stands in a message: raw, they are a splitter's mistake.
        if name.contains(['@', '<', '>', '"', '\\', ' ']) {
            return Err(BadAddress::Local);
        }
        Self::new(&percent_decode(name)?, domain)
    }
    /// `user@host` for a SIP URI, percent-encoded as RFC 7247 §6.3 says, without scheme.
    pub fn to_sip(&self) -> String {
        match &self.local {
            Some(local) => format!("{}@{}", utf8_percent_encode(local, SIP_USER), self.domain),
            None => self.domain.to_string(),
        }
    }
    /// The bare JID, XEP-0106-escaped (the full set, not only RFC 7247's three characters).
    pub fn to_jid(&self) -> String {
        let domain = self.domain.to_unicode();
        match &self.local {
            Some(local) => format!("{}@{domain}", escape(local)),
            None => domain,
        }
    }
    /// What an operator types: `user@domain` (JID form), `sip:user@domain`, `xmpp:user@domain/resource`.
    ///
    /// Scheme decides the escapes: XEP-0106 in a bare one, percent in `sip:`, both in `xmpp:` (RFC 5122 §2.2). Parameters, headers,
    /// port and resource name no one and are dropped.
    pub fn parse_user(text: &str) -> Result<Self, BadAddress> {
        let text = text.trim();
        match text.split_once(':') {
            Some((scheme, rest)) if ["sip", "sips", "im", "pres"].iter().any(|s| scheme.eq_ignore_ascii_case(s)) => {
                let (user, rest) = match rest.split_once('@') {
                    Some((user, rest)) => (Some(user), rest),
                    None => (None, rest),
                };
                Self::from_sip(user, rest.split([':', ';', '?']).next().unwrap_or_default())
            }
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("xmpp") => {
                let rest = rest.split(['?', '#', '/']).next().unwrap_or_default();
                match rest.split_once('@') {
                    Some((local, domain)) => Ok(Self {
                        local: Some(jid_local(&percent_decode(local)?)?),
                        domain: Domain::parse(&percent_decode(domain)?)?,
                    }),
                    None => Ok(Self::of_domain(Domain::parse(&percent_decode(rest)?)?)),
                }
            }
            _ => Jid::parse(text).map(|jid| jid.bare),
        }
    }
    /// The unescaped local part.
    pub fn local(&self) -> Option<&str> {
        self.local.as_deref()
    }
    /// The domain.
    pub fn domain(&self) -> &Domain {
        &self.domain
    }
}

impl Jid {
    /// Parses an XMPP address; the local part is XEP-0106-unescaped.
    pub fn parse(text: &str) -> Result<Self, BadAddress> {
        // RFC 7622 §3.2: the first `/` begins the resource, then the first `@` ends the local part.
        let (bare, resource) = match text.split_once('/') {
            Some((bare, resource)) => (bare, Some(resource)),
            None => (text, None),
        };
        let (local, domain) = match bare.split_once('@') {
            Some((local, domain)) => (Some(local), domain),
            None => (None, bare),
        };
        let domain = Domain::parse(domain)?;
        let local = local.map(jid_local).transpose()?;
        let resource = resource.map(prepare_resource).transpose()?;
        Ok(Self { bare: Address { local, domain }, resource })
    }
    /// A bare JID.
    pub fn bare(address: Address) -> Self {
        Self { bare: address, resource: None }
    }
    /// With a resource.
    pub fn with_resource(address: Address, resource: &str) -> Result<Self, BadAddress> {
        Ok(Self { bare: address, resource: Some(prepare_resource(resource)?) })
    }
}

/// resourceprep (RFC 6122 Appendix B).
fn prepare_resource(resource: &str) -> Result<Arc<str>, BadAddress> {
    // Stringprep can shorten; the bound before it only keeps hostile input cheap.
    if resource.len() > 4 * PART_BYTES {
        return Err(BadAddress::Resource);
    }
    // resourceprep leaves printable ASCII as it is.
    if (1..=PART_BYTES).contains(&resource.len()) && resource.bytes().all(|b| matches!(b, b' '..=b'~')) {
        return Ok(Arc::from(resource));
    }
    let resource = jid::ResourcePart::new(resource).map_err(|_| BadAddress::Resource)?;
    Ok(Arc::from(resource.as_str()))
}

/// The canonical local part of a JID's node as written. nodeprep comes first, as every XMPP server does it, so `\2F` is `\2f`.
fn jid_local(node: &str) -> Result<Arc<str>, BadAddress> {
    if node.len() > 4 * PART_BYTES {
        return Err(BadAddress::Local);
    }
    if is_plain_local(node) {
        return Ok(Arc::from(node));
    }
    let node = jid::NodePart::new(node).map_err(|_| BadAddress::Local)?;
    let local = unescape(node.as_str());
    Ok(Arc::from(canonical_local(&local)?.as_ref()))
}

/// Percent-decodes a part that is already split off; every `%` must be an escape (RFC 3986 §2.1) and the outcome UTF-8.
fn percent_decode(text: &str) -> Result<Cow<'_, str>, BadAddress> {
    if !text.bytes().any(|byte| byte == b'%') {
        return Ok(Cow::Borrowed(text));
    }
    let mut pieces = text.split('%');
    pieces.next();
    let whole = |piece: &str| piece.bytes().take(2).filter(u8::is_ascii_hexdigit).count() == 2;
    if !pieces.all(whole) {
        return Err(BadAddress::Escape);
    }
    percent_decode_str(text).decode_utf8().map_err(|_| BadAddress::Escape)
}

/// A local part of which all spellings are alike, and canonical, as nearly all are.
fn is_plain_local(local: &str) -> bool {
    let is_plain = |byte: &u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.');
    (1..=PART_BYTES).contains(&local.len()) && local.as_bytes().iter().all(is_plain)
}

/// Folds an unescaped local part by nodeprep, seeing through the characters that only its escaped form may hold.
fn canonical_local(local: &str) -> Result<Cow<'_, str>, BadAddress> {
    if is_plain_local(local) {
        return Ok(Cow::Borrowed(local));
    }
    // XEP-0106 §4.2: an escaped space is neither first nor last.
    if local.is_empty() || local.len() > 4 * PART_BYTES || local.starts_with(' ') || local.ends_with(' ') {
        return Err(BadAddress::Local);
    }
    let folded = if local.is_ascii() {
        // What nodeprep does to ASCII: tables B.2 and C.2.1.
        if local.bytes().any(|b| b.is_ascii_control()) {
            return Err(BadAddress::Local);
        }
        if local.bytes().any(|b| b.is_ascii_uppercase()) {
            Cow::Owned(local.to_ascii_lowercase())
        } else {
            Cow::Borrowed(local)
        }
    } else {
        Cow::Owned(fold_unicode(local)?)
    };
    // Both spellings must be a JID's local part (RFC 7622 §3.3).
    if folded.is_empty() || escape(&folded).len() > PART_BYTES {
        return Err(BadAddress::Local);
    }
    Ok(folded)
}

/// nodeprep over a local part with characters beyond ASCII.
fn fold_unicode(local: &str) -> Result<String, BadAddress> {
    let fold = |text: &str| -> Result<String, BadAddress> {
        let escaped = escape_all(text);
        let node = jid::NodePart::new(&escaped).map_err(|_| BadAddress::Local)?;
        let folded = unescape(node.as_str()).into_owned();
        // NFKC may compose a mark with an escape's last digit, or make a backslash of a wide one: then two names would look like
        // one another's escape. Nobody is called so.
        if marks(&folded) == marks(text) { Ok(folded) } else { Err(BadAddress::Local) }
    };
    let folded = fold(local)?;
    // Stringprep of one text may change again when done twice; only a fixed point can be compared.
    if folded.starts_with(' ') || folded.ends_with(' ') || fold(&folded)? != folded {
        return Err(BadAddress::Local);
    }
    Ok(folded)
}

/// The characters of a text that have an escape, in order.
fn marks(text: &str) -> Vec<char> {
    text.chars().filter(|c| escape_of(*c).is_some()).collect()
}

fn escape_of(c: char) -> Option<&'static str> {
    ESCAPES.iter().find(|(raw, _)| *raw == c).map(|(_, escape)| *escape)
}

/// The character whose escape `text` begins with.
fn escaped_char(text: &str) -> Option<char> {
    ESCAPES.iter().find(|(_, escape)| text.starts_with(escape)).map(|(raw, _)| *raw)
}

/// XEP-0106 §4.2, with every backslash escaped.
fn escape_all(local: &str) -> String {
    let mut out = String::with_capacity(local.len() + 8);
    for c in local.chars() {
        match escape_of(c) {
            Some(escape) => out.push_str(escape),
            None => out.push(c),
        }
    }
    out
}

/// XEP-0106 §4.2: a backslash is escaped only where it would look like the beginning of an escape.
fn escape(local: &str) -> Cow<'_, str> {
    if !local.chars().any(|c| escape_of(c).is_some()) {
        return Cow::Borrowed(local);
    }
    let mut out = String::with_capacity(local.len() + 8);
    for (at, c) in local.char_indices() {
        match escape_of(c) {
            Some(_) if c == '\\' && local.get(at..).and_then(escaped_char).is_none() => out.push(c),
            Some(escape) => out.push_str(escape),
            None => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// XEP-0106 §4.3: once, left to right, the ten escapes and nothing else.
fn unescape(node: &str) -> Cow<'_, str> {
    if !node.contains('\\') {
        return Cow::Borrowed(node);
    }
    let mut out = String::with_capacity(node.len());
    let mut rest = node;
    while let Some(at) = rest.find('\\') {
        let (plain, tail) = rest.split_at(at);
        out.push_str(plain);
        // Every escape is three ASCII characters, a lone backslash one.
        let (c, length) = escaped_char(tail).map_or(('\\', 1), |c| (c, 3));
        out.push(c);
        rest = tail.get(length..).unwrap_or_default();
    }
    out.push_str(rest);
    Cow::Owned(out)
}

impl FromStr for Domain {
    type Err = BadAddress;
    fn from_str(text: &str) -> Result<Self, BadAddress> {
        Self::parse(text)
    }
}
impl FromStr for Address {
    type Err = BadAddress;
    /// As [`Address::parse_user`].
    fn from_str(text: &str) -> Result<Self, BadAddress> {
        Self::parse_user(text)
    }
}
impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl fmt::Debug for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl fmt::Display for Address {
    /// JID form: what operators type and logs show.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_jid())
    }
}
impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
impl fmt::Display for Jid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.resource {
            Some(resource) => write!(f, "{}/{resource}", self.bare),
            None => fmt::Display::fmt(&self.bare, f),
        }
    }
}
impl fmt::Debug for Jid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sip(user: &str, host: &str) -> Address {
        Address::from_sip(Some(user), host).unwrap()
    }
    fn jid(text: &str) -> Jid {
        Jid::parse(text).unwrap()
    }

    #[test]
    fn domains_are_folded_to_a_labels() {
        for (given, ascii, unicode) in [
            ("Example.COM", "example.com", "example.com"),
            ("example.com.", "example.com", "example.com"),
            ("bücher.example", "xn--bcher-kva.example", "bücher.example"),
            ("XN--BCHER-KVA.example", "xn--bcher-kva.example", "bücher.example"),
            ("localhost", "localhost", "localhost"),
        ] {
            let domain = Domain::parse(given).unwrap();
            assert_eq!(domain.as_str(), ascii);
            assert_eq!(domain.to_unicode(), unicode);
            assert_eq!(Domain::parse(unicode).unwrap(), domain);
        }
    }

    #[test]
    fn what_is_no_domain_is_refused() {
        let long_label = format!("{}.example", "a".repeat(64));
        let long_name = format!("{}example", "abcdefg.".repeat(32));
        for bad in [
            "",
            ".",
            "..",
            "a..b",
            ".a",
            "example.com..",
            "-a.example",
            "a-.example",
            "a b.example",
            "a_b.example",
            "a@b",
            "a/b",
            "a%2eb",
            "192.0.2.1",
            "0x7f.1",
            "127.0x1",
            "1",
            "2001:db8::1",
            "[2001:db8::1]",
            "xn--.example",
            "xn--a.example",
            "a\0b.example",
            &long_label,
            &long_name,
        ] {
            assert_eq!(Domain::parse(bad), Err(BadAddress::Domain), "{bad:?}");
        }
    }

    #[test]
    fn subdomains_are_judged_by_label() {
        let parent = Domain::parse("lync.example").unwrap();
        assert!(Domain::parse("a.b.lync.example").unwrap().is_under(&parent));
        assert!(!Domain::parse("evillync.example").unwrap().is_under(&parent));
        assert!(!parent.is_under(&parent));
        assert_eq!(Domain::parse("a.lync.example").unwrap().parent(), Some(parent));
        assert_eq!(Domain::parse("example").unwrap().parent(), None);
    }

    #[test]
    fn rfc_7247_examples_go_both_ways() {
        for (user, node) in [
            ("f%C3%BC", "fü"),
            ("o'malley", "o\\27malley"),
            ("m&m", "m\\26m"),
            ("o'malley&co/x", "o\\27malley\\26co\\2fx"),
            ("juliet%40gmail.com", "juliet\\40gmail.com"),
            ("juliet(gmail.com)", "juliet(gmail.com)"),
            ("space%20cadet", "space\\20cadet"),
            ("call%20me%20%22ishmael%22", "call\\20me\\20\\22ishmael\\22"),
            ("at%26t%20guy", "at\\26t\\20guy"),
            ("d'artagnan", "d\\27artagnan"),
            ("%2F.fanboy", "\\2f.fanboy"),
            ("%3A%3Afoo%3A%3A", "\\3a\\3afoo\\3a\\3a"),
            ("%3Cfoo%3E", "\\3cfoo\\3e"),
            ("c%3A%5C5commas", "c\\3a\\5c5commas"),
            ("c%3A%5Ccool%20stuff", "c\\3a\\cool\\20stuff"),
            ("%5C3and%202is%205", "\\5c3and\\202is\\205"),
            ("%5C26", "\\5c26"),
        ] {
            let address = sip(user, "h.example");
            assert_eq!(address.to_jid(), format!("{node}@h.example"), "{user}");
            assert_eq!(jid(&address.to_jid()).bare, address);
            let printed = address.to_sip();
            assert_eq!(sip(printed.rsplit_once('@').unwrap().0, "h.example"), address);
        }
        assert_eq!(jid("fü@h.example").bare.to_sip(), "f%C3%BC@h.example");
        assert_eq!(jid("m\\26m@h.example").bare.to_sip(), "m&m@h.example");
        assert_eq!(jid("o\\27malley@bücher.example").bare.to_sip(), "o'malley@xn--bcher-kva.example");
    }

    #[test]
    fn a_second_at_sign_stays_in_the_name() {
        let address = sip("a%40evil.example", "good.example");
        assert_eq!(address.domain().as_str(), "good.example");
        assert_eq!(address.local(), Some("a@evil.example"));
        assert_eq!(address.to_jid(), "a\\40evil.example@good.example");
        assert_eq!(address.to_sip(), "a%40evil.example@good.example");
        assert_eq!(Jid::parse("a@evil.example@good.example"), Err(BadAddress::Domain));
        assert_eq!(Address::from_sip(Some("a@evil.example"), "good.example"), Err(BadAddress::Local));
        // Wide forms that NFKC would turn into a separator are nobody's name.
        assert_eq!(Address::from_sip(Some("a%EF%BC%A0evil.example"), "good.example"), Err(BadAddress::Local));
    }

    #[test]
    fn spellings_of_one_user_are_equal() {
        let one = sip("Juliet", "Example.COM");
        for same in [
            "juliet@example.com",
            "JULIET@example.com",
            "sip:%6Auliet@example.com;transport=tls",
            "xmpp:juliet@example.com/x?message",
        ] {
            assert_eq!(Address::parse_user(same).unwrap(), one, "{same}");
        }
        assert_eq!(sip("x%5C26", "h.example"), jid("x\\5c26@h.example").bare);
        assert_eq!(jid("a\\2Fb@h.example"), jid("a\\2fb@h.example"));
        assert_eq!(sip("FU%C3%9C", "h.example").local(), Some("fuü"));
        assert_eq!(sip("alice:secret", "h.example").local(), Some("alice"));
    }

    #[test]
    fn what_operators_type_for_aol() {
        let parens = Address::parse_user("user(gmail.com)@aol.com").unwrap();
        assert_eq!(parens.local(), Some("user(gmail.com)"));
        let escaped = Address::parse_user("user\\40gmail.com@aol.com").unwrap();
        assert_eq!(escaped.local(), Some("user@gmail.com"));
        assert_eq!(Address::parse_user("sip:user%40gmail.com@aol.com").unwrap(), escaped);
        assert_eq!(Address::parse_user("xmpp:user%5C40gmail.com@aol.com").unwrap(), escaped);
        assert_eq!(
            Address::parse_user("SIP:aol.com:5061").unwrap(),
            Address::of_domain(Domain::parse("aol.com").unwrap())
        );
        assert_eq!("aol.com".parse::<Address>().unwrap().local(), None);
    }

    #[test]
    fn broken_addresses_are_refused() {
        for (user, why) in [
            ("", BadAddress::Local),
            (":secret", BadAddress::Local),
            ("null-%00-null", BadAddress::Local),
            ("a%0D%0Ab", BadAddress::Local),
            ("a%7F", BadAddress::Local),
            ("a%C2%85", BadAddress::Local),
            ("%20a", BadAddress::Local),
            ("a%20", BadAddress::Local),
            ("a b", BadAddress::Local),
            ("a%4", BadAddress::Escape),
            ("a%", BadAddress::Escape),
            ("a%zz", BadAddress::Escape),
            ("a%+1", BadAddress::Escape),
            ("a%FF", BadAddress::Escape),
        ] {
            assert_eq!(Address::from_sip(Some(user), "h.example"), Err(why), "{user:?}");
        }
        assert_eq!(Address::from_sip(Some("a"), "192.0.2.1"), Err(BadAddress::Domain));
        assert_eq!(Address::from_sip(Some("a"), "good。example"), Err(BadAddress::Domain));
        for (text, why) in [
            ("", BadAddress::Domain),
            ("@h.example", BadAddress::Local),
            ("h.example/", BadAddress::Resource),
            ("a b@h.example", BadAddress::Local),
            ("a'b@h.example", BadAddress::Local),
            ("\\20a@h.example", BadAddress::Local),
            ("a\\20@h.example", BadAddress::Local),
            ("a@[::1]", BadAddress::Domain),
            ("a@h.example/\u{1}", BadAddress::Resource),
        ] {
            assert_eq!(Jid::parse(text), Err(why), "{text:?}");
        }
    }

    #[test]
    fn folding_makes_no_separator_and_breaks_no_escape() {
        let domain = Domain::parse("h.example").unwrap();
        for local in [
            "a＼26b",
            "a＠b",
            "a／b",
            "a\u{ff1c}b",
            "x<\u{327}y",
            "x&é\u{a0}",
            "\u{ad}",
            "é\u{3000}",
            "a\u{2028}b",
            "é\u{d}",
        ] {
            assert_eq!(Address::new(local, domain.clone()), Err(BadAddress::Local), "{local:?}");
        }
        // nodeprep of `ᴬ` is `A`, whose nodeprep is `a`.
        assert_eq!(Address::new("ᴬ", domain.clone()), Err(BadAddress::Local));
        assert_eq!(Address::new("É\\26 Ü", domain).unwrap().to_jid(), "é\\5c26\\20ü@h.example");
    }

    #[test]
    fn lengths_are_bounded_in_both_spellings() {
        let domain = Domain::parse("h.example").unwrap();
        assert!(Address::new(&"a".repeat(1023), domain.clone()).is_ok());
        assert!(Address::new(&"a".repeat(1024), domain.clone()).is_err());
        assert!(Address::new(&"&".repeat(341), domain.clone()).is_ok());
        assert!(Address::new(&"&".repeat(342), domain.clone()).is_err());
        assert!(Jid::with_resource(Address::of_domain(domain), &"r".repeat(1024)).is_err());
    }

    #[test]
    fn a_resource_keeps_its_case_and_separators() {
        let full = jid("a@h.example/Some@Where/Else");
        assert_eq!(full.resource.as_deref(), Some("Some@Where/Else"));
        assert_eq!(full.to_string(), "a@h.example/Some@Where/Else");
        assert_eq!(jid("h.example/a@b").bare.to_jid(), "h.example");
    }

    fn local_parts() -> impl Strategy<Value = String> {
        prop_oneof![
            r#"[ -~]{1,24}"#,
            r#"[a-c\\2567cfe40 &@/'":<>]{1,16}"#,
            r"\PC{1,12}",
            any::<String>(),
            r"[\\＼＠25ce\x{327}\x{338}\x{ad}A]{1,8}",
        ]
    }

    proptest! {
        #[test]
        fn every_address_survives_both_protocols(local in local_parts(), idn in any::<bool>()) {
            let domain = Domain::parse(if idn { "bücher.example" } else { "h.example" }).unwrap();
            if let Ok(address) = Address::new(&local, domain.clone()) {
                let printed = address.to_sip();
                let (user, host) = printed.split_once('@').unwrap();
                prop_assert_eq!(&Address::from_sip(Some(user), host).unwrap(), &address);
                prop_assert_eq!(&Jid::parse(&address.to_jid()).unwrap().bare, &address);
                prop_assert_eq!(&Address::new(address.local().unwrap(), domain).unwrap(), &address);
                prop_assert_eq!(Address::parse_user(&format!("sip:{printed}")).unwrap(), address);
            }
        }

        /// What needs no stringprep is told from what does.
        #[test]
        fn the_short_way_says_what_stringprep_says(node in "[a-z0-9._-]{1,1024}", resource in "[ -~]{1,1024}") {
            let node_of = |text: &str| jid::NodePart::new(text).ok().map(|part| part.as_str().to_owned());
            let resource_of = |text: &str| jid::ResourcePart::new(text).ok().map(|part| part.as_str().to_owned());
            prop_assert_eq!(jid_local(&node).ok().map(|local| local.to_string()), node_of(&node));
            prop_assert_eq!(prepare_resource(&resource).ok().map(|made| made.to_string()), resource_of(&resource));
        }

        #[test]
        fn no_user_part_makes_another_domain(user in any::<String>()) {
            if let Ok(address) = Address::from_sip(Some(&user), "good.example") {
                prop_assert_eq!(address.domain().as_str(), "good.example");
                let jid = address.to_jid();
                prop_assert_eq!(jid.matches('@').count(), 1);
                prop_assert!(jid.ends_with("@good.example"));
                prop_assert_eq!(address.to_sip().matches('@').count(), 1);
            }
        }

        #[test]
        fn every_jid_prints_as_itself(text in r#"[a-z\\25c40]{1,8}@[a-zü.]{1,10}(/[ -~]{1,8})?"#) {
            if let Ok(jid) = Jid::parse(&text) {
                prop_assert_eq!(Jid::parse(&jid.to_string()).unwrap(), jid);
            }
        }

        #[test]
        fn hostile_text_never_panics(text in any::<String>()) {
            let _ = Jid::parse(&text);
            let _ = Address::parse_user(&text);
            let _ = Domain::parse(&text);
        }
    }
}
