//! Redis loses declared subscribers and schedule entries: all of them, or only the last change.

use std::time::Duration;

use asynqueue_core::{
    broker::{Inspect, Schedules, Subscriptions},
    codec::MessagePack,
    process::{Context, Payload, TaskError},
    producer::Producer,
    scheduler::{Entry, Scheduler, SchedulerHandle, Timetable},
    server::{Server, ServerHandle},
    task::Task,
};
use asynqueue_redis::RedisBroker;
use asynqueue_test_servers::{Monitor, RedisServer, eventually};
use redis::{AsyncCommands, aio::MultiplexedConnection, cmd};
use serde::{Deserialize, Serialize};

use super::common::connect;

#[derive(Serialize, Deserialize)]
struct Placed;

impl Task for Placed {
    const EVENT: &'static str = "placed";
    type Output = ();
    type Codec = MessagePack;
}

#[derive(Serialize, Deserialize)]
struct Pulse;

impl Task for Pulse {
    const EVENT: &'static str = "pulse";
    type Output = ();
    type Codec = MessagePack;
}

async fn handle(_: Payload<Placed>, _: Context) -> Result<(), TaskError> {
    Ok(())
}

async fn serve(broker: &RedisBroker, subscribers: &[&'static str]) -> ServerHandle {
    let mut server = Server::builder(broker.clone());
    for name in subscribers {
        server = server.subscribe(*name, handle);
    }
    server.start().await.unwrap()
}

async fn schedule(broker: &RedisBroker, names: &[&str]) -> SchedulerHandle {
    let mut scheduler = Scheduler::builder(broker.clone());
    for name in names {
        scheduler = scheduler.entry(Entry::new(name, "@every 1s", Pulse).unwrap());
    }
    scheduler.start().await.unwrap()
}

async fn flush(connection: &mut MultiplexedConnection) {
    let () = cmd("FLUSHALL").query_async(connection).await.unwrap();
}

async fn subscribers(broker: &RedisBroker) -> Vec<String> {
    let known = broker.subscribers(&Placed::EVENT.into()).await.unwrap();
    known.iter().map(|known| known.name.to_string()).collect()
}

async fn entries(broker: &RedisBroker) -> Vec<String> {
    let known = broker.schedules().await.unwrap();
    known.iter().map(|known| known.name.to_string()).collect()
}

#[tokio::test]
async fn subscribers_and_schedule_entries_are_restored_when_redis_has_lost_all_data() {
    let redis = RedisServer::start().await;
    let broker = connect(&redis.url()).await;
    let server = serve(&broker, &["billing", "stock"]).await;
    let scheduler = schedule(&broker, &["pulse"]).await;
    flush(&mut redis.connection().await).await;
    let is_back = async || subscribers(&broker).await.len() == 2;
    eventually("the subscribers are back", is_back).await;
    let published = Producer::new(broker.clone()).publish(Placed).await.unwrap();
    assert_eq!(published.subscribers, 2);
    let ticks = async || {
        let stats = broker.stats(&["default".into()]).await.unwrap();
        stats[0].total() > 0
    };
    eventually("the entry is back, and fires", ticks).await;
    server.shutdown().await.unwrap();
    scheduler.shutdown().await;
}

/// As after a failover to a replica that was slightly behind.
#[tokio::test]
async fn only_the_last_change_is_restored_when_redis_has_lost_it() {
    let redis = RedisServer::start().await;
    let broker = connect(&redis.url()).await;
    let first = serve(&broker, &["billing"]).await;
    let one = schedule(&broker, &["first"]).await;
    let mut connection = redis.connection().await;
    let keys = [
        "aq:{documents}:subscriptions",
        "aq:{documents}:schedules",
        "aq:{documents}:schedules:due",
        "aq:{documents}:marks",
    ];
    let mut before = Vec::new();
    for key in keys {
        let dumped: Vec<u8> = cmd("DUMP")
            .arg(key)
            .query_async(&mut connection)
            .await
            .unwrap();
        before.push(dumped);
    }
    let second = serve(&broker, &["stock"]).await;
    let other = schedule(&broker, &["second"]).await;
    let is_known = async || subscribers(&broker).await.len() == 2;
    eventually("both are there", is_known).await;
    let mut pipe = redis::pipe();
    for (key, dumped) in keys.iter().zip(before) {
        pipe.cmd("RESTORE")
            .arg(key)
            .arg(0)
            .arg(dumped)
            .arg("REPLACE");
    }
    let () = pipe.atomic().query_async(&mut connection).await.unwrap();
    eventually("both are there again", is_known).await;
    let is_known = async || entries(&broker).await == ["first", "second"];
    eventually("both entries are there again", is_known).await;
    for server in [first, second] {
        server.shutdown().await.unwrap();
    }
    for scheduler in [one, other] {
        scheduler.shutdown().await;
    }
}

/// Although Redis loses the removal too.
#[tokio::test]
async fn removed_declarations_stay_removed_when_redis_has_lost_all_data() {
    let redis = RedisServer::start().await;
    let broker = connect(&redis.url()).await;
    let server = serve(&broker, &["billing", "stock"]).await;
    let scheduler = schedule(&broker, &["gone", "kept"]).await;
    let mut connection = redis.connection().await;
    let billing = (Placed::EVENT.into(), "billing".into());
    assert_eq!(broker.unsubscribe(&[billing]).await.unwrap(), [true]);
    let timetable = Timetable::new(broker.clone());
    assert!(timetable.remove("gone").await.unwrap());
    // Their return shows that both processes have checked since.
    let () = connection
        .hdel("aq:{documents}:subscriptions", Placed::EVENT)
        .await
        .unwrap();
    let () = connection
        .hdel("aq:{documents}:schedules", "kept")
        .await
        .unwrap();
    let () = connection.del("aq:{documents}:marks").await.unwrap();
    for _ in 0..2 {
        let is_back = async || subscribers(&broker).await == ["stock"];
        eventually("the other subscriber is back", is_back).await;
        let is_back = async || entries(&broker).await == ["kept"];
        eventually("the other entry is back", is_back).await;
        flush(&mut connection).await;
    }
    // A process that starts declares them again.
    let again = serve(&broker, &["billing"]).await;
    let is_back = async || subscribers(&broker).await == ["billing", "stock"];
    eventually("all are there", is_back).await;
    server.shutdown().await.unwrap();
    again.shutdown().await.unwrap();
    scheduler.shutdown().await;
}

#[tokio::test]
async fn an_entry_that_was_paused_stays_paused() {
    let redis = RedisServer::start().await;
    let broker = connect(&redis.url()).await;
    let scheduler = schedule(&broker, &["kept", "paused"]).await;
    let timetable = Timetable::new(broker.clone());
    timetable.pause("paused").await.unwrap();
    let mut connection = redis.connection().await;
    // The mark last: without it, the scheduler checks immediately.
    let () = connection
        .hdel("aq:{documents}:schedules", "kept")
        .await
        .unwrap();
    let () = connection.del("aq:{documents}:marks").await.unwrap();
    let is_back = async || entries(&broker).await.len() == 2;
    eventually("the other is back", is_back).await;
    let entries = broker.schedules().await.unwrap();
    let paused: Vec<_> = entries.iter().map(|entry| entry.paused).collect();
    assert_eq!(paused, [false, true]);
    scheduler.shutdown().await;
}

#[tokio::test]
async fn checking_for_losses_takes_one_small_command_for_any_number_of_declarations() {
    let redis = RedisServer::start().await;
    let broker = connect(&redis.url()).await;
    let all = (0..500).map(|n| ("event".into(), format!("subscriber-{n}").into()));
    broker.subscribe(all.collect()).await.unwrap();
    let monitor = Monitor::start(&redis).await;
    for _ in 0..10 {
        broker.subscriptions_mark().await.unwrap();
        broker.schedules_mark().await.unwrap();
    }
    let mut seen = monitor.stop().await;
    // A new connection identifies itself first.
    seen.retain(|seen| !seen.words[0].eq_ignore_ascii_case(b"CLIENT"));
    assert_eq!(seen.len(), 20);
    let bytes = seen.iter().flat_map(|seen| &seen.words).map(Vec::len);
    assert!(bytes.sum::<usize>() < 20 * 50);
}

/// The servers notice it by themselves.
#[tokio::test]
async fn declarations_are_restored_when_redis_restarts_without_its_data() {
    let mut redis = RedisServer::start().await;
    let broker = connect(&redis.url()).await;
    let server = serve(&broker, &["billing"]).await;
    redis.kill();
    redis.start_again().await;
    let is_back = async || {
        let known = broker.subscribers(&Placed::EVENT.into()).await;
        known.is_ok_and(|known| known.len() == 1)
    };
    let back = eventually("the subscriber is back", is_back);
    tokio::time::timeout(Duration::from_secs(30), back)
        .await
        .unwrap();
    server.shutdown().await.unwrap();
}
