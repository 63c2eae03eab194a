//! Outcomes in transactions of handlers.

use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use asynqueue_core::{
    broker::{
        Broker, Control, Extended, Finished, Inspect, LeaseRequest, Outcome, Settled, Settlement,
        SharedBroker,
    },
    memory::MemoryBroker,
    process::{Context, Payload, State, TaskError},
    producer::Producer,
    server::{Server, ServerHandle},
    task::TaskState,
    testing::drain,
};
use asynqueue_macros::Task;
use asynqueue_postgres::CompleteIn;
use asynqueue_test_servers::{Postgres, eventually};
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, mpsc};
use tracing_subscriber::util::SubscriberInitExt;

use crate::{Credit, Shop, add, common};

/// What the handler does.
#[derive(Clone)]
struct Bank {
    /// Its database.
    url: String,
    attempts: Arc<AtomicU32>,
    /// Fails after the commit.
    fails_late: Option<Late>,
    /// Forgets to commit in the first attempt.
    forgets: bool,
    /// Signals each start, and waits for a permit before it completes.
    gate: Option<(mpsc::UnboundedSender<()>, Arc<Semaphore>)>,
    errors: Option<mpsc::UnboundedSender<String>>,
}

impl Bank {
    fn new(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            attempts: Arc::default(),
            fails_late: None,
            forgets: false,
            gate: None,
            errors: None,
        }
    }
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
    let mut db = Postgres::connect(&bank.url).await;
    let tx = db.transaction().await.map_err(TaskError::retry)?;
    if bank.errors.is_none() {
        add(&tx, task.cents).await;
    }
    if let Err(error) = ctx.complete_in(&tx, &(task.cents * 2)).await {
        if let Some(errors) = &bank.errors {
            // Fails after the test has read the first one.
            let _ = errors.send(error.to_string());
        }
        return Err(TaskError::retry(error));
    }
    let again = ctx.complete_in(&tx, &(task.cents * 2)).await;
    again.expect("a second call does nothing");
    if bank.forgets && ctx.attempt() == 1 {
        return Ok(task.cents * 2);
    }
    tx.commit().await.map_err(TaskError::retry)?;
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

#[tokio::test(flavor = "multi_thread")]
async fn an_outcome_is_committed_with_what_the_handler_has_written() {
    let shop = Shop::open().await;
    let bank = Bank::new(&shop.url);
    let server = server(&shop, bank.clone()).await;
    for cents in 1..=20 {
        let handle = shop.producer.enqueue(Credit { cents }).await;
        let output = handle.expect("enqueued").result().await;
        assert_eq!(output.expect("completed"), cents * 2);
    }
    server.shutdown().await.expect("ended in order");
    assert_eq!(shop.credited().await, (20, 210));
    assert_eq!(bank.attempts.load(SeqCst), 20);
    let stats = shop.broker.stats(&["default".into()]).await;
    let stats = stats.expect("figures").remove(0);
    assert_eq!((stats.succeeded, stats.failed), (20, 0));
    assert_eq!(stats.count(TaskState::Completed), 20);
    assert_eq!(shop.rows("settled").await, 0, "notes for servers are left");
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
    for error in [Late::Retry, Late::SkipRetry, Late::Panic] {
        let bank = Bank {
            fails_late: Some(error),
            ..Bank::new(&shop.url)
        };
        let enqueue = shop.producer.enqueue(Credit { cents: 5 });
        let handle = enqueue.id(format!("{error:?}")).await.expect("enqueued");
        let server = Server::builder(shop.broker.clone())
            .state(bank)
            .process(credit);
        drain(server).await.expect("no error").assert_completed(1);
        assert_eq!(handle.result().await.expect("completed"), 10);
        let lines = String::from_utf8(std::mem::take(&mut *log.0.lock().expect("no panic")));
        let lines = lines.expect("UTF-8");
        for expected in [
            "the task was completed in a transaction of its handler; the outcome after that is ignored",
            "after the commit",
        ] {
            assert!(lines.contains(expected), "{expected}: {lines}");
        }
    }
    assert_eq!(shop.credited().await, (3, 15));
}

/// Is not kept after its end.
#[derive(Clone, Serialize, Deserialize, Task)]
#[task(event = "brief", crate = asynqueue_core, output = u64, retention = "0s")]
struct Brief;

#[tokio::test(flavor = "multi_thread")]
async fn the_result_of_a_task_that_is_not_kept_reaches_a_waiter_of_another_broker() {
    let shop = Shop::open().await;
    let other = common::open(&shop.url).await;
    let handle = shop.producer.enqueue(Brief).await.expect("enqueued");
    let task = handle.task_ref().clone();
    let waiter = tokio::spawn(async move { Control::finished(&other, &task).await });
    eventually("its row", async || shop.rows("waiter").await == 1).await;
    let url = shop.url.clone();
    let fails_late = move |_: Payload<Brief>, ctx: Context| {
        let url = url.clone();
        async move {
            let mut db = Postgres::connect(&url).await;
            let tx = db.transaction().await.map_err(TaskError::retry)?;
            ctx.complete_in(&tx, &7_u64)
                .await
                .map_err(TaskError::retry)?;
            tx.commit().await.map_err(TaskError::retry)?;
            Err::<u64, _>(TaskError::retry("after the commit"))
        }
    };
    let server = Server::builder(shop.broker.clone()).process(fails_late);
    let server = server.start().await.expect("a server");
    let end = waiter.await.expect("no panic").expect("a call");
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
        ..Bank::new(&shop.url)
    };
    let server = server(&shop, bank.clone()).await;
    let handle = shop.producer.enqueue(Credit { cents: 5 }).await;
    let task = [handle.expect("enqueued").task_ref().clone()];
    starts.recv().await.expect("it starts");
    // As if the server had been cut off: the task is leased by another worker.
    let other = "update lease set token = token + 1000, until = until + 3600000";
    let updated = shop.db().await.execute(other, &[]).await;
    assert_eq!(updated.expect("another lease"), 1);
    gate.add_permits(1);
    let error = lost.recv().await.expect("the lease is lost");
    assert_eq!(
        error,
        "the lease of the task is lost: roll back, because another server may run the task"
    );
    let found = shop.broker.tasks(&task).await.expect("read").remove(0);
    assert_eq!(found.expect("it exists").state, TaskState::Active);
    server.shutdown().await.expect("ended in order");
}

