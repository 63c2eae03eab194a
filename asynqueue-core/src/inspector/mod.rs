//! Inspecting and changing queues, for people and the tools that they use.

mod action;
mod actor;
mod again;
mod audit;
mod bulk;
mod count;
mod events;
mod failures;
mod filter;
mod headers;
mod kind;
mod meant;
mod msgpack;
mod pauses;
mod queues;
mod redact;
mod schedules;
mod search;
mod tasks;
mod view;
mod why;

use std::fmt;

pub(crate) use self::audit::{record, starts_with};
pub use self::{
    action::{Action, ActionOutcome},
    actor::Actor,
    again::AgainError,
    audit::{
        AuditBulk, AuditCursor, AuditEdit, AuditEntry, AuditPage, AuditQuery, AuditTarget,
        InvalidAuditCursor,
    },
    bulk::BulkProgress,
    count::Matching,
    events::Course,
    filter::{Filter, InvalidFilter},
    headers::{HeaderUse, HeaderUses},
    kind::{ActionKind, ActionTarget, UnknownAction},
    queues::{QueueError, QueueInfo},
    search::Searched,
    tasks::{FindError, Listing},
    view::Viewer,
    why::{Cause, Delay, Estimate, QueueWait, Taker, TakerState, TaskWait, Turn},
};
use crate::{
    broker::{
        BrokerError, Capabilities, Node, OutboxAction, OutboxInfo, ServerInfo, SharedBroker,
        Subscription,
    },
    codec::Codec,
    task::{Name, Timestamp},
};

/// Reads everything that a broker stores, and changes it on request.
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
    actor: Option<Actor>,
}

impl Inspector {
    /// An inspector for `broker`.
    pub fn new(broker: impl Into<SharedBroker>) -> Self {
        Self {
            broker: broker.into(),
            viewer: Viewer::default(),
            actor: None,
        }
    }

    /// Sets who acts. It is recorded with every [change](Self::audit), in the tasks that it archives, and with the queues
    /// and schedule entries that it pauses.
    #[must_use]
    pub fn acting_as(mut self, actor: impl Into<Actor>) -> Self {
        self.actor = Some(actor.into());
        self
    }

    /// Who acts, if that was [set](Self::acting_as).
    pub fn actor(&self) -> Option<&Actor> {
        self.actor.as_ref()
    }

    /// Adds support for payloads and results in codec `C`.
    #[must_use]
    pub fn with_codec<C: Codec>(mut self) -> Self {
        self.viewer = self.viewer.with_codec::<C>();
        self
    }

    /// Hides the values of fields with these names, such as `password`, in payloads and results, at any depth and
    /// ignoring case. Filters do not find them either. Errors and headers of tasks are not changed.
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

    /// The optional features that the broker offers.
    pub fn capabilities(&self) -> Capabilities {
        self.broker.capabilities()
    }

    /// Whether the broker responds.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    pub async fn ping(&self) -> Result<(), BrokerError> {
        self.broker.ping().await
    }

    /// The time by the broker's clock, which all stored times refer to.
    pub fn now(&self) -> Timestamp {
        self.broker.now()
    }

    /// The running servers with their running tasks, and servers [lost](ServerInfo::is_lost) in the last hour with the
    /// tasks they ran last.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    pub async fn servers(&self) -> Result<Vec<ServerInfo>, BrokerError> {
        self.broker.servers().await
    }

    /// Makes a server [quiet](crate::server::ServerHandle::set_quiet), so that it finishes its tasks and leases no
    /// more, or resumes it. The server reads the request with its next report, within five seconds; then
    /// [`ServerInfo::quiet`] changes. The request is kept until a later one replaces it or the server leaves. Returns
    /// whether the server is known. Servers of versions without this method ignore it.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    pub async fn set_server_quiet(&self, server: &Name, quiet: bool) -> Result<bool, BrokerError> {
        let is_known = self.broker.request_quiet(server, quiet).await?;
        if is_known {
            let kind = if quiet {
                ActionKind::Quiet
            } else {
                ActionKind::Resume
            };
            let on = AuditTarget::Server(server.clone());
            self.record([AuditEntry::new(kind, on)]).await;
        }
        Ok(is_known)
    }

    /// Records changes that were made.
    async fn record(&self, entries: impl IntoIterator<Item = AuditEntry>) {
        record(&self.broker, self.actor(), entries).await;
    }

    /// The outboxes that relays have reported within the last week, with their failed entries.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    pub async fn outboxes(&self) -> Result<Vec<OutboxInfo>, BrokerError> {
        self.broker.outboxes().await
    }

    /// Requests that the relay of an outbox retry or delete failed entries. It follows with its next report, within five
    /// seconds. Returns whether the outbox is known.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    pub async fn change_outbox(
        &self,
        outbox: &Name,
        actions: Vec<OutboxAction>,
    ) -> Result<bool, BrokerError> {
        let words = words_of(&actions);
        let is_known = self.broker.request_outbox(outbox, actions).await?;
        if is_known && let Some((kind, words)) = words {
            let on = AuditTarget::Outbox(outbox.clone());
            let entry = AuditEntry::new(kind, on).with_details(words);
            self.record([entry]).await;
        }
        Ok(is_known)
    }

    /// The servers of the storage, such as the nodes of a Redis Cluster.
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
}

/// The kind of the first of these actions, and all of them in words. `None` if there are none.
fn words_of(actions: &[OutboxAction]) -> Option<(ActionKind, String)> {
    let kind = match actions.first()? {
        OutboxAction::RetryAll | OutboxAction::Retry(_) => ActionKind::Retry,
        OutboxAction::Delete(_) => ActionKind::Delete,
    };
    let words = actions.iter().map(|action| match action {
        OutboxAction::RetryAll => "retry all failed entries".to_owned(),
        OutboxAction::Retry(place) => format!("retry entry {place}"),
        OutboxAction::Delete(place) => format!("delete entry {place}"),
    });
    Some((kind, words.collect::<Vec<_>>().join(", ")))
}

impl fmt::Debug for Inspector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inspector")
            .field("actor", &self.actor)
            .field("viewer", &self.viewer)
            .finish_non_exhaustive()
    }
}
