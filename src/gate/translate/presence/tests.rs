use super::tables::{Cell, SipWire, TABLES, WIRE_XMPP, cell};
use super::*;
use crate::wire::xmpp::element::Node;
use proptest::prelude::*;

const GUIDE: &str = include_str!("../../../../tests/vectors/presence-tables.toml");

fn guide() -> toml::Table {
    GUIDE.parse().unwrap()
}

/// A name of the guide as a look, and whether it says "+status".
fn named(name: &str) -> (Look, bool) {
    let (name, status) = name.strip_suffix(" +status").map_or((name, false), |name| (name, true));
    let (name, text) = name.split_once(": ").map_or((name, None), |(name, text)| (name, Some(text)));
    let state = match name.to_lowercase().as_str() {
        "available" => State::Available,
        "busy" => State::Busy,
        "dnd" | "do not disturb" => State::DoNotDisturb,
        "be right back" => State::BeRightBack,
        "away" => State::Away,
        "xa" | "extended away" => State::ExtendedAway,
        "idle" => State::Idle,
        "invisible" => State::Invisible,
        "offline" => State::Offline,
        other => panic!("the guide says {other}"),
    };
    let text = text.map(|text| *["Busy", "Idle", tables::MEETING].iter().find(|known| **known == text).unwrap());
    (Look { state, text }, status)
}

fn system(name: &str) -> System {
    match name {
        "xmpp" => System::Xmpp,
        "jabber" => System::Jabber,
        "lync" => System::Lync,
        "ocs" => System::Ocs,
        "aim" => System::Aim,
        "sametime" => System::Sametime,
        "webex" => System::Webex,
        other => panic!("the guide says {other}"),
    }
}

fn profile(system: System) -> Profile {
    match system {
        System::Xmpp => Profile::Generic,
        System::Jabber => Profile::Jabber,
        System::Lync => Profile::Lync,
        System::Ocs => Profile::Ocs,
        System::Aim => Profile::Aol,
        System::Sametime => Profile::Sametime,
        System::Webex => Profile::Webex,
    }
}

fn is_sip(system: System) -> bool {
    matches!(system, System::Lync | System::Ocs | System::Aim)
}

/// One side's wire form: a document, or an available resource.
#[derive(Debug, Clone, PartialEq)]
enum Wire {
    Sip(Document),
    Xmpp(Option<Shown>),
}

/// How `system` itself writes a look.
fn write(look: Look, system: System) -> Wire {
    if is_sip(system) {
        let wire = sip_wire(look.state);
        let note = look.text.or(wire.note).map(|text| Note { lang: None, text: text.to_owned() });
        let activities: Vec<String> = wire.activity.map(str::to_owned).into_iter().collect();
        let tuple = Tuple { id: "0".into(), open: Some(wire.open), activities, note, ..Tuple::default() };
        return Wire::Sip(Document { entity: "sip:a@h.example".into(), tuples: vec![tuple], ..Document::default() });
    }
    let wire = xmpp_wire(look.state);
    Wire::Xmpp(wire.available.then(|| Shown {
        show: wire.show.map(str::to_owned),
        status: look.text.or(wire.status).map(str::to_owned),
        idle: wire.idle,
        ..Shown::default()
    }))
}

/// Carries it from a `from` user to a `to` user, through the bytes of a document where one is written.
fn carry(wire: &Wire, from: System, to: System) -> Wire {
    let (of, seen_by) = (profile(from), profile(to));
    match wire {
        Wire::Sip(document) => {
            let stanza = to_stanza(Some(document), of, seen_by);
            Wire::Xmpp(stanza.get_attr("type").is_none().then(|| read_element(&stanza)))
        }
        Wire::Xmpp(shown) if is_sip(to) => {
            let resources = shown.iter().map(|shown| ("r".to_owned(), shown.clone())).collect();
            let presentity = Address::parse_user("romeo@example.com").unwrap();
            let document = to_document(&presentity, &resources, seen_by, of);
            Wire::Sip(Document::parse(document.print(true).as_bytes()).unwrap())
        }
        Wire::Xmpp(shown) => {
            Wire::Xmpp(shown.as_ref().map(|shown| respell(shown, of, seen_by).unwrap_or_else(|| shown.clone())))
        }
    }
}

