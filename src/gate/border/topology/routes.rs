//! Where a request's own route leads (RFC 3261 §16.4): our own entries taken off, masks opened, the rest byte for byte.

use crate::gate::border::leak::Inside;
use crate::gate::border::mask::{Dialog, Ends, Kind, Masks};
use crate::gate::reject::{Reason, Reject};
use crate::gate::settings::Settings;
use crate::wire::sip::header::Name;
use crate::wire::sip::{Fault, Host, Message, NameAddr, Scheme, Uri};

/// Where a request's own route leads, our own entries taken off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Routed {
    /// The Request-URI to send; what it stands for, if it was a mask of ours.
    pub uri: String,
    /// The Route values left, in order: masks opened, others byte for byte.
    pub routes: Vec<String>,
    /// What our own Record-Route says of the dialog, else the masked Contact in the Request-URI; `None`: neither is there.
    pub dialog: Option<Dialog>,
}

/// Of a partner's request. [`Reason::RelayDenied`]: a Route leads elsewhere, or a mask does not open for these ends.
pub fn routed_inward(request: &Message, masks: &Masks, ends: Ends<'_>, settings: &Settings) -> Result<Routed, Reject> {
    let mut reading = Reading::of(request, masks, ends, settings, None)?;
    for (_, route) in std::mem::take(&mut reading.routes) {
        let uri = route?.uri;
        match reading.mask(&uri) {
            Some((Kind::Route, mask)) => reading.our_route(mask)?,
            Some((Kind::RecordRoute, mask)) => {
                let (uri, _) = masks.open(Kind::RecordRoute, ends, mask)?;
                reading.left.push(format!("<{uri}>"));
            }
            // Behind a route of the inside even our own name would lead back out.
            None if reading.left.is_empty() && is_public(&uri, settings) => {}
            _ => return Err(leads_elsewhere(&uri)),
        }
    }
    // What stays unmasked inside is at our own names; a target elsewhere was never told to the partner.
    // RFC 3261 §16.4, §16.5: `maddr` is where the node would send it.
    let is_led_on = reading.mask(&reading.uri).is_none() && reading.uri.param("maddr").is_some();
    if is_led_on || !is_public(&reading.uri, settings) {
        return Err(leads_elsewhere(&reading.uri));
    }
    reading.done()
}

/// Of a node's request: its routes left are the partner's. [`Reason::RelayDenied`]: one of them names the inside, or a mask does not open.
/// Within a dialog they are what the partner told, whose loopback or private addresses are not ours, so only nodes themselves count.
pub fn routed_outward(
    request: &Message,
    masks: &Masks,
    ends: Ends<'_>,
    settings: &Settings,
    inside: &Inside,
) -> Result<Routed, Reject> {
    let mut reading = Reading::of(request, masks, ends, settings, Some(inside))?;
    let is_told = request.to_tag().is_some();
    let names_inside = |route: &NameAddr<'_>| {
        inside.is_node(route.uri.host, route.uri.port) || (!is_told && inside.is_in_address(route))
    };
    let mut on_top = true;
    for (route, address) in std::mem::take(&mut reading.routes) {
        let address = address?;
        let uri = &address.uri;
        match reading.mask(uri) {
            Some((Kind::Route, mask)) if on_top => reading.our_route(mask)?,
            None if on_top && (is_public(uri, settings) || inside.faces(uri.host, uri.port)) => {}
            None if names_inside(&address) => return Err(left_on(uri)),
            None if !is_public(uri, settings) => {
                on_top = false;
                // COMPAT(lync): ms-route-sig signs the URI, so no byte of it may change (MS-SIPRE).
                reading.left.push(route.to_owned());
            }
            _ => return Err(leads_elsewhere(uri)),
        }
    }
    reading.done()
}

/// Whether a URI's host is a name that the outside knows us by.
pub(super) fn is_public(uri: &Uri<'_>, settings: &Settings) -> bool {
    let Host::Name(host) = uri.host else { return false };
    let host = host.strip_suffix('.').unwrap_or(host);
    !host.is_empty()
        && settings.identities.iter().any(|identity| {
            identity.hostname.eq_ignore_ascii_case(host)
                || identity.domains.iter().any(|domain| domain.as_str().eq_ignore_ascii_case(host))
        })
}

