//! Assertions about enqueued tasks.

use std::{fmt::Write, sync::Arc};

use serde_json::Value;

use crate::{
    broker::{BrokerError, Inspect, Page, TaskInfo},
    task::{Name, Task, TaskState, Timestamp},
};

/// The tasks of one type in a broker, for assertions. A failing assertion lists all tasks in the broker.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use asynqueue_core::{memory::MemoryBroker, producer::Producer, testing::Enqueued};
/// # #[derive(serde::Serialize, serde::Deserialize, asynqueue_macros::Task)]
/// # #[task(event = "email:welcome", crate = asynqueue_core)]
/// # struct WelcomeEmail { user_id: u64 }
///
/// let broker = MemoryBroker::new();
/// let producer = Producer::new(broker.clone());
/// producer.enqueue(WelcomeEmail { user_id: 42 }).await?;
/// producer.enqueue(WelcomeEmail { user_id: 43 }).queue("slow").await?;
///
/// let emails = Enqueued::<WelcomeEmail>::in_broker(&broker).await?;
/// emails.assert_count(2).assert_any(|email| email.user_id == 42);
/// emails.in_queue("slow").assert_count(1).assert_all(|email| email.user_id == 43);
/// # Ok(()) }
/// ```
///
/// A completed task without retention is not stored, and therefore not included.
#[derive(Debug)]
pub struct Enqueued<T> {
    tasks: Vec<Arc<EnqueuedTask<T>>>,
    /// All tasks in the broker, one per line.
    listing: String,
    /// The filters applied so far.
    narrowed: String,
}

/// One of the enqueued tasks.
#[derive(Debug)]
#[non_exhaustive]
pub struct EnqueuedTask<T> {
    /// The decoded payload.
    pub payload: T,
    /// Everything that the broker stores about the task.
    pub info: TaskInfo,
}

impl<T: Task> Enqueued<T> {
    /// Reads the tasks. Pass a shared broker as `&*broker`.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    ///
    /// # Panics
    ///
    /// When the payload of a task of `T`'s event cannot be decoded as a `T`.
    pub async fn in_broker(broker: &(impl Inspect + ?Sized)) -> Result<Self, BrokerError> {
        let mut enqueued = Self {
            tasks: Vec::new(),
            listing: String::new(),
            narrowed: String::new(),
        };
        for info in all_tasks(broker).await? {
            enqueued.add(info);
        }
        Ok(enqueued)
    }

    fn add(&mut self, info: TaskInfo) {
        let envelope = &info.envelope;
        let (state, task, event) = (info.state, envelope.task_ref(), &envelope.event);
        let payload = envelope
            .codec
            .decode::<Value, T::Codec>(&envelope.payload)
            .map_or_else(
                |_| format!("{} bytes", envelope.payload.len()),
                |v| v.to_string(),
            );
        // Writing to a string cannot fail.
        let _ = write!(self.listing, "\n  {event} {payload} {state} as {task}");
        if let Some(at) = info.at.filter(|_| state == TaskState::Scheduled) {
            let _ = write!(self.listing, ", due at {}", at.as_millis());
        }
        if *event == T::EVENT {
            let payload = envelope
                .codec
                .decode::<T, T::Codec>(&envelope.payload)
                .unwrap_or_else(|error| {
                    panic!("{task} has an invalid payload for `{event}`: {error}")
                });
            self.tasks.push(Arc::new(EnqueuedTask { payload, info }));
        }
    }

    /// The tasks, by queue, then by state, then in the order they will run.
    pub fn tasks(&self) -> impl Iterator<Item = &EnqueuedTask<T>> {
        self.tasks.iter().map(|task| &**task)
    }

    /// The tasks in one queue.
    #[must_use]
    pub fn in_queue(&self, queue: impl Into<Name>) -> Self {
        let queue = queue.into();
        self.narrow(format!("in queue `{queue}`"), |info| {
            info.envelope.queue == queue
        })
    }

    /// The tasks in one state.
    #[must_use]
    pub fn in_state(&self, state: TaskState) -> Self {
        self.narrow(format!("in state `{state}`"), |info| info.state == state)
    }

    /// The tasks scheduled for this time.
    #[must_use]
    pub fn due_at(&self, time: impl Into<Timestamp>) -> Self {
        let time = time.into();
        self.narrow(format!("due at {}", time.as_millis()), |info| {
            info.state == TaskState::Scheduled && info.at == Some(time)
        })
    }

    fn narrow(&self, by: String, keep: impl Fn(&TaskInfo) -> bool) -> Self {
        let tasks = self.tasks.iter().filter(|task| keep(&task.info));
        Self {
            tasks: tasks.cloned().collect(),
            listing: self.listing.clone(),
            narrowed: format!("{} {by}", self.narrowed),
        }
    }
}

impl<T: Task> Enqueued<T> {
    /// Panics unless there are exactly `count` tasks.
    #[track_caller]
    pub fn assert_count(&self, count: usize) -> &Self {
        let found = self.tasks.len();
        self.check(found == count, &format!("{count} of"));
        self
    }

    /// Panics if there are any tasks.
    #[track_caller]
    pub fn assert_none(&self) -> &Self {
        self.check(self.tasks.is_empty(), "none of");
        self
    }

    /// Panics unless `is_so` holds for the payload of at least one task.
    #[track_caller]
    pub fn assert_any(&self, is_so: impl Fn(&T) -> bool) -> &Self {
        let holds = self.tasks.iter().any(|task| is_so(&task.payload));
        self.check(holds, "at least one that the closure accepts of");
        self
    }

    /// Panics unless `is_so` holds for the payloads of all tasks.
    #[track_caller]
    pub fn assert_all(&self, is_so: impl Fn(&T) -> bool) -> &Self {
        let holds = self.tasks.iter().all(|task| is_so(&task.payload));
        self.check(holds, "the closure to accept all of");
        self
    }

    #[track_caller]
    fn check(&self, holds: bool, expected: &str) {
        let (event, narrowed, found) = (T::EVENT, &self.narrowed, self.tasks.len());
        let listing = if self.listing.is_empty() {
            "\n  nothing"
        } else {
            &self.listing
        };
        assert!(
            holds,
            "expected {expected} `{event}`{narrowed}, found {found}; the broker has:{listing}"
        );
    }
}

/// All tasks in a broker, by queue, then by state, then in the order they will run.
pub(super) async fn all_tasks(
    broker: &(impl Inspect + ?Sized),
) -> Result<Vec<TaskInfo>, BrokerError> {
    let mut tasks = Vec::new();
    for queue in broker.queues().await? {
        for state in TaskState::ALL {
            tasks.extend(list_all(broker, &queue, state).await?);
        }
    }
    Ok(tasks)
}

/// All tasks of a queue in one state.
pub(super) async fn list_all(
    broker: &(impl Inspect + ?Sized),
    queue: &Name,
    state: TaskState,
) -> Result<Vec<TaskInfo>, BrokerError> {
    let mut page = Page::default();
    let mut tasks = Vec::new();
    loop {
        let read = broker.list(queue, state, page.clone()).await?;
        tasks.extend(read.tasks);
        page.after = read.next;
        if page.after.is_none() {
            return Ok(tasks);
        }
    }
}
