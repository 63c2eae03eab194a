//! Documents as Redis stores them. The requirements for all stores are in the conformance suite.

mod common;

use std::time::Duration;

use asynqueue_core::{
    broker::{Document, DocumentSwap, Expect, Put, Space, Store, Swapped, Version},
    task::{Name, Timestamp},
};
use asynqueue_redis::RedisBroker;
use asynqueue_test_servers::{Monitor, RedisCluster, RedisServer, undeclared_keys};
use common::connect;
use redis::{AsyncCommands, cmd};

fn set(space: Space, name: &str, content: &'static str, due: Option<u64>) -> DocumentSwap {
    let put = Put::Set(content.into(), due.map(Timestamp::from_millis));
    DocumentSwap::new(space, name, Expect::Any, put)
}

fn keep(space: Space, name: &str) -> DocumentSwap {
    DocumentSwap::new(space, name, Expect::Any, Put::Keep)
}

fn remove(space: Space, name: &str) -> DocumentSwap {
    DocumentSwap::new(space, name, Expect::Any, Put::Remove)
}

async fn swap(broker: &RedisBroker, sets: Vec<Vec<DocumentSwap>>) -> Vec<Swapped> {
    broker.swap(sets).await.expect("swapped")
}

async fn read(broker: &RedisBroker, space: Space, name: &str) -> Option<Document> {
    let found = broker.document(space, &[name.into()]).await;
    found.expect("a response").remove(0)
}

async fn every_space_at_once(broker: &RedisBroker) {
    let all = |content| {
        let mut sets = Space::ALL
            .map(|space| set(space, "n", content, Some(1)))
            .to_vec();
        sets.extend(Space::ALL.map(|space| keep(space, "n")));
        sets
    };
    let swapped = swap(broker, vec![all("one"), all("two")]).await;
    assert!(swapped.iter().all(|swapped| swapped.is_done));
    assert_eq!(swapped[0].kept, vec![None; Space::ALL.len()]);
    let before: Vec<_> = swapped[1].kept.iter().flatten().collect();
    assert_eq!(before.len(), Space::ALL.len());
    assert!(before.iter().all(|document| *document.bytes == *b"one"));
    for space in Space::ALL {
        let due = broker.due(space, 10).await.expect("a response");
        let [(name, document)] = &due.documents[..] else {
            panic!("{due:?}");
        };
        assert_eq!((name.as_str(), &*document.bytes), ("n", &b"two"[..]));
        assert_eq!(due.next_due, None);
    }
}

