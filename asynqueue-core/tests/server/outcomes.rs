//! Outcomes that the broker refuses.

use std::sync::atomic::Ordering::SeqCst;

use asynqueue_core::{
    process::{Context, Payload, TaskError},
    server::Server,
    task::{FailureKind, TaskState},
};
use asynqueue_macros::Task;
use serde::{Deserialize, Serialize};

use crate::{
    faulty::Faulty,
    harness::{broker, counts_become, failure_of, output_of},
};

#[derive(Serialize, Deserialize, Task)]
#[task(event = "export", output = String, retention = "1h", crate = asynqueue_core)]
struct Export {
    bytes: usize,
}

async fn export(task: Payload<Export>, _: Context) -> Result<String, TaskError> {
    Ok("x".repeat(task.bytes))
}

#[tokio::test]
async fn a_task_whose_outcome_the_broker_refuses_is_archived_and_does_not_delay_others() {
    let (broker, producer) = broker();
    let faulty = Faulty::new(&broker);
    faulty.faults.largest_result.store(1_000, SeqCst);
    let sizes = (0..200).map(|n| if n % 50 == 3 { 2_000 } else { 10 });
    let tasks = producer
        .enqueue_many(sizes.map(|bytes| Export { bytes }))
        .await;
    let server = Server::builder(faulty)
        .concurrency(16)
        .process(export)
        .start()
        .await
        .unwrap();
    for (n, task) in tasks.iter().map(|task| task.as_ref().unwrap()).enumerate() {
        if n % 50 == 3 {
            let failure = failure_of(task).await;
            assert_eq!(failure.kind, FailureKind::Error);
            assert_eq!(
                failure.message,
                "the broker refused its outcome: unexpected response from the broker: invalid bulk length"
            );
        } else {
            assert_eq!(output_of(task).await, "x".repeat(10));
        }
    }
    server.shutdown().await.unwrap();
    counts_become(
        &broker,
        &[(TaskState::Completed, 196), (TaskState::Archived, 4)],
    )
    .await;
}
