//! The statistics of an event, as they are read.

use serde::{Deserialize, Serialize};

use super::{Histogram, slot};
use crate::broker::Counts;

/// The attempts of an event in some time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct EventStats {
    /// Attempts that started.
    pub started: u64,
    /// Attempts that succeeded.
    pub succeeded: u64,
    /// Attempts that failed, whether or not they are retried.
    pub failed: u64,
    /// Tasks that were archived.
    pub archived: u64,
    /// Attempts that were lost with their server.
    pub lost: u64,
    /// How long handlers ran.
    pub running: Histogram,
    /// How long tasks were pending before they started.
    pub waiting: Histogram,
}

impl EventStats {
    /// The share of failed attempts among those that succeeded or failed. `None` without any.
    pub fn failure_rate(&self) -> Option<f64> {
        let ended = self.succeeded + self.failed;
        (ended > 0).then(|| self.failed as f64 / ended as f64)
    }

    /// Adds those of other times or events.
    pub fn merge(&mut self, other: &Self) {
        self.started += other.started;
        self.succeeded += other.succeeded;
        self.failed += other.failed;
        self.archived += other.archived;
        self.lost += other.lost;
        self.running.merge(&other.running);
        self.waiting.merge(&other.waiting);
    }

    pub(crate) fn add(&mut self, counts: &Counts) {
        self.started += counts.get(slot::STARTED);
        self.succeeded += counts.get(slot::SUCCEEDED);
        self.failed += counts.get(slot::FAILED);
        self.archived += counts.get(slot::ARCHIVED);
        self.lost += counts.get(slot::LOST);
        for (slot, n) in counts.iter() {
            if let Some(bucket) = bucket(slot, slot::WAITING) {
                self.waiting.add(bucket, n);
            } else if let Some(bucket) = bucket(slot, slot::RUNNING) {
                self.running.add(bucket, n);
            }
        }
    }
}

/// The bucket of a slot in the histogram that starts at `first`.
fn bucket(slot: u8, first: u8) -> Option<usize> {
    let bucket = slot.checked_sub(first)?;
    (bucket < Histogram::BUCKETS).then_some(bucket.into())
}
