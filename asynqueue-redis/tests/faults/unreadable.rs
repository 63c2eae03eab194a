//! Data of another version that this one cannot read.

use asynqueue_core::{
    broker::{self, DocumentSwap, Expect, Fleet, Inspect, Put, Schedules, Space},
    process::{Context, Payload, TaskError},
    producer::Producer,
    scheduler::{Entry, Scheduler, Timetable},
    server::Server,
    task::{Task, TaskState},
};
use asynqueue_test_servers::RedisServer;
use bytes::Bytes;
use redis::cmd;

use super::{
    common::connect,
    load::{QUEUE, Work},
};

#[tokio::test]
async fn an_unreadable_schedule_entry_does_not_block_the_others() {
    let server = RedisServer::start().await;
    let broker = connect(&server.url()).await;
    let timetable = Timetable::new(broker.clone());
    let entry = Entry::new("whole", "@every 1s", Work { n: 1 });
    timetable.put(entry.expect("a rule")).await.expect("kept");
    let mut connection = server.connection().await;
    // As many as a scheduler reads at a time, all due before the other one.
    for n in 0..150 {
        let name = format!("broken-{n}");
        let mut put = cmd("HSET");
        put.arg("aq:{documents}:schedules")
            .arg(&name)
            .arg("0000000000000001 1 x");
        let () = put.query_async(&mut connection).await.expect("kept");
        let mut due = cmd("ZADD");
        due.arg("aq:{documents}:schedules:due").arg(1).arg(&name);
        let () = due.query_async(&mut connection).await.expect("kept");
    }

    let names = broker.schedules().await.expect("a response");
    assert_eq!(names.len(), 1);
    asynqueue_test_servers::eventually("the other is due", async || {
        let due = broker.due_schedules(10).await.expect("a response");
        due.entries.iter().any(|entry| entry.name == "whole")
    })
    .await;
}

/// The stored history of an entry's ticks.
#[derive(serde::Serialize, serde::Deserialize)]
struct History {
    events: Vec<Bytes>,
}

#[tokio::test]
async fn an_unreadable_event_does_not_block_the_others() {
    let server = RedisServer::start().await;
    let broker = connect(&server.url()).await;
    let timetable = Timetable::new(broker.clone());
    let entry = Entry::new("e", "@every 1s", Work { n: 1 }).expect("a rule");
    timetable.put(entry).await.expect("kept");
    let scheduler = Scheduler::builder(broker.clone());
    let scheduler = scheduler.start().await.expect("started");
    let events = async || {
        let events = broker.schedule_events(&"e".into(), 100).await;
        events.expect("a response").len()
    };
    asynqueue_test_servers::eventually("it is fired", async || events().await > 0).await;
    scheduler.shutdown().await;
    let before = events().await;
    let name = ["e".into()];
    let found = broker::Store::document(&broker, Space::ScheduleEvents, &name).await;
    let history = found.expect("a response").remove(0).expect("a history");
    let mut history: History = rmp_serde::from_slice(&history.bytes).expect("a map");
    assert_eq!(history.events.len(), before);
    history.events.insert(0, Bytes::from_static(b"x"));
    let history = rmp_serde::to_vec_named(&history).expect("bytes");
    let put = Put::Set(history.into(), None);
    let [name] = name;
    let change = DocumentSwap::new(Space::ScheduleEvents, name, Expect::Any, put);
    let kept = broker::Store::swap(&broker, vec![vec![change]]).await;
    assert!(kept.expect("a response")[0].is_done);
    assert_eq!(events().await, before);
}

