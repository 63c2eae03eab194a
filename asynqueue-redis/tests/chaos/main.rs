//! Chaos: producers, workers and an operator as processes, each behind a proxy, with faults of every kind while they
//! work. Afterwards a checker decides from their journals whether each guarantee held. The book describes how to run
//! it.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod between;
mod checker;
mod child;
mod ends;
mod faults;
mod history;
mod journal;
mod load;
mod operator;
mod probe;
mod producer;
mod report;
mod rest;
mod settings;
mod stage;
mod store;
mod tests;
mod worker;

use std::time::Duration;

use self::{
    checker::Checker,
    child::Child,
    history::History,
    rest::{Rest, broker, drain, put_entries, remove_entries},
    settings::Settings,
    stage::Stage,
};

/// How long all accepted tasks may take to end after the last fault.
const DRAINED_IN: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "run as a child of the test below"]
async fn child_of_a_run() {
    let Some(child) = Child::this().await else {
        return;
    };
    match child.name.split('_').next() {
        Some("worker") => worker::run(child).await,
        Some("producer") => producer::run(child).await,
        _ => operator::run(child).await,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_fault_loses_or_duplicates_a_task_or_leaves_data() {
    let settings = Settings::read();
    println!("{}", settings.command());
    let stage = Stage::start(&settings).await;
    let broker = broker(&stage.store.read().await.url()).await;
    put_entries(&broker).await;
    let probe = probe::start(&stage).await;
    stage.inject().await;
    remove_entries(&broker).await;
    let mut unended = stage.end("producer").await;
    unended.extend(stage.end("operator").await);
    let undone = drain(&broker, DRAINED_IN).await;
    unended.extend(stage.end("worker").await);
    probe.abort();
    let mut rest = Rest::take(&broker, &*stage.store.read().await).await;
    if rest.undone.is_empty() {
        rest.undone = undone;
    }
    rest.undone.extend(
        unended
            .iter()
            .map(|who| format!("{who} did not end in order")),
    );
    let history = History::read(&settings.dir);
    let checker = Checker::check(&history, &rest);
    println!("{}", report::table(&stage, &history, &checker));
    let broken = report::broken(&checker);
    assert!(
        broken.is_empty(),
        "guarantees were violated:\n{broken}\nThe journals are in {}. To repeat: {}",
        settings.dir.display(),
        settings.command()
    );
    std::fs::remove_dir_all(&settings.dir).unwrap();
}
