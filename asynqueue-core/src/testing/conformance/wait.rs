//! Waiting for a task's end.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::task::JoinHandle;

use super::{
    Harness,
    fixture::{Fixture, id, retained, secs, task_ref, tasks},
};
use crate::{
    broker::{Finished, Outcome},
    codec::{CodecName, MessagePack},
    task::TaskRef,
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
