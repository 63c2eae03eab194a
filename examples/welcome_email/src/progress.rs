//! A progress line for the queue.

use std::{
    io::{IsTerminal, Write, stdout},
    time::Duration,
};

use asynqueue::{
    broker::{QueueStats, SharedBroker},
    prelude::BoxError,
    task::TaskState,
};

pub(crate) async fn watch(broker: &SharedBroker) -> Result<(), BoxError> {
    // A terminal overwrites the line; a log gets a new line now and then.
    let (interval, end) = match stdout().is_terminal() {
        true => (Duration::from_millis(50), "\r"),
        false => (Duration::from_millis(500), "\n"),
    };
    loop {
        let stats = broker
            .stats(&["default".into()])
            .await?
            .pop()
            .unwrap_or_default();
        print!("{}{end}", line(&stats));
        stdout().flush()?;
        if finished(&stats) == stats.total() {
            println!();
            return Ok(());
        }
        tokio::time::sleep(interval).await;
    }
}

fn line(stats: &QueueStats) -> String {
    const WIDTH: u64 = 30;
    let (done, total) = (finished(stats), stats.total());
    let filled = (done * WIDTH / total.max(1)) as usize;
    format!(
        "[{}{}] {done:4}/{total}  pending {:4}  active {:2}  retry {:3}",
        "#".repeat(filled),
        ".".repeat(WIDTH as usize - filled),
        stats.count(TaskState::Pending),
        stats.count(TaskState::Active),
        stats.count(TaskState::Retry),
    )
}

fn finished(stats: &QueueStats) -> u64 {
    TaskState::ALL
        .into_iter()
        .filter(|state| state.is_final())
        .map(|state| stats.count(state))
        .sum()
}
