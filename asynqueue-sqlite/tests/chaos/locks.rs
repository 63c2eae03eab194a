//! Which process may write to the file just now, as Linux knows it. Other systems know nothing.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use asynqueue_conformance::chaos::{Place, Scene};
use tokio::sync::MutexGuard;

/// The place of SQLite's write lock in the file `-shm`.
const WRITE_LOCK: &str = "120";

/// How often a process is stopped until it is stopped at the right moment.
const TRIES: usize = 500;

/// The files whose locks decide who writes.
pub(crate) struct Locks {
    /// SQLite locks a byte of this one during a transaction.
    shared: PathBuf,
    /// The broker locks this one until it has that lock.
    turn: PathBuf,
}

impl Locks {
    pub(crate) fn of(database: &Path) -> Self {
        let beside = |ending: &str| {
            let mut path = database.as_os_str().to_owned();
            path.push(ending);
            PathBuf::from(path)
        };
        Self {
            shared: beside("-shm"),
            turn: beside("-live").join("turn"),
        }
    }

    /// The processes that hold one of the locks.
    fn holders(&self) -> Vec<u32> {
        let inode = |path| fs::metadata(path).map_or(0, |file| file.ino()).to_string();
        let (shared, turn) = (inode(&self.shared), inode(&self.turn));
        let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
        locks
            .lines()
            .filter_map(|line| holder(line, &shared, &turn))
            .collect()
    }

    /// Stops a process while it writes, or while it is the next to write. `None` if no process could be caught.
    pub(crate) async fn stop_a_writer<'s>(
        &self,
        scene: &'s Scene,
    ) -> Option<MutexGuard<'s, Place>> {
        for _ in 0..TRIES {
            for holder in self.holders() {
                let places = scene
                    .places()
                    .iter()
                    .filter_map(|place| place.try_lock().ok());
                let mut here = places.filter(|place| place.id() == Some(holder));
                // Only its place stays locked.
                let Some(place) = here.next() else { continue };
                drop(here);
                place.signal("STOP");
                stopped(holder).await;
                if self.holders().contains(&holder) {
                    return Some(place);
                }
                place.signal("CONT");
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        None
    }
}

/// The process of a line of `/proc/locks`, if it is about one of these inodes:
/// `1: POSIX ADVISORY WRITE PID MAJOR:MINOR:INODE START END`.
fn holder(line: &str, shared: &str, turn: &str) -> Option<u32> {
    let mut words = line.split_whitespace().skip(3);
    let (kind, pid) = (words.next()?, words.next()?);
    let (inode, start) = (words.next()?.rsplit(':').next()?, words.next()?);
    let is_it = inode == turn || (inode == shared && start == WRITE_LOCK);
    (kind == "WRITE" && is_it).then(|| pid.parse().ok())?
}

/// Waits until a process is stopped, or dead.
async fn stopped(process: u32) {
    let state = || fs::read_to_string(format!("/proc/{process}/stat")).ok();
    while state().is_some_and(|state| !state.contains(") T")) {
        tokio::time::sleep(Duration::from_micros(200)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_system_names_the_writer() {
        let of = |line| holder(line, "77", "99");
        assert_eq!(
            of("1: POSIX  ADVISORY  WRITE 24807 fe:00:77 120 120"),
            Some(24807)
        );
        assert_eq!(of("2: FLOCK  ADVISORY  WRITE 8 00:2f:99 0 EOF"), Some(8));
        assert_eq!(of("3: POSIX  ADVISORY  READ 24807 fe:00:77 124 124"), None);
        assert_eq!(of("4: POSIX  ADVISORY  WRITE 24807 fe:00:77 121 121"), None);
        assert_eq!(of("5: POSIX  ADVISORY  WRITE 24807 fe:00:78 120 120"), None);
        // It waits for the turn.
        assert_eq!(of("2: -> FLOCK  ADVISORY  WRITE 9 00:2f:99 0 EOF"), None);
    }
}
