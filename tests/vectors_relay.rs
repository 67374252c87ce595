//! What becomes of every message of `tests/vectors/sip` where the nodes inside speak SIP: refused with which status, or handed on as a proxy
//! hands on: our Via above, one hop fewer, the rows nobody edits and the body byte for byte (RFC 3261 §16.6).
//!
//! Each is judged by what RFC 4475 says of its message, read for a proxy: what only the two ends need know is theirs.

#![allow(missing_docs)]

mod support;

use fedgate::gate::Input;
use fedgate::gate::reject::Reason::{self, *};
use fedgate::wire::sip::header::Name;
use fedgate::wire::sip::{Frame, Framer, Message, Method, Start};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;
use support::pki::pki;
use support::world::{CONFIG, Seen, World, with_sip_nodes};

/// What becomes of a message.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fate {
    /// Handed on; its sender gets what the node answers.
    Forwarded,
    /// Handed on, and nobody hears an answer.
    Passed,
    /// Refused by us.
    Refused(u16, Reason),
    /// An answer of ours that is no refusal.
    Answer(u16),
    /// Nobody hears anything, but the operator does.
    Unheard(Reason),
}
use Fate::*;

struct Row {
    file: &'static str,
    /// Who sends it.
    from: &'static str,
    /// Our domain.
    ours: &'static str,
    fate: &'static [Fate],
    /// Put into the message first, where it has both ends at one domain: (what, instead).
    instead: &'static [(&'static str, &'static str)],
    closed: bool,
    /// Why this is right.
    why: &'static str,
}

const fn row(file: &'static str, from: &'static str, ours: &'static str, fate: &'static [Fate]) -> Row {
    Row { file, from, ours, fate, instead: &[], closed: false, why: "" }
}

impl Row {
    const fn closed(mut self) -> Row {
        self.closed = true;
        self
    }
    const fn with(mut self, instead: &'static [(&'static str, &'static str)]) -> Row {
        self.instead = instead;
        self
    }
    const fn because(mut self, why: &'static str) -> Row {
        self.why = why;
        self
    }
}

const LYNC: &str = "foreign.example.net";
const AOL: &str = "aol.com";
const US: &str = "example.com";
const NET: &str = "example.net";
const ORG: &str = "example.org";
const NO_REQUEST: &str = "answers no request of ours (RFC 3261 §16.7 step 1)";
const ENDS: &str = "whether there is such a dialog, the node says";
const BAD: &[Fate] = &[Refused(400, Malformed)];
const ON: &[Fate] = &[Forwarded];
const NOTHING: &[Fate] = &[];

