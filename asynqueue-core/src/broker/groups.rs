//! Groups: tasks that wait for one another, to become one.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;

use super::{BrokerError, Conflict, NewTask};
use crate::task::{Envelope, Name, TaskRef, Timestamp};

/// Keeps tasks that are to be [aggregated](Envelope::aggregated_in), by queue, event and group.
///
/// A group is due once one of the limits is reached that its newest member has. Until its members become one task, all in
/// one step, they stay as they are: whoever reads a group and dies has changed nothing.
#[async_trait]
pub trait Groups: Send + Sync {
    /// Up to `limit` groups of these events that are due, with their members: no more than the limit of size, oldest first.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    async fn due_groups(
        &self,
        queues: &[Name],
        events: &[Name],
        limit: usize,
    ) -> Result<DueGroups, BrokerError>;

    /// What the groups of a queue are, to be looked at: no more than `limit`, those that are due first first.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    async fn groups(&self, queue: &Name, limit: usize) -> Result<Vec<GroupInfo>, BrokerError>;

    /// Puts one task in place of members of a group: `Ok(true)` if it was done. With `Ok(false)` or an error nothing was:
    /// one of the members does not wait in its group any more, as when another server was first, or the new task is
    /// refused.
    ///
    /// The unique locks of the members are free, and those who wait for them are told that they are gone.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached. Doing it again is safe.
    async fn aggregate(
        &self,
        aggregation: Aggregation,
    ) -> Result<Result<bool, Conflict>, BrokerError>;

    /// Lets a group be due no sooner than this long from now.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    async fn postpone(&self, group: &Group, delay: Duration) -> Result<(), BrokerError>;
}

/// What [`Groups::due_groups`] finds.
#[derive(Clone, Debug, Default)]
pub struct DueGroups {
    /// Those that are due.
    pub groups: Vec<Group>,
    /// When the next one is due, of any event. In the past if `limit` left some behind.
    pub next_due: Option<Timestamp>,
}

/// A group, or as much of it as becomes one task.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// The queue.
    pub queue: Name,
    /// The event of its members.
    pub event: Name,
    /// Its name; empty for the group of all that name none.
    pub name: Name,
    /// Its members, oldest first.
    pub members: Vec<Arc<Envelope>>,
}

impl Group {
    /// Points at its members.
    pub fn task_refs(&self) -> Vec<TaskRef> {
        self.members.iter().map(|task| task.task_ref()).collect()
    }
}

/// A group, to be looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupInfo {
    /// The queue.
    pub queue: Name,
    /// The event of its members.
    pub event: Name,
    /// Its name; empty for the group of all that name none.
    pub name: Name,
    /// How many tasks wait in it.
    pub size: u64,
    /// Since when the oldest of them waits in it.
    pub oldest: Timestamp,
    /// When it is due, unless its newest member lets it wait for longer.
    pub due: Timestamp,
}

/// One task in place of several.
#[derive(Clone, Debug)]
pub struct Aggregation {
    /// The members, all of one group.
    pub group: Group,
    /// What takes their place; in the same queue, and not itself to be aggregated.
    pub task: NewTask,
}
