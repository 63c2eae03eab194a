//! Several queues: weights, priority and limits.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use asynqueue_core::{
    memory::MemoryBroker,
    process::{Context, Payload, TaskError},
    producer::Producer,
    server::Server,
    task::TaskState,
};
use tokio::sync::Semaphore;

use crate::harness::{AN_HOUR, Job, broker, counts, counts_become, job, output_of, soon, until};

async fn fill(producer: &Producer, queue: &'static str, n: u64) {
    let jobs = (0..n).map(job);
    for result in producer
        .enqueue_many_with(jobs, |_, call| call.queue(queue))
        .await
    {
        result.expect("accepted");
    }
}

/// The queues of the tasks that ran, in order.
type Order = Arc<Mutex<Vec<String>>>;

/// A handler that records each task's queue.
fn noting(
    order: &Order,
) -> impl Fn(Payload<Job>, Context) -> std::future::Ready<Result<(), TaskError>> + Send + Sync + use<>
{
    let order = Arc::clone(order);
    move |_, ctx| {
        order.lock().unwrap().push(ctx.queue().to_string());
        std::future::ready(Ok(()))
    }
}

#[tokio::test]
async fn full_queues_share_the_slots_by_weight_and_none_starves() {
    let (broker, producer) = broker();
    for queue in ["high", "middle", "low"] {
        fill(&producer, queue, 1_000).await;
    }
    let order = Order::default();
    let server = Server::builder(broker.clone())
        .queue("high", 6)
        .queue("middle", 3)
        .queue("low", 1)
        .concurrency(10)
        .process(noting(&order))
        .start()
        .await
        .unwrap();
    until("1,000 ran", async || order.lock().unwrap().len() >= 1_000).await;
    let first: Vec<_> = order.lock().unwrap()[..1_000].to_vec();
    let mut shares = HashMap::new();
    for queue in &first {
        *shares.entry(queue.as_str()).or_insert(0) += 1;
    }
    // Ten turns more or less at the edges of the leased batches.
    for (queue, expected) in [("high", 600_i32), ("middle", 300), ("low", 100)] {
        assert!(
            (shares[queue] - expected).abs() <= 60,
            "{queue}: {shares:?}"
        );
    }
    let longest_wait = first
        .split(|queue| queue == "low")
        .map(<[_]>::len)
        .max()
        .unwrap();
    assert!(longest_wait < 400, "`low` waited for {longest_wait} others");
    counts_become(&broker, &[(TaskState::Completed, 3_000)]).await;
    server.shutdown().await.unwrap();
}

#[tokio::test]
async fn strict_priority_leases_from_the_high_queue_first() {
    let (broker, producer) = broker();
    fill(&producer, "low", 100).await;
    fill(&producer, "high", 300).await;
    let order = Order::default();
    let _server = Server::builder(broker.clone())
        .queue("low", 1)
        .queue("high", 9)
        .strict_priority()
        .concurrency(4)
        .process(noting(&order))
        .start()
        .await
        .unwrap();
    counts_become(&broker, &[(TaskState::Completed, 400)]).await;
    let order = order.lock().unwrap();
    let first_low = order.iter().position(|queue| queue == "low").unwrap();
    assert_eq!(
        first_low, 300,
        "all of `high` ran before the first of `low`"
    );
}

/// Counts concurrent handlers, by queue and in total.
#[derive(Default)]
struct Gauge {
    now: AtomicUsize,
    most: AtomicUsize,
}

impl Gauge {
    fn enter(&self) {
        let now = self.now.fetch_add(1, SeqCst) + 1;
        self.most.fetch_max(now, SeqCst);
    }

