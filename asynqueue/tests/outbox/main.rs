//! Tasks of an application whose data is in SQLite and whose queue is on Redis: each committed one is accepted once and in
//! order, while the processes that write, the relays and Redis are killed.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use asynqueue::{
    App,
    broker::{LeaseRequest, Outcome, SharedBroker, all_of},
    memory::MemoryBroker,
    outbox::{Outbox, Relay, Take, Taken},
    prelude::*,
    sqlite::SqliteOutbox,
    task::{Name, TaskState},
};
use asynqueue_test_servers::{RedisServer, eventually};
use rusqlite::{Connection, TransactionBehavior};
use tempfile::TempDir;
use tokio::sync::{
    Mutex,
    mpsc::{UnboundedSender, unbounded_channel},
};

/// The environment variables of a child: what it does, the database and the URL of Redis.
const ROLE: &str = "ASYNQUEUE_TEST_OUTBOX_ROLE";
const FILE: &str = "ASYNQUEUE_TEST_OUTBOX_FILE";
const URL: &str = "ASYNQUEUE_TEST_OUTBOX_URL";

const QUEUES: [&str; 3] = ["mails", "invoices", "reports"];

/// Committed orders of a run. As many again are half of them rolled back, so that this is of 10,000 transactions.
const ORDERS: usize = 6_667;

/// How many times a process may be killed, at least.
const ROUNDS: usize = 150;

#[derive(Serialize, Deserialize, Task)]
#[task(event = "order:placed", crate = asynqueue)]
struct Placed {
    order: u64,
}

/// A database with a table of the application.
struct Shop {
    folder: TempDir,
}

impl Shop {
    fn new() -> Self {
        let shop = Self {
            folder: TempDir::new().expect("a folder"),
        };
        let db = connect(&shop.path());
        db.execute_batch(
            "pragma journal_mode = wal; create table orders (id integer primary key, task text, queue text)",
        )
        .expect("a table");
        shop
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("shop.db")
    }

    async fn outbox(&self) -> SqliteOutbox {
        SqliteOutbox::open(self.path()).await.expect("an outbox")
    }

    /// The ids of the committed orders' tasks by queue, in the order of the commits.
    fn committed(&self) -> BTreeMap<String, Vec<String>> {
        let db = connect(&self.path());
        let mut orders = db
            .prepare("select queue, task from orders order by id")
            .expect("valid");
        let orders = orders.query_map([], |row| Ok((row.get(0)?, row.get(1)?)));
        let mut committed: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for order in orders.expect("rows") {
            let (queue, task): (String, String) = order.expect("a row");
            committed.entry(queue).or_default().push(task);
        }
        committed
    }

    fn orders(&self) -> usize {
        let db = connect(&self.path());
        let count = "select count(*) from orders";
        let count = db.query_row(count, [], |row| row.get::<_, i64>(0));
        count.expect("a count") as usize
    }
}

fn connect(path: &Path) -> Connection {
    let db = Connection::open(path).expect("a connection");
    db.busy_timeout(Duration::from_secs(30)).expect("set");
    db
}

