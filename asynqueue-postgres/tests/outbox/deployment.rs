//! Tables, roles, names and poolers, as deployments have them.

use std::time::Duration;

use asynqueue_core::{outbox::Outbox, task::Name};
use asynqueue_postgres::{PostgresBroker, PostgresOutbox};
use asynqueue_test_servers::{PgBouncer, Postgres};

use crate::{Shop, assert_accepted, open, options, take};

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_may_have_any_name_and_the_tables_of_a_broker() {
    let server = Postgres::shared().await;
    let url = format!("{}?schema=Bücher.und%20mehr", server.url());
    PostgresBroker::connect(options(&url))
        .await
        .expect("a broker");
    let shop = Shop {
        url: server.new_schema(),
        outbox: open(&url).await,
        producer: asynqueue_core::producer::Producer::new(
            asynqueue_core::memory::MemoryBroker::new(),
        ),
        broker: asynqueue_core::memory::MemoryBroker::new(),
        server,
    };
    let mut db = shop.server.client().await;
    let tx = db.transaction().await.expect("begun");
    let written = shop.outbox.enqueue_in(&tx, shop.credit(1)).await;
    written.expect("written");
    tx.commit().await.expect("committed");
    shop.relay_all().await;
    assert_accepted(&shop, [1]).await;
    assert_eq!(shop.outbox.name(), "postgres");
    assert_eq!(shop.outbox.clone().named("orders").name(), "orders");
}

