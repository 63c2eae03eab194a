//! Changes to tasks that people ask for.

use std::{collections::HashSet, sync::Arc};

use bytes::Bytes;
use serde_json::Value;

use super::Inspector;
use crate::{
    broker::{BrokerError, CancelOutcome, Conflict, Move, NewTask, Replacement, TaskInfo, When},
    task::{Envelope, Failure, FailureKind, Name, TaskRef, TaskState, cut},
};

/// What to do with tasks.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Action {
    /// Scheduled, retry, aggregating and archived tasks become pending. An archived one has one attempt more. The times of one
    /// whose deadline has passed, or which has expired, lie as far ahead as they did when it was enqueued.
    RunNow,
    /// Archived tasks become pending with all their attempts before them again; their failures are kept. Their times are renewed
    /// as by [`RunNow`](Self::RunNow).
    Retry,
    /// Waiting tasks are put away with this reason, to be run later or not at all.
    Archive(String),
    /// Tasks that are not active are deleted.
    Delete,
    /// Waiting tasks are archived with this reason, and running ones asked to stop.
    Cancel(String),
    /// Waiting and archived tasks get this payload, encoded in their codec. Fields that are
    /// [redacted](Inspector::redact) keep their values where `"[redacted]"` stands for them.
    EditPayload(Value),
    /// Waiting and archived tasks go to another queue, under the same id and with the time that they wait for. One that was
    /// archived is to run there, with its times renewed as by [`RunNow`](Self::RunNow).
    ///
    /// The queues may be on different servers, so it takes two steps: a task is archived where it is, then enqueued where
    /// it goes to and deleted where it was. Whoever dies in between leaves it archived with a reason that says so: do it
    /// again then. No task runs twice, and none is lost.
    MoveTo(Name),
}

/// What came of an action on one task. There will be no fourth: a new reason is a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ActionOutcome {
    /// It was done.
    Done,
    /// There is no such task.
    NotFound,
    /// It was not, for this reason.
    Refused(String),
}

/// How many tasks are changed at a time.
pub(super) const CHUNK: usize = 200;

impl Inspector {
    /// Does something with tasks, in bounded chunks. Answers each in the order given.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached: some of it may have been done. Doing it again is safe.
    pub async fn apply(
        &self,
        action: &Action,
        tasks: &[TaskRef],
    ) -> Result<Vec<ActionOutcome>, BrokerError> {
        let mut outcomes = Vec::with_capacity(tasks.len());
        for chunk in tasks.chunks(CHUNK) {
            outcomes.extend(self.apply_chunk(action, chunk).await?);
        }
        Ok(outcomes)
    }

    async fn apply_chunk(
        &self,
        action: &Action,
        tasks: &[TaskRef],
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
                    "it is active, completed or not there, or its unique lock is another's by now";
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
                self.replace_all(tasks, change).await?
            }
        })
    }

    /// A reason, with who gives it.
    fn reason(&self, reason: &str) -> String {
        let mut reason = match &self.user {
            Some(user) => format!("by {user}: {reason}"),
            None => reason.to_owned(),
        };
        cut(&mut reason, Failure::MAX_MESSAGE);
        reason
    }

    /// What takes the place of a task, or why nothing does.
    fn change(&self, action: &Action, task: &TaskInfo) -> Result<Replacement, String> {
        let mut envelope = Envelope::clone(&task.envelope);
        let to = match action {
            Action::Retry if task.state != TaskState::Archived => {
                return Err(format!(
                    "it is {}: only archived tasks are retried",
                    task.state
                ));
            }
            Action::Retry => {
                envelope.attempts = 0;
                Some(Move::Pending)
            }
            Action::Archive(_) if task.state == TaskState::Archived => {
                return Err("it is archived already".into());
            }
            Action::Archive(reason) => {
                envelope.push_failure(self.shelved(task, reason));
                Some(Move::Archived)
            }
            Action::EditPayload(value) => {
                let bytes = self.viewer.edit(&envelope.codec, &envelope.payload, value);
                let bytes =
                    bytes.map_err(|error| format!("the payload cannot be encoded: {error}"))?;
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

    /// Replaces tasks by what `change` makes of them as they are; once more where one has changed meanwhile.
    async fn replace_all(
        &self,
        tasks: &[TaskRef],
        change: impl Fn(&TaskInfo) -> Result<Replacement, String> + Send,
    ) -> Result<Vec<ActionOutcome>, BrokerError> {
        let mut outcomes = vec![None; tasks.len()];
        for _ in 0..TRIES {
            let open: Vec<_> = (0..tasks.len())
                .filter(|at| outcomes[*at].is_none())
                .collect();
            let asked: Vec<_> = open.iter().map(|at| tasks[*at].clone()).collect();
            let (mut changes, mut places) = (Vec::new(), Vec::new());
            for (at, found) in open.into_iter().zip(self.broker.tasks(&asked).await?) {
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
            for (at, is_done) in places.into_iter().zip(self.broker.replace(changes).await?) {
                if is_done {
                    outcomes[at] = Some(ActionOutcome::Done);
                }
            }
        }
        let refused = || {
            let reason = "it keeps changing, or its unique lock is another's by now";
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
        // One by one: each is in two places for a moment, and a crash should leave one behind, not hundreds.
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
            return refused(format!("it is in `{target}` already"));
        }
        let moving = format!("being moved to queue `{target}`; move it again if it stays here");
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
            return refused("it has changed meanwhile".into());
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

    /// Enqueues a task as it was, in another queue.
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
        // One that was enqueued by a call whose answer was lost is there already, and as good as enqueued now.
        let mut answers = self
            .broker
            .enqueue(vec![NewTask::new(envelope, when)])
            .await?;
        Ok(answers.pop().unwrap_or(Ok(())))
    }

    /// Puts a task back as it was, unless the one that was archived for the move has been changed since.
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

/// How often a task is looked at that changes all the time.
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
        CancelOutcome::AlreadyFinished => ActionOutcome::Refused("it has come to its end".into()),
        CancelOutcome::NotFound => ActionOutcome::NotFound,
    }
}
