//! The statements of the tables, each method in one transaction.

use asynqueue_core::{
    outbox::{Done, Entry, FailedEntry, OutboxSize, StoredTask, Take, Taken, Which, next_number},
    task::{Name, TaskId, Timestamp},
};
use rusqlite::{Connection, OptionalExtension, Row, Transaction, TransactionBehavior};

use crate::{
    ConnectError,
    link::File,
    sql::{millis, timestamp},
};

/// The version of the tables that this build uses.
const VERSION: i64 = 1;

/// The number of an entry that has none yet.
const NO_NUMBER: i64 = i64::MAX;

/// Creates the tables if they do not exist.
pub(super) fn create(file: &File, db: &Connection) -> Result<(), ConnectError> {
    let error = |error| file.connect_error(error);
    // Most often there is nothing to do, and nothing needs to wait for other writers.
    let mut found = version(db).map_err(error)?;
    if found.is_none() {
        let create = || {
            let change = Transaction::new_unchecked(db, TransactionBehavior::Immediate)?;
            change.execute_batch(include_str!("schema.sql"))?;
            Meta::insert(&change)?;
            let found = version(&change)?;
            change.commit()?;
            Ok(found)
        };
        found = create().map_err(error)?;
    }
    match found {
        Some(found) if found > VERSION => Err(ConnectError::Newer {
            file: file.name(),
            found,
            supported: VERSION,
        }),
        _ => Ok(()),
    }
}

/// The version of the tables. `None` if there are none.
fn version(db: &Connection) -> rusqlite::Result<Option<i64>> {
    let table = "select 1 from sqlite_schema where name = 'asynqueue_outbox_meta'";
    match db.query_row(table, [], |_| Ok(())).optional()? {
        Some(()) => {
            let version = "select version from asynqueue_outbox_meta";
            db.query_row(version, [], |row| row.get(0)).optional()
        }
        None => Ok(None),
    }
}

/// The row of `asynqueue_outbox_meta`.
struct Meta {
    id: Name,
    last: u64,
    relay: Option<String>,
    until: Timestamp,
}

impl Meta {
    /// Gives the outbox an id that no other has, unless it has one.
    fn insert(db: &Connection) -> rusqlite::Result<()> {
        let insert = "insert into asynqueue_outbox_meta values (1, ?1, ?2, 0, null, 0) on conflict do nothing";
        db.execute(insert, (VERSION, TaskId::generate().as_str()))?;
        Ok(())
    }

    fn read(db: &Connection) -> rusqlite::Result<Self> {
        let mut meta =
            db.prepare_cached("select id, last, relay, until from asynqueue_outbox_meta")?;
        meta.query_row([], |row| {
            Ok(Self {
                id: row.get::<_, String>(0)?.into(),
                last: unsigned(row, 1)?,
                relay: row.get(2)?,
                until: timestamp(row.get(3)?),
            })
        })
    }

    fn is_of(&self, take: &Take<'_>) -> bool {
        self.relay.as_deref() == Some(take.relay.as_str())
    }

    /// Whether another relay has the turn. A turn that lasts for longer than it can is of a clock that was set back.
    fn is_busy(&self, take: &Take<'_>, now: Timestamp) -> bool {
        let is_running = self.until > now && self.until <= now + take.turn;
        self.relay.is_some() && !self.is_of(take) && is_running
    }
}

pub(super) fn take(
    db: &mut Connection,
    take: &Take<'_>,
    now: Timestamp,
) -> rusqlite::Result<Taken> {
    // Without a transaction that writes, if there is nothing to write.
    let meta = match Meta::read(db) {
        // Someone has emptied the table. The outbox starts anew.
        Err(rusqlite::Error::QueryReturnedNoRows) => {
            Meta::insert(db)?;
            Meta::read(db)?
        }
        read => read?,
    };
    if meta.is_busy(take, now) {
        return Ok(Taken::Busy);
    }
    let lasts = meta.until > now + take.turn / 2 && meta.until <= now + take.turn;
    if meta.is_of(take) && lasts && next_places(db, take.except, 1)?.is_empty() {
        return Ok(Taken::Turn {
            outbox: meta.id,
            is_new: false,
            entries: Vec::new(),
            more: false,
        });
    }
    let change = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let meta = Meta::read(&change)?;
    if meta.is_busy(take, now) {
        return Ok(Taken::Busy);
    }
    let places = next_places(&change, take.except, take.limit)?;
    let (mut entries, mut last, mut bytes) = (Vec::with_capacity(places.len()), meta.last, 0);
    for (place, number) in &places {
        let (mut entry, at) = read(&change, *place, *number)?;
        bytes += entry.task.envelope.len();
        if bytes > take.bytes && !entries.is_empty() {
            break;
        }
        if !entry.was_sent {
            last = next_number(last, at);
            entry.number = last;
            let mut set = change
                .prepare_cached("update asynqueue_outbox set number = ?1 where place = ?2")?;
            set.execute((signed(last), place))?;
        }
        entries.push(entry);
    }
    change.execute(
        "update asynqueue_outbox_meta set last = ?1, relay = ?2, until = ?3",
        (signed(last), take.relay.as_str(), millis(now + take.turn)),
    )?;
    change.commit()?;
    Ok(Taken::Turn {
        more: entries.len() < places.len() || places.len() == take.limit,
        outbox: meta.id.clone(),
        is_new: !meta.is_of(take),
        entries,
    })
}

