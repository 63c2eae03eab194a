//! The clock of Redis steps while tasks run.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use asynqueue_core::{
    producer::Producer,
    task::{Clock, Timestamp},
    testing::TestClock,
};
use asynqueue_redis::{RedisBroker, RedisOptions};
use asynqueue_test_servers::RedisServer;

use crate::load::{self, Record};

const AN_HOUR: Duration = Duration::from_secs(3600);
const TASKS: usize = 8;

/// Tasks longer than several leases run through a step of the clock on two servers.
async fn tasks_run_once_through(step: fn(Timestamp) -> Timestamp) {
    let redis = RedisServer::start().await;
    let clock = TestClock::default();
    let connect = async || {
        let options = RedisOptions::new(&redis.url())
            .unwrap()
            .clock(clock.clone());
        RedisBroker::connect(options).await.unwrap()
    };
    let record = Arc::new(Record::default());
    let (one, other) = (connect().await, connect().await);
    let lease = Duration::from_millis(300);
    let servers = [
        load::serve_leasing(&one, &record, lease, lease * 5).await,
        load::serve_leasing(&other, &record, lease, lease * 5).await,
    ];
    let producer = Producer::new(one.clone());
    for n in 0..TASKS {
        load::send(&producer, n).await;
    }
    let start = Instant::now();
    while servers
        .iter()
        .map(|server| server.stats().running)
        .sum::<usize>()
        < TASKS
    {
        assert!(start.elapsed() < Duration::from_secs(10), "all run");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    clock.set(step(clock.now()));
    while record.done() < TASKS {
        assert!(start.elapsed() < Duration::from_secs(20), "all are done");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    for server in servers {
        assert_eq!((server.stats().reclaimed, server.stats().stale), (0, 0));
        server.shutdown().await.unwrap();
    }
    record.assert_each_ran_once(TASKS);
}

#[tokio::test]
async fn a_clock_that_steps_an_hour_ahead_starts_no_task_twice() {
    tasks_run_once_through(|now| now + AN_HOUR).await;
}

#[tokio::test]
async fn a_clock_that_steps_an_hour_back_starts_no_task_twice() {
    tasks_run_once_through(|now| now - AN_HOUR).await;
}
