//! `on_archived`: which tasks it is called for, and what it must not disturb.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use asynqueue_core::{
    broker::{Broker, CancelOutcome, Control, Inspect, LeaseRequest, all_of},
    layer::{Archived, Hook, HookLayer, TimeoutLayer},
    memory::MemoryBroker,
    process::{Context, Payload, TaskError},
    producer::{Producer, TaskHandle},
    registry::ProcessWrapper,
    server::{Server, ServerBuilder},
    task::{FailureKind, Task, TaskState},
    testing::{TestClock, drain},
};
use asynqueue_macros::Task;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use tower::ServiceBuilder;

use crate::{
    faulty::Faulty,
    harness::{
        AN_HOUR, Job, Sum, becomes, broker, counts_become, enqueue_jobs, failure_of, job,
        output_of, soon, until,
    },
};

/// Shorter than the wait of any test.
const LEASE: Duration = Duration::from_millis(100);

/// Records the archived tasks.
#[derive(Clone, Default)]
struct Deaths(Arc<Mutex<Vec<(String, FailureKind, String)>>>);

impl Hook for Deaths {
    async fn on_archived(&self, task: &Archived) {
        let failure = task.failure();
        let line = (task.id().to_string(), failure.kind, failure.message.clone());
        self.0.lock().unwrap().push(line);
    }
}

impl Deaths {
    fn all(&self) -> Vec<(String, FailureKind, String)> {
        self.0.lock().unwrap().clone()
    }

    /// The kinds of all failures, in their order.
    fn kinds(&self) -> Vec<&'static str> {
        let mut kinds: Vec<_> = (self.all().iter())
            .map(|(_, kind, _)| kind.as_str())
            .collect();
        kinds.sort_unstable();
        kinds
    }

    /// The messages of all failures, in their order.
    fn messages(&self) -> Vec<String> {
        let mut messages: Vec<_> = (self.all().into_iter())
            .map(|(_, _, message)| message)
            .collect();
        messages.sort_unstable();
        messages
    }

    /// Waits for the only archived task, which is `task`.
    async fn of<T: Task>(&self, task: &TaskHandle<T>) -> (FailureKind, String) {
        until("a hook is called", async || !self.all().is_empty()).await;
        let all = self.all();
        let [(id, kind, message)] = &all[..] else {
            panic!("expected one archived task: {all:?}");
        };
        assert_eq!(id, task.id().as_str());
        (*kind, message.clone())
    }
}

/// A server whose handler succeeds, and the records of its hook.
fn server(broker: &MemoryBroker) -> (ServerBuilder, Deaths) {
    let deaths = Deaths::default();
    let server = Server::builder(broker.clone())
        .process(|_: Payload<Job>, _: Context| async { Ok::<_, TaskError>(()) })
        .hook(deaths.clone());
    (server, deaths)
}

#[tokio::test]
async fn on_archived_is_called_for_a_task_of_an_event_without_a_handler() {
    let (broker, producer) = broker();
    let (server, deaths) = server(&broker);
    let server = server.unknown_event_grace(Duration::ZERO);
    let _server = server.start().await.unwrap();
    let task = producer.enqueue(Sum { of: vec![] }).await.unwrap();
    assert_eq!(deaths.of(&task).await.0, FailureKind::UnknownEvent);
}

#[tokio::test]
async fn on_archived_is_called_for_a_payload_that_does_not_decode() {
    /// A different type of the same event.
    #[derive(Serialize, Deserialize, Task)]
    #[task(event = "job", max_retry = 0, crate = asynqueue_core)]
    struct Other(String);
    let (broker, producer) = broker();
    let (server, deaths) = server(&broker);
    let _server = server.start().await.unwrap();
    let task = producer.enqueue(Other("x".into())).await.unwrap();
    assert_eq!(deaths.of(&task).await.0, FailureKind::Decode);
}

#[tokio::test]
async fn on_archived_is_called_for_a_task_past_its_deadline_before_it_starts() {
    let (broker, producer) = broker();
    let task = producer.enqueue(job(1)).deadline(Duration::from_millis(1));
    let task = task.await.unwrap();
    let passed = broker.now() + Duration::from_millis(1);
    until("the deadline has passed", async || broker.now() > passed).await;
    let (server, deaths) = server(&broker);
    let _server = server.start().await.unwrap();
    assert_eq!(deaths.of(&task).await.0, FailureKind::Deadline);
}

