//! Waiting for the end of a task.

use std::{
    future::{Future, poll_fn},
    sync::Arc,
    task::Poll,
    time::Duration,
};

use asynqueue_core::{
    broker::{BrokerError, Finished, Outcome},
    codec::{CodecName, MessagePack},
    task::{FailureKind, TaskRef},
};
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::task::JoinHandle;

use super::{
    Harness,
    fixture::{Fixture, QUEUE, id, retained, secs, task_ref, tasks},
};

/// Starts to wait, and polls once before the test continues: a broker without a network has then registered the waiter. With a
/// network, the request may still be on its way, which must make no difference while the task is kept.
async fn wait(f: &Fixture<'_>) -> JoinHandle<Result<Finished, BrokerError>> {
    let broker = Arc::clone(&f.broker);
    let mut waiting = Box::pin(async move { broker.finished(&task_ref("a")).await });
    let first = poll_fn(|context| Poll::Ready(waiting.as_mut().poll(context))).await;
    tokio::spawn(async move {
        match first {
            Poll::Ready(finished) => finished,
            Poll::Pending => waiting.await,
        }
    })
}

async fn answer(
    waiting: JoinHandle<Result<Finished, BrokerError>>,
) -> Result<Finished, BrokerError> {
    tokio::time::timeout(Duration::from_secs(10), waiting)
        .await
        .expect("a result in time")
        .unwrap()
}

async fn outcome_of(waiting: JoinHandle<Result<Finished, BrokerError>>) -> Finished {
    answer(waiting).await.unwrap()
}

fn completed(result: Option<Bytes>) -> Finished {
    Finished::Completed {
        result,
        codec: CodecName::of::<MessagePack>(),
    }
}

/// With its codec.
pub async fn a_waiter_receives_the_result(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue([retained("a", secs(60))]).await;
    let waiting = wait(&f).await;
    let leased = f.lease_one().await;
    let result = Some(Bytes::from_static(b"result"));
    f.settle(
        &leased,
        Outcome::Complete {
            result: result.clone(),
        },
    )
    .await;
    assert_eq!(outcome_of(waiting).await, completed(result));
}

/// When it is final, which a retry is not.
pub async fn a_waiter_receives_the_failure(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue(tasks(["a"])).await;
    let waiting = wait(&f).await;
    let leased = f.lease_one().await;
    f.fail(&leased, Outcome::Retry { delay: secs(0) }).await;
    assert!(!waiting.is_finished());
    let leased = f.lease_one().await;
    f.fail(&leased, Outcome::Archive).await;
    let Finished::Archived { failure } = outcome_of(waiting).await else {
        panic!("archived")
    };
    assert_eq!(failure.unwrap().attempt, 2);
}

/// Not only the first.
pub async fn all_waiters_receive_the_result(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue([retained("a", secs(60))]).await;
    let mut waiting = Vec::new();
    for _ in 0..5 {
        waiting.push(wait(&f).await);
    }
    let leased = f.lease_one().await;
    f.settle(&leased, super::fixture::complete()).await;
    for waiting in waiting {
        assert_eq!(outcome_of(waiting).await, completed(None));
    }
}

/// The outcome is already stored.
pub async fn a_finished_task_returns_its_result_immediately(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue([retained("a", secs(60))]).await;
    let leased = f.lease_one().await;
    let result = Some(Bytes::from_static(b"result"));
    f.settle(
        &leased,
        Outcome::Complete {
            result: result.clone(),
        },
    )
    .await;
    assert_eq!(outcome_of(wait(&f).await).await, completed(result));
}

/// It might never be enqueued.
pub async fn an_unknown_task_is_gone(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    assert_eq!(outcome_of(wait(&f).await).await, Finished::Gone);
    let nowhere = f
        .broker
        .finished(&TaskRef::new("nowhere", id("a")))
        .await
        .unwrap();
    assert_eq!(nowhere, Finished::Gone);
}

/// Neither to the task nor to other waiters.
pub async fn a_waiter_that_stops_does_no_harm(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue([retained("a", secs(60))]).await;
    let (stops, stays) = (wait(&f).await, wait(&f).await);
    stops.abort();
    let leased = f.lease_one().await;
    f.settle(&leased, super::fixture::complete()).await;
    assert_eq!(outcome_of(stays).await, completed(None));
}

