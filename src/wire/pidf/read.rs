//! Reading PIDF. What is not known is passed over (RFC 3863 §4.2.3).

use super::tree::Element;
use super::{BadDocument, DATA_MODEL, Document, JABBER_CLIENT, Note, PIDF, RPID, RPID_DRAFTS, Tuple};

/// Tuples of one document.
const TUPLES: usize = 200;
/// Activities kept for one tuple or person.
const ACTIVITIES: usize = 32;
/// One activity, in bytes.
const ACTIVITY_BYTES: usize = 64;

pub(super) fn document(root: &Element) -> Result<Document, BadDocument> {
    if !root.is("presence", PIDF) {
        return Err(BadDocument::Vocabulary);
    }
    let lang = root.attr("xml:lang");
    let mut document =
        Document { entity: root.attr("entity").unwrap_or_default().trim().to_owned(), ..Document::default() };
    let mut notes = Notes::default();
    for child in &root.children {
        if child.is("tuple", PIDF) {
            if document.tuples.len() >= TUPLES {
                return Err(BadDocument::TooLarge);
            }
            document.tuples.push(tuple(child, lang));
        } else if child.is("note", PIDF) {
            notes.document(child, lang);
        } else if child.is("person", DATA_MODEL) {
            let lang = child.attr("xml:lang").or(lang);
            for inner in &child.children {
                activities(inner, &mut document.activities, &mut notes, lang);
                if inner.is("note", DATA_MODEL) || inner.is("note", RPID) {
                    notes.document(inner, lang);
                }
            }
        } else {
            // Before RFC 4479 there was no person to hold them.
            activities(child, &mut document.activities, &mut notes, lang);
        }
    }
    document.note = notes.best();
    Ok(document)
}

fn tuple(element: &Element, lang: Option<&str>) -> Tuple {
    let lang = element.attr("xml:lang").or(lang);
    let mut tuple = Tuple { id: element.attr("id").unwrap_or_default().to_owned(), ..Tuple::default() };
    let mut notes = Notes::default();
    for child in &element.children {
        if child.is("status", PIDF) {
            for inner in &child.children {
                if inner.is("basic", PIDF) && tuple.open.is_none() {
                    tuple.open = match inner.text.trim() {
                        "open" => Some(true),
                        "closed" => Some(false),
                        _ => None,
                    };
                } else if inner.is("show", JABBER_CLIENT) && tuple.show.is_none() {
                    tuple.show = Some(inner.text.trim().to_owned()).filter(|show| !show.is_empty());
                } else if inner.is("note", PIDF) {
                    notes.document(inner, lang);
                } else {
                    activities(inner, &mut tuple.activities, &mut notes, lang);
                }
            }
        } else if child.is("note", PIDF) {
            notes.document(child, lang);
        } else if child.is("contact", PIDF) && tuple.contact.is_none() {
            tuple.contact = Some(child.text.trim().to_owned()).filter(|contact| !contact.is_empty());
            tuple.priority = child.attr("priority").and_then(priority);
        } else {
            activities(child, &mut tuple.activities, &mut notes, lang);
        }
    }
    tuple.note = notes.best();
    tuple
}

/// The `<activities/>` of RFC 4480 §3.2 (one element each) or of its drafts (words in `<activity/>`).
fn activities(element: &Element, into: &mut Vec<String>, notes: &mut Notes, lang: Option<&str>) {
    let known = |ns: &str| ns == RPID || RPID_DRAFTS.contains(&ns);
    if element.name != "activities" || !known(&element.ns) {
        return;
    }
    let lang = element.attr("xml:lang").or(lang);
    for child in element.children.iter().filter(|child| known(&child.ns)) {
        let word = match child.name.as_str() {
            "note" => {
                notes.activity(child, lang);
                continue;
            }
            "activity" | "other" if !child.text.trim().is_empty() => child.text.trim(),
            "activity" => continue,
            name => name,
        };
        if word.len() <= ACTIVITY_BYTES && into.len() < ACTIVITIES {
            let word = word.to_lowercase();
            if !into.contains(&word) {
                into.push(word);
            }
        }
    }
}

/// RFC 3863 §4.1.5: a decimal between 0 and 1 with at most 3 digits; anything else reads as absent. In thousandths.
fn priority(text: &str) -> Option<u16> {
    let text = text.trim();
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole)
        || !digits(fraction)
        || fraction.len() > 3
        || whole.len() > 4
        || (whole.is_empty() && fraction.is_empty())
    {
        return None;
    }
    let whole: u16 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let fraction: u16 = format!("{fraction:0<3}").parse().ok()?;
    whole.checked_mul(1000)?.checked_add(fraction).filter(|thousandths| *thousandths <= 1000)
}

/// The first note that says something; one about an activity only when there is no other.
#[derive(Default)]
struct Notes {
    document: Option<Note>,
    activity: Option<Note>,
}

impl Notes {
    fn document(&mut self, element: &Element, lang: Option<&str>) {
        Self::keep(&mut self.document, element, lang);
    }
    fn activity(&mut self, element: &Element, lang: Option<&str>) {
        Self::keep(&mut self.activity, element, lang);
    }
    fn keep(slot: &mut Option<Note>, element: &Element, lang: Option<&str>) {
        if slot.is_none() {
            *slot = note(element, lang);
        }
    }
    fn best(self) -> Option<Note> {
        self.document.or(self.activity)
    }
}

/// A note, in the language of the nearest enclosing `xml:lang` (XML 1.0 §2.12).
pub(super) fn note(element: &Element, lang: Option<&str>) -> Option<Note> {
    if element.text.trim().is_empty() {
        return None;
    }
    let lang = element.attr("xml:lang").or(lang).filter(|lang| !lang.is_empty());
    Some(Note { lang: lang.map(str::to_owned), text: element.text.clone() })
}
