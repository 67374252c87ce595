//! Record-Route on both sides: two of ours in a dialog's route set, one for each side (RFC 5658), the inside's entries as masks outside.

use super::headers::stopped;
use super::routes::is_public;
use super::{Crossing, makes_dialog};
use crate::gate::border::mask::Kind;
use crate::gate::limits;
use crate::gate::reject::{Reason, Reject};
use crate::wire::sip::header::Name;
use crate::wire::sip::rewrite::Rewrite;
use crate::wire::sip::{Message, NameAddr, Start, Uri};

const RECORD_ROUTE: &str = "Record-Route";

/// Ours for the partner's side: it says what dialog this is, so that any edge can route what comes back.
pub(super) fn outer(c: &Crossing<'_>, w: &mut Rewrite<'_>) -> Result<(), Reject> {
    let mask = c.masks.seal_route(&c.dialog, c.ends)?;
    w.row(RECORD_ROUTE, &["<sip:", &mask, "@", c.outer(), ";transport=tls;lr>"]);
    Ok(())
}

/// Ours for the node's side.
pub(super) fn inner(w: &mut Rewrite<'_>, facing: &str, tls: bool) {
    let transport = if tls { ";transport=tls;lr>" } else { ";transport=tcp;lr>" };
    w.row(RECORD_ROUTE, &["<sip:", facing, transport]);
}

/// A row of the inside's, for the partner: each value a mask of its URI.
pub(super) fn mask_row(c: &Crossing<'_>, w: &mut Rewrite<'_>, message: &Message, index: usize) -> Result<(), Reject> {
    let mut masked = Vec::new();
    for (_, address) in message.row_addresses(index) {
        masked.push(mask(c, &address?)?);
        bounded(masked.len())?;
    }
    if !masked.is_empty() {
        w.replace(index, &[&masked.join(", ")]);
    }
    Ok(())
}

/// Header parameters come back in the answer, as the inside wrote them, whether they were seen outside or not.
fn mask(c: &Crossing<'_>, address: &NameAddr<'_>) -> Result<String, Reject> {
    let mask = c.masks.seal(c.dialog.key, Kind::RecordRoute, c.ends, address.uri.text)?;
    Ok(["<sip:", &mask, "@", c.outer(), ";transport=tls;lr>"].concat())
}

fn bounded(values: usize) -> Result<(), Reject> {
    if values > limits::ROUTES {
        let detail = format!("more than {} Record-Route values of the inside", limits::ROUTES);
        return Err(Reject::new(Reason::TooLarge, detail).with_status(513));
    }
    Ok(())
}

/// Whose a Record-Route value of a response is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Whose {
    Outer,
    Inner,
    Masked,
    Other,
}

fn whose(c: &Crossing<'_>, uri: &Uri<'_>) -> Whose {
    if c.inside.faces(uri.host, uri.port) && uri.user.is_none() {
        return Whose::Inner;
    }
    match uri.user.filter(|_| is_public(uri, c.settings)).and_then(Kind::of) {
        Some(Kind::Route) => Whose::Outer,
        Some(Kind::RecordRoute) => Whose::Masked,
        _ => Whose::Other,
    }
}

/// Of a partner's answer: its own values as they are, ours, then what the inside had written in its request, whatever became of the
/// masks. The node's route set, read from below (RFC 3261 §12.1.2), leads to its own proxies first, then to us, to us outside, to the partner's.
pub(super) fn inward_response(
    c: &Crossing<'_>,
    w: &mut Rewrite<'_>,
    request: &Message,
    response: &Message,
) -> Result<(), Reject> {
    let mut seen = None;
    let mut any = false;
    for index in rows(response) {
        any = true;
        let mut own = true;
        for (value, address) in response.row_addresses(index) {
            match whose(c, &address?.uri) {
                Whose::Outer => seen = seen.or(Some(value)),
                Whose::Masked => {}
                Whose::Inner | Whose::Other => continue,
            }
            own = false;
        }
        if own {
            w.keep(index);
            continue;
        }
        for (value, address) in response.row_addresses(index) {
            if matches!(whose(c, &address?.uri), Whose::Inner | Whose::Other) {
                w.replace(index, &[value]);
            }
        }
    }
    // COMPAT(aol): it repeats no Record-Route; the node still has to go through us.
    let begins = makes_dialog(request) && response.to_tag().is_some() && is_below_300(response);
    match seen {
        Some(value) => w.row(RECORD_ROUTE, &[value]),
        None if begins => outer(c, w)?,
        None => {}
    }
    if seen.is_some() || begins {
        let (facing, tls) = c.facing()?;
        inner(w, facing, tls);
    }
    if any || begins {
        w.copy(request, Name::RecordRoute);
    }
    Ok(())
}

/// Of a node's answer: its own values masked, ours, then the partner's as the partner wrote them.
pub(super) fn outward_response(
    c: &Crossing<'_>,
    w: &mut Rewrite<'_>,
    request: &Message,
    response: &Message,
) -> Result<(), Reject> {
    let theirs: Vec<&str> = request.values(Name::RecordRoute).collect();
    let (mut seen, mut any, mut masks) = (None, false, 0);
    for index in rows(response) {
        any = true;
        let mut masked = Vec::new();
        for (value, address) in response.row_addresses(index) {
            let address = address?;
            match whose(c, &address.uri) {
                Whose::Outer => seen = seen.or(Some(value)),
                Whose::Inner => {}
                _ if theirs.contains(&value) => {}
                _ => masked.push(mask(c, &address)?),
            }
        }
        masks += masked.len();
        bounded(masks)?;
        if !masked.is_empty() {
            w.replace(index, &[&masked.join(", ")]);
        }
    }
    match seen {
        Some(value) if c.inside.is_in_row(Name::RecordRoute, value) => return Err(stopped(RECORD_ROUTE)),
        Some(value) => w.row(RECORD_ROUTE, &[value]),
        None if any && makes_dialog(request) => outer(c, w)?,
        None => {}
    }
    if any {
        w.copy(request, Name::RecordRoute);
    }
    Ok(())
}

fn rows(message: &Message) -> impl Iterator<Item = usize> {
    let rows = message.row_names().filter(|(_, name)| *name == Name::RecordRoute);
    rows.map(|(index, _)| index).filter(|index| message.row_text(*index).is_some())
}

fn is_below_300(response: &Message) -> bool {
    matches!(response.start(), Start::Response { status, .. } if status < 300)
}
