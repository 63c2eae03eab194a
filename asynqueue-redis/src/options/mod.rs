//! What a user says about Redis: where it is, and how to talk to it.

mod error;
mod pool;
mod tls;
mod url;

use std::{fmt, sync::Arc, time::Duration};

use asynqueue_core::{broker::Durability, task::Clock};

pub(crate) use self::tls::Tls;
pub use self::{error::OptionsError, pool::RedisPool};

/// Where Redis is, and how to talk to it: mostly a URL.
///
/// | URL | Redis |
/// |---|---|
/// | `redis://[user:password@]host[:6379][/db]` | one server |
/// | `rediss://…` | the same over TLS |
/// | `redis+sentinel://[user:password@]host[:26379],…[/db]?master=name` | the master that these Sentinels name |
/// | `redis+cluster://[user:password@]host[:6379],…` | the Cluster that these nodes are of |
///
/// `rediss+sentinel` and `rediss+cluster` are the same over TLS, which needs the feature `tls` (on by default). User, password and what else has special characters is
/// percent-encoded. Each option below can be given in the URL too, as in `?prefix=shop&response_timeout=5s`:
///
/// | in the URL | default | |
/// |---|---|---|
/// | `prefix` | `aq` | [what keys begin with](Self::prefix) |
/// | `pool_size` | 2 | [how many connections](Self::pool_size) |
/// | `connect_timeout` | 2 s | [for a connection](Self::connect_timeout) |
/// | `response_timeout` | 2 s | [for an answer](Self::response_timeout) |
/// | `retry_for` | 5 s | [for a call](Self::retry_for) |
/// | `durability` | `primary` | [what has to have a task](Self::durability): `primary`, `replicas=1`, `fsync` |
/// | `answer_bytes` | 4194304 | [bytes of tasks in an answer](Self::answer_bytes) |
/// | `ca`, `cert`, `key` | the system's, none, none | files in PEM: who signs servers; this client's certificate and key |
/// | `insecure_skip_verify` | `false` | `true` takes any server for the right one |
/// | `sentinel_user`, `sentinel_password` | none | for the Sentinels |
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
///     "the URL of Sentinels names no master: add `?master=name`, the name that they know it by"
/// );
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct RedisOptions {
    pub(crate) topology: Topology,
    /// Host and port of each server that is named.
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

/// How the servers stand to one another.
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

    /// What it is, in words.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Single => Self::SINGLE,
            Self::Sentinel { .. } => Self::SENTINEL,
            Self::Cluster => Self::CLUSTER,
        }
    }
}

/// Who asks.
#[derive(Clone, Default)]
pub(crate) struct Login {
    pub(crate) user: Option<String>,
    pub(crate) password: Option<String>,
}

impl RedisOptions {
    /// Reads a URL.
    ///
    /// # Errors
    ///
    /// When it is not one of those above. The error never shows user and password.
    pub fn new(url: &str) -> Result<Self, OptionsError> {
        url::read(url)
    }

    /// What the names of all keys begin with, so that several can share a Redis. Default `aq`.
    ///
    /// # Errors
    ///
    /// When it has braces, white space or control characters, or is empty.
    pub fn prefix(mut self, prefix: &str) -> Result<Self, OptionsError> {
        let is_bad = |c: char| matches!(c, '{' | '}') || c.is_whitespace() || c.is_control();
        if prefix.is_empty() || prefix.contains(is_bad) {
            return Err(OptionsError::Prefix(prefix.to_owned()));
        }
        self.prefix = prefix.to_owned();
        Ok(self)
    }

    /// How many connections to hold for calls, at least 1; in a Cluster, to each master. Each carries any number of calls at a time. One more, for
    /// notifications, is made once it is needed. Default 2.
    pub fn pool_size(mut self, size: usize) -> Self {
        self.pool_size = size.max(1);
        self
    }

    /// How long it may take to connect. Default 2 s.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long an answer may take; then the connection counts as lost. Default 2 s.
    pub fn response_timeout(mut self, timeout: Duration) -> Self {
        self.response_timeout = timeout;
        self
    }

    /// How long a call is tried again while Redis cannot be reached or is busy with a failover, before it fails. No caller waits
    /// longer, unless this is less than the [time for an answer](Self::response_timeout), which each call has. A call
    /// that is sent again changes nothing twice. Default 5 s.
    pub fn retry_for(mut self, time: Duration) -> Self {
        self.retry_for = time;
        self
    }

    /// How many bytes of tasks Redis puts into one answer at most, as when it leases them or looks them up. A task that is
    /// larger comes alone. What does not fit comes in the next answer. After an answer that did not arrive within the
    /// [response time-out](Self::response_timeout), fewer are leased at a time, and more again later. Default 4 MiB, at
    /// least 1.
    pub fn answer_bytes(mut self, bytes: usize) -> Self {
        self.answer_bytes = bytes.max(1);
        self
    }

    /// What has to have new tasks, ticks of schedules and outcomes before they count: the server that answers, replicas as well
    /// (by `WAIT`), or its disk (by `WAITAOF`, from Redis 7.2 on with `appendonly yes`). They have `response_timeout` for that; then
    /// the call fails with [`BrokerError::NotDurable`](asynqueue_core::broker::BrokerError::NotDurable), and a server records the outcome
    /// again until it succeeds. A [single call](asynqueue_core::producer::Enqueue::durability) can ask for another. Default
    /// [`Durability::Primary`].
    ///
    /// Such calls go by connections of their own, up to eight to the server, or to each of a Cluster; also with a
    /// [pool](Self::pool) of yours.
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// Takes connections for calls from a pool of your own, [`pool_size`](Self::pool_size) of them, which the broker holds for as
    /// long as it lives: the pool's `max_size` has to be as large as what all that share it need. The rest of the options still
    /// counts: notifications come by a connection to the URL, since those of a pool can't subscribe, so the URL has to name the
    /// same server and database.
    pub fn pool(mut self, pool: impl Into<RedisPool>) -> Self {
        self.pool = Some(pool.into());
        self
    }

    /// Takes the time from `clock` rather than from Redis: for tests.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Some(Arc::new(clock));
        self
    }

    /// Where Redis is, without what is secret.
    pub(crate) fn address(&self) -> String {
        let nodes: Vec<_> = self
            .nodes
            .iter()
            .map(|(host, port)| format!("{host}:{port}"))
            .collect();
        match &self.topology {
            Topology::Single => nodes.join(","),
            Topology::Sentinel { master, .. } => {
                format!("master `{master}` of Sentinels {}", nodes.join(","))
            }
            Topology::Cluster => format!("Cluster {}", nodes.join(",")),
        }
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
