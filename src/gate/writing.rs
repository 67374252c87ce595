//! Whether what must be remembered can be written down. While it can't, sends wait in their lanes: a silence of then is nobody's answer.

use super::limits;
use super::reject::{Reason, Reject};
use super::time::Time;

/// What the store has said last.
#[derive(Debug, Default)]
pub struct Writing {
    /// Why nothing can be written now, and since when.
    trouble: Option<(String, Time)>,
    /// When that was over last.
    well_since: Option<Time>,
}

impl Writing {
    /// The store's word. `true`: it is well again after so long that some of what waited may have been given up.
    pub fn told(&mut self, now: Time, trouble: Option<String>) -> bool {
        let since = self.trouble.take().map(|(_, since)| since);
        self.trouble = trouble.map(|why| (why, since.unwrap_or(now)));
        match since {
            Some(since) if self.trouble.is_none() => {
                self.well_since = Some(now);
                now.since(since) >= limits::STORE_TROUBLE_LONG
            }
            _ => false,
        }
    }

    /// Whether it can't be written now.
    pub fn is_in_trouble(&self) -> bool {
        self.trouble.is_some()
    }

    /// Whether something handed over at `then` may have waited for the store instead of its peer.
    pub fn held_since(&self, then: Time) -> bool {
        self.is_in_trouble() || self.well_since.is_some_and(|at| at >= then)
    }

    /// Whether something may begin that must be remembered.
    pub fn may_begin(&self) -> Result<(), Reject> {
        match &self.trouble {
            None => Ok(()),
            Some((why, _)) => {
                Err(Reject::new(Reason::Overloaded, format!("what must be remembered can't be written down: {why}")))
            }
        }
    }
}
