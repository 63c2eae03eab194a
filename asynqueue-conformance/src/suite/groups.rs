//! Tasks that wait in a group to be aggregated.

use std::{sync::Arc, time::Duration};

use asynqueue_core::{
    broker::{
        Aggregation, CancelOutcome, Conflict, DueGroups, Finished, Group, NewTask, Page, Signal,
    },
    task::{Aggregate, Envelope, TaskState, UniqueUntil},
};
use tokio::task::JoinSet;

use super::{
    Harness,
    fixture::{Fixture, id, ids, now, secs, task, task_ref, unique, with},
    inspect::in_pages,
};

const LIMITS: Aggregate = Aggregate::DEFAULT
    .grace(Duration::from_secs(10))
    .max_delay(Duration::from_secs(25))
    .max_size(4);

pub(crate) fn grouped(name: &str, group: &str) -> Envelope {
    with(task(name), |options| {
        options.group = Some(group.into());
        options.aggregate = Some(LIMITS);
    })
}

pub(super) async fn due(f: &Fixture<'_>) -> DueGroups {
    let events = ["event".into()];
    f.broker
        .due_groups(&["q".into()], &events, 10)
        .await
        .unwrap()
}

/// The due groups, each with the ids of its members.
async fn due_ids(f: &Fixture<'_>) -> Vec<(String, Vec<String>)> {
    let named = |group: Group| {
        let members = group.members.iter().map(|task| task.id.to_string());
        (group.name.to_string(), members.collect())
    };
    due(f).await.groups.into_iter().map(named).collect()
}

fn group(name: &str, members: &[&str]) -> (String, Vec<String>) {
    let members = members.iter().map(|id| (*id).to_owned()).collect();
    (name.to_owned(), members)
}

/// Replaces the only due group with a task.
pub(super) async fn aggregate(f: &Fixture<'_>, whole: &str) -> Result<bool, Conflict> {
    let group = due(f).await.groups.remove(0);
    aggregate_as(f, group, now(task(whole))).await
}

pub(super) async fn aggregate_as(
    f: &Fixture<'_>,
    group: Group,
    task: NewTask,
) -> Result<bool, Conflict> {
    f.broker
        .aggregate(Aggregation { group, task })
        .await
        .unwrap()
}

/// It does not wait for a worker.
pub async fn a_task_to_be_aggregated_waits_in_its_group(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue([grouped("a", "x")]).await;
    f.assert_counts(&[(TaskState::Aggregating, 1)]).await;
    assert_eq!(f.state("a").await, Some(TaskState::Aggregating));
    assert_eq!(ids(&f.lease(10).await), [] as [&str; 0]);
    assert_eq!(due_ids(&f).await, []);
}

/// Before they are due, and without their members.
pub async fn waiting_groups_can_be_inspected(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue([grouped("a", "x"), grouped("b", "x")]).await;
    f.advance(secs(1)).await;
    f.enqueue([grouped("c", "y\u{e9}")]).await;
    let groups = f.broker.groups(&"q".into(), 10).await.unwrap();
    let seen = groups.iter().map(|group| (&*group.name, group.size));
    assert_eq!(seen.collect::<Vec<_>>(), [("x", 2), ("y\u{e9}", 1)]);
    for group in &groups {
        assert_eq!((&*group.queue, &*group.event), ("q", "event"));
        assert!(group.due.since(group.oldest) >= LIMITS.grace, "{group:?}");
        assert!(
            group.due.since(group.oldest) < LIMITS.max_delay,
            "{group:?}"
        );
    }
    let first = f.broker.groups(&"q".into(), 1).await.unwrap();
    assert_eq!(first, groups[..1]);
    assert_eq!(f.broker.groups(&"other".into(), 10).await.unwrap(), []);
}

/// No other task was added.
pub async fn a_group_is_due_after_its_grace_period(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue([grouped("a", "x")]).await;
    f.advance(secs(9)).await;
    f.enqueue([grouped("b", "x")]).await;
    f.advance(secs(9)).await;
    assert_eq!(due_ids(&f).await, []);
    let next = due(&f).await.next_due;
    assert_eq!(next, Some(f.broker.now() + secs(1)));
    f.advance(secs(1)).await;
    assert_eq!(due_ids(&f).await, [group("x", &["a", "b"])]);
}

/// However often another task is added.
pub async fn a_group_is_due_after_its_longest_delay(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    for name in ["a", "b", "c"] {
        f.enqueue([grouped(name, "x")]).await;
        f.advance(secs(8)).await;
    }
    assert_eq!(due_ids(&f).await, []);
    f.advance(secs(1)).await;
    assert_eq!(due_ids(&f).await, [group("x", &["a", "b", "c"])]);
}

