//! Framer, message and printer together: cases of one rule each, then properties over many inputs.

use super::compose::{Request, Response, reason_phrase};
use super::header::Name;
use super::*;
use crate::wire::limits::SIP_HEADERS;
use bytes::Bytes;
use proptest::prelude::*;

/// A MESSAGE with `extra` header lines before Content-Length.
fn text(extra: &str, body: &str) -> String {
    format!(
        "MESSAGE sip:romeo@example.com SIP/2.0\r\nVia: SIP/2.0/TLS a.example.net;branch=z9hG4bK1\r\nMax-Forwards: 70\r\n\
         From: <sip:juliet@example.net>;tag=1\r\nTo: <sip:romeo@example.com>\r\nCall-ID: c1\r\nCSeq: 1 MESSAGE\r\n\
         {extra}Content-Type: text/plain\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn message(text: &str) -> Message {
    Message::parse(Bytes::copy_from_slice(text.as_bytes())).unwrap_or_else(|fault| panic!("{fault}: {text}"))
}

fn fault(text: &str) -> String {
    message(text).check().expect_err(text).to_string()
}

fn frames(framer: &mut Framer, bytes: &[u8], chunks: &[usize]) -> Vec<Frame> {
    let mut out = Vec::new();
    let mut rest = bytes;
    let mut sizes = chunks.iter().copied().cycle();
    while !rest.is_empty() {
        let (chunk, later) = rest.split_at(sizes.next().unwrap_or(rest.len()).clamp(1, rest.len()));
        framer.buffer().extend_from_slice(chunk);
        while let Some(frame) = framer.next() {
            out.push(frame);
        }
        rest = later;
    }
    out
}

fn frames_of(bytes: &[u8]) -> Vec<Frame> {
    frames(&mut Framer::new(4_096, 1_000), bytes, &[usize::MAX])
}

/// A frame without the sharing of its bytes, to compare.
fn shape(frame: &Frame) -> (String, Option<Bytes>, bool) {
    match frame {
        Frame::Message(message) => ("message".into(), Some(message.bytes().clone()), false),
        Frame::Ping => ("ping".into(), None, false),
        Frame::Bad { message, fault, fatal } => {
            (fault.to_string(), message.as_ref().map(|message| message.bytes().clone()), *fatal)
        }
    }
}

#[test]
fn folds_become_one_space_and_stay_raw_for_relays() {
    let folded = message(&text("Subject:\r\n  one\r\n\ttwo  \r\nX-B: a \r\n b\r\n", "x"));
    assert_eq!(folded.header(Name::Subject), Some("one two"));
    assert_eq!(folded.header_named("x-b"), Some("a b"));
    assert_eq!(folded.check(), Ok(()));
    let raw = folded.all_rows().find(|row| row.id == Name::Subject).map(|row| row.raw);
    assert_eq!(raw, Some(&b"one\r\n\ttwo"[..]));
}

#[test]
fn rows_come_in_order_with_their_names() {
    let rows = message(&text("X-b : 1\r\nk: timer\r\n", ""));
    let names: Vec<_> = rows.all_rows().map(|row| (row.name, row.raw)).collect();
    assert_eq!(names[0].0, "Via");
    assert!(names.contains(&("X-b", b"1")) && names.contains(&("k", b"timer")));
    assert_eq!(rows.header(Name::Supported), Some("timer"));
}

#[test]
fn lines_that_could_be_read_in_two_ways() {
    for (extra, what) in [
        ("no colon here\r\n", "no colon"),
        ("X Y: z\r\n", "not a token"),
        (": z\r\n", "not a token"),
        ("X-A: b\r\n \r\n", "white space alone"),
        ("X-A: b\rc\r\n", "bare CR"),
        ("X-A: b\r\r\n", "bare CR"),
        ("X-A: b\nX-C: d\r\n", "bare LF"),
        ("X-A: \"\\\u{1}\r\n", "control character"),
        ("X-A: b\u{7f}\r\n", "control character"),
        ("Content-Type: text/html\r\n", "more than one Content-Type"),
        ("t: <sip:x@y>\r\n", "more than one To"),
        ("Via: \r\n", "empty value"),
        ("Contact: <sip:a@b>,,\r\n", "Contact: "),
        ("Route: sip:a@b@c\r\n", "Route: URI holds more than one @"),
        ("Record-Route: <sip:a b>\r\n", "Record-Route: URI holds white space"),
        ("Max-Forwards: 70\r\n", "more than one Max-Forwards"),
    ] {
        let found = fault(&text(extra, "x"));
        assert!(found.contains(what), "{extra:?}: {found}");
    }
}

/// What was read with the message and what is read only now come alike.
#[test]
fn addresses_come_in_order_however_many_there_are() {
    for count in [0, 1, 2, 3, 63, 64, 65, 400] {
        let mut values: Vec<String> = (0..count).map(|at| format!("<sip:a{at}@h.example;lr>;x={at}")).collect();
        let rows = |values: &[String]| -> String {
            let joined = values.chunks(3).map(|row| format!("Route: {}\r\n", row.join(" ,\t")));
            joined.chain(["Contact:\r\n <sip:c@h>\r\n".to_owned()]).collect()
        };
        let sound = message(&text(&rows(&values), "x"));
        sound.check().expect("sound");
        let read: Vec<_> =
            sound.addresses(Name::Route).map(|(value, address)| (value, address.expect(value))).collect();
        let parsed: Vec<_> =
            values.iter().map(|value| (value.as_str(), NameAddr::parse(value).expect(value))).collect();
        assert_eq!(read, parsed);
        let by_row = |(index, _)| sound.row_addresses(index).map(|(value, _)| value).collect::<Vec<_>>();
        let routes = sound.row_names().filter(|(_, name)| *name == Name::Route);
        assert_eq!(routes.flat_map(by_row).collect::<Vec<_>>(), values);
        let contact: Vec<_> =
            sound.addresses(Name::Contact).map(|(_, address)| address.expect("sound").uri.text).collect();
        assert_eq!(contact, ["sip:c@h"]);

        values.push("<sip:a@b".to_owned());
        let bad = text(&rows(&values), "x");
        assert_eq!(fault(&bad), "Route: address has no closing angle bracket");
        assert!(message(&bad).addresses(Name::Route).last().is_some_and(|(_, address)| address.is_err()));
    }
}

#[test]
fn values_that_are_refused() {
    let good = text("", "x");
    message(&good).check().expect("the base is sound");
    for (from, to, what) in [
        ("CSeq: 1 MESSAGE", "CSeq: 2147483648 MESSAGE", "2^31"),
        ("CSeq: 1 MESSAGE", "CSeq: +1 MESSAGE", "2^31"),
        ("CSeq: 1 MESSAGE", "CSeq: 1 message", "request's method"),
        ("Max-Forwards: 70", "Max-Forwards: 256", "Max-Forwards"),
        ("Max-Forwards: 70", "Max-Forwards: -1", "Max-Forwards"),
        ("Call-ID: c1", "Call-ID: a b", "Call-ID"),
        ("Call-ID: c1", "Call-ID: a@b@c", "Call-ID"),
        (";tag=1", ";tag=1;tag=2", "two tags"),
        ("Content-Length: 1", "Content-Length: 2", "length of the body"),
        ("Content-Type: text/plain", "Content-Type: text", "type/subtype"),
        ("Content-Type: text/plain\r\n", "", "Content-Type is missing"),
        ("SIP/2.0/TLS a", "SIP/2.0/TLS", "sent-by"),
        ("sip:romeo@example.com SIP", "sip:romeo@example.com;method=BYE SIP", "method parameter"),
        ("From: <sip:juliet@example.net>", "From: <sip:juliet@[::g]>", "From: host in brackets"),
    ] {
        let found = fault(&good.replacen(from, to, 1));
        assert!(found.contains(what), "{to}: {found}");
    }
    for (from, to, expected) in [
        ("SIP/2.0\r", "SIP/3.0\r", Fault::Version),
        ("MESSAGE sip:romeo@example.com", "MESSAGE tel:+123", Fault::Scheme),
        ("MESSAGE sip:romeo@example.com", "MESSAGE mailto:a@b", Fault::Scheme),
    ] {
        assert_eq!(message(&good.replacen(from, to, 1)).check(), Err(expected));
    }
}

#[test]
fn every_address_fault_names_its_header() {
    for bad in [
        "",
        "<sip:a@b",
        "<sip:a@b>;",
        "sip:a@b@c",
        "sip:a@b?x",
        "\"x",
        "a\"b <sip:x@y>",
        "<sip:@b>",
        "<sip:a@b:0>",
        "<sip:a@>",
        "<im:b>",
    ] {
        for header in ["Contact", "Route", "Record-Route"] {
            let found = fault(&text(&format!("{header}: {bad}\r\n"), "x"));
            assert!(found.starts_with(&format!("{header}: ")), "{bad}: {found}");
        }
    }
}

#[test]
fn not_utf8_is_refused_and_read_as_absent() {
    let mut bytes = text("X-A: b\r\n", "x").into_bytes();
    let at = bytes.windows(6).position(|window| window == b"X-A: b").expect("row") + 5;
    bytes[at] = 0xff;
    let message = Message::parse(bytes.into()).expect("indexes");
    assert_eq!(message.header_named("X-A"), None);
    assert_eq!(message.all_rows().find(|row| row.name == "X-A").map(|row| row.raw), Some(&[0xff][..]));
    assert_eq!(message.check(), Err(Fault::Malformed("a header value is not UTF-8")));
}

#[test]
fn pings_and_pongs() {
    let kinds = |bytes: &[u8]| frames_of(bytes).iter().map(|frame| shape(frame).0).collect::<Vec<_>>();
    assert_eq!(kinds(b"\r\n\r\n"), ["ping"]);
    assert!(kinds(b"\r\n").is_empty(), "a pong");
    assert_eq!(kinds(b"\r\n\r\n\r\n\r\n\r\n"), ["ping", "ping"]);
    assert_eq!(
        kinds(format!("\r\n{}\r\n\r\n{}", text("", "x"), text("", "")).as_bytes()),
        ["message", "ping", "message"]
    );
}

#[test]
fn what_is_not_sip_ends_the_stream_at_its_first_line() {
    for bytes in [&b"GET / HTTP/1.1\r\n"[..], b"\x16\x03\x01", b"\n", b"\rX", b"<?xml", b" MESSAGE", b"hello\r\n"] {
        let found = frames_of(bytes);
        assert!(matches!(found.as_slice(), [Frame::Bad { message: None, fatal: true, .. }]), "{bytes:?}: {found:?}");
    }
    let mut framer = Framer::new(4_096, 1_000);
    let all = [b"GET / HTTP/1.1\r\n", text("", "x").as_bytes()].concat();
    assert_eq!(frames(&mut framer, &all, &[5]).len(), 1, "nothing is read behind it");
    assert!(framer.buffer().is_empty(), "and nothing is kept");
}

#[test]
fn content_length_has_one_spelling() {
    for (from, to) in [
        ("Content-Length: 1\r\n", ""),
        ("Content-Length: 1\r\n", "Content-Length: 1\r\nContent-Length: 1\r\n"),
        ("Content-Length: 1\r\n", "Content-Length: 1\r\nl: 2\r\n"),
        ("Content-Length: 1\r\n", "Content-Length: 1, 1\r\n"),
        ("Content-Length: 1\r\n", "Content-Length: 0x1\r\n"),
        ("Content-Length: 1\r\n", "Content-Length: \r\n"),
        ("Content-Length: 1\r\n", "Content-Length: 1\r\n 1\r\n"),
        ("Content-Length: 1\r\n", "Content-Length: ١\r\n"),
    ] {
        let found = frames_of(text("", "x").replacen(from, to, 1).as_bytes());
        assert!(
            matches!(found.as_slice(), [Frame::Bad { message: Some(_), fault: Fault::Malformed(_), fatal: true }]),
            "{to}: {found:?}"
        );
    }
    let spaced = text("", "x").replacen("Content-Length: 1", "cOntent-length \t:\r\n  01", 1);
    assert!(matches!(frames_of(spaced.as_bytes()).as_slice(), [Frame::Message(message)] if message.check().is_ok()));
}

#[test]
fn bounds() {
    let head = text("", "").len();
    let padded = |length: usize| text(&format!("X: {}\r\n", "a".repeat(length - head - "X: \r\n".len())), "");
    assert!(matches!(frames_of(padded(4_096).as_bytes()).as_slice(), [Frame::Message(_)]), "as large as allowed");
    let found = frames_of(padded(4_097).as_bytes());
    assert!(
        matches!(found.as_slice(), [Frame::Bad { message: Some(_), fault: Fault::HeadTooLarge, fatal: true }]),
        "{found:?}"
    );
    let endless = frames_of("M".repeat(10_000).as_bytes());
    assert!(matches!(endless.as_slice(), [Frame::Bad { message: None, fault: Fault::HeadTooLarge, fatal: true }]));

    let rows = |count: usize| text(&"X: y\r\n".repeat(count - 8), "");
    assert_eq!(message(&rows(SIP_HEADERS)).all_rows().count(), SIP_HEADERS);
    assert_eq!(Message::parse(rows(SIP_HEADERS + 1).into()).map(|_| ()), Err(Fault::HeadTooLarge));

    let after = text("", "after");
    let large = format!("{}{after}", text("", &"b".repeat(8_000)));
    let found = frames(&mut Framer::new(4_096, 1_000), large.as_bytes(), &[100]);
    assert!(matches!(
        found.as_slice(),
        [Frame::Bad { message: Some(_), fault: Fault::BodyTooLarge, fatal: false }, Frame::Message(message)] if message.body() == b"after"
    ));
    let huge = text("", "").replacen("Content-Length: 0", "Content-Length: 99999999999999999999999999", 1);
    let found = frames_of(huge.as_bytes());
    assert!(matches!(found.as_slice(), [Frame::Bad { message: Some(_), fault: Fault::BodyTooLarge, fatal: true }]));
}

#[test]
fn a_body_may_look_like_anything() {
    let body = "\r\n\r\nMESSAGE sip:a@b SIP/2.0\r\nContent-Length: 9\r\n\r\n\0";
    let two = format!("{}{}", text("", body), text("", "second"));
    let bodies: Vec<Bytes> = frames_of(two.as_bytes())
        .into_iter()
        .map(|frame| match frame {
            Frame::Message(message) => Bytes::copy_from_slice(message.body()),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(bodies, [body.as_bytes(), b"second"]);
}

#[test]
fn methods_are_whole_and_case_sensitive() {
    for (text, method) in [("NOTIFY", Method::Notify), ("BENOTIFY", Method::Benotify)] {
        assert_eq!(Method::parse(text), method);
    }
    for other in ["NOTIFYX", "notify", ""] {
        assert_eq!(Method::parse(other), Method::Other(other.into()));
        assert_eq!(Method::parse(other).to_string(), other);
    }
}

fn response<'a>(request: &'a Message, headers: &'a [(&'static str, String)]) -> Response<'a> {
    Response { request, status: 480, reason: None, to_tag: Some("mine"), record_route: false, headers, body: None }
}

