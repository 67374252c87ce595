//! SIP that stays SIP: nothing inside is named outside, and what the partner sends back becomes what the node expects.

#[path = "support/pki.rs"]
#[allow(dead_code, missing_docs)] // other targets use the rest
mod pki;

use bytes::Bytes;
use fedgate::config::{self, Options};
use fedgate::gate::Time;
use fedgate::gate::border::leak::Inside;
use fedgate::gate::border::mask::Kind;
use fedgate::gate::border::place::Place;
use fedgate::gate::border::topology::{self, Crossing, Dialog, Ends, Masks, Routed, routed_inward, routed_outward};
use fedgate::gate::partner::{Action, Facing, HostPort, NodeProtocol, Profile, Side};
use fedgate::gate::reject::{Reason, Reject};
use fedgate::gate::settings::Settings;
use fedgate::wire::address::{Address, Domain};
use fedgate::wire::sip::header::Name;
use fedgate::wire::sip::{Message, NameAddr, Start, dialog};
use proptest::prelude::*;
use std::sync::LazyLock;

const NODE: &str = "imp-1.corp.internal";
const ADDRESS: &str = "10.1.2.3";
const SOURCE: &str = "fd00:5::7";
const BRANCH: &str = "z9hG4bKfgtest";

const CONFIG: &str = r#"
[edge]
policies = "policies"
[[identity]]
hostname = "sip.corp.example"
domains = ["corp.example"]
certificate = "edge.pem"
key = "edge.key"
[tls]
trust = ["ca.pem"]
[outside]
sip = ["127.0.0.1:5061"]
[inside]
xmpp = ["127.0.0.1:5270"]
[[node]]
name = "imp-1"
protocol = "xmpp"
address = "127.0.0.1:5269"
domains = ["corp.example"]
[state]
engine = "memory"
secrets = ["of-the-tests-0123456789abcdef"]
"#;

static SETTINGS: LazyLock<Settings> = LazyLock::new(|| {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let policy = "[[partner]]\ndomain = \"lync.example\"\nprotocol = \"sip\"\n";
    let texts = [("fedgate.toml", CONFIG), ("policies/test.toml", policy)];
    let checked = Options::check(Time::from_unix_seconds(now.as_secs()));
    config::load_str(pki::pki().folder.clone(), "fedgate.toml", texts, checked).into_result().unwrap().gate
});

/// A SIP node at a name, certified by another, connecting from elsewhere; another at an address.
fn settings(secrets: &[&str]) -> Settings {
    let mut settings = SETTINGS.clone();
    settings.secrets = secrets.iter().map(|secret| secret.as_bytes().to_vec()).collect();
    settings.inside_networks = vec!["192.168.7.0/24".parse().unwrap()];
    let facing = Facing { at: HostPort { host: "edge.corp.internal".to_owned(), port: 5062 }, tls: false };
    let mut node = settings.nodes[0].clone();
    node.protocol = NodeProtocol::Sip;
    node.facing = Some(facing);
    node.address = HostPort { host: NODE.to_owned(), port: 5070 };
    node.tls_name = Some("imp-tls.corp.internal".to_owned());
    node.sources = vec![format!("{SOURCE}/128").parse().unwrap()];
    let mut other = node.clone();
    other.name = "imp-2".into();
    other.address.host = ADDRESS.to_owned();
    settings.nodes = vec![node, other];
    settings
}

/// Two users, one of them outside, and what stands between them.
struct Edge {
    settings: Settings,
    masks: Masks,
    inside: Inside,
    places: Vec<Place>,
    partner: Domain,
    local: Address,
    profile: Profile,
}

impl Edge {
    fn new() -> Self {
        Self::of(settings(&["new"]))
    }

    fn of(settings: Settings) -> Self {
        Self {
            masks: Masks::of(&settings.secrets),
            inside: Inside::of(&settings),
            places: Place::all(&settings),
            settings,
            partner: Domain::parse("lync.example").unwrap(),
            local: Address::parse_user("juliet@corp.example").unwrap(),
            profile: Profile::Lync,
        }
    }

    fn ends(&self) -> Ends<'_> {
        Ends { partner: &self.partner, local: &self.local }
    }

    fn crossing(&self, opener: Side, known: Option<Dialog>) -> Crossing<'_> {
        let node = &self.settings.nodes[0];
        Crossing {
            settings: &self.settings,
            masks: &self.masks,
            inside: &self.inside,
            ends: self.ends(),
            profile: self.profile,
            node,
            place: &self.places[0],
            identity: 0,
            dialog: known.unwrap_or_else(|| Dialog::new(&self.masks, &node.name, opener, Action::Chat)),
        }
    }

    fn routed_in(&self, request: &Message) -> Result<Routed, Reject> {
        routed_inward(request, &self.masks, self.ends(), &self.settings)
    }

    fn routed_out(&self, request: &Message) -> Result<Routed, Reject> {
        routed_outward(request, &self.masks, self.ends(), &self.settings, &self.inside)
    }

    fn request_in(&self, request: &Message) -> Result<Message, Reject> {
        let routed = self.routed_in(request)?;
        let c = self.crossing(Side::Outside, routed.dialog);
        Ok(read(topology::inward_request(&c, request, &routed, BRANCH)?))
    }

    fn request_out(&self, request: &Message) -> Result<Message, Reject> {
        let routed = self.routed_out(request)?;
        let c = self.crossing(Side::Inside, routed.dialog);
        Ok(read(topology::outward_request(&c, request, &routed, BRANCH)?))
    }

    fn response_in(&self, request: &Message, response: &Message) -> Message {
        let c = self.crossing(Side::Inside, self.routed_out(request).unwrap().dialog);
        read(topology::inward_response(&c, request, response).unwrap())
    }

    fn response_out(&self, request: &Message, response: &Message) -> Result<Message, Reject> {
        let c = self.crossing(Side::Outside, self.routed_in(request).unwrap().dialog);
        Ok(read(topology::outward_response(&c, request, response)?))
    }
}

