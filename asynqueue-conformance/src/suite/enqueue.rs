//! Accepting tasks.

use std::time::Duration;

use asynqueue_core::{
    broker::{BrokerError, Conflict, Durability, NewTask, Outcome, Settled, When, all_of},
    task::{Backoff, Headers, TaskRef, TaskState, UniqueUntil},
};

use super::{
    Harness,
    fixture::{
        Fixture, STATES, id, now, prioritised, secs, task, task_in, task_ref, tasks, unique, with,
    },
};

/// Accepted tasks wait for a worker in the order of their arrival.
pub async fn accepted_tasks_are_pending_in_order(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue(tasks(["a", "b"])).await;
    f.enqueue(tasks(["c"])).await;
    assert_eq!(f.list(TaskState::Pending).await, ["a", "b", "c"]);
    f.assert_counts(&[(TaskState::Pending, 3)]).await;
}

/// The conflict names the task with the id and its state. That task does not change.
pub async fn a_duplicate_id_is_refused_with_the_state_of_its_task(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.fill().await;
    for state in STATES {
        let name = state.as_str();
        let before = f.info(name).await;
        let conflict = Conflict::Id {
            task: task_ref(name),
            state,
        };
        let second = prioritised(name, 9);
        assert_eq!(f.try_enqueue(vec![now(second)]).await, [Err(conflict)]);
        assert_eq!(f.info(name).await, before);
    }
    f.assert_counts(&STATES.map(|state| (state, 1))).await;
}

/// Within one batch, the first task gets the id.
pub async fn the_same_id_twice_in_a_batch_is_accepted_once(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    let batch = [prioritised("a", 3), task("a"), task("b")];
    let conflict = Conflict::Id {
        task: task_ref("a"),
        state: TaskState::Pending,
    };
    assert_eq!(
        f.try_enqueue(batch.map(now).into()).await,
        [Ok(()), Err(conflict), Ok(())]
    );
    assert_eq!(f.list(TaskState::Pending).await, ["a", "b"]);
    assert_eq!(f.info("a").await.unwrap().envelope.options.priority, 3);
}

/// Ids are unique within a queue.
pub async fn the_same_id_may_be_used_in_two_queues(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    let mut other = task("a");
    other.queue = "other".into();
    f.enqueue([task("a"), other]).await;
    let leased = f.lease_from(&[("q", 5), ("other", 5)], 10).await;
    let places: Vec<TaskRef> = leased
        .iter()
        .map(|leased| leased.envelope.task_ref())
        .collect();
    assert_eq!(
        places,
        [
            task_ref("a"),
            TaskRef::new("other", super::fixture::id("a"))
        ]
    );
}

/// Each task of a batch has its own result.
pub async fn a_refused_task_does_not_prevent_the_others(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue([task("b"), unique("holder", UniqueUntil::Success, secs(60))])
        .await;
    let batch = [
        task("a"),
        task("b"),
        unique("c", UniqueUntil::Success, secs(60)),
        task("d"),
    ];
    let answers = f.try_enqueue(batch.map(now).into()).await;
    assert_eq!(
        answers.iter().map(Result::is_ok).collect::<Vec<_>>(),
        [true, false, false, true]
    );
    assert_eq!(f.list(TaskState::Pending).await, ["b", "holder", "a", "d"]);
}

/// An empty batch is not an error.
pub async fn an_empty_batch_is_accepted(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    assert_eq!(f.try_enqueue(Vec::new()).await, []);
}

/// Even if a broker splits it.
pub async fn a_batch_larger_than_a_chunk_is_accepted_completely(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    let batch: Vec<_> = (0..2_345).map(|n| task(&format!("task-{n:04}"))).collect();
    let names: Vec<_> = batch.iter().map(|task| task.id.to_string()).collect();
    f.enqueue(batch).await;
    assert_eq!(f.list(TaskState::Pending).await, names);
    assert_eq!(f.lease(10_000).await.len(), names.len());
}

/// The producer's clock does not matter.
pub async fn a_delayed_task_is_scheduled_by_the_brokers_clock(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue_after(task("a"), Duration::from_millis(1_500))
        .await;
    let before = f.broker.now();
    let due = f.info("a").await.unwrap().at.unwrap();
    let delay = due.since(before);
    assert!(
        delay <= Duration::from_millis(1_500) && delay > Duration::from_millis(500),
        "{delay:?}"
    );
    f.assert_counts(&[(TaskState::Scheduled, 1)]).await;
    assert!(f.lease(1).await.is_empty());
}

