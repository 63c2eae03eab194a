//! Large tasks over a slow link.

use std::{sync::Arc, time::Duration};

use asynqueue_core::{
    broker::{Broker, Inspect},
    process::{Context, Payload, TaskError},
    server::Server,
};
use asynqueue_redis::{RedisBroker, RedisOptions};
use asynqueue_test_servers::{Fault, LateProxy, Monitor, Proxy, RedisServer, eventually};
use bytes::Bytes;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::common::{connect, lease, send, task};

#[derive(Serialize, Deserialize)]
struct Large {
    n: usize,
    bytes: String,
}

impl asynqueue_core::task::Task for Large {
    const EVENT: &'static str = "large";
    type Output = ();
    type Codec = asynqueue_core::codec::MessagePack;
}

/// All tasks that the server has room for would take longer than the response time-out.
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_is_too_large_for_the_link_runs_in_parts() {
    const TASKS: usize = 100;
    let redis = RedisServer::start().await;
    let producer = asynqueue_core::producer::Producer::new(connect(&redis.url()).await);
    let bytes = "x".repeat(900_000);
    for n in 0..TASKS {
        let large = Large {
            n,
            bytes: bytes.clone(),
        };
        producer.enqueue(large).await.expect("accepted");
    }
    let proxy = Proxy::start(redis.port()).await;
    proxy.set(Fault::Throttle(20_000_000));
    let broker = connect(&proxy.url()).await;
    let ran = Arc::new(Mutex::new(Vec::new()));
    let runs = Arc::clone(&ran);
    let server =
        Server::builder(broker)
            .concurrency(64)
            .process(move |task: Payload<Large>, _: Context| {
                runs.lock().push(task.n);
                async { Ok::<_, TaskError>(()) }
            });
    let server = server.start().await.expect("a server");
    eventually("all have run", || async { ran.lock().len() >= TASKS }).await;
    server.shutdown().await.expect("ended in order");
    let mut ran = ran.lock().clone();
    ran.sort_unstable();
    assert_eq!(ran, (0..TASKS).collect::<Vec<_>>(), "each once");
}

fn large(n: usize, bytes: usize) -> asynqueue_core::task::Envelope {
    let mut task = task("q", &format!("task-{n}"));
    task.payload = Bytes::from(vec![b'x'; bytes]);
    task
}

async fn connect_with(url: &str, answer_bytes: usize) -> RedisBroker {
    let options = RedisOptions::new(url).expect("a URL");
    let options = options.answer_bytes(answer_bytes).pool_size(1);
    RedisBroker::connect(options).await.expect("a connection")
}

fn ids(leased: &[asynqueue_core::broker::Leased]) -> Vec<String> {
    leased
        .iter()
        .map(|leased| leased.envelope.id.to_string())
        .collect()
}

/// A task above the limit is returned alone. Tasks keep their order, with and without a priority.
#[tokio::test]
async fn a_response_does_not_exceed_answer_bytes() {
    let redis = RedisServer::start().await;
    let broker = connect_with(&redis.url(), 250_000).await;
    let sizes = [100, 100_000, 100_000, 100_000, 600_000, 100, 100, 200_000];
    for priority in [0, 5] {
        let tasks = sizes.iter().enumerate().map(|(n, size)| {
            let mut task = large(n, *size);
            Arc::make_mut(&mut task.options).priority = priority;
            task
        });
        send(&broker, tasks.collect::<Vec<_>>()).await;
        let monitor = Monitor::start(&redis).await;
        let leased = lease(&broker, "q", sizes.len()).await;
        let seen = monitor.stop().await;
        let expected: Vec<_> = (0..sizes.len()).map(|n| format!("task-{n}")).collect();
        assert_eq!(ids(&leased), expected);
        let calls = seen
            .iter()
            .filter(|seen| seen.words[0].starts_with(b"EVAL"));
        // Of 100,100 + 100,000, 200,000, 600,000 and 200,200 bytes, once with its script.
        assert!((4..=6).contains(&calls.count()), "{seen:?}");
        let settlements: Vec<_> = leased
            .into_iter()
            .map(|leased| leased.settle(asynqueue_core::broker::Outcome::Complete { result: None }))
            .collect();
        asynqueue_core::broker::all_of(broker.settle(&settlements).await).expect("settled");
    }
}

/// They are neither leased without a worker, nor placed behind later tasks.
#[tokio::test]
async fn leased_tasks_that_do_not_fit_the_second_response_return_to_the_front() {
    let redis = RedisServer::start().await;
    let proxy = LateProxy::start(redis.port()).await;
    let client = connect_with(&proxy.url(), 400_000).await;
    let direct = connect(&redis.url()).await;
    send(&client, [task("warm", "warm")]).await;
    lease(&client, "warm", 1).await;
    send(&direct, (0..6).map(|n| large(n, 100_000))).await;
    proxy.lose_next_answer("");
    let leased = lease(&client, "q", 1_000).await;
    let expected: Vec<_> = (0..6).map(|n| format!("task-{n}")).collect();
    assert_eq!(ids(&leased), expected);
    let stats = direct.stats(&["q".into()]).await.expect("stats");
    let count = |state| stats[0].counts.get(&state).copied().unwrap_or_default();
    assert_eq!(count(asynqueue_core::task::TaskState::Active), 6);
    assert_eq!(count(asynqueue_core::task::TaskState::Pending), 0);
    assert_eq!(stats[0].repaired, 0);
}

/// Each kind of lookup reads as many tasks as fit.
#[tokio::test]
async fn large_tasks_are_looked_up_and_reclaimed_in_parts() {
    let redis = RedisServer::start().await;
    let broker = connect_with(&redis.url(), 250_000).await;
    send(&broker, (0..10).map(|n| large(n, 100_000))).await;
    let page = asynqueue_core::broker::Page::default();
    let found = broker
        .list(&"q".into(), asynqueue_core::task::TaskState::Pending, page)
        .await;
    assert_eq!(found.expect("a page").tasks.len(), 10);
    let request = asynqueue_core::broker::LeaseRequest::new(
        vec![("q".into(), 10)],
        10,
        Duration::from_secs(2),
        "tester".into(),
    );
    let leased = asynqueue_core::broker::all_of(broker.lease(&request).await).expect("leased");
    assert_eq!(leased[0].len(), 10);
    let by = broker.now() + Duration::from_secs(60);
    let ended = async || {
        !broker
            .expired(&["q".into()], by, 1)
            .await
            .unwrap()
            .is_empty()
    };
    eventually("the leases end", ended).await;
    let mut reclaimed = 0;
    while reclaimed < 10 {
        let expired = broker.expired(&["q".into()], by, 100).await;
        let expired = asynqueue_core::broker::all_of(expired)
            .expect("a response")
            .concat();
        assert!(expired.len() <= 2, "{}", expired.len());
        reclaimed += expired.len();
        let settlements: Vec<_> = expired
            .into_iter()
            .map(|leased| leased.settle(asynqueue_core::broker::Outcome::Archive))
            .collect();
        asynqueue_core::broker::all_of(broker.settle(&settlements).await).expect("settled");
    }
}