/// What a receiver's user sees of it: open, activity, note; or available, show, status.
fn seen(wire: &Wire) -> (bool, Option<String>, Option<String>) {
    match wire {
        Wire::Sip(document) => {
            let [tuple] = document.tuples.as_slice() else { panic!("one tuple") };
            (tuple.open.unwrap(), tuple.activities.first().cloned(), tuple.note.as_ref().map(|note| note.text.clone()))
        }
        Wire::Xmpp(None) => (false, None, None),
        Wire::Xmpp(Some(shown)) => (true, shown.show.clone(), shown.status.clone()),
    }
}

/// What a client ignorant of `<show/>` in documents hands on.
fn without_show(wire: Wire) -> Wire {
    match wire {
        Wire::Sip(mut document) => {
            document.tuples.iter_mut().for_each(|tuple| tuple.show = None);
            Wire::Sip(document)
        }
        other => other,
    }
}

/// Runs over every cell of the guide.
fn each_cell(mut check: impl FnMut(u8, System, Look, System, (Look, bool))) -> usize {
    let mut count = 0;
    for table in guide()["table"].as_array().unwrap() {
        let number = u8::try_from(table["number"].as_integer().unwrap()).unwrap();
        let from = system(table["from"].as_str().unwrap());
        for row in table["rows"].as_array().unwrap() {
            let row = row.as_table().unwrap();
            let (shown, _) = named(row["shown"].as_str().unwrap());
            for (column, value) in row.iter().filter(|(column, _)| *column != "shown") {
                check(number, from, shown, system(column), named(value.as_str().unwrap()));
                count += 1;
            }
        }
    }
    count
}

fn each_own_cell(mut check: impl FnMut(&tables::Table, Look, &Cell)) {
    for table in TABLES {
        for row in table.rows {
            for cell in row.cells {
                check(table, row.shown, cell);
            }
        }
    }
}

#[test]
fn the_tables_are_the_guides() {
    let in_guide = each_cell(|number, from, shown, to, (look, own_status)| {
        let cell = cell(from, shown, to).unwrap_or_else(|| panic!("table {number}: {from:?} {shown:?} to {to:?}"));
        assert_eq!(
            (cell.look, cell.own_status, cell.beyond),
            (look, own_status, false),
            "table {number}: {shown:?} to {to:?}"
        );
        let in_its_table = TABLES.iter().any(|table| {
            table.number == number
                && table.from == from
                && table.rows.iter().any(|row| row.shown == shown && row.cells.contains(cell))
        });
        assert!(in_its_table, "table {number}: {shown:?} to {to:?}");
    });
    let mut in_code = 0;
    each_own_cell(|_, _, cell| in_code += usize::from(!cell.beyond));
    assert_eq!(in_code, in_guide, "a cell that the guide does not have must say so");
    let numbers: std::collections::BTreeSet<u8> = TABLES.iter().map(|table| table.number).collect();
    assert_eq!(numbers.into_iter().collect::<Vec<_>>(), (1..=12).collect::<Vec<_>>());
}

