//! Shared by all these tests: two task types, waiting with a deadline, and reading what the broker holds.

use std::{
    future::Future,
    io,
    sync::{Arc, Mutex, OnceLock},
    time::{Duration, Instant},
};

use asynqueue_core::{
    broker::{Inspect, TaskInfo},
    memory::MemoryBroker,
    producer::{Producer, TaskHandle, TaskStatus},
    task::{Failure, Task, TaskState},
};
use asynqueue_macros::Task;
use serde::{Deserialize, Serialize};
use tracing_subscriber::util::SubscriberInitExt;

/// A test that waits this long has failed.
pub(crate) const AN_HOUR: Duration = Duration::from_secs(3600);

/// How long a test waits for an expected event.
const PATIENCE: Duration = Duration::from_secs(30);

/// A task without output. It is retained, so that the counts include completed tasks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Task)]
#[task(event = "job", retention = "1h", backoff = fixed("2ms"), crate = asynqueue_core)]
pub(crate) struct Job {
    pub(crate) n: u64,
}

/// A task with an output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Task)]
#[task(event = "sum", output = u64, backoff = fixed("2ms"), crate = asynqueue_core)]
pub(crate) struct Sum {
    pub(crate) of: Vec<u64>,
}

pub(crate) fn job(n: u64) -> Job {
    Job { n }
}

/// A broker and a producer on it.
pub(crate) fn broker() -> (MemoryBroker, Producer) {
    let broker = MemoryBroker::new();
    (broker.clone(), Producer::new(broker))
}

/// Enqueues jobs `0..n`.
pub(crate) async fn enqueue_jobs(producer: &Producer, n: u64) -> Vec<TaskHandle<Job>> {
    let handles = producer.enqueue_many((0..n).map(job)).await;
    handles
        .into_iter()
        .map(|handle| handle.expect("accepted"))
        .collect()
}

/// Waits for an expected event.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .unwrap_or_else(|_| panic!("timed out waiting: {what}"))
}

/// Waits until a condition is true.
pub(crate) async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so().await {
        assert!(Instant::now() < deadline, "timed out waiting until {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// How many tasks are in each state, over all queues.
pub(crate) async fn counts(broker: &MemoryBroker) -> Vec<(TaskState, u64)> {
    let queues = broker.queues().await.expect("queues");
    let stats = broker.stats(&queues).await.expect("stats");
    let count = |state| stats.iter().map(|stats| stats.count(state)).sum();
    TaskState::ALL
        .into_iter()
        .map(|state| (state, count(state)))
        .filter(|(_, n)| *n > 0)
        .collect()
}

/// Waits until the broker holds exactly these.
pub(crate) async fn counts_become(broker: &MemoryBroker, expected: &[(TaskState, u64)]) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let now = counts(broker).await;
        if now == expected {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "timed out waiting for the counts {expected:?}; they are {now:?}"
        );
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// The task as the broker stores it.
pub(crate) async fn info<T: Task>(handle: &TaskHandle<T>) -> TaskInfo {
    match handle.status().await.expect("a response") {
        TaskStatus::Known(info) => *info,
        TaskStatus::Gone => panic!("{handle:?} is gone"),
    }
}

/// Waits until a task is in a state.
pub(crate) async fn becomes<T: Task>(handle: &TaskHandle<T>, state: TaskState) -> TaskInfo {
    until(
        &format!("{handle:?} is {state}"),
        async || matches!(handle.status().await, Ok(status) if status.state() == Some(state)),
    )
    .await;
    info(handle).await
}

/// Waits for a task to be archived, and returns its last failure.
pub(crate) async fn failure_of<T: Task>(handle: &TaskHandle<T>) -> Failure {
    let archived = becomes(handle, TaskState::Archived).await.envelope;
    let last = archived.failures().last().expect("a reason");
    last.clone()
}

/// Waits for a task's output.
pub(crate) async fn output_of<T: Task>(handle: &TaskHandle<T>) -> T::Output {
    soon("the task completes", handle.result())
        .await
        .unwrap_or_else(|error| panic!("failed: {error}"))
}

/// Captured log lines.
#[derive(Clone, Default)]
pub(crate) struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Captures the log lines of this thread and of servers started on it.
pub(crate) fn lines() -> (Lines, tracing::subscriber::DefaultGuard) {
    // With one subscriber in the process, a line that another thread reaches first is disabled for all of them.
    static OTHER: OnceLock<tracing::Dispatch> = OnceLock::new();
    OTHER.get_or_init(|| {
        let unread = tracing_subscriber::fmt().with_writer(io::sink);
        tracing::Dispatch::new(unread.finish())
    });
    let lines = Lines::default();
    let writer = lines.clone();
    let log = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(move || writer.clone());
    (lines, log.set_default())
}

/// The lines that contain some text.
pub(crate) fn with(lines: &Lines, text: &str) -> Vec<String> {
    let all = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    let found = all.lines().filter(|line| line.contains(text));
    found.map(str::to_owned).collect()
}