const TABLE: &[Row] = &[
    row("samples/aol-invite-im.sip", AOL, US, ON),
    row("samples/aol-message.sip", AOL, US, ON),
    row("samples/aol-notify-pidf.sip", AOL, US, ON).because(ENDS),
    row("samples/aol-subscribe-email-user.sip", AOL, US, ON),
    row("samples/lync-200-invite.sip", LYNC, US, NOTHING).because(NO_REQUEST),
    row("samples/lync-200-subscribe-piggyback.sip", LYNC, US, NOTHING).because(NO_REQUEST),
    row("samples/lync-403-ms-diagnostics-public.sip", LYNC, US, NOTHING).because(NO_REQUEST),
    row("samples/lync-504-bare.sip", LYNC, US, NOTHING).because(NO_REQUEST),
    row("samples/lync-504-ms-diagnostics.sip", LYNC, US, NOTHING).because(NO_REQUEST),
    row("samples/lync-ack.sip", LYNC, US, &[Passed]).because("RFC 3261 §16.6: an ACK has no answer"),
    row("samples/lync-benotify.sip", LYNC, US, &[Passed]).because("MS-SIP §3.5: never answered"),
    row("samples/lync-bye.sip", LYNC, US, ON).because(ENDS),
    row("samples/lync-info-composing.sip", LYNC, US, ON).because(ENDS),
    row("samples/lync-invite-im.sip", LYNC, US, ON),
    row("samples/lync-keepalive-crlf.sip", LYNC, US, NOTHING),
    row("samples/lync-message-html.sip", LYNC, US, ON).because(ENDS),
    row("samples/lync-message-multipart.sip", LYNC, US, ON).because(ENDS),
    row("samples/lync-message-plain-msgr.sip", LYNC, US, ON).because(ENDS),
    row("samples/lync-negotiate.sip", LYNC, US, &[Refused(405, Unsupported)]).because("hop by hop"),
    row("samples/lync-notify-msrtc-categories.sip", LYNC, US, ON).because(ENDS),
    row("samples/lync-notify-pidf.sip", LYNC, US, ON).because(ENDS),
    row("samples/lync-subscribe-nobody.sip", LYNC, US, ON),
    row("samples/lync-subscribe.sip", LYNC, US, ON),
    // What the dialogs, the bodies and the peer make of sound syntax: the node's to judge.
    row("torture/benotify-no-dialog.sip", LYNC, US, &[Passed]),
    row("torture/cancel-unmatched.sip", LYNC, US, &[Answer(481)])
        .because("what it cancels would have gone on with a branch of ours: no node could match it"),
    row("torture/invite-conf.sip", LYNC, US, ON),
    row("torture/invite-msrp.sip", LYNC, US, ON),
    row("torture/many-vias.sip", LYNC, US, ON),
    row("torture/message-1301-octets.sip", LYNC, US, ON),
    row("torture/message-content-encoding.sip", LYNC, US, ON).because("RFC 3261 §16.3: no proxy looks into a body"),
    row("torture/message-cpim.sip", LYNC, US, ON),
    row("torture/message-invalid-utf8.sip", LYNC, US, ON),
    row("torture/message-unsupported-type.sip", LYNC, US, ON),
    row("torture/missing-max-forwards.sip", LYNC, US, ON).because("RFC 3261 §16.6 step 3: 70 is added"),
    row("torture/notify-no-dialog.sip", LYNC, US, ON),
    row("torture/notify-no-substate.sip", LYNC, US, ON),
    row("torture/notify-pidf-entity-bomb.sip", LYNC, US, ON),
    row("torture/notify-terminated-probation.sip", LYNC, US, ON),
    row("torture/notify-terminated-rejected.sip", LYNC, US, ON),
    row("torture/pai-mismatch.sip", LYNC, US, ON).because("RFC 3325 §5: without what it asserts of others"),
    row("torture/record-route-header-params.sip", LYNC, US, ON),
    row("torture/spoofed-own-domain.sip", LYNC, US, &[Refused(403, Unproven)]),
    row("torture/subscribe-accept-none.sip", LYNC, US, ON),
    row("torture/subscribe-interval-too-brief.sip", LYNC, US, ON),
    row("torture/subscribe-no-contact.sip", LYNC, US, ON),
    row("torture/tag-param-order.sip", LYNC, US, ON),
    row("torture/top-via-no-branch.sip", LYNC, US, ON),
    row("torture/user-apostrophe-amp.sip", LYNC, US, ON),
    row("torture/vias-interleaved-nobranch.sip", LYNC, US, ON),
    row("torture/vias-one-line.sip", LYNC, US, ON),
    // Framing.
    row("torture/content-length-missing.sip", LYNC, US, BAD).closed(),
    row("torture/content-length-negative.sip", LYNC, US, BAD).closed(),
    row("torture/content-length-plus-sign.sip", LYNC, US, BAD).closed(),
    row("torture/content-length-too-short.sip", LYNC, US, &[Passed, Unheard(Malformed)])
        .closed()
        .because("the message is what Content-Length says; the link is gone before its answer is there"),
    row("torture/leading-crlf.sip", LYNC, US, ON),
    row("torture/leading-garbage.sip", LYNC, US, &[Unheard(Malformed)]).closed(),
    row("torture/many-headers.sip", LYNC, US, &[Refused(513, TooLarge)]).closed(),
    row("torture/mixed-eol.sip", LYNC, US, BAD).closed(),
    row("torture/pipelined.sip", LYNC, US, &[Forwarded, Forwarded]),
    row("torture/status-code-out-of-range.sip", LYNC, US, &[Unheard(Malformed)]),
    // Syntax.
    row("torture/cseq-too-big.sip", LYNC, US, BAD),
    row("torture/duplicate-from.sip", LYNC, US, BAD),
    row("torture/method-lowercase.sip", LYNC, US, BAD).because("another method than CSeq's"),
    row("torture/missing-call-id.sip", LYNC, US, BAD),
    row("torture/missing-cseq.sip", LYNC, US, BAD),
    row("torture/nul-in-header.sip", LYNC, US, BAD),
    row("torture/startline-two-spaces.sip", LYNC, US, BAD),
    // RFC 4475 §3.1.1: valid messages.
    row("rfc4475/wsinv.dat", US, "chair-dnrc.example.com", &[Refused(403, RelayDenied)])
        .because("its Route leads elsewhere"),
    row("rfc4475/wsinv.dat", US, "chair-dnrc.example.com", ON)
        .with(&[("Route:\r\n <sip:services.example.com;lr;unknownwith=value;unknown-no-value>\r\n", "")])
        .because("our domain is a subdomain of the partner's"),
    row("rfc4475/intmeth.dat", NET, US, ON).with(&[("<sip:mundane@example.com>", "<sip:mundane@example.net>")]),
    row("rfc4475/esc01.dat", ORG, NET, ON)
        .with(&[("%20spaces@example.net", "%20spaces@example.org")])
        .because("an escaped @ makes no other host: its user is `sips:user@example.com`"),
    row("rfc4475/escnull.dat", US, NET, BAD).because("the sender's name holds NUL, which no address of ours can carry"),
    row("rfc4475/esc02.dat", NET, "registrar.example.com", &[Refused(501, Unsupported)])
        .with(&[("From: \"%Z%45\" <sip:resource@example.com>", "From: \"%Z%45\" <sip:resource@example.net>")])
        .because("for our domain itself; and it is no REGISTER"),
    row("rfc4475/esc02.dat", NET, US, ON).with(&[
        ("sip:registrar.example.com", "sip:resource@example.com"),
        ("From: \"%Z%45\" <sip:resource@example.com>", "From: \"%Z%45\" <sip:resource@example.net>"),
    ]),
    row("rfc4475/lwsdisp.dat", NET, US, ON).with(&[("caller@example.com>;tag", "caller@example.net>;tag")]),
    row("rfc4475/longreq.dat", NET, US, ON),
    row("rfc4475/dblreq.dat", US, NET, &[Refused(403, RelayDenied), Refused(403, Unproven), Unheard(Malformed)])
        .closed()
        .because("a datagram; on a stream the second request is one, and two bytes too many end it"),
    row("rfc4475/dblreq.dat", NET, US, &[Refused(403, Unproven), Passed, Unheard(Malformed)])
        .closed()
        .because("the second is for us; the link is gone before its answer is there"),
    row("rfc4475/semiuri.dat", ORG, US, ON),
    row("rfc4475/transports.dat", NET, US, ON).with(&[("<sip:caller@example.com>", "<sip:caller@example.net>")]),
    row("rfc4475/mpart01.dat", US, ORG, &[Refused(403, RelayDenied)]).because("its Route leads elsewhere"),
    row("rfc4475/mpart01.dat", US, ORG, ON).with(&[("Route: <sip:127.0.0.1:5080>\r\n", "")]),
    row("rfc4475/unreason.dat", NET, US, NOTHING).because(NO_REQUEST),
    row("rfc4475/noreason.dat", NET, US, NOTHING).because(NO_REQUEST),
    // §3.1.2: invalid messages.
    row("rfc4475/badinv01.dat", NET, US, BAD),
    row("rfc4475/clerr.dat", NET, US, NOTHING).because("on a stream the rest may still come"),
    row("rfc4475/ncl.dat", NET, US, BAD).closed(),
    row("rfc4475/scalar02.dat", US, NET, BAD),
    row("rfc4475/scalarlg.dat", NET, US, NOTHING).because("a response is discarded"),
    row("rfc4475/quotbal.dat", NET, US, BAD),
    row("rfc4475/ltgtruri.dat", NET, US, BAD),
    row("rfc4475/lwsruri.dat", NET, US, BAD),
    row("rfc4475/lwsstart.dat", NET, US, BAD),
    row("rfc4475/trws.dat", US, NET, BAD),
    row("rfc4475/escruri.dat", NET, US, BAD),
    row("rfc4475/baddate.dat", NET, US, ON).because("§3.1.2.12: Date matters to nothing here"),
    row("rfc4475/regbadct.dat", US, NET, BAD),
    row("rfc4475/badaspec.dat", US, ORG, BAD),
    row("rfc4475/baddn.dat", US, ORG, NOTHING).because("the archive's file lacks the empty line"),
    row("rfc4475/badvers.dat", US, ORG, &[Refused(505, Malformed)]),
    row("rfc4475/mismatch01.dat", NET, US, BAD),
    row("rfc4475/mismatch02.dat", NET, US, BAD).because("400 or 501"),
    row("rfc4475/bigcode.dat", NET, US, &[Unheard(Malformed)]),
    // §3.2 to §3.4: what transactions and applications make of it.
    row("rfc4475/badbranch.dat", ORG, US, ON).because("§3.2.1: a branch that is the cookie alone tells nothing apart"),
    row("rfc4475/insuf.dat", NET, US, BAD),
    row("rfc4475/unkscm.dat", NET, US, &[Refused(416, Unsupported)]),
    row("rfc4475/novelsc.dat", NET, US, &[Refused(416, Unsupported)]),
    row("rfc4475/unksm2.dat", US, NET, BAD).because("From names nobody at a domain: nobody to be proven"),
    row("rfc4475/bext01.dat", NET, US, &[Refused(420, Unsupported)]).because("for its Proxy-Require"),
    row("rfc4475/bext01.dat", NET, US, ON)
        .with(&[("Proxy-Require: noProxiesSupportThis, norDoAnyProxiesSupportThis\r\n", "")])
        .because("RFC 3261 §20.32: Require is the other end's"),
    row("rfc4475/invut.dat", NET, US, ON),
    row("rfc4475/regaut01.dat", US, NET, &[Refused(403, RelayDenied)]),
    row("rfc4475/regaut01.dat", NET, US, &[Refused(405, Unsupported)])
        .with(&[("From: sip:j.user@example.com", "From: sip:j.user@example.net")])
        .because("for our domain itself, where nobody registers from outside"),
    row("rfc4475/multi01.dat", US, NET, BAD),
    row("rfc4475/mcl01.dat", NET, US, BAD).closed(),
    row("rfc4475/bcast.dat", NET, US, NOTHING).because(NO_REQUEST),
    row("rfc4475/zeromf.dat", NET, US, &[Refused(483, Loop)]),
    row("rfc4475/cparam01.dat", US, NET, &[Refused(403, RelayDenied)]),
    row("rfc4475/cparam02.dat", US, NET, &[Refused(403, RelayDenied)]),
    row("rfc4475/regescrt.dat", US, NET, &[Refused(403, RelayDenied)]),
    row("rfc4475/sdp01.dat", NET, US, ON),
    row("rfc4475/inv2543.dat", NET, US, BAD).closed().because("on a stream Content-Length is a must (RFC 3261 §20.14)"),
    row("rfc4475/test.dat", NET, US, &[Unheard(Malformed)]).closed(),
];

