//! Moves the write-ahead log into the file, beside the thread that writes.
//!
//! SQLite can start the log anew only when all of it has been moved. Under constant load the thread here never gets that
//! far, since more is written while it moves. Once the log is long, the writer moves the short rest itself.
//!
//! No connection that moves the log waits for others: it would keep all processes from writing in the meantime.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::SeqCst},
        mpsc,
    },
    thread,
    time::Duration,
};

use rusqlite::Connection;

use super::{Alive, ConnectError, File, log_hook};

/// How many pages are written until the log is moved: 4 MiB. Moving waits for the disk, as a commit does.
const SOME: i64 = 1_000;

/// The pages of a long log: 32 MiB.
const LONG: i64 = 8_192;

/// How long nothing is written until the log is cut off.
const IDLE: Duration = Duration::from_secs(1);

pub(super) struct Checkpoints {
    shared: Arc<Shared>,
    /// Whether the log is to be moved.
    wake: mpsc::SyncSender<bool>,
}

#[derive(Default)]
struct Shared {
    commits: AtomicU64,
    /// The pages of the log when it is to be moved next.
    next: AtomicI64,
    /// Whether the writer is to move the rest.
    takes_rest: AtomicBool,
}

impl Checkpoints {
    pub(super) fn start(file: &Arc<File>, alive: Alive) -> Result<Self, ConnectError> {
        let db = file.connect()?;
        db.busy_timeout(Duration::ZERO)
            .map_err(|error| file.connect_error(error))?;
        let shared = Arc::new(Shared::default());
        let (wake, woken) = mpsc::sync_channel(1);
        let run = {
            let shared = Arc::clone(&shared);
            move || {
                serve(&db, &shared, &woken);
                drop(db);
                drop(alive);
            }
        };
        let thread = thread::Builder::new()
            .name("asynqueue-move".into())
            .spawn(run);
        thread.map_err(ConnectError::Thread)?;
        Ok(Self { shared, wake })
    }

    /// Notes a commit of this thread.
    pub(super) fn note_commit(&self) {
        let commits = self.shared.commits.fetch_add(1, SeqCst);
        let (pages, next) = (log_hook::pages(), self.shared.next.load(SeqCst));
        // Less than before: the log has started anew.
        if pages < next - SOME {
            self.shared.next.store(pages + SOME, SeqCst);
        }
        // The first one after a pause starts the wait for the next pause.
        if commits == 0 || pages >= next.max(SOME) {
            self.shared.next.store(pages + SOME, SeqCst);
            // Full: it is woken already.
            let _ = self.wake.try_send(pages >= SOME);
        }
    }

    /// Has the writer move the rest of the log before its next transaction.
    pub(super) fn request_rest(&self) {
        self.shared.takes_rest.store(true, SeqCst);
    }

    /// Moves the rest of the log on the writer's connection if that was requested, and starts it anew. No process can
    /// write in the meantime: otherwise, processes that write in turns would never get that far.
    pub(super) fn move_rest(&self, db: &Connection) {
        if self.shared.takes_rest.swap(false, SeqCst)
            && move_log(db, "pragma wal_checkpoint(restart)").is_err()
        {
            self.request_rest();
        }
    }
}

fn serve(db: &Connection, shared: &Shared, woken: &mpsc::Receiver<bool>) {
    let mut is_moved = true;
    loop {
        let commits = shared.commits.load(SeqCst);
        match woken.recv_timeout(if is_moved { Duration::MAX } else { IDLE }) {
            Err(mpsc::RecvTimeoutError::Disconnected) => return,
            Err(mpsc::RecvTimeoutError::Timeout) if shared.commits.load(SeqCst) == commits => {
                // Nobody writes: the log is cut off, and the next commit wakes this thread. Most of it is moved before,
                // because no process can write while it is cut off.
                shared.commits.store(0, SeqCst);
                let _ = move_log(db, "pragma wal_checkpoint(passive)");
                is_moved = matches!(move_log(db, "pragma wal_checkpoint(truncate)"), Ok(Some(_)));
            }
            Ok(true) => {
                is_moved = false;
                let pages = move_log(db, "pragma wal_checkpoint(passive)");
                if pages.is_ok_and(|pages| pages.is_some_and(|pages| pages > LONG)) {
                    shared.takes_rest.store(true, SeqCst);
                }
            }
            Ok(false) | Err(mpsc::RecvTimeoutError::Timeout) => is_moved = false,
        }
    }
}

/// Moves the log, and returns how many pages it has. `None` if another process uses it. An error is logged.
fn move_log(db: &Connection, sql: &'static str) -> rusqlite::Result<Option<i64>> {
    let pages = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?));
    let moved = db
        .prepare_cached(sql)
        .and_then(|mut moved| moved.query_row([], pages))
        .inspect_err(|error| {
            tracing::debug!(%error, "cannot move the log into the file; trying again after the next commits");
        });
    moved.map(|(is_busy, pages)| (is_busy == 0).then_some(pages))
}
