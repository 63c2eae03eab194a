//! Connections, opened and driven on the thread that no handler can block.

use std::{future::Future, pin::Pin};

use asynqueue_core::broker::kit::io;
use deadpool_postgres::{
    ClientWrapper, Connect, Hook, HookError, Manager, ManagerConfig, Metrics, Pool, RecyclingMethod,
};
use tokio::task::JoinHandle;
use tokio_postgres::{Client, Config, Error};

use super::{isolation::Isolation, tls::Tls};
use crate::PostgresOptions;

struct OnIoThread(Tls, Isolation);

type Connecting<'a> =
    Pin<Box<dyn Future<Output = Result<(Client, JoinHandle<()>), Error>> + Send + 'a>>;

impl Connect for OnIoThread {
    fn connect(&self, config: &Config) -> Connecting<'_> {
        let (config, tls, isolation) = (config.clone(), self.0.clone(), self.1.clone());
        Box::pin(async move {
            let connecting = async move {
                let (client, connection) = tls.connect(&config, None).await?;
                let connection = tokio::spawn(connection);
                isolation.note(&client).await?;
                Ok((client, connection))
            };
            match io::run(connecting).await {
                Ok(connected) => connected,
                // The process ends.
                Err(_) => std::future::pending().await,
            }
        })
    }
}

/// Drops a connection that was closed while it was idle. The pool does so too, but logs a warning about each, although
/// no call has failed.
fn drop_closed(client: &mut ClientWrapper, _: &Metrics) -> Result<(), HookError> {
    match client.is_closed() {
        true => Err(HookError::message("the connection was closed")),
        false => Ok(()),
    }
}

/// The connections for calls.
pub(super) fn open(options: &PostgresOptions, tls: Tls, isolation: Isolation) -> Pool {
    let config = ManagerConfig {
        recycling_method: RecyclingMethod::Fast,
    };
    let manager = Manager::from_connect(options.config.clone(), OnIoThread(tls, isolation), config);
    let pool = Pool::builder(manager)
        .max_size(options.pool_size)
        .pre_recycle(Hook::sync_fn(drop_closed))
        .runtime(deadpool_postgres::Runtime::Tokio1)
        .wait_timeout(Some(options.response_timeout))
        .create_timeout(Some(options.time_to_connect()))
        .build();
    pool.expect("a pool with timeouts has a runtime")
}
