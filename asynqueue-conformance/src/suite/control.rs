//! Deleting, running now, pausing and closing.

use std::future::Future;

use asynqueue_core::{
    broker::{BrokerError, Keep, LeaseRequest, Leased, Outcome, Page, all_of},
    process::Progress,
    task::{TaskState, Timestamp},
};

use super::{
    Harness,
    fixture::{
        Fixture, LEASE, QUEUE, STATES, complete, ids, other_token, prioritised, retained, secs,
        task, task_ref, tasks,
    },
};

/// A worker must not lose its task while it runs.
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

/// Active and completed tasks are not run again.
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

/// They are as far in the future as when the task was enqueued. Otherwise no worker would start it.
pub async fn the_times_of_an_expired_task_are_renewed_when_it_is_to_run(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    let states = ["pending", "scheduled", "retry", "archived"];
    let late = |kind: &str, state: &str| {
        let mut task = task(&format!("{kind}-{state}"));
        task.enqueued_at = f.broker.now();
        let time = Some(task.enqueued_at + secs(100));
        match kind {
            "deadline" => task.deadline = time,
            _ => task.set_expires_at(time),
        }
        task
    };
    for kind in ["deadline", "expiry"] {
        f.enqueue([late(kind, "archived"), late(kind, "retry")])
            .await;
        // Archived, as a server does with a task that has expired before its start.
        let leased = f.lease(2).await;
        f.settle(&leased[0], Outcome::Archive).await;
        f.settle(&leased[1], Outcome::Retry { delay: secs(900) })
            .await;
        f.enqueue_after(late(kind, "scheduled"), secs(900)).await;
        f.enqueue([late(kind, "pending")]).await;
        f.broker.set_paused(&[QUEUE.into()], true).await.unwrap();
        f.advance(secs(200)).await;
        let tasks = states.map(|state| task_ref(&format!("{kind}-{state}")));
        assert_eq!(f.broker.run_now(&tasks).await.unwrap(), [true; 4]);
        let time = Some(f.broker.now() + secs(100));
        f.broker.set_paused(&[QUEUE.into()], false).await.unwrap();
        let leased = f.lease(9).await;
        assert_eq!(leased.len(), 4);
        for leased in leased {
            let task = &leased.envelope;
            let renewed = match kind {
                "deadline" => task.deadline,
                _ => task.expires_at(),
            };
            assert_eq!(
                (renewed, task.enqueued_at),
                (time, f.broker.now()),
                "{}",
                task.id
            );
            f.settle(&leased, complete()).await;
        }
    }
}

/// There is enough time.
pub async fn the_times_of_a_task_that_has_not_expired_stay(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    let mut in_time = task("in-time");
    in_time.enqueued_at = f.broker.now();
    in_time.deadline = Some(in_time.enqueued_at + secs(100));
    // It was started before that.
    let mut started = task("started");
    started.attempts = 1;
    started.set_expires_at(Some(in_time.enqueued_at + secs(1)));
    for task in [&in_time, &started] {
        f.enqueue_after(task.clone(), secs(900)).await;
    }
    f.advance(secs(50)).await;
    let tasks = ["in-time", "started"].map(task_ref);
    assert_eq!(f.broker.run_now(&tasks).await.unwrap(), [true, true]);
    let leased = f.lease(9).await;
    assert_eq!(*leased[0].envelope, in_time);
    assert_eq!(*leased[1].envelope, started);
}

/// It is forgotten with the lease, and only its worker can report it.
pub async fn progress_is_visible_while_the_task_is_active(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue(tasks(["a"])).await;
    let leased = f.lease_one().await;
    let progress = |done| Progress::new(done, 10, "copying");
    let report = async |lease: &Leased, done| {
        let reported = vec![(lease.lease(), progress(done))];
        f.broker.report(reported).await.unwrap();
        f.info("a").await.unwrap().progress
    };
    f.broker
        .report(vec![
            (leased.lease(), progress(1)),
            (leased.lease(), progress(2)),
        ])
        .await
        .unwrap();
    assert_eq!(f.info("a").await.unwrap().progress, Some(progress(2)));
    assert_eq!(report(&other_token(&leased), 3).await, Some(progress(2)));
    f.settle(&leased, Outcome::Release).await;
    assert_eq!(f.info("a").await.unwrap().progress, None);
    assert_eq!(report(&leased, 4).await, None);
    f.lease_one().await;
    assert_eq!(report(&leased, 5).await, None);
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
    let request = LeaseRequest::new(vec![(QUEUE.into(), 1)], 1, LEASE, "w".into());
    refused(broker.enqueue(vec![super::fixture::now(task("c"))])).await;
    refused(broker.lease(&request)).await;
    refused(broker.extend(&[leased.lease()], LEASE)).await;
    refused(broker.settle(&[leased.settle(complete())])).await;
    refused(broker.forward(&queues, 1)).await;
    refused(broker.expired(&queues, Timestamp::MAX, 1)).await;
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
    refused(broker.swap_schedules(Vec::new())).await;
    refused(broker.remove_schedules(&queues)).await;
    refused(broker.schedule(&queues[0])).await;
    refused(broker.schedules()).await;
    refused(broker.fire(Vec::new())).await;
    refused(broker.servers()).await;
    refused(broker.request_quiet(&queues[0], true)).await;
}

async fn refused<T>(call: impl Future<Output = Result<T, BrokerError>>) {
    assert!(matches!(call.await, Err(BrokerError::Closed)));
}

