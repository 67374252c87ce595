//! What we send, acknowledged (XEP-0198, the sending half), to partners and to nodes.

use crate::stand::*;
use crate::support::{self, End, now};
use fedgate::gate::limits::{ACK_WITHIN, STREAM_END_WITHIN, UNACKED_PER_STREAM};
use fedgate::gate::link::{LinkInput, LinkOutput};
use fedgate::gate::partner::{NodeProof, TlsMode};

const ENABLE: &str = "<enable xmlns='urn:xmpp:sm:3'/>";
const ENABLED: &str = "<enabled xmlns='urn:xmpp:sm:3'/>";
const ASK: &str = "<r xmlns='urn:xmpp:sm:3'/>";

fn ack(handled: u32) -> String {
    format!("<a xmlns='urn:xmpp:sm:3' h='{handled}'/>")
}

fn send(receipt: Option<u64>) -> LinkInput {
    LinkInput::Send(TO_THEM.into(), receipt)
}

/// Behind SASL, their features with stream management seen.
fn offered() -> End {
    let mut ours = opening_by(edge(TlsMode::Required, CERTIFICATE), true);
    ours.input(LinkInput::TlsEstablished(Some(certificate(THEIRS))));
    ours.feed(answer("1")).feed(features(&["external"])).feed(SUCCESS).said();
    ours.feed(answer("2")).feed(features(&["sm"]));
    assert!(ours.said().ends_with(ENABLE));
    assert!(ours.proven().is_empty(), "nobody sends before that is settled");
    ours
}

fn managed() -> End {
    let mut ours = offered();
    ours.feed(ENABLED);
    assert!(matches!(ours.wants[..], [LinkOutput::Proven { managed: true, ours: true, .. }]));
    ours.said();
    ours
}

#[test]
fn it_is_asked_for_where_it_is_offered() {
    managed();
    let mut ours = offered();
    ours.feed(
        "<failed xmlns='urn:xmpp:sm:3'><unexpected-request xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></failed>",
    );
    assert!(matches!(ours.wants[..], [LinkOutput::Proven { managed: false, .. }]));
    ours.said();
    ours.input(send(Some(1)));
    assert_eq!(ours.said(), TO_THEM, "and nothing else");
    // Who never answers is not waited for.
    let mut ours = offered();
    ours.at(now() + std::time::Duration::from_secs(30), LinkInput::Timeout);
    assert!(ours.closed().is_some() && ours.proven().is_empty());
    // Nothing else is an answer.
    for wrong in [ack(0).as_str(), SUCCESS, "<db:result from='foreign.example' to='corp.example' type='valid'/>"] {
        let mut ours = offered();
        ours.feed(wrong);
        assert!(ours.proven().is_empty() && ours.closed().is_some(), "{wrong}");
    }
}

#[test]
fn receipts_come_back_as_the_peer_acknowledges() {
    let mut ours = managed();
    ours.input(send(Some(7)));
    assert_eq!(ours.said(), format!("{TO_THEM}{ASK}"));
    ours.input(send(None)).input(send(Some(8))).input(send(Some(9)));
    assert_eq!(ours.said(), TO_THEM.repeat(3), "one question at a time");
    ours.feed(ack(1));
    assert_eq!((ours.taken(), ours.said()), (vec![7], ASK.to_owned()));
    ours.feed(ack(3));
    assert_eq!((ours.taken(), ours.said()), (vec![7, 8], ASK.to_owned()));
    ours.feed(ack(3)).feed("<a xmlns='urn:xmpp:sm:3'/>").feed("<a xmlns='urn:xmpp:sm:3' h='x'/>");
    assert_eq!((ours.taken(), ours.said()), (vec![7, 8], String::new()), "that says nothing new");
    ours.feed(ack(4));
    assert_eq!((ours.taken(), ours.said()), (vec![7, 8, 9], String::new()));
    // An acknowledgement of ours is no stanza.
    ours.input(LinkInput::Send(ack(0).into(), None)).input(send(Some(10))).feed(ack(5));
    assert_eq!(ours.taken(), [7, 8, 9, 10]);
    for wrong in [4, 6, u32::MAX] {
        let mut ours = managed();
        ours.input(send(Some(1))).feed(ack(wrong));
        assert!(ours.taken().is_empty(), "{wrong}");
        assert!(ours.closed().unwrap().contains("more stanzas than it was sent"));
        assert!(ours.said().contains("<undefined-condition "));
    }
}

