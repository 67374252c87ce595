//! A small owned element tree: what is needed to read and write stanzas that are translated.

use super::lexis::is_char;
use super::stream::StreamError;
use super::{NS_DIALBACK, NS_SERVER, NS_STREAMS, NS_XML};

/// An XML element with resolved namespaces.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Element {
    /// Local name.
    pub name: String,
    /// Namespace URI.
    pub ns: String,
    /// Attributes: (local name or `xml:lang`-style prefixed name, value), in order. `xmlns` declarations are not attributes.
    pub attrs: Vec<(String, String)>,
    /// What the prefixes of this element's attributes mean: (prefix, namespace URI). `xml` needs no entry; an attribute whose
    /// prefix has none is not printed.
    pub prefixes: Vec<(String, String)>,
    /// Children in order.
    pub children: Vec<Node>,
}

/// A child of an element.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// A child element.
    Element(Element),
    /// Character data, unescaped.
    Text(String),
}

/// The namespace declarations in force around an element: those of its stream's header (RFC 6120 §4.8).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scope {
    /// The default namespace; empty if none is declared.
    pub default_ns: String,
    /// (prefix, namespace URI)
    pub prefixes: Vec<(String, String)>,
}

impl Scope {
    /// A default namespace and no prefixes.
    pub fn of(default_ns: &str) -> Self {
        Self { default_ns: default_ns.into(), prefixes: Vec::new() }
    }
    /// Whether a namespace is declared, as default or under any prefix.
    pub fn declares(&self, ns: &str) -> bool {
        self.default_ns == ns || self.prefixes.iter().any(|(_, uri)| uri == ns)
    }
}

