//! Who has a store: a lock on `PATH.lock` beside it. The store's own lock does not say it: an engine that failed has closed its file and
//! opens it again at the next use, and an import puts another file in its place.

use super::error::StoreError;
use std::ffi::OsString;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Until this is dropped or the process ends, however it ends. The file stays: it says nothing by being there.
#[derive(Debug)]
pub(super) struct Lock(#[expect(dead_code, reason = "the lock goes with the file")] File);

impl Lock {
    /// Of the one who writes. The file is made (mode 0600) in a folder that is there.
    pub(super) fn exclusive(store: &Path) -> Result<Self, StoreError> {
        let beside = beside(store);
        // Nothing is written to it, but some file systems lock exclusively only what may be written.
        let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&beside);
        let file = open.map_err(|error| failed(store, &beside, &error))?;
        match file.try_lock() {
            Ok(()) => Ok(Self(file)),
            Err(error) => Err(refused(store, &beside, error)),
        }
    }

    /// Of those who only look. `None` where there is no such file: nobody writes then, and a look makes nothing.
    pub(super) fn shared(store: &Path) -> Result<Option<Self>, StoreError> {
        let beside = beside(store);
        let file = match File::open(&beside) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(store, &beside, &error)),
        };
        match file.try_lock_shared() {
            Ok(()) => Ok(Some(Self(file))),
            Err(error) => Err(refused(store, &beside, error)),
        }
    }
}

fn beside(store: &Path) -> PathBuf {
    let mut name = OsString::from(store);
    name.push(".lock");
    name.into()
}

fn refused(store: &Path, beside: &Path, error: TryLockError) -> StoreError {
    match error {
        TryLockError::WouldBlock => StoreError::Locked { path: store.to_owned() },
        TryLockError::Error(error) => failed(store, beside, &error),
    }
}

fn failed(store: &Path, beside: &Path, error: &io::Error) -> StoreError {
    StoreError::system(store, &io::Error::new(error.kind(), format!("{}: {error}", beside.display())))
}
