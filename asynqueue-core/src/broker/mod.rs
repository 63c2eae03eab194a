//! The seam to storage: what a broker keeps and promises.
//!
//! Callers see [`Broker`], which is the way of a task (enqueue, lease, settle, and the upkeep in between), and beside it
//! [`Inspect`], [`Control`], [`Groups`], [`Schedules`], [`Subscriptions`] and [`Fleet`], so that each stays small. A store
//! implements [`Store`] alone: all of these are implemented for every store. The suites of the crate `asynqueue-conformance`
//! are the full specification of what each method owes.
//!
//! These traits and their types are outside Semantic Versioning until 1.0.
//!
//! Every method takes and returns batches, so that a broker across the network needs one round trip for many tasks.
//! Where a call spans several queues, each has [an answer of its own](Each), so that one that fails holds up no other.
//! Every change of state is atomic: a task is in exactly one state at any instant, and a process that dies between two
//! calls leaves nothing half done.
//!
//! Methods are called from several runtimes: a server calls them from its own, which lives on a thread of its own and ends
//! with the server, and producers and handlers from the application's, which a handler may block. So what a broker spawns must not depend
//! on the runtime of the caller. A broker with connections drives them on a thread of its own.

mod capabilities;
mod control;
mod declared;
mod derived;
mod documents;
mod durability;
mod each;
mod edit;
mod error;
mod fleet;
mod groups;
mod inspect;
mod lease;
mod schedules;
mod store;
mod subscriptions;
mod trim;

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;

pub(crate) use self::trim::is_archive_nearly_full;
pub use self::{
    capabilities::Capabilities,
    control::{CancelOutcome, Control, Finished, Replacement, Signal, Signals},
    declared::{REMOVALS_KEPT, Restored, StateMark},
    documents::{Document, DocumentSwap, DueDocuments, Expect, Put, Space, Swapped, Version},
    durability::{Durability, InvalidDurability},
    each::{Each, all_of},
    edit::{Change, Edit, Edited, Move},
    error::{BrokerError, Conflict, Reason},
    fleet::{Fleet, QuietRequest, RunningTask, ServerInfo, UnhandledTasks},
    groups::{Aggregation, DueGroups, Group, GroupInfo, Groups, Part, SetApart},
    inspect::{Cursor, HourStats, Inspect, LeaseInfo, Node, Page, QueueStats, TaskInfo, TaskPage},
    lease::{Extended, Lease, LeaseRequest, LeaseToken, Leased, Outcome, Settled, Settlement},
    schedules::{
        CLOCK_TOLERANCE, DueSchedules, Fire, FireOutcome, MissedTicks, ScheduleEntry,
        ScheduleEvent, ScheduleSwap, Schedules, Tick,
    },
    store::Store,
    subscriptions::{InvalidSubscriber, Subscription, Subscriptions},
    trim::{ArchiveStats, Keep, Trimmed},
};
use crate::task::{Envelope, Name, Timestamp};

/// A broker to share among producers, servers and inspectors.
pub type SharedBroker = Arc<dyn Broker>;

