//! The final state of the store.

use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};

use asynqueue_core::{
    broker::{Page, SharedBroker, TaskInfo},
    scheduler::Timetable,
    task::{FailureKind, Name, TaskState},
};

use super::{child::entries, history::key_of, load::ENTRIES, stage::Stage};

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
    /// Attempts that failed or were lost: the journals do not distinguish them.
    pub(crate) unsuccessful: u64,
    pub(crate) repaired: u64,
    /// Tasks in the queues that should have ended.
    pub(crate) undone: Vec<String>,
    /// What should not exist, by [`Stage::left`].
    pub(crate) left: Vec<String>,
}

/// How long data with an expiry may take to disappear.
const ENDS_IN: Duration = Duration::from_secs(12);

/// Creates the schedule entries that fire during the run.
pub(crate) async fn put_entries(broker: &SharedBroker) {
    let timetable = Timetable::new(broker.clone());
    for entry in entries() {
        timetable.put(entry).await.expect("put");
    }
}

pub(crate) async fn remove_entries(broker: &SharedBroker) {
    let timetable = Timetable::new(broker.clone());
    for entry in ENTRIES {
        timetable.remove(entry).await.expect("removed");
    }
}

/// Whether nothing waits or runs.
async fn is_drained(broker: &SharedBroker) -> Vec<String> {
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
pub(crate) async fn drain(broker: &SharedBroker, time: Duration) -> Vec<String> {
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
    pub(crate) async fn take(broker: &SharedBroker, stage: &dyn Stage) -> Self {
        let mut rest = Self {
            undone: is_drained(broker).await,
            ..Self::default()
        };
        for queue in broker.queues().await.expect("queues") {
            rest.take_queue(broker, &queue).await;
        }
        let started = std::time::Instant::now();
        loop {
            let left = stage.left().await;
            if left.is_empty() || started.elapsed() > ENDS_IN {
                rest.left.extend(left);
                return rest;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    async fn take_queue(&mut self, broker: &SharedBroker, queue: &Name) {
        let stats = broker
            .stats(std::slice::from_ref(queue))
            .await
            .expect("stats");
        let stats = &stats[0];
        if !queue.starts_with('@') {
            // The runs of an outbox are not in the journals.
            self.succeeded += stats.succeeded;
            self.unsuccessful += stats.failed + stats.lost;
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
