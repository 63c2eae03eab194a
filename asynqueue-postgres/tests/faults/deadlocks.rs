//! Calls that lock the same rows do so in one order: PostgreSQL finds no deadlock, for which a call would wait a second
//! and be made again.

use std::time::Duration;

use asynqueue_core::{
    broker::{NewTask, Outcome, Settled, Store, all_of},
    task::{UniqueKey, UniqueLock, UniqueUntil},
};
use asynqueue_postgres::PostgresBroker;
use asynqueue_test_servers::Postgres;

use crate::common;

const ROUNDS: usize = 60;

async fn two_brokers(server: &Postgres) -> [PostgresBroker; 2] {
    let url = server.url();
    [common::open(&url).await, common::open(&url).await]
}

fn assert_no_deadlock(server: &Postgres) {
    let log = server.log();
    let found: Vec<_> = log
        .lines()
        .filter(|line| line.contains("deadlock"))
        .collect();
    assert_eq!(found, [""; 0]);
}

/// Tasks with a hundred keys, in two queues and two priorities.
fn unique_tasks(round: usize, by: usize) -> Vec<NewTask> {
    let keys = (0..100).map(|key| if by == 0 { key } else { 99 - key });
    let task = |key: usize| {
        let mut task = common::task_of(&format!("{by}-{round}-{key}"));
        task.envelope.queue = if key.is_multiple_of(2) { "q" } else { "a" }.into();
        let options = std::sync::Arc::make_mut(&mut task.envelope.options);
        options.priority = if (key / 2 + by).is_multiple_of(2) {
            3
        } else {
            7
        };
        let key = UniqueKey::new(format!("key-{}", key * 37 % 100));
        let lock = UniqueLock::new(key, UniqueUntil::Success, Duration::from_secs(3_600));
        task.envelope.unique = Some(Box::new(lock));
        task
    };
    keys.map(task).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_with_the_same_unique_keys_in_opposite_orders_are_no_deadlock() {
    let server = Postgres::fast().await;
    let brokers = two_brokers(&server).await;
    for round in 0..ROUNDS {
        let calls = [0, 1].map(|by| Store::enqueue(&brokers[by], unique_tasks(round, by)));
        let [one, other] = calls;
        let (one, other) = tokio::join!(one, other);
        let results = one
            .expect("a call")
            .into_iter()
            .chain(other.expect("a call"));
        assert_eq!(results.filter(Result::is_ok).count(), 100, "each key once");
        for queue in ["q", "a"] {
            let deleted = Store::delete_queue(&brokers[0], &queue.into(), true).await;
            assert!(deleted.expect("a result"));
        }
    }
    assert_no_deadlock(&server);
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_with_the_same_ids_in_opposite_orders_are_no_deadlock() {
    let server = Postgres::fast().await;
    let brokers = two_brokers(&server).await;
    for round in 0..ROUNDS {
        let mut tasks: Vec<_> = (0..200)
            .map(|n| common::task_of(&format!("{round}-{n}")))
            .collect();
        let one = Store::enqueue(&brokers[0], tasks.clone());
        tasks.reverse();
        let other = Store::enqueue(&brokers[1], tasks);
        let (one, other) = tokio::join!(one, other);
        let results = one
            .expect("a call")
            .into_iter()
            .chain(other.expect("a call"));
        assert_eq!(results.filter(Result::is_ok).count(), 200, "each id once");
    }
    assert_no_deadlock(&server);
    assert_eq!(common::drain(&brokers[0]).await.len(), ROUNDS * 200);
}

/// A server extends all its leases while it settles some of them.
#[tokio::test(flavor = "multi_thread")]
async fn leases_that_are_extended_and_settled_in_opposite_orders_are_no_deadlock() {
    let server = Postgres::fast().await;
    let brokers = two_brokers(&server).await;
    for round in 0..ROUNDS {
        let tasks = (0..200).map(|n| common::task_of(&format!("{round}-{n}")));
        let accepted = Store::enqueue(&brokers[0], tasks.collect()).await;
        assert!(accepted.expect("a call").iter().all(Result::is_ok));
        let leased = common::lease(&brokers[0], 200).await.expect("leased");
        let leases: Vec<_> = leased.iter().map(|leased| leased.lease()).collect();
        let settlements: Vec<_> = leased
            .into_iter()
            .rev()
            .map(|leased| leased.settle(Outcome::Complete { result: None }))
            .collect();
        let (extended, settled) = tokio::join!(
            brokers[0].extend(&leases, common::LIMIT),
            brokers[1].settle(&settlements)
        );
        all_of(extended).expect("a call");
        assert_eq!(all_of(settled).expect("a call"), [Settled::Recorded; 200]);
    }
    assert_no_deadlock(&server);
}
