//! Results and progress.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use asynqueue_core::{
    broker::Control,
    layer::{Next, TaskRequest, middleware_fn},
    process::{CompletionError, Context, Payload, Progress, SetResultError, TaskError},
    producer::{EnqueueError, ResultError, TaskHandle, TaskStatus},
    server::Server,
    task::{TaskId, TaskRef, TaskState},
};
use asynqueue_macros::Task;
use futures_util::FutureExt;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::Semaphore;

use crate::harness::{
    AN_HOUR, Job, Sum, becomes, broker, counts_become, failure_of, info, job, output_of, soon,
    until,
};

#[tokio::test]
async fn waiters_get_the_result_when_the_task_completes() {
    let (broker, producer) = broker();
    let sum = producer.enqueue(Sum { of: vec![1, 2] }).await.unwrap();
    let unit = producer.enqueue(job(1)).await.unwrap();
    let waiting = [sum.clone(), sum.clone()]
        .map(|sum| tokio::spawn(async move { soon("it completes", sum.result()).await.unwrap() }));
    let waiting_unit = tokio::spawn(async move { output_of(&unit).await });
    let _server = Server::builder(broker.clone())
        .poll_interval(AN_HOUR)
        .process(|task: Payload<Sum>, _: Context| async move {
            Ok::<_, TaskError>(task.of.iter().sum())
        })
        .process(|_: Payload<Job>, _: Context| async { Ok::<_, TaskError>(()) })
        .start()
        .await
        .unwrap();
    for waiting in waiting {
        assert_eq!(waiting.await.unwrap(), 3);
    }
    waiting_unit.await.unwrap();
    // And callers that come later.
    assert_eq!(output_of(&sum).await, 3);
}

#[tokio::test]
async fn a_task_without_retention_returns_its_result_to_waiters_and_is_deleted() {
    let (broker, producer) = broker();
    let task = producer.enqueue(job(1)).retention(Duration::ZERO);
    // From another process, which does not know that the task is not kept.
    let task: TaskHandle<Job> = producer.handle(task.await.unwrap().task_ref().clone());
    let waiting = task.clone();
    let waiting = tokio::spawn(async move { output_of(&waiting).await });
    tokio::task::yield_now().await;
    let _server = Server::builder(broker.clone())
        .process(|_: Payload<Job>, _: Context| async { Ok::<_, TaskError>(()) })
        .start()
        .await
        .unwrap();
    waiting.await.unwrap();
    assert_eq!(task.status().await.unwrap(), TaskStatus::Gone);
    assert!(matches!(task.result().await, Err(ResultError::Gone { .. })));
    counts_become(&broker, &[]).await;
}

#[tokio::test]
async fn waiting_for_a_task_that_is_not_retained_is_rejected_before_it_can_be_a_race() {
    let (broker, producer) = broker();
    let task = producer.enqueue(job(1)).retention(Duration::ZERO);
    let task = task.await.unwrap();
    let refused = soon("a result", task.result()).await.expect_err("refused");
    assert!(
        matches!(refused, ResultError::NotKept { event: "job", .. }),
        "{refused}"
    );
    let text = refused.to_string();
    for part in ["`job`", "`enqueue(…).result()`", "`retention`"] {
        assert!(text.contains(part), "no {part} in {text}");
    }
    counts_become(&broker, &[(TaskState::Pending, 1)]).await;
}

#[tokio::test]
async fn a_wait_that_starts_with_a_rejected_enqueue_returns_the_reason() {
    let (_, producer) = broker();
    let first = producer.enqueue(job(1)).id("one").await;
    first.expect("accepted");
    let again = producer.enqueue(job(1)).id("one").result();
    let refused = soon("a response", again)
        .await
        .expect_err("the id is taken");
    assert!(
        matches!(&refused, ResultError::NotEnqueued(error) if matches!(**error, EnqueueError::Conflict(_))),
        "{refused}"
    );
    assert!(
        refused
            .to_string()
            .contains("task default/one already exists"),
        "{refused}"
    );
}

#[tokio::test]
async fn the_result_of_an_unknown_task_is_gone() {
    let (_, producer) = broker();
    let unknown: TaskHandle<Sum> =
        producer.handle(TaskRef::new("default", TaskId::new("no").unwrap()));
    let error = soon("a result", unknown.result()).await.expect_err("gone");
    assert_eq!(error.to_string(), gone("no"));
}

