//! Hands tasks over from the source to the target, a batch at a time.
//!
//! 1. *Fence*: the task gets its [mark](super::mark) at the source. It runs no more there.
//! 2. *Hold*: a copy with the mark is put into the target. It does not run there either.
//! 3. *Delete*: the marked task is deleted at the source. From now on, the copy is the task.
//! 4. *Free*: the copy loses its mark and takes its place.
//!
//! Each step is one change of one store, made only if the task is as it was read. A task that is held at the target and
//! is not marked at the source has been deleted there, so it is freed when the move resumes. The order matters: without
//! the fence, such a task could also have run at the source and have finished. A completed task changes no more, so it
//! is copied and deleted.

use std::{collections::HashMap, sync::Arc};

use super::{error::TransferError, ledger::Ledger, mark::Mark, side::Side};
use crate::{
    broker::{Change, Edit, Edited, Import, Imported, Move, Page, TaskInfo, TaskPlace},
    codec::CodecName,
    task::{Envelope, Name, TaskRef, TaskState},
};

/// The most tasks in a batch.
pub(super) const BATCH: usize = 500;

/// Why a task stays at the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stays {
    /// The target has another task with its id.
    Taken,
    /// Its envelope is of a later version.
    Unreadable,
}

/// The result of a batch.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// How many tasks are at the target now.
    pub(super) moved: u64,
    pub(super) stay: Vec<(TaskRef, Stays)>,
}

/// Moves tasks between two stores under the id of a move.
#[derive(Clone, Debug)]
pub(super) struct HandOver {
    pub(super) from: Side,
    pub(super) to: Side,
    pub(super) id: Name,
}

/// A task with a mark, as it was read at the source.
#[derive(Clone, Debug)]
struct Marked {
    seen: TaskInfo,
    mark: Mark,
}

impl Marked {
    fn task_ref(&self) -> TaskRef {
        self.seen.envelope.task_ref()
    }

    fn original(&self) -> Arc<Envelope> {
        self.mark.take_off(&self.seen.envelope)
    }

    /// The copy that the target holds.
    fn copy(&self) -> Import {
        Import::new(Arc::clone(&self.seen.envelope), self.mark.held_place())
    }
}

impl HandOver {
    /// Moves tasks that are not active, as they were read at the source. Tasks that change in between are left for
    /// the next call.
    pub(super) async fn move_all(
        &self,
        seen: Vec<TaskInfo>,
        ledger: &mut Ledger,
    ) -> Result<Batch, TransferError> {
        let mut batch = Batch::default();
        let unreadable = CodecName::unreadable();
        let (seen, unreadable): (Vec<_>, Vec<_>) = seen
            .into_iter()
            .partition(|task| task.envelope.codec != unreadable);
        let unreadable = unreadable.iter().map(|task| task.envelope.task_ref());
        batch
            .stay
            .extend(unreadable.map(|task| (task, Stays::Unreadable)));
        let (completed, others) = seen
            .into_iter()
            .partition(|task| task.state == TaskState::Completed);
        self.move_completed(completed, &mut batch).await?;
        let marked = self.fence(others).await?;
        let held = self.hold(marked, &mut batch).await?;
        let deleted = self.delete(held, ledger).await?;
        self.free(&deleted).await?;
        batch.moved += deleted.len() as u64;
        Ok(batch)
    }

    /// Puts marks on tasks at the source. Returns the tasks that have one now.
    async fn fence(&self, seen: Vec<TaskInfo>) -> Result<Vec<Marked>, TransferError> {
        let (mut marked, mut edits) = (Vec::new(), Vec::new());
        for (order, task) in (0..).zip(seen) {
            match self.fenced(&task) {
                Some(mark) => marked.push(Marked { seen: task, mark }),
                None => edits.extend(self.to_fence(task, order)),
            }
        }
        let edited = self.from.edit(&edits).await?;
        let done = edits.iter().zip(edited);
        let done = done.filter(|(_, edited)| *edited == Edited::Done);
        let done: Vec<_> = done.map(|(edit, _)| edit.task_ref()).collect();
        let found = self.from.tasks(&done).await?.into_iter().flatten();
        // In the order given, which is that of the list.
        marked.extend(found.filter_map(|seen| {
            let mark = self.fenced(&seen)?;
            Some(Marked { seen, mark })
        }));
        Ok(marked)
    }

    /// The mark of a task that this move has fenced.
    fn fenced(&self, seen: &TaskInfo) -> Option<Mark> {
        Mark::of(&seen.envelope).filter(|mark| mark.id == self.id && mark.is_fenced(seen))
    }

