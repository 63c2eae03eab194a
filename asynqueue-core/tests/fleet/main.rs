//! Simulated fleets.

use std::time::Duration;

use asynqueue_core::{
    process::{Context, Payload, TaskError},
    producer::Producer,
    server::Server,
    testing::fleet::{Fault, Fleet},
};
use asynqueue_macros::Task;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Task)]
#[task(event = "work", crate = asynqueue_core)]
struct Work {
    n: u64,
}

async fn work(task: Payload<Work>, _: Context) -> Result<(), TaskError> {
    tokio::time::sleep(Duration::from_millis(task.n * 50)).await;
    Ok(())
}

fn fleet(seed: u64) -> Fleet {
    Fleet::new(seed)
        .servers(3, |life| {
            Server::builder(life.broker.clone())
                .lease(Duration::from_secs(3))
                .process(work)
        })
        .client(|life| async move {
            let producer = Producer::new(life.broker.clone());
            for n in 0..60 {
                let _ = producer.enqueue(Work { n }).await;
                life.pause(Duration::from_secs(2)).await;
            }
        })
        .faults(Fault::ALL)
}

#[test]
fn a_fleet_keeps_its_promises_whatever_strikes() {
    let from: u64 = std::env::var("FROM").map_or(0, |from| from.parse().unwrap());
    let count: u64 = std::env::var("COUNT").map_or(20, |from| from.parse().unwrap());
    for seed in from..from + count {
        let report = fleet(seed).run();
        if std::env::var("TRACE").is_ok() {
            println!("{}", report.trace());
        }
        println!(
            "{seed} {} {:?}",
            report.entries.len(),
            report.broken.iter().take(3).collect::<Vec<_>>()
        );
    }
}
