//! Reading the audit: ranges, filters and pages, and the versions that were deployed.

use std::time::Duration;

use asynqueue_core::{
    broker::{Broker, Control, Counts, Inspect, Point, PointQuery, Series},
    inspector::{AuditCursor, AuditEntry, AuditQuery, Inspector},
    memory::MemoryBroker,
    process::{Context, Payload, TaskError},
    server::{Server, ServerHandle},
    task::{Name, Timestamp},
    testing::TestClock,
};
use bytes::Bytes;

use crate::harness::{AN_HOUR, Job, until};

const DAY: Duration = Duration::from_secs(24 * 3_600);

fn stage() -> (TestClock, MemoryBroker) {
    let clock = TestClock::default();
    let broker = MemoryBroker::with_clock(clock.clone());
    (clock, broker)
}

async fn pause(broker: &MemoryBroker, who: &str, queue: &str) {
    let inspector = Inspector::new(broker.clone()).acting_as(who);
    inspector.pause(&[queue.into()]).await.unwrap();
}

/// The queues of the entries, newest first.
async fn queues(inspector: &Inspector, query: &AuditQuery) -> Vec<String> {
    let entries = inspector.audit(query).await.unwrap().entries;
    let name = |entry: &AuditEntry| entry.on.name().to_string();
    entries.iter().map(name).collect()
}

#[tokio::test]
async fn entries_are_found_by_time_place_and_actor_as_long_as_they_are_kept() {
    let (clock, broker) = stage();
    let inspector = Inspector::new(broker.clone());
    pause(&broker, "ada", "old").await;
    clock.advance(89 * DAY);
    pause(&broker, "bob", "b").await;
    clock.advance(Duration::from_secs(600));
    let at = inspector.now();
    pause(&broker, "Ada", "c").await;
    clock.advance(AN_HOUR);
    pause(&broker, "ada", "d").await;

    let all = AuditQuery::default();
    assert_eq!(queues(&inspector, &all).await, ["d", "c", "b", "old"]);
    let mut query = AuditQuery::default();
    query.actor = Some("ADA".into());
    assert_eq!(queues(&inspector, &query).await, ["d", "c", "old"]);
    let mut query = AuditQuery::default();
    (query.from, query.until) = (at, at + Duration::from_secs(1));
    assert_eq!(queues(&inspector, &query).await, ["c"]);
    assert_eq!(queues(&inspector, &AuditQuery::of_queue("b")).await, ["b"]);
    clock.advance(2 * DAY);
    assert_eq!(queues(&inspector, &all).await, ["d", "c", "b"]);
}

#[tokio::test]
async fn pages_continue_where_the_last_one_ended() {
    let (clock, broker) = stage();
    let inspector = Inspector::new(broker.clone());
    // Several in a millisecond, and some in other hours.
    for n in 0..25 {
        pause(&broker, "ada", &format!("q{n}")).await;
        if n % 5 == 4 {
            clock.advance(Duration::from_secs(5_000));
        }
    }
    let (mut query, mut found) = (AuditQuery::default(), Vec::new());
    query.limit = 7;
    loop {
        let page = inspector.audit(&query).await.unwrap();
        found.extend(page.entries);
        let Some(next) = page.next else { break };
        let parsed = next.to_string().parse::<AuditCursor>().unwrap();
        assert_eq!(parsed, next);
        query.after = Some(parsed);
    }
    let found: Vec<_> = found.iter().map(|entry| entry.on.name().clone()).collect();
    let expected: Vec<Name> = (0..25).rev().map(|n| format!("q{n}").into()).collect();
    assert_eq!(found, expected);
    let invalid = "yesterday".parse::<AuditCursor>().unwrap_err();
    assert!(invalid.to_string().contains("`yesterday`"));
}

