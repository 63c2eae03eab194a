//! Turns of the processes that write to one file.
//!
//! SQLite does not queue them: a process that writes all the time would rarely leave another one a moment. Here, a
//! process locks a file before it waits for SQLite's lock, and unlocks it once it has that one. So at most one process
//! polls SQLite, and it is the next one.

use std::{fs::File, io, path::Path};

/// The file that stands for the next turn.
#[derive(Debug)]
pub(super) struct Turn(File);

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

    /// Calls with the next turn. Without it, if the system cannot lock the file.
    pub(super) fn with<T>(&self, call: impl FnOnce() -> T) -> T {
        let is_locked = self.0.lock().is_ok();
        let result = call();
        if is_locked {
            // Closing the file unlocks it too.
            let _ = self.0.unlock();
        }
        result
    }
}
