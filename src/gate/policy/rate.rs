//! Budgets: how fast each partner may go. Token buckets of `governor`, driven by the gate's own clock.

use crate::gate::limits;
use crate::gate::partner::Budget;
use crate::gate::reject::{Reason, Reject};
use crate::gate::time::Time;
use crate::wire::address::Address;
use governor::clock::{Clock, Reference};
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use serde::{Deserialize, Serialize};
use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What `targets_per_hour` counts by.
const HOUR: Duration = Duration::from_secs(3600);

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
    /// Who was addressed this hour, as numbers.
    targets: BTreeSet<u64>,
}

/// What is kept of a partner's budget: a restart gives nobody a new hour.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct KeptBudget {
    label: String,
    hour_began_unix_nanos: u64,
    /// At most [`limits::KEPT_TARGETS`] of them.
    targets: Vec<u64>,
}

impl KeptBudget {
    /// Its record's name.
    pub fn name(&self) -> String {
        format!("budget {}", self.label)
    }
}

/// A clock that the gate sets.
#[derive(Debug, Clone, Default)]
struct GateClock(Arc<AtomicU64>);

/// A point on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Instant(u64);

impl Rates {
    /// Spends one request of a partner's budget. What must be kept of it now, if anything.
    pub fn spend(
        &mut self,
        now: Time,
        label: &str,
        budget: &Budget,
        target: &Address,
    ) -> Result<Option<KeptBudget>, Reject> {
        self.clock.0.store(now.unix_nanos(), Ordering::Relaxed);
        if self.buckets.get(label).is_none_or(|bucket| bucket.per_second != budget.messages_per_second) {
            let quota = Quota::per_second(NonZeroU32::new(budget.messages_per_second).unwrap_or(NonZeroU32::MIN));
            let limiter = RateLimiter::direct_with_clock(quota, self.clock.clone());
            let (hour_began, targets) = match self.buckets.remove(label) {
                Some(bucket) => (bucket.hour_began, bucket.targets),
                None => (now, BTreeSet::new()),
            };
            let bucket = Bucket { per_second: budget.messages_per_second, limiter, hour_began, targets };
            self.buckets.insert(label.to_owned(), bucket);
        }
        let Some(bucket) = self.buckets.get_mut(label) else { return Ok(None) };
        if bucket.limiter.check().is_err() {
            return Err(Reject::new(
                Reason::RateLimited,
                format!(
                    "{label} is over {} requests a second, its limits.messages_per_second",
                    budget.messages_per_second
                ),
            ));
        }
        let Some(targets_max) = budget.targets_per_hour else { return Ok(None) };
        if now.since(bucket.hour_began) >= HOUR {
            bucket.hour_began = now;
            bucket.targets.clear();
        }
        let target = number(target);
        if !bucket.targets.contains(&target) {
            if bucket.targets.len() >= targets_max as usize {
                return Err(Reject::new(
                    Reason::RateLimited,
                    format!("{label} has addressed {targets_max} users this hour, its limits.targets_per_hour"),
                ));
            }
            bucket.targets.insert(target);
            if bucket.targets.len() <= limits::KEPT_TARGETS {
                return Ok(Some(KeptBudget {
                    label: label.to_owned(),
                    hour_began_unix_nanos: bucket.hour_began.unix_nanos(),
                    targets: bucket.targets.iter().copied().collect(),
                }));
            }
        }
        Ok(None)
    }

    /// Takes a kept budget back after a restart. `false`: its hour is over.
    pub fn restore(&mut self, now: Time, kept: KeptBudget) -> bool {
        let hour_began = Time::from_unix_nanos(kept.hour_began_unix_nanos);
        if now.since(hour_began) >= HOUR {
            return false;
        }
        let limiter = RateLimiter::direct_with_clock(Quota::per_second(NonZeroU32::MIN), self.clock.clone());
        // The limiter is made anew at the first request, by the budget of then.
        let bucket = Bucket { per_second: 0, limiter, hour_began, targets: kept.targets.into_iter().collect() };
        self.buckets.insert(kept.label, bucket);
        true
    }

    /// Settings changed: budgets of partners that are gone are dropped.
    pub fn retain(&mut self, labels: &BTreeSet<&str>) {
        self.buckets.retain(|label, _| labels.contains(label.as_str()));
    }
}

/// Who finds two addresses of one number may address both for one; that is all.
fn number(target: &Address) -> u64 {
    let mut hasher = DefaultHasher::new();
    target.hash(&mut hasher);
    hasher.finish()
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

    fn to(local: &str) -> Address {
        crate::wire::address::Jid::parse(&format!("{local}@corp.example")).unwrap().bare
    }

    #[test]
    fn a_restart_gives_nobody_a_new_hour() {
        let (mut rates, start) = (Rates::default(), Time::from_unix_seconds(10_000));
        rates.spend(start, "a", &budget(), &to("x")).unwrap();
        let kept = rates.spend(start, "a", &budget(), &to("y")).unwrap().unwrap();
        assert_eq!(rates.spend(start, "a", &budget(), &to("y")), Ok(None), "known already");
        let mut after = Rates::default();
        assert!(after.restore(start, kept.clone()));
        assert!(after.spend(start, "a", &budget(), &to("z")).is_err());
        assert!(after.spend(start, "a", &budget(), &to("x")).is_ok());
        assert!(!Rates::default().restore(start + HOUR, kept));
    }

    #[test]
    fn a_budget_is_spent_and_comes_back() {
        let (mut rates, start) = (Rates::default(), Time::from_unix_seconds(1_000));
        for _ in 0..5 {
            assert!(rates.spend(start, "a", &budget(), &to("x")).is_ok());
        }
        let refused = rates.spend(start, "a", &budget(), &to("x"));
        assert_eq!(refused.map_err(|r| r.reason), Err(Reason::RateLimited));
        assert!(rates.spend(start, "b", &budget(), &to("x")).is_ok(), "each partner has its own");
        assert!(rates.spend(start + Duration::from_secs(1), "a", &budget(), &to("x")).is_ok());
    }

    #[test]
    fn distinct_targets_are_counted_by_the_hour() {
        let (mut rates, start) = (Rates::default(), Time::from_unix_seconds(1_000));
        assert!(rates.spend(start, "a", &budget(), &to("x")).is_ok());
        assert!(rates.spend(start, "a", &budget(), &to("y")).is_ok());
        assert!(rates.spend(start, "a", &budget(), &to("x")).is_ok());
        assert!(rates.spend(start, "a", &budget(), &to("z")).is_err());
        assert!(rates.spend(start + Duration::from_secs(3600), "a", &budget(), &to("z")).is_ok());
    }
}
