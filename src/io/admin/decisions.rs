//! Decisions for who asks: the newest are at hand, older ones in the state store.

use crate::io::Edge;
use crate::io::store::{RING, plain_id};
use crate::io::telemetry::decisions::KEPT;
use serde::Deserialize;
use std::collections::HashSet;

/// The newest `limit` as JSON objects, newest first, from before this run too.
pub(super) async fn last(edge: &Edge, limit: usize) -> Result<Vec<String>, String> {
    let limit = limit.min(usize::try_from(RING).unwrap_or(usize::MAX));
    let mut all: Vec<String> =
        edge.telemetry.decisions().last(limit.min(KEPT)).iter().map(ToString::to_string).collect();
    if all.len() < limit
        && let Some(keeper) = edge.keeper.get()
    {
        // What is at hand is newer than what is kept, or the same.
        let known: HashSet<String> = all.iter().filter_map(|entry| id_of(entry)).collect();
        let kept = keeper.decisions(limit).await?;
        all.extend(kept.into_iter().filter(|entry| id_of(entry).is_none_or(|id| !known.contains(&id))));
        all.truncate(limit);
    }
    Ok(all)
}

/// One, by its ID, [however it is typed](plain_id).
pub(super) async fn find(edge: &Edge, id: &str) -> Result<Option<String>, String> {
    let id = plain_id(id);
    match (edge.telemetry.decisions().find(&id), edge.keeper.get()) {
        (Some(entry), _) => Ok(Some(entry.to_string())),
        (None, Some(keeper)) => keeper.decision(id).await,
        (None, None) => Ok(None),
    }
}

fn id_of(entry: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Named {
        id: String,
    }
    serde_json::from_str::<Named>(entry).ok().map(|named| named.id)
}