#[test]
fn a_peer_that_acknowledges_nothing_is_given_up() {
    let mut ours = managed();
    ours.input(send(None));
    assert!(ours.link.poll_timeout().unwrap() > now() + ACK_WITHIN, "nobody waits");
    ours.input(send(Some(1)));
    assert_eq!(ours.link.poll_timeout(), Some(now() + ACK_WITHIN));
    ours.feed(" ").feed(ack(0));
    ours.at(now() + ACK_WITHIN, LinkInput::Timeout);
    assert!(ours.said().contains("<connection-timeout "));
    assert!(ours.closed().is_some() && ours.taken().is_empty());
    // In time, it has as long again.
    let mut ours = managed();
    ours.input(send(Some(1))).input(send(Some(2)));
    let later = now() + ACK_WITHIN / 2;
    ours.link.buffer().extend_from_slice(ack(1).as_bytes());
    ours.at(later, LinkInput::Readable).at(now() + ACK_WITHIN, LinkInput::Timeout);
    assert!(ours.closed().is_none());
    assert_eq!(ours.link.poll_timeout(), Some(later + ACK_WITHIN));
}

#[test]
fn the_last_ones_are_asked_for_before_we_end_the_stream() {
    let mut ours = managed();
    ours.input(send(Some(1))).input(send(Some(2))).said();
    ours.input(LinkInput::Close(None));
    assert_eq!(ours.said(), "", "the question is on its way");
    ours.feed(ack(1));
    assert_eq!((ours.taken(), ours.said()), (vec![1], ASK.to_owned()));
    ours.feed(ack(2));
    assert_eq!((ours.taken(), ours.said()), (vec![1, 2], "</stream:stream>".to_owned()));
    ours.feed("</stream:stream>");
    assert!(ours.closed().is_some());
    // With nothing owed the end is at once; with no answer, soon.
    let mut ours = managed();
    ours.input(send(None)).input(LinkInput::Close(None));
    assert!(ours.said().ends_with("</stream:stream>"));
    let mut ours = managed();
    ours.input(send(Some(1))).input(LinkInput::Close(None)).said();
    ours.at(now() + STREAM_END_WITHIN, LinkInput::Timeout);
    assert_eq!((ours.said(), ours.taken()), ("</stream:stream>".to_owned(), vec![]));
    assert!(ours.closed().is_some());
    // The peer ends first: what it did not acknowledge never comes back.
    let mut ours = managed();
    ours.input(send(Some(1))).input(send(Some(2))).feed(ack(1) + "</stream:stream>");
    assert_eq!(ours.taken(), [1]);
    assert!(ours.closed().is_some());
}

#[test]
fn with_too_much_unacknowledged_no_more_is_taken() {
    let mut ours = managed();
    for receipt in 0..UNACKED_PER_STREAM as u64 {
        assert!(ours.link.has_room());
        ours.input(send(Some(receipt)));
    }
    assert!(!ours.link.has_room());
    ours.said();
    ours.feed(ack(1));
    assert!(ours.link.has_room());
    assert_eq!(ours.taken(), [0]);
    ours.feed(ack(UNACKED_PER_STREAM as u32));
    assert_eq!(ours.taken().len(), UNACKED_PER_STREAM);
}

#[test]
fn nodes_acknowledge_the_same_way() {
    let settings = support::settings(NodeProof::Network, &[OURS], &[THEIRS], TlsMode::Optional);
    let mut ours = End::opening(settings, THEIRS, OURS);
    let answer = |id: &str| header(OURS, THEIRS).replace(" version='1.0'>", &format!(" id='{id}' version='1.0'>"));
    ours.feed(answer("1")).feed(features(&["starttls"])).feed(PROCEED).input(LinkInput::TlsEstablished(None));
    ours.feed(answer("2")).feed(features(&["external", "dialback", "bidi"]));
    assert!(!ours.said().contains("bidi"), "not on the inside");
    ours.feed(SUCCESS).feed(answer("3")).feed(features(&["sm"])).feed(ENABLED).said();
    assert!(ours.wants.iter().any(|want| matches!(want, LinkOutput::Proven { managed: true, .. })));
    ours.input(LinkInput::Send(FROM_THEM.into(), Some(3))).feed(ack(1));
    assert_eq!(ours.taken(), [3]);
    ours.input(LinkInput::Send(FROM_THEM.into(), Some(4))).said();
    ours.input(LinkInput::Close(None)).feed(ack(2));
    assert_eq!((ours.taken(), ours.said()), (vec![3, 4], "</stream:stream>".to_owned()));
}
