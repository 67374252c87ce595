//! Bodies that are more than plain text: HTML, and multipart/alternative of both. What crosses is the text.

use crate::gate::limits;
use crate::wire::sip::header::MediaType;

/// The text of an HTML fragment, as a person reads it: tags dropped, blocks and breaks as line ends, characters for their names. Linear;
/// no tree is built, for none is needed and a hostile one costs.
pub fn text_of_html(html: &str) -> String {
    let mut text = String::with_capacity(html.len());
    let mut rest = html;
    while let Some(at) = rest.find('<') {
        let (before, tag) = rest.split_at(at);
        push_text(&mut text, before);
        let inner = tag.get(1..).unwrap_or_default();
        if let Some(comment) = inner.strip_prefix("!--") {
            rest = comment.split_once("-->").map_or("", |(_, after)| after);
            continue;
        }
        if !inner.starts_with(|c: char| c.is_ascii_alphabetic() || matches!(c, '/' | '!' | '?')) {
            // HTML §13.2.5.6: `<` before anything else is itself.
            text.push('<');
            rest = inner;
            continue;
        }
        let end = tag_end(inner);
        let (tag, after) = inner.split_at(end);
        rest = after.strip_prefix('>').unwrap_or(after);
        let name_end = tag.find(|c: char| !c.is_ascii_alphanumeric() && c != '/').unwrap_or(tag.len());
        let name = tag.get(..name_end).unwrap_or_default().to_ascii_lowercase();
        match name.trim_end_matches('/') {
            "br" => text.push('\n'),
            "p" | "/p" | "div" | "/div" | "li" | "tr" | "/tr" | "ul" | "/ul" | "ol" | "/ol" | "table"
            | "blockquote" | "/blockquote" | "pre" | "/pre" | "h1" | "/h1" | "h2" | "/h2" | "h3" | "/h3"
                if !text.is_empty() && !text.ends_with('\n') =>
            {
                text.push('\n');
            }
            // What is never shown.
            hidden @ ("script" | "style" | "title") => rest = after_hidden(rest, hidden),
            _ => {}
        }
    }
    push_text(&mut text, rest);
    text.trim().to_owned()
}

/// White space in HTML is one space; names of characters are characters.
fn push_text(text: &mut String, raw: &str) {
    let decoded = htmlize::unescape(raw);
    for c in decoded.chars() {
        if matches!(c, ' ' | '\t' | '\r' | '\n') {
            if !text.is_empty() && !text.ends_with([' ', '\n']) {
                text.push(' ');
            }
        } else {
            text.push(if c == '\u{a0}' { ' ' } else { c });
        }
    }
}

/// Where a tag's `>` is, quoted values passed over; its end if there is none.
fn tag_end(tag: &str) -> usize {
    let mut quote = None;
    let mut after_equals = false;
    for (at, byte) in tag.bytes().enumerate() {
        match (quote, byte) {
            (Some(open), _) if open == byte => quote = None,
            (Some(_), _) => {}
            (None, b'>') => return at,
            (None, b'"' | b'\'') if after_equals => quote = Some(byte),
            (None, b' ' | b'\t' | b'\r' | b'\n') => continue,
            (None, _) => {}
        }
        after_equals = byte == b'=' && quote.is_none();
    }
    tag.len()
}

/// What follows the end tag of an element whose content is not text.
fn after_hidden<'a>(rest: &'a str, name: &str) -> &'a str {
    for (at, _) in rest.match_indices("</") {
        let end = rest.get(at + 2..).unwrap_or_default();
        if end.get(..name.len()).is_some_and(|found| found.eq_ignore_ascii_case(name)) {
            return rest.get(at..).unwrap_or_default();
        }
    }
    ""
}

/// One part of a multipart body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part<'a> {
    /// Its Content-Type; `text/plain` if it has none (RFC 2046 §5.1).
    pub content_type: &'a str,
    /// Its Content-Transfer-Encoding, lower case; empty if it has none.
    pub encoding: String,
    /// Its body.
    pub body: &'a [u8],
}