fn read(bytes: Bytes) -> Message {
    let message = Message::parse(bytes.clone()).unwrap();
    message.check().unwrap_or_else(|fault| panic!("{fault}: {}", String::from_utf8_lossy(&bytes)));
    message
}

fn message(start: &str, rows: &[String], kind: &str, body: &str) -> Message {
    let mut text = format!("{start}\r\n");
    for row in rows {
        text += &format!("{row}\r\n");
    }
    if !body.is_empty() {
        text += &format!("Content-Type: {kind}\r\n");
    }
    text += &format!("Content-Length: {}\r\n\r\n{body}", body.len());
    read(text.into())
}

fn request(method: &str, uri: &str, rows: &[String]) -> Message {
    let mut all = rows.to_vec();
    all.push(format!("CSeq: 7 {method}"));
    message(&format!("{method} {uri} SIP/2.0"), &all, "", "")
}

/// What a user agent answers (RFC 3261 §8.2.6.2), with further rows.
fn answer(status: &str, request: &Message, tag: &str, rows: &[String]) -> Message {
    let mut all: Vec<String> = Vec::new();
    for name in [Name::Via, Name::RecordRoute, Name::From, Name::CallId, Name::CSeq] {
        all.extend(request.rows(name).map(|row| format!("{}: {row}", name.as_str())));
    }
    let to = request.header(Name::To).unwrap();
    let tag = if request.to_tag().is_none() { format!(";tag={tag}") } else { String::new() };
    all.push(format!("To: {to}{tag}"));
    all.extend(rows.iter().cloned());
    message(&format!("SIP/2.0 {status}"), &all, "", "")
}

/// A request within a dialog, as RFC 3261 §12.2.1.1 builds it from what made the dialog.
fn within(method: &str, target: &str, routes: &[String], from: &str, to: &str, call_id: &str) -> Message {
    let mut rows: Vec<String> = routes.iter().map(|route| format!("Route: {route}")).collect();
    rows.extend([
        "Via: SIP/2.0/TLS ua.example:5061;branch=z9hG4bKin".to_owned(),
        "Max-Forwards: 70".to_owned(),
        format!("From: {from}"),
        format!("To: {to}"),
        format!("Call-ID: {call_id}"),
    ]);
    request(method, target, &rows)
}

fn uri_of(message: &Message) -> &str {
    match message.start() {
        Start::Request { uri, .. } => uri,
        Start::Response { .. } => "",
    }
}

fn contact(message: &Message) -> String {
    dialog::contact_uri(message).unwrap().text.to_owned()
}

fn rows(rows: &[&str]) -> Vec<String> {
    rows.iter().map(|row| (*row).to_owned()).collect()
}

/// An INVITE of the inside through a proxy of its own.
fn invite_of_the_inside() -> Message {
    request(
        "INVITE",
        "sip:romeo@lync.example",
        &rows(&[
            "Via: SIP/2.0/TCP imp-1.corp.internal:5070;branch=z9hG4bKa;received=10.1.2.3",
            "v: SIP/2.0/TCP 192.168.7.44;branch=z9hG4bKb",
            "Record-Route: <sip:imp-1.corp.internal:5070;transport=tcp;lr>;x=y, <sip:10.1.2.3;lr>",
            "Max-Forwards: 9",
            "From: \"imp-1.corp.internal\" <sip:juliet@corp.example>;tag=ft",
            "To: <sip:romeo@lync.example>",
            "Call-ID: 4711@192.168.7.44",
            "Contact: \"Juliet\" <sip:juliet@192.168.7.44:5060;transport=tcp>;expires=60;received=10.1.2.3",
            "User-Agent: Presence 9 (imp-1.corp.internal)",
            "Subject: imp-1.corp.internal",
            "X-Odd:   kept",
        ]),
    )
}

