//! Small records and the sets of their changes.

use std::sync::Arc;

use asynqueue_core::{
    broker::{BrokerError, Document, DocumentSwap, Expect, Put, Space, Store, Swapped, Version},
    task::{Name, Timestamp},
};
use bytes::Bytes;
use tokio::task::JoinSet;

use super::StoreHarness;

const SPACE: Space = Space::Schedules;

pub(super) fn put(name: &str, text: &str, due: Option<Timestamp>) -> DocumentSwap {
    let put = Put::Set(Bytes::from(text.to_owned()), due);
    DocumentSwap::new(SPACE, name, Expect::Any, put)
}

fn expecting(expect: Expect, change: DocumentSwap) -> DocumentSwap {
    DocumentSwap { expect, ..change }
}

fn look(name: &str) -> DocumentSwap {
    DocumentSwap::new(SPACE, name, Expect::Any, Put::Keep)
}

pub(super) fn remove(name: &str) -> DocumentSwap {
    DocumentSwap::new(SPACE, name, Expect::Any, Put::Remove)
}

/// Applies one set of changes. Returns whether it was made.
pub(super) async fn swap(store: &Arc<dyn Store>, set: Vec<DocumentSwap>) -> bool {
    let swapped = store.swap(vec![set]).await.unwrap();
    assert_eq!(swapped.len(), 1, "one result per set");
    swapped[0].is_done
}

async fn document(store: &Arc<dyn Store>, name: &str) -> Option<Document> {
    let mut found = store.document(SPACE, &[name.into()]).await.unwrap();
    assert_eq!(found.len(), 1, "one result per name");
    found.remove(0)
}

async fn text(store: &Arc<dyn Store>, name: &str) -> Option<String> {
    let found = document(store, name).await;
    found.map(|found| String::from_utf8(found.bytes.to_vec()).unwrap())
}

async fn version(store: &Arc<dyn Store>, name: &str) -> Version {
    document(store, name).await.expect("a document").version
}

/// Any bytes are stored, and the time to the millisecond.
pub async fn a_document_is_stored_unchanged(harness: &dyn StoreHarness) {
    let store = harness.store().await;
    let all_bytes: Vec<u8> = (0..=255).collect();
    let time = Timestamp::from_millis(1_767_225_600_123);
    for (name, bytes, due) in [
        ("all", Bytes::from(all_bytes), Some(time)),
        ("empty", Bytes::new(), None),
    ] {
        let set = Put::Set(bytes.clone(), due);
        assert!(
            swap(
                &store,
                vec![DocumentSwap::new(SPACE, name, Expect::Any, set)]
            )
            .await
        );
        let found = document(&store, name).await.expect(name);
        assert_eq!((found.bytes, found.due), (bytes, due), "{name}");
    }
    let names = ["unknown", "all", "empty", "all"].map(Name::from);
    let found = store.document(SPACE, &names).await.unwrap();
    let is_there: Vec<_> = found.iter().map(Option::is_some).collect();
    assert_eq!(is_there, [false, true, true, true]);
    assert_eq!(found[1], found[3]);
}

/// Each space has its own document of a name.
pub async fn documents_are_listed_by_name_and_space(harness: &dyn StoreHarness) {
    let store = harness.store().await;
    assert_eq!(store.documents(SPACE).await.unwrap(), []);
    let mut set: Vec<_> = ["b", "a", "c"].map(|name| put(name, name, None)).into();
    for space in Space::ALL {
        let text = Bytes::from(space.as_str());
        set.push(DocumentSwap::new(
            space,
            "of-space",
            Expect::Any,
            Put::Set(text, None),
        ));
    }
    assert!(swap(&store, set).await);
    let names = |all: Vec<(Name, Document)>| all.into_iter().map(|(name, _)| name);
    let listed = names(store.documents(SPACE).await.unwrap());
    assert_eq!(listed.collect::<Vec<_>>(), ["a", "b", "c", "of-space"]);
    for space in Space::ALL {
        let found = store.document(space, &["of-space".into()]).await.unwrap();
        assert_eq!(found[0].as_ref().unwrap().bytes, space.as_str());
    }
}

/// Names are what users call their entries, and may be any text.
pub async fn names_of_any_text_do_not_collide(harness: &dyn StoreHarness) {
    let store = harness.store().await;
    let long = "x".repeat(1_000);
    let names = [
        "a",
        "A",
        "a b",
        "a\nb",
        "a\n",
        "ä {b}",
        "*",
        "a:b",
        "\u{1f980}",
        &long,
    ];
    let set = names.map(|name| put(name, name, None)).into();
    assert!(swap(&store, set).await);
    for name in names {
        assert_eq!(text(&store, name).await.as_deref(), Some(name));
    }
    assert_eq!(store.documents(SPACE).await.unwrap().len(), names.len());
}