#[test]
fn the_wire_forms_are_the_guides() {
    let guide = guide();
    let text = |table: &toml::Value, key: &str| table.get(key).map(|value| value.as_str().unwrap().to_owned());
    let xmpp = guide["wire"]["xmpp"].as_table().unwrap();
    for (name, form) in xmpp {
        let wire = xmpp_wire(named(name).0.state);
        assert_eq!(wire.state, named(name).0.state);
        assert_eq!(wire.show.map(str::to_owned), text(form, "show"), "{name}");
        assert_eq!(wire.status.map(str::to_owned), text(form, "status"), "{name}");
        assert_eq!(wire.idle, form.get("element").is_some(), "{name}");
        assert_eq!(wire.available, form.get("type").is_none(), "{name}");
    }
    assert_eq!(xmpp.len(), WIRE_XMPP.len());
    for (name, form) in guide["wire"]["sip"].as_table().unwrap() {
        let wire = sip_wire(named(name).0.state);
        assert_eq!(wire.state, named(name).0.state);
        assert_eq!(Some(if wire.open { "open" } else { "closed" }.to_owned()), text(form, "basic"), "{name}");
        assert_eq!(wire.activity.map(str::to_owned), text(form, "activity"), "{name}");
        assert_eq!(wire.note.map(str::to_owned), text(form, "note"), "{name}");
        if let Some(number) = form.get("categories") {
            assert_eq!(i64::from(wire.availability), number.as_integer().unwrap(), "{name}");
        }
    }
}

#[test]
fn every_row_of_the_guide_is_what_users_see() {
    let guide = guide();
    let text = |table: &toml::Value, key: &str| table.get(key).map(|value| value.as_str().unwrap().to_owned());
    // What the guide itself says a look is on the wire, not what the code's tables say.
    let form = |look: Look, sip: bool| -> (bool, Option<String>, Option<String>) {
        let forms = guide["wire"][if sip { "sip" } else { "xmpp" }].as_table().unwrap();
        let (_, form) = forms.iter().find(|(name, _)| named(name).0.state == look.state).unwrap();
        let said = look.text.map(str::to_owned);
        match sip {
            true => (text(form, "basic").unwrap() == "open", text(form, "activity"), said.or(text(form, "note"))),
            false => (form.get("type").is_none(), text(form, "show"), said.or(text(form, "status"))),
        }
    };
    each_cell(|number, from, shown, to, (look, own_status)| {
        let sent = write(shown, from);
        let mut expected = form(look, is_sip(to));
        if own_status {
            expected.2 = expected.2.or(seen(&sent).2);
        }
        let received = carry(&sent, from, to);
        assert_eq!(seen(&received), expected, "table {number}: {from:?} {shown:?} to {to:?}");
        // Microsoft's numbers say the same as its PIDF.
        if let (Wire::Sip(_), Some(_)) = (&sent, shown.text.is_none().then_some(())) {
            let document = categories(sip_wire(shown.state));
            assert_eq!(
                seen(&carry(&Wire::Sip(document), from, to)),
                expected,
                "table {number}: {from:?} {shown:?} by number"
            );
        }
    });
}

fn categories(wire: &SipWire) -> Document {
    let body = format!(
        "<categories xmlns='http://schemas.microsoft.com/2006/09/sip/categories' uri='sip:a@h.example'><category name='state'>\
         <state xmlns='http://schemas.microsoft.com/2006/09/sip/state'><availability>{}</availability></state></category></categories>",
        wire.availability
    );
    Document::parse_categories(body.as_bytes()).unwrap()
}

#[test]
fn what_does_not_come_back_is_declared() {
    each_own_cell(|table, shown, cell| {
        let (from, to) = (table.from, cell.system);
        let sent = write(shown, from);
        let back = carry(&without_show(carry(&sent, from, to)), to, from);
        let declared = write(cell.back.unwrap_or(shown), from);
        let at = format!("table {}: {from:?} {shown:?} to {to:?} and back", table.number);
        match (&back, &declared) {
            // SIP has no text of its own beside an icon: a text that came back is a note.
            (Wire::Sip(back), Wire::Sip(declared)) => {
                assert_eq!(sip::read_look(back).look, sip::read_look(declared).look, "{at}");
            }
            _ => assert_eq!(seen(&back), seen(&declared), "{at}"),
        }
        // A declaration of nothing would hide the next one.
        assert!(cell.back.is_none_or(|back| back != shown), "{at}");
    });
}