/// A request's route while it is read.
struct Reading<'a> {
    masks: &'a Masks,
    ends: Ends<'a>,
    settings: &'a Settings,
    uri: Uri<'a>,
    routes: Vec<(&'a str, Result<NameAddr<'a>, Fault>)>,
    left: Vec<String>,
    dialog: Option<Dialog>,
}

impl<'a> Reading<'a> {
    fn of(
        request: &'a Message,
        masks: &'a Masks,
        ends: Ends<'a>,
        settings: &'a Settings,
        inside: Option<&Inside>,
    ) -> Result<Self, Reject> {
        let Some(parsed) = request.request_uri() else {
            return Err(Reject::new(Reason::Malformed, "not a request"));
        };
        let mut routes: Vec<_> = request.addresses(Name::Route).collect();
        let mut dialog = None;
        let mut target = parsed;
        // RFC 3261 §16.4: behind a strict router the Request-URI is what we put into Record-Route, and the last Route is whom it is for.
        let ours = match Self::mask_of(&parsed, settings) {
            Some((Kind::Route, mask)) => {
                dialog = Some(masks.open_route(ends, mask)?);
                true
            }
            // The inside's Record-Route of ours bears no mask, but always `lr`, which no Contact or address does.
            None => {
                let names_us =
                    is_public(&parsed, settings) || inside.is_some_and(|i| i.faces(parsed.host, parsed.port));
                parsed.user.is_none() && names_us && parsed.param("lr").is_some()
            }
            Some(_) => false,
        };
        if ours {
            let Some((_, last)) = routes.pop() else {
                return Err(Reject::new(
                    Reason::Malformed,
                    "the Request-URI is a route of ours, and no Route says whom it is for",
                ));
            };
            target = last?.uri;
        }
        Ok(Self { masks, ends, settings, uri: target, routes, left: Vec::new(), dialog })
    }

    /// The mask in the user part of a URI at one of our names.
    fn mask(&self, uri: &Uri<'a>) -> Option<(Kind, &'a str)> {
        Self::mask_of(uri, self.settings)
    }

    fn mask_of<'u>(uri: &Uri<'u>, settings: &Settings) -> Option<(Kind, &'u str)> {
        let user = uri.user.filter(|_| matches!(uri.scheme, Scheme::Sip | Scheme::Sips))?;
        Some((Kind::of(user).filter(|_| is_public(uri, settings))?, user))
    }

    /// One of ours comes off; the first says what dialog it is.
    fn our_route(&mut self, mask: &str) -> Result<(), Reject> {
        let dialog = self.masks.open_route(self.ends, mask)?;
        self.dialog.get_or_insert(dialog);
        Ok(())
    }

    fn done(self) -> Result<Routed, Reject> {
        match Self::mask_of(&self.uri, self.settings) {
            None => Ok(Routed { uri: self.uri.text.to_owned(), routes: self.left, dialog: self.dialog }),
            Some((Kind::Contact, mask)) => {
                let (uri, dialog) = self.masks.open_contact(self.ends, mask)?;
                Ok(Routed { uri, routes: self.left, dialog: Some(self.dialog.unwrap_or(dialog)) })
            }
            // A strict router of the inside: its own Record-Route is the target.
            Some((Kind::RecordRoute, mask)) => {
                let (uri, _) = self.masks.open(Kind::RecordRoute, self.ends, mask)?;
                Ok(Routed { uri, routes: self.left, dialog: self.dialog })
            }
            Some(_) => Err(leads_elsewhere(&self.uri)),
        }
    }
}

/// RFC 3261 §16.4: who is named on top takes itself off.
fn left_on(uri: &Uri<'_>) -> Reject {
    let start = uri.text.get(..120).unwrap_or(uri.text);
    let detail = format!(
        "a Route names the inside: {start}; the node must take off what its users put in front, before it sends to the edge"
    );
    Reject::new(Reason::RelayDenied, detail)
}

fn leads_elsewhere(uri: &Uri<'_>) -> Reject {
    let start = uri.text.get(..120).unwrap_or(uri.text);
    Reject::new(Reason::RelayDenied, format!("a route leads through us to elsewhere: {start}"))
}
