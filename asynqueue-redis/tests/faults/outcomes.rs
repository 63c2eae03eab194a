//! An outcome that Redis refuses.

use std::time::Duration;

use asynqueue_core::{
    broker::Inspect,
    codec::MessagePack,
    process::{Context, Payload, TaskError},
    producer::{Producer, ResultError},
    server::Server,
    task::{Task, TaskState},
};
use asynqueue_test_servers::RedisServer;
use serde::{Deserialize, Serialize};

use crate::common::connect;

const KEPT: Duration = Duration::from_secs(3600);

#[derive(Serialize, Deserialize)]
struct Export {
    bytes: usize,
}

impl Task for Export {
    const EVENT: &'static str = "export";
    type Output = String;
    type Codec = MessagePack;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_result_that_redis_refuses_archives_its_task_and_delays_no_other() {
    // The default is 512 MB.
    let redis = RedisServer::with(&["--proto-max-bulk-len", "1048576"]).await;
    let broker = connect(&redis.url()).await;
    let server = Server::builder(broker.clone())
        .process(|task: Payload<Export>, _: Context| async move {
            Ok::<_, TaskError>("x".repeat(task.bytes))
        })
        .start()
        .await
        .unwrap();
    let producer = Producer::new(broker.clone());
    let mut tasks = Vec::new();
    for n in 0..20 {
        let bytes = if n % 8 == 3 { 2_000_000 } else { 10 };
        let task = producer.enqueue(Export { bytes }).retention(KEPT);
        tasks.push((bytes, task.await.unwrap()));
    }
    for (bytes, task) in &tasks {
        match task.result().await {
            Ok(text) => assert_eq!(text.len(), *bytes),
            Err(ResultError::Failed { failure, .. }) => {
                let failure = failure.expect("the reason");
                assert!(
                    failure
                        .message
                        .starts_with("the broker refused its outcome"),
                    "{}",
                    failure.message
                );
                assert_eq!(*bytes, 2_000_000);
            }
            Err(error) => panic!("{error}"),
        }
    }
    server.shutdown().await.unwrap();
    let stats = broker.stats(&["default".into()]).await.unwrap();
    assert_eq!(stats[0].count(TaskState::Archived), 3);
    assert_eq!(stats[0].count(TaskState::Completed), 17);
}
