//! Reporting archives that reach their limits.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    broker::{Keep, Trimmed, is_archive_nearly_full},
    metrics,
    task::Name,
};

/// How often an archive that stays near its limit is logged.
const AGAIN: Duration = Duration::from_secs(3600);

/// The longest time between two log lines while trimming continues without a pause.
const LONGEST: Duration = Duration::from_secs(10);

/// Counts and logs trimmed tasks: one line per queue and turn, however many tasks and batches.
#[derive(Debug)]
pub(super) struct ArchiveLog {
    keep: Keep,
    /// Trimmed since the last log line.
    trimmed: BTreeMap<Name, Trimmed>,
    since: Instant,
    /// When each queue was last logged as near its limit.
    nearly_full: HashMap<Name, Instant>,
}

impl ArchiveLog {
    pub(super) fn new(keep: Keep, queues: &[Name]) -> Self {
        // Registered at the start, so that the first deletion shows as an increase.
        queues
            .iter()
            .for_each(|queue| metrics::trimmed(queue, &Trimmed::default()));
        Self {
            keep,
            trimmed: BTreeMap::new(),
            since: Instant::now(),
            nearly_full: HashMap::new(),
        }
    }

    /// Adds what one call has deleted from a queue, and how much it has left.
    pub(super) fn note(&mut self, queue: &Name, trimmed: &Trimmed) {
        metrics::trimmed(queue, trimmed);
        if trimmed.by_count + trimmed.by_age > 0 {
            let sum = self.trimmed.entry(queue.clone()).or_default();
            sum.by_count += trimmed.by_count;
            sum.by_age += trimmed.by_age;
        }
        self.note_size(queue, trimmed.archived);
        if self.since.elapsed() >= LONGEST {
            self.log();
        }
    }

    fn note_size(&mut self, queue: &Name, archived: u64) {
        let max = self.keep.archived_max;
        if !is_archive_nearly_full(archived, max as u64) {
            self.nearly_full.remove(queue);
            return;
        }
        let is_known = |at: &Instant| at.elapsed() < AGAIN;
        if !self.nearly_full.get(queue).is_some_and(is_known) {
            self.nearly_full.insert(queue.clone(), Instant::now());
            tracing::warn!(%queue, archived, max, "the archive is nearly full; at its limit the oldest tasks are deleted: run or delete archived tasks, or raise `archived_max`");
        }
    }

    /// Logs what was deleted since the last time.
    fn log(&mut self) {
        self.since = Instant::now();
        for (queue, trimmed) in std::mem::take(&mut self.trimmed) {
            self.log_trimmed(&queue, &trimmed);
        }
    }

    /// Logs what was deleted from a queue since the last time.
    pub(super) fn log_of(&mut self, queue: &Name) {
        if let Some(trimmed) = self.trimmed.remove(queue) {
            self.log_trimmed(queue, &trimmed);
        }
        if self.trimmed.is_empty() {
            self.since = Instant::now();
        }
    }

    fn log_trimmed(&self, queue: &Name, trimmed: &Trimmed) {
        let Trimmed {
            by_count, by_age, ..
        } = trimmed;
        let Keep {
            archived_max: max,
            archived_for,
        } = self.keep;
        tracing::warn!(%queue, by_count, by_age, max, ?archived_for, "deleted archived tasks beyond `archived_max` or older than `archived_for`");
    }
}

impl Drop for ArchiveLog {
    fn drop(&mut self) {
        self.log();
    }
}
