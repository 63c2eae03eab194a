//! Counting the tasks that match a filter, before an action on all of them.

use super::{Filter, Inspector};
use crate::{
    broker::{BrokerError, Page},
    task::{Name, TaskState},
};

/// How many tasks are read per broker call.
const CHUNK: usize = 500;

/// How many tasks of a list match a filter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Matching {
    /// How many of the scanned tasks match.
    pub found: u64,
    /// How many tasks were scanned.
    pub scanned: u64,
    /// How many tasks the queue has in the state.
    pub total: u64,
    /// Whether `found` counts all tasks. Otherwise more may match.
    pub is_complete: bool,
}

impl Inspector {
    /// Counts the tasks of a queue in one state that match a filter. Scans about `most` tasks at most. Without terms, the
    /// count is complete and nothing is scanned.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    pub async fn count(
        &self,
        queue: &Name,
        state: TaskState,
        filter: &Filter,
        most: usize,
    ) -> Result<Matching, BrokerError> {
        let stats = self.broker.stats(std::slice::from_ref(queue)).await?;
        let total = stats.iter().map(|stats| stats.count(state)).sum();
        let mut matching = Matching {
            total,
            ..Matching::default()
        };
        if filter.is_empty() {
            matching.found = total;
            matching.is_complete = true;
            return Ok(matching);
        }
        let mut next = None;
        while matching.scanned < most as u64 {
            let page = Page::first(CHUNK).after(next.take());
            let found = self.broker.list(queue, state, page).await?;
            let now = self.broker.now();
            let matches = found.tasks.iter();
            let matches = matches.filter(|task| self.matches(filter, task, now));
            matching.found += matches.count() as u64;
            matching.scanned += found.tasks.len() as u64;
            next = found.next;
            if next.is_none() {
                matching.is_complete = true;
                break;
            }
        }
        matching.total = matching.total.max(matching.scanned);
        Ok(matching)
    }
}