#[test]
fn show_in_a_document_loses_nothing() {
    for (show, of) in
        [("xa", Profile::Generic), ("dnd", Profile::Generic), ("dnd", Profile::Jabber), ("chat", Profile::Generic)]
    {
        let shown = Wire::Xmpp(Some(Shown { show: Some(show.into()), status: Some("é".into()), ..Shown::default() }));
        let from = System::of_xmpp(of);
        assert_eq!(carry(&carry(&shown, from, System::Lync), System::Lync, from), shown);
    }
}

fn document_with(activities: &[&str]) -> Document {
    let activities = activities.iter().map(|activity| (*activity).to_owned()).collect();
    Document {
        tuples: vec![Tuple { id: "a".into(), open: Some(true), activities, ..Tuple::default() }],
        ..Document::default()
    }
}

fn xmpp_of(document: &Document, of: Profile, seen_by: Profile) -> (bool, Option<String>, Option<String>) {
    let stanza = to_stanza(Some(document), of, seen_by);
    let shown = read_element(&stanza);
    (stanza.get_attr("type").is_none(), shown.show, shown.status)
}

#[test]
fn every_known_word_is_read() {
    let away = |status: Option<&str>| (true, Some("away".to_owned()), status.map(str::to_owned));
    for (word, generic, jabber) in [
        ("busy", away(Some("Busy")), away(Some("Busy"))),
        ("do-not-disturb", away(Some("Busy")), away(Some("Busy"))),
        ("urgent-interruptions-only", away(Some("Busy")), away(Some("Busy"))),
        ("on-the-phone", away(Some("Busy")), away(Some("Busy"))),
        ("in-a-meeting", away(Some("Busy")), away(Some("Busy"))),
        ("meeting", away(Some("Busy")), away(Some("Busy"))),
        ("in-presentation", away(Some("Busy")), away(Some("Busy"))),
        ("be-right-back", away(None), away(None)),
        ("away", away(None), away(None)),
        ("idle", away(None), away(None)),
        ("out-to-lunch", away(None), away(None)),
        ("out-of-office", away(None), away(None)),
        ("vacation", (true, Some("xa".to_owned()), None), away(None)),
        ("online", (true, None, None), (true, None, None)),
        ("at-the-moon", (true, None, None), (true, None, None)),
    ] {
        for of in [Profile::Lync, Profile::Ocs, Profile::Generic, Profile::Aol] {
            let document = document_with(&[word]);
            assert_eq!(xmpp_of(&document, of, Profile::Generic), generic, "{word} {of:?}");
            assert_eq!(xmpp_of(&document, of, Profile::Jabber), jabber, "{word} {of:?}");
            // The person's word counts for a device that has none.
            let person = Document { activities: vec![word.to_owned()], ..document_with(&[]) };
            assert_eq!(xmpp_of(&person, of, Profile::Generic), generic, "{word} {of:?}");
        }
    }
    assert_eq!(xmpp_of(&document_with(&["away", "busy"]), Profile::Lync, Profile::Jabber), away(Some("Busy")));
}

#[test]
fn show_in_a_document_only_refines() {
    for (show, activities, of, seen_by, expected) in [
        // RFC 8048 without RPID: the only word there is.
        ("dnd", &[][..], Profile::Generic, Profile::Generic, (Some("dnd"), None)),
        ("xa", &[], Profile::Lync, Profile::Jabber, (Some("xa"), None)),
        ("xa", &["away"], Profile::Generic, Profile::Generic, (Some("xa"), None)),
        ("dnd", &["busy"], Profile::Lync, Profile::Generic, (Some("dnd"), None)),
        // Jabber's busy travels as an `away`.
        ("away", &["busy"], Profile::Generic, Profile::Jabber, (Some("away"), Some("Busy"))),
        ("lounging", &["busy"], Profile::Generic, Profile::Jabber, (Some("away"), Some("Busy"))),
        ("lounging", &[], Profile::Generic, Profile::Generic, (None, None)),
    ] {
        let mut document = document_with(activities);
        document.tuples[0].show = Some(show.into());
        let (available, seen, status) = xmpp_of(&document, of, seen_by);
        assert_eq!(
            (available, seen.as_deref(), status.as_deref()),
            (true, expected.0, expected.1),
            "{show} {activities:?}"
        );
    }
    let mut closed = document_with(&["busy"]);
    closed.tuples[0].show = Some("dnd".into());
    closed.tuples[0].open = Some(false);
    assert_eq!(xmpp_of(&closed, Profile::Lync, Profile::Generic), (false, None, None));
    // Without <basic/> any other word says that somebody is there.
    closed.tuples[0].open = None;
    assert_eq!(xmpp_of(&closed, Profile::Lync, Profile::Generic).1.as_deref(), Some("dnd"));
    assert!(
        !xmpp_of(&Document { tuples: vec![Tuple::default()], ..Document::default() }, Profile::Lync, Profile::Generic)
            .0
    );
}

