//! The receiving half of stream management (XEP-0198): how many stanzas a peer's stream has carried, and whether its server waits to hear so.

/// One stream's count, from `<enable/>` on.
///
/// At most one acknowledgement is on its way from the gate at a time, so that a flood of `<r/>` makes nothing grow.
#[derive(Debug, Default)]
pub(super) struct Acks {
    /// XEP-0198 §4: begins again at 0 after 2³² − 1.
    handled: u32,
    asked: Asked,
}

/// What the peer asked and the gate has not answered.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Asked {
    #[default]
    Nothing,
    /// The answer is on its way.
    Once,
    /// It is, and the peer has asked since.
    Again,
}

impl Acks {
    /// A stanza was received.
    pub fn count(&mut self) {
        self.handled = self.handled.wrapping_add(1);
    }

    /// The peer wants an acknowledgement: the number for the gate. `None`: one is on its way, and another follows behind it.
    pub fn ask(&mut self) -> Option<u32> {
        match self.asked {
            Asked::Nothing => {
                self.asked = Asked::Once;
                Some(self.handled)
            }
            Asked::Once | Asked::Again => {
                self.asked = Asked::Again;
                None
            }
        }
    }

    /// Whether an acknowledgement is on its way.
    pub fn is_asked(&self) -> bool {
        self.asked != Asked::Nothing
    }

    /// It came. The number of the next one, if the peer has asked since.
    pub fn answered(&mut self) -> Option<u32> {
        match std::mem::take(&mut self.asked) {
            Asked::Nothing | Asked::Once => None,
            Asked::Again => self.ask(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What happens to a stream.
    #[derive(Debug, Clone, Copy)]
    enum Step {
        Stanza,
        Request,
        Answer,
    }

    proptest! {
        #[test]
        fn every_request_is_answered_by_a_count_that_is_no_older(
            begun in prop_oneof![Just(0), u32::MAX - 20..=u32::MAX],
            steps in prop::collection::vec(prop::sample::select(vec![Step::Stanza, Step::Request, Step::Answer]), 0..200),
        ) {
            let mut acks = Acks { handled: begun, asked: Asked::Nothing };
            // The shadow: stanzas so far, the number under way, and the requests nobody has answered, by the stanzas before each.
            let (mut stanzas, mut under_way, mut open) = (0_u64, None, Vec::new());
            let total = |h: u32| u64::from(h.wrapping_sub(begun));
            for step in steps {
                match step {
                    Step::Stanza => {
                        acks.count();
                        stanzas += 1;
                    }
                    Step::Request => {
                        open.push(stanzas);
                        if let Some(handled) = acks.ask() {
                            prop_assert_eq!(under_way.replace(handled), None, "one at a time");
                            prop_assert_eq!(total(handled), stanzas);
                        }
                    }
                    Step::Answer => {
                        prop_assert_eq!(acks.is_asked(), under_way.is_some());
                        if let Some(handled) = under_way.take() {
                            open.retain(|before| *before > total(handled));
                            under_way = acks.answered();
                            if let Some(next) = under_way {
                                prop_assert_eq!(total(next), stanzas);
                            }
                        }
                    }
                }
            }
            // Whoever asked is answered, in two at the most.
            for _ in 0..2 {
                if let Some(handled) = under_way.take() {
                    open.retain(|before| *before > total(handled));
                    under_way = acks.answered();
                }
            }
            prop_assert!(open.is_empty() && !acks.is_asked(), "{open:?}");
        }
    }
}
