//! The interface to storage: what a broker keeps and what it guarantees.
//!
//! Callers use [`Broker`], which covers the life of a task (enqueue, lease, settle, and the maintenance in between),
//! and the smaller traits [`Inspect`], [`Control`], [`Groups`], [`Schedules`], [`Subscriptions`] and [`Fleet`]. A store
//! implements only [`Store`]; the other traits are implemented for every store. The test suites in the crate
//! `asynqueue-conformance` are the full specification of each method.
//!
//! Every method takes and returns batches, so that a broker across the network needs one round trip for many tasks. A
//! call that spans several queues returns [one result per queue](Each): a queue that fails does not hold up the others.
//! Every change of state is atomic. A task is in exactly one state at any moment, and a process that dies between two
//! calls leaves nothing half done.
//!
//! # Versions
//!
//! These traits and the types that only brokers use are outside Semantic Versioning until 1.0: a minor version may add
//! a method or a field. A broker in a separate crate depends on one exact version of `asynqueue-core`, such as
//! `=0.1.0`, and runs the suite of the same version of `asynqueue-conformance`. Programs that reach a broker through a
//! producer, a server or an inspector are not affected.
//!
//! # Runtimes
//!
//! Methods are called from several runtimes. A server calls them from its own runtime, which runs on a separate thread
//! and ends with the server. Producers and handlers call them from the application's runtime, which a handler may
//! block. Anything that a broker spawns must therefore not depend on the caller's runtime: a broker with connections
//! drives them on its own thread.

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
mod import;
mod inspect;
#[doc(hidden)]
pub mod kit;
mod lease;
mod limits;
mod outboxes;
mod pauses;
mod points;
mod schedules;
mod store;
mod subscriptions;
mod trim;
mod unreadable;

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;

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
    import::{Apart, Import, Imported, TaskPlace, Totals},
    inspect::{Cursor, HourStats, Inspect, LeaseInfo, Node, Page, QueueStats, TaskInfo, TaskPage},
    lease::{
        Counted, Extended, Lease, LeaseRequest, LeaseToken, Leased, Outcome, Settled, Settlement,
    },
    limits::{LimitInfo, LimitKind, QueueUse},
    outboxes::{OutboxAction, OutboxInfo, OutboxRequest},
    pauses::{Pausable, Pause},
    points::{Counts, Point, PointQuery, Series},
    schedules::{
        CLOCK_TOLERANCE, DueSchedules, Fire, FireOutcome, MissedTicks, ScheduleEntry,
        ScheduleEvent, ScheduleSwap, Schedules, Tick,
    },
    store::Store,
    subscriptions::{InvalidSubscriber, Subscription, Subscriptions},
    trim::{ArchiveStats, Keep, Trimmed},
    unreadable::Unreadable,
};
pub(crate) use self::{
    derived::{
        SCHEDULES_MARK, SUBSCRIPTIONS_MARK, forget_removal, new_mark, note_removal,
        removal_of_entry, unsupported,
    },
    trim::is_archive_nearly_full,
};
use crate::task::{Envelope, Name, Timestamp};

/// A broker that producers, servers and inspectors share.
pub type SharedBroker = Arc<dyn Broker>;

