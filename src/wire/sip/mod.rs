//! SIP on the wire (RFC 3261): framing, a zero-copy index over the received bytes, URIs, header values, and printing.
//!
//! The codec is ours because policy reads these fields: `rsip`'s parser gives wrong hosts for common wire forms. `rsip`'s types
//! model what fedgate itself originates ([`compose`]).

pub mod compose;
pub mod framer;
pub mod header;
pub mod message;
pub mod uri;

pub use framer::{Frame, Framer};
pub use message::{Fault, Message, Method, Start};
pub use uri::{Host, NameAddr, Scheme, Uri};
