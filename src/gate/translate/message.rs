//! Messages: page mode (RFC 7572, RFC 3428) and inside an IM session (RFC 7573).
//!
//! Takes a MESSAGE or a message stanza, gives a [`Text`]; and writes one as the other. The text itself is never touched.

use super::composing::ChatState;
use super::rich;
use crate::gate::partner::Html;
use crate::gate::reject::{Reason, Reject};
use crate::wire::address::Jid;
use crate::wire::pidf::is_xml_char;
use crate::wire::sip::{self, header};
use crate::wire::xmpp::{Element, NS_SERVER, Stanza};

/// RFC 3428 §8: a MESSAGE outside a session is at most this long, in bytes.
pub const PAGE_BYTES: usize = 1300;
/// What a page-mode MESSAGE of ours carries.
pub const PAGE_CONTENT_TYPE: &str = "text/plain;charset=UTF-8";
/// A subject that crosses, in bytes; the rest is cut.
const SUBJECT_BYTES: usize = 1024;
/// A thread that becomes a Call-ID, in bytes.
const CALL_ID_BYTES: usize = 128;
/// A language tag (RFC 5646 §4.4.1), in bytes.
const LANG_BYTES: usize = 35;
/// The namespace that stanzas are written in; a link of another one respells it.
const NS: &str = NS_SERVER;

/// A text message, of neither protocol.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Text {
    /// The body: UTF-8, byte for byte.
    pub body: String,
    /// Subject.
    pub subject: Option<String>,
    /// Content-Language, xml:lang.
    pub lang: Option<String>,
    /// Call-ID, thread.
    pub thread: Option<String>,
}

/// A page-mode MESSAGE to be: what its [`Text`] decides of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Call-ID.
    pub call_id: String,
    /// Subject and Content-Language, where there are such.
    pub headers: Vec<(&'static str, String)>,
    /// The body, of type [`PAGE_CONTENT_TYPE`].
    pub body: String,
}

/// The fields of a MESSAGE that say what it carries, as written.
#[derive(Debug, Clone, Copy)]
pub struct Fields<'a> {
    /// Content-Type's essence (lower case) and charset; `None` if there is no Content-Type.
    pub content_type: Option<(&'a str, Option<&'a str>)>,
    /// Content-Type's boundary.
    pub boundary: Option<&'a str>,
    /// What becomes of HTML.
    pub html: Html,
    /// Content-Encoding.
    pub content_encoding: Option<&'a str>,
    /// Subject.
    pub subject: Option<&'a str>,
    /// Content-Language.
    pub content_language: Option<&'a str>,
    /// Call-ID.
    pub call_id: Option<&'a str>,
}

/// Reads a MESSAGE. 415 with Accept for types we do not carry (text/plain, text/html and multipart/alternative of them; us-ascii and UTF-8
/// charsets), 415 with `Accept-Encoding: identity` for an encoded one, 413 beyond `body_bytes_max`, 400 for invalid UTF-8 or characters
/// XML can't carry.
pub fn read_sip(message: &sip::Message, body_bytes_max: usize, html: Html) -> Result<Text, Reject> {
    let content_type = match message.header(header::Name::ContentType) {
        Some(value) => Some(
            header::MediaType::parse(value)
                .ok_or_else(|| Reject::new(Reason::Malformed, "Content-Type does not parse"))?,
        ),
        None => None,
    };
    let fields = Fields {
        content_type: content_type.as_ref().map(|media| (media.essence.as_str(), media.param("charset"))),
        boundary: content_type.as_ref().and_then(|media| media.param("boundary")),
        html,
        content_encoding: message.header(header::Name::ContentEncoding),
        subject: message.header(header::Name::Subject),
        content_language: message.header(header::Name::ContentLanguage),
        call_id: message.call_id(),
    };
    read_fields(fields, message.body(), body_bytes_max)
}

