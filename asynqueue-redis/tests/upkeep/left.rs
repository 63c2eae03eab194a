//! What is left of tasks, programs and entries that have ended: nothing.

use std::{collections::BTreeMap, time::Duration};

use asynqueue_core::{
    broker::{
        Broker, Control, Fire, Fleet, LeaseRequest, NewTask, Outcome, ScheduleEntry, Schedules,
        ServerInfo, Subscriptions, Tick, When, all_of,
    },
    task::{Clock, Name, TaskId, TaskRef, Timestamp, UniqueUntil},
    testing::TestClock,
};
use asynqueue_redis::RedisBroker;
use asynqueue_test_servers::RedisServer;
use redis::{AsyncCommands, aio::MultiplexedConnection};

use crate::{
    HOUR, at,
    common::{connect, lease, now, send, task},
    complete_all, len, maintain, unique,
};

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
    assert_eq!(
        len(&mut connection, "fired").await,
        200,
        "for late schedulers"
    );
    assert_eq!(complete_all(&broker).await, 200);
    clock.advance(2 * HOUR);
    report_for_minutes(&broker, &clock, 6).await;
    let left = left_hours_later(&server, &clock, broker).await;
    assert_only(left, &[("aq:{documents}:marks", 1)]);
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
        let request = LeaseRequest::new(vec![("q".into(), 1)], 1, Duration::from_secs(30), name);
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
        let reference = TaskRef::new("q", TaskId::new(n.to_string()).expect("id"));
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
