//! Attempts by hour.

use asynqueue_core::{
    broker::{BrokerError, HourStats},
    inspector::Inspector,
    task::{Name, Timestamp},
};

/// The hours in a day.
pub(in crate::web) const A_DAY: u64 = 24;

/// The start of the first of these hours. The last of them is the current hour.
pub(in crate::web) fn first_hour(now: Timestamp, hours: u64) -> Timestamp {
    let next = now.as_millis() / HourStats::MILLIS + 1;
    Timestamp::from_millis(next.saturating_sub(hours) * HourStats::MILLIS)
}

/// The attempts that ended in a queue in the last hours, including the current one.
pub(in crate::web) async fn last_hours(
    inspector: &Inspector,
    queue: &Name,
    hours: u64,
) -> Result<Vec<HourStats>, BrokerError> {
    let (queues, since) = (
        std::slice::from_ref(queue),
        first_hour(inspector.now(), hours),
    );
    let mut history = inspector.history_since(queues, since).await?;
    Ok(history.pop().unwrap_or_default())
}
