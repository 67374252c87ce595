//! Decisions that were made: asked of the running edge, or read from its state store if none runs; one by its ID is then looked for in its
//! audit file.

use super::admin::{self, Desk, Failure, Purpose, SOON};
use crate::config::Loaded;
use crate::config::edge::State;
use crate::io::store::{Embedded, RING, Store, StoreError, plain_id};
use hyper::{Method, StatusCode};
use serde_json::Value;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::time::Duration;

/// For all of them.
const WITHIN: Duration = Duration::from_secs(30);

/// One, by its ID, however it is typed.
pub fn one(config: Option<&Path>, id: &str) -> Result<Option<Value>, String> {
    let id = plain_id(id);
    if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Err(format!("{id:?} is no ID; it looks like 7ZQ4M0T1XK, as in the reply, the log and the audit"));
    }
    let mut trouble = Vec::new();
    match ask(config, &format!("/api/decisions/{id}"), SOON) {
        Ok(Some(answer)) if answer.status == StatusCode::NOT_FOUND => {}
        Ok(Some(answer)) => match answer.json(&[StatusCode::OK]) {
            Ok(decision) => return Ok(Some(decision)),
            Err(error) => trouble.push(error),
        },
        Ok(None) => match in_store(&read(config)?, &id) {
            Ok(None) => {}
            Ok(found) => return Ok(found),
            Err(error) => trouble.push(error),
        },
        Err(error) => trouble.push(error),
    }
    // The audit goes back further than any ring, and needs no edge.
    match read(config).and_then(|loaded| in_audit(&loaded, &id)) {
        Ok(None) => {}
        Ok(found) => return Ok(found),
        Err(error) => trouble.push(error),
    }
    if trouble.is_empty() { Ok(None) } else { Err(trouble.join("\n")) }
}

fn in_store(loaded: &Loaded, id: &str) -> Result<Option<Value>, String> {
    let Some(store) = look(loaded)? else { return Ok(None) };
    let Some(entry) = store.decision(id).map_err(|error| error.to_string())? else { return Ok(None) };
    serde_json::from_str(&entry).map(Some).map_err(|error| format!("the state store: {error}"))
}

/// All that are remembered, oldest first.
pub fn all(config: Option<&Path>) -> Result<Vec<Value>, String> {
    let mut all: Vec<Value> = match ask(config, &format!("/api/decisions?limit={RING}"), WITHIN)? {
        Some(answer) => match answer.json(&[StatusCode::OK])? {
            Value::Array(all) => all,
            _ => return Err("what answers at [admin] is no fedgate of this version".to_owned()),
        },
        None => match look(&read(config)?)? {
            Some(store) => {
                let all = store.decisions(usize::try_from(RING).unwrap_or(usize::MAX));
                let all = all.map_err(|error| error.to_string())?;
                all.iter().filter_map(|entry| serde_json::from_str(entry).ok()).collect()
            }
            None => Vec::new(),
        },
    };
    all.reverse();
    Ok(all)
}

/// `None`: no edge runs that could be asked.
fn ask(config: Option<&Path>, path: &str, within: Duration) -> Result<Option<admin::Answer>, String> {
    let Ok(desk) = Desk::of(config, Purpose::Read) else { return Ok(None) };
    let asked = desk.ask(Method::GET, path, within);
    admin::block_on(async {
        match asked.await {
            Ok(answer) => Ok(Some(answer)),
            Err(Failure::Gone(_)) => Ok(None),
            Err(Failure::Silent(error)) => Err(error),
        }
    })
}

fn read(config: Option<&Path>) -> Result<Loaded, String> {
    super::load(config).map_err(|problems| super::problems_text(&problems))
}

/// Without changing it. `None`: there is no store, or none yet.
fn look(loaded: &Loaded) -> Result<Option<Embedded>, String> {
    let State::Embedded { path } = &loaded.edge.state else { return Ok(None) };
    if path.try_exists().is_ok_and(|exists| !exists) {
        return Ok(None);
    }
    match Embedded::look(path) {
        Ok(store) => Ok(Some(store)),
        Err(StoreError::Locked { .. }) => Err(format!(
            "{} is in use by an edge that [admin] of this file does not lead to; ask by the file that the edge was started with",
            path.display()
        )),
        Err(error) => Err(error.to_string()),
    }
}

/// The last entry with this ID.
fn in_audit(loaded: &Loaded, id: &str) -> Result<Option<Value>, String> {
    let Some(audit) = &loaded.edge.log.audit else { return Ok(None) };
    let failed = |error: std::io::Error| format!("[log] audit {}: {error}", audit.display());
    let file = match File::open(audit) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mut found = None;
    for line in BufReader::new(file).lines() {
        let line = line.map_err(failed)?;
        if line.contains(id)
            && let Ok(entry) = serde_json::from_str::<Value>(&line)
            && entry["id"] == *id
        {
            found = Some(entry);
        }
    }
    Ok(found)
}
