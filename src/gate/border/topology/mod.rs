//! A SIP message that stays SIP as it crosses the border: we are a stateful proxy that hides one side's layout from the other.
//!
//! Takes a message as received, [`Message::check`]ed, and what was decided of it ([`Crossing`]); gives the bytes for the other side.
//! Nothing is remembered here: what the inside must get back later travels in masks ([`super::mask`]). [`routes`] reads where a
//! request's own route leads, `headers` says which rows cross, `record` writes Record-Route, [`super::media`] what a session description
//! may name; the bytes are [`crate::wire::sip::rewrite`]'s.

mod headers;
mod record;
pub mod routes;

pub use super::mask::{Dialog, Ends, KeyId, Masks, NodeMark};
pub use crate::wire::sip::rewrite::{ack, cancel};
pub use routes::{Routed, routed_inward, routed_outward};

use super::leak::Inside;
use super::media;
use super::place::Place;
use crate::gate::partner::{Node, Profile};
use crate::gate::reject::{Reason, Reject};
use crate::gate::settings::Settings;
use crate::wire::sip::compose::reason_phrase;
use crate::wire::sip::header::Name;
use crate::wire::sip::params::parameters;
use crate::wire::sip::rewrite::Rewrite;
use crate::wire::sip::{Message, Method, Start};
use bytes::Bytes;
use headers::Way;

/// What every rewriting needs.
#[derive(Clone, Copy, Debug)]
pub struct Crossing<'a> {
    /// In force.
    pub settings: &'a Settings,
    /// Of the same settings.
    pub masks: &'a Masks,
    /// Of the same settings.
    pub inside: &'a Inside,
    /// The partner's domain and the local address.
    pub ends: Ends<'a>,
    /// The partner's dialect.
    pub profile: Profile,
    /// Where the message comes from or goes to inside.
    pub node: &'a Node,
    /// Of the same node.
    pub place: &'a Place,
    /// Which of [`Settings::identities`] speaks: of the local domain.
    pub identity: usize,
    /// What our Record-Route and Contact say; of a dialog that is there, as [`Routed`] found it.
    pub dialog: Dialog,
}

/// A partner's request, for a node. `branch`: our Via's.
pub fn inward_request(c: &Crossing<'_>, request: &Message, routed: &Routed, branch: &str) -> Result<Bytes, Reject> {
    let (facing, tls) = c.facing()?;
    let mut w = Rewrite::of(request, None)?;
    w.request_line(&routed.uri);
    w.row("Via", &["SIP/2.0/", if tls { "TLS " } else { "TCP " }, facing, ";branch=", branch]);
    if makes_dialog(request) {
        record::inner(&mut w, facing, tls);
        record::outer(c, &mut w)?;
    }
    common(&mut w, request, routed);
    for (index, name) in request.row_names() {
        match name {
            Name::Route => {}
            Name::MaxForwards => fewer_hops(&mut w, request, index),
            name => headers::cross(c, Way::Inward, request, &mut w, index, name)?,
        }
    }
    Ok(w.finish())
}

/// A node's request, for a partner. `branch`: our Via's. A refusal with "names something of the inside" is the leak check's.
pub fn outward_request(c: &Crossing<'_>, request: &Message, routed: &Routed, branch: &str) -> Result<Bytes, Reject> {
    let body = outward_body(c, request)?;
    let mut w = Rewrite::of(request, body.as_deref())?;
    // COMPAT(aol): within a dialog the target is what the partner itself wrote.
    let respelled = if is_in_dialog(request) { None } else { headers::respelled(c, Way::Outward, &routed.uri)? };
    let uri = respelled.as_deref().unwrap_or(&routed.uri);
    if c.inside.is_target_named(uri) {
        return Err(headers::stopped("the Request-URI"));
    }
    w.request_line(uri);
    w.row("Via", &["SIP/2.0/TLS ", c.outer(), ";branch=", branch]);
    if makes_dialog(request) {
        record::outer(c, &mut w)?;
    }
    common(&mut w, request, routed);
    for (index, name) in request.row_names() {
        match name {
            Name::Via | Name::Route => {}
            Name::RecordRoute => record::mask_row(c, &mut w, request, index)?,
            Name::MaxForwards => fewer_hops(&mut w, request, index),
            name => headers::cross(c, Way::Outward, request, &mut w, index, name)?,
        }
    }
    Ok(w.finish())
}

/// A partner's response, for the node. `request`: as received from the node.
pub fn inward_response(c: &Crossing<'_>, request: &Message, response: &Message) -> Result<Bytes, Reject> {
    let mut w = Rewrite::of(response, None)?;
    w.keep_start();
    restore(&mut w, request, response, |_| false);
    record::inward_response(c, &mut w, request, response)?;
    for (index, name) in response.row_names() {
        if !is_restored(name) {
            headers::cross(c, Way::Inward, response, &mut w, index, name)?;
        }
    }
    Ok(w.finish())
}

