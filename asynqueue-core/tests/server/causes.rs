//! What servers report about failures, by cause.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use asynqueue_core::{
    broker::{Broker, LeaseRequest, Series, all_of},
    failure::{Cause, Ended, Failed, Failures, Fingerprint},
    inspector::{Action, Filter, Inspector},
    memory::MemoryBroker,
    process::{Context, Payload, TaskError},
    server::{Server, ServerBuilder},
    task::{FailureKind, TaskState, Timestamp},
};
use futures_util::StreamExt;

use crate::harness::{Job, broker, counts_become, job};

async fn read(broker: &MemoryBroker, series: Series) -> Failures {
    let inspector = Inspector::new(broker.clone());
    let read = inspector.failures_since(series, Timestamp::default()).await;
    read.unwrap()
}

fn server(broker: &MemoryBroker) -> ServerBuilder {
    let waited = Arc::new(AtomicBool::new(false));
    Server::builder(broker.clone())
        .is_failure(|error| error.message() != "not counted")
        .process(move |job: Payload<Job>, ctx: Context| {
            let waited = Arc::clone(&waited);
            async move {
                let id = ctx.id().as_str().to_owned();
                match job.n {
                    0 => Ok(()),
                    1 => Err(TaskError::skip_retry(format!(
                        "400 no such card (request req_{id}1a)"
                    ))),
                    2 => Err(TaskError::skip_retry("expired_card")),
                    3 if ctx.attempt() == 1 => {
                        Err(TaskError::retry_after(Duration::ZERO, "503 try again"))
                    }
                    4 if !waited.swap(true, SeqCst) => {
                        Err(TaskError::retry_after(Duration::ZERO, "not counted"))
                    }
                    _ => Ok(()),
                }
            }
        })
}

fn of(message: &str) -> Fingerprint {
    Fingerprint::of("job", FailureKind::Error, message)
}

fn cause<'f>(failures: &'f Failures, message: &str) -> &'f Cause {
    let found = failures
        .causes
        .iter()
        .find(|one| one.fingerprint == of(message));
    found.unwrap_or_else(|| panic!("{message}: {failures:?}"))
}

/// A server reports when it stops, so that a short one is counted too.
#[tokio::test]
async fn a_server_reports_the_causes_of_its_failures_with_an_example() {
    let (broker, producer) = broker();
    for n in [0, 1, 1, 1, 2, 3, 4] {
        producer.enqueue(job(n)).await.unwrap();
    }
    let server = server(&broker).start().await.unwrap();
    counts_become(
        &broker,
        &[(TaskState::Completed, 3), (TaskState::Archived, 4)],
    )
    .await;
    server.shutdown().await.unwrap();
    for series in [
        Series::FailureMinutes,
        Series::FailureHours,
        Series::FailureDays,
    ] {
        let failures = read(&broker, series).await;
        let ended = Ended::new(3, 5, 4, 0);
        assert_eq!(
            failures.queues.iter().next(),
            Some((&"default".into(), &ended))
        );
        assert_eq!(failures.causes.len(), 3, "{failures:?}");
        let first = &failures.causes[0];
        assert_eq!(first.fingerprint, of("400 no such card (request req_77)"));
        assert_eq!((&*first.event, first.kind), ("job", FailureKind::Error));
        assert_eq!(first.failed(), Failed::new(3, 3));
        assert_eq!(first.message, "400 no such card (request req_#)");
        let task = first.task.clone().expect("an example");
        assert!(first.example.contains(task.id.as_str()), "{first:?}");
        assert_eq!(cause(&failures, "expired_card").failed(), Failed::new(1, 1));
        assert_eq!(
            cause(&failures, "503 try again").failed(),
            Failed::new(1, 0)
        );
    }

    // The filter of a cause finds exactly its tasks.
    let inspector = Inspector::new(broker.clone());
    let filter = Filter::default().cause(of("400 no such card (request req_77)"));
    let mut all = inspector.apply_to_all(Action::Delete, "default", TaskState::Archived, filter);
    let mut deleted = 0;
    while let Some(progress) = all.next().await {
        deleted = progress.unwrap().done;
    }
    assert_eq!(deleted, 3);
}

/// Nothing is known about such an attempt, and the task runs again.
#[tokio::test]
async fn an_expired_lease_is_counted_apart_from_failures() {
    const LEASE: Duration = Duration::from_millis(100);
    let (broker, producer) = broker();
    producer.enqueue(job(0)).await.unwrap();
    let request = LeaseRequest::new(vec![("default".into(), 1)], 1, LEASE, "dead".into());
    all_of(broker.lease(&request).await).unwrap();
    let server = server(&broker).lease(LEASE).start().await.unwrap();
    counts_become(&broker, &[(TaskState::Completed, 1)]).await;
    server.shutdown().await.unwrap();
    let failures = read(&broker, Series::FailureMinutes).await;
    let ended: Vec<_> = failures.queues.values().collect();
    assert_eq!(ended, [&Ended::new(1, 0, 0, 1)]);
    assert_eq!(failures.causes[0].kind, FailureKind::LeaseExpired);
}
