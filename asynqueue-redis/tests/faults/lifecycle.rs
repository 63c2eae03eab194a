//! Schedulers, groups and publishers whose processes are killed in the middle of work.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use asynqueue_core::{
    broker::{Inspect, MissedTicks, Schedules},
    codec::MessagePack,
    process::{Context, Payload, TaskError},
    producer::Producer,
    scheduler::{Entry, Scheduler},
    server::Server,
    task::{Aggregate, Clock, Task, Timestamp},
};
use asynqueue_redis::{RedisBroker, RedisOptions};
use asynqueue_test_servers::{RedisServer, eventually};
use parking_lot::Mutex;
use redis::{AsyncCommands, aio::MultiplexedConnection};
use serde::{Deserialize, Serialize};

use super::common;

/// The child's environment: its part, the URL of Redis, the file with the time, and how far its clock is ahead.
const PART: &str = "ASYNQUEUE_TEST_PART";
const URL: &str = "ASYNQUEUE_TEST_REDIS";
const CLOCK: &str = "ASYNQUEUE_TEST_CLOCK";
const AHEAD: &str = "ASYNQUEUE_TEST_AHEAD";

/// The number of children. One of them is killed from time to time.
const CHILDREN: usize = 3;

const LEASE: Duration = Duration::from_secs(2);

#[derive(Clone, Serialize, Deserialize)]
struct Item(usize);

impl Task for Item {
    const EVENT: &'static str = "item";
    type Output = ();
    type Codec = MessagePack;
}

#[derive(Serialize, Deserialize)]
struct Items(Vec<usize>);

impl Task for Items {
    const EVENT: &'static str = "items";
    type Output = ();
    type Codec = MessagePack;
}

/// A clock that all processes of a test read from a file.
#[derive(Clone, Debug)]
struct FileClock {
    path: PathBuf,
    ahead: i64,
}

impl FileClock {
    /// Replaced atomically, so that the file always contains a time.
    fn set(&self, time: Timestamp) {
        let new = self.path.with_extension("new");
        std::fs::write(&new, time.as_millis().to_string()).expect("written");
        std::fs::rename(new, &self.path).expect("put in place");
    }
}

impl Clock for FileClock {
    fn now(&self) -> Timestamp {
        let text = std::fs::read_to_string(&self.path).expect("the time");
        let millis: u64 = text.parse().expect("a number");
        Timestamp::from_millis(millis.saturating_add_signed(self.ahead))
    }
}

async fn connect(url: &str, clock: &FileClock) -> RedisBroker {
    let options = RedisOptions::new(url).expect("a URL").clock(clock.clone());
    RedisBroker::connect(options).await.expect("a connection")
}

async fn notes(url: &str) -> MultiplexedConnection {
    let client = redis::Client::open(url).expect("a URL");
    let connection = client.get_multiplexed_async_connection().await;
    connection.expect("a connection")
}

/// The child: plays its part until it is killed.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "run as a child of the tests below"]
async fn child() {
    let variable = |name| std::env::var(name).expect(name);
    let url = variable(URL);
    match variable(PART).as_str() {
        "schedule" => {
            let ahead = variable(AHEAD).parse().expect("a number");
            let path = variable(CLOCK).into();
            let broker = connect(&url, &FileClock { path, ahead }).await;
            let scheduler = Scheduler::builder(broker).entry(every_second());
            let scheduler = scheduler.start().await.expect("a scheduler");
            std::future::pending::<()>().await;
            scheduler.shutdown().await;
        }
        "aggregate" => aggregate(&url).await,
        "publish" => publish(&url).await,
        part => panic!("unknown part `{part}`"),
    }
}

struct Children {
    url: String,
    part: &'static str,
    clock: PathBuf,
    running: Vec<Child>,
    killed: usize,
}

impl Children {
    fn start(url: &str, part: &'static str, clock: &Path) -> Self {
        let mut children = Self {
            url: url.to_owned(),
            part,
            clock: clock.to_owned(),
            running: Vec::new(),
            killed: 0,
        };
        for n in 0..CHILDREN {
            children.running.push(children.child(n));
        }
        children
    }

