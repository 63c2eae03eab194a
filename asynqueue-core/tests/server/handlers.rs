//! The forms of a handler: its errors and its arguments.

use std::{
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

use asynqueue_core::{
    layer::BoxError,
    process::{
        Context, FromState, MissingState, Payload, Process, ServerState, State, TaskError,
        TaskResultExt,
    },
    registry::{IntoProcess, ProcessWrapper},
    server::{Server, ServerBuilder, ServerError},
    task::{FailureKind, Task, TaskState},
    testing::run_inline,
};
use asynqueue_macros::FromState;

use crate::harness::{Job, Sum, broker, counts_become, info, job, output_of, soon, until};

async fn returns_anyhow(_: Payload<Job>, _: Context) -> anyhow::Result<()> {
    Err(std::io::Error::other("lost"))?
}

async fn returns_eyre(_: Payload<Job>, _: Context) -> eyre::Result<()> {
    Err(std::io::Error::other("lost"))?
}

async fn returns_box(_: Payload<Job>, _: Context) -> Result<(), BoxError> {
    Err("lost")?
}

async fn returns_text(_: Payload<Job>, _: Context) -> Result<(), String> {
    Err("lost".into())
}

async fn returns_static_text(_: Payload<Job>, _: Context) -> Result<(), &'static str> {
    Err("lost")
}

async fn returns_io(_: Payload<Job>, _: Context) -> std::io::Result<()> {
    Err(std::io::Error::other("lost"))
}

async fn returns_task_error(task: Payload<Job>, ctx: Context) -> Result<(), TaskError> {
    returns_anyhow(task, ctx).await?;
    Ok(())
}

async fn message_of<M>(process: impl IntoProcess<M>) -> String {
    let result = run_inline(process, job(1)).await;
    let error = result.expect_err("lost");
    assert_eq!(error.failure_kind(), FailureKind::Error);
    error.message()
}

#[tokio::test]
async fn a_handler_may_return_any_error() {
    assert_eq!(message_of(returns_anyhow).await, "lost");
    assert_eq!(message_of(returns_eyre).await, "lost");
    assert_eq!(message_of(returns_box).await, "lost");
    assert_eq!(message_of(returns_text).await, "lost");
    assert_eq!(message_of(returns_static_text).await, "lost");
    assert_eq!(message_of(returns_io).await, "lost");
    assert_eq!(message_of(returns_task_error).await, "lost");
}

#[tokio::test]
async fn a_step_that_cannot_succeed_archives_its_task_with_any_error_type() {
    async fn pay(_: Payload<Job>) -> anyhow::Result<()> {
        use anyhow::Context as _;
        let paid = "x".parse::<u64>().or_archive();
        paid.context("cannot pay")?;
        Ok(())
    }
    let (broker, producer) = broker();
    let server = Server::builder(broker.clone()).process(pay);
    let _server = server.start().await.unwrap();
    let task = producer.enqueue(job(1)).max_retry(9).await.unwrap();
    counts_become(&broker, &[(TaskState::Archived, 1)]).await;
    let failures = info(&task).await.envelope.failures().to_vec();
    assert_eq!(failures.len(), 1, "{failures:?}");
    assert_eq!(
        failures[0].message,
        "cannot pay: invalid digit found in string"
    );
}

#[derive(Clone)]
struct Offset(u64);

#[derive(Clone)]
struct Factor(u64);

#[derive(FromState)]
#[from_state(crate = asynqueue_core)]
struct Both {
    offset: Offset,
    factor: Factor,
}

async fn bare(task: Payload<Sum>) -> Result<u64, TaskError> {
    Ok(task.of.iter().sum())
}

async fn with_offset(task: Payload<Sum>, offset: State<Offset>) -> Result<u64, TaskError> {
    Ok(task.of.iter().sum::<u64>() + offset.0.0)
}

async fn with_all(
    task: Payload<Sum>,
    both: Both,
    ctx: Context,
    State(Offset(offset)): State<Offset>,
) -> anyhow::Result<u64> {
    assert_eq!(ctx.attempt(), 1);
    assert_eq!(offset, both.offset.0);
    Ok(task.of.iter().sum::<u64>() * both.factor.0 + offset)
}

async fn sum_by<M>(process: impl IntoProcess<M>) -> u64 {
    let (broker, producer) = broker();
    let server = Server::builder(broker).state(Offset(100)).state(Factor(2));
    let _server = server.process(process).start().await.unwrap();
    let task = producer.enqueue(Sum { of: vec![1, 2] }).await.unwrap();
    output_of(&task).await
}

