//! Tasks per second and CPU time per task, on the in-memory broker: `cargo bench -p asynqueue --bench throughput`.
//!
//! No-op handler, 100-byte payload, concurrency 64, two worker threads. Divan prints items per second; the CPU time of
//! the complete process per task is printed below its table.

mod work;

use std::time::Duration;

use asynqueue::{MemoryBroker, broker::SharedBroker, prelude::*};
use divan::{Bencher, counter::ItemsCount};
use tokio::runtime::{Builder, Runtime};

use self::work::{Noop, cpu_time, drain};

const TASKS: u64 = 200_000;

fn main() {
    divan::main();
    println!(
        "\nCPU time a task, enqueued in bulk and processed: {:?}",
        cpu_per_task()
    );
}

fn runtime() -> Runtime {
    Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime")
}

#[divan::bench(sample_count = 20)]
fn enqueue_one_by_one(bencher: Bencher<'_, '_>) {
    let runtime = runtime();
    bencher
        .counter(ItemsCount::new(TASKS))
        .with_inputs(|| Producer::new(MemoryBroker::new()))
        .bench_values(|producer| {
            runtime.block_on(async {
                for _ in 0..TASKS {
                    producer.enqueue(Noop::new()).await.expect("accepted");
                }
            });
            producer
        });
}

#[divan::bench(sample_count = 20)]
fn enqueue_many(bencher: Bencher<'_, '_>) {
    let runtime = runtime();
    bencher
        .counter(ItemsCount::new(TASKS))
        .with_inputs(|| Producer::new(MemoryBroker::new()))
        .bench_values(|producer| {
            runtime.block_on(producer.enqueue_many((0..TASKS).map(|_| Noop::new())));
            producer
        });
}

#[divan::bench(sample_count = 20)]
fn process(bencher: Bencher<'_, '_>) {
    let runtime = runtime();
    bencher
        .counter(ItemsCount::new(TASKS))
        .with_inputs(|| runtime.block_on(filled_broker()))
        .bench_values(|broker| runtime.block_on(drain(broker)));
}

async fn filled_broker() -> SharedBroker {
    let broker: SharedBroker = MemoryBroker::new().into();
    Producer::new(broker.clone())
        .enqueue_many((0..TASKS).map(|_| Noop::new()))
        .await;
    broker
}

fn cpu_per_task() -> Duration {
    let runtime = runtime();
    let before = cpu_time();
    runtime.block_on(async { drain(filled_broker().await).await });
    (cpu_time() - before) / TASKS as u32
}
