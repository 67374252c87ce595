use super::*;
use proptest::prelude::*;

macro_rules! vector {
    ($name:literal) => {
        include_bytes!(concat!("../../../tests/vectors/pidf/", $name)).as_slice()
    };
}

fn note(text: &str) -> Option<Note> {
    Some(Note { lang: None, text: text.to_owned() })
}
fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

#[test]
fn the_pidf_of_lync_and_aol_has_draft_activities() {
    let lync = Document::parse(vector!("lync.xml")).unwrap();
    assert_eq!(lync.entity, "sip:juliet@foreign.example.net");
    let [tuple] = lync.tuples.as_slice() else { panic!("one tuple") };
    assert_eq!((tuple.id.as_str(), tuple.open, &tuple.activities), ("0", Some(true), &words(&["busy"])));
    let aol = Document::parse(vector!("aol.xml")).unwrap();
    assert_eq!(aol.entity, "julietscreen@aol.com");
    assert_eq!((aol.tuples[0].open, &aol.tuples[0].activities), (Some(true), &words(&["away"])));
}

#[test]
fn the_example_of_rfc_4480_is_read() {
    let document = Document::parse(vector!("rfc4480-example.xml")).unwrap();
    assert_eq!(document.entity, "pres:someone@example.com");
    assert_eq!(document.activities, words(&["away"]));
    assert_eq!(document.note, note("I'll be in Tokyo next week"));
    assert_eq!(document.tuples.len(), 3);
    let first = &document.tuples[0];
    assert_eq!(first.contact.as_deref(), Some("im:someone@mobile.example.net"));
    assert_eq!(first.priority, Some(800));
    assert_eq!(first.note, Some(Note { lang: Some("en".into()), text: "Don't Disturb Please!".into() }));
    assert_eq!(document.tuples[1].priority, Some(1000));
}

#[test]
fn microsofts_documents_say_the_same() {
    let busy =
        Document::parse_as("application/msrtc-event-categories+xml", vector!("lync-categories-busy.xml")).unwrap();
    assert_eq!(busy.tuples[0].open, Some(true));
    assert_eq!(busy.tuples[0].activities, words(&["busy", "in-a-meeting"]));
    assert_eq!(busy.note, note("On the balcony until ten"));
    let away = Document::parse_categories(vector!("lync-categories-away.xml")).unwrap();
    assert_eq!(away.tuples[0].activities, words(&["away"]));
    let msrtc = Document::parse_as("text/xml+msrtc.pidf", vector!("lync-msrtc.xml")).unwrap();
    assert_eq!(msrtc.entity, "juliet@foreign.example.net");
    assert_eq!((msrtc.tuples[0].open, &msrtc.tuples[0].activities), (Some(true), &words(&["busy"])));
    // Each vocabulary under its own name only.
    assert_eq!(Document::parse(vector!("lync-msrtc.xml")), Err(BadDocument::Vocabulary));
    assert_eq!(Document::parse_categories(vector!("lync.xml")), Err(BadDocument::Vocabulary));
    assert_eq!(Document::parse_as("text/plain", vector!("lync.xml")), Err(BadDocument::Vocabulary));
}

#[test]
fn every_availability_range_is_known() {
    for (numbers, open, activities) in [
        ([0, 2999], false, &[][..]),
        ([3000, 4499], true, &[]),
        ([4500, 5999], true, &["idle"]),
        ([6000, 7499], true, &["busy"]),
        ([7500, 8999], true, &["busy"]),
        ([9000, 11_999], true, &["do-not-disturb"]),
        ([12_000, 14_999], true, &["be-right-back"]),
        ([15_000, 17_999], true, &["away"]),
        ([18_000, 4_000_000], false, &[]),
    ] {
        for number in numbers {
            let body = format!(
                "<c:categories xmlns:c='{}'><c:category name='state'><state xmlns='{}'><availability>{number}</availability></state>\
                 </c:category></c:categories>",
                "http://schemas.microsoft.com/2006/09/sip/categories", "http://schemas.microsoft.com/2006/09/sip/state"
            );
            let document = Document::parse_categories(body.as_bytes()).unwrap();
            assert_eq!(document.tuples[0].open, Some(open), "{number}");
            assert_eq!(document.tuples[0].activities, words(activities), "{number}");
        }
    }
    let only_a_note =
        "<categories xmlns='http://schemas.microsoft.com/2006/09/sip/categories'><category name='note'/></categories>";
    assert_eq!(Document::parse_categories(only_a_note.as_bytes()), Err(BadDocument::Vocabulary));
}

