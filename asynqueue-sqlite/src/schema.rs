//! The tables and their versions.

use rusqlite::{Connection, OptionalExtension, TransactionBehavior};

use crate::link::{ConnectError, File};

/// The steps from each version to the next, the first of them from an empty database. A step that was published never
/// changes.
const STEPS: [&str; 1] = [include_str!("schema.sql")];

/// Brings the tables to the version of this build.
pub(crate) fn migrate(file: &File, db: &mut Connection) -> Result<(), ConnectError> {
    let error = |error| file.connect_error(error);
    let supported = STEPS.len() as i64;
    // Most often there is nothing to do, and nothing needs to wait for other processes.
    if version(db).map_err(error)? == supported {
        return Ok(());
    }
    let change = db
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(error)?;
    let found = version(&change).map_err(error)?;
    if found > supported {
        return Err(ConnectError::Newer {
            file: file.name(),
            found,
            supported,
        });
    }
    let run = || {
        for step in &STEPS[found as usize..] {
            change.execute_batch(step)?;
        }
        change.execute(
            "insert into asynqueue_meta values (1, ?1, 0) on conflict do update set version = excluded.version",
            [supported],
        )?;
        change.commit()
    };
    run().map_err(error)
}

/// The version of the tables. 0 if there are none.
fn version(db: &Connection) -> rusqlite::Result<i64> {
    let table = "select 1 from sqlite_schema where name = 'asynqueue_meta'";
    match db.query_row(table, [], |_| Ok(())).optional()? {
        Some(()) => db.query_row("select version from asynqueue_meta", [], |row| row.get(0)),
        None => Ok(0),
    }
}
