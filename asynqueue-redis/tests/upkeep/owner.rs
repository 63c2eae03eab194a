//! The owner of a queue: how it is chosen, what it costs, and who takes its place.

use std::time::Duration;

use asynqueue_core::{
    broker::{Broker, Control, NewTask, Signal, When, all_of},
    task::{Clock, Name},
    testing::TestClock,
};
use asynqueue_test_servers::{Monitor, RedisServer, eventually};
use redis::AsyncCommands;

use crate::{
    HOUR, at,
    common::{connect, lease, next, send, task},
    maintain, sent,
};

fn due(id: &str) -> NewTask {
    let when = When::After(Duration::from_millis(1));
    let envelope = task("q", id);
    NewTask::new(envelope, when)
}

#[tokio::test]
async fn one_instance_maintains_a_queue_and_the_others_send_almost_nothing() {
    let server = RedisServer::start().await;
    let queues = ["q".into()];
    let owner = connect(&server.url()).await;
    maintain(&owner, &queues).await;
    let mut others = Vec::new();
    for _ in 0..4 {
        others.push(connect(&server.url()).await);
    }
    send(&owner, [task("q", "a")]).await;
    let accepted = owner.enqueue(vec![due("due")]).await.expect("sent");
    assert_eq!(accepted, [Ok(())]);
    let monitor = Monitor::start(&server).await;
    for _ in 0..50 {
        for other in &others {
            assert_eq!(maintain(other, &queues).await, 0);
        }
    }
    // Each queries the owner of the queue once, and renews its key. The script may have to be sent along.
    let count = sent(monitor).await;
    assert!(count <= 4 * 5, "{count}");
    let is_moved = async || maintain(&owner, &queues).await == 1;
    eventually("the owner makes the task pending", is_moved).await;
}

/// Work that is not yet needed for a queue without tasks can wait.
#[tokio::test]
async fn an_owner_of_many_idle_queues_sends_little() {
    let server = RedisServer::start().await;
    let broker = connect(&server.url()).await;
    let queues: Vec<Name> = (0..1_000).map(|n| format!("q-{n}").into()).collect();
    let _signals = broker.signals(&queues).await.expect("signals");
    // The first rounds take the queues.
    for _ in 0..2 {
        maintain(&broker, &queues).await;
    }
    let monitor = Monitor::start(&server).await;
    for _ in 0..20 {
        maintain(&broker, &queues).await;
    }
    let count = sent(monitor).await;
    // The renewed key, and some reads.
    assert!(count <= 100, "{count} in 20 rounds");
}

#[tokio::test]
async fn a_task_of_one_of_many_queues_is_forwarded_when_it_is_due() {
    let server = RedisServer::start().await;
    let broker = connect(&server.url()).await;
    let queues: Vec<Name> = (0..100).map(|n| format!("q-{n}").into()).collect();
    let mut signals = broker.signals(&queues).await.expect("signals");
    maintain(&broker, &queues).await;
    let envelope = task("q-42", "due");
    let when = When::After(Duration::from_millis(50));
    let accepted = broker.enqueue(vec![NewTask::new(envelope, when)]).await;
    assert_eq!(accepted.expect("sent"), [Ok(())]);
    let signal = next(&mut signals).await;
    let Some(Signal::Due(queue, due)) = signal else {
        panic!("{signal:?}");
    };
    assert_eq!(queue, "q-42");
    let forwarded = all_of(broker.forward(&queues, 10).await).expect("forwarded");
    if forwarded.iter().all(|forwarded| forwarded.moved == 0) {
        let next = forwarded.iter().filter_map(|forwarded| forwarded.next_due);
        assert_eq!(next.min(), Some(due));
        let is_moved = async || maintain(&broker, &queues).await == 1;
        eventually("the task is pending", is_moved).await;
    }
}

#[tokio::test]
async fn a_queue_whose_owner_closes_is_taken_over_immediately() {
    let server = RedisServer::start().await;
    let queues = ["q".into()];
    let (owner, other) = (connect(&server.url()).await, connect(&server.url()).await);
    maintain(&owner, &queues).await;
    let mut signals = other.signals(&queues).await.expect("signals");
    maintain(&other, &queues).await;
    let accepted = other.enqueue(vec![due("due")]).await.expect("sent");
    assert_eq!(accepted, [Ok(())]);
    assert!(matches!(next(&mut signals).await, Some(Signal::Due(..))));
    owner.close().await;
    assert!(matches!(next(&mut signals).await, Some(Signal::Due(..))));
    let is_moved = async || maintain(&other, &queues).await == 1;
    eventually("the other makes the task pending", is_moved).await;
    other.close().await;
    let mut connection = server.connection().await;
    let left: Vec<String> = connection.keys("*{alive}*").await.expect("keys");
    assert_eq!(left, [""; 0]);
    let owner: Option<String> = connection.get("aq:{q}:owner").await.expect("a response");
    assert_eq!(owner, None);
}

#[tokio::test]
async fn a_queue_whose_owner_dies_is_taken_over() {
    let server = RedisServer::start().await;
    let queues = ["q".into()];
    let (owner, other) = (connect(&server.url()).await, connect(&server.url()).await);
    maintain(&owner, &queues).await;
    maintain(&other, &queues).await;
    let accepted = other.enqueue(vec![due("due")]).await.expect("sent");
    assert_eq!(accepted, [Ok(())]);
    // As after five seconds without a sign of life.
    drop(owner);
    let mut connection = server.connection().await;
    let alive: Vec<String> = connection.keys("*{alive}*").await.expect("keys");
    assert_eq!(alive.len(), 2, "{alive:?}");
    let () = connection.del(&alive).await.expect("deleted");
    let is_moved = async || maintain(&other, &queues).await == 1;
    eventually("the other makes the task pending", is_moved).await;
}

/// While the queue had no owner, or Redis was away, no lease could be extended.
#[tokio::test]
async fn a_new_owner_reclaims_no_task_before_it_has_watched_its_lease() {
    let server = RedisServer::start().await;
    let clock = TestClock::default();
    let (owner, other) = (at(&server, &clock).await, at(&server, &clock).await);
    let queues = ["q".into()];
    maintain(&owner, &queues).await;
    send(&owner, [task("q", "a")]).await;
    assert_eq!(lease(&owner, "q", 1).await.len(), 1);
    owner.close().await;
    clock.advance(HOUR);
    let before = clock.now() - Duration::from_secs(1);
    let expired = async |by| {
        let expired = all_of(other.expired(&queues, by, 10).await);
        expired.expect("looked for").concat().len()
    };
    assert_eq!(expired(before).await, 0);
    assert_eq!(expired(clock.now()).await, 1);
}
