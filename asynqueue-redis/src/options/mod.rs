//! Options of a connection to Redis.

mod error;
mod pool;
mod tls;
mod url;

use std::{fmt, sync::Arc, time::Duration};

use asynqueue_core::{broker::Durability, task::Clock};

pub(crate) use self::tls::Tls;
pub use self::{error::OptionsError, pool::RedisPool};

/// The address of Redis, and how to connect to it. Most programs set both in a URL.
///
/// | URL | Redis |
/// |---|---|
/// | `redis://[user:password@]host[:6379][/db]` | one server |
/// | `rediss://…` | the same over TLS |
/// | `redis+sentinel://[user:password@]host[:26379],…[/db]?master=name` | the master that these Sentinels monitor |
/// | `redis+cluster://[user:password@]host[:6379],…` | the Cluster that these nodes belong to |
///
/// `rediss+sentinel` and `rediss+cluster` are the same over TLS, which requires the feature `tls` (on by default).
/// Percent-encode special characters in the user, the password and other values. Each option below can also be set in the
/// URL, as in `?prefix=shop&response_timeout=5s`:
///
/// | parameter | default | meaning |
/// |---|---|---|
/// | `prefix` | `aq` | [prefix of all keys](Self::prefix) |
/// | `pool_size` | 2 | [number of connections](Self::pool_size) |
/// | `connect_timeout` | 2 s | [limit for connecting](Self::connect_timeout) |
/// | `response_timeout` | 2 s | [limit for one response](Self::response_timeout) |
/// | `retry_for` | 5 s | [limit for a call with its retries](Self::retry_for) |
/// | `durability` | `primary` | [what must hold a change before a call returns](Self::durability): `primary`, `replicas=1`, `fsync` |
/// | `answer_bytes` | 4194304 | [bytes of tasks in one response](Self::answer_bytes) |
/// | `ca`, `cert`, `key` | the system's, none, none | PEM files: the CA that signs the servers' certificates; the client certificate and its key |
/// | `insecure_skip_verify` | `false` | `true` accepts any server certificate |
/// | `sentinel_user`, `sentinel_password` | none | login at the Sentinels |
///
/// ```
/// use std::time::Duration;
///
/// use asynqueue_redis::RedisOptions;
///
/// # fn main() -> Result<(), asynqueue_redis::OptionsError> {
/// let options: RedisOptions = "redis+sentinel://a,b,c?master=shop".parse()?;
/// let options = options.prefix("shop")?.response_timeout(Duration::from_secs(5));
///
/// let error = "redis+sentinel://a,b,c".parse::<RedisOptions>().expect_err("no master");
/// assert_eq!(
///     error.to_string(),
///     "the Sentinel URL has no master: add `?master=name` with the master name that the Sentinels monitor"
/// );
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct RedisOptions {
    pub(crate) topology: Topology,
    /// Host and port of each server in the URL.
    pub(crate) nodes: Vec<(String, u16)>,
    pub(crate) tls: Option<Tls>,
    pub(crate) login: Login,
    pub(crate) db: i64,
    pub(crate) prefix: String,
    pub(crate) pool_size: usize,
    pub(crate) connect_timeout: Duration,
    pub(crate) response_timeout: Duration,
    pub(crate) retry_for: Duration,
    pub(crate) durability: Durability,
    pub(crate) answer_bytes: usize,
    pub(crate) pool: Option<RedisPool>,
    pub(crate) clock: Option<Arc<dyn Clock>>,
}

/// How the servers are organised.
#[derive(Clone, Debug)]
pub(crate) enum Topology {
    Single,
    Sentinel { master: String, login: Login },
    Cluster,
}

impl Topology {
    pub(crate) const SINGLE: &'static str = "one server";
    pub(crate) const SENTINEL: &'static str = "Sentinels";
    pub(crate) const CLUSTER: &'static str = "a Cluster";

    /// The kind of deployment, for messages.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Single => Self::SINGLE,
            Self::Sentinel { .. } => Self::SENTINEL,
            Self::Cluster => Self::CLUSTER,
        }
    }
}

/// A user and its password.
#[derive(Clone, Default)]
pub(crate) struct Login {
    pub(crate) user: Option<String>,
    pub(crate) password: Option<String>,
}

impl RedisOptions {
    /// Parses a URL.
    ///
    /// # Errors
    ///
    /// When the URL is invalid. The error never shows the user or the password.
    pub fn new(url: &str) -> Result<Self, OptionsError> {
        url::read(url)
    }

