//! The statements of the tables. Each of them has the same result if it is repeated.

use asynqueue_core::{
    outbox::{Done, FailedEntry, OutboxSize, StoredTask, Which},
    producer::Prepared,
    task::{Name, Task},
};
use tokio_postgres::Row;

use crate::sql::{
    Call, Value,
    values::{int, longs, text, texts, time, timestamp},
};

/// How many tasks are written by one statement, and about how many bytes of them.
const BATCH: usize = 1_000;
const BATCH_BYTES: usize = 4 * 1024 * 1024;

/// The time is that of the server, in milliseconds. Tests fix it. Returns the number of the transaction.
const INSERT: &str = "with written as ( \
         insert into asynqueue.outbox (queue, task, event, envelope, due, at) \
         select t.queue, t.task, t.event, t.envelope, t.due, \
             coalesce($6, floor(extract(epoch from clock_timestamp()) * 1000)::bigint) \
         from unnest($1, $2, $3, $4, $5) with ordinality t (queue, task, event, envelope, due, place) \
         order by t.place) \
     select pg_current_xact_id()::text";

/// How many of these tasks are written by one statement, at least one.
pub(super) fn batch<T: Task>(tasks: &[Prepared<T>]) -> usize {
    let mut bytes = 0;
    let fits = |task: &Prepared<T>| {
        bytes += task.task().envelope.payload.len();
        bytes <= BATCH_BYTES
    };
    let fitting = tasks.iter().take(BATCH).map(fits).take_while(|fits| *fits);
    fitting.count().max(1).min(tasks.len())
}

/// Inserts the rows of tasks in this order.
pub(super) fn insert<T: Task>(tasks: &[Prepared<T>], fixed: Value) -> Call {
    let rows: Vec<_> = tasks
        .iter()
        .map(|task| StoredTask::of(task.task()))
        .collect();
    let due = rows.iter().map(|row| row.due.map(time)).collect();
    let values = [
        texts(rows.iter().map(|row| &row.queue)),
        texts(rows.iter().map(|row| &row.id)),
        texts(rows.iter().map(|row| &row.event)),
        Value::Longs(Some(due)),
        fixed,
    ];
    let [queues, ids, events, due, fixed] = values;
    let envelopes = rows.into_iter().map(|row| Some(row.envelope)).collect();
    let envelopes = Value::Blobs(Some(envelopes));
    Call::new(INSERT, [queues, ids, events, envelopes, due, fixed])
}

/// Locks the turn first, as every change of a relay. The commit waits for the disk, whatever the session has set: a
/// failure must not be forgotten once a later entry is sent.
const FINISH: &str = "with turn as materialized ( \
         select from asynqueue.outbox_meta where relay = $1 for update), \
     removed as ( \
         delete from asynqueue.outbox where place = any ($2) and exists (select from turn)), \
     failed as ( \
         update asynqueue.outbox o set failure = f.reason from unnest($3, $4) f (place, reason) \
         where o.place = f.place and exists (select from turn)) \
     select exists (select from turn), set_config('synchronous_commit', 'on', true)";

/// Removes entries and marks others as failed, if the relay has the turn.
pub(super) fn finish(relay: &Name, done: &[Done]) -> Call {
    let removed = done.iter().filter_map(|done| match done {
        Done::Remove(place) => Some(signed(*place)),
        Done::Fail(..) => None,
    });
    let failed = || {
        done.iter().filter_map(|done| match done {
            Done::Remove(_) => None,
            Done::Fail(place, reason) => Some((signed(*place), reason)),
        })
    };
    let values = [
        text(relay),
        longs(removed),
        longs(failed().map(|(place, _)| place)),
        // PostgreSQL stores no zero bytes in a text.
        texts(failed().map(|(_, reason)| reason.replace('\0', ""))),
    ];
    Call::new(FINISH, values)
}

const LEAVE: &str = "update asynqueue.outbox_meta set relay = null, until = 0 where relay = $1";

pub(super) fn leave(relay: &Name) -> Call {
    Call::new(LEAVE, [text(relay)])
}

const SIZE: &str = "select \
     (select count(*) from asynqueue.outbox where failure is null), \
     (select at from asynqueue.outbox where failure is null order by place limit 1), \
     coalesce($1, floor(extract(epoch from clock_timestamp()) * 1000)::bigint), \
     (select count(*) from asynqueue.outbox where failure is not null)";

pub(super) fn size(fixed: Value) -> Call {
    Call::new(SIZE, [fixed])
}

pub(super) fn size_of(row: &Row) -> OutboxSize {
    OutboxSize {
        waiting: unsigned(row.get(0)),
        oldest: row.get::<_, Option<i64>>(1).map(timestamp),
        now: timestamp(row.get(2)),
        failed: unsigned(row.get(3)),
    }
}

const FAILED: &str = "select place, queue, task, event, at, failure from asynqueue.outbox \
     where failure is not null and place > $1 order by place limit $2";

pub(super) fn failed(after: u64, limit: usize) -> Call {
    Call::new(FAILED, [Value::Long(Some(signed(after))), int(limit)])
}

pub(super) fn failed_entry(row: &Row) -> FailedEntry {
    FailedEntry {
        place: unsigned(row.get(0)),
        queue: row.get::<_, String>(1).into(),
        id: row.get(2),
        event: row.get::<_, String>(3).into(),
        at: timestamp(row.get(4)),
        reason: row.get(5),
    }
}

const RETRY: &str = "with retried as ( \
         update asynqueue.outbox set failure = null, number = null, \
             at = coalesce($2, floor(extract(epoch from clock_timestamp()) * 1000)::bigint) \
         where failure is not null and ($1 is null or place = any ($1)) returning true) \
     select count(*) from retried";

pub(super) fn retry(which: Which<'_>, fixed: Value) -> Call {
    Call::new(RETRY, [places(which), fixed])
}

const DELETE: &str = "with deleted as ( \
         delete from asynqueue.outbox where failure is not null and ($1 is null or place = any ($1)) returning true) \
     select count(*) from deleted";

pub(super) fn delete(which: Which<'_>) -> Call {
    Call::new(DELETE, [places(which)])
}

/// The places of entries. Null for all.
fn places(which: Which<'_>) -> Value {
    match which {
        Which::All => Value::Longs(None),
        Which::These(places) => longs(places.iter().map(|place| signed(*place))),
    }
}

/// A number of a column, which is not negative.
pub(super) fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}

/// A number as a column has it.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
