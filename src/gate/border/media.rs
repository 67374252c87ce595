//! What a body may name outside: session descriptions in our own words where they name the inside, and what else has addresses in it read.
//!
//! Media does not run through us, so public addresses stay; a private one is of no use outside, and says how the inside is built.

use super::leak::{Inside, Word, any_word};
use crate::gate::limits;
use crate::gate::reject::{Reason, Reject};
use crate::wire::sip::header::MediaType;
use quick_xml::Reader;
use quick_xml::events::Event;
use std::borrow::Cow;
use std::net::IpAddr;

/// A body on its way out: every session description in it names `hostname` where it named the inside; `None`: it stays as it is. One that is none
/// and names the inside is refused.
pub fn outward(inside: &Inside, kind: &str, body: &[u8], hostname: &str) -> Result<Option<Vec<u8>>, Reject> {
    match Kind::of(kind) {
        _ if body.is_empty() => Ok(None),
        Kind::Sdp => describe(inside, body, hostname),
        Kind::Fragment => Ok(status_alone(inside, body)),
        Kind::Multipart => {
            let mut out = Vec::new();
            let mut copied = 0;
            for (part, start) in parts(kind, body, limits::BODY_DEPTH)? {
                if Kind::of(part.kind) == Kind::Sdp
                    && let Some(changed) = describe(inside, part.body, hostname)?
                {
                    out.extend_from_slice(body.get(copied..start).unwrap_or_default());
                    out.extend_from_slice(&changed);
                    copied = start + part.body.len();
                }
            }
            if copied == 0 {
                return Ok(None);
            }
            out.extend_from_slice(body.get(copied..).unwrap_or_default());
            Ok(Some(out))
        }
        _ => Ok(None),
    }
}

/// RFC 3515 §2.4.4: of what came of a REFER its status line is enough, where the rest names the inside.
fn status_alone(inside: &Inside, body: &[u8]) -> Option<Vec<u8>> {
    if !inside.mentions(&String::from_utf8_lossy(body)) {
        return None;
    }
    let end = memchr::memchr(b'\n', body)?;
    let line = body.get(..=end).filter(|line| line.starts_with(b"SIP/2.0 "))?;
    Some(line.to_vec())
}

/// Whether a body names the inside where it has addresses: SDP `o= c= m= a=`, PIDF `<contact>` and `entity`, CPIM From and To; what a server
/// says of dialogs, registrations and messages, anywhere.
pub fn names_inside(inside: &Inside, kind: &str, body: &[u8]) -> bool {
    if body.is_empty() {
        return false;
    }
    match Kind::of(kind) {
        Kind::Multipart => parts(kind, body, limits::BODY_DEPTH)
            .map_or(true, |parts| parts.iter().any(|(part, _)| is_named_in(inside, Kind::of(part.kind), part.body))),
        kind => is_named_in(inside, kind, body),
    }
}

fn is_named_in(inside: &Inside, kind: Kind, body: &[u8]) -> bool {
    // What is not UTF-8 is looked at all the same.
    let text = String::from_utf8_lossy(body);
    match kind {
        Kind::Sdp => text.lines().any(|line| is_addressing(line) && inside.mentions(line)),
        Kind::Pidf => inside.mentions(&text) && is_in_pidf(inside, &text),
        Kind::Cpim => {
            // RFC 3862 §3: headers, an empty line, the message.
            let head = text.lines().take_while(|line| !line.trim().is_empty());
            head.filter_map(|line| line.split_once(':')).any(|(name, value)| {
                let is_address = ["from", "to", "cc"].iter().any(|known| name.trim().eq_ignore_ascii_case(known));
                // Before the bracket stands the user's name.
                is_address && inside.mentions(value.rsplit_once('<').map_or(value, |(_, uri)| uri))
            })
        }
        Kind::Fragment | Kind::State => inside.mentions(&text),
        Kind::Multipart | Kind::Other => false,
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Sdp,
    Multipart,
    Pidf,
    Cpim,
    /// RFC 3420.
    Fragment,
    /// No words of a user's: RFC 4235, RFC 3680, RFC 3858, RFC 4575, RFC 4662, RFC 3842, RFC 3261 §27.5.
    State,
    Other,
}

const STATE: [&str; 7] = [
    "application/dialog-info+xml",
    "application/reginfo+xml",
    "application/watcherinfo+xml",
    "application/conference-info+xml",
    "application/rlmi+xml",
    "application/simple-message-summary",
    "message/sip",
];

impl Kind {
    fn of(content_type: &str) -> Self {
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        let is = |known: &str| essence.eq_ignore_ascii_case(known);
        match essence.get(..10) {
            Some(start) if start.eq_ignore_ascii_case("multipart/") => Kind::Multipart,
            _ if is("application/sdp") => Kind::Sdp,
            _ if is("application/pidf+xml") => Kind::Pidf,
            _ if is("message/cpim") => Kind::Cpim,
            _ if is("message/sipfrag") => Kind::Fragment,
            _ if STATE.iter().any(|state| is(state)) => Kind::State,
            _ => Kind::Other,
        }
    }
}

/// One leaf of a multipart body.
struct Part<'a> {
    kind: &'a str,
    body: &'a [u8],
}

