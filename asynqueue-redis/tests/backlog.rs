//! A million pending tasks and two hundred thousand due ones. A separate test binary, because other tests would take
//! CPU time from Redis.

mod common;

use std::time::{Duration, Instant};

use asynqueue_core::{
    broker::{Broker, Inspect, NewTask, Outcome, Page, When, all_of},
    inspector::{Action, Filter, Inspector},
    task::TaskState,
};
use asynqueue_redis::RedisBroker;
use asynqueue_test_servers::RedisServer;
use futures_util::StreamExt;
use redis::{Value, cmd};

use common::{connect, lease, task};

const PENDING: usize = 1_000_000;
const DUE: usize = 200_000;

/// Lists the backlog as operators do, and deletes half of the due tasks. Returns how many were deleted.
async fn look_and_delete(broker: &RedisBroker) -> usize {
    let inspector = Inspector::new(broker.clone());
    let (queue, none) = (
        "q".into(),
        "payload~\"not there\"".parse().expect("a filter"),
    );
    let timed = async |state, filter: &Filter| {
        let started = Instant::now();
        let listing = inspector.list(&queue, state, filter, Page::default()).await;
        println!("the first page of {state}: {:?}", started.elapsed());
        listing.expect("a page")
    };
    for state in [TaskState::Pending, TaskState::Scheduled] {
        let first = timed(state, &Filter::default()).await;
        assert_eq!((first.tasks.len(), first.scanned), (100, 100));
        // Each call reads a limited number of tasks, however few match, and returns where to continue.
        let nothing = timed(state, &none).await;
        assert_eq!(nothing.tasks.len(), 0);
        assert!(nothing.next.is_some() && nothing.scanned <= 2_500);
    }
    let half = Filter::default().id("task-01*");
    let started = Instant::now();
    let mut bulk = inspector.apply_to_all(Action::Delete, "q", TaskState::Scheduled, half);
    let (mut last, mut steps) = (0, 0);
    while let Some(progress) = bulk.next().await {
        last = progress.expect("progress").done as usize;
        steps += 1;
    }
    println!(
        "{last} deleted in {steps} steps and {:?}",
        started.elapsed()
    );
    assert_eq!(last, DUE / 2);
    last
}

/// Id, time, microseconds, arguments, client, client name.
type Entry = (u64, u64, u64, Vec<Vec<u8>>, Value, Value);

#[tokio::test]
async fn a_large_backlog_is_processed_in_small_steps() {
    let server = RedisServer::with(&[
        "--slowlog-log-slower-than",
        "10000",
        "--slowlog-max-len",
        "1000",
    ])
    .await;
    let broker = connect(&server.url()).await;
    let new = |n: usize| {
        let when = if n < DUE {
            When::After(Duration::from_millis(1))
        } else {
            When::Now
        };
        NewTask::new(task("q", &format!("task-{n:07}")), when)
    };
    for first in (0..DUE + PENDING).step_by(20_000) {
        let batch = (first..first + 20_000).map(new).collect();
        let accepted = broker.enqueue(batch).await.expect("sent");
        assert!(accepted.iter().all(Result::is_ok));
    }
    let deleted = look_and_delete(&broker).await;
    let forwarded = all_of(broker.forward(&["q".into()], usize::MAX).await).expect("forwarded");
    assert_eq!(
        (forwarded[0].moved, forwarded[0].next_due),
        (DUE - deleted, None)
    );
    let mut done = 0;
    loop {
        let leased = lease(&broker, "q", 1_000).await;
        if leased.is_empty() {
            break;
        }
        done += leased.len();
        let complete = |leased: asynqueue_core::broker::Leased| {
            leased.settle(Outcome::Complete { result: None })
        };
        let settlements: Vec<_> = leased.into_iter().map(complete).collect();
        all_of(broker.settle(&settlements).await).expect("settled");
    }
    assert_eq!(done, DUE + PENDING - deleted);
    let stats = broker.stats(&["q".into()]).await.expect("stats").remove(0);
    assert_eq!(
        (stats.total(), stats.succeeded as usize, stats.repaired),
        (0, done, 0)
    );

    // In wall time, so it also counts when a busy machine preempts Redis during a script. A script whose time grew with
    // the backlog would exceed the limit nearly every time.
    let mut slow = cmd("SLOWLOG");
    let mut connection = server.connection().await;
    let slow: Vec<Entry> = slow
        .arg("GET")
        .arg(1_000)
        .query_async(&mut connection)
        .await
        .expect("the slow log");
    let scripts = slow.iter().filter(|entry| entry.3[0].starts_with(b"EVAL"));
    let times: Vec<_> = scripts
        .map(|entry| Duration::from_micros(entry.2))
        .collect();
    let calls = 2 * (DUE + PENDING) / 500 + 3 * DUE / 200;
    assert!(times.len() <= calls / 20, "slower than 10 ms: {times:?}");
}