/// The life of a task in storage: enqueue, lease, settle, and maintenance.
#[async_trait]
pub trait Broker:
    Inspect + Control + Groups + Schedules + Subscriptions + Fleet + fmt::Debug + Send + Sync + 'static
{
    /// The broker's clock, as this process knows it without a request. It decides which tasks are due and which leases
    /// have expired, so a worker with a wrong clock runs nothing early.
    fn now(&self) -> Timestamp;

    /// Accepts tasks. Once this returns `Ok`, the broker keeps them until they finish. The results are in the order of
    /// the tasks.
    ///
    /// A task is refused if its id is taken in its queue or another task holds its unique lock; the [`Conflict`] names
    /// the reason. The other tasks are accepted all the same. A task to be [aggregated](Envelope::aggregated_in) waits
    /// in its group and is not pending. The first pending task of an empty queue sends [`Signal::Pending`].
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached or is full. Each task may or may not have been accepted; enqueueing it again
    /// under the same id is safe.
    async fn enqueue(&self, tasks: Vec<NewTask>) -> Result<Vec<Result<(), Conflict>>, BrokerError>;

    /// Like [`enqueue`](Self::enqueue), with a durability for this call in place of the broker's default. It covers
    /// refusals too: the conflicting task is stored at least as durably.
    ///
    /// # Errors
    ///
    /// [`BrokerError::Unsupported`] when the broker does not offer this durability; no task was accepted.
    /// [`BrokerError::NotDurable`] when the tasks were accepted but the durability was not confirmed in time;
    /// enqueueing them again under the same ids is safe. Otherwise as for [`enqueue`](Self::enqueue).
    async fn enqueue_durably(
        &self,
        tasks: Vec<NewTask>,
        durability: Durability,
    ) -> Result<Vec<Result<(), Conflict>>, BrokerError>;

    /// The optional features that the broker offers.
    fn capabilities(&self) -> Capabilities;

    /// The store that keeps this broker's tasks. Every broker is derived from one.
    fn as_store(&self) -> &dyn Store;

    /// Leases pending tasks to a worker: they are active until they are settled or their lease expires. Tasks are
    /// leased by priority, then first in, first out. Nothing is leased from a paused queue. The results are in the
    /// order of the queues.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached. The result of a single queue is an error when only that queue cannot be
    /// reached.
    async fn lease(&self, request: &LeaseRequest) -> Result<Each<Vec<Leased>>, BrokerError>;

    /// Sets the end of leases to `lease` from now. The results are in the order given.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached. The result of a single lease is an error when only its queue cannot be
    /// reached.
    async fn extend(
        &self,
        leases: &[Lease],
        lease: Duration,
    ) -> Result<Each<Extended>, BrokerError>;

    /// Records outcomes. Each is one step that includes all its consequences: the task's next state, its unique lock,
    /// its result and the wake-up of its waiters. The results are in the order given. An outcome whose token is no
    /// longer current is [refused](Settled::Stale).
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached. The result of a single outcome is an error when only its queue cannot be
    /// reached. Settling everything that failed in a queue again, in the same order, is safe.
    async fn settle(&self, settlements: &[Settlement]) -> Result<Each<Settled>, BrokerError>;

    /// Makes up to `limit` due tasks of each queue pending, both scheduled tasks and retries. The results are in the
    /// order of the queues.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached. The result of a single queue is an error when only that queue cannot be
    /// reached.
    async fn forward(&self, queues: &[Name], limit: usize) -> Result<Each<Forwarded>, BrokerError>;

    /// Up to `limit` active tasks of each queue whose lease has expired, and had already expired at the time `by`, each
    /// with the token to settle it under. The results are in the order of the queues. The tasks do not change: if
    /// several servers see a task, the first to settle it wins. To spare a task whose worker extends its lease after
    /// all, settle it [only if it has expired](Settlement::only_if_expired).
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached. The result of a single queue is an error when only that queue cannot be
    /// reached.
    async fn expired(
        &self,
        queues: &[Name],
        by: Timestamp,
        limit: usize,
    ) -> Result<Each<Vec<Leased>>, BrokerError>;

    /// Deletes up to `limit` tasks of each queue, oldest first: completed tasks past their retention and archived tasks
    /// beyond `keep`. Frees the memory that they used. The results are in the order of the queues. The same step counts
    /// the deleted archived tasks in [`QueueStats::archive`].
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached. The result of a single queue is an error when only that queue cannot be
    /// reached; none of its tasks was deleted.
    async fn trim(
        &self,
        queues: &[Name],
        keep: Keep,
        limit: usize,
    ) -> Result<Each<Trimmed>, BrokerError>;

    /// Leaves the maintenance of queues to other processes, for example when a server stops. A store may let one
    /// process at a time maintain a queue. Then [`forward`](Self::forward), [`expired`](Self::expired) and
    /// [`trim`](Self::trim) claim a queue that has no owner, and neither change nor return anything in a queue that
    /// another process owns. Does nothing in a store without owners.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached. Then other processes take over the queues after a while.
    async fn hand_over(&self, queues: &[Name]) -> Result<(), BrokerError>;
}

/// A task to be enqueued.
#[derive(Clone, Debug)]
pub struct NewTask {
    /// The task, with its id, queue, payload and options.
    pub envelope: Envelope,
    /// When it is to run. Default: now.
    pub when: When,
    /// Set for a task of a schedule entry: the queue accepts one task per tick.
    pub tick: Option<TickGuard>,
}

impl NewTask {
    /// A task to run at `when`.
    pub fn new(envelope: Envelope, when: When) -> Self {
        Self {
            envelope,
            when,
            tick: None,
        }
    }
}

/// Makes a queue accept the task of a tick only once, however often it is sent. The queue remembers the last tick of
/// each guard. If that tick is more than [`CLOCK_TOLERANCE`] ahead of both the new tick and the clock, it came from a
/// wrong clock and is ignored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TickGuard {
    /// The source of the ticks: one schedule entry, from its addition to its removal.
    pub guard: Name,
    /// The time of the tick.
    pub tick: Timestamp,
}

impl TickGuard {
    /// Whether a queue refuses a task for this tick at the time `now`, if the last tick that it remembers for the guard
    /// is `last`.
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
    /// This long after the broker accepts it, by the broker's clock.
    After(Duration),
    /// At this time, by the broker's clock.
    At(Timestamp),
}

/// What [`Broker::forward`] did in one queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forwarded {
    /// How many tasks became pending.
    pub moved: usize,
    /// When the next task is due. In the past if `limit` left some behind.
    pub next_due: Option<Timestamp>,
}
