//! What may happen to PostgreSQL, to its connections and by other programs: nothing that was accepted is lost, tasks that
//! are not concerned do not wait, and work resumes without a restart of the program.

#[path = "../common/mod.rs"]
mod common;
#[path = "../tables/mod.rs"]
mod tables;

mod crash;
mod deadlocks;
mod deleted;
mod holder;
mod isolation;
mod open;
mod restart;
mod settings;
mod stalled;
mod standby;
mod tallies;
mod waiting;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::SeqCst},
};

use asynqueue_core::{
    process::Payload,
    server::{Server, ServerHandle},
};
use asynqueue_macros::Task;
use asynqueue_postgres::PostgresBroker;
use asynqueue_test_servers::{Postgres, eventually};
use serde::{Deserialize, Serialize};
use tokio_postgres::Client;

/// A task whose outcome is kept.
#[derive(Clone, Serialize, Deserialize, Task)]
#[task(event = "count", crate = asynqueue_core, retention = "1h", backoff = fixed("10ms"))]
struct Count(u64);

/// A task that is unique by its key until it has ended.
#[derive(Clone, Serialize, Deserialize, Task)]
#[task(event = "once", crate = asynqueue_core, unique(ttl = "1h"))]
struct Once(u64);

/// Runs [`Count`]. Returns the number of attempts.
async fn counting(
    broker: PostgresBroker,
    lease: std::time::Duration,
) -> (ServerHandle, Arc<AtomicU64>) {
    let attempts = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&attempts);
    let count = move |_: Payload<Count>| {
        counted.fetch_add(1, SeqCst);
        async { Ok::<_, std::convert::Infallible>(()) }
    };
    let server = Server::builder(broker)
        .queue("default", 1)
        .concurrency(8)
        .lease(lease)
        .process(count);
    (server.start().await.expect("a server"), attempts)
}

/// An empty schema of a new role, which has the name of the schema and these settings, and its URL.
async fn role(server: &Postgres, settings: &[&str]) -> (String, String) {
    let url = server.new_schema();
    let name = url.split_once("schema=").expect("a schema").1.to_owned();
    let grant = format!("create role {name} login; grant create on database postgres to {name}");
    server.execute(&grant).await;
    for setting in settings {
        server
            .execute(&format!("alter role {name} set {setting}"))
            .await;
    }
    (url.replace("postgres@", &format!("{name}@")), name)
}

/// Waits until as many connections wait for a lock of this kind.
async fn waiting(db: &Client, kind: &str, count: i64) {
    let sql = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and wait_event = $1 \
         and query like '%' || current_schema() || '%'";
    eventually("a call waits", async || {
        let row = db.query_one(sql, &[&kind]).await;
        row.expect("a row").get::<_, i64>(0) == count
    })
    .await;
}