#[test]
fn responses_copy_rows_and_add_a_tag_once() {
    let request = message(&text(
        "Timestamp: 54\r\nRecord-Route: <sip:r;lr;ms-route-sig=a=>;x=y\r\nv: SIP/2.0/UDP [2001:db8::1]\r\n",
        "x",
    ));
    let headers = [("Retry-After", "60".to_owned()), ("Content-Length", "999".to_owned())];
    let printed = message(std::str::from_utf8(&response(&request, &headers).print()).expect("text"));
    assert_eq!(printed.check(), Ok(()));
    assert_eq!(printed.start(), Start::Response { status: 480, reason: "Temporarily Unavailable" });
    assert!(printed.rows(Name::Via).eq(request.rows(Name::Via)));
    assert_eq!((printed.to_tag(), printed.header(Name::RetryAfter)), (Some("mine"), Some("60")));
    assert_eq!(printed.rows(Name::ContentLength).collect::<Vec<_>>(), ["0"]);
    assert_eq!(printed.rows(Name::RecordRoute).count(), 0);

    let tagged = message(&text("", "x").replacen("romeo@example.com>\r", "romeo@example.com>;tag=theirs\r", 1));
    assert_eq!(message(std::str::from_utf8(&response(&tagged, &[]).print()).expect("text")).to_tag(), Some("theirs"));
    let trying = Response { status: 100, ..response(&request, &[]) };
    let trying = message(std::str::from_utf8(&trying.print()).expect("text"));
    assert_eq!((trying.to_tag(), trying.header_named("timestamp")), (None, Some("54")));
    assert_eq!(printed.header_named("timestamp"), None);
}

