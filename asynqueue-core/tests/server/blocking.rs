//! Code that blocks its thread by design.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

use asynqueue_core::{
    memory::MemoryBroker,
    process::{Context, Payload, State, TaskError},
    server::{Server, ServerHandle},
    task::{FailureKind, TaskState},
};

use crate::{
    blocked::block_until,
    harness::{
        Job, Sum, becomes, broker, counts_become, failure_of, info, job, output_of, soon, until,
    },
};

const MS: Duration = Duration::from_millis(1);

/// Enqueues a job whose handler runs blocking code that stops when it is released, and reports what it saw.
struct Blocking {
    released: Arc<AtomicBool>,
    running: Arc<AtomicUsize>,
    saw_cancel: Arc<AtomicBool>,
}

impl Blocking {
    fn new() -> Self {
        Self {
            released: Default::default(),
            running: Default::default(),
            saw_cancel: Default::default(),
        }
    }

    async fn server(&self, broker: &MemoryBroker, stops_when_cancelled: bool) -> ServerHandle {
        let released = Arc::clone(&self.released);
        let running = Arc::clone(&self.running);
        let saw_cancel = Arc::clone(&self.saw_cancel);
        Server::builder(broker.clone())
            .concurrency(1)
            .cancel_grace(MS * 50)
            .process(move |_: Payload<Job>, ctx: Context| {
                let released = Arc::clone(&released);
                let running = Arc::clone(&running);
                let saw_cancel = Arc::clone(&saw_cancel);
                async move {
                    ctx.run_blocking(move |cancelled| {
                        running.fetch_add(1, SeqCst);
                        while !released.load(SeqCst) {
                            saw_cancel.fetch_or(cancelled.is_cancelled(), SeqCst);
                            if stops_when_cancelled && cancelled.is_cancelled() {
                                break;
                            }
                            thread::sleep(MS);
                        }
                        running.fetch_sub(1, SeqCst);
                    })
                    .await
                }
            })
            .start()
            .await
            .unwrap()
    }
}

#[tokio::test]
async fn blocking_code_sees_that_its_task_timed_out_and_keeps_its_slot_until_it_ends() {
    let (broker, producer) = broker();
    let blocking = Blocking::new();
    let server = blocking.server(&broker, true).await;
    let task = producer.enqueue(job(1)).max_retry(0).timeout(MS * 30);
    let task = task.await.unwrap();
    let failure = failure_of(&task).await;
    assert_eq!(failure.kind, FailureKind::Timeout);
    assert!(blocking.saw_cancel.load(SeqCst));
    assert_eq!(
        blocking.running.load(SeqCst),
        0,
        "it had ended before the outcome was recorded"
    );
    assert_eq!(server.stats().abandoned, 0);
    server.shutdown().await.unwrap();
}

