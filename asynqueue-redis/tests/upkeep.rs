//! Upkeep has one owner, costs what it finds, and leaves nothing behind.

mod common;

use std::{collections::BTreeMap, time::Duration};

use asynqueue_core::{
    broker::{
        Broker, Control, Fire, Fleet, Keep, Leased, NewTask, Outcome, ScheduleEntry, Schedules,
        ServerInfo, Signal, Signals, Subscriptions, Tick, TickGuard, When, all_of,
    },
    codec::MessagePack,
    process::{Context, Payload, TaskError},
    server::Server,
    task::{Clock, Envelope, Name, Task, TaskRef, Timestamp, UniqueKey, UniqueLock, UniqueUntil},
    testing::TestClock,
};
use asynqueue_redis::{RedisBroker, RedisOptions};
use asynqueue_test_servers::{Monitor, RedisServer, eventually};
use common::{connect, lease, now, send, task};
use futures_util::StreamExt;
use redis::{AsyncCommands, aio::MultiplexedConnection};
use serde::{Deserialize, Serialize};

const HOUR: Duration = Duration::from_secs(3600);

/// What a server's loops do in one round. Returns how many tasks became pending.
async fn maintain(broker: &RedisBroker, queues: &[Name]) -> usize {
    let forwarded = all_of(broker.forward(queues, 1_000).await).expect("forwarded");
    let expired = broker.expired(queues, broker.now(), 1_000).await;
    all_of(expired).expect("looked for");
    let trimmed = broker.trim(queues, Keep::default(), 1_000).await;
    all_of(trimmed).expect("trimmed");
    forwarded.iter().map(|forwarded| forwarded.moved).sum()
}

/// The number of commands that clients sent while a monitor listened.
async fn sent(monitor: Monitor) -> usize {
    let seen = monitor.stop().await;
    seen.iter().filter(|seen| !seen.by_script).count()
}

/// The next signal, which must arrive.
async fn next(signals: &mut Signals) -> Option<Signal> {
    let next = tokio::time::timeout(Duration::from_secs(30), signals.next());
    next.await.expect("a signal in time")
}

fn due(id: &str) -> NewTask {
    let when = When::After(Duration::from_millis(1));
    let envelope = task("q", id);
    NewTask::new(envelope, when)
}

#[tokio::test]
async fn one_instance_maintains_a_queue_and_the_others_send_almost_nothing() {
    let server = RedisServer::start().await;
    let queues = ["q".into()];
    let owner = connect(&server.url()).await;
    maintain(&owner, &queues).await;
    let mut others = Vec::new();
    for _ in 0..4 {
        others.push(connect(&server.url()).await);
    }
    send(&owner, [task("q", "a")]).await;
    let accepted = owner.enqueue(vec![due("due")]).await.expect("sent");
    assert_eq!(accepted, [Ok(())]);
    let monitor = Monitor::start(&server).await;
    for _ in 0..50 {
        for other in &others {
            assert_eq!(maintain(other, &queues).await, 0);
        }
    }
    // Each queries the owner of the queue once, and renews its key. The script may have to be sent along.
    let count = sent(monitor).await;
    assert!(count <= 4 * 5, "{count}");
    let is_moved = async || maintain(&owner, &queues).await == 1;
    eventually("the owner makes the task pending", is_moved).await;
}

/// Work that is not yet needed for a queue without tasks can wait.
#[tokio::test]
async fn an_owner_of_many_idle_queues_sends_little() {
    let server = RedisServer::start().await;
    let broker = connect(&server.url()).await;
    let queues: Vec<Name> = (0..1_000).map(|n| format!("q-{n}").into()).collect();
    let _signals = broker.signals(&queues).await.expect("signals");
    // The first rounds take the queues.
    for _ in 0..2 {
        maintain(&broker, &queues).await;
    }
    let monitor = Monitor::start(&server).await;
    for _ in 0..20 {
        maintain(&broker, &queues).await;
    }
    let count = sent(monitor).await;
    // The renewed key, and some reads.
    assert!(count <= 100, "{count} in 20 rounds");
}

