//! Reading tasks: single ones, lists, and their payloads.

use serde_json::Value;

use super::{Filter, Inspector, redact::MARKER};
use crate::{
    broker::{BrokerError, Cursor, Page, TaskInfo},
    task::{Envelope, InvalidTaskId, Name, TaskId, TaskRef, TaskState, Timestamp, UniqueKey},
};

/// How many tasks one call of [`Inspector::list`] reads at most.
const MAX_SCANNED: usize = 2_000;

/// How many broker calls one call of [`Inspector::list`] makes at most.
const MAX_CALLS: usize = 20;

/// How many tasks are read per broker call.
const CHUNK: usize = 500;

/// A page of a filtered list.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Listing {
    /// The tasks that match the filter.
    pub tasks: Vec<TaskInfo>,
    /// Where the next page starts. `None` at the end. A page may be short or empty although more tasks follow: a call
    /// reads a limited number of tasks, regardless of the matches.
    pub next: Option<Cursor>,
    /// How many tasks were read.
    pub scanned: usize,
}

impl Inspector {
    /// A task. `None` if it does not exist.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    pub async fn task(&self, task: &TaskRef) -> Result<Option<TaskInfo>, BrokerError> {
        let mut found = self.tasks(std::slice::from_ref(task)).await?;
        Ok(found.pop().flatten())
    }

    /// Tasks, in the order given. `None` for a task that does not exist.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    pub async fn tasks(&self, tasks: &[TaskRef]) -> Result<Vec<Option<TaskInfo>>, BrokerError> {
        self.broker.tasks(tasks).await
    }

    /// The tasks with this id, in all queues.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached, or the text is not a valid id.
    pub async fn find(&self, id: &str) -> Result<Vec<TaskInfo>, FindError> {
        let id = TaskId::new(id)?;
        let queues = self.broker.queues().await?;
        let tasks = queues
            .into_iter()
            .map(|queue| TaskRef::new(queue, id.clone()));
        let found = self.broker.tasks(&tasks.collect::<Vec<_>>()).await?;
        Ok(found.into_iter().flatten().collect())
    }

    /// One page of the tasks of a queue in one state that match a filter.
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
            // No more than fit: matches that do not fit would be missing from the next page.
            let room = page.limit.saturating_sub(listing.tasks.len());
            let part = Page {
                after: listing.next.take(),
                limit: room.min(CHUNK),
                reversed: page.reversed,
            };
            let found = self.broker.list(queue, state, part).await?;
            listing.scanned += found.tasks.len();
            listing.next = found.next;
            let now = self.broker.now();
            let matching = found.tasks.into_iter();
            listing
                .tasks
                .extend(matching.filter(|task| self.matches(filter, task, now)));
            // Stops at half a page instead of reading ever smaller parts for the rest.
            let is_full = listing.tasks.len() > page.limit / 2;
            if listing.next.is_none() || is_full || listing.scanned >= MAX_SCANNED {
                break;
            }
        }
        Ok(listing)
    }

    pub(super) fn matches(&self, filter: &Filter, task: &TaskInfo, now: Timestamp) -> bool {
        filter.matches(task, now, || self.payload(task).to_string())
    }

    /// The payload of a task as JSON.
    pub fn payload(&self, task: &TaskInfo) -> Value {
        self.viewer
            .show(&task.envelope.codec, &task.envelope.payload)
    }

    /// The result of a task as JSON. `None` if it has none.
    pub fn result(&self, task: &TaskInfo) -> Option<Value> {
        let result = task.result.as_ref()?;
        Some(self.viewer.show(&task.envelope.codec, result))
    }

    /// The unique key of a task. If fields are [redacted](Self::redact), a key that is a hash of the payload is hidden,
    /// because it could be compared with hashes of guesses.
    pub fn unique_key<'a>(&self, task: &'a TaskInfo) -> Option<&'a str> {
        let lock = task.envelope.unique.as_ref()?;
        Some(match self.hides(&lock.key, &task.envelope) {
            true => MARKER,
            false => lock.key.as_str(),
        })
    }

    /// Whether a unique key reveals redacted fields.
    pub(super) fn hides(&self, key: &UniqueKey, of: &Envelope) -> bool {
        self.viewer.redacts() && key.is_hash_of(&of.event)
    }
}

/// Finding a task failed.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum FindError {
    /// The text is not a valid id.
    #[error(transparent)]
    InvalidId(#[from] InvalidTaskId),
    /// The broker call failed.
    #[error(transparent)]
    Broker(#[from] BrokerError),
}

crate::debug_as_text!(FindError);
