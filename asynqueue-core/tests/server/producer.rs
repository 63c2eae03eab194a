//! The producer: options, batches and closing.

use std::{sync::atomic::Ordering::SeqCst, time::Duration};

use asynqueue_core::{
    broker::{Broker, BrokerError, Conflict, Durability, NewTask},
    memory::MemoryBroker,
    process::{Payload, TaskError},
    producer::{EnqueueError, Producer},
    server::Server,
    task::{Backoff, TaskState, Timestamp, Unique, UniqueKey, UniqueUntil},
};
use asynqueue_macros::Task;
use serde::{Deserialize, Serialize};

use crate::{
    faulty::{Faulty, shut},
    harness::{AN_HOUR, Job, broker, counts, info, job, soon, until},
};

#[tokio::test]
async fn every_option_of_a_call_is_in_the_envelope() {
    let (broker, producer) = broker();
    let before = broker.now();
    let task = producer
        .enqueue(job(1))
        .id("one")
        .queue("special")
        .delay(Duration::from_secs(60))
        .unique_until(UniqueUntil::Window, Duration::from_secs(9))
        .unique_key("customer-7")
        .priority(7)
        .header("tenant", "acme")
        .max_retry(3)
        .timeout(Duration::from_millis(1_500))
        .deadline(AN_HOUR)
        .backoff(Backoff::Fixed(Duration::from_secs(4)))
        .retention(Duration::from_secs(5))
        .group("night")
        .await
        .unwrap();
    let info = info(&task).await;
    let after = broker.now();
    let (envelope, options) = (&info.envelope, &info.envelope.options);
    assert_eq!((envelope.id.as_str(), task.id().as_str()), ("one", "one"));
    assert_eq!((&*envelope.queue, &*options.queue), ("special", "special"));
    assert_eq!((&*envelope.event, envelope.attempts), ("job", 0));
    assert_eq!(envelope.headers.get("tenant"), Some("acme"));
    assert_eq!(info.state, TaskState::Scheduled);
    let between = |time: Option<Timestamp>, delay: Duration| {
        let time = time.expect("set");
        assert!(before + delay <= time && time <= after + delay, "{time:?}");
    };
    between(info.at, Duration::from_secs(60));
    between(envelope.deadline, AN_HOUR);
    between(Some(envelope.enqueued_at), Duration::ZERO);
    let unique = envelope.unique.as_ref().expect("set");
    assert_eq!(unique.key, UniqueKey::new("customer-7"));
    assert_eq!(
        (unique.until, unique.ttl),
        (UniqueUntil::Window, Duration::from_secs(9))
    );
    let (until, ttl) = (UniqueUntil::Window, Duration::from_secs(9));
    assert_eq!(options.unique, Some(Unique::new(until, ttl)));
    assert_eq!((options.priority, options.max_retry), (7, 3));
    assert_eq!(options.timeout, Duration::from_millis(1_500));
    assert_eq!(options.backoff, Backoff::Fixed(Duration::from_secs(4)));
    assert_eq!(options.retention, Duration::from_secs(5));
    assert_eq!(options.group.as_deref(), Some("night"));
}

#[tokio::test]
async fn absolute_times_are_kept_unchanged() {
    let (_, producer) = broker();
    let (at, until) = (
        Timestamp::from_millis(1 << 50),
        Timestamp::from_millis(1 << 51),
    );
    let task = producer
        .enqueue(job(1))
        .at(at)
        .deadline_at(until)
        .await
        .unwrap();
    let info = info(&task).await;
    assert_eq!((info.at, info.envelope.deadline), (Some(at), Some(until)));
}

#[derive(Clone, Serialize, Deserialize, Task)]
#[task(event = "options", queue = "slow", deadline = "1m", unique(ttl = "1h"), crate = asynqueue_core)]
struct WithOptions {
    n: u64,
}

#[tokio::test]
async fn an_option_of_a_call_does_not_change_other_tasks_of_its_type() {
    let (_, producer) = broker();
    let one = producer
        .enqueue(WithOptions { n: 1 })
        .queue("fast")
        .max_retry(1)
        .await
        .unwrap();
    let two = producer.enqueue(WithOptions { n: 2 }).await.unwrap();
    assert_eq!(&*info(&one).await.envelope.queue, "fast");
    let two = info(&two).await;
    assert_eq!(
        (&*two.envelope.queue, two.envelope.options.max_retry),
        ("slow", 25)
    );
    assert!(two.envelope.deadline.is_some());
}

