//! The complete readable state of a broker, for comparison with another's.

use asynqueue_core::{
    broker::{Finished, Page, QueueStats, SharedBroker, TaskInfo, Version},
    task::{Name, TaskId, TaskState},
};

use super::{
    QUEUES,
    difference::{Fault, same},
    lists::complete_list,
    ties,
};

/// The state of the queues in the operations.
pub(super) struct State {
    /// The queues that have had a task.
    pub(super) used: Vec<Name>,
    pub(super) queues: Vec<QueueState>,
}

/// The state of one queue.
pub(super) struct QueueState {
    pub(super) name: Name,
    pub(super) stats: QueueStats,
    /// The list of each state.
    pub(super) lists: Vec<(TaskState, Vec<TaskInfo>)>,
    /// The outcomes that waiters of finished tasks receive, in the order of the lists.
    pub(super) ends: Vec<(TaskId, Finished)>,
}

impl State {
    pub(super) async fn of(broker: &SharedBroker) -> Result<Self, Fault> {
        let names = QUEUES.map(Name::from);
        let stats = broker.stats(&names).await?;
        same("the number of stats", &stats.len(), &names.len())?;
        let mut queues = Vec::new();
        for (name, stats) in names.into_iter().zip(stats) {
            queues.push(QueueState::of(broker, name, stats).await?);
        }
        Ok(Self {
            used: broker.queues().await?,
            queues,
        })
    }

    /// Reports where this state differs from the expected one.
    pub(super) fn compare(&self, expected: &Self) -> Result<(), Fault> {
        same("the queues that were used", &self.used, &expected.used)?;
        for (found, expected) in self.queues.iter().zip(&expected.queues) {
            found.compare(expected)?;
        }
        Ok(())
    }
}

impl QueueState {
    async fn of(broker: &SharedBroker, name: Name, stats: QueueStats) -> Result<Self, Fault> {
        let (mut lists, mut ends) = (Vec::new(), Vec::new());
        for state in TaskState::ALL {
            let mut list = complete_list(broker, &name, state, Page::first(100)).await?;
            for task in &mut list {
                // Each store has its own versions.
                task.version = Version::default();
            }
            if state == TaskState::Active {
                list.sort_by_key(|task| task.lease.as_ref().map(|lease| lease.until));
            }
            ties::sort(&mut list);
            for task in list.iter().filter(|_| state.is_final()) {
                let end = broker.finished(&task.envelope.task_ref()).await?;
                ends.push((task.envelope.id.clone(), end));
            }
            lists.push((state, list));
        }
        Ok(Self {
            name,
            stats,
            lists,
            ends,
        })
    }

    /// The tasks in a state, in the order of the list.
    pub(super) fn list(&self, state: TaskState) -> &[TaskInfo] {
        let mut lists = self.lists.iter();
        let list = lists.find(|(of, _)| *of == state);
        list.map_or(&[], |(_, list)| list)
    }

    fn compare(&self, expected: &Self) -> Result<(), Fault> {
        let name = &self.name;
        // The ids first: they show the most in the least space.
        for ((state, found), (_, expected)) in self.lists.iter().zip(&expected.lists) {
            same(
                format_args!("{name}: {state} tasks"),
                &ids(found),
                &ids(expected),
            )?;
        }
        for ((state, found), (_, expected)) in self.lists.iter().zip(&expected.lists) {
            for (found, expected) in found.iter().zip(expected) {
                let id = &found.envelope.id;
                same(format_args!("{name}/{id}, {state}"), found, expected)?;
            }
        }
        same(format_args!("{name}: stats"), &self.stats, &expected.stats)?;
        same(
            format_args!("{name}: the outcomes that waiters receive"),
            &self.ends,
            &expected.ends,
        )
    }
}

fn ids(tasks: &[TaskInfo]) -> Vec<&TaskId> {
    tasks.iter().map(|task| &task.envelope.id).collect()
}
