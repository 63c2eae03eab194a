//! A broker from a URL.

use asynqueue_core::{
    broker::{BrokerError, SharedBroker},
    memory::MemoryBroker,
};

/// The broker that a URL names.
///
/// | URL | broker | feature |
/// |---|---|---|
/// | `memory:` | a new one in this process's memory, gone with it | |
/// | `redis://[user:password@]host[:6379][/db]` | one Redis | `redis` |
/// | `redis+sentinel://host[:26379],…[/db]?master=name` | the master that Sentinels name | `redis` |
/// | `redis+cluster://host[:6379],…` | a Redis Cluster | `redis` |
///
/// With `rediss` in place of `redis` these talk TLS.
///
/// # Errors
///
/// When the URL names no broker that this program is built with, or the broker does not answer.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// assert!(asynqueue::connect("memory:").await.is_ok());
///
/// let error = asynqueue::connect("http://localhost").await.expect_err("not a broker");
/// assert_eq!(
///     error.to_string(),
///     "cannot connect to `http://…`: unknown scheme `http`, expected `memory:` or `redis://…`"
/// );
/// # }
/// ```
pub async fn connect(url: &str) -> Result<SharedBroker, ConnectError> {
    match url.split_once(':') {
        Some(("memory", "")) => Ok(MemoryBroker::new().into()),
        Some(("memory", rest)) => Err(ConnectError::Memory {
            rest: rest.to_owned(),
        }),
        Some((scheme, _)) if scheme.starts_with("redis") => connect_redis(url, scheme).await,
        Some((scheme, _)) => Err(ConnectError::Scheme {
            scheme: scheme.to_owned(),
        }),
        None => Err(ConnectError::NoScheme),
    }
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

/// A URL that leads to no broker. The messages leave out what may be a password.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// There is no scheme.
    #[error(
        "the broker's URL has no scheme: write `memory:` for a broker in this process's memory, or `redis://host`"
    )]
    NoScheme,
    /// The scheme names no broker.
    #[error(
        "cannot connect to `{scheme}://…`: unknown scheme `{scheme}`, expected `memory:` or `redis://…`"
    )]
    Scheme {
        /// The scheme.
        scheme: String,
    },
    /// The scheme names a broker that this program is built without.
    #[error(
        "cannot connect to `{scheme}://…`: this program is built without it; turn on the feature `{feature}` of asynqueue"
    )]
    Feature {
        /// The scheme.
        scheme: String,
        /// What to turn on.
        feature: &'static str,
    },
    /// A broker in memory has no address.
    #[error("`memory:{rest}` has an address, but a broker in memory has none: write `memory:`")]
    Memory {
        /// What follows the scheme.
        rest: String,
    },
    /// Redis cannot be used.
    #[cfg(feature = "redis")]
    #[error(transparent)]
    Redis(#[from] asynqueue_redis::ConnectError),
    /// The broker does not answer.
    #[error(transparent)]
    Broker(#[from] BrokerError),
}

asynqueue_core::debug_as_text!(ConnectError);