#[tokio::test]
async fn blocking_code_that_does_not_stop_counts_as_abandoned_until_it_ends() {
    let (broker, producer) = broker();
    let blocking = Blocking::new();
    let server = blocking.server(&broker, false).await;
    let task = producer.enqueue(job(1)).max_retry(0).timeout(MS * 30);
    let task = task.await.unwrap();
    let failure = failure_of(&task).await;
    assert!(
        failure.message.contains("its blocking code did not stop"),
        "{}",
        failure.message
    );
    assert_eq!(
        (server.stats().abandoned, blocking.running.load(SeqCst)),
        (1, 1)
    );
    until("another slot is open", async || server.stats().slots == 1).await;
    blocking.released.store(true, SeqCst);
    until("it has ended", async || server.stats().abandoned == 0).await;
    output_of(&producer.enqueue(job(2)).await.unwrap()).await;
    server.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_shutdown_waits_for_blocking_code() {
    let (broker, producer) = broker();
    let blocking = Blocking::new();
    let server = blocking.server(&broker, false).await;
    let task = producer.enqueue(job(1)).await.unwrap();
    until("it runs", async || blocking.running.load(SeqCst) == 1).await;
    let stopping = tokio::spawn(server.shutdown());
    assert!(!stopping.is_finished());
    blocking.released.store(true, SeqCst);
    soon("the server stops", stopping).await.unwrap().unwrap();
    assert_eq!(blocking.running.load(SeqCst), 0);
    assert_eq!(info(&task).await.state, TaskState::Completed);
}

#[tokio::test]
async fn a_panic_in_blocking_code_is_a_failure_with_its_backtrace() {
    let (broker, producer) = broker();
    let server = Server::builder(broker.clone())
        .process(|task: Payload<Job>, ctx: Context| async move {
            ctx.run_blocking(move |_| assert!(task.n != 1, "not this one"))
                .await
        })
        .start()
        .await
        .unwrap();
    let task = producer.enqueue(job(1)).max_retry(0).await.unwrap();
    let failure = failure_of(&task).await;
    assert_eq!(
        (failure.kind, failure.message.as_str()),
        (FailureKind::Panic, "panicked: not this one")
    );
    assert!(failure.backtrace.is_some());
    output_of(&producer.enqueue(job(2)).await.unwrap()).await;
    server.shutdown().await.unwrap();
    counts_become(
        &broker,
        &[(TaskState::Completed, 1), (TaskState::Archived, 1)],
    )
    .await;
}

/// Runs pieces of blocking code concurrently in each of `tasks` attempts. Returns how many ran at most.
async fn most_at_once(concurrency: usize, pieces: usize, tasks: u64) -> usize {
    let (broker, producer) = broker();
    let most = Arc::new(AtomicUsize::new(0));
    let running = Arc::new(AtomicUsize::new(0));
    let (seen, count) = (Arc::clone(&most), Arc::clone(&running));
    let server = Server::builder(broker.clone())
        .concurrency(concurrency)
        .process(move |_: Payload<Job>, ctx: Context| {
            let (seen, count) = (Arc::clone(&seen), Arc::clone(&count));
            async move {
                let piece = || {
                    let (seen, count) = (Arc::clone(&seen), Arc::clone(&count));
                    ctx.run_blocking(move |_| {
                        seen.fetch_max(count.fetch_add(1, SeqCst) + 1, SeqCst);
                        thread::sleep(MS * 5);
                        count.fetch_sub(1, SeqCst);
                    })
                };
                let all = futures_util::future::join_all((0..pieces).map(|_| piece()));
                all.await
                    .into_iter()
                    .collect::<Result<Vec<_>, _>>()
                    .map(drop)
            }
        })
        .start()
        .await
        .unwrap();
    for task in producer.enqueue_many((0..tasks).map(job)).await {
        output_of(&task.unwrap()).await;
    }
    server.shutdown().await.unwrap();
    most.load(SeqCst)
}

#[tokio::test]
async fn each_attempt_has_a_thread_for_blocking_code_and_shares_further_ones() {
    assert!(most_at_once(2, 8, 4).await <= 4);
    assert_eq!(most_at_once(3, 1, 9).await, 3);
}

#[tokio::test]
async fn an_attempt_that_takes_all_shared_threads_does_not_stop_other_attempts() {
    let (broker, producer) = broker();
    let blocking = Blocking::new();
    let released = Arc::clone(&blocking.released);
    let server = Server::builder(broker.clone())
        .concurrency(2)
        .process(move |task: Payload<Job>, ctx: Context| {
            let released = Arc::clone(&released);
            async move {
                let pieces = if task.n == 1 { 8 } else { 1 };
                let piece = || {
                    let released = Arc::clone(&released);
                    ctx.run_blocking(move |_| {
                        if pieces > 1 {
                            block_until(&released);
                        }
                    })
                };
                let all = futures_util::future::join_all((0..pieces).map(|_| piece()));
                all.await
                    .into_iter()
                    .collect::<Result<Vec<_>, _>>()
                    .map(drop)
            }
        })
        .start()
        .await
        .unwrap();
    let large = producer.enqueue(job(1)).await.unwrap();
    becomes(&large, TaskState::Active).await;
    for n in 2..6 {
        output_of(&producer.enqueue(job(n)).await.unwrap()).await;
    }
    blocking.released.store(true, SeqCst);
    output_of(&large).await;
    server.shutdown().await.unwrap();
}

#[tokio::test]
async fn nested_blocking_code_that_waits_for_a_thread_ends_with_its_attempt() {
    let (broker, producer) = broker();
    let server = Server::builder(broker.clone())
        .concurrency(1)
        .cancel_grace(MS * 50)
        .process(|task: Payload<Job>, ctx: Context| async move {
            if task.n > 1 {
                return ctx.run_blocking(|_| ()).await;
            }
            // Each occupies a thread and waits for another, of which there is none.
            let nested = || {
                let inner = ctx.clone();
                ctx.run_blocking(move |_| {
                    let runtime = tokio::runtime::Builder::new_current_thread().build();
                    let runtime = runtime.expect("a runtime");
                    let once_more = inner.run_blocking(|_| thread::sleep(MS * 20));
                    drop(runtime.block_on(once_more));
                })
            };
            let all = futures_util::future::join_all((0..4).map(|_| nested()));
            all.await
                .into_iter()
                .collect::<Result<Vec<_>, _>>()
                .map(drop)
        })
        .start()
        .await
        .unwrap();
    let stuck = producer.enqueue(job(1)).max_retry(0).timeout(MS * 100);
    let stuck = stuck.await.unwrap();
    failure_of(&stuck).await;
    for n in 2..5 {
        output_of(&producer.enqueue(job(n)).await.unwrap()).await;
    }
    until("nothing is left of it", async || {
        server.stats().abandoned == 0
    })
    .await;
    server.shutdown().await.unwrap();
}

#[tokio::test]
async fn the_result_of_a_handler_counts_if_it_leaves_blocking_code_behind() {
    let (broker, producer) = broker();
    let released = Arc::new(AtomicBool::new(false));
    let release = Arc::clone(&released);
    let server = Server::builder(broker.clone())
        .concurrency(1)
        .cancel_grace(MS * 20)
        .process(move |_: Payload<Sum>, ctx: Context| {
            let released = Arc::clone(&released);
            async move {
                let gives_up = ctx.run_blocking(move |_| block_until(&released));
                drop(tokio::time::timeout(MS * 20, gives_up).await);
                Ok::<_, TaskError>(2)
            }
        })
        .start()
        .await
        .unwrap();
    let task = producer.enqueue(Sum { of: vec![] }).await.unwrap();
    assert_eq!(output_of(&task).await, 2);
    until(
        "it counts as abandoned, and another slot is open",
        async || (server.stats().abandoned, server.stats().slots) == (1, 1),
    )
    .await;
    release.store(true, SeqCst);
    until("it has ended", async || server.stats().abandoned == 0).await;
    server.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_blocking_function_is_registered_with_its_arguments_and_delays_nothing() {
    #[derive(Clone)]
    struct Factor(u64);
    /// Blocks the thread that it runs on until the other task has ended.
    fn multiply(
        task: Payload<Sum>,
        factor: State<Factor>,
        ctx: Context,
    ) -> Result<u64, std::io::Error> {
        if task.of.is_empty() {
            while !ctx.is_cancelled() {
                thread::sleep(MS);
            }
            return Err(std::io::Error::other("stopped"));
        }
        Ok(task.of.iter().sum::<u64>() * factor.0.0)
    }
    let (broker, producer) = broker();
    let server = Server::builder(broker.clone())
        .state(Factor(3))
        .process_blocking(multiply);
    let server = server.start().await.unwrap();
    // On this single thread it would block everything else.
    let blocks = producer
        .enqueue(Sum { of: vec![] })
        .max_retry(0)
        .await
        .unwrap();
    becomes(&blocks, TaskState::Active).await;
    let quick = producer.enqueue(Sum { of: vec![1, 2] }).await.unwrap();
    assert_eq!(output_of(&quick).await, 9);
    blocks.cancel("enough").await.unwrap();
    assert_eq!(failure_of(&blocks).await.kind, FailureKind::Cancelled);
    server.shutdown().await.unwrap();
    let missing = Server::builder(broker).process_blocking(multiply).build();
    let refused = missing.expect_err("no factor").to_string();
    assert!(refused.contains("sum"), "{refused}");
}
