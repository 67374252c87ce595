//! What the bytes mean. Pure: no clock, no socket, no knowledge of partners or policy.
//!
//! [`sip`] and [`xmpp`] never see each other; [`address`] is the one notion both spell.

pub mod address;
pub mod certificate;
pub mod limits;
pub mod pidf;
pub mod proxy;
pub mod revocation;
pub mod sip;
pub mod xmpp;
