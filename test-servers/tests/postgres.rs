//! PostgreSQL and what is in front of it: how they start, end and start again.

#![allow(clippy::unwrap_used, reason = "a test may")]

use std::{path::PathBuf, process::Command, time::Duration};

use asynqueue_test_servers::{Fault, PgBouncer, Postgres, Proxy, TlsPostgres, eventually};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_postgres::Client;

async fn number(client: &Client, sql: &str) -> i64 {
    client.query_one(sql, &[]).await.unwrap().get(0)
}

async fn setting(server: &Postgres, name: &str) -> String {
    let client = server.client().await;
    let row = client.query_one(&format!("show {name}"), &[]).await;
    row.unwrap().get(0)
}

/// The folder of a server's data.
async fn folder(server: &Postgres) -> PathBuf {
    setting(server, "data_directory").await.into()
}

#[tokio::test]
async fn a_server_has_the_defaults_of_production_and_a_fast_one_does_not_wait_for_the_disk() {
    let server = Postgres::start().await;
    for name in ["fsync", "synchronous_commit", "full_page_writes"] {
        assert_eq!(setting(&server, name).await, "on", "{name}");
    }
    let fast = Postgres::fast().await;
    assert_eq!(setting(&fast, "fsync").await, "off");
    assert_eq!(setting(&fast, "synchronous_commit").await, "on");
}

#[tokio::test]
async fn text_is_not_sorted_by_bytes() {
    let server = Postgres::shared().await;
    let client = server.client().await;
    let row = client.query_one("select 'a' < 'B'", &[]).await.unwrap();
    assert!(row.get::<_, bool>(0));
}

#[tokio::test]
async fn a_killed_server_has_what_was_committed_and_starts_again_on_the_same_port() {
    let mut server = Postgres::start().await;
    server.execute("create table kept (n int)").await;
    let (client, url) = (server.client().await, server.url());
    client
        .batch_execute("insert into kept values (1)")
        .await
        .unwrap();
    client
        .batch_execute("begin; insert into kept values (2)")
        .await
        .unwrap();
    server.kill();
    client.batch_execute("commit").await.unwrap_err();
    server.restart().await;
    assert_eq!(server.url(), url);
    let client = server.client().await;
    assert_eq!(number(&client, "select count(*) from kept").await, 1);
    // Once more, without a kill.
    server.restart().await;
    let client = server.client().await;
    assert_eq!(number(&client, "select count(*) from kept").await, 1);
}

