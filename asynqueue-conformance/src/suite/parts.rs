//! Members of a group that are set apart.

use std::sync::Arc;

use asynqueue_core::{
    broker::{Group, Part, Replacement, SetApart},
    task::{Envelope, TaskState},
};
use tokio::task::JoinSet;

use super::{
    Harness,
    fixture::{Fixture, failed, id, now, secs, task, task_ref},
    groups::{aggregate, aggregate_as, due, grouped},
};

/// Sets members of the only due group apart, each with a failure.
async fn set_apart(f: &Fixture<'_>, names: &[&str], tries: u32) -> usize {
    let mut group = due(f).await.groups.remove(0);
    group
        .members
        .retain(|member| names.contains(&member.id.as_str()));
    f.broker.set_apart(apart(group, tries)).await.unwrap()
}

fn apart(group: Group, tries: u32) -> SetApart {
    SetApart {
        members: group.members.iter().map(failed).collect(),
        group,
        tries,
        delay: secs(60),
    }
}

fn parts(groups: &[Group]) -> Vec<(Option<Part>, Vec<&str>)> {
    let mut parts = Vec::new();
    for group in groups {
        let ids = group.members.iter().map(|task| task.id.as_str());
        parts.push((group.part.clone(), ids.collect()));
    }
    parts
}

fn part(first: &str, tries: u32) -> Option<Part> {
    let first = id(first);
    Some(Part { first, tries })
}

/// They could not be aggregated, and the others must not wait for them.
pub async fn members_that_are_set_apart_are_due_separately(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue(["a", "b", "c", "d"].map(|name| grouped(name, "x")))
        .await;
    assert_eq!(set_apart(&f, &["c", "a"], 1).await, 2);
    f.assert_counts(&[(TaskState::Aggregating, 4)]).await;
    let noted = f.info("c").await.unwrap();
    assert_eq!(
        (noted.state, noted.envelope.attempts),
        (TaskState::Aggregating, 1)
    );
    assert_eq!(noted.envelope.failures().len(), 1);
    f.enqueue([grouped("e", "x")]).await;
    f.advance(secs(10)).await;
    assert_eq!(parts(&due(&f).await.groups), [(None, vec!["b", "d", "e"])]);
    assert_eq!(aggregate(&f, "whole").await, Ok(true));
    assert_eq!(due(&f).await.next_due, Some(f.broker.now() + secs(50)));
    f.enqueue([grouped("f", "x")]).await;
    f.advance(secs(50)).await;
    let groups = due(&f).await.groups;
    let mut found = parts(&groups);
    found.sort();
    assert_eq!(found, [(None, vec!["f"]), (part("a", 1), vec!["a", "c"])]);
    assert!(groups.iter().all(|group| group.name == "x"));
    let looked_at = f.broker.groups(&"q".into(), 10).await.unwrap();
    let mut looked_at: Vec<_> = looked_at
        .iter()
        .map(|group| (&*group.name, group.tries, group.size))
        .collect();
    looked_at.sort_unstable();
    assert_eq!(looked_at, [("x", 0, 1), ("x", 1, 2)]);
}

/// Like any group.
pub async fn a_part_that_was_set_apart_becomes_one_task(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue(["a", "b", "c", "d"].map(|name| grouped(name, "x")))
        .await;
    let old = due(&f).await.groups.remove(0);
    assert_eq!(set_apart(&f, &["a", "b", "c"], 1).await, 3);
    // A server that has read them before.
    assert_eq!(aggregate_as(&f, old, now(task("late"))).await, Ok(false));
    f.advance(secs(60)).await;
    let mut groups = due(&f).await.groups;
    groups.retain(|group| group.part.is_some());
    let group = groups.remove(0);
    f.broker.postpone(&group, secs(30)).await.unwrap();
    assert!(
        due(&f)
            .await
            .groups
            .iter()
            .all(|group| group.part.is_none())
    );
    assert_eq!(aggregate_as(&f, group, now(task("whole"))).await, Ok(true));
    f.assert_counts(&[(TaskState::Aggregating, 1), (TaskState::Pending, 1)])
        .await;
}

/// Any number of times, in smaller parts each time. The number of tries is kept.
pub async fn a_part_can_be_set_apart_again(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue(["a", "b", "c", "d"].map(|name| grouped(name, "x")))
        .await;
    assert_eq!(set_apart(&f, &["a", "b", "c", "d"], 1).await, 4);
    f.advance(secs(60)).await;
    let whole = due(&f).await.groups.remove(0);
    assert_eq!(whole.tries(), 1);
    for half in whole.members.chunks(2) {
        let half = Group {
            members: half.to_vec(),
            ..whole.clone()
        };
        assert_eq!(f.broker.set_apart(apart(half, 2)).await.unwrap(), 2);
    }
    assert_eq!(due(&f).await.groups, []);
    f.advance(secs(60)).await;
    let groups = due(&f).await.groups;
    let mut found = parts(&groups);
    found.sort();
    assert_eq!(
        found,
        [
            (part("a", 2), vec!["a", "b"]),
            (part("c", 2), vec!["c", "d"])
        ]
    );
    assert_eq!(f.info("d").await.unwrap().envelope.attempts, 2);
}

