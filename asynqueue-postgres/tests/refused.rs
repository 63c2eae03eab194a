//! What PostgreSQL refuses: texts, encodings, calls without a privilege, and URLs that are not encoded. Each error names the
//! input and the fix.

mod common;

use asynqueue_core::{
    broker::{Inspect, Store},
    task::Name,
};
use asynqueue_postgres::{PostgresBroker, PostgresOptions, migrate, schema_sql};
use asynqueue_test_servers::{Postgres, eventually};
use common::{log::Log, options, pending, work};

#[tokio::test]
async fn a_text_that_postgresql_cannot_store_is_named() {
    let server = Postgres::shared().await;
    let broker = common::open(&server.new_schema()).await;
    let expected = "the broker does not support this: `mail\\0` has the character U+0000, which PostgreSQL cannot store in a \
         text: remove it";
    let name = Name::from("mail\0");
    let read = Inspect::stats(&broker, std::slice::from_ref(&name)).await;
    assert_eq!(read.expect_err("no text").to_string(), expected);
    let mut request = common::request(&["q"], 1);
    request.worker = name;
    let leased = Store::lease(&broker, &request).await;
    assert_eq!(leased.expect_err("no text").to_string(), expected);
    work(&broker, "task").await;
}

#[tokio::test]
async fn a_call_without_a_privilege_says_how_to_grant_it_and_may_be_repeated() {
    let server = Postgres::shared().await;
    let url = server.new_schema();
    migrate(&options(&url)).await.expect("migrated");
    let schema = url.split_once("schema=").expect("a schema").1;
    let grants = format!(
        "create role visitor login; grant usage on schema {schema} to visitor; grant select on {schema}.meta to visitor"
    );
    server.execute(&grants).await;
    let of_role = url.replace("postgres@", "visitor@");
    let broker = common::open(&format!("{of_role}&migrate=false")).await;
    let error = pending(&broker).await.expect_err("no privilege");
    assert_eq!(
        error.to_string(),
        format!(
            "the broker is unavailable: 127.0.0.1:{}: permission denied for table queue: the role must own the schema, or \
             have privileges on it: `grant usage on schema … to …`, and `grant select, insert, update, delete on all tables \
             in schema … to …`",
            server.port()
        )
    );
    assert!(error.is_temporary(), "an outcome would be dropped");
    let grants = format!(
        "grant select, insert, update, delete on all tables in schema {schema} to visitor;
         grant usage on all sequences in schema {schema} to visitor"
    );
    server.execute(&grants).await;
    work(&broker, "task").await;
}

#[tokio::test]
async fn a_database_that_cannot_store_every_text_is_refused() {
    let server = Postgres::shared().await;
    let client = server.client().await;
    let version = "select current_setting('server_version_num')::int >= 150000";
    let is_15 = client.query_one(version, &[]).await.expect("a row").get(0);
    let provider = if is_15 { "locale_provider libc" } else { "" };
    for (name, encoding) in [("latin", "LATIN1"), ("ascii", "SQL_ASCII")] {
        let create = format!(
            "create database {name} template template0 encoding '{encoding}' lc_collate 'C' lc_ctype 'C' {provider}"
        );
        server.execute(&create).await;
    }
    let server_url = format!("postgres://postgres@127.0.0.1:{}", server.port());
    let latin = format!("{server_url}/latin");
    let expected = "database `latin` has the encoding LATIN1: expected UTF8; create another one, as by `create database … \
         template template0 encoding 'UTF8'`";
    let refused = async |url: &str| {
        let broker = PostgresBroker::connect(options(url)).await;
        broker.expect_err("no broker").to_string()
    };
    assert_eq!(refused(&latin).await, expected);
    // Tables that were made by hand.
    let client = Postgres::connect(&latin).await;
    let found = client.query("select from pg_namespace where nspname = 'asynqueue'", &[]);
    assert!(found.await.expect("a result").is_empty(), "it was migrated");
    let made = client.batch_execute(&schema_sql("asynqueue")).await;
    made.expect("tables");
    for migrates in [true, false] {
        assert_eq!(
            refused(&format!("{latin}?migrate={migrates}")).await,
            expected
        );
    }
    // Any bytes are a text there.
    let broker = common::open(&format!("{server_url}/ascii")).await;
    let name = Name::from("größe-語");
    common::enqueue_in(&broker, &name, "task", 1)
        .await
        .expect("accepted");
    let leased = Store::lease(&broker, &common::request(&[&name], 1)).await;
    let leased = leased.expect("a call").remove(0).expect("a queue");
    assert_eq!(leased[0].envelope.queue, name);
}

#[tokio::test]
async fn connections_that_were_closed_while_idle_are_replaced_without_a_warning() {
    let log = Log::of_this_thread();
    let server = Postgres::shared().await;
    let url = format!("{}&application_name=idle", server.new_schema());
    let broker = common::open(&url).await;
    pending(&broker).await.expect("figures");
    let client = server.client().await;
    let end =
        "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'idle'";
    assert!(!client.query(end, &[]).await.expect("ended").is_empty());
    eventually("they are closed", async || {
        let count = "select from pg_stat_activity where application_name = 'idle'";
        client.query(count, &[]).await.expect("a result").is_empty()
    })
    .await;
    // The first call may still be sent on the old one, and is then made again.
    for _ in 0..2 {
        pending(&broker).await.expect("figures");
    }
    assert_eq!(log.text(), "");
}

#[test]
fn a_password_that_is_not_encoded_is_refused_and_not_shown() {
    for (address, problem) in [
        ("shop:p@ss/word@db/shop", "it has more than one `@`"),
        ("shop:p@ss@db/shop", "it has more than one `@`"),
        ("shop:pass/word@db/shop", "a `/` precedes the `@`"),
        ("shop:pass?word@db/shop", "a `?` precedes an `@`"),
        ("shop:12?word@db/shop", "a `?` precedes an `@`"),
        ("shop:12?word=x@db/shop", "a `?` precedes an `@`"),
        ("shop:p@ss?word@db/shop", "a `?` precedes an `@`"),
    ] {
        let error = PostgresOptions::new(&format!("postgres://{address}?pool_size=2"));
        assert_eq!(
            error.expect_err(address).to_string(),
            format!(
                "the PostgreSQL URL is invalid: {problem}: percent-encode special characters in the user and the password, such \
                 as `%40` for `@`, `%2F` for `/` and `%3F` for `?`"
            )
        );
    }
    for right in [
        "shop:p%40ss%2Fw%3Ford@db/shop?application_name=a@b",
        "db/shop?options=-cx=a@b/c",
        "shop@db?listen=postgres://shop@db:5432/shop",
    ] {
        PostgresOptions::new(&format!("postgres://{right}")).expect(right);
    }
}
