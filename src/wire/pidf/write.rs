//! Writing PIDF, in the order of RFC 3863 §4.4's schema.

use super::tree::is_xml_char;
use super::{DATA_MODEL, Document, JABBER_CLIENT, Note, PIDF, RPID, RPID_ACTIVITIES, RPID_DRAFTS, Tuple};

pub(super) fn document(document: &Document, draft_activities: bool) -> String {
    let [draft, ..] = RPID_DRAFTS;
    let mut out = String::with_capacity(512 + 512 * document.tuples.len());
    out.push_str("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    out.push_str(&format!("<presence xmlns=\"{PIDF}\" xmlns:dm=\"{DATA_MODEL}\" xmlns:rpid=\"{RPID}\""));
    if draft_activities {
        out.push_str(&format!(" xmlns:ep=\"{draft}\""));
    }
    attribute(&mut out, "entity", &document.entity);
    out.push('>');
    for one in &document.tuples {
        tuple(&mut out, one, draft_activities);
    }
    if let Some(one) = &document.note {
        note(&mut out, one);
    }
    if !document.activities.is_empty() {
        out.push_str("<dm:person id=\"person\">");
        activities(&mut out, &document.activities);
        out.push_str("</dm:person>");
    }
    out.push_str("</presence>\n");
    out
}

fn tuple(out: &mut String, tuple: &Tuple, draft_activities: bool) {
    out.push_str("<tuple");
    attribute(out, "id", &tuple.id);
    out.push_str("><status>");
    match tuple.open {
        Some(true) => out.push_str("<basic>open</basic>"),
        Some(false) => out.push_str("<basic>closed</basic>"),
        None => {}
    }
    if let Some(show) = &tuple.show {
        out.push_str(&format!("<show xmlns=\"{JABBER_CLIENT}\">"));
        text(out, show);
        out.push_str("</show>");
    }
    let draft = draft_activities && !tuple.activities.is_empty();
    if draft {
        out.push_str("<ep:activities>");
        for activity in &tuple.activities {
            out.push_str("<ep:activity>");
            text(out, activity);
            out.push_str("</ep:activity>");
        }
        out.push_str("</ep:activities>");
    }
    out.push_str("</status>");
    if !draft && !tuple.activities.is_empty() {
        activities(out, &tuple.activities);
    }
    if let Some(contact) = &tuple.contact {
        out.push_str("<contact");
        if let Some(thousandths) = tuple.priority {
            let (whole, fraction) = (thousandths / 1000, thousandths % 1000);
            let decimal = format!("{whole}.{fraction:03}");
            attribute(out, "priority", decimal.trim_end_matches('0').trim_end_matches('.'));
        }
        out.push('>');
        text(out, contact);
        out.push_str("</contact>");
    }
    if let Some(one) = &tuple.note {
        note(out, one);
    }
    out.push_str("</tuple>");
}

fn activities(out: &mut String, activities: &[String]) {
    out.push_str("<rpid:activities>");
    for activity in activities {
        if RPID_ACTIVITIES.contains(&activity.as_str()) {
            out.push_str(&format!("<rpid:{activity}/>"));
        } else {
            out.push_str("<rpid:other>");
            text(out, activity);
            out.push_str("</rpid:other>");
        }
    }
    out.push_str("</rpid:activities>");
}

fn note(out: &mut String, note: &Note) {
    out.push_str("<note");
    if let Some(lang) = &note.lang {
        attribute(out, "xml:lang", lang);
    }
    out.push('>');
    text(out, &note.text);
    out.push_str("</note>");
}

fn attribute(out: &mut String, name: &str, value: &str) {
    out.push(' ');
    out.push_str(name);
    out.push_str("=\"");
    text(out, value);
    out.push('"');
}

/// Escapes for content and attribute alike. White space other than a plain space goes as a reference, else a reader would make a space or a
/// line feed of it (XML 1.0 §2.11, §3.3.3).
fn text(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            '\t' => out.push_str("&#9;"),
            '\n' => out.push_str("&#10;"),
            '\r' => out.push_str("&#13;"),
            c if is_xml_char(c) => out.push(c),
            _ => out.push('\u{fffd}'),
        }
    }
}
