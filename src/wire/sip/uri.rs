//! SIP URIs and name-addr values (RFC 3261 §19.1, §20.10, §25.1), borrowed from the message.

use super::message::Fault;
use std::net::{Ipv4Addr, Ipv6Addr};

/// A URI's scheme.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme<'a> {
    /// `sip:`
    Sip,
    /// `sips:`: never translated to another protocol (RFC 7247 §6).
    Sips,
    /// `im:`
    Im,
    /// `pres:`
    Pres,
    /// `tel:`
    Tel,
    /// Any other, as written.
    Other(&'a str),
}

/// A URI's host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Host<'a> {
    /// A DNS name as written.
    Name(&'a str),
    /// An IPv4 address.
    V4(Ipv4Addr),
    /// An IPv6 reference, without brackets.
    V6(Ipv6Addr),
}

/// A URI, split. `text` is the whole, byte for byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Uri<'a> {
    /// The whole URI as written.
    pub text: &'a str,
    /// Its scheme.
    pub scheme: Scheme<'a>,
    /// User part as written (still percent-encoded), without password.
    pub user: Option<&'a str>,
    /// Host; for `tel:` and unknown schemes `Name("")`.
    pub host: Host<'a>,
    /// Port.
    pub port: Option<u16>,
    /// URI parameters as written, without the leading `;`.
    pub params: &'a str,
    /// URI headers as written, without the `?`.
    pub headers: &'a str,
}

/// `"Display" <uri>;params` or `uri;params` (where `;` then starts header parameters).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NameAddr<'a> {
    /// The display name as written, quotes included; empty if none.
    pub display: &'a str,
    /// The URI.
    pub uri: Uri<'a>,
    /// Header parameters as written, without the leading `;`.
    pub params: &'a str,
}

impl<'a> Uri<'a> {
    /// Parses a whole URI.
    pub fn parse(text: &'a str) -> Result<Self, Fault> {
        todo!()
    }
    /// A URI parameter: `Some("")` for one without value. Names compare case-insensitively.
    pub fn param(&self, name: &str) -> Option<&'a str> {
        todo!()
    }
}

impl<'a> NameAddr<'a> {
    /// Parses one value of From, To, Contact, Route, Record-Route.
    pub fn parse(text: &'a str) -> Result<Self, Fault> {
        todo!()
    }
    /// A header parameter; quoted values come without their quotes' meaning resolved only if they hold no backslash.
    pub fn param(&self, name: &str) -> Option<&'a str> {
        todo!()
    }
    /// The `tag` parameter.
    pub fn tag(&self) -> Option<&'a str> {
        self.param("tag")
    }
}
