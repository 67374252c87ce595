//! What a stanza does, in the policies' words, and which question it may be the answer to.

use crate::gate::partner::Action;
use crate::gate::reject::{Reason, Reject};
use crate::wire::xmpp::{Element, Kind, Stanza};
use memchr::memmem;

/// XEP-0045 §7.2: who enters a room.
const NS_MUC: &str = "http://jabber.org/protocol/muc";
/// XEP-0045 §7.2.2: what a room says of who is in it.
const NS_MUC_USER: &str = "http://jabber.org/protocol/muc#user";
/// XEP-0166.
const NS_JINGLE: &str = "urn:xmpp:jingle:1";
/// XEP-0353: a call rings by it.
const NS_JINGLE_MESSAGE: &str = "urn:xmpp:jingle-message:";
/// XEP-0047.
const NS_IBB: &str = "http://jabber.org/protocol/ibb";
/// What people read, and so no part of what programs agree on (RFC 6121 §5.2.3 and §5.2.4, XEP-0071, XEP-0384).
const TEXTS: [&str; 4] = ["body", "subject", "html", "encrypted"];
/// XEP-0065 and XEP-0095.
const FILES: [&str; 3] = [NS_IBB, "http://jabber.org/protocol/bytestreams", "http://jabber.org/protocol/si"];
/// XEP-0234 and its transports (XEP-0260, XEP-0261).
const JINGLE_FILES: [&str; 3] =
    ["urn:xmpp:jingle:apps:file-transfer:", "urn:xmpp:jingle:transports:s5b:", "urn:xmpp:jingle:transports:ibb:"];
/// XEP-0167 and its transports (XEP-0176, XEP-0177).
const JINGLE_CALLS: [&str; 3] =
    ["urn:xmpp:jingle:apps:rtp:", "urn:xmpp:jingle:transports:ice", "urn:xmpp:jingle:transports:raw-udp:"];

/// What is asked of policy for a stanza, and how it takes a no.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Asked {
    /// What it may be as a request of its sender: any of these.
    pub own: &'static [Action],
    /// What its recipient may have asked, so that this answers it: any of these, asked the other way round. Comes first.
    pub answers: &'static [Action],
    /// What its sender may have begun, so that this answers what was said back in it: any of these, asked as they are.
    pub within: &'static [Action],
    /// It answers and asks for nothing: no error of ours may follow it (RFC 6120 §8.3.1).
    pub is_reply: bool,
    /// Nobody waits for a refusal: its sender reads none.
    pub is_silent: bool,
    /// It takes something back: neither held back nor counted.
    pub leaves: bool,
}

/// What a message may do.
const MESSAGES: &[Action] = &[Action::Message, Action::Chat, Action::Groupchat, Action::Call, Action::File];
/// What a presence may do.
const PRESENCES: &[Action] = &[Action::Subscribe, Action::Presence, Action::Groupchat];

const REQUEST: Asked = Asked { own: &[], answers: &[], within: &[], is_reply: false, is_silent: false, leaves: false };
const REPLY: Asked = Asked { is_reply: true, is_silent: true, ..REQUEST };

impl Asked {
    /// Of a stanza of either side.
    pub(super) fn of(stanza: &Stanza) -> Result<Self, Reject> {
        match stanza.kind {
            Kind::Message => of_message(stanza),
            Kind::Presence => of_presence(stanza),
            Kind::Iq => of_iq(stanza),
        }
    }

    /// What it counts as when nobody has decided.
    pub(super) fn action(&self) -> Action {
        self.own.first().or(self.answers.first()).copied().unwrap_or(Action::Other)
    }
}