#[tokio::test]
async fn databases_and_schemas_are_separate() {
    let server = Postgres::shared().await;
    let urls = [
        server.database("first of two").await.replace(' ', "%20"),
        server.database("second").await,
        server.new_schema(),
        server.new_schema(),
    ];
    for url in urls {
        let client = Postgres::connect(&url).await;
        if let Some((_, schema)) = url.split_once("?schema=") {
            let schema = format!("create schema {schema}");
            client.batch_execute(&schema).await.unwrap();
        }
        // Fails if there is one already.
        client
            .batch_execute("create table same (n int)")
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn nothing_is_left_of_a_server_that_was_dropped_even_while_it_was_paused() {
    let server = Postgres::fast().await;
    let (folder, id) = (folder(&server).await, server.pid());
    assert!(folder.exists());
    server.pause();
    drop(server);
    assert!(!folder.exists());
    assert!(!PathBuf::from(format!("/proc/{id}")).exists());
}

#[tokio::test]
async fn a_server_outlives_the_thread_that_started_it() {
    let start = || {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_all().build().unwrap();
        runtime.block_on(Postgres::fast())
    };
    let server = std::thread::spawn(start).join().unwrap();
    let client = server.client().await;
    assert_eq!(number(&client, "select 1::bigint").await, 1);
}

#[tokio::test]
async fn cpu_time_includes_connections_that_have_ended() {
    let server = Postgres::fast().await;
    let before = server.cpu();
    let client = server.client().await;
    let id = number(&client, "select pg_backend_pid()::bigint").await;
    // Takes longer than a tick on any machine.
    number(
        &client,
        "select sum(n)::bigint from generate_series(1, 2000000) n",
    )
    .await;
    drop(client);
    eventually("the connection has ended", async || {
        !PathBuf::from(format!("/proc/{id}")).exists()
    })
    .await;
    assert!(server.cpu() >= before + Duration::from_millis(20));
}

#[tokio::test]
async fn a_server_ends_and_its_folder_is_removed_after_its_test_was_killed() {
    let program = std::env::current_exe().unwrap();
    let child = [
        "--ignored",
        "--exact",
        "--nocapture",
        "child_that_is_killed",
    ];
    let output = Command::new(program).args(child).output().unwrap();
    let output = String::from_utf8(output.stdout).unwrap();
    let found = |name| {
        let line = output.lines().find_map(|line| line.split_once(name));
        PathBuf::from(line.expect("a line").1)
    };
    let (folder, process) = (found("folder: "), found("process: "));
    eventually("the server has ended", async || !process.exists()).await;
    eventually("the folder is removed", async || {
        Postgres::fast().await;
        !folder.exists()
    })
    .await;
}

#[tokio::test]
#[ignore = "run as a child of the test above"]
async fn child_that_is_killed() {
    let server = Postgres::fast().await;
    println!("folder: {}", folder(&server).await.display());
    println!("process: /proc/{}", server.pid());
    std::process::abort();
}

#[tokio::test]
async fn a_transaction_is_the_unit_of_pgbouncer() {
    let server = Postgres::shared().await;
    let mut bouncer = PgBouncer::start(&server).await;
    let first = Postgres::connect(&bouncer.url()).await;
    let second = Postgres::connect(&bouncer.url()).await;
    let backend = async |client: &Client| {
        let rows = client
            .simple_query("select pg_backend_pid()")
            .await
            .unwrap();
        let row = rows.into_iter().find_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(String::from),
            _ => None,
        });
        row.unwrap()
    };
    assert_eq!(backend(&first).await, backend(&second).await);
    first.batch_execute("begin").await.unwrap();
    assert_ne!(backend(&first).await, backend(&second).await);
    bouncer.kill();
    first.batch_execute("commit").await.unwrap_err();
    bouncer.start_again().await;
    backend(&Postgres::connect(&bouncer.url()).await).await;
}

#[tokio::test]
async fn the_proxy_breaks_connections_of_postgresql_too() {
    let server = Postgres::shared().await;
    let proxy = Proxy::start(server.port()).await;
    let url = server
        .url()
        .replace(&server.port().to_string(), &proxy.port().to_string());
    let client = Postgres::connect(&url).await;
    server.execute("create table through_proxy (n int)").await;
    proxy.set(Fault::CutReplies);
    let insert = "insert into through_proxy values (1)";
    client.batch_execute(insert).await.unwrap_err();
    assert_eq!(proxy.cuts(), 1);
    // The response was lost, but not the change.
    let direct = server.client().await;
    assert_eq!(
        number(&direct, "select count(*) from through_proxy").await,
        1
    );
}

#[tokio::test]
async fn a_server_with_tls_refuses_its_user_without() {
    let server = TlsPostgres::start(true).await;
    server.server().execute("select 1").await;
    let refused = tokio_postgres::connect(&server.bare_url(), tokio_postgres::NoTls).await;
    let error = refused.map(|_| ()).expect_err("without TLS");
    let error = error.as_db_error().expect("from the server").message();
    assert!(error.contains("no pg_hba.conf entry"), "{error}");
    // A client sends this before everything else.
    let mut connection = TcpStream::connect(("127.0.0.1", server.server().port()))
        .await
        .unwrap();
    connection
        .write_all(&[0, 0, 0, 8, 4, 210, 22, 47])
        .await
        .unwrap();
    assert_eq!(connection.read_u8().await.unwrap(), b'S');
    assert!(
        std::fs::read_to_string(server.file("client.pem"))
            .unwrap()
            .contains("CERTIFICATE")
    );
}
