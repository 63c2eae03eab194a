//! What a store implements: twenty required methods, from which the callers' traits are derived.

use std::{any::Any, fmt, time::Duration};

use async_trait::async_trait;
use futures_util::{StreamExt, stream};

use super::{
    Aggregation, BrokerError, Capabilities, Conflict, Document, DocumentSwap, DueDocuments,
    DueGroups, Durability, Each, Edit, Edited, Extended, Finished, Forwarded, Group, GroupInfo,
    HourStats, Import, Imported, Keep, Lease, LeaseRequest, Leased, NewTask, Node, Page, Point,
    PointQuery, QueueStats, SetApart, Settled, Settlement, Signals, Space, Swapped, TaskInfo,
    TaskPage, Totals, Trimmed, derived,
};
use crate::{
    process::Progress,
    task::{Name, TaskRef, TaskState, Timestamp},
};

/// Stores tasks, and small documents beside them.
///
/// Every store is a [`Broker`](super::Broker): cancelling, deleting, schedules, subscriptions and the fleet are
/// implemented once for all stores, with these methods. The suite in `asynqueue-conformance` specifies the behaviour of
/// each.
///
/// Each change is one atomic step. Each method can be cut off at any `await`: the change was made or it was not, and
/// nothing is half done. Methods take and return batches, so that a store across the network needs one round trip for
/// many items. A batch that spans several queues returns [one result per queue](Each).
///
/// The methods after [`close`](Self::close) have defaults, which suit a store without the feature; a store lists its
/// features in its [`capabilities`](Self::capabilities). A store that wraps another one implements the required methods
/// and [`inner`](Self::inner): the defaults then call the inner store.
#[async_trait]
pub trait Store: Any + fmt::Debug + Send + Sync {
    // The life of a task.

    /// The store's clock, as this process knows it without a request: see [`Broker::now`](super::Broker::now).
    fn now(&self) -> Timestamp;

    /// Accepts tasks: see [`Broker::enqueue`](super::Broker::enqueue). First of all, a task with a
    /// [tick](NewTask::tick) that its queue remembers is refused with [`Conflict::Fired`]. Accepting such a task makes
    /// the queue remember the tick in the same step.
    ///
    /// # Errors
    ///
    /// As [`Broker::enqueue`](super::Broker::enqueue). The tasks of a queue that were accepted are then the first ones of
    /// the call in that queue.
    async fn enqueue(&self, tasks: Vec<NewTask>) -> Result<Vec<Result<(), Conflict>>, BrokerError>;

    /// Leases pending tasks: see [`Broker::lease`](super::Broker::lease).
    ///
    /// # Errors
    ///
    /// As [`Broker::lease`](super::Broker::lease).
    async fn lease(&self, request: &LeaseRequest) -> Result<Each<Vec<Leased>>, BrokerError>;

    /// Extends leases: see [`Broker::extend`](super::Broker::extend).
    ///
    /// # Errors
    ///
    /// As [`Broker::extend`](super::Broker::extend).
    async fn extend(
        &self,
        leases: &[Lease],
        lease: Duration,
    ) -> Result<Each<Extended>, BrokerError>;

    /// Records outcomes: see [`Broker::settle`](super::Broker::settle).
    ///
    /// # Errors
    ///
    /// As [`Broker::settle`](super::Broker::settle).
    async fn settle(&self, settlements: &[Settlement]) -> Result<Each<Settled>, BrokerError>;

    /// Moves due tasks to pending: see [`Broker::forward`](super::Broker::forward).
    ///
    /// # Errors
    ///
    /// As [`Broker::forward`](super::Broker::forward).
    async fn forward(&self, queues: &[Name], limit: usize) -> Result<Each<Forwarded>, BrokerError>;

    /// Finds expired leases: see [`Broker::expired`](super::Broker::expired).
    ///
    /// # Errors
    ///
    /// As [`Broker::expired`](super::Broker::expired).
    async fn expired(
        &self,
        queues: &[Name],
        by: Timestamp,
        limit: usize,
    ) -> Result<Each<Vec<Leased>>, BrokerError>;

    /// Deletes tasks that are no longer kept: see [`Broker::trim`](super::Broker::trim).
    ///
    /// # Errors
    ///
    /// As [`Broker::trim`](super::Broker::trim).
    async fn trim(
        &self,
        queues: &[Name],
        keep: Keep,
        limit: usize,
    ) -> Result<Each<Trimmed>, BrokerError>;

    // Reading.

    /// The queues that have ever had a task, by name.
    ///
    /// # Errors
    ///
    /// When the store cannot be reached.
    async fn queues(&self) -> Result<Vec<Name>, BrokerError>;

