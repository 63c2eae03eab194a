//! Options of a connection to PostgreSQL.

mod error;
mod tls;
mod url;

use std::{fmt, str::FromStr, sync::Arc, time::Duration};

use asynqueue_core::task::Clock;

pub use self::error::OptionsError;
pub(crate) use self::tls::{SslMode, TlsOptions};
use crate::{ConnectError, link::Tls};

/// The address of PostgreSQL 14 or later, and how to use it.
///
/// The URL is that of `libpq`, such as `postgres://user:password@host:5432/database`, with several hosts separated by
/// commas for a failover. Percent-encode special characters in the user and the password. Each option below can also be
/// set in the URL, as in `?schema=jobs&pool_size=8`:
///
/// | parameter | default | meaning |
/// |---|---|---|
/// | `schema` | `asynqueue` | [schema of all tables and functions](Self::schema) |
/// | `migrate` | `true` | [create and change the tables on connect](Self::migrate) |
/// | `pool_size` | 4 | [number of connections](Self::pool_size), and one more to listen |
/// | `listen` | this URL | [URL of the connection that listens](Self::listen), for a pooler in between |
/// | `response_timeout` | 10 s | [limit for one response](Self::response_timeout) |
/// | `retry_for` | 5 s | [limit for the retries of a call](Self::retry_for) |
/// | `connect_timeout` | 5 | seconds for connecting to one host |
/// | `sslmode` | `prefer` | `disable`, `prefer`, `require`, `verify-ca` or `verify-full`, as in `libpq` |
/// | `sslrootcert`, `sslcert`, `sslkey` | the system's, none, none | PEM files: the CA that signs the servers' certificates; the client certificate and its key |
/// | `target_session_attrs` | `any` | `read-write` finds the primary among several hosts |
/// | `application_name`, `options`, `keepalives`, … | | as in `libpq` |
///
/// ```
/// use asynqueue_postgres::PostgresOptions;
///
/// # fn main() -> Result<(), asynqueue_postgres::OptionsError> {
/// let options = PostgresOptions::new("postgres://shop@db/shop")?.schema("jobs")?;
/// let same: PostgresOptions = "postgres://shop@db/shop?schema=jobs".parse()?;
/// assert_eq!(format!("{options:?}"), format!("{same:?}"));
///
/// let error = PostgresOptions::new("postgres://shop@db/shop?shema=jobs").expect_err("a mistake");
/// assert!(error.to_string().starts_with("unknown parameter `shema`: expected `schema`"));
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct PostgresOptions {
    pub(crate) config: tokio_postgres::Config,
    /// For the connection that listens, if it is another one.
    pub(crate) listen: Option<Box<PostgresOptions>>,
    pub(crate) tls: TlsOptions,
    pub(crate) schema: String,
    pub(crate) migrate: bool,
    pub(crate) pool_size: usize,
    pub(crate) connect_timeout: Duration,
    pub(crate) response_timeout: Duration,
    pub(crate) retry_for: Duration,
    pub(crate) clock: Option<Arc<dyn Clock>>,
}

impl PostgresOptions {
    /// Parses a URL.
    ///
    /// # Errors
    ///
    /// When the URL is invalid. The error never shows the user or the password.
    pub fn new(url: &str) -> Result<Self, OptionsError> {
        url::read(url)
    }

    /// Sets the schema of all tables and functions, so that several programs can share one database. It is created if it
    /// does not exist. A role that owns only this schema is sufficient. Default `asynqueue`.
    ///
    /// # Errors
    ///
    /// When the name is empty, longer than 63 bytes or has a quote or a control character.
    pub fn schema(mut self, schema: &str) -> Result<Self, OptionsError> {
        let is_bad = |c: char| matches!(c, '"' | '\'' | '\\' | '$') || c.is_control();
        if schema.is_empty() || schema.len() > 63 || schema.contains(is_bad) {
            return Err(OptionsError::Value {
                name: "schema".into(),
                value: schema.into(),
                expected: "expected a name of up to 63 bytes without quotes, such as `asynqueue`"
                    .into(),
            });
        }
        self.schema = schema.to_owned();
        Ok(self)
    }