fn of_message(stanza: &Stanza) -> Result<Asked, Reject> {
    let is_for_resource = matches!(&stanza.to, Ok(Some(to)) if to.resource.is_some());
    Ok(match stanza.type_.as_deref() {
        Some("error") => Asked { answers: MESSAGES, within: MESSAGES, ..REPLY },
        // XEP-0045 §7.4: who is in a room writes to the room alone, the room to each of them.
        Some("groupchat") if is_for_resource => {
            Asked { own: &[Action::Groupchat], answers: &[Action::Groupchat], ..REQUEST }
        }
        Some("groupchat") => Asked { own: &[Action::Groupchat], ..REQUEST },
        type_ => {
            if may_name(stanza, &[b"jingle-message", b"/ibb"]) {
                let children = || stanza.element().elements();
                let is_call = children().any(|child| child.ns.starts_with(NS_JINGLE_MESSAGE));
                let is_file = children().any(|child| child.ns == NS_IBB);
                let is_text = children().any(|child| TEXTS.contains(&child.name.as_str()));
                if u8::from(is_call) + u8::from(is_file) + u8::from((is_call || is_file) && is_text) > 1 {
                    let detail = "a message that is of two kinds: of a call, of a file, of something to read";
                    return Err(Reject::new(Reason::Malformed, detail));
                }
                if is_call {
                    // XEP-0353 §3: a call rings by it.
                    let rings =
                        children().any(|child| child.ns.starts_with(NS_JINGLE_MESSAGE) && child.name == "propose");
                    let answers: &[_] = if rings { &[] } else { &[Action::Call] };
                    return Ok(Asked { own: &[Action::Call], answers, ..REQUEST });
                }
                if is_file {
                    return Ok(Asked { own: &[Action::File], answers: &[Action::File], ..REQUEST });
                }
            }
            // RFC 6121 §5.2.2: no type is `normal`, and so is a type that nobody knows.
            let own = if type_ == Some("chat") { &[Action::Chat] } else { &[Action::Message] };
            Asked { own, ..REQUEST }
        }
    })
}

fn of_presence(stanza: &Stanza) -> Result<Asked, Reject> {
    let is_for_resource = matches!(&stanza.to, Ok(Some(to)) if to.resource.is_some());
    let subscribe = Asked { own: &[Action::Subscribe], ..REQUEST };
    Ok(match stanza.type_.as_deref() {
        Some("subscribe") => subscribe,
        Some("unsubscribe") => Asked { leaves: true, ..subscribe },
        // The server's own; its refusal is nobody's to read (RFC 6121 §4.3.2).
        Some("probe") => Asked { is_silent: true, ..subscribe },
        Some("subscribed" | "unsubscribed") => Asked { answers: &[Action::Subscribe], ..REPLY },
        Some("error") => Asked { answers: PRESENCES, within: PRESENCES, ..REPLY },
        None | Some("unavailable") => {
            let has = |ns: &str| {
                may_name(stanza, &[b"protocol/muc"])
                    && stanza.element().elements().any(|child| child.name == "x" && child.ns == ns)
            };
            if has(NS_MUC) {
                return Ok(Asked { own: &[Action::Groupchat], ..REQUEST });
            }
            if has(NS_MUC_USER) {
                return Ok(Asked { answers: &[Action::Groupchat], ..REPLY });
            }
            // Who shows itself to a watcher answers it, whoever may not show itself to anybody.
            let shows = Asked { answers: &[Action::Subscribe], own: &[Action::Presence], is_silent: true, ..REQUEST };
            match stanza.type_ {
                None => shows,
                // XEP-0045 §7.14: nothing tells who leaves a room from who leaves.
                Some(_) if is_for_resource => {
                    Asked { own: &[Action::Presence, Action::Groupchat], leaves: true, ..shows }
                }
                Some(_) => Asked { leaves: true, ..shows },
            }
        }
        Some(_) => return Err(Reject::new(Reason::Malformed, "a presence of no known type (RFC 6121 §4.7.1)")),
    })
}

fn of_iq(stanza: &Stanza) -> Result<Asked, Reject> {
    match stanza.type_.as_deref() {
        Some("result" | "error") => {
            let within = &[Action::File, Action::Call];
            Ok(Asked { answers: &[Action::Iq, Action::File, Action::Call], within, ..REPLY })
        }
        Some("get" | "set") => of_payload(stanza),
        _ => Err(Reject::new(Reason::Malformed, "an iq of no known type (RFC 6120 §8.2.3)")),
    }
}