#[tokio::test]
async fn a_function_takes_the_arguments_it_needs_in_any_order() {
    assert_eq!(sum_by(bare).await, 3);
    assert_eq!(sum_by(with_offset).await, 103);
    assert_eq!(sum_by(with_all).await, 106);
    assert_eq!(sum_by(ProcessWrapper::new(with_offset)).await, 103);
}

/// Takes its state from the context, and checks it.
struct Checked;

impl Process<Sum> for Checked {
    async fn handle(&self, _: Payload<Sum>, ctx: &Context) -> Result<u64, TaskError> {
        Ok(ctx.state::<Factor>()?.0)
    }

    fn check_state(&self, state: &ServerState) -> Result<(), MissingState> {
        state.get::<Factor>().map(drop)
    }
}

fn refused(setup: impl FnOnce(ServerBuilder) -> ServerBuilder) -> ServerError {
    let (broker, _) = broker();
    let server = setup(Server::builder(broker).state(Offset(1)));
    server.build().expect_err("missing state")
}

#[test]
fn a_server_without_the_state_of_a_handler_is_rejected_with_event_and_type() {
    type Setup = fn(ServerBuilder) -> ServerBuilder;
    let setups: [Setup; 4] = [
        |server| server.process(with_all),
        |server| server.process(ProcessWrapper::new(with_all)),
        |server| server.subscribe("accounts", with_all),
        |server| server.process(Checked),
    ];
    for setup in setups {
        let error = refused(setup);
        assert!(
            matches!(&error, ServerError::State { event, .. } if event == Sum::EVENT),
            "{error}"
        );
        let text = error.to_string();
        for part in ["`sum`", "handlers::Factor`", "`.state(…)`"] {
            assert!(text.contains(part), "no {part} in {text}");
        }
        assert_eq!(format!("{error:?}"), text, "its cause is named once");
        assert!(error.source().is_some());
    }
}

/// Missing state, wrapped in several error types.
async fn needs_state(_: Payload<Job>, ctx: Context) -> anyhow::Result<()> {
    let _factor: &Factor = match ctx.id().as_str() {
        "plain" => ctx.state()?,
        "with-context" => anyhow::Context::context(ctx.state(), "cannot multiply")?,
        _ => ctx
            .state()
            .map_err(|error| TaskError::from(error).into_std())?,
    };
    Ok(())
}

#[tokio::test]
async fn missing_state_counts_no_attempt_and_the_task_runs_on_a_server_that_has_it() {
    let (broker, producer) = broker();
    let lacking = Server::builder(broker.clone()).process(needs_state);
    let lacking = lacking.start().await.unwrap();
    let mut tasks = Vec::new();
    for id in ["plain", "with-context", "as-a-task-error"] {
        let task = producer.enqueue(job(1)).id(id).max_retry(1);
        tasks.push(task.await.unwrap());
    }
    for task in &tasks {
        until(
            "it has failed more often than its retries allow",
            async || info(task).await.envelope.failures().len() > 3,
        )
        .await;
    }
    lacking.shutdown().await.unwrap();
    for task in &tasks {
        let envelope = info(task).await.envelope;
        assert_eq!(envelope.attempts, 0);
        for failure in envelope.failures() {
            assert_eq!(failure.kind, FailureKind::MissingState);
            assert!(failure.message.contains("Factor"), "{}", failure.message);
        }
    }
    let server = Server::builder(broker.clone()).state(Factor(1));
    let _server = server.process(needs_state).start().await.unwrap();
    for task in &tasks {
        soon("it is done", task.result()).await.expect("done");
    }
}

#[tokio::test]
async fn missing_state_of_a_custom_argument_is_found_when_the_server_is_built() {
    struct Fresh(Arc<AtomicBool>);

    impl FromState for Fresh {
        fn from_state(state: &ServerState) -> Result<Self, MissingState> {
            state.get().cloned().map(Self)
        }
    }

    async fn set(_: Payload<Job>, fresh: Fresh) -> Result<(), TaskError> {
        fresh.0.store(true, SeqCst);
        Ok(())
    }

    assert!(matches!(
        refused(|server| server.process(set)),
        ServerError::State { .. }
    ));
    let flag = Arc::new(AtomicBool::new(false));
    run_inline(set, job(1))
        .state(Arc::clone(&flag))
        .await
        .expect("done");
    assert!(flag.load(SeqCst));
}