/// Rows that may not reach a node as they came, whatever they say.
const EDITED: &[&str] = &[
    "route",
    "max-forwards",
    "call-id",
    "i",
    "p-asserted-identity",
    "proxy-require",
    "proxy-authorization",
    "ms-user-data",
    "ms-edge-proxy-message-trust",
    "ms-asserted-verification-level",
];

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/sip")
}

/// What a row sends.
fn bytes_of(row: &Row) -> Vec<u8> {
    let bytes = std::fs::read(folder().join(row.file)).expect("a vector");
    row.instead.iter().fold(bytes, |bytes, (what, instead)| {
        let at = memchr::memmem::find(&bytes, what.as_bytes()).unwrap_or_else(|| panic!("{} has no {what}", row.file));
        [&bytes[..at], instead.as_bytes(), &bytes[at + what.len()..]].concat()
    })
}

/// Two SIP nodes that serve `ours`, and partners who are allowed everything.
fn world_of(ours: &str) -> World {
    let config =
        with_sip_nodes(CONFIG).replace("corp.example", ours).replace("edge.", &format!("{}.", pki().edge(ours)));
    let mut policy = String::new();
    for (domain, profile) in [(LYNC, "lync"), (AOL, "aol"), (US, "lync"), (NET, "lync"), (ORG, "lync")] {
        if domain != ours {
            policy.push_str(&format!(
                "[[partner]]\ndomain = \"{domain}\"\nprotocol = \"sip\"\nprofile = \"{profile}\"\n\
                 allow = [\"subscribe\", \"presence\", \"message\", \"chat\", \"groupchat\", \"iq\", \"file\", \"call\", \"other\"]\n"
            ));
        }
    }
    World::with(&config, &policy)
}