/// Of a get or set: what is in it, not what is around it.
fn of_payload(stanza: &Stanza) -> Result<Asked, Reject> {
    let iq = Asked { own: &[Action::Iq], ..REQUEST };
    if !may_name(stanza, &[b"jingle", b"protocol/"]) {
        return Ok(iq);
    }
    let mut payloads = stanza.element().elements();
    let (Some(payload), None) = (payloads.next(), payloads.next()) else {
        // What is decided as one might be read as the other.
        return Err(Reject::new(Reason::Malformed, "a get or set has one payload (RFC 6120 §8.2.3)"));
    };
    if payload.is("jingle", NS_JINGLE) {
        return Ok(of_jingle(payload));
    }
    if !FILES.contains(&payload.ns.as_str()) {
        return Ok(iq);
    }
    // In a session that is there either end may send, and close it (XEP-0047 §2); who offers or opens one begins it.
    let goes_on = payload.ns == NS_IBB && payload.name != "open";
    Ok(Asked { own: &[Action::File], answers: if goes_on { &[Action::File] } else { &[] }, ..REQUEST })
}

/// Who begins a session asks (XEP-0166 §7.2); what either end says in it may answer.
fn of_jingle(jingle: &Element) -> Asked {
    let contents = || jingle.elements().flat_map(|content| std::iter::once(content).chain(content.elements()));
    let has = |known: &[&str]| contents().any(|part| known.iter().any(|ns| part.ns.starts_with(ns)));
    let own: &'static [Action] = match (has(&JINGLE_CALLS), has(&JINGLE_FILES)) {
        (true, _) => &[Action::Call],
        (false, true) => &[Action::File],
        (false, false) => &[Action::Call, Action::File],
    };
    match jingle.get_attr("action") {
        Some("session-initiate") => {
            // What nobody knows is a call: an offer names what it is for.
            Asked { own: if own.len() > 1 { &[Action::Call] } else { own }, ..REQUEST }
        }
        _ => Asked { own, answers: own, ..REQUEST },
    }
}

