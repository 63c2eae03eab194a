//! Schedule entries that a broker keeps, for any number of schedulers to share.

use async_trait::async_trait;

use super::{BrokerError, Conflict};
use crate::task::{Envelope, Name, Timestamp};

/// Keeps schedule entries, and fires each tick of them once.
#[async_trait]
pub trait Schedules: Send + Sync {
    /// Adds entries, each in place of one of the same name.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    async fn put_schedules(&self, entries: Vec<ScheduleEntry>) -> Result<(), BrokerError>;

    /// Removes entries. Tells for each name whether there was one.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    async fn remove_schedules(&self, names: &[Name]) -> Result<Vec<bool>, BrokerError>;

    /// All entries, by name.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    async fn schedules(&self) -> Result<Vec<ScheduleEntry>, BrokerError>;

    /// Fires ticks: enqueues the task of each, then sets the entry's next tick. A tick that is not the entry's next,
    /// since another scheduler was first, and one of an entry that is gone are passed over with `Ok(false)`.
    ///
    /// A process that dies between the two leaves a tick that is fired again: derive the task's id from entry and
    /// tick, and the second time is a [`Conflict::Id`], with which the entry moves on all the same; so it does with a
    /// [`Conflict::Unique`], which leaves the tick out.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached. Firing again is safe.
    async fn fire(&self, ticks: Vec<Fire>) -> Result<Vec<Result<bool, Conflict>>, BrokerError>;
}

/// A task that is enqueued again and again.
#[derive(Clone, Debug, PartialEq)]
pub struct ScheduleEntry {
    /// Names the entry among all.
    pub name: Name,
    /// The rule that gives its ticks, as its scheduler reads it.
    pub rule: String,
    /// The task of each tick; only its id differs.
    pub template: Envelope,
    /// The next tick, by the broker's clock; `None` if it has no more.
    pub next: Option<Timestamp>,
    /// Whether schedulers are to pass it over.
    pub paused: bool,
}

/// One tick of an entry.
#[derive(Clone, Debug)]
pub struct Fire {
    /// The entry.
    pub name: Name,
    /// The tick that is due, as the scheduler saw it in the entry.
    pub tick: Timestamp,
    /// The task to enqueue.
    pub envelope: Envelope,
    /// The tick after it.
    pub next: Option<Timestamp>,
}
