//! Chaos: producers, workers and an operator as processes on a shared store, with faults of every kind while they work.
//! Afterwards a checker decides from their journals whether each guarantee held.
//!
//! A store supplies a [`Stage`]: how a process reaches the store, which [faults](Fault) the store can have, and what
//! may be left in it at the end. The faults of processes are here: `kill`, `stop` and `deploy`.
//!
//! A test binary has two tests. [`run`] starts the binary again for each process, with the ignored test
//! [`CHILD_TEST`]:
//!
//! ```ignore
//! #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
//! #[ignore = "run as a child of the test below"]
//! async fn child_of_a_run() {
//!     chaos::child(|url| async move { MyStore::connect(&url).await.map(SharedBroker::from) }).await;
//! }
//!
//! #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
//! async fn no_fault_loses_or_duplicates_a_task_or_leaves_data() {
//!     let settings = Settings::read(env!("CARGO_PKG_NAME"), env!("CARGO_TARGET_TMPDIR"), &["single"]);
//!     let stage = MyStage::start().await;
//!     chaos::run(settings, stage).await;
//! }
//! ```
//!
//! [`Settings`] lists the environment variables of a run. The book describes the roles of the processes and what is
//! checked.

mod check;
mod child;
mod dice;
mod history;
mod inject;
mod journal;
mod load;
mod place;
mod probe;
mod report;
mod rest;
mod scene;
mod settings;
mod stage;

use std::{sync::Arc, time::Duration};

use self::{check::Checker, history::History, rest::Rest};
pub use self::{
    child::child,
    dice::Dice,
    place::Place,
    scene::Scene,
    settings::Settings,
    stage::{Fault, Stage},
};

/// The name of the ignored test that calls [`child`].
pub const CHILD_TEST: &str = "child_of_a_run";

/// How long all accepted tasks may take to end after the last fault.
const DRAINED_IN: Duration = Duration::from_secs(60);

/// Runs the processes on this stage, injects faults, and checks every guarantee. Prints a table of the run.
///
/// # Panics
///
/// If a guarantee was violated, with examples, the directory of the journals and the command that repeats the run.
pub async fn run(settings: Settings, stage: impl Stage) {
    let stage: Arc<dyn Stage> = Arc::new(stage);
    let faults = settings.faults(&stage.faults());
    let command = settings.command(&faults);
    println!("{command}");
    let scene = Arc::new(Scene::start(&settings, &*stage).await);
    let broker = stage.broker().await;
    rest::put_entries(&broker).await;
    let probe = probe::start(&scene, &stage);
    inject::inject(&settings, &scene, &stage, &faults).await;
    rest::remove_entries(&broker).await;
    let mut unended = scene.end("producer").await;
    unended.extend(scene.end("operator").await);
    let undone = rest::drain(&broker, DRAINED_IN).await;
    unended.extend(scene.end("worker").await);
    probe.abort();
    // It ends by that.
    let _ = probe.await;
    let mut rest = Rest::take(&broker, &*stage).await;
    if rest.undone.is_empty() {
        rest.undone = undone;
    }
    let unended = unended
        .iter()
        .map(|who| format!("{who} did not end in order"));
    rest.undone.extend(unended);
    let history = History::read(&settings.dir, &faults);
    let checker = Checker::check(&history, &rest);
    println!("{}", report::table(&settings, &*stage, &history, &checker));
    let broken = report::broken(&checker);
    assert!(
        broken.is_empty(),
        "guarantees were violated:\n{broken}\nThe journals are in {}. To repeat: {command}",
        settings.dir.display(),
    );
    // Its files may be in the same directory.
    drop((broker, stage));
    std::fs::remove_dir_all(&settings.dir).expect("the journals are removed");
}
