//! The layers that limit how many attempts run concurrently or start in a period.

use std::{
    future::Future,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use asynqueue_core::{
    broker::Broker,
    layer::{
        BoxProcess, ConcurrencyLimitLayer, Next, RateLimitLayer, TaskRequest, TaskService,
        middleware_fn,
    },
    memory::MemoryBroker,
    process::{Context, Payload, TaskError},
    registry::ProcessWrapper,
    server::{Server, ServerHandle},
    task::TaskState,
    testing::drain,
};
use tokio::sync::Semaphore;
use tower::Layer;

use crate::harness::{
    AN_HOUR, Job, Sum, becomes, broker, counts, counts_become, enqueue_jobs, failure_of, info, job,
    output_of, until,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_concurrency_limit_layer_admits_no_more_than_its_limit() {
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
    // A burst, then the steady rate. The bounds leave room for a start that is recorded late.
    let whole = starts[29] - starts[0];
    assert!(whole >= PERIOD * 3 / 2, "30 started in {whole:?}");
    for window in starts.windows(2 * MAX + 1) {
        let took = window[2 * MAX] - window[0];
        assert!(took >= PERIOD / 2, "{} in {took:?}", window.len());
    }
}

#[tokio::test]
async fn a_task_whose_turn_is_far_off_does_not_occupy_a_slot() {
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

/// Runs jobs, each for as long as `work` takes, and records the order in which they start.
fn noting<F: Future<Output = ()> + Send + 'static>(
    work: impl Fn() -> F + Send + Sync + 'static,
) -> (ProcessWrapper, Arc<Mutex<Vec<u64>>>) {
    let starts = Arc::new(Mutex::new(Vec::new()));
    let started = Arc::clone(&starts);
    let process = ProcessWrapper::new(move |task: Payload<Job>, _: Context| {
        started.lock().unwrap().push(task.n);
        let work = work();
        async move {
            work.await;
            Ok::<_, TaskError>(())
        }
    });
    (process, starts)
}

async fn starts(broker: &MemoryBroker, process: ProcessWrapper) -> ServerHandle {
    let server = Server::builder(broker.clone()).process(process);
    let sum = |_: Payload<Sum>, _: Context| async { Ok::<_, TaskError>(0) };
    server.process(sum).start().await.unwrap()
}

#[tokio::test]
async fn tasks_over_a_limit_occupy_no_slot() {
    let (broker, producer) = broker();
    let (process, _) = noting(std::future::pending);
    let handles = enqueue_jobs(&producer, 100).await;
    let server = starts(&broker, process.layer(ConcurrencyLimitLayer::new(2))).await;
    // Behind them all, with 14 free slots.
    output_of(&producer.enqueue(Sum { of: vec![] }).await.unwrap()).await;
    until("two run", async || server.stats().running == 2).await;
    for handle in &handles {
        assert_eq!(info(handle).await.envelope.attempts, 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_for_a_limit_spends_no_timeout_and_no_attempt_and_keeps_the_order() {
    let (broker, producer) = broker();
    let (process, order) = noting(|| tokio::time::sleep(Duration::from_millis(10)));
    let timeout = |job| {
        producer
            .enqueue(job)
            .timeout(Duration::from_millis(200))
            .max_retry(0)
    };
    let mut handles = Vec::new();
    for n in 0..60 {
        handles.push(timeout(job(n)).await.unwrap());
    }
    let _server = starts(&broker, process.layer(ConcurrencyLimitLayer::new(1))).await;
    counts_become(&broker, &[(TaskState::Completed, 60)]).await;
    for handle in &handles {
        let task = info(handle).await.envelope;
        assert_eq!((task.attempts, task.place()), (0, None));
    }
    // Tasks that come back at the same time may start in either order.
    let order = order.lock().unwrap();
    let early = order
        .iter()
        .zip(0..)
        .map(|(n, turn)| n.saturating_sub(turn));
    assert!(early.max() <= Some(10), "{order:?}");
}

#[tokio::test]
async fn a_rate_over_a_backlog_keeps_the_order() {
    let (broker, producer) = broker();
    let (process, order) = noting(|| std::future::ready(()));
    enqueue_jobs(&producer, 40).await;
    let _server = starts(
        &broker,
        process.layer(RateLimitLayer::new(1, Duration::from_millis(20))),
    )
    .await;
    counts_become(&broker, &[(TaskState::Completed, 40)]).await;
    assert_eq!(*order.lock().unwrap(), Vec::from_iter(0..40));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_around_a_server_applies_to_all_its_handlers_together() {
    let (broker, producer) = broker();
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let count = |now: &Arc<AtomicUsize>, most: &Arc<AtomicUsize>| {
        let (now, most) = (Arc::clone(now), Arc::clone(most));
        async move {
            most.fetch_max(now.fetch_add(1, SeqCst) + 1, SeqCst);
            tokio::time::sleep(Duration::from_millis(2)).await;
            now.fetch_sub(1, SeqCst);
        }
    };
    let (a, b) = (Arc::clone(&now), Arc::clone(&most));
    let jobs = move |_: Payload<Job>, _: Context| {
        let work = count(&a, &b);
        async {
            work.await;
            Ok::<_, TaskError>(())
        }
    };
    let (a, b) = (Arc::clone(&now), Arc::clone(&most));
    let sums = move |_: Payload<Sum>, _: Context| {
        let work = count(&a, &b);
        async {
            work.await;
            Ok::<_, TaskError>(0)
        }
    };
    let _server = Server::builder(broker.clone())
        .process(jobs)
        .process(sums)
        .layer(ConcurrencyLimitLayer::new(2))
        .start()
        .await
        .unwrap();
    for n in 0..30 {
        producer.enqueue(job(n)).await.unwrap();
        let sum = producer.enqueue(Sum { of: vec![] });
        sum.retention(AN_HOUR).await.unwrap();
    }
    counts_become(&broker, &[(TaskState::Completed, 60)]).await;
    assert_eq!((now.load(SeqCst), most.load(SeqCst)), (0, 2));
}

#[tokio::test]
async fn a_server_that_stops_releases_the_tasks_waiting_at_a_limit() {
    let (broker, producer) = broker();
    let (process, _) = noting(std::future::pending);
    enqueue_jobs(&producer, 3).await;
    let server = Server::builder(broker.clone()).shutdown_timeout(Duration::ZERO);
    let server = server.cancel_grace(Duration::ZERO);
    let server = server.process(process.layer(ConcurrencyLimitLayer::new(1)));
    let server = server.start().await.unwrap();
    until("one runs", async || server.stats().running == 1).await;
    server.shutdown().await.unwrap();
    let active = |(state, _): &(TaskState, u64)| *state == TaskState::Active;
    let left = counts(&broker).await;
    assert!(!left.iter().any(active), "{left:?}");
    assert_eq!(left.iter().map(|(_, n)| n).sum::<u64>(), 3);
}

/// Hides a limit from the server.
fn hidden(limit: ConcurrencyLimitLayer) -> impl Layer<BoxProcess, Service: TaskService> {
    tower::layer::layer_fn(move |inner: BoxProcess| {
        let limited = limit.layer(inner);
        tower::service_fn(move |request: TaskRequest| limited.run(request))
    })
}

#[tokio::test]
async fn an_attempt_that_waits_for_a_limit_past_its_timeout_is_not_reported_as_blocking() {
    let (broker, producer) = broker();
    let (process, _) = noting(std::future::pending);
    let process = process.layer(hidden(ConcurrencyLimitLayer::new(1)));
    let _server = starts(&broker, process).await;
    becomes(&enqueue_jobs(&producer, 1).await[0], TaskState::Active).await;
    let waits = producer.enqueue(job(2)).max_retry(0);
    let failure = failure_of(&waits.timeout(Duration::from_millis(20)).await.unwrap()).await;
    assert_eq!(
        failure.message,
        "timed out after 20ms; the handler blocks its thread or a layer around it waits, and may still be running"
    );
}

#[tokio::test]
async fn a_handler_is_not_polled_after_its_deadline_has_passed() {
    let (process, order) = noting(|| std::future::ready(()));
    let late = middleware_fn(|request: TaskRequest, next: Next| async move {
        tokio::time::sleep_until(request.context.deadline().into()).await;
        next.run(request).await
    });
    let (broker, producer) = broker();
    let task = producer.enqueue(job(1)).timeout(Duration::from_millis(5));
    let task = task.max_retry(0).await.unwrap();
    let drained = drain(Server::builder(broker).process(process.layer(late))).await;
    assert_eq!(drained.unwrap().archived, 1);
    let failure = failure_of(&task).await;
    assert_eq!(failure.message, "timed out after 5ms");
    assert_eq!(*order.lock().unwrap(), [] as [u64; 0]);
}

#[tokio::test]
async fn a_free_place_is_taken_immediately_after_a_slow_task_with_many_waiting() {
    let (broker, producer) = broker();
    let gate = Arc::new(Semaphore::new(0));
    let pass = Arc::clone(&gate);
    let handle = move |task: Payload<Job>, _: Context| {
        let gate = Arc::clone(&pass);
        async move {
            if task.n == 0 {
                gate.acquire().await.expect("open").forget();
            }
            Ok::<_, TaskError>(())
        }
    };
    let limited = ProcessWrapper::new(handle).layer(ConcurrencyLimitLayer::new(1));
    let server = Server::builder(broker.clone()).process(limited);
    let server = server.start().await.unwrap();
    enqueue_jobs(&producer, 200).await;
    until("all others have come once without success", async || {
        counts(&broker).await.contains(&(TaskState::Scheduled, 198))
            || counts(&broker).await.contains(&(TaskState::Scheduled, 199))
    })
    .await;
    // After the slow one, the pace looks like one task in three seconds.
    let start = broker.now() + Duration::from_secs(3);
    until("it is slow", async || broker.now() > start).await;
    gate.add_permits(1);
    // At the pace of the slow one they would take ten minutes, longer than this waits.
    counts_become(&broker, &[(TaskState::Completed, 200)]).await;
    server.shutdown().await.unwrap();
}