#[test]
fn a_response_to_bytes_that_are_not_text_keeps_them() {
    let mut bytes = text("", "x").into_bytes();
    let at = bytes.windows(7).position(|window| window == b"z9hG4bK").expect("branch");
    bytes[at] = 0xe9;
    let request = Message::parse(bytes.into()).expect("indexes");
    assert!(response(&request, &[]).model().is_none());
    let printed = response(&request, &[]).print();
    assert!(printed.windows(8).any(|window| window == b"\xe99hG4bK1"));
}

#[test]
fn nothing_is_injected() {
    let request = message(&text("", "x"));
    let headers = [("Warning", "a\r\nX-Evil: 1\r\n\r\nb\0c\nd".to_owned())];
    let printed =
        Response { reason: Some("No\r\nX-Evil: 2"), to_tag: Some("t\r\nX-Evil: 3"), ..response(&request, &headers) }
            .print();
    let printed = Message::parse(printed).expect("parses");
    assert_eq!(printed.header(Name::Warning), Some("a  X-Evil: 1    b c d"));
    assert_eq!(printed.header_named("X-Evil"), None);

    let method = Method::Other("A B\r\nX-Evil: 4".into());
    let evil =
        Request { method, uri: "sip:a@b\r\nX-Evil: 5", headers: &headers, body: Some(("a/b\r\nX-Evil: 6", b"x")) };
    let printed = Message::parse(evil.print()).expect("parses");
    assert_eq!(printed.header_named("X-Evil"), None);
}

