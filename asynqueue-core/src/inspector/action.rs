//! Changes to tasks on request.

use std::{collections::HashSet, sync::Arc};

use bytes::Bytes;
use serde_json::Value;

use super::{AuditEdit, Inspector};
use crate::{
    broker::{BrokerError, CancelOutcome, Conflict, Move, NewTask, Replacement, TaskInfo, When},
    task::{Envelope, Failure, FailureKind, Name, TaskRef, TaskState, cut},
};

/// What to do with tasks.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Action {
    /// Makes scheduled, retry, aggregating and archived tasks pending. An archived task gets one more attempt. If the
    /// deadline of a task has passed or it has expired, its times are shifted as if it were enqueued now.
    RunNow,
    /// Makes archived tasks pending with all their attempts again. Their failures are kept. Their times are renewed as
    /// by [`RunNow`](Self::RunNow).
    Retry,
    /// Archives waiting tasks for this reason, to run later or never.
    Archive(String),
    /// Deletes tasks that are not active.
    Delete,
    /// Archives waiting tasks for this reason, and signals running ones to stop.
    Cancel(String),
    /// Replaces the payload of waiting and archived tasks. It is encoded with their codec.
    /// [Redacted](Inspector::redact) fields whose value is `"[redacted]"` keep their value.
    EditPayload(Value),
    /// Moves waiting and archived tasks to another queue, with the same id and due time. An archived task becomes
    /// pending there, with its times renewed as by [`RunNow`](Self::RunNow).
    ///
    /// The queues may be on different servers, so moving takes two steps: the task is archived in the old queue, then
    /// enqueued in the new one and deleted from the old one. If the caller dies in between, the task stays archived
    /// with a reason that says so: move it again. No task runs twice or is lost.
    MoveTo(Name),
}

/// The result of an action for one task. Exhaustive: new reasons are text in `Refused`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ActionOutcome {
    /// The action was done.
    Done,
    /// The task does not exist.
    NotFound,
    /// The action was refused for this reason.
    Refused(String),
}

/// How many tasks are changed per call.
pub(super) const CHUNK: usize = 200;

impl Inspector {
    /// Applies an action to tasks, in chunks. The results are in the order given.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached: the action may have been done for some tasks. Repeating it is safe.
    pub async fn apply(
        &self,
        action: &Action,
        tasks: &[TaskRef],
    ) -> Result<Vec<ActionOutcome>, BrokerError> {
        let mut outcomes = Vec::with_capacity(tasks.len());
        let mut edits = Vec::new();
        for chunk in tasks.chunks(CHUNK) {
            let applied = self.apply_chunk(action, chunk, &mut edits).await;
            let failed = applied.map(|applied| outcomes.extend(applied)).err();
            if let Some(error) = failed {
                self.record_applied(action, tasks, &outcomes, edits, Some(&error))
                    .await;
                return Err(error);
            }
        }
        self.record_applied(action, tasks, &outcomes, edits, None)
            .await;
        Ok(outcomes)
    }

