//! Groups: tasks that wait together to become one task.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;

use super::{BrokerError, Conflict, NewTask};
use crate::task::{Envelope, Name, TaskId, TaskRef, Timestamp};

/// Stores tasks that are to be [aggregated](Envelope::aggregated_in), by queue, event and group.
///
/// A group is due once it reaches one of the limits of its newest member. Its members become one task in a single step
/// and are unchanged until then, so a server that reads a group and dies has changed nothing.
#[async_trait]
pub trait Groups: Send + Sync {
    /// Up to `limit` due groups of these events, oldest first. Each has at most as many members as its size limit.
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

    /// The groups of a queue for display: up to `limit`, by the time they are due.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    async fn groups(&self, queue: &Name, limit: usize) -> Result<Vec<GroupInfo>, BrokerError>;

    /// Replaces members of a group with one task. Returns `Ok(true)` if this was done. After `Ok(false)`, a conflict or
    /// an error nothing was changed: a member no longer waits in the group, for example because another server was
    /// faster, or the new task was refused.
    ///
    /// The unique locks of the members are released, and their waiters receive
    /// [`Finished::Gone`](super::Finished::Gone).
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached. Repeating the call is safe.
    async fn aggregate(
        &self,
        aggregation: Aggregation,
    ) -> Result<Result<bool, Conflict>, BrokerError>;

    /// Takes members that could not become one task out of their group, each only if it still waits there and has not
    /// changed since it was read. They form a [part](Part) of the group, which is due after a delay and which no other
    /// task joins, so that the group continues without them. Returns how many members were set apart.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached. Repeating the call is safe.
    async fn set_apart(&self, members: SetApart) -> Result<usize, BrokerError>;

    /// Delays a group: it is due no sooner than `delay` from now.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    async fn postpone(&self, group: &Group, delay: Duration) -> Result<(), BrokerError>;
}

/// The result of [`Groups::due_groups`].
#[derive(Clone, Debug, Default)]
pub struct DueGroups {
    /// The due groups.
    pub groups: Vec<Group>,
    /// When the next group of any event is due. In the past if `limit` left some behind.
    pub next_due: Option<Timestamp>,
}

/// A group, or the members of it that become one task.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// The queue of its members.
    pub queue: Name,
    /// The event of its members.
    pub event: Name,
    /// The group's name. Empty for tasks without a group name.
    pub name: Name,
    /// Which part of the group this is, if its members were set apart.
    pub part: Option<Part>,
    /// Its members, oldest first.
    pub members: Vec<Arc<Envelope>>,
}

impl Group {
    /// References to its members.
    pub fn task_refs(&self) -> Vec<TaskRef> {
        self.members.iter().map(|task| task.task_ref()).collect()
    }

    /// How often aggregating its members has failed.
    pub fn tries(&self) -> u32 {
        self.part.as_ref().map_or(0, |part| part.tries)
    }
}

/// Members of a group that were [set apart](Groups::set_apart).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Part {
    /// The oldest of its initial members, which identifies the part within the group.
    pub first: TaskId,
    /// How often aggregating its members has failed.
    pub tries: u32,
}

/// Members to take out of their group.
#[derive(Clone, Debug)]
pub struct SetApart {
    /// The group, with these members as they were read, oldest first.
    pub group: Group,
    /// The new envelope of each member, for example with a failure added. It has the same id, queue, priority, unique
    /// lock and group. An undecodable member is kept unchanged.
    pub members: Vec<Arc<Envelope>>,
    /// How often aggregating them has failed.
    pub tries: u32,
    /// How long until they are due.
    pub delay: Duration,
}

impl SetApart {
    /// The part that they become. `None` if there are no members.
    pub fn part(&self) -> Option<Part> {
        let first = self.group.members.first()?;
        Some(Part {
            first: first.id.clone(),
            tries: self.tries,
        })
    }
}

/// A group, for display.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupInfo {
    /// The queue of its members.
    pub queue: Name,
    /// The event of its members.
    pub event: Name,
    /// The group's name. Empty for tasks without a group name.
    pub name: Name,
    /// How often aggregating its members has failed, if they are a [part](Part) of the group.
    pub tries: u32,
    /// How many tasks wait in it.
    pub size: u64,
    /// When its oldest member was added.
    pub oldest: Timestamp,
    /// When it is due, unless its newest member extends the wait.
    pub due: Timestamp,
}

impl GroupInfo {
    /// A group of `size` tasks, never tried.
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

/// One task that replaces several.
#[derive(Clone, Debug)]
pub struct Aggregation {
    /// The members to replace, all of one group.
    pub group: Group,
    /// The task that replaces them: in the same queue, and not to be aggregated itself.
    pub task: NewTask,
}
