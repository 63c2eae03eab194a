//! Members of groups arrive in their group, or apart from it.

use asynqueue_core::{
    broker::{Apart, Import, Part, SetApart, TaskPlace},
    task::{Name, Timestamp},
};

use super::{bring, enqueue, import, info};
use crate::{
    store::StoreHarness,
    suite::{
        fixture::{QUEUE, id, secs},
        groups::grouped,
    },
};

/// As if they had joined it here.
pub async fn members_of_a_group_are_due_by_its_limits(harness: &dyn StoreHarness) {
    let store = harness.store().await;
    let now = store.now();
    let member = |name, since| import(grouped(name, "x"), aggregating(since, None));
    bring(
        &store,
        [member("a", now - secs(20)), member("b", now - secs(9))],
    )
    .await;
    let found = info(&store, "a").await;
    assert_eq!(found.place(), Some(aggregating(now - secs(20), None)));
    let due = async || {
        let events = [Name::from("event")];
        let due = store.due_groups(&[QUEUE.into()], &events, 10).await;
        due.unwrap()
    };
    assert_eq!(due().await.next_due, Some(now + secs(1)));
    harness.advance(secs(1)).await;
    let group = due().await.groups.remove(0);
    let members: Vec<_> = group.members.iter().map(|task| task.id.as_str()).collect();
    assert_eq!((&*group.name, &members[..]), ("x", &["a", "b"][..]));
}

/// They are due after their delay, and new members do not join them.
pub async fn members_of_a_group_that_are_apart_stay_apart(harness: &dyn StoreHarness) {
    let store = harness.store().await;
    for name in ["a", "b", "c"] {
        assert!(enqueue(&store, grouped(name, "x")).await);
    }
    harness.advance(secs(10)).await;
    let events = [Name::from("event")];
    let due = async || {
        let due = store.due_groups(&[QUEUE.into()], &events, 10).await;
        due.unwrap().groups
    };
    let mut group = due().await.remove(0);
    group.members.truncate(2);
    let apart = SetApart {
        members: group.members.clone(),
        group,
        tries: 2,
        delay: secs(60),
    };
    assert_eq!(store.set_apart(apart).await.unwrap(), 2);
    let part = Part {
        first: id("a"),
        tries: 2,
    };
    let mut moved = Vec::new();
    for name in ["a", "b"] {
        let found = info(&store, name).await;
        let apart = Some(Apart {
            part: part.clone(),
            delay: secs(60),
        });
        assert_eq!(found.apart, apart);
        let place = found.place().unwrap();
        moved.push(Import::new(found.envelope, place));
    }
    assert!(store.delete_queue(&QUEUE.into(), true).await.unwrap());
    bring(&store, moved.clone()).await;
    assert!(enqueue(&store, grouped("d", "x")).await);
    for moved in moved {
        let found = info(&store, moved.envelope.id.as_str()).await;
        assert_eq!(found.place(), Some(moved.place));
    }
    harness.advance(secs(61)).await;
    let mut groups = due().await;
    groups.sort_by_key(|group| group.members.len());
    let parts: Vec<_> = groups.iter().map(|group| group.part.clone()).collect();
    assert_eq!(parts, [None, Some(part)]);
    assert_eq!(groups[1].members.len(), 2);
}

fn aggregating(since: Timestamp, apart: Option<Apart>) -> TaskPlace {
    TaskPlace::Aggregating { since, apart }
}