#[test]
fn a_dialog_of_the_inside_goes_out_and_all_its_requests_find_back() {
    let edge = Edge::new();
    let sent = invite_of_the_inside();
    let seen = edge.request_out(&sent).unwrap();
    let text = String::from_utf8_lossy(seen.bytes()).into_owned();
    assert_eq!(
        seen.rows(Name::Via).collect::<Vec<_>>(),
        ["SIP/2.0/TLS sip.corp.example:5061;branch=z9hG4bKfgtest"],
        "{text}"
    );
    assert_eq!((seen.header(Name::MaxForwards), seen.header_named("x-odd")), (Some("8"), Some("kept")));
    assert!(text.contains("X-Odd:   kept\r\n"));
    assert_eq!(seen.values(Name::RecordRoute).count(), 3);
    assert_eq!(seen.header(Name::UserAgent), None);
    // The user's words.
    assert_eq!(seen.from().unwrap().display, "\"imp-1.corp.internal\"");
    assert_eq!(seen.header(Name::Subject), Some("imp-1.corp.internal"));
    let masked = seen.header(Name::Contact).unwrap();
    assert!(masked.starts_with("\"Juliet\" <sip:fg.c") && masked.ends_with(";expires=60"), "{masked}");
    assert!(masked.contains("@sip.corp.example:5061;transport=tls>"), "{masked}");

    // The partner's proxy stays in the dialog, too.
    let mut answered = rows(&["Contact: <sip:romeo@10.99.0.1:5061;transport=tls>"]);
    answered.insert(0, "X-First: 1".to_owned());
    let ok = answer("200 OK", &seen, "tt", &answered);
    let ok = Message::parse(Bytes::from(String::from_utf8_lossy(ok.bytes()).replacen(
        "Record-Route: ",
        "Record-Route: <sip:edge.lync.example:5061;lr;ms-route-sig=a+/b==>;ms-rrsig=c/d;tag=E\r\nRecord-Route: ",
        1,
    )))
    .unwrap();
    let back = edge.response_in(&sent, &ok);
    for name in [Name::Via, Name::From, Name::CallId, Name::CSeq] {
        assert!(back.rows(name).eq(sent.rows(name)), "{name:?}");
    }
    assert_eq!(back.to_tag(), Some("tt"));
    assert_eq!(contact(&back), "sip:romeo@10.99.0.1:5061;transport=tls");
    let recorded: Vec<&str> = back.values(Name::RecordRoute).collect();
    assert_eq!(recorded.len(), 5);
    assert_eq!(recorded[0], "<sip:edge.lync.example:5061;lr;ms-route-sig=a+/b==>;ms-rrsig=c/d;tag=E");
    assert_eq!(recorded[2], "<sip:edge.corp.internal:5062;transport=tcp;lr>");
    assert_eq!(recorded[3..], ["<sip:imp-1.corp.internal:5070;transport=tcp;lr>;x=y", "<sip:10.1.2.3;lr>"]);

    // Outward within the dialog: the node's own proxies took theirs off.
    let set = dialog::route_set(&back, true);
    assert_eq!(set[0..2], ["<sip:10.1.2.3;lr>", "<sip:imp-1.corp.internal:5070;transport=tcp;lr>"]);
    let (from, to) = ("<sip:juliet@corp.example>;tag=ft", "<sip:romeo@lync.example>;tag=tt");
    let info = within("INFO", &contact(&back), &set[2..], from, to, "4711@192.168.7.44");
    let routed = edge.routed_out(&info).unwrap();
    let found = routed.dialog.unwrap();
    assert_eq!((found.opener, found.action, found.node.is_of("imp-1")), (Side::Inside, Action::Chat, true));
    let info = edge.request_out(&info).unwrap();
    assert_eq!(info.rows(Name::Route).collect::<Vec<_>>(), ["<sip:edge.lync.example:5061;lr;ms-route-sig=a+/b==>"]);
    assert_eq!(uri_of(&info), "sip:romeo@10.99.0.1:5061;transport=tls");
    assert_eq!(info.call_id(), seen.call_id());
    assert_eq!(info.rows(Name::RecordRoute).count(), 0);

    // Inward within the dialog: the partner's proxy took its own off.
    let set = dialog::route_set(&ok, false);
    let bye = within("BYE", &contact(&seen), &set[1..], to, from, seen.call_id().unwrap());
    let bye = edge.request_in(&bye).unwrap();
    assert_eq!(uri_of(&bye), "sip:juliet@192.168.7.44:5060;transport=tcp");
    assert_eq!(
        bye.rows(Name::Route).collect::<Vec<_>>(),
        ["<sip:imp-1.corp.internal:5070;transport=tcp;lr>", "<sip:10.1.2.3;lr>"]
    );
    assert_eq!(bye.call_id(), Some("4711@192.168.7.44"));
    assert_eq!(
        bye.rows(Name::Via).collect::<Vec<_>>(),
        ["SIP/2.0/TCP edge.corp.internal:5062;branch=z9hG4bKfgtest", "SIP/2.0/TLS ua.example:5061;branch=z9hG4bKin"]
    );
}

/// An INVITE of the partner through its edge.
fn invite_of_the_partner() -> Message {
    request(
        "INVITE",
        "sip:juliet@corp.example",
        &rows(&[
            "Via: SIP/2.0/TLS edge.lync.example:5061;branch=z9hG4bKp;ms-received-port=5061",
            "Record-Route: <sip:edge.lync.example:5061;lr;ms-route-sig=a+/b==>;ms-rrsig=c/d",
            "Max-Forwards: 70",
            "From: <sip:romeo@lync.example>;tag=ft;epid=1",
            "To: <sip:juliet@corp.example>;epid=2",
            "Call-ID: abc@10.1.2.3",
            "Contact: <sip:romeo@10.99.0.1:5061;transport=tls>",
            "ms-user-data: ms-publiccloud=TRUE",
            "ms-asserted-verification-level: x",
            "P-Asserted-Identity: <sip:romeo@lync.example>, <tel:+1>",
            "P-Asserted-Identity: <sip:nurse@corp.example>",
            "Proxy-Require: ms-benotify",
            "ms-conversation-id: q",
        ]),
    )
}

