//! Those that wait for a limit: no list of them, only how far their places go.

use crate::task::Timestamp;

/// After this number of turns in a row that went to others, the line is considered gone: deleted, or run by other servers.
const GONE_AFTER: u32 = 3;

#[derive(Debug, Default)]
pub(super) struct Line {
    /// The place given last.
    pub(super) last: u64,
    /// The highest place that was admitted.
    served: u64,
    /// How many wait at the gate.
    pub(super) held: usize,
    /// About how many are away whose place has been passed: more went to others than there were turns.
    late: u64,
    /// Turns in a row that the front of the line let pass.
    passed_over: u32,
}

impl Line {
    /// The place of a task, which may be new in the line.
    pub(super) fn join(&mut self, place: Option<u64>, now: Timestamp) -> u64 {
        let is_empty = self.last <= self.served;
        match place {
            // As after a restart: the line is where the first that comes back says.
            Some(place) if is_empty && place > self.last => {
                self.served = place.saturating_sub(1);
                place
            }
            Some(place) => place,
            // By the clock, so that it is behind the lines of servers before this one.
            None if is_empty => {
                let place = now.as_millis().max(self.last.saturating_add(1));
                self.served = place - 1;
                self.last = self.served;
                place
            }
            None => self.last.saturating_add(1),
        }
    }

    /// How many starts until its turn, from 1.
    pub(super) fn number(&self, place: u64) -> u64 {
        place.saturating_sub(self.served).max(1)
    }

    /// How many starts until the turn of a task that does not start now.
    pub(super) fn send_back(&mut self, place: u64) -> u64 {
        if place > self.served {
            return self.number(place);
        }
        self.late += 1;
        self.late
    }

    /// Notes that a task starts, in its turn or in that of one that did not come.
    pub(super) fn let_in(&mut self, place: u64, in_turn: bool) {
        if in_turn {
            if place <= self.served {
                self.late = self.late.saturating_sub(1);
            }
            self.served = self.served.max(place);
            self.passed_over = 0;
        } else {
            self.passed_over += 1;
            self.late = 0;
            if self.passed_over >= GONE_AFTER {
                self.served = self.last;
                self.passed_over = 0;
            }
        }
        self.last = self.last.max(self.served);
    }
}
