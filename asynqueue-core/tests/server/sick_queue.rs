//! A failing queue beside a healthy one.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use asynqueue_core::{
    broker::{Broker, BrokerError, LeaseRequest, all_of},
    memory::MemoryBroker,
    process::{Context, Payload, TaskError},
    producer::{CallOptions, Producer, TaskHandle},
    server::{Server, ServerBuilder, ServerHandle},
    task::TaskState,
};
use tokio::sync::Semaphore;

use crate::{
    faulty::{Faulty, Sickness},
    harness::{Job, becomes, broker, counts_become, job, lines, output_of, soon, until, with},
};

const LEASE: Duration = Duration::from_millis(600);

fn protocol() -> Sickness {
    Sickness::Error(BrokerError::protocol("WRONGTYPE"))
}

fn away() -> Sickness {
    Sickness::Error(BrokerError::unavailable("its shard is away"))
}

/// A server of both queues.
fn server(broker: &Faulty) -> ServerBuilder {
    Server::builder(broker.clone())
        .queue("sick", 1)
        .queue("good", 1)
        .concurrency(4)
        .lease(LEASE)
        .poll_interval(Duration::from_millis(20))
}

async fn start(broker: &Faulty) -> ServerHandle {
    let process = |_: Payload<Job>, _: Context| async { Ok::<_, TaskError>(()) };
    server(broker).process(process).start().await.unwrap()
}

async fn send(producer: &Producer, queue: &'static str) -> TaskHandle<Job> {
    producer.enqueue(job(1)).queue(queue).await.unwrap()
}

/// A task of the queue, leased by a worker that has died.
async fn lost(broker: &MemoryBroker, producer: &Producer, queue: &'static str) -> TaskHandle<Job> {
    let task = send(producer, queue).await;
    let request = LeaseRequest::new(
        vec![(queue.into(), 1)],
        1,
        Duration::from_millis(1),
        "gone".into(),
    );
    assert_eq!(
        all_of(broker.lease(&request).await).unwrap().concat().len(),
        1
    );
    task
}

/// Pending, delayed and lost tasks of one queue run while another fails, and those of the failing one after it
/// recovers.
async fn the_good_queue_is_served(how: Sickness, partitioned: bool) {
    let (broker, producer) = broker();
    let faulty = Faulty::new(&broker);
    faulty.faults.partitioned.store(partitioned, SeqCst);
    faulty.fall_sick("sick", how);
    let of_sick = send(&producer, "sick").await;
    let lost_sick = lost(&broker, &producer, "sick").await;
    let lost_good = lost(&broker, &producer, "good").await;
    let server = start(&faulty).await;
    for _ in 0..20 {
        output_of(&send(&producer, "good").await).await;
        let delayed = producer.enqueue(job(2)).queue("good");
        let delayed = delayed.delay(Duration::from_millis(5)).await.unwrap();
        output_of(&delayed).await;
    }
    output_of(&lost_good).await;
    for task in [&of_sick, &lost_sick] {
        let state = task.status().await.unwrap().state();
        assert!(state != Some(TaskState::Completed), "{state:?}");
    }
    faulty.recover();
    if partitioned {
        // Calls that never returned still do not.
        return;
    }
    output_of(&of_sick).await;
    output_of(&lost_sick).await;
    assert_eq!(server.stats().stale, 0);
    soon("the server ends", server.shutdown()).await.unwrap();
}

#[tokio::test]
async fn a_queue_that_fails_every_call_does_not_delay_others() {
    the_good_queue_is_served(protocol(), false).await;
}

#[tokio::test]
async fn an_unreachable_queue_does_not_delay_others() {
    the_good_queue_is_served(away(), false).await;
}

#[tokio::test]
async fn a_queue_that_never_responds_does_not_delay_others_on_a_partitioned_broker() {
    the_good_queue_is_served(Sickness::Silence, true).await;
}

