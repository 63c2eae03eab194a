//! A pool of the user's own.

use std::fmt;

use super::Topology;

/// A pool of connections that the program has already.
#[derive(Clone)]
#[non_exhaustive]
pub enum RedisPool {
    /// To one server.
    Single(deadpool_redis::Pool),
    /// To the master that Sentinels name.
    Sentinel(deadpool_redis::sentinel::Pool),
    /// To a Cluster.
    Cluster(deadpool_redis::cluster::Pool),
}

impl RedisPool {
    /// What it leads to.
    pub(crate) fn kind(&self) -> &'static str {
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
        // A pool of deadpool shows its URL, with the password.
        f.write_str(match self {
            Self::Single(_) => "RedisPool::Single",
            Self::Sentinel(_) => "RedisPool::Sentinel",
            Self::Cluster(_) => "RedisPool::Cluster",
        })
    }
}
