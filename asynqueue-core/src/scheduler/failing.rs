//! Entries that currently cannot be fired: each waits for its own retry and does not hold up others.

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;

use crate::{broker::ScheduleEntry, task::Name};

/// The wait after the first failure. It doubles with each further one in a row.
const FIRST: Duration = Duration::from_secs(1);

/// The longest wait for an entry that must be changed, or for a newer scheduler.
pub(super) const LONGEST: Duration = Duration::from_secs(60);

/// The longest wait for a broker that does not respond. It is short because ticks pass in the meantime.
pub(super) const LONGEST_UNAVAILABLE: Duration = Duration::from_secs(5);

/// The entries whose last try failed.
#[derive(Debug, Default)]
pub(super) struct Failing(HashMap<Name, Try>);

#[derive(Debug)]
struct Try {
    /// The entry as it was when it failed. If it has changed, it is retried immediately.
    entry: ScheduleEntry,
    reason: String,
    wait: Duration,
    again: Instant,
}

impl Failing {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether an entry may be fired now.
    pub(super) fn may_fire(&self, entry: &ScheduleEntry, now: Instant) -> bool {
        let last = self.0.get(&entry.name);
        last.is_none_or(|last| last.again <= now || last.entry != *entry)
    }

    pub(super) fn worked(&mut self, name: &Name) {
        if self.0.remove(name).is_some() {
            tracing::info!(entry = %name, "the schedule entry is firing again");
        }
    }

    /// Records that an entry could not be fired, and makes it wait for up to `longest`. Logs a new reason, and returns
    /// whether it is new.
    pub(super) fn failed(
        &mut self,
        entry: ScheduleEntry,
        reason: String,
        longest: Duration,
    ) -> bool {
        let last = self.0.remove(&entry.name);
        let is_news = last.as_ref().is_none_or(|last| last.reason != reason);
        if is_news {
            tracing::error!(entry = %entry.name, rule = entry.rule, reason,
                "could not fire a schedule entry; retrying, other entries are not affected");
        }
        let wait = last.map_or(FIRST, |last| (last.wait * 2).min(longest));
        let failed = Try {
            reason,
            wait,
            again: Instant::now() + wait,
            entry,
        };
        self.0.insert(failed.entry.name.clone(), failed);
        is_news
    }

    /// Removes entries that are no longer due: another scheduler has fired them, or they were changed or removed.
    pub(super) fn keep(&mut self, due: &[ScheduleEntry]) {
        if !self.0.is_empty() {
            (self.0).retain(|name, _| due.iter().any(|entry| entry.name == *name));
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{
        codec::{CodecName, MessagePack},
        task::{Envelope, TaskId},
    };

    #[tokio::test(start_paused = true)]
    async fn an_entry_waits_briefly_for_its_broker_and_longer_for_a_change() {
        let codec = CodecName::of::<MessagePack>();
        let task = Envelope::new(TaskId::generate(), "tick", codec, Bytes::new());
        let entry = ScheduleEntry::new("tick", "@every 1s", task);
        for longest in [LONGEST_UNAVAILABLE, LONGEST] {
            let mut failing = Failing::default();
            for _ in 0..20 {
                failing.failed(entry.clone(), "no luck".into(), longest);
            }
            let now = Instant::now();
            assert!(!failing.may_fire(&entry, now + longest - Duration::from_millis(1)));
            assert!(failing.may_fire(&entry, now + longest));
        }
    }
}