#[tokio::test]
async fn on_archived_is_called_for_a_task_that_expired() {
    let (broker, producer) = broker();
    let task = producer
        .enqueue(job(1))
        .expires_in(Duration::from_millis(1));
    let task = task.await.unwrap();
    let passed = broker.now() + Duration::from_millis(1);
    until("it has expired", async || broker.now() > passed).await;
    let (server, deaths) = server(&broker);
    let _server = server.start().await.unwrap();
    assert_eq!(deaths.of(&task).await.0, FailureKind::Expired);
}

#[tokio::test]
async fn on_archived_is_called_for_a_task_whose_worker_was_lost_in_its_last_attempt() {
    let (broker, producer) = broker();
    let task = producer.enqueue(job(1)).max_retry(0).await.unwrap();
    let request = LeaseRequest::new(vec![("default".into(), 1)], 1, LEASE, "dead".into());
    all_of(broker.lease(&request).await).unwrap().concat();
    let (server, deaths) = server(&broker);
    let _server = server.lease(LEASE).start().await.unwrap();
    assert_eq!(deaths.of(&task).await.0, FailureKind::LeaseExpired);
}

#[tokio::test]
async fn on_archived_is_called_with_the_reason_for_a_task_cancelled_while_it_runs() {
    let (broker, producer) = broker();
    let deaths = Deaths::default();
    let _server = Server::builder(broker.clone())
        .process(|_: Payload<Job>, ctx: Context| async move {
            ctx.cancelled().await;
            Err::<(), _>(TaskError::retry("stopped"))
        })
        .hook(deaths.clone())
        .start()
        .await
        .unwrap();
    let task = producer.enqueue(job(1)).await.unwrap();
    becomes(&task, TaskState::Active).await;
    let cancelled = task.cancel("not wanted").await.unwrap();
    assert_eq!(cancelled, CancelOutcome::Requested);
    let death = deaths.of(&task).await;
    assert_eq!(death.0, FailureKind::Cancelled);
    assert!(death.1.contains("not wanted"), "{}", death.1);
}

#[tokio::test]
async fn on_archived_is_called_once_for_each_way_that_an_attempt_can_fail_permanently() {
    let (broker, producer) = broker();
    let deaths = Deaths::default();
    let _server = Server::builder(broker.clone())
        .concurrency(1)
        .process(|task: Payload<Job>, _: Context| async move {
            match task.n {
                0 => Err(TaskError::retry("out of attempts")),
                1 => Err(TaskError::skip_retry("never")),
                2 => panic!("on fire"),
                _ => std::future::pending::<Result<(), TaskError>>().await,
            }
        })
        .hook(deaths.clone())
        .start()
        .await
        .unwrap();
    for n in 0..4 {
        let task = producer.enqueue(job(n)).max_retry(u32::from(n == 0));
        let task = task.timeout(Duration::from_millis(20)).await.unwrap();
        failure_of(&task).await;
    }
    until("all are reported", async || deaths.kinds().len() == 4).await;
    assert_eq!(deaths.kinds(), ["error", "error", "panic", "timeout"]);
    let tasks = broker.stats(&["default".into()]).await.unwrap();
    assert_eq!(tasks[0].count(TaskState::Archived), 4);
}

#[derive(Serialize, Deserialize, Task)]
#[task(event = "news", aggregate(grace = "1ms", max_delay = "1s", max_size = 2), crate = asynqueue_core)]
struct News {
    text: String,
}

#[tokio::test]
async fn on_archived_is_called_for_an_undecodable_member_of_a_group() {
    /// A different type of the same event.
    #[derive(Serialize, Deserialize, Task)]
    #[task(event = "news", max_retry = 0, aggregate(grace = "1ms", max_delay = "1s", max_size = 2), crate = asynqueue_core)]
    struct Bad(u64);
    let (broker, producer) = broker();
    let bad = producer.enqueue(Bad(1)).await.unwrap();
    let (server, deaths) = server(&broker);
    let server = server.aggregate(|news: Vec<News>| job(news.len() as u64));
    let _server = server.start().await.unwrap();
    assert_eq!(deaths.of(&bad).await.0, FailureKind::Decode);
}