/// The way of a task through storage.
#[async_trait]
pub trait Broker:
    Inspect + Control + Groups + Schedules + Subscriptions + Fleet + fmt::Debug + Send + Sync + 'static
{
    /// The broker's clock, as well as this process knows it without asking. It decides what is due and expired, so
    /// that a worker whose own clock is wrong runs nothing early.
    fn now(&self) -> Timestamp;

    /// Accepts tasks: once this has returned `Ok`, they are kept until they come to their end. Answers each task in
    /// the order given.
    ///
    /// A task whose id is taken in its queue, or whose unique lock is held, is refused with what stands in its way;
    /// the others are accepted all the same. One to be [aggregated](Envelope::aggregated_in) waits in its group, and is
    /// not pending. Accepting the first pending task of an empty queue sends
    /// [`Signal::Pending`].
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached or takes nothing more. Then each task may or may not have been accepted;
    /// enqueueing it again under the same id is safe.
    async fn enqueue(&self, tasks: Vec<NewTask>) -> Result<Vec<Result<(), Conflict>>, BrokerError>;

    /// As [`enqueue`](Self::enqueue), with a durability of this call's own, in place of the one that the broker has for all calls.
    /// A refusal has it too: the task in the way is as durable as asked for.
    ///
    /// # Errors
    ///
    /// [`BrokerError::Unsupported`] when the broker does not offer this durability; then no task was accepted.
    /// [`BrokerError::NotDurable`] when the tasks were accepted, and are not known to be that durable in time; enqueueing them again
    /// under the same ids is safe. Else as for [`enqueue`](Self::enqueue).
    async fn enqueue_durably(
        &self,
        tasks: Vec<NewTask>,
        durability: Durability,
    ) -> Result<Vec<Result<(), Conflict>>, BrokerError>;

    /// What the broker offers beyond what every broker has to.
    fn capabilities(&self) -> Capabilities;

    /// Leases pending tasks to a worker: they are active until they are settled or their lease ends. By priority, then
    /// first in, first out. Takes nothing from a paused queue. Answers each queue in the order given.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached: of a queue, when that one cannot.
    async fn lease(&self, request: &LeaseRequest) -> Result<Each<Vec<Leased>>, BrokerError>;

    /// Lets leases end `lease` from now instead. Answers each in the order given.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached: of a lease, when its queue cannot.
    async fn extend(
        &self,
        leases: &[Lease],
        lease: Duration,
    ) -> Result<Each<Extended>, BrokerError>;

    /// Records outcomes, each in one step with all that follows from it: the task's next state, its unique lock, its
    /// result, who waits for it. Answers each in the order given; an outcome under a token that is no longer current
    /// is [refused](Settled::Stale).
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached: of an outcome, when its queue cannot. Settling again what failed of a queue, all of
    /// it in the same order, is safe.
    async fn settle(&self, settlements: &[Settlement]) -> Result<Each<Settled>, BrokerError>;

    /// Moves up to `limit` tasks of each queue that are due, scheduled or to be retried, to pending. Answers each queue in the
    /// order given.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached: of a queue, when that one cannot.
    async fn forward(&self, queues: &[Name], limit: usize) -> Result<Each<Forwarded>, BrokerError>;

    /// Up to `limit` active tasks of each queue whose lease has ended, and had ended at the time `by` already, with the
    /// token to settle them under. Answers each queue in the order given. They stay as they are:
    /// of the servers that see them, the one that settles first wins. To leave a task to a worker that extends its lease
    /// after all, they settle it [only if it has expired](Settlement::only_if_expired).
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached: of a queue, when that one cannot.
    async fn expired(
        &self,
        queues: &[Name],
        by: Timestamp,
        limit: usize,
    ) -> Result<Each<Vec<Leased>>, BrokerError>;

    /// Deletes up to `limit` tasks of each queue, completed tasks past their retention and archived tasks beyond `keep`, oldest
    /// first, and gives back what memory they held. Answers each queue in the order given. Archived tasks that it deletes are
    /// counted in [`QueueStats::archive`] in the same step.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached: of a queue, when that one cannot, and nothing of it was deleted.
    async fn trim(
        &self,
        queues: &[Name],
        keep: Keep,
        limit: usize,
    ) -> Result<Each<Trimmed>, BrokerError>;

    /// Leaves the upkeep of queues to others, as when a server stops. A store may let one process at a time look after a queue:
    /// then [`forward`](Self::forward), [`expired`](Self::expired) and [`trim`](Self::trim) take a queue that has no
    /// owner, and do and find nothing in one that another process looks after. Nothing happens where there are no owners.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached. Then others take the queues over after a while.
    async fn hand_over(&self, queues: &[Name]) -> Result<(), BrokerError>;
}

/// A task on its way into the broker.
#[derive(Clone, Debug)]
pub struct NewTask {
    /// The task.
    pub envelope: Envelope,
    /// When it is to run.
    pub when: When,
    /// The tick of a schedule entry that it is of: the queue takes one task for each.
    pub tick: Option<TickGuard>,
}

impl NewTask {
    /// A task to run then.
    pub fn new(envelope: Envelope, when: When) -> Self {
        Self {
            envelope,
            when,
            tick: None,
        }
    }
}

/// Lets a queue take the task of a tick once, however often it is sent. The queue remembers the last tick of each guard; a memory of
/// a tick more than [`CLOCK_TOLERANCE`] ahead of both the tick and the clock is that of a clock that was wrong, and is ignored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TickGuard {
    /// What the ticks are of: a schedule entry, from its addition to its removal.
    pub guard: Name,
    /// The tick.
    pub tick: Timestamp,
}

impl TickGuard {
    /// Whether a queue takes no task for this tick at the time `now`, which remembers `last` as the last tick of the guard.
    pub fn has_fired(&self, last: Timestamp, now: Timestamp) -> bool {
        let tick = self.tick;
        last == tick || (last > tick && last <= tick.max(now) + CLOCK_TOLERANCE)
    }
}

/// When a task is to run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum When {
    /// As soon as a worker is free.
    #[default]
    Now,
    /// This long after it is accepted, by the broker's clock.
    After(Duration),
    /// At this time, by the broker's clock.
    At(Timestamp),
}

/// What [`Broker::forward`] has done in one queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forwarded {
    /// How many tasks became pending.
    pub moved: usize,
    /// When the next is due. In the past, if `limit` left some behind.
    pub next_due: Option<Timestamp>,
}