/// It was changed or removed in the meantime: another server was first, or a user has handled it.
pub async fn a_member_is_set_apart_only_if_it_is_unchanged(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue(["a", "b", "c", "d"].map(|name| grouped(name, "x")))
        .await;
    let seen = due(&f).await.groups.remove(0);
    assert_eq!(f.broker.delete(&[task_ref("a")]).await.unwrap(), [true]);
    assert_eq!(f.broker.run_now(&[task_ref("b")]).await.unwrap(), [true]);
    let mut edited = Envelope::clone(&seen.members[2]);
    edited.payload = "edited".into();
    let edit = Replacement::new(f.info("c").await.unwrap(), Arc::new(edited), None);
    assert_eq!(f.broker.replace(vec![edit]).await.unwrap(), [true]);
    let set_apart = async || f.broker.set_apart(apart(seen.clone(), 1)).await.unwrap();
    assert_eq!(set_apart().await, 1);
    assert_eq!(set_apart().await, 0);
    f.advance(secs(10)).await;
    assert_eq!(parts(&due(&f).await.groups), [(None, vec!["c"])]);
    assert_eq!(f.info("c").await.unwrap().envelope.payload, "edited");
    assert_eq!(f.info("b").await.unwrap().envelope.attempts, 0);
    f.advance(secs(50)).await;
    let all = due(&f).await.groups;
    assert!(parts(&all).contains(&(part("a", 1), vec!["d"])), "{all:?}");
}

/// The others find nothing to do, whether or not the members get a failure.
pub async fn the_first_of_several_to_set_members_apart_wins(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue(["a", "b", "c", "d"].map(|name| grouped(name, "x")))
        .await;
    let group = due(&f).await.groups.remove(0);
    let as_they_are = SetApart {
        members: group.members.clone(),
        ..apart(group, 1)
    };
    let mut servers = JoinSet::new();
    for _ in 0..8 {
        let (broker, members) = (Arc::clone(&f.broker), as_they_are.clone());
        servers.spawn(async move { broker.set_apart(members).await.unwrap() });
    }
    assert_eq!(servers.join_all().await.iter().sum::<usize>(), 4);
}

/// A user's change of a member is not undone.
pub async fn a_racing_edit_and_set_apart_are_both_kept(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    for n in 0..30 {
        f.enqueue(["a", "b", "c", "d"].map(|name| grouped(&format!("{name}-{n}"), "x")))
            .await;
        let group = due(&f).await.groups.remove(0);
        let id = group.members[3].id.clone();
        let seen = f.info(id.as_str()).await.unwrap();
        let mut edited = Envelope::clone(&seen.envelope);
        edited.payload = "edited".into();
        let edit = Replacement::new(seen, Arc::new(edited), None);
        let broker = Arc::clone(&f.broker);
        let editing = tokio::spawn(async move { broker.replace(vec![edit]).await.unwrap() });
        f.broker.set_apart(apart(group, 1)).await.unwrap();
        if editing.await.unwrap() == [true] {
            let kept = f.info(id.as_str()).await.unwrap().envelope;
            assert_eq!((&*kept.payload, kept.attempts), (&b"edited"[..], 0));
        }
        f.broker.delete_queue(&"q".into(), true).await.unwrap();
    }
}

/// By cancelling, running or deleting them. Their part is removed with its last member.
pub async fn members_that_are_set_apart_can_leave_their_part(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue(["a", "b", "c", "d"].map(|name| grouped(name, "x")))
        .await;
    assert_eq!(set_apart(&f, &["a", "b", "c", "d"], 1).await, 4);
    f.broker
        .cancel(&[task_ref("a")], "not needed")
        .await
        .unwrap();
    f.broker.run_now(&[task_ref("b")]).await.unwrap();
    assert_eq!(f.list(TaskState::Aggregating).await, ["c", "d"]);
    assert_eq!(due(&f).await.groups, [], "the rest still waits");
    f.broker.delete(&[task_ref("c")]).await.unwrap();
    f.broker.delete(&[task_ref("d")]).await.unwrap();
    f.advance(secs(60)).await;
    let found = due(&f).await;
    assert_eq!((found.groups.len(), found.next_due), (0, None));
    f.assert_counts(&[(TaskState::Archived, 1), (TaskState::Pending, 1)])
        .await;
    // Their ids can be used like any others.
    f.enqueue([grouped("c", "x")]).await;
    f.advance(secs(10)).await;
    assert_eq!(parts(&due(&f).await.groups), [(None, vec!["c"])]);
}
