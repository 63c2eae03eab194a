//! Figures over time.

use std::{slice, sync::Arc, time::Duration};

use asynqueue_core::{
    broker::{BrokerError, Counts, Point, PointQuery, Series, Store},
    task::Timestamp,
};
use tokio::task::JoinSet;

use super::StoreHarness;

const SERIES: Series = Series::FailureMinutes;

/// The start of the current minute.
fn minute(store: &Arc<dyn Store>) -> Timestamp {
    SERIES.start_of(store.now())
}

fn point(at: Timestamp, group: &str, key: &str, counts: &[(u8, u64)]) -> Point {
    Point {
        series: SERIES,
        at,
        group: group.into(),
        key: key.into(),
        counts: counts.iter().copied().collect(),
        note: key.to_owned().into(),
    }
}

async fn add(store: &Arc<dyn Store>, points: &[Point]) {
    store.add_points(points.to_vec()).await.unwrap();
}

fn all(series: Series) -> PointQuery {
    PointQuery::since(series, Timestamp::default())
}

async fn read(store: &Arc<dyn Store>, query: &PointQuery) -> Vec<Point> {
    store.points(query).await.unwrap()
}

/// The first note is kept.
pub async fn figures_of_one_key_and_time_are_added_up(harness: &dyn StoreHarness) {
    let store = harness.store().await;
    let at = minute(&store);
    let first = point(at, "q", "a", &[(0, 1), (7, 2)]);
    let mut second = point(at, "q", "a", &[(7, 3), (255, 4)]);
    second.note = "another note".into();
    add(&store, slice::from_ref(&first)).await;
    add(&store, &[second.clone(), second]).await;
    let sum = point(at, "q", "a", &[(0, 1), (7, 8), (255, 8)]);
    assert_eq!(read(&store, &all(SERIES)).await, [sum]);
    // A point without figures, such as an entry of a log.
    let mut bare = point(at, "q", "bare", &[]);
    bare.note = vec![0, 255, 10].into();
    add(&store, &[bare.clone(), bare.clone()]).await;
    assert_eq!(read(&store, &all(SERIES)).await[1], bare);
}

/// In whichever order they were added.
pub async fn points_are_returned_by_time_group_and_key(harness: &dyn StoreHarness) {
    let store = harness.store().await;
    let at = minute(&store);
    let before = at - Duration::from_secs(600);
    let points = [
        point(before, "b", "z", &[(1, 1)]),
        point(at, "a", "z", &[(1, 2)]),
        point(at, "b", "x", &[(1, 3)]),
        point(at, "b", "y", &[(1, 4)]),
        point(at, "bb", "a", &[(1, 5)]),
    ];
    let mut mixed = points.to_vec();
    mixed.reverse();
    mixed.swap(1, 3);
    add(&store, &mixed).await;
    assert_eq!(read(&store, &all(SERIES)).await, points);
}

/// The first time is that of the span which includes it.
pub async fn only_points_of_the_requested_time_and_key_are_returned(harness: &dyn StoreHarness) {
    let store = harness.store().await;
    let at = minute(&store);
    let ago = |minutes: u32| at - Duration::from_secs(60) * minutes;
    let points = [2, 1, 0].map(|minutes| point(ago(minutes), "q", "a", &[(0, 1)]));
    let mut other = points[0].clone();
    other.series = Series::FailureHours;
    other.at = other.series.start_of(at);
    add(&store, &points).await;
    add(&store, &[other, point(at, "q", "b", &[(0, 1)])]).await;
    let mut query = PointQuery::since(SERIES, ago(1) + Duration::from_secs(59));
    query.until = at;
    assert_eq!(read(&store, &query).await, points[1..2]);
    let mut query = all(SERIES);
    query.key = Some("a".into());
    assert_eq!(read(&store, &query).await, points);
    query.group = Some("q".into());
    assert_eq!(read(&store, &query).await, points);
    query.key = None;
    assert_eq!(read(&store, &query).await.len(), 4);
    query.group = Some("other".into());
    assert_eq!(read(&store, &query).await, []);
    assert_eq!(read(&store, &all(Series::FailureHours)).await.len(), 1);
    assert_eq!(read(&store, &all(Series::EventMinutes)).await, []);
}

/// The group and the key.
pub async fn names_of_points_of_any_text_do_not_collide(harness: &dyn StoreHarness) {
    let store = harness.store().await;
    let at = minute(&store);
    let names = [
        ("", "a"),
        ("", "a\n"),
        ("", "a\nb"),
        ("a", "\nb"),
        ("a", "b"),
        ("a\n", "b"),
        ("a\nb", "c"),
        ("\u{e9}", "{tag} 'quoted' \"1\""),
    ];
    let points = names.map(|(group, key)| point(at, group, key, &[(0, 1)]));
    add(&store, &points).await;
    assert_eq!(read(&store, &all(SERIES)).await, points);
    for (group, key) in names {
        let mut query = all(SERIES);
        query.group = Some(group.into());
        query.key = Some(key.into());
        let found = read(&store, &query).await;
        assert_eq!(found, [point(at, group, key, &[(0, 1)])]);
    }
}

