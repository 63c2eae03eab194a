//! The largest and smallest values of settings.

use std::time::Duration;

use asynqueue_core::{
    broker::{Broker, NewTask, When},
    codec::{CodecName, MessagePack},
    layer::RateLimitLayer,
    process::{Context, Payload, TaskError},
    registry::ProcessWrapper,
    server::Server,
    task::{Backoff, Envelope, TaskId, TaskState},
};
use bytes::Bytes;

use crate::harness::{Job, broker, counts_become, failure_of, job, output_of, soon};

async fn nothing(_: Payload<Job>, _: Context) -> Result<(), TaskError> {
    Ok(())
}

#[tokio::test]
async fn max_abandoned_accepts_the_largest_number() {
    let (broker, producer) = broker();
    let server = Server::builder(broker)
        .concurrency(1)
        .max_abandoned(usize::MAX)
        .process(nothing)
        .start()
        .await
        .unwrap();
    output_of(&producer.enqueue(job(1)).await.unwrap()).await;
    soon("the server ends", server.shutdown()).await.unwrap();
}

#[tokio::test]
async fn a_server_accepts_the_longest_durations() {
    let (broker, producer) = broker();
    let _server = Server::builder(broker)
        .poll_interval(Duration::MAX)
        .lease(Duration::MAX)
        .shutdown_timeout(Duration::MAX)
        .cancel_grace(Duration::MAX)
        .process(nothing)
        .start()
        .await
        .unwrap();
    for n in 0..3 {
        output_of(&producer.enqueue(job(n)).await.unwrap()).await;
    }
}

#[tokio::test]
async fn a_task_accepts_the_longest_durations() {
    let (broker, producer) = broker();
    let fails = |_: Payload<Job>, _: Context| async {
        Err::<(), _>(TaskError::retry_after(Duration::MAX, "no"))
    };
    let _server = Server::builder(broker.clone())
        .process(fails)
        .start()
        .await
        .unwrap();
    producer
        .enqueue(job(1))
        .timeout(Duration::MAX)
        .deadline(Duration::MAX)
        .retention(Duration::MAX)
        .unique(Duration::MAX)
        .backoff(Backoff::Fixed(Duration::MAX))
        .max_retry(u32::MAX)
        .await
        .unwrap();
    producer.enqueue(job(2)).delay(Duration::MAX).await.unwrap();
    counts_become(&broker, &[(TaskState::Scheduled, 1), (TaskState::Retry, 1)]).await;
}

#[tokio::test]
async fn a_rate_of_one_in_the_longest_period_starts_one() {
    let (broker, producer) = broker();
    let process = ProcessWrapper::new(nothing).layer(RateLimitLayer::new(1, Duration::MAX));
    let _server = Server::builder(broker.clone())
        .process(process)
        .start()
        .await
        .unwrap();
    output_of(&producer.enqueue(job(1)).await.unwrap()).await;
    producer.enqueue(job(2)).await.unwrap();
    counts_become(
        &broker,
        &[(TaskState::Scheduled, 1), (TaskState::Completed, 1)],
    )
    .await;
}

#[tokio::test]
async fn the_largest_attempt_number_does_not_overflow() {
    let (broker, producer) = broker();
    let mut envelope = Envelope::new(
        TaskId::generate(),
        "job",
        CodecName::of::<MessagePack>(),
        Bytes::new(),
    );
    envelope.attempts = u32::MAX;
    let task = envelope.task_ref();
    let when = When::Now;
    broker
        .enqueue(vec![NewTask::new(envelope, when)])
        .await
        .unwrap()[0]
        .as_ref()
        .unwrap();
    let _server = Server::builder(broker)
        .process(nothing)
        .start()
        .await
        .unwrap();
    let failure = failure_of(&producer.handle::<Job>(task)).await;
    assert_eq!(failure.attempt, u32::MAX);
}
