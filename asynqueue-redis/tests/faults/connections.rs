//! Broken connections and restarted servers.

use std::{sync::Arc, time::Duration};

use asynqueue_core::broker::{Broker, Control, Inspect, Outcome, Settled, all_of};
use asynqueue_redis::{RedisBroker, RedisOptions};
use asynqueue_test_servers::{Fault, Proxy, RedisServer, eventually};
use redis::cmd;

use super::{
    common::{connect, lease, process_all, send, task},
    load::{Producers, QUEUE, Record, patient, serve},
};

const MOMENT: Duration = Duration::from_millis(2);

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_redis_loses_and_duplicates_nothing() {
    let settings = ["--appendonly", "yes", "--appendfsync", "always"];
    let mut server = RedisServer::with(&settings).await;
    let (broker, record) = (patient(&server.url()).await, Arc::new(Record::default()));
    let worker = serve(&broker, &record, MOMENT).await;
    let producers = Producers::start(&broker, MOMENT);
    for round in 0..4 {
        let before = record.done();
        eventually("work continues", || async { record.done() > before + 50 }).await;
        if round % 2 == 0 {
            server.stop()
        } else {
            server.kill()
        }
        server.start_again().await;
    }
    let sent = producers.stop().await;
    eventually("all is done", || async { record.done() == sent }).await;
    worker.shutdown().await.expect("ended in order");
    record.assert_each_ran_once(sent);
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_connections_lose_and_duplicate_nothing() {
    let server = RedisServer::start().await;
    let (broker, record) = (patient(&server.url()).await, Arc::new(Record::default()));
    let worker = serve(&broker, &record, MOMENT).await;
    let producers = Producers::start(&broker, MOMENT);
    let mut admin = server.connection().await;
    let mut killed = 0;
    for _ in 0..25 {
        let mut kill = cmd("CLIENT");
        // None, if there was no time to reconnect.
        killed += kill
            .arg(&["KILL", "SKIPME", "yes"])
            .query_async::<i64>(&mut admin)
            .await
            .expect("killed");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(killed > 0);
    let sent = producers.stop().await;
    eventually("all is done", || async { record.done() == sent }).await;
    worker.shutdown().await.expect("ended in order");
    record.assert_each_ran_once(sent);
}

#[tokio::test(flavor = "multi_thread")]
async fn flushed_scripts_are_loaded_again() {
    let server = RedisServer::start().await;
    let (broker, record) = (patient(&server.url()).await, Arc::new(Record::default()));
    let worker = serve(&broker, &record, MOMENT).await;
    let producers = Producers::start(&broker, MOMENT);
    let mut admin = server.connection().await;
    for _ in 0..100 {
        let mut flush = cmd("SCRIPT");
        let _: () = flush
            .arg("FLUSH")
            .query_async(&mut admin)
            .await
            .expect("flushed");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let sent = producers.stop().await;
    eventually("all is done", || async { record.done() == sent }).await;
    worker.shutdown().await.expect("ended in order");
    record.assert_each_ran_once(sent);
}

/// Requests arrive, but their results are unknown.
#[tokio::test(flavor = "multi_thread")]
async fn late_cut_or_missing_responses_lose_and_duplicate_nothing() {
    let server = RedisServer::start().await;
    let proxy = Proxy::start(server.port()).await;
    let (broker, record) = (patient(&proxy.url()).await, Arc::new(Record::default()));
    let worker = serve(&broker, &record, MOMENT).await;
    let producers = Producers::start(&broker, MOMENT);
    let faults = [
        Fault::Delay(Duration::from_millis(50)),
        Fault::CutReplies,
        Fault::SwallowReplies,
        Fault::Blackhole,
    ];
    for fault in faults.into_iter().cycle().take(12) {
        proxy.set(fault);
        tokio::time::sleep(Duration::from_millis(700)).await;
        proxy.set(Fault::None);
        let before = record.done();
        eventually("work continues", || async { record.done() > before + 20 }).await;
    }
    assert!(proxy.cuts() > 0, "no response was cut");
    let sent = producers.stop().await;
    eventually("all is done", || async { record.done() == sent }).await;
    worker.shutdown().await.expect("ended in order");
    record.assert_each_ran_once(sent);
}

/// The poll continues without signals, and they recover by themselves.
#[tokio::test(flavor = "multi_thread")]
async fn lost_signals_cost_time_and_recover() {
    let server = RedisServer::start().await;
    let (broker, record) = (patient(&server.url()).await, Arc::new(Record::default()));
    let worker = serve(&broker, &record, MOMENT).await;
    let producer = asynqueue_core::producer::Producer::new(broker.clone());
    let mut admin = server.connection().await;
    let subscribed = async |admin: &mut redis::aio::MultiplexedConnection| {
        let mut ask = cmd("PUBSUB");
        let channels: Vec<String> = ask
            .arg("CHANNELS")
            .query_async(admin)
            .await
            .expect("channels");
        !channels.is_empty()
    };
    for n in 0..5 {
        let mut ask = admin.clone();
        eventually("the server listens", || {
            let mut admin = ask.clone();
            async move { subscribed(&mut admin).await }
        })
        .await;
        let mut kill = cmd("CLIENT");
        let _: i64 = kill
            .arg(&["KILL", "TYPE", "pubsub"])
            .query_async(&mut admin)
            .await
            .expect("killed");
        super::load::send(&producer, n).await;
        eventually("it runs", || async { record.done() == n + 1 }).await;
        ask = admin.clone();
        drop(ask);
    }
    worker.shutdown().await.expect("ended in order");
    record.assert_each_ran_once(5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiter_receives_the_result_after_redis_was_away() {
    let settings = ["--appendonly", "yes", "--appendfsync", "always"];
    let mut server = RedisServer::with(&settings).await;
    let (broker, record) = (patient(&server.url()).await, Arc::new(Record::default()));
    let producer = asynqueue_core::producer::Producer::new(broker.clone());
    let task = producer.enqueue(super::load::Work { n: 0 }).queue(QUEUE);
    let task = task
        .retention(Duration::from_secs(60))
        .await
        .expect("accepted");
    let waiting = tokio::spawn(async move { task.result().await });
    for _ in 0..2 {
        server.kill();
        // Long enough to be noticed, but shorter than calls are retried.
        tokio::time::sleep(Duration::from_secs(1)).await;
        server.start_again().await;
    }
    let worker = serve(&broker, &record, MOMENT).await;
    waiting.await.expect("no panic").expect("completed");
    worker.shutdown().await.expect("ended in order");
    record.assert_each_ran_once(1);
}

/// With any number of calls, none waits until the retries of others have failed one after the other.
#[tokio::test(flavor = "multi_thread")]
async fn many_calls_fail_together_while_redis_is_away() {
    let server = RedisServer::start().await;
    let proxy = Proxy::start(server.port()).await;
    let options = RedisOptions::new(&proxy.url()).expect("a URL");
    let options = options
        .connect_timeout(Duration::from_millis(500))
        .response_timeout(Duration::from_millis(500))
        .retry_for(Duration::from_secs(2));
    let broker = RedisBroker::connect(options).await.expect("a connection");
    proxy.set(Fault::Blackhole);
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..200 {
        let broker = broker.clone();
        calls.spawn(async move { broker.ping().await });
    }
    let all = tokio::time::timeout(Duration::from_secs(30), calls.join_all());
    let answers = all
        .await
        .expect("long before two hundred time-outs have passed");
    assert!(answers.iter().all(Result::is_err));
    proxy.set(Fault::None);
    eventually("it responds again", || async {
        broker.ping().await.is_ok()
    })
    .await;
}

/// A server retries as long as it takes. A recorded outcome is not refused when it is sent again.
#[tokio::test(flavor = "multi_thread")]
async fn a_recorded_outcome_without_a_response_is_not_refused_the_next_time() {
    let server = RedisServer::start().await;
    let proxy = Proxy::start(server.port()).await;
    let options = RedisOptions::new(&proxy.url()).expect("a URL");
    let options = options
        .connect_timeout(Duration::from_millis(200))
        .response_timeout(Duration::from_millis(200))
        .retry_for(Duration::from_millis(500));
    let broker = RedisBroker::connect(options).await.expect("a connection");
    // Loads the script, which would otherwise be sent first.
    send(&broker, [task(QUEUE, "first")]).await;
    process_all(&broker, QUEUE, 1).await;
    send(&broker, [task(QUEUE, "a"), task(QUEUE, "b")]).await;
    let leased = lease(&broker, QUEUE, 2).await;
    let settlements: Vec<_> = leased
        .into_iter()
        .map(|leased| leased.settle(Outcome::Complete { result: None }))
        .collect();
    proxy.set(Fault::SwallowReplies);
    all_of(broker.settle(&settlements).await).expect_err("no response");
    proxy.set(Fault::None);
    let stats = connect(&server.url()).await.stats(&[QUEUE.into()]).await;
    assert_eq!(stats.expect("stats")[0].succeeded, 3, "recorded");
    let settled = all_of(broker.settle(&settlements).await).expect("a response");
    assert_eq!(settled, [Settled::Recorded; 2]);
    let settled = all_of(broker.settle(&settlements).await).expect("a response");
    assert_eq!(settled, [Settled::Stale; 2], "once is enough");
}