#[test]
fn the_model_holds_what_rsip_can_hold() {
    let headers = [("To", "<sip:a@b>".to_owned())];
    let request =
        |method, uri| Request { method, uri, headers: &headers, body: Some(("text/plain", "é\0".as_bytes())) };
    for uri in [
        "sip:john.doe@[2001:db8::1]:5061;transport=tls;lr;ms-route-sig=aa-_=~+/x",
        "sips:a:pw@example.com",
        "sip:example.com;lr",
    ] {
        let request = request(Method::Subscribe, uri);
        let model = request.model().unwrap_or_else(|| panic!("{uri}"));
        assert_eq!((model.uri.to_string().as_str(), model.body.as_slice()), (uri, "é\0".as_bytes()));
        assert!(request.print().starts_with(format!("SUBSCRIBE {uri} SIP/2.0\r\nTo: <sip:a@b>\r\n").as_bytes()));
    }
    for (method, uri) in [
        (Method::Benotify, "sip:a@b"),
        (Method::Message, "sip:a@b?x=y"),
        (Method::Message, "im:a@b"),
        (Method::Message, "SIP:a@b"),
    ] {
        let request = request(method.clone(), uri);
        assert!(request.model().is_none(), "{uri}");
        let text = format!(
            "{method} {uri} SIP/2.0\r\nTo: <sip:a@b>\r\nContent-Type: text/plain\r\nContent-Length: 3\r\n\r\né\0"
        );
        assert_eq!(request.print(), text.as_bytes());
    }
}

