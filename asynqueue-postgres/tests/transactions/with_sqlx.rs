//! Tasks and outcomes in transactions of `sqlx`.

use asynqueue_core::{
    broker::Conflict,
    process::{Context, Payload, State, TaskError},
    producer::EnqueueError,
    server::Server,
    testing::drain,
};
use asynqueue_postgres::CompleteInSqlx;
use sqlx::{Connection, PgConnection};

use crate::{Credit, Once, Shop, common};

pub(crate) async fn connect(url: &str) -> PgConnection {
    let (url, schema) = url.split_once("?schema=").expect("a schema");
    let mut db = PgConnection::connect(url).await.expect("a connection");
    let path = format!("set search_path to \"{schema}\"");
    let set = sqlx::raw_sql(sqlx::AssertSqlSafe(path));
    set.execute(&mut db).await.expect("set");
    db
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_exist_if_and_only_if_their_transaction_of_sqlx_is_committed() {
    let shop = Shop::open().await;
    let mut db = connect(&shop.url).await;
    for commits in [false, true] {
        let mut tx = db.begin().await.expect("begun");
        let task = shop
            .producer
            .prepare(Credit { cents: 1 })
            .expect("prepared");
        let handle = shop.broker.enqueue_in_sqlx(&mut tx, task).await;
        handle.expect("enqueued");
        let once = |key| shop.producer.prepare(Once { key }).expect("prepared");
        let tasks = [1, 2, 1].map(once);
        let results = shop.broker.enqueue_many_in_sqlx(&mut tx, tasks).await;
        let results = results.expect("enqueued");
        assert!(results[0].is_ok() && results[1].is_ok());
        assert!(matches!(
            results[2],
            Err(EnqueueError::Conflict(Conflict::Unique { .. }))
        ));
        match commits {
            true => tx.commit().await.expect("committed"),
            false => tx.rollback().await.expect("rolled back"),
        }
        assert_eq!(shop.pending().await, if commits { 3 } else { 0 });
    }
}

async fn credit(
    State(url): State<String>,
    task: Payload<Credit>,
    ctx: Context,
) -> Result<u64, TaskError> {
    let mut db = connect(&url).await;
    let mut tx = db.begin().await.map_err(TaskError::retry)?;
    ctx.complete_in_sqlx(&mut tx, &(task.cents * 2))
        .await
        .map_err(TaskError::retry)?;
    let insert = sqlx::query("insert into account (cents) values ($1)").bind(task.cents as i64);
    insert.execute(&mut *tx).await.map_err(TaskError::retry)?;
    tx.commit().await.map_err(TaskError::retry)?;
    Err(TaskError::retry("after the commit"))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outcome_is_committed_in_a_transaction_of_sqlx() {
    let shop = Shop::open().await;
    let handle = shop.producer.enqueue(Credit { cents: 21 }).await;
    let server = Server::builder(shop.broker.clone())
        .state(shop.url.clone())
        .process(credit);
    drain(server).await.expect("no error").assert_completed(1);
    let result = handle.expect("enqueued").result().await;
    assert_eq!(result.expect("completed"), 42);
    assert_eq!(shop.credited().await, (1, 21));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_of_sqlx_on_another_database_is_refused() {
    let shop = Shop::open().await;
    let (_, schema) = shop.url.split_once("?schema=").expect("a schema");
    let other = shop.server.database("other_sqlx").await;
    for has_tables in [false, true] {
        if has_tables {
            common::open(&format!("{other}?schema={schema}")).await;
        }
        let mut db = PgConnection::connect(&other).await.expect("a connection");
        let mut tx = db.begin().await.expect("begun");
        let task = shop
            .producer
            .prepare(Credit { cents: 1 })
            .expect("prepared");
        let error = shop.broker.enqueue_in_sqlx(&mut tx, task).await;
        let error = error.expect_err("another database").to_string();
        assert!(
            error.starts_with("the broker does not support this: a transaction on another database: the tasks are in schema `test_"),
            "{error}"
        );
    }
}
