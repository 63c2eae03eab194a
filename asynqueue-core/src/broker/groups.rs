//! Groups: tasks that wait for one another, to become one.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;

use super::{BrokerError, Conflict, NewTask};
use crate::task::{Envelope, Name, TaskId, TaskRef, Timestamp};

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

    /// Takes members out of their group that could not become one task, each only while it waits there and is as it was
    /// seen. They become a [part](Part) of the group, which is due by itself after a delay and which no other task joins:
    /// so the group continues without them. Returns how many were set apart.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached. Doing it again is safe.
    async fn set_apart(&self, members: SetApart) -> Result<usize, BrokerError>;

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
    /// The part of the group that this is, if its members were set apart.
    pub part: Option<Part>,
    /// Its members, oldest first.
    pub members: Vec<Arc<Envelope>>,
}

impl Group {
    /// Points at its members.
    pub fn task_refs(&self) -> Vec<TaskRef> {
        self.members.iter().map(|task| task.task_ref()).collect()
    }

    /// How often its members have been tried without success.
    pub fn tries(&self) -> u32 {
        self.part.as_ref().map_or(0, |part| part.tries)
    }
}

/// Members of a group that were [set apart](Groups::set_apart).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Part {
    /// The oldest of the members it was made of, which distinguishes it from other parts of the group.
    pub first: TaskId,
    /// How often they have been tried without success.
    pub tries: u32,
}

/// Members to take out of their group.
#[derive(Clone, Debug)]
pub struct SetApart {
    /// The group with these members as they were seen, oldest first.
    pub group: Group,
    /// What takes the place of each member, such as with a failure noted: of the same id, queue, priority, unique lock and
    /// group. A member that could not be read is kept as it is.
    pub members: Vec<Arc<Envelope>>,
    /// How often they have been tried without success.
    pub tries: u32,
    /// How long until they are due.
    pub delay: Duration,
}

impl SetApart {
    /// The part of the group that they become; `None` if there are none.
    pub fn part(&self) -> Option<Part> {
        let first = self.group.members.first()?;
        Some(Part {
            first: first.id.clone(),
            tries: self.tries,
        })
    }
}

/// A group, to be looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupInfo {
    /// The queue.
    pub queue: Name,
    /// The event of its members.
    pub event: Name,
    /// Its name; empty for the group of all that name none.
    pub name: Name,
    /// How often its members have been tried without success, if they are a [part](Part) of the group.
    pub tries: u32,
    /// How many tasks wait in it.
    pub size: u64,
    /// Since when the oldest of them waits in it.
    pub oldest: Timestamp,
    /// When it is due, unless its newest member lets it wait for longer.
    pub due: Timestamp,
}

impl GroupInfo {
    /// A group of so many tasks that has not been tried.
    pub fn new(
        queue: Name,
        event: Name,
        name: Name,
        size: u64,
        oldest: Timestamp,
        due: Timestamp,
    ) -> Self {
        Self {
            queue,
            event,
            name,
            tries: 0,
            size,
            oldest,
            due,
        }
    }
}

/// One task in place of several.
#[derive(Clone, Debug)]
pub struct Aggregation {
    /// The members, all of one group.
    pub group: Group,
    /// What takes their place; in the same queue, and not itself to be aggregated.
    pub task: NewTask,
}
