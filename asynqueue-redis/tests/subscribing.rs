//! Listening to many queues, also over a slow link.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod common;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use asynqueue_core::{
    broker::{Control, Signal},
    codec::MessagePack,
    process::{Context, Payload, TaskError},
    server::{Server, ServerHandle},
    task::{Name, Task},
};
use asynqueue_redis::RedisBroker;
use asynqueue_test_servers::{Fault, Monitor, Proxy, RedisCluster, RedisServer, Seen, eventually};
use futures_util::{FutureExt, StreamExt};
use serde::{Deserialize, Serialize};

use common::{connect, next, send, task};

const QUEUES: usize = 1_000;

fn queues() -> Vec<Name> {
    (0..QUEUES).map(|n| format!("q{n}").into()).collect()
}

fn count(seen: &[Seen], command: &str) -> usize {
    let is_it = |seen: &&Seen| seen.words[0].eq_ignore_ascii_case(command.as_bytes());
    seen.iter().filter(is_it).count()
}

#[tokio::test]
async fn many_queues_are_subscribed_to_in_one_command() {
    let server = RedisServer::start().await;
    let broker = connect(&server.url()).await;
    let monitor = Monitor::start(&server).await;
    let mut signals = broker.signals(&queues()).await.unwrap();
    assert_eq!(count(&monitor.stop().await, "subscribe"), 1);
    send(&broker, [task("q999", "a")]).await;
    assert_eq!(
        next(&mut signals).await,
        Some(Signal::Pending("q999".into()))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn many_queues_of_a_cluster_are_subscribed_to_at_the_same_time() {
    let cluster = RedisCluster::start().await;
    let broker = connect(&cluster.url()).await;
    let queues: Vec<_> = (0..100).map(|n| Name::from(format!("q{n}"))).collect();
    let mut signals = broker.signals(&queues).await.unwrap();
    for queue in ["q0", "q42", "q99"] {
        send(&broker, [task(queue, "a")]).await;
        assert_eq!(
            next(&mut signals).await,
            Some(Signal::Pending(queue.into()))
        );
    }
}

#[tokio::test]
async fn a_dropped_attempt_ends_no_subscription_and_is_not_started_again() {
    let server = RedisServer::start().await;
    let proxy = Proxy::start(server.port()).await;
    let broker = connect(&proxy.url()).await;
    let mut first = broker.signals(&["first".into()]).await.unwrap();
    let monitor = Monitor::start(&server).await;
    proxy.set(Fault::Delay(Duration::from_millis(300)));
    let many = queues();
    {
        let attempt = broker.signals(&many).now_or_never();
        assert!(attempt.is_none(), "subscribing takes longer");
    }
    // It continues, and this call finds it in progress or done.
    let mut signals = broker.signals(&many).await.unwrap();
    proxy.set(Fault::None);
    send(&broker, [task("first", "a"), task("q7", "a")]).await;
    assert_eq!(
        next(&mut first).await,
        Some(Signal::Pending("first".into()))
    );
    assert_eq!(next(&mut signals).await, Some(Signal::Pending("q7".into())));
    assert_eq!(count(&monitor.stop().await, "subscribe"), 1);
    assert_eq!(first.next().now_or_never(), None, "the stream continues");
}

/// A task that counts its runs.
#[derive(Serialize, Deserialize)]
struct Counted;

impl Task for Counted {
    const EVENT: &'static str = "event";
    type Output = ();
    type Codec = MessagePack;
}

async fn serve(broker: RedisBroker, runs: &Arc<AtomicUsize>) -> ServerHandle {
    let runs = Arc::clone(runs);
    let mut server = Server::builder(broker);
    for queue in queues() {
        server = server.queue(queue, 1);
    }
    let process = move |_: Payload<Counted>, _: Context| {
        runs.fetch_add(1, SeqCst);
        async { Ok::<_, TaskError>(()) }
    };
    server.process(process).start().await.expect("a server")
}

fn counted(queue: &str, id: &str) -> asynqueue_core::task::Envelope {
    let mut task = task(queue, id);
    task.payload = rmp_serde::to_vec_named(&Counted).unwrap().into();
    task
}

/// Its first lease does not wait for a subscription, and no subscription is dropped.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_of_many_queues_starts_over_a_slow_link() {
    let server = RedisServer::start().await;
    let proxy = Proxy::start(server.port()).await;
    let (broker, near) = (connect(&proxy.url()).await, connect(&server.url()).await);
    send(&near, [counted("q0", "a"), counted("q999", "a")]).await;
    proxy.set(Fault::Delay(Duration::from_millis(20)));
    let monitor = Monitor::start(&server).await;
    let (runs, started) = (Arc::new(AtomicUsize::new(0)), Instant::now());
    let _server = serve(broker, &runs).await;
    println!("it has started after {:?}", started.elapsed());
    eventually("both run", || async { runs.load(SeqCst) == 2 }).await;
    println!("both ran after {:?}", started.elapsed());
    let connection = server.connection().await;
    let all_idle = || async {
        let mut connection = connection.clone();
        let mut keys = redis::cmd("KEYS");
        let idle: Vec<String> = keys
            .arg("*:idle")
            .query_async(&mut connection)
            .await
            .unwrap();
        idle.len() == QUEUES
    };
    eventually("it can be woken for each", all_idle).await;
    println!("it waits after {:?}", started.elapsed());
    send(&near, [counted("q500", "b")]).await;
    eventually("it is woken", || async { runs.load(SeqCst) == 3 }).await;
    assert_eq!(count(&monitor.stop().await, "subscribe"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_server_of_many_queues_sends_at_most_twenty_commands_a_second() {
    let server = RedisServer::start().await;
    let runs = Arc::new(AtomicUsize::new(0));
    let _server = serve(connect(&server.url()).await, &runs).await;
    let calm = || async {
        let monitor = Monitor::start(&server).await;
        let started = Instant::now();
        tokio::time::sleep(Duration::from_secs(2)).await;
        let seen = monitor.stop().await;
        let sent = seen.iter().filter(|seen| !seen.by_script).count();
        println!("{sent} commands in {:?}", started.elapsed());
        sent as f64 <= 20.0 * started.elapsed().as_secs_f64() + 5.0
    };
    eventually("the start is over", calm).await;
}
