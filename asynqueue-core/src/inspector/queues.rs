//! Queues: their tasks, their figures, and changes of a queue.

use super::{ActionKind, AuditEntry, AuditTarget, Inspector};
use crate::{
    broker::{BrokerError, GroupInfo, HourStats, QueueStats, Subscription},
    suggest::closest,
    task::{Name, TaskState, Timestamp},
};

/// A queue with its figures.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct QueueInfo {
    /// The queue's name.
    pub name: Name,
    /// How many tasks are in each state, how long the next one has waited, and more.
    pub stats: QueueStats,
    /// The attempts that ended since midnight UTC. For other days and time zones, see [`Inspector::history`].
    pub today: HourStats,
    /// The approximate memory in bytes. `None` if the storage does not report it.
    pub memory: Option<u64>,
    /// Where the storage keeps it, in its own terms, such as `slot 1234`.
    pub place: Option<String>,
}

impl QueueInfo {
    /// A queue with these figures, without memory and place.
    pub fn new(name: Name, stats: QueueStats, today: HourStats) -> Self {
        Self {
            name,
            stats,
            today,
            memory: None,
            place: None,
        }
    }
}

/// Finding a queue by its name failed.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum QueueError {
    /// The queue does not exist.
    #[error("queue `{name}` does not exist{}", expected(.nearest.as_ref()))]
    #[non_exhaustive]
    Unknown {
        /// The requested name.
        name: String,
        /// The existing name that was most likely meant.
        nearest: Option<Name>,
    },
    /// The broker call failed.
    #[error(transparent)]
    Broker(#[from] BrokerError),
}

crate::debug_as_text!(QueueError);

fn expected(nearest: Option<&Name>) -> String {
    nearest.map_or_else(String::new, |name| format!(": expected `{name}`"))
}

impl Inspector {
    /// All queues that have ever had a task, by name.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    pub async fn queues(&self) -> Result<Vec<QueueInfo>, BrokerError> {
        let names = self.broker.queues().await?;
        self.queues_of(&names).await
    }

    /// The names of all queues that have ever had a task, in order. Makes one broker call; [`queues`](Self::queues)
    /// makes one more for each kind of figures.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    pub async fn queue_names(&self) -> Result<Vec<Name>, BrokerError> {
        self.broker.queues().await
    }

    /// The name of a queue that exists: it has had a task, a server leases from it, or a subscription or a schedule entry
    /// enqueues to it.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached, or the queue does not exist. That error contains the nearest name.
    pub async fn known_queue(&self, name: &str) -> Result<Name, QueueError> {
        let mut known = self.broker.queues().await?;
        let is = |queue: &Name| **queue == *name;
        if !known.iter().any(is) {
            known.extend(self.used_queues().await?);
        }
        if let Some(queue) = known.iter().find(|queue| is(queue)) {
            return Ok(queue.clone());
        }
        let nearest = closest(name, known.iter().map(|queue| &**queue));
        Err(QueueError::Unknown {
            name: name.to_owned(),
            nearest: nearest.map(Name::from),
        })
    }

    /// The queues that servers, subscriptions and schedule entries use, whether or not they have had a task.
    async fn used_queues(&self) -> Result<Vec<Name>, BrokerError> {
        let servers = self.broker.servers().await?;
        let leased = servers.into_iter().flat_map(|server| server.queues);
        let mut used: Vec<_> = leased.map(|(queue, _)| queue).collect();
        let subscriptions = self.broker.subscriptions().await?;
        used.extend(subscriptions.iter().map(Subscription::queue));
        let entries = self.broker.schedules().await?;
        used.extend(entries.into_iter().map(|entry| entry.template.queue));
        Ok(used)
    }

    /// One queue. An unknown queue has the figures of an empty one.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    pub async fn queue(&self, name: &Name) -> Result<QueueInfo, BrokerError> {
        let mut found = self.queues_of(std::slice::from_ref(name)).await?;
        let missing = || BrokerError::protocol("the result for a queue is missing");
        found.pop().ok_or_else(missing)
    }

    async fn queues_of(&self, names: &[Name]) -> Result<Vec<QueueInfo>, BrokerError> {
        let stats = self.broker.stats(names).await?;
        let memory = self.broker.memory(names).await?;
        let day = 24 * HourStats::MILLIS;
        let midnight = Timestamp::from_millis(self.broker.now().as_millis() / day * day);
        let history = self.broker.history(names, midnight).await?;
        let figures = names.iter().zip(stats).zip(memory).zip(history);
        let info =
            |(((name, stats), memory), history): (((&Name, _), _), Vec<HourStats>)| QueueInfo {
                name: name.clone(),
                stats,
                today: history
                    .iter()
                    .fold(HourStats::new(midnight, 0, 0), |mut sum, hour| {
                        sum.add(hour);
                        sum
                    }),
                memory,
                place: self.broker.place(name),
            };
        Ok(figures.map(info).collect())
    }

    /// How many attempts succeeded, failed and were lost in each hour of the last 90 days, oldest first.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    pub async fn history(&self, queue: &Name) -> Result<Vec<HourStats>, BrokerError> {
        let (queues, always) = (std::slice::from_ref(queue), Timestamp::default());
        let mut history = self.history_since(queues, always).await?;
        Ok(history.pop().unwrap_or_default())
    }

    /// How many attempts succeeded, failed and were lost in each hour since a time, for each queue in the order given.
    /// Oldest hour first. Hours without attempts are left out, and hours older than 90 days are not kept.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    pub async fn history_since(
        &self,
        queues: &[Name],
        since: Timestamp,
    ) -> Result<Vec<Vec<HourStats>>, BrokerError> {
        self.broker.history(queues, since).await
    }

    /// Where the storage keeps a queue, in its own terms, such as `slot 1234`. `None` if queues have no separate place.
    /// Needs no broker call.
    pub fn place(&self, queue: &Name) -> Option<String> {
        self.broker.place(queue)
    }

    /// Deletes a queue, only if it has no tasks unless `force` is set. Returns whether the queue no longer exists.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    pub async fn delete_queue(&self, queue: &Name, force: bool) -> Result<bool, BrokerError> {
        let stats = self.broker.stats(std::slice::from_ref(queue)).await?;
        let is_gone = self.broker.delete_queue(queue, force).await?;
        if is_gone {
            let on = AuditTarget::Queue(queue.clone());
            let tasks: u64 = stats.iter().flat_map(counts).sum();
            let words = format!("it had {tasks} tasks");
            let entry = AuditEntry::new(ActionKind::Delete, on).with_details(words);
            self.record([entry]).await;
        }
        Ok(is_gone)
    }

    /// The groups of a queue: up to `limit`, by the time they are due.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    pub async fn groups(&self, queue: &Name, limit: usize) -> Result<Vec<GroupInfo>, BrokerError> {
        self.broker.groups(queue, limit).await
    }
}

/// How many tasks are in each state.
fn counts(stats: &QueueStats) -> impl Iterator<Item = u64> {
    TaskState::ALL.into_iter().map(|state| stats.count(state))
}
