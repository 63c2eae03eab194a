//! What happens after an error.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use asynqueue_core::{
    broker::Broker,
    memory::MemoryBroker,
    process::{Context, Payload, TaskError},
    producer::{Producer, ResultError},
    server::{Server, ServerBuilder},
    task::{FailureKind, TaskState},
};

use crate::harness::{
    AN_HOUR, Job, becomes, broker, counts, counts_become, failure_of, info, job, output_of, soon,
    until,
};

/// The numbers of the attempts that ran, in order.
#[derive(Clone, Default)]
struct Attempts(Arc<Mutex<Vec<u32>>>);

impl Attempts {
    fn seen(&self) -> Vec<u32> {
        self.0.lock().unwrap().clone()
    }
}

/// A server whose handler returns `answer` of each attempt.
fn server(
    broker: &MemoryBroker,
    answer: impl Fn(u32) -> Result<(), TaskError> + Send + Sync + 'static,
) -> (ServerBuilder, Attempts) {
    let attempts = Attempts::default();
    let (answer, seen) = (Arc::new(answer), attempts.clone());
    let process = move |_: Payload<Job>, ctx: Context| {
        seen.0.lock().unwrap().push(ctx.attempt());
        let result = answer(ctx.attempt());
        async move { result }
    };
    (Server::builder(broker.clone()).process(process), attempts)
}

#[tokio::test]
async fn an_error_is_retried_with_the_backoff_until_it_succeeds() {
    let (broker, producer) = broker();
    let (server, attempts) = server(&broker, |attempt| match attempt {
        4 => Ok(()),
        n => Err(TaskError::retry(format!("no {n}"))),
    });
    let _server = server.start().await.unwrap();
    let task = producer.enqueue(job(1)).await.unwrap();
    output_of(&task).await;
    assert_eq!(attempts.seen(), [1, 2, 3, 4]);
    let info = info(&task).await;
    let failures: Vec<_> = info
        .envelope
        .failures()
        .iter()
        .map(|failure| (failure.attempt, failure.message.as_str()))
        .collect();
    assert_eq!(failures, [(1, "no 1"), (2, "no 2"), (3, "no 3")]);
    counts_become(&broker, &[(TaskState::Completed, 1)]).await;
}

#[tokio::test]
async fn a_task_with_three_retries_runs_four_times_and_keeps_all_its_failures() {
    let (broker, producer) = broker();
    let (server, attempts) = server(&broker, |n| Err(TaskError::retry(format!("no {n}"))));
    let _server = server.start().await.unwrap();
    let task = producer.enqueue(job(1)).max_retry(3).await.unwrap();
    assert_eq!(failure_of(&task).await.message, "no 4");
    assert_eq!(attempts.seen(), [1, 2, 3, 4]);
    assert_eq!(info(&task).await.envelope.failures().len(), 4);
    counts_become(&broker, &[(TaskState::Archived, 1)]).await;
}

#[tokio::test]
async fn a_task_without_retries_runs_once() {
    let (broker, producer) = broker();
    let (server, attempts) = server(&broker, |_| Err(TaskError::retry("no")));
    let _server = server.start().await.unwrap();
    failure_of(&producer.enqueue(job(1)).max_retry(0).await.unwrap()).await;
    assert_eq!(attempts.seen(), [1]);
}

#[tokio::test]
async fn a_retry_waits_for_the_backoff() {
    let (broker, producer) = broker();
    let (server, _) = server(&broker, |_| Err(TaskError::retry("no")));
    let _server = server.start().await.unwrap();
    let backoff = asynqueue_core::task::Backoff::Fixed(AN_HOUR);
    let task = producer.enqueue(job(1)).backoff(backoff).await.unwrap();
    let info = becomes(&task, TaskState::Retry).await;
    let failed_at = info.envelope.last_failure().unwrap().at;
    let wait = info.at.unwrap().since(failed_at);
    assert!(wait >= AN_HOUR, "{wait:?}");
    assert_eq!(counts(&broker).await, [(TaskState::Retry, 1)]);
}

#[tokio::test]
async fn skip_retry_archives_immediately() {
    let (broker, producer) = broker();
    let (server, attempts) = server(&broker, |_| Err(TaskError::skip_retry("no such user")));
    let _server = server.start().await.unwrap();
    let failure = failure_of(&producer.enqueue(job(1)).await.unwrap()).await;
    assert_eq!(
        (failure.kind, failure.message.as_str(), failure.attempt),
        (FailureKind::Error, "no such user", 1)
    );
    assert_eq!(attempts.seen(), [1]);
    counts_become(&broker, &[(TaskState::Archived, 1)]).await;
}

#[tokio::test]
async fn revoke_drops_the_task() {
    let (broker, producer) = broker();
    let (server, attempts) = server(&broker, |_| Err(TaskError::revoke()));
    let _server = server.start().await.unwrap();
    let task = producer.enqueue(job(1)).await.unwrap();
    assert!(matches!(
        soon("the task is dropped", task.result()).await,
        Err(ResultError::Gone { .. })
    ));
    assert_eq!(attempts.seen(), [1]);
    counts_become(&broker, &[]).await;
}