#[tokio::test]
async fn a_hook_of_a_handler_is_called_for_its_event_and_one_of_the_server_for_all() {
    let (broker, producer) = broker();
    let (of_job, of_sum, of_server) = (Deaths::default(), Deaths::default(), Deaths::default());
    let fails = |_: Payload<Job>, _: Context| async { Err::<(), _>(TaskError::skip_retry("job")) };
    let sum = |_: Payload<Sum>, _: Context| async { Err::<u64, _>(TaskError::skip_retry("sum")) };
    // One is added by itself, one inside a stack of foreign layers.
    let stack = ServiceBuilder::new()
        .layer(HookLayer::new(of_sum.clone()))
        .concurrency_limit(3);
    let _server = Server::builder(broker.clone())
        .process(ProcessWrapper::new(fails).with_hook(of_job.clone()))
        .process(ProcessWrapper::new(sum).layer(stack).layer(TimeoutLayer))
        .hook(of_server.clone())
        .start()
        .await
        .unwrap();
    failure_of(&producer.enqueue(job(1)).await.unwrap()).await;
    failure_of(&producer.enqueue(Sum { of: vec![] }).await.unwrap()).await;
    until("all are reported", async || of_server.all().len() == 2).await;
    assert_eq!(of_job.messages(), ["job"]);
    assert_eq!(of_sum.messages(), ["sum"]);
    assert_eq!(of_server.messages(), ["job", "sum"]);
}

#[tokio::test]
async fn on_archived_is_not_called_for_an_outcome_that_the_broker_refuses() {
    let (broker, producer) = broker();
    let (deaths, gate) = (Deaths::default(), Arc::new(Semaphore::new(0)));
    let wait = Arc::clone(&gate);
    let server = Server::builder(broker.clone())
        .process(move |_: Payload<Job>, _: Context| {
            let wait = Arc::clone(&wait);
            async move {
                wait.acquire().await.expect("open").forget();
                Err::<(), _>(TaskError::skip_retry("too late"))
            }
        })
        .hook(deaths.clone())
        .start()
        .await
        .unwrap();
    let task = producer.enqueue(job(1)).await.unwrap();
    becomes(&task, TaskState::Active).await;
    assert!(broker.delete_queue(&"default".into(), true).await.unwrap());
    gate.add_permits(1);
    until("its outcome is refused", async || server.stats().stale == 1).await;
    server.shutdown().await.unwrap();
    assert_eq!(deaths.all(), []);
}

#[tokio::test]
async fn on_archived_is_called_once_if_the_broker_was_unreachable_when_the_outcome_came() {
    let (broker, producer) = broker();
    let faulty = Faulty::new(&broker);
    let deaths = Deaths::default();
    let server = Server::builder(faulty.clone())
        .process(|_: Payload<Job>, _: Context| async { Err::<(), _>(TaskError::skip_retry("no")) })
        .hook(deaths.clone())
        .start()
        .await
        .unwrap();
    faulty.faults.settle_fails.store(true, SeqCst);
    producer.enqueue(job(1)).await.unwrap();
    until("it has ended", async || server.stats().finished == 1).await;
    assert_eq!(deaths.all(), []);
    faulty.faults.settle_fails.store(false, SeqCst);
    counts_become(&broker, &[(TaskState::Archived, 1)]).await;
    server.shutdown().await.unwrap();
    assert_eq!(deaths.all().len(), 1);
}

/// Panics, never ends, or blocks its thread.
struct Unruly {
    how: &'static str,
    calls: Arc<AtomicUsize>,
    release: Arc<Semaphore>,
}

impl Hook for Unruly {
    async fn on_archived(&self, _: &Archived) {
        self.calls.fetch_add(1, SeqCst);
        match self.how {
            "panics" => panic!("the hook"),
            "waits" => self.release.acquire().await.expect("open").forget(),
            _ => {
                while self
                    .release
                    .try_acquire()
                    .map(|permit| permit.forget())
                    .is_err()
                {
                    std::thread::yield_now();
                }
            }
        }
    }
}

