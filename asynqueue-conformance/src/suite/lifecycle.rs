//! Servers and producers together: groups, publishing, cancelling, expiry and progress.

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use asynqueue_core::{
    broker::{CancelOutcome, Subscription},
    codec::MessagePack,
    process::{Context, Payload, TaskError},
    producer::{Producer, TaskHandle, TaskStatus},
    registry::ProcessWrapper,
    server::{Server, ServerHandle},
    task::{Aggregate, FailureKind, Name, Task, TaskOptions, TaskRef, TaskState},
};
use futures_util::StreamExt;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::{
    Harness,
    fixture::{Fixture, id, secs},
};

pub(super) const AGGREGATE: Aggregate = Aggregate::DEFAULT
    .grace(Duration::from_secs(10))
    .max_delay(Duration::from_secs(60))
    .max_size(100);

/// A task with a number. Its result is kept for an hour.
#[derive(Serialize, Deserialize)]
pub(super) struct Job(pub(super) u64);

impl Task for Job {
    const EVENT: &'static str = "job";
    type Output = u64;
    type Codec = MessagePack;

    fn options() -> Arc<TaskOptions> {
        static OPTIONS: LazyLock<Arc<TaskOptions>> =
            LazyLock::new(|| TaskOptions::shared(|options| options.retention = secs(3_600)));
        Arc::clone(&OPTIONS)
    }
}

/// Several jobs as one task.
#[derive(Serialize, Deserialize)]
pub(super) struct Sum(pub(super) Vec<u64>);

impl Task for Sum {
    const EVENT: &'static str = "sum";
    type Output = ();
    type Codec = MessagePack;
}

/// What handlers saw, in order.
pub(super) type Seen = Arc<Mutex<Vec<String>>>;

/// A handler that records its input under a name.
pub(super) fn note(name: &str, seen: &Seen) -> ProcessWrapper {
    let (name, seen) = (name.to_owned(), Arc::clone(seen));
    ProcessWrapper::new(move |job: Payload<Job>| {
        seen.lock().push(format!("{name} {}", job.0.0));
        async move { Ok::<_, TaskError>(0) }
    })
}

