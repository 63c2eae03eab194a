//! Settings from a file and the environment.

mod apply;
mod document;
mod environment;
mod error;
mod load;
mod password;
mod sections;
mod text;
mod values;

use std::{collections::BTreeMap, fmt, time::Duration};

use serde::Deserialize;

pub use self::{
    error::ConfigError,
    password::Password,
    sections::{Account, AccountRole, Metrics, Monitoring, Scheduling},
};
use crate::{process::OnDecodeError, task::Name};

/// The settings of a program that runs tasks: the broker, the server, and what runs beside it.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use asynqueue_core::{config::Config, memory::MemoryBroker, server::Server};
/// # use asynqueue_core::process::{Context, Payload, TaskError};
/// # #[derive(serde::Serialize, serde::Deserialize, asynqueue_macros::Task)]
/// # #[task(event = "email:welcome", crate = asynqueue_core)]
/// # struct WelcomeEmail;
/// # async fn send_welcome(_: Payload<WelcomeEmail>, _: Context) -> Result<(), TaskError> { Ok(()) }
///
/// let config = Config::from_toml(
///     r#"
///     addr = "memory:"
///     concurrency = 64
///     shutdown_timeout = "1m30s"
///
///     [queue]
///     critical = 6
///     default = 3
///
///     [queue_concurrency]
///     critical = 8
///     "#,
/// )?;
///
/// // With the `asynqueue` crate, `App::from_config(&config)` connects to the broker and runs everything that is set.
/// let broker = MemoryBroker::new();
/// let server = Server::builder(broker).config(&config).process(send_welcome).start().await?;
/// server.shutdown().await?;
/// # Ok(()) }
/// ```
///
/// A setting that is left out keeps its default; only `addr` is required. Unknown keys and invalid values are errors
/// that name the key and its place. Durations are text such as `"250ms"`, `"30s"` or `"1h30m"`, with the units `ms`,
/// `s`, `m`, `h`, `d` and `w`, as in `#[task(…)]`.
///
/// It can be part of your own settings: it implements [`Deserialize`], nested or with `#[serde(flatten)]`. Then call
/// [`with_environment`](Self::with_environment) on it.
#[derive(Clone, Default, PartialEq, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "a table of settings, or an object in JSON"
)]
#[non_exhaustive]
pub struct Config {
    /// The broker's URL. Required. It may contain a password, so the `Debug` output omits it.
    #[serde(deserialize_with = "values::text")]
    pub addr: String,
    /// The server's name, unique among all servers of the broker:
    /// [`ServerBuilder::name`](crate::server::ServerBuilder::name).
    #[serde(deserialize_with = "values::name")]
    pub server_name: Option<String>,
    /// How many tasks run concurrently: [`ServerBuilder::concurrency`](crate::server::ServerBuilder::concurrency).
    #[serde(deserialize_with = "values::concurrency")]
    pub concurrency: Option<usize>,
    /// The queues to lease from, each with its weight: [`ServerBuilder::queue`](crate::server::ServerBuilder::queue).
    #[serde(deserialize_with = "values::counts")]
    pub queue: BTreeMap<Name, u32>,
    /// Whether a queue waits until all queues of a higher weight are empty:
    /// [`ServerBuilder::strict_priority`](crate::server::ServerBuilder::strict_priority).
    #[serde(deserialize_with = "values::flag")]
    pub strict_priority: Option<bool>,
    /// How many tasks of a queue run concurrently:
    /// [`ServerBuilder::queue_concurrency`](crate::server::ServerBuilder::queue_concurrency).
    #[serde(deserialize_with = "values::counts")]
    pub queue_concurrency: BTreeMap<Name, usize>,
    /// How long a task stays leased after its server's last heartbeat:
    /// [`ServerBuilder::lease`](crate::server::ServerBuilder::lease).
    #[serde(deserialize_with = "values::lease")]
    pub lease: Option<Duration>,
    /// How often to poll for tasks while the broker sends no signals:
    /// [`ServerBuilder::poll_interval`](crate::server::ServerBuilder::poll_interval).
    #[serde(deserialize_with = "values::interval")]
    pub poll_interval: Option<Duration>,
    /// How long a shutdown waits for running tasks:
    /// [`ServerBuilder::shutdown_timeout`](crate::server::ServerBuilder::shutdown_timeout). `"0s"` does not wait.
    #[serde(deserialize_with = "values::duration")]
    pub shutdown_timeout: Option<Duration>,
    /// How long a cancelled handler may take to stop by itself:
    /// [`ServerBuilder::cancel_grace`](crate::server::ServerBuilder::cancel_grace). `"0s"` drops it immediately.
    #[serde(deserialize_with = "values::duration")]
    pub cancel_grace: Option<Duration>,
    /// The maximum size of an encoded result, in bytes:
    /// [`ServerBuilder::max_result`](crate::server::ServerBuilder::max_result).
    #[serde(deserialize_with = "values::count")]
    pub max_result: Option<usize>,
    /// How many handlers may still run after their worker slot was freed:
    /// [`ServerBuilder::max_abandoned`](crate::server::ServerBuilder::max_abandoned).
    #[serde(deserialize_with = "values::count_or_zero")]
    pub max_abandoned: Option<usize>,
    /// How many archived tasks of a queue are kept: [`Keep::archived_max`](crate::broker::Keep::archived_max).
    #[serde(deserialize_with = "values::count_or_zero")]
    pub archived_max: Option<usize>,
    /// How long archived tasks are kept: [`Keep::archived_for`](crate::broker::Keep::archived_for).
    #[serde(deserialize_with = "values::duration")]
    pub archived_for: Option<Duration>,
    /// Whether to log failed attempts and archived tasks: [`ServerBuilder::log_failures`](crate::server::ServerBuilder::log_failures).
    #[serde(deserialize_with = "values::flag")]
    pub log_failures: Option<bool>,
    /// How long tasks of an event without a handler are released before they are archived:
    /// [`ServerBuilder::unknown_event_grace`](crate::server::ServerBuilder::unknown_event_grace). `"0s"` archives them
    /// immediately.
    #[serde(deserialize_with = "values::duration")]
    pub unknown_event_grace: Option<Duration>,
    /// What happens to tasks with an undecodable payload, `"retry"` or `"archive"`:
    /// [`ServerBuilder::on_decode_error`](crate::server::ServerBuilder::on_decode_error).
    #[serde(deserialize_with = "values::on_decode_error")]
    pub on_decode_error: Option<OnDecodeError>,
    /// Settings of the scheduler.
    pub scheduler: Scheduling,
    /// Settings of the metrics and health endpoint.
    pub metrics: Metrics,
    /// Settings of the web monitor.
    pub monitoring: Monitoring,
}

