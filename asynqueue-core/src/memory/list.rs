//! Lists of tasks, a page at a time.

use super::{Now, queue::Queue, table::Place};
use crate::{
    broker::{Cursor, Page, TaskPage},
    task::{Envelope, TaskId, TaskState, Timestamp},
};

/// How many tasks that became pending between two pages are skipped at most, to continue behind the page before.
const MOST_ADDED: usize = 10_000;

impl Queue {
    pub(super) fn list(&self, state: TaskState, page: &Page, now: Now) -> TaskPage {
        let after = page.after.as_ref().map(|cursor| cursor.0.as_str());
        let by_time = match state {
            TaskState::Pending if page.reversed => {
                return self.last_pending(after, page.limit, now);
            }
            TaskState::Pending => {
                let ids = self.pending.iter().map(|task| &task.id);
                return self.numbered(after, page.limit, now, ids);
            }
            TaskState::Aggregating if page.reversed => {
                return self.numbered(after, page.limit, now, self.groups.iter().rev());
            }
            TaskState::Aggregating => {
                return self.numbered(after, page.limit, now, self.groups.iter());
            }
            TaskState::Scheduled => self.scheduled.from(after, page.reversed),
            TaskState::Retry => self.retry.from(after, page.reversed),
            TaskState::Active => self.active.from(after, page.reversed),
            TaskState::Completed => self.completed.from(after, !page.reversed),
            TaskState::Archived => self.archived.from(after, !page.reversed),
            TaskState::Other => return TaskPage::default(),
        };
        let place = |(at, id): &(Timestamp, TaskId)| format!("{}:{id}", at.as_millis());
        let places = by_time.map(|entry| (&entry.1, place(entry)));
        self.page(page.limit, now, places)
    }

    /// A page whose cursor is the number of tasks before it.
    fn numbered<'a>(
        &self,
        after: Option<&str>,
        limit: usize,
        now: Now,
        ids: impl Iterator<Item = &'a TaskId>,
    ) -> TaskPage {
        let skipped = after.and_then(|place| place.parse().ok()).unwrap_or(0);
        let ids = ids.enumerate().skip(skipped);
        self.page(limit, now, ids.map(|(n, id)| (id, (n + 1).to_string())))
    }

    /// A page of the pending tasks, last first. Its cursor also has the last task of the page, because the tasks that
    /// become pending change all numbers.
    fn last_pending(&self, after: Option<&str>, limit: usize, now: Now) -> TaskPage {
        let from_end = || self.pending.backwards(|task| self.is_pending(task));
        let place = after.and_then(|after| {
            let (number, id) = after.split_once(':')?;
            Some((number.parse::<usize>().ok()?, id))
        });
        let skipped = place.map_or(0, |(number, id)| {
            let near = from_end().take(number.saturating_add(MOST_ADDED));
            let found = near.map(|task| &task.id).position(|of| of.as_str() == id);
            found.map_or(number, |found| found + 1)
        });
        let tasks = from_end().enumerate().skip(skipped);
        let places = tasks.map(|(n, task)| (&task.id, format!("{}:{}", n + 1, task.id)));
        self.page(limit, now, places)
    }

    fn is_pending(&self, task: &Envelope) -> bool {
        self.tasks.get(&task.id).is_some_and(|record| {
            let has_priority = record.envelope.options.priority == task.options.priority;
            has_priority && matches!(record.place, Place::Pending(_))
        })
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
