//! Waiting for a task's end.

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

/// One who waits, and has asked before the test goes on: in a broker without a network in between, it is known to wait.
/// Where there is one, it may still be on its way, which must make no difference while the task is kept.
async fn wait(f: &Fixture<'_>) -> JoinHandle<Result<Finished, BrokerError>> {
    let broker = Arc::clone(&f.broker);
    let mut waiting = Box::pin(async move { broker.finished(&task_ref("a")).await });
    let asked = poll_fn(|context| Poll::Ready(waiting.as_mut().poll(context))).await;
    tokio::spawn(async move {
        match asked {
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
        .expect("told in time")
        .unwrap()
}

async fn told(waiting: JoinHandle<Result<Finished, BrokerError>>) -> Finished {
    answer(waiting).await.unwrap()
}

fn completed(result: Option<Bytes>) -> Finished {
    Finished::Completed {
        result,
        codec: CodecName::of::<MessagePack>(),
    }
}

/// With the codec it is in.
pub async fn one_who_waits_is_told_of_the_result(harness: &dyn Harness) {
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
    assert_eq!(told(waiting).await, completed(result));
}

/// When it is final: a retry is not.
pub async fn one_who_waits_is_told_of_the_failure(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue(tasks(["a"])).await;
    let waiting = wait(&f).await;
    let leased = f.lease_one().await;
    f.fail(&leased, Outcome::Retry { delay: secs(0) }).await;
    assert!(!waiting.is_finished());
    let leased = f.lease_one().await;
    f.fail(&leased, Outcome::Archive).await;
    let Finished::Archived { failure } = told(waiting).await else {
        panic!("archived")
    };
    assert_eq!(failure.unwrap().attempt, 2);
}

/// Not only the first.
pub async fn all_who_wait_are_told(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue([retained("a", secs(60))]).await;
    let mut waiting = Vec::new();
    for _ in 0..5 {
        waiting.push(wait(&f).await);
    }
    let leased = f.lease_one().await;
    f.settle(&leased, super::fixture::complete()).await;
    for waiting in waiting {
        assert_eq!(told(waiting).await, completed(None));
    }
}

/// The answer is there already.
pub async fn a_final_task_is_not_waited_for(harness: &dyn Harness) {
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
    assert_eq!(told(wait(&f).await).await, completed(result));
}

/// It might never come.
pub async fn an_unknown_task_is_gone(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    assert_eq!(told(wait(&f).await).await, Finished::Gone);
    let nowhere = f
        .broker
        .finished(&TaskRef::new("nowhere", id("a")))
        .await
        .unwrap();
    assert_eq!(nowhere, Finished::Gone);
}

/// To the task, and to others who wait.
pub async fn one_who_stops_waiting_does_no_harm(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue([retained("a", secs(60))]).await;
    let (stops, stays) = (wait(&f).await, wait(&f).await);
    stops.abort();
    let leased = f.lease_one().await;
    f.settle(&leased, super::fixture::complete()).await;
    assert_eq!(told(stays).await, completed(None));
}

/// Rather than left waiting.
pub async fn a_deleted_task_is_told_as_gone(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue(tasks(["a"])).await;
    let waiting = wait(&f).await;
    f.broker.delete(&[task_ref("a")]).await.unwrap();
    assert_eq!(told(waiting).await, Finished::Gone);
}

/// Nothing of it is kept, so that whoever waits is told all there is, at that moment.
pub async fn one_who_waits_is_told_of_a_result_that_is_not_kept(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    let result = Some(Bytes::from_static(b"result"));
    // Nobody can see whether someone waits already: the longer it is given, the surer it is.
    for patience in (0..12).map(|round| Duration::from_millis(1 << round)) {
        f.enqueue(tasks(["a"])).await;
        let leased = f.lease_one().await;
        let mut waiting = wait(&f).await;
        let early = tokio::time::timeout(patience, &mut waiting).await;
        assert!(early.is_err(), "told before the end: {early:?}");
        let outcome = Outcome::Complete {
            result: result.clone(),
        };
        f.settle(&leased, outcome).await;
        match told(waiting).await {
            Finished::Gone => {}
            finished => return assert_eq!(finished, completed(result)),
        }
    }
    panic!("told each time that the task is gone");
}

/// With who did it, and why.
pub async fn one_who_waits_is_told_of_a_cancellation(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue(tasks(["a"])).await;
    let waiting = wait(&f).await;
    f.broker.cancel(&[task_ref("a")], "stop").await.unwrap();
    let Finished::Archived { failure } = told(waiting).await else {
        panic!("archived")
    };
    let failure = failure.unwrap();
    assert_eq!(
        (failure.kind, failure.message.as_str()),
        (FailureKind::Cancelled, "stop")
    );
}

/// It goes on.
pub async fn a_task_that_waits_again_is_still_waited_for(harness: &dyn Harness) {
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
    assert_eq!(told(waiting).await, completed(None));
}

/// Rather than left waiting.
pub async fn a_dropped_task_is_told_as_gone(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue(tasks(["a"])).await;
    let waiting = wait(&f).await;
    let leased = f.lease_one().await;
    f.settle(&leased, Outcome::Drop).await;
    assert_eq!(told(waiting).await, Finished::Gone);
}

/// They would wait for ever.
pub async fn closing_lets_go_of_all_who_wait(harness: &dyn Harness) {
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

/// Nor one that failed: why is there already.
pub async fn an_archived_task_is_told_with_its_failure_at_once(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue(tasks(["a"])).await;
    let leased = f.lease_one().await;
    f.fail(&leased, Outcome::Archive).await;
    let Finished::Archived { failure } = told(wait(&f).await).await else {
        panic!("archived")
    };
    assert_eq!(failure.unwrap().message, "no luck");
}

/// Its end was not the last.
pub async fn an_archived_task_that_runs_again_is_waited_for_anew(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue([retained("a", secs(60))]).await;
    let leased = f.lease_one().await;
    f.fail(&leased, Outcome::Archive).await;
    f.broker.run_now(&[task_ref("a")]).await.unwrap();
    let waiting = wait(&f).await;
    let leased = f.lease_one().await;
    assert!(!waiting.is_finished());
    f.settle(&leased, super::fixture::complete()).await;
    assert_eq!(told(waiting).await, completed(None));
}
