//! The audit file: one JSON object a line, appended.

use serde_json::Value;
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

    /// Appends one entry in one write. A failure is said once, and once more when it is over.
    pub fn write(&mut self, entry: &Value) {
        let mut line = entry.to_string();
        line.push('\n');
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
