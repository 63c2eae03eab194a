//! Panics in every place that runs application code.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task,
};

use asynqueue_core::{
    layer::{BoxProcess, Hook, TaskFuture, TaskOutput, TaskRequest, middleware_fn},
    process::{Context, Payload, TaskError},
    server::{Server, ServerError},
    task::{FailureKind, TaskState},
};
use tokio::sync::Semaphore;
use tower::{Layer, Service};

use crate::{
    faulty::{Faults, Faulty},
    harness::{Job, broker, counts_become, failure_of, info, job, output_of, soon, until},
};

/// Jobs with an odd number panic.
async fn panics_at_odd_numbers(task: Payload<Job>, _: Context) -> Result<(), TaskError> {
    assert!(task.n.is_multiple_of(2), "{} is odd", task.n);
    Ok(())
}

#[tokio::test]
async fn a_panic_is_kept_with_a_backtrace_that_names_the_handler_and_the_server_continues() {
    let (broker, producer) = broker();
    let server = Server::builder(broker.clone())
        .concurrency(1)
        .process(panics_at_odd_numbers)
        .start()
        .await
        .unwrap();
    let odd = producer.enqueue(job(1)).max_retry(0).await.unwrap();
    let even = producer.enqueue(job(2)).await.unwrap();

    let failure = failure_of(&odd).await;
    assert_eq!(failure.kind, FailureKind::Panic);
    assert_eq!(failure.message, "panicked: 1 is odd");
    assert_eq!(failure.worker.as_ref(), Some(server.name()));
    let backtrace = failure.backtrace.expect("kept");
    assert!(
        backtrace.contains("panics_at_odd_numbers"),
        "the handler is not in {backtrace}"
    );
    output_of(&even).await;
    counts_become(
        &broker,
        &[(TaskState::Completed, 1), (TaskState::Archived, 1)],
    )
    .await;
    assert_eq!(server.stats().abandoned, 0);
}

#[tokio::test]
async fn a_panic_with_a_value_that_is_not_a_string_is_a_failure_too() {
    let (broker, producer) = broker();
    let _server = Server::builder(broker.clone())
        .process(|_: Payload<Job>, _: Context| async {
            if true {
                std::panic::panic_any(7);
            }
            Ok::<_, TaskError>(())
        })
        .start()
        .await
        .unwrap();
    let task = producer.enqueue(job(1)).max_retry(0).await.unwrap();
    assert_eq!(failure_of(&task).await.message, "panicked: (not a string)");
    counts_become(&broker, &[(TaskState::Archived, 1)]).await;
}

#[tokio::test]
async fn a_panicking_middleware_ends_one_attempt_only() {
    let (broker, producer) = broker();
    let server = Server::builder(broker.clone())
        .concurrency(1)
        .process(|_: Payload<Job>, _: Context| async { Ok::<_, TaskError>(()) })
        .layer(middleware_fn(|request: TaskRequest, next| async move {
            assert!(request.context.attempt() > 1, "not at the first attempt");
            let next: asynqueue_core::layer::Next = next;
            next.run(request).await
        }))
        .start()
        .await
        .unwrap();
    let task = producer.enqueue(job(1)).await.unwrap();
    output_of(&task).await;
    let info = info(&task).await;
    let failure = info.envelope.last_failure().expect("of the first attempt");
    assert_eq!(failure.kind, FailureKind::Panic);
    assert_eq!((info.envelope.attempts, server.stats().slots), (1, 1));
}

/// Panics before it is called, which a service should not do.
struct Brittle {
    clones: &'static AtomicUsize,
    at: Place,
    inner: BoxProcess,
}

#[derive(Clone, Copy, PartialEq)]
enum Place {
    Clone,
    PollReady,
    Call,
}

impl Clone for Brittle {
    fn clone(&self) -> Self {
        // Once, in the first attempt. Building the server may clone too, but not after `arm`.
        self.panic_once(Place::Clone);
        Self {
            clones: self.clones,
            at: self.at,
            inner: self.inner.clone(),
        }
    }
}

impl Brittle {
    fn panic_once(&self, place: Place) {
        assert!(
            self.at != place || self.clones.fetch_sub(1, SeqCst) != 1,
            "brittle"
        );
    }
}

impl Service<TaskRequest> for Brittle {
    type Response = TaskOutput;
    type Error = TaskError;
    type Future = TaskFuture;

    fn poll_ready(&mut self, _: &mut task::Context<'_>) -> task::Poll<Result<(), TaskError>> {
        self.panic_once(Place::PollReady);
        task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: TaskRequest) -> TaskFuture {
        self.panic_once(Place::Call);
        self.inner.run(request)
    }
}