/// The leaves, and where in `body` each begins.
fn parts<'a>(kind: &str, body: &'a [u8], depth: usize) -> Result<Vec<(Part<'a>, usize)>, Reject> {
    let refuse = |what: &str| Reject::new(Reason::Unsupported, what).with_status(415);
    let media = MediaType::parse(kind);
    let Some(boundary) = media.as_ref().and_then(|media| media.param("boundary")).filter(|b| !b.is_empty()) else {
        return Err(refuse("a multipart body has no boundary"));
    };
    let Some(depth) = depth.checked_sub(1) else { return Err(refuse("multipart bodies in one another, too deep")) };
    let mut found = Vec::new();
    // RFC 2046 §5.1.1: the delimiter begins a line, and the line end before it is its own.
    let delimiter = format!("--{boundary}");
    let mut starts = memchr::memmem::find_iter(body, delimiter.as_bytes())
        .filter(|at| *at == 0 || body.get(at - 1) == Some(&b'\n'))
        .take(limits::BODY_PARTS + 2)
        .peekable();
    while let Some(start) = starts.next() {
        // RFC 2046 §5.1.1: the last one is closed; who reads leniently takes one that isn't, too.
        let is_close = body.get(start + delimiter.len()..).is_some_and(|rest| rest.starts_with(b"--"));
        let end = match starts.peek().copied() {
            Some(end) => end,
            None if is_close => break,
            None => body.len(),
        };
        if found.len() >= limits::BODY_PARTS {
            return Err(refuse("a multipart body has too many parts"));
        }
        let part = body.get(start..end).unwrap_or_default();
        let Some(line) = memchr::memchr(b'\n', part) else { continue };
        let (mut at, mut kind) = (line + 1, "text/plain");
        while let Some(length) = part.get(at..).and_then(|rest| memchr::memchr(b'\n', rest)) {
            let line = std::str::from_utf8(part.get(at..at + length).unwrap_or_default()).unwrap_or_default().trim();
            at += length + 1;
            match line.split_once(':') {
                _ if line.is_empty() => break,
                Some((name, value)) if name.trim().eq_ignore_ascii_case("content-type") => kind = value.trim(),
                _ => {}
            }
        }
        let content = part.get(at..).unwrap_or_default();
        let content = content.strip_suffix(b"\n").unwrap_or(content);
        let content = content.strip_suffix(b"\r").unwrap_or(content);
        if Kind::of(kind) == Kind::Multipart {
            found.extend(parts(kind, content, depth)?.into_iter().map(|(part, inner)| (part, start + at + inner)));
        } else {
            found.push((Part { kind, body: content }, start + at));
        }
    }
    Ok(found)
}

/// Lines of a session description that hold addresses (RFC 8866 §5).
fn is_addressing(line: &str) -> bool {
    matches!(line.as_bytes(), [b'o' | b'c' | b'm' | b'a' | b'u', b'=', ..])
}

