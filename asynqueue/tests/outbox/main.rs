//! Tasks of an application whose data is in a database and whose queue is on Redis: each committed one is accepted once
//! and in order, while the processes that write, the relays, the database and Redis are killed.

mod postgres;
mod sqlite;
mod stage;

use std::time::Duration;

use asynqueue::{
    App,
    memory::MemoryBroker,
    outbox::{Outbox, Relay, Take, Taken},
    prelude::*,
    producer::Prepared,
    sqlite::SqliteOutbox,
    task::{Name, TaskState},
};
use asynqueue_test_servers::{RedisServer, eventually};
use rusqlite::TransactionBehavior;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use self::{
    postgres::Server,
    sqlite::{File, connect},
    stage::{Database, Program, redis},
};

const QUEUES: [&str; 3] = ["mails", "invoices", "reports"];

#[derive(Serialize, Deserialize, Task)]
#[task(event = "order:placed", crate = asynqueue)]
struct Placed {
    order: u64,
}

/// The task of an order, and its queue.
fn order(producer: &Producer, order: u64) -> (&'static str, Prepared<Placed>) {
    let queue = QUEUES[order as usize % QUEUES.len()];
    let task = producer.enqueue(Placed { order }).queue(queue).prepare();
    (queue, task.expect("prepared"))
}

#[tokio::test]
#[ignore = "runs in a process of its own"]
async fn child() {
    stage::child().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_committed_task_of_sqlite_is_accepted_once_while_everything_is_killed() {
    stage::run::<File>().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_committed_task_of_postgresql_is_accepted_once_while_everything_is_killed() {
    stage::run::<Server>().await;
}

#[derive(Serialize, Deserialize, Task)]
#[task(event = "attachment", queue = "mails", crate = asynqueue)]
struct Attachment {
    bytes: String,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_is_too_large_for_redis_holds_up_no_other() {
    let redis = RedisServer::with(&["--proto-max-bulk-len", "1mb"]).await;
    let shop = File::create().await;
    let outbox = SqliteOutbox::open(shop.path()).await.expect("an outbox");
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
async fn an_app_relays_and_runs_the_tasks_of_a_transaction_in_sqlite() {
    relay_in_an_app::<File>("shop.db").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_relays_and_runs_the_tasks_of_a_transaction_in_postgresql() {
    relay_in_an_app::<Server>("postgres").await;
}

async fn relay_in_an_app<D: Database>(name: &str) {
    let (redis, shop) = (redis().await, D::create().await);
    let program = D::Program::open(&shop.address()).await;
    let mut program = program.expect("a database");
    let outbox = program.outbox().clone();
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
    let producer = Producer::new(MemoryBroker::new());
    for number in 0..30 {
        let placed = program.place(&producer, number, || number % 3 != 2).await;
        placed.expect("placed");
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
            .any(|outbox| outbox.name == name && outbox.accepted == 20)
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
