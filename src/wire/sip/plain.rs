//! Addresses, URIs and Vias as nearly all of them are written, each read in one pass to where its parts stand. `None` for what is written in any
//! other way: that is for the readers of `uri` and `header`, which know every form and say what is wrong with a text. What is read here they
//! would read alike.

use super::params::{self, run_from};
use super::span::{AddressSpan, HostSpan, PARTS_MAX, Part, SchemeSpan, UriSpan, ViaParts};
use super::uri::{Host, escaped_run_from, parse_host_name};
use std::net::Ipv4Addr;

/// The byte there; NUL, which is of no class and ends nothing, behind the end.
#[inline]
fn byte(bytes: &[u8], at: usize) -> u8 {
    bytes.get(at).copied().unwrap_or(0)
}

/// One address in angle brackets from `at` on, to the end of the text or to a comma. Its parts are those of the text.
pub(super) fn address(text: &str, at: usize) -> Option<AddressSpan> {
    let bytes = text.as_bytes();
    if bytes.len() > PARTS_MAX {
        return None;
    }
    let (display, uri_at) = display(bytes, at)?;
    let (uri, uri_end) = uri(text, uri_at)?;
    if byte(bytes, uri_end) != b'>' {
        return None;
    }
    let behind = uri_end + 1;
    let found = match bytes.get(behind) {
        Some(b';') => params(text, behind + 1, "tag")?,
        _ => Params { end: behind, first: None, count: 0 },
    };
    if !matches!(bytes.get(found.end), None | Some(b',')) {
        return None;
    }
    let params = Part::new((behind + 1).min(found.end), found.end);
    let value = Part::new(at, found.end);
    Some(AddressSpan { value, display, uri, params, tag: found.first, tags: found.count })
}

/// The display name, and where the URI begins behind its `<`.
fn display(bytes: &[u8], at: usize) -> Option<(Part, usize)> {
    let mut end = at;
    match bytes.get(at)? {
        b'<' => return Some((Part::new(at, at), at + 1)),
        b'"' => end = quoted_end(bytes, at)?,
        b' ' | b'\t' => return None,
        _ => {
            while let Some(byte) = bytes.get(end)
                && (params::is_token_byte(*byte) || matches!(byte, b' ' | b'\t' | 0x80..))
            {
                end += 1;
            }
        }
    }
    let mut open = end;
    while open > at && matches!(byte(bytes, open), b' ' | b'\t') {
        open += 1;
    }
    while end > at && matches!(byte(bytes, end - 1), b' ' | b'\t') {
        end -= 1;
    }
    (end > at && byte(bytes, open) == b'<').then(|| (Part::new(at, end), open + 1))
}

