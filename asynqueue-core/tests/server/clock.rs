//! A clock that steps while tasks run.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use asynqueue_core::{
    broker::{Broker, all_of},
    memory::MemoryBroker,
    process::{Context, Payload, TaskError},
    producer::Producer,
    server::Server,
    task::{Clock, TaskState},
    testing::TestClock,
};
use tokio::sync::Semaphore;

use crate::harness::{AN_HOUR, Job, becomes, info, job, output_of, until};

const LEASE: Duration = Duration::from_millis(300);

/// Two servers run four tasks during `step`, which is followed by several leases of real time.
async fn tasks_run_once_through(step: impl Fn(&TestClock)) {
    let clock = TestClock::default();
    let broker = MemoryBroker::with_clock(clock.clone());
    let producer = Producer::new(broker.clone());
    let (runs, gate) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
    let server = || {
        let (runs, gate) = (Arc::clone(&runs), Arc::clone(&gate));
        Server::builder(broker.clone())
            .concurrency(4)
            .lease(LEASE)
            .process(move |_: Payload<Job>, _: Context| {
                runs.fetch_add(1, SeqCst);
                let gate = Arc::clone(&gate);
                async move {
                    let _passed = gate.acquire().await.expect("open");
                    Ok::<_, TaskError>(())
                }
            })
            .start()
    };
    let servers = [server().await.unwrap(), server().await.unwrap()];
    let mut tasks = Vec::new();
    for n in 0..4 {
        tasks.push(producer.enqueue(job(n)).await.unwrap());
    }
    let later = producer.enqueue(job(9)).delay(AN_HOUR * 2).await.unwrap();
    until("all run", async || runs.load(SeqCst) == 4).await;
    step(&clock);
    let start = Instant::now();
    until("several leases have passed", async || {
        start.elapsed() > LEASE * 4
    })
    .await;
    assert_eq!(info(&later).await.state, TaskState::Scheduled, "not early");
    gate.add_permits(1);
    for task in &tasks {
        output_of(task).await;
        assert_eq!(info(task).await.envelope.attempts, 0);
    }
    assert_eq!(runs.load(SeqCst), 4);
    for server in servers {
        assert_eq!((server.stats().reclaimed, server.stats().stale), (0, 0));
        server.shutdown().await.unwrap();
    }
}

#[tokio::test]
async fn setting_the_clock_an_hour_ahead_starts_no_task_twice() {
    tasks_run_once_through(|clock| clock.set(clock.now() + AN_HOUR)).await;
}

#[tokio::test]
async fn setting_the_clock_an_hour_back_starts_no_task_twice() {
    tasks_run_once_through(|clock| clock.set(clock.now() - AN_HOUR)).await;
}

#[tokio::test]
async fn pausing_the_process_for_an_hour_starts_no_task_twice() {
    tasks_run_once_through(|clock| clock.advance(AN_HOUR)).await;
}

#[tokio::test]
async fn a_worker_lost_while_the_clock_is_behind_is_still_found() {
    let clock = TestClock::default();
    let broker = MemoryBroker::with_clock(clock.clone());
    let producer = Producer::new(broker.clone());
    let task = producer.enqueue(job(1)).await.unwrap();
    let request = asynqueue_core::broker::LeaseRequest::new(
        vec![("default".into(), 1)],
        1,
        LEASE,
        "dead".into(),
    );
    assert_eq!(
        all_of(broker.lease(&request).await).unwrap().concat().len(),
        1
    );
    becomes(&task, TaskState::Active).await;
    clock.set(clock.now() - AN_HOUR);
    clock.advance(LEASE);
    let server = Server::builder(broker.clone())
        .lease(LEASE)
        .process(|_: Payload<Job>, _: Context| async { Ok::<_, TaskError>(()) })
        .start()
        .await
        .unwrap();
    output_of(&task).await;
    assert_eq!(server.stats().reclaimed, 1);
}
