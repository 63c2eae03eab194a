//! The cost of a task when many servers wait for one, each with a separate connection.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod common;

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
    time::{Duration, Instant},
};

use asynqueue_core::{
    broker::{Broker, Control, Keep, NewTask, Outcome, Signal, Signals, When},
    codec::MessagePack,
    process::{Context, Payload, TaskError},
    producer::Producer,
    server::{Server, ServerHandle},
    task::{Envelope, Task},
};
use asynqueue_redis::RedisBroker;
use asynqueue_test_servers::{Monitor, RedisCluster, RedisServer, Seen, eventually};
use parking_lot::Mutex;
use redis::{aio::MultiplexedConnection, cmd};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use common::{connect, lease, next, send, task};

const QUEUE: &str = "work";

/// A poll must not hide a lost wake-up from these tests.
const NEVER: Duration = Duration::from_secs(3600);

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// A task that carries the time when it was enqueued.
#[derive(Serialize, Deserialize)]
struct Timed {
    micros: u64,
}

impl Task for Timed {
    const EVENT: &'static str = "timed";
    type Output = ();
    type Codec = MessagePack;
}

/// How long each task waited from enqueueing to its start.
type Waits = Arc<Mutex<Vec<Duration>>>;

async fn fleet(url: &str, servers: usize, poll: Duration, waits: &Waits) -> Vec<ServerHandle> {
    let mut fleet = Vec::new();
    for _ in 0..servers {
        let waits = Arc::clone(waits);
        let process = move |task: Payload<Timed>, _: Context| {
            let wait = START.elapsed() - Duration::from_micros(task.micros);
            waits.lock().push(wait);
            async { Ok::<_, TaskError>(()) }
        };
        let server = Server::builder(connect(url).await).queue(QUEUE, 1);
        let server = server.concurrency(4).poll_interval(poll).process(process);
        let server = server.start().await;
        fleet.push(server.expect("a server"));
    }
    fleet
}

async fn enqueue(producer: &Producer) {
    let micros = START.elapsed().as_micros() as u64;
    let sent = producer.enqueue(Timed { micros }).queue(QUEUE).await;
    sent.expect("accepted");
}

/// Calls of each command so far, and the CPU time of Redis in seconds.
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

/// The instances that wait to be woken for a queue, longest waiting first.
async fn idle(admin: &mut MultiplexedConnection, queue: &str) -> Vec<String> {
    let key = format!("aq:{{{queue}}}:idle");
    let mut range = cmd("ZRANGE");
    range.arg(key).arg(0).arg(-1);
    range.query_async(admin).await.expect("a response")
}

async fn all_idle(admin: &MultiplexedConnection, queue: &str, count: usize) {
    let is_so = || async { idle(&mut admin.clone(), queue).await.len() == count };
    eventually("all wait to be woken", is_so).await;
}

/// Makes an instance appear to have waited longest.
async fn seems_oldest(admin: &mut MultiplexedConnection, queue: &str, tag: &str) {
    let mut add = cmd("ZADD");
    add.arg(format!("aq:{{{queue}}}:idle")).arg(0).arg(tag);
    let _: () = add.query_async(admin).await.expect("added");
}