/// As [`read_sip`], from the fields alone.
pub fn read_fields(fields: Fields<'_>, body: &[u8], body_bytes_max: usize) -> Result<Text, Reject> {
    if body.len() > body_bytes_max {
        return Err(Reject::new(Reason::TooLarge, format!("body of {} bytes, at most {body_bytes_max}", body.len())));
    }
    // RFC 3261 §8.2.3: an encoding we don't undo is 415 with what we accept.
    if let Some(encoding) = fields.content_encoding.map(str::trim)
        && !encoding.is_empty()
        && !encoding.eq_ignore_ascii_case("identity")
    {
        return Err(Reject::new(Reason::Unsupported, "Content-Encoding is not identity")
            .with_status(415)
            .with_header("Accept-Encoding", "identity"));
    }
    let body = match fields.content_type {
        Some(("multipart/alternative", _)) => {
            let parts = rich::parts(body, fields.boundary.unwrap_or_default());
            let Some((part, media)) = rich::readable(&parts) else {
                return Err(not_carried("multipart/alternative without text", fields.html));
            };
            read_body(&media.essence, media.param("charset"), part.body, fields.html)?
        }
        Some((essence, charset)) => read_body(essence, charset, body, fields.html)?,
        None if body.is_empty() => String::new(),
        // RFC 3261 §20.15.
        None => return Err(Reject::new(Reason::Malformed, "a body without Content-Type")),
    };
    Ok(Text {
        body,
        subject: fields.subject.and_then(one_line),
        // RFC 7572 §5: the first of several languages.
        lang: fields.content_language.and_then(|list| language(list.split(',').next().unwrap_or_default())),
        thread: fields
            .call_id
            .map(str::trim)
            .filter(|id| !id.is_empty() && id.chars().all(is_xml_char))
            .map(str::to_owned),
    })
}

/// A body of one type. The other parameters say how it looked (COMPAT(lync): `msgr`), not what it says. US-ASCII is UTF-8.
fn read_body(essence: &str, charset: Option<&str>, body: &[u8], html: Html) -> Result<String, Reject> {
    let is_html = essence == "text/html" && html == Html::ToText;
    let is_utf8 =
        charset.is_none_or(|name| name.eq_ignore_ascii_case("utf-8") || name.eq_ignore_ascii_case("us-ascii"));
    if !is_utf8 || !(essence == "text/plain" || is_html) {
        let charset = charset.map(|charset| format!(" in {charset}")).unwrap_or_default();
        return Err(not_carried(&format!("{essence}{charset}"), html));
    }
    let body = std::str::from_utf8(body).map_err(|_| Reject::new(Reason::Malformed, "body is not UTF-8"))?;
    let text = if is_html { rich::text_of_html(body) } else { body.to_owned() };
    if !text.chars().all(is_xml_char) {
        return Err(Reject::new(Reason::Malformed, "body holds characters that XML can't carry"));
    }
    Ok(text)
}

fn not_carried(what: &str, html: Html) -> Reject {
    let accept = match html {
        Html::ToText => "text/plain, text/html, multipart/alternative",
        Html::Refuse => "text/plain, multipart/alternative",
    };
    Reject::new(Reason::Unsupported, format!("{what} is not carried")).with_status(415).with_header("Accept", accept)
}

/// Writes the stanza of a message inside a session: type `chat`, the session's thread (RFC 7573 §5), and who wrote it is there
/// (XEP-0085 §5.2).
pub fn write_chat(text: &Text, from: &Jid, to: &Jid, id: &str, thread: &str) -> Element {
    let text = Text { thread: Some(thread.to_owned()), ..text.clone() };
    write_stanza(&text, from, to, id).attr("type", "chat").child(ChatState::Active.element())
}

