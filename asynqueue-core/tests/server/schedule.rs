//! Tasks that are due later.

use std::{
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use asynqueue_core::{
    broker::Broker,
    memory::MemoryBroker,
    process::{Context, Payload, TaskError},
    producer::Producer,
    server::{Server, ServerBuilder},
    task::{TaskState, Timestamp},
};
use tokio::sync::Semaphore;

use crate::{
    faulty::{Faulty, shut},
    harness::{AN_HOUR, Sum, becomes, broker, counts_become, output_of, soon, until},
};

/// A server that seldom polls, whose tasks return the broker's time when they ran.
fn returns_the_time(builder: ServerBuilder, broker: &MemoryBroker) -> ServerBuilder {
    let clock = broker.clone();
    builder
        .poll_interval(AN_HOUR)
        .process(move |_: Payload<Sum>, _: Context| {
            let now = clock.now();
            async move { Ok::<_, TaskError>(now.as_millis()) }
        })
}

/// Has a server run some tasks one after another: for the last one it has to be listening to signals.
async fn is_listening(producer: &Producer) {
    for _ in 0..3 {
        output_of(&producer.enqueue(sum()).await.unwrap()).await;
    }
}

fn sum() -> Sum {
    Sum { of: vec![] }
}

#[tokio::test]
async fn a_scheduled_task_never_runs_early_and_needs_no_poll() {
    let (broker, producer) = broker();
    let server = returns_the_time(Server::builder(broker.clone()), &broker);
    let _server = server.start().await.unwrap();
    is_listening(&producer).await;
    let mut tasks = Vec::new();
    for millis in [0, 1, 7, 30, 120] {
        let before = broker.now();
        let delay = Duration::from_millis(millis);
        let task = producer.enqueue(sum()).delay(delay).await.unwrap();
        tasks.push((before + delay, task));
    }
    let at = broker.now() + Duration::from_millis(55);
    tasks.push((at, producer.enqueue(sum()).at(at).await.unwrap()));
    for (due, task) in tasks {
        let ran = Timestamp::from_millis(output_of(&task).await);
        assert!(ran >= due, "due {due:?}, ran {ran:?}");
    }
    counts_become(&broker, &[(TaskState::Completed, 9)]).await;
}

#[tokio::test]
async fn a_task_that_is_due_before_all_others_wakes_the_forwarder() {
    let (broker, producer) = broker();
    let server = returns_the_time(Server::builder(broker.clone()), &broker);
    let _server = server.start().await.unwrap();
    is_listening(&producer).await;
    let far = producer.enqueue(sum()).delay(AN_HOUR).await.unwrap();
    becomes(&far, TaskState::Scheduled).await;
    let near = producer.enqueue(sum()).delay(Duration::from_millis(20));
    output_of(&near.await.unwrap()).await;
    counts_become(
        &broker,
        &[(TaskState::Scheduled, 1), (TaskState::Completed, 4)],
    )
    .await;
}

#[tokio::test]
async fn a_task_scheduled_before_the_server_listens_is_not_missed() {
    let (broker, producer) = broker();
    let faulty = Faulty::new(&broker);
    shut(&faulty.faults.subscriptions);
    let server = returns_the_time(Server::builder(faulty.clone()), &broker);
    let _server = server.start().await.unwrap();
    // The forwarder has already seen that nothing is due.
    until("the server leases", async || {
        faulty.faults.leases.load(SeqCst) > 0
    })
    .await;
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    let task = producer
        .enqueue(sum())
        .delay(Duration::from_millis(5))
        .await
        .unwrap();
    faulty.faults.subscriptions.add_permits(1_000);
    output_of(&task).await;
}

#[tokio::test]
async fn a_time_that_has_passed_means_now() {
    let (broker, producer) = broker();
    let server = returns_the_time(Server::builder(broker.clone()), &broker);
    let _server = server.start().await.unwrap();
    output_of(
        &producer
            .enqueue(sum())
            .at(Timestamp::from_millis(1))
            .await
            .unwrap(),
    )
    .await;
}

#[tokio::test]
async fn a_retry_that_is_due_needs_no_poll() {
    let (broker, producer) = broker();
    let gate = Arc::new(Semaphore::new(0));
    let pass = Arc::clone(&gate);
    let _server = Server::builder(broker.clone())
        .poll_interval(AN_HOUR)
        .process(move |_: Payload<Sum>, ctx: Context| {
            pass.add_permits(1);
            async move {
                if ctx.attempt() < 5 {
                    return Err(TaskError::retry_after(Duration::from_millis(10), "no"));
                }
                Ok(0)
            }
        })
        .start()
        .await
        .unwrap();
    output_of(&producer.enqueue(sum()).await.unwrap()).await;
    let _five = soon("five attempts", gate.acquire_many(5)).await.unwrap();
}
