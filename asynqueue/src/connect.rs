//! Connecting to a broker by URL.

use asynqueue_core::{
    broker::{BrokerError, SharedBroker},
    memory::MemoryBroker,
};

/// Connects to the broker that a URL names.
///
/// | URL | broker | feature |
/// |---|---|---|
/// | `memory:` | a new broker in the memory of this process | |
/// | `sqlite://data/tasks.db`, `sqlite:///var/lib/tasks.db` | a file, which is created if it does not exist | `sqlite` |
/// | `sqlite::memory:` | a SQLite database in the memory of this process | `sqlite` |
/// | `postgres://[user:password@]host[:5432],…/database` | PostgreSQL | `postgres` |
/// | `redis://[user:password@]host[:6379][/db]` | one Redis | `redis` |
/// | `redis+sentinel://host[:26379],…[/db]?master=name` | the master that the Sentinels report | `redis` |
/// | `redis+cluster://host[:6379],…` | a Redis Cluster | `redis` |
///
/// With `rediss` instead of `redis` the connection uses TLS.
///
/// # Errors
///
/// If the URL does not name a broker that this program is built with, or the broker does not respond.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// assert!(asynqueue::connect("memory:").await.is_ok());
///
/// let error = asynqueue::connect("http://localhost").await.expect_err("not a broker");
/// assert_eq!(
///     error.to_string(),
///     "cannot connect to `http://…`: unknown scheme `http`, expected `memory:`, `sqlite://…`, `postgres://…` or `redis://…`"
/// );
/// # }
/// ```
pub async fn connect(url: &str) -> Result<SharedBroker, ConnectError> {
    match url.strip_prefix("memory:") {
        Some("") => return Ok(MemoryBroker::new().into()),
        Some(rest) => {
            return Err(ConnectError::Memory {
                rest: rest.to_owned(),
            });
        }
        None => {}
    }
    if url.starts_with("sqlite:") {
        return connect_sqlite(url).await;
    }
    match url.split_once("://") {
        Some((scheme, _)) if scheme.starts_with("redis") => connect_redis(url, scheme).await,
        Some(("postgres" | "postgresql", _)) => connect_postgres(url).await,
        Some((scheme, _)) if is_scheme(scheme) => Err(ConnectError::Scheme {
            scheme: scheme.to_owned(),
        }),
        _ => Err(ConnectError::NoScheme {
            example: with_scheme(url),
        }),
    }
}

/// Other text before `://` may be a part of a password.
fn is_scheme(text: &str) -> bool {
    !text.is_empty()
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
}

/// The URL that was probably meant. Shows only text that cannot contain a password.
fn with_scheme(url: &str) -> String {
    if url == "memory" {
        return "memory:".to_owned();
    }
    let is_file = [".db", ".sqlite", ".sqlite3"]
        .iter()
        .any(|end| url.ends_with(end));
    if is_file && !url.contains([':', '@']) {
        return format!("sqlite://{url}");
    }
    let is_port = |text: &str| text.starts_with(|c: char| c.is_ascii_digit());
    let host = match url.split_once(':') {
        // A scheme without its slashes. In `redis:6379`, it is a host.
        Some(("redis" | "rediss", host)) if !is_port(host) => host.trim_start_matches('/'),
        _ => url,
    };
    if host.split(',').all(is_host) {
        format!("redis://{host}")
    } else {
        "redis://host:6379".to_owned()
    }
}

/// Whether this is a host, possibly with a port and a database. A password after a colon is not a port.
fn is_host(text: &str) -> bool {
    let (place, db) = text.split_once('/').unwrap_or((text, ""));
    let (host, port) = match place.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port),
        _ => (place, "0"),
    };
    let in_brackets = host.strip_prefix('[').and_then(|ip| ip.strip_suffix(']'));
    let is_name = match in_brackets {
        Some(ip) => ip.parse::<std::net::Ipv6Addr>().is_ok(),
        None => host
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || ".-_".contains(c)),
    };
    let is_number = |text: &str| text.chars().all(|c| c.is_ascii_digit());
    !host.is_empty() && is_name && port.parse::<u16>().is_ok() && is_number(db)
}

#[cfg(feature = "redis")]
async fn connect_redis(url: &str, _scheme: &str) -> Result<SharedBroker, ConnectError> {
    let options =
        asynqueue_redis::RedisOptions::new(url).map_err(asynqueue_redis::ConnectError::Options)?;
    Ok(asynqueue_redis::RedisBroker::connect(options).await?.into())
}

