//! What users of an [`Inspector`] see and do.

use std::sync::Arc;

use asynqueue_core::{
    broker::{NewTask, Outcome, Page, When},
    codec::{Codec, MessagePack},
    failure::Fingerprint,
    inspector::{Action, ActionOutcome, AgainError, BulkProgress, Filter, Inspector},
    task::{Aggregate, Envelope, FailureKind, TaskRef, TaskState, UniqueUntil},
};
use futures_util::StreamExt;
use serde_json::json;

use super::{
    Harness,
    fixture::{
        Fixture, QUEUE, complete, id, ids, now, retained, secs, task, task_in, task_ref, tasks,
        unique, with, with_payload,
    },
};

fn inspector(f: &Fixture<'_>) -> Inspector {
    Inspector::new(Arc::clone(&f.broker)).acting_as("alice")
}

async fn apply(f: &Fixture<'_>, action: Action, name: &str) -> ActionOutcome {
    let outcomes = inspector(f).apply(&action, &[task_ref(name)]).await;
    outcomes.unwrap().remove(0)
}

/// The ids that a filter finds among the pending tasks.
async fn found(f: &Fixture<'_>, filter: &str) -> Vec<String> {
    let filter: Filter = filter.parse().unwrap();
    let (queue, state) = (QUEUE.into(), TaskState::Pending);
    let inspector = inspector(f);
    let listing = inspector.list(&queue, state, &filter, Page::default());
    let tasks = listing.await.unwrap().tasks;
    tasks
        .iter()
        .map(|task| task.envelope.id.to_string())
        .collect()
}

/// In one overview.
pub async fn queues_are_shown_with_todays_counts(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    // To one second after midnight, so that yesterday is not today.
    let day = 24 * 3_600 * 1_000;
    let till_midnight = day - f.broker.now().as_millis() % day + 1_000;
    f.enqueue(tasks(["a", "b", "c", "d"])).await;
    let leased = f.lease(3).await;
    f.settle(&leased[0], complete()).await;
    f.advance(std::time::Duration::from_millis(till_midnight))
        .await;
    f.settle(&leased[1], complete()).await;
    f.fail(&leased[2], Outcome::Archive).await;
    let queues = inspector(&f).queues().await.unwrap();
    assert_eq!(queues.len(), 1);
    let queue = &queues[0];
    assert_eq!((queue.today.succeeded, queue.today.failed), (1, 1));
    assert_eq!((queue.stats.succeeded, queue.stats.failed), (2, 1));
    assert_eq!(queue.stats.count(TaskState::Pending), 1);
    assert!(!queue.stats.latency.is_zero());
    assert_eq!(inspector(&f).history(&QUEUE.into()).await.unwrap().len(), 2);
}

/// Each task once, in all queues and states.
pub async fn a_search_reads_every_task_of_all_queues(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    // More than one page.
    f.enqueue((0..620).map(|n| task(&format!("many-{n:03}"))))
        .await;
    let leased = f.lease(3).await;
    f.fail(&leased[0], Outcome::Archive).await;
    f.enqueue([
        with_payload("paid", &json!({ "order": "MANY-1" })),
        task_in("other", "many-a"),
        task_in("other", "b"),
    ])
    .await;
    let mut search = inspector(&f).search(Filter::search("many-").unwrap());
    let (mut found, mut progress) = (Vec::new(), (0, 0));
    while let Some(step) = search.next().await {
        let step = step.unwrap();
        progress = (step.scanned, step.total);
        let tasks = step.found.iter().map(|task| task.envelope.task_ref());
        found.extend(tasks);
    }
    assert_eq!(progress, (623, 623));
    assert_eq!(found.len(), 622);
    found.sort();
    found.dedup();
    assert_eq!(found.len(), 622);
    let has = |queue, name| found.contains(&TaskRef::new(queue, id(name)));
    assert!(
        has("other", "many-a") && has(QUEUE, "paid") && has(QUEUE, leased[0].envelope.id.as_str())
    );
}

