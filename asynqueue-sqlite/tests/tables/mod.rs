//! Checks of a database at rest: SQLite finds no damage, each task is in one state, and the counters equal the rows.

use std::path::Path;

use rusqlite::{Connection, OpenFlags};

/// A connection of another program, without the settings of the broker.
pub(crate) fn open(path: &Path) -> Connection {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags).expect("the database opens");
    // SQLite's own waits are too long to get a turn beside busy processes.
    let wait = |_| {
        std::thread::sleep(std::time::Duration::from_millis(1));
        true
    };
    db.busy_handler(Some(wait)).expect("a handler");
    db
}

/// Everything that is wrong with the tables.
pub(crate) fn problems(db: &Connection) -> Vec<String> {
    let damage = texts(db, "pragma integrity_check").into_iter();
    let damage = damage
        .filter(|line| line != "ok")
        .map(|line| format!("damage: {line}"));
    let mut problems: Vec<_> = damage.collect();
    for sql in WRONG {
        problems.extend(texts(db, sql));
    }
    problems
}

/// The first column of a query.
pub(crate) fn texts(db: &Connection, sql: &str) -> Vec<String> {
    let mut query = db.prepare(sql).expect(sql);
    let rows = query.query_map([], |row| row.get(0)).expect(sql);
    rows.collect::<Result<_, _>>().expect(sql)
}

/// Queries that find nothing in a correct database. Each row is a sentence.
const WRONG: [&str; 6] = [
    "select 'queue ' || name || ' counts ' || counted || ' ' || state || ' tasks, but has ' || found from (
         select name, 'pending' as state, pending as counted,
             (select count(*) from asynqueue_ready where queue = q.id) as found from asynqueue_queue q union all
         select name, 'active', active,
             (select count(*) from asynqueue_lease where queue = q.id) from asynqueue_queue q union all
         select name, 'scheduled', scheduled,
             (select count(*) from asynqueue_task where queue = q.id and state = 3) from asynqueue_queue q union all
         select name, 'retry', retry,
             (select count(*) from asynqueue_task where queue = q.id and state = 4) from asynqueue_queue q union all
         select name, 'completed', completed,
             (select count(*) from asynqueue_task where queue = q.id and state = 5) from asynqueue_queue q union all
         select name, 'archived', archived,
             (select count(*) from asynqueue_task where queue = q.id and state = 6) from asynqueue_queue q union all
         select name, 'aggregating', aggregating,
             (select count(*) from asynqueue_task where queue = q.id and state = 7) from asynqueue_queue q
     ) where name is not null and counted <> found",
    "select 'task ' || quote(t.id) || ' is pending or active, but ready or leased ' || ifnull(times, 0) || ' times'
     from asynqueue_task t left join (
         select queue, id, count(*) as times
         from (select queue, id from asynqueue_ready union all select queue, id from asynqueue_lease)
         group by queue, id
     ) held on held.queue = t.queue and held.id = t.id
     where state = 2 and ifnull(times, 0) <> 1",
    "select 'ready ' || quote(id) || ' has no pending task' from asynqueue_ready r
     where not exists (select 1 from asynqueue_task t where t.queue = r.queue and t.id = r.id and t.state = 2)",
    "select 'lease of ' || quote(id) || ' has no active task' from asynqueue_lease l
     where not exists (select 1 from asynqueue_task t where t.queue = l.queue and t.id = l.id and t.state = 2)",
    "select 'report about ' || quote(id) || ' has no lease' from asynqueue_running r
     where not exists (select 1 from asynqueue_lease l where l.queue = r.queue and l.id = r.id)",
    "select 'change of ' || quote(id) || ' has no changed task' from asynqueue_change c
     where not exists (select 1 from asynqueue_task t where t.queue = c.queue and t.id = c.id and t.flags & 2)",
];
