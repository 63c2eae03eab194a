//! A million tasks that wait, and two hundred thousand that are due at once. A program of its own, for others would take the
//! processor away from Redis.

mod common;

use std::time::Duration;

use asynqueue_core::{Broker, Inspect, NewTask, Outcome, When};
use asynqueue_test_servers::RedisServer;
use redis::{Value, cmd};

use common::{connect, lease, task};

const PENDING: usize = 1_000_000;
const DUE: usize = 200_000;

/// Number, time, microseconds, words, client, its name.
type Entry = (u64, u64, u64, Vec<Vec<u8>>, Value, Value);

#[tokio::test]
async fn a_large_backlog_is_worked_off_in_small_steps() {
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
        NewTask {
            envelope: task("q", &format!("task-{n:07}")),
            when,
        }
    };
    for first in (0..DUE + PENDING).step_by(20_000) {
        let batch = (first..first + 20_000).map(new).collect();
        let accepted = broker.enqueue(batch).await.expect("sent");
        assert!(accepted.iter().all(Result::is_ok));
    }
    let forwarded = broker
        .forward(&["q".into()], usize::MAX)
        .await
        .expect("forwarded");
    assert_eq!((forwarded.moved, forwarded.next_due), (DUE, None));
    let mut done = 0;
    loop {
        let leased = lease(&broker, "q", 1_000).await;
        if leased.is_empty() {
            break;
        }
        done += leased.len();
        let complete =
            |leased: asynqueue_core::Leased| leased.settle(Outcome::Complete { result: None });
        let settlements: Vec<_> = leased.into_iter().map(complete).collect();
        broker.settle(&settlements).await.expect("settled");
    }
    assert_eq!(done, DUE + PENDING);
    let stats = broker.stats(&["q".into()]).await.expect("stats").remove(0);
    assert_eq!(
        (stats.total(), stats.succeeded as usize, stats.repaired),
        (0, done, 0)
    );

    // By the wall, so that it counts too when a busy machine takes the processor away in the middle of a script. One whose
    // time grew with the backlog would be here nearly each time.
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
    let calls = 2 * (DUE + PENDING) / 500;
    assert!(times.len() <= calls / 20, "slower than 10 ms: {times:?}");
}
