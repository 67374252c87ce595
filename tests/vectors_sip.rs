//! What the SIP codec must do with every message of `tests/vectors/sip`: which frames come out, and what the check says.
//! Sources of the messages: `tests/vectors/sip/README.md`.

use bytes::Bytes;
use fedgate::wire::sip::compose::Response;
use fedgate::wire::sip::dialog::{contact_uri, route_set};
use fedgate::wire::sip::header::{MediaType, Name, SubscriptionState};
use fedgate::wire::sip::{Fault, Frame, Framer, Host, Message, Start, Uri};
use std::collections::BTreeSet;
use std::path::PathBuf;

/// What a frame must be.
#[derive(Debug, PartialEq)]
enum Expect {
    /// A message that passes the check; its method (a response: the CSeq's) and body length.
    Good(&'static str, usize),
    /// A message whose framing is sound but that is refused: the fault's text holds this.
    Refused(&'static str),
    /// 505.
    Version,
    /// 416.
    Scheme,
    /// A ping.
    Ping,
    /// Framing is lost, and this can be answered.
    Fatal(&'static str),
    /// Framing is lost, and there is nobody to answer.
    Lost(&'static str),
    /// No message, nobody to answer, but the next one can be read.
    Dropped(&'static str),
}
use Expect::*;

const NOT_SIP: &str = "not SIP";
const TOO_LARGE: &str = "header section too large";

/// File, and its frames. No frames: the message isn't whole yet.
const TABLE: &[(&str, &[Expect])] = &[
    ("samples/aol-invite-im.sip", &[Good("INVITE", 139)]),
    ("samples/aol-message.sip", &[Good("MESSAGE", 14)]),
    ("samples/aol-notify-pidf.sip", &[Good("NOTIFY", 310)]),
    ("samples/aol-subscribe-email-user.sip", &[Good("SUBSCRIBE", 0)]),
    ("samples/lync-200-invite.sip", &[Good("INVITE", 190)]),
    ("samples/lync-200-subscribe-piggyback.sip", &[Good("SUBSCRIBE", 271)]),
    ("samples/lync-403-ms-diagnostics-public.sip", &[Good("SUBSCRIBE", 0)]),
    ("samples/lync-504-bare.sip", &[Good("INVITE", 0)]),
    ("samples/lync-504-ms-diagnostics.sip", &[Good("INVITE", 0)]),
    ("samples/lync-ack.sip", &[Good("ACK", 0)]),
    ("samples/lync-benotify.sip", &[Good("BENOTIFY", 1013)]),
    ("samples/lync-bye.sip", &[Good("BYE", 0)]),
    ("samples/lync-info-composing.sip", &[Good("INFO", 92)]),
    ("samples/lync-invite-im.sip", &[Good("INVITE", 239)]),
    ("samples/lync-keepalive-crlf.sip", &[Ping]),
    ("samples/lync-message-html.sip", &[Good("MESSAGE", 122)]),
    ("samples/lync-message-multipart.sip", &[Good("MESSAGE", 209)]),
    ("samples/lync-message-plain-msgr.sip", &[Good("MESSAGE", 39)]),
    ("samples/lync-negotiate.sip", &[Good("NEGOTIATE", 0)]),
    ("samples/lync-notify-msrtc-categories.sip", &[Good("NOTIFY", 1066)]),
    ("samples/lync-notify-pidf.sip", &[Good("NOTIFY", 425)]),
    ("samples/lync-subscribe-nobody.sip", &[Good("SUBSCRIBE", 0)]),
    ("samples/lync-subscribe.sip", &[Good("SUBSCRIBE", 429)]),
    // Syntax is sound; what is wrong, if anything, is a matter of dialogs, policy or bodies, which a codec can't judge.
    ("torture/benotify-no-dialog.sip", &[Good("BENOTIFY", 425)]),
    ("torture/cancel-unmatched.sip", &[Good("CANCEL", 0)]),
    ("torture/invite-conf.sip", &[Good("INVITE", 153)]),
    ("torture/invite-msrp.sip", &[Good("INVITE", 202)]),
    ("torture/many-vias.sip", &[Good("MESSAGE", 1)]),
    ("torture/message-1301-octets.sip", &[Good("MESSAGE", 1301)]),
    ("torture/message-content-encoding.sip", &[Good("MESSAGE", 11)]),
    ("torture/message-cpim.sip", &[Good("MESSAGE", 157)]),
    ("torture/message-invalid-utf8.sip", &[Good("MESSAGE", 13)]),
    ("torture/message-unsupported-type.sip", &[Good("MESSAGE", 1)]),
    ("torture/missing-max-forwards.sip", &[Good("MESSAGE", 1)]),
    ("torture/notify-no-dialog.sip", &[Good("NOTIFY", 425)]),
    ("torture/notify-no-substate.sip", &[Good("NOTIFY", 425)]),
    ("torture/notify-pidf-entity-bomb.sip", &[Good("NOTIFY", 372)]),
    ("torture/notify-terminated-probation.sip", &[Good("NOTIFY", 0)]),
    ("torture/notify-terminated-rejected.sip", &[Good("NOTIFY", 0)]),
    ("torture/pai-mismatch.sip", &[Good("MESSAGE", 1)]),
    ("torture/record-route-header-params.sip", &[Good("INVITE", 239)]),
    ("torture/spoofed-own-domain.sip", &[Good("MESSAGE", 1)]),
    ("torture/subscribe-accept-none.sip", &[Good("SUBSCRIBE", 0)]),
    ("torture/subscribe-interval-too-brief.sip", &[Good("SUBSCRIBE", 0)]),
    ("torture/subscribe-no-contact.sip", &[Good("SUBSCRIBE", 0)]),
    ("torture/tag-param-order.sip", &[Good("MESSAGE", 1)]),
    ("torture/top-via-no-branch.sip", &[Good("MESSAGE", 1)]),
    ("torture/user-apostrophe-amp.sip", &[Good("MESSAGE", 1)]),
    ("torture/vias-interleaved-nobranch.sip", &[Good("MESSAGE", 1)]),
    ("torture/vias-one-line.sip", &[Good("MESSAGE", 1)]),
    // Framing.
    ("torture/content-length-missing.sip", &[Fatal("Content-Length is missing")]),
    ("torture/content-length-negative.sip", &[Fatal("Content-Length is not a number")]),
    ("torture/content-length-plus-sign.sip", &[Fatal("Content-Length is not a number")]),
    ("torture/content-length-too-short.sip", &[Good("MESSAGE", 4), Lost(NOT_SIP)]),
    ("torture/leading-crlf.sip", &[Ping, Good("MESSAGE", 1)]),
    ("torture/leading-garbage.sip", &[Lost(NOT_SIP)]),
    ("torture/many-headers.sip", &[Fatal(TOO_LARGE)]),
    ("torture/mixed-eol.sip", &[Fatal("bare LF")]),
    ("torture/pipelined.sip", &[Good("MESSAGE", 5), Ping, Good("MESSAGE", 6)]),
    ("torture/status-code-out-of-range.sip", &[Dropped("status code")]),
    // Syntax.
    ("torture/cseq-too-big.sip", &[Refused("CSeq is not a number below 2^31")]),
    ("torture/duplicate-from.sip", &[Refused("more than one From")]),
    ("torture/method-lowercase.sip", &[Refused("CSeq method is not the request's method")]),
    ("torture/missing-call-id.sip", &[Refused("Call-ID is missing")]),
    ("torture/missing-cseq.sip", &[Refused("CSeq is missing")]),
    ("torture/nul-in-header.sip", &[Refused("NUL")]),
    ("torture/startline-two-spaces.sip", &[Refused("start line")]),
    // RFC 4475 §3.1.1: valid messages.
    ("rfc4475/wsinv.dat", &[Good("INVITE", 150)]),
    ("rfc4475/intmeth.dat", &[Good("!interesting-Method0123456789_*+`.%indeed'~", 0)]),
    ("rfc4475/esc01.dat", &[Good("INVITE", 150)]),
    ("rfc4475/escnull.dat", &[Good("REGISTER", 0)]),
    ("rfc4475/esc02.dat", &[Good("RE%47IST%45R", 0)]),
    ("rfc4475/lwsdisp.dat", &[Good("OPTIONS", 0)]),
    ("rfc4475/longreq.dat", &[Good("INVITE", 150)]),
    // §3.1.1.8 is one datagram whose second request is to be ignored; a stream goes on after Content-Length. Two bytes too many end it.
    ("rfc4475/dblreq.dat", &[Good("REGISTER", 0), Good("INVITE", 150), Lost(NOT_SIP)]),
    ("rfc4475/semiuri.dat", &[Good("OPTIONS", 0)]),
    ("rfc4475/transports.dat", &[Good("OPTIONS", 0)]),
    ("rfc4475/mpart01.dat", &[Good("MESSAGE", 553)]),
    ("rfc4475/unreason.dat", &[Good("INVITE", 154)]),
    ("rfc4475/noreason.dat", &[Good("INVITE", 0)]),
    // §3.1.2: invalid messages.
    ("rfc4475/badinv01.dat", &[Refused("Via parameters")]),
    // §3.1.2.2: on a stream the rest may still come.
    ("rfc4475/clerr.dat", &[]),
    ("rfc4475/ncl.dat", &[Fatal("Content-Length is not a number")]),
    ("rfc4475/scalar02.dat", &[Refused("CSeq")]),
    ("rfc4475/scalarlg.dat", &[Refused("CSeq")]),
    ("rfc4475/quotbal.dat", &[Refused("To: display name has no closing quote")]),
    ("rfc4475/ltgtruri.dat", &[Refused("Request-URI: ")]),
    ("rfc4475/lwsruri.dat", &[Refused("start line")]),
    ("rfc4475/lwsstart.dat", &[Refused("start line")]),
    ("rfc4475/trws.dat", &[Refused("start line")]),
    ("rfc4475/escruri.dat", &[Refused("Request-URI has URI headers")]),
    // §3.1.2.12: "an element shouldn't do that unless the contents of the Date header field were actually important to its processing".
    ("rfc4475/baddate.dat", &[Good("INVITE", 150)]),
    ("rfc4475/regbadct.dat", &[Refused("Contact: address whose URI holds ?")]),
    ("rfc4475/badaspec.dat", &[Refused("To: URI holds white space")]),
    // §3.1.2.15: the archive's file lacks the empty line; see `cut_off_rfc4475_message`.
    ("rfc4475/baddn.dat", &[]),
    ("rfc4475/badvers.dat", &[Version]),
    ("rfc4475/mismatch01.dat", &[Refused("CSeq method")]),
    ("rfc4475/mismatch02.dat", &[Refused("CSeq method")]),
    ("rfc4475/bigcode.dat", &[Dropped("status code")]),
    // §3.2, §3.3: transaction and application semantics. A codec judges only what it must read to let anybody act.
    ("rfc4475/badbranch.dat", &[Good("OPTIONS", 0)]), // a branch of nothing but the cookie: the transaction layer's
    ("rfc4475/insuf.dat", &[Refused("From is missing")]),
    ("rfc4475/unkscm.dat", &[Scheme]),
    ("rfc4475/novelsc.dat", &[Scheme]),
    ("rfc4475/unksm2.dat", &[Good("REGISTER", 0)]), // unknown schemes in From, To, Contact: the registrar's
    ("rfc4475/bext01.dat", &[Good("OPTIONS", 0)]),  // unknown Require and Proxy-Require: 420 is the proxy's
    ("rfc4475/invut.dat", &[Good("INVITE", 40)]),   // unknown body type: 415 is the receiver's
    ("rfc4475/regaut01.dat", &[Good("REGISTER", 0)]), // unknown authorization scheme: the registrar's
    ("rfc4475/multi01.dat", &[Refused("more than one From")]),
    ("rfc4475/mcl01.dat", &[Fatal("more than one Content-Length")]),
    ("rfc4475/bcast.dat", &[Good("INVITE", 154)]), // a broadcast Via below the top one: the element named in it is not us
    ("rfc4475/zeromf.dat", &[Good("OPTIONS", 0)]), // Max-Forwards 0: 483 is the proxy's
    ("rfc4475/cparam01.dat", &[Good("REGISTER", 0)]), // unknown Contact parameters: the registrar's
    ("rfc4475/cparam02.dat", &[Good("REGISTER", 0)]),
    ("rfc4475/regescrt.dat", &[Good("REGISTER", 0)]), // an escaped Route in a Contact: the registrar's
    ("rfc4475/sdp01.dat", &[Good("INVITE", 150)]),    // Accept that SDP can't meet: 406 is the receiver's
    // §3.4.1: an RFC 2543 request needs no Content-Length; on a stream it does.
    ("rfc4475/inv2543.dat", &[Fatal("Content-Length is missing")]),
    // Not in the text: no version in the start line, no Via, a line without colon.
    ("rfc4475/test.dat", &[Lost(NOT_SIP)]),
];

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/sip")
}

fn read(file: &str) -> Vec<u8> {
    std::fs::read(folder().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn frames(bytes: &[u8], chunk: usize) -> Vec<Frame> {
    let mut framer = Framer::new(65_536, 65_536);
    let mut out = Vec::new();
    for chunk in bytes.chunks(chunk) {
        framer.buffer().extend_from_slice(chunk);
        while let Some(frame) = framer.next() {
            out.push(frame);
        }
    }
    out
}

fn message(file: &str) -> Message {
    match frames(&read(file), usize::MAX).into_iter().find(|frame| matches!(frame, Frame::Message(_))) {
        Some(Frame::Message(message)) => message,
        _ => panic!("{file}: no message"),
    }
}

fn matches_expectation(frame: &Frame, expect: &Expect) -> bool {
    let holds = |fault: &Fault, text: &str| fault.to_string().contains(text);
    match (frame, expect) {
        (Frame::Ping, Ping) => true,
        (Frame::Message(message), Good(method, body)) => {
            message.check().is_ok()
                && message.method().is_some_and(|found| found.as_str() == *method)
                && message.body().len() == *body
        }
        (Frame::Message(message), Refused(text)) => {
            matches!(message.check(), Err(fault @ Fault::Malformed(_)) if holds(&fault, text))
        }
        (Frame::Message(message), Version) => message.check() == Err(Fault::Version),
        (Frame::Message(message), Scheme) => message.check() == Err(Fault::Scheme),
        (Frame::Bad { message, fault, fatal }, expect) => match expect {
            Fatal(text) => message.is_some() && *fatal && holds(fault, text),
            Lost(text) => message.is_none() && *fatal && holds(fault, text),
            Dropped(text) => message.is_none() && !*fatal && holds(fault, text),
            _ => false,
        },
        _ => false,
    }
}

#[test]
fn every_message_is_framed_and_judged_as_the_table_says() {
    for (file, expected) in TABLE {
        let bytes = read(file);
        for chunk in [usize::MAX, 1, 7] {
            let found = frames(&bytes, chunk);
            let ok = found.len() == expected.len()
                && found.iter().zip(*expected).all(|(frame, expect)| matches_expectation(frame, expect));
            let verdicts: Vec<_> = found
                .iter()
                .map(|frame| match frame {
                    Frame::Message(message) => format!("{:?} {:?}", message.method(), message.check()),
                    other => format!("{other:?}"),
                })
                .collect();
            assert!(ok, "{file} in chunks of {chunk}: expected {expected:?}, found {verdicts:#?}");
        }
    }
}

#[test]
fn no_file_is_left_out_of_the_table() {
    let mut found = BTreeSet::new();
    for part in ["samples", "torture", "rfc4475"] {
        for entry in std::fs::read_dir(folder().join(part)).expect("folder of vectors") {
            let name = entry.expect("entry").file_name();
            found.insert(format!("{part}/{}", name.to_string_lossy()));
        }
    }
    let listed: BTreeSet<String> = TABLE.iter().map(|(file, _)| (*file).to_owned()).collect();
    assert_eq!(listed, found);
    assert_eq!(listed.len(), TABLE.len(), "a file is listed twice");
}

/// Whatever can be answered is answered by a message that passes our own check, or at least can be read as a response.
#[test]
fn every_answerable_request_gets_a_readable_answer() {
    for (file, _) in TABLE {
        for frame in frames(&read(file), usize::MAX) {
            let request = match frame {
                Frame::Message(message) | Frame::Bad { message: Some(message), .. } if message.is_request() => message,
                _ => continue,
            };
            let response = Response {
                request: &request,
                status: 400,
                reason: None,
                to_tag: Some("fg-1"),
                record_route: false,
                headers: &[],
                body: None,
            };
            let printed = Message::parse(response.print()).unwrap_or_else(|fault| panic!("{file}: {fault}"));
            assert_eq!(printed.start(), Start::Response { status: 400, reason: "Bad Request" }, "{file}");
            assert!(printed.rows(Name::Via).eq(request.rows(Name::Via)), "{file}: Vias in order");
            assert_eq!(printed.header(Name::CallId), request.header(Name::CallId), "{file}");
            if request.check().is_ok() {
                printed.check().unwrap_or_else(|fault| panic!("{file}: {fault}"));
                assert_eq!(printed.to_tag(), Some(request.to_tag().unwrap_or("fg-1")), "{file}");
                assert_eq!(printed.from_tag(), request.from_tag(), "{file}");
            }
        }
    }
}

#[test]
fn cut_off_rfc4475_message() {
    let mut bytes = read("rfc4475/baddn.dat");
    bytes.extend_from_slice(b"\r\n");
    let expect = Refused("From: display name without quotes");
    assert!(matches!(frames(&bytes, 1).as_slice(), [frame] if matches_expectation(frame, &expect)));
}

#[test]
fn message_shorter_than_its_content_length() {
    let message = Message::parse(Bytes::from(read("rfc4475/clerr.dat"))).expect("indexes");
    assert_eq!(message.check(), Err(Fault::Malformed("Content-Length is not the length of the body")));
}

#[test]
fn tags_stand_where_the_grammar_says() {
    for (file, from, to) in [
        ("torture/tag-param-order.sip", Some("yes1"), None),
        ("samples/lync-200-invite.sip", Some("fg-8812aa"), Some("c0ffee12ab")),
        ("samples/lync-bye.sip", Some("4f0e6c1b2d"), Some("fg-5501cc")),
        ("samples/lync-subscribe-nobody.sip", Some("61f0aa3c27"), None),
        ("rfc4475/wsinv.dat", Some("98asjd8"), Some("1918181833n")),
        ("rfc4475/intmeth.dat", Some("_token~1'+`*%!-."), None),
        ("rfc4475/cparam01.dat", Some("DkfVgjkrtMwaerKKpe"), None),
    ] {
        let message = message(file);
        assert_eq!((message.from_tag(), message.to_tag()), (from, to), "{file}");
    }
}

#[test]
fn vias_come_in_order() {
    let sent_by = |file: &str| -> Vec<String> {
        let message = message(file);
        let hosts = message.values(Name::Via).map(|value| {
            let via = fedgate::wire::sip::header::Via::parse(value)
                .unwrap_or_else(|fault| panic!("{file}: {value}: {fault}"));
            match via.host {
                Host::Name(name) => name.to_owned(),
                Host::V4(address) => address.to_string(),
                Host::V6(address) => address.to_string(),
            }
        });
        hosts.collect()
    };
    assert_eq!(sent_by("torture/vias-one-line.sip"), ["sip.foreign.example.net", "10.0.0.2", "2001:db8::9:1"]);
    assert_eq!(sent_by("torture/vias-interleaved-nobranch.sip"), ["sip.foreign.example.net", "10.0.0.2", "10.0.0.3"]);
    assert_eq!(sent_by("samples/lync-invite-im.sip"), ["203.0.113.20", "10.20.30.40", "10.20.31.5"]);
    assert_eq!(sent_by("rfc4475/wsinv.dat"), ["192.0.2.2", "spindle.example.com", "192.168.255.111"]);
    assert_eq!(sent_by("rfc4475/transports.dat").len(), 5);
    assert_eq!(sent_by("torture/many-vias.sip").len(), 81);
}

#[test]
fn branches_of_the_top_via() {
    assert_eq!(message("torture/top-via-no-branch.sip").branch(), None);
    assert_eq!(message("samples/lync-negotiate.sip").branch(), None);
    assert_eq!(message("torture/vias-one-line.sip").branch(), Some("z9hG4bKone1"));
    assert_eq!(message("samples/lync-invite-im.sip").branch(), Some("z9hG4bK2DA3892F.D0429AA1B3C77E10"));
    assert_eq!(message("rfc4475/wsinv.dat").branch(), Some("390skdjuw"));
}

#[test]
fn route_sets_keep_every_byte_of_the_uri() {
    let invite = message("torture/record-route-header-params.sip");
    let routes = [
        "<sip:sip.foreign.example.net:5061;transport=tls;lr;ms-route-sig=aaSig>",
        "<sip:fe01.corp.foreign.example.net:5061;transport=tls;ms-fe=fe01;lr>",
        "<sip:dir.corp.foreign.example.net:5061;lr>",
    ];
    assert_eq!(route_set(&invite, false), routes);
    assert!(route_set(&invite, true).iter().rev().eq(routes.iter()));
    assert_eq!(
        contact_uri(&invite).map(|uri| uri.text),
        Some("sip:juliet@foreign.example.net;opaque=user:epid:abc;gruu")
    );

    let ok = message("samples/lync-200-subscribe-piggyback.sip");
    assert_eq!(
        route_set(&ok, true),
        [
            "<sip:pool01.corp.foreign.example.net:5061;transport=tls;lr>",
            "<sip:sip.foreign.example.net:5061;transport=tls;lr;ms-key-info=AAEAAWQ5c2FtcGxlMDE;ms-route-sig=fbQzsampleSig01AA>",
        ]
    );
    let nobody = message("samples/lync-subscribe-nobody.sip");
    assert_eq!(contact_uri(&nobody).and_then(|uri| uri.param("maddr")), Some("10.20.31.6"));
    assert_eq!(contact_uri(&message("rfc4475/multi01.dat")), None);
}

#[test]
fn record_route_is_copied_whole() {
    let request = message("torture/record-route-header-params.sip");
    let response = Response {
        request: &request,
        status: 200,
        reason: None,
        to_tag: Some("x"),
        record_route: true,
        headers: &[],
        body: None,
    };
    let printed = Message::parse(response.print()).expect("parses");
    assert!(printed.rows(Name::RecordRoute).eq(request.rows(Name::RecordRoute)));
}

#[test]
fn users_and_hosts_that_policy_reads() {
    let user_host = |file: &str| {
        let message = message(file);
        let from = message.from().unwrap_or_else(|| panic!("{file}: From"));
        let Host::Name(host) = from.uri.host else { panic!("{file}: host") };
        (from.uri.user.map(str::to_owned), host.to_owned())
    };
    assert_eq!(user_host("samples/aol-subscribe-email-user.sip"), (Some("juliet(gmail.com)".into()), "aol.com".into()));
    assert_eq!(
        user_host("torture/user-apostrophe-amp.sip"),
        (Some("o'malley&co/x".into()), "foreign.example.net".into())
    );
    assert_eq!(user_host("rfc4475/esc01.dat"), (Some("I%20have%20spaces".into()), "example.net".into()));
    assert_eq!(user_host("torture/spoofed-own-domain.sip"), (Some("ceo".into()), "example.com".into()));

    let semi = message("rfc4475/semiuri.dat");
    let Start::Request { uri, .. } = semi.start() else { panic!("request") };
    assert_eq!(Uri::parse(uri).expect("parses").user, Some("user;par=u%40example.net"));
    let escaped = message("rfc4475/esc01.dat");
    assert_eq!(contact_uri(&escaped).and_then(|uri| uri.param("lr")), Some(""));
}

#[test]
fn values_with_a_grammar_of_their_own() {
    let probation = message("torture/notify-terminated-probation.sip");
    let state = probation.header(Name::SubscriptionState).and_then(SubscriptionState::parse).expect("parses");
    assert_eq!(
        (state.state.as_str(), state.reason.as_deref(), state.retry_after),
        ("terminated", Some("probation"), Some(120))
    );
    let benotify = message("samples/lync-benotify.sip");
    assert_eq!(benotify.header(Name::SubscriptionState), Some("active;expires=20000"), "lower-case name");
    let multipart = message("samples/lync-message-multipart.sip");
    let kind = multipart.header(Name::ContentType).and_then(MediaType::parse).expect("parses");
    assert_eq!(kind.param("boundary"), Some("=_fgsample01"));
    assert_eq!(message("samples/lync-504-ms-diagnostics.sip").rows_named("MS-Diagnostics").count(), 2);
    assert_eq!(
        message("rfc4475/wsinv.dat").header_named("newfangledheader"),
        Some("newfangled value continued newfangled value")
    );
    let utf8 = message("rfc4475/unreason.dat");
    assert!(matches!(utf8.start(), Start::Response { status: 200, reason } if reason.starts_with("= 2**3 * 5**2 но")));
    let binary = message("rfc4475/mpart01.dat");
    assert!(binary.bytes().ends_with(binary.body()) && binary.body().contains(&0x82), "binary bodies stay as they are");
}