#[test]
fn every_aggregate_activity_is_known() {
    for (availability, activity, open, word) in [
        (0, 400, false, None),
        (99, 600, false, None),
        (300, 100, true, Some("away")),
        (300, 150, true, Some("out-to-lunch")),
        (300, 200, true, Some("idle")),
        (300, 300, true, Some("be-right-back")),
        (300, 400, true, None),
        (300, 500, true, Some("on-the-phone")),
        (300, 600, true, Some("busy")),
        (300, 700, true, Some("away")),
        (300, 800, true, None),
    ] {
        let body = format!(
            "<presentity xmlns='http://schemas.microsoft.com/2002/09/sip/presence' uri='a@b'><availability aggregate='{availability}'/>\
             <activity aggregate='{activity}'/></presentity>"
        );
        let document = Document::parse_msrtc(body.as_bytes()).unwrap();
        assert_eq!(document.tuples[0].open, Some(open), "{availability} {activity}");
        assert_eq!(document.tuples[0].activities, words(word.as_slice()), "{availability} {activity}");
    }
}

#[test]
fn notes_and_languages_come_from_each_level() {
    let body = "<presence xmlns='urn:ietf:params:xml:ns:pidf' xmlns:dm='urn:ietf:params:xml:ns:pidf:data-model' xml:lang='de' entity='x'>\
        <tuple id='a' xml:lang='fr'><status><basic>\n open </basic></status><note> </note><note>un &amp; deux</note></tuple>\
        <tuple id='b'><status><basic>open</basic><show xmlns='jabber:client'>dnd</show></status><note xml:lang='it'>tre<![CDATA[ <4]]></note></tuple>\
        <dm:person id='p'><dm:note>ein&#x20;&lt;</dm:note></dm:person></presence>";
    let document = Document::parse(body.as_bytes()).unwrap();
    let said = |lang: &str, text: &str| Some(Note { lang: Some(lang.into()), text: text.into() });
    assert_eq!(document.tuples[0].note, said("fr", "un & deux"));
    assert_eq!(document.tuples[0].open, Some(true));
    assert_eq!(document.tuples[1].note, said("it", "tre <4"));
    assert_eq!(document.tuples[1].show.as_deref(), Some("dnd"));
    assert_eq!(document.note, said("de", "ein <"));
}

#[test]
fn activities_are_read_wherever_dialects_put_them() {
    let rpid = "urn:ietf:params:xml:ns:pidf:rpid";
    let element = |ns: &str| {
        format!("<e:activities xmlns:e='{ns}'><e:on-the-phone/><e:activity>Be-Right-Back</e:activity></e:activities>")
    };
    for ns in [rpid, "urn:ietf:params:xml:ns:pidf:status:rpid-status", "urn:ietf:params:xml:ns:pidf:rpid-tuple"] {
        for (before, after, person) in [
            ("<tuple id='a'><status>", "</status></tuple>", false),
            ("<tuple id='a'><status/>", "</tuple>", false),
            ("<d:person xmlns:d='urn:ietf:params:xml:ns:pidf:data-model' id='p'>", "</d:person>", true),
            ("", "", true),
        ] {
            let body = format!("<presence xmlns='{PIDF}'>{before}{}{after}</presence>", element(ns));
            let document = Document::parse(body.as_bytes()).unwrap();
            let found = if person { &document.activities } else { &document.tuples[0].activities };
            assert_eq!(found, &words(&["on-the-phone", "be-right-back"]), "{body}");
        }
    }
    // An element of the same name elsewhere means nothing to us (RFC 3863 §4.2.3).
    let body = format!("<presence xmlns='{PIDF}'>{}</presence>", element("urn:example:other"));
    assert!(Document::parse(body.as_bytes()).unwrap().activities.is_empty());
}

