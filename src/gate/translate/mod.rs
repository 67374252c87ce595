//! From one protocol's meaning to the other's; no memory.

pub mod composing;
pub mod error;
pub mod message;
pub mod presence;
pub mod rich;
pub mod sdp;
