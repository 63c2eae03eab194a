//! Tasks and statistics that come from another store.

use asynqueue_core::{
    broker::{BrokerError, Finished, Import, Imported, TaskPlace, Totals},
    task::{Envelope, Name, TaskState, Timestamp},
};
use rusqlite::params;

use super::SqliteBroker;
use crate::{
    change::{Change, GroupKey, WHOLE, state},
    link::{Need, View},
    sql::{Direct, Fault, Id, ValueRef, ready},
};

impl SqliteBroker {
    pub(super) async fn import_all(
        &self,
        tasks: Vec<Import>,
    ) -> Result<Vec<Imported>, BrokerError> {
        let write = move |change: &mut Change<Direct<'_>>| {
            tasks.iter().map(|task| change.import(task)).collect()
        };
        self.link().write(Need::Own, write).await
    }

    pub(super) async fn absorb_totals(
        &self,
        queue: &Name,
        id: &Name,
        totals: Option<&Totals>,
    ) -> Result<bool, BrokerError> {
        let (queue, id) = (queue.clone(), id.clone());
        let Some(totals) = totals.cloned() else {
            let read = move |view: &View<'_>| Ok(!view.has_absorbed(&queue, &id)?);
            return self.link().read(read).await;
        };
        let write = move |change: &mut Change<Direct<'_>>| change.absorb(&queue, &id, &totals);
        self.link().write(Need::Own, write).await
    }
}

impl View<'_> {
    /// Whether a queue remembers statistics by this id.
    fn has_absorbed(&self, name: &Name, id: &Name) -> Result<bool, Fault> {
        let Some(queue) = self.queue(name)? else {
            return Ok(false);
        };
        let absorbed = "select 1 from asynqueue_absorbed where queue = ?1 and id = ?2";
        let mut absorbed = self.db.prepare_cached(absorbed)?;
        Ok(absorbed.exists(params![queue, id.as_str()])?)
    }
}

impl Change<Direct<'_>> {
    fn import(&mut self, import: &Import) -> Result<Imported, Fault> {
        let task = &import.envelope;
        let queue = ready(self.queue(&task.queue))?;
        let id = Id::of(&task.id);
        match (self.whole(queue, id)?, import.replaces) {
            (None, None) => {
                let bytes = task.to_bytes();
                ready(self.insert(queue, task, &bytes, state::PENDING, self.now, 0))?;
            }
            (Some(_), None) => return Ok(Imported::Exists),
            (Some(found), Some(version)) if found.version() == version => {
                if matches!(found.state(), TaskState::Active | TaskState::Completed) {
                    return Ok(Imported::Changed);
                }
                self.unlist(queue, task, &found)?;
                ready(self.replace(queue, task))?;
            }
            _ => return Ok(Imported::Changed),
        }
        self.queues[queue].row.is_used = true;
        if let Some((key, until)) = import.lock(self.now) {
            ready(self.take_if_free(queue, key, id, until))?;
        }
        self.put_into(queue, task, &import.place)?;
        if import.replaces.is_some() {
            self.note_end(queue, task, &import.place)?;
        }
        Ok(Imported::Done)
    }

    /// Puts a task that is in no list into its place.
    fn put_into(&mut self, queue: usize, task: &Envelope, place: &TaskPlace) -> Result<(), Fault> {
        let id = Id::of(&task.id);
        match place {
            TaskPlace::Aggregating { since, .. } if task.aggregated_in().is_some() => {
                self.put_into_group(queue, task, place, *since)?;
            }
            TaskPlace::Pending { since } | TaskPlace::Aggregating { since, .. } => {
                let turn = ready(self.last_turn())?;
                ready(self.set_state(queue, id, state::PENDING, *since, turn))?;
                ready(self.list_pending(queue, id, task.options.priority, turn))?;
            }
            TaskPlace::Scheduled { due } => {
                ready(self.wait_until(queue, id, state::SCHEDULED, *due))?
            }
            TaskPlace::Retry { due } => ready(self.wait_until(queue, id, state::RETRY, *due))?,
            TaskPlace::Completed { until, result } => {
                ready(self.set_state(queue, id, state::COMPLETED, *until, 0))?;
                ready(self.keep_beside(queue, id, ValueRef::Null, result.as_ref()))?;
                self.queues[queue].add(TaskState::Completed, 1);
            }
            TaskPlace::Archived { at } => {
                ready(self.set_state(queue, id, state::ARCHIVED, *at, 0))?;
                self.queues[queue].add(TaskState::Archived, 1);
            }
        }
        Ok(())
    }

    fn put_into_group(
        &mut self,
        queue: usize,
        task: &Envelope,
        place: &TaskPlace,
        since: Timestamp,
    ) -> Result<(), Fault> {
        let (Some(name), TaskPlace::Aggregating { apart, .. }) = (task.aggregated_in(), place)
        else {
            return Ok(());
        };
        let first = apart.as_ref().map(|apart| Id::of(&apart.part.first));
        let delay = apart
            .as_ref()
            .map(|apart| i64::try_from(apart.delay.as_millis()).unwrap_or(i64::MAX));
        let key = GroupKey {
            event: &task.event,
            name,
            first: first.as_ref().map_or(WHOLE, Id::value),
            tries: apart.as_ref().map_or(0, |apart| apart.part.tries.into()),
        };
        let before = ready(self.first_group_due(queue))?;
        let group = ready(self.group_or_new(queue, &key, delay))?;
        ready(self.set_state(queue, Id::of(&task.id), state::AGGREGATING, since, group.id))?;
        self.queues[queue].add(TaskState::Aggregating, 1);
        if let Some(due) = ready(self.refresh_group(queue, group.id))? {
            self.note_group_due(queue, before, due);
        }
        Ok(())
    }

    /// Releases the lock of a replaced task that has finished, and notifies its waiters.
    fn note_end(&mut self, queue: usize, task: &Envelope, place: &TaskPlace) -> Result<(), Fault> {
        let end = match place {
            TaskPlace::Completed { result, .. } => Finished::Completed {
                result: result.clone(),
                codec: task.codec.clone(),
            },
            TaskPlace::Archived { .. } => Finished::Archived {
                failure: task.last_failure().cloned().map(Box::new),
            },
            _ => return Ok(()),
        };
        ready(self.unlock_at_end(queue, task))?;
        let is_awaited = ready(self.forget_waiter(queue, Id::of(&task.id)))?;
        self.ended(task, end, is_awaited);
        Ok(())
    }

    /// Adds statistics to a queue, unless those with this id were added before.
    fn absorb(&mut self, name: &Name, id: &Name, totals: &Totals) -> Result<bool, Fault> {
        let place = ready(self.queue(name))?;
        let row = params![self.queues[place].id, id.as_str()];
        let note = "insert into asynqueue_absorbed values (?1, ?2) on conflict do nothing";
        if self.sql.0.prepare_cached(note)?.execute(row)? == 0 {
            return Ok(false);
        }
        let queue = &mut self.queues[place];
        let row = &mut queue.row;
        row.is_used = true;
        row.succeeded += totals.succeeded as i64;
        row.failed += totals.failed as i64;
        row.lost += totals.lost as i64;
        let mut archive = row.archive();
        archive.absorb(&totals.archive);
        row.set_archive(&archive);
        for hour in totals.hours.iter().filter(|hour| hour.ended() > 0) {
            queue.count_hour(*hour);
        }
        Ok(true)
    }
}
