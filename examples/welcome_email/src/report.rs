//! The final report: the number of tasks by state, and the failures.

use std::collections::BTreeMap;

use asynqueue::{
    broker::{Page, SharedBroker},
    prelude::BoxError,
    task::TaskState,
};

pub(crate) async fn print(broker: &SharedBroker) -> Result<(), BoxError> {
    let stats = broker
        .stats(&["default".into()])
        .await?
        .pop()
        .unwrap_or_default();
    println!("state       tasks");
    for (state, count) in &stats.counts {
        println!("{state:10} {count:6}");
    }
    println!("total      {:6}", stats.total());
    println!(
        "\n{} attempts failed in total; archived tasks by failure:",
        stats.failed
    );

    let archived = broker
        .list(&"default".into(), TaskState::Archived, Page::default())
        .await?;
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    for failure in archived
        .tasks
        .iter()
        .filter_map(|task| task.envelope.last_failure())
    {
        *reasons
            .entry(format!("{}: {}", failure.kind, failure.message))
            .or_default() += 1;
    }
    for (reason, count) in reasons {
        println!("{count:4}  {reason}");
    }
    Ok(())
}