fn requests(bytes: &[u8]) -> Vec<Message> {
    let mut framer = Framer::new(65_536, 65_536);
    framer.buffer().extend_from_slice(bytes);
    let frames = std::iter::from_fn(|| framer.next());
    let messages = frames.filter_map(|frame| match frame {
        Frame::Message(message) => Some(message),
        Frame::Bad { message, .. } => message,
        Frame::Ping => None,
    });
    messages.filter(Message::is_request).collect()
}

fn taken(world: &mut World, party: &str) -> Vec<Message> {
    let seen = world.inbox.remove(party).unwrap_or_default().into_iter();
    let messages = seen.map(|seen| match seen {
        Seen::Sip(message) => message,
        Seen::Xml(_) => panic!("XML to {party}"),
    });
    messages.collect()
}

/// The header lines of a message, folds and line ends with them.
fn lines(message: &Message) -> Vec<Vec<u8>> {
    let bytes = message.bytes();
    let head = memchr::memmem::find(bytes, b"\r\n\r\n").expect("an empty line") + 2;
    let mut lines: Vec<Vec<u8>> = Vec::new();
    for line in bytes[..head].split_inclusive(|byte| *byte == b'\n').skip(1) {
        match (line.first(), lines.last_mut()) {
            (Some(b' ' | b'\t'), Some(last)) => last.extend_from_slice(line),
            _ => lines.push(line.to_owned()),
        }
    }
    lines
}

