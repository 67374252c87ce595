//! What ends with time: certificates, idle streams, negotiations.

use crate::pki::pki;
use crate::stand::*;
use crate::support::now;
use fedgate::gate::limits::{STREAM_IDLE, STREAM_KEEPALIVE};
use fedgate::gate::link::{LinkInput, Verdict};
use fedgate::gate::partner::TlsMode;
use fedgate::gate::time::Time;
use fedgate::wire::certificate::Chain;
use std::sync::Arc;
use std::time::Duration;

/// A certificate for foreign.example that ends on the day after `now()`'s (2023-11-14).
fn short() -> (Arc<Chain>, Time) {
    let chain = pki().made("ca", |params| {
        params.subject_alt_names = vec![rcgen::SanType::DnsName(THEIRS.try_into().unwrap())];
        params.not_after = rcgen::date_time_ymd(2023, 11, 15);
    });
    let end = Time::from_unix_seconds(chain.not_after);
    assert!(end > now() && end < now() + Duration::from_secs(86_400));
    (chain, end)
}

/// Goes through the timers up to a time, with something said now and then.
fn pass(ours: &mut crate::support::End, until: Time, says: &str) {
    while ours.closed().is_none() {
        let due = ours.link.poll_timeout().unwrap();
        if due > until {
            break;
        }
        ours.at(due, LinkInput::Timeout);
        ours.link.buffer().extend_from_slice(says.as_bytes());
        ours.at(due, LinkInput::Readable);
    }
}

#[test]
fn a_stream_ends_when_its_certificate_does() {
    let (chain, end) = short();
    let mut ours = under_tls(edge(TlsMode::Required, EITHER), Some(chain.clone()), &header(THEIRS, OURS));
    ours.feed(key(THEIRS, OURS, "k"));
    assert_eq!(ours.proven().len(), 1);
    pass(&mut ours, end + Duration::from_secs(1), FROM_THEM);
    assert!(ours.said().contains("<stream:error><reset "), "{:?}", ours.closed());

    let mut ours = opening_by(edge(TlsMode::Required, CERTIFICATE), true);
    ours.input(LinkInput::TlsEstablished(Some(chain.clone())));
    ours.feed(answer("1")).feed(features(&["external", "bidi"])).feed(SUCCESS).feed(answer("2")).feed(features(&[]));
    pass(&mut ours, end + Duration::from_secs(1), FROM_THEM);
    assert!(ours.said().contains("<stream:error><reset "));

    // Who is known by dialback is known for as long as the stream lasts, whatever it showed.
    let mut ours = under_tls(edge(TlsMode::Required, DIALBACK), Some(chain.clone()), &header(THEIRS, OURS));
    ours.feed(key(THEIRS, OURS, "k"));
    verdict(&mut ours, Verdict::Valid);
    pass(&mut ours, end + Duration::from_secs(3_600), FROM_THEM);
    assert!(ours.closed().is_none());

    // What has ended proves nothing any more, not even between the offer and its acceptance, or between SASL and its stream.
    let mut ours = under_tls(edge(TlsMode::Required, CERTIFICATE), Some(chain.clone()), &header(THEIRS, OURS));
    assert!(ours.said().contains("EXTERNAL"));
    ours.link.buffer().extend_from_slice(auth("=").as_bytes());
    ours.at(end + Duration::from_secs(1), LinkInput::Readable);
    assert!(!ours.said().contains("<success"));
    let mut ours = under_tls(edge(TlsMode::Required, CERTIFICATE), Some(chain), &header(THEIRS, OURS));
    ours.feed(auth("="));
    ours.link.buffer().extend_from_slice(header(THEIRS, OURS).as_bytes());
    ours.at(end + Duration::from_secs(1), LinkInput::Readable);
    assert!(ours.proven().is_empty() && ours.closed().is_some());
}

#[test]
fn a_stream_on_which_nothing_comes_or_goes_is_ended() {
    let idle = now() + STREAM_IDLE;
    let mut ours = proven_by_sasl();
    ours.said();
    // White space is no sign of life, ours or theirs.
    pass(&mut ours, idle - Duration::from_secs(1), " ");
    let spaces = usize::try_from(STREAM_IDLE.as_secs() / STREAM_KEEPALIVE.as_secs()).unwrap() - 1;
    assert_eq!(ours.said(), " ".repeat(spaces));
    ours.at(idle, LinkInput::Timeout);
    assert_eq!(ours.said(), "</stream:stream>", "no error");
    ours.feed("</stream:stream>");
    assert!(ours.closed().is_some() && ours.refusals().is_empty());

    let mut ours = proven_by_sasl();
    pass(&mut ours, idle - Duration::from_secs(1), FROM_THEM);
    pass(&mut ours, idle + Duration::from_secs(600), " ");
    assert!(ours.closed().is_none());

    // A stream of ours is idle when we send nothing.
    let mut ours = opening_by(edge(TlsMode::Required, CERTIFICATE), true);
    ours.input(LinkInput::TlsEstablished(Some(certificate(THEIRS))));
    ours.feed(answer("1")).feed(features(&["external"])).feed(SUCCESS).feed(answer("2")).feed(features(&[]));
    ours.at(now() + STREAM_IDLE / 2, LinkInput::Send(TO_THEM.into(), None));
    pass(&mut ours, idle, "");
    assert!(ours.closed().is_none() && !ours.said().contains("</stream:stream>"));
    pass(&mut ours, idle + STREAM_IDLE, "");
    assert!(ours.said().contains("</stream:stream>"));
}

#[test]
fn negotiation_takes_so_long_and_no_longer() {
    let late = now() + Duration::from_secs(30);
    let mut ours = under_tls(edge(TlsMode::Required, EITHER), None, &header(THEIRS, OURS));
    ours.feed(key(THEIRS, OURS, "k"));
    ours.at(late, LinkInput::Timeout);
    assert_refused(&mut ours, "connection-timeout", "unproven");
    let mut ours = accepting(edge(TlsMode::Required, EITHER));
    ours.at(late, LinkInput::Timeout);
    assert_refused(&mut ours, "connection-timeout", "unproven");
    // A stream that only asked about a key is no refusal.
    let mut ours = under_tls(edge(TlsMode::Required, EITHER), None, &header(THEIRS, OURS));
    ours.feed("<db:verify from='foreign.example' to='corp.example' id='1'>k</db:verify>");
    ours.at(late, LinkInput::Timeout);
    assert!(ours.closed().is_some() && ours.refusals().is_empty());
}
