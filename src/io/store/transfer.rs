//! A store as JSON lines, and back: for backups, and for another version. First a header, then a record or decision a line, last how many
//! there were, so that half an export is not taken for a whole one.

use super::embedded::{Embedded, Fresh, make_folder};
use super::lock::Lock;
use super::{Change, Store, StoreError, tables};
use crate::gate::Record;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::io::{self, BufRead, Read as _, Write};
use std::path::Path;

/// Entries that are held in memory at once.
const SLICE: usize = 1_000;
/// A line that is longer is none of ours.
const LINE: u64 = 4 << 20;

/// Why an export or import came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is none.
    #[error("{0}: there is no state store, so nothing is kept; is it the right --config?")]
    Absent(String),
    /// The lines can't be written.
    #[error("the export can't be written: {0}; make room there, or name another file")]
    Write(io::Error),
    /// Nor can the lines be read.
    #[error(
        "{file}: can't be read: {cause}; nothing was imported: name a file of `fedgate state export` that this user may read"
    )]
    Read {
        /// The file of lines.
        file: String,
        /// The system's words.
        cause: io::Error,
    },
    /// A line is not as it was written.
    #[error("{file}:{line}: {what}; nothing was imported: mend the line, or take another export")]
    Line {
        /// The file of lines.
        file: String,
        /// From 1.
        line: u64,
        /// What is wrong with it.
        what: String,
    },
    /// There is a store that holds something.
    #[error(
        "{0}: the state store is not empty; nothing was imported: move it away, or replace what it keeps by --replace"
    )]
    NotEmpty(String),
}

/// What was carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counts {
    /// Records.
    pub records: u64,
    /// Decisions.
    pub decisions: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    format: u64,
    /// For people.
    version: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
enum Line {
    Record(Record),
    Decision { id: String, entry: Value },
    End(Counts),
}

/// Writes all of a store that exists.
pub fn export(path: &Path, to: &mut dyn Write) -> Result<Counts, TransferError> {
    if path.try_exists().is_ok_and(|exists| !exists) {
        return Err(TransferError::Absent(path.display().to_string()));
    }
    let mut store = Embedded::open_file(path)?;
    let mut counts = Counts::default();
    let mut failed = None;
    say(to, &Header { format: tables::FORMAT, version: env!("CARGO_PKG_VERSION").to_owned() })?;
    store.restore(&mut |record| {
        if failed.is_none() {
            counts.records += 1;
            failed = say(to, &Line::Record(record)).err();
        }
    })?;
    if let Some(error) = failed {
        return Err(error);
    }
    let mut place = 0;
    loop {
        let (decisions, after) = store.decisions_from(place, SLICE)?;
        if decisions.is_empty() {
            break;
        }
        for (id, entry) in decisions {
            let entry = serde_json::from_str(&entry).map_err(|error| StoreError::Corrupt {
                path: path.to_owned(),
                cause: format!("decision {id}: not JSON: {error}"),
            })?;
            counts.decisions += 1;
            say(to, &Line::Decision { id, entry })?;
        }
        place = after;
    }
    say(to, &Line::End(counts))?;
    to.flush().map_err(TransferError::Write)?;
    Ok(counts)
}

fn say(to: &mut dyn Write, line: &impl Serialize) -> Result<(), TransferError> {
    let mut text = serde_json::to_vec(line).map_err(|error| TransferError::Write(error.into()))?;
    text.push(b'\n');
    to.write_all(&text).map_err(TransferError::Write)
}

/// Makes a store of an export, all of it or nothing; `name` is the export's in errors. What a store there keeps is replaced only if
/// `replace`.
pub fn import(path: &Path, from: &mut dyn BufRead, name: &str, replace: bool) -> Result<Counts, TransferError> {
    make_folder(path)?;
    // Until the end: no edge runs on what is replaced, and none begins.
    let lock = Lock::exclusive(path)?;
    let replaced = Replaced::hold(path, replace)?;
    let fresh = Fresh::beside(path)?;
    let mut store = fresh.open()?;
    let counts = fill(&mut store, from, name)?;
    drop(store);
    fresh.put_in_place(!matches!(replaced, Replaced::Nothing))?;
    drop(replaced);
    drop(lock);
    Ok(counts)
}