struct BrittleLayer(Place, &'static AtomicUsize);

impl Layer<BoxProcess> for BrittleLayer {
    type Service = Brittle;

    fn layer(&self, inner: BoxProcess) -> Brittle {
        Brittle {
            clones: self.1,
            at: self.0,
            inner,
        }
    }
}

async fn one_panic_at(place: Place, left: &'static AtomicUsize) {
    let (broker, producer) = broker();
    let server = Server::builder(broker.clone())
        .concurrency(1)
        .process(|_: Payload<Job>, _: Context| async { Ok::<_, TaskError>(()) })
        .layer(BrittleLayer(place, left))
        .start()
        .await
        .unwrap();
    left.store(1, SeqCst);
    let task = producer.enqueue(job(1)).await.unwrap();
    output_of(&task).await;
    let info = info(&task).await;
    let failure = info.envelope.last_failure().expect("of the first attempt");
    assert_eq!(failure.kind, FailureKind::Panic);
    assert!(failure.message.contains("brittle"), "{}", failure.message);
    server.shutdown().await.unwrap();
    counts_become(&broker, &[(TaskState::Completed, 1)]).await;
}

#[tokio::test]
async fn a_layer_that_panics_in_call_ends_one_attempt_only() {
    static LEFT: AtomicUsize = AtomicUsize::new(0);
    one_panic_at(Place::Call, &LEFT).await;
}

#[tokio::test]
async fn a_layer_that_panics_in_poll_ready_ends_one_attempt_only() {
    static LEFT: AtomicUsize = AtomicUsize::new(0);
    one_panic_at(Place::PollReady, &LEFT).await;
}

#[tokio::test]
async fn a_layer_that_panics_when_it_is_cloned_ends_one_attempt_only() {
    static LEFT: AtomicUsize = AtomicUsize::new(0);
    one_panic_at(Place::Clone, &LEFT).await;
}

/// An error whose `Display` panics.
#[derive(Debug)]
struct Unprintable;

impl fmt::Display for Unprintable {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        panic!("no text")
    }
}

impl std::error::Error for Unprintable {}

#[tokio::test]
async fn an_error_whose_display_panics_is_a_failure_like_others() {
    let (broker, producer) = broker();
    let server = Server::builder(broker.clone())
        .concurrency(1)
        .process(|task: Payload<Job>, _: Context| async move {
            if task.n == 1 {
                Err(Unprintable)
            } else {
                Ok(())
            }
        })
        .start()
        .await
        .unwrap();
    let task = producer.enqueue(job(1)).max_retry(0).await.unwrap();
    assert_eq!(failure_of(&task).await.kind, FailureKind::Error);
    output_of(&producer.enqueue(job(2)).await.unwrap()).await;
    server.shutdown().await.unwrap();
    counts_become(
        &broker,
        &[(TaskState::Completed, 1), (TaskState::Archived, 1)],
    )
    .await;
}

/// A local variable of a handler whose destructor panics, for example when it is dropped at its timeout.
struct PanicsWhenDropped;

impl Drop for PanicsWhenDropped {
    fn drop(&mut self) {
        assert!(std::thread::panicking(), "dropped");
    }
}

#[tokio::test]
async fn a_handler_whose_destructor_panics_at_the_timeout_ends_one_attempt_only() {
    let (broker, producer) = broker();
    let server = Server::builder(broker.clone())
        .concurrency(1)
        .process(|task: Payload<Job>, _: Context| async move {
            if task.n == 1 {
                let _local = PanicsWhenDropped;
                std::future::pending::<()>().await;
            }
            Ok::<_, TaskError>(())
        })
        .start()
        .await
        .unwrap();
    let task = producer
        .enqueue(job(1))
        .max_retry(0)
        .timeout(std::time::Duration::from_millis(20))
        .await
        .unwrap();
    assert_eq!(failure_of(&task).await.kind, FailureKind::Panic);
    output_of(&producer.enqueue(job(2)).await.unwrap()).await;
    assert_eq!(
        (server.stats().abandoned, server.stats().slots),
        (0, 1),
        "the slot continues"
    );
}

/// Panics in every method.
struct PanickingHook;

impl Hook for PanickingHook {
    async fn on_error(&self, _: &Context, _: &TaskError) {
        panic!("on_error");
    }

    async fn on_exhausted(&self, _: &Context, _: &TaskError) {
        panic!("on_exhausted");
    }
}

#[tokio::test]
async fn a_panicking_hook_ends_attempts_and_the_task_is_still_archived() {
    let (broker, producer) = broker();
    let _server = Server::builder(broker.clone())
        .process(|_: Payload<Job>, _: Context| async { Err::<(), _>(TaskError::retry("no")) })
        .hook(PanickingHook)
        .start()
        .await
        .unwrap();
    let task = producer.enqueue(job(1)).max_retry(1).await.unwrap();
    failure_of(&task).await;
    assert_eq!(info(&task).await.envelope.attempts, 2);
    counts_become(&broker, &[(TaskState::Archived, 1)]).await;
}

