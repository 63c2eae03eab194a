//! What another version has written and this one cannot read.

use asynqueue_core::{
    Inspect, Schedules,
    scheduler::{Entry, Scheduler, Timetable},
};
use asynqueue_test_servers::RedisServer;
use redis::cmd;

use super::{common::connect, load::Work};

#[tokio::test]
async fn a_schedule_entry_that_cannot_be_read_keeps_nobody_from_all_others() {
    let server = RedisServer::start().await;
    let broker = connect(&server.url()).await;
    let timetable = Timetable::new(broker.clone());
    let entry = Entry::new("whole", "@every 1s", Work { n: 1 });
    timetable.put(entry.expect("a rule")).await.expect("kept");
    let mut connection = server.connection().await;
    // As many as a scheduler asks for at a time, and all due before the other.
    for n in 0..150 {
        let name = format!("broken-{n}");
        let mut put = cmd("HSET");
        put.arg("aq:{schedules}:entries").arg(&name).arg("x");
        let () = put.query_async(&mut connection).await.expect("kept");
        let mut due = cmd("ZADD");
        due.arg("aq:{schedules}:due").arg(1).arg(&name);
        let () = due.query_async(&mut connection).await.expect("kept");
    }

    let names = broker.schedules().await.expect("answered");
    assert_eq!(names.len(), 1);
    asynqueue_test_servers::eventually("the other is due", async || {
        let due = broker.due_schedules(10).await.expect("answered");
        due.entries.iter().any(|entry| entry.name == "whole")
    })
    .await;
}

#[tokio::test]
async fn an_event_that_cannot_be_read_keeps_nobody_from_all_others() {
    let server = RedisServer::start().await;
    let broker = connect(&server.url()).await;
    let timetable = Timetable::new(broker.clone());
    let entry = Entry::new("e", "@every 1s", Work { n: 1 }).expect("a rule");
    timetable.put(entry).await.expect("kept");
    let scheduler = Scheduler::builder(broker.clone());
    let scheduler = scheduler.start().await.expect("started");
    let events = async || {
        let events = broker.schedule_events(&"e".into(), 100).await;
        events.expect("answered").len()
    };
    asynqueue_test_servers::eventually("it is fired", async || events().await > 0).await;
    scheduler.shutdown().await;
    let before = events().await;
    let mut connection = server.connection().await;
    let mut push = cmd("LPUSH");
    push.arg("aq:{schedules}:events:e").arg("x");
    let () = push.query_async(&mut connection).await.expect("kept");
    assert_eq!(events().await, before);
}

#[tokio::test]
async fn a_queue_that_cannot_be_written_holds_up_no_other_entry() {
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
        let stats = broker.stats(&["good".into()]).await.expect("answered");
        stats[0].total() >= 5
    })
    .await;
    scheduler.shutdown().await;
}
