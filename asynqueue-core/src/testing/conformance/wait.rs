//! Waiting for a task's end.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::StreamExt;
use tokio::task::JoinHandle;

use super::{
    Harness,
    fixture::{Fixture, QUEUE, id, retained, secs, task_ref, tasks},
};
use crate::{
    broker::{BrokerError, Finished, Outcome, SharedBroker},
    codec::{CodecName, MessagePack},
    task::{FailureKind, TaskRef},
};

fn wait(f: &Fixture<'_>) -> JoinHandle<Finished> {
    let broker = Arc::clone(&f.broker);
    tokio::spawn(async move { broker.finished(&task_ref("a")).await.unwrap() })
}

async fn told(waiting: JoinHandle<Finished>) -> Finished {
    tokio::time::timeout(Duration::from_secs(10), waiting)
        .await
        .expect("told in time")
        .unwrap()
}

/// Gives those who wait a chance to be waiting. Whether they are yet must make no difference, since the task is kept.
async fn settle_in() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
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
    let waiting = wait(&f);
    let leased = f.lease_one().await;
    settle_in().await;
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
    let waiting = wait(&f);
    let leased = f.lease_one().await;
    f.fail(&leased, Outcome::Retry { delay: secs(0) }).await;
    settle_in().await;
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
    let waiting: Vec<_> = (0..5).map(|_| wait(&f)).collect();
    settle_in().await;
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
    assert_eq!(told(wait(&f)).await, completed(result));
}

/// It might never come.
pub async fn an_unknown_task_is_gone(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    assert_eq!(told(wait(&f)).await, Finished::Gone);
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
    let (stops, stays) = (wait(&f), wait(&f));
    settle_in().await;
    stops.abort();
    let leased = f.lease_one().await;
    f.settle(&leased, super::fixture::complete()).await;
    assert_eq!(told(stays).await, completed(None));
}

/// Rather than left waiting.
pub async fn a_deleted_task_is_told_as_gone(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue(tasks(["a"])).await;
    let waiting = wait(&f);
    settle_in().await;
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
        let mut waiting = wait(&f);
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
    let waiting = wait(&f);
    settle_in().await;
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
    let waiting = wait(&f);
    settle_in().await;
    for outcome in [Outcome::Release, Outcome::Snooze { delay: secs(0) }] {
        let leased = f.lease_one().await;
        f.settle(&leased, outcome).await;
    }
    settle_in().await;
    assert!(!waiting.is_finished());
    let leased = f.lease_one().await;
    f.settle(&leased, super::fixture::complete()).await;
    assert_eq!(told(waiting).await, completed(None));
}

/// Rather than left waiting.
pub async fn a_dropped_task_is_told_as_gone(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue(tasks(["a"])).await;
    let waiting = wait(&f);
    settle_in().await;
    let leased = f.lease_one().await;
    f.settle(&leased, Outcome::Drop).await;
    assert_eq!(told(waiting).await, Finished::Gone);
}

/// They would wait for ever.
pub async fn closing_lets_go_of_all_who_wait(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue(tasks(["a"])).await;
    let waiting =
        |broker: SharedBroker| tokio::spawn(async move { broker.finished(&task_ref("a")).await });
    let waiting = [0, 1].map(|_| waiting(Arc::clone(&f.broker)));
    let mut signals = f.broker.signals(&[QUEUE.into()]).await.unwrap();
    settle_in().await;
    f.broker.close().await;
    for waiting in waiting {
        let answer = tokio::time::timeout(Duration::from_secs(10), waiting).await;
        let answer = answer.expect("let go in time").unwrap();
        assert!(matches!(answer, Err(BrokerError::Closed)), "{answer:?}");
    }
    let ended = async { while signals.next().await.is_some() {} };
    tokio::time::timeout(Duration::from_secs(10), ended)
        .await
        .expect("the stream of signals ends");
}