/// The lease of each waiting outcome is extended all the time, and each is counted once.
#[tokio::test]
async fn outcomes_of_a_queue_that_records_none_wait_separately_and_are_recorded_once() {
    let (broker, producer) = broker();
    let faulty = Faulty::new(&broker);
    let (runs, gate) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
    let (run, pass) = (Arc::clone(&runs), Arc::clone(&gate));
    let process = move |_: Payload<Job>, ctx: Context| {
        let (run, pass) = (Arc::clone(&run), Arc::clone(&pass));
        async move {
            if *ctx.queue() == "sick" {
                run.fetch_add(1, SeqCst);
                pass.acquire().await.expect("open").forget();
            }
            Ok::<_, TaskError>(())
        }
    };
    let server = server(&faulty).process(process).start().await.unwrap();
    let tasks = [send(&producer, "sick").await, send(&producer, "sick").await];
    until("both run", async || runs.load(SeqCst) == 2).await;
    let error = BrokerError::unavailable("read only");
    faulty.fall_sick("sick", Sickness::Outcomes(error));
    let later = send(&producer, "sick").await;
    gate.add_permits(1_000);
    // The healthy one is served for longer than a lease.
    let start = std::time::Instant::now();
    while start.elapsed() < LEASE * 2 {
        output_of(&send(&producer, "good").await).await;
    }
    assert!(
        runs.load(SeqCst) <= 3,
        "a queue that accepts no outcomes is emptied"
    );
    faulty.recover();
    for task in tasks.iter().chain([&later]) {
        becomes(task, TaskState::Completed).await;
    }
    assert_eq!(runs.load(SeqCst), 3, "each ran once");
    let stats = server.stats();
    assert_eq!((stats.stale, stats.reclaimed), (0, 0));
    soon("the server ends", server.shutdown()).await.unwrap();
}

/// However many outcomes wait, they do not count for the other queues.
#[tokio::test]
async fn outcomes_that_wait_for_one_queue_do_not_stop_leasing_from_others() {
    const MANY: u64 = 6_000;
    let (broker, producer) = broker();
    let faulty = Faulty::new(&broker);
    let error = BrokerError::unavailable("read only");
    let gate = Arc::new(Semaphore::new(0));
    let pass = Arc::clone(&gate);
    let process = move |_: Payload<Job>, ctx: Context| {
        let pass = Arc::clone(&pass);
        async move {
            if *ctx.queue() == "sick" {
                pass.acquire().await.expect("open").forget();
            }
            Ok::<_, TaskError>(())
        }
    };
    let server = server(&faulty)
        .concurrency(MANY as usize)
        .lease(Duration::from_secs(60));
    let server = server.process(process).start().await.unwrap();
    let tasks = (0..MANY).map(job);
    let in_sick = |_: &Job, call: CallOptions| call.queue("sick");
    producer.enqueue_many_with(tasks, in_sick).await;
    until("all run", async || server.stats().running == MANY as usize).await;
    faulty.fall_sick("sick", Sickness::Outcomes(error));
    gate.add_permits(MANY as usize);
    until("all have finished", async || {
        server.stats().finished == MANY
    })
    .await;
    output_of(&send(&producer, "good").await).await;
    output_of(&send(&producer, "good").await).await;
    faulty.recover();
    counts_become(&broker, &[(TaskState::Completed, MANY + 2)]).await;
    assert_eq!(server.stats().stale, 0);
}

#[tokio::test]
async fn a_queue_that_fails_and_recovers_is_logged_by_name() {
    let (lines, _log) = lines();
    let (broker, _) = broker();
    let faulty = Faulty::new(&broker);
    faulty.fall_sick("sick", away());
    let server = start(&faulty).await;
    until("it is logged", async || {
        let failing = with(&lines, "queue `sick`: the broker is not responding");
        ["lease", "forward due tasks", "reclaim lost tasks"]
            .iter()
            .all(|doing| {
                let doing = format!("doing=\"{doing}\"");
                failing.iter().filter(|line| line.contains(&doing)).count() == 1
            })
    })
    .await;
    faulty.recover();
    until("its recovery is logged", async || {
        !with(&lines, "queue `sick`: the broker is responding again").is_empty()
    })
    .await;
    assert!(with(&lines, "queue `good`").is_empty());
    soon("the server ends", server.shutdown()).await.unwrap();
}
