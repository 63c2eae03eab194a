//! Missing keys, as after an eviction or from a backup: found, repaired and counted.

use std::time::Duration;

use asynqueue_core::{
    broker::{Broker, Inspect, Keep, Outcome, Page, all_of},
    task::{FailureKind, TaskState, UniqueKey, UniqueLock, UniqueUntil},
};
use asynqueue_redis::RedisBroker;
use asynqueue_test_servers::RedisServer;
use redis::cmd;

use super::common::{connect, lease, send, task};

/// Ten pending tasks, two active, three failed.
async fn fill(broker: &RedisBroker) {
    send(broker, (0..15).map(|n| task("q", &format!("task-{n:02}")))).await;
    for leased in lease(broker, "q", 5).await.into_iter().skip(2) {
        all_of(broker.settle(&[leased.settle(Outcome::Archive)]).await).expect("settled");
    }
}

async fn without(part: &str) -> (RedisServer, RedisBroker) {
    let server = RedisServer::start().await;
    let broker = connect(&server.url()).await;
    fill(&broker).await;
    let mut connection = server.connection().await;
    let mut unlink = cmd("UNLINK");
    let gone: i64 = unlink
        .arg(format!("aq:{{q}}:{part}"))
        .query_async(&mut connection)
        .await
        .expect("gone");
    assert_eq!(gone, 1);
    (server, broker)
}

/// What servers do every ten seconds.
async fn trim(broker: &RedisBroker) {
    all_of(broker.trim(&["q".into()], Keep::default(), 1_000).await).expect("trimmed");
}

async fn counts(broker: &RedisBroker) -> (Vec<(TaskState, u64)>, u64) {
    let stats = broker.stats(&["q".into()]).await.expect("stats").remove(0);
    (stats.counts.into_iter().collect(), stats.repaired)
}

#[tokio::test]
async fn tasks_in_no_state_are_archived_with_the_reason() {
    for (part, lost) in [("pending", 10), ("active", 2), ("archived", 3)] {
        let (_server, broker) = without(part).await;
        trim(&broker).await;
        let (counts, repaired) = counts(&broker).await;
        let archived = if part == "archived" { 3 } else { 3 + lost };
        assert!(
            counts.contains(&(TaskState::Archived, archived)),
            "{part}: {counts:?}"
        );
        assert_eq!(repaired, lost, "{part}");
        let page = broker
            .list(&"q".into(), TaskState::Archived, Page::default())
            .await
            .expect("a page");
        let of_repair = page.tasks.iter().filter(|task| {
            let failure = task.envelope.last_failure();
            failure.is_some_and(|failure| {
                failure.kind == FailureKind::Other
                    && failure
                        .message
                        .contains("the task was in no state: Redis lost its entry")
            })
        });
        assert_eq!(of_repair.count() as u64, lost, "{part}");
    }
}

#[tokio::test]
async fn entries_without_tasks_are_removed() {
    let (_server, broker) = without("tasks").await;
    trim(&broker).await;
    assert_eq!(counts(&broker).await, (vec![], 15));
    send(&broker, [task("q", "task-01")]).await;
    assert_eq!(lease(&broker, "q", 5).await.len(), 1);
}

#[tokio::test]
async fn single_missing_tasks_are_skipped_and_counted() {
    let server = RedisServer::start().await;
    let broker = connect(&server.url()).await;
    fill(&broker).await;
    let mut connection = server.connection().await;
    let mut delete = cmd("HDEL");
    // One that runs, one that failed, two that wait.
    delete
        .arg("aq:{q}:tasks")
        .arg(&["task-00", "task-02", "task-06", "task-07"]);
    let _: i64 = delete.query_async(&mut connection).await.expect("deleted");
    trim(&broker).await;
    use TaskState::{Active, Archived, Pending};
    let left = vec![(Pending, 8), (Active, 1), (Archived, 2)];
    assert_eq!(counts(&broker).await, (left, 4));
    // The same id again is a new task, and waits its turn.
    send(&broker, [task("q", "task-06")]).await;
    let ids: Vec<_> = lease(&broker, "q", 20)
        .await
        .iter()
        .map(|leased| leased.envelope.id.to_string())
        .collect();
    let expected =
        ["05", "08", "09", "10", "11", "12", "13", "14", "06"].map(|n| format!("task-{n}"));
    assert_eq!(ids, expected);
    trim(&broker).await;
    assert_eq!(counts(&broker).await.1, 4, "counted once");
}

/// Also without upkeep: leasing skips them.
#[tokio::test]
async fn a_worker_skips_missing_tasks() {
    let (_server, broker) = without("tasks").await;
    assert!(lease(&broker, "q", 20).await.is_empty());
    send(&broker, [task("q", "new")]).await;
    assert_eq!(lease(&broker, "q", 20).await.len(), 1);
}

#[tokio::test]
async fn locks_of_missing_tasks_are_released() {
    let server = RedisServer::start().await;
    let broker = connect(&server.url()).await;
    let unique = |id: &str, until| {
        let mut task = task("q", id);
        let ttl = Duration::from_secs(3_600);
        task.unique = Some(Box::new(UniqueLock::new(
            UniqueKey::new(format!("{until:?}")),
            until,
            ttl,
        )));
        task
    };
    send(
        &broker,
        [
            unique("a", UniqueUntil::Success),
            unique("b", UniqueUntil::Window),
        ],
    )
    .await;
    let mut connection = server.connection().await;
    let mut unlink = cmd("UNLINK");
    let _: i64 = unlink
        .arg(&["aq:{q}:tasks", "aq:{q}:pending"])
        .query_async(&mut connection)
        .await
        .expect("gone");
    trim(&broker).await;
    assert_eq!(counts(&broker).await, (vec![], 1));
    send(&broker, [unique("c", UniqueUntil::Success)]).await;
    let again = vec![super::common::now(unique("d", UniqueUntil::Window))];
    assert!(
        broker.enqueue(again).await.expect("sent")[0].is_err(),
        "a window is held whatever the outcome of its task"
    );
}

/// Only this task is affected: the others run.
#[tokio::test]
async fn an_unreadable_task_is_released_unchanged_and_delays_no_other() {
    let server = RedisServer::start().await;
    let broker = connect(&server.url()).await;
    send(&broker, ["a", "b", "c"].map(|id| task("q", id))).await;
    let mut connection = server.connection().await;
    let mut overwrite = cmd("HSET");
    let _: i64 = overwrite
        .arg(&["aq:{q}:tasks", "b", "garbled"])
        .query_async(&mut connection)
        .await
        .expect("set");
    let leased = lease(&broker, "q", 5).await;
    let ids: Vec<_> = leased
        .iter()
        .map(|leased| leased.envelope.id.as_str())
        .collect();
    assert_eq!(ids, ["a", "c"]);
    let page = broker
        .list(&"q".into(), TaskState::Scheduled, Page::default())
        .await
        .expect("a page");
    // Another build may be able to read it.
    let codec = page.tasks[0].envelope.codec.as_str();
    assert_eq!((page.tasks.len(), codec), (1, "unreadable"));
    assert_eq!(page.tasks[0].envelope.payload, "garbled");
}
