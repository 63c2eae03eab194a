//! What should not be in PostgreSQL once all tasks are gone.

use asynqueue_test_servers::Postgres;

use super::tables::{problems, texts};

/// Tables with rows that stay: figures, what was deleted recently, results of tasks whose caller was killed, and expired
/// locks.
const STAY: [&str; 10] = [
    "meta", "queue", "tally", "hour", "point", "document", "end", "lock",
    // The last call of each lane.
    "call", // Queues remember the last tick of a removed entry for an hour.
    "tick",
];

/// The lock of a window stays until upkeep finds that it has expired. A published event is locked for longer than a run,
/// so that no subscriber receives it twice.
const LEFT_LOCKS: &str =
    "select format('lock %s of %s until %s', key, holder, until) from asynqueue.lock
     where until > extract(epoch from now()) * 1000 and key not like 'news-%'";

const LEFT_SCHEDULES: &str = "select format('%s %s is left', space, name) from asynqueue.document
     where space in ('schedules', 'schedule_events')";

/// Rows that should not exist once all tasks are gone, and everything that is wrong with the tables.
pub(crate) async fn left(server: &Postgres) -> Vec<String> {
    let client = server.client().await;
    let mut left = problems(&client).await.expect("checked");
    let tables = "select tablename::text from pg_tables where schemaname = 'asynqueue'";
    let mut tables = texts(&client, tables).await.expect("the tables");
    tables.retain(|table| !STAY.contains(&table.as_str()));
    let mut queries = vec![LEFT_LOCKS.to_owned(), LEFT_SCHEDULES.to_owned()];
    queries.extend(tables.iter().map(|table| {
        format!(
            "select count(*) || ' rows in {table}' from asynqueue.\"{table}\" having count(*) > 0"
        )
    }));
    for sql in queries {
        left.extend(texts(&client, &sql).await.expect("rows"));
    }
    left
}
