//! Looking up tasks among many active ones takes the same steps, regardless of their number.

mod common;

use std::time::Duration;

use asynqueue_core::{
    broker::{
        Broker, CancelOutcome, Conflict, Control, Extended, Inspect, Lease, LeaseRequest,
        LeaseToken, Leased, Outcome, all_of,
    },
    task::{Envelope, TaskId, TaskRef, TaskState, UniqueKey, UniqueLock, UniqueUntil},
};
use asynqueue_redis::RedisBroker;
use asynqueue_test_servers::{Monitor, RedisServer, undeclared_keys};
use common::{connect, now, process_all, send, task};
use redis::{AsyncCommands, aio::MultiplexedConnection, cmd};

const HOUR: Duration = Duration::from_secs(3600);

fn unique(id: &str) -> Envelope {
    let mut task = task("q", id);
    task.unique = Some(Box::new(UniqueLock::new(
        UniqueKey::new("key"),
        UniqueUntil::Success,
        HOUR,
    )));
    task
}

/// Enqueues and leases this many tasks.
async fn activate(broker: &RedisBroker, count: usize) -> Vec<Leased> {
    send(broker, (0..count).map(|n| task("q", &format!("task-{n}")))).await;
    let request = LeaseRequest::new(vec![("q".into(), count)], count, HOUR, "tester".into());
    let mut leased = Vec::new();
    while leased.len() < count {
        let answers = all_of(broker.lease(&request).await).expect("leased");
        leased.extend(answers.into_iter().flatten());
    }
    leased
}

fn of(id: &str) -> TaskRef {
    TaskRef::new("q", TaskId::new(id).expect("an id"))
}

async fn state(broker: &RedisBroker, id: &str) -> TaskState {
    let found = broker.tasks(&[of(id)]).await.expect("a response").remove(0);
    found.expect("a task").state
}

async fn refusals(broker: &RedisBroker, tasks: Vec<Envelope>) -> Vec<(String, TaskState)> {
    let answers = broker.enqueue(tasks.into_iter().map(now).collect()).await;
    let refusal = |answer| match answer {
        Err(Conflict::Unique { holder, state, .. }) => (holder.to_string(), state),
        Err(Conflict::Id { task, state }) => (task.id.to_string(), state),
        other => panic!("{other:?}"),
    };
    answers
        .expect("a response")
        .into_iter()
        .map(refusal)
        .collect()
}

/// How many commands Redis executes for a refused duplicate, for several, and for a lookup of an active task.
async fn steps(active: usize) -> Vec<usize> {
    let server = RedisServer::start().await;
    let broker = connect(&server.url()).await;
    send(&broker, [unique("holder")]).await;
    activate(&broker, active).await;
    // The first lookup starts the index.
    let duplicate = || vec![unique("other")];
    let holder = ("holder".to_owned(), TaskState::Active);
    assert_eq!(
        refusals(&broker, duplicate()).await,
        std::slice::from_ref(&holder)
    );
    assert_eq!(state(&broker, "task-1").await, TaskState::Active);
    let mut counts = Vec::new();
    for step in 0..4 {
        let monitor = Monitor::start(&server).await;
        match step {
            0 => assert_eq!(
                refusals(&broker, duplicate()).await,
                std::slice::from_ref(&holder)
            ),
            1 => {
                let some = (0..10).map(|n| task("q", &format!("task-{n}"))).collect();
                let states = refusals(&broker, some).await;
                assert!(states.iter().all(|(_, state)| *state == TaskState::Active));
            }
            2 => assert_eq!(state(&broker, "task-2").await, TaskState::Active),
            _ => {
                let cancelled = broker.cancel(&[of("task-3")], "why").await;
                assert_eq!(cancelled.expect("a response"), [CancelOutcome::Requested]);
            }
        }
        let seen = monitor.stop().await;
        assert_eq!(undeclared_keys(&seen), [] as [String; 0]);
        counts.push(seen.len());
    }
    counts
}

#[tokio::test]
async fn a_refused_duplicate_and_a_lookup_take_the_same_steps_for_any_number_of_active_tasks() {
    let (few, many) = (steps(300).await, steps(6_000).await);
    assert_eq!(few, many);
    // One call for a refusal, with its lookups.
    assert!(few[0] < 25, "{few:?}");
}

/// Through everything that ends a lease.
#[tokio::test]
async fn the_index_of_leases_matches_the_leases() {
    let server = RedisServer::start().await;
    let (broker, mut connection) = (connect(&server.url()).await, server.connection().await);
    let mut leased = activate(&broker, 5_000).await;
    let entries = async |connection: &mut MultiplexedConnection| -> usize {
        connection.hlen("aq:{q}:leases").await.expect("a response")
    };
    assert_eq!(entries(&mut connection).await, 5_000);
    let settle = async |leased: Vec<Leased>, outcome: Outcome| {
        let settle = |leased: Leased| leased.settle(outcome.clone());
        let settlements: Vec<_> = leased.into_iter().map(settle).collect();
        all_of(broker.settle(&settlements).await).expect("settled");
    };
    settle(leased.split_off(2_000), Outcome::Complete { result: None }).await;
    settle(leased.split_off(1_000), Outcome::Release).await;
    assert_eq!(entries(&mut connection).await, 1_000);
    assert_eq!(state(&broker, "task-1500").await, TaskState::Pending);
    assert_eq!(state(&broker, "task-500").await, TaskState::Active);
    settle(leased.split_off(100), Outcome::Archive).await;
    assert_eq!(
        entries(&mut connection).await,
        0,
        "it ends when few are left"
    );
    assert_eq!(state(&broker, "task-50").await, TaskState::Active);
}

