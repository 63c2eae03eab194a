//! Groups that cannot be aggregated into one task.

use std::{sync::Arc, time::Duration};

use asynqueue_core::{
    codec::{CodecError, MessagePack},
    process::{Context, Payload, TaskError},
    producer::Producer,
    server::{Server, ServerBuilder},
    task::{FailureKind, Task, TaskOptions, TaskState, Unique, UniqueKey, UniqueUntil},
};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::{
    Harness,
    fixture::{Fixture, secs},
    lifecycle::{AGGREGATE, Job, Sum, eventually},
};

/// Several jobs as one task, which is unique.
#[derive(Serialize, Deserialize)]
struct Once(Vec<u64>);

impl Task for Once {
    const EVENT: &'static str = "once";
    type Output = ();
    type Codec = MessagePack;

    fn options() -> Arc<TaskOptions> {
        TaskOptions::shared(|options| {
            options.unique = Some(Unique::new(UniqueUntil::Success, secs(1_000_000)));
        })
    }

    fn unique_key(&self) -> Result<UniqueKey, CodecError> {
        Ok(UniqueKey::new("one"))
    }
}

/// Has the event of [`Job`] but another form, as of a later version.
#[derive(Serialize, Deserialize)]
struct NewJob {
    number: u64,
}

impl Task for NewJob {
    const EVENT: &'static str = "job";
    type Output = ();
    type Codec = MessagePack;
}

/// A server that sums jobs, and records each sum.
fn summed(f: &Fixture<'_>, sums: &Arc<Mutex<Vec<Vec<u64>>>>) -> ServerBuilder {
    let noted = Arc::clone(sums);
    let sum = move |task: Payload<Sum>, _: Context| {
        noted.lock().push(task.0.0);
        async { Ok::<_, TaskError>(()) }
    };
    Server::builder(Arc::clone(&f.broker))
        .process(sum)
        .poll_interval(Duration::from_millis(20))
}

async fn known(f: &Fixture<'_>, id: &str) -> asynqueue_core::broker::TaskInfo {
    let task = asynqueue_core::task::TaskRef::new("default", super::fixture::id(id));
    f.broker.tasks(&[task]).await.unwrap().remove(0).unwrap()
}

/// The others are aggregated immediately. A server of another version may be able to read it.
pub async fn an_unreadable_member_is_left_to_a_server_that_can_read_it(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    let producer = Producer::new(Arc::clone(&f.broker));
    let grouped = producer.enqueue(Job(1)).aggregate(AGGREGATE);
    grouped.await.unwrap();
    let new = producer.enqueue(NewJob { number: 7 }).id("new");
    new.aggregate(AGGREGATE).await.unwrap();
    f.advance(AGGREGATE.grace).await;
    let sums = Arc::default();
    let old = summed(&f, &sums)
        .aggregate(|jobs: Vec<Job>| Sum(jobs.into_iter().map(|job| job.0).collect()));
    let old = old.name("old").start().await.unwrap();
    eventually("the others", async || !sums.lock().is_empty()).await;
    assert_eq!(*sums.lock(), [[1]]);
    old.shutdown().await.unwrap();
    let waits = known(&f, "new").await;
    let failure = waits.envelope.last_failure().unwrap();
    assert_eq!(
        (waits.state, waits.envelope.attempts, failure.kind),
        (TaskState::Aggregating, 1, FailureKind::Decode)
    );
    assert_eq!(failure.worker, Some("old".into()));
    let later = summed(&f, &sums)
        .aggregate(|jobs: Vec<NewJob>| Sum(jobs.into_iter().map(|job| job.number).collect()));
    let later = later.start().await.unwrap();
    f.advance(secs(60)).await;
    eventually("the unreadable one", async || sums.lock().len() == 2).await;
    assert_eq!(*sums.lock(), [[1], [7]]);
    later.shutdown().await.unwrap();
}

