//! Cancelling tasks.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use asynqueue_core::{
    broker::{CancelOutcome, Signal, TaskInfo},
    process::{Context, Payload, TaskError},
    server::Server,
    task::{FailureKind, TaskState},
};
use tokio::sync::{Semaphore, oneshot};

use crate::{
    faulty::Faulty,
    harness::{
        AN_HOUR, Job, becomes, broker, counts_become, failure_of, info, job, output_of, soon, until,
    },
};

fn assert_cancelled(info: &TaskInfo, reason: &str) {
    let failure = info.envelope.last_failure().expect("a reason");
    assert_eq!(
        (info.state, failure.kind, failure.message.as_str()),
        (TaskState::Archived, FailureKind::Cancelled, reason)
    );
}

#[tokio::test]
async fn a_waiting_task_is_archived_with_the_reason_and_never_runs() {
    let (broker, producer) = broker();
    let waiting = producer.enqueue(job(1)).await.unwrap();
    let scheduled = producer.enqueue(job(2)).delay(AN_HOUR).await.unwrap();
    for task in [&waiting, &scheduled] {
        let outcome = task.cancel("not needed").await.unwrap();
        assert_eq!(outcome, CancelOutcome::Cancelled);
    }
    let ran = Arc::new(AtomicUsize::new(0));
    let run = Arc::clone(&ran);
    let _server = Server::builder(broker.clone())
        .process(move |_: Payload<Job>, _: Context| {
            run.fetch_add(1, SeqCst);
            async { Ok::<_, TaskError>(()) }
        })
        .start()
        .await
        .unwrap();
    output_of(&producer.enqueue(job(3)).await.unwrap()).await;
    assert_eq!(ran.load(SeqCst), 1);
    assert_cancelled(&info(&waiting).await, "not needed");
    assert_cancelled(&info(&scheduled).await, "not needed");
    counts_become(
        &broker,
        &[(TaskState::Completed, 1), (TaskState::Archived, 2)],
    )
    .await;
}

/// How a handler responds to its cancellation.
async fn cancelled_while_running(
    max_retry: u32,
    answer: impl Fn() -> Result<(), TaskError> + Send + Sync + 'static,
) -> (TaskInfo, usize) {
    let (broker, producer) = broker();
    let (answer, runs) = (Arc::new(answer), Arc::new(AtomicUsize::new(0)));
    let run = Arc::clone(&runs);
    let _server = Server::builder(broker.clone())
        .poll_interval(AN_HOUR)
        // So that a heartbeat follows soon if the signal comes before the server listens.
        .lease(std::time::Duration::from_secs(1))
        .cancel_grace(AN_HOUR)
        .process(move |_: Payload<Job>, ctx: Context| {
            run.fetch_add(1, SeqCst);
            let answer = Arc::clone(&answer);
            async move {
                ctx.cancelled().await;
                answer()
            }
        })
        .start()
        .await
        .unwrap();
    let task = producer.enqueue(job(1)).max_retry(max_retry).await.unwrap();
    until("it runs", async || runs.load(SeqCst) == 1).await;
    assert_eq!(
        task.cancel("too late").await.unwrap(),
        CancelOutcome::Requested
    );
    let _ = soon("it ends", task.result()).await;
    let info = info(&task).await;
    counts_become(&broker, &[(info.state, 1)]).await;
    (info, runs.load(SeqCst))
}

#[tokio::test]
async fn a_running_task_that_stops_on_request_is_archived_with_the_reason() {
    let (info, runs) = cancelled_while_running(3, || Err(TaskError::retry("stopped"))).await;
    assert_cancelled(&info, "too late");
    assert_eq!(runs, 1, "not retried");
}

#[tokio::test]
async fn the_reason_is_kept_if_no_retry_was_left() {
    let (info, _) = cancelled_while_running(0, || Err(TaskError::retry("stopped"))).await;
    assert_cancelled(&info, "too late");
}

#[tokio::test]
async fn a_cancelled_task_that_skips_its_retries_is_archived_with_the_reason() {
    let (info, _) = cancelled_while_running(3, || Err(TaskError::skip_retry("stopped"))).await;
    assert_cancelled(&info, "too late");
}

