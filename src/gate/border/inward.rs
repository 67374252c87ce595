//! From a SIP request as received to the two addresses policy decides on (after the proof, never before).

use super::aol;
use crate::gate::partner::Profile;
use crate::gate::peer::Claim;
use crate::gate::reject::{Reason, Reject};
use crate::gate::settings::Settings;
use crate::wire::address::{Address, Domain};
use crate::wire::sip::header::Name;
use crate::wire::sip::{Host, Message, NameAddr, Scheme, Start, Uri};

/// The domain a request claims to come from: the one to be proven.
pub fn claimed_domain(request: &Message) -> Result<Domain, Reject> {
    let from = request.from().ok_or_else(|| Reject::new(Reason::Malformed, "no From"))?;
    let Host::Name(host) = from.uri.host else {
        return Err(Reject::new(Reason::UnlistedDomain, "From names an IP address; nobody federates as one"));
    };
    Ok(Domain::parse(host)?)
}

/// The sender, once its domain is proven, in our spelling.
pub fn sender(request: &Message, claim: &Claim, profile: Profile) -> Result<Address, Reject> {
    let from = request.from().ok_or_else(|| Reject::new(Reason::Malformed, "no From"))?;
    let sender = address_beside(&from.uri, Some(claim.domain()))?;
    if sender.domain() != claim.domain() {
        return Err(Reject::new(Reason::Unproven, format!("{} was proven, not {}", claim.domain(), sender.domain())));
    }
    aol::inward(profile, sender)
}

/// RFC 3325: whether who a request is asserted to be from is the proven partner's to assert. What is relayed drops it instead.
pub fn asserted(request: &Message, claim: &Claim) -> Result<(), Reject> {
    for asserted in request.values(Name::PAssertedIdentity) {
        let asserted = NameAddr::parse(asserted)?;
        if matches!(asserted.uri.scheme, Scheme::Tel) {
            continue;
        }
        if address(&asserted.uri)?.domain() != claim.domain() {
            return Err(Reject::new(Reason::Unproven, "P-Asserted-Identity names another domain than the proven one"));
        }
    }
    Ok(())
}

/// Who a request says it is from.
pub fn from(request: &Message) -> Result<Address, Reject> {
    let from = request.from().ok_or_else(|| Reject::new(Reason::Malformed, "no From"))?;
    address(&from.uri)
}

/// Whom it says it is to.
pub fn to(request: &Message) -> Result<Address, Reject> {
    let to = request.to().ok_or_else(|| Reject::new(Reason::Malformed, "no To"))?;
    address(&to.uri)
}

/// Whether To and the Request-URI name one and the same.
pub fn is_to_recipient(request: &Message) -> bool {
    match (request.to(), request.request_uri()) {
        (Some(to), Some(target)) => {
            (to.uri.scheme, to.uri.user, to.uri.host) == (target.scheme, target.user, target.host)
        }
        _ => false,
    }
}

/// Whom a request outside any dialog is for: its Request-URI.
pub fn recipient(request: &Message) -> Result<Address, Reject> {
    let Start::Request { uri, .. } = request.start() else {
        return Err(Reject::new(Reason::Malformed, "not a request"));
    };
    match request.request_uri() {
        Some(uri) => address(&uri),
        None => address(&Uri::parse(uri)?),
    }
}

/// Whom of ours the URI that a request leaves with names, whatever its scheme; at a host name of ours it is a user of `domain`. `None`: nobody at our
/// names, which is what a mask stood for.
pub fn target(uri: &str, domain: &Domain, settings: &Settings) -> Result<Option<Address>, Reject> {
    let uri = Uri::parse(uri)?;
    let (Some(user), Host::Name(host)) = (uri.user, uri.host) else { return Ok(None) };
    let host = host.strip_suffix('.').unwrap_or(host);
    if !is_ours(host, settings) {
        return Ok(None);
    }
    let is_domain = Domain::parse(host).is_ok_and(|host| settings.policy.is_local(&host));
    Ok(Some(Address::from_sip(Some(user), if is_domain { host } else { domain.as_str() })?))
}

