//! Tasks: one, those of a list, and what they carry.

use serde_json::Value;

use super::{Filter, Inspector, redact::MARKER};
use crate::{
    broker::{BrokerError, Cursor, Page, TaskInfo},
    task::{Envelope, InvalidTaskId, Name, TaskId, TaskRef, TaskState, Timestamp, UniqueKey},
};

/// How many tasks one call of [`Inspector::list`] looks at to find those that match.
const MAX_SCANNED: usize = 2_000;

/// How many calls of the broker one call of [`Inspector::list`] makes.
const MAX_CALLS: usize = 20;

/// How many tasks are read at a time.
const CHUNK: usize = 500;

/// A part of a list, less what a filter leaves out.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Listing {
    /// The tasks that match.
    pub tasks: Vec<TaskInfo>,
    /// Where the next page begins; `None` at the end. There may be more although this page is short or empty: a call looks
    /// at a limited number of tasks, whatever it finds.
    pub next: Option<Cursor>,
    /// How many tasks were looked at.
    pub scanned: usize,
}

impl Inspector {
    /// One task, if it is there.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    pub async fn task(&self, task: &TaskRef) -> Result<Option<TaskInfo>, BrokerError> {
        let mut found = self.tasks(std::slice::from_ref(task)).await?;
        Ok(found.pop().flatten())
    }

    /// Some tasks, each if it is there, in the order given.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    pub async fn tasks(&self, tasks: &[TaskRef]) -> Result<Vec<Option<TaskInfo>>, BrokerError> {
        self.broker.tasks(tasks).await
    }

    /// The tasks with this id, whichever queues they are in.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached, or it is no id that a task could have.
    pub async fn find(&self, id: &str) -> Result<Vec<TaskInfo>, FindError> {
        let id = TaskId::new(id)?;
        let queues = self.broker.queues().await?;
        let tasks = queues
            .into_iter()
            .map(|queue| TaskRef::new(queue, id.clone()));
        let found = self.broker.tasks(&tasks.collect::<Vec<_>>()).await?;
        Ok(found.into_iter().flatten().collect())
    }

    /// The tasks of a queue in one state that match a filter, a page at a time.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    pub async fn list(
        &self,
        queue: &Name,
        state: TaskState,
        filter: &Filter,
        page: Page,
    ) -> Result<Listing, BrokerError> {
        let mut listing = Listing {
            next: page.after,
            ..Listing::default()
        };
        for _ in 0..MAX_CALLS {
            // Not more than there is room for: what a page leaves out would be lost to the next.
            let room = page.limit.saturating_sub(listing.tasks.len());
            let part = Page {
                after: listing.next.take(),
                limit: room.min(CHUNK),
            };
            let found = self.broker.list(queue, state, part).await?;
            listing.scanned += found.tasks.len();
            listing.next = found.next;
            let now = self.broker.now();
            let matching = found.tasks.into_iter();
            listing
                .tasks
                .extend(matching.filter(|task| self.matches(filter, task, now)));
            // Half a page will do, rather than ever smaller parts for the rest.
            let is_full = listing.tasks.len() > page.limit / 2;
            if listing.next.is_none() || is_full || listing.scanned >= MAX_SCANNED {
                break;
            }
        }
        Ok(listing)
    }

    fn matches(&self, filter: &Filter, task: &TaskInfo, now: Timestamp) -> bool {
        filter.matches(task, now, || self.payload(task).to_string())
    }

    /// The payload of a task as JSON.
    pub fn payload(&self, task: &TaskInfo) -> Value {
        self.viewer
            .show(&task.envelope.codec, &task.envelope.payload)
    }

    /// The result of a task as JSON, if it has one.
    pub fn result(&self, task: &TaskInfo) -> Option<Value> {
        let result = task.result.as_ref()?;
        Some(self.viewer.show(&task.envelope.codec, result))
    }

    /// What no other task may hold while this one does. Where fields are [redacted](Self::redact) it is hidden if it was made of
    /// the payload, or it could be made of guesses too.
    pub fn unique_key<'a>(&self, task: &'a TaskInfo) -> Option<&'a str> {
        let lock = task.envelope.unique.as_ref()?;
        Some(match self.hides(&lock.key, &task.envelope) {
            true => MARKER,
            false => lock.key.as_str(),
        })
    }

    /// Whether a unique key shows fields that are redacted.
    pub(super) fn hides(&self, key: &UniqueKey, of: &Envelope) -> bool {
        self.viewer.redacts() && key.is_hash_of(&of.event)
    }
}

/// A task could not be looked for.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum FindError {
    /// It is no id.
    #[error(transparent)]
    InvalidId(#[from] InvalidTaskId),
    /// The broker did not answer.
    #[error(transparent)]
    Broker(#[from] BrokerError),
}

crate::debug_as_text!(FindError);
