//! A run in which processes that write, relays, Redis and the database are killed.

use std::{
    collections::{BTreeMap, HashMap},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use asynqueue::{
    broker::{LeaseRequest, Outcome, SharedBroker, all_of},
    memory::MemoryBroker,
    outbox::{Outbox, Relay},
    prelude::*,
    task::Name,
};
use asynqueue_test_servers::{RedisServer, eventually};
use tokio::sync::Mutex;

use crate::QUEUES;

/// The environment variables of a child: what it does, the database and the URL of Redis.
const ROLE: &str = "ASYNQUEUE_TEST_OUTBOX_ROLE";
const ADDRESS: &str = "ASYNQUEUE_TEST_OUTBOX_ADDRESS";
const URL: &str = "ASYNQUEUE_TEST_OUTBOX_URL";

/// Committed orders of a run. As many again are half of them rolled back, so that this is of 10,000 transactions.
const ORDERS: usize = 6_667;

/// How many times a process may be killed, at least.
const ROUNDS: usize = 150;

/// A queue, and the writer whose order of commits is kept in it. 0 if it is that of all writers.
pub(crate) type Line = (String, i64);

/// A database of an application, with a table of its orders.
pub(crate) trait Database: Sized {
    type Program: Program;

    async fn create() -> Self;

    /// What a program opens.
    fn address(&self) -> String;

    /// How many orders are committed.
    async fn orders(&self) -> usize;

    /// The ids of the committed orders' tasks in the order in which they are to be accepted.
    async fn committed(&self) -> BTreeMap<Line, Vec<String>>;

    /// Kills its server, if it has one, and starts it again.
    async fn crash(&mut self);
}

/// A program of the application, with a connection to its database.
pub(crate) trait Program: Sized {
    type Outbox: Outbox + Clone + Into<Arc<dyn Outbox>>;

    /// `None` while the database is down.
    async fn open(address: &str) -> Option<Self>;

    fn outbox(&self) -> &Self::Outbox;

    /// A transaction that stores an order together with its task. It is committed if `end` returns true. `None` if the
    /// database has gone.
    async fn place(
        &mut self,
        producer: &Producer,
        number: u64,
        end: impl FnOnce() -> bool,
    ) -> Option<()>;
}

/// What a process does until it is killed, by others or by itself, or until its database or Redis is gone.
pub(crate) async fn child() {
    let Ok(role) = std::env::var(ROLE) else {
        return;
    };
    let address = std::env::var(ADDRESS).expect("an address");
    match address.starts_with("postgres:") {
        true => act::<crate::postgres::Writer>(&role, &address).await,
        false => act::<crate::sqlite::Writer>(&role, &address).await,
    }
}

async fn act<P: Program>(role: &str, address: &str) {
    let Some(program) = P::open(address).await else {
        return;
    };
    if role == "relay" {
        let url = std::env::var(URL).expect("a URL");
        let Ok(broker) = asynqueue::connect(&url).await else {
            return;
        };
        let relay = Relay::new(broker, program.outbox().clone()).turn(Duration::from_secs(1));
        relay.run(std::future::pending()).await;
    } else {
        write(program).await;
    }
}

/// Places orders. A third of the transactions are rolled back.
async fn write(mut program: impl Program) {
    // It needs no connection to Redis.
    let producer = Producer::new(MemoryBroker::new());
    let mut dice = u64::from(std::process::id());
    for number in 0.. {
        // A linear congruential generator is random enough.
        dice = dice
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let throw = (dice >> 33) % 500;
        let end = || {
            if throw == 0 {
                kill_this();
            }
            number % 3 != 2
        };
        if program.place(&producer, number, end).await.is_none() {
            return;
        }
        if throw == 1 {
            kill_this();
        }
    }
}

/// Ends this process by SIGKILL.
fn kill_this() {
    let id = std::process::id().to_string();
    Command::new("kill")
        .args(["-s", "KILL", &id])
        .status()
        .expect("kill runs");
    unreachable!("this process was killed");
}

/// Workers that complete each task as soon as it is accepted, so that no id is left. They record what they have run.
struct Workers {
    ran: Arc<Mutex<BTreeMap<String, Vec<String>>>>,
    running: tokio::task::JoinHandle<()>,
}

impl Workers {
    fn start(broker: SharedBroker) -> Self {
        let ran: Arc<Mutex<BTreeMap<String, Vec<String>>>> = Arc::default();
        let record = Arc::clone(&ran);
        let running = tokio::spawn(async move {
            loop {
                // The test holds the lock while Redis is down.
                let mut ran = record.lock().await;
                work(&broker, &mut ran).await;
                drop(ran);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        Self { ran, running }
    }
}

async fn work(broker: &SharedBroker, ran: &mut BTreeMap<String, Vec<String>>) {
    for queue in QUEUES.map(Name::from) {
        let hour = Duration::from_secs(3_600);
        let request = LeaseRequest::new(vec![(queue.clone(), 200)], 200, hour, "worker".into());
        let leased = all_of(broker.lease(&request).await).expect("leased");
        let mut settlements = Vec::new();
        for task in leased.into_iter().flatten() {
            let id = task.envelope.id.to_string();
            ran.entry(queue.to_string()).or_default().push(id);
            settlements.push(task.settle(Outcome::Complete { result: None }));
        }
        all_of(broker.settle(&settlements).await).expect("settled");
    }
}

/// A process that runs the test `child`. It is killed when this is dropped.
struct Process(Child);

impl Process {
    fn start(role: &str, address: &str, url: &str) -> Self {
        let child = Command::new(std::env::current_exe().expect("a path"))
            .args(["--exact", "child", "--ignored", "--nocapture"])
            .env(ROLE, role)
            .env(ADDRESS, address)
            .env(URL, url)
            .stdout(Stdio::null())
            .spawn();
        Self(child.expect("a process"))
    }

    fn has_ended(&mut self) -> bool {
        self.0.try_wait().expect("a status").is_some()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // SIGKILL.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a process in place of each that has killed itself.
fn restart_ended(processes: &mut [Process], start: impl Fn() -> Process) {
    for process in processes {
        if process.has_ended() {
            *process = start();
        }
    }
}

/// A Redis that loses nothing it has acknowledged.
pub(crate) async fn redis() -> RedisServer {
    RedisServer::with(&["--appendonly", "yes", "--appendfsync", "always"]).await
}

/// Kills everything while orders are placed. Each committed task is accepted once, and in order.
pub(crate) async fn run<D: Database>() {
    let (mut redis, mut shop) = (redis().await, D::create().await);
    let program = D::Program::open(&shop.address()).await;
    let outbox = program.expect("a database").outbox().clone();
    let (address, url) = (shop.address(), redis.url());
    let start = |role: &str| Process::start(role, &address, &url);
    let mut writers = [start("writer"), start("writer"), start("writer")];
    let mut relays = [start("relay"), start("relay")];
    let broker = asynqueue::connect(&url).await.expect("a broker");
    let workers = Workers::start(broker);
    let (mut round, mut was_down, mut has_crashed) = (0, false, false);
    while shop.orders().await < ORDERS || round < ROUNDS {
        tokio::time::sleep(Duration::from_millis(100)).await;
        round += 1;
        if round % 3 == 0 {
            writers[round / 3 % 3] = start("writer");
        }
        if round % 13 == 0 {
            // The other one takes over after a second, and is killed while it catches up.
            relays[round / 13 % 2] = start("relay");
        }
        restart_ended(&mut writers, || start("writer"));
        restart_ended(&mut relays, || start("relay"));
        let orders = shop.orders().await;
        if !was_down && orders > ORDERS / 3 {
            was_down = true;
            let _workers_wait = workers.ran.lock().await;
            redis.kill();
            let database = &shop;
            eventually("orders are placed without Redis", || {
                restart_ended(&mut writers, || start("writer"));
                async move { database.orders().await >= orders + 300 }
            })
            .await;
            redis.start_again().await;
        }
        if !has_crashed && orders > ORDERS / 2 {
            has_crashed = true;
            shop.crash().await;
        }
    }
    assert!(was_down && has_crashed);
    drop(writers);
    let left = &outbox;
    eventually("all are relayed", || {
        restart_ended(&mut relays, || start("relay"));
        async move { left.size().await.expect("a size").waiting == 0 }
    })
    .await;
    drop(relays);
    let orders = shop.orders().await;
    let ran = async || workers.ran.lock().await.clone();
    let count = |ran: &BTreeMap<String, Vec<String>>| ran.values().map(Vec::len).sum::<usize>();
    eventually("all have run", async || count(&ran().await) >= orders).await;
    // What would run twice has had its chance.
    let mut ran = workers.ran.lock().await;
    let broker = asynqueue::connect(&url).await.expect("a broker");
    work(&broker, &mut ran).await;
    assert_eq!(count(&ran), orders);
    check(&shop.committed().await, &ran);
    assert_eq!(outbox.failed(0, 10).await.expect("read"), []);
    workers.running.abort();
}

/// Fails unless exactly the committed tasks have run, those of each line in its order.
fn check(committed: &BTreeMap<Line, Vec<String>>, ran: &BTreeMap<String, Vec<String>>) {
    let lines: HashMap<&String, &Line> = committed
        .iter()
        .flat_map(|(line, ids)| ids.iter().map(move |id| (id, line)))
        .collect();
    let mut found: BTreeMap<Line, Vec<String>> = BTreeMap::new();
    for (queue, ids) in ran {
        for id in ids {
            let line = lines
                .get(id)
                .unwrap_or_else(|| panic!("{id} was not committed"));
            assert_eq!(line.0, *queue);
            found.entry((*line).clone()).or_default().push(id.clone());
        }
    }
    for (line, ids) in committed {
        assert!(
            found.get(line) == Some(ids),
            "{line:?}: another order or other tasks"
        );
    }
}
