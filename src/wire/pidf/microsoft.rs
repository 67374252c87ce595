//! COMPAT(lync): Microsoft's own presence documents. They are read into the words that its PIDF has for the same state.

use super::tree::Element;
use super::{BadDocument, Document, Tuple, read};

const CATEGORIES: &str = "http://schemas.microsoft.com/2006/09/sip/categories";
const STATE: &str = "http://schemas.microsoft.com/2006/09/sip/state";
const NOTE: &str = "http://schemas.microsoft.com/2006/09/sip/note";
const PRESENCE: &str = "http://schemas.microsoft.com/2002/09/sip/presence";

/// [MS-SIP] availability, by the first number of each range: whether open, and the activity.
const AVAILABILITY: [(u32, bool, Option<&str>); 9] = [
    (0, false, None),
    (3000, true, None),
    (4500, true, Some("idle")),
    (6000, true, Some("busy")),
    (7500, true, Some("busy")),
    (9000, true, Some("do-not-disturb")),
    (12_000, true, Some("be-right-back")),
    (15_000, true, Some("away")),
    (18_000, false, None),
];

/// [MS-PRES] `activity/@aggregate`, by the first number of each range.
const ACTIVITY: [(u32, Option<&str>); 9] = [
    (0, Some("away")),
    (150, Some("out-to-lunch")),
    (200, Some("idle")),
    (300, Some("be-right-back")),
    (400, None),
    (500, Some("on-the-phone")),
    (600, Some("busy")),
    (700, Some("away")),
    (800, None),
];
/// [MS-PRES] `availability/@aggregate` from which on somebody is there.
const ONLINE: u32 = 100;

pub(super) fn categories(root: &Element) -> Result<Document, BadDocument> {
    if !root.is("categories", CATEGORIES) {
        return Err(BadDocument::Vocabulary);
    }
    let category = |name: &'static str| {
        root.all("category", CATEGORIES).filter(move |category| category.attr("name") == Some(name))
    };
    let states = || category("state").flat_map(|category| category.all("state", STATE));
    let number = |state: &Element| state.find("availability", STATE).and_then(|a| a.text.trim().parse::<u32>().ok());
    let aggregate =
        |state: &&Element| state.attr("type").is_some_and(|t| t.rsplit(':').next() == Some("aggregateState"));
    // Machine and user states stand beside their aggregate.
    let state = states()
        .filter(aggregate)
        .find(|state| number(state).is_some())
        .or_else(|| states().find(|state| number(state).is_some()))
        .ok_or(BadDocument::Vocabulary)?;
    let (_, open, word) = AVAILABILITY
        .iter()
        .rev()
        .find(|(from, ..)| number(state).is_some_and(|number| number >= *from))
        .copied()
        .unwrap_or((0, false, None));
    let mut tuple = Tuple { id: "0".to_owned(), open: Some(open), ..Tuple::default() };
    tuple.activities.extend(word.map(str::to_owned));
    let token =
        state.find("activity", STATE).and_then(|activity| activity.attr("token")).unwrap_or_default().to_lowercase();
    if open && !token.is_empty() && token.len() <= 64 && !tuple.activities.contains(&token) {
        tuple.activities.push(token);
    }
    let lang = root.attr("xml:lang");
    let note = category("note")
        .flat_map(|category| category.all("note", NOTE))
        .flat_map(|note| note.all("body", NOTE))
        .find_map(|body| read::note(body, lang));
    Ok(Document {
        entity: root.attr("uri").unwrap_or_default().to_owned(),
        tuples: vec![tuple],
        activities: Vec::new(),
        note,
    })
}

pub(super) fn msrtc(root: &Element) -> Result<Document, BadDocument> {
    if !root.is("presentity", PRESENCE) {
        return Err(BadDocument::Vocabulary);
    }
    let aggregate = |name: &str| {
        root.find(name, PRESENCE).and_then(|e| e.attr("aggregate")).and_then(|n| n.trim().parse::<u32>().ok())
    };
    let open = aggregate("availability").ok_or(BadDocument::Vocabulary)? >= ONLINE;
    let word = aggregate("activity")
        .and_then(|number| ACTIVITY.iter().rev().find(|(from, _)| number >= *from))
        .and_then(|(_, word)| *word)
        .filter(|_| open);
    let note = root
        .find("userInfo", PRESENCE)
        .and_then(|info| info.find("note", PRESENCE))
        .and_then(|note| read::note(note, root.attr("xml:lang")));
    let tuple = Tuple {
        id: "0".to_owned(),
        open: Some(open),
        activities: word.map(str::to_owned).into_iter().collect(),
        ..Tuple::default()
    };
    Ok(Document {
        entity: root.attr("uri").unwrap_or_default().to_owned(),
        tuples: vec![tuple],
        activities: Vec::new(),
        note,
    })
}