#[tokio::test]
async fn results_of_many_tasks_come_in_their_order() {
    let (broker, producer) = broker();
    producer.enqueue(WithOptions { n: 7 }).await.unwrap();
    let tasks = (0..2_500).map(|n| WithOptions { n });
    let results = producer
        .enqueue_many_with(tasks, |task, call| match task.n {
            1_200 => call.priority(10),
            1_300 => call.queue("no good"),
            2_400 => call.id(""),
            _ => call,
        })
        .await;
    assert_eq!(results.len(), 2_500);
    for (n, result) in results.iter().enumerate() {
        let as_expected = match n {
            7 => matches!(result, Err(EnqueueError::Conflict(Conflict::Unique { .. }))),
            1_200 => matches!(
                result,
                Err(EnqueueError::InvalidOption {
                    option: "priority",
                    ..
                })
            ),
            1_300 => matches!(result, Err(EnqueueError::InvalidQueue(_))),
            2_400 => matches!(result, Err(EnqueueError::InvalidId(_))),
            _ => result.is_ok(),
        };
        assert!(as_expected, "{n}: {result:?}");
    }
    let kept = info(results[2_499].as_ref().unwrap()).await;
    let payload = kept
        .envelope
        .codec
        .decode::<WithOptions, asynqueue_core::codec::MessagePack>(&kept.envelope.payload);
    assert_eq!(payload.unwrap().n, 2_499);
    assert_eq!(counts(&broker).await, [(TaskState::Pending, 2_497)]);
}

#[tokio::test]
async fn invalid_options_are_rejected_by_name() {
    let (broker, producer) = broker();
    let zero = Duration::ZERO;
    let errors = [
        (
            "`priority` of `job` is 10",
            producer.enqueue(job(1)).priority(10).await,
        ),
        (
            "`timeout` of `job` is 0ns",
            producer.enqueue(job(1)).timeout(zero).await,
        ),
        (
            "`unique` of `job` is 0s",
            producer.enqueue(job(1)).unique(zero).await,
        ),
        (
            "queue name `a b`",
            producer.enqueue(job(1)).queue("a b").await,
        ),
        (
            "option `deadline` of `job` is 5s from now: the task starts later than that, so it would never run; extend it, or shorten the delay",
            producer
                .enqueue(job(1))
                .delay(Duration::from_secs(60))
                .deadline(Duration::from_secs(5))
                .await,
        ),
        (
            "option `expires_in` of `job` is 5s from now: the task starts later than that",
            producer
                .enqueue(job(1))
                .delay(Duration::from_secs(60))
                .expires_in(Duration::from_secs(5))
                .await,
        ),
        ("task id `a b`", producer.enqueue(job(1)).id("a b").await),
    ];
    for (part, result) in errors {
        let error = result.expect_err(part).to_string();
        assert!(error.contains(part), "{part} is not in: {error}");
    }
    assert_eq!(counts(&broker).await, []);
}

#[tokio::test]
async fn a_delayed_task_may_end_after_its_delay() {
    let (_, producer) = broker();
    let minute = Duration::from_secs(60);
    for call in [
        producer.enqueue(job(1)).deadline(minute),
        producer.enqueue(job(1)).delay(minute).deadline(2 * minute),
        producer
            .enqueue(job(1))
            .delay(minute)
            .expires_in(2 * minute),
        producer
            .enqueue(job(1))
            .at(std::time::SystemTime::UNIX_EPOCH)
            .deadline(minute),
    ] {
        call.await.expect("it can run");
    }
}

#[tokio::test]
async fn closing_waits_for_calls_under_way_and_rejects_later_ones() {
    let (broker, _) = broker();
    let slow = Faulty::new(&broker);
    shut(&slow.faults.enqueue_gate);
    let producer = Producer::new(slow.clone());
    let under_way = tokio::spawn({
        let producer = producer.clone();
        async move { producer.enqueue(job(1)).await.map(drop) }
    });
    until("the broker is called", async || {
        slow.faults.enqueues.load(SeqCst) == 1
    })
    .await;
    let closing = [(); 2].map(|()| {
        let producer = producer.clone();
        tokio::spawn(async move { producer.close().await })
    });
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(closing.iter().all(|closing| !closing.is_finished()));
    let refused = producer.enqueue(job(2)).await;
    assert!(matches!(refused, Err(EnqueueError::ProducerClosed)));
    let refused = producer.enqueue_many([job(3), job(4)]).await;
    assert!(
        refused
            .iter()
            .all(|r| matches!(r, Err(EnqueueError::ProducerClosed)))
    );

    slow.faults.enqueue_gate.add_permits(1);
    under_way.await.unwrap().expect("accepted");
    for closing in closing {
        soon("it is closed", closing).await.unwrap();
    }
    producer.close().await;
    assert_eq!(counts(&broker).await, [(TaskState::Pending, 1)]);
    // The broker stays open for others.
    Producer::new(broker)
        .enqueue(job(5))
        .await
        .expect("accepted");
}

#[tokio::test]
async fn an_abandoned_enqueue_does_not_keep_the_producer_from_closing() {
    let (broker, _) = broker();
    let slow = Faulty::new(&broker);
    shut(&slow.faults.enqueue_gate);
    let producer = Producer::new(slow.clone());
    let given_up = tokio::spawn({
        let producer = producer.clone();
        async move { producer.enqueue(job(1)).await.map(drop) }
    });
    until("the broker is called", async || {
        slow.faults.enqueues.load(SeqCst) == 1
    })
    .await;
    given_up.abort();
    soon("it is closed", producer.close()).await;
}

