//! The final state in Redis.

use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};

use asynqueue_core::{
    broker::{Broker, Control, Inspect, Page, TaskInfo},
    scheduler::Timetable,
    task::{FailureKind, Name, TaskState},
};
use asynqueue_redis::{RedisBroker, RedisOptions};
use redis::{AsyncCommands, aio::MultiplexedConnection, cmd};

use super::{
    history::key_of,
    load::ENTRIES,
    store::{Store, keys},
    worker::entries,
};

/// Why a task is in the archive.
#[derive(Clone, Debug)]
pub(crate) struct Archived {
    pub(crate) kind: Option<FailureKind>,
    pub(crate) message: String,
    pub(crate) attempts: u64,
    pub(crate) at: u64,
}

/// The state at the end.
#[derive(Debug, Default)]
pub(crate) struct Rest {
    pub(crate) archived: BTreeMap<String, Archived>,
    pub(crate) completed: u64,
    pub(crate) succeeded: u64,
    pub(crate) failed: u64,
    pub(crate) repaired: u64,
    /// Tasks in the queues that should have ended.
    pub(crate) undone: Vec<String>,
    /// Keys and fields that should not exist.
    pub(crate) left: Vec<String>,
}

/// The parts of a queue that stay: statistics, names of workers, and the lanes of changes.
const STAY: [&str; 5] = ["stats", "hours", "meta", "lanes", "workers"];

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

/// How long data with an expiry may take to disappear.
const ENDS_IN: Duration = Duration::from_secs(12);

/// The broker of the checker, without a proxy.
pub(crate) async fn broker(url: &str) -> RedisBroker {
    let options = RedisOptions::new(url).expect("a URL");
    let options = options.retry_for(Duration::from_secs(20));
    RedisBroker::connect(options).await.expect("a connection")
}

/// Creates the schedule entries that fire during the run.
pub(crate) async fn put_entries(broker: &RedisBroker) {
    let timetable = Timetable::new(broker.clone());
    for entry in entries() {
        timetable.put(entry).await.expect("put");
    }
}

pub(crate) async fn remove_entries(broker: &RedisBroker) {
    let timetable = Timetable::new(broker.clone());
    for entry in ENTRIES {
        timetable.remove(entry).await.expect("removed");
    }
}

/// Whether nothing waits or runs.
async fn is_drained(broker: &RedisBroker) -> Vec<String> {
    let queues = broker.queues().await.expect("queues");
    let stats = broker.stats(&queues).await.expect("stats");
    let mut undone = Vec::new();
    for (queue, stats) in queues.iter().zip(stats) {
        for (state, count) in stats.counts {
            if !state.is_final() && count > 0 {
                undone.push(format!("{count} {state} in {queue}"));
            }
        }
    }
    undone
}

/// Waits until all tasks have ended. Returns the tasks that have not ended in time.
pub(crate) async fn drain(broker: &RedisBroker, time: Duration) -> Vec<String> {
    let started = std::time::Instant::now();
    loop {
        let undone = is_drained(broker).await;
        if undone.is_empty() || started.elapsed() > time {
            return undone;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

impl Rest {
    /// Reads the final state, deletes the kept tasks, and searches for data that should not exist then.
    pub(crate) async fn take(broker: &RedisBroker, store: &Store) -> Self {
        let mut rest = Self {
            undone: is_drained(broker).await,
            ..Self::default()
        };
        for queue in broker.queues().await.expect("queues") {
            rest.take_queue(broker, &queue).await;
        }
        let started = std::time::Instant::now();
        loop {
            let left = left_keys(store, broker.now().as_millis()).await;
            if left.is_empty() || started.elapsed() > ENDS_IN {
                rest.left.extend(left);
                return rest;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    async fn take_queue(&mut self, broker: &RedisBroker, queue: &Name) {
        let stats = broker
            .stats(std::slice::from_ref(queue))
            .await
            .expect("stats");
        let stats = &stats[0];
        if !queue.starts_with('@') {
            // The runs of an outbox are not in the journals.
            self.succeeded += stats.succeeded;
            self.failed += stats.failed;
        }
        self.repaired += stats.repaired;
        for state in [TaskState::Archived, TaskState::Completed] {
            let mut seen = HashSet::new();
            loop {
                let page = broker
                    .list(queue, state, Page::default())
                    .await
                    .expect("a page");
                let Some(first) = page.tasks.first() else {
                    break;
                };
                let id = first.envelope.id.clone();
                if !seen.insert(id.clone()) {
                    self.left
                        .push(format!("{id} in {queue} was deleted but exists"));
                    break;
                }
                for task in &page.tasks {
                    self.take_task(task);
                }
                let refs: Vec<_> = (page.tasks.iter())
                    .map(|task| task.envelope.task_ref())
                    .collect();
                broker.delete(&refs).await.expect("deleted");
            }
        }
    }

    fn take_task(&mut self, task: &TaskInfo) {
        if task.state == TaskState::Completed {
            self.completed += 1;
            return;
        }
        let failure = task.envelope.failures().last();
        let archived = Archived {
            kind: failure.map(|failure| failure.kind),
            message: failure
                .map(|failure| failure.message.clone())
                .unwrap_or_default(),
            attempts: task.envelope.attempts.into(),
            at: task.at.map_or(0, |at| at.as_millis() * 1_000),
        };
        let key = key_of(&task.envelope.queue, task.envelope.id.as_str());
        self.archived.insert(key, archived);
    }
}

/// Keys, and locks in them, that should not exist once all tasks are gone.
async fn left_keys(store: &Store, now: u64) -> Vec<String> {
    let mut left = Vec::new();
    for (mut connection, key) in keys(store.nodes()).await {
        if SHARED.contains(&key.as_str()) {
            continue;
        }
        let part = match key.strip_prefix("aq:{") {
            None => "",
            Some(_) if key.starts_with("aq:{documents}") => "documents",
            Some(_) => key.rsplit(':').next().unwrap_or_default(),
        };
        if part == "locks" {
            left.extend(left_locks(&mut connection, &key, now).await);
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
async fn left_locks(connection: &mut MultiplexedConnection, key: &str, now: u64) -> Vec<String> {
    let locks: BTreeMap<String, String> = connection.hgetall(key).await.expect("locks");
    let is_window = |lock: &str| lock.split(':').next().is_some_and(|end| end.ends_with('w'));
    let left = locks.iter().filter(|(_, lock)| !is_window(lock));
    left.map(|(name, lock)| format!("{key}: lock {name} = {lock}, at {now}"))
        .collect()
}
