//! What the loop has for a link, and the link's end of it. Bounded by what it weighs: a peer that takes nothing fills its own queue only.

use crate::gate::{Path, Time};
use crate::wire::xmpp::StreamError;
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::{mpsc, oneshot};

/// What may wait for one link, in bytes; beyond, the link is ended. One commit may release, or one second make due, what all watchers of a
/// partner are told, so it is room for some 30,000 NOTIFYs.
pub const WAITING: usize = 32 * 1024 * 1024;
/// What may wait while the peer is still listened to: who asks and does not read the answers fills no more.
const LONG: usize = 1024 * 1024;
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
    orders: mpsc::UnboundedSender<Order>,
    waiting: Arc<AtomicUsize>,
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
    orders: mpsc::UnboundedReceiver<Order>,
    waiting: Arc<AtomicUsize>,
}

/// Too much waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overfull;

/// Both ends of a link.
pub fn pair() -> (Handle, Orders) {
    let (sender, orders) = mpsc::unbounded_channel();
    let (kill, killed) = oneshot::channel();
    let waiting = Arc::new(AtomicUsize::new(0));
    let handle = Handle { orders: sender, waiting: Arc::clone(&waiting), kill };
    (handle, Orders { queue: Queue { orders, waiting }, kill: killed })
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
        if self.waiting.load(Ordering::Relaxed) + weight > WAITING {
            return Err(Overfull);
        }
        self.waiting.fetch_add(weight, Ordering::Relaxed);
        let _ = self.orders.send(order);
        Ok(())
    }

    /// Ends the link at once, with this cause.
    pub fn kill(self, cause: String) {
        let _ = self.kill.send(cause);
    }
}

impl Queue {
    /// The peer takes less than it asks for: nothing more is read from it for now.
    pub fn is_long(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > LONG
    }

    /// The next; `None` when the loop has let go of the link.
    pub async fn next(&mut self) -> Option<Order> {
        let order = self.orders.recv().await?;
        self.waiting.fetch_sub(order.weight(), Ordering::Relaxed);
        Some(order)
    }

    /// The next, if it is there already: what came together is written together.
    pub fn next_now(&mut self) -> Option<Order> {
        let order = self.orders.try_recv().ok()?;
        self.waiting.fetch_sub(order.weight(), Ordering::Relaxed);
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
