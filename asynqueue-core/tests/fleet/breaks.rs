//! Stores and programs that break promises are found.

use std::time::Duration;

use async_trait::async_trait;
use asynqueue_core::{
    broker::*,
    memory::MemoryBroker,
    task::{Name, TaskRef, TaskState, Timestamp},
    testing::fleet::{Fault, Promise, Report},
};

use super::{fleet, server};

/// How a store is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    /// Reports the eighth task and later ones as accepted, but does not store them.
    Forgets,
    /// Reports every lease as expired.
    AllExpired,
    /// Leases tasks that are not due yet.
    Early,
    /// Reports outcomes as recorded, and leaves the task to the next lease.
    Unrecorded,
    /// Counts attempts that were lost with their server as failed.
    LossesFail,
}

#[derive(Debug)]
struct Flawed {
    flaw: Flaw,
    inner: MemoryBroker,
    accepted: std::sync::atomic::AtomicUsize,
}

#[async_trait]
impl Store for Flawed {
    fn inner(&self) -> Option<&dyn Store> {
        Some(&self.inner)
    }

    fn now(&self) -> Timestamp {
        Store::now(&self.inner)
    }

    async fn enqueue(&self, tasks: Vec<NewTask>) -> Result<Vec<Result<(), Conflict>>, BrokerError> {
        let before = self
            .accepted
            .fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        if self.flaw == Flaw::Forgets && before >= 7 {
            return Ok(vec![Ok(()); tasks.len()]);
        }
        let early = tasks.into_iter().map(|mut task| {
            if self.flaw == Flaw::Early {
                task.when = When::Now;
            }
            task
        });
        Store::enqueue(&self.inner, early.collect()).await
    }

    async fn lease(&self, request: &LeaseRequest) -> Result<Each<Vec<Leased>>, BrokerError> {
        Store::lease(&self.inner, request).await
    }

    async fn extend(
        &self,
        leases: &[Lease],
        lease: Duration,
    ) -> Result<Each<Extended>, BrokerError> {
        match self.flaw {
            Flaw::AllExpired => Ok(vec![Ok(Extended::Yes); leases.len()]),
            _ => Store::extend(&self.inner, leases, lease).await,
        }
    }

    async fn settle(&self, settlements: &[Settlement]) -> Result<Each<Settled>, BrokerError> {
        match self.flaw {
            Flaw::Unrecorded => Ok(vec![Ok(Settled::Recorded); settlements.len()]),
            _ => Store::settle(&self.inner, settlements).await,
        }
    }

    async fn forward(&self, queues: &[Name], limit: usize) -> Result<Each<Forwarded>, BrokerError> {
        Store::forward(&self.inner, queues, limit).await
    }

    async fn expired(
        &self,
        queues: &[Name],
        by: Timestamp,
        limit: usize,
    ) -> Result<Each<Vec<Leased>>, BrokerError> {
        Store::expired(&self.inner, queues, by, limit).await
    }

    async fn trim(
        &self,
        queues: &[Name],
        keep: Keep,
        limit: usize,
    ) -> Result<Each<Trimmed>, BrokerError> {
        Store::trim(&self.inner, queues, keep, limit).await
    }

    async fn queues(&self) -> Result<Vec<Name>, BrokerError> {
        Store::queues(&self.inner).await
    }

    async fn stats(&self, queues: &[Name]) -> Result<Vec<QueueStats>, BrokerError> {
        let mut stats = Store::stats(&self.inner, queues).await?;
        if self.flaw == Flaw::LossesFail {
            for one in &mut stats {
                one.failed += std::mem::take(&mut one.lost);
            }
        }
        Ok(stats)
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
        self.inner.edit(edits).await
    }

    async fn set_paused(&self, queues: &[Name], paused: bool) -> Result<(), BrokerError> {
        Store::set_paused(&self.inner, queues, paused).await
    }

    async fn delete_queue(&self, queue: &Name, force: bool) -> Result<bool, BrokerError> {
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
        self.inner.swap(sets).await
    }

    async fn due(&self, space: Space, limit: usize) -> Result<DueDocuments, BrokerError> {
        self.inner.due(space, limit).await
    }

    async fn close(&self) {
        Store::close(&self.inner).await;
    }
}

/// A fleet on a flawed store.
fn run(flaw: Flaw, faults: impl IntoIterator<Item = Fault>) -> Report {
    let store = move |clock| Flawed {
        flaw,
        inner: MemoryBroker::with_clock(clock),
        accepted: Default::default(),
    };
    fleet(1)
        .client(|life| async move {
            let producer = asynqueue_core::producer::Producer::new(life.broker.clone());
            let later = producer.enqueue(super::Work { millis: 10_000 });
            later.delay(Duration::from_secs(30)).await.unwrap();
        })
        .store(store)
        .patience(Duration::from_secs(60))
        .faults(faults)
        .run()
}

#[track_caller]
fn breaks(flaw: Flaw, promise: Promise) {
    breaks_under(flaw, [], promise);
}

#[track_caller]
fn breaks_under(flaw: Flaw, faults: impl IntoIterator<Item = Fault>, promise: Promise) {
    let report = run(flaw, faults);
    let mut broken = report.broken.iter();
    assert!(
        broken.any(|broken| broken.promise == promise),
        "{:#?}",
        report.broken
    );
}

#[test]
fn a_store_that_loses_accepted_tasks_is_found() {
    breaks(Flaw::Forgets, Promise::Kept);
}

#[test]
fn a_store_that_ends_leases_of_live_workers_is_found() {
    breaks(Flaw::AllExpired, Promise::LeaseHeld);
}

#[test]
fn a_store_that_leases_too_early_is_found() {
    breaks(Flaw::Early, Promise::NotEarly);
}

#[test]
fn a_store_that_loses_outcomes_is_found() {
    breaks(Flaw::Unrecorded, Promise::NothingLeft);
}

#[test]
fn a_store_that_counts_lost_attempts_as_failed_is_found() {
    breaks_under(Flaw::LossesFail, [Fault::Kill], Promise::Counted);
}

#[test]
fn a_shutdown_that_takes_too_long_is_found_and_reported_with_its_seed() {
    let report = asynqueue_core::testing::fleet::Fleet::new(11)
        .servers(1, |life| {
            server(life).shutdown_timeout(Duration::from_secs(100))
        })
        .client(|life| async move {
            let producer = asynqueue_core::producer::Producer::new(life.broker.clone());
            producer
                .enqueue(super::Work { millis: 90_000 })
                .await
                .unwrap();
        })
        .lasting(Duration::from_secs(30))
        .strikes([{
            let mut restart = asynqueue_core::testing::fleet::Strike::new(Fault::Restart);
            (restart.node, restart.at) = (Some(0), 5_000);
            restart
        }])
        .run();
    assert_eq!(report.broken[0].promise, Promise::ShutDown);
    let panic = std::panic::catch_unwind(|| {
        report.assert_kept();
    });
    let message = *panic.unwrap_err().downcast::<String>().unwrap();
    assert!(
        message.starts_with("seed 11 breaks 1 promises:"),
        "{message}"
    );
    assert!(message.contains("fault: Restart"), "{message}");
}