/// Like any task with an unreadable payload.
pub async fn a_member_that_no_server_can_read_is_eventually_archived(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    let producer = Producer::new(Arc::clone(&f.broker));
    let new = producer.enqueue(NewJob { number: 7 }).id("bad");
    new.aggregate(AGGREGATE).max_retry(2).await.unwrap();
    f.advance(AGGREGATE.grace).await;
    let sums = Arc::default();
    let server = summed(&f, &sums)
        .aggregate(|jobs: Vec<Job>| Sum(jobs.into_iter().map(|job| job.0).collect()));
    let server = server.start().await.unwrap();
    eventually("it is archived", async || {
        f.advance(secs(60)).await;
        known(&f, "bad").await.state == TaskState::Archived
    })
    .await;
    let bad = known(&f, "bad").await.envelope;
    let kinds = bad.failures().iter().map(|failure| failure.kind);
    assert_eq!(kinds.collect::<Vec<_>>(), [FailureKind::Decode; 3]);
    server.shutdown().await.unwrap();
}

/// The other members are aggregated, each into one task, and later members do not wait.
pub async fn a_member_that_makes_its_group_fail_is_found_and_archived(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    let producer = Producer::new(Arc::clone(&f.broker));
    const BAD: u64 = 5;
    for n in 0..12 {
        let member = producer.enqueue(Job(n)).id(format!("job-{n:02}"));
        let member = member.group("a").max_retry(2).aggregate(AGGREGATE);
        member.await.unwrap();
    }
    f.advance(AGGREGATE.grace).await;
    let sums = Arc::default();
    let server = summed(&f, &sums).aggregate(|jobs: Vec<Job>| {
        assert!(jobs.iter().all(|job| job.0 != BAD), "a bad one");
        Sum(jobs.into_iter().map(|job| job.0).collect())
    });
    let server = server.start().await.unwrap();
    let bad = format!("job-{BAD:02}");
    eventually("it is tried", async || {
        known(&f, &bad).await.envelope.attempts == 1
    })
    .await;
    producer
        .enqueue(Job(12))
        .group("a")
        .aggregate(AGGREGATE)
        .await
        .unwrap();
    f.advance(AGGREGATE.grace).await;
    eventually("the group continues", async || {
        sums.lock().contains(&vec![12])
    })
    .await;
    eventually("the bad one is archived", async || {
        f.advance(secs(60)).await;
        known(&f, &bad).await.state == TaskState::Archived
    })
    .await;
    let mut summed: Vec<_> = sums.lock().concat();
    summed.sort_unstable();
    let others: Vec<_> = (0..=12).filter(|n| *n != BAD).collect();
    assert_eq!(summed, others);
    // Not one by one: members of a half without the bad one stay together.
    assert!(sums.lock().contains(&(6..12).collect()), "{sums:?}");
    let bad = known(&f, &bad).await.envelope;
    let panicked = |failure: &asynqueue_core::task::Failure| failure.kind == FailureKind::Panic;
    assert!(bad.failures().iter().all(panicked));
    server.shutdown().await.unwrap();
}

/// With their backoff, and together: the conflict is not their fault.
pub async fn members_whose_task_conflicts_are_retried(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    let producer = Producer::new(Arc::clone(&f.broker));
    let blocker = producer.enqueue(Once(Vec::new()));
    let blocker = blocker.delay(secs(1_000_000)).await.unwrap();
    for n in 0..4 {
        let member = producer.enqueue(Job(n)).id(format!("job-{n}"));
        member.aggregate(AGGREGATE).await.unwrap();
    }
    f.advance(AGGREGATE.grace).await;
    let seen: Arc<Mutex<Vec<Vec<u64>>>> = Arc::default();
    let noted = Arc::clone(&seen);
    let process = move |task: Payload<Once>, _: Context| {
        noted.lock().push(task.0.0);
        async { Ok::<_, TaskError>(()) }
    };
    let server = Server::builder(Arc::clone(&f.broker))
        .process(process)
        .aggregate(|jobs: Vec<Job>| Once(jobs.into_iter().map(|job| job.0).collect()))
        .poll_interval(Duration::from_millis(20));
    let server = server.start().await.unwrap();
    eventually("they are tried five times", async || {
        f.advance(secs(60)).await;
        known(&f, "job-3").await.envelope.attempts >= 5
    })
    .await;
    blocker.cancel("not needed").await.unwrap();
    eventually("they are one task", async || {
        f.advance(secs(600)).await;
        !seen.lock().is_empty()
    })
    .await;
    assert_eq!(*seen.lock(), [[0, 1, 2, 3]]);
    server.shutdown().await.unwrap();
}