/// Writes the stanza. RFC 7572 §5: page mode has no `type` (normal). `id` is the transaction's.
pub fn write_stanza(text: &Text, from: &Jid, to: &Jid, id: &str) -> Element {
    let mut message =
        Element::new("message", NS).attr("from", &from.to_string()).attr("to", &to.to_string()).attr("id", id);
    if let Some(lang) = &text.lang {
        message = message.attr("xml:lang", lang);
    }
    if let Some(subject) = &text.subject {
        message = message.child(Element::new("subject", NS).text(subject));
    }
    message = message.child(Element::new("body", NS).text(&text.body));
    if let Some(thread) = &text.thread {
        message = message.child(Element::new("thread", NS).text(thread));
    }
    message
}

/// Reads a message stanza; `Ok(None)` when it has no body (chat state, receipt, marker): nothing to carry in page mode.
pub fn read_stanza(stanza: &Stanza, body_bytes_max: usize) -> Result<Option<Text>, Reject> {
    read_element(stanza.element(), body_bytes_max)
}

/// As [`read_stanza`], from the element.
pub fn read_element(message: &Element, body_bytes_max: usize) -> Result<Option<Text>, Reject> {
    let default_lang = message.get_attr("xml:lang");
    let Some(body) = in_default_lang(message, "body") else { return Ok(None) };
    let content = body.content();
    if content.is_empty() {
        return Ok(None);
    }
    if content.len() > body_bytes_max {
        return Err(Reject::new(
            Reason::TooLarge,
            format!("body of {} bytes, at most {body_bytes_max}", content.len()),
        ));
    }
    let text_of = |name: &str| in_default_lang(message, name).map(Element::content);
    Ok(Some(Text {
        body: content,
        subject: text_of("subject").as_deref().and_then(one_line),
        lang: body.get_attr("xml:lang").or(default_lang).and_then(language),
        thread: text_of("thread").map(|thread| thread.trim().to_owned()).filter(|thread| !thread.is_empty()),
    }))
}

/// What a MESSAGE outside a session says. The thread is its Call-ID when it can be one, else `random_call_id` is, which names no host.
/// Beyond [`PAGE_BYTES`] it is refused (RFC 7572 §6: `policy-violation`).
pub fn write_sip(text: &Text, random_call_id: &str) -> Result<Page, Reject> {
    if text.body.len() > PAGE_BYTES {
        let detail = format!("{} bytes of text, page mode takes {PAGE_BYTES}", text.body.len());
        return Err(Reject::new(Reason::TooLarge, detail));
    }
    let call_id = call_id(text.thread.as_deref()).unwrap_or(random_call_id).to_owned();
    Ok(Page { call_id, headers: headers(text), body: text.body.clone() })
}

/// Subject and Content-Language of a MESSAGE, where there are such.
pub fn headers(text: &Text) -> Vec<(&'static str, String)> {
    let mut headers = Vec::new();
    if let Some(subject) = text.subject.as_deref().and_then(one_line) {
        headers.push(("Subject", subject));
    }
    if let Some(lang) = text.lang.as_deref().and_then(language) {
        headers.push(("Content-Language", lang));
    }
    headers
}

/// The Call-ID of a thread, if it can be one.
pub fn call_id(thread: Option<&str>) -> Option<&str> {
    thread.filter(|thread| is_call_id(thread))
}

/// A Call-ID (RFC 3261 §25.1 `callid`) that every peer can read: short, and of the characters of a token only.
fn is_call_id(thread: &str) -> bool {
    let word =
        |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&b));
    let (left, right) = thread.split_once('@').unwrap_or((thread, "x"));
    thread.len() <= CALL_ID_BYTES && word(left) && word(right)
}

/// A header's or subject's text: one line, cut at the bound; `None` when nothing is left.
fn one_line(text: &str) -> Option<String> {
    let kept = text.trim().char_indices().take_while(|(at, c)| at + c.len_utf8() <= SUBJECT_BYTES);
    let line: String = kept.map(|(_, c)| if c.is_control() || !is_xml_char(c) { ' ' } else { c }).collect();
    let line = line.trim();
    (!line.is_empty()).then(|| line.to_owned())
}