/// A transaction of the application. Returns the id of the task.
fn place_order(
    db: &mut Connection,
    outbox: &SqliteOutbox,
    number: u64,
    end: impl FnOnce() -> bool,
) {
    // It needs no connection to Redis.
    let producer = Producer::new(MemoryBroker::new());
    let tx = db
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .expect("a transaction");
    let queue = QUEUES[number as usize % QUEUES.len()];
    let task = producer
        .enqueue(Placed { order: number })
        .queue(queue)
        .prepare();
    let task = outbox
        .enqueue_in(&tx, task.expect("prepared"))
        .expect("written");
    tx.execute(
        "insert into orders (task, queue) values (?1, ?2)",
        (task.id().as_str(), queue),
    )
    .expect("inserted");
    match end() {
        true => tx.commit().expect("committed"),
        false => tx.rollback().expect("rolled back"),
    }
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
    fn start(role: &str, file: &Path, url: &str) -> Self {
        let child = Command::new(std::env::current_exe().expect("a path"))
            .args(["--exact", "child", "--ignored", "--nocapture"])
            .env(ROLE, role)
            .env(FILE, file)
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

#[tokio::test]
#[ignore = "runs in a process of its own"]
async fn child() {
    let Ok(role) = std::env::var(ROLE) else {
        return;
    };
    let file = PathBuf::from(std::env::var_os(FILE).expect("a file"));
    let url = std::env::var(URL).expect("a URL");
    let outbox = SqliteOutbox::open(&file).await.expect("an outbox");
    if role == "relay" {
        let broker = asynqueue::connect(&url).await.expect("a broker");
        let relay = Relay::new(broker, outbox).turn(Duration::from_secs(1));
        relay.run(std::future::pending()).await;
    } else {
        write(&file, &outbox);
    }
}

/// Places orders until this process is killed, by others or by itself. A third of the transactions are rolled back.
fn write(file: &Path, outbox: &SqliteOutbox) {
    let mut db = connect(file);
    db.pragma_update(None, "synchronous", "normal")
        .expect("set");
    let mut dice = u64::from(std::process::id());
    for number in 0.. {
        // A linear congruential generator is random enough.
        dice = dice
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let throw = (dice >> 33) % 500;
        place_order(&mut db, outbox, number, || {
            if throw == 0 {
                kill_this();
            }
            number % 3 != 2
        });
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

/// A Redis that loses nothing it has acknowledged.
async fn redis() -> RedisServer {
    RedisServer::with(&["--appendonly", "yes", "--appendfsync", "always"]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_committed_task_is_accepted_once_while_everything_is_killed() {
    let (mut redis, shop) = (redis().await, Shop::new());
    let outbox = shop.outbox().await;
    let start = |role: &str| Process::start(role, &shop.path(), &redis.url());
    let mut writers = [start("writer"), start("writer"), start("writer")];
    let mut relays = [start("relay"), start("relay")];
    let broker = asynqueue::connect(&redis.url()).await.expect("a broker");
    let workers = Workers::start(broker);
    let (mut round, mut was_down) = (0, false);
    while shop.orders() < ORDERS || round < ROUNDS {
        tokio::time::sleep(Duration::from_millis(100)).await;
        round += 1;
        let url = redis.url();
        let start = |role: &str| Process::start(role, &shop.path(), &url);
        if round % 3 == 0 {
            writers[round / 3 % 3] = start("writer");
        }
        if round % 13 == 0 {
            // The other one takes over after a second, and is killed while it catches up.
            relays[round / 13 % 2] = start("relay");
        }
        restart_ended(&mut writers, || start("writer"));
        if !was_down && shop.orders() > ORDERS / 3 {
            was_down = true;
            let _workers_wait = workers.ran.lock().await;
            redis.kill();
            let enough = shop.orders() + 300;
            let placed = async {
                while shop.orders() < enough {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    restart_ended(&mut writers, || start("writer"));
                }
            };
            let placed = tokio::time::timeout(Duration::from_secs(30), placed).await;
            placed.expect("orders are placed without Redis");
            redis.start_again().await;
        }
    }
    assert!(was_down);
    drop(writers);
    eventually("all are relayed", async || {
        outbox.size().await.expect("a size").waiting == 0
    })
    .await;
    drop(relays);
    let committed = shop.committed();
    let ran = async || workers.ran.lock().await.clone();
    let count = |ran: &BTreeMap<String, Vec<String>>| ran.values().map(Vec::len).sum::<usize>();
    eventually("all have run", async || {
        count(&ran().await) >= shop.orders()
    })
    .await;
    // What would run twice has had its chance.
    let mut ran = workers.ran.lock().await;
    let broker = asynqueue::connect(&redis.url()).await.expect("a broker");
    work(&broker, &mut ran).await;
    assert_eq!(count(&ran), shop.orders());
    for (queue, ids) in &committed {
        assert!(ran[queue] == *ids, "{queue}: another order or other tasks");
    }
    assert_eq!(outbox.failed(0, 10).await.expect("read"), []);
    workers.running.abort();
}

#[derive(Serialize, Deserialize, Task)]
#[task(event = "attachment", queue = "mails", crate = asynqueue)]
struct Attachment {
    bytes: String,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_is_too_large_for_redis_holds_up_no_other() {
    let redis = RedisServer::with(&["--proto-max-bulk-len", "1mb"]).await;
    let shop = Shop::new();
    let outbox = shop.outbox().await;
    let broker = asynqueue::connect(&redis.url()).await.expect("a broker");
    let producer = Producer::with_max_payload(broker.clone(), 10_000_000);
    let mut db = connect(&shop.path());
    for bytes in [1, 2_000_000, 2] {
        let tx = db
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .expect("a transaction");
        let bytes = "x".repeat(bytes);
        let task = producer.prepare(Attachment { bytes }).expect("prepared");
        outbox.enqueue_in(&tx, task).expect("written");
        tx.commit().expect("committed");
    }
    let relay = Relay::new(broker.clone(), outbox.clone()).start();
    eventually("nothing waits", async || {
        outbox.size().await.expect("a size").waiting == 0
    })
    .await;
    relay.shutdown().await;
    let failed = outbox.failed(0, 10).await.expect("read");
    assert_eq!(failed.len(), 1);
    // Redis closes the connection. Whether its error arrives before depends on the moment.
    let reasons = [
        "unexpected response from the broker: an argument of 2000036 bytes exceeds `proto-max-bulk-len` of Redis \
         (1048576): send smaller payloads, or raise it",
        "unexpected response from the broker: ResponseError: Protocol error: invalid bulk length",
    ];
    let reason = failed[0].reason.as_str();
    assert!(reasons.contains(&reason), "{reason}");
    let figures = broker.stats(&["mails".into()]).await.expect("figures");
    assert_eq!(figures[0].count(TaskState::Pending), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_relays_and_runs_the_tasks_of_a_transaction() {
    let (redis, shop) = (redis().await, Shop::new());
    let outbox = shop.outbox().await.named("shop");
    let (sender, mut orders) = unbounded_channel::<u64>();
    let handler = async |task: Payload<Placed>, State(orders): State<UnboundedSender<u64>>| {
        orders.send(task.order).map_err(TaskError::retry)
    };
    let broker = asynqueue::connect(&redis.url()).await.expect("a broker");
    let app = App::new(broker.clone())
        .outbox(outbox.clone())
        .state(sender)
        .process(handler);
    let app = app.server(|server| {
        QUEUES
            .iter()
            .fold(server, |server, queue| server.queue(*queue, 1))
    });
    let app = app.start().await.expect("started");
    let mut db = connect(&shop.path());
    for number in 0..30 {
        place_order(&mut db, &outbox, number, || number % 3 != 2);
    }
    let mut ran = Vec::new();
    while ran.len() < 20 {
        ran.push(orders.recv().await.expect("an order"));
    }
    ran.sort_unstable();
    let expected: Vec<u64> = (0..30).filter(|number| number % 3 != 2).collect();
    assert_eq!(ran, expected);
    eventually("it is reported", async || {
        let outboxes = broker.outboxes().await.expect("read");
        outboxes
            .iter()
            .any(|outbox| outbox.name == "shop" && outbox.accepted == 20)
    })
    .await;
    app.shutdown().await.expect("stopped");
    // Its turn is free.
    let take = Take {
        relay: &Name::from("other"),
        turn: Duration::from_secs(10),
        except: &[],
        limit: 10,
        bytes: 1_000,
    };
    let taken = outbox.take(&take).await.expect("taken");
    assert!(matches!(taken, Taken::Turn { is_new: true, entries, .. } if entries.is_empty()));
}