/// Immediately. Members beyond that size wait for their own time.
pub async fn a_group_is_due_at_its_maximum_size(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue(["a", "b", "c", "d", "e"].map(|name| grouped(name, "x")))
        .await;
    assert_eq!(due_ids(&f).await, [group("x", &["a", "b", "c", "d"])]);
    assert_eq!(aggregate(&f, "whole").await, Ok(true));
    assert_eq!(due_ids(&f).await, []);
    f.advance(secs(10)).await;
    assert_eq!(due_ids(&f).await, [group("x", &["e"])]);
}

/// In one step.
pub async fn the_members_of_a_group_become_one_task(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue([grouped("a", "x"), grouped("b", "x")]).await;
    f.advance(secs(10)).await;
    assert_eq!(aggregate(&f, "whole").await, Ok(true));
    f.assert_counts(&[(TaskState::Pending, 1)]).await;
    assert_eq!((f.state("a").await, f.state("b").await), (None, None));
    assert_eq!(ids(&f.lease(10).await), ["whole"]);
    // The ids can be used again.
    f.enqueue([grouped("a", "x")]).await;
}

/// The second one finds nothing to do.
pub async fn the_first_of_two_aggregations_of_a_group_wins(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue(["a", "b", "c"].map(|name| grouped(name, "x")))
        .await;
    f.advance(secs(10)).await;
    let group = due(&f).await.groups.remove(0);
    let mut servers = JoinSet::new();
    for n in 0..8 {
        let (broker, group) = (Arc::clone(&f.broker), group.clone());
        let task = now(task(&format!("whole-{n}")));
        servers.spawn(async move { broker.aggregate(Aggregation { group, task }).await.unwrap() });
    }
    let answers = servers.join_all().await;
    assert_eq!(answers.iter().filter(|won| **won == Ok(true)).count(), 1);
    f.assert_counts(&[(TaskState::Pending, 1)]).await;
}

/// A member that was cancelled in the meantime must not be counted.
pub async fn a_group_without_one_of_its_members_is_not_aggregated(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue([grouped("a", "x"), grouped("b", "x")]).await;
    f.advance(secs(10)).await;
    let group = due(&f).await.groups.remove(0);
    let cancelled = f.broker.cancel(&[task_ref("a")], "not needed").await;
    assert_eq!(cancelled.unwrap(), [CancelOutcome::Cancelled]);
    assert_eq!(aggregate_as(&f, group, now(task("whole"))).await, Ok(false));
    assert_eq!(f.state("whole").await, None);
    assert_eq!(due_ids(&f).await, [("x".to_owned(), vec!["b".to_owned()])]);
}

/// A task that was added in the meantime is in the next group.
pub async fn a_member_added_during_aggregation_stays(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue([grouped("a", "x")]).await;
    f.advance(secs(10)).await;
    let old = due(&f).await.groups.remove(0);
    f.enqueue([grouped("b", "x")]).await;
    assert_eq!(aggregate_as(&f, old, now(task("whole"))).await, Ok(true));
    assert_eq!(f.state("b").await, Some(TaskState::Aggregating));
    f.advance(secs(10)).await;
    assert_eq!(due_ids(&f).await, [group("x", &["b"])]);
}

/// Nothing is changed then.
pub async fn a_group_whose_new_task_is_refused_stays(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue([grouped("a", "x"), task("whole")]).await;
    f.advance(secs(10)).await;
    let refused = aggregate(&f, "whole").await;
    assert!(matches!(refused, Err(Conflict::Id { .. })), "{refused:?}");
    assert_eq!(f.state("a").await, Some(TaskState::Aggregating));
    let holder = unique("holder", UniqueUntil::Success, secs(1_000));
    f.enqueue([holder]).await;
    let group = due(&f).await.groups.remove(0);
    let whole = now(unique("other", UniqueUntil::Success, secs(1_000)));
    let refused = aggregate_as(&f, group, whole).await;
    let by_holder = |conflict: &Conflict| matches!(conflict, Conflict::Unique { holder, .. } if *holder == id("holder"));
    assert!(refused.as_ref().is_err_and(by_holder), "{refused:?}");
    assert_eq!(f.state("a").await, Some(TaskState::Aggregating));
}

/// Events, groups and tasks without a group.
pub async fn groups_do_not_mix(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    let mut other = grouped("c", "x");
    other.event = "other".into();
    let all = with(task("d"), |options| options.aggregate = Some(LIMITS));
    f.enqueue([grouped("a", "x"), grouped("b", "y"), other, all])
        .await;
    f.advance(secs(10)).await;
    let mut found = due_ids(&f).await;
    found.sort();
    assert_eq!(
        found,
        [group("", &["d"]), group("x", &["a"]), group("y", &["b"])]
    );
    let events = ["other".into()];
    let others = f.broker.due_groups(&["q".into()], &events, 10).await;
    assert_eq!(others.unwrap().groups[0].task_refs(), [task_ref("c")]);
}