    fn to_fence(&self, seen: TaskInfo, order: u64) -> Option<Edit> {
        let place = seen.place()?;
        let (envelope, place) = match Mark::of(&seen.envelope) {
            // Of a move whose record was lost.
            Some(mark) if mark.is_fenced(&seen) => (mark.take_off(&seen.envelope), mark.place),
            // An operator has moved the marked task.
            Some(mark) => (mark.take_off(&seen.envelope), place),
            None => (Arc::clone(&seen.envelope), place),
        };
        let to = match place {
            TaskPlace::Archived { .. } => None,
            _ => Some(Move::Scheduled(Mark::due(order))),
        };
        let envelope = Mark::put(&self.id, order, &envelope, &place)?;
        let change = Change::Put { envelope, to };
        Some(Edit { seen, change })
    }

    /// Puts copies into the target. Returns the tasks whose copy is there.
    async fn hold(
        &self,
        marked: Vec<Marked>,
        batch: &mut Batch,
    ) -> Result<Vec<Marked>, TransferError> {
        let copies = marked.iter().map(Marked::copy).collect();
        let imported = self.to.import(copies).await?;
        let (mut held, mut exist) = (Vec::new(), Vec::new());
        for (task, imported) in marked.into_iter().zip(imported) {
            match imported {
                Imported::Done => held.push(task),
                Imported::Exists | Imported::Changed => exist.push(task),
            }
        }
        let refs: Vec<_> = exist.iter().map(Marked::task_ref).collect();
        let found = self.to.tasks(&refs).await?;
        let (mut old, mut conflicts) = (Vec::new(), Vec::new());
        for (task, found) in exist.into_iter().zip(found) {
            match found {
                Some(found) if self.is_held(&found) => {
                    if found.envelope == task.seen.envelope {
                        held.push(task);
                    } else {
                        old.push((task, found));
                    }
                }
                Some(_) => conflicts.push(task),
                None => {}
            }
        }
        // The task has changed at the source since its copy was made.
        let newer = |(task, found): &(Marked, TaskInfo)| task.copy().replacing(found.version);
        let imported = self.to.import(old.iter().map(newer).collect()).await?;
        let newer = old.into_iter().zip(imported);
        let newer = newer.filter(|(_, imported)| *imported == Imported::Done);
        held.extend(newer.map(|((task, _), _)| task));
        self.unfence(conflicts, batch).await?;
        held.sort_by_key(|task| task.mark.order);
        Ok(held)
    }

    /// Whether this move has put the task into the target, and has not freed it yet.
    fn is_held(&self, found: &TaskInfo) -> bool {
        Mark::of(&found.envelope).is_some_and(|mark| mark.id == self.id && mark.is_held(found))
    }

    /// Returns tasks that cannot be moved to their place at the source.
    async fn unfence(&self, tasks: Vec<Marked>, batch: &mut Batch) -> Result<(), TransferError> {
        let back = |task: &Marked| {
            Import::new(task.original(), task.mark.place.clone()).replacing(task.seen.version)
        };
        self.from.import(tasks.iter().map(back).collect()).await?;
        let stay = tasks.iter().map(|task| (task.task_ref(), Stays::Taken));
        batch.stay.extend(stay);
        Ok(())
    }

    /// Deletes marked tasks at the source. Returns the tasks whose copy replaces them. The copy of a task that has
    /// changed is withdrawn.
    async fn delete(
        &self,
        held: Vec<Marked>,
        ledger: &mut Ledger,
    ) -> Result<Vec<TaskRef>, TransferError> {
        let seen = held.iter().map(|task| task.seen.clone()).collect();
        let edited = self.from.delete(seen).await?;
        let unclear = held.iter().zip(edited);
        let unclear = unclear.filter(|(_, edited)| *edited != Edited::Done);
        let unclear: Vec<_> = unclear.map(|(task, _)| task.task_ref()).collect();
        let found = self.from.tasks(&unclear).await?;
        if found.iter().any(Option::is_none) {
            // Deleted by an operator, or by a call whose response was lost; not by another process that has moved it,
            // because this one was suspended for a while.
            ledger.confirm().await?;
        }
        let changed = unclear.into_iter().zip(found);
        let changed = changed.filter_map(|(task, found)| found.map(|_| task));
        let changed: Vec<_> = changed.collect();
        self.withdraw(&changed).await?;
        let mut deleted: Vec<_> = held.iter().map(Marked::task_ref).collect();
        deleted.retain(|task| !changed.contains(task));
        Ok(deleted)
    }