fn describe(inside: &Inside, body: &[u8], hostname: &str) -> Result<Option<Vec<u8>>, Reject> {
    let Some(text) = std::str::from_utf8(body).ok().filter(|text| is_description(text)) else {
        return if inside.mentions(&String::from_utf8_lossy(body)) {
            let what = "a session description that cannot be read names something of the inside";
            Err(Reject::new(Reason::Malformed, what))
        } else {
            Ok(None)
        };
    };
    let mut out: Option<String> = None;
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let content = line.trim_end_matches(['\r', '\n']);
        let written = if is_addressing(content) { rewrite_line(inside, content, hostname) } else { Line::Same };
        if !matches!(written, Line::Same) {
            let out = out.get_or_insert_with(|| text.get(..at).unwrap_or_default().to_owned());
            if let Line::Other(other) = written {
                out.push_str(&other);
                out.push_str(line.get(content.len()..).unwrap_or_default());
            }
        } else if let Some(out) = &mut out {
            out.push_str(line);
        }
        at += line.len();
    }
    Ok(out.map(String::into_bytes))
}

/// `v=0` first, and a letter and `=` on every line (RFC 8866 §5).
fn is_description(text: &str) -> bool {
    text.starts_with("v=")
        && text.lines().all(|line| line.is_empty() || matches!(line.as_bytes(), [b'a'..=b'z', b'=', ..]))
}

enum Line {
    Same,
    Gone,
    Other(String),
}

fn rewrite_line(inside: &Inside, line: &str, hostname: &str) -> Line {
    if !any_word(line, |word| is_hidden(inside, word)) {
        return Line::Same;
    }
    // A candidate of the inside is no candidate outside (RFC 8839 §5.1); so with its RTCP port (RFC 3605).
    let gone = ["a=candidate:", "a=rtcp:", "a=remote-candidates:"];
    if gone.iter().any(|start| line.get(..start.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(start))) {
        return Line::Gone;
    }
    let mut out = String::with_capacity(line.len() + hostname.len());
    let (start, rest) = line.split_at(2);
    out.push_str(start);
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '[' | ']');
    let mut rest = rest;
    while !rest.is_empty() {
        let length = rest.find(|c: char| !is_part(c)).unwrap_or(rest.len());
        let (word, behind) = rest.split_at(length);
        out.push_str(&rehost(inside, word, hostname));
        let mut others = behind.chars();
        out.extend(others.next());
        rest = others.as_str();
    }
    Line::Other(out)
}

/// A word with the host in it replaced: `10.1.2.3`, `[fd00::7]:5060`, `sip:imp-1.corp.internal:5060`.
fn rehost<'a>(inside: &Inside, word: &'a str, hostname: &str) -> Cow<'a, str> {
    let hidden = |text: &str| any_word(text, |word| is_hidden(inside, word));
    if !hidden(word) {
        return Cow::Borrowed(word);
    }
    // In brackets, or an address of IPv6 as a whole word, colons are the host's own.
    if let Some((before, bracketed)) = word.split_once('[')
        && let Some((host, after)) = bracketed.split_once(']')
        && hidden(host)
    {
        return Cow::Owned(format!("{before}{hostname}{after}"));
    }
    if word.parse::<IpAddr>().is_ok() {
        return Cow::Owned(hostname.to_owned());
    }
    let pieces: Vec<&str> = word.split(':').map(|piece| if hidden(piece) { hostname } else { piece }).collect();
    let replaced = pieces.join(":");
    // Colons that hide an address between other pieces: nothing of the word is kept.
    if hidden(&replaced) { Cow::Owned(hostname.to_owned()) } else { Cow::Owned(replaced) }
}

fn is_hidden(inside: &Inside, word: Word<'_>) -> bool {
    match word {
        Word::Address(address) => inside.holds(address) || is_private(address),
        Word::Text(word, _) => inside.is_name_in(word),
    }
}

/// RFC 1918, RFC 6598, RFC 4193, link-local and loopback. `0.0.0.0` says that nothing is to be sent (RFC 3264 §8.4), and stays.
fn is_private(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            v4.is_private() || v4.is_loopback() || v4.is_link_local() || (a == 100 && b & 0xc0 == 64)
        }
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}