#[test]
fn a_dialog_of_the_partner_comes_in_and_all_its_requests_find_back() {
    let edge = Edge::new();
    let sent = invite_of_the_partner();
    let seen = edge.request_in(&sent).unwrap();
    let recorded: Vec<&str> = seen.values(Name::RecordRoute).collect();
    assert_eq!(recorded[0], "<sip:edge.corp.internal:5062;transport=tcp;lr>");
    assert!(recorded[1].starts_with("<sip:fg.r") && recorded[1].ends_with("@sip.corp.example:5061;transport=tls;lr>"));
    assert_eq!(recorded[2..], ["<sip:edge.lync.example:5061;lr;ms-route-sig=a+/b==>;ms-rrsig=c/d"]);
    assert_eq!(seen.rows(Name::PAssertedIdentity).collect::<Vec<_>>(), ["<sip:romeo@lync.example>"]);
    for gone in ["ms-user-data", "ms-asserted-verification-level", "Proxy-Require"] {
        assert_eq!(seen.header_named(gone), None, "{gone}");
    }
    assert_eq!(seen.header_named("ms-conversation-id"), Some("q"));
    assert_eq!(seen.call_id().and_then(Kind::of), Some(Kind::PartnerCallId));

    let own = "Record-Route: <sip:imp-1.corp.internal:5070;lr>";
    let ok = answer("200 OK", &seen, "tt", &rows(&["Contact: <sip:juliet@192.168.7.44:5060>", "Server: x"]));
    let ok = String::from_utf8_lossy(ok.bytes()).replacen("Record-Route:", &format!("{own}\r\nRecord-Route:"), 1);
    let ok = Message::parse(Bytes::from(ok)).unwrap();
    let back = edge.response_out(&sent, &ok).unwrap();
    for name in [Name::Via, Name::From, Name::CallId, Name::CSeq] {
        assert!(back.rows(name).eq(sent.rows(name)), "{name:?}");
    }
    assert_eq!(back.header(Name::To), Some("<sip:juliet@corp.example>;epid=2;tag=tt"));
    assert_eq!(back.header(Name::Server), None);
    let recorded: Vec<&str> = back.values(Name::RecordRoute).collect();
    assert_eq!(recorded.len(), 3);
    assert!(recorded[0].starts_with("<sip:fg.v") && recorded[1].starts_with("<sip:fg.r"));
    assert_eq!(recorded[2], sent.header(Name::RecordRoute).unwrap());

    // Inward within the dialog.
    let (from, to) = ("<sip:romeo@lync.example>;tag=ft", "<sip:juliet@corp.example>;tag=tt");
    let set = dialog::route_set(&back, true);
    let bye = within("BYE", &contact(&back), &set[1..], from, to, "abc@10.1.2.3");
    assert_eq!(edge.routed_in(&bye).unwrap().dialog.unwrap().opener, Side::Outside);
    let bye = edge.request_in(&bye).unwrap();
    assert_eq!((uri_of(&bye), bye.call_id()), ("sip:juliet@192.168.7.44:5060", seen.call_id()));
    assert_eq!(bye.rows(Name::Route).collect::<Vec<_>>(), ["<sip:imp-1.corp.internal:5070;lr>"]);
    // A partner that ignores Record-Route says what dialog it is all the same.
    let bye = within("BYE", &contact(&back), &[], from, to, "abc@10.1.2.3");
    assert!(edge.routed_in(&bye).unwrap().dialog.unwrap().node.is_of("imp-1"));

    // Outward within the dialog: its Call-ID comes home, though it looks like one of ours.
    let set = dialog::route_set(&ok, false);
    let info = within("INFO", &contact(&seen), &set[1..], to, from, seen.call_id().unwrap());
    let info = edge.request_out(&info).unwrap();
    assert_eq!((uri_of(&info), info.call_id()), ("sip:romeo@10.99.0.1:5061;transport=tls", Some("abc@10.1.2.3")));
    assert_eq!(info.rows(Name::Route).collect::<Vec<_>>(), ["<sip:edge.lync.example:5061;lr;ms-route-sig=a+/b==>"]);
}

#[test]
fn a_partner_that_repeats_no_record_route_keeps_us_in_the_dialog() {
    let edge = Edge::new();
    let sent = invite_of_the_inside();
    let seen = edge.request_out(&sent).unwrap();
    let ok = answer("200 OK", &seen, "tt", &rows(&["Contact: <sip:romeo@lync.example>"]));
    let ok: String = String::from_utf8_lossy(ok.bytes())
        .split_inclusive("\r\n")
        .filter(|line| !line.starts_with("Record-Route"))
        .collect();
    let ok = Message::parse(Bytes::from(ok)).unwrap();
    let set = dialog::route_set(&edge.response_in(&sent, &ok), true);
    assert_eq!(set.len(), 4);
    assert_eq!(set[2], "<sip:edge.corp.internal:5062;transport=tcp;lr>");
    let (from, to) = ("<sip:juliet@corp.example>;tag=ft", "<sip:romeo@lync.example>;tag=tt");
    let bye = within("BYE", "sip:romeo@lync.example", &set[2..], from, to, "4711@192.168.7.44");
    let routed = edge.routed_out(&bye).unwrap();
    assert!(routed.routes.is_empty() && routed.dialog.is_some());
    // A refusal makes no dialog.
    let no = answer("486 Busy Here", &seen, "tt", &[]);
    let no: String = String::from_utf8_lossy(no.bytes())
        .split_inclusive("\r\n")
        .filter(|line| !line.starts_with("Record-Route"))
        .collect();
    assert_eq!(edge.response_in(&sent, &Message::parse(no.into()).unwrap()).rows(Name::RecordRoute).count(), 0);
}