#[tokio::test]
async fn retry_after_replaces_the_backoff() {
    let (broker, producer) = broker();
    let (server, attempts) = server(&broker, |attempt| match attempt {
        1 => Err(TaskError::retry_after(Duration::from_millis(1), "busy")),
        2 => Err(TaskError::retry_after(AN_HOUR, "closed")),
        _ => Ok(()),
    });
    let _server = server.start().await.unwrap();
    let backoff = asynqueue_core::task::Backoff::Fixed(AN_HOUR * 5);
    let task = producer.enqueue(job(1)).backoff(backoff).await.unwrap();
    until("the second attempt failed", async || {
        info(&task).await.envelope.attempts == 2
    })
    .await;
    let info = becomes(&task, TaskState::Retry).await;
    let wait = info
        .at
        .unwrap()
        .since(info.envelope.last_failure().unwrap().at);
    assert!((AN_HOUR..AN_HOUR * 2).contains(&wait), "{wait:?}");
    assert_eq!(attempts.seen(), [1, 2]);
}

#[tokio::test]
async fn snooze_counts_no_attempt_and_keeps_no_failure() {
    let (broker, producer) = broker();
    let snoozes = std::sync::atomic::AtomicU32::new(5);
    let (server, attempts) = server(&broker, move |_| {
        match snoozes.fetch_sub(1, std::sync::atomic::Ordering::SeqCst) {
            1 => Ok(()),
            _ => Err(TaskError::snooze(Duration::from_millis(1))),
        }
    });
    let _server = server.start().await.unwrap();
    let task = producer.enqueue(job(1)).max_retry(0).await.unwrap();
    output_of(&task).await;
    assert_eq!(attempts.seen(), [1, 1, 1, 1, 1]);
    let info = info(&task).await;
    assert_eq!(
        (info.envelope.attempts, info.envelope.failures().len()),
        (0, 0)
    );
}

#[tokio::test]
async fn a_snoozed_task_is_scheduled_that_far_ahead() {
    let (broker, producer) = broker();
    let (server, _) = server(&broker, |_| Err(TaskError::snooze(AN_HOUR)));
    let _server = server.start().await.unwrap();
    let before = Broker::now(&broker);
    let task = producer.enqueue(job(1)).await.unwrap();
    let info = becomes(&task, TaskState::Scheduled).await;
    assert!(info.at >= Some(before + AN_HOUR), "{:?}", info.at);
    assert_eq!(counts(&broker).await, [(TaskState::Scheduled, 1)]);
}

#[tokio::test]
async fn an_error_that_is_not_a_failure_counts_no_attempt_and_is_not_reported() {
    let (broker, producer) = broker();
    let left = std::sync::atomic::AtomicU32::new(4);
    let (server, attempts) = server(&broker, move |_| {
        match left.fetch_sub(1, std::sync::atomic::Ordering::SeqCst) {
            1 => Ok(()),
            2 => Err(TaskError::retry("a real one")),
            _ => Err(TaskError::retry("rate limited")),
        }
    });
    let reported = Arc::new(Mutex::new(Vec::new()));
    let report = Arc::clone(&reported);
    let _server = server
        .is_failure(|error| error.message() != "rate limited")
        .on_error(move |ctx, error| {
            let line = format!("{} {}", ctx.attempt(), error.message());
            report.lock().unwrap().push(line);
        })
        .start()
        .await
        .unwrap();
    let task = producer.enqueue(job(1)).max_retry(1).await.unwrap();
    output_of(&task).await;
    assert_eq!(attempts.seen(), [1, 1, 1, 2]);
    assert_eq!(info(&task).await.envelope.attempts, 1);
    assert_eq!(*reported.lock().unwrap(), ["1 a real one"]);
}

#[tokio::test]
async fn on_error_is_called_for_each_failed_attempt_once() {
    let (broker, producer) = broker();
    let (server, _) = server(&broker, |n| Err(TaskError::retry(format!("no {n}"))));
    let reported = Arc::new(Mutex::new(Vec::new()));
    let report = Arc::clone(&reported);
    let _server = server
        .on_error(move |ctx, error| {
            report
                .lock()
                .unwrap()
                .push((ctx.attempt(), error.message()))
        })
        .start()
        .await
        .unwrap();
    failure_of(&producer.enqueue(job(1)).max_retry(1).await.unwrap()).await;
    assert_eq!(
        *reported.lock().unwrap(),
        [(1, "no 1".into()), (2, "no 2".into())]
    );
}

#[tokio::test]
async fn a_foreign_error_is_retried_with_its_causes_named() {
    let broker = MemoryBroker::new();
    let producer = Producer::new(broker.clone());
    #[derive(Debug, thiserror::Error)]
    #[error("cannot send")]
    struct CannotSend(#[source] std::io::Error);
    let _server = Server::builder(broker.clone())
        .process(|_: Payload<Job>, _: Context| async {
            Err::<(), _>(CannotSend(std::io::Error::other("no route")))
        })
        .start()
        .await
        .unwrap();
    let failure = failure_of(&producer.enqueue(job(1)).max_retry(0).await.unwrap()).await;
    assert_eq!(failure.message, "cannot send: no route");
}