/// RFC 3261 §16.6: what left is what came, but for what a proxy changes.
fn is_handed_on(came: &Message, left: &Message) -> Result<(), String> {
    left.check().map_err(|fault| format!("what we sent is wrong: {fault}"))?;
    if came.method() != left.method() {
        return Err("another method".to_owned());
    }
    let mut vias = left.values(Name::Via);
    let ours = vias.next().unwrap_or_default();
    if !ours.starts_with("SIP/2.0/TCP 127.0.0.7:5062;branch=z9hG4bKfgr") {
        return Err(format!("our Via is {ours}"));
    }
    if !came.values(Name::Via).eq(vias) {
        return Err("not the Vias that came, below ours".to_owned());
    }
    let hops = came.header(Name::MaxForwards).map_or(71, |hops| hops.trim().parse::<u8>().expect("a hop limit"));
    if left.header(Name::MaxForwards) != Some((hops - 1).to_string().as_str()) {
        return Err(format!("{hops} became {:?}", left.header(Name::MaxForwards)));
    }
    if came.body() != left.body() {
        return Err("another body".to_owned());
    }
    let written = lines(left);
    let mut at = 0;
    for line in lines(came) {
        let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
        let name = String::from_utf8_lossy(name).trim().to_ascii_lowercase();
        if EDITED.contains(&name.as_str())
            || came.from().is_some_and(|from| from.uri.text.contains('(')) && name == "from"
        {
            continue;
        }
        match written.iter().skip(at).position(|left| *left == line) {
            Some(further) => at += further + 1,
            None => return Err(format!("not byte for byte, or not in order: {}", String::from_utf8_lossy(&line))),
        }
    }
    if left.header_named("p-asserted-identity").is_some() || left.header_named("ms-user-data").is_some() {
        return Err("it brings in what only the inside may say".to_owned());
    }
    Ok(())
}