/// Whether the request is for this edge itself: no user, and our host name or domain.
pub fn is_for_edge(request: &Message, settings: &Settings) -> bool {
    let Some(uri) = request.request_uri().filter(|uri| uri.user.is_none()) else { return false };
    matches!(uri.host, Host::Name(host) if is_ours(host, settings))
}

/// Every Route must name us: this edge relays to nobody whom a sender picks.
pub fn no_other_route(request: &Message, settings: &Settings) -> Result<(), Reject> {
    for (_, route) in request.addresses(Name::Route) {
        let route = route?;
        let is_us = match route.uri.host {
            Host::Name(host) => is_ours(host, settings),
            _ => false,
        };
        if !is_us {
            return Err(Reject::new(
                Reason::RelayDenied,
                format!(
                    "a Route leads through us to elsewhere: {}",
                    route.uri.text.get(..120).unwrap_or(route.uri.text)
                ),
            ));
        }
    }
    Ok(())
}

/// RFC 3261 §16.3 steps 3 and 4: the hop limit, and our own mark in a Via.
pub fn no_loop(request: &Message, settings: &Settings) -> Result<(), Reject> {
    use crate::gate::session::relay::{RELAYED_BRANCH, loop_mark};
    use crate::gate::session::transaction::OUR_BRANCH;
    use crate::wire::sip::header::Via;
    if request.header(Name::MaxForwards).is_some_and(|hops| hops.trim().parse() == Ok(0u8)) {
        return Err(Reject::new(Reason::Loop, "Max-Forwards is used up").with_status(483));
    }
    for via in request.values(Name::Via) {
        // Most are nobody's whom we know: not worth reading.
        if !via.contains(OUR_BRANCH) {
            continue;
        }
        let Ok(via) = Via::parse(via) else { continue };
        let facing = settings.nodes.iter().filter_map(|node| Some(node.facing.as_ref()?.at.host.as_str()));
        let names = settings.identities.iter().map(|identity| identity.hostname.as_str());
        let ours = names.chain(facing).any(|us| via.host.is(us));
        let Some(branch) = via.branch().filter(|branch| ours && branch.starts_with(OUR_BRANCH)) else { continue };
        // RFC 5393 §4.2: a relayed request that comes back for somebody else is a spiral, and only the hop limit ends it.
        let mark = branch.strip_prefix(RELAYED_BRANCH).and_then(|rest| rest.get(..16));
        let here = || match request.start() {
            Start::Request { uri, .. } => loop_mark(uri, request),
            Start::Response { .. } => 0,
        };
        if mark.is_none_or(|mark| u64::from_str_radix(mark, 16) == Ok(here())) {
            return Err(Reject::new(Reason::Loop, "the request has been here before"));
        }
    }
    Ok(())
}

fn address(uri: &Uri<'_>) -> Result<Address, Reject> {
    address_beside(uri, None)
}

/// `known`: the domain that it is likely to be at.
fn address_beside(uri: &Uri<'_>, known: Option<&Domain>) -> Result<Address, Reject> {
    match uri.scheme {
        Scheme::Sip | Scheme::Im | Scheme::Pres => {}
        // RFC 7247 §6: what was asked to stay secure to the end is not handed to a protocol that cannot promise it.
        Scheme::Sips => {
            return Err(Reject::new(Reason::Unsupported, "sips: is never translated").with_status(416));
        }
        Scheme::Tel | Scheme::Other(_) => {
            return Err(Reject::new(Reason::Unsupported, "the URI's scheme names no user at a domain").with_status(416));
        }
    }
    let Host::Name(host) = uri.host else {
        return Err(Reject::new(Reason::RelayDenied, "an IP address is not a domain served here"));
    };
    Ok(match known {
        Some(known) => Address::from_sip_beside(uri.user, host, known)?,
        None => Address::from_sip(uri.user, host)?,
    })
}

fn is_ours(host: &str, settings: &Settings) -> bool {
    settings.identities.iter().any(|i| i.hostname.eq_ignore_ascii_case(host))
        || Domain::parse(host).is_ok_and(|domain| settings.policy.is_local(&domain))
}
