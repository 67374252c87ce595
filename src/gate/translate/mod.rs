//! From one protocol's meaning to the other's; no memory.

pub mod error;
pub mod message;
pub mod presence;
