//! Connections, and keeping them.
//!
//! A connection is taken from the pool once and kept as long as it works, because deadpool checks each connection that
//! it returns, which takes a round trip.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use deadpool::managed::{
    self, BuildError, Metrics, Object, Pool, PoolError, RecycleError, RecycleResult,
};
use futures_util::FutureExt;
use parking_lot::{Mutex, RwLock};
use redis::{
    Cmd, ErrorKind, RedisError, RedisResult, Value,
    aio::MultiplexedConnection,
    cluster_async::ClusterConnection,
    cluster_routing::{MultipleNodeRoutingInfo, RoutingInfo},
};

use super::{io, target::Target};
use crate::{
    meter,
    options::{OptionsError, RedisOptions, RedisPool},
};

/// A connection that any number of calls share.
#[derive(Clone)]
pub(super) enum Connection {
    Node(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Connection {
    pub(super) async fn send(&self, command: &Cmd) -> RedisResult<Value> {
        use redis::aio::ConnectionLike;
        let value = match self.clone() {
            Self::Node(mut node) => node.send_packed_command(command).await?,
            Self::Cluster(mut cluster) => cluster.req_packed_command(command).await?,
        };
        value.extract_error()
    }
}

/// Opens connections for a pool.
pub(super) struct Connector {
    target: Arc<Target>,
    /// The one node of a Cluster to connect to.
    node: Option<(String, u16)>,
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connector")
    }
}

impl managed::Manager for Connector {
    type Type = Connection;
    type Error = RedisError;

    async fn create(&self) -> Result<Connection, RedisError> {
        match &self.node {
            Some((host, port)) => self.target.connect_to_node(host, *port).await,
            None => self.target.connect().await,
        }
    }

    async fn recycle(&self, connection: &mut Connection, _: &Metrics) -> RecycleResult<RedisError> {
        connection
            .send(&redis::cmd("PING"))
            .await
            .map(drop)
            .map_err(RecycleError::Backend)
    }
}

/// The source of connections.
#[derive(Clone)]
pub(super) struct Source {
    pool: AnyPool,
    /// How long the pool may take. The program's own pool may have no free connection, and never get one.
    patience: Duration,
    /// How many connections the broker keeps while it exists.
    holds: usize,
}

#[derive(Clone)]
enum AnyPool {
    Own(Pool<Connector>),
    Users(RedisPool),
}

impl Source {
    pub(super) fn new(options: &RedisOptions, target: &Arc<Target>) -> Result<Self, OptionsError> {
        let Some(pool) = &options.pool else {
            let own = Self::own(target, None, options.pool_size);
            return own.map_err(|error| OptionsError::Client(error.to_string()));
        };
        pool.check(options)?;
        Ok(Self {
            pool: AnyPool::Users(pool.clone()),
            patience: options.connect_timeout.min(options.retry_for),
            holds: options.pool_size,
        })
    }

    /// Connections to one node of a Cluster.
    pub(super) fn of_node(
        target: &Arc<Target>,
        node: (String, u16),
        size: usize,
    ) -> RedisResult<Self> {
        let failed = |error: BuildError| {
            let text = error.to_string();
            RedisError::from((ErrorKind::Client, "the connection pool", text))
        };
        Self::own(target, Some(node), size).map_err(failed)
    }

    fn own(
        target: &Arc<Target>,
        node: Option<(String, u16)>,
        size: usize,
    ) -> Result<Self, BuildError> {
        let connector = Connector {
            target: Arc::clone(target),
            node,
        };
        Ok(Self {
            pool: AnyPool::Own(Pool::builder(connector).max_size(size).build()?),
            // More than opening a connection may take.
            patience: 2 * target.patience(),
            holds: size,
        })
    }

    /// Whether the pool belongs to the program.
    pub(super) fn is_users(&self) -> bool {
        matches!(self.pool, AnyPool::Users(_))
    }

    async fn take(&self) -> RedisResult<Held> {
        let (connection, place) = match &self.pool {
            AnyPool::Own(pool) => {
                let object = self.in_time(pool.get(), || pool.status().max_size).await?;
                (Connection::clone(&object), Place::Own(object))
            }
            AnyPool::Users(RedisPool::Single(pool)) => {
                let object = self.in_time(pool.get(), || pool.status().max_size).await?;
                (
                    Connection::Node(MultiplexedConnection::clone(&object)),
                    Place::Single(object),
                )
            }
            AnyPool::Users(RedisPool::Sentinel(pool)) => {
                let object = self.in_time(pool.get(), || pool.status().max_size).await?;
                (
                    Connection::Node(MultiplexedConnection::clone(&object)),
                    Place::Sentinel(object),
                )
            }
            AnyPool::Users(RedisPool::Cluster(pool)) => {
                let object = self.in_time(pool.get(), || pool.status().max_size).await?;
                (
                    Connection::Cluster(ClusterConnection::clone(&object)),
                    Place::Cluster(object),
                )
            }
        };
        Ok(Held {
            connection,
            place: Mutex::new(Some(place)),
        })
    }