#[tokio::test]
async fn a_task_of_one_of_many_queues_is_forwarded_when_it_is_due() {
    let server = RedisServer::start().await;
    let broker = connect(&server.url()).await;
    let queues: Vec<Name> = (0..100).map(|n| format!("q-{n}").into()).collect();
    let mut signals = broker.signals(&queues).await.expect("signals");
    maintain(&broker, &queues).await;
    let envelope = task("q-42", "due");
    let when = When::After(Duration::from_millis(50));
    let accepted = broker.enqueue(vec![NewTask::new(envelope, when)]).await;
    assert_eq!(accepted.expect("sent"), [Ok(())]);
    let signal = next(&mut signals).await;
    let Some(Signal::Due(queue, due)) = signal else {
        panic!("{signal:?}");
    };
    assert_eq!(queue, "q-42");
    let forwarded = all_of(broker.forward(&queues, 10).await).expect("forwarded");
    if forwarded.iter().all(|forwarded| forwarded.moved == 0) {
        let next = forwarded.iter().filter_map(|forwarded| forwarded.next_due);
        assert_eq!(next.min(), Some(due));
        let is_moved = async || maintain(&broker, &queues).await == 1;
        eventually("the task is pending", is_moved).await;
    }
}

#[tokio::test]
async fn a_queue_whose_owner_closes_is_taken_over_immediately() {
    let server = RedisServer::start().await;
    let queues = ["q".into()];
    let (owner, other) = (connect(&server.url()).await, connect(&server.url()).await);
    maintain(&owner, &queues).await;
    let mut signals = other.signals(&queues).await.expect("signals");
    maintain(&other, &queues).await;
    let accepted = other.enqueue(vec![due("due")]).await.expect("sent");
    assert_eq!(accepted, [Ok(())]);
    assert!(matches!(next(&mut signals).await, Some(Signal::Due(..))));
    owner.close().await;
    assert!(matches!(next(&mut signals).await, Some(Signal::Due(..))));
    let is_moved = async || maintain(&other, &queues).await == 1;
    eventually("the other makes the task pending", is_moved).await;
    other.close().await;
    let mut connection = server.connection().await;
    let left: Vec<String> = connection.keys("*{alive}*").await.expect("keys");
    assert_eq!(left, [""; 0]);
    let owner: Option<String> = connection.get("aq:{q}:owner").await.expect("a response");
    assert_eq!(owner, None);
}

#[tokio::test]
async fn a_queue_whose_owner_dies_is_taken_over() {
    let server = RedisServer::start().await;
    let queues = ["q".into()];
    let (owner, other) = (connect(&server.url()).await, connect(&server.url()).await);
    maintain(&owner, &queues).await;
    maintain(&other, &queues).await;
    let accepted = other.enqueue(vec![due("due")]).await.expect("sent");
    assert_eq!(accepted, [Ok(())]);
    // As after five seconds without a sign of life.
    drop(owner);
    let mut connection = server.connection().await;
    let alive: Vec<String> = connection.keys("*{alive}*").await.expect("keys");
    assert_eq!(alive.len(), 2, "{alive:?}");
    let () = connection.del(&alive).await.expect("deleted");
    let is_moved = async || maintain(&other, &queues).await == 1;
    eventually("the other makes the task pending", is_moved).await;
}

/// While the queue had no owner, or Redis was away, no lease could be extended.
#[tokio::test]
async fn a_new_owner_reclaims_no_task_before_it_has_watched_its_lease() {
    let server = RedisServer::start().await;
    let clock = TestClock::default();
    let (owner, other) = (at(&server, &clock).await, at(&server, &clock).await);
    let queues = ["q".into()];
    maintain(&owner, &queues).await;
    send(&owner, [task("q", "a")]).await;
    assert_eq!(lease(&owner, "q", 1).await.len(), 1);
    owner.close().await;
    clock.advance(HOUR);
    let before = clock.now() - Duration::from_secs(1);
    let expired = async |by| {
        let expired = all_of(other.expired(&queues, by, 10).await);
        expired.expect("looked for").concat().len()
    };
    assert_eq!(expired(before).await, 0);
    assert_eq!(expired(clock.now()).await, 1);
}

fn unique(id: &str, until: UniqueUntil, ttl: Duration) -> Envelope {
    let mut task = task("q", id);
    let key = UniqueKey::new(id);
    task.unique = Some(Box::new(UniqueLock::new(key, until, ttl)));
    task
}

async fn len(connection: &mut MultiplexedConnection, part: &str) -> usize {
    let key = format!("aq:{{q}}:{part}");
    match part {
        "lock_ends" => connection.zcard(key).await.expect("a set"),
        _ => connection.hlen(key).await.expect("a hash"),
    }
}

