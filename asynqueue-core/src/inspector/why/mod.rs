//! Why a queue or a task waits: the true causes, gravest first.
//!
//! `queue` and `task` derive the causes from figures and reports that were read before, so that a page that has them
//! reads nothing more. `text` puts them into words.

mod cause;
mod queue;
mod taker;
mod task;
mod text;

use std::time::Duration;

use futures_util::future::try_join;

use self::task::{Known, Rate};
pub use self::{
    cause::{Cause, Delay, Estimate, Turn},
    queue::QueueWait,
    taker::{Taker, TakerState},
    task::TaskWait,
};
use super::Inspector;
use crate::{
    broker::{
        BrokerError, HourStats, Page, Pausable, Pause, QueueStats, ServerInfo, TaskInfo, TaskPage,
    },
    task::{Name, TaskRef, TaskState},
};

/// How many tasks of each end of a queue are read to find the position of one.
const COUNTED: usize = 500;

/// The past by which the start of a task is estimated.
const RECENT: Duration = Duration::from_secs(15 * 60);

impl Inspector {
    /// Why the tasks of a queue wait, and which servers take from it. Reads the servers and the figures of the queue,
    /// and who paused it if it is paused.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use asynqueue_core::{inspector::Inspector, memory::MemoryBroker};
    ///
    /// let inspector = Inspector::new(MemoryBroker::new());
    /// let wait = inspector.why_queue_waits(&"video".into()).await?;
    /// assert_eq!(wait.causes[0].describe(inspector.now()), "no server takes from this queue");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    pub async fn why_queue_waits(&self, queue: &Name) -> Result<QueueWait, BrokerError> {
        let (stats, servers) = self.scene(queue).await?;
        let pause = self.pause_of(queue, &stats).await?;
        Ok(QueueWait::new(queue, &stats, &servers, pause, self.now()))
    }

    /// Why a task waits. `None` if it does not exist.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    pub async fn why_task_waits(&self, task: &TaskRef) -> Result<Option<TaskWait>, BrokerError> {
        let Some(info) = self.task(task).await? else {
            return Ok(None);
        };
        let (stats, servers) = self.scene(&task.queue).await?;
        self.why_known_task_waits(&info, &stats, &servers)
            .await
            .map(Some)
    }

    /// Why a task waits, by what was read before. Reads who paused the queue if it is paused, and the position of the
    /// task if it is pending.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    pub async fn why_known_task_waits(
        &self,
        task: &TaskInfo,
        stats: &QueueStats,
        servers: &[ServerInfo],
    ) -> Result<TaskWait, BrokerError> {
        let queue = &task.envelope.queue;
        let known = Known {
            task,
            stats,
            servers,
            pause: self.pause_of(queue, stats).await?,
            now: self.now(),
        };
        let (mut causes, waits_for_turn) = known.causes();
        if waits_for_turn {
            causes.push(Cause::Turn(self.turn(task, stats).await?));
        }
        Ok(TaskWait {
            task: task.envelope.task_ref(),
            state: task.state,
            causes,
        })
    }

    async fn scene(&self, queue: &Name) -> Result<(QueueStats, Vec<ServerInfo>), BrokerError> {
        let queues = std::slice::from_ref(queue);
        let (stats, servers) = try_join(self.broker.stats(queues), self.broker.servers()).await?;
        let missing = || BrokerError::protocol("the result for a queue is missing");
        let stats = stats.into_iter().next().ok_or_else(missing)?;
        Ok((stats, servers))
    }

    /// Who paused a queue. Reads nothing if it is not paused.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    pub async fn pause_of(
        &self,
        queue: &Name,
        stats: &QueueStats,
    ) -> Result<Option<Pause>, BrokerError> {
        if !stats.paused {
            return Ok(None);
        }
        let of = [Pausable::Queue(queue.clone())];
        Ok(self.broker.pauses(&of).await?.pop().flatten())
    }

    /// The turn of a task that is pending or due.
    async fn turn(&self, task: &TaskInfo, stats: &QueueStats) -> Result<Turn, BrokerError> {
        let pending = stats.count(TaskState::Pending);
        let ahead = self.ahead(task, pending);
        let ((ahead, is_exact), rate) = try_join(ahead, self.rate(&task.envelope.queue)).await?;
        Ok(Turn {
            ahead,
            is_exact,
            start: rate.map(|rate| rate.start_after(ahead, self.now())),
        })
    }

    /// How many tasks are ahead of a task, and whether that is exact. Otherwise at least that many are.
    async fn ahead(&self, task: &TaskInfo, pending: u64) -> Result<(u64, bool), BrokerError> {
        if task.state != TaskState::Pending {
            // It is due, and joins the queue at its end.
            return Ok((pending, true));
        }
        let (queue, id) = (&task.envelope.queue, &task.envelope.id);
        let list = |page| self.broker.list(queue, TaskState::Pending, page);
        let place = |page: &TaskPage| {
            let mut tasks = page.tasks.iter();
            tasks.position(|one| one.envelope.id == *id)
        };
        let first = list(Page::first(COUNTED)).await?;
        if let Some(place) = place(&first) {
            return Ok((place as u64, true));
        }
        let counted = first.tasks.len() as u64;
        if first.next.is_none() {
            // It has left the queue.
            return Ok((counted, true));
        }
        let last = list(Page::last(COUNTED)).await?;
        Ok(match place(&last) {
            Some(behind) => (pending.saturating_sub(behind as u64 + 1).max(counted), true),
            None => (counted, false),
        })
    }

    /// How often attempts end in a queue.
    async fn rate(&self, queue: &Name) -> Result<Option<Rate>, BrokerError> {
        let now = self.now();
        if self.capabilities().points {
            let minutes = self.minutes_since(Some(queue), now - RECENT).await?;
            let minutes = minutes.into_values().flatten();
            if let Some(rate) = Rate::of_minutes(minutes, now) {
                return Ok(Some(rate));
            }
        }
        let since = now - Duration::from_millis(HourStats::MILLIS);
        let history = self.broker.history(std::slice::from_ref(queue), since);
        let history = history.await?.into_iter().next().unwrap_or_default();
        Ok(Rate::of_hours(&history, now))
    }
}
