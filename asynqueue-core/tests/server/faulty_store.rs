//! The methods of the misbehaving store: what they break, and otherwise the wrapped store.

use std::{
    future::pending,
    sync::{Mutex, atomic::Ordering::SeqCst},
    time::Duration,
};

use async_trait::async_trait;
use asynqueue_core::{
    broker::*,
    task::{Name, TaskRef, TaskState, Timestamp},
};
use futures_util::{StreamExt, stream};

use super::faulty::{Faulty, Sickness, pass};

#[async_trait]
impl Store for Faulty {
    fn inner(&self) -> Option<&dyn Store> {
        Some(&self.inner)
    }

    fn capabilities(&self) -> Capabilities {
        let mut offered = Store::capabilities(&self.inner);
        offered.is_partitioned = self.faults.partitioned.load(SeqCst);
        offered.points &= !self.faults.pointless.load(SeqCst);
        offered
    }

    fn now(&self) -> Timestamp {
        Store::now(&self.inner)
    }

    async fn enqueue(&self, tasks: Vec<NewTask>) -> Result<Vec<Result<(), Conflict>>, BrokerError> {
        self.reach()?;
        self.faults.enqueues.fetch_add(1, SeqCst);
        pass(&self.faults.enqueue_gate).await;
        let away = self.faults.away.get();
        if tasks.iter().any(|task| Some(&task.envelope.queue) == away) {
            return Err(BrokerError::unavailable("its server is away"));
        }
        Store::enqueue(&self.inner, tasks).await
    }

    async fn lease(&self, request: &LeaseRequest) -> Result<Each<Vec<Leased>>, BrokerError> {
        self.faults.leases.fetch_add(1, SeqCst);
        assert!(!self.faults.lease_panics.load(SeqCst), "lost count");
        self.reach()?;
        self.hear(request.queues.iter().map(|(queue, _)| queue))
            .await;
        let mut request = request.clone();
        let extra = self.faults.generous.load(SeqCst);
        request.max += extra;
        for (queue, max) in &mut request.queues {
            *max += extra;
            if self.error_of(queue).is_some() {
                *max = 0;
            }
        }
        let leased = Store::lease(&self.inner, &request).await;
        pass(&self.faults.lease_answers).await;
        self.spoil(leased, request.queues.into_iter().map(|(queue, _)| queue))
    }

    async fn extend(
        &self,
        leases: &[Lease],
        lease: Duration,
    ) -> Result<Each<Extended>, BrokerError> {
        self.reach()?;
        self.faults.extensions.fetch_add(1, SeqCst);
        self.hear(leases.iter().map(|lease| &lease.task.queue))
            .await;
        let mut answers = Vec::new();
        for one in leases {
            match self.error_of(&one.task.queue) {
                Some(error) => answers.push(Err(error)),
                None => {
                    let one = std::slice::from_ref(one);
                    answers.extend(Store::extend(&self.inner, one, lease).await?);
                }
            }
        }
        Ok(answers)
    }

    async fn settle(&self, settlements: &[Settlement]) -> Result<Each<Settled>, BrokerError> {
        self.reach()?;
        assert!(!self.faults.settle_panics.load(SeqCst), "lost count");
        if self.faults.settle_fails.load(SeqCst) {
            return Err(BrokerError::unavailable("read only"));
        }
        let largest = self.faults.largest_result.load(SeqCst);
        let is_too_large = |settlement: &Settlement| matches!(&settlement.outcome, Outcome::Complete { result: Some(result) } if result.len() > largest);
        if settlements.iter().any(is_too_large) {
            return Err(BrokerError::protocol("invalid bulk length"));
        }
        self.hear(settlements.iter().map(|one| &one.envelope.queue))
            .await;
        let sick = self.faults.sick.lock().unwrap().clone();
        let mut answers = Vec::new();
        for one in settlements {
            match &sick {
                Some((sick, Sickness::Error(error) | Sickness::Outcomes(error)))
                    if *sick == one.envelope.queue =>
                {
                    answers.push(Err(error.clone()));
                }
                _ => {
                    let one = std::slice::from_ref(one);
                    answers.extend(Store::settle(&self.inner, one).await?);
                }
            }
        }
        Ok(answers)
    }

    async fn forward(&self, queues: &[Name], limit: usize) -> Result<Each<Forwarded>, BrokerError> {
        self.reach()?;
        self.hear(queues.iter()).await;
        let forwarded = Store::forward(&self.inner, queues, limit).await;
        self.spoil(forwarded, queues.iter().cloned())
    }

    async fn expired(
        &self,
        queues: &[Name],
        by: Timestamp,
        limit: usize,
    ) -> Result<Each<Vec<Leased>>, BrokerError> {
        self.reach()?;
        self.hear(queues.iter()).await;
        let expired = Store::expired(&self.inner, queues, by, limit).await;
        self.spoil(expired, queues.iter().cloned())
    }

