//! Small tasks and short calls of a store, for tests of one queue: `q`.

#![allow(
    clippy::missing_errors_doc,
    clippy::missing_panics_doc,
    reason = "these are tests"
)]

use std::time::Duration;

use asynqueue_core::{
    broker::{BrokerError, LeaseRequest, Leased, NewTask, Outcome, Settled, Store, When, all_of},
    codec::{CodecName, MessagePack},
    task::{Envelope, Name, TaskId, TaskRef, TaskState},
};
use bytes::Bytes;

/// How long a test waits for what must happen.
pub const LIMIT: Duration = Duration::from_secs(60);

/// A valid id.
pub fn id(id: &str) -> TaskId {
    TaskId::new(id).expect("an id")
}

/// A task of queue `q`.
pub fn task_ref(task: &str) -> TaskRef {
    TaskRef::new("q", id(task))
}

/// A task of 100 bytes in queue `q`.
pub fn task_of(task: &str) -> NewTask {
    task_in("q", task, 100)
}

/// A task with a payload of this size.
pub fn task_in(queue: &str, task: &str, bytes: usize) -> NewTask {
    let payload = Bytes::from(vec![7; bytes]);
    let codec = CodecName::of::<MessagePack>();
    let mut envelope = Envelope::new(id(task), "event", codec, payload);
    envelope.queue = Name::from(queue);
    NewTask::new(envelope, When::Now)
}

/// Enqueues a task of 100 bytes in queue `q`.
pub async fn enqueue(store: &impl Store, task: &str) -> Result<(), BrokerError> {
    enqueue_in(store, "q", task, 100).await
}

/// Enqueues a task with a payload of this size.
pub async fn enqueue_in(
    store: &impl Store,
    queue: &str,
    task: &str,
    bytes: usize,
) -> Result<(), BrokerError> {
    let added = Store::enqueue(store, vec![task_in(queue, task, bytes)]).await?;
    for added in added {
        added.expect("the id is free");
    }
    Ok(())
}

/// A request for `max` tasks of each of these queues.
pub fn request(queues: &[&str], max: usize) -> LeaseRequest {
    let each = queues.iter().map(|queue| (Name::from(*queue), max));
    LeaseRequest::new(each.collect(), max, LIMIT, Name::from("worker"))
}

/// Leases up to `max` tasks of queue `q`.
pub async fn lease(store: &impl Store, max: usize) -> Result<Vec<Leased>, BrokerError> {
    let queues = all_of(Store::lease(store, &request(&["q"], max)).await)?;
    Ok(queues.into_iter().flatten().collect())
}

/// Settles a lease.
pub async fn settle(
    store: &impl Store,
    leased: &Leased,
    outcome: Outcome,
) -> Result<Settled, BrokerError> {
    let settled = all_of(Store::settle(store, &[leased.clone().settle(outcome)]).await)?;
    Ok(settled.into_iter().next().expect("one result"))
}

/// Completes a task with a result.
pub async fn complete(store: &impl Store, leased: &Leased) -> Result<Settled, BrokerError> {
    let result = Some(Bytes::from_static(b"done"));
    settle(store, leased, Outcome::Complete { result }).await
}

/// Enqueues a task, leases it and completes it. Other tasks do not wait.
pub async fn work(store: &impl Store, task: &str) {
    enqueue(store, task).await.expect("a task is accepted");
    let leased = lease(store, 1).await.expect("a task is leased");
    assert_eq!(names(&leased), [task]);
    let settled = complete(store, &leased[0]).await.expect("an outcome");
    assert_eq!(settled, Settled::Recorded);
}

/// Leases and completes all pending tasks of queue `q`. Returns their names in order.
pub async fn drain(store: &impl Store) -> Vec<String> {
    let mut drained = Vec::new();
    loop {
        let leased = lease(store, 1_000).await.expect("tasks are leased");
        if leased.is_empty() {
            return drained;
        }
        drained.extend(names(&leased));
        let complete = |one: Leased| one.settle(Outcome::Complete { result: None });
        let settlements: Vec<_> = leased.into_iter().map(complete).collect();
        let settled = all_of(Store::settle(store, &settlements).await).expect("outcomes");
        assert!(settled.iter().all(|settled| *settled == Settled::Recorded));
    }
}

/// The ids of leased tasks.
pub fn names(leased: &[Leased]) -> Vec<String> {
    let name = |leased: &Leased| leased.envelope.id.to_string();
    leased.iter().map(name).collect()
}

/// The number of pending tasks in queue `q`.
pub async fn pending(store: &impl Store) -> Result<u64, BrokerError> {
    let stats = Store::stats(store, &[Name::from("q")]).await?;
    Ok(stats[0].count(TaskState::Pending))
}

/// Waits for a condition, for at most [`LIMIT`].
pub async fn eventually(what: &str, mut is_true: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + LIMIT;
    while !is_true().await {
        let now = tokio::time::Instant::now();
        assert!(now < deadline, "not within {LIMIT:?}: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
