//! Tables of other versions and other programs, and processes that create the tables at the same time.

use std::{fs, path::Path};

use asynqueue_core::broker::Store;

use crate::common::{
    self, Scratch,
    child::{self, Child},
};

#[tokio::test]
async fn tables_of_a_later_version_are_refused() {
    let scratch = Scratch::new();
    common::open(scratch.file()).await.close().await;
    let program = common::program(scratch.file());
    program
        .execute_batch("update asynqueue_meta set version = 7")
        .expect("a row");
    drop(program);
    let before = fs::read(scratch.file()).expect("a file");
    let error = common::try_open(scratch.file())
        .await
        .expect_err("a later version");
    let name = scratch.file();
    assert_eq!(
        error.to_string(),
        format!(
            "`{}` has tables of version 7, and this program supports versions up to 1: use a later version of asynqueue",
            name.display()
        )
    );
    assert_eq!(fs::read(scratch.file()).expect("a file"), before);
}

#[tokio::test]
async fn the_tables_of_an_application_are_left_alone() {
    for pragmas in [
        "",
        "pragma page_size = 1024",
        "pragma page_size = 65536; pragma auto_vacuum = full",
        "pragma journal_mode = truncate; pragma auto_vacuum = none; pragma user_version = 42",
        "pragma encoding = 'UTF-16le'; pragma application_id = 7",
    ] {
        let scratch = Scratch::new();
        let program = common::program(scratch.file());
        program.execute_batch(pragmas).expect("pragmas");
        let tables = "create table sales (id integer primary key, price real); insert into sales values (1, 2.5); \
             create view total as select sum(price) from sales; \
             create trigger no_sale before delete on sales begin select raise(abort, 'no'); end";
        program.execute_batch(tables).expect("tables");
        let state = || {
            let number = |name| program.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
            let names = ["page_size", "auto_vacuum", "user_version", "application_id"];
            names.map(|name| number(name).expect("a number"))
        };
        let before = state();
        let broker = common::open(scratch.file()).await;
        for task in ["task-1", "task-2"] {
            common::work(&broker, task).await;
        }
        assert_eq!(state(), before, "{pragmas}");
        let total = program.query_row("select * from total", [], |row| row.get::<_, f64>(0));
        assert_eq!(total, Ok(2.5));
        let mut others = program
            .prepare(
                "select name from sqlite_schema where name not like '%asynqueue%' order by name",
            )
            .expect("a query");
        let others = others
            .query_map([], |row| row.get::<_, String>(0))
            .expect("names");
        let others: Vec<_> = others.map(|name| name.expect("a name")).collect();
        assert_eq!(others, ["no_sale", "sales", "total"], "{pragmas}");
        // The application changes its tables while the broker is open.
        program
            .execute_batch("alter table sales add column tax real")
            .expect("a table");
        common::work(&broker, "task-3").await;
        let intact = program.query_row("pragma integrity_check", [], |row| row.get::<_, String>(0));
        assert_eq!(intact.as_deref(), Ok("ok"));
    }
}

/// In another process: opens the file as soon as all are ready, and works.
pub(crate) async fn migrate_and_work(file: &Path) {
    child::respond("ready");
    let mut requests = child::requests();
    let task = requests.next().expect("a request");
    let options = asynqueue_sqlite::SqliteOptions::file(file).busy_timeout(common::LIMIT);
    let broker = asynqueue_sqlite::SqliteBroker::connect(options).await;
    let broker = broker.expect("the file can be opened");
    common::enqueue(&broker, &task).await.expect("a task");
    child::respond("accepted");
    requests.for_each(drop);
}

#[tokio::test]
async fn processes_may_create_the_tables_at_the_same_time() {
    // With a file of an application, the mode of the journal changes at the same time too.
    for tables in ["", "create table sales (id integer)"] {
        let scratch = Scratch::new();
        if !tables.is_empty() {
            common::program(scratch.file())
                .execute_batch(tables)
                .expect("a table");
        }
        let start = |_| Child::start("migrate", scratch.file());
        let mut processes: Vec<_> = (0..8).map(start).collect();
        for (n, process) in processes.iter_mut().enumerate() {
            process.send(&format!("task-{n}"));
        }
        for process in &mut processes {
            assert_eq!(process.read().as_deref(), Some("accepted"));
        }
        let broker = common::open(scratch.file()).await;
        let mut accepted = common::drain(&broker).await;
        accepted.sort();
        let expected: Vec<_> = (0..8).map(|n| format!("task-{n}")).collect();
        assert_eq!(accepted, expected);
        processes.into_iter().for_each(Child::end);
    }
}
