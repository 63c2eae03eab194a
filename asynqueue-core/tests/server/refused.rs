//! Tasks that cannot be accepted or run: each reports why, is kept, and stops nothing else.

use std::{sync::Arc, time::Duration};

use asynqueue_core::{
    broker::{Broker, BrokerError, Conflict, NewTask, When},
    codec::CodecName,
    memory::MemoryBroker,
    process::{Context, OnDecodeError, Payload, TaskError},
    producer::{EnqueueError, Producer, TaskHandle},
    server::{Server, ServerError, ServerHandle},
    task::{Backoff, Envelope, FailureKind, Task, TaskId, TaskRef, TaskState},
};
use asynqueue_macros::Task;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::harness::{
    AN_HOUR, Job, broker, counts, counts_become, failure_of, info, job, output_of, soon, until,
};

/// A second type for the event of `Job`, as after an incompatible change.
#[derive(Serialize, Deserialize, Task)]
#[task(event = "job", crate = asynqueue_core)]
struct OtherJob {
    name: String,
}

const TICK: Duration = Duration::from_millis(2);

#[derive(Serialize, Deserialize, Task)]
#[task(event = "blob", crate = asynqueue_core)]
struct Blob(String);

async fn start(broker: &MemoryBroker) -> ServerHandle {
    Server::builder(broker.clone())
        .on_decode_error(OnDecodeError::Archive)
        .process(|_: Payload<Job>, _: Context| async { Ok::<_, TaskError>(()) })
        .start()
        .await
        .unwrap()
}

/// The server still works, and no task is missing.
async fn still_works(broker: &MemoryBroker, producer: &Producer, archived: u64) {
    output_of(&producer.enqueue(job(0)).await.unwrap()).await;
    let expected = [(TaskState::Completed, 1), (TaskState::Archived, archived)];
    counts_become(broker, &expected[..1 + usize::from(archived > 0)]).await;
}

#[tokio::test]
async fn a_task_that_is_too_large_names_its_largest_part_and_the_limit() {
    const LIMIT: usize = 1 << 20;
    const LARGE: usize = 8 << 20;
    let (broker, producer) = broker();
    let _server = start(&broker).await;
    let large = || "x".repeat(LARGE);
    let refused = [
        ("payload", producer.enqueue(Blob(large())).await.err()),
        (
            "header `trace`",
            (producer
                .enqueue(job(1))
                .header("a", "b")
                .header("trace", large()))
            .await
            .err(),
        ),
        (
            "header `",
            producer.enqueue(job(1)).header(large(), "b").await.err(),
        ),
        (
            "unique_key",
            (producer.enqueue(job(1)).unique(AN_HOUR).unique_key(large()))
                .await
                .err(),
        ),
        (
            "header `0`",
            (producer.publish(job(1)).header("0", large())).await.err(),
        ),
    ];
    for (part, error) in refused {
        let error = error.expect(part);
        let text = error.to_string();
        let EnqueueError::TooLarge {
            event,
            field,
            field_size,
            size,
            limit,
        } = error
        else {
            panic!("another error: {text}")
        };
        assert!(field.starts_with(part), "{field:.40} is not {part}");
        assert_eq!(limit, LIMIT);
        assert!(
            LARGE <= field_size && field_size <= size,
            "{field_size}, {size}"
        );
        for part in [
            &*event,
            &field_size.to_string(),
            &size.to_string(),
            &limit.to_string(),
        ] {
            assert!(text.contains(part), "no {part} in: {text:.200}");
        }
    }
    still_works(&broker, &producer, 0).await;
}

#[tokio::test]
async fn the_parts_of_a_task_are_within_the_limit_together() {
    let (broker, _) = broker();
    let producer = Producer::with_max_payload(broker.clone(), 100);
    let send = |payload, value| {
        let task = producer.enqueue(Blob("x".repeat(payload)));
        task.header("k", "v".repeat(value))
    };
    // A short string is two bytes longer in MessagePack.
    send(57, 40).await.expect("100 bytes");
    let error = send(57, 41).await.expect_err("101 bytes");
    assert_eq!(
        error.to_string(),
        "task of `blob` has 101 bytes, 59 of them in payload: expected at most 100; store large data elsewhere and \
         send a reference, or raise the limit with `Producer::with_max_payload`"
    );
}

#[tokio::test]
async fn a_producer_with_a_higher_limit_accepts_a_large_payload() {
    let (broker, _) = broker();
    let producer = Producer::with_max_payload(broker.clone(), 11 << 20);
    producer
        .enqueue(Blob("x".repeat(10 << 20)))
        .await
        .expect("accepted");
    assert_eq!(counts(&broker).await, [(TaskState::Pending, 1)]);
}

#[tokio::test]
async fn a_payload_of_another_type_is_archived_immediately_if_the_server_is_configured_so() {
    let (broker, producer) = broker();
    let _server = start(&broker).await;
    let other = OtherJob { name: "no".into() };
    let task = producer.enqueue(other).await.unwrap();
    let failure = failure_of(&task).await;
    assert_eq!(failure.kind, FailureKind::Decode);
    assert!(
        failure.message.starts_with("invalid payload of `job`: "),
        "{}",
        failure.message
    );
    assert_eq!(info(&task).await.envelope.attempts, 1, "not retried");
    still_works(&broker, &producer, 1).await;
}