    fn leave(&self) {
        self.now.fetch_sub(1, SeqCst);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_limit_of_a_queue_is_never_exceeded_while_others_continue() {
    let (broker, producer) = broker();
    let (limited, all) = (Arc::new(Gauge::default()), Arc::new(Gauge::default()));
    let (limited_now, all_now) = (Arc::clone(&limited), Arc::clone(&all));
    fill(&producer, "limited", 100).await;
    fill(&producer, "free", 300).await;
    let _server = Server::builder(broker.clone())
        .queue("limited", 1)
        .queue("free", 1)
        .queue_concurrency("limited", 2)
        .concurrency(8)
        .poll_interval(AN_HOUR)
        .process(move |_: Payload<Job>, ctx: Context| {
            let limited = (*ctx.queue() == "limited").then(|| Arc::clone(&limited_now));
            let all = Arc::clone(&all_now);
            async move {
                all.enter();
                limited.iter().for_each(|gauge| gauge.enter());
                for _ in 0..10 {
                    tokio::task::yield_now().await;
                }
                limited.iter().for_each(|gauge| gauge.leave());
                all.leave();
                Ok::<_, TaskError>(())
            }
        })
        .start()
        .await
        .unwrap();
    counts_become(&broker, &[(TaskState::Completed, 400)]).await;
    let (limited, all) = (limited.most.load(SeqCst), all.most.load(SeqCst));
    assert!((1..=2).contains(&limited), "{limited} at once");
    assert!((3..=8).contains(&all), "{all} at once");
}

#[tokio::test]
async fn a_full_limited_queue_leaves_the_other_slots_to_the_others() {
    let (broker, producer) = broker();
    let gate = Arc::new(Semaphore::new(0));
    let pass = Arc::clone(&gate);
    fill(&producer, "limited", 5).await;
    let server = Server::builder(broker.clone())
        .queue("limited", 9)
        .queue("free", 1)
        .queue_concurrency("limited", 1)
        .concurrency(2)
        .poll_interval(AN_HOUR)
        .process(move |_: Payload<Job>, ctx: Context| {
            let gate = (*ctx.queue() == "limited").then(|| Arc::clone(&gate));
            async move {
                if let Some(gate) = gate {
                    gate.acquire().await.expect("open").forget();
                }
                Ok::<_, TaskError>(())
            }
        })
        .start()
        .await
        .unwrap();
    until("the limited queue is full", async || {
        server.stats().running == 1
    })
    .await;
    for n in 0..20 {
        let task = producer.enqueue(job(n)).queue("free").await.unwrap();
        output_of(&task).await;
    }
    assert_eq!(
        counts(&broker).await,
        [
            (TaskState::Pending, 4),
            (TaskState::Active, 1),
            (TaskState::Completed, 20)
        ]
    );
    pass.add_permits(5);
    counts_become(&broker, &[(TaskState::Completed, 25)]).await;
}

async fn at_most(concurrency: usize, tasks: u64) {
    let (broker, producer): (MemoryBroker, _) = broker();
    let gauge = Arc::new(Gauge::default());
    let entered = Arc::clone(&gauge);
    fill(&producer, "default", tasks).await;
    let server = Server::builder(broker.clone())
        .concurrency(concurrency)
        .process(move |_: Payload<Job>, _: Context| {
            let gauge = Arc::clone(&entered);
            async move {
                gauge.enter();
                tokio::task::yield_now().await;
                gauge.leave();
                Ok::<_, TaskError>(())
            }
        })
        .start()
        .await
        .unwrap();
    counts_become(&broker, &[(TaskState::Completed, tasks)]).await;
    assert_eq!(server.stats().slots, concurrency);
    let most = gauge.most.load(SeqCst);
    assert!(most <= concurrency, "{most} ran concurrently");
    soon("the server ends", server.shutdown()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_tasks_run_concurrently_than_the_concurrency() {
    at_most(1, 200).await;
    at_most(7, 700).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_server_never_opens_more_slots_than_its_concurrency() {
    let (broker, _) = broker();
    for _ in 0..300 {
        let server = Server::builder(broker.clone())
            .concurrency(64)
            .process(noting(&Order::default()))
            .start()
            .await
            .unwrap();
        until("all slots are open", async || server.stats().slots >= 64).await;
        assert_eq!(server.stats().slots, 64);
    }
}

#[tokio::test]
async fn within_a_queue_the_higher_priority_runs_first_and_equal_ones_in_order() {
    let (broker, producer) = broker();
    for (n, priority) in [(1, 0), (2, 5), (3, 9), (4, 5), (5, 0)] {
        let task = producer.enqueue(job(n)).priority(priority);
        task.await.unwrap();
    }
    let order = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&order);
    let _server = Server::builder(broker.clone())
        .concurrency(1)
        .process(move |task: Payload<Job>, _: Context| {
            noted.lock().unwrap().push(task.n);
            async { Ok::<_, TaskError>(()) }
        })
        .start()
        .await
        .unwrap();
    counts_become(&broker, &[(TaskState::Completed, 5)]).await;
    assert_eq!(*order.lock().unwrap(), [3, 2, 4, 1, 5]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limited_queue_continues_while_a_task_of_another_takes_long() {
    let (broker, producer) = broker();
    producer.enqueue(job(0)).queue("long").await.unwrap();
    fill(&producer, "limited", 50_000).await;
    let _server = Server::builder(broker.clone())
        .queue("limited", 1)
        .queue("long", 1)
        .queue_concurrency("limited", 1)
        .concurrency(4)
        .poll_interval(AN_HOUR)
        .process(|_: Payload<Job>, ctx: Context| async move {
            if *ctx.queue() == "long" {
                std::future::pending::<()>().await;
            }
            Ok::<_, TaskError>(())
        })
        .start()
        .await
        .unwrap();
    let states = [(TaskState::Active, 1), (TaskState::Completed, 50_000)];
    counts_become(&broker, &states).await;
}