/// While it is open.
pub async fn a_broker_responds_to_a_ping(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.broker.ping().await.unwrap();
}

/// Also from the middle of the queue.
pub async fn a_deleted_pending_task_is_not_leased(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue([task("a"), task("b"), prioritised("c", 1), task("d")])
        .await;
    f.broker.delete(&["b", "c"].map(task_ref)).await.unwrap();
    f.assert_counts(&[(TaskState::Pending, 2)]).await;
    assert_eq!(ids(&f.lease(9).await), ["a", "d"]);
}

/// It goes before lower priorities, but not before its own.
pub async fn a_task_that_is_run_now_keeps_its_priority(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue_after(prioritised("a", 5), secs(60)).await;
    f.enqueue([task("plain"), prioritised("b", 5)]).await;
    f.broker.run_now(&[task_ref("a")]).await.unwrap();
    assert_eq!(f.list(TaskState::Pending).await, ["b", "a", "plain"]);
}

/// A batch may be empty without an error.
pub async fn an_empty_request_has_an_empty_result(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    let broker = &f.broker;
    assert!(f.lease_from(&[], 5).await.is_empty());
    assert!(all_of(broker.extend(&[], LEASE).await).unwrap().is_empty());
    assert!(all_of(broker.settle(&[]).await).unwrap().is_empty());
    assert!(all_of(broker.forward(&[], 5).await).unwrap().is_empty());
    assert!(
        all_of(broker.expired(&[], Timestamp::MAX, 5).await)
            .unwrap()
            .concat()
            .is_empty()
    );
    let trimmed = all_of(broker.trim(&[], Keep::default(), 5).await).unwrap();
    assert!(trimmed.is_empty());
    assert!(broker.cancel(&[], "nothing").await.unwrap().is_empty());
    broker.report(Vec::new()).await.unwrap();
    broker.set_paused(&[], true).await.unwrap();
    assert!(broker.delete(&[]).await.unwrap().is_empty());
    assert!(broker.run_now(&[]).await.unwrap().is_empty());
    assert!(broker.stats(&[]).await.unwrap().is_empty());
    assert!(broker.tasks(&[]).await.unwrap().is_empty());
    broker.put_schedules(Vec::new()).await.unwrap();
    assert!(broker.swap_schedules(Vec::new()).await.unwrap().is_empty());
    assert!(broker.remove_schedules(&[]).await.unwrap().is_empty());
    assert!(broker.schedules().await.unwrap().is_empty());
    assert!(broker.fire(Vec::new()).await.unwrap().is_empty());
    drop(broker.signals(&[]).await.unwrap());
}

/// It changes nothing either.
pub async fn a_limit_of_zero_takes_nothing(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.fill().await;
    let (queues, none) = ([QUEUE.into()], Keep::new(secs(0), 0));
    f.advance(secs(20_000)).await;
    assert!(f.lease(0).await.is_empty());
    assert!(f.lease_from(&[(QUEUE, 0)], 9).await.is_empty());
    assert_eq!(
        all_of(f.broker.forward(&queues, 0).await).unwrap()[0].moved,
        0
    );
    assert!(
        all_of(f.broker.expired(&queues, Timestamp::MAX, 0).await)
            .unwrap()
            .concat()
            .is_empty()
    );
    assert_eq!(f.trim(none, 0).await.deleted(), 0);
    f.assert_counts(&STATES.map(|state| (state, 1))).await;
}

/// As if each were sent separately.
pub async fn the_same_task_twice_in_a_batch_has_two_results(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.fill().await;
    let twice = |name| [task_ref(name), task_ref(name)];
    let found = f.broker.tasks(&twice("pending")).await.unwrap();
    assert!(found.len() == 2 && found[0] == found[1]);
    for name in ["retry", "archived", "scheduled"] {
        let run = f.broker.run_now(&twice(name)).await.unwrap();
        assert_eq!(run, [true, true], "{name}");
    }
    f.assert_counts(&[
        (TaskState::Pending, 4),
        (TaskState::Active, 1),
        (TaskState::Completed, 1),
    ])
    .await;
    for name in ["pending", "completed"] {
        let deleted = f.broker.delete(&twice(name)).await.unwrap();
        assert_eq!(deleted, [true, true], "{name}");
    }
    assert_eq!(ids(&f.lease(9).await), ["retry", "archived", "scheduled"]);
}

/// It means everything.
pub async fn the_largest_limit_takes_everything(harness: &dyn Harness) {
    const ALL: usize = usize::MAX;
    let f = Fixture::new(harness).await;
    f.fill().await;
    let queues = [QUEUE.into()];
    f.advance(secs(20_000)).await;
    let keep = Keep::default().archived_max(ALL);
    assert_eq!(
        all_of(f.broker.expired(&queues, Timestamp::MAX, ALL).await)
            .unwrap()
            .concat()
            .len(),
        1
    );
    assert_eq!(
        all_of(f.broker.forward(&queues, ALL).await).unwrap()[0].moved,
        2
    );
    assert_eq!(f.trim(keep, ALL).await.deleted(), 1);
    let page = Page::first(ALL);
    let listed = f.broker.list(&queues[0], TaskState::Pending, page).await;
    assert_eq!(listed.unwrap().tasks.len(), 3);
    assert_eq!(f.lease(ALL).await.len(), 3);
    f.assert_counts(&[(TaskState::Active, 4), (TaskState::Archived, 1)])
        .await;
}
