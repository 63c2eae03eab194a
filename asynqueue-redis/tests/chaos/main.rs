//! Chaos on Redis: no fault of processes, connections or servers violates a guarantee. The book describes how to run it.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod left;
mod links;
mod servers;
mod stage;

use std::time::Duration;

use asynqueue_conformance::chaos::{self, Settings};
use asynqueue_core::broker::SharedBroker;
use asynqueue_redis::{ConnectError, RedisBroker, RedisOptions};

use self::stage::RedisStage;

/// How long a client waits for a response before it sends the request again.
const RESPONSE_TIMEOUT: Duration = Duration::from_millis(500);

async fn connect(url: String) -> Result<SharedBroker, ConnectError> {
    let options = RedisOptions::new(&url)?
        .connect_timeout(RESPONSE_TIMEOUT)
        .response_timeout(RESPONSE_TIMEOUT)
        .retry_for(Duration::from_secs(3));
    Ok(RedisBroker::connect(options).await?.into())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "run as a child of the test below"]
async fn child_of_a_run() {
    chaos::child(connect).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_fault_loses_or_duplicates_a_task_or_leaves_data() {
    let package = env!("CARGO_PKG_NAME");
    let variants = ["single", "cluster"];
    let settings = Settings::read(package, env!("CARGO_TARGET_TMPDIR"), &variants);
    let stage = RedisStage::start(settings.variant() == "cluster").await;
    chaos::run(settings, stage).await;
}