/// A language tag, if it has a tag's shape (RFC 5646 §2.1).
fn language(tag: &str) -> Option<String> {
    let tag = tag.trim();
    let shaped = !tag.is_empty()
        && tag.len() <= LANG_BYTES
        && tag.split('-').all(|part| (1..=8).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_alphanumeric()));
    shaped.then(|| tag.to_owned())
}

/// The child `name` in the stanza's own language, else the first (RFC 6121 §5.2.3).
fn in_default_lang<'a>(stanza: &'a Element, name: &str) -> Option<&'a Element> {
    let lang = stanza.get_attr("xml:lang");
    let all = || stanza.elements().filter(|child| child.is(name, &stanza.ns));
    all().find(|child| child.get_attr("xml:lang").is_none_or(|own| Some(own) == lang)).or_else(|| all().next())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PLAIN: Fields<'_> = Fields {
        content_type: Some(("text/plain", None)),
        boundary: None,
        html: Html::ToText,
        content_encoding: None,
        subject: None,
        content_language: None,
        call_id: None,
    };

    fn jid(text: &str) -> Jid {
        Jid::parse(text).unwrap()
    }
    fn refused(fields: Fields<'_>, body: &[u8]) -> (Reason, u16, Vec<(&'static str, String)>) {
        let reject = read_fields(fields, body, 65_536).unwrap_err();
        (reject.reason, reject.status, reject.headers)
    }

    #[test]
    fn a_body_arrives_byte_for_byte() {
        let body = "1 < 2 & \"quotes\" ]]> 'x'\r\n\tGood night — 私は行く \u{1F600}\u{10FFFD} \u{85}";
        let text = read_fields(PLAIN, body.as_bytes(), 65_536).unwrap();
        assert_eq!(text.body, body);
        let stanza = write_stanza(&text, &jid("a@h.example"), &jid("b@i.example"), "1");
        assert_eq!(read_element(&stanza, 65_536).unwrap().unwrap().body, body);
        assert_eq!(write_sip(&text, "r").unwrap().body, body);
    }

    #[test]
    fn charsets_that_are_utf_8_are_read() {
        for charset in [None, Some("UTF-8"), Some("utf-8"), Some("us-ascii")] {
            assert!(read_fields(Fields { content_type: Some(("text/plain", charset)), ..PLAIN }, b"x", 9).is_ok());
        }
        let accept = vec![("Accept", "text/plain, text/html, multipart/alternative".to_owned())];
        for content_type in [
            ("text/plain", Some("iso-8859-1")),
            ("text/html", Some("iso-8859-1")),
            ("message/cpim", None),
            ("multipart/alternative", None),
            ("text/x-msmsgsinvite", None),
            ("application/x-unknown", None),
        ] {
            let refusal = refused(Fields { content_type: Some(content_type), ..PLAIN }, b"x");
            assert_eq!(refusal, (Reason::Unsupported, 415, accept.clone()), "{content_type:?}");
        }
    }

    #[test]
    fn html_crosses_as_its_text_unless_the_entry_refuses_it() {
        let html = Fields { content_type: Some(("text/html", Some("UTF-8"))), ..PLAIN };
        assert_eq!(read_fields(html, b"<b>x</b> &amp; y", 99).unwrap().body, "x & y");
        let refusal = refused(Fields { html: Html::Refuse, ..html }, b"x");
        assert_eq!(refusal.2, [("Accept", "text/plain, multipart/alternative".to_owned())]);
        let multipart = Fields {
            content_type: Some(("multipart/alternative", None)),
            boundary: Some("b"),
            html: Html::Refuse,
            ..PLAIN
        };
        let both = b"--b\r\nContent-Type: text/html\r\n\r\n<i>x</i>\r\n--b\r\n\r\nplain\r\n--b--\r\n";
        assert_eq!(read_fields(multipart, both, 999).unwrap().body, "plain");
        assert_eq!(refused(multipart, b"--b\r\nContent-Type: text/html\r\n\r\n<i>x</i>\r\n--b--").1, 415);
        // A name of a character must not become one that XML can't carry.
        assert_eq!(refused(html, b"&#1;").1, 400);
    }

    #[test]
    fn what_cannot_be_carried_is_refused() {
        let gzip = refused(Fields { content_encoding: Some("gzip"), ..PLAIN }, b"x");
        assert_eq!(gzip, (Reason::Unsupported, 415, vec![("Accept-Encoding", "identity".to_owned())]));
        assert!(read_fields(Fields { content_encoding: Some("Identity"), ..PLAIN }, b"x", 9).is_ok());
        for bad in [&b"\xff\xfe"[..], b"caf\xe9", b"\xed\xa0\x80", b"a\0b", b"\x07", b"\x1b[1m", "\u{ffff}".as_bytes()]
        {
            assert_eq!(refused(PLAIN, bad), (Reason::Malformed, 400, vec![]), "{bad:?}");
        }
        assert_eq!(refused(Fields { content_type: None, ..PLAIN }, b"x").1, 400);
        let large = read_fields(PLAIN, b"0123456789", 9).unwrap_err();
        assert_eq!((large.reason, large.status), (Reason::TooLarge, 413));
        assert!(read_fields(PLAIN, b"012345678", 9).is_ok());
    }

    #[test]
    fn the_fields_cross_as_rfc_7572_maps_them() {
        let fields = Fields {
            subject: Some(" Hello there "),
            content_language: Some("cs-CZ, en"),
            call_id: Some("77d0-4410@198.51.100.61"),
            ..PLAIN
        };
        let text = read_fields(fields, b"x", 9).unwrap();
        let stanza = write_stanza(&text, &jid("romeo@h.example/r"), &jid("juliet@i.example"), "tx1");
        assert_eq!(stanza.get_attr("type"), None);
        assert_eq!(stanza.get_attr("from"), Some("romeo@h.example/r"));
        assert_eq!(stanza.get_attr("to"), Some("juliet@i.example"));
        assert_eq!(stanza.get_attr("id"), Some("tx1"));
        assert_eq!(stanza.get_attr("xml:lang"), Some("cs-CZ"));
        let said = |name: &str| stanza.find(name, NS).map(Element::content);
        assert_eq!(said("subject").as_deref(), Some("Hello there"));
        assert_eq!(said("thread").as_deref(), Some("77d0-4410@198.51.100.61"));
        let page = write_sip(&read_element(&stanza, 9).unwrap().unwrap(), "random").unwrap();
        assert_eq!(page.call_id, "77d0-4410@198.51.100.61");
        assert_eq!(page.headers, [("Subject", "Hello there".to_owned()), ("Content-Language", "cs-CZ".to_owned())]);
    }

    #[test]
    fn a_body_in_the_stanzas_language_is_chosen() {
        let body = |lang: Option<&str>, text: &str| {
            let body = Element::new("body", "jabber:client").text(text);
            lang.map(|lang| body.clone().attr("xml:lang", lang)).unwrap_or(body)
        };
        let message = || Element::new("message", "jabber:client");
        let read = |element: Element| {
            read_element(&element, 99).unwrap().map(|text| (text.body, text.lang.unwrap_or_default()))
        };
        let said = |text: &str, lang: &str| Some((text.to_owned(), lang.to_owned()));
        let two = message().child(body(Some("de"), "ja")).child(body(None, "yes"));
        assert_eq!(read(two.clone()), said("yes", ""));
        assert_eq!(read(two.clone().attr("xml:lang", "de")), said("ja", "de"));
        assert_eq!(read(message().child(body(Some("de"), "ja")).child(body(Some("fr"), "oui"))), said("ja", "de"));
        // A body of another namespace, or none, is nothing to carry: chat states, receipts, markers.
        let composing = Element::new("composing", "http://jabber.org/protocol/chatstates");
        assert_eq!(read(message().child(composing)), None);
        assert_eq!(read(message().child(Element::new("body", "http://www.w3.org/1999/xhtml").text("x"))), None);
        assert_eq!(read(message().child(body(None, ""))), None);
        assert_eq!(read_element(&message().child(body(None, "0123456789")), 9).unwrap_err().reason, Reason::TooLarge);
    }

    #[test]
    fn a_page_is_at_most_1300_bytes() {
        let text = |bytes: usize| Text { body: "x".repeat(bytes), ..Text::default() };
        assert_eq!(write_sip(&text(1300), "r").unwrap().body.len(), 1300);
        assert_eq!(write_sip(&text(1301), "r").unwrap_err().reason, Reason::TooLarge);
    }

    #[test]
    fn only_a_harmless_thread_becomes_a_call_id() {
        let call_id = |thread: &str| {
            write_sip(&Text { body: "x".into(), thread: Some(thread.into()), ..Text::default() }, "random")
                .unwrap()
                .call_id
        };
        let (longest, too_long) = ("x".repeat(128), "x".repeat(129));
        for good in ["e0ffe42b28561960c6b12b944a092794b9683a38", "a.b-c@d", "x", &longest] {
            assert_eq!(call_id(good), good);
        }
        for bad in ["", "a b", "a\r\nVia: x", "a@b@c", "a@", "@b", "a<b>", "é", "a\"b", &too_long] {
            assert_eq!(call_id(bad), "random", "{bad:?}");
        }
    }

    #[test]
    fn nothing_breaks_out_of_a_header() {
        let text = Text {
            body: "x".into(),
            subject: Some("a\r\nTo: evil\u{0}".into()),
            lang: Some("en\r\nX: y".into()),
            thread: None,
        };
        assert_eq!(write_sip(&text, "r").unwrap().headers, [("Subject", "a  To: evil".to_owned())]);
        let long = Text { subject: Some("ü".repeat(1000)), ..text };
        assert!(write_sip(&long, "r").unwrap().headers[0].1.len() <= SUBJECT_BYTES);
    }

    proptest! {
        #[test]
        fn texts_survive_both_protocols(body in r"[^\x00-\x08\x0b\x0c\x0e-\x1f\u{fffe}\u{ffff}]{1,60}", subject in proptest::option::of("[!-~]{1,20}"),
            thread in proptest::option::of("[a-z0-9.-]{1,40}"), lang in proptest::option::of("[a-z]{2}(-[A-Z]{2})?")) {
            let text = Text { body, subject, lang, thread };
            let stanza = write_stanza(&text, &jid("a@h.example"), &jid("b@i.example"), "1");
            prop_assert_eq!(read_element(&stanza, 65_536).unwrap(), Some(text.clone()));
            let page = write_sip(&text, "random").unwrap();
            let header = |name: &'static str| page.headers.iter().find(|(n, _)| *n == name).map(|(_, value)| value.as_str());
            let back = read_fields(Fields { subject: header("Subject"), content_language: header("Content-Language"),
                call_id: text.thread.as_ref().map(|_| page.call_id.as_str()), ..PLAIN }, page.body.as_bytes(), 65_536).unwrap();
            prop_assert_eq!(back, text);
        }

        #[test]
        fn hostile_bodies_never_panic(body in any::<Vec<u8>>(), line in any::<String>()) {
            let fields = Fields { subject: Some(&line), content_language: Some(&line), call_id: Some(&line), ..PLAIN };
            if let Ok(text) = read_fields(fields, &body, 65_536) {
                prop_assert_eq!(text.body.as_bytes(), body.as_slice());
                if let Ok(page) = write_sip(&text, "r") {
                    prop_assert!(page.headers.iter().all(|(_, value)| !value.contains(['\r', '\n', '\0'])));
                }
            }
        }
    }
}