/// The places and numbers of the next entries, up to `limit`, queue by queue. Finds each queue by the index, so that the
/// backlog of one that is not sent to costs nothing.
fn next_places(
    db: &Connection,
    except: &[Name],
    limit: usize,
) -> rusqlite::Result<Vec<(i64, i64)>> {
    let mut next_queue = db.prepare_cached(
        "select queue from asynqueue_outbox where failure is null and queue > ?1 order by queue limit 1",
    )?;
    let mut next = db.prepare_cached(
        "select place, number from asynqueue_outbox where failure is null and queue = ?1 \
         order by number, place limit ?2",
    )?;
    let (mut places, mut queue) = (Vec::new(), String::new());
    while places.len() < limit {
        let found = next_queue.query_row([&queue], |row| row.get::<_, String>(0));
        let Some(found) = found.optional()? else {
            break;
        };
        queue = found;
        if !except.iter().any(|other| **other == *queue) {
            let free = i64::try_from(limit - places.len()).unwrap_or(i64::MAX);
            let entries = next.query_map((&queue, free), |row| Ok((row.get(0)?, row.get(1)?)))?;
            for entry in entries {
                places.push(entry?);
            }
        }
    }
    Ok(places)
}

/// An entry, and when it was written.
fn read(db: &Connection, place: i64, number: i64) -> rusqlite::Result<(Entry, Timestamp)> {
    let mut entry = db.prepare_cached(
        "select queue, task, event, envelope, due, at from asynqueue_outbox where place = ?1",
    )?;
    entry.query_row([place], |row| {
        let entry = Entry {
            place: place as u64,
            number: number as u64,
            was_sent: number != NO_NUMBER,
            task: StoredTask {
                queue: row.get(0)?,
                id: row.get(1)?,
                event: row.get(2)?,
                envelope: row.get(3)?,
                due: row.get::<_, Option<i64>>(4)?.map(timestamp),
            },
        };
        Ok((entry, timestamp(row.get(5)?)))
    })
}

pub(super) fn finish(db: &mut Connection, relay: &Name, done: &[Done]) -> rusqlite::Result<bool> {
    let change = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let has_turn = Meta::read(&change)?.relay.as_deref() == Some(relay.as_str());
    if has_turn {
        for done in done {
            match done {
                Done::Remove(place) => change
                    .prepare_cached("delete from asynqueue_outbox where place = ?1")?
                    .execute([signed(*place)])?,
                Done::Fail(place, reason) => change
                    .prepare_cached("update asynqueue_outbox set failure = ?1 where place = ?2")?
                    .execute((reason, signed(*place)))?,
            };
        }
        change.commit()?;
    }
    Ok(has_turn)
}

pub(super) fn leave(db: &Connection, relay: &Name) -> rusqlite::Result<()> {
    let leave = "update asynqueue_outbox_meta set relay = null, until = 0 where relay = ?1";
    db.execute(leave, [relay.as_str()]).map(drop)
}

pub(super) fn size(db: &Connection, now: Timestamp) -> rusqlite::Result<OutboxSize> {
    let count = |sql| {
        db.prepare_cached(sql)?
            .query_row([], |row| unsigned(row, 0))
    };
    let mut oldest = db.prepare_cached(
        "select at from asynqueue_outbox where failure is null order by place limit 1",
    )?;
    let oldest = oldest.query_row([], |row| row.get(0)).optional()?;
    Ok(OutboxSize {
        waiting: count("select count(*) from asynqueue_outbox where failure is null")?,
        oldest: oldest.map(timestamp),
        now,
        failed: count("select count(*) from asynqueue_outbox where failure is not null")?,
    })
}

pub(super) fn failed(
    db: &Connection,
    after: u64,
    limit: usize,
) -> rusqlite::Result<Vec<FailedEntry>> {
    let mut failed = db.prepare_cached(
        "select place, queue, task, event, at, failure from asynqueue_outbox \
         where failure is not null and place > ?1 order by place limit ?2",
    )?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let entries = failed.query_map((signed(after), limit), |row| {
        Ok(FailedEntry {
            place: unsigned(row, 0)?,
            queue: row.get::<_, String>(1)?.into(),
            id: row.get(2)?,
            event: row.get::<_, String>(3)?.into(),
            at: timestamp(row.get(4)?),
            reason: row.get(5)?,
        })
    })?;
    entries.collect()
}

pub(super) fn retry(
    db: &mut Connection,
    which: Which<'_>,
    now: Timestamp,
) -> rusqlite::Result<u64> {
    let retry = "update asynqueue_outbox set failure = null, number = 9223372036854775807, at = ?2 \
         where failure is not null and (?1 is null or place = ?1)";
    change_failed(db, which, |db, place| {
        db.prepare_cached(retry)?.execute((place, millis(now)))
    })
}

pub(super) fn delete(db: &mut Connection, which: Which<'_>) -> rusqlite::Result<u64> {
    let delete =
        "delete from asynqueue_outbox where failure is not null and (?1 is null or place = ?1)";
    change_failed(db, which, |db, place| {
        db.prepare_cached(delete)?.execute([place])
    })
}

/// Changes all failed entries (`None`), or each of those at the places given.
fn change_failed(
    db: &mut Connection,
    which: Which<'_>,
    change: impl Fn(&Connection, Option<i64>) -> rusqlite::Result<usize>,
) -> rusqlite::Result<u64> {
    let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let changed = match which {
        Which::All => change(&transaction, None)?,
        Which::These(places) => {
            let each = places.iter();
            let each = each.map(|place| change(&transaction, Some(signed(*place))));
            each.sum::<rusqlite::Result<usize>>()?
        }
    };
    transaction.commit()?;
    Ok(changed as u64)
}

/// What changes whenever another connection has committed.
pub(super) fn data_version(db: &Connection) -> rusqlite::Result<i64> {
    db.prepare_cached("pragma data_version")?
        .query_row([], |row| row.get(0))
}

fn unsigned(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    Ok(u64::try_from(row.get::<_, i64>(column)?).unwrap_or_default())
}

/// A number as a column has it.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
