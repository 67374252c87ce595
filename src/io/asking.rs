//! How many dialback keys may be under verification at a time (XEP-0220 §2.3): anybody may show a key in a partner's name, and each makes us
//! connect to that partner's server.

use crate::wire::address::Domain;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// In all.
const ALL: usize = 512;
/// At one domain's server: what it takes of us without counting us as an attacker, and no other domain's keys wait for.
const OF_DOMAIN: usize = 64;

/// The keys under verification, by the domain whose server is asked.
#[derive(Debug, Default)]
pub struct Asking(Arc<Mutex<HashMap<Domain, usize>>>);

/// Leave to ask once; given back when dropped.
#[derive(Debug)]
pub struct Leave {
    asked: Arc<Mutex<HashMap<Domain, usize>>>,
    domain: Domain,
}

impl Asking {
    /// Leave to ask this domain's server; `None`: too many are being asked.
    pub fn leave(&self, domain: &Domain) -> Option<Leave> {
        let mut asked = lock(&self.0);
        if asked.values().sum::<usize>() >= ALL {
            return None;
        }
        let count = asked.entry(domain.clone()).or_default();
        if *count >= OF_DOMAIN {
            return None;
        }
        *count += 1;
        Some(Leave { asked: Arc::clone(&self.0), domain: domain.clone() })
    }
}

impl Drop for Leave {
    fn drop(&mut self) {
        let mut asked = lock(&self.asked);
        if let Some(count) = asked.get_mut(&self.domain) {
            *count -= 1;
            if *count == 0 {
                asked.remove(&self.domain);
            }
        }
    }
}

fn lock(asked: &Mutex<HashMap<Domain, usize>>) -> MutexGuard<'_, HashMap<Domain, usize>> {
    asked.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_domain_and_all_of_them_are_bounded() {
        let asking = Asking::default();
        let domain = |number: usize| Domain::parse(&format!("d{number}.example")).unwrap();
        let mut held: Vec<Leave> = std::iter::from_fn(|| asking.leave(&domain(0))).collect();
        assert_eq!(held.len(), OF_DOMAIN);
        held.extend((1..=ALL).filter_map(|number| asking.leave(&domain(number))));
        assert_eq!(held.len(), ALL);
        drop(held);
        assert!(asking.leave(&domain(0)).is_some() && lock(&asking.0).is_empty());
    }
}
