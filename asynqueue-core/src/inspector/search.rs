//! Searching all queues and states.

use std::collections::{BTreeSet, VecDeque};

use futures_util::{
    StreamExt,
    stream::{self, BoxStream},
};

use super::{Filter, Inspector};
use crate::{
    broker::{BrokerError, Cursor, Page, TaskInfo},
    task::{Name, TaskRef, TaskState},
};

/// How many tasks are read per broker call.
const CHUNK: usize = 500;

/// How many tasks are read again where places are numbers: as many may have left the list since the last call.
const OVERLAP: u64 = 100;

/// The order of a task's life, so that a task that moves while the search runs is met in its next state.
const STATES: [TaskState; 7] = [
    TaskState::Aggregating,
    TaskState::Scheduled,
    TaskState::Pending,
    TaskState::Active,
    TaskState::Retry,
    TaskState::Completed,
    TaskState::Archived,
];

/// One step of a search.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Searched {
    /// The matching tasks of this step. A task that moves while the search runs may be in two steps.
    pub found: Vec<TaskInfo>,
    /// How many tasks were read so far.
    pub scanned: u64,
    /// How many tasks all queues had at the start, or `scanned` if that is more.
    pub total: u64,
}

impl Inspector {
    /// Searches all queues, state by state. Each poll of the stream makes a few broker calls and reads at most 500
    /// tasks, so the caller sets the pace. Dropping the stream stops the search.
    ///
    /// A task that is moved by an operator or retried while the search runs may be missed.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use asynqueue_core::{
    ///     inspector::{Filter, Inspector},
    ///     memory::MemoryBroker,
    /// };
    /// use futures_util::StreamExt;
    ///
    /// let inspector = Inspector::new(MemoryBroker::new());
    /// let mut search = inspector.search(Filter::search("order-1000123")?);
    /// while let Some(step) = search.next().await {
    ///     let step = step?;
    ///     println!("{} of {} tasks, {} more found", step.scanned, step.total, step.found.len());
    /// }
    /// # Ok(()) }
    /// ```
    pub fn search(&self, filter: Filter) -> BoxStream<'static, Result<Searched, BrokerError>> {
        let search = Search {
            inspector: self.clone(),
            filter,
            queues: None,
            lists: VecDeque::new(),
            next: None,
            before: BTreeSet::new(),
            progress: Searched::default(),
            has_ended: false,
        };
        stream::unfold(search, |mut search| async {
            let searched = search.step().await?;
            Some((searched, search))
        })
        .boxed()
    }
}

struct Search {
    inspector: Inspector,
    filter: Filter,
    /// The queues that are left, with their states that were read. `None` before the first step.
    queues: Option<VecDeque<(Name, BTreeSet<TaskState>)>>,
    /// The lists that are left of the first of these queues.
    lists: VecDeque<(Name, TaskState)>,
    /// Where the first of these lists continues.
    next: Option<Cursor>,
    /// The tasks of the previous page, which the next one may repeat.
    before: BTreeSet<TaskRef>,
    progress: Searched,
    has_ended: bool,
}

impl Search {
    async fn step(&mut self) -> Option<Result<Searched, BrokerError>> {
        if self.has_ended {
            return None;
        }
        match self.page().await {
            Ok(is_last) => {
                self.has_ended = is_last;
                self.progress.total = self.progress.total.max(self.progress.scanned);
                let next = Searched {
                    found: Vec::new(),
                    ..self.progress
                };
                Some(Ok(std::mem::replace(&mut self.progress, next)))
            }
            Err(error) => {
                self.has_ended = true;
                Some(Err(error))
            }
        }
    }

    /// Reads one page. Returns whether it was the last one.
    async fn page(&mut self) -> Result<bool, BrokerError> {
        if self.queues.is_none() {
            self.start().await?;
        }
        let Some((queue, state)) = self.list().await? else {
            return Ok(true);
        };
        let broker = &self.inspector.broker;
        let page = Page::first(CHUNK).after(self.next.clone());
        let found = broker.list(&queue, state, page).await?;
        let now = broker.now();
        let mut seen = BTreeSet::new();
        for task in found.tasks {
            let task_ref = task.envelope.task_ref();
            if !self.before.contains(&task_ref) {
                self.progress.scanned += 1;
                if self.inspector.matches(&self.filter, &task, now) {
                    self.progress.found.push(task);
                }
            }
            seen.insert(task_ref);
        }
        self.before = seen;
        self.next = found.next.map(|next| overlapping(next, self.next.as_ref()));
        if self.next.is_none() {
            self.before.clear();
            self.lists.pop_front();
        }
        Ok(false)
    }

