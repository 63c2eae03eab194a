//! Problems that need an operator's attention: one file for each kind of cause.
//!
//! Each file turns [`Figures`] into [`Concern`]s with a weight, and the list is sorted by weight. The weight is the number
//! of tasks that the problem concerns now, so that problems of different kinds compare. Everything is computed from the
//! current state and from the last [`SPAN`]: a problem is listed while it lasts, and clears by itself.
//!
//! | file | problems |
//! |---|---|
//! | `failing.rs` | causes of failures, queues that fail for many causes, attempts that were lost |
//! | `served.rs` | tasks that nobody runs: no server, no server for a queue or an event |
//! | `waiting.rs` | paused queues with tasks, limits that hold tasks back, slow queues, growing backlogs |
//! | `archive.rs` | archives that were trimmed, or are nearly full |
//! | `servers.rs` | lost servers, abandoned handlers |
//! | `outboxes.rs` | outboxes that are not relayed |

mod archive;
mod failing;
mod outboxes;
mod served;
mod servers;
#[cfg(test)]
mod tests;
mod waiting;

use std::{cmp::Reverse, collections::BTreeMap, time::Duration};

use asynqueue_core::{
    broker::{OutboxInfo, Pause, ServerInfo},
    failure::{Failures, Fingerprint},
    inspector::{Filter, QueueInfo},
    task::{Name, TaskState, Timestamp},
};

use super::links::{Links, encoded};

/// The span that failures, archived tasks and lost servers are reported of.
pub(super) const SPAN: Duration = Duration::from_secs(15 * 60);

/// What the problems are computed from.
#[derive(Clone, Copy)]
pub(super) struct Figures<'a> {
    pub(super) queues: &'a [QueueInfo],
    pub(super) servers: &'a [ServerInfo],
    pub(super) outboxes: &'a [OutboxInfo],
    /// The failures of the last [`SPAN`].
    pub(super) failures: &'a Failures,
    /// Who paused the paused queues, if it was recorded.
    pub(super) pauses: &'a BTreeMap<Name, Pause>,
    /// The queues whose backlog keeps growing.
    pub(super) growing: &'a [Name],
    pub(super) now: Timestamp,
}

/// A problem that an operator should look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Concern {
    /// Its kind, as the API names it.
    pub(super) kind: &'static str,
    /// What it is about, such as a queue or an event. With the kind, it identifies the problem while its numbers
    /// change.
    pub(super) about: String,
    /// Problems with a higher weight are listed first.
    pub(super) weight: u64,
    /// The number of tasks, servers or handlers concerned.
    pub(super) count: u64,
    /// The affected queue, if there is exactly one.
    pub(super) queue: Option<Name>,
    /// The cause of the failures, if the problem is one.
    pub(super) cause: Option<Fingerprint>,
    /// Where the problem is shown and fixed.
    pub(super) place: Place,
    /// The lesser problems that have no entry, because they share this one.
    pub(super) covers: Vec<Key>,
    /// The sentence after the name of what it is about.
    pub(super) text: String,
}

/// What identifies a problem while its numbers change: its kind, and what it is about.
pub(super) type Key = (&'static str, String);

/// The page of a problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// The tasks of a queue in a state that match a filter: exactly the tasks concerned.
    Tasks {
        queue: Name,
        state: TaskState,
        filter: Box<Filter>,
    },
    /// A cause of failures that is in several queues.
    Cause(Fingerprint),
    Servers,
    Outboxes,
}

/// All problems, by weight.
pub(super) fn concerns(figures: &Figures<'_>) -> Vec<Concern> {
    let mut all = Vec::new();
    failing::add(figures, &mut all);
    served::add(figures, &mut all);
    waiting::add(figures, &mut all);
    archive::add(figures, &mut all);
    servers::add(figures, &mut all);
    outboxes::add(figures, &mut all);
    all.sort_by_key(|concern| Reverse(concern.weight));
    all
}

impl Concern {
    /// A problem with all tasks of a queue in a state.
    fn of_queue(kind: &'static str, queue: &Name, state: TaskState, text: String) -> Self {
        Self {
            kind,
            about: queue.to_string(),
            weight: 0,
            count: 0,
            queue: Some(queue.clone()),
            cause: None,
            place: Place::Tasks {
                queue: queue.clone(),
                state,
                filter: Box::default(),
            },
            covers: Vec::new(),
            text,
        }
    }

    /// Sets the number of tasks and the weight.
    fn weighing(mut self, count: u64, weight: u64) -> Self {
        (self.count, self.weight) = (count, weight);
        self
    }

    /// What the problem is about, as the text of a link.
    pub(super) fn title(&self) -> &str {
        match &self.place {
            Place::Tasks { queue, .. } => queue,
            Place::Cause(_) => "Failures",
            Place::Servers => "Servers",
            Place::Outboxes => "Outboxes",
        }
    }

    /// Identifies the problem. It stays the same while only numbers change.
    pub(super) fn key(&self) -> (&'static str, &str) {
        (self.kind, &self.about)
    }

    /// The same, to keep.
    pub(super) fn owned_key(&self) -> Key {
        (self.kind, self.about.clone())
    }

    /// Whether a problem is this one.
    pub(super) fn is(&self, (kind, about): &Key) -> bool {
        self.key() == (*kind, about.as_str())
    }

    /// The tasks concerned, if the problem is about tasks of one queue.
    pub(super) fn tasks(&self) -> Option<(&Name, TaskState, &Filter)> {
        match &self.place {
            Place::Tasks {
                queue,
                state,
                filter,
            } => Some((queue, *state, filter)),
            _ => None,
        }
    }
}

impl Place {
    /// The URL of the page.
    pub(super) fn url(&self, links: &Links) -> String {
        match self {
            Self::Tasks {
                queue,
                state,
                filter,
            } => {
                let list = links.state(queue, *state);
                match filter.is_empty() {
                    true => list,
                    false => format!("{list}&filter={}", encoded(&filter.to_string())),
                }
            }
            Self::Cause(cause) => links.page(&format!("failures/{cause}")),
            Self::Servers => links.page("servers"),
            Self::Outboxes => links.page("outboxes"),
        }
    }
}

impl Figures<'_> {
    /// The servers that have not been lost.
    fn running(&self) -> impl Iterator<Item = &ServerInfo> {
        self.servers
            .iter()
            .filter(|server| !server.is_lost(self.now))
    }

    /// The running servers that take tasks from a queue.
    fn takers<'s>(&'s self, queue: &Name) -> impl Iterator<Item = &'s ServerInfo> {
        self.running()
            .filter(move |server| server.queues.iter().any(|(name, _)| name == queue))
    }

    /// The tasks of a queue that wait for a server now.
    fn pending(queue: &QueueInfo) -> u64 {
        queue.stats.count(TaskState::Pending)
    }
}

/// `1 task`, `2 tasks`.
fn tasks(count: u64) -> String {
    let noun = if count == 1 { "task" } else { "tasks" };
    format!("{} {noun}", super::show::number(count))
}
