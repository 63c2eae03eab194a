//! Measurements, run by hand in a release build: a large file, and waking another process.

mod common;

use std::{
    fs,
    path::Path,
    time::{Duration, Instant, SystemTime},
};

use asynqueue_core::{
    broker::{Inspect, Keep, Store, all_of},
    process::{Context, Payload, TaskError},
    producer::Producer,
    server::Server,
};
use asynqueue_macros::Task;
use common::{
    Scratch,
    child::{self, Child},
};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Task)]
#[task(event = "sent", queue = "q", crate = asynqueue_core)]
struct Sent {
    /// Nanoseconds since 1970.
    at: u64,
    text: String,
}

fn nanos() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.expect("after 1970").as_nanos() as u64
}

async fn started(task: Payload<Sent>, _: Context) -> Result<(), TaskError> {
    child::respond(&nanos().saturating_sub(task.at).to_string());
    Ok(())
}

/// What this binary does in the other process.
#[test]
#[ignore = "started by the measurement below"]
fn child() {
    let Some((_, file)) = child::role() else {
        return;
    };
    let runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = { runtime }.enable_all().build().expect("a runtime");
    runtime.block_on(serve(file.as_ref()));
}

async fn serve(file: &Path) {
    let server = Server::builder(common::open(file).await).queue("q", 1);
    let server = server.process(started).start().await.expect("a server");
    child::respond("ready");
    child::requests().for_each(drop);
    server.shutdown().await.expect("ended in order");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn from_enqueue_to_the_first_line_of_a_handler_in_another_process() {
    let scratch = Scratch::new();
    let producer = Producer::new(common::open(scratch.file()).await);
    let mut worker = Child::start("serve", scratch.file());
    let mut times = Vec::new();
    for n in 0..1_000_u64 {
        // The pause differs, so that sending does not fall in step with a timer.
        tokio::time::sleep(Duration::from_micros(2_000 + n * 7_919 % 2_000)).await;
        let (at, text) = (nanos(), "x".repeat(90));
        producer.enqueue(Sent { at, text }).await.expect("accepted");
        times.push(
            worker
                .read()
                .expect("a line")
                .parse::<u64>()
                .expect("a time") as f64
                / 1e6,
        );
    }
    worker.end();
    times.sort_by(f64::total_cmp);
    println!(
        "p50 {:.3} ms, p99 {:.3} ms, max {:.3} ms",
        times[500], times[990], times[999]
    );
}

fn size(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |file| file.len()) / 1_000_000
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn a_million_waiting_tasks() {
    let scratch = Scratch::new();
    let (file, log) = (scratch.file(), scratch.file().with_extension("db-wal"));
    let broker = common::open(&file).await;
    let producer = Producer::new(broker.clone());
    for _ in 0..100 {
        let tasks = (0..10_000).map(|at| Sent {
            at,
            text: "x".repeat(90),
        });
        assert!(producer.enqueue_many(tasks).await.iter().all(Result::is_ok));
    }
    println!("file {} MB, log {} MB", size(&file), size(&log));

    // As a crash leaves them.
    let copy = scratch.folder().join("copy.db");
    fs::copy(&file, &copy).expect("copied");
    fs::copy(&log, copy.with_extension("db-wal")).expect("copied");
    let start = Instant::now();
    let other = common::open(&copy).await;
    let queues = Inspect::queues(&other).await.expect("read");
    println!("opened after a crash in {:?}: {queues:?}", start.elapsed());
    Store::close(&other).await;
    let start = Instant::now();
    let other = common::open(&copy).await;
    println!("opened in {:?}", start.elapsed());
    Store::close(&other).await;

    let start = Instant::now();
    let mut left = 1_000_000;
    while left > 0 {
        let leased = common::lease(&broker, 500).await.expect("a lease");
        left -= leased.len();
        let complete = |leased: asynqueue_core::broker::Leased| {
            leased.settle(asynqueue_core::broker::Outcome::Complete { result: None })
        };
        let outcomes: Vec<_> = leased.into_iter().map(complete).collect();
        all_of(Store::settle(&broker, &outcomes).await).expect("recorded");
    }
    println!("drained in {:?}; file {} MB", start.elapsed(), size(&file));
    let (start, mut trims) = (Instant::now(), 0);
    while size(&file) > 10 && trims < 60 {
        let trimmed = Store::trim(&broker, &["q".into()], Keep::default(), 100).await;
        all_of(trimmed).expect("trimmed");
        trims += 1;
        // A pause, in which the log is moved into the file.
        tokio::time::sleep(Duration::from_millis(1_500)).await;
    }
    println!(
        "file {} MB, log {} MB after {trims} trims in {:?}",
        size(&file),
        size(&log),
        start.elapsed()
    );
}
