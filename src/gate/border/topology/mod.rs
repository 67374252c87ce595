//! A SIP message that stays SIP as it crosses the border: we are a stateful proxy that hides one side's layout from the other.
//!
//! Takes a message as received and what was decided of it ([`Crossing`]), gives the bytes for the other side. Nothing is remembered here: what
//! the inside must get back later travels in masks ([`super::mask`]). [`routes`] reads where a request's own route leads, `headers` says which
//! rows cross, `media` what a session description may name; the bytes are written by [`crate::wire::sip::rewrite`].

pub mod routes;

pub use super::mask::{Dialog, Ends, KeyId, Masks, NodeMark};
pub use crate::wire::sip::rewrite::{ack, cancel};
pub use routes::{Routed, routed_inward, routed_outward};

use super::leak::Inside;
use crate::gate::partner::{Node, Profile};
use crate::gate::reject::{Reason, Reject};
use crate::gate::settings::Settings;
use crate::wire::sip::Message;
use bytes::Bytes;

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
    /// Which of [`Settings::identities`] speaks: of the local domain.
    pub identity: usize,
    /// What our Record-Route and Contact say; of a dialog that is there, as [`Routed`] found it.
    pub dialog: Dialog,
}

/// A partner's request, for a node. `branch`: our Via's.
pub fn inward_request(c: &Crossing<'_>, request: &Message, routed: &Routed, branch: &str) -> Result<Bytes, Reject> {
    let _ = (c, request, routed, branch);
    Err(Reject::new(Reason::Unsupported, "not yet"))
}

/// A node's request, for a partner. `branch`: our Via's. A refusal with "names something of the inside" is the leak check's.
pub fn outward_request(c: &Crossing<'_>, request: &Message, routed: &Routed, branch: &str) -> Result<Bytes, Reject> {
    let _ = (c, request, routed, branch);
    Err(Reject::new(Reason::Unsupported, "not yet"))
}

/// A partner's response, for the node. `request`: as received from the node.
pub fn inward_response(c: &Crossing<'_>, request: &Message, response: &Message) -> Result<Bytes, Reject> {
    let _ = (c, request, response);
    Err(Reject::new(Reason::Unsupported, "not yet"))
}

/// A node's response, for the partner. `request`: as received from the partner.
pub fn outward_response(c: &Crossing<'_>, request: &Message, response: &Message) -> Result<Bytes, Reject> {
    let _ = (c, request, response);
    Err(Reject::new(Reason::Unsupported, "not yet"))
}
