//! Changes of single tasks on request.

use std::slice;

use async_trait::async_trait;
use asynqueue_core::{
    broker::{BrokerError, Change as Wanted, Edit, Edited, Finished, Move, Signal, kit::Announced},
    codec::CodecName,
    task::{Envelope, Name, TaskId, TaskRef, TaskState},
};
use futures_util::future::try_join;

use super::{
    PostgresBroker,
    enqueue::holds,
    lease::{place_of, queues_of},
    row::{Whole, whole},
};
use crate::{
    link::{Change, Event, Fault, Make},
    sql::{
        Call, Value,
        values::{blobs, duration, id_bytes, ints, long, text, texts, time, timestamp},
    },
};

pub(super) const LOOK: &str = whole!(
    "u.ord::integer",
    "unnest($2, $3) with ordinality u(q, id, ord) join asynqueue.queue q on q.name = ($1)[u.q] \
     join asynqueue.task k on k.queue = q.id and k.id = u.id",
    "order by u.ord"
);

/// Edits that are made in one transaction.
const CHUNK: usize = 100;

impl PostgresBroker {
    pub(super) async fn edit_all(&self, edits: &[Edit]) -> Result<Vec<Edited>, BrokerError> {
        self.link().open_or_closed()?;
        let mut results = Vec::with_capacity(edits.len());
        for chunk in edits.chunks(CHUNK) {
            let edited = self.link().change(&mut Edits(chunk)).await?;
            results.extend(edited);
        }
        Ok(results)
    }
}

struct Edits<'e>(&'e [Edit]);

#[async_trait]
impl Make<Vec<Edited>> for Edits<'_> {
    async fn make(&mut self, change: &mut Change<'_>) -> Result<Vec<Edited>, Fault> {
        let tasks: Vec<_> = self.0.iter().map(Edit::task_ref).collect();
        change.hold(&tasks).await?;
        let mut found = change.wholes(&tasks).await?;
        let mut results = Vec::with_capacity(self.0.len());
        for (place, (edit, task)) in self.0.iter().zip(&tasks).enumerate() {
            // An earlier edit may have changed the same task.
            let found = match tasks[..place].contains(task) {
                true => change.whole(task).await?,
                false => found[place].take(),
            };
            results.push(change.edit(edit, task, found).await?);
        }
        Ok(results)
    }
}

