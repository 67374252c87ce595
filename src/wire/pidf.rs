//! Presence documents: PIDF (RFC 3863) with RPID (RFC 4480), Microsoft's draft forms, `<show/>` inside `<status/>` (RFC 8048 §5.1.2).
//! Microsoft's category and msrtc documents are read too (never asked for).

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
        todo!()
    }
    /// Writes `application/pidf+xml`. With `draft_activities`, each tuple also carries the pre-RFC form inside `<status>`.
    /// COMPAT(lync): see the RPID draft namespace; AOL and OCS read it too.
    pub fn print(&self, draft_activities: bool) -> String {
        todo!()
    }
}