/// A node's response, for the partner. `request`: as received from the partner. A refusal with "names something of the inside" is the leak
/// check's.
pub fn outward_response(c: &Crossing<'_>, request: &Message, response: &Message) -> Result<Bytes, Reject> {
    let body = outward_body(c, response)?;
    let mut w = Rewrite::of(response, body.as_deref())?;
    match response.start() {
        Start::Response { status, reason } if c.inside.mentions(reason) => {
            w.status_line(status, reason_phrase(status));
        }
        _ => w.keep_start(),
    }
    restore(&mut w, request, response, |value| c.inside.mentions(value));
    record::outward_response(c, &mut w, request, response)?;
    for (index, name) in response.row_names() {
        if !is_restored(name) {
            headers::cross(c, Way::Outward, response, &mut w, index, name)?;
        }
    }
    Ok(w.finish())
}

impl Crossing<'_> {
    /// The host name we speak by.
    fn hostname(&self) -> &str {
        self.settings.identities.get(self.identity).map_or("", |identity| &identity.hostname)
    }

    /// Where partners reach us: host name and port.
    fn outer(&self) -> &str {
        self.place.outer(self.identity)
    }

    /// Where the node reaches us, and whether by TLS.
    fn facing(&self) -> Result<(&str, bool), Reject> {
        let (Some(facing), Some(at)) = (&self.node.facing, self.place.facing()) else {
            let detail = format!("node {} has no [inside] sip listener to answer to", self.node.name);
            return Err(Reject::new(Reason::NoNode, detail));
        };
        Ok((at, facing.tls))
    }
}

/// A request that begins a dialog: only then do later requests follow our Record-Route (RFC 3261 §16.6 step 4, RFC 6665 §4.3, RFC 3515 §2.4.2).
fn makes_dialog(request: &Message) -> bool {
    matches!(request.method(), Some(Method::Invite | Method::Subscribe | Method::Refer)) && !is_in_dialog(request)
}

fn is_in_dialog(request: &Message) -> bool {
    request.to_tag().is_some()
}

/// What both kinds of request get: the routes left, and a hop limit where there is none (RFC 3261 §16.6 step 3).
fn common(w: &mut Rewrite<'_>, request: &Message, routed: &Routed) {
    for route in &routed.routes {
        w.row("Route", &[route]);
    }
    if request.header(Name::MaxForwards).is_none() {
        w.row("Max-Forwards", &["70"]);
    }
}

fn fewer_hops(w: &mut Rewrite<'_>, request: &Message, index: usize) {
    let hops = request.row_text(index).and_then(|hops| hops.trim().parse::<u8>().ok()).unwrap_or(70);
    w.replace(index, &[itoa::Buffer::new().format(hops.saturating_sub(1))]);
}

/// What a response has of its request; [`restore`] and `record` write it.
fn is_restored(name: Name) -> bool {
    matches!(name, Name::Via | Name::From | Name::To | Name::CallId | Name::CSeq | Name::RecordRoute)
}

/// RFC 3261 §8.2.6.2: what identifies the transaction is what its client wrote, whatever the other side made of it.
fn restore(w: &mut Rewrite<'_>, request: &Message, response: &Message, is_hidden: impl Fn(&str) -> bool) {
    for name in [Name::Via, Name::From, Name::CallId, Name::CSeq] {
        w.copy(request, name);
    }
    match (request.to(), response.to()) {
        (Some(asked), Some(answered)) if asked.tag().is_none() && !answered.params.is_empty() => {
            let to = request.header(Name::To).unwrap_or_default();
            // COMPAT(lync): beside the tag there may be `epid`, on either side of it.
            let news = parameters(answered.params).filter(|(name, value)| {
                asked.param(name).is_none() && !is_hidden(name) && !value.is_some_and(&is_hidden)
            });
            let mut parts = vec![to.trim()];
            for (name, value) in news {
                parts.extend([";", name]);
                parts.extend(value.into_iter().flat_map(|value| ["=", value]));
            }
            w.row("To", &parts);
        }
        _ => w.copy(request, Name::To),
    }
}

fn outward_body(c: &Crossing<'_>, message: &Message) -> Result<Option<Vec<u8>>, Reject> {
    let (kind, body) = (message.header(Name::ContentType).unwrap_or_default(), message.body());
    let written = media::outward(c.inside, kind, body, c.hostname())?;
    if media::names_inside(c.inside, kind, written.as_deref().unwrap_or(body)) {
        return Err(headers::stopped("the body"));
    }
    Ok(written)
}