impl Element {
    /// Parses one whole element with every check that quick-xml leaves out. `default_ns`: the stream's.
    pub fn parse(text: &[u8], default_ns: &str) -> Result<Self, StreamError> {
        super::parse::element(text, &Scope::of(default_ns))
    }
    /// As [`Element::parse`], where the header declared prefixes too.
    pub fn parse_in(text: &[u8], scope: &Scope) -> Result<Self, StreamError> {
        super::parse::element(text, scope)
    }
    /// What [`Element::parse`] would say of a text, and the element itself without what is in it.
    pub(super) fn check(text: &[u8], default_ns: &str) -> Result<Self, StreamError> {
        super::parse::check(text, &Scope::of(default_ns))
    }
    /// Itself, without what is in it.
    pub(super) fn alone(&self) -> Self {
        Self {
            children: Vec::new(),
            name: self.name.clone(),
            ns: self.ns.clone(),
            attrs: self.attrs.clone(),
            prefixes: self.prefixes.clone(),
        }
    }
    /// An empty element.
    pub fn new(name: &str, ns: &str) -> Self {
        Self { name: name.into(), ns: ns.into(), ..Self::default() }
    }
    /// With an attribute.
    pub fn attr(mut self, name: &str, value: &str) -> Self {
        self.attrs.push((name.into(), value.into()));
        self
    }
    /// With an attribute if there is a value.
    pub fn attr_if(self, name: &str, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.attr(name, value),
            None => self,
        }
    }
    /// With a child element.
    pub fn child(mut self, child: Element) -> Self {
        self.children.push(Node::Element(child));
        self
    }
    /// With character data.
    pub fn text(mut self, text: &str) -> Self {
        if !text.is_empty() {
            self.children.push(Node::Text(text.into()));
        }
        self
    }
    /// An attribute's value.
    pub fn get_attr(&self, name: &str) -> Option<&str> {
        self.attrs.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }
    /// `xml:lang`, of this element alone.
    pub fn lang(&self) -> Option<&str> {
        self.get_attr("xml:lang")
    }
    /// Whether this is `{ns}name`.
    pub fn is(&self, name: &str, ns: &str) -> bool {
        self.name == name && self.ns == ns
    }
    /// The first child element `{ns}name`.
    pub fn find(&self, name: &str, ns: &str) -> Option<&Element> {
        self.elements().find(|e| e.is(name, ns))
    }
    /// Child elements.
    pub fn elements(&self) -> impl Iterator<Item = &Element> {
        self.children.iter().filter_map(|n| match n {
            Node::Element(e) => Some(e),
            Node::Text(_) => None,
        })
    }
    /// All character data directly inside.
    pub fn content(&self) -> String {
        let text = self.children.iter().filter_map(|n| match n {
            Node::Element(_) => None,
            Node::Text(text) => Some(text.as_str()),
        });
        text.collect()
    }
    /// Moves every element of one namespace into another: a content namespace says on which kind of stream an element travels, not what
    /// it means (RFC 6120 §4.8.3).
    pub fn move_namespace(&mut self, from: &str, to: &str) {
        let mut open = vec![self];
        while let Some(element) = open.pop() {
            if element.ns == from {
                to.clone_into(&mut element.ns);
            }
            open.extend(element.children.iter_mut().filter_map(|node| match node {
                Node::Element(child) => Some(child),
                Node::Text(_) => None,
            }));
        }
    }
    /// Prints it, declaring `xmlns` wherever the namespace differs from the parent's; `parent_ns` is the stream's default namespace.
    /// Characters XML 1.0 forbids are replaced by U+FFFD.
    pub fn print(&self, parent_ns: &str) -> String {
        let mut out = String::new();
        self.write(&mut out, parent_ns, None);
        out
    }
    /// Prints it as a child of a server stream that [`super::StreamHeader::print`] opened: the prefixes `stream` and `db` are in force, and
    /// some servers know stream-level elements by nothing else (XEP-0220 §2, RFC 6120 §4.8.5).
    pub fn print_on_stream(&self) -> String {
        let mut out = String::new();
        let prefix = match self.ns.as_str() {
            NS_STREAMS => Some("stream"),
            NS_DIALBACK => Some("db"),
            _ => None,
        };
        self.write(&mut out, NS_SERVER, prefix);
        out
    }

    fn write(&self, out: &mut String, parent_ns: &str, prefix: Option<&str>) {
        // The `xml` namespace may never be a default namespace.
        let prefix = if self.ns == NS_XML { Some("xml") } else { prefix };
        out.push('<');
        self.write_name(out, prefix);
        let inner_ns = if prefix.is_some() { parent_ns } else { self.ns.as_str() };
        if inner_ns != parent_ns {
            write_attribute(out, "xmlns", inner_ns);
        }
        for (name, uri) in &self.prefixes {
            out.push_str(" xmlns:");
            write_pair(out, name, uri);
        }
        for (name, value) in &self.attrs {
            let known = match name.split_once(':') {
                None | Some(("xml", _)) => true,
                Some((prefix, _)) => self.prefixes.iter().any(|(declared, _)| declared == prefix),
            };
            if known {
                write_attribute(out, name, value);
            }
        }
        if self.children.is_empty() {
            out.push_str("/>");
            return;
        }
        out.push('>');
        for child in &self.children {
            match child {
                Node::Element(child) => child.write(out, inner_ns, None),
                Node::Text(text) => write_text(out, text),
            }
        }
        out.push_str("</");
        self.write_name(out, prefix);
        out.push('>');
    }

    fn write_name(&self, out: &mut String, prefix: Option<&str>) {
        if let Some(prefix) = prefix {
            out.push_str(prefix);
            out.push(':');
        }
        out.push_str(&self.name);
    }
}

/// ` name='value'`
pub(super) fn write_attribute(out: &mut String, name: &str, value: &str) {
    out.push(' ');
    write_pair(out, name, value);
}

fn write_pair(out: &mut String, name: &str, value: &str) {
    out.push_str(name);
    out.push_str("='");
    for c in value.chars() {
        match c {
            '\'' => out.push_str("&apos;"),
            '"' => out.push_str("&quot;"),
            // XML 1.0 §3.3.3: white space in an attribute is read as a space unless it is a reference.
            '\t' => out.push_str("&#9;"),
            '\n' => out.push_str("&#10;"),
            c => write_char(out, c),
        }
    }
    out.push('\'');
}

fn write_text(out: &mut String, text: &str) {
    for c in text.chars() {
        write_char(out, c);
    }
}

fn write_char(out: &mut String, c: char) {
    match c {
        '&' => out.push_str("&amp;"),
        '<' => out.push_str("&lt;"),
        '>' => out.push_str("&gt;"),
        // XML 1.0 §2.11: a bare CR is read as LF.
        '\r' => out.push_str("&#13;"),
        c if is_char(c) => out.push(c),
        _ => out.push('\u{FFFD}'),
    }
}
