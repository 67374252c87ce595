//! `rsip` as a second opinion: on the sub-grammar where its parser is right it must agree with ours; where it is known to be wrong,
//! a case says so, and fails when an upgrade mends it.

use super::header::Name;
use super::*;
use bytes::Bytes;
use proptest::prelude::*;
use rsip::headers::UntypedHeader;
use rsip::headers::{ToTypedHeader, untyped};
use rsip::message::HeadersExt;

proptest! {
    /// Users without a dot or `%`, named hosts with a dot, no URI headers: there `rsip` reads URIs as we do.
    #[test]
    fn uris_agree(user in "[a-z][a-z0-9_-]{0,10}", host in "[a-z]{1,8}\\.[a-z]{2,8}", port in prop::option::of(1u16..), lr in any::<bool>()) {
        let text = format!(
            "sip:{user}@{host}{}{}",
            port.map_or(String::new(), |port| format!(":{port}")),
            if lr { ";lr" } else { "" }
        );
        let ours = Uri::parse(&text).expect("ours");
        let theirs = rsip::Uri::try_from(text.as_str()).expect("theirs");
        prop_assert_eq!(ours.user, theirs.user());
        prop_assert_eq!(ours.host, Host::Name(&theirs.host().to_string()));
        prop_assert_eq!(ours.port, theirs.port().map(|port| *port.value()));
        prop_assert_eq!(ours.param("lr").is_some(), theirs.params.contains(&rsip::Param::Lr));
    }

    /// Requests with known methods, long names, one value in a row, no folds, text bodies.
    #[test]
    fn messages_agree(
        method in prop::sample::select(vec!["INVITE", "MESSAGE", "SUBSCRIBE", "NOTIFY", "BYE", "OPTIONS"]),
        user in "[a-z]{1,10}", tag in "[a-z0-9]{1,10}", call_id in "[a-z0-9]{1,20}", number in 1u32..1 << 31, body in "[a-z \r\n]{0,40}",
    ) {
        let text = format!(
            "{method} sip:{user}@example.com SIP/2.0\r\nVia: SIP/2.0/TLS a.example.net:5061;branch=z9hG4bK{tag}\r\nMax-Forwards: 70\r\n\
             From: \"J\" <sip:{user}@example.net>;tag={tag}\r\nTo: <sip:{user}@example.com>\r\nCall-ID: {call_id}\r\nCSeq: {number} {method}\r\n\
             Content-Type: text/plain\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let ours = Message::parse(Bytes::from(text.clone())).expect("ours");
        prop_assert_eq!(ours.check(), Ok(()));
        let theirs = rsip::Request::try_from(text.as_bytes()).expect("theirs");
        prop_assert_eq!(ours.method().map(ToString::to_string), Some(theirs.method.to_string()));
        prop_assert_eq!(ours.call_id(), Some(theirs.call_id_header().expect("Call-ID").value()));
        let from = theirs.from_header().expect("From").typed().expect("typed");
        prop_assert_eq!(ours.from().expect("From").uri.text.to_owned(), from.uri.to_string());
        prop_assert_eq!(ours.from_tag(), from.tag().map(|tag| tag.value()));
        let cseq = theirs.cseq_header().expect("CSeq").typed().expect("typed");
        prop_assert_eq!(ours.cseq().map(|(number, method)| (number, method.to_string())), Some((cseq.seq, cseq.method.to_string())));
        let via = theirs.via_header().expect("Via").typed().expect("typed");
        prop_assert_eq!(ours.branch(), via.branch().map(|branch| branch.value()));
        prop_assert_eq!(ours.body(), theirs.body.as_slice());
    }
}

const HEAD: &str = "Via: SIP/2.0/TLS a.example.net;branch=z9hG4bK1\r\nFrom: <sip:a@example.net>;tag=1\r\nTo: <sip:b@example.com>\r\n\
                    Call-ID: c\r\nContent-Length: 0\r\n";

fn theirs(text: &str) -> Result<rsip::SipMessage, rsip::Error> {
    rsip::SipMessage::try_from(text.as_bytes())
}

fn host_of(text: &str) -> (Option<String>, String) {
    let uri = rsip::Uri::try_from(text).expect("rsip takes it");
    (uri.user().map(str::to_owned), uri.host().to_string())
}

/// The field that policy reads: `rsip` gives a host that is none.
#[test]
fn divergence_hosts() {
    for (text, user, host, their_host) in [
        ("sip:john.doe@example.com", "john.doe", "example.com", "john.doe@example.com"),
        ("sip:user(gmail.com)@aol.com", "user(gmail.com)", "aol.com", "user(gmail.com)@aol.com"),
        ("sip:user%40gmail.com@msn.com", "user%40gmail.com", "msn.com", "user%40gmail.com@msn.com"),
        ("sip:b@example.org?Subject=x", "b", "example.org", "example.org?Subject=x"),
    ] {
        let ours = Uri::parse(text).expect("ours");
        assert_eq!((ours.user, ours.host), (Some(user), Host::Name(host)));
        assert_eq!(host_of(text).1, their_host, "rsip was mended");
    }
    assert!(Uri::parse("sip:a@b@c").is_err());
    assert_eq!(host_of("sip:a@b@c").1, "b@c", "rsip was mended");
    assert!(Uri::parse("sip:a@exa mple.com").is_err());
    assert_eq!(host_of("sip:a@exa mple.com").1, "exa", "rsip was mended");
}

#[test]
fn divergence_ipv6_hosts() {
    assert!(Uri::parse("sip:a@[2001:db8::1]:5061").is_ok());
    let text = format!("OPTIONS sip:a@[2001:db8::1] SIP/2.0\r\n{HEAD}CSeq: 1 OPTIONS\r\n\r\n");
    assert_eq!(Message::parse(Bytes::from(text.clone())).expect("ours").check(), Ok(()));
    assert!(theirs(&text).is_err(), "rsip was mended");
}

#[test]
fn divergence_parameters() {
    let text = "sip:a@b.c;opaque=user:epid:XYZ;gruu";
    assert_eq!(Uri::parse(text).expect("ours").param("opaque"), Some("user:epid:XYZ"));
    assert_eq!(rsip::Uri::try_from(text).expect("theirs").to_string(), "sip:a@b.c;opaque=user", "rsip was mended");
    let printed = rsip::Uri::try_from("sip:a@b.c;transport=tls").expect("theirs").to_string();
    assert_eq!(printed, "sip:a@b.c;transport=TLS", "rsip was mended");
    assert!(Uri::parse("sip:a@b.c;transport=ms-foo").is_ok());
    assert!(rsip::Uri::try_from("sip:a@b.c;transport=ms-foo").is_err(), "rsip was mended");
}

#[test]
fn divergence_lines() {
    let start = "OPTIONS sip:a@b.c SIP/2.0\r\n";
    for (extra, what) in [("Subject: a\r\n b\r\n", "folds"), ("Subject : a\r\n", "space before the colon")] {
        let text = format!("{start}{HEAD}{extra}CSeq: 1 OPTIONS\r\n\r\n");
        assert_eq!(Message::parse(Bytes::from(text.clone())).expect("ours").check(), Ok(()), "{what}");
        assert!(theirs(&text).is_err(), "{what}: rsip was mended");
    }
}

#[test]
fn divergence_methods() {
    for method in ["BENOTIFY", "SERVICE", "NOTIFYX"] {
        let text = format!("{method} sip:a@b.c SIP/2.0\r\n{HEAD}CSeq: 1 {method}\r\n\r\n");
        assert_eq!(Message::parse(Bytes::from(text.clone())).expect("ours").check(), Ok(()));
        assert!(theirs(&text).is_err(), "{method}: rsip was mended");
    }
}

#[test]
fn divergence_compact_names() {
    let text = "OPTIONS sip:a@b.c SIP/2.0\r\nv: SIP/2.0/TLS a.b\r\nf: <sip:a@b.c>\r\nt: <sip:a@b.c>\r\ni: x\r\nCSeq: 1 OPTIONS\r\nl: 0\r\n\r\n";
    let ours = Message::parse(Bytes::from_static(text.as_bytes())).expect("ours");
    assert_eq!(ours.check(), Ok(()));
    let rsip::SipMessage::Request(request) = theirs(text).expect("theirs") else { panic!("request") };
    assert!(request.via_header().is_err() && request.from_header().is_err(), "rsip was mended");
}

#[test]
fn divergence_content_length_and_bodies() {
    let one = format!("OPTIONS sip:a@b.c SIP/2.0\r\n{HEAD}CSeq: 1 OPTIONS\r\n\r\n");
    let rsip::SipMessage::Request(request) = theirs(&one.repeat(2)).expect("theirs") else { panic!("request") };
    assert_eq!(request.body.len(), one.len(), "the second message is the first one's body: rsip was mended");
    let mut framer = Framer::new(4_096, 4_096);
    framer.buffer().extend_from_slice(one.repeat(2).as_bytes());
    assert!(matches!(
        (framer.next(), framer.next(), framer.next()),
        (Some(Frame::Message(_)), Some(Frame::Message(_)), None)
    ));

    let negative = one.replacen("Content-Length: 0", "Content-Length: -1", 1);
    assert!(theirs(&negative).is_ok(), "rsip was mended");
    assert!(Message::parse(Bytes::from(negative)).expect("indexes").check().is_err());

    let rsip::SipMessage::Request(mut request) = theirs(&one).expect("theirs") else { panic!("request") };
    request.body = vec![0xff];
    assert!(!request.to_string().into_bytes().ends_with(&[0xff]), "binary bodies print as they are: rsip was mended");
}

#[test]
fn divergence_typed_values() {
    let row = "SIP/2.0/TLS a.example.net;branch=z9hG4bK1, SIP/2.0/TLS b.example.net;branch=z9hG4bK2";
    let typed = untyped::Via::new(row).typed().expect("theirs");
    assert_eq!(typed.uri.host().to_string(), "a.example.net");
    assert!(!typed.to_string().contains("b.example.net"), "the second value is dropped: rsip was mended");
    assert_eq!(header::list(row).count(), 2);

    let spaced = "Bob <sip:a@b.c> ; tag=1";
    assert_eq!(NameAddr::parse(spaced).expect("ours").tag(), Some("1"));
    assert!(untyped::From::new(spaced).typed().is_err(), "rsip was mended");
    let bracket = r#""a<b" <sip:a@b.c>;tag=1"#;
    assert_eq!(NameAddr::parse(bracket).expect("ours").uri.text, "sip:a@b.c");
    let typed = untyped::From::new(bracket).typed().expect("theirs");
    assert_eq!(typed.uri.auth.expect("user").user, "b\" <sip", "rsip was mended");

    let route = "<sip:a@b.c;lr;ms-route-sig=fmAbc-_=~+/x>";
    assert_eq!(NameAddr::parse(route).expect("ours").uri.param("ms-route-sig"), Some("fmAbc-_=~+/x"));
    let typed = untyped::Route::new(route).typed().expect("theirs").to_string();
    assert_eq!(typed, "<sip:a@b.c;lr;ms-route-sig=fmAbc-_>", "rsip was mended");
    let contact = untyped::Contact::new("<sip:a@b.c;opaque=user:epid:XYZ;gruu>").typed().expect("theirs").to_string();
    assert_eq!(contact, "<sip:a@b.c;opaque=user>", "rsip was mended");
}

#[test]
fn divergence_schemes() {
    assert_eq!(Uri::parse("im:a@b.c").map(|uri| (uri.scheme, uri.user)), Ok((Scheme::Im, Some("a"))));
    let im = rsip::Uri::try_from("im:a@b.c").expect("theirs");
    assert_eq!((im.scheme.clone(), im.user()), (None, Some("im")), "the scheme is taken for the user: rsip was mended");
}

#[test]
fn divergence_phrases() {
    assert_eq!(rsip::StatusCode::from(481).to_string(), "481 CallTransactionDoesNotExist", "rsip was mended");
    assert_eq!(compose::reason_phrase(481), "Call/Transaction Does Not Exist");
    let text = format!("SIP/2.0 606 Custom\r\n{HEAD}CSeq: 1 OPTIONS\r\n\r\n");
    let ours = Message::parse(Bytes::from(text.clone())).expect("ours");
    assert_eq!(ours.start(), Start::Response { status: 606, reason: "Custom" });
    let theirs = theirs(&text).expect("theirs").to_string();
    assert!(theirs.starts_with("SIP/2.0 606 NotAcceptableGlobal\r\n"), "rsip was mended");
}

#[test]
fn divergence_missing_headers() {
    let text = "OPTIONS sip:a@b.c SIP/2.0\r\nCSeq: 1 OPTIONS\r\n\r\n";
    assert!(theirs(text).is_ok(), "rsip was mended");
    let ours = Message::parse(Bytes::from_static(text.as_bytes())).expect("indexes");
    assert!(ours.check().is_err() && ours.header(Name::From).is_none());
}
