//! Producers without a server: what they leave for its upkeep does not accumulate.

use std::sync::Arc;

use asynqueue_core::broker::Store;
use asynqueue_test_servers::{Postgres, eventually};

use crate::{common, tables};

#[tokio::test(flavor = "multi_thread")]
async fn tallies_are_added_up_when_there_is_no_server() {
    let server = Postgres::shared().await;
    let url = server.new_schema();
    let broker = Arc::new(common::open(&url).await);
    let db = Postgres::connect(&url).await;
    let tallies = async || {
        let row = db.query_one("select count(*) from tally", &[]).await;
        row.expect("a row").get::<_, i64>(0)
    };
    const CALLS: i64 = 2_500;
    for n in 0..CALLS {
        // Two in one call, so that it is not joined with others.
        let tasks = ["a", "b"].map(|part| common::task_of(&format!("{n}-{part}")));
        let accepted = Store::enqueue(&*broker, tasks.to_vec()).await;
        assert!(accepted.expect("a call").iter().all(Result::is_ok));
    }
    eventually("they are added up", async || tallies().await < 1_100).await;
    let schema = url.split_once("schema=").expect("a schema").1;
    let problems = tables::problems_in(&db, schema).await.expect("a check");
    assert_eq!(problems, [""; 0]);
    assert_eq!(
        common::pending(&*broker).await.expect("a number"),
        2 * CALLS as u64
    );
}
