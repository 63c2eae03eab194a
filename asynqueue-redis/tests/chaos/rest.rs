//! What is left in Redis once all is done.

use std::{collections::BTreeMap, time::Duration};

use asynqueue_core::{
    Broker, Control, FailureKind, Inspect, Name, Page, TaskInfo, TaskState, scheduler::Timetable,
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
    /// What is in the queues though it should have come to its end.
    pub(crate) undone: Vec<String>,
    /// Keys and fields that should not be there.
    pub(crate) left: Vec<String>,
}

/// The parts of a queue that stay: figures, names of workers, and what keeps a change from being made twice.
const STAY: [&str; 4] = ["stats", "hours", "meta", "lanes"];

/// What all queues share.
const SHARED: [&str; 3] = ["aq:queues", "aq:servers", "aq:subscriptions"];

/// More pages than a run fills.
const MAX_PAGES: usize = 100_000;

/// How long what ends by itself may take to.
const ENDS_IN: Duration = Duration::from_secs(12);

/// The broker of the checker, with no proxy in between.
pub(crate) async fn broker(url: &str) -> RedisBroker {
    let options = RedisOptions::new(url).expect("a URL");
    let options = options.retry_for(Duration::from_secs(20));
    RedisBroker::connect(options).await.expect("a connection")
}

/// Puts the entries that fire during the run.
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

/// Waits until all tasks have come to their ends. Returns what has not in time.
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
    /// Reads what is left, deletes the tasks that are kept, and looks for what should not be there then.
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
            rest.left.clear();
            rest.look_at_keys(store, broker.now().as_millis()).await;
            if rest.left.is_empty() || started.elapsed() > ENDS_IN {
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
            // Nobody journals the runs of an outbox.
            self.succeeded += stats.succeeded;
            self.failed += stats.failed;
        }
        self.repaired += stats.repaired;
        for state in [TaskState::Archived, TaskState::Completed] {
            // A list of which nothing can be deleted would have no end.
            for _ in 0..MAX_PAGES {
                let page = broker
                    .list(queue, state, Page::default())
                    .await
                    .expect("a page");
                if page.tasks.is_empty() {
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

    async fn look_at_keys(&mut self, store: &Store, now: u64) {
        for (mut connection, key) in keys(store.nodes()).await {
            let part = match key.strip_prefix("aq:{") {
                None if SHARED.contains(&key.as_str()) => continue,
                None => "",
                Some(_) if key.starts_with("aq:{schedules}") => "schedules",
                Some(_) => key.rsplit(':').next().unwrap_or_default(),
            };
            if part == "locks" {
                self.look_at_locks(&mut connection, &key, now).await;
            } else if !STAY.contains(&part) {
                let kind: String = cmd("TYPE")
                    .arg(&key)
                    .query_async(&mut connection)
                    .await
                    .expect("a type");
                self.left.push(format!("{key} ({kind})"));
            }
        }
    }

    /// Those for a window stay until it ends, and are counted by the queue's upkeep; others end with their tasks.
    async fn look_at_locks(&mut self, connection: &mut MultiplexedConnection, key: &str, now: u64) {
        let locks: BTreeMap<String, String> = connection.hgetall(key).await.expect("locks");
        for (name, lock) in locks {
            let is_window = lock.split(':').next().is_some_and(|end| end.ends_with('w'));
            if !is_window {
                self.left
                    .push(format!("{key}: lock {name} = {lock}, at {now}"));
            }
        }
    }
}
