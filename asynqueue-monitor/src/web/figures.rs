//! The figures of queues: the columns of the overview, and the totals of all queues.

use asynqueue_core::{inspector::QueueInfo, task::TaskState};

use super::show;

/// A figure: its label, its key in live updates and URLs, and its value.
pub(super) type Figure = (&'static str, &'static str, fn(&QueueInfo) -> u64);

/// A column for each state, followed by the others. A day is one in UTC for every viewer, because all share the figures.
pub(super) const COLUMNS: [Figure; STATES + 4] = [
    ("Pending", "pending", |queue| {
        queue.stats.count(TaskState::Pending)
    }),
    ("Active", "active", |queue| {
        queue.stats.count(TaskState::Active)
    }),
    ("Scheduled", "scheduled", |queue| {
        queue.stats.count(TaskState::Scheduled)
    }),
    ("Retry", "retry", |queue| {
        queue.stats.count(TaskState::Retry)
    }),
    ("Aggregating", "aggregating", |queue| {
        queue.stats.count(TaskState::Aggregating)
    }),
    ("Archived", "archived", |queue| {
        queue.stats.count(TaskState::Archived)
    }),
    ("Completed", "completed", |queue| {
        queue.stats.count(TaskState::Completed)
    }),
    ("Latency", "latency", |queue| {
        queue.stats.latency.as_millis() as u64
    }),
    ("Succeeded today (UTC)", "succeeded", |queue| {
        queue.today.succeeded
    }),
    ("Failed today (UTC)", "failed", |queue| queue.today.failed),
    ("Memory", "memory", |queue| queue.memory.unwrap_or_default()),
];

/// The number of columns that are states.
pub(super) const STATES: usize = TaskState::ALL.len();

/// The totals of all queues. Servers report running tasks, so there is no total for them.
pub(super) const TOTALS: [Figure; 6] = [
    ("Pending", "pending", |queue| {
        queue.stats.count(TaskState::Pending)
    }),
    ("Due later", "later", |queue| {
        let states = [
            TaskState::Scheduled,
            TaskState::Retry,
            TaskState::Aggregating,
        ];
        states.iter().map(|state| queue.stats.count(*state)).sum()
    }),
    ("Archived", "archived", |queue| {
        queue.stats.count(TaskState::Archived)
    }),
    ("Completed", "completed", |queue| {
        queue.stats.count(TaskState::Completed)
    }),
    ("Succeeded today (UTC)", "succeeded", |queue| {
        queue.today.succeeded
    }),
    ("Failed today (UTC)", "failed", |queue| queue.today.failed),
];

/// The sum of a figure over all queues.
pub(super) fn total(figure: fn(&QueueInfo) -> u64, queues: &[QueueInfo]) -> u64 {
    queues.iter().map(figure).sum()
}

/// The lost attempts beside the failed ones, such as ` · 3 lost`. Empty if there are none.
pub(super) fn lost(attempts: u64) -> String {
    match attempts {
        0 => String::new(),
        attempts => format!(" · {} lost", show::number(attempts)),
    }
}

#[cfg(test)]
mod tests {
    use asynqueue_core::broker::{HourStats, QueueStats};

    use super::*;

    #[test]
    fn each_state_has_a_column_and_counts_in_one_total() {
        for state in TaskState::ALL {
            let mut stats = QueueStats::default();
            stats.counts.insert(state, 1);
            let queue = QueueInfo::new("mail".into(), stats, HourStats::default());
            let counted = |figures: &[Figure]| {
                let counted = figures.iter().filter(|(_, _, figure)| figure(&queue) == 1);
                counted.map(|(_, key, _)| *key).collect::<Vec<_>>()
            };
            assert_eq!(counted(&COLUMNS[..STATES]), [state.as_str()]);
            let expected = usize::from(state != TaskState::Active);
            assert_eq!(counted(&TOTALS).len(), expected, "{state}");
        }
    }
}