/// In whichever queue it is.
pub async fn a_task_is_found_by_its_id_in_any_queue(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue([task("a"), task_in("other", "a"), task_in("other", "b")])
        .await;
    let found = inspector(&f).find("a").await.unwrap();
    let mut queues: Vec<_> = found
        .iter()
        .map(|task| task.envelope.queue.as_str())
        .collect();
    queues.sort_unstable();
    assert_eq!(queues, ["other", QUEUE]);
    assert!(inspector(&f).find("c").await.unwrap().is_empty());
    assert!(inspector(&f).find("a b").await.is_err());
}

/// With every condition of filters.
pub async fn a_filter_finds_the_matching_tasks(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    let mut old = with_payload("order-1", &json!({"customer": "Ada", "lines": [1, 2]}));
    old.enqueued_at = f.broker.now();
    f.advance(secs(3_600)).await;
    let mut new = with_payload("order-2", &json!({"customer": "Grace"}));
    new.event = "email:welcome".into();
    new.headers.insert("tenant", "acme corp");
    new.enqueued_at = f.broker.now();
    new.push_failure(super::fixture::failure(1, "no route to host"));
    f.enqueue([old, new]).await;
    f.advance(secs(60)).await;
    assert_eq!(found(&f, "").await, ["order-1", "order-2"]);
    assert_eq!(found(&f, "event=event").await, ["order-1"]);
    assert_eq!(found(&f, "event=email:*").await, ["order-2"]);
    assert_eq!(found(&f, "id=order-1").await, ["order-1"]);
    assert_eq!(found(&f, "id=order-*").await.len(), 2);
    assert_eq!(found(&f, "header.tenant=\"acme corp\"").await, ["order-2"]);
    assert_eq!(found(&f, "payload~ada").await, ["order-1"]);
    assert_eq!(found(&f, "payload~\"[1,2]\"").await, ["order-1"]);
    assert_eq!(found(&f, "error~\"No Route\"").await, ["order-2"]);
    let cause = Fingerprint::of("email:welcome", FailureKind::Error, "no route to host");
    assert_eq!(found(&f, &format!("cause={cause}")).await, ["order-2"]);
    let other = Fingerprint::of("event", FailureKind::Error, "no route to host");
    assert_eq!(found(&f, &format!("cause={other}")).await, [] as [&str; 0]);
    assert_eq!(found(&f, "age>30m").await, ["order-1"]);
    assert_eq!(found(&f, "age<30m").await, ["order-2"]);
    assert_eq!(found(&f, "age<30m event=event").await, [] as [&str; 0]);
}

