//! The contents of a queue.

use std::cmp::Reverse;

use asynqueue_core::{
    broker::{BrokerError, Cursor, HourStats, Page, RunningTask, ServerInfo, TaskInfo},
    inspector::{Filter, Inspector, Listing, QueueInfo, QueueWait},
    task::{Name, TaskState},
};

use super::{
    history::{A_DAY, last_hours},
    suggestions::{most_used, suggested},
};

/// The tasks on a page.
const PAGE: usize = 50;

/// The maximum number of tasks that are scanned for sorting.
pub(in crate::web) const SORTED: usize = 2_000;

/// The maximum number of tasks that are scanned to count those that match.
pub(in crate::web) const COUNTED: usize = 10_000;

/// The maximum number of tasks whose headers are counted.
pub(in crate::web) const TALLIED: usize = 1_000;

/// The maximum number of tasks that are searched for the first match of a filter.
const SEARCHED: usize = 20_000;

/// The data for the page of a queue.
#[derive(Debug)]
pub(in crate::web) struct Contents {
    pub(in crate::web) info: QueueInfo,
    pub(in crate::web) state: TaskState,
    pub(in crate::web) listing: Listing,
    /// The order of the list. A list that is too long to sort has another one than requested.
    pub(in crate::web) order: Order,
    pub(in crate::web) servers: Vec<ServerInfo>,
    pub(in crate::web) wait: QueueWait,
    /// The attempts of the last 24 hours.
    pub(in crate::web) history: Vec<HourStats>,
}

/// The part of a queue to read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::web) struct Part {
    /// Default: the state that most needs attention.
    pub(in crate::web) state: Option<TaskState>,
    pub(in crate::web) filter: Filter,
    pub(in crate::web) order: Order,
    pub(in crate::web) after: Option<String>,
}

/// The sort order of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::web) enum Order {
    /// That of the queue, which a list of any length has.
    Queue,
    /// That of the queue, from its end.
    Last,
    Newest,
    Oldest,
    Attempts,
    Event,
}

impl Order {
    pub(in crate::web) const ALL: [Self; 6] = [
        Self::Queue,
        Self::Last,
        Self::Newest,
        Self::Oldest,
        Self::Attempts,
        Self::Event,
    ];

    /// The name in URLs.
    pub(in crate::web) fn name(self) -> &'static str {
        match self {
            Self::Queue => "",
            Self::Last => "last",
            Self::Newest => "newest",
            Self::Oldest => "oldest",
            Self::Attempts => "attempts",
            Self::Event => "event",
        }
    }

    pub(in crate::web) fn title(self, state: TaskState) -> &'static str {
        match (self, state) {
            (Self::Queue, TaskState::Pending) => "Next to run first",
            (Self::Queue, TaskState::Scheduled | TaskState::Retry) => "Next due first",
            (Self::Queue, TaskState::Active) => "Next to lose its lease first",
            (Self::Queue, TaskState::Completed) => "Kept longest first",
            (Self::Queue, TaskState::Archived) => "Last archived first",
            (Self::Queue, TaskState::Aggregating) => "By group",
            (Self::Queue, _) => "Queue order",
            (Self::Last, TaskState::Pending) => "Last to run first",
            (Self::Last, TaskState::Scheduled | TaskState::Retry) => "Last due first",
            (Self::Last, TaskState::Active) => "Last to lose its lease first",
            (Self::Last, TaskState::Completed) => "Kept shortest first",
            (Self::Last, TaskState::Archived) => "First archived first",
            (Self::Last, TaskState::Aggregating) => "By group, last first",
            (Self::Last, _) => "Queue order, from the end",
            (Self::Newest, _) => "Last enqueued first",
            (Self::Oldest, _) => "First enqueued first",
            (Self::Attempts, _) => "Most attempts first",
            (Self::Event, _) => "By event",
        }
    }

    pub(in crate::web) fn of(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|order| order.name() == name);
        found.ok_or_else(|| {
            let known = Self::ALL[1..].iter().map(|order| order.name());
            let known = known.collect::<Vec<_>>().join(", ");
            format!("unknown sort order `{name}`: expected one of {known}")
        })
    }

    /// The order in which a list that is too long to sort is shown: from the end where the tasks that come first are
    /// most likely. New tasks join waiting ones at the end, and finished ones at the start.
    fn unsorted(self, state: TaskState) -> Self {
        let newest_is_first = matches!(state, TaskState::Completed | TaskState::Archived);
        match self {
            Self::Last => Self::Last,
            Self::Newest if !newest_is_first => Self::Last,
            Self::Oldest if newest_is_first => Self::Last,
            _ => Self::Queue,
        }
    }

    fn sort(self, tasks: &mut [TaskInfo]) {
        let enqueued = |task: &TaskInfo| task.envelope.enqueued_at;
        match self {
            Self::Queue | Self::Last => {}
            Self::Newest => tasks.sort_by_key(|task| Reverse(enqueued(task))),
            Self::Oldest => tasks.sort_by_key(enqueued),
            Self::Attempts => tasks.sort_by_key(|task| Reverse(task.envelope.attempts)),
            Self::Event => tasks.sort_by(|a, b| a.envelope.event.cmp(&b.envelope.event)),
        }
    }
}