#[test]
fn restricted_xml_is_refused() {
    assert_eq!(Document::parse(vector!("entity-bomb.xml")), Err(BadDocument::Xml));
    let inside = |text: &str| format!("<presence xmlns='{PIDF}' entity='x'>{text}</presence>");
    for bad in [
        inside("<note>&unknown;</note>"),
        inside("<note>&#0;</note>"),
        inside("<note>&#xFFFF;</note>"),
        inside("<note>\u{1}</note>"),
        inside("<note>]]></note>"),
        inside("<?php ?>"),
        inside("<note a='&x;'/>"),
        inside("<note a='1' a='2'/>"),
        inside("<x:note/>"),
        inside("<note>"),
        inside("</note>"),
        inside("<!-- -- -->"),
        format!("{}<more/>", inside("")),
        format!("{}text", inside("")),
        format!("text{}", inside("")),
        format!(" <?xml version='1.0'?>{}", inside("")),
        format!("<?xml version='1.0' encoding='utf-16'?>{}", inside("")),
        format!("<!DOCTYPE presence>{}", inside("")),
        String::new(),
        "<presence".to_owned(),
    ] {
        assert_eq!(Document::parse(bad.as_bytes()), Err(BadDocument::Xml), "{bad}");
    }
    assert_eq!(
        Document::parse(b"<presence xmlns='urn:ietf:params:xml:ns:pidf'>\xff</presence>"),
        Err(BadDocument::Xml)
    );
    assert!(Document::parse(inside("<!-- said -->").as_bytes()).is_ok());
    assert!(
        Document::parse(format!("\u{feff}<?xml version='1.0' encoding='UTF-8'?>\n{}\n", inside("")).as_bytes()).is_ok()
    );
}

#[test]
fn documents_have_bounds() {
    let tuples = |count: usize| format!("<presence xmlns='{PIDF}'>{}</presence>", "<tuple id='a'/>".repeat(count));
    assert_eq!(Document::parse(tuples(200).as_bytes()).unwrap().tuples.len(), 200);
    assert_eq!(Document::parse(tuples(201).as_bytes()), Err(BadDocument::TooLarge));
    let many = |count: usize| format!("<presence xmlns='{PIDF}'>{}</presence>", "<a/>".repeat(count));
    assert!(Document::parse(many(19_999).as_bytes()).is_ok());
    assert_eq!(Document::parse(many(20_000).as_bytes()), Err(BadDocument::TooLarge));
    let attributes = |count: usize| {
        let attributes: String = (0..count).map(|n| format!(" a{n}='x'")).collect();
        format!("<presence xmlns='{PIDF}'{attributes}/>")
    };
    assert!(Document::parse(attributes(63).as_bytes()).is_ok());
    assert_eq!(Document::parse(attributes(64).as_bytes()), Err(BadDocument::TooLarge));
    let deep =
        |depth: usize| format!("<presence xmlns='{PIDF}'>{}{}</presence>", "<a>".repeat(depth), "</a>".repeat(depth));
    assert!(Document::parse(deep(15).as_bytes()).is_ok());
    assert_eq!(Document::parse(deep(16).as_bytes()), Err(BadDocument::TooLarge));
    assert_eq!(Document::parse(deep(100_000).as_bytes()), Err(BadDocument::TooLarge));
}

#[test]
fn contact_priority_is_a_decimal_of_three_digits() {
    for (text, thousandths) in [
        ("0", Some(0)),
        ("1", Some(1000)),
        ("1.00", Some(1000)),
        ("0.021", Some(21)),
        ("0.5", Some(500)),
        (".5", Some(500)),
        ("1.", Some(1000)),
        ("1.001", None),
        ("0.0001", None),
        ("-0.1", None),
        ("", None),
        (".", None),
        ("99999999", None),
        ("+1", None),
        ("0,5", None),
    ] {
        let body = format!(
            "<presence xmlns='{PIDF}'><tuple id='a'><contact priority='{text}'>sip:a@b</contact></tuple></presence>"
        );
        assert_eq!(Document::parse(body.as_bytes()).unwrap().tuples[0].priority, thousandths, "{text:?}");
    }
}