/// A server whose handler fails odd jobs, and whose first hook misbehaves.
fn unruly(
    broker: &MemoryBroker,
    how: &'static str,
) -> (ServerBuilder, Deaths, Arc<AtomicUsize>, Arc<Semaphore>) {
    let (deaths, calls, release) = (
        Deaths::default(),
        Arc::default(),
        Arc::new(Semaphore::new(0)),
    );
    let hook = Unruly {
        how,
        calls: Arc::clone(&calls),
        release: Arc::clone(&release),
    };
    let server = Server::builder(broker.clone())
        .process(|task: Payload<Job>, _: Context| async move {
            match task.n % 2 {
                0 => Ok(()),
                _ => Err(TaskError::skip_retry("odd")),
            }
        })
        .hook(deaths.clone())
        .hook(hook);
    (server, deaths, calls, release)
}

#[tokio::test]
async fn a_panic_in_on_archived_affects_neither_outcomes_nor_other_hooks() {
    let (broker, producer) = broker();
    let (server, deaths, calls, _) = unruly(&broker, "panics");
    let server = server.start().await.unwrap();
    enqueue_jobs(&producer, 10).await;
    counts_become(
        &broker,
        &[(TaskState::Completed, 5), (TaskState::Archived, 5)],
    )
    .await;
    until("both hooks are called", async || deaths.all().len() == 5).await;
    assert_eq!(calls.load(SeqCst), 5);
    soon("it ends", server.shutdown()).await.unwrap();
}

#[tokio::test]
async fn waiting_hooks_delay_no_outcome_and_are_called_a_few_at_a_time() {
    let (broker, producer) = broker();
    let (server, deaths, calls, release) = unruly(&broker, "waits");
    let server = server.start().await.unwrap();
    enqueue_jobs(&producer, 100).await;
    counts_become(
        &broker,
        &[(TaskState::Completed, 50), (TaskState::Archived, 50)],
    )
    .await;
    until("some are called", async || calls.load(SeqCst) == 16).await;
    assert_eq!(
        output_of(&producer.enqueue(job(2)).await.unwrap()).await,
        ()
    );
    assert_eq!((calls.load(SeqCst), deaths.all().len()), (16, 0));
    release.add_permits(1_000);
    until("all are called", async || deaths.all().len() == 50).await;
    soon("it ends", server.shutdown()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_hook_that_blocks_its_thread_delays_no_outcome() {
    let (broker, producer) = broker();
    let (server, deaths, calls, release) = unruly(&broker, "blocks");
    let server = server.start().await.unwrap();
    failure_of(&producer.enqueue(job(1)).await.unwrap()).await;
    until("it blocks", async || calls.load(SeqCst) == 1).await;
    for n in [2, 4, 6] {
        output_of(&producer.enqueue(job(n)).await.unwrap()).await;
    }
    release.add_permits(1_000);
    until("the other hook is called", async || deaths.all().len() == 1).await;
    soon("it ends", server.shutdown()).await.unwrap();
}

#[tokio::test]
async fn shutdown_waits_for_hooks_not_called_yet() {
    let (broker, producer) = broker();
    let (server, deaths, calls, release) = unruly(&broker, "waits");
    let server = server.start().await.unwrap();
    enqueue_jobs(&producer, 100).await;
    until("some are called", async || calls.load(SeqCst) == 16).await;
    counts_become(
        &broker,
        &[(TaskState::Completed, 50), (TaskState::Archived, 50)],
    )
    .await;
    let stopping = tokio::spawn(server.shutdown());
    release.add_permits(1_000);
    soon("it ends", stopping).await.unwrap().unwrap();
    assert_eq!(deaths.all().len(), 50);
}

#[tokio::test(start_paused = true)]
async fn a_hook_that_never_ends_is_abandoned_and_the_next_is_called() {
    let (broker, producer) = broker();
    let (server, deaths, calls, _) = unruly(&broker, "waits");
    producer.enqueue(job(1)).await.unwrap();
    drain(server.lease(AN_HOUR)).await.unwrap();
    assert_eq!((calls.load(SeqCst), deaths.all().len()), (1, 1));
}

#[tokio::test]
async fn a_drained_server_calls_on_archived_before_it_returns() {
    let broker = MemoryBroker::with_clock(TestClock::default());
    let producer = Producer::new(broker.clone());
    producer.enqueue(job(1)).max_retry(0).await.unwrap();
    let deaths = Deaths::default();
    let server = Server::builder(broker)
        .process(|_: Payload<Job>, _: Context| async { Err::<(), _>(TaskError::retry("no")) })
        .hook(deaths.clone());
    assert_eq!(drain(server).await.unwrap().archived, 1);
    assert_eq!(deaths.kinds(), ["error"]);
}
