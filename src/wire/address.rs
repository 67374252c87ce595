//! Who: a domain, a user at a domain, and the two ways in which the protocols spell them (RFC 7247 §6).

use std::fmt;
use std::sync::Arc;

/// A DNS domain name as policy compares it: lower-case A-labels, no trailing dot, at most 253 bytes.
///
/// IP literals are not domains: nobody federates as one.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Domain(Arc<str>);

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

impl Domain {
    /// Parses and normalises: U-labels become A-labels, upper case lower; one trailing dot is dropped.
    pub fn parse(text: &str) -> Result<Self, BadAddress> {
        todo!()
    }
    /// The A-label form, as in SIP and DNS.
    pub fn as_str(&self) -> &str {
        &self.0
    }
    /// The U-label form, as XMPP writes it (RFC 7622 §3.2).
    pub fn to_unicode(&self) -> String {
        todo!()
    }
    /// Whether this is a proper subdomain of `parent`, at any depth.
    pub fn is_under(&self, parent: &Domain) -> bool {
        todo!()
    }
    /// The domain without its left-most label; `None` for a single label.
    pub fn parent(&self) -> Option<Domain> {
        todo!()
    }
}

impl Address {
    /// From an unescaped local part.
    pub fn new(local: &str, domain: Domain) -> Result<Self, BadAddress> {
        todo!()
    }
    /// A domain alone.
    pub fn of_domain(domain: Domain) -> Self {
        Self { local: None, domain }
    }
    /// From the raw (still percent-encoded) user part and host of a SIP URI, already split at the raw `@` (RFC 7247 §6).
    pub fn from_sip(user: Option<&str>, host: &str) -> Result<Self, BadAddress> {
        todo!()
    }
    /// `user@host` for a SIP URI, percent-encoded as RFC 7247 §6.3 says, without scheme.
    pub fn to_sip(&self) -> String {
        todo!()
    }
    /// The bare JID, XEP-0106-escaped (the full set, not only RFC 7247's three characters).
    pub fn to_jid(&self) -> String {
        todo!()
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
        todo!()
    }
    /// A bare JID.
    pub fn bare(address: Address) -> Self {
        Self { bare: address, resource: None }
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