/// What is to be replaced. A store is kept open: a path by another name leads to another `.lock`.
enum Replaced {
    Nothing,
    Store(#[expect(dead_code, reason = "that it is open is what counts")] Embedded),
    /// A file that can't be read as a store.
    Wreck,
}

impl Replaced {
    fn hold(path: &Path, replace: bool) -> Result<Self, TransferError> {
        if !path.try_exists().map_err(|error| StoreError::system(path, &error))? {
            return Ok(Self::Nothing);
        }
        match Embedded::open_locked(path) {
            Ok(store) if replace || store.is_empty()? => Ok(Self::Store(store)),
            Ok(_) => Err(TransferError::NotEmpty(path.display().to_string())),
            Err(StoreError::Corrupt { .. } | StoreError::Newer { .. }) if replace => Ok(Self::Wreck),
            Err(error) => Err(error.into()),
        }
    }
}

fn fill(store: &mut Embedded, from: &mut dyn BufRead, name: &str) -> Result<Counts, TransferError> {
    let mut lines = Lines { from, name, number: 0 };
    let header: Header = match lines.next()? {
        Some(text) => lines.read(&text)?,
        None => return Err(lines.wrong("it is empty: no export of `fedgate state export`")),
    };
    if header.format > tables::FORMAT {
        let found = StoreError::Newer { path: store.path().to_owned(), found: header.format, known: tables::FORMAT };
        return Err(lines.wrong(found.what()));
    }
    if header.format != tables::FORMAT {
        return Err(lines.wrong(format!("its format is {}, which no version has written", header.format)));
    }
    let mut counts = Counts::default();
    let mut changes = Vec::new();
    loop {
        let Some(text) = lines.next()? else {
            return Err(lines.wrong("the export ends early: its last line must be its `end`"));
        };
        match lines.read(&text)? {
            Line::Record(record) => {
                counts.records += 1;
                changes.push(Change::Keep(Box::new(record)));
            }
            Line::Decision { id, entry } => {
                counts.decisions += 1;
                changes.push(Change::Decided { id, entry: entry.to_string() });
            }
            Line::End(written) if written == counts => break,
            Line::End(written) => {
                let what = format!(
                    "lines are missing: it was of {} records and {} decisions, and has {} and {}",
                    written.records, written.decisions, counts.records, counts.decisions
                );
                return Err(lines.wrong(what));
            }
        }
        if changes.len() >= SLICE {
            store.commit(&changes)?;
            changes.clear();
        }
    }
    if lines.next()?.is_some() {
        return Err(lines.wrong("something follows the end"));
    }
    store.commit(&changes)?;
    Ok(counts)
}

/// The lines of an export, counted.
struct Lines<'a> {
    from: &'a mut dyn BufRead,
    name: &'a str,
    number: u64,
}

impl Lines<'_> {
    fn next(&mut self) -> Result<Option<String>, TransferError> {
        self.number += 1;
        let mut text = String::new();
        match (&mut *self.from).take(LINE).read_line(&mut text) {
            Ok(0) => Ok(None),
            Ok(read) if read as u64 == LINE => Err(self.wrong(format!("longer than {LINE} bytes"))),
            Ok(_) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(self.wrong("it is no text in UTF-8")),
            Err(cause) => Err(TransferError::Read { file: self.name.to_owned(), cause }),
        }
    }

    fn read<T: for<'de> Deserialize<'de>>(&self, text: &str) -> Result<T, TransferError> {
        serde_json::from_str(text.trim_end()).map_err(|error| {
            let words = error.to_string();
            // It counts lines within this one.
            let what = words.rsplit_once(" at line ").map_or(&*words, |(what, _)| what);
            self.wrong(format!("{what}, at column {}", error.column()))
        })
    }

    fn wrong(&self, what: impl Into<String>) -> TransferError {
        TransferError::Line { file: self.name.to_owned(), line: self.number, what: what.into() }
    }
}
