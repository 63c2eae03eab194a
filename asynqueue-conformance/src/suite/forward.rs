//! Making due tasks pending.

use std::time::Duration;

use asynqueue_core::{
    broker::{Forwarded, NewTask, Outcome, When, all_of},
    task::{Name, TaskState},
};

use super::{
    Harness,
    fixture::{Fixture, QUEUE, prioritised, secs, task, task_in, tasks},
};

async fn forward(f: &Fixture<'_>, limit: usize) -> Forwarded {
    let mut forwarded = all_of(f.broker.forward(&[QUEUE.into()], limit).await).unwrap();
    assert_eq!(forwarded.len(), 1, "one result per queue");
    forwarded.remove(0)
}

/// Not a millisecond early, but as soon as it is due.
pub async fn a_task_never_becomes_due_early(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    let due = f.broker.now() + secs(3_600);
    f.try_enqueue(vec![NewTask::new(task("a"), When::At(due))])
        .await;
    // One millisecond before, as near as the broker's clock can be set.
    let left = due.since(f.broker.now());
    f.advance(left.saturating_sub(Duration::from_millis(1)))
        .await;
    let moved = forward(&f, 10).await.moved;
    assert!(moved == 0 || f.broker.now() >= due, "forwarded early");
    f.advance(secs(2)).await;
    forward(&f, 10).await;
    assert_eq!(f.list(TaskState::Pending).await, ["a"]);
}

/// Not in the order they were enqueued.
pub async fn due_tasks_become_pending_by_due_time(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue_after(task("second"), secs(20)).await;
    f.enqueue_after(task("third"), secs(30)).await;
    f.enqueue_after(task("first"), secs(10)).await;
    f.enqueue_after(task("later"), secs(1_000)).await;
    f.advance(secs(60)).await;
    assert_eq!(forward(&f, 10).await.moved, 3);
    assert_eq!(
        f.list(TaskState::Pending).await,
        ["first", "second", "third"]
    );
    assert_eq!(f.list(TaskState::Scheduled).await, ["later"]);
}

/// A large backlog is moved in steps, of which none skips a task that is due at the same time as another.
pub async fn at_most_limit_tasks_are_forwarded(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    for name in ["a", "b", "c"] {
        f.enqueue_after(task(name), secs(10)).await;
    }
    f.advance(secs(20)).await;
    let forwarded = forward(&f, 2).await;
    assert_eq!(forwarded.moved, 2);
    assert!(
        forwarded.next_due.unwrap() <= f.broker.now(),
        "more are due"
    );
    assert_eq!(
        forward(&f, 2).await,
        Forwarded {
            moved: 1,
            next_due: None
        }
    );
    let mut pending = f.list(TaskState::Pending).await;
    pending.sort();
    assert_eq!(pending, ["a", "b", "c"]);
}

/// For scheduled tasks and for retries.
pub async fn the_next_due_time_is_reported(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    assert_eq!(
        forward(&f, 10).await,
        Forwarded {
            moved: 0,
            next_due: None
        }
    );
    f.enqueue_after(task("scheduled"), secs(100)).await;
    f.enqueue(tasks(["retried"])).await;
    let leased = f.lease_one().await;
    f.fail(&leased, Outcome::Retry { delay: secs(50) }).await;
    let due = f.info("retried").await.unwrap().at;
    assert_eq!(
        forward(&f, 10).await,
        Forwarded {
            moved: 0,
            next_due: due
        }
    );
    f.advance(secs(60)).await;
    let due = f.info("scheduled").await.unwrap().at;
    assert_eq!(
        forward(&f, 10).await,
        Forwarded {
            moved: 1,
            next_due: due
        }
    );
}

/// Scheduled or retried, it goes before lower priorities.
pub async fn a_forwarded_task_keeps_its_priority(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue_after(prioritised("urgent", 5), secs(10)).await;
    f.advance(secs(20)).await;
    f.enqueue(tasks(["plain"])).await;
    forward(&f, 10).await;
    assert_eq!(f.list(TaskState::Pending).await, ["urgent", "plain"]);
}

/// They wait there until the queue is resumed.
pub async fn due_tasks_of_a_paused_queue_become_pending(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.broker.set_paused(&[QUEUE.into()], true).await.unwrap();
    f.enqueue_after(task("a"), secs(10)).await;
    f.advance(secs(20)).await;
    assert_eq!(forward(&f, 10).await.moved, 1);
    assert_eq!(f.list(TaskState::Pending).await, ["a"]);
}

/// Each queue has its own limit and next due time.
pub async fn due_tasks_of_the_requested_queues_are_forwarded(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    for (queue, delay) in [
        ("a", 10),
        ("a", 11),
        ("a", 500),
        ("b", 12),
        ("b", 13),
        ("b", 400),
    ] {
        let name = format!("task-{delay}");
        f.enqueue_after(task_in(queue, &name), secs(delay)).await;
    }
    f.advance(secs(20)).await;
    let queues = ["a", "b", "unknown"].map(Name::from);
    let moved = async |queues, limit| {
        let forwarded = all_of(f.broker.forward(queues, limit).await).unwrap();
        forwarded.iter().map(|of| of.moved).collect::<Vec<_>>()
    };
    assert_eq!(moved(&queues, 1).await, [1, 1, 0]);
    assert_eq!(
        moved(&queues[1..2], 10).await,
        [1],
        "tasks of other queues stay"
    );
    assert_eq!(moved(&queues, 10).await, [1, 0, 0]);
    let forwarded = all_of(f.broker.forward(&queues, 10).await).unwrap();
    let due = |of: usize| forwarded[of].next_due.expect("a due time");
    assert!(due(1) > f.broker.now(), "in the future");
    assert!(due(0) > due(1), "each queue has its own");
    assert_eq!(forwarded[2], Forwarded::default());
}

/// Its attempts are not reset.
pub async fn a_forwarded_retry_keeps_its_history(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue(tasks(["a"])).await;
    let leased = f.lease_one().await;
    f.fail(&leased, Outcome::Retry { delay: secs(10) }).await;
    f.advance(secs(20)).await;
    forward(&f, 10).await;
    let again = f.lease_one().await.envelope;
    assert_eq!((again.attempts, again.failures().len()), (1, 1));
}

/// Even if there are more of one kind than the limit.
pub async fn scheduled_tasks_and_retries_are_forwarded_by_due_time(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue(tasks(["retry"])).await;
    let leased = f.lease_one().await;
    f.fail(&leased, Outcome::Retry { delay: secs(20) }).await;
    f.enqueue_after(task("before"), secs(10)).await;
    f.enqueue_after(task("after"), secs(30)).await;
    f.advance(secs(60)).await;
    forward(&f, 2).await;
    assert_eq!(f.list(TaskState::Pending).await, ["before", "retry"]);
    forward(&f, 2).await;
    assert_eq!(
        f.list(TaskState::Pending).await,
        ["before", "retry", "after"]
    );
}