impl Contents {
    pub(in crate::web) async fn read(
        inspector: &Inspector,
        queue: &Name,
        part: Part,
        servers: impl Future<Output = Result<Vec<ServerInfo>, BrokerError>>,
    ) -> Result<Self, BrokerError> {
        let (info, servers, history) = tokio::try_join!(
            inspector.queue(queue),
            servers,
            last_hours(inspector, queue, A_DAY)
        )?;
        let state = part.state.unwrap_or_else(|| first_with_tasks(&info));
        // Read after the counts, so that the list is not older than they are.
        let (listing, order) = part.list(inspector, queue, state).await?;
        let pause = inspector.pause_of(queue, &info.stats).await?;
        let wait = QueueWait::new(queue, &info.stats, &servers, pause, inspector.now());
        Ok(Self {
            wait,
            info,
            state,
            listing,
            order,
            servers,
            history,
        })
    }

    /// Suggested terms of a filter.
    pub(in crate::web) fn terms(&self) -> Vec<String> {
        let tasks: Vec<_> = self
            .listing
            .tasks
            .iter()
            .map(|task| &*task.envelope)
            .collect();
        let events = self.servers.iter().flat_map(|server| &server.events);
        suggested(&tasks, events.map(|event| &**event))
    }

    /// The other queues that servers lease from, those of the most servers first.
    pub(in crate::web) fn other_queues(&self) -> Vec<&Name> {
        let queues = self.servers.iter().flat_map(|server| &server.queues);
        let names = queues.map(|(name, _)| name);
        most_used(
            names
                .filter(|name| **name != self.info.name)
                .map(|name| (name, 1)),
        )
    }
}

/// A running attempt, and the server that reports it.
pub(in crate::web) type Running<'a> = (&'a ServerInfo, &'a RunningTask);

/// The running attempt of an active task, as the server that holds its lease reports it. Another one that reports it has
/// lost the lease.
pub(in crate::web) fn running_on<'a>(
    servers: &'a [ServerInfo],
    info: &TaskInfo,
) -> Option<Running<'a>> {
    let (worker, task) = (&info.lease.as_ref()?.worker, info.envelope.task_ref());
    let server = servers.iter().find(|server| server.name == *worker)?;
    let mut running = server.running.iter();
    let running = running.find(|running| running.task == task)?;
    Some((server, running))
}

impl Part {
    /// A page, and its order.
    async fn list(
        self,
        inspector: &Inspector,
        queue: &Name,
        state: TaskState,
    ) -> Result<(Listing, Order), BrokerError> {
        let order = self.order.unsorted(state);
        let is_sorted = self.order != Order::Queue && self.order != Order::Last;
        if is_sorted && let Some(sorted) = self.sorted(inspector, queue, state).await? {
            return Ok((sorted, self.order));
        }
        let first = match order {
            Order::Last => Page::last(PAGE),
            _ => Page::first(PAGE),
        };
        let mut after = self.after.map(Cursor);
        let mut scanned = 0;
        loop {
            let page = first.clone().after(after.take());
            let mut listing = inspector.list(queue, state, &self.filter, page).await?;
            scanned += listing.scanned;
            // The first match may be behind thousands of other tasks.
            if !listing.tasks.is_empty() || listing.next.is_none() || scanned >= SEARCHED {
                listing.scanned = scanned;
                return Ok((listing, order));
            }
            after = listing.next.take();
        }
    }

    /// A page of all matching tasks, sorted. The cursor is the number of tasks to skip. `None` if the list is too long: a
    /// sorted part of it would not start with the task that comes first.
    async fn sorted(
        &self,
        inspector: &Inspector,
        queue: &Name,
        state: TaskState,
    ) -> Result<Option<Listing>, BrokerError> {
        // Something other than a number is a cursor of a list that was too long before.
        let after = self.after.as_ref();
        let from = after.and_then(|after| after.parse().ok()).unwrap_or(0);
        let mut all = Listing::default();
        loop {
            let page = Page::first(SORTED / 4).after(all.next.take());
            let part = inspector.list(queue, state, &self.filter, page).await?;
            all.scanned += part.scanned;
            all.tasks.extend(part.tasks);
            all.next = part.next;
            if all.next.is_none() {
                break;
            }
            if all.scanned >= SORTED {
                return Ok(None);
            }
        }
        self.order.sort(&mut all.tasks);
        let to = usize::saturating_add(from, PAGE);
        all.next = (all.tasks.len() > to).then(|| Cursor(to.to_string()));
        all.tasks = all.tasks.into_iter().skip(from).take(PAGE).collect();
        Ok(Some(all))
    }
}

/// The first state with tasks: failures before running tasks, running tasks before waiting ones.
fn first_with_tasks(info: &QueueInfo) -> TaskState {
    let order = [
        TaskState::Archived,
        TaskState::Retry,
        TaskState::Active,
        TaskState::Pending,
        TaskState::Scheduled,
        TaskState::Aggregating,
        TaskState::Completed,
    ];
    let mut with_tasks = order
        .into_iter()
        .filter(|state| info.stats.count(*state) > 0);
    with_tasks.next().unwrap_or(TaskState::Pending)
}
