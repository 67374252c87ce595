//! Deadlines as data: one time for each key, the next one asked for by `poll_timeout`.

use crate::gate::time::Time;
use std::collections::{BTreeMap, BTreeSet};

/// A set of deadlines, at most one for each key.
#[derive(Debug)]
pub struct Deadlines<K> {
    at: BTreeMap<K, Time>,
    queue: BTreeSet<(Time, K)>,
}

impl<K: Ord + Clone> Deadlines<K> {
    /// None.
    pub fn new() -> Self {
        Self { at: BTreeMap::new(), queue: BTreeSet::new() }
    }

    /// Sets or moves the deadline of `key`.
    pub fn set(&mut self, key: K, at: Time) {
        if let Some(old) = self.at.insert(key.clone(), at) {
            self.queue.remove(&(old, key.clone()));
        }
        self.queue.insert((at, key));
    }

    /// Removes it.
    pub fn cancel(&mut self, key: &K) {
        if let Some(old) = self.at.remove(key) {
            self.queue.remove(&(old, key.clone()));
        }
    }

    /// The earliest.
    pub fn next(&self) -> Option<Time> {
        self.queue.first().map(|(at, _)| *at)
    }

    /// Takes one that is due.
    pub fn pop_due(&mut self, now: Time) -> Option<K> {
        if self.next()? > now {
            return None;
        }
        let (_, key) = self.queue.pop_first()?;
        self.at.remove(&key);
        Some(key)
    }
}

impl<K: Ord + Clone> Default for Deadlines<K> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moved_deadline_fires_once_and_in_order() {
        let t = Time::from_unix_seconds;
        let mut deadlines = Deadlines::new();
        deadlines.set("a", t(10));
        deadlines.set("b", t(5));
        deadlines.set("a", t(3));
        deadlines.set("c", t(4));
        deadlines.cancel(&"c");
        assert_eq!(deadlines.next(), Some(t(3)));
        assert_eq!(deadlines.pop_due(t(2)), None);
        assert_eq!(deadlines.pop_due(t(20)), Some("a"));
        assert_eq!(deadlines.pop_due(t(20)), Some("b"));
        assert_eq!(deadlines.pop_due(t(20)), None);
    }
}
