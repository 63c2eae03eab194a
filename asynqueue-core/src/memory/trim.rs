//! Deletes tasks that are no longer kept.

use super::queue::Queue;
use crate::{
    broker::{HourStats, Keep, Trimmed},
    task::Timestamp,
};

impl Queue {
    pub(super) fn trim(&mut self, now: Timestamp, keep: Keep, limit: usize) -> Trimmed {
        let mut trimmed = Trimmed::default();
        if self.archived.len() > 0 {
            self.archive.max = Some(keep.archived_max as u64);
        }
        while trimmed.deleted() < limit {
            let too_old = now - keep.archived_for;
            let (next, count) = if self.archived.len() > keep.archived_max {
                (self.archived.pop_first(), &mut trimmed.by_count)
            } else if let Some(id) = self.completed.pop_until(now) {
                (Some(id), &mut trimmed.completed)
            } else {
                (self.archived.pop_until(too_old), &mut trimmed.by_age)
            };
            let Some(id) = next else { break };
            *count += 1;
            self.tasks.remove(&id);
        }
        self.count_trimmed(&trimmed, now);
        trimmed.archived = self.archived.len() as u64;
        let hour = now.as_millis() / HourStats::MILLIS;
        self.hours = self.hours.split_off(&hour.saturating_sub(HourStats::KEPT));
        self.locks.forget_ended(now);
        self.listeners.remove_gone();
        self.tasks.shrink();
        self.pending.shrink();
        trimmed
    }

    /// Counts deleted archived tasks.
    fn count_trimmed(&mut self, trimmed: &Trimmed, now: Timestamp) {
        let (by_count, by_age) = (trimmed.by_count as u64, trimmed.by_age as u64);
        self.archive.trimmed_by_count += by_count;
        self.archive.trimmed_by_age += by_age;
        if by_count + by_age > 0 {
            self.archive.last_trimmed = Some(now);
        }
    }
}
