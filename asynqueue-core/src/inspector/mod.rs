//! Looking into queues and changing what is in them, for people and the tools that they use.

mod action;
mod again;
mod bulk;
mod filter;
mod msgpack;
mod redact;
mod view;

use std::fmt;

use serde_json::Value;

use self::redact::MARKER;
pub use self::{
    action::{Action, ActionOutcome},
    again::AgainError,
    bulk::BulkProgress,
    filter::{Filter, InvalidFilter},
    view::Viewer,
};
use crate::{
    broker::{
        BrokerError, Cursor, GroupInfo, HourStats, Node, Page, QueueStats, ScheduleEntry,
        ScheduleEvent, ServerInfo, SharedBroker, Subscription, TaskInfo,
    },
    codec::Codec,
    task::{Envelope, InvalidTaskId, Name, TaskId, TaskRef, TaskState, Timestamp, UniqueKey},
};

/// Sees all that a broker keeps, and changes it on demand.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use asynqueue_core::{
///     broker::Page,
///     inspector::{Action, Inspector},
///     memory::MemoryBroker,
///     task::TaskState,
/// };
///
/// let inspector = Inspector::new(MemoryBroker::new()).acting_as("alice");
/// for queue in inspector.queues().await? {
///     println!("{}: {} wait, {} failed today", queue.name, queue.stats.count(TaskState::Pending), queue.today.failed);
/// }
/// let filter = "event=email:* error~timeout".parse()?;
/// let page = inspector.list(&"default".into(), TaskState::Archived, &filter, Page::default()).await?;
/// let tasks: Vec<_> = page.tasks.iter().map(|task| task.envelope.task_ref()).collect();
/// inspector.apply(&Action::Retry, &tasks).await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Inspector {
    broker: SharedBroker,
    viewer: Viewer,
    user: Option<String>,
}

/// How many tasks one call of [`Inspector::list`] looks at to find those that match.
const MAX_SCANNED: usize = 2_000;

/// How many calls of the broker one call of [`Inspector::list`] makes.
const MAX_CALLS: usize = 20;

/// How many tasks are read at a time.
const CHUNK: usize = 500;

/// One queue.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct QueueInfo {
    /// Its name.
    pub name: Name,
    /// How many tasks are in each state, how long the next has waited, and more.
    pub stats: QueueStats,
    /// What ended since midnight, UTC; see [`Inspector::history`] for other days and other midnights.
    pub today: HourStats,
    /// About how many bytes it takes, where the storage can tell.
    pub memory: Option<u64>,
    /// The hash slot that it is in, in a cluster.
    pub slot: Option<u16>,
}

impl QueueInfo {
    /// A queue with these figures, of which no more is known.
    pub fn new(name: Name, stats: QueueStats, today: HourStats) -> Self {
        Self {
            name,
            stats,
            today,
            memory: None,
            slot: None,
        }
    }
}

/// A part of a list, less what a filter leaves out.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Listing {
    /// The tasks that match.
    pub tasks: Vec<TaskInfo>,
    /// Where the next page goes on; `None` at the end. There may be more although this page is short or empty: a call looks
    /// at so many tasks and no more, whatever it finds.
    pub next: Option<Cursor>,
    /// How many tasks were looked at.
    pub scanned: usize,
}

impl Inspector {
    /// Looks into `broker`.
    pub fn new(broker: impl Into<SharedBroker>) -> Self {
        Self {
            broker: broker.into(),
            viewer: Viewer::default(),
            user: None,
        }
    }

    /// Names who acts, for the tasks that it changes to tell.
    #[must_use]
    pub fn acting_as(mut self, user: impl Into<String>) -> Self {
        self.user = Some(user.into());
        self
    }

    /// Also shows payloads and results in codec `C`.
    #[must_use]
    pub fn with_codec<C: Codec>(mut self) -> Self {
        self.viewer = self.viewer.with_codec::<C>();
        self
    }

    /// Hides the values of fields of these names, such as `password`, in payloads and results: at any depth, and whatever their
    /// case. Filters do not find them either. Errors and headers of tasks are shown as they are.
    ///
    /// ```
    /// # use asynqueue_core::{inspector::Inspector, memory::MemoryBroker};
    /// let inspector = Inspector::new(MemoryBroker::new()).redact(["password", "iban"]);
    /// ```
    #[must_use]
    pub fn redact(mut self, fields: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.viewer = self.viewer.redact(fields);
        self
    }