/// Behind the closing quote of the quoted string that begins there.
fn quoted_end(bytes: &[u8], at: usize) -> Option<usize> {
    let mut at = at + 1;
    loop {
        match bytes.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// A SIP or SIPS URI without headers and password from `at` on, and where it ends. Who asks looks at what follows it: what can't stand there
/// says that it was read wrongly.
pub(super) fn uri(text: &str, at: usize) -> Option<(UriSpan, usize)> {
    let bytes = text.as_bytes();
    if bytes.len() > PARTS_MAX {
        return None;
    }
    let (scheme, user_at) = match bytes.get(at..)? {
        [b's' | b'S', b'i' | b'I', b'p' | b'P', b':', ..] => (SchemeSpan::Sip, at + 4),
        [b's' | b'S', b'i' | b'I', b'p' | b'P', b's' | b'S', b':', ..] => (SchemeSpan::Sips, at + 5),
        _ => return None,
    };
    // The user may hold all that parts the rest, and so has to be cut off first.
    let user_end = escaped_run_from(bytes, user_at, params::USER);
    let (user, host_at) = if user_end > user_at && byte(bytes, user_end) == b'@' {
        (Some(Part::new(user_at, user_end)), user_end + 1)
    } else {
        (None, user_at)
    };
    let (host, port, mut end) = hostport(text, host_at)?;
    let params_at = end + usize::from(byte(bytes, end) == b';');
    while byte(bytes, end) == b';' {
        let name_end = escaped_run_from(bytes, end + 1, params::PARAM);
        if name_end == end + 1 {
            return None;
        }
        end = name_end;
        if byte(bytes, end) == b'=' {
            end = escaped_run_from(bytes, end + 1, params::PARAM_VALUE);
        }
    }
    let (text, params, headers) = (Part::new(at, end), Part::new(params_at, end), Part::new(end, end));
    Some((UriSpan { text, scheme, user, host, port, params, headers }, end))
}

/// `host [ ":" port ]`, and where it ends.
fn hostport(text: &str, at: usize) -> Option<(HostSpan, Option<u16>, usize)> {
    let bytes = text.as_bytes();
    let (host, end) = host(text, at)?;
    if byte(bytes, end) != b':' {
        return Some((host, None, end));
    }
    let (mut port, mut end) = (0u32, end + 1);
    while let Some(digit @ b'0'..=b'9') = bytes.get(end) {
        port = port.saturating_mul(10).saturating_add(u32::from(digit - b'0'));
        end += 1;
    }
    let port = u16::try_from(port).ok().filter(|port| *port > 0)?;
    Some((host, Some(port), end))
}

fn host(text: &str, at: usize) -> Option<(HostSpan, usize)> {
    let bytes = text.as_bytes();
    if byte(bytes, at) == b'[' {
        let end = at + memchr::memchr(b']', bytes.get(at..)?)?;
        return Some((HostSpan::V6(text.get(at + 1..end)?.parse().ok()?), end + 1));
    }
    // Where the label begins that is being read.
    let (mut label, mut end) = (at, at);
    loop {
        end = run_from(bytes, end, params::LABEL);
        if end == label || end - label > 63 {
            return None;
        }
        if byte(bytes, end) != b'.' {
            break;
        }
        end += 1;
        label = end;
    }
    // A last label that begins with a digit may be of an address, or of what looks like one.
    if byte(bytes, label).is_ascii_digit() {
        let text = text.get(at..end)?;
        return match v4(text).map_or_else(|| parse_host_name(text).ok(), |address| Some(Host::V4(address)))? {
            Host::V4(address) => Some((HostSpan::V4(address), end)),
            _ => Some((HostSpan::Name(Part::new(at, end)), end)),
        };
    }
    (end - at <= 253).then(|| (HostSpan::Name(Part::new(at, end)), end))
}

/// `1*3DIGIT "." …` (RFC 3261 §25.1), each number without zeros before it.
fn v4(text: &str) -> Option<Ipv4Addr> {
    let (mut numbers, mut place, mut digits) = ([0u8; 4], 0, 0);
    for byte in text.bytes() {
        let number = numbers.get_mut(place)?;
        match byte {
            b'.' if digits > 0 => (place, digits) = (place + 1, 0),
            b'0'..=b'9' if digits == 0 || *number > 0 => {
                *number = number.checked_mul(10)?.checked_add(byte - b'0')?;
                digits += 1;
            }
            _ => return None,
        }
    }
    (place == 3 && digits > 0).then(|| numbers.into())
}

/// What was found among parameters.
pub(super) struct Params {
    /// Where they end.
    pub(super) end: usize,
    /// The value of the first that was looked for, without quotes as [`params::find`] has it.
    pub(super) first: Option<Part>,
    /// How many of them there are; two stand for more.
    pub(super) count: u8,
}

/// Header parameters without white space, well-formed all of them, from behind the `;` at which they begin.
pub(super) fn params(text: &str, at: usize, wanted: &str) -> Option<Params> {
    let bytes = text.as_bytes();
    if bytes.len() > PARTS_MAX {
        return None;
    }
    let (mut at, mut first, mut count) = (at, None, 0);
    loop {
        let name_end = run_from(bytes, at, params::TOKEN);
        if name_end == at {
            return None;
        }
        let mut end = name_end;
        let mut value = Part::new(name_end, name_end);
        if byte(bytes, name_end) == b'=' {
            let value_at = name_end + 1;
            if byte(bytes, value_at) == b'"' {
                end = quoted_end(bytes, value_at)?;
                let inner = bytes.get(value_at + 1..end - 1)?;
                let quotes = usize::from(!inner.contains(&b'\\'));
                value = Part::new(value_at + quotes, end - quotes);
            } else {
                end = run_from(bytes, value_at, params::VALUE);
                if end == value_at {
                    return None;
                }
                value = Part::new(value_at, end);
            }
        }
        if name_end - at == wanted.len()
            && bytes.get(at..name_end).is_some_and(|name| name.eq_ignore_ascii_case(wanted.as_bytes()))
        {
            first = first.or(Some(value));
            count = 2.min(count + 1);
        }
        if byte(bytes, end) != b';' {
            return Some(Params { end, first, count });
        }
        at = end + 1;
    }
}

/// The Via that a row's value begins with: its parts, the parameters' among them, to the end or to a comma.
pub(super) fn via(text: &str) -> Option<(ViaParts, Params)> {
    let bytes = text.as_bytes();
    if bytes.len() > PARTS_MAX {
        return None;
    }
    let protocol = run_from(bytes, 0, params::TOKEN);
    let version = run_from(bytes, protocol + 1, params::TOKEN);
    let transport = run_from(bytes, version + 1, params::TOKEN);
    let slashes = byte(bytes, protocol) == b'/' && byte(bytes, version) == b'/';
    if !slashes || protocol == 0 || version == protocol + 1 || transport == version + 1 {
        return None;
    }
    let mut host_at = transport;
    while byte(bytes, host_at) == b' ' {
        host_at += 1;
    }
    if host_at == transport {
        return None;
    }
    let (host, port, end) = hostport(text, host_at)?;
    let found = match byte(bytes, end) {
        b';' => params(text, end + 1, "branch")?,
        _ => Params { end, first: None, count: 0 },
    };
    if found.count > 1 || !matches!(bytes.get(found.end), None | Some(b',')) {
        return None;
    }
    let parts = ViaParts {
        protocol: Part::new(0, protocol),
        version: Part::new(protocol + 1, version),
        transport: Part::new(version + 1, transport),
        host,
        port,
        params: Part::new((end + 1).min(found.end), found.end),
    };
    Some((parts, found))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::sip::header::{Via, list};
    use crate::wire::sip::index::read_list;
    use crate::wire::sip::{NameAddr, Uri};
    use proptest::prelude::*;

    /// Pieces that texts are made of, right ones in their order as likely as any.
    const PIECES: [&str; 63] = [
        "<",
        "sip:",
        "sips:",
        "SIP:",
        "tel:",
        "a",
        "b.c",
        "user",
        "@",
        "host.example",
        ":",
        "5061",
        "0",
        "65536",
        "00080",
        ";",
        "lr",
        "tag",
        "Tag",
        "branch",
        "=",
        "1",
        "x=",
        "\"",
        "\"q\"",
        "\"q;,\"",
        "\\",
        ">",
        ",",
        " ",
        "\t",
        "?",
        "h=v",
        "%41",
        "%4",
        "%",
        "[::1]",
        "[",
        "]",
        "127.0.0.1",
        "127.1",
        "0x7f",
        "1.2.3.4.5",
        ".",
        "..",
        "-",
        "_",
        "é",
        "&",
        "/",
        "SIP/2.0/TLS ",
        "SIP/2.0/",
        "TLS",
        "<sip:a@b>",
        "Bell ",
        ";tag=a1",
        ";branch=z9hG4bK",
        ";a=\"b\\\"c\"",
        ";x=<y>",
        "\r\n",
        "\0",
        ", ",
        "*",
    ];

    fn text() -> impl Strategy<Value = String> {
        proptest::collection::vec(proptest::sample::select(&PIECES[..]), 0..12).prop_map(|pieces| pieces.concat())
    }

    /// Begins as it should: more of it is read before it is given up.
    fn begun(with: &'static [&'static str]) -> impl Strategy<Value = String> {
        (proptest::sample::select(with), text()).prop_map(|(start, rest)| format!("{start}{rest}"))
    }

    fn assert_alike(text: &str) {
        if let Some((uri, end)) = uri(text, 0)
            && end == text.len()
        {
            assert_eq!(Uri::parse_any(text), Ok(uri.read(text)), "{text:?}");
        }
        if let Some(found) = address(text, 0)
            && found.end() == text.len()
        {
            let any = NameAddr::parse_any(text);
            assert_eq!(any, Ok(found.read(text)), "{text:?}");
            let (tag, tags) = params::find_and_count(found.read(text).params, "tag");
            assert_eq!((found.tag.map(|tag| tag.of(text)), found.tags.into()), (tag, tags.min(2)), "{text:?}");
        }
        if let Some((parts, found)) = via(text) {
            let top = list(text).next().unwrap_or_default();
            assert_eq!((Via::parse_any(top), top.len()), (Ok(parts.read(text)), found.end), "{text:?}");
            assert_eq!(found.first.map(|found| found.of(text)), parts.read(text).param("branch"), "{text:?}");
        }
        let mut found = crate::wire::sip::index::Addresses::new();
        let all: Result<Vec<_>, _> = list(text).map(|value| NameAddr::parse_any(value).map(|a| (value, a))).collect();
        if read_list(text, &mut found).is_some() {
            let read: Vec<_> = found.iter().map(|found| (found.value.of(text), found.read(text))).collect();
            assert_eq!(all, Ok(read), "{text:?}");
        } else {
            let is_odd = |(_, a): &(&str, NameAddr<'_>)| matches!(a.uri.scheme, crate::wire::sip::Scheme::Other(_));
            assert!(all.is_err() || all.is_ok_and(|all| all.iter().any(is_odd)), "{text:?}");
        }
        let any = params::parameters(text).all(|parameter| params::is_well_formed(parameter, true));
        assert_eq!(params::are_well_formed(text, true), any, "{text:?}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]

        #[test]
        fn what_is_read_at_once_is_read_alike(
            any in text(),
            uri in begun(&["sip:", "sip:a@b", "sips:a;x@b:1", "sip:b.c;lr;x=1"]),
            address in begun(&["<sip:", "<sip:a@b>", "<sip:a@b", "\"q\" <sip:a@b>;tag=1", "Bell <sip:b;lr>;x=\"y\"", "<sip:a@b>;t=1,"]),
            via in begun(&["SIP/2.0/TLS ", "SIP/2.0/TLS a", "SIP/2.0/TLS a:1;branch=x", "SIP/2.0/TLS [::1]"]),
        ) {
            for text in [any, uri, address, via] {
                assert_alike(&text);
            }
        }
    }

    #[test]
    fn addresses_of_four_numbers() {
        let numbers = ["0", "00", "01", "1", "9", "10", "99", "100", "255", "256", "999", "1000", "", "x"];
        for (one, other) in numbers.into_iter().flat_map(|one| numbers.map(|other| (one, other))) {
            for text in [
                format!("{one}.1.2.{other}"),
                format!("3.{one}.{other}.4"),
                format!("1.{one}.{other}"),
                format!("1.2.{one}.{other}.5"),
                format!("{one}{other}"),
            ] {
                assert_eq!(v4(&text), text.parse().ok(), "{text}");
            }
        }
    }

    #[test]
    fn the_common_forms_are_read_at_once() {
        for text in [
            "<sip:a@b.example>",
            "\"Romeo M.\" <sip:romeo%40x;p=1@lync.example:5061;opaque=user:epid:ab;gruu>;epid=01;tag=a1",
            "Romeo <SIPS:192.0.2.1;transport=tls;lr>;x=\"a,b\"",
            "<sip:[2001:db8::1]:5061;lr>",
        ] {
            assert!(address(text, 0).is_some_and(|found| found.end() == text.len()), "{text}");
        }
        assert!(via("SIP/2.0/TLS sip.b.example:5061;branch=z9hG4bK1;rport, SIP/2.0/UDP a").is_some());
    }
}
