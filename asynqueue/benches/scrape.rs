//! How long a scrape takes: `cargo bench -p asynqueue --features metrics-exporter,redis --bench scrape`.
//!
//! 200 queues of 500 tasks each, on the in-memory broker and on a Redis started for the benchmark, and as many series
//! of the process itself.

use std::time::{Duration, Instant};

use asynqueue::{MemoryBroker, broker::SharedBroker, metrics, prelude::*};
use asynqueue_test_servers::RedisServer;

const QUEUES: usize = 200;
const TASKS: usize = 500;
const SCRAPES: usize = 101;

#[derive(Serialize, Deserialize, Task)]
#[task(event = "bench:noop")]
struct Noop {
    text: String,
}

#[tokio::main]
async fn main() {
    let exporter = metrics::install().expect("the first");
    let redis = RedisServer::start().await;
    let on_redis = asynqueue::connect(&redis.url()).await.expect("a broker");
    for (name, broker) in [("memory", MemoryBroker::new().into()), ("redis", on_redis)] {
        fill(&broker).await;
        let exporter = exporter.clone().broker(broker);
        let mut times = Vec::with_capacity(SCRAPES);
        let mut size = 0;
        for _ in 0..SCRAPES {
            let started = Instant::now();
            size = exporter.render().await.len();
            times.push(started.elapsed());
        }
        times.sort_unstable();
        let millis = |time: Duration| time.as_secs_f64() * 1e3;
        println!(
            "{name:<8} median {:>6.1} ms, p99 {:>6.1} ms, {} kB",
            millis(times[SCRAPES / 2]),
            millis(times[SCRAPES * 99 / 100]),
            size / 1024
        );
    }
}

async fn fill(broker: &SharedBroker) {
    let producer = Producer::new(broker.clone());
    for queue in 0..QUEUES {
        let tasks = (0..TASKS).map(|_| Noop {
            text: "x".repeat(92),
        });
        let queue = format!("queue-{queue}");
        let results = producer.enqueue_many_with(tasks, |_, call| call.queue(queue.clone()));
        assert!(results.await.iter().all(Result::is_ok));
    }
}