/// A server of a build without the index leases, and ends leases, beside it.
#[tokio::test]
async fn leases_of_an_older_build_are_found_and_those_it_ended_are_not() {
    let server = RedisServer::start().await;
    let (broker, mut connection) = (connect(&server.url()).await, server.connection().await);
    activate(&broker, 400).await;
    send(&broker, ["older", "pending"].map(|id| task("q", id))).await;
    // Starts the index.
    assert_eq!(state(&broker, "task-1").await, TaskState::Active);
    let token = "00000abc00000001";
    let popped: String = connection
        .rpop("aq:{q}:pending", None)
        .await
        .expect("popped");
    assert_eq!(popped, "older");
    let end = broker.now().as_millis() + 3_600_000;
    let active = "aq:{q}:active";
    let () = connection
        .zadd(active, format!("{token}older"), end)
        .await
        .expect("leased");
    let () = connection
        .hset("aq:{q}:meta", "w:00000abc", "old")
        .await
        .expect("named");
    let found = broker
        .tasks(&[of("older"), of("pending")])
        .await
        .expect("a response");
    let found: Vec<_> = found.into_iter().flatten().collect();
    assert_eq!(found[0].state, TaskState::Active);
    assert_eq!(found[0].lease.as_ref().expect("a lease").worker, "old");
    assert_eq!(found[1].state, TaskState::Pending);
    let cancelled = broker
        .cancel(&[of("older")], "why")
        .await
        .expect("a response");
    assert_eq!(cancelled, [CancelOutcome::Requested]);

    // It ends a lease that is in the index, and returns the task to the queue.
    let tokens: String = connection
        .hget("aq:{q}:leases", "task-7")
        .await
        .expect("a token");
    let () = connection
        .zrem(active, format!("{tokens}task-7"))
        .await
        .expect("ended");
    let () = connection
        .lpush("aq:{q}:pending", "task-7")
        .await
        .expect("back");
    assert_eq!(state(&broker, "task-7").await, TaskState::Pending);
    // Its old token is no longer valid.
    let lease = Lease {
        task: of("task-7"),
        token: LeaseToken(u64::from_str_radix(&tokens, 16).expect("a token")),
    };
    assert_eq!(
        all_of(broker.extend(&[lease], HOUR).await).expect("a response"),
        [Extended::Lost]
    );
}

/// In every state of a task, one or many at a time.
#[tokio::test]
async fn a_refusal_contains_the_state_of_the_conflicting_task() {
    let server = RedisServer::start().await;
    let broker = connect(&server.url()).await;
    send(&broker, [unique("done")]).await;
    process_all(&broker, "q", 1).await;
    send(&broker, [unique("a"), task("q", "b")]).await;
    let duplicates = || vec![unique("x"), unique("y"), task("q", "b")];
    let expected = |state| [("a", state), ("a", state), ("b", TaskState::Pending)];
    let refused = |answers: Vec<(String, TaskState)>, state| {
        let answers: Vec<_> = answers.iter().map(|(id, state)| (&**id, *state)).collect();
        assert_eq!(answers, expected(state));
    };
    refused(refusals(&broker, duplicates()).await, TaskState::Pending);
    let leased = common::lease(&broker, "q", 1).await.remove(0);
    refused(refusals(&broker, duplicates()).await, TaskState::Active);
    let outcome = Outcome::Retry { delay: HOUR };
    broker
        .settle(&[leased.settle(outcome)])
        .await
        .expect("settled");
    refused(refusals(&broker, duplicates()).await, TaskState::Retry);
}

async fn redis_micros(connection: &mut MultiplexedConnection) -> u64 {
    let mut info = cmd("INFO");
    let info: String = info
        .arg("commandstats")
        .query_async(connection)
        .await
        .expect("a response");
    let evals = info.lines().filter(|line| line.starts_with("cmdstat_eval"));
    let micros = |line: &str| {
        line.split_once("usec=")?
            .1
            .split(',')
            .next()?
            .parse::<u64>()
            .ok()
    };
    evals.filter_map(micros).sum()
}

/// `cargo test --release -p asynqueue-redis --test lookups -- --ignored --nocapture`
#[tokio::test]
#[ignore = "measures"]
async fn what_a_refused_duplicate_costs() {
    println!("| active tasks | first refusal | a refusal | 500 in one call |\n|---|---|---|---|");
    for active in [0, 1_000, 10_000, 50_000] {
        let server = RedisServer::start().await;
        let (broker, mut connection) = (connect(&server.url()).await, server.connection().await);
        send(&broker, [unique("holder")]).await;
        activate(&broker, active.max(1) - 1).await;
        let mut millis = Vec::new();
        for (times, count) in [(1, 1), (1_000, 1), (1, 500)] {
            let before = redis_micros(&mut connection).await;
            let started = std::time::Instant::now();
            for _ in 0..times {
                let tasks = (0..count).map(|n| unique(&format!("other-{n}"))).collect();
                refusals(&broker, tasks).await;
            }
            let micros = redis_micros(&mut connection).await - before;
            let wall = started.elapsed().as_secs_f64() * 1e3 / f64::from(times);
            millis.push((micros as f64 / 1e3 / f64::from(times), wall));
        }
        let shown = millis
            .iter()
            .map(|(redis, wall)| format!("{redis:.3} ms (caller {wall:.2} ms)"));
        println!("| {active} | {} |", shown.collect::<Vec<_>>().join(" | "));
    }
}
