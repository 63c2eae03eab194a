//! The database file: opening it, noticing that it is gone, and explaining what is wrong with it.

use std::{
    fs, io,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use asynqueue_core::broker::BrokerError;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::{ConnectError, turn::Turn};
use crate::{
    SqliteOptions,
    options::Place,
    sql::{Fault, STATEMENTS},
};

/// How often a process that waits for SQLite's lock tries again.
const POLL: Duration = Duration::from_micros(100);

/// A database.
#[derive(Debug)]
pub(crate) struct File {
    /// None in memory.
    path: Option<PathBuf>,
    busy_timeout: Duration,
    /// Which file is open.
    identity: Option<Identity>,
    turn: Option<Turn>,
}

impl File {
    /// Creates the file if it does not exist.
    pub(super) fn open(options: &SqliteOptions) -> Result<Self, ConnectError> {
        let mut file = Self {
            path: None,
            busy_timeout: options.busy_timeout,
            identity: None,
            turn: None,
        };
        let Place::File(path) = &options.place else {
            return Ok(file);
        };
        let path = std::path::absolute(path).map_err(|error| ConnectError::folder(path, error))?;
        if path.is_dir() {
            return Err(ConnectError::IsFolder { path });
        }
        if let Some(folder) = path.parent().filter(|folder| !folder.is_dir()) {
            let error = io::Error::from(io::ErrorKind::NotFound);
            return Err(ConnectError::folder(folder, error));
        }
        file.path = Some(path.clone());
        let db = file.connect()?;
        file.prepare(&db)?;
        file.identity = Identity::of(&path);
        // Without this folder there are no turns, and other processes find out by polling.
        let live = live_folder(&path);
        match fs::create_dir_all(&live).and_then(|()| Turn::open(&live)) {
            Ok(turn) => file.turn = Some(turn),
            Err(error) => {
                let folder = live.display();
                tracing::warn!(%folder, %error, "cannot use the folder beside the database; other processes start tasks later");
            }
        }
        Ok(file)
    }

    /// Sets what belongs to the file rather than to a connection.
    fn prepare(&self, db: &Connection) -> Result<(), ConnectError> {
        let prepare = || {
            let pages: i64 = db.pragma_query_value(None, "page_count", |row| row.get(0))?;
            if pages == 0 {
                // So that the space of finished tasks can be given back. Later, it would need a copy of the file.
                db.execute_batch("pragma auto_vacuum = incremental")?;
            }
            let mode: String =
                db.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0))?;
            Ok(mode)
        };
        match prepare() {
            Ok(mode) if mode == "wal" => Ok(()),
            Ok(mode) => Err(ConnectError::NoLog {
                path: self.path.clone().unwrap_or_default(),
                mode,
            }),
            Err(error) => Err(self.connect_error(error)),
        }
    }

    pub(crate) fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// The folder with the files of live processes.
    pub(crate) fn live_folder(&self) -> Option<PathBuf> {
        self.turn.as_ref()?;
        self.path().map(live_folder)
    }

    /// One more connection.
    pub(crate) fn connect(&self) -> Result<Connection, ConnectError> {
        let open = || {
            let db = match &self.path {
                Some(path) => {
                    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
                        | OpenFlags::SQLITE_OPEN_CREATE
                        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
                    Connection::open_with_flags(path, flags)?
                }
                None => Connection::open_in_memory()?,
            };
            db.busy_timeout(self.busy_timeout)?;
            db.set_prepared_statement_cache_capacity(STATEMENTS);
            db.execute_batch(
                "pragma cache_size = -8192; pragma temp_store = memory; pragma wal_autocheckpoint = 0; \
                 pragma foreign_keys = off; pragma recursive_triggers = off",
            )?;
            Ok(db)
        };
        open().map_err(|error| self.connect_error(error))
    }

    /// Starts a transaction that writes. Waits until other processes have ended theirs.
    pub(super) fn begin(&self, db: &Connection) -> Result<(), Fault> {
        match &self.turn {
            Some(turn) => turn.with(|| self.begin_next(db)),
            None => self.begin_next(db),
        }
    }

    fn begin_next(&self, db: &Connection) -> Result<(), Fault> {
        let started = Instant::now();
        loop {
            let begun = db
                .prepare_cached("begin immediate")
                .and_then(|mut begin| begin.execute([]));
            match begun {
                Ok(_) => return Ok(()),
                Err(error) if is_busy(&error) && started.elapsed() < self.busy_timeout => {
                    thread::sleep(POLL);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Checks that the path still leads to the open file. What is written to a file that was deleted is lost.
    pub(super) fn check(&self) -> Result<(), BrokerError> {
        let (Some(path), Some(opened)) = (&self.path, &self.identity) else {
            return Ok(());
        };
        match Identity::of(path) {
            Some(found) if found == *opened => Ok(()),
            Some(_) => Err(BrokerError::unavailable(format!(
                "`{}` was replaced by another file: restart the program to use the new file",
                path.display()
            ))),
            None => Err(BrokerError::unavailable(format!(
                "`{}` was deleted or moved: move it back, or restart the program to start with an empty file",
                path.display()
            ))),
        }
    }

    /// Checks that a connection of a caller is to this file.
    pub(crate) fn check_same(&self, other: Option<&str>) -> Result<(), BrokerError> {
        let Some(path) = &self.path else {
            let problem = "a transaction of the application: a database in memory has one connection; use a file";
            return Err(BrokerError::unsupported(problem));
        };
        let other = other.unwrap_or_default();
        let is_same = path.as_os_str() == other
            || Identity::of(Path::new(other)).is_some_and(|found| Some(found) == self.identity);
        if is_same {
            return Ok(());
        }
        Err(BrokerError::unsupported(format!(
            "a transaction on `{other}`: the tasks are in `{}`; open the connection on that file",
            path.display()
        )))
    }

    /// The file, for messages.
    pub(crate) fn name(&self) -> String {
        match &self.path {
            Some(path) => format!("`{}`", path.display()),
            None => "the database in memory".to_owned(),
        }
    }

    pub(crate) fn connect_error(&self, error: rusqlite::Error) -> ConnectError {
        ConnectError::File {
            problem: self.explain(&error),
            source: error,
        }
    }

    pub(crate) fn broker_error(&self, fault: Fault) -> BrokerError {
        let error = match fault {
            Fault::Sqlite(error) => error,
            #[cfg(feature = "sqlx")]
            Fault::Sqlx(error) => {
                return BrokerError::unavailable(error.to_string()).caused_by(error);
            }
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

    /// What is wrong, and what to do.
    fn explain(&self, error: &rusqlite::Error) -> String {
        let name = self.name();
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
            Some(ErrorCode::NotADatabase) => {
                "is not a SQLite database, or it is encrypted: name another file"
            }
            Some(ErrorCode::DatabaseCorrupt) => {
                "is damaged: stop all programs that use it, and restore a backup, or save what can be read with `sqlite3 FILE .recover`"
            }
            Some(ErrorCode::SystemIoFailure) => "cannot be read or written: check its disk",
            _ => return format!("unexpected error of {name}: {error}"),
        };
        format!("{name} {what}")
    }
}

fn is_busy(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error_code();
    matches!(
        code,
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)
    )
}

/// The folder of a database for the files of live processes.
fn live_folder(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push("-live");
    path.with_file_name(name)
}

/// Which file a path leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Identity(#[cfg(unix)] (u64, u64));

impl Identity {
    fn of(path: &Path) -> Option<Self> {
        let found = fs::metadata(path).ok()?;
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt;
            Some(Self((found.dev(), found.ino())))
        }
        #[cfg(not(unix))]
        Some(Self())
    }
}
