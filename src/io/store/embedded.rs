//! `engine = "embedded"`: one file, by redb.
//!
//! A commit is two syncs: of what is new, then of the word that it counts. Bytes whose sync failed are therefore never counted in, whatever
//! the system's cache says of them. After any error the database is closed, and opened again at the next use: it then stands at its last
//! commit, acknowledged or not, and the batch may be tried again.

use super::error::{Fault, StoreError, guarded};
use super::lock::Lock;
use super::overlay::Overlay;
use super::{Change, RING, Store, tables};
use crate::gate::Record;
use redb::backends::FileBackend;
use redb::{Builder, Database, StorageBackend};
use std::cell::RefCell;
use std::fmt;
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

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
    /// From the opening to the end, errors or not. `None` on a disk that nobody else sees.
    lock: Option<Lock>,
}

impl Embedded {
    /// Opens the file; makes it (mode 0600) and its folder (0700) where there is none. Nobody else has it until this is dropped.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        if path.try_exists().map_err(|error| StoreError::system(path, &error))? {
            return Self::open_file(path);
        }
        make_folder(path)?;
        let lock = Lock::exclusive(path)?;
        // Whoever had the lock before may have made it.
        if !path.try_exists().map_err(|error| StoreError::system(path, &error))? {
            Fresh::beside(path)?.put_in_place(false)?;
        }
        Ok(Self::open_locked(path)?.holding(lock))
    }

    /// Opens a file that must be there.
    pub(super) fn open_file(path: &Path) -> Result<Self, StoreError> {
        let system = |error: io::Error| StoreError::system(path, &error);
        // Before a lock is left beside what is no store of ours.
        existing(&fs::metadata(path).map_err(system)?).map_err(system)?;
        let lock = Lock::exclusive(path)?;
        Ok(Self::open_locked(path)?.holding(lock))
    }

    /// The same for one who has the lock.
    pub(super) fn open_locked(path: &Path) -> Result<Self, StoreError> {
        let file = path.to_owned();
        Self::on(path, move || {
            let file = OpenOptions::new().read(true).write(true).open(&file)?;
            existing(&file.metadata()?)?;
            FileBackend::new(file).map_err(io::Error::other)
        })
    }

    /// Opens a file that must be there only to read it: it is not changed, others may look at the same time, and where somebody writes it is
    /// [`Locked`](StoreError::Locked). What is committed here is gone with this.
    pub fn look(path: &Path) -> Result<Self, StoreError> {
        let lock = Lock::shared(path)?;
        let file = path.to_owned();
        let disk = move || {
            let file = File::open(&file)?;
            existing(&file.metadata()?)?;
            Overlay::new(FileBackend::new(file).map_err(io::Error::other)?)
        };
        let mut store = Self::on(path, disk)?;
        store.lock = lock;
        Ok(store)
    }

    fn holding(mut self, lock: Lock) -> Self {
        self.lock = Some(lock);
        self
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
            lock: None,
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
        let lost = self.with(|database| tables::apply(database, changes, ring))?;
        for what in lost {
            tracing::warn!(store = %self.path.display(), "{what}; it was the oldest, and has given way");
        }
        Ok(())
    }

    fn prove(&mut self) -> Result<(), StoreError> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.with(|database| tables::prove(database, now))
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
        make_folder(target)?;
        let made = tempfile::Builder::new().prefix(".fedgate-state-").tempfile_in(folder(target));
        let file = made.map_err(|error| StoreError::system(target, &error))?;
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
    pub(super) fn put_in_place(self, replace: bool) -> Result<(), StoreError> {
        let Self { file, target } = self;
        let put = if replace { file.persist(&target) } else { file.persist_noclobber(&target) };
        let put = put.map_err(|error| error.error).and_then(|()| File::open(folder(&target))?.sync_all());
        put.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => StoreError::Appeared { path: target },
            _ => StoreError::system(&target, &error),
        })
    }
}

/// The folder of a store (mode 0700), where there is none.
pub(super) fn make_folder(path: &Path) -> Result<(), StoreError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder(path));
    made.map_err(|error| StoreError::system(path, &error))
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

/// Our files are never empty: they get their name when they are whole.
pub(super) fn existing(metadata: &Metadata) -> io::Result<()> {
    match (metadata.is_file(), metadata.len()) {
        (false, _) if metadata.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
        (false, _) => Err(io::Error::new(io::ErrorKind::InvalidData, "it is not a file")),
        (true, 0) => Err(io::Error::new(io::ErrorKind::InvalidData, "it is empty")),
        (true, _) => Ok(()),
    }
}

/// Closing writes, too.
pub(super) fn close(database: Option<Database>) {
    let _ = catch_unwind(AssertUnwindSafe(|| drop(database)));
}