/// How many lease calls were sent.
fn leases(seen: &[Seen]) -> usize {
    let pending = format!("aq:{{{QUEUE}}}:pending");
    let is_lease = |seen: &&Seen| {
        let name = String::from_utf8_lossy(&seen.words[0]).to_lowercase();
        name == "rpop" && seen.words[1] == pending.as_bytes()
    };
    seen.iter().filter(is_lease).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_makes_one_server_lease_however_many_are_idle() {
    let redis = RedisServer::start().await;
    let admin = redis.connection().await;
    let waits = Waits::default();
    let fleet = fleet(&redis.url(), 20, NEVER, &waits).await;
    all_idle(&admin, QUEUE, 20).await;
    let producer = Producer::new(connect(&redis.url()).await);
    for round in 1..=10 {
        let monitor = Monitor::start(&redis).await;
        enqueue(&producer).await;
        eventually("done", || async { waits.lock().len() == round }).await;
        all_idle(&admin, QUEUE, 20).await;
        let seen = monitor.stop().await;
        assert_eq!(leases(&seen), 1, "{seen:?}");
    }
    drop(fleet);
}

/// A server that holds its task until it is released.
async fn holds(broker: RedisBroker, queues: &[&'static str], record: &Held) -> ServerHandle {
    let record = record.clone();
    let process = move |_: Payload<Timed>, ctx: Context| {
        let record = record.clone();
        async move {
            record.started.lock().push(ctx.queue().to_string());
            record.gate.acquire().await.expect("open").forget();
            Ok::<_, TaskError>(())
        }
    };
    let mut server = Server::builder(broker).concurrency(1);
    for queue in queues {
        server = server.queue(*queue, 1);
    }
    let server = server.poll_interval(NEVER).process(process);
    server.start().await.expect("a server")
}

#[derive(Clone)]
struct Held {
    started: Arc<Mutex<Vec<String>>>,
    gate: Arc<Semaphore>,
}

impl Held {
    fn new() -> Self {
        Self {
            started: Arc::default(),
            gate: Arc::new(Semaphore::new(0)),
        }
    }

    async fn started(&self, count: usize) {
        eventually("started", || async { self.started.lock().len() == count }).await;
    }
}

fn timed(id: &str) -> Envelope {
    let mut task = task(QUEUE, id);
    task.event = "timed".into();
    task.payload = rmp_serde::to_vec_named(&Timed { micros: 0 })
        .unwrap()
        .into();
    task
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_wakes_a_server_for_each_of_its_tasks_and_so_does_resuming() {
    let redis = RedisServer::start().await;
    let (mut admin, held) = (redis.connection().await, Held::new());
    let mut fleet = Vec::new();
    for _ in 0..6 {
        fleet.push(holds(connect(&redis.url()).await, &[QUEUE], &held).await);
    }
    all_idle(&admin, QUEUE, 6).await;
    let broker = connect(&redis.url()).await;
    send(&broker, ["a", "b", "c"].map(timed)).await;
    held.started(3).await;
    assert_eq!(idle(&mut admin, QUEUE).await.len(), 3);
    broker.set_paused(&[QUEUE.into()], true).await.unwrap();
    send(&broker, ["d", "e"].map(timed)).await;
    assert_eq!(
        idle(&mut admin, QUEUE).await.len(),
        3,
        "no server is woken without a task"
    );
    broker.set_paused(&[QUEUE.into()], false).await.unwrap();
    held.started(5).await;
    assert_eq!(idle(&mut admin, QUEUE).await.len(), 1);
    held.gate.add_permits(100);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_woken_without_room_wakes_another() {
    let redis = RedisServer::start().await;
    let (mut admin, held) = (redis.connection().await, Held::new());
    let _full = holds(connect(&redis.url()).await, &[QUEUE, "other"], &held).await;
    all_idle(&admin, QUEUE, 1).await;
    all_idle(&admin, "other", 1).await;
    let full = idle(&mut admin, QUEUE).await.remove(0);
    let broker = connect(&redis.url()).await;
    let mut first = timed("first");
    first.queue = "other".into();
    send(&broker, [first]).await;
    held.started(1).await;
    let _free = holds(connect(&redis.url()).await, &[QUEUE], &held).await;
    all_idle(&admin, QUEUE, 2).await;
    seems_oldest(&mut admin, QUEUE, &full).await;
    send(&broker, [timed("second")]).await;
    held.started(2).await;
    held.gate.add_permits(100);
}

#[tokio::test(flavor = "multi_thread")]
async fn ended_instances_are_skipped() {
    let redis = RedisServer::start().await;
    let (mut admin, held) = (redis.connection().await, Held::new());
    let _server = holds(connect(&redis.url()).await, &[QUEUE], &held).await;
    all_idle(&admin, QUEUE, 1).await;
    for tag in ["gone", "gone too"] {
        seems_oldest(&mut admin, QUEUE, tag).await;
    }
    send(&connect(&redis.url()).await, [timed("a")]).await;
    held.started(1).await;
    assert_eq!(idle(&mut admin, QUEUE).await, [""; 0]);
    held.gate.add_permits(100);
}

/// Nobody is woken for a queue without tasks, so nobody would notice that they are gone.
#[tokio::test]
async fn instances_without_a_lease_call_for_an_hour_are_trimmed() {
    let redis = RedisServer::start().await;
    let (mut admin, broker) = (redis.connection().await, connect(&redis.url()).await);
    seems_oldest(&mut admin, "q", "gone").await;
    let _signals = broker.signals(&["q".into()]).await.unwrap();
    lease(&broker, "q", 1).await;
    assert_eq!(idle(&mut admin, "q").await.len(), 2);
    broker
        .trim(&["q".into()], Keep::default(), 10)
        .await
        .unwrap();
    let left = idle(&mut admin, "q").await;
    assert!(left.len() == 1 && left[0] != "gone", "{left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stops_is_not_woken_any_more() {
    let redis = RedisServer::start().await;
    let (mut admin, held) = (redis.connection().await, Held::new());
    // Its process continues, and its broker handle too.
    let broker = connect(&redis.url()).await;
    let stops = holds(broker.clone(), &[QUEUE], &held).await;
    all_idle(&admin, QUEUE, 1).await;
    let stopped = idle(&mut admin, QUEUE).await.remove(0);
    let _stays = holds(connect(&redis.url()).await, &[QUEUE], &held).await;
    all_idle(&admin, QUEUE, 2).await;
    seems_oldest(&mut admin, QUEUE, &stopped).await;
    stops.shutdown().await.expect("ended in order");
    all_idle(&admin, QUEUE, 1).await;
    assert_ne!(idle(&mut admin, QUEUE).await, [stopped]);
    send(&broker, [timed("a")]).await;
    held.started(1).await;
    held.gate.add_permits(100);
}

/// The signals that have arrived, up to one that is sent last.
async fn received(broker: &RedisBroker, signals: &mut Signals) -> Vec<Signal> {
    let last = task("q", "last");
    let reference = last.task_ref();
    send(broker, [last]).await;
    let leased = lease(broker, "q", 1_000).await;
    broker
        .cancel(std::slice::from_ref(&reference), "only for its signal")
        .await
        .unwrap();
    let settled: Vec<_> = leased
        .into_iter()
        .map(|leased| leased.settle(Outcome::Drop))
        .collect();
    broker.settle(&settled).await.unwrap();
    let mut received = Vec::new();
    loop {
        match next(signals).await.expect("the stream continues") {
            Signal::Cancel(task) if task == reference => return received,
            signal => received.push(signal),
        }
    }
}

#[tokio::test]
async fn upkeep_wakes_another_server_if_the_woken_one_hangs() {
    let redis = RedisServer::start().await;
    let (mut admin, broker) = (redis.connection().await, connect(&redis.url()).await);
    let still = connect(&redis.url()).await;
    let (queue, pending) = (["q".into()], Signal::Pending("q".into()));
    // It receives the signal, and does nothing.
    let mut unheeded = still.signals(&queue).await.unwrap();
    lease(&still, "q", 1).await;
    let tag = idle(&mut admin, "q").await.remove(0);
    let mut signals = broker.signals(&queue).await.unwrap();
    lease(&broker, "q", 1).await;
    seems_oldest(&mut admin, "q", &tag).await;
    send(&broker, [task("q", "a")]).await;
    assert_eq!(next(&mut unheeded).await, Some(pending.clone()));
    assert_eq!(idle(&mut admin, "q").await.len(), 1);
    broker.forward(&queue, 10).await.unwrap();
    assert_eq!(next(&mut signals).await, Some(pending));
}

#[tokio::test]
async fn if_nobody_waits_all_listeners_receive_the_first_task_of_an_empty_queue() {
    let redis = RedisServer::start().await;
    let (one, other) = (connect(&redis.url()).await, connect(&redis.url()).await);
    let queue = ["q".into()];
    let mut signals = [
        one.signals(&queue).await.unwrap(),
        other.signals(&queue).await.unwrap(),
    ];
    send(&one, [task("q", "a")]).await;
    for signals in &mut signals {
        assert_eq!(next(signals).await, Some(Signal::Pending("q".into())));
    }
}

#[tokio::test]
async fn only_the_owner_of_a_queue_receives_due_times() {
    let redis = RedisServer::start().await;
    let mut admin = redis.connection().await;
    let (owner, other) = (connect(&redis.url()).await, connect(&redis.url()).await);
    let queue = ["q".into()];
    let mut of_owner = owner.signals(&queue).await.unwrap();
    let mut of_other = other.signals(&queue).await.unwrap();
    lease(&owner, "q", 1).await;
    let tag = idle(&mut admin, "q").await.remove(0);
    let schedule = async |id: &str, secs: u64| {
        let when = When::After(Duration::from_secs(secs));
        let envelope = task("q", id);
        other
            .enqueue(vec![NewTask::new(envelope, when)])
            .await
            .unwrap()[0]
            .clone()
            .unwrap();
    };
    let is_due = |signal: &Signal| matches!(signal, Signal::Due(..));

    let mut own = cmd("SET");
    own.arg("aq:{q}:owner").arg(&tag);
    let _: () = own.query_async(&mut admin).await.unwrap();
    schedule("a", 1_000).await;
    assert!(next(&mut of_owner).await.as_ref().is_some_and(is_due));
    assert!(!received(&other, &mut of_other).await.iter().any(is_due));

    // An owner that is gone, and none.
    let _: () = cmd("SET")
        .arg("aq:{q}:owner")
        .arg("gone")
        .query_async(&mut admin)
        .await
        .unwrap();
    schedule("b", 500).await;
    assert!(received(&other, &mut of_other).await.iter().any(is_due));
    let _: () = cmd("DEL")
        .arg("aq:{q}:owner")
        .query_async(&mut admin)
        .await
        .unwrap();
    schedule("c", 200).await;
    assert!(received(&other, &mut of_other).await.iter().any(is_due));
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_cluster_too_a_task_wakes_one_server() {
    let cluster = RedisCluster::start().await;
    let broker = connect(&cluster.url()).await;
    let others = [connect(&cluster.url()).await, connect(&cluster.url()).await];
    let queue = ["q".into()];
    let mut signals = Vec::new();
    for other in &others {
        signals.push(other.signals(&queue).await.unwrap());
        lease(other, "q", 1).await;
    }
    send(&broker, [task("q", "a")]).await;
    let (first, second) = signals.split_at_mut(1);
    assert_eq!(next(&mut first[0]).await, Some(Signal::Pending("q".into())));
    let pending = |signal: &Signal| matches!(signal, Signal::Pending(_));
    // Only of the last task, which wakes the next server.
    let received = received(&broker, &mut second[0]).await;
    assert_eq!(received.into_iter().filter(pending).count(), 1);
}

/// Prints the cost and the wait of a task. Run it as
/// `cargo test -p asynqueue-redis --test fleet -- --ignored --nocapture a_task_that`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement, which requires an otherwise idle machine"]
async fn a_task_that_arrives_at_many_idle_servers() {
    const TASKS: u32 = 1_000;
    let servers = std::env::var("SERVERS").map_or(100, |n| n.parse().expect("a number"));
    let redis = RedisServer::start().await;
    let mut admin = redis.connection().await;
    let waits = Waits::default();
    let fleet = fleet(&redis.url(), servers, Duration::from_secs(1), &waits).await;
    let producer = Producer::new(connect(&redis.url()).await);
    for _ in 0..50 {
        enqueue(&producer).await;
        tokio::time::sleep(Duration::from_millis(15)).await;
    }
    eventually("warm", || async { waits.lock().len() == 50 }).await;
    tokio::time::sleep(Duration::from_secs(2)).await;

    // What the servers do without tasks, for as long as the tasks will take.
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
