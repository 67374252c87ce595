//! `engine = "memory"`.

use super::{Change, Store, StoreError, plain_id};
use crate::gate::{Record, RecordId};
use std::collections::{BTreeMap, VecDeque};

/// Decisions that are remembered; the oldest gives way.
const RING: usize = 10_000;

/// Nothing outlives the process. Records are bounded by the gate, whose tables they mirror.
#[derive(Debug, Default)]
pub struct Memory {
    records: BTreeMap<RecordId, Record>,
    /// Oldest first.
    decisions: VecDeque<(String, String)>,
}

impl Store for Memory {
    fn restore(&mut self, each: &mut dyn FnMut(Record)) -> Result<(), StoreError> {
        self.records.values().cloned().for_each(each);
        Ok(())
    }

    fn commit(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        for change in changes {
            match change {
                Change::Keep(record) => {
                    self.records.insert(record.id.clone(), record.clone());
                }
                Change::Forget(id) => {
                    self.records.remove(id);
                }
                Change::Decided { id, entry } => {
                    if self.decisions.len() >= RING {
                        self.decisions.pop_front();
                    }
                    self.decisions.push_back((plain_id(id), entry.clone()));
                }
            }
        }
        Ok(())
    }

    fn decisions(&self, limit: usize) -> Result<Vec<String>, StoreError> {
        Ok(self.decisions.iter().rev().take(limit).map(|(_, entry)| entry.clone()).collect())
    }

    fn decision(&self, id: &str) -> Result<Option<String>, StoreError> {
        let id = plain_id(id);
        Ok(self.decisions.iter().rev().find(|(other, _)| *other == id).map(|(_, entry)| entry.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decisions_are_found_newest_first_until_they_give_way() {
        let mut store = Memory::default();
        let decided = |number: usize| Change::Decided { id: format!("A{number}"), entry: number.to_string() };
        store.commit(&(0..=RING).map(decided).collect::<Vec<_>>()).unwrap();
        assert_eq!(store.decisions(2).unwrap(), [RING.to_string(), (RING - 1).to_string()]);
        assert_eq!(store.decisions(usize::MAX).unwrap().len(), RING);
        assert_eq!(store.decision("ai").unwrap().as_deref(), Some("1"), "however it is typed");
        assert_eq!(store.decision("a0").unwrap(), None);
    }
}