    /// Reads which queues have tasks.
    async fn start(&mut self) -> Result<(), BrokerError> {
        let broker = &self.inspector.broker;
        let names = broker.queues().await?;
        let stats = broker.stats(&names).await?;
        self.progress.total = stats.iter().map(|stats| stats.total()).sum();
        let queues = names.into_iter().zip(stats);
        let queues = queues.filter(|(_, stats)| stats.total() > 0);
        self.queues = Some(queues.map(|(name, _)| (name, BTreeSet::new())).collect());
        Ok(())
    }

    /// The list to read next. `None` if none is left.
    async fn list(&mut self) -> Result<Option<(Name, TaskState)>, BrokerError> {
        let queues = self.queues.get_or_insert_default();
        while self.lists.is_empty()
            && let Some((queue, read)) = queues.front_mut()
        {
            let stats = self
                .inspector
                .broker
                .stats(std::slice::from_ref(queue))
                .await?;
            let count = |state| stats.iter().map(|stats| stats.count(state)).sum::<u64>();
            let states = STATES.into_iter().filter(|state| count(*state) > 0);
            // Once they are read, tasks may have moved to a state that was empty. It is read then.
            let left = states.filter(|state| read.insert(*state));
            self.lists.extend(left.map(|state| (queue.clone(), state)));
            if self.lists.is_empty() {
                queues.pop_front();
            }
        }
        Ok(self.lists.front().cloned())
    }
}

/// A place before `next`, if places are numbers. Tasks that left such a list have moved the others forward. The result is
/// behind the place of the last page, so that every page makes progress.
fn overlapping(next: Cursor, last: Option<&Cursor>) -> Cursor {
    let number = |cursor: &Cursor| cursor.0.parse::<u64>().ok();
    let last = last.and_then(number).unwrap_or(0);
    match number(&next) {
        Some(place) if place > last => {
            Cursor(place.saturating_sub(OVERLAP).max(last + 1).to_string())
        }
        _ => next,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        broker::{Broker, NewTask, When},
        codec::{CodecName, Json},
        inspector::Action,
        memory::MemoryBroker,
        task::{Envelope, TaskId},
    };

    async fn with_tasks(count: usize) -> MemoryBroker {
        let broker = MemoryBroker::new();
        let task = |n| {
            let id = TaskId::new(format!("task-{n:04}")).expect("an id");
            let codec = CodecName::of::<Json>();
            NewTask::new(Envelope::new(id, "e", codec, Vec::new().into()), When::Now)
        };
        let results = broker.enqueue((0..count).map(task).collect()).await;
        assert!(results.expect("enqueued").iter().all(Result::is_ok));
        broker
    }

    /// Tasks that leave a list from its start move the others forward.
    #[tokio::test]
    async fn tasks_that_move_forward_in_their_list_are_not_missed() {
        let inspector = Inspector::new(with_tasks(1_700).await);
        let filter = Filter::search("task-").expect("a search");
        let mut search = inspector.search(filter);
        let mut found = Vec::new();
        while let Some(step) = search.next().await {
            let tasks = step.expect("read").found;
            let tasks: Vec<_> = tasks.iter().map(|task| task.envelope.task_ref()).collect();
            let leave = &tasks[..tasks.len().min(90)];
            let left = inspector.apply(&Action::Delete, leave).await;
            left.expect("deleted");
            found.extend(tasks);
        }
        assert_eq!(found.len(), 1_700);
        found.sort();
        found.dedup();
        assert_eq!(found.len(), 1_700);
    }

    #[test]
    fn a_repeated_page_still_makes_progress() {
        let cursor = |place: &str| Cursor(place.to_owned());
        let next =
            |next, last: Option<&str>| overlapping(cursor(next), last.map(cursor).as_ref()).0;
        assert_eq!(next("500", None), "400");
        assert_eq!(next("50", None), "1");
        assert_eq!(next("520", Some("500")), "501");
        assert_eq!(next("1:7", Some("1:2")), "1:7");
    }
}