#[test]
fn a_strict_router_is_understood() {
    let edge = Edge::new();
    let seen = edge.request_out(&invite_of_the_inside()).unwrap();
    let set = dialog::route_set(&seen, false);
    let ours = set[0].trim_matches(['<', '>']);
    let routes = [set[1].clone(), set[2].clone(), format!("<{}>", contact(&seen))];
    let (from, to) = ("<sip:romeo@lync.example>;tag=tt", "<sip:juliet@corp.example>;tag=ft");
    let bye = within("BYE", ours, &routes, from, to, seen.call_id().unwrap());
    let routed = edge.routed_in(&bye).unwrap();
    assert_eq!(routed.uri, "sip:juliet@192.168.7.44:5060;transport=tcp");
    assert_eq!(routed.routes, ["<sip:imp-1.corp.internal:5070;transport=tcp;lr>", "<sip:10.1.2.3;lr>"]);
    assert!(routed.dialog.is_some());
}

#[test]
fn nobody_is_relayed_to_elsewhere() {
    let edge = Edge::new();
    let (from, to) = ("<sip:romeo@lync.example>;tag=tt", "<sip:juliet@corp.example>;tag=ft");
    let inward = |uri: &str, routes: &[&str]| {
        edge.routed_in(&within("BYE", uri, &rows(routes), from, to, "1")).map_err(|reject| reject.reason)
    };
    let denied = Err(Reason::RelayDenied);
    assert!(inward("sip:juliet@corp.example", &["<sip:sip.corp.example;lr>", "<sip:corp.example;lr>"]).is_ok());
    assert_eq!(inward("sip:juliet@corp.example", &["<sip:elsewhere.example;lr>"]), denied);
    assert_eq!(inward("sip:juliet@corp.example", &["<sip:sip.corp.example;lr>", "<sip:10.1.2.3;lr>"]), denied);
    assert_eq!(inward("sip:juliet@10.1.2.3", &[]), denied);
    assert_eq!(inward("sip:juliet@elsewhere.example", &["<sip:sip.corp.example;lr>"]), denied);
    let outward = |routes: &[&str]| {
        let request = within("BYE", "sip:romeo@lync.example", &rows(routes), to, from, "1");
        edge.routed_out(&request).map_err(|reject| reject.reason)
    };
    let routes = outward(&["<sip:edge.corp.internal:5062;lr>", "<sip:10.9.9.9;lr;x=%41>;a=b"]).unwrap().routes;
    assert_eq!(routes, ["<sip:10.9.9.9;lr;x=%41>;a=b"]);
    assert_eq!(outward(&["<sip:edge.corp.internal:5062;lr>", "<sip:10.1.2.3;lr>"]), denied);
    assert_eq!(outward(&["<sip:elsewhere.example;lr>", "<sip:imp-1.corp.internal;lr>"]), denied);
}

#[test]
fn a_mask_serves_one_partner_and_one_user() {
    let edge = Edge::new();
    let seen = edge.request_out(&invite_of_the_inside()).unwrap();
    let set = dialog::route_set(&seen, false);
    let (from, to) = ("<sip:romeo@lync.example>;tag=tt", "<sip:juliet@corp.example>;tag=ft");
    let bye = within("BYE", &contact(&seen), &set, from, to, seen.call_id().unwrap());
    assert!(edge.request_in(&bye).is_ok());
    let mut others = vec![Edge::new(), Edge::new(), Edge::of(settings(&["another secret"]))];
    others[0].partner = Domain::parse("aol.com").unwrap();
    others[1].local = Address::parse_user("nurse@corp.example").unwrap();
    for other in &others {
        assert_eq!(other.request_in(&bye).unwrap_err().reason, Reason::RelayDenied);
        let no_route = within("BYE", &contact(&seen), &[], from, to, "1");
        assert_eq!(other.request_in(&no_route).unwrap_err().reason, Reason::RelayDenied);
    }
    for other in [&others[0], &others[2]] {
        let call_id = within("BYE", "sip:juliet@corp.example", &[], from, to, seen.call_id().unwrap());
        assert_eq!(other.request_in(&call_id).unwrap_err().reason, Reason::RelayDenied);
    }
    let text = String::from_utf8_lossy(bye.bytes()).into_owned();
    for mask in [contact(&seen), set[0].clone(), set[1].clone(), seen.call_id().unwrap().to_owned()] {
        let start = text.find(&mask).unwrap() + mask.find("fg.").unwrap() + 6;
        for at in start..start + 40 {
            let mut changed = text.clone().into_bytes();
            changed[at] = if changed[at] == b'x' { b'y' } else { b'x' };
            let changed = Message::parse(changed.into()).unwrap();
            if mask.as_bytes().get(at - text.find(&mask).unwrap()).is_some_and(|byte| *byte != b'@' && at < start + 28)
            {
                assert_eq!(edge.request_in(&changed).unwrap_err().reason, Reason::RelayDenied, "{at} {mask}");
            }
        }
    }
}

