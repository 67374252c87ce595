//! What outlives a restart: the records that the gate asks to keep, and the newest decisions.
//!
//! * [`embedded`]: `engine = "embedded"`, one file; with `engine = "memory"` there is no store. [`tables`] is what stands in it,
//!   [`codec`] the bytes of an entry.
//! * [`verify`]: reads a file whole and changes nothing, by an [`overlay`]. [`transfer`]: a file as JSON lines, and back.
//! * `lock`: one process writes.
//! * [`error`]: what can go wrong, and how it is mended.

pub mod codec;
pub mod embedded;
pub mod error;
mod lock;
pub mod overlay;
pub mod tables;
pub mod transfer;
pub mod verify;

pub use embedded::Embedded;
pub use error::StoreError;
pub use verify::{Report, verify};

use crate::gate::{Record, RecordId};

/// Decisions that an engine on disk remembers; the oldest gives way.
pub const RING: u64 = 100_000;

/// One change; a batch of them is committed as one.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// Remembers a record, replacing one of the same name.
    Keep(Box<Record>),
    /// No longer remembers.
    Forget(RecordId),
    /// A decision for the ring.
    Decided {
        /// Its ID. One that is known already is taken for the same decision, committed again.
        id: String,
        /// Its JSON object on one line.
        entry: String,
    },
}

/// Where records are kept.
pub trait Store: Send {
    /// Every record kept, once, at start, each handed over as it is read (never all in memory).
    fn restore(&mut self, each: &mut dyn FnMut(Record)) -> Result<(), StoreError>;
    /// All changes, in order, or none; durable when this returns `Ok`. After an `Err` the engine is usable again: the same batch may be
    /// committed later, when there may be room again, and has its effect once. A batch without effect costs no write.
    fn commit(&mut self, changes: &[Change]) -> Result<(), StoreError>;
    /// Writes something real: whether anything can be made durable now.
    fn prove(&mut self) -> Result<(), StoreError>;
    /// The newest decisions, newest first.
    fn decisions(&self, limit: usize) -> Result<Vec<String>, StoreError>;
    /// One, by its ID, [however it is typed](plain_id).
    fn decision(&self, id: &str) -> Result<Option<String>, StoreError>;
}

/// A decision's ID as it was made. Crockford's alphabet has no I, L, O: who reads one aloud or types in lower case is understood.
pub fn plain_id(typed: &str) -> String {
    let plain = |c: char| match c.to_ascii_uppercase() {
        'I' | 'L' => '1',
        'O' => '0',
        c => c,
    };
    typed.trim().chars().map(plain).collect()
}
