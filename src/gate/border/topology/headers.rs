//! Which rows cross the border, and in whose words: a list for each direction.

use super::Crossing;
use super::routes::is_public;
use crate::gate::border::aol;
use crate::gate::border::leak::{Word, any_word};
use crate::gate::border::mask::Kind;
use crate::gate::limits;
use crate::gate::reject::{Reason, Reject};
use crate::wire::address::Address;
use crate::wire::sip::header::{Name, list};
use crate::wire::sip::params::parameters;
use crate::wire::sip::rewrite::Rewrite;
use crate::wire::sip::{Host, Message, NameAddr, Scheme, Uri};

/// Which way a message goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Way {
    Inward,
    Outward,
}

/// A row that has nothing to do with the message's own way (Via, Route, Record-Route and, in responses, what comes of the request: the
/// caller's).
pub(super) fn cross(
    c: &Crossing<'_>,
    way: Way,
    message: &Message,
    w: &mut Rewrite<'_>,
    index: usize,
    name: Name,
) -> Result<(), Reject> {
    let Some(text) = message.row_text(index) else {
        return Err(Reject::new(Reason::Malformed, "a header value is not UTF-8"));
    };
    match (way, name) {
        (_, Name::CallId | Name::InReplyTo | Name::Replaces | Name::TargetDialog | Name::Join) => {
            return cross_call_ids(c, way, w, index, name, text);
        }
        (_, Name::From | Name::To) => {
            if let Some(text) = respelled(c, way, text)? {
                w.replace(index, &[&text]);
                return Ok(());
            }
        }
        // RFC 3325 §7: to whom it is not for, it is not told.
        (Way::Outward, Name::PAssertedIdentity) if is_private(message) => return Ok(()),
        (_, Name::PAssertedIdentity) => return cross_asserted(c, way, w, index, text),
        // COMPAT(lync): an extension we know: it only asks for NOTIFYs that nobody answers (MS-SIP §4.4.3), and we don't offer it.
        (Way::Inward, Name::ProxyRequire) if list(text).any(is_benotify) => {
            let left = list(text).filter(|tag| !is_benotify(tag)).collect::<Vec<_>>().join(", ");
            if !left.is_empty() {
                w.replace(index, &[&left]);
            }
            return Ok(());
        }
        (Way::Outward, Name::Warning) => return warn(c, w, index, text),
        (Way::Outward, Name::Contact) => return mask_contacts(c, message, w, index, text),
        (Way::Inward, _) if is_not_let_in(name, message, index) => return Ok(()),
        (Way::Outward, _) if is_not_let_out(name, message, index) => return Ok(()),
        _ => {}
    }
    if way == Way::Outward && c.inside.is_in_row(name, text) {
        return if is_needed(name) { Err(stopped(name.as_str())) } else { Ok(()) };
    }
    w.keep(index);
    Ok(())
}

/// The leak check's refusal.
pub(super) fn stopped(field: &str) -> Reject {
    Reject::new(Reason::NotAllowed, format!("stopped at the border: {field} names something of the inside"))
}

/// What a partner says of itself or of its users' rights, for its own servers or in our edge's place.
fn is_not_let_in(name: Name, message: &Message, index: usize) -> bool {
    match name {
        Name::MsUserData
        | Name::MsEdgeProxyMessageTrust
        | Name::MsSplitDomainInfo
        | Name::PPreferredIdentity
        | Name::ProxyAuthorization
        | Name::ProxyAuthenticationInfo
        | Name::AuthenticationInfo => true,
        // RFC 3325's forerunner, RFC 7315, RFC 5502, RFC 6050: whom a node believes them of is its own side.
        Name::Other => starts(
            message,
            index,
            &[
                "ms-asserted-",
                "remote-party-id",
                "p-charging-",
                "p-access-",
                "p-visited-",
                "p-served-user",
                "p-asserted-",
                "authorization",
                "www-authenticate",
                "proxy-authenticate",
            ],
        ),
        _ => false,
    }
}

/// What the inside says of its software, its users' ways and its own trust.
fn is_not_let_out(name: Name, message: &Message, index: usize) -> bool {
    match name {
        Name::Server
        | Name::UserAgent
        | Name::MsDiagnostics
        | Name::MsDiagnosticsPublic
        | Name::MsClientDiagnostics
        | Name::MsUserData
        | Name::MsEdgeProxyMessageTrust
        | Name::PPreferredIdentity
        | Name::ProxyAuthorization
        | Name::ProxyAuthenticationInfo
        | Name::AuthenticationInfo
        | Name::Path
        | Name::ServiceRoute
        | Name::HistoryInfo
        | Name::Diversion => true,
        // RFC 7315. RFC 3261 §22: nobody over there learns what proves a user here, nor asks for it.
        Name::Other => starts(
            message,
            index,
            &[
                "ms-asserted-",
                "p-charging-",
                "p-access-",
                "p-visited-",
                "authorization",
                "www-authenticate",
                "proxy-authenticate",
            ],
        ),
        _ => false,
    }
}

