//! Budgets: how fast each partner may go. Token buckets of `governor`, driven by the gate's own clock.

use crate::gate::partner::Budget;
use crate::gate::reject::{Reason, Reject};
use crate::gate::time::Time;
use governor::clock::{Clock, Reference};
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The budgets of all partners, by label.
#[derive(Debug, Default)]
pub struct Rates {
    clock: GateClock,
    buckets: BTreeMap<String, Bucket>,
}

#[derive(Debug)]
struct Bucket {
    per_second: u32,
    limiter: RateLimiter<NotKeyed, InMemoryState, GateClock, NoOpMiddleware<Instant>>,
    hour_began: Time,
    targets: BTreeSet<String>,
}

/// A clock that the gate sets.
#[derive(Debug, Clone, Default)]
struct GateClock(Arc<AtomicU64>);

/// A point on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Instant(u64);

impl Rates {
    /// Spends one request of a partner's budget.
    pub fn spend(&mut self, now: Time, label: &str, budget: &Budget, target: &str) -> Result<(), Reject> {
        self.clock.0.store(now.unix_nanos(), Ordering::Relaxed);
        if self.buckets.get(label).is_none_or(|bucket| bucket.per_second != budget.messages_per_second) {
            let quota = Quota::per_second(NonZeroU32::new(budget.messages_per_second).unwrap_or(NonZeroU32::MIN));
            let limiter = RateLimiter::direct_with_clock(quota, self.clock.clone());
            let bucket =
                Bucket { per_second: budget.messages_per_second, limiter, hour_began: now, targets: BTreeSet::new() };
            self.buckets.insert(label.to_owned(), bucket);
        }
        let Some(bucket) = self.buckets.get_mut(label) else { return Ok(()) };
        if bucket.limiter.check().is_err() {
            return Err(Reject::new(
                Reason::RateLimited,
                format!(
                    "{label} is over {} requests a second, its limits.messages_per_second",
                    budget.messages_per_second
                ),
            ));
        }
        let Some(targets_max) = budget.targets_per_hour else { return Ok(()) };
        if now.since(bucket.hour_began) >= Duration::from_secs(3600) {
            bucket.hour_began = now;
            bucket.targets.clear();
        }
        if !bucket.targets.contains(target) {
            if bucket.targets.len() >= targets_max as usize {
                return Err(Reject::new(
                    Reason::RateLimited,
                    format!("{label} has addressed {targets_max} users this hour, its limits.targets_per_hour"),
                ));
            }
            bucket.targets.insert(target.to_owned());
        }
        Ok(())
    }

    /// Settings changed: budgets of partners that are gone are dropped.
    pub fn retain(&mut self, labels: &BTreeSet<&str>) {
        self.buckets.retain(|label, _| labels.contains(label.as_str()));
    }
}

impl Clock for GateClock {
    type Instant = Instant;
    fn now(&self) -> Instant {
        Instant(self.0.load(Ordering::Relaxed))
    }
}

impl std::ops::Add<Nanos> for Instant {
    type Output = Instant;
    fn add(self, nanos: Nanos) -> Instant {
        Instant(self.0.saturating_add(nanos.as_u64()))
    }
}

impl Reference for Instant {
    fn duration_since(&self, earlier: Self) -> Nanos {
        Nanos::new(self.0.saturating_sub(earlier.0))
    }
    fn saturating_sub(&self, duration: Nanos) -> Self {
        Instant(self.0.saturating_sub(duration.as_u64()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget() -> Budget {
        Budget { messages_per_second: 5, subscriptions: 1, links: 1, body_bytes: 1, targets_per_hour: Some(2) }
    }

    #[test]
    fn a_budget_is_spent_and_comes_back() {
        let (mut rates, start) = (Rates::default(), Time::from_unix_seconds(1_000));
        for _ in 0..5 {
            assert!(rates.spend(start, "a", &budget(), "x").is_ok());
        }
        let refused = rates.spend(start, "a", &budget(), "x");
        assert_eq!(refused.map_err(|r| r.reason), Err(Reason::RateLimited));
        assert!(rates.spend(start, "b", &budget(), "x").is_ok(), "each partner has its own");
        assert!(rates.spend(start + Duration::from_secs(1), "a", &budget(), "x").is_ok());
    }

    #[test]
    fn distinct_targets_are_counted_by_the_hour() {
        let (mut rates, start) = (Rates::default(), Time::from_unix_seconds(1_000));
        assert!(rates.spend(start, "a", &budget(), "x").is_ok());
        assert!(rates.spend(start, "a", &budget(), "y").is_ok());
        assert!(rates.spend(start, "a", &budget(), "x").is_ok());
        assert!(rates.spend(start, "a", &budget(), "z").is_err());
        assert!(rates.spend(start + Duration::from_secs(3600), "a", &budget(), "z").is_ok());
    }
}
