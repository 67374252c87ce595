//! The unix socket: made so that it is never open to others, taken over from the dead, never from the living.

use std::fs::Permissions;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;

/// For another edge to take a connection.
const ANSWER: Duration = Duration::from_secs(1);

/// A socket's file, removed when this is dropped, unless it is another's by then.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    file: (u64, u64),
}

impl SocketFile {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|file| file == self.file) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Opens a socket that its owner alone may connect to (0600). `bind(2)` makes the file by the umask, which is the whole process's; so it is made
/// in a folder of its own (0700), where nobody else reaches it, given its mode there, and renamed to its place.
pub async fn bind(path: &Path) -> Result<(UnixListener, SocketFile), String> {
    let said = |what: String| format!("{}: {what}", path.display());
    vacate(path).await.map_err(said)?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folder = tempfile::Builder::new().prefix(".").permissions(Permissions::from_mode(0o700)).tempdir_in(parent);
    let folder = folder.map_err(|error| {
        let mend = "make the folder and let the edge's user write to it, or name another";
        said(format!("cannot make a socket in {}: {error}; {mend}", parent.display()))
    })?;
    // One letter: `config` has counted it.
    let made = folder.path().join("s");
    let place = || {
        let listener = UnixListener::bind(&made)?;
        std::fs::set_permissions(&made, Permissions::from_mode(0o600))?;
        let file = identity(&made)?;
        std::fs::rename(&made, path)?;
        Ok((listener, SocketFile { path: path.to_owned(), file }))
    };
    place().map_err(|error: io::Error| said(format!("cannot be made: {error}")))
}

/// Sees to it that what is at `path`, if anything, is a dead process's socket: `bind` replaces it.
async fn vacate(path: &Path) -> Result<(), String> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.to_string()),
        Ok(found) if !found.file_type().is_socket() => {
            return Err("there is a file that is no socket; remove it, or name another".to_owned());
        }
        Ok(_) => {}
    }
    match timeout(ANSWER, UnixStream::connect(path)).await {
        Ok(Err(error)) if matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::NotFound) => Ok(()),
        // A full queue of connections, or none taken in time: somebody is there.
        Ok(Ok(_)) | Err(_) => Err(USED.to_owned()),
        Ok(Err(error)) if error.kind() == ErrorKind::WouldBlock => Err(USED.to_owned()),
        Ok(Err(error)) => {
            Err(format!("there is a socket that can't be asked whose it is: {error}; remove it if nobody uses it"))
        }
    }
}

const USED: &str = "another edge uses it; stop that one, or name another socket";

/// Device and inode: which file it is, whatever its name.
fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let found = std::fs::symlink_metadata(path)?;
    Ok((found.dev(), found.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[tokio::test]
    async fn it_is_its_owners_alone_and_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        let (_listener, file) = bind(&path).await.unwrap();
        assert_eq!(std::fs::symlink_metadata(&path).unwrap().mode() & 0o7777, 0o600);
        assert_eq!(names(folder.path()), ["admin.sock"]);
        assert!(UnixStream::connect(&path).await.is_ok());
        drop(file);
        assert!(names(folder.path()).is_empty());
    }

    #[tokio::test]
    async fn the_dead_are_replaced_the_living_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "a dead process leaves its socket");
        let (listener, file) = bind(&path).await.unwrap();
        let error = bind(&path).await.unwrap_err();
        assert!(error.contains("admin.sock: another edge uses it"), "{error}");
        drop(listener);
        let (_listener, _later) = bind(&path).await.unwrap();
        drop(file);
        assert!(UnixStream::connect(&path).await.is_ok(), "who comes later keeps its own");
    }

    #[tokio::test]
    async fn no_file_of_anybody_is_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notes");
        std::fs::write(&path, "mine").unwrap();
        assert!(bind(&path).await.unwrap_err().contains("no socket"));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
        let error = bind(&folder.path().join("none/admin.sock")).await.unwrap_err();
        assert!(error.contains("none") && error.contains("make the folder"), "{error}");
    }
}
