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

use crate::harness::{Job, broker, counts_become, enqueue_jobs, info, output_of};

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
    // A burst, and what the steady rate adds while it runs: never more than twice the number in one period, and not
    // more than the rate over all.
    let whole = starts[29] - starts[0];
    assert!(whole >= PERIOD * 19 / 10, "30 started in {whole:?}");
    for window in starts.windows(2 * MAX + 1) {
        let took = window[2 * MAX] - window[0];
        assert!(took >= PERIOD * 9 / 10, "{} in {took:?}", window.len());
    }
}