    /// The figures of queues, in the order given. An unknown queue has the figures of an empty one.
    ///
    /// # Errors
    ///
    /// When the store cannot be reached.
    async fn stats(&self, queues: &[Name]) -> Result<Vec<QueueStats>, BrokerError>;

    /// Tasks, in the order given, each with its [version](TaskInfo::version). `None` for a task that does not exist.
    ///
    /// # Errors
    ///
    /// When the store cannot be reached.
    async fn tasks(&self, tasks: &[TaskRef]) -> Result<Vec<Option<TaskInfo>>, BrokerError>;

    /// One page of the tasks of a queue in one state: see [`Inspect::list`](super::Inspect::list).
    ///
    /// # Errors
    ///
    /// When the store cannot be reached.
    async fn list(
        &self,
        queue: &Name,
        state: TaskState,
        page: Page,
    ) -> Result<TaskPage, BrokerError>;

    // Changing.

    /// Changes tasks, each in one step and only if it still has the version that was read. The results are in the order
    /// given, as if the edits were made one after the other.
    ///
    /// # Errors
    ///
    /// When the store cannot be reached. Each change may or may not have been made.
    async fn edit(&self, edits: &[Edit]) -> Result<Vec<Edited>, BrokerError>;

    /// Pauses or resumes leasing from queues. Active tasks continue.
    ///
    /// # Errors
    ///
    /// When the store cannot be reached.
    async fn set_paused(&self, queues: &[Name], paused: bool) -> Result<(), BrokerError>;

    /// Deletes a queue: see [`Control::delete_queue`](super::Control::delete_queue).
    ///
    /// # Errors
    ///
    /// When the store cannot be reached. Deleting it again is safe.
    async fn delete_queue(&self, queue: &Name, force: bool) -> Result<bool, BrokerError>;

    // Documents.

    /// Documents of a space, in the order given. `None` for a document that does not exist.
    ///
    /// # Errors
    ///
    /// When the store cannot be reached.
    async fn document(
        &self,
        space: Space,
        names: &[Name],
    ) -> Result<Vec<Option<Document>>, BrokerError>;

    /// All documents of a space, by name.
    ///
    /// # Errors
    ///
    /// When the store cannot be reached.
    async fn documents(&self, space: Space) -> Result<Vec<(Name, Document)>, BrokerError>;

    /// Applies sets of changes to documents, one set after the other. The changes of a set are made in one step, all or
    /// nothing: if a document is not as its change [expects](DocumentSwap::expect), none of the set is made. The
    /// results are in the order of the sets.
    ///
    /// # Errors
    ///
    /// When the store cannot be reached. Each set may or may not have been applied.
    async fn swap(&self, sets: Vec<Vec<DocumentSwap>>) -> Result<Vec<Swapped>, BrokerError>;

    /// Up to `limit` documents of a space that are [due](Document::due) by the store's clock, earliest first. The cost
    /// does not grow with the number of documents that are not due.
    ///
    /// # Errors
    ///
    /// When the store cannot be reached.
    async fn due(&self, space: Space, limit: usize) -> Result<DueDocuments, BrokerError>;

    /// Closes this handle and its clones: see [`Control::close`](super::Control::close).
    async fn close(&self);

    // Optional features.

    /// The store that this one wraps. It serves the optional methods that this store does not implement. Default: none.
    fn inner(&self) -> Option<&dyn Store> {
        None
    }

    /// The optional features of this store. Default: those of the inner store, or none.
    fn capabilities(&self) -> Capabilities {
        self.inner()
            .map_or_else(Capabilities::default, |inner| inner.capabilities())
    }

    /// Checks that the store responds.
    ///
    /// # Errors
    ///
    /// When it does not respond.
    async fn ping(&self) -> Result<(), BrokerError> {
        match self.inner() {
            Some(inner) => inner.ping().await,
            None => {
                let marks = self.document(Space::Marks, &["ping".into()]).await;
                marks.map(drop)
            }
        }
    }

    /// Accepts tasks with a durability for this call: see [`Broker::enqueue_durably`](super::Broker::enqueue_durably).
    /// The default supports only [`Durability::Primary`].
    ///
    /// # Errors
    ///
    /// As [`Broker::enqueue_durably`](super::Broker::enqueue_durably).
    async fn enqueue_durably(
        &self,
        tasks: Vec<NewTask>,
        durability: Durability,
    ) -> Result<Vec<Result<(), Conflict>>, BrokerError> {
        match self.inner() {
            Some(inner) => inner.enqueue_durably(tasks, durability).await,
            None if durability.is_primary() => self.enqueue(tasks).await,
            None => Err(derived::unsupported(&format!("durability `{durability}`"))),
        }
    }

