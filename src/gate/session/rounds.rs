//! What is to be done to every row of a table: in slices, so that no turn is long and what else comes is not kept waiting.

use super::table::{Pair, Row, Table};
use super::{Deadline, Turn};
use crate::gate::limits;

/// What is done on a round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Round {
    /// Settings changed: whether it is still allowed.
    Decide,
    /// A node's stream ended: what was last said between it and us may be lost.
    NodeLost(String),
    /// We stop for good.
    Leave,
}

/// Rounds under way, each with the place it has come to. At most one of a kind for each node.
#[derive(Debug, Default)]
pub struct Rounds {
    under_way: Vec<(Round, u32)>,
}

impl Rounds {
    /// Begins a round; one of the same kind that is under way begins anew.
    pub fn begin(&mut self, turn: &mut Turn<'_>, round: Round) {
        self.under_way.retain(|(other, _)| *other != round);
        self.under_way.push((round, 0));
        turn.deadlines.set(Deadline::Round, turn.now);
    }

    /// The next slice of the oldest; `None`: no round is under way.
    pub fn next<T: Row>(&mut self, turn: &mut Turn<'_>, table: &mut Table<T>) -> Option<(Round, Vec<Pair>)> {
        let (round, place) = self.under_way.first_mut()?;
        let slice = (round.clone(), table.slice(place, limits::ROUND_SLICE));
        if *place >= table.places() {
            self.under_way.remove(0);
        }
        if !self.under_way.is_empty() {
            turn.deadlines.set(Deadline::Round, turn.now + limits::ROUND_PAUSE);
        }
        Some(slice)
    }

    /// Whether such a round is under way.
    pub fn has(&self, round: &Round) -> bool {
        self.under_way.iter().any(|(other, _)| other == round)
    }
}
