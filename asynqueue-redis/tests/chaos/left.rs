//! What should not be in Redis once all tasks are gone.

use std::collections::BTreeMap;

use asynqueue_test_servers::RedisServer;
use redis::{AsyncCommands, aio::MultiplexedConnection, cmd};

use super::servers::keys;

/// The parts of a queue that stay: statistics, names of workers, the lanes of changes, and for an hour the last ticks of
/// removed schedule entries.
const STAY: [&str; 6] = ["stats", "hours", "meta", "lanes", "workers", "fired"];

/// What all queues share, and what is kept for a while to recognise repeated changes.
const SHARED: [&str; 9] = [
    "aq:queues",
    "aq:{documents}:changes",
    "aq:{documents}:marks",
    "aq:{documents}:removals",
    "aq:{documents}:removals:due",
    "aq:{documents}:requests",
    "aq:{documents}:servers",
    "aq:{documents}:servers:due",
    "aq:{documents}:subscriptions",
];

/// Keys, and locks in them, that should not exist once all tasks are gone.
pub(crate) async fn left(nodes: &[RedisServer]) -> Vec<String> {
    let mut left = Vec::new();
    for (mut connection, key) in keys(nodes).await {
        // Figures over time expire.
        if SHARED.contains(&key.as_str()) || key.starts_with("aq:{points}:") {
            continue;
        }
        let part = match key.strip_prefix("aq:{") {
            None => "",
            Some(_) if key.starts_with("aq:{documents}") => "documents",
            Some(_) => key.rsplit(':').next().unwrap_or_default(),
        };
        if part == "locks" {
            left.extend(left_locks(&mut connection, &key).await);
        } else if part == "lock_ends" {
            left.extend(left_ends(&mut connection, &key).await);
        } else if !STAY.contains(&part) {
            let mut kind = cmd("TYPE");
            let kind = kind.arg(&key).query_async(&mut connection);
            let kind: String = kind.await.expect("a type");
            left.push(format!("{key} ({kind})"));
        }
    }
    left
}

/// Expiry entries of missing locks.
async fn left_ends(connection: &mut MultiplexedConnection, key: &str) -> Vec<String> {
    let ends: Vec<String> = connection.zrange(key, 0, -1).await.expect("ends of locks");
    let locks = key.replace("lock_ends", "locks");
    let locks: Vec<String> = connection.hkeys(locks).await.expect("locks");
    let left = ends.iter().filter(|name| !locks.contains(name));
    left.map(|name| format!("{key} {name}")).collect()
}

/// The lock of a window stays until it expires and upkeep finds it. Others end with their tasks.
async fn left_locks(connection: &mut MultiplexedConnection, key: &str) -> Vec<String> {
    let locks: BTreeMap<String, String> = connection.hgetall(key).await.expect("locks");
    let is_window = |lock: &str| lock.split(':').next().is_some_and(|end| end.ends_with('w'));
    let left = locks.iter().filter(|(_, lock)| !is_window(lock));
    left.map(|(name, lock)| format!("{key}: lock {name} = {lock}"))
        .collect()
}