#[test]
fn a_dialog_masks_the_same_after_the_secret_turned() {
    let before = Edge::of(settings(&["old"]));
    let after = Edge::of(settings(&["new", "old"]));
    let sent = invite_of_the_inside();
    let seen = before.request_out(&sent).unwrap();
    let ok = answer("200 OK", &seen, "tt", &rows(&["Contact: <sip:romeo@lync.example>"]));
    let back = before.response_in(&sent, &ok);
    let set = dialog::route_set(&back, true);
    let (from, to) = ("<sip:juliet@corp.example>;tag=ft", "<sip:romeo@lync.example>;tag=tt");
    let mut update = within("UPDATE", "sip:romeo@lync.example", &set[2..], from, to, "4711@192.168.7.44");
    update = Message::parse(Bytes::from(String::from_utf8_lossy(update.bytes()).replacen(
        "CSeq:",
        "Contact: <sip:juliet@192.168.7.44:5060;transport=tcp>\r\nCSeq:",
        1,
    )))
    .unwrap();
    let (one, two) = (before.request_out(&update).unwrap(), after.request_out(&update).unwrap());
    assert_eq!(one.bytes(), two.bytes());
    assert_eq!((contact(&one), one.call_id()), (contact(&seen), seen.call_id()));
    // A new one is masked with the new secret.
    assert_ne!(after.request_out(&sent).unwrap().call_id(), seen.call_id());
}

#[test]
fn an_aol_user_is_spelled_as_each_side_spells_it() {
    let mut edge = Edge::new();
    edge.partner = Domain::parse("aol.com").unwrap();
    edge.profile = Profile::Aol;
    let sent = request(
        "MESSAGE",
        "sip:juliet@corp.example",
        &rows(&[
            "Via: SIP/2.0/TLS aol.example;branch=z9hG4bKp",
            "From: <sip:romeo(gmail.com)@aol.com>;tag=1",
            "To: <sip:juliet@corp.example>",
            "P-Asserted-Identity: <sip:romeo%28gmail.com%29@aol.com>",
            "Call-ID: 1",
        ]),
    );
    let seen = edge.request_in(&sent).unwrap();
    assert_eq!(seen.header(Name::From), Some("<sip:romeo%40gmail.com@aol.com>;tag=1"));
    assert_eq!(seen.header(Name::PAssertedIdentity), Some("<sip:romeo%40gmail.com@aol.com>"));
    assert_eq!(seen.header(Name::MaxForwards), Some("70"));
    let back = edge.response_out(&sent, &answer("200 OK", &seen, "t", &[])).unwrap();
    assert_eq!(back.header(Name::From), sent.header(Name::From));
    let out = |uri: &str| {
        let rows = rows(&[
            "Via: SIP/2.0/TCP imp-1.corp.internal;branch=z9hG4bKp",
            "From: <sip:juliet@corp.example>;tag=1",
            &format!("To: <{uri}>"),
            "Call-ID: 1",
        ]);
        edge.request_out(&request("MESSAGE", uri, &rows))
    };
    let seen = out("sip:romeo%40gmail.com@aol.com").unwrap();
    assert_eq!(uri_of(&seen), "sip:romeo(gmail.com)@aol.com");
    assert_eq!(seen.to().unwrap().uri.text, "sip:romeo(gmail.com)@aol.com");
    assert_eq!(out("sip:romeo(gmail.com)@aol.com").unwrap_err().reason, Reason::AmbiguousAddress);
}

#[test]
fn a_warning_is_ours_and_says_nothing_of_the_inside() {
    let edge = Edge::new();
    let sent = invite_of_the_partner();
    let seen = edge.request_in(&sent).unwrap();
    let warnings = rows(&[
        "Warning: 399 imp-1.corp.internal:5070 \"busy, really\", 370 10.1.2.3 \"seen at imp-1.corp.internal\"",
        "Warning: 370 10.1.2.3 \"from 192.168.7.3\"",
        "Call-Info: <http://imp-1.corp.internal/juliet.png>",
        "X-Via: edge.corp.internal",
    ]);
    let back = edge.response_out(&sent, &answer("480 At imp-1.corp.internal", &seen, "t", &warnings)).unwrap();
    assert_eq!(back.rows(Name::Warning).collect::<Vec<_>>(), ["399 sip.corp.example \"busy, really\""]);
    assert_eq!((back.header_named("X-Via"), back.header(Name::CallInfo)), (None, None));
    assert_eq!(back.reason_phrase(), "Temporarily Unavailable");
    // Without these the message would mean something else.
    for row in ["Reply-To: <sip:juliet@imp-1.corp.internal>", "Refer-To: <sip:a@b.example?X=10.1.2.3>"] {
        let stopped = edge.response_out(&sent, &answer("200 OK", &seen, "t", &rows(&[row]))).unwrap_err();
        assert!(stopped.detail.contains("names something of the inside"), "{row}: {}", stopped.detail);
    }
}

#[test]
fn call_ids_within_other_headers_are_masked_alike() {
    let edge = Edge::new();
    let sent = invite_of_the_inside();
    let seen = edge.request_out(&sent).unwrap();
    let replacing = String::from_utf8_lossy(sent.bytes()).replacen(
        "X-Odd",
        "Replaces: 4711@192.168.7.44;to-tag=1;from-tag=2\r\nIn-Reply-To: a1, 4711@192.168.7.44,b2\r\nX-Odd",
        1,
    );
    let replacing = edge.request_out(&Message::parse(replacing.into()).unwrap()).unwrap();
    let mask = seen.call_id().unwrap();
    assert_eq!(replacing.header(Name::Replaces), Some(format!("{mask};to-tag=1;from-tag=2").as_str()));
    assert_eq!(replacing.header(Name::InReplyTo), Some(format!("a1,{mask},b2").as_str()));
}

