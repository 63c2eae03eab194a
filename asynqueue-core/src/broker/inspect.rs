//! Looking into a broker.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::BrokerError;
use crate::{
    process::Progress,
    task::{Envelope, Name, TaskRef, TaskState, Timestamp},
};

/// Reads what a broker keeps, and changes nothing.
#[async_trait]
pub trait Inspect: Send + Sync {
    /// The queues that have had a task, by name.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    async fn queues(&self) -> Result<Vec<Name>, BrokerError>;

    /// The figures of queues, in the order given; a queue that is not known is empty.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    async fn stats(&self, queues: &[Name]) -> Result<Vec<QueueStats>, BrokerError>;

    /// Tasks, in the order given; `None` where there is none.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    async fn tasks(&self, tasks: &[TaskRef]) -> Result<Vec<Option<TaskInfo>>, BrokerError>;

    /// The tasks of a queue in one state, a page at a time: waiting ones in the order they will run, finished ones
    /// newest first.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    async fn list(
        &self,
        queue: &Name,
        state: TaskState,
        page: Page,
    ) -> Result<TaskPage, BrokerError>;
}

/// One queue's figures.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueueStats {
    /// How many tasks are in each state; states without one are left out.
    pub counts: BTreeMap<TaskState, u64>,
    /// Attempts that succeeded, ever.
    pub succeeded: u64,
    /// Attempts that failed, ever.
    pub failed: u64,
    /// How long the task that is next has been pending; zero if none is. One that was accepted to run at once is pending
    /// since its `enqueued_at`.
    pub latency: Duration,
    /// Whether leasing is stopped.
    pub paused: bool,
    /// Tasks that were found in no state or missing, and locks and leases without a task, ever: what a broker's storage
    /// lost, and the broker put right.
    pub repaired: u64,
}

impl QueueStats {
    /// How many tasks are in a state.
    pub fn count(&self, state: TaskState) -> u64 {
        self.counts.get(&state).copied().unwrap_or_default()
    }

    /// How many tasks the queue keeps in all.
    pub fn total(&self) -> u64 {
        self.counts.values().sum()
    }
}

/// One task as its broker keeps it.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskInfo {
    /// What travels with it.
    pub envelope: Arc<Envelope>,
    /// Where it is.
    pub state: TaskState,
    /// When it is due (scheduled, retry), when it is deleted (completed) or when it was archived.
    pub at: Option<Timestamp>,
    /// Who runs it.
    pub lease: Option<LeaseInfo>,
    /// How far it has come.
    pub progress: Option<Progress>,
    /// Its output, in the payload's codec.
    pub result: Option<Bytes>,
}

/// Who runs a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseInfo {
    /// The worker.
    pub worker: Name,
    /// When the lease ends unless it is extended.
    pub until: Timestamp,
}

/// Which part of a list to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Where to go on, from the page before; `None` starts.
    pub after: Option<Cursor>,
    /// How many tasks at most. Default 100.
    pub limit: usize,
}

impl Default for Page {
    fn default() -> Self {
        Self {
            after: None,
            limit: 100,
        }
    }
}

/// A place in a list, in a form of the broker's own. Where the list changes between two pages, tasks can be missed or met
/// twice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cursor(pub String);

/// A part of a list.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TaskPage {
    /// The tasks.
    pub tasks: Vec<TaskInfo>,
    /// Where the next page goes on; `None` at the end.
    pub next: Option<Cursor>,
}
