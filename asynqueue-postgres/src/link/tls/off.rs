//! Replaces TLS if the feature `tls` is off: connections are not encrypted.

use std::io;

use futures_util::future::BoxFuture;
use tokio_postgres::{CancelToken, Client, Config, Error, NoTls};

use super::drive::{Hear, drive};
use crate::options::TlsOptions;

/// How to connect.
#[derive(Clone)]
pub(crate) struct Tls;

impl Tls {
    pub(crate) fn new(_: &TlsOptions) -> io::Result<Self> {
        Ok(Self)
    }

    /// Opens a connection. The future drives it.
    pub(crate) async fn connect(
        &self,
        config: &Config,
        hear: Hear,
    ) -> Result<(Client, BoxFuture<'static, ()>), Error> {
        let (client, connection) = config.connect(NoTls).await?;
        Ok((client, Box::pin(drive(connection, hear))))
    }

    /// Cancels what a connection does.
    pub(crate) async fn cancel(&self, token: CancelToken) -> Result<(), Error> {
        token.cancel_query(NoTls).await
    }
}
