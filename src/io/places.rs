//! Places for outside connections that have not proven themselves yet. There are only so many; when all are taken, one is taken from whoever
//! has used it least, so that nobody shuts others out by holding places and saying nothing.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// Outside connections of one protocol that may be between accept and proof…
const UNPROVEN: usize = 1_024;
/// …and those of one address block: who opens many and says little on each leaves room for others.
const UNPROVEN_PER_BLOCK: usize = 256;
/// So many more of one block make it more of a crowd: places are taken from the largest crowd first, whoever is in it. Fewer are what a server
/// that comes back with several streams may have.
const CROWD: usize = 4;

/// A /24 of IPv4, a /64 of IPv6.
pub type Block = [u8; 8];

/// From whom a place is taken first: the time of arrival, later for who has said something, and then the order of arrival.
type Rank = (Instant, u64);

/// The places of one protocol.
#[derive(Debug, Default)]
pub struct Places(Arc<Mutex<Pool>>);

#[derive(Debug, Default)]
struct Pool {
    arrivals: u64,
    taken: usize,
    /// Whoever holds the place hears that it is lost when the other end is dropped.
    blocks: HashMap<Block, BTreeMap<Rank, oneshot::Sender<Infallible>>>,
    /// How much of a crowd a block is, and the rank of its first; one entry a block.
    crowds: BTreeSet<(usize, Reverse<Rank>, Block)>,
}

/// What a connection has said so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Said {
    /// Not a byte.
    Nothing,
    /// Something.
    Something,
    /// It has done a TLS handshake, which costs it as much as us.
    Secured,
}

/// One place; given back when dropped.
#[derive(Debug)]
pub struct Place {
    pool: Arc<Mutex<Pool>>,
    block: Block,
    since: Instant,
    rank: Rank,
    said: Said,
    kept: oneshot::Receiver<Infallible>,
    is_lost: bool,
}

/// The block of an address.
pub fn block(address: IpAddr) -> Block {
    let mut key = [0; 8];
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            // No global IPv6 block begins with ff…ff.
            key = [0xff; 8];
            key[5..].copy_from_slice(&v4.octets()[..3]);
        }
        IpAddr::V6(v6) => key.copy_from_slice(&v6.octets()[..8]),
    }
    key
}

impl Said {
    /// By how much younger it counts. In a flood of so many connections a second that a place is not held for as long, it does not help; nor
    /// does it help to say much and prove nothing for longer than this.
    fn grace(self) -> Duration {
        match self {
            Said::Nothing => Duration::ZERO,
            Said::Something => Duration::from_secs(2),
            Said::Secured => Duration::from_secs(10),
        }
    }
}

impl Places {
    /// A place for a connection from this address, perhaps one that another loses.
    pub fn take(&self, peer: IpAddr) -> Place {
        self.take_at(peer, Instant::now())
    }

    fn take_at(&self, peer: IpAddr, since: Instant) -> Place {
        let block = block(peer);
        let (keeps, kept) = oneshot::channel();
        let mut pool = lock(&self.0);
        if pool.count(&block) >= UNPROVEN_PER_BLOCK {
            pool.make_room(block);
        } else if pool.taken >= UNPROVEN
            && let Some(&(_, _, crowded)) = pool.crowds.last()
        {
            pool.make_room(crowded);
        }
        pool.arrivals += 1;
        let rank = (since, pool.arrivals);
        pool.insert(block, rank, keeps);
        drop(pool);
        Place { pool: Arc::clone(&self.0), block, since, rank, said: Said::Nothing, kept, is_lost: false }
    }
}

#[cfg(test)]
impl Places {
    /// How many are taken.
    pub fn taken(&self) -> usize {
        lock(&self.0).taken
    }
}

impl Pool {
    fn count(&self, block: &Block) -> usize {
        self.blocks.get(block).map_or(0, BTreeMap::len)
    }

    /// The first of this block loses its place.
    fn make_room(&mut self, block: Block) {
        let first = self.blocks.get(&block).and_then(|places| places.keys().next().copied());
        if let Some(first) = first {
            self.remove(block, first);
        }
    }

    fn insert(&mut self, block: Block, rank: Rank, keeps: oneshot::Sender<Infallible>) {
        self.change(block, |places| places.insert(rank, keeps));
        self.taken += 1;
    }

    fn remove(&mut self, block: Block, rank: Rank) -> Option<oneshot::Sender<Infallible>> {
        let removed = self.change(block, |places| places.remove(&rank));
        self.taken -= usize::from(removed.is_some());
        removed
    }

    /// Changes a block's places, and its entry among the crowds.
    fn change<T>(
        &mut self,
        block: Block,
        how: impl FnOnce(&mut BTreeMap<Rank, oneshot::Sender<Infallible>>) -> T,
    ) -> T {
        let places = self.blocks.entry(block).or_default();
        let crowd = |places: &BTreeMap<Rank, _>| {
            places.keys().next().map(|first| (places.len() / CROWD, Reverse(*first), block))
        };
        if let Some(before) = crowd(places) {
            self.crowds.remove(&before);
        }
        let outcome = how(places);
        match crowd(places) {
            Some(after) => drop(self.crowds.insert(after)),
            None => drop(self.blocks.remove(&block)),
        }
        outcome
    }
}

impl Place {
    /// It has said so much; what it had said before is forgotten.
    pub fn says(&mut self, said: Said) {
        if said <= self.said || self.is_lost {
            return;
        }
        self.said = said;
        let mut pool = lock(&self.pool);
        if let Some(keeps) = pool.remove(self.block, self.rank) {
            self.rank.0 = self.since + said.grace();
            pool.insert(self.block, self.rank, keeps);
        }
    }

    /// Whether somebody has heard that it is lost.
    pub fn is_lost(&self) -> bool {
        self.is_lost
    }
}

