//! Errors in the middle of a change: a key has another type until it is deleted, and every task still completes once.

use asynqueue_core::{
    broker::{Broker, BrokerError, Control, Inspect, Leased, Outcome, Settled, When, all_of},
    task::TaskState,
};
use asynqueue_redis::RedisBroker;
use asynqueue_test_servers::RedisServer;
use redis::{AsyncCommands, aio::MultiplexedConnection};

use crate::common::{connect, lease, now, send, task};

/// Runs something while a key has the wrong type.
async fn while_wrong<T>(
    admin: &MultiplexedConnection,
    part: &str,
    does: impl Future<Output = Result<T, BrokerError>>,
) -> Result<T, BrokerError> {
    let mut admin = admin.clone();
    let key = format!("aq:{{q}}:{part}");
    let kept = format!("aq:{{q}}:kept:{part}");
    let _: Result<(), _> = admin.rename(&key, &kept).await;
    let () = admin.set(&key, "x").await.expect("set");
    let done = does.await;
    let () = admin.del(&key).await.expect("deleted");
    let _: Result<(), _> = admin.rename(&kept, &key).await;
    done
}

fn is_temporary<T: std::fmt::Debug>(answer: &Result<T, BrokerError>) -> bool {
    answer.as_ref().is_err_and(BrokerError::is_temporary)
}

async fn count(broker: &RedisBroker, state: TaskState) -> u64 {
    let stats = broker.stats(&["q".into()]).await.expect("a response");
    assert_eq!(stats[0].repaired, 0);
    stats[0].count(state)
}

fn ids(leased: &[Leased]) -> Vec<String> {
    let ids = leased.iter().map(|leased| leased.envelope.id.to_string());
    ids.collect()
}

#[tokio::test]
async fn a_lease_call_that_fails_halfway_leaves_all_tasks_in_place() {
    let server = RedisServer::start().await;
    let admin = server.connection().await;
    for part in ["active", "tasks", "since", "workers", "gone", "urgent"] {
        let broker = connect(&server.url()).await;
        let mut urgent = task("q", "urgent");
        std::sync::Arc::make_mut(&mut urgent.options).priority = 5;
        let plain = (0..20).map(|n| task("q", &format!("{n:02}")));
        send(&broker, plain.chain([urgent])).await;
        for _ in 0..2 {
            let leasing = async {
                let request = asynqueue_core::broker::LeaseRequest::new(
                    vec![("q".into(), 30)],
                    30,
                    std::time::Duration::from_secs(30),
                    format!("worker-{part}").into(),
                );
                all_of(broker.lease(&request).await)
            };
            let leased = while_wrong(&admin, part, leasing).await;
            assert!(
                is_temporary(&leased) || part == "gone",
                "{part}: {leased:?}"
            );
            if let Ok(leased) = leased {
                let release = |leased: Leased| leased.settle(Outcome::Release);
                let released: Vec<_> = leased.concat().into_iter().rev().map(release).collect();
                all_of(broker.settle(&released).await).expect("released");
            }
        }
        let mut expected = vec!["urgent".to_owned()];
        expected.extend((0..20).map(|n| format!("{n:02}")));
        let leased = lease(&broker, "q", 30).await;
        assert_eq!(ids(&leased), expected, "{part}");
        let complete = |leased: Leased| leased.settle(Outcome::Complete { result: None });
        let complete: Vec<_> = leased.into_iter().map(complete).collect();
        all_of(broker.settle(&complete).await).expect("settled");
        assert_eq!(count(&broker, TaskState::Archived).await, 0, "{part}");
    }
}

#[tokio::test]
async fn a_half_recorded_outcome_is_recorded_as_soon_as_possible() {
    let server = RedisServer::start().await;
    let admin = server.connection().await;
    let parts = [
        "active",
        "tasks",
        "completed",
        "results",
        "stats",
        "hours",
        "lanes",
        "scheduled",
    ];
    for (round, part) in parts.into_iter().enumerate() {
        let broker = connect(&server.url()).await;
        let tasks = ["kept", "again"].map(|id| {
            let mut task = task("q", &format!("{id}-{part}"));
            std::sync::Arc::make_mut(&mut task.options).retention =
                std::time::Duration::from_secs(3600);
            task
        });
        send(&broker, tasks).await;
        let outcome = |leased: Leased| {
            let is_kept = leased.envelope.id.as_str().starts_with("kept");
            leased.settle(if is_kept {
                let result = Some(b"result".to_vec().into());
                Outcome::Complete { result }
            } else {
                let delay = std::time::Duration::from_secs(3600);
                Outcome::Snooze { delay }
            })
        };
        let outcomes: Vec<_> = lease(&broker, "q", 2)
            .await
            .into_iter()
            .map(outcome)
            .collect();
        assert_eq!(outcomes.len(), 2, "{part}");
        for _ in 0..2 {
            let settling = async { all_of(broker.settle(&outcomes).await) };
            let settled = while_wrong(&admin, part, settling).await;
            assert!(is_temporary(&settled), "{part}: {settled:?}");
        }
        let settled = all_of(broker.settle(&outcomes).await).expect("settled");
        assert_eq!(settled, [Settled::Recorded; 2], "{part}");
        let done = round as u64 + 1;
        assert_eq!(count(&broker, TaskState::Completed).await, done, "{part}");
        assert_eq!(count(&broker, TaskState::Scheduled).await, done, "{part}");
        assert_eq!(count(&broker, TaskState::Active).await, 0, "{part}");
        let stats = broker.stats(&["q".into()]).await.expect("a response");
        assert_eq!(stats[0].succeeded, done, "{part}");
    }
}

#[tokio::test]
async fn a_task_that_is_refused_halfway_does_not_exist() {
    let server = RedisServer::start().await;
    let admin = server.connection().await;
    for part in ["pending", "urgent", "scheduled", "priorities", "tasks"] {
        let broker = connect(&server.url()).await;
        let mut tasks = vec![now(task("q", "plain")), now(task("q", "later"))];
        tasks[1].when = When::After(std::time::Duration::from_secs(3600));
        let mut urgent = task("q", "urgent");
        std::sync::Arc::make_mut(&mut urgent.options).priority = 5;
        tasks.push(now(urgent));
        let sent = while_wrong(&admin, part, broker.enqueue(tasks.clone())).await;
        assert!(is_temporary(&sent), "{part}: {sent:?}");
        let all = |stats: &[asynqueue_core::broker::QueueStats]| stats[0].total();
        let stats = broker.stats(&["q".into()]).await.expect("a response");
        assert_eq!(all(&stats), 0, "{part}: {stats:?}");
        let sent = broker.enqueue(tasks).await.expect("sent");
        assert_eq!(sent, [Ok(()), Ok(()), Ok(())], "{part}");
        let deleted = broker.delete_queue(&"q".into(), true).await;
        assert!(deleted.expect("deleted"));
    }
    // Waking servers is only an optimisation, and not part of the change.
    let broker = connect(&server.url()).await;
    for part in ["idle", "owner"] {
        let tasks = vec![now(task("q", part))];
        let sent = while_wrong(&admin, part, broker.enqueue(tasks)).await;
        assert_eq!(sent.expect("sent"), [Ok(())], "{part}");
    }
    assert_eq!(count(&broker, TaskState::Pending).await, 2);
}
