//! Handlers that block every thread of their runtime.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

use asynqueue_core::{
    process::{Context, Payload, TaskError},
    producer::Producer,
    server::{Server, ServerHandle},
};
use asynqueue_redis::RedisBroker;
use asynqueue_test_servers::RedisServer;
use tokio::runtime::{Builder, Runtime};

use crate::{
    common::connect,
    load::{self, QUEUE, Work},
};

const LEASE: Duration = Duration::from_millis(500);

/// A runtime of two threads, as on two cores.
fn workers() -> Runtime {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(2).enable_all().build().unwrap()
}

async fn blocks(
    broker: RedisBroker,
    released: &Arc<AtomicBool>,
    runs: &Arc<AtomicUsize>,
) -> ServerHandle {
    let (released, runs) = (Arc::clone(released), Arc::clone(runs));
    Server::builder(broker)
        .queue(QUEUE, 1)
        .concurrency(2)
        .lease(LEASE)
        .process(move |_: Payload<Work>, _: Context| {
            let (released, runs) = (Arc::clone(&released), Arc::clone(&runs));
            async move {
                runs.fetch_add(1, SeqCst);
                while !released.load(SeqCst) {
                    thread::sleep(Duration::from_millis(1));
                }
                Ok::<_, TaskError>(())
            }
        })
        .start()
        .await
        .unwrap()
}

/// Releases the handlers on drop.
struct Release(Arc<AtomicBool>);

impl Drop for Release {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(20), "{what}");
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn handlers_that_block_every_thread_for_four_leases_run_once_on_two_servers() {
    let test = Runtime::new().unwrap();
    let redis = test.block_on(RedisServer::start());
    let (released, runs) = Default::default();
    let (one, other) = (workers(), workers());
    // Each server connects on the runtime where its handlers block.
    let start = |runtime: &Runtime| {
        runtime.block_on(async { blocks(connect(&redis.url()).await, &released, &runs).await })
    };
    let servers = [start(&one), start(&other)];
    test.block_on(async {
        let producer = Producer::new(connect(&redis.url()).await);
        for n in 0..4 {
            load::send(&producer, n).await;
        }
    });
    // Also if an assertion fails, because a runtime waits for its threads.
    let _release = Release(Arc::clone(&released));
    wait_until("all handlers block their thread", || runs.load(SeqCst) == 4);
    let start = Instant::now();
    wait_until("four leases have passed", || start.elapsed() > LEASE * 4);
    released.store(true, SeqCst);
    let finished = || {
        servers
            .iter()
            .map(|server| server.stats().finished)
            .sum::<u64>()
    };
    wait_until("all have finished", || finished() == 4);
    for server in servers {
        assert_eq!((server.stats().reclaimed, server.stats().stale), (0, 0));
        test.block_on(server.shutdown()).unwrap();
    }
    assert_eq!(runs.load(SeqCst), 4);
}
