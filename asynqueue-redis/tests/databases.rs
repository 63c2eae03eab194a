//! Two databases of one Redis, with the same prefix, queue and ids, do not affect each other.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod common;

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use asynqueue_core::{
    broker::{Broker, BrokerError, Control, Finished, NewTask, Outcome, Signal, When},
    task::{Envelope, TaskRef},
};
use asynqueue_redis::RedisBroker;
use asynqueue_test_servers::{Monitor, RedisServer, eventually};
use bytes::Bytes;
use redis::{aio::MultiplexedConnection, cmd};

use common::{connect, lease, next, now, send, task};

const HOUR: Duration = Duration::from_secs(3600);

/// A task whose result is kept.
fn kept(id: &str) -> Envelope {
    let mut task = task("q", id);
    Arc::make_mut(&mut task.options).retention = HOUR;
    task
}

async fn complete(broker: &RedisBroker, result: Bytes) {
    let leased = lease(broker, "q", 1).await.remove(0);
    let result = Some(result);
    let settled = leased.settle(Outcome::Complete { result });
    broker.settle(&[settled]).await.unwrap();
}

type Waiting<'a> = Pin<Box<dyn Future<Output = Result<Finished, BrokerError>> + Send + 'a>>;

/// Starts to wait for the end of task `a`, until Redis has noted the waiter.
async fn wait<'a>(broker: &'a RedisBroker, server: &RedisServer, db: usize) -> Waiting<'a> {
    let task = TaskRef::new("q", "a".parse().unwrap());
    let mut waiting: Waiting<'a> = Box::pin(async move { broker.finished(&task).await });
    noted(&mut waiting, server, db).await;
    waiting
}

/// Polls a waiter until Redis has noted it.
async fn noted(waiting: &mut Waiting<'_>, server: &RedisServer, db: usize) {
    let connection = server.connection().await;
    let is_noted = || async {
        let mut connection = connection.clone();
        select(&mut connection, db).await;
        let mut noted = cmd("HEXISTS");
        noted.arg("aq:{q}:waiters").arg("a");
        noted.query_async::<bool>(&mut connection).await.unwrap()
    };
    tokio::select! {
        () = eventually("noted", is_noted) => {}
        finished = waiting => panic!("{finished:?}"),
    }
}

async fn select(connection: &mut MultiplexedConnection, db: usize) {
    let _: () = cmd("SELECT").arg(db).query_async(connection).await.unwrap();
}

fn result(finished: Result<Finished, BrokerError>) -> Bytes {
    match finished {
        Ok(Finished::Completed { result, .. }) => result.expect("a result"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_result_of_a_task_in_another_database_is_ignored() {
    let server = RedisServer::start().await;
    let first = connect(&server.url()).await;
    let second = connect(&format!("{}/1", server.url())).await;
    for retention in [HOUR, Duration::ZERO] {
        for broker in [&first, &second] {
            let mut task = kept("a");
            Arc::make_mut(&mut task.options).retention = retention;
            send(broker, [task]).await;
        }
        let mut waiting = wait(&first, &server, 0).await;
        let waiting_too = wait(&second, &server, 1).await;
        let mut older = server.connection().await;
        let mut forget = cmd("HDEL");
        forget.arg("aq:{q}:waiters").arg("a");
        let _: () = forget.query_async(&mut older).await.unwrap();
        // An older program in the other database publishes on the channel that this one listens to.
        let mut publish = cmd("PUBLISH");
        publish.arg("aq:{q}:done").arg("a\ncrtheirs");
        let received: i64 = publish.query_async(&mut older).await.unwrap();
        assert_eq!(
            received, 1,
            "the channel of database 0 is that of older programs"
        );
        // The waiter looks the task up, and continues to wait.
        noted(&mut waiting, &server, 0).await;
        complete(&second, Bytes::from_static(b"second")).await;
        assert_eq!(result(waiting_too.await), "second");
        complete(&first, Bytes::from_static(b"first")).await;
        assert_eq!(result(waiting.await), "first");
        for broker in [&first, &second] {
            let task = TaskRef::new("q", "a".parse().unwrap());
            broker.delete(&[task]).await.unwrap();
        }
    }
}

#[tokio::test]
async fn wake_ups_and_cancellations_stay_in_their_database() {
    let server = RedisServer::start().await;
    let first = connect(&server.url()).await;
    let second = connect(&format!("{}/1", server.url())).await;
    let queue = ["q".into()];
    let mut signals = first.signals(&queue).await.unwrap();
    let mut others = second.signals(&queue).await.unwrap();
    send(&first, [task("q", "a")]).await;
    assert_eq!(next(&mut signals).await, Some(Signal::Pending("q".into())));
    lease(&first, "q", 1).await;

    send(&second, [task("q", "a")]).await;
    lease(&second, "q", 1).await;
    let a = TaskRef::new("q", "a".parse().unwrap());
    second
        .cancel(std::slice::from_ref(&a), "not here")
        .await
        .unwrap();
    let (envelope, when) = (task("q", "later"), When::After(HOUR));
    second
        .enqueue(vec![NewTask::new(envelope, when)])
        .await
        .unwrap();
    for kind in ["pending", "cancel", "due"] {
        let signal = next(&mut others).await.unwrap();
        let is_it = match &signal {
            Signal::Pending(_) => kind == "pending",
            Signal::Cancel(task) => kind == "cancel" && *task == a,
            Signal::Due(..) => kind == "due",
            _ => false,
        };
        assert!(is_it, "{kind}: {signal:?}");
    }
    // Anything published here would arrive before this.
    first.enqueue(vec![now(task("q", "b"))]).await.unwrap();
    lease(&first, "q", 1).await;
    let b = TaskRef::new("q", "b".parse().unwrap());
    first
        .cancel(std::slice::from_ref(&b), "here")
        .await
        .unwrap();
    assert_eq!(next(&mut signals).await, Some(Signal::Pending("q".into())));
    assert_eq!(next(&mut signals).await, Some(Signal::Cancel(b)));
}

/// There are many waiters, and the result is large.
#[tokio::test]
async fn a_result_is_read_by_its_waiter_and_not_sent_to_all() {
    let server = RedisServer::start().await;
    let broker = connect(&server.url()).await;
    send(&broker, [kept("a")]).await;
    let waiting = wait(&broker, &server, 0).await;
    let large = Bytes::from(vec![7; 100_000]);
    let monitor = Monitor::start(&server).await;
    complete(&broker, large.clone()).await;
    assert_eq!(result(waiting.await), large);
    let seen = monitor.stop().await;
    let published: Vec<_> = seen
        .iter()
        .filter(|seen| seen.words[0].eq_ignore_ascii_case(b"publish"))
        .map(|seen| seen.words[2].len())
        .collect();
    assert_eq!(published, ["a\nk".len()]);
}