#[test]
fn a_note_is_a_status() {
    let note = |text: &str| Some(Note { lang: Some("cs".into()), text: text.into() });
    let mut document = document_with(&["away"]);
    document.note = note("On the balcony");
    let stanza = to_stanza(Some(&document), Profile::Lync, Profile::Generic);
    let shown = read_element(&stanza);
    assert_eq!((shown.status.as_deref(), shown.lang.as_deref()), (Some("On the balcony"), Some("cs")));
    document.tuples[0].note = note("No, the tuple's");
    assert_eq!(xmpp_of(&document, Profile::Lync, Profile::Generic).2.as_deref(), Some("No, the tuple's"));
    // Busy has to be said in words, and the note is not lost.
    document.tuples[0].activities = vec!["busy".into()];
    assert_eq!(xmpp_of(&document, Profile::Lync, Profile::Generic).2.as_deref(), Some("Busy: No, the tuple's"));
    document.tuples[0].open = Some(false);
    assert_eq!(xmpp_of(&document, Profile::Lync, Profile::Generic), (false, None, Some("On the balcony".into())));
}

#[test]
fn no_body_and_no_tuple_are_unavailable() {
    for document in [None, Some(&Document::default())] {
        let stanza = to_stanza(document, Profile::Lync, Profile::Generic);
        assert_eq!(stanza.get_attr("type"), Some("unavailable"));
        assert!(stanza.children.is_empty());
        assert!(stanza.is("presence", NS_SERVER));
    }
}

#[test]
fn the_most_available_device_is_the_person() {
    let shown =
        |show: Option<&str>, priority: i8| Shown { show: show.map(str::to_owned), priority, ..Shown::default() };
    let presentity = Address::parse_user("o\\27malley@example.com").unwrap();
    let mut resources = BTreeMap::new();
    let document = to_document(&presentity, &resources, Profile::Lync, Profile::Generic);
    assert_eq!(document.entity, "sip:o'malley@example.com");
    assert_eq!((document.tuples.len(), document.tuples[0].open), (1, Some(false)));
    for (resource, one, activity) in [
        ("a balcony", shown(Some("away"), -1), Some("away")),
        ("1", shown(Some("dnd"), 5), Some("busy")),
        ("_", shown(None, 127), None),
    ] {
        resources.insert(resource.to_owned(), one);
        let document = to_document(&presentity, &resources, Profile::Lync, Profile::Generic);
        assert_eq!(document.tuples.len(), resources.len());
        assert_eq!(document.activities.first().map(String::as_str), activity, "{resource}");
    }
    let document = to_document(&presentity, &resources, Profile::Lync, Profile::Generic);
    let tuple = |id: &str| document.tuples.iter().find(|tuple| tuple.id == id).unwrap();
    assert_eq!(tuple("ID-a_20balcony").priority, None, "RFC 8048 §6.2: a negative priority is not mapped");
    assert_eq!((tuple("ID-1").priority, tuple("ID-_5f").priority), (Some(39), Some(1000)));
    assert_eq!(tuple("ID-1").show.as_deref(), Some("dnd"));
    let stanza = to_stanza(Some(&document), Profile::Generic, Profile::Generic);
    assert_eq!(read_element(&stanza), shown(None, 127));
    // Of two equally available, the one with the higher priority speaks.
    let two = BTreeMap::from([
        ("a".to_owned(), Shown { status: Some("low".into()), ..shown(None, 1) }),
        ("b".to_owned(), Shown { status: Some("high".into()), ..shown(None, 2) }),
    ]);
    let document = to_document(&presentity, &two, Profile::Lync, Profile::Generic);
    assert_eq!(xmpp_of(&document, Profile::Lync, Profile::Generic).2.as_deref(), Some("high"));
    // As a presence server puts two publications together: no priorities, any order, one activity for the person.
    let tuple = |id: &str, note: Option<&str>| crate::wire::pidf::Tuple {
        id: id.to_owned(),
        open: Some(true),
        note: note.map(|text| crate::wire::pidf::Note { lang: None, text: text.to_owned() }),
        ..Default::default()
    };
    let mut document = Document {
        entity: "sip:juliet@partner.example".to_owned(),
        tuples: vec![tuple("phone", None), tuple("desk", Some("at my desk"))],
        activities: vec!["away".to_owned()],
        note: None,
    };
    for _ in 0..2 {
        assert_eq!(xmpp_of(&document, Profile::Generic, Profile::Generic).2.as_deref(), Some("at my desk"));
        document.tuples.reverse();
    }
}

