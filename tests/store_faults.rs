//! The embedded state store on disks that fail.

#[path = "store_faults/measure.rs"]
mod measure;
#[path = "store_faults/sample.rs"]
mod sample;