/// Each group and each time has its own maximum.
pub async fn keys_beyond_the_maximum_of_a_group_are_added_to_the_rest(harness: &dyn StoreHarness) {
    let store = harness.store().await;
    let at = minute(&store);
    let max = SERIES.max_keys();
    let key = |n: usize| point(at, "full", &format!("k{n:03}"), &[(0, 1)]);
    let keys: Vec<_> = (0..max + 2).map(key).collect();
    add(&store, &keys[..max]).await;
    add(&store, &keys[max..]).await;
    // Known keys are still added to.
    add(&store, &keys[..1]).await;
    let before = at - Duration::from_secs(60);
    let beside = [
        point(before, "full", "other", &[(0, 1)]),
        point(at, "beside", "other", &[(0, 1)]),
    ];
    add(&store, &beside).await;
    let found = read(&store, &all(SERIES)).await;
    assert_eq!(found.len(), max + 3);
    let count = |point: &Point| {
        let key = (point.at == at && point.group == "full").then_some(&point.key);
        (key.cloned(), point.counts.get(0))
    };
    let found: Vec<_> = found.iter().map(count).collect();
    assert!(found.contains(&(Some(Point::REST), 2)), "{found:?}");
    assert!(found.contains(&(Some("k000".into()), 2)), "{found:?}");
    assert_eq!(found.iter().filter(|(key, _)| key.is_none()).count(), 2);
    let mut rest = all(SERIES);
    rest.group = Some("full".into());
    rest.key = Some(Point::REST);
    assert_eq!(read(&store, &rest).await[0].note, "");
}

/// Each series is kept for its own time.
pub async fn points_that_are_no_longer_kept_are_gone(harness: &dyn StoreHarness) {
    let store = harness.store().await;
    let at = minute(&store);
    let old = point(at, "q", "old", &[(0, 1)]);
    let mut long = old.clone();
    long.series = Series::FailureDays;
    long.at = Series::FailureDays.start_of(at);
    add(&store, &[old.clone(), long.clone()]).await;
    harness
        .advance(SERIES.kept() - Duration::from_secs(61))
        .await;
    assert_eq!(read(&store, &all(SERIES)).await, [old]);
    harness.advance(Duration::from_secs(122)).await;
    assert_eq!(read(&store, &all(SERIES)).await, []);
    let new = point(minute(&store), "q", "new", &[(0, 1)]);
    add(&store, slice::from_ref(&new)).await;
    assert_eq!(read(&store, &all(SERIES)).await, [new]);
    assert_eq!(read(&store, &all(Series::FailureDays)).await, [long]);
}

/// None is lost, and none is added twice.
pub async fn racing_figures_are_all_added(harness: &dyn StoreHarness) {
    let store = harness.store().await;
    let at = minute(&store);
    let mut racing = JoinSet::new();
    for n in 0..8 {
        let store = Arc::clone(&store);
        racing.spawn(async move {
            for _ in 0..5 {
                let mut both = vec![
                    point(at, "q", "a", &[(0, 1), (n, 1)]),
                    point(at, "q", "b", &[(0, 1)]),
                ];
                // In each order, so that stores that lock must do so in one.
                if n % 2 == 0 {
                    both.reverse();
                }
                store.add_points(both).await.unwrap();
            }
        });
    }
    racing.join_all().await;
    let found = read(&store, &all(SERIES)).await;
    let sums: Vec<_> = found.iter().map(|point| point.counts.get(0)).collect();
    assert_eq!(sums, [45, 40], "{found:?}");
}

/// The largest one.
pub async fn a_large_call_of_points_is_added(harness: &dyn StoreHarness) {
    let store = harness.store().await;
    let at = Series::EventHours.start_of(store.now());
    let counts: Vec<_> = (0..100).map(|slot| (slot, 1_000_000)).collect();
    let one = |n: usize| {
        let mut point = point(at, "", &format!("event-{n:04}"), &counts);
        point.series = Series::EventHours;
        point
    };
    let points: Vec<_> = (0..Point::MAX_CALL).map(one).collect();
    add(&store, &points).await;
    assert_eq!(read(&store, &all(Series::EventHours)).await, points);
}

/// Up to 2^53.
pub async fn large_figures_are_exact(harness: &dyn StoreHarness) {
    let store = harness.store().await;
    let at = minute(&store);
    let large = (1 << 53) - 3;
    add(&store, &[point(at, "q", "a", &[(0, large)])]).await;
    add(&store, &[point(at, "q", "a", &[(0, 1)])]).await;
    let found = read(&store, &all(SERIES)).await;
    assert_eq!(found[0].counts, Counts::from_iter([(0, large + 1)]));
}

/// It returns an error.
pub async fn a_closed_store_has_no_points(harness: &dyn StoreHarness) {
    let store = harness.store().await;
    let one = point(minute(&store), "q", "a", &[(0, 1)]);
    store.close().await;
    let closed = |result: Result<(), BrokerError>| matches!(result, Err(BrokerError::Closed));
    assert!(closed(store.add_points(vec![one]).await));
    assert!(closed(store.points(&all(SERIES)).await.map(drop)));
}
