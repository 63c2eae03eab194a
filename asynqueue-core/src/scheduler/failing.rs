//! Entries that cannot be fired for now: each waits for its next try by itself, and holds up no other.

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;

use crate::{broker::ScheduleEntry, task::Name};

/// The wait after the first failure; it doubles with each one in a row.
const FIRST: Duration = Duration::from_secs(1);

/// The longest wait for an entry that has to be changed, or for a newer scheduler.
pub(super) const LONGEST: Duration = Duration::from_secs(60);

/// The longest wait for a broker that does not answer: it may be back any moment, and ticks pass by.
pub(super) const LONGEST_AWAY: Duration = Duration::from_secs(5);

/// What is known of entries whose last try has failed.
#[derive(Debug, Default)]
pub(super) struct Failing(HashMap<Name, Try>);

#[derive(Debug)]
struct Try {
    /// As it was when it failed: one that has changed since is tried at once.
    entry: ScheduleEntry,
    reason: String,
    wait: Duration,
    again: Instant,
}

impl Failing {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it is time to fire an entry.
    pub(super) fn may_fire(&self, entry: &ScheduleEntry, now: Instant) -> bool {
        let last = self.0.get(&entry.name);
        last.is_none_or(|last| last.again <= now || last.entry != *entry)
    }

    pub(super) fn worked(&mut self, name: &Name) {
        if self.0.remove(name).is_some() {
            tracing::info!(entry = %name, "a schedule entry is fired again");
        }
    }

    /// Notes that an entry could not be fired, and lets it wait for up to `longest`. Returns whether that is news; then it is logged.
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
                "a schedule entry cannot be fired; it is tried again, and the others are fired as usual");
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

    /// Forgets those that are not due any more: another scheduler has fired them, or they were changed or removed.
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
    async fn an_entry_waits_for_seconds_while_its_broker_is_away_and_longer_for_a_change() {
        let codec = CodecName::of::<MessagePack>();
        let task = Envelope::new(TaskId::generate(), "tick", codec, Bytes::new());
        let entry = ScheduleEntry::new("tick", "@every 1s", task);
        for longest in [LONGEST_AWAY, LONGEST] {
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
