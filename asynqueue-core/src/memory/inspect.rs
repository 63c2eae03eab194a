//! Reading queues.

use super::{
    Now,
    queue::Queue,
    table::{Place, Record},
};
use crate::{
    broker::{Cursor, HourStats, Page, QueueStats, TaskInfo, TaskPage, Version},
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

    pub(super) fn list(&self, state: TaskState, page: &Page, now: Now) -> TaskPage {
        let after = page.after.as_ref().map(|cursor| cursor.0.as_str());
        match state {
            TaskState::Pending => {
                let skipped = after.and_then(|place| place.parse().ok()).unwrap_or(0);
                let tasks = self.pending.iter().enumerate().skip(skipped);
                self.page(
                    page.limit,
                    now,
                    tasks.map(|(i, task)| (&task.id, (i + 1).to_string())),
                )
            }
            TaskState::Scheduled => {
                self.page_of(page.limit, now, self.scheduled.from(after, false))
            }
            TaskState::Retry => self.page_of(page.limit, now, self.retry.from(after, false)),
            TaskState::Active => self.page_of(page.limit, now, self.active.from(after, false)),
            TaskState::Completed => self.page_of(page.limit, now, self.completed.from(after, true)),
            TaskState::Archived => self.page_of(page.limit, now, self.archived.from(after, true)),
            TaskState::Aggregating => {
                let skipped = after.and_then(|place| place.parse().ok()).unwrap_or(0);
                let tasks = self.groups.iter().enumerate().skip(skipped);
                self.page(
                    page.limit,
                    now,
                    tasks.map(|(i, id)| (id, (i + 1).to_string())),
                )
            }
            TaskState::Other => TaskPage::default(),
        }
    }

    fn page_of<'a>(
        &self,
        limit: usize,
        now: Now,
        places: impl Iterator<Item = &'a (Timestamp, TaskId)>,
    ) -> TaskPage {
        self.page(
            limit,
            now,
            places.map(|(at, id)| (id, format!("{}:{id}", at.as_millis()))),
        )
    }

    /// A page of tasks, each given with the cursor of its place.
    fn page<'a>(
        &self,
        limit: usize,
        now: Now,
        ids: impl Iterator<Item = (&'a TaskId, String)>,
    ) -> TaskPage {
        let mut ids = ids.peekable();
        let mut page = TaskPage::default();
        while let Some((id, cursor)) = ids.next_if(|_| page.tasks.len() < limit) {
            page.tasks.extend(self.info(id, now));
            page.next = Some(Cursor(cursor));
        }
        if ids.peek().is_none() {
            page.next = None;
        }
        page
    }
}