#[tokio::test]
async fn expired_locks_are_removed_and_no_others_are_read() {
    let server = RedisServer::start().await;
    let clock = TestClock::default();
    let broker = at(&server, &clock).await;
    let locks = |n: usize| {
        let ttl = if n < 100 { HOUR / 2 } else { HOUR * 2 };
        unique(&format!("{n:04}"), UniqueUntil::Success, ttl)
    };
    send(&broker, (0..2_000).map(locks)).await;
    clock.advance(HOUR);
    let monitor = Monitor::start(&server).await;
    maintain(&broker, &["q".into()]).await;
    let seen = monitor.stop().await;
    let reads_all = |seen: &&asynqueue_test_servers::Seen| {
        let name = String::from_utf8_lossy(&seen.words[0]).to_lowercase();
        let of_locks = seen.words.get(1).is_some_and(|key| key == b"aq:{q}:locks");
        of_locks && ["hscan", "hgetall", "hkeys"].contains(&&*name)
    };
    assert_eq!(seen.iter().filter(reads_all).count(), 0);
    let mut connection = server.connection().await;
    for part in ["locks", "lock_ends"] {
        assert_eq!(len(&mut connection, part).await, 1_900, "{part}");
    }
}

/// Older builds do not maintain the expiry set.
#[tokio::test]
async fn locks_that_older_builds_took_or_released_are_found_when_the_counts_differ() {
    let server = RedisServer::start().await;
    let clock = TestClock::default();
    let broker = at(&server, &clock).await;
    let ours = ["a", "b", "c"].map(|id| unique(id, UniqueUntil::Window, HOUR));
    send(&broker, ours).await;
    let mut connection = server.connection().await;
    let ends = (clock.now() + HOUR / 2).as_millis();
    let () = connection
        .hset("aq:{q}:locks", "theirs", format!("{ends}w:x"))
        .await
        .expect("set");
    let () = connection
        .hset("aq:{q}:locks", "too", format!("{ends}w:y"))
        .await
        .expect("set");
    let () = connection.hdel("aq:{q}:locks", "b").await.expect("deleted");
    maintain(&broker, &["q".into()]).await;
    for part in ["locks", "lock_ends"] {
        assert_eq!(len(&mut connection, part).await, 4, "{part}");
    }
    broker.close().await;
    clock.advance(HOUR);
    maintain(&at(&server, &clock).await, &["q".into()]).await;
    for part in ["locks", "lock_ends"] {
        assert_eq!(len(&mut connection, part).await, 0, "{part}");
    }
}

async fn at(server: &RedisServer, clock: &TestClock) -> RedisBroker {
    let options = RedisOptions::new(&server.url()).expect("a URL");
    let options = options.clock(clock.clone());
    RedisBroker::connect(options).await.expect("a connection")
}

/// All keys without an expiry, and the number of fields of each.
async fn left(connection: &mut MultiplexedConnection) -> BTreeMap<String, usize> {
    let keys: Vec<String> = connection.keys("*").await.expect("keys");
    let mut left = BTreeMap::new();
    for key in keys {
        let ttl: i64 = connection.pttl(&key).await.expect("a time");
        if ttl >= 0 {
            continue;
        }
        let kind: String = redis::cmd("TYPE")
            .arg(&key)
            .query_async(connection)
            .await
            .expect("a type");
        let count = match kind.as_str() {
            "hash" => connection.hlen(&key).await,
            "zset" => connection.zcard(&key).await,
            "list" => connection.llen(&key).await,
            "set" => connection.scard(&key).await,
            _ => Ok(1),
        };
        left.insert(key, count.expect("a number"));
    }
    left
}

/// What is left after another instance has maintained the queue, hours later.
async fn left_hours_later(
    server: &RedisServer,
    clock: &TestClock,
    broker: RedisBroker,
) -> BTreeMap<String, usize> {
    broker.close().await;
    clock.advance(2 * HOUR);
    let later = at(server, clock).await;
    maintain(&later, &["q".into()]).await;
    let left = left(&mut server.connection().await).await;
    later.close().await;
    left
}

/// The name of the queue and its counters stay in any case.
fn assert_only(left: BTreeMap<String, usize>, more: &[(&str, usize)]) {
    let mut expected = BTreeMap::from([("aq:queues".to_owned(), 1)]);
    expected.extend(more.iter().map(|(key, count)| ((*key).to_owned(), *count)));
    let counters = ["aq:{q}:stats", "aq:{q}:hours", "aq:{q}:meta"];
    let left: BTreeMap<_, _> = left
        .into_iter()
        .filter(|(key, count)| !counters.contains(&key.as_str()) || *count > 4)
        .collect();
    assert_eq!(left, expected);
}

