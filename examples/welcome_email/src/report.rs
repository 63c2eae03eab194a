//! The final report: the number of tasks by state, the failures, and the emails that were sent.

use std::collections::BTreeMap;

use asynqueue::{
    broker::{Page, SharedBroker},
    prelude::BoxError,
    task::TaskState,
};

use crate::mailer;

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
    print_sent()?;
    Ok(())
}

/// An email is sent twice if the program was killed after it was sent and before that was recorded: the lease expires,
/// and the task runs again. A real mail server would drop the second one by an idempotency key, such as the task's id.
fn print_sent() -> std::io::Result<()> {
    let sent = mailer::sent()?;
    println!("\n{} users were sent an email", sent.len());
    let again = sent.values().filter(|times| **times > 1).count();
    if again > 0 {
        println!(
            "{again} of them twice, because the program was killed before it recorded the first one"
        );
    }
    Ok(())
}