    fn child(&self, n: usize) -> Child {
        // Every second child is ahead of the clock or behind it.
        let ahead = [0, 2_500, -2_500][n % 3].to_string();
        Command::new(std::env::current_exe().expect("this program"))
            .args(["--ignored", "--exact", "lifecycle::child"])
            .envs([(URL, &*self.url), (PART, self.part), (AHEAD, &*ahead)])
            .env(CLOCK, &self.clock)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a child")
    }

    /// Kills one child with SIGKILL, and starts another in its place.
    fn kill_one(&mut self) {
        let place = self.killed % CHILDREN;
        let next = self.child(place);
        let mut old = std::mem::replace(&mut self.running[place], next);
        old.kill().expect("killed");
        old.wait().expect("its end");
        self.killed += 1;
    }
}

impl Drop for Children {
    fn drop(&mut self) {
        for child in &mut self.running {
            // The child may have ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn every_second() -> Entry {
    let entry = Entry::new("second", "@every 1s", Item(0)).expect("an entry");
    entry.missed(MissedTicks::Last(1_000))
}

/// How often each task has run, by its id.
type Runs = Arc<Mutex<HashMap<String, usize>>>;

/// Three schedulers with clocks that are seconds apart, one of them killed each second. The tasks run and end
/// immediately.
#[tokio::test(flavor = "multi_thread")]
async fn each_of_two_hundred_ticks_runs_once_while_schedulers_are_killed() {
    const TICKS: u64 = 200;
    let server = RedisServer::start().await;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("clock");
    let clock = FileClock { path, ahead: 0 };
    let start = 1_800_000_000_000;
    clock.set(Timestamp::from_millis(start));
    let broker = connect(&server.url(), &clock).await;
    let mut schedulers = Children::start(&server.url(), "schedule", &clock.path);

    let runs = Runs::default();
    let noted = Arc::clone(&runs);
    let process = move |_: Payload<Item>, ctx: Context| {
        *noted.lock().entry(ctx.id().to_string()).or_default() += 1;
        async { Ok::<_, TaskError>(()) }
    };
    let worker = Server::builder(broker.clone())
        .process(process)
        .poll_interval(Duration::from_millis(20));
    let worker = worker.start().await.expect("a server");
    eventually("the entry is there", || async {
        !broker.schedules().await.expect("entries").is_empty()
    })
    .await;
    let tick = |n: u64| format!("second@{}", start + n * 1_000);
    for n in 1..=TICKS {
        clock.set(Timestamp::from_millis(start + n * 1_000));
        tokio::time::sleep(Duration::from_millis(100)).await;
        if n % 10 == 0 {
            schedulers.kill_one();
        }
    }
    eventually("the last ticks have run", || async {
        runs.lock().contains_key(&tick(TICKS))
    })
    .await;
    eventually("all ticks have run", || async {
        (10..=TICKS).all(|n| runs.lock().contains_key(&tick(n)))
    })
    .await;
    assert_eq!(schedulers.killed, 20);
    drop(schedulers);
    worker.shutdown().await.expect("ended in order");
    let twice: Vec<_> = runs
        .lock()
        .iter()
        .filter(|(_, times)| **times > 1)
        .map(|(id, _)| id.clone())
        .collect();
    assert_eq!(twice, [] as [String; 0]);
    // The first few may be older than the first scheduler.
    assert!(runs.lock().len() >= TICKS as usize - 10);
}

const LIMITS: Aggregate = Aggregate::DEFAULT
    .grace(Duration::from_millis(20))
    .max_delay(Duration::from_millis(200))
    .max_size(7);

async fn aggregate(url: &str) {
    let notes = notes(url).await;
    let process = move |task: Payload<Items>, ctx: Context| {
        let mut notes = notes.clone();
        async move {
            let items: Vec<_> = task.0.0.iter().map(ToString::to_string).collect();
            // By id, because a task may run again when its worker is killed.
            let noted: Result<(), _> = notes
                .hset("whole", ctx.id().as_str(), items.join(" "))
                .await;
            Ok::<_, TaskError>(noted?)
        }
    };
    let server = Server::builder(common::connect(url).await)
        .aggregate(|items: Vec<Item>| Items(items.into_iter().map(|item| item.0).collect()))
        .process(process)
        .poll_interval(Duration::from_millis(10))
        .lease(LEASE);
    let _server = server.start().await.expect("a server");
    std::future::pending().await
}

#[tokio::test(flavor = "multi_thread")]
async fn members_of_groups_are_counted_once_while_servers_are_killed() {
    const ITEMS: usize = 600;
    let server = RedisServer::start().await;
    let broker = common::connect(&server.url()).await;
    let mut servers = Children::start(&server.url(), "aggregate", Path::new("none"));
    let producer = Producer::new(broker.clone());
    for n in 0..ITEMS {
        let group = format!("group-{}", n % 3);
        let item = producer.enqueue(Item(n)).group(group).aggregate(LIMITS);
        item.await.expect("accepted");
        if n % 50 == 49 {
            servers.kill_one();
            tokio::time::sleep(Duration::from_millis(150)).await;
        }
    }
    eventually("all are counted", || async {
        let stats = broker.stats(&["default".into()]).await.expect("stats");
        stats[0].total() == 0
    })
    .await;
    assert_eq!(servers.killed, ITEMS / 50);
    drop(servers);
    let mut notes = notes(&server.url()).await;
    let whole: HashMap<String, String> = notes.hgetall("whole").await.expect("notes");
    let items = whole.values().flat_map(|items| items.split(' '));
    let mut items: Vec<usize> = items.map(|item| item.parse().expect("a number")).collect();
    items.sort_unstable();
    assert_eq!(items, (0..ITEMS).collect::<Vec<_>>());
    assert!(whole.len() < ITEMS);
}

const EVENTS: usize = 300;

/// Publishes unpublished events, and works for both subscribers.
async fn publish(url: &str) {
    let broker = common::connect(url).await;
    let mut notes = notes(url).await;
    let subscriber = |name: &'static str| {
        let notes = notes.clone();
        move |event: Payload<Item>, _: Context| {
            let mut notes = notes.clone();
            async move {
                let noted: Result<(), _> = notes.hincr(name, event.0.0, 1).await;
                Ok::<_, TaskError>(noted?)
            }
        }
    };
    let server = Server::builder(broker.clone())
        .subscribe("inventory", subscriber("inventory"))
        .subscribe("billing", subscriber("billing"))
        .lease(LEASE);
    let _server = server.start().await.expect("a server");
    let producer = Producer::new(broker);
    loop {
        // A number is read before it is published and removed after, so it is published again with the same id if the
        // process is killed in between.
        let n: Option<usize> = notes.lindex("to publish", -1).await.expect("a number");
        let Some(n) = n else { break };
        let event = producer.publish(Item(n)).id(format!("event-{n}"));
        event.await.expect("published");
        let _: () = notes.lrem("to publish", 0, n).await.expect("noted");
    }
    std::future::pending().await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_subscriber_gets_every_event_while_publishers_are_killed() {
    let server = RedisServer::start().await;
    let broker = common::connect(&server.url()).await;
    let mut notes = notes(&server.url()).await;
    for n in 0..EVENTS {
        let _: () = notes.lpush("to publish", n).await.expect("noted");
    }
    let mut shops = Children::start(&server.url(), "publish", Path::new("none"));
    let subscribers = ["inventory", "billing"];
    let has_all = async |notes: &mut MultiplexedConnection| {
        let mut all = true;
        for name in subscribers {
            let seen: usize = notes.hlen(name).await.expect("notes");
            all &= seen == EVENTS;
        }
        all
    };
    let started = std::time::Instant::now();
    while !has_all(&mut notes).await {
        assert!(started.elapsed() < Duration::from_secs(50), "in time");
        tokio::time::sleep(Duration::from_millis(150)).await;
        if shops.killed < 12 {
            shops.kill_one();
        }
    }
    let queues = subscribers.map(|name| format!("{name}@item").into());
    eventually("what was running has ended", || async {
        let stats = broker.stats(&queues).await.expect("stats");
        stats.iter().all(|stats| stats.total() == 0)
    })
    .await;
    assert!(shops.killed > 3, "{} were killed", shops.killed);
    drop(shops);
    for (name, stats) in subscribers
        .iter()
        .zip(broker.stats(&queues).await.expect("stats"))
    {
        // However often it was published, it is delivered once. It may run again if its worker was killed.
        assert_eq!(stats.succeeded, EVENTS as u64, "{name}");
    }
}
