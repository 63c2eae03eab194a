//! Turns of the processes that write to one file.
//!
//! SQLite does not queue them: a process that writes all the time would rarely leave another one a moment. Here, a
//! process locks a file before it waits for SQLite's lock, and unlocks it once it has that one. So at most one process
//! polls SQLite, and it is the next one. A turn is a courtesy: SQLite's lock alone keeps transactions apart.

use std::{
    fs::{File, TryLockError},
    io,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use super::file::POLL;

/// The file that stands for the next turn.
#[derive(Debug)]
pub(super) struct Turn(File);

/// The next turn. Dropping it passes it on.
pub(super) struct Taken<'t>(&'t File);

impl Turn {
    pub(super) fn open(folder: &Path) -> io::Result<Self> {
        let mut options = File::options();
        let file = options
            .create(true)
            .truncate(false)
            .write(true)
            .open(folder.join("turn"))?;
        Ok(Self(file))
    }

    /// Waits for the next turn. `None` once the time is over, or if the system cannot lock the file.
    pub(super) fn take(&self, limit: Duration) -> Option<Taken<'_>> {
        let started = Instant::now();
        loop {
            match self.0.try_lock() {
                Ok(()) => return Some(Taken(&self.0)),
                Err(TryLockError::WouldBlock) if started.elapsed() < limit => thread::sleep(POLL),
                Err(_) => return None,
            }
        }
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        // Closing the file unlocks it too.
        let _ = self.0.unlock();
    }
}
