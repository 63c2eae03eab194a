//! Inspecting queues.

use std::time::Duration;

use asynqueue_core::{
    broker::{Lease, LeaseToken, Outcome, Page, QueueStats, all_of},
    process::Progress,
    task::{Envelope, Name, TaskState},
};

use super::{
    Harness,
    fixture::{
        Fixture, QUEUE, STATES, complete, prioritised, retained, secs, task, task_in, task_ref,
        tasks, with,
    },
};

/// Querying a queue, or listening to it, creates none.
pub async fn a_queue_is_known_once_it_has_had_a_task(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.lease(1).await;
    let _signals = f.broker.signals(&[QUEUE.into()]).await.unwrap();
    assert_eq!(f.broker.queues().await.unwrap(), Vec::<Name>::new());
    f.enqueue([task("a"), task_in("another", "b")]).await;
    let leased = f.lease_one().await;
    f.settle(&leased, complete()).await;
    assert_eq!(
        f.broker.queues().await.unwrap(),
        ["another", QUEUE].map(Name::from)
    );
}

/// Every task is in exactly one state at any time.
pub async fn counts_add_up_through_the_life_of_a_task(harness: &dyn Harness) {
    use TaskState::{Active, Archived, Completed, Pending, Retry, Scheduled};
    let f = Fixture::new(harness).await;
    f.enqueue_after(retained("a", secs(1_000)), secs(10)).await;
    f.enqueue(tasks(["b"])).await;
    f.assert_counts(&[(Scheduled, 1), (Pending, 1)]).await;
    f.advance(secs(20)).await;
    all_of(f.broker.forward(&[QUEUE.into()], 10).await).unwrap();
    f.assert_counts(&[(Pending, 2)]).await;
    let leased = f.lease(2).await;
    f.assert_counts(&[(Active, 2)]).await;
    f.fail(&leased[0], Outcome::Archive).await;
    f.fail(&leased[1], Outcome::Retry { delay: secs(10) }).await;
    f.assert_counts(&[(Archived, 1), (Retry, 1)]).await;
    f.advance(secs(20)).await;
    all_of(f.broker.forward(&[QUEUE.into()], 10).await).unwrap();
    let leased = f.lease_one().await;
    f.settle(&leased, complete()).await;
    f.assert_counts(&[(Archived, 1), (Completed, 1)]).await;
    let stats = f.stats().await;
    assert_eq!((stats.succeeded, stats.failed, stats.total()), (1, 2, 2));
}

/// A task as a producer sends it.
fn task_now(f: &Fixture<'_>, name: &str) -> Envelope {
    let mut task = task(name);
    task.enqueued_at = f.broker.now();
    task
}

/// Since it became pending.
pub async fn latency_is_the_age_of_the_next_task(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    assert_eq!(f.stats().await.latency, Duration::ZERO);
    f.enqueue_after(task_now(&f, "a"), secs(500)).await;
    f.advance(secs(510)).await;
    all_of(f.broker.forward(&[QUEUE.into()], 10).await).unwrap();
    f.enqueue([task_now(&f, "b")]).await;
    f.advance(secs(100)).await;
    let latency = f.stats().await.latency;
    assert!(latency >= secs(100) && latency < secs(160), "{latency:?}");
}

/// Querying it is not an error.
pub async fn an_unknown_queue_is_empty(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue(tasks(["a"])).await;
    let stats = f
        .broker
        .stats(&["nowhere".into(), QUEUE.into()])
        .await
        .unwrap();
    assert_eq!((&stats[0], stats[1].total()), (&QueueStats::default(), 1));
    let page = f
        .broker
        .list(&"nowhere".into(), TaskState::Pending, Page::default())
        .await
        .unwrap();
    assert!(page.tasks.is_empty() && page.next.is_none());
}

/// With `None` for each missing task.
pub async fn tasks_are_returned_in_the_requested_order(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue(tasks(["a", "b"])).await;
    let found = f
        .broker
        .tasks(&["b", "unknown", "a"].map(task_ref))
        .await
        .unwrap();
    let names: Vec<_> = found
        .iter()
        .map(|info| info.as_ref().map(|info| info.envelope.id.as_str()))
        .collect();
    assert_eq!(names, [Some("b"), None, Some("a")]);
}

/// The next one first.
pub async fn waiting_tasks_are_listed_in_the_order_they_will_run(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue([task("plain"), prioritised("urgent", 3)]).await;
    f.enqueue_after(task("later"), secs(20)).await;
    f.enqueue_after(task("sooner"), secs(10)).await;
    assert_eq!(f.list(TaskState::Pending).await, ["urgent", "plain"]);
    assert_eq!(f.list(TaskState::Scheduled).await, ["sooner", "later"]);
}

/// The last one first.
pub async fn finished_tasks_are_listed_newest_first(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    for name in ["1", "2", "3"] {
        f.enqueue([retained(name, secs(1_000)), task(&format!("bad-{name}"))])
            .await;
        let leased = f.lease(2).await;
        f.settle(&leased[0], complete()).await;
        f.fail(&leased[1], Outcome::Archive).await;
        f.advance(secs(1)).await;
    }
    assert_eq!(f.list(TaskState::Completed).await, ["3", "2", "1"]);
    assert_eq!(
        f.list(TaskState::Archived).await,
        ["bad-3", "bad-2", "bad-1"]
    );
}

