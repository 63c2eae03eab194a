//! Files and other processes for tests of one file, and what conformance has for one queue.

#![allow(dead_code, unused_imports, reason = "each test binary uses a part")]

pub(crate) mod limited;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

pub(crate) use asynqueue_conformance::{calls::*, child};
use asynqueue_sqlite::{ConnectError, SqliteBroker, SqliteOptions};
use tempfile::TempDir;

/// A folder for one test, and the path of a database in it.
pub(crate) struct Scratch(TempDir);

impl Scratch {
    pub(crate) fn new() -> Self {
        Self(TempDir::new().expect("a folder"))
    }

    pub(crate) fn folder(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.folder().join("tasks.db")
    }
}

/// A connection that waits 300 ms for others.
pub(crate) async fn try_open(path: impl AsRef<Path>) -> Result<SqliteBroker, ConnectError> {
    let options = SqliteOptions::file(path).busy_timeout(Duration::from_millis(300));
    SqliteBroker::connect(options).await
}

pub(crate) async fn open(path: impl AsRef<Path>) -> SqliteBroker {
    try_open(path).await.expect("the file can be opened")
}

/// A connection of another program.
pub(crate) fn program(path: impl AsRef<Path>) -> rusqlite::Connection {
    let db = rusqlite::Connection::open(path).expect("the file can be opened");
    db.busy_timeout(LIMIT).expect("a timeout");
    db
}