/// Times are not rounded to seconds.
pub async fn a_time_is_stored_to_the_millisecond(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    let due = f.broker.now() + Duration::from_millis(3_600_007);
    let envelope = task("a");
    let when = When::At(due);
    f.try_enqueue(vec![NewTask::new(envelope, when)]).await;
    assert_eq!(f.info("a").await.unwrap().at, Some(due));
}

/// There is nothing to wait for.
pub async fn a_time_that_has_passed_means_now(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    let past = When::At(f.broker.now() - secs(1));
    let zero = When::After(Duration::ZERO);
    let batch = vec![NewTask::new(task("a"), past), NewTask::new(task("b"), zero)];
    f.try_enqueue(batch).await;
    assert_eq!(f.list(TaskState::Pending).await, ["a", "b"]);
}

/// A lease returns exactly what was enqueued.
pub async fn everything_in_the_envelope_is_stored(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    let mut full = with(unique("a", UniqueUntil::Window, secs(5)), |options| {
        options.max_retry = 3;
        options.timeout = Duration::from_millis(1_234);
        options.backoff = Backoff::Fixed(secs(2));
        options.retention = secs(7);
        options.priority = 4;
        options.group = Some("group".into());
        options.queue = "q".into();
    });
    full.headers = Headers::from_iter([("key", "value")]);
    full.enqueued_at = f.broker.now();
    full.deadline = Some(f.broker.now() + secs(100));
    f.enqueue([full.clone(), prioritised("b", 1)]).await;
    let mut leased = f.lease_one().await.envelope.as_ref().clone();
    // The default queue of a task is not part of it.
    leased = with(leased, |options| {
        options.queue = full.options.queue.clone();
        options.unique = full.options.unique;
        options.deadline = full.options.deadline;
    });
    assert_eq!(leased, full);
}

/// No queue name and no id collides with another, however a broker builds its keys.
pub async fn valid_ids_and_queue_names_do_not_collide(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    let (long_queue, long_id) = ("q".repeat(200), "i".repeat(255));
    let queues = ["a", "a:b", "a/b", "a*", "größe", "'%00\\", &long_queue];
    let ids = [
        "c", "b:c", "b/c", "{c}", "*", "grün", "'%00\\", "0", "-1", &long_id,
    ];
    let all = queues.map(|queue| ids.map(|id| task_in(queue, id)));
    f.enqueue(all.into_iter().flatten()).await;
    for queue in queues {
        let mut leased = f.lease_from(&[(queue, 99)], 99).await;
        assert_eq!(super::fixture::ids(&leased), ids, "{queue}");
        let released = leased.pop().unwrap().settle(Outcome::Release);
        let archived = leased
            .into_iter()
            .map(|leased| leased.settle(Outcome::Archive));
        let settlements: Vec<_> = archived.chain([released]).collect();
        let settled = all_of(f.broker.settle(&settlements).await).unwrap();
        assert_eq!(settled, [Settled::Recorded; 10], "{queue}");
        let refs = ids.map(|name| TaskRef::new(queue, id(name)));
        for (task, found) in refs.iter().zip(f.broker.tasks(&refs).await.unwrap()) {
            assert_eq!(found.unwrap().envelope.task_ref(), *task);
        }
        let run = f.broker.run_now(&refs).await.unwrap();
        assert_eq!(run, [true; 10], "{queue}");
    }
}

/// Longer than anyone waits, and than 32 bits of milliseconds.
pub async fn a_task_may_be_due_in_a_hundred_years(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    let due = f.broker.now() + secs(100 * 365 * 24 * 3_600);
    let when = When::At(due);
    let envelope = task("a");
    f.try_enqueue(vec![NewTask::new(envelope, when)]).await;
    assert_eq!(f.info("a").await.unwrap().at, Some(due));
    f.assert_counts(&[(TaskState::Scheduled, 1)]).await;
}

/// A broker never promises more than it can keep. Whether the task was accepted or not, enqueueing it again is safe.
pub async fn an_unavailable_durability_is_an_error(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    let enqueue = async |name, durability| {
        let tasks = vec![now(task(name))];
        f.broker.enqueue_durably(tasks, durability).await
    };
    let accepted = enqueue("a", Durability::Primary).await.unwrap();
    assert_eq!(accepted, [Ok(())]);
    let many = Durability::Replicas(1_000);
    match enqueue("b", many).await {
        Err(error @ (BrokerError::NotDurable(_) | BrokerError::Unsupported(_))) => {
            assert!(error.to_string().contains("`replicas=1000`"), "{error}");
        }
        other => panic!("{other:?}"),
    }
    f.try_enqueue(vec![now(task("b"))]).await;
    assert_eq!(f.list(TaskState::Pending).await, ["a", "b"]);
}
