//! Where configuration is read from: files on disk, or texts built into the program laid over them (the demo).

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

/// Files below the folder of the config file.
#[derive(Debug, Clone)]
pub struct Files {
    base: PathBuf,
    embedded: BTreeMap<PathBuf, String>,
}

impl Files {
    /// On disk.
    pub fn on_disk(base: PathBuf) -> Self {
        Self { base, embedded: BTreeMap::new() }
    }

    /// Texts by relative path; what isn't among them is looked for on disk below `base`.
    pub fn embedded<'a>(base: PathBuf, texts: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut files = Self::on_disk(base);
        for (path, text) in texts {
            let path = files.resolve(path);
            files.embedded.insert(path, text.to_owned());
        }
        files
    }

    /// The folder that relative paths are relative to.
    pub fn base(&self) -> &Path {
        &self.base
    }

    /// A path as typed, made relative to where the program runs.
    pub fn resolve(&self, typed: &str) -> PathBuf {
        self.base.join(typed).components().filter(|component| *component != Component::CurDir).collect()
    }

    /// A file's bytes.
    pub fn read(&self, path: &Path) -> Result<Vec<u8>, String> {
        match self.embedded.get(path) {
            Some(text) => Ok(text.clone().into_bytes()),
            None => std::fs::read(path).map_err(|error| words(&error)),
        }
    }

    /// A file's text.
    pub fn read_text(&self, path: &Path) -> Result<String, String> {
        String::from_utf8(self.read(path)?).map_err(|_| "is not UTF-8 text".to_owned())
    }

    /// The `*.toml` files of a folder, in name order.
    pub fn list_toml(&self, folder: &Path) -> Result<Vec<PathBuf>, String> {
        let is_toml = |path: &Path| {
            let hidden = path.file_name().is_none_or(|name| name.to_string_lossy().starts_with('.'));
            !hidden && path.extension().is_some_and(|extension| extension == "toml")
        };
        let mut found: Vec<PathBuf> =
            self.embedded.keys().filter(|path| path.parent() == Some(folder) && is_toml(path)).cloned().collect();
        if found.is_empty() {
            for entry in std::fs::read_dir(folder).map_err(|error| words(&error))? {
                let path = entry.map_err(|error| words(&error))?.path();
                if is_toml(&path) {
                    found.push(path);
                }
            }
        }
        found.sort();
        Ok(found)
    }
}

/// An I/O error without its number.
pub fn words(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "does not exist".to_owned(),
        std::io::ErrorKind::PermissionDenied => "may not be read".to_owned(),
        std::io::ErrorKind::IsADirectory => "is a folder".to_owned(),
        _ => error.to_string(),
    }
}