#[test]
fn phrases_are_those_of_the_registry() {
    for (status, phrase) in [
        (200, "OK"),
        (481, "Call/Transaction Does Not Exist"),
        (504, "Server Time-out"),
        (606, "Not Acceptable"),
        (299, "Success"),
    ] {
        assert_eq!(reason_phrase(status), phrase);
    }
}

/// Every vector of `tests/vectors/sip`, read once.
fn vectors() -> &'static [Vec<u8>] {
    static VECTORS: std::sync::LazyLock<Vec<Vec<u8>>> = std::sync::LazyLock::new(read_vectors);
    &VECTORS
}

fn read_vectors() -> Vec<Vec<u8>> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/sip");
    let mut files: Vec<_> = ["samples", "torture", "rfc4475"]
        .iter()
        .flat_map(|part| std::fs::read_dir(folder.join(part)).expect("vectors"))
        .map(|entry| entry.expect("entry").path())
        .collect();
    files.sort();
    files.into_iter().map(|file| std::fs::read(file).expect("vector")).collect()
}

/// Every accessor; none may panic, whatever the bytes.
fn touch(message: &Message) {
    let _ = (message.check(), message.start(), message.method(), message.branch(), message.top_via(), message.body());
    let _ = (message.from_tag(), message.to_tag(), message.call_id(), message.cseq(), dialog::contact_uri(message));
    let _ = (message.values(Name::Via).count(), message.header_named("x"), dialog::route_set(message, true));
    for row in message.all_rows() {
        let text = row.text.unwrap_or_default();
        let _ = (header::MediaType::parse(text), header::SubscriptionState::parse(text), header::Event::parse(text));
        let _ = (header::Via::parse(text), header::retry_after(text), NameAddr::parse(text), Uri::parse(text));
    }
    if message.is_request() {
        let printed = Response { record_route: true, ..response(message, &[]) }.print();
        let back = Message::parse(printed).expect("what we print can be read");
        assert_eq!(back.start(), Start::Response { status: 480, reason: "Temporarily Unavailable" });
        assert_eq!(back.body(), b"");
        if message.check().is_ok() {
            assert_eq!(back.check(), Ok(()));
        }
    }
}

