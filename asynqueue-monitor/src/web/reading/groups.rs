//! The groups of all queues.

use asynqueue_core::{
    broker::{BrokerError, GroupInfo},
    inspector::{Inspector, QueueInfo},
    task::TaskState,
};
use futures_util::{StreamExt, TryStreamExt, stream};

use super::AT_A_TIME;

/// The maximum number of displayed groups per queue.
pub(in crate::web) const GROUPS: usize = 100;

/// The maximum number of displayed groups in total.
pub(in crate::web) const MOST: usize = 1_000;

/// The groups of all queues, earliest due first in each queue.
pub(in crate::web) async fn read(
    inspector: &Inspector,
    queues: &[QueueInfo],
) -> Result<Vec<GroupInfo>, BrokerError> {
    let has_groups = |queue: &&QueueInfo| queue.stats.count(TaskState::Aggregating) > 0;
    let queues = queues
        .iter()
        .filter(has_groups)
        .map(|queue| queue.name.clone());
    let queues: Vec<_> = queues.collect();
    let reads = queues
        .into_iter()
        .map(async |queue| inspector.groups(&queue, GROUPS).await);
    let groups: Vec<Vec<_>> = stream::iter(reads)
        .buffered(AT_A_TIME)
        .try_collect()
        .await?;
    Ok(groups.into_iter().flatten().collect())
}

/// Whether there may be more groups than are shown.
pub(in crate::web) fn is_cut(groups: &[GroupInfo]) -> bool {
    let mut of_queues = groups.chunk_by(|a, b| a.queue == b.queue);
    groups.len() > MOST || of_queues.any(|groups| groups.len() >= GROUPS)
}
