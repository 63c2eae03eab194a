//! Files, tasks and other processes for tests of one file.

#![allow(dead_code, reason = "each test binary uses a part")]

pub(crate) mod process;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use asynqueue_core::{
    broker::{BrokerError, LeaseRequest, Leased, NewTask, Outcome, Settled, Store, When, all_of},
    codec::CodecName,
    task::{Envelope, Name, TaskId, TaskRef},
};
use asynqueue_sqlite::{ConnectError, SqliteBroker, SqliteOptions};
use bytes::Bytes;
use tempfile::TempDir;

/// How long a test waits for what must happen.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// A folder for one test, and the path of a database in it.
pub(crate) struct Scratch(TempDir);

impl Scratch {
    pub(crate) fn new() -> Self {
        Self(TempDir::new().expect("a folder"))
    }

    pub(crate) fn folder(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.folder().join("tasks.db")
    }
}

/// A connection that waits 300 ms for others.
pub(crate) async fn try_open(path: impl AsRef<Path>) -> Result<SqliteBroker, ConnectError> {
    let options = SqliteOptions::file(path).busy_timeout(Duration::from_millis(300));
    SqliteBroker::connect(options).await
}

pub(crate) async fn open(path: impl AsRef<Path>) -> SqliteBroker {
    try_open(path).await.expect("the file can be opened")
}

/// A connection of another program.
pub(crate) fn program(path: impl AsRef<Path>) -> rusqlite::Connection {
    let db = rusqlite::Connection::open(path).expect("the file can be opened");
    db.busy_timeout(LIMIT).expect("a timeout");
    db
}

pub(crate) fn id(id: &str) -> TaskId {
    TaskId::new(id).expect("an id")
}

pub(crate) fn task_ref(queue: &str, task: &str) -> TaskRef {
    TaskRef::new(queue, id(task))
}

pub(crate) fn task_of(queue: &str, task: &str, bytes: usize) -> NewTask {
    let payload = Bytes::from(vec![7; bytes]);
    let codec = CodecName::of::<asynqueue_core::codec::MessagePack>();
    let mut envelope = Envelope::new(id(task), "event", codec, payload);
    envelope.queue = Name::from(queue);
    NewTask::new(envelope, When::Now)
}

/// Enqueues a small task in queue `q`.
pub(crate) async fn enqueue(broker: &SqliteBroker, task: &str) -> Result<(), BrokerError> {
    enqueue_in(broker, "q", task, 100).await
}

pub(crate) async fn enqueue_in(
    broker: &SqliteBroker,
    queue: &str,
    task: &str,
    bytes: usize,
) -> Result<(), BrokerError> {
    let added = Store::enqueue(broker, vec![task_of(queue, task, bytes)]).await?;
    for added in added {
        added.expect("the id is free");
    }
    Ok(())
}

/// A request for `max` tasks of each of these queues.
pub(crate) fn request(queues: &[&str], max: usize) -> LeaseRequest {
    let each = queues.iter().map(|queue| (Name::from(*queue), max));
    LeaseRequest::new(
        each.collect(),
        max,
        Duration::from_secs(60),
        Name::from("worker"),
    )
}

/// Leases up to `max` tasks of queue `q`.
pub(crate) async fn lease(broker: &SqliteBroker, max: usize) -> Result<Vec<Leased>, BrokerError> {
    let queues = all_of(Store::lease(broker, &request(&["q"], max)).await)?;
    Ok(queues.into_iter().flatten().collect())
}

pub(crate) async fn complete(
    broker: &SqliteBroker,
    leased: &Leased,
) -> Result<Settled, BrokerError> {
    let outcome = Outcome::Complete {
        result: Some(Bytes::from_static(b"done")),
    };
    let settled = all_of(Store::settle(broker, &[leased.clone().settle(outcome)]).await)?;
    Ok(settled.into_iter().next().expect("one result"))
}

/// Enqueues a task, leases it and completes it. Other tasks do not wait.
pub(crate) async fn work(broker: &SqliteBroker, task: &str) {
    enqueue(broker, task).await.expect("a task is accepted");
    let leased = lease(broker, 1).await.expect("a task is leased");
    assert_eq!(names(&leased), [task]);
    let settled = complete(broker, &leased[0]).await.expect("an outcome");
    assert_eq!(settled, Settled::Recorded);
}

/// The tasks that are leased, drained from queue `q`.
pub(crate) async fn drain(broker: &SqliteBroker) -> Vec<String> {
    let leased = lease(broker, 100_000).await.expect("tasks are leased");
    for one in &leased {
        let settled = complete(broker, one).await.expect("an outcome");
        assert_eq!(settled, Settled::Recorded);
    }
    names(&leased)
}

pub(crate) fn names(leased: &[Leased]) -> Vec<String> {
    let name = |leased: &Leased| Arc::clone(&leased.envelope).id.to_string();
    leased.iter().map(name).collect()
}

/// Waits for a condition.
pub(crate) async fn eventually(what: &str, mut is_true: impl AsyncFnMut() -> bool) {
    let started = Instant::now();
    while !is_true().await {
        assert!(started.elapsed() < LIMIT, "not within {LIMIT:?}: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The number of pending tasks in queue `q`.
pub(crate) async fn pending(broker: &SqliteBroker) -> Result<u64, BrokerError> {
    let stats = Store::stats(broker, &[Name::from("q")]).await?;
    Ok(stats[0].count(asynqueue_core::task::TaskState::Pending))
}
