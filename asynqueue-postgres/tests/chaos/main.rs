//! Chaos on PostgreSQL: no fault of processes, connections or the server violates a guarantee. The book describes how to
//! run it.

mod left;
#[path = "../../../asynqueue-redis/tests/chaos/links.rs"]
mod links;
mod programs;
mod server;
mod stage;
#[path = "../tables/mod.rs"]
mod tables;

use std::time::Duration;

use asynqueue_conformance::chaos::{self, Settings};
use asynqueue_core::broker::SharedBroker;
use asynqueue_postgres::{PostgresBroker, PostgresOptions};

use self::stage::PostgresStage;

/// How long a client waits for a response before it sends the request again.
const RESPONSE_TIMEOUT: Duration = Duration::from_millis(500);

async fn connect(url: String) -> Result<SharedBroker, Box<dyn std::error::Error>> {
    let options = PostgresOptions::new(&url)?
        .response_timeout(RESPONSE_TIMEOUT)
        .retry_for(Duration::from_secs(3));
    Ok(PostgresBroker::connect(options).await?.into())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "run as a child of the test below"]
async fn child_of_a_run() {
    chaos::child(connect).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_fault_loses_or_duplicates_a_task_or_leaves_data() {
    let package = env!("CARGO_PKG_NAME");
    let settings = Settings::read(
        package,
        env!("CARGO_TARGET_TMPDIR"),
        &["single", "pgbouncer"],
    );
    let stage = PostgresStage::start(settings.variant() == "pgbouncer").await;
    chaos::run(settings, stage).await;
}
