//! Errors of opening a database.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::OptionsError;

/// The limit of SQLite is 512, with the ends of the names of the log and its index.
pub(super) const MAX_PATH: usize = 500;

/// A database cannot be opened.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The options are invalid.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// The folder of the file cannot be used.
    #[error("cannot use the folder `{path}` of the database: {source}: create it, or name another path", path = path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The path is a folder.
    #[error("`{path}` is a folder: name a file in it, such as `{path}/tasks.db`", path = path.display())]
    IsFolder {
        /// The path.
        path: PathBuf,
    },
    /// The path is longer than SQLite supports.
    #[error("the path `{path}` has {length} bytes: SQLite supports up to {MAX_PATH}, so use a shorter one", path = path.display())]
    TooLong {
        /// The absolute path.
        path: PathBuf,
        /// Its length in bytes.
        length: usize,
    },
    /// The file cannot be opened or written.
    #[error("{problem}")]
    File {
        /// What is wrong with the file, and what to do.
        problem: String,
        /// The reason.
        source: rusqlite::Error,
    },
    /// The file has no write-ahead log.
    #[error("`{path}` cannot have a write-ahead log, its journal mode is `{mode}`: use a file on a local disk", path = path.display())]
    NoLog {
        /// The file.
        path: PathBuf,
        /// The journal mode.
        mode: String,
    },
    /// A later version of this library has changed the tables.
    #[error(
        "{file} has tables of version {found}, and this program supports versions up to {supported}: use a later version of asynqueue"
    )]
    Newer {
        /// The file.
        file: String,
        /// The version of the tables.
        found: i64,
        /// The latest version that this build supports.
        supported: i64,
    },
    /// The system did not start a thread.
    #[error("cannot start a thread for the database: {0}")]
    Thread(#[source] io::Error),
}

asynqueue_core::debug_as_text!(ConnectError);

impl ConnectError {
    pub(crate) fn folder(path: &Path, source: io::Error) -> Self {
        Self::Folder {
            path: path.to_owned(),
            source,
        }
    }
}
