//! The tests of outcomes in transactions.

#![allow(missing_docs, reason = "the name of a test says what it requires")]

use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use asynqueue_core::{
    broker::{Extended, Finished, LeaseRequest, Outcome, Settled, Settlement},
    codec::MessagePack,
    layer::{Archived, Hook},
    process::{Context, Payload, TaskError},
    producer::Producer,
    server::Server,
    task::{Task, TaskOptions, TaskState},
    testing::drain,
};
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, mpsc};
use tracing_subscriber::util::SubscriberInitExt;

use super::{
    TransactionHarness,
    bank::{Bank, Credit, Late, credit},
};
use crate::calls::{LIMIT, eventually};

pub async fn an_outcome_is_committed_with_what_the_handler_has_written(
    harness: Arc<dyn TransactionHarness>,
) {
    let bank = Bank::new(harness);
    let broker = bank.harness.broker().await;
    let producer = Producer::new(Arc::clone(&broker));
    let server = bank.serve(Arc::clone(&broker)).await;
    for cents in 1..=20 {
        let handle = producer.enqueue(Credit { cents }).await.unwrap();
        assert_eq!(handle.result().await.expect("completed"), cents * 2);
    }
    server.shutdown().await.expect("ended in order");
    assert_eq!(bank.harness.credited().await, (20, 210));
    assert_eq!(bank.attempts.load(SeqCst), 20);
    let stats = broker.stats(&["default".into()]).await.unwrap().remove(0);
    assert_eq!((stats.succeeded, stats.failed), (20, 0));
    assert_eq!(stats.count(TaskState::Completed), 20);
    assert_eq!(bank.harness.notes().await, 0, "notes for servers are left");
}

/// The log of this thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Counts the tasks that are archived.
struct Archives(Arc<AtomicU32>);

impl Hook for Archives {
    async fn on_archived(&self, _: &Archived) {
        self.0.fetch_add(1, SeqCst);
    }
}

pub async fn an_error_after_the_commit_is_logged_and_the_task_counts_as_completed(
    harness: Arc<dyn TransactionHarness>,
) {
    // With one subscriber in the process, a line that another thread reaches first is disabled for all of them.
    let unread = tracing_subscriber::fmt().with_writer(io::sink);
    let _other = tracing::Dispatch::new(unread.finish());
    let log = Log::default();
    let writer = log.clone();
    let lines = tracing_subscriber::fmt()
        .without_time()
        .with_ansi(false)
        .with_writer(move || writer.clone());
    let _guard = lines.set_default();
    let bank = Bank::new(harness);
    let broker = bank.harness.broker().await;
    let producer = Producer::new(Arc::clone(&broker));
    let archived = Arc::new(AtomicU32::new(0));
    for error in [Late::Retry, Late::SkipRetry, Late::Panic] {
        let bank = Bank {
            fails_late: Some(error),
            ..bank.clone()
        };
        let enqueue = producer.enqueue(Credit { cents: 5 });
        let handle = enqueue.id(format!("{error:?}")).await.unwrap();
        let server = Server::builder(Arc::clone(&broker))
            .state(bank)
            .hook(Archives(Arc::clone(&archived)))
            .process(credit);
        drain(server).await.unwrap().assert_completed(1);
        assert_eq!(handle.result().await.expect("completed"), 10);
        let lines = String::from_utf8(std::mem::take(&mut *log.0.lock().unwrap())).unwrap();
        for expected in [
            "unless a transaction of the handler has completed the task",
            "the task was completed in a transaction of its handler; the outcome after that is ignored",
            "after the commit",
        ] {
            assert!(lines.contains(expected), "{expected}: {lines}");
        }
    }
    let credited = bank.harness.credited().await;
    assert_eq!((credited, archived.load(SeqCst)), ((3, 15), 0));
}

/// Is not kept after its end.
#[derive(Serialize, Deserialize)]
struct Brief;

impl Task for Brief {
    const EVENT: &'static str = "brief";
    type Output = u64;
    type Codec = MessagePack;

    fn options() -> Arc<TaskOptions> {
        TaskOptions::shared(|options| options.retention = Duration::ZERO)
    }
}

pub async fn the_result_of_a_task_that_is_not_kept_survives_a_later_error(
    harness: Arc<dyn TransactionHarness>,
) {
    let (broker, other) = (harness.broker().await, harness.broker().await);
    let handle = Producer::new(Arc::clone(&broker)).enqueue(Brief).await;
    let task = handle.unwrap().task_ref().clone();
    let waiter = tokio::spawn(async move { other.finished(&task).await });
    eventually("it waits", async || harness.waiters().await == 1).await;
    let completing = Arc::clone(&harness);
    let fails_late = move |_: Payload<Brief>, ctx: Context| {
        let harness = Arc::clone(&completing);
        async move {
            let completed = harness.complete(&ctx, 1, 7, true).await;
            completed.map_err(|error| TaskError::retry(error.to_string()))?;
            Err::<u64, _>(TaskError::retry("after the commit"))
        }
    };
    let server = Server::builder(broker).process(fails_late);
    let server = server.start().await.unwrap();
    let end = waiter.await.unwrap().unwrap();
    let result = match &end {
        Finished::Completed { result, .. } => result.as_deref(),
        _ => panic!("{end:?}"),
    };
    assert_eq!(result, Some(&[7][..]), "7 as MessagePack");
    server.shutdown().await.expect("ended in order");
}

