//! What the loop has for a link, and the link's end of it. Bounded by what it weighs: a peer that takes nothing fills its own queue only.

use crate::gate::{Path, Time};
use crate::wire::xmpp::StreamError;
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, oneshot};

/// What may wait for one link, in bytes; beyond, the link is ended. One commit may release, or one second make due, what all watchers of a
/// partner are told, so it is room for some 30,000 NOTIFYs.
pub const WAITING: usize = 32 * 1024 * 1024;
/// What may wait while the peer is still listened to: who asks and does not read the answers fills no more.
const LONG: usize = 1024 * 1024;
/// Orders for which there is room while none waits.
const SPARE: usize = 8;
/// What an order weighs beside its bytes.
const WEIGHT: usize = 128;

/// What a link is to do.
#[derive(Debug)]
pub enum Order {
    /// Write these bytes.
    Send {
        /// One message or stanza.
        bytes: Bytes,
        /// For `transit_seconds`.
        transit: Option<(Time, Path)>,
        /// Comes back when the other end has acknowledged it (XEP-0198).
        receipt: Option<u64>,
    },
    /// Flush and close.
    Close(Option<(StreamError, String)>),
}

/// The loop's end of a link.
#[derive(Debug)]
pub struct Handle {
    shared: LetGo,
    kill: oneshot::Sender<String>,
}

/// A link's end of its handle.
#[derive(Debug)]
pub struct Orders {
    /// In order.
    pub queue: Queue,
    /// Ends the link at once, with this cause.
    pub kill: oneshot::Receiver<String>,
}

/// See [`Orders`].
#[derive(Debug)]
pub struct Queue {
    shared: Arc<Shared>,
    /// What was taken from there at once, and is given out one by one.
    taken: VecDeque<Order>,
}

/// Says so when it is dropped.
#[derive(Debug)]
struct LetGo(Arc<Shared>);

/// What both ends see. A channel would set room aside for orders that an idle link never gets.
#[derive(Debug, Default)]
struct Shared {
    orders: Mutex<Waiting>,
    /// What they weigh.
    weight: AtomicUsize,
    wake: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    orders: VecDeque<Order>,
    /// The loop has let go of the link.
    is_over: bool,
}

/// Too much waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overfull;

/// Both ends of a link.
pub fn pair() -> (Handle, Orders) {
    let (kill, killed) = oneshot::channel();
    let shared = Arc::<Shared>::default();
    let handle = Handle { shared: LetGo(Arc::clone(&shared)), kill };
    (handle, Orders { queue: Queue { shared, taken: VecDeque::new() }, kill: killed })
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Order {
    /// What it counts for the bounds.
    pub fn weight(&self) -> usize {
        let bytes = match self {
            Self::Send { bytes, .. } => bytes.len(),
            Self::Close(_) => 0,
        };
        bytes + WEIGHT
    }
}

impl Handle {
    /// In order, unless too much waits already. A link that has ended takes it, too: it will say so itself.
    pub fn give(&self, order: Order) -> Result<(), Overfull> {
        let weight = order.weight();
        let shared = &self.shared.0;
        if shared.weight.load(Ordering::Relaxed) + weight > WAITING {
            return Err(Overfull);
        }
        shared.weight.fetch_add(weight, Ordering::Relaxed);
        let mut waiting = shared.lock();
        let is_first = waiting.orders.is_empty();
        waiting.orders.push_back(order);
        drop(waiting);
        // Whoever waits has found none; he was told of the first.
        if is_first {
            shared.wake.notify_one();
        }
        Ok(())
    }

    /// Ends the link at once, with this cause.
    pub fn kill(self, cause: String) {
        let _ = self.kill.send(cause);
    }
}

impl Drop for LetGo {
    fn drop(&mut self) {
        self.0.lock().is_over = true;
        self.0.wake.notify_one();
    }
}

impl Queue {
    /// The peer takes less than it asks for: nothing more is read from it for now.
    pub fn is_long(&self) -> bool {
        self.weight() > LONG
    }

    /// What waits weighs so much.
    pub fn weight(&self) -> usize {
        self.shared.weight.load(Ordering::Relaxed)
    }

    /// The next; `None` when the loop has let go of the link. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Order> {
        loop {
            if let Some(order) = self.next_now() {
                return Some(order);
            }
            if self.shared.lock().is_over {
                // What came just before.
                return self.next_now();
            }
            self.shared.wake.notified().await;
        }
    }

    /// The next, if it is there already: what came together is written together.
    pub fn next_now(&mut self) -> Option<Order> {
        if self.taken.is_empty() {
            let mut waiting = self.shared.lock();
            if waiting.orders.is_empty() {
                waiting.orders.shrink_to(SPARE);
                drop(waiting);
                self.taken.shrink_to(SPARE);
                return None;
            }
            std::mem::swap(&mut waiting.orders, &mut self.taken);
        }
        let order = self.taken.pop_front()?;
        self.shared.weight.fetch_sub(order.weight(), Ordering::Relaxed);
        Some(order)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_taken_makes_room() {
        let (handle, mut orders) = pair();
        let big = || Order::Send { bytes: Bytes::from(vec![0; WAITING / 2]), transit: None, receipt: None };
        assert_eq!(handle.give(big()), Ok(()));
        assert_eq!(handle.give(big()), Err(Overfull));
        assert!(matches!(orders.queue.next().await, Some(Order::Send { .. })));
        assert_eq!(handle.give(big()), Ok(()));
        let (handle, orders) = pair();
        drop(orders);
        assert_eq!(handle.give(big()), Ok(()), "its end is told in another way");
    }
}
