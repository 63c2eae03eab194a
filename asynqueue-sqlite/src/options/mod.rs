//! Options of a SQLite database.

mod error;
mod url;

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use asynqueue_core::task::{Clock, SystemClock};

pub use self::error::OptionsError;

/// The file of a SQLite database, and how to use it.
///
/// | URL | database |
/// |---|---|
/// | `sqlite://tasks.db`, `sqlite://data/tasks.db` | a file in the working directory, or below it |
/// | `sqlite:///var/lib/shop/tasks.db` | a file with an absolute path |
/// | `sqlite::memory:` | in the memory of this process; it ends with the broker |
///
/// The file is created if it does not exist. It may be the application's own database: all tables start with
/// `asynqueue_`. Percent-encode special characters in the path. Each option below can also be set in the URL, as in
/// `?durability=normal`:
///
/// | parameter | default | meaning |
/// |---|---|---|
/// | `durability` | `full` | [what survives a loss of power](Self::durability): `full` or `normal` |
/// | `busy_timeout` | 5 s | [limit for waiting for other programs](Self::busy_timeout) |
///
/// ```
/// use asynqueue_sqlite::{SqliteDurability, SqliteOptions};
///
/// # fn main() -> Result<(), asynqueue_sqlite::OptionsError> {
/// let options = SqliteOptions::new("sqlite://tasks.db")?.durability(SqliteDurability::Normal);
/// let same: SqliteOptions = "sqlite://tasks.db?durability=normal".parse()?;
///
/// let error = SqliteOptions::new("sqlite://tasks.db?durabilty=normal").expect_err("a mistake");
/// assert_eq!(
///     error.to_string(),
///     "unknown parameter `durabilty`: expected `durability` or `busy_timeout`"
/// );
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct SqliteOptions {
    pub(crate) place: Place,
    pub(crate) durability: SqliteDurability,
    pub(crate) busy_timeout: Duration,
    pub(crate) clock: Arc<dyn Clock>,
}

/// Where the database is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Memory,
    File(PathBuf),
}

/// What survives a loss of power. A change survives the crash of a program in either case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum SqliteDurability {
    /// All changes whose call has returned: each transaction waits for the disk. Changes that are made at the same time
    /// share a transaction. Leases do not wait, because they end with the machine. The default.
    #[default]
    Full,
    /// The changes up to one moment before, usually the last seconds. The database stays consistent.
    Normal,
}

impl fmt::Display for SqliteDurability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "full",
            Self::Normal => "normal",
        })
    }
}

impl SqliteOptions {
    /// Parses a URL.
    ///
    /// # Errors
    ///
    /// When the URL is invalid.
    pub fn new(url: &str) -> Result<Self, OptionsError> {
        url::read(url)
    }

    /// A database file.
    pub fn file(path: impl AsRef<Path>) -> Self {
        Self::at(Place::File(path.as_ref().to_owned()))
    }

    /// A database in the memory of this process.
    pub fn memory() -> Self {
        Self::at(Place::Memory)
    }

    fn at(place: Place) -> Self {
        Self {
            place,
            durability: SqliteDurability::default(),
            busy_timeout: Duration::from_secs(5),
            clock: Arc::new(SystemClock),
        }
    }

    /// Sets what survives a loss of power. Default [`SqliteDurability::Full`].
    pub fn durability(mut self, durability: SqliteDurability) -> Self {
        self.durability = durability;
        self
    }

    /// Limits how long a call waits while another program has a transaction open on the file. Default 5 s.
    pub fn busy_timeout(mut self, timeout: Duration) -> Self {
        self.busy_timeout = timeout;
        self
    }

    /// Takes the time from `clock` instead of the system, for tests.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }
}

impl FromStr for SqliteOptions {
    type Err = OptionsError;

    fn from_str(url: &str) -> Result<Self, OptionsError> {
        Self::new(url)
    }
}

impl fmt::Debug for SqliteOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteOptions")
            .field("place", &self.place)
            .field("durability", &self.durability)
            .field("busy_timeout", &self.busy_timeout)
            .finish_non_exhaustive()
    }
}
