//! The ends of tasks, and what remains.

use super::*;
use crate::task::TaskState;

impl Judge {
    pub(super) fn check_ends(&mut self, remains: &Remains) {
        let left: BTreeMap<_, _> = remains
            .tasks
            .iter()
            .map(|info| (info.envelope.task_ref(), info))
            .collect();
        let mut broken = Vec::new();
        for (id, story) in &self.stories {
            let found = left.get(id).map(|info| info.state);
            let is_right = match (&story.state, found) {
                (State::Completed | State::Archived | State::Gone, None) => true,
                (State::Completed, Some(state)) => state == TaskState::Completed,
                (State::Archived, Some(state)) => state == TaskState::Archived,
                (State::Gone, Some(_)) => false,
                (State::Waiting(_) | State::Active(_), _) => {
                    let what = format!("{id} did not finish: {:?}, found {found:?}", story.state);
                    broken.push(Broken::new(Promise::Kept, what));
                    true
                }
            };
            if !is_right {
                let what = format!("{id} is {found:?}: expected {:?}", story.state);
                broken.push(Broken::new(Promise::States, what));
            }
            let without_reason = left.get(id).is_some_and(|info| {
                info.state == TaskState::Archived && info.envelope.last_failure().is_none()
            });
            if without_reason && !story.is_edited {
                let what = format!("{id} is archived without a failure");
                broken.push(Broken::new(Promise::Kept, what));
            }
        }
        for (id, info) in &left {
            if info.state == TaskState::Active {
                let what = format!("{id} is still leased: {:?}", info.lease);
                broken.push(Broken::new(Promise::NothingLeft, what));
            }
            if !self.stories.contains_key(id) {
                let what = format!("{id} is {}, but was never accepted", info.state);
                broken.push(Broken::new(Promise::States, what));
            }
        }
        // If all tasks have finished, no lock can be held.
        if self.stories.values().all(Story::may_be_gone) {
            let held = remains.locks.iter();
            broken.extend(held.map(|held| Broken::new(Promise::NothingLeft, held)));
        }
        for (queue, stats) in &remains.stats {
            let expected = self.counts.get(queue).copied().unwrap_or_default();
            let found = Counts {
                succeeded: stats.succeeded,
                failed: stats.failed,
                lost: stats.lost,
            };
            if found != expected {
                let what = format!("queue {queue} counts {found:?}: expected {expected:?}");
                broken.push(Broken::new(Promise::Counted, what));
            }
        }
        self.broken.extend(broken);
    }
}
