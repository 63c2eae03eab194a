//! What is in a queue, as a page shows it.

use std::{cmp::Reverse, collections::BTreeSet};

use asynqueue_core::{
    broker::{BrokerError, Cursor, HourStats, Page, ServerInfo, TaskInfo},
    inspector::{Filter, Inspector, Listing, QueueInfo},
    task::{Name, TaskState},
};

use super::history::{A_DAY, last_hours};

/// How many tasks a page shows.
const PAGE: usize = 50;

/// How many tasks are looked at to sort them.
pub(in crate::web) const SORTED: usize = 2_000;

/// How many terms are suggested.
const TERMS: usize = 60;

/// All that a page needs to know of a queue.
#[derive(Debug)]
pub(in crate::web) struct Contents {
    pub(in crate::web) info: QueueInfo,
    pub(in crate::web) state: TaskState,
    pub(in crate::web) listing: Listing,
    pub(in crate::web) servers: Vec<ServerInfo>,
    /// What ended in the last day.
    pub(in crate::web) history: Vec<HourStats>,
}

/// Which part of a queue.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::web) struct Part {
    /// The state that needs a look first, without one.
    pub(in crate::web) state: Option<TaskState>,
    pub(in crate::web) filter: Filter,
    pub(in crate::web) order: Order,
    pub(in crate::web) after: Option<String>,
}

/// The order of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::web) enum Order {
    Queue,
    Newest,
    Oldest,
    Attempts,
    Event,
}

impl Order {
    pub(in crate::web) const ALL: [Self; 5] = [
        Self::Queue,
        Self::Newest,
        Self::Oldest,
        Self::Attempts,
        Self::Event,
    ];

    /// As addresses have it.
    pub(in crate::web) fn name(self) -> &'static str {
        match self {
            Self::Queue => "",
            Self::Newest => "newest",
            Self::Oldest => "oldest",
            Self::Attempts => "attempts",
            Self::Event => "event",
        }
    }

    pub(in crate::web) fn title(self) -> &'static str {
        match self {
            Self::Queue => "in the order of the queue",
            Self::Newest => "newest first",
            Self::Oldest => "oldest first",
            Self::Attempts => "most attempts first",
            Self::Event => "by event",
        }
    }

    pub(in crate::web) fn of(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|order| order.name() == name);
        found.ok_or_else(|| {
            let known = Self::ALL.map(Self::name).join(", ");
            format!("unknown order `{name}`: expected one of{known}")
        })
    }

    fn sort(self, tasks: &mut [TaskInfo]) {
        let enqueued = |task: &TaskInfo| task.envelope.enqueued_at;
        match self {
            Self::Queue => {}
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
        // After the figures, so that it is no older than they tell.
        let listing = part.list(inspector, queue, state).await?;
        Ok(Self {
            info,
            state,
            listing,
            servers,
            history,
        })
    }

    /// What may complete a filter: the events that servers know, and events and headers of the tasks that are shown.
    pub(in crate::web) fn terms(&self) -> Vec<String> {
        let tasks = &self.listing.tasks;
        let of_servers = self.servers.iter().flat_map(|server| &server.events);
        let of_tasks = tasks.iter().map(|task| &task.envelope.event);
        let events = of_servers.chain(of_tasks);
        let events = events.map(|event| format!("event={}", quoted(event)));
        let headers = tasks.iter().flat_map(|task| task.envelope.headers.iter());
        let headers = headers
            .filter(|(name, _)| *name != "traceparent")
            .map(|(name, value)| format!("header.{name}={}", quoted(value)));
        let known: BTreeSet<_> = events.chain(headers).collect();
        let always = ["id=", "payload~", "error~", "age>1h", "age<5m"];
        let always = always.into_iter().map(str::to_owned);
        always.chain(known.into_iter().take(TERMS)).collect()
    }

    /// The queues that servers take from, other than this one.
    pub(in crate::web) fn other_queues(&self) -> BTreeSet<&Name> {
        let queues = self.servers.iter().flat_map(|server| &server.queues);
        let names = queues.map(|(name, _)| name);
        names
            .filter(|name| **name != self.info.name)
            .take(TERMS)
            .collect()
    }
}

impl Part {
    async fn list(
        self,
        inspector: &Inspector,
        queue: &Name,
        state: TaskState,
    ) -> Result<Listing, BrokerError> {
        if self.order != Order::Queue {
            return self.sorted(inspector, queue, state).await;
        }
        let page = Page::first(PAGE).after(self.after.map(Cursor));
        inspector.list(queue, state, &self.filter, page).await
    }

    /// A part of the first tasks that match, sorted. It goes on after a number of tasks.
    async fn sorted(
        self,
        inspector: &Inspector,
        queue: &Name,
        state: TaskState,
    ) -> Result<Listing, BrokerError> {
        // What is no number comes from no link of ours.
        let from = self.after.and_then(|after| after.parse().ok()).unwrap_or(0);
        let mut all = Listing::default();
        loop {
            let page = Page::first(SORTED / 4).after(all.next.take());
            let part = inspector.list(queue, state, &self.filter, page).await?;
            all.scanned += part.scanned;
            all.tasks.extend(part.tasks);
            all.next = part.next;
            if all.next.is_none() || all.scanned >= SORTED {
                break;
            }
        }
        self.order.sort(&mut all.tasks);
        let to = usize::saturating_add(from, PAGE);
        all.next = (all.tasks.len() > to).then(|| Cursor(to.to_string()));
        all.tasks = all.tasks.into_iter().skip(from).take(PAGE).collect();
        Ok(all)
    }
}

/// A value as a filter takes it.
fn quoted(value: &str) -> String {
    if value.contains(|c: char| c.is_whitespace() || c == '"' || c == '\\') {
        let escaped = value.replace('\\', "\\\\").replace('"', "\\\"");
        format!("\"{escaped}\"")
    } else {
        value.to_owned()
    }
}

/// What needs a look first: failures, then what runs, then what waits.
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
