//! The upkeep of one queue as this instance last saw it: its owner, and the pending work.

use std::time::{Duration, Instant};

use asynqueue_core::task::Timestamp;

/// After a pause of this length, this instance or Redis was unavailable.
const BREAK: Duration = Duration::from_secs(5);

/// Precision of the times of reads.
const SAME_TIME: Duration = Duration::from_millis(100);

/// The upkeep of one queue as an instance last saw it.
#[derive(Debug, Default)]
pub(super) struct Upkeep {
    pub(super) owner: Owner,
    /// When to read the queue or its owner again.
    pub(super) look_at: Option<Instant>,
    /// When the next task is due, from the last read.
    pub(super) next_due: Option<Timestamp>,
    /// The earliest due time in signals since then.
    pub(super) heard: Option<Timestamp>,
    /// Whether it may have leased tasks.
    pub(super) is_active: bool,
    /// Whether it has any tasks.
    pub(super) is_used: bool,
    /// When it was last trimmed.
    pub(super) trimmed: Option<Instant>,
    /// When expired leases were last searched, and since when without a pause, by the broker's clock.
    watched: Option<(Instant, Timestamp)>,
    /// The number of signal streams for the queue.
    pub(super) listening: usize,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) enum Owner {
    #[default]
    Unknown,
    /// This instance, until this time.
    Own(Instant),
    /// Another instance, by its tag.
    Other(String),
    /// Another instance that is not alive.
    Dead(String),
}

/// A part of the upkeep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Forward,
    Expired,
    Trim,
}

impl Upkeep {
    /// Whether this instance owns the queue. `None` if Redis must be queried. Only forwarding renews the ownership, so
    /// that an owner that no longer does the upkeep loses the queue.
    pub(super) fn is_own(&self, part: Part, now: Instant) -> Option<bool> {
        let is_time = self.look_at.is_none_or(|at| at <= now);
        match self.owner {
            Owner::Own(until) if until > now && !(is_time && part == Part::Forward) => Some(true),
            Owner::Other(_) | Owner::Dead(_) if !is_time => Some(false),
            _ => None,
        }
    }

    /// Notes a due time from a signal.
    pub(super) fn note_due(&mut self, due: Timestamp) {
        self.heard = Some(self.heard.map_or(due, |heard| heard.min(due)));
    }

    /// Starts a search for leases that expired before `by`, and returns the time to use. Leases that expired before
    /// this instance started to watch the queue do not count yet: without a watcher, and while Redis was down, they
    /// could not be extended.
    pub(super) fn watch(&mut self, by: Timestamp, now: Timestamp) -> Timestamp {
        let at = Instant::now();
        let since = match self.watched {
            // If the clock was set back, watching starts again.
            Some((last, since)) if at.duration_since(last) < BREAK => since.min(now),
            _ => now,
        };
        self.watched = Some((at, since));
        if by + SAME_TIME < since {
            Timestamp::default()
        } else {
            by
        }
    }

    /// Notes that Redis did not respond.
    pub(super) fn interrupted(&mut self) {
        self.watched = None;
    }

    /// Counts one more stream of signals.
    pub(super) fn add_listener(&mut self) {
        self.listening += 1;
        // Earlier signals were not received.
        if matches!(self.owner, Owner::Own(_)) {
            self.look_at = None;
        }
    }

    /// Counts one stream of signals less. Returns whether it was the last.
    pub(super) fn remove_listener(&mut self) -> bool {
        self.listening -= 1;
        self.listening == 0
    }

    /// Notes that tasks were leased.
    pub(super) fn note_leased(&mut self) {
        self.is_active = true;
    }

    /// Starts to forward. Signals from now on count in addition to the response.
    pub(super) fn forwards(&mut self) {
        self.heard = None;
    }

    pub(super) fn forwarded(&mut self, next_due: Option<Timestamp>) {
        self.next_due = next_due;
    }

    /// When the next task is due, as far as known. `None` if another instance is responsible.
    pub(super) fn next_due(&self) -> Option<Timestamp> {
        if matches!(self.owner, Owner::Other(_) | Owner::Dead(_)) {
            return None;
        }
        [self.next_due, self.heard].into_iter().flatten().min()
    }

    /// Whether this part of the upkeep may find work in a queue, when many queues are owned.
    pub(super) fn may_find_work(&self, part: Part, now: Timestamp, owned: usize) -> bool {
        match part {
            Part::Forward => self.listening == 0 || self.next_due().is_some_and(|due| due <= now),
            Part::Expired => self.is_active,
            Part::Trim => {
                let pause = Duration::from_secs(owned as u64);
                self.is_used || self.trimmed.is_none_or(|last| last.elapsed() >= pause)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELD: Duration = Duration::from_secs(10);

    #[test]
    fn only_forwarding_keeps_a_queue() {
        let now = Instant::now();
        let upkeep = Upkeep {
            owner: Owner::Own(now + HELD),
            look_at: Some(now),
            ..Upkeep::default()
        };
        assert_eq!(upkeep.is_own(Part::Forward, now), None);
        assert_eq!(upkeep.is_own(Part::Trim, now), Some(true));
        assert_eq!(upkeep.is_own(Part::Trim, now + HELD), None);
    }

    #[test]
    fn a_lease_is_lost_only_by_a_time_since_which_the_queue_was_watched() {
        let at = |secs: u64| Timestamp::from_millis(secs * 1_000);
        let mut upkeep = Upkeep::default();
        assert_eq!(upkeep.watch(at(80), at(100)), at(0));
        assert_eq!(upkeep.watch(at(99), at(102)), at(0));
        assert_eq!(upkeep.watch(at(101), at(104)), at(101));
        upkeep.interrupted();
        assert_eq!(upkeep.watch(at(101), at(106)), at(0));
        // The clock is set back.
        assert_eq!(upkeep.watch(at(8), at(9)), at(0));
        assert_eq!(upkeep.watch(at(9), at(11)), at(9));
    }

    #[test]
    fn a_signal_counts_until_the_queue_is_forwarded() {
        let at = Timestamp::from_millis;
        let mut upkeep = Upkeep {
            listening: 1,
            ..Upkeep::default()
        };
        upkeep.forwarded(Some(at(9)));
        upkeep.note_due(at(7));
        upkeep.note_due(at(8));
        assert_eq!(upkeep.next_due(), Some(at(7)));
        assert!(!upkeep.may_find_work(Part::Forward, at(6), 5));
        assert!(upkeep.may_find_work(Part::Forward, at(7), 5));
        upkeep.forwards();
        // While the call is running.
        upkeep.note_due(at(5));
        upkeep.forwarded(None);
        assert_eq!(upkeep.next_due(), Some(at(5)));
    }
}
