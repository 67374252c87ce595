//! `engine = "embedded"`: one file, by redb.
//!
//! A commit is two syncs: of what is new, then of the word that it counts. Bytes whose sync failed are therefore never counted in, whatever
//! the system's cache says of them. After any error the database is closed, and opened again at the next use: it then stands at its last
//! commit, acknowledged or not, and the batch may be tried again.

use super::error::{Fault, StoreError, guarded};
use super::{Change, RING, Store, tables};
use crate::gate::Record;
use redb::backends::FileBackend;
use redb::{Builder, Database, StorageBackend};
use std::cell::RefCell;
use std::fmt;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

/// Memory for pages. What is kept is read once, at start; a commit touches few pages.
const CACHE: usize = 8 << 20;

type Opener = Box<dyn FnMut() -> Result<Database, Fault> + Send>;

/// A store in one file.
pub struct Embedded {
    path: PathBuf,
    ring: u64,
    opener: RefCell<Opener>,
    /// `None` after an error.
    database: RefCell<Option<Database>>,
}

impl Embedded {
    /// Opens the file; makes it (mode 0600) and its folder (0700) where there is none.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let system = |error: io::Error| StoreError::system(path, &error);
        if !path.try_exists().map_err(system)? {
            let fresh = Fresh::beside(path)?;
            match fresh.put_in_place(false) {
                // Another process was faster: its file is as good.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                other => other.map_err(system)?,
            }
        }
        Self::open_file(path)
    }

    /// Opens a file that must be there.
    pub(super) fn open_file(path: &Path) -> Result<Self, StoreError> {
        let file = path.to_owned();
        Self::on(path, move || {
            let file = OpenOptions::new().read(true).write(true).open(&file)?;
            existing(&file)?;
            FileBackend::new(file).map_err(io::Error::other)
        })
    }

    /// Opens on any disk, made anew by `disk` at the start and after each error. `path` is its name in errors.
    pub fn on<B: StorageBackend>(
        path: &Path,
        mut disk: impl FnMut() -> io::Result<B> + Send + 'static,
    ) -> Result<Self, StoreError> {
        let opener = move || Ok(Builder::new().set_cache_size(CACHE).create_with_backend(disk()?)?);
        let store = Self {
            path: path.to_owned(),
            ring: RING,
            opener: RefCell::new(Box::new(opener)),
            database: RefCell::new(None),
        };
        store.with(|database| {
            // The database trusts a file that was closed well; a disk may have altered it since.
            database.check_integrity()?;
            tables::prepare(database)
        })?;
        Ok(store)
    }

    /// The same with another bound on decisions.
    #[must_use]
    pub fn with_ring(mut self, decisions: u64) -> Self {
        self.ring = decisions;
        self
    }

    /// Whether nothing is kept.
    pub fn is_empty(&self) -> Result<bool, StoreError> {
        self.with(|database| tables::is_empty(database))
    }

    /// The decisions from this place on, oldest first, at most `limit`: IDs and entries; and where to go on.
    pub(super) fn decisions_from(&self, place: u64, limit: usize) -> Result<(Vec<(String, String)>, u64), StoreError> {
        self.with(|database| tables::from(database, place, limit))
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Does something with the database, which is opened if need be and closed if that fails.
    fn with<T>(&self, act: impl FnOnce(&mut Database) -> Result<T, Fault>) -> Result<T, StoreError> {
        let mut slot = self.database.borrow_mut();
        let outcome = guarded(|| {
            let database = match slot.take() {
                Some(database) => database,
                None => (self.opener.borrow_mut())()?,
            };
            act(slot.insert(database))
        });
        if outcome.is_err() {
            close(slot.take());
        }
        self.said(outcome)
    }

    fn said<T>(&self, outcome: Result<T, Fault>) -> Result<T, StoreError> {
        outcome.map_err(|fault| fault.at(&self.path))
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        close(self.database.get_mut().take());
    }
}

impl fmt::Debug for Embedded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Embedded").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Store for Embedded {
    fn restore(&mut self, each: &mut dyn FnMut(Record)) -> Result<(), StoreError> {
        self.with(|_| Ok(()))?;
        let outcome = match self.database.get_mut() {
            Some(database) => tables::each_record(database, each),
            None => Ok(()),
        };
        if outcome.is_err() {
            close(self.database.get_mut().take());
        }
        self.said(outcome)
    }

    fn commit(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        if changes.is_empty() {
            return Ok(());
        }
        let ring = self.ring;
        self.with(|database| tables::apply(database, changes, ring))
    }

    fn prove(&mut self) -> Result<(), StoreError> {
        self.with(|database| tables::prove(database))
    }

    fn decisions(&self, limit: usize) -> Result<Vec<String>, StoreError> {
        let newest = self.with(|database| tables::newest(database, limit))?;
        Ok(newest.into_iter().map(|(_, entry)| entry).collect())
    }

    fn decision(&self, id: &str) -> Result<Option<String>, StoreError> {
        self.with(|database| tables::decision(database, id))
    }
}

/// A new store under a name of its own, until it is put in its place: nobody ever sees half of one.
#[derive(Debug)]
pub(super) struct Fresh {
    file: tempfile::TempPath,
    target: PathBuf,
}

impl Fresh {
    /// An empty one, in the same folder, which is made if need be.
    pub(super) fn beside(target: &Path) -> Result<Self, StoreError> {
        let system = |error: io::Error| StoreError::system(target, &error);
        let folder = folder(target);
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(system)?;
        let file = tempfile::Builder::new().prefix(".fedgate-state-").tempfile_in(folder).map_err(system)?;
        let fresh = Self { file: file.into_temp_path(), target: target.to_owned() };
        drop(fresh.open()?);
        Ok(fresh)
    }

    /// Opens it where it is now; errors name where it will be.
    pub(super) fn open(&self) -> Result<Embedded, StoreError> {
        let file = self.file.to_path_buf();
        Embedded::on(&self.target, move || {
            let file = OpenOptions::new().read(true).write(true).open(&file)?;
            FileBackend::new(file).map_err(io::Error::other)
        })
    }

    /// Gives it its name, in the place of what has that name if `replace`.
    pub(super) fn put_in_place(self, replace: bool) -> io::Result<()> {
        let Self { file, target } = self;
        match replace {
            true => file.persist(&target).map_err(|error| error.error)?,
            false => file.persist_noclobber(&target).map_err(|error| error.error)?,
        }
        File::open(folder(&target))?.sync_all()
    }
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

/// Our files are never empty: they get their name when they are whole.
pub(super) fn existing(file: &File) -> io::Result<()> {
    let metadata = file.metadata()?;
    match (metadata.is_file(), metadata.len()) {
        (false, _) => Err(io::Error::new(io::ErrorKind::InvalidData, "it is not a file")),
        (true, 0) => Err(io::Error::new(io::ErrorKind::InvalidData, "it is empty")),
        (true, _) => Ok(()),
    }
}

/// Closing writes, too.
pub(super) fn close(database: Option<Database>) {
    let _ = catch_unwind(AssertUnwindSafe(|| drop(database)));
}
