//! A measurement, run manually.

use std::time::Duration;

use asynqueue_core::{
    broker::{Broker, NewTask, When},
    codec::MessagePack,
    process::{Context, Payload, TaskError},
    server::Server,
    task::{Task, UniqueUntil},
};
use asynqueue_redis::RedisBroker;
use asynqueue_test_servers::RedisServer;
use serde::{Deserialize, Serialize};

use crate::{HOUR, common::connect, unique};

#[derive(Serialize, Deserialize)]
struct Nothing;

impl Task for Nothing {
    const EVENT: &'static str = "nothing";
    type Output = ();
    type Codec = MessagePack;
}

async fn idle(_: Payload<Nothing>, _: Context) -> Result<(), TaskError> {
    Ok(())
}

/// Run manually, with its output: `cargo test -p asynqueue-redis --test upkeep -- --ignored --nocapture`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "measures for two minutes"]
async fn the_upkeep_of_200_000_unique_tasks_is_measured() {
    const TASKS: usize = 200_000;
    const MEASURED: Duration = Duration::from_secs(60);
    let server = RedisServer::start().await;
    let broker = connect(&server.url()).await;
    for first in (0..TASKS).step_by(5_000) {
        let later = |n: usize| {
            NewTask::new(
                unique(&format!("task-{n:07}"), UniqueUntil::Success, 24 * HOUR),
                When::After(12 * HOUR),
            )
        };
        let batch = (first..first + 5_000).map(later).collect();
        let accepted = broker.enqueue(batch).await.expect("sent");
        assert!(accepted.iter().all(Result::is_ok));
    }
    for servers in [0, 1, 5] {
        let mut running = Vec::new();
        for _ in 0..servers {
            let broker = connect(&server.url()).await;
            let server = Server::builder(broker).queue("q", 1).process(idle);
            running.push(server.start().await.expect("a server"));
        }
        tokio::time::sleep(Duration::from_secs(5)).await;
        let (before, after) = (
            figures(&broker).await,
            async {
                tokio::time::sleep(MEASURED).await;
                figures(&broker).await
            }
            .await,
        );
        let cpu = (after.0 - before.0) / MEASURED.as_secs_f64();
        let commands = (after.1 - before.1) / MEASURED.as_secs_f64();
        println!(
            "{servers} servers: {:.2} % of a core, {commands:.0} commands/s",
            cpu * 100.0
        );
        for server in running {
            server.shutdown().await.expect("stopped");
        }
    }
}

/// Seconds of CPU time, and commands.
async fn figures(broker: &RedisBroker) -> (f64, f64) {
    let mut sum = (0.0, 0.0);
    for section in ["cpu", "stats"] {
        for (_, text) in broker.info(section).await.expect("a response") {
            for line in text.lines() {
                let (name, value) = line.split_once(':').unwrap_or_default();
                let value = || value.trim().parse::<f64>().expect("a number");
                match name {
                    "used_cpu_user" | "used_cpu_sys" => sum.0 += value(),
                    "total_commands_processed" => sum.1 += value(),
                    _ => {}
                }
            }
        }
    }
    sum
}
