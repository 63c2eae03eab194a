//! The layers that limit how many attempts run at once or start in a time.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use asynqueue_core::{
    Context, Payload, ProcessWrapper, Server, TaskError, TaskState,
    layer::{ConcurrencyLimitLayer, RateLimitLayer},
};

use crate::harness::{
    AN_HOUR, Job, Sum, becomes, broker, counts_become, enqueue_jobs, failure_of, info, job,
    output_of,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_concurrency_limit_layer_lets_no_more_in_at_once() {
    let (broker, producer) = broker();
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (entered, peak) = (Arc::clone(&now), Arc::clone(&most));
    let process = ProcessWrapper::new(move |_: Payload<Job>, _: Context| {
        let (now, most) = (Arc::clone(&entered), Arc::clone(&peak));
        async move {
            most.fetch_max(now.fetch_add(1, SeqCst) + 1, SeqCst);
            for _ in 0..5 {
                tokio::task::yield_now().await;
            }
            now.fetch_sub(1, SeqCst);
            Ok::<_, TaskError>(())
        }
    })
    .layer(ConcurrencyLimitLayer::new(3));
    let _server = Server::builder(broker.clone())
        .concurrency(16)
        .process(process)
        .start()
        .await
        .unwrap();
    enqueue_jobs(&producer, 300).await;
    counts_become(&broker, &[(TaskState::Completed, 300)]).await;
    assert_eq!((now.load(SeqCst), most.load(SeqCst)), (0, 3));
}

#[tokio::test]
async fn the_rate_limit_layer_starts_no_more_in_any_period_and_counts_no_attempt() {
    const MAX: usize = 10;
    const PERIOD: Duration = Duration::from_millis(200);
    let (broker, producer) = broker();
    let starts = Arc::new(Mutex::new(Vec::new()));
    let start = Arc::clone(&starts);
    let process = ProcessWrapper::new(move |_: Payload<Job>, _: Context| {
        start.lock().unwrap().push(Instant::now());
        async { Ok::<_, TaskError>(()) }
    })
    .layer(RateLimitLayer::new(MAX as u32, PERIOD));
    let _server = Server::builder(broker.clone())
        .process(process)
        .start()
        .await
        .unwrap();
    let handles = enqueue_jobs(&producer, 30).await;
    for handle in &handles {
        output_of(handle).await;
        assert_eq!(info(handle).await.envelope.attempts, 0);
    }
    let starts = starts.lock().unwrap();
    assert_eq!(starts.len(), 30);
    // A burst, then the steady rate. The bounds leave room for a start that is noted late.
    let whole = starts[29] - starts[0];
    assert!(whole >= PERIOD * 3 / 2, "30 started in {whole:?}");
    for window in starts.windows(2 * MAX + 1) {
        let took = window[2 * MAX] - window[0];
        assert!(took >= PERIOD / 2, "{} in {took:?}", window.len());
    }
}

#[tokio::test]
async fn an_attempt_whose_turn_is_far_gives_its_slot_to_others() {
    let (broker, producer) = broker();
    let limited =
        ProcessWrapper::new(|_: Payload<Job>, _: Context| async { Ok::<_, TaskError>(()) })
            .layer(RateLimitLayer::new(1, AN_HOUR));
    let _server = Server::builder(broker.clone())
        .concurrency(1)
        .process(limited)
        .process(|_: Payload<Sum>, _: Context| async { Ok::<_, TaskError>(0) })
        .start()
        .await
        .unwrap();
    let handles = enqueue_jobs(&producer, 2).await;
    output_of(&handles[0]).await;
    output_of(&producer.enqueue(Sum { of: vec![] }).await.unwrap()).await;
    let waiting = becomes(&handles[1], TaskState::Scheduled).await;
    assert_eq!(waiting.envelope.attempts, 0);
    counts_become(
        &broker,
        &[(TaskState::Scheduled, 1), (TaskState::Completed, 2)],
    )
    .await;
}

#[tokio::test]
async fn an_attempt_that_waits_for_a_limit_past_its_timeout_is_not_said_to_block() {
    let (broker, producer) = broker();
    let process = ProcessWrapper::new(|_: Payload<Job>, _: Context| {
        std::future::pending::<Result<(), TaskError>>()
    })
    .layer(ConcurrencyLimitLayer::new(1));
    let _server = Server::builder(broker)
        .process(process)
        .start()
        .await
        .unwrap();
    becomes(&enqueue_jobs(&producer, 1).await[0], TaskState::Active).await;
    let waits = producer.enqueue(job(2)).max_retry(0);
    let failure = failure_of(&waits.timeout(Duration::from_millis(20)).await.unwrap()).await;
    assert_eq!(
        failure.message,
        "timed out after 20ms; its handler blocks its thread, or a layer around it waits, and may still be running"
    );
}
