//! Workers that die, and outcomes that come too late.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use asynqueue_core::{
    broker::{Broker, Extended, LeaseRequest, Leased, Outcome, Settled, all_of},
    memory::MemoryBroker,
    process::{Context, Payload, TaskError},
    server::Server,
    task::{FailureKind, TaskState},
};
use tokio::sync::Semaphore;

use crate::{
    faulty::{Faulty, shut},
    harness::{Job, becomes, broker, counts_become, failure_of, info, job, output_of, soon, until},
};

const LEASE: Duration = Duration::from_millis(100);

/// Leases a task as a worker that then dies.
async fn lease_and_die(broker: &MemoryBroker) -> Leased {
    let request = LeaseRequest::new(vec![("default".into(), 1)], 1, LEASE, "dead".into());
    all_of(broker.lease(&request).await)
        .unwrap()
        .concat()
        .remove(0)
}

#[tokio::test]
async fn a_task_of_a_dead_worker_runs_again_within_its_lease_and_five_seconds() {
    let (broker, producer) = broker();
    let task = producer.enqueue(job(1)).await.unwrap();
    let started = Instant::now();
    let zombie = lease_and_die(&broker).await;
    let server = Server::builder(broker.clone())
        .lease(LEASE)
        .process(|_: Payload<Job>, ctx: Context| async move {
            assert_eq!(ctx.attempt(), 2);
            Ok::<_, TaskError>(())
        })
        .start()
        .await
        .unwrap();
    output_of(&task).await;
    // The bound that the documentation promises, not a measure of speed.
    assert!(started.elapsed() < LEASE + Duration::from_secs(5));
    let info = info(&task).await;
    let failure = info.envelope.last_failure().expect("kept");
    assert_eq!(
        (failure.kind, failure.attempt),
        (FailureKind::LeaseExpired, 1)
    );
    assert_eq!(server.stats().reclaimed, 1);

    // The outcome of the lost worker comes late.
    let lease = zombie.lease();
    let late = zombie.settle(Outcome::Archive);
    assert_eq!(
        all_of(broker.settle(&[late]).await).unwrap(),
        [Settled::Stale]
    );
    assert_eq!(
        all_of(broker.extend(&[lease], LEASE).await).unwrap(),
        [Extended::Lost]
    );
    counts_become(&broker, &[(TaskState::Completed, 1)]).await;
}

#[tokio::test]
async fn a_task_does_not_start_if_its_lease_expired_before_the_response_came() {
    let (broker, producer) = broker();
    let faulty = Faulty::new(&broker);
    shut(&faulty.faults.lease_answers);
    let runs = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let run = Arc::clone(&runs);
    let _late = Server::builder(faulty.clone())
        .concurrency(1)
        .lease(LEASE)
        .process(move |job: Payload<Job>, _: Context| {
            run.lock().push(job.n);
            async { Ok::<_, TaskError>(()) }
        })
        .start()
        .await
        .unwrap();
    let first = producer.enqueue(job(1)).await.unwrap();
    becomes(&first, TaskState::Active).await;
    let other = Server::builder(broker)
        .lease(LEASE)
        .process(|_: Payload<Job>, _: Context| async { Ok::<_, TaskError>(()) })
        .start()
        .await
        .unwrap();
    output_of(&first).await;
    soon("the other ends", other.shutdown()).await.unwrap();
    faulty.faults.lease_answers.add_permits(1_000);
    output_of(&producer.enqueue(job(2)).await.unwrap()).await;
    assert_eq!(*runs.lock(), [2]);
}

#[tokio::test]
async fn a_task_that_kills_its_worker_each_time_is_archived_eventually() {
    let (broker, producer) = broker();
    let task = producer.enqueue(job(1)).max_retry(0).await.unwrap();
    lease_and_die(&broker).await;
    let _server = Server::builder(broker.clone())
        .lease(LEASE)
        .process(|_: Payload<Job>, _: Context| async { Ok::<_, TaskError>(()) })
        .start()
        .await
        .unwrap();
    assert_eq!(failure_of(&task).await.kind, FailureKind::LeaseExpired);
    counts_become(&broker, &[(TaskState::Archived, 1)]).await;
}