/// Whether a stanza may hold one of these in a namespace. Reads no more than bytes; a character reference may hide anything.
fn may_name(stanza: &Stanza, words: &[&[u8]]) -> bool {
    words.iter().chain(&[&b"&#"[..]]).any(|word| memmem::find(&stanza.raw, word).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::xmpp::NS_SERVER;
    use Action::*;
    use bytes::Bytes;

    fn asked(text: &str) -> Asked {
        let stanza = Stanza::parse(Bytes::copy_from_slice(text.as_bytes()), NS_SERVER).unwrap().unwrap();
        Asked::of(&stanza).unwrap()
    }

    #[test]
    fn each_stanza_is_asked_about_as_what_it_does() {
        let jingle = |action: &str, inside: &str| {
            format!(
                "<iq type='set' to='a@b.c/d'><jingle xmlns='urn:xmpp:jingle:1' action='{action}'><content>{inside}</content></jingle></iq>"
            )
        };
        let rtp = "<description xmlns='urn:xmpp:jingle:apps:rtp:1'/>";
        let file = "<description xmlns='urn:xmpp:jingle:apps:file-transfer:5'/>";
        let cases: &[(&str, &[Action], &[Action])] = &[
            ("<message type='chat'/>", &[Chat], &[]),
            ("<message type='chat'><active xmlns='http://jabber.org/protocol/chatstates'/></message>", &[Chat], &[]),
            ("<message/>", &[Message], &[]),
            ("<message type='normal'/>", &[Message], &[]),
            ("<message type='headline'/>", &[Message], &[]),
            ("<message type='gossip'/>", &[Message], &[]),
            ("<message><x xmlns='http://jabber.org/protocol/muc#user'><invite/></x></message>", &[Message], &[]),
            ("<message type='groupchat' to='room@c.b.c'/>", &[Groupchat], &[]),
            ("<message type='groupchat' to='a@b.c/d'/>", &[Groupchat], &[Groupchat]),
            ("<message type='error'/>", &[], &[Message, Chat, Groupchat, Call, File]),
            ("<message type='chat'><propose xmlns='urn:xmpp:jingle-message:0'/></message>", &[Call], &[]),
            ("<message type='chat'><propose xmlns='urn:xmpp:jingle&#45;message:0'/></message>", &[Call], &[]),
            ("<message type='chat'><proceed xmlns='urn:xmpp:jingle-message:0'/></message>", &[Call], &[Call]),
            ("<message><data xmlns='http://jabber.org/protocol/ibb'/></message>", &[File], &[File]),
            ("<presence type='subscribe'/>", &[Subscribe], &[]),
            ("<presence type='unsubscribe'/>", &[Subscribe], &[]),
            ("<presence type='probe'/>", &[Subscribe], &[]),
            ("<presence type='subscribed'/>", &[], &[Subscribe]),
            ("<presence type='unsubscribed'/>", &[], &[Subscribe]),
            ("<presence/>", &[Presence], &[Subscribe]),
            ("<presence type='unavailable'/>", &[Presence], &[Subscribe]),
            ("<presence type='unavailable' to='room@c.b.c/nick'/>", &[Presence, Groupchat], &[Subscribe]),
            ("<presence><x xmlns='http://jabber.org/protocol/muc'/></presence>", &[Groupchat], &[]),
            ("<presence><x xmlns='http://jabber.org/protocol/muc#user'/></presence>", &[], &[Groupchat]),
            ("<iq type='get'><ping xmlns='urn:xmpp:ping'/></iq>", &[Iq], &[]),
            ("<iq type='get'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>", &[Iq], &[]),
            ("<iq type='set'><si xmlns='http://jabber.org/protocol/si'/></iq>", &[File], &[]),
            ("<iq type='set'><open xmlns='http://jabber.org/protocol/ibb'/></iq>", &[File], &[]),
            ("<iq type='set'><close xmlns='http://jabber.org/protocol/ibb'/></iq>", &[File], &[File]),
            ("<iq type='set'><query xmlns='http://jabber.org/protocol/bytestreams'/></iq>", &[File], &[]),
            ("<iq type='result'/>", &[], &[Iq, File, Call]),
            ("<iq type='error'/>", &[], &[Iq, File, Call]),
        ];
        for (text, own, answers) in cases {
            let found = asked(text);
            assert_eq!((found.own, found.answers), (*own, *answers), "{text}");
            assert_eq!(found.is_reply, own.is_empty(), "{text}");
        }
        for (action, inside, own, answers) in [
            ("session-initiate", rtp, &[Call][..], &[][..]),
            ("session-initiate", file, &[File], &[]),
            ("session-initiate", "", &[Call], &[]),
            ("session-accept", rtp, &[Call], &[Call]),
            ("transport-info", "<transport xmlns='urn:xmpp:jingle:transports:s5b:1'/>", &[File], &[File]),
            ("session-terminate", "", &[Call, File], &[Call, File]),
        ] {
            let found = asked(&jingle(action, inside));
            assert_eq!((found.own, found.answers), (own, answers), "{action} {inside}");
        }
    }

    #[test]
    fn what_is_of_no_known_type_or_of_two_is_malformed() {
        let (jingle, two) =
            ("<jingle xmlns='urn:xmpp:jingle:1' action='session-info'/>", "<query xmlns='jabber:iq:roster'/>");
        let [set, reversed] =
            [[jingle, two], [two, jingle]].map(|both| format!("<iq type='set'>{}</iq>", both.concat()));
        let finish = "<finish xmlns='urn:xmpp:jingle-message:0'/>";
        let [said, sent] = ["<body>x</body>", "<data xmlns='http://jabber.org/protocol/ibb'/>"]
            .map(|beside| format!("<message type='chat'>{finish}{beside}</message>"));
        for text in ["<iq/>", "<iq type='ask'/>", "<presence type='seen'/>", &set, &reversed, &said, &sent] {
            let stanza = Stanza::parse(Bytes::copy_from_slice(text.as_bytes()), NS_SERVER).unwrap().unwrap();
            assert_eq!(Asked::of(&stanza).map_err(|reject| reject.reason), Err(Reason::Malformed), "{text}");
        }
    }
}
