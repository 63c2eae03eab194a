//! Which values the headers of a list have, most frequent first.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashSet, btree_map},
};

use super::{Filter, Inspector};
use crate::{
    broker::{BrokerError, Page, TaskInfo},
    task::{Name, TaskId, TaskState},
};

/// How many tasks are read per broker call.
const CHUNK: usize = 500;

/// How many values of a header are returned.
const MOST_VALUES: usize = 20;

/// The headers of a list, or of tasks at both of its ends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HeaderUses {
    /// How many of the scanned tasks match the filter.
    pub tasks: u64,
    /// How many tasks were scanned.
    pub scanned: u64,
    /// Whether all tasks of the list were scanned.
    pub is_complete: bool,
    /// The headers, by name.
    pub headers: Vec<HeaderUse>,
}

/// The values of one header.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HeaderUse {
    /// The name of the header.
    pub name: String,
    /// How many tasks have it.
    pub tasks: u64,
    /// How many different values it has.
    pub distinct: u64,
    /// The 20 most frequent values with their number of tasks, most frequent first.
    pub values: Vec<(String, u64)>,
}

impl Inspector {
    /// Counts the values of each header in the tasks of a queue in one state that match a filter: for example, which
    /// customer enqueued most of them. Scans at most `most` tasks: of a longer list, half of them at each end, because a
    /// flood is behind the tasks that were there before. The trace context does not count as a header.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    pub async fn headers(
        &self,
        queue: &Name,
        state: TaskState,
        filter: &Filter,
        most: usize,
    ) -> Result<HeaderUses, BrokerError> {
        let stats = self.broker.stats(std::slice::from_ref(queue)).await?;
        let total: u64 = stats.iter().map(|stats| stats.count(state)).sum();
        let mut tally = Tally::default();
        if total <= most as u64 {
            let start = Page::first(CHUNK);
            let is_complete = self
                .tally(queue, state, filter, start, most, &mut tally)
                .await?;
            tally.uses.is_complete = is_complete;
        } else {
            let half = most / 2;
            for (start, most) in [(Page::first(CHUNK), most - half), (Page::last(CHUNK), half)] {
                self.tally(queue, state, filter, start, most, &mut tally)
                    .await?;
            }
        }
        let headers = tally.counts.into_iter();
        let headers = headers.filter(|(name, _)| !is_trace(name));
        tally.uses.headers = headers.map(|(name, values)| used(name, values)).collect();
        Ok(tally.uses)
    }

    /// Counts the headers of at most `most` tasks from one end of a list. Returns whether that was the complete list.
    async fn tally(
        &self,
        queue: &Name,
        state: TaskState,
        filter: &Filter,
        start: Page,
        most: usize,
        tally: &mut Tally,
    ) -> Result<bool, BrokerError> {
        let (mut left, mut next) = (most, None);
        while left > 0 {
            let mut page = start.clone().after(next.take());
            page.limit = CHUNK.min(left);
            let found = self.broker.list(queue, state, page).await?;
            left = left.saturating_sub(found.tasks.len());
            let now = self.broker.now();
            for task in &found.tasks {
                // The list may have become shorter, so that both ends have it.
                if tally.seen.insert(task.envelope.id.clone()) {
                    tally.add(task, self.matches(filter, task, now));
                }
            }
            next = found.next;
            if next.is_none() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// What was counted so far.
#[derive(Default)]
struct Tally {
    uses: HeaderUses,
    seen: HashSet<TaskId>,
    /// By name and value.
    counts: BTreeMap<String, BTreeMap<String, u64>>,
}

impl Tally {
    fn add(&mut self, task: &TaskInfo, matches: bool) {
        self.uses.scanned += 1;
        if !matches {
            return;
        }
        self.uses.tasks += 1;
        for (name, value) in task.envelope.headers.iter() {
            let values = entry(&mut self.counts, name).or_default();
            *entry(values, value).or_default() += 1;
        }
    }
}

fn entry<'m, V>(map: &'m mut BTreeMap<String, V>, key: &str) -> btree_map::Entry<'m, String, V> {
    map.entry(key.to_owned())
}

fn is_trace(name: &str) -> bool {
    matches!(name, "traceparent" | "tracestate" | "baggage")
}

fn used(name: String, values: BTreeMap<String, u64>) -> HeaderUse {
    let (tasks, distinct) = (values.values().sum(), values.len() as u64);
    let mut values: Vec<_> = values.into_iter().collect();
    // Stable, so that values that are used equally often stay sorted.
    values.sort_by_key(|(_, count)| Reverse(*count));
    values.truncate(MOST_VALUES);
    HeaderUse {
        name,
        tasks,
        distinct,
        values,
    }
}