/// RFC 3863 §4.1: `entity` and `<contact>` are addresses; notes are the user's.
fn is_in_pidf(inside: &Inside, text: &str) -> bool {
    let mut reader = Reader::from_str(text);
    let mut in_contact = false;
    loop {
        match reader.read_event() {
            Ok(Event::Start(tag) | Event::Empty(tag)) => {
                in_contact = tag.local_name().as_ref() == "contact";
                let entity = tag.attributes().flatten().find(|a| a.key.local_name().as_ref() == "entity");
                if entity.is_some_and(|entity| inside.mentions(&entity.value)) {
                    return true;
                }
            }
            Ok(Event::Text(text)) if in_contact => {
                if inside.mentions(&text) {
                    return true;
                }
            }
            Ok(Event::CData(text)) if in_contact => {
                if inside.mentions(&text) {
                    return true;
                }
            }
            Ok(Event::End(_)) => in_contact = false,
            Ok(Event::Eof) => return false,
            Ok(_) => {}
            // It mentions the inside, and nobody can say where.
            Err(_) => return true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::border::leak::tests::inside;

    const HOST: &str = "sip.corp.example";

    fn out(kind: &str, body: &str) -> String {
        let changed = outward(&inside(), kind, body.as_bytes(), HOST).unwrap();
        changed.map_or_else(|| "same".to_owned(), |body| String::from_utf8(body).unwrap())
    }

    #[test]
    fn a_description_names_us_where_it_named_the_inside() {
        for (line, expected) in [
            ("o=- 1 1 IN IP4 10.1.2.3", "o=- 1 1 IN IP4 sip.corp.example"),
            ("o=- 1 1 IN IP6 fd00::7", "o=- 1 1 IN IP6 sip.corp.example"),
            ("c=IN IP4 192.168.1.1/127", "c=IN IP4 sip.corp.example/127"),
            (
                "m=message 5060 sip sip:juliet@IMP-1.corp.internal:5060",
                "m=message 5060 sip sip:juliet@sip.corp.example:5060",
            ),
            ("m=message 5060 sip sip:juliet@[fd00::7]:5060;x", "m=message 5060 sip sip:juliet@sip.corp.example:5060;x"),
            ("a=path:msrp://10.1.2.3:7/s;tcp", "a=path:msrp://sip.corp.example:7/s;tcp"),
        ] {
            let (body, expected) = (format!("v=0\r\n{line}\r\nt=0 0\r\n"), format!("v=0\r\n{expected}\r\nt=0 0\r\n"));
            assert_eq!(out("Application/SDP; x=y", &body), expected);
            assert!(!names_inside(&inside(), "application/sdp", expected.as_bytes()));
        }
        for line in [
            "a=candidate:1 1 UDP 1 172.16.0.9 5 typ host",
            "a=rtcp:5 IN IP4 10.1.2.3",
            "a=candidate:2 1 UDP 1 fe80::1 5 typ host",
        ] {
            assert_eq!(out("application/sdp", &format!("v=0\n{line}\nt=0 0\n")), "v=0\nt=0 0\n");
        }
    }

    #[test]
    fn public_addresses_and_words_stay() {
        let body = "v=0\r\no=- 1 1 IN IP4 198.51.100.7\r\ns=imp-1.corp.internal\r\nc=IN IP4 0.0.0.0\r\na=candidate:1 1 UDP 1 2001:db8::1 5 typ host\r\n\
            a=fingerprint:sha-1 4A:AD:B9:B1:3F:82:18:3B:54:02:12:DF:3E:5D:49:6B:19:E5:7C:AB\r\n";
        assert_eq!(out("application/sdp", body), "same");
        assert_eq!(out("text/plain", "v=0\r\nc=IN IP4 10.1.2.3\r\n"), "same");
    }

    #[test]
    fn parts_of_parts_are_described_too() {
        let sdp = "v=0\r\nc=IN IP4 10.1.2.3\r\n";
        let inner = format!("--i\r\nContent-Type: application/sdp\r\n\r\n{sdp}\r\n--i--");
        let body = format!(
            "pre\r\n--o\r\n\r\n10.1.2.3\r\n--o\r\ncontent-type: multipart/related; boundary=i\r\n\r\n{inner}\r\n--o--\r\n"
        );
        assert!(names_inside(&inside(), "multipart/mixed; boundary=o", body.as_bytes()));
        let expected = body.replace("IP4 10.1.2.3", "IP4 sip.corp.example");
        assert_eq!(out("multipart/mixed; boundary=o", &body), expected);
        assert!(!names_inside(&inside(), "multipart/mixed; boundary=o", expected.as_bytes()));
        let nested = (0..9).fold(inner, |body, n| {
            format!(
                "--b{n}\r\nContent-Type: multipart/mixed; boundary={}\r\n\r\n{body}\r\n--b{n}--",
                if n == 0 { "i".to_owned() } else { format!("b{}", n - 1) }
            )
        });
        let refused = outward(&inside(), "multipart/mixed; boundary=b8", nested.as_bytes(), HOST).unwrap_err();
        assert_eq!(refused.status, 415);
    }

    #[test]
    fn a_last_part_that_nothing_closes_is_a_part() {
        let body = "--b\r\nContent-Type: application/sdp\r\n\r\nv=0\r\nc=IN IP4 10.1.2.3\r\n";
        assert!(names_inside(&inside(), "multipart/mixed; boundary=b", body.as_bytes()));
        let expected = body.replace("10.1.2.3", HOST);
        assert_eq!(out("multipart/mixed; boundary=b", body), expected);
        assert_eq!(out("multipart/mixed; boundary=b", "--b--\r\n10.1.2.3"), "same");
    }

    #[test]
    fn what_a_server_says_of_dialogs_and_registrations_is_looked_at() {
        for kind in STATE {
            assert!(names_inside(&inside(), kind, b"<contact><uri>sip:j@10.1.2.3</uri></contact>"), "{kind}");
            assert!(!names_inside(&inside(), kind, b"<uri>sip:j@corp.example</uri>"), "{kind}");
        }
        let fragment = "SIP/2.0 200 OK\r\nContact: <sip:j@10.1.2.3>\r\n";
        assert!(names_inside(&inside(), "message/sipfrag;version=2.0", fragment.as_bytes()));
        assert_eq!(out("message/sipfrag;version=2.0", fragment), "SIP/2.0 200 OK\r\n");
        assert_eq!(out("message/sipfrag", "SIP/2.0 603 No\r\nX: y\r\n"), "same");
        assert!(names_inside(&inside(), "message/sipfrag", b"SIP/2.0 502 10.1.2.3\r\n"));
    }

    #[test]
    fn what_cannot_be_read_is_stopped_if_it_names_the_inside() {
        assert!(outward(&inside(), "application/sdp", b"hello imp-1.corp.internal", HOST).is_err());
        assert!(outward(&inside(), "application/sdp", b"v=0\r\n\xff 10.1.2.3", HOST).is_err());
        assert_eq!(out("application/sdp", "hello"), "same");
    }

    #[test]
    fn addresses_of_presence_and_cpim_are_looked_at_and_words_are_not() {
        let pidf = |entity: &str, contact: &str, note: &str| {
            let body = format!(
                "<presence entity='sip:j@{entity}'><tuple id='a'><contact priority='1'>sip:j@{contact}</contact><note>{note}</note></tuple></presence>"
            );
            names_inside(&inside(), "application/pidf+xml", body.as_bytes())
        };
        assert!(pidf("imp-1.corp.internal", "b.example", "") && pidf("b.example", "10.1.2.3", ""));
        assert!(!pidf("b.example", "b.example", "at 10.1.2.3 imp-1.corp.internal"));
        assert!(names_inside(&inside(), "application/pidf+xml", b"<a entity='x' <10.1.2.3"));
        let cpim =
            |from: &str| names_inside(&inside(), "message/cpim", format!("From: {from}\r\n\r\n10.1.2.3").as_bytes());
        assert!(cpim("J <im:j@imp-1.corp.internal>") && !cpim("imp-1.corp.internal <im:j@corp.example>"));
    }
}
