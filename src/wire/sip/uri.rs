//! SIP URIs and name-addr values (RFC 3261 §19.1, §20.10, §25.1), borrowed from the message.
//!
//! Policy reads user and host from here, so a text that two parsers could split in two ways is refused.

use super::message::Fault;
use super::params::{self, LWS};
use super::plain;
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

impl Host<'_> {
    /// Whether it is the host that a configuration names: a name in any case, or an address in any spelling.
    pub fn is(self, name: &str) -> bool {
        match self {
            Host::Name(host) => host.eq_ignore_ascii_case(name),
            Host::V4(address) => name.parse() == Ok(address),
            Host::V6(address) => name.parse() == Ok(address),
        }
    }
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

fn malformed<T>(what: &'static str) -> Result<T, Fault> {
    Err(Fault::Malformed(what))
}

const ODD_BYTE: Fault = Fault::Malformed("URI holds white space, a control character, or one that must be escaped");

impl<'a> Uri<'a> {
    /// Parses a whole URI.
    pub fn parse(text: &'a str) -> Result<Self, Fault> {
        match plain::uri(text, 0) {
            Some((uri, end)) if end == text.len() => Ok(uri.read(text)),
            _ => Self::parse_any(text),
        }
    }

    /// As [`parse`](Self::parse), in whatever way it is written.
    pub(super) fn parse_any(text: &'a str) -> Result<Self, Fault> {
        // What each part may hold excludes these, too; only then is it asked what is wrong with the whole.
        Self::read(text).map_err(|fault| match text.bytes().all(is_uri_byte) {
            true => fault,
            false => ODD_BYTE,
        })
    }

    fn read(text: &'a str) -> Result<Self, Fault> {
        let Some((scheme, rest)) = params::cut(text, b':') else {
            return malformed("URI has no scheme");
        };
        // RFC 3261 §19.1.4: the scheme compares case-insensitively.
        let is = |name: &str| scheme.eq_ignore_ascii_case(name);
        let scheme = match () {
            () if is("sip") => Scheme::Sip,
            () if is("sips") => Scheme::Sips,
            () if is("im") => Scheme::Im,
            () if is("pres") => Scheme::Pres,
            () if is("tel") => Scheme::Tel,
            () => Scheme::Other(scheme),
        };
        let opaque = Self { text, scheme, user: None, host: Host::Name(""), port: None, params: "", headers: "" };
        match scheme {
            Scheme::Sip | Scheme::Sips => opaque.split(rest),
            Scheme::Im | Scheme::Pres => match opaque.split(rest)? {
                // RFC 3859 §4, RFC 3860 §4: what follows is a mailbox.
                uri if uri.user.is_none() => malformed("im or pres URI has no user"),
                uri => Ok(uri),
            },
            Scheme::Tel => opaque.split_tel(rest),
            Scheme::Other(scheme) => {
                if !scheme.starts_with(|first: char| first.is_ascii_alphabetic())
                    || !scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
                {
                    return malformed("URI scheme is not a scheme");
                }
                match rest {
                    "" => malformed("URI is a scheme alone"),
                    _ if rest.bytes().all(is_uri_byte) => Ok(opaque),
                    _ => Err(ODD_BYTE),
                }
            }
        }
    }

    /// `[ userinfo ] hostport uri-parameters [ headers ]` (RFC 3261 §25.1).
    fn split(self, rest: &'a str) -> Result<Self, Fault> {
        // No part of a URI holds a raw `@`, so one is the end of the userinfo and two are a question with two answers. The user may
        // hold `;` and `?`: it has to be cut off before anything else is looked for.
        let (userinfo, rest) = match params::cut(rest, b'@') {
            Some((userinfo, rest)) => (Some(userinfo), rest),
            None => (None, rest),
        };
        self.split_behind(userinfo, rest).map_err(|fault| match userinfo {
            Some(_) if rest.contains('@') => Fault::Malformed("URI holds more than one @"),
            _ => fault,
        })
    }

