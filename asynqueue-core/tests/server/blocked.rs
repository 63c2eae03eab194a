//! Handlers that block their thread.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

use asynqueue_core::{
    broker::Broker,
    memory::MemoryBroker,
    process::{Context, Payload, TaskError},
    server::{Server, ServerHandle},
    task::TaskState,
};

use crate::harness::{Job, becomes, broker, info, job, lines, output_of, until, with};

const MS: Duration = Duration::from_millis(1);

/// Blocks its thread until it is released.
pub(crate) fn block_until(released: &AtomicBool) {
    while !released.load(SeqCst) {
        thread::sleep(MS);
    }
}

/// Releases the handlers when it is dropped.
struct Release(Arc<AtomicBool>);

impl Drop for Release {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

/// A server whose handler blocks its thread for even numbers until it is released, and counts runs.
async fn blocks_at_even_numbers(
    broker: &MemoryBroker,
    lease: Duration,
    released: &Arc<AtomicBool>,
    runs: &Arc<AtomicUsize>,
) -> ServerHandle {
    let (released, runs) = (Arc::clone(released), Arc::clone(runs));
    Server::builder(broker.clone())
        .concurrency(2)
        .lease(lease)
        .process(move |task: Payload<Job>, _: Context| {
            let (released, runs) = (Arc::clone(&released), Arc::clone(&runs));
            async move {
                runs.fetch_add(1, SeqCst);
                if task.n.is_multiple_of(2) {
                    block_until(&released);
                }
                Ok::<_, TaskError>(())
            }
        })
        .start()
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_outcome_of_a_finished_task_is_recorded_while_another_blocks_its_thread() {
    for _ in 0..20 {
        let (broker, producer) = broker();
        let (released, runs) = Default::default();
        let server = blocks_at_even_numbers(&broker, MS * 30_000, &released, &runs).await;
        // One slot runs them one after another on one thread: the quick one first.
        let quick = producer.enqueue(job(1)).await.unwrap();
        let blocks = producer.enqueue(job(2)).await.unwrap();
        becomes(&quick, TaskState::Completed).await;
        becomes(&blocks, TaskState::Active).await;
        released.store(true, SeqCst);
        output_of(&blocks).await;
        server.shutdown().await.unwrap();
    }
}

#[test]
fn handlers_that_block_every_thread_keep_their_leases_and_run_once() {
    // Handlers block all threads of the runtimes that they run on, so the test observes them from another.
    let test = tokio::runtime::Runtime::new().unwrap();
    let workers = || {
        let builder = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build();
        builder.unwrap()
    };
    let (one, other) = (workers(), workers());
    let (broker, producer) = broker();
    let (released, runs) = Default::default();
    let lease = MS * 200;
    let first = one.block_on(blocks_at_even_numbers(&broker, lease, &released, &runs));
    let second = other.block_on(blocks_at_even_numbers(&broker, lease, &released, &runs));
    test.block_on(async {
        let tasks = producer.enqueue_many((0..4).map(|n| job(2 * n))).await;
        let tasks: Vec<_> = tasks.into_iter().map(Result::unwrap).collect();
        // Also when an assertion fails, because a runtime waits for its threads.
        let _release = Release(Arc::clone(&released));
        until("all block their thread", async || runs.load(SeqCst) == 4).await;
        let end = broker.now() + lease * 8;
        until("eight leases have passed", async || broker.now() > end).await;
        released.store(true, SeqCst);
        for task in &tasks {
            output_of(task).await;
            assert_eq!(info(task).await.envelope.attempts, 0);
        }
        assert_eq!(runs.load(SeqCst), 4);
        let stats = [first.stats(), second.stats()];
        assert!(
            stats
                .iter()
                .all(|stats| (stats.stale, stats.reclaimed) == (0, 0))
        );
        first.shutdown().await.unwrap();
        second.shutdown().await.unwrap();
    });
}

#[test]
fn a_blocked_server_on_a_single_thread_still_keeps_its_leases_and_shuts_down() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let (broker, producer) = broker();
    let (released, runs) = Default::default();
    runtime.block_on(async {
        let server = blocks_at_even_numbers(&broker, MS * 100, &released, &runs).await;
        let task = producer.enqueue(job(2)).await.unwrap();
        let release = Arc::clone(&released);
        let end = broker.now() + MS * 800;
        let releasing = thread::spawn(move || {
            while broker.now() <= end {
                thread::sleep(MS);
            }
            release.store(true, SeqCst);
        });
        output_of(&task).await;
        releasing.join().unwrap();
        assert_eq!((runs.load(SeqCst), server.stats().reclaimed), (1, 0));
        server.shutdown().await.unwrap();
    });
}

#[test]
fn a_handler_that_blocks_its_thread_is_reported_once_with_its_event() {
    let (broker, producer) = broker();
    let (lines, log) = lines();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let server = Server::builder(broker)
            .process(|_: Payload<Job>, _: Context| async {
                thread::sleep(MS * 1_500);
                Ok::<_, TaskError>(())
            })
            .start()
            .await
            .unwrap();
        for n in 0..2 {
            output_of(&producer.enqueue(job(n)).await.unwrap()).await;
        }
        server.shutdown().await.unwrap();
    });
    drop(log);
    let reported = with(&lines, "blocked its thread");
    assert_eq!(reported.len(), 1, "{reported:?}");
    assert!(reported[0].contains("event=job"), "{reported:?}");
}
