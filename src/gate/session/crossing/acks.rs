//! What a server that asked for an acknowledgement (XEP-0198 §4) gave us and is not settled yet: `<a/>` hands the responsibility over, so it waits.

use crate::gate::partner::LinkId;
use std::collections::{BTreeMap, BTreeSet};

/// Of every link on which a message came that is under way.
#[derive(Debug, Default)]
pub struct Acks {
    links: BTreeMap<LinkId, Open>,
}

#[derive(Debug, Default)]
struct Open {
    /// Messages that are not settled.
    tickets: BTreeSet<u64>,
    /// What is to be said when those below this ticket are.
    asked: Option<(u32, u64)>,
}

impl Acks {
    /// A message was taken on.
    pub fn taken(&mut self, link: LinkId, ticket: u64) {
        self.links.entry(link).or_default().tickets.insert(ticket);
    }

    /// A message is settled: the number to be acknowledged, if that waited for it alone.
    pub fn settled(&mut self, link: LinkId, ticket: u64) -> Option<u32> {
        let open = self.links.get_mut(&link)?;
        open.tickets.remove(&ticket);
        let first = open.tickets.first().copied();
        let said =
            open.asked.take_if(|(_, below)| first.is_none_or(|first| first >= *below)).map(|(handled, _)| handled);
        if first.is_none() {
            self.links.remove(&link);
        }
        said
    }

    /// All before this ticket are to be acknowledged as `handled`. `true`: they can be.
    pub fn ask(&mut self, link: LinkId, handled: u32, below: u64) -> bool {
        match self.links.get_mut(&link) {
            Some(open) if !open.tickets.is_empty() => {
                open.asked = Some((handled, below));
                false
            }
            _ => true,
        }
    }

    /// It is not waited for any longer.
    pub fn give_up(&mut self, link: LinkId) -> Option<u32> {
        self.links.get_mut(&link)?.asked.take().map(|(handled, _)| handled)
    }

    /// A link ended: nobody is left to be told.
    pub fn closed(&mut self, link: LinkId) {
        self.links.remove(&link);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_after_the_question_does_not_hold_the_answer_back() {
        let (mut acks, link) = (Acks::default(), LinkId(1));
        assert!(acks.ask(link, 5, 0), "nothing is under way");
        acks.taken(link, 0);
        acks.taken(link, 1);
        assert!(!acks.ask(link, 7, 2));
        acks.taken(link, 2);
        assert_eq!(acks.settled(link, 1), None, "the first is not");
        assert_eq!(acks.settled(link, 0), Some(7));
        assert_eq!(acks.settled(link, 2), None, "said once");
        assert!(acks.links.is_empty());
    }

    #[test]
    fn a_link_that_ended_is_told_nothing() {
        let (mut acks, link) = (Acks::default(), LinkId(1));
        acks.taken(link, 0);
        assert!(!acks.ask(link, 1, 1));
        acks.closed(link);
        assert_eq!((acks.settled(link, 0), acks.give_up(link)), (None, None));
    }
}