#[test]
fn cancel_and_ack_are_the_hops_own() {
    let edge = Edge::new();
    let sent = edge.request_in(&invite_of_the_partner()).unwrap();
    let cancel = read(topology::cancel(&sent));
    assert_eq!(uri_of(&cancel), uri_of(&sent));
    assert_eq!(cancel.rows(Name::Via).collect::<Vec<_>>(), [sent.values(Name::Via).next().unwrap()]);
    assert_eq!(cancel.cseq().map(|(number, method)| (number, method.to_string())), Some((7, "CANCEL".to_owned())));
    assert_eq!((cancel.header(Name::To), cancel.call_id()), (sent.header(Name::To), sent.call_id()));
    let ack = read(topology::ack(&sent, &answer("486 Busy Here", &sent, "t", &[])));
    assert_eq!((ack.to_tag(), ack.from_tag(), ack.header(Name::MaxForwards)), (Some("t"), Some("ft"), Some("70")));
}

/// Hosts of the inside, in the spellings that its software uses.
fn hosts() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(NODE.to_owned()),
        Just("IMP-1.Corp.Internal".to_owned()),
        Just("imp-tls.corp.internal".to_owned()),
        Just("edge.corp.internal".to_owned()),
        Just(ADDRESS.to_owned()),
        (1u8..255).prop_map(|last| format!("192.168.7.{last}")),
        Just(format!("[{SOURCE}]")),
        Just(format!("[{}]", SOURCE.to_uppercase())),
    ]
}

/// A row that names a host, in each place where one may stand.
fn telling(host: &str, field: usize) -> String {
    let bare = host.trim_matches(['[', ']']);
    match field {
        0 => format!("Via: SIP/2.0/TCP {host}:5070;branch=z9hG4bKx;received={bare}"),
        1 => format!("Record-Route: <sip:{host};lr>;seen={bare}"),
        2 => format!("Record-Route: <sip:a.example;maddr={host};lr>"),
        3 => format!("Contact: <sip:juliet@{host}:5060>"),
        4 => format!("m: \"J\" <sip:juliet@corp.example;maddr={host};gruu>;q=0.5"),
        5 => format!("Contact: <sip:juliet@corp.example>;received=\"sip:{host}:77\""),
        6 => format!("Warning: 399 {host} \"x\""),
        7 => format!("Warning: 399 a \"at {host}\""),
        8 => format!("Server: x/1 ({host})"),
        9 => format!("User-Agent: x on {host}"),
        10 => format!("Refer-To: <sip:x@{host}>"),
        11 => format!("r: <sip:x@lync.example?Replaces=1%40{host}%3Bto-tag=1>"),
        12 => format!("Referred-By: <sip:x@{host}>"),
        13 => format!("Reply-To: <sip:x@{host}>"),
        14 => format!("P-Asserted-Identity: <sip:juliet@{host}>"),
        15 => format!("P-Preferred-Identity: <sip:juliet@{host}>"),
        16 => format!("Call-Info: <http://{host}:8080/x>;purpose=icon"),
        17 => format!("X-Trace: a;host={host};b"),
        18 => format!("History-Info: <sip:x@{host}>;index=1"),
        19 => format!("P-Charging-Vector: icid-value=1;orig-ioi={host}"),
        20 => format!("Replaces: 1@{host};to-tag=1;from-tag=2"),
        21 => format!("In-Reply-To: 1@{host}"),
        22 => format!("Target-Dialog: 1@{host};local-tag=1"),
        23 => format!("Path: <sip:{host};lr>"),
        24 => format!("Alert-Info: <http://{host}/ring>"),
        25 => format!("ms-diagnostics: 1;reason=\"x\";source=\"{host}\""),
        26 => format!("X-Url: \"sip:x@{host}\""),
        27 => format!("Identity-Info: <https://{host}/cert>"),
        _ => format!("X-Folded: a\r\n  {host}"),
    }
}

fn bodies(host: &str, kind: usize) -> (String, String) {
    let bare = host.trim_matches(['[', ']']);
    let sdp = format!(
        "v=0\r\no=- 0 0 IN IP4 {bare}\r\ns=session\r\nc=IN IP4 {bare}\r\nt=0 0\r\nm=message 5060 sip sip:juliet@{host}\r\n\
         a=candidate:1 1 UDP 1 {bare} 5 typ host\r\na=rtcp:7 IN IP4 {bare}\r\na=path:msrp://{host}:9/x;tcp\r\na=sendrecv\r\n"
    );
    match kind {
        0 => ("application/sdp".to_owned(), sdp),
        1 => (
            "multipart/mixed;boundary=\"b\"".to_owned(),
            format!(
                "--b\r\nContent-Type: text/plain\r\n\r\nhi\r\n--b\r\nContent-Type: application/sdp\r\n\r\n{sdp}\r\n--b--\r\n"
            ),
        ),
        2 => (
            "application/pidf+xml".to_owned(),
            format!(
                "<presence entity='sip:juliet@corp.example'><tuple id='1'><status/><contact>sip:j@{host}</contact></tuple></presence>"
            ),
        ),
        3 => ("message/cpim".to_owned(), format!("From: J <im:j@{host}>\r\nTo: <im:r@lync.example>\r\n\r\nhi")),
        4 => ("application/sdp".to_owned(), format!("who knows {host}")),
        _ => (String::new(), String::new()),
    }
}

/// Whether bytes name any of the inside's hosts, in any case.
fn shows(bytes: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(bytes).to_ascii_lowercase();
    let secret = ["corp.internal", ADDRESS, "192.168.7.", SOURCE];
    secret.iter().find(|secret| text.contains(**secret)).map(|secret| format!("{secret} in {text}"))
}

