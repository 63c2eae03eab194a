//! Opens connections.

use std::{convert::Infallible, time::Duration};

use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, IntoConnectionInfo, ProtocolVersion, PushInfo,
    RedisConnectionInfo, RedisError, RedisResult,
    cluster::{ClusterClient, ClusterClientBuilder},
    sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType},
};
use tokio::sync::Mutex;

use super::{connection::Connection, tls};
use crate::options::{OptionsError, RedisOptions, Topology};

/// The deployment to connect to.
pub(super) struct Target {
    options: RedisOptions,
    client: AnyClient,
}

enum AnyClient {
    Single(Client),
    /// Queries the Sentinels for each connection.
    Sentinel(Mutex<SentinelClient>),
    Cluster(ClusterClient),
}

/// How often redis-rs itself retries in a Cluster: enough to follow a slot that has moved.
const CLUSTER_RETRIES: u32 = 3;

impl Target {
    pub(super) fn new(options: &RedisOptions) -> Result<Self, OptionsError> {
        tls::prepare(options);
        let client =
            AnyClient::new(options).map_err(|error| OptionsError::Client(error.to_string()))?;
        Ok(Self {
            options: options.clone(),
            client,
        })
    }

    /// Opens a connection for calls.
    pub(super) async fn connect(&self) -> RedisResult<Connection> {
        let config = self.config();
        let connecting = async {
            Ok(match &self.client {
                AnyClient::Single(client) => Connection::Node(
                    client
                        .get_multiplexed_async_connection_with_config(&config)
                        .await?,
                ),
                AnyClient::Sentinel(client) => {
                    let client = client.lock().await.async_get_client().await?;
                    Connection::Node(
                        client
                            .get_multiplexed_async_connection_with_config(&config)
                            .await?,
                    )
                }
                AnyClient::Cluster(client) => {
                    Connection::Cluster(client.get_async_connection().await?)
                }
            })
        };
        self.in_time(connecting).await
    }

    /// Opens a connection for calls to one node of a Cluster.
    pub(super) async fn connect_to_node(&self, host: &str, port: u16) -> RedisResult<Connection> {
        let config = self.config();
        let client = single(&self.options, tls::address(&self.options, host, port))?;
        let connecting = async {
            let connecting = client.get_multiplexed_async_connection_with_config(&config);
            connecting.await.map(Connection::Node)
        };
        self.in_time(connecting).await
    }

    /// The nodes in the options.
    pub(super) fn nodes(&self) -> &[(String, u16)] {
        &self.options.nodes
    }

    /// Opens a connection for subscriptions. `on_push` receives what is published.
    pub(super) async fn connect_to_listen(
        &self,
        on_push: impl Fn(PushInfo) + Send + Sync + 'static,
    ) -> RedisResult<Connection> {
        let on_push = move |pushed| {
            on_push(pushed);
            Ok::<_, Infallible>(())
        };
        let config = self.config();
        let connecting = async {
            let client = match &self.client {
                AnyClient::Single(client) => client.clone(),
                AnyClient::Sentinel(client) => client.lock().await.async_get_client().await?,
                AnyClient::Cluster(_) => {
                    let builder = cluster(&self.options)?.use_protocol(ProtocolVersion::RESP3);
                    let client = builder.push_sender(on_push).build()?;
                    return Ok(Connection::Cluster(client.get_async_connection().await?));
                }
            };
            let info = client.get_connection_info().clone();
            let login = info
                .redis_settings()
                .clone()
                .set_protocol(ProtocolVersion::RESP3);
            let client = Client::open(info.set_redis_settings(login))?;
            let config = config.set_push_sender(on_push);
            Ok(Connection::Node(
                client
                    .get_multiplexed_async_connection_with_config(&config)
                    .await?,
            ))
        };
        self.in_time(connecting).await
    }

    fn config(&self) -> AsyncConnectionConfig {
        AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.options.connect_timeout))
            .set_response_timeout(Some(self.options.response_timeout))
    }

    /// How long a connection may take.
    pub(super) fn patience(&self) -> Duration {
        let hosts = u32::try_from(self.options.nodes.len()).unwrap_or(u32::MAX);
        self.options
            .connect_timeout
            .saturating_mul(hosts.saturating_add(1))
    }

    /// Sentinels and Cluster nodes are tried one after the other, each with redis-rs's own timeouts.
    async fn in_time<T>(&self, connecting: impl Future<Output = RedisResult<T>>) -> RedisResult<T> {
        let timeout = self.patience();
        match tokio::time::timeout(timeout, connecting).await {
            Ok(connected) => connected,
            Err(_) => Err(timed_out(timeout)),
        }
    }
}

fn timed_out(timeout: Duration) -> RedisError {
    let message = format!("no connection within {timeout:?} (`connect_timeout`)");
    std::io::Error::new(std::io::ErrorKind::TimedOut, message).into()
}

impl AnyClient {
    fn new(options: &RedisOptions) -> RedisResult<Self> {
        Ok(match &options.topology {
            Topology::Single => {
                let named = addresses(options).next();
                let usual = || ConnectionAddr::Tcp("127.0.0.1".into(), 6379);
                Self::Single(single(options, named.unwrap_or_else(usual))?)
            }
            Topology::Sentinel { .. } => Self::Sentinel(Mutex::new(sentinel(options)?)),
            Topology::Cluster => Self::Cluster(cluster(options)?.build()?),
        })
    }
}

fn addresses(options: &RedisOptions) -> impl Iterator<Item = ConnectionAddr> {
    let nodes = options.nodes.iter();
    nodes.map(|(host, port)| tls::address(options, host, *port))
}

fn login(options: &RedisOptions) -> RedisConnectionInfo {
    let mut login = RedisConnectionInfo::default().set_db(options.db);
    if let Some(user) = &options.login.user {
        login = login.set_username(user);
    }
    if let Some(password) = &options.login.password {
        login = login.set_password(password);
    }
    login
}

fn single(options: &RedisOptions, address: ConnectionAddr) -> RedisResult<Client> {
    let info = address
        .into_connection_info()?
        .set_redis_settings(login(options));
    tls::client(options, info)
}

fn sentinel(options: &RedisOptions) -> RedisResult<SentinelClient> {
    let Topology::Sentinel { master, login } = &options.topology else {
        unreachable!("called only for Sentinels");
    };
    let mut builder =
        SentinelClientBuilder::new(addresses(options), master, SentinelServerType::Master)?
            .set_client_to_redis_db(options.db);
    if let Some(user) = &options.login.user {
        builder = builder.set_client_to_redis_username(user);
    }
    if let Some(password) = &options.login.password {
        builder = builder.set_client_to_redis_password(password);
    }
    if let Some(user) = &login.user {
        builder = builder.set_client_to_sentinel_username(user);
    }
    if let Some(password) = &login.password {
        builder = builder.set_client_to_sentinel_password(password);
    }
    tls::sentinel(options, builder).build()
}

fn cluster(options: &RedisOptions) -> RedisResult<ClusterClientBuilder> {
    let nodes = addresses(options).map(IntoConnectionInfo::into_connection_info);
    let nodes = nodes.collect::<RedisResult<Vec<_>>>()?;
    let mut builder = ClusterClientBuilder::new(nodes)
        .connection_timeout(options.connect_timeout)
        .response_timeout(options.response_timeout)
        .retries(CLUSTER_RETRIES)
        .min_retry_wait(10)
        .max_retry_wait(200);
    if let Some(user) = &options.login.user {
        builder = builder.username(user);
    }
    if let Some(password) = &options.login.password {
        builder = builder.password(password);
    }
    Ok(tls::cluster(options, builder))
}