async fn complete_all(broker: &RedisBroker) -> usize {
    let mut done = 0;
    loop {
        let leased = lease(broker, "q", 500).await;
        if leased.is_empty() {
            return done;
        }
        done += leased.len();
        let complete = |leased: Leased| leased.settle(Outcome::Complete { result: None });
        let settlements: Vec<_> = leased.into_iter().map(complete).collect();
        broker.settle(&settlements).await.expect("settled");
    }
}

#[tokio::test]
async fn nothing_is_left_of_schedule_entries_that_fired_and_were_removed() {
    let server = RedisServer::start().await;
    let clock = TestClock::default();
    let broker = at(&server, &clock).await;
    let tick = clock.now();
    let entry = |n: usize| {
        let template = task("q", "template");
        let mut entry = ScheduleEntry::new(format!("e-{n}"), "@every 1s", template);
        entry.next = Some(tick);
        entry.source = "runtime".into();
        entry
    };
    let names: Vec<Name> = (0..200).map(|n| entry(n).name).collect();
    broker
        .put_schedules((0..200).map(entry).collect())
        .await
        .expect("put");
    let fire = |name: &Name| Fire {
        name: name.clone(),
        tick,
        what: Tick::Enqueue(task("q", name), tick),
        next: Some(tick + Duration::from_secs(1)),
    };
    let fired = broker.fire(names.iter().map(fire).collect()).await;
    assert!(fired.expect("fired").iter().all(|fired| *fired == Ok(true)));
    let mut connection = server.connection().await;
    assert_eq!(len(&mut connection, "fired").await, 200);
    broker.remove_schedules(&names).await.expect("removed");
    assert_eq!(len(&mut connection, "fired").await, 0);
    // As of schedulers that died while their entries were being deleted.
    for n in 0..200 {
        let () = connection
            .hset("aq:{q}:fired", format!("x-{n}"), 1)
            .await
            .expect("set");
    }
    assert_eq!(complete_all(&broker).await, 200);
    clock.advance(2 * HOUR);
    report_for_minutes(&broker, &clock, 3).await;
    let left = left_hours_later(&server, &clock, broker).await;
    assert_only(left, &[("aq:{documents}:marks", 1)]);
}

#[tokio::test]
async fn the_last_tick_of_an_existing_entry_is_kept() {
    let server = RedisServer::start().await;
    let broker = connect(&server.url()).await;
    let next = broker.now() + HOUR;
    let entry = |queue: &str| {
        let mut entry = ScheduleEntry::new(queue, "@every 1s", task(queue, "template"));
        entry.next = Some(next);
        entry.source = "runtime".into();
        entry
    };
    let entries = vec![entry("q"), entry("elsewhere")];
    broker.put_schedules(entries).await.expect("put");
    let mut connection = server.connection().await;
    // The guard of an entry: its name and its generation.
    let mut guards = Vec::new();
    for name in ["q", "elsewhere"] {
        let fire = Fire {
            name: name.into(),
            tick: next,
            what: Tick::Enqueue(task(name, name), next),
            next: Some(next + HOUR),
        };
        let fired = broker.fire(vec![fire]).await.expect("fired");
        assert_eq!(fired, [Ok(true)]);
        let key = format!("aq:{{{name}}}:fired");
        let guard: Vec<String> = connection.hkeys(key).await.expect("names");
        guards.extend(guard);
    }
    let [own, elsewhere] = &guards[..] else {
        panic!("{guards:?}");
    };
    // Of an entry in another queue, of an earlier one with the name, and of a deleted one.
    for guard in [elsewhere, "q\n1", "gone\n1"] {
        let () = connection
            .hset("aq:{q}:fired", guard, 1)
            .await
            .expect("set");
    }
    // A relay may send an entry of its outbox again after any time.
    let outbox = TickGuard::of_outbox(&"01J".into(), 7).guard;
    let () = connection
        .hset("aq:{q}:fired", outbox.as_str(), 7)
        .await
        .expect("set");
    maintain(&broker, &["q".into()]).await;
    let mut left: Vec<String> = connection.hkeys("aq:{q}:fired").await.expect("names");
    left.sort_unstable();
    assert_eq!(left, [outbox.as_str(), own.as_str()]);
}

