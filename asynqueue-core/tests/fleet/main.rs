//! Simulated fleets.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod breaks;
mod nodes;

use std::time::Duration;

use asynqueue_core::{
    process::{Context, Payload, TaskError},
    producer::Producer,
    server::{Server, ServerBuilder},
    testing::fleet::{Fault, Fleet, Life},
};
use asynqueue_macros::Task;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Task)]
#[task(event = "work", backoff = fixed("1s"), crate = asynqueue_core)]
struct Work {
    millis: u64,
}

async fn work(task: Payload<Work>, _: Context) -> Result<(), TaskError> {
    tokio::time::sleep(Duration::from_millis(task.millis)).await;
    Ok(())
}

fn server(life: &Life) -> ServerBuilder {
    Server::builder(life.broker.clone())
        .lease(Duration::from_secs(3))
        .process(work)
}

/// Three servers, and a producer of fifty tasks.
fn fleet(seed: u64) -> Fleet {
    Fleet::new(seed)
        .servers(3, server)
        .client(|life| async move {
            let producer = Producer::new(life.broker.clone());
            for n in 0..50 {
                // After an error it may have been accepted.
                let _ = producer.enqueue(Work { millis: n * 40 }).await;
                life.pause(Duration::from_secs(2)).await;
            }
        })
}

#[test]
fn a_fleet_keeps_its_promises_under_all_faults() {
    for seed in 0..10 {
        let report = fleet(seed).faults(Fault::ALL).run();
        report.assert_kept();
        assert!(report.entries.len() > 100, "something has happened");
    }
}

#[test]
fn no_single_fault_breaks_a_promise() {
    for fault in Fault::ALL {
        fleet(7).faults([fault]).run().assert_kept();
    }
}

#[test]
fn each_seed_has_its_own_plan() {
    let plan = |seed| fleet(seed).faults(Fault::ALL).plan();
    assert_eq!(plan(1), plan(1));
    assert_ne!(plan(1), plan(2));
}

#[test]
fn a_seed_reproduces_the_same_ids_and_times() {
    let first = |seed| {
        let report = fleet(seed).run();
        let trace = report.trace();
        let lines = trace.lines().filter(|line| line.contains("enqueue"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(first(1), first(1));
    assert_ne!(first(1), first(2));
}
