//! From text to [`Element`]: quick-xml's tokens and namespaces, and every check that it leaves to its caller: restricted XML (RFC 6120
//! §11.1), characters, names, white space between attributes, `<` in values, `]]>`, entities, duplicates after expansion, bounds.

use super::NS_XML;
use super::element::{Element, Node, Scope};
use super::lexis::{attributes, is_char, is_qname, is_text};
use super::stream::StreamError;
use crate::wire::limits::{XML_DEPTH, XML_NAMESPACES};
use quick_xml::XmlVersion;
use quick_xml::errors::Error;
use quick_xml::escape::{escape, resolve_predefined_entity};
use quick_xml::events::attributes::Attribute;
use quick_xml::events::{BytesStart, Event};
use quick_xml::name::{Namespace, NamespaceError, NamespaceResolver, PrefixDeclaration, QName, ResolveResult};
use quick_xml::reader::NsReader;
use std::borrow::Cow;

const NS_XMLNS: &str = "http://www.w3.org/2000/xmlns/";

/// Whether a text is one whole element with nothing but white space around it: exactly what [`element`] takes, at less cost. Gives the element
/// itself, without what is in it.
pub(super) fn check(text: &[u8], scope: &Scope) -> Result<Element, StreamError> {
    let mut reader = reader(text, scope)?;
    let mut depth = 0_usize;
    let mut root = None;
    loop {
        match reader.read_event().map_err(refusal)? {
            Event::Start(tag) => {
                check_start(&reader, &tag, depth, &mut root)?;
                depth += 1;
            }
            Event::Empty(tag) => check_start(&reader, &tag, depth, &mut root)?,
            Event::End(_) => depth = depth.checked_sub(1).ok_or(StreamError::NotWellFormed)?,
            Event::Text(text) => {
                if text.contains("]]>") || !is_text(&text) {
                    return Err(StreamError::NotWellFormed);
                }
                if depth == 0 && !text.chars().all(|c| super::lexis::SPACE.contains(&c)) {
                    return Err(StreamError::NotWellFormed);
                }
            }
            Event::CData(text) => {
                if depth == 0 || !is_text(&text) {
                    return Err(StreamError::NotWellFormed);
                }
            }
            Event::GeneralRef(reference) => {
                if depth == 0 {
                    return Err(StreamError::NotWellFormed);
                }
                match reference.resolve_char_ref().map_err(refusal)? {
                    Some(c) if !is_char(c) => return Err(StreamError::NotWellFormed),
                    Some(_) => {}
                    // RFC 6120 §11.1: no entities but the predefined ones.
                    None => {
                        resolve_predefined_entity(&reference).ok_or(StreamError::RestrictedXml)?;
                    }
                }
            }
            Event::Decl(_) | Event::PI(_) | Event::DocType(_) | Event::Comment(_) => {
                return Err(StreamError::RestrictedXml);
            }
            Event::Eof => break,
        }
    }
    if depth == 0 { root.ok_or(StreamError::NotWellFormed) } else { Err(StreamError::NotWellFormed) }
}

/// As [`start`], of which only the first is kept.
fn check_start(
    reader: &NsReader<&[u8]>,
    tag: &BytesStart<'_>,
    depth: usize,
    root: &mut Option<Element>,
) -> Result<(), StreamError> {
    if depth == 0 {
        let element = start(reader, tag, depth, root.is_some())?;
        *root = Some(element);
        return Ok(());
    }
    let raw = tag.attributes_raw();
    // Prefixes and references are the exception: then the long way says what is right.
    if raw.contains([':', '&']) || tag.name().as_ref().contains(':') {
        return start(reader, tag, depth, false).map(drop);
    }
    if depth >= XML_DEPTH {
        return Err(StreamError::PolicyViolation);
    }
    if !is_qname(tag.name().as_ref()) {
        return Err(StreamError::NotWellFormed);
    }
    for (name, value) in attributes(raw)? {
        if !is_text(value) {
            return Err(StreamError::NotWellFormed);
        }
        if name == "xmlns" && (value == NS_XML || value == NS_XMLNS) {
            return Err(StreamError::BadNamespacePrefix);
        }
    }
    Ok(())
}