/// What a node answers.
fn ok(request: &Message) -> Vec<u8> {
    let mut text = "SIP/2.0 200 OK\r\n".to_owned();
    for name in [Name::Via, Name::RecordRoute, Name::From, Name::To, Name::CallId, Name::CSeq] {
        for row in request.rows(name) {
            let tag = if name == Name::To && request.to_tag().is_none() { ";tag=node" } else { "" };
            text.push_str(&format!("{}: {row}{tag}\r\n", name.as_str()));
        }
    }
    text.push_str("Contact: <sip:romeo@10.2.0.1:5060;transport=tcp>\r\nContent-Length: 0\r\n\r\n");
    text.into_bytes()
}

fn is_refused(status: u16, reason: Reason, heard: &Message) -> bool {
    let label = |warning: &str| warning.split(' ').nth(4) == Some(reason.as_str());
    matches!(heard.start(), Start::Response { status: actual, .. } if actual == status)
        && heard.header(Name::Warning).is_some_and(label)
        && (status != 420 || heard.header_named("unsupported").is_some())
}

fn judge(row: &Row) -> Result<(), String> {
    let bytes = bytes_of(row);
    let mut world = world_of(row.ours);
    world.sip(row.from, &bytes);
    world.advance(Duration::ZERO);
    let came = requests(&bytes);
    // Which of the two serves the user is no matter here.
    let mut left = taken(&mut world, "imp-1");
    let node = if left.is_empty() { "imp-2" } else { "imp-1" };
    left.extend(taken(&mut world, "imp-2"));
    let expected = row.fate.iter().filter(|fate| matches!(fate, Forwarded | Passed)).count();
    if left.len() != expected {
        let heard = taken(&mut world, row.from);
        let heard: Vec<_> = heard.iter().map(|m| String::from_utf8_lossy(m.bytes()).into_owned()).collect();
        return Err(format!("{} requests reached the node; the sender heard {heard:?}", left.len()));
    }
    for left in &left {
        let branch = left.values(Name::Via).nth(1).unwrap_or_default();
        let its = came.iter().find(|came| came.values(Name::Via).next() == Some(branch)).ok_or("another's Via")?;
        is_handed_on(its, left)?;
        world.sip_answer(node, &ok(left));
    }
    world.advance(Duration::from_secs(1));
    let mut heard = taken(&mut world, row.from).into_iter();
    let mut next = || heard.find(|m| !matches!(m.start(), Start::Response { status: 100, .. }));
    let is = |heard: &Option<Message>, wanted: u16| {
        heard.as_ref().is_some_and(|m| matches!(m.start(), Start::Response { status, .. } if status == wanted))
    };
    // RFC 3261 §8.2.6.2.
    let of_its = |heard: &Message| {
        let same = |came: &Message| {
            came.rows(Name::Via).eq(heard.rows(Name::Via))
                && [Name::From, Name::CallId, Name::CSeq].into_iter().all(|n| came.header(n) == heard.header(n))
        };
        came.iter().any(same)
    };
    for fate in row.fate {
        let heard = match fate {
            Passed | Unheard(_) => continue,
            _ => next(),
        };
        let is_it = match fate {
            Refused(status, reason) => heard.as_ref().is_some_and(|heard| is_refused(*status, *reason, heard)),
            Answer(status) => is(&heard, *status),
            _ => is(&heard, 200),
        };
        if !is_it || !heard.as_ref().is_some_and(of_its) {
            return Err(format!("{fate:?} was wanted, the sender heard {:?}", heard.map(|m| m.bytes().clone())));
        }
    }
    if let Some(more) = next() {
        return Err(format!("the sender heard {:?}", more.bytes()));
    }
    let told: Vec<Reason> = row
        .fate
        .iter()
        .filter_map(|fate| match fate {
            Refused(_, reason) | Unheard(reason) => Some(*reason),
            Forwarded | Passed | Answer(_) => None,
        })
        .collect();
    if world.refusals() != told {
        return Err(format!("the operator was told {:?}", world.refusals()));
    }
    if world.connected().contains(row.from) == row.closed {
        return Err(format!("the link is {}", if row.closed { "still there" } else { "closed" }));
    }
    world.input(Input::Drain { last: true });
    world.advance(Duration::from_secs(60));
    if !world.gate.is_drained() {
        return Err("something stays".to_owned());
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
    let mut found = BTreeSet::new();
    for part in ["samples", "torture", "rfc4475"] {
        for entry in std::fs::read_dir(folder().join(part)).expect("folder of vectors") {
            let name = entry.expect("entry").file_name().to_string_lossy().into_owned();
            if !name.ends_with(".md") {
                found.insert(format!("{part}/{name}"));
            }
        }
    }
    let listed: BTreeSet<String> = TABLE.iter().map(|row| row.file.to_owned()).collect();
    assert_eq!(listed, found);
}

/// Damaged in any way and from either side, a message does not stop the gate; what leaves can be read, and nothing stays.
#[test]
fn damage_does_no_harm() {
    let mut world = world_of(US);
    let mut damage = 0x9e37_79b9_u32;
    let mut next = move |below: usize| {
        damage ^= damage << 13;
        damage ^= damage >> 17;
        damage ^= damage << 5;
        damage as usize % below.max(1)
    };
    let mut handed_on = 0;
    for row in TABLE.iter().filter(|row| row.ours == US) {
        let sound = bytes_of(row);
        let text = String::from_utf8_lossy(&sound).into_owned();
        // The same, as a node would send it to the partner.
        let outward =
            text.replace(row.from, "@").replace(US, row.from).replace('@', US).replace(&format!("{US}{US}"), US);
        for round in 0..16 {
            let is_outward = round % 4 == 3;
            let mut bytes = if is_outward { outward.clone().into_bytes() } else { sound.clone() };
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
            world.sip(if is_outward { "imp-1" } else { row.from }, &bytes);
            world.advance(Duration::ZERO);
            for node in ["imp-1", "imp-2"] {
                for left in taken(&mut world, node).iter().filter(|left| left.is_request()) {
                    left.check().unwrap_or_else(|fault| panic!("{} round {round}: {fault}", row.file));
                    handed_on += 1;
                    if !matches!(left.method(), Some(Method::Ack | Method::Benotify)) && next(2) == 0 {
                        // A node's answers may be damaged as well; what can't be told apart is never given to the gate.
                        let mut answer = ok(left);
                        if next(3) == 0 {
                            let at = next(answer.len());
                            answer[at] = b"\0\r\n \"<>;:@%,=\xff\x7f"[next(15)];
                        }
                        if Message::parse(answer.clone().into()).is_ok() {
                            world.sip_answer(node, &answer);
                        }
                    }
                }
            }
            world.advance(Duration::from_secs(60));
            for heard in taken(&mut world, row.from) {
                let Start::Response { status, .. } = heard.start() else { continue };
                assert!(
                    status < 300 || status == 481 || heard.header(Name::Warning).is_some(),
                    "{} round {round}: {}",
                    row.file,
                    String::from_utf8_lossy(heard.bytes())
                );
            }
            world.inbox.clear();
        }
    }
    assert!(handed_on > 100, "only {handed_on} were handed on");
    world.input(Input::Drain { last: true });
    world.advance(Duration::from_secs(600));
    assert!(world.gate.is_drained(), "something stays for good: {:?}", world.gate.snapshot());
}