/// The error of `complete_in` on a connection to this database, for a task of this broker.
async fn error_on(url: &str, broker: impl Into<SharedBroker>) -> String {
    let (errors, mut received) = mpsc::unbounded_channel();
    let bank = Bank {
        errors: Some(errors),
        ..Bank::new(url)
    };
    let broker = broker.into();
    let producer = Producer::new(Arc::clone(&broker));
    let enqueued = producer.enqueue(Credit { cents: 5 }).await;
    enqueued.expect("enqueued");
    let server = Server::builder(broker).state(bank).process(credit);
    let server = server.start().await.expect("a server");
    let error = received.recv().await.expect("an error");
    server.shutdown().await.expect("ended in order");
    error
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_elsewhere_than_the_task_is_refused() {
    let shop = Shop::open().await;
    let other = shop.server.database("other_complete").await;
    let name = shop.url.split_once("schema=").expect("a schema").1;
    for has_tables in [false, true] {
        if has_tables {
            common::open(&format!("{other}?schema={name}")).await;
        }
        assert_eq!(
            error_on(&other, shop.broker.clone()).await,
            format!(
                "the broker does not support this: a transaction on another database: the tasks are in schema `{name}` of `postgres` at 127.0.0.1:{}; roll back, \
                 and use a connection to that database",
                shop.server.port()
            )
        );
    }
    assert_eq!(
        error_on(&other, MemoryBroker::new()).await,
        "the task is not in PostgreSQL, and a transaction there cannot complete it: return the outcome from the handler"
    );
}

/// Between the commit and the server's report, the lease still counts for its server, and nobody else gets the task.
#[tokio::test(flavor = "multi_thread")]
async fn a_completed_task_belongs_to_its_server_until_that_reports_it() {
    let shop = Shop::open().await;
    let enqueued = shop.producer.enqueue(Credit { cents: 5 }).await;
    enqueued.expect("enqueued");
    let queues = vec![("default".into(), 1)];
    let request = LeaseRequest::new(queues, 1, common::LIMIT, "worker".into());
    let leased = shop.broker.lease(&request).await.expect("a call").remove(0);
    let leased = leased.expect("a queue").remove(0);
    let complete = "select outcome from complete('default', (select id from task), $1, null, null, null, null, null)";
    let token = leased.token.0 as i64;
    let db = shop.db().await;
    for outcome in [1_i16, 2] {
        // Of a second call, the task may be gone.
        let sql = if outcome == 1 {
            complete
        } else {
            "select outcome from complete('default', '', $1, null, null, null, null, null)"
        };
        let row = db.query_one(sql, &[&token]).await.expect("as complete_in");
        assert_eq!(row.get::<_, i16>(0), outcome);
    }
    let reclaimed = Settlement {
        only_if_expired: true,
        ..leased.clone().settle(Outcome::Archive)
    };
    let settled = shop.broker.settle(&[reclaimed]).await.expect("a call");
    assert!(matches!(settled[..], [Ok(Settled::Stale)]), "{settled:?}");
    let extended = shop.broker.extend(&[leased.lease()], common::LIMIT).await;
    assert!(matches!(extended.expect("a call")[0], Ok(Extended::Yes)));
    let settle = leased.settle(Outcome::Complete { result: None });
    let settled = shop.broker.settle(std::slice::from_ref(&settle)).await;
    let settled = settled.expect("a call");
    assert!(
        matches!(settled[..], [Ok(Settled::Completed)]),
        "{settled:?}"
    );
    let settled = shop.broker.settle(&[settle]).await.expect("a call");
    assert!(matches!(settled[..], [Ok(Settled::Stale)]), "{settled:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_does_not_commit_has_failed() {
    let shop = Shop::open().await;
    let bank = Bank {
        forgets: true,
        ..Bank::new(&shop.url)
    };
    let server = server(&shop, bank.clone()).await;
    let enqueue = shop.producer.enqueue(Credit { cents: 5 });
    let handle = enqueue.await.expect("enqueued");
    assert_eq!(handle.result().await.expect("completed"), 10);
    server.shutdown().await.expect("ended in order");
    let attempts = bank.attempts.load(SeqCst);
    assert_eq!((shop.credited().await, attempts), ((1, 5), 2));
    let task = [handle.task_ref().clone()];
    let found = shop.broker.tasks(&task).await.expect("read").remove(0);
    let failures = found.expect("it is kept").envelope.failures().to_vec();
    let failure = &failures[0].message;
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
        ..Bank::new(&shop.url)
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
    assert_eq!(shop.credited().await, (0, 0));
}
