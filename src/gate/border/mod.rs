//! What crosses the border in whose words: their dialect to ours on the way in, nothing of the inside on the way out.

pub mod aol;
pub mod inward;
pub mod leak;
pub mod mask;
pub mod media;
pub mod topology;
