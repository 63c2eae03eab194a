//! `asynqueue why`: why a queue or a task waits.

use std::{fmt::Write as _, io::Write as _};

use asynqueue::{
    inspector::{Cause, Inspector, Taker},
    layer::BoxError,
    task::{TaskId, TaskRef, Timestamp},
};
use clap::Args;

/// Of which queue or task.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// URL of the broker, such as `redis://localhost`. Set one with a password in the environment: other users of the
    /// machine can read arguments.
    #[arg(
        long,
        env = "ASYNQUEUE_BROKER",
        hide_env_values = true,
        value_name = "URL"
    )]
    broker: String,
    /// The queue.
    queue: String,
    /// ID of a task in the queue.
    task: Option<String>,
}

pub(crate) async fn run(options: &Options) -> Result<(), BoxError> {
    let broker = asynqueue::connect(&options.broker).await?;
    let inspector = Inspector::new(broker.clone());
    let text = match &options.task {
        Some(id) => of_task(&inspector, &options.queue, id).await,
        None => of_queue(&inspector, &options.queue).await,
    };
    broker.close().await;
    // Fails if the reader has read enough.
    let _ = std::io::stdout().write_all(text?.as_bytes());
    Ok(())
}

async fn of_queue(inspector: &Inspector, queue: &str) -> Result<String, BoxError> {
    let queue = inspector.known_queue(queue).await?;
    let wait = inspector.why_queue_waits(&queue).await?;
    let mut text = format!("{queue}: {} pending\n", wait.pending);
    text += &listed(&wait.causes, inspector.now());
    let takers: Vec<_> = wait.takers.iter().map(taker).collect();
    if !takers.is_empty() {
        let _ = writeln!(text, "taken by {}", takers.join(", "));
    }
    Ok(text)
}

async fn of_task(inspector: &Inspector, queue: &str, id: &str) -> Result<String, BoxError> {
    let queue = inspector.known_queue(queue).await?;
    let task = TaskRef::new(queue, TaskId::new(id)?);
    let missing = || format!("task `{task}` does not exist");
    let wait = inspector.why_task_waits(&task).await?.ok_or_else(missing)?;
    let mut text = format!("{task}: {}\n", wait.state);
    text += &listed(&wait.causes, inspector.now());
    Ok(text)
}

fn listed(causes: &[Cause], now: Timestamp) -> String {
    causes.iter().fold(String::new(), |mut text, cause| {
        let _ = writeln!(text, "- {}", cause.describe(now));
        text
    })
}

fn taker(taker: &Taker) -> String {
    let limit = taker
        .max
        .map_or_else(String::new, |max| format!("limit {max}, "));
    let state = match taker.is_working() {
        true => String::new(),
        false => format!(", {}", taker.state.as_str()),
    };
    format!("{} ({limit}{} running{state})", taker.server, taker.running)
}