#[test]
fn priorities_are_those_of_rfc_8048() {
    for (xmpp, sip) in
        [(-128, None), (-1, None), (0, Some(0)), (1, Some(7)), (2, Some(15)), (126, Some(992)), (127, Some(1000))]
    {
        assert_eq!(to_contact_priority(xmpp), sip);
    }
    for priority in 0..=127 {
        assert_eq!(from_contact_priority(to_contact_priority(priority).unwrap()), priority);
    }
    assert_eq!(from_contact_priority(u16::MAX), 127);
}

#[test]
fn a_stanza_is_read_within_bounds() {
    let ns = "jabber:client";
    let presence = Element::new("presence", ns)
        .attr("xml:lang", "en")
        .child(Element::new("show", ns).text("lounging"))
        .child(Element::new("status", ns).attr("xml:lang", "de").text("weg"))
        .child(Element::new("status", ns).text(&"ü".repeat(2000)))
        .child(Element::new("priority", ns).text(" 200 "))
        .child(Element::new("idle", "urn:xmpp:idle:1").attr("since", "1969-07-21T02:56:15Z"));
    let shown = read_element(&presence);
    assert_eq!(shown.show, None);
    assert_eq!(shown.status.as_deref(), Some("ü".repeat(1024).as_str()));
    assert_eq!((shown.lang.as_deref(), shown.priority, shown.idle), (Some("en"), 0, true));
    let mixed = Element::new("presence", ns).child(Element {
        children: vec![Node::Text("d".into()), Node::Text("nd\n".into())],
        ..Element::new("show", ns)
    });
    assert_eq!(read_element(&mixed).show.as_deref(), Some("dnd"));
}