#[tokio::test]
async fn one_step_changes_documents_of_all_spaces_by_declared_keys_alone() {
    let server = RedisServer::start().await;
    let broker = connect(&server.url()).await;
    let monitor = Monitor::start(&server).await;
    every_space_at_once(&broker).await;
    let seen = monitor.stop().await;
    assert_eq!(undeclared_keys(&seen), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_step_changes_documents_of_all_spaces_on_a_cluster_too() {
    let cluster = RedisCluster::start().await;
    every_space_at_once(&connect(&cluster.url()).await).await;
}

#[tokio::test]
async fn a_document_that_is_created_again_has_a_new_version() {
    let server = RedisServer::start().await;
    let broker = connect(&server.url()).await;
    let make = || vec![vec![set(Space::Marks, "m", "same", None)]];
    swap(&broker, make()).await;
    let before = read(&broker, Space::Marks, "m").await.expect("a document");
    swap(&broker, vec![vec![remove(Space::Marks, "m")]]).await;
    swap(&broker, make()).await;
    let as_before = Expect::Version(before.version);
    let stale = DocumentSwap::new(Space::Marks, "m", as_before, Put::Remove);
    let swapped = swap(&broker, vec![vec![stale]]).await;
    assert!(!swapped[0].is_done);
}

#[tokio::test]
async fn changes_beyond_one_call_are_made_in_order() {
    let server = RedisServer::start().await;
    let broker = connect(&server.url()).await;
    let names: Vec<Name> = (0..1_300).map(|n| format!("{n:04}").into()).collect();
    let due = |n: usize| n.is_multiple_of(2).then(|| n as u64 + 1);
    let sets = names.iter().enumerate();
    let sets = sets.map(|(n, name)| vec![set(Space::Schedules, name, "x", due(n))]);
    let swapped = swap(&broker, sets.collect()).await;
    assert_eq!(
        swapped.iter().filter(|swapped| swapped.is_done).count(),
        1_300
    );
    let all = broker
        .documents(Space::Schedules)
        .await
        .expect("a response");
    assert!(all.iter().map(|(name, _)| name).eq(&names));
    let found = broker.document(Space::Schedules, &names).await;
    assert_eq!(found.expect("a response").iter().flatten().count(), 1_300);
    let due = broker.due(Space::Schedules, 600).await.expect("a response");
    let every_other = names.iter().step_by(2).take(600);
    assert!(due.documents.iter().map(|(name, _)| name).eq(every_other));
    assert_eq!(due.next_due, Some(Timestamp::from_millis(1_201)));
}

/// A value that was not written as a document, and a name with a due time but no document.
#[tokio::test]
async fn an_invalid_document_hides_no_other_and_is_replaced() {
    let server = RedisServer::start().await;
    let broker = connect(&server.url()).await;
    let mut connection = server.connection().await;
    let hash = "aq:{documents}:schedules";
    let () = connection.hset(hash, "foreign", "x").await.expect("set");
    for name in ["foreign", "gone"] {
        let mut due = cmd("ZADD");
        due.arg("aq:{documents}:schedules:due").arg(1).arg(name);
        let () = due.query_async(&mut connection).await.expect("set");
    }
    swap(
        &broker,
        vec![vec![set(Space::Schedules, "own", "x", Some(2))]],
    )
    .await;
    assert_eq!(read(&broker, Space::Schedules, "foreign").await, None);
    let all = broker
        .documents(Space::Schedules)
        .await
        .expect("a response");
    assert_eq!(all.len(), 1);
    let due = broker.due(Space::Schedules, 1).await.expect("a response");
    assert_eq!(due.documents[0].0, "own");
    let put = Put::Set("mine".into(), None);
    let added = DocumentSwap::new(Space::Schedules, "foreign", Expect::Absent, put);
    assert!(swap(&broker, vec![vec![added]]).await[0].is_done);
    let found = read(&broker, Space::Schedules, "foreign").await;
    assert_eq!(&*found.expect("a document").bytes, b"mine");
}

/// Callers that want to free memory can.
#[tokio::test]
async fn a_redis_without_memory_lets_documents_be_removed() {
    let server = RedisServer::start().await;
    let broker = connect(&server.url()).await;
    swap(
        &broker,
        vec![vec![set(Space::Schedules, "n", "x", Some(1))]],
    )
    .await;
    let seen = read(&broker, Space::Schedules, "n")
        .await
        .expect("a document");
    let mut connection = server.connection().await;
    let mut full = cmd("CONFIG");
    full.arg(&["SET", "maxmemory", "1"]);
    let () = full.query_async(&mut connection).await.expect("set");
    let more = broker
        .swap(vec![vec![set(Space::Marks, "m", "x", None)]])
        .await;
    assert!(more.is_err());
    let as_seen = Expect::Version(seen.version);
    let removal = vec![
        set(Space::Removals, "n", "", Some(9)),
        DocumentSwap::new(Space::Schedules, "n", as_seen, Put::Remove),
    ];
    assert!(swap(&broker, vec![removal]).await[0].is_done);
    assert_eq!(read(&broker, Space::Schedules, "n").await, None);
}

#[tokio::test]
async fn a_time_beyond_the_exact_range_is_stored_as_the_latest_one() {
    let server = RedisServer::start().await;
    let broker = connect(&server.url()).await;
    let far = Timestamp::default() + Duration::MAX;
    let put = Put::Set("x".into(), Some(far));
    let change = DocumentSwap::new(
        Space::Schedules,
        "n",
        Expect::Version(Version(1)),
        put.clone(),
    );
    assert!(!swap(&broker, vec![vec![change]]).await[0].is_done);
    let change = DocumentSwap::new(Space::Schedules, "n", Expect::Absent, put);
    assert!(swap(&broker, vec![vec![change]]).await[0].is_done);
    let due = broker.due(Space::Schedules, 1).await.expect("a response");
    let found = read(&broker, Space::Schedules, "n")
        .await
        .expect("a document");
    assert_eq!((due.documents.len(), due.next_due), (0, found.due));
}
