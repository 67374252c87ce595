//! SIP on the wire (RFC 3261): framing, a zero-copy index over the received bytes, URIs, header values, and printing.
//!
//! The codec is ours because policy reads these fields: `rsip`'s parser gives wrong hosts for common wire forms. `rsip`'s types
//! model what fedgate itself originates ([`compose`]).
//!
//! Bytes walk [`framer`] → `index` → [`message`], which `check` judges; values are read by `plain`, and where that can't, by [`uri`] and [`header`].

mod check;
pub mod compose;
pub mod dialog;
pub mod framer;
pub mod header;
mod index;
mod lines;
pub mod message;
pub mod params;
mod place;
mod plain;
pub mod rewrite;
mod span;
pub mod uri;

pub use framer::{Frame, Framer};
pub use message::{Fault, Message, Method, Row, Start};
pub use rewrite::Rewrite;
pub use uri::{Host, NameAddr, Scheme, Uri};

#[cfg(test)]
mod oracle;
#[cfg(test)]
mod tests;
