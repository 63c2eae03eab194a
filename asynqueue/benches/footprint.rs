//! Bytes per waiting task in the in-memory broker: `cargo bench -p asynqueue --bench footprint`.
//!
//! Counts what is allocated and not freed, with 100-byte payloads.

use std::time::Duration;

use asynqueue::{
    MemoryBroker,
    broker::{Broker, Inspect, Keep, all_of},
    prelude::*,
};
use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATED: PeakAlloc = PeakAlloc;

const TASKS: usize = 1_000_000;

#[derive(Serialize, Deserialize, Task)]
#[task(event = "bench:noop")]
struct Noop {
    text: String,
}

async fn noop(_: Payload<Noop>, _: Context) -> Result<(), TaskError> {
    Ok(())
}

#[tokio::main(worker_threads = 2)]
async fn main() {
    let broker = MemoryBroker::new();
    let producer = Producer::new(broker.clone());
    let queue = ["default".into()];
    let (empty, resident) = (ALLOCATED.current_usage(), resident_bytes());

    for _ in 0..TASKS / 1_000 {
        producer
            .enqueue_many((0..1_000).map(|_| Noop {
                text: "x".repeat(92),
            }))
            .await;
    }
    let full = ALLOCATED.current_usage();
    println!(
        "{TASKS} waiting tasks: {} bytes each, {} with the allocator's overhead",
        (full - empty) / TASKS,
        (resident_bytes() - resident) / TASKS
    );

    let server = Server::builder(broker.clone())
        .concurrency(64)
        .process(noop)
        .start()
        .await
        .expect("starts");
    while broker.stats(&queue).await.expect("a response")[0].total() > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    server.shutdown().await.expect("stops");
    // What a server does every few seconds.
    all_of(broker.trim(&queue, Keep::default(), TASKS).await).expect("a response");
    let drained = ALLOCATED.current_usage();
    println!(
        "after the drain: {:.1} MB of {:.1} MB are left",
        megabytes(drained - empty),
        megabytes(full - empty)
    );
}

fn megabytes(bytes: usize) -> f64 {
    bytes as f64 / 1e6
}

/// Resident memory of this process, from Linux's `/proc`, in pages of 4 KiB.
fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages = statm.split_whitespace().nth(1).expect("a second field");
    pages.parse::<usize>().expect("a number") * 4096
}
