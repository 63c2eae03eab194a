//! Deleting, running now, pausing, closing.

use std::future::Future;

use super::{
    Harness,
    fixture::{Fixture, LEASE, QUEUE, complete, ids, retained, secs, task, task_ref, tasks},
};
use crate::{
    broker::{BrokerError, Keep, LeaseRequest, Outcome, Page},
    process::Progress,
    task::TaskState,
};

/// A worker must not lose its task from under it.
pub async fn a_deleted_task_is_gone_unless_it_is_active(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue([
        task("active"),
        retained("completed", secs(60)),
        task("archived"),
        task("pending"),
    ])
    .await;
    let leased = f.lease(3).await;
    f.settle(&leased[1], complete()).await;
    f.fail(&leased[2], Outcome::Archive).await;
    f.enqueue_after(task("scheduled"), secs(60)).await;
    let names = [
        "active",
        "completed",
        "archived",
        "pending",
        "scheduled",
        "unknown",
    ];
    let deleted = f.broker.delete(&names.map(task_ref)).await.unwrap();
    assert_eq!(deleted, [false, true, true, true, true, true]);
    f.assert_counts(&[(TaskState::Active, 1)]).await;
    f.enqueue(tasks(["completed", "archived", "pending", "scheduled"]))
        .await;
}

/// What is active or completed is not run again.
pub async fn waiting_and_archived_tasks_run_now(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue([
        task("active"),
        retained("completed", secs(60)),
        task("archived"),
        task("retry"),
    ])
    .await;
    let leased = f.lease(4).await;
    f.settle(&leased[1], complete()).await;
    f.fail(&leased[2], Outcome::Archive).await;
    f.fail(&leased[3], Outcome::Retry { delay: secs(60) }).await;
    f.enqueue_after(task("scheduled"), secs(60)).await;
    f.enqueue(tasks(["pending"])).await;
    let names = [
        "archived",
        "scheduled",
        "retry",
        "pending",
        "active",
        "completed",
        "unknown",
    ];
    let running = f.broker.run_now(&names.map(task_ref)).await.unwrap();
    assert_eq!(running, [true, true, true, true, false, false, false]);
    let leased = f.lease(9).await;
    assert_eq!(ids(&leased), ["pending", "archived", "scheduled", "retry"]);
    assert_eq!(leased[1].envelope.attempts, 1, "its history stays");
}

/// And forgotten with the lease.
pub async fn progress_is_seen_while_the_task_is_active(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue(tasks(["a", "b"])).await;
    let leased = f.lease_one().await;
    let progress = |done| Progress {
        done,
        total: 10,
        note: "copying".into(),
    };
    f.broker
        .report(vec![
            (task_ref("a"), progress(1)),
            (task_ref("a"), progress(2)),
        ])
        .await
        .unwrap();
    f.broker
        .report(vec![
            (task_ref("b"), progress(3)),
            (task_ref("unknown"), progress(4)),
        ])
        .await
        .unwrap();
    assert_eq!(f.info("a").await.unwrap().progress, Some(progress(2)));
    assert_eq!(f.info("b").await.unwrap().progress, None);
    f.settle(&leased, Outcome::Release).await;
    assert_eq!(f.info("a").await.unwrap().progress, None);
}

/// They wait.
pub async fn a_paused_queue_still_accepts_tasks(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.broker.set_paused(&[QUEUE.into()], true).await.unwrap();
    f.enqueue(tasks(["a"])).await;
    f.assert_counts(&[(TaskState::Pending, 1)]).await;
}

/// Each call of each trait.
pub async fn a_closed_broker_refuses_everything(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue(tasks(["a", "b"])).await;
    let leased = f.lease_one().await;
    f.broker.close().await;

    let (queues, refs, broker) = ([QUEUE.into()], [task_ref("a")], &f.broker);
    let request = LeaseRequest {
        queues: vec![(QUEUE.into(), 1)],
        max: 1,
        lease: LEASE,
        worker: "w".into(),
    };
    refused(broker.enqueue(vec![super::fixture::now(task("c"))])).await;
    refused(broker.lease(&request)).await;
    refused(broker.extend(&[leased.lease()], LEASE)).await;
    refused(broker.settle(&[leased.settle(complete())])).await;
    refused(broker.forward(&queues, 1)).await;
    refused(broker.expired(&queues, 1)).await;
    refused(broker.trim(&queues, Keep::default(), 1)).await;
    refused(broker.signals(&queues)).await;
    refused(broker.cancel(&refs, "no")).await;
    refused(broker.finished(&refs[0])).await;
    refused(broker.report(Vec::new())).await;
    refused(broker.set_paused(&queues, true)).await;
    refused(broker.delete(&refs)).await;
    refused(broker.run_now(&refs)).await;
    refused(broker.ping()).await;
    refused(broker.queues()).await;
    refused(broker.stats(&queues)).await;
    refused(broker.tasks(&refs)).await;
    refused(broker.list(&queues[0], TaskState::Pending, Page::default())).await;
    refused(broker.put_schedules(Vec::new())).await;
    refused(broker.remove_schedules(&queues)).await;
    refused(broker.schedules()).await;
    refused(broker.fire(Vec::new())).await;
}

async fn refused<T>(call: impl Future<Output = Result<T, BrokerError>>) {
    assert!(matches!(call.await, Err(BrokerError::Closed)));
}

/// While it is open.
pub async fn a_broker_answers_a_ping(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.broker.ping().await.unwrap();
}
