//! The two stores of a move. Their errors name the side.

use super::error::TransferError;
use crate::{
    broker::{
        Change, Document, DocumentSwap, Edit, Edited, Expect, HourStats, Import, Imported, Page,
        Pausable, Put, QueueStats, SharedBroker, Space, Store, TaskInfo, TaskPage, Totals,
    },
    task::{Name, TaskRef, TaskState, Timestamp},
};

/// One of the two stores.
#[derive(Clone, Debug)]
pub(super) struct Side {
    broker: SharedBroker,
    is_source: bool,
}

type Result<T> = std::result::Result<T, TransferError>;

impl Side {
    pub(super) fn source(broker: SharedBroker) -> Self {
        Self {
            broker,
            is_source: true,
        }
    }

    pub(super) fn target(broker: SharedBroker) -> Self {
        Self {
            broker,
            is_source: false,
        }
    }

    pub(super) fn broker(&self) -> &SharedBroker {
        &self.broker
    }

    fn store(&self) -> &dyn Store {
        self.broker.as_store()
    }

    /// The error of a call, with the side that failed.
    pub(super) fn failed(&self, error: crate::broker::BrokerError) -> TransferError {
        if self.is_source {
            TransferError::Source(error)
        } else {
            TransferError::Target(error)
        }
    }

    pub(super) fn now(&self) -> Timestamp {
        self.store().now()
    }

    pub(super) async fn queues(&self) -> Result<Vec<Name>> {
        let queues = self.store().queues().await;
        queues.map_err(|error| self.failed(error))
    }

    pub(super) async fn stats(&self, queue: &Name) -> Result<QueueStats> {
        let stats = self.store().stats(std::slice::from_ref(queue)).await;
        let mut stats = stats.map_err(|error| self.failed(error))?;
        Ok(stats.pop().unwrap_or_default())
    }

    pub(super) async fn hours(&self, queue: &Name) -> Result<Vec<HourStats>> {
        let queues = std::slice::from_ref(queue);
        let hours = self.store().history(queues, Timestamp::default()).await;
        let mut hours = hours.map_err(|error| self.failed(error))?;
        Ok(hours.pop().unwrap_or_default())
    }

    pub(super) async fn list(
        &self,
        queue: &Name,
        state: TaskState,
        page: Page,
    ) -> Result<TaskPage> {
        let page = self.store().list(queue, state, page).await;
        page.map_err(|error| self.failed(error))
    }

    pub(super) async fn tasks(&self, tasks: &[TaskRef]) -> Result<Vec<Option<TaskInfo>>> {
        if tasks.is_empty() {
            return Ok(Vec::new());
        }
        let found = self.store().tasks(tasks).await;
        found.map_err(|error| self.failed(error))
    }

    pub(super) async fn edit(&self, edits: &[Edit]) -> Result<Vec<Edited>> {
        if edits.is_empty() {
            return Ok(Vec::new());
        }
        let edited = self.store().edit(edits).await;
        edited.map_err(|error| self.failed(error))
    }

    /// Deletes tasks that are as they were read.
    pub(super) async fn delete(&self, seen: Vec<TaskInfo>) -> Result<Vec<Edited>> {
        let change = Change::Delete;
        let edit = |seen| Edit {
            seen,
            change: change.clone(),
        };
        let edits: Vec<_> = seen.into_iter().map(edit).collect();
        self.edit(&edits).await
    }

    pub(super) async fn import(&self, tasks: Vec<Import>) -> Result<Vec<Imported>> {
        if tasks.is_empty() {
            return Ok(Vec::new());
        }
        let imported = self.store().import(tasks).await;
        imported.map_err(|error| self.failed(error))
    }

    pub(super) async fn absorb(&self, queue: &Name, id: &Name, totals: &Totals) -> Result<()> {
        let added = self.store().absorb(queue, id, Some(totals)).await;
        added.map(drop).map_err(|error| self.failed(error))
    }

    /// Whether a queue remembers the id of statistics.
    pub(super) async fn has_absorbed(&self, queue: &Name, id: &Name) -> Result<bool> {
        let is_new = self.store().absorb(queue, id, None).await;
        is_new
            .map(|is_new| !is_new)
            .map_err(|error| self.failed(error))
    }

    pub(super) async fn set_paused(&self, queue: &Name, paused: bool) -> Result<()> {
        let queues = std::slice::from_ref(queue);
        let paused = self.store().set_paused(queues, paused).await;
        paused.map_err(|error| self.failed(error))
    }

    /// Copies the record of a pause to another store, unless that has one.
    pub(super) async fn copy_pause(&self, to: &Self, of: &Pausable) -> Result<()> {
        let record = of.document();
        if let Some(found) = self.document(Space::Pauses, &record).await? {
            let put = Put::Set(found.bytes, found.due);
            let copy = DocumentSwap::new(Space::Pauses, record, Expect::Absent, put);
            to.swap(vec![copy]).await?;
        }
        Ok(())
    }

    /// Removes the record of a pause.
    pub(super) async fn forget_pause(&self, of: &Pausable) -> Result<()> {
        let (record, put) = (of.document(), Put::Remove);
        let removal = DocumentSwap::new(Space::Pauses, record, Expect::Any, put);
        self.swap(vec![removal]).await.map(drop)
    }

    /// Deletes a queue if it has no tasks. Returns whether it no longer exists.
    pub(super) async fn delete_queue(&self, queue: &Name) -> Result<bool> {
        let deleted = self.store().delete_queue(queue, false).await;
        deleted.map_err(|error| self.failed(error))
    }

    pub(super) async fn document(&self, space: Space, name: &Name) -> Result<Option<Document>> {
        let found = self
            .store()
            .document(space, std::slice::from_ref(name))
            .await;
        let mut found = found.map_err(|error| self.failed(error))?;
        Ok(found.pop().flatten())
    }

    pub(super) async fn documents(&self, space: Space) -> Result<Vec<(Name, Document)>> {
        let found = self.store().documents(space).await;
        found.map_err(|error| self.failed(error))
    }

    /// Applies one set of changes. Returns whether it was applied.
    pub(super) async fn swap(&self, set: Vec<DocumentSwap>) -> Result<bool> {
        let swapped = self.store().swap(vec![set]).await;
        let swapped = swapped.map_err(|error| self.failed(error))?;
        Ok(swapped.first().is_some_and(|swapped| swapped.is_done))
    }
}
