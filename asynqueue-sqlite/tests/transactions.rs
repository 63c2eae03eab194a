//! Tasks and outcomes in the application's own transactions.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use asynqueue_core::{
    broker::{Broker, Conflict, Control, Inspect, LeaseRequest, Outcome, Settled, Signal},
    process::{Context, Payload, State, TaskError},
    producer::{EnqueueError, Producer},
    server::{Server, ServerHandle},
    task::{Name, TaskState},
};
use asynqueue_macros::Task;
use asynqueue_sqlite::{CompleteError, CompleteIn, SqliteBroker, SqliteOptions};
use futures_util::StreamExt;
use rusqlite::{Connection, Transaction, TransactionBehavior};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;
use tokio::sync::{Semaphore, mpsc};

#[derive(Clone, Serialize, Deserialize, Task)]
#[task(event = "credit", crate = asynqueue_core, output = u64, retention = "1h", backoff = fixed("1ms"))]
struct Credit {
    cents: u64,
}

#[derive(Clone, Serialize, Deserialize, Task)]
#[task(event = "later", crate = asynqueue_core, unique(ttl = "1h"))]
struct Once {
    key: u64,
}

/// An application with its own table in the file of the broker.
struct Shop {
    path: PathBuf,
    broker: SqliteBroker,
    producer: Producer,
    _folder: TempDir,
}

impl Shop {
    async fn open() -> Self {
        let folder = TempDir::new().expect("a folder");
        let path = folder.path().join("shop.db");
        let broker = SqliteBroker::connect(SqliteOptions::file(&path))
            .await
            .expect("a broker");
        let shop = Self {
            producer: Producer::new(broker.clone()),
            path,
            broker,
            _folder: folder,
        };
        let table =
            "create table account (id integer primary key, cents integer not null default 0)";
        shop.db().execute_batch(table).expect("a table");
        shop
    }

    fn db(&self) -> Connection {
        connect(&self.path)
    }

    async fn pending(&self) -> u64 {
        let queues = [Name::from("default")];
        self.broker.stats(&queues).await.expect("figures")[0].count(TaskState::Pending)
    }

    fn credited(&self) -> (u64, u64) {
        let sum = "select count(*), coalesce(sum(cents), 0) from account";
        self.db()
            .query_row(sum, [], |row| {
                Ok((row.get::<_, i64>(0)? as u64, row.get::<_, i64>(1)? as u64))
            })
            .expect("a row")
    }
}

fn connect(path: &PathBuf) -> Connection {
    let db = Connection::open(path).expect("a connection");
    db.busy_timeout(Duration::from_secs(10)).expect("set");
    db
}

fn begin(db: &mut Connection) -> Transaction<'_> {
    db.transaction_with_behavior(TransactionBehavior::Immediate)
        .expect("a transaction")
}

