//! A connection pool that belongs to the program.

use std::fmt;

use super::{OptionsError, RedisOptions, Topology};

/// A connection pool that the program already has.
#[derive(Clone)]
#[non_exhaustive]
pub enum RedisPool {
    /// A pool of connections to one server.
    Single(deadpool_redis::Pool),
    /// A pool of connections to the master that Sentinels monitor.
    Sentinel(deadpool_redis::sentinel::Pool),
    /// A pool of connections to a Cluster.
    Cluster(deadpool_redis::cluster::Pool),
}

impl RedisPool {
    /// Refuses a pool that connects to another kind of deployment than the URL, or has too few connections.
    pub(crate) fn check(&self, options: &RedisOptions) -> Result<(), OptionsError> {
        let (pool, url) = (self.kind(), options.topology.kind());
        if pool != url {
            return Err(OptionsError::Pool { pool, url });
        }
        let max_size = match self {
            Self::Single(pool) => pool.status().max_size,
            Self::Sentinel(pool) => pool.status().max_size,
            Self::Cluster(pool) => pool.status().max_size,
        };
        let pool_size = options.pool_size;
        if max_size < pool_size {
            return Err(OptionsError::PoolSize {
                max_size,
                pool_size,
            });
        }
        Ok(())
    }

    /// The kind of deployment that it connects to.
    fn kind(&self) -> &'static str {
        match self {
            Self::Single(_) => Topology::SINGLE,
            Self::Sentinel(_) => Topology::SENTINEL,
            Self::Cluster(_) => Topology::CLUSTER,
        }
    }
}

impl From<deadpool_redis::Pool> for RedisPool {
    fn from(pool: deadpool_redis::Pool) -> Self {
        Self::Single(pool)
    }
}

impl From<deadpool_redis::sentinel::Pool> for RedisPool {
    fn from(pool: deadpool_redis::sentinel::Pool) -> Self {
        Self::Sentinel(pool)
    }
}

impl From<deadpool_redis::cluster::Pool> for RedisPool {
    fn from(pool: deadpool_redis::cluster::Pool) -> Self {
        Self::Cluster(pool)
    }
}

impl fmt::Debug for RedisPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Deadpool's `Debug` would show the URL with the password.
        f.write_str(match self {
            Self::Single(_) => "RedisPool::Single",
            Self::Sentinel(_) => "RedisPool::Sentinel",
            Self::Cluster(_) => "RedisPool::Cluster",
        })
    }
}
