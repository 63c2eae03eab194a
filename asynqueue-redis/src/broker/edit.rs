//! Changes to single tasks on demand: cancel, delete, run now.
//!
//! A task is looked up, and changed only if it still is as it was seen: so a script need not read envelopes, and the
//! change is made in one step all the same.

use std::{borrow::Cow, collections::HashSet};

use asynqueue_core::{
    Broker, BrokerError, CancelOutcome, Envelope, Move, Name, Replacement, TaskRef, TaskState,
    Timestamp, UniqueUntil,
};
use redis::Value;

use super::{
    MAX_CHUNK_BYTES, MAX_MILLIS, RedisBroker, inspect::Found, millis, queue::Queue,
    settle::cancelled,
};
use crate::{reply, script};

/// The most tasks to change in one call: each takes several commands.
const MAX_CHUNK: usize = 200;

/// What to do with a task.
#[derive(Clone, Copy)]
enum Edit<'a> {
    Cancel(&'a str),
    Delete,
    RunNow,
    /// Puts this in its place, and moves it there.
    Replace(&'a Envelope, Option<Move>),
}

impl Edit<'_> {
    /// What its script calls it.
    fn name(self) -> Cow<'static, str> {
        match self {
            Self::Cancel(_) => "cancel".into(),
            Self::Delete => "delete".into(),
            Self::RunNow => "run".into(),
            Self::Replace(_, None) => "put".into(),
            Self::Replace(_, Some(Move::Pending)) => "pend".into(),
            Self::Replace(_, Some(Move::Archived)) => "shelve".into(),
            Self::Replace(_, Some(Move::Scheduled(at))) => {
                at.as_millis().min(MAX_MILLIS).to_string().into()
            }
        }
    }
}

impl RedisBroker {
    pub(super) async fn cancel_all(
        &self,
        tasks: &[TaskRef],
        reason: &str,
    ) -> Result<Vec<CancelOutcome>, BrokerError> {
        let edited = self.edit_all(tasks, Edit::Cancel(reason)).await?;
        let outcome = |edited| match edited {
            Edited::Missing => CancelOutcome::NotFound,
            Edited::Not | Edited::Pointless => CancelOutcome::AlreadyFinished,
            Edited::Done(TaskState::Active) => CancelOutcome::Requested,
            Edited::Done(_) => CancelOutcome::Cancelled,
        };
        Ok(edited.into_iter().map(outcome).collect())
    }

    pub(super) async fn delete_all(&self, tasks: &[TaskRef]) -> Result<Vec<bool>, BrokerError> {
        let edited = self.edit_all(tasks, Edit::Delete).await?;
        let is_gone = |edited| matches!(edited, Edited::Done(_) | Edited::Missing);
        Ok(edited.into_iter().map(is_gone).collect())
    }

    pub(super) async fn run_all(&self, tasks: &[TaskRef]) -> Result<Vec<bool>, BrokerError> {
        let edited = self.edit_all(tasks, Edit::RunNow).await?;
        let runs = |edited| matches!(edited, Edited::Done(_) | Edited::Pointless);
        Ok(edited.into_iter().map(runs).collect())
    }

    pub(super) async fn replace_all(
        &self,
        changes: Vec<Replacement>,
    ) -> Result<Vec<bool>, BrokerError> {
        self.each_queue(
            changes,
            |change: &Replacement| &change.seen.queue,
            |queue, changes| async move {
                let mut replaced = Vec::with_capacity(changes.len());
                for chunk in changes.chunks(MAX_CHUNK) {
                    replaced.extend(self.replace_chunk(&queue, chunk).await?);
                }
                Ok(replaced)
            },
        )
        .await
    }

