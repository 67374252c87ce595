//! What a message contributes to a dialog's state (RFC 3261 §12.1).

use super::header::Name;
use super::message::Message;
use super::uri::Uri;

/// The route set of a dialog that `message` makes: the URIs of its Record-Route values in angle brackets, byte for byte with their
/// URI parameters, without display names and header parameters. In the message's order for its receiver (RFC 3261 §12.1.1), reversed
/// for who sent the request it answers (§12.1.2). COMPAT(lync): `ms-route-sig` signs the URI, so no byte of it may change (MS-SIPRE).
pub fn route_set(message: &Message, reverse: bool) -> Vec<String> {
    let values = message.addresses(Name::RecordRoute).filter_map(|(_, value)| value.ok());
    let mut routes: Vec<String> = values.map(|value| format!("<{}>", value.uri.text)).collect();
    if reverse {
        routes.reverse();
    }
    routes
}

/// The remote target: the URI of the one Contact (RFC 3261 §12.1.1). `None` when there is none, or more than one, or it doesn't parse.
pub fn contact_uri(message: &Message) -> Option<Uri<'_>> {
    let mut values = message.addresses(Name::Contact);
    match (values.next(), values.next()) {
        (Some((_, value)), None) => value.ok().map(|value| value.uri),
        _ => None,
    }
}