#[tokio::test]
async fn panicking_callbacks_do_not_change_outcomes() {
    let (broker, producer) = broker();
    let _server = Server::builder(broker.clone())
        .process(|task: Payload<Job>, _: Context| async move {
            if task.n == 1 {
                Err(TaskError::retry("no"))
            } else {
                Ok(())
            }
        })
        .on_error(|_, _| panic!("on_error"))
        .is_failure(|_| panic!("is_failure"))
        .health_check(std::time::Duration::from_millis(5), |_| panic!("health"))
        .start()
        .await
        .unwrap();
    let task = producer.enqueue(job(1)).max_retry(2).await.unwrap();
    assert_eq!(failure_of(&task).await.message, "no");
    assert_eq!(info(&task).await.envelope.attempts, 3, "each counted");
    output_of(&producer.enqueue(job(2)).await.unwrap()).await;
    counts_become(
        &broker,
        &[(TaskState::Completed, 1), (TaskState::Archived, 1)],
    )
    .await;
}

/// Runs a task, and returns how the server ended.
async fn ended_by(fault: impl Fn(&Faults)) -> ServerError {
    let (broker, producer) = broker();
    let faulty = Faulty::new(&broker);
    fault(&faulty.faults);
    let mut server = Server::builder(faulty)
        .process(|_: Payload<Job>, _: Context| async { Ok::<_, TaskError>(()) })
        .start()
        .await
        .unwrap();
    producer.enqueue(job(1)).await.unwrap();
    let ended = soon("the server ends", server.ended()).await;
    ended.expect_err("it panicked")
}

#[tokio::test]
async fn a_panicking_broker_ends_the_server_with_an_error() {
    let faults: [fn(&Faults); 2] = [
        |faults| faults.lease_panics.store(true, SeqCst),
        |faults| faults.settle_panics.store(true, SeqCst),
    ];
    for fault in faults {
        let error = ended_by(fault).await;
        assert!(matches!(error, ServerError::Panicked { .. }), "{error}");
        assert!(error.to_string().contains("lost count"), "{error}");
    }
}

/// An error whose destructor panics.
#[derive(Debug)]
struct Bomb;

impl fmt::Display for Bomb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bomb")
    }
}

impl std::error::Error for Bomb {}

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("the error's destructor");
    }
}

/// Ten tasks fail with `fail`, and afterwards all four slots still run.
async fn all_slots_still_run(fail: fn() -> Result<(), TaskError>, kind: FailureKind) {
    let (broker, producer) = broker();
    let gate = Arc::new(Semaphore::new(0));
    let pass = Arc::clone(&gate);
    let server = Server::builder(broker.clone())
        .concurrency(4)
        .process(move |task: Payload<Job>, _: Context| {
            let gate = Arc::clone(&pass);
            async move {
                if task.n == 1 {
                    return fail();
                }
                gate.acquire().await.expect("open").forget();
                Ok(())
            }
        })
        .start()
        .await
        .unwrap();
    for _ in 0..10 {
        let task = producer.enqueue(job(1)).max_retry(0).await.unwrap();
        assert_eq!(failure_of(&task).await.kind, kind);
    }
    let good = producer.enqueue_many((0..8).map(|_| job(2))).await;
    until("four run concurrently", async || {
        server.stats().running == 4
    })
    .await;
    gate.add_permits(8);
    for task in good {
        output_of(&task.unwrap()).await;
    }
    until("none runs", async || server.stats().running == 0).await;
    assert_eq!((server.stats().slots, server.stats().abandoned), (4, 0));
    server.shutdown().await.unwrap();
    counts_become(
        &broker,
        &[(TaskState::Completed, 8), (TaskState::Archived, 10)],
    )
    .await;
}

#[tokio::test]
async fn an_error_whose_destructor_panics_is_a_failure_and_occupies_no_slot() {
    all_slots_still_run(|| Err(Bomb.into()), FailureKind::Error).await;
}

#[tokio::test]
async fn a_panic_whose_value_panics_in_its_destructor_occupies_no_slot() {
    all_slots_still_run(|| std::panic::panic_any(Bomb), FailureKind::Panic).await;
}

/// A hook that panics with a value whose destructor panics.
struct Explosive;

impl Hook for Explosive {
    async fn after(&self, _: &Context) {
        std::panic::panic_any(Bomb);
    }

    async fn on_error(&self, _: &Context, _: &TaskError) {
        std::panic::panic_any(Bomb);
    }
}

#[tokio::test]
async fn a_hook_whose_panic_panics_in_its_destructor_changes_no_outcome() {
    let (broker, producer) = broker();
    let server = Server::builder(broker.clone())
        .process(|task: Payload<Job>, _: Context| async move {
            match task.n {
                1 => Err(TaskError::skip_retry("no")),
                _ => Ok(()),
            }
        })
        .hook(Explosive)
        .start()
        .await
        .unwrap();
    let failed = producer.enqueue(job(1)).await.unwrap();
    assert_eq!(failure_of(&failed).await.message, "no");
    output_of(&producer.enqueue(job(2)).await.unwrap()).await;
    server.shutdown().await.unwrap();
}