    /// Whether connecting creates the tables and brings them to the version of this library. Turn it off if another role
    /// does so by [`migrate`](crate::migrate). Default `true`.
    pub fn migrate(mut self, migrate: bool) -> Self {
        self.migrate = migrate;
        self
    }

    /// Sets the number of connections for calls, at least 1. A process that runs a server or waits for a result has one
    /// more, which listens. Default 4.
    pub fn pool_size(mut self, size: usize) -> Self {
        self.pool_size = size.max(1);
        self
    }

    /// Sets another URL for the connection that listens. Between the program and PostgreSQL, a pooler in transaction mode
    /// does not pass notifications on: name the server itself here. Without notifications, servers find tasks by polling.
    /// The connection has the TLS settings of this URL.
    ///
    /// # Errors
    ///
    /// When the URL is invalid, or has a parameter that is not about its connection, such as `schema`.
    pub fn listen(mut self, url: &str) -> Result<Self, OptionsError> {
        self.listen = Some(Box::new(url::read_listen(url)?));
        Ok(self)
    }

    /// Limits the time for one response. A call that takes longer fails, and its connection is closed. Default 10 s.
    pub fn response_timeout(mut self, timeout: Duration) -> Self {
        self.response_timeout = timeout;
        self
    }

    /// Limits how long a call is repeated while the server cannot be reached, or while transactions get into each other's
    /// way. Default 5 s.
    pub fn retry_for(mut self, time: Duration) -> Self {
        self.retry_for = time;
        self
    }

    /// Takes the time from `clock` instead of the server, for tests.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Some(Arc::new(clock));
        self
    }

    /// The name of the [schema](Self::schema).
    pub fn schema_name(&self) -> &str {
        &self.schema
    }

    /// The name of the database, for messages.
    pub(crate) fn database(&self) -> &str {
        self.config.get_dbname().unwrap_or("postgres")
    }

    /// The limit for connecting, which tries one host after the other.
    pub(crate) fn time_to_connect(&self) -> Duration {
        let hosts = u32::try_from(self.config.get_hosts().len()).unwrap_or(1);
        self.connect_timeout * hosts.max(1)
    }

    /// How to connect.
    pub(crate) fn tls(&self) -> Result<Tls, ConnectError> {
        Tls::new(&self.tls).map_err(|error| ConnectError::Server {
            server: self.server(),
            problem: format!("the certificates cannot be used: {error}"),
            source: Some(error.into()),
        })
    }

    /// The hosts and ports, for messages.
    pub(crate) fn server(&self) -> String {
        let (hosts, ports) = (self.config.get_hosts(), self.config.get_ports());
        let name = |(place, host): (usize, &tokio_postgres::config::Host)| {
            let port = ports.get(place).or(ports.first()).copied().unwrap_or(5432);
            match host {
                tokio_postgres::config::Host::Tcp(host) => format!("{host}:{port}"),
                #[cfg(unix)]
                tokio_postgres::config::Host::Unix(path) => format!("{}:{port}", path.display()),
            }
        };
        let names: Vec<_> = hosts.iter().enumerate().map(name).collect();
        names.join(",")
    }
}

impl FromStr for PostgresOptions {
    type Err = OptionsError;

    fn from_str(url: &str) -> Result<Self, OptionsError> {
        Self::new(url)
    }
}

impl fmt::Debug for PostgresOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresOptions")
            .field("server", &self.server())
            .field("database", &self.config.get_dbname())
            .field("schema", &self.schema)
            .field("migrate", &self.migrate)
            .field("pool_size", &self.pool_size)
            .field("response_timeout", &self.response_timeout)
            .field("retry_for", &self.retry_for)
            .finish_non_exhaustive()
    }
}
