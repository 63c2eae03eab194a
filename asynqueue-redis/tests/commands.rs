//! The number of commands that Redis executes.

mod common;

use std::{sync::Arc, time::Duration};

use asynqueue_core::{
    broker::{
        Broker, CancelOutcome, Control, Fleet, Inspect, Leased, Outcome, ServerInfo, Settled, When,
        all_of,
    },
    task::{Name, Timestamp},
    testing::TestClock,
};
use asynqueue_redis::{RedisBroker, RedisOptions};
use asynqueue_test_servers::{Monitor, RedisServer};
use common::{connect, lease, now, send, task};
use redis::AsyncCommands;
use tokio::task::JoinSet;

/// The commands that enqueueing, leasing and settling this many tasks take.
async fn commands(broker: &RedisBroker, server: &RedisServer, tasks: usize) -> Vec<usize> {
    let mut counts = Vec::new();
    let mut leased = Vec::new();
    for step in 0..3 {
        let monitor = Monitor::start(server).await;
        match step {
            0 => send(broker, (0..tasks).map(|n| task("q", &n.to_string()))).await,
            1 => leased = lease(broker, "q", tasks + 1).await,
            _ => {
                let complete = |leased: Leased| leased.settle(Outcome::Complete { result: None });
                let settlements: Vec<_> = leased.drain(..).map(complete).collect();
                assert_eq!(settlements.len(), tasks);
                all_of(broker.settle(&settlements).await).expect("settled");
            }
        }
        counts.push(monitor.stop().await.len());
    }
    counts
}

#[tokio::test]
async fn a_batch_takes_the_same_commands_at_any_size() {
    let server = RedisServer::start().await;
    let broker = connect(&server.url()).await;
    // Loads the scripts and lists the queue.
    commands(&broker, &server, 2).await;
    let (few, many) = (
        commands(&broker, &server, 2).await,
        commands(&broker, &server, 450).await,
    );
    assert_eq!(few, many);
    assert!(many.iter().all(|count| *count < 15), "{many:?}");
}

#[tokio::test]
async fn tasks_that_are_enqueued_concurrently_are_sent_together() {
    const TASKS: usize = 1_000;
    let server = RedisServer::start().await;
    let broker = connect(&server.url()).await;
    send(&broker, [task("q", "first")]).await;
    let monitor = Monitor::start(&server).await;
    let mut producers = JoinSet::new();
    for n in 0..TASKS {
        let broker = broker.clone();
        producers.spawn(async move { send(&broker, [task("q", &n.to_string())]).await });
    }
    producers.join_all().await;
    let seen = monitor.stop().await;
    let calls = seen
        .iter()
        .filter(|command| command.words[0].starts_with(b"EVAL"))
        .count();
    assert!(calls <= TASKS / 20, "{calls} calls");
    assert_eq!(lease(&broker, "q", 2 * TASKS).await.len(), TASKS + 1);
}

/// How many arguments contain the payload of [`task`].
async fn payloads<T>(server: &RedisServer, call: impl Future<Output = T>) -> (T, usize) {
    let monitor = Monitor::start(server).await;
    let answer = call.await;
    let seen = monitor.stop().await;
    let words = seen.iter().flat_map(|command| &command.words);
    let has_payload = |word: &&Vec<u8>| word.windows(7).any(|part| part == b"payload");
    (answer, words.filter(has_payload).count())
}

#[tokio::test]
async fn an_unchanged_task_is_not_sent_again() {
    let server = RedisServer::start().await;
    let broker = connect(&server.url()).await;
    send(&broker, ["a", "b", "c"].map(|id| task("q", id))).await;
    let delay = Duration::from_secs(60);
    for outcome in [Outcome::Release, Outcome::Snooze { delay }] {
        let unchanged = lease(&broker, "q", 1).await.remove(0).settle(outcome);
        assert!(unchanged.is_unchanged() && unchanged.changes().is_none());
        let (settled, payloads) = payloads(&server, broker.settle(&[unchanged])).await;
        assert_eq!(
            (all_of(settled).expect("settled"), payloads),
            (vec![Settled::Recorded], 0)
        );
    }
    let mut leased = lease(&broker, "q", 1).await.remove(0);
    let id = leased.envelope.task_ref();
    Arc::make_mut(&mut leased.envelope).set_place(Some(7));
    let changed = leased.settle(Outcome::Snooze { delay });
    assert!(changed.changes().is_some());
    let (settled, payloads) = payloads(&server, broker.settle(&[changed])).await;
    assert_eq!(all_of(settled).expect("settled"), [Settled::Recorded]);
    // In the script call, and in the command that the script runs.
    assert_eq!(payloads, 2);
    let found = broker.tasks(&[id]).await.expect("looked up").remove(0);
    assert_eq!(found.expect("there").envelope.place(), Some(7));
}

