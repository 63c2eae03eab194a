//! Schedule entries that a broker keeps, for any number of schedulers to share.

use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::{BrokerError, Conflict, Restored, StateMark};
use crate::task::{Envelope, Name, TaskRef, Timestamp};

/// Keeps schedule entries, and fires each tick of them once.
#[async_trait]
pub trait Schedules: Send + Sync {
    /// Changes entries, each in one step and only while it still is as it was seen. Answers each in the order given:
    /// `false` if it was changed, added or removed meanwhile. Then read it again, and decide again.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached. Then each change may or may not have been made.
    async fn swap_schedules(&self, swaps: Vec<ScheduleSwap>) -> Result<Vec<bool>, BrokerError>;

    /// Adds entries, each in place of one of the same name, whatever its current value. To change an entry that was read,
    /// [swap](Self::swap_schedules) it: what another has changed meanwhile would be undone.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached, or cannot read an entry of the same name.
    async fn put_schedules(&self, entries: Vec<ScheduleEntry>) -> Result<(), BrokerError>;

    /// Removes entries with their history, whatever their current value, and what queues remember of their last ticks.
    /// Answers for each name whether there was one. An entry that is removed returns only if it is added again.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    async fn remove_schedules(&self, names: &[Name]) -> Result<Vec<bool>, BrokerError>;

    /// Names the present state of which entries there are, at a small cost that does not grow with their number. A change of
    /// an entry that stays is no change of it.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    async fn schedules_mark(&self) -> Result<StateMark, BrokerError>;

    /// Adds those of the entries that are missing, unless they were removed within [`REMOVALS_KEPT`](super::REMOVALS_KEPT), be it by
    /// a [swap](Self::swap_schedules) or by [name](Self::remove_schedules). A removal by name counts whether or not the
    /// entry was there, and until it is added by a swap. Those that are there stay as they are.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached. Restoring again is safe.
    async fn restore_schedules(
        &self,
        declared: Vec<ScheduleEntry>,
    ) -> Result<Restored<Name>, BrokerError>;

    /// The entry of this name.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached, or cannot read the entry, as when a later version has written it.
    async fn schedule(&self, name: &Name) -> Result<Option<ScheduleEntry>, BrokerError>;

    /// All entries that can be read, by name.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    async fn schedules(&self) -> Result<Vec<ScheduleEntry>, BrokerError>;

    /// Up to `limit` entries that are due by the broker's clock and not paused, earliest first. The cost does not grow with
    /// the number of entries. Entries that cannot be read are passed over, and do not count.
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
    /// tick of each entry. A memory of a tick more than [`CLOCK_TOLERANCE`] ahead of both the tick and the clock is that of
    /// a clock that was wrong, and is ignored. A task that is refused leaves the tick out, and the entry moves on
    /// all the same.
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

/// How far the broker's clock may go back without any tick being fired twice. It takes this long at most until ticks are
/// fired again after the clock has gone back.
pub const CLOCK_TOLERANCE: Duration = Duration::from_secs(60);

/// A change of one entry.
#[derive(Clone, Debug, PartialEq)]
pub struct ScheduleSwap {
    /// The entry.
    pub name: Name,
    /// The entry as it was seen; `None` if there was none.
    pub seen: Option<ScheduleEntry>,
    /// What takes its place, under the same name. `None` removes it with its history.
    pub new: Option<ScheduleEntry>,
}

/// A task that is enqueued again and again.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
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

impl ScheduleEntry {
    /// An entry without a next tick, with the defaults of what else it has.
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

/// What happens to ticks that no scheduler was there for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
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
    /// The time by the broker's clock when it was asked.
    pub now: Timestamp,
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
#[non_exhaustive]
pub struct ScheduleEvent {
    /// The tick.
    pub tick: Timestamp,
    /// When it was fired.
    pub at: Timestamp,
    /// What came of it.
    pub outcome: FireOutcome,
}

impl ScheduleEvent {
    /// What a tick that was fired then has led to.
    pub fn new(tick: Timestamp, at: Timestamp, outcome: FireOutcome) -> Self {
        Self { tick, at, outcome }
    }
}

impl ScheduleEvent {
    /// How many are kept of each entry.
    pub const KEPT: usize = 100;
}

/// What came of a tick.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FireOutcome {
    /// Its task was enqueued.
    Enqueued(TaskRef),
    /// Its task was refused, for this reason.
    Refused(String),
    /// It was left out, for this reason.
    Skipped(String),
}
