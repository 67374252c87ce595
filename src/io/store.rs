//! What outlives a restart: the records that the gate asks to keep.

use crate::gate::{Record, RecordId};
use std::collections::BTreeMap;

/// Where records are kept. `keep` returns when the record is committed: the gate's later sends wait for it.
pub trait Store: Send {
    /// Remembers a record, replacing one of the same name.
    fn keep(&mut self, record: Record) -> Result<(), StoreError>;
    /// No longer remembers.
    fn forget(&mut self, id: &RecordId) -> Result<(), StoreError>;
    /// All records, once, at start.
    fn restore(&mut self) -> Result<Vec<Record>, StoreError>;
}

/// The engine failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("state store: {0}")]
pub struct StoreError(pub String);

/// `engine = "memory"`: nothing outlives the process. Bounded by the gate, whose tables the records mirror.
#[derive(Debug, Default)]
pub struct Memory {
    records: BTreeMap<RecordId, Record>,
}

impl Store for Memory {
    fn keep(&mut self, record: Record) -> Result<(), StoreError> {
        self.records.insert(record.id.clone(), record);
        Ok(())
    }
    fn forget(&mut self, id: &RecordId) -> Result<(), StoreError> {
        self.records.remove(id);
        Ok(())
    }
    fn restore(&mut self) -> Result<Vec<Record>, StoreError> {
        Ok(self.records.values().cloned().collect())
    }
}
