//! Tasks that are started too late, or just in time.

use std::{sync::Arc, time::Duration};

use asynqueue_core::{
    broker::{Outcome, TaskInfo},
    inspector::{Action, ActionOutcome, Inspector},
    process::{Context, Payload, TaskError},
    producer::Producer,
    server::Server,
    task::{TaskRef, TaskState},
};
use futures_util::StreamExt;

use super::{
    Harness,
    fixture::{Fixture, secs},
    lifecycle::{Job, Seen, eventually, info, note, sorted},
};

/// Only the first start counts, not a retry, and not a task that was snoozed, released by a shutdown or lost with its
/// worker.
pub async fn a_task_that_was_started_in_time_does_not_expire(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    let producer = Producer::new(Arc::clone(&f.broker));
    let mut handles = Vec::new();
    for n in 0..5 {
        let task = producer.enqueue(Job(n)).expires_in(secs(60));
        handles.push(task.await.unwrap());
    }
    // The worker of the first task is lost.
    let leased = f.lease_from(&[("default", 1)], 1).await.remove(0);
    f.fail(&leased, Outcome::Retry { delay: secs(100) }).await;
    let seen = Seen::default();
    let started = Arc::clone(&seen);
    let interrupted = move |job: Payload<Job>, ctx: Context| {
        started.lock().push(format!("started {}", job.0.0));
        async move {
            match job.0.0 {
                1 => return Err::<u64, _>(TaskError::retry_after(secs(100), "busy")),
                2 => return Err(TaskError::snooze(secs(100))),
                3 => ctx.cancelled().await,
                _ => std::future::pending().await,
            }
            Err(TaskError::retry("stop requested"))
        }
    };
    let server = Server::builder(Arc::clone(&f.broker))
        .shutdown_timeout(Duration::ZERO)
        .cancel_grace(Duration::from_millis(100));
    let server = server.process(interrupted).start().await.unwrap();
    eventually("four have started", async || seen.lock().len() == 4).await;
    for (n, state) in [(1, TaskState::Retry), (2, TaskState::Scheduled)] {
        eventually("it waits", async || info(&handles[n]).await.state == state).await;
    }
    server.shutdown().await.unwrap();

    f.advance(secs(101)).await;
    let server = Server::builder(Arc::clone(&f.broker)).process(note("ran", &seen));
    let server = server.start().await.unwrap();
    for handle in handles {
        assert!(handle.result().await.is_ok(), "{handle:?}");
    }
    server.shutdown().await.unwrap();
}

/// In every way: what is reported as done takes effect.
pub async fn an_expired_task_can_still_run_on_request(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    let producer = Producer::new(Arc::clone(&f.broker));
    let mut handles = Vec::new();
    for n in 0..4 {
        handles.push(producer.enqueue(Job(n)).deadline(secs(60)).await.unwrap());
        let expiring = producer.enqueue(Job(n)).expires_in(secs(60));
        handles.push(expiring.await.unwrap());
    }
    f.advance(secs(61)).await;
    let seen = Seen::default();
    let server = Server::builder(Arc::clone(&f.broker)).process(note("ran", &seen));
    let server = server.start().await.unwrap();
    for handle in &handles {
        assert!(handle.result().await.is_err());
    }
    assert_eq!(sorted(&seen), [] as [&str; 0]);

    let inspector = Inspector::new(Arc::clone(&f.broker));
    let tasks: Vec<_> = handles.iter().map(|one| one.task_ref().clone()).collect();
    assert_eq!(f.broker.run_now(&tasks[..2]).await.unwrap(), [true, true]);
    for (action, tasks) in [
        (Action::RunNow, &tasks[2..4]),
        (Action::Retry, &tasks[4..6]),
    ] {
        let outcomes = inspector.apply(&action, tasks).await.unwrap();
        assert_eq!(outcomes, [ActionOutcome::Done, ActionOutcome::Done]);
    }
    for handle in &handles[..6] {
        eventually("it has run", async || {
            info(handle).await.state == TaskState::Completed
        })
        .await;
    }
    // In bulk, from the archive of one queue to another.
    let (queue, state) = ("default", TaskState::Archived);
    let filter = "event=job".parse().unwrap();
    let moving = Action::MoveTo("other".into());
    let mut bulk = inspector.apply_to_all(moving, queue, state, filter);
    while let Some(progress) = bulk.next().await {
        assert_eq!(progress.unwrap().refused, 0);
    }
    let moved: Vec<_> = tasks[6..].iter().map(|task| task.id.clone()).collect();
    let moved: Vec<_> = moved
        .into_iter()
        .map(|id| TaskRef::new("other", id))
        .collect();
    let found = f.broker.tasks(&moved).await.unwrap();
    let in_time = |found: &Option<TaskInfo>| {
        let envelope = &found.as_ref().unwrap().envelope;
        let until = envelope.deadline.or(envelope.expires_at());
        until.unwrap() > f.broker.now()
    };
    assert!(found.iter().all(in_time), "{found:?}");
    server.shutdown().await.unwrap();
}
