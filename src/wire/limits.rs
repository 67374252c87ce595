//! Bounds of what the bytes may be, whoever sends them. The bounds of what we decide are `gate::limits`.

/// Header rows of one SIP message.
pub const SIP_HEADERS: usize = 512;
/// Nesting of XML elements below the stream.
pub const XML_DEPTH: usize = 64;
/// Attributes of one element.
pub const XML_ATTRIBUTES: usize = 256;
/// Namespace declarations in force at one place.
pub const XML_NAMESPACES: usize = 64;
