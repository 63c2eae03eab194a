//! The line of tasks that wait for a limit. It is not a list: it stores only how far the places go.

use crate::task::Timestamp;

/// After this many consecutive turns that went to other tasks, the line is considered gone: deleted, or run by other
/// servers.
const GONE_AFTER: u32 = 3;

#[derive(Debug, Default)]
pub(super) struct Line {
    /// The place given last.
    pub(super) last: u64,
    /// The highest place admitted so far.
    served: u64,
    /// How many tasks wait at the gate.
    pub(super) held: usize,
    /// About how many tasks are away whose place has been passed, because others took more turns than there were.
    late: u64,
    /// Consecutive turns that the front of the line did not take.
    passed_over: u32,
}

impl Line {
    /// The place of a task: its earlier one, or a new one at the end of the line.
    pub(super) fn join(&mut self, place: Option<u64>, now: Timestamp) -> u64 {
        let is_empty = self.last <= self.served;
        match place {
            // For example after a restart: the line resumes at the first task that comes back.
            Some(place) if is_empty && place > self.last => {
                self.served = place.saturating_sub(1);
                place
            }
            Some(place) => place,
            // From the clock, so that it is behind the lines of earlier servers.
            None if is_empty => {
                let place = now.as_millis().max(self.last.saturating_add(1));
                self.served = place - 1;
                self.last = self.served;
                place
            }
            None => self.last.saturating_add(1),
        }
    }

    /// About how many tasks are away.
    pub(super) fn length(&self) -> u64 {
        let ahead = self.last.saturating_sub(self.served);
        ahead.saturating_add(self.late)
    }

    /// How many starts until its turn, counted from 1.
    pub(super) fn number(&self, place: u64) -> u64 {
        place.saturating_sub(self.served).max(1)
    }

    /// How many starts until the turn of a task that has to come back.
    pub(super) fn send_back(&mut self, place: u64) -> u64 {
        if place > self.served {
            return self.number(place);
        }
        self.late += 1;
        self.late
    }

    /// Records a start, in the task's own turn or in the turn of one that did not come.
    pub(super) fn record_start(&mut self, place: u64, in_turn: bool) {
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
