//! Where to: the node for a local user, and the hops that lead to nodes and partners.

pub mod hop;
pub mod table;

pub use hop::{HopKey, Hops};
