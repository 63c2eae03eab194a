//! Actions on all tasks that match a filter.

use std::time::Duration;

use futures_util::{
    StreamExt,
    stream::{self, BoxStream},
};

use super::{
    Action, ActionKind, ActionOutcome, ActionTarget, AuditEntry, Filter, Inspector,
    action::CHUNK,
    audit::{BulkRecord, MAX_EDITS},
};
use crate::{
    broker::{BrokerError, Cursor, Page, TaskInfo},
    task::{Name, TaskRef, TaskState, Timestamp},
};

/// How far two programs' readings of the broker's clock may differ.
const SKEW: Duration = Duration::from_secs(1);

/// The progress of a bulk action.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BulkProgress {
    /// How many tasks were read.
    pub scanned: u64,
    /// How many tasks the action was applied to.
    pub done: u64,
    /// How many tasks it was refused for: they no longer exist, or are in an unsuitable state.
    pub refused: u64,
}

impl BulkProgress {
    /// The progress after reading, changing and refusing these numbers of tasks.
    pub const fn new(scanned: u64, done: u64, refused: u64) -> Self {
        Self {
            scanned,
            done,
            refused,
        }
    }
}

impl Inspector {
    /// Applies an action to all tasks of a queue in one state that match a filter. Each poll of the stream processes
    /// one chunk, so the broker serves others in between and memory does not grow with the number of tasks. Each item
    /// is the progress so far. Dropping the stream stops the action.
    ///
    /// It always ends: it changes about as many tasks as were in the state at the start, even if others arrive, or
    /// changed ones return, faster than it reads. An action that does not [apply](super::ActionKind::applies_to) to the
    /// state is tried once for each task.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use asynqueue_core::{
    ///     inspector::{Action, Inspector},
    ///     memory::MemoryBroker,
    ///     task::TaskState,
    /// };
    /// use futures_util::StreamExt;
    ///
    /// let inspector = Inspector::new(MemoryBroker::new());
    /// let filter = "error~timeout age>1d".parse()?;
    /// let mut bulk = inspector.apply_to_all(Action::Delete, "default", TaskState::Archived, filter);
    /// while let Some(progress) = bulk.next().await {
    ///     println!("{} deleted", progress?.done);
    /// }
    /// # Ok(()) }
    /// ```
    pub fn apply_to_all(
        &self,
        action: Action,
        queue: impl Into<Name>,
        state: TaskState,
        filter: Filter,
    ) -> BoxStream<'static, Result<BulkProgress, BrokerError>> {
        // In these lists a place is a number, which names another task once earlier ones have been removed. Such a list
        // is read again until nothing is left to do.
        let by_number = matches!(state, TaskState::Pending | TaskState::Aggregating);
        let bulk = Bulk {
            inspector: self.clone(),
            goes_again: by_number && removes(&action, state),
            action,
            queue: queue.into(),
            state,
            filter,
            next: None,
            start: None,
            done_before: 0,
            scanned_before: 0,
            progress: BulkProgress::default(),
            has_ended: false,
            record: None,
            edits: 0,
        };
        stream::unfold(bulk, |mut bulk| async {
            let progress = bulk.step().await?;
            Some((progress, bulk))
        })
        .boxed()
    }
}

/// Whether a task leaves this state by the action. A broker also accepts actions that leave it where it is.
const fn removes(action: &Action, state: TaskState) -> bool {
    let kind = action.kind();
    kind.applies_to(ActionTarget::Task(state)) && !matches!(kind, ActionKind::Edit)
}

struct Bulk {
    inspector: Inspector,
    action: Action,
    queue: Name,
    state: TaskState,
    filter: Filter,
    /// Whether the list is read again until nothing is left to do.
    goes_again: bool,
    next: Option<Cursor>,
    /// When it started, and how many tasks were in the state. Read with the first chunk.
    start: Option<(Timestamp, u64)>,
    /// How many tasks were done when the current pass started.
    done_before: u64,
    /// How many tasks were read when the current pass started.
    scanned_before: u64,
    progress: BulkProgress,
    has_ended: bool,
    /// The audit entry, once the first tasks are changed.
    record: Option<BulkRecord>,
    /// How many edits were recorded with the payload before.
    edits: usize,
}

impl Bulk {
    async fn step(&mut self) -> Option<Result<BulkProgress, BrokerError>> {
        if self.has_ended {
            return None;
        }
        let result = self.chunk().await;
        self.has_ended |= result.is_err();
        if let Some(record) = &mut self.record {
            let is_complete = self.has_ended && result.is_ok();
            let broker = &self.inspector.broker;
            record.add(broker, self.progress, is_complete).await;
        }
        Some(result.map(|()| self.progress))
    }

    /// Applies the action to a chunk. The entry is written before the first change.
    async fn apply(&mut self, tasks: &[TaskRef]) -> Result<Vec<ActionOutcome>, BrokerError> {
        let inspector = &self.inspector;
        if self.record.is_none() && !tasks.is_empty() {
            let entry = AuditEntry::of_action(&self.action, self.queue.clone());
            let entry = entry.all_in(self.state, self.filter.to_string());
            let record = BulkRecord::start(&inspector.broker, inspector.actor(), entry).await;
            self.record = Some(record);
        }
        let mut edits = Vec::new();
        let outcomes = inspector.apply_chunk(&self.action, tasks, &mut edits).await;
        edits.truncate(MAX_EDITS.saturating_sub(self.edits));
        self.edits += edits.len();
        inspector.record_edits(&self.action, edits).await;
        outcomes
    }

    async fn chunk(&mut self) -> Result<(), BrokerError> {
        let page = Page::first(CHUNK).after(self.next.take());
        let inspector = &self.inspector;
        let (started, most) = match self.start {
            Some(start) => start,
            None => {
                let queue = std::slice::from_ref(&self.queue);
                let stats = inspector.broker.stats(queue).await?;
                let most = stats.iter().map(|stats| stats.count(self.state)).sum();
                (inspector.now(), most)
            }
        };
        self.start = Some((started, most));
        let listing = inspector
            .list(&self.queue, self.state, &self.filter, page)
            .await?;
        // Otherwise later ones would take the place of earlier ones that a number skipped.
        let latest = started + SKEW;
        let was_there = |task: &&TaskInfo| task.since.is_none_or(|since| since <= latest);
        let tasks = listing.tasks.iter().filter(was_there);
        let tasks = tasks.map(|task| task.envelope.task_ref());
        let outcomes = self.apply(&tasks.collect::<Vec<_>>()).await?;
        let done = outcomes
            .iter()
            .filter(|outcome| **outcome == ActionOutcome::Done);
        let done = done.count() as u64;
        self.progress.scanned += listing.scanned as u64;
        self.progress.done += done;
        self.progress.refused += outcomes.len() as u64 - done;
        // Arriving tasks may lengthen the list as fast as it is read.
        let is_read = self.progress.scanned - self.scanned_before >= 2 * most.max(CHUNK as u64);
        self.next = listing.next.filter(|_| !is_read);
        if self.next.is_none() {
            let did_some = self.progress.done > self.done_before;
            self.done_before = self.progress.done;
            self.scanned_before = self.progress.scanned;
            self.has_ended = !(self.goes_again && did_some);
        }
        // The rest has arrived since, or was already changed and has returned: a task that is run may fail or snooze
        // before the list ends, and then it is in the list again.
        self.has_ended |= self.progress.done >= most && self.progress.done > 0;
        Ok(())
    }
}
