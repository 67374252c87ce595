//! Why a store can't be used: what, where, and how to mend it.

use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

/// The engine failed. Nothing of what it was asked to do has been acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The disk or the quota is full.
    Full {
        /// The store.
        path: PathBuf,
        /// The system's words.
        cause: String,
    },
    /// It may not be read or written, or its folder can't be made.
    Unwritable {
        /// The store.
        path: PathBuf,
        /// The system's words.
        cause: String,
    },
    /// It is not what was written. Never mended by guessing or deleting.
    Corrupt {
        /// The store.
        path: PathBuf,
        /// Where in it, and what is wrong.
        cause: String,
    },
    /// A later version of fedgate has written it.
    Newer {
        /// The store.
        path: PathBuf,
        /// Its format.
        found: u64,
        /// The latest format that this version reads.
        known: u64,
    },
    /// Another process has it open.
    Locked {
        /// The store.
        path: PathBuf,
    },
    /// There was none, and while one was made, something else came to be there.
    Appeared {
        /// The store.
        path: PathBuf,
    },
    /// Anything else that the system says.
    Io {
        /// The store.
        path: PathBuf,
        /// The system's words.
        cause: String,
    },
}

impl StoreError {
    /// The store it is about.
    pub fn path(&self) -> &Path {
        match self {
            Self::Full { path, .. }
            | Self::Unwritable { path, .. }
            | Self::Corrupt { path, .. }
            | Self::Newer { path, .. }
            | Self::Locked { path }
            | Self::Appeared { path }
            | Self::Io { path, .. } => path,
        }
    }

    /// What is wrong.
    pub fn what(&self) -> String {
        match self {
            Self::Full { cause, .. } => format!("there is no room for the state store: {cause}"),
            Self::Unwritable { cause, .. } => format!("the state store can't be opened or written: {cause}"),
            Self::Corrupt { cause, .. } => format!("the state store is corrupt: {cause}"),
            Self::Newer { found, known, .. } => {
                format!(
                    "a later fedgate has written the state store: its format is {found}, this version reads up to {known}"
                )
            }
            Self::Locked { .. } => {
                "the state store is in use by another process, a running `fedgate` or `fedgate state`".to_owned()
            }
            Self::Appeared { .. } => {
                "another process has put a file there while the state store was made; it was left alone".to_owned()
            }
            Self::Io { cause, .. } => format!("the state store failed: {cause}"),
        }
    }

    /// How to mend it.
    pub fn mend(&self) -> String {
        let path = self.path().display();
        match self {
            Self::Full { .. } => "make room on its file system, or raise the quota".to_owned(),
            Self::Unwritable { .. } => {
                "give the user that fedgate runs as its folder to write, or name another in [state] path".to_owned()
            }
            Self::Corrupt { .. } => {
                format!("move {path} away to start without what it kept, or `fedgate state import --replace` an export")
            }
            Self::Newer { .. } => format!(
                "use that version, or move {path} away to start without what it kept, or `fedgate state import --replace` an export"
            ),
            Self::Locked { .. } => {
                "stop the edge first, `fedgate drain` or SIGTERM; or name another file in [state] path".to_owned()
            }
            Self::Appeared { .. } => "see what has made it, and try again".to_owned(),
            Self::Io { .. } => "look at the system's log for its disk; what was acknowledged is in the file".to_owned(),
        }
    }

    /// The system's error, sorted.
    pub(super) fn system(path: &Path, error: &io::Error) -> Self {
        use io::ErrorKind as Kind;
        let (path, cause) = (path.to_owned(), error.to_string());
        match error.kind() {
            Kind::StorageFull | Kind::QuotaExceeded | Kind::FileTooLarge => Self::Full { path, cause },
            Kind::PermissionDenied
            | Kind::ReadOnlyFilesystem
            | Kind::NotFound
            | Kind::NotADirectory
            | Kind::IsADirectory
            | Kind::AlreadyExists => Self::Unwritable { path, cause },
            Kind::InvalidData | Kind::UnexpectedEof => Self::Corrupt { path, cause },
            Kind::WouldBlock => Self::Locked { path },
            _ => Self::Io { path, cause },
        }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.path().display(), self.what(), self.mend())
    }
}

/// What went wrong inside the file, before it is said of which.
#[derive(Debug)]
pub(super) enum Fault {
    /// The database says so.
    Database(Box<redb::Error>),
    /// The system says so.
    System(io::Error),
    /// We say so: where, and what is wrong.
    Corrupt(String),
    /// The format is not one of ours.
    Newer(u64),
    /// The database panicked: only on a file that is not what it wrote.
    Panicked(String),
}

macro_rules! faults {
    ($($of:ty),*) => {$(
        impl From<$of> for Fault {
            fn from(error: $of) -> Self {
                Self::Database(Box::new(error.into()))
            }
        }
    )*};
}
faults!(redb::DatabaseError, redb::TransactionError, redb::TableError, redb::StorageError, redb::CommitError);

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::System(error)
    }
}

impl Fault {
    /// Of the store at `path`.
    pub(super) fn at(self, path: &Path) -> StoreError {
        let corrupt = |cause| StoreError::Corrupt { path: path.to_owned(), cause };
        match self {
            Self::System(error) => StoreError::system(path, &error),
            Self::Corrupt(cause) => corrupt(cause),
            Self::Newer(found) => StoreError::Newer { path: path.to_owned(), found, known: super::tables::FORMAT },
            Self::Panicked(cause) => corrupt(format!("using it went wrong: {cause}")),
            Self::Database(error) => match *error {
                redb::Error::DatabaseAlreadyOpen => StoreError::Locked { path: path.to_owned() },
                redb::Error::Io(error) => StoreError::system(path, &error),
                redb::Error::Corrupted(cause) => corrupt(cause),
                redb::Error::UpgradeRequired(found) => corrupt(format!("it is a redb file of version {found}")),
                redb::Error::TableTypeMismatch { .. }
                | redb::Error::TableIsMultimap(_)
                | redb::Error::TableDoesNotExist(_)
                | redb::Error::TypeDefinitionChanged { .. } => {
                    corrupt(format!("it is not a fedgate state store: {error}"))
                }
                error => StoreError::Io { path: path.to_owned(), cause: error.to_string() },
            },
        }
    }
}

/// The database panics on some files that it has not written.
pub(super) fn guarded<T>(act: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
    catch_unwind(AssertUnwindSafe(act)).unwrap_or_else(|payload| {
        let words = payload.downcast_ref::<String>().map(String::as_str);
        let words = words.or_else(|| payload.downcast_ref::<&str>().copied());
        Err(Fault::Panicked(words.unwrap_or("the database gave up").to_owned()))
    })
}
