//! Entries that cannot be fired for now: each waits for its next try by itself, and holds up no other.

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;

use crate::{broker::ScheduleEntry, task::Name};

/// The wait after the first failure; it doubles with each one in a row.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);

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

    /// Notes that an entry could not be fired. Returns whether that is news; then it is logged.
    pub(super) fn failed(&mut self, entry: ScheduleEntry, reason: String) -> bool {
        let last = self.0.remove(&entry.name);
        let is_news = last.as_ref().is_none_or(|last| last.reason != reason);
        if is_news {
            tracing::error!(entry = %entry.name, rule = entry.rule, reason,
                "a schedule entry cannot be fired; it is tried again, and the others are fired as usual");
        }
        let wait = last.map_or(FIRST, |last| (last.wait * 2).min(LONGEST));
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