/// Waits for a condition.
pub(super) async fn eventually(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + secs(30);
    while !is_so().await {
        assert!(
            tokio::time::Instant::now() < deadline,
            "timed out waiting: {what}"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn subscribe(f: &Fixture<'_>, name: &str, seen: &Seen) -> ServerHandle {
    let server = Server::builder(Arc::clone(&f.broker)).subscribe(name, note(name, seen));
    server.start().await.unwrap()
}

pub(super) fn sorted(seen: &Seen) -> Vec<String> {
    let mut seen = seen.lock().clone();
    seen.sort();
    seen
}

/// Each subscriber has a separate queue.
pub async fn an_event_reaches_every_subscriber_once(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    let seen = Seen::default();
    let first = subscribe(&f, "inventory", &seen).await;
    let second = subscribe(&f, "billing", &seen).await;
    // A second server with the same name: only one of the two receives it.
    let third = subscribe(&f, "billing", &seen).await;
    let producer = Producer::new(Arc::clone(&f.broker));
    let published = producer.publish(Job(1)).id("one").await.unwrap();
    assert_eq!((published.subscribers, published.is_new), (2, true));
    eventually("both have it", async || seen.lock().len() == 2).await;
    assert_eq!(sorted(&seen), ["billing 1", "inventory 1"]);
    let queues = f.broker.queues().await.unwrap();
    let queue = |name| queues.contains(&Name::from(name));
    assert!(queue("inventory@job") && queue("billing@job"), "{queues:?}");
    for server in [first, second, third] {
        server.shutdown().await.unwrap();
    }
}

/// While its servers were down.
pub async fn a_subscriber_misses_nothing_while_it_is_away(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    let seen = Seen::default();
    let away = subscribe(&f, "inventory", &seen).await;
    away.shutdown().await.unwrap();
    let producer = Producer::new(Arc::clone(&f.broker));
    for n in 0..3 {
        producer.publish(Job(n)).await.unwrap();
    }
    let back = subscribe(&f, "inventory", &seen).await;
    eventually("all have come", async || seen.lock().len() == 3).await;
    assert_eq!(sorted(&seen), ["inventory 0", "inventory 1", "inventory 2"]);
    back.shutdown().await.unwrap();
}

/// Earlier events are not delivered.
pub async fn a_subscriber_added_later_receives_later_events(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    let seen = Seen::default();
    let producer = Producer::new(Arc::clone(&f.broker));
    let nobody = producer.publish(Job(1)).await.unwrap();
    assert_eq!(nobody.subscribers, 0);
    // Still undelivered when the second subscriber is added.
    let away = subscribe(&f, "inventory", &seen).await;
    away.shutdown().await.unwrap();
    assert_eq!(producer.publish(Job(2)).await.unwrap().subscribers, 1);
    let both = Server::builder(Arc::clone(&f.broker))
        .subscribe("inventory", note("inventory", &seen))
        .subscribe("billing", note("billing", &seen));
    let both = both.start().await.unwrap();
    assert_eq!(producer.publish(Job(3)).await.unwrap().subscribers, 2);
    eventually("all have come", async || seen.lock().len() == 3).await;
    assert_eq!(sorted(&seen), ["billing 3", "inventory 2", "inventory 3"]);
    both.shutdown().await.unwrap();
}

/// However soon the first one was done and removed.
pub async fn an_event_that_is_published_again_is_not_delivered_again(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    let seen = Seen::default();
    let noted = Arc::clone(&seen);
    let process = move |event: Payload<Sum>, _: Context| {
        noted.lock().push(format!("{:?}", event.0.0));
        async { Ok::<_, TaskError>(()) }
    };
    let server = Server::builder(Arc::clone(&f.broker)).subscribe("inventory", process);
    let server = server.start().await.unwrap();
    let producer = Producer::new(Arc::clone(&f.broker));
    producer.publish(Sum(vec![1])).id("one").await.unwrap();
    let queues: [Name; 2] = ["inventory@sum".into(), "@sum".into()];
    eventually("it is done and gone", async || {
        let stats = f.broker.stats(&queues).await.unwrap();
        stats
            .iter()
            .all(|queue| queue.succeeded == 1 && queue.total() == 0)
    })
    .await;
    let again = producer.publish(Sum(vec![1])).id("one").await.unwrap();
    assert!(!again.is_new);
    producer.publish(Sum(vec![2])).id("two").await.unwrap();
    eventually("the next has come", async || seen.lock().len() > 1).await;
    assert_eq!(*seen.lock(), ["[1]", "[2]"]);
    // But not forever.
    f.advance(asynqueue_core::publish::PUBLISH_WINDOW).await;
    let anew = producer.publish(Sum(vec![1])).id("one").await.unwrap();
    assert!(anew.is_new);
    server.shutdown().await.unwrap();
}

/// Its tasks stay, in case it subscribes again.
pub async fn an_unsubscribed_service_receives_no_more_events(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    let seen = Seen::default();
    let server = subscribe(&f, "inventory", &seen).await;
    let subscriber = [("job".into(), "inventory".into())];
    assert_eq!(f.broker.unsubscribe(&subscriber).await.unwrap(), [true]);
    let producer = Producer::new(Arc::clone(&f.broker));
    let published = producer.publish(Job(1)).await.unwrap();
    assert_eq!(published.subscribers, 0);
    server.shutdown().await.unwrap();
    assert!(seen.lock().is_empty());
}

/// The key that prevents a second delivery of an event does not prevent a requested copy.
pub async fn a_subscribers_failed_task_can_be_enqueued_again_immediately(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    let seen = Seen::default();
    let attempts = Arc::clone(&seen);
    let fail = move |_: Payload<Job>, ctx: Context| {
        attempts.lock().push(ctx.id().to_string());
        async { Err::<u64, _>(TaskError::skip_retry("no such mailbox")) }
    };
    let server = Server::builder(Arc::clone(&f.broker)).subscribe("mail", fail);
    let server = server.start().await.unwrap();
    let producer = Producer::new(Arc::clone(&f.broker));
    producer.publish(Job(1)).id("placed").await.unwrap();
    let queue = Subscription::queue_of("job", "mail");
    let archived = async || {
        let stats = f.broker.stats(std::slice::from_ref(&queue)).await.unwrap();
        stats[0].count(TaskState::Archived)
    };
    eventually("it has failed", async || archived().await == 1).await;
    let inspector = asynqueue_core::inspector::Inspector::new(Arc::clone(&f.broker));
    let failed = TaskRef::new(queue.clone(), id("placed"));
    for round in 2..4 {
        let again = inspector.enqueue_again(&failed, None).await.unwrap();
        eventually("it has failed again", async || archived().await == round).await;
        assert_eq!(seen.lock().last(), Some(&again.id.to_string()));
    }
    server.shutdown().await.unwrap();
}

/// With the payloads in the order of their arrival.
pub async fn the_payloads_of_a_group_become_one_task(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    let sums = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&sums);
    let sum = move |task: Payload<Sum>, ctx: Context| {
        let group = ctx.group().map(ToString::to_string);
        noted.lock().push((group, task.0.0));
        async { Ok::<_, TaskError>(()) }
    };
    let server = Server::builder(Arc::clone(&f.broker))
        .aggregate(|jobs: Vec<Job>| Sum(jobs.into_iter().map(|job| job.0).collect()))
        .process(sum)
        .poll_interval(Duration::from_millis(20));
    let server = server.start().await.unwrap();
    let producer = Producer::new(Arc::clone(&f.broker));
    for n in 0..5 {
        let grouped = producer.enqueue(Job(n)).group("a").aggregate(AGGREGATE);
        grouped.await.unwrap();
        f.advance(Duration::from_millis(1)).await;
    }
    producer.enqueue(Job(7)).aggregate(AGGREGATE).await.unwrap();
    f.advance(AGGREGATE.grace).await;
    eventually("both groups", async || sums.lock().len() == 2).await;
    let mut sums = sums.lock().clone();
    sums.sort();
    let of_a = (Some("a".to_owned()), vec![0, 1, 2, 3, 4]);
    assert_eq!(sums, [(None, vec![7]), of_a]);
    server.shutdown().await.unwrap();
}

/// One after the other, without waiting in between.
pub async fn a_group_beyond_its_size_becomes_several_tasks(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    let producer = Producer::new(Arc::clone(&f.broker));
    let limits = AGGREGATE.max_size(10);
    for n in 0..100 {
        let grouped = producer.enqueue(Job(n)).aggregate(limits);
        grouped.await.unwrap();
    }
    let sums = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&sums);
    let sum = move |task: Payload<Sum>, _: Context| {
        noted.lock().push(task.0.0.len());
        async { Ok::<_, TaskError>(()) }
    };
    // If it waited between two of them, the test would time out.
    let server = Server::builder(Arc::clone(&f.broker))
        .aggregate(|jobs: Vec<Job>| Sum(jobs.into_iter().map(|job| job.0).collect()))
        .process(sum)
        .poll_interval(secs(20));
    let server = server.start().await.unwrap();
    eventually("all are summed", async || sums.lock().len() == 10).await;
    assert!(sums.lock().iter().all(|size| *size == 10));
    server.shutdown().await.unwrap();
}

/// Refused on enqueue, with the name of the option.
pub async fn invalid_limits_of_a_group_are_refused(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    let producer = Producer::new(Arc::clone(&f.broker));
    let refused = async |limits: Aggregate| {
        let refused = producer.enqueue(Job(1)).aggregate(limits).await;
        refused.unwrap_err().to_string()
    };
    let none = AGGREGATE.max_size(0);
    assert!(
        refused(none)
            .await
            .contains("`job`: invalid aggregate: max_size is 0")
    );
    let at_once = AGGREGATE.grace(Duration::ZERO);
    assert!(refused(at_once).await.contains("grace is 0ns"));
    let delayed = producer.enqueue(Job(1)).aggregate(AGGREGATE);
    let delayed = delayed.delay(secs(1)).await.unwrap_err().to_string();
    assert!(delayed.contains("option `delay` of `job`"), "{delayed}");
    let unnamed = producer.enqueue(Job(1)).group("a\nb").await.unwrap_err();
    assert!(unnamed.to_string().contains("invalid group"), "{unnamed}");
    assert_eq!(f.broker.queues().await.unwrap(), [] as [Name; 0]);
}

/// A handler that runs until it is requested to stop.
fn stubborn() -> ProcessWrapper {
    ProcessWrapper::new(|_: Payload<Job>, ctx: Context| async move {
        ctx.progress(1, 2, "waiting");
        ctx.cancelled().await;
        Err::<u64, _>(TaskError::retry("stopped"))
    })
}

pub(super) async fn info(handle: &TaskHandle<Job>) -> asynqueue_core::broker::TaskInfo {
    match handle.status().await.unwrap() {
        TaskStatus::Known(info) => *info,
        TaskStatus::Gone => panic!("it is gone"),
    }
}

/// On whichever server it runs. The outcome contains the user and the reason.
pub async fn a_running_task_is_cancelled_on_any_server(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    let mut servers = Vec::new();
    for _ in 0..2 {
        let server = Server::builder(Arc::clone(&f.broker)).process(stubborn());
        servers.push(server.concurrency(1).start().await.unwrap());
    }
    let producer = Producer::new(Arc::clone(&f.broker));
    let (one, two) = (producer.enqueue(Job(1)), producer.enqueue(Job(2)));
    for handle in [one.await.unwrap(), two.await.unwrap()] {
        eventually("it runs", async || info(&handle).await.progress.is_some()).await;
        let outcome = handle.cancel("by alice: a duplicate").await.unwrap();
        assert_eq!(outcome, CancelOutcome::Requested);
        assert!(handle.result().await.is_err());
        let cancelled = info(&handle).await;
        assert_eq!(cancelled.state, TaskState::Archived);
        let failure = cancelled.envelope.last_failure().unwrap();
        assert_eq!(failure.kind, FailureKind::Cancelled);
        assert_eq!(failure.message, "by alice: a duplicate");
    }
    for server in servers {
        server.shutdown().await.unwrap();
    }
}

/// It is archived with the reason, however many attempts are left.
pub async fn an_expired_task_is_not_started(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    let producer = Producer::new(Arc::clone(&f.broker));
    let expired = producer.enqueue(Job(1)).expires_in(secs(60));
    let expired = expired.await.unwrap();
    f.advance(secs(61)).await;
    let in_time = producer.enqueue(Job(2)).expires_in(secs(60));
    let in_time = in_time.await.unwrap();
    let seen = Seen::default();
    let server = Server::builder(Arc::clone(&f.broker)).process(note("ran", &seen));
    let server = server.start().await.unwrap();
    assert!(in_time.result().await.is_ok());
    assert!(expired.result().await.is_err());
    let failure = info(&expired).await.envelope.last_failure().cloned();
    assert_eq!(failure.unwrap().kind, FailureKind::Expired);
    assert_eq!(*seen.lock(), ["ran 2"]);
    server.shutdown().await.unwrap();
}

/// Until its end.
pub async fn the_changes_of_a_task_are_reported(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    let process = |_: Payload<Job>, ctx: Context| async move {
        ctx.progress(1, 2, "half of it");
        ctx.cancelled().await;
        Err::<u64, _>(TaskError::skip_retry("no"))
    };
    let producer = Producer::new(Arc::clone(&f.broker));
    let handle = producer.enqueue(Job(1)).await.unwrap();
    let mut changes = handle.changes();
    let mut next = async || changes.next().await.map(Result::unwrap);
    let first = next().await.unwrap();
    assert_eq!(first.state(), Some(TaskState::Pending));
    let server = Server::builder(Arc::clone(&f.broker)).process(process);
    let server = server.start().await.unwrap();
    let note = loop {
        match next().await.unwrap() {
            TaskStatus::Known(info) if info.progress.is_some() => break info.progress,
            status => assert!(status.state().is_some_and(|state| !state.is_final())),
        }
    };
    assert_eq!(note.unwrap().note, "half of it");
    handle.cancel("enough").await.unwrap();
    let last = next().await.unwrap();
    assert_eq!(last.state(), Some(TaskState::Archived));
    assert_eq!(next().await, None);
    server.shutdown().await.unwrap();
}

/// With the server that ran it, and its start and end.
pub async fn every_attempt_of_a_task_is_reported(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    let process = |_: Payload<Job>, ctx: Context| async move {
        if ctx.attempt() < 3 {
            return Err(TaskError::retry_after(Duration::ZERO, "not yet"));
        }
        Ok(7)
    };
    let producer = Producer::new(Arc::clone(&f.broker));
    let handle = producer.enqueue(Job(1)).await.unwrap();
    let server = Server::builder(Arc::clone(&f.broker)).process(process);
    let server = server.name("worker").start().await.unwrap();
    assert_eq!(handle.result().await.unwrap(), 7);
    let now = f.broker.now();
    let attempts = info(&handle).await.attempts();
    let numbers: Vec<_> = attempts.iter().map(|attempt| attempt.number).collect();
    assert_eq!(numbers, [1, 2, 3]);
    for attempt in &attempts {
        assert_eq!(attempt.worker, Some("worker".into()));
        assert_eq!((attempt.started, attempt.ended), (Some(now), Some(now)));
    }
    let failed: Vec<_> = attempts
        .iter()
        .map(|attempt| attempt.failure.is_some())
        .collect();
    assert_eq!(failed, [true, true, false]);
    server.shutdown().await.unwrap();
}

/// Until it shuts down.
pub async fn a_server_reports_what_it_runs(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    let server = Server::builder(Arc::clone(&f.broker))
        .queue("default", 3)
        .concurrency(2)
        .name("worker")
        .process(stubborn());
    let server = server.start().await.unwrap();
    eventually("it is known", async || {
        f.broker.servers().await.unwrap().len() == 1
    })
    .await;
    let reported = f.broker.servers().await.unwrap().remove(0);
    assert_eq!(reported.name, "worker");
    assert_eq!(reported.queues, [("default".into(), 3)]);
    assert_eq!(reported.events, ["job"]);
    assert_eq!(
        (reported.concurrency, reported.pid),
        (2, std::process::id())
    );
    let producer = Producer::new(Arc::clone(&f.broker));
    let task = producer.enqueue(Job(1)).await.unwrap();
    eventually("it reports what it runs", async || {
        f.broker.servers().await.unwrap()[0].busy == 1
    })
    .await;
    let running = f.broker.servers().await.unwrap().remove(0).running;
    assert_eq!((&running[0].task, running[0].attempt), (task.task_ref(), 1));
    assert_eq!(running[0].started, f.broker.now());
    task.cancel("enough").await.unwrap();
    assert!(task.result().await.is_err());
    server.shutdown().await.unwrap();
    assert_eq!(f.broker.servers().await.unwrap(), []);
}

/// A task without output and retention, which is removed when it is done.
#[derive(Serialize, Deserialize)]
struct Passing;

impl Task for Passing {
    const EVENT: &'static str = "passing";
    type Output = ();
    type Codec = MessagePack;
}

/// However soon it is done.
pub async fn a_wait_that_starts_with_the_enqueue_never_misses_the_end(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    let server = Server::builder(Arc::clone(&f.broker)).concurrency(8);
    let server = server.process(|_: Payload<Passing>| async { Ok::<_, TaskError>(()) });
    let server = server.start().await.unwrap();
    let producer = Producer::new(Arc::clone(&f.broker));
    for _ in 0..4 {
        let waits = (0..100).map(|_| producer.enqueue(Passing).result());
        for result in futures_util::future::join_all(waits).await {
            result.expect("done");
        }
    }
    server.shutdown().await.unwrap();
}