    fn split_behind(self, userinfo: Option<&'a str>, rest: &'a str) -> Result<Self, Fault> {
        let user = match userinfo {
            Some(userinfo) => Some(user_of(userinfo)?),
            None => None,
        };
        let end = memchr::memchr2(b';', b'?', rest.as_bytes()).unwrap_or(rest.len());
        let (hostport, behind) = rest.split_at_checked(end).unwrap_or((rest, ""));
        let (params, headers) = match params::cut(behind, b'?') {
            Some((_, "")) => return malformed("URI ends in ?"),
            Some((_, headers)) if headers.contains(';') => return malformed("URI has parameters behind its headers"),
            Some((_, headers)) if !headers.bytes().all(|byte| is_uri_byte(byte) && byte != b'@') => {
                return Err(ODD_BYTE);
            }
            Some(parts) => parts,
            None => (behind, ""),
        };
        let params = match params.strip_prefix(';') {
            Some(params) if are_uri_parameters(params) => params,
            Some(_) => return malformed("URI parameters are not name or name=value"),
            None => "",
        };
        let (host, port) = parse_hostport(hostport)?;
        Ok(Self { user, host, port, params, headers, ..self })
    }

    /// RFC 3966 §3: a number and parameters.
    fn split_tel(self, rest: &'a str) -> Result<Self, Fault> {
        let (number, params) = rest.split_once(';').unwrap_or((rest, ""));
        let digits = number.strip_prefix('+').unwrap_or(number);
        if !digits.bytes().any(|byte| byte.is_ascii_hexdigit() || b"*#".contains(&byte))
            || !digits.bytes().all(|byte| byte.is_ascii_hexdigit() || b"*#-.()".contains(&byte))
        {
            return malformed("tel URI holds no number");
        }
        if rest.ends_with(';') || (!params.is_empty() && !are_uri_parameters(params)) {
            return malformed("URI parameters are not name or name=value");
        }
        Ok(Self { params, ..self })
    }

    /// A URI parameter: `Some("")` for one without value. Names compare case-insensitively and unescaped (RFC 3261 §19.1.4).
    pub fn param(&self, name: &str) -> Option<&'a str> {
        self.params.split(';').filter(|param| !param.is_empty()).find_map(|param| {
            let (found, value) = param.split_once('=').unwrap_or((param, ""));
            equals_unescaped(found, name).then_some(value)
        })
    }
}

/// A visible character but those that never stand in a URI unescaped.
fn is_uri_byte(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'<' | b'>' | b'"' | b'\\')
}

/// How many bytes at the beginning are of this class, or whole escapes (RFC 3261 §25.1).
fn escaped_run(bytes: &[u8], class: u16) -> usize {
    escaped_run_from(bytes, 0, class)
}

/// Where such a run that begins at `at` ends.
#[inline]
pub(super) fn escaped_run_from(bytes: &[u8], at: usize, class: u16) -> usize {
    let mut at = at;
    loop {
        at = params::run_from(bytes, at, class);
        match bytes.get(at) {
            Some(b'%') if is_escape(bytes.get(at + 1..)) => at += 3,
            _ => return at,
        }
    }
}

