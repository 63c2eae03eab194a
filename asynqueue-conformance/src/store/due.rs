//! Documents by due time.

use std::time::Duration;

use asynqueue_core::{
    broker::{DueDocuments, Space},
    task::Timestamp,
};

use super::{
    StoreHarness,
    documents::{put, remove, swap},
};

const SPACE: Space = Space::Schedules;

fn names(found: &DueDocuments) -> Vec<&str> {
    let documents = found.documents.iter();
    documents.map(|(name, _)| name.as_str()).collect()
}

/// They are not due before, by the store's clock.
pub async fn documents_are_due_at_their_time_earliest_first(harness: &dyn StoreHarness) {
    let store = harness.store().await;
    let now = store.now();
    let second = Duration::from_secs(1);
    let set = vec![
        put("later", "2", Some(now + second * 20)),
        put("second", "1", Some(now - second)),
        put("first", "0", Some(now - second * 2)),
        put("soon", "3", Some(now + second * 10)),
    ];
    assert!(swap(&store, set).await);
    let found = store.due(SPACE, 10).await.unwrap();
    assert_eq!(names(&found), ["first", "second"]);
    assert_eq!(found.next_due, Some(now + second * 10));
    assert_eq!(found.now, store.now());
    let (_, first) = &found.documents[0];
    assert_eq!(first.bytes, "0");
    assert_eq!(
        store.document(SPACE, &["first".into()]).await.unwrap(),
        [Some(first.clone())]
    );
    harness.advance(second * 10).await;
    let found = store.due(SPACE, 10).await.unwrap();
    assert_eq!(names(&found), ["first", "second", "soon"]);
    assert_eq!(found.next_due, Some(now + second * 20));
    let elsewhere = store.due(Space::Removals, 10).await.unwrap();
    assert_eq!((names(&elsewhere), elsewhere.next_due), (vec![], None));
}

/// The next one is then already due.
pub async fn at_most_limit_documents_are_returned(harness: &dyn StoreHarness) {
    let store = harness.store().await;
    let at = |millis| Some(Timestamp::from_millis(millis));
    let set = (1..=9)
        .map(|n| put(&format!("d{n}"), "text", at(n)))
        .collect();
    assert!(swap(&store, set).await);
    let found = store.due(SPACE, 4).await.unwrap();
    assert_eq!(names(&found), ["d1", "d2", "d3", "d4"]);
    assert_eq!(found.next_due, at(5));
    let none = store.due(SPACE, 0).await.unwrap();
    assert_eq!((names(&none).len(), none.next_due), (0, at(1)));
    let all = store.due(SPACE, usize::MAX).await.unwrap();
    assert_eq!((all.documents.len(), all.next_due), (9, None));
}

/// Its old time is forgotten.
pub async fn a_document_that_is_put_again_is_due_at_its_new_time(harness: &dyn StoreHarness) {
    let store = harness.store().await;
    let hour = Duration::from_secs(3_600);
    let in_an_hour = store.now() + hour;
    let long_ago = Some(Timestamp::from_millis(1));
    assert!(swap(&store, vec![put("a", "one", long_ago)]).await);
    assert!(swap(&store, vec![put("a", "two", Some(in_an_hour))]).await);
    let found = store.due(SPACE, 10).await.unwrap();
    assert_eq!((names(&found), found.next_due), (vec![], Some(in_an_hour)));
    assert!(swap(&store, vec![put("a", "three", long_ago)]).await);
    let found = store.due(SPACE, 10).await.unwrap();
    assert_eq!((names(&found), found.next_due), (vec!["a"], None));
    assert!(swap(&store, vec![remove("a")]).await);
    let found = store.due(SPACE, 10).await.unwrap();
    assert_eq!((names(&found), found.next_due), (vec![], None));
}

/// Even if it had a time before.
pub async fn a_document_without_a_time_is_never_due(harness: &dyn StoreHarness) {
    let store = harness.store().await;
    let long_ago = Some(Timestamp::from_millis(1));
    assert!(
        swap(
            &store,
            vec![put("a", "one", long_ago), put("b", "one", None)]
        )
        .await
    );
    assert!(swap(&store, vec![put("a", "two", None)]).await);
    let found = store.due(SPACE, 10).await.unwrap();
    assert_eq!((names(&found), found.next_due), (vec![], None));
}
