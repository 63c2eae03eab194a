//! Entries declared in code and files: they are restored if the broker loses them.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;

use super::{Rule, Scheduler};
use crate::{
    broker::{BrokerError, ScheduleEntry, StateMark},
    metrics,
    server::{Retrying, is_closed},
};

/// How often to check whether the broker has lost any.
const CHECK: Duration = Duration::from_millis(800);

/// The entries that a scheduler restores, without entries that were removed on request.
#[derive(Debug)]
pub(super) struct Declared {
    /// By source.
    entries: BTreeMap<String, Vec<ScheduleEntry>>,
    /// The mark of a state in which none of them was missing.
    seen: Option<StateMark>,
    /// When to check again.
    again: Instant,
    retrying: Retrying,
}

impl Default for Declared {
    fn default() -> Self {
        Self {
            entries: BTreeMap::new(),
            seen: None,
            again: Instant::now(),
            retrying: Retrying::new("restore schedules"),
        }
    }
}

impl Declared {
    /// Replaces the entries of a source.
    pub(super) fn put(&mut self, source: &str, entries: impl Iterator<Item = ScheduleEntry>) {
        let entries: Vec<_> = entries.collect();
        if entries.is_empty() {
            self.entries.remove(source);
        } else {
            self.entries.insert(source.to_owned(), entries);
        }
        self.seen = None;
    }

    /// How long to wait until the next turn or the next check.
    pub(super) fn wait(&self, wait: Duration) -> Duration {
        if self.entries.is_empty() {
            return wait;
        }
        wait.min(self.again.saturating_duration_since(Instant::now()))
    }
}

impl Scheduler {
    /// Restores entries that the broker has lost, if it is time to check. Retries later if the broker is unavailable.
    pub(super) async fn restore(&mut self) {
        if self.declared.entries.is_empty() || Instant::now() < self.declared.again {
            return;
        }
        let wait = match self.restore_lost().await {
            Ok(()) => {
                self.declared.retrying.worked();
                CHECK
            }
            // The turn that follows reports it.
            Err(error) if is_closed(&error) => CHECK,
            Err(error) => self.declared.retrying.failed(&error),
        };
        self.declared.again = Instant::now() + wait;
    }

    async fn restore_lost(&mut self) -> Result<(), BrokerError> {
        let mark = self.broker().schedules_mark().await?;
        if self.declared.seen == Some(mark) {
            return Ok(());
        }
        let now = self.broker().now();
        let entries = self.declared.entries.values().flatten();
        let from_now = |entry: &ScheduleEntry| {
            let rule: Rule = entry.rule.parse().ok()?;
            let next = Some(rule.next_after(now)?);
            Some(ScheduleEntry {
                next,
                ..entry.clone()
            })
        };
        let entries: Vec<_> = entries.filter_map(from_now).collect();
        let found = self.broker().restore_schedules(entries).await?;
        // Even if the broker loses the record of the removal, for example when it loses all data.
        for entries in self.declared.entries.values_mut() {
            entries.retain(|entry| !found.removed.contains(&entry.name));
        }
        self.declared
            .entries
            .retain(|_, entries| !entries.is_empty());
        self.declared.seen = Some(found.mark);
        if !found.restored.is_empty() {
            tracing::warn!(entries = ?found.restored, "the broker has lost data; missing schedule entries are restored");
            metrics::restored("schedule", found.restored.len());
        }
        Ok(())
    }
}