#[test]
fn what_is_printed_has_both_forms_in_schema_order() {
    let document = Document {
        entity: "sip:a&b@h.example".into(),
        tuples: vec![Tuple {
            id: "ID-x".into(),
            open: Some(true),
            show: Some("dnd".into()),
            activities: words(&["busy"]),
            note: note("1 < 2"),
            contact: Some("sip:a@h.example".into()),
            priority: Some(500),
        }],
        activities: words(&["busy", "at-the-moon"]),
        note: None,
    };
    let text = document.print(true);
    let at = |what: &str| text.find(what).unwrap_or_else(|| panic!("{what} in {text}"));
    let order = [
        "<basic>open</basic>",
        "<show xmlns=\"jabber:client\">dnd</show>",
        "<ep:activity>busy</ep:activity>",
        "</status>",
        "<contact priority=\"0.5\">",
        "<note>1 &lt; 2</note>",
        "</tuple>",
        "<dm:person id=\"person\"><rpid:activities><rpid:busy/>",
        "<rpid:other>at-the-moon</rpid:other>",
    ];
    assert!(order.map(at).is_sorted(), "{text}");
    assert!(text.contains("xmlns:ep=\"urn:ietf:params:xml:ns:pidf:status:rpid-status\""));
    assert!(!document.print(false).contains("rpid-status"));
    let unprintable = Document { note: note("a\u{1}b\u{ffff}"), ..Document::default() };
    assert_eq!(Document::parse(unprintable.print(false).as_bytes()).unwrap().note, note("a\u{fffd}b\u{fffd}"));
}

fn texts() -> impl Strategy<Value = String> {
    prop_oneof![r#"[ -~]{0,12}[!-~]"#, r"[a-zA-Z<>&'\n\r\t\u{10000}😀]{0,8}x", r"\PC{0,8}x"]
}
fn notes() -> impl Strategy<Value = Option<Note>> {
    proptest::option::of((proptest::option::of("[a-z]{2}"), texts()).prop_map(|(lang, text)| Note { lang, text }))
}
fn activities() -> impl Strategy<Value = Vec<String>> {
    proptest::collection::btree_set(prop_oneof!["busy|away|on-the-phone", "[a-z]{2,8}"], 0..3)
        .prop_map(|set| set.into_iter().filter(|word| word != "note" && word != "other").collect())
}
fn tuples() -> impl Strategy<Value = Tuple> {
    let contact = proptest::option::of(("sip:[!-~]{1,12}", proptest::option::of(0..=1000u16)));
    ("ID-[a-z]{0,4}", any::<Option<bool>>(), proptest::option::of("away|dnd|xa|chat"), activities(), notes(), contact)
        .prop_map(|(id, open, show, activities, note, contact)| Tuple {
            id,
            open,
            show,
            activities,
            note,
            priority: contact.as_ref().and_then(|(_, priority)| *priority),
            contact: contact.map(|(contact, _)| contact),
        })
}

proptest! {
    #[test]
    fn every_document_is_read_back(
        entity in "(sip:)?[!-~]{0,16}", tuples in proptest::collection::vec(tuples(), 0..4), activities in activities(), note in notes(),
        draft in any::<bool>()
    ) {
        let document = Document { entity, tuples, activities, note };
        let text = document.print(draft);
        prop_assert_eq!(Document::parse(text.as_bytes()).unwrap(), document);
    }

    #[test]
    fn hostile_bodies_never_panic(body in any::<Vec<u8>>(), text in r#"(<presence xmlns='urn:ietf:params:xml:ns:pidf'>)?[<>/a-z&;!\[\]="' -]{0,60}"#) {
        for body in [body.as_slice(), text.as_bytes()] {
            let _ = Document::parse(body);
            let _ = Document::parse_categories(body);
            let _ = Document::parse_msrtc(body);
        }
    }
}
