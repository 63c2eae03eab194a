//! Settings from a file and the environment.

mod error;
mod load;
mod password;
mod values;

use std::{collections::BTreeMap, fmt, time::Duration};

use serde::Deserialize;

pub use self::{error::ConfigError, password::Password};
use crate::{process::OnDecodeError, server::ServerBuilder, task::Name};

/// What a program that runs tasks reads at its start: where the broker is and how the server works.
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
/// // With the `asynqueue` crate: `asynqueue::connect(&config.addr).await?`
/// let broker = MemoryBroker::new();
/// let server = Server::builder(broker).config(&config).process(send_welcome).start().await?;
/// server.shutdown().await?;
/// # Ok(()) }
/// ```
///
/// What is left out keeps the default of the [`ServerBuilder`]; only `addr` must be there. Keys that are not known, and
/// values that make no sense, are errors that name them. Durations are text such as `"250ms"`, `"30s"` or `"1h30m"`, in
/// the units `ms`, `s`, `m`, `h`, `d` and `w`, as in `#[task(…)]`.
///
/// It can be a part of your own settings too: it implements [`Deserialize`].
#[derive(Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Config {
    /// The broker's URL. It may have a password, and is left out of the `Debug` form.
    #[serde(deserialize_with = "values::text")]
    pub addr: String,
    /// How many tasks run at once: [`ServerBuilder::concurrency`].
    #[serde(default, deserialize_with = "values::count")]
    pub concurrency: Option<usize>,
    /// The queues to take from, each with its weight: [`ServerBuilder::queue`].
    #[serde(default, deserialize_with = "values::counts")]
    pub queue: BTreeMap<Name, u32>,
    /// Whether a queue has to wait until those of a higher weight are empty: [`ServerBuilder::strict_priority`].
    #[serde(default, deserialize_with = "values::flag")]
    pub strict_priority: bool,
    /// How many tasks of a queue run at once: [`ServerBuilder::queue_concurrency`].
    #[serde(default, deserialize_with = "values::counts")]
    pub queue_concurrency: BTreeMap<Name, usize>,
    /// How long a task stays with a server after its last heartbeat: [`ServerBuilder::lease`].
    #[serde(default, deserialize_with = "values::lease")]
    pub lease: Option<Duration>,
    /// How often to look for tasks while the broker gives no signals: [`ServerBuilder::poll_interval`].
    #[serde(default, deserialize_with = "values::interval")]
    pub poll_interval: Option<Duration>,
    /// How long to wait on shutdown for what runs: [`ServerBuilder::shutdown_timeout`]. `"0s"` does not wait.
    #[serde(default, deserialize_with = "values::duration")]
    pub shutdown_timeout: Option<Duration>,
    /// How long a cancelled task may take to stop by itself: [`ServerBuilder::cancel_grace`]. `"0s"` drops it at once.
    #[serde(default, deserialize_with = "values::duration")]
    pub cancel_grace: Option<Duration>,
    /// How large an encoded result may be, in bytes: [`ServerBuilder::max_result`].
    #[serde(default, deserialize_with = "values::count")]
    pub max_result: Option<usize>,
    /// Whether to log failed attempts and archived tasks: [`ServerBuilder::log_failures`].
    #[serde(default, deserialize_with = "values::some_flag")]
    pub log_failures: Option<bool>,
    /// For how long tasks are given back whose event the server does not handle: [`ServerBuilder::unknown_event_grace`].
    /// `"0s"` archives them at once.
    #[serde(default, deserialize_with = "values::duration")]
    pub unknown_event_grace: Option<Duration>,
    /// What happens to tasks whose payload cannot be decoded, `"retry"` or `"archive"`:
    /// [`ServerBuilder::on_decode_error`].
    #[serde(default, deserialize_with = "values::on_decode_error")]
    pub on_decode_error: Option<OnDecodeError>,
    /// The web monitor.
    #[serde(default)]
    pub monitoring: Monitoring,
}

