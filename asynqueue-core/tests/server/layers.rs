//! Layers of tower and others around handlers.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use asynqueue_core::{
    layer::{Next, TaskRequest, middleware_fn},
    process::{Context, Payload, TaskError, TaskErrorKind},
    registry::ProcessWrapper,
    server::Server,
    task::TaskState,
};
use tower::{
    ServiceBuilder, limit::ConcurrencyLimitLayer, load_shed::LoadShedLayer, timeout::TimeoutLayer,
};

use crate::harness::{
    AN_HOUR, Job, broker, counts_become, enqueue_jobs, failure_of, info, job, output_of,
};

#[tokio::test]
async fn the_timeout_layer_of_tower_fails_the_attempt() {
    let (broker, producer) = broker();
    let process = ProcessWrapper::new(|task: Payload<Job>, _: Context| async move {
        if task.n == 1 {
            std::future::pending::<()>().await;
        }
        Ok::<_, TaskError>(())
    })
    .layer(TimeoutLayer::new(Duration::from_millis(10)));
    let _server = Server::builder(broker.clone())
        .process(process)
        .start()
        .await
        .unwrap();
    let slow = producer.enqueue(job(1)).max_retry(0).await.unwrap();
    assert_eq!(failure_of(&slow).await.message, "request timed out");
    output_of(&producer.enqueue(job(2)).await.unwrap()).await;
}

#[tokio::test]
async fn a_task_error_keeps_its_kind_through_tower_layers() {
    let (broker, producer) = broker();
    let _server = Server::builder(broker.clone())
        .process(|_: Payload<Job>, _: Context| async { Err::<(), _>(TaskError::skip_retry("no")) })
        .layer(TimeoutLayer::new(AN_HOUR))
        .start()
        .await
        .unwrap();
    let task = producer.enqueue(job(1)).await.unwrap();
    assert_eq!(failure_of(&task).await.message, "no");
    assert_eq!(info(&task).await.envelope.attempts, 1);
}

#[tokio::test]
async fn a_server_accepts_a_stack_of_tower_layers() {
    let (broker, producer) = broker();
    let stack = ServiceBuilder::new()
        .layer(TimeoutLayer::new(AN_HOUR))
        .layer(LoadShedLayer::new())
        .layer(ConcurrencyLimitLayer::new(2))
        .into_inner();
    let _server = Server::builder(broker.clone())
        .concurrency(8)
        .process(|_: Payload<Job>, _: Context| async {
            tokio::task::yield_now().await;
            Ok::<_, TaskError>(())
        })
        .layer(stack)
        .start()
        .await
        .unwrap();
    // Attempts beyond two concurrent ones are shed, and retried.
    enqueue_jobs(&producer, 50).await;
    counts_become(&broker, &[(TaskState::Completed, 50)]).await;
}

#[tokio::test]
async fn layers_are_called_in_the_documented_order() {
    let (broker, producer) = broker();
    let order = Arc::new(Mutex::new(Vec::new()));
    let noting = |name: &'static str| {
        let order = Arc::clone(&order);
        middleware_fn(move |request: TaskRequest, next: Next| {
            order.lock().unwrap().push(name);
            next.run(request)
        })
    };
    let noted = Arc::clone(&order);
    let process = ProcessWrapper::new(move |_: Payload<Job>, _: Context| {
        noted.lock().unwrap().push("process");
        async { Ok::<_, TaskError>(()) }
    })
    .layer(noting("process's first"))
    .layer(noting("process's last"));
    let _server = Server::builder(broker)
        .process(process)
        .layer(noting("server's first"))
        .layer(noting("server's last"))
        .start()
        .await
        .unwrap();
    output_of(&producer.enqueue(job(1)).await.unwrap()).await;
    assert_eq!(
        *order.lock().unwrap(),
        [
            "server's first",
            "server's last",
            "process's last",
            "process's first",
            "process"
        ]
    );
}

#[tokio::test]
async fn a_middleware_can_return_without_calling_the_handler() {
    let (broker, producer) = broker();
    let _server = Server::builder(broker)
        .process(|_: Payload<Job>, _: Context| async { Err::<(), _>(TaskError::retry("no")) })
        .layer(middleware_fn(|request, next: Next| async move {
            match next.run(request).await {
                Err(error) if error.kind() == TaskErrorKind::Retry => {
                    Err(TaskError::skip_retry("given up"))
                }
                other => other,
            }
        }))
        .start()
        .await
        .unwrap();
    let task = producer.enqueue(job(1)).await.unwrap();
    assert_eq!(failure_of(&task).await.message, "given up");
}