fn is_escape(behind: Option<&[u8]>) -> bool {
    matches!(behind, Some([high, low, ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit())
}

/// The user, without its password (RFC 3261 §25.1 userinfo).
fn user_of(userinfo: &str) -> Result<&str, Fault> {
    let (user, behind) =
        userinfo.split_at_checked(escaped_run(userinfo.as_bytes(), params::USER)).unwrap_or(("", userinfo));
    match behind.strip_prefix(':') {
        _ if user.is_empty() && matches!(behind.as_bytes().first(), None | Some(b':')) => {
            malformed("URI has an empty user before @")
        }
        None if behind.is_empty() => Ok(user),
        None => malformed("URI user holds a character that must be escaped"),
        Some(password) if escaped_run(password.as_bytes(), params::PASSWORD) == password.len() => Ok(user),
        Some(_) => malformed("URI password holds a character that must be escaped"),
    }
}

/// `pname [ "=" pvalue ]`, and `;` between them. COMPAT(lync): `=` in values (`ms-route-sig=aa==`).
fn are_uri_parameters(text: &str) -> bool {
    let mut rest = text.as_bytes();
    loop {
        let name = escaped_run(rest, params::PARAM);
        rest = rest.get(name..).unwrap_or_default();
        if let [b'=', value @ ..] = rest {
            rest = value.get(escaped_run(value, params::PARAM_VALUE)..).unwrap_or_default();
        }
        match rest {
            _ if name == 0 => return false,
            [] => return true,
            [b';', more @ ..] => rest = more,
            _ => return false,
        }
    }
}

fn equals_unescaped(escaped: &str, plain: &str) -> bool {
    if escaped.contains('%') {
        percent_encoding::percent_decode_str(escaped)
            .map(|byte| byte.to_ascii_lowercase())
            .eq(plain.bytes().map(|byte| byte.to_ascii_lowercase()))
    } else {
        escaped.eq_ignore_ascii_case(plain)
    }
}

/// `host [ ":" port ]`, without white space.
pub(super) fn parse_hostport(text: &str) -> Result<(Host<'_>, Option<u16>), Fault> {
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let Some((address, rest)) = rest.split_once(']') else {
            return malformed("IPv6 address has no closing bracket");
        };
        let Ok(address) = address.parse::<Ipv6Addr>() else {
            return malformed("host in brackets is not an IPv6 address");
        };
        match rest.strip_prefix(':') {
            Some(port) => (Host::V6(address), Some(port)),
            None if rest.is_empty() => (Host::V6(address), None),
            None => return malformed("something follows the IPv6 address that is not a port"),
        }
    } else {
        let (host, port) = match params::cut(text, b':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        };
        (parse_host_name(host)?, port)
    };
    let port = match port {
        None => None,
        Some(port) => match params::digits(port).and_then(|port| port.parse::<u16>().ok()) {
            None | Some(0) => return malformed("port is not a number from 1 to 65535"),
            port => port,
        },
    };
    Ok((host, port))
}

/// A DNS name or an IPv4 address. A name whose last label is a number is neither: some resolvers take `127.1` and `0x7f.1` for
/// addresses. COMPAT: `_` in labels, and a digit first in the last one (RFC 3261 §25.1 toplabel has a letter), as machine names have them.
pub(super) fn parse_host_name(text: &str) -> Result<Host<'_>, Fault> {
    if text.is_empty() {
        return malformed("host is empty");
    }
    if text.as_bytes().first().is_some_and(u8::is_ascii_digit)
        && let Ok(address) = text.parse::<Ipv4Addr>()
    {
        return Ok(Host::V4(address));
    }
    let name = text.strip_suffix('.').unwrap_or(text);
    // Where the label begins that is being read.
    let mut label = 0;
    let mut labels_ok = name.len() <= 253;
    for (at, byte) in name.bytes().enumerate() {
        if byte == b'.' {
            labels_ok &= (1..=63).contains(&(at - label));
            label = at + 1;
        } else {
            labels_ok &= params::is(byte, params::LABEL);
        }
    }
    labels_ok &= (1..=63).contains(&(name.len() - label));
    let top = name.get(label..).unwrap_or_default();
    let hex = top.strip_prefix("0x").or_else(|| top.strip_prefix("0X"));
    let number =
        params::digits(top).is_some() || hex.is_some_and(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit()));
    if !labels_ok || number {
        return malformed("host is neither a DNS name nor an IP address");
    }
    Ok(Host::Name(text))
}

impl<'a> NameAddr<'a> {
    /// Parses one value of From, To, Contact, Route, Record-Route.
    pub fn parse(text: &'a str) -> Result<Self, Fault> {
        match plain::address(text, 0) {
            Some(found) if found.end() == text.len() => Ok(found.read(text)),
            _ => Self::parse_any(text),
        }
    }

    /// As [`parse`](Self::parse), in whatever way it is written.
    pub(super) fn parse_any(text: &'a str) -> Result<Self, Fault> {
        let text = params::trim(text);
        let (display, rest) = if text.starts_with('<') { ("", text) } else { split_display(text)? };
        let bracketed = rest.strip_prefix('<');
        let (uri, rest) = match bracketed {
            Some(rest) => match memchr::memchr(b'>', rest.as_bytes()).and_then(|end| rest.split_at_checked(end)) {
                Some((uri, rest)) => (uri, rest.get(1..).unwrap_or_default()),
                None => return malformed("address has no closing angle bracket"),
            },
            None => {
                // RFC 3261 §20.10: without brackets, `;` starts header parameters, and a URI with `?` or a comma needs brackets.
                let end = memchr::memchr(b';', rest.as_bytes()).unwrap_or(rest.len());
                let (uri, params) = rest.split_at(end);
                if uri.contains(['?', ',']) {
                    return malformed("address whose URI holds ? or a comma has no angle brackets");
                }
                (uri.trim_end_matches(LWS), params)
            }
        };
        let rest = params::trim(rest);
        let params = match rest.strip_prefix(';') {
            Some("") => return malformed("address ends in ;"),
            Some(params) => params::trim(params),
            None if rest.is_empty() => "",
            None => return malformed("something follows the address that is not a parameter"),
        };
        if !params::are_well_formed(params, bracketed.is_some()) {
            return malformed("address parameters are not name or name=value");
        }
        Ok(Self { display, uri: Uri::parse(uri)?, params })
    }