#[tokio::test]
async fn a_cancelled_task_that_snoozes_is_archived_with_the_reason() {
    let (info, runs) = cancelled_while_running(3, || Err(TaskError::snooze(AN_HOUR))).await;
    assert_cancelled(&info, "too late");
    assert_eq!(runs, 1);
}

#[tokio::test]
async fn a_running_task_that_succeeds_despite_its_cancellation_is_completed() {
    let (info, _) = cancelled_while_running(3, || Ok(())).await;
    assert_eq!(info.state, TaskState::Completed);
}

/// A server whose handlers ignore cancellation until they are dropped, which is recorded.
async fn ignores_cancellation(grace: Duration) {
    let (broker, producer) = broker();
    let (in_handler, dropped) = oneshot::channel::<()>();
    let in_handler = Mutex::new(Some(in_handler));
    let server = Server::builder(broker.clone())
        .cancel_grace(grace)
        .process(move |task: Payload<Job>, _: Context| {
            let in_handler = in_handler.lock().unwrap().take();
            async move {
                if task.n == 1 {
                    // Dropped with this future.
                    let _tell = in_handler;
                    std::future::pending::<()>().await;
                }
                Ok::<_, TaskError>(())
            }
        })
        .start()
        .await
        .unwrap();
    let task = producer.enqueue(job(1)).await.unwrap();
    until("it runs", async || server.stats().running == 1).await;
    task.cancel("enough").await.unwrap();
    failure_of(&task).await;
    assert!(soon("it is dropped", dropped).await.is_err());
    let info = info(&task).await;
    assert_cancelled(&info, "enough");
    until("its slot is back", async || {
        let stats = server.stats();
        (stats.abandoned, stats.slots, stats.running) == (0, 16, 0)
    })
    .await;
    output_of(&producer.enqueue(job(2)).await.unwrap()).await;
    counts_become(
        &broker,
        &[(TaskState::Completed, 1), (TaskState::Archived, 1)],
    )
    .await;
}

#[tokio::test]
async fn a_running_task_that_ignores_its_cancellation_is_dropped_after_the_grace() {
    ignores_cancellation(Duration::from_millis(20)).await;
}

#[tokio::test]
async fn with_the_longest_grace_a_server_waits_for_handlers_without_limit() {
    let (broker, producer) = broker();
    let gate = Arc::new(Semaphore::new(0));
    let pass = Arc::clone(&gate);
    let server = Server::builder(broker.clone())
        .cancel_grace(Duration::MAX)
        .process(move |_: Payload<Job>, ctx: Context| {
            let gate = Arc::clone(&gate);
            async move {
                ctx.cancelled().await;
                gate.acquire().await.expect("open").forget();
                Err::<(), _>(TaskError::retry("stopped"))
            }
        })
        .start()
        .await
        .unwrap();
    let cancelled = producer.enqueue(job(1)).await.unwrap();
    until("it runs", async || server.stats().running == 1).await;
    cancelled.cancel("enough").await.unwrap();
    // Timeouts still apply.
    let overdue = producer.enqueue(job(2)).max_retry(0);
    let overdue = overdue.timeout(Duration::from_millis(300)).await.unwrap();
    failure_of(&overdue).await;
    assert_eq!(info(&cancelled).await.state, TaskState::Active);
    pass.add_permits(1);
    failure_of(&cancelled).await;
    assert_cancelled(&info(&cancelled).await, "enough");
}

#[tokio::test]
async fn a_leased_task_that_is_cancelled_before_it_starts_does_not_run() {
    let (broker, producer) = broker();
    let faulty = Faulty::new(&broker);
    // The server leases both tasks, and has one slot.
    faulty.faults.generous.store(1, SeqCst);
    let gate = Arc::new(Semaphore::new(0));
    let (pass, ran) = (Arc::clone(&gate), Arc::new(AtomicUsize::new(0)));
    let run = Arc::clone(&ran);
    let first = producer.enqueue(job(1)).await.unwrap();
    let second = producer.enqueue(job(2)).await.unwrap();
    let _server = Server::builder(faulty)
        .concurrency(1)
        .process(move |task: Payload<Job>, _: Context| {
            let gate = Arc::clone(&gate);
            run.fetch_add(usize::from(task.n == 2), SeqCst);
            async move {
                if task.n == 1 {
                    gate.acquire().await.expect("open").forget();
                }
                Ok::<_, TaskError>(())
            }
        })
        .start()
        .await
        .unwrap();
    becomes(&second, TaskState::Active).await;
    assert_eq!(
        second.cancel("not needed").await.unwrap(),
        CancelOutcome::Requested
    );
    // Immediately: it does not wait for the slot.
    failure_of(&second).await;
    assert_cancelled(&info(&second).await, "not needed");
    pass.add_permits(1);
    output_of(&first).await;
    assert_eq!(ran.load(SeqCst), 0);
    counts_become(
        &broker,
        &[(TaskState::Completed, 1), (TaskState::Archived, 1)],
    )
    .await;
}