#[tokio::test]
async fn a_task_that_is_moved_or_deleted_on_demand_is_not_sent_along() {
    let server = RedisServer::start().await;
    let broker = connect(&server.url()).await;
    let mut later = now(task("q", "later"));
    later.when = When::After(Duration::from_secs(60));
    let (later_ref, other) = (later.envelope.task_ref(), task("q", "other"));
    let other_ref = other.task_ref();
    let accepted = broker.enqueue(vec![later, now(other)]).await.expect("sent");
    assert!(accepted.iter().all(Result::is_ok));
    let later = std::slice::from_ref(&later_ref);
    let (is_pending, sent) = payloads(&server, broker.run_now(later)).await;
    assert_eq!((is_pending.expect("run"), sent), (vec![true], 0));
    let (is_gone, sent) = payloads(&server, broker.delete(&[other_ref])).await;
    assert_eq!((is_gone.expect("deleted"), sent), (vec![true], 0));
    // With a failure that gives the reason.
    let (cancelled, sent) = payloads(&server, broker.cancel(later, "no more")).await;
    assert_eq!(
        (cancelled.expect("cancelled"), sent),
        (vec![CancelOutcome::Cancelled], 2)
    );
}

fn worker(name: &str, broker: &RedisBroker) -> ServerInfo {
    let mut server = ServerInfo::new(name, Timestamp::default());
    server.host = "host".into();
    server.pid = 42;
    server.seen = broker.now();
    server.queues = vec![("q".into(), 1)];
    server.events = Vec::new();
    server.concurrency = 1;
    server
}

/// How often a server reports in a minute.
const BEATS: usize = 12;

/// For any number of servers, with and without a pending request.
#[tokio::test]
async fn a_server_reports_and_reads_its_requests_in_one_call() {
    let server = RedisServer::start().await;
    let clock = TestClock::default();
    let options = RedisOptions::new(&server.url()).expect("a URL");
    let options = options.clock(clock.clone());
    let broker = RedisBroker::connect(options).await.expect("a connection");
    let hour = Duration::from_secs(3600);
    let beat = async |name: &str| {
        broker
            .beat(worker(name, &broker), hour)
            .await
            .expect("kept")
    };
    for n in 0..50 {
        beat(&n.to_string()).await;
        let name = Name::from(n.to_string());
        assert!(broker.request_quiet(&name, true).await.expect("kept"));
    }
    beat("worker-1").await;
    let monitor = Monitor::start(&server).await;
    for _ in 0..BEATS {
        assert!(beat("7").await.is_some_and(|request| request.quiet));
        assert_eq!(beat("worker-1").await, None);
        clock.advance(Duration::from_secs(5));
    }
    let seen = monitor.stop().await;
    let calls = seen
        .iter()
        .filter(|seen| seen.words[0].starts_with(b"EVAL"));
    // Once a minute each server searches for servers and deletions to forget.
    assert_eq!(calls.count(), 2 * (BEATS + 2));
    // Each call writes one document with its time, reads and counts, and notes itself in its lane. A search for expired
    // documents takes two commands.
    assert_eq!(seen.len(), 2 * (BEATS * 9 + 2 * 3), "{seen:?}");
}

#[tokio::test]
async fn requests_to_a_lost_server_are_deleted() {
    let server = RedisServer::start().await;
    let broker = connect(&server.url()).await;
    let second = Duration::from_secs(1);
    let mut connection = server.connection().await;
    let ask = async |name: &'static str| broker.request_quiet(&name.into(), true).await;
    for name in ["leaves", "falls silent", "stays"] {
        let ttl = if name == "stays" {
            second * 3600
        } else {
            second
        };
        broker.beat(worker(name, &broker), ttl).await.expect("kept");
        assert!(ask(name).await.expect("kept"), "{name}");
    }
    broker.leave(&"leaves".into()).await.expect("gone");
    let is_cleared = async || {
        let servers = broker.servers().await.expect("a response");
        servers.len() == 1
    };
    asynqueue_test_servers::eventually("the silent one is forgotten", is_cleared).await;
    for space in ["servers", "requests"] {
        let key = format!("aq:{{documents}}:{space}");
        let left: Vec<String> = connection.hkeys(key).await.expect("a response");
        assert_eq!(left, ["stays"], "{space}");
    }
}
