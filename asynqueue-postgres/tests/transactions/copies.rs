//! Copies of the database of a broker: their tables have the same id.

use std::sync::Arc;

use asynqueue_core::{
    process::{Context, Payload, State, TaskError},
    producer::Producer,
    server::Server,
    testing::drain,
};
use asynqueue_postgres::{CompleteIn, PostgresBroker};
use asynqueue_test_servers::Postgres;
use tokio::sync::mpsc;

use crate::{Credit, common, rows};

/// Enqueues a task in a transaction on this database, and commits it.
async fn enqueue_in(broker: &PostgresBroker, url: &str) -> Result<(), String> {
    let mut db = Postgres::connect(url).await;
    let tx = db.transaction().await.expect("begun");
    let producer = Producer::new(broker.clone());
    let task = producer.prepare(Credit { cents: 1 }).expect("prepared");
    let accepted = broker.enqueue_in(&tx, task).await;
    accepted.map_err(|error| error.to_string())?;
    tx.commit().await.expect("committed");
    Ok(())
}

/// Copies or renames databases, which PostgreSQL does only without connections: the broker must not connect again. Then
/// the first name can be connected to.
async fn change_alone(server: &Postgres, databases: &[&str], statements: &[&str]) {
    for name in databases {
        for sql in [
            format!("alter database {name} allow_connections false"),
            format!(
                "select pg_terminate_backend(pid) from pg_stat_activity where datname = '{name}'"
            ),
        ] {
            server.execute(&sql).await;
        }
    }
    for statement in statements {
        server.execute(statement).await;
    }
    let allow = format!("alter database {} allow_connections true", databases[0]);
    server.execute(&allow).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_on_a_copy_of_the_database_is_refused() {
    let server = Postgres::shared().await;
    let url = server.database("sold").await;
    let copy = url.replace("/sold", "/copied");
    let broker = common::open(&url).await;
    change_alone(
        &server,
        &["sold"],
        &["create database copied template sold"],
    )
    .await;
    let error = enqueue_in(&broker, &copy).await.expect_err("a copy");
    assert!(
        error.starts_with("the broker does not support this: a transaction on another database: the tasks are in schema `asynqueue` of `sold`"),
        "{error}"
    );
    enqueue_in(&broker, &url).await.expect("its database");

    // The copy takes the place of the database, as after a restore.
    let swap = [
        "alter database sold rename to before",
        "alter database copied rename to sold",
    ];
    change_alone(&server, &["sold", "copied"], &swap).await;
    enqueue_in(&broker, &url).await.expect("its new database");
    let db = Postgres::connect(&url).await;
    assert_eq!(rows(&db, "asynqueue.task").await, 1);
}

/// A handler that copies the database while its task runs, and completes the task in the copy first.
async fn copy_and_complete(
    State((server, url, errors)): State<(Arc<Postgres>, String, mpsc::UnboundedSender<String>)>,
    _: Payload<Credit>,
    ctx: Context,
) -> Result<u64, TaskError> {
    change_alone(
        &server,
        &["lent"],
        &["create database lent_copy template lent"],
    )
    .await;
    for url in [url.replace("/lent", "/lent_copy"), url] {
        let mut db = Postgres::connect(&url).await;
        let tx = db.transaction().await?;
        match ctx.complete_in(&tx, &1_u64).await {
            Ok(()) => tx.commit().await?,
            Err(error) => errors.send(error.to_string())?,
        }
    }
    Ok(1)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_is_not_completed_in_a_copy_that_was_made_while_it_ran() {
    let server = Postgres::shared().await;
    let url = server.database("lent").await;
    let broker = common::open(&url).await;
    let producer = Producer::new(broker.clone());
    let task = producer.enqueue(Credit { cents: 1 }).await;
    task.expect("enqueued");
    let (errors, mut received) = mpsc::unbounded_channel::<String>();
    let running = Server::builder(broker)
        .state((Arc::clone(&server), url, errors))
        .process(copy_and_complete);
    drain(running).await.expect("no error").assert_completed(1);
    let error = received.try_recv().expect("an error for the copy");
    assert!(
        error.contains("a transaction on another database"),
        "{error}"
    );
    received.try_recv().expect_err("one of the database itself");
}
