//! What outlives a restart: the records that the gate asks to keep, and the ring of decisions.

use crate::gate::{Record, RecordId};

/// One change.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// Remember a record, replacing one of the same name.
    Keep(Record),
    /// No longer remember.
    Forget(RecordId),
    /// A decision for the ring.
    Decided {
        /// Its ID.
        id: String,
        /// Its JSON object, on one line.
        entry: String,
    },
}

/// Where records are kept. Calls may block.
pub trait Store: Send {
    /// Every record kept, once, at start.
    fn restore(&mut self, each: &mut dyn FnMut(Record)) -> Result<(), StoreError>;
    /// All changes, in order, or none; durable when this returns. After an error the same batch may be tried again.
    fn commit(&mut self, changes: &[Change]) -> Result<(), StoreError>;
    /// The newest decisions, newest first.
    fn decisions(&self, limit: usize) -> Result<Vec<String>, StoreError>;
    /// One, by its ID.
    fn decision(&self, id: &str) -> Result<Option<String>, StoreError>;
}

/// The engine failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("state store: {0}")]
pub struct StoreError(pub String);
