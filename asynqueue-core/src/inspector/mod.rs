//! Looking into queues and changing what is in them, for people and the tools that they use.

mod action;
mod again;
mod bulk;
mod filter;
mod kind;
mod msgpack;
mod queues;
mod redact;
mod schedules;
mod tasks;
mod view;

use std::fmt;

pub use self::{
    action::{Action, ActionOutcome},
    again::AgainError,
    bulk::BulkProgress,
    filter::{Filter, InvalidFilter},
    kind::{ActionKind, ActionTarget, UnknownAction},
    queues::QueueInfo,
    tasks::{FindError, Listing},
    view::Viewer,
};
use crate::{
    broker::{BrokerError, Capabilities, Node, ServerInfo, SharedBroker, Subscription},
    codec::Codec,
    task::{Name, Timestamp},
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

    /// What the broker offers.
    pub fn capabilities(&self) -> Capabilities {
        self.broker.capabilities()
    }

    /// The time by the broker's clock, which all that it keeps is dated by.
    pub fn now(&self) -> Timestamp {
        self.broker.now()
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

    /// The servers that the storage consists of.
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

impl fmt::Debug for Inspector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inspector")
            .field("user", &self.user)
            .field("viewer", &self.viewer)
            .finish_non_exhaustive()
    }
}
