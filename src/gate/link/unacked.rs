//! The sending half of stream management (XEP-0198): which of the stanzas that we sent the peer has not acknowledged.

use crate::gate::limits::{UNACKED_PER_STREAM, UNACKED_UNASKED};
use std::collections::VecDeque;

/// One stream's stanzas, from `<enable/>` on.
///
/// At most one `<r/>` waits for its answer at a time: the next is sent when some are acknowledged and others are not, so that asking keeps
/// pace with the peer however much is sent.
#[derive(Debug, Default)]
pub(super) struct Unacked {
    /// XEP-0198 §4: begins again at 0 after 2³² − 1.
    sent: u32,
    acknowledged: u32,
    /// The stanza's number and its receipt, in the order of sending; at most [`UNACKED_PER_STREAM`].
    receipts: VecDeque<(u32, u64)>,
    asked: bool,
}

/// The peer acknowledged what it was never sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooMany;

impl Unacked {
    /// A stanza was written. A receipt beyond the bound is not remembered, and never comes back: see [`Unacked::is_full`].
    pub fn count(&mut self, receipt: Option<u64>) {
        self.sent = self.sent.wrapping_add(1);
        if let Some(receipt) = receipt.filter(|_| !self.is_full()) {
            self.receipts.push_back((self.sent, receipt));
        }
    }

    /// Whether `<r/>` is to be written now; if so, it counts as written.
    pub fn ask(&mut self) -> bool {
        let wanted = !self.receipts.is_empty() || self.open() >= UNACKED_UNASKED;
        let now = wanted && !self.asked;
        self.asked |= now;
        now
    }

    /// The peer has handled that many. Gives the receipts that this settles; `None` if it says nothing new.
    pub fn acknowledge(&mut self, handled: u32) -> Result<Option<Vec<u64>>, TooMany> {
        let fresh = handled.wrapping_sub(self.acknowledged);
        match fresh {
            0 => return Ok(None),
            fresh if fresh > self.open() => return Err(TooMany),
            _ => {}
        }
        let before = self.acknowledged;
        let settled = self.receipts.partition_point(|(number, _)| number.wrapping_sub(before) <= fresh);
        self.acknowledged = handled;
        self.asked = false;
        Ok(Some(self.receipts.drain(..settled).map(|(_, receipt)| receipt).collect()))
    }

    /// Whether nobody waits for an acknowledgement.
    pub fn is_settled(&self) -> bool {
        self.receipts.is_empty()
    }

    /// Whether no further receipt can be remembered.
    pub fn is_full(&self) -> bool {
        self.receipts.len() >= UNACKED_PER_STREAM
    }

    fn open(&self) -> u32 {
        self.sent.wrapping_sub(self.acknowledged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn from(begun: u32) -> Unacked {
        Unacked { sent: begun, acknowledged: begun, ..Unacked::default() }
    }

    proptest! {
        /// Against a peer that acknowledges in order and as late as it likes: every receipt comes back once, in order, and not before its stanza
        /// is acknowledged; whatever is owed has been asked for.
        #[test]
        fn receipts_come_back_once_and_in_order(
            begun in prop_oneof![Just(0), u32::MAX - 50..=u32::MAX],
            steps in prop::collection::vec(prop_oneof![
                3 => prop::option::of(any::<u64>()).prop_map(Ok),
                1 => (0..40_u32).prop_map(Err),
            ], 0..300),
        ) {
            let mut unacked = from(begun);
            let (mut sent, mut handled, mut back) = (Vec::new(), 0, Vec::new());
            for step in steps {
                match step {
                    Ok(receipt) => {
                        unacked.count(receipt);
                        sent.push(receipt);
                    }
                    Err(more) => {
                        handled = sent.len().min(handled + more as usize);
                        let taken = unacked.acknowledge(begun.wrapping_add(handled as u32)).unwrap();
                        back.extend(taken.into_iter().flatten());
                        let expected: Vec<u64> = sent[..handled].iter().flatten().copied().collect();
                        prop_assert_eq!(&back, &expected);
                    }
                }
                unacked.ask();
                prop_assert!(unacked.asked || unacked.is_settled());
                prop_assert!(!unacked.ask(), "one question at a time");
                // What was never sent can't have been handled.
                prop_assert_eq!(unacked.acknowledge(begun.wrapping_add(sent.len() as u32 + 1)), Err(TooMany));
                if handled > 0 {
                    let earlier = begun.wrapping_add(handled as u32 - 1);
                    prop_assert_eq!(unacked.acknowledge(earlier), Err(TooMany), "nor is it unhandled again");
                }
            }
            let rest = unacked.acknowledge(begun.wrapping_add(sent.len() as u32)).unwrap();
            back.extend(rest.into_iter().flatten());
            prop_assert_eq!(back, sent.into_iter().flatten().collect::<Vec<_>>());
            prop_assert!(unacked.is_settled());
        }
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut unacked = from(u32::MAX - 7);
        for receipt in 0..UNACKED_PER_STREAM as u64 {
            assert!(!unacked.is_full());
            unacked.count(Some(receipt));
        }
        assert!(unacked.is_full());
        unacked.count(Some(u64::MAX));
        assert_eq!(unacked.receipts.len(), UNACKED_PER_STREAM);
        let taken = unacked.acknowledge(unacked.sent).unwrap().unwrap();
        assert!(taken.len() == UNACKED_PER_STREAM && !taken.contains(&u64::MAX));
    }

    #[test]
    fn the_count_is_asked_for_even_if_nobody_waits() {
        let mut unacked = from(0);
        for _ in 1..UNACKED_UNASKED {
            unacked.count(None);
            assert!(!unacked.ask());
        }
        unacked.count(None);
        assert!(unacked.ask() && !unacked.ask());
        assert_eq!(unacked.acknowledge(0), Ok(None), "that is no answer");
        assert!(!unacked.ask());
        assert_eq!(unacked.acknowledge(UNACKED_UNASKED), Ok(Some(vec![])));
        assert!(!unacked.ask());
        unacked.count(Some(9));
        assert!(unacked.ask());
    }
}
