//! Helpers for tests with a connected broker.
#![allow(dead_code, reason = "each test uses some of it")]

use std::time::{Duration, Instant};

use asynqueue_core::{
    broker::{Broker, LeaseRequest, Leased, NewTask, Outcome, Signal, Signals, When, all_of},
    codec::{CodecName, MessagePack},
    task::{Envelope, TaskId},
};
use asynqueue_redis::{RedisBroker, RedisOptions};
use bytes::Bytes;
use futures_util::StreamExt;

pub(crate) async fn connect(url: &str) -> RedisBroker {
    let options = RedisOptions::new(url).expect("a URL");
    RedisBroker::connect(options).await.expect("a connection")
}

pub(crate) fn task(queue: &str, id: &str) -> Envelope {
    let id = TaskId::new(id).expect("an id");
    let codec = CodecName::of::<MessagePack>();
    let mut task = Envelope::new(id, "event", codec, Bytes::from_static(b"payload"));
    task.queue = queue.into();
    task
}

pub(crate) fn now(envelope: Envelope) -> NewTask {
    NewTask::new(envelope, When::Now)
}

/// Enqueues tasks that must be accepted.
pub(crate) async fn send(broker: &RedisBroker, tasks: impl IntoIterator<Item = Envelope>) {
    let tasks = tasks.into_iter().map(now).collect();
    for answer in broker.enqueue(tasks).await.expect("sent") {
        answer.expect("accepted");
    }
}

pub(crate) async fn lease(broker: &RedisBroker, queue: &str, max: usize) -> Vec<Leased> {
    let request = LeaseRequest::new(
        vec![(queue.into(), max)],
        max,
        Duration::from_secs(30),
        "tester".into(),
    );
    all_of(broker.lease(&request).await)
        .expect("leased")
        .concat()
}

/// Leases and completes this many tasks. Returns their ids in order.
pub(crate) async fn process_all(broker: &RedisBroker, queue: &str, count: usize) -> Vec<String> {
    let started = Instant::now();
    let mut ids = Vec::new();
    while ids.len() < count {
        assert!(
            started.elapsed() < Duration::from_secs(30),
            "in time: {ids:?}"
        );
        let leased = lease(broker, queue, 10).await;
        ids.extend(leased.iter().map(|leased| leased.envelope.id.to_string()));
        let complete = |leased: Leased| leased.settle(Outcome::Complete { result: None });
        let settlements: Vec<_> = leased.into_iter().map(complete).collect();
        all_of(broker.settle(&settlements).await).expect("settled");
    }
    ids
}

/// Returns the next signal. Fails after half a minute without one.
pub(crate) async fn next(signals: &mut Signals) -> Option<Signal> {
    let signal = tokio::time::timeout(Duration::from_secs(30), signals.next());
    signal.await.expect("a signal in time")
}
