//! Redis is unavailable for longer than a lease while tasks run.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use asynqueue_core::{producer::Producer, server::ServerHandle};
use asynqueue_redis::{RedisBroker, RedisOptions};
use asynqueue_test_servers::{Fault, Proxy, RedisServer, eventually};

use crate::load::{self, Record};

const LEASE: Duration = Duration::from_secs(3);
const TASKS: usize = 12;

async fn serve(url: &str, record: &Arc<Record>) -> ServerHandle {
    let options = RedisOptions::new(url).unwrap();
    // Calls fail during the outage, so that each loop of a server resumes at a different time.
    let options = options
        .response_timeout(Duration::from_millis(200))
        .retry_for(Duration::from_millis(200));
    let broker = RedisBroker::connect(options).await.unwrap();
    load::serve_leasing(&broker, record, LEASE, LEASE * 3).await
}

/// Runs tasks on a server through an outage in which all their leases expire, and starts another server during it.
async fn tasks_run_once_through(
    outage: impl AsyncFnOnce(&RedisServer, &Proxy, &Arc<Record>) -> ServerHandle,
) {
    let redis = RedisServer::start().await;
    let proxy = Proxy::start(redis.port()).await;
    let record = Arc::new(Record::default());
    let busy = serve(&proxy.url(), &record).await;
    let producer = Producer::new(load::patient(&redis.url()).await);
    for n in 0..TASKS {
        load::send(&producer, n).await;
    }
    eventually("all run", async || busy.stats().running == TASKS).await;
    let idle = outage(&redis, &proxy, &record).await;
    let start = Instant::now();
    while record.done() < TASKS {
        assert!(start.elapsed() < Duration::from_secs(30), "all are done");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    for server in [idle, busy] {
        assert_eq!((server.stats().reclaimed, server.stats().stale), (0, 0));
        server.shutdown().await.unwrap();
    }
    record.assert_each_ran_once(TASKS);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_hangs_for_longer_than_a_lease_starts_no_task_twice() {
    tasks_run_once_through(async |redis, _, record| {
        let idle = serve(&redis.url(), record).await;
        redis.pause();
        tokio::time::sleep(LEASE * 4 / 3).await;
        redis.resume();
        idle
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_server_after_an_outage_takes_no_task_of_another() {
    tasks_run_once_through(async |redis, proxy, record| {
        proxy.set(Fault::Blackhole);
        tokio::time::sleep(LEASE * 4 / 3).await;
        // All leases have expired. The server checks them after a sixth of a lease, and reclaims nothing before it has
        // watched for half of one.
        let idle = serve(&redis.url(), record).await;
        tokio::time::sleep(LEASE / 3).await;
        proxy.set(Fault::None);
        idle
    })
    .await;
}
