//! Clients of a broker from a configuration.

use asynqueue_core::{config::Config, inspector::Inspector, producer::Producer};

use crate::{ConnectError, connect};

/// Makes a [`Producer`] or an [`Inspector`] for the broker of a [`Config`]. The prelude has it.
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
/// Each call connects anew. A program that needs several takes the first one's [broker](Producer::broker). What a configuration
/// says of a server and of what runs beside it is of no use here, and is left to [`App`](crate::App).
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
