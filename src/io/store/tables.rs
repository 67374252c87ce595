//! What stands in the file: the format, the records, the ring of decisions. Every function is one transaction.

use super::codec::{seal, unseal};
use super::error::{Fault, guarded};
use super::{Change, plain_id};
use crate::gate::record::Kept;
use crate::gate::{Record, RecordId};
use redb::{
    Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition, TableHandle, WriteTransaction,
};
use std::collections::BTreeMap;
use std::time::Duration;

/// What this version writes, and the latest that it reads. A change of what is kept, or of its encoding, is a new number.
pub(super) const FORMAT: u64 = 1;

/// `format`, `made by`, `proved`. The one table that every format has.
const META: TableDefinition<'_, &str, &str> = TableDefinition::new("meta");
/// A record's name → what is kept of it.
const RECORDS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("records");
/// Its place in the ring, growing → a decision's ID and JSON.
const DECISIONS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("decisions");
/// A decision's ID → its place.
const IDS: TableDefinition<'_, &str, u64> = TableDefinition::new("decision-ids");

const FORMAT_KEY: &str = "format";
const MADE_BY: &str = "made by";
/// When something was last written for its own sake: seconds since 1970.
const PROVED: &str = "proved";

/// Begins a store in an empty database; refuses what is not a store of ours or of a later format. Gives the version that has made it.
pub(super) fn prepare(database: &Database) -> Result<String, Fault> {
    if database.begin_read()?.list_tables()?.next().is_none() {
        let transaction = begin(database)?;
        let mut meta = transaction.open_table(META)?;
        meta.insert(FORMAT_KEY, FORMAT.to_string().as_str())?;
        meta.insert(MADE_BY, concat!("fedgate ", env!("CARGO_PKG_VERSION")))?;
        drop(meta);
        transaction.open_table(RECORDS)?;
        transaction.open_table(DECISIONS)?;
        transaction.open_table(IDS)?;
        transaction.commit()?;
    }
    inspect(database)
}

/// As [`prepare`], and writes nothing.
pub(super) fn inspect(database: &Database) -> Result<String, Fault> {
    let transaction = database.begin_read()?;
    let tables: Vec<String> = transaction.list_tables()?.map(|table| table.name().to_owned()).collect();
    if !tables.iter().any(|table| table == META.name()) {
        return Err(Fault::Corrupt("it is not a fedgate state store: it has no table `meta`".to_owned()));
    }
    let meta = transaction.open_table(META)?;
    let word = |key| -> Result<Option<String>, Fault> { Ok(meta.get(key)?.map(|value| value.value().to_owned())) };
    match word(FORMAT_KEY)?.as_deref().map(str::parse) {
        Some(Ok(FORMAT)) => Ok(word(MADE_BY)?.unwrap_or_default()),
        Some(Ok(found)) if found > FORMAT => Err(Fault::Newer(found)),
        found => Err(Fault::Corrupt(format!("meta: its format is {found:?}"))),
    }
}

/// Whether nothing is kept.
pub(super) fn is_empty(database: &Database) -> Result<bool, Fault> {
    let transaction = database.begin_read()?;
    Ok(transaction.open_table(RECORDS)?.is_empty()? && transaction.open_table(DECISIONS)?.is_empty()?)
}

/// All changes or none, durable. Without effect nothing is written. `ring`: decisions that are remembered. Gives what can't be read of the
/// decisions that had to give way: it is gone, and stands in the way of nothing.
pub(super) fn apply(database: &Database, changes: &[Change], ring: u64) -> Result<Vec<String>, Fault> {
    // The last word on each name counts. In order of names, for the tree's sake.
    let mut records = BTreeMap::new();
    let mut decided = Vec::new();
    for change in changes {
        match change {
            Change::Keep(record) => {
                records.insert(&*record.id.0, Some(seal(record.id.0.as_bytes(), &record.kept)?));
            }
            Change::Forget(id) => {
                records.insert(&*id.0, None);
            }
            Change::Decided { id, entry } => decided.push((plain_id(id), entry)),
        }
    }
    let transaction = begin(database)?;
    let (mut effect, mut lost) = (false, Vec::new());
    {
        let mut table = transaction.open_table(RECORDS)?;
        for (name, value) in &records {
            match value {
                Some(value) => {
                    if table.get(*name)?.is_none_or(|old| old.value() != value) {
                        table.insert(*name, value.as_slice())?;
                        effect = true;
                    }
                }
                None => effect |= table.remove(*name)?.is_some(),
            }
        }
    }
    if !decided.is_empty() {
        let mut table = transaction.open_table(DECISIONS)?;
        let mut ids = transaction.open_table(IDS)?;
        for (id, entry) in decided {
            if ids.get(&*id)?.is_some() {
                continue;
            }
            let place = table.last()?.map_or(0, |(last, _)| last.value().saturating_add(1));
            table.insert(place, seal(&place.to_be_bytes(), &(&id, entry))?.as_slice())?;
            ids.insert(&*id, place)?;
            effect = true;
        }
        while table.len()? > ring {
            let Some((place, bytes)) = table.pop_first()? else { break };
            match decided_at(place.value(), bytes.value()) {
                Ok((id, _)) => drop(ids.remove(&*id)?),
                Err(Fault::Corrupt(what)) => {
                    let place = place.value();
                    ids.retain(|_, other| other != place)?;
                    lost.push(what);
                }
                Err(fault) => return Err(fault),
            }
        }
    }
    match effect {
        true => transaction.commit()?,
        false => transaction.abort()?,
    }
    Ok(lost)
}

