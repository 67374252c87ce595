//! Presence documents: PIDF (RFC 3863) with RPID (RFC 4480), Microsoft's draft forms, `<show/>` inside `<status/>` (RFC 8048 §6.2).
//! Microsoft's category and msrtc documents are read too (never asked for).
//!
//! Takes a body, gives a [`Document`]; and back. XML is judged in `tree` by rules of its own: the vocabulary needs no DTD, no entity
//! of its own and no processing instruction, so none passes.

mod microsoft;
mod read;
mod tree;
mod write;

pub use tree::is_xml_char;

/// A presence document, format-neutral.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Document {
    /// The presentity as written; with or without scheme. Identity comes from the dialog, never from here.
    pub entity: String,
    /// One for each device or resource.
    pub tuples: Vec<Tuple>,
    /// RFC 4479/4480 person-level activities.
    pub activities: Vec<String>,
    /// Person-level or document-level note.
    pub note: Option<Note>,
}

/// One tuple.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tuple {
    /// xs:ID.
    pub id: String,
    /// `<basic>`: open or closed; `None` if absent or unknown.
    pub open: Option<bool>,
    /// `<show xmlns='jabber:client'>` inside `<status>`.
    pub show: Option<String>,
    /// Activities inside the tuple or its status, element or text form, lower case.
    pub activities: Vec<String>,
    /// `<note>`.
    pub note: Option<Note>,
    /// `<contact>` URI.
    pub contact: Option<String>,
    /// Contact priority in thousandths, 0..=1000.
    pub priority: Option<u16>,
}

/// A human-readable note.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Note {
    /// xml:lang.
    pub lang: Option<String>,
    /// Text.
    pub text: String,
}

/// Why a body is not a presence document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadDocument {
    /// Not well-formed, or DOCTYPE, entities, processing instructions inside.
    #[error("not well-formed XML, or restricted XML")]
    Xml,
    /// Well-formed, but another vocabulary.
    #[error("not a presence document")]
    Vocabulary,
    /// Beyond a bound (depth 16, 200 tuples).
    #[error("too large")]
    TooLarge,
}

impl Document {
    /// Reads `application/pidf+xml`.
    pub fn parse(body: &[u8]) -> Result<Self, BadDocument> {
        read::document(&tree::parse(body)?)
    }
    /// Reads `application/msrtc-event-categories+xml`, to what a PIDF of the same state would say. A document without a `state` category
    /// tells nothing of presence (only changed categories are sent): [`BadDocument::Vocabulary`].
    pub fn parse_categories(body: &[u8]) -> Result<Self, BadDocument> {
        microsoft::categories(&tree::parse(body)?)
    }
    /// Reads `text/xml+msrtc.pidf`, to what a PIDF of the same state would say.
    pub fn parse_msrtc(body: &[u8]) -> Result<Self, BadDocument> {
        microsoft::msrtc(&tree::parse(body)?)
    }
    /// Reads a body of any of the three types by its media type's essence, lower case; any other is [`BadDocument::Vocabulary`].
    pub fn parse_as(essence: &str, body: &[u8]) -> Result<Self, BadDocument> {
        match essence {
            "application/pidf+xml" => Self::parse(body),
            "application/msrtc-event-categories+xml" => Self::parse_categories(body),
            "text/xml+msrtc.pidf" => Self::parse_msrtc(body),
            _ => Err(BadDocument::Vocabulary),
        }
    }
    /// Writes `application/pidf+xml`. With `draft_activities`, each tuple also carries the pre-RFC form inside `<status>`.
    /// COMPAT(lync): see the RPID draft namespace; AOL and OCS read it too.
    pub fn print(&self, draft_activities: bool) -> String {
        write::document(self, draft_activities)
    }
}

/// RFC 3863.
const PIDF: &str = "urn:ietf:params:xml:ns:pidf";
/// RFC 4479.
const DATA_MODEL: &str = "urn:ietf:params:xml:ns:pidf:data-model";
/// RFC 4480.
const RPID: &str = "urn:ietf:params:xml:ns:pidf:rpid";
/// COMPAT(lync): the drafts that became RFC 4480; the first is what we write.
const RPID_DRAFTS: [&str; 3] = [
    "urn:ietf:params:xml:ns:pidf:status:rpid-status",
    "urn:ietf:params:xml:ns:pidf:rpid-tuple",
    "urn:ietf:params:xml:ns:pidf:status:rpid-tuple",
];
/// RFC 8048 §6.2.
const JABBER_CLIENT: &str = "jabber:client";

/// RFC 4480 §3.2: activities that are an element of their own; any other word is written inside `<other/>`.
const RPID_ACTIVITIES: [&str; 26] = [
    "appointment",
    "away",
    "breakfast",
    "busy",
    "dinner",
    "holiday",
    "in-transit",
    "looking-for-work",
    "lunch",
    "meal",
    "meeting",
    "on-the-phone",
    "performance",
    "permanent-absence",
    "playing",
    "presentation",
    "shopping",
    "sleeping",
    "spectator",
    "steering",
    "travel",
    "tv",
    "unknown",
    "vacation",
    "working",
    "worship",
];

#[cfg(test)]
mod tests;