/// One whole element with nothing but white space around it.
pub(super) fn element(text: &[u8], scope: &Scope) -> Result<Element, StreamError> {
    let mut reader = reader(text, scope)?;
    let mut open: Vec<Element> = Vec::new();
    let mut root = None;
    loop {
        match reader.read_event().map_err(refusal)? {
            Event::Start(tag) => open.push(start(&reader, &tag, open.len(), root.is_some())?),
            Event::Empty(tag) => {
                let element = start(&reader, &tag, open.len(), root.is_some())?;
                close(element, &mut open, &mut root);
            }
            Event::End(_) => {
                let element = open.pop().ok_or(StreamError::NotWellFormed)?;
                close(element, &mut open, &mut root);
            }
            Event::Text(text) => {
                if text.contains("]]>") {
                    return Err(StreamError::NotWellFormed);
                }
                append(&text.xml10_content(), &mut open)?;
            }
            Event::CData(text) => {
                if open.is_empty() {
                    return Err(StreamError::NotWellFormed);
                }
                append(&text.xml10_content(), &mut open)?;
            }
            Event::GeneralRef(reference) => {
                if open.is_empty() {
                    return Err(StreamError::NotWellFormed);
                }
                match reference.resolve_char_ref().map_err(refusal)? {
                    Some(c) => append(c.encode_utf8(&mut [0; 4]), &mut open)?,
                    // RFC 6120 §11.1: no entities but the predefined ones.
                    None => {
                        let text = resolve_predefined_entity(&reference).ok_or(StreamError::RestrictedXml)?;
                        append(text, &mut open)?;
                    }
                }
            }
            Event::Decl(_) | Event::PI(_) | Event::DocType(_) | Event::Comment(_) => {
                return Err(StreamError::RestrictedXml);
            }
            Event::Eof => break,
        }
    }
    if open.is_empty() { root.ok_or(StreamError::NotWellFormed) } else { Err(StreamError::NotWellFormed) }
}

/// A start tag alone, as a stream header is: its name as written, the element, the declarations that it makes.
pub(super) fn header(text: &[u8]) -> Result<(String, Element, Scope), StreamError> {
    let mut reader = reader(text, &Scope::default())?;
    let Event::Start(tag) = reader.read_event().map_err(refusal)? else {
        return Err(StreamError::NotWellFormed);
    };
    let element = start(&reader, &tag, 0, false)?;
    let mut scope = Scope::default();
    for (name, uri) in attributes(tag.attributes_raw())? {
        if name == "xmlns" {
            scope.default_ns = value(uri)?;
        } else if let Some(prefix) = name.strip_prefix("xmlns:") {
            scope.prefixes.push((prefix.to_owned(), value(uri)?));
        }
    }
    Ok((tag.name().as_ref().to_owned(), element, scope))
}

fn reader<'a>(text: &'a [u8], scope: &Scope) -> Result<NsReader<&'a [u8]>, StreamError> {
    // RFC 6120 §4.9.3.22: bytes that are not UTF-8 are an encoding that is not supported.
    let text = std::str::from_utf8(text).map_err(|_| StreamError::UnsupportedEncoding)?;
    if text.starts_with('\u{FEFF}') {
        return Err(StreamError::NotWellFormed);
    }
    let mut reader = NsReader::from_str(text);
    let resolver = reader.resolver_mut();
    resolver.set_max_namespace_bindings(XML_NAMESPACES);
    let refused = |_| StreamError::BadNamespacePrefix;
    // The resolver keeps namespaces as they are written, hence escaped.
    if !scope.default_ns.is_empty() {
        resolver.add(PrefixDeclaration::Default, Namespace(&escape(scope.default_ns.as_str()))).map_err(refused)?;
    }
    for (prefix, uri) in &scope.prefixes {
        resolver.add(PrefixDeclaration::Named(prefix), Namespace(&escape(uri.as_str()))).map_err(refused)?;
    }
    Ok(reader)
}