#[tokio::test]
async fn the_heartbeat_finds_every_cancelled_task_when_signals_are_lost() {
    let (broker, producer) = broker();
    let faulty = Faulty::new(&broker);
    faulty.faults.deaf.store(true, SeqCst);
    let seen = Arc::new(Semaphore::new(0));
    let in_handler = Arc::clone(&seen);
    let server = Server::builder(faulty)
        .queue("a", 1)
        .queue("b", 1)
        .lease(Duration::from_millis(300))
        .poll_interval(Duration::from_millis(10))
        .cancel_grace(AN_HOUR)
        .process(move |_: Payload<Job>, ctx: Context| {
            let seen = Arc::clone(&in_handler);
            async move {
                ctx.cancelled().await;
                seen.add_permits(1);
                // Until both are cancelled: neither replaces the other.
                let _both = seen.acquire_many(2).await;
                Err::<(), _>(TaskError::retry("stopped"))
            }
        })
        .start()
        .await
        .unwrap();
    // Tokens are counted by queue, so both tasks have the same.
    let a = producer.enqueue(job(1)).queue("a").await.unwrap();
    let b = producer.enqueue(job(2)).queue("b").await.unwrap();
    until("both run", async || server.stats().running == 2).await;
    a.cancel("enough").await.unwrap();
    b.cancel("enough").await.unwrap();
    failure_of(&a).await;
    failure_of(&b).await;
    drop(seen);
    counts_become(&broker, &[(TaskState::Archived, 2)]).await;
}

/// The signal may be about another task with the same name, or come late.
#[tokio::test]
async fn a_cancel_signal_without_a_request_does_not_stop_the_task() {
    let (inner, producer) = broker();
    let broker = Faulty::new(&inner);
    let (started, cancelled) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
    let go_on = Arc::new(Semaphore::new(0));
    let (starts, stops, goes_on) = (
        Arc::clone(&started),
        Arc::clone(&cancelled),
        Arc::clone(&go_on),
    );
    let _server = Server::builder(broker.clone())
        .concurrency(1)
        .process(move |_: Payload<Job>, ctx: Context| {
            let (starts, stops) = (Arc::clone(&starts), Arc::clone(&stops));
            let goes_on = Arc::clone(&goes_on);
            async move {
                starts.add_permits(1);
                tokio::select! {
                    () = ctx.cancelled() => { stops.fetch_add(1, SeqCst); }
                    permit = goes_on.acquire() => permit.unwrap().forget(),
                }
                Ok::<_, TaskError>(())
            }
        })
        .start()
        .await
        .unwrap();
    let task = producer.enqueue(job(1)).await.unwrap();
    soon("started", started.acquire()).await.unwrap().forget();
    // One of the extensions may be due to the new subscription.
    for _ in 0..3 {
        let asked = broker.faults.extensions.load(SeqCst);
        let rumour = Signal::Cancel(task.task_ref().clone());
        broker.faults.rumours.send(rumour).unwrap();
        let extended = async || broker.faults.extensions.load(SeqCst) > asked;
        until("its lease is checked", extended).await;
    }
    go_on.add_permits(1);
    soon("done", task.result()).await.unwrap();
    assert_eq!(cancelled.load(SeqCst), 0);

    // And a requested cancellation is applied.
    let task = producer.enqueue(job(2)).await.unwrap();
    soon("started", started.acquire()).await.unwrap().forget();
    task.cancel("indeed").await.unwrap();
    until("stopped", async || cancelled.load(SeqCst) == 1).await;
}