    /// Deletes copies that the target holds.
    async fn withdraw(&self, tasks: &[TaskRef]) -> Result<(), TransferError> {
        let found = self.to.tasks(tasks).await?.into_iter().flatten();
        let held = found.filter(|found| self.is_held(found)).collect();
        self.to.delete(held).await.map(drop)
    }

    /// Frees the copies of tasks that no longer exist at the source.
    async fn free(&self, tasks: &[TaskRef]) -> Result<(), TransferError> {
        let found = self.to.tasks(tasks).await?.into_iter().flatten();
        let free = |found: TaskInfo| {
            let mark = Mark::of(&found.envelope).filter(|_| self.is_held(&found))?;
            let envelope = mark.take_off(&found.envelope);
            Some(Import::new(envelope, mark.place).replacing(found.version))
        };
        self.to
            .import(found.filter_map(free).collect())
            .await
            .map(drop)
    }

    /// Copies completed tasks and deletes them.
    async fn move_completed(
        &self,
        seen: Vec<TaskInfo>,
        batch: &mut Batch,
    ) -> Result<(), TransferError> {
        let copy = |task: &TaskInfo| Some(Import::new(Arc::clone(&task.envelope), task.place()?));
        let copies = seen.iter().filter_map(copy).collect();
        let imported = self.to.import(copies).await?;
        let (mut copied, mut exist) = (Vec::new(), Vec::new());
        for (task, imported) in seen.into_iter().zip(imported) {
            match imported {
                Imported::Done => copied.push(task),
                Imported::Exists | Imported::Changed => exist.push(task),
            }
        }
        let refs: Vec<_> = exist.iter().map(|task| task.envelope.task_ref()).collect();
        let found = self.to.tasks(&refs).await?;
        for (task, found) in exist.into_iter().zip(found) {
            let is_copy = found.is_some_and(|found| {
                found.envelope == task.envelope && found.place() == task.place()
            });
            if is_copy {
                copied.push(task);
            } else {
                batch.stay.push((task.envelope.task_ref(), Stays::Taken));
            }
        }
        batch.moved += copied.len() as u64;
        // One that is no longer there was past its retention, which the target finds too.
        self.from.delete(copied).await.map(drop)
    }

    /// Moves what an earlier process has left half moved: first the tasks that it had deleted at the source already,
    /// then the tasks that it had fenced there. They come before the others.
    pub(super) async fn resume(
        &self,
        queue: &Name,
        ledger: &mut Ledger,
    ) -> Result<Batch, TransferError> {
        self.free_deleted(queue).await?;
        let mut sum = Batch::default();
        let mut after = None;
        loop {
            let page = Page::first(BATCH).after(after);
            let page = self.from.list(queue, TaskState::Scheduled, page).await?;
            let fenced = page.tasks.into_iter();
            let fenced = fenced.filter(|task| self.fenced(task).is_some()).collect();
            let batch = self.move_all(fenced, ledger).await?;
            sum.moved += batch.moved;
            sum.stay.extend(batch.stay);
            after = page.next;
            if after.is_none() {
                return Ok(sum);
            }
        }
    }

    /// Frees what waits at the target and is no longer at the source.
    async fn free_deleted(&self, queue: &Name) -> Result<(), TransferError> {
        for state in [TaskState::Scheduled, TaskState::Retry, TaskState::Archived] {
            let mut page = Page::first(BATCH);
            loop {
                let found = self.to.list(queue, state, page).await?;
                let held = found.tasks.iter().filter(|found| self.is_held(found));
                let held: Vec<_> = held.map(|found| found.envelope.task_ref()).collect();
                self.resume_held(&held).await?;
                let Some(next) = found.next else { break };
                page = Page::first(BATCH).after(next);
            }
        }
        Ok(())
    }

    async fn resume_held(&self, held: &[TaskRef]) -> Result<(), TransferError> {
        let at_source = self.from.tasks(held).await?;
        let by_ref: HashMap<_, _> = held.iter().zip(at_source).collect();
        let is_there = |task: &&TaskRef| {
            let found = by_ref.get(task).and_then(Option::as_ref);
            // Another task may have its id since.
            let mark = found.and_then(|found| Mark::of(&found.envelope));
            mark.is_some_and(|mark| mark.id == self.id)
        };
        let deleted: Vec<_> = held
            .iter()
            .filter(|task| !is_there(task))
            .cloned()
            .collect();
        self.free(&deleted).await
    }
}