    async fn trim(
        &self,
        queues: &[Name],
        keep: Keep,
        limit: usize,
    ) -> Result<Each<Trimmed>, BrokerError> {
        self.reach()?;
        self.hear(queues.iter()).await;
        let trimmed = Store::trim(&self.inner, queues, keep, limit).await;
        self.spoil(trimmed, queues.iter().cloned())
    }

    async fn queues(&self) -> Result<Vec<Name>, BrokerError> {
        Store::queues(&self.inner).await
    }

    async fn stats(&self, queues: &[Name]) -> Result<Vec<QueueStats>, BrokerError> {
        Store::stats(&self.inner, queues).await
    }

    async fn tasks(&self, tasks: &[TaskRef]) -> Result<Vec<Option<TaskInfo>>, BrokerError> {
        Store::tasks(&self.inner, tasks).await
    }

    async fn list(
        &self,
        queue: &Name,
        state: TaskState,
        page: Page,
    ) -> Result<TaskPage, BrokerError> {
        Store::list(&self.inner, queue, state, page).await
    }

    async fn edit(&self, edits: &[Edit]) -> Result<Vec<Edited>, BrokerError> {
        self.reach()?;
        let left = self.faults.changes_left.load(SeqCst);
        let rest = left.checked_sub(edits.len());
        let rest = rest.ok_or_else(|| BrokerError::unavailable("read only"))?;
        self.faults.changes_left.store(rest, SeqCst);
        self.inner.edit(edits).await
    }

    async fn add_points(&self, points: Vec<Point>) -> Result<(), BrokerError> {
        if self.faults.points_fail.load(SeqCst) {
            return Err(BrokerError::unavailable("read only"));
        }
        Store::add_points(&self.inner, points).await
    }

    async fn set_paused(&self, queues: &[Name], paused: bool) -> Result<(), BrokerError> {
        self.reach()?;
        Store::set_paused(&self.inner, queues, paused).await
    }

    async fn delete_queue(&self, queue: &Name, force: bool) -> Result<bool, BrokerError> {
        self.reach()?;
        Store::delete_queue(&self.inner, queue, force).await
    }

    async fn document(
        &self,
        space: Space,
        names: &[Name],
    ) -> Result<Vec<Option<Document>>, BrokerError> {
        self.inner.document(space, names).await
    }

    async fn documents(&self, space: Space) -> Result<Vec<(Name, Document)>, BrokerError> {
        self.inner.documents(space).await
    }

    async fn swap(&self, sets: Vec<Vec<DocumentSwap>>) -> Result<Vec<Swapped>, BrokerError> {
        let begins = |fault: &Mutex<Option<&str>>| {
            let name = *fault.lock().unwrap();
            name.is_some_and(|name| sets.iter().flatten().any(|change| fires(change, name)))
        };
        if begins(&self.faults.unfired) {
            return Err(BrokerError::protocol("WRONGTYPE"));
        }
        if begins(&self.faults.unanswered) {
            pending::<()>().await;
        }
        self.inner.swap(sets).await
    }

    async fn due(&self, space: Space, limit: usize) -> Result<DueDocuments, BrokerError> {
        if space == Space::Schedules {
            self.faults.turns.fetch_add(1, SeqCst);
        }
        self.inner.due(space, limit).await
    }

    async fn close(&self) {
        Store::close(&self.inner).await;
    }

    async fn ping(&self) -> Result<(), BrokerError> {
        self.reach()
    }

    async fn signals(&self, queues: &[Name]) -> Result<Signals, BrokerError> {
        self.reach()?;
        pass(&self.faults.subscriptions).await;
        if self.faults.deaf.load(SeqCst) {
            return Ok(stream::pending().boxed());
        }
        let rumours = stream::unfold(self.faults.rumours.subscribe(), async |mut rumours| {
            let rumour = rumours.recv().await.ok()?;
            Some((rumour, rumours))
        });
        let signals = Store::signals(&self.inner, queues).await?;
        Ok(stream::select(signals, rumours).boxed())
    }

    async fn due_groups(
        &self,
        queues: &[Name],
        events: &[Name],
        limit: usize,
    ) -> Result<DueGroups, BrokerError> {
        let silent = self.faults.silent.get();
        if queues.iter().any(|queue| Some(queue) == silent) {
            pending::<()>().await;
        }
        Store::due_groups(&self.inner, queues, events, limit).await
    }

    async fn aggregate(
        &self,
        aggregation: Aggregation,
    ) -> Result<Result<bool, Conflict>, BrokerError> {
        if Some(&aggregation.group.name) == self.faults.away_group.get() {
            return Err(BrokerError::unavailable("its server is away"));
        }
        let size = aggregation.task.envelope.payload.len();
        if size > self.faults.max_aggregate.load(SeqCst) {
            return Err(BrokerError::protocol("invalid bulk length"));
        }
        Store::aggregate(&self.inner, aggregation).await
    }
}

/// Whether a scheduler that fires an entry with this name reads its history.
fn fires(change: &DocumentSwap, name: &str) -> bool {
    let looks = change.space == Space::ScheduleEvents && change.put == Put::Keep;
    looks && change.name.starts_with(name)
}