/// A tag as an element still without children; `depth` elements are open around it.
fn start(
    reader: &NsReader<&[u8]>,
    tag: &BytesStart<'_>,
    depth: usize,
    after_root: bool,
) -> Result<Element, StreamError> {
    if after_root {
        return Err(StreamError::NotWellFormed);
    }
    if depth >= XML_DEPTH {
        return Err(StreamError::PolicyViolation);
    }
    let resolver = reader.resolver();
    let qname = tag.name();
    if !is_qname(qname.as_ref()) {
        return Err(StreamError::NotWellFormed);
    }
    let (ns, name) = expand(resolver, qname, true)?;
    if ns == NS_XMLNS {
        return Err(StreamError::BadNamespacePrefix);
    }
    let mut element = Element { name, ns, ..Element::default() };
    let mut expanded = Vec::new();
    for (name, text) in attributes(tag.attributes_raw())? {
        let value = value(text)?;
        match name.split_once(':') {
            None if name == "xmlns" => {
                if value == NS_XML || value == NS_XMLNS {
                    return Err(StreamError::BadNamespacePrefix);
                }
                continue;
            }
            // Namespaces in XML 1.0 §5: a prefix can't be undeclared.
            Some(("xmlns", prefix)) => {
                if value.is_empty() || (value == NS_XML && prefix != "xml") || value == NS_XMLNS {
                    return Err(StreamError::BadNamespacePrefix);
                }
                continue;
            }
            None => {}
            Some((prefix, _)) => {
                let (ns, local) = expand(resolver, QName(name), false)?;
                if prefix != "xml" && !element.prefixes.iter().any(|(declared, _)| declared == prefix) {
                    element.prefixes.push((prefix.to_owned(), ns.clone()));
                }
                expanded.push((ns, local));
            }
        }
        element.attrs.push((name.to_owned(), value));
    }
    // Namespaces in XML 1.0 §6.3: two prefixes of one namespace do not make two attributes.
    expanded.sort_unstable();
    if expanded.windows(2).any(|pair| pair.first() == pair.last()) {
        return Err(StreamError::NotWellFormed);
    }
    Ok(element)
}

fn expand(resolver: &NamespaceResolver, name: QName<'_>, use_default: bool) -> Result<(String, String), StreamError> {
    let (resolved, local) = resolver.resolve(name, use_default);
    let ns = match resolved {
        ResolveResult::Bound(Namespace(ns)) => value(ns)?,
        ResolveResult::Unbound => String::new(),
        ResolveResult::Unknown(_) => return Err(StreamError::BadNamespacePrefix),
    };
    Ok((ns, local.as_ref().to_owned()))
}

/// An attribute's value: references resolved, white space normalised (XML 1.0 §3.3.3).
fn value(text: &str) -> Result<String, StreamError> {
    let value = Attribute { key: QName("value"), value: Cow::Borrowed(text) }
        .normalized_value(XmlVersion::Explicit1_0)
        .map_err(refusal)?;
    if is_text(&value) { Ok(value.into_owned()) } else { Err(StreamError::NotWellFormed) }
}

fn close(element: Element, open: &mut [Element], root: &mut Option<Element>) {
    match open.last_mut() {
        Some(parent) => parent.children.push(Node::Element(element)),
        None => *root = Some(element),
    }
}

fn append(text: &str, open: &mut [Element]) -> Result<(), StreamError> {
    if !is_text(text) {
        return Err(StreamError::NotWellFormed);
    }
    match open.last_mut() {
        Some(parent) => {
            if let Some(Node::Text(before)) = parent.children.last_mut() {
                before.push_str(text);
            } else if !text.is_empty() {
                parent.children.push(Node::Text(text.to_owned()));
            }
            Ok(())
        }
        None if text.chars().all(|c| super::lexis::SPACE.contains(&c)) => Ok(()),
        None => Err(StreamError::NotWellFormed),
    }
}