    /// Applies an action, and adds the edits that it made. It is not recorded.
    pub(super) async fn apply_chunk(
        &self,
        action: &Action,
        tasks: &[TaskRef],
        edits: &mut Vec<(TaskRef, AuditEdit)>,
    ) -> Result<Vec<ActionOutcome>, BrokerError> {
        let done = |refusal: &'static str| {
            move |is_done| match is_done {
                true => ActionOutcome::Done,
                false => ActionOutcome::Refused(refusal.into()),
            }
        };
        Ok(match action {
            Action::RunNow => {
                let runs = self.broker.run_now(tasks).await?.into_iter();
                let refusal =
                    "it is active, completed or deleted, or another task holds its unique lock";
                runs.map(done(refusal)).collect()
            }
            Action::Delete => {
                let gone = self.broker.delete(tasks).await?.into_iter();
                gone.map(done("it is active: cancel it first")).collect()
            }
            Action::Cancel(reason) => {
                let outcomes = self.broker.cancel(tasks, &self.reason(reason)).await?;
                outcomes.into_iter().map(cancelled).collect()
            }
            Action::MoveTo(queue) => self.move_all(tasks, queue).await?,
            Action::Retry | Action::Archive(_) | Action::EditPayload(_) => {
                let change = |task: &TaskInfo| self.change(action, task);
                let edited = |replaced: &Replacement| self.edited(action, replaced, edits);
                self.replace_all(tasks, change, edited).await?
            }
        })
    }

    /// A reason with the name of the acting user.
    fn reason(&self, reason: &str) -> String {
        let mut reason = match self.actor() {
            Some(actor) => format!("by {}: {reason}", actor.name),
            None => reason.to_owned(),
        };
        cut(&mut reason, Failure::MAX_MESSAGE);
        reason
    }

    /// The replacement for a task, or why it cannot be replaced.
    fn change(&self, action: &Action, task: &TaskInfo) -> Result<Replacement, String> {
        let mut envelope = Envelope::clone(&task.envelope);
        let to = match action {
            Action::Retry if task.state != TaskState::Archived => {
                return Err(format!(
                    "it is {}: only archived tasks can be retried",
                    task.state
                ));
            }
            Action::Retry => {
                envelope.attempts = 0;
                Some(Move::Pending)
            }
            Action::Archive(_) if task.state == TaskState::Archived => {
                return Err("it is already archived".into());
            }
            Action::Archive(reason) => {
                envelope.push_failure(self.shelved(task, reason));
                Some(Move::Archived)
            }
            Action::EditPayload(value) => {
                let bytes = self.viewer.edit(&envelope.codec, &envelope.payload, value);
                let bytes =
                    bytes.map_err(|error| format!("could not encode the payload: {error}"))?;
                envelope.payload = Bytes::from(bytes);
                None
            }
            _ => None,
        };
        Ok(Replacement {
            seen: task.clone(),
            envelope: Arc::new(envelope),
            to,
        })
    }

    fn shelved(&self, task: &TaskInfo, reason: &str) -> Failure {
        Failure {
            attempt: task.envelope.attempts,
            started: None,
            at: self.broker.now(),
            kind: FailureKind::Shelved,
            message: self.reason(reason),
            backtrace: None,
            worker: None,
        }
    }

    /// Replaces tasks with the results of `change`, and tries again for tasks that have changed in between.
    async fn replace_all(
        &self,
        tasks: &[TaskRef],
        change: impl Fn(&TaskInfo) -> Result<Replacement, String> + Send,
        mut done: impl FnMut(&Replacement) + Send,
    ) -> Result<Vec<ActionOutcome>, BrokerError> {
        let mut outcomes = vec![None; tasks.len()];
        for _ in 0..TRIES {
            let open: Vec<_> = (0..tasks.len())
                .filter(|at| outcomes[*at].is_none())
                .collect();
            let refs: Vec<_> = open.iter().map(|at| tasks[*at].clone()).collect();
            let (mut changes, mut places) = (Vec::new(), Vec::new());
            for (at, found) in open.into_iter().zip(self.broker.tasks(&refs).await?) {
                match found.ok_or(ActionOutcome::NotFound).and_then(|task| {
                    may_change(&task)
                        .and_then(|()| change(&task))
                        .map_err(ActionOutcome::Refused)
                }) {
                    Ok(change) => {
                        places.push(at);
                        changes.push(change);
                    }
                    Err(outcome) => outcomes[at] = Some(outcome),
                }
            }
            if changes.is_empty() {
                break;
            }
            let replaced = self.broker.replace(changes.clone()).await?;
            for ((at, change), is_done) in places.into_iter().zip(changes).zip(replaced) {
                if is_done {
                    outcomes[at] = Some(ActionOutcome::Done);
                    done(&change);
                }
            }
        }
        let refused = || {
            let reason = "it keeps changing, or another task holds its unique lock";
            ActionOutcome::Refused(reason.into())
        };
        Ok(outcomes
            .into_iter()
            .map(|outcome| outcome.unwrap_or_else(refused))
            .collect())
    }

    async fn move_all(
        &self,
        tasks: &[TaskRef],
        target: &Name,
    ) -> Result<Vec<ActionOutcome>, BrokerError> {
        if let Err(error) = target.check_queue() {
            let refused = ActionOutcome::Refused(error.to_string());
            return Ok(vec![refused; tasks.len()]);
        }
        let found = self.broker.tasks(tasks).await?;
        // One by one: each task is briefly in two queues, and a crash should leave one of them behind, not hundreds.
        let mut outcomes = Vec::with_capacity(tasks.len());
        let mut seen = HashSet::new();
        for (task, found) in tasks.iter().zip(found) {
            outcomes.push(match found {
                Some(found) if seen.insert(task) => self.move_one(&found, target).await?,
                _ => ActionOutcome::NotFound,
            });
        }
        Ok(outcomes)
    }

    async fn move_one(&self, task: &TaskInfo, target: &Name) -> Result<ActionOutcome, BrokerError> {
        let refused = |reason: String| Ok(ActionOutcome::Refused(reason));
        if let Err(reason) = may_change(task) {
            return refused(reason);
        }
        if task.envelope.queue == *target {
            return refused(format!("it is already in queue `{target}`"));
        }
        let moving =
            format!("being moved to queue `{target}`; if the task stays here, move it again");
        let shelved = self.shelved(task, &moving);
        let mut archived = Envelope::clone(&task.envelope);
        archived.push_failure(shelved);
        let archived = Arc::new(archived);
        let away = Replacement {
            seen: task.clone(),
            envelope: Arc::clone(&archived),
            to: Some(Move::Archived),
        };
        if self.broker.replace(vec![away]).await? != [true] {
            return refused("it has changed in between".into());
        }
        match self.enqueue_in(task, target).await? {
            Ok(()) => {
                self.broker.delete(&[task.envelope.task_ref()]).await?;
                Ok(ActionOutcome::Done)
            }
            Err(conflict) => {
                self.put_back(task, archived).await?;
                refused(conflict.to_string())
            }
        }
    }

    /// Enqueues a task unchanged, in another queue.
    async fn enqueue_in(
        &self,
        task: &TaskInfo,
        target: &Name,
    ) -> Result<Result<(), Conflict>, BrokerError> {
        let mut envelope = Envelope::clone(&task.envelope);
        envelope.queue = target.clone();
        let when = match task.at {
            Some(at) if matches!(task.state, TaskState::Scheduled | TaskState::Retry) => {
                When::At(at)
            }
            _ => When::Now,
        };
        if task.state == TaskState::Archived {
            envelope.attempts = 0;
            envelope = envelope.renewed(self.broker.now()).unwrap_or(envelope);
        }
        // If an earlier call enqueued it and its response was lost, it already exists, which is just as good.
        let mut results = self
            .broker
            .enqueue(vec![NewTask::new(envelope, when)])
            .await?;
        Ok(results.pop().unwrap_or(Ok(())))
    }

    /// Restores a task, unless the copy that was archived for the move has changed since.
    async fn put_back(&self, task: &TaskInfo, archived: Arc<Envelope>) -> Result<(), BrokerError> {
        let found = self.task(&archived.task_ref()).await?;
        let Some(seen) = found.filter(|found| found.envelope == archived) else {
            return Ok(());
        };
        let to = match (task.state, task.at) {
            (TaskState::Archived, _) => None,
            (TaskState::Scheduled | TaskState::Retry, Some(at)) => Some(Move::Scheduled(at)),
            _ => Some(Move::Pending),
        };
        let back = Replacement {
            seen,
            envelope: Arc::clone(&task.envelope),
            to,
        };
        self.broker.replace(vec![back]).await.map(drop)
    }
}

/// How often to try to change a task that keeps changing.
const TRIES: usize = 3;

fn may_change(task: &TaskInfo) -> Result<(), String> {
    match task.state {
        TaskState::Active => Err("it is active: cancel it first".into()),
        TaskState::Completed => Err("it is completed".into()),
        _ => Ok(()),
    }
}

fn cancelled(outcome: CancelOutcome) -> ActionOutcome {
    match outcome {
        CancelOutcome::Cancelled | CancelOutcome::Requested => ActionOutcome::Done,
        CancelOutcome::AlreadyFinished => ActionOutcome::Refused("it has already finished".into()),
        CancelOutcome::NotFound => ActionOutcome::NotFound,
    }
}
