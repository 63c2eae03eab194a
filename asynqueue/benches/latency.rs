//! How soon an idle server starts a task: `cargo bench -p asynqueue --bench latency`.
//!
//! From just before `enqueue` to the handler's first line, in-memory broker, two worker threads, one task at a time.

use std::time::{Duration, Instant};

use asynqueue::{MemoryBroker, prelude::*};
use tokio::sync::mpsc;

const TASKS: usize = 5_000;

#[derive(Serialize, Deserialize, Task)]
#[task(event = "bench:ping")]
struct Ping;

#[tokio::main(worker_threads = 2)]
async fn main() {
    let (started, mut starts) = mpsc::unbounded_channel();
    let note_start = move |_: Payload<Ping>, _: Context| {
        let sent = started.send(Instant::now());
        async move { sent }
    };
    let broker = MemoryBroker::new();
    let producer = Producer::new(broker.clone());
    let server = Server::builder(broker)
        .process(note_start)
        .start()
        .await
        .expect("starts");

    let mut latencies = Vec::with_capacity(TASKS);
    for _ in 0..TASKS {
        let enqueued = Instant::now();
        producer.enqueue(Ping).await.expect("accepted");
        latencies.push(starts.recv().await.expect("started") - enqueued);
        // Long enough for the server to be idle again.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    server.shutdown().await.expect("stops");

    latencies.sort();
    let percentile = |p: usize| latencies[(TASKS - 1) * p / 100];
    println!(
        "idle latency of {TASKS} tasks: p50 {:?}, p99 {:?}, max {:?}",
        percentile(50),
        percentile(99),
        latencies[TASKS - 1]
    );
}
