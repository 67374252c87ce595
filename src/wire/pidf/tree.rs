//! A presence body as a tree of elements with resolved namespaces, within bounds.

use super::BadDocument;
use quick_xml::events::{BytesStart, Event};
use quick_xml::name::{NamespaceResolver, ResolveResult};
use quick_xml::reader::NsReader;
use quick_xml::{XmlVersion, escape};

/// Nesting of elements; PIDF with RPID needs six.
const DEPTH: usize = 16;
/// Elements of one document.
const ELEMENTS: usize = 20_000;
/// Attributes of one element.
const ATTRIBUTES: usize = 64;

/// An element.
#[derive(Debug, Default)]
pub(super) struct Element {
    pub(super) ns: String,
    pub(super) name: String,
    /// Attributes without namespace by their name, `xml:lang` as that; others are left out, nobody here reads them but `xsi:type`,
    /// which is kept as `type`.
    attrs: Vec<(String, String)>,
    pub(super) children: Vec<Element>,
    /// All character data directly inside.
    pub(super) text: String,
}

impl Element {
    pub(super) fn is(&self, name: &str, ns: &str) -> bool {
        self.name == name && self.ns == ns
    }
    pub(super) fn attr(&self, name: &str) -> Option<&str> {
        self.attrs.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }
    pub(super) fn all<'a>(&'a self, name: &'a str, ns: &'a str) -> impl Iterator<Item = &'a Element> {
        self.children.iter().filter(move |child| child.is(name, ns))
    }
    pub(super) fn find(&self, name: &str, ns: &str) -> Option<&Element> {
        self.children.iter().find(|child| child.is(name, ns))
    }
}

/// Parses a whole document. Refuses what a presence body has no use for and an attacker has: DOCTYPE, entities beyond the five, processing
/// instructions, encodings other than UTF-8. Comments are passed over.
pub(super) fn parse(body: &[u8]) -> Result<Element, BadDocument> {
    let text = std::str::from_utf8(body).map_err(|_| BadDocument::Xml)?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if !text.chars().all(is_xml_char) {
        return Err(BadDocument::Xml);
    }
    let mut reader = NsReader::from_str(text);
    reader.config_mut().check_comments = true;
    let mut open: Vec<Element> = Vec::new();
    let mut root: Option<Element> = None;
    let mut elements = 0;
    let mut first = true;
    loop {
        let event = reader.read_event().map_err(|_| BadDocument::Xml)?;
        match event {
            Event::Start(ref tag) | Event::Empty(ref tag) => {
                elements += 1;
                if open.len() >= DEPTH || elements > ELEMENTS {
                    return Err(BadDocument::TooLarge);
                }
                if root.is_some() {
                    return Err(BadDocument::Xml);
                }
                let element = element(tag, reader.resolver())?;
                open.push(element);
                if matches!(event, Event::Empty(_)) {
                    close(&mut open, &mut root);
                }
            }
            Event::End(_) => close(&mut open, &mut root),
            Event::Text(text) => {
                let text = text.xml10_content();
                if text.contains("]]>") {
                    return Err(BadDocument::Xml);
                }
                push(&mut open, &text)?;
            }
            Event::CData(text) => {
                if open.is_empty() {
                    return Err(BadDocument::Xml);
                }
                push(&mut open, &text.xml10_content())?;
            }
            Event::GeneralRef(reference) => {
                let name = reference.xml10_content();
                let c = match reference.resolve_char_ref().map_err(|_| BadDocument::Xml)? {
                    Some(c) if is_xml_char(c) => c.to_string(),
                    Some(_) => return Err(BadDocument::Xml),
                    None => escape::resolve_xml_entity(&name).ok_or(BadDocument::Xml)?.to_owned(),
                };
                if open.is_empty() {
                    return Err(BadDocument::Xml);
                }
                push(&mut open, &c)?;
            }
            Event::Decl(declaration) => {
                let encoding = declaration.encoding().transpose().map_err(|_| BadDocument::Xml)?;
                let known = encoding
                    .is_none_or(|name| name.eq_ignore_ascii_case("utf-8") || name.eq_ignore_ascii_case("us-ascii"));
                if !first || !known {
                    return Err(BadDocument::Xml);
                }
            }
            Event::Comment(_) => {}
            Event::PI(_) | Event::DocType(_) => return Err(BadDocument::Xml),
            Event::Eof => break,
        }
        first = false;
    }
    if !open.is_empty() {
        return Err(BadDocument::Xml);
    }
    root.ok_or(BadDocument::Xml)
}

/// Whether XML 1.0 §2.2 allows the character at all.
pub fn is_xml_char(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..='\u{10ffff}')
}

fn element(tag: &BytesStart<'_>, names: &NamespaceResolver) -> Result<Element, BadDocument> {
    let (ns, name) = names.resolve_element(tag.name());
    let ns = match ns {
        ResolveResult::Bound(ns) => ns.as_ref().to_owned(),
        ResolveResult::Unbound => String::new(),
        ResolveResult::Unknown(_) => return Err(BadDocument::Xml),
    };
    let mut element = Element { ns, name: name.as_ref().to_owned(), ..Element::default() };
    for (count, attribute) in tag.attributes().enumerate() {
        let attribute = attribute.map_err(|_| BadDocument::Xml)?;
        if count >= ATTRIBUTES {
            return Err(BadDocument::TooLarge);
        }
        let name = attribute.key.as_ref();
        let kept = match name.split_once(':') {
            None if name != "xmlns" => name,
            Some(("xml", "lang")) => name,
            Some((_, "type")) => "type",
            _ => continue,
        };
        let value = attribute.normalized_value(XmlVersion::Explicit1_0).map_err(|_| BadDocument::Xml)?;
        if !value.chars().all(is_xml_char) {
            return Err(BadDocument::Xml);
        }
        element.attrs.push((kept.to_owned(), value.into_owned()));
    }
    Ok(element)
}

fn close(open: &mut Vec<Element>, root: &mut Option<Element>) {
    let Some(done) = open.pop() else { return };
    match open.last_mut() {
        Some(parent) => parent.children.push(done),
        None => *root = Some(done),
    }
}

fn push(open: &mut [Element], text: &str) -> Result<(), BadDocument> {
    match open.last_mut() {
        Some(element) => element.text.push_str(text),
        None if text.chars().all(char::is_whitespace) => {}
        None => return Err(BadDocument::Xml),
    }
    Ok(())
}
