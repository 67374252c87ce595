//! `fedgate check`'s look at a store: everything is read, nothing is written.

use super::embedded::{close, existing};
use super::error::{Fault, StoreError, guarded};
use super::lock::Lock;
use super::overlay::Overlay;
use super::{codec, tables};
use redb::backends::FileBackend;
use redb::{Builder, Database};
use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::path::Path;

const CACHE: usize = 8 << 20;
/// Decisions that are read at once.
const SLICE: usize = 1_000;

/// What a store holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Records by kind.
    pub records: BTreeMap<&'static str, u64>,
    /// Decisions.
    pub decisions: u64,
    /// The version that has made it.
    pub made_by: String,
}

/// Reads all of it. The file must be there, and be writable for who asks.
pub fn verify(path: &Path) -> Result<Report, StoreError> {
    let lock = Lock::shared(path)?;
    let outcome = guarded(|| {
        // Opened for writing to learn whether that may be done.
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        existing(&file.metadata()?)?;
        let disk = Overlay::new(FileBackend::new(file)?)?;
        let mut database = Builder::new().set_cache_size(CACHE).create_with_backend(disk)?;
        let report = guarded(|| read(&mut database));
        close(Some(database));
        report
    });
    drop(lock);
    outcome.map_err(|fault| fault.at(path))
}

fn read(database: &mut Database) -> Result<Report, Fault> {
    database.check_integrity()?;
    let mut report = Report { made_by: tables::inspect(database)?, ..Report::default() };
    tables::each_record(database, &mut |record| {
        *report.records.entry(codec::kind(&record.kept)).or_default() += 1;
    })?;
    let mut place = 0;
    loop {
        let (decisions, after) = tables::from(database, place, SLICE)?;
        if decisions.is_empty() {
            break;
        }
        for (id, _) in &decisions {
            if tables::decision(database, id)?.is_none() {
                return Err(Fault::Corrupt(format!("decision {id}: it can't be found by its ID")));
            }
        }
        report.decisions += decisions.len() as u64;
        place = after;
    }
    match tables::ids(database)? {
        ids if ids == report.decisions => Ok(report),
        ids => Err(Fault::Corrupt(format!("{ids} IDs lead to {} decisions", report.decisions))),
    }
}
