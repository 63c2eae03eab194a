//! Tasks held by one server that another could run.

use std::sync::Arc;

use asynqueue_core::{
    broker::{Fleet, ServerInfo},
    inspector::Inspector,
    memory::MemoryBroker,
    process::{Context, Payload, TaskError},
    producer::Producer,
    server::{Server, ServerHandle},
    task::TaskState,
};
use tokio::sync::Semaphore;

use crate::harness::{Job, broker, counts, job, output_of, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_releases_what_it_cannot_start_soon_so_that_an_idle_one_runs_it() {
    let (broker, producer) = broker();
    let gate = Arc::new(Semaphore::new(0));
    let server = |concurrency| {
        let gate = Arc::clone(&gate);
        Server::builder(broker.clone())
            .concurrency(concurrency)
            .process(move |task: Payload<Job>, _: Context| {
                let gate = Arc::clone(&gate);
                async move {
                    if task.n == 1 {
                        let _passed = gate.acquire().await.expect("open");
                    }
                    Ok::<_, TaskError>(())
                }
            })
            .start()
    };
    // After quick tasks it leases ahead, and then long ones come.
    let busy = server(4).await.unwrap();
    let many = |producer: Producer, n, count: usize| async move {
        let tasks = producer.enqueue_many((0..count).map(|_| job(n))).await;
        assert!(tasks.iter().all(Result::is_ok));
    };
    many(producer.clone(), 0, 20_000).await;
    many(producer.clone(), 1, 200).await;
    until("it has reached the long ones", async || {
        busy.stats().running == 4
    })
    .await;
    let idle = server(200).await.unwrap();
    until("the idle one runs the others", async || {
        idle.stats().running == 196 && busy.stats().running == 4
    })
    .await;
    gate.add_permits(200);
    until("all are done", async || {
        counts(&broker).await == [(TaskState::Completed, 20_200)]
    })
    .await;
    output_of(&producer.enqueue(job(0)).await.unwrap()).await;
}

#[tokio::test]
async fn a_quiet_server_finishes_what_runs_and_leases_nothing_until_it_resumes() {
    let (broker, producer) = broker();
    let gate = Arc::new(Semaphore::new(0));
    let pass = Arc::clone(&gate);
    let server = Server::builder(broker.clone())
        .concurrency(1)
        .process(move |_: Payload<Job>, _: Context| {
            let gate = Arc::clone(&pass);
            async move {
                gate.acquire().await.expect("open").forget();
                Ok::<_, TaskError>(())
            }
        })
        .start()
        .await
        .unwrap();
    let first = producer.enqueue(job(1)).await.unwrap();
    until("it runs", async || server.stats().running == 1).await;
    server.set_quiet(true);
    let second = producer.enqueue(job(2)).await.unwrap();
    gate.add_permits(2);
    output_of(&first).await;
    // A server that leases shows that this one does not.
    assert_eq!(
        counts(&broker).await,
        [(TaskState::Pending, 1), (TaskState::Completed, 1)]
    );
    assert!(server.is_quiet());
    server.set_quiet(false);
    output_of(&second).await;
    server.shutdown().await.unwrap();
}

async fn start(broker: &MemoryBroker) -> ServerHandle {
    let server = Server::builder(broker.clone()).name("worker-1");
    let server = server.process(async |_: Payload<Job>, _: Context| Ok::<_, TaskError>(()));
    server.start().await.unwrap()
}

async fn info(broker: &MemoryBroker) -> Option<ServerInfo> {
    broker.servers().await.unwrap().pop()
}

#[tokio::test]
async fn a_server_is_made_quiet_and_resumed_remotely_and_reports_it() {
    let (broker, producer) = broker();
    let inspector = Inspector::new(broker.clone());
    let server = start(&broker).await;
    let name = server.name().clone();
    until("it is known", async || info(&broker).await.is_some()).await;
    let says = async |quiet| info(&broker).await.unwrap().quiet == quiet;
    assert!(says(false).await);
    assert!(inspector.set_server_quiet(&name, true).await.unwrap());
    until("it says so", async || says(true).await).await;
    assert!(server.is_quiet());
    let task = producer.enqueue(job(1)).await.unwrap();
    // A later change in this process wins, although the broker returns the request again.
    server.set_quiet(false);
    until("it says so", async || says(false).await).await;
    output_of(&task).await;
    assert!(!server.is_quiet());
    server.set_quiet(true);
    until("it says so", async || says(true).await).await;
    assert!(inspector.set_server_quiet(&name, false).await.unwrap());
    output_of(&producer.enqueue(job(2)).await.unwrap()).await;
    server.shutdown().await.unwrap();
    assert!(!inspector.set_server_quiet(&name, true).await.unwrap());
}

/// A killed server is remembered for an hour, with the last request to it.
#[tokio::test]
async fn a_server_ignores_requests_made_to_an_earlier_one_of_the_same_name() {
    let (broker, producer) = broker();
    let server = start(&broker).await;
    until("it is known", async || info(&broker).await.is_some()).await;
    let before = info(&broker).await.unwrap();
    server.shutdown().await.unwrap();
    let hour = std::time::Duration::from_secs(3600);
    assert_eq!(broker.beat(before.clone(), hour).await.unwrap(), None);
    assert!(broker.request_quiet(&before.name, true).await.unwrap());
    let request = broker.beat(before.clone(), hour).await.unwrap().unwrap();
    until("the clock has moved", async || {
        asynqueue_core::broker::Broker::now(&broker) > request.at
    })
    .await;
    let server = start(&broker).await;
    until("it is known", async || {
        info(&broker).await.unwrap().started > before.started
    })
    .await;
    output_of(&producer.enqueue(job(1)).await.unwrap()).await;
    assert!(!server.is_quiet());
    server.shutdown().await.unwrap();
}