#[tokio::test]
async fn a_key_without_a_lock_is_rejected() {
    let (broker, producer) = broker();
    let refused = producer.enqueue(job(1)).unique_key("customer-7").await;
    let error = refused.expect_err("not unique");
    assert_eq!(
        error.to_string(),
        "option `unique_key` of `job` is `customer-7`: the task is not unique; add `.unique(ttl)`"
    );
    assert_eq!(counts(&broker).await, []);
    let unique = WithOptions { n: 1 };
    let by_type = producer.enqueue(unique).unique_key("customer-7").await;
    by_type.expect("its type is unique");
}

#[tokio::test]
async fn a_key_that_not_every_broker_can_store_is_rejected() {
    let (broker, producer) = broker();
    let refused = producer.enqueue(WithOptions { n: 1 }).unique_key("a\0b");
    assert_eq!(
        refused.await.expect_err("its key").to_string(),
        "option `unique_key` of `options` is `a\\0b`: expected no character U+0000, which not every broker can store"
    );
    assert_eq!(counts(&broker).await, []);
}

#[tokio::test]
async fn an_unreachable_queue_does_not_affect_the_tasks_of_others() {
    let (inner, _) = broker();
    let faulty = Faulty::new(&inner);
    faulty.faults.away.set("away".into()).unwrap();
    let producer = Producer::new(faulty);
    let queues = ["here", "away", "there", "away", "here"];
    let sent = producer
        .enqueue_many_with((0..5).map(job), |job, call| {
            call.queue(queues[job.n as usize])
        })
        .await;
    let accepted: Vec<_> = sent.iter().map(Result::is_ok).collect();
    assert_eq!(accepted, [true, false, true, false, true]);
    let error = sent[1].as_ref().unwrap_err().to_string();
    assert!(error.contains("its server is away"), "{error}");
}

/// As a broker does that enqueues it in a transaction of the caller.
async fn enqueue_by_hand(broker: &MemoryBroker, task: NewTask) -> Result<(), Conflict> {
    broker.enqueue(vec![task]).await.unwrap().remove(0)
}

#[tokio::test]
async fn a_prepared_task_is_enqueued_by_its_caller_and_followed_by_its_handle() {
    let (broker, producer) = broker();
    let prepared = producer
        .enqueue(job(1))
        .id("one")
        .priority(7)
        .retention(AN_HOUR)
        .prepare()
        .unwrap();
    assert_eq!(counts(&broker).await, []);
    let answer = enqueue_by_hand(&broker, prepared.task().clone()).await;
    let handle = prepared.accepted(answer).unwrap();
    let info = info(&handle).await;
    assert_eq!(
        (info.envelope.id.as_str(), info.state),
        ("one", TaskState::Pending)
    );
    assert_eq!(info.envelope.options.priority, 7);

    let again = producer.enqueue(job(1)).id("one").prepare().unwrap();
    let answer = enqueue_by_hand(&broker, again.task().clone()).await;
    let refused = again.accepted(answer).unwrap_err();
    assert!(
        matches!(refused, EnqueueError::Conflict(Conflict::Id { .. })),
        "{refused}"
    );

    // It runs, and its result is available.
    let server = Server::builder(broker.clone())
        .process(|_: Payload<Job>| async { Ok::<(), TaskError>(()) })
        .start()
        .await
        .unwrap();
    soon("its result", handle.result()).await.unwrap();
    server.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_task_that_cannot_be_enqueued_cannot_be_prepared() {
    let (broker, producer) = broker();
    let refused = producer.enqueue(job(1)).priority(10).prepare().unwrap_err();
    assert!(refused.to_string().contains("expected 0 to 9"), "{refused}");
    let durable = producer.enqueue(job(1)).durability(Durability::Fsync);
    let refused = durable.prepare().unwrap_err().to_string();
    assert!(
        refused.contains("option `durability`") && refused.contains("transaction"),
        "{refused}"
    );
    producer.close().await;
    let refused = producer.prepare(job(1)).unwrap_err();
    assert!(matches!(refused, EnqueueError::ProducerClosed), "{refused}");
    assert_eq!(counts(&broker).await, []);
}

#[tokio::test]
async fn a_durability_that_the_broker_does_not_offer_is_rejected_by_name() {
    let (broker, producer) = broker();
    let refused = producer.enqueue(job(1)).durability(Durability::Fsync).await;
    let error = refused.expect_err("more than memory offers");
    assert!(
        matches!(error, EnqueueError::Broker(BrokerError::Unsupported(_))),
        "{error}"
    );
    assert_eq!(
        error.to_string(),
        "the broker does not support this: durability `fsync`: remove it, or use a store that supports it"
    );
    let primary = producer.enqueue(job(2)).durability(Durability::Primary);
    primary.await.unwrap();
    // In a batch, each has its own.
    let mixed = (3..7).map(job);
    let mixed = producer.enqueue_many_with(mixed, |job, call| match job.n % 2 {
        0 => call.durability(Durability::Replicas(2)),
        _ => call,
    });
    let accepted: Vec<_> = mixed.await.iter().map(Result::is_ok).collect();
    assert_eq!(accepted, [true, false, true, false]);
    assert_eq!(counts(&broker).await, [(TaskState::Pending, 3)]);
}