    /// A header parameter; quoted values come without their quotes' meaning resolved only if they hold no backslash.
    pub fn param(&self, name: &str) -> Option<&'a str> {
        params::find(self.params, name)
    }

    /// The `tag` parameter.
    pub fn tag(&self) -> Option<&'a str> {
        self.param("tag")
    }
}

/// The display name, and what follows it, which starts at `<` if there is one.
fn split_display(text: &str) -> Result<(&str, &str), Fault> {
    if text.starts_with('"') {
        let Some(end) = params::quoted_end(text) else {
            return malformed("display name has no closing quote");
        };
        let (display, rest) = text.split_at(end);
        let rest = rest.trim_start_matches(LWS);
        return if rest.starts_with('<') {
            Ok((display, rest))
        } else {
            malformed("display name is not followed by <")
        };
    }
    // Behind a `;` or a quote, a `<` is in a parameter of an address without brackets: `sip:a@b;+sip.instance="<urn:…>"`.
    let end = match text.find(['<', ';', '"']) {
        Some(end) if text.as_bytes().get(end) == Some(&b'<') => end,
        _ => return Ok(("", text)),
    };
    let (display, rest) = text.split_at(end);
    let display = display.trim_end_matches(LWS);
    // RFC 3261 §25.1: tokens only; letters beyond ASCII can't be mistaken for anything else and are taken.
    if display.bytes().all(|byte| params::is_token_byte(byte) || byte == b' ' || byte == b'\t' || byte >= 0x80) {
        Ok((display, rest))
    } else {
        malformed("display name without quotes holds a character that needs them")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(text: &str) -> Uri<'_> {
        Uri::parse(text).unwrap_or_else(|fault| panic!("{text}: {fault}"))
    }

    /// Every text of this file must be one that `place` knows.
    fn assert_fault_names_place(bad: &str, outcome: Result<(), Fault>) {
        let fault = crate::wire::sip::place::at(crate::wire::sip::header::Name::From, outcome.expect_err(bad));
        assert!(fault.to_string().starts_with("From: "), "{bad}: {fault}");
    }

    #[test]
    fn user_and_host_of_forms_seen_on_the_wire() {
        for (text, user, host) in [
            ("sip:john.doe@example.com", Some("john.doe"), "example.com"),
            ("sip:user(gmail.com)@aol.com", Some("user(gmail.com)"), "aol.com"),
            ("sip:user%40gmail.com@msn.com", Some("user%40gmail.com"), "msn.com"),
            ("SIP:Alice@Example.COM", Some("Alice"), "Example.COM"),
            ("sips:a:secret@example.com:5061", Some("a"), "example.com"),
            ("sip:o'malley&co/x@foreign.example.net", Some("o'malley&co/x"), "foreign.example.net"),
            ("sip:user;par=u%40example.net@example.com", Some("user;par=u%40example.net"), "example.com"),
            ("sip:b@example.org?Subject=x", Some("b"), "example.org"),
            ("sip:a@3rd_floor.7desk", Some("a"), "3rd_floor.7desk"),
            ("sip:example.com;lr", None, "example.com"),
            ("im:romeo@example.com", Some("romeo"), "example.com"),
            ("pres:juliet@example.org", Some("juliet"), "example.org"),
            ("sip:a@xn--bcher-kva.example.", Some("a"), "xn--bcher-kva.example."),
        ] {
            let uri = uri(text);
            assert_eq!((uri.user, uri.host, uri.text), (user, Host::Name(host), text));
        }
    }

    #[test]
    fn hosts_that_are_addresses() {
        let v6 = uri("sip:a@[2001:db8::1]:5061;transport=tls");
        assert_eq!((v6.host, v6.port), (Host::V6("2001:db8::1".parse().unwrap()), Some(5061)));
        assert_eq!(uri("sip:192.0.2.10:5061").host, Host::V4(Ipv4Addr::new(192, 0, 2, 10)));
    }

    #[test]
    fn parameters_keep_their_bytes() {
        let uri = uri("sip:a@b;lr;ms-route-sig=fmAbc-_=~+/x==;opaque=user:epid:XYZ;gruu;%6Cx=1?a=b");
        assert_eq!(uri.param("LR"), Some(""));
        assert_eq!(uri.param("ms-route-sig"), Some("fmAbc-_=~+/x=="));
        assert_eq!(uri.param("opaque"), Some("user:epid:XYZ"));
        assert_eq!(uri.param("gruu"), Some(""));
        assert_eq!(uri.param("lx"), Some("1"));
        assert_eq!(uri.param("nothing"), None);
        assert_eq!(uri.headers, "a=b");
    }

    #[test]
    fn tel_and_unknown_schemes() {
        let tel = uri("tel:+1-201-555-0123;phone-context=x");
        assert_eq!(
            (tel.scheme, tel.user, tel.host, tel.params),
            (Scheme::Tel, None, Host::Name(""), "phone-context=x")
        );
        assert_eq!(uri("soap.beep://192.0.2.103:3002").scheme, Scheme::Other("soap.beep"));
    }

    #[test]
    fn what_two_parsers_could_read_in_two_ways_is_refused() {
        for bad in [
            "",
            "sip",
            ":a@b",
            "sip:",
            "sip:@b",
            "sip:a@",
            "sip:a@b@c",
            "sip:a@b;x=@c",
            "sip:a@b?x=a@c",
            "sip:a b@c",
            "sip:a@exa mple.com",
            "sip:a@b:",
            "sip:a@b:0",
            "sip:a@b:65536",
            "sip:a@b:+5",
            "sip:a@b:5x",
            "sip:a@[::1",
            "sip:a@[::1]x",
            "sip:a@[zz]",
            "sip:a@[fe80::1%25eth0]",
            "sip:a@b;",
            "sip:a@b;;lr",
            "sip:a@b;=x",
            "sip:a@b?",
            "sip:a@b?x=1;lr",
            "sip:a%4@b",
            "sip:a%zz@b",
            "sip:ä@b",
            "sip:a@bücher.example",
            "sip:a#b@c",
            "sip:a@.",
            "sip:a@b..c",
            "sip:a@1.2.3",
            "sip:a@127.1",
            "sip:a@0x7f.0x1",
            "sip:a@2130706433",
            "sip:a@1.2.3.4.5",
            "sip:a@b\0",
            "<sip:a@b>",
            "sip:a\"b@c",
            "sip:a@b\\c",
            "im:example.com",
            "tel:",
            "tel:abc@x",
            "1sip:a@b",
            "http:",
            "sip:a:b:c@d",
            "sip:%@b",
        ] {
            assert_fault_names_place(bad, Uri::parse(bad).map(|_| ()));
        }
    }

    #[test]
    fn name_addr_forms() {
        let quoted = NameAddr::parse(r#""Doe, \"J\" <x>"<sip:j@e.com;lr>;epid=aa;tag=1"#).unwrap();
        assert_eq!(quoted.display, r#""Doe, \"J\" <x>""#);
        assert_eq!((quoted.uri.text, quoted.tag()), ("sip:j@e.com;lr", Some("1")));
        let bare = NameAddr::parse(" sip:vivekg@chair-dnrc.example.com ;   tag    = 1918181833n").unwrap();
        assert_eq!((bare.uri.params, bare.tag()), ("", Some("1918181833n")));
        let tokens = NameAddr::parse("A. Bell <sip:a@b> ; tag=1").unwrap();
        assert_eq!((tokens.display, tokens.tag()), ("A. Bell", Some("1")));
        assert_eq!(NameAddr::parse("<sip:a@b;tag=in-the-uri>").unwrap().tag(), None);
        let instance = NameAddr::parse(r#"sip:a@b;+sip.instance="<urn:uuid:1>";expires=5"#).unwrap();
        assert_eq!((instance.uri.text, instance.param("+sip.instance")), ("sip:a@b", Some("<urn:uuid:1>")));
    }

    #[test]
    fn name_addr_faults() {
        for bad in [
            "",
            "<>",
            "<sip:a@b",
            "\"x <sip:a@b>",
            "\"x\" sip:a@b",
            "Bell, A <sip:a@b>",
            "< sip:a@b >",
            "<sip:a@b>x",
            "<sip:a@b>;",
            "<sip:a@b>;;",
            "sip:a@b?x=y",
            "sip:a,b@c",
            "sip:a;b@c",
            "sip:a;x=b@c",
            "sip:a@b;x=<sip:c@d>",
            "sip:a@b;x=y@z;w=\"<>\"",
            "a;b <sip:c@d>",
            "<sip:a@b>;tag=1, <sip:c@d>;tag=2",
            "<sip:a@b><sip:c@d>",
            "sip:a@b sip:c@d",
            "\"a\" \"b\" <sip:a@b>",
        ] {
            assert_fault_names_place(bad, NameAddr::parse(bad).map(|_| ()));
        }
    }
}