/// RFC 3325 §9.3: its sender wants its asserted identity withheld.
fn is_private(message: &Message) -> bool {
    message
        .rows_named("Privacy")
        .flat_map(|row| row.split([';', ',']))
        .any(|value| value.trim().eq_ignore_ascii_case("id"))
}

fn starts(message: &Message, index: usize, with: &[&str]) -> bool {
    let name = message.row_name(index).unwrap_or_default();
    with.iter().any(|start| name.get(..start.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(start)))
}

/// Headers without which the message would mean something else: one that names the inside stops it.
fn is_needed(name: Name) -> bool {
    matches!(
        name,
        Name::From
            | Name::To
            | Name::Contact
            | Name::ContentType
            | Name::Event
            | Name::ReferTo
            | Name::ReferredBy
            | Name::ReplyTo
            | Name::RetryAfter
            | Name::SubscriptionState
    )
}

fn is_benotify(tag: &str) -> bool {
    tag.eq_ignore_ascii_case("ms-benotify")
}

/// The Call-ID of a value: behind it may stand parameters (RFC 3891 §6.1, RFC 4538 §7).
fn cross_call_ids(
    c: &Crossing<'_>,
    way: Way,
    w: &mut Rewrite<'_>,
    index: usize,
    name: Name,
    text: &str,
) -> Result<(), Reject> {
    let mut out: Option<String> = None;
    let mut at = 0;
    // Only In-Reply-To is a list; no value holds NUL.
    for value in text.split(if name == Name::InReplyTo { ',' } else { '\0' }) {
        let (id, params) = value.split_once(';').map_or((value, ""), |(id, _)| value.split_at(id.len()));
        let trimmed = id.trim();
        let crossed = call_id(c, way, trimmed)?;
        if crossed.is_some() || out.is_some() {
            let out = out.get_or_insert_with(|| text.get(..at).unwrap_or_default().to_owned());
            if at > 0 && !out.ends_with(',') {
                out.push(',');
            }
            out.push_str(crossed.as_deref().unwrap_or(trimmed));
            out.push_str(params);
        }
        if way == Way::Outward && c.inside.mentions(params) {
            return Err(stopped(name.as_str()));
        }
        at += value.len() + 1;
    }
    match out {
        Some(out) => w.replace(index, &[&out]),
        None => w.keep(index),
    }
    Ok(())
}

/// A Call-ID that names a host crosses as a mask, and a mask as what it stands for; `None`: as it is.
fn call_id(c: &Crossing<'_>, way: Way, id: &str) -> Result<Option<String>, Reject> {
    let (theirs, ours) = match way {
        Way::Inward => (Kind::InsideCallId, Kind::PartnerCallId),
        Way::Outward => (Kind::PartnerCallId, Kind::InsideCallId),
    };
    match Kind::of(id) {
        Some(kind) if kind == theirs => Ok(Some(c.masks.open(theirs, c.ends, id)?.0)),
        // Of a mask that the other side was given: it is to see the same.
        Some(kind) if kind == ours => c.masks.open(ours, c.ends, id).map(|_| None),
        Some(_) => Err(Reject::new(Reason::RelayDenied, "a Call-ID is a mask of something else")),
        None if names_host(c, id) => c.masks.seal(c.dialog.key, ours, c.ends, id).map(Some),
        None => Ok(None),
    }
}

/// `word@host`, an IP address, or a name of the inside.
fn names_host(c: &Crossing<'_>, id: &str) -> bool {
    id.contains('@') || c.inside.mentions(id) || any_word(id, |word| matches!(word, Word::Address(_)))
}

/// RFC 3325 §5: an identity is asserted for who is at the asserting side, and to nobody beyond.
fn cross_asserted(c: &Crossing<'_>, way: Way, w: &mut Rewrite<'_>, index: usize, text: &str) -> Result<(), Reject> {
    let mut left = Vec::new();
    let mut changed = false;
    for value in list(text) {
        let address = NameAddr::parse(value).ok().filter(|address| match way {
            Way::Inward => matches!(address.uri.host, Host::Name(host) if is_domain(host, c.ends.partner.as_str())),
            Way::Outward => {
                let domains = &c.node.domains;
                let is_its = matches!(address.uri.host, Host::Name(host) if domains.iter().any(|domain| is_domain(host, domain.as_str())));
                is_its && !c.inside.is_in_address(address)
            }
        });
        let respelled = match address {
            Some(_) => respelled(c, way, value)?,
            None => {
                changed = true;
                continue;
            }
        };
        changed |= respelled.is_some();
        left.push(respelled.unwrap_or_else(|| value.to_owned()));
    }
    match (changed, left.is_empty()) {
        (false, _) => w.keep(index),
        (true, true) => {}
        (true, false) => w.replace(index, &[&left.join(", ")]),
    }
    Ok(())
}

fn is_domain(host: &str, domain: &str) -> bool {
    host.strip_suffix('.').unwrap_or(host).eq_ignore_ascii_case(domain)
}