/// It does not wait forever.
pub async fn a_waiter_for_a_deleted_task_receives_gone(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue(tasks(["a"])).await;
    let waiting = wait(&f).await;
    f.broker.delete(&[task_ref("a")]).await.unwrap();
    assert_eq!(outcome_of(waiting).await, Finished::Gone);
}

/// The result is not stored, so waiters receive it at that moment.
pub async fn a_waiter_receives_a_result_that_is_not_kept(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    let result = Some(Bytes::from_static(b"result"));
    // A waiter is not visible from here: the longer it has, the more certain it is.
    for patience in (0..12).map(|round| Duration::from_millis(1 << round)) {
        f.enqueue(tasks(["a"])).await;
        let leased = f.lease_one().await;
        let mut waiting = wait(&f).await;
        let early = tokio::time::timeout(patience, &mut waiting).await;
        assert!(early.is_err(), "an outcome before the end: {early:?}");
        let outcome = Outcome::Complete {
            result: result.clone(),
        };
        f.settle(&leased, outcome).await;
        match outcome_of(waiting).await {
            Finished::Gone => {}
            finished => return assert_eq!(finished, completed(result)),
        }
    }
    panic!("each waiter received only that the task is gone");
}

/// With the user and the reason.
pub async fn a_waiter_receives_the_cancellation(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue(tasks(["a"])).await;
    let waiting = wait(&f).await;
    f.broker.cancel(&[task_ref("a")], "stop").await.unwrap();
    let Finished::Archived { failure } = outcome_of(waiting).await else {
        panic!("archived")
    };
    let failure = failure.unwrap();
    assert_eq!(
        (failure.kind, failure.message.as_str()),
        (FailureKind::Cancelled, "stop")
    );
}

/// It continues.
pub async fn a_waiter_keeps_waiting_through_a_retry(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue([retained("a", secs(60))]).await;
    let waiting = wait(&f).await;
    for outcome in [Outcome::Release, Outcome::Snooze { delay: secs(0) }] {
        let leased = f.lease_one().await;
        f.settle(&leased, outcome).await;
    }
    assert!(!waiting.is_finished());
    let leased = f.lease_one().await;
    f.settle(&leased, super::fixture::complete()).await;
    assert_eq!(outcome_of(waiting).await, completed(None));
}

/// It does not wait forever.
pub async fn a_waiter_for_a_revoked_task_receives_gone(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue(tasks(["a"])).await;
    let waiting = wait(&f).await;
    let leased = f.lease_one().await;
    f.settle(&leased, Outcome::Drop).await;
    assert_eq!(outcome_of(waiting).await, Finished::Gone);
}

/// Otherwise they would wait forever.
pub async fn closing_the_broker_ends_all_waiting(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue(tasks(["a"])).await;
    let waiting = [wait(&f).await, wait(&f).await];
    let mut signals = f.broker.signals(&[QUEUE.into()]).await.unwrap();
    f.broker.close().await;
    for waiting in waiting {
        let answer = answer(waiting).await;
        assert!(matches!(answer, Err(BrokerError::Closed)), "{answer:?}");
    }
    let ended = async { while signals.next().await.is_some() {} };
    tokio::time::timeout(Duration::from_secs(10), ended)
        .await
        .expect("the stream of signals ends");
}

/// The reason of the failure is already stored.
pub async fn an_archived_task_returns_its_failure_immediately(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue(tasks(["a"])).await;
    let leased = f.lease_one().await;
    f.fail(&leased, Outcome::Archive).await;
    let Finished::Archived { failure } = outcome_of(wait(&f).await).await else {
        panic!("archived")
    };
    assert_eq!(failure.unwrap().message, "no luck");
}

/// Its first end was not the last.
pub async fn an_archived_task_that_runs_again_can_be_awaited_again(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue([retained("a", secs(60))]).await;
    let leased = f.lease_one().await;
    f.fail(&leased, Outcome::Archive).await;
    f.broker.run_now(&[task_ref("a")]).await.unwrap();
    let waiting = wait(&f).await;
    let leased = f.lease_one().await;
    assert!(!waiting.is_finished());
    f.settle(&leased, super::fixture::complete()).await;
    assert_eq!(outcome_of(waiting).await, completed(None));
}
