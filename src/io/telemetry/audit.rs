//! The audit file: one JSON object a line, appended.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::PathBuf;

/// An open audit file.
#[derive(Debug)]
pub struct Audit {
    path: PathBuf,
    file: File,
    failing: bool,
}

impl Audit {
    /// Opens or makes it; only its owner may read it.
    pub fn open(path: PathBuf) -> Result<Self, String> {
        let mut options = OpenOptions::new();
        options.create(true).append(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(&path).map_err(|error| format!("[log] audit {}: {error}", path.display()))?;
        Ok(Self { path, file, failing: false })
    }

    /// Opens the path anew, as after a rotation; if that fails, the old file goes on being written.
    pub fn reopen(&mut self) {
        match Self::open(self.path.clone()) {
            Ok(fresh) => *self = fresh,
            Err(error) => tracing::error!(error, "the audit file cannot be reopened; the one open before goes on"),
        }
    }

    /// Appends one entry, a JSON object on one line, in one write. A failure is said once, and once more when it is over.
    pub fn write(&mut self, entry: &str) {
        let line = format!("{entry}\n");
        match self.file.write_all(line.as_bytes()) {
            Ok(()) if self.failing => {
                self.failing = false;
                tracing::warn!(path = %self.path.display(), "the audit file can be written again");
            }
            Ok(()) => {}
            Err(error) if !self.failing => {
                self.failing = true;
                tracing::error!(path = %self.path.display(), %error, "the audit file cannot be written; decisions are missing from it");
            }
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn appends_a_line_an_entry_for_its_owner_only() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.jsonl");
        for entry in [json!({ "from": "a\nb" }), json!({ "id": 2 })] {
            Audit::open(path.clone()).unwrap().write(&entry.to_string());
        }
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, "{\"from\":\"a\\nb\"}\n{\"id\":2}\n", "no value can make a line of its own");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(Audit::open(dir.path().join("no/such/folder")).unwrap_err().contains("audit"));
    }

    #[test]
    fn a_rotated_file_is_left_for_a_new_one() {
        let dir = tempfile::tempdir().unwrap();
        let (path, old) = (dir.path().join("audit.jsonl"), dir.path().join("audit.jsonl.1"));
        let mut audit = Audit::open(path.clone()).unwrap();
        audit.write("1");
        std::fs::rename(&path, &old).unwrap();
        audit.write("2");
        audit.reopen();
        audit.write("3");
        assert_eq!(std::fs::read_to_string(&old).unwrap(), "1\n2\n");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "3\n");
    }

    #[test]
    fn a_full_disk_is_no_panic() {
        let path = PathBuf::from("/dev/full");
        if path.exists() {
            let mut audit = Audit::open(path).unwrap();
            audit.write("{}");
            audit.write("{}");
            assert!(audit.failing);
        }
    }
}