    /// The broker.
    pub fn broker(&self) -> &SharedBroker {
        &self.broker
    }

    /// All queues that have had a task, by name.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached, as with all that follow.
    pub async fn queues(&self) -> Result<Vec<QueueInfo>, BrokerError> {
        let names = self.broker.queues().await?;
        self.queues_of(&names).await
    }

    /// One queue; empty if it is not known.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    pub async fn queue(&self, name: &Name) -> Result<QueueInfo, BrokerError> {
        let mut found = self.queues_of(std::slice::from_ref(name)).await?;
        let missing = || BrokerError::Protocol("no answer for a queue".into());
        found.pop().ok_or_else(missing)
    }

    async fn queues_of(&self, names: &[Name]) -> Result<Vec<QueueInfo>, BrokerError> {
        let stats = self.broker.stats(names).await?;
        let memory = self.broker.memory(names).await?;
        let day = 24 * HourStats::MILLIS;
        let midnight = Timestamp::from_millis(self.broker.now().as_millis() / day * day);
        let history = self.broker.history(names, midnight).await?;
        let figures = names.iter().zip(stats).zip(memory).zip(history);
        let info =
            |(((name, stats), memory), history): (((&Name, _), _), Vec<HourStats>)| QueueInfo {
                name: name.clone(),
                stats,
                today: history
                    .iter()
                    .fold(HourStats::default(), |sum, hour| HourStats {
                        start: midnight,
                        succeeded: sum.succeeded + hour.succeeded,
                        failed: sum.failed + hour.failed,
                    }),
                memory,
                slot: self.broker.slot(name),
            };
        Ok(figures.map(info).collect())
    }

    /// How many attempts succeeded and failed in each hour of the last 90 days, oldest first.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    pub async fn history(&self, queue: &Name) -> Result<Vec<HourStats>, BrokerError> {
        let (queues, always) = (std::slice::from_ref(queue), Timestamp::default());
        let mut history = self.broker.history(queues, always).await?;
        Ok(history.pop().unwrap_or_default())
    }

    /// One task, if it is there.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    pub async fn task(&self, task: &TaskRef) -> Result<Option<TaskInfo>, BrokerError> {
        let mut found = self.broker.tasks(std::slice::from_ref(task)).await?;
        Ok(found.pop().flatten())
    }

    /// The tasks with this id, whichever queues they are in.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached, or it is no id that a task could have.
    pub async fn find(&self, id: &str) -> Result<Vec<TaskInfo>, FindError> {
        let id = TaskId::new(id)?;
        let queues = self.broker.queues().await?;
        let tasks = queues
            .into_iter()
            .map(|queue| TaskRef::new(queue, id.clone()));
        let found = self.broker.tasks(&tasks.collect::<Vec<_>>()).await?;
        Ok(found.into_iter().flatten().collect())
    }

    /// The tasks of a queue in one state that match a filter, a page at a time.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    pub async fn list(
        &self,
        queue: &Name,
        state: TaskState,
        filter: &Filter,
        page: Page,
    ) -> Result<Listing, BrokerError> {
        let mut listing = Listing {
            next: page.after,
            ..Listing::default()
        };
        for _ in 0..MAX_CALLS {
            // Not more than there is room for: what a page leaves out would be lost to the next.
            let room = page.limit.saturating_sub(listing.tasks.len());
            let part = Page {
                after: listing.next.take(),
                limit: room.min(CHUNK),
            };
            let found = self.broker.list(queue, state, part).await?;
            listing.scanned += found.tasks.len();
            listing.next = found.next;
            let now = self.broker.now();
            let matching = found.tasks.into_iter();
            listing
                .tasks
                .extend(matching.filter(|task| self.matches(filter, task, now)));
            // Half a page will do, rather than ever smaller parts for the rest.
            let is_full = listing.tasks.len() > page.limit / 2;
            if listing.next.is_none() || is_full || listing.scanned >= MAX_SCANNED {
                break;
            }
        }
        Ok(listing)
    }

    fn matches(&self, filter: &Filter, task: &TaskInfo, now: Timestamp) -> bool {
        filter.matches(task, now, || self.payload(task).to_string())
    }

    /// The payload of a task as JSON.
    pub fn payload(&self, task: &TaskInfo) -> Value {
        self.viewer
            .show(&task.envelope.codec, &task.envelope.payload)
    }

    /// The result of a task as JSON, if it has one.
    pub fn result(&self, task: &TaskInfo) -> Option<Value> {
        let result = task.result.as_ref()?;
        Some(self.viewer.show(&task.envelope.codec, result))
    }

    /// What no other task may hold while this one does. Where fields are [redacted](Self::redact) it is hidden if it was made of
    /// the payload, or it could be made of guesses too.
    pub fn unique_key<'a>(&self, task: &'a TaskInfo) -> Option<&'a str> {
        let lock = task.envelope.unique.as_ref()?;
        Some(match self.hides(&lock.key, &task.envelope) {
            true => MARKER,
            false => lock.key.as_str(),
        })
    }

    /// Whether a unique key tells of fields that are redacted.
    fn hides(&self, key: &UniqueKey, of: &Envelope) -> bool {
        self.viewer.redacts() && key.is_hash_of(&of.event)
    }

    /// Stops leasing from queues; what is leased goes on.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    pub async fn pause(&self, queues: &[Name]) -> Result<(), BrokerError> {
        self.broker.set_paused(queues, true).await
    }

    /// Resumes leasing from queues.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    pub async fn resume(&self, queues: &[Name]) -> Result<(), BrokerError> {
        self.broker.set_paused(queues, false).await
    }

    /// Deletes a queue: only if it has no tasks, unless `force` is set. Tells whether it is gone.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    pub async fn delete_queue(&self, queue: &Name, force: bool) -> Result<bool, BrokerError> {
        self.broker.delete_queue(queue, force).await
    }

    /// The groups of a queue whose tasks wait to become one: no more than `limit`, those that are due first first.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    pub async fn groups(&self, queue: &Name, limit: usize) -> Result<Vec<GroupInfo>, BrokerError> {
        self.broker.groups(queue, limit).await
    }

    /// The servers that are at work, with what each of them runs, and those that were [lost](ServerInfo::is_lost) in the
    /// last hour, with what they ran.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    pub async fn servers(&self) -> Result<Vec<ServerInfo>, BrokerError> {
        self.broker.servers().await
    }

    /// Makes a server [quiet](crate::server::ServerHandle::set_quiet), so that it leases nothing more and finishes what runs, or lets it
    /// lease again. The server learns it with its next report, within five seconds; [`ServerInfo::quiet`] says when
    /// it has. The request is kept until a later one takes its place or the server is gone. Returns whether the server is
    /// known. Servers of versions before this method ignore it.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    pub async fn set_server_quiet(&self, server: &Name, quiet: bool) -> Result<bool, BrokerError> {
        self.broker.request_quiet(server, quiet).await
    }

    /// The servers that the storage consists of, with their slots.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    pub async fn nodes(&self) -> Result<Vec<Node>, BrokerError> {
        self.broker.nodes().await
    }

    /// All subscribers, by event and name.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    pub async fn subscriptions(&self) -> Result<Vec<Subscription>, BrokerError> {
        self.broker.subscriptions().await
    }

    /// The schedule entries, by name.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    pub async fn schedules(&self) -> Result<Vec<ScheduleEntry>, BrokerError> {
        self.broker.schedules().await
    }

    /// What came of an entry's last ticks, newest first.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    pub async fn schedule_events(
        &self,
        name: &Name,
        limit: usize,
    ) -> Result<Vec<ScheduleEvent>, BrokerError> {
        self.broker.schedule_events(name, limit).await
    }
}

/// A task could not be looked for.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum FindError {
    /// It is no id.
    #[error(transparent)]
    InvalidId(#[from] InvalidTaskId),
    /// The broker did not answer.
    #[error(transparent)]
    Broker(#[from] BrokerError),
}

crate::debug_as_text!(FindError);

impl fmt::Debug for Inspector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inspector")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}