/// Their number in one span is unknown before it is read.
#[tokio::test]
async fn many_entries_of_an_hour_are_all_found() {
    let (clock, broker) = stage();
    let inspector = Inspector::new(broker.clone());
    pause(&broker, "ada", "first").await;
    clock.advance(30 * DAY);
    let queues: Vec<Name> = (0..700).map(|n| format!("q{n}").into()).collect();
    inspector.pause(&queues).await.unwrap();
    clock.advance(2 * AN_HOUR);
    let mut query = AuditQuery::default();
    query.limit = 1_000;
    assert_eq!(inspector.audit(&query).await.unwrap().entries.len(), 701);
}

async fn add(broker: &MemoryBroker, key: &'static str, note: Vec<u8>) {
    let point = Point {
        series: Series::Audit,
        at: Series::Audit.start_of(broker.now()),
        group: "mail".into(),
        key: key.into(),
        counts: Counts::default(),
        note: Bytes::from(note),
    };
    broker.add_points(vec![point]).await.unwrap();
}

#[tokio::test]
async fn entries_of_later_versions_are_read_as_far_as_they_are_understood() {
    let (_, broker) = stage();
    pause(&broker, "ada", "mail").await;
    let query = PointQuery::since(Series::Audit, broker.now());
    let written = broker.points(&query).await.unwrap().remove(0).note;
    let mut entry: serde_json::Value = rmp_serde::from_slice(&written).unwrap();
    entry["action"] = "explode".into();
    entry["on"] = serde_json::json!(["galaxy", "andromeda"]);
    entry["unknown"] = serde_json::json!({ "a": 1 });
    add(&broker, "later", rmp_serde::to_vec_named(&entry).unwrap()).await;
    add(&broker, "broken", b"\xc1".to_vec()).await;
    let found = Inspector::new(broker).audit(&AuditQuery::default()).await;
    let entries = found.unwrap().entries;
    assert_eq!(entries.len(), 2);
    let later = entries.iter().find(|entry| entry.id == "later").unwrap();
    assert_eq!(later.describe(), "explode galaxy andromeda");
    assert_eq!(later.kind(), None);
}

async fn server(broker: &MemoryBroker, version: &str) -> ServerHandle {
    let handle = |_: Payload<Job>, _: Context| async { Ok::<_, TaskError>(()) };
    let server = Server::builder(broker.clone()).process(handle);
    server.version(version).start().await.unwrap()
}

async fn versions(inspector: &Inspector, since: Timestamp) -> Vec<String> {
    let deploys = inspector.deploys(since).await.unwrap();
    deploys.into_iter().map(|(_, version)| version).collect()
}

#[tokio::test]
async fn a_version_is_recorded_when_its_first_server_starts_and_not_when_one_restarts() {
    let (clock, broker) = stage();
    let inspector = Inspector::new(broker.clone());
    let start = inspector.now();
    let expect = async |since, expected: &[&str]| {
        until("the version is recorded", async || {
            versions(&inspector, since).await == expected
        })
        .await;
    };
    let old = server(&broker, "1.0").await;
    expect(start, &["1.0"]).await;
    clock.advance(20 * DAY);
    let second = inspector.now();
    // Servers that start together record it once.
    let (a, b) = (server(&broker, "1.1").await, server(&broker, "1.1").await);
    expect(second, &["1.1"]).await;
    for server in [a, b, old] {
        server.shutdown().await.unwrap();
    }
    clock.advance(AN_HOUR);
    let restarted = server(&broker, "1.1").await;
    let is_listed = async || !inspector.servers().await.unwrap().is_empty();
    until("the restarted server reports itself", is_listed).await;
    restarted.shutdown().await.unwrap();
    clock.advance(AN_HOUR);
    let rollback = server(&broker, "1.0").await;
    expect(start, &["1.0", "1.1", "1.0"]).await;
    let found = inspector.audit(&AuditQuery::default()).await.unwrap();
    let words: Vec<_> = found.entries.iter().map(AuditEntry::describe).collect();
    let expected = ["1.0", "1.1", "1.0"].map(|version| format!("deployed version {version}"));
    assert_eq!(words, expected);
    rollback.shutdown().await.unwrap();
}