    async fn replace_chunk(
        &self,
        queue: &Queue,
        changes: &[Replacement],
    ) -> Result<Vec<bool>, BrokerError> {
        let ids: Vec<_> = changes
            .iter()
            .map(|change| change.seen.id.clone())
            .collect();
        let mut asked = Vec::new();
        for (place, found) in self.look(queue, &ids).await?.into_iter().enumerate() {
            let change = &changes[place];
            let may_change = !matches!(change.state, TaskState::Active | TaskState::Completed);
            let as_seen = found.filter(|found| {
                may_change && found.state == change.state && found.envelope == change.seen
            });
            if let Some(found) = as_seen {
                asked.push((place, found, Edit::Replace(&change.envelope, change.to)));
            }
        }
        let mut replaced = vec![false; changes.len()];
        for (place, answer) in self.send_edits(queue, &asked).await? {
            replaced[place] = answer == 'y';
        }
        Ok(replaced)
    }

    pub(super) async fn delete_whole(&self, name: &Name, force: bool) -> Result<bool, BrokerError> {
        let queue = self.queue(name);
        let keys = &queue.keys;
        let [tasks, waiters, others @ ..] = keys.all();
        let keys = script::delete_queue::Keys {
            tasks,
            waiters,
            done: &keys.done,
            deleted: &keys.deleted,
            others: &others,
        };
        let lane = queue.changes.next();
        let args = script::delete_queue::Args {
            not_after: self.script_clock(),
            lane: lane.name(),
            number: lane.number(),
            publish: self.link().publish_command(),
            force: if force { "y" } else { "" },
            millis: millis(self.0.retry_for.saturating_mul(2)).max(1_000),
        };
        let call = script::delete_queue::call(keys, args);
        let is_deleted = call.send(self.link()).await? == Value::Int(1);
        lane.answered();
        if !is_deleted {
            return Ok(false);
        }
        (*queue.listed.lock(), *queue.named.lock()) = (None, None);
        self.set_listed(name, false).await?;
        Ok(true)
    }

    async fn edit_all(
        &self,
        tasks: &[TaskRef],
        edit: Edit<'_>,
    ) -> Result<Vec<Edited>, BrokerError> {
        let tasks = tasks.iter().collect();
        self.each_queue(
            tasks,
            |task: &&TaskRef| &task.queue,
            |queue, tasks| async move { self.edit_in(&queue, &tasks, edit).await },
        )
        .await
    }

    async fn edit_in(
        &self,
        queue: &Queue,
        mut tasks: &[&TaskRef],
        edit: Edit<'_>,
    ) -> Result<Vec<Edited>, BrokerError> {
        let mut edited = Vec::with_capacity(tasks.len());
        while !tasks.is_empty() {
            // A task that is named twice is answered twice: as it is after the first time.
            let mut seen = HashSet::new();
            let some = tasks.iter().take(MAX_CHUNK);
            let count = some.take_while(|task| seen.insert(&task.id)).count();
            edited.extend(self.edit_chunk(queue, &tasks[..count], edit).await?);
            tasks = &tasks[count..];
        }
        Ok(edited)
    }

    async fn edit_chunk(
        &self,
        queue: &Queue,
        tasks: &[&TaskRef],
        edit: Edit<'_>,
    ) -> Result<Vec<Edited>, BrokerError> {
        let mut edited = vec![None; tasks.len()];
        // Each round, one that has changed meanwhile is looked up again.
        while edited.iter().any(Option::is_none) {
            let places: Vec<_> = (0..tasks.len())
                .filter(|place| edited[*place].is_none())
                .collect();
            let ids: Vec<_> = places
                .iter()
                .map(|place| tasks[*place].id.clone())
                .collect();
            let (mut asked, mut states) = (Vec::new(), Vec::new());
            for (place, found) in places.iter().zip(self.look(queue, &ids).await?) {
                match found {
                    None => edited[*place] = Some(Edited::Missing),
                    Some(found) => match edit.applies_to(&found, self.now()) {
                        Some(answer) => edited[*place] = Some(answer),
                        None => {
                            states.push(found.state);
                            asked.push((*place, found, edit));
                        }
                    },
                }
            }
            if asked.is_empty() {
                break;
            }
            let answers = self.send_edits(queue, &asked).await?;
            for ((place, answer), state) in answers.into_iter().zip(states) {
                match answer {
                    'y' => edited[place] = Some(Edited::Done(state)),
                    'n' => edited[place] = Some(Edited::Not),
                    _ => {}
                }
            }
        }
        Ok(edited.into_iter().flatten().collect())
    }