    async fn in_time<T>(
        &self,
        getting: impl Future<Output = Result<T, PoolError<RedisError>>>,
        max_size: impl Fn() -> usize,
    ) -> RedisResult<T> {
        let (patience, holds) = (self.patience, self.holds);
        let none = || {
            let message = format!(
                "the pool returned no connection within {patience:?}: the broker keeps {holds} connections (`pool_size`) while it exists, \
                 and the pool has {} (`max_size`) for all its users; raise `max_size`, or remove the pool from the options",
                max_size()
            );
            std::io::Error::new(std::io::ErrorKind::TimedOut, message).into()
        };
        match tokio::time::timeout(patience, getting).await {
            Ok(Ok(object)) => Ok(object),
            Ok(Err(PoolError::Backend(error))) => Err(error),
            Ok(Err(PoolError::Timeout(_))) | Err(_) => Err(none()),
            Ok(Err(other)) => Err(RedisError::from((
                ErrorKind::Client,
                "the connection pool",
                other.to_string(),
            ))),
        }
    }
}

/// A connection that is kept.
pub(super) struct Held {
    connection: Connection,
    place: Mutex<Option<Place>>,
}

/// The connection's place in its pool, for release.
enum Place {
    Own(Object<Connector>),
    Single(deadpool_redis::Connection),
    Sentinel(deadpool_redis::sentinel::Connection),
    Cluster(deadpool_redis::cluster::Connection),
}

impl Held {
    pub(super) fn connection(&self) -> Connection {
        self.connection.clone()
    }

    pub(super) async fn send(&self, command: &Cmd) -> RedisResult<Value> {
        self.connection.send(command).await
    }

    /// Sends a command to a node of a Cluster that is importing the slot.
    pub(super) async fn send_asking(&self, command: &Cmd) -> RedisResult<Value> {
        let Connection::Node(mut node) = self.connection() else {
            return self.send(command).await;
        };
        let mut both = redis::Pipeline::with_capacity(2);
        both.cmd("ASKING").ignore().add_command(command.clone());
        use redis::aio::ConnectionLike;
        let answers = node.req_packed_commands(&both, 1, 1).await?;
        let answer = answers.into_iter().next().unwrap_or(Value::Nil);
        answer.extract_error()
    }

    /// Sends a command to each master. Returns the response of each with its address, which is empty if there is only
    /// one.
    pub(super) async fn send_to_masters(&self, command: &Cmd) -> RedisResult<Vec<(String, Value)>> {
        let Connection::Cluster(mut cluster) = self.connection() else {
            return Ok(vec![(String::new(), self.send(command).await?)]);
        };
        let routing = RoutingInfo::MultiNode((MultipleNodeRoutingInfo::AllMasters, None));
        let answers = cluster.route_command(command.clone(), routing).await?;
        let Value::Map(answers) = answers.extract_error()? else {
            return Ok(Vec::new());
        };
        let named = answers.into_iter().map(|(address, answer)| match address {
            Value::BulkString(bytes) => (String::from_utf8_lossy(&bytes).into_owned(), answer),
            Value::SimpleString(address) => (address, answer),
            other => (format!("{other:?}"), answer),
        });
        Ok(named.collect())
    }

    /// Takes the connection out of its pool, which then has room for another.
    fn leave_pool(&self) {
        match self.place.lock().take() {
            Some(Place::Own(object)) => drop(Object::take(object)),
            Some(Place::Single(object)) => drop(deadpool_redis::Connection::take(object)),
            Some(Place::Sentinel(object)) => {
                drop(deadpool_redis::sentinel::Connection::take(object))
            }
            Some(Place::Cluster(object)) => drop(deadpool_redis::cluster::Connection::take(object)),
            None => {}
        }
    }
}

/// Keeps one connection, and gets another when it is dropped.
pub(super) struct Holder {
    source: Source,
    held: RwLock<Option<Arc<Held>>>,
    /// Lets one caller get a connection while the others wait for the result.
    getting: tokio::sync::Mutex<()>,
    failed: Mutex<Failed>,
    /// Whether the connection was dropped and not yet replaced.
    lost: AtomicBool,
}

/// How often no connection could be opened, and the last error.
#[derive(Default)]
struct Failed {
    times: u64,
    last: Option<RedisError>,
}

impl Holder {
    pub(super) fn new(source: Source) -> Self {
        Self {
            source,
            held: RwLock::default(),
            getting: tokio::sync::Mutex::default(),
            failed: Mutex::default(),
            lost: AtomicBool::new(false),
        }
    }

    pub(super) async fn held(&self) -> RedisResult<Arc<Held>> {
        if let Some(held) = &*self.held.read() {
            return Ok(Arc::clone(held));
        }
        // Boxed because it is rare and large.
        self.get().boxed().await
    }

    async fn get(&self) -> RedisResult<Arc<Held>> {
        let failed_before = self.failed.lock().times;
        let _getting = self.getting.lock().await;
        if let Some(held) = &*self.held.read() {
            return Ok(Arc::clone(held));
        }
        {
            // Callers that waited for a failed try do not try again one by one: the last of many would wait too long.
            let failed = self.failed.lock();
            if let Some(error) = failed
                .last
                .as_ref()
                .filter(|_| failed.times > failed_before)
            {
                return Err(error.clone());
            }
        }
        let source = self.source.clone();
        // On the I/O thread, because a connection stays on the runtime that opened it.
        let taken = io::run(async move { source.take().await }).await;
        match taken.map_err(RedisError::from).flatten() {
            Ok(held) => {
                let held = Arc::new(held);
                *self.held.write() = Some(Arc::clone(&held));
                if self.lost.swap(false, Relaxed) {
                    meter::reconnected();
                }
                Ok(held)
            }
            Err(error) => {
                let mut failed = self.failed.lock();
                failed.times += 1;
                failed.last = Some(error.clone());
                Err(error)
            }
        }
    }

    /// Drops a connection, unless it was dropped before.
    pub(super) fn give_up(&self, lost: &Arc<Held>) {
        {
            let mut held = self.held.write();
            if held.as_ref().is_some_and(|held| Arc::ptr_eq(held, lost)) {
                *held = None;
                self.lost.store(true, Relaxed);
            }
        }
        lost.leave_pool();
    }
}
