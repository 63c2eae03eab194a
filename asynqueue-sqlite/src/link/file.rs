//! The database file: opening it, and noticing that it is gone.

use std::{
    fs, io,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use asynqueue_core::broker::BrokerError;
use rusqlite::{Connection, MAIN_DB, OpenFlags, ffi};

use super::{ConnectError, error::MAX_PATH, explain::is_busy, turn::Turn};
use crate::{
    SqliteOptions,
    options::Place,
    sql::{Fault, STATEMENTS},
};

/// How often a process that waits for SQLite's lock tries again.
pub(super) const POLL: Duration = Duration::from_micros(100);

/// How long to wait for a turn. The process that has it may be suspended.
const PATIENCE: Duration = Duration::from_millis(50);

/// A database.
#[derive(Debug)]
pub(crate) struct File {
    /// None in memory.
    path: Option<PathBuf>,
    pub(super) busy_timeout: Duration,
    /// Which files are open: the database, its log and the index of the log.
    opened: Vec<(PathBuf, Identity)>,
    /// The folder with the files of live processes, if it can be used.
    live: Option<PathBuf>,
    turn: Option<Turn>,
}

impl File {
    /// Creates the file if it does not exist. Returns a first connection to it.
    pub(super) fn open(options: &SqliteOptions) -> Result<(Self, Connection), ConnectError> {
        let mut file = Self {
            path: None,
            busy_timeout: options.busy_timeout,
            opened: Vec::new(),
            live: None,
            turn: None,
        };
        let Place::File(path) = &options.place else {
            let db = file.connect()?;
            return Ok((file, db));
        };
        let path = locate(path)?;
        file.path = Some(path.clone());
        let db = file.connect()?;
        file.prepare(&db)?;
        // Where SQLite has its log, and other processes that use other links to the file have theirs.
        let real = path.canonicalize().unwrap_or_else(|_| path.clone());
        let opened = [path, beside(&real, "-wal"), beside(&real, "-shm")];
        let identity = |path: PathBuf| Identity::of(&path).map(|identity| (path, identity));
        file.opened = opened.into_iter().filter_map(identity).collect();
        file.join_others(beside(&real, "-live"));
        Ok((file, db))
    }

    /// Opens a file whose settings belong to the application, and creates it if it does not exist. The connection waits
    /// for other writers by itself, and each of its commits waits for the disk.
    pub(crate) fn of_application(
        path: &Path,
        busy_timeout: Duration,
    ) -> Result<(Self, Connection), ConnectError> {
        let path = locate(path)?;
        let mut file = Self {
            path: Some(path.clone()),
            busy_timeout,
            opened: Vec::new(),
            live: None,
            turn: None,
        };
        let db = file.connect()?;
        db.execute_batch("pragma wal_autocheckpoint = 1000; pragma synchronous = full")
            .map_err(|error| file.connect_error(error))?;
        file.opened = Identity::of(&path)
            .map(|identity| (path, identity))
            .into_iter()
            .collect();
        Ok((file, db))
    }

    /// Opens the folder of the processes that use the file. Without it there are no turns, and they find by polling what
    /// others have done.
    fn join_others(&mut self, live: PathBuf) {
        match fs::create_dir_all(&live).and_then(|()| Turn::open(&live)) {
            Ok(turn) => (self.turn, self.live) = (Some(turn), Some(live)),
            Err(error) => {
                let folder = live.display();
                tracing::warn!(%folder, %error, "cannot use the folder beside the database; other processes start tasks later");
            }
        }
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
            // Opens the log.
            db.pragma_query_value(None, "schema_version", |row| row.get::<_, i64>(0))?;
            if db.is_readonly(MAIN_DB)? {
                let error = ffi::Error::new(ffi::SQLITE_READONLY);
                return Err(rusqlite::Error::SqliteFailure(error, None));
            }
            Ok(mode)
        };
        // SQLite itself does not wait for another process that sets the mode at the same moment.
        match self.patiently(Instant::now(), prepare) {
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

    /// The folder with the files of live processes. None in memory, and where there cannot be one.
    pub(crate) fn live_folder(&self) -> Option<PathBuf> {
        self.live.clone()
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

    /// Starts a transaction that writes. Waits until other processes have ended theirs, for as long as the options allow.
    /// `db` must not wait by itself: SQLite would sleep for much longer than the transactions of others take.
    pub(super) fn begin(&self, db: &Connection) -> Result<(), Fault> {
        let started = Instant::now();
        let patience = PATIENCE.min(self.busy_timeout);
        let _turn = self.turn.as_ref().and_then(|turn| turn.take(patience));
        let begin = || db.prepare_cached("begin immediate")?.execute([]);
        Ok(self.patiently(started, begin).map(drop)?)
    }

    /// Calls until the database is not locked.
    fn patiently<T>(
        &self,
        started: Instant,
        call: impl Fn() -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        loop {
            match call() {
                Err(error) if is_busy(&error) && started.elapsed() < self.busy_timeout => {
                    thread::sleep(POLL);
                }
                result => return result,
            }
        }
    }

    /// Checks that the paths still lead to the open files. What is written to a file that was deleted is lost.
    pub(crate) fn check(&self) -> Result<(), BrokerError> {
        let is_other =
            |(path, opened): &&(PathBuf, Identity)| Identity::of(path).as_ref() != Some(opened);
        let Some((path, _)) = self.opened.iter().find(is_other) else {
            return Ok(());
        };
        let (name, gone) = (self.name(), path.display());
        let problem = match Identity::of(path) {
            _ if Some(path) != self.path.as_ref() => format!(
                "`{gone}` was deleted or replaced while it was in use: end all programs that use {name}, and start them again"
            ),
            // A log that is left would be moved into the other file, which it does not belong to.
            Some(_) => format!(
                "{name} was replaced by another file: end all programs that use it, delete its `-wal` and `-shm` files, and start them again"
            ),
            None => format!(
                "{name} was deleted or moved: move it back, or restart the program to start with an empty file"
            ),
        };
        Err(BrokerError::unavailable(problem))
    }

    /// Checks that a connection of a caller is to this file.
    pub(crate) fn check_same(&self, other: &str) -> Result<(), BrokerError> {
        let Some(path) = &self.path else {
            let problem = "a transaction of the application: a database in memory has one connection; use a file";
            return Err(BrokerError::unsupported(problem));
        };
        self.check()?;
        let own = Identity::of(path);
        let is_same = own.is_some() && !other.is_empty() && Identity::of(Path::new(other)) == own;
        if is_same {
            return Ok(());
        }
        Err(BrokerError::unsupported(format!(
            "a transaction on `{}`: the tasks are in `{}`; open the connection on that file",
            if other.is_empty() { ":memory:" } else { other },
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
}

/// The absolute path of a database, also after the program has changed its working directory. Checks that it can be the
/// path of one.
fn locate(path: &Path) -> Result<PathBuf, ConnectError> {
    let path = std::path::absolute(path).map_err(|error| ConnectError::folder(path, error))?;
    let length = path.as_os_str().len();
    if length > MAX_PATH {
        return Err(ConnectError::TooLong { path, length });
    }
    if path.is_dir() {
        return Err(ConnectError::IsFolder { path });
    }
    if let Some(folder) = path.parent().filter(|folder| !folder.is_dir()) {
        let error = io::Error::from(io::ErrorKind::NotFound);
        return Err(ConnectError::folder(folder, error));
    }
    Ok(path)
}

/// A path beside the database that starts with its name.
fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(end);
    path.with_file_name(name)
}

/// Which file a path leads to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Identity(#[cfg(unix)] (u64, u64));

impl Identity {
    pub(crate) fn of(path: &Path) -> Option<Self> {
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
