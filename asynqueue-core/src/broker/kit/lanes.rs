//! Lanes: a change in a lane can be sent again when its response was lost.
//!
//! A change is sent in a lane, with a number that increases each time. The server keeps the last number of each lane with
//! its response. A lane has one change in progress at a time.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use crate::sync::Mutex;

/// How many lanes without a response are kept for their changes.
const MOST_UNANSWERED: usize = 64;

/// The lanes of one process.
#[derive(Debug)]
pub struct Lanes {
    name: String,
    free: Mutex<Vec<Lane>>,
    made: AtomicU32,
    numbers: AtomicU64,
}

/// One lane, with the number of its last change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Lane {
    index: u32,
    number: u64,
    /// The hash of the change whose response was not received. The same change is sent again in the same lane.
    unanswered: Option<u64>,
}

/// A lane in use. If it is dropped before it is [answered](Self::answered), it counts as unanswered: the change may or
/// may not have taken effect.
pub struct Used<'a> {
    lanes: &'a Lanes,
    lane: Lane,
    is_again: bool,
}

impl Lanes {
    /// Lanes with a name that no other process has.
    pub fn new(name: String) -> Self {
        Self {
            name,
            free: Mutex::default(),
            made: AtomicU32::new(0),
            numbers: AtomicU64::new(0),
        }
    }

    /// A lane for a change that is not sent again once it was given up.
    pub fn next(&self) -> Used<'_> {
        self.next_for(None)
    }

    fn next_for(&self, what: Option<u64>) -> Used<'_> {
        let free = {
            let mut free = self.free.lock();
            // The change of a lane without a response may be sent again, while there are not too many.
            let answered = free.iter().rposition(|lane| lane.unanswered.is_none());
            let oldest = (free.len() >= MOST_UNANSWERED).then_some(0);
            answered.or(oldest).map(|place| free.remove(place))
        };
        let index = free.map_or_else(|| self.made.fetch_add(1, Relaxed), |lane| lane.index);
        let lane = Lane {
            index,
            number: self.numbers.fetch_add(1, Relaxed) + 1,
            unanswered: what,
        };
        self.used(lane, false)
    }

    /// A lane for a change, identified by its hash: the lane in which the change went unanswered, to send it again,
    /// otherwise one for a new change.
    pub fn again_or_next(&self, what: u64) -> Used<'_> {
        let unanswered = {
            let mut free = self.free.lock();
            let place = free.iter().position(|lane| lane.unanswered == Some(what));
            place.map(|place| free.swap_remove(place))
        };
        match unanswered {
            Some(lane) => self.used(lane, true),
            None => self.next_for(Some(what)),
        }
    }

    fn used(&self, lane: Lane, is_again: bool) -> Used<'_> {
        Used {
            lanes: self,
            lane,
            is_again,
        }
    }
}

impl Used<'_> {
    /// The lane's name.
    pub fn name(&self) -> String {
        format!("{}{}", self.lanes.name, self.lane.index)
    }

    /// The number of the change, unique among these lanes.
    pub fn number(&self) -> u64 {
        self.lane.number
    }

    /// Whether the change was sent before without a response.
    pub fn is_again(&self) -> bool {
        self.is_again
    }

    /// Notes that the response has arrived.
    pub fn answered(mut self) {
        self.lane.unanswered = None;
    }
}

impl Drop for Used<'_> {
    fn drop(&mut self) {
        self.lanes.free.lock().push(self.lane);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_reused_only_for_the_change_without_a_response() {
        let lanes = Lanes::new("a".into());
        let first = lanes.again_or_next(7);
        let unanswered = (first.name(), first.number());
        drop(first);
        let other = lanes.again_or_next(8);
        assert!(other.number() > unanswered.1);
        assert_ne!(other.name(), unanswered.0);
        other.answered();
        for what in 100..200 {
            drop(lanes.again_or_next(what));
        }
        // Its lane has advanced, so the change cannot be sent again in it.
        assert!(lanes.again_or_next(7).number() > unanswered.1);

        let lanes = Lanes::new("b".into());
        let first = lanes.again_or_next(7);
        let unanswered = (first.name(), first.number());
        drop(first);
        let again = lanes.again_or_next(7);
        assert_eq!((again.name(), again.number()), unanswered);
        again.answered();
        assert!(lanes.again_or_next(7).number() > unanswered.1);
    }

    #[test]
    fn a_change_without_a_response_keeps_its_lane_beside_those_that_are_given_up() {
        let lanes = Lanes::new("a".into());
        let first = lanes.again_or_next(7);
        let unanswered = (first.name(), first.number());
        drop(first);
        for _ in 0..200 {
            drop(lanes.next());
        }
        let again = lanes.again_or_next(7);
        assert_eq!((again.name(), again.number()), unanswered);
    }

    #[test]
    fn concurrent_changes_use_separate_lanes() {
        let lanes = Lanes::new("a".into());
        let (first, second) = (lanes.next(), lanes.next());
        assert_ne!(first.name(), second.name());
        assert_ne!(first.number(), second.number());
    }
}
