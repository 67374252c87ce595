//! What several test targets share.
#![allow(dead_code, missing_docs)] // each target uses its part

pub mod pki;
pub mod script;
pub mod world;
