//! Timeouts, deadlines, and handlers that do not stop.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use asynqueue_core::{
    layer::middleware_fn,
    process::{Context, Payload, TaskError},
    server::Server,
    task::{FailureKind, TaskState},
};
use tokio::sync::{Semaphore, oneshot};

use crate::{
    faulty::Faulty,
    harness::{
        AN_HOUR, Job, becomes, broker, counts_become, failure_of, info, job, output_of, soon, until,
    },
};

/// Reports when it is dropped.
struct ReportsWhenDropped(Option<oneshot::Sender<bool>>, Context);

impl Drop for ReportsWhenDropped {
    fn drop(&mut self) {
        if let Some(sender) = self.0.take() {
            let _ = sender.send(self.1.is_cancelled());
        }
    }
}

#[tokio::test]
async fn a_handler_that_waits_is_dropped_at_its_timeout_and_its_token_cancelled() {
    let (broker, producer) = broker();
    let (sender, dropped) = oneshot::channel();
    let sender = std::sync::Mutex::new(Some(sender));
    let (token_tx, token) = oneshot::channel();
    let token_tx = std::sync::Mutex::new(Some(token_tx));
    let server = Server::builder(broker.clone())
        .concurrency(1)
        .process(move |_: Payload<Job>, ctx: Context| {
            let local = ReportsWhenDropped(sender.lock().unwrap().take(), ctx.clone());
            if let Some(tx) = token_tx.lock().unwrap().take() {
                let _ = tx.send(ctx.cancellation_token().clone());
            }
            async move {
                let _local = local;
                std::future::pending::<Result<(), TaskError>>().await
            }
        })
        .start()
        .await
        .unwrap();
    let task = producer.enqueue(job(1)).max_retry(0);
    let failure = failure_of(&task.timeout(Duration::from_millis(20)).await.unwrap()).await;
    assert_eq!(
        (failure.kind, failure.message.as_str()),
        (FailureKind::Timeout, "timed out after 20ms")
    );
    soon("the handler is dropped", dropped).await.unwrap();
    let token = soon("the handler started", token).await.unwrap();
    soon("the token fires", token.cancelled()).await;
    assert_eq!((server.stats().abandoned, server.stats().slots), (0, 1));
    counts_become(&broker, &[(TaskState::Archived, 1)]).await;
}