fn gone(id: &str) -> String {
    format!(
        "task default/{id} is no longer stored: it was deleted or revoked, or its `retention` has passed, and a longer one keeps the result"
    )
}

#[tokio::test]
async fn a_wait_ends_when_the_queue_is_deleted_with_its_tasks() {
    let (broker, producer) = broker();
    let task = producer.enqueue(job(1)).id("one").retention(AN_HOUR);
    let task = task.await.unwrap();
    let mut result = std::pin::pin!(task.result());
    assert!(result.as_mut().now_or_never().is_none(), "it waits");
    let queue = "default".into();
    assert!(Control::delete_queue(&broker, &queue, true).await.unwrap());
    let error = soon("an end", result).await.expect_err("deleted");
    assert_eq!(error.to_string(), gone("one"));
}

#[tokio::test]
async fn the_result_of_a_failed_task_is_its_last_failure() {
    let (broker, producer) = broker();
    let _server = Server::builder(broker)
        .process(|_: Payload<Sum>, _: Context| async {
            Err::<u64, _>(TaskError::retry("overflow"))
        })
        .start()
        .await
        .unwrap();
    let task = producer
        .enqueue(Sum { of: vec![] })
        .max_retry(1)
        .await
        .unwrap();
    let error = soon("it fails", task.result()).await.expect_err("failed");
    assert_eq!(
        error.to_string(),
        format!("task {} failed: overflow", task.task_ref())
    );
}

#[tokio::test]
async fn a_task_can_set_another_result_that_inspectors_see() {
    let (broker, producer) = broker();
    let _server = Server::builder(broker)
        .process(|_: Payload<Job>, ctx: Context| async move {
            ctx.set_result(&"done well")?;
            Ok::<_, TaskError>(())
        })
        .start()
        .await
        .unwrap();
    let task = producer.enqueue(job(1)).await.unwrap();
    // A waiter that uses the task's type waits for `()`.
    output_of(&task).await;
    let info = info(&task).await;
    let result = info.result.expect("kept");
    let text = info
        .envelope
        .codec
        .decode::<String, asynqueue_core::codec::MessagePack>(&result);
    assert_eq!(text.unwrap(), "done well");
}

#[tokio::test]
async fn progress_is_seen_while_the_task_runs() {
    let (broker, producer) = broker();
    let (go_on, done) = (
        Arc::new(Semaphore::new(0)),
        Arc::new(AtomicBool::new(false)),
    );
    let (gate, ended) = (Arc::clone(&go_on), Arc::clone(&done));
    let _server = Server::builder(broker.clone())
        .process(move |_: Payload<Job>, ctx: Context| {
            let (gate, ended) = (Arc::clone(&gate), Arc::clone(&ended));
            async move {
                for step in 1..=2 {
                    ctx.progress(step, 2, format!("step {step}"));
                    gate.acquire().await.expect("open").forget();
                }
                ended.store(true, SeqCst);
                Ok::<_, TaskError>(())
            }
        })
        .start()
        .await
        .unwrap();
    let task = producer.enqueue(job(1)).await.unwrap();
    for step in 1..=2 {
        let expected = Progress::new(step, 2, format!("step {step}"));
        until("progress is seen", async || {
            info(&task).await.progress.as_ref() == Some(&expected)
        })
        .await;
        assert!(!done.load(SeqCst));
        go_on.add_permits(1);
    }
    becomes(&task, TaskState::Completed).await;
}

#[tokio::test]
async fn setting_a_result_beside_an_output_is_an_error() {
    let (broker, producer) = broker();
    let _server = Server::builder(broker)
        .process(|_: Payload<Sum>, ctx: Context| async move {
            let error = ctx.set_result(&7).expect_err("it would be dropped");
            assert!(matches!(error, SetResultError::HasOutput { .. }), "{error}");
            assert!(error.to_string().contains("`sum`"), "{error}");
            Ok::<_, TaskError>(1)
        })
        .start()
        .await
        .unwrap();
    let task = producer.enqueue(Sum { of: vec![] }).max_retry(0);
    assert_eq!(output_of(&task.await.unwrap()).await, 1);
}

