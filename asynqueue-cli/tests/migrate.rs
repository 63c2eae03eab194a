//! `asynqueue migrate` and what it prints, as operators run it.

use std::process::{Command, Output};

use asynqueue::prelude::*;
use asynqueue_test_servers::Postgres;

#[derive(Serialize, Deserialize, Task)]
#[task(event = "email")]
struct Email {
    to: String,
}

fn migrate(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_asynqueue"));
    let output = command.arg("migrate").args(arguments).output();
    output.expect("runs")
}

/// What it prints if it succeeds.
fn printed(arguments: &[&str]) -> String {
    let output = migrate(arguments);
    let problem = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{problem}");
    String::from_utf8(output.stdout).expect("text")
}

/// Connects without a migration, and enqueues a task.
async fn enqueue(url: &str) {
    let broker = asynqueue::connect(url).await.expect("the tables exist");
    let email = Email { to: "ada".into() };
    let enqueued = Producer::new(broker).enqueue(email).await;
    enqueued.expect("accepted");
}

/// What changes if tables, functions or rows are replaced.
async fn state(url: &str) -> Vec<String> {
    let sql = "select format('%s %s %s', c.oid, c.relname, c.xmin) from pg_class c where relnamespace = 'jobs'::regnamespace
         union all select format('%s %s %s', p.oid, p.proname, p.xmin) from pg_proc p where pronamespace = 'jobs'::regnamespace
         union all select format('%s %s', m.id, m.xmin) from jobs.meta m order by 1";
    let rows = Postgres::connect(url).await.query(sql, &[]).await;
    rows.expect("rows").iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn the_tables_are_created_once() {
    let server = Postgres::fast().await;
    let (database, url) = (server.url(), format!("{}?schema=jobs", server.url()));
    let without = format!("{url}&migrate=false");
    let error = asynqueue::connect(&without).await.expect_err("no tables");
    assert_eq!(
        error.to_string(),
        "schema `jobs` has tables of version 0, and this program needs 1: run `asynqueue migrate`, or connect without \
         `migrate=false`"
    );
    let first = printed(&["--broker", &url]);
    assert_eq!(first, "Schema `jobs` is up to date.\n");
    enqueue(&without).await;
    let before = state(&database).await;
    assert_eq!(printed(&["--broker", &url]), first);
    assert_eq!(state(&database).await, before);
}

#[tokio::test]
async fn the_printed_statements_create_the_tables_once() {
    let server = Postgres::fast().await;
    let (database, url) = (server.url(), format!("{}?schema=jobs", server.url()));
    let sql = printed(&[
        "--broker",
        "postgres://owner@db.example/shop?schema=jobs",
        "--print",
    ]);
    server.execute(&sql).await;
    enqueue(&format!("{url}&migrate=false")).await;
    let before = state(&database).await;
    let again = server.client().await.batch_execute(&sql).await;
    again.expect_err("the tables exist");
    assert_eq!(
        printed(&["--broker", &url]),
        "Schema `jobs` is up to date.\n"
    );
    assert_eq!(state(&database).await, before);
}

#[test]
fn a_url_of_another_store_is_refused() {
    let output = migrate(&["--broker", "redis://db"]);
    assert!(!output.status.success());
    let problem = String::from_utf8_lossy(&output.stderr);
    let expected = "this is not a PostgreSQL URL: write `postgres://user:password@host:5432/database`; it starts with `redis`";
    assert!(problem.contains(expected), "{problem}");
}
