//! Errors of SQLite, explained: what is wrong with the database, and what to do.

use std::fs;

use asynqueue_core::broker::BrokerError;
use rusqlite::{ErrorCode, ffi};

use super::{ConnectError, File};
use crate::sql::Fault;

/// The size of the header of a database, in bytes.
const HEADER: u64 = 100;

impl File {
    pub(crate) fn connect_error(&self, error: rusqlite::Error) -> ConnectError {
        // A transaction is not the only reason here: a program may keep the file for itself.
        let problem = match is_busy(&error) {
            true => format!(
                "{} is locked by another program for more than {:?}: end its transaction, or the program if it uses `locking_mode=exclusive`",
                self.name(),
                self.busy_timeout
            ),
            false => self.explain(&error),
        };
        ConnectError::File {
            problem,
            source: error,
        }
    }

    pub(crate) fn broker_error(&self, fault: Fault) -> BrokerError {
        let error = match fault {
            Fault::Sqlite(error) => error,
            #[cfg(feature = "sqlx")]
            Fault::Sqlx(error) => match as_sqlite(&error) {
                Some(error) => error,
                None => return BrokerError::unavailable(error.to_string()).caused_by(error),
            },
            Fault::Broker(error) => return error,
        };
        let problem = self.explain(&error);
        let kind = match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => BrokerError::full,
            Some(
                ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::ReadOnly
                | ErrorCode::CannotOpen
                | ErrorCode::SystemIoFailure
                | ErrorCode::PermissionDenied
                | ErrorCode::OutOfMemory
                | ErrorCode::FileLockingProtocolFailed
                | ErrorCode::SchemaChanged,
            ) => BrokerError::unavailable,
            _ => BrokerError::protocol,
        };
        kind(problem).caused_by(error)
    }

    /// The length of the file, if no database has so few bytes. The file itself must not be opened here: closing it again
    /// would release the locks of SQLite in this process.
    fn cut_short(&self) -> Option<u64> {
        let length = fs::metadata(self.path()?).ok()?.len();
        (length < HEADER).then_some(length)
    }

    /// What is wrong, and what to do.
    fn explain(&self, error: &rusqlite::Error) -> String {
        let name = self.name();
        let extended = error.sqlite_error().map(|error| error.extended_code);
        if extended == Some(ffi::SQLITE_BUSY_SNAPSHOT) {
            return format!(
                "the transaction has read {name} before another program wrote to it: start the transaction as `immediate`"
            );
        }
        let what = match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => "has no room: free space on its disk",
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                let time = self.busy_timeout;
                return format!(
                    "{name} is locked by a transaction of another program for more than {time:?}: end that transaction"
                );
            }
            Some(ErrorCode::ReadOnly) => {
                "cannot be written: give this user write access to the file, its `-wal` and `-shm` files and its folder"
            }
            Some(ErrorCode::CannotOpen) => {
                "cannot be opened: check that its folder exists and that this user may write to it"
            }
            Some(ErrorCode::PermissionDenied) => "cannot be opened: give this user access to it",
            Some(ErrorCode::NotADatabase) => match self.cut_short() {
                Some(length) => {
                    return format!(
                        "{name} was cut short to {length} bytes, or is not a SQLite database: restore a backup, or name another file"
                    );
                }
                None => "is not a SQLite database, or it is encrypted: name another file",
            },
            Some(ErrorCode::DatabaseCorrupt) => {
                "is damaged or was cut short: stop all programs that use it, and restore a backup, or save what can be read with `sqlite3 FILE .recover`"
            }
            Some(ErrorCode::SystemIoFailure) => {
                "cannot be read or written: check its disk, and the limits of file sizes and quotas"
            }
            _ => return format!("unexpected error of {name}: {error}"),
        };
        format!("{name} {what}")
    }
}

/// The same error with the code that SQLite has returned, if it is one of SQLite.
#[cfg(feature = "sqlx")]
fn as_sqlite(error: &sqlx::Error) -> Option<rusqlite::Error> {
    let code = error.as_database_error()?.code()?.parse().ok()?;
    let text = Some(error.to_string());
    Some(rusqlite::Error::SqliteFailure(ffi::Error::new(code), text))
}

pub(super) fn is_busy(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error_code();
    matches!(
        code,
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)
    )
}