#[tokio::test]
async fn a_task_of_a_dropped_server_runs_on_another() {
    let (broker, producer) = broker();
    let (started, gone) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
    let (start, count) = (Arc::clone(&started), Arc::clone(&gone));
    /// Counts handlers that are dropped.
    struct Counted(Arc<AtomicUsize>);
    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_add(1, SeqCst);
        }
    }
    let dies =
        Server::builder(broker.clone())
            .lease(LEASE)
            .process(move |_: Payload<Job>, _: Context| {
                let counted = Counted(Arc::clone(&count));
                start.add_permits(1);
                async move {
                    let _counted = counted;
                    std::future::pending::<Result<(), TaskError>>().await
                }
            });
    let running = tokio::spawn(dies.run(std::future::pending()));
    let task = producer.enqueue(job(1)).await.unwrap();
    let _started = soon("it runs", started.acquire()).await.unwrap();
    running.abort();
    until("its handler is dropped too", async || {
        gone.load(SeqCst) == 1
    })
    .await;

    let lives = Server::builder(broker.clone())
        .lease(LEASE)
        .process(|_: Payload<Job>, _: Context| async { Ok::<_, TaskError>(()) })
        .start()
        .await
        .unwrap();
    output_of(&task).await;
    assert_eq!(lives.stats().reclaimed, 1);
    counts_become(&broker, &[(TaskState::Completed, 1)]).await;
}

#[tokio::test]
async fn a_task_longer_than_several_leases_runs_exactly_once() {
    let (broker, producer) = broker();
    let runs = Arc::new(AtomicUsize::new(0));
    let gate = Arc::new(Semaphore::new(0));
    let (run, pass) = (Arc::clone(&runs), Arc::clone(&gate));
    let server = |run: Arc<AtomicUsize>, gate: Arc<Semaphore>| {
        Server::builder(broker.clone())
            .lease(LEASE)
            .process(move |_: Payload<Job>, _: Context| {
                run.fetch_add(1, SeqCst);
                let gate = Arc::clone(&gate);
                async move {
                    gate.acquire().await.expect("open").forget();
                    Ok::<_, TaskError>(())
                }
            })
            .start()
    };
    let first = server(Arc::clone(&run), Arc::clone(&gate)).await.unwrap();
    let task = producer.enqueue(job(1)).await.unwrap();
    let leased = becomes(&task, TaskState::Active).await;
    // Another server that would take it.
    let second = server(run, gate).await.unwrap();
    let first_end = leased.lease.expect("active").until;
    until("five leases have passed", async || {
        broker.now() > first_end + LEASE * 5
    })
    .await;
    pass.add_permits(1);
    output_of(&task).await;
    assert_eq!(runs.load(SeqCst), 1);
    let reclaimed = first.stats().reclaimed + second.stats().reclaimed;
    assert_eq!((reclaimed, info(&task).await.envelope.attempts), (0, 0));
}

#[tokio::test]
async fn a_handler_whose_lease_is_lost_is_cancelled_and_its_outcome_refused() {
    let (broker, producer) = broker();
    let cancelled = Arc::new(Semaphore::new(0));
    let in_handler = Arc::clone(&cancelled);
    let server = Server::builder(broker.clone())
        .lease(Duration::from_secs(3))
        .process(move |_: Payload<Job>, ctx: Context| {
            let cancelled = Arc::clone(&in_handler);
            async move {
                ctx.cancelled().await;
                cancelled.add_permits(1);
                Ok::<_, TaskError>(())
            }
        })
        .start()
        .await
        .unwrap();
    let task = producer.enqueue(job(1)).await.unwrap();
    let leased = becomes(&task, TaskState::Active).await;
    until("it runs", async || server.stats().running == 1).await;
    // Another worker settles it, as if its lease had expired.
    let stolen = asynqueue_core::broker::Settlement {
        leased: leased.envelope.clone(),
        envelope: leased.envelope,
        token: asynqueue_core::broker::LeaseToken(1),
        outcome: Outcome::Archive,
        only_if_expired: false,
    };
    assert_eq!(
        all_of(broker.settle(&[stolen]).await).unwrap(),
        [Settled::Recorded]
    );
    let _stopped = soon("the handler is cancelled", cancelled.acquire())
        .await
        .unwrap();
    until("its outcome is refused", async || server.stats().stale == 1).await;
    counts_become(&broker, &[(TaskState::Archived, 1)]).await;
}