#[tokio::test]
async fn a_queue_that_cannot_be_written_delays_no_other_entry() {
    let server = RedisServer::start().await;
    let broker = connect(&server.url()).await;
    let mut connection = server.connection().await;
    let mut spoil = cmd("SET");
    spoil.arg("aq:{bad}:tasks").arg("x");
    let () = spoil.query_async(&mut connection).await.expect("kept");
    let entry = |queue: &'static str| {
        let entry = Entry::new(queue, "@every 1s", Work { n: 1 }).expect("a rule");
        entry.options(move |call| call.queue(queue))
    };
    let scheduler = Scheduler::builder(broker.clone())
        .entry(entry("bad"))
        .entry(entry("good"));
    let scheduler = scheduler.start().await.expect("started");
    asynqueue_test_servers::eventually("the good one is fired", async || {
        let stats = broker.stats(&["good".into()]).await.expect("a response");
        stats[0].total() >= 5
    })
    .await;
    scheduler.shutdown().await;
}

/// An event that the previous build does not know.
#[derive(serde::Serialize, serde::Deserialize)]
struct Fresh;

impl Task for Fresh {
    const EVENT: &'static str = "fresh";
    type Output = ();
    type Codec = asynqueue_core::codec::MessagePack;
}

async fn work(_: Payload<Work>, _: Context) -> Result<(), TaskError> {
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_deploy_runs_every_task_of_a_new_event_and_counts_no_attempt() {
    let redis = RedisServer::start().await;
    let broker = connect(&redis.url()).await;
    let server = |broker| Server::builder(broker).queue(QUEUE, 1).concurrency(8);
    let old = server(connect(&redis.url()).await).process(work);
    let old = old.start().await.expect("a server");
    let fresh = |_: Payload<Fresh>, ctx: Context| async move {
        let task = ctx.envelope();
        assert_eq!((task.attempts, task.failures().len()), (0, 0));
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        Ok::<_, TaskError>(())
    };
    let new = server(connect(&redis.url()).await)
        .process(work)
        .process(fresh);
    let new = new.start().await.expect("a server");
    let producer = Producer::new(broker.clone());
    for _ in 0..200 {
        producer
            .enqueue(Fresh)
            .queue(QUEUE)
            .await
            .expect("accepted");
    }
    asynqueue_test_servers::eventually("all have succeeded", async || {
        let stats = broker
            .stats(&[QUEUE.into()])
            .await
            .expect("a response")
            .remove(0);
        let left: u64 = TaskState::ALL.iter().map(|state| stats.count(*state)).sum();
        assert_eq!((stats.failed, stats.count(TaskState::Archived)), (0, 0));
        (stats.succeeded, left) == (200, 0)
    })
    .await;
    assert!(!broker.servers().await.expect("a response").is_empty());
    for server in [old, new] {
        server.shutdown().await.expect("ended in order");
    }
}

#[tokio::test]
async fn an_envelope_of_a_later_version_is_released_unchanged() {
    let redis = RedisServer::start().await;
    let broker = connect(&redis.url()).await;
    let producer = Producer::new(broker.clone());
    let task = producer
        .enqueue(Work { n: 1 })
        .queue(QUEUE)
        .await
        .expect("accepted");
    let mut connection = redis.connection().await;
    let (key, id) = (format!("aq:{{{QUEUE}}}:tasks"), task.id().as_str());
    let mut get = cmd("HGET");
    get.arg(&key).arg(id);
    let mut bytes: Vec<u8> = get.query_async(&mut connection).await.expect("there");
    let version = bytes
        .windows(3)
        .position(|three| three == b"\xa1v\x01")
        .expect("a version");
    bytes[version + 2] = 2;
    let mut put = cmd("HSET");
    put.arg(&key).arg(id).arg(&bytes);
    let () = put.query_async(&mut connection).await.expect("kept");

    let server = Server::builder(broker.clone())
        .queue(QUEUE, 1)
        .process(work);
    let server = server.start().await.expect("a server");
    asynqueue_test_servers::eventually("it is released", async || {
        let stats = broker
            .stats(&[QUEUE.into()])
            .await
            .expect("a response")
            .remove(0);
        stats.count(TaskState::Scheduled) == 1
    })
    .await;
    server.shutdown().await.expect("ended in order");
    let kept: Vec<u8> = get.query_async(&mut connection).await.expect("there");
    assert_eq!(kept, bytes);
}
