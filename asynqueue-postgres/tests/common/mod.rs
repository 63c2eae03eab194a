//! Brokers and tasks for tests of one server.

#![allow(dead_code, reason = "each test binary uses a part")]

pub(crate) mod process;

use std::{sync::Arc, time::Duration};

use asynqueue_core::{
    broker::{BrokerError, LeaseRequest, Leased, NewTask, Outcome, Settled, Store, When, all_of},
    codec::CodecName,
    task::{Envelope, Name, TaskId, TaskRef, TaskState},
};
use asynqueue_postgres::{PostgresBroker, PostgresOptions};
use bytes::Bytes;

/// How long a test waits for what must happen.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

pub(crate) fn options(url: &str) -> PostgresOptions {
    PostgresOptions::new(url).expect("a valid URL")
}

pub(crate) async fn open(url: &str) -> PostgresBroker {
    let broker = PostgresBroker::connect(options(url)).await;
    broker.expect("a broker")
}

pub(crate) fn id(id: &str) -> TaskId {
    TaskId::new(id).expect("an id")
}

pub(crate) fn task_ref(task: &str) -> TaskRef {
    TaskRef::new("q", id(task))
}

/// A small task in queue `q`.
pub(crate) fn task_of(task: &str) -> NewTask {
    let payload = Bytes::from(vec![7; 100]);
    let codec = CodecName::of::<asynqueue_core::codec::MessagePack>();
    let mut envelope = Envelope::new(id(task), "event", codec, payload);
    envelope.queue = Name::from("q");
    NewTask::new(envelope, When::Now)
}

/// Enqueues a small task in queue `q`.
pub(crate) async fn enqueue(broker: &PostgresBroker, task: &str) -> Result<(), BrokerError> {
    let added = Store::enqueue(broker, vec![task_of(task)]).await?;
    for added in added {
        added.expect("the id is free");
    }
    Ok(())
}

/// Leases up to `max` tasks of queue `q`.
pub(crate) async fn lease(broker: &PostgresBroker, max: usize) -> Result<Vec<Leased>, BrokerError> {
    let queues = vec![(Name::from("q"), max)];
    let request = LeaseRequest::new(queues, max, LIMIT, Name::from("worker"));
    let queues = all_of(Store::lease(broker, &request).await)?;
    Ok(queues.into_iter().flatten().collect())
}

pub(crate) async fn settle(
    broker: &PostgresBroker,
    leased: &Leased,
    outcome: Outcome,
) -> Result<Settled, BrokerError> {
    let settled = all_of(Store::settle(broker, &[leased.clone().settle(outcome)]).await)?;
    Ok(settled.into_iter().next().expect("one result"))
}

pub(crate) async fn complete(
    broker: &PostgresBroker,
    leased: &Leased,
) -> Result<Settled, BrokerError> {
    let result = Some(Bytes::from_static(b"done"));
    settle(broker, leased, Outcome::Complete { result }).await
}

/// Enqueues a task, leases it and completes it. Other tasks do not wait.
pub(crate) async fn work(broker: &PostgresBroker, task: &str) {
    enqueue(broker, task).await.expect("a task is accepted");
    let leased = lease(broker, 1).await.expect("a task is leased");
    assert_eq!(names(&leased), [task]);
    let settled = complete(broker, &leased[0]).await.expect("an outcome");
    assert_eq!(settled, Settled::Recorded);
}

/// Leases and completes all pending tasks of queue `q`.
pub(crate) async fn drain(broker: &PostgresBroker) -> Vec<String> {
    let mut drained = Vec::new();
    loop {
        let leased = lease(broker, 1_000).await.expect("tasks are leased");
        if leased.is_empty() {
            return drained;
        }
        drained.extend(names(&leased));
        let outcome = || Outcome::Complete { result: None };
        let settlements: Vec<_> = leased
            .into_iter()
            .map(|one| one.settle(outcome()))
            .collect();
        let settled = all_of(Store::settle(broker, &settlements).await).expect("outcomes");
        assert!(settled.iter().all(|settled| *settled == Settled::Recorded));
    }
}

pub(crate) fn names(leased: &[Leased]) -> Vec<String> {
    let name = |leased: &Leased| Arc::clone(&leased.envelope).id.to_string();
    leased.iter().map(name).collect()
}

/// The number of pending tasks in queue `q`.
pub(crate) async fn pending(broker: &PostgresBroker) -> Result<u64, BrokerError> {
    let stats = Store::stats(broker, &[Name::from("q")]).await?;
    Ok(stats[0].count(TaskState::Pending))
}
