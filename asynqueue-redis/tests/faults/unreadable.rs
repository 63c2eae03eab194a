//! What another version has written and this one cannot read.

use asynqueue_core::{
    Schedules,
    scheduler::{Entry, Timetable},
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
    let mut put = cmd("HSET");
    put.arg("aq:{schedules}:entries").arg("broken").arg("x");
    let () = put.query_async(&mut connection).await.expect("kept");
    let mut due = cmd("ZADD");
    due.arg("aq:{schedules}:due").arg(1).arg("broken");
    let () = due.query_async(&mut connection).await.expect("kept");

    let names = broker.schedules().await.expect("answered");
    assert_eq!(names.len(), 1);
    asynqueue_test_servers::eventually("the other is due", async || {
        let due = broker.due_schedules(10).await.expect("answered");
        due.entries.iter().any(|entry| entry.name == "whole")
    })
    .await;
}
