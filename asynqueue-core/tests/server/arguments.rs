//! The arguments of a handler: their order, and what a handler enqueues.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use asynqueue_core::{
    broker::Inspect,
    memory::MemoryBroker,
    process::{
        Cancellation, Context, FromTask, MissingState, Payload, Process, ServerState, State,
        TaskError,
    },
    producer::{EnqueueError, Producer},
    registry::{IntoBlockingProcess, IntoProcess, ProcessWrapper},
    server::{Server, ServerError},
    task::{Attempt, FailureKind, Headers, TaskId, TaskRef, TaskState},
    testing::run_inline,
};

use crate::harness::{
    AN_HOUR, Job, Sum, becomes, broker, failure_of, info, job, output_of, soon, until,
};

#[derive(Clone)]
struct Offset(u64);

async fn first(task: Payload<Sum>, offset: State<Offset>, _: Context) -> Result<u64, TaskError> {
    Ok(task.of.iter().sum::<u64>() + offset.0.0)
}

async fn middle(offset: State<Offset>, task: Payload<Sum>, _: Context) -> Result<u64, TaskError> {
    Ok(task.of.iter().sum::<u64>() + offset.0.0)
}

async fn last(_: Context, offset: State<Offset>, task: Payload<Sum>) -> Result<u64, TaskError> {
    Ok(task.of.iter().sum::<u64>() + offset.0.0)
}

fn blocking(ctx: Context, task: Payload<Sum>, offset: State<Offset>) -> Result<u64, TaskError> {
    assert_eq!(ctx.attempt(), 1);
    Ok(task.of.iter().sum::<u64>() + offset.0.0)
}

async fn sum_by(process: ProcessWrapper) -> u64 {
    let (broker, producer) = broker();
    let server = Server::builder(broker).state(Offset(100)).process(process);
    let _server = server.start().await.unwrap();
    let task = producer.enqueue(Sum { of: vec![1, 2] }).await.unwrap();
    output_of(&task).await
}

#[tokio::test]
async fn the_payload_may_be_any_of_the_arguments() {
    assert_eq!(sum_by(first.into_process()).await, 103);
    assert_eq!(sum_by(middle.into_process()).await, 103);
    assert_eq!(sum_by(last.into_process()).await, 103);
    assert_eq!(sum_by(blocking.into_blocking_process()).await, 103);
    let closure = |_: Context, task: Payload<Sum>| async move { Ok::<_, TaskError>(task.of[0]) };
    assert_eq!(sum_by(closure.into_process()).await, 1);
}

#[tokio::test]
async fn the_arguments_show_the_running_attempt() {
    async fn shown(
        id: TaskId,
        attempt: Attempt,
        _: Payload<Job>,
        headers: Headers,
        cancellation: Cancellation,
        ctx: Context,
    ) -> Result<(), TaskError> {
        assert_eq!(attempt.started, Some(ctx.started()));
        assert_eq!((attempt.ended, attempt.failure), (None, None));
        assert!(!cancellation.is_cancelled());
        let (number, worker) = (attempt.number, attempt.worker.unwrap());
        let tenant = headers.get("tenant").unwrap();
        let text = format!("{id}, attempt {number} on {worker} for {tenant}");
        Err(TaskError::retry(text))
    }
    let (broker, producer) = broker();
    let server = Server::builder(broker).name("here").process(shown);
    let _server = server.start().await.unwrap();
    let call = producer.enqueue(job(1)).id("shown").max_retry(1);
    let task = call.header("tenant", "acme").await.unwrap();
    becomes(&task, TaskState::Archived).await;
    let failures = info(&task).await.envelope.failures().to_vec();
    let messages: Vec<_> = failures.iter().map(|failure| &failure.message).collect();
    let expected = [
        "shown, attempt 1 on here for acme",
        "shown, attempt 2 on here for acme",
    ];
    assert_eq!(messages, expected);
}

#[tokio::test]
async fn a_handler_can_wait_for_cancellation_with_its_argument_alone() {
    async fn waits(cancellation: Cancellation, _: Payload<Job>) -> Result<(), TaskError> {
        cancellation.cancelled().await;
        assert!(cancellation.token().is_cancelled());
        Err(TaskError::skip_retry("stopped"))
    }
    let (broker, producer) = broker();
    let _server = Server::builder(broker)
        .process(waits)
        .start()
        .await
        .unwrap();
    let task = producer.enqueue(job(1)).await.unwrap();
    becomes(&task, TaskState::Active).await;
    task.cancel("by a test").await.unwrap();
    assert_eq!(failure_of(&task).await.kind, FailureKind::Cancelled);
}

/// A custom argument, which needs a shared value and a header.
struct Tenant(String);

/// How often a [`Tenant`] was built.
#[derive(Clone, Default)]
struct Built(Arc<AtomicUsize>);

impl FromTask for Tenant {
    fn check(state: &ServerState) -> Result<(), MissingState> {
        state.get::<Built>().map(drop)
    }

    fn from_task(ctx: &Context) -> Result<Self, TaskError> {
        ctx.state::<Built>()?.0.fetch_add(1, SeqCst);
        let tenant = ctx.headers().get("tenant");
        tenant
            .map(|tenant| Self(tenant.into()))
            .ok_or_else(|| TaskError::skip_retry("the header `tenant` is missing"))
    }
}