#[test]
fn a_relay_changes_only_what_looks_different() {
    let shown = |show: Option<&str>, status: Option<&str>| Shown {
        show: show.map(str::to_owned),
        status: status.map(str::to_owned),
        lang: Some("en".into()),
        priority: 3,
        idle: false,
    };
    use Profile::{Generic, GoogleTalk, Jabber, Sametime, Webex};
    for (of, seen_by, sent, expected) in [
        (Generic, Generic, shown(Some("xa"), Some("gone")), None),
        (Generic, Jabber, shown(Some("xa"), Some("gone")), Some(shown(Some("away"), Some("gone")))),
        (Generic, Webex, shown(Some("xa"), None), None),
        (GoogleTalk, Jabber, shown(Some("dnd"), Some("gone")), None),
        (Generic, Jabber, shown(Some("away"), Some("Idle")), None),
        (Sametime, Jabber, shown(None, Some("In a meeting")), None),
        (Webex, Generic, shown(Some("away"), Some("In a meeting")), Some(shown(None, Some("In a meeting")))),
        (Webex, Jabber, shown(Some("away"), Some("In a meeting")), None),
        (Webex, Generic, shown(Some("away"), Some("in a bath")), None),
        (Jabber, Generic, shown(Some("away"), Some("Busy")), Some(shown(Some("away"), None))),
        (Jabber, Webex, shown(Some("away"), Some("Busy")), Some(shown(Some("away"), Some("Idle")))),
        (Jabber, Generic, shown(Some("away"), Some("Busy: writing")), Some(shown(Some("away"), Some("writing")))),
    ] {
        let respelled = respell(&sent, of, seen_by);
        let compared = respelled.map(|one| Shown { lang: Some("en".into()), idle: false, ..one });
        assert_eq!(compared, expected, "{of:?} to {seen_by:?}: {sent:?}");
    }
    // The language is the own status's, and goes with it.
    let busy = respell(&shown(Some("away"), Some("Busy")), Jabber, Webex).unwrap();
    assert_eq!((busy.lang, busy.idle), (None, true));
}

fn shown() -> impl Strategy<Value = Shown> {
    let status =
        proptest::option::of(prop_oneof!["[!-~]([ -~]{0,10}[!-~])?", "Busy|Idle|In a meeting", "[a-zé私😀]{1,6}"]);
    (proptest::option::of("away|chat|dnd|xa"), status, any::<i8>()).prop_map(|(show, status, priority)| Shown {
        show,
        lang: status.as_ref().map(|_| "cs".to_owned()),
        status,
        priority,
        idle: false,
    })
}

proptest! {
    #[test]
    fn what_a_resource_shows_comes_back(one in shown(), resource in any::<String>(), generic in any::<bool>(), jabber in any::<bool>()) {
        let (node, partner) = (if jabber { Profile::Jabber } else { Profile::Generic }, if generic { Profile::Generic } else { Profile::Lync });
        let resources = BTreeMap::from([(resource, one.clone())]);
        let presentity = Address::parse_user("romeo@example.com").unwrap();
        let document = to_document(&presentity, &resources, partner, node);
        let text = document.print(true);
        let read = Document::parse(text.as_bytes()).unwrap();
        prop_assert_eq!(&read, &document);
        let back = read_element(&to_stanza(Some(&read), partner, node));
        // Declared: a negative priority is not mapped; "Busy" and "Idle" are no one's language.
        let lang = one.lang.clone().filter(|_| back.lang.is_some());
        prop_assert_eq!(back, Shown { priority: one.priority.max(0), lang, ..one });
    }

    #[test]
    fn tuple_ids_are_ids_and_differ(one in any::<String>(), other in any::<String>()) {
        let id = tuple_id(&one);
        prop_assert!(id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b)) && id.starts_with("ID-"));
        prop_assert_eq!(tuple_id(&other) == id, one == other);
    }

    #[test]
    fn hostile_documents_never_panic(
        id in any::<String>(), open in any::<Option<bool>>(), show in any::<Option<String>>(), activities in proptest::collection::vec(any::<String>(), 0..3),
        text in any::<String>(), priority in any::<Option<u16>>()
    ) {
        let note = Some(Note { lang: None, text });
        let tuple = Tuple { id, open, show, activities: activities.clone(), note: note.clone(), contact: None, priority };
        let document = Document { tuples: vec![tuple], activities, note, ..Document::default() };
        for of in [Profile::Lync, Profile::Aol, Profile::Generic, Profile::Sametime] {
            for seen_by in [Profile::Generic, Profile::Jabber, Profile::Lync] {
                let stanza = to_stanza(Some(&document), of, seen_by);
                let shown = read_element(&stanza);
                prop_assert!(shown.show.is_none() || stanza.get_attr("type").is_none());
            }
        }
    }
}