#[tokio::test]
async fn completing_with_another_type_than_the_output_is_an_error() {
    let (broker, producer) = broker();
    let _server = Server::builder(broker)
        .process(|_: Payload<Sum>, ctx: Context| async move {
            let problem = |error: CompletionError| {
                assert!(matches!(error, CompletionError::OtherOutput { .. }));
                error.to_string()
            };
            let text = ctx.completion(&"1".to_owned()).map_err(problem);
            let expected = "the output of `sum` is `u64`, and this one is `alloc::string::String`: complete the task with \
                 the value that its handler returns";
            assert_eq!(text.expect_err("callers could not read it"), expected);
            ctx.completion(&()).expect_err("callers expect a number");
            ctx.completion(&1_u64).expect("its output");
            Ok::<_, TaskError>(1)
        })
        .process(|_: Payload<Job>, ctx: Context| async move {
            ctx.completion(&1_u64).expect_err("it has no output");
            ctx.completion(&()).expect("its output");
            Ok::<_, TaskError>(())
        })
        .start()
        .await
        .unwrap();
    let task = producer.enqueue(Sum { of: vec![] }).max_retry(0);
    assert_eq!(output_of(&task.await.unwrap()).await, 1);
    output_of(&producer.enqueue(job(1)).max_retry(0).await.unwrap()).await;
}

#[tokio::test]
async fn setting_a_result_after_the_handler_has_returned_is_an_error() {
    let (broker, producer) = broker();
    let (sender, mut contexts) = tokio::sync::mpsc::unbounded_channel();
    let _server = Server::builder(broker)
        .process(move |_: Payload<Job>, ctx: Context| {
            let sent = sender.send(ctx);
            async move { Ok::<_, TaskError>(sent?) }
        })
        .start()
        .await
        .unwrap();
    let task = producer.enqueue(job(1)).await.unwrap();
    output_of(&task).await;
    let ctx = contexts.recv().await.expect("it ran");
    let error = ctx.set_result(&7).expect_err("it would be dropped");
    assert!(matches!(error, SetResultError::TooLate { .. }), "{error}");
    assert_eq!(info(&task).await.result, None);
}

#[tokio::test]
async fn a_handler_that_a_layer_runs_again_sets_its_result_again() {
    let (broker, producer) = broker();
    let runs = Arc::new(AtomicU64::new(0));
    let _server = Server::builder(broker)
        .process(move |_: Payload<Job>, ctx: Context| {
            let run = runs.fetch_add(1, SeqCst) + 1;
            async move { Ok::<_, TaskError>(ctx.set_result(&run)?) }
        })
        .layer(middleware_fn(
            |request: TaskRequest, next: Next| async move {
                next.clone().run(request.clone()).await?;
                next.run(request).await
            },
        ))
        .start()
        .await
        .unwrap();
    let task = producer.enqueue(job(1)).max_retry(0).await.unwrap();
    output_of(&task).await;
    assert_eq!(info(&task).await.result.expect("kept"), [2].as_slice());
}

#[derive(Serialize, Deserialize, Task)]
#[task(event = "report", output = String, crate = asynqueue_core)]
struct Report(usize);

#[tokio::test]
async fn a_task_with_a_too_large_output_is_archived_with_size_and_limit_and_does_not_delay_others()
{
    let (broker, producer) = broker();
    let _server = Server::builder(broker.clone())
        .max_result(1_000)
        .process(|task: Payload<Report>, _: Context| async move {
            Ok::<_, TaskError>("x".repeat(task.into_inner().0))
        })
        .start()
        .await
        .unwrap();
    let sizes = [10, 20, 998, 997, 30];
    let tasks = producer.enqueue_many(sizes.map(Report)).await;
    for (size, task) in sizes.into_iter().zip(tasks) {
        let task = task.unwrap();
        // A string of this length has three bytes before it.
        if size <= 997 {
            assert_eq!(output_of(&task).await.len(), size);
            continue;
        }
        let failure = failure_of(&task).await;
        let expected = "the result is 1001 bytes, over the limit of 1000: ";
        assert!(failure.message.starts_with(expected), "{}", failure.message);
        let info = info(&task).await;
        assert_eq!((info.envelope.attempts, info.result), (1, None));
    }
}