    /// Sends edits, each with its place and the task as it was seen, as many in a call as are not too large. Returns the answer
    /// to each.
    async fn send_edits(
        &self,
        queue: &Queue,
        edits: &[(usize, Found, Edit<'_>)],
    ) -> Result<Vec<(usize, char)>, BrokerError> {
        let (mut answers, mut left) = (Vec::with_capacity(edits.len()), edits);
        while !left.is_empty() {
            let mut bytes = 0;
            let fits = |(_, found, _): &&(usize, Found, Edit<'_>)| {
                bytes += found.bytes.len();
                bytes <= MAX_CHUNK_BYTES
            };
            let count = left.iter().take_while(fits).count().max(1);
            let (now, later) = left.split_at(count);
            left = later;
            let lane = queue.changes.next();
            let args = script::edit::Args {
                not_after: self.script_clock(),
                publish: self.link().publish_command(),
                lane: lane.name(),
                number: lane.number(),
            };
            let mut call = script::edit::call(&queue.keys, args);
            for (_, found, edit) in now {
                self.write_edit(&mut call, found, *edit);
            }
            let answer = reply::text(call.send(self.link()).await?)?;
            lane.answered();
            let places = now.iter().map(|(place, ..)| *place);
            answers.extend(places.zip(answer.chars()));
        }
        Ok(answers)
    }

    fn write_edit(&self, call: &mut script::Call<script::edit::Of>, found: &Found, edit: Edit<'_>) {
        let envelope = &found.envelope;
        let lock = envelope.unique.as_ref();
        let renewed = edit
            .runs(envelope)
            .and_then(|task| task.renewed(self.now()));
        let ends = lock.is_some_and(|lock| lock.until != UniqueUntil::Window);
        call.row(script::edit::Task {
            edit: match (edit, &renewed) {
                (Edit::RunNow, Some(_)) if found.state == TaskState::Pending => "put".into(),
                (Edit::RunNow, Some(_)) => "pend".into(),
                _ => edit.name(),
            },
            id: envelope.id.as_str(),
            state: found.state.as_str(),
            seen: found.bytes.as_slice(),
            new: match (edit, &renewed) {
                (_, Some(renewed)) => renewed.to_bytes(),
                (Edit::Cancel(reason), _) if found.state == TaskState::Active => reason.into(),
                (Edit::Cancel(reason), _) => cancelled(envelope, reason, self).to_bytes(),
                (Edit::Delete | Edit::RunNow, _) => Vec::new(),
                (Edit::Replace(envelope, _), _) => envelope.to_bytes(),
            },
            priority: envelope.options.priority,
            lock: lock.map_or("", |lock| lock.key.as_str()),
            ends: if ends { "y" } else { "" },
            ttl: lock.map_or(0, |lock| millis(lock.ttl)),
        });
    }
}

/// What became of an edit.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Edited {
    /// It was done to a task in this state.
    Done(TaskState),
    /// The task is as it was to become.
    Pointless,
    /// It can't be done to a task in its state.
    Not,
    Missing,
}

impl<'a> Edit<'a> {
    /// The task that is to run after this, and whose times are renewed if they are over.
    fn runs(self, found: &'a Envelope) -> Option<&'a Envelope> {
        match self {
            Self::RunNow => Some(found),
            Self::Replace(envelope, Some(Move::Pending | Move::Scheduled(_))) => Some(envelope),
            _ => None,
        }
    }

    /// The answer for a task as it was found, if there is nothing to do.
    fn applies_to(self, found: &Found, now: Timestamp) -> Option<Edited> {
        match (self, found.state) {
            (Edit::RunNow, TaskState::Pending) if found.envelope.renewed(now).is_some() => None,
            (Edit::Cancel(_), TaskState::Completed | TaskState::Archived) => Some(Edited::Not),
            (Edit::Delete, TaskState::Active) => Some(Edited::Not),
            (Edit::RunNow, TaskState::Pending) => Some(Edited::Pointless),
            (Edit::RunNow, TaskState::Active | TaskState::Completed) => Some(Edited::Not),
            _ => None,
        }
    }
}