#[tokio::test]
async fn a_payload_that_does_not_decode_is_retried_until_a_server_can_decode_it() {
    let (broker, producer) = broker();
    let old = Server::builder(broker.clone());
    let old = old.process(|_: Payload<Job>, _: Context| async { Ok::<_, TaskError>(()) });
    let old = old.start().await.unwrap();
    let other = producer.enqueue(OtherJob { name: "no".into() });
    let task = other
        .retention(AN_HOUR)
        .backoff(Backoff::Fixed(TICK))
        .await
        .unwrap();
    until("an attempt has failed", async || {
        info(&task).await.envelope.attempts > 0
    })
    .await;
    let failed = info(&task).await.envelope;
    assert_eq!(failed.last_failure().unwrap().kind, FailureKind::Decode);
    old.shutdown().await.unwrap();

    let new = Server::builder(broker.clone());
    let new = new.process(|_: Payload<OtherJob>, _: Context| async { Ok::<_, TaskError>(()) });
    let _new = new.start().await.unwrap();
    output_of(&task).await;
}

/// A codec known only to its producer.
struct Secret;

impl asynqueue_core::codec::Codec for Secret {
    const NAME: &'static str = "secret";

    fn encode<T: Serialize + ?Sized>(_: &T) -> Result<Vec<u8>, asynqueue_core::codec::CodecError> {
        Ok(vec![1])
    }

    fn decode<T: serde::de::DeserializeOwned>(
        _: &[u8],
    ) -> Result<T, asynqueue_core::codec::CodecError> {
        Err(asynqueue_core::codec::CodecError::new("no"))
    }
}

#[tokio::test]
async fn a_codec_that_the_worker_does_not_know_is_rejected_with_the_known_ones_named() {
    let (broker, producer) = broker();
    let _server = start(&broker).await;
    let codec = CodecName::of::<Secret>();
    let envelope = Envelope::new(TaskId::generate(), Job::EVENT, codec, Bytes::from("?"));
    let handle: TaskHandle<Job> = producer.handle(envelope.task_ref());
    let when = When::Now;
    broker
        .enqueue(vec![NewTask::new(envelope, when)])
        .await
        .unwrap()
        .remove(0)
        .unwrap();
    let failure = failure_of(&handle).await;
    assert_eq!(failure.kind, FailureKind::Decode);
    assert!(
        failure
            .message
            .contains("unknown codec `secret`: expected one of msgpack, json"),
        "{}",
        failure.message
    );
    still_works(&broker, &producer, 1).await;
}

#[tokio::test]
async fn a_duplicate_id_names_its_holder_and_the_holders_state() {
    let (broker, producer) = broker();
    let holder = producer.enqueue(job(1)).id("one").await.unwrap();
    let conflict = |result: Result<TaskHandle<Job>, EnqueueError>| match result {
        Err(EnqueueError::Conflict(Conflict::Id { task, state })) => (task, state),
        other => panic!("no conflict: {other:?}"),
    };
    let one = TaskRef::new("default", TaskId::new("one").unwrap());
    let again = producer.enqueue(job(2)).id("one").await;
    assert_eq!(conflict(again), (one.clone(), TaskState::Pending));

    let _server = start(&broker).await;
    output_of(&holder).await;
    let again = producer.enqueue(job(2)).id("one").await;
    assert_eq!(conflict(again), (one, TaskState::Completed));
    counts_become(&broker, &[(TaskState::Completed, 1)]).await;
}

#[tokio::test]
async fn a_closed_broker_rejects_tasks_and_ends_the_server_with_a_typed_error() {
    let (broker, producer) = broker();
    let mut server = start(&broker).await;
    output_of(&producer.enqueue(job(1)).await.unwrap()).await;
    asynqueue_core::broker::Control::close(&broker).await;
    assert!(matches!(
        producer.enqueue(job(1)).await,
        Err(EnqueueError::Broker(BrokerError::Closed))
    ));
    assert!(matches!(
        soon("the server ends", server.ended()).await,
        Err(ServerError::Broker(BrokerError::Closed))
    ));
    assert!(matches!(
        start_on_closed(&broker).await,
        Err(ServerError::Broker(BrokerError::Closed))
    ));
}

async fn start_on_closed(broker: &MemoryBroker) -> Result<ServerHandle, ServerError> {
    Server::builder(broker.clone())
        .process(|_: Payload<Job>, _: Context| async { Ok::<_, TaskError>(()) })
        .start()
        .await
}

#[tokio::test]
async fn an_idle_server_that_seldom_polls_notices_immediately_that_the_broker_is_closed() {
    let (broker, producer) = broker();
    let mut server = Server::builder(broker.clone())
        .poll_interval(AN_HOUR)
        .process(|_: Payload<Job>, _: Context| async { Ok::<_, TaskError>(()) })
        .start()
        .await
        .unwrap();
    // The last of these is found by a signal, so the server is listening.
    for n in 0..3 {
        output_of(&producer.enqueue(job(n)).await.unwrap()).await;
    }
    asynqueue_core::broker::Control::close(&broker).await;
    assert!(matches!(
        soon("the server ends", server.ended()).await,
        Err(ServerError::Broker(BrokerError::Closed))
    ));
}

#[tokio::test]
async fn a_busy_server_notices_that_the_broker_is_closed() {
    let (broker, producer) = broker();
    let started = Arc::new(tokio::sync::Semaphore::new(0));
    let start = Arc::clone(&started);
    let mut server = Server::builder(broker.clone())
        .concurrency(1)
        .shutdown_timeout(std::time::Duration::from_millis(10))
        .cancel_grace(std::time::Duration::from_millis(10))
        .process(move |_: Payload<Job>, _: Context| {
            start.add_permits(1);
            std::future::pending::<Result<(), TaskError>>()
        })
        .start()
        .await
        .unwrap();
    producer.enqueue(job(1)).await.unwrap();
    let _started = soon("the task starts", started.acquire()).await;
    asynqueue_core::broker::Control::close(&broker).await;
    assert!(matches!(
        soon("the server ends", server.ended()).await,
        Err(ServerError::Broker(BrokerError::Closed))
    ));
}
