//! Groups that Redis refuses, or that cannot be read.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use asynqueue_core::{
    broker::{Groups, Inspect, Page},
    codec::MessagePack,
    process::{Context, Payload, TaskError},
    producer::Producer,
    server::{Server, ServerBuilder},
    task::{Aggregate, Backoff, Task, TaskState},
};
use asynqueue_redis::RedisBroker;
use asynqueue_test_servers::{RedisServer, eventually};
use redis::cmd;
use serde::{Deserialize, Serialize};

use super::common::connect;

const LIMITS: Aggregate = Aggregate::DEFAULT
    .grace(Duration::from_millis(50))
    .max_delay(Duration::from_millis(100))
    .max_size(8);

#[derive(Serialize, Deserialize)]
struct News(String);

impl Task for News {
    const EVENT: &'static str = "news";
    type Output = ();
    type Codec = MessagePack;
}

#[derive(Serialize, Deserialize)]
struct Digest(Vec<String>);

impl Task for Digest {
    const EVENT: &'static str = "digest";
    type Output = ();
    type Codec = MessagePack;
}

/// How many bytes of news were in each digest.
type Sizes = Arc<Mutex<Vec<usize>>>;

fn server(broker: &RedisBroker, sizes: &Sizes) -> ServerBuilder {
    let sizes = Arc::clone(sizes);
    let process = move |digest: Payload<Digest>, _: Context| {
        let size = digest.0.0.iter().map(String::len).sum();
        sizes.lock().expect("not poisoned").push(size);
        async { Ok::<_, TaskError>(()) }
    };
    Server::builder(broker.clone())
        .aggregate(|news: Vec<News>| Digest(news.into_iter().map(|one| one.0).collect()))
        .process(process)
        .poll_interval(Duration::from_millis(20))
}

async fn publish(producer: &Producer, group: &str, id: &str, size: usize) {
    let news = producer.enqueue(News("x".repeat(size))).id(id.to_owned());
    let news = news.group(group.to_owned()).aggregate(LIMITS);
    let news = news.backoff(Backoff::Fixed(Duration::from_millis(50)));
    news.await.expect("accepted");
}

#[tokio::test]
async fn a_group_too_large_for_redis_becomes_several_tasks_and_delays_no_other() {
    const LARGE: usize = 300_000;
    let redis = RedisServer::with(&["--proto-max-bulk-len", "1048576"]).await;
    let broker = connect(&redis.url()).await;
    let producer = Producer::new(broker.clone());
    for n in 0..8 {
        publish(&producer, "large", &format!("large-{n}"), LARGE).await;
    }
    for n in 0..10 {
        publish(&producer, &format!("small-{n}"), &format!("small-{n}"), 1).await;
    }
    let sizes = Sizes::default();
    let _server = server(&broker, &sizes).start().await.expect("a server");
    let done = |is: fn(usize) -> bool| {
        let sizes = sizes.lock().expect("not poisoned");
        sizes.iter().filter(|size| is(**size)).sum::<usize>()
    };
    eventually("the small ones are done", async || {
        done(|size| size < LARGE) == 10
    })
    .await;
    eventually("the large one is done", async || {
        done(|size| size >= LARGE) == 8 * LARGE
    })
    .await;
}

#[tokio::test]
async fn a_member_with_an_unreadable_envelope_waits_unchanged_for_a_build_that_can_read_it() {
    let redis = RedisServer::start().await;
    let broker = connect(&redis.url()).await;
    let producer = Producer::new(broker.clone());
    for id in ["a", "b", "c"] {
        publish(&producer, "g", id, 1).await;
    }
    let mut connection = redis.connection().await;
    let mut whole = cmd("HGET");
    whole.arg(&["aq:{default}:tasks", "b"]);
    let whole: Vec<u8> = whole.query_async(&mut connection).await.expect("kept");
    let mut overwrite = cmd("HSET");
    overwrite.arg(&["aq:{default}:tasks", "b", "of a later version"]);
    let _: i64 = overwrite.query_async(&mut connection).await.expect("set");
    let sizes = Sizes::default();
    let _server = server(&broker, &sizes).start().await.expect("a server");
    eventually("the others are done", async || {
        *sizes.lock().expect("not poisoned") == [2]
    })
    .await;
    let groups = async || {
        let groups = broker.groups(&"default".into(), 10).await;
        groups.expect("a response")
    };
    let apart = groups().await.remove(0);
    assert_eq!((&*apart.name, apart.tries, apart.size), ("g", 1, 1));
    let mut kept = cmd("HGET");
    kept.arg(&["aq:{default}:tasks", "b"]);
    let kept: String = kept.query_async(&mut connection).await.expect("kept");
    assert_eq!(kept, "of a later version");
    let mut heal = cmd("HSET");
    heal.arg("aq:{default}:tasks").arg("b").arg(whole);
    let _: i64 = heal.query_async(&mut connection).await.expect("set");
    // Its backoff is unknown, so the default applies. It is due now.
    let mut due = cmd("ZADD");
    due.arg("aq:{default}:groups").arg(1);
    due.arg("news\ng\u{1}b\u{1}1");
    let _: i64 = due.query_async(&mut connection).await.expect("set");
    eventually("it is done", async || {
        sizes.lock().expect("not poisoned").len() == 2
    })
    .await;
    let queue = "default".into();
    let page = broker.list(&queue, TaskState::Archived, Page::default());
    assert_eq!(page.await.expect("a page").tasks.len(), 0);
}