/// The version is the same however often the document is read.
pub async fn each_content_has_a_unique_version(harness: &dyn StoreHarness) {
    let store = harness.store().await;
    let mut seen = Vec::new();
    for text in ["one", "two", "three"] {
        assert!(swap(&store, vec![put("a", text, None)]).await);
        let version = version(&store, "a").await;
        assert!(!seen.contains(&version), "{text}: {version:?} of {seen:?}");
        seen.push(version);
    }
    assert!(swap(&store, vec![look("a")]).await);
    assert_eq!(version(&store, "a").await, seen[2]);
    let listed = store.documents(SPACE).await.unwrap();
    assert_eq!(listed[0].1.version, seen[2]);
}

/// A document that changed, was removed or appeared stays unchanged.
pub async fn a_change_requires_the_expected_version(harness: &dyn StoreHarness) {
    let store = harness.store().await;
    let any = Expect::Any;
    assert!(
        swap(
            &store,
            vec![expecting(Expect::Absent, put("a", "one", None))]
        )
        .await
    );
    assert!(
        !swap(
            &store,
            vec![expecting(Expect::Absent, put("a", "two", None))]
        )
        .await
    );
    let first = Expect::Version(version(&store, "a").await);
    assert!(swap(&store, vec![expecting(first, put("a", "two", None))]).await);
    assert!(!swap(&store, vec![expecting(first, put("a", "three", None))]).await);
    assert!(!swap(&store, vec![expecting(first, remove("a"))]).await);
    assert!(!swap(&store, vec![expecting(first, put("unknown", "one", None))]).await);
    assert_eq!(text(&store, "a").await.as_deref(), Some("two"));
    assert_eq!(text(&store, "unknown").await, None);
    assert!(swap(&store, vec![expecting(any, put("a", "four", None))]).await);
    let last = Expect::Version(version(&store, "a").await);
    assert!(swap(&store, vec![expecting(last, remove("a"))]).await);
    assert!(swap(&store, vec![expecting(Expect::Absent, remove("a"))]).await);
}

/// If any of its changes does not find the expected version, none is made.
pub async fn a_set_is_all_or_nothing(harness: &dyn StoreHarness) {
    let store = harness.store().await;
    let absent = |name| expecting(Expect::Absent, put(name, "new", None));
    assert!(
        swap(
            &store,
            vec![put("there", "old", None), put("other", "old", None)]
        )
        .await
    );
    let elsewhere = DocumentSwap::new(
        Space::Marks,
        "mark",
        Expect::Any,
        Put::Set("new".into(), None),
    );
    for set in [
        vec![absent("a"), elsewhere.clone(), absent("there")],
        vec![absent("there"), elsewhere.clone(), absent("a")],
        vec![
            remove("there"),
            absent("a"),
            expecting(Expect::Absent, look("other")),
        ],
    ] {
        assert!(!swap(&store, set).await);
        assert_eq!(text(&store, "a").await, None);
        assert_eq!(text(&store, "there").await.as_deref(), Some("old"));
        let marks = store.document(Space::Marks, &["mark".into()]).await;
        assert_eq!(marks.unwrap(), [None]);
    }
    assert!(swap(&store, vec![absent("a"), elsewhere, remove("there")]).await);
    assert_eq!(text(&store, "a").await.as_deref(), Some("new"));
    assert_eq!(text(&store, "there").await, None);
}

/// A set that is not made does not affect the others, and each set sees the changes of the previous ones.
pub async fn sets_are_made_in_order(harness: &dyn StoreHarness) {
    let store = harness.store().await;
    let absent = |text| vec![expecting(Expect::Absent, put("a", text, None)), look("b")];
    let sets = vec![
        absent("one"),
        absent("two"),
        vec![remove("a"), put("b", "between", None)],
        absent("three"),
    ];
    let swapped = store.swap(sets).await.unwrap();
    let done: Vec<_> = swapped.iter().map(|set| set.is_done).collect();
    assert_eq!(done, [true, false, true, true]);
    let kept = |set: &Swapped| set.kept.iter().flatten().count();
    assert_eq!(swapped.iter().map(kept).collect::<Vec<_>>(), [0, 0, 0, 1]);
    assert_eq!(text(&store, "a").await.as_deref(), Some("three"));
    assert_eq!(store.swap(Vec::new()).await.unwrap(), []);
}

/// They are returned in the order of the set.
pub async fn documents_to_keep_are_returned_whether_or_not_the_set_is_made(
    harness: &dyn StoreHarness,
) {
    let store = harness.store().await;
    let time = Timestamp::from_millis(5_000);
    assert!(
        swap(
            &store,
            vec![put("a", "one", Some(time)), put("b", "two", None)]
        )
        .await
    );
    let before = store
        .document(SPACE, &["b", "unknown", "a"].map(Name::from))
        .await
        .unwrap();
    let all = || vec![look("b"), look("unknown"), look("a")];
    let mut refused = all();
    refused.push(expecting(Expect::Absent, put("a", "three", None)));
    let mut made = all();
    made.insert(1, put("c", "three", None));
    let swapped = store.swap(vec![refused, made]).await.unwrap();
    assert_eq!((swapped[0].is_done, swapped[1].is_done), (false, true));
    assert_eq!(swapped[0].kept, before);
    assert_eq!(swapped[1].kept, before);
}

