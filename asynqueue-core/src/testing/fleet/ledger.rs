//! The store of a simulated fleet, which records everything that takes effect.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;

use super::journal::{Ending, Event, Journal, Taken};
use crate::{
    broker::{
        Aggregation, BrokerError, Conflict, Document, DocumentSwap, DueDocuments, Each, Edit,
        Edited, Extended, Forwarded, Keep, Lease, LeaseRequest, Leased, NewTask, Page, QueueStats,
        Settled, Settlement, Space, Store, Swapped, TaskInfo, TaskPage, Trimmed,
    },
    task::{FailureKind, Name, TaskRef, TaskState, Timestamp},
};

#[derive(Clone, Debug)]
pub(super) struct Ledger {
    pub(super) store: Arc<dyn Store>,
    pub(super) journal: Journal,
    /// The node that makes the calls, by its index in the fleet.
    pub(super) node: Option<usize>,
}

impl Ledger {
    pub(super) fn note(&self, event: Event) {
        self.journal.note_of(self.node, event);
    }

    fn note_settled(&self, settlement: &Settlement, settled: Settled) {
        let before = settlement.leased.last_failure();
        let failure = settlement.envelope.last_failure();
        let failure = failure.filter(|failure| Some(*failure) != before);
        let is_reclaim = settlement.only_if_expired
            || failure.is_some_and(|failure| failure.kind == FailureKind::LeaseExpired);
        self.note(Event::Settled(Box::new(Ending {
            task: settlement.envelope.task_ref(),
            token: settlement.token,
            outcome: settlement.outcome.clone(),
            failure: failure.cloned(),
            is_reclaim,
            settled,
        })));
    }
}

#[async_trait]
impl Store for Ledger {
    fn inner(&self) -> Option<&dyn Store> {
        Some(&*self.store)
    }

    fn now(&self) -> Timestamp {
        self.store.now()
    }

    async fn enqueue(&self, tasks: Vec<NewTask>) -> Result<Vec<Result<(), Conflict>>, BrokerError> {
        let answers = self.store.enqueue(tasks.clone()).await?;
        for (task, answer) in tasks.into_iter().zip(&answers) {
            let event = Event::Enqueued(Box::new(task), answer.clone());
            self.note(event);
        }
        Ok(answers)
    }

    async fn lease(&self, request: &LeaseRequest) -> Result<Each<Vec<Leased>>, BrokerError> {
        let answers = self.store.lease(request).await?;
        for leased in answers.iter().flatten().flatten() {
            self.note(Event::Leased(Taken {
                task: leased.envelope.task_ref(),
                token: leased.token,
                attempt: leased.envelope.attempts.saturating_add(1),
                lease: request.lease,
            }));
        }
        Ok(answers)
    }

    async fn extend(
        &self,
        leases: &[Lease],
        lease: Duration,
    ) -> Result<Each<Extended>, BrokerError> {
        self.store.extend(leases, lease).await
    }

    async fn settle(&self, settlements: &[Settlement]) -> Result<Each<Settled>, BrokerError> {
        let answers = self.store.settle(settlements).await?;
        for (settlement, settled) in settlements.iter().zip(&answers) {
            if let Ok(settled) = settled {
                self.note_settled(settlement, *settled);
            }
        }
        Ok(answers)
    }

    async fn forward(&self, queues: &[Name], limit: usize) -> Result<Each<Forwarded>, BrokerError> {
        self.store.forward(queues, limit).await
    }

    async fn expired(
        &self,
        queues: &[Name],
        by: Timestamp,
        limit: usize,
    ) -> Result<Each<Vec<Leased>>, BrokerError> {
        self.store.expired(queues, by, limit).await
    }

    async fn trim(
        &self,
        queues: &[Name],
        keep: Keep,
        limit: usize,
    ) -> Result<Each<Trimmed>, BrokerError> {
        let trimmed = self.store.trim(queues, keep, limit).await?;
        let count = |one: &Trimmed| one.completed + one.by_count + one.by_age;
        let count = trimmed.iter().flatten().map(count).sum();
        if count > 0 {
            self.note(Event::Trimmed(count));
        }
        Ok(trimmed)
    }

    async fn queues(&self) -> Result<Vec<Name>, BrokerError> {
        self.store.queues().await
    }

    async fn stats(&self, queues: &[Name]) -> Result<Vec<QueueStats>, BrokerError> {
        self.store.stats(queues).await
    }

    async fn tasks(&self, tasks: &[TaskRef]) -> Result<Vec<Option<TaskInfo>>, BrokerError> {
        self.store.tasks(tasks).await
    }

    async fn list(
        &self,
        queue: &Name,
        state: TaskState,
        page: Page,
    ) -> Result<TaskPage, BrokerError> {
        self.store.list(queue, state, page).await
    }

    async fn edit(&self, edits: &[Edit]) -> Result<Vec<Edited>, BrokerError> {
        let answers = self.store.edit(edits).await?;
        for (edit, edited) in edits.iter().zip(&answers) {
            let event = Event::Edited(Box::new(edit.clone()), *edited);
            self.note(event);
        }
        Ok(answers)
    }

    async fn set_paused(&self, queues: &[Name], paused: bool) -> Result<(), BrokerError> {
        self.store.set_paused(queues, paused).await?;
        for queue in queues {
            self.note(Event::Paused(queue.clone(), paused));
        }
        Ok(())
    }

    async fn delete_queue(&self, queue: &Name, force: bool) -> Result<bool, BrokerError> {
        let deleted = self.store.delete_queue(queue, force).await?;
        if deleted {
            self.note(Event::QueueDeleted(queue.clone()));
        }
        Ok(deleted)
    }

    async fn document(
        &self,
        space: Space,
        names: &[Name],
    ) -> Result<Vec<Option<Document>>, BrokerError> {
        self.store.document(space, names).await
    }

    async fn documents(&self, space: Space) -> Result<Vec<(Name, Document)>, BrokerError> {
        self.store.documents(space).await
    }

    async fn swap(&self, sets: Vec<Vec<DocumentSwap>>) -> Result<Vec<Swapped>, BrokerError> {
        self.store.swap(sets).await
    }

    async fn due(&self, space: Space, limit: usize) -> Result<DueDocuments, BrokerError> {
        self.store.due(space, limit).await
    }

    async fn close(&self) {
        self.store.close().await;
    }

    async fn aggregate(
        &self,
        aggregation: Aggregation,
    ) -> Result<Result<bool, Conflict>, BrokerError> {
        let answer = self.store.aggregate(aggregation.clone()).await?;
        let event = Event::Aggregated(Box::new(aggregation), answer.clone());
        self.note(event);
        Ok(answer)
    }
}
