//! What the whole gate makes of every message of `tests/vectors/sip` and every stanza of `tests/vectors/xmpp`: what its sender hears, what
//! a node hears of it, whether the link stays.
//! What each file is: the README beside it.

#![allow(missing_docs)]

mod support;

use fedgate::gate::reject::Reason::{self, *};
use fedgate::wire::sip::header::Name;
use fedgate::wire::sip::{Frame, Framer, Message, Start};
use fedgate::wire::xmpp::{Element, NS_SERVER};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;
use support::world::{Seen, World};

/// What a sender hears, or the operator in its stead.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Gets {
    /// A refusal by the contract's table: this status, a Warning with this reason, and what the status demands.
    Refused(u16, Reason),
    /// An answer that is no refusal of ours.
    Answer(u16),
    /// A NOTIFY whose Subscription-State begins like this.
    Notify(&'static str),
    /// Nothing, but the operator hears of it.
    Unheard(Reason),
}
use Gets::*;

/// What a node receives.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Inside {
    /// A message from this JID with this body.
    Text(&'static str, &'static str),
    /// A message whose body is this long.
    Long(&'static str, usize),
    /// `subscribe`.
    Subscribe(&'static str),
    /// `probe`.
    Probe(&'static str),
    /// `subscribed`.
    Subscribed(&'static str),
    /// `unsubscribed`.
    Unsubscribed(&'static str),
    /// What a contact shows: `<show/>` and `<status/>`.
    Shows(&'static str, &'static str, &'static str),
}
use Inside::*;

struct Row {
    file: &'static str,
    /// Who sends it.
    from: &'static str,
    gets: &'static [Gets],
    inside: &'static [Inside],
    /// Whether the link is closed after it.
    closed: bool,
    /// Whether a subscription of ours is there for it.
    watching: bool,
    /// Why this is right, where the message alone does not say so.
    why: &'static str,
}

const fn row(file: &'static str, from: &'static str, gets: &'static [Gets], inside: &'static [Inside]) -> Row {
    Row { file, from, gets, inside, closed: false, watching: false, why: "" }
}

impl Row {
    const fn closed(mut self) -> Row {
        self.closed = true;
        self
    }
    const fn watching(mut self) -> Row {
        self.watching = true;
        self
    }
    const fn because(mut self, why: &'static str) -> Row {
        self.why = why;
        self
    }
}

const LYNC: &str = "foreign.example.net";
const AOL: &str = "aol.com";
const JULIET: &str = "juliet@foreign.example.net";
const NO_DIALOG: &str = "inside a dialog that is not there; inside it: see `the_samples_of_a_conversation`";
const CALL: &str = "a call, allowed here by the entry: no media is carried";
const SHOWN: &str = "juliet@foreign.example.net/sip";
const NO_REQUEST: &str = "answers no request of ours (RFC 3261 §18.1.2)";
const RELAY: &str = "well-formed, and for a domain that is not ours";

const TABLE: &[Row] = &[
    row("samples/aol-invite-im.sip", AOL, &[Answer(200)], &[]),
    row("samples/aol-message.sip", AOL, &[Answer(200)], &[Text("julietscreen@aol.com", "are you there?")]),
    row(
        "samples/aol-notify-pidf.sip",
        AOL,
        &[Answer(200)],
        &[Subscribed("julietscreen@aol.com"), Shows("julietscreen@aol.com/sip", "away", "")],
    )
    .watching()
    .because("an entity without its scheme"),
    row(
        "samples/aol-subscribe-email-user.sip",
        AOL,
        &[Answer(200), Notify("pending;expires=3600")],
        &[Subscribe(r"juliet\40gmail.com@aol.com")],
    ),
    row("samples/lync-200-invite.sip", LYNC, &[], &[]).because(NO_REQUEST),
    row("samples/lync-200-subscribe-piggyback.sip", LYNC, &[], &[]).because(NO_REQUEST),
    row("samples/lync-403-ms-diagnostics-public.sip", LYNC, &[], &[]).because(NO_REQUEST),
    row("samples/lync-504-bare.sip", LYNC, &[], &[]).because(NO_REQUEST),
    row("samples/lync-504-ms-diagnostics.sip", LYNC, &[], &[]).because(NO_REQUEST),
    row("samples/lync-ack.sip", LYNC, &[], &[]).because("ACK is never answered (RFC 3261 §17)"),
    row(
        "samples/lync-benotify.sip",
        LYNC,
        &[],
        &[Subscribed(JULIET), Shows(SHOWN, "away", "On the balcony until ten")],
    )
    .watching()
    .because("BENOTIFY is read and never answered"),
    row("samples/lync-bye.sip", LYNC, &[Answer(481)], &[]).because(NO_DIALOG),
    row("samples/lync-info-composing.sip", LYNC, &[Answer(481)], &[]).because(NO_DIALOG),
    row("samples/lync-invite-im.sip", LYNC, &[Answer(200)], &[])
        .because("the text inside comes again as the first MESSAGE, for our answer does not claim it"),
    row("samples/lync-keepalive-crlf.sip", LYNC, &[], &[]),
    row("samples/lync-message-html.sip", LYNC, &[Answer(481)], &[]).because(NO_DIALOG),
    row("samples/lync-message-multipart.sip", LYNC, &[Answer(481)], &[]).because(NO_DIALOG),
    row("samples/lync-message-plain-msgr.sip", LYNC, &[Answer(481)], &[]).because(NO_DIALOG),
    row("samples/lync-negotiate.sip", LYNC, &[Refused(405, Unsupported)], &[])
        .because("answered by this hop, never 483: it goes on uncompressed"),
    row(
        "samples/lync-notify-msrtc-categories.sip",
        LYNC,
        &[Answer(200)],
        &[Subscribed(JULIET), Shows(SHOWN, "away", "Busy: On the balcony until ten")],
    )
    .watching()
    .because("not asked for, and understood all the same"),
    row("samples/lync-notify-pidf.sip", LYNC, &[Answer(200)], &[Subscribed(JULIET), Shows(SHOWN, "away", "Busy")])
        .watching(),
    row(
        "samples/lync-subscribe-nobody.sip",
        LYNC,
        &[Answer(200), Notify("terminated;reason=timeout")],
        &[Probe(JULIET)],
    ),
    row("samples/lync-subscribe.sip", LYNC, &[Answer(200), Notify("pending;expires=3600")], &[Subscribe(JULIET)]),
    // What the dialogs, the bodies and the peer make of sound syntax.
    row("torture/benotify-no-dialog.sip", LYNC, &[], &[]),
    row("torture/cancel-unmatched.sip", LYNC, &[Answer(481)], &[]),
    row("torture/invite-conf.sip", LYNC, &[Refused(488, Unsupported)], &[])
        .because("offers no IM session of two, which the entry would allow"),
    row("torture/invite-msrp.sip", LYNC, &[Refused(488, Unsupported)], &[]),
    row("torture/many-vias.sip", LYNC, &[Answer(200)], &[Text(JULIET, "x")]),
    row("torture/message-1301-octets.sip", LYNC, &[Answer(200)], &[Long(JULIET, 1301)])
        .because("RFC 3428 §8 bounds what we make, not what we take"),
    row("torture/message-content-encoding.sip", LYNC, &[Refused(415, Unsupported)], &[]),
    row("torture/message-cpim.sip", LYNC, &[Refused(415, Unsupported)], &[]),
    row("torture/message-invalid-utf8.sip", LYNC, &[Refused(400, Malformed)], &[]),
    row("torture/message-unsupported-type.sip", LYNC, &[Refused(415, Unsupported)], &[]),
    row("torture/missing-max-forwards.sip", LYNC, &[Answer(200)], &[Text(JULIET, "x")]),
    row("torture/notify-no-dialog.sip", LYNC, &[Answer(481)], &[]),
    row("torture/notify-no-substate.sip", LYNC, &[Answer(481)], &[]).because("no dialog is looked for first"),
    row("torture/notify-pidf-entity-bomb.sip", LYNC, &[Refused(400, Malformed)], &[]).watching().because("any DOCTYPE"),
    row("torture/notify-terminated-probation.sip", LYNC, &[Answer(200)], &[])
        .watching()
        .because("pending all the same"),
    row("torture/notify-terminated-rejected.sip", LYNC, &[Answer(200)], &[Unsubscribed(JULIET)]).watching(),
    row("torture/pai-mismatch.sip", LYNC, &[Refused(403, Unproven)], &[]),
    row("torture/record-route-header-params.sip", LYNC, &[Answer(200)], &[]),
    row("torture/spoofed-own-domain.sip", LYNC, &[Refused(403, Unproven)], &[]),
    row("torture/subscribe-accept-none.sip", LYNC, &[Refused(406, Unsupported)], &[]),
    row("torture/subscribe-interval-too-brief.sip", LYNC, &[Refused(423, Unsupported)], &[]),
    row("torture/subscribe-no-contact.sip", LYNC, &[Refused(400, Malformed)], &[]),
    row("torture/tag-param-order.sip", LYNC, &[Answer(200)], &[Text(JULIET, "x")]),
    row("torture/top-via-no-branch.sip", LYNC, &[Answer(200)], &[Text(JULIET, "x")]),
    row(
        "torture/user-apostrophe-amp.sip",
        LYNC,
        &[Answer(200)],
        &[Text(r"o\27malley\26co\2fx@foreign.example.net", "x")],
    ),
    row("torture/vias-interleaved-nobranch.sip", LYNC, &[Answer(200)], &[Text(JULIET, "x")]),
    row("torture/vias-one-line.sip", LYNC, &[Answer(200)], &[Text(JULIET, "x")]),
    // Framing.
    row("torture/content-length-missing.sip", LYNC, &[Refused(400, Malformed)], &[]).closed(),
    row("torture/content-length-negative.sip", LYNC, &[Refused(400, Malformed)], &[]).closed(),
    row("torture/content-length-plus-sign.sip", LYNC, &[Refused(400, Malformed)], &[]).closed(),
    row("torture/content-length-too-short.sip", LYNC, &[Unheard(Malformed)], &[Text(JULIET, "this")])
        .closed()
        .because("the message is what Content-Length says; the link is gone before its outcome is known"),
    row("torture/leading-crlf.sip", LYNC, &[Answer(200)], &[Text(JULIET, "x")]),
    row("torture/leading-garbage.sip", LYNC, &[Unheard(Malformed)], &[]).closed(),
    row("torture/many-headers.sip", LYNC, &[Refused(513, TooLarge)], &[]).closed(),
    row("torture/mixed-eol.sip", LYNC, &[Refused(400, Malformed)], &[]).closed(),
    row("torture/pipelined.sip", LYNC, &[Answer(200), Answer(200)], &[Text(JULIET, "first"), Text(JULIET, "second")]),
    row("torture/status-code-out-of-range.sip", LYNC, &[Unheard(Malformed)], &[]),
    // Syntax.
    row("torture/cseq-too-big.sip", LYNC, &[Refused(400, Malformed)], &[]),
    row("torture/duplicate-from.sip", LYNC, &[Refused(400, Malformed)], &[]),
    row("torture/method-lowercase.sip", LYNC, &[Refused(400, Malformed)], &[]),
    row("torture/missing-call-id.sip", LYNC, &[Refused(400, Malformed)], &[]),
    row("torture/missing-cseq.sip", LYNC, &[Refused(400, Malformed)], &[]),
    row("torture/nul-in-header.sip", LYNC, &[Refused(400, Malformed)], &[]),
    row("torture/startline-two-spaces.sip", LYNC, &[Refused(400, Malformed)], &[]),
    // RFC 4475 §3.1.1: valid messages. Its partners are allowed everything, so that what is refused is refused for what it is.
    row("rfc4475/wsinv.dat", "example.com", &[Refused(403, RelayDenied)], &[]).because(RELAY),
    row("rfc4475/intmeth.dat", "example.com", &[Refused(403, RelayDenied)], &[]).because(RELAY),
    row("rfc4475/esc01.dat", "example.net", &[Refused(403, RelayDenied)], &[])
        .because("an escaped @ makes no other host: it is for example.net"),
    row("rfc4475/escnull.dat", "example.com", &[Refused(400, Malformed)], &[])
        .because("the sender's name holds NUL, which no JID can carry"),
    row("rfc4475/esc02.dat", "example.com", &[Refused(403, RelayDenied)], &[]).because(RELAY),
    row("rfc4475/lwsdisp.dat", "example.com", &[Refused(403, RelayDenied)], &[]).because(RELAY),
    row("rfc4475/longreq.dat", "example.net", &[Refused(488, Unsupported)], &[]).because(CALL),
    row(
        "rfc4475/dblreq.dat",
        "example.com",
        &[Refused(403, RelayDenied), Refused(403, Unproven), Unheard(Malformed)],
        &[],
    )
    .closed()
    .because("a datagram; on a stream the second request is one, and two bytes too many end it"),
    row("rfc4475/semiuri.dat", "example.org", &[Answer(200)], &[]),
    row("rfc4475/transports.dat", "example.com", &[Refused(403, RelayDenied)], &[]).because(RELAY),
    row("rfc4475/mpart01.dat", "example.com", &[Refused(403, RelayDenied)], &[]).because("its Route leads elsewhere"),
    row("rfc4475/unreason.dat", "example.net", &[], &[]).because(NO_REQUEST),
    row("rfc4475/noreason.dat", "example.net", &[], &[]).because(NO_REQUEST),
    // §3.1.2: invalid messages.
    row("rfc4475/badinv01.dat", "example.net", &[Refused(400, Malformed)], &[]),
    row("rfc4475/clerr.dat", "example.net", &[], &[]).because("on a stream the rest may still come"),
    row("rfc4475/ncl.dat", "example.net", &[Refused(400, Malformed)], &[]).closed(),
    row("rfc4475/scalar02.dat", "example.com", &[Refused(400, Malformed)], &[]),
    row("rfc4475/scalarlg.dat", "example.net", &[], &[]).because("a response is discarded"),
    row("rfc4475/quotbal.dat", "example.net", &[Refused(400, Malformed)], &[]),
    row("rfc4475/ltgtruri.dat", "example.net", &[Refused(400, Malformed)], &[]),
    row("rfc4475/lwsruri.dat", "example.net", &[Refused(400, Malformed)], &[]),
    row("rfc4475/lwsstart.dat", "example.net", &[Refused(400, Malformed)], &[]),
    row("rfc4475/trws.dat", "example.com", &[Refused(400, Malformed)], &[]),
    row("rfc4475/escruri.dat", "example.net", &[Refused(400, Malformed)], &[]),
    row("rfc4475/baddate.dat", "example.net", &[Refused(488, Unsupported)], &[])
        .because("§3.1.2.12: Date matters to nothing here"),
    row("rfc4475/regbadct.dat", "example.com", &[Refused(400, Malformed)], &[]),
    row("rfc4475/badaspec.dat", "example.com", &[Refused(400, Malformed)], &[]),
    row("rfc4475/baddn.dat", "example.com", &[], &[]).because("the archive's file lacks the empty line"),
    row("rfc4475/badvers.dat", "example.com", &[Refused(505, Malformed)], &[]),
    row("rfc4475/mismatch01.dat", "example.net", &[Refused(400, Malformed)], &[]),
    row("rfc4475/mismatch02.dat", "example.net", &[Refused(400, Malformed)], &[]).because("400 or 501"),
    row("rfc4475/bigcode.dat", "example.net", &[Unheard(Malformed)], &[]),
    // §3.2 to §3.4: what transactions and applications make of it.
    row("rfc4475/badbranch.dat", "example.org", &[Answer(200)], &[]),
    row("rfc4475/insuf.dat", "example.net", &[Refused(400, Malformed)], &[]),
    row("rfc4475/unkscm.dat", "example.net", &[Refused(416, Unsupported)], &[]),
    row("rfc4475/novelsc.dat", "example.net", &[Refused(416, Unsupported)], &[]),
    row("rfc4475/unksm2.dat", "example.com", &[Refused(400, Malformed)], &[]).because("From names nobody at a domain"),
    row("rfc4475/bext01.dat", "example.net", &[Refused(420, Unsupported)], &[]),
    row("rfc4475/invut.dat", "example.net", &[Refused(488, Unsupported)], &[]).because(CALL),
    row("rfc4475/regaut01.dat", "example.com", &[Refused(403, RelayDenied)], &[]).because(RELAY),
    row("rfc4475/multi01.dat", "example.com", &[Refused(400, Malformed)], &[]),
    row("rfc4475/mcl01.dat", "example.net", &[Refused(400, Malformed)], &[]).closed(),
    row("rfc4475/bcast.dat", "example.net", &[], &[]).because(NO_REQUEST),
    row("rfc4475/zeromf.dat", "example.net", &[Refused(483, Loop)], &[]),
    row("rfc4475/cparam01.dat", "example.com", &[Refused(403, RelayDenied)], &[]).because(RELAY),
    row("rfc4475/cparam02.dat", "example.com", &[Refused(403, RelayDenied)], &[]).because(RELAY),
    row("rfc4475/regescrt.dat", "example.com", &[Refused(403, RelayDenied)], &[]).because(RELAY),
    row("rfc4475/sdp01.dat", "example.net", &[Refused(488, Unsupported)], &[]).because(CALL),
    row("rfc4475/inv2543.dat", "example.net", &[Refused(400, Malformed)], &[])
        .closed()
        .because("on a stream Content-Length is a must (RFC 3261 §20.14)"),
    row("rfc4475/test.dat", "example.net", &[Unheard(Malformed)], &[]).closed(),
];

/// Headers that a status demands (RFC 3261 §21, RFC 6665 §8).
const DEMANDED: &[(u16, &[&str])] = &[
    (405, &["Allow"]),
    (406, &["Accept"]),
    (415, &["Accept", "Accept-Encoding"]),
    (420, &["Unsupported"]),
    (423, &["Min-Expires"]),
    (489, &["Allow-Events"]),
    (503, &["Retry-After"]),
];

const CONFIG: &str = r#"
[edge]
policies = "policies"
[[identity]]
hostname = "sip.example.com"
domains = ["example.com"]
certificate = "edge-example-com.pem"
key = "edge-example-com.key"
[tls]
trust = ["ca.pem"]
[outside]
sip = ["127.0.0.1:5061"]
[inside]
xmpp = ["127.0.0.1:5270"]
networks = ["127.0.0.0/8"]
[[node]]
name = "imp-1"
protocol = "xmpp"
address = "127.0.0.1:5269"
domains = ["example.com"]
[state]
engine = "memory"
secrets = ["test-secret-of-the-worlds"]
"#;

const POLICY: &str = r#"
[[partner]]
domain = "foreign.example.net"
protocol = "sip"
profile = "lync"
[[partner]]
domain = "aol.com"
protocol = "sip"
profile = "aol"
[[partner]]
domain = "example.net"
protocol = "sip"
allow = ["subscribe", "presence", "message", "chat", "groupchat", "iq", "file", "call", "other"]
[[partner]]
domain = "example.org"
protocol = "sip"
allow = ["subscribe", "presence", "message", "chat", "groupchat", "iq", "file", "call", "other"]
"#;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors")
}

fn files(part: &str) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder().join(part)).expect("folder of vectors");
    let names = entries.map(|entry| entry.expect("entry").file_name().to_string_lossy().into_owned());
    names.filter(|name| !name.ends_with(".md")).map(|name| format!("{part}/{name}")).collect()
}

/// The world of a sender: what comes from example.com is no outsider's where example.com is ours, so there example.org is.
fn world_for(sender: &str) -> (World, &'static str) {
    let swapped =
        |text: &str| text.replace("example.org", "@").replace("example.com", "example.org").replace('@', "example.com");
    let (mut world, local) = if sender == "example.com" {
        let config = swapped(&CONFIG.replace("edge-example-com", "edge-example-org"));
        (World::with(&config, &swapped(POLICY)), "example.org")
    } else {
        (World::with(CONFIG, POLICY), "example.com")
    };
    for domain in ["example.net", "example.org", "example.com"] {
        world.certificates.insert(domain.to_owned(), ("ca".to_owned(), domain.to_owned()));
    }
    (world, local)
}

fn requests(bytes: &[u8]) -> Vec<Message> {
    let mut framer = Framer::new(65_536, 65_536);
    framer.buffer().extend_from_slice(bytes);
    std::iter::from_fn(|| framer.next())
        .filter_map(|frame| match frame {
            Frame::Message(message) => Some(message),
            Frame::Bad { message, .. } => message,
            Frame::Ping => None,
        })
        .filter(Message::is_request)
        .collect()
}

/// What a node received up to now; its server answers every ping.
fn inside(world: &mut World, local: &str) -> Vec<(String, Element)> {
    let mut received = Vec::new();
    loop {
        world.advance(Duration::ZERO);
        let seen: Vec<Seen> = world.inbox.remove("imp-1").unwrap_or_default().into();
        if seen.is_empty() {
            return received;
        }
        for seen in seen {
            let Seen::Xml(stanza) = seen else { panic!("SIP to an XMPP node") };
            let (from, to) = (stanza.get_attr("from").expect("from"), stanza.get_attr("to").expect("to"));
            assert!(to == local || to.ends_with(&format!("@{local}")), "for another domain: {to}");
            if stanza.name == "iq" {
                let pong = Element::new("iq", NS_SERVER)
                    .attr("type", "result")
                    .attr("from", to)
                    .attr("to", from)
                    .attr("id", stanza.get_attr("id").expect("id"));
                world.stanza("imp-1", &pong);
            } else {
                received.push((from.to_owned(), stanza));
            }
        }
    }
}

/// A user of ours watches whom the message is about, and the partner has taken the SUBSCRIBE: the message in the dialog that came of it.
fn watched(world: &mut World, partner: &str, bytes: &[u8]) -> Vec<u8> {
    let message = requests(bytes).pop().expect("a request");
    let uri = message.from().expect("From").uri.text.trim_start_matches("sip:").to_owned();
    let subscribe = Element::new("presence", NS_SERVER)
        .attr("type", "subscribe")
        .attr("from", "romeo@example.com")
        .attr("to", &uri);
    world.stanza("imp-1", &subscribe);
    world.advance(Duration::ZERO);
    let Some(Seen::Sip(ours)) = world.inbox.get_mut(partner).and_then(|inbox| inbox.pop_front()) else {
        panic!("no SUBSCRIBE")
    };
    let header = |name| ours.header(name).expect("a header");
    let their_tag = message.from_tag().expect("a tag");
    let ok = format!(
        "SIP/2.0 200 OK\r\nVia: {}\r\nFrom: {}\r\nTo: {};tag={their_tag}\r\nCall-ID: {}\r\nCSeq: {}\r\nExpires: 3600\r\n\
         Contact: <sip:sip.{partner}:5061;transport=tls>\r\nContent-Length: 0\r\n\r\n",
        header(Name::Via),
        header(Name::From),
        header(Name::To),
        header(Name::CallId),
        header(Name::CSeq)
    );
    world.sip_answer(partner, ok.as_bytes());
    let text = std::str::from_utf8(bytes).expect("UTF-8");
    text.replace(message.call_id().expect("a Call-ID"), header(Name::CallId))
        .replace(message.to_tag().expect("a tag"), ours.from_tag().expect("a tag"))
        .into_bytes()
}

fn is_inside(expected: Inside, (from, stanza): &(String, Element)) -> bool {
    let body = || stanza.find("body", NS_SERVER).map(Element::content).unwrap_or_default();
    let is = |name: &str, type_: Option<&str>, who: &str| {
        stanza.name == name && stanza.get_attr("type") == type_ && from == who
    };
    match expected {
        Text(who, text) => is("message", None, who) && body() == text,
        Long(who, length) => is("message", None, who) && body().len() == length,
        Subscribe(who) => is("presence", Some("subscribe"), who),
        Probe(who) => is("presence", Some("probe"), who),
        Subscribed(who) => is("presence", Some("subscribed"), who),
        Unsubscribed(who) => is("presence", Some("unsubscribed"), who),
        Shows(who, show, status) => {
            let text = |name: &str| stanza.find(name, NS_SERVER).map(Element::content).unwrap_or_default();
            is("presence", None, who) && text("show") == show && text("status") == status
        }
    }
}

fn is_heard(expected: Gets, heard: &Message) -> Result<(), String> {
    let warning = heard.header(Name::Warning);
    match (expected, heard.start()) {
        (Refused(status, reason), Start::Response { status: actual, .. }) if status == actual => {
            let warning = warning.ok_or("no Warning")?;
            let words: Vec<&str> = warning.split([' ', '"']).filter(|word| !word.is_empty()).collect();
            match words.as_slice() {
                ["399", host, "fedgate", id, label, ..]
                    if host.starts_with("sip.example.") && id.len() == 10 && *label == reason.as_str() => {}
                _ => return Err(format!("Warning: {warning}")),
            }
            for (_, names) in DEMANDED.iter().filter(|(of, _)| *of == status) {
                if !names.iter().any(|name| heard.header_named(name).is_some()) {
                    return Err(format!("{status} without {names:?}"));
                }
            }
            Ok(())
        }
        (Answer(status), Start::Response { status: actual, .. }) if status == actual && warning.is_none() => Ok(()),
        (Notify(state), Start::Request { method, .. }) if method.as_str() == "NOTIFY" => {
            let actual = heard.header(Name::SubscriptionState).unwrap_or_default();
            if actual.starts_with(state) { Ok(()) } else { Err(actual.to_owned()) }
        }
        _ => Err(String::from_utf8_lossy(heard.bytes()).into_owned()),
    }
}

fn judge(row: &Row) -> Result<(), String> {
    let bytes = std::fs::read(folder().join("sip").join(row.file)).map_err(|e| e.to_string())?;
    let (mut world, local) = world_for(row.from);
    let bytes = if row.watching { watched(&mut world, row.from, &bytes) } else { bytes };
    world.sip(row.from, &bytes);
    let received = inside(&mut world, local);
    world.advance(Duration::from_secs(10));
    if received.len() != row.inside.len() || !row.inside.iter().zip(&received).all(|(e, r)| is_inside(*e, r)) {
        return Err(format!("a node received {received:#?}"));
    }
    let more = inside(&mut world, local);
    if !more.is_empty() {
        return Err(format!("later a node received {more:#?}"));
    }
    let heard: Vec<Message> = world
        .inbox
        .remove(row.from)
        .unwrap_or_default()
        .into_iter()
        .map(|seen| match seen {
            Seen::Sip(message) => message,
            Seen::Xml(_) => panic!("XML to a SIP partner"),
        })
        .collect();
    // A 200 to an INVITE comes again and again until its ACK is there (RFC 3261 §13.3.1.4).
    let mut heard = heard;
    heard.dedup_by(|one, other| one.bytes() == other.bytes());
    let expected: Vec<Gets> = row.gets.iter().copied().filter(|gets| !matches!(gets, Unheard(_))).collect();
    if heard.len() != expected.len() {
        let heard: Vec<_> = heard.iter().map(|m| String::from_utf8_lossy(m.bytes()).into_owned()).collect();
        return Err(format!("{} messages came back: {heard:#?}", heard.len()));
    }
    for (expected, heard) in expected.iter().zip(&heard) {
        is_heard(*expected, heard)?;
    }
    // RFC 3261 §8.2.6.2: what every response copies.
    for response in heard.iter().filter(|m| !m.is_request()) {
        let is_of = |request: &Message| {
            request.rows(Name::Via).eq(response.rows(Name::Via))
                && [Name::From, Name::CallId, Name::CSeq].into_iter().all(|n| request.header(n) == response.header(n))
        };
        if !requests(&bytes).iter().any(is_of) {
            return Err(format!("answers no request: {}", String::from_utf8_lossy(response.bytes())));
        }
    }
    let told: Vec<Reason> = row
        .gets
        .iter()
        .filter_map(|gets| match gets {
            Refused(_, reason) | Unheard(reason) => Some(*reason),
            Answer(_) | Notify(_) => None,
        })
        .collect();
    if world.refusals() != told {
        return Err(format!("the operator was told {:?}", world.refusals()));
    }
    if world.connected().contains(row.from) == row.closed {
        return Err(format!("the link is {}", if row.closed { "still there" } else { "closed" }));
    }
    Ok(())
}

#[test]
fn every_message_gets_what_the_table_says() {
    let failed: Vec<String> = TABLE
        .iter()
        .filter_map(|row| judge(row).err().map(|why| format!("{} ({}): {why}", row.file, row.why)))
        .collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn no_file_is_left_out() {
    let found: BTreeSet<String> = ["samples", "torture", "rfc4475"]
        .iter()
        .flat_map(|part| files(&format!("sip/{part}")))
        .map(|file| file.trim_start_matches("sip/").to_owned())
        .collect();
    let mut listed: BTreeMap<&str, usize> = BTreeMap::new();
    for row in TABLE {
        *listed.entry(row.file).or_default() += 1;
    }
    assert!(listed.values().all(|times| *times == 1), "a file is listed twice");
    assert_eq!(listed.keys().map(|file| (*file).to_owned()).collect::<BTreeSet<_>>(), found);
}

/// A world whose node serves `local`, and what a file's stanzas from there make the SIP partner and the node receive.
fn from_inside(file: &str, local: &str, partner: &str) -> (World, Vec<Message>, Vec<Element>) {
    let config = CONFIG
        .replace("edge-example-com", &format!("edge-{}", local.replace('.', "-")))
        .replace("\"sip.example.com", &format!("\"sip.{local}"))
        .replace("\"example.com", &format!("\"{local}"));
    let profile = if partner == AOL { "aol" } else { "generic" };
    let policy =
        format!("[[partner]]\ndomain = \"{partner}\"\nprotocol = \"sip\"\nprofile = \"{profile}\"\nchat = \"page\"\n");
    let mut world = World::with(&config, &policy);
    // RFC 5922 §7.1: of a generic partner the certificate names the domain.
    let host = if partner == AOL { format!("sip.{partner}") } else { partner.to_owned() };
    world.certificates.insert(partner.to_owned(), ("ca".to_owned(), host));
    let text = std::fs::read_to_string(folder().join(file)).expect("a file of UTF-8");
    let stream = Element::parse(format!("<x xmlns='{NS_SERVER}'>{text}</x>").as_bytes(), NS_SERVER).expect("XML");
    for stanza in stream.elements() {
        world.stanza("imp-1", stanza);
    }
    world.advance(Duration::ZERO);
    let mut taken = |party: &str| world.inbox.remove(party).unwrap_or_default();
    let outside = taken(partner).into_iter().map(|seen| match seen {
        Seen::Sip(message) => message,
        Seen::Xml(_) => panic!("XML to a SIP partner"),
    });
    let outside = outside.collect();
    let inside = taken("imp-1").into_iter().map(|seen| match seen {
        Seen::Xml(stanza) => stanza,
        Seen::Sip(_) => panic!("SIP to an XMPP node"),
    });
    // The ping behind an error is ours to answer, not what is tested here.
    let inside = inside.filter(|stanza| stanza.name != "iq" || stanza.get_attr("type") != Some("get")).collect();
    (world, outside, inside)
}

fn error_of(stanza: &Element) -> (Option<&str>, String) {
    let error = stanza.find("error", NS_SERVER).expect("an error");
    let text = error.elements().find(|e| e.name == "text").map(Element::content).unwrap_or_default();
    (error.elements().next().map(|e| e.name.as_str()), text)
}

#[test]
fn every_stanza_gets_its_due() {
    let mut seen = BTreeSet::new();
    let mut play = |file: &str, local: &str, partner: &str| {
        seen.insert(format!("xmpp/{file}"));
        from_inside(&format!("xmpp/{file}"), local, partner)
    };

    // COMPAT(aol): the screen name in AOL's spelling.
    let (_, outside, inside) = play("aol-jid-message.xml", "example.com", AOL);
    let [message] = outside.as_slice() else { panic!("{outside:?}") };
    assert!(matches!(message.start(), Start::Request { uri: "sip:juliet(gmail.com)@aol.com", .. }), "{message:?}");
    assert_eq!(message.header(Name::To), Some("<sip:juliet(gmail.com)@aol.com>"));
    assert_eq!(message.body(), "1 < 2 & \"quotes\" 😀".as_bytes());
    assert!(inside.is_empty(), "its outcome is not known yet: {inside:?}");

    // RFC 6120 §8.3.1: never an error to an error.
    let (_, outside, inside) = play("x-stanza-error-loop.xml", "foreign.example.org", "example.com");
    assert!(outside.is_empty() && inside.is_empty(), "{outside:?} {inside:?}");

    // RFC 7572 §6: page mode carries 1,300 bytes.
    let (world, outside, inside) = play("x-oversize-stanza.xml", "foreign.example.org", "example.com");
    assert!(outside.is_empty());
    let [error] = inside.as_slice() else { panic!("{inside:?}") };
    let (condition, text) = error_of(error);
    assert_eq!(condition, Some("policy-violation"));
    assert!(text.starts_with("fedgate ") && text.contains(" too-large "), "{text}");
    assert_eq!(world.refusals(), [TooLarge]);

    // Nobody watches: nothing to say, and nobody to complain to.
    let (world, outside, inside) = play("x-presence-bad-show.xml", "foreign.example.org", "example.com");
    assert!(outside.is_empty() && inside.is_empty() && world.refusals().is_empty());

    // RFC 6120 §8.2.3, XEP-0199 §4.2.
    let (_, outside, inside) = play("x-iq-unhandled.xml", "foreign.example.org", "example.com");
    assert!(outside.is_empty());
    let [unhandled, pong] = inside.as_slice() else { panic!("{inside:?}") };
    assert_eq!((unhandled.get_attr("type"), unhandled.get_attr("id")), (Some("error"), Some("v1")));
    assert_eq!(error_of(unhandled).0, Some("service-unavailable"));
    assert_eq!((pong.get_attr("type"), pong.get_attr("id")), (Some("result"), Some("p1")));
    assert_eq!((pong.get_attr("from"), pong.get_attr("to")), (Some("example.com"), Some("foreign.example.org")));

    // RFC 8048 §5.2.1: `subscribe` becomes a SUBSCRIBE; the presence that follows concerns no watcher of ours.
    let (world, outside, inside) = play("sametime-presence-subscribe.xml", "sametime.example.org", "example.com");
    let [subscribe] = outside.as_slice() else { panic!("{outside:?}") };
    assert!(
        matches!(subscribe.start(), Start::Request { method: fedgate::wire::sip::Method::Subscribe, .. }),
        "{subscribe:?}"
    );
    assert_eq!(subscribe.header(Name::Event), Some("presence"));
    assert!(inside.is_empty() && world.refusals().is_empty(), "nothing is told while it is pending: {inside:?}");

    // What ends at the stream is the other test's.
    let left_out: Vec<String> = files("xmpp")
        .into_iter()
        .filter(|file| {
            !seen.contains(file) && !include_str!("vectors_xmpp.rs").contains(file.trim_start_matches("xmpp/"))
        })
        .collect();
    assert!(left_out.is_empty(), "{left_out:?}");
}

fn every_sip_file() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let read = |row: &Row| std::fs::read(folder().join("sip").join(row.file)).expect("a vector");
    TABLE.iter().map(|row| (row.file, row.from, read(row))).collect()
}

/// Damaged in any way, a message does not stop the gate, and whatever is answered is an answer to it.
#[test]
fn damage_does_no_harm() {
    let (mut world, local) = world_for(LYNC);
    let mut damage = 0x9e37_79b9_u32;
    let mut next = move |below: usize| {
        damage ^= damage << 13;
        damage ^= damage >> 17;
        damage ^= damage << 5;
        damage as usize % below.max(1)
    };
    for (file, from, bytes) in every_sip_file() {
        for round in 0..12 {
            let mut bytes = bytes.clone();
            match round % 3 {
                0 => bytes.truncate(next(bytes.len())),
                1 => {
                    let at = next(bytes.len());
                    bytes[at] = b"\0\r\n \"<>;:@%,=\xff\x7f"[next(15)];
                }
                _ => {
                    let (from, to) = (next(bytes.len()), next(bytes.len()));
                    let piece: Vec<u8> = bytes[from.min(to)..from.max(to)].iter().copied().take(64).collect();
                    let at = next(bytes.len());
                    bytes.splice(at..at, piece);
                }
            }
            world.sip(from, &bytes);
            inside(&mut world, local);
            world.advance(Duration::from_secs(60));
            for seen in world.inbox.remove(from).unwrap_or_default() {
                let Seen::Sip(heard) = seen else { panic!("{file}: XML to a SIP partner") };
                // What can be answered so and is, carries the reason; NOTIFY and 100 are no answers.
                let Start::Response { status, .. } = heard.start() else { continue };
                assert!(
                    status < 300 || status == 481 || heard.header(Name::Warning).is_some(),
                    "{file} round {round}: {}",
                    String::from_utf8_lossy(heard.bytes())
                );
            }
            world.inbox.remove("imp-1");
        }
    }
    assert_eq!(world.gate.snapshot().unresolved, 0);
    world.input(fedgate::gate::Input::Drain { last: true });
    world.advance(Duration::from_secs(3600));
    assert!(world.gate.is_drained(), "something stays for good: {:?}", world.gate.snapshot());
}

/// A sample inside the dialog that our answer made.
fn inside_dialog(file: &str, to_tag: &str) -> Vec<u8> {
    let bytes = std::fs::read(folder().join("sip/samples").join(file)).expect("a sample");
    let text = String::from_utf8(bytes).expect("text");
    assert!(text.contains(";tag=fg-5501cc"), "{file}");
    text.replace("fg-5501cc", to_tag).into_bytes()
}

#[test]
fn the_samples_of_a_conversation() {
    let (mut world, local) = world_for(LYNC);
    let heard = |world: &mut World| -> Message {
        world.advance(Duration::ZERO);
        match world.inbox.get_mut(LYNC).and_then(|inbox| inbox.pop_front()) {
            Some(Seen::Sip(message)) => message,
            other => panic!("{other:?}"),
        }
    };
    world.sip(LYNC, &std::fs::read(folder().join("sip/samples/lync-invite-im.sip")).expect("a sample"));
    let answer = heard(&mut world);
    assert!(matches!(answer.start(), Start::Response { status: 200, .. }));
    let supported: Vec<&str> = answer.rows(Name::Supported).collect();
    assert!(!supported.iter().any(|row| row.contains("ms-")), "it would count as delivered: {supported:?}");
    let sdp = String::from_utf8_lossy(answer.body()).into_owned();
    assert!(sdp.contains("\r\nm=message 5060 sip sip:romeo@example.com\r\na=accept-types:text/plain"), "{sdp}");
    assert!(
        answer
            .rows(Name::RecordRoute)
            .any(|row| row.ends_with(";ms-rrsig=aeXSampleRrSig;tag=0A3F77C1D2E4500098B7A6C5D4E3F201"))
    );
    let tag = answer.to_tag().expect("a tag").to_owned();
    world.sip(LYNC, &inside_dialog("lync-ack.sip", &tag));
    world.advance(Duration::from_secs(40));
    assert!(world.inbox.get(LYNC).is_none_or(|inbox| inbox.is_empty()), "the ACK stops the 200");
    let state = |name: &'static str| (name, "http://jabber.org/protocol/chatstates");
    for (file, body, state) in [
        ("lync-message-html.sip", Some("Parting is such sweet sorrow & so on <3"), state("active")),
        ("lync-message-plain-msgr.sip", Some("Good night, good night — 私は行く"), state("active")),
        ("lync-message-multipart.sip", Some("It is the lark"), state("active")),
        ("lync-info-composing.sip", None, state("composing")),
        ("lync-bye.sip", None, state("gone")),
    ] {
        world.sip(LYNC, &inside_dialog(file, &tag));
        let received = inside(&mut world, local);
        let [(from, stanza)] = received.as_slice() else { panic!("{file}: {received:?}") };
        assert_eq!((from.as_str(), stanza.get_attr("type")), (JULIET, Some("chat")), "{file}");
        assert_eq!(stanza.find("body", NS_SERVER).map(Element::content).as_deref(), body, "{file}");
        assert!(stanza.find(state.0, state.1).is_some(), "{file}");
        let thread = stanza.find("thread", NS_SERVER).map(Element::content);
        assert_eq!(thread.as_deref(), Some("b3d7a4f1c26e4e5f9f01c2d3e4f5a6b7"), "{file}");
        let answer = heard(&mut world);
        assert!(matches!(answer.start(), Start::Response { status: 200, .. }), "{file}");
    }
    // What comes later is of no dialog.
    world.sip(LYNC, &inside_dialog("lync-message-html.sip", &tag));
    assert!(matches!(heard(&mut world).start(), Start::Response { status: 481, .. }));
    assert_eq!(inside(&mut world, local), []);
}