#[cfg(not(feature = "redis"))]
async fn connect_redis(_url: &str, scheme: &str) -> Result<SharedBroker, ConnectError> {
    Err(ConnectError::Feature {
        scheme: scheme.to_owned(),
        feature: "redis",
    })
}

#[cfg(feature = "postgres")]
async fn connect_postgres(url: &str) -> Result<SharedBroker, ConnectError> {
    let options = asynqueue_postgres::PostgresOptions::new(url)
        .map_err(asynqueue_postgres::ConnectError::Options)?;
    let broker = asynqueue_postgres::PostgresBroker::connect(options).await?;
    Ok(broker.into())
}

#[cfg(not(feature = "postgres"))]
async fn connect_postgres(_url: &str) -> Result<SharedBroker, ConnectError> {
    Err(ConnectError::Feature {
        scheme: "postgres".to_owned(),
        feature: "postgres",
    })
}

#[cfg(feature = "sqlite")]
async fn connect_sqlite(url: &str) -> Result<SharedBroker, ConnectError> {
    let options = asynqueue_sqlite::SqliteOptions::new(url)
        .map_err(asynqueue_sqlite::ConnectError::Options)?;
    let broker = asynqueue_sqlite::SqliteBroker::connect(options).await?;
    Ok(broker.into())
}

#[cfg(not(feature = "sqlite"))]
async fn connect_sqlite(_url: &str) -> Result<SharedBroker, ConnectError> {
    Err(ConnectError::Feature {
        scheme: "sqlite".to_owned(),
        feature: "sqlite",
    })
}

/// Why a URL did not lead to a broker. The messages omit anything that may be a password.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The URL has no scheme.
    #[error("the broker URL has no scheme: write `{example}`")]
    NoScheme {
        /// The URL that was probably meant. It contains no user and no password.
        example: String,
    },
    /// The scheme is unknown.
    #[error(
        "cannot connect to `{scheme}://…`: unknown scheme `{scheme}`, expected `memory:`, `sqlite://…`, `postgres://…` or `redis://…`"
    )]
    Scheme {
        /// The unknown scheme.
        scheme: String,
    },
    /// The scheme is of a broker that this program is built without.
    #[error(
        "cannot connect to `{scheme}://…`: this program is built without that broker: enable the feature `{feature}` of asynqueue"
    )]
    Feature {
        /// The scheme of the URL.
        scheme: String,
        /// The feature of `asynqueue` to enable.
        feature: &'static str,
    },
    /// The URL of an in-memory broker has an address.
    #[error("`memory:{rest}` has an address: the in-memory broker has none, expected `memory:`")]
    Memory {
        /// The text after `memory:`.
        rest: String,
    },
    /// PostgreSQL could not be used.
    #[cfg(feature = "postgres")]
    #[error(transparent)]
    Postgres(#[from] asynqueue_postgres::ConnectError),
    /// Redis could not be used.
    #[cfg(feature = "redis")]
    #[error(transparent)]
    Redis(#[from] asynqueue_redis::ConnectError),
    /// The SQLite file could not be used.
    #[cfg(feature = "sqlite")]
    #[error(transparent)]
    Sqlite(#[from] asynqueue_sqlite::ConnectError),
    /// The broker is not responding.
    #[error(transparent)]
    Broker(#[from] BrokerError),
}

impl ConnectError {
    /// Whether the URL itself is invalid, so that another attempt with it fails too. Any other error may pass: a server
    /// starts, or its administrator corrects it.
    pub fn is_invalid_url(&self) -> bool {
        match self {
            Self::NoScheme { .. }
            | Self::Scheme { .. }
            | Self::Feature { .. }
            | Self::Memory { .. } => true,
            #[cfg(feature = "postgres")]
            Self::Postgres(error) => matches!(error, asynqueue_postgres::ConnectError::Options(_)),
            #[cfg(feature = "redis")]
            Self::Redis(error) => matches!(error, asynqueue_redis::ConnectError::Options(_)),
            #[cfg(feature = "sqlite")]
            Self::Sqlite(error) => matches!(error, asynqueue_sqlite::ConnectError::Options(_)),
            Self::Broker(_) => false,
        }
    }
}

asynqueue_core::debug_as_text!(ConnectError);