/// Writes the time, as durable as any change.
pub(super) fn prove(database: &Database, now: Duration) -> Result<(), Fault> {
    let transaction = begin(database)?;
    transaction.open_table(META)?.insert(PROVED, now.as_secs().to_string().as_str())?;
    Ok(transaction.commit()?)
}

fn begin(database: &Database) -> Result<WriteTransaction, Fault> {
    let mut transaction = database.begin_write()?;
    // Implies two-phase commits: the bytes come from strangers, and a commit that is whole by its checksums only could be forged by them;
    // and a failed sync may leave the system's cache with bytes that the disk has not. And the next open after a kill need not read the
    // whole file to find its free pages.
    transaction.set_quick_repair(true);
    Ok(transaction)
}

/// Every record, as it is read, to `each`, whose panics are its own.
pub(super) fn each_record(database: &Database, each: &mut dyn FnMut(Record)) -> Result<(), Fault> {
    let mut range = guarded(|| Ok(database.begin_read()?.open_table(RECORDS)?.range_owned::<&str>(..)?))?;
    let mut next = || {
        let Some(entry) = range.next() else { return Ok(None) };
        let (name, bytes) = entry?;
        let name = name.value();
        let kept: Kept = unseal(name.as_bytes(), bytes.value(), || format!("record {name:?}"))?;
        Ok(Some(Record { id: RecordId(name.to_owned()), kept }))
    };
    while let Some(record) = guarded(&mut next)? {
        each(record);
    }
    Ok(())
}

/// The newest decisions, newest first: their IDs and entries.
pub(super) fn newest(database: &Database, limit: usize) -> Result<Vec<(String, String)>, Fault> {
    let table = database.begin_read()?.open_table(DECISIONS)?;
    let mut all = Vec::new();
    for entry in table.iter()?.rev().take(limit) {
        let (place, bytes) = entry?;
        all.push(decided_at(place.value(), bytes.value())?);
    }
    Ok(all)
}

/// The decisions from this place on, oldest first, at most `limit`; and the place after the last.
pub(super) fn from(database: &Database, place: u64, limit: usize) -> Result<(Vec<(String, String)>, u64), Fault> {
    let table = database.begin_read()?.open_table(DECISIONS)?;
    let (mut all, mut after) = (Vec::new(), place);
    for entry in table.range(place..)?.take(limit) {
        let (place, bytes) = entry?;
        after = place.value().saturating_add(1);
        all.push(decided_at(place.value(), bytes.value())?);
    }
    Ok((all, after))
}

/// One decision.
pub(super) fn decision(database: &Database, id: &str) -> Result<Option<String>, Fault> {
    let id = plain_id(id);
    let transaction = database.begin_read()?;
    let Some(place) = transaction.open_table(IDS)?.get(&*id)?.map(|place| place.value()) else { return Ok(None) };
    let wrong = |what: &str| Fault::Corrupt(format!("decision {id}: its place {place} has {what}"));
    match transaction.open_table(DECISIONS)?.get(place)? {
        None => Err(wrong("none")),
        Some(bytes) => match decided_at(place, bytes.value())? {
            (found, entry) if found == id => Ok(Some(entry)),
            _ => Err(wrong("another")),
        },
    }
}

/// How many IDs there are.
pub(super) fn ids(database: &Database) -> Result<u64, Fault> {
    Ok(database.begin_read()?.open_table(IDS)?.len()?)
}

fn decided_at(place: u64, bytes: &[u8]) -> Result<(String, String), Fault> {
    unseal(&place.to_be_bytes(), bytes, || format!("decision at {place}"))
}
