//! Servers and subscribers.

use asynqueue_core::{
    broker::{QuietRequest, RunningTask, ServerInfo, Subscription, UnhandledTasks},
    task::{Name, TaskRef, Timestamp},
};

use super::{
    Harness,
    fixture::{Fixture, id, secs},
};

fn server(name: &str) -> ServerInfo {
    let mut server = ServerInfo::new(name, Timestamp::from_millis(1_000));
    server.host = "ä host".into();
    server.pid = 42;
    server.seen = Timestamp::from_millis(2_000);
    server.queues = vec![("critical".into(), 6), ("default".into(), 1)];
    server.strict = true;
    server.events = vec!["email:welcome".into()];
    server.concurrency = 64;
    server.busy = 1;
    server.running = vec![RunningTask::new(
        TaskRef::new("critical", id("a")),
        "email:welcome".into(),
        2,
        Timestamp::from_millis(1_500),
        Timestamp::from_millis(31_500),
    )];
    server.abandoned = 3;
    server.finished = 4_711;
    server.stopping = true;
    server.quiet = true;
    server.unhandled = vec![UnhandledTasks::new(
        "default".into(),
        "email:goodbye".into(),
        30_000,
    )];
    server
}

async fn names(f: &Fixture<'_>) -> Vec<Name> {
    let servers = f.broker.servers().await.unwrap();
    servers.into_iter().map(|server| server.name).collect()
}

/// With all fields of the report.
pub async fn a_server_is_known_by_its_last_report(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    let mut first = server("b");
    first.busy = 0;
    first.running = Vec::new();
    f.broker.beat(first, secs(15)).await.unwrap();
    f.broker.beat(server("a"), secs(15)).await.unwrap();
    f.broker.beat(server("b"), secs(15)).await.unwrap();
    assert_eq!(
        f.broker.servers().await.unwrap(),
        [server("a"), server("b")]
    );
}

/// It was killed, or its network failed.
pub async fn a_silent_server_is_forgotten(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.broker.beat(server("a"), secs(15)).await.unwrap();
    f.broker.beat(server("b"), secs(30)).await.unwrap();
    f.advance(secs(14)).await;
    assert_eq!(names(&f).await, ["a", "b"]);
    f.advance(secs(1)).await;
    assert_eq!(names(&f).await, ["b"]);
}

/// It is forgotten without a delay.
pub async fn a_server_that_leaves_is_forgotten_immediately(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.broker.beat(server("a"), secs(15)).await.unwrap();
    f.broker.leave(&"a".into()).await.unwrap();
    f.broker.leave(&"unknown".into()).await.unwrap();
    assert_eq!(names(&f).await, [] as [Name; 0]);
}

/// At each heartbeat, until a later request replaces it, because a response may be lost.
pub async fn a_server_receives_the_latest_request_at_each_heartbeat(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    let beat = async |name| f.broker.beat(server(name), secs(15)).await.unwrap();
    assert_eq!(beat("a").await, None);
    assert_eq!(beat("b").await, None);
    let ask = async |quiet| f.broker.request_quiet(&"a".into(), quiet).await.unwrap();
    assert!(ask(true).await);
    let first = beat("a").await.unwrap();
    assert!(first.quiet && first.at >= Timestamp::from_millis(0));
    assert_eq!(beat("a").await, Some(first));
    // At the same time as the first, by the clock.
    assert!(ask(false).await);
    let second = beat("a").await.unwrap();
    assert!(
        !second.quiet && second.at > first.at,
        "{first:?} {second:?}"
    );
    assert_eq!(beat("b").await, None);
    // Not a valid server, and hides no other.
    assert_eq!(names(&f).await, ["a", "b"]);
    f.advance(secs(10)).await;
    assert!(ask(true).await);
    let now = f.broker.now();
    assert_eq!(beat("a").await, Some(QuietRequest::after(None, true, now)));
}

/// A server that never existed, one that has left, and one that is forgotten.
pub async fn an_unknown_server_receives_no_request(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    let ask = async |name: &str| f.broker.request_quiet(&name.into(), true).await.unwrap();
    let beat = async |name| f.broker.beat(server(name), secs(15)).await.unwrap();
    assert!(!ask("unknown").await);
    assert_eq!(beat("unknown").await, None);
    beat("a").await;
    assert!(ask("a").await);
    f.broker.leave(&"a".into()).await.unwrap();
    assert!(!ask("a").await);
    assert_eq!(beat("a").await, None);
    assert!(ask("a").await);
    f.advance(secs(15)).await;
    assert!(!ask("a").await);
    assert_eq!(names(&f).await, [] as [Name; 0]);
    assert_eq!(beat("a").await, None);
}

fn pair(event: &str, name: &str) -> (Name, Name) {
    (event.into(), name.into())
}

/// Subscribers are listed by event and by name.
pub async fn subscribers_are_known_by_event(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    let since = f.broker.now();
    let all = [pair("b", "y"), pair("a", "x"), pair("b", "x")];
    f.broker.subscribe(all.into()).await.unwrap();
    let subscription =
        |event: &str, name: &str| Subscription::new(event.into(), name.into(), since);
    let of_b = f.broker.subscribers(&"b".into()).await.unwrap();
    assert_eq!(of_b, [subscription("b", "x"), subscription("b", "y")]);
    assert_eq!(f.broker.subscribers(&"c".into()).await.unwrap(), []);
    assert_eq!(
        f.broker.subscriptions().await.unwrap(),
        [
            subscription("a", "x"),
            subscription("b", "x"),
            subscription("b", "y")
        ]
    );
}

/// It would miss the events published since.
pub async fn subscribing_again_changes_nothing(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.broker.subscribe(vec![pair("a", "x")]).await.unwrap();
    let before = f.broker.subscriptions().await.unwrap();
    f.advance(secs(60)).await;
    f.broker
        .subscribe(vec![pair("a", "x"), pair("a", "y")])
        .await
        .unwrap();
    let after = f.broker.subscriptions().await.unwrap();
    assert_eq!((after.len(), &after[0]), (2, &before[0]));
    assert_eq!(after[1].since, f.broker.now());
}

/// The others stay.
pub async fn a_removed_subscriber_is_gone(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    let both = vec![pair("a", "x"), pair("a", "y")];
    f.broker.subscribe(both).await.unwrap();
    let subscribers = [pair("a", "x"), pair("a", "z"), pair("b", "y")];
    let removed = f.broker.unsubscribe(&subscribers).await.unwrap();
    assert_eq!(removed, [true, false, false]);
    let left = f.broker.subscribers(&"a".into()).await.unwrap();
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].name, "y");
}

/// Many services may start at the same time.
pub async fn racing_subscribers_are_all_added(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    let subscribe = |n: usize| {
        let subscribers = vec![pair("a", &format!("s{n}"))];
        f.broker.subscribe(subscribers)
    };
    let added = futures_util::future::join_all((0..16).map(subscribe)).await;
    assert!(added.iter().all(Result::is_ok), "{added:?}");
    assert_eq!(f.broker.subscribers(&"a".into()).await.unwrap().len(), 16);
}
