//! Upkeep has one owner, costs what it finds, and leaves nothing behind.

#[path = "../common/mod.rs"]
mod common;

mod left;
mod locks;
mod measured;
mod owner;

use std::time::Duration;

use asynqueue_core::{
    broker::{Broker, Keep, Leased, Outcome, all_of},
    task::{Envelope, Name, UniqueKey, UniqueLock, UniqueUntil},
    testing::TestClock,
};
use asynqueue_redis::{RedisBroker, RedisOptions};
use asynqueue_test_servers::{Monitor, RedisServer};
use common::{lease, task};
use redis::{AsyncCommands, aio::MultiplexedConnection};

const HOUR: Duration = Duration::from_secs(3600);

/// What a server's loops do in one round. Returns how many tasks became pending.
async fn maintain(broker: &RedisBroker, queues: &[Name]) -> usize {
    let forwarded = all_of(broker.forward(queues, 1_000).await).expect("forwarded");
    let expired = broker.expired(queues, broker.now(), 1_000).await;
    all_of(expired).expect("looked for");
    let trimmed = broker.trim(queues, Keep::default(), 1_000).await;
    all_of(trimmed).expect("trimmed");
    forwarded.iter().map(|forwarded| forwarded.moved).sum()
}

/// The number of commands that clients sent while a monitor listened.
async fn sent(monitor: Monitor) -> usize {
    let seen = monitor.stop().await;
    seen.iter().filter(|seen| !seen.by_script).count()
}

async fn at(server: &RedisServer, clock: &TestClock) -> RedisBroker {
    let options = RedisOptions::new(&server.url()).expect("a URL");
    let options = options.clock(clock.clone());
    RedisBroker::connect(options).await.expect("a connection")
}

fn unique(id: &str, until: UniqueUntil, ttl: Duration) -> Envelope {
    let mut task = task("q", id);
    let key = UniqueKey::new(id);
    task.unique = Some(Box::new(UniqueLock::new(key, until, ttl)));
    task
}

async fn len(connection: &mut MultiplexedConnection, part: &str) -> usize {
    let key = format!("aq:{{q}}:{part}");
    match part {
        "lock_ends" => connection.zcard(key).await.expect("a set"),
        _ => connection.hlen(key).await.expect("a hash"),
    }
}

async fn complete_all(broker: &RedisBroker) -> usize {
    let mut done = 0;
    loop {
        let leased = lease(broker, "q", 500).await;
        if leased.is_empty() {
            return done;
        }
        done += leased.len();
        let complete = |leased: Leased| leased.settle(Outcome::Complete { result: None });
        let settlements: Vec<_> = leased.into_iter().map(complete).collect();
        broker.settle(&settlements).await.expect("settled");
    }
}
