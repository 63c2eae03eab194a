//! What a task costs where many servers wait for one, each with a connection of its own.

mod common;

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
    time::{Duration, Instant},
};

use asynqueue_core::{
    Context, MessagePack, Payload, Producer, Server, ServerHandle, Task, TaskError,
};
use asynqueue_test_servers::{RedisServer, eventually};
use parking_lot::Mutex;
use redis::{aio::MultiplexedConnection, cmd};
use serde::{Deserialize, Serialize};

use common::connect;

const QUEUE: &str = "work";

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// A task that says when it was enqueued.
#[derive(Serialize, Deserialize)]
struct Timed {
    micros: u64,
}

impl Task for Timed {
    const EVENT: &'static str = "timed";
    type Output = ();
    type Codec = MessagePack;
}

/// How long each task took from being enqueued to being started.
type Waits = Arc<Mutex<Vec<Duration>>>;

async fn fleet(url: &str, servers: usize, waits: &Waits) -> Vec<ServerHandle> {
    let mut fleet = Vec::new();
    for _ in 0..servers {
        let waits = Arc::clone(waits);
        let process = move |task: Payload<Timed>, _: Context| {
            let wait = START.elapsed() - Duration::from_micros(task.micros);
            waits.lock().push(wait);
            async { Ok::<_, TaskError>(()) }
        };
        let server = Server::builder(connect(url).await).queue(QUEUE, 1);
        let server = server.concurrency(4).process(process).start().await;
        fleet.push(server.expect("a server"));
    }
    fleet
}

async fn enqueue(producer: &Producer) {
    let micros = START.elapsed().as_micros() as u64;
    let sent = producer.enqueue(Timed { micros }).queue(QUEUE).await;
    sent.expect("accepted");
}

/// Calls of each command so far, and the processor time of Redis in seconds.
async fn load(admin: &mut MultiplexedConnection) -> (BTreeMap<String, u64>, f64) {
    let info: String = cmd("INFO").arg("all").query_async(admin).await.unwrap();
    let (mut calls, mut cpu) = (BTreeMap::new(), 0.0);
    for line in info.lines() {
        let Some((name, value)) = line.split_once(':') else {
            continue;
        };
        if let Some(command) = name.strip_prefix("cmdstat_") {
            let count = value.split(['=', ',']).nth(1).unwrap();
            calls.insert(command.to_owned(), count.parse().unwrap());
        }
        if name == "used_cpu_user" || name == "used_cpu_sys" {
            cpu += value.trim().parse::<f64>().unwrap();
        }
    }
    (calls, cpu)
}

/// Prints the cost and the wait of a task. Run it as
/// `cargo test -p asynqueue-redis --test fleet -- --ignored --nocapture a_task_that`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement, which wants a machine of its own"]
async fn a_task_that_comes_to_many_idle_servers() {
    const TASKS: u32 = 1_000;
    let servers = std::env::var("SERVERS").map_or(100, |n| n.parse().expect("a number"));
    let redis = RedisServer::start().await;
    let mut admin = redis.connection().await;
    let waits = Waits::default();
    let fleet = fleet(&redis.url(), servers, &waits).await;
    let producer = Producer::new(connect(&redis.url()).await);
    for _ in 0..50 {
        enqueue(&producer).await;
        tokio::time::sleep(Duration::from_millis(15)).await;
    }
    eventually("warm", || async { waits.lock().len() == 50 }).await;
    tokio::time::sleep(Duration::from_secs(2)).await;

    // What they do without tasks, for as long as the tasks will take.
    let before = load(&mut admin).await;
    tokio::time::sleep(Duration::from_millis(15) * TASKS).await;
    let idle = load(&mut admin).await;
    waits.lock().clear();
    let mut ticks = tokio::time::interval(Duration::from_millis(15));
    for _ in 0..TASKS {
        ticks.tick().await;
        enqueue(&producer).await;
    }
    eventually("done", || async { waits.lock().len() == TASKS as usize }).await;
    let after = load(&mut admin).await;

    let total = |calls: &BTreeMap<String, u64>| calls.values().sum::<u64>() as f64;
    let sent = |calls: &BTreeMap<String, u64>| {
        let of_clients = [
            "evalsha",
            "eval",
            "ping",
            "sadd",
            "subscribe",
            "unsubscribe",
        ];
        of_clients
            .iter()
            .filter_map(|name| calls.get(*name))
            .sum::<u64>() as f64
    };
    let a_task = |now: f64, then: f64| (now - then) / f64::from(TASKS);
    let in_all = |from: &(BTreeMap<String, u64>, f64), to: &(BTreeMap<String, u64>, f64)| {
        (
            a_task(total(&to.0), total(&from.0)),
            a_task(sent(&to.0), sent(&from.0)),
            1e6 * a_task(to.1, from.1),
        )
    };
    let (idle_cost, cost) = (in_all(&before, &idle), in_all(&idle, &after));
    let mut waits = waits.lock().clone();
    waits.sort_unstable();
    println!(
        "{servers} servers: a task takes {:.1} commands ({:.1} without tasks in the same time), {:.2} of them sent by clients ({:.2}), \
        and {:.0} µs of Redis ({:.0}); p50 {:?}, p99 {:?}, at most {:?}",
        cost.0,
        idle_cost.0,
        cost.1,
        idle_cost.1,
        cost.2,
        idle_cost.2,
        waits[waits.len() / 2],
        waits[waits.len() * 99 / 100],
        waits.last().unwrap()
    );
    for server in fleet {
        server.shutdown().await.expect("ended in order");
    }
}