/// Ends when the place is lost, if there is one. Dropping the future loses nothing.
pub async fn lost(place: &mut Option<Place>) {
    match place {
        Some(place) if place.is_lost => {}
        Some(place) => {
            let _ = (&mut place.kept).await;
            place.is_lost = true;
        }
        None => std::future::pending().await,
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Nobody else has its rank, so that it takes nothing from who came instead.
        lock(&self.pool).remove(self.block, self.rank);
    }
}

fn lock(pool: &Mutex<Pool>) -> MutexGuard<'_, Pool> {
    pool.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn address(block: usize) -> IpAddr {
        IpAddr::from([10, (block >> 8) as u8, block as u8, 1])
    }

    fn is_lost(place: &mut Place) -> bool {
        place.is_lost |= place.kept.try_recv() == Err(oneshot::error::TryRecvError::Closed);
        place.is_lost
    }

    fn which_are_lost(places: &mut [Place]) -> Vec<usize> {
        places.iter_mut().enumerate().filter_map(|(index, place)| is_lost(place).then_some(index)).collect()
    }

    fn is_empty(places: &Places) -> bool {
        let pool = lock(&places.0);
        pool.taken == 0 && pool.blocks.is_empty() && pool.crowds.is_empty()
    }

    #[test]
    fn the_oldest_that_has_said_least_makes_room() {
        let (places, begun) = (Places::default(), Instant::now());
        let after = |milliseconds| begun + Duration::from_millis(milliseconds);
        let mut held: Vec<Place> = (0..UNPROVEN).map(|n| places.take_at(address(n), after(0))).collect();
        held[0].says(Said::Something);
        held[1].says(Said::Secured);
        held[1].says(Said::Something);
        assert_eq!(which_are_lost(&mut held), [0; 0]);
        let mut good = places.take_at(address(UNPROVEN), after(1));
        assert_eq!(which_are_lost(&mut held), [2]);
        // Of those that said nothing, the good one is the youngest.
        let fill = |count, from, at| (0..count).map(|n| places.take_at(address(from + n), at)).collect::<Vec<_>>();
        let mut more = fill(UNPROVEN - 3, 5_000, after(1));
        assert_eq!(which_are_lost(&mut held), (2..UNPROVEN).collect::<Vec<_>>());
        assert!(!is_lost(&mut good));
        // Having spoken is no right to stay: whoever comes two seconds later counts as much.
        good.says(Said::Something);
        more.extend(fill(UNPROVEN - 1, 10_000, after(2_000)));
        assert_eq!(which_are_lost(&mut held[..2]), [0]);
        assert!(!is_lost(&mut good), "its TLS is due");
        good.says(Said::Secured);
        more.extend(fill(UNPROVEN, 20_000, after(9_900)));
        assert_eq!(which_are_lost(&mut held[..2]), [0]);
        assert!(!is_lost(&mut good), "its proof is due");
        more.extend(fill(UNPROVEN, 30_000, after(10_100)));
        assert!(is_lost(&mut held[1]) && is_lost(&mut good), "nor has who did TLS");
        assert_eq!(places.taken(), UNPROVEN);
        drop((held, good, more));
        assert!(is_empty(&places), "nothing is remembered of who is gone");
    }

    #[test]
    fn a_crowd_makes_room_before_others() {
        let places = Places::default();
        let mut good = places.take(address(0));
        let crowds: Vec<Place> = (0..UNPROVEN * 8).map(|number| places.take(address(1 + number % 128))).collect();
        assert!(!is_lost(&mut good), "eight in each of 128 blocks are crowds");
        drop(crowds);
        assert_eq!(places.taken(), 1);
    }

    #[test]
    fn one_block_leaves_places_for_others() {
        let places = Places::default();
        let mut good = places.take(address(0));
        let mut crowd: Vec<Place> = (0..UNPROVEN * 2).map(|_| places.take(address(1))).collect();
        assert_eq!(
            which_are_lost(&mut crowd),
            (0..UNPROVEN * 2 - UNPROVEN_PER_BLOCK).collect::<Vec<_>>(),
            "the last one of a block gets in, too"
        );
        assert!(!is_lost(&mut good));
        drop((good, crowd));
        assert!(is_empty(&places));
    }

    #[derive(Debug, Clone)]
    enum Step {
        Take(usize),
        Say(usize, Said),
        Leave(usize),
    }

    proptest! {
        /// Whatever comes and goes: the bounds hold, and the tables say what is there.
        #[test]
        fn the_tables_agree(steps in prop::collection::vec(prop_oneof![
            4 => (0..6_usize).prop_map(|n| Step::Take(n * n)),
            1 => (any::<usize>(), prop::sample::select(vec![Said::Something, Said::Secured])).prop_map(|(n, s)| Step::Say(n, s)),
            1 => any::<usize>().prop_map(Step::Leave),
        ], 0..3_000)) {
            let places = Places::default();
            let mut held = Vec::new();
            for step in steps {
                match step {
                    Step::Take(block) => held.push(places.take(address(block))),
                    Step::Say(..) | Step::Leave(_) if held.is_empty() => {}
                    Step::Say(which, said) => { let which = which % held.len(); held[which].says(said) }
                    Step::Leave(which) => drop(held.swap_remove(which % held.len())),
                }
                let pool = lock(&places.0);
                prop_assert!(pool.taken <= UNPROVEN && pool.crowds.len() == pool.blocks.len());
                prop_assert_eq!(pool.taken, pool.blocks.values().map(BTreeMap::len).sum::<usize>());
                prop_assert!(pool.blocks.values().all(|block| (1..=UNPROVEN_PER_BLOCK).contains(&block.len())));
            }
            drop(held);
            prop_assert!(is_empty(&places));
        }
    }
}