    /// Makes queues forget the last tick of guards, given as queue and [guard](super::TickGuard::guard), because no
    /// more tasks will be enqueued under them. The default keeps the ticks.
    ///
    /// # Errors
    ///
    /// When the store cannot be reached.
    async fn forget_ticks(&self, guards: &[(Name, Name)]) -> Result<(), BrokerError> {
        match self.inner() {
            Some(inner) => inner.forget_ticks(guards).await,
            None => Ok(()),
        }
    }

    /// Leaves the maintenance of queues to other processes: see [`Broker::hand_over`](super::Broker::hand_over). Does
    /// nothing by default: queues have no owners.
    ///
    /// # Errors
    ///
    /// When the store cannot be reached.
    async fn hand_over(&self, queues: &[Name]) -> Result<(), BrokerError> {
        match self.inner() {
            Some(inner) => inner.hand_over(queues).await,
            None => Ok(()),
        }
    }

    /// The signals of queues: see [`Control::signals`](super::Control::signals). By default there are none, and servers
    /// poll.
    ///
    /// # Errors
    ///
    /// When the store cannot be reached.
    async fn signals(&self, queues: &[Name]) -> Result<Signals, BrokerError> {
        match self.inner() {
            Some(inner) => inner.signals(queues).await,
            None => Ok(stream::pending().boxed()),
        }
    }

    /// Wakes another server: see [`Control::pass_on`](super::Control::pass_on). Does nothing by default: signals wake
    /// all servers.
    ///
    /// # Errors
    ///
    /// When the store cannot be reached.
    async fn pass_on(&self, queue: &Name) -> Result<(), BrokerError> {
        match self.inner() {
            Some(inner) => inner.pass_on(queue).await,
            None => Ok(()),
        }
    }

    /// Waits until a task has finished: see [`Control::finished`](super::Control::finished). The default polls the task
    /// at intervals that grow to one second. A store with this default must keep a task without retention for some
    /// seconds as completed, or its result would be gone before the poll finds it.
    ///
    /// # Errors
    ///
    /// When the store cannot be reached.
    async fn finished(&self, task: &TaskRef) -> Result<Finished, BrokerError> {
        match self.inner() {
            Some(inner) => inner.finished(task).await,
            None => derived::poll_for_end(self, task).await,
        }
    }

    /// Stores the newest progress of active tasks: see [`Control::report`](super::Control::report). The default
    /// discards it.
    ///
    /// # Errors
    ///
    /// When the store cannot be reached.
    async fn report(&self, progress: Vec<(Lease, Progress)>) -> Result<(), BrokerError> {
        match self.inner() {
            Some(inner) => inner.report(progress).await,
            None => Ok(()),
        }
    }

    /// Adds figures over time: see [`Control::add_points`](super::Control::add_points). The default discards them.
    ///
    /// # Errors
    ///
    /// When the store cannot be reached.
    async fn add_points(&self, points: Vec<Point>) -> Result<(), BrokerError> {
        match self.inner() {
            Some(inner) => inner.add_points(points).await,
            None => Ok(()),
        }
    }

    /// Figures over time: see [`Inspect::points`](super::Inspect::points). There are none by default.
    ///
    /// # Errors
    ///
    /// When the store cannot be reached.
    async fn points(&self, query: &PointQuery) -> Result<Vec<Point>, BrokerError> {
        match self.inner() {
            Some(inner) => inner.points(query).await,
            None => Ok(Vec::new()),
        }
    }

    /// How many attempts ended in each hour: see [`Inspect::history`](super::Inspect::history). The default counts
    /// none.
    ///
    /// # Errors
    ///
    /// When the store cannot be reached.
    async fn history(
        &self,
        queues: &[Name],
        since: Timestamp,
    ) -> Result<Vec<Vec<HourStats>>, BrokerError> {
        match self.inner() {
            Some(inner) => inner.history(queues, since).await,
            None => Ok(vec![Vec::new(); queues.len()]),
        }
    }

    /// The approximate memory of each queue in bytes, in the order given. By default unknown.
    ///
    /// # Errors
    ///
    /// When the store cannot be reached.
    async fn memory(&self, queues: &[Name]) -> Result<Vec<Option<u64>>, BrokerError> {
        match self.inner() {
            Some(inner) => inner.memory(queues).await,
            None => Ok(vec![None; queues.len()]),
        }
    }

    /// The servers of the storage. By default none are known.
    ///
    /// # Errors
    ///
    /// When the store cannot be reached.
    async fn nodes(&self) -> Result<Vec<Node>, BrokerError> {
        match self.inner() {
            Some(inner) => inner.nodes().await,
            None => Ok(Vec::new()),
        }
    }

