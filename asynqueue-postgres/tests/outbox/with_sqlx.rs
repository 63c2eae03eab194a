//! Tasks in transactions of `sqlx`.

use sqlx::{Connection, PgConnection};

use crate::{Shop, assert_accepted};

#[tokio::test(flavor = "multi_thread")]
async fn tasks_are_relayed_if_and_only_if_their_transaction_of_sqlx_is_committed() {
    let shop = Shop::open().await;
    let (url, _) = shop.url.split_once("?schema=").expect("a schema");
    let mut db = PgConnection::connect(url).await.expect("a connection");
    for (first, commits) in [(10, false), (20, true)] {
        let mut tx = db.begin().await.expect("begun");
        let task = shop.credit(first);
        let written = shop.outbox.enqueue_in_sqlx(&mut tx, task).await;
        written.expect("written");
        let tasks = [1, 2].map(|more| shop.credit(first + more));
        let written = shop.outbox.enqueue_many_in_sqlx(&mut tx, tasks).await;
        assert_eq!(written.expect("written").len(), 2);
        let mut savepoint = tx.begin().await.expect("set");
        let task = shop.credit(first + 3);
        let written = shop.outbox.enqueue_in_sqlx(&mut savepoint, task).await;
        written.expect("written");
        savepoint.rollback().await.expect("rolled back");
        match commits {
            true => tx.commit().await.expect("committed"),
            false => tx.rollback().await.expect("rolled back"),
        }
    }
    shop.relay_all().await;
    assert_accepted(&shop, 20..23).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_error_of_a_transaction_elsewhere_has_its_reason() {
    let shop = Shop::open().await;
    let other = shop.server.database("outbox_sqlx").await;
    let mut db = PgConnection::connect(&other).await.expect("a connection");
    let mut tx = db.begin().await.expect("begun");
    let written = shop.outbox.enqueue_in_sqlx(&mut tx, shop.credit(1)).await;
    let error = written.expect_err("another database").to_string();
    assert!(
        error.contains("does not exist") && error.contains("on the database of the outbox"),
        "{error}"
    );
}