/// How the web monitor is served.
///
/// A server serves no monitor by itself. So that nobody waits for one that never comes up, [`ServerBuilder::config`]
/// refuses a configuration that enables it. A program takes these settings out first, by
/// `std::mem::take(&mut config.monitoring)`, and passes them to `Monitor::serve_configured`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Monitoring {
    /// Whether to serve it. Default false.
    #[serde(deserialize_with = "values::flag")]
    pub enable: bool,
    /// Below which path. Default `/`.
    #[serde(deserialize_with = "values::path")]
    pub path: String,
    /// On which port. Default 8080.
    #[serde(deserialize_with = "values::port")]
    pub port: u16,
    /// Who may look at it. Default: anyone who can reach it.
    #[serde(deserialize_with = "values::some_text")]
    pub username: Option<String>,
    /// What they have to know.
    pub password: Option<Password>,
}

impl Default for Monitoring {
    fn default() -> Self {
        Self {
            enable: false,
            path: "/".into(),
            port: 8080,
            username: None,
            password: None,
        }
    }
}

impl Config {
    /// Settings with nothing but the broker's URL.
    pub fn new(addr: impl Into<String>) -> Self {
        Self {
            addr: addr.into(),
            concurrency: None,
            queue: BTreeMap::new(),
            strict_priority: false,
            queue_concurrency: BTreeMap::new(),
            lease: None,
            poll_interval: None,
            shutdown_timeout: None,
            cancel_grace: None,
            max_result: None,
            log_failures: None,
            unknown_event_grace: None,
            on_decode_error: None,
            monitoring: Monitoring::default(),
        }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, _) = self.addr.split_once(':').unwrap_or_default();
        f.debug_struct("Config")
            .field("addr", &format_args!("{scheme}:…"))
            .field("concurrency", &self.concurrency)
            .field("queue", &self.queue)
            .field("strict_priority", &self.strict_priority)
            .field("queue_concurrency", &self.queue_concurrency)
            .field("lease", &self.lease)
            .field("poll_interval", &self.poll_interval)
            .field("shutdown_timeout", &self.shutdown_timeout)
            .field("cancel_grace", &self.cancel_grace)
            .field("max_result", &self.max_result)
            .field("log_failures", &self.log_failures)
            .field("unknown_event_grace", &self.unknown_event_grace)
            .field("on_decode_error", &self.on_decode_error)
            .field("monitoring", &self.monitoring)
            .finish()
    }
}

impl ServerBuilder {
    /// Takes over all that `config` says of a server: everything but its `addr`, which is for whoever connects to the
    /// broker. What it leaves out stays as it is here.
    ///
    /// A configuration that enables the [monitor](Monitoring) makes [`build`](Self::build) fail, since a server does not serve
    /// it by itself.
    pub fn config(mut self, config: &Config) -> Self {
        for (queue, weight) in &config.queue {
            self = self.queue(queue, *weight);
        }
        for (queue, max) in &config.queue_concurrency {
            self = self.queue_concurrency(queue, *max);
        }
        if config.strict_priority {
            self = self.strict_priority();
        }
        if config.monitoring.enable {
            self = self.with_monitor();
        }
        self.set(config.concurrency, Self::concurrency)
            .set(config.lease, Self::lease)
            .set(config.poll_interval, Self::poll_interval)
            .set(config.shutdown_timeout, Self::shutdown_timeout)
            .set(config.cancel_grace, Self::cancel_grace)
            .set(config.max_result, Self::max_result)
            .set(config.log_failures, Self::log_failures)
            .set(config.unknown_event_grace, Self::unknown_event_grace)
            .set(config.on_decode_error, Self::on_decode_error)
    }

    fn set<V>(self, value: Option<V>, setter: impl FnOnce(Self, V) -> Self) -> Self {
        match value {
            Some(value) => setter(self, value),
            None => self,
        }
    }
}
