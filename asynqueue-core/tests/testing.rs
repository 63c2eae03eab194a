//! The tools for users' tests.

#![allow(clippy::unwrap_used, reason = "a test may")]

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use asynqueue_core::{
    broker::{Inspect, SharedBroker},
    layer::{TaskRequest, middleware_fn},
    memory::MemoryBroker,
    process::{Context, Payload, TaskError, TaskErrorKind},
    producer::Producer,
    registry::ProcessWrapper,
    server::{Server, ServerBuilder},
    task::{FailureKind, TaskState},
    testing::{Enqueued, TestClock, drain, run_inline},
};
use asynqueue_macros::Task;
use serde::{Deserialize, Serialize};

const MINUTE: Duration = Duration::from_secs(60);

#[derive(Serialize, Deserialize, Task)]
#[task(event = "email:welcome", queue = "mail", backoff = fixed("1m"), crate = asynqueue_core)]
struct WelcomeEmail {
    user_id: u64,
}

#[derive(Serialize, Deserialize, Task)]
#[task(event = "sum", output = u64, timeout = "20ms", crate = asynqueue_core)]
struct Sum {
    of: Vec<u64>,
}

fn email(user_id: u64) -> WelcomeEmail {
    WelcomeEmail { user_id }
}

#[tokio::test]
async fn run_inline_returns_the_output() {
    let sum = |task: Payload<Sum>, _: Context| async move {
        Ok::<_, TaskError>(task.of.iter().sum::<u64>())
    };
    assert_eq!(run_inline(sum, Sum { of: vec![1, 2] }).await.unwrap(), 3);
}

#[tokio::test]
async fn run_inline_passes_the_configured_context() {
    let process = |_: Payload<WelcomeEmail>, ctx: Context| async move {
        assert_eq!(
            (ctx.attempt(), ctx.headers().get("tenant")),
            (3, Some("acme"))
        );
        assert_eq!((ctx.queue().as_str(), ctx.is_cancelled()), ("mail", true));
        assert_eq!(*ctx.state::<u8>()?, 7);
        ctx.set_result(&"noted")?;
        Ok::<_, TaskError>(())
    };
    let run = run_inline(process, email(1)).attempt(3).state(7_u8);
    run.header("tenant", "acme").cancelled().await.unwrap();
}

#[tokio::test]
async fn run_inline_returns_errors_unchanged_and_panics_and_timeouts_as_errors() {
    let fails = |_: Payload<Sum>, _: Context| async { Err::<u64, _>(TaskError::skip_retry("no")) };
    let error = run_inline(fails, Sum { of: vec![] })
        .await
        .expect_err("fails");
    assert_eq!(
        (error.kind(), error.message().as_str()),
        (TaskErrorKind::SkipRetry, "no")
    );

    let panics = |task: Payload<Sum>, _: Context| async move { Ok::<_, TaskError>(task.of[0]) };
    let error = run_inline(panics, Sum { of: vec![] })
        .await
        .expect_err("panics");
    assert_eq!(error.failure_kind(), FailureKind::Panic);

    let hangs = |_: Payload<Sum>, _: Context| std::future::pending::<Result<u64, TaskError>>();
    let error = run_inline(hangs, Sum { of: vec![] })
        .await
        .expect_err("hangs");
    assert_eq!(error.failure_kind(), FailureKind::Timeout);
}

#[tokio::test]
async fn run_inline_runs_the_layers_of_the_handler() {
    let process =
        ProcessWrapper::new(|_: Payload<Sum>, _: Context| async { Ok::<_, TaskError>(1) }).layer(
            middleware_fn(|_: TaskRequest, _| async { Err(TaskError::retry("not today")) }),
        );
    let error = run_inline(process, Sum { of: vec![] })
        .await
        .expect_err("refused");
    assert_eq!(error.message(), "not today");
}

/// User 0 cannot be reached, user 1 wants no email, user 2 wants it later, user 3 has no address, user 4 has two.
async fn send_welcome(task: Payload<WelcomeEmail>, ctx: Context) -> Result<(), TaskError> {
    match task.user_id {
        0 if ctx.attempt() < 3 => Err(TaskError::retry("no route")),
        1 => Err(TaskError::revoke()),
        2 => Err(TaskError::snooze(MINUTE)),
        3 => Err(TaskError::skip_retry("no address")),
        4 => {
            let producer = ctx.state::<Producer>()?;
            producer.enqueue(email(42)).await?;
            Ok(())
        }
        _ => Ok(()),
    }
}

fn setup() -> (TestClock, MemoryBroker, Producer) {
    let clock = TestClock::default();
    let broker = MemoryBroker::with_clock(clock.clone());
    (clock, broker.clone(), Producer::new(broker))
}

fn server(broker: &MemoryBroker) -> ServerBuilder {
    Server::builder(broker.clone())
        .state(Producer::new(broker.clone()))
        .process(send_welcome)
}

