//! Checks that each task has exactly one end with a valid reason, and is counted once.

use asynqueue_core::task::FailureKind;

use super::{Checker, Promise};
use crate::chaos::{
    history::{Act, Answer, Task, kind_of},
    load::{Kind, SUBSCRIBERS},
    rest::Archived,
};

impl Checker<'_> {
    /// Each task has one end, and the counters match.
    pub(super) fn check_ends(&mut self) {
        let (mut succeeded, mut unsuccessful, mut may_be_more) = (0, 0, 0);
        for (key, task) in &self.history.tasks {
            let kind = kind_of(key);
            if let Some(archived) = self.rest.archived.get(key) {
                self.figures.archived += 1;
                unsuccessful += archived.attempts;
                if kind == Kind::Moved && task.has_run() {
                    // Its move was interrupted before the last step: it ran in the other queue.
                    succeeded += 1;
                    unsuccessful += task.last_attempt() - 1;
                }
                self.check_archived(key, task, archived);
                continue;
            }
            if kind == Kind::Deleted
                && task.acts.iter().any(|act| act.may_be("done"))
                && !task.has_run()
            {
                self.figures.deleted += 1;
                may_be_more += task.last_attempt();
            } else if task.has_run() {
                self.figures.completed += 1;
                succeeded += 1;
                unsuccessful += task.last_attempt() - 1;
            } else if kind == Kind::News && !key.contains('/') {
                self.check_news(key, task);
            } else if kind != Kind::Member
                && (task.answer == Answer::Accepted || !task.runs.is_empty())
            {
                self.broken(Promise::Lost, format!("{key}: {task:?}"));
            }
        }
        let found = (self.rest.succeeded, self.rest.unsuccessful);
        if found.0 != succeeded {
            let what = format!(
                "{} succeeded, but {succeeded} according to the journals",
                found.0
            );
            self.broken(Promise::Counters, what);
        }
        if !(unsuccessful..=unsuccessful + may_be_more).contains(&found.1) {
            let what = format!(
                "{} failed or were lost, but {unsuccessful} to {} according to the journals",
                found.1,
                unsuccessful + may_be_more
            );
            self.broken(Promise::Counters, what);
        }
        if self.rest.repaired > 0 {
            let what = format!("{} entries were repaired", self.rest.repaired);
            self.broken(Promise::Counters, what);
        }
    }

    /// An event reaches all subscribers, or none if it is unknown whether it was accepted.
    fn check_news(&mut self, key: &str, task: &Task) {
        let mut reached = Vec::new();
        for name in SUBSCRIBERS {
            let of = format!("{key}/{name}@news");
            if self.history.tasks.contains_key(&of) || self.rest.archived.contains_key(&of) {
                reached.push(name);
            }
        }
        let is_right = match task.answer {
            Answer::Accepted => reached.len() == SUBSCRIBERS.len(),
            _ => reached.is_empty() || reached.len() == SUBSCRIBERS.len(),
        };
        if !is_right {
            self.broken(
                Promise::Lost,
                format!("{key} reached {reached:?}: {task:?}"),
            );
        }
    }

    /// Whether the archived task has a valid reason.
    fn check_archived(&mut self, key: &str, task: &Task, archived: &Archived) {
        let act = |is: &dyn Fn(&Act) -> bool| task.acts.iter().any(is);
        let is_right = match (kind_of(key), archived.kind) {
            (Kind::Cancelled, Some(FailureKind::Cancelled)) => act(&|act| {
                act.may_be("cancelled") || act.may_be("requested") || act.may_be("finished")
            }),
            (Kind::GivesUp, Some(FailureKind::Error)) => true,
            // Its only attempt was lost with its worker.
            (Kind::Once, Some(FailureKind::LeaseExpired)) => self
                .history
                .troubles
                .anyone_may_have_lost(task.since(), archived.at),
            // The operator was killed or disconnected in between, which leaves the task in the archive.
            (Kind::Moved, Some(FailureKind::Shelved))
                if archived.message.contains("being moved") =>
            {
                act(&|act| act.may_be("unsure"))
            }
            _ => false,
        };
        if !is_right {
            let promise = match archived.kind {
                Some(FailureKind::LeaseExpired) => Promise::Unstarted,
                _ => Promise::Lost,
            };
            self.broken(
                promise,
                format!("{key} was archived: {archived:?}; {task:?}"),
            );
        }
    }
}
