//! A broker that is unreachable for a while.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use asynqueue_core::{
    broker::{BrokerError, Control},
    process::{Context, Payload, TaskError},
    producer::{EnqueueError, Producer},
    server::{Server, ServerError},
    task::TaskState,
};
use tokio::sync::Semaphore;

use crate::{
    faulty::{Faulty, shut},
    harness::{
        Job, broker, counts, counts_become, enqueue_jobs, info, job, output_of, soon, until,
    },
};

#[tokio::test]
async fn a_server_survives_an_outage_and_records_what_ended_during_it() {
    let (broker, producer) = broker();
    let faulty = Faulty::new(&broker);
    let gate = Arc::new(Semaphore::new(0));
    let pass = Arc::clone(&gate);
    let server = Server::builder(faulty.clone())
        .poll_interval(Duration::from_millis(20))
        .process(move |_: Payload<Job>, _: Context| {
            let gate = Arc::clone(&gate);
            async move {
                gate.acquire().await.expect("open").forget();
                Ok::<_, TaskError>(())
            }
        })
        .start()
        .await
        .unwrap();
    let handles = enqueue_jobs(&producer, 3).await;
    until("all run", async || server.stats().running == 3).await;
    faulty.faults.unavailable.store(true, SeqCst);
    pass.add_permits(1_000);
    until("all have ended", async || server.stats().finished == 3).await;
    assert!(server.health().await.is_err());
    assert_eq!(counts(&broker).await, [(TaskState::Active, 3)]);
    let refused = Producer::new(faulty.clone()).enqueue(job(9)).await;
    assert!(matches!(
        refused,
        Err(EnqueueError::Broker(BrokerError::Unavailable(_)))
    ));

    faulty.faults.unavailable.store(false, SeqCst);
    counts_become(&broker, &[(TaskState::Completed, 3)]).await;
    for handle in &handles {
        assert_eq!(info(handle).await.envelope.attempts, 0);
    }
    output_of(&producer.enqueue(job(4)).await.unwrap()).await;
    assert_eq!(server.stats().stale, 0);
}

#[tokio::test]
async fn a_server_does_not_start_on_a_broker_that_does_not_respond() {
    let (broker, _) = broker();
    let faulty = Faulty::new(&broker);
    faulty.faults.unavailable.store(true, SeqCst);
    let started = Server::builder(faulty)
        .process(|_: Payload<Job>, _: Context| async { Ok::<_, TaskError>(()) })
        .start()
        .await;
    assert!(matches!(
        started,
        Err(ServerError::Broker(BrokerError::Unavailable(_)))
    ));
}

#[tokio::test]
async fn a_broker_that_records_nothing_is_not_emptied() {
    let (broker, producer) = broker();
    let faulty = Faulty::new(&broker);
    faulty.faults.settle_fails.store(true, SeqCst);
    let runs = Arc::new(AtomicUsize::new(0));
    let run = Arc::clone(&runs);
    let server = Server::builder(faulty.clone())
        .concurrency(4)
        .poll_interval(Duration::from_millis(5))
        .process(move |_: Payload<Job>, _: Context| {
            run.fetch_add(1, SeqCst);
            async { Ok::<_, TaskError>(()) }
        })
        .start()
        .await
        .unwrap();
    enqueue_jobs(&producer, 20_000).await;
    until("it waits or has run them all", async || {
        let before = (runs.load(SeqCst), faulty.faults.leases.load(SeqCst));
        tokio::time::sleep(Duration::from_millis(300)).await;
        before == (runs.load(SeqCst), faulty.faults.leases.load(SeqCst)) || before.0 == 20_000
    })
    .await;
    assert!(
        runs.load(SeqCst) < 10_000,
        "{} ran unrecorded",
        runs.load(SeqCst)
    );
    faulty.faults.settle_fails.store(false, SeqCst);
    counts_become(&broker, &[(TaskState::Completed, 20_000)]).await;
    assert_eq!(runs.load(SeqCst), 20_000);
    soon("the server ends", server.shutdown()).await.unwrap();
}

#[tokio::test]
async fn the_health_check_reports_the_outage_and_the_recovery() {
    let (broker, _) = broker();
    let faulty = Faulty::new(&broker);
    let (well, ill) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let (is_well, is_ill) = (Arc::clone(&well), Arc::clone(&ill));
    let _server = Server::builder(faulty.clone())
        .process(|_: Payload<Job>, _: Context| async { Ok::<_, TaskError>(()) })
        .health_check(Duration::from_millis(5), move |answer| match answer {
            Ok(()) => is_well.add_permits(1),
            Err(_) => is_ill.add_permits(1),
        })
        .start()
        .await
        .unwrap();
    let reported = async |semaphore: &Semaphore| {
        soon("the check is called", semaphore.acquire())
            .await
            .unwrap()
            .forget();
    };
    reported(&well).await;
    faulty.faults.unavailable.store(true, SeqCst);
    reported(&ill).await;
    faulty.faults.unavailable.store(false, SeqCst);
    well.forget_permits(Semaphore::MAX_PERMITS);
    reported(&well).await;
}

#[tokio::test]
async fn a_server_survives_signals_that_end_while_it_leases() {
    let (broker, _) = broker();
    let faulty = Faulty::new(&broker);
    shut(&faulty.faults.lease_answers);
    let mut server = Server::builder(faulty.clone())
        .process(|_: Payload<Job>, _: Context| async { Ok::<_, TaskError>(()) })
        .start()
        .await
        .unwrap();
    until("it leases", async || faulty.faults.leases.load(SeqCst) == 1).await;
    broker.close().await;
    faulty.faults.lease_answers.add_permits(1_000);
    let ended = soon("the server ends", server.ended()).await;
    assert!(matches!(
        ended,
        Err(ServerError::Broker(BrokerError::Closed))
    ));
}