#[tokio::test]
async fn drain_runs_all_due_tasks_and_returns_their_outcomes() {
    let (_, broker, producer) = setup();
    for result in producer.enqueue_many((0..6).map(email)).await {
        result.unwrap();
    }
    producer.enqueue(email(7)).delay(MINUTE).await.unwrap();
    let drained = drain(server(&broker)).await.unwrap();
    // The second email of user 4 is among the completed ones.
    assert_eq!((drained.completed, drained.retried), (3, 1));
    assert_eq!(
        (drained.snoozed, drained.archived, drained.dropped),
        (1, 1, 1)
    );
    let failures: Vec<_> = drained
        .failures
        .iter()
        .map(|(_, f)| f.message.as_str())
        .collect();
    assert_eq!(failures, ["no route", "no address"]);

    let stats = broker.stats(&["mail".into()]).await.unwrap().remove(0);
    assert_eq!(stats.count(TaskState::Scheduled), 2);
    assert_eq!(stats.count(TaskState::Retry), 1);
    assert_eq!((stats.count(TaskState::Archived), stats.total()), (1, 4));
}

#[tokio::test]
async fn drain_continues_after_the_clock_was_advanced() {
    let (clock, broker, producer) = setup();
    producer.enqueue(email(0)).await.unwrap();
    for (attempt, (completed, retried)) in [(0, 1), (0, 1), (1, 0)].into_iter().enumerate() {
        let drained = drain(server(&broker)).await.unwrap();
        assert_eq!(
            (drained.completed, drained.retried),
            (completed, retried),
            "{attempt}"
        );
        assert_eq!(drain(server(&broker)).await.unwrap(), Default::default());
        clock.advance(MINUTE);
    }
}

#[tokio::test]
async fn drain_uses_the_queue_order_of_the_server() {
    let (_, broker, producer) = setup();
    for (queue, id) in [("low", 10), ("high", 11), ("low", 12), ("high", 13)] {
        producer.enqueue(email(id)).queue(queue).await.unwrap();
    }
    let order = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let noted = std::sync::Arc::clone(&order);
    let server = Server::builder(broker)
        .queue("low", 1)
        .queue("high", 2)
        .strict_priority()
        .process(move |task: Payload<WelcomeEmail>, _: Context| {
            noted.lock().unwrap().push(task.user_id);
            async { Ok::<_, TaskError>(()) }
        });
    drain(server).await.unwrap().assert_completed(4);
    assert_eq!(*order.lock().unwrap(), [11, 13, 10, 12]);
}

/// The message of a failing assertion.
fn fails(assertion: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(assertion)).expect_err("it holds");
    *panic.downcast::<String>().expect("a message")
}

#[tokio::test]
async fn enqueued_finds_tasks_by_payload_queue_state_and_time() {
    let (_, broker, producer) = setup();
    producer.enqueue(email(1)).await.unwrap();
    producer.enqueue(email(2)).queue("slow").await.unwrap();
    let at = asynqueue_core::broker::Broker::now(&broker) + MINUTE;
    producer.enqueue(email(3)).delay(MINUTE).await.unwrap();
    for _ in 0..150 {
        producer.enqueue(Sum { of: vec![] }).await.unwrap();
    }
    let emails = Enqueued::<WelcomeEmail>::in_broker(&broker).await.unwrap();
    emails
        .assert_count(3)
        .assert_any(|email| email.user_id == 2);
    emails
        .in_queue("slow")
        .assert_count(1)
        .assert_all(|email| email.user_id == 2);
    emails
        .due_at(at)
        .assert_count(1)
        .assert_any(|email| email.user_id == 3);
    emails.in_state(TaskState::Pending).assert_count(2);
    emails
        .in_queue("slow")
        .in_state(TaskState::Scheduled)
        .assert_none();
    let payloads: Vec<_> = emails.tasks().map(|task| task.payload.user_id).collect();
    assert_eq!(payloads, [3, 1, 2]);

    let shared: SharedBroker = broker.into();
    // More than a page.
    Enqueued::<Sum>::in_broker(&*shared)
        .await
        .unwrap()
        .assert_count(150);
}

#[tokio::test]
async fn enqueued_lists_all_tasks_when_an_assertion_fails() {
    let (_, broker, producer) = setup();
    let emails = Enqueued::<WelcomeEmail>::in_broker(&broker).await.unwrap();
    assert_eq!(
        fails(|| _ = emails.assert_count(1)),
        "expected 1 of `email:welcome`, found 0; the broker has:\n  nothing"
    );

    producer.enqueue(email(7)).id("a").await.unwrap();
    producer
        .enqueue(Sum { of: vec![1] })
        .id("b")
        .delay(MINUTE)
        .await
        .unwrap();
    let emails = Enqueued::<WelcomeEmail>::in_broker(&broker).await.unwrap();
    let listing = "the broker has:\n  sum {\"of\":[1]} scheduled as default/b, due at 1767225660000\
                   \n  email:welcome {\"user_id\":7} pending as mail/a";
    let messages = [
        (
            fails(|| _ = emails.assert_none()),
            "expected none of `email:welcome`, found 1; ",
        ),
        (
            fails(|| _ = emails.in_queue("slow").assert_count(1)),
            "expected 1 of `email:welcome` in queue `slow`, found 0; ",
        ),
        (
            fails(|| _ = emails.assert_any(|email| email.user_id == 8)),
            "expected at least one that the closure accepts of `email:welcome`, found 1; ",
        ),
        (
            fails(|| _ = emails.assert_all(|email| email.user_id == 8)),
            "expected the closure to accept all of `email:welcome`, found 1; ",
        ),
    ];
    for (message, expected) in messages {
        assert_eq!(message, format!("{expected}{listing}"));
    }
}
