//! Real servers for tests: each on its own free ports, killed by its process id when the test ends.

#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "these are tests"
)]

mod chromedriver;
mod cluster;
mod late;
mod monitor;
mod pgbouncer;
mod postgres;
mod process;
mod prometheus;
mod proxy;
mod sentinel;
mod server;
mod tls;
mod user;

pub use self::{
    chromedriver::Chromedriver,
    cluster::RedisCluster,
    late::LateProxy,
    monitor::{Monitor, Seen, undeclared_keys},
    pgbouncer::PgBouncer,
    postgres::Postgres,
    prometheus::Prometheus,
    proxy::{Fault, Proxy},
    sentinel::RedisSentinel,
    server::RedisServer,
    tls::{TlsPostgres, TlsRedis},
};

use std::{
    future::Future,
    time::{Duration, Instant},
};

/// Waits until a condition holds, for at most half a minute.
pub async fn eventually<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let started = Instant::now();
    while !holds().await {
        assert!(
            started.elapsed() < Duration::from_secs(30),
            "timed out waiting: {what}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
