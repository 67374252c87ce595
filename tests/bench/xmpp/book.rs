//! What was sent, when, on which stream, and what the inside has seen of it.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// How it comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// As fast as the inside sees it.
    Saturated,
    /// By the clock.
    Paced,
}

/// Hears of a stream on which one more may go.
pub type OnRoom = Box<dyn Fn(usize)>;

/// One load at a time.
#[derive(Default)]
pub struct Book {
    /// The number of the next message, of all loads.
    next: Cell<u64>,
    load: RefCell<Load>,
    /// All of the load were seen, or something has gone wrong.
    pub ended: Notify,
    failure: RefCell<Option<String>>,
    /// Told of each stream on which one more may go.
    on_room: RefCell<Option<OnRoom>>,
}

#[derive(Default)]
struct Load {
    first: u64,
    many: usize,
    /// When each was sent, or was due; on which stream; `None` once it was seen.
    sent: Vec<Option<(Instant, usize)>>,
    latencies: Vec<Duration>,
}

impl Book {
    /// Begins another load. `on_room` hears of each stream one of whose messages was seen.
    pub fn begin(&self, many: usize, on_room: Option<OnRoom>) {
        *self.on_room.borrow_mut() = on_room;
        let first = self.next.get();
        *self.load.borrow_mut() =
            Load { first, many, sent: Vec::with_capacity(many), latencies: Vec::with_capacity(many) };
    }

    /// The number for one more on this stream; `None` when all were sent.
    pub fn send(&self, stream: usize, begun: Instant) -> Option<u64> {
        let mut load = self.load.borrow_mut();
        if load.sent.len() == load.many {
            return None;
        }
        load.sent.push(Some((begun, stream)));
        let number = self.next.get();
        self.next.set(number + 1);
        Some(number)
    }

    /// The inside has it.
    pub fn seen(&self, number: u64) {
        let stream = match self.take(number) {
            Ok(Some(stream)) => stream,
            // Of a load that has been given up.
            Ok(None) => return,
            Err(why) => return self.fail(why),
        };
        if let Some(on_room) = &*self.on_room.borrow() {
            on_room(stream);
        }
    }

    fn take(&self, number: u64) -> Result<Option<usize>, String> {
        let mut load = self.load.borrow_mut();
        let Some(place) = number.checked_sub(load.first).and_then(|place| usize::try_from(place).ok()) else {
            return Ok(None);
        };
        let slot = load.sent.get_mut(place).ok_or_else(|| format!("message {number} came, which was not sent"))?;
        let (begun, stream) = slot.take().ok_or_else(|| format!("message {number} came twice"))?;
        load.latencies.push(begun.elapsed());
        if load.latencies.len() == load.many {
            self.ended.notify_one();
        }
        Ok(Some(stream))
    }

    /// Something has gone wrong; the first counts.
    pub fn fail(&self, why: String) {
        self.failure.borrow_mut().get_or_insert(why);
        self.ended.notify_one();
    }

    /// The latencies, one for each; or what has gone wrong.
    pub fn end(&self) -> Result<Vec<Duration>, String> {
        *self.on_room.borrow_mut() = None;
        let load = std::mem::take(&mut *self.load.borrow_mut());
        match self.failure.borrow_mut().take() {
            Some(failure) => Err(failure),
            None if load.latencies.len() < load.many => {
                Err(format!("{} of {} have not arrived", load.many - load.latencies.len(), load.many))
            }
            None => Ok(load.latencies),
        }
    }
}
