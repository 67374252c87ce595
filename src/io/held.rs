//! What waits until the records kept before it are committed, lane by lane. Pure: the loop pushes, the store's word releases.

use crate::gate::Lane;
use std::collections::{HashMap, VecDeque};

/// The number of a kept record or forgotten one, in the order of the gate's outputs; all up to one are committed at once.
pub type Mark = u64;

/// Sends that wait.
#[derive(Debug)]
pub struct Held<T> {
    /// The last mark given out.
    last: Mark,
    committed: Mark,
    lanes: HashMap<u64, Queue<T>>,
    all: VecDeque<(Mark, T)>,
    /// Which lanes a mark holds back, in order.
    marks: VecDeque<(Mark, u64)>,
    len: usize,
}

#[derive(Debug)]
struct Queue<T> {
    /// The lane's last mark.
    behind: Mark,
    waiting: VecDeque<(Mark, T)>,
}

impl<T> Held<T> {
    /// Nothing waits.
    pub fn new() -> Self {
        Self { last: 0, committed: 0, lanes: HashMap::new(), all: VecDeque::new(), marks: VecDeque::new(), len: 0 }
    }

    /// Something is handed to the store; what follows in its lane waits for it.
    pub fn mark(&mut self, lane: Lane) -> Mark {
        self.last += 1;
        if let Lane::Pair(pair) = lane {
            let queue = self.lanes.entry(pair).or_insert_with(|| Queue { behind: 0, waiting: VecDeque::new() });
            queue.behind = self.last;
            self.marks.push_back((self.last, pair));
        }
        self.last
    }

    /// Gives `send` back if it may go now; else it waits.
    pub fn push(&mut self, lane: Lane, send: T) -> Option<T> {
        match lane {
            Lane::Free => return Some(send),
            Lane::Pair(pair) => match self.lanes.get_mut(&pair) {
                Some(queue) => queue.waiting.push_back((queue.behind, send)),
                None => return Some(send),
            },
            Lane::All if self.last > self.committed => self.all.push_back((self.last, send)),
            Lane::All => return Some(send),
        }
        self.len += 1;
        None
    }

    /// Everything up to `mark` is committed: what may go now, in its order.
    pub fn committed(&mut self, mark: Mark, mut release: impl FnMut(T)) {
        self.committed = self.committed.max(mark);
        while let Some((_, pair)) = self.marks.pop_front_if(|(of, _)| *of <= mark) {
            let Some(queue) = self.lanes.get_mut(&pair) else { continue };
            while let Some((_, send)) = queue.waiting.pop_front_if(|(behind, _)| *behind <= mark) {
                self.len -= 1;
                release(send);
            }
            if queue.behind <= mark {
                self.lanes.remove(&pair);
            }
        }
        while let Some((_, send)) = self.all.pop_front_if(|(behind, _)| *behind <= mark) {
            self.len -= 1;
            release(send);
        }
    }

    /// Drops what may no longer be sent. How many.
    pub fn drop_where(&mut self, mut is_stale: impl FnMut(&T) -> bool) -> usize {
        let before = self.len;
        let queues = self.lanes.values_mut().map(|queue| &mut queue.waiting).chain([&mut self.all]);
        self.len = 0;
        for waiting in queues {
            waiting.retain(|(_, send)| !is_stale(send));
            self.len += waiting.len();
        }
        before - self.len
    }

    /// Whether all that was marked is committed.
    pub fn is_settled(&self) -> bool {
        self.committed >= self.last
    }

    /// The last mark given out.
    pub fn last(&self) -> Mark {
        self.last
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl<T> Default for Held<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Lane = Lane::Pair(1);
    const B: Lane = Lane::Pair(2);

    fn released(held: &mut Held<&'static str>, mark: Mark) -> Vec<&'static str> {
        let mut sent = Vec::new();
        held.committed(mark, |send| sent.push(send));
        sent
    }

    #[test]
    fn a_lane_waits_for_its_own_records_in_order() {
        let mut held = Held::new();
        assert_eq!(held.push(A, "before"), Some("before"));
        let first = held.mark(A);
        assert_eq!(held.push(A, "a1"), None);
        assert_eq!(held.push(B, "b"), Some("b"), "another pair goes on");
        assert_eq!(held.push(Lane::Free, "free"), Some("free"));
        let second = held.mark(A);
        assert_eq!(held.push(A, "a2"), None);
        assert_eq!(released(&mut held, first), ["a1"]);
        assert_eq!(held.push(A, "a3"), None, "behind a2");
        assert_eq!(released(&mut held, second), ["a2", "a3"]);
        assert_eq!(held.push(A, "after"), Some("after"));
        assert!(held.is_empty() && held.is_settled());
    }

    #[test]
    fn an_acknowledgement_of_all_waits_for_all() {
        let mut held = Held::new();
        let a = held.mark(A);
        let free = held.mark(Lane::Free);
        assert_eq!(held.push(Lane::All, "ack"), None);
        let b = held.mark(B);
        assert!(released(&mut held, a).is_empty());
        assert_eq!(released(&mut held, free), ["ack"], "what was kept later does not matter");
        assert!(released(&mut held, b).is_empty());
        assert_eq!(held.push(Lane::All, "next"), Some("next"));
    }

    #[test]
    fn what_is_stale_is_dropped_and_the_rest_stays_in_order() {
        let mut held = Held::new();
        let mark = held.mark(A);
        for send in ["old", "new", "newer"] {
            held.push(A, send);
        }
        held.push(Lane::All, "old");
        assert_eq!(held.drop_where(|send| *send == "old"), 2);
        assert_eq!(held.len(), 2);
        assert_eq!(released(&mut held, mark), ["new", "newer"]);
    }
}