/// Writers need fewer privileges than relays.
#[tokio::test(flavor = "multi_thread")]
async fn roles_that_do_not_own_the_tables_write_and_relay() {
    let server = Postgres::shared().await;
    let base = server.database("outbox_roles").await;
    let owner = Postgres::connect(&base).await;
    owner
        .batch_execute("create role outbox_writer login; create role outbox_relay login")
        .await
        .expect("roles");
    let url = |role: &str| base.replace("postgres@", &format!("{role}@")) + "?migrate=false";
    // Nothing is created without the permission to.
    let error = PostgresOutbox::connect(options(&url("outbox_writer"))).await;
    assert_eq!(
        error.expect_err("there are no tables").to_string(),
        "schema `asynqueue` has tables of an outbox of version 0, and this program needs 1: \
         run `asynqueue migrate --outbox`, or connect without `migrate=false`"
    );
    // By hand, as documented.
    let sql = PostgresOutbox::schema_sql("asynqueue");
    owner.batch_execute(&sql).await.expect("created");
    let grants = include_str!("../../../docs/src/operations/postgres.md");
    let grants = grants
        .split("-- The outbox: ")
        .nth(1)
        .expect("they are documented");
    let (grants, _) = grants.split_once("```").expect("a block");
    let grants = format!("-- {grants}")
        .replace("writer", "outbox_writer")
        .replace("relay;", "outbox_relay;")
        .replace("relay,", "outbox_relay,");
    owner.batch_execute(&grants).await.expect("granted");
    // The tables are there.
    PostgresOutbox::migrate(&options(&base))
        .await
        .expect("nothing to do");
    let writer = PostgresOutbox::connect(options(&url("outbox_writer"))).await;
    let writer = writer.expect("an outbox");
    let relay = PostgresOutbox::connect(options(&url("outbox_relay"))).await;
    let relay = relay.expect("an outbox");
    let producer =
        asynqueue_core::producer::Producer::new(asynqueue_core::memory::MemoryBroker::new());
    let base_of_writer = url("outbox_writer").replace("?migrate=false", "");
    let mut db = Postgres::connect(&base_of_writer).await;
    let tx = db.transaction().await.expect("begun");
    let task = producer
        .prepare(crate::Credit { cents: 1 })
        .expect("prepared");
    writer.enqueue_in(&tx, task).await.expect("written");
    tx.commit().await.expect("committed");
    let name = Name::from("relay");
    assert_eq!(take(&relay, &name).await.len(), 1);
    assert!(relay.finish(&name, &[]).await.expect("recorded"));
    relay.leave(&name).await.expect("left");
    let error = writer
        .take(&crate::all(&name))
        .await
        .expect_err("not permitted");
    assert!(error.to_string().contains("permission denied"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_of_a_later_version_are_refused() {
    let shop = Shop::open().await;
    let later = "update outbox_meta set version = 7, usable_from = 5";
    shop.db().await.batch_execute(later).await.expect("changed");
    let error = PostgresOutbox::connect(options(&shop.url)).await;
    let schema = shop.url.split_once("?schema=").expect("a schema").1;
    assert_eq!(
        error.expect_err("a later version").to_string(),
        format!(
            "schema `{schema}` has tables of version 7, and this program supports versions up to 1: \
             use a later version of asynqueue"
        )
    );
    let usable = "update outbox_meta set usable_from = 1";
    shop.db()
        .await
        .batch_execute(usable)
        .await
        .expect("changed");
    open(&shop.url).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_that_start_at_the_same_time_create_the_tables_once() {
    let server = Postgres::shared().await;
    let url = server.new_schema();
    let opening = (0..8).map(|_| {
        let url = url.clone();
        tokio::spawn(async move { open(&url).await })
    });
    for opened in opening.collect::<Vec<_>>() {
        opened.await.expect("an outbox");
    }
    let rows = Postgres::connect(&url).await;
    let rows = rows.query("select id from outbox_meta", &[]).await;
    assert_eq!(rows.expect("rows").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outbox_works_through_a_pooler_in_transaction_mode() {
    let shop = Shop::open().await;
    let pooler = PgBouncer::start(&shop.server).await;
    let schema = shop.url.split_once("?schema=").expect("a schema").1;
    let outbox = open(&format!("{}?schema={schema}", pooler.url())).await;
    let mut db = shop.db().await;
    let tx = db.transaction().await.expect("begun");
    let written = outbox.enqueue_in(&tx, shop.credit(1)).await;
    written.expect("written");
    tx.commit().await.expect("committed");
    let relay = Name::from("relay");
    assert_eq!(take(&outbox, &relay).await.len(), 1);
    assert!(outbox.finish(&relay, &[]).await.expect("recorded"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_error_of_a_transaction_elsewhere_has_its_reason() {
    let shop = Shop::open().await;
    let other = shop.server.database("outbox_elsewhere").await;
    let mut db = Postgres::connect(&other).await;
    let tx = db.transaction().await.expect("begun");
    let schema = shop.url.split_once("?schema=").expect("a schema").1;
    let written = shop.outbox.enqueue_in(&tx, shop.credit(1)).await;
    assert_eq!(
        written.expect_err("another database").to_string(),
        format!(
            "the outbox is unavailable: relation \"{schema}.outbox\" does not exist: roll back, and check that the \
             transaction is on the database of the outbox"
        )
    );
}

/// A relay checks that it is notified: what it sends for that arrives on the channel on which it listens.
#[tokio::test(flavor = "multi_thread")]
async fn a_relay_hears_its_own_notifications() {
    let shop = Shop::open().await;
    let schema = options(&shop.url).schema_name().to_owned();
    let config: tokio_postgres::Config = shop.server.url().parse().expect("a URL");
    let connecting = config.connect(tokio_postgres::NoTls).await;
    let (client, mut connection) = connecting.expect("a connection");
    let relay = shop.relay();
    let hearing = async {
        loop {
            let message = std::future::poll_fn(|context| connection.poll_message(context)).await;
            let message = message.expect("it is open").expect("a message");
            // Notes to others have a space.
            if let tokio_postgres::AsyncMessage::Notification(heard) = message
                && !heard.payload().contains(' ')
            {
                return;
            }
        }
    };
    let listen = format!("listen \"outbox:{schema}\"");
    let both = async { tokio::join!(client.batch_execute(&listen), hearing) };
    let both = tokio::time::timeout(Duration::from_secs(60), both).await;
    let (listens, ()) = both.expect("a notification");
    listens.expect("it listens");
    relay.shutdown().await;
}