#[tokio::test]
async fn nothing_is_left_of_short_lived_producers() {
    let server = RedisServer::start().await;
    let clock = TestClock::default();
    for n in 0..200 {
        let producer = at(&server, &clock).await;
        send(&producer, [task("q", &n.to_string())]).await;
        producer.close().await;
    }
    let broker = at(&server, &clock).await;
    assert_eq!(complete_all(&broker).await, 200);
    let mut connection = server.connection().await;
    assert!(len(&mut connection, "lanes").await >= 200);
    assert_only(left_hours_later(&server, &clock, broker).await, &[]);
}

#[tokio::test]
async fn nothing_is_left_of_servers_that_were_killed() {
    let server = RedisServer::start().await;
    let clock = TestClock::default();
    let broker = at(&server, &clock).await;
    for n in 0..100 {
        let name = Name::from(format!("server-{n}"));
        let info = info(&name, &broker);
        broker.beat(info, HOUR).await.expect("kept");
        broker.request_quiet(&name, true).await.expect("kept");
        send(&broker, [task("q", &n.to_string())]).await;
        let request = asynqueue_core::broker::LeaseRequest::new(
            vec![("q".into(), 1)],
            1,
            Duration::from_secs(30),
            name,
        );
        let mut leased = all_of(broker.lease(&request).await).expect("leased");
        let settlement = leased[0]
            .remove(0)
            .settle(Outcome::Complete { result: None });
        broker.settle(&[settlement]).await.expect("settled");
    }
    let mut connection = server.connection().await;
    for space in ["servers", "servers:due", "requests"] {
        let key = format!("aq:{{documents}}:{space}");
        let kept = left(&mut connection).await.get(&key).copied();
        assert_eq!(kept, Some(100), "{space}");
    }
    assert_eq!(len(&mut connection, "workers").await, 100);
    broker.close().await;
    clock.advance(2 * HOUR);
    let later = at(&server, &clock).await;
    report_for_minutes(&later, &clock, 2).await;
    maintain(&later, &["q".into()]).await;
    assert_eq!(len(&mut connection, "workers").await, 0);
    assert_only(left(&mut connection).await, &[]);
}

/// What an unobserved server does for expired documents.
async fn report_for_minutes(broker: &RedisBroker, clock: &TestClock, minutes: usize) {
    let name = Name::from("last");
    for _ in 0..minutes * 12 {
        let reported = broker.beat(info(&name, broker), HOUR).await;
        reported.expect("kept");
        clock.advance(Duration::from_secs(5));
    }
    broker.leave(&name).await.expect("left");
}

fn info(name: &Name, broker: &RedisBroker) -> ServerInfo {
    let mut server = ServerInfo::new(name.clone(), Timestamp::default());
    server.host = "host".into();
    server.pid = 42;
    server.seen = broker.now();
    server.queues = vec![("q".into(), 1)];
    server.events = Vec::new();
    server.concurrency = 1;
    server
}

/// The mark stays.
#[tokio::test]
async fn nothing_is_left_of_subscribers_that_were_removed() {
    let server = RedisServer::start().await;
    let clock = TestClock::default();
    let broker = at(&server, &clock).await;
    let all: Vec<(Name, Name)> = (0..200)
        .map(|n| (format!("e-{}", n % 7).into(), format!("s-{n}").into()))
        .collect();
    broker.subscribe(all.clone()).await.expect("subscribed");
    let removed = broker.unsubscribe(&all).await.expect("removed");
    assert!(removed.iter().all(|removed| *removed));
    clock.advance(2 * HOUR);
    report_for_minutes(&broker, &clock, 3).await;
    let left = left(&mut server.connection().await).await;
    let mark = ("aq:{documents}:marks".to_owned(), 1);
    assert_eq!(left, BTreeMap::from([mark]));
}