/// COMPAT(aol): a user of the partner in the other side's spelling; `None`: both spell it alike, or it is nobody of the partner's.
pub(super) fn respelled(c: &Crossing<'_>, way: Way, text: &str) -> Result<Option<String>, Reject> {
    if c.profile != crate::gate::partner::Profile::Aol {
        return Ok(None);
    }
    // A URI alone is an address too; one with headers would want brackets.
    let uri = match NameAddr::parse(text) {
        Ok(address) => address.uri,
        Err(_) => Uri::parse(text)?,
    };
    let (Some(user), Host::Name(host)) = (uri.user, uri.host) else { return Ok(None) };
    if !is_domain(host, c.ends.partner.as_str()) {
        return Ok(None);
    }
    let address = Address::from_sip(Some(user), host)?;
    let other = match way {
        Way::Inward => aol::inward(c.profile, address.clone())?,
        Way::Outward => aol::outward(c.profile, &address)?,
    };
    if other == address {
        return Ok(None);
    }
    // The user is a slice of the text, whose other bytes stay.
    let at = (user.as_ptr() as usize).saturating_sub(text.as_ptr() as usize);
    let (Some(before), Some(behind)) = (text.get(..at), text.get(at + user.len()..)) else { return Ok(None) };
    let spelled = other.to_sip();
    let user = spelled.rsplit_once('@').map_or("", |(user, _)| user);
    Ok(Some(format!("{before}{user}{behind}")))
}

/// RFC 3261 §20.43: who warns is a host of the inside: we warn in its place.
fn warn(c: &Crossing<'_>, w: &mut Rewrite<'_>, index: usize, text: &str) -> Result<(), Reject> {
    let hostname = c.hostname();
    let values = list(text).filter_map(|value| {
        let mut words = value.splitn(3, ' ');
        let (code, _, words) = (words.next()?, words.next()?, words.next()?);
        (!c.inside.mentions(words)).then(|| format!("{code} {hostname} {words}"))
    });
    let values = values.collect::<Vec<_>>().join(", ");
    if !values.is_empty() {
        w.replace(index, &[&values]);
    }
    Ok(())
}

/// Each Contact that is not at one of our own names becomes a mask at our host name.
fn mask_contacts(
    c: &Crossing<'_>,
    message: &Message,
    w: &mut Rewrite<'_>,
    index: usize,
    text: &str,
) -> Result<(), Reject> {
    // RFC 3261 §20.10: `*` stands alone.
    if text == "*" {
        w.keep(index);
        return Ok(());
    }
    let mut out = String::new();
    let mut changed = false;
    for (number, (value, contact)) in message.row_addresses(index).enumerate() {
        if number >= limits::CONTACTS {
            return Err(Reject::new(Reason::TooLarge, "too many Contacts").with_status(513));
        }
        if number > 0 {
            out.push_str(", ");
        }
        let contact = contact?;
        let masked = mask_contact(c, &contact)?;
        let named = |(_, value): &(&str, Option<&str>)| {
            value.is_some_and(|value| {
                any_word(value, |word| matches!(word, Word::Address(_))) || c.inside.mentions(value)
            })
        };
        let drops = |parameter: &(&str, Option<&str>)| parameter.0.eq_ignore_ascii_case("received") || named(parameter);
        if masked.is_none() && !parameters(contact.params).any(|parameter| drops(&parameter)) {
            out.push_str(value);
            continue;
        }
        changed = true;
        if !contact.display.is_empty() {
            out.push_str(contact.display);
            out.push(' ');
        }
        out.extend(["<", masked.as_deref().unwrap_or(contact.uri.text), ">"]);
        for (name, value) in parameters(contact.params).filter(|parameter| !drops(parameter)) {
            out.extend([";", name]);
            out.extend(value.into_iter().flat_map(|value| ["=", value]));
        }
    }
    if changed {
        w.replace(index, &[&out])
    } else {
        w.keep(index)
    }
    Ok(())
}

/// The URI that stands for a Contact outside; `None`: itself.
fn mask_contact(c: &Crossing<'_>, contact: &NameAddr<'_>) -> Result<Option<String>, Reject> {
    let uri = &contact.uri;
    let scheme = match uri.scheme {
        Scheme::Sip | Scheme::Im | Scheme::Pres => "sip",
        Scheme::Sips => "sips",
        // No host to be reached at.
        Scheme::Tel | Scheme::Other(_) if !c.inside.is_in_uri(uri) => return Ok(None),
        Scheme::Tel | Scheme::Other(_) => return Err(stopped("Contact")),
    };
    // A GRUU at a local domain says nothing of the inside, unless its parameters do. What comes back with `maddr` would lead elsewhere.
    if is_public(uri, c.settings) && !c.inside.is_in_uri(uri) && uri.param("maddr").is_none() {
        return Ok(None);
    }
    let mask = c.masks.seal_contact(&c.dialog, c.ends, uri.text)?;
    Ok(Some([scheme, ":", &mask, "@", c.outer(), ";transport=tls"].concat()))
}