fn survive(bytes: &[u8], chunks: &[usize]) {
    let whole = frames(&mut Framer::new(4_096, 1_000), bytes, &[usize::MAX]);
    let pieces = frames(&mut Framer::new(4_096, 1_000), bytes, chunks);
    assert_eq!(whole.iter().map(shape).collect::<Vec<_>>(), pieces.iter().map(shape).collect::<Vec<_>>());
    for frame in &whole {
        match frame {
            Frame::Message(message) => {
                // What was framed must mean the same when parsed alone.
                let alone = Message::parse(message.bytes().clone()).expect("framed");
                assert_eq!((alone.check(), alone.body()), (message.check(), message.body()));
                touch(message);
            }
            Frame::Bad { message: Some(message), .. } => touch(message),
            _ => {}
        }
    }
    if let Ok(message) = Message::parse(Bytes::copy_from_slice(bytes)) {
        touch(&message);
    }
}

/// Bytes that matter to the grammar more often than others.
fn telling_byte() -> impl Strategy<Value = u8> {
    prop_oneof![prop::sample::select(b"\r\n \t:;,<>\"\\@?=%[]/0\0".to_vec()), any::<u8>()]
}

fn value() -> impl Strategy<Value = String> {
    "[!-~é][ -~é]{0,30}[!-~é]"
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(telling_byte(), 0..400), chunk in 1usize..50) {
        survive(&bytes, &[chunk]);
    }

    #[test]
    fn mutated_vectors_never_panic(
        which in any::<prop::sample::Index>(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), telling_byte(), 0u8..3), 0..6),
        chunks in prop::collection::vec(1usize..200, 1..6),
    ) {
        let mut bytes = which.get(vectors()).clone();
        for (at, byte, kind) in edits {
            let at = at.index(bytes.len().max(1));
            match kind {
                0 if at < bytes.len() => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                _ if at < bytes.len() => { bytes.remove(at); }
                _ => {}
            }
        }
        survive(&bytes, &chunks);
    }

    #[test]
    fn chunking_changes_nothing(
        bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 1..6),
        pings in prop::collection::vec(0usize..4, 6),
        chunks in prop::collection::vec(1usize..90, 1..8),
    ) {
        let mut bytes = Vec::new();
        for (body, pings) in bodies.iter().zip(&pings) {
            let request = Request { method: Method::Message, uri: "sip:a@b", headers: &[], body: Some(("a/b", body)) };
            bytes.extend_from_slice(&request.print());
            bytes.extend_from_slice(&b"\r\n\r\n".repeat(*pings));
        }
        let found = frames(&mut Framer::new(4_096, 1_000), &bytes, &chunks);
        let (mut read, mut pinged) = (Vec::new(), 0);
        for frame in &found {
            match frame {
                Frame::Message(message) => read.push(message.body().to_vec()),
                Frame::Ping => pinged += 1,
                other => prop_assert!(false, "{:?}", other),
            }
        }
        prop_assert_eq!(&read, &bodies);
        prop_assert_eq!(pinged, pings.iter().take(bodies.len()).sum::<usize>());
    }

    #[test]
    fn requests_come_back_as_printed(
        method in "[A-Z]{1,12}", user in "[a-z0-9.()_~-]{1,12}", host in "[a-z]{1,8}(\\.[a-z]{1,8}){0,3}",
        values in prop::collection::vec(value(), 0..6), body in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let uri = format!("sip:{user}@{host};lr");
        let headers: Vec<_> = values.iter().map(|value| ("X-Value", value.clone())).collect();
        let printed = Request { method: Method::parse(&method), uri: &uri, headers: &headers, body: Some(("a/b", &body)) }.print();
        let read = Message::parse(printed).expect("parses");
        prop_assert_eq!(read.start(), Start::Request { method: &Method::parse(&method), uri: &uri });
        prop_assert!(read.rows_named("X-Value").eq(values.iter().map(String::as_str)));
        prop_assert_eq!(read.body(), body);
        let uri = Uri::parse(&uri).expect("parses");
        prop_assert_eq!((uri.user, uri.host), (Some(user.as_str()), Host::Name(&host)));
    }

    #[test]
    fn any_text_as_a_value_stays_one_row(value in any::<String>(), uri in any::<String>(), method in any::<String>()) {
        let headers = [("X-Value", value)];
        let printed = Request { method: Method::Other(method.into()), uri: &uri, headers: &headers, body: None }.print();
        if let Ok(read) = Message::parse(printed) {
            prop_assert_eq!(read.all_rows().map(|row| row.name.to_owned()).collect::<Vec<_>>(), ["X-Value", "Content-Length"]);
            prop_assert_eq!(read.body(), b"");
        }
    }

    #[test]
    fn any_text_as_a_uri_or_address_never_panics(text in "[sip:@<>\"\\\\;?=%\\[\\].,a-z0-9 é\0-]{0,60}") {
        let _ = (Uri::parse(&text), header::Via::parse(&text));
        if let Ok(address) = NameAddr::parse(&text) {
            // At most one raw @, and it ends the user.
            prop_assert!(address.uri.text.matches('@').count() <= 1);
            if let (Scheme::Sip, Some(user)) = (address.uri.scheme, address.uri.user) {
                prop_assert!(address.uri.text[4..].starts_with(user));
            }
        }
    }
}
