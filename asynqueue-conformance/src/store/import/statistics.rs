//! Statistics of another store are added to those of this one, once.

use std::{sync::Arc, time::Duration};

use asynqueue_core::{
    broker::{ArchiveStats, HourStats, Store, Totals},
    task::{Name, Timestamp},
};

use super::{bring, import, places, stats};
use crate::{
    changed,
    store::StoreHarness,
    suite::fixture::{QUEUE, secs, task},
};

/// No worker of this store has run it.
pub async fn importing_counts_no_attempt(harness: &dyn StoreHarness) {
    let store = harness.store().await;
    let tasks = places(store.now());
    bring(
        &store,
        tasks.map(|place| import(task(place.state().as_str()), place)),
    )
    .await;
    let stats = stats(&store).await;
    assert_eq!((stats.succeeded, stats.failed, stats.lost), (0, 0, 0));
    assert_eq!(stats.total(), 5);
    assert_eq!(stats.archive, ArchiveStats::default());
    assert_eq!(hours(&store).await, []);
}

fn totals(hour: Timestamp) -> Totals {
    changed(Totals::default(), |totals| {
        totals.succeeded = 10;
        totals.failed = 4;
        totals.lost = 6;
        totals.archive = changed(ArchiveStats::default(), |archive| {
            archive.max = Some(1_000);
            archive.trimmed_by_count = 3;
            archive.trimmed_by_age = 2;
            archive.last_trimmed = Some(hour);
        });
        let before = hour - Duration::from_millis(HourStats::MILLIS);
        totals.hours = vec![
            // In this hour, all attempts were lost.
            HourStats::new(before, 0, 0).with_lost(5),
            HourStats::new(hour, 10, 4).with_lost(1),
        ];
    })
}

/// However often they are sent. Others are added to them.
pub async fn statistics_are_added_once(harness: &dyn StoreHarness) {
    let store = harness.store().await;
    let hour = HourStats::MILLIS;
    let hour = Timestamp::from_millis(store.now().as_millis() / hour * hour);
    let (queue, totals) = (Name::from(QUEUE), totals(hour));
    let add = async |id: &str| {
        store
            .absorb(&queue, &id.into(), Some(&totals))
            .await
            .unwrap()
    };
    assert!(add("one").await);
    assert!(!add("one").await);
    assert_eq!(store.queues().await.unwrap(), [QUEUE]);
    let once = stats(&store).await;
    assert_eq!((once.succeeded, once.failed, once.lost), (10, 4, 6));
    assert_eq!(once.archive, totals.archive);
    assert_eq!(hours(&store).await, totals.hours);
    assert!(add("two").await);
    assert!(!add("one").await);
    let twice = stats(&store).await;
    assert_eq!((twice.succeeded, twice.failed, twice.lost), (20, 8, 12));
    assert_eq!(twice.archive.trimmed(), 10);
    let mut sums = totals.hours.clone();
    for (sum, added) in sums.iter_mut().zip(&totals.hours) {
        sum.add(added);
    }
    assert_eq!(hours(&store).await, sums);
}

/// An id is also remembered with statistics that add nothing.
pub async fn asking_for_an_id_does_not_remember_it(harness: &dyn StoreHarness) {
    let store = harness.store().await;
    let queue = Name::from(QUEUE);
    let ask = async || store.absorb(&queue, &"one".into(), None).await.unwrap();
    assert!(ask().await);
    assert!(ask().await);
    assert_eq!(store.queues().await.unwrap(), [] as [Name; 0]);
    let nothing = Totals::default();
    let noted = store.absorb(&queue, &"one".into(), Some(&nothing)).await;
    assert!(noted.unwrap());
    assert!(!ask().await);
    assert!(store.absorb(&queue, &"two".into(), None).await.unwrap());
    assert!(store.delete_queue(&queue, false).await.unwrap());
    assert!(ask().await);
}

/// The limit that the servers of this store use stays, and so does the later time.
pub async fn statistics_do_not_replace_those_of_the_store(harness: &dyn StoreHarness) {
    let store = harness.store().await;
    let (queue, now) = (Name::from(QUEUE), store.now());
    let late = changed(totals(now), |totals| totals.archive.max = Some(7));
    let early = changed(totals(now - secs(60)), |totals| totals.hours.clear());
    for (id, totals) in [("late", &late), ("early", &early)] {
        assert!(
            store
                .absorb(&queue, &id.into(), Some(totals))
                .await
                .unwrap()
        );
    }
    let archive = stats(&store).await.archive;
    assert_eq!((archive.max, archive.last_trimmed), (Some(7), Some(now)));
    let none = Totals::default();
    assert!(
        store
            .absorb(&queue, &"none".into(), Some(&none))
            .await
            .unwrap()
    );
    assert_eq!(stats(&store).await.archive, archive);
}

/// A queue of the same name starts anew.
pub async fn statistics_are_forgotten_with_their_queue(harness: &dyn StoreHarness) {
    let store = harness.store().await;
    let (queue, totals) = (Name::from(QUEUE), totals(store.now()));
    let add = async || {
        store
            .absorb(&queue, &"one".into(), Some(&totals))
            .await
            .unwrap()
    };
    assert!(add().await);
    assert!(store.delete_queue(&queue, false).await.unwrap());
    assert_eq!(stats(&store).await.succeeded, 0);
    assert!(add().await);
    assert_eq!(stats(&store).await.succeeded, 10);
}

async fn hours(store: &Arc<dyn Store>) -> Vec<HourStats> {
    let all = store.history(&[QUEUE.into()], Timestamp::default()).await;
    all.unwrap().remove(0)
}