fn add(tx: &Transaction<'_>, cents: u64) {
    tx.execute("insert into account (cents) values (?1)", [cents as i64])
        .expect("inserted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_exists_if_and_only_if_its_transaction_is_committed() {
    let shop = Shop::open().await;
    let mut db = shop.db();
    for (cents, commits) in [(1, true), (2, false), (3, true)] {
        let tx = begin(&mut db);
        add(&tx, cents);
        let task = shop.producer.prepare(Credit { cents }).expect("prepared");
        let handle = shop.broker.enqueue_in(&tx, task).expect("enqueued");
        let before = shop
            .broker
            .tasks(&[handle.task_ref().clone()])
            .await
            .expect("read");
        assert_eq!(before, [None], "it is visible before the commit");
        match commits {
            true => tx.commit().expect("committed"),
            false => tx.rollback().expect("rolled back"),
        }
        let after = shop
            .broker
            .tasks(&[handle.task_ref().clone()])
            .await
            .expect("read");
        assert_eq!(after[0].is_some(), commits);
    }
    assert_eq!((shop.pending().await, shop.credited().0), (2, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_hears_of_a_task_after_the_commit() {
    let shop = Shop::open().await;
    let queue = Name::from("default");
    let mut signals = shop
        .broker
        .signals(std::slice::from_ref(&queue))
        .await
        .expect("signals");
    let mut db = shop.db();
    let tx = begin(&mut db);
    let task = shop
        .producer
        .prepare(Credit { cents: 1 })
        .expect("prepared");
    shop.broker.enqueue_in(&tx, task).expect("enqueued");
    let early = tokio::time::timeout(Duration::from_millis(50), signals.next()).await;
    assert!(early.is_err(), "{early:?} before the commit");
    tx.commit().expect("committed");
    assert_eq!(signals.next().await, Some(Signal::Pending(queue)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_task_leaves_the_transaction_as_it_was() {
    let shop = Shop::open().await;
    let mut db = shop.db();
    let tx = begin(&mut db);
    add(&tx, 1);
    let enqueue = || {
        shop.broker
            .enqueue_in(&tx, shop.producer.prepare(Once { key: 7 })?)
    };
    enqueue().expect("accepted");
    let refused = enqueue().expect_err("its lock is held");
    assert!(
        matches!(refused, EnqueueError::Conflict(Conflict::Unique { .. })),
        "{refused}"
    );
    let tasks = [8, 7, 9].map(|key| shop.producer.prepare(Once { key }).expect("prepared"));
    let results = shop.broker.enqueue_many_in(&tx, tasks).expect("enqueued");
    assert_eq!(
        results.iter().map(Result::is_ok).collect::<Vec<_>>(),
        [true, false, true]
    );
    tx.commit().expect("committed");
    assert_eq!((shop.pending().await, shop.credited().0), (3, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_to_another_file_is_refused() {
    let shop = Shop::open().await;
    let other = shop.path.with_file_name("other.db");
    let mut db = connect(&other);
    let task = shop
        .producer
        .prepare(Credit { cents: 1 })
        .expect("prepared");
    let error = shop
        .broker
        .enqueue_in(&begin(&mut db), task)
        .expect_err("another file")
        .to_string();
    assert!(
        error.contains("other.db") && error.contains("shop.db"),
        "{error}"
    );

    let mut in_memory = Connection::open_in_memory().expect("a connection");
    let task = shop
        .producer
        .prepare(Credit { cents: 1 })
        .expect("prepared");
    let error = shop
        .broker
        .enqueue_in(&begin(&mut in_memory), task)
        .expect_err("no file")
        .to_string();
    assert!(
        error.contains("`:memory:`") && error.contains("shop.db"),
        "{error}"
    );

    let memory = SqliteBroker::connect(SqliteOptions::memory())
        .await
        .expect("a broker");
    let task = Producer::new(memory.clone())
        .prepare(Credit { cents: 1 })
        .expect("prepared");
    let error = memory
        .enqueue_in(&begin(&mut db), task)
        .expect_err("no file")
        .to_string();
    assert!(error.contains("use a file"), "{error}");
}

/// What the handler does.
#[derive(Clone)]
struct Bank {
    path: PathBuf,
    attempts: Arc<AtomicU32>,
    /// Fails after the commit.
    fails_late: bool,
    /// Forgets to commit in the first attempt.
    forgets: bool,
    /// Signals each start, and waits for a permit before it completes.
    gate: Option<(mpsc::UnboundedSender<()>, Arc<Semaphore>)>,
    errors: Option<mpsc::UnboundedSender<String>>,
}

async fn credit(
    State(bank): State<Bank>,
    task: Payload<Credit>,
    ctx: Context,
) -> Result<u64, TaskError> {
    bank.attempts.fetch_add(1, SeqCst);
    if let Some((started, gate)) = &bank.gate {
        started.send(()).expect("a test");
        gate.acquire().await.expect("open").forget();
    }
    let mut db = connect(&bank.path);
    let tx = begin(&mut db);
    add(&tx, task.cents);
    if let Err(error) = ctx.complete_in(&tx, &(task.cents * 2)) {
        if let (Some(errors), CompleteError::LeaseLost) = (&bank.errors, &error) {
            errors.send(error.to_string()).expect("a test");
        }
        return Err(TaskError::retry(error));
    }
    ctx.complete_in(&tx, &(task.cents * 2))
        .expect("a second call does nothing");
    if bank.forgets && ctx.attempt() == 1 {
        return Ok(task.cents * 2);
    }
    tx.commit().map_err(TaskError::retry)?;
    match bank.fails_late {
        true => Err(TaskError::retry("after the commit")),
        false => Ok(task.cents * 2),
    }
}

async fn server(shop: &Shop, bank: Bank) -> ServerHandle {
    let server = Server::builder(shop.broker.clone())
        .queue("default", 1)
        .concurrency(4);
    let server = server
        .lease(Duration::from_secs(2))
        .state(bank)
        .process(credit);
    server.start().await.expect("a server")
}

fn bank(shop: &Shop) -> Bank {
    Bank {
        path: shop.path.clone(),
        attempts: Arc::default(),
        fails_late: false,
        forgets: false,
        gate: None,
        errors: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outcome_is_committed_with_what_the_handler_has_written() {
    let shop = Shop::open().await;
    let bank = bank(&shop);
    let server = server(&shop, bank.clone()).await;
    for cents in 1..=20 {
        let output = shop
            .producer
            .enqueue(Credit { cents })
            .await
            .expect("enqueued")
            .result()
            .await;
        assert_eq!(output.expect("completed"), cents * 2);
    }
    server.shutdown().await.expect("ended in order");
    assert_eq!(shop.credited(), (20, 210));
    assert_eq!(bank.attempts.load(SeqCst), 20);
    let stats = shop
        .broker
        .stats(&["default".into()])
        .await
        .expect("figures");
    assert_eq!((stats[0].succeeded, stats[0].failed), (20, 0));
    assert_eq!(stats[0].count(TaskState::Completed), 20);
    let left: i64 = shop
        .db()
        .query_row("select count(*) from asynqueue_settled", [], |row| {
            row.get(0)
        })
        .expect("a row");
    assert_eq!(left, 0, "notes for servers are left");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_after_the_commit_has_no_effect_on_the_task() {
    let shop = Shop::open().await;
    let bank = Bank {
        fails_late: true,
        ..bank(&shop)
    };
    let server = server(&shop, bank.clone()).await;
    let handle = shop
        .producer
        .enqueue(Credit { cents: 5 })
        .await
        .expect("enqueued");
    assert_eq!(handle.result().await.expect("completed"), 10);
    server.shutdown().await.expect("ended in order");
    assert_eq!((shop.credited(), bank.attempts.load(SeqCst)), ((1, 5), 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_recorded_once_the_lease_is_lost() {
    let shop = Shop::open().await;
    let ((started, mut starts), gate) = (mpsc::unbounded_channel(), Arc::new(Semaphore::new(0)));
    let (errors, mut lost) = mpsc::unbounded_channel();
    let bank = Bank {
        gate: Some((started, Arc::clone(&gate))),
        errors: Some(errors),
        ..bank(&shop)
    };
    let server = server(&shop, bank.clone()).await;
    let handle = shop
        .producer
        .enqueue(Credit { cents: 5 })
        .await
        .expect("enqueued");
    starts.recv().await.expect("it starts");
    // As if the server had been cut off: its lease is deleted, and the task is leased by another worker.
    let task = handle.task_ref().clone();
    let db = shop.db();
    db.execute("update asynqueue_lease set token = token + 1000", [])
        .expect("another lease");
    gate.add_permits(1);
    let error = lost.recv().await.expect("the lease is lost");
    assert_eq!(
        error,
        "the lease of the task is lost: roll back, because another server may run the task"
    );
    assert_eq!(shop.credited(), (0, 0));
    let found = shop.broker.tasks(&[task]).await.expect("read").remove(0);
    assert_eq!(found.expect("it exists").state, TaskState::Active);
    server.shutdown().await.expect("ended in order");
}

/// Between the commit and the server's report, the lease still counts for its server, and nobody else gets the task.
#[tokio::test(flavor = "multi_thread")]
async fn a_completed_task_belongs_to_its_server_until_that_reports_it() {
    let shop = Shop::open().await;
    shop.producer
        .enqueue(Credit { cents: 5 })
        .await
        .expect("enqueued");
    let request = LeaseRequest::new(
        vec![("default".into(), 1)],
        1,
        Duration::from_secs(60),
        "worker".into(),
    );
    let leased = shop
        .broker
        .lease(&request)
        .await
        .expect("a call")
        .remove(0)
        .expect("a queue")
        .remove(0);
    let db = shop.db();
    db.execute_batch(
        "begin immediate; insert into asynqueue_settled select token, 0 from asynqueue_lease; \
         delete from asynqueue_lease; delete from asynqueue_task; commit",
    )
    .expect("as complete_in does");
    let lease = leased.lease();
    let extended = shop
        .broker
        .extend(&[lease], Duration::from_secs(60))
        .await
        .expect("a call");
    assert!(matches!(
        extended[0],
        Ok(asynqueue_core::broker::Extended::Yes)
    ));
    let settle = leased.settle(Outcome::Complete { result: None });
    let settled = shop
        .broker
        .settle(&[settle.clone(), settle])
        .await
        .expect("a call");
    assert!(
        matches!(settled[..], [Ok(Settled::Recorded), Ok(Settled::Stale)]),
        "{settled:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_does_not_commit_has_failed() {
    let shop = Shop::open().await;
    let bank = Bank {
        forgets: true,
        ..bank(&shop)
    };
    let server = server(&shop, bank.clone()).await;
    let enqueue = shop.producer.enqueue(Credit { cents: 5 });
    let handle = enqueue.await.expect("enqueued");
    assert_eq!(handle.result().await.expect("completed"), 10);
    server.shutdown().await.expect("ended in order");
    assert_eq!((shop.credited(), bank.attempts.load(SeqCst)), ((1, 5), 2));
    let task = [handle.task_ref().clone()];
    let found = shop.broker.tasks(&task).await.expect("read").remove(0);
    let failure = found.expect("it is kept").envelope.failures()[0]
        .message
        .clone();
    assert!(
        failure.contains("did not commit the transaction"),
        "{failure}"
    );
}
