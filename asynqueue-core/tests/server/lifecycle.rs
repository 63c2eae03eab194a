//! From enqueue to completion, on one server and on several.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use asynqueue_core::{
    process::{Context, Payload, Process, TaskError},
    registry::ProcessWrapper,
    server::{Server, ServerHandle},
    task::TaskState,
};

use crate::harness::{
    AN_HOUR, Job, Sum, broker, counts_become, enqueue_jobs, job, output_of, soon, until,
};

/// A handler that is a type.
struct Adds;

impl Process<Sum> for Adds {
    async fn handle(&self, task: Payload<Sum>, _: &Context) -> Result<u64, TaskError> {
        Ok(task.of.iter().sum())
    }
}

/// A handler that is a function, with its own error type.
async fn checks(task: Payload<Job>, _: Context) -> Result<(), std::num::TryFromIntError> {
    u8::try_from(task.n).map(drop)
}

#[tokio::test]
async fn types_functions_closures_and_wrappers_are_handlers() {
    let (broker, producer) = broker();
    let by_function = Server::builder(broker.clone()).process(checks);
    let server = by_function.process(Adds).start().await.unwrap();
    output_of(&producer.enqueue(job(1)).await.unwrap()).await;
    let sum = producer.enqueue(Sum { of: vec![1, 2, 3] }).await.unwrap();
    assert_eq!(output_of(&sum).await, 6);
    server.shutdown().await.unwrap();

    let closure = |task: Payload<Sum>, _: Context| async move {
        Ok::<_, TaskError>(task.into_inner().of.len() as u64)
    };
    let wrapper = ProcessWrapper::new(closure);
    assert_eq!(
        (wrapper.event().as_str(), wrapper.queue().as_str()),
        ("sum", "default")
    );
    let _server = Server::builder(broker)
        .process(wrapper)
        .start()
        .await
        .unwrap();
    let sum = producer.enqueue(Sum { of: vec![1, 2, 3] }).await.unwrap();
    assert_eq!(output_of(&sum).await, 3);
}

#[tokio::test]
async fn an_idle_server_is_woken_without_a_poll() {
    let (broker, producer) = broker();
    let _server = Server::builder(broker.clone())
        .poll_interval(AN_HOUR)
        .process(checks)
        .start()
        .await
        .unwrap();
    for n in 0..50 {
        output_of(&producer.enqueue(job(n)).await.unwrap()).await;
    }
    counts_become(&broker, &[(TaskState::Completed, 50)]).await;
}

/// How often each job ran, with servers that record it.
#[derive(Clone, Default)]
struct Runs(Arc<Mutex<HashMap<u64, u32>>>);

impl Runs {
    async fn server(&self, broker: &asynqueue_core::memory::MemoryBroker) -> ServerHandle {
        let runs = Arc::clone(&self.0);
        Server::builder(broker.clone())
            .poll_interval(AN_HOUR)
            .process(move |task: Payload<Job>, _: Context| {
                *runs.lock().unwrap().entry(task.n).or_default() += 1;
                async {
                    tokio::task::yield_now().await;
                    Ok::<_, TaskError>(())
                }
            })
            .start()
            .await
            .unwrap()
    }

    fn assert_each_once(&self, n: usize) {
        let runs = self.0.lock().unwrap();
        assert_eq!(runs.len(), n);
        assert!(runs.values().all(|&times| times == 1));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_servers_on_one_broker_run_each_task_once() {
    let (broker, producer) = broker();
    let runs = Runs::default();
    let mut servers = Vec::new();
    for _ in 0..4 {
        servers.push(runs.server(&broker).await);
    }
    let names: std::collections::HashSet<_> = servers.iter().map(|s| s.name().clone()).collect();
    assert_eq!(names.len(), 4, "each has its own name");
    enqueue_jobs(&producer, 5_000).await;
    counts_become(&broker, &[(TaskState::Completed, 5_000)]).await;
    runs.assert_each_once(5_000);
    let finished: u64 = servers.iter().map(|server| server.stats().finished).sum();
    assert_eq!(finished, 5_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_that_come_and_go_lose_no_task() {
    let (broker, producer) = broker();
    let runs = Runs::default();
    let enqueue = tokio::spawn(async move { enqueue_jobs(&producer, 20_000).await.len() });
    for _ in 0..10 {
        let server = runs.server(&broker).await;
        until("it has done something", async || {
            server.stats().finished > 0 || runs.0.lock().unwrap().len() == 20_000
        })
        .await;
        soon("it ends", server.shutdown()).await.unwrap();
    }
    assert_eq!(enqueue.await.unwrap(), 20_000);
    let _last = runs.server(&broker).await;
    counts_become(&broker, &[(TaskState::Completed, 20_000)]).await;
    runs.assert_each_once(20_000);
}

#[tokio::test]
async fn a_paused_queue_waits_and_continues_immediately_when_resumed() {
    use asynqueue_core::broker::Control;
    let (broker, producer) = broker();
    let queues = ["default".into()];
    broker.set_paused(&queues, true).await.unwrap();
    let runs = Runs::default();
    let _server = runs.server(&broker).await;
    enqueue_jobs(&producer, 3).await;
    counts_become(&broker, &[(TaskState::Pending, 3)]).await;
    broker.set_paused(&queues, false).await.unwrap();
    counts_become(&broker, &[(TaskState::Completed, 3)]).await;
}
