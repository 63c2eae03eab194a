//! Producers and inspectors from a configuration.

use asynqueue_core::{config::Config, inspector::Inspector, producer::Producer};

use crate::{ConnectError, connect};

/// Creates a [`Producer`] or an [`Inspector`] for the broker of a [`Config`]. Included in the prelude.
///
/// ```
/// use asynqueue::{Config, Producer, config::FromConfig};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let config = Config::new("memory:"); // or `Config::load(…)`
/// let producer = Producer::from_config(&config).await?;
/// # drop(producer);
/// # Ok(()) }
/// ```
///
/// Each call opens a new connection. To share one, use the [broker](Producer::broker) of the first. Settings of the
/// server and the parts beside it are ignored here; [`App`](crate::App) uses them.
#[expect(
    async_fn_in_trait,
    reason = "only types of these crates implement it, and their futures are Send"
)]
pub trait FromConfig: Sized + sealed::Sealed {
    /// Connects to the broker of a configuration.
    ///
    /// # Errors
    ///
    /// As [`connect`].
    async fn from_config(config: &Config) -> Result<Self, ConnectError>;
}

// The module has it too, but the pages of types of other crates take it from the item alone.
#[cfg(feature = "config")]
impl FromConfig for Producer {
    async fn from_config(config: &Config) -> Result<Self, ConnectError> {
        Ok(Self::new(connect(&config.addr).await?))
    }
}

#[cfg(feature = "config")]
impl FromConfig for Inspector {
    async fn from_config(config: &Config) -> Result<Self, ConnectError> {
        Ok(Self::new(connect(&config.addr).await?))
    }
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for asynqueue_core::producer::Producer {}
    impl Sealed for asynqueue_core::inspector::Inspector {}
}