async fn by_tenant(Tenant(tenant): Tenant, task: Payload<Job>) -> Result<(), TaskError> {
    assert_eq!((tenant.as_str(), task.n), ("acme", 7));
    Ok(())
}

#[tokio::test]
async fn a_custom_argument_is_built_once_per_attempt_and_its_error_decides() {
    let (broker, producer) = broker();
    let built = Built::default();
    let server = Server::builder(broker)
        .state(built.clone())
        .process(by_tenant);
    let _server = server.start().await.unwrap();
    let with = producer.enqueue(job(7)).header("tenant", "acme");
    soon("it is done", with.result()).await.expect("done");
    assert_eq!(built.0.load(SeqCst), 1);
    let without = producer.enqueue(job(7)).await.unwrap();
    let failure = failure_of(&without).await;
    assert_eq!(failure.message, "the header `tenant` is missing");
    assert_eq!(failure.kind, FailureKind::Error);
    assert_eq!(built.0.load(SeqCst), 2, "it was not retried");
}

#[test]
fn a_custom_argument_is_checked_when_the_server_is_built() {
    let (broker, _) = broker();
    let error = Server::builder(broker).process(by_tenant).build();
    let error = error.expect_err("the state is missing");
    assert!(matches!(&error, ServerError::State { .. }), "{error}");
    assert!(error.to_string().contains("arguments::Built`"), "{error}");
}

/// A handler of two types of tasks.
#[derive(Clone)]
struct Both;

impl Process<Job> for Both {
    async fn handle(&self, _: Payload<Job>, _: &Context) -> Result<(), TaskError> {
        Ok(())
    }
}

impl Process<Sum> for Both {
    async fn handle(&self, task: Payload<Sum>, _: &Context) -> Result<u64, TaskError> {
        Ok(task.of.iter().sum())
    }
}

#[tokio::test]
async fn a_type_that_handles_two_tasks_is_registered_for_each() {
    let (broker, producer) = broker();
    let server = Server::builder(broker).process_for::<Job>(Both);
    let server = server.process_for::<Sum>(Both);
    let _server = server.start().await.unwrap();
    let sum = producer.enqueue(Sum { of: vec![1, 2] }).await.unwrap();
    assert_eq!(output_of(&sum).await, 3);
    let job = producer.enqueue(job(1)).await.unwrap();
    soon("it is done", job.result()).await.expect("done");
}

/// A job enqueues the next one.
async fn next(task: Payload<Job>, producer: Producer) -> Result<(), TaskError> {
    match task.n {
        0 => {}
        1 => {
            let call = producer.enqueue(job(0)).id("overridden");
            call.header("tenant", "other").header("own", "1").await?;
        }
        n => {
            producer
                .enqueue(job(n - 1))
                .id(format!("job-{}", n - 1))
                .await?;
        }
    }
    Ok(())
}

async fn headers_of(broker: &MemoryBroker, id: &str) -> Headers {
    let task = TaskRef::new("default", TaskId::new(id).unwrap());
    let mut headers = None;
    until("the task is there", async || {
        let found = broker.tasks(std::slice::from_ref(&task)).await.unwrap();
        headers = found[0].as_ref().map(|info| info.envelope.headers.clone());
        headers.is_some()
    })
    .await;
    headers.unwrap()
}

#[tokio::test]
async fn what_a_handler_enqueues_inherits_headers_and_trace_unless_it_sets_them() {
    let (broker, producer) = broker();
    let server = Server::builder(broker.clone()).process(next);
    let _server = server.start().await.unwrap();
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let call = producer.enqueue(job(3)).header("tenant", "acme");
    let call = call
        .header("traceparent", parent)
        .header("asynqueue-links", "x");
    call.await.unwrap();
    let expected = Headers::from_iter([("tenant", "acme"), ("traceparent", parent)]);
    assert_eq!(headers_of(&broker, "job-2").await, expected);
    assert_eq!(headers_of(&broker, "job-1").await, expected, "and so on");
    let mut expected = expected;
    expected.insert("tenant", "other");
    expected.insert("own", "1");
    assert_eq!(headers_of(&broker, "overridden").await, expected);
}

#[tokio::test]
async fn closing_the_producer_of_a_handler_does_not_close_others() {
    async fn closes(_: Payload<Job>, ctx: Context) -> Result<(), TaskError> {
        let producer = ctx.producer();
        producer.close().await;
        let refused = producer.enqueue(job(1)).await;
        assert!(matches!(refused, Err(EnqueueError::ProducerClosed)));
        ctx.producer().enqueue(job(1)).delay(AN_HOUR).await?;
        Ok(())
    }
    let (broker, producer) = broker();
    let _server = Server::builder(broker)
        .process(closes)
        .start()
        .await
        .unwrap();
    for _ in 0..2 {
        let task = producer.enqueue(job(1)).await.unwrap();
        soon("it is done", task.result()).await.expect("done");
        assert!(info(&task).await.envelope.failures().is_empty());
    }
}

#[tokio::test]
async fn a_handler_run_inline_enqueues_to_the_given_broker() {
    let broker = MemoryBroker::new();
    let run = run_inline(next, job(2)).broker(broker.clone());
    run.header("tenant", "acme").await.expect("done");
    assert_eq!(
        headers_of(&broker, "job-1").await.get("tenant"),
        Some("acme")
    );
    run_inline(next, job(2)).await.expect("its own broker");
}
