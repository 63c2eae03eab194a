//! What ended in the last hours.

use asynqueue_core::{
    broker::{BrokerError, HourStats},
    inspector::Inspector,
    task::{Name, Timestamp},
};

/// The hours of a day.
pub(in crate::web) const A_DAY: u64 = 24;

/// When the first of these hours began, of which the last is the current one.
pub(in crate::web) fn first_hour(now: Timestamp, hours: u64) -> Timestamp {
    let next = now.as_millis() / HourStats::MILLIS + 1;
    Timestamp::from_millis(next.saturating_sub(hours) * HourStats::MILLIS)
}

/// What ended in a queue in the last hours, of which the last is the current one.
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
