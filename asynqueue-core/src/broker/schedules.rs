//! Schedule entries that a broker keeps, for any number of schedulers to share.

use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::{BrokerError, Conflict};
use crate::task::{Envelope, Name, TaskRef, Timestamp};

/// Keeps schedule entries, and fires each tick of them once.
#[async_trait]
pub trait Schedules: Send + Sync {
    /// Adds entries, each in place of one of the same name.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    async fn put_schedules(&self, entries: Vec<ScheduleEntry>) -> Result<(), BrokerError>;

    /// Removes entries with their history. Tells for each name whether there was one.
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

    /// Up to `limit` entries that are due by the broker's clock and not paused, earliest first. The cost does not grow with
    /// the number of entries.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    async fn due_schedules(&self, limit: usize) -> Result<DueSchedules, BrokerError>;

    /// Fires ticks: enqueues the task of each, sets the entry's next tick, and notes both in its history. A tick that is
    /// not the entry's next, since another scheduler was first, and one of an entry that is gone or paused are passed over
    /// with `Ok(false)`.
    ///
    /// However many schedulers fire a tick, and wherever they die, its task is enqueued once: the queue remembers the last
    /// tick of each entry. A task that is refused leaves the tick out, and the entry moves on all the same.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached. Firing again is safe.
    async fn fire(&self, ticks: Vec<Fire>) -> Result<Vec<Result<bool, Conflict>>, BrokerError>;

    /// What came of an entry's last ticks, newest first: up to `limit` of the last [`ScheduleEvent::KEPT`].
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    async fn schedule_events(
        &self,
        name: &Name,
        limit: usize,
    ) -> Result<Vec<ScheduleEvent>, BrokerError>;
}

/// A task that is enqueued again and again.
#[derive(Clone, Debug, PartialEq)]
pub struct ScheduleEntry {
    /// Names the entry among all.
    pub name: Name,
    /// The rule that gives its ticks, as its scheduler reads it.
    pub rule: String,
    /// The task of each tick; only its id and times differ.
    pub template: Envelope,
    /// The next tick, by the broker's clock; `None` if it has no more.
    pub next: Option<Timestamp>,
    /// Whether schedulers are to pass it over.
    pub paused: bool,
    /// What happens to ticks that no scheduler was there for.
    pub missed: MissedTicks,
    /// Each task waits a random time up to this after its tick.
    pub jitter: Duration,
    /// Where the entry is from: whoever put it there may remove it when it is not there any more.
    pub source: String,
}

/// What happens to ticks that no scheduler was there for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MissedTicks {
    /// They are left out.
    Skip,
    /// The last of them is made up for, however many there were.
    #[default]
    Once,
    /// The last so many are made up for.
    Last(u32),
}

/// What [`Schedules::due_schedules`] finds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DueSchedules {
    /// Those that are due.
    pub entries: Vec<ScheduleEntry>,
    /// When the next is due. In the past, if `limit` left some behind.
    pub next_due: Option<Timestamp>,
}

/// One tick of an entry.
#[derive(Clone, Debug)]
pub struct Fire {
    /// The entry.
    pub name: Name,
    /// The tick that is due, as the scheduler saw it in the entry.
    pub tick: Timestamp,
    /// What to do.
    pub what: Tick,
    /// The tick after it.
    pub next: Option<Timestamp>,
}

/// What to do at a tick.
#[derive(Clone, Debug)]
pub enum Tick {
    /// Enqueue a task, to run no sooner than at this time.
    Enqueue(Envelope, Timestamp),
    /// Nothing, for this reason.
    Skip(String),
}

/// What came of a tick.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduleEvent {
    /// The tick.
    pub tick: Timestamp,
    /// When it was fired.
    pub at: Timestamp,
    /// What came of it.
    pub outcome: FireOutcome,
}

impl ScheduleEvent {
    /// How many are kept of each entry.
    pub const KEPT: usize = 100;
}

/// What came of a tick.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FireOutcome {
    /// Its task was enqueued.
    Enqueued(TaskRef),
    /// Its task was refused, for this reason.
    Refused(String),
    /// It was left out, for this reason.
    Skipped(String),
}