    /// Sets the prefix of all keys, so that several programs can share one Redis. Default `aq`.
    ///
    /// # Errors
    ///
    /// When the prefix is empty or contains braces, white space or control characters.
    pub fn prefix(mut self, prefix: &str) -> Result<Self, OptionsError> {
        let is_bad = |c: char| matches!(c, '{' | '}') || c.is_whitespace() || c.is_control();
        if prefix.is_empty() || prefix.contains(is_bad) {
            return Err(OptionsError::Prefix(prefix.to_owned()));
        }
        self.prefix = prefix.to_owned();
        Ok(self)
    }

    /// Sets the number of connections for calls, at least 1. In a Cluster this applies to each master. Each connection
    /// carries any number of concurrent calls. One more connection, for notifications, is opened when it is first
    /// needed. Default 2.
    pub fn pool_size(mut self, size: usize) -> Self {
        self.pool_size = size.max(1);
        self
    }

    /// Limits how long connecting may take. Default 2 s.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Limits how long Redis may take to respond. After that, the connection counts as lost. Default 2 s.
    pub fn response_timeout(mut self, timeout: Duration) -> Self {
        self.response_timeout = timeout;
        self
    }

    /// Limits how long a call is retried while Redis cannot be reached or fails over. After that, the call fails. No
    /// caller waits longer, unless this is less than the [response timeout](Self::response_timeout), which every call
    /// has. A call that is sent twice takes effect once. Default 5 s.
    pub fn retry_for(mut self, time: Duration) -> Self {
        self.retry_for = time;
        self
    }

    /// Limits the bytes of tasks in one response, for example when tasks are leased or listed. A larger task is
    /// returned alone. The remaining tasks follow in the next response. After a response that did not arrive within the
    /// [response timeout](Self::response_timeout), fewer tasks are leased at a time, and more again later. Default 4
    /// MiB, at least 1.
    pub fn answer_bytes(mut self, bytes: usize) -> Self {
        self.answer_bytes = bytes.max(1);
        self
    }

    /// Sets what must hold new tasks, ticks of schedules and outcomes before a call returns: the master, also replicas
    /// (`WAIT`), or its disk (`WAITAOF`, from Redis 7.2 with `appendonly yes`). Replicas and disk have
    /// `response_timeout` to confirm. Then the call fails with
    /// [`BrokerError::NotDurable`](asynqueue_core::broker::BrokerError::NotDurable), and a server records the outcome
    /// again until it succeeds. A [single call](asynqueue_core::producer::Enqueue::durability) can override it. Default
    /// [`Durability::Primary`].
    ///
    /// Calls that wait use separate connections, up to eight to each server, also with your own [pool](Self::pool).
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// Takes the connections for calls from your own pool. The broker keeps [`pool_size`](Self::pool_size) of them
    /// while it exists: set the `max_size` of the pool to the sum that all its users need. The other options still
    /// apply. Notifications use a separate connection to the URL because pooled connections cannot subscribe, so the
    /// URL must name the same server and database.
    pub fn pool(mut self, pool: impl Into<RedisPool>) -> Self {
        self.pool = Some(pool.into());
        self
    }

    /// Takes the time from `clock` instead of Redis, for tests.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Some(Arc::new(clock));
        self
    }

    /// The address without secrets.
    pub(crate) fn address(&self) -> String {
        let hosts = self.hosts();
        match &self.topology {
            Topology::Single => hosts,
            Topology::Sentinel { master, .. } => format!("master `{master}` of Sentinels {hosts}"),
            Topology::Cluster => format!("Cluster {hosts}"),
        }
    }

    /// Host and port of each server in the URL.
    pub(crate) fn hosts(&self) -> String {
        let nodes = self.nodes.iter();
        let nodes: Vec<_> = nodes.map(|(host, port)| format!("{host}:{port}")).collect();
        nodes.join(",")
    }
}

impl std::str::FromStr for RedisOptions {
    type Err = OptionsError;

    fn from_str(url: &str) -> Result<Self, OptionsError> {
        Self::new(url)
    }
}

impl fmt::Debug for RedisOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisOptions")
            .field("topology", &self.topology)
            .field("nodes", &self.nodes)
            .field("tls", &self.tls)
            .field("login", &self.login)
            .field("db", &self.db)
            .field("prefix", &self.prefix)
            .field("pool_size", &self.pool_size)
            .field("connect_timeout", &self.connect_timeout)
            .field("response_timeout", &self.response_timeout)
            .field("retry_for", &self.retry_for)
            .field("durability", &self.durability)
            .field("answer_bytes", &self.answer_bytes)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (&self.user, &self.password) {
            (None, None) => "none",
            _ => "<hidden>",
        })
    }
}
