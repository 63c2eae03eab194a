//! Queues: what is in them, what ended in them, and what is done to a queue as a whole.

use super::Inspector;
use crate::{
    broker::{BrokerError, GroupInfo, HourStats, QueueStats},
    task::{Name, Timestamp},
};

/// One queue.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct QueueInfo {
    /// Its name.
    pub name: Name,
    /// How many tasks are in each state, how long the next has waited, and more.
    pub stats: QueueStats,
    /// What ended since midnight, UTC; see [`Inspector::history`] for other days and other midnights.
    pub today: HourStats,
    /// About how many bytes it takes, where the storage can tell.
    pub memory: Option<u64>,
    /// Where the storage keeps it, in its own words, such as `slot 1234`.
    pub place: Option<String>,
}

impl QueueInfo {
    /// A queue with these figures, of which no more is known.
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

impl Inspector {
    /// All queues that have had a task, by name.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached, as with all that follow.
    pub async fn queues(&self) -> Result<Vec<QueueInfo>, BrokerError> {
        let names = self.broker.queues().await?;
        self.queues_of(&names).await
    }

    /// The names of all queues that have had a task, in order. One call of the broker, where [`queues`](Self::queues) makes one
    /// more for each kind of figures.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    pub async fn queue_names(&self) -> Result<Vec<Name>, BrokerError> {
        self.broker.queues().await
    }

    /// One queue; empty if it is not known.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    pub async fn queue(&self, name: &Name) -> Result<QueueInfo, BrokerError> {
        let mut found = self.queues_of(std::slice::from_ref(name)).await?;
        let missing = || BrokerError::protocol("no answer for a queue");
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
                    .fold(HourStats::default(), |sum, hour| HourStats {
                        start: midnight,
                        succeeded: sum.succeeded + hour.succeeded,
                        failed: sum.failed + hour.failed,
                    }),
                memory,
                place: self.broker.place(name),
            };
        Ok(figures.map(info).collect())
    }

    /// How many attempts succeeded and failed in each hour of the last 90 days, oldest first.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    pub async fn history(&self, queue: &Name) -> Result<Vec<HourStats>, BrokerError> {
        let (queues, always) = (std::slice::from_ref(queue), Timestamp::default());
        let mut history = self.history_since(queues, always).await?;
        Ok(history.pop().unwrap_or_default())
    }

    /// How many attempts succeeded and failed in each hour since a time, for each of these queues in the order given, the oldest
    /// hour first. Hours without any are left out; those older than 90 days are forgotten.
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

    /// Where the storage keeps a queue, in its own words, such as `slot 1234`; `None` if it has no place of its own. Computed, without a
    /// call of the broker.
    pub fn place(&self, queue: &Name) -> Option<String> {
        self.broker.place(queue)
    }

    /// Stops leasing from queues. What is leased continues.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    pub async fn pause(&self, queues: &[Name]) -> Result<(), BrokerError> {
        self.broker.set_paused(queues, true).await
    }

    /// Resumes leasing from queues.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    pub async fn resume(&self, queues: &[Name]) -> Result<(), BrokerError> {
        self.broker.set_paused(queues, false).await
    }

    /// Deletes a queue: only if it has no tasks, unless `force` is set. Tells whether it is gone.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    pub async fn delete_queue(&self, queue: &Name, force: bool) -> Result<bool, BrokerError> {
        self.broker.delete_queue(queue, force).await
    }

    /// The groups of a queue whose tasks wait to become one: no more than `limit`, those that are due first first.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    pub async fn groups(&self, queue: &Name, limit: usize) -> Result<Vec<GroupInfo>, BrokerError> {
        self.broker.groups(queue, limit).await
    }
}
