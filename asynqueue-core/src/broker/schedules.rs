//! Schedule entries that a broker stores, shared by any number of schedulers.

use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::{BrokerError, Conflict, Restored, StateMark};
use crate::task::{Envelope, Name, TaskRef, Timestamp};

/// Stores schedule entries, and fires each of their ticks once.
#[async_trait]
pub trait Schedules: Send + Sync {
    /// Changes entries, each in one step and only if it has not changed since it was read. The result for each, in the
    /// order given, is `false` if the entry was changed, added or removed in between: read it again and decide again.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached. Each change may or may not have been made.
    async fn swap_schedules(&self, swaps: Vec<ScheduleSwap>) -> Result<Vec<bool>, BrokerError>;

    /// Adds entries. Each replaces an entry of the same name, regardless of its current value. To change an entry that
    /// was read, [swap](Self::swap_schedules) it: this method would overwrite changes made by others in between.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached, or cannot read an entry of the same name.
    async fn put_schedules(&self, entries: Vec<ScheduleEntry>) -> Result<(), BrokerError>;

    /// Removes entries with their history, regardless of their current value, and the last ticks that queues remember
    /// for them. The result for each name is whether the entry existed. A removed entry returns only if it is added
    /// again.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    async fn remove_schedules(&self, names: &[Name]) -> Result<Vec<bool>, BrokerError>;

    /// Identifies the current set of entries. The cost is small and independent of their number. A change of an
    /// existing entry does not change the mark.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    async fn schedules_mark(&self) -> Result<StateMark, BrokerError>;

    /// Adds the entries that are missing, unless they were removed within [`REMOVALS_KEPT`](super::REMOVALS_KEPT), by a
    /// [swap](Self::swap_schedules) or by [name](Self::remove_schedules). A removal by name counts whether or not the
    /// entry existed, until a swap adds the entry. Existing entries do not change.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached. Restoring again is safe.
    async fn restore_schedules(
        &self,
        declared: Vec<ScheduleEntry>,
    ) -> Result<Restored<Name>, BrokerError>;

    /// The entry of this name. `None` if it does not exist.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached, or the entry is undecodable, for example because a later version has written
    /// it.
    async fn schedule(&self, name: &Name) -> Result<Option<ScheduleEntry>, BrokerError>;

    /// All decodable entries, by name.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    async fn schedules(&self) -> Result<Vec<ScheduleEntry>, BrokerError>;

    /// Up to `limit` entries that are due by the broker's clock and not paused, earliest first. The cost does not grow
    /// with the number of entries. Undecodable entries are skipped and do not count.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    async fn due_schedules(&self, limit: usize) -> Result<DueSchedules, BrokerError>;

    /// Fires ticks: for each, enqueues the task, sets the entry's next tick, and adds both to its history. The result
    /// is `Ok(false)` if the tick is not the entry's next one, because another scheduler fired it first, or if the
    /// entry is paused or no longer exists.
    ///
    /// Any number of schedulers may fire a tick and die at any point: its task is enqueued once, because the queue
    /// remembers the last tick of each entry. If that tick is more than [`CLOCK_TOLERANCE`] ahead of both the new tick
    /// and the clock, it came from a wrong clock and is ignored. If the task is refused, the tick is skipped and the
    /// entry advances all the same.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached. Firing again is safe.
    async fn fire(&self, ticks: Vec<Fire>) -> Result<Vec<Result<bool, Conflict>>, BrokerError>;

    /// The results of an entry's last ticks, newest first: up to `limit` of the last [`ScheduleEvent::KEPT`].
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

/// How far the broker's clock may go back without firing a tick twice. After the clock has gone back, it takes at most
/// this long until ticks are fired again.
pub const CLOCK_TOLERANCE: Duration = Duration::from_secs(60);

/// A change of one entry.
#[derive(Clone, Debug, PartialEq)]
pub struct ScheduleSwap {
    /// The name of the entry.
    pub name: Name,
    /// The entry as it was read. `None` if it did not exist.
    pub seen: Option<ScheduleEntry>,
    /// The new entry, with the same name. `None` removes the entry and its history.
    pub new: Option<ScheduleEntry>,
}

/// A task that is enqueued repeatedly.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ScheduleEntry {
    /// The entry's name, unique in the broker.
    pub name: Name,
    /// When it fires, such as `@every 5m` or a cron expression. The scheduler parses it.
    pub rule: String,
    /// The task of each tick. Only its id and times differ.
    pub template: Envelope,
    /// The next tick, by the broker's clock. `None` if there are no more.
    pub next: Option<Timestamp>,
    /// Whether the entry is paused: schedulers skip it. Default `false`.
    pub paused: bool,
    /// What happens to ticks that passed while no scheduler was running. Default: the last one is made up.
    pub missed: MissedTicks,
    /// Each task is delayed by a random time up to this. Default zero.
    pub jitter: Duration,
    /// What declared the entry, such as a file. The same source may remove the entry once it no longer declares it.
    /// Default empty.
    pub source: String,
}

impl ScheduleEntry {
    /// An entry without a next tick, with the default of each field.
    pub fn new(name: impl Into<Name>, rule: impl Into<String>, template: Envelope) -> Self {
        Self {
            name: name.into(),
            rule: rule.into(),
            template,
            next: None,
            paused: false,
            missed: MissedTicks::default(),
            jitter: Duration::ZERO,
            source: String::new(),
        }
    }
}

/// What happens to ticks that passed while no scheduler was running.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum MissedTicks {
    /// They are skipped.
    Skip,
    /// The last of them is fired late, however many there were.
    #[default]
    Once,
    /// The last ones are fired late, up to this number.
    Last(u32),
}

/// The result of [`Schedules::due_schedules`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DueSchedules {
    /// The due entries, earliest first.
    pub entries: Vec<ScheduleEntry>,
    /// When the next one is due. In the past if `limit` left some behind.
    pub next_due: Option<Timestamp>,
    /// The time of the read, by the broker's clock.
    pub now: Timestamp,
}

/// One tick of an entry.
#[derive(Clone, Debug)]
pub struct Fire {
    /// The name of the entry.
    pub name: Name,
    /// The due tick, as the scheduler read it in the entry.
    pub tick: Timestamp,
    /// What to do at the tick.
    pub what: Tick,
    /// The entry's next tick. `None` if there are no more.
    pub next: Option<Timestamp>,
}

/// What to do at a tick.
#[derive(Clone, Debug)]
pub enum Tick {
    /// Enqueue this task, to run no sooner than at this time.
    Enqueue(Envelope, Timestamp),
    /// Enqueue nothing. Contains the reason.
    Skip(String),
}

/// The result of a tick.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ScheduleEvent {
    /// The time of the tick, by the entry's rule.
    pub tick: Timestamp,
    /// When it was fired.
    pub at: Timestamp,
    /// Whether its task was enqueued.
    pub outcome: FireOutcome,
}

impl ScheduleEvent {
    /// The result of `tick`, fired at `at`.
    pub fn new(tick: Timestamp, at: Timestamp, outcome: FireOutcome) -> Self {
        Self { tick, at, outcome }
    }
}

impl ScheduleEvent {
    /// How many results are kept for each entry.
    pub const KEPT: usize = 100;
}

/// Whether the task of a tick was enqueued.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FireOutcome {
    /// Its task was enqueued.
    Enqueued(TaskRef),
    /// Its task was refused. Contains the reason.
    Refused(String),
    /// It was skipped. Contains the reason.
    Skipped(String),
}
