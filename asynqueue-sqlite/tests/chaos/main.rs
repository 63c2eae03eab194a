//! Chaos on a SQLite file: no fault of processes, locks or the disk violates a guarantee. The book describes how to run
//! it.

mod disk;
mod locks;
mod stage;
#[path = "../tables/mod.rs"]
mod tables;

use asynqueue_conformance::chaos::{self, Settings};
use asynqueue_core::broker::SharedBroker;
use asynqueue_sqlite::{SqliteBroker, SqliteOptions};

use self::{disk::Disk, stage::SqliteStage};

/// The test below, which runs itself again in another namespace.
const TEST: &str = "no_fault_loses_or_duplicates_a_task_or_leaves_data";

async fn connect(url: String) -> Result<SharedBroker, Box<dyn std::error::Error>> {
    let options = SqliteOptions::new(&url)?;
    Ok(SqliteBroker::connect(options).await?.into())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "run as a child of the test below"]
async fn child_of_a_run() {
    chaos::child(connect).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_fault_loses_or_duplicates_a_task_or_leaves_data() {
    if disk::run_where_mounting_is_allowed(TEST) {
        return;
    }
    let package = env!("CARGO_PKG_NAME");
    let settings = Settings::read(package, env!("CARGO_TARGET_TMPDIR"), &["small", "disk"]);
    let disk = match settings.variant() {
        "small" => Disk::small(settings.dir()),
        _ => Disk::real(settings.dir()),
    };
    let stage = SqliteStage::start(disk).await;
    chaos::run(settings, stage).await;
}