/// Blocks its thread until it is released, with an upper bound.
fn block_until(released: &AtomicBool) {
    let started = Instant::now();
    while !released.load(SeqCst) && started.elapsed() < Duration::from_secs(20) {
        std::hint::spin_loop();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_blocks_its_thread_loses_its_slot_at_the_deadline() {
    let (broker, producer) = broker();
    let released = Arc::new(AtomicBool::new(false));
    let release = Arc::clone(&released);
    let server = Server::builder(broker.clone())
        .concurrency(2)
        .process(move |task: Payload<Job>, _: Context| {
            let released = Arc::clone(&released);
            async move {
                if task.n == 1 {
                    block_until(&released);
                }
                Ok::<_, TaskError>(())
            }
        })
        .start()
        .await
        .unwrap();
    let hung = producer
        .enqueue(job(1))
        .max_retry(0)
        .timeout(Duration::from_millis(50))
        .await
        .unwrap();
    // Other tasks run during that time.
    becomes(&hung, TaskState::Active).await;
    for n in 2..20 {
        output_of(&producer.enqueue(job(n)).await.unwrap()).await;
    }
    let failure = failure_of(&hung).await;
    assert_eq!(failure.kind, FailureKind::Timeout);
    assert_eq!(
        failure.message,
        "timed out after 50ms; the handler blocks its thread or a layer around it waits, and may still be running"
    );
    assert_eq!((server.stats().abandoned, server.stats().running), (1, 0));
    until("the slot is replaced", async || server.stats().slots == 2).await;

    release.store(true, SeqCst);
    until("the handler is gone", async || {
        server.stats().abandoned == 0
    })
    .await;
    // It returned Ok eventually, which does not count.
    assert_eq!(info(&hung).await.state, TaskState::Archived);
    output_of(&producer.enqueue(job(20)).await.unwrap()).await;
    counts_become(
        &broker,
        &[(TaskState::Completed, 19), (TaskState::Archived, 1)],
    )
    .await;
    assert_eq!(server.stats().finished, 20);
    server.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slots_of_abandoned_handlers_are_used_again_when_they_end() {
    let (broker, producer) = broker();
    let released = Arc::new(AtomicBool::new(false));
    let release = Arc::clone(&released);
    let server = Server::builder(broker.clone())
        .concurrency(1)
        .max_abandoned(0)
        .poll_interval(AN_HOUR)
        .process(move |task: Payload<Job>, _: Context| {
            let released = Arc::clone(&released);
            async move {
                if task.n == 1 {
                    block_until(&released);
                }
                Ok::<_, TaskError>(())
            }
        })
        .start()
        .await
        .unwrap();
    let hung = producer.enqueue(job(1)).max_retry(0);
    let hung = hung.timeout(Duration::from_millis(50)).await.unwrap();
    failure_of(&hung).await;
    let next = producer.enqueue(job(2)).await.unwrap();
    until("no slot is left", async || server.stats().slots == 0).await;
    assert_eq!(info(&next).await.state, TaskState::Pending);
    release.store(true, SeqCst);
    output_of(&next).await;
    assert_eq!((server.stats().slots, server.stats().abandoned), (1, 0));
    counts_become(
        &broker,
        &[(TaskState::Completed, 1), (TaskState::Archived, 1)],
    )
    .await;
}

#[tokio::test]
async fn a_task_past_its_deadline_is_archived_and_does_not_run() {
    let (broker, producer) = broker();
    let runs = Arc::new(AtomicUsize::new(0));
    let run = Arc::clone(&runs);
    let past = producer
        .enqueue(job(1))
        .deadline(Duration::ZERO)
        .await
        .unwrap();
    let _server = Server::builder(broker.clone())
        .process(move |_: Payload<Job>, _: Context| {
            run.fetch_add(1, SeqCst);
            async { Ok::<_, TaskError>(()) }
        })
        .start()
        .await
        .unwrap();
    let failure = failure_of(&past).await;
    assert_eq!(
        (failure.kind, failure.message.as_str()),
        (FailureKind::Deadline, "deadline exceeded before start")
    );
    assert_eq!(runs.load(SeqCst), 0);
    counts_become(&broker, &[(TaskState::Archived, 1)]).await;
}

#[tokio::test]
async fn a_task_whose_deadline_passes_while_it_runs_is_archived_and_not_retried() {
    let (broker, producer) = broker();
    let _server = Server::builder(broker.clone())
        .process(|_: Payload<Job>, _: Context| std::future::pending::<Result<(), TaskError>>())
        .start()
        .await
        .unwrap();
    let task = producer.enqueue(job(1)).deadline(Duration::from_millis(50));
    let task = task.await.unwrap();
    let failure = failure_of(&task).await;
    assert_eq!(
        (failure.kind, failure.message.as_str(), failure.attempt),
        (FailureKind::Deadline, "deadline exceeded while running", 1)
    );
    counts_become(&broker, &[(TaskState::Archived, 1)]).await;
}

#[tokio::test]
async fn a_task_whose_deadline_passes_while_it_waits_for_a_slot_does_not_start() {
    let (broker, producer) = broker();
    let faulty = Faulty::new(&broker);
    // The server leases both tasks, and has one slot.
    faulty.faults.generous.store(1, SeqCst);
    let gate = Arc::new(Semaphore::new(0));
    let (pass, ran) = (Arc::clone(&gate), Arc::new(AtomicUsize::new(0)));
    let run = Arc::clone(&ran);
    let first = producer.enqueue(job(1)).await.unwrap();
    let late = producer
        .enqueue(job(2))
        .deadline(Duration::from_millis(200));
    let late = late.await.unwrap();
    let _server = Server::builder(faulty)
        .concurrency(1)
        .process(move |task: Payload<Job>, _: Context| {
            let gate = Arc::clone(&gate);
            run.fetch_add(usize::from(task.n == 2), SeqCst);
            async move {
                if task.n == 1 {
                    gate.acquire().await.expect("open").forget();
                }
                Ok::<_, TaskError>(())
            }
        })
        .start()
        .await
        .unwrap();
    let leased = becomes(&late, TaskState::Active).await;
    let deadline = leased.envelope.deadline.expect("set");
    until("the deadline has passed", async || {
        asynqueue_core::broker::Broker::now(&broker) > deadline
    })
    .await;
    pass.add_permits(1);
    output_of(&first).await;
    let failure = failure_of(&late).await;
    assert_eq!(failure.message, "deadline exceeded before start");
    assert_eq!(ran.load(SeqCst), 0);
}

#[tokio::test]
async fn an_attempt_delayed_by_a_layer_ends_at_its_timeout_too() {
    let (broker, producer) = broker();
    let server = Server::builder(broker.clone())
        .process(|_: Payload<Job>, _: Context| async { Ok::<_, TaskError>(()) })
        .layer(middleware_fn(|_, _| std::future::pending()))
        .start()
        .await
        .unwrap();
    let task = producer.enqueue(job(1)).max_retry(0);
    let failure = failure_of(&task.timeout(Duration::from_millis(20)).await.unwrap()).await;
    assert_eq!(failure.kind, FailureKind::Timeout);
    until("it is gone", async || server.stats().abandoned == 0).await;
    counts_become(&broker, &[(TaskState::Archived, 1)]).await;
}

#[tokio::test]
async fn a_context_shows_how_much_time_its_attempt_has_left() {
    let (broker, producer) = broker();
    let (sender, receiver) = oneshot::channel();
    let sender = std::sync::Mutex::new(Some(sender));
    let _server = Server::builder(broker.clone())
        .process(move |_: Payload<Job>, ctx: Context| {
            if let Some(sender) = sender.lock().unwrap().take() {
                let _ = sender.send(ctx.remaining());
            }
            async { Ok::<_, TaskError>(()) }
        })
        .start()
        .await
        .unwrap();
    let task = producer.enqueue(job(1)).timeout(AN_HOUR * 3);
    task.deadline(AN_HOUR).await.unwrap();
    let remaining = soon("the handler runs", receiver).await.unwrap();
    assert!(
        remaining <= AN_HOUR && remaining > AN_HOUR - Duration::from_secs(60),
        "the nearer of both counts: {remaining:?}"
    );
}