/// The parts of a multipart body (RFC 2046 §5.1.1), nested ones not opened; the first [`limits::BODY_PARTS`].
pub fn parts<'a>(body: &'a [u8], boundary: &str) -> Vec<Part<'a>> {
    let delimiter = format!("--{boundary}");
    let mut parts = Vec::new();
    let mut begin: Option<usize> = None;
    let mut at = 0;
    for line in body.split_inclusive(|byte| *byte == b'\n') {
        let text = line.trim_ascii_end();
        let rest = text.strip_prefix(delimiter.as_bytes());
        if let Some(rest) = rest.filter(|rest| rest.is_empty() || rest == b"--") {
            if let Some(begin) = begin.take()
                && let Some(part) = body.get(begin..at).and_then(part)
            {
                parts.push(part);
            }
            if rest == b"--" || parts.len() >= limits::BODY_PARTS {
                break;
            }
            begin = Some(at + line.len());
        }
        at += line.len();
    }
    parts
}

/// Headers, an empty line, the body; the line end before the next boundary is the boundary's.
fn part(bytes: &[u8]) -> Option<Part<'_>> {
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
    let (mut content_type, mut encoding) = ("text/plain", String::new());
    let mut at = 0;
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        at += line.len();
        let text = std::str::from_utf8(line).ok()?.trim();
        if text.is_empty() {
            break;
        }
        if let Some((name, value)) = text.split_once(':') {
            match name.trim().to_ascii_lowercase().as_str() {
                "content-type" => content_type = value.trim(),
                "content-transfer-encoding" => encoding = value.trim().to_ascii_lowercase(),
                _ => {}
            }
        }
    }
    Some(Part { content_type, encoding, body: bytes.get(at..)? })
}

/// The part whose text is carried: the plain one (of several alternatives the sender's own rendering), else the HTML one.
pub fn readable<'a, 'p>(parts: &'p [Part<'a>]) -> Option<(&'p Part<'a>, MediaType<'a>)> {
    let of = |wanted: &str| {
        parts.iter().find_map(|part| {
            let media = MediaType::parse(part.content_type)?;
            let is_raw = matches!(part.encoding.as_str(), "" | "7bit" | "8bit" | "binary");
            (media.essence == wanted && is_raw).then_some((part, media))
        })
    };
    of("text/plain").or_else(|| of("text/html"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn html_is_read_as_a_person_reads_it() {
        for (html, text) in [
            (
                r#"<DIV style="font-size:10pt;a>b">Parting is such <B>sweet</B> sorrow &amp; so on &lt;3</DIV>"#,
                "Parting is such sweet sorrow & so on <3",
            ),
            ("one<br>two<BR/>three<br />four", "one\ntwo\nthree\nfour"),
            ("<p>one</p>\r\n<p>two</p>", "one\ntwo"),
            ("a &nbsp;b &eacute; &#x1F600; &bogus; 1 < 2 <3", "a  b é 😀 &bogus; 1 < 2 <3"),
            ("<style>p { a }</style><script>if (a</b) {}</script>x<!-- <b> -->y<title>t</title>", "xy"),
            ("a <b title='x > y'>b</b> don't <i>c", "a b don't c"),
            ("<script>never ends", ""),
            ("<a href=x", ""),
            ("<!DOCTYPE html><html><body>x</body></html>", "x"),
        ] {
            assert_eq!(text_of_html(html), text, "{html}");
        }
    }

    #[test]
    fn the_plain_alternative_is_taken() {
        let body = b"preamble\r\n--=_b\r\nContent-Type: text/html\r\n\r\n<b>x</b>\r\n--=_b\r\nContent-Type: text/plain; charset=UTF-8\r\n\r\nline one\r\n\r\n--not\r\nx\r\n--=_b--\r\nrest";
        let parts = parts(body, "=_b");
        assert_eq!(parts.len(), 2);
        let (part, media) = readable(&parts).unwrap();
        assert_eq!((part.body, media.param("charset")), (&b"line one\r\n\r\n--not\r\nx"[..], Some("UTF-8")));
        let only_html = super::parts(b"--b\nContent-Type: text/html\n\n<b>x</b>\n--b--", "b");
        assert_eq!(readable(&only_html).unwrap().1.essence, "text/html");
        let encoded = super::parts(b"--b\nContent-Transfer-Encoding: base64\n\neA==\n--b--", "b");
        assert!(readable(&encoded).is_none());
        assert!(super::parts(b"no boundary here", "b").is_empty());
    }

    proptest! {
        #[test]
        fn hostile_bodies_never_panic(body in any::<Vec<u8>>(), html in "[<>/!a-z&;'\"= é-]{0,60}", boundary in "[ -~]{0,5}") {
            let _ = (readable(&parts(&body, &boundary)), text_of_html(&html), text_of_html(&String::from_utf8_lossy(&body)));
        }
    }
}
