//! Which sends wait for which records: what we acknowledge must be remembered first.

use crate::wire::address::Address;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

/// The order in which what goes out stands to what is kept. `io` holds a send back until the records kept before it *in its lane* are
/// committed; other lanes go on. Without a word a send would have to wait for everything, so each says where it belongs.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Lane {
    /// Waits for nothing: what it says holds without memory (a refusal, a ping, a message whose sender still waits for its answer).
    /// A record kept here holds back nothing but [`Lane::All`].
    Free,
    /// Between two addresses, both ways. Two pairs that share a number only wait for each other.
    Pair(u64),
    /// Waits for everything kept so far: an acknowledgement of all that came before it.
    All,
}

impl Lane {
    /// Of two addresses, whichever comes first.
    pub fn of(pair: &(Address, Address)) -> Self {
        let number = |address: &Address| {
            // Fixed keys: the same in every run. Who finds a collision makes two pairs wait for each other, no more.
            let mut hasher = DefaultHasher::new();
            address.hash(&mut hasher);
            hasher.finish()
        };
        Self::Pair(number(&pair.0).wrapping_add(number(&pair.1)))
    }
}
