//! Which values the headers of a list have, most frequent first.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, btree_map},
};

use super::{Filter, Inspector};
use crate::{
    broker::{BrokerError, Page},
    task::{Name, TaskState},
};

/// How many tasks are read per broker call.
const CHUNK: usize = 500;

/// How many values of a header are returned.
const MOST_VALUES: usize = 20;

/// The headers of the first tasks of a list.
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
    /// Counts the values of each header in the first tasks of a queue in one state that match a filter: for example,
    /// which customer enqueued most of them. Scans about `most` tasks at most. The trace context does not count as a
    /// header.
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
        let mut uses = HeaderUses::default();
        let mut counts: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
        let mut next = None;
        while uses.scanned < most as u64 {
            let left = most.saturating_sub(uses.scanned as usize);
            let page = Page::first(CHUNK.min(left)).after(next.take());
            let found = self.broker.list(queue, state, page).await?;
            uses.scanned += found.tasks.len() as u64;
            let now = self.broker.now();
            let matching = found.tasks.iter();
            for task in matching.filter(|task| self.matches(filter, task, now)) {
                uses.tasks += 1;
                for (name, value) in task.envelope.headers.iter() {
                    let values = entry(&mut counts, name).or_default();
                    *entry(values, value).or_default() += 1;
                }
            }
            next = found.next;
            if next.is_none() {
                uses.is_complete = true;
                break;
            }
        }
        let headers = counts.into_iter().filter(|(name, _)| !is_trace(name));
        uses.headers = headers.map(|(name, values)| used(name, values)).collect();
        Ok(uses)
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