impl Change<'_> {
    /// Locks where tasks are, so that they stay there until this transaction ends.
    pub(super) async fn hold(&self, tasks: &[TaskRef]) -> Result<(), Fault> {
        let (names, of) = queues_of(tasks.iter().map(|task| &task.queue));
        let ids = tasks.iter().map(|task| id_bytes(&task.id));
        let values = [texts(names), ints(of), blobs(ids)];
        self.run(Call::new("select asynqueue.hold($1, $2, $3)", values))
            .await?;
        Ok(())
    }

    /// A task with everything that is stored about it.
    pub(super) async fn whole(&self, task: &TaskRef) -> Result<Option<Whole>, Fault> {
        let found = self.wholes(slice::from_ref(task)).await?;
        Ok(found.into_iter().next().flatten())
    }

    /// Tasks with everything that is stored about them, in the same order.
    pub(super) async fn wholes(&self, tasks: &[TaskRef]) -> Result<Vec<Option<Whole>>, Fault> {
        let (names, of) = queues_of(tasks.iter().map(|task| &task.queue));
        let ids = tasks.iter().map(|task| id_bytes(&task.id));
        let call = Call::new(LOOK, [texts(names), ints(of), blobs(ids)]);
        let mut found: Vec<_> = tasks.iter().map(|_| None).collect();
        for row in self.run(call).await? {
            if let Some(one) = found.get_mut(place_of(&row)?) {
                *one = Some(Whole::of(&row)?);
            }
        }
        Ok(found)
    }

    async fn edit(
        &mut self,
        edit: &Edit,
        task: &TaskRef,
        found: Option<Whole>,
    ) -> Result<Edited, Fault> {
        let Some(found) = found.filter(|found| found.version() == edit.seen.version) else {
            return Ok(Edited::Changed);
        };
        match (&edit.change, found.state) {
            (Wanted::Cancel { reason }, TaskState::Active) => {
                let values = [long(found.turn), text(reason)];
                self.run(Call::new("select asynqueue.request_cancel($1, $2)", values))
                    .await?;
                let cancel = Signal::Cancel(task.clone());
                self.events.push(Event::signal(&task.queue, cancel));
                Ok(Edited::Done)
            }
            (Wanted::Cancel { .. }, _) | (_, TaskState::Active) => Ok(Edited::Refused),
            (Wanted::Delete, _) => {
                self.remove(&found, task).await?;
                Ok(Edited::Done)
            }
            (Wanted::Put { .. }, TaskState::Completed) => Ok(Edited::Refused),
            (Wanted::Put { envelope, to }, state) => {
                let leaves_archive =
                    state == TaskState::Archived && !matches!(to, Some(Move::Archived) | None);
                // It released its lock when it was archived.
                if leaves_archive && !self.lock_again(&found, envelope).await? {
                    return Ok(Edited::Locked);
                }
                let replace = async {
                    match edit.new_envelope() {
                        Some(new) => self.replace(&found, new).await,
                        None => Ok(()),
                    }
                };
                let unlist = async {
                    match to {
                        Some(_) => self.unlist(&found).await,
                        None => Ok(()),
                    }
                };
                try_join(replace, unlist).await?;
                if let Some(to) = to {
                    self.move_to(&found, envelope, *to).await?;
                }
                Ok(Edited::Done)
            }
        }
    }

    /// Removes a task that is not active from its list.
    pub(super) async fn unlist(&self, found: &Whole) -> Result<(), Fault> {
        let values = [long(found.turn), Value::Int(found.queue)];
        self.run(Call::new("select asynqueue.unlist($1, $2)", values))
            .await?;
        Ok(())
    }

    /// Deletes a task that is not active.
    pub(super) async fn remove(&mut self, found: &Whole, task: &TaskRef) -> Result<(), Fault> {
        let forget = Call::new("select asynqueue.forget($1)", [long(found.turn)]);
        // The second is sent without waiting for the first.
        let ((), rows) = try_join(self.unlist(found), self.run(forget)).await?;
        if rows.first().is_some_and(|row| row.get(0)) {
            let (task, end) = (task.clone(), Finished::Gone);
            self.events.push(Event::Now(Announced::Ended { task, end }));
        }
        Ok(())
    }

    pub(super) async fn replace(&self, found: &Whole, task: &Envelope) -> Result<(), Fault> {
        // The substitute for an envelope that cannot be read must not replace it.
        if task.codec == CodecName::unreadable() {
            return Ok(());
        }
        let (key, holds) = lock_columns(task);
        let values = [
            long(found.turn),
            Value::Bytes(Some(task.to_bytes())),
            key,
            holds,
        ];
        let sql = "select asynqueue.replace($1, $2, $3, $4)";
        self.run(Call::new(sql, values)).await?;
        Ok(())
    }

    /// Takes the lock of a task unless the task still holds it. Returns whether it holds it now.
    async fn lock_again(&self, found: &Whole, task: &Envelope) -> Result<bool, Fault> {
        let Some(lock) = &task.unique else {
            return Ok(true);
        };
        let sql = "select coalesce(asynqueue.take_lock($1, $2, $3, t + $4, t), $3) = $3 from asynqueue.now_at($5) t";
        let values = [
            Value::Int(found.queue),
            text(lock.key.as_str()),
            Value::Bytes(Some(id_bytes(&task.id))),
            long(duration(lock.ttl)),
            self.fixed(),
        ];
        let rows = self.run(Call::new(sql, values)).await?;
        Ok(rows.first().is_some_and(|row| row.get(0)))
    }

    async fn move_to(&mut self, found: &Whole, task: &Envelope, to: Move) -> Result<(), Fault> {
        let (state, at) = match to {
            Move::Pending => (TaskState::Pending, None),
            Move::Scheduled(at) => (TaskState::Scheduled, Some(time(at))),
            Move::Archived => {
                self.end(found.turn, task, archived(task)).await?;
                (TaskState::Archived, None)
            }
        };
        self.put(found.turn, found.queue, &task.queue, state, at, true)
            .await
    }

    /// Ends a task for its waiters, and releases its lock.
    pub(super) async fn end(
        &mut self,
        turn: i64,
        task: &Envelope,
        end: Finished,
    ) -> Result<(), Fault> {
        let rows = self
            .run(Call::new("select asynqueue.end_of($1)", [long(turn)]))
            .await?;
        if rows.first().is_some_and(|row| row.get(0)) {
            let task = task.task_ref();
            self.events.push(Event::Now(Announced::Ended { task, end }));
        }
        Ok(())
    }

    /// Puts a task that is in no list into a state, and announces it. `is_moved`: now, and not in the state that it had
    /// in another store.
    pub(super) async fn put(
        &mut self,
        turn: i64,
        queue: i32,
        name: &Name,
        state: TaskState,
        at: Option<i64>,
        is_moved: bool,
    ) -> Result<(), Fault> {
        let number = match state {
            TaskState::Pending => 2,
            TaskState::Scheduled => 3,
            TaskState::Retry => 4,
            TaskState::Completed => 5,
            _ => 6,
        };
        let values = [
            long(turn),
            Value::Int(queue),
            Value::Short(number),
            Value::Long(at),
            Value::Flag(is_moved),
            self.fixed(),
        ];
        let sql = "select is_open, head, due from asynqueue.put($1, $2, $3, $4, $5, $6)";
        for row in self.run(Call::new(sql, values)).await? {
            if row.get(0) {
                self.events.push(Event::Pending(name.clone(), row.get(1)));
            }
            if let Some(due) = row.get::<_, Option<i64>>(2) {
                let due = Signal::Due(name.clone(), timestamp(due));
                self.events.push(Event::signal(name, due));
            }
        }
        Ok(())
    }
}

/// The unique lock of a task, and when the task releases it.
pub(super) fn lock_columns(task: &Envelope) -> (Value, Value) {
    let lock = task.unique.as_deref();
    (
        Value::Text(lock.map(|lock| lock.key.as_str().to_owned())),
        Value::Short(lock.map_or(0, |lock| holds(lock.until))),
    )
}

pub(super) fn archived(task: &Envelope) -> Finished {
    Finished::Archived {
        failure: task.last_failure().cloned().map(Box::new),
    }
}

/// A task by its queue and id.
pub(super) fn task_in(queue: &Name, id: &TaskId) -> TaskRef {
    TaskRef::new(queue.clone(), id.clone())
}
