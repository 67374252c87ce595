//! Whether what must be remembered can be written down. While it can't, sends wait in their lanes: a silence of then is nobody's answer.

use super::reject::{Reason, Reject};
use super::time::Time;

/// What the store has said last.
#[derive(Debug, Default)]
pub struct Writing {
    /// Why nothing can be written now.
    trouble: Option<String>,
    /// When that was over last.
    well_since: Option<Time>,
}

impl Writing {
    /// The store's word.
    pub fn told(&mut self, now: Time, trouble: Option<String>) {
        if trouble.is_none() && self.trouble.is_some() {
            self.well_since = Some(now);
        }
        self.trouble = trouble;
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
            Some(why) => {
                Err(Reject::new(Reason::Overloaded, format!("what must be remembered can't be written down: {why}")))
            }
        }
    }
}
