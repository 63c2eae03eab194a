//! Redis stands still for longer than a lease while tasks run.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use asynqueue_core::Producer;
use asynqueue_test_servers::RedisServer;

use crate::load::{self, Record};

const LEASE: Duration = Duration::from_millis(600);
const TASKS: usize = 24;

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_longer_than_a_lease_starts_nothing_twice() {
    let redis = RedisServer::start().await;
    let record = Arc::new(Record::default());
    let mut servers = Vec::new();
    for _ in 0..4 {
        let broker = load::patient(&redis.url()).await;
        servers.push(load::serve_leasing(&broker, &record, LEASE, LEASE * 10).await);
    }
    let producer = Producer::new(load::patient(&redis.url()).await);
    for n in 0..TASKS {
        load::send(&producer, n).await;
    }
    let running = || servers.iter().map(|server| server.stats().running);
    let start = Instant::now();
    while running().sum::<usize>() < TASKS {
        assert!(start.elapsed() < Duration::from_secs(10), "all run");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    redis.pause();
    // The outage itself: every lease ends in it.
    tokio::time::sleep(LEASE * 5).await;
    redis.resume();
    while record.done() < TASKS {
        assert!(start.elapsed() < Duration::from_secs(30), "all are done");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    for server in servers {
        assert_eq!((server.stats().reclaimed, server.stats().stale), (0, 0));
        server.shutdown().await.unwrap();
    }
    record.assert_each_ran_once(TASKS);
}