/// It is removed from all lists, and can be put again.
pub async fn a_removed_document_is_gone(harness: &dyn StoreHarness) {
    let store = harness.store().await;
    let due = Some(Timestamp::from_millis(1));
    assert!(swap(&store, vec![put("a", "one", due), put("b", "two", due)]).await);
    assert!(swap(&store, vec![remove("a"), remove("unknown")]).await);
    assert_eq!(document(&store, "a").await, None);
    let all = store.documents(SPACE).await.unwrap();
    assert_eq!(all.len(), 1, "{all:?}");
    let found = store.due(SPACE, 10).await.unwrap();
    assert_eq!(found.documents.len(), 1, "{found:?}");
    assert!(
        swap(
            &store,
            vec![expecting(Expect::Absent, put("a", "three", None))]
        )
        .await
    );
    assert_eq!(text(&store, "a").await.as_deref(), Some("three"));
}

async fn count_up(store: Arc<dyn Store>, names: [&str; 2]) {
    loop {
        let set = names.map(look).to_vec();
        let seen = store.swap(vec![set]).await.unwrap().remove(0).kept;
        let set = names.iter().zip(seen).map(|(name, seen)| {
            let seen = seen.expect("a document");
            let count: u32 = std::str::from_utf8(&seen.bytes).unwrap().parse().unwrap();
            let counted = put(name, &(count + 1).to_string(), None);
            expecting(Expect::Version(seen.version), counted)
        });
        if swap(&store, set.collect()).await {
            return;
        }
    }
}

/// No change is overwritten by another that had read the document before.
pub async fn racing_changes_of_a_document_are_all_kept(harness: &dyn StoreHarness) {
    let store = harness.store().await;
    assert!(swap(&store, vec![put("a", "0", None), put("b", "0", None)]).await);
    let mut changes = JoinSet::new();
    for _ in 0..12 {
        changes.spawn(count_up(Arc::clone(&store), ["a", "b"]));
    }
    changes.join_all().await;
    assert_eq!(text(&store, "a").await.as_deref(), Some("12"));
    assert_eq!(text(&store, "b").await.as_deref(), Some("12"));
}

/// Readers never see a partially made set.
pub async fn racing_sets_over_several_documents_are_all_or_nothing(harness: &dyn StoreHarness) {
    let store = harness.store().await;
    let names = ["a", "b", "c"];
    assert!(swap(&store, names.map(|name| put(name, "0", None)).into()).await);
    let mut sets = JoinSet::new();
    for n in 1..=8 {
        let store = Arc::clone(&store);
        sets.spawn(async move {
            let text = n.to_string();
            for _ in 0..5 {
                assert!(swap(&store, names.map(|name| put(name, &text, None)).into()).await);
                let seen = store.swap(vec![names.map(look).into()]).await.unwrap();
                let seen = seen[0].kept.iter().flatten().map(|seen| &seen.bytes);
                let seen: Vec<_> = seen.collect();
                assert!(
                    seen.len() == 3 && seen.iter().all(|one| *one == seen[0]),
                    "{seen:?}"
                );
            }
        });
    }
    sets.join_all().await;
}

/// More sets than a store may send in one request.
pub async fn a_large_number_of_sets_is_applied(harness: &dyn StoreHarness) {
    let store = harness.store().await;
    let name = |n: usize| format!("document-{n:04}");
    let set = |n| vec![expecting(Expect::Absent, put(&name(n), "text", None))];
    let swapped = store.swap((0..2_000).map(set).collect()).await.unwrap();
    assert_eq!(swapped.len(), 2_000);
    assert!(swapped.iter().all(|set| set.is_done));
    let names: Vec<_> = (0..2_000).map(|n| Name::from(name(n))).collect();
    let found = store.document(SPACE, &names).await.unwrap();
    assert_eq!(found.iter().flatten().count(), 2_000);
    let all = store.documents(SPACE).await.unwrap();
    let listed: Vec<_> = all.into_iter().map(|(name, _)| name).collect();
    assert_eq!(listed, names);
}

/// The history of an entry can be large.
pub async fn a_large_document_is_stored(harness: &dyn StoreHarness) {
    let store = harness.store().await;
    let large = "0123456789abcdef".repeat(1 << 16);
    assert!(swap(&store, vec![put("a", &large, None)]).await);
    assert_eq!(text(&store, "a").await, Some(large));
}

/// All calls return `Closed`.
pub async fn a_closed_store_has_no_documents(harness: &dyn StoreHarness) {
    let store = harness.store().await;
    store.close().await;
    fn is_closed<T>(answer: Result<T, BrokerError>) -> bool {
        matches!(answer, Err(BrokerError::Closed))
    }
    assert!(is_closed(store.document(SPACE, &["a".into()]).await));
    assert!(is_closed(store.documents(SPACE).await));
    assert!(is_closed(store.swap(vec![vec![look("a")]]).await));
    assert!(is_closed(store.swap(Vec::new()).await));
    assert!(is_closed(store.due(SPACE, 1).await));
    assert!(is_closed(store.edit(&[]).await));
}
