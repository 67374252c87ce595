//! What a partner's NOTIFY, or its answer to a SUBSCRIBE, says.

use crate::gate::reject::{Reason, Reject};
use crate::wire::pidf::{BadDocument, Document};
use crate::wire::sip::Message;
use crate::wire::sip::header::{MediaType, Name, SubscriptionState};
use std::time::Duration;

/// Whether its package is ours.
pub(super) fn is_presence(request: &Message) -> bool {
    let event = request.header(Name::Event).unwrap_or_default();
    event.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("presence")
}

/// Its Subscription-State.
pub(super) fn state(message: &Message) -> Option<SubscriptionState> {
    message.header(Name::SubscriptionState).and_then(SubscriptionState::parse)
}

/// Its presence document, if it has a body.
pub(super) fn document(message: &Message) -> Result<Option<Document>, Reject> {
    if message.body().is_empty() {
        return Ok(None);
    }
    let unsupported = || {
        Reject::new(Reason::Unsupported, "a NOTIFY body that is no presence document")
            .with_status(415)
            .with_header("Accept", "application/pidf+xml")
    };
    let type_ = message.header(Name::ContentType).and_then(MediaType::parse).ok_or_else(unsupported)?;
    match Document::parse_as(&type_.essence, message.body()) {
        Ok(document) => Ok(Some(document)),
        Err(BadDocument::Vocabulary) => Err(unsupported()),
        Err(bad) => Err(Reject::new(Reason::Malformed, format!("the presence document: {bad}"))),
    }
}

/// COMPAT(lync): the NOTIFY that a 2xx carries: its CSeq, state and document. What cannot be read is none: a NOTIFY of its own must come.
pub(super) fn piggyback(response: &Message) -> Option<(u32, SubscriptionState, Document)> {
    let document = document(response).ok()??;
    let number = response.header_named("ms-piggyback-cseq").and_then(|number| number.trim().parse().ok());
    Some((number.unwrap_or_default(), state(response)?, document))
}

/// RFC 3261 §20.33.
pub(super) fn retry_after(response: &Message) -> Option<Duration> {
    let value = response.header_named("Retry-After")?;
    let digits = value.split(['(', ';']).next()?.trim();
    digits.parse::<u32>().ok().map(|seconds| Duration::from_secs(u64::from(seconds)))
}

/// COMPAT(lync): ms-diagnostics 1000 to 1099 speak of the edge's routes and certificates, not of the user.
pub(super) fn is_edge_trouble(response: &Message) -> bool {
    ["ms-diagnostics", "ms-diagnostics-public"].iter().any(|name| {
        response.rows_named(name).any(|row| {
            row.split(';')
                .next()
                .and_then(|id| id.trim().parse::<u32>().ok())
                .is_some_and(|id| (1000..1100).contains(&id))
        })
    })
}