/// The next call, or another server, handles the rest.
pub async fn at_most_limit_groups_are_returned(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue([grouped("a", "x")]).await;
    f.advance(secs(1)).await;
    f.enqueue([grouped("b", "y")]).await;
    f.advance(secs(10)).await;
    let events = ["event".into()];
    let found = f
        .broker
        .due_groups(&["q".into()], &events, 1)
        .await
        .unwrap();
    assert_eq!(found.groups[0].name, "x");
    assert!(found.next_due.is_some_and(|due| due <= f.broker.now()));
}

/// The aggregate function failed, and would fail again immediately.
pub async fn a_postponed_group_is_due_later(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue([grouped("a", "x")]).await;
    f.advance(secs(10)).await;
    let found = due(&f).await.groups.remove(0);
    f.broker.postpone(&found, secs(30)).await.unwrap();
    f.advance(secs(29)).await;
    assert_eq!(due_ids(&f).await, []);
    f.advance(secs(1)).await;
    assert_eq!(due_ids(&f).await, [group("x", &["a"])]);
}

/// It runs separately, as if it were in no group.
pub async fn a_member_can_run_now(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue([grouped("a", "x"), grouped("b", "x")]).await;
    let runs = f.broker.run_now(&[task_ref("a")]).await;
    assert_eq!(runs.unwrap(), [true]);
    assert_eq!(ids(&f.lease(10).await), ["a"]);
    f.advance(secs(10)).await;
    assert_eq!(due_ids(&f).await, [group("x", &["b"])]);
}

/// The group is removed with its last member.
pub async fn a_deleted_member_is_gone(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue([grouped("a", "x")]).await;
    let deleted = f.broker.delete(&[task_ref("a")]).await;
    assert_eq!(deleted.unwrap(), [true]);
    f.advance(secs(10)).await;
    let found = due(&f).await;
    assert_eq!((found.groups.len(), found.next_due), (0, None));
    f.assert_counts(&[]).await;
}

/// Members end when they are aggregated.
pub async fn the_locks_of_members_are_released(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    let member = with(unique("a", UniqueUntil::Success, secs(1_000)), |options| {
        options.aggregate = Some(LIMITS)
    });
    f.enqueue([member]).await;
    f.advance(secs(10)).await;
    assert_eq!(aggregate(&f, "whole").await, Ok(true));
    f.enqueue([unique("next", UniqueUntil::Success, secs(1_000))])
        .await;
}

/// The task no longer exists.
pub async fn a_waiter_for_a_member_learns_that_it_is_gone(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue([grouped("a", "x")]).await;
    let broker = Arc::clone(&f.broker);
    let waiting = tokio::spawn(async move { broker.finished(&task_ref("a")).await.unwrap() });
    f.advance(secs(10)).await;
    tokio::task::yield_now().await;
    assert_eq!(aggregate(&f, "whole").await, Ok(true));
    assert_eq!(waiting.await.unwrap(), Finished::Gone);
}

/// A page at a time.
pub async fn members_are_listed_by_group_oldest_first(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue([grouped("c", "y")]).await;
    f.advance(secs(1)).await;
    f.enqueue([grouped("b", "x")]).await;
    f.advance(secs(1)).await;
    f.enqueue([grouped("a", "x")]).await;
    assert_eq!(f.list(TaskState::Aggregating).await, ["b", "a", "c"]);
    let page = |after| Page::first(2).after(after);
    let queue = "q".into();
    let list = |after| f.broker.list(&queue, TaskState::Aggregating, page(after));
    let first = list(None).await.unwrap();
    let second = list(first.next).await.unwrap();
    assert_eq!((first.tasks.len(), second.tasks.len()), (2, 1));
    assert_eq!(second.tasks[0].envelope.id, id("c"));
    assert_eq!(second.next, None);
}

/// Idle servers must be notified.
pub async fn a_group_due_before_all_others_is_signalled(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    let mut signals = f.broker.signals(&["q".into()]).await.unwrap();
    f.enqueue([grouped("a", "x")]).await;
    let due = Signal::Due("q".into(), f.broker.now() + LIMITS.grace);
    assert_eq!(futures_util::StreamExt::next(&mut signals).await, Some(due));
}

/// By group and time, both reversed, whatever the size of the pages.
pub async fn the_pages_of_members_from_the_end_are_the_reverse_of_the_list(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    for (n, group) in ["y", "x", "y", "z", "x", "y"].into_iter().enumerate() {
        f.enqueue([grouped(&format!("{n}-{group}"), group)]).await;
        f.advance(secs(1)).await;
    }
    let expected = ["3-z", "5-y", "2-y", "0-y", "4-x", "1-x"];
    for limit in [1, 2, 4, 6] {
        let pages = in_pages(&f, TaskState::Aggregating, Page::last(limit)).await;
        assert_eq!(pages, expected, "in pages of {limit}");
    }
}
