//! A broker from a URL.

use asynqueue_core::{BrokerError, MemoryBroker, SharedBroker};

/// The broker that a URL names.
///
/// | URL | broker |
/// |---|---|
/// | `memory:` | a new one in this process's memory, gone with it |
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
///     "cannot connect to `http://…`: unknown scheme `http`, expected `memory:`"
/// );
/// # }
/// ```
pub async fn connect(url: &str) -> Result<SharedBroker, ConnectError> {
    match url.split_once(':') {
        Some(("memory", "")) => Ok(MemoryBroker::new().into()),
        Some(("memory", rest)) => Err(ConnectError::Memory {
            rest: rest.to_owned(),
        }),
        Some((scheme, _)) => Err(ConnectError::Scheme {
            scheme: scheme.to_owned(),
        }),
        None => Err(ConnectError::NoScheme),
    }
}

/// A URL that leads to no broker. The messages leave out all but the scheme, since the rest may have a password.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// There is no scheme.
    #[error(
        "the broker's URL has no scheme: write `memory:` for a broker in this process's memory"
    )]
    NoScheme,
    /// The scheme names no broker that this program is built with.
    #[error("cannot connect to `{scheme}://…`: unknown scheme `{scheme}`, expected `memory:`")]
    Scheme {
        /// The scheme.
        scheme: String,
    },
    /// A broker in memory has no address.
    #[error("`memory:{rest}` has an address, but a broker in memory has none: write `memory:`")]
    Memory {
        /// What follows the scheme.
        rest: String,
    },
    /// The broker does not answer.
    #[error(transparent)]
    Broker(#[from] BrokerError),
}
