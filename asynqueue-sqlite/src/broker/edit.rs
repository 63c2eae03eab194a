//! Changes of single tasks on request.

use asynqueue_core::{
    broker::{BrokerError, Change as Wanted, Edit, Edited, Move, Signal},
    task::{Envelope, TaskState},
};
use rusqlite::params;

use super::{
    SqliteBroker,
    row::{Whole, whole},
};
use crate::{
    change::{Change, Event, Side, rank, state},
    link::Need,
    sql::{Direct, Fault, Id, ready},
};

pub(crate) const ONE: &str = whole!("", "asynqueue_task t", "where t.queue = ?1 and t.id = ?2");

impl SqliteBroker {
    pub(super) async fn edit_all(&self, edits: &[Edit]) -> Result<Vec<Edited>, BrokerError> {
        let edits = edits.to_vec();
        let write = move |change: &mut Change<Direct<'_>>| {
            edits.iter().map(|edit| change.edit(edit)).collect()
        };
        self.link().write(Need::Own, write).await
    }
}

impl Change<Direct<'_>> {
    pub(super) fn edit(&mut self, edit: &Edit) -> Result<Edited, Fault> {
        let seen = &edit.seen.envelope;
        let Some(queue) = ready(self.known(&seen.queue))? else {
            return Ok(Edited::Changed);
        };
        let found = self.whole(queue, Id::of(&seen.id))?;
        let Some(found) = found.filter(|found| found.version() == edit.seen.version) else {
            return Ok(Edited::Changed);
        };
        let state = found.state();
        match (&edit.change, state) {
            (Wanted::Cancel { reason }, TaskState::Active) => {
                self.request_cancel(queue, seen, reason)?;
                Ok(Edited::Done)
            }
            (Wanted::Cancel { .. }, _) | (_, TaskState::Active) => Ok(Edited::Refused),
            (Wanted::Delete, _) => {
                self.unlist(queue, seen, &found)?;
                ready(self.forget(queue, seen))?;
                Ok(Edited::Done)
            }
            (Wanted::Put { .. }, TaskState::Completed) => Ok(Edited::Refused),
            (Wanted::Put { envelope, to }, _) => {
                let leaves_archive =
                    state == TaskState::Archived && !matches!(to, Some(Move::Archived) | None);
                // It released its lock when it was archived.
                if leaves_archive && !ready(self.lock_again(queue, envelope))? {
                    return Ok(Edited::Locked);
                }
                if let Some(new) = edit.new_envelope() {
                    ready(self.replace(queue, new))?;
                }
                if let Some(to) = to {
                    self.unlist(queue, seen, &found)?;
                    self.move_to(queue, envelope, *to)?;
                }
                Ok(Edited::Done)
            }
        }
    }

    /// A task with everything that is stored about it.
    pub(super) fn whole(&mut self, queue: usize, id: Id<'_>) -> Result<Option<Whole>, Fault> {
        let mut one = self.sql.0.prepare_cached(ONE)?;
        let mut rows = one.query(params![self.queues[queue].id, id])?;
        rows.next()?.map(Whole::of).transpose()
    }

    fn request_cancel(&mut self, queue: usize, task: &Envelope, reason: &str) -> Result<(), Fault> {
        let row = params![self.queues[queue].id, Id::of(&task.id), reason];
        let request = "insert into asynqueue_running (queue, id, cancel) values (?1, ?2, ?3) \
             on conflict do update set cancel = coalesce(cancel, excluded.cancel)";
        self.sql.0.prepare_cached(request)?.execute(row)?;
        self.note(Side::Running);
        let signal = Signal::Cancel(task.task_ref());
        self.events.push(Event::Signal(task.queue.clone(), signal));
        Ok(())
    }

    /// Removes a task that is not active from its list.
    pub(super) fn unlist(
        &mut self,
        queue: usize,
        task: &Envelope,
        found: &Whole,
    ) -> Result<(), Fault> {
        let state = found.state();
        self.queues[queue].add(state, -1);
        // A time that was known may be that of this task.
        self.queues[queue].next_due = None;
        match state {
            TaskState::Pending => {
                let row = params![
                    self.queues[queue].id,
                    rank(task.options.priority),
                    found.turn
                ];
                let remove =
                    "delete from asynqueue_ready where queue = ?1 and rank = ?2 and turn = ?3";
                self.sql.0.prepare_cached(remove)?.execute(row)?;
            }
            TaskState::Aggregating => {
                let id = Id::of(&task.id);
                ready(self.set_state(queue, id, state::PENDING, found.at, 0))?;
                ready(self.refresh_group(queue, found.turn))?;
            }
            _ => {}
        }
        Ok(())
    }

    fn move_to(&mut self, queue: usize, task: &Envelope, to: Move) -> Result<(), Fault> {
        match to {
            Move::Scheduled(at) if at > self.now => {
                ready(self.wait_until(queue, Id::of(&task.id), state::SCHEDULED, at))
            }
            Move::Scheduled(_) | Move::Pending => ready(self.make_pending(queue, task, false)),
            Move::Archived => ready(self.archive(queue, task)),
        }
    }
}