/// Each task once, in the same order, with the end marked on the last page, in every state.
pub async fn pages_make_up_the_complete_list(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    put_seven_in_each_state(&f).await;
    for state in STATES {
        let whole = f.list(state).await;
        assert_eq!(whole.len(), 7, "{state}");
        // A page that ends with the list is the last one.
        for limit in [3, 7] {
            let pages = in_pages(&f, state, Page::first(limit)).await;
            assert_eq!(pages, whole, "{state}");
        }
    }
}

/// The ids of a list, read page by page like the given one.
pub(super) async fn in_pages(f: &Fixture<'_>, state: TaskState, mut page: Page) -> Vec<String> {
    let mut tasks = Vec::new();
    loop {
        let part = f
            .broker
            .list(&QUEUE.into(), state, page.clone())
            .await
            .unwrap();
        assert!((1..=page.limit).contains(&part.tasks.len()), "{state}");
        tasks.extend(part.tasks.iter().map(|info| info.envelope.id.to_string()));
        page.after = part.next;
        if page.after.is_none() {
            return tasks;
        }
    }
}

pub(super) async fn put_seven_in_each_state(f: &Fixture<'_>) {
    f.enqueue((0..7).map(|n| retained(&format!("completed-{n}"), secs(1_000))))
        .await;
    for leased in f.lease(7).await {
        f.settle(&leased, complete()).await;
    }
    f.enqueue((0..21).map(|n| task(&format!("task-{n}")))).await;
    let leased = f.lease(21).await;
    for leased in &leased[..7] {
        f.fail(leased, Outcome::Archive).await;
    }
    let delay = secs(100);
    for leased in &leased[7..14] {
        f.fail(leased, Outcome::Retry { delay }).await;
    }
    for n in 0..7 {
        f.enqueue_after(task(&format!("scheduled-{n}")), delay)
            .await;
    }
    f.enqueue((0..7).map(|n| prioritised(&format!("pending-{n}"), n % 3)))
        .await;
}

/// Its due time, expiry or end; its worker; its result.
pub async fn a_task_shows_the_data_of_its_state(harness: &dyn Harness) {
    use TaskState::{Active, Archived, Completed, Pending, Retry, Scheduled};
    let f = Fixture::new(harness).await;
    let before = f.broker.now();
    let active = f.fill().await;
    for state in STATES {
        let info = f.info(state.as_str()).await.unwrap();
        assert_eq!(info.state, state);
        assert_eq!(info.lease.is_some(), state == Active, "{state}");
        assert_eq!((info.progress, info.result), (None, None), "{state}");
        let from_now = info.at.map(|at| at.since(before));
        let expected = match state {
            Scheduled | Retry | Completed => Some(secs(10_000)),
            Archived => Some(Duration::ZERO),
            _ => None,
        };
        // The clock may advance in the meantime.
        let near = |(at, expected)| at >= expected && at < expected + secs(60);
        assert_eq!(from_now.is_some(), expected.is_some(), "{state}");
        assert!(
            from_now.zip(expected).is_none_or(near),
            "{state}: {from_now:?}"
        );
    }
    assert_eq!(
        f.info(Active.as_str()).await.unwrap().envelope,
        active.envelope
    );
    assert_eq!(f.list(Pending).await, ["pending"]);
}

/// A task is only in the list of its state.
pub async fn each_state_has_a_separate_list(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.fill().await;
    f.enqueue([task_in("other", "elsewhere")]).await;
    for state in TaskState::ALL {
        let expected = STATES.contains(&state).then_some(state.as_str());
        assert_eq!(f.list(state).await, Vec::from_iter(expected));
    }
}

/// Actions without an effect create none either.
pub async fn queries_for_unknown_names_create_no_queue(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    let unknown = [task_ref("unknown")];
    assert_eq!(f.broker.delete(&unknown).await.unwrap(), [true]);
    assert_eq!(f.broker.run_now(&unknown).await.unwrap(), [false]);
    f.broker.cancel(&unknown, "no").await.unwrap();
    f.broker.finished(&unknown[0]).await.unwrap();
    let lease = Lease {
        task: task_ref("unknown"),
        token: LeaseToken(1),
    };
    let progress = (lease, Progress::default());
    f.broker.report(vec![progress]).await.unwrap();
    assert_eq!(f.broker.queues().await.unwrap(), Vec::<Name>::new());
}

/// By priority, the next task may be younger than others. A released task starts to wait again.
pub async fn latency_is_that_of_the_next_task_to_run(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    for name in ["first", "second"] {
        f.enqueue([task_now(&f, name)]).await;
        f.advance(secs(1_000)).await;
    }
    // The clock may advance in the meantime.
    let near = |latency: Duration, expected| latency >= expected && latency < expected + secs(60);
    let latency = f.stats().await.latency;
    assert!(near(latency, secs(2_000)), "the oldest: {latency:?}");
    let first = f.lease_one().await;
    let latency = f.stats().await.latency;
    assert!(near(latency, secs(1_000)), "the remaining one: {latency:?}");
    f.settle(&first, Outcome::Release).await;
    let latency = f.stats().await.latency;
    assert!(near(latency, secs(0)), "released: {latency:?}");
    f.advance(secs(500)).await;
    let urgent = with(task_now(&f, "urgent"), |options| options.priority = 1);
    f.enqueue([urgent]).await;
    let latency = f.stats().await.latency;
    assert!(near(latency, secs(0)), "the urgent one: {latency:?}");
}
