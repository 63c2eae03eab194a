//! Outcomes in transactions of handlers.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use asynqueue_core::{
    broker::{
        Broker, Control, Finished, Inspect, LeaseRequest, Outcome, Settled, Settlement,
        SharedBroker,
    },
    layer::{Archived, Hook},
    memory::MemoryBroker,
    process::{Context, Payload, State, TaskError},
    producer::Producer,
    server::{Server, ServerHandle},
    task::TaskState,
    testing::drain,
};
use asynqueue_macros::Task;
use asynqueue_sqlite::{CompleteIn, SqliteBroker, SqliteOptions};
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, mpsc};
use tracing_subscriber::util::SubscriberInitExt;

use crate::{Credit, Shop, add, begin, connect};

/// What the handler does.
#[derive(Clone)]
struct Bank {
    path: PathBuf,
    attempts: Arc<AtomicU32>,
    /// Fails after the commit.
    fails_late: Option<Late>,
    /// Forgets to commit in the first attempt.
    forgets: bool,
    /// Signals each start, and waits for a permit before it completes.
    gate: Option<(mpsc::UnboundedSender<()>, Arc<Semaphore>)>,
    errors: Option<mpsc::UnboundedSender<String>>,
}

#[derive(Clone, Copy, Debug)]
enum Late {
    Retry,
    SkipRetry,
    Panic,
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
        if let Some(errors) = &bank.errors {
            // Fails after the test has read the first one.
            let _ = errors.send(error.to_string());
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
        Some(Late::Retry) => Err(TaskError::retry("after the commit")),
        Some(Late::SkipRetry) => Err(TaskError::skip_retry("after the commit")),
        Some(Late::Panic) => panic!("after the commit"),
        None => Ok(task.cents * 2),
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
        fails_late: None,
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

/// The log of this thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no panic").extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn an_error_after_the_commit_is_logged_and_the_task_counts_as_completed() {
    // With one subscriber in the process, a line that another thread reaches first is disabled for all of them.
    let unread = tracing_subscriber::fmt().with_writer(io::sink);
    let _other = tracing::Dispatch::new(unread.finish());
    let log = Log::default();
    let writer = log.clone();
    let lines = tracing_subscriber::fmt()
        .without_time()
        .with_ansi(false)
        .with_writer(move || writer.clone());
    let _guard = lines.set_default();
    let shop = Shop::open().await;
    let archived = Arc::new(AtomicU32::new(0));
    for error in [Late::Retry, Late::SkipRetry, Late::Panic] {
        let bank = Bank {
            fails_late: Some(error),
            ..bank(&shop)
        };
        let enqueue = shop
            .producer
            .enqueue(Credit { cents: 5 })
            .id(format!("{error:?}"));
        let handle = enqueue.await.expect("enqueued");
        let server = Server::builder(shop.broker.clone())
            .state(bank)
            .hook(Archives(Arc::clone(&archived)))
            .process(credit);
        let drained = drain(server).await.expect("no error");
        drained.assert_completed(1);
        assert_eq!(handle.result().await.expect("completed"), 10);
        let lines = String::from_utf8(std::mem::take(&mut *log.0.lock().expect("no panic")));
        let lines = lines.expect("UTF-8");
        for expected in [
            "unless a transaction of the handler has completed the task",
            "the task was completed in a transaction of its handler; the outcome after that is ignored",
            "after the commit",
        ] {
            assert!(lines.contains(expected), "{expected}: {lines}");
        }
    }
    assert_eq!((shop.credited(), archived.load(SeqCst)), ((3, 15), 0));
}

/// Counts the tasks that are archived.
struct Archives(Arc<AtomicU32>);

impl Hook for Archives {
    async fn on_archived(&self, _: &Archived) {
        self.0.fetch_add(1, SeqCst);
    }
}

/// Is not kept after its end.
#[derive(Clone, Serialize, Deserialize, Task)]
#[task(event = "brief", crate = asynqueue_core, output = u64, retention = "0s")]
struct Brief;

#[tokio::test(flavor = "multi_thread")]
async fn the_result_of_a_task_that_is_not_kept_survives_a_later_error() {
    let shop = Shop::open().await;
    let handle = shop.producer.enqueue(Brief).await.expect("enqueued");
    let mut end = std::pin::pin!(Control::finished(&shop.broker, handle.task_ref()));
    let waits = || {
        let waiters = "select count(*) from asynqueue_waiter";
        let waiters = shop.db().query_row(waiters, [], |row| row.get::<_, i64>(0));
        waiters.expect("a row") == 1
    };
    while !waits() {
        let waited = tokio::time::timeout(Duration::from_millis(1), &mut end).await;
        assert!(waited.is_err(), "{waited:?}");
    }
    let path = shop.path.clone();
    let fails_late = move |_: Payload<Brief>, ctx: Context| {
        let path = path.clone();
        async move {
            let mut db = connect(&path);
            let tx = begin(&mut db);
            ctx.complete_in(&tx, &7_u64).map_err(TaskError::retry)?;
            tx.commit().map_err(TaskError::retry)?;
            Err::<u64, _>(TaskError::retry("after the commit"))
        }
    };
    let server = Server::builder(shop.broker.clone()).process(fails_late);
    let server = server.start().await.expect("a server");
    let end = end.await.expect("a call");
    let result = match &end {
        Finished::Completed { result, .. } => result.as_deref(),
        _ => panic!("{end:?}"),
    };
    assert_eq!(result, Some(&[7][..]), "7 as MessagePack");
    server.shutdown().await.expect("ended in order");
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

/// The error of `complete_in` on a connection to this file, for a task of this broker.
async fn error_on(path: &Path, broker: impl Into<SharedBroker>) -> String {
    let (errors, mut received) = mpsc::unbounded_channel();
    let bank = Bank {
        path: path.to_owned(),
        attempts: Arc::default(),
        fails_late: None,
        forgets: false,
        gate: None,
        errors: Some(errors),
    };
    let broker = broker.into();
    let producer = Producer::new(Arc::clone(&broker));
    producer
        .enqueue(Credit { cents: 5 })
        .await
        .expect("enqueued");
    let server = Server::builder(broker).state(bank).process(credit);
    let server = server.start().await.expect("a server");
    let error = received.recv().await.expect("an error");
    server.shutdown().await.expect("ended in order");
    error
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_to_another_file_than_that_of_the_task_is_refused() {
    let (shop, other) = (Shop::open().await, Shop::open().await);
    let (file, other_file) = (shop.path.display(), other.path.display());
    assert_eq!(
        error_on(&other.path, shop.broker.clone()).await,
        format!(
            "the broker does not support this: a transaction on `{other_file}`: the tasks are in `{file}`; open the connection on that file"
        )
    );
    assert_eq!(other.credited(), (0, 0));
    let memory = SqliteBroker::connect(SqliteOptions::memory()).await;
    assert_eq!(
        error_on(&other.path, memory.expect("a broker")).await,
        "the broker does not support this: a transaction of the application: a database in memory has one connection; use a file"
    );
    assert_eq!(
        error_on(&other.path, MemoryBroker::new()).await,
        "the task is not in a SQLite database, and a transaction of one cannot complete it: return the outcome from the handler"
    );
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
    let reclaimed = Settlement {
        only_if_expired: true,
        ..leased.clone().settle(Outcome::Archive)
    };
    let settled = shop.broker.settle(&[reclaimed]).await.expect("a call");
    assert!(matches!(settled[..], [Ok(Settled::Stale)]), "{settled:?}");
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
        matches!(settled[..], [Ok(Settled::Completed), Ok(Settled::Stale)]),
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

#[tokio::test(flavor = "multi_thread")]
async fn a_server_counts_an_attempt_that_does_not_commit_as_a_failure() {
    let shop = Shop::open().await;
    let bank = Bank {
        forgets: true,
        ..bank(&shop)
    };
    let enqueue = shop.producer.enqueue(Credit { cents: 5 }).max_retry(0);
    enqueue.await.expect("enqueued");
    let server = Server::builder(shop.broker.clone())
        .state(bank)
        .process(credit);
    let drained = drain(server).await.expect("no error");
    assert_eq!((drained.completed, drained.archived), (0, 1), "{drained:?}");
    let failure = &drained.failures[0].1.message;
    assert!(
        failure.contains("did not commit the transaction"),
        "{failure}"
    );
    assert_eq!(shop.credited(), (0, 0));
}