impl Config {
    /// Settings with only the broker's URL.
    pub fn new(addr: impl Into<String>) -> Self {
        Self {
            addr: addr.into(),
            ..Self::default()
        }
    }

    /// These settings, completed by those of `other`.
    pub(crate) fn or(self, other: Self) -> Self {
        Self {
            addr: match self.addr.is_empty() {
                true => other.addr,
                false => self.addr,
            },
            server_name: self.server_name.or(other.server_name),
            concurrency: self.concurrency.or(other.concurrency),
            queue: sections::union(self.queue, other.queue),
            strict_priority: self.strict_priority.or(other.strict_priority),
            queue_concurrency: sections::union(self.queue_concurrency, other.queue_concurrency),
            lease: self.lease.or(other.lease),
            poll_interval: self.poll_interval.or(other.poll_interval),
            shutdown_timeout: self.shutdown_timeout.or(other.shutdown_timeout),
            cancel_grace: self.cancel_grace.or(other.cancel_grace),
            max_result: self.max_result.or(other.max_result),
            max_abandoned: self.max_abandoned.or(other.max_abandoned),
            archived_max: self.archived_max.or(other.archived_max),
            archived_for: self.archived_for.or(other.archived_for),
            log_failures: self.log_failures.or(other.log_failures),
            unknown_event_grace: self.unknown_event_grace.or(other.unknown_event_grace),
            on_decode_error: self.on_decode_error.or(other.on_decode_error),
            scheduler: self.scheduler.or(other.scheduler),
            metrics: self.metrics.or(other.metrics),
            monitoring: self.monitoring.or(other.monitoring),
        }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, _) = self.addr.split_once(':').unwrap_or_default();
        f.debug_struct("Config")
            .field("addr", &format_args!("{scheme}:…"))
            .field("server_name", &self.server_name)
            .field("concurrency", &self.concurrency)
            .field("queue", &self.queue)
            .field("strict_priority", &self.strict_priority)
            .field("queue_concurrency", &self.queue_concurrency)
            .field("lease", &self.lease)
            .field("poll_interval", &self.poll_interval)
            .field("shutdown_timeout", &self.shutdown_timeout)
            .field("cancel_grace", &self.cancel_grace)
            .field("max_result", &self.max_result)
            .field("max_abandoned", &self.max_abandoned)
            .field("archived_max", &self.archived_max)
            .field("archived_for", &self.archived_for)
            .field("log_failures", &self.log_failures)
            .field("unknown_event_grace", &self.unknown_event_grace)
            .field("on_decode_error", &self.on_decode_error)
            .field("scheduler", &self.scheduler)
            .field("metrics", &self.metrics)
            .field("monitoring", &self.monitoring)
            .finish()
    }
}