fn refusal(error: Error) -> StreamError {
    use quick_xml::escape::EscapeError;
    match error {
        Error::Namespace(NamespaceError::TooManyBindings(_)) => StreamError::PolicyViolation,
        Error::Namespace(_) => StreamError::BadNamespacePrefix,
        Error::Encoding(_) => StreamError::UnsupportedEncoding,
        Error::Escape(EscapeError::UnrecognizedEntity(..)) => StreamError::RestrictedXml,
        _ => StreamError::NotWellFormed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::xmpp::NS_SERVER;
    use proptest::prelude::*;
    use rxml::Parse;

    fn parse(text: &str) -> Result<Element, StreamError> {
        Element::parse(text.as_bytes(), NS_SERVER)
    }

    /// Whether rxml, wrapped into the same scope, takes the text as exactly one element.
    fn rxml_accepts(text: &str) -> bool {
        let document = format!("<stream xmlns='{NS_SERVER}'>{text}</stream>");
        let mut bytes = document.as_bytes();
        let mut parser = rxml::Parser::new();
        loop {
            match parser.parse(&mut bytes, true) {
                Ok(Some(_)) => {}
                Ok(None) => return true,
                Err(_) => return false,
            }
        }
    }

    #[test]
    fn the_oracle_refuses_too() {
        for text in ["<1a/>", "<a>", "<a b='<'/>", "<a>&e;</a>", "<a>\u{1}</a>", "<x:a/>", "<!-- x -->"] {
            assert!(!rxml_accepts(text), "{text}");
        }
        assert!(rxml_accepts("<a b='c'>x<d/></a>"));
    }

    #[test]
    fn text_is_joined_and_unescaped() {
        let element = parse("<a>1 &lt; 2 &amp; &#x1F600;<![CDATA[<&>]]>\r\n&#13;</a>").unwrap();
        assert_eq!(element.children, vec![Node::Text("1 < 2 & \u{1F600}<&>\n\r".into())]);
    }

    #[test]
    fn namespaces_are_resolved() {
        let element = parse("<a x:y='1' xml:lang='de' xmlns:x='urn:x&amp;y'><x:b/><c xmlns=''/></a>").unwrap();
        assert_eq!(element.ns, NS_SERVER);
        assert_eq!(element.attrs, vec![("x:y".into(), "1".into()), ("xml:lang".into(), "de".into())]);
        assert_eq!(element.prefixes, vec![("x".into(), "urn:x&y".into())]);
        assert!(element.find("b", "urn:x&y").is_some());
        assert!(element.find("c", "").is_some());
        assert_eq!(parse(&element.print(NS_SERVER)), Ok(element));
    }

    #[test]
    fn what_the_header_declares_is_in_force() {
        let scope = Scope { default_ns: NS_SERVER.into(), prefixes: vec![("d".into(), "urn:d".into())] };
        assert!(Element::parse_in(b"<d:x/>", &scope).unwrap().is("x", "urn:d"));
        assert_eq!(parse("<d:x/>"), Err(StreamError::BadNamespacePrefix));
    }

    #[test]
    fn what_is_not_xml_is_refused() {
        use StreamError as E;
        let cases = [
            ("<a>", E::NotWellFormed),
            ("</a>", E::NotWellFormed),
            ("<a></b>", E::NotWellFormed),
            ("<a/><b/>", E::NotWellFormed),
            ("x<a/>", E::NotWellFormed),
            ("<a/>&#32;", E::NotWellFormed),
            ("<![CDATA[ ]]><a/>", E::NotWellFormed),
            ("", E::NotWellFormed),
            ("\u{FEFF}<a/>", E::NotWellFormed),
            ("<1a/>", E::NotWellFormed),
            ("<a:b:c/>", E::NotWellFormed),
            ("<a\u{1}/>", E::NotWellFormed),
            ("<a>\u{1}</a>", E::NotWellFormed),
            ("<a>\u{FFFF}</a>", E::NotWellFormed),
            ("<a><![CDATA[\u{1}]]></a>", E::NotWellFormed),
            ("<a>&#1;</a>", E::NotWellFormed),
            ("<a>&#0;</a>", E::NotWellFormed),
            ("<a>&#xD800;</a>", E::NotWellFormed),
            ("<a>&#+65;</a>", E::NotWellFormed),
            ("<a>&#X41;</a>", E::NotWellFormed),
            ("<a b='&#1;'/>", E::NotWellFormed),
            ("<a b='\u{1}'/>", E::NotWellFormed),
            ("<a>&</a>", E::NotWellFormed),
            ("<a>]]></a>", E::NotWellFormed),
            ("<a b='<'/>", E::NotWellFormed),
            ("<a b='1'c='2'/>", E::NotWellFormed),
            ("<a b=1/>", E::NotWellFormed),
            ("<a b/>", E::NotWellFormed),
            ("<a b='1' b='2'/>", E::NotWellFormed),
            ("<a x:b='1' y:b='2' xmlns:x='u' xmlns:y='u'/>", E::NotWellFormed),
            ("<a xmlns:x='u' xmlns:x='u'/>", E::NotWellFormed),
            ("<a>&e;</a>", E::RestrictedXml),
            ("<a b='&e;'/>", E::RestrictedXml),
            ("<a><!-- --></a>", E::RestrictedXml),
            ("<a><?p?></a>", E::RestrictedXml),
            ("<?xml version='1.0'?><a/>", E::RestrictedXml),
            ("<!DOCTYPE a><a/>", E::RestrictedXml),
            ("<x:a/>", E::BadNamespacePrefix),
            ("<a x:b=''/>", E::BadNamespacePrefix),
            ("<xmlns:a/>", E::BadNamespacePrefix),
            ("<a xmlns:x=''/>", E::BadNamespacePrefix),
            ("<a xmlns:xml='u'/>", E::BadNamespacePrefix),
            ("<a xmlns:xmlns='u'/>", E::BadNamespacePrefix),
            ("<a xmlns:x='http://www.w3.org/XML/1998/namespace'/>", E::BadNamespacePrefix),
            ("<a xmlns='http://www.w3.org/XML/1998/namespace'/>", E::BadNamespacePrefix),
            ("<a xmlns='http://www.w3.org/2000/xmlns/'/>", E::BadNamespacePrefix),
        ];
        for (text, error) in cases {
            assert_eq!(parse(text), Err(error), "{text}");
            assert_eq!(check(text.as_bytes(), &Scope::of(NS_SERVER)), Err(error), "{text}");
        }
        assert_eq!(Element::parse(b"<a>\xff</a>", NS_SERVER), Err(E::UnsupportedEncoding));
    }

    #[test]
    fn depth_and_namespaces_are_bounded() {
        let nested = |depth: usize| format!("{}{}", "<a>".repeat(depth), "</a>".repeat(depth));
        assert!(parse(&nested(XML_DEPTH)).is_ok());
        for text in [nested(XML_DEPTH), nested(XML_DEPTH + 1)] {
            let checked = check(text.as_bytes(), &Scope::of(NS_SERVER));
            assert_eq!(checked.err(), parse(&text).err());
        }
        assert_eq!(parse(&nested(XML_DEPTH + 1)), Err(StreamError::PolicyViolation));
        let declared: String = (0..=XML_NAMESPACES).map(|i| format!(" xmlns:p{i}='u'")).collect();
        assert_eq!(parse(&format!("<a{declared}/>")), Err(StreamError::PolicyViolation));
    }

    #[test]
    fn what_xml_forbids_is_printed_as_a_replacement() {
        let element = Element::new("a", NS_SERVER).attr("b", "\u{0}\t'\"").text("\u{1}\u{FFFE}<\r");
        let text = element.print(NS_SERVER);
        assert_eq!(text, "<a b='\u{FFFD}&#9;&apos;&quot;'>\u{FFFD}\u{FFFD}&lt;&#13;</a>");
        assert!(rxml_accepts(&text));
    }

    #[test]
    fn the_xml_prefix_is_never_a_default() {
        let element = parse("<a><xml:b/></a>").unwrap();
        assert_eq!(element.print(NS_SERVER), "<a><xml:b/></a>");
    }

    fn tree() -> impl Strategy<Value = Element> {
        let name = "[a-zA-Z_\u{C0}-\u{D6}][a-zA-Z0-9._\u{B7}-]{0,4}";
        let ns = prop_oneof![Just(""), Just(NS_SERVER), Just("urn:x"), Just("urn:a&b'\"<>")];
        let attrs = prop::collection::btree_map(
            prop_oneof![name, Just("xml:lang".to_owned()), Just("p:q".to_owned())],
            ".{0,6}",
            0..4,
        );
        let leaf = (name, ns, attrs, prop::option::of(".{1,6}")).prop_map(|(name, ns, attrs, text)| {
            let prefixed = attrs.contains_key("p:q");
            let element = Element {
                name,
                ns: ns.to_owned(),
                attrs: attrs.into_iter().filter(|(name, _)| name != "xmlns").collect(),
                prefixes: prefixed.then(|| ("p".to_owned(), "urn:p".to_owned())).into_iter().collect(),
                children: Vec::new(),
            };
            match text {
                Some(text) => element.text(&text),
                None => element,
            }
        });
        leaf.prop_recursive(4, 24, 4, |inner| {
            (inner.clone(), prop::collection::vec(inner, 0..4))
                .prop_map(|(outer, children)| children.into_iter().fold(outer, Element::child))
        })
    }

    /// As it reads after printing: what XML forbids is replaced.
    fn printable(mut element: Element) -> Element {
        let clean = |text: &str| text.chars().map(|c| if is_char(c) { c } else { '\u{FFFD}' }).collect::<String>();
        element.attrs.iter_mut().for_each(|(_, value)| *value = clean(value));
        element.children = element
            .children
            .into_iter()
            .map(|child| match child {
                Node::Element(child) => Node::Element(printable(child)),
                Node::Text(text) => Node::Text(clean(&text)),
            })
            .collect();
        element
    }

    proptest! {
        #[test]
        fn printing_then_parsing_is_the_identity(element in tree()) {
            let text = element.print(NS_SERVER);
            prop_assert_eq!(parse(&text), Ok(printable(element)), "{}", text);
            prop_assert!(rxml_accepts(&text));
        }

        #[test]
        fn checking_says_what_parsing_says(element in tree()) {
            let text = element.print(NS_SERVER);
            let scope = Scope::of(NS_SERVER);
            let whole = parse(&text).map(|element| Element { children: Vec::new(), ..element });
            prop_assert_eq!(check(text.as_bytes(), &scope), whole);
        }

        #[test]
        fn nothing_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Element::parse(&bytes, NS_SERVER);
        }

        /// Text made of what markup is made of, so that much of it is nearly well-formed.
        #[test]
        fn rxml_accepts_what_we_accept(
            parts in prop::collection::vec(prop::sample::select(vec![
                "<", ">", "/", "a", "b", ":", " ", "\t", "=", "'", "\"", "x", "xmlns", "xml", "&", ";", "#", "amp", "lt", "65",
                "x41", "]]>", "<![CDATA[", "<!--", "-->", "<?", "?>", "!", "\u{1}", "\u{FFFE}", "\u{E9}", "\r", "\n", "1",
                "<a>", "</a>", "<a/>", "<a b='", "<x:a xmlns:x='u'>", "</x:a>", " c='d'", "<b xmlns='v'", " x:c=''",
            ]), 0..14)
        ) {
            let text: String = parts.concat();
            for text in [text.clone(), format!("<a>{text}</a>"), format!("<a {text}/>")] {
                let parsed = parse(&text);
                if parsed.is_ok() {
                    prop_assert!(rxml_accepts(&text), "{}", text);
                }
                let checked = check(text.as_bytes(), &Scope::of(NS_SERVER));
                prop_assert_eq!(checked.err(), parsed.err(), "{}", text);
            }
        }
    }
}