    /// Where a queue is stored: see [`Inspect::place`](super::Inspect::place). Default: no separate place.
    fn place(&self, queue: &Name) -> Option<String> {
        self.inner().and_then(|inner| inner.place(queue))
    }

    /// Due groups: see [`Groups::due_groups`](super::Groups::due_groups). By default there are none.
    ///
    /// # Errors
    ///
    /// When the store cannot be reached.
    async fn due_groups(
        &self,
        queues: &[Name],
        events: &[Name],
        limit: usize,
    ) -> Result<DueGroups, BrokerError> {
        match self.inner() {
            Some(inner) => inner.due_groups(queues, events, limit).await,
            None => Ok(DueGroups::default()),
        }
    }

    /// The groups of a queue: see [`Groups::groups`](super::Groups::groups). By default there are none.
    ///
    /// # Errors
    ///
    /// When the store cannot be reached.
    async fn groups(&self, queue: &Name, limit: usize) -> Result<Vec<GroupInfo>, BrokerError> {
        match self.inner() {
            Some(inner) => inner.groups(queue, limit).await,
            None => Ok(Vec::new()),
        }
    }

    /// Replaces members of a group with one task: see [`Groups::aggregate`](super::Groups::aggregate).
    ///
    /// # Errors
    ///
    /// When the store cannot be reached, or does not support groups, which is the default.
    async fn aggregate(
        &self,
        aggregation: Aggregation,
    ) -> Result<Result<bool, Conflict>, BrokerError> {
        match self.inner() {
            Some(inner) => inner.aggregate(aggregation).await,
            None => Err(derived::unsupported("groups")),
        }
    }

    /// Takes members out of their group: see [`Groups::set_apart`](super::Groups::set_apart).
    ///
    /// # Errors
    ///
    /// When the store cannot be reached, or does not support groups, which is the default.
    async fn set_apart(&self, members: SetApart) -> Result<usize, BrokerError> {
        match self.inner() {
            Some(inner) => inner.set_apart(members).await,
            None => Err(derived::unsupported("groups")),
        }
    }

    /// Delays a group: see [`Groups::postpone`](super::Groups::postpone).
    ///
    /// # Errors
    ///
    /// When the store cannot be reached, or does not support groups, which is the default.
    async fn postpone(&self, group: &Group, delay: Duration) -> Result<(), BrokerError> {
        match self.inner() {
            Some(inner) => inner.postpone(group, delay).await,
            None => Err(derived::unsupported("groups")),
        }
    }

    /// Puts tasks of another store into this one, each in one step and in exactly the state that it had there. The
    /// results are in the order given, as if the tasks were imported one after the other.
    ///
    /// A time that has passed changes nothing: a scheduled task that is due is scheduled until it is
    /// [forwarded](Self::forward). Several pending tasks of one priority are leased in the order given. No attempt is
    /// counted. Signals announce what is pending or due, as for enqueued tasks.
    ///
    /// A task takes [its unique lock](Import::lock) unless a task holds it already, itself or another one. In the
    /// latter case it waits without its lock. A task that replaces a stored one and has [finished](TaskState::is_final)
    /// releases its lock, unless that is for a window, and ends for its waiters.
    ///
    /// # Errors
    ///
    /// When the store cannot be reached; each task may or may not have been imported. When the store does not support
    /// it, which is the default.
    async fn import(&self, tasks: Vec<Import>) -> Result<Vec<Imported>, BrokerError> {
        match self.inner() {
            Some(inner) => inner.import(tasks).await,
            None => Err(derived::unsupported("importing tasks")),
        }
    }

    /// Adds statistics to those of a queue, and remembers `id` in the same step. Does nothing if the queue remembers
    /// this `id`: repeating the call is safe. The queue remembers it until it is deleted. Without statistics, the call
    /// changes nothing. Returns whether the queue did not remember the `id` before.
    ///
    /// # Errors
    ///
    /// When the store cannot be reached, or does not support it, which is the default.
    async fn absorb(
        &self,
        queue: &Name,
        id: &Name,
        totals: Option<&Totals>,
    ) -> Result<bool, BrokerError> {
        match self.inner() {
            Some(inner) => inner.absorb(queue, id, totals).await,
            None => Err(derived::unsupported("importing statistics")),
        }
    }
}

impl dyn Store {
    /// The store of type `S`: this one, or one that it [wraps](Store::inner). A store needs it where its own calls receive
    /// a broker of any kind, such as that of a [`Context`](crate::process::Context::broker).
    pub fn downcast_ref<S: Store>(&self) -> Option<&S> {
        let this: &dyn Any = self;
        this.downcast_ref().or_else(|| self.inner()?.downcast_ref())
    }
}