pub async fn nothing_is_recorded_once_the_lease_is_lost(harness: Arc<dyn TransactionHarness>) {
    let ((started, mut starts), gate) = (mpsc::unbounded_channel(), Arc::new(Semaphore::new(0)));
    let (errors, mut lost) = mpsc::unbounded_channel();
    let bank = Bank {
        gate: Some((started, Arc::clone(&gate))),
        errors: Some(errors),
        ..Bank::new(harness)
    };
    let broker = bank.harness.broker().await;
    let server = bank.serve(Arc::clone(&broker)).await;
    let producer = Producer::new(Arc::clone(&broker));
    let handle = producer.enqueue(Credit { cents: 5 }).await.unwrap();
    starts.recv().await.expect("it starts");
    bank.harness.take_lease().await;
    gate.add_permits(1);
    let error = lost.recv().await.expect("the lease is lost");
    assert_eq!(
        error,
        "the lease of the task is lost: roll back, because another server may run the task"
    );
    assert_eq!(bank.harness.credited().await, (0, 0));
    let task = [handle.task_ref().clone()];
    let found = broker.tasks(&task).await.unwrap().remove(0);
    assert_eq!(found.expect("it exists").state, TaskState::Active);
    server.shutdown().await.expect("ended in order");
}

/// Between the commit and the server's report, the lease still counts for its server, and nobody else gets the task.
pub async fn a_completed_task_belongs_to_its_server_until_that_reports_it(
    harness: Arc<dyn TransactionHarness>,
) {
    let broker = harness.broker().await;
    let producer = Producer::new(Arc::clone(&broker));
    producer.enqueue(Credit { cents: 5 }).await.unwrap();
    let request = LeaseRequest::new(vec![("default".into(), 1)], 1, LIMIT, "worker".into());
    let leased = broker.lease(&request).await.unwrap().remove(0);
    let leased = leased.unwrap().remove(0);
    harness.complete_by_hand(&leased).await;
    let reclaimed = Settlement {
        only_if_expired: true,
        ..leased.clone().settle(Outcome::Archive)
    };
    let settled = broker.settle(&[reclaimed]).await.unwrap();
    assert!(matches!(settled[..], [Ok(Settled::Stale)]), "{settled:?}");
    let extended = broker.extend(&[leased.lease()], LIMIT).await.unwrap();
    assert!(matches!(extended[0], Ok(Extended::Yes)));
    let settle = leased.settle(Outcome::Complete { result: None });
    let both = [settle.clone(), settle.clone()];
    let settled = broker.settle(&both).await.unwrap();
    assert!(
        matches!(settled[..], [Ok(Settled::Completed), Ok(Settled::Stale)]),
        "{settled:?}"
    );
    let settled = broker.settle(&[settle]).await.unwrap();
    assert!(matches!(settled[..], [Ok(Settled::Stale)]), "{settled:?}");
}

/// The failure of an attempt that has returned a result without a commit.
fn assert_uncommitted(failure: &str) {
    assert!(
        failure.contains("did not commit the transaction"),
        "{failure}"
    );
}

pub async fn an_attempt_that_does_not_commit_has_failed(harness: Arc<dyn TransactionHarness>) {
    let bank = Bank {
        forgets: true,
        ..Bank::new(harness)
    };
    let broker = bank.harness.broker().await;
    let server = bank.serve(Arc::clone(&broker)).await;
    let producer = Producer::new(Arc::clone(&broker));
    let enqueue = producer.enqueue(Credit { cents: 5 });
    let handle = enqueue.await.unwrap();
    assert_eq!(handle.result().await.expect("completed"), 10);
    server.shutdown().await.expect("ended in order");
    let attempts = bank.attempts.load(SeqCst);
    assert_eq!((bank.harness.credited().await, attempts), ((1, 5), 2));
    let task = [handle.task_ref().clone()];
    let found = broker.tasks(&task).await.unwrap().remove(0);
    let found = found.expect("it is kept");
    assert_uncommitted(&found.envelope.failures()[0].message);
}

pub async fn a_server_counts_an_attempt_that_does_not_commit_as_a_failure(
    harness: Arc<dyn TransactionHarness>,
) {
    let bank = Bank {
        forgets: true,
        ..Bank::new(harness)
    };
    let broker = bank.harness.broker().await;
    let producer = Producer::new(Arc::clone(&broker));
    let enqueue = producer.enqueue(Credit { cents: 5 });
    enqueue.max_retry(0).await.unwrap();
    let server = Server::builder(broker).state(bank.clone()).process(credit);
    let drained = drain(server).await.unwrap();
    assert_eq!((drained.completed, drained.archived), (0, 1), "{drained:?}");
    assert_uncommitted(&drained.failures[0].1.message);
    assert_eq!(bank.harness.credited().await, (0, 0));
}