#[tokio::test]
async fn nothing_is_left_of_finished_unique_tasks_and_awaited_results() {
    let server = RedisServer::start().await;
    let clock = TestClock::default();
    let broker = at(&server, &clock).await;
    let untils = [
        UniqueUntil::Start,
        UniqueUntil::Success,
        UniqueUntil::Window,
    ];
    let new = |n: usize| unique(&n.to_string(), untils[n % 3], HOUR);
    send(&broker, (0..300).map(new)).await;
    // Some callers wait, and give up.
    for n in 0..50 {
        let reference = TaskRef::new(
            "q",
            asynqueue_core::task::TaskId::new(n.to_string()).expect("id"),
        );
        let waiting = broker.finished(&reference);
        let gave_up = tokio::time::timeout(Duration::from_millis(20), waiting).await;
        assert!(gave_up.is_err());
    }
    let mut connection = server.connection().await;
    assert!(len(&mut connection, "waiters").await > 0);
    // As for lost tasks, nobody is notified of the end.
    let waiters: BTreeMap<String, String> =
        connection.hgetall("aq:{q}:waiters").await.expect("a hash");
    assert_eq!(complete_all(&broker).await, 300);
    for (id, until) in waiters {
        let () = connection
            .hset("aq:{q}:waiters", id, until)
            .await
            .expect("set");
    }
    assert_eq!(len(&mut connection, "locks").await, 100);
    assert_eq!(len(&mut connection, "lock_ends").await, 100);
    assert_only(left_hours_later(&server, &clock, broker).await, &[]);
}

#[tokio::test]
async fn nothing_is_left_of_a_queue_that_was_deleted() {
    let server = RedisServer::start().await;
    let broker = connect(&server.url()).await;
    send(
        &broker,
        [unique("u", UniqueUntil::Window, HOUR), task("q", "a")],
    )
    .await;
    let later = NewTask::new(task("q", "later"), When::After(HOUR));
    broker.enqueue(vec![later]).await.expect("sent");
    broker
        .enqueue(vec![now(task("q", "b"))])
        .await
        .expect("sent");
    lease(&broker, "q", 1).await;
    maintain(&broker, &["q".into()]).await;
    assert!(
        broker
            .delete_queue(&"q".into(), true)
            .await
            .expect("deleted")
    );
    let left = left(&mut server.connection().await).await;
    assert_eq!(left, BTreeMap::new());
}

#[derive(Serialize, Deserialize)]
struct Nothing;

impl Task for Nothing {
    const EVENT: &'static str = "nothing";
    type Output = ();
    type Codec = MessagePack;
}

async fn idle(_: Payload<Nothing>, _: Context) -> Result<(), TaskError> {
    Ok(())
}

/// Run manually, with its output: `cargo test -p asynqueue-redis --test upkeep -- --ignored --nocapture`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "measures for two minutes"]
async fn the_upkeep_of_200_000_unique_tasks_is_measured() {
    const TASKS: usize = 200_000;
    const MEASURED: Duration = Duration::from_secs(60);
    let server = RedisServer::start().await;
    let broker = connect(&server.url()).await;
    for first in (0..TASKS).step_by(5_000) {
        let later = |n: usize| {
            NewTask::new(
                unique(&format!("task-{n:07}"), UniqueUntil::Success, 24 * HOUR),
                When::After(12 * HOUR),
            )
        };
        let batch = (first..first + 5_000).map(later).collect();
        let accepted = broker.enqueue(batch).await.expect("sent");
        assert!(accepted.iter().all(Result::is_ok));
    }
    for servers in [0, 1, 5] {
        let mut running = Vec::new();
        for _ in 0..servers {
            let broker = connect(&server.url()).await;
            let server = Server::builder(broker).queue("q", 1).process(idle);
            running.push(server.start().await.expect("a server"));
        }
        tokio::time::sleep(Duration::from_secs(5)).await;
        let (before, after) = (
            figures(&broker).await,
            async {
                tokio::time::sleep(MEASURED).await;
                figures(&broker).await
            }
            .await,
        );
        let cpu = (after.0 - before.0) / MEASURED.as_secs_f64();
        let commands = (after.1 - before.1) / MEASURED.as_secs_f64();
        println!(
            "{servers} servers: {:.2} % of a core, {commands:.0} commands/s",
            cpu * 100.0
        );
        for server in running {
            server.shutdown().await.expect("stopped");
        }
    }
}

/// Seconds of CPU time, and commands.
async fn figures(broker: &RedisBroker) -> (f64, f64) {
    let mut sum = (0.0, 0.0);
    for section in ["cpu", "stats"] {
        for (_, text) in broker.info(section).await.expect("a response") {
            for line in text.lines() {
                let (name, value) = line.split_once(':').unwrap_or_default();
                let value = || value.trim().parse::<f64>().expect("a number");
                match name {
                    "used_cpu_user" | "used_cpu_sys" => sum.0 += value(),
                    "total_commands_processed" => sum.1 += value(),
                    _ => {}
                }
            }
        }
    }
    sum
}