/// With short and empty pages in between, depending on where the matches are.
pub async fn the_pages_of_a_filtered_list_make_up_the_complete_list(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    let named = |n: usize| {
        let mut task = task(&format!("{n:04}"));
        if n.is_multiple_of(7) {
            task.event = "rare".into();
        }
        task
    };
    f.enqueue((0..3_000).map(named)).await;
    let filter: Filter = "event=rare".parse().unwrap();
    let (mut after, mut seen, mut calls) = (None, Vec::new(), 0);
    loop {
        let page = Page::first(50).after(after);
        let queue = QUEUE.into();
        let list = inspector(&f);
        let list = list.list(&queue, TaskState::Pending, &filter, page);
        let listing = list.await.unwrap();
        assert!(listing.tasks.len() <= 50 && listing.scanned <= 2_500);
        seen.extend(
            listing
                .tasks
                .iter()
                .map(|task| task.envelope.id.to_string()),
        );
        calls += 1;
        match listing.next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    let expected: Vec<_> = (0..3_000).step_by(7).map(|n| format!("{n:04}")).collect();
    assert_eq!(seen, expected);
    assert!(calls > 5);
}

/// The failures are kept.
pub async fn a_retried_task_has_all_its_attempts_left(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue([with(task("a"), |options| options.max_retry = 0)])
        .await;
    assert!(matches!(
        apply(&f, Action::Retry, "a").await,
        ActionOutcome::Refused(_)
    ));
    let leased = f.lease_one().await;
    f.fail(&leased, Outcome::Archive).await;
    assert_eq!(apply(&f, Action::Retry, "a").await, ActionOutcome::Done);
    let leased = f.lease_one().await;
    assert_eq!(leased.envelope.attempts, 0);
    assert_eq!(leased.envelope.failures().len(), 1);
    assert_eq!(apply(&f, Action::Retry, "b").await, ActionOutcome::NotFound);
}

/// With the user and the reason. Not an active task.
pub async fn a_task_is_archived_and_run_later(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.fill().await;
    for state in ["scheduled", "pending", "retry"] {
        let outcome = apply(&f, Action::Archive("not today".into()), state).await;
        assert_eq!(outcome, ActionOutcome::Done, "{state}");
        let info = f.info(state).await.unwrap();
        let failure = info.envelope.last_failure().unwrap();
        assert_eq!(
            (info.state, failure.kind),
            (TaskState::Archived, FailureKind::Shelved)
        );
        assert_eq!(failure.message, "by alice: not today");
    }
    for state in ["active", "completed", "archived"] {
        let outcome = apply(&f, Action::Archive("not today".into()), state).await;
        assert!(matches!(outcome, ActionOutcome::Refused(_)), "{state}");
    }
    assert_eq!(
        apply(&f, Action::RunNow, "scheduled").await,
        ActionOutcome::Done
    );
    assert_eq!(ids(&f.lease(10).await), ["scheduled"]);
}

/// In its original codec.
pub async fn a_payload_is_edited_as_json(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue([with_payload("a", &json!({"n": 1}))]).await;
    let edited = json!({"n": 2, "why": ["typo"]});
    let outcome = apply(&f, Action::EditPayload(edited.clone()), "a").await;
    assert_eq!(outcome, ActionOutcome::Done);
    let info = f.info("a").await.unwrap();
    assert_eq!(inspector(&f).payload(&info), edited);
    let leased = f.lease_one().await;
    let payload = MessagePack::decode::<serde_json::Value>(&leased.envelope.payload);
    assert_eq!(payload.unwrap(), edited);
    let outcome = apply(&f, Action::EditPayload(json!(1)), "a").await;
    assert!(matches!(outcome, ActionOutcome::Refused(_)));
}

/// With the same id and due time.
pub async fn a_task_moves_to_another_queue(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    let held = unique("held", UniqueUntil::Success, secs(1_000));
    f.enqueue([task("a"), held]).await;
    f.enqueue_after(task("later"), secs(60)).await;
    let moved = |name| TaskRef::new("other", id(name));
    for name in ["a", "later", "held"] {
        let outcome = apply(&f, Action::MoveTo("other".into()), name).await;
        assert_eq!(outcome, ActionOutcome::Done, "{name}");
        assert_eq!(f.state(name).await, None);
    }
    let names = [moved("a"), moved("later"), moved("held")];
    let there = f.broker.tasks(&names).await.unwrap();
    let there: Vec<_> = there.into_iter().flatten().collect();
    assert_eq!(there.len(), 3);
    assert_eq!(there[0].state, TaskState::Pending);
    assert!(there[0].envelope.failures().is_empty());
    assert_eq!(there[1].at, Some(f.broker.now() + secs(60)));
    // It holds its lock there now.
    f.enqueue([unique("next", UniqueUntil::Success, secs(1_000))])
        .await;
    let same = apply(&f, Action::MoveTo(QUEUE.into()), "next").await;
    assert!(matches!(same, ActionOutcome::Refused(_)));
}

/// It does not change.
pub async fn a_task_that_cannot_move_stays(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue([task_in("other", "a")]).await;
    f.enqueue_after(task("a"), secs(60)).await;
    let before = f.info("a").await.unwrap();
    let outcome = apply(&f, Action::MoveTo("other".into()), "a").await;
    assert!(matches!(outcome, ActionOutcome::Refused(why) if why.contains("other/a")));
    let after = f.info("a").await.unwrap();
    assert_eq!((after.state, after.at), (before.state, before.at));
    assert_eq!(after.envelope, before.envelope);
    let outcome = apply(&f, Action::MoveTo("a b".into()), "a").await;
    assert!(matches!(outcome, ActionOutcome::Refused(why) if why.contains("`a b`")));
}

/// In all allowed states, regardless of the results of the others.
pub async fn each_action_has_a_result(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.fill().await;
    let names = ["pending", "active", "unknown", "completed", "archived"];
    let refs = names.map(task_ref);
    let cancel = Action::Cancel("enough".into());
    let outcomes = inspector(&f).apply(&cancel, &refs).await.unwrap();
    assert_eq!(
        outcomes[..3],
        [
            ActionOutcome::Done,
            ActionOutcome::Done,
            ActionOutcome::NotFound
        ]
    );
    assert!(matches!(outcomes[3], ActionOutcome::Refused(_)));
    let info = f.info("pending").await.unwrap();
    assert_eq!(
        info.envelope.last_failure().unwrap().message,
        "by alice: enough"
    );
    let outcomes = inspector(&f).apply(&Action::Delete, &refs).await.unwrap();
    assert!(matches!(outcomes[1], ActionOutcome::Refused(_)));
    assert_eq!(outcomes[3], ActionOutcome::Done);
}

async fn run_bulk(f: &Fixture<'_>, action: Action, state: TaskState, filter: &str) -> BulkProgress {
    let filter = filter.parse().unwrap();
    let mut bulk = inspector(f).apply_to_all(action, QUEUE, state, filter);
    let mut last = BulkProgress::default();
    while let Some(progress) = bulk.next().await {
        let progress = progress.unwrap();
        assert!(progress.done >= last.done && progress.scanned >= last.scanned);
        last = progress;
    }
    last
}

/// For any number of them, in each waiting state.
pub async fn all_matching_tasks_are_changed(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    let limits = Aggregate::default();
    for state in ["pending", "scheduled", "aggregating"] {
        let named = |n: usize| {
            let mut envelope = task(&format!("{state}-{n}"));
            if n.is_multiple_of(3) {
                envelope.event = "other".into();
            }
            let grouped = (state == "aggregating").then_some(limits);
            let when = match state {
                "scheduled" => When::After(secs(n as u64 + 60)),
                _ => When::Now,
            };
            NewTask::new(with(envelope, |options| options.aggregate = grouped), when)
        };
        let accepted = f.try_enqueue((0..900).map(named).collect()).await;
        assert!(accepted.iter().all(Result::is_ok));
    }
    for state in [
        TaskState::Pending,
        TaskState::Scheduled,
        TaskState::Aggregating,
    ] {
        let done = run_bulk(&f, Action::Delete, state, "event=event").await;
        assert_eq!((done.done, done.refused), (600, 0), "{state}");
        assert_eq!(f.list(state).await.len(), 300, "{state}");
    }
    let away = Action::Archive("not today".into());
    let done = run_bulk(&f, away, TaskState::Pending, "").await;
    assert_eq!((done.done, done.refused), (300, 0));
    let done = run_bulk(&f, Action::Retry, TaskState::Archived, "error~today").await;
    assert_eq!((done.done, done.refused), (300, 0));
    let done = run_bulk(&f, Action::MoveTo("other".into()), TaskState::Pending, "").await;
    assert_eq!((done.done, done.refused), (300, 0));
    f.assert_counts(&[(TaskState::Scheduled, 300), (TaskState::Aggregating, 300)])
        .await;
}

/// Active tasks are requested once to stop.
pub async fn all_running_tasks_are_cancelled(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue((0..300).map(|n| task(&n.to_string()))).await;
    let leased = f.lease(300).await;
    let done = run_bulk(&f, Action::Cancel("enough".into()), TaskState::Active, "").await;
    assert_eq!((done.scanned, done.done, done.refused), (300, 300, 0));
    f.fail(&leased[0], Outcome::Retry { delay: secs(1) }).await;
    assert_eq!(f.list(TaskState::Archived).await, ["0"]);
}

/// A completed task also shows its result.
pub async fn results_are_shown_as_json(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.try_enqueue(vec![now(retained("a", secs(60)))]).await;
    let leased = f.lease_one().await;
    let result = MessagePack::encode(&json!({"sum": 3})).unwrap();
    let result = Some(result.into());
    f.settle(&leased, Outcome::Complete { result }).await;
    let info = inspector(&f).task(&task_ref("a")).await.unwrap().unwrap();
    assert_eq!(inspector(&f).result(&info), Some(json!({"sum": 3})));
}

/// Without attempts, and with times as far in the future as those of the original.
pub async fn a_task_is_enqueued_again_from_any_state(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    let mut first = retained("done", secs(60));
    first.deadline = Some(f.broker.now() + secs(30));
    first.headers.insert("tenant", "acme");
    f.enqueue([first.clone(), task("failed")]).await;
    let leased = f.lease(2).await;
    f.settle(&leased[0], complete()).await;
    f.fail(&leased[1], Outcome::Archive).await;
    f.advance(secs(10)).await;

    let again = inspector(&f).enqueue_again(&task_ref("done"), None).await;
    let again = f.broker.tasks(&[again.unwrap()]).await.unwrap().remove(0);
    let again = again.expect("enqueued");
    assert_eq!(again.state, TaskState::Pending);
    assert_ne!(again.envelope.id, first.id);
    assert_eq!(again.envelope.payload, first.payload);
    assert_eq!(again.envelope.headers, first.headers);
    assert_eq!(again.envelope.completed(), None);
    assert_eq!(again.envelope.origin(), Some(&first.id));
    let left = again.envelope.deadline.expect("kept");
    assert_eq!(left.since(again.envelope.enqueued_at), left_of(&first));

    let payload = json!({ "to": "ada" });
    let inspector = inspector(&f);
    let failed = task_ref("failed");
    let edited = inspector
        .enqueue_again(&failed, Some(&payload))
        .await
        .unwrap();
    let edited = f.broker.tasks(&[edited]).await.unwrap().remove(0).unwrap();
    assert_eq!(inspector.payload(&edited), payload);
    assert_eq!(
        (edited.envelope.attempts, edited.envelope.failures()),
        (0, &[][..])
    );
    f.assert_counts(&[
        (TaskState::Pending, 2),
        (TaskState::Completed, 1),
        (TaskState::Archived, 1),
    ])
    .await;
}

fn left_of(task: &Envelope) -> std::time::Duration {
    task.deadline.expect("set").since(task.enqueued_at)
}

/// The window of an ended task does not prevent a copy, but that of a waiting task does.
pub async fn a_task_with_a_window_is_enqueued_again_once_it_has_ended(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    let inspector = inspector(&f);
    f.enqueue([unique("a", UniqueUntil::Window, secs(1_000))])
        .await;
    let refused = inspector.enqueue_again(&task_ref("a"), None).await;
    assert!(
        matches!(refused, Err(AgainError::Conflict(_))),
        "{refused:?}"
    );
    let leased = f.lease_one().await;
    f.fail(&leased, Outcome::Archive).await;
    let first = inspector.enqueue_again(&task_ref("a"), None).await.unwrap();
    // A copy of the copy, and a second copy of the original.
    let second = inspector.enqueue_again(&first, None).await.unwrap();
    inspector.enqueue_again(&task_ref("a"), None).await.unwrap();
    let second = f.broker.tasks(&[second]).await.unwrap().remove(0).unwrap();
    assert_eq!(second.envelope.origin(), Some(&id("a")));
    assert_eq!(f.lease(9).await.len(), 3);
    // Producers are refused as before.
    let refused = f
        .try_enqueue(vec![now(unique("b", UniqueUntil::Window, secs(60)))])
        .await;
    assert!(refused[0].is_err());
}

/// Like any enqueued task.
pub async fn a_task_that_is_enqueued_again_waits_for_the_unique_lock(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue([unique("a", UniqueUntil::Success, secs(60))])
        .await;
    let refused = inspector(&f).enqueue_again(&task_ref("a"), None).await;
    assert!(
        matches!(refused, Err(AgainError::Conflict(_))),
        "{refused:?}"
    );
    let missing = inspector(&f).enqueue_again(&task_ref("b"), None).await;
    assert!(
        matches!(missing, Err(AgainError::NotFound(_))),
        "{missing:?}"
    );
}
