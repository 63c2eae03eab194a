//! Groups on a broker that fails in part.

use std::{
    sync::{Arc, Mutex, atomic::Ordering::SeqCst},
    time::Duration,
};

use asynqueue_core::{
    broker::{Groups, Inspect},
    memory::MemoryBroker,
    process::{Context, Payload, TaskError},
    producer::Producer,
    server::{Server, ServerBuilder},
    task::{Aggregate, TaskState},
    testing::TestClock,
};
use asynqueue_macros::Task;
use serde::{Deserialize, Serialize};

use crate::{
    faulty::Faulty,
    harness::{counts, until},
};

const LIMITS: Aggregate = Aggregate::DEFAULT
    .grace(Duration::from_secs(1))
    .max_delay(Duration::from_secs(2))
    .max_size(8);

#[derive(Serialize, Deserialize, Task)]
#[task(event = "news", crate = asynqueue_core)]
struct News {
    text: String,
}

#[derive(Serialize, Deserialize, Task)]
#[task(event = "digest", crate = asynqueue_core)]
struct Digest {
    texts: Vec<String>,
}

/// The number of news in each digest.
type Sizes = Arc<Mutex<Vec<usize>>>;

fn server(broker: &Faulty, sizes: &Sizes) -> ServerBuilder {
    let sizes = Arc::clone(sizes);
    let process = move |digest: Payload<Digest>, _: Context| {
        sizes.lock().unwrap().push(digest.texts.len());
        async { Ok::<_, TaskError>(()) }
    };
    Server::builder(broker.clone())
        .aggregate(|news: Vec<News>| Digest {
            texts: news.into_iter().map(|one| one.text).collect(),
        })
        .process(process)
        .poll_interval(Duration::from_millis(5))
}

async fn publish(producer: &Producer, group: &str, length: usize, queue: &str) {
    let text = "x".repeat(length);
    let news = producer.enqueue(News { text }).group(group.to_owned());
    let news = news.queue(queue.to_owned()).aggregate(LIMITS);
    news.await.unwrap();
}

fn clocked() -> (TestClock, MemoryBroker, Faulty, Producer) {
    let clock = TestClock::default();
    let broker = MemoryBroker::with_clock(clock.clone());
    let (faulty, producer) = (Faulty::new(&broker), Producer::new(broker.clone()));
    (clock, broker, faulty, producer)
}

#[tokio::test]
async fn a_group_that_the_broker_rejects_becomes_several_tasks_and_does_not_delay_others() {
    let (clock, broker, faulty, producer) = clocked();
    faulty.faults.max_aggregate.store(1_000, SeqCst);
    for _ in 0..8 {
        publish(&producer, "large", 300, "default").await;
    }
    for n in 0..10 {
        publish(&producer, &format!("small-{n}"), 1, "default").await;
    }
    clock.advance(LIMITS.max_delay);
    let sizes = Sizes::default();
    let _server = server(&faulty, &sizes).start().await.unwrap();
    until("the small ones are done", async || {
        sizes
            .lock()
            .unwrap()
            .iter()
            .filter(|size| **size == 1)
            .count()
            == 10
    })
    .await;
    until("the large one waits alone", async || {
        counts(&broker).await == [(TaskState::Aggregating, 8)]
    })
    .await;
    until("the large one is done", async || {
        clock.advance(Duration::from_secs(60));
        sizes.lock().unwrap().iter().sum::<usize>() == 18
    })
    .await;
    // As large as the broker accepts.
    let sizes = sizes.lock().unwrap();
    assert_eq!(
        sizes.iter().filter(|size| **size == 2).count(),
        4,
        "{sizes:?}"
    );
}

#[tokio::test]
async fn a_member_that_the_broker_rejects_alone_is_archived_with_the_reason() {
    let (clock, broker, faulty, producer) = clocked();
    faulty.faults.max_aggregate.store(1_000, SeqCst);
    let large = News {
        text: "x".repeat(2_000),
    };
    let large = producer.enqueue(large).aggregate(LIMITS).max_retry(1);
    let large = large.await.unwrap();
    let sizes = Sizes::default();
    let _server = server(&faulty, &sizes).start().await.unwrap();
    let known = async || {
        let tasks = broker.tasks(&[large.task_ref().clone()]).await;
        tasks.unwrap().remove(0).unwrap()
    };
    until("it is archived", async || {
        clock.advance(Duration::from_secs(60));
        known().await.state == TaskState::Archived
    })
    .await;
    let failures = known().await.envelope;
    let messages = failures.failures().iter().map(|failure| &*failure.message);
    let reason = "invalid bulk length";
    assert_eq!(messages.collect::<Vec<_>>(), [reason, reason]);
}

#[tokio::test]
async fn a_queue_that_does_not_respond_does_not_delay_groups_of_others() {
    let (clock, _, faulty, producer) = clocked();
    faulty.faults.silent.set("silent".into()).unwrap();
    publish(&producer, "a", 1, "silent").await;
    publish(&producer, "a", 1, "good").await;
    clock.advance(LIMITS.max_delay);
    let sizes = Sizes::default();
    let server = server(&faulty, &sizes).queue("silent", 1).queue("good", 1);
    let _server = server.start().await.unwrap();
    until("the good one is done", async || {
        *sizes.lock().unwrap() == [1]
    })
    .await;
}

#[tokio::test]
async fn an_unreachable_group_does_not_delay_others_and_counts_no_try() {
    let (clock, broker, faulty, producer) = clocked();
    faulty.faults.away_group.set("away".into()).unwrap();
    publish(&producer, "away", 1, "default").await;
    clock.advance(Duration::from_millis(1));
    publish(&producer, "good", 1, "default").await;
    clock.advance(LIMITS.max_delay);
    let sizes = Sizes::default();
    let _server = server(&faulty, &sizes).start().await.unwrap();
    until("the good one is done", async || {
        *sizes.lock().unwrap() == [1]
    })
    .await;
    let groups = broker.groups(&"default".into(), 10).await.unwrap();
    let waits = groups.iter().map(|group| (&*group.name, group.tries));
    assert_eq!(waits.collect::<Vec<_>>(), [("away", 0)]);
}