proptest! {
    #[test]
    fn nothing_of_the_inside_is_ever_seen_outside(
        told in proptest::collection::vec((hosts(), 0usize..29), 0..6),
        call in hosts(),
        body in (hosts(), 0usize..7),
        method in prop_oneof![Just("INVITE"), Just("SUBSCRIBE"), Just("MESSAGE"), Just("NOTIFY"), Just("FROB")],
    ) {
        let edge = Edge::new();
        let told: Vec<String> = told.iter().map(|(host, field)| telling(host, *field)).collect();
        let (kind, body) = bodies(&body.0, body.1);
        let mut all = rows(&[
            "Via: SIP/2.0/TCP imp-1.corp.internal:5070;branch=z9hG4bKa",
            "From: <sip:juliet@corp.example>;tag=1",
            "To: <sip:romeo@lync.example>",
        ]);
        all.push(format!("Call-ID: 77@{call}"));
        all.push(format!("CSeq: 1 {method}"));
        all.extend(told.clone());
        let sent = message(&format!("{method} sip:romeo@lync.example SIP/2.0"), &all, &kind, &body);
        match edge.request_out(&sent) {
            Ok(seen) => {
                prop_assert_eq!(shows(seen.bytes()), None);
                prop_assert_eq!(edge.inside.named_in(seen.bytes()), None);
            }
            Err(stopped) => prop_assert!(stopped.detail.contains("names something of the inside"), "{}", stopped.detail),
        }
        // The same in an answer.
        let asked = invite_of_the_partner();
        let taken = edge.request_in(&asked).unwrap();
        let mut all: Vec<String> = told.iter().filter(|row| !row.starts_with("Via")).cloned().collect();
        for name in [Name::Via, Name::RecordRoute, Name::From, Name::CallId, Name::CSeq] {
            all.extend(taken.rows(name).map(|row| format!("{}: {row}", name.as_str())));
        }
        all.push("To: <sip:juliet@corp.example>;tag=2".to_owned());
        let said = message("SIP/2.0 200 OK", &all, &kind, &body);
        match edge.response_out(&asked, &said) {
            Ok(seen) => {
                // Its own Call-ID is the partner's.
                let text = String::from_utf8_lossy(seen.bytes()).replace("abc@10.1.2.3", "");
                prop_assert_eq!(shows(text.as_bytes()), None);
            }
            Err(stopped) => prop_assert!(stopped.detail.contains("names something of the inside"), "{}", stopped.detail),
        }
    }

    #[test]
    fn what_nobody_edits_leaves_byte_for_byte(
        odd in proptest::collection::vec(("[A-Za-z][A-Za-z0-9-]{0,12}", "[ -~é]{0,40}", 0usize..3), 0..12),
        body in "[ -~\r\n]{0,80}",
    ) {
        let edge = Edge::new();
        let mut told = Vec::new();
        for (name, value, fold) in odd {
            let id = Name::parse(&name);
            if id != Name::Other || name.to_ascii_lowercase().starts_with("p-") || name.to_ascii_lowercase().starts_with("ms-") {
                continue;
            }
            let row = match fold {
                0 => format!("X{name}:{}", value.trim()),
                1 => format!("X{name} :  {}", value.trim()),
                _ => format!("X{name}: a\r\n\t {}b", value.trim()),
            };
            told.push(row);
        }
        let mut all = rows(&["Via: SIP/2.0/TLS edge.lync.example;branch=z9hG4bKa", "f:<sip:romeo@lync.example>;tag=1", "t: sip:juliet@corp.example"]);
        all.extend(told.clone());
        all.extend(rows(&["i: 1", "CSeq:  1   MESSAGE"]));
        let sent = message("MESSAGE sip:juliet@corp.example SIP/2.0", &all, "text/plain", &body);
        let seen = edge.request_in(&sent).unwrap();
        let text = String::from_utf8_lossy(seen.bytes()).into_owned();
        let run = format!("{}\r\n", all[1..].join("\r\n"));
        prop_assert!(text.contains(&run), "{}", text);
        prop_assert_eq!(seen.body(), sent.body());
    }

    #[test]
    fn a_masked_uri_comes_back_as_it_was(user in "[a-z]{1,8}", host in hosts(), params in "(;[a-z]{1,6}(=[A-Za-z0-9+/:=]{1,20})?){0,5}") {
        let edge = Edge::new();
        let uri = format!("sip:{user}@{host}:5060{params}");
        let sent = String::from_utf8_lossy(invite_of_the_inside().bytes())
            .replace("sip:juliet@192.168.7.44:5060;transport=tcp", &uri)
            .replace("<sip:10.1.2.3;lr>", &format!("<{uri};lr>"));
        let sent = read(sent.into());
        let seen = edge.request_out(&sent).unwrap();
        let set = dialog::route_set(&seen, false);
        let (from, to) = ("<sip:romeo@lync.example>;tag=tt", "<sip:juliet@corp.example>;tag=ft");
        let bye = within("BYE", &contact(&seen), &set, from, to, seen.call_id().unwrap());
        let bye = edge.request_in(&bye).unwrap();
        prop_assert_eq!(uri_of(&bye), uri.as_str());
        prop_assert_eq!(bye.rows(Name::Route).last().map(str::to_owned), Some(format!("<{uri};lr>")));
        prop_assert!(seen.values(Name::RecordRoute).all(|value| NameAddr::parse(value).is_ok()));
    }
}
