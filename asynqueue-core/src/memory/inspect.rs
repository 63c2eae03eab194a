//! Reading tasks and figures of queues.

use super::{
    Now,
    queue::Queue,
    table::{Place, Record},
};
use crate::{
    broker::{HourStats, QueueStats, TaskInfo, Version},
    task::{Envelope, TaskId, TaskState, Timestamp},
};

impl Queue {
    /// The information about a task.
    pub(super) fn info(&self, id: &TaskId, now: Now) -> Option<TaskInfo> {
        let record = self.tasks.get(id)?;
        let mut info = record.info(self.version(record), now);
        info.apart = self.apart(&record.envelope);
        Some(info)
    }

    /// The version of a task: a hash of its state and envelope, so that nothing more needs to be stored.
    pub(super) fn version(&self, record: &Record) -> Version {
        let state = record.state().as_str();
        Version(self.tasks.hash_of(&(state, record.envelope.to_bytes())))
    }

    pub(super) fn history(&self, since: Timestamp, now: Timestamp) -> Vec<HourStats> {
        let hour = |time: Timestamp| time.as_millis() / HourStats::MILLIS;
        let oldest = hour(now).saturating_sub(HourStats::KEPT).max(hour(since));
        self.hours.range(oldest..).map(|(_, hour)| *hour).collect()
    }

    pub(super) fn stats(&self, now: Timestamp) -> QueueStats {
        let counts = [
            (TaskState::Scheduled, self.scheduled.len()),
            (TaskState::Pending, self.pending.len()),
            (TaskState::Active, self.active.len()),
            (TaskState::Retry, self.retry.len()),
            (TaskState::Completed, self.completed.len()),
            (TaskState::Archived, self.archived.len()),
            (TaskState::Aggregating, self.groups.len()),
        ];
        let next = self
            .pending
            .first()
            .and_then(|task| self.tasks.get(&task.id));
        let waiting_since = next.and_then(|record| match record.place {
            Place::Pending(since) => Some(since),
            _ => None,
        });
        QueueStats {
            counts: counts
                .into_iter()
                .filter(|(_, n)| *n > 0)
                .map(|(state, n)| (state, n as u64))
                .collect(),
            succeeded: self.succeeded,
            failed: self.failed,
            lost: self.lost,
            latency: waiting_since.map_or_else(Default::default, |since| now.since(since)),
            paused: self.paused,
            repaired: 0,
            archive: self.archive,
        }
    }

    /// The memory of the tasks, estimated from a sample.
    pub(super) fn memory(&self) -> u64 {
        const SAMPLE: usize = 1_000;
        let size = |record: &Record| {
            let headers = record.envelope.headers.iter();
            let headers: usize = headers.map(|(key, value)| key.len() + value.len()).sum();
            let own = size_of::<Record>() + size_of::<Envelope>() + 2 * size_of::<usize>();
            own + record.envelope.payload.len() + record.envelope.id.as_str().len() + headers
        };
        let sampled = self.tasks.len().min(SAMPLE);
        let bytes: usize = self.tasks.iter().take(SAMPLE).map(size).sum();
        (bytes as u64 * self.tasks.len() as u64)
            .checked_div(sampled as u64)
            .unwrap_or(0)
    }
}