#[tokio::test]
async fn a_result_within_the_limit_can_be_set() {
    let (broker, producer) = broker();
    let _server = Server::builder(broker.clone())
        .max_result(1_000)
        .process(|_: Payload<Job>, ctx: Context| async move {
            ctx.set_result(&"small")?;
            match ctx.set_result(&"x".repeat(1_000)) {
                Err(SetResultError::TooLarge(error)) => {
                    assert_eq!((error.size, error.limit), (1_003, 1_000));
                    Ok::<_, TaskError>(())
                }
                other => panic!("{other:?}"),
            }
        })
        .start()
        .await
        .unwrap();
    let task = producer.enqueue(job(1)).max_retry(0).await.unwrap();
    output_of(&task).await;
    assert_eq!(info(&task).await.result.expect("kept").len(), 6);
}

#[tokio::test]
async fn a_note_that_is_too_long_is_truncated() {
    let (broker, producer) = broker();
    let gate = Arc::new(Semaphore::new(0));
    let pass = Arc::clone(&gate);
    let _server = Server::builder(broker.clone())
        .process(move |_: Payload<Job>, ctx: Context| {
            let pass = Arc::clone(&pass);
            async move {
                ctx.progress(1, 2, "ä".repeat(4 << 20));
                pass.acquire().await.expect("open").forget();
                Ok::<_, TaskError>(())
            }
        })
        .start()
        .await
        .unwrap();
    let task = producer.enqueue(job(1)).await.unwrap();
    until("progress is seen", async || {
        info(&task).await.progress.is_some()
    })
    .await;
    let progress = info(&task).await.progress.expect("seen");
    assert_eq!(progress.note, "ä".repeat(Progress::MAX_NOTE / 2) + "…");
    gate.add_permits(1);
    output_of(&task).await;
}

#[tokio::test]
async fn a_status_is_serialized_in_a_form_that_shows_neither_payload_nor_result() {
    async fn fails(_: Payload<Job>, ctx: Context) -> Result<(), TaskError> {
        ctx.progress(3, 4, "nearly");
        Err(TaskError::skip_retry("refused"))
    }
    let (broker, producer) = broker();
    let call = producer.enqueue(job(1)).id("one").max_retry(2);
    let task = call.header("secret", "1").await.unwrap();
    let status = serde_json::to_value(task.status().await.unwrap()).unwrap();
    let mut expected = json!({
        "state": "pending",
        "queue": "default",
        "id": "one",
        "event": "job",
        "enqueued_at_ms": info(&task).await.envelope.enqueued_at.as_millis(),
        "at_ms": null,
        "attempts": 0,
        "max_retry": 2,
        "progress": null,
        "error": null,
    });
    assert_eq!(status, expected);
    let _server = Server::builder(broker)
        .process(fails)
        .start()
        .await
        .unwrap();
    let archived = becomes(&task, TaskState::Archived).await;
    let status = serde_json::to_value(task.status().await.unwrap()).unwrap();
    expected["state"] = json!("archived");
    expected["at_ms"] = json!(archived.at.unwrap().as_millis());
    expected["attempts"] = json!(archived.envelope.attempts);
    expected["progress"] = json!(archived.progress);
    expected["error"] = json!("refused");
    assert_eq!(status, expected);
    let gone = serde_json::to_value(TaskStatus::Gone).unwrap();
    assert_eq!(gone, json!({ "state": "gone" }));
}

#[tokio::test]
async fn a_handle_by_id_finds_a_task_in_the_queue_of_its_type() {
    #[derive(Serialize, Deserialize, Task)]
    #[task(event = "elsewhere", queue = "tenants/acme", crate = asynqueue_core)]
    struct Elsewhere;

    let (_, producer) = broker();
    let call = producer.enqueue(Elsewhere).id("user/42");
    let task = call.await.unwrap();
    let same = producer.handle_by_id::<Elsewhere>(task.id().clone());
    assert_eq!(same.status().await.unwrap(), task.status().await.unwrap());
    let text = task.task_ref().to_string();
    assert_eq!(text, "tenants/acme/user%2F42");
    let same = producer.handle::<Elsewhere>(text.parse().unwrap());
    assert_eq!(same.status().await.unwrap().state_name(), "pending");
}
