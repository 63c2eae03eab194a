//! The groups of all queues.

use asynqueue_core::{
    broker::{BrokerError, GroupInfo},
    inspector::{Inspector, QueueInfo},
    task::TaskState,
};
use futures_util::{StreamExt, TryStreamExt, stream};

use super::AT_A_TIME;

/// How many groups of each queue to show.
pub(in crate::web) const GROUPS: usize = 100;

/// How many groups to show in all.
pub(in crate::web) const MOST: usize = 1_000;

/// The groups of all queues that have some, those that are due first in each.
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
    let asked = queues.into_iter();
    let asked = asked.map(async |queue| inspector.groups(&queue, GROUPS).await);
    let groups: Vec<Vec<_>> = stream::iter(asked)
        .buffered(AT_A_TIME)
        .try_collect()
        .await?;
    Ok(groups.into_iter().flatten().collect())
}

/// Whether there may be more than are shown.
pub(in crate::web) fn is_cut(groups: &[GroupInfo]) -> bool {
    let mut of_queues = groups.chunk_by(|a, b| a.queue == b.queue);
    groups.len() > MOST || of_queues.any(|groups| groups.len() >= GROUPS)
}
