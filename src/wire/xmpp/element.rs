//! A small owned element tree: what is needed to read and write stanzas that are translated.

use super::stream::StreamError;

/// An XML element with resolved namespaces.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Element {
    /// Local name.
    pub name: String,
    /// Namespace URI.
    pub ns: String,
    /// Attributes: (local name or `xml:lang`-style prefixed name, value), in order. `xmlns` declarations are not attributes.
    pub attrs: Vec<(String, String)>,
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

impl Element {
    /// Parses one whole element with every check that quick-xml leaves out (see `framer`). `default_ns`: the stream's.
    pub fn parse(text: &[u8], default_ns: &str) -> Result<Self, StreamError> {
        todo!()
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
    /// With a child element.
    pub fn child(mut self, child: Element) -> Self {
        self.children.push(Node::Element(child));
        self
    }
    /// With character data.
    pub fn text(mut self, text: &str) -> Self {
        self.children.push(Node::Text(text.into()));
        self
    }
    /// An attribute's value.
    pub fn get_attr(&self, name: &str) -> Option<&str> {
        self.attrs.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
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
        todo!()
    }
    /// Prints it, declaring `xmlns` wherever the namespace differs from the parent's; `parent_ns` is the stream's default namespace.
    /// Characters XML 1.0 forbids are replaced by U+FFFD.
    pub fn print(&self, parent_ns: &str) -> String {
        todo!()
    }
}
