//! What a store must hold.

use fedgate::gate::Record;
use fedgate::io::store::{Change, Store, StoreError};
use std::collections::BTreeMap;

/// A whole state.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Shadow {
    pub records: BTreeMap<String, Record>,
    /// Newest last: ID and entry.
    pub decisions: Vec<(String, String)>,
}

impl Shadow {
    pub fn after(&self, changes: &[Change], ring: usize) -> Self {
        let mut after = self.clone();
        for change in changes {
            match change {
                Change::Keep(record) => {
                    after.records.insert(record.id.0.clone(), (**record).clone());
                }
                Change::Forget(id) => {
                    after.records.remove(&id.0);
                }
                Change::Decided { id, entry } => {
                    if !after.decisions.iter().any(|(known, _)| known == id) {
                        after.decisions.push((id.clone(), entry.clone()));
                    }
                }
            }
        }
        after.decisions.drain(..after.decisions.len().saturating_sub(ring));
        after
    }

    /// All that a store says. Every decision must be found by its ID, too.
    pub fn read(store: &mut dyn Store) -> Result<Self, StoreError> {
        let mut read = Self::default();
        let mut twice = None;
        store.restore(&mut |record| {
            let name = record.id.0.clone();
            if read.records.insert(name.clone(), record).is_some() {
                twice = Some(name);
            }
        })?;
        assert_eq!(twice, None, "a record came twice");
        for entry in store.decisions(usize::MAX)?.into_iter().rev() {
            let id = serde_json::from_str::<serde_json::Value>(&entry).unwrap()["id"].as_str().unwrap().to_owned();
            assert_eq!(store.decision(&id.to_lowercase())?, Some(entry.clone()));
            read.decisions.push((id, entry));
        }
        Ok(read)
    }
}
